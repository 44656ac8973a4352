//! Feeds arbitrary bytes to the normal form of paths: what comes out is its own normal form, has no dot segment and no
//! byte that splits a line. Run by `cargo fuzz run http1_path`.
#![no_main]

use bowline_protocols::http::EscapedSlash;
use bowline_protocols::http_properties::path_holds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    path_holds(bytes, EscapedSlash::Refuse);
    path_holds(bytes, EscapedSlash::Keep);
});
