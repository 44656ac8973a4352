//! Owns time: one monotonic clock per process, and an alarm that wakes a poll more precisely than its timeout of whole
//! milliseconds could, since at partial load that error would be larger than what is measured.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::time::Duration;
use std::time::Instant;

use mio::Interest;
use mio::Registry;
use mio::Token;
use mio::unix::SourceFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::ClockId;
use nix::sys::timerfd::Expiration;
use nix::sys::timerfd::TimerFd;
use nix::sys::timerfd::TimerFlags;
use nix::sys::timerfd::TimerSetTimeFlags;

use crate::trouble::Trouble;

/// Counts from its start.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn now_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Wakes a poll at a set time.
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    armed_ns: Option<u64>,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new(registry: &Registry, token: Token) -> Result<Self, Trouble> {
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
                .map_err(Trouble::doing("opening a timer"))?;
        // Edge-triggered: each expiry wakes once, and nobody needs to read the count.
        registry
            .register(&mut SourceFd(&timer.as_fd().as_raw_fd()), token, Interest::READABLE)
            .map_err(Trouble::doing("waiting for a timer"))?;
        Ok(Self { timer, armed_ns: None })
    }

    /// Sets it to `at_ns`; a time in the past wakes at once. Costs nothing when it stands there already.
    pub fn set(&mut self, now_ns: u64, at_ns: u64) -> Result<(), Trouble> {
        if self.armed_ns == Some(at_ns) && at_ns > now_ns {
            return Ok(());
        }
        // A timer of 0 would be switched off instead.
        let left = Duration::from_nanos(at_ns.saturating_sub(now_ns).max(1));
        self.timer
            .set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())
            .map_err(Trouble::doing("setting a timer"))?;
        self.armed_ns = Some(at_ns);
        Ok(())
    }
}
