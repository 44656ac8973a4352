//! The raw mode: one epoll reactor per core, and a fixed pool of workers that run what the reactors find.
//!
//! A readable socket's way: `leader` (epoll) → `worker` (batch) → `turn` (read, machine, mail) → `outbox` (mail to the
//! other connection) → `turn` again (flush, arm, release). `hub` is what all threads share, `balance` says which
//! connections leave their reactor, `acceptor` and `supervisor` bring new ones, `watchdog` looks for lost ones.
//! The ownership rules O1 to O12 stand in `docs/architecture.md`. Started by `engine` alone.

mod balance;
mod hub;
mod queue;
mod outbox;
mod turn;
mod acceptor;
mod leader;
mod worker;
mod watchdog;
mod supervisor;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::deque::Worker as Deque;
use crossbeam::utils::CachePadded;
use mio::Waker;

use crate::driver::control::{ConnectionInfo, Control, StartError};
use crate::machine::{Address, Application};
use crate::options::{Accept, Options};
use crate::slot::word::Causes;
use crate::stats::Stats;
use crate::time::Time;

use acceptor::Acceptor;
use hub::{Hub, WorkerSeat};
use leader::Lead;
use supervisor::Supervisor;
use worker::PoolWorker;

/// How long the end waits for connections to be reset before it ends the threads under them, in milliseconds.
const END_MS: u64 = 5_000;

/// A running raw mode.
struct Raw<A: Application> {
    hub: Arc<Hub<A>>,
    waker: Waker,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Binds `listen` and starts every thread there will ever be.
pub(crate) fn start<A: Application>(
    app: Arc<A>,
    options: Options,
    listen: &[SocketAddr],
) -> Result<(Arc<dyn Control<A>>, Vec<SocketAddr>), StartError> {
    let deques: Vec<_> = (0..options.workers.max(1)).map(|_| Deque::new_fifo()).collect();
    let seats = deques.iter().map(|deque| CachePadded::new(WorkerSeat::new(deque.stealer()))).collect();
    let hub = Arc::new(Hub::new(app, options, seats, listen.len())?);
    let (mut per_reactor, shared, addresses) = bind(&hub, listen)?;
    let (supervisor, waker) = Supervisor::new(Arc::clone(&hub), shared)?;
    let mut leads = Vec::new();
    for (number, acceptors) in per_reactor.drain(..).enumerate() {
        leads.push(Some(Lead::new(Arc::clone(&hub), number, acceptors)?));
    }
    let raw = Arc::new(Raw { hub, waker, threads: Mutex::default() });
    if let Err(error) = spawn(&raw, deques, leads, supervisor) {
        raw.end();
        return Err(error.into());
    }
    Ok((raw, addresses))
}

type Bound = (Vec<Vec<Acceptor>>, Vec<Acceptor>, Vec<SocketAddr>);

/// One listening socket per reactor and address, or one per address for the supervisor.
fn bind<A: Application>(hub: &Hub<A>, listen: &[SocketAddr]) -> Result<Bound, StartError> {
    let mut per_reactor: Vec<Vec<Acceptor>> = hub.reactors.iter().map(|_| Vec::new()).collect();
    let (mut shared, mut addresses) = (Vec::new(), Vec::new());
    for (number, address) in (0..).zip(listen) {
        let mut bound = *address;
        let reuse_port = hub.options.accept == Accept::Reuseport;
        let mut bind = || -> std::io::Result<Acceptor> {
            let acceptor = Acceptor::bind(bound, number, reuse_port, &hub.options.socket)?;
            // Port 0 was taken by the first; the others join it.
            bound = acceptor.listener.local_addr()?;
            Ok(acceptor)
        };
        let fail = |error| StartError { address: Some(*address), error };
        if reuse_port {
            for acceptors in &mut per_reactor {
                acceptors.push(bind().map_err(fail)?);
            }
        } else {
            shared.push(bind().map_err(fail)?);
        }
        addresses.push(bound);
    }
    Ok((per_reactor, shared, addresses))
}

fn spawn<A: Application>(
    raw: &Arc<Raw<A>>,
    deques: Vec<Deque<u32>>,
    mut leads: Vec<Option<Lead<A>>>,
    supervisor: Supervisor<A>,
) -> std::io::Result<()> {
    let mut threads = raw.threads.lock().unwrap_or_else(PoisonError::into_inner);
    let cores = if raw.hub.options.pin_cores { core_affinity::get_core_ids() } else { None };
    let core =
        |number: usize| cores.as_ref().and_then(|cores| cores.get(number % cores.len().max(1)).copied());
    for (number, deque) in deques.into_iter().enumerate() {
        let lead = leads.get_mut(number).filter(|_| raw.hub.workers_lead()).and_then(Option::take);
        let (hub, core) = (Arc::clone(&raw.hub), core(number));
        threads.push(thread(format!("worker-{number}"), move || {
            core.map(core_affinity::set_for_current);
            let known = hub.workers[number].thread.set(std::thread::current());
            debug_assert!(known.is_ok(), "a seat has one thread");
            PoolWorker::new(hub, number, deque, lead).run();
        })?);
    }
    for lead in leads.into_iter().flatten() {
        let (hub, core) = (Arc::clone(&raw.hub), core(lead.number));
        threads.push(thread(format!("reactor-{}", lead.number), move || {
            core.map(core_affinity::set_for_current);
            worker::lead_only(&hub, lead);
        })?);
    }
    threads.push(thread("supervisor".to_owned(), move || supervisor.run())?);
    Ok(())
}

fn thread(name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(|| {
        let whole = AbortOnUnwind;
        body();
        std::mem::forget(whole);
    })
}

/// Ends the process when one of its threads unwinds. Machines are guarded; a panic beside them is a defect of this
/// engine, and a process that lives on without one of its threads would hold connections that nobody runs.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

impl<A: Application> Control<A> for Raw<A> {
    fn now(&self) -> Time {
        self.hub.clock.now()
    }

    fn stats(&self) -> Stats {
        let hub = &self.hub;
        let buffers = hub.pool.stats();
        let mut stats = Stats {
            connections: hub.table.live() as u64,
            stranded: hub.stranded.value(),
            buffer_bytes: buffers.charged_bytes as u64,
            buffer_idle_bytes: buffers.idle_bytes as u64,
            buffers_refused: buffers.refused as u64,
            workers: hub.workers.iter().map(|seat| seat.counts.read()).collect(),
            ..Stats::default()
        };
        hub.accepts.read_into(&mut stats);
        // With handoff the reactors have threads of their own, whose waits are shown beside the worker of their number.
        for (worker, reactor) in stats.workers.iter_mut().zip(&hub.reactors) {
            worker.waits += reactor.counts.waits.value();
            worker.events += reactor.counts.events.value();
        }
        stats
    }

    fn for_each(&self, each: &mut dyn FnMut(ConnectionInfo)) {
        self.hub.table.for_each(|address, shared, _| each(ConnectionInfo::of(address, shared)));
    }

    fn post(&self, to: Address, mail: A::Mail) -> Result<(), A::Mail> {
        self.hub.post_from_outside(to, mail)
    }

    fn stop_accepting(&self, listener: u16) {
        self.hub.close_listener(listener);
        let _ = self.waker.wake();
    }

    fn end(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
            return;
        }
        for listener in 0..self.hub.listeners() {
            self.stop_accepting(listener);
        }
        self.hub.stopping.store(true, Ordering::SeqCst);
        let until = self.now().after_ms(END_MS);
        while self.hub.table.live() > 0 && self.now() < until {
            let mut open = Vec::new();
            self.hub.table.for_each(|address, _, _| open.push(address));
            open.into_iter().for_each(|address| self.hub.add_from_outside(address, Causes::TIMER));
            std::thread::sleep(Duration::from_millis(1));
        }
        self.hub.ended.store(true, Ordering::SeqCst);
        self.hub.wake_all();
        let _ = self.waker.wake();
        for thread in threads {
            // A panic has been printed by its thread.
            drop(thread.join());
        }
    }
}
