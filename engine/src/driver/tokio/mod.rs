//! The tokio mode: the same machines as in the raw mode, on one current-thread runtime per worker.
//!
//! It binds the listeners, starts the threads there will ever be, and answers for them to the rest of the process. A
//! connection is one task of one worker for its whole life; mail wakes that task, on whatever thread it is sent. Nothing
//! here starts a thread later or blocks a runtime. Called by the engine's front.

mod wakers;
mod hub;
mod socket;
mod stop;
mod timers;
mod worker;
mod acceptor;
mod connection;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use self::acceptor::Listener;
use self::hub::{Hub, Order};
use self::worker::{BeforeSleep, Worker};
use crate::driver::control::{ConnectionInfo, Control, StartError};
use crate::machine::{Address, Application};
use crate::options::{Accept, Options};
use crate::stats::Stats;
use crate::sys;
use crate::time::Time;

thread_local! {
    /// The worker of this thread, for the runtime's call before it sleeps.
    static RESTING: RefCell<Option<Rc<dyn BeforeSleep>>> = const { RefCell::new(None) };
}

/// Binds `listen` and starts every thread there will ever be.
pub(crate) fn start<A: Application>(
    app: Arc<A>,
    options: Options,
    listen: &[SocketAddr],
) -> Result<(Arc<dyn Control<A>>, Vec<SocketAddr>), StartError> {
    let hub = Arc::new(Hub::new(app, options));
    let (listeners, addresses) = bind(&hub, listen)?;
    let control = Arc::new(Running { hub, threads: Mutex::new(Vec::new()) });
    if let Err(error) = control.start_threads(listeners) {
        control.end();
        return Err(error.into());
    }
    Ok((control, addresses))
}

/// The listeners of every worker, and where they are bound.
fn bind<A: Application>(
    hub: &Arc<Hub<A>>,
    listen: &[SocketAddr],
) -> Result<(Vec<Vec<Listener<A>>>, Vec<SocketAddr>), StartError> {
    let options = &hub.options;
    let each = options.accept == Accept::Reuseport;
    let mut listeners: Vec<Vec<Listener<A>>> = hub.seats.iter().map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for (number, address) in (0..).zip(listen) {
        let failed = |error| StartError { address: Some(*address), error };
        let first = sys::socket::listen(*address, each, &options.socket).map_err(failed)?;
        let bound = first.local_addr().map_err(failed)?;
        listeners[0].push(Listener::new(hub, number, first));
        for others in listeners.iter_mut().skip(1).filter(|_| each) {
            let socket = sys::socket::listen(bound, true, &options.socket).map_err(failed)?;
            others.push(Listener::new(hub, number, socket));
        }
        addresses.push(bound);
    }
    Ok((listeners, addresses))
}

/// A running engine in the tokio mode.
struct Running<A: Application> {
    hub: Arc<Hub<A>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<A: Application> Running<A> {
    /// Starts the workers and waits until each of them accepts.
    fn start_threads(&self, listeners: Vec<Vec<Listener<A>>>) -> io::Result<()> {
        let (ready, started) = mpsc::channel();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, listeners) in listeners.into_iter().enumerate() {
            let (hub, ready) = (Arc::clone(&self.hub), ready.clone());
            let name = format!("tokio-{number}");
            let main = move || run(hub, number, listeners, &ready);
            threads.push(thread::Builder::new().name(name).spawn(main)?);
        }
        drop(ready);
        for _ in 0..threads.len() {
            started.recv().unwrap_or_else(|_| Err(io::Error::other("a worker ended at its start")))?;
        }
        Ok(())
    }
}

impl<A: Application> Control<A> for Running<A> {
    fn now(&self) -> Time {
        self.hub.clock.now()
    }

    fn stats(&self) -> Stats {
        self.hub.stats()
    }

    fn for_each(&self, each: &mut dyn FnMut(ConnectionInfo)) {
        self.hub.table.for_each(|address, shared, _| each(ConnectionInfo::of(address, shared)));
    }

    fn post(&self, to: Address, mail: A::Mail) -> Result<(), A::Mail> {
        self.hub.post_from_outside(to, mail)
    }

    fn stop_accepting(&self, listener: u16) {
        self.hub.seats.iter().for_each(|seat| seat.order(Order::StopAccepting(listener)));
    }

    fn end(&self) {
        self.hub.stopping.store(true, Ordering::Release);
        self.hub.seats.iter().for_each(|seat| seat.order(Order::Stop));
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // The engine may be dropped by one of its own machines' owners: a thread cannot wait for itself. A thread
            // that panicked has said so on standard error.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// What the thread of a worker does, from its start to its end.
fn run<A: Application>(
    hub: Arc<Hub<A>>,
    number: usize,
    listeners: Vec<Listener<A>>,
    ready: &mpsc::Sender<io::Result<()>>,
) {
    if hub.options.pin_cores {
        pin(number);
    }
    let runtime = match build_runtime(&hub, number) {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let worker = Rc::new(Worker::new(hub, number, connection::start));
    RESTING.set(Some(Rc::clone(&worker) as Rc<dyn BeforeSleep>));
    runtime.block_on(async {
        let accepting = listeners.into_iter().try_for_each(|listener| acceptor::start(&worker, listener));
        let failed = accepting.is_err();
        // The receiver is gone only if another worker failed to start; then this one is told to stop.
        drop(ready.send(accepting));
        if !failed {
            Rc::clone(&worker).lead().await;
        }
    });
    RESTING.set(None);
}

fn build_runtime<A: Application>(hub: &Hub<A>, number: usize) -> io::Result<LocalRuntime> {
    let parks = Arc::clone(&hub.seats[number].parks);
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(move || {
            parks.add(1);
            RESTING.with_borrow(|worker| worker.as_ref().inspect(|worker| worker.end_batch()).is_some());
        })
        .build_local(LocalOptions::default())
}

/// Pins this thread to the CPU of its number, in the order of those that it may use.
fn pin(number: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.get(number % cores.len().max(1)) {
        core_affinity::set_for_current(*core);
    }
}
