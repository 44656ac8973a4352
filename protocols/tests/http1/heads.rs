//! What a sound head says: targets, versions, keep-alive, fields, and the calls by which filters change one.

use bowline_protocols::http::head::KEPT_BYTES_MAX;
use bowline_protocols::http::{BodyLength, HttpHead, HttpLimits, HttpVersion, Method};
use bowline_protocols::http1::{HeadDecoder, HeadStep};

use crate::support::{request, request_with, response, response_to};

fn sound(text: &str) -> HttpHead {
    request(text).unwrap_or_else(|fault| panic!("{text:?}: {fault}"))
}

#[test]
fn a_request_is_what_it_says() {
    let head = sound("GET /a/b?c=d HTTP/1.1\r\nHost: EXAMPLE.com:8080\r\nX-A: 1\r\nx-a: 2\r\nEmpty:\r\n\r\n");
    assert_eq!((head.method(), head.method_text(), head.status()), (Method::Get, &b"GET"[..], 0));
    assert_eq!((head.path(), head.query()), (&b"/a/b"[..], Some(&b"c=d"[..])));
    assert_eq!(head.authority(), b"example.com:8080");
    assert_eq!((head.version, head.body, head.keep_alive), (HttpVersion::Http11, BodyLength::None, true));
    let fields: Vec<_> = head.fields().collect();
    assert_eq!(fields, [(&b"X-A"[..], &b"1"[..]), (b"x-a", b"2"), (b"Empty", b"")]);
    assert_eq!((head.field(b"X-a"), head.field(b"host")), (Some(&b"1"[..]), None));
}

#[test]
fn methods_tell_case_and_any_token_is_one() {
    for (text, method) in [
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("TRACE", Method::Trace),
        ("PATCH", Method::Patch),
        ("get", Method::Other),
        ("M-SEARCH", Method::Other),
        ("*+!", Method::Other),
    ] {
        let head = sound(&format!("{text} / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!((head.method(), head.method_text()), (method, text.as_bytes()));
    }
}

#[test]
fn the_four_forms_of_a_target() {
    let origin = sound("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((origin.authority(), origin.path_and_query()), (&b"h"[..], &b"/a"[..]));
    let absolute = sound("GET HTTPS://H:443/a?b HTTP/1.1\r\nHost: h:443\r\n\r\n");
    assert_eq!((absolute.authority(), absolute.path_and_query()), (&b"h:443"[..], &b"/a?b"[..]));
    let old = sound("GET http://h HTTP/1.0\r\n\r\n");
    assert_eq!((old.authority(), old.path_and_query()), (&b"h"[..], &b"/"[..]));
    let connect = sound("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n");
    assert_eq!((connect.authority(), connect.path_and_query()), (&b"[::1]:443"[..], &b""[..]));
    for target in ["*", "http://h"] {
        let options = sound(&format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!((options.authority(), options.path_and_query()), (&b"h"[..], &b"*"[..]));
    }
    let hostless = sound("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(hostless.authority(), b"");
}

#[test]
fn who_keeps_a_connection() {
    for (version, lines, keeps) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE, x\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
    ] {
        let head = sound(&format!("GET / HTTP/{version}\r\nHost: h\r\n{lines}\r\n"));
        assert_eq!(head.keep_alive, keeps, "{version} {lines:?}");
        let answer = response(&format!("HTTP/{version} 200 OK\r\n{lines}Content-Length: 0\r\n\r\n"));
        assert_eq!(answer.expect("it is sound").keep_alive, keeps, "{version} {lines:?}");
    }
}

#[test]
fn how_long_a_response_is() {
    let length = |method, text: &str| response_to(method, text).expect("it is sound").body;
    let of_get = |text: &str| length(Method::Get, text);
    assert_eq!(of_get("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), BodyLength::Exact(5));
    assert_eq!(of_get("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), BodyLength::Chunked);
    assert_eq!(of_get("HTTP/1.1 200 OK\r\n\r\n"), BodyLength::UntilClose);
    assert_eq!(of_get("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"), BodyLength::UntilClose);
    for status in ["100 C", "103 E", "204 N", "304 N"] {
        assert_eq!(of_get(&format!("HTTP/1.1 {status}\r\n\r\n")), BodyLength::None, "{status}");
    }
    assert_eq!(of_get("HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n"), BodyLength::None);
    assert_eq!(length(Method::Head, "HTTP/1.1 200 OK\r\n\r\n"), BodyLength::None);
    assert_eq!(length(Method::Connect, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), BodyLength::None);
    assert_eq!(length(Method::Connect, "HTTP/1.1 407 P\r\nContent-Length: 5\r\n\r\n"), BodyLength::Exact(5));
}

#[test]
fn a_response_that_ends_with_its_connection_does_not_keep_it() {
    let head = response("HTTP/1.1 200 OK\r\n\r\n").expect("it is sound");
    assert!(!head.keep_alive);
}

#[test]
fn what_only_a_request_can_say_means_nothing_in_a_response() {
    let text =
        "HTTP/1.1 101 S\r\nExpect: 100-continue, nonsense\r\nTE: trailers\r\nContent-Length: 0\r\n\r\n";
    let head = response(text).expect("it is sound");
    assert!(!head.expects_continue && !head.accepts_trailers && head.fields_len() == 0);
    assert_eq!(head.declared_length, None, "a 1xx declares none");
}

#[test]
fn reasons_are_kept_where_they_are_ascii() {
    let reason = |text: &str| response(text).expect("it is sound").reason().to_vec();
    assert_eq!(reason("HTTP/1.1 200 All  is\twell\r\n\r\n"), b"All  is\twell");
    assert_eq!(reason("HTTP/1.1 200 \r\n\r\n"), b"");
    assert_eq!(reason("HTTP/1.1 200\r\n\r\n"), b"");
    assert_eq!(reason("HTTP/1.1 200 \u{e4}\r\n\r\n"), b"", "nothing reads it, so it is dropped");
}

#[test]
fn values_of_the_connection_are_no_fields() {
    let head = request_with("TE: gzip, trailers\r\nKeep-Alive: max=3, timeout=7\r\n").expect("it is sound");
    assert_eq!((head.accepts_trailers, head.keep_alive_timeout_s, head.fields_len()), (true, Some(7), 0));
}

#[test]
fn a_path_is_replaced_with_or_without_its_query() {
    let mut head = sound("GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n");
    head.set_path_and_query(b"/longer/path").expect("it is sound");
    assert_eq!((head.path(), head.query()), (&b"/longer/path"[..], Some(&b"b=c"[..])));
    head.set_path_and_query(b"/x?").expect("it is sound");
    assert_eq!((head.path_and_query(), head.query()), (&b"/x?"[..], Some(&b""[..])));
    head.set_path_and_query(b"/y?z").expect("it is sound");
    assert_eq!(head.path_and_query(), b"/y?z");
    head.set_authority(b"Other:80").expect("it is sound");
    assert_eq!(head.authority(), b"other:80");
}

#[test]
fn fields_are_added_and_removed() {
    let mut head = sound("GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\na: 3\r\n\r\n");
    assert_eq!((head.remove_field(b"A"), head.remove_field(b"A"), head.fields_len()), (2, 0, 1));
    head.add_field(b"C", b" \t4 ").expect("it is sound");
    assert_eq!(head.fields().collect::<Vec<_>>(), [(&b"B"[..], &b"2"[..]), (b"C", b"4")]);
    head.set_upgrade(Some(b"websocket/13")).expect("it is sound");
    assert_eq!(head.upgrade(), Some(&b"websocket/13"[..]));
    head.set_upgrade(None).expect("it is sound");
    assert_eq!(head.upgrade(), None);
}

#[test]
fn clearing_forgets_everything_and_gives_back_what_is_too_much() {
    let mut head = sound("GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\nA: 1\r\n\r\n");
    head.add_field(b"b", &[b'x'; KEPT_BYTES_MAX]).expect("it is sound");
    assert!(head.text_bytes() > KEPT_BYTES_MAX);
    head.clear();
    assert_eq!((head.text_bytes(), head.fields_len(), head.upgrade()), (0, 0, None));
    assert!(head.authority().is_empty() && head.path().is_empty() && head.method_text().is_empty());
}

#[test]
fn a_fault_leaves_nothing_of_the_head_behind() {
    let mut head = sound("GET /a HTTP/1.1\r\nHost: h\r\nA: 1\r\n\r\n");
    let bytes = b"GET /secret HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n";
    HeadDecoder::default().request(bytes, &HttpLimits::default(), &mut head).expect_err("it is refused");
    assert_eq!((head.text_bytes(), head.fields_len()), (0, 0));
}

#[test]
fn one_decoder_reads_head_after_head() {
    let bytes = b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3";
    let (mut decoder, mut head, limits) =
        (HeadDecoder::default(), HttpHead::default(), HttpLimits::default());
    let mut taken = 0;
    for path in [b"/1", b"/2"] {
        let step = decoder.request(&bytes[taken..], &limits, &mut head);
        let Ok(HeadStep::Head { consumed }) = step else { panic!("{step:?}") };
        assert_eq!((consumed, head.path()), (28, &path[..]));
        taken += consumed;
    }
    assert_eq!(decoder.request(&bytes[taken..], &limits, &mut head), Ok(HeadStep::Need(7)));
}
