//! Owns what the tests of the HTTP/1.1 codec share: one head decoded, one body read, and the bytes of a file of cases.

use std::fs;

use bowline_protocols::http::{BodyLength, HttpFault, HttpHead, HttpLimits, Method};
use bowline_protocols::http_properties::{Side, Transcript, read};
use bowline_protocols::http1::{HeadDecoder, HeadStep};
use serde_json::Value;

/// The head of the request in `bytes`, which is whole; every way to cut it gives the same.
pub(crate) fn request_within(bytes: &[u8], limits: &HttpLimits) -> Result<HttpHead, HttpFault> {
    let mut head = HttpHead::default();
    let step = HeadDecoder::default().request(bytes, limits, &mut head);
    same_however_cut(Side::Requests, bytes, limits);
    whole(step, head)
}

/// The same within the default limits.
pub(crate) fn request(text: &str) -> Result<HttpHead, HttpFault> {
    request_within(text.as_bytes(), &HttpLimits::default())
}

/// A request with these lines between a `Host` and the empty line.
pub(crate) fn request_with(lines: &str) -> Result<HttpHead, HttpFault> {
    request(&format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"))
}

/// The head of a response to `method`.
pub(crate) fn response_to(method: Method, text: &str) -> Result<HttpHead, HttpFault> {
    let mut head = HttpHead::default();
    let limits = HttpLimits::default();
    let step = HeadDecoder::default().response(text.as_bytes(), method, &limits, &mut head);
    same_however_cut(Side::Responses(method), text.as_bytes(), &limits);
    whole(step, head)
}

/// The head of a response to GET.
pub(crate) fn response(text: &str) -> Result<HttpHead, HttpFault> {
    response_to(Method::Get, text)
}

fn whole(step: Result<HeadStep, HttpFault>, head: HttpHead) -> Result<HttpHead, HttpFault> {
    match step? {
        HeadStep::Head { .. } => Ok(head),
        HeadStep::Need(_) => panic!("the head of a test is whole"),
    }
}

/// What is read of a request with this chunked body and anything behind it.
pub(crate) fn chunked_within(body: &str, limits: &HttpLimits) -> Transcript {
    let bytes = format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    same_however_cut(Side::Requests, bytes.as_bytes(), limits);
    let transcript = read(Side::Requests, bytes.as_bytes(), [], limits);
    assert_eq!(transcript.messages[0].head.body, BodyLength::Chunked);
    transcript
}

/// The same within the default limits.
pub(crate) fn chunked(body: &str) -> Transcript {
    chunked_within(body, &HttpLimits::default())
}

/// Every way to cut the bytes in two gives the same messages, fault and rest; so does every byte by itself.
pub(crate) fn same_however_cut(side: Side, bytes: &[u8], limits: &HttpLimits) {
    let whole = read(side, bytes, [], limits);
    for cut in 0..bytes.len() {
        assert_eq!(read(side, bytes, [cut], limits), whole, "cut at {cut}");
    }
    assert_eq!(read(side, bytes, 0..bytes.len(), limits), whole, "byte by byte");
}

/// A file below `tests/data`.
pub(crate) fn data(file: &str) -> Value {
    let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/{}"), file);
    let text = fs::read_to_string(path).expect("the data is in the repository");
    serde_json::from_str(&text).expect("the data is JSON")
}

/// The bytes that a string of hexadecimal digits names.
pub(crate) fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("bytes are a string");
    let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("two digits");
    (0..text.len()).step_by(2).map(pair).collect()
}
