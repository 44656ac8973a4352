//! Reaches every fault, every head fault and every limit, and shows that a fault is reported at the
//! first byte that gives it away.

use std::collections::HashSet;

use bowline_protocols::bolt::{Version, fields};
use bowline_protocols::properties::{head_of, step};
use bowline_protocols::testing::request;
use bowline_protocols::{Fault, HeadFault, Limits, Step};

const V1: Version = Version::V1;
const V2: Version = Version::V2 { ver1: 2 };

/// A bad frame: its fault, how many bytes show it, the bytes.
type Bad = (Fault, usize, Vec<u8>);

fn with(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn v1() -> Vec<u8> {
    request(V1, false, 7, "com.example.Demo:1.0", b"content")
}

fn v2(crc: bool) -> Vec<u8> {
    request(V2, crc, 7, "com.example.Demo:1.0", b"content")
}

fn bad_codes() -> Vec<Bad> {
    vec![
        (Fault::UnknownProtocol, 1, with(v1(), 0, &[0])),
        (Fault::UnknownProtocol, 1, with(v1(), 0, &[3])),
        (Fault::UnknownProtocol, 1, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (Fault::UnknownProtocol, 1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        (Fault::UnknownProtocol, 1, [0x16, 3, 1, 2, 0].repeat(8)),
        (Fault::UnknownVersion, 2, with(v2(false), 1, &[0])),
        (Fault::UnknownVersion, 2, with(v2(false), 1, &[3])),
        (Fault::UnknownType, 2, with(v1(), 1, &[3])),
        (Fault::UnknownType, 3, with(v2(false), 2, &[255])),
        (Fault::UnknownCommand, 4, with(v1(), 2, &[0, 3])),
        (Fault::UnknownCommand, 5, with(v2(false), 3, &[0, 101])),
        (Fault::UnknownCommand, 3, with(v1(), 2, &[1, 1])),
        (Fault::MismatchedCommand, 4, with(v1(), 1, &[0, 0, 1])),
        (Fault::MismatchedCommand, 4, with(v1(), 1, &[1, 0, 2])),
        (Fault::MismatchedCommand, 4, with(v1(), 1, &[2, 0, 0])),
        (Fault::MismatchedCommand, 4, with(v1(), 1, &[2, 0, 2])),
        (Fault::MismatchedCommand, 5, with(v2(false), 2, &[0, 0, 100])),
        (Fault::UnknownCommandVersion, 5, with(v1(), 4, &[0])),
        (Fault::UnknownCommandVersion, 6, with(v2(false), 5, &[2])),
        (Fault::ReservedSwitchBit, 12, with(v2(false), 11, &[0x80])),
        (Fault::ReservedSwitchBit, 12, with(v2(true), 11, &[0x81])),
    ]
}

fn bad_lengths() -> Vec<Bad> {
    let heartbeat = |bytes: Vec<u8>| with(bytes, 3, &[0]);
    let goaway = |bytes: Vec<u8>| with(bytes, 3, &[100]);
    let lengths = |class: u16, header: u16, content: u32| {
        let [a, b] = class.to_be_bytes();
        let [c, d] = header.to_be_bytes();
        [&[a, b, c, d][..], &content.to_be_bytes()].concat()
    };
    vec![
        (Fault::HeartbeatWithBody, 16, heartbeat(with(v1(), 14, &lengths(1, 0, 0)))),
        (Fault::HeartbeatWithBody, 18, heartbeat(with(v1(), 14, &lengths(0, 1, 0)))),
        (Fault::HeartbeatWithBody, 22, heartbeat(with(v1(), 14, &lengths(0, 0, 1)))),
        (Fault::HeartbeatWithBody, 13, with(with(v1(), 1, &[0, 0, 0]), 12, &lengths(256, 0, 0))),
        (Fault::GoawayWithBody, 22, goaway(with(v1(), 14, &lengths(0, 0, 1)))),
        (Fault::GoawayWithBody, 15, goaway(with(v1(), 14, &lengths(u16::MAX, u16::MAX, u32::MAX)))),
        (Fault::HeadTooLarge, 17, with(v1(), 14, &lengths(u16::MAX, 256, 0))),
        (Fault::HeadTooLarge, 17, with(v1(), 14, &lengths(u16::MAX, u16::MAX, u32::MAX))),
        (Fault::ContentTooLarge, 22, with(v1(), 14, &lengths(0, 0, (16 << 20) + 1))),
        (Fault::ContentTooLarge, 19, with(v1(), 14, &lengths(0, 0, u32::MAX))),
        (Fault::ContentTooLarge, 21, with(v2(true), 16, &lengths(0, 0, 1 << 31))),
    ]
}

fn bad_crcs() -> Vec<Bad> {
    let sound = v2(true);
    let damaged = |at: usize| with(sound.clone(), at, &[sound[at] ^ 0x10]);
    let len = sound.len();
    [6, 24, len - 5, len - 4, len - 1].into_iter().map(|at| (Fault::CrcMismatch, len, damaged(at))).collect()
}

fn bad_frames() -> Vec<Bad> {
    [bad_codes(), bad_lengths(), bad_crcs()].concat()
}

#[test]
fn every_fault_is_reached_at_the_first_byte_that_shows_it() {
    let limits = Limits::default();
    for (fault, shown_by, bytes) in bad_frames() {
        assert_eq!(step(&bytes, &limits), Err(fault), "{bytes:02x?}");
        for len in 0..bytes.len() {
            let early = step(&bytes[..len], &limits);
            assert_eq!(early.is_err(), len >= shown_by, "{fault} after {len} of {bytes:02x?}: {early:?}");
        }
    }
    let reached: HashSet<_> = bad_frames().into_iter().map(|(fault, ..)| fault).collect();
    assert_eq!(reached, HashSet::from(Fault::ALL));
}

#[test]
fn a_heartbeat_declares_nothing_whatever_the_limits() {
    let limits = Limits { content_bytes_max: 0, class_header_bytes_max: 0, ..Limits::default() };
    let oversized = with(with(v1(), 3, &[0]), 18, &u32::MAX.to_be_bytes());
    assert_eq!(step(&oversized, &limits), Err(Fault::HeartbeatWithBody));
}

#[test]
fn the_content_limit_is_the_largest_that_passes() {
    let content = vec![7; 1_000];
    for version in [V1, V2] {
        let bytes = request(version, version == V2, 1, "a", &content);
        let under = |content_bytes_max| step(&bytes, &Limits { content_bytes_max, ..Limits::default() });
        assert!(matches!(under(1_000), Ok(Step::Event { .. })));
        assert_eq!(under(999), Err(Fault::ContentTooLarge));
    }
}

#[test]
fn the_content_limit_never_passes_what_java_reads_as_negative() {
    let limits = Limits { content_bytes_max: u32::MAX, ..Limits::default() };
    let declared = |content: u32| step(&with(v1(), 18, &content.to_be_bytes()), &limits);
    assert!(matches!(declared(i32::MAX as u32), Ok(Step::Need(_))));
    assert_eq!(declared(1 << 31), Err(Fault::ContentTooLarge));
}

#[test]
fn the_class_and_header_limit_is_the_largest_that_passes() {
    let declared = |class: u16, header: u16| {
        let bytes = with(with(v1(), 14, &class.to_be_bytes()), 16, &header.to_be_bytes());
        step(&bytes, &Limits { class_header_bytes_max: 40_000, ..Limits::default() })
    };
    assert!(matches!(declared(20_000, 20_000), Ok(Step::Need(_))));
    assert!(matches!(declared(40_000, 0), Ok(Step::Need(_))));
    assert_eq!(declared(20_000, 20_001), Err(Fault::HeadTooLarge));
    assert_eq!(declared(0, 40_001), Err(Fault::HeadTooLarge));
}

#[test]
fn without_verification_a_damaged_frame_passes_and_stays_damaged() {
    let lenient = Limits { crc_verify: false, ..Limits::default() };
    for (fault, _, bytes) in bad_crcs() {
        let Ok(Step::Event { event, consumed }) = step(&bytes, &lenient) else { panic!("it passes") };
        assert_eq!(consumed, bytes.len(), "the trailer is consumed");
        let mut forwarded = bytes.clone();
        bowline_protocols::bolt::frame::rewrite_id(&mut forwarded, head_of(event).frame(), 99);
        assert_eq!(step(&forwarded, &Limits::default()), Err(fault), "the receiver sees the damage");
    }
}

/// A message that is whole but cannot be used, and where that shows: in the head or in its fields.
fn bad_heads() -> Vec<(HeadFault, Vec<u8>)> {
    let fields = |fields: &[(&str, &str)]| fields::encode(fields);
    let cut = |mut header: Vec<u8>, len: usize| {
        header.truncate(len);
        header
    };
    let good = fields(&[("service", "a"), ("b", "c")]);
    let mut bad = vec![
        (HeadFault::NegativeLength, [&good[..], &(-2i32).to_be_bytes()].concat()),
        (HeadFault::NegativeLength, i32::MIN.to_be_bytes().to_vec()),
        (HeadFault::Truncated, [&good[..], &i32::MAX.to_be_bytes()].concat()),
        (HeadFault::TooManyFields, fields(&[("k", "v"); 257])),
        (HeadFault::DuplicateField, fields(&[("service", "a"), ("service", "b")])),
    ];
    let ends = [16, 21];
    let odd = (1..good.len()).filter(|len| !ends.contains(len));
    bad.extend(odd.map(|len| (HeadFault::Truncated, cut(good.clone(), len))));
    bad
}

#[test]
fn every_head_fault_ends_the_message_and_not_the_connection() {
    let limits = Limits::default();
    let mut reached = HashSet::new();
    for (fault, header) in bad_heads() {
        let bytes = message_with(b"", &header);
        let Ok(Step::Event { event, consumed }) = step(&bytes, &limits) else { panic!("it is complete") };
        let head = head_of(event);
        assert_eq!((consumed, head.fault), (bytes.len(), None));
        assert_eq!(head.field(&bytes, b"service", &limits), Err(fault), "{header:02x?}");
        reached.insert(fault);
    }
    for (fault, class, header) in [
        (HeadFault::ClassTooLong, 32_768, 0),
        (HeadFault::ClassTooLong, 65_535, 0),
        (HeadFault::HeaderTooLong, 32_767, 32_768),
    ] {
        let bytes = message_with(&vec![b'c'; class], &vec![0; header]);
        let Ok(Step::Event { event, consumed }) = step(&bytes, &limits) else { panic!("it is complete") };
        assert_eq!((consumed, head_of(event).fault), (bytes.len(), Some(fault)));
        reached.insert(fault);
    }
    assert_eq!(reached, HashSet::from(HeadFault::ALL));
}

#[test]
fn the_longest_class_and_header_that_java_can_read_pass() {
    let bytes = message_with(&[b'c'; 32_767], &[0; 32_767]);
    let Ok(Step::Event { event, .. }) = step(&bytes, &Limits::default()) else { panic!("it is complete") };
    assert_eq!(head_of(event).fault, None);
}

/// A v1 request whose class and header may be longer than an encoder would write.
fn message_with(class: &[u8], header: &[u8]) -> Vec<u8> {
    let mut fixed = v1();
    fixed.truncate(22);
    let fixed = with(fixed, 14, &(class.len() as u16).to_be_bytes());
    let fixed = with(fixed, 16, &(header.len() as u16).to_be_bytes());
    let fixed = with(fixed, 18, &3u32.to_be_bytes());
    [&fixed[..], class, header, b"abc"].concat()
}
