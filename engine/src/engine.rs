//! The front of the engine: starts a driver, and hands out what the rest of the process may ask of it.
//!
//! It binds nothing and runs nothing itself; which driver does is [`Options::mode`]. Called by the gateway's start, by
//! tests and by the bench.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::driver::control::Control;
use crate::machine::{Address, Application};
use crate::options::{Mode, Options};
use crate::stats::Stats;
use crate::time::Time;

pub use crate::driver::control::{ConnectionInfo, StartError};

/// A running engine. Dropping it resets every connection and waits for every thread.
pub struct Engine<A: Application> {
    handle: Handle<A>,
    addresses: Vec<SocketAddr>,
}

impl<A: Application> Engine<A> {
    /// Binds `listen` (port 0 takes a free one) and starts every thread there will ever be. The position of an address
    /// is the listener number that [`Application::accept`] gets.
    pub fn start(app: Arc<A>, options: Options, listen: &[SocketAddr]) -> Result<Engine<A>, StartError> {
        let (control, addresses) = match options.mode {
            Mode::Raw(_) => crate::driver::epoll::start(app, options, listen)?,
            Mode::Tokio => crate::driver::tokio::start(app, options, listen)?,
        };
        Ok(Engine { handle: Handle(control), addresses })
    }

    /// Where the listeners are bound, in the order given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What other threads use; it may outlive the engine, and then has nothing to show.
    pub fn handle(&self) -> Handle<A> {
        self.handle.clone()
    }
}

impl<A: Application> Drop for Engine<A> {
    fn drop(&mut self) {
        self.handle.0.end();
    }
}

/// Asks things of a running engine, from any thread.
pub struct Handle<A: Application>(Arc<dyn Control<A>>);

impl<A: Application> Clone for Handle<A> {
    fn clone(&self) -> Handle<A> {
        Handle(Arc::clone(&self.0))
    }
}

impl<A: Application> fmt::Debug for Handle<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<A: Application> Handle<A> {
    /// The moment by the engine's clock.
    pub fn now(&self) -> Time {
        self.0.now()
    }

    /// What the engine has done and holds.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Hands every connection to `each` without stopping any.
    pub fn for_each(&self, mut each: impl FnMut(ConnectionInfo)) {
        self.0.for_each(&mut each);
    }

    /// Sends mail from [`Address::OUTSIDE`]. Gives it back if the address never named a connection; mail to one that is
    /// gone goes to [`Application::orphaned`].
    pub fn post(&self, to: Address, mail: A::Mail) -> Result<(), A::Mail> {
        self.0.post(to, mail)
    }

    /// Sends mail to every connection there is now.
    pub fn post_each(&self, mut mail: impl FnMut(&ConnectionInfo) -> Option<A::Mail>) {
        let mut letters = Vec::new();
        self.for_each(|info| letters.extend(mail(&info).map(|mail| (info.address, mail))));
        for (to, mail) in letters {
            // A connection that is gone by now needs no mail.
            drop(self.post(to, mail));
        }
    }

    /// Accepts what already waits at a listener, then closes it.
    pub fn stop_accepting(&self, listener: u16) {
        self.0.stop_accepting(listener);
    }
}
