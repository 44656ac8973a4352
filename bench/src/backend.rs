//! Owns the server behind a gateway under test: its sockets, what waits to be sent and when; what is answered is `answer`'s.
//! One thread, since a second would take a core from what is measured. Bounded: a peer that does not read is not read either.

use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpListener;
use mio::net::TcpStream;

use crate::answer::Answerer;
use crate::answer::BackendCounts;
use crate::answer::Speaks;
use crate::clock::Alarm;
use crate::clock::Clock;
use crate::host::Signals;
use crate::listen::listen;
use crate::trouble::Trouble;
use crate::wire::Inbox;

/// How the backend answers.
#[derive(Clone, Copy, Debug)]
pub struct BackendOptions {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Content of an answer: the request's cut or repeated to so many bytes; as it came when `None`.
    pub reply_bytes: Option<usize>,
    /// How long an answer waits.
    pub delay: Duration,
    /// When to end; not by itself when `None`.
    pub duration: Option<Duration>,
}

/// A listening backend.
#[derive(Debug)]
pub struct Backend {
    options: BackendOptions,
    poll: Poll,
    listener: TcpListener,
    alarm: Alarm,
    clock: Clock,
    signals: Signals,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    /// Tells a peer from one that had its place before.
    accepted: u64,
    delayed: VecDeque<Delayed>,
    delayed_bytes: usize,
    /// Peers whose reading stopped because too much was delayed.
    held: VecDeque<usize>,
    answerer: Answerer,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    serial: u64,
    speaks: Speaks,
    inbox: Inbox,
    out: Vec<u8>,
    written: usize,
}

/// How far reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    /// As far as it should for now.
    All,
    /// The peer must take its answers first.
    UntilFlushed,
}

/// An answer that waits for its time.
#[derive(Debug)]
struct Delayed {
    due_ns: u64,
    index: usize,
    serial: u64,
    bytes: Vec<u8>,
}

impl Backend {
    /// Listens. It takes SIGTERM and SIGINT of this thread.
    pub fn bind(options: BackendOptions) -> Result<Self, Trouble> {
        let poll = Poll::new().map_err(Trouble::doing("opening a poll"))?;
        let mut listener = TcpListener::from_std(listen(options.listen, false)?);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(Trouble::doing("waiting for connections"))?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let signals = Signals::new()?;
        signals.register(poll.registry(), SIGNAL)?;
        Ok(Self {
            options,
            poll,
            listener,
            alarm,
            clock: Clock::start(),
            signals,
            peers: Vec::new(),
            free: Vec::new(),
            accepted: 0,
            delayed: VecDeque::new(),
            delayed_bytes: 0,
            held: VecDeque::new(),
            answerer: Answerer::new(options.reply_bytes),
            read: vec![0; READ_BYTES],
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, Trouble> {
        self.listener.local_addr().map_err(Trouble::doing("asking for the bound address"))
    }

    /// Serves until a signal or the end of its duration.
    pub fn run(mut self) -> Result<BackendCounts, Trouble> {
        let end_ns = self.options.duration.map_or(u64::MAX, |duration| duration.as_nanos() as u64);
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= end_ns {
                return Ok(self.answerer.counts);
            }
            self.answer_delayed(now_ns);
            let next_ns = self.delayed.front().map_or(end_ns, |delayed| delayed.due_ns.min(end_ns));
            if next_ns < u64::MAX {
                self.alarm.set(now_ns, next_ns)?;
            }
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(Trouble::doing("waiting for events"))?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    ALARM => {}
                    SIGNAL => {
                        if self.signals.take() {
                            return Ok(self.answerer.counts);
                        }
                    }
                    Token(index) => {
                        self.flush(index);
                        // Input may be left from when the peer did not take its answers, so room is a reason to read.
                        self.serve(index, event.is_writable() || event.is_read_closed() || event.is_error());
                    }
                }
            }
        }
    }

    fn accept(&mut self) -> Result<(), Trouble> {
        loop {
            let (mut stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(Trouble::doing("accepting a connection")(error)),
            };
            let index = self.free.pop().unwrap_or(self.peers.len());
            if index == self.peers.len() {
                self.peers.push(None);
            }
            // Only latency suffers without it, so a peer that is gone already is no error here.
            let _ = stream.set_nodelay(true);
            self.poll
                .registry()
                .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                .map_err(Trouble::doing("waiting for a connection"))?;
            self.accepted += 1;
            self.answerer.counts.connections += 1;
            self.peers[index] = Some(Peer {
                stream,
                serial: self.accepted,
                speaks: Speaks::Unknown,
                inbox: Inbox::default(),
                out: Vec::new(),
                written: 0,
            });
        }
    }

    /// Answers what a peer sent, as long as it takes the answers. `exhaust` reads until nothing is left; otherwise a short
    /// read ends it, since what arrives later makes an event of its own.
    fn serve(&mut self, index: usize, exhaust: bool) {
        while self.receive(index, exhaust) == Received::UntilFlushed && self.flush(index) {}
        self.flush(index);
    }

    fn receive(&mut self, index: usize, exhaust: bool) -> Received {
        loop {
            let Some(Some(peer)) = self.peers.get_mut(index) else { return Received::All };
            if peer.out.len() - peer.written > OUT_BYTES_MAX {
                return Received::UntilFlushed;
            }
            if self.delayed_bytes > DELAYED_BYTES_MAX {
                self.held.push_back(index);
                return Received::All;
            }
            match peer.stream.read(&mut self.read) {
                Ok(count) => {
                    if count == 0 || !self.take(index, count) {
                        self.close(index);
                    }
                    if count < self.read.len() && !exhaust {
                        return Received::All;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.close(index);
                    }
                    return Received::All;
                }
            }
        }
    }

    /// Answers what was read; false when it cannot be read.
    fn take(&mut self, index: usize, count: usize) -> bool {
        let Some(Some(peer)) = self.peers.get_mut(index) else { return false };
        let Peer { inbox, out, serial, speaks, .. } = peer;
        let due_ns = self.clock.now_ns() + self.options.delay.as_nanos() as u64;
        let delays = !self.options.delay.is_zero();
        let (answerer, delayed, delayed_bytes) =
            (&mut self.answerer, &mut self.delayed, &mut self.delayed_bytes);
        let fed = inbox.feed_steps(&self.read[..count], |rest| {
            if !delays {
                return answerer.step(speaks, rest, out);
            }
            let mut bytes = Vec::new();
            let step = answerer.step(speaks, rest, &mut bytes)?;
            if !bytes.is_empty() {
                *delayed_bytes += bytes.len();
                delayed.push_back(Delayed { due_ns, index, serial: *serial, bytes });
            }
            Ok(step)
        });
        self.answerer.counts.faults += u64::from(fed.is_err());
        fed.is_ok()
    }

    fn answer_delayed(&mut self, now_ns: u64) {
        while self.delayed.front().is_some_and(|delayed| delayed.due_ns <= now_ns) {
            let Some(Delayed { index, serial, bytes, .. }) = self.delayed.pop_front() else { return };
            self.delayed_bytes -= bytes.len();
            let Some(Some(peer)) = self.peers.get_mut(index) else { continue };
            if peer.serial == serial {
                peer.out.extend_from_slice(&bytes);
                self.flush(index);
            }
        }
        if self.delayed_bytes <= DELAYED_BYTES_MAX {
            for index in std::mem::take(&mut self.held) {
                self.serve(index, true);
            }
        }
    }

    /// Writes what the peer takes; true when that was all.
    fn flush(&mut self, index: usize) -> bool {
        let Some(Some(peer)) = self.peers.get_mut(index) else { return true };
        while peer.written < peer.out.len() {
            match peer.stream.write(&peer.out[peer.written..]) {
                Ok(count) => peer.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.close(index);
                    }
                    return false;
                }
            }
        }
        peer.out.clear();
        peer.written = 0;
        if peer.out.capacity() > OUT_BYTES_KEPT {
            peer.out = Vec::new();
        }
        true
    }

    fn close(&mut self, index: usize) {
        if self.peers[index].take().is_some() {
            self.free.push(index);
        }
    }
}

const LISTENER: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);
const SIGNAL: Token = Token(usize::MAX - 2);
const EVENTS_MAX: usize = 1_024;
const READ_BYTES: usize = 256 << 10;
const OUT_BYTES_MAX: usize = 4 << 20;
const OUT_BYTES_KEPT: usize = 512 << 10;
const DELAYED_BYTES_MAX: usize = 256 << 20;
