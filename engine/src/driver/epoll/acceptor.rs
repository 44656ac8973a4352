//! Accepts connections and gives each newcomer its slot, or resets it.
//!
//! One value per listening socket, used by one thread: the leader of a reactor or the supervisor. Who may come in, and what
//! a lack of descriptors does, is the business of `admission`. It runs no machine: whoever calls it queues what it hands
//! out.

use std::io;
use std::net::{SocketAddr, TcpStream};

use mio::net::TcpListener;

use crate::driver::admission::{ACCEPT_BUDGET, Admission, Attempt, refuse};
use crate::driver::core::Core;
use crate::driver::epoll::hub::{Hub, Own};
use crate::machine::Application;
use crate::options::SocketOptions;
use crate::slot::table::Newcomer;
use crate::slot::word::Causes;
use crate::sys::socket;
use crate::time::Time;

/// A listening socket.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    /// Its position among the listeners of the engine.
    pub(crate) number: u16,
    /// Accepting pauses until then, for want of descriptors.
    pub(crate) paused_until: Option<Time>,
}

/// How a round of accepting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptEnd {
    /// Nobody waits.
    Drained,
    /// Somebody may still wait.
    Budget,
    /// Descriptors have run out: nothing is accepted until [`Acceptor::paused_until`].
    Paused,
}

impl Acceptor {
    /// Binds a listening socket.
    pub(crate) fn bind(
        address: SocketAddr,
        number: u16,
        reuse_port: bool,
        options: &SocketOptions,
    ) -> io::Result<Acceptor> {
        let listener = TcpListener::from_std(socket::listen(address, reuse_port, options)?);
        Ok(Acceptor { listener, number, paused_until: None })
    }

    /// Accepts what waits, up to a budget; `place` says whose home a newcomer is, `queue` gets its slot.
    pub(crate) fn accept<A: Application>(
        &mut self,
        hub: &Hub<A>,
        now: Time,
        place: &mut dyn FnMut() -> usize,
        queue: &mut dyn FnMut(usize, u32),
    ) -> AcceptEnd {
        self.paused_until = None;
        for _ in 0..ACCEPT_BUDGET {
            let accept = || self.listener.accept().map(|(stream, peer)| (stream.into(), peer));
            match hub.gate.attempt(now, &hub.accepts, accept) {
                Attempt::Accepted(stream, peer) => admit(stream, peer, self.number, hub, place(), queue),
                Attempt::Nothing => {}
                Attempt::Wait => return AcceptEnd::Drained,
                Attempt::Pause(until) => {
                    self.paused_until = Some(until);
                    return AcceptEnd::Paused;
                }
            }
        }
        AcceptEnd::Budget
    }
}

/// Gives an accepted socket its slot, or resets it.
fn admit<A: Application>(
    stream: TcpStream,
    peer: SocketAddr,
    number: u16,
    hub: &Hub<A>,
    home: usize,
    queue: &mut dyn FnMut(usize, u32),
) {
    if hub.is_stopping() {
        return refuse(stream);
    }
    let admission = hub.admitted.admit(number, peer.ip());
    if admission != Admission::Granted {
        hub.accepts.refuse(admission);
        return refuse(stream);
    }
    let own = Own { stream: Some(stream), ..Own::new(Core::accepted()) };
    match hub.table.claim(hub.clock.now(), Newcomer { own, home, peer: Some(peer), listener: number }) {
        Ok((held, _)) => {
            hub.accepts.accepted.add_shared(1);
            hub.note_home(home, 1);
            queue(home, hub.table.requeue(held, Causes::AGAIN));
        }
        Err(newcomer) => {
            hub.accepts.refuse(Admission::LimitReached);
            hub.admitted.forget(number, peer.ip());
            newcomer.own.stream.into_iter().for_each(refuse);
        }
    }
}
