//! Boxes that are used again, so that a warm gateway takes no memory for a request: what one worker keeps of a kind, and
//! what all of them share. Connections are run by any worker, so one takes what another gives back, and boxes must find
//! their way back. Both are bounded. Knows nothing of what is inside; used by `worker`.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What one worker keeps of one kind.
#[derive(Debug)]
pub(crate) struct Spare<T> {
    boxes: Boxes<T>,
    most: usize,
}

/// What all workers share of one kind.
#[derive(Debug)]
pub(crate) struct Depot<T> {
    boxes: Mutex<Boxes<T>>,
    most: usize,
}

/// They are moved as they are: a connection holds one box and nothing else of its load.
type Boxes<T> = Vec<Box<T>>;

impl<T: Default> Spare<T> {
    /// Room for `most` boxes.
    pub(crate) fn new(most: usize) -> Spare<T> {
        debug_assert!(most >= MOVED, "as many are moved at a time");
        Spare { boxes: Vec::with_capacity(most), most }
    }

    /// A box that was used before, if there is one.
    pub(crate) fn take(&mut self, depot: &Depot<T>) -> Box<T> {
        if self.boxes.is_empty() {
            depot.give(&mut self.boxes);
        }
        self.boxes.pop().unwrap_or_default()
    }

    /// Takes an empty box back, as far as there is room.
    pub(crate) fn keep(&mut self, empty: Box<T>, depot: &Depot<T>) {
        if self.boxes.len() == self.most {
            depot.take(&mut self.boxes);
        }
        if self.boxes.len() < self.most {
            self.boxes.push(empty);
        }
    }

    /// Frees what it has, and what is shared.
    pub(crate) fn clear(&mut self, depot: &Depot<T>) {
        self.boxes.clear();
        depot.clear();
    }

    /// How many it has.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.boxes.len()
    }
}

impl<T> Depot<T> {
    /// Room for `most` boxes.
    pub(crate) fn new(most: usize) -> Depot<T> {
        Depot { boxes: Mutex::new(Vec::with_capacity(most)), most }
    }

    /// How many it has.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Moves some of its boxes to a worker.
    fn give(&self, to: &mut Boxes<T>) {
        let mut boxes = self.lock();
        let from = boxes.len().saturating_sub(MOVED);
        to.extend(boxes.drain(from..));
    }

    /// Takes some of a worker's, as far as there is room.
    fn take(&self, from: &mut Boxes<T>) {
        let mut boxes = self.lock();
        let room = self.most - boxes.len();
        boxes.extend(from.drain(from.len() - MOVED.min(room)..));
    }

    /// Frees what it has, behind its lock: others want boxes meanwhile.
    fn clear(&self) {
        // Room for what comes is asked for before, too.
        let empty = Vec::with_capacity(self.most);
        let full = std::mem::replace(&mut *self.lock(), empty);
        drop(full);
    }

    fn lock(&self) -> MutexGuard<'_, Boxes<T>> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Boxes that are moved at a time.
const MOVED: usize = 8;
