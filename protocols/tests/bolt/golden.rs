//! Owns the frames captured from other implementations and what must hold for each of them. Other
//! tests take them from [`frames`].

use std::fs;
use std::sync::LazyLock;

use bowline_protocols::bolt::{
    self, Decoded, Kind, RequestParts, ResponseParts, Version, encode_heartbeat, encode_heartbeat_ack,
    encode_request, encode_response,
};
use bowline_protocols::properties::{decode_holds, fields_hold, head_of, roundtrip_holds, step};
use bowline_protocols::testing::every_split;
use bowline_protocols::{Extras, Limits, Step};
use serde_json::Value;

/// A captured frame, and what it says.
pub(crate) struct Golden {
    /// The file and the name in it.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) decoded: Value,
}

impl Golden {
    pub(crate) fn frame(&self) -> bolt::Frame {
        match bolt::decode(&self.bytes, &Limits::default()) {
            Ok(Decoded::Frame(frame)) => frame,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    fn number(&self, field: &str) -> i64 {
        self.decoded[field].as_i64().unwrap_or_else(|| panic!("{} has no {field}", self.name))
    }

    /// What a captured answer and its question have in common.
    fn conversation(&self) -> (&str, Option<i64>) {
        let family = self.name.split('/').next().unwrap_or_default();
        (family, self.decoded["requestId"].as_i64())
    }
}

/// Every captured frame.
pub(crate) fn frames() -> Vec<Golden> {
    ["java-sofabolt", "sofa-bolt-node", "anthunder"].into_iter().flat_map(frames_of).collect()
}

/// The bytes of the captured frames that are short enough to be tried many times.
pub(crate) fn small_frames() -> &'static [Vec<u8>] {
    static SMALL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        frames().into_iter().map(|golden| golden.bytes).filter(|bytes| bytes.len() <= 2_048).collect()
    });
    &SMALL
}

fn frames_of(file: &str) -> Vec<Golden> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/bolt/");
    let text =
        fs::read_to_string(format!("{folder}{file}.json")).expect("the captures are in the repository");
    let capture: Value = serde_json::from_str(&text).expect("a capture is JSON");
    let frames = capture["frames"].as_array().expect("a capture is a list of frames");
    let golden = |frame: &Value| Golden {
        name: format!("{file}:{}", frame["name"].as_str().expect("a frame has a name")),
        bytes: unhex(frame["hex"].as_str().expect("a frame has bytes")),
        decoded: frame["decoded"].clone(),
    };
    frames.iter().map(golden).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex digits") as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[test]
fn the_captures_are_all_there() {
    let count = |file: &str| frames_of(file).len();
    assert_eq!([count("java-sofabolt"), count("sofa-bolt-node"), count("anthunder")], [30, 105, 11]);
}

#[test]
fn every_field_is_what_the_capture_says() {
    for golden in frames() {
        let (frame, name) = (golden.frame(), &golden.name);
        let (code, ver1) = frame.version.pool_key();
        assert_eq!(i64::from(code), golden.number("proto"), "{name}");
        assert_eq!(i64::from(frame.kind.command_code()), golden.number("cmdcode"), "{name}");
        assert_eq!(i64::from(frame.id), golden.number("requestId"), "{name}");
        assert_eq!(i64::from(frame.codec), golden.number("codec"), "{name}");
        assert_eq!(i64::from(frame.class.len), golden.number("classLen"), "{name}");
        assert_eq!(i64::from(frame.header.len), golden.number("headerLen"), "{name}");
        assert_eq!(i64::from(frame.content.len), golden.number("contentLen"), "{name}");
        assert_eq!(i64::from(frame.total_bytes), golden.number("total"), "{name}");
        assert_eq!(frame.total_bytes as usize, golden.bytes.len(), "{name}");
        let class = std::str::from_utf8(frame.class.of(&golden.bytes)).expect("a class name is text");
        assert_eq!(class, golden.decoded["class"], "{name}");
        if code == 2 {
            assert_eq!(i64::from(ver1), golden.number("ver1"), "{name}");
            assert_eq!(i64::from(frame.switch), golden.number("switch"), "{name}");
        }
    }
}

#[test]
fn every_type_status_and_timeout_is_what_the_capture_says() {
    for golden in frames() {
        let (frame, name) = (golden.frame(), &golden.name);
        let type_name = ["response", "request", "oneway"][usize::from(frame.kind.type_code())];
        assert_eq!(type_name, golden.decoded["type"], "{name}");
        if type_name == "response" {
            assert_eq!(i64::from(frame.status), golden.number("status"), "{name}");
            assert!(bolt::Status::from_code(frame.status).is_some(), "{name}");
        } else {
            assert_eq!(i64::from(frame.timeout_ms), golden.number("timeout"), "{name}");
        }
    }
}

#[test]
fn a_crc_is_there_by_the_rule_of_java_and_right() {
    let mut with_crc = 0;
    for golden in frames() {
        let (frame, name) = (golden.frame(), &golden.name);
        assert_eq!(frame.crc, golden.decoded.get("crc32").is_some(), "{name}");
        assert_eq!(frame.check_crc(&golden.bytes), Ok(()), "{name}");
        let Some(crc) = golden.decoded["crc32"].as_u64() else { continue };
        with_crc += 1;
        assert_eq!(golden.bytes[golden.bytes.len() - 4..], (crc as u32).to_be_bytes(), "{name}");
        assert_eq!(bolt::crc::of(&golden.bytes[..golden.bytes.len() - 4]), crc as u32, "{name}");
    }
    assert!(with_crc >= 30, "{with_crc} frames with a CRC");
}

#[test]
fn every_header_map_is_what_the_capture_says() {
    let mut fields_seen = 0;
    for golden in frames() {
        let frame = golden.frame();
        let header = frame.header.of(&golden.bytes);
        fields_hold(header, 256);
        let Some(expected) = golden.decoded["header"].as_object() else { continue };
        let mut read = serde_json::Map::new();
        for field in bolt::fields::Fields::new(header, 256) {
            let field = field.unwrap_or_else(|fault| panic!("{}: {fault}", golden.name));
            let text = |span: Option<bowline_protocols::Span>| {
                span.map(|span| String::from_utf8(span.of(header).to_vec()).expect("a header is text"))
            };
            let key = text(field.key).expect("no capture has a null key");
            read.insert(key, text(field.value).map_or(Value::Null, Value::String));
        }
        fields_seen += read.len();
        assert_eq!(read, *expected, "{}", golden.name);
    }
    assert!(fields_seen >= 60, "{fields_seen} fields were compared");
}

#[test]
fn every_frame_is_found_at_every_split_with_need_obeyed() {
    for golden in frames() {
        let whole = step(&golden.bytes, &Limits::default());
        for (first, rest) in every_split(&golden.bytes) {
            if rest.is_empty() {
                continue;
            }
            let mut at = first.len();
            let mut offers = 1;
            while let Step::Need(need) = step(&golden.bytes[..at], &Limits::default()).expect(&golden.name) {
                assert!(at < need && need <= golden.bytes.len(), "{}: {need} of {at}", golden.name);
                (at, offers) = (need, offers + 1);
            }
            assert_eq!(at, golden.bytes.len(), "{}", golden.name);
            assert!(offers <= 4, "{}: {offers} offers", golden.name);
        }
        assert!(matches!(whole, Ok(Step::Event { consumed, .. }) if consumed == golden.bytes.len()));
    }
}

#[test]
fn frames_back_to_back_are_told_apart() {
    let all = frames();
    let stream: Vec<u8> = all.iter().flat_map(|golden| golden.bytes.clone()).collect();
    let mut rest = stream.as_slice();
    for golden in &all {
        let Ok(Step::Event { event, consumed }) = step(rest, &Limits::default()) else {
            panic!("{} is not found", golden.name);
        };
        assert_eq!(head_of(event).extras, Extras::Bolt(golden.frame()), "{}", golden.name);
        rest = &rest[consumed..];
    }
    assert!(rest.is_empty());
}

#[test]
fn the_properties_hold() {
    for golden in frames() {
        decode_holds(&golden.bytes, &Limits::default());
        for id in [0, 1, golden.frame().id, i32::MAX as u32, u32::MAX] {
            roundtrip_holds(&golden.bytes, id, &Limits::default());
        }
    }
}

#[test]
fn every_message_is_made_byte_for_byte_from_its_parts() {
    let mut made = 0;
    for golden in frames() {
        let bolt::Frame { version, id, codec, crc, status, timeout_ms, kind, .. } = golden.frame();
        let frame = golden.frame();
        let [class, header, content] =
            [frame.class, frame.header, frame.content].map(|span| span.of(&golden.bytes));
        let mut out = Vec::new();
        let done = match kind {
            Kind::Response => encode_response(
                &ResponseParts { version, id, codec, status, crc, class, header, content },
                &mut out,
            ),
            Kind::Request | Kind::Oneway => {
                let oneway = kind == Kind::Oneway;
                let parts =
                    RequestParts { version, oneway, id, codec, timeout_ms, crc, class, header, content };
                encode_request(&parts, &mut out)
            }
            Kind::Heartbeat | Kind::HeartbeatAck | Kind::Goaway => continue,
        };
        assert_eq!(done, Ok(()), "{}", golden.name);
        assert!(out == golden.bytes, "{}", golden.name);
        made += 1;
    }
    assert!(made > 100, "{made} messages");
}

#[test]
fn our_heartbeats_are_those_of_java() {
    let java = frames_of("java-sofabolt");
    let heartbeats: Vec<_> = java.iter().filter(|golden| golden.frame().kind == Kind::Heartbeat).collect();
    assert!(heartbeats.iter().any(|golden| golden.frame().version == Version::V1));
    assert!(heartbeats.iter().any(|golden| golden.frame().version == Version::V2 { ver1: 2 }));
    for golden in heartbeats {
        let mut out = [0; 32];
        let len = encode_heartbeat(golden.frame().version, golden.frame().id, &mut out);
        assert_eq!(out[..len], golden.bytes, "{}", golden.name);
    }
}

#[test]
fn our_heartbeat_answers_are_those_of_every_server() {
    let all = frames();
    let mut compared = 0;
    for question in all.iter().filter(|golden| golden.frame().kind == Kind::Heartbeat) {
        let is_answer = |golden: &&Golden| {
            golden.frame().kind == Kind::HeartbeatAck && golden.conversation() == question.conversation()
        };
        let Some(answer) = all.iter().find(is_answer) else { continue };
        let mut out = [0; 32];
        let len = encode_heartbeat_ack(&question.frame(), &mut out);
        assert_eq!(out[..len], answer.bytes, "{}", question.name);
        compared += 1;
    }
    assert!(compared >= 6, "{compared} heartbeats were answered");
}
