//! Any bytes are followed without a panic, and a second parser finds the same borders, wherever they are cut: the first
//! byte of an input says how far each piece reaches.
#![no_main]

use bowline_protocols::websocket_properties::borders_hold;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, stream)) = bytes.split_first() else { return };
    borders_hold(stream, &[usize::from(*piece); 64]);
});
