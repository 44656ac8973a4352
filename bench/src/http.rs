//! Owns all HTTP/1.1 that the bench speaks: requests and answers whose bodies have a length, and where such a message ends.
//! Refuses every other framing, even where the standard allows it: an answer that was framed anew by someone in between is
//! to be noticed. Shares no code with the gateway's codec, which it judges. Called by `wire`, `verify`, `answer` and relays.

use std::io::Write;
use std::ops::Range;

use memchr::memchr_iter;
use memchr::memmem;

/// What stands at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// A whole message.
    Message(Message<'a>),
    /// The beginning of one, which takes at least so many bytes.
    Need(usize),
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The first line, without its end.
    pub line: &'a [u8],
    /// All fields, each with the end of its line.
    pub fields: &'a [u8],
    /// The body.
    pub body: &'a [u8],
    /// How long all of it is.
    pub bytes: usize,
}

/// What came cannot be read as the protocol that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Looks at the first message of `bytes`. Without a length it has no body.
pub fn first(bytes: &[u8]) -> Result<Start<'_>, Unreadable> {
    let Some(head) = memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(Unreadable) } else { Ok(Start::Need(bytes.len() + 1)) };
    };
    let line = memchr::memchr(b'\r', bytes).unwrap_or(head);
    let fields = (line + 2).min(head - 2)..head - 2;
    let end = head + length(&bytes[fields.clone()])?.unwrap_or(0);
    if bytes.len() < end {
        return Ok(Start::Need(end));
    }
    let Range { start, end: fields_end } = fields;
    Ok(Start::Message(Message {
        line: &bytes[..line],
        fields: &bytes[start..fields_end],
        body: &bytes[head..end],
        bytes: end,
    }))
}

/// The length that the fields give.
fn length(fields: &[u8]) -> Result<Option<usize>, Unreadable> {
    let mut length = None;
    for line in lines(fields) {
        // Few names begin like these, so most lines cost one look.
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => {}
            Some(b't') if value(line, b"transfer-encoding").is_some() => return Err(Unreadable),
            _ => continue,
        }
        let Some(text) = value(line, b"content-length") else { continue };
        if length.replace(decimal(text).ok_or(Unreadable)?).is_some() {
            return Err(Unreadable);
        }
    }
    Ok(length)
}

fn lines(fields: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    memchr_iter(b'\n', fields).map(move |at| {
        let line = &fields[from..at];
        from = at + 1;
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

/// The value of a line, if the name is that.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (own, rest) = line.split_at_checked(name.len())?;
    let value = own.eq_ignore_ascii_case(name).then(|| rest.strip_prefix(b":"))??;
    Some(value.trim_ascii())
}

fn decimal(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > LENGTH_DIGITS_MAX || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

impl<'a> Message<'a> {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        lines(self.fields).find_map(|line| value(line, name.as_bytes()))
    }

    /// The status of an answer of version 1.1.
    pub fn status(&self) -> Result<u16, Unreadable> {
        let rest = self.line.strip_prefix(b"HTTP/1.1 ").ok_or(Unreadable)?;
        let digits = rest.get(..3).and_then(decimal).ok_or(Unreadable)?;
        match rest.get(3) {
            None | Some(b' ') => Ok(digits as u16),
            Some(_) => Err(Unreadable),
        }
    }

    /// The content that a request of [`append_get`] asks for: connection, id, bytes. Nothing for any other request.
    pub fn asks_for(&self) -> Option<(u64, u32, usize)> {
        let path = self.line.strip_prefix(b"GET /")?.split(|byte| *byte == b' ').next()?;
        let mut parts = std::str::from_utf8(path).ok()?.split('/');
        let mut part = || u64::from_str_radix(parts.next()?, 16).ok();
        let asked = (part()?, u32::try_from(part()?).ok()?, usize::try_from(part()?).ok()?);
        (asked.2 <= CONTENT_BYTES_MAX).then_some(asked)
    }
}

/// Appends a request with a body; `fields` is what [`fields`] made.
pub fn append_post(fields: &[u8], body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"POST /echo HTTP/1.1\r\n");
    out.extend_from_slice(fields);
    append_length(body.len(), out);
    out.extend_from_slice(body);
}

/// Appends a request for the content that connection number `connection` would send with `id`.
pub fn append_get(fields: &[u8], connection: u64, id: u32, bytes: usize, out: &mut Vec<u8>) {
    write!(out, "GET /{connection:x}/{id:x}/{bytes:x} HTTP/1.1\r\n").expect("memory takes what is written");
    out.extend_from_slice(fields);
    out.extend_from_slice(b"\r\n");
}

/// Appends an answer.
pub fn append_answer(body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n");
    append_length(body.len(), out);
    out.extend_from_slice(body);
}

fn append_length(bytes: usize, out: &mut Vec<u8>) {
    write!(out, "Content-Length: {bytes}\r\n\r\n").expect("memory takes what is written");
}

/// The fields of every request: a host, and what a caller adds.
pub fn fields(more: &[(String, String)]) -> Vec<u8> {
    let mut fields = b"Host: bench\r\n".to_vec();
    for (name, value) in more {
        write!(fields, "{name}: {value}\r\n").expect("memory takes what is written");
    }
    fields
}

const HEAD_BYTES_MAX: usize = 64 << 10;
/// Below what a length could overflow with.
const LENGTH_DIGITS_MAX: usize = 9;
const CONTENT_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Message<'_> {
        match first(bytes) {
            Ok(Start::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_ends_where_its_length_says_however_it_arrives() {
        let mut sent = Vec::new();
        append_answer(b"0123456789", &mut sent);
        let end = sent.len();
        sent.extend_from_slice(b"HTTP/1.1 ");
        for cut in 0..end {
            match first(&sent[..cut]) {
                Ok(Start::Need(need)) => assert!(need > cut && need <= end, "{cut}"),
                other => panic!("{cut}: {other:?}"),
            }
        }
        let message = whole(&sent);
        assert_eq!((message.bytes, message.body, message.status()), (end, &b"0123456789"[..], Ok(200)));
        assert_eq!(message.field("content-type"), Some(&b"application/octet-stream"[..]));
    }

    #[test]
    fn names_have_no_case_and_a_message_without_length_has_no_body() {
        let message = whole(b"POST / HTTP/1.1\r\ncOnTent-LENGTH:  3 \r\nt: 1\r\n\r\nabcd");
        assert_eq!((message.body, message.bytes), (&b"abc"[..], 49));
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\r\nabc").body, b"");
        assert_eq!(whole(b"HTTP/1.1 204\r\n\r\n").status(), Ok(204));
    }

    #[test]
    fn other_framings_are_unreadable() {
        for fields in [
            "Transfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: -1",
            "Content-Length:",
            "Content-Length: 9999999999",
        ] {
            let sent = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert_eq!(first(sent.as_bytes()), Err(Unreadable), "{fields}");
        }
        assert_eq!(first(&vec![b'a'; HEAD_BYTES_MAX + 1]), Err(Unreadable));
        for line in ["HTTP/1.0 200 OK", "HTTP/1.1 2x0 OK", "HTTP/1.1 2000", "HTTP/1.1 20"] {
            let sent = format!("{line}\r\n\r\n");
            assert_eq!(whole(sent.as_bytes()).status(), Err(Unreadable), "{line}");
        }
    }

    #[test]
    fn a_get_says_what_it_asks_for() {
        let mut sent = Vec::new();
        append_get(&fields(&[]), 1 << 40, u32::MAX, 1_024, &mut sent);
        assert_eq!(whole(&sent).asks_for(), Some((1 << 40, u32::MAX, 1_024)));
        for line in
            ["GET / HTTP/1.1", "GET /1/2 HTTP/1.1", "POST /1/2/3 HTTP/1.1", "GET /1/2/fffffff HTTP/1.1"]
        {
            assert_eq!(whole(format!("{line}\r\n\r\n").as_bytes()).asks_for(), None, "{line}");
        }
    }
}
