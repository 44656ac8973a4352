//! The header map, read lazily: nulls, empty strings, bounds, order, and what is not looked at.

use bowline_protocols::bolt::Version;
use bowline_protocols::bolt::fields::{self, Fields, encode_field};
use bowline_protocols::properties::{fields_hold, head_of, step};
use bowline_protocols::testing::request;
use bowline_protocols::{HeadFault, Limits, Span, Step};

fn find<'a>(header: &'a [u8], key: &str) -> Result<Option<&'a [u8]>, HeadFault> {
    Ok(fields::find(header, key.as_bytes(), 256)?.map(|span| span.of(header)))
}

#[test]
fn an_empty_header_has_no_field() {
    assert_eq!(find(b"", "service"), Ok(None));
    assert_eq!(Fields::new(b"", 0).count(), 0);
}

#[test]
fn a_field_is_found_wherever_it_stands() {
    let header = fields::encode(&[("a", "1"), ("service", "s"), ("b", "")]);
    assert_eq!(find(&header, "a"), Ok(Some(&b"1"[..])));
    assert_eq!(find(&header, "service"), Ok(Some(&b"s"[..])));
    assert_eq!(find(&header, "b"), Ok(Some(&b""[..])), "empty is not absent");
    assert_eq!(find(&header, "c"), Ok(None));
}

#[test]
fn keys_are_compared_exactly() {
    let header = fields::encode(&[("service", "s")]);
    for key in ["Service", "servic", "services", ""] {
        assert_eq!(find(&header, key), Ok(None), "{key:?}");
    }
}

#[test]
fn a_null_value_is_absent_and_does_not_shift_what_follows() {
    let mut header = Vec::new();
    encode_field(Some(b"service"), None, &mut header);
    encode_field(Some(b"a"), Some(b"1"), &mut header);
    assert_eq!(find(&header, "service"), Ok(None));
    assert_eq!(find(&header, "a"), Ok(Some(&b"1"[..])));
}

#[test]
fn a_null_key_is_skipped_with_its_value_and_does_not_shift_what_follows() {
    let mut header = Vec::new();
    encode_field(None, Some(b"service"), &mut header);
    encode_field(None, None, &mut header);
    encode_field(Some(b"a"), Some(b"1"), &mut header);
    assert_eq!(find(&header, "service"), Ok(None));
    assert_eq!(find(&header, ""), Ok(None), "null is not the empty key");
    assert_eq!(find(&header, "a"), Ok(Some(&b"1"[..])));
}

#[test]
fn a_null_at_the_very_end_is_whole() {
    let mut header = fields::encode(&[("a", "1")]);
    encode_field(None, None, &mut header);
    assert_eq!(find(&header, "a"), Ok(Some(&b"1"[..])));
    header.extend_from_slice(&(-1i32).to_be_bytes());
    assert_eq!(find(&header, "a"), Err(HeadFault::Truncated), "a key without a value");
}

#[test]
fn a_key_that_is_null_first_and_set_later_is_a_duplicate() {
    let mut header = Vec::new();
    encode_field(Some(b"service"), None, &mut header);
    encode_field(Some(b"service"), Some(b"s"), &mut header);
    assert_eq!(find(&header, "service"), Err(HeadFault::DuplicateField));
}

#[test]
fn a_duplicate_of_what_nobody_asks_for_is_let_through() {
    let header = fields::encode(&[("trace", "1"), ("trace", "2"), ("service", "s")]);
    assert_eq!(find(&header, "service"), Ok(Some(&b"s"[..])));
}

#[test]
fn a_fault_behind_the_field_is_still_seen() {
    let mut header = fields::encode(&[("service", "s")]);
    header.push(0);
    assert_eq!(find(&header, "service"), Err(HeadFault::Truncated));
}

#[test]
fn several_fields_are_found_in_one_walk() {
    let header = fields::encode(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let found = fields::find_each(&header, [b"c".as_slice(), b"x", b"a"], 256).expect("it is sound");
    let text = found.map(|span| span.map(|span| span.of(&header)));
    assert_eq!(text, [Some(&b"3"[..]), None, Some(&b"1"[..])]);
}

#[test]
fn bytes_that_are_no_text_are_found_as_bytes() {
    let mut header = Vec::new();
    encode_field(Some(&[0xff, 0xfe]), Some(&[0, 0xc0]), &mut header);
    let found = fields::find(&header, &[0xff, 0xfe], 1).expect("it is sound");
    assert_eq!(found.map(|span| span.of(&header)), Some(&[0, 0xc0][..]));
}

#[test]
fn the_field_limit_is_the_largest_that_passes() {
    let header = fields::encode(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(fields::find(&header, b"c", 3).map(|span| span.is_some()), Ok(true));
    assert_eq!(fields::find(&header, b"a", 2), Err(HeadFault::TooManyFields));
    assert_eq!(Fields::new(&header, 2).count(), 3, "two fields and a fault");
    fields_hold(&header, 2);
}

#[test]
fn the_head_says_where_in_the_message_a_value_is() {
    for version in [Version::V1, Version::V2 { ver1: 1 }] {
        let bytes = request(version, false, 1, "com.example.Demo:1.0", b"content");
        let Ok(Step::Event { event, .. }) = step(&bytes, &Limits::default()) else { panic!("it is whole") };
        let head = head_of(event);
        let span = head.field(&bytes, b"service", &Limits::default()).expect("sound").expect("present");
        assert_eq!(span.of(&bytes), b"com.example.Demo:1.0");
        let limits = Limits { header_fields_max: 1, ..Limits::default() };
        assert_eq!(head.field(&bytes, b"service", &limits), Err(HeadFault::TooManyFields));
        assert_eq!(span, Span::new(head.frame().header.start + 15, 20));
    }
}
