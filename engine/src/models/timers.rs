//! Models of filing and firing (rule O11): the holder of a slot arms while the leader of a wheel turns it.
//!
//! The wheel is a bag of ticks here, since what meets on two threads is the slot's deadline and its hints. Whatever the
//! interleaving, a deadline that stands at the end fires at its tick, and no hint is left without an entry.

use std::sync::{Arc, Mutex, MutexGuard};

use loom::thread;

use crate::slot::shared::{Hints, Shared};
use crate::sync::Ordering::SeqCst;
use crate::time::Tick;
use crate::timer::{Fired, file, fire};

/// A slot and the entries that the wheels of two reactors hold of it.
struct Filed {
    shared: Shared,
    entries: [Mutex<Vec<Tick>>; 2],
}

impl Filed {
    fn new(deadline: Tick) -> Filed {
        let filed = Filed { shared: Shared::unused(), entries: Default::default() };
        filed.arm(deadline, Tick(0));
        filed
    }

    fn wheel(&self, home: usize) -> MutexGuard<'_, Vec<Tick>> {
        self.entries[home].lock().expect("no test panics in it")
    }

    /// The holder arms: the wheel of its home gets the entry.
    fn arm(&self, deadline: Tick, now: Tick) {
        let entry = file(&self.shared, deadline, now);
        self.wheel(self.shared.home()).extend(entry);
    }

    /// Fires every entry of every wheel that is due; true if the deadline had come.
    fn turn(&self, now: Tick) -> bool {
        let due = [self.turn_wheel(0, now), self.turn_wheel(1, now)];
        due.contains(&true)
    }

    /// Fires every entry of one wheel that is due; true if the deadline had come.
    fn turn_wheel(&self, home: usize, now: Tick) -> bool {
        let mut due = false;
        loop {
            let mut entries = self.wheel(home);
            let Some(at) = entries.iter().position(|tick| *tick <= now) else { return due };
            let tick = entries.swap_remove(at);
            drop(entries);
            match fire(&self.shared, tick, now) {
                Fired::Due => due = true,
                Fired::Again(tick) => self.wheel(home).push(tick),
                Fired::Nothing => {}
            }
        }
    }

    /// Turns on, tick by tick, and checks that the deadline fires at its own.
    fn check(&self, from: Tick, deadline: Tick) {
        let hints = Hints::from_bits(self.shared.hints.load(SeqCst));
        let entries = [self.wheel(0).clone(), self.wheel(1).clone()].concat();
        for tick in [hints.near, hints.far] {
            assert!(
                tick == Tick::NEVER || entries.contains(&tick),
                "every hint has its entry: {hints:?} {entries:?}"
            );
        }
        let fired = (from.0..=deadline.0).map(Tick).find(|now| self.turn(*now));
        assert_eq!(fired, Some(deadline), "the deadline fires at its tick");
    }
}

/// The leader turns the wheel to tick 6, where the first hint is filed at 5, while the holder arms for each of `arms`
/// as of tick 4: its clock is behind. Then the deadline of the last must fire.
fn model(arms: &'static [u32]) {
    loom::model(move || {
        let filed = Arc::new(Filed::new(Tick(5)));
        let leader = Arc::clone(&filed);
        let leader = thread::spawn(move || {
            leader.turn(Tick(6));
        });
        for deadline in arms {
            filed.arm(Tick(*deadline), Tick(4));
        }
        leader.join().expect("it did not panic");
        filed.check(Tick(7), Tick(arms[arms.len() - 1]));
    });
}

#[test]
fn a_deadline_that_moves_later_while_its_hint_fires_is_not_lost() {
    model(&[9]);
}

#[test]
fn a_deadline_that_moves_while_its_hint_fires_is_not_lost() {
    model(&[8, 12, 10]);
}

#[test]
fn a_hint_that_fires_while_a_nearer_one_is_filed_does_not_cover_later_deadlines() {
    model(&[4, 9]);
}

#[test]
fn a_deadline_that_is_disarmed_and_armed_again_while_its_hint_fires_is_not_lost() {
    model(&[u32::MAX, 9]);
}

#[test]
fn two_leaders_may_turn_while_the_holder_arms() {
    loom::model(|| {
        let filed = Arc::new(Filed::new(Tick(5)));
        filed.arm(Tick(3), Tick(0));
        filed.arm(Tick(20), Tick(0));
        let leaders = [4, 6].map(|now| {
            let filed = Arc::clone(&filed);
            thread::spawn(move || filed.turn(Tick(now)))
        });
        filed.arm(Tick(12), Tick(3));
        leaders.into_iter().for_each(|leader| assert!(!leader.join().expect("it did not panic")));
        filed.check(Tick(7), Tick(12));
    });
}

/// A holder moves to the other reactor and arms there for each of `arms` as of tick 4, while each leader turns its own
/// wheel to tick 6. Then the deadline of the last must fire, whoever's wheel has its entry.
fn moving_model(arms: &'static [u32]) {
    loom::model(move || {
        let filed = Arc::new(Filed::new(Tick(5)));
        let leaders = [0, 1].map(|home| {
            let filed = Arc::clone(&filed);
            thread::spawn(move || filed.turn_wheel(home, Tick(6)))
        });
        filed.shared.set_home(1);
        for deadline in arms {
            filed.arm(Tick(*deadline), Tick(4));
        }
        leaders.into_iter().for_each(|leader| {
            leader.join().expect("it did not panic");
        });
        filed.check(Tick(7), Tick(arms[arms.len() - 1]));
    });
}

#[test]
fn a_deadline_armed_after_a_move_is_not_lost_to_the_entry_of_the_old_wheel() {
    moving_model(&[9]);
}

#[test]
fn a_nearer_deadline_armed_after_a_move_leaves_the_entry_of_the_old_wheel_in_force() {
    moving_model(&[4, 9]);
}
