//! What is asked of the allocator, so that memory that was given back is not kept from the system: jemalloc, which keeps
//! blocks of one size in pages of their own, and which can be told to let go of what it holds free. Called at intervals (a second in
//! the raw mode, ten in the tokio mode), and after many connections have gone. It allocates nothing and decides nothing about who keeps what.
//!
//! Without the feature `jemalloc` the system's allocator serves and is asked for nothing: everything works, and less memory
//! goes back after a peak. So it is below sanitizers and valgrind, which bring an allocator of their own.

#[cfg(feature = "jemalloc")]
pub use tikv_jemallocator::Jemalloc as Allocator;

#[cfg(not(feature = "jemalloc"))]
pub use std::alloc::System as Allocator;

/// What jemalloc reads before its first block; a process's own is `_RJEM_MALLOC_CONF` in its environment.
///
/// - `narenas:1`: one arena. The data path allocates nothing in the steady state, so nobody queues for it, and what one
///   thread takes another gives back: in arenas of their own, what is left of a peak is spread over the pages of all.
/// - `lg_tcache_max:10`: threads keep blocks of up to 1 KiB for themselves, and nothing larger.
/// - `dirty_decay_ms`: free pages go back to the system over a second, or at the [`look`] behind it; a load that frees and
///   takes the same again pays for it once a second, not each time.
/// - `muzzy_decay_ms:0`: at once, not first as pages that the system may take if it needs them.
/// - `cache_oblivious:false`: a block of 16 KiB is four pages; else it starts anywhere in the first of five.
#[cfg(feature = "jemalloc")]
#[used]
// SAFETY: it is the name and the type that jemalloc looks for, a string that ends with a zero, and nobody writes to it.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: Configuration = Configuration(
    c"narenas:1,lg_tcache_max:10,dirty_decay_ms:1000,muzzy_decay_ms:0,cache_oblivious:false".as_ptr(),
);

#[cfg(feature = "jemalloc")]
#[repr(transparent)]
struct Configuration(*const std::ffi::c_char);

// SAFETY: it points to a constant.
#[cfg(feature = "jemalloc")]
unsafe impl Sync for Configuration {}

// 4096 is what jemalloc calls all arenas: one that the environment asks for counts too.

/// Gives back the free pages whose time is over. jemalloc itself looks only when something is allocated or freed.
pub(crate) fn look() {
    ask(c"arena.4096.decay");
}

/// Gives back all free pages. What threads keep is theirs: see [`empty_thread_cache`].
pub(crate) fn give_back() {
    ask(c"arena.4096.purge");
}

/// Gives back what the allocator keeps for this thread, in whose place the last burst left it: each block keeps its page.
pub(crate) fn empty_thread_cache() {
    ask(c"thread.tcache.flush");
}

/// Asks jemalloc to do something that takes and answers nothing.
#[cfg(feature = "jemalloc")]
fn ask(what: &std::ffi::CStr) {
    use std::ptr::null_mut;
    // SAFETY: these take no input and give no output, and may be asked for on any thread.
    // One that the environment's settings leave nothing to do for answers so; nothing depends on it.
    let _ = unsafe { tikv_jemalloc_sys::mallctl(what.as_ptr(), null_mut(), null_mut(), null_mut(), 0) };
}

#[cfg(not(feature = "jemalloc"))]
fn ask(_what: &std::ffi::CStr) {}

/// What of this process lies in memory, in bytes.
#[cfg(test)]
pub(crate) fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

#[cfg(all(test, feature = "jemalloc"))]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// Held by whoever frees many pages and looks whether they go, or by whoever allocates as many: pages that another takes
    /// do not go.
    static ALONE: Mutex<()> = Mutex::new(());

    /// A figure of jemalloc's.
    fn figure<T: Default>(what: &std::ffi::CStr) -> T {
        let mut value = T::default();
        let mut bytes = size_of::<T>();
        let to = (&raw mut value).cast();
        // SAFETY: it writes so many bytes there, and says how many if these are not what it has.
        let answer =
            unsafe { tikv_jemalloc_sys::mallctl(what.as_ptr(), to, &raw mut bytes, std::ptr::null_mut(), 0) };
        assert_eq!((answer, bytes), (0, size_of::<T>()), "{what:?}");
        value
    }

    #[test]
    fn the_allocator_is_told_before_its_first_block() {
        assert_eq!(figure::<u32>(c"opt.narenas"), 1);
        assert_eq!(figure::<usize>(c"opt.tcache_max"), 1024);
        assert_eq!(figure::<isize>(c"opt.dirty_decay_ms"), 1_000);
        assert_eq!(figure::<isize>(c"opt.muzzy_decay_ms"), 0);
        assert!(!figure::<bool>(c"opt.cache_oblivious"));
    }

    #[test]
    fn a_page_with_nothing_but_what_a_thread_keeps_goes_back() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // A size that nothing else here has; a page of its own for each few, and threads keep more than one page.
        let blocks: Vec<Box<[u8; 832]>> = (0..100).map(|_| Box::new([1; 832])).collect();
        let pages: std::collections::BTreeSet<usize> =
            blocks.iter().map(|block| std::ptr::from_ref(&**block) as usize & !4095).collect();
        let resident = || pages.iter().filter(|page| is_resident(**page)).count();
        assert_eq!(resident(), pages.len());
        drop(blocks);
        empty_thread_cache();
        assert!(goes_back(|| resident() < pages.len() / 2), "{} of {}", resident(), pages.len());
    }

    #[test]
    fn pages_between_used_ones_go_back() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut blocks: Vec<Option<Vec<u8>>> = (0..20_000).map(|_| Some(vec![1; 2_000])).collect();
        let full = resident_bytes();
        // Some of each few stay, so that only what lies between can be given back.
        blocks.iter_mut().enumerate().filter(|(at, _)| at % 100 != 0).for_each(|(_, block)| *block = None);
        let is_back = goes_back(|| resident_bytes() < full - 20_000_000);
        assert!(is_back, "{} of {full}", resident_bytes());
    }

    /// Asks until it is so, some times: while another thread gives pages back, jemalloc leaves all of them to that one.
    fn goes_back(is_back: impl Fn() -> bool) -> bool {
        (0..100).any(|_| {
            give_back();
            std::thread::yield_now();
            is_back()
        })
    }

    /// Whether the page of an address is there, in use or not.
    fn is_resident(address: usize) -> bool {
        let mut resident = 0;
        let page = std::ptr::without_provenance_mut(address & !4095);
        // SAFETY: it asks about a page, of which it reads nothing, and answers with one byte.
        let known = unsafe { nix::libc::mincore(page, 1, &raw mut resident) };
        known == 0 && resident & 1 == 1
    }
}
