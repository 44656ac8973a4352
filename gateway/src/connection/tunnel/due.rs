//! A moment that a tunnel keeps, or none, in eight bytes: `Option<Time>` takes sixteen, and both sides of every idle tunnel
//! have two of them. It decides nothing.

use std::num::NonZeroU64;

use bowline_engine::time::Time;

/// A moment, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due(Option<NonZeroU64>);

impl Due {
    /// This moment.
    pub(super) fn at(time: Time) -> Due {
        Due(NonZeroU64::new(time.as_ms().saturating_add(1)))
    }

    /// The moment, if there is one.
    pub(super) fn time(self) -> Option<Time> {
        self.0.map(|ms| Time::from_ms(ms.get() - 1))
    }

    /// Whether there is one and it has come.
    pub(super) fn is_past(self, now: Time) -> bool {
        self.time().is_some_and(|due| due <= now)
    }

    /// Becomes `time` unless it is that early already. True if it changed.
    pub(super) fn bring_to(&mut self, time: Time) -> bool {
        let changes = self.time().is_none_or(|before| time < before);
        if changes {
            *self = Due::at(time);
        }
        changes
    }
}

impl From<Option<Time>> for Due {
    fn from(time: Option<Time>) -> Due {
        time.map_or(Due::default(), Due::at)
    }
}

const _: () = assert!(size_of::<Due>() == 8, "that is what it is for");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_only_comes_nearer() {
        let mut due = Due::default();
        assert!(!due.is_past(Time::from_ms(u64::MAX)));
        assert!(due.bring_to(Time::from_ms(7)) && !due.bring_to(Time::from_ms(7)));
        assert!(!due.bring_to(Time::from_ms(8)) && due.bring_to(Time::ZERO));
        assert_eq!((due.time(), due.is_past(Time::ZERO)), (Some(Time::ZERO), true));
        assert_eq!(Due::from(Some(Time::ZERO)), due);
    }
}
