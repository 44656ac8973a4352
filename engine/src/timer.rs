//! Coarse timers: a wheel per reactor that is filed lazily (ownership rule O11).
//!
//! The deadline in the slot is the truth; the wheel only holds hints of when to look at it. A hint is a slot index and
//! the tick it is filed at; the slot remembers at most two of them, *near* and *far*. So an armed deadline may move
//! later for free, and hints never pile up. The wheel belongs to the leader of a reactor; [`file`] and [`fire`] may
//! meet on two threads. Nothing here reads a clock or runs a slot.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::SeqCst;

use crate::slot::shared::{Hints, Shared};
use crate::time::Tick;

/// Buckets of each level, and ticks of one far bucket.
const BUCKETS: u32 = 1024;

/// Slots of one node of a bucket: it fills a cache line.
const NODE_SLOTS: usize = 14;
/// Nodes that are taken from the allocator at a time: 32 KiB, a mapping of their own.
const SEGMENT_NODES: usize = 512;
/// No node.
const NONE: u32 = u32::MAX;
/// A list of due hints with more room than this is not kept.
const DUE_KEPT_MAX: usize = 1024;

/// Two levels of buckets: 16 ms each for the next 16 s, 16 s each for the next 4.6 hours. What is farther looks again.
pub(crate) struct Wheel {
    now: Tick,
    near: Level,
    far: Level,
    nodes: Nodes,
    /// What is due and was not handed out yet.
    due: VecDeque<(u32, Tick)>,
    /// The list that was handed out last, for its memory.
    handed_out: Vec<(u32, Tick)>,
    /// The first filled bucket, so that nobody looks for it before every wait.
    next: Option<Tick>,
}

/// Buckets, each the first node of a chain.
struct Level {
    buckets: Box<[u32]>,
    filled: [u64; BUCKETS as usize / 64],
}

/// The nodes of all buckets. They are taken in segments, so that a burst of hints lies in few places and grows nothing by
/// doubling.
struct Nodes {
    segments: Vec<Box<[Node]>>,
    /// The first of the chain of free ones.
    free: u32,
}

#[derive(Clone, Copy)]
struct Node {
    next: u32,
    len: u32,
    slots: [u32; NODE_SLOTS],
}

impl Wheel {
    /// An empty wheel.
    pub(crate) fn new(now: Tick) -> Wheel {
        Wheel {
            now,
            near: Level::new(),
            far: Level::new(),
            nodes: Nodes::new(),
            due: VecDeque::new(),
            handed_out: Vec::new(),
            next: None,
        }
    }

    /// Files a hint at a tick that [`file`] or [`fire`] gave.
    pub(crate) fn add(&mut self, slot: u32, tick: Tick) {
        if tick <= self.now {
            self.due.push_back((slot, tick));
        } else if tick.0 - self.now.0 < BUCKETS {
            self.near.add(tick.0 % BUCKETS, slot, &mut self.nodes);
            self.note_filled(tick);
        } else if tick.0.is_multiple_of(BUCKETS) && tick.0 / BUCKETS - self.now.0 / BUCKETS < BUCKETS {
            self.far.add(tick.0 / BUCKETS % BUCKETS, slot, &mut self.nodes);
            self.note_filled(tick);
        } else {
            // Another thread's clock is far ahead of a wheel that slept, and no bucket of now keeps this tick. Looking
            // at once is early but right: `fire` files it again, by the time of then.
            self.due.push_back((slot, tick));
        }
    }

    fn note_filled(&mut self, tick: Tick) {
        self.next = Some(self.next.map_or(tick, |next| next.min(tick)));
    }

    /// True if [`Wheel::advance`] to `now` would do anything.
    pub(crate) fn is_behind(&self, now: Tick) -> bool {
        now > self.now || !self.due.is_empty()
    }

    /// True if hints are due that were not handed out.
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Moves on to `now` and hands out at most `most` of the hints that are due, with the tick each was filed at: the
    /// deadlines of thousands may fall into one bucket. The others are due at once, in the order in which they came.
    pub(crate) fn advance(&mut self, now: Tick, most: usize) -> Vec<(u32, Tick)> {
        while let Some(tick) = self.next.filter(|tick| *tick <= now) {
            self.now = tick;
            self.near.take(tick.0 % BUCKETS, tick, &mut self.nodes, &mut self.due);
            if tick.0 % BUCKETS == 0 {
                self.far.take(tick.0 / BUCKETS % BUCKETS, tick, &mut self.nodes, &mut self.due);
            }
            self.next = self.first_filled();
        }
        self.now = self.now.max(now);
        let mut out = std::mem::take(&mut self.handed_out);
        out.extend(self.due.drain(..most.min(self.due.len())));
        out
    }

    /// Takes the list of [`Wheel::advance`] back, for its memory.
    pub(crate) fn recycle(&mut self, mut handed_out: Vec<(u32, Tick)>) {
        handed_out.clear();
        if handed_out.capacity() <= DUE_KEPT_MAX {
            self.handed_out = handed_out;
        }
        if self.due.is_empty() && self.due.capacity() > DUE_KEPT_MAX {
            self.due = VecDeque::new();
        }
    }

    /// Looks at every hint again, soon: many connections have gone, whose hints would be kept for as long as they had been
    /// allowed to idle. Whoever is still there files anew, and the memory of the others is given back.
    pub(crate) fn recall(&mut self) {
        for (level, ticks) in [(&mut self.near, 1), (&mut self.far, BUCKETS)] {
            let at = self.now.0 / ticks;
            while let Some(position) = level.next(at) {
                level.take(position % BUCKETS, Tick(position * ticks), &mut self.nodes, &mut self.due);
            }
        }
        self.next = None;
        self.nodes = Nodes::new();
    }

    /// When the wheel wants to be advanced next.
    pub(crate) fn next(&self) -> Option<Tick> {
        if self.due.is_empty() { self.next } else { Some(self.now) }
    }

    fn first_filled(&self) -> Option<Tick> {
        let near = self.near.next(self.now.0).map(Tick);
        let far = self.far.next(self.now.0 / BUCKETS).map(|bucket| Tick(bucket * BUCKETS));
        near.into_iter().chain(far).min()
    }
}

impl Level {
    fn new() -> Level {
        Level { buckets: vec![NONE; BUCKETS as usize].into(), filled: [0; BUCKETS as usize / 64] }
    }

    fn add(&mut self, bucket: u32, slot: u32, nodes: &mut Nodes) {
        let first = &mut self.buckets[bucket as usize];
        if *first == NONE || nodes.node(*first).len as usize == NODE_SLOTS {
            *first = nodes.take(*first);
        }
        let node = nodes.node(*first);
        node.slots[node.len as usize] = slot;
        node.len += 1;
        self.filled[bucket as usize / 64] |= 1 << (bucket % 64);
    }

    /// Moves the slots of a bucket, which are those of `tick`, to what is due.
    fn take(&mut self, bucket: u32, tick: Tick, nodes: &mut Nodes, due: &mut VecDeque<(u32, Tick)>) {
        self.filled[bucket as usize / 64] &= !(1 << (bucket % 64));
        let mut at = std::mem::replace(&mut self.buckets[bucket as usize], NONE);
        while at != NONE {
            let node = nodes.node(at);
            due.extend(node.slots[..node.len as usize].iter().map(|slot| (*slot, tick)));
            at = nodes.give_back(at);
        }
    }

    /// The first position after `now` whose bucket is filled.
    fn next(&self, now: u32) -> Option<u32> {
        let mut position = now + 1;
        while position <= now + BUCKETS {
            let bucket = position % BUCKETS;
            let rest = self.filled[bucket as usize / 64] >> (bucket % 64);
            if rest != 0 {
                let found = position + rest.trailing_zeros();
                return (found <= now + BUCKETS).then_some(found);
            }
            position += 64 - bucket % 64;
        }
        None
    }
}

impl Nodes {
    fn new() -> Nodes {
        Nodes { segments: Vec::new(), free: NONE }
    }

    fn node(&mut self, at: u32) -> &mut Node {
        &mut self.segments[at as usize / SEGMENT_NODES][at as usize % SEGMENT_NODES]
    }

    /// An empty node in front of `next`.
    fn take(&mut self, next: u32) -> u32 {
        if self.free == NONE {
            self.grow();
        }
        let at = self.free;
        let node = self.node(at);
        let free = std::mem::replace(&mut node.next, next);
        node.len = 0;
        self.free = free;
        at
    }

    /// Makes a node free; says which one stood behind it.
    fn give_back(&mut self, at: u32) -> u32 {
        let free = self.free;
        self.free = at;
        std::mem::replace(&mut self.node(at).next, free)
    }

    fn grow(&mut self) {
        let first = u32::try_from(self.segments.len() * SEGMENT_NODES)
            .expect("a slot has two hints, and slots are few");
        let last = first + SEGMENT_NODES as u32 - 1;
        let free = |at| Node { next: if at == last { NONE } else { at + 1 }, len: 0, slots: [0; NODE_SLOTS] };
        self.segments.push((first..=last).map(free).collect());
        self.free = first;
    }
}

/// What the leader does with a hint that came due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fired {
    /// The deadline has come: add the timer cause.
    Due,
    /// The deadline is later and nothing else will remind of it: file again, at this tick.
    Again(Tick),
    /// Nothing: the hint is forgotten, the deadline is disarmed, or another hint covers it.
    Nothing,
}

/// Publishes a deadline. Returns the tick at which a hint must be filed, if no filed one covers it.
pub(crate) fn file(shared: &Shared, deadline: Tick, now: Tick) -> Option<Tick> {
    shared.deadline.store(deadline.0, SeqCst);
    cover(shared, deadline, now)
}

/// Judges a hint that came due at `tick`.
pub(crate) fn fire(shared: &Shared, tick: Tick, now: Tick) -> Fired {
    let forget = |bits| Hints::from_bits(bits).without(tick).map(Hints::bits);
    if shared.hints.fetch_update(SeqCst, SeqCst, forget).is_err() {
        return Fired::Nothing;
    }
    let deadline = Tick(shared.deadline.load(SeqCst));
    if deadline <= now {
        return Fired::Due;
    }
    cover(shared, deadline, now).map_or(Fired::Nothing, Fired::Again)
}

fn cover(shared: &Shared, deadline: Tick, now: Tick) -> Option<Tick> {
    if deadline == Tick::NEVER {
        return None;
    }
    let tick = filing_tick(deadline, now);
    // One update of both hints: an entry that fires on another thread meanwhile must never stay behind as a hint that
    // the wheel no longer holds, since it would cover every later deadline and let it sleep for ever.
    let add = |bits| {
        let hints = Hints::from_bits(bits);
        (!hints.cover(deadline)).then(|| hints.with(tick).bits())
    };
    shared.hints.fetch_update(SeqCst, SeqCst, add).is_ok().then_some(tick)
}

/// The tick of the bucket that a hint for `deadline` goes to: never after it.
fn filing_tick(deadline: Tick, now: Tick) -> Tick {
    let farthest = (now.0 / BUCKETS + BUCKETS - 2) * BUCKETS;
    let bucket = (deadline.0 / BUCKETS * BUCKETS).min(farthest);
    if deadline.0.saturating_sub(now.0) < BUCKETS - 64 || bucket <= now.0 { deadline } else { Tick(bucket) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    impl Nodes {
        fn seen(&self, at: u32) -> Option<&Node> {
            self.segments
                .get(at as usize / SEGMENT_NODES)
                .map(|segment| &segment[at as usize % SEGMENT_NODES])
        }

        fn free(&self) -> usize {
            std::iter::successors(self.seen(self.free), |node| self.seen(node.next)).count()
        }
    }

    /// A wheel and slots, as a leader sees them.
    struct World {
        wheel: Wheel,
        slots: Vec<Shared>,
        calls: Vec<(u32, Tick)>,
    }

    impl World {
        fn new(slots: usize) -> World {
            let slots = (0..slots).map(|_| Shared::unused()).collect();
            World { wheel: Wheel::new(Tick(0)), slots, calls: Vec::new() }
        }

        fn arm(&mut self, slot: u32, deadline: Tick) {
            if let Some(tick) = file(&self.slots[slot as usize], deadline, self.wheel.now) {
                assert!(tick <= deadline);
                self.wheel.add(slot, tick);
            }
        }

        fn advance(&mut self, now: Tick) {
            while let Some(next) = self.wheel.next().filter(|next| *next <= now) {
                for (slot, tick) in self.wheel.advance(next, usize::MAX) {
                    match fire(&self.slots[slot as usize], tick, next) {
                        Fired::Due => {
                            self.calls.push((slot, next));
                            self.slots[slot as usize].deadline.store(Tick::NEVER.0, SeqCst);
                        }
                        Fired::Again(tick) => self.wheel.add(slot, tick),
                        Fired::Nothing => {}
                    }
                }
            }
            self.wheel.advance(now, usize::MAX);
        }

        fn hints(&self) -> usize {
            let Wheel { near, far, nodes, due, .. } = &self.wheel;
            let count = |first: &u32| {
                let mut chain = std::iter::successors(Some(*first), |at| Some(nodes.seen(*at)?.next));
                chain.by_ref().map_while(|at| nodes.seen(at)).map(|node| node.len as usize).sum::<usize>()
            };
            near.buckets.iter().chain(&far.buckets).map(count).sum::<usize>() + due.len()
        }
    }

    #[test]
    fn every_deadline_fires_at_its_tick() {
        let mut world = World::new(6);
        let deadlines = [1, 900, 1_023, 5_000, 60_000, 3_000_000];
        for (slot, deadline) in (0..).zip(deadlines) {
            world.arm(slot, Tick(deadline));
        }
        world.advance(Tick(3_000_001));
        let expected: Vec<_> = (0..).zip(deadlines.map(Tick)).collect();
        assert_eq!(world.calls, expected);
        assert_eq!(world.hints(), 0);
    }

    #[test]
    fn moving_a_deadline_later_files_nothing() {
        let mut world = World::new(1);
        world.arm(0, Tick(100));
        for later in 101..5_000 {
            world.arm(0, Tick(later));
        }
        assert_eq!(world.hints(), 1);
        world.advance(Tick(6_000));
        assert_eq!(world.calls, [(0, Tick(4_999))]);
    }

    #[test]
    fn a_nearer_deadline_does_not_lose_the_farther_hint() {
        let mut world = World::new(1);
        world.arm(0, Tick(56_250));
        world.arm(0, Tick(60));
        assert_eq!(world.hints(), 2);
        world.advance(Tick(61));
        world.arm(0, Tick(56_250));
        assert_eq!((world.calls.len(), world.hints()), (1, 1));
        world.advance(Tick(57_000));
        assert_eq!(world.calls, [(0, Tick(60)), (0, Tick(56_250))]);
    }

    #[test]
    fn requests_under_an_idle_deadline_keep_two_hints() {
        let mut world = World::new(1);
        for round in 0..500 {
            let now = round * 3;
            world.arm(0, Tick(now + 60));
            world.arm(0, Tick(now + 56_000));
            world.advance(Tick(now + 3));
            assert!(world.hints() <= 2, "round {round}");
        }
    }

    #[test]
    fn a_hint_filed_by_a_clock_far_ahead_of_the_wheel_is_not_lost() {
        for (ahead, wait) in [(2_000, 100), (900, 900), (3_000_000, 3_000_000), (1_048_576, 1_047_552)] {
            let mut world = World::new(1);
            world.advance(Tick(100));
            let deadline = Tick(100 + ahead + wait);
            let tick = file(&world.slots[0], deadline, Tick(100 + ahead)).expect("nothing covers it");
            world.wheel.add(0, tick);
            world.advance(Tick(100 + ahead));
            assert!(world.calls.is_empty(), "{ahead} {wait}");
            world.advance(deadline);
            assert_eq!(world.calls, [(0, deadline)]);
        }
    }

    #[test]
    fn thousands_that_are_due_at_once_are_handed_out_by_portions_and_each_once() {
        let mut wheel = Wheel::new(Tick(0));
        (0..10_000).for_each(|slot| wheel.add(slot, Tick(7)));
        wheel.add(10_000, Tick(9));
        let (mut seen, mut portions) = (vec![0; 10_001], Vec::new());
        for now in 8.. {
            let due = wheel.advance(Tick(now), 256);
            due.iter().for_each(|(slot, _)| seen[*slot as usize] += 1);
            portions.push(due.len());
            assert!(now > 8 || !due.contains(&(10_000, Tick(9))), "it is not due yet");
            wheel.recycle(due);
            if !wheel.has_due() {
                break;
            }
            assert_eq!(wheel.next(), Some(Tick(now)), "what is left is due now");
        }
        assert_eq!((portions.len(), portions.iter().max()), (40, Some(&256)));
        assert!(seen.iter().all(|count| *count == 1));
    }

    #[test]
    fn hints_that_were_taken_make_room_for_others() {
        let mut wheel = Wheel::new(Tick(0));
        for round in 0..100 {
            (0..5_000).for_each(|slot| wheel.add(slot, Tick(round * 40 + 1 + slot % 39)));
            let due = wheel.advance(Tick(round * 40 + 40), usize::MAX);
            assert_eq!(due.len(), 5_000);
            wheel.recycle(due);
        }
        let nodes = wheel.nodes.segments.len() * SEGMENT_NODES;
        assert!(nodes * NODE_SLOTS <= 2 * 5_000 + SEGMENT_NODES * NODE_SLOTS, "{nodes} nodes");
        assert_eq!(wheel.nodes.free(), nodes, "none is lost");
    }

    #[test]
    fn an_ebb_forgets_the_hints_of_those_who_went_and_keeps_the_others() {
        let mut world = World::new(5_000);
        for slot in 0..5_000 {
            world.arm(slot, Tick(56_250));
            world.arm(slot, Tick(600 + slot % 300));
        }
        (10..5_000).for_each(|slot| world.arm(slot, Tick::NEVER));
        assert_eq!(world.hints(), 10_000);
        world.wheel.recall();
        assert!(world.wheel.nodes.segments.is_empty());
        world.advance(Tick(1));
        assert_eq!((world.hints(), world.calls.len()), (10, 0), "one hint each is enough");
        world.advance(Tick(60_000));
        let expected: Vec<_> = (0..10).map(|slot| (slot, Tick(600 + slot))).collect();
        assert_eq!(world.calls, expected);
    }

    #[test]
    fn a_disarmed_deadline_does_not_fire() {
        let mut world = World::new(1);
        world.arm(0, Tick(50));
        world.arm(0, Tick::NEVER);
        world.advance(Tick(100));
        assert_eq!((world.calls.len(), world.hints()), (0, 0));
    }

    #[test]
    fn random_arming_never_loses_or_advances_a_deadline() {
        let mut world = World::new(32);
        let mut seed = 9u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        let mut expected: Vec<Option<Tick>> = vec![None; 32];
        let mut now = 0;
        for _ in 0..3_000 {
            let slot = random(32);
            let range = [40, 2_000, 70_000][random(3) as usize];
            let deadline = Tick(now + 1 + random(range));
            world.arm(slot, deadline);
            expected[slot as usize] = Some(deadline);
            now += random(200);
            world.advance(Tick(now));
            for (slot, at) in world.calls.drain(..) {
                assert_eq!(expected[slot as usize].take(), Some(at));
            }
            assert!(expected.iter().flatten().all(|deadline| deadline.0 > now));
        }
    }
}
