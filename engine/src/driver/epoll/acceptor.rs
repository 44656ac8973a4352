//! Accepts connections: limits, the pause when descriptors run out, and the slot of each newcomer.
//!
//! One value per listening socket, used by one thread: the leader of a reactor or the supervisor. Everything over a limit
//! is accepted, reset and counted, so that no peer waits in the backlog for nothing. It runs no machine: whoever calls it
//! queues what it hands out.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};

use mio::net::TcpListener;
use nix::errno::Errno;

use crate::driver::core::Core;
use crate::driver::epoll::hub::{Hub, Own};
use crate::machine::Application;
use crate::options::SocketOptions;
use crate::slot::table::Newcomer;
use crate::slot::word::Causes;
use crate::sys::socket;
use crate::time::Time;

/// Connections that one wake-up accepts; more wait until the other work has had its turn.
const ACCEPT_BUDGET: usize = 64;
/// How long accepting pauses when descriptors have run out, in milliseconds: ten attempts a second.
const PAUSE_MS: u64 = 100;

/// A listening socket and what accepting needs.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    /// Its position among the listeners of the engine.
    pub(crate) number: u16,
    /// Given up to accept, and reset, one connection when descriptors have run out.
    reserve: Option<File>,
    /// Accepting pauses until then.
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
        Ok(Acceptor { listener, number, reserve: reserve(), paused_until: None })
    }

    /// Accepts what waits, up to a budget; `place` says whose home a newcomer is, `queue` gets its slot.
    pub(crate) fn accept<A: Application>(
        &mut self,
        hub: &Hub<A>,
        now: Time,
        place: &mut dyn FnMut() -> usize,
        queue: &mut dyn FnMut(usize, u32),
    ) -> AcceptEnd {
        if self.paused_until.is_some_and(|until| now < until) {
            return AcceptEnd::Paused;
        }
        if self.paused_until.take().is_some() {
            hub.counts.accept_attempts_starved.add_shared(1);
        }
        for _ in 0..ACCEPT_BUDGET {
            match self.listener.accept() {
                Ok((stream, peer)) => admit(stream.into(), peer, self.number, hub, place(), queue),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return AcceptEnd::Drained,
                Err(error) if is_starved(&error) => return self.pause(hub, now),
                // The peer is gone again (ECONNABORTED) or the call was interrupted: the next one may be fine.
                Err(_) => {}
            }
        }
        AcceptEnd::Budget
    }

    /// Resets one waiting connection by means of the reserve, and pauses.
    fn pause<A: Application>(&mut self, hub: &Hub<A>, now: Time) -> AcceptEnd {
        hub.counts.accept_pauses.add_shared(1);
        drop(self.reserve.take());
        if let Ok((stream, _)) = self.listener.accept() {
            socket::reset_on_close(&stream.into());
        }
        self.reserve = reserve();
        self.paused_until = Some(now.after_ms(PAUSE_MS));
        AcceptEnd::Paused
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_starved(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
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
    hub.counts.accepted.add_shared(1);
    if hub.is_stopping() {
        return socket::reset_on_close(&stream);
    }
    if !hub.admit_source(peer.ip()) {
        hub.counts.refused_source.add_shared(1);
        return socket::reset_on_close(&stream);
    }
    let own = Own { stream: Some(stream), ..Own::new(Core::accepted()) };
    match hub.table.claim(hub.clock.now(), Newcomer { own, home, peer: Some(peer), listener: number }) {
        Ok((held, _)) => {
            hub.note_home(home, 1);
            queue(home, hub.table.requeue(held, Causes::AGAIN));
        }
        Err(newcomer) => {
            hub.counts.refused_limit.add_shared(1);
            hub.forget_source(peer.ip());
            newcomer.own.stream.as_ref().into_iter().for_each(socket::reset_on_close);
        }
    }
}
