//! The floor of the raw mode: one oneshot epoll set per thread, whose thread runs what it finds first ("help first"), writes
//! collected over a batch, surplus stolen by a thread that is idle. Locks instead of the gateway's schedule word: they are
//! hardly ever contended, since oneshot gives a socket to one thread. It ends when an upstream connection is lost.

mod http;

use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::atomic::fence;
use std::thread;

use crossbeam_deque::Steal;
use crossbeam_deque::Stealer;
use crossbeam_deque::Worker;
use nix::sys::epoll::Epoll;
use nix::sys::epoll::EpollCreateFlags;
use nix::sys::epoll::EpollEvent;
use nix::sys::epoll::EpollFlags;
use nix::sys::epoll::EpollTimeout;
use nix::sys::eventfd::EfdFlags;
use nix::sys::eventfd::EventFd;
use slab::Slab;

use super::RelayOptions;
use super::frames;
use super::frames::Start;
use super::lookout;
use super::lookout::Bell;
use super::lookout::Lookout;
use crate::host;
use crate::trouble::Trouble;
use crate::wire::Protocol;

use http::Loan;

/// Relays until a signal, the end of its time or a lost upstream connection. `announce` is told where it listens.
pub fn run(options: &RelayOptions, announce: impl FnOnce(SocketAddr)) -> Result<(), Trouble> {
    let descriptors = host::raise_descriptor_limit()? as usize;
    let lookout = Lookout::new()?;
    let listener = crate::listen::listen(options.listen, options.reuseport)?;
    let address = listener.local_addr().map_err(Trouble::doing("asking for the bound address"))?;
    let queues: Vec<Worker<Ready>> = (0..options.threads).map(|_| Worker::new_fifo()).collect();
    let lanes = queues.iter().map(|queue| Lane::new(queue.stealer())).collect::<Result<_, Trouble>>()?;
    let seats = (0..descriptors).map(|_| Mutex::new(None)).collect();
    let relay = Arc::new(Relay { lanes, seats, serial: AtomicU32::new(0) });
    let listening = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
    relay.lanes[0].epoll.add(&listener, listening).map_err(Trouble::doing("waiting for connections"))?;
    let mut listener = Some(listener);
    for (index, queue) in queues.into_iter().enumerate() {
        let upstream = relay.seat(lookout::dial(options)?, index, Some(Slab::new()))?;
        let thread = Thread::new(relay.clone(), index, queue, listener.take(), upstream, *options);
        let bell: Bell = lookout.bell();
        thread::spawn(move || {
            if let Err(trouble) = thread.run() {
                bell.ring(trouble);
            }
        });
    }
    announce(address);
    lookout.wait(options.duration)
}

/// What all threads share.
#[derive(Debug)]
struct Relay {
    lanes: Vec<Lane>,
    /// By descriptor.
    seats: Vec<Mutex<Option<Arc<Connection>>>>,
    /// Tells a connection from an earlier one with its descriptor.
    serial: AtomicU32,
}

/// What other threads may touch of one thread.
#[derive(Debug)]
struct Lane {
    epoll: Epoll,
    bell: EventFd,
    sleeping: AtomicBool,
    surplus: Stealer<Ready>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    token: u64,
    /// The lane whose epoll set reports it.
    home: usize,
    /// Upstream connections know whose answers they wait for.
    is_upstream: bool,
    /// The beginning of a frame.
    partial: Mutex<Vec<u8>>,
    output: Mutex<Output>,
}

#[derive(Debug)]
struct Output {
    bytes: Vec<u8>,
    written: usize,
    closed: bool,
    /// Stands in some thread's list of what to flush.
    dirty: bool,
    waiting: Slab<Waiting>,
    /// HTTP: whom an upstream connection works for.
    loan: Loan,
    /// HTTP: the upstream connection that last worked for this client.
    lender: Option<u64>,
}

/// The request that an answer belongs to.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    token: u64,
    id: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ready {
    token: u64,
    flags: EpollFlags,
}

impl Lane {
    fn new(surplus: Stealer<Ready>) -> Result<Self, Trouble> {
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Trouble::doing("opening an epoll set"))?;
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(Trouble::doing("opening a wakeup"))?;
        epoll
            .add(&bell, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, BELL))
            .map_err(Trouble::doing("waiting for wakeups"))?;
        Ok(Self { epoll, bell, sleeping: AtomicBool::new(false), surplus })
    }
}

impl Relay {
    /// Takes a connection in, at the home of `lane`.
    fn seat(
        &self,
        stream: TcpStream,
        lane: usize,
        waiting: Option<Slab<Waiting>>,
    ) -> Result<Arc<Connection>, Trouble> {
        let fd = stream.as_raw_fd() as usize;
        let token = u64::from(self.serial.fetch_add(1, Ordering::Relaxed)) << 32 | fd as u64;
        let is_upstream = waiting.is_some();
        let waiting = waiting.unwrap_or_default();
        let output = Output {
            bytes: Vec::new(),
            written: 0,
            closed: false,
            dirty: false,
            waiting,
            loan: Loan::default(),
            lender: None,
        };
        let connection = Arc::new(Connection {
            stream,
            token,
            home: lane,
            is_upstream,
            partial: Mutex::default(),
            output: Mutex::new(output),
        });
        let Some(seat) = self.seats.get(fd) else {
            return Err(Trouble::Broken(format!("descriptor {fd} is above the limit of open files")));
        };
        *lock(seat) = Some(connection.clone());
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, token);
        self.lanes[lane]
            .epoll
            .add(&connection.stream, event)
            .map_err(Trouble::doing("waiting for a connection"))?;
        Ok(connection)
    }

    /// Who has this token, if it is still there.
    fn find(&self, token: u64) -> Option<Arc<Connection>> {
        let seat = lock(self.seats.get(token as u32 as usize)?);
        seat.as_ref().filter(|connection| connection.token == token).cloned()
    }

    fn close(&self, connection: &Connection) {
        let mut output = lock(&connection.output);
        if std::mem::replace(&mut output.closed, true) {
            return;
        }
        // It fails only when the descriptor is not in the set, which is what we want.
        let _ = self.lanes[connection.home].epoll.delete(&connection.stream);
        *lock(&self.seats[connection.token as u32 as usize]) = None;
    }
}

/// One thread of the pool.
struct Thread {
    relay: Arc<Relay>,
    index: usize,
    queue: Worker<Ready>,
    listener: Option<TcpListener>,
    upstream: Arc<Connection>,
    /// HTTP: upstream connections that nobody uses, the last one used first.
    pool: Vec<Arc<Connection>>,
    options: RelayOptions,
    accepted: usize,
    buffer: Vec<u8>,
    /// Ran in this batch: armed at its end.
    held: Vec<Arc<Connection>>,
    /// Has output of this batch.
    dirty: VecDeque<Arc<Connection>>,
}

impl Thread {
    fn new(
        relay: Arc<Relay>,
        index: usize,
        queue: Worker<Ready>,
        listener: Option<TcpListener>,
        upstream: Arc<Connection>,
        options: RelayOptions,
    ) -> Self {
        Self {
            relay,
            index,
            queue,
            listener,
            pool: vec![upstream.clone()],
            upstream,
            options,
            accepted: 0,
            buffer: vec![0; READ_BYTES],
            held: Vec::new(),
            dirty: VecDeque::new(),
        }
    }

    fn run(mut self) -> Result<(), Trouble> {
        let mut events = vec![EpollEvent::empty(); EVENTS_MAX];
        loop {
            self.fetch(&mut events)?;
            loop {
                while let Some(ready) = self.queue.pop() {
                    self.turn(ready)?;
                    if self.held.len() >= BATCH_TURNS_MAX {
                        break;
                    }
                }
                self.end_batch()?;
                if self.queue.is_empty() && !self.help() {
                    break;
                }
            }
        }
    }

    /// Waits on the own epoll set and queues what it reports.
    fn fetch(&mut self, events: &mut [EpollEvent]) -> Result<(), Trouble> {
        let lane = &self.relay.lanes[self.index];
        lane.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // Surplus may have appeared before anyone could see that this thread sleeps.
        let patience = if self.victim().is_some() { EpollTimeout::ZERO } else { EpollTimeout::NONE };
        let count = match lane.epoll.wait(events, patience) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other.map_err(Trouble::doing("waiting for events"))?,
        };
        lane.sleeping.store(false, Ordering::SeqCst);
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept()?,
                BELL => {}
                token => self.queue.push(Ready { token, flags: event.events() }),
            }
        }
        if self.queue.len() >= SURPLUS_MIN {
            self.wake_one();
        }
        Ok(())
    }

    fn wake_one(&self) {
        fence(Ordering::SeqCst);
        for (index, lane) in self.relay.lanes.iter().enumerate() {
            if index != self.index && lane.sleeping.swap(false, Ordering::SeqCst) {
                // It fails only when the counter is full, and then the thread is awake.
                let _ = lane.bell.write(1);
                return;
            }
        }
    }

    fn victim(&self) -> Option<usize> {
        let lanes = self.relay.lanes.iter().enumerate();
        lanes
            .filter(|(index, lane)| *index != self.index && lane.surplus.len() >= VICTIM_KEEPS)
            .map(|(index, _)| index)
            .next()
    }

    /// Takes some of what another thread has queued; false when there is nothing to take.
    fn help(&mut self) -> bool {
        let Some(victim) = self.victim() else { return false };
        for _ in 0..STEAL_MAX {
            match self.relay.lanes[victim].surplus.steal() {
                Steal::Success(ready) => self.queue.push(ready),
                Steal::Retry => {}
                Steal::Empty => break,
            }
        }
        !self.queue.is_empty()
    }

    fn accept(&mut self) -> Result<(), Trouble> {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = &self.listener else { return Ok(()) };
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(Trouble::doing("accepting a connection")(error)),
            };
            stream.set_nonblocking(true).map_err(Trouble::doing("opening a connection"))?;
            // Only latency suffers without it, so a peer that is gone already is no error here.
            let _ = stream.set_nodelay(true);
            self.accepted += 1;
            self.relay.seat(stream, self.accepted % self.relay.lanes.len(), None)?;
        }
        Ok(())
    }

    fn turn(&mut self, ready: Ready) -> Result<(), Trouble> {
        let Some(connection) = self.relay.find(ready.token) else { return Ok(()) };
        if ready.flags.contains(EpollFlags::EPOLLOUT) {
            self.note_dirty(&connection, &mut lock(&connection.output));
        }
        let alive = !ready.flags.intersects(READS) || self.read(&connection)?;
        if alive {
            self.held.push(connection);
            return Ok(());
        }
        self.relay.close(&connection);
        if connection.is_upstream {
            return Err(Trouble::Broken("an upstream connection was lost".into()));
        }
        Ok(())
    }

    /// Reads once and passes on; false when the connection is over.
    fn read(&mut self, connection: &Arc<Connection>) -> Result<bool, Trouble> {
        let mut partial = lock(&connection.partial);
        let kept = partial.len();
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.len() < kept + READ_BYTES {
            buffer.resize(kept + READ_BYTES, 0);
        }
        buffer[..kept].copy_from_slice(&partial);
        let alive = match (&connection.stream).read(&mut buffer[kept..]) {
            Ok(0) => false,
            Ok(count) => {
                let bytes = &buffer[..kept + count];
                let used = self.pass(connection, bytes)?;
                if let Some(used) = used {
                    partial.clear();
                    partial.extend_from_slice(&bytes[used..]);
                    if partial.is_empty() {
                        *partial = Vec::new();
                    }
                }
                used.is_some()
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        self.buffer = buffer;
        Ok(alive)
    }

    fn pass(&mut self, connection: &Arc<Connection>, bytes: &[u8]) -> Result<Option<usize>, Trouble> {
        Ok(match (self.options.protocol, connection.is_upstream) {
            (Protocol::Http, true) => self.pass_http_answers(connection, bytes),
            (Protocol::Http, false) => self.pass_http_requests(connection, bytes)?,
            (_, true) => self.pass_answers(connection, bytes),
            (_, false) => self.pass_requests(connection, bytes),
        })
    }

    /// Queues whole requests on this thread's upstream connection; says how many bytes they took, nothing for what is no Bolt.
    fn pass_requests(&mut self, connection: &Arc<Connection>, bytes: &[u8]) -> Option<usize> {
        let upstream = self.upstream.clone();
        let mut out = lock(&upstream.output);
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let frame = match frames::first(rest) {
                Start::Frame(frame) => frame,
                Start::Partial => break,
                Start::Foreign => return None,
            };
            used += frame.bytes;
            if frame.is_heartbeat && frame.is_request {
                let mut own = lock(&connection.output);
                frames::append_ack(&frame, rest, &mut own.bytes);
                self.note_dirty(connection, &mut own);
            } else if frame.is_request {
                let waiting = Waiting { token: connection.token, id: frames::id_of(&frame, rest) };
                let id = out.waiting.insert(waiting) as u32;
                frames::append_with_id(&frame, rest, id, &mut out.bytes);
            }
        }
        if out.bytes.len() - out.written > QUEUED_BYTES_MAX {
            return None;
        }
        if out.bytes.len() > out.written {
            self.note_dirty(&upstream, &mut out);
        }
        Some(used)
    }

    /// Queues whole answers where their requests came from.
    fn pass_answers(&mut self, connection: &Arc<Connection>, bytes: &[u8]) -> Option<usize> {
        let mut from = lock(&connection.output);
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let frame = match frames::first(rest) {
                Start::Frame(frame) => frame,
                Start::Partial => return Some(used),
                Start::Foreign => return None,
            };
            used += frame.bytes;
            let Some(waiting) = from.waiting.try_remove(frames::id_of(&frame, rest) as usize) else {
                continue;
            };
            // Nobody waits any more when it has closed.
            let Some(downstream) = self.relay.find(waiting.token) else { continue };
            let mut out = lock(&downstream.output);
            frames::append_with_id(&frame, rest, waiting.id, &mut out.bytes);
            self.note_dirty(&downstream, &mut out);
        }
    }

    fn note_dirty(&mut self, connection: &Arc<Connection>, output: &mut Output) {
        if !std::mem::replace(&mut output.dirty, true) {
            self.dirty.push_back(connection.clone());
        }
    }

    /// Writes what the batch collected, then arms what it ran.
    fn end_batch(&mut self) -> Result<(), Trouble> {
        while let Some(connection) = self.dirty.pop_front() {
            if !self.flush(&connection)? {
                self.relay.close(&connection);
                if connection.is_upstream {
                    return Err(Trouble::Broken("an upstream connection was lost".into()));
                }
            }
        }
        for connection in std::mem::take(&mut self.held) {
            let output = lock(&connection.output);
            self.arm(&connection, &output)?;
        }
        Ok(())
    }

    /// False when the connection is over. What the socket does not take waits for room.
    fn flush(&self, connection: &Connection) -> Result<bool, Trouble> {
        let mut output = lock(&connection.output);
        output.dirty = false;
        while output.written < output.bytes.len() && !output.closed {
            match (&connection.stream).write(&output.bytes[output.written..]) {
                Ok(count) => output.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.arm(connection, &output)?;
                    return Ok(output.bytes.len() - output.written <= QUEUED_BYTES_MAX);
                }
                Err(_) => return Ok(false),
            }
        }
        output.written = 0;
        output.bytes.clear();
        output.bytes.shrink_to(if connection.is_upstream { OUT_BYTES_KEPT } else { CLIENT_BYTES_KEPT });
        Ok(true)
    }

    /// Under the lock of its output, so that the last one to arm has seen all output. Two threads may run a connection when
    /// another one than its holder arms it for room; the locks make that harmless.
    fn arm(&self, connection: &Connection, output: &MutexGuard<'_, Output>) -> Result<(), Trouble> {
        if output.closed {
            return Ok(());
        }
        let queued = output.bytes.len() - output.written;
        let mut interest = EpollFlags::EPOLLONESHOT;
        // Who does not take its answers is not read. Upstream connections are always read, or both sides could wait.
        interest.set(EpollFlags::EPOLLIN, connection.is_upstream || queued <= UNREAD_BYTES_MAX);
        interest.set(EpollFlags::EPOLLOUT, queued > 0);
        let mut event = EpollEvent::new(interest, connection.token);
        self.relay.lanes[connection.home]
            .epoll
            .modify(&connection.stream, &mut event)
            .map_err(Trouble::doing("waiting for a connection"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;
const READS: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLERR).union(EpollFlags::EPOLLHUP);
const EVENTS_MAX: usize = 64;
const BATCH_TURNS_MAX: usize = 64;
const READ_BYTES: usize = 64 << 10;
const SURPLUS_MIN: usize = 16;
const STEAL_MAX: usize = 16;
const VICTIM_KEEPS: usize = 4;
const ACCEPTS_MAX: usize = 64;
const OUT_BYTES_KEPT: usize = 1 << 20;
const CLIENT_BYTES_KEPT: usize = 4 << 10;
const UNREAD_BYTES_MAX: usize = 1 << 20;
const QUEUED_BYTES_MAX: usize = 64 << 20;
