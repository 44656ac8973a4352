//! Accepting under tokio: one task per listening socket, on the worker that has it.
//!
//! It takes connections in, refuses what is over a limit with a reset, claims slots and hands them to the worker that
//! will run them. It pauses while descriptors are wanting. It calls no machine. Started by the worker.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::hub::{Hub, Order, Own};
use super::stop::Stop;
use super::worker::Worker;
use crate::driver::admission::{ACCEPT_BUDGET, Admission, Attempt, refuse};
use crate::driver::core::Core;
use crate::machine::Application;
use crate::options::Accept;
use crate::slot::table::Newcomer;

/// A listening socket: while there is one, connections may still come.
pub(crate) struct Listener<A: Application> {
    hub: Arc<Hub<A>>,
    number: u16,
    socket: Option<TcpListener>,
}

impl<A: Application> Listener<A> {
    /// Listener `number` of the engine, on a socket that listens already and does not block.
    pub(crate) fn new(hub: &Arc<Hub<A>>, number: u16, socket: TcpListener) -> Listener<A> {
        hub.acceptors.fetch_add(1, Ordering::Relaxed);
        Listener { hub: Arc::clone(hub), number, socket: Some(socket) }
    }
}

impl<A: Application> Drop for Listener<A> {
    fn drop(&mut self) {
        self.hub.acceptors.fetch_sub(1, Ordering::Release);
        self.hub.seats.iter().for_each(|seat| seat.wake());
    }
}

/// Starts to accept on this worker.
pub(crate) fn start<A: Application>(worker: &Rc<Worker<A>>, mut listener: Listener<A>) -> io::Result<()> {
    let socket = listener.socket.take().expect("a listener is started once");
    let mut acceptor = Acceptor {
        worker: Rc::clone(worker),
        socket: Socket::Watched(tokio::net::TcpListener::from_std(socket)?),
        pause: None,
        stop: worker.stops.add(listener.number),
        listener,
    };
    drop(tokio::task::spawn_local(async move { poll_fn(|context| acceptor.run(context)).await }));
    Ok(())
}

struct Acceptor<A: Application> {
    worker: Rc<Worker<A>>,
    /// Dropped before `listener`: only what is closed brings nothing.
    socket: Socket,
    listener: Listener<A>,
    pause: Option<Pin<Box<Sleep>>>,
    stop: Rc<Stop>,
}

enum Socket {
    /// The runtime says when somebody waits.
    Watched(tokio::net::TcpListener),
    /// What waits is accepted, and then it is closed.
    Draining(TcpListener),
    Closed,
}

impl Socket {
    fn accept(&self, context: &mut Context<'_>) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Socket::Watched(listener) => match listener.poll_accept(context) {
                // The worker that will run it takes it into its own runtime.
                Poll::Ready(accepted) => accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))),
                Poll::Pending => Err(ErrorKind::WouldBlock.into()),
            },
            Socket::Draining(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((stream, peer))
            }
            Socket::Closed => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Waits for nobody any more.
    fn drain(&mut self) {
        *self = match std::mem::replace(self, Socket::Closed) {
            Socket::Watched(listener) => listener.into_std().map_or(Socket::Closed, Socket::Draining),
            other => other,
        };
    }
}

impl<A: Application> Acceptor<A> {
    fn run(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let stopping = self.stop.is_wanted(context.waker());
        if stopping {
            self.socket.drain();
        } else if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        for _ in 0..ACCEPT_BUDGET {
            if self.worker.hub.is_stopping() {
                return Poll::Ready(());
            }
            let (hub, socket) = (&self.worker.hub, &self.socket);
            let now = hub.clock.now();
            match hub.gate.attempt(now, &hub.accepting, || socket.accept(context)) {
                Attempt::Accepted(stream, peer) => self.admit(stream, peer),
                Attempt::Nothing => {}
                Attempt::Wait | Attempt::Pause(_) if stopping => return Poll::Ready(()),
                Attempt::Wait => return Poll::Pending,
                Attempt::Pause(until) => {
                    self.pause = Some(Box::pin(sleep(Duration::from_millis(until.ms_since(now)))));
                    break;
                }
            }
        }
        // What waits has its turn again after the connections that there are; a pause begins with being looked at.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes a connection in, or resets it at a limit.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let hub = &self.worker.hub;
        let admission = hub.admitted.admit(self.listener.number, peer.ip());
        if admission != Admission::Granted {
            hub.accepting.refuse(admission);
            return refuse(stream);
        }
        let home = self.home();
        let own = Own { core: Core::accepted(), accepted: Some(stream) };
        let newcomer = Newcomer { own, home, peer: Some(peer), listener: self.listener.number };
        // Counted while its slot is held, so before its machine runs.
        match hub.claim(newcomer, |_| hub.accepting.accepted.add_shared(1)) {
            Ok(address) if home == self.worker.number => self.worker.spawn(address),
            Ok(address) => hub.seats[home].order(Order::Run(address)),
            Err(mut newcomer) => {
                hub.accepting.refuse(Admission::LimitReached);
                hub.admitted.forget(self.listener.number, peer.ip());
                if let Some(stream) = newcomer.own.accepted.take() {
                    refuse(stream);
                }
            }
        }
    }

    fn home(&self) -> usize {
        let hub: &Hub<A> = &self.worker.hub;
        match hub.options.accept {
            Accept::Shared => hub.emptiest_seat(),
            Accept::Reuseport => self.worker.number,
        }
    }
}
