//! What is asked of the allocator, so that memory that was given back is not kept from the system. Called at the start and
//! once in a while, never on the data path: the allocator is locked meanwhile.

/// Blocks from this size on for which the heap has no room are mapped by themselves and unmapped when they are freed, in
/// bytes. Chunks that are read into are above it: if the heap grew for each of a burst, they would lie between small blocks
/// that stay, and be holes afterwards.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: i32 = 32 << 10;
/// Blocks that are mapped by themselves at a time; the heap has the others. Linux allows a process some 65,000 mappings,
/// and threads and segments of slots need theirs.
#[cfg(target_env = "gnu")]
const MAPPED_BLOCKS_MAX: i32 = 16 << 10;

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
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes no pointer and may be called at any time, on any thread.
    unsafe {
        nix::libc::malloc_trim(0);
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
