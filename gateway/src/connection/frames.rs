//! Walks the frames of a run. What is in mail was decoded before it was sent, so a frame that cannot be read here is a
//! defect of this program: the walk ends, and in debug builds it says so.

use bowline_protocols::Fault;
use bowline_protocols::Limits;
use bowline_protocols::bolt::{Decoded, Frame, decode};

/// The frame at the start of `bytes` if all of it is there, its checksum verified.
pub(super) fn next_frame(bytes: &[u8], limits: &Limits) -> Result<Decoded, Fault> {
    let decoded = decode(bytes, limits)?;
    match &decoded {
        Decoded::Frame(frame) if limits.crc_verify => frame.check_crc(bytes)?,
        _ => {}
    }
    Ok(decoded)
}

/// Calls `each` with every frame of `bytes` and exactly its bytes.
pub(super) fn each_frame(mut bytes: &mut [u8], limits: &Limits, mut each: impl FnMut(&Frame, &mut [u8])) {
    while !bytes.is_empty() {
        let Ok(Decoded::Frame(frame)) = decode(bytes, limits) else {
            debug_assert!(false, "mail holds whole frames");
            return;
        };
        let (own, rest) = bytes.split_at_mut(frame.total_bytes as usize);
        each(&frame, own);
        bytes = rest;
    }
}

/// The one frame that `bytes` are.
pub(super) fn only_frame(bytes: &[u8], limits: &Limits) -> Option<Frame> {
    match decode(bytes, limits) {
        Ok(Decoded::Frame(frame)) if frame.total_bytes as usize == bytes.len() => Some(frame),
        _ => None,
    }
}
