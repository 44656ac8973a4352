//! Any bytes are a ClientHello, the start of one, or refused, within the bound; where they are cut changes nothing.
#![no_main]

use bowline_protocols::client_hello::{HELLO_BYTES_MAX, Peeked, peek};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match peek(bytes) {
        Ok(Peeked::More { bytes: wanted }) => assert!(wanted > bytes.len() && wanted <= HELLO_BYTES_MAX),
        Ok(Peeked::Hello(hello)) => {
            assert!(hello.server_name.is_none_or(|name| !name.is_empty() && name.len() <= 253));
            assert!(hello.protocols.iter().all(|protocol| !protocol.is_empty()));
            let half = bytes.len() / 2;
            assert!(peek(&bytes[..half]).is_ok(), "the start of one is not refused");
        }
        Err(_) => {}
    }
});
