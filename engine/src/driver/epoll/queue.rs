//! The slots that events found, as one worker has them: in front those that others may take, behind them the rest.
//!
//! The front is a deque of `crossbeam`, which allocates each time it grows beyond its first 64 places and each time it
//! shrinks again; so it never holds more, and what comes beyond waits in a list that keeps its memory. The order is that
//! of a queue over both. Owned by `outbox`; thieves have the other end of the front.

use std::collections::VecDeque;

use crossbeam::deque::{Steal, Stealer, Worker as Deque};

/// Slots that others may take: as many places as the deque has from the start.
const FRONT_MAX: usize = 64;
/// Slots behind the front for which there is always memory, once there was.
const REST_KEPT: usize = 64;

/// Slots that wait for a worker.
pub(crate) struct EventQueue {
    front: Deque<u32>,
    rest: VecDeque<u32>,
}

impl EventQueue {
    /// A queue whose front is `front`, which is first in, first out.
    pub(crate) fn new(front: Deque<u32>) -> EventQueue {
        EventQueue { front, rest: VecDeque::new() }
    }

    /// Adds a slot at the end.
    pub(crate) fn push(&mut self, slot: u32) {
        if self.rest.is_empty() && self.front.len() < FRONT_MAX {
            self.front.push(slot);
        } else {
            self.rest.push_back(slot);
        }
    }

    /// Takes the first one.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        loop {
            self.move_up();
            // Thieves may empty the front before it is asked.
            let first = self.front.pop();
            if first.is_some() || self.rest.is_empty() {
                return first;
            }
        }
    }

    /// Takes up to `most` of the first ones of another worker, at most half of those it shows. Says how many.
    pub(crate) fn steal(&mut self, from: &Stealer<u32>, most: usize) -> usize {
        let before = self.front.len();
        // With more the deque would grow.
        let most = most.min(FRONT_MAX.saturating_sub(before));
        if most == 0 || !matches!(from.steal_batch_with_limit(&self.front, most), Steal::Success(())) {
            return 0;
        }
        // Others may have taken from it meanwhile.
        self.front.len().saturating_sub(before)
    }

    /// Slots that wait.
    pub(crate) fn len(&self) -> usize {
        self.front.len() + self.rest.len()
    }

    /// True if none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.front.is_empty()
    }

    /// Shows thieves as many as they may take, and says how many that are.
    pub(crate) fn show(&mut self) -> usize {
        self.move_up();
        self.front.len()
    }

    /// Frees the memory of a long queue that is over.
    pub(crate) fn free_spare(&mut self) {
        self.rest.shrink_to(REST_KEPT);
    }

    fn move_up(&mut self) {
        while self.front.len() < FRONT_MAX {
            let Some(slot) = self.rest.pop_front() else { return };
            self.front.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (EventQueue, Stealer<u32>) {
        let front = Deque::new_fifo();
        let stealer = front.stealer();
        (EventQueue::new(front), stealer)
    }

    #[test]
    fn slots_come_out_in_the_order_in_which_they_came_however_many_there_are() {
        let (mut queue, _) = queue();
        let (mut pushed, mut popped) = (0, 0);
        for round in 0..50 {
            (0..round * 7).for_each(|_| {
                queue.push(pushed);
                pushed += 1;
            });
            for _ in 0..round * 5 {
                assert_eq!(queue.pop(), Some(popped));
                popped += 1;
            }
            assert_eq!(queue.len(), (pushed - popped) as usize);
        }
        assert!((popped..pushed).all(|slot| queue.pop() == Some(slot)));
        assert!(queue.is_empty() && queue.pop().is_none());
    }

    #[test]
    fn thieves_see_what_the_deque_holds_without_growing_and_the_rest_moves_up() {
        let (mut queue, stealer) = queue();
        (0..200).for_each(|slot| queue.push(slot));
        assert_eq!((queue.len(), stealer.len()), (200, FRONT_MAX));
        let mut taken = Vec::new();
        while let Steal::Success(slot) = stealer.steal() {
            taken.push(slot);
        }
        assert_eq!((taken.len(), queue.len()), (FRONT_MAX, 200 - FRONT_MAX));
        assert_eq!((queue.show(), stealer.len()), (FRONT_MAX, FRONT_MAX));
        assert_eq!(queue.pop(), Some(FRONT_MAX as u32), "nothing was lost or changed places");
    }

    #[test]
    fn a_slot_behind_a_front_that_was_stolen_is_found() {
        let (mut queue, stealer) = queue();
        (0..=FRONT_MAX as u32).for_each(|slot| queue.push(slot));
        while stealer.steal().is_success() {}
        assert!(!queue.is_empty());
        assert_eq!(queue.pop(), Some(FRONT_MAX as u32));
    }

    #[test]
    fn a_thief_takes_no_more_than_it_has_places_for() {
        let (mut victim, stealer) = queue();
        let (mut thief, _) = queue();
        (0..64).for_each(|slot| victim.push(slot));
        (0..60).for_each(|slot| thief.push(1_000 + slot));
        assert_eq!(thief.steal(&stealer, 16), FRONT_MAX - 60);
        assert_eq!(thief.steal(&stealer, 16), 0, "it has no place left");
        assert_eq!((thief.len(), victim.len()), (FRONT_MAX, 60));
    }

    #[test]
    fn a_long_queue_that_is_over_keeps_no_memory() {
        let (mut queue, _) = queue();
        (0..10_000).for_each(|slot| queue.push(slot));
        while queue.pop().is_some() {}
        queue.free_spare();
        assert!(queue.rest.capacity() <= REST_KEPT);
    }
}
