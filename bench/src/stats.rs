//! Owns the figures that are drawn from many numbers: percentiles of latency, median and spread of rounds. Refuses averages:
//! they hide what a gateway's users feel. Called by the load generator and the comparison.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart; what is longer counts as this.
const LATENCY_NS_MAX: u64 = 300_000_000_000;
/// Three digits: an error of at most 0.1 %.
const DIGITS: u8 = 3;

/// Latencies of many requests, in ns.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("the bounds are constant and valid"),
        )
    }
}

impl Latency {
    /// Counts one request.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// How many requests were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The counted values with their counts: what another process needs to merge.
    pub fn to_pairs(&self) -> Vec<(u64, u64)> {
        self.0.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
    }

    /// Adds what [`Latency::to_pairs`] gave.
    pub fn add_pairs(&mut self, pairs: &[(u64, u64)]) {
        for (value, count) in pairs {
            self.0.saturating_record_n(*value, *count);
        }
    }

    /// Many percentiles with their latency in microseconds, for a curve.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let at = |percentile: f64| (percentile, self.0.value_at_percentile(percentile) as f64 / 1e3);
        CURVE_PERCENTILES.into_iter().map(at).collect()
    }

    /// The percentiles that are reported.
    pub fn summary(&self) -> LatencySummary {
        let at = |percentile| self.0.value_at_percentile(percentile) as f64 / 1e3;
        LatencySummary {
            count: self.0.len(),
            p50_us: at(50.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            max_us: self.0.max() as f64 / 1e3,
        }
    }
}

/// Dense where a curve bends: towards the slowest.
const CURVE_PERCENTILES: [f64; 22] = [
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 97.5, 99.0, 99.5,
    99.75, 99.9, 99.95, 99.99, 100.0,
];

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LatencySummary {
    /// Requests counted.
    pub count: u64,
    /// The median.
    pub p50_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// The median of several rounds, with the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, low, high })
    }

    /// Whether the two overlap; a difference inside the spread is no difference.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut latency = Latency::default();
        for us in 1..=10_000u64 {
            latency.record(us * 1_000);
        }
        let summary = latency.summary();
        for (value, expected) in
            [(summary.p50_us, 5_000.0), (summary.p99_us, 9_900.0), (summary.p999_us, 9_990.0)]
        {
            assert!((value - expected).abs() / expected < 0.001, "{value} {expected}");
        }
        assert_eq!(summary.count, 10_000);
        let curve = latency.curve();
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{curve:?}");
        assert_eq!(curve.last(), Some(&(100.0, summary.max_us)));
    }

    #[test]
    fn merging_gives_what_one_process_would_have_counted() {
        let (mut whole, mut merged) = (Latency::default(), Latency::default());
        for part in 0..3u64 {
            let mut latency = Latency::default();
            for step in 0..1_000u64 {
                let ns = (part + 1) * (step + 1) * 977;
                latency.record(ns);
                whole.record(ns);
            }
            merged.add_pairs(&latency.to_pairs());
        }
        assert_eq!(merged.to_pairs(), whole.to_pairs());
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let mut latency = Latency::default();
        latency.record(u64::MAX);
        assert_eq!(latency.count(), 1);
        assert!(latency.summary().max_us >= 299e6);
    }

    #[test]
    fn the_median_of_rounds() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).map(|s| s.median), Some(2.5));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_difference_counts_only_outside_of_the_spread() {
        let [a, b, c] = [[1.0, 2.0], [2.0, 3.0], [2.5, 4.0]].map(|v| Spread::of(&v).expect("two values"));
        assert!(a.overlaps(&b) && b.overlaps(&a) && b.overlaps(&c));
        assert!(!a.overlaps(&c) && !c.overlaps(&a));
    }
}
