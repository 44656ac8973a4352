//! What the gateway says by itself: error replies, answers to heartbeats, heartbeats and goaways, in
//! the version of what caused them, and silence where nothing is owed.

use bowline_protocols::bolt::{Kind, Status, Version};
use bowline_protocols::properties::{head_of, step};
use bowline_protocols::testing::{VERSIONS, request, response};
use bowline_protocols::{BoltCodec, CONTROL_BYTES_MAX, Codec, Event, Head, Limits, Refusal, Step};

use crate::golden;

const OTHER: Version = Version::V2 { ver1: 1 };

fn head(bytes: &[u8]) -> Head {
    match step(bytes, &Limits::default()) {
        Ok(Step::Event { event, consumed }) if consumed == bytes.len() => head_of(event),
        other => panic!("{other:?} from {bytes:02x?}"),
    }
}

/// A codec that has seen another version than the causing frame's, so that mixing them up would show.
fn codec() -> BoltCodec {
    BoltCodec::new(OTHER, Limits::default())
}

fn refuse(cause: &Head, bolt: Status) -> Vec<u8> {
    let mut out = [0xee; CONTROL_BYTES_MAX];
    let len = codec().refuse(cause, Refusal { bolt }, &mut out);
    out[..len].to_vec()
}

#[test]
fn an_error_reply_of_v1_is_these_bytes() {
    let cause = head(&request(Version::V1, false, 0x0102_0304, "s", b""));
    let expected = [1, 0, 0, 2, 1, 1, 2, 3, 4, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(refuse(&cause, Status::NoProcessor), expected);
}

#[test]
fn an_error_reply_of_v2_is_these_bytes() {
    let cause = head(&request(Version::V2 { ver1: 1 }, false, 0x0102_0304, "s", b""));
    let expected = [2, 1, 0, 0, 2, 1, 1, 2, 3, 4, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(refuse(&cause, Status::ConnectionClosed), expected);
}

#[test]
fn an_error_reply_of_v2_with_crc_is_these_bytes() {
    let cause = head(&request(Version::V2 { ver1: 2 }, true, 0x0102_0304, "s", b""));
    let body = [2, 2, 0, 0, 2, 1, 1, 2, 3, 4, 1, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    let reply = refuse(&cause, Status::Timeout);
    assert_eq!(reply[..22], body);
    assert_eq!(reply[22..], bowline_protocols::bolt::crc::of(&body).to_be_bytes());
}

#[test]
fn an_error_reply_has_the_version_id_codec_and_crc_of_its_cause() {
    for (version, crc) in VERSIONS {
        for status in Status::ALL {
            let cause = head(&request(version, crc, 77, "s", b"content"));
            let reply = head(&refuse(&cause, status));
            let frame = reply.frame();
            assert_eq!((frame.version, frame.crc, frame.codec), (version, crc, cause.frame().codec));
            assert_eq!((frame.kind, frame.id, frame.status), (Kind::Response, 77, status.code()));
            assert!(frame.class.is_empty() && frame.header.is_empty() && frame.content.is_empty());
        }
    }
}

#[test]
fn a_switch_bit_that_means_nothing_is_not_copied_into_a_reply() {
    let mut bytes = request(Version::V2 { ver1: 1 }, false, 1, "s", b"");
    bytes[11] = 0x7f;
    let reply = refuse(&head(&bytes), Status::Timeout);
    assert_eq!((reply.len(), reply[11]), (22, 0), "a reader that trusts the switch finds no trailer missing");
}

#[test]
fn a_message_with_a_head_fault_is_answered_too() {
    let mut bytes = request(Version::V1, false, 5, "s", b"");
    bytes.truncate(22);
    bytes[14..16].copy_from_slice(&32_768u16.to_be_bytes());
    bytes[16..18].copy_from_slice(&[0, 0]);
    bytes.extend_from_slice(&[b'c'; 32_768]);
    let cause = head(&bytes);
    assert!(cause.fault.is_some());
    assert_eq!(head(&refuse(&cause, Status::CodecException)).frame().status, 9);
}

#[test]
fn a_head_that_was_only_peeked_can_be_refused() {
    let bytes = request(Version::V1, false, 9, "s", &[0; 4_096]);
    let peeked = codec().peek(&bytes[..22]).expect("no fault").expect("the fixed part is there");
    assert!(!peeked.complete);
    assert_eq!(head(&refuse(&peeked, Status::ServerThreadpoolBusy)).id, 9);
}

#[test]
fn nothing_but_a_request_is_ever_refused() {
    let mut kinds = Vec::new();
    for golden in golden::frames() {
        let cause = head(&golden.bytes);
        let answered = !refuse(&cause, Status::Timeout).is_empty();
        assert_eq!(answered, cause.frame().kind == Kind::Request, "{}", golden.name);
        kinds.push(cause.frame().kind);
    }
    for kind in [Kind::Oneway, Kind::Response, Kind::Heartbeat, Kind::HeartbeatAck] {
        assert!(kinds.contains(&kind), "{kind:?} is among the captures");
    }
    let mut goaway = [0; CONTROL_BYTES_MAX];
    let len = codec().goodbye(1, &mut goaway);
    assert_eq!(refuse(&head(&goaway[..len]), Status::Timeout), b"");
}

#[test]
fn nothing_but_a_heartbeat_gets_a_heartbeat_answer() {
    for bytes in [request(OTHER, false, 1, "s", b""), response(OTHER, false, 1, 0, b"")] {
        let mut out = [0; CONTROL_BYTES_MAX];
        assert_eq!(codec().answer_heartbeat(&head(&bytes), &mut out), 0);
    }
}

#[test]
fn a_heartbeat_is_answered_in_its_own_version() {
    for (version, _) in VERSIONS {
        let mut out = [0; CONTROL_BYTES_MAX];
        let len = BoltCodec::new(version, Limits::default()).heartbeat(41, &mut out);
        let Ok(Step::Event { event: Event::Heartbeat(cause), consumed }) =
            step(&out[..len], &Limits::default())
        else {
            panic!("our heartbeat is one");
        };
        assert_eq!((consumed, cause.id, cause.deadline_ms), (len, 41, None));
        let len = codec().answer_heartbeat(&cause, &mut out);
        let Ok(Step::Event { event: Event::HeartbeatAck(ack), .. }) = step(&out[..len], &Limits::default())
        else {
            panic!("our answer is one");
        };
        assert_eq!((ack.frame().version, ack.id, ack.frame().status), (version, 41, 0));
    }
}

#[test]
fn a_goaway_is_these_bytes_and_is_understood() {
    let mut out = [0; CONTROL_BYTES_MAX];
    let len = BoltCodec::new(Version::V1, Limits::default()).goodbye(3, &mut out);
    let expected = [1, 1, 0, 100, 1, 0, 0, 0, 3, 1, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(out[..len], expected);
    for (version, _) in VERSIONS {
        let len = BoltCodec::new(version, Limits::default()).goodbye(3, &mut out);
        let step = step(&out[..len], &Limits::default());
        assert!(matches!(step, Ok(Step::Event { event: Event::Goaway(head), consumed })
            if head.frame().version == version && consumed == len));
    }
}

#[test]
fn what_nothing_caused_is_in_the_version_last_seen() {
    let mut codec = BoltCodec::new(Version::V1, Limits::default());
    for (version, crc) in VERSIONS {
        codec.decode(&mut request(version, crc, 1, "s", b"")).expect("it is sound");
        assert_eq!(codec.version(), version);
        let mut out = [0; CONTROL_BYTES_MAX];
        let len = codec.heartbeat(1, &mut out);
        assert_eq!(head(&out[..len]).frame().version, version);
    }
}
