//! Time as machines see it: milliseconds since the engine started, handed in, never read.
//!
//! Drivers own the clock ([`Clock`]); machines, timers and the simulator only compute with [`Time`]. Slots keep
//! the coarser [`Tick`], four bytes wide. Nothing here sleeps.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A moment: milliseconds since the engine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The engine's start.
    pub const ZERO: Time = Time(0);

    /// The moment `ms` milliseconds after the start.
    pub const fn from_ms(ms: u64) -> Time {
        Time(ms)
    }

    /// The moment `us` microseconds after the start, as [`Clock::micros`] says it.
    pub(crate) const fn from_micros(us: u64) -> Time {
        Time(us / 1_000)
    }

    /// Milliseconds since the start.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// This moment moved later; saturates.
    pub const fn after_ms(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment, 0 if `earlier` is later.
    pub const fn ms_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How long one [`Tick`] lasts, in milliseconds. Deadlines are late by at most this, never early.
pub const TICK_MS: u64 = 16;

/// A coarse moment, as slots and the timer wheel keep it: 16 ms each, good for 795 days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u32);

impl Tick {
    /// No deadline.
    pub const NEVER: Tick = Tick(u32::MAX);

    /// The first tick at or after `time`, so that a deadline is never early.
    pub fn ceil(time: Time) -> Tick {
        Tick(u32::try_from(time.0.div_ceil(TICK_MS)).unwrap_or(u32::MAX - 1).min(u32::MAX - 1))
    }

    /// The tick that `time` lies in.
    pub fn floor(time: Time) -> Tick {
        Tick(u32::try_from(time.0 / TICK_MS).unwrap_or(u32::MAX - 1).min(u32::MAX - 1))
    }

    /// The moment this tick begins.
    pub fn time(self) -> Time {
        Time(u64::from(self.0) * TICK_MS)
    }
}

/// The driver's clock: monotonic, starts at [`Time::ZERO`].
///
/// It is read several times per batch, so it asks the system itself: the subtraction of two `Instant`s costs more than
/// the question.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start_us: u64,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock { start_us: monotonic_us() }
    }

    /// The current moment.
    pub fn now(&self) -> Time {
        Time::from_micros(self.micros())
    }

    /// The moment by the system's monotonic clock.
    pub(crate) fn since_boot(&self, time: Time) -> Duration {
        Duration::from_micros(self.start_us.saturating_add(time.0.saturating_mul(1_000)))
    }

    /// Microseconds since the start: for budgets and lag, not for deadlines.
    pub fn micros(&self) -> u64 {
        monotonic_us() - self.start_us
    }
}

fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    // Neither is negative: the clock starts at boot.
    now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1_000
}

impl From<Duration> for Time {
    fn from(duration: Duration) -> Time {
        Time(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early() {
        for ms in 0..200 {
            let time = Time::from_ms(ms);
            assert!(Tick::ceil(time).time() >= time);
            assert!(Tick::ceil(time).time().ms_since(time) < TICK_MS);
            assert!(Tick::floor(time).time() <= time);
        }
    }

    #[test]
    fn far_moments_saturate_below_never() {
        assert!(Tick::ceil(Time::from_ms(u64::MAX)) < Tick::NEVER);
        assert_eq!(Time::from_ms(u64::MAX).after_ms(5).as_ms(), u64::MAX);
        assert_eq!(Time::from_ms(3).ms_since(Time::from_ms(9)), 0);
    }
}
