//! The properties of the codec for bytes that nobody thought of: arbitrary ones, sound messages, sound messages that were
//! damaged, and words of the grammar in any order; cut anywhere, under any limits.

use bowline_protocols::http::{BodyLength, EscapedSlash, HttpLimits, Method, Underscores};
use bowline_protocols::http_properties::{Side, body_holds, path_holds, reading_holds};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Limits that short input meets on both sides.
fn limits() -> impl Strategy<Value = HttpLimits> {
    let sizes = (0u32..200, 0u32..600, 0u32..12, 0u32..30, 0u64..100);
    let choices = (select(SLASHES.to_vec()), select(UNDERSCORES.to_vec()));
    (any::<bool>(), sizes, choices).prop_map(|(is_default, sizes, (escaped_slash, underscores))| {
        if is_default {
            return HttpLimits { escaped_slash, underscores, ..HttpLimits::default() };
        }
        let (line_bytes_max, head_bytes_max, fields_max, extension_bytes_max, body_bytes_max) = sizes;
        HttpLimits {
            line_bytes_max,
            head_bytes_max,
            fields_max,
            extension_bytes_max,
            body_bytes_max,
            escaped_slash,
            underscores,
        }
    })
}

fn sides() -> impl Strategy<Value = Side> {
    select(vec![
        Side::Requests,
        Side::Responses(Method::Get),
        Side::Responses(Method::Head),
        Side::Responses(Method::Connect),
    ])
}

/// Pieces of messages, in any order.
fn words() -> impl Strategy<Value = Vec<u8>> {
    vec(select(WORDS.to_vec()), 0..30).prop_map(|words| words.concat().into_bytes())
}

/// Whole messages, one after the other, as a peer may send them.
fn messages(side: Side) -> impl Strategy<Value = Vec<u8>> {
    let lines: &[&str] = if side == Side::Requests { &REQUEST_LINES } else { &STATUS_LINES };
    let fields = vec(select(FIELDS.to_vec()), 0..5);
    let message = (select(lines.to_vec()), fields, select(BODIES.to_vec()));
    vec(message, 1..4).prop_map(|messages| {
        let mut out = String::new();
        for (line, fields, body) in messages {
            out.push_str(&[line, &fields.concat(), body].concat());
        }
        out.into_bytes()
    })
}

fn damaged(side: Side) -> impl Strategy<Value = Vec<u8>> {
    (messages(side), vec((any::<Index>(), any::<u8>()), 0..3)).prop_map(|(mut bytes, damages)| {
        for (at, byte) in damages {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(0usize..2_000, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn arbitrary_bytes_are_read_the_same_however_cut(
        side in sides(), bytes in vec(any::<u8>(), 0..300), cuts in cuts(), limits in limits(),
    ) {
        reading_holds(side, &bytes, &cuts, &limits);
    }

    #[test]
    fn words_in_any_order_are_read_the_same_however_cut(
        side in sides(), bytes in words(), cuts in cuts(), limits in limits(),
    ) {
        reading_holds(side, &bytes, &cuts, &limits);
    }

    #[test]
    fn requests_are_read_the_same_however_cut(
        bytes in damaged(Side::Requests), cuts in cuts(), limits in limits(),
    ) {
        reading_holds(Side::Requests, &bytes, &cuts, &limits);
    }

    #[test]
    fn responses_are_read_the_same_however_cut(
        method in select(vec![Method::Get, Method::Head, Method::Connect]),
        bytes in damaged(Side::Responses(Method::Get)), cuts in cuts(), limits in limits(),
    ) {
        reading_holds(Side::Responses(method), &bytes, &cuts, &limits);
    }

    #[test]
    fn bodies_are_read_the_same_however_cut(
        bytes in prop_oneof![words(), vec(any::<u8>(), 0..200)], cuts in cuts(), limits in limits(), length in 0u64..50,
    ) {
        for length in [BodyLength::Chunked, BodyLength::Exact(length), BodyLength::UntilClose] {
            body_holds(length, &bytes, &cuts, &limits);
        }
    }

    #[test]
    fn a_normal_path_is_its_own_normal_form(
        raw in vec(select(SEGMENTS.to_vec()), 0..12), slash in select(SLASHES.to_vec()),
    ) {
        let raw = format!("/{}", raw.concat());
        path_holds(raw.as_bytes(), slash);
    }
}

const SLASHES: [EscapedSlash; 2] = [EscapedSlash::Refuse, EscapedSlash::Keep];
const UNDERSCORES: [Underscores; 3] = [Underscores::Drop, Underscores::Refuse, Underscores::Keep];
const SEGMENTS: [&str; 18] = [
    "/", "//", ".", "..", "%2e", "%2E", "%2f", "%5c", "%25", "a", "%61", ";", "?", "{", "%7b", "%c3%a4", "b",
    "%",
];
const WORDS: [&str; 34] = [
    "GET ",
    "POST ",
    "CONNECT ",
    "/",
    "/a?b",
    "*",
    "http://h",
    " ",
    " HTTP/1.1",
    " HTTP/1.0",
    "HTTP/1.1 ",
    "200",
    "204",
    "101",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    "Host: h",
    "Host: ",
    "Content-Length: ",
    "Transfer-Encoding: ",
    "chunked",
    "Connection: ",
    "close",
    "upgrade",
    "Upgrade: x",
    "Expect: 100-continue",
    "0",
    "5",
    "abcde",
    ";a=\"b\"",
    ": ",
    "A_b: c",
];
const REQUEST_LINES: [&str; 7] = [
    "GET / HTTP/1.1\r\nHost: h\r\n",
    "POST /a/../b?c HTTP/1.1\r\nHost: H:1\r\n",
    "GET /old HTTP/1.0\r\n",
    "\r\nOPTIONS * HTTP/1.1\r\nHost: h\r\n",
    "GET http://h/%7E HTTP/1.1\r\nHost: h\r\n",
    "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n",
    "BREW /a%2fb HTTP/1.1\r\nHost: [::1]\r\n",
];
const STATUS_LINES: [&str; 7] = [
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n",
    "HTTP/1.1 204\r\n",
    "HTTP/1.0 200 \r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 101 Switching\r\n",
    "HTTP/1.1 503 \u{e4}\r\n",
];
const FIELDS: [&str; 14] = [
    "A: b\r\n",
    "a_b: c\r\n",
    "Empty:\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, a\r\n",
    "Connection: upgrade\r\n",
    "Upgrade: websocket\r\n",
    "Upgrade: h2c, x/1\r\n",
    "Expect: 100-continue\r\n",
    "TE: trailers\r\n",
    "Keep-Alive: timeout=5\r\n",
    "X-Forwarded-For: 1\r\n",
    "Content-Type: \u{e4}\r\n",
    "Proxy-Authorization: x\r\n",
];
const BODIES: [&str; 7] = [
    "\r\n",
    "Content-Length: 0\r\n\r\n",
    "Content-Length: 5\r\n\r\nabcde",
    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nSum: 1\r\nHost: x\r\n\r\n",
    "Transfer-Encoding: gzip, chunked\r\n\r\n",
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
];
