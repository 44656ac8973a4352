//! What all threads of the raw mode share: the table, the reactors, who sleeps, and how work reaches a worker.
//!
//! It runs nothing itself. Every method may be called on any thread.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use crossbeam::deque::Stealer;
use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::utils::CachePadded;

use crate::buf::Pool;
use crate::driver::admission::{AcceptCounts, Admitted, Gate};
use crate::driver::core::Core;
use crate::driver::epoll::balance::{Balance, Weight};
use crate::driver::load::Depot;
use crate::machine::{Address, Application};
use crate::options::{Dispatch, Mode, Options};
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
    /// Its last turn stopped on a budget, so it is read without an event.
    pub(crate) again: bool,
    /// How busy it was when that was last of interest.
    pub(crate) weight: Weight,
}

impl<A: Application> Own<A> {
    /// A connection whose socket is not there yet.
    pub(crate) fn new(core: Core<A>) -> Own<A> {
        Own { core, stream: None, registered: false, again: false, weight: Weight::default() }
    }
}

/// What the raw mode's threads share.
pub(crate) struct Hub<A: Application> {
    pub(crate) app: Arc<A>,
    pub(crate) options: Options,
    pub(crate) table: Table<A::Mail, Own<A>>,
    pub(crate) pool: Pool,
    /// Boxes for connections under load that go from worker to worker.
    pub(crate) loads: Depot,
    pub(crate) clock: Clock,
    pub(crate) reactors: Box<[CachePadded<Reactor>]>,
    pub(crate) workers: Box<[CachePadded<WorkerSeat>]>,
    /// Who moves to another reactor.
    pub(crate) balance: Balance,
    pub(crate) depot: ArrayQueue<Box<Node<A::Mail>>>,
    /// Slots that reactor threads found; used with `Dispatch::Handoff` only.
    pub(crate) handoff: Option<ArrayQueue<u32>>,
    /// Accepted connections, in all and per source address.
    pub(crate) admitted: Admitted,
    /// Whether descriptors are wanting.
    pub(crate) gate: Gate,
    /// What accepting has come to.
    pub(crate) accepts: AcceptCounts,
    /// Connections that no event can wake, as the watchdog last found.
    pub(crate) stranded: Counter,
    /// Every connection is being ended.
    pub(crate) stopping: AtomicBool,
    /// Threads end.
    pub(crate) ended: AtomicBool,
    /// How often many connections had gone.
    pub(crate) ebbs: AtomicU32,
    /// Makes the randomness of workers differ from process to process.
    pub(crate) seed: u64,
    /// Per listener: whether it is to be closed.
    closing: Box<[AtomicBool]>,
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
    pub(crate) connections: AtomicIsize,
    /// Some listener is to be closed.
    pub(crate) closing: AtomicBool,
    /// What its own thread counts, with `Dispatch::Handoff`; otherwise its worker does.
    pub(crate) counts: WorkerCounts,
}

/// A worker as others see it.
pub(crate) struct WorkerSeat {
    pub(crate) stealer: Stealer<u32>,
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
            connections: AtomicIsize::new(0),
            closing: AtomicBool::new(false),
            counts: WorkerCounts::default(),
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
            sleep: Sleep::default(),
            thread: OnceLock::new(),
            counts: WorkerCounts::default(),
        }
    }
}

impl<A: Application> Hub<A> {
    /// What the threads of an engine with `options` share; `seats` are its workers, `listeners` how many it has.
    pub(crate) fn new(
        app: Arc<A>,
        options: Options,
        seats: Box<[CachePadded<WorkerSeat>]>,
        listeners: usize,
    ) -> std::io::Result<Hub<A>> {
        let table = Table::new(options.slots_max());
        let reactors = (0..options.reactors.max(1)).map(|_| Reactor::new().map(CachePadded::new));
        let handoff = options.mode == Mode::Raw(Dispatch::Handoff);
        Ok(Hub {
            app,
            reactors: reactors.collect::<std::io::Result<_>>()?,
            workers: seats,
            balance: Balance::new(&options),
            depot: ArrayQueue::new(DEPOT_NODES),
            handoff: handoff.then(|| ArrayQueue::new(table.slots_max())),
            admitted: Admitted::new(&options),
            gate: Gate::new(),
            accepts: AcceptCounts::default(),
            stranded: Counter::default(),
            pool: Pool::new(options.buffer_bytes_max),
            loads: Depot::new(),
            clock: Clock::start(),
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            ebbs: AtomicU32::new(0),
            seed: RandomState::new().hash_one(std::process::id()),
            closing: (0..listeners).map(|_| AtomicBool::new(false)).collect(),
            table,
            options,
        })
    }

    /// How many listeners there are.
    pub(crate) fn listeners(&self) -> u16 {
        u16::try_from(self.closing.len()).unwrap_or(u16::MAX)
    }

    /// True once a listener is to be closed.
    pub(crate) fn is_closing(&self, listener: u16) -> bool {
        self.closing[usize::from(listener)].load(Ordering::SeqCst)
    }

    /// Says that a listener is to be closed, and wakes the leaders that may have it.
    pub(crate) fn close_listener(&self, listener: u16) {
        if let Some(closing) = self.closing.get(usize::from(listener)) {
            closing.store(true, Ordering::SeqCst);
        }
        for reactor in &self.reactors {
            reactor.closing.store(true, Ordering::SeqCst);
            reactor.wake();
        }
    }

    /// Wakes every thread, whether it sleeps or not.
    pub(crate) fn wake_all(&self) {
        self.reactors.iter().for_each(|reactor| reactor.poller.wake());
        self.workers.iter().filter_map(|seat| seat.thread.get()).for_each(Thread::unpark);
    }

    /// Frees what is kept for as many connections as have gone, here and on workers that rest: a small box that is left
    /// of thousands keeps a whole page from the system.
    pub(crate) fn ebb(&self) {
        while self.depot.pop().is_some() {}
        self.loads.clear();
        self.ebbs.fetch_add(1, Ordering::Relaxed);
        self.wake_all();
    }

    /// True once every connection is being ended.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// A reactor got or lost a connection.
    pub(crate) fn note_home(&self, reactor: usize, change: isize) {
        self.reactors[reactor].connections.fetch_add(change, Ordering::Relaxed);
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

    /// Sends mail from a thread that is no worker. Gives it back if the address never named a connection, or no worker
    /// is left to run one.
    pub(crate) fn post_from_outside(&self, to: Address, mail: A::Mail) -> Result<(), A::Mail> {
        if self.ended.load(Ordering::SeqCst) {
            return Err(mail);
        }
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
        for number in 0..self.workers.len() {
            if number != me && self.wake_worker(number) {
                self.workers[me].counts.wakes.add(1);
                return;
            }
        }
    }

    /// Wakes up to `count` sleeping workers, beginning with number `first`.
    pub(crate) fn wake_sleepers(&self, count: usize, first: usize) {
        let workers = self.workers.len();
        let sleepers = (0..workers).map(|distance| (first + distance) % workers);
        let _ = sleepers.filter(|number| self.wake_worker(*number)).take(count).count();
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
}
