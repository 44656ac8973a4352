//! Owns the shape of a Bolt frame: finds its end, checks every declared length against the limits,
//! and rewrites the request id in place. Refuses to decode the header map (see
//! [`super::fields`]), class and content. Called by [`crate::BoltCodec`], by clients and by tests.

use super::crc;
use crate::fault::Fault;
use crate::fault::HeadFault;
use crate::limits::Limits;
use crate::span::Span;

/// The version of one frame; both may be mixed on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// Protocol code 1.
    V1,
    /// Protocol code 2.
    V2 {
        /// The protocol version byte: 1, or 2 where a CRC is possible.
        ver1: u8,
    },
}

impl Version {
    /// The first byte of a frame.
    pub const fn protocol_code(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 { .. } => 2,
        }
    }

    /// What upstream connections are kept apart by: (protocol code, ver1). A Java server fixes
    /// the version of all its replies by the first frame of the connection.
    pub const fn pool_key(self) -> (u8, u8) {
        match self {
            Self::V1 => (1, 0),
            Self::V2 { ver1 } => (2, ver1),
        }
    }

    /// The version of a pool key, if there is one.
    pub const fn from_pool_key(key: (u8, u8)) -> Option<Self> {
        match key {
            (1, 0) => Some(Self::V1),
            (2, ver1 @ (1 | 2)) => Some(Self::V2 { ver1 }),
            _ => None,
        }
    }

    /// Where the request id begins.
    pub const fn id_offset(self) -> usize {
        5 + self.shift()
    }

    /// How much further than in v1 the first fields are.
    pub(super) const fn shift(self) -> usize {
        match self {
            Self::V1 => 0,
            Self::V2 { .. } => 1,
        }
    }

    /// Where timeout or status begin.
    pub(super) const fn tail_offset(self) -> usize {
        10 + 2 * self.shift()
    }
}

/// What a frame is for: its type and command code together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A call that waits for its response.
    Request,
    /// A call that nothing answers, not even an error.
    Oneway,
    /// The answer to a call.
    Response,
    /// Asks whether the peer is alive.
    Heartbeat,
    /// The answer to a heartbeat.
    HeartbeatAck,
    /// MOSN's own: no new requests on this connection, please.
    Goaway,
}

impl Kind {
    /// The type byte.
    pub const fn type_code(self) -> u8 {
        match self {
            Self::Response | Self::HeartbeatAck => TYPE_RESPONSE,
            Self::Request | Self::Heartbeat | Self::Goaway => TYPE_REQUEST,
            Self::Oneway => TYPE_ONEWAY,
        }
    }

    /// The command code.
    pub const fn command_code(self) -> u16 {
        match self {
            Self::Heartbeat | Self::HeartbeatAck => COMMAND_HEARTBEAT,
            Self::Request | Self::Oneway => COMMAND_REQUEST,
            Self::Response => COMMAND_RESPONSE,
            Self::Goaway => COMMAND_GOAWAY,
        }
    }

    fn from_codes(type_code: u8, command_code: u16) -> Result<Self, Fault> {
        match (type_code, command_code) {
            (TYPE_REQUEST, COMMAND_REQUEST) => Ok(Self::Request),
            (TYPE_RESPONSE, COMMAND_RESPONSE) => Ok(Self::Response),
            (TYPE_ONEWAY, COMMAND_REQUEST) => Ok(Self::Oneway),
            (TYPE_REQUEST, COMMAND_HEARTBEAT) => Ok(Self::Heartbeat),
            (TYPE_RESPONSE, COMMAND_HEARTBEAT) => Ok(Self::HeartbeatAck),
            (TYPE_REQUEST, COMMAND_GOAWAY) => Ok(Self::Goaway),
            (_, COMMAND_HEARTBEAT | COMMAND_REQUEST | COMMAND_RESPONSE | COMMAND_GOAWAY) => {
                Err(Fault::MismatchedCommand)
            }
            _ => Err(Fault::UnknownCommand),
        }
    }
}

/// The fixed part of a frame, and where the rest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The version, by the first byte (and the second).
    pub version: Version,
    /// What the frame is for.
    pub kind: Kind,
    /// The serialisation of the content; opaque to us.
    pub codec: u8,
    /// The switch byte of v2 as it was sent; 0 in v1.
    pub switch: u8,
    /// True when a CRC trailer ends the frame.
    pub crc: bool,
    /// The status of a response; 0 in a request.
    pub status: u16,
    /// The request id.
    pub id: u32,
    /// The timeout of a request, -1 for none; 0 in a response.
    pub timeout_ms: i32,
    /// The class name.
    pub class: Span,
    /// The header map.
    pub header: Span,
    /// The content.
    pub content: Span,
    /// The whole frame, with its trailer.
    pub total_bytes: u32,
}

const _: () = assert!(size_of::<Frame>() <= 64, "a frame is copied freely");

/// How far [`decode`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// So many bytes, counted from the start of the frame, are needed before decoding gets
    /// further; always more than were given.
    Need(usize),
    /// The frame at the start of the bytes.
    Frame(Frame),
}

/// Decodes the frame at the start of `bytes` once all of it is there. A fault is reported at the
/// earliest byte that shows it. The CRC is not looked at, see [`Frame::check_crc`].
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, Fault> {
    match peek(bytes, limits)? {
        Decoded::Frame(frame) if bytes.len() < frame.total_bytes as usize => {
            Ok(Decoded::Need(frame.total_bytes as usize))
        }
        decoded => Ok(decoded),
    }
}

/// Like [`decode`], but content with the fixed part (at most 24 bytes): says what is coming, so
/// that room can be reserved for it.
pub fn peek(bytes: &[u8], limits: &Limits) -> Result<Decoded, Fault> {
    match bytes.first_chunk() {
        // Nearly every call: the compiler drops each question whether a byte has arrived.
        Some(fixed) => Prefix { bytes: fixed, len: FIXED_BYTES_MAX }.peek(limits),
        None => peek_short(bytes, limits),
    }
}

/// [`peek`] where fewer bytes are there than the longest fixed part has.
#[cold]
fn peek_short(bytes: &[u8], limits: &Limits) -> Result<Decoded, Fault> {
    let mut padded = [0; FIXED_BYTES_MAX];
    let len = bytes.len().min(FIXED_BYTES_MAX);
    padded[..len].copy_from_slice(&bytes[..len]);
    Prefix { bytes: &padded, len }.peek(limits)
}

impl Frame {
    /// How long the part before the class name is.
    pub const fn fixed_bytes(&self) -> usize {
        self.class.start as usize
    }

    /// Why a complete frame must still not be forwarded. Java reads the lengths of class and
    /// header as signed 16-bit numbers, so what is above would break its framing.
    pub const fn head_fault(&self) -> Option<HeadFault> {
        if self.class.len > SIGNED_LENGTH_MAX {
            return Some(HeadFault::ClassTooLong);
        }
        if self.header.len > SIGNED_LENGTH_MAX {
            return Some(HeadFault::HeaderTooLong);
        }
        None
    }

    /// The deadline that the caller asked for; `None` leaves it to the route.
    pub fn deadline_ms(&self) -> Option<u32> {
        u32::try_from(self.timeout_ms).ok().filter(|ms| *ms > 0)
    }

    /// Verifies the CRC trailer of a complete frame, if there is one.
    pub fn check_crc(&self, bytes: &[u8]) -> Result<(), Fault> {
        if !self.crc {
            return Ok(());
        }
        let Some((body, trailer)) = self.split_trailer(bytes) else { return Err(Fault::CrcMismatch) };
        if crc::of(body).to_be_bytes() == trailer { Ok(()) } else { Err(Fault::CrcMismatch) }
    }

    fn split_trailer<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], [u8; CRC_BYTES])> {
        let (body, trailer) = bytes.get(..self.total_bytes as usize)?.split_last_chunk()?;
        Some((body, *trailer))
    }

    fn check_lengths(&self, limits: &Limits) -> Result<(), Fault> {
        let head_bytes = self.class.len + self.header.len;
        let content_bytes_max = limits.content_bytes_max.min(i32::MAX as u32);
        match self.kind {
            Kind::Heartbeat | Kind::HeartbeatAck if head_bytes + self.content.len.min(1) > 0 => {
                Err(Fault::HeartbeatWithBody)
            }
            Kind::Goaway if head_bytes + self.content.len.min(1) > 0 => Err(Fault::GoawayWithBody),
            _ if head_bytes > limits.class_header_bytes_max => Err(Fault::HeadTooLarge),
            _ if self.content.len > content_bytes_max => Err(Fault::ContentTooLarge),
            _ => Ok(()),
        }
    }
}

/// Puts another id into a complete frame, in place; everything else stays byte for byte. A CRC
/// trailer is patched, not computed anew, so a frame that was damaged before it came here still
/// shows that to its receiver.
///
/// # Panics
/// When `bytes` is not exactly the frame that `frame` was decoded from.
pub fn rewrite_id(bytes: &mut [u8], frame: &Frame, id: u32) {
    assert_eq!(bytes.len(), frame.total_bytes as usize, "the bytes are the frame's");
    let at = frame.version.id_offset();
    let old = id_at(bytes, at);
    bytes[at..at + 4].copy_from_slice(&id.to_be_bytes());
    if !frame.crc {
        return;
    }
    let trailer_at = bytes.len() - CRC_BYTES;
    let difference = crc::difference((old ^ id).to_be_bytes(), (trailer_at - at - 4) as u32);
    let trailer = id_at(bytes, trailer_at) ^ difference;
    bytes[trailer_at..].copy_from_slice(&trailer.to_be_bytes());
}

fn id_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The fixed part, padded with zeros where it has not arrived. A big-endian length only grows when
/// zeros become bytes, so a length that is too large shows at its first byte that says so.
struct Prefix<'a> {
    bytes: &'a [u8; FIXED_BYTES_MAX],
    len: usize,
}

/// The value, or how many bytes are needed to know it.
type OrNeed<T> = Result<T, usize>;

// Inlined, so that the prefix that is all there has no branch for one that is not.
impl Prefix<'_> {
    #[inline(always)]
    fn peek(&self, limits: &Limits) -> Result<Decoded, Fault> {
        let version = match self.version()? {
            Ok(version) => version,
            Err(need) => return Ok(Decoded::Need(need)),
        };
        let kind = match self.kind(version)? {
            Ok(kind) => kind,
            Err(need) => return Ok(Decoded::Need(need)),
        };
        let frame = self.frame(version, kind)?;
        frame.check_lengths(limits)?;
        if self.len < frame.fixed_bytes() {
            return Ok(Decoded::Need(frame.fixed_bytes()));
        }
        Ok(Decoded::Frame(frame))
    }

    #[inline(always)]
    fn version(&self) -> Result<OrNeed<Version>, Fault> {
        match (self.byte(0), self.byte(1)) {
            (None, _) => Ok(Err(FIXED_BYTES_MIN)),
            (Some(1), _) => Ok(Ok(Version::V1)),
            (Some(2), None) => Ok(Err(FIXED_BYTES_MIN + 2)),
            (Some(2), Some(ver1 @ (1 | 2))) => Ok(Ok(Version::V2 { ver1 })),
            (Some(2), Some(_)) => Err(Fault::UnknownVersion),
            (Some(_), _) => Err(Fault::UnknownProtocol),
        }
    }

    #[inline(always)]
    fn kind(&self, version: Version) -> Result<OrNeed<Kind>, Fault> {
        let at = 1 + version.shift();
        let fixed_bytes = match self.byte(at) {
            None | Some(TYPE_RESPONSE) => version.tail_offset() + 10,
            Some(TYPE_REQUEST | TYPE_ONEWAY) => version.tail_offset() + 12,
            Some(_) => return Err(Fault::UnknownType),
        };
        match (self.byte(at + 1), self.byte(at + 2)) {
            (Some(0), Some(low)) => Kind::from_codes(self.bytes[at], u16::from(low)).map(Ok),
            // All command codes are below 256.
            (Some(1..), _) => Err(Fault::UnknownCommand),
            _ => Ok(Err(fixed_bytes)),
        }
    }

    #[inline(always)]
    fn frame(&self, version: Version, kind: Kind) -> Result<Frame, Fault> {
        let shift = version.shift();
        let tail = version.tail_offset();
        if self.byte(4 + shift).is_some_and(|ver2| ver2 != COMMAND_VERSION) {
            return Err(Fault::UnknownCommandVersion);
        }
        let switch = if shift == 0 { 0 } else { self.bytes[11] };
        if switch & RESERVED_SWITCH_BIT != 0 {
            return Err(Fault::ReservedSwitchBit);
        }
        let response = kind.type_code() == TYPE_RESPONSE;
        let lengths = if response { tail + 2 } else { tail + 4 };
        let class = Span::new(lengths as u32 + 8, u32::from(self.u16(lengths)));
        let header = Span::new(class.end(), u32::from(self.u16(lengths + 2)));
        let content = Span::new(header.end(), self.u32(lengths + 4));
        let crc = version == (Version::V2 { ver1: 2 }) && switch & CRC_SWITCH_BIT != 0;
        Ok(Frame {
            version,
            kind,
            codec: self.bytes[9 + shift],
            switch,
            crc,
            status: if response { self.u16(tail) } else { 0 },
            id: self.u32(5 + shift),
            timeout_ms: if response { 0 } else { self.u32(tail) as i32 },
            class,
            header,
            content,
            total_bytes: content.end().saturating_add(if crc { CRC_BYTES as u32 } else { 0 }),
        })
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        (at < self.len).then(|| self.bytes[at])
    }

    #[inline(always)]
    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    #[inline(always)]
    fn u32(&self, at: usize) -> u32 {
        id_at(self.bytes, at)
    }
}

/// The longest class or header that a signed 16-bit length can say.
pub const SIGNED_LENGTH_MAX: u32 = i16::MAX as u32;
/// The CRC trailer.
pub const CRC_BYTES: usize = 4;
/// The longest fixed part, that of a v2 request.
pub const FIXED_BYTES_MAX: usize = 24;
/// The shortest fixed part, that of a v1 response: no frame is shorter.
pub const FIXED_BYTES_MIN: usize = 20;

pub(super) const TYPE_RESPONSE: u8 = 0;
const TYPE_REQUEST: u8 = 1;
const TYPE_ONEWAY: u8 = 2;
const COMMAND_HEARTBEAT: u16 = 0;
const COMMAND_REQUEST: u16 = 1;
const COMMAND_RESPONSE: u16 = 2;
const COMMAND_GOAWAY: u16 = 100;
pub(super) const COMMAND_VERSION: u8 = 1;
pub(super) const CRC_SWITCH_BIT: u8 = 1;
const RESERVED_SWITCH_BIT: u8 = 0x80;
