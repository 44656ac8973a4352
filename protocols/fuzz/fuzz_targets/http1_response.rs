//! Feeds arbitrary bytes to the decoder of HTTP/1.1 responses: whole sequences of them, to requests of different methods,
//! offered at once, in pieces and byte by byte. The first bytes say where to cut. Run by `cargo fuzz run http1_response`.
#![no_main]

use bowline_protocols::http::{HttpLimits, Method};
use bowline_protocols::http_properties::{Side, cut_places, reading_holds, small_limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((cuts, bytes)) = cut_places(bytes) else { return };
    for method in [Method::Get, Method::Head, Method::Connect] {
        reading_holds(Side::Responses(method), bytes, &cuts, &HttpLimits::default());
    }
    reading_holds(Side::Responses(Method::Get), bytes, &cuts, &small_limits());
});
