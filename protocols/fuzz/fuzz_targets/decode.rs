//! Feeds arbitrary bytes to the Bolt decoder, under the default limits and under small ones, so that
//! both sides of every limit are met. Run by `cargo fuzz run decode`.
#![no_main]

use bowline_protocols::Limits;
use bowline_protocols::properties::decode_holds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    decode_holds(bytes, &Limits::default());
    let small = Limits { content_bytes_max: 64, class_header_bytes_max: 128, ..Limits::default() };
    decode_holds(bytes, &small);
    // Without verification the fuzzer gets behind the CRC, which it cannot guess.
    decode_holds(bytes, &Limits { crc_verify: false, ..Limits::default() });
});
