//! One turn of a connection, and its end: the only place of the raw mode that touches a connection's socket.
//!
//! [`Runner::turn`] takes what caused it, calls the machine and leaves output queued; [`Runner::finish`] flushes, arms
//! and releases, in that order (O3). Between the two the slot is held by this worker. It chooses nothing: which slot
//! runs when is the worker's business.

use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::driver::core::{Core, FlushEnd, Here, ReadEnd, lost_by};
use crate::driver::epoll::balance::Candidate;
use crate::driver::epoll::hub::{Hub, Own};
use crate::driver::epoll::outbox::{Outbox, TurnPort};
use crate::driver::kit::Kit;
use crate::machine::{Address, Application, Closed, Effects, Lost, OpenError};
use crate::slot::inbox::Letters;
use crate::slot::shared::{NO_LISTENER, Shared};
use crate::slot::table::Held;
use crate::slot::word::Causes;
use crate::stats::WorkerCounts;
use crate::sys::memory;
use crate::sys::poller::Interest;
use crate::sys::socket;
use crate::time::{Tick, Time};
use crate::timer;

/// A machine that answers every flush with more output is flushed so often in one turn; the rest waits for the socket.
const FLUSH_ROUNDS_MAX: usize = 4;
/// Where input of a closing connection is thrown away to.
const DISCARD_BYTES: usize = 4 << 10;

/// What reading does not use up: whoever was told of it has the epoll set look again.
const UNSETTLED: Causes = Causes::OUT.and(Causes::BROKEN).and(Causes::URGENT);

/// What runs turns: one per worker.
pub(crate) struct Runner<A: Application> {
    pub(crate) hub: Arc<Hub<A>>,
    pub(crate) kit: Kit<A>,
    pub(crate) out: Outbox<A>,
    /// The moment of the turn.
    pub(crate) now: Time,
    /// The same in microseconds, for budgets.
    pub(crate) now_us: u64,
    /// Bytes read in this batch.
    pub(crate) read_bytes: usize,
    pub(crate) number: usize,
}

impl<A: Application> Runner<A> {
    /// What worker `number` runs turns with.
    pub(crate) fn new(hub: Arc<Hub<A>>, kit: Kit<A>, out: Outbox<A>, number: usize) -> Runner<A> {
        let now = hub.clock.now();
        Runner { hub, kit, out, now, now_us: 0, read_bytes: 0, number }
    }

    /// The counts of this worker.
    pub(crate) fn counts(&self) -> &WorkerCounts {
        &self.hub.workers[self.number].counts
    }

    /// Runs a held slot for `causes` (O2). A machine that panics ends its own connection: nothing of its call may reach
    /// the next one on this thread.
    pub(crate) fn turn(&mut self, held: &mut Held, causes: Causes) {
        let mut letters = self.hub.table.take_mail(held);
        let turn = AssertUnwindSafe(|| self.unguarded_turn(held, causes, &mut letters));
        if catch_unwind(turn).is_err() {
            self.give_up(held);
        }
        // What a machine that panicked has not seen goes back.
        let counts = &self.hub.workers[self.number].counts;
        self.out.bounce_all(letters, &self.hub, &mut self.kit.local, counts);
    }

    /// Reads the clock. A worker must do so between queueing a slot, or taking it from somebody's queue, and its turn:
    /// whoever held it before has let go by then and read the clock earlier, so `now` never goes back for one machine
    /// (rule 2), whichever workers run it.
    pub(crate) fn look_at_clock(&mut self) {
        self.now_us = self.hub.clock.micros();
        self.now = Time::from_micros(self.now_us);
        self.out.is_ahead = false;
    }

    /// Frees what this worker keeps for as many connections as have gone.
    pub(crate) fn ebb(&mut self) {
        self.out.free_spare();
        self.kit.free_spare();
        self.hub.app.ebb(&mut self.kit.local);
        memory::empty_thread_cache();
    }

    /// Ends the turn of a held slot (O3): flush, arm while still running, release last.
    pub(crate) fn finish(&mut self, mut held: Held) {
        let flush = AssertUnwindSafe(|| self.flush(&mut held));
        if catch_unwind(flush).is_err() {
            self.give_up(&mut held);
        }
        self.let_go(held);
    }

    /// The end of a connection whose machine panicked; what it wanted is forgotten.
    fn give_up(&mut self, held: &mut Held) {
        self.kit.effects = Effects::default();
        if let Some((_, own)) = self.hub.table.parts(held) {
            own.core.give_up();
        }
    }

    fn unguarded_turn(&mut self, held: &mut Held, causes: Causes, letters: &mut Letters<A::Mail>) {
        let Runner { hub, kit, out, now, read_bytes, number, .. } = self;
        let (hub, now) = (&**hub, *now);
        let counts = &hub.workers[*number].counts;
        counts.turns.add(1);
        let me = hub.table.address(held);
        let Some((shared, own)) = hub.table.parts(held) else { return };
        let here = here(me, shared, now);
        let port = &mut TurnPort { hub, out, shared, me, now };
        if own.core.is_new() {
            let stream = own.stream.as_ref().expect("an accepted connection comes with its socket");
            let machine = hub.app.accept(&mut kit.local, shared.listener(), here.peer, stream);
            own.core.accept(machine);
            own.core.on_open(&here, kit, port);
        }
        if hub.is_stopping() {
            own.core.on_lost(Lost::Shutdown, &here, kit, port);
        }
        begin_connect(own, &here, kit, port);
        if causes.any(Causes::EVENT) {
            shared.set_disarmed(causes.any(UNSETTLED));
            on_event(own, causes, &here, kit, port);
        }
        for mut node in letters {
            if node.to != me || !own.core.takes_mail() {
                port.out.bounce(node, hub, &mut kit.local, counts);
                continue;
            }
            counts.mail.add(1);
            let mail = node.mail.take().expect("a delivered node holds mail");
            own.core.on_mail((node.from, node.bounced, mail), &here, kit, port);
            port.out.keep_node(node, hub);
        }
        let readable = Causes::IN.and(Causes::PEER_SHUT).and(Causes::BROKEN);
        if std::mem::take(&mut own.again) || causes.any(readable) {
            *read_bytes += read(own, &here, kit, port);
        } else if own.core.wants_offer() {
            own.core.offer_kept(&here, kit, port);
        }
        if causes.any(Causes::TIMER) {
            // What comes next is compared with nothing, so that the same deadline can be filed again.
            shared.deadline.store(Tick::NEVER.0, SeqCst);
            let here = self::here(me, shared, now);
            own.core.on_timer(&here, kit, port);
        }
    }

    /// Writes what is queued, and tells the machine.
    fn flush(&mut self, held: &mut Held) {
        let Runner { hub, kit, out, now, .. } = self;
        let (hub, now) = (&**hub, *now);
        let me = hub.table.address(held);
        let Some((shared, own)) = hub.table.parts(held) else { return };
        let here = here(me, shared, now);
        flush(own, &here, kit, &mut TurnPort { hub, out, shared, me, now });
    }

    fn let_go(&mut self, mut held: Held) {
        let Runner { hub, kit, out, now, number, .. } = self;
        let hub = &**hub;
        let me = hub.table.address(&held);
        let Some((shared, own)) = hub.table.parts(&mut held) else {
            return self.release_empty(held);
        };
        let mut home = shared.home();
        hub.balance.note_turn(*number, home);
        if own.core.is_over() {
            return self.close(held);
        }
        own.again |= own.core.wants_offer();
        shared.set_memory(own.core.memory_bytes());
        own.core.unload(kit);
        // Before the deadline is filed, so that the wheel of the new home gets it.
        if !own.again
            && let Some(to) = hub.balance.destination(candidate(home, shared, own, hub))
        {
            change_home(own, shared, (home, to), hub);
            hub.workers[*number].counts.moves.add(1);
            home = to;
        }
        let deadline = own.core.deadline();
        if deadline.0 != shared.deadline.load(Relaxed)
            && let Some(tick) = timer::file(shared, deadline, Tick::floor(*now))
        {
            out.hints.push((home, me.index, tick));
        }
        if own.again {
            return out.requeue(held, Causes::AGAIN, hub);
        }
        self.rest(held, me);
    }

    /// Arms the socket and lets go. A cause that came meanwhile queues the slot again instead.
    #[cfg(not(release_before_arm))]
    fn rest(&mut self, mut held: Held, me: Address) {
        let Runner { hub, kit, out, now, .. } = self;
        let hub = &**hub;
        let Some((shared, own)) = hub.table.parts(&mut held) else { return };
        if !arm(own, shared, me, hub) {
            // Registering fails for want of memory alone: the connection cannot be watched, so it ends.
            let here = here(me, shared, *now);
            own.core.on_lost(Lost::Broken, &here, kit, &mut TurnPort { hub, out, shared, me, now: *now });
            return self.close(held);
        }
        if let Err(held) = hub.table.release(held) {
            out.requeue(held, Causes::NONE, hub);
        }
    }

    /// The wrong order, which MOSN has: a build that the test of descriptor reuse must notice.
    #[cfg(release_before_arm)]
    fn rest(&mut self, mut held: Held, me: Address) {
        let Runner { hub, out, .. } = self;
        let hub = &**hub;
        let Some((shared, own)) = hub.table.parts(&mut held) else { return };
        let late = own.stream.as_ref().map(|stream| {
            let interest = interest(&own.core).unwrap_or(Interest::NONE);
            shared.set_armed(Some(interest.0), own.core.is_reading());
            let (poller, fd) = (&hub.reactors[shared.home()].poller, std::os::fd::AsRawFd::as_raw_fd(stream));
            (poller, fd, interest, std::mem::replace(&mut own.registered, true))
        });
        if let Err(held) = hub.table.release(held) {
            return out.requeue(held, Causes::NONE, hub);
        }
        if let Some((poller, fd, interest, registered)) = late {
            std::thread::sleep(std::time::Duration::from_micros(200));
            poller.arm_late(fd, me.as_u64(), interest, registered);
        }
    }

    /// Ends a connection (O7): out of the epoll set, generation over, mail bounced, counted, descriptor closed, slot free.
    fn close(&mut self, mut held: Held) {
        let Runner { hub, kit, out, now, number, .. } = self;
        let (hub, now) = (&**hub, *now);
        let counts = &hub.workers[*number].counts;
        let me = hub.table.address(&held);
        let Some((shared, own)) = hub.table.parts(&mut held) else { return };
        if let (true, Some(stream)) = (own.registered, &own.stream) {
            // It fails only if the socket is not in the set, and then nothing is to be done.
            let _ = hub.reactors[shared.home()].poller.remove(stream);
        }
        let cause = own.core.end().expect("a connection that closes knows why");
        let connected = own.stream.is_some() && !own.core.is_connecting();
        let record = Closed::of(me, shared, cause, connected, now);
        hub.note_home(shared.home(), -1);
        if let Some(listener) = record.listener {
            hub.admitted.forget(listener, shared.peer().ip());
        }
        let own = hub.table.end(&mut held).expect("its parts were just looked at");
        out.bounce_all(hub.table.take_mail(&held), hub, &mut kit.local, counts);
        // Counted first: whoever sees the end of the stream may ask why it came.
        hub.app.closed(&mut kit.local, &record);
        close_socket(own);
        self.release_empty(held);
        self.hub.table.give_back(me.index, now);
    }

    /// Lets go of a slot without a connection, after its mail has been sent back.
    fn release_empty(&mut self, mut held: Held) {
        while let Err(back) = self.hub.table.release(held) {
            held = back;
            self.hub.table.take_causes(&held);
            let letters = self.hub.table.take_mail(&held);
            let counts = &self.hub.workers[self.number].counts;
            self.out.bounce_all(letters, &self.hub, &mut self.kit.local, counts);
        }
    }
}

fn here(me: Address, shared: &Shared, now: Time) -> Here {
    Here { now, me, peer: shared.peer(), last_active: shared.last_active().time() }
}

/// Begins to connect a connection that is to be opened.
fn begin_connect<A: Application>(
    own: &mut Own<A>,
    here: &Here,
    kit: &mut Kit<A>,
    port: &mut TurnPort<'_, A>,
) {
    let Some(open) = own.core.take_connect() else { return };
    match socket::connect(&open, &port.hub.options.socket) {
        Ok((stream, established)) => {
            own.stream = Some(stream);
            if established {
                own.core.on_open(here, kit, port);
            }
        }
        Err(error) => own.core.on_failed(OpenError::from(&error), here, kit, port),
    }
}

/// What epoll reported, as far as reading does not find out by itself.
fn on_event<A: Application>(
    own: &mut Own<A>,
    causes: Causes,
    here: &Here,
    kit: &mut Kit<A>,
    port: &mut TurnPort<'_, A>,
) {
    let Some(stream) = &own.stream else { return };
    if own.core.is_connecting() {
        match stream.take_error() {
            Ok(None) if causes.any(Causes::OUT) => own.core.on_open(here, kit, port),
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => own.core.on_failed(OpenError::from(&error), here, kit, port),
        }
        return;
    }
    if causes.any(Causes::PEER_SHUT) {
        own.core.note_peer_shut();
    }
    // Whoever reads gets what is left before the error; whoever does not would never hear of it.
    if causes.any(Causes::BROKEN) && !own.core.wants_read() {
        match stream.take_error() {
            Ok(Some(error)) | Err(error) => own.core.on_lost(lost_by(&error), here, kit, port),
            Ok(None) if !own.core.is_shut() => own.core.on_lost(Lost::Broken, here, kit, port),
            Ok(None) => {}
        }
    }
}

/// Reads up to the budget; says how much. A socket that was drained is armed as it was: what arrives from here on is
/// an event of its own.
fn read<A: Application>(
    own: &mut Own<A>,
    here: &Here,
    kit: &mut Kit<A>,
    port: &mut TurnPort<'_, A>,
) -> usize {
    let Own { core, stream, again, registered, .. } = own;
    let Some(stream) = stream else { return 0 };
    let mut read = 0;
    let budget = port.hub.options.read_budget_bytes;
    let mut source = |room: &mut [u8]| (&*stream).read(room);
    let end = core.read(&mut source, (budget, &mut read), here, kit, port);
    *again = end == ReadEnd::Budget;
    if end == ReadEnd::Drained && *registered {
        port.shared.set_drained();
    }
    if read > 0 {
        port.shared.count_in(read);
        port.shared.set_active(Tick::floor(here.now));
    }
    read
}

/// Writes what is queued, tells the machine, and shuts the write side if that is due.
fn flush<A: Application>(own: &mut Own<A>, here: &Here, kit: &mut Kit<A>, port: &mut TurnPort<'_, A>) {
    let Own { core, stream, .. } = own;
    let Some(stream) = stream else { return };
    let mut written = 0;
    for _ in 0..FLUSH_ROUNDS_MAX {
        let mut sink = |slices: &[IoSlice<'_>]| match slices {
            [one] => (&*stream).write(one),
            many => (&*stream).write_vectored(many),
        };
        let end = core.flush(&mut sink, &mut written, here, kit, port);
        let told = core.tell_flushed(here, kit, port);
        if !told || !matches!(end, FlushEnd::Done) || core.output_bytes() == 0 {
            break;
        }
    }
    if written > 0 {
        port.shared.count_out(written);
    }
    if core.take_shutdown() {
        // A socket that is not connected any more reports that by itself.
        let _ = stream.shutdown(Shutdown::Write);
    }
}

/// What a resting connection is armed for (O6); nothing if no event may reach it.
fn interest<A: Application>(core: &Core<A>) -> Option<Interest> {
    if core.is_connecting() {
        return Some(Interest::OUT);
    }
    let mut interest = Interest::NONE;
    if core.wants_read() {
        interest = Interest::IN;
    } else if core.is_shut() {
        return None;
    }
    if core.awaits_end() {
        interest = interest.and(Interest::PEER_SHUT);
    }
    if core.wants_write() {
        interest = interest.and(Interest::OUT);
    }
    Some(interest)
}

/// A held connection, as the decision about its home sees it.
fn candidate<'a, A: Application>(
    home: usize,
    shared: &Shared,
    own: &'a mut Own<A>,
    hub: &Hub<A>,
) -> Candidate<'a> {
    let listener = shared.listener();
    let is_client = listener != NO_LISTENER && Some(listener) != hub.options.own_listener;
    Candidate { home, is_client, weight: &mut own.weight }
}

/// Leaves the epoll set of the old home for the new one, where arming adds it under the same token (O8). What the old
/// set has already reported finds the slot all the same, and so do the entries that the old wheel keeps.
fn change_home<A: Application>(own: &mut Own<A>, shared: &Shared, (from, to): (usize, usize), hub: &Hub<A>) {
    if std::mem::take(&mut own.registered)
        && let Some(stream) = &own.stream
    {
        // It fails only if the socket is not in the set, and then nothing is to be done.
        let _ = hub.reactors[from].poller.remove(stream);
    }
    shared.set_home(to);
    shared.set_disarmed(true);
    hub.note_home(from, -1);
    hub.note_home(to, 1);
}

/// Arms a held connection. False if the system refused.
#[cfg(not(release_before_arm))]
fn arm<A: Application>(own: &mut Own<A>, shared: &Shared, me: Address, hub: &Hub<A>) -> bool {
    let Some(stream) = &own.stream else { return true };
    let poller = &hub.reactors[shared.home()].poller;
    let reading = own.core.wants_read();
    let Some(interest) = interest(&own.core) else {
        // Hang-up is level-ready for ever once both sides are shut, so such a socket leaves the set (O6).
        if std::mem::replace(&mut own.registered, false) {
            let _ = poller.remove(stream);
        }
        shared.set_armed(None, false);
        return true;
    };
    if shared.armed() == Some(interest.0) {
        return true;
    }
    // Published before the system call: from it on, an event may disarm the slot again.
    shared.set_armed(Some(interest.0), reading);
    let token = me.as_u64();
    if std::mem::replace(&mut own.registered, true) {
        poller.arm(stream, token, interest).is_ok()
    } else {
        poller.add(stream, token, interest).is_ok()
    }
}

fn close_socket<A: Application>(own: Own<A>) {
    let Some(stream) = own.stream else { return };
    if own.core.is_abort() {
        socket::reset_on_close(&stream);
    } else {
        socket::close(stream, &mut [0; DISCARD_BYTES]);
    }
}
