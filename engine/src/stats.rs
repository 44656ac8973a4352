//! Figures that the engine keeps about itself: relaxed counters, one padded block per thread, summed when asked.

use std::sync::atomic::{AtomicU64, Ordering};

/// One count that its own thread raises and anybody reads.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction: one thread writes.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Adds from any thread.
    pub(crate) fn add_shared(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Raises to `value` if that is more.
    pub(crate) fn raise(&self, value: u64) {
        if value > self.0.load(Ordering::Relaxed) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// Sets it.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a worker counts.
#[derive(Default)]
pub(crate) struct WorkerCounts {
    pub(crate) turns: Counter,
    pub(crate) batches: Counter,
    pub(crate) waits: Counter,
    pub(crate) events: Counter,
    pub(crate) stolen: Counter,
    pub(crate) moves: Counter,
    pub(crate) wakes: Counter,
    pub(crate) mail: Counter,
    pub(crate) bounces: Counter,
    pub(crate) orphans: Counter,
    pub(crate) queued: Counter,
    pub(crate) lag_us_max: Counter,
}

/// What an engine has done and holds, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections there are.
    pub connections: u64,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Accepted and reset at once: `connections_max`.
    pub refused_limit: u64,
    /// Accepted and reset at once: `connections_per_source_max`.
    pub refused_source: u64,
    /// Times accepting paused for want of descriptors.
    pub accept_pauses: u64,
    /// Attempts to accept while descriptors were wanting.
    pub accept_attempts_starved: u64,
    /// Connections that want to be read and could not be woken, at the last look (the watchdog): must be 0.
    pub stranded: u64,
    /// Buffer memory in use, in bytes.
    pub buffer_bytes: u64,
    /// Buffer memory kept for use, in bytes.
    pub buffer_idle_bytes: u64,
    /// Buffers refused at the ceiling.
    pub buffers_refused: u64,
    /// Per worker.
    pub workers: Vec<WorkerStats>,
}

/// What one worker has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// Turns of connections.
    pub turns: u64,
    /// Batches.
    pub batches: u64,
    /// Returns of `epoll_wait` with its reactor.
    pub waits: u64,
    /// Events of its reactor.
    pub events: u64,
    /// Connections taken from other workers.
    pub stolen: u64,
    /// Connections given another reactor.
    pub moves: u64,
    /// Sleepers woken.
    pub wakes: u64,
    /// Mail handed to machines.
    pub mail: u64,
    /// Mail sent back.
    pub bounces: u64,
    /// Mail whose sender was gone as well.
    pub orphans: u64,
    /// Connections queued after the last batch.
    pub queued: u64,
    /// Longest time between two looks at the reactor while work was queued, in microseconds.
    pub lag_us_max: u64,
}

impl WorkerCounts {
    /// The counts now.
    pub(crate) fn read(&self) -> WorkerStats {
        WorkerStats {
            turns: self.turns.value(),
            batches: self.batches.value(),
            waits: self.waits.value(),
            events: self.events.value(),
            stolen: self.stolen.value(),
            moves: self.moves.value(),
            wakes: self.wakes.value(),
            mail: self.mail.value(),
            bounces: self.bounces.value(),
            orphans: self.orphans.value(),
            queued: self.queued.value(),
            lag_us_max: self.lag_us_max.value(),
        }
    }
}
