//! What the tests over real sockets share: the modes they run in, an application whose machines are closures, peers with
//! patience. It refuses to sleep for a purpose: what no event announces is looked at until it is true.

#![allow(dead_code)] // Every test binary uses its part.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bowline_engine::buf::Piece;
use bowline_engine::engine::{ConnectionInfo, Engine, Handle, StartError};
use bowline_engine::machine::{
    Accepted, Address, Application, CloseCause, Closed, Context, Freeze, Frozen, Input, Machine, ThawError,
};
use bowline_engine::options::{Accept, Dispatch, Mode, Options, Rebalance};

/// Every mode that has a driver: each test over sockets runs in each.
pub(crate) const MODES: &[Mode] = &[Mode::Tokio, Mode::Raw(Dispatch::Help), Mode::Raw(Dispatch::Handoff)];

/// After so long a test gives up; none passes or fails by being faster.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a case in every mode, under both ways of accepting, and where connections move, with every turn a move.
pub(crate) fn each_mode(case: impl Fn(Options)) {
    let options = || Options { connections_max: 4_096, buffer_bytes_max: 256 << 20, ..Options::default() };
    for mode in MODES {
        for accept in [Accept::Shared, Accept::Reuseport] {
            case(Options { mode: *mode, accept, ..options() });
        }
        if *mode != Mode::Tokio {
            case(Options { mode: *mode, rebalance: Rebalance::EveryTurn, ..options() });
        }
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What machines of these tests send each other.
pub(crate) enum Letter {
    /// Bytes for the other side of a relay.
    Bytes(Piece),
    /// The other side's stream has ended.
    End,
    /// The other side is gone.
    Gone,
    /// A number, for whatever a test needs.
    Number(u64),
    /// Send `Number` to that address.
    Forward(Address, u64),
}

type Make = dyn Fn(u16, SocketAddr) -> Option<Box<dyn Machine<App>>> + Send + Sync;

/// The application: machines come from a closure, and what it is told is kept.
pub(crate) struct App {
    make: Box<Make>,
    closed: Mutex<Vec<Closed>>,
    /// What the sockets of accepted connections said: the address that was reached, and the one that was wanted.
    pub(crate) doors: Mutex<Vec<[Option<SocketAddr>; 2]>>,
    /// Mail that found neither receiver nor sender.
    pub(crate) orphans: AtomicUsize,
}

impl App {
    fn new(make: Box<Make>) -> Arc<App> {
        Arc::new(App {
            make,
            closed: Mutex::default(),
            doors: Mutex::default(),
            orphans: AtomicUsize::new(0),
        })
    }

    /// The records of connections that are gone.
    pub(crate) fn closed(&self) -> MutexGuard<'_, Vec<Closed>> {
        lock(&self.closed)
    }
}

impl Application for App {
    type Mail = Letter;
    type Local = usize;

    fn local(&self, worker: usize) -> usize {
        worker
    }

    fn accept(
        &self,
        _: &mut usize,
        listener: u16,
        peer: SocketAddr,
        accepted: &dyn Accepted,
    ) -> Option<Box<dyn Machine<App>>> {
        lock(&self.doors).push([accepted.local_address(), accepted.original_destination()]);
        (self.make)(listener, peer)
    }

    fn closed(&self, _: &mut usize, record: &Closed) {
        lock(&self.closed).push(*record);
    }

    fn orphaned(&self, _: &mut usize, _: Letter) {
        self.orphans.fetch_add(1, Ordering::Relaxed);
    }

    fn thaw(&self, _: &mut usize, _: &Frozen) -> Result<Box<dyn Machine<App>>, ThawError> {
        Err(ThawError("nothing freezes here".into()))
    }
}

struct Scripted<F>(F);

impl<F> Machine<App> for Scripted<F>
where
    F: for<'a, 'b, 'c> FnMut(Input<'a, App>, &'b mut Context<'c, App>) + Send,
{
    fn on(&mut self, input: Input<'_, App>, context: &mut Context<'_, App>) {
        (self.0)(input, context);
    }

    fn freeze(&self) -> Freeze {
        Freeze::NotYet { why: "a closure is no plain data" }
    }
}

/// A machine that is a closure.
pub(crate) fn machine(
    script: impl for<'a, 'b, 'c> FnMut(Input<'a, App>, &'b mut Context<'c, App>) + Send + 'static,
) -> Box<dyn Machine<App>> {
    Box::new(Scripted(script))
}

/// A machine that sends back what it gets, and closes with its peer.
pub(crate) fn echo() -> Box<dyn Machine<App>> {
    machine(|input, context| match input {
        Input::Bytes(bytes) => {
            let all = bytes.len();
            context.write(bytes.take(all));
        }
        Input::EndOfStream => context.close(0),
        _ => {}
    })
}

/// A running engine of a test.
pub(crate) struct Running {
    pub(crate) app: Arc<App>,
    pub(crate) engine: Engine<App>,
    pub(crate) handle: Handle<App>,
}

/// Starts an engine with `listeners` listeners, whose machines `make` makes.
pub(crate) fn start(
    options: Options,
    listeners: usize,
    make: impl Fn(u16, SocketAddr) -> Option<Box<dyn Machine<App>>> + Send + Sync + 'static,
) -> Running {
    let app = App::new(Box::new(make));
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0)); listeners];
    let engine = Engine::start(Arc::clone(&app), options, &listen).expect("loopback can be bound");
    let handle = engine.handle();
    Running { app, engine, handle }
}

/// Tries to start an engine that listens at one address.
pub(crate) fn start_at(mode: Mode, address: SocketAddr) -> Result<(), StartError> {
    let options = Options { mode, ..Options::default() };
    Engine::start(App::new(Box::new(|_, _| None)), options, &[address]).map(drop)
}

impl Running {
    /// A client of listener 0.
    pub(crate) fn dial(&self) -> TcpStream {
        dial(self.engine.addresses()[0])
    }

    /// Waits until no connection is left, and gives the records of all.
    pub(crate) fn all_closed(&self) -> Vec<Closed> {
        eventually("every connection is gone", || self.handle.stats().connections == 0);
        self.app.closed().clone()
    }

    /// Waits for the record of the next end, and gives its cause.
    pub(crate) fn next_cause(&self) -> CloseCause {
        eventually("a connection is gone", || !self.app.closed().is_empty());
        self.app.closed().remove(0).cause
    }

    /// Every connection that there is.
    pub(crate) fn connections(&self) -> Vec<ConnectionInfo> {
        let mut all = Vec::new();
        self.handle.for_each(|info| all.push(info));
        all
    }
}

/// A client with patience.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    with_patience(TcpStream::connect(address).expect("it listens"))
}

/// Bounds what the stream waits for.
pub(crate) fn with_patience(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a plain option");
    stream.set_write_timeout(Some(PATIENCE)).expect("a plain option");
    stream
}

/// Makes the close of a stream a reset.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a plain option");
}

/// Sends and expects the same back.
pub(crate) fn exchange(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the engine reads");
    expect(stream, bytes);
}

/// Expects exactly these bytes next.
pub(crate) fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).expect("the bytes arrive");
    assert!(got == bytes, "{} other bytes arrived", bytes.len());
}

/// Expects the end of the stream next, in order.
pub(crate) fn expect_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the stream ends in order");
    assert_eq!(rest.len(), 0, "nothing is left");
}

/// True if the connection was reset, or closed at once.
pub(crate) fn is_refused(mut stream: TcpStream) -> bool {
    use std::io::ErrorKind as Kind;
    match stream.read(&mut [0; 1]) {
        Ok(bytes) => bytes == 0,
        Err(error) => {
            assert!(matches!(error.kind(), Kind::ConnectionReset | Kind::BrokenPipe), "{error}");
            true
        }
    }
}

/// Bytes that are not all alike.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
}

/// Locks what a machine writes down.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True if the same comes back, false if the connection was reset.
pub(crate) fn is_echoed(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).is_ok() && got == bytes
}
