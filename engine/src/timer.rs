//! Coarse timers: a wheel per reactor that is filed lazily (ownership rule O11).
//!
//! The deadline in the slot is the truth; the wheel only holds hints of when to look at it. A hint is a slot index and
//! the tick it is filed at; the slot remembers at most two of them, *near* and *far*. So an armed deadline may move
//! later for free, and hints never pile up. The wheel belongs to the leader of a reactor; [`file`] and [`fire`] may
//! meet on two threads. Nothing here reads a clock or runs a slot.

use std::sync::atomic::Ordering::SeqCst;

use crate::slot::shared::{Hints, Shared};
use crate::time::Tick;

/// Buckets of each level, and ticks of one far bucket.
const BUCKETS: u32 = 1024;

/// Two levels of buckets: 16 ms each for the next 16 s, 16 s each for the next 4.6 hours. What is farther looks again.
pub(crate) struct Wheel {
    now: Tick,
    near: Level,
    far: Level,
    due: Vec<(u32, Tick)>,
    /// The first filled bucket, so that nobody looks for it before every wait.
    next: Option<Tick>,
}

struct Level {
    buckets: Vec<Vec<u32>>,
    filled: [u64; BUCKETS as usize / 64],
}

impl Wheel {
    /// An empty wheel.
    pub(crate) fn new(now: Tick) -> Wheel {
        Wheel { now, near: Level::new(), far: Level::new(), due: Vec::new(), next: None }
    }

    /// Files a hint at a tick that [`file`] or [`fire`] gave.
    pub(crate) fn add(&mut self, slot: u32, tick: Tick) {
        if tick <= self.now {
            self.due.push((slot, tick));
        } else if tick.0 - self.now.0 < BUCKETS {
            self.near.add(tick.0 % BUCKETS, slot);
            self.note_filled(tick);
        } else if tick.0.is_multiple_of(BUCKETS) && tick.0 / BUCKETS - self.now.0 / BUCKETS < BUCKETS {
            self.far.add(tick.0 / BUCKETS % BUCKETS, slot);
            self.note_filled(tick);
        } else {
            // Another thread's clock is far ahead of a wheel that slept, and no bucket of now keeps this tick. Looking
            // at once is early but right: `fire` files it again, by the time of then.
            self.due.push((slot, tick));
        }
    }

    fn note_filled(&mut self, tick: Tick) {
        self.next = Some(self.next.map_or(tick, |next| next.min(tick)));
    }

    /// True if [`Wheel::advance`] to `now` would do anything.
    pub(crate) fn is_behind(&self, now: Tick) -> bool {
        now > self.now || !self.due.is_empty()
    }

    /// Moves on to `now` and hands out every hint that is due, with the tick it was filed at.
    pub(crate) fn advance(&mut self, now: Tick) -> Vec<(u32, Tick)> {
        let mut due = std::mem::take(&mut self.due);
        while let Some(tick) = self.next.filter(|tick| *tick <= now) {
            self.now = tick;
            due.extend(self.near.take(tick.0 % BUCKETS).into_iter().map(|slot| (slot, tick)));
            if tick.0 % BUCKETS == 0 {
                let far = self.far.take(tick.0 / BUCKETS % BUCKETS);
                due.extend(far.into_iter().map(|slot| (slot, tick)));
            }
            self.next = self.first_filled();
        }
        self.now = self.now.max(now);
        due
    }

    /// Takes the list of [`Wheel::advance`] back, for its memory.
    pub(crate) fn recycle(&mut self, mut due: Vec<(u32, Tick)>) {
        due.clear();
        if self.due.is_empty() && due.capacity() <= 1024 {
            self.due = due;
        }
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
        Level { buckets: (0..BUCKETS).map(|_| Vec::new()).collect(), filled: [0; BUCKETS as usize / 64] }
    }

    fn add(&mut self, bucket: u32, slot: u32) {
        self.buckets[bucket as usize].push(slot);
        self.filled[bucket as usize / 64] |= 1 << (bucket % 64);
    }

    fn take(&mut self, bucket: u32) -> Vec<u32> {
        self.filled[bucket as usize / 64] &= !(1 << (bucket % 64));
        std::mem::take(&mut self.buckets[bucket as usize])
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
                for (slot, tick) in self.wheel.advance(next) {
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
            self.wheel.advance(now);
        }

        fn hints(&self) -> usize {
            let count = |level: &Level| level.buckets.iter().map(Vec::len).sum::<usize>();
            count(&self.wheel.near) + count(&self.wheel.far) + self.wheel.due.len()
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
