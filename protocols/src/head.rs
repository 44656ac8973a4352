//! Owns the neutral head of a message: only what routing, filters and limits read. Everything
//! else stays in the protocol's own [`Extras`] and passes through untouched. Made by codecs, read
//! by the gateway.

use crate::bolt::Frame;
use crate::bolt::fields;
use crate::fault::HeadFault;
use crate::limits::Limits;
use crate::span::Span;

/// Whether an answer is owed for a message, or it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadKind {
    /// A call that is answered exactly once.
    Request,
    /// A call that is never answered.
    Oneway,
    /// An answer.
    Response,
}

/// The neutral head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether an answer is owed.
    pub kind: HeadKind,
    /// What pairs a response with its request on one connection.
    pub id: u32,
    /// The deadline that the caller asked for; `None` leaves it to the route.
    pub deadline_ms: Option<u32>,
    /// True when the whole message is in the bytes of this event: no body or trailers follow.
    pub complete: bool,
    /// Why the message cannot be forwarded although it is complete.
    pub fault: Option<HeadFault>,
    /// What only the protocol itself reads.
    pub extras: Extras,
}

/// What a protocol needs to forward or answer the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extras {
    /// The decoded fixed part of a Bolt frame.
    Bolt(Frame),
}

impl Head {
    /// The values of header fields, as spans of `message`, in one walk. Case-sensitive for Bolt.
    pub fn fields<const N: usize>(
        &self,
        message: &[u8],
        keys: [&[u8]; N],
        limits: &Limits,
    ) -> Result<[Option<Span>; N], HeadFault> {
        let Extras::Bolt(frame) = &self.extras;
        let header = frame.header.of(message);
        let found = fields::find_each(header, keys, limits.header_fields_max)?;
        Ok(found.map(|value| value.map(|span| span.shifted(frame.header.start))))
    }

    /// The value of one header field, as a span of `message`.
    pub fn field(&self, message: &[u8], key: &[u8], limits: &Limits) -> Result<Option<Span>, HeadFault> {
        let [value] = self.fields(message, [key], limits)?;
        Ok(value)
    }

    /// How many bytes the whole message takes on the wire, as its sender declared: what a
    /// reservation for it must hold.
    pub const fn declared_bytes(&self) -> usize {
        self.frame().total_bytes as usize
    }

    /// The Bolt frame behind this head.
    pub const fn frame(&self) -> &Frame {
        let Extras::Bolt(frame) = &self.extras;
        frame
    }
}
