//! The task of one connection: takes its slot, runs its machine for everything that happened, and lets go again.
//!
//! A poll is a turn: open, mail, deadline, input up to the budget, one gathering write. Readiness comes from tokio, mail
//! and deadlines from the slot; the contract is kept by the core, which knows neither. It ends with the connection.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use super::socket::Socket;
use super::worker::Worker;
use crate::driver::core::{Core, FlushEnd, Here, Note, Port, ReadEnd, lost_by};
use crate::driver::kit::Kit;
use crate::driver::load::Load;
use crate::machine::{
    Address, Application, CloseCause, Closed, Effects, Lost, Machine, Open, OpenError, OpenRefused,
};
use crate::options::SocketOptions;
use crate::slot::inbox::Letters;
use crate::slot::shared::Shared;
use crate::slot::table::Held;
use crate::slot::word::Causes;
use crate::sys;
use crate::time::{TICK_MS, Tick, Time};

/// Times that a turn goes on because of what came while it ran; then others get their turn.
const ROUNDS_MAX: usize = 4;
/// Times that a machine may answer written output with more output in one round.
const FLUSHES_MAX: usize = 8;

/// A connection, as the runtime keeps it.
struct Connection<A: Application> {
    worker: Rc<Worker<A>>,
    address: Address,
    socket: Option<Socket>,
    /// The waker that stands beside the slot.
    waker: Option<Waker>,
}

/// Starts the task of the connection at `address`, which is claimed and queued for `worker`, on its thread.
pub(crate) fn start<A: Application>(worker: &Rc<Worker<A>>, address: Address) {
    let connection = Connection { worker: Rc::clone(worker), address, socket: None, waker: None };
    // Turns have budgets of their own, so tokio's would only cut them short a second time.
    drop(tokio::task::spawn_local(tokio::task::unconstrained(connection)));
}

/// How a round ended.
enum Round {
    /// The connection is over.
    Over,
    /// It waits for events, mail or its deadline.
    Rest,
    /// It has more to do.
    Again,
}

impl<A: Application> Future for Connection<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        let end = connection.turn(context);
        connection.worker.run_strays();
        end
    }
}

impl<A: Application> Connection<A> {
    /// Who has the duty to queue the slot wakes this task; it must know how before the slot is looked at.
    fn register(&mut self, waker: &Waker) {
        if self.waker.as_ref().is_none_or(|before| !before.will_wake(waker)) {
            self.waker = Some(waker.clone());
            self.worker.hub.wakers.set(self.address.index, Some(waker.clone()));
        }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.register(context.waker());
        let worker = Rc::clone(&self.worker);
        let table = &worker.hub.table;
        let _ = table.add_for(self.address, Causes::EVENT);
        // Nothing while a worker that looked for strays has the slot: it wakes this task when it lets go.
        let Some((mut held, causes)) = table.begin(self.address.index) else { return Poll::Pending };
        let kit = &mut *worker.kit.borrow_mut();
        worker.count_turn(kit);
        if !causes.any(Causes::MAIL.and(Causes::TIMER).and(Causes::AGAIN)) {
            worker.counts().events.add(1);
        }
        for _ in 0..ROUNDS_MAX {
            match self.guarded_round(&mut held, kit, context) {
                Round::Over => {
                    self.end(held, kit);
                    return Poll::Ready(());
                }
                Round::Again => break,
                Round::Rest => match table.release(held) {
                    Ok(()) => return Poll::Pending,
                    Err(back) => held = back,
                },
            }
            table.take_causes(&held);
        }
        table.requeue(held, Causes::AGAIN);
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// A machine that panics ends its own connection: nothing of its call may reach the next one on this thread.
    fn guarded_round(&mut self, held: &mut Held, kit: &mut Kit<A>, context: &mut Context<'_>) -> Round {
        let round = catch_unwind(AssertUnwindSafe(|| self.round(held, kit, context)));
        round.unwrap_or_else(|_| {
            kit.effects = Effects::default();
            Round::Over
        })
    }

    fn round(&mut self, held: &mut Held, kit: &mut Kit<A>, context: &mut Context<'_>) -> Round {
        let worker = &self.worker;
        let table = &worker.hub.table;
        let letters = table.take_mail(held);
        let Some((shared, own)) = table.parts(held) else { return Round::Over };
        let now = worker.hub.clock.now();
        let (me, peer) = (self.address, shared.peer());
        let mut round = Turn {
            core: &mut own.core,
            socket: &mut self.socket,
            here: Here { now, me, peer, last_active: shared.last_active().time() },
            port: TurnPort { worker, me, shared, now },
            kit,
            context,
        };
        round.establish(&mut own.accepted);
        round.take_letters(letters);
        round.look_at_time();
        let read = round.read();
        let more = round.flush();
        round.finish(read, more)
    }

    /// Ends the connection: it is counted, its slot is free and its mail on the way back before the peer sees it.
    fn end(&mut self, mut held: Held, kit: &mut Kit<A>) {
        let worker = &self.worker;
        let hub = &worker.hub;
        let now = hub.clock.now();
        let abort = self.close_record(&mut held, now, kit);
        hub.wakers.set(self.address.index, None);
        drop(hub.table.end(&mut held));
        loop {
            // Causes first: what bounces to this very slot while its mail is sent back is a cause of its own.
            hub.table.take_causes(&held);
            for node in hub.table.take_mail(&held) {
                worker.bounce(node, kit);
            }
            match hub.table.release(held) {
                Ok(()) => break,
                Err(back) => held = back,
            }
        }
        hub.table.give_back(self.address.index, now);
        worker.forget_task();
        if let Some(socket) = self.socket.take() {
            socket.close(abort);
        }
    }

    /// Tells the application of the end. True if the socket is to be reset.
    fn close_record(&self, held: &mut Held, now: Time, kit: &mut Kit<A>) -> bool {
        let hub = &self.worker.hub;
        let Some((shared, own)) = hub.table.parts(held) else { return true };
        // Without an end it is over because its machine panicked.
        let cause = own.core.end().unwrap_or(CloseCause::Lost(Lost::Broken));
        let record = Closed::of(self.address, shared, cause, !own.core.is_connecting(), now);
        if let Some(listener) = record.listener {
            hub.admitted.forget(listener, shared.peer().ip());
        }
        hub.app.closed(&mut kit.local, &record);
        own.core.is_abort() || own.core.end().is_none()
    }
}

/// One round of a turn: everything that a call needs, in one place.
struct Turn<'a, 'c, A: Application> {
    core: &'a mut Core<A>,
    socket: &'a mut Option<Socket>,
    here: Here,
    kit: &'a mut Kit<A>,
    port: TurnPort<'a, A>,
    context: &'a mut Context<'c>,
}

struct TurnPort<'a, A: Application> {
    worker: &'a Rc<Worker<A>>,
    me: Address,
    shared: &'a Shared,
    now: Time,
}

impl<A: Application> Port<A> for TurnPort<'_, A> {
    fn post(&mut self, to: Address, mail: A::Mail) {
        self.worker.post(self.me, to, mail);
    }

    fn open(
        &mut self,
        open: Open,
        machine: Box<dyn Machine<A>>,
        load: Box<Load>,
    ) -> Result<Address, OpenRefused<A>> {
        self.worker.open(open, machine, load)
    }

    fn set_peer(&mut self, peer: SocketAddr) -> bool {
        let granted = self.worker.hub.admitted.rename(self.shared.peer().ip(), peer.ip());
        if granted {
            self.shared.set_peer(peer);
        }
        granted
    }

    fn publish(&mut self, note: Note) {
        note.show(self.shared, self.now);
    }
}

impl<A: Application> Turn<'_, '_, A> {
    /// Brings a new connection up: its machine, its socket, its first input.
    fn establish(&mut self, accepted: &mut Option<TcpStream>) {
        if self.core.is_new() {
            let hub = &self.port.worker.hub;
            let listener = self.port.shared.listener();
            let stream = accepted.take().expect("an accepted connection comes with its socket");
            self.core.accept(hub.app.accept(&mut self.kit.local, listener, self.here.peer, &stream));
            match Socket::new(stream) {
                Ok(socket) => *self.socket = Some(socket),
                Err(error) => return self.lose(lost_by(&error)),
            }
            if self.core.end().is_none() {
                self.core.on_open(&self.here, self.kit, &mut self.port);
            }
        } else if self.core.is_connecting() && self.core.end().is_none() {
            self.connect();
        }
    }

    /// Begins a connect, or looks how far it has come.
    fn connect(&mut self) {
        if let Some(open) = self.core.take_connect() {
            match open_socket(&open, &self.port.worker.hub.options.socket) {
                Ok(socket) => *self.socket = Some(socket),
                Err(error) => return self.fail(&error),
            }
        }
        let Some(socket) = self.socket.as_ref() else { return };
        match socket.connected(self.context) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.core.on_open(&self.here, self.kit, &mut self.port),
            Poll::Ready(Err(error)) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.core.on_failed(OpenError::from(error), &self.here, self.kit, &mut self.port);
    }

    fn lose(&mut self, lost: Lost) {
        self.core.on_lost(lost, &self.here, self.kit, &mut self.port);
    }

    fn take_letters(&mut self, letters: Letters<A::Mail>) {
        let worker = self.port.worker;
        for mut node in letters {
            if node.to != self.here.me || !self.core.takes_mail() {
                worker.bounce(node, self.kit);
                continue;
            }
            let Some(mail) = node.mail.take() else { continue };
            let letter = (node.from, node.bounced, mail);
            worker.keep_node(node);
            worker.counts().mail.add(1);
            self.core.on_mail(letter, &self.here, self.kit, &mut self.port);
        }
    }

    fn look_at_time(&mut self) {
        if self.core.deadline().time() <= self.here.now {
            self.core.on_timer(&self.here, self.kit, &mut self.port);
        }
        // One that only waits for its peer to take what is queued ends too.
        if self.port.worker.hub.is_stopping() {
            self.lose(Lost::Shutdown);
        }
    }

    /// Reads what there is, up to the budget. True if it must go on without an event; nothing if no buffer was left.
    fn read(&mut self) -> Option<bool> {
        if self.core.is_connecting() || self.core.end().is_some() {
            return Some(false);
        }
        let Some(socket) = self.socket.as_ref() else { return Some(false) };
        let budget = self.port.worker.hub.options.read_budget_bytes;
        let mut bytes = 0;
        let mut source = |room: &mut [u8]| socket.read(room);
        let end = self.core.read(&mut source, (budget, &mut bytes), &self.here, self.kit, &mut self.port);
        if bytes > 0 {
            self.port.shared.count_in(bytes);
            self.port.shared.set_active(Tick::floor(self.here.now));
        }
        if end == ReadEnd::Budget && bytes == 0 { None } else { Some(end == ReadEnd::Budget) }
    }

    /// Writes what is queued and tells the machine, as long as it answers with more. True if it must go on later.
    fn flush(&mut self) -> bool {
        for _ in 0..FLUSHES_MAX {
            let mut written = 0;
            let socket = self.socket.as_ref();
            let mut sink = |slices: &[io::IoSlice<'_>]| match socket {
                Some(socket) => socket.write(slices),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            let end = self.core.flush(&mut sink, &mut written, &self.here, self.kit, &mut self.port);
            if written > 0 {
                self.port.shared.count_out(written);
            }
            let over = matches!(end, FlushEnd::Over);
            if over || !self.core.tell_flushed(&self.here, self.kit, &mut self.port) {
                return false;
            }
        }
        true
    }

    /// Closes, or gives memory back, publishes what is to be seen, and says which event is waited for.
    fn finish(&mut self, read: Option<bool>, more: bool) -> Round {
        if self.core.take_shutdown()
            && let Some(socket) = self.socket.as_ref()
        {
            socket.shutdown_write();
        }
        if self.core.is_over() {
            return Round::Over;
        }
        self.core.unload(self.kit);
        self.port.shared.set_memory(self.core.memory_bytes());
        let waits = self.wait(read.is_none());
        self.file_deadline(read.is_none());
        if waits && !more && read != Some(true) { Round::Rest } else { Round::Again }
    }

    /// Asks to be woken for what the connection wants. False if that is there already.
    fn wait(&mut self, starved: bool) -> bool {
        let core = &*self.core;
        if core.is_connecting() {
            return true;
        }
        let Some(socket) = self.socket.as_mut() else { return true };
        if core.wants_write() && socket.is_writable(self.context) {
            return false;
        }
        if core.wants_offer() {
            return false;
        }
        if core.wants_read() {
            return starved || !socket.is_readable(self.context);
        }
        if socket.is_broken(self.context)
            && let Some(error) = socket.take_error()
        {
            self.lose(lost_by(&error));
            return false;
        }
        true
    }

    /// Files the deadline, if it changed. A connection that found no buffer looks again soon.
    fn file_deadline(&mut self, starved: bool) {
        let now = self.here.now;
        let soon = if starved { Tick::ceil(now.after_ms(TICK_MS)) } else { Tick::NEVER };
        let deadline = self.core.deadline().min(soon);
        let shared = self.port.shared;
        if shared.deadline.load(Ordering::Relaxed) != deadline.0 {
            self.port.worker.timers.file(self.here.me.index, shared, deadline, now);
        }
    }
}

fn open_socket(open: &Open, options: &SocketOptions) -> io::Result<Socket> {
    let (stream, _) = sys::socket::connect(open, options)?;
    Socket::new(stream)
}
