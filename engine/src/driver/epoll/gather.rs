//! How many reactors clients' connections are gathered on at partial load (`--active-min`), from figures alone.
//!
//! Few workers that have much to do cost fewer wake-ups than many that have little. One more is active once those that
//! are were nearly always busy for a moment; one fewer once the others could have done it all for a while. It moves
//! nothing and reads no clock: `balance` feeds it and asks where a connection belongs. Busy means awake here, whether the system
//! let it run or not: where somebody else has the processor, other workers must help.

/// How long workers are watched before they are judged, in microseconds.
pub(crate) const WINDOW_US: u64 = 10_000;
/// One more worker is active when those that are were busy for more than so many hundredths of a window.
const PROMOTE_HUNDREDTHS: u64 = 75;
/// One fewer is when all were together busy for less than so many hundredths of what the others have, ...
const DEMOTE_HUNDREDTHS: u64 = 60;
/// ... for so long, in microseconds.
const DEMOTE_US: u64 = 200_000;

/// Decides how many workers are active.
pub(crate) struct Gatherer {
    active: u64,
    active_min: u64,
    active_max: u64,
    now_us: u64,
    busy_us: u64,
    /// Since when one fewer would have done.
    ample_since_us: Option<u64>,
}

impl Gatherer {
    /// Between `active_min` and `active_max` workers; all at first.
    pub(crate) fn new(active_min: usize, active_max: usize) -> Gatherer {
        let (active_min, active_max) = (active_min.max(1) as u64, active_max as u64);
        Gatherer { active: active_max, active_min, active_max, now_us: 0, busy_us: 0, ample_since_us: None }
    }

    /// Ends a window: `busy_us` is for how long all workers together were busy since the start. Says how many are active.
    pub(crate) fn look(&mut self, now_us: u64, busy_us: u64) -> usize {
        let elapsed_us = now_us.saturating_sub(std::mem::replace(&mut self.now_us, now_us));
        let busy_us = busy_us.saturating_sub(std::mem::replace(&mut self.busy_us, busy_us));
        if busy_us * 100 > PROMOTE_HUNDREDTHS * self.active * elapsed_us {
            self.active = self.active_max.min(self.active + 1);
            self.ample_since_us = None;
        } else if busy_us * 100 >= DEMOTE_HUNDREDTHS * (self.active - 1) * elapsed_us {
            self.ample_since_us = None;
        } else if now_us - *self.ample_since_us.get_or_insert(now_us) >= DEMOTE_US {
            self.active = self.active_min.max(self.active - 1);
            self.ample_since_us = None;
        }
        self.active as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows in which all workers together are busy for `hundredths` of one core; says how many are active after each.
    fn windows(gatherer: &mut Gatherer, hundredths: u64, count: usize) -> Vec<usize> {
        let mut window = || {
            let busy_us = gatherer.busy_us + hundredths * WINDOW_US / 100;
            gatherer.look(gatherer.now_us + WINDOW_US, busy_us)
        };
        (0..count).map(|_| window()).collect()
    }

    #[test]
    fn little_work_is_gathered_step_by_step() {
        let mut gatherer = Gatherer::new(1, 3);
        let active = windows(&mut gatherer, 30, 50);
        assert_eq!((active[0], active[20], active[41], active[49]), (3, 2, 1, 1));
    }

    #[test]
    fn a_busy_moment_is_enough_to_spread() {
        let mut gatherer = Gatherer::new(1, 3);
        windows(&mut gatherer, 30, 100);
        assert_eq!(windows(&mut gatherer, 80, 1), [2]);
        assert_eq!(windows(&mut gatherer, 160, 1), [3]);
    }

    #[test]
    fn what_one_fewer_could_hardly_do_changes_nothing() {
        let mut gatherer = Gatherer::new(1, 2);
        assert!(windows(&mut gatherer, 65, 200).iter().all(|active| *active == 2));
        windows(&mut gatherer, 30, 30);
        assert!(windows(&mut gatherer, 70, 200).iter().all(|active| *active == 1));
    }

    #[test]
    fn never_fewer_than_the_least() {
        let mut gatherer = Gatherer::new(2, 4);
        assert_eq!(windows(&mut gatherer, 0, 500).last(), Some(&2));
    }
}
