//! Heads and chunk framing, to bytes. What it writes cannot be split: [`HttpHead`] refuses CR, LF and NUL, and the fields
//! that frame. Called by the machines of the gateway, which decide what framing and connection are to be.

use crate::http::BodyLength;
use crate::http::HttpHead;
use crate::http::Method;

/// Appends a request head: request line in origin form, `Host`, the fields, then framing and connection fields.
/// `keep_alive` false adds `Connection: close`.
pub fn request(head: &HttpHead, keep_alive: bool, out: &mut Vec<u8>) {
    debug_assert!(head.status() == 0 && !head.method_text().is_empty(), "this is a request");
    debug_assert!(head.body != BodyLength::UntilClose, "no request ends with its connection");
    out.reserve(head.text_bytes() + OWN_BYTES);
    let target = if head.method() == Method::Connect { head.authority() } else { head.path_and_query() };
    put(out, &[head.method_text(), b" ", target, b" HTTP/1.1\r\nHost: ", head.authority(), b"\r\n"]);
    head.append_lines(out);
    match head.body {
        BodyLength::None => {}
        BodyLength::Exact(length) => put_length(length, out),
        // A body whose end nobody knows can only be sent in chunks.
        BodyLength::Chunked | BodyLength::UntilClose => put(out, &[CHUNKED]),
    }
    if head.expects_continue {
        put(out, &[b"Expect: 100-continue\r\n"]);
    }
    put_connection(head, !keep_alive, false, out);
    put(out, &[b"\r\n"]);
}

/// Appends a response head for a client that speaks 1.1, or 1.0 where `to_http10` (no chunks, `Connection: keep-alive`
/// said if it is kept). A body that then ends with the connection says `close`, whatever `keep_alive` is.
pub fn response(head: &HttpHead, keep_alive: bool, to_http10: bool, out: &mut Vec<u8>) {
    debug_assert!((100..=599).contains(&head.status()), "this is a response");
    out.reserve(head.text_bytes() + OWN_BYTES);
    let status = [head.status() / 100, head.status() / 10 % 10, head.status() % 10];
    put(out, &[b"HTTP/1.1 ", &status.map(|digit| b'0' + digit as u8), b" ", head.reason(), b"\r\n"]);
    head.append_lines(out);
    let is_interim = head.status() < 200;
    let has_end = is_interim || put_response_length(head, to_http10, out);
    let keeps = keep_alive && has_end;
    put_connection(head, !keeps && !is_interim, keeps && to_http10 && !is_interim, out);
    put(out, &[b"\r\n"]);
}

/// The line before a chunk of `len` bytes; says how many bytes of `out` it took.
pub fn chunk_head(len: usize, out: &mut [u8; 18]) -> usize {
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1) as usize;
    for (at, digit) in out[..digits].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(len >> (4 * (digits - 1 - at))) & 15];
    }
    out[digits..digits + 2].copy_from_slice(b"\r\n");
    digits + 2
}

/// What stands behind every chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Appends the last chunk and the trailers.
pub fn last_chunk(trailers: Option<&HttpHead>, out: &mut Vec<u8>) {
    put(out, &[b"0\r\n"]);
    if let Some(trailers) = trailers {
        trailers.append_lines(out);
    }
    put(out, &[b"\r\n"]);
}

/// Writes how long the body is; false when only the end of the connection will say it. RFC 9110 section 8.6: a 204 says
/// nothing.
fn put_response_length(head: &HttpHead, to_http10: bool, out: &mut Vec<u8>) -> bool {
    match head.body {
        _ if head.status() == NO_CONTENT => {}
        BodyLength::None => head.declared_length.into_iter().for_each(|length| put_length(length, out)),
        BodyLength::Exact(length) => put_length(length, out),
        BodyLength::Chunked if !to_http10 => put(out, &[CHUNKED]),
        BodyLength::Chunked | BodyLength::UntilClose => return false,
    }
    true
}

fn put_connection(head: &HttpHead, close: bool, say_keep_alive: bool, out: &mut Vec<u8>) {
    let options: &[u8] = match (close, head.upgrade().is_some(), say_keep_alive) {
        (true, true, _) => b"close, upgrade",
        (true, false, _) => b"close",
        (false, true, true) => b"keep-alive, upgrade",
        (false, true, false) => b"upgrade",
        (false, false, true) => b"keep-alive",
        (false, false, false) => return,
    };
    put(out, &[b"Connection: ", options, b"\r\n"]);
    if let Some(protocol) = head.upgrade() {
        put(out, &[b"Upgrade: ", protocol, b"\r\n"]);
    }
}

/// The line is made from its end on and copied once. Requests and responses share its code.
#[inline(never)]
fn put_length(length: u64, out: &mut Vec<u8>) {
    let mut line = [0; LENGTH_NAME.len() + LENGTH_DIGITS_MAX + LINE_END.len()];
    let mut start = line.len() - LINE_END.len();
    line[start..].copy_from_slice(LINE_END);
    let mut left = length;
    loop {
        start -= 1;
        line[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let name_start = start - LENGTH_NAME.len();
    line[name_start..start].copy_from_slice(LENGTH_NAME);
    out.extend_from_slice(&line[name_start..]);
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

const LENGTH_NAME: &[u8] = b"Content-Length: ";
const LINE_END: &[u8] = b"\r\n";
const CHUNKED: &[u8] = b"Transfer-Encoding: chunked\r\n";
/// Digits of the largest number of 64 bits.
const LENGTH_DIGITS_MAX: usize = 20;
/// Room for what is written beside the text of a head: a few lines of some 30 bytes.
const OWN_BYTES: usize = 160;
const NO_CONTENT: u16 = 204;
