//! Owns when the next request goes out: after an answer (closed loop), at a constant rate whatever comes back (open loop), or
//! once on every connection. Pure arithmetic on times that are handed in. Called by `fleet` and `load`.

/// The part of a run that one process carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which one, from 0.
    pub index: usize,
    /// Of how many.
    pub of: usize,
}

impl Share {
    /// The whole.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// The numbers out of `0..count` that fall to this process; the parts are disjoint and complete.
    pub fn range(self, count: usize) -> std::ops::Range<usize> {
        let at = |index: usize| (count as u128 * index as u128 / self.of as u128) as usize;
        at(self.index)..at(self.index + 1)
    }
}

/// A constant rate. The request number `k` is meant to go out at `start + k / rate`, whatever happened to those before:
/// so a stall shows in the latency of all requests that it delayed.
#[derive(Clone, Debug)]
pub struct Schedule {
    start_ns: u64,
    rate: f64,
    next: u64,
    step: u64,
}

impl Schedule {
    /// The requests that fall to `share` of a run with `rate` requests per second in all.
    pub fn new(start_ns: u64, rate: f64, share: Share) -> Self {
        debug_assert!(rate > 0.0 && rate.is_finite());
        Self { start_ns, rate, next: share.index as u64, step: share.of as u64 }
    }

    /// When the next request is meant to go out.
    pub fn next_ns(&self) -> u64 {
        self.start_ns + (self.next as f64 * 1e9 / self.rate) as u64
    }

    /// The intended time of a request that is due; each is given once.
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let intended_ns = self.next_ns();
        if intended_ns > now_ns {
            return None;
        }
        self.next += self.step;
        Some(intended_ns)
    }
}

/// What a fleet sends now.
#[derive(Clone, Debug)]
pub enum Pace {
    /// Nothing.
    Rest,
    /// Each connection keeps so many requests in flight.
    Closed {
        /// Per connection.
        in_flight: usize,
        /// Requests that may still be sent in all; no bound when `None`.
        left: Option<u64>,
    },
    /// A constant rate over all connections in turn.
    Open {
        /// When.
        schedule: Schedule,
        /// The connection whose turn it is.
        turn: usize,
    },
    /// One request on every connection.
    Each {
        /// The next connection.
        next: usize,
        /// At once.
        in_flight_max: usize,
    },
}

impl Pace {
    /// When something must be sent next even if nothing arrives.
    pub fn next_ns(&self) -> Option<u64> {
        match self {
            Self::Open { schedule, .. } => Some(schedule.next_ns()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_a_constant_rate_whatever_was_missed() {
        let mut schedule = Schedule::new(1_000, 1_000.0, Share::WHOLE);
        assert_eq!(schedule.take_due(999), None);
        assert_eq!(schedule.take_due(1_000), Some(1_000));
        assert_eq!(schedule.take_due(1_000), None);
        // After a stall of 5 ms all that were missed go out, with the times at which they should have.
        let missed: Vec<u64> = std::iter::from_fn(|| schedule.take_due(5_001_000)).collect();
        assert_eq!(missed, (1..=5).map(|k| 1_000 + k * 1_000_000).collect::<Vec<_>>());
        assert_eq!(schedule.next_ns(), 6_001_000);
    }

    #[test]
    fn an_odd_rate_does_not_drift() {
        let mut schedule = Schedule::new(0, 3_333.0, Share::WHOLE);
        let count = std::iter::from_fn(|| schedule.take_due(60_000_000_000)).count();
        assert_eq!(count, 60 * 3_333 + 1);
    }

    #[test]
    fn shares_make_up_the_whole_schedule() {
        let until = 100_000_000;
        let take = |share| {
            let mut schedule = Schedule::new(0, 977.0, share);
            std::iter::from_fn(move || schedule.take_due(until)).collect::<Vec<_>>()
        };
        let mut parts: Vec<u64> = (0..3).flat_map(|index| take(Share { index, of: 3 })).collect();
        parts.sort_unstable();
        assert_eq!(parts, take(Share::WHOLE));
    }

    #[test]
    fn shares_are_disjoint_and_complete() {
        for (count, of) in [(100_000, 6), (7, 3), (2, 5), (0, 2)] {
            let all: Vec<usize> = (0..of).flat_map(|index| Share { index, of }.range(count)).collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>(), "{count} {of}");
        }
    }
}
