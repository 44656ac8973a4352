//! What a downstream connection holds only while something is going on: one box, recycled by the worker when it is empty,
//! so that an idle connection costs a pointer.

use std::sync::Arc;

use bowline_engine::machine::Address;
use bowline_engine::time::Time;
use serde::{Deserialize, Serialize};

use crate::cluster::Endpoint;

use super::reserve::Reservation;
use super::services::Services;
use super::table::{Callbacks, Exchanges};

/// Everything that exists only under load.
#[derive(Debug, Default)]
pub struct Load {
    /// Requests in flight.
    pub exchanges: Exchanges,
    /// What they asked for, while access lines are written.
    pub services: Services,
    /// Server-to-client calls in flight.
    pub callbacks: Callbacks,
    /// Upstream connections that belong to this client alone.
    pub bound: Vec<Bound>,
    /// Oneway requests that are not written yet.
    pub oneway: Oneway,
    /// The frame that is arriving.
    pub frame: Option<FrameClock>,
    /// Memory reserved for it, if it is large.
    pub reserved: Option<Reservation>,
    /// What it needs before it may go on, if there was no room.
    pub wanted_bytes: usize,
    /// How fast a client over its output limit takes what is queued.
    pub output: Option<OutputWindow>,
    /// How the connection is to end.
    pub drain: Option<Drain>,
}

/// An upstream connection of one client alone.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The cluster.
    pub cluster: u16,
    /// The version class.
    pub class: u8,
    /// True if it takes no new requests.
    pub leaving: bool,
    /// The connection.
    pub upstream: Address,
    /// Where it leads.
    pub endpoint: Arc<Endpoint>,
}

/// Oneway requests on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oneway {
    /// How many.
    pub frames: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// How long the frame that is arriving has had; the clock stands while we do not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameClock {
    /// When its first byte came, moved later by every pause.
    pub began: Time,
    /// Since when it is not read, if so.
    pub paused_at: Option<Time>,
}

impl FrameClock {
    /// Stops the clock.
    pub fn pause(&mut self, now: Time) {
        self.paused_at.get_or_insert(now);
    }

    /// Lets it run on.
    pub fn resume(&mut self, now: Time) {
        if let Some(paused_at) = self.paused_at.take() {
            self.began = self.began.after_ms(now.ms_since(paused_at));
        }
    }
}

/// What a client over its output limit took since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputWindow {
    /// Since when.
    pub began: Time,
    /// Bytes.
    pub written: u64,
}

/// The end of a drained connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// From when on a quiet point ends it.
    pub from: Time,
    /// When it ends whatever is going on.
    pub deadline: Time,
}

impl Load {
    /// True if nothing is going on.
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
            && self.callbacks.is_empty()
            && self.bound.is_empty()
            && self.oneway.frames == 0
            && self.frame.is_none()
            && self.reserved.is_none()
            && self.wanted_bytes == 0
            && self.output.is_none()
            && self.drain.is_none()
    }

    /// True if no request or callback is in flight.
    pub fn is_quiet(&self) -> bool {
        self.exchanges.is_empty() && self.callbacks.is_empty() && self.oneway.frames == 0
    }

    /// True if the box is too large to be kept for another connection.
    pub fn is_large(&self) -> bool {
        let capacities = [
            self.exchanges.capacity(),
            self.callbacks.capacity(),
            self.bound.capacity(),
            self.services.capacity(),
        ];
        capacities.into_iter().any(|capacity| capacity > CAPACITY_KEPT)
    }
}

/// A box with tables above this is freed instead of kept.
const CAPACITY_KEPT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_frame_stands_while_it_is_not_read() {
        let at = Time::from_ms;
        let mut clock = FrameClock { began: at(100), paused_at: None };
        clock.pause(at(150));
        clock.pause(at(170));
        clock.resume(at(250));
        clock.resume(at(900));
        assert_eq!(clock, FrameClock { began: at(200), paused_at: None });
    }
}
