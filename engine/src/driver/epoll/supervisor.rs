//! The control loop of the raw mode: the shared listeners, and what has to be looked at once in a while.
//!
//! One thread with a `mio` poll. It accepts for `--accept shared` and places newcomers by load, counts stranded
//! connections (the watchdog), and gives memory back. It runs no machine.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use crate::driver::epoll::acceptor::{AcceptEnd, Acceptor};
use crate::driver::epoll::hub::Hub;
use crate::driver::epoll::watchdog::Watchdog;
use crate::driver::tide::Tide;
use crate::machine::Application;
use crate::sys::memory;
use crate::time::Time;

/// How often connections and memory are looked at, in milliseconds.
const LOOK_MS: u64 = 1_000;
/// Looks without connections going before memory is given back: free slots are kept for ten of them.
const STILL_LOOKS: u32 = 12;
/// The waker's token; listeners have theirs by position.
const WAKE: Token = Token(usize::MAX);

/// The control loop.
pub(crate) struct Supervisor<A: Application> {
    hub: Arc<Hub<A>>,
    poll: Poll,
    acceptors: Vec<Option<Acceptor>>,
    /// Listeners that may have somebody waiting: `mio` reports a change, not a state.
    ready: Vec<bool>,
    watchdog: Watchdog,
    tide: Tide,
    /// The last look found that many connections had gone.
    has_ebbed: bool,
}

impl<A: Application> Supervisor<A> {
    /// A control loop that accepts from `acceptors`; the waker ends its wait.
    pub(crate) fn new(hub: Arc<Hub<A>>, acceptors: Vec<Acceptor>) -> io::Result<(Supervisor<A>, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let mut acceptors: Vec<_> = acceptors.into_iter().map(Some).collect();
        for (at, acceptor) in acceptors.iter_mut().enumerate() {
            let listener = &mut acceptor.as_mut().expect("just made").listener;
            poll.registry().register(listener, Token(at), Interest::READABLE)?;
        }
        let ready = vec![false; acceptors.len()];
        Ok((
            Supervisor {
                hub,
                poll,
                acceptors,
                ready,
                watchdog: Watchdog::default(),
                tide: Tide::new(STILL_LOOKS),
                has_ebbed: false,
            },
            waker,
        ))
    }

    /// Runs until the engine ends.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut look_at = self.hub.clock.now().after_ms(LOOK_MS);
        while !self.hub.ended.load(Ordering::SeqCst) {
            let now = self.hub.clock.now();
            let wait_ms = if self.may_accept(now) { 0 } else { self.next_wake(look_at).ms_since(now) };
            match self.poll.poll(&mut events, Some(Duration::from_millis(wait_ms))) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => panic!("the control loop cannot wait: {error}"),
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.ready[event.token().0] = true;
            }
            let now = self.hub.clock.now();
            self.accept(now);
            if now >= look_at {
                look_at = now.after_ms(LOOK_MS);
                self.look(now);
            }
        }
    }

    fn may_accept(&self, now: Time) -> bool {
        let ready = self.acceptors.iter().zip(&self.ready).filter(|(_, ready)| **ready);
        ready.filter_map(|(acceptor, _)| acceptor.as_ref()).any(|acceptor| {
            acceptor.paused_until.is_none_or(|until| until <= now) || self.hub.is_closing(acceptor.number)
        })
    }

    fn next_wake(&self, look_at: Time) -> Time {
        let pauses = self.acceptors.iter().flatten().filter_map(|acceptor| acceptor.paused_until);
        pauses.fold(look_at, Time::min)
    }

    fn accept(&mut self, now: Time) {
        let hub = &*self.hub;
        for (place, ready) in self.acceptors.iter_mut().zip(&mut self.ready) {
            let Some(acceptor) = place else { continue };
            let closing = hub.is_closing(acceptor.number);
            if !*ready && !closing {
                continue;
            }
            let mut accept = || {
                let (home, inject) =
                    (&mut || hub.emptiest_reactor(), &mut |home, slot| hub.inject(home, slot));
                acceptor.accept(hub, now, home, inject)
            };
            let mut end = accept();
            // What is queued at a listener that is to be closed has been promised a connection (O12).
            while closing && end == AcceptEnd::Budget {
                end = accept();
            }
            *ready = end != AcceptEnd::Drained;
            if closing {
                (*place, *ready) = (None, false);
            }
        }
    }

    /// What is looked at once a second: stranded connections, memory to give back.
    fn look(&mut self, now: Time) {
        let stranded = self.watchdog.look(&self.hub.table);
        self.hub.stranded.set(stranded as u64);
        self.hub.pool.trim();
        for slot in self.hub.table.trim(now) {
            self.hub.inject(slot as usize % self.hub.reactors.len(), slot);
        }
        // By now workers have freed theirs.
        if std::mem::take(&mut self.has_ebbed) {
            self.hub.pool.clear();
            memory::empty_thread_cache();
            memory::give_back();
        }
        if self.tide.is_out(self.hub.table.live()) {
            self.hub.ebb();
            // What those who went have left; it goes before others come between.
            memory::empty_thread_cache();
            memory::give_back();
            self.has_ebbed = true;
        }
        memory::look();
    }
}
