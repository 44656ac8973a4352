//! Where a test of the contract plays: the simulator, or a driver on real loopback sockets. The tests see no difference.
//!
//! A stage only moves bytes and waits; it expects nothing itself, and gives up loudly when nothing happens.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use bowline_engine::engine::Engine;
use bowline_engine::machine::{Address, OpenError};
use bowline_engine::options::Options;
use bowline_engine::sim::{Ending, LinkOptions, Peer, Reach, Sim, SimOptions};

use crate::probe::{Log, Note, PATIENCE, Probe};

/// A client, or a server that the engine connected to, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End(usize);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By FIN.
    Finished,
    /// By RST.
    Reset,
}

/// What a test does to an engine.
pub(crate) trait Stage {
    /// A client connects to a listener.
    fn connect(&mut self, listener: u16) -> End;
    /// It sends.
    fn send(&mut self, end: End, bytes: &[u8]);
    /// It will send no more.
    fn finish(&mut self, end: End);
    /// It resets.
    fn cut(&mut self, end: End);
    /// Exactly so many bytes that come to it.
    fn receive(&mut self, end: End, bytes: usize) -> Vec<u8>;
    /// Everything else that comes to it, and how it ends.
    fn rest(&mut self, end: End) -> (Vec<u8>, Ended);
    /// An address where connects succeed, and one where they are refused.
    fn targets(&mut self) -> [SocketAddr; 2];
    /// The server's end of the next connection to the first of them.
    fn accept(&mut self) -> End;
    /// Mail from outside.
    fn post(&mut self, to: Address, note: Note) -> Result<(), Note>;
    /// Waits until the log is as it should be.
    fn until(&mut self, done: &dyn Fn(&[String]) -> bool);
}

/// The simulator as a stage.
pub(crate) struct Simulated {
    pub(crate) sim: Sim<Probe>,
    ends: Vec<Peer>,
    taken: Vec<Vec<u8>>,
    accepted: usize,
    log: Arc<Log>,
}

/// Nothing takes longer than this in a test.
const STAGE_MS_MAX: u64 = 60_000;

impl Simulated {
    /// A stage of a seed, with a network that splits and delays.
    pub(crate) fn new(app: Arc<Probe>, seed: u64) -> Simulated {
        let link = LinkOptions {
            delay_ms_max: 3,
            segment_bytes_max: Some(40_000),
            send_buffer_bytes: 64 << 10,
            is_short: true,
        };
        let log = Arc::clone(&app.log);
        let sim = Sim::new(app, SimOptions { seed, workers: 3, link, ..SimOptions::default() });
        Simulated { sim, ends: Vec::new(), taken: Vec::new(), accepted: 0, log }
    }

    fn end(&mut self, peer: Peer) -> End {
        self.ends.push(peer);
        self.taken.push(Vec::new());
        End(self.ends.len() - 1)
    }

    /// Goes on until `done`.
    fn step_until(&mut self, mut done: impl FnMut(&mut Simulated) -> bool) {
        let limit = self.sim.now().after_ms(STAGE_MS_MAX);
        while !done(self) {
            let is_over = !self.sim.step(limit) && self.sim.now() >= limit;
            assert!(!is_over || done(self), "it never came to that: {:#?}", self.log.lines());
        }
    }

    fn take(&mut self, end: End) -> usize {
        let bytes = self.sim.take(self.ends[end.0]);
        self.taken[end.0].extend(bytes);
        self.taken[end.0].len()
    }
}

impl Stage for Simulated {
    fn connect(&mut self, listener: u16) -> End {
        let peer = self.sim.connect(listener, SocketAddr::from(([10, 0, 0, 9], 4_000)));
        self.end(peer)
    }

    fn send(&mut self, end: End, bytes: &[u8]) {
        self.sim.send(self.ends[end.0], bytes);
    }

    fn finish(&mut self, end: End) {
        self.sim.finish(self.ends[end.0]);
    }

    fn cut(&mut self, end: End) {
        self.sim.cut(self.ends[end.0]);
    }

    fn receive(&mut self, end: End, bytes: usize) -> Vec<u8> {
        self.step_until(|stage| stage.take(end) >= bytes);
        self.taken[end.0].drain(..bytes).collect()
    }

    fn rest(&mut self, end: End) -> (Vec<u8>, Ended) {
        let peer = self.ends[end.0];
        self.step_until(|stage| {
            stage.take(end);
            stage.sim.ending(peer) != Ending::Open
        });
        let ended = if self.sim.ending(peer) == Ending::Reset { Ended::Reset } else { Ended::Finished };
        (std::mem::take(&mut self.taken[end.0]), ended)
    }

    fn targets(&mut self) -> [SocketAddr; 2] {
        let targets = [1, 2].map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        self.sim.set_reach(targets[1], Reach::Fails(OpenError::Refused));
        targets
    }

    fn accept(&mut self) -> End {
        let number = self.accepted;
        self.step_until(|stage| stage.sim.servers().len() > number);
        self.accepted += 1;
        let peer = self.sim.servers()[number];
        self.end(peer)
    }

    fn post(&mut self, to: Address, note: Note) -> Result<(), Note> {
        self.sim.post(to, note)
    }

    fn until(&mut self, done: &dyn Fn(&[String]) -> bool) {
        let log = Arc::clone(&self.log);
        self.step_until(|_| done(&log.lines()));
    }
}

/// A driver on real sockets.
pub(crate) struct Real {
    engine: Engine<Probe>,
    streams: Vec<TcpStream>,
    target: TcpListener,
    log: Arc<Log>,
}

impl Real {
    /// A running engine with two listeners.
    pub(crate) fn new(app: Arc<Probe>, options: Options) -> Real {
        let log = Arc::clone(&app.log);
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let engine = Engine::start(app, options, &[free, free]).expect("the engine starts");
        let target = TcpListener::bind(free).expect("a free port");
        Real { engine, streams: Vec::new(), target, log }
    }

    fn end(&mut self, stream: TcpStream) -> End {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        self.streams.push(stream);
        End(self.streams.len() - 1)
    }
}

impl Stage for Real {
    fn connect(&mut self, listener: u16) -> End {
        let address = self.engine.addresses()[usize::from(listener)];
        let stream = TcpStream::connect(address).expect("it listens");
        self.end(stream)
    }

    fn send(&mut self, end: End, bytes: &[u8]) {
        self.streams[end.0].write_all(bytes).expect("the connection takes it");
    }

    fn finish(&mut self, end: End) {
        self.streams[end.0].shutdown(Shutdown::Write).expect("the connection is open");
    }

    fn cut(&mut self, end: End) {
        let stream = socket2::SockRef::from(&self.streams[end.0]);
        stream.set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        // The stream's place is kept by one that nothing comes from.
        let other = TcpStream::connect(free.local_addr().expect("bound")).expect("it listens");
        drop(std::mem::replace(&mut self.streams[end.0], other));
    }

    fn receive(&mut self, end: End, bytes: usize) -> Vec<u8> {
        let mut into = vec![0; bytes];
        self.streams[end.0].read_exact(&mut into).expect("so many bytes come");
        into
    }

    fn rest(&mut self, end: End) -> (Vec<u8>, Ended) {
        let mut bytes = Vec::new();
        match self.streams[end.0].read_to_end(&mut bytes) {
            Ok(_) => (bytes, Ended::Finished),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (bytes, Ended::Reset),
            Err(error) => panic!("the connection does not end: {error}"),
        }
    }

    fn targets(&mut self) -> [SocketAddr; 2] {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        [self.target.local_addr().expect("bound"), closed.local_addr().expect("bound")]
    }

    fn accept(&mut self) -> End {
        let (stream, _) = self.target.accept().expect("the engine connects");
        self.end(stream)
    }

    fn post(&mut self, to: Address, note: Note) -> Result<(), Note> {
        self.engine.handle().post(to, note)
    }

    fn until(&mut self, done: &dyn Fn(&[String]) -> bool) {
        self.log.wait(done);
    }
}
