//! When memory is worth giving back: each time that many connections have gone, and once more when no more go.
//!
//! Asked at even intervals by whoever looks after a driver. It frees nothing itself.

/// So many connections fewer leave enough free memory to look for, ...
const EBB: usize = 1_024;
/// ... and so small a part of all: where a million come and go, some thousands are no reason to search the rest each second.
const EBB_PART: usize = 16;

/// How the number of connections rises and falls.
#[derive(Debug)]
pub(crate) struct Tide {
    /// Looks that a fallen number must stand before the ebb is over.
    still_looks: u32,
    /// The most since the last ebb was over.
    high: usize,
    /// The most since an ebb was last found.
    crest: usize,
    last: usize,
    still: u32,
}

impl Tide {
    /// A tide whose ebb is over when the number has not fallen for so many looks.
    pub(crate) fn new(still_looks: u32) -> Tide {
        Tide { still_looks, high: 0, crest: 0, last: 0, still: 0 }
    }

    /// True if many have gone since this was last so: what waits until no more go lies between the memory of those who come
    /// next, and keeps its pages. True once more when the ebb is over, for those who went last.
    pub(crate) fn is_out(&mut self, live: usize) -> bool {
        (self.high, self.crest) = (self.high.max(live), self.crest.max(live));
        let falls = live < self.last;
        self.last = live;
        let has_fallen = |from: usize| from - live >= EBB.max(from / EBB_PART);
        self.still = if falls || !has_fallen(self.high) { 0 } else { self.still + 1 };
        let is_over = self.still >= self.still_looks;
        if is_over {
            (self.high, self.still) = (live, 0);
        }
        let is_out = is_over || has_fallen(self.crest);
        if is_out {
            self.crest = live;
        }
        is_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of so many looks found that it was worth it, the first being 1.
    fn found(tide: &mut Tide, live: usize, looks: u32) -> Vec<u32> {
        (1..=looks).filter(|_| tide.is_out(live)).collect()
    }

    #[test]
    fn an_ebb_is_found_at_once_and_again_when_it_is_over_and_never_after() {
        let mut tide = Tide::new(12);
        assert_eq!(found(&mut tide, 15_000, 100), []);
        assert_eq!(found(&mut tide, 0, 100), [1, 13]);
    }

    #[test]
    fn an_ebb_that_goes_on_is_found_at_every_look_with_many_fewer() {
        let mut tide = Tide::new(12);
        let looks = [15_000, 9_000, 8_500, 7_900, 7_900, 8_800, 8_000, 7_000, 0, 0];
        let found = looks.map(|live| tide.is_out(live));
        assert_eq!(found, [false, true, false, true, false, false, false, true, true, false]);
    }

    #[test]
    fn a_slow_ebb_is_found_when_it_adds_up() {
        let mut tide = Tide::new(12);
        let looks = (0..=4_000).rev().step_by(500);
        assert_eq!(looks.filter(|live| tide.is_out(*live)).collect::<Vec<_>>(), [2_500, 1_000]);
        assert_eq!(found(&mut tide, 0, 100), [12], "1,000 more have gone since");
    }

    #[test]
    fn a_few_that_come_and_go_are_no_ebb() {
        let mut tide = Tide::new(12);
        for live in [500, 900, 200, 1_000, 0] {
            assert_eq!(found(&mut tide, live, 100), []);
        }
    }

    #[test]
    fn of_very_many_more_must_go() {
        let mut tide = Tide::new(12);
        let looks = [1_000_000, 990_000, 940_000, 937_000, 935_000, 880_000, 878_000];
        assert_eq!(looks.map(|live| tide.is_out(live)), [false, false, false, true, false, false, true]);
    }

    #[test]
    fn generations_that_come_and_go_are_an_ebb_each() {
        let mut tide = Tide::new(12);
        for _ in 0..14 {
            assert_eq!([15_000, 0, 0, 0].map(|live| tide.is_out(live)), [false, true, false, false]);
        }
        assert_eq!(found(&mut tide, 0, 100), [10], "two looks have found it still before");
    }
}
