//! Owns what tests of this and other crates share: ways to cut bytes, and frames to send. Refuses
//! to be called from anything but tests and tools; it allocates and panics freely.

use crate::bolt::RequestParts;
use crate::bolt::ResponseParts;
use crate::bolt::Version;
use crate::bolt::encode_request;
use crate::bolt::encode_response;
use crate::bolt::fields;

/// Every version, with and without CRC where it is possible.
pub const VERSIONS: [(Version, bool); 4] = [
    (Version::V1, false),
    (Version::V2 { ver1: 1 }, false),
    (Version::V2 { ver1: 2 }, false),
    (Version::V2 { ver1: 2 }, true),
];

/// Every way to cut `bytes` into two pieces, one of which may be empty.
pub fn every_split(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    (0..=bytes.len()).map(|at| bytes.split_at(at))
}

/// A request as SOFARPC sends it, for `service`.
pub fn request(version: Version, crc: bool, id: u32, service: &str, content: &[u8]) -> Vec<u8> {
    let header = fields::encode(&[("service", service), ("sofa_head_method_name", "echo")]);
    let mut out = Vec::new();
    let parts = RequestParts {
        version,
        oneway: false,
        id,
        codec: 1,
        timeout_ms: 3_000,
        crc,
        class: b"com.alipay.sofa.rpc.core.request.SofaRequest",
        header: &header,
        content,
    };
    encode_request(&parts, &mut out).expect("the parts of a test are short");
    out
}

/// A response as SOFARPC sends it.
pub fn response(version: Version, crc: bool, id: u32, status: u16, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let parts = ResponseParts {
        version,
        id,
        codec: 1,
        status,
        crc,
        class: b"com.alipay.sofa.rpc.core.response.SofaResponse",
        header: b"",
        content,
    };
    encode_response(&parts, &mut out).expect("the parts of a test are short");
    out
}
