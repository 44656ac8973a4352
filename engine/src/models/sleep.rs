//! Models of sleeping and waking (rule O10): work that was made visible is never slept over.
//!
//! A thread parks as it would wait in `epoll_wait`: what wakes it is kept, as an eventfd keeps it. A lost wake-up leaves
//! it parked for ever, which loom reports as a deadlock.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::slot::sleep::Sleep;

/// A sleeper, and work for it that orders memory no more than a queue does.
struct Seat {
    sleep: Sleep,
    work: AtomicU64,
    wakes: AtomicUsize,
}

impl Seat {
    fn new() -> Seat {
        Seat { sleep: Sleep::default(), work: AtomicU64::new(0), wakes: AtomicUsize::new(0) }
    }

    fn wake(&self, sleeper: &thread::Thread) {
        if self.sleep.must_wake() {
            count(&self.wakes);
            sleeper.unpark();
        }
    }

    /// Sleeps unless there is work after all, as a leader does before it waits. True if it slept.
    fn rest(&self, has_work: impl Fn() -> bool) -> bool {
        self.sleep.announce();
        let sleeps = !has_work();
        if sleeps {
            thread::park();
        }
        self.sleep.end();
        sleeps
    }
}

#[test]
fn work_is_never_slept_over_and_one_of_many_wakes() {
    loom::model(|| {
        let seat = Arc::new(Seat::new());
        let sleeper = thread::current();
        let senders: Vec<_> = (0..2)
            .map(|sender| {
                let (seat, sleeper) = (Arc::clone(&seat), sleeper.clone());
                thread::spawn(move || {
                    seat.work.fetch_or(1 << sender, Ordering::Release);
                    seat.wake(&sleeper);
                })
            })
            .collect();
        let (mut done, mut rests) = (0, 0);
        while done != 0b11 {
            rests += 1;
            seat.rest(|| seat.work.load(Ordering::Acquire) != 0);
            done |= seat.work.swap(0, Ordering::AcqRel);
        }
        senders.into_iter().for_each(|sender| sender.join().expect("it did not panic"));
        assert!(counted(&seat.wakes) <= rests, "one sender wakes it from one sleep");
    });
}

#[test]
fn two_that_wake_each_other_both_get_their_work() {
    loom::model(|| {
        let seats = Arc::new([Seat::new(), Seat::new()]);
        let first = thread::current();
        let others = Arc::clone(&seats);
        let second = thread::spawn(move || {
            others[0].work.store(1, Ordering::Release);
            others[0].wake(&first);
            while others[1].work.load(Ordering::Acquire) == 0 {
                others[1].rest(|| others[1].work.load(Ordering::Acquire) != 0);
            }
        });
        seats[1].work.store(1, Ordering::Release);
        seats[1].wake(second.thread());
        while seats[0].work.load(Ordering::Acquire) == 0 {
            seats[0].rest(|| seats[0].work.load(Ordering::Acquire) != 0);
        }
        second.join().expect("it did not panic");
    });
}

#[test]
fn mail_from_outside_wakes_the_leader_that_runs_it() {
    loom::model(|| {
        let (world, seat) = (Arc::new(World::new()), Arc::new(Seat::new()));
        let address = world.open(OnTimer::Stay);
        let leader = thread::current();
        let senders: Vec<_> = (0..2)
            .map(|mail| {
                let (world, seat, leader) = (Arc::clone(&world), Arc::clone(&seat), leader.clone());
                thread::spawn(move || {
                    if let Ok(true) = world.table.deliver(node(address, mail)) {
                        world.queue.push(address.index);
                        seat.wake(&leader);
                    }
                })
            })
            .collect();
        while counted(&world.seen.delivered[0]) + counted(&world.seen.delivered[1]) < 2 {
            seat.rest(|| world.queue.0.load(Ordering::Acquire) != 0);
            world.drain();
        }
        senders.into_iter().for_each(|sender| sender.join().expect("it did not panic"));
        world.drain();
        world.check(2);
    });
}
