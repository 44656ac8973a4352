//! What all threads of the raw mode share: the table, the reactors, who sleeps, and how work reaches a worker.
//!
//! It runs nothing itself. Every method may be called on any thread.

use std::collections::HashMap;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use crossbeam::deque::Stealer;
use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::utils::CachePadded;

use crate::buf::Pool;
use crate::driver::core::Core;
use crate::machine::{Address, Application};
use crate::options::Options;
use crate::slot::inbox::Node;
use crate::slot::sleep::Sleep;
use crate::slot::table::Table;
use crate::slot::word::{Added, Causes};
use crate::stats::{Counter, WorkerCounts};
use crate::sys::poller::Poller;
use crate::time::{Clock, Tick};

/// Spare mail nodes that workers share.
const DEPOT_NODES: usize = 1024;

/// The private part of a slot in the raw mode.
pub(crate) struct Own<A: Application> {
    pub(crate) core: Core<A>,
    pub(crate) stream: Option<TcpStream>,
    /// Whether the socket is in the epoll set of its home.
    pub(crate) registered: bool,
}

/// What the raw mode's threads share.
pub(crate) struct Hub<A: Application> {
    pub(crate) app: Arc<A>,
    pub(crate) options: Options,
    pub(crate) table: Table<A::Mail, Own<A>>,
    pub(crate) pool: Pool,
    pub(crate) clock: Clock,
    pub(crate) reactors: Box<[CachePadded<Reactor>]>,
    pub(crate) workers: Box<[CachePadded<WorkerSeat>]>,
    pub(crate) depot: ArrayQueue<Box<Node<A::Mail>>>,
    /// Slots that reactor threads found; used with `Dispatch::Handoff` only.
    pub(crate) handoff: Option<ArrayQueue<u32>>,
    /// Connections per source address, if they are limited.
    pub(crate) sources: Option<Mutex<HashMap<IpAddr, usize>>>,
    /// Every connection is being ended.
    pub(crate) stopping: AtomicBool,
    /// Threads end.
    pub(crate) ended: AtomicBool,
    pub(crate) counts: HubCounts,
}

/// Counts that belong to no worker.
#[derive(Default)]
pub(crate) struct HubCounts {
    pub(crate) accepted: Counter,
    pub(crate) refused_limit: Counter,
    pub(crate) refused_source: Counter,
    pub(crate) accept_pauses: Counter,
    pub(crate) accept_attempts_starved: Counter,
    pub(crate) stranded: Counter,
}

/// A reactor: an epoll set, and what reaches its leader from other threads.
pub(crate) struct Reactor {
    pub(crate) poller: Poller,
    pub(crate) sleep: Sleep,
    /// Slots queued by threads that are no workers.
    pub(crate) injector: SegQueue<u32>,
    /// Timer hints filed by threads that do not lead it.
    pub(crate) hints: Mutex<Vec<(u32, Tick)>>,
    pub(crate) hints_waiting: AtomicBool,
    /// The tick at which its leader wakes by itself.
    pub(crate) next_wake: AtomicU32,
    /// Connections whose home it is.
    pub(crate) connections: AtomicUsize,
}

/// A worker as others see it.
pub(crate) struct WorkerSeat {
    pub(crate) stealer: Stealer<u32>,
    /// When its oldest queued slot was queued, in microseconds; 0 if none is.
    pub(crate) queued_since_us: AtomicU64,
    /// Used by workers that lead no reactor; the others sleep in theirs.
    pub(crate) sleep: Sleep,
    pub(crate) thread: OnceLock<Thread>,
    pub(crate) counts: WorkerCounts,
}

impl Reactor {
    /// A new reactor.
    pub(crate) fn new() -> std::io::Result<Reactor> {
        Ok(Reactor {
            poller: Poller::new()?,
            sleep: Sleep::default(),
            injector: SegQueue::new(),
            hints: Mutex::new(Vec::new()),
            hints_waiting: AtomicBool::new(false),
            next_wake: AtomicU32::new(Tick::NEVER.0),
            connections: AtomicUsize::new(0),
        })
    }

    /// Wakes its leader if it sleeps. True if it did.
    pub(crate) fn wake(&self) -> bool {
        let asleep = self.sleep.must_wake();
        if asleep {
            self.poller.wake();
        }
        asleep
    }

    /// Files a timer hint from a thread that does not lead this reactor.
    pub(crate) fn file_hint(&self, slot: u32, tick: Tick) {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner).push((slot, tick));
        self.hints_waiting.store(true, Ordering::SeqCst);
        if tick.0 < self.next_wake.load(Ordering::SeqCst) {
            self.wake();
        }
    }
}

impl WorkerSeat {
    /// The seat of a worker with this queue.
    pub(crate) fn new(stealer: Stealer<u32>) -> WorkerSeat {
        WorkerSeat {
            stealer,
            queued_since_us: AtomicU64::new(0),
            sleep: Sleep::default(),
            thread: OnceLock::new(),
            counts: WorkerCounts::default(),
        }
    }
}

impl<A: Application> Hub<A> {
    /// Room for spare nodes.
    pub(crate) fn new_depot() -> ArrayQueue<Box<Node<A::Mail>>> {
        ArrayQueue::new(DEPOT_NODES)
    }

    /// True if workers lead the reactors of the same number.
    pub(crate) fn workers_lead(&self) -> bool {
        self.handoff.is_none()
    }

    /// The reactor with the fewest connections.
    pub(crate) fn emptiest_reactor(&self) -> usize {
        let connections = |reactor: &CachePadded<Reactor>| reactor.connections.load(Ordering::Relaxed);
        (0..self.reactors.len()).min_by_key(|at| connections(&self.reactors[*at])).unwrap_or(0)
    }

    /// Queues a slot from a thread that is no worker; the caller has the duty to queue it.
    pub(crate) fn inject(&self, reactor: usize, slot: u32) {
        let reactor = &self.reactors[reactor];
        reactor.injector.push(slot);
        reactor.wake();
    }

    /// Adds causes to a slot from a thread that is no worker.
    pub(crate) fn add_from_outside(&self, address: Address, causes: Causes) {
        if self.table.add_for(address, causes) == Added::Queue {
            self.inject(address.index as usize % self.reactors.len(), address.index);
        }
    }

    /// Sends mail from a thread that is no worker. Gives it back if the address never named a connection.
    pub(crate) fn post_from_outside(&self, to: Address, mail: A::Mail) -> Result<(), A::Mail> {
        let mut node = self.depot.pop().unwrap_or_else(Node::new);
        (node.to, node.from, node.bounced, node.mail) = (to, Address::OUTSIDE, false, Some(mail));
        match self.table.deliver(node) {
            Ok(true) => self.inject(to.index as usize % self.reactors.len(), to.index),
            Ok(false) => {}
            Err(node) => return Err(node.mail.expect("the node was just filled")),
        }
        Ok(())
    }

    /// Wakes one sleeping worker other than `me`, if there is one (O10).
    pub(crate) fn wake_a_helper(&self, me: usize) {
        for (number, seat) in self.workers.iter().enumerate() {
            if number != me && self.wake_worker(number) {
                self.workers[me].counts.wakes.add(1);
                return;
            }
            debug_assert!(!std::ptr::eq(seat, &raw const self.workers[me]) || number == me);
        }
    }

    /// Wakes a worker if it sleeps. True if it did.
    pub(crate) fn wake_worker(&self, number: usize) -> bool {
        if self.workers_lead() && number < self.reactors.len() {
            return self.reactors[number].sleep.is_asleep() && self.reactors[number].wake();
        }
        let seat = &self.workers[number];
        let asleep = seat.sleep.must_wake();
        if asleep && let Some(thread) = seat.thread.get() {
            thread.unpark();
        }
        asleep
    }

    /// Counts a connection of `source`, unless it has as many as one may have.
    pub(crate) fn admit_source(&self, source: IpAddr) -> bool {
        let (Some(sources), Some(max)) = (&self.sources, self.options.connections_per_source_max) else {
            return true;
        };
        let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_insert(0);
        let admitted = *count < max;
        *count += usize::from(admitted);
        admitted
    }

    /// A connection of `source` is gone.
    pub(crate) fn forget_source(&self, source: IpAddr) {
        let Some(sources) = &self.sources else { return };
        let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&source);
            }
        }
    }
}
