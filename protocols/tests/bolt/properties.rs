//! The properties of the codec for bytes that nobody thought of: arbitrary ones, sound frames, and
//! sound frames that were damaged.

use bowline_protocols::bolt::fields::encode_field;
use bowline_protocols::bolt::{RequestParts, ResponseParts, Version, encode_request, encode_response};
use bowline_protocols::properties::{decode_holds, fields_hold, roundtrip_holds};
use bowline_protocols::testing::VERSIONS;
use bowline_protocols::{BoltCodec, Codec, Limits, Step};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::golden;

/// Small limits, so that arbitrary lengths are on both sides of them.
fn limits() -> impl Strategy<Value = Limits> {
    (0u32..2_000, 0u32..2_000, 0u32..8, any::<bool>()).prop_map(|(content, head, fields, crc_verify)| {
        Limits {
            content_bytes_max: content,
            class_header_bytes_max: head,
            header_fields_max: fields,
            crc_verify,
        }
    })
}

fn bytes(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..len_max)
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let name = || option::of(select(vec![&b"service"[..], b"a", b"", b"\xff"]));
    vec((name(), option::of(bytes(9))), 0..6).prop_map(|fields| {
        let mut header = Vec::new();
        for (key, value) in fields {
            encode_field(key, value.as_deref(), &mut header);
        }
        header
    })
}

/// A sound request, oneway or response of any version.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let version = select(VERSIONS.to_vec());
    let numbers = (any::<u32>(), any::<u8>(), any::<i32>(), any::<u16>());
    let parts = (bytes(60), header(), bytes(600));
    (version, 0..3u8, numbers, parts).prop_map(|((version, crc), kind, numbers, parts)| {
        let (id, codec, timeout_ms, status) = numbers;
        let (class, header, content) = (parts.0.as_slice(), parts.1.as_slice(), parts.2.as_slice());
        let mut out = Vec::new();
        let done = if kind == 0 {
            let parts = ResponseParts { version, id, codec, status, crc, class, header, content };
            encode_response(&parts, &mut out)
        } else {
            let oneway = kind == 2;
            let parts = RequestParts { version, oneway, id, codec, timeout_ms, crc, class, header, content };
            encode_request(&parts, &mut out)
        };
        done.expect("the parts are short");
        out
    })
}

/// The first bytes of a frame, right up to the lengths: arbitrary bytes hardly get beyond them.
fn likely_start() -> impl Strategy<Value = Vec<u8>> {
    let version = select(vec![vec![1], vec![2, 1], vec![2, 2]]);
    let codes = select(vec![[1, 0, 1], [0, 0, 2], [2, 0, 1], [1, 0, 0], [0, 0, 0], [1, 0, 100]]);
    (version, codes).prop_map(|(version, codes)| [&version[..], &codes, &[1]].concat())
}

/// Sound frames, some of them damaged by a changed byte, a cut or an insertion.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = vec((any::<Index>(), any::<u8>(), 0..3u8), 0..4);
    (message(), damage).prop_map(|(mut frame, damage)| {
        for (at, byte, how) in damage {
            let at = at.index(frame.len().max(1));
            match how {
                0 if at < frame.len() => frame[at] = byte,
                1 => frame.truncate(at),
                _ => frame.insert(at.min(frame.len()), byte),
            }
        }
        frame
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_hold(bytes in bytes(300), limits in limits()) {
        decode_holds(&bytes, &limits);
        roundtrip_holds(&bytes, 1, &limits);
    }

    #[test]
    fn likely_bytes_hold(start in likely_start(), rest in bytes(300), limits in limits(), id: u32) {
        let bytes = [start, rest].concat();
        decode_holds(&bytes, &limits);
        roundtrip_holds(&bytes, id, &limits);
    }

    #[test]
    fn damaged_frames_hold(bytes in damaged(), limits in limits(), id: u32) {
        for limits in [limits, Limits::default()] {
            decode_holds(&bytes, &limits);
            roundtrip_holds(&bytes, id, &limits);
        }
    }

    #[test]
    fn sound_frames_pass_and_come_back(message in message(), id: u32) {
        let consumed = consumed_by(&message, &[message.len()]);
        prop_assert_eq!(consumed, [message.len()]);
        decode_holds(&message, &Limits::default());
        roundtrip_holds(&message, id, &Limits::default());
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_events(
        messages in vec(message(), 1..5),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let stream = messages.concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        prop_assert_eq!(consumed_by(&stream, &cuts), messages.iter().map(Vec::len).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_headers_hold(header in bytes(120), fields_max in 0u32..8) {
        fields_hold(&header, fields_max);
    }

    #[test]
    fn encoded_headers_hold(mut header in header(), cut: Index, fields_max in 0u32..8) {
        fields_hold(&header, fields_max);
        header.truncate(cut.index(header.len() + 1));
        fields_hold(&header, fields_max);
    }

    #[test]
    fn captured_frames_with_one_byte_changed_hold(at: Index, which: Index, byte: u8, limits in limits()) {
        let all = golden::small_frames();
        let mut bytes = which.get(all).clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for limits in [limits, Limits::default()] {
            decode_holds(&bytes, &limits);
            roundtrip_holds(&bytes, 9, &limits);
        }
    }
}

/// The lengths of the frames of `stream` when it is offered up to each of `cuts` in turn.
fn consumed_by(stream: &[u8], cuts: &[usize]) -> Vec<usize> {
    let mut codec = BoltCodec::new(Version::V1, Limits::default());
    let (mut from, mut lengths) = (0, Vec::new());
    for &to in cuts {
        while let Step::Event { consumed, .. } =
            codec.decode(&mut stream[from..to].to_vec()).expect("the stream is sound")
        {
            lengths.push(consumed);
            from += consumed;
        }
    }
    lengths
}
