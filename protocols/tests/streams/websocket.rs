//! WebSocket frames: the examples of RFC 6455, lengths at their edges, every cut, what is no frame, and properties.

use bowline_protocols::websocket::{Frames, GOING_AWAY, close_of_client, close_of_server};
use bowline_protocols::websocket_properties::{End, borders_hold, map_of};
use proptest::collection::vec;
use proptest::prelude::*;

/// A frame with a first byte of `first`.
fn frame(first: u8, payload: usize, is_masked: bool) -> Vec<u8> {
    let mask = if is_masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload {
        0..=125 => bytes.push(mask | payload as u8),
        126..=0xffff => {
            bytes.push(mask | 126);
            bytes.extend((payload as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend((payload as u64).to_be_bytes());
        }
    }
    bytes.extend([9; 4].iter().filter(|_| is_masked));
    // Payload that looks like the beginning of a close frame.
    bytes.resize(bytes.len() + payload, 0x88);
    bytes
}

fn after(bytes: &[u8]) -> Frames {
    let mut frames = Frames::default();
    frames.follow(bytes);
    frames
}

#[test]
fn the_examples_of_the_rfc_are_frames() {
    // RFC 6455 section 5.7.
    let examples: [&[u8]; 7] = [
        &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
        &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
        &[0x01, 0x03, 0x48, 0x65, 0x6c],
        &[0x80, 0x02, 0x6c, 0x6f],
        &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
        &[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
        &[&[0x82, 0x7e, 0x01, 0x00][..], &[7; 256]].concat(),
    ];
    for example in examples {
        assert_eq!(after(example), Frames::Between, "{example:x?}");
        assert!(!after(&example[..example.len() - 1]).is_between(), "{example:x?}");
    }
}

#[test]
fn borders_are_found_at_every_length_however_it_is_cut() {
    for payload in [0, 1, 125, 126, 127, 65_535, 65_536] {
        for is_masked in [false, true] {
            let one = frame(0x82, payload, is_masked);
            let stream = [&one[..], &frame(0xc1, 3, !is_masked)].concat();
            let mut frames = Frames::default();
            frames.follow(&stream[..1]);
            assert_eq!(frames.follow_to_border(&stream[1..]), one.len() - 1, "{payload} {is_masked}");
            assert_eq!(map_of(&stream).borders, [one.len(), stream.len()]);
            (0..20).for_each(|cut| borders_hold(&stream, &[cut, 1, one.len().saturating_sub(9)]));
        }
    }
}

#[test]
fn parts_of_a_message_and_control_frames_between_them_are_frames() {
    let stream = [frame(0x01, 4, true), frame(0x89, 2, true), frame(0x00, 4, true), frame(0x80, 0, true)];
    assert_eq!(map_of(&stream.concat()).borders.len(), 4);
    borders_hold(&stream.concat(), &[1, 2, 3, 4, 5, 6]);
}

#[test]
fn behind_a_close_frame_there_is_no_border() {
    for close in [frame(0x88, 0, false), frame(0x88, 2, true), frame(0x88, 125, true)] {
        assert!(!after(&close[..close.len() - 1]).is_between());
        let mut frames = after(&close[..1]);
        assert_eq!(frames.follow_to_border(&[&close[1..], b"more"].concat()), close.len() + 3);
        assert_eq!(frames, Frames::Closed);
        assert_eq!(after(&[&close[..], &frame(0x81, 1, false)].concat()), Frames::Closed);
    }
}

#[test]
fn what_is_no_frame_is_lost_for_ever() {
    let no_frames: [&[u8]; 8] = [
        b"hello",
        &[0x83, 0x00],
        &[0x8b, 0x00],
        &[0x8f, 0x00],
        &[0x08, 0x00],
        &[0x09, 0x00],
        &[0x89, 0x7e, 0x00, 0x80],
        &[0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0],
    ];
    for bytes in no_frames {
        assert_eq!(after(bytes), Frames::Lost, "{bytes:x?}");
        let mut frames = after(bytes);
        assert_eq!(frames.follow_to_border(&frame(0x81, 1, false)), 3);
        assert_eq!(frames, Frames::Lost, "it does not guess where the next one begins");
        borders_hold(bytes, &[1, 1]);
    }
}

#[test]
fn a_length_that_no_stream_reaches_is_no_trouble() {
    let mut bytes = vec![0x82, 0xff, 0x7f];
    bytes.extend([0xff; 7]);
    bytes.extend([0; 1_000]);
    let left = (1 << 63) - 1 + 4 - 1_000;
    assert_eq!(after(&bytes), Frames::Inside { left, is_close: false });
}

#[test]
fn the_frames_that_say_goodbye_are_as_the_rfc_writes_them() {
    assert_eq!(close_of_server(GOING_AWAY), [0x88, 0x02, 0x03, 0xe9]);
    let masked = close_of_client(GOING_AWAY, [0x37, 0xfa, 0x21, 0x3d]);
    assert_eq!(masked, [0x88, 0x82, 0x37, 0xfa, 0x21, 0x3d, 0x03 ^ 0x37, 0xe9 ^ 0xfa]);
    assert_eq!((after(&close_of_server(1000)), after(&masked)), (Frames::Closed, Frames::Closed));
}

/// Streams that are mostly frames: first bytes that are valid more often than not, lengths of all three forms.
fn likely_stream() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![8 => prop::sample::select(vec![0x81, 0x82, 0x02, 0x00, 0x80, 0x89, 0x8a, 0xc1]), 1 => Just(0x88), 1 => any::<u8>()];
    let payload = prop_oneof![8 => 0..130_usize, 1 => 65_530..65_540_usize];
    vec((first, payload, any::<bool>()), 0..8).prop_map(|frames| {
        frames.into_iter().flat_map(|(first, payload, is_masked)| frame(first, payload, is_masked)).collect()
    })
}

proptest! {
    #[test]
    fn any_cut_of_likely_streams_gives_the_same_borders(
        stream in likely_stream(), cuts in vec(0..300_usize, 0..40), lost in 0..20_usize,
    ) {
        borders_hold(&stream[..stream.len().saturating_sub(lost)], &cuts);
    }

    #[test]
    fn any_cut_of_any_bytes_gives_the_same_borders(bytes in vec(any::<u8>(), 0..200), cuts in vec(0..20_usize, 0..40)) {
        borders_hold(&bytes, &cuts);
    }

    #[test]
    fn streams_of_frames_are_never_lost(payloads in vec(0..200_usize, 1..10)) {
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x82, *payload, true)).collect();
        let map = map_of(&stream);
        prop_assert_eq!((map.borders.len(), map.end), (payloads.len(), End::Open));
        prop_assert_eq!(after(&stream), Frames::Between);
    }
}
