//! When memory is worth giving back: after many connections have gone, and not while they still go.
//!
//! Asked at even intervals by whoever looks after a driver. It frees nothing itself.

/// So many connections fewer leave enough free memory to look for.
const EBB: usize = 1_024;
/// How the number of connections rises and falls.
#[derive(Debug)]
pub(crate) struct Tide {
    /// Looks that a fallen number must stand before it counts.
    still_looks: u32,
    high: usize,
    last: usize,
    still: u32,
}

impl Tide {
    /// A tide that is out when the number has not fallen for so many looks.
    pub(crate) fn new(still_looks: u32) -> Tide {
        Tide { still_looks, high: 0, last: 0, still: 0 }
    }

    /// True once after every ebb, when it has ended.
    pub(crate) fn is_out(&mut self, live: usize) -> bool {
        self.high = self.high.max(live);
        let falls = live < self.last;
        self.last = live;
        self.still = if falls || self.high - live < EBB { 0 } else { self.still + 1 };
        if self.still < self.still_looks {
            return false;
        }
        (self.high, self.still) = (live, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks_until_out(tide: &mut Tide, live: usize) -> Option<u32> {
        (1..100).find(|_| tide.is_out(live))
    }

    #[test]
    fn an_ebb_is_over_when_the_number_stands_and_counts_once() {
        let mut tide = Tide::new(12);
        assert_eq!(looks_until_out(&mut tide, 15_000), None);
        for live in (0..15_000).rev().step_by(1_000) {
            assert!(!tide.is_out(live), "they still go");
        }
        assert_eq!(looks_until_out(&mut tide, 999), Some(12));
        assert_eq!(looks_until_out(&mut tide, 999), None);
    }

    #[test]
    fn a_few_that_come_and_go_are_no_ebb() {
        let mut tide = Tide::new(12);
        for live in [500, 900, 200, 1_000, 0] {
            assert_eq!(looks_until_out(&mut tide, live), None);
        }
    }
}
