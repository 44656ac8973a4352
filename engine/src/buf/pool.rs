//! The pool: free blocks by size class, and the one ceiling that all of them are charged against.
//!
//! It hands out and takes back blocks and counts bytes by capacity (never by use, so that a small piece of a large
//! block costs what it pins). It does not decide what to do under pressure: drivers ask [`Pool::pressure`]. Lock-free as long
//! as a block is free that was lately used; called from every worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::{SysconfVar, sysconf};

use super::block::Block;
use super::class::Class;

/// Capacities of the pooled classes, in bytes; larger blocks are whole pages and not kept.
const CLASSES: [usize; 9] = [256, 512, 1024, 2048, 4096, 8192, 16 * 1024, 32 * 1024, 64 * 1024];

/// Free bytes that one class keeps at most of those that were lately used, and as many of those that were not: they have
/// hardly any memory if they are large.
const CLASS_KEEP_BYTES: usize = 2 * 1024 * 1024;
/// Blocks above the largest class are whole pages.
const PAGE_BYTES: usize = 4096;

/// A shared pool of blocks. Cloning shares it.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    free: [Class; CLASSES.len()],
    /// The system's size of a page.
    page_bytes: usize,
    ceiling_bytes: usize,
    charged_bytes: AtomicUsize,
    idle_bytes: AtomicUsize,
    refused: AtomicUsize,
}

/// How close the pool is to its ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Below three quarters.
    Low,
    /// At three quarters or more: the heaviest senders are not read.
    High,
    /// At the ceiling, or so near that a read chunk would be refused: new work is refused.
    Ceiling,
}

/// What the pool holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Handed out, by capacity.
    pub charged_bytes: usize,
    /// Free and kept for the next taker, by capacity: large ones that nobody took for a while have hardly any memory.
    pub idle_bytes: usize,
    /// The ceiling of `charged_bytes`.
    pub ceiling_bytes: usize,
    /// Requests that the ceiling refused.
    pub refused: usize,
}

impl Pool {
    /// A pool that charges at most `ceiling_bytes`.
    pub fn new(ceiling_bytes: usize) -> Pool {
        Pool(Arc::new(Shared {
            free: CLASSES.map(|capacity| Class::new(CLASS_KEEP_BYTES / capacity)),
            page_bytes: page_bytes(),
            ceiling_bytes,
            charged_bytes: AtomicUsize::new(0),
            idle_bytes: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }))
    }

    /// A block of at least `bytes`, or nothing at the ceiling.
    pub(super) fn take(&self, bytes: usize) -> Option<Block> {
        let class = class_of(bytes);
        let capacity = class.map_or_else(|| bytes.next_multiple_of(PAGE_BYTES), |class| CLASSES[class]);
        let before = self.0.charged_bytes.fetch_add(capacity, Ordering::Relaxed);
        if before + capacity > self.0.ceiling_bytes {
            self.0.charged_bytes.fetch_sub(capacity, Ordering::Relaxed);
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let kept = class.and_then(|class| self.0.free[class].take());
        if kept.is_some() {
            self.0.idle_bytes.fetch_sub(capacity, Ordering::Relaxed);
        }
        let block = kept.unwrap_or_else(|| Block::allocate(capacity));
        block.set_home(Arc::into_raw(Arc::clone(&self.0)).cast::<()>().cast_mut());
        Some(block)
    }

    /// Takes a block home that nobody refers to any more.
    pub(super) fn give_back(block: Block) {
        let home = block.home().cast::<Shared>().cast_const();
        assert!(!home.is_null(), "a block goes home once");
        block.set_home(std::ptr::null_mut());
        // SAFETY: `take` made this pointer from an `Arc` of this type, and the line above ends its only use.
        let pool = Pool(unsafe { Arc::from_raw(home) });
        pool.store(block);
    }

    fn store(&self, block: Block) {
        let capacity = block.capacity();
        self.0.charged_bytes.fetch_sub(capacity, Ordering::Relaxed);
        let Some(class) = CLASSES.iter().position(|class| *class == capacity) else { return block.free() };
        block.clear();
        self.0.idle_bytes.fetch_add(capacity, Ordering::Relaxed);
        if let Err(block) = self.0.free[class].keep(block, self.0.page_bytes) {
            self.0.idle_bytes.fetch_sub(capacity, Ordering::Relaxed);
            block.free();
        }
    }

    /// How close the pool is to its ceiling.
    pub fn pressure(&self) -> Pressure {
        let charged = self.0.charged_bytes.load(Ordering::Relaxed);
        let ceiling = self.0.ceiling_bytes;
        // Blocks rarely add up to the ceiling exactly; a small pool keeps a sixteenth.
        let headroom = CLASSES[CLASSES.len() - 1].min(ceiling / 16);
        match charged {
            _ if charged + headroom > ceiling => Pressure::Ceiling,
            _ if charged >= ceiling / 4 * 3 => Pressure::High,
            _ => Pressure::Low,
        }
    }

    /// Gives the memory of what has been idle since the last call back to the system, and frees what was idle for a number of
    /// calls. Called at intervals: a peak's memory goes, and what a steady load needs now and then stays.
    pub fn trim(&self) {
        self.free_each(|class| class.look(self.0.page_bytes));
    }

    /// Frees all that is idle: what needed it has gone.
    pub fn clear(&self) {
        self.free_each(Class::clear);
    }

    fn free_each(&self, free: impl Fn(&Class) -> usize) {
        for (class, capacity) in self.0.free.iter().zip(CLASSES) {
            self.0.idle_bytes.fetch_sub(free(class) * capacity, Ordering::Relaxed);
        }
    }

    /// What the pool holds.
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            charged_bytes: self.0.charged_bytes.load(Ordering::Relaxed),
            idle_bytes: self.0.idle_bytes.load(Ordering::Relaxed),
            ceiling_bytes: self.0.ceiling_bytes,
            refused: self.0.refused.load(Ordering::Relaxed),
        }
    }
}

/// The system's size of a page, or one that is sure to be whole pages where it does not say.
fn page_bytes() -> usize {
    let said = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    said.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(64 * 1024)
}

fn class_of(bytes: usize) -> Option<usize> {
    CLASSES.iter().position(|capacity| bytes <= *capacity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::class::PERIOD_LOOKS;

    #[test]
    fn charges_by_capacity_and_refuses_at_the_ceiling() {
        let pool = Pool::new(1024);
        let first = pool.take(300).expect("below the ceiling");
        assert_eq!((first.capacity(), pool.stats().charged_bytes), (512, 512));
        let second = pool.take(512).expect("just fits");
        assert_eq!(pool.pressure(), Pressure::Ceiling);
        assert!(pool.take(1).is_none());
        assert_eq!(pool.stats().refused, 1);
        Pool::give_back(first);
        Pool::give_back(second);
        assert_eq!(
            pool.stats(),
            PoolStats { idle_bytes: 1024, ceiling_bytes: 1024, refused: 1, ..PoolStats::default() }
        );
    }

    #[test]
    fn pressure_is_high_from_three_quarters() {
        let pool = Pool::new(1024);
        let first = pool.take(512).expect("fits");
        assert_eq!(pool.pressure(), Pressure::Low);
        let second = pool.take(256).expect("fits");
        assert_eq!(pool.pressure(), Pressure::High);
        Pool::give_back(first);
        Pool::give_back(second);
    }

    #[test]
    fn where_no_read_chunk_fits_the_ceiling_is_reached() {
        let pool = Pool::new(1 << 20);
        let mut blocks: Vec<Block> = (0..15).map(|_| pool.take(64 * 1024).expect("fits")).collect();
        assert_eq!(pool.pressure(), Pressure::High, "one more fits");
        blocks.push(pool.take(1).expect("fits"));
        assert_eq!(pool.pressure(), Pressure::Ceiling);
        assert!(pool.take(64 * 1024).is_none());
        blocks.into_iter().for_each(Pool::give_back);
    }

    #[test]
    fn keeps_a_bounded_amount_and_trims_it() {
        let pool = Pool::new(1 << 30);
        let blocks: Vec<Block> = (0..100).map(|_| pool.take(64 * 1024).expect("fits")).collect();
        blocks.into_iter().for_each(Pool::give_back);
        assert_eq!(pool.stats().idle_bytes, 2 * CLASS_KEEP_BYTES, "half of it has no memory");
        pool.trim();
        assert_eq!(pool.stats().idle_bytes, 2 * CLASS_KEEP_BYTES, "all of it was in use a moment ago");
        let small: Vec<Block> = (0..10_000).map(|_| pool.take(1024).expect("fits")).collect();
        small.into_iter().for_each(Pool::give_back);
        assert_eq!(pool.stats().idle_bytes, 3 * CLASS_KEEP_BYTES);
        (0..2 * PERIOD_LOOKS).for_each(|_| pool.trim());
        assert_eq!(pool.stats().idle_bytes, 0);
    }

    #[test]
    fn after_an_ebb_nothing_is_kept() {
        let pool = Pool::new(1 << 30);
        let blocks: Vec<Block> = (0..100).map(|at| pool.take(1 << (at % 17)).expect("fits")).collect();
        blocks.into_iter().for_each(Pool::give_back);
        pool.trim();
        pool.clear();
        assert_eq!(pool.stats().idle_bytes, 0);
    }

    #[test]
    fn large_blocks_are_whole_pages_and_not_kept() {
        let pool = Pool::new(1 << 30);
        let block = pool.take(100_000).expect("fits");
        assert_eq!(block.capacity(), 102_400);
        Pool::give_back(block);
        assert_eq!(pool.stats().idle_bytes, 0);
    }
}
