//! Feeds arbitrary bytes to the reader of Bolt header maps; the first byte is the limit on fields.
//! Run by `cargo fuzz run fields`.
#![no_main]

use bowline_protocols::properties::fields_hold;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let [fields_max, header @ ..] = bytes {
        fields_hold(header, u32::from(*fields_max));
    }
});
