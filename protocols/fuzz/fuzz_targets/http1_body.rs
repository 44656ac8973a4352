//! Feeds arbitrary bytes to the decoder of HTTP/1.1 bodies, which finds the same body, trailers and end however they are
//! cut. The first bytes say where to cut, the next one how long a body with a length is. Run by `cargo fuzz run http1_body`.
#![no_main]

use bowline_protocols::http::{BodyLength, HttpLimits};
use bowline_protocols::http_properties::{body_holds, cut_places, small_limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((cuts, bytes)) = cut_places(bytes) else { return };
    let Some((length, bytes)) = bytes.split_first() else { return };
    for length in [BodyLength::Chunked, BodyLength::Exact(u64::from(*length)), BodyLength::UntilClose] {
        body_holds(length, bytes, &cuts, &HttpLimits::default());
        body_holds(length, bytes, &cuts, &small_limits());
    }
});
