//! One size class of the pool: its free blocks, by how lately they were needed.
//!
//! ```text
//! out ──given back──▶ warm ──not needed between two looks──▶ cold ──not needed for a period of looks──▶ freed
//!  ▲                   │                                      │
//!  └───────taken first─┘◀──────────taken, the newest first────┘
//! ```
//!
//! A cold block has no pages but its first and last: the system has them back and hands out new ones as bytes come. So a load
//! that needs many blocks now and then keeps them without keeping their memory, and allocates none. It counts no bytes
//! and has no ceiling; its pool has. Called by the pool alone, on every thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam::queue::ArrayQueue;

use super::block::Block;

/// Looks after which cold blocks that nobody took meanwhile are freed: after one period of them, or after two. Bursts are not
/// even, so the need of the next may be that of the largest for a while; within a minute of an end all of it is gone.
pub(super) const PERIOD_LOOKS: u32 = 24;
/// From this capacity on hardly any memory stays with a block whose pages went, so that one too many can as well be kept.
const SURPLUS_BYTES_MIN: usize = 32 * 1024;

/// The free blocks of one capacity.
pub(super) struct Class {
    warm: ArrayQueue<Block>,
    /// How few warm ones there were since the last look, roughly: so many were not needed.
    fewest_warm: AtomicUsize,
    /// Behind a lock, since whoever finds no warm block would have to ask the allocator, which has one too.
    cold: Mutex<Cold>,
    cold_max: usize,
}

/// Blocks that are kept without their pages, the oldest first.
struct Cold {
    blocks: VecDeque<Block>,
    /// How few there were since the period began; never more than there are.
    fewest: usize,
    /// Looks since then.
    looks: u32,
}

impl Class {
    /// An empty class that keeps at most `blocks` warm ones and as many cold ones.
    pub(super) fn new(blocks: usize) -> Class {
        // All places at once, of which nobody touches one before it is needed: no memory is asked for below the lock.
        let cold = Cold { blocks: VecDeque::with_capacity(blocks), fewest: 0, looks: 0 };
        Class {
            warm: ArrayQueue::new(blocks),
            fewest_warm: AtomicUsize::new(usize::MAX),
            cold: Mutex::new(cold),
            cold_max: blocks,
        }
    }

    /// Takes a block, if one is free.
    pub(super) fn take(&self) -> Option<Block> {
        let warm = self.warm.pop();
        let left = self.warm.len();
        if left < self.fewest_warm.load(Ordering::Relaxed) {
            self.fewest_warm.store(left, Ordering::Relaxed);
        }
        warm.or_else(|| self.cold().take())
    }

    /// Keeps a block that nobody refers to any more; a large one for which there is no place becomes cold at once. Gives it
    /// back if there are enough.
    pub(super) fn keep(&self, block: Block, page_bytes: usize) -> Result<(), Block> {
        self.warm.push(block).or_else(|block| {
            let is_kept = block.capacity() >= SURPLUS_BYTES_MIN && self.cool(block, page_bytes);
            if is_kept { Ok(()) } else { Err(block) }
        })
    }

    /// What was not needed since the last look becomes cold, and what was cold for a whole period is freed. Says how many
    /// were freed.
    pub(super) fn look(&self, page_bytes: usize) -> usize {
        let unused = self.fewest_warm.swap(usize::MAX, Ordering::Relaxed).min(self.warm.len());
        let cooled = std::iter::from_fn(|| self.warm.pop()).take(unused);
        let too_many = cooled.filter(|block| !self.cool(*block, page_bytes));
        let freed = too_many.map(Block::free).count();
        let due = self.cold().end_look();
        freed + self.free_cold(due)
    }

    /// Frees every block. Says how many that were.
    pub(super) fn clear(&self) -> usize {
        let warm = std::iter::from_fn(|| self.warm.pop()).map(Block::free).count();
        warm + self.free_cold(usize::MAX)
    }

    /// Makes a block cold. False if there are enough.
    fn cool(&self, block: Block, page_bytes: usize) -> bool {
        block.forget_pages(page_bytes);
        let mut cold = self.cold();
        let has_room = cold.blocks.len() < self.cold_max;
        if has_room {
            cold.blocks.push_back(block);
        }
        has_room
    }

    /// Frees up to `most` of the oldest cold blocks, one by one, so that nobody waits for all of them.
    fn free_cold(&self, most: usize) -> usize {
        std::iter::from_fn(|| self.cold().take_oldest()).take(most).map(Block::free).count()
    }

    fn cold(&self) -> MutexGuard<'_, Cold> {
        self.cold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cold {
    fn take(&mut self) -> Option<Block> {
        let newest = self.blocks.pop_back();
        self.fewest = self.fewest.min(self.blocks.len());
        newest
    }

    /// Takes one that is to be freed.
    fn take_oldest(&mut self) -> Option<Block> {
        let oldest = self.blocks.pop_front();
        self.fewest = self.fewest.min(self.blocks.len());
        oldest
    }

    /// Counts a look. At the end of a period: how many were not needed in it.
    fn end_look(&mut self) -> usize {
        self.looks += 1;
        if self.looks < PERIOD_LOOKS {
            return 0;
        }
        let due = self.fewest;
        // Who frees them counts them off.
        (self.fewest, self.looks) = (self.blocks.len(), 0);
        due
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 64 * 1024;
    const PAGE_BYTES: usize = 4096;

    fn class_with(blocks: usize) -> Class {
        let class = Class::new(32);
        (0..blocks).for_each(|_| assert!(class.keep(Block::allocate(CAPACITY), PAGE_BYTES).is_ok()));
        class
    }

    /// Free blocks, warm and cold.
    fn free(class: &Class) -> (usize, usize) {
        (class.warm.len(), class.cold().blocks.len())
    }

    /// Takes so many and keeps them again.
    fn use_at_once(class: &Class, blocks: usize) {
        let taken: Vec<_> = (0..blocks).map(|_| class.take().expect("it is free")).collect();
        taken.into_iter().for_each(|block| assert!(class.keep(block, PAGE_BYTES).is_ok()));
    }

    /// Ends so many looks; says how many blocks were freed.
    fn look(class: &Class, looks: u32) -> usize {
        (0..looks).map(|_| class.look(PAGE_BYTES)).sum()
    }

    #[test]
    fn what_is_not_needed_cools_first_and_is_freed_when_nobody_comes_for_it() {
        let class = class_with(20);
        use_at_once(&class, 20);
        assert_eq!((look(&class, 1), free(&class)), (0, (20, 0)), "all of it was in use a moment ago");
        assert_eq!((look(&class, 1), free(&class)), (0, (0, 20)));
        assert_eq!(look(&class, 2 * PERIOD_LOOKS), 20);
        assert_eq!(free(&class), (0, 0));
    }

    #[test]
    fn what_is_needed_once_in_a_period_is_never_freed() {
        let class = class_with(20);
        for _ in 0..10 {
            use_at_once(&class, 20);
            assert_eq!(look(&class, PERIOD_LOOKS - 1), 0);
        }
        assert_eq!(free(&class), (0, 20));
    }

    #[test]
    fn of_a_burst_that_is_over_only_what_is_still_needed_stays() {
        let class = class_with(20);
        let freed: usize = (0..4 * PERIOD_LOOKS)
            .map(|_| {
                use_at_once(&class, 5);
                look(&class, 1)
            })
            .sum();
        assert_eq!((freed, free(&class)), (15, (5, 0)));
    }

    #[test]
    fn cold_blocks_are_bounded() {
        let class = Class::new(4);
        for _ in 0..2 {
            (0..4).for_each(|_| assert!(class.keep(Block::allocate(256), PAGE_BYTES).is_ok()));
            look(&class, 2);
        }
        assert_eq!(free(&class), (0, 4));
        let block = Block::allocate(256);
        (0..4).for_each(|_| assert!(class.keep(Block::allocate(256), PAGE_BYTES).is_ok()));
        assert!(class.keep(block, PAGE_BYTES).is_err_and(|block| {
            block.free();
            true
        }));
        assert_eq!((class.clear(), free(&class)), (8, (0, 0)));
        assert_eq!(look(&class, 2 * PERIOD_LOOKS), 0, "what was cleared is not counted any more");
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri does not know how pages are given back")]
    fn a_cold_block_has_no_pages_of_its_own() {
        let class = Class::new(1);
        let block = Block::allocate(CAPACITY);
        // SAFETY: nobody else has the block yet, and all of its bytes are initialised.
        unsafe { block.bytes().write_bytes(7, CAPACITY) };
        assert!(class.keep(block, PAGE_BYTES).is_ok());
        look(&class, 2);
        let block = class.take().expect("it is cold");
        // SAFETY: as above: it was just taken.
        let bytes = unsafe { std::slice::from_raw_parts(block.bytes().as_ptr(), CAPACITY) };
        let left = bytes.iter().filter(|byte| **byte == 7).count();
        assert!(left < 2 * PAGE_BYTES, "{left} bytes have their old content");
        assert!(bytes.iter().all(|byte| [0, 7].contains(byte)));
        block.free();
    }
}
