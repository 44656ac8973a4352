//! What is written, byte for byte: to servers, to clients, and to those of 1.0.

use bowline_protocols::http::{BodyLength, HttpHead};
use bowline_protocols::http1::encode;

fn request_head() -> HttpHead {
    let mut head = HttpHead::default();
    head.set_request(b"POST", b"h:80", b"/a?b").expect("it is sound");
    head.add_field(b"X-A", b"1").expect("it is sound");
    head
}

fn response_head(status: u16, body: BodyLength) -> HttpHead {
    let mut head = HttpHead::default();
    head.set_response(status, b"Reason").expect("it is sound");
    head.body = body;
    head
}

fn request(head: &HttpHead, keep_alive: bool) -> String {
    let mut out = Vec::new();
    encode::request(head, keep_alive, &mut out);
    String::from_utf8(out).expect("it is ASCII")
}

/// What stands behind the status line.
fn response(head: &HttpHead, keep_alive: bool, to_http10: bool) -> String {
    let mut out = Vec::new();
    encode::response(head, keep_alive, to_http10, &mut out);
    let text = String::from_utf8(out).expect("it is ASCII");
    let line = format!("HTTP/1.1 {} Reason\r\n", head.status());
    text.strip_prefix(&line).unwrap_or_else(|| panic!("{text:?} starts with {line:?}")).to_owned()
}

#[test]
fn requests() {
    let mut head = request_head();
    assert_eq!(request(&head, true), "POST /a?b HTTP/1.1\r\nHost: h:80\r\nX-A: 1\r\n\r\n");
    head.body = BodyLength::Exact(u64::MAX);
    head.expects_continue = true;
    let expected = concat!(
        "POST /a?b HTTP/1.1\r\nHost: h:80\r\nX-A: 1\r\nContent-Length: 18446744073709551615\r\n",
        "Expect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(request(&head, false), expected);
    head.expects_continue = false;
    head.body = BodyLength::Chunked;
    head.set_upgrade(Some(b"websocket")).expect("it is sound");
    let expected = concat!(
        "POST /a?b HTTP/1.1\r\nHost: h:80\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    assert_eq!(request(&head, true), expected);
}

#[test]
fn connect_names_its_authority() {
    let mut head = HttpHead::default();
    head.set_request(b"CONNECT", b"h:1", b"").expect("it is sound");
    assert_eq!(request(&head, true), "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n");
}

#[test]
fn responses_to_11() {
    let exact = response_head(200, BodyLength::Exact(0));
    assert_eq!(response(&exact, true, false), "Content-Length: 0\r\n\r\n");
    assert_eq!(response(&exact, false, false), "Content-Length: 0\r\nConnection: close\r\n\r\n");
    let chunked = response_head(200, BodyLength::Chunked);
    assert_eq!(response(&chunked, true, false), "Transfer-Encoding: chunked\r\n\r\n");
    let endless = response_head(200, BodyLength::UntilClose);
    assert_eq!(response(&endless, true, false), "Connection: close\r\n\r\n", "whatever was asked for");
}

#[test]
fn responses_to_10() {
    let exact = response_head(200, BodyLength::Exact(7));
    assert_eq!(response(&exact, true, true), "Content-Length: 7\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(response(&exact, false, true), "Content-Length: 7\r\nConnection: close\r\n\r\n");
    let chunked = response_head(200, BodyLength::Chunked);
    assert_eq!(response(&chunked, true, true), "Connection: close\r\n\r\n", "1.0 knows no chunks");
}

#[test]
fn responses_without_body() {
    let mut head = response_head(304, BodyLength::None);
    assert_eq!(response(&head, true, false), "\r\n");
    head.declared_length = Some(12);
    assert_eq!(response(&head, true, false), "Content-Length: 12\r\n\r\n");
    let mut empty = response_head(204, BodyLength::Exact(0));
    empty.declared_length = Some(0);
    assert_eq!(response(&empty, true, false), "\r\n", "a 204 declares nothing");
}

#[test]
fn interim_responses_say_nothing_of_the_connection() {
    let head = response_head(100, BodyLength::None);
    assert_eq!(response(&head, false, false), "\r\n");
    let mut switching = response_head(101, BodyLength::None);
    switching.set_upgrade(Some(b"websocket")).expect("it is sound");
    assert_eq!(response(&switching, false, false), "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
}

#[test]
fn chunk_heads_are_their_length_in_hexadecimal() {
    let lens = [0, 1, 9, 10, 15, 16, 255, 256, 4_096, 65_535, usize::MAX >> 1, usize::MAX];
    for len in lens {
        let mut line = [0; 18];
        let written = encode::chunk_head(len, &mut line);
        assert_eq!(line[..written], *format!("{len:x}\r\n").as_bytes());
    }
}

#[test]
fn the_last_chunk_carries_the_trailers() {
    let mut trailers = HttpHead::default();
    trailers.add_field(b"Sum", b"1").expect("it is sound");
    let mut out = Vec::new();
    encode::last_chunk(Some(&trailers), &mut out);
    encode::last_chunk(None, &mut out);
    assert_eq!(out, b"0\r\nSum: 1\r\n\r\n0\r\n\r\n");
}
