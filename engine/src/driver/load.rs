//! What a connection holds only while it is under load: one box, given back when it is empty.
//!
//! Filled and emptied by `core`, kept for the next connection in a worker's [`Spare`], and passed between workers by
//! [`Depot`], since a connection may take its box on one and give it back on another. It decides nothing.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::buf::{Chunk, OutputQueue};
use crate::machine::Open;
use crate::time::Tick;

/// What a connection holds only while it is under load.
#[derive(Default)]
pub(crate) struct Load {
    /// Read and not consumed.
    pub(crate) tail: Option<Chunk>,
    /// So many bytes must wait before the next offer makes sense.
    pub(crate) need: usize,
    /// Not written yet.
    pub(crate) output: OutputQueue,
    /// Written since the machine was last told.
    pub(crate) written: usize,
    /// When the driver itself wants to look: connect beside a deadline of the machine, closing flush, memory pressure. Zero:
    /// never.
    pub(crate) limit: Tick,
    /// Where to connect, until that has begun.
    pub(crate) connect: Option<Open>,
}

/// Boxes that workers have too many of, for those that have none. Lock-free; cloning shares it.
#[derive(Clone)]
pub(crate) struct Depot(Arc<ArrayQueue<Box<Load>>>);

/// The boxes that one worker keeps for the next connections that come under load.
pub(crate) struct Spare {
    // Connections keep boxes, so what is spare is boxes too.
    #[allow(clippy::vec_box)]
    own: Vec<Box<Load>>,
    /// Boxes taken in this batch.
    taken: usize,
    /// Boxes that batches have lately taken.
    wanted: usize,
    depot: Depot,
}

impl Load {
    /// True if the connection is no longer under load.
    pub(crate) fn is_empty(&self) -> bool {
        let waits = self.limit != Tick(0) || self.connect.is_some();
        self.tail.is_none() && self.output.is_empty() && self.need == 0 && !waits
    }
}

impl Depot {
    /// An empty one.
    pub(crate) fn new() -> Depot {
        Depot(Arc::new(ArrayQueue::new(SHARED_LOADS_MAX)))
    }

    /// Frees the boxes that lie in it.
    pub(crate) fn clear(&self) {
        while self.0.pop().is_some() {}
    }
}

impl Spare {
    /// Those of a worker, none yet.
    pub(crate) fn new(depot: Depot) -> Spare {
        Spare { own: Vec::new(), taken: 0, wanted: OWN_LOADS_MIN, depot }
    }

    /// A box for a connection that comes under load.
    pub(crate) fn take(&mut self) -> Box<Load> {
        self.taken += 1;
        if self.own.is_empty() {
            self.own.extend(std::iter::from_fn(|| self.depot.0.pop()).take(MOVED_LOADS));
        }
        self.own.pop().unwrap_or_default()
    }

    /// Takes an empty box back, unless a long queue made it large: what is spare is charged to nobody.
    pub(crate) fn keep(&mut self, load: Box<Load>) {
        debug_assert!(load.is_empty(), "a connection is not under load without its box");
        if load.output.room() > QUEUE_PIECES_MAX {
            return;
        }
        self.own.push(load);
        if self.own.len() > OWN_LOADS_MAX {
            self.hand_over(MOVED_LOADS);
        }
    }

    /// Frees its boxes.
    pub(crate) fn clear(&mut self) {
        self.own.clear();
    }

    /// Ends a batch: as many boxes stay as batches have lately taken, so that a worker which mostly takes finds what
    /// one that mostly gives back has. In between, boxes stay in the cache of the core that used them last.
    pub(crate) fn settle(&mut self) {
        self.wanted = self.taken.max(self.wanted - self.wanted / 8).clamp(OWN_LOADS_MIN, OWN_LOADS_MAX);
        self.taken = 0;
        let surplus = self.own.len().saturating_sub(self.wanted);
        if surplus >= MOVED_LOADS {
            self.hand_over(surplus);
        }
    }

    fn hand_over(&mut self, loads: usize) {
        let from = self.own.len() - loads;
        // What the depot has no room for is freed.
        self.own.drain(from..).for_each(|load| drop(self.depot.0.push(load)));
    }
}

/// A box whose queue has room for more pieces is not kept.
const QUEUE_PIECES_MAX: usize = 256;
/// Boxes that one worker keeps at most: what a batch of turns takes.
const OWN_LOADS_MAX: usize = 64;
/// Boxes that one worker may always keep.
const OWN_LOADS_MIN: usize = 8;
/// Boxes that go to the depot or come from it at a time.
const MOVED_LOADS: usize = 8;
/// Boxes that the depot keeps.
const SHARED_LOADS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::Pool;

    fn workers() -> [Spare; 2] {
        let depot = Depot::new();
        [Spare::new(depot.clone()), Spare::new(depot)]
    }

    /// A box that can be told from a new one.
    fn marked() -> Box<Load> {
        Box::new(Load { written: 7, ..Load::default() })
    }

    #[test]
    fn what_one_worker_gives_back_another_takes() {
        let [mut taker, mut giver] = workers();
        assert_eq!(taker.take().written, 0, "there is none yet");
        (0..100).for_each(|_| giver.keep(marked()));
        giver.settle();
        let passed_on = 100 - OWN_LOADS_MIN;
        assert!((0..passed_on).all(|_| taker.take().written == 7));
    }

    #[test]
    fn what_a_batch_takes_stays_with_its_worker() {
        let [mut worker, mut other] = workers();
        for _ in 0..100 {
            let taken: Vec<_> = (0..40).map(|_| worker.take()).collect();
            taken.into_iter().for_each(|load| worker.keep(load));
            worker.settle();
        }
        assert_eq!(worker.own.len(), 40);
        // One that has little to do lets go of them.
        (0..100).for_each(|_| worker.settle());
        assert!(worker.own.len() < OWN_LOADS_MIN + MOVED_LOADS);
        other.take();
        assert_eq!(other.own.len(), MOVED_LOADS - 1);
    }

    #[test]
    fn a_box_that_held_a_long_queue_is_freed() {
        let [mut worker, _] = workers();
        let pool = Pool::new(1 << 20);
        for (pieces, kept) in [(QUEUE_PIECES_MAX / 2, 1), (QUEUE_PIECES_MAX + 1, 1)] {
            let mut load = Box::<Load>::default();
            let mut chunk = Chunk::copy_of(&pool, &[7; 1_000]).expect("below the ceiling");
            (0..pieces).for_each(|_| load.output.push(chunk.take_piece(1)));
            load.output.advance(pieces);
            worker.keep(load);
            assert_eq!(worker.own.len(), kept);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let [mut giver, _] = workers();
        (0..5_000).for_each(|_| giver.keep(marked()));
        assert!(giver.own.len() <= OWN_LOADS_MAX);
        assert_eq!(giver.depot.0.len(), SHARED_LOADS_MAX);
        giver.clear();
        giver.depot.clear();
        assert_eq!((giver.own.len(), giver.depot.0.len()), (0, 0));
    }
}
