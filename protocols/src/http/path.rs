//! The one normal form of a path, computed once and used for routing, filters and forwarding alike (RFC 3986 section 6.2.2).
//! Refuses what readers are known to disagree about instead of guessing; called while a request head is decoded.

use super::fault::HttpFault;
use super::limits::EscapedSlash;

/// Appends the normal form of `raw` (path and query, as in a request line) to `out`: dot segments removed (also `%2e`),
/// escaped unreserved characters unescaped, escapes in upper case, doubled slashes merged; the query is only checked.
/// Bytes that should have been escaped and are harmless, as `|`, are escaped in the path. An empty path is the root, as it
/// is in a target in absolute form. On a fault `out` is as it was.
pub fn normalise(raw: &[u8], slash: EscapedSlash, out: &mut Vec<u8>) -> Result<(), HttpFault> {
    let start = out.len();
    write(raw, slash, out).inspect_err(|_| out.truncate(start))
}

fn write(raw: &[u8], slash: EscapedSlash, out: &mut Vec<u8>) -> Result<(), HttpFault> {
    let path_end = memchr::memchr(b'?', raw).unwrap_or(raw.len());
    let (path, query) = raw.split_at(path_end);
    match path {
        [] => out.push(b'/'),
        [b'/', ..] if is_normal(path) => out.extend_from_slice(path),
        [b'/', segments @ ..] => write_path(segments, slash, out)?,
        _ => return Err(HttpFault::BadTarget),
    }
    // An escape is not looked at in a query: nobody decodes one to route by, and browsers send `?q=100%`.
    if !query.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(HttpFault::BadPath);
    }
    out.extend_from_slice(query);
    Ok(())
}

/// How many bytes a target in origin form takes at the front of `bytes`, and whether it is its own normal form for certain.
pub(crate) fn measure(bytes: &[u8]) -> (usize, bool) {
    let (mut before, mut in_query, mut is_normal) = (0, false, true);
    for (at, byte) in bytes.iter().enumerate() {
        if !byte.is_ascii_graphic() {
            return (at, is_normal);
        }
        in_query |= *byte == b'?';
        let is_doubtful = before == b'/' && matches!(byte, b'/' | b'.') || !PLAIN_BYTES[usize::from(*byte)];
        is_normal &= if in_query { *byte != b'#' } else { !is_doubtful };
        before = *byte;
    }
    (bytes.len(), is_normal)
}

/// True for most paths: plain bytes alone, and no segment that is empty or begins with a dot. Others may be normal too.
fn is_normal(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|byte| {
        let is_doubtful = before == b'/' && matches!(byte, b'/' | b'.');
        before = *byte;
        PLAIN_BYTES[usize::from(*byte)] && !is_doubtful
    })
}

/// Writes segment after segment, each with its slash before it, and takes back what a dot segment takes back.
fn write_path(path: &[u8], slash: EscapedSlash, out: &mut Vec<u8>) -> Result<(), HttpFault> {
    let root = out.len();
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let start = out.len();
        out.push(b'/');
        write_segment(segment, slash, out)?;
        match &out[start + 1..] {
            b"" | b"." => out.truncate(start),
            b".." => {
                out.truncate(start);
                climb(root, out)?;
            }
            // Some servers cut parameters off before they look for dot segments.
            [b'.', b';', ..] | [b'.', b'.', b';', ..] => return Err(HttpFault::PathAboveRoot),
            _ => continue,
        }
        if is_last {
            out.push(b'/');
        }
    }
    Ok(())
}

/// Removes the last segment. RFC 3986 section 5.2.4 would stay at the root; a path that leaves it is an attack.
fn climb(root: usize, out: &mut Vec<u8>) -> Result<(), HttpFault> {
    let last = memchr::memrchr(b'/', &out[root..]).ok_or(HttpFault::PathAboveRoot)?;
    out.truncate(root + last);
    Ok(())
}

fn write_segment(mut segment: &[u8], slash: EscapedSlash, out: &mut Vec<u8>) -> Result<(), HttpFault> {
    while let Some((&byte, rest)) = segment.split_first() {
        segment = rest;
        match byte {
            b'%' => {
                let (digits, behind) = rest.split_first_chunk::<2>().ok_or(HttpFault::BadPath)?;
                write_escape(unescape(*digits).ok_or(HttpFault::BadPath)?, slash, out)?;
                segment = behind;
            }
            b'#' | b'\\' => return Err(HttpFault::BadPath),
            _ if !byte.is_ascii_graphic() => return Err(HttpFault::BadPath),
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => push_escaped(byte, out),
            _ => out.push(byte),
        }
    }
    Ok(())
}

fn write_escape(byte: u8, slash: EscapedSlash, out: &mut Vec<u8>) -> Result<(), HttpFault> {
    match byte {
        0 => return Err(HttpFault::BadPath),
        b'/' | b'\\' if slash == EscapedSlash::Refuse => return Err(HttpFault::EscapedSlash),
        // RFC 3986 section 2.3: the unreserved characters mean the same with and without escape.
        b'-' | b'.' | b'_' | b'~' => out.push(byte),
        _ if byte.is_ascii_alphanumeric() => out.push(byte),
        _ => push_escaped(byte, out),
    }
    Ok(())
}

fn unescape(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| (digit as char).to_digit(16));
    Some((high? * 16 + low?) as u8)
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
}

/// Bytes that stand in a normal form as they came, whatever is around them.
const PLAIN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte as usize] = !needs_care(byte);
        byte += 1;
    }
    table
};

/// Visible bytes that are refused, unescaped or escaped in a path.
const fn needs_care(byte: u8) -> bool {
    matches!(byte, b'%' | b'#' | b'\\' | b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(raw: &str) -> Result<String, HttpFault> {
        let mut out = b"before".to_vec();
        let result = normalise(raw.as_bytes(), EscapedSlash::Keep, &mut out);
        let written = String::from_utf8(out.split_off(6)).expect("normal forms are ASCII");
        assert!(result.is_ok() || written.is_empty(), "a fault writes nothing");
        result.map(|()| written)
    }

    #[test]
    fn normal_forms() {
        let cases = [
            ("", "/"),
            ("?a", "/?a"),
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/.", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/../b", "/b"),
            ("/a//../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/...", "/..."),
            ("/..a/.b", "/..a/.b"),
            ("/%41%7e%2D", "/A~-"),
            ("/%c3%a4%3f", "/%C3%A4%3F"),
            ("/%252e%252e", "/%252e%252e"),
            ("/a%2fb%5c", "/a%2Fb%5C"),
            ("/a;v=1/b;", "/a;v=1/b;"),
            ("/{a}|^", "/%7Ba%7D%7C%5E"),
            ("/%7ba%7D", "/%7Ba%7D"),
            ("/%0d%0a", "/%0D%0A"),
            ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
            ("/?", "/?"),
            ("/a/..?b/../c?d", "/?b/../c?d"),
            ("/?q=100%&%zz=[1]|\"", "/?q=100%&%zz=[1]|\""),
        ];
        for (raw, expected) in cases {
            assert_eq!(normal(raw).as_deref(), Ok(expected), "{raw}");
            assert_eq!(normal(expected).as_deref(), Ok(expected), "a normal form is its own");
        }
    }

    #[test]
    fn refusals() {
        use HttpFault::{BadPath, BadTarget, PathAboveRoot};
        let cases = [
            ("a", BadTarget),
            ("a/b", BadTarget),
            ("%2fa", BadTarget),
            ("/..", PathAboveRoot),
            ("/a/../..", PathAboveRoot),
            ("/%2e%2e/a", PathAboveRoot),
            ("/./../a", PathAboveRoot),
            ("//../a", PathAboveRoot),
            ("/a/..;/b", PathAboveRoot),
            ("/a/%2e%2e;x/b", PathAboveRoot),
            ("/a/.;/b", PathAboveRoot),
            ("/a#b", BadPath),
            ("/?a#b", BadPath),
            ("/a b", BadPath),
            ("/?a b", BadPath),
            ("/\0", BadPath),
            ("/?\0", BadPath),
            ("/a\tb", BadPath),
            ("/\x7f", BadPath),
            ("/ä", BadPath),
            ("/?ä", BadPath),
            ("/a\\b", BadPath),
            ("/%00", BadPath),
            ("/%", BadPath),
            ("/%4", BadPath),
            ("/%4g", BadPath),
            ("/%+1", BadPath),
            ("/%4/1", BadPath),
        ];
        for (raw, fault) in cases {
            assert_eq!(normal(raw), Err(fault), "{raw}");
        }
    }

    #[test]
    fn escaped_slashes_are_refused_unless_kept() {
        for raw in ["/a%2fb", "/a%2Fb", "/a%5cb", "/%5C"] {
            let refused = normalise(raw.as_bytes(), EscapedSlash::Refuse, &mut Vec::new());
            assert_eq!(refused, Err(HttpFault::EscapedSlash), "{raw}");
        }
        assert_eq!(normal("/a/..%2fb").as_deref(), Ok("/a/..%2Fb"));
    }
}
