//! The signals that steer the process, read from one descriptor by the main thread. They are blocked before any other
//! thread starts, so no worker is ever interrupted and no handler runs. It decides nothing; the course does.
//!
//! SIGPIPE is ignored by the Rust runtime, so a peer or a reader that is gone is an error of a write and no end.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal as Number;
use nix::sys::signalfd::SfdFlags;
use nix::sys::signalfd::SignalFd;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGHUP.
    HangUp,
}

/// The signals of this process, while it is steered by them.
#[derive(Debug)]
pub(super) struct Signals {
    set: SigSet,
    descriptor: SignalFd,
}

impl Signals {
    /// Blocks them in the calling thread and in all that it starts from now on.
    pub(super) fn block() -> io::Result<Signals> {
        let set: SigSet = [Number::SIGTERM, Number::SIGINT, Number::SIGHUP].into_iter().collect();
        set.thread_block()?;
        let descriptor = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { set, descriptor })
    }

    /// The next one, waited for at most so long; without a bound if nothing is said.
    pub(super) fn wait(&self, at_most: Option<Duration>) -> io::Result<Option<Signal>> {
        if let Some(signal) = self.read()? {
            return Ok(Some(signal));
        }
        let timeout = at_most.map_or(PollTimeout::NONE, |at_most| {
            let ms = u32::try_from(at_most.as_millis()).unwrap_or(u32::MAX);
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::Error::EINTR) => self.read(),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives them their ordinary effect again, so that a process whose end takes too long can be ended by one more.
    pub(super) fn release(self) {
        // What has come already was meant for the course; pending when it is unblocked, it would end the process at once.
        while let Ok(Some(_)) = self.read() {}
        if let Err(error) = self.set.thread_unblock() {
            tracing::warn!(%error, "signals stay blocked");
        }
    }

    fn read(&self) -> io::Result<Option<Signal>> {
        let Some(info) = self.descriptor.read_signal()? else { return Ok(None) };
        let number = i32::try_from(info.ssi_signo).ok().and_then(|number| Number::try_from(number).ok());
        Ok(match number {
            Some(Number::SIGTERM) => Some(Signal::Terminate),
            Some(Number::SIGINT) => Some(Signal::Interrupt),
            Some(Number::SIGHUP) => Some(Signal::HangUp),
            // Nothing else is in the set.
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_wait_until_they_are_read() {
        // Only those sent to this very thread are seen here, so other tests of the process are not in the way.
        let signals = Signals::block().expect("a descriptor");
        assert_eq!(signals.wait(Some(Duration::ZERO)).expect("it can be read"), None);
        for (number, signal) in [
            (Number::SIGHUP, Signal::HangUp),
            (Number::SIGTERM, Signal::Terminate),
            (Number::SIGINT, Signal::Interrupt),
        ] {
            nix::sys::signal::raise(number).expect("to oneself");
            assert_eq!(signals.wait(None).expect("it can be read"), Some(signal));
        }
        assert_eq!(signals.wait(Some(Duration::ZERO)).expect("it can be read"), None);
        // One that came while the end was under way has no effect of its own afterwards.
        nix::sys::signal::raise(Number::SIGTERM).expect("to oneself");
        signals.release();
    }
}
