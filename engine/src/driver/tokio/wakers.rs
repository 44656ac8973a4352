//! Which task runs a slot: one waker per slot, beside the table.
//!
//! The schedule word says that a slot must be queued; here, to queue means to wake its task. A slot without a waker has
//! no task: whoever won the duty then does the slot's work, which can only be to bounce mail. Owns wakers, runs nothing.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use crate::slot::table::SEGMENT_SLOTS;

type Cell = Mutex<Option<Waker>>;

/// The wakers of all slots. Memory is taken by segments, as slots come into use.
pub(crate) struct Wakers(Box<[OnceLock<Box<[Cell]>>]>);

impl Wakers {
    /// Room for `slots`.
    pub(crate) fn new(slots: usize) -> Wakers {
        Wakers((0..slots.div_ceil(SEGMENT_SLOTS)).map(|_| OnceLock::new()).collect())
    }

    /// Says which task runs `slot`, or that none does. Called by who holds the slot, or before it is held first.
    pub(crate) fn set(&self, slot: u32, waker: Option<Waker>) {
        let segment = self.0[slot as usize / SEGMENT_SLOTS]
            .get_or_init(|| (0..SEGMENT_SLOTS).map(|_| Mutex::new(None)).collect());
        let before = std::mem::replace(&mut *lock(&segment[slot as usize % SEGMENT_SLOTS]), waker);
        // Outside the lock: the last waker of a task may free the task.
        drop(before);
    }

    /// Wakes the task of `slot`. False if it has none.
    #[must_use]
    pub(crate) fn wake(&self, slot: u32) -> bool {
        let segment = self.0.get(slot as usize / SEGMENT_SLOTS).and_then(OnceLock::get);
        let Some(segment) = segment else { return false };
        let cell = lock(&segment[slot as usize % SEGMENT_SLOTS]);
        cell.as_ref().inspect(|waker| waker.wake_by_ref()).is_some()
    }
}

fn lock(cell: &Cell) -> MutexGuard<'_, Option<Waker>> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_a_slot_with_a_task_is_woken() {
        let (wakers, woken) = (Wakers::new(2 * SEGMENT_SLOTS), Arc::new(Woken::default()));
        assert!(!wakers.wake(1_500));
        wakers.set(1_500, Some(Waker::from(Arc::clone(&woken))));
        assert!(wakers.wake(1_500) && !wakers.wake(1_501));
        wakers.set(1_500, None);
        assert!(!wakers.wake(1_500));
        assert_eq!((woken.0.load(Ordering::Relaxed), Arc::strong_count(&woken)), (1, 1));
    }

    #[test]
    fn a_slot_beyond_all_has_no_task() {
        assert!(!Wakers::new(10).wake(u32::MAX));
    }
}
