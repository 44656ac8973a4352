//! Counts allocations made inside machines, and only there: on this thread, between `watch` and its end, outside `pause`.

use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Runs `work`, counting what it allocates.
pub(crate) fn watch(work: impl FnOnce()) {
    let made = allocation_counter::measure(work).count_total;
    COUNT.set(COUNT.get() + made);
}

/// Runs `work`, not counting what it allocates.
pub(crate) fn pause<R>(work: impl FnOnce() -> R) -> R {
    let mut result = None;
    allocation_counter::opt_out(|| result = Some(work()));
    result.expect("it ran")
}

/// Allocations so far.
pub(crate) fn count() -> u64 {
    COUNT.get()
}
