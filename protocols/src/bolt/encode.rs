//! Owns the making of Bolt frames: the small ones that a gateway answers with, without allocation,
//! and whole requests and responses for clients, upstreams and tests. Refuses lengths that a
//! signed reader would misread.

use super::crc;
use super::frame::COMMAND_VERSION;
use super::frame::CRC_BYTES;
use super::frame::CRC_SWITCH_BIT;
use super::frame::FIXED_BYTES_MAX;
use super::frame::Frame;
use super::frame::Kind;
use super::frame::SIGNED_LENGTH_MAX;
use super::frame::TYPE_RESPONSE;
use super::frame::Version;
use super::status::Status;

/// Room for any frame without class, header and content.
pub const CONTROL_BYTES_MAX: usize = 32;

/// A heartbeat. It carries no CRC on any version, as Java's does not. Returns its length.
pub fn encode_heartbeat(version: Version, id: u32, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
    Fixed { codec: CODEC_HESSIAN2, ..Fixed::new(version, Kind::Heartbeat, id) }.write_control(out)
}

/// The answer to a heartbeat, in its version. Returns its length; 0 when `cause` is no heartbeat.
pub fn encode_heartbeat_ack(cause: &Frame, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
    if cause.kind != Kind::Heartbeat {
        return 0;
    }
    Fixed::answer(cause, Kind::HeartbeatAck, Status::Success).write_control(out)
}

/// The answer to a request that failed here, in its version; it carries no class, header or
/// content, since Java clients act by the status alone. Returns its length; 0 when `cause` is not
/// a request, because nothing else is ever answered.
pub fn encode_error(cause: &Frame, status: Status, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
    if cause.kind != Kind::Request {
        return 0;
    }
    Fixed::answer(cause, Kind::Response, status).write_control(out)
}

/// MOSN's goaway; only for listeners configured for it, since it breaks Java clients. Returns its length.
pub fn encode_goaway(version: Version, id: u32, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
    Fixed { codec: CODEC_HESSIAN2, ..Fixed::new(version, Kind::Goaway, id) }.write_control(out)
}

/// What a request is made of.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// The version to write.
    pub version: Version,
    /// True for a call that nothing answers.
    pub oneway: bool,
    /// The request id.
    pub id: u32,
    /// The serialisation of the content.
    pub codec: u8,
    /// The timeout; -1 for none.
    pub timeout_ms: i32,
    /// Whether to end with a CRC; only v2 with ver1 = 2 can.
    pub crc: bool,
    /// The class name.
    pub class: &'a [u8],
    /// The header map, as [`super::fields::encode`] makes it.
    pub header: &'a [u8],
    /// The content.
    pub content: &'a [u8],
}

/// What a response is made of.
#[derive(Clone, Copy, Debug)]
pub struct ResponseParts<'a> {
    /// The version to write.
    pub version: Version,
    /// The id of the request.
    pub id: u32,
    /// The serialisation of the content.
    pub codec: u8,
    /// The status; a number, so that tests can send those that do not exist.
    pub status: u16,
    /// Whether to end with a CRC; only v2 with ver1 = 2 can.
    pub crc: bool,
    /// The class name.
    pub class: &'a [u8],
    /// The header map, as [`super::fields::encode`] makes it.
    pub header: &'a [u8],
    /// The content.
    pub content: &'a [u8],
}

/// Why a frame cannot be written. This is the caller's mistake, not a peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeFault {
    /// Class or header above 32,767 bytes, or content above 2^31 - 1.
    TooLong,
    /// A CRC was asked for on a version that has none.
    CrcNotPossible,
}

impl std::fmt::Display for EncodeFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::TooLong => "a part is longer than its length field can say",
            Self::CrcNotPossible => "this version has no CRC",
        })
    }
}

impl std::error::Error for EncodeFault {}

/// Appends a request to `out`; `out` is unchanged on a fault.
pub fn encode_request(parts: &RequestParts<'_>, out: &mut Vec<u8>) -> Result<(), EncodeFault> {
    let kind = if parts.oneway { Kind::Oneway } else { Kind::Request };
    let fixed = Fixed {
        codec: parts.codec,
        crc: parts.crc,
        timeout_ms: parts.timeout_ms,
        ..Fixed::new(parts.version, kind, parts.id)
    };
    fixed.append(parts.class, parts.header, parts.content, out)
}

/// Appends a response to `out`; `out` is unchanged on a fault.
pub fn encode_response(parts: &ResponseParts<'_>, out: &mut Vec<u8>) -> Result<(), EncodeFault> {
    let fixed = Fixed {
        codec: parts.codec,
        crc: parts.crc,
        status: parts.status,
        ..Fixed::new(parts.version, Kind::Response, parts.id)
    };
    fixed.append(parts.class, parts.header, parts.content, out)
}

/// The fixed part before it is written.
#[derive(Clone, Copy)]
struct Fixed {
    version: Version,
    kind: Kind,
    id: u32,
    codec: u8,
    crc: bool,
    timeout_ms: i32,
    status: u16,
    class_bytes: u16,
    header_bytes: u16,
    content_bytes: u32,
}

impl Fixed {
    fn new(version: Version, kind: Kind, id: u32) -> Self {
        Self {
            version,
            kind,
            id,
            codec: 0,
            crc: false,
            timeout_ms: -1,
            status: 0,
            class_bytes: 0,
            header_bytes: 0,
            content_bytes: 0,
        }
    }

    fn answer(cause: &Frame, kind: Kind, status: Status) -> Self {
        let fixed = Self::new(cause.version, kind, cause.id);
        Self { codec: cause.codec, crc: cause.crc, status: status.code(), ..fixed }
    }

    fn write_control(&self, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
        let len = self.write(out);
        if !self.crc {
            return len;
        }
        let crc = crc::of(&out[..len]);
        out[len..len + CRC_BYTES].copy_from_slice(&crc.to_be_bytes());
        len + CRC_BYTES
    }

    fn append(
        mut self,
        class: &[u8],
        header: &[u8],
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeFault> {
        if self.crc && self.version != (Version::V2 { ver1: 2 }) {
            return Err(EncodeFault::CrcNotPossible);
        }
        let limit = SIGNED_LENGTH_MAX as usize;
        if class.len() > limit || header.len() > limit || content.len() > i32::MAX as usize {
            return Err(EncodeFault::TooLong);
        }
        self.class_bytes = class.len() as u16;
        self.header_bytes = header.len() as u16;
        self.content_bytes = content.len() as u32;
        let mut fixed = [0; CONTROL_BYTES_MAX];
        let len = self.write(&mut fixed);
        let start = out.len();
        out.reserve(len + class.len() + header.len() + content.len() + CRC_BYTES);
        for part in [&fixed[..len], class, header, content] {
            out.extend_from_slice(part);
        }
        if self.crc {
            let crc = crc::of(&out[start..]);
            out.extend_from_slice(&crc.to_be_bytes());
        }
        Ok(())
    }

    fn write(&self, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
        let mut cursor = Cursor { out, at: 0 };
        cursor.put(&[self.version.protocol_code()]);
        if let Version::V2 { ver1 } = self.version {
            cursor.put(&[ver1]);
        }
        cursor.put(&[self.kind.type_code()]);
        cursor.put(&self.kind.command_code().to_be_bytes());
        cursor.put(&[COMMAND_VERSION]);
        cursor.put(&self.id.to_be_bytes());
        cursor.put(&[self.codec]);
        if let Version::V2 { .. } = self.version {
            cursor.put(&[if self.crc { CRC_SWITCH_BIT } else { 0 }]);
        }
        if self.kind.type_code() == TYPE_RESPONSE {
            cursor.put(&self.status.to_be_bytes());
        } else {
            cursor.put(&self.timeout_ms.to_be_bytes());
        }
        cursor.put(&self.class_bytes.to_be_bytes());
        cursor.put(&self.header_bytes.to_be_bytes());
        cursor.put(&self.content_bytes.to_be_bytes());
        cursor.at
    }
}

struct Cursor<'a> {
    out: &'a mut [u8; CONTROL_BYTES_MAX],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

const _: () = assert!(FIXED_BYTES_MAX + CRC_BYTES <= CONTROL_BYTES_MAX);

/// Java's default serialisation, named in frames that have no content.
const CODEC_HESSIAN2: u8 = 1;
