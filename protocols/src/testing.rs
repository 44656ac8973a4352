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

/// The first message of a TLS client that names a server and offers protocols.
pub fn client_hello(server_name: Option<&str>, protocols: &[&str]) -> Vec<u8> {
    let block = |content: &[u8]| {
        let length = u16::try_from(content.len()).expect("the parts of a test are short");
        [&length.to_be_bytes()[..], content].concat()
    };
    let extension = |kind: u16, content: &[u8]| [&kind.to_be_bytes()[..], &block(content)].concat();
    let mut extensions = extension(0x2b, &[2, 3, 4]);
    if let Some(name) = server_name {
        extensions.extend(extension(0, &block(&[&[0][..], &block(name.as_bytes())].concat())));
    }
    if !protocols.is_empty() {
        let names = protocols.iter().flat_map(|name| [&[name.len() as u8][..], name.as_bytes()].concat());
        extensions.extend(extension(16, &block(&names.collect::<Vec<_>>())));
    }
    let mut body = [&[3, 3][..], &[7; 32], &[0], &block(&[0x13, 1]), &[1, 0]].concat();
    body.extend(block(&extensions));
    let message = [&[1, 0][..], &block(&body)].concat();
    [&[22, 3, 1][..], &block(&message)].concat()
}
