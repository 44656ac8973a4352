//! What machines reach through their call: the state that all workers share, and what one worker owns alone.
//!
//! A machine holds no pointer to any of it, so an idle connection does not pay for it. [`Shared`] is read-only or atomic;
//! [`Worker`] is touched by its own thread only (X6).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bowline_engine::machine::Application;
use bowline_engine::time::Time;
use bowline_protocols::Limits;

use crate::cluster::Cluster;
use crate::cluster::Pools;
use crate::config::plan::ListenerPlan;
use crate::config::plan::Plan;
use crate::error::Failure;
use crate::exchange::LargeFrames;
use crate::exchange::Load;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::metrics::Counters;
use crate::metrics::Shard;
use crate::route::Targets;

/// The application that runs the machines of this crate.
pub trait Proxy: Application<Mail = Mail, Local = Worker> {}

impl<A: Application<Mail = Mail, Local = Worker>> Proxy for A {}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The configuration.
    pub plan: Arc<Plan>,
    /// The limits that codecs check.
    pub limits: Limits,
    /// The routes.
    pub targets: Targets,
    /// The clusters, in the order of the plan.
    pub clusters: Vec<Arc<Cluster>>,
    /// Memory for large frames.
    pub large_frames: Arc<LargeFrames>,
    counters: Arc<Counters>,
    drain_deadline_ms: AtomicU64,
    downstreams: AtomicUsize,
}

impl Shared {
    /// The state that `plan` begins with.
    pub fn new(plan: Arc<Plan>, counters: Arc<Counters>) -> Shared {
        let limits = Limits {
            content_bytes_max: plan.limits.content_bytes_max,
            class_header_bytes_max: plan.limits.class_header_bytes_max,
            crc_verify: plan.limits.crc_verify,
            ..Limits::default()
        };
        Shared {
            limits,
            targets: Targets::new(&plan),
            clusters: plan.clusters.iter().map(|cluster| Arc::new(Cluster::new(cluster))).collect(),
            large_frames: LargeFrames::new(plan.limits.large_frame_bytes_max),
            plan,
            counters,
            drain_deadline_ms: AtomicU64::new(u64::MAX),
            downstreams: AtomicUsize::new(0),
        }
    }

    /// Says that everything must have ended by `deadline`, for connections that open from now on.
    pub fn begin_drain(&self, deadline: Time) {
        self.drain_deadline_ms.store(deadline.as_ms(), Ordering::Relaxed);
    }

    /// When everything must have ended, if the gateway drains.
    pub fn drain_deadline(&self) -> Option<Time> {
        let ms = self.drain_deadline_ms.load(Ordering::Relaxed);
        (ms != u64::MAX).then(|| Time::from_ms(ms))
    }

    /// A client's connection was accepted.
    pub fn note_downstream(&self) {
        self.downstreams.fetch_add(1, Ordering::Relaxed);
    }

    /// A client's connection is gone.
    pub fn forget_downstream(&self) {
        let before = self.downstreams.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a connection ends once");
    }

    /// Open connections of clients.
    pub fn downstreams(&self) -> usize {
        self.downstreams.load(Ordering::Relaxed)
    }

    /// The listener at a position; nothing for the embedded upstream's own.
    pub fn listener(&self, listener: u16) -> Option<&ListenerPlan> {
        self.plan.listeners.get(usize::from(listener))
    }
}

/// What one worker owns.
#[derive(Debug)]
pub struct Worker {
    /// What all of them share.
    pub shared: Arc<Shared>,
    /// Its upstream connections.
    pub pools: Pools,
    /// A buffer that is empty between calls.
    pub scratch: Vec<u8>,
    index: usize,
    spare: Vec<Box<Load>>,
}

impl Worker {
    /// The state of worker `index`.
    pub fn new(shared: Arc<Shared>, index: usize) -> Worker {
        let pools = Pools::new(&shared.clusters, index);
        Worker { shared, pools, scratch: Vec::new(), index, spare: Vec::new() }
    }

    /// Its counters.
    pub fn shard(&self) -> &Shard {
        self.shared.counters.shard(self.index)
    }

    /// Counts one event.
    pub fn count(&self, what: Count) {
        self.shard().count(what);
    }

    /// Counts a request that failed.
    pub fn fail(&self, failure: Failure) {
        self.shard().fail(failure);
    }

    /// A box for a connection that comes under load.
    pub fn take_load(&mut self) -> Box<Load> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes an empty box back.
    pub fn keep_load(&mut self, load: Box<Load>) {
        debug_assert!(load.is_empty(), "a box is given back when nothing is going on");
        if self.spare.len() < SPARE_LOADS_MAX && !load.is_large() {
            self.spare.push(load);
        }
    }
}

/// Boxes that one worker keeps.
const SPARE_LOADS_MAX: usize = 256;
