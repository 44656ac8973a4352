//! Rewrites the id of whatever decodes, and makes it anew from its parts; the first four bytes are the
//! new id. A trailer is set right first, since the fuzzer cannot guess one. Run by
//! `cargo fuzz run roundtrip`.
#![no_main]

use bowline_protocols::Limits;
use bowline_protocols::bolt::{Decoded, crc, decode};
use bowline_protocols::properties::roundtrip_holds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((id, frame)) = bytes.split_first_chunk::<4>() else { return };
    let mut frame = frame.to_vec();
    set_trailer(&mut frame);
    roundtrip_holds(&frame, u32::from_be_bytes(*id), &Limits::default());
});

fn set_trailer(bytes: &mut [u8]) {
    let Ok(Decoded::Frame(frame)) = decode(bytes, &Limits::default()) else { return };
    if frame.crc {
        let (body, trailer) =
            bytes[..frame.total_bytes as usize].split_at_mut(frame.total_bytes as usize - 4);
        trailer.copy_from_slice(&crc::of(body).to_be_bytes());
    }
}
