//! What a running driver offers to the rest of the process: figures, mail from outside, and its end.
//!
//! Implemented by every driver that runs on real sockets, called through [`crate::engine::Handle`] by the control plane.
//! No method is called by a machine.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::driver::core::Note;
use crate::machine::{Address, Application, CloseCause, Closed};
use crate::slot::shared::{NO_LISTENER, Shared};
use crate::stats::Stats;
use crate::time::{Tick, Time};

/// One connection as `/connections` shows it. Its figures may be those of two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The connection.
    pub address: Address,
    /// Its peer; nothing while it is not known.
    pub peer: Option<SocketAddr>,
    /// The listener that accepted it; nothing if this side opened it.
    pub listener: Option<u16>,
    /// When it was accepted or opened.
    pub opened: Time,
    /// When bytes last passed, or the machine last said so.
    pub last_active: Time,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Buffer memory that it is charged with, in bytes.
    pub memory_bytes: u32,
    /// Requests that its machine counted.
    pub requests: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// The state byte of its application.
    pub state: u8,
    /// Its home reactor, or the worker whose runtime has it.
    pub reactor: u32,
}

impl ConnectionInfo {
    /// What the public part of its slot shows.
    pub(crate) fn of(address: Address, shared: &Shared) -> ConnectionInfo {
        let (bytes_in, bytes_out) = shared.bytes();
        let peer = shared.peer();
        ConnectionInfo {
            address,
            peer: (peer.port() != 0).then_some(peer),
            listener: listener_of(shared),
            opened: shared.opened().time(),
            last_active: shared.last_active().time(),
            bytes_in,
            bytes_out,
            memory_bytes: shared.memory_bytes(),
            requests: shared.requests(),
            in_flight: shared.in_flight(),
            state: shared.state(),
            reactor: u32::try_from(shared.home()).unwrap_or(u32::MAX),
        }
    }
}

impl Note {
    /// Shows what changed where everybody may read it.
    pub(crate) fn show(self, shared: &Shared, now: Time) {
        if self.requests > 0 {
            shared.count_requests(self.requests);
        }
        if let Some(in_flight) = self.in_flight {
            shared.set_in_flight(in_flight);
        }
        if let Some(state) = self.state {
            shared.set_state(state);
        }
        if self.active {
            shared.set_active(Tick::floor(now));
        }
    }
}

impl Closed {
    /// The record of a connection that ends now; `connected` says whether it ever was established.
    pub(crate) fn of(
        address: Address,
        shared: &Shared,
        cause: CloseCause,
        connected: bool,
        now: Time,
    ) -> Closed {
        let (bytes_in, bytes_out) = shared.bytes();
        Closed {
            address,
            peer: connected.then(|| shared.peer()),
            listener: listener_of(shared),
            cause,
            age_ms: now.ms_since(shared.opened().time()),
            bytes_in,
            bytes_out,
            requests: u64::from(shared.requests()),
        }
    }
}

fn listener_of(shared: &Shared) -> Option<u16> {
    Some(shared.listener()).filter(|listener| *listener != NO_LISTENER)
}

/// Why an engine did not start.
#[derive(Debug)]
pub struct StartError {
    /// The address that could not be bound; nothing if something else failed.
    pub address: Option<SocketAddr>,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(formatter, "cannot listen on {address}: {}", self.error),
            None => write!(formatter, "cannot start the engine: {}", self.error),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError { address: None, error }
    }
}

/// A running driver.
pub(crate) trait Control<A: Application>: Send + Sync {
    /// The moment by the clock of this engine.
    fn now(&self) -> Time;

    /// What it has done and holds.
    fn stats(&self) -> Stats;

    /// Hands every connection to `each` without stopping any.
    fn for_each(&self, each: &mut dyn FnMut(ConnectionInfo));

    /// Sends mail from [`Address::OUTSIDE`]. Gives it back if the address never named a connection.
    fn post(&self, to: Address, mail: A::Mail) -> Result<(), A::Mail>;

    /// Accepts what already waits at a listener, then closes it.
    fn stop_accepting(&self, listener: u16);

    /// Resets every connection, ends every thread and waits for them. The second call does nothing.
    fn end(&self);
}
