//! Every limit, on both sides of it: the largest that is taken, and the first byte that is too many, which is refused where
//! it stands.

use bowline_protocols::http::limits::FIELDS_CEILING;
use bowline_protocols::http::{HttpFault, HttpHead, HttpLimits, Method};
use bowline_protocols::http1::{HeadDecoder, HeadStep};

use crate::support::request_within;

/// How many bytes are offered, one after the other, before the decoder refuses.
fn refused_after(bytes: &[u8], limits: &HttpLimits) -> Option<(usize, HttpFault)> {
    let (mut decoder, mut head) = (HeadDecoder::default(), HttpHead::default());
    for len in 0..=bytes.len() {
        match decoder.request(&bytes[..len], limits, &mut head) {
            Ok(HeadStep::Need(need)) => assert_eq!(need, len + 1),
            Ok(HeadStep::Head { .. }) => return None,
            Err(fault) => return Some((len, fault)),
        }
    }
    None
}

#[test]
fn the_line_ends_at_its_limit() {
    let line = "GET /aaaaaaaaaa HTTP/1.1";
    let text = format!("{line}\r\nHost: h\r\n\r\n");
    let with = |line_bytes_max| HttpLimits { line_bytes_max, ..HttpLimits::default() };
    assert!(request_within(text.as_bytes(), &with(line.len() as u32)).is_ok());
    let limits = with(line.len() as u32 - 1);
    assert_eq!(refused_after(text.as_bytes(), &limits), Some((line.len() + 1, HttpFault::LineTooLong)));
    assert_eq!(refused_after(&[b'A'; 100], &limits), Some((line.len() + 1, HttpFault::LineTooLong)));
}

#[test]
fn the_head_ends_at_its_limit_and_an_empty_line_before_it_is_not_counted() {
    let text = "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
    let with = |head_bytes_max| HttpLimits { head_bytes_max, ..HttpLimits::default() };
    for before in ["", "\r\n"] {
        let bytes = format!("{before}{text}");
        assert!(request_within(bytes.as_bytes(), &with(text.len() as u32)).is_ok());
        let limits = with(text.len() as u32 - 1);
        let expected = Some((bytes.len() - 1, HttpFault::HeadTooLarge));
        assert_eq!(refused_after(bytes.as_bytes(), &limits), expected);
    }
}

#[test]
fn a_head_limit_below_the_line_limit_holds_for_the_line_too() {
    let limits = HttpLimits { head_bytes_max: 10, ..HttpLimits::default() };
    assert_eq!(refused_after(&[b'A'; 100], &limits), Some((10, HttpFault::HeadTooLarge)));
}

#[test]
fn fields_are_counted_as_they_come() {
    let start = "GET / HTTP/1.1\r\nHost: h\r\n";
    let with = |fields_max| HttpLimits { fields_max, ..HttpLimits::default() };
    let whole = format!("{start}{}\r\n", "A: b\r\n".repeat(9));
    assert!(request_within(whole.as_bytes(), &with(10)).is_ok());
    let more = format!("{start}{}", "A: b\r\n".repeat(50));
    let at_eleventh = start.len() + 10 * "A: b\r\n".len();
    assert_eq!(refused_after(more.as_bytes(), &with(10)), Some((at_eleventh, HttpFault::TooManyFields)));
    let none = with(0);
    assert_eq!(refused_after(start.as_bytes(), &none), Some((start.len(), HttpFault::TooManyFields)));
}

#[test]
fn no_limit_on_fields_goes_above_the_ceiling() {
    let limits = HttpLimits { fields_max: u32::MAX, ..HttpLimits::default() };
    let with = |fields: u32| {
        let fields = "A: b\r\n".repeat(fields as usize - 1);
        refused_after(format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes(), &limits)
    };
    assert_eq!(with(FIELDS_CEILING), None);
    assert_eq!(with(FIELDS_CEILING + 1).map(|(_, fault)| fault), Some(HttpFault::TooManyFields));
}

#[test]
fn a_declared_length_is_compared_with_the_limit_on_bodies() {
    let limits = HttpLimits { body_bytes_max: 5, ..HttpLimits::default() };
    let with = |length: u64| format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    assert!(request_within(with(5).as_bytes(), &limits).is_ok());
    assert_eq!(request_within(with(6).as_bytes(), &limits).err(), Some(HttpFault::BodyTooLarge));
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n";
    let mut head = HttpHead::default();
    HeadDecoder::default().response(answer, Method::Head, &limits, &mut head).expect("this body never comes");
    assert_eq!(head.declared_length, Some(6));
}

#[test]
fn extreme_limits_do_no_harm() {
    let text = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let most = HttpLimits {
        line_bytes_max: u32::MAX,
        head_bytes_max: u32::MAX,
        fields_max: u32::MAX,
        extension_bytes_max: u32::MAX,
        body_bytes_max: u64::MAX,
        ..HttpLimits::default()
    };
    assert!(request_within(text, &most).is_ok());
    let least = HttpLimits { line_bytes_max: 0, head_bytes_max: 0, fields_max: 0, ..HttpLimits::default() };
    assert!(refused_after(text, &least).is_some());
}
