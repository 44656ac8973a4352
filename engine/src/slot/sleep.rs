//! Whether a thread sleeps, and who wakes it (ownership rule O10).
//!
//! A thread that wants to sleep announces it, looks for work once more, and only then sleeps. A thread that has made work
//! visible asks whether it must wake the sleeper. The two fences see to it that at least one of them notices the other.
//! It knows neither where work lies nor how a thread sleeps; it wakes nobody itself. Called by the drivers.

use crate::sync::{AtomicU32, Ordering, fence};

/// Whether one thread sleeps.
#[derive(Default)]
pub(crate) struct Sleep(AtomicU32);

impl Sleep {
    /// Says that the thread is about to sleep. It must look for work once more before it does.
    pub(crate) fn announce(&self) {
        self.0.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Says that it is awake.
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// After work was made visible: true, to one caller, if the thread sleeps and must be woken.
    pub(crate) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) == 1 && self.0.swap(0, Ordering::SeqCst) == 1
    }

    /// True if the thread seems to sleep.
    pub(crate) fn is_asleep(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }
}
