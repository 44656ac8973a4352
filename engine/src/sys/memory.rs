//! What is asked of the allocator, so that memory that was given back is not kept from the system. Called at the start and
//! after many connections have gone: the allocator is locked while it is trimmed, so that is done by the supervisor, or in the
//! tokio mode by one worker. Workers empty no more than the cache of their own thread.

/// Blocks from this size on for which the heap has no room are mapped by themselves and unmapped when they are freed, in
/// bytes. Chunks that are read into are above it: if the heap grew for each of a burst, they would lie between small blocks
/// that stay, and be holes afterwards.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: i32 = 32 << 10;
/// Blocks that are mapped by themselves at a time; the heap has the others. Linux allows a process some 65,000 mappings,
/// and threads and segments of slots need theirs.
#[cfg(target_env = "gnu")]
const MAPPED_BLOCKS_MAX: i32 = 16 << 10;

/// Blocks of one size that glibc keeps for a thread.
#[cfg(target_env = "gnu")]
const CACHED_BLOCKS: usize = 7;
/// The smallest of those sizes, in bytes.
#[cfg(target_env = "gnu")]
const TAKEN_BYTES_MIN: usize = 24;
/// The largest one that is taken, in bytes: that of a piece of mail, of which a burst has the most. There are larger ones, but
/// where a thread had none of a size it may be left with seven, so it is not done for sizes that are seldom used.
#[cfg(target_env = "gnu")]
const TAKEN_BYTES_MAX: usize = 296;
/// From one size to the next, in bytes.
#[cfg(target_env = "gnu")]
const TAKEN_BYTES_STEP: usize = 16;
/// Blocks as large as this are not kept for a thread, in bytes.
#[cfg(target_env = "gnu")]
const GROWN_BYTES: usize = 1048;

/// Fixes the size from which blocks are mapped by themselves. Left alone, glibc raises it to the largest block that was
/// ever freed, up to 32 MiB, and large frames then stay in the heap for good: more than the ceiling of all buffers.
///
/// All threads share one arena. The data path allocates nothing in the steady state, so nobody queues for it, and what
/// one thread takes another gives back: in arenas of their own, what is left of a peak is spread over the pages of all.
pub(crate) fn prepare() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes no pointer and may be called at any time, on any thread.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: as above.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_MAX, MAPPED_BLOCKS_MAX);
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: as above.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

/// Gives back the pages that the allocator holds free. Without glibc there is nothing to ask for.
pub(crate) fn trim() {
    empty_thread_cache();
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes no pointer and may be called at any time, on any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Takes back what the allocator keeps for this thread and nobody else has a page for; called after a burst, by each thread
/// that took part. glibc keeps the last seven blocks of each small size that a thread has freed, wherever the burst had
/// them, and no call empties that. So they are taken and grown beyond what it keeps: one with free memory behind it grows
/// where it is, and all of that is free afterwards. Any other moves and is kept again, beside its neighbour in use.
pub(crate) fn empty_thread_cache() {
    #[cfg(target_env = "gnu")]
    for bytes in (TAKEN_BYTES_MIN..=TAKEN_BYTES_MAX).step_by(TAKEN_BYTES_STEP) {
        // What nobody looks at the compiler would not allocate.
        let take = || std::hint::black_box(Vec::with_capacity(bytes));
        let mut kept: [Vec<u8>; CACHED_BLOCKS] = std::array::from_fn(|_| take());
        for block in &mut kept {
            block.reserve_exact(GROWN_BYTES);
            std::hint::black_box(block);
        }
    }
}

/// What of this process lies in memory, in bytes.
#[cfg(test)]
pub(crate) fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the page of an address is there, in use or not.
    #[cfg(target_env = "gnu")]
    fn is_resident(address: usize) -> bool {
        let mut resident = 0;
        let page = std::ptr::without_provenance_mut(address & !4095);
        // SAFETY: it asks about a page, of which it reads nothing, and answers with one byte.
        let known = unsafe { nix::libc::mincore(page, 1, &raw mut resident) };
        known == 0 && resident & 1 == 1
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn a_page_with_nothing_but_what_a_thread_keeps_goes_back() {
        let far: Vec<Vec<u8>> = (0..5_000).map(|_| vec![1; 2_000]).collect();
        let (mut between, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..CACHED_BLOCKS {
            between.extend((0..50).map(|_| vec![1_u8; 2_000]));
            kept.push(vec![1_u8; 200]);
            between.extend((0..50).map(|_| vec![1_u8; 2_000]));
        }
        let after: Vec<u8> = vec![1; 2_000];
        let pages: Vec<usize> = kept.iter().map(|block| block.as_ptr() as usize).collect();
        drop((between, kept));
        let resident = || pages.iter().filter(|page| is_resident(**page)).count();
        assert_eq!(resident(), CACHED_BLOCKS);
        trim();
        // Other tests of this process take some of what is free meanwhile.
        assert!(resident() < CACHED_BLOCKS, "each of them keeps its page");
        drop((far, after));
    }

    #[test]
    fn pages_between_used_ones_go_back() {
        let mut blocks: Vec<Option<Vec<u8>>> = (0..20_000).map(|_| Some(vec![1; 2_000])).collect();
        let full = resident_bytes();
        // What is left pins the heap, so that only its holes can be given back.
        blocks.iter_mut().enumerate().filter(|(at, _)| at % 100 != 0).for_each(|(_, block)| *block = None);
        trim();
        if cfg!(target_env = "gnu") {
            assert!(resident_bytes() < full - 20_000_000, "{} of {full}", resident_bytes());
        }
    }
}
