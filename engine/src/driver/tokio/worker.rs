//! A worker of the tokio mode: one thread, one current-thread runtime, one kit, and the tasks that share them.
//!
//! It starts tasks, carries mail between them, does the work of slots that have no task (bouncing), turns the wheel and
//! ends when the engine does. A batch is what the runtime runs between two sleeps, or 64 turns. It runs no machine
//! itself: the task of a connection does, on this thread, one at a time.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::hub::{Hub, Order, Own, Seat};
use super::stop::Stops;
use super::timers::Timers;
use crate::driver::core::Core;
use crate::driver::kit::Kit;
use crate::driver::load::Load;
use crate::driver::tide::Tide;
use crate::machine::{Address, Application, Machine, Open, OpenRefused};
use crate::slot::inbox::Node;
use crate::slot::shared::NO_LISTENER;
use crate::slot::table::Newcomer;
use crate::slot::word::{Added, Causes};
use crate::stats::WorkerCounts;
use crate::sys::memory;

/// Turns of one batch at most: a busy runtime never sleeps.
const BATCH_TURNS_MAX: u32 = 64;
/// Spare mail nodes.
const SPARE_NODES_MAX: usize = 256;
/// Between two looks for memory that can be given back.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// Looks without connections going before memory is given back.
const STILL_LOOKS: u32 = 2;

/// Starts the task of a connection on this thread.
pub(crate) type StartTask<A> = fn(&Rc<Worker<A>>, Address);

/// What the tasks of one thread share.
pub(crate) struct Worker<A: Application> {
    pub(crate) hub: Arc<Hub<A>>,
    pub(crate) number: usize,
    pub(crate) kit: RefCell<Kit<A>>,
    pub(crate) timers: Timers,
    pub(crate) stops: Stops,
    start: StartTask<A>,
    nodes: RefCell<Vec<Box<Node<A::Mail>>>>,
    /// Slots without a task whose queueing duty fell to this worker.
    strays: RefCell<Vec<u32>>,
    tasks: Cell<usize>,
    batch_turns: Cell<u32>,
}

/// What a runtime calls before its thread sleeps, when every task that was woken has run.
pub(crate) trait BeforeSleep {
    /// Ends the batch.
    fn end_batch(&self);
}

impl<A: Application> BeforeSleep for Worker<A> {
    fn end_batch(&self) {
        if self.batch_turns.take() > 0 {
            self.counts().batches.add(1);
        }
        self.kit.borrow_mut().rest();
    }
}

impl<A: Application> Worker<A> {
    /// The worker of this thread.
    pub(crate) fn new(hub: Arc<Hub<A>>, number: usize, start: StartTask<A>) -> Worker<A> {
        let local = hub.app.local(number);
        let seed = RandomState::new().build_hasher().finish();
        Worker {
            kit: RefCell::new(Kit::new(local, hub.pool.clone(), hub.loads.clone(), seed)),
            timers: Timers::new(hub.clock.now()),
            stops: Stops::default(),
            start,
            nodes: RefCell::new(Vec::new()),
            strays: RefCell::new(Vec::new()),
            tasks: Cell::new(0),
            batch_turns: Cell::new(0),
            hub,
            number,
        }
    }

    fn seat(&self) -> &Seat {
        &self.hub.seats[self.number]
    }

    /// What this worker counts.
    pub(crate) fn counts(&self) -> &WorkerCounts {
        &self.seat().counts
    }

    /// Starts the task of a slot that was claimed and queued for this worker.
    pub(crate) fn spawn(self: &Rc<Self>, address: Address) {
        self.tasks.set(self.tasks.get() + 1);
        (self.start)(self, address);
    }

    /// Opens a connection on this worker, out of an empty box.
    pub(crate) fn open(
        self: &Rc<Self>,
        open: Open,
        machine: Box<dyn Machine<A>>,
        load: Box<Load>,
    ) -> Result<Address, OpenRefused<A>> {
        if self.hub.is_stopping() {
            return Err(OpenRefused(machine));
        }
        let own = Own { core: Core::accepted(), accepted: None };
        let newcomer = Newcomer { own, home: self.number, peer: Some(open.to), listener: NO_LISTENER };
        let now = self.hub.clock.now();
        let mut parts = Some((machine, load));
        let claimed = self.hub.claim(newcomer, |own| {
            let (machine, load) = parts.take().expect("a slot is prepared once");
            own.core = Core::opening(machine, &open, load, now);
        });
        match claimed {
            Ok(address) => {
                self.spawn(address);
                Ok(address)
            }
            Err(_) => Err(OpenRefused(parts.take().expect("without a slot nothing was prepared").0)),
        }
    }

    /// Sends mail from one of this worker's connections.
    pub(crate) fn post(&self, from: Address, to: Address, mail: A::Mail) {
        let mut node = self.nodes.borrow_mut().pop().unwrap_or_else(Node::new);
        (node.to, node.from, node.bounced, node.mail) = (to, from, false, Some(mail));
        self.deliver(node);
    }

    /// Puts a node into its receiver's inbox; what names no slot comes back to its sender, who is there to get it.
    fn deliver(&self, node: Box<Node<A::Mail>>) {
        let index = node.to.index;
        match self.hub.table.deliver(node) {
            Ok(true) => self.queue(index),
            Ok(false) => {}
            Err(mut node) => {
                debug_assert!(!node.bounced, "a sender has a slot");
                (node.to, node.from, node.bounced) = (node.from, node.to, true);
                self.counts().bounces.add(1);
                if let Ok(true) = self.hub.table.deliver(node) {
                    debug_assert!(false, "the sender holds its slot while it sends");
                }
            }
        }
    }

    /// Does the duty to queue a slot: its task runs it, or this worker.
    fn queue(&self, index: u32) {
        if !self.hub.wakers.wake(index) {
            self.strays.borrow_mut().push(index);
        }
    }

    /// Sends mail back that its receiver cannot take any more.
    pub(crate) fn bounce(&self, mut node: Box<Node<A::Mail>>, kit: &mut Kit<A>) {
        if !node.bounced && node.from != Address::OUTSIDE {
            (node.to, node.from, node.bounced) = (node.from, node.to, true);
            self.counts().bounces.add(1);
            return self.deliver(node);
        }
        self.counts().orphans.add(1);
        if let Some(mail) = node.mail.take() {
            self.hub.app.orphaned(&mut kit.local, mail);
        }
        self.keep_node(node);
    }

    /// Takes an empty node back.
    pub(crate) fn keep_node(&self, node: Box<Node<A::Mail>>) {
        let mut nodes = self.nodes.borrow_mut();
        if nodes.len() < SPARE_NODES_MAX {
            nodes.push(node);
        }
    }

    /// Does the work of slots that have no task. Called after a turn, when the kit is free.
    pub(crate) fn run_strays(&self) {
        loop {
            let Some(index) = self.strays.borrow_mut().pop() else { return };
            self.run_stray(index);
        }
    }

    fn run_stray(&self, index: u32) {
        let table = &self.hub.table;
        let Some((mut held, causes)) = table.begin(index) else { return };
        if table.parts(&mut held).is_some() {
            // A new connection has the slot meanwhile. Its task may have looked while it was held here.
            table.requeue(held, causes);
            let _ = self.hub.wakers.wake(index);
            return;
        }
        let kit = &mut *self.kit.borrow_mut();
        loop {
            // Causes first, as at the end of a connection.
            table.take_causes(&held);
            for node in table.take_mail(&held) {
                self.bounce(node, kit);
            }
            match table.release(held) {
                Ok(()) => return,
                Err(back) => held = back,
            }
        }
    }

    /// A turn is over.
    pub(crate) fn count_turn(&self, kit: &mut Kit<A>) {
        self.counts().turns.add(1);
        self.batch_turns.set(self.batch_turns.get() + 1);
        if self.batch_turns.get() >= BATCH_TURNS_MAX {
            self.batch_turns.set(0);
            self.counts().batches.add(1);
            kit.settle();
        }
    }

    /// A task is over; its slot was given back.
    pub(crate) fn forget_task(&self) {
        self.tasks.set(self.tasks.get() - 1);
        self.seat().connections.fetch_sub(1, Ordering::Relaxed);
        if self.hub.is_stopping() {
            self.seat().wake();
        }
    }

    /// The main future of the runtime: obeys orders until everything here has ended.
    pub(crate) async fn lead(self: Rc<Self>) {
        drop(tokio::task::spawn_local(Rc::clone(&self).turn_wheel()));
        if self.number == 0 {
            drop(tokio::task::spawn_local(Rc::clone(&self).trim()));
        }
        poll_fn(|context| self.obey(context)).await;
    }

    fn obey(self: &Rc<Self>, context: &mut Context<'_>) -> Poll<()> {
        self.seat().register(context.waker());
        // Looked at before the orders: the last order of an acceptor is there once it is gone.
        let all_closed = self.hub.acceptors.load(Ordering::Acquire) == 0;
        while let Some(order) = self.seat().take_order() {
            match order {
                Order::Run(address) => self.spawn(address),
                Order::Stray(index) => self.strays.borrow_mut().push(index),
                Order::StopAccepting(listener) => self.stops.tell(Some(listener)),
                Order::Stop => self.stop(),
            }
        }
        self.run_strays();
        let over = self.hub.is_stopping() && all_closed && self.tasks.get() == 0;
        if over { Poll::Ready(()) } else { Poll::Pending }
    }

    fn stop(&self) {
        self.stops.tell(None);
        self.hub.table.for_each(|address, shared, _| {
            if shared.home() == self.number {
                // One that has no waker yet has not run yet, and will see for itself.
                let _ = self.hub.wakers.wake(address.index);
            }
        });
    }

    /// Turns the wheel whenever it wants to be turned.
    async fn turn_wheel(self: Rc<Self>) {
        let mut sleep = pin!(sleep_until(Instant::now()));
        poll_fn(|context| {
            loop {
                self.fire();
                let Some(next) = self.timers.plan(context.waker()) else { return Poll::<()>::Pending };
                let wait_ms = next.time().ms_since(self.hub.clock.now());
                sleep.as_mut().reset(Instant::now() + Duration::from_millis(wait_ms));
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    fn fire(&self) {
        let table = &self.hub.table;
        let due = self.timers.turn(self.hub.clock.now(), |hints, judge| {
            table.look(hints.iter().copied(), judge);
        });
        for slot in due {
            if table.add(slot, Causes::TIMER) == Added::Queue {
                self.queue(slot);
            }
        }
        self.run_strays();
    }

    /// Frees what is kept for as many connections as have gone.
    fn free_spare(&self) {
        self.hub.loads.clear();
        let kit = &mut *self.kit.borrow_mut();
        kit.free_spare();
        self.hub.app.ebb(&mut kit.local);
        self.hub.pool.clear();
        memory::empty_thread_cache();
        memory::give_back();
    }

    /// Gives memory that a peak left behind back to the system.
    async fn trim(self: Rc<Self>) {
        let mut tide = Tide::new(STILL_LOOKS);
        loop {
            sleep(TRIM_INTERVAL).await;
            for slot in self.hub.table.trim(self.hub.clock.now()) {
                self.queue(slot);
            }
            self.run_strays();
            self.hub.pool.trim();
            memory::look();
            if tide.is_out(self.hub.table.live()) {
                self.free_spare();
            }
        }
    }
}
