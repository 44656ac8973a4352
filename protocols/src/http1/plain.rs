//! The way that most heads go: whole at once and written as everybody writes them. Each byte is looked at once, and the
//! head's text is copied as it lies, so that a connection that was idle for long touches little code and memory. Refuses
//! nothing: whatever is unusual, incomplete or wrong is left to `parse`, which judges it by the rules, so there is one place
//! for faults. What is taken here is taken to be the same there; tests cut every head to see both. Called by
//! `HeadDecoder` for bytes that nobody looked at yet.

use super::facts::Facts;
use super::judge;
use crate::http::HttpHead;
use crate::http::HttpLimits;
use crate::http::HttpVersion;
use crate::http::Method;
use crate::http::Underscores;
use crate::http::names;
use crate::http::path;
use crate::http::token;
use crate::span::Span;

/// Decodes a plain request into `head`, which is empty, and says how many bytes it took. Otherwise `head` holds anything.
pub(super) fn request(bytes: &[u8], limits: &HttpLimits, head: &mut HttpHead) -> Option<usize> {
    let bytes = within(bytes, limits);
    let method_len = token::len(bytes);
    let method = Method::of(&bytes[..method_len]);
    let target_start = method_len + 1;
    // These two have targets of their own forms.
    let is_usual = !matches!(method, Method::Connect | Method::Options) && method_len > 0;
    if !is_usual || !bytes[method_len..].starts_with(b" /") {
        return None;
    }
    let (target_len, is_normal) = path::measure(&bytes[target_start..]);
    let target_end = target_start + target_len;
    let version = version(bytes.get(target_end + 1..target_end + 1 + VERSION_BYTES)?)?;
    let fields_start = target_end + 1 + VERSION_BYTES + LINE_END.len();
    if bytes[target_end] != b' '
        || bytes.get(fields_start - LINE_END.len()..fields_start)? != LINE_END
        || fields_start - LINE_END.len() > limits.line_bytes_max as usize
    {
        return None;
    }
    let mut facts = Facts::default();
    let keeps_underscores = limits.underscores == Underscores::Keep;
    let end = fields(bytes, fields_start, limits, keeps_underscores, &mut facts, head)?;
    head.take_text(&bytes[..end]);
    head.place_method(method, span(0, method_len));
    place_host(bytes, version, &facts, head)?;
    match is_normal {
        true => head.place_path(span(target_start, target_len)),
        false => head.write_path(&bytes[target_start..target_end], limits.escaped_slash).ok()?,
    }
    judge::request(&facts, version, limits, head).ok()?;
    Some(end)
}

/// Decodes a plain response to a request of `method` into `head`, as [`request`] does.
pub(super) fn response(
    bytes: &[u8],
    method: Method,
    limits: &HttpLimits,
    head: &mut HttpHead,
) -> Option<usize> {
    let bytes = within(bytes, limits);
    let version = version(bytes.get(..VERSION_BYTES)?)?;
    let [b' ', digits @ .., b' '] = bytes.get(VERSION_BYTES..REASON_START)? else { return None };
    let status = status(digits)?;
    let reason_end = value_end(bytes, REASON_START)?;
    let reason = &bytes[REASON_START..reason_end];
    if reason_end > limits.line_bytes_max as usize || !is_trimmed(reason) || !reason.is_ascii() {
        return None;
    }
    let mut facts = Facts::default();
    let end = fields(bytes, reason_end + LINE_END.len(), limits, true, &mut facts, head)?;
    head.take_text(&bytes[..end]);
    head.place_status(status, span(REASON_START, reason_end - REASON_START));
    judge::response(&facts, method, version, limits, head).ok()?;
    Some(end)
}

/// Reads lines from `at` on to the empty one and says where that ends. Places of fields that are kept are told to `head`, what
/// the others say to `facts`.
fn fields<'a>(
    bytes: &'a [u8],
    mut at: usize,
    limits: &HttpLimits,
    keeps_underscores: bool,
    facts: &mut Facts<'a>,
    head: &mut HttpHead,
) -> Option<usize> {
    for _ in 0..=limits.fields() {
        let name = bytes.get(at..)?;
        let name = &name[..token::len(name)];
        if name.is_empty() {
            return bytes[at..].starts_with(LINE_END).then_some(at + LINE_END.len());
        }
        let value_start = at + name.len() + COLON.len();
        if bytes.get(value_start - COLON.len()..value_start)? != COLON {
            return None;
        }
        let value_end = value_end(bytes, value_start)?;
        let value = &bytes[value_start..value_end];
        if !is_trimmed(value) {
            return None;
        }
        match names::special(name) {
            Some(special) => facts.read(special, value, None).ok()?,
            None if keeps_underscores || !name.contains(&b'_') => {
                head.place_line(at, name.len(), value.len());
            }
            None if limits.underscores == Underscores::Drop => {}
            None => return None,
        }
        at = value_end + LINE_END.len();
    }
    None
}

/// Places `Host` as what the request is for.
fn place_host(bytes: &[u8], version: HttpVersion, facts: &Facts<'_>, head: &mut HttpHead) -> Option<()> {
    judge::check_host(version, facts).ok()?;
    if let Some(host) = facts.host {
        let start = (host.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
        head.place_authority(span(start, host.len()));
    }
    Some(())
}

/// As much of it as a head may take.
fn within<'a>(bytes: &'a [u8], limits: &HttpLimits) -> &'a [u8] {
    let len = bytes.len().min(limits.head_bytes_max as usize).min(HEAD_BYTES_CEILING);
    &bytes[..len]
}

fn version(text: &[u8]) -> Option<HttpVersion> {
    match text {
        b"HTTP/1.1" => Some(HttpVersion::Http11),
        b"HTTP/1.0" => Some(HttpVersion::Http10),
        _ => None,
    }
}

/// RFC 9112 section 4: three digits, of which the first says the class.
fn status(digits: &[u8]) -> Option<u16> {
    let [class @ b'1'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = digits else { return None };
    let digit = |byte: &u8| u16::from(byte - b'0');
    Some(digit(class) * 100 + digit(tens) * 10 + digit(ones))
}

/// True when nobody would leave blanks out at either end, nor wonder where an empty value lies.
fn is_trimmed(value: &[u8]) -> bool {
    matches!(value, [first, .., last] if *first != b' ' && *last != b' ')
        || matches!(value, [only] if *only != b' ')
}

/// Where the value that starts at `from` ends, with a line end behind it. Eight bytes are looked at in one word.
fn value_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(word) = bytes.get(at..at + WORD_BYTES) {
        let word = u64::from_le_bytes(word.try_into().ok()?);
        // The lowest bit that is set is right; a borrow can only spoil those above it.
        let below_space = word.wrapping_sub(EVERY * 0x20) & !word;
        let is_delete = word ^ (EVERY * 0x7f);
        let is_delete = is_delete.wrapping_sub(EVERY) & !is_delete;
        let stops = (below_space | is_delete) & (EVERY * 0x80);
        if stops != 0 {
            return ends_at(bytes, at + stops.trailing_zeros() as usize / 8);
        }
        at += WORD_BYTES;
    }
    let rest = bytes.get(at..)?;
    let len = rest.iter().position(|byte| *byte < 0x20 || *byte == 0x7f)?;
    ends_at(bytes, at + len)
}

fn ends_at(bytes: &[u8], at: usize) -> Option<usize> {
    bytes[at..].starts_with(LINE_END).then_some(at)
}

fn span(start: usize, len: usize) -> Span {
    Span::new(start as u32, len as u32)
}

const COLON: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";
const WORD_BYTES: usize = 8;
/// One in each byte of a word.
const EVERY: u64 = 0x0101_0101_0101_0101;
/// What `HTTP/1.1` takes.
const VERSION_BYTES: usize = 8;
/// Where the reason of a response starts: behind a version, and a status between two spaces.
const REASON_START: usize = VERSION_BYTES + 5;
/// No head is larger than this, whatever the limit: places in it are kept in 32 bits.
const HEAD_BYTES_CEILING: usize = 1 << 30;
