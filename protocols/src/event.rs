//! Owns what a codec says about bytes. Refuses to carry bytes: an event names places in the bytes
//! that were given to `decode`.

use crate::head::Head;
use crate::span::Span;

/// How far a codec came with the bytes it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing was consumed; offer again when so many bytes, counted from the same start, are there.
    Need(usize),
    /// Something happened within the first `consumed` bytes.
    Event {
        /// What happened.
        event: Event,
        /// How many bytes it took.
        consumed: usize,
    },
}

/// What happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message began; with [`Head::complete`] it also ended.
    Head(Head),
    /// A piece of a body that streams.
    Body {
        /// Where the piece is.
        piece: Span,
        /// True for the last piece of a message without trailers.
        last: bool,
    },
    /// The fields behind a body; they end the message.
    Trailers {
        /// Where they are.
        fields: Span,
    },
    /// The peer asks whether we are alive; answer with [`crate::Codec::answer_heartbeat`].
    Heartbeat(Head),
    /// The peer answered our heartbeat.
    HeartbeatAck(Head),
    /// The peer wants no new requests on this connection.
    Goaway(Head),
}
