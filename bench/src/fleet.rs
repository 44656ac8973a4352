//! Owns the client connections of one process and the loop that drives them: opens them, sends by a [`Pace`], hands every
//! answer to the verifier, notices what is lost. One thread, bounded in connections, bytes and time. Refuses to decide how
//! long: `load` and `scenario` do.

use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::event::Event;
use mio::net::TcpStream;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::Domain;

use socket2::Socket;
use socket2::Type;

use crate::clock::Alarm;
use crate::clock::Clock;
use crate::host::Signals;
use crate::http;
use crate::http::Unreadable;
use crate::ledger::Ledger;
use crate::pace::Pace;
use crate::pace::Schedule;
use crate::pace::Share;
use crate::trouble::Trouble;
use crate::verify::Verifier;
use crate::websocket;
use crate::wire::Inbox;
use crate::wire::Protocol;
use crate::wire::Shape;
use crate::wire::Step;

/// Which connections a fleet has.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Where to.
    pub to: SocketAddr,
    /// From where, in turn; the system chooses when empty.
    pub sources: Vec<IpAddr>,
    /// The numbers of the connections: unique in the whole run, since contents depend on them.
    pub numbers: Range<usize>,
}

/// The connections of one process.
#[derive(Debug)]
pub struct Fleet {
    options: FleetOptions,
    poll: Poll,
    events: Events,
    alarm: Alarm,
    clock: Clock,
    signals: Signals,
    /// Judges, and counts.
    pub verifier: Verifier,
    connections: Vec<Connection>,
    next_to_open: usize,
    opening: usize,
    outstanding: usize,
    unwritten_bytes: usize,
    dirty: VecDeque<usize>,
    interrupted: bool,
    heartbeats: Option<Heartbeats>,
    read: Vec<u8>,
    content: Vec<u8>,
}

/// Heartbeats beside the requests: evenly spread, each connection in turn.
#[derive(Debug)]
struct Heartbeats {
    schedule: Schedule,
    turn: usize,
}

#[derive(Debug)]
struct Connection {
    stream: Option<TcpStream>,
    open: bool,
    /// Connected, and waits to be welcomed before it counts as open.
    greeting: bool,
    dirty: bool,
    ledger: Ledger,
    inbox: Inbox,
    out: Vec<u8>,
    written: usize,
}

impl Connection {
    fn new() -> Self {
        Self {
            stream: None,
            open: false,
            greeting: false,
            dirty: false,
            ledger: Ledger::starting_at(FIRST_ID),
            inbox: Inbox::default(),
            out: Vec::new(),
            written: 0,
        }
    }
}

impl Fleet {
    /// A fleet with nothing open yet. It takes SIGTERM and SIGINT of this thread.
    pub fn new(options: FleetOptions, shape: Shape) -> Result<Self, Trouble> {
        let poll = Poll::new().map_err(Trouble::doing("opening a poll"))?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let signals = Signals::new()?;
        signals.register(poll.registry(), SIGNAL)?;
        let connections = options.numbers.clone().map(|_| Connection::new()).collect();
        Ok(Self {
            options,
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            alarm,
            clock: Clock::start(),
            signals,
            verifier: Verifier::new(shape),
            connections,
            next_to_open: 0,
            opening: 0,
            outstanding: 0,
            unwritten_bytes: 0,
            dirty: VecDeque::new(),
            interrupted: false,
            heartbeats: None,
            read: vec![0; READ_BYTES],
            content: Vec::new(),
        })
    }

    /// The time on the fleet's clock.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// From now on every connection sends a heartbeat each `every`, until the fleet is drained.
    pub fn send_heartbeats(&mut self, every: Duration) {
        let rate = self.connections.len() as f64 / every.as_secs_f64();
        if rate > 0.0 && rate.is_finite() {
            self.heartbeats =
                Some(Heartbeats { schedule: Schedule::new(self.now_ns(), rate, Share::WHOLE), turn: 0 });
        }
    }

    /// The own address of each connection, `None` for one that is gone.
    pub fn local_addresses(&self) -> Vec<Option<SocketAddr>> {
        let local = |connection: &Connection| connection.stream.as_ref()?.local_addr().ok();
        self.connections.iter().map(local).collect()
    }

    /// Whether SIGTERM or SIGINT came.
    pub fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// Opens all connections; those that fail are counted.
    pub fn connect(&mut self) -> Result<(), Trouble> {
        let deadline_ns = self.now_ns() + CONNECT_NS_MAX;
        while self.next_to_open < self.connections.len() || self.opening > 0 {
            if self.interrupted {
                return Err(Trouble::Interrupted);
            }
            if self.now_ns() >= deadline_ns {
                return Err(Trouble::Broken(format!(
                    "{} of {} connections to {} opened in {} s",
                    self.next_to_open - self.opening,
                    self.connections.len(),
                    self.options.to,
                    CONNECT_NS_MAX / 1_000_000_000
                )));
            }
            while self.next_to_open < self.connections.len() && self.opening < OPENING_MAX {
                self.start_connecting(self.next_to_open)?;
                self.next_to_open += 1;
            }
            self.turn(&mut Pace::Rest, deadline_ns)?;
        }
        if self.connections.iter().all(|connection| !connection.open) {
            return Err(Trouble::Broken(format!("no connection to {} could be opened", self.options.to)));
        }
        Ok(())
    }

    fn start_connecting(&mut self, index: usize) -> Result<(), Trouble> {
        let mut stream = match self.connecting_stream(index) {
            Ok(stream) => stream,
            // Descriptors and ports are ours to have enough of; a refusal is the peer's.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.verifier.tally.connect_failures += 1;
                return Ok(());
            }
            Err(error) => return Err(Trouble::doing(format!("connecting to {}", self.options.to))(error)),
        };
        self.poll
            .registry()
            .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
            .map_err(Trouble::doing("waiting for a connection"))?;
        self.connections[index].stream = Some(stream);
        self.opening += 1;
        Ok(())
    }

    fn connecting_stream(&self, index: usize) -> io::Result<TcpStream> {
        let socket =
            Socket::new(Domain::for_address(self.options.to), Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if !self.options.sources.is_empty() {
            let source = self.options.sources[index % self.options.sources.len()];
            // The port is chosen when the destination is known, or a source would have 28,000 for all destinations.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&self.options.to.into()) {
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => Err(error),
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }

    /// Sends one request on every connection and waits for all answers, or for `deadline_ns`.
    pub fn once_each(&mut self, deadline_ns: u64) -> Result<(), Trouble> {
        let in_flight_max = match self.verifier.shape().protocol() {
            Protocol::Http => EACH_HTTP_IN_FLIGHT_MAX,
            Protocol::Bolt | Protocol::Websocket => EACH_IN_FLIGHT_MAX,
        };
        let mut pace = Pace::Each { next: 0, in_flight_max };
        self.keep(&mut pace, deadline_ns)
    }

    /// Keeps sending until then, or until the pace has nothing left and all is answered.
    pub fn keep(&mut self, pace: &mut Pace, until_ns: u64) -> Result<(), Trouble> {
        if let Pace::Closed { .. } = pace {
            for index in 0..self.connections.len() {
                self.refill(index, pace)?;
            }
        }
        while self.now_ns() < until_ns && !self.interrupted && !(self.is_done(pace) && self.outstanding == 0)
        {
            self.turn(pace, until_ns)?;
        }
        Ok(())
    }

    fn is_done(&self, pace: &Pace) -> bool {
        match pace {
            Pace::Rest => true,
            Pace::Closed { left, .. } => *left == Some(0),
            Pace::Open { .. } => false,
            Pace::Each { next, .. } => *next == self.connections.len(),
        }
    }

    /// Sends no more and waits for what is outstanding; what has not come after `grace` is lost. Listens a little longer
    /// than needed, so that second answers are heard.
    pub fn drain(&mut self, grace: Duration) -> Result<(), Trouble> {
        self.heartbeats = None;
        let deadline_ns = self.now_ns() + grace.as_nanos() as u64;
        let mut heard = self.outstanding == 0;
        let mut until_ns = if heard { self.now_ns() + LINGER_NS } else { deadline_ns };
        while self.now_ns() < until_ns {
            self.turn(&mut Pace::Rest, until_ns)?;
            if !heard && self.outstanding == 0 {
                heard = true;
                until_ns = deadline_ns.min(self.now_ns() + LINGER_NS);
            }
        }
        for connection in &mut self.connections {
            self.verifier.tally.lost += connection.ledger.give_up() as u64;
            self.verifier.tally.lost += u64::from(connection.ledger.give_up_heartbeat());
        }
        self.outstanding = 0;
        Ok(())
    }

    /// One round of the loop: what is due goes out, then events are waited for until `until_ns` at most.
    fn turn(&mut self, pace: &mut Pace, until_ns: u64) -> Result<(), Trouble> {
        self.send_due(pace);
        self.send_due_heartbeats();
        while let Some(index) = self.dirty.pop_front() {
            self.connections[index].dirty = false;
            self.flush(index);
        }
        let now_ns = self.now_ns();
        let heartbeat_ns = self.heartbeats.as_ref().map(|heartbeats| heartbeats.schedule.next_ns());
        let next_ns = [pace.next_ns(), heartbeat_ns].into_iter().flatten().fold(until_ns, u64::min);
        self.alarm.set(now_ns, next_ns)?;
        match self.poll.poll(&mut self.events, Some(POLL_MAX)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other.map_err(Trouble::doing("waiting for events"))?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                ALARM => {}
                SIGNAL => self.interrupted |= self.signals.take(),
                Token(index) => self.on_event(index, event, pace)?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn send_due(&mut self, pace: &mut Pace) {
        let now_ns = self.now_ns();
        match pace {
            Pace::Open { schedule, picks } => {
                while let Some(intended_ns) = schedule.take_due(now_ns) {
                    if let Some(index) = picks.take() {
                        self.send(index, intended_ns);
                    }
                }
            }
            Pace::Each { next, in_flight_max } => {
                while *next < self.connections.len() && self.outstanding < *in_flight_max {
                    self.send(*next, now_ns);
                    *next += 1;
                }
            }
            Pace::Rest | Pace::Closed { .. } => {}
        }
    }

    /// A connection whose last heartbeat still waits sends none, and is not counted as silent: the one that waits is.
    fn send_due_heartbeats(&mut self) {
        let now_ns = self.now_ns();
        let Some(mut heartbeats) = self.heartbeats.take() else { return };
        while heartbeats.schedule.take_due(now_ns).is_some() {
            let index = heartbeats.turn;
            heartbeats.turn = (index + 1) % self.connections.len();
            self.send_heartbeat(index);
        }
        self.heartbeats = Some(heartbeats);
    }

    fn send_heartbeat(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.open || self.unwritten_bytes > UNWRITTEN_BYTES_MAX {
            return;
        }
        let Some(id) = connection.ledger.send_heartbeat() else { return };
        let before = connection.out.len();
        self.verifier.shape().append_heartbeat(id, &mut connection.out);
        self.unwritten_bytes += connection.out.len() - before;
        self.verifier.tally.heartbeats_sent += 1;
        self.note_dirty(index);
    }

    fn note_dirty(&mut self, index: usize) {
        if !std::mem::replace(&mut self.connections[index].dirty, true) {
            self.dirty.push_back(index);
        }
    }

    /// In a closed loop, gives a connection as many requests as it may have in flight.
    fn refill(&mut self, index: usize, pace: &mut Pace) -> Result<(), Trouble> {
        let Pace::Closed { in_flight, left } = pace else { return Ok(()) };
        let now_ns = self.now_ns();
        while self.connections[index].open && self.connections[index].ledger.open() < *in_flight {
            match left {
                Some(0) => break,
                Some(left) => *left -= 1,
                None => {}
            }
            if !self.send(index, now_ns) {
                break;
            }
        }
        Ok(())
    }

    /// Queues one request; counts it as unsent when the connection is gone or the peer does not take what is queued.
    fn send(&mut self, index: usize, intended_ns: u64) -> bool {
        let connection = &mut self.connections[index];
        if !connection.open || !connection.ledger.has_room() || self.unwritten_bytes > UNWRITTEN_BYTES_MAX {
            self.verifier.tally.unsent += 1;
            return false;
        }
        let number = (self.options.numbers.start + index) as u64;
        let id = connection.ledger.send(intended_ns);
        let before = connection.out.len();
        self.verifier.shape().append_request(number, id, &mut self.content, &mut connection.out);
        self.unwritten_bytes += connection.out.len() - before;
        self.outstanding += 1;
        self.verifier.tally.sent += 1;
        self.note_dirty(index);
        true
    }

    fn on_event(&mut self, index: usize, event: &Event, pace: &mut Pace) -> Result<(), Trouble> {
        if self.connections[index].stream.is_none() {
            return Ok(());
        }
        if !self.connections[index].open && !self.connections[index].greeting {
            return self.finish_connecting(index);
        }
        if event.is_writable() {
            self.flush(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.receive(index, event.is_read_closed() || event.is_error())?;
            self.refill(index, pace)?;
            self.flush(index);
        }
        Ok(())
    }

    fn finish_connecting(&mut self, index: usize) -> Result<(), Trouble> {
        let Some(stream) = &self.connections[index].stream else { return Ok(()) };
        let failed = match stream.take_error().map(|error| error.is_some()) {
            Ok(false) => match stream.peer_addr() {
                Ok(_) => false,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(_) => true,
            },
            _ => true,
        };
        if failed {
            self.opening -= 1;
            self.connections[index].stream = None;
            self.verifier.tally.connect_failures += 1;
        } else if let Some(hello) = self.verifier.shape().hello(self.number(index)) {
            self.unwritten_bytes += hello.len();
            self.connections[index].out = hello;
            self.connections[index].greeting = true;
            self.flush(index);
        } else {
            self.opening -= 1;
            self.connections[index].open = true;
        }
        Ok(())
    }

    /// Takes the answer to a hello; nothing may follow it before the first request.
    fn welcome(&mut self, index: usize, count: usize) {
        let number = self.number(index);
        let mut welcome = false;
        let fed = self.connections[index].inbox.feed_steps(&self.read[..count], |rest| {
            let message = match http::first(rest)? {
                http::Start::Need(need) => return Ok(Step::Need(need)),
                http::Start::Message(message) => message,
            };
            welcome = message.bytes == rest.len() && websocket::is_welcome(number, &message);
            if welcome { Ok(Step::Took(message.bytes)) } else { Err(Unreadable) }
        });
        if fed.is_err() {
            self.lose(index);
        } else if welcome {
            self.opening -= 1;
            self.connections[index].greeting = false;
            self.connections[index].open = true;
        }
    }

    fn number(&self, index: usize) -> u64 {
        (self.options.numbers.start + index) as u64
    }

    fn flush(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(stream) = &mut connection.stream else { return };
        while connection.written < connection.out.len() {
            match stream.write(&connection.out[connection.written..]) {
                Ok(count) => {
                    connection.written += count;
                    self.unwritten_bytes -= count;
                }
                // Edge-triggered: the next event says when there is room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.lose(index),
            }
        }
        connection.out.clear();
        connection.written = 0;
        if connection.out.capacity() > OUT_BYTES_KEPT {
            connection.out = Vec::new();
        }
    }

    /// Reads what is there. A short read ends it unless the peer has closed: a later arrival makes an event of its own.
    fn receive(&mut self, index: usize, closed: bool) -> Result<(), Trouble> {
        for _ in 0..READS_MAX {
            let Some(stream) = &mut self.connections[index].stream else { return Ok(()) };
            match stream.read(&mut self.read) {
                Ok(0) => {
                    self.lose(index);
                    return Ok(());
                }
                Ok(count) => {
                    self.take(index, count);
                    if count < self.read.len() && !closed {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.lose(index);
                    return Ok(());
                }
            }
        }
        // More is there, and others wait: registering again makes a new event of it.
        let Some(stream) = &mut self.connections[index].stream else { return Ok(()) };
        self.poll
            .registry()
            .reregister(stream, Token(index), Interest::READABLE | Interest::WRITABLE)
            .map_err(Trouble::doing("waiting for a connection"))
    }

    fn take(&mut self, index: usize, count: usize) {
        if self.connections[index].greeting {
            return self.welcome(index, count);
        }
        let (now_ns, number) = (self.clock.now_ns(), self.number(index));
        let Connection { ledger, inbox, .. } = &mut self.connections[index];
        let before = ledger.open();
        let fed = self.verifier.on_bytes(number, ledger, inbox, &self.read[..count], now_ns);
        self.outstanding -= before - ledger.open();
        if fed.is_err() {
            self.verifier.tally.corrupted += 1;
            self.lose(index);
        }
    }

    /// Gives up a connection that ended before its time.
    fn lose(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.stream = None;
        connection.open = false;
        self.unwritten_bytes -= connection.out.len() - connection.written;
        connection.out = Vec::new();
        connection.written = 0;
        if std::mem::take(&mut connection.greeting) {
            self.opening -= 1;
            self.verifier.tally.connect_failures += 1;
            return;
        }
        let lost = connection.ledger.give_up();
        self.verifier.tally.lost += u64::from(connection.ledger.give_up_heartbeat());
        self.outstanding -= lost;
        self.verifier.tally.lost += lost as u64;
        self.verifier.tally.connections_lost += 1;
    }
}

/// Ids begin alike on every connection: the hardest case for a gateway that rewrites them.
const FIRST_ID: u32 = 1;
const ALARM: Token = Token(usize::MAX);
const SIGNAL: Token = Token(usize::MAX - 1);
const EVENTS_MAX: usize = 1_024;
const READ_BYTES: usize = 256 << 10;
const READS_MAX: usize = 16;
const OUT_BYTES_KEPT: usize = 128 << 10;
const UNWRITTEN_BYTES_MAX: usize = 256 << 20;
const OPENING_MAX: usize = 128;
const EACH_IN_FLIGHT_MAX: usize = 256;
/// Each may leave an upstream connection in a pool, whose memory is no client's.
const EACH_HTTP_IN_FLIGHT_MAX: usize = 32;
const CONNECT_NS_MAX: u64 = 60_000_000_000;
const LINGER_NS: u64 = 50_000_000;
/// A net below the alarm, should an expiry be missed.
const POLL_MAX: Duration = Duration::from_secs(1);
