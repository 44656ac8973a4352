//! The codec under its neutral contract, as a machine of the gateway uses it: deadlines, kinds,
//! forwarding, limits of the encoder, freezing and thawing.

use bowline_protocols::bolt::{self, EncodeFault, RequestParts, Version, encode_request};
use bowline_protocols::codec::{Frozen, UnknownState};
use bowline_protocols::properties::{head_of, step};
use bowline_protocols::testing::{VERSIONS, request, response};
use bowline_protocols::{BoltCodec, Codec, Event, HeadKind, Item, Limits, Step};

/// What a client and its gateway hold: bytes that arrive, and a codec behind the trait.
fn next(codec: &mut dyn Codec, bytes: &mut Vec<u8>) -> Option<(Event, Vec<u8>)> {
    match codec.decode(bytes).expect("no fault in these bytes") {
        Step::Need(_) => None,
        Step::Event { event, consumed } => Some((event, bytes.drain(..consumed).collect())),
    }
}

#[test]
fn a_gateway_swaps_ids_there_and_back() {
    for (version, crc) in VERSIONS {
        let limits = Limits::default();
        let mut downstream: Box<dyn Codec> = Box::new(BoltCodec::new(Version::V1, limits));
        let mut upstream: Box<dyn Codec> = Box::new(BoltCodec::new(version, limits));
        let sent = request(version, crc, 0xdead_beef, "s", b"ask");
        let (event, mut message) = next(&mut *downstream, &mut sent.clone()).expect("it is whole");
        let head = head_of(event);
        upstream.encode(Item::Message { head: &head, bytes: &mut message, id: 1 });
        assert_eq!(message, request(version, crc, 1, "s", b"ask"), "as if sent with our id");

        let mut answered = response(version, crc, 1, 0, b"tell");
        let (event, mut message) = next(&mut *upstream, &mut answered).expect("it is whole");
        let answer = head_of(event);
        assert_eq!((answer.kind, answer.id), (HeadKind::Response, 1));
        downstream.encode(Item::Message { head: &answer, bytes: &mut message, id: head.id });
        assert_eq!(message, response(version, crc, 0xdead_beef, 0, b"tell"));
    }
}

#[test]
fn versions_mix_on_one_connection() {
    let mut codec = BoltCodec::new(Version::V1, Limits::default());
    let mut stream: Vec<u8> =
        VERSIONS.iter().flat_map(|(version, crc)| request(*version, *crc, 1, "s", b"c")).collect();
    for (version, crc) in VERSIONS {
        let (event, _) = next(&mut codec, &mut stream).expect("four frames");
        assert_eq!((head_of(event).frame().version, head_of(event).frame().crc), (version, crc));
    }
    assert_eq!(next(&mut codec, &mut stream), None);
}

#[test]
fn peek_says_id_and_length_once_the_fixed_part_is_there() {
    for (version, crc) in VERSIONS {
        for bytes in [request(version, crc, 7, "s", &[1; 500]), response(version, crc, 7, 0, &[1; 500])] {
            let codec = BoltCodec::new(Version::V1, Limits::default());
            let fixed = head_of(event_in(&bytes)).frame().fixed_bytes();
            for len in 0..bytes.len() {
                let peeked = codec.peek(&bytes[..len]).expect("no fault");
                assert_eq!(peeked.is_some(), len >= fixed, "{len} of {fixed}");
                let Some(head) = peeked else { continue };
                assert_eq!((head.id, head.declared_bytes(), head.complete), (7, bytes.len(), false));
            }
            assert!(codec.peek(&bytes).expect("no fault").expect("all is there").complete);
        }
    }
}

fn event_in(bytes: &[u8]) -> Event {
    match step(bytes, &Limits::default()) {
        Ok(Step::Event { event, .. }) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peek_does_not_change_the_version() {
    let codec = BoltCodec::new(Version::V1, Limits::default());
    codec.peek(&request(Version::V2 { ver1: 2 }, true, 1, "s", b"")).expect("no fault");
    assert_eq!(codec.version(), Version::V1);
}

#[test]
fn only_a_positive_timeout_is_a_deadline() {
    for (timeout_ms, deadline_ms) in
        [(-1, None), (i32::MIN, None), (0, None), (1, Some(1)), (i32::MAX, Some(i32::MAX as u32))]
    {
        let mut out = Vec::new();
        encode_request(&RequestParts { timeout_ms, ..parts() }, &mut out).expect("it is short");
        assert_eq!(head_of(event_in(&out)).deadline_ms, deadline_ms, "{timeout_ms}");
    }
    let answer = response(Version::V1, false, 1, 7, b"");
    assert_eq!(head_of(event_in(&answer)).deadline_ms, None, "an answer has none");
}

#[test]
fn a_oneway_is_told_apart() {
    let mut out = Vec::new();
    encode_request(&RequestParts { oneway: true, ..parts() }, &mut out).expect("it is short");
    assert_eq!(head_of(event_in(&out)).kind, HeadKind::Oneway);
}

#[test]
fn a_status_that_nobody_knows_is_forwarded() {
    let bytes = response(Version::V1, false, 1, 0xffff, b"");
    assert_eq!(head_of(event_in(&bytes)).frame().status, 0xffff);
}

#[test]
fn a_switch_without_ver1_2_has_no_trailer() {
    let mut bytes = request(Version::V2 { ver1: 1 }, false, 1, "s", b"c");
    bytes[11] = 1;
    let head = head_of(event_in(&bytes));
    assert!(!head.frame().crc);
    assert_eq!((head.declared_bytes(), head.frame().switch), (bytes.len(), 1));
}

#[test]
#[should_panic(expected = "the bytes are the frame's")]
fn bytes_of_another_frame_are_our_own_mistake() {
    let bytes = request(Version::V1, false, 1, "s", b"c");
    let frame = *head_of(event_in(&bytes)).frame();
    bolt::frame::rewrite_id(&mut bytes[1..].to_vec(), &frame, 2);
}

#[test]
fn the_encoder_refuses_what_a_signed_reader_would_misread() {
    let (longest, longer) = (vec![0; 32_767], vec![0; 32_768]);
    let fault = |parts: &RequestParts<'_>| {
        let mut out = b"before".to_vec();
        let fault = encode_request(parts, &mut out).err();
        assert!(out == b"before" || fault.is_none(), "nothing is written on a fault");
        fault
    };
    assert_eq!(fault(&RequestParts { class: &longest, header: &longest, ..parts() }), None);
    assert_eq!(fault(&RequestParts { class: &longer, ..parts() }), Some(EncodeFault::TooLong));
    assert_eq!(fault(&RequestParts { header: &longer, ..parts() }), Some(EncodeFault::TooLong));
}

#[test]
fn the_encoder_refuses_content_that_a_signed_reader_would_misread() {
    // Zeros that nobody reads take no memory, only addresses.
    let content = vec![0; 1 << 31];
    let mut out = Vec::new();
    let done = encode_request(&RequestParts { content: &content, ..parts() }, &mut out);
    assert_eq!((done, out.capacity()), (Err(EncodeFault::TooLong), 0));
}

#[test]
fn our_own_mistakes_say_what_they_are() {
    assert!(EncodeFault::TooLong.to_string().contains("longer than its length field"));
    assert!(EncodeFault::CrcNotPossible.to_string().contains("no CRC"));
    assert!(UnknownState.to_string().contains("unknown format"));
}

#[test]
fn the_encoder_refuses_a_crc_where_there_is_none() {
    for (version, possible) in VERSIONS.map(|(version, _)| (version, version == Version::V2 { ver1: 2 })) {
        let done = encode_request(&RequestParts { version, crc: true, ..parts() }, &mut Vec::new());
        assert_eq!(done, if possible { Ok(()) } else { Err(EncodeFault::CrcNotPossible) });
    }
}

#[test]
fn a_codec_comes_back_from_its_frozen_bytes() {
    for (version, crc) in VERSIONS {
        let mut frozen = BoltCodec::new(Version::V1, Limits::default());
        frozen.decode(&mut request(version, crc, 1, "s", b"")).expect("it is sound");
        let bytes = frozen.freeze().to_bytes();
        let mut thawed = BoltCodec::new(Version::V1, Limits::default());
        assert_eq!(thawed.thaw(Frozen::from_bytes(bytes)), Ok(()));
        assert_eq!(thawed.version(), version);
        assert_eq!(thawed.freeze(), frozen.freeze());
    }
}

#[test]
fn a_codec_frozen_between_two_pieces_of_a_frame_goes_on() {
    let bytes = request(Version::V2 { ver1: 2 }, true, 6, "s", b"content");
    for at in 0..bytes.len() {
        let mut before = BoltCodec::new(Version::V1, Limits::default());
        assert!(matches!(before.decode(&mut bytes[..at].to_vec()), Ok(Step::Need(_))));
        let mut after = BoltCodec::new(Version::V2 { ver1: 1 }, Limits::default());
        after.thaw(before.freeze()).expect("it is ours");
        assert_eq!(after.version(), Version::V1, "a piece of a frame does not count yet");
        assert_eq!(after.decode(&mut bytes.clone()), step(&bytes, &Limits::default()));
    }
}

#[test]
fn these_bytes_stay_readable_by_later_versions() {
    let mut codec = BoltCodec::new(Version::V1, Limits::default());
    for (bytes, version) in [
        ([1, 1, 0, 0, 0, 0, 0, 0], Version::V1),
        ([1, 2, 1, 0, 0, 0, 0, 0], Version::V2 { ver1: 1 }),
        ([1, 2, 2, 0, 0, 0, 0, 0], Version::V2 { ver1: 2 }),
    ] {
        assert_eq!(codec.thaw(Frozen::from_bytes(bytes)), Ok(()));
        assert_eq!((codec.version(), codec.freeze().to_bytes()), (version, bytes));
    }
}

#[test]
fn a_foreign_state_is_refused_and_changes_nothing() {
    let mut codec = BoltCodec::new(Version::V2 { ver1: 2 }, Limits::default());
    for bytes in [
        [0, 1, 0, 0, 0, 0, 0, 0],
        [2, 1, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 2, 0, 0, 0, 0, 0, 0],
        [1, 2, 3, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 1],
    ] {
        assert_eq!(codec.thaw(Frozen::from_bytes(bytes)), Err(UnknownState), "{bytes:?}");
        assert_eq!(codec.version(), Version::V2 { ver1: 2 });
    }
}

fn parts() -> RequestParts<'static> {
    RequestParts {
        version: Version::V1,
        oneway: false,
        id: 1,
        codec: 1,
        timeout_ms: 0,
        crc: false,
        class: b"",
        header: b"",
        content: b"",
    }
}
