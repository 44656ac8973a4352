//! A block: raw memory and its header, the memory under every chunk.
//!
//! Two allocations: with the header in front, bytes of a power of two would take a quarter more of an allocator that has four
//! sizes between two powers, and a page more of the system. It owns both and the loan balance; it does not know who may touch which bytes (`chunk` does) nor how many
//! blocks there may be (`pool` does). Large ones are mapped by themselves: where the heap has room it would put them between
//! small blocks that live longer, and as they come and go the heap would grow around them. Called by those two only.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicUsize, Ordering};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// Blocks of so many bytes or more are mapped by themselves.
const MAPPED_BYTES_MIN: usize = 32 << 10;
/// So many of them at a time; the system allows a process some 65,000 mappings of all kinds.
const MAPPED_BLOCKS_MAX: usize = 16 << 10;
/// Those that there are, of all pools.
static MAPPED_BLOCKS: AtomicUsize = AtomicUsize::new(0);

/// What the bytes are aligned to.
const BYTES_ALIGN: usize = 16;

/// Added to the balance when the owner lets go; the return that brings the balance to exactly this frees the block.
const ORPHAN: i64 = 1 << 62;

/// What is known of the bytes.
struct Header {
    /// Pieces returned so far; after the owner let go: `ORPHAN` minus the pieces that are still out.
    balance: AtomicI64,
    /// Where the block goes when it is free: opaque here, set by the pool while the block is out.
    home: AtomicPtr<()>,
    bytes: NonNull<u8>,
    capacity: u32,
    /// It does not lie in the heap.
    is_mapped: bool,
}

/// `capacity` bytes, all of them initialised, and their header. Freed by [`Block::free`], not by drop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Block(NonNull<Header>);

// SAFETY: the header's mutable fields are atomic, and access to the bytes is governed by `Chunk` and `Piece`, which
// hand out disjoint ranges.
unsafe impl Send for Block {}
// SAFETY: as above; a shared `Block` only exposes the atomic balance and raw pointers.
unsafe impl Sync for Block {}

impl Block {
    /// Allocates a block of `capacity` zeroed bytes.
    pub(super) fn allocate(capacity: usize) -> Block {
        let layout = Block::layout(capacity);
        let mapped = if capacity >= MAPPED_BYTES_MIN { map(layout.size()) } else { None };
        let raw = mapped.map_or_else(
            // SAFETY: the layout is never of size zero.
            || unsafe { alloc_zeroed(layout) },
            NonNull::as_ptr,
        );
        let Some(bytes) = NonNull::new(raw) else { handle_alloc_error(layout) };
        let capacity = u32::try_from(capacity).expect("layout() refused more than u32::MAX");
        let (balance, home) = (AtomicI64::new(0), AtomicPtr::default());
        let header = Header { balance, home, bytes, capacity, is_mapped: mapped.is_some() };
        Block(NonNull::from(Box::leak(Box::new(header))))
    }

    /// Aligned no more than the allocator aligns by itself: only then does it know which memory is zero already, and a large
    /// block takes pages as bytes come, not all of them at once.
    fn layout(capacity: usize) -> Layout {
        assert!(u32::try_from(capacity).is_ok(), "a block holds at most 4 GiB");
        Layout::from_size_align(capacity.max(1), BYTES_ALIGN).expect("capacity fits isize")
    }

    fn header(&self) -> &Header {
        // SAFETY: the header was written at allocation and lives until `free`, whose caller gives up every copy.
        unsafe { self.0.as_ref() }
    }

    /// Bytes behind the header.
    pub(super) fn capacity(self) -> usize {
        self.header().capacity as usize
    }

    /// The first byte. Valid for `capacity` bytes; the caller keeps ranges disjoint.
    pub(super) fn bytes(self) -> NonNull<u8> {
        self.header().bytes
    }

    /// Where the block goes when it is free; null while it lies there.
    pub(super) fn home(self) -> *mut () {
        self.header().home.load(Ordering::Relaxed)
    }

    /// Says where the block goes when it is free.
    pub(super) fn set_home(self, home: *mut ()) {
        self.header().home.store(home, Ordering::Relaxed);
    }

    /// Counts one returned piece. True if it was the last one of a block without owner: the caller must free it.
    pub(super) fn give_back(self) -> bool {
        self.header().balance.fetch_add(1, Ordering::AcqRel) + 1 == ORPHAN
    }

    /// The owner lets go with `lent` pieces lent so far. True if none is out: the caller must free it.
    pub(super) fn orphan(self, lent: u32) -> bool {
        let lent = i64::from(lent);
        self.header().balance.fetch_add(ORPHAN - lent, Ordering::AcqRel) == lent
    }

    /// True if all `lent` pieces have come back.
    pub(super) fn all_returned(self, lent: u32) -> bool {
        self.header().balance.load(Ordering::Acquire) == i64::from(lent)
    }

    /// Sets the balance to zero, for a block that nobody else refers to.
    pub(super) fn clear(self) {
        self.header().balance.store(0, Ordering::Release);
    }

    /// Gives the whole pages inside of the bytes back to the system; whoever touches them next finds zeroed ones. Nobody
    /// else may refer to the block. `page_bytes` is the system's size of a page: advice is rounded up to it.
    pub(super) fn forget_pages(self, page_bytes: usize) {
        let (front, capacity) = (self.bytes().as_ptr().align_offset(page_bytes), self.capacity());
        let len = capacity.saturating_sub(front) / page_bytes * page_bytes;
        if len == 0 || cfg!(miri) {
            return;
        }
        // SAFETY: `front` is below the capacity, or no whole page would lie behind it.
        let start = unsafe { self.bytes().add(front) };
        // SAFETY: whole pages inside an allocation whose bytes nobody reads or writes, and zero is as good as what they are.
        // Pages that are locked in memory stay, and nothing is lost by that.
        let _ = unsafe { madvise(start.cast(), len, MmapAdvise::MADV_DONTNEED) };
    }

    /// Gives the allocation back. The caller must hold the last reference to the block.
    pub(super) fn free(self) {
        let layout = Block::layout(self.capacity());
        // SAFETY: `allocate` leaked a box of it; by contract nobody else refers to it, nor does this block after this.
        let header = unsafe { Box::from_raw(self.0.as_ptr()) };
        if !header.is_mapped {
            // SAFETY: allocated in `allocate` with this very layout; by contract nobody else refers to it.
            return unsafe { dealloc(header.bytes.as_ptr(), layout) };
        }
        // SAFETY: mapped in `allocate` with this size; by contract nobody else refers to it.
        let unmapped = unsafe { munmap(header.bytes.cast(), layout.size()) };
        debug_assert!(unmapped.is_ok(), "a whole mapping can be given back");
        MAPPED_BLOCKS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Zeroed pages for so many bytes, if there may be more of them.
fn map(bytes: usize) -> Option<NonNull<u8>> {
    if MAPPED_BLOCKS.fetch_add(1, Ordering::Relaxed) < MAPPED_BLOCKS_MAX {
        let (read_write, private) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
        // SAFETY: a new private mapping of no file overlaps nothing.
        let mapped = unsafe { mmap_anonymous(None, NonZeroUsize::new(bytes)?, read_write, private) };
        if let Ok(start) = mapped {
            return Some(start.cast());
        }
    }
    MAPPED_BLOCKS.fetch_sub(1, Ordering::Relaxed);
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::memory::resident_bytes;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no resident memory")]
    fn a_large_block_takes_memory_as_bytes_come() {
        const CAPACITY: usize = 256 << 20;
        let before = resident_bytes();
        let block = Block::allocate(CAPACITY);
        let grown = resident_bytes().saturating_sub(before);
        block.free();
        // Other tests of this process take some meanwhile.
        assert!(grown < CAPACITY / 2, "{grown} bytes of an untouched block");
    }

    #[test]
    fn large_blocks_lie_beside_the_heap_and_others_in_it() {
        for (capacity, is_mapped) in
            [(256, false), (MAPPED_BYTES_MIN / 2, false), (MAPPED_BYTES_MIN, true), (1 << 20, true)]
        {
            let block = Block::allocate(capacity);
            assert_eq!(block.header().is_mapped, is_mapped, "{capacity}");
            // SAFETY: nobody else has the block, and all of its bytes are initialised.
            let bytes = unsafe { std::slice::from_raw_parts_mut(block.bytes().as_ptr(), capacity) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(1);
            block.free();
        }
    }
}
