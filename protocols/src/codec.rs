//! Owns the contract of all codecs. Refuses I/O, clocks, threads, closures and borrowed buffers, so
//! that a codec can be tested with bytes alone and frozen at any message boundary. Called by the
//! machines of the gateway.

use crate::event::Step;
use crate::fault::Fault;
use crate::head::Head;
use crate::item::Item;
use crate::item::Refusal;

pub use crate::bolt::encode::CONTROL_BYTES_MAX;

/// Turns bytes into events and items into bytes, for one connection.
///
/// The small messages that a gateway makes by itself are written into a caller's array, so that
/// none of them allocates; each such function returns how many bytes it wrote, 0 when there is
/// nothing to send.
pub trait Codec {
    /// Reads the next event from the start of `bytes`.
    fn decode(&mut self, bytes: &mut [u8]) -> Result<Step, Fault>;

    /// The head of a message that has only begun to arrive, so that room can be reserved for it;
    /// `None` while even that is not known. Changes nothing.
    fn peek(&self, bytes: &[u8]) -> Result<Option<Head>, Fault>;

    /// Makes `item` fit for the connection it goes to, in place.
    fn encode(&mut self, item: Item<'_>);

    /// Writes a heartbeat of ours.
    fn heartbeat(&mut self, id: u32, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize;

    /// Writes the answer to a heartbeat of the peer.
    fn answer_heartbeat(&mut self, cause: &Head, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize;

    /// Writes what tells the peer, in the protocol's own words, that no new requests are wanted.
    fn goodbye(&mut self, id: u32, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize;

    /// Writes the error reply to `cause`; nothing for a message that is never answered.
    fn refuse(&mut self, cause: &Head, refusal: Refusal, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize;

    /// The state as plain data. Bytes that were not consumed are the caller's to keep.
    fn freeze(&self) -> Frozen;

    /// Puts back a state that [`Codec::freeze`] gave, perhaps in another process or version.
    fn thaw(&mut self, frozen: Frozen) -> Result<(), UnknownState>;
}

/// A codec's state: a format number and what that format holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Which codec and layout wrote it.
    pub format: u8,
    /// The state itself.
    pub state: [u8; 7],
}

impl Frozen {
    /// As bytes, for a transfer.
    pub const fn to_bytes(self) -> [u8; 8] {
        let [a, b, c, d, e, f, g] = self.state;
        [self.format, a, b, c, d, e, f, g]
    }

    /// From the bytes of a transfer.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [format, a, b, c, d, e, f, g] = bytes;
        Self { format, state: [a, b, c, d, e, f, g] }
    }
}

/// The frozen state is of another codec, or of a layout that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownState;

impl std::fmt::Display for UnknownState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the codec state has an unknown format")
    }
}

impl std::error::Error for UnknownState {}
