//! Any bytes are a header, the start of one, or refused; more bytes behind a header do not change it, fewer ask for more,
//! and what it names can be written and read again in both versions.
#![no_main]

use bowline_protocols::proxy_header::{Parsed, Version, Versions, encode, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for versions in [Versions::V1, Versions::V2, Versions::Any] {
        match parse(bytes, versions) {
            Ok(Parsed::More { bytes: wanted }) => assert!(wanted > bytes.len(), "it asks for what is there"),
            Ok(Parsed::Header { bytes: length, route }) => {
                assert_eq!(parse(&bytes[..length], versions), Ok(Parsed::Header { bytes: length, route }));
                for at in 0..length {
                    assert!(matches!(parse(&bytes[..at], versions), Ok(Parsed::More { .. })));
                }
                for version in [Version::V1, Version::V2] {
                    let mut out = Vec::new();
                    encode(version, route, &mut out);
                    let again = parse(&out, Versions::Any);
                    assert!(matches!(again, Ok(Parsed::Header { bytes, .. }) if bytes == out.len()));
                }
            }
            Err(_) => {}
        }
    }
});
