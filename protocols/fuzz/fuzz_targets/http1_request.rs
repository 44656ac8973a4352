//! Feeds arbitrary bytes to the decoder of HTTP/1.1 requests: whole sequences of them, offered at once, in pieces and byte
//! by byte, under the default limits and under small ones. The first bytes say where to cut. Run by
//! `cargo fuzz run http1_request`.
#![no_main]

use bowline_protocols::http::HttpLimits;
use bowline_protocols::http_properties::{Side, cut_places, reading_holds, small_limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((cuts, bytes)) = cut_places(bytes) else { return };
    reading_holds(Side::Requests, bytes, &cuts, &HttpLimits::default());
    reading_holds(Side::Requests, bytes, &cuts, &small_limits());
});
