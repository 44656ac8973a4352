//! How many tries beyond the first the servers of a cluster are asked for, over all its clients: a share of its requests
//! and a few a second, saved up to a bound. So servers that fail get little more than what they would get anyway. Relaxed
//! atomics that all workers share; it knows no request and tries nothing. Asked by whoever would try again.

use std::sync::atomic::{AtomicU64, Ordering};

use bowline_engine::time::Time;

use crate::config::plan::ClusterPlan;

/// The budget of one cluster, in hundredths of a try.
#[derive(Debug)]
pub struct RetryBudget {
    saved: AtomicU64,
    saved_max: u64,
    /// What each request adds.
    share: u64,
    per_second: u64,
    /// Until when time has added to it.
    grown_until_ms: AtomicU64,
}

impl RetryBudget {
    /// A budget that has saved all that it may.
    pub fn new(plan: &ClusterPlan) -> RetryBudget {
        let saved_max = u64::from(plan.retry_burst_max) * TRY;
        RetryBudget {
            saved: AtomicU64::new(saved_max),
            saved_max,
            share: u64::from(plan.retry_percent),
            per_second: u64::from(plan.retry_per_second),
            grown_until_ms: AtomicU64::new(0),
        }
    }

    /// A request is sent for the first time. While nothing fails the budget is full, and this reads one number.
    pub fn note_request(&self) {
        if self.saved.load(Ordering::Relaxed) < self.saved_max {
            self.saved.fetch_add(self.share, Ordering::Relaxed);
        }
    }

    /// Takes one try out of it. False if it is used up.
    pub fn take(&self, now: Time) -> bool {
        self.grow(now);
        let taken = |saved: u64| saved.checked_sub(TRY);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// Adds what the time since the last try has brought. Only one of those that ask at the same moment adds it.
    fn grow(&self, now: Time) {
        let since_ms = self.grown_until_ms.load(Ordering::Relaxed);
        let grown = self.per_second.saturating_mul(now.as_ms().saturating_sub(since_ms)) / (1_000 / TRY);
        let is_mine = || {
            let grown_until = &self.grown_until_ms;
            let (order, now_ms) = (Ordering::Relaxed, now.as_ms());
            grown_until.compare_exchange(since_ms, now_ms, order, order).is_ok()
        };
        if grown > 0 && is_mine() {
            let added = |saved: u64| Some(saved.saturating_add(grown).min(self.saved_max));
            let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
        }
    }
}

/// One try.
const TRY: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Protocol;

    fn budget(percent: u32, per_second: u32, burst: u32) -> RetryBudget {
        let mut plan = ClusterPlan::named("a", Protocol::Http);
        (plan.retry_percent, plan.retry_per_second, plan.retry_burst_max) = (percent, per_second, burst);
        RetryBudget::new(&plan)
    }

    fn taken(budget: &RetryBudget, now_ms: u64) -> usize {
        (0..1_000).take_while(|_| budget.take(Time::from_ms(now_ms))).count()
    }

    #[test]
    fn requests_pay_for_a_share_of_tries_and_no_more() {
        let budget = budget(20, 0, 3);
        assert_eq!(taken(&budget, 1_000_000), 3, "what it began with");
        (0..14).for_each(|_| budget.note_request());
        assert_eq!(taken(&budget, 2_000_000), 2, "a fifth of 14, in whole tries");
        budget.note_request();
        assert_eq!(taken(&budget, 2_000_000), 1, "and the rest was kept");
        (0..1_000).for_each(|_| budget.note_request());
        assert_eq!(taken(&budget, 2_000_000), 3, "no more is saved than the bound");
    }

    #[test]
    fn time_adds_a_few_whatever_is_requested_up_to_the_bound() {
        let budget = budget(0, 10, 5);
        assert_eq!(taken(&budget, 50_000), 5);
        assert_eq!(taken(&budget, 50_099), 0);
        assert_eq!(taken(&budget, 50_300), 3, "nothing is lost to being asked in between");
        assert_eq!(taken(&budget, 50_300), 0, "no moment counts twice");
        assert_eq!(taken(&budget, 50_200), 0, "and the clock of a worker that is behind adds nothing");
        assert_eq!(taken(&budget, 90_000), 5);
    }

    #[test]
    fn a_budget_of_nothing_allows_nothing() {
        let budget = budget(20, 10, 0);
        (0..100).for_each(|_| budget.note_request());
        assert_eq!(taken(&budget, 1_000_000), 0);
    }
}
