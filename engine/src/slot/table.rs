//! The one table of slots: where every connection of the process lives.
//!
//! Segments of 1,024 slots keep their place for ever, so a slot can be used without a lock. Words and inboxes are never
//! given back, so generations never repeat; the bodies of a segment that was wholly free for a while are. The table
//! owns who may touch what: only the [`Held`] token opens the private part of a slot, and only a transition of the
//! schedule word makes one. It runs nothing and queues nothing. Called by the drivers.

use std::cell::UnsafeCell;
use std::net::SocketAddr;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicUsize;
use std::sync::{OnceLock, PoisonError};

use super::inbox::{Inbox, Letters, Node};
use super::pages::Pages;
use super::shared::Shared;
use super::word::{Added, Causes, Word};
use crate::machine::Address;
use crate::sync::{AtomicPtr, Mutex, MutexGuard, Ordering, RwLock};
use crate::time::{Tick, Time};

/// Slots of one segment; few in a model, which visits every interleaving.
pub(crate) const SEGMENT_SLOTS: usize = if cfg!(loom) { 2 } else { 1024 };
/// How long a segment must be wholly free before its bodies are given back, in milliseconds.
const SEGMENT_IDLE_MS: u64 = 10_000;

/// The part of a slot that is never given back.
struct Head<M> {
    word: Word,
    inbox: Inbox<M>,
}

/// The rest of a slot.
struct Body<B> {
    shared: Shared,
    /// Touched by the holder alone; something while a connection has the slot.
    own: UnsafeCell<Option<B>>,
}

/// In a model, whoever looks at a body without holding its slot must have looked before it is freed.
#[cfg(loom)]
impl<B> Drop for Body<B> {
    fn drop(&mut self) {
        self.shared.hints.with_mut(|_| ());
    }
}

struct Segment<M, B> {
    heads: OnceLock<Pages<Head<M>>>,
    bodies: AtomicPtr<Body<B>>,
}

/// The right to touch one slot, from a successful transition until release.
#[must_use = "a slot that is held must be released"]
#[derive(Debug)]
pub(crate) struct Held {
    index: u32,
    /// Of the slot: only its holder ends one, so it need not be asked for again.
    generation: u32,
}

#[cfg(loom)]
impl Held {
    /// The slot: the models ask, drivers know.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }
}

/// What a new connection shows first.
pub(crate) struct Newcomer<B> {
    /// The private part.
    pub(crate) own: B,
    /// Its home reactor.
    pub(crate) home: usize,
    /// The peer, if known.
    pub(crate) peer: Option<SocketAddr>,
    /// The listener that accepted it, or `NO_LISTENER`.
    pub(crate) listener: u16,
}

/// All slots: `M` is the mail, `B` the private part of a slot.
pub(crate) struct Table<M, B> {
    segments: Box<[Segment<M, B>]>,
    free: Mutex<Vec<SegmentUse>>,
    /// Read while bodies are looked at without holding a slot, written while bodies are given back.
    bodies_used: RwLock<()>,
    live: AtomicUsize,
    live_max: usize,
}

/// Which slots of a segment are taken.
#[derive(Clone)]
struct SegmentUse {
    taken: [u64; SEGMENT_SLOTS.div_ceil(64)],
    taken_count: usize,
    free_since: Time,
}

// SAFETY: `own` is reached through `Held` alone, of which there is one per slot at a time; everything else is atomic
// or behind a lock.
unsafe impl<M: Send, B: Send> Sync for Table<M, B> {}
// SAFETY: as above; moving the table moves `M` and `B`.
unsafe impl<M: Send, B: Send> Send for Table<M, B> {}

impl<M, B> Table<M, B> {
    /// A table for at most `live_max` connections. Memory is taken as they come.
    pub(crate) fn new(live_max: usize) -> Table<M, B> {
        // Slots that are busy with bounces cannot be claimed at once, hence one segment more than needed.
        let segments = live_max.div_ceil(SEGMENT_SLOTS) + 1;
        let segment = || Segment { heads: OnceLock::new(), bodies: AtomicPtr::new(ptr::null_mut()) };
        Table {
            segments: (0..segments).map(|_| segment()).collect(),
            free: Mutex::new(Vec::new()),
            bodies_used: RwLock::new(()),
            live: AtomicUsize::new(0),
            live_max,
        }
    }

    /// User memory of one slot: the part that is never given back, and the body.
    #[cfg(test)]
    pub(crate) const SLOT_BYTES: usize = size_of::<Head<M>>() + size_of::<Body<B>>();

    /// Slots there can be.
    pub(crate) fn slots_max(&self) -> usize {
        self.segments.len() * SEGMENT_SLOTS
    }

    /// Slots up to the last one that was ever used, by whole segments.
    pub(crate) fn slots_used(&self) -> usize {
        lock(&self.free).len() * SEGMENT_SLOTS
    }

    /// Connections there are.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    fn head(&self, index: u32) -> &Head<M> {
        let (segment, slot) = split(index);
        let heads = self.segments[segment].heads.get();
        &heads.expect("an address names a slot that was used before")[slot]
    }

    /// The body of a slot, if its segment has bodies.
    fn body(&self, index: u32) -> Option<NonNull<Body<B>>> {
        let (segment, slot) = split(index);
        let bodies = NonNull::new(self.segments[segment].bodies.load(Ordering::Acquire))?;
        // SAFETY: a segment's allocation holds SEGMENT_SLOTS bodies, and `slot` is below that.
        Some(unsafe { bodies.add(slot) })
    }

    /// Takes the lowest free slot for a new connection; it is held. Gives the newcomer back when the table is full.
    pub(crate) fn claim(&self, now: Time, newcomer: Newcomer<B>) -> Result<(Held, Address), Newcomer<B>> {
        let Some(index) = self.take_index() else { return Err(newcomer) };
        let mut held = self.held(index);
        let shared = self.shared(&held).expect("a taken slot has a body");
        shared.open(Tick::floor(now), newcomer.home, newcomer.peer, newcomer.listener);
        *self.own(&mut held).expect("a taken slot has a body") = Some(newcomer.own);
        let address = self.address(&held);
        Ok((held, address))
    }

    /// The token of a slot whose word the caller has just won.
    fn held(&self, index: u32) -> Held {
        Held { index, generation: self.head(index).word.generation() }
    }

    fn take_index(&self) -> Option<u32> {
        let mut uses = lock(&self.free);
        if self.live.load(Ordering::Relaxed) >= self.live_max {
            return None;
        }
        let mut from = 0;
        loop {
            let index = self.next_free(&mut uses, from)?;
            self.make_ready(index);
            // A slot that still bounces mail of its last connection is left for later.
            if self.head(index).word.claim() {
                let (segment, slot) = split(index);
                uses[segment].take(slot);
                self.live.fetch_add(1, Ordering::Relaxed);
                return Some(index);
            }
            from = index + 1;
        }
    }

    fn next_free(&self, uses: &mut Vec<SegmentUse>, from: u32) -> Option<u32> {
        let (first, mut slot) = split(from);
        for segment in first..self.segments.len() {
            if segment == uses.len() {
                uses.push(SegmentUse::unused());
            }
            if let Some(found) = uses[segment].free_from(slot) {
                return u32::try_from(segment * SEGMENT_SLOTS + found).ok();
            }
            slot = 0;
        }
        None
    }

    /// Makes words and bodies of the slot's segment; called with the free lock held.
    fn make_ready(&self, index: u32) {
        let segment = &self.segments[split(index).0];
        let head = || Head { word: Word::new(), inbox: Inbox::new() };
        segment.heads.get_or_init(|| Pages::fill(SEGMENT_SLOTS, head));
        if segment.bodies.load(Ordering::Acquire).is_null() {
            segment.bodies.store(allocate_bodies::<B>().as_ptr(), Ordering::Release);
        }
    }

    /// The address of what the caller holds.
    pub(crate) fn address(&self, held: &Held) -> Address {
        Address { index: held.index, generation: held.generation }
    }

    /// Adds causes to the connection at `address` (O1).
    pub(crate) fn add_for(&self, address: Address, causes: Causes) -> Added {
        self.head(address.index).word.add_for(address.generation, causes)
    }

    /// Adds causes to whatever has the slot (O1).
    pub(crate) fn add(&self, index: u32, causes: Causes) -> Added {
        self.head(index).word.add(causes)
    }

    /// Puts a node into the inbox of its receiver. True if the caller must queue the slot. Gives the node back if the
    /// address never named a connection.
    pub(crate) fn deliver(&self, node: Box<Node<M>>) -> Result<bool, Box<Node<M>>> {
        let (segment, slot) = split(node.to.index);
        let Some(heads) = self.segments.get(segment).and_then(|segment| segment.heads.get()) else {
            return Err(node);
        };
        let head = &heads[slot];
        Ok(head.inbox.push(node) && head.word.add(Causes::MAIL) == Added::Queue)
    }

    /// Begins the turn of a queued slot (O2).
    pub(crate) fn begin(&self, index: u32) -> Option<(Held, Causes)> {
        let causes = self.head(index).word.begin()?;
        Some((self.held(index), causes))
    }

    /// The mail that waits for a held slot.
    pub(crate) fn take_mail(&self, held: &Held) -> Letters<M> {
        self.head(held.index).inbox.take()
    }

    /// Causes that came since the turn began.
    pub(crate) fn take_causes(&self, held: &Held) -> Causes {
        self.head(held.index).word.take_causes()
    }

    /// The private part of a held slot; nothing if its segment has no bodies (then only bounces are to be done).
    pub(crate) fn own<'a>(&'a self, held: &'a mut Held) -> Option<&'a mut Option<B>> {
        let body = self.body(held.index)?;
        // SAFETY: bodies are only freed by `trim`, which must first hold every slot of the segment; this one is held.
        let own = unsafe { &body.as_ref().own };
        // SAFETY: the word gave out one `Held` for this slot, and it is borrowed mutably for as long as the result.
        Some(unsafe { &mut *own.get() })
    }

    /// The public part of a held slot.
    pub(crate) fn shared<'a>(&'a self, held: &'a Held) -> Option<&'a Shared> {
        let body = self.body(held.index)?;
        // SAFETY: as in `own`: bodies of a held slot are not freed. The public part is atomic.
        Some(unsafe { &body.as_ref().shared })
    }

    /// Both parts of a held slot that has a connection.
    pub(crate) fn parts<'a>(&'a self, held: &'a mut Held) -> Option<(&'a Shared, &'a mut B)> {
        let body = self.body(held.index)?;
        // SAFETY: as in `own`; the parts are disjoint fields.
        let body = unsafe { body.as_ref() };
        // SAFETY: as in `own`.
        let own = unsafe { &mut *body.own.get() };
        own.as_mut().map(|own| (&body.shared, own))
    }

    /// Lets go of a slot (O3), or gives it back because a cause came.
    pub(crate) fn release(&self, held: Held) -> Result<(), Held> {
        if self.head(held.index).word.release() { Ok(()) } else { Err(held) }
    }

    /// Lets go and marks the slot as queued; the caller queues the returned index.
    pub(crate) fn requeue(&self, held: Held, causes: Causes) -> u32 {
        self.head(held.index).word.requeue(causes);
        held.index
    }

    /// Ends the connection of a held slot (O7): its private part is given back, its generation is over. The caller
    /// bounces what is and comes into the inbox, releases, and then calls [`Table::give_back`].
    pub(crate) fn end(&self, held: &mut Held) -> Option<B> {
        let own = self.own(held)?.take();
        if let Some(shared) = self.shared(held) {
            shared.close();
        }
        let word = &self.head(held.index).word;
        word.end_generation();
        held.generation = word.generation();
        own
    }

    /// Makes an ended and released slot free for others.
    pub(crate) fn give_back(&self, index: u32, now: Time) {
        let mut uses = lock(&self.free);
        let (segment, slot) = split(index);
        uses[segment].give_back(slot, now);
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    /// Looks at every connection without stopping any. The figures of one may be those of two moments.
    pub(crate) fn for_each(&self, each: impl FnMut(Address, &Shared, bool)) {
        self.for_each_in(0..self.slots_max(), each);
    }

    /// Looks at the connections whose slots lie in `slots`, as [`Table::for_each`] does.
    pub(crate) fn for_each_in(&self, slots: Range<usize>, mut each: impl FnMut(Address, &Shared, bool)) {
        let _used = self.bodies_used.read().unwrap_or_else(PoisonError::into_inner);
        let segments = slots.start / SEGMENT_SLOTS..slots.end.div_ceil(SEGMENT_SLOTS);
        for number in segments {
            let Some(heads) = self.segments.get(number).and_then(|segment| segment.heads.get()) else {
                continue;
            };
            let first = number * SEGMENT_SLOTS;
            let wanted = slots.start.saturating_sub(first)..(slots.end - first).min(SEGMENT_SLOTS);
            for (head, slot) in heads[wanted.clone()].iter().zip(first + wanted.start..) {
                let index = u32::try_from(slot).expect("slots are few");
                let Some(body) = self.body(index) else { break };
                // SAFETY: the read lock keeps `trim` from freeing bodies; the public part is atomic.
                let shared = unsafe { &body.as_ref().shared };
                if shared.is_live() {
                    let address = Address { index, generation: head.word.generation() };
                    each(address, shared, head.word.is_resting());
                }
            }
        }
    }

    /// Looks at the public parts of some slots, used or not, without holding them: for the wheel of a reactor.
    pub(crate) fn look(
        &self,
        slots: impl Iterator<Item = (u32, Tick)>,
        mut each: impl FnMut(u32, Tick, &Shared),
    ) {
        let _used = self.bodies_used.read().unwrap_or_else(PoisonError::into_inner);
        for (index, tick) in slots {
            let Some(body) = self.body(index) else { continue };
            // SAFETY: as in `for_each`.
            each(index, tick, unsafe { &body.as_ref().shared });
        }
    }

    /// Gives back the bodies of segments that were wholly free for ten seconds. Returns slots that got mail meanwhile:
    /// they are queued, and the caller puts them into a queue.
    pub(crate) fn trim(&self, now: Time) -> Vec<u32> {
        let mut queued = Vec::new();
        for (number, segment) in self.segments.iter().enumerate() {
            if segment.bodies.load(Ordering::Acquire).is_null() {
                continue;
            }
            let bodies = self.take_idle_bodies(number, now, &mut queued);
            // No lock is held any more: the system takes its time for a mapping.
            free_bodies(bodies);
        }
        queued
    }

    /// The bodies of a segment that was wholly free for so long; null if it was not, or if somebody looks at them.
    fn take_idle_bodies(&self, number: usize, now: Time, queued: &mut Vec<u32>) -> *mut Body<B> {
        let uses = lock(&self.free);
        let is_due =
            |idle: &SegmentUse| idle.taken_count == 0 && now.ms_since(idle.free_since) >= SEGMENT_IDLE_MS;
        if !uses.get(number).is_some_and(is_due) {
            return ptr::null_mut();
        }
        let first = number * SEGMENT_SLOTS;
        let indexes =
            (first..first + SEGMENT_SLOTS).map(|index| u32::try_from(index).expect("slots are few"));
        let mut held: Vec<Held> = Vec::with_capacity(SEGMENT_SLOTS);
        held.extend(indexes.filter(|index| self.head(*index).word.claim()).map(|index| self.held(index)));
        let mut bodies = ptr::null_mut();
        // Whoever looks at bodies is not waited for, since everybody else would wait too: the next look comes.
        if held.len() == SEGMENT_SLOTS
            && let Ok(_unused) = self.bodies_used.try_write()
        {
            bodies = self.segments[number].bodies.swap(ptr::null_mut(), Ordering::AcqRel);
        }
        for held in held {
            if let Err(held) = self.release(held) {
                queued.push(self.requeue(held, Causes::NONE));
            }
        }
        bodies
    }
}

impl<M, B> Drop for Table<M, B> {
    fn drop(&mut self) {
        for segment in &self.segments {
            free_bodies(segment.bodies.swap(ptr::null_mut(), Ordering::AcqRel));
        }
    }
}

fn lock(free: &Mutex<Vec<SegmentUse>>) -> MutexGuard<'_, Vec<SegmentUse>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

fn split(index: u32) -> (usize, usize) {
    (index as usize / SEGMENT_SLOTS, index as usize % SEGMENT_SLOTS)
}

fn allocate_bodies<B>() -> NonNull<Body<B>> {
    let unused = || Body { shared: Shared::unused(), own: UnsafeCell::new(None) };
    Pages::fill(SEGMENT_SLOTS, unused).into_raw()
}

/// Frees the bodies of a segment; the caller is the only one who can reach them.
fn free_bodies<B>(bodies: *mut Body<B>) {
    let Some(bodies) = NonNull::new(bodies) else { return };
    // SAFETY: it was made in `allocate_bodies`, with as many, and taken out of its segment by a swap.
    drop(unsafe { Pages::from_raw(bodies, SEGMENT_SLOTS) });
}

impl SegmentUse {
    fn unused() -> SegmentUse {
        SegmentUse { taken: [0; SEGMENT_SLOTS.div_ceil(64)], taken_count: 0, free_since: Time::ZERO }
    }

    fn free_from(&self, slot: usize) -> Option<usize> {
        if self.taken_count == SEGMENT_SLOTS {
            return None;
        }
        (slot / 64..self.taken.len()).find_map(|at| {
            let below = if at == slot / 64 { (1u64 << (slot % 64)) - 1 } else { 0 };
            let free = !(self.taken[at] | below);
            let slot = at * 64 + free.trailing_zeros() as usize;
            (free != 0 && slot < SEGMENT_SLOTS).then_some(slot)
        })
    }

    fn take(&mut self, slot: usize) {
        assert!(self.taken[slot / 64] & 1 << (slot % 64) == 0, "a slot is taken once");
        self.taken[slot / 64] |= 1 << (slot % 64);
        self.taken_count += 1;
    }

    fn give_back(&mut self, slot: usize, now: Time) {
        assert!(self.taken[slot / 64] & 1 << (slot % 64) != 0, "a slot is given back once");
        self.taken[slot / 64] &= !(1 << (slot % 64));
        self.taken_count -= 1;
        self.free_since = now;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::shared::NO_LISTENER;
    use super::*;

    type TestTable = Table<u32, Box<u32>>;

    fn newcomer(own: u32) -> Newcomer<Box<u32>> {
        Newcomer { own: Box::new(own), home: 0, peer: None, listener: NO_LISTENER }
    }

    fn open(table: &TestTable, own: u32) -> Address {
        let (held, address) = table.claim(Time::ZERO, newcomer(own)).unwrap_or_else(|_| panic!("full"));
        table.release(held).expect("no cause came");
        address
    }

    fn close(table: &TestTable, address: Address, now: Time) {
        assert_eq!(table.add_for(address, Causes::TIMER), Added::Queue);
        let (mut held, _) = table.begin(address.index).expect("just queued");
        assert!(table.end(&mut held).is_some());
        table.release(held).expect("no cause came");
        table.give_back(address.index, now);
    }

    #[test]
    fn slots_are_reused_lowest_first_with_a_new_generation() {
        let table = TestTable::new(10);
        let addresses: Vec<Address> = (0..5).map(|own| open(&table, own)).collect();
        close(&table, addresses[3], Time::ZERO);
        close(&table, addresses[1], Time::ZERO);
        assert_eq!(open(&table, 9), Address { index: 1, generation: 1 });
        assert_eq!(table.add_for(addresses[1], Causes::EVENT), Added::Stale);
        assert_eq!(table.live(), 4);
    }

    #[test]
    fn a_full_table_gives_the_newcomer_back() {
        let table = TestTable::new(2);
        open(&table, 0);
        open(&table, 1);
        let back = table.claim(Time::ZERO, newcomer(7)).expect_err("two is the limit");
        assert_eq!(*back.own, 7);
    }

    #[test]
    fn a_slot_that_bounces_is_passed_over() {
        let table = TestTable::new(4);
        let first = open(&table, 0);
        close(&table, first, Time::ZERO);
        let mut node = Node::new();
        (node.to, node.mail) = (first, Some(5));
        assert!(matches!(table.deliver(node), Ok(true)));
        assert_eq!(open(&table, 1).index, 1);
        let (held, causes) = table.begin(0).expect("the mail queued it");
        assert!(causes.any(Causes::MAIL));
        assert_eq!(table.take_mail(&held).count(), 1);
        table.release(held).expect("no cause came");
        assert_eq!(open(&table, 2), Address { index: 0, generation: 1 });
    }

    #[test]
    fn mail_to_an_address_that_never_was_comes_back_at_once() {
        let table = TestTable::new(4);
        let mut node = Node::new();
        node.to = Address { index: 900, generation: 0 };
        assert!(table.deliver(node).is_err());
    }

    #[test]
    fn a_segment_free_for_ten_seconds_loses_its_bodies_but_not_its_generations() {
        let table = TestTable::new(2_000);
        let addresses: Vec<Address> = (0..1_500).map(|own| open(&table, own)).collect();
        for address in addresses.iter().skip(1_024) {
            close(&table, *address, Time::from_ms(100));
        }
        table.trim(Time::from_ms(10_000));
        assert!(table.body(1_024).is_some());
        assert!(table.trim(Time::from_ms(10_100)).is_empty());
        assert!(table.body(1_024).is_none() && table.body(0).is_some());
        let seen = |slots| {
            let mut seen = Vec::new();
            table.for_each_in(slots, |address, _, _| seen.push(address.index));
            seen
        };
        assert_eq!(seen(0..table.slots_max()), (0..1_024).collect::<Vec<_>>());
        assert_eq!(seen(1_020..1_030), [1_020, 1_021, 1_022, 1_023]);
        assert_eq!((seen(7..8), seen(5_000..9_000)), (vec![7], vec![]));
        for own in 0..476 {
            assert_eq!(open(&table, own).generation, 1);
        }
    }

    #[test]
    fn only_one_thread_at_a_time_gets_into_a_slot() {
        let table = TestTable::new(4);
        let address = open(&table, 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        if table.add_for(address, Causes::TIMER) != Added::Queue {
                            continue;
                        }
                        let (mut held, _) = table.begin(address.index).expect("this thread queued it");
                        loop {
                            **table.own(&mut held).expect("live").as_mut().expect("live") += 1;
                            match table.release(held) {
                                Ok(()) => break,
                                Err(back) => held = back,
                            }
                            table.take_causes(&held);
                        }
                    }
                });
            }
        });
        table.add_for(address, Causes::TIMER);
        let (mut held, _) = table.begin(address.index).expect("just queued");
        assert!(table.own(&mut held).expect("live").as_ref().is_some_and(|count| **count >= 500));
    }
}
