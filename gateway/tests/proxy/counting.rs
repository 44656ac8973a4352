//! Counts allocations made by connections, and only those: on this thread, between `watch` and its end, outside `pause`.

use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Runs `work`, counting what it allocates.
pub(crate) fn watch(work: &mut dyn FnMut()) {
    let made = allocation_counter::measure(work).count_total;
    COUNT.set(COUNT.get() + made);
}

/// Runs `work`, not counting what it allocates.
pub(crate) fn pause(work: &mut dyn FnMut()) {
    allocation_counter::opt_out(work);
}

/// Allocations so far.
pub(crate) fn count() -> u64 {
    COUNT.get()
}
