//! Builds whole sequences of sound requests from the fuzzer's choices, so that it gets behind heads at once, and checks that
//! each is read for what it is and that cuts make no difference. Run by `cargo fuzz run http1_sequence`.
#![no_main]

use bowline_protocols::http::HttpLimits;
use bowline_protocols::http_properties::{Side, cut_places, read, reading_holds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((cuts, choices)) = cut_places(bytes) else { return };
    let mut stream = Vec::new();
    let mut bodies = Vec::new();
    for choice in choices.chunks(CHOICE_BYTES).take(REQUESTS_MAX) {
        bodies.push(write_request(choice, &mut stream));
    }
    let transcript = read(Side::Requests, &stream, [], &HttpLimits::default());
    assert_eq!((transcript.fault, transcript.left), (None, 0));
    assert_eq!(
        transcript.messages.iter().map(|message| &message.body).collect::<Vec<_>>(),
        bodies.iter().collect::<Vec<_>>()
    );
    reading_holds(Side::Requests, &stream, &cuts, &HttpLimits::default());
});

/// Writes the request that the bytes choose; says what its body is.
fn write_request(choice: &[u8], stream: &mut Vec<u8>) -> Vec<u8> {
    let (kind, rest) = choice.split_first().expect("a chunk is not empty");
    if kind & 4 != 0 {
        stream.extend_from_slice(b"\r\n");
    }
    stream.extend_from_slice(b"POST /a HTTP/1.1\r\nHost: h\r\n");
    match kind & 3 {
        0 => {
            stream.extend_from_slice(b"\r\n");
            return Vec::new();
        }
        1 => {
            stream.extend_from_slice(format!("Content-Length: {}\r\n\r\n", rest.len()).as_bytes());
            stream.extend_from_slice(rest);
        }
        size => {
            stream.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in rest.chunks(usize::from(size) * 3) {
                stream.extend_from_slice(format!("{:X};a=\"\\\"\"\r\n", chunk.len()).as_bytes());
                stream.extend_from_slice(chunk);
                stream.extend_from_slice(b"\r\n");
            }
            stream.extend_from_slice(b"0\r\nSum: 1\r\n\r\n");
        }
    }
    rest.to_vec()
}

const CHOICE_BYTES: usize = 20;
const REQUESTS_MAX: usize = 20;
