//! What all workers share about one endpoint: its load, its health and whether it is still wanted. Relaxed atomics, no
//! lock, no connection. Written by places and upstream machines, read by whoever chooses.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use bowline_engine::time::Time;

/// How much one endpoint may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Requests in flight.
    pub requests_max: usize,
    /// Bytes queued for it and not written.
    pub output_bytes_max: usize,
    /// The first pause after a failed connect.
    pub reconnect_ms_min: u64,
    /// The longest pause.
    pub reconnect_ms_max: u64,
}

/// One endpoint of a cluster.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    bounds: Bounds,
    requests: AtomicUsize,
    output_bytes: AtomicUsize,
    retry_at_ms: AtomicU64,
    failures: AtomicU32,
    removed: AtomicBool,
}

impl Endpoint {
    /// An endpoint that nobody has tried yet.
    pub fn new(address: SocketAddr, bounds: Bounds) -> Endpoint {
        Endpoint {
            address,
            bounds,
            requests: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            retry_at_ms: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            removed: AtomicBool::new(false),
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests in flight.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes queued and not written.
    pub fn output_bytes(&self) -> usize {
        self.output_bytes.load(Ordering::Relaxed)
    }

    /// False while it is left alone because it could not be reached.
    pub fn is_usable(&self, now: Time) -> bool {
        self.retry_at_ms.load(Ordering::Relaxed) <= now.as_ms()
    }

    /// True once the configuration or the resolver no longer names it.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Says whether it is still wanted.
    pub(super) fn set_removed(&self, removed: bool) {
        self.removed.store(removed, Ordering::Relaxed);
    }

    /// A connection to it was opened.
    pub fn note_connected(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.retry_at_ms.store(0, Ordering::Relaxed);
    }

    /// It could not be reached: it is left alone for a while that doubles from time to time, with jitter. Failures of
    /// attempts that ran at the same time count once.
    pub fn note_unreachable(&self, now: Time, random: u64) {
        if !self.is_usable(now) {
            return;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(DOUBLINGS_MAX);
        let longest = self.bounds.reconnect_ms_min.saturating_mul(1 << failures);
        let longest = longest.clamp(1, self.bounds.reconnect_ms_max.max(1));
        // Between half and all of it, so that workers and gateways do not come back in step.
        let pause_ms = longest / 2 + random % (longest / 2 + 1);
        self.retry_at_ms.store(now.after_ms(pause_ms.max(1)).as_ms(), Ordering::Relaxed);
    }

    /// Takes room for `requests` and `bytes`; false if there is none. A request larger than the whole bound has room
    /// where nothing else is queued, for it could never be sent otherwise.
    pub(super) fn take(&self, requests: usize, bytes: usize) -> bool {
        let before = self.requests.fetch_add(requests, Ordering::Relaxed);
        if before + requests > self.bounds.requests_max {
            self.requests.fetch_sub(requests, Ordering::Relaxed);
            return false;
        }
        // Whoever counts no bytes writes none: requests of HTTP are counted alone.
        let queued = match bytes {
            0 => self.output_bytes.load(Ordering::Relaxed),
            _ => self.output_bytes.fetch_add(bytes, Ordering::Relaxed),
        };
        if queued > 0 && queued + bytes > self.bounds.output_bytes_max {
            self.give_back(requests, bytes);
            return false;
        }
        true
    }

    /// Takes room whether there is any or not: for what was admitted before.
    pub(super) fn take_again(&self, requests: usize, bytes: usize) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
        self.output_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives room back.
    pub(super) fn give_back(&self, requests: usize, bytes: usize) {
        if requests > 0 {
            let before = self.requests.fetch_sub(requests, Ordering::Relaxed);
            debug_assert!(before >= requests, "a place is given back once");
        }
        if bytes > 0 {
            let before = self.output_bytes.fetch_sub(bytes, Ordering::Relaxed);
            debug_assert!(before >= bytes, "bytes are given back once");
        }
    }
}

/// A pause doubles at most so often.
const DOUBLINGS_MAX: u32 = 16;

/// Whether an upstream connection takes new requests: its machine says so, the pool that knows its address asks.
#[derive(Debug, Default)]
pub struct Link {
    shut: AtomicBool,
}

impl Link {
    /// True while it takes new requests.
    pub fn is_open(&self) -> bool {
        !self.shut.load(Ordering::Relaxed)
    }

    /// Takes no new requests from now on.
    pub fn shut(&self) {
        self.shut.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        let bounds =
            Bounds { requests_max: 4, output_bytes_max: 100, reconnect_ms_min: 100, reconnect_ms_max: 1_000 };
        Endpoint::new(SocketAddr::from(([127, 0, 0, 1], 1)), bounds)
    }

    fn pause_after(failures: usize, random: u64) -> u64 {
        let endpoint = endpoint();
        let mut now = Time::from_ms(1);
        let mut pause = 0;
        for _ in 0..failures {
            endpoint.note_unreachable(now, random);
            pause = endpoint.retry_at_ms.load(Ordering::Relaxed) - now.as_ms();
            now = now.after_ms(pause);
        }
        pause
    }

    #[test]
    fn pauses_double_with_jitter_up_to_the_longest() {
        assert_eq!(
            [1, 2, 3, 4, 5, 90].map(|failures| pause_after(failures, 0)),
            [50, 100, 200, 400, 500, 500]
        );
        for random in [1, 77, u64::MAX] {
            assert!((50..=100).contains(&pause_after(1, random)));
            assert!((500..=1_000).contains(&pause_after(20, random)));
        }
    }

    #[test]
    fn failures_at_the_same_time_count_once_and_success_forgets_them() {
        let endpoint = endpoint();
        let now = Time::from_ms(10);
        for _ in 0..5 {
            endpoint.note_unreachable(now, 0);
        }
        assert!(!endpoint.is_usable(now) && endpoint.is_usable(now.after_ms(50)));
        endpoint.note_connected();
        assert!(endpoint.is_usable(now));
    }
}
