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

/// Which connection the next request of an open loop goes out on.
#[derive(Clone, Debug)]
pub struct Picks {
    /// Connections that take more than their part.
    hot: Vec<usize>,
    cold: Vec<usize>,
    /// Of 100 requests, those for the hot ones.
    hot_of_100: u32,
    hot_turn: usize,
    cold_turn: usize,
    owed: u32,
}

impl Picks {
    /// All in turn.
    pub fn even(connections: usize) -> Self {
        Self::skewed(Vec::new(), connections, 0)
    }

    /// `hot_of_100` of 100 requests go to the `hot` ones in turn, the rest to all others in turn.
    pub fn skewed(hot: Vec<usize>, connections: usize, hot_of_100: u32) -> Self {
        let mut is_hot = vec![false; connections];
        hot.iter().for_each(|index| is_hot[*index] = true);
        let cold = (0..connections).filter(|index| !is_hot[*index]).collect();
        let hot_of_100 = if hot.is_empty() { 0 } else { hot_of_100.min(100) };
        Self { hot, cold, hot_of_100, hot_turn: 0, cold_turn: 0, owed: 0 }
    }

    /// The next one, if there are any connections.
    pub fn take(&mut self) -> Option<usize> {
        self.owed += self.hot_of_100;
        let (list, turn) = if self.owed >= 100 || self.cold.is_empty() {
            self.owed = self.owed.saturating_sub(100);
            (&self.hot, &mut self.hot_turn)
        } else {
            (&self.cold, &mut self.cold_turn)
        };
        let index = *list.get(*turn)?;
        *turn = (*turn + 1) % list.len();
        Some(index)
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
        /// Where.
        picks: Picks,
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
    fn a_skew_gives_the_hot_ones_their_part_and_everyone_a_turn() {
        let mut picks = Picks::skewed(vec![0, 10, 20], 30, 90);
        let mut counts = [0; 30];
        for _ in 0..30_000 {
            counts[picks.take().expect("there are connections")] += 1;
        }
        assert!([0, 10, 20].iter().all(|hot| counts[*hot] == 9_000), "{counts:?}");
        let cold = counts.iter().enumerate().filter(|(index, _)| index % 10 != 0);
        assert!(cold.clone().all(|(_, count)| (111..=112).contains(count)), "{counts:?}");
        assert_eq!(cold.map(|(_, count)| count).sum::<i32>(), 3_000);
    }

    #[test]
    fn without_a_skew_all_come_in_turn() {
        let mut picks = Picks::even(3);
        let taken: Vec<_> = (0..7).map_while(|_| picks.take()).collect();
        assert_eq!(taken, [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(Picks::even(0).take(), None);
        assert_eq!(Picks::skewed(vec![0, 1], 2, 50).take(), Some(0), "there are only hot ones");
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
