//! The deadlines of a worker's connections: the engine's own wheel, turned by one task.
//!
//! So an armed deadline costs a connection nothing beyond its slot, and one that moves later costs nothing at all. It
//! runs no connection: it adds the timer cause and wakes tasks through the worker. Called by the worker and its tasks.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use crate::slot::shared::Shared;
use crate::time::{Tick, Time};
use crate::timer::{self, Wheel};

/// A wheel, and when its task wakes.
pub(crate) struct Timers {
    wheel: RefCell<Wheel>,
    /// The tick that the wheel was last moved to.
    turned: Cell<Tick>,
    /// When the task will look again by itself.
    next_look: Cell<Tick>,
    waker: RefCell<Option<Waker>>,
}

impl Timers {
    /// No deadlines.
    pub(crate) fn new(now: Time) -> Timers {
        let now = Tick::floor(now);
        Timers {
            wheel: RefCell::new(Wheel::new(now)),
            turned: Cell::new(now),
            next_look: Cell::new(Tick::NEVER),
            waker: RefCell::new(None),
        }
    }

    /// Publishes the deadline of `slot` and sees to it that it will be looked at.
    pub(crate) fn file(&self, slot: u32, shared: &Shared, deadline: Tick, now: Time) {
        let mut wheel = self.wheel.borrow_mut();
        let now = Tick::floor(now);
        // An idle wheel stands still; a hint is filed relative to where it stands, so it catches up first.
        if wheel.next().is_none_or(|next| next > now) {
            let none = wheel.advance(now, usize::MAX);
            debug_assert!(none.is_empty(), "the next hint is later than now");
            wheel.recycle(none);
            self.turned.set(now.max(self.turned.get()));
        }
        let Some(tick) = timer::file(shared, deadline, self.turned.get()) else { return };
        wheel.add(slot, tick);
        if tick < self.next_look.get()
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// Moves the wheel to `now`: `look` is given the due hints and a judge for each.
    pub(crate) fn turn(
        &self,
        now: Time,
        look: impl FnOnce(&[(u32, Tick)], &mut dyn FnMut(u32, Tick, &Shared)),
    ) -> Vec<u32> {
        let now = Tick::floor(now);
        let mut wheel = self.wheel.borrow_mut();
        let hints = wheel.advance(now, usize::MAX);
        self.turned.set(now.max(self.turned.get()));
        let mut due = Vec::new();
        look(&hints, &mut |slot, tick, shared| match timer::fire(shared, tick, now) {
            timer::Fired::Due => due.push(slot),
            timer::Fired::Again(tick) => wheel.add(slot, tick),
            timer::Fired::Nothing => {}
        });
        wheel.recycle(hints);
        due
    }

    /// When the wheel wants to be turned next; the task says with this that it will be there then.
    pub(crate) fn plan(&self, waker: &Waker) -> Option<Tick> {
        let mut cell = self.waker.borrow_mut();
        if cell.as_ref().is_none_or(|before| !before.will_wake(waker)) {
            *cell = Some(waker.clone());
        }
        let next = self.wheel.borrow().next();
        self.next_look.set(next.unwrap_or(Tick::NEVER));
        next
    }
}
