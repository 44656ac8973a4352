//! Owns what must hold for the follower of WebSocket frames and any bytes whatever, shared by property tests and the fuzz
//! target. Refuses to be called from anything but tests and tools: it parses a stream a second time, whole and with
//! copies, so that the follower is not judged by itself.

use crate::websocket::Frames;

/// What a stream is, by the second parser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Where frames end; the last one is at the end of a close frame, if there is one.
    pub borders: Vec<usize>,
    /// How the stream stands behind its last whole frame.
    pub end: End,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// At a border, or within a frame.
    #[default]
    Open,
    /// Behind a close frame, whatever comes there.
    Closed,
    /// With something that is no frame.
    Lost,
}

/// Parses `bytes` frame by frame (RFC 6455 section 5.2).
pub fn map_of(bytes: &[u8]) -> Map {
    let mut map = Map::default();
    let mut at = 0;
    while let Some(frame) = frame_at(&bytes[at..]) {
        let Ok((length, opcode)) = frame else { return Map { end: End::Lost, ..map } };
        if length > (bytes.len() - at) as u128 {
            return map;
        }
        at += length as usize;
        map.borders.push(at);
        if opcode == 8 {
            return Map { end: End::Closed, ..map };
        }
    }
    map
}

/// The length and opcode of the frame that begins here; nothing as long as its header is not whole.
fn frame_at(bytes: &[u8]) -> Option<Result<(u128, u8), ()>> {
    let first = *bytes.first()?;
    let opcode = first & 0x0f;
    let is_control = opcode >= 8;
    if matches!(opcode, 3..=7 | 11..=15) || is_control && first < 0x80 {
        return Some(Err(()));
    }
    let second = *bytes.get(1)?;
    let (short, mask) = (second & 0x7f, if second >= 0x80 { 4 } else { 0 });
    if is_control && short > 125 {
        return Some(Err(()));
    }
    let extended = if short < 126 { 0 } else { usize::from(short - 126) * 6 + 2 };
    let length = bytes.get(2..2 + extended)?;
    let length = match extended {
        0 => u64::from(short),
        _ => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    if length >> 63 == 1 {
        return Some(Err(()));
    }
    Some(Ok((2 + extended as u128 + mask + u128::from(length), opcode)))
}

/// The follower agrees with the second parser about every byte, however the stream is cut into pieces of `cuts` bytes.
pub fn borders_hold(bytes: &[u8], cuts: &[usize]) {
    let map = map_of(bytes);
    every_byte_holds(bytes, &map);
    let mut whole = Frames::default();
    whole.follow(bytes);
    let (mut cut, mut bordered) = (Frames::default(), Frames::default());
    let mut at = 0;
    for length in cuts.iter().copied().chain([bytes.len()]) {
        let piece = &bytes[at..bytes.len().min(at + length)];
        cut.follow(piece);
        walk_to_borders(&mut bordered, piece, at, &map);
        assert_eq!(bordered, cut, "stopping at borders changes nothing, behind {at}");
        at += piece.len();
    }
    assert_eq!(cut, whole, "where it is cut changes nothing");
}

/// Byte by byte it stands between frames exactly at the borders.
fn every_byte_holds(bytes: &[u8], map: &Map) {
    let mut frames = Frames::default();
    for (at, byte) in bytes.iter().enumerate() {
        frames.follow(&[*byte]);
        let is_last = map.borders.last().is_some_and(|last| *last <= at + 1);
        match (map.end, frames) {
            (End::Closed, Frames::Closed) => assert!(is_last, "it closed too early, at {at}"),
            (End::Lost, Frames::Lost) => assert!(is_last || map.borders.is_empty(), "lost early, at {at}"),
            (_, Frames::Closed | Frames::Lost) => panic!("{frames:?} at {at}, {:?}", map.end),
            _ => assert_eq!(frames.is_between(), map.borders.contains(&(at + 1)), "at {at}"),
        }
    }
    let ended = match map.end {
        End::Open => !matches!(frames, Frames::Closed | Frames::Lost),
        End::Closed => frames == Frames::Closed,
        End::Lost => frames == Frames::Lost,
    };
    assert!(ended, "{frames:?} at the end, {:?}", map.end);
}

/// Asked for the next border it stops at borders alone, and never on its way.
fn walk_to_borders(frames: &mut Frames, piece: &[u8], from: usize, map: &Map) {
    let mut at = 0;
    while at < piece.len() {
        // One byte of the next frame, for at a border it goes nowhere.
        if frames.is_between() {
            assert_eq!(frames.follow_to_border(&piece[at..]), 0);
            frames.follow(&piece[at..=at]);
            at += 1;
        }
        at += frames.follow_to_border(&piece[at..]);
        if frames.is_between() {
            assert!(map.borders.contains(&(from + at)), "{} is no border", from + at);
        } else {
            assert_eq!(at, piece.len(), "it stops at a border alone");
        }
    }
}
