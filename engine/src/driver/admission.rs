//! Who may come in: connections in all and per source, and what happens to accepting while descriptors are wanting.
//!
//! It owns the counts and the reserve descriptor that all acceptors of an engine share. It watches no listener and waits
//! for nothing: acceptors bring the way to accept, are told what came of it, and wait out a pause.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::machine::Accepted;
use crate::options::Options;
use crate::stats::{Counter, Stats};
use crate::sys;
use crate::time::Time;

/// How long accepting pauses for want of descriptors: at most ten attempts a second.
const ACCEPT_PAUSE_MS: u64 = 100;
/// Connections accepted in one go; then others get their turn.
pub(crate) const ACCEPT_BUDGET: usize = 64;

/// What accepting has come to, over all listeners.
#[derive(Default)]
pub(crate) struct AcceptCounts {
    pub(crate) accepted: Counter,
    pub(crate) refused_limit: Counter,
    pub(crate) refused_source: Counter,
    pub(crate) pauses: Counter,
    pub(crate) attempts_starved: Counter,
}

impl AcceptCounts {
    /// Counts a connection that was refused.
    pub(crate) fn refuse(&self, why: Admission) {
        match why {
            Admission::SourceLimitReached => self.refused_source.add_shared(1),
            _ => self.refused_limit.add_shared(1),
        }
    }

    /// Writes the counts into `stats`.
    pub(crate) fn read_into(&self, stats: &mut Stats) {
        stats.accepted = self.accepted.value();
        stats.refused_limit = self.refused_limit.value();
        stats.refused_source = self.refused_source.value();
        stats.accept_pauses = self.pauses.value();
        stats.accept_attempts_starved = self.attempts_starved.value();
    }
}

/// How many accepted connections there are, in all and per source address.
pub(crate) struct Admitted {
    max: usize,
    taken: AtomicUsize,
    per_source_max: Option<usize>,
    /// Their connections come through somebody who says later whose they are.
    announced_listeners: Vec<u16>,
    /// Its connections are not counted.
    own_listener: Option<u16>,
    per_source: Mutex<HashMap<IpAddr, usize>>,
}

/// Whether a connection may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may, and is counted until [`Admitted::forget`].
    Granted,
    /// There are as many as there may be.
    LimitReached,
    /// Its source has as many as one may have.
    SourceLimitReached,
}

impl Admitted {
    /// As many in all, and from one address, as `options` allow.
    pub(crate) fn new(options: &Options) -> Admitted {
        Admitted {
            max: options.connections_max,
            taken: AtomicUsize::new(0),
            per_source_max: options.connections_per_source_max,
            announced_listeners: options.announced_listeners.clone(),
            own_listener: options.own_listener,
            per_source: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a connection of `source` that `listener` accepted, unless a limit is reached.
    #[must_use]
    pub(crate) fn admit(&self, listener: u16, source: IpAddr) -> Admission {
        if self.own_listener == Some(listener) {
            return Admission::Granted;
        }
        if self.taken.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return Admission::LimitReached;
        }
        let Some(max) = self.per_source_max else { return Admission::Granted };
        let mut counts = self.per_source.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&source).copied().unwrap_or(0);
        if count < max || self.announced_listeners.contains(&listener) {
            counts.insert(source, count + 1);
            return Admission::Granted;
        }
        self.taken.fetch_sub(1, Ordering::Relaxed);
        Admission::SourceLimitReached
    }

    /// A connection of `source` that `listener` accepted and that was admitted is gone.
    pub(crate) fn forget(&self, listener: u16, source: IpAddr) {
        if self.own_listener == Some(listener) {
            return;
        }
        let before = self.taken.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a connection that was admitted is forgotten once");
        if self.per_source_max.is_none() {
            return;
        }
        let mut counts = self.per_source.lock().unwrap_or_else(PoisonError::into_inner);
        take_one(&mut counts, source);
    }

    /// A connection that was counted for `old` is one of `new`; false, and nothing changed, if that has as many as it may.
    #[must_use]
    pub(crate) fn rename(&self, old: IpAddr, new: IpAddr) -> bool {
        let Some(max) = self.per_source_max.filter(|_| old != new) else { return true };
        let mut counts = self.per_source.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&new).copied().unwrap_or(0);
        if count >= max {
            return false;
        }
        counts.insert(new, count + 1);
        take_one(&mut counts, old);
        true
    }
}

fn take_one(counts: &mut HashMap<IpAddr, usize>, source: IpAddr) {
    if let Some(count) = counts.get_mut(&source) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&source);
        }
    }
}

impl Accepted for TcpStream {
    fn local_address(&self) -> Option<SocketAddr> {
        self.local_addr().ok()
    }

    fn original_destination(&self) -> Option<SocketAddr> {
        sys::socket::original_destination(self)
    }
}

/// What came of an attempt to accept.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// A connection, with its peer.
    Accepted(TcpStream, SocketAddr),
    /// Nothing, and more may wait: the connection was gone before it was accepted, or a signal came.
    Nothing,
    /// Nobody waits.
    Wait,
    /// Descriptors are wanting: no attempt before this moment.
    Pause(Time),
}

/// Whether descriptors are wanting, over all acceptors of an engine, and the reserve descriptor for that case.
///
/// While they are wanting there is one attempt at a time, made with the reserve set free. If the reserve cannot be taken
/// again with the accepted connection there, the connection was one too many and is reset, so that the clients who wait
/// longest hear of it instead of waiting for nothing.
pub(crate) struct Gate {
    starved: AtomicBool,
    state: Mutex<GateState>,
}

struct GateState {
    reserve: Option<File>,
    next_attempt: Time,
}

impl Gate {
    /// A gate with its reserve.
    pub(crate) fn new() -> Gate {
        let state = GateState { reserve: take_reserve(), next_attempt: Time::ZERO };
        Gate { starved: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// Accepts with `accept`, unless it is too early for that.
    pub(crate) fn attempt(
        &self,
        now: Time,
        counts: &AcceptCounts,
        mut accept: impl FnMut() -> io::Result<(TcpStream, SocketAddr)>,
    ) -> Attempt {
        if self.starved.load(Ordering::Relaxed) {
            return self.attempt_starved(now, counts, &mut accept);
        }
        match accept() {
            Ok((stream, peer)) => Attempt::Accepted(stream, peer),
            Err(error) if is_starved(&error) => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if !self.starved.swap(true, Ordering::Relaxed) {
                    counts.pauses.add_shared(1);
                }
                state.pause(now, counts)
            }
            Err(error) => judge(&error),
        }
    }

    fn attempt_starved(
        &self,
        now: Time,
        counts: &AcceptCounts,
        accept: &mut dyn FnMut() -> io::Result<(TcpStream, SocketAddr)>,
    ) -> Attempt {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now < state.next_attempt {
            return Attempt::Pause(state.next_attempt);
        }
        state.reserve = None;
        let accepted = accept();
        state.reserve = take_reserve();
        match accepted {
            Ok((stream, peer)) if state.reserve.is_some() => {
                self.starved.store(false, Ordering::Relaxed);
                Attempt::Accepted(stream, peer)
            }
            Ok((stream, _)) => {
                refuse(stream);
                state.reserve = take_reserve();
                state.pause(now, counts)
            }
            Err(error) if is_starved(&error) => state.pause(now, counts),
            // Whether there are descriptors again will show at the next connection.
            Err(error) => judge(&error),
        }
    }
}

impl GateState {
    fn pause(&mut self, now: Time, counts: &AcceptCounts) -> Attempt {
        counts.attempts_starved.add_shared(1);
        self.next_attempt = now.after_ms(ACCEPT_PAUSE_MS);
        Attempt::Pause(self.next_attempt)
    }
}

fn judge(error: &io::Error) -> Attempt {
    if error.kind() == ErrorKind::WouldBlock { Attempt::Wait } else { Attempt::Nothing }
}

/// Resets a connection that may not stay.
pub(crate) fn refuse(stream: TcpStream) {
    sys::socket::reset_on_close(&stream);
}

fn take_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// True if this process or the system has no descriptor or no memory for one more socket.
fn is_starved(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let wanting = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|code| wanting.contains(&Errno::from_raw(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(connections_max: usize, connections_per_source_max: Option<usize>) -> Admitted {
        Admitted::new(&Options { connections_max, connections_per_source_max, ..Options::default() })
    }

    #[test]
    fn connections_of_this_process_to_itself_take_no_seat() {
        let options = Options {
            connections_max: 1,
            connections_per_source_max: Some(1),
            own_listener: Some(3),
            ..Options::default()
        };
        let admitted = Admitted::new(&options);
        let here: IpAddr = [127, 0, 0, 1].into();
        assert!((0..5).all(|_| admitted.admit(3, here) == Admission::Granted));
        assert_eq!(admitted.admit(0, here), Admission::Granted);
        (0..5).for_each(|_| admitted.forget(3, here));
        assert_eq!(admitted.admit(0, here), Admission::LimitReached);
    }

    fn emfile() -> io::Error {
        io::Error::from_raw_os_error(nix::errno::Errno::EMFILE as i32)
    }

    #[test]
    fn a_source_has_its_share_and_gets_it_back() {
        let admitted = admitted(100, Some(2));
        let (greedy, other): (IpAddr, IpAddr) = ([127, 0, 0, 2].into(), [127, 0, 0, 3].into());
        let admit = |source| admitted.admit(0, source);
        assert_eq!([greedy, greedy, other].map(admit), [Admission::Granted; 3]);
        assert_eq!(admit(greedy), Admission::SourceLimitReached);
        admitted.forget(0, greedy);
        assert_eq!([greedy, greedy].map(admit), [Admission::Granted, Admission::SourceLimitReached]);
        (0..2).for_each(|_| admitted.forget(0, greedy));
        assert_eq!(admitted.per_source.lock().expect("no panic before").len(), 1);
    }

    #[test]
    fn a_connection_that_comes_through_another_host_counts_for_the_source_that_is_named() {
        let options = Options {
            connections_per_source_max: Some(1),
            announced_listeners: vec![7],
            ..Options::default()
        };
        let admitted = Admitted::new(&options);
        let (proxy, client): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [127, 0, 0, 2].into());
        assert!((0..3).all(|_| admitted.admit(7, proxy) == Admission::Granted), "nobody is named yet");
        assert!(admitted.rename(proxy, client) && !admitted.rename(proxy, client));
        admitted.forget(7, client);
        assert!(admitted.rename(proxy, client), "its one place is free again");
        [client, proxy].into_iter().for_each(|source| admitted.forget(7, source));
        assert!(admitted.per_source.lock().expect("no panic before").is_empty());
        assert_eq!(admitted.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn seats_are_taken_once_and_given_back_even_by_those_whose_source_has_none() {
        let admitted = admitted(2, Some(1));
        let (greedy, other): (IpAddr, IpAddr) = ([127, 0, 0, 2].into(), [127, 0, 0, 3].into());
        assert_eq!(admitted.admit(0, greedy), Admission::Granted);
        assert_eq!(admitted.admit(0, greedy), Admission::SourceLimitReached);
        assert_eq!(admitted.admit(0, other), Admission::Granted);
        assert_eq!(admitted.admit(0, [127, 0, 0, 4].into()), Admission::LimitReached);
        admitted.forget(0, other);
        assert_eq!(admitted.admit(0, other), Admission::Granted);
    }

    #[test]
    fn without_a_limit_nothing_is_kept_per_source() {
        let admitted = admitted(100, None);
        let source: IpAddr = "127.0.0.2".parse().expect("an address");
        assert!((0..100).all(|_| admitted.admit(0, source) == Admission::Granted));
        admitted.forget(0, source);
        assert!(admitted.per_source.lock().expect("no panic before").is_empty());
    }

    #[test]
    fn one_shortage_is_one_pause_however_many_attempts_it_takes() {
        let (gate, counts) = (Gate::new(), AcceptCounts::default());
        let at = |ms| Time::from_ms(ms);
        for ms in [0, 100, 200] {
            assert!(matches!(gate.attempt(at(ms), &counts, || Err(emfile())), Attempt::Pause(_)));
            let early = gate.attempt(at(ms + 99), &counts, || panic!("it is too early for an attempt"));
            assert!(matches!(early, Attempt::Pause(next) if next == at(ms + 100)));
        }
        assert_eq!((counts.pauses.value(), counts.attempts_starved.value()), (1, 3));
        assert!(matches!(gate.attempt(at(300), &counts, connection), Attempt::Accepted(..)));
        assert!(matches!(gate.attempt(at(301), &counts, connection), Attempt::Accepted(..)));
        assert!(matches!(gate.attempt(at(302), &counts, || Err(emfile())), Attempt::Pause(_)));
        assert_eq!((counts.pauses.value(), counts.attempts_starved.value()), (2, 4));
    }

    #[test]
    fn what_is_no_shortage_is_no_pause() {
        let (gate, counts) = (Gate::new(), AcceptCounts::default());
        let attempt = |kind: ErrorKind| gate.attempt(Time::ZERO, &counts, || Err(kind.into()));
        assert!(matches!(attempt(ErrorKind::WouldBlock), Attempt::Wait));
        assert!(matches!(attempt(ErrorKind::ConnectionAborted), Attempt::Nothing));
        assert_eq!((counts.pauses.value(), counts.attempts_starved.value()), (0, 0));
    }

    fn connection() -> io::Result<(TcpStream, SocketAddr)> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        Ok((TcpStream::connect(address)?, address))
    }
}
