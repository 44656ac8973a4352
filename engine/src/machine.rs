//! The contract between machines and drivers: what a connection is called with and what it may do.
//!
//! A [`Machine`] is one connection: a value that is called with an [`Input`] and acts through its [`Context`]. It never
//! blocks, reads no clock, owns no descriptor. Machines are written by the gateway, called by the drivers alone.
//!
//! The rules, each tested against every driver in `engine/tests/contract`:
//!
//! 1. A call runs to its end; it is never re-entered and never runs on two threads at once.
//! 2. `now` never goes back for one machine; time and randomness come in the [`Context`].
//! 3. Bytes are offered until consumed; the machine takes what it can use and says how many it needs
//!    ([`Context::need`]). Nothing above 16 KiB is offered twice. Not consuming from a full buffer is a fault.
//! 4. Mail from A to B arrives in order and exactly once, or bounces to A. Nothing is promised between different
//!    senders. A bounce whose sender is gone is dropped and counted.
//! 5. The effects of a call are carried out before the next call of the same machine, except output, which keeps its
//!    order and is flushed at the end of the batch; close comes last, after the flush. A connection that was handed over
//!    ([`Context::hand_over`]) calls its new machine from the next input on.
//! 6. A machine that paused reading is offered no bytes until it resumes.
//! 7. One armed deadline per machine; arming again replaces it; a stale one is never delivered.
//! 8. Nothing whose order is random reaches an output: one seed, one trace.
//! 9. [`Machine::freeze`] returns plain data or says why not yet; it is called with an empty inbox and all effects
//!    carried out. The unparsed tail and the unsent output are the driver's part of [`Frozen`].

use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::buf::{Chunk, Piece, Pool};
use crate::time::Time;

/// What the engine is instantiated with: the mail of its machines and what every worker owns.
pub trait Application: Send + Sync + Sized + 'static {
    /// What machines send each other.
    type Mail: Send + 'static;
    /// What every worker owns alone: pool tables, counters. A call uses the one of the worker that runs it.
    type Local: 'static;

    /// The state of worker `worker`, made on its own thread before it runs anything.
    fn local(&self, worker: usize) -> Self::Local;

    /// The machine of a connection that `listener` accepted; nothing refuses it, and it is reset. What else there is to
    /// know about the connection is asked of `accepted`, if anybody wants to know.
    fn accept(
        &self,
        local: &mut Self::Local,
        listener: u16,
        peer: SocketAddr,
        accepted: &dyn Accepted,
    ) -> Option<Box<dyn Machine<Self>>>;

    /// A connection is gone; called once for each, after its last byte was counted.
    fn closed(&self, local: &mut Self::Local, record: &Closed);

    /// Mail came back to a sender that is gone: what it carries (places, counts) must be given back here.
    fn orphaned(&self, local: &mut Self::Local, mail: Self::Mail);

    /// Many connections have gone, and their number stands: what is kept for as many may be freed. Called on every worker's
    /// thread that rests then.
    fn ebb(&self, _local: &mut Self::Local) {}

    /// The machine that `frozen` describes.
    fn thaw(&self, local: &mut Self::Local, frozen: &Frozen) -> Result<Box<dyn Machine<Self>>, ThawError>;
}

/// The socket of a connection that was just accepted. Each question is a system call, so it is asked only where needed.
pub trait Accepted {
    /// The address that the peer reached.
    fn local_address(&self) -> Option<SocketAddr>;

    /// Where the peer connected to before the packet filter sent it here; nothing if it did not.
    fn original_destination(&self) -> Option<SocketAddr>;
}

/// One connection.
pub trait Machine<A: Application>: Send {
    /// Handles one input. Everything the machine wants goes through `context`.
    fn on(&mut self, input: Input<'_, A>, context: &mut Context<'_, A>);

    /// The machine as plain data, or why that is not possible yet (rule 9). Only its own state: the driver adds tail
    /// and output.
    fn freeze(&self) -> Freeze;
}

/// What a machine is called with.
pub enum Input<'a, A: Application> {
    /// The connection is established: the first input of an accepted or opened connection, unless it fails.
    Opened,
    /// The connection could not be opened. The last input.
    Failed(OpenError),
    /// Bytes arrived. What is not consumed is offered again with more behind it.
    Bytes(&'a mut Incoming<'a>),
    /// Mail from another machine, or from outside ([`Address::OUTSIDE`]).
    Mail {
        /// Who sent it.
        from: Address,
        /// The mail.
        mail: A::Mail,
    },
    /// Mail of this machine came back: the receiver is gone and has not seen it.
    Bounced {
        /// Whom it was for.
        to: Address,
        /// The mail.
        mail: A::Mail,
    },
    /// The armed deadline has come.
    Deadline,
    /// Output was written ([`Context::watch_output`]).
    Flushed {
        /// Bytes written since the last such input.
        written: usize,
        /// Bytes that still wait.
        queued: usize,
    },
    /// The peer will send no more. The machine may still write.
    EndOfStream,
    /// The connection broke or the driver had to end it. The last input.
    Lost(Lost),
}

/// Bytes that arrived, offered for consumption: a view of the chunk they were read into.
pub struct Incoming<'a> {
    chunk: &'a mut Chunk,
}

impl<'a> Incoming<'a> {
    /// Offers what waits in `chunk`.
    pub fn new(chunk: &'a mut Chunk) -> Incoming<'a> {
        Incoming { chunk }
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.chunk.waiting()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.chunk.len()
    }

    /// True if none is left.
    pub fn is_empty(&self) -> bool {
        self.chunk.is_empty()
    }

    /// Consumes the first `bytes` as an owned piece, without a copy.
    pub fn take(&mut self, bytes: usize) -> Piece {
        self.chunk.take_piece(bytes)
    }

    /// Consumes the first `bytes` and forgets them.
    pub fn consume(&mut self, bytes: usize) {
        self.chunk.consume(bytes);
    }
}

/// Names one connection for ever: slot index and generation. It is never given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The slot.
    pub index: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

impl Address {
    /// No connection: the sender of mail that comes from the control plane.
    pub const OUTSIDE: Address = Address { index: u32::MAX, generation: u32::MAX };

    /// The address as one number, as `epoll` data and `/connections` show it.
    pub const fn as_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The address of [`Address::as_u64`].
    pub const fn from_u64(value: u64) -> Address {
        Address { index: value as u32, generation: (value >> 32) as u32 }
    }
}

/// Why a connection could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The peer refused.
    Refused,
    /// The connect deadline passed.
    TimedOut,
    /// No route, network down and the like.
    Unreachable,
    /// No descriptor, port or memory left on this side.
    Exhausted,
    /// Anything else that the system reported.
    Other,
}

impl From<&io::Error> for OpenError {
    fn from(error: &io::Error) -> OpenError {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused | Kind::ConnectionReset => OpenError::Refused,
            Kind::TimedOut => OpenError::TimedOut,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => OpenError::Unreachable,
            Kind::AddrNotAvailable | Kind::AddrInUse | Kind::OutOfMemory => OpenError::Exhausted,
            _ if matches!(error.raw_os_error(), Some(23 | 24 | 105)) => OpenError::Exhausted,
            _ => OpenError::Other,
        }
    }
}

/// Why a connection ended without the machine asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The peer reset it.
    Reset,
    /// Keepalive or `TCP_USER_TIMEOUT` gave up on the peer.
    TimedOut,
    /// Any other error of the socket.
    Broken,
    /// The buffer ceiling left no room for what it had to keep.
    MemoryCeiling,
    /// The machine consumed nothing from a full buffer (rule 3).
    Stuck,
    /// The engine stops.
    Shutdown,
}

/// How a machine wants to be connected.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Where to.
    pub to: SocketAddr,
    /// The address of this host to connect from; the system chooses where nothing is said.
    pub from: Option<IpAddr>,
    /// The deadline of the connect, in milliseconds from now.
    pub timeout_ms: u64,
}

impl Open {
    /// To `to` within `timeout_ms`, from wherever the system chooses.
    pub fn new(to: SocketAddr, timeout_ms: u64) -> Open {
        Open { to, from: None, timeout_ms }
    }
}

/// A new connection was refused: `--max-connections` is reached, or descriptors have run out. Gives the machine back.
pub struct OpenRefused<A: Application>(pub Box<dyn Machine<A>>);

/// How a connection ended, for logs and counters.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// The connection.
    pub address: Address,
    /// Its peer; nothing if it never was connected.
    pub peer: Option<SocketAddr>,
    /// The listener that accepted it; nothing if this side opened it.
    pub listener: Option<u16>,
    /// Why.
    pub cause: CloseCause,
    /// Milliseconds since it was opened.
    pub age_ms: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Requests the machine counted.
    pub requests: u64,
}

/// Who ended a connection, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The machine, with the reason code of its application.
    Machine(u8),
    /// It was never established.
    Failed(OpenError),
    /// The driver or the peer.
    Lost(Lost),
}

/// The result of [`Machine::freeze`].
#[derive(Debug)]
pub enum Freeze {
    /// The machine as data.
    Frozen(Frozen),
    /// Not between two inputs of this kind; asked again after the next deadline at the latest.
    NotYet {
        /// What stands in the way.
        why: &'static str,
    },
}

/// A machine as versioned plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The version of `state`'s form.
    pub version: u16,
    /// Which kind of machine, in its application's numbering.
    pub kind: u16,
    /// The machine's own state.
    pub state: Vec<u8>,
    /// Every address that the state refers to, by position, so that they can be renumbered.
    pub partners: Vec<Address>,
    /// Bytes that were read and not consumed; filled in by the driver.
    pub tail: Vec<u8>,
    /// Bytes that were not written yet; filled in by the driver.
    pub output: Vec<u8>,
}

/// Why frozen data cannot become a machine again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThawError(pub String);

/// What a machine has done in one call, for the driver to carry out. Reused from call to call.
pub struct Effects<A: Application> {
    /// Mail, in order of sending.
    pub mail: Vec<(Address, A::Mail)>,
    /// Output, in order.
    pub output: Vec<Piece>,
    /// The new deadline, if it was changed: `Some(None)` disarms.
    pub deadline: Option<Option<Time>>,
    /// Whether reading is wanted from now on, if it was changed.
    pub reading: Option<bool>,
    /// Whether [`Input::Flushed`] is wanted from now on, if it was changed.
    pub watch_output: Option<bool>,
    /// The write side is shut after what is queued.
    pub shutdown: bool,
    /// The connection is closed, with the application's reason; `true` throws output away and resets.
    pub close: Option<(u8, bool)>,
    /// Bytes that must wait before the next offer makes sense.
    pub need: usize,
    /// Requests counted in this call.
    pub requests: u32,
    /// Requests in flight, if it was changed.
    pub in_flight: Option<u32>,
    /// The state byte that `/connections` shows, if it was changed.
    pub state: Option<u8>,
    /// Whether this call was activity for the idle clock.
    pub active: bool,
    /// The machine that takes over the connection.
    pub successor: Option<Box<dyn Machine<A>>>,
}

impl<A: Application> Default for Effects<A> {
    fn default() -> Effects<A> {
        Effects {
            mail: Vec::new(),
            output: Vec::new(),
            deadline: None,
            reading: None,
            watch_output: None,
            shutdown: false,
            close: None,
            need: 0,
            requests: 0,
            in_flight: None,
            state: None,
            active: false,
            successor: None,
        }
    }
}

/// What a driver does for a machine during a call.
pub trait Host<A: Application> {
    /// Makes a new connection and its slot; the machine's first input is `Opened` or `Failed`.
    fn open(&mut self, open: Open, machine: Box<dyn Machine<A>>) -> Result<Address, OpenRefused<A>>;

    /// Says who the peer really is. False if that source has as many connections as one may have.
    fn set_peer(&mut self, peer: SocketAddr) -> bool;

    /// A copy of `bytes` as a piece, carved out of the batch's memory.
    fn copy(&mut self, bytes: &[u8]) -> Option<Piece>;

    /// Copies `bytes` behind those of `piece`, if it was the last copy and there is room; else false, and nothing changed.
    fn extend(&mut self, piece: &mut Piece, bytes: &[u8]) -> bool;

    /// A random number.
    fn random(&mut self) -> u64;
}

/// Everything a machine may do during a call.
pub struct Context<'a, A: Application> {
    /// The current moment.
    pub now: Time,
    /// The machine's own address.
    pub me: Address,
    /// The peer.
    pub peer: SocketAddr,
    /// When bytes last arrived or the machine last said [`Context::mark_active`].
    pub last_active: Time,
    /// Bytes of output that wait, without those of this call.
    pub output_bytes: usize,
    /// Bytes that were read and wait for more ([`Context::need`]): how far a large message has come.
    pub input_bytes: usize,
    /// True if nothing was read since memory was too short for it: the peer is not to be blamed for being silent or slow.
    pub held_back: bool,
    /// What the worker that runs this call owns.
    pub local: &'a mut A::Local,
    /// The buffer pool.
    pub pool: &'a Pool,
    /// What the driver carries out after the call.
    pub effects: &'a mut Effects<A>,
    /// What the driver does at once.
    pub host: &'a mut dyn Host<A>,
}

/// Up to so many bytes are copied to be written as one range.
const JOINED_BYTES_MAX: usize = 2 << 10;

impl<A: Application> Context<'_, A> {
    /// Sends mail; it arrives after this call, or bounces.
    pub fn send(&mut self, to: Address, mail: A::Mail) {
        self.effects.mail.push((to, mail));
    }

    /// Queues `piece` for the peer.
    pub fn write(&mut self, piece: Piece) {
        self.effects.output.push(piece);
    }

    /// Queues `piece` for the peer, by a copy behind what this call copied last if both are small: one range costs the
    /// system less than two, and more than the copy.
    pub fn write_behind(&mut self, piece: Piece) {
        if !self.extend_last(&piece) {
            self.write(piece);
        }
    }

    fn extend_last(&mut self, bytes: &[u8]) -> bool {
        let Some(last) = self.effects.output.last_mut() else { return false };
        last.len() + bytes.len() <= JOINED_BYTES_MAX && self.host.extend(last, bytes)
    }

    /// Queues a copy of a few bytes for the peer. False at the buffer ceiling: nothing was queued.
    #[must_use]
    pub fn write_copy(&mut self, bytes: &[u8]) -> bool {
        self.extend_last(bytes)
            || self.host.copy(bytes).map(|piece| self.effects.output.push(piece)).is_some()
    }

    /// Makes `piece` fit to outlive the batch. False at the buffer ceiling.
    #[must_use]
    pub fn keep(&self, piece: &mut Piece) -> bool {
        piece.keep(self.pool)
    }

    /// Opens a connection that `machine` runs.
    pub fn open(&mut self, open: Open, machine: Box<dyn Machine<A>>) -> Result<Address, OpenRefused<A>> {
        self.host.open(open, machine)
    }

    /// Says who the peer really is, where somebody in front of this process knows: from the next call on it is
    /// [`Context::peer`], and what the limit of connections per source counts. False if that source has as many as it may.
    #[must_use]
    pub fn set_peer(&mut self, peer: SocketAddr) -> bool {
        let granted = self.host.set_peer(peer);
        if granted {
            self.peer = peer;
        }
        granted
    }

    /// Arms the one deadline, or disarms it.
    pub fn set_deadline(&mut self, deadline: Option<Time>) {
        self.effects.deadline = Some(deadline);
    }

    /// Stops or resumes reading.
    pub fn set_reading(&mut self, reading: bool) {
        self.effects.reading = Some(reading);
    }

    /// Asks for [`Input::Flushed`] after every flush, or no longer.
    pub fn watch_output(&mut self, watch: bool) {
        self.effects.watch_output = Some(watch);
    }

    /// Says that nothing can be done before `bytes` wait in all.
    pub fn need(&mut self, bytes: usize) {
        self.effects.need = bytes;
    }

    /// Hands the connection over to `machine`: every input from the next one on is for it, and bytes that this call
    /// leaves are offered to it at once. It is not told that the connection is open, but of the end of the stream even if
    /// its predecessor was. The armed deadline, the wish to read and the wish to hear of output stay as they are.
    pub fn hand_over(&mut self, machine: Box<dyn Machine<A>>) {
        self.effects.successor = Some(machine);
    }

    /// Shuts the write side once everything queued is written (FIN).
    pub fn shutdown_write(&mut self) {
        self.effects.shutdown = true;
    }

    /// Closes once everything queued is written, for the application's `reason`.
    pub fn close(&mut self, reason: u8) {
        self.effects.close.get_or_insert((reason, false));
    }

    /// Resets at once; queued output is thrown away.
    pub fn reset(&mut self, reason: u8) {
        self.effects.close = Some((reason, true));
    }

    /// Counts a request.
    pub fn count_request(&mut self) {
        self.effects.requests += 1;
    }

    /// Counts several.
    pub fn count_requests(&mut self, count: u32) {
        self.effects.requests += count;
    }

    /// Publishes the number of requests in flight.
    pub fn set_in_flight(&mut self, in_flight: usize) {
        self.effects.in_flight = Some(u32::try_from(in_flight).unwrap_or(u32::MAX));
    }

    /// Publishes the state byte that `/connections` shows.
    pub fn set_state(&mut self, state: u8) {
        self.effects.state = Some(state);
    }

    /// Counts this call as activity for the idle clock; arriving bytes do so by themselves.
    pub fn mark_active(&mut self) {
        self.effects.active = true;
    }

    /// A random number.
    pub fn random(&mut self) -> u64 {
        self.host.random()
    }
}
