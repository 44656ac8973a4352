//! Leading a reactor (O9): waiting on its epoll set, turning its wheel, taking in what other threads left for it.
//!
//! One value per reactor, owned by the thread that leads it: a worker, or with `--dispatch handoff` a thread of its own.
//! It runs no machine: whatever has to run is handed to the caller, whose duty it is to queue it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::driver::epoll::acceptor::{AcceptEnd, Acceptor};
use crate::driver::epoll::hub::Hub;
use crate::machine::{Address, Application};
use crate::slot::word::{Added, Causes};
use crate::stats::WorkerCounts;
use crate::sys::poller::{Events, Ready, TIMER, WAKE};
use crate::time::{Tick, Time};
use crate::timer::{self, Fired, Wheel};

/// Events that one wait takes.
const EVENTS_MAX: usize = 256;
/// Timer hints that are looked at before a wait: what is left does not keep events waiting.
const HINTS_MAX: usize = 256;
/// Timer hints that are looked at while slots are queued: timers are a part of each batch, however many are due.
const HINTS_BUSY_MAX: usize = 16;
/// A list of hints from other threads with more room than this is not kept.
const HINTS_KEPT_MAX: usize = 1024;
/// Tokens of listeners: a slot index so high names no slot.
const LISTENER_TOKENS: u32 = u32::MAX - 1;

/// A reactor as its leader has it.
pub(crate) struct Lead<A: Application> {
    hub: Arc<Hub<A>>,
    pub(crate) number: usize,
    wheel: Wheel,
    /// The list of hints that other threads left, empty, for its memory.
    taken_hints: Vec<(u32, Tick)>,
    events: Events,
    acceptors: Vec<Acceptor>,
    /// Listeners with somebody waiting.
    ready_listeners: Vec<u16>,
    /// When epoll was last asked, in microseconds.
    pub(crate) polled_us: u64,
    /// When the timer of the epoll set rings, until it has.
    rings_at: Option<Time>,
}

impl<A: Application> Lead<A> {
    /// The leader's part of reactor `number`, with the listeners it accepts from.
    pub(crate) fn new(hub: Arc<Hub<A>>, number: usize, acceptors: Vec<Acceptor>) -> std::io::Result<Lead<A>> {
        for acceptor in &acceptors {
            hub.reactors[number].poller.add_listener(fd(acceptor), token_of(acceptor.number))?;
        }
        let wheel = Wheel::new(Tick::floor(hub.clock.now()));
        let events = Events::with_capacity(EVENTS_MAX);
        let ready_listeners = Vec::new();
        Ok(Lead {
            hub,
            number,
            wheel,
            taken_hints: Vec::new(),
            events,
            acceptors,
            ready_listeners,
            polled_us: 0,
            rings_at: None,
        })
    }

    /// Files a hint of a slot whose home this reactor is.
    pub(crate) fn file(&mut self, slot: u32, tick: Tick) {
        self.wheel.add(slot, tick);
    }

    /// Gives memory back: many connections have gone.
    pub(crate) fn ebb(&mut self) {
        self.wheel.recall();
    }

    /// Waits, unless other threads left work, and hands every slot that must run to `queue`. Sleeping is announced, so
    /// whoever leaves something for this reactor meanwhile wakes it (O10); `has_work` is asked after that.
    pub(crate) fn wait(
        &mut self,
        has_work: impl FnOnce() -> bool,
        counts: &WorkerCounts,
        queue: &mut dyn FnMut(u32),
    ) -> std::io::Result<()> {
        let next = self.next_wake();
        let Lead { hub, number, .. } = self;
        let reactor = &hub.reactors[*number];
        reactor.next_wake.store(next.map_or(Tick::NEVER, Tick::floor).0, Ordering::SeqCst);
        reactor.sleep.announce();
        let busy = !reactor.injector.is_empty()
            || reactor.hints_waiting.load(Ordering::SeqCst)
            || reactor.closing.load(Ordering::SeqCst)
            || hub.ended.load(Ordering::SeqCst)
            || self.wheel.has_due()
            || has_work();
        if !busy {
            self.set_timer(next)?;
        }
        let result = self.poll_for(!busy, HINTS_MAX, counts, queue);
        self.hub.reactors[self.number].sleep.end();
        result
    }

    /// Makes the timer ring no later than `next`. If it rings earlier, the next wait sets it anew.
    fn set_timer(&mut self, next: Option<Time>) -> std::io::Result<()> {
        let Some(next) = next else { return Ok(()) };
        if self.rings_at.is_none_or(|at| next < at) {
            self.hub.reactors[self.number].poller.ring_at(self.hub.clock.since_boot(next))?;
            self.rings_at = Some(next);
        }
        Ok(())
    }

    /// Looks for events and for what other threads left, without waiting.
    pub(crate) fn poll(&mut self, counts: &WorkerCounts, queue: &mut dyn FnMut(u32)) -> std::io::Result<()> {
        self.poll_for(false, HINTS_BUSY_MAX, counts, queue)
    }

    fn poll_for(
        &mut self,
        may_block: bool,
        hints_max: usize,
        counts: &WorkerCounts,
        queue: &mut dyn FnMut(u32),
    ) -> std::io::Result<()> {
        let Lead { hub, number, events, ready_listeners, rings_at, .. } = self;
        let reactor = &hub.reactors[*number];
        let found = reactor.poller.wait(events, may_block, |token, ready| match token {
            TIMER => *rings_at = None,
            _ => on_event(hub, token, ready, ready_listeners, queue),
        })?;
        counts.waits.add(1);
        counts.events.add(found as u64);
        // Asked first, for taking from an empty one is a fence. What comes behind the question is seen before sleeping.
        while !reactor.injector.is_empty() {
            reactor.injector.pop().into_iter().for_each(&mut *queue);
        }
        let closing =
            reactor.closing.load(Ordering::Relaxed) && reactor.closing.swap(false, Ordering::SeqCst);
        self.polled_us = hub.clock.micros();
        let now = Time::from_micros(self.polled_us);
        self.turn_wheel(now, hints_max, queue);
        if !self.acceptors.is_empty() {
            self.accept(now, queue);
        }
        // Whether or not there is a listener here: while it is said, this thread does not sleep.
        if closing {
            self.close_listeners(now, queue);
        }
        Ok(())
    }

    /// When this reactor wants to be looked at without an event.
    fn next_wake(&self) -> Option<Time> {
        let accepting = self.acceptors.iter().filter_map(|acceptor| acceptor.paused_until);
        let wheel = self.wheel.next().map(Tick::time);
        wheel.into_iter().chain(accepting).min()
    }

    /// Hands out what is due, then files what other threads left: the wheel must stand at the present for that.
    fn turn_wheel(&mut self, now: Time, hints_max: usize, queue: &mut dyn FnMut(u32)) {
        self.fire(now, hints_max, queue);
        let reactor = &self.hub.reactors[self.number];
        if reactor.hints_waiting.load(Ordering::Relaxed)
            && reactor.hints_waiting.swap(false, Ordering::SeqCst)
        {
            let mut waiting = reactor.hints.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *waiting, &mut self.taken_hints);
            drop(waiting);
            for (slot, tick) in self.taken_hints.drain(..) {
                self.wheel.add(slot, tick);
            }
            if self.taken_hints.capacity() > HINTS_KEPT_MAX {
                self.taken_hints = Vec::new();
            }
            self.fire(now, hints_max, queue);
        }
    }

    fn fire(&mut self, now: Time, hints_max: usize, queue: &mut dyn FnMut(u32)) {
        let tick = Tick::floor(now);
        if !self.wheel.is_behind(tick) {
            return;
        }
        let Lead { hub, wheel, .. } = self;
        let mut due = wheel.advance(tick, hints_max);
        hub.table.look(due.drain(..), |slot, filed, shared| match timer::fire(shared, filed, tick) {
            Fired::Due => {
                if hub.table.add(slot, Causes::TIMER) == Added::Queue {
                    queue(slot);
                }
            }
            Fired::Again(later) => wheel.add(slot, later),
            Fired::Nothing => {}
        });
        wheel.recycle(due);
    }

    /// Accepts from the listeners that are ready or whose pause is over.
    fn accept(&mut self, now: Time, queue: &mut dyn FnMut(u32)) {
        let Lead { hub, number: home, acceptors, ready_listeners, .. } = self;
        let poller = &hub.reactors[*home].poller;
        for acceptor in acceptors {
            let paused = acceptor.paused_until;
            let over = paused.is_some_and(|until| until <= now);
            if !over && (paused.is_some() || !ready_listeners.contains(&acceptor.number)) {
                continue;
            }
            if over {
                // Whoever waits is reported again, for listeners are level-triggered.
                let _ = poller.add_listener(fd(acceptor), token_of(acceptor.number));
            }
            let end = acceptor.accept(hub, now, &mut || *home, &mut |_, slot| queue(slot));
            if end == AcceptEnd::Paused {
                let _ = poller.remove(fd(acceptor));
            }
        }
        ready_listeners.clear();
    }

    /// Accepts what is queued at listeners that are to be closed, then closes them: closing alone would reset it (O12).
    fn close_listeners(&mut self, now: Time, queue: &mut dyn FnMut(u32)) {
        let (hub, home) = (Arc::clone(&self.hub), self.number);
        for mut acceptor in self.acceptors.extract_if(.., |acceptor| hub.is_closing(acceptor.number)) {
            while acceptor.accept(&hub, now, &mut || home, &mut |_, slot| queue(slot)) == AcceptEnd::Budget {}
            let _ = hub.reactors[home].poller.remove(fd(&acceptor));
        }
    }
}

fn fd(acceptor: &Acceptor) -> impl AsFd + '_ {
    acceptor.listener.as_fd()
}

fn token_of(listener: u16) -> u64 {
    Address { index: LISTENER_TOKENS - u32::from(listener), generation: u32::MAX }.as_u64()
}

fn on_event<A: Application>(
    hub: &Hub<A>,
    token: u64,
    ready: Ready,
    listeners: &mut Vec<u16>,
    queue: &mut dyn FnMut(u32),
) {
    if token == WAKE {
        return;
    }
    let address = Address::from_u64(token);
    if address.generation == u32::MAX && address.index > LISTENER_TOKENS - u32::from(u16::MAX) {
        listeners.extend(u16::try_from(LISTENER_TOKENS - address.index));
        return;
    }
    let flags = [
        (ready.is_in(), Causes::IN),
        (ready.is_out(), Causes::OUT),
        (ready.is_peer_shut(), Causes::PEER_SHUT),
        (ready.is_broken(), Causes::BROKEN),
        (ready.is_urgent(), Causes::URGENT),
    ];
    let causes = flags.iter().filter(|(is, _)| *is).fold(Causes::EVENT, |all, (_, cause)| all.and(*cause));
    // A stale event (O7) finds no generation and is dropped here.
    if hub.table.add_for(address, causes) == Added::Queue {
        queue(address.index);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use crossbeam::deque::Worker as Deque;
    use crossbeam::utils::CachePadded;

    use super::*;
    use crate::driver::admission::{ACCEPT_BUDGET, Admission};
    use crate::driver::core::Core;
    use crate::driver::epoll::hub::{Own, WorkerSeat};
    use crate::driver::epoll::outbox::Outbox;
    use crate::driver::epoll::queue::EventQueue;
    use crate::driver::epoll::turn::Runner;
    use crate::driver::kit::Kit;
    use crate::machine::{Accepted, Closed, Context, Freeze, Frozen, Input, Machine, ThawError};
    use crate::options::Options;
    use crate::slot::table::{Newcomer, Table};

    struct Echo;

    impl Application for Echo {
        type Mail = ();
        type Local = ();

        fn local(&self, _worker: usize) {}

        fn accept(
            &self,
            _: &mut (),
            _listener: u16,
            _peer: SocketAddr,
            _: &dyn Accepted,
        ) -> Option<Box<dyn Machine<Echo>>> {
            Some(Box::new(Echo))
        }

        fn closed(&self, _: &mut (), _record: &Closed) {}

        fn orphaned(&self, _: &mut (), _mail: ()) {}

        fn thaw(&self, _: &mut (), _frozen: &Frozen) -> Result<Box<dyn Machine<Echo>>, ThawError> {
            Err(ThawError("it does not freeze".to_owned()))
        }
    }

    impl Machine<Echo> for Echo {
        fn on(&mut self, input: Input<'_, Echo>, context: &mut Context<'_, Echo>) {
            match input {
                Input::Bytes(incoming) => {
                    let bytes = incoming.len();
                    let piece = incoming.take(bytes);
                    context.write(piece);
                }
                Input::Mail { .. } => context.reset(0),
                _ => {}
            }
        }

        fn freeze(&self) -> Freeze {
            Freeze::NotYet { why: "it does not freeze" }
        }
    }

    /// A raw mode without threads: a test decides who does what when.
    struct Bench {
        hub: Arc<Hub<Echo>>,
        runner: Runner<Echo>,
        listener: TcpListener,
    }

    impl Bench {
        fn new() -> Bench {
            let deque = Deque::new_fifo();
            let seats = vec![CachePadded::new(WorkerSeat::new(deque.stealer()))].into_boxed_slice();
            let options = Options { reactors: 1, workers: 1, ..Options::default() };
            let hub = Arc::new(Hub::new(Arc::new(Echo), options, seats, 0).expect("epoll works"));
            let kit = Kit::new((), hub.pool.clone(), hub.loads.clone(), 1);
            let out = Outbox::new(EventQueue::new(deque), 0);
            let runner = Runner::new(Arc::clone(&hub), kit, out, 0);
            Bench { hub, runner, listener: TcpListener::bind("127.0.0.1:0").expect("loopback") }
        }

        fn client(&self) -> TcpStream {
            TcpStream::connect(self.listener.local_addr().expect("bound")).expect("it listens")
        }

        fn accept(&mut self) -> (Address, i32) {
            let (stream, peer) = self.listener.accept().expect("a client waits");
            stream.set_nonblocking(true).expect("a plain option");
            let fd = std::os::fd::AsRawFd::as_raw_fd(&stream);
            let own = Own { stream: Some(stream), ..Own::new(Core::accepted()) };
            assert_eq!(self.hub.admitted.admit(0, peer.ip()), Admission::Granted);
            let newcomer = Newcomer { own, home: 0, peer: Some(peer), listener: 0 };
            let (held, address) = self.hub.table.claim(self.hub.clock.now(), newcomer).ok().expect("room");
            self.hub.note_home(0, 1);
            self.run(self.hub.table.requeue(held, Causes::AGAIN));
            (address, fd)
        }

        fn run(&mut self, slot: u32) {
            self.runner.look_at_clock();
            let (mut held, causes) = self.hub.table.begin(slot).expect("it is queued");
            self.runner.turn(&mut held, causes);
            self.runner.finish(held);
        }

        /// Fetches what epoll has, without telling any slot.
        fn fetch(&self) -> Vec<(u64, Ready)> {
            let mut fetched = Vec::new();
            let mut events = Events::with_capacity(8);
            let wait = self.hub.reactors[0].poller.wait(&mut events, true, |token, ready| {
                fetched.push((token, ready));
            });
            wait.expect("epoll works");
            fetched
        }

        fn tell(&mut self, (token, ready): (u64, Ready)) -> Vec<u32> {
            let mut queued = Vec::new();
            on_event(&self.hub, token, ready, &mut Vec::new(), &mut |slot| queued.push(slot));
            queued
        }
    }

    /// One try; false if another test of this process took the descriptor in between.
    fn reuse_between_fetch_and_turn() -> bool {
        let mut bench = Bench::new();
        let (mut first, mut second) = (bench.client(), bench.client());
        let (old, old_fd) = bench.accept();
        first.write_all(b"old").expect("it is open");
        let stale = bench.fetch()[0];
        bench.hub.post_from_outside(old, ()).expect("it is there");
        let slot = bench.hub.reactors[0].injector.pop().expect("the mail queued it");
        bench.run(slot);
        assert_eq!(bench.hub.table.live(), 0, "the mail closed it");
        let (new, new_fd) = bench.accept();
        assert_eq!(new.index, old.index, "the slot is used again");
        assert!(bench.tell(stale).is_empty(), "the event of the old connection is dropped");
        second.write_all(b"new").expect("it is open");
        let fresh = bench.fetch()[0];
        assert_eq!(bench.tell(fresh), [new.index]);
        bench.run(new.index);
        let mut answer = [0; 3];
        second.read_exact(&mut answer).expect("it answers");
        assert_eq!(&answer, b"new");
        new_fd == old_fd
    }

    #[test]
    fn deadlines_of_many_at_once_come_by_portions_so_that_events_have_their_turn() {
        let bench = Bench::new();
        let hub = &bench.hub;
        let mut lead = Lead::new(Arc::clone(hub), 0, Vec::new()).expect("no listener is to be watched");
        let slots = 2 * HINTS_MAX;
        for _ in 0..slots {
            let now = Tick::floor(hub.clock.now());
            let newcomer = Newcomer { own: Own::new(Core::accepted()), home: 0, peer: None, listener: 0 };
            let (held, address) = hub.table.claim(hub.clock.now(), newcomer).ok().expect("room");
            let shared = hub.table.shared(&held).expect("it is live");
            lead.file(address.index, timer::file(shared, now, now).expect("nothing covers it yet"));
            hub.table.release(held).expect("no cause came");
        }
        let (counts, mut queued, mut portions) = (WorkerCounts::default(), Vec::new(), Vec::new());
        lead.poll(&counts, &mut |slot| queued.push(slot)).expect("epoll works");
        portions.push(queued.len());
        while queued.len() < slots {
            let before = queued.len();
            // It would never come back if it slept with some of them left.
            lead.wait(|| false, &counts, &mut |slot| queued.push(slot)).expect("epoll works");
            portions.push(queued.len() - before);
        }
        assert_eq!(portions, [HINTS_BUSY_MAX, HINTS_MAX, HINTS_MAX - HINTS_BUSY_MAX]);
        queued.sort_unstable();
        assert!(queued.windows(2).all(|pair| pair[0] < pair[1]), "each once");
    }

    #[test]
    fn a_storm_of_connects_is_taken_in_by_portions_so_that_others_have_their_turn() {
        let bench = Bench::new();
        let any = "127.0.0.1:0".parse().expect("an address");
        let options = &bench.hub.options.socket;
        let mut acceptor = Acceptor::bind(any, 0, false, options).expect("loopback");
        let address = acceptor.listener.local_addr().expect("bound");
        let storm = ACCEPT_BUDGET + ACCEPT_BUDGET / 2;
        let _clients: Vec<_> = (0..storm).map(|_| TcpStream::connect(address).expect("it listens")).collect();
        let mut queued = 0;
        let mut accept = || {
            let end = acceptor.accept(&bench.hub, bench.hub.clock.now(), &mut || 0, &mut |_, _| queued += 1);
            (end, queued)
        };
        assert_eq!(accept(), (AcceptEnd::Budget, ACCEPT_BUDGET));
        assert_eq!(accept(), (AcceptEnd::Drained, storm));
    }

    #[test]
    fn an_event_fetched_before_its_descriptor_was_reused_runs_nobody() {
        assert!(
            (0..100).any(|_| reuse_between_fetch_and_turn()),
            "the descriptor is used again once in a hundred"
        );
    }

    #[test]
    fn a_slot_is_within_its_budget() {
        let bytes = Table::<(), Own<Echo>>::SLOT_BYTES;
        println!("a slot takes {bytes} of 128 bytes");
        assert!(bytes <= 128, "{bytes}");
    }
}
