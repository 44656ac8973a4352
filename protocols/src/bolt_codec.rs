//! Owns the Bolt codec: the wire functions of [`crate::bolt`] under the neutral contract, plus the
//! one fact a Bolt connection remembers, its version. Refuses to choose ids: they are the gateway's.

use crate::bolt;
use crate::bolt::Decoded;
use crate::bolt::Frame;
use crate::bolt::Kind;
use crate::bolt::Version;
use crate::bolt::frame::rewrite_id;
use crate::codec::CONTROL_BYTES_MAX;
use crate::codec::Codec;
use crate::codec::Frozen;
use crate::codec::UnknownState;
use crate::event::Event;
use crate::event::Step;
use crate::fault::Fault;
use crate::head::Extras;
use crate::head::Head;
use crate::head::HeadKind;
use crate::item::Item;
use crate::item::Refusal;
use crate::limits::Limits;

/// Bolt v1 and v2 on one connection, told apart by the first byte of every frame.
#[derive(Clone, Copy, Debug)]
pub struct BoltCodec {
    limits: Limits,
    /// The version for frames that nothing of the peer's caused: the last one seen, at first the
    /// one the connection was made for.
    version: Version,
}

impl BoltCodec {
    /// A codec for a connection that begins with `version`.
    pub const fn new(version: Version, limits: Limits) -> Self {
        Self { limits, version }
    }

    /// The version of the last frame.
    pub const fn version(&self) -> Version {
        self.version
    }
}

impl Codec for BoltCodec {
    fn decode(&mut self, bytes: &mut [u8]) -> Result<Step, Fault> {
        let frame = match bolt::decode(bytes, &self.limits)? {
            Decoded::Need(total) => return Ok(Step::Need(total)),
            Decoded::Frame(frame) => frame,
        };
        if self.limits.crc_verify {
            frame.check_crc(bytes)?;
        }
        self.version = frame.version;
        Ok(Step::Event { event: event_of(frame), consumed: frame.total_bytes as usize })
    }

    fn peek(&self, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        match bolt::peek(bytes, &self.limits)? {
            Decoded::Need(_) => Ok(None),
            Decoded::Frame(frame) => Ok(Some(head_of(frame, bytes.len() >= frame.total_bytes as usize))),
        }
    }

    fn encode(&mut self, item: Item<'_>) {
        let Item::Message { head, bytes, id } = item;
        rewrite_id(bytes, head.frame(), id);
    }

    fn heartbeat(&mut self, id: u32, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
        bolt::encode_heartbeat(self.version, id, out)
    }

    fn answer_heartbeat(&mut self, cause: &Head, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
        bolt::encode_heartbeat_ack(cause.frame(), out)
    }

    fn goodbye(&mut self, id: u32, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
        bolt::encode_goaway(self.version, id, out)
    }

    fn refuse(&mut self, cause: &Head, refusal: Refusal, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
        bolt::encode_error(cause.frame(), refusal.bolt, out)
    }

    fn freeze(&self) -> Frozen {
        let (protocol_code, ver1) = self.version.pool_key();
        Frozen { format: FROZEN_FORMAT, state: [protocol_code, ver1, 0, 0, 0, 0, 0] }
    }

    fn thaw(&mut self, frozen: Frozen) -> Result<(), UnknownState> {
        if frozen.format != FROZEN_FORMAT {
            return Err(UnknownState);
        }
        let [protocol_code, ver1, spare @ ..] = frozen.state;
        if spare != [0; 5] {
            return Err(UnknownState);
        }
        self.version = Version::from_pool_key((protocol_code, ver1)).ok_or(UnknownState)?;
        Ok(())
    }
}

fn event_of(frame: Frame) -> Event {
    let head = head_of(frame, true);
    match frame.kind {
        Kind::Request | Kind::Oneway | Kind::Response => Event::Head(head),
        Kind::Heartbeat => Event::Heartbeat(head),
        Kind::HeartbeatAck => Event::HeartbeatAck(head),
        Kind::Goaway => Event::Goaway(head),
    }
}

fn head_of(frame: Frame, complete: bool) -> Head {
    let kind = match frame.kind {
        Kind::Request | Kind::Heartbeat => HeadKind::Request,
        Kind::Oneway | Kind::Goaway => HeadKind::Oneway,
        Kind::Response | Kind::HeartbeatAck => HeadKind::Response,
    };
    Head {
        kind,
        id: frame.id,
        deadline_ms: frame.deadline_ms(),
        complete,
        fault: frame.head_fault(),
        extras: Extras::Bolt(frame),
    }
}

/// The first layout: protocol code, ver1, five spare zeros.
const FROZEN_FORMAT: u8 = 1;
