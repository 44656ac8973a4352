//! Loom models of the ownership rules: every interleaving of a few threads over the real table, words, inboxes, timers
//! and sleepers (`RUSTFLAGS="--cfg loom"`, see `scripts/loom.sh`).
//!
//! Around that code stands a [`World`]: a queue that complains about a slot that lies in it twice, and sockets as a
//! kernel with edge-triggered sets has them. It is the smallest driver that obeys the rules; it does no I/O. Every connection
//! has a cell of loom's that two holders at once cannot touch unnoticed.
//!
//! Broken by hand, and noticed: `release` that ignores causes, `add` that queues a running slot, `add_for` without its
//! generation, `end` that keeps the generation, `push` that never reports an empty inbox, `Relaxed` in `release`, `push`
//! or `take`, either fence of `Sleep` gone, hints of a timer in two words or with `AcqRel`, a deadline stored with
//! `Release`, `fire` that reads the deadline first, `trim` without its write lock, a socket that stays armed although it
//! was not drained, and O3 in the wrong order (`--cfg release_before_arm`). Not noticed,
//! since the queue orders the same memory: `Relaxed` in `begin`. Harmless: `push` that always reports an empty inbox.

mod ownership;
mod sleep;
mod timers;

use std::sync::atomic::AtomicUsize;

use loom::cell::Cell;
use loom::sync::Mutex;
use loom::sync::atomic::AtomicU64;

use crate::machine::Address;
use crate::slot::inbox::Node;
use crate::slot::shared::NO_LISTENER;
use crate::slot::table::{Held, Newcomer, SEGMENT_SLOTS, Table};
use crate::slot::word::{Added, Causes};
use crate::sync::Ordering;
use crate::time::Time;

/// Pieces of mail that one model may send.
const MAILS: usize = 4;
/// Generations of a slot that one model may reach.
const GENERATIONS: usize = 3;

/// A table, a queue of slots from which every thread may take, and sockets.
struct World {
    /// Mail is its number, in a cell that notices whoever reads it without having seen it written.
    table: Table<Cell<usize>, Own>,
    queue: Queue,
    sockets: [Socket; SEGMENT_SLOTS],
    seen: Seen,
}

/// The private part of a slot.
struct Own {
    /// Touched in every turn, so that two holders are noticed.
    turns: Cell<usize>,
    /// What the connection does when its timer cause comes.
    on_timer: OnTimer,
    /// It leaves its home when its turn ends.
    leaves: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OnTimer {
    Stay,
    Close,
    /// Go to the other reactor, each time.
    Move,
    /// Go to the other reactor, and close the next time.
    MoveThenClose,
}

/// A set of queued slots. It orders memory as a deque does and no more.
struct Queue(AtomicU64);

/// The socket of a slot, as the kernel sees it: behind a lock, so that whoever fetches an event sees at least the
/// generation that armed it. [`crate::slot::word::Word::add_for`] relies on that.
struct Socket(Mutex<Kernel>);

struct Kernel {
    /// The generation that it is armed for in the epoll set of each reactor; nobody while it is in neither.
    armed: [u64; 2],
    /// The generation of an event that each set holds and nobody has fetched.
    ready: [u64; 2],
    /// What arrived and was not read.
    unread: usize,
    /// The generation whose file descriptor it is; nobody while it is closed.
    owner: u64,
}

/// No generation.
const NOBODY: u64 = u64::MAX;

/// What happened, counted beside the model: these order nothing in it.
#[derive(Default)]
struct Seen {
    delivered: [AtomicUsize; MAILS],
    bounced: [AtomicUsize; MAILS],
    /// Mail in the order in which it was delivered, oldest first.
    order: std::sync::Mutex<Vec<usize>>,
    timers: AtomicUsize,
    fetched: [AtomicUsize; GENERATIONS],
    events: [AtomicUsize; GENERATIONS],
}

fn node(to: Address, mail: usize) -> Box<Node<Cell<usize>>> {
    let written = Cell::new(MAILS);
    written.set(mail);
    let mut node = Node::new();
    (node.to, node.mail) = (to, Some(written));
    node
}

fn count(cell: &AtomicUsize) {
    cell.fetch_add(1, Ordering::Relaxed);
}

fn counted(cell: &AtomicUsize) -> usize {
    cell.load(Ordering::Relaxed)
}

impl Queue {
    fn push(&self, slot: u32) {
        let before = self.0.fetch_or(1 << slot, Ordering::Release);
        assert_eq!(before & 1 << slot, 0, "a slot is in at most one queue");
    }

    fn pop(&self) -> Option<u32> {
        let mut queued = self.0.load(Ordering::Acquire);
        while queued != 0 {
            let slot = queued.trailing_zeros();
            let before = self.0.fetch_and(!(1 << slot), Ordering::AcqRel);
            if before & 1 << slot != 0 {
                return Some(slot);
            }
            queued = before & !(1 << slot);
        }
        None
    }
}

impl Socket {
    fn with<T>(&self, act: impl FnOnce(&mut Kernel) -> T) -> T {
        act(&mut self.0.lock().expect("no model panics in it"))
    }
}

impl Kernel {
    const CLOSED: Kernel = Kernel { armed: [NOBODY; 2], ready: [NOBODY; 2], unread: 0, owner: NOBODY };

    /// An edge: every set that it is armed in holds an event from here on.
    fn arrive(&mut self) {
        self.unread += 1;
        for (armed, ready) in self.armed.iter().zip(&mut self.ready) {
            if *armed != NOBODY {
                *ready = *armed;
            }
        }
    }

    /// Adds it to a set, or asks a set that it is in: what has arrived is an event.
    fn arm(&mut self, reactor: usize, generation: u64) {
        self.armed[reactor] = generation;
        if self.unread > 0 {
            self.ready[reactor] = generation;
        }
    }

    fn leave(&mut self, reactor: usize) {
        self.armed[reactor] = NOBODY;
        self.ready[reactor] = NOBODY;
    }
}

impl World {
    fn new() -> World {
        let socket = || Socket(Mutex::new(Kernel::CLOSED));
        World {
            table: Table::new(SEGMENT_SLOTS),
            queue: Queue(AtomicU64::new(0)),
            sockets: std::array::from_fn(|_| socket()),
            seen: Seen::default(),
        }
    }

    /// Accepts a connection and arms it.
    fn open(&self, on_timer: OnTimer) -> Address {
        let own = Own { turns: Cell::new(0), on_timer, leaves: false };
        let newcomer = Newcomer { own, home: 0, peer: None, listener: NO_LISTENER };
        let (held, address) = self.table.claim(Time::ZERO, newcomer).unwrap_or_else(|_| panic!("it is full"));
        self.sockets[address.index as usize].with(|socket| {
            assert_eq!(socket.owner, NOBODY, "a descriptor is closed before it is used again");
            socket.owner = address.generation.into();
        });
        self.hold(held, Causes::AGAIN);
        address
    }

    /// Something arrives, and a reactor fetches what its set holds of the slot.
    fn fetch(&self, slot: u32, reactor: usize) {
        self.sockets[slot as usize].with(Kernel::arrive);
        self.fetch_ready(slot, reactor);
    }

    /// One fetch of a reactor. True if its set held an event.
    fn fetch_ready(&self, slot: u32, reactor: usize) -> bool {
        let take = |socket: &mut Kernel| std::mem::replace(&mut socket.ready[reactor], NOBODY);
        let token = self.sockets[slot as usize].with(take);
        let Ok(generation) = u32::try_from(token) else { return false };
        count(&self.seen.fetched[generation as usize]);
        let added = self.table.add_for(Address { index: slot, generation }, Causes::EVENT.and(Causes::IN));
        self.obey(added, slot);
        true
    }

    fn send(&self, to: Address, mail: usize) {
        match self.table.deliver(node(to, mail)) {
            Ok(true) => self.queue.push(to.index),
            Ok(false) => {}
            Err(_) => panic!("the address was used"),
        }
        self.drain();
    }

    fn fire(&self, slot: u32) {
        let added = self.table.add(slot, Causes::TIMER);
        self.obey(added, slot);
    }

    /// Queues the slot if that is this thread's duty, and works as every worker does.
    fn obey(&self, added: Added, slot: u32) {
        if added == Added::Queue {
            self.queue.push(slot);
        }
        self.drain();
    }

    /// Runs what is queued, whoever queued it.
    fn drain(&self) {
        while let Some(slot) = self.queue.pop() {
            let (held, causes) = self.table.begin(slot).expect("what lies in a queue is queued");
            self.hold(held, causes);
        }
    }

    fn hold(&self, mut held: Held, mut causes: Causes) {
        let index = held.index();
        let mut ended = false;
        loop {
            ended |= self.turn(&mut held, causes);
            match self.end_of_turn(held) {
                Ok(()) => break,
                Err(back) => held = back,
            }
            causes = self.table.take_causes(&held);
        }
        if ended {
            self.table.give_back(index, Time::ZERO);
        }
    }

    /// One turn (O2). True if it ended the connection.
    fn turn(&self, held: &mut Held, causes: Causes) -> bool {
        self.receive(held);
        let address = self.table.address(held);
        let Some((shared, own)) = self.table.parts(held) else { return false };
        own.turns.set(own.turns.get() + 1);
        if causes.any(Causes::EVENT) {
            shared.set_disarmed(false);
            count(&self.seen.events[address.generation as usize]);
            // Every other turn leaves what arrived to the next, as one whose budget has ended.
            if own.turns.get().is_multiple_of(2) {
                self.sockets[address.index as usize].with(|socket| socket.unread = 0);
                shared.set_drained();
            }
        }
        if !causes.any(Causes::TIMER) {
            return false;
        }
        count(&self.seen.timers);
        match own.on_timer {
            OnTimer::Stay => false,
            OnTimer::Move => {
                own.leaves = true;
                false
            }
            OnTimer::MoveThenClose => {
                (own.leaves, own.on_timer) = (true, OnTimer::Close);
                false
            }
            OnTimer::Close => self.close(held),
        }
    }

    /// Takes the mail; what is for another generation bounces.
    fn receive(&self, held: &Held) {
        let address = self.table.address(held);
        for node in self.table.take_mail(held) {
            let mail = node.mail.expect("a model sends mail").get();
            if node.to == address {
                count(&self.seen.delivered[mail]);
                self.seen.order.lock().expect("no test panics in it").push(mail);
            } else {
                count(&self.seen.bounced[mail]);
            }
        }
    }

    /// Leaves the epoll set of one reactor, if that is due; arming adds it to that of the other (O8).
    fn change_home(&self, held: &mut Held) {
        let socket = &self.sockets[held.index() as usize];
        let Some((shared, own)) = self.table.parts(held) else { return };
        if !std::mem::take(&mut own.leaves) {
            return;
        }
        let home = shared.home();
        socket.with(|socket| socket.leave(home));
        shared.set_home(1 - home);
        shared.set_disarmed(true);
    }

    /// Leaves the epoll set, ends the generation, bounces, closes the descriptor (O7).
    fn close(&self, held: &mut Held) -> bool {
        let socket = &self.sockets[held.index() as usize];
        let home = self.table.shared(held).expect("it is live").home();
        socket.with(|socket| socket.leave(home));
        let own = self.table.end(held).expect("it is live");
        assert!(own.turns.get() > 0);
        self.receive(held);
        socket.with(|socket| (socket.owner, socket.unread) = (NOBODY, 0));
        true
    }

    /// Moves and arms while the slot is held, and releases last (O3); the other way round in a build that must fail.
    fn end_of_turn(&self, mut held: Held) -> Result<(), Held> {
        let slot = held.index();
        self.change_home(&mut held);
        let arming = self.take_arming(&mut held);
        if cfg!(release_before_arm) {
            let released = self.table.release(held);
            self.arm(slot, arming);
            return released;
        }
        self.arm(slot, arming);
        self.table.release(held)
    }

    /// The generation and the reactor that the socket must be armed for, if it is not armed.
    fn take_arming(&self, held: &mut Held) -> Option<(u32, usize)> {
        let generation = self.table.address(held).generation;
        let (shared, _) = self.table.parts(held)?;
        let arming = shared.armed().is_none().then(|| (generation, shared.home()));
        shared.set_armed(Some(1), true);
        arming
    }

    fn arm(&self, slot: u32, arming: Option<(u32, usize)>) {
        let Some((generation, reactor)) = arming else { return };
        self.sockets[slot as usize].with(|socket| {
            assert_eq!(socket.owner, generation.into(), "only the owner of a descriptor arms it");
            socket.arm(reactor, generation.into());
        });
    }

    /// Checks that nothing was lost once all threads have ended: no cause, no mail, no arming.
    fn check(&self, sent: usize) {
        assert!(self.queue.pop().is_none(), "whoever queued a slot also ran it");
        for mail in 0..MAILS {
            let answers = counted(&self.seen.delivered[mail]) + counted(&self.seen.bounced[mail]);
            assert_eq!(answers, usize::from(mail < sent), "mail {mail} arrives or bounces, once");
        }
        while (0..2).any(|reactor| self.fetch_ready(0, reactor)) {}
        self.table.for_each(|address, shared, resting| {
            assert!(resting, "nobody holds it and no cause is left");
            self.sockets[address.index as usize].with(|socket| {
                assert_eq!(socket.unread, 0, "whatever arrives leads to a turn that reads it");
                let home = shared.home();
                assert_eq!(socket.armed[home], address.generation.into(), "it rests armed, at home");
                assert_eq!(socket.armed[1 - home], NOBODY, "it left the epoll set of its old home");
            });
        });
        for generation in 0..GENERATIONS {
            let (events, fetched) = (&self.seen.events[generation], &self.seen.fetched[generation]);
            assert!(counted(events) <= counted(fetched), "no event of another generation runs");
        }
    }
}
