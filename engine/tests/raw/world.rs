//! An engine with machines of one behaviour, and what they saw. It starts and counts; tests decide.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bowline_engine::engine::{Engine, Handle};
use bowline_engine::machine::{
    Accepted, Address, Application, CloseCause, Closed, Context, Freeze, Frozen, Input, Machine, ThawError,
};
use bowline_engine::options::Options;

/// What every answer is.
pub(crate) const ANSWER: u8 = 42;
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the machines do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Sends back what comes.
    Echo,
    /// Answers, and closes another connection by mail: it may be at rest, running on another thread, or gone.
    AnswerAndCloseAnother,
    /// Takes what comes, and answers nothing but a single byte; a single zero makes it mail itself for ever.
    Swallow,
    /// Never reads.
    Pause,
    /// Answers at the end of the stream, and stays open.
    KeepOpen,
    /// Shuts its write side and does not read until it gets mail.
    ShutAndPause,
}

/// What the machines saw.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) live: AtomicU64,
    opened: AtomicU64,
    closed: AtomicU64,
    overlaps: AtomicU64,
    ends: AtomicU64,
    read_bytes: AtomicU64,
    causes: Mutex<Vec<CloseCause>>,
    /// Connections that another may close.
    known: Mutex<Vec<Address>>,
}

struct Test {
    behaviour: Behaviour,
    record: Arc<Record>,
}

struct One {
    behaviour: Behaviour,
    record: Arc<Record>,
    inside: Arc<AtomicBool>,
}

/// The engine under test.
pub(crate) struct World {
    engine: Engine<Test>,
    pub(crate) record: Arc<Record>,
}

impl World {
    /// Starts one listener.
    pub(crate) fn start(options: Options, behaviour: Behaviour) -> World {
        let record = Arc::new(Record::default());
        let app = Arc::new(Test { behaviour, record: Arc::clone(&record) });
        let listen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let engine = Engine::start(app, options, &[listen]).expect("loopback has a free port");
        World { engine, record }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.engine.addresses()[0]).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a plain option");
        stream.set_nodelay(true).expect("a plain option");
        stream
    }

    pub(crate) fn handle(&self) -> Handle<impl Application<Mail = ()> + use<>> {
        self.engine.handle()
    }

    /// Mails every connection.
    pub(crate) fn wake_all(&self) {
        self.engine.handle().post_each(|_| Some(()));
    }

    pub(crate) fn opened(&self) -> u64 {
        self.record.opened.load(Ordering::SeqCst)
    }

    pub(crate) fn closed(&self) -> u64 {
        self.record.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn overlaps(&self) -> u64 {
        self.record.overlaps.load(Ordering::SeqCst)
    }

    pub(crate) fn ends(&self) -> u64 {
        self.record.ends.load(Ordering::SeqCst)
    }

    pub(crate) fn read_bytes(&self) -> u64 {
        self.record.read_bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn causes(&self) -> Vec<CloseCause> {
        self.record.causes.lock().expect("no test panics with it").clone()
    }
}

/// Waits until `done`.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Closes with RST.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a plain option");
}

impl Application for Test {
    type Mail = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn accept(
        &self,
        _local: &mut (),
        _listener: u16,
        _peer: SocketAddr,
        _: &dyn Accepted,
    ) -> Option<Box<dyn Machine<Test>>> {
        self.record.live.fetch_add(1, Ordering::SeqCst);
        let record = Arc::clone(&self.record);
        Some(Box::new(One { behaviour: self.behaviour, record, inside: Arc::default() }))
    }

    fn closed(&self, _local: &mut (), closed: &Closed) {
        self.record.live.fetch_sub(1, Ordering::SeqCst);
        self.record.causes.lock().expect("no test panics with it").push(closed.cause);
        self.record.closed.fetch_add(1, Ordering::SeqCst);
    }

    fn orphaned(&self, _local: &mut (), _mail: ()) {}

    fn thaw(&self, _local: &mut (), _frozen: &Frozen) -> Result<Box<dyn Machine<Test>>, ThawError> {
        Err(ThawError("these machines do not freeze".to_owned()))
    }
}

impl One {
    fn on_bytes(
        &mut self,
        incoming: &mut bowline_engine::machine::Incoming<'_>,
        context: &mut Context<'_, Test>,
    ) {
        let bytes = incoming.len();
        self.record.read_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        match self.behaviour {
            Behaviour::Echo => {
                let piece = incoming.take(bytes);
                context.write(piece);
            }
            Behaviour::AnswerAndCloseAnother => {
                incoming.consume(bytes);
                assert!(context.write_copy(&[ANSWER]), "there is memory for a byte");
                let mut known = self.record.known.lock().expect("no test panics with it");
                if !known.is_empty() {
                    let at = context.random() as usize % known.len();
                    context.send(known.swap_remove(at), ());
                }
                known.push(context.me);
            }
            Behaviour::Swallow => {
                let first = incoming.bytes()[0];
                incoming.consume(bytes);
                if bytes == 1 && first == 0 {
                    context.send(context.me, ());
                } else if bytes == 1 {
                    assert!(context.write_copy(&[ANSWER]), "there is memory for a byte");
                }
            }
            Behaviour::Pause | Behaviour::KeepOpen | Behaviour::ShutAndPause => incoming.consume(bytes),
        }
    }

    fn on_end(&mut self, context: &mut Context<'_, Test>) {
        self.record.ends.fetch_add(1, Ordering::SeqCst);
        match self.behaviour {
            Behaviour::KeepOpen => assert!(context.write_copy(&[ANSWER]), "there is memory for a byte"),
            Behaviour::ShutAndPause => {}
            _ => context.close(0),
        }
    }
}

impl Machine<Test> for One {
    fn on(&mut self, input: Input<'_, Test>, context: &mut Context<'_, Test>) {
        if self.inside.swap(true, Ordering::SeqCst) {
            self.record.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        match input {
            Input::Opened => {
                self.record.opened.fetch_add(1, Ordering::SeqCst);
                if matches!(self.behaviour, Behaviour::Pause | Behaviour::ShutAndPause) {
                    context.set_reading(false);
                }
                if self.behaviour == Behaviour::ShutAndPause {
                    context.shutdown_write();
                }
            }
            Input::Bytes(incoming) => self.on_bytes(incoming, context),
            Input::Mail { from: Address::OUTSIDE, .. } => context.set_reading(true),
            Input::Mail { .. } if self.behaviour == Behaviour::Swallow => context.send(context.me, ()),
            Input::Mail { .. } => context.close(1),
            Input::EndOfStream => self.on_end(context),
            _ => {}
        }
        self.inside.store(false, Ordering::SeqCst);
    }

    fn freeze(&self) -> Freeze {
        Freeze::NotYet { why: "these machines do not freeze" }
    }
}
