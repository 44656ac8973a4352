//! The `Location` of a redirect: text with parts of the request in it. Whatever a client sends, the result is one URL of
//! visible ASCII whose host is the one that the operator wrote, or that the client named itself; else there is none.
//! Called by a route.

use bowline_protocols::http::FieldError;
use bowline_protocols::http::HttpHead;

use crate::config::http::LocationPart;
use crate::config::http::LocationPlan;
use crate::route::host::split;

/// Adds where `head` is sent to `out`, or nothing. `matched` is the prefix by which its route was found.
pub(super) fn write(
    plan: &LocationPlan,
    head: &HttpHead,
    matched: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), FieldError> {
    let start = out.len();
    let mut result = plan.parts().iter().try_for_each(|part| write_part(part, head, matched, out));
    // Two slashes in front would name a host; browsers take a backslash for a slash.
    if matches!(&out[start..], [] | [b'/', b'/' | b'\\', ..] | [b'\\', ..]) {
        result = Err(FieldError);
    }
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn write_part(
    part: &LocationPart,
    head: &HttpHead,
    matched: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), FieldError> {
    let text = match part {
        LocationPart::Text(text) => text.as_bytes(),
        LocationPart::Host => not_empty(split(head.authority()).0)?,
        LocationPart::Authority => not_empty(head.authority())?,
        LocationPart::Path => from_slash(head.path())?,
        LocationPart::Rest => match head.path().strip_prefix(matched).ok_or(FieldError)? {
            [] => &[],
            rest => from_slash(rest)?,
        },
        LocationPart::Query => match head.query() {
            Some(query) => {
                out.push(b'?');
                query
            }
            None => &[],
        },
    };
    text.iter().try_for_each(|byte| push(*byte, out))
}

fn not_empty(text: &[u8]) -> Result<&[u8], FieldError> {
    if text.is_empty() { Err(FieldError) } else { Ok(text) }
}

/// A path: neither `*` nor the empty one of CONNECT, which would run into the host before it.
fn from_slash(path: &[u8]) -> Result<&[u8], FieldError> {
    if path.first() == Some(&b'/') { Ok(path) } else { Err(FieldError) }
}

fn push(byte: u8, out: &mut Vec<u8>) -> Result<(), FieldError> {
    match byte {
        0x21..=0x7e => out.push(byte),
        0x80.. => out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        _ => return Err(FieldError),
    }
    Ok(())
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    fn location(plan: &str, authority: &str, target: &str) -> Result<String, FieldError> {
        let mut head = HttpHead::default();
        head.set_request(b"GET", authority.as_bytes(), target.as_bytes()).expect("a request");
        let mut out = b"before ".to_vec();
        let done = write(&LocationPlan::parse(plan).expect("a location"), &head, b"/old", &mut out);
        let text = String::from_utf8(out).expect("it is ASCII");
        let text = text.strip_prefix("before ").expect("what was there stays").to_owned();
        assert!(done.is_ok() || text.is_empty(), "nothing is left of one that failed");
        done.map(|()| text)
    }

    #[test]
    fn parts_of_the_request_stand_where_they_were_asked_for() {
        let to = |plan: &str| location(plan, "a.b:81", "/old/x?y=z").expect("there is one");
        assert_eq!(to("https://{host}{path}{query}"), "https://a.b/old/x?y=z");
        assert_eq!(to("https://{host}:8443/new{rest}"), "https://a.b:8443/new/x");
        assert_eq!(to("https://{authority}{path}"), "https://a.b:81/old/x");
        assert_eq!(to("/new{rest}{query}"), "/new/x?y=z");
        assert_eq!(to("{path}"), "/old/x");
        assert_eq!(to("http://c"), "http://c");
        assert_eq!(location("https://c{rest}", "a", "/old").as_deref(), Ok("https://c"));
        assert_eq!(location("https://{host}{path}", "[::1]:80", "/").as_deref(), Ok("https://[::1]/"));
    }

    #[test]
    fn no_request_chooses_the_host_or_ends_the_line() {
        assert_eq!(location("https://{host}{path}", "", "/old"), Err(FieldError), "no host was named");
        assert_eq!(location("https://c{path}", "a", "*"), Err(FieldError), "not https://c*");
        assert_eq!(location("https://c{rest}", "a", "/older"), Err(FieldError), "not https://cer");
        assert_eq!(location("https://c{rest}", "a", "/other"), Err(FieldError));
        assert_eq!(location("{path}", "a", "//evil.example"), Err(FieldError));
        assert_eq!(location("{path}", "a", "/\\evil.example"), Err(FieldError));
        let mut out = Vec::new();
        for byte in [b'\r', b'\n', b' ', 0, 0x7f] {
            assert_eq!(push(byte, &mut out), Err(FieldError));
        }
        assert_eq!(push(0xe9, &mut out).map(|()| out), Ok(b"%E9".to_vec()));
    }
}
