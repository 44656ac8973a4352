//! The application under test: machines are closures, everything they see can be logged, and whatever a driver must never
//! do is noticed in every call, whatever the test is about.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bowline_engine::machine::{
    Accepted, Address, Application, Closed, Context, Freeze, Frozen, Input, Machine, ThawError,
};

/// What these machines send each other.
#[derive(Debug)]
pub(crate) enum Note {
    /// A number.
    Number(u64),
    /// Asks a machine to do what its test says, with an address.
    Go(Address),
    /// Asks a machine to open a connection.
    Open(SocketAddr),
}

/// What a machine does with an input.
pub(crate) type Act = Box<dyn FnMut(Input<'_, Probe>, &mut Context<'_, Probe>) + Send>;

/// A closure as what a machine does.
pub(crate) fn act(act: impl FnMut(Input<'_, Probe>, &mut Context<'_, Probe>) + Send + 'static) -> Act {
    Box::new(act)
}

/// What machines noted, waited for by tests.
#[derive(Default)]
pub(crate) struct Log {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
}

/// A test gives up after this long without what it waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a line.
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.lock().push(line.into());
        self.changed.notify_all();
    }

    /// Everything so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// Waits on other threads until the log is as it should be.
    pub(crate) fn wait(&self, done: impl Fn(&[String]) -> bool) {
        let began = Instant::now();
        let mut lines = self.lock();
        while !done(&lines) {
            assert!(began.elapsed() < PATIENCE, "it never came to that: {lines:#?}");
            let waited = self.changed.wait_timeout(lines, PATIENCE);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The application.
pub(crate) struct Probe {
    pub(crate) log: Arc<Log>,
    accept: Box<dyn Fn(u16) -> Option<Act> + Send + Sync>,
    pub(crate) orphans: AtomicU64,
    pub(crate) closed: Mutex<Vec<Closed>>,
}

impl Probe {
    /// An application whose accepted connections do what `accept` says for their listener.
    pub(crate) fn new(
        log: &Arc<Log>,
        accept: impl Fn(u16) -> Option<Act> + Send + Sync + 'static,
    ) -> Arc<Probe> {
        Arc::new(Probe {
            log: Arc::clone(log),
            accept: Box::new(accept),
            orphans: AtomicU64::new(0),
            closed: Mutex::default(),
        })
    }
}

impl Application for Probe {
    type Mail = Note;
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn accept(
        &self,
        _local: &mut (),
        listener: u16,
        _peer: SocketAddr,
        _: &dyn Accepted,
    ) -> Option<Box<dyn Machine<Probe>>> {
        Some(Box::new(Actor::new(&self.log, (self.accept)(listener)?)))
    }

    fn closed(&self, _local: &mut (), record: &Closed) {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).push(*record);
        self.log.add(format!("closed {:?}", record.cause));
    }

    fn orphaned(&self, _local: &mut (), _mail: Note) {
        self.orphans.fetch_add(1, Ordering::SeqCst);
        self.log.add("orphaned");
    }

    fn thaw(&self, _local: &mut (), _frozen: &Frozen) -> Result<Box<dyn Machine<Probe>>, ThawError> {
        Err(ThawError("closures cannot be thawed".to_owned()))
    }
}

/// One connection: a closure, watched.
pub(crate) struct Actor {
    act: Act,
    log: Arc<Log>,
    busy: AtomicBool,
    last_now: bowline_engine::time::Time,
    is_over: bool,
    begun: bool,
    me: Option<Address>,
}

impl Actor {
    /// A machine that does `act`.
    pub(crate) fn new(log: &Arc<Log>, act: Act) -> Actor {
        Actor {
            act,
            log: Arc::clone(log),
            busy: AtomicBool::new(false),
            last_now: bowline_engine::time::Time::ZERO,
            is_over: false,
            begun: false,
            me: None,
        }
    }

    /// A machine that takes over a connection that is open already.
    pub(crate) fn successor(log: &Arc<Log>, act: Act) -> Actor {
        Actor { begun: true, ..Actor::new(log, act) }
    }

    fn forbid(&self, what: &str, happened: bool) {
        if happened {
            self.log.add(format!("FORBIDDEN {what}"));
        }
    }
}

impl Machine<Probe> for Actor {
    fn on(&mut self, input: Input<'_, Probe>, context: &mut Context<'_, Probe>) {
        self.forbid("a call within a call", self.busy.swap(true, Ordering::SeqCst));
        self.forbid("time went back", context.now < self.last_now);
        self.forbid("a call after the last input", self.is_over);
        self.forbid("another address", self.me.is_some_and(|me| me != context.me));
        let begins = matches!(input, Input::Opened | Input::Failed(_));
        let is_mail = matches!(input, Input::Mail { .. } | Input::Bounced { .. });
        self.forbid("opened twice", begins && self.begun);
        self.forbid("input before it is open", !begins && !self.begun && !is_mail);
        self.begun |= begins;
        (self.last_now, self.me) = (context.now, Some(context.me));
        self.is_over = matches!(input, Input::Failed(_) | Input::Lost(_));
        (self.act)(input, context);
        self.busy.store(false, Ordering::SeqCst);
    }

    fn freeze(&self) -> Freeze {
        Freeze::NotYet { why: "a closure is no data" }
    }
}
