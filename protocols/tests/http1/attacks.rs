//! One test for each class of attack that the codec decides, numbered as in the list of attacks: request framing (1 to 20)
//! and the rest of HTTP/1 (21 to 37). What is missing here is the gateway's: it needs a connection, a clock or an upstream.

use bowline_protocols::http::HttpFault::{self, *};
use bowline_protocols::http::{
    BodyLength, EscapedSlash, FieldError, HttpHead, HttpLimits, Method, Underscores,
};
use bowline_protocols::http_properties::{Side, read};
use bowline_protocols::http1::encode;

use crate::support::{
    chunked, chunked_within, request, request_with, request_within, response, response_to, same_however_cut,
};

/// Each of these lines, in an otherwise sound POST, is refused like this.
fn lines_are_refused(cases: &[(&str, HttpFault)]) {
    for (lines, fault) in cases {
        assert_eq!(request_with(lines).err(), Some(*fault), "{lines:?}");
    }
}

fn names(head: &HttpHead) -> Vec<&[u8]> {
    head.fields().map(|(name, _)| name).collect()
}

#[test]
fn row_01_length_and_transfer_encoding_together() {
    lines_are_refused(&[
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", LengthAndTransferEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", LengthAndTransferEncoding),
        ("transfer-encoding: CHUNKED\r\nCONTENT-LENGTH: 0\r\n", LengthAndTransferEncoding),
    ]);
}

#[test]
fn row_02_obscured_transfer_encoding() {
    lines_are_refused(&[
        ("Transfer-Encoding: xchunked\r\n", UnknownTransferCoding),
        ("Transfer-Encoding: identity\r\n", UnknownTransferCoding),
        ("Transfer-Encoding: gzip, chunked\r\n", UnknownTransferCoding),
        ("Transfer-Encoding: chunked, identity\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", BadTransferEncoding),
        ("Transfer-Encoding: ,chunked\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked,\r\n", BadTransferEncoding),
        ("Transfer-Encoding:\r\n", BadTransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked;q=1\r\n", BadTransferEncoding),
        ("Transfer-Encoding: \x0bchunked\r\n", BadFieldValue),
        ("Transfer-Encoding: chunked\x0b\r\n", BadFieldValue),
        ("Transfer-Encoding: chun\0ked\r\n", BadFieldValue),
        ("Transfer-Encoding : chunked\r\n", BadFieldName),
        ("Transfer-Encoding\t: chunked\r\n", BadFieldName),
        (" Transfer-Encoding: chunked\r\n", FoldedField),
        ("X: y\r\n Transfer-Encoding: chunked\r\n", FoldedField),
        ("X: y\nTransfer-Encoding: chunked\r\n", BareLf),
        ("X: y\rTransfer-Encoding: chunked\r\n", BadFieldValue),
    ]);
    assert_eq!((UnknownTransferCoding.status(), BadTransferEncoding.status()), (501, 400));
    let blanks =
        request_with("Transfer-Encoding: \t chunked \t\r\n").expect("blanks around a value mean nothing");
    assert_eq!(blanks.body, BodyLength::Chunked);
}

#[test]
fn row_03_two_transfer_encodings() {
    lines_are_refused(&[
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", DuplicateTransferEncoding),
        ("Transfer-Encoding: chunked\r\nX: y\r\ntransfer-encoding: identity\r\n", DuplicateTransferEncoding),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", UnknownTransferCoding),
    ]);
}

#[test]
fn row_04_transfer_encoding_in_http10_and_bodies_without_end() {
    let old = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(old.err(), Some(TransferEncodingIn10));
    let answer = response("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(answer.err(), Some(TransferEncodingIn10));
    for version in ["1.0", "1.1"] {
        let head = request(&format!("POST / HTTP/{version}\r\nHost: h\r\nConnection: close\r\n\r\n"));
        assert_eq!(
            head.expect("it is sound").body,
            BodyLength::None,
            "a request never ends with its connection"
        );
    }
}

#[test]
fn row_05_two_content_lengths() {
    lines_are_refused(&[
        ("Content-Length: 3\r\nContent-Length: 4\r\n", DuplicateContentLength),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", DuplicateContentLength),
        ("Content-Length: 3\r\nX: y\r\ncontent-length: 3\r\n", DuplicateContentLength),
        ("Content-Length: 3, 3\r\n", BadContentLength),
        ("Content-Length: 3,\r\n", BadContentLength),
    ]);
    let answer = response("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n");
    assert_eq!(answer.err(), Some(DuplicateContentLength));
}

#[test]
fn row_06_content_length_syntax() {
    for value in [
        "",
        "+1",
        "-1",
        "0x10",
        "1_0",
        "1 0",
        "1\t0",
        "1,1",
        "1.0",
        "1e3",
        "0b1",
        "\"1\"",
        "a",
        "18446744073709551616",
        "99999999999999999999999",
        "\u{661}",
    ] {
        let lines = format!("Content-Length: {value}\r\n");
        assert_eq!(request_with(&lines).err(), Some(BadContentLength), "{value:?}");
    }
    for (value, length) in [("0", 0), ("007", 7), (" \t7 ", 7), ("18446744073709551615", u64::MAX)] {
        let head = request_with(&format!("Content-Length:{value}\r\n")).expect("it is a number");
        assert_eq!(head.body, BodyLength::Exact(length), "{value:?}");
    }
}

#[test]
fn row_07_chunk_size_syntax() {
    for line in
        ["", "0x1", "+1", "-1", "1_0", " 1", "1 ", "\t1", "1\t", "g", "1g", "1 ;a", "1,", "1.", ";a", "\0"]
    {
        let transcript = chunked(&format!("{line}\r\na\r\n0\r\n\r\n"));
        assert_eq!(transcript.fault, Some(BadChunkSize), "{line:?}");
        assert!(transcript.messages[0].body.is_empty(), "{line:?}");
    }
    let transcript = chunked("00a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n");
    assert_eq!((transcript.fault, transcript.complete()), (None, 1));
    assert_eq!(transcript.messages[0].body, b"01234567890123456789");
}

#[test]
fn row_08_chunk_size_overflow() {
    for line in ["10000000000000000", "fffffffffffffffff", "00000000000000001", &"0".repeat(4_000)] {
        assert_eq!(chunked(&format!("{line}\r\na")).fault, Some(BadChunkSize), "{line}");
    }
    let sum = chunked("1\r\na\r\nffffffffffffffff\r\nb");
    assert_eq!((sum.fault, sum.messages[0].body.as_slice()), (Some(BadChunkSize), &b"a"[..]));
    let most = chunked("ffffffffffffffff\r\nabc");
    assert_eq!((most.fault, most.messages[0].body.as_slice()), (Some(BodyTruncated), &b"abc"[..]));
    let limits = HttpLimits { body_bytes_max: 4, ..HttpLimits::default() };
    assert_eq!(chunked_within("3\r\nabc\r\n2\r\n", &limits).fault, Some(BodyTooLarge));
    assert_eq!(BodyTooLarge.status(), 413);
}

#[test]
fn row_09_chunk_extensions() {
    for extension in [";a", ";a=b", ";a=\"b\"", ";a=\"b;c\\\"d\\\\\";e;f=g", ";a=\"\"", ";a=\"\t \u{e4}\""] {
        let transcript = chunked(&format!("1{extension}\r\na\r\n0{extension}\r\n\r\n"));
        assert_eq!((transcript.fault, transcript.complete()), (None, 1), "{extension}");
        assert_eq!(transcript.messages[0].body, b"a", "{extension}");
    }
    for extension in [
        ";",
        ";;",
        ";a;",
        ";a=",
        ";a=;",
        "; a",
        ";a ",
        ";a =b",
        ";a= b",
        ";a=\"b",
        ";a=\"b\\",
        ";a=\"b\\\"",
        ";a=\"b\"c",
        ";a=b\"c\"",
        ";a=b=c",
        ";a=\"\0\"",
        ";\u{e4}",
        ";a=\"b\rc\"",
        ";a\rb",
    ] {
        let transcript = chunked(&format!("1{extension}\r\na\r\n0\r\n\r\n"));
        assert_eq!(transcript.fault, Some(BadChunkExtension), "{extension:?}");
    }
    assert_eq!(chunked("1;a=\"b\n\"\r\na\r\n").fault, Some(BareLf));
    let limits = HttpLimits { extension_bytes_max: 8, ..HttpLimits::default() };
    let inside = chunked_within("1;a=b\r\na\r\n1;abc\r\na\r\n0\r\n\r\n", &limits);
    assert_eq!((inside.fault, inside.complete()), (None, 1), "all of them together are counted");
    let above = chunked_within("1;a=b\r\na\r\n1;abcd\r\na\r\n0\r\n\r\n", &limits);
    assert_eq!(above.fault, Some(ChunkExtensionsTooLarge));
    let endless = chunked_within(&format!("1;{}", "a".repeat(60)), &limits);
    assert_eq!(endless.fault, Some(ChunkExtensionsTooLarge), "without seeing its end");
}

#[test]
fn row_10_bare_lf() {
    for text in [
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\n\n",
    ] {
        assert_eq!(request(text).err(), Some(BareLf), "{text:?}");
    }
    assert_eq!(response("HTTP/1.1 200 OK\nA: b\r\n\r\n").err(), Some(BareLf));
    assert_eq!(chunked("1\na\r\n0\r\n\r\n").fault, Some(BareLf));
    assert_eq!(chunked("1\r\na\n0\r\n\r\n").fault, Some(BadChunkEnd));
    assert_eq!(chunked("0\r\n\n").fault, Some(BareLf));
    assert_eq!(chunked("0\r\na: b\n\r\n").fault, Some(BareLf));
    assert_eq!(chunked("0\n\n").fault, Some(BareLf));
}

#[test]
fn row_11_bare_cr_nul_and_controls() {
    for control in (0..0x20).chain([0x7f]).map(char::from).filter(|control| !matches!(control, '\t' | '\n')) {
        let value = request_with(&format!("A: b{control}c\r\n"));
        assert_eq!(value.err(), Some(BadFieldValue), "{control:?} in a value");
        let name = request_with(&format!("A{control}b: c\r\n"));
        assert_eq!(name.err(), Some(BadFieldName), "{control:?} in a name");
        let reason = response(&format!("HTTP/1.1 200 O{control}K\r\n\r\n"));
        assert_eq!(reason.err(), Some(BadStatus), "{control:?} in a reason");
        let target = request(&format!("GET /{control} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(target.err(), Some(BadTarget), "{control:?} in a target");
        assert!(chunked(&format!("0\r\nA: b{control}c\r\n\r\n")).fault.is_some(), "{control:?} in a trailer");
    }
    assert_eq!(request("\rGET / HTTP/1.1\r\nHost: h\r\n\r\n").err(), Some(BareCr));
    assert!(request_with("A: b\r\r\n").is_err());
    assert_eq!(chunked("1\r\na\r\r\n0\r\n\r\n").fault, Some(BadChunkEnd));
    let tab = request_with("A: b\tc\r\n").expect("a tab may stand in a value");
    assert_eq!(tab.field(b"a"), Some(&b"b\tc"[..]));
}

#[test]
fn row_12_folded_fields() {
    lines_are_refused(&[
        ("A: b\r\n c\r\n", FoldedField),
        ("A: b\r\n\tc\r\n", FoldedField),
        ("A:\r\n b\r\n", FoldedField),
    ]);
    assert_eq!(response("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n").err(), Some(FoldedField));
    assert_eq!(chunked("0\r\nA: b\r\n c\r\n\r\n").fault, Some(FoldedField));
    assert_eq!(chunked("0\r\n a: b\r\n\r\n").fault, Some(FoldedField));
}

#[test]
fn row_13_whitespace_before_colon_or_first_field_and_lines_without_colon() {
    lines_are_refused(&[
        ("A : b\r\n", BadFieldName),
        ("A\t: b\r\n", BadFieldName),
        ("A\r\n", BadFieldName),
        ("A b\r\n", BadFieldName),
    ]);
    assert_eq!(request("GET / HTTP/1.1\r\n Host: h\r\n\r\n").err(), Some(FoldedField));
    assert_eq!(response("HTTP/1.1 200 OK\r\n\tA: b\r\n\r\n").err(), Some(FoldedField));
    assert_eq!(response("HTTP/1.1 200 OK\r\nA : b\r\n\r\n").err(), Some(BadFieldName));
    assert_eq!(chunked("0\r\nA : b\r\n\r\n").fault, Some(BadFieldName));
}

#[test]
fn row_14_empty_field_name() {
    lines_are_refused(&[
        (": b\r\n", BadFieldName),
        (":\r\n", BadFieldName),
        ("A: b\r\n: c\r\n", BadFieldName),
    ]);
    assert_eq!(chunked("0\r\n: b\r\n\r\n").fault, Some(BadFieldName));
}

#[test]
fn row_15_methods_names_and_versions() {
    let cases = [
        ("GE(T / HTTP/1.1", BadMethod),
        ("G\u{e4}T / HTTP/1.1", BadMethod),
        (" / HTTP/1.1", BadMethod),
        ("GET", BadTarget),
        ("GET ", BadTarget),
        ("GET  / HTTP/1.1", BadTarget),
        ("GET /  HTTP/1.1", BadTarget),
        ("GET / a HTTP/1.1", BadTarget),
        ("GET / HTTP/1.1 ", BadTarget),
        ("GET\t/\tHTTP/1.1", BadMethod),
        ("GET /", BadVersion),
        ("GET / HTTP/0.9", BadVersion),
        ("GET / HTTP/1.32", BadVersion),
        ("GET / HTTP/11.1", BadVersion),
        ("GET / HTTP/1.", BadVersion),
        ("GET / HTTP/1", BadVersion),
        ("GET / HTTP/a.1", BadVersion),
        ("GET / http/1.1", BadVersion),
        ("GET / HTTPS/1.1", BadVersion),
        ("GET / HTTP/1.2", UnknownVersion),
        ("GET / HTTP/2.0", UnknownVersion),
        ("PRI * HTTP/2.0", UnknownVersion),
        ("GET / HTTP/9.9", UnknownVersion),
    ];
    for (line, fault) in cases {
        assert_eq!(request(&format!("{line}\r\nHost: h\r\n\r\n")).err(), Some(fault), "{line:?}");
    }
    assert_eq!((UnknownVersion.status(), BadVersion.status()), (505, 400));
    for name in ["A(b", "A\u{e4}", "A/b", "A\"", "A,b", "A;b", "A=b", "A{", "A@b", "A[b"] {
        assert_eq!(request_with(&format!("{name}: c\r\n")).err(), Some(BadFieldName), "{name}");
    }
    assert_eq!(
        request_within(b"\x16\x03\x01\x02", &HttpLimits::default()).err(),
        Some(BadMethod),
        "not HTTP at all"
    );
}

#[test]
fn row_18_expectations() {
    let cases = [
        ("Content-Length: 3\r\nExpect: 100-continue\r\n", true),
        ("Content-Length: 3\r\nExpect: 100-Continue\r\nexpect: 100-continue\r\n", true),
        ("Transfer-Encoding: chunked\r\nExpect: 100-continue, 100-CONTINUE\r\n", true),
        ("Expect: 100-continue\r\n", false),
        ("Content-Length: 0\r\nExpect: 100-continue\r\n", false),
    ];
    for (lines, expects) in cases {
        let head = request_with(lines).expect("it is sound");
        assert_eq!(head.expects_continue, expects, "{lines:?}");
        assert_eq!(head.field(b"expect"), None, "it is a value, not a field");
    }
    lines_are_refused(&[
        ("Content-Length: 3\r\nExpect: 200-ok\r\n", BadExpectation),
        ("Content-Length: 3\r\nExpect:\r\n", BadExpectation),
        ("Content-Length: 3\r\nExpect: 100-continue, x\r\n", BadExpectation),
        ("Content-Length: 3\r\nExpect: 100-continue\r\nExpect: x\r\n", BadExpectation),
        ("Expect: 100-continuex\r\n", BadExpectation),
    ]);
    assert_eq!(BadExpectation.status(), 417);
    let old = request("POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert!(!old.expect("it is sound").expects_continue, "1.0 knows no 100");
}

#[test]
fn row_19_a_body_goes_with_its_length() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let text = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        let transcript = read(Side::Requests, text.as_bytes(), [], &HttpLimits::default());
        assert_eq!(transcript.messages[0].head.body, BodyLength::Exact(3), "{method}");
        assert_eq!(
            (transcript.complete(), transcript.messages[0].body.as_slice()),
            (1, &b"abc"[..]),
            "{method}"
        );
        let mut out = Vec::new();
        encode::request(&request(&text).expect("it is sound"), true, &mut out);
        assert!(out.ends_with(b"Content-Length: 3\r\n\r\n"), "{method}");
    }
    let connect = request("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(connect.err(), Some(BodyForbidden));
}

#[test]
fn row_20_empty_lines_before_a_request() {
    let head = request("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("one is skipped");
    assert_eq!(head.method(), Method::Get);
    assert_eq!(request("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").err(), Some(EmptyLines));
    assert_eq!(response("\r\nHTTP/1.1 200 OK\r\n\r\n").err(), Some(EmptyLines));
    let flood = b"\r\n".repeat(3);
    assert_eq!(
        request_within(&flood, &HttpLimits::default()).err(),
        Some(EmptyLines),
        "without a request behind"
    );
    let between = b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(read(Side::Requests, between, [], &HttpLimits::default()).complete(), 2);
}

#[test]
fn row_21_upgrade_is_a_value_that_connection_nominates() {
    let upgrade = |lines: &str| {
        let head = request_with(lines).expect("it is sound");
        assert!(head.field(b"upgrade").is_none() && head.field(b"connection").is_none());
        head.upgrade().map(<[u8]>::to_vec)
    };
    assert_eq!(upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\n"), Some(b"websocket".to_vec()));
    assert_eq!(
        upgrade("Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n"),
        Some(b"websocket".to_vec())
    );
    assert_eq!(upgrade("Upgrade: websocket\r\n"), None);
    assert_eq!(upgrade("Connection: Upgrade\r\n"), None);
    let old = request("GET / HTTP/1.0\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(old.expect("it is sound").upgrade(), None, "1.0 cannot switch");
    lines_are_refused(&[
        ("Connection: upgrade\r\nUpgrade: web socket\r\n", BadUpgrade),
        ("Upgrade: a/b/c\r\n", BadUpgrade),
        ("Upgrade: /1\r\n", BadUpgrade),
    ]);
    let switched = response("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(switched.expect("it is sound").upgrade(), Some(&b"websocket"[..]));
}

#[test]
fn row_23_h2c_is_dropped() {
    for protocol in ["h2c", "H2C", "h2", "HTTP/2.0", "h2c, h2", "TLS/1.0"] {
        let lines = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        );
        let head = request_with(&lines).expect("it goes on as HTTP/1.1");
        assert_eq!((head.upgrade(), head.fields_len()), (None, 0), "{protocol}");
    }
    let unnominated = request_with("HTTP2-Settings: AAMAAABkAAQAAP__\r\n").expect("it is sound");
    assert_eq!(unnominated.fields_len(), 0);
    let both = request_with("Connection: upgrade\r\nUpgrade: h2c, websocket\r\n").expect("it is sound");
    assert_eq!(both.upgrade(), Some(&b"websocket"[..]));
}

#[test]
fn row_25_connection_removes_what_is_for_us_and_nothing_that_others_decide_by() {
    let head = request_with(concat!(
        "Connection: X-Mine, X-Forwarded-For, authorization, Host, Cookie, Content-Type, Content-Length\r\n",
        "connection: x-real-ip, Forwarded, Cache-Control\r\n",
        "X-Mine: 1\r\nx-mine: 2\r\nX-Forwarded-For: 3\r\nAuthorization: 4\r\nCookie: 5\r\nContent-Type: 6\r\n",
        "Content-Length: 7\r\nX-Real-IP: 8\r\nForwarded: 9\r\nCache-Control: 10\r\n",
        "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nTE: trailers\r\nProxy: x\r\n",
    ))
    .expect("it is sound");
    let expected: [&[u8]; 7] = [
        b"X-Forwarded-For",
        b"Authorization",
        b"Cookie",
        b"Content-Type",
        b"X-Real-IP",
        b"Forwarded",
        b"Cache-Control",
    ];
    assert_eq!(names(&head), expected);
    assert_eq!((head.authority(), head.body), (&b"h"[..], BodyLength::Exact(7)));
    assert_eq!((head.accepts_trailers, head.keep_alive_timeout_s), (true, Some(5)));
    let answer = response(
        "HTTP/1.1 200 OK\r\nConnection: x\r\nX: 1\r\nSet-Cookie: 2\r\nProxy-Authenticate: 3\r\n\r\n",
    );
    assert_eq!(names(&answer.expect("it is sound")), [b"Set-Cookie"]);
    let many = |count: usize| format!("Connection: {}\r\n", vec!["x"; count].join(","));
    assert!(request_with(&many(16)).is_ok());
    assert_eq!(request_with(&many(17)).err(), Some(BadConnection), "the list has a bound");
    lines_are_refused(&[
        ("Connection: a b\r\n", BadConnection),
        ("Connection: \"close\"\r\n", BadConnection),
    ]);
}

#[test]
fn row_26_host() {
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", MissingHost),
        ("GET http://h/ HTTP/1.1\r\n\r\n", MissingHost),
        ("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", DuplicateHost),
        ("GET / HTTP/1.0\r\nHost: h\r\nhost: i\r\n\r\n", DuplicateHost),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: h:\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: h:65536\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: h:8x\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: h, i\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: h/i\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: h%2ei\r\n\r\n", BadHost),
        ("GET http://h/ HTTP/1.1\r\nHost: i\r\n\r\n", HostMismatch),
        ("GET http://h:80/ HTTP/1.1\r\nHost: h\r\n\r\n", HostMismatch),
        ("GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", BadHost),
        ("GET http://u:p@h/ HTTP/1.1\r\nHost: u:p@h\r\n\r\n", BadHost),
        ("GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", BadHost),
        ("GET http://h:99999/ HTTP/1.1\r\nHost: h:99999\r\n\r\n", BadHost),
        ("CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n", BadHost),
        ("CONNECT h:1 HTTP/1.1\r\nHost: h:2\r\n\r\n", HostMismatch),
        ("CONNECT /a HTTP/1.1\r\nHost: h\r\n\r\n", BadHost),
        ("GET h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", BadTarget),
        ("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", BadTarget),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", BadTarget),
        ("GET a HTTP/1.1\r\nHost: h\r\n\r\n", BadTarget),
    ];
    for (text, fault) in cases {
        assert_eq!(request(text).err(), Some(fault), "{text:?}");
    }
}

#[test]
fn row_27_one_normal_form_of_the_path() {
    let path = |target: &str| {
        let head = request(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"))?;
        Ok(String::from_utf8(head.path_and_query().to_vec()).expect("it is ASCII"))
    };
    let normal = [
        ("/a/./b/../c", "/a/c"),
        ("/a/%2e%2e/b", "/b"),
        ("//a//b", "/a/b"),
        ("/%61;v=1", "/a;v=1"),
        ("/{a}|\"<b>[c]^`", "/%7Ba%7D%7C%22%3Cb%3E%5Bc%5D%5E%60"),
        ("/a%3fb?c=%2f..//", "/a%3Fb?c=%2f..//"),
        ("http://h", "/"),
        ("HTTP://H/a/../b?c", "/b?c"),
        ("http://h?c", "/?c"),
    ];
    for (target, expected) in normal {
        assert_eq!(path(target).as_deref(), Ok(expected), "{target}");
    }
    let refused = [
        ("/..", PathAboveRoot),
        ("/a/../../b", PathAboveRoot),
        ("/%2e%2e/b", PathAboveRoot),
        ("/a/..;/b", PathAboveRoot),
        ("/a%2fb", EscapedSlash),
        ("/a%5Cb", EscapedSlash),
        ("/a\\b", BadPath),
        ("/a%00b", BadPath),
        ("/a%0", BadPath),
        ("/a%zz", BadPath),
        ("/a#b", BadPath),
        ("/a?b#c", BadPath),
        ("/\u{e4}", BadPath),
        ("/?\u{e4}", BadPath),
    ];
    for (target, fault) in refused {
        assert_eq!(path(target), Err(fault), "{target}");
    }
    let keeps = HttpLimits { escaped_slash: EscapedSlash::Keep, ..HttpLimits::default() };
    let kept = request_within(b"GET /a%2f..%5c HTTP/1.1\r\nHost: h\r\n\r\n", &keeps).expect("they are kept");
    assert_eq!(kept.path(), b"/a%2F..%5C");
}

#[test]
fn row_28_underscores_in_names() {
    let text = b"GET / HTTP/1.1\r\nHost: h\r\nX_Real_IP: 1\r\nContent_Length: 5\r\nX-A: 2\r\n\r\n";
    let with = |underscores| request_within(text, &HttpLimits { underscores, ..HttpLimits::default() });
    assert_eq!(names(&with(Underscores::Drop).expect("they are dropped")), [b"X-A"]);
    assert_eq!(with(Underscores::Keep).expect("they are kept").fields_len(), 3);
    assert_eq!(with(Underscores::Refuse).err(), Some(UnderscoreInName));
    let answer = response("HTTP/1.1 200 OK\r\nA_b: 1\r\nContent-Length: 0\r\n\r\n").expect("a response may");
    assert_eq!(answer.fields_len(), 1);
}

#[test]
fn row_29_forwarded_fields_are_no_trailers() {
    let lines = "X-Forwarded-For: 1\r\nx-forwarded-proto: 2\r\nForwarded: 3\r\nX-Real-IP: 4\r\nX-Sum: 5\r\n";
    let transcript = chunked(&format!("1\r\na\r\n0\r\n{lines}\r\n"));
    let trailers = transcript.messages[0].trailers.clone().expect("the message is whole");
    assert_eq!(trailers, [("X-Sum".to_owned(), "5".to_owned())]);
}

#[test]
fn row_30_nothing_that_is_written_can_be_split() {
    let mut head = HttpHead::default();
    head.set_request(b"GET", b"h", b"/").expect("it is sound");
    for bad in ["a\r\nb", "a\nb", "a\rb", "a\0b", "a\x7fb", "a\x1bb"] {
        let bad = bad.as_bytes();
        assert_eq!(head.add_field(b"a", bad), Err(FieldError));
        assert_eq!(head.add_field(bad, b"b"), Err(FieldError));
        assert_eq!(head.set_authority(bad), Err(FieldError));
        assert_eq!(head.set_path_and_query(&[b"/", bad].concat()), Err(FieldError));
        assert_eq!(head.set_upgrade(Some(bad)), Err(FieldError));
        assert_eq!(head.set_request(bad, b"h", b"/"), Err(FieldError));
        assert_eq!(head.set_response(200, bad), Err(FieldError));
    }
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Connection",
        "HOST",
        "Upgrade",
        "TE",
        "Expect",
        "",
        "a b",
        "a:",
    ] {
        assert_eq!(head.add_field(name.as_bytes(), b"1"), Err(FieldError), "{name}");
    }
    for path in ["", "a", "/a b", "/a#b", "/\u{e4}"] {
        assert_eq!(head.set_path_and_query(path.as_bytes()), Err(FieldError), "{path}");
    }
    for status in [0, 99, 600, u16::MAX] {
        assert_eq!(head.set_response(status, b""), Err(FieldError));
    }
    let mut out = Vec::new();
    encode::request(&head, true, &mut out);
    assert_eq!(out, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "what was refused left no trace");
}

#[test]
fn row_31_responses_that_could_be_read_in_two_ways() {
    let length = "Content-Length: 3\r\n";
    let chunks = "Transfer-Encoding: chunked\r\n";
    for status in ["204 N", "100 C", "101 S", "199 X"] {
        for lines in [length, chunks] {
            let head = response(&format!("HTTP/1.1 {status}\r\n{lines}\r\n"));
            assert_eq!(head.err(), Some(BodyForbidden), "{status} {lines}");
        }
    }
    let both = response(&format!("HTTP/1.1 200 OK\r\n{length}{chunks}\r\n"));
    assert_eq!(both.err(), Some(LengthAndTransferEncoding));
    let statuses = ["2000", "20", "2", "", "099", "600", "999", "2x0", "+20", "-20", " 200", "1e2"];
    for status in statuses {
        assert_eq!(response(&format!("HTTP/1.1 {status} OK\r\n\r\n")).err(), Some(BadStatus), "{status:?}");
    }
    let none =
        [(Method::Head, "200 OK", length), (Method::Get, "304 N", length), (Method::Head, "200 OK", chunks)];
    for (method, status, lines) in none {
        let head = response_to(method, &format!("HTTP/1.1 {status}\r\n{lines}\r\n")).expect("it is sound");
        assert_eq!(head.body, BodyLength::None, "{method:?} {status}");
        assert_eq!(head.declared_length, (lines == length).then_some(3));
    }
    let left = b"HTTP/1.1 204 N\r\nConnection: close\r\n\r\nabc";
    assert_eq!(read(Side::Responses(Method::Get), left, [], &HttpLimits::default()).left, 3, "never a body");
}

#[test]
fn row_32_trailers_are_capped_and_cannot_frame_route_or_authenticate() {
    let forbidden = [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Trailer",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Connection",
        "Upgrade",
        "TE",
        "Keep-Alive",
        "Expect",
        "Proxy-Authorization",
        "Content-Type",
        "Content-Encoding",
        "Range",
        "If-Match",
        "Cache-Control",
        "Location",
        "Max-Forwards",
        "WWW-Authenticate",
        "x_real_ip",
    ];
    let lines: String = forbidden.iter().map(|name| format!("{name}: 1\r\n")).collect();
    let transcript = chunked(&format!("0\r\n{lines}Grpc-Status: 0\r\n\r\n"));
    let trailers = transcript.messages[0].trailers.clone().expect("the message is whole");
    assert_eq!(trailers, [("Grpc-Status".to_owned(), "0".to_owned())]);
    assert_eq!(chunked("0\r\n:path: /\r\n\r\n").fault, Some(BadFieldName), "pseudo-headers are no names");
    let limits = HttpLimits { head_bytes_max: 200, fields_max: 3, ..HttpLimits::default() };
    assert_eq!(chunked_within(&format!("0\r\n{}", "A: b\r\n".repeat(4)), &limits).fault, Some(TooManyFields));
    assert_eq!(chunked_within(&format!("0\r\nA: {}", "b".repeat(300)), &limits).fault, Some(HeadTooLarge));
    let most = chunked_within(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(3)), &limits);
    assert_eq!((most.fault, most.complete()), (None, 1));
}

#[test]
fn row_33_sizes_and_counts() {
    let limits =
        HttpLimits { line_bytes_max: 40, head_bytes_max: 300, fields_max: 4, ..HttpLimits::default() };
    let refused = |text: &str| {
        same_however_cut(Side::Requests, text.as_bytes(), &limits);
        read(Side::Requests, text.as_bytes(), [], &limits).fault
    };
    assert_eq!(refused(&"A".repeat(42)), Some(LineTooLong), "without seeing its end");
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(300))), Some(HeadTooLarge));
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(5))), Some(TooManyFields));
    assert_eq!((LineTooLong.status(), HeadTooLarge.status(), TooManyFields.status()), (414, 431, 431));
}

#[test]
fn row_37_what_is_logged_is_a_word_of_ours() {
    for fault in HttpFault::ALL {
        assert!(fault.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{fault}");
    }
    let head = request("GET /%0a%1b[m HTTP/1.1\r\nHost: h\r\n\r\n").expect("it is sound");
    assert_eq!(head.path(), b"/%0A%1B%5Bm", "no escape of a path becomes a control");
}
