//! Owns the header map of a Bolt frame: pairs of length-prefixed strings, -1 standing for null.
//! Reads lazily and never past the header; refuses to build a map. Called by routing and filters
//! through [`crate::Head::field`], and by clients and tests to encode.

use crate::fault::HeadFault;
use crate::span::Span;

/// The value of `key`, as a span of `header`. The whole map is walked, so that a malformed tail or
/// a second `key` is found: Java keeps the last of two, MOSN the first, and we must not route by
/// one while the server obeys the other. A null value counts as absent.
pub fn find(header: &[u8], key: &[u8], fields_max: u32) -> Result<Option<Span>, HeadFault> {
    let [found] = find_each(header, [key], fields_max)?;
    Ok(found)
}

/// Like [`find`] for several keys in one walk.
pub fn find_each<const N: usize>(
    header: &[u8],
    keys: [&[u8]; N],
    fields_max: u32,
) -> Result<[Option<Span>; N], HeadFault> {
    let mut found: [Option<Field>; N] = [None; N];
    for field in Fields::new(header, fields_max) {
        let field = field?;
        let Some(name) = field.key else { continue };
        let name = name.of(header);
        for (slot, key) in found.iter_mut().zip(keys) {
            if name == key && slot.replace(field).is_some() {
                return Err(HeadFault::DuplicateField);
            }
        }
    }
    Ok(found.map(|field| field.and_then(|field| field.value)))
}

/// One pair; `None` stands for null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where the key is in the header.
    pub key: Option<Span>,
    /// Where the value is in the header.
    pub value: Option<Span>,
}

/// Walks the pairs of a header; ends after the first fault.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    header: &'a [u8],
    at: usize,
    fields_left: u32,
}

impl<'a> Fields<'a> {
    /// The pairs of `header`, at most `fields_max` of them.
    pub fn new(header: &'a [u8], fields_max: u32) -> Self {
        Self { header, at: 0, fields_left: fields_max }
    }

    fn field(&mut self) -> Result<Field, HeadFault> {
        self.fields_left = self.fields_left.checked_sub(1).ok_or(HeadFault::TooManyFields)?;
        Ok(Field { key: self.string()?, value: self.string()? })
    }

    fn string(&mut self) -> Result<Option<Span>, HeadFault> {
        let rest = &self.header[self.at..];
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(HeadFault::Truncated)?;
        let length = i32::from_be_bytes(*length);
        if length == NULL_LENGTH {
            self.at += 4;
            return Ok(None);
        }
        let length = u32::try_from(length).map_err(|_| HeadFault::NegativeLength)?;
        if length as usize > rest.len() {
            return Err(HeadFault::Truncated);
        }
        let start = self.at + 4;
        self.at = start + length as usize;
        Ok(Some(Span::new(start as u32, length)))
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, HeadFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.header.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.header.len();
        }
        Some(field)
    }
}

/// Appends one pair to a header; `None` is written as null.
pub fn encode_field(key: Option<&[u8]>, value: Option<&[u8]>, header: &mut Vec<u8>) {
    for string in [key, value] {
        let length = string.map_or(NULL_LENGTH, |s| s.len() as i32);
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(string.unwrap_or_default());
    }
}

/// A header made of `fields`.
pub fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut header = Vec::new();
    for (key, value) in fields {
        encode_field(Some(key.as_bytes()), Some(value.as_bytes()), &mut header);
    }
    header
}

const NULL_LENGTH: i32 = -1;
