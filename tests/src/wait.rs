//! Owns how long a test waits before it gives up, and the one way of waiting for what cannot be awaited. Refuses to say
//! how fast something must be: the deadline is generous on purpose.

use std::time::{Duration, Instant};

/// After so long a test gives up. No test passes or fails by being faster or slower than less than this.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks of [`eventually`].
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` is true, for what no event announces (a counter, a file of `/proc`).
///
/// # Panics
/// When it is not true within [`PATIENCE`].
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// The same for what the kernel's own timers decide: they count in half minutes.
///
/// # Panics
/// When it is not true within four times [`PATIENCE`].
pub fn in_the_end(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE * 4, what, condition);
}

fn within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}
