//! How the acceptors of a worker are told to stop: one flag and one waker for each listener.
//!
//! It accepts nothing and closes nothing. The worker tells, the acceptors look.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

/// The acceptors of a worker, as the worker knows them.
#[derive(Default)]
pub(crate) struct Stops(RefCell<Vec<Rc<Stop>>>);

/// How one acceptor is told.
pub(crate) struct Stop {
    listener: u16,
    wanted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Stops {
    /// Tells the acceptor of `listener` to stop, or all.
    pub(crate) fn tell(&self, listener: Option<u16>) {
        for stop in self.0.borrow().iter() {
            if listener.is_none_or(|listener| listener == stop.listener) {
                stop.wanted.set(true);
                stop.waker.borrow().as_ref().inspect(|waker| waker.wake_by_ref());
            }
        }
    }

    /// An acceptor more.
    pub(crate) fn add(&self, listener: u16) -> Rc<Stop> {
        let stop = Rc::new(Stop { listener, wanted: Cell::new(false), waker: RefCell::new(None) });
        self.0.borrow_mut().push(Rc::clone(&stop));
        stop
    }
}

impl Stop {
    /// True once it must stop; until then, `waker` is woken when it must.
    pub(crate) fn is_wanted(&self, waker: &Waker) -> bool {
        *self.waker.borrow_mut() = Some(waker.clone());
        self.wanted.get()
    }
}
