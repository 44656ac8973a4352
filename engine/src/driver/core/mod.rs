//! One connection as every driver runs it: its machine, what it has read and not consumed, what it still writes.
//!
//! A driver brings readiness, a socket (as closures) and a place for mail; the core calls the machine and carries out
//! effects in the order of the contract (rules 3, 5, 6, 7). It does no system call, reads no clock, and knows neither
//! slots nor tasks, so the raw mode, the tokio mode and the simulator cannot differ in what they promise.

mod connect;
mod frozen;

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

use crate::buf::{Chunk, OutputQueue, Piece, Pool, Pressure};
use crate::driver::kit::{Batch, Kit, Random};
use crate::driver::load::{Load, Spare};
use crate::machine::{
    Address, Application, CloseCause, Context, Host, Incoming, Input, Lost, Machine, Open, OpenError,
    OpenRefused,
};
use crate::time::{Tick, Time};

/// Up to so many bytes are offered again; a machine that needs more says so (rule 3).
pub(crate) const OFFER_AGAIN_BYTES_MAX: usize = 16 << 10;
/// A read for a message above that takes so much at least, if it is there.
const LARGE_READ_MIN: usize = 8 << 10;
/// How long a closing connection may take to write what is queued, in milliseconds.
const CLOSE_FLUSH_MS: u64 = 10_000;
/// How long a heavy sender is not read under memory pressure before it is looked at again, in milliseconds.
const PRESSURE_PAUSE_MS: u64 = 100;
/// A connection that holds more than this is a heavy sender.
const HEAVY_BYTES: usize = 64 << 10;
/// Ranges given to one gathering write.
const WRITE_SLICES: usize = 64;
/// Most writes of more than one range are of a head and its body.
const WRITE_SLICES_FEW: usize = 4;

/// A connection. What exists only under load is in one box.
pub(crate) struct Core<A: Application> {
    machine: Option<Box<dyn Machine<A>>>,
    load: Option<Box<Load>>,
    /// When the machine wants to be called, or the connect must be done ([`CONNECT_TIMED`]).
    deadline: Tick,
    flags: u16,
    end: Option<CloseCause>,
}

/// The machine wants bytes.
const READING: u16 = 1;
/// The peer has shut its write side and everything before it was read.
const END_SEEN: u16 = 1 << 1;
/// The machine knows that.
const END_TOLD: u16 = 1 << 2;
/// The write side is to be shut once the output is written.
const SHUT_WANTED: u16 = 1 << 3;
/// The write side is shut.
const SHUT_DONE: u16 = 1 << 4;
/// The machine wants to hear of written output.
const WATCHING: u16 = 1 << 5;
/// Not established yet.
const CONNECTING: u16 = 1 << 6;
/// The tail was left because reading paused: it is offered as soon as reading resumes.
const OFFER_TAIL: u16 = 1 << 7;
/// Not read for the moment, because memory is short.
const PRESSED: u16 = 1 << 8;
/// Output is thrown away and the connection reset.
const ABORT: u16 = 1 << 9;
/// The peer's end was reported by the system; what is before it may still be unread.
const PEER_SHUT: u16 = 1 << 10;
/// This side opened it.
const OPENED: u16 = 1 << 11;
/// Nothing was read since memory was too short for it.
const HELD_BACK: u16 = 1 << 12;
/// The deadline is that of the connect: the machine has armed none.
const CONNECT_TIMED: u16 = 1 << 13;

/// Where and when a call happens.
#[derive(Clone, Copy)]
pub(crate) struct Here {
    /// The moment.
    pub(crate) now: Time,
    /// The connection.
    pub(crate) me: Address,
    /// Its peer.
    pub(crate) peer: SocketAddr,
    /// When it was last active.
    pub(crate) last_active: Time,
}

/// Figures that a call changed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Note {
    /// Requests counted.
    pub(crate) requests: u32,
    /// Requests in flight, if it changed.
    pub(crate) in_flight: Option<u32>,
    /// The state byte, if it changed.
    pub(crate) state: Option<u8>,
    /// Whether the idle clock starts over.
    pub(crate) active: bool,
}

impl Note {
    fn is_empty(&self) -> bool {
        self.requests == 0 && self.in_flight.is_none() && self.state.is_none() && !self.active
    }
}

/// What a driver does for a call.
pub(crate) trait Port<A: Application> {
    /// Takes mail for delivery.
    fn post(&mut self, to: Address, mail: A::Mail);
    /// Makes a connection, out of an empty box.
    fn open(
        &mut self,
        open: Open,
        machine: Box<dyn Machine<A>>,
        load: Box<Load>,
    ) -> Result<Address, OpenRefused<A>>;
    /// Takes `peer` for the peer of the connection; false if its source has as many as it may.
    fn set_peer(&mut self, peer: SocketAddr) -> bool;
    /// Publishes figures.
    fn publish(&mut self, note: Note);
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// The socket has no more for now.
    Drained,
    /// The budget is used up: look again without an event.
    Budget,
    /// Nothing is to be read: paused, closing, at the end, or no buffer was left.
    Stopped,
}

/// How a flush ended.
#[derive(Debug)]
pub(crate) enum FlushEnd {
    /// Everything is written.
    Done,
    /// The socket takes no more for now.
    Blocked,
    /// The connection is over.
    Over,
}

struct CallHost<'a, A: Application> {
    port: &'a mut dyn Port<A>,
    batch: &'a mut Batch,
    random: &'a mut Random,
    spare: &'a mut Spare,
}

impl<A: Application> Host<A> for CallHost<'_, A> {
    fn open(&mut self, open: Open, machine: Box<dyn Machine<A>>) -> Result<Address, OpenRefused<A>> {
        self.port.open(open, machine, self.spare.take())
    }

    fn set_peer(&mut self, peer: SocketAddr) -> bool {
        self.port.set_peer(peer)
    }

    fn copy(&mut self, bytes: &[u8]) -> Option<Piece> {
        self.batch.copy(bytes)
    }

    fn extend(&mut self, piece: &mut Piece, bytes: &[u8]) -> bool {
        self.batch.extend(piece, bytes)
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }
}

impl<A: Application> Core<A> {
    /// An accepted connection that has no machine yet.
    pub(crate) fn accepted() -> Core<A> {
        Core { machine: None, load: None, deadline: Tick::NEVER, flags: READING, end: None }
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u16, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    /// Gives an accepted connection its machine, or refuses it.
    pub(crate) fn accept(&mut self, machine: Option<Box<dyn Machine<A>>>) {
        match machine {
            Some(machine) => self.machine = Some(machine),
            None => self.lose(Lost::Shutdown),
        }
    }

    /// True if it waits for its machine.
    pub(crate) fn is_new(&self) -> bool {
        self.machine.is_none() && self.end.is_none()
    }

    /// Why it ends, once that is decided.
    pub(crate) fn end(&self) -> Option<CloseCause> {
        self.end
    }

    /// True if nothing is left to do but to close the socket.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some() && (self.has(ABORT) || self.output_bytes() == 0)
    }

    /// True if the socket is to be reset rather than closed.
    pub(crate) fn is_abort(&self) -> bool {
        self.has(ABORT)
    }

    /// The machine of a connection that is not wanted after all.
    pub(crate) fn take_machine(&mut self) -> Option<Box<dyn Machine<A>>> {
        self.machine.take()
    }

    /// True if the machine can take mail.
    pub(crate) fn takes_mail(&self) -> bool {
        self.machine.is_some()
    }

    /// True if bytes should be read now.
    pub(crate) fn wants_read(&self) -> bool {
        self.flags & (READING | END_SEEN | CONNECTING | PRESSED) == READING && self.end.is_none()
    }

    /// True if the machine takes bytes and the stream has not ended, whatever stands in the way for the moment.
    pub(crate) fn is_reading(&self) -> bool {
        self.flags & (READING | END_SEEN | CONNECTING) == READING && self.end.is_none()
    }

    /// True if the tail waits to be offered.
    pub(crate) fn wants_offer(&self) -> bool {
        self.has(OFFER_TAIL) && self.flags & (READING | PRESSED) == READING && self.end.is_none()
    }

    /// True if output waits, or the connect has to be watched.
    pub(crate) fn wants_write(&self) -> bool {
        self.has(CONNECTING) || self.output_bytes() > 0
    }

    /// True if the end of the peer's stream is not known yet, so that it makes sense to listen for it.
    pub(crate) fn awaits_end(&self) -> bool {
        self.flags & (END_SEEN | PEER_SHUT) == 0
    }

    /// True if both directions are shut, whether input is unread or not: unless it is to be read, such a socket must not
    /// be armed (O6).
    pub(crate) fn is_shut(&self) -> bool {
        self.has(SHUT_DONE) && self.flags & (PEER_SHUT | END_SEEN) != 0
    }

    /// The system reported that the peer shut its write side.
    pub(crate) fn note_peer_shut(&mut self) {
        self.set(PEER_SHUT, true);
    }

    /// Bytes of output that wait.
    pub(crate) fn output_bytes(&self) -> usize {
        self.load.as_ref().map_or(0, |load| load.output.bytes())
    }

    /// Bytes that were read and the machine has not consumed.
    pub(crate) fn input_bytes(&self) -> usize {
        self.load.as_ref().and_then(|load| load.tail.as_ref()).map_or(0, Chunk::len)
    }

    /// Buffer memory that it holds between batches.
    pub(crate) fn memory_bytes(&self) -> usize {
        let Some(load) = &self.load else { return 0 };
        load.tail.as_ref().map_or(0, Chunk::capacity) + load.output.pinned_bytes()
    }

    /// When the driver should call [`Core::on_timer`].
    pub(crate) fn deadline(&self) -> Tick {
        let limit = self.load.as_ref().map_or(Tick(0), |load| load.limit);
        if limit == Tick(0) { self.deadline } else { self.deadline.min(limit) }
    }

    fn call(&mut self, input: Input<'_, A>, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        let (output_bytes, input_bytes) = (self.output_bytes(), self.input_bytes());
        let held_back = self.has(HELD_BACK);
        let Some(machine) = self.machine.as_mut() else { return };
        let Kit { local, pool, effects, batch, random, spare, .. } = kit;
        let mut context = Context {
            now: here.now,
            me: here.me,
            peer: here.peer,
            last_active: here.last_active,
            output_bytes,
            input_bytes,
            held_back,
            local,
            pool,
            effects,
            host: &mut CallHost { port, batch, random, spare },
        };
        machine.on(input, &mut context);
        self.apply(here.now, kit, port);
    }

    /// Carries out what the machine wants (rule 5); output stays queued for the end of the batch, close comes last.
    fn apply(&mut self, now: Time, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        let effects = &mut kit.effects;
        if !effects.mail.is_empty() {
            effects.mail.drain(..).for_each(|(to, mail)| port.post(to, mail));
        }
        let note = Note {
            requests: std::mem::take(&mut effects.requests),
            in_flight: effects.in_flight.take(),
            state: effects.state.take(),
            active: std::mem::take(&mut effects.active),
        };
        if !note.is_empty() {
            port.publish(note);
        }
        if let Some(deadline) = effects.deadline.take() {
            self.arm(deadline.map_or(Tick::NEVER, Tick::ceil), kit);
        }
        let effects = &mut kit.effects;
        if let Some(watch) = effects.watch_output.take() {
            self.set(WATCHING, watch);
        }
        if let Some(reading) = effects.reading.take() {
            self.set(READING, reading);
        }
        if self.has(SHUT_WANTED) {
            kit.late_pieces += effects.output.len() as u64;
        }
        if std::mem::take(&mut effects.shutdown) {
            self.set(SHUT_WANTED, true);
        }
        let (need, close) = (std::mem::take(&mut effects.need), effects.close.take());
        if need > 0 || !kit.effects.output.is_empty() {
            self.queue_output(need, kit);
        }
        if let Some(successor) = kit.effects.successor.take().filter(|_| self.end.is_none()) {
            self.machine = Some(successor);
            // What the one before it left was not offered to this one, whatever that waited for, and what that was told of
            // the end this one does not know.
            self.set(OFFER_TAIL, true);
            self.set(END_TOLD, false);
            if let Some(load) = &mut self.load {
                load.need = 0;
            }
        }
        if let Some((reason, abort)) = close {
            self.close(reason, abort, now, kit);
        }
    }

    fn queue_output(&mut self, need: usize, kit: &mut Kit<A>) {
        let mut load = self.load.take().unwrap_or_else(|| kit.take_load());
        if need > 0 {
            load.need = need;
        }
        // After FIN nothing can be sent: a machine that tries has lost its peer's interest, not our invariants.
        let shut = self.has(SHUT_DONE);
        kit.effects.output.drain(..).filter(|_| !shut).for_each(|piece| load.output.push(piece));
        self.load = Some(load);
    }

    fn close(&mut self, reason: u8, abort: bool, now: Time, kit: &mut Kit<A>) {
        self.end.get_or_insert(CloseCause::Machine(reason));
        self.disarm();
        self.set(ABORT, abort || self.has(ABORT | CONNECTING));
        let mut load = self.load.take().unwrap_or_else(|| kit.take_load());
        (load.tail, load.need) = (None, 0);
        load.limit = Tick::ceil(now.after_ms(CLOSE_FLUSH_MS));
        self.load = Some(load);
    }

    fn lose(&mut self, lost: Lost) {
        self.end.get_or_insert(CloseCause::Lost(lost));
        self.disarm();
        self.set(ABORT, true);
    }

    /// Nobody is to be called any more.
    fn disarm(&mut self) {
        self.machine = None;
        self.deadline = Tick::NEVER;
        self.set(CONNECT_TIMED, false);
    }

    /// The machine panicked: it is called no more, and the connection is reset.
    pub(crate) fn give_up(&mut self) {
        self.end = None;
        self.lose(Lost::Broken);
    }

    /// The connection broke, or the driver ends it: the machine's last input.
    pub(crate) fn on_lost(&mut self, lost: Lost, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        if self.end.is_none() {
            self.call(Input::Lost(lost), here, kit, port);
        }
        self.lose(lost);
    }

    /// Mail for the machine; the caller has checked [`Core::takes_mail`].
    pub(crate) fn on_mail(
        &mut self,
        (from, bounced, mail): (Address, bool, A::Mail),
        here: &Here,
        kit: &mut Kit<A>,
        port: &mut dyn Port<A>,
    ) {
        let input = if bounced { Input::Bounced { to: from, mail } } else { Input::Mail { from, mail } };
        self.call(input, here, kit, port);
    }

    /// A deadline may have come (rule 7). A stale call does nothing.
    pub(crate) fn on_timer(&mut self, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        let due = |tick: Tick| tick != Tick(0) && tick.time() <= here.now;
        if self.has(CONNECT_TIMED) {
            if due(self.deadline) {
                self.on_failed(OpenError::TimedOut, here, kit, port);
            }
            return;
        }
        if let Some(load) = self.load.as_mut().filter(|load| due(load.limit)) {
            load.limit = Tick(0);
            if self.has(CONNECTING) {
                self.on_failed(OpenError::TimedOut, here, kit, port);
            } else if self.end.is_some() {
                self.set(ABORT, true);
            }
            self.set(PRESSED, false);
        }
        if self.deadline != Tick::NEVER && due(self.deadline) {
            self.deadline = Tick::NEVER;
            self.call(Input::Deadline, here, kit, port);
        }
    }

    /// Reads until the socket is drained, the budget is used up or the machine wants no more. Counts into `read`.
    pub(crate) fn read(
        &mut self,
        source: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
        (budget, read): (usize, &mut usize),
        here: &Here,
        kit: &mut Kit<A>,
        port: &mut dyn Port<A>,
    ) -> ReadEnd {
        self.offer_kept(here, kit, port);
        while self.wants_read() {
            if *read >= budget {
                return ReadEnd::Budget;
            }
            // What this side opened may be shared by many, and never stops reading for one of them (X3).
            let may_press = !self.has(OPENED) && kit.pool.pressure() != Pressure::Low;
            if may_press && self.memory_bytes() > HEAVY_BYTES {
                self.press(here.now, kit);
                return ReadEnd::Stopped;
            }
            let large = self.load.as_ref().is_some_and(|load| load.need > OFFER_AGAIN_BYTES_MAX);
            let left = budget - *read;
            let (room, result) =
                if large { self.read_large(source, kit) } else { self.read_small(source, left, kit) };
            match result {
                Ok(0) if room == 0 => {
                    self.press(here.now, kit);
                    return ReadEnd::Stopped;
                }
                Ok(0) => self.on_end(here, kit, port),
                Ok(bytes) => {
                    *read += bytes;
                    self.set(HELD_BACK, false);
                    self.offer(here, kit, port);
                    if bytes < room && !self.has(PEER_SHUT) {
                        return ReadEnd::Drained;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return ReadEnd::Drained,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::OutOfMemory => {
                    self.on_lost(Lost::MemoryCeiling, here, kit, port);
                }
                Err(error) => self.on_lost(lost_by(&error), here, kit, port),
            }
        }
        ReadEnd::Stopped
    }

    fn press(&mut self, now: Time, kit: &mut Kit<A>) {
        self.set(PRESSED | HELD_BACK, true);
        let load = self.load.get_or_insert_with(|| kit.take_load());
        load.limit = Tick::ceil(now.after_ms(PRESSURE_PAUSE_MS));
    }

    /// Reads into the worker's chunk, behind a copy of the tail. A room of 0 means that no chunk was left.
    fn read_small(
        &mut self,
        source: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
        left: usize,
        kit: &mut Kit<A>,
    ) -> (usize, io::Result<usize>) {
        let tail_bytes = self.input_bytes();
        let Some(chunk) = kit.batch.reading(tail_bytes) else { return (0, Ok(0)) };
        debug_assert!(chunk.is_empty(), "a chunk is left empty by the turn before");
        let spare = &mut chunk.spare()[tail_bytes..];
        let room = spare.len().min(left);
        let result = source(&mut spare[..room]);
        if let Ok(bytes @ 1..) = result {
            if let Some(mut tail) = self.load.as_mut().and_then(|load| load.tail.take()) {
                chunk.spare()[..tail_bytes].copy_from_slice(tail.waiting());
            }
            chunk.fill(tail_bytes + bytes);
        }
        (room, result)
    }

    /// Reads into a chunk of the message's own, which grows with what has arrived, never with what was declared.
    fn read_large(
        &mut self,
        source: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
        kit: &mut Kit<A>,
    ) -> (usize, io::Result<usize>) {
        let load = self.load.as_mut().expect("a need is kept in the load");
        let waiting = load.tail.as_ref().map_or(0, Chunk::len);
        let small = OFFER_AGAIN_BYTES_MAX.min(load.need);
        if load.tail.as_ref().is_none_or(|tail| tail.spare_bytes() == 0 || tail.capacity() < small) {
            let most = load.need.max(waiting + LARGE_READ_MIN);
            let bytes = (waiting * 2).max(OFFER_AGAIN_BYTES_MAX).min(most);
            let Some(mut grown) = Chunk::take(&kit.pool, bytes) else {
                return (1, Err(ErrorKind::OutOfMemory.into()));
            };
            if let Some(mut tail) = load.tail.take() {
                grown.append(tail.waiting());
            }
            load.tail = Some(grown);
        }
        let tail = load.tail.as_mut().expect("just made");
        // A machine that cannot know how much is missing asks for one byte more again and again.
        let room = tail.spare_bytes().min((load.need - waiting).max(LARGE_READ_MIN));
        let result = source(&mut tail.spare()[..room]);
        if let Ok(bytes) = result {
            tail.fill(bytes);
        }
        (room, result)
    }

    /// Offers what has been read, if it is what the machine waits for, and keeps what it leaves.
    fn offer(&mut self, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        let Some(load) = self.load.as_mut().filter(|load| load.tail.is_some()) else {
            return self.offer_batch(here, kit, port);
        };
        if load.tail.as_ref().map_or(0, Chunk::len) < load.need {
            return;
        }
        load.need = 0;
        let mut tail = load.tail.take().expect("checked above");
        let before = tail.len();
        self.call(Input::Bytes(&mut Incoming::new(&mut tail)), here, kit, port);
        self.keep_rest(&mut tail, before, here, kit, port);
        if self.end.is_none() && !tail.is_empty() {
            // A chunk that was mostly consumed is not kept for its rest.
            match fit(tail, &kit.pool) {
                Ok(tail) => self.load.get_or_insert_with(|| kit.take_load()).tail = Some(tail),
                Err(Ceiling) => self.on_lost(Lost::MemoryCeiling, here, kit, port),
            }
        }
    }

    fn offer_batch(&mut self, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        let mut chunk = kit.batch.take_reading().expect("bytes were just read into it");
        let before = chunk.len();
        if self.load.as_ref().map_or(0, |load| load.need) > before {
            return self.put_aside(chunk, here, kit, port);
        }
        if let Some(load) = &mut self.load {
            load.need = 0;
        }
        self.call(Input::Bytes(&mut Incoming::new(&mut chunk)), here, kit, port);
        self.keep_rest(&mut chunk, before, here, kit, port);
        self.put_aside(chunk, here, kit, port);
    }

    /// Moves what waits in the worker's chunk into one of the connection's own, and gives the worker its chunk back.
    fn put_aside(&mut self, mut chunk: Chunk, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        let waiting = chunk.len();
        if waiting > 0 && self.end.is_none() {
            match Chunk::copy_of(&kit.pool, chunk.waiting()) {
                Some(tail) => self.load.get_or_insert_with(|| kit.take_load()).tail = Some(tail),
                None => self.on_lost(Lost::MemoryCeiling, here, kit, port),
            }
        }
        chunk.consume(waiting);
        kit.batch.put_reading(chunk);
    }

    /// Judges what a machine left of an offer of `before` bytes.
    fn keep_rest(
        &mut self,
        chunk: &mut Chunk,
        before: usize,
        here: &Here,
        kit: &mut Kit<A>,
        port: &mut dyn Port<A>,
    ) {
        let rest = chunk.len();
        if rest == 0 || self.end.is_some() {
            return self.set(OFFER_TAIL, false);
        }
        if !self.has(READING) {
            return self.set(OFFER_TAIL, true);
        }
        if self.has(OFFER_TAIL) {
            // It was handed over in this call, so its new machine is to be offered all of it.
            return;
        }
        let needed = self.load.as_ref().map_or(0, |load| load.need);
        if needed <= rest && rest == before && rest >= OFFER_AGAIN_BYTES_MAX {
            self.on_lost(Lost::Stuck, here, kit, port);
        }
    }

    /// Offers the tail that was left when reading paused, without reading more.
    pub(crate) fn offer_kept(&mut self, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        if self.wants_offer() {
            self.set(OFFER_TAIL, false);
            if self.input_bytes() > 0 {
                self.offer(here, kit, port);
            }
        }
        self.tell_end(here, kit, port);
    }

    fn on_end(&mut self, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        self.set(END_SEEN, true);
        self.tell_end(here, kit, port);
    }

    /// Tells the machine of the end, once, and only after it was offered everything before.
    fn tell_end(&mut self, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        if self.flags & (END_SEEN | END_TOLD | OFFER_TAIL) == END_SEEN && self.end.is_none() {
            self.set(END_TOLD, true);
            self.call(Input::EndOfStream, here, kit, port);
        }
    }

    /// Writes what is queued. Counts into `written`.
    pub(crate) fn flush(
        &mut self,
        sink: &mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
        written: &mut usize,
        here: &Here,
        kit: &mut Kit<A>,
        port: &mut dyn Port<A>,
    ) -> FlushEnd {
        if self.has(CONNECTING) {
            return self.keep_output(here, kit, port);
        }
        while self.output_bytes() > 0 && !self.has(ABORT) {
            let load = self.load.as_mut().expect("output is kept in the load");
            let (asked, result) = write(&load.output, sink);
            match result {
                Ok(bytes) => {
                    *written += bytes;
                    load.written += bytes;
                    load.output.advance(bytes);
                    if bytes < asked {
                        return self.keep_output(here, kit, port);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.keep_output(here, kit, port);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.on_lost(lost_by(&error), here, kit, port);
                    return FlushEnd::Over;
                }
            }
        }
        if self.is_over() { FlushEnd::Over } else { FlushEnd::Done }
    }

    /// The output outlives the batch, so it may no longer pin the worker's chunks (B2).
    fn keep_output(&mut self, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) -> FlushEnd {
        if self.load.as_mut().is_some_and(|load| !load.output.keep(&kit.pool)) {
            self.on_lost(Lost::MemoryCeiling, here, kit, port);
            return FlushEnd::Over;
        }
        FlushEnd::Blocked
    }

    /// Tells the machine what was written, if it wants to know. True if it was called.
    pub(crate) fn tell_flushed(&mut self, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) -> bool {
        let queued = self.output_bytes();
        let watching = self.has(WATCHING);
        let Some(load) = self.load.as_mut().filter(|load| load.written > 0) else { return false };
        let written = std::mem::take(&mut load.written);
        if watching {
            self.call(Input::Flushed { written, queued }, here, kit, port);
        }
        watching
    }

    /// True, once, when the write side is to be shut now.
    pub(crate) fn take_shutdown(&mut self) -> bool {
        let due =
            self.flags & (SHUT_WANTED | SHUT_DONE | CONNECTING) == SHUT_WANTED && self.output_bytes() == 0;
        if due {
            self.set(SHUT_DONE, true);
        }
        due
    }

    /// Gives the box of a connection that is no longer under load back; called when a driver lets go of it.
    pub(crate) fn unload(&mut self, kit: &mut Kit<A>) {
        if let Some(mut load) = self.load.take_if(|load| load.is_empty()) {
            load.written = 0;
            kit.keep_load(load);
        }
    }
}

/// One write of what waits at the front: how much was asked for, and what came of it.
fn write(
    output: &OutputQueue,
    sink: &mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> (usize, io::Result<usize>) {
    match (output.only(), output.len()) {
        (Some(piece), _) => (piece.len(), sink(&[IoSlice::new(piece)])),
        (None, ..=WRITE_SLICES_FEW) => write_up_to::<WRITE_SLICES_FEW>(output, sink),
        (None, _) => write_up_to::<WRITE_SLICES>(output, sink),
    }
}

/// Kept apart, since room for many ranges is sixteen cache lines that few ones need not touch.
#[inline(never)]
fn write_up_to<const SLICES: usize>(
    output: &OutputQueue,
    sink: &mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> (usize, io::Result<usize>) {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let filled = output.slices(&mut slices);
    let asked = slices[..filled].iter().map(|slice| slice.len()).sum();
    (asked, sink(&slices[..filled]))
}

/// The pool is at its ceiling.
struct Ceiling;

/// The chunk itself, or a right-sized one with what waits in it.
fn fit(mut chunk: Chunk, pool: &Pool) -> Result<Chunk, Ceiling> {
    if chunk.len() * 2 > chunk.capacity() {
        return Ok(chunk);
    }
    Chunk::copy_of(pool, chunk.waiting()).ok_or(Ceiling)
}

/// What an error of a socket means for its connection.
pub(crate) fn lost_by(error: &io::Error) -> Lost {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Lost::Reset,
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Lost::TimedOut,
        _ => Lost::Broken,
    }
}
