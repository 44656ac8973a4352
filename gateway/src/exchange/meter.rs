//! Counts events within the running second, in eight bytes: how a connection that sends too many heartbeats is noticed.

use bowline_engine::time::Time;
use serde::{Deserialize, Serialize};

/// Events of the running second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    began_ms: u32,
    events: u32,
}

impl Meter {
    /// Counts one event; false if there were more than `per_second` within a second.
    pub fn count(&mut self, now: Time, per_second: u32) -> bool {
        // The clock wraps here after 49 days; a wrong second then is harmless.
        let now_ms = now.as_ms() as u32;
        if self.events == 0 || now_ms.wrapping_sub(self.began_ms) >= 1_000 {
            *self = Meter { began_ms: now_ms, events: 0 };
        }
        self.events = self.events.saturating_add(1);
        self.events <= per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_second_and_no_more() {
        let mut meter = Meter::default();
        let at = |ms| Time::from_ms(ms);
        assert!((0..3).all(|ms| meter.count(at(500 + ms), 3)));
        assert!(!meter.count(at(1_499), 3));
        assert!(meter.count(at(1_500), 3), "a new second");
    }
}
