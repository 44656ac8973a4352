//! What machines reach through their call: the state that all workers share, and what one worker owns alone.
//!
//! A machine holds no pointer to any of it, so an idle connection does not pay for it. [`Shared`] is read-only or atomic;
//! [`Worker`] is touched by its own thread only (X6).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bowline_engine::machine::Application;
use bowline_engine::time::Time;
use bowline_protocols::Limits;
use bowline_protocols::http::HttpLimits;

use crate::cluster::Cluster;
use crate::cluster::Message;
use crate::cluster::Pools;
use crate::config::plan::ClusterPlan;
use crate::config::plan::ListenerPlan;
use crate::config::plan::Plan;
use crate::error::Failure;
use crate::exchange::HttpLoad;
use crate::exchange::LargeFrames;
use crate::exchange::Line;
use crate::exchange::Load;
use crate::exchange::Longest;
use crate::exchange::Work;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::metrics::Counters;
use crate::metrics::Shard;
use crate::route::Forwarded;
use crate::route::HttpRoutes;
use crate::route::Targets;
use crate::route::TlsRoutes;
use crate::spare::Depot;
use crate::spare::Spare;

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
    /// The limits that the HTTP codec checks.
    pub http_limits: HttpLimits,
    /// The routes of HTTP.
    pub http_routes: HttpRoutes,
    /// What upstreams of HTTP are told about clients.
    pub forwarded: Forwarded,
    /// The routes of Bolt, and where listeners lead by themselves.
    pub targets: Targets,
    /// The routes of TLS that is passed on.
    pub tls_routes: TlsRoutes,
    /// The clusters, in the order of the plan.
    pub clusters: Vec<Arc<Cluster>>,
    /// Memory for large frames.
    pub large_frames: Arc<LargeFrames>,
    /// Who is closed first when memory is at its ceiling.
    pub longest: Longest,
    /// Whether tunnels want to know which addresses their clients used: that is asked of the system.
    pub wants_addresses: bool,
    counters: Arc<Counters>,
    drain_deadline_ms: AtomicU64,
    downstreams: AtomicUsize,
    depots: Depots,
}

/// Empty boxes that workers have too many of.
#[derive(Debug)]
struct Depots {
    loads: Depot<Load>,
    messages: Depot<Message>,
    http_loads: Depot<HttpLoad>,
    work: Depot<Work>,
    lines: Depot<Line>,
}

/// Empty boxes of one worker.
#[derive(Debug)]
struct Spares {
    loads: Spare<Load>,
    messages: Spare<Message>,
    http_loads: Spare<HttpLoad>,
    work: Spare<Work>,
    lines: Spare<Line>,
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
            http_limits: plan.limits.http,
            http_routes: HttpRoutes::new(&plan),
            forwarded: Forwarded::new(&plan.http.forwarded),
            targets: Targets::new(&plan),
            tls_routes: TlsRoutes::new(&plan.tls_routes),
            clusters: plan.clusters.iter().map(|cluster| Arc::new(Cluster::new(cluster))).collect(),
            large_frames: LargeFrames::new(plan.limits.large_frame_bytes_max),
            longest: Longest::default(),
            wants_addresses: plan.clusters.iter().any(wants_addresses),
            plan,
            counters,
            drain_deadline_ms: AtomicU64::new(u64::MAX),
            downstreams: AtomicUsize::new(0),
            depots: Depots {
                loads: Depot::new(SHARED_LOADS_MAX),
                messages: Depot::new(SHARED_HTTP_MAX),
                http_loads: Depot::new(SHARED_HTTP_MAX),
                work: Depot::new(SHARED_HTTP_MAX),
                lines: Depot::new(SHARED_HTTP_MAX),
            },
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

/// Whether tunnels of the cluster want to know which addresses their clients used.
fn wants_addresses(cluster: &ClusterPlan) -> bool {
    cluster.proxy_protocol.is_some() || cluster.original_destination
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
    /// Another, for a field of ours while the first takes the head that it goes into.
    pub field: Vec<u8>,
    index: usize,
    spares: Spares,
}

impl Worker {
    /// The state of worker `index`.
    pub fn new(shared: Arc<Shared>, index: usize) -> Worker {
        let pools = Pools::new(&shared.clusters, index);
        Worker {
            shared,
            pools,
            scratch: Vec::new(),
            field: Vec::new(),
            index,
            spares: Spares {
                loads: Spare::new(SPARE_LOADS_MAX),
                messages: Spare::new(SPARE_HTTP_MAX),
                http_loads: Spare::new(SPARE_HTTP_MAX),
                work: Spare::new(SPARE_HTTP_MAX),
                lines: Spare::new(SPARE_HTTP_MAX),
            },
        }
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

    /// Frees its spare boxes, and those that workers share.
    pub fn free_spare(&mut self) {
        let (depots, spares) = (&self.shared.depots, &mut self.spares);
        spares.loads.clear(&depots.loads);
        spares.messages.clear(&depots.messages);
        spares.http_loads.clear(&depots.http_loads);
        spares.work.clear(&depots.work);
        spares.lines.clear(&depots.lines);
    }

    /// A box for a connection that comes under load.
    pub fn take_load(&mut self) -> Box<Load> {
        self.spares.loads.take(&self.shared.depots.loads)
    }

    /// A box for an HTTP message; it is empty.
    pub fn take_message(&mut self) -> Box<Message> {
        self.spares.messages.take(&self.shared.depots.messages)
    }

    /// Takes the box of a message back.
    pub fn keep_message(&mut self, mut message: Box<Message>) {
        message.clear();
        self.spares.messages.keep(message, &self.shared.depots.messages);
    }

    /// A box for a client of HTTP that comes under load.
    pub fn take_http_load(&mut self) -> Box<HttpLoad> {
        self.spares.http_loads.take(&self.shared.depots.http_loads)
    }

    /// Takes an empty box back.
    pub fn keep_http_load(&mut self, mut load: Box<HttpLoad>) {
        debug_assert!(load.is_empty(), "a box is given back when nothing is going on");
        load.trailers.clear();
        self.spares.http_loads.keep(load, &self.shared.depots.http_loads);
    }

    /// A box for a request at a server's connection.
    pub fn take_work(&mut self) -> Box<Work> {
        self.spares.work.take(&self.shared.depots.work)
    }

    /// Takes the box of a request that has ended back.
    pub fn keep_work(&mut self, mut work: Box<Work>) {
        work.trailers.clear();
        let trailers = std::mem::take(&mut work.trailers);
        *work = Work { trailers, ..Work::default() };
        self.spares.work.keep(work, &self.shared.depots.work);
    }

    /// A box for what an access line will say.
    pub fn take_line(&mut self) -> Box<Line> {
        self.spares.lines.take(&self.shared.depots.lines)
    }

    /// Takes the box of a line that was written back.
    pub fn keep_line(&mut self, mut line: Box<Line>) {
        line.clear();
        self.spares.lines.keep(line, &self.shared.depots.lines);
    }

    /// Takes an empty box back.
    pub fn keep_load(&mut self, load: Box<Load>) {
        debug_assert!(load.is_empty(), "a box is given back when nothing is going on");
        if !load.is_large() {
            self.spares.loads.keep(load, &self.shared.depots.loads);
        }
    }
}

/// Boxes of each kind that one worker keeps for HTTP.
const SPARE_HTTP_MAX: usize = 64;
/// Boxes that one worker keeps for Bolt.
const SPARE_LOADS_MAX: usize = 16;
/// Boxes that all workers keep together for Bolt.
const SHARED_LOADS_MAX: usize = 1_024;
/// Boxes of each kind that they keep together for HTTP: a message keeps the memory of its head.
const SHARED_HTTP_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn workers() -> [Worker; 2] {
        let shared = Arc::new(Shared::new(Arc::new(Plan::default()), Counters::new(2)));
        [0, 1].map(|index| Worker::new(Arc::clone(&shared), index))
    }

    #[test]
    fn what_one_worker_gives_back_another_takes_without_an_allocation() {
        let [mut taker, mut giver] = workers();
        let made = |taker: &mut Worker| allocation_counter::measure(|| drop(taker.take_load())).count_total;
        assert_eq!(made(&mut taker), 1, "there is none yet");
        (0..100).for_each(|_| giver.keep_load(Box::default()));
        assert_eq!((0..80).map(|_| made(&mut taker)).sum::<u64>(), 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let [mut giver, _] = workers();
        (0..5_000).for_each(|_| giver.keep_load(Box::default()));
        let kept = |giver: &Worker| (giver.spares.loads.len(), giver.shared.depots.loads.len());
        assert_eq!(kept(&giver), (SPARE_LOADS_MAX, SHARED_LOADS_MAX));
        giver.free_spare();
        assert_eq!(kept(&giver), (0, 0));
    }

    #[test]
    fn boxes_of_http_find_their_way_from_worker_to_worker() {
        let [mut taker, mut giver] = workers();
        let exchange = |taker: &mut Worker, giver: &mut Worker| {
            let (message, load, work) = (taker.take_message(), taker.take_http_load(), taker.take_work());
            giver.keep_message(message);
            giver.keep_http_load(load);
            giver.keep_work(work);
        };
        let most = 2 * SPARE_HTTP_MAX;
        (0..most).for_each(|_| exchange(&mut taker, &mut giver));
        let made = allocation_counter::measure(|| (0..most).for_each(|_| exchange(&mut taker, &mut giver)));
        assert_eq!(made.count_total, 0, "what was given back is enough");
        giver.free_spare();
        let kept = [giver.spares.messages.len(), giver.shared.depots.messages.len()];
        assert_eq!(kept, [0, 0]);
    }
}
