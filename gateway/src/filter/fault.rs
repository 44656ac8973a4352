//! The filters that make things go wrong on purpose: a delay, and a failure, each for so many of a hundred requests.
//! Which ones is decided by the random number that they are handed, so a seed repeats it.

use bowline_protocols::http::HttpHead;

use crate::config::http::AbortPlan;
use crate::config::http::DelayPlan;
use crate::filter::contract::Call;
use crate::filter::contract::Filter;
use crate::filter::contract::Reply;
use crate::filter::contract::Verdict;

/// Requests wait.
#[derive(Debug)]
pub struct Delay(pub DelayPlan);

/// Requests fail.
#[derive(Debug)]
pub struct Abort(pub AbortPlan);

impl Filter for Delay {
    fn on_request_head(&self, _head: &mut HttpHead, call: &Call) -> Verdict {
        match falls_within(self.0.percent, call.random) {
            true => Verdict::Pause { until: call.now.after_ms(self.0.ms) },
            false => Verdict::Continue,
        }
    }
}

impl Filter for Abort {
    fn on_request_head(&self, _head: &mut HttpHead, call: &Call) -> Verdict {
        match falls_within(self.0.percent, call.random) {
            true => Verdict::Reply(Reply { status: self.0.status, reason: "fault_abort" }),
            false => Verdict::Continue,
        }
    }
}

/// Whether a random number is among the first so many of a hundred equal parts.
fn falls_within(percent: u8, random: u64) -> bool {
    (u128::from(random) * 100) >> 64 < u128::from(percent)
}

#[cfg(test)]
mod tests {
    use bowline_engine::time::Time;

    use super::*;

    fn share(filter: &dyn Filter, expected: Verdict) -> usize {
        let numbers = (0..10_000).map(|at| at * (u64::MAX / 10_000));
        let verdicts = numbers.map(|random| {
            let call = Call { now: Time::from_ms(5), random };
            filter.on_request_head(&mut HttpHead::default(), &call)
        });
        let hit: Vec<_> = verdicts.filter(|verdict| *verdict != Verdict::Continue).collect();
        assert!(hit.iter().all(|verdict| *verdict == expected));
        hit.len()
    }

    #[test]
    fn so_many_of_a_hundred_wait_and_no_others() {
        let until = Verdict::Pause { until: Time::from_ms(1_005) };
        for (percent, hit) in [(1, 100), (30, 3_000), (100, 10_000)] {
            let found = share(&Delay(DelayPlan { ms: 1_000, percent }), until);
            assert!(found.abs_diff(hit) <= 1, "{found} of 10,000 at {percent} %");
        }
    }

    #[test]
    fn so_many_of_a_hundred_fail_with_the_status() {
        let reply = Verdict::Reply(Reply { status: 503, reason: "fault_abort" });
        let found = share(&Abort(AbortPlan { status: 503, percent: 50 }), reply);
        assert!(found.abs_diff(5_000) <= 1, "{found}");
    }
}
