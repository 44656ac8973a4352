//! One epoll set with an eventfd and a timer in it: registers sockets edge-triggered, waits, and can be woken from any
//! thread.
//!
//! A wait has no timeout of its own but zero: the kernel would start and cancel a timer for each, which costs 2 us of a
//! wake-up on a virtual machine, while the timer in the set is only touched when it is to ring earlier. It knows tokens, not connections. Every method may be called from any thread; only one thread waits at a time (O9).

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// The token of the eventfd.
pub(crate) const WAKE: u64 = u64::MAX;
/// The token of the timer: no slot has its index, and listeners have the generation of [`WAKE`].
pub(crate) const TIMER: u64 = u64::MAX - (1 << 32);

/// What a socket is armed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interest(pub(crate) u8);

impl Interest {
    /// Only errors.
    pub(crate) const NONE: Interest = Interest(0);
    /// Readable.
    pub(crate) const IN: Interest = Interest(1);
    /// Writable.
    pub(crate) const OUT: Interest = Interest(2);
    /// The peer shut its write side.
    pub(crate) const PEER_SHUT: Interest = Interest(4);

    /// Both.
    pub(crate) const fn and(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    fn flags(self) -> EpollFlags {
        let mut flags = EpollFlags::EPOLLET;
        // Urgent data ends a read early, so whoever reads must hear of it: see [`Ready::is_urgent`].
        flags.set(EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI, self.0 & 1 != 0);
        flags.set(EpollFlags::EPOLLOUT, self.0 & 2 != 0);
        flags.set(EpollFlags::EPOLLRDHUP, self.0 & 4 != 0);
        flags
    }
}

/// Room for the events of one wait.
pub(crate) struct Events(Box<[EpollEvent]>);

impl Events {
    /// Room for `count` events.
    pub(crate) fn with_capacity(count: usize) -> Events {
        Events(vec![EpollEvent::empty(); count].into_boxed_slice())
    }
}

/// An epoll set.
pub(crate) struct Poller {
    epoll: Epoll,
    wake: EventFd,
    timer: TimerFd,
}

impl Poller {
    /// A new set.
    pub(crate) fn new() -> io::Result<Poller> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        // Edge-triggered, and never read: every write reports once, which saves the read. So does the timer.
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, WAKE))?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER))?;
        Ok(Poller { epoll, wake, timer })
    }

    /// Registers a socket, edge-triggered: what is ready now is reported once, and so is every arrival after.
    pub(crate) fn add(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(interest.flags(), token))?)
    }

    /// Registers a listening socket: level-triggered (O12).
    pub(crate) fn add_listener(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Changes what a registered socket is armed for, or asks again: what is ready now is reported once more.
    pub(crate) fn arm(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.modify(socket, &mut EpollEvent::new(interest.flags(), token))?)
    }

    /// Arms a socket that may be another one by now: for the build that shows why nobody may.
    #[cfg(release_before_arm)]
    pub(crate) fn arm_late(&self, fd: std::os::fd::RawFd, token: u64, interest: Interest, registered: bool) {
        // SAFETY: the very point of this build is that the descriptor may have been closed; epoll then refuses it.
        let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let _ =
            if registered { self.arm(socket, token, interest) } else { self.add(socket, token, interest) };
    }

    /// Removes a socket.
    pub(crate) fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(socket)?)
    }

    /// Sets the timer, which reports once, to a moment of the monotonic clock; one that has passed reports at once.
    pub(crate) fn ring_at(&self, since_boot: Duration) -> io::Result<()> {
        let at = Expiration::OneShot(TimeSpec::from_duration(since_boot));
        Ok(self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    /// Waits until there is something, unless `may_block` is false, and hands out tokens with what was reported. An
    /// interrupted wait reports nothing.
    pub(crate) fn wait(
        &self,
        events: &mut Events,
        may_block: bool,
        mut each: impl FnMut(u64, Ready),
    ) -> io::Result<usize> {
        let timeout = if may_block { EpollTimeout::NONE } else { EpollTimeout::ZERO };
        let count = match self.epoll.wait(&mut events.0, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events.0[..count] {
            each(event.data(), Ready(event.events()));
        }
        Ok(count)
    }

    /// Wakes whoever waits, or the next wait.
    pub(crate) fn wake(&self) {
        // A full counter means that a wake-up is pending already.
        let _ = self.wake.write(1);
    }
}

/// What was reported of a socket.
#[derive(Clone, Copy)]
pub(crate) struct Ready(EpollFlags);

impl Ready {
    /// Readable. Urgent data alone is nothing to be had, but is reported until a read has gone past it.
    pub(crate) fn is_in(self) -> bool {
        self.0.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI)
    }

    /// Writable.
    pub(crate) fn is_out(self) -> bool {
        self.0.contains(EpollFlags::EPOLLOUT)
    }

    /// Urgent data was sent. A read ends where it lies, so a short one does not say that nothing more is there.
    pub(crate) fn is_urgent(self) -> bool {
        self.0.contains(EpollFlags::EPOLLPRI)
    }

    /// The peer shut its write side.
    pub(crate) fn is_peer_shut(self) -> bool {
        self.0.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP)
    }

    /// Error, or both directions shut.
    pub(crate) fn is_broken(self) -> bool {
        self.0.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn wait(poller: &Poller) -> Vec<u64> {
        let mut tokens = Vec::new();
        poller
            .wait(&mut Events::with_capacity(8), false, |token, _| tokens.push(token))
            .expect("epoll works");
        tokens
    }

    #[test]
    fn a_socket_reports_each_arrival_once_and_what_was_not_read_when_it_is_armed_again() {
        let poller = Poller::new().expect("epoll works");
        let (mut near, mut far) = UnixStream::pair().expect("sockets work");
        poller.add(&near, 7, Interest::IN).expect("epoll works");
        far.write_all(b"x").expect("the pair is open");
        assert_eq!(wait(&poller), [7]);
        assert!(wait(&poller).is_empty());
        poller.arm(&near, 7, Interest::IN).expect("epoll works");
        assert_eq!(wait(&poller), [7]);
        near.read_exact(&mut [0]).expect("it arrived");
        far.write_all(b"y").expect("the pair is open");
        assert_eq!(wait(&poller), [7], "what arrives after a drain is reported although nobody armed");
    }

    #[test]
    fn urgent_data_is_reported_with_what_lies_around_it() {
        let poller = Poller::new().expect("epoll works");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let far = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (near, _) = listener.accept().expect("it connects");
        let far = socket2::SockRef::from(&far);
        far.send(b"before").expect("it is open");
        far.send_out_of_band(b"!").expect("it is open");
        far.send(b"after").expect("it is open");
        poller.add(&near, 7, Interest::IN).expect("epoll works");
        let mut ready = Vec::new();
        poller
            .wait(&mut Events::with_capacity(8), true, |_, found| ready.push(found.is_urgent()))
            .expect("epoll works");
        assert_eq!(ready, [true]);
    }

    #[test]
    fn a_socket_armed_for_nothing_still_reports_that_it_broke() {
        let poller = Poller::new().expect("epoll works");
        let (near, far) = UnixStream::pair().expect("sockets work");
        poller.add(&near, 7, Interest::NONE).expect("epoll works");
        drop(far);
        assert_eq!(wait(&poller), [7]);
    }

    fn wait_long(poller: &Poller) -> Vec<u64> {
        let mut tokens = Vec::new();
        poller.wait(&mut Events::with_capacity(8), true, |token, _| tokens.push(token)).expect("epoll works");
        tokens
    }

    #[test]
    fn the_timer_reports_once_for_every_time_it_is_set() {
        let poller = Poller::new().expect("epoll works");
        let now =
            Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock"));
        poller.ring_at(now + Duration::from_secs(3_600)).expect("a plain moment");
        assert!(wait(&poller).is_empty(), "it is not that late");
        for past in [now, now - Duration::from_millis(1)] {
            poller.ring_at(past).expect("a plain moment");
            assert_eq!(wait_long(&poller), [TIMER]);
            assert!(wait(&poller).is_empty());
        }
        poller.ring_at(now + Duration::from_millis(20)).expect("a plain moment");
        assert_eq!(wait_long(&poller), [TIMER], "it is waited for");
    }

    #[test]
    fn a_wake_up_reports_once_and_is_never_lost() {
        let poller = Poller::new().expect("epoll works");
        poller.wake();
        poller.wake();
        assert_eq!(wait(&poller), [WAKE]);
        assert!(wait(&poller).is_empty());
        poller.wake();
        assert_eq!(wait(&poller), [WAKE]);
    }
}
