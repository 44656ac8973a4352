//! What all threads of the tokio mode share: the table, who runs which slot, and how orders reach a worker.
//!
//! It runs nothing. Every method may be called on any thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;

use super::wakers::Wakers;
use crate::buf::Pool;
use crate::driver::admission::{AcceptCounts, Admitted, Gate};
use crate::driver::core::Core;
use crate::driver::load::Depot;
use crate::machine::{Address, Application};
use crate::options::Options;
use crate::slot::inbox::Node;
use crate::slot::table::{Newcomer, Table};
use crate::slot::word::Causes;
use crate::stats::{Counter, Stats, WorkerCounts};
use crate::time::Clock;

/// The private part of a slot in the tokio mode.
pub(crate) struct Own<A: Application> {
    pub(crate) core: Core<A>,
    /// An accepted socket, until the task of the connection takes it into its runtime.
    pub(crate) accepted: Option<std::net::TcpStream>,
}

/// What the threads share.
pub(crate) struct Hub<A: Application> {
    pub(crate) app: Arc<A>,
    pub(crate) options: Options,
    pub(crate) table: Table<A::Mail, Own<A>>,
    pub(crate) wakers: Wakers,
    pub(crate) pool: Pool,
    /// Boxes for connections under load that go from worker to worker.
    pub(crate) loads: Depot,
    pub(crate) clock: Clock,
    pub(crate) seats: Box<[CachePadded<Seat>]>,
    pub(crate) admitted: Admitted,
    pub(crate) accepting: AcceptCounts,
    pub(crate) gate: Gate,
    /// Listeners that still may bring connections.
    pub(crate) acceptors: AtomicUsize,
    /// Every connection is being ended.
    pub(crate) stopping: AtomicBool,
}

/// A worker as others see it.
#[derive(Default)]
pub(crate) struct Seat {
    orders: SegQueue<Order>,
    waker: Mutex<Option<Waker>>,
    /// Connections that it runs.
    pub(crate) connections: AtomicUsize,
    pub(crate) counts: WorkerCounts,
    /// Times its thread went to sleep.
    pub(crate) parks: Arc<Counter>,
}

/// What a worker is told by other threads.
pub(crate) enum Order {
    /// Start the task of a slot that was claimed and queued for this worker.
    Run(Address),
    /// Do what is to be done for a slot that has no task.
    Stray(u32),
    /// Accept what waits at this listener and close it.
    StopAccepting(u16),
    /// Look at [`Hub::stopping`] again, with every task.
    Stop,
}

impl Seat {
    /// Gives the worker an order.
    pub(crate) fn order(&self, order: Order) {
        self.orders.push(order);
        self.wake();
    }

    /// Makes it look at its orders.
    pub(crate) fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        waker.as_ref().inspect(|waker| waker.wake_by_ref());
    }

    /// Says who is to be woken for orders. Called before they are looked at.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut cell = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if cell.as_ref().is_none_or(|before| !before.will_wake(waker)) {
            *cell = Some(waker.clone());
        }
    }

    /// The next order.
    pub(crate) fn take_order(&self) -> Option<Order> {
        self.orders.pop()
    }
}

impl<A: Application> Hub<A> {
    /// The shared part of an engine with `options`.
    pub(crate) fn new(app: Arc<A>, options: Options) -> Hub<A> {
        let table = Table::new(options.slots_max());
        Hub {
            app,
            wakers: Wakers::new(table.slots_max()),
            table,
            pool: Pool::new(options.buffer_bytes_max),
            loads: Depot::new(),
            clock: Clock::start(),
            seats: (0..options.workers.max(1)).map(|_| CachePadded::new(Seat::default())).collect(),
            admitted: Admitted::new(&options),
            accepting: AcceptCounts::default(),
            gate: Gate::new(),
            acceptors: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            options,
        }
    }

    /// True once every connection is being ended.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The worker with the fewest connections.
    pub(crate) fn emptiest_seat(&self) -> usize {
        let connections = |at: &usize| self.seats[*at].connections.load(Ordering::Relaxed);
        (0..self.seats.len()).min_by_key(connections).unwrap_or(0)
    }

    /// Takes a slot for a connection that worker `newcomer.home` will run; `prepare` is called while it is held. The
    /// caller starts its task. Nothing, with the newcomer back, at the limit.
    pub(crate) fn claim(
        &self,
        newcomer: Newcomer<Own<A>>,
        prepare: impl FnOnce(&mut Own<A>),
    ) -> Result<Address, Newcomer<Own<A>>> {
        let home = newcomer.home;
        let (mut held, address) = self.table.claim(self.clock.now(), newcomer)?;
        if let Some((_, own)) = self.table.parts(&mut held) {
            prepare(own);
        }
        self.seats[home].connections.fetch_add(1, Ordering::Relaxed);
        self.table.requeue(held, Causes::AGAIN);
        Ok(address)
    }

    /// Sends mail from a thread that is no worker. Gives it back if the address never named a connection, or the
    /// engine ends.
    pub(crate) fn post_from_outside(&self, to: Address, mail: A::Mail) -> Result<(), A::Mail> {
        if self.is_stopping() {
            return Err(mail);
        }
        let mut node = Node::new();
        (node.to, node.mail) = (to, Some(mail));
        match self.table.deliver(node) {
            Ok(true) if !self.wakers.wake(to.index) => self.seats[0].order(Order::Stray(to.index)),
            Ok(_) => {}
            Err(node) => return Err(node.mail.expect("the node was just filled")),
        }
        Ok(())
    }

    /// What the engine has done and holds.
    pub(crate) fn stats(&self) -> Stats {
        let pool = self.pool.stats();
        let mut stats = Stats {
            connections: self.table.live() as u64,
            buffer_bytes: pool.charged_bytes as u64,
            buffer_idle_bytes: pool.idle_bytes as u64,
            buffers_refused: pool.refused as u64,
            ..Stats::default()
        };
        self.accepting.read_into(&mut stats);
        stats.workers = self.seats.iter().map(|seat| seat.counts.read()).collect();
        for (seat, worker) in self.seats.iter().zip(&mut stats.workers) {
            worker.waits = seat.parks.value();
        }
        stats
    }
}
