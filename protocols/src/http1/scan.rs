//! Finds where a head, or a trailer section, ends, and refuses early what shows before that: bare LF, a first line that
//! is none, folded fields, anything above its limit. Every fault belongs to one byte and is seen there, so that it does
//! not matter how the bytes were cut. It remembers how far it looked; no byte is searched twice.

use std::ops::Range;

use crate::http::HttpFault;
use crate::http::HttpLimits;
use crate::http::token;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Request,
    Response,
    Trailers,
}

/// The place of one section in the bytes, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where the section starts: an empty line may stand before it, or a last chunk.
    start: u32,
    line_start: u32,
    /// Up to here there is no further line end.
    searched: u32,
    /// Whole lines.
    lines: u32,
    /// Bytes looked at, to show that none is looked at twice.
    looked_at: u32,
}

impl Scan {
    /// A section that starts `start` bytes into what will be offered.
    pub(super) fn at(start: usize) -> Scan {
        let start = start.min(SECTION_BYTES_CEILING) as u32;
        Scan { start, line_start: start, searched: start, ..Scan::default() }
    }

    /// True once bytes were looked at.
    pub(super) fn has_begun(&self) -> bool {
        self.searched > 0
    }

    /// Where the section lies, once all of it is there, the empty line at its end included.
    pub(super) fn find(
        &mut self,
        bytes: &[u8],
        limits: &HttpLimits,
        section: Section,
    ) -> Result<Option<Range<usize>>, HttpFault> {
        if bytes.len() < self.searched as usize {
            *self =
                if section == Section::Trailers { Scan::at(self.start as usize) } else { Scan::default() };
        }
        if self.lines == 0 && section != Section::Trailers && !self.may_begin(bytes, section)? {
            return Ok(None);
        }
        let fields_max = limits.fields() as u32;
        while let Some(line_end) = self.next_line_end(bytes, limits, section)? {
            if self.end_line(&bytes[self.line_start as usize..line_end], fields_max, section)? {
                return Ok(Some(self.start as usize..line_end));
            }
            self.lines += 1;
            self.line_start = line_end as u32;
        }
        debug_assert!(self.looked_at <= self.searched, "no byte is searched twice");
        Ok(None)
    }

    /// Judges the first bytes: RFC 9112 section 2.2 has servers skip an empty line before a request, and other protocols
    /// show here. False when they say nothing yet.
    fn may_begin(&mut self, bytes: &[u8], section: Section) -> Result<bool, HttpFault> {
        let first = match (bytes, section, self.start) {
            ([b'\r'], Section::Request, 0) => return Ok(false),
            ([b'\r', b'\n', ..], Section::Request, 0) => {
                *self = Scan { looked_at: EMPTY_LINE_BYTES as u32, ..Scan::at(EMPTY_LINE_BYTES) };
                bytes.get(EMPTY_LINE_BYTES)
            }
            _ => bytes.get(self.start as usize),
        };
        match (first, section) {
            (None, _) => Ok(false),
            (Some(b'\n'), _) => Err(HttpFault::BareLf),
            (Some(b'\r'), Section::Request) if self.start == 0 => Err(HttpFault::BareCr),
            (Some(b'\r'), _) => Err(HttpFault::EmptyLines),
            (Some(b'H'), Section::Response) => Ok(true),
            (Some(_), Section::Response) => Err(HttpFault::BadVersion),
            (Some(byte), _) if token::is_token_byte(*byte) => Ok(true),
            (Some(_), _) => Err(HttpFault::BadMethod),
        }
    }

    /// Where the next line ends, behind its LF; nothing yet, or a fault once a limit is reached without one.
    fn next_line_end(
        &mut self,
        bytes: &[u8],
        limits: &HttpLimits,
        section: Section,
    ) -> Result<Option<usize>, HttpFault> {
        let (end, fault) = self.line_end_max(limits, section);
        let searched = self.searched as usize;
        let window = bytes.get(searched..end.min(bytes.len())).unwrap_or_default();
        let found = memchr::memchr(b'\n', window).map(|at| at + 1);
        let looked_at = found.unwrap_or(window.len());
        self.looked_at += looked_at as u32;
        self.searched += looked_at as u32;
        match found {
            Some(_) => Ok(Some(self.searched as usize)),
            None if bytes.len() >= end => Err(fault),
            None => Ok(None),
        }
    }

    /// Where the next line must have ended, and what it is if it has not.
    fn line_end_max(&self, limits: &HttpLimits, section: Section) -> (usize, HttpFault) {
        let head_end = self.start as usize + (limits.head_bytes_max as usize).min(SECTION_BYTES_CEILING);
        if self.lines > 0 || section == Section::Trailers {
            return (head_end, HttpFault::HeadTooLarge);
        }
        let line_end = self.line_start as usize + limits.line_bytes_max as usize + EMPTY_LINE_BYTES;
        match line_end <= head_end {
            true => (line_end, HttpFault::LineTooLong),
            false => (head_end, HttpFault::HeadTooLarge),
        }
    }

    /// Judges a whole line, its end included; true when it is the empty one that ends the section.
    fn end_line(&self, line: &[u8], fields_max: u32, section: Section) -> Result<bool, HttpFault> {
        let [text @ .., b'\r', b'\n'] = line else { return Err(HttpFault::BareLf) };
        let is_first = self.lines == 0 && section != Section::Trailers;
        match (text.first(), section) {
            (_, Section::Request) if is_first => check_request_line(text).map(|()| false),
            (_, Section::Response) if is_first => check_status_line(text).map(|()| false),
            (None, _) => Ok(true),
            // RFC 9112 sections 2.2 and 5.2.
            (Some(b' ' | b'\t'), _) => Err(HttpFault::FoldedField),
            (Some(_), Section::Trailers) if self.lines >= fields_max => Err(HttpFault::TooManyFields),
            (Some(_), _) if self.lines > fields_max => Err(HttpFault::TooManyFields),
            _ => Ok(false),
        }
    }
}

/// RFC 9112 section 3: three words with one space between each.
fn check_request_line(line: &[u8]) -> Result<(), HttpFault> {
    let (method, rest) = split_word(line);
    let (target, version) = split_word(rest.unwrap_or_default());
    if !token::is_token(method) {
        return Err(HttpFault::BadMethod);
    }
    let version = version.unwrap_or_default();
    if target.is_empty() || version.contains(&b' ') {
        return Err(HttpFault::BadTarget);
    }
    check_version(version)
}

/// What stands before the first space, and what behind it. Words are short.
fn split_word(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    match line.iter().position(|byte| *byte == b' ') {
        Some(at) => (&line[..at], Some(&line[at + 1..])),
        None => (line, None),
    }
}

/// RFC 9112 section 4: a version, three digits, and what anybody likes. The space before an empty reason is often left out.
fn check_status_line(line: &[u8]) -> Result<(), HttpFault> {
    let (version, rest) = split_word(line);
    check_version(version)?;
    match rest {
        Some([b'1'..=b'5', tens, ones] | [b'1'..=b'5', tens, ones, b' ', ..])
            if tens.is_ascii_digit() && ones.is_ascii_digit() =>
        {
            Ok(())
        }
        _ => Err(HttpFault::BadStatus),
    }
}

/// RFC 9112 section 2.3: `HTTP/` and two digits, of which we know 1.0 and 1.1. Nobody ever wrote 0.9.
fn check_version(version: &[u8]) -> Result<(), HttpFault> {
    match version {
        b"HTTP/1.0" | b"HTTP/1.1" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', b'1'..=b'9', b'.', b'0'..=b'9'] => Err(HttpFault::UnknownVersion),
        _ => Err(HttpFault::BadVersion),
    }
}

/// An empty line, and what ends every other.
const EMPTY_LINE_BYTES: usize = 2;

/// No section is larger than this, whatever the limit: places in it are kept in 32 bits.
const SECTION_BYTES_CEILING: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_dribbles_in_is_looked_at_once() {
        let mut head = b"\r\nGET / HTTP/1.1\r\n".to_vec();
        for number in 0..90 {
            head.extend_from_slice(format!("field-{number}: {}\r\n", "v".repeat(300)).as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        let mut scan = Scan::default();
        for len in 0..head.len() {
            let found = scan.find(&head[..len], &HttpLimits::default(), Section::Request);
            assert_eq!(found, Ok(None), "after {len} bytes");
            assert!(scan.looked_at as usize <= len, "{} looked at after {len}", scan.looked_at);
        }
        let found = scan.find(&head, &HttpLimits::default(), Section::Request);
        assert_eq!(found, Ok(Some(2..head.len())));
        assert_eq!(scan.looked_at as usize, head.len());
    }

    #[test]
    fn fewer_bytes_than_before_begin_anew() {
        let mut scan = Scan::default();
        let limits = HttpLimits::default();
        assert_eq!(scan.find(b"GET / HTTP/1.1\r\na: b\r\n", &limits, Section::Request), Ok(None));
        assert_eq!(scan.find(b"GET / HTTP/1.1\r\n\r\n", &limits, Section::Request), Ok(Some(0..18)));
    }
}
