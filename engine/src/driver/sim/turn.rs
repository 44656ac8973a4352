//! The turns of simulated workers: what any driver does with a connection, in the order of the contract, on a worker
//! and in a batch that the seed chooses.
//!
//! It calls machines through the shared [`Core`] alone. Called by [`Sim::step`].

use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;

use crate::driver::core::{Core, FlushEnd, Here, ReadEnd};
use crate::driver::kit::Kit;
use crate::machine::{Address, Application, CloseCause, Closed, Lost};
use crate::time::Time;

use super::Sim;
use super::ground::{Desk, Dial, Letter, Reach};
use super::link::Link;

/// How often a connection is flushed in one batch because its machine wrote more when it heard of the last flush.
const FLUSHES_MAX: usize = 8;

impl<A: Application> Sim<A> {
    /// A worker runs some of the slots that are ready, then flushes them and lets go.
    pub(super) fn batch(&mut self, mut ready: Vec<u32>) {
        let worker = self.ground.dice.below(self.kits.len());
        let turns = 1 + self.ground.dice.below(self.ground.options.batch_turns_max.min(ready.len()));
        let mut held = Vec::with_capacity(turns);
        for _ in 0..turns {
            let index = ready.swap_remove(self.ground.dice.below(ready.len()));
            self.turn(index, worker);
            held.push(index);
        }
        for index in &held {
            self.settle(*index, worker);
        }
        self.kits[worker].settle();
        self.ground.stats.batches += 1;
        for index in held {
            if self.ground.dice.hits(self.ground.options.freezes_in_1024) {
                self.freeze_one(index);
            }
        }
    }

    fn here(&self, index: u32) -> Here {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let info = &self.ground.slots[index as usize].info;
        let (me, now) = (self.ground.address(index), self.ground.now);
        Here { now, me, peer: info.peer.unwrap_or(unknown), last_active: info.last_active }
    }

    /// Calls something of a connection with everything that a call needs.
    fn with<R>(
        &mut self,
        (index, worker): (u32, usize),
        core: &mut Core<A>,
        call: impl FnOnce(&mut Core<A>, &Here, &mut Kit<A>, &mut Desk<'_, A>) -> R,
    ) -> R {
        let here = self.here(index);
        let (mut call, mut result) = (Some(call), None);
        let inside = self.ground.meter.inside;
        let mut desk = Desk { ground: &mut self.ground, me: here.me };
        inside(&mut || result = call.take().map(|call| call(core, &here, &mut self.kits[worker], &mut desk)));
        result.expect("a meter runs what it is given, once")
    }

    /// One turn of a slot (O2): its mail, its timer, its socket.
    fn turn(&mut self, index: u32, worker: usize) {
        self.ground.stats.turns += 1;
        let Some(mut core) = self.ground.slot(index).core.take() else {
            return self.return_all(index, worker);
        };
        self.ground.slot(index).again_at = None;
        let at = (index, worker);
        if core.is_new() {
            self.begin(at, &mut core);
        }
        if core.is_connecting() {
            self.dial(at, &mut core);
        }
        let mail_first = self.ground.dice.hits(512);
        if mail_first {
            self.take_mail(at, &mut core);
        }
        self.with(at, &mut core, |core, here, kit, desk| core.on_timer(here, kit, desk));
        self.read(at, &mut core);
        if !mail_first {
            self.take_mail(at, &mut core);
        }
        self.ground.slot(index).core = Some(core);
    }

    /// Gives an accepted connection its machine.
    fn begin(&mut self, (index, worker): (u32, usize), core: &mut Core<A>) {
        let here = self.here(index);
        let listener = self.ground.slot(index).info.listener.unwrap_or(u16::MAX);
        let doorway = self.ground.doorway;
        let machine = self.app.accept(&mut self.kits[worker].local, listener, here.peer, &doorway);
        let accepted = machine.is_some();
        core.accept(machine);
        if accepted {
            self.with((index, worker), core, |core, here, kit, desk| core.on_open(here, kit, desk));
        }
    }

    /// Starts a connect, or finds out what became of it.
    fn dial(&mut self, at: (u32, usize), core: &mut Core<A>) {
        if let Some(open) = core.take_connect() {
            self.ground.slot(at.0).dial = self.ground.dial(open.to);
        }
        let Dial::Until(until, reach) = self.ground.slot(at.0).dial else { return };
        if until > self.ground.now || core.end().is_some() {
            return;
        }
        match reach {
            Reach::Silent => return,
            Reach::Fails(error) => {
                self.ground.trace.note(self.ground.now, self.ground.address(at.0), "is refused", [0, 0]);
                self.with(at, core, |core, here, kit, desk| core.on_failed(error, here, kit, desk));
            }
            Reach::Accepts => {
                self.establish(at.0);
                self.with(at, core, |core, here, kit, desk| core.on_open(here, kit, desk));
            }
        }
        self.ground.slot(at.0).dial = Dial::None;
    }

    fn establish(&mut self, index: u32) {
        let peer = self.here(index).peer;
        let address = self.ground.address(index);
        let dice = super::dice::Dice::new(self.ground.dice.next());
        let mut link = Link::new(peer, self.ground.options.link, dice);
        link.engine = Some(address);
        let number = self.ground.links.add(link);
        self.ground.slot(index).link = Some(number);
        self.ground.trace.note(self.ground.now, address, "is connected by link", [number as u64, 0]);
        self.servers.push(super::Peer(number));
        self.ground.touch(number);
    }

    /// Hands over what lies in the inbox; what is not for this connection goes back (O1).
    fn take_mail(&mut self, at: (u32, usize), core: &mut Core<A>) {
        for _ in 0..self.ground.slot(at.0).inbox.len() {
            let Some(letter) = self.ground.slot(at.0).inbox.pop_front() else { return };
            if letter.to != self.ground.address(at.0) || !core.takes_mail() {
                self.send_back(letter, at.1);
                continue;
            }
            let Letter { from, bounced, mail, .. } = letter;
            let what = if bounced { "gets back mail to" } else { "gets mail from" };
            let figures = [u64::from(from.index), u64::from(from.generation)];
            self.ground.trace.note(self.ground.now, self.ground.address(at.0), what, figures);
            self.with(at, core, |core, here, kit, desk| core.on_mail((from, bounced, mail), here, kit, desk));
        }
    }

    /// Nobody has the slot: everything in it goes back.
    fn return_all(&mut self, index: u32, worker: usize) {
        for letter in std::mem::take(&mut self.ground.slot(index).inbox) {
            self.send_back(letter, worker);
        }
    }

    fn send_back(&mut self, letter: Letter<A::Mail>, worker: usize) {
        self.ground.stats.bounces += 1;
        if letter.bounced || letter.from == Address::OUTSIDE {
            self.ground.stats.orphans += 1;
            return self.app.orphaned(&mut self.kits[worker].local, letter.mail);
        }
        if let Err(letter) = self.ground.deliver(letter.back()) {
            self.app.orphaned(&mut self.kits[worker].local, letter.mail);
        }
    }

    /// Reads, or learns that the connection broke.
    fn read(&mut self, at: (u32, usize), core: &mut Core<A>) {
        let Some(number) = self.ground.slot(at.0).link else { return };
        if core.is_connecting() {
            return;
        }
        let link = self.ground.links.at(number);
        if link.is_peer_shut() && self.ground.dice.hits(512) {
            core.note_peer_shut();
        }
        let link = self.ground.links.at(number);
        if link.is_reset() && core.end().is_none() && !core.wants_read() && !core.is_shut() {
            return self.with(at, core, |core, here, kit, desk| core.on_lost(Lost::Reset, here, kit, desk));
        }
        let budget = 1 + self.ground.dice.below(self.ground.options.read_budget_bytes);
        let mut link = self.ground.links.take(number);
        let (mut read, outside) = (0, self.ground.meter.outside);
        let end = self.with(at, core, |core, here, kit, desk| {
            let source = &mut |into: &mut [u8]| {
                let mut result = Ok(0);
                outside(&mut || result = link.receive(into));
                result
            };
            core.read(source, (budget, &mut read), here, kit, desk)
        });
        let digest = link.read.value();
        self.ground.links.put(number, link);
        let now = self.ground.now;
        let slot = self.ground.slot(at.0);
        if end == ReadEnd::Budget {
            // Without a buffer there is nothing to do until others gave some back.
            slot.again_at = Some(if read > 0 { now } else { now.after_ms(1) });
        }
        if read > 0 {
            slot.info.last_active = now;
            slot.info.bytes_in += read as u64;
            self.ground.trace.note(now, self.ground.address(at.0), "read", [read as u64, digest]);
        }
    }

    /// Ends the batch for a slot (O3): writes, shuts, closes, lets go.
    fn settle(&mut self, index: u32, worker: usize) {
        let Some(mut core) = self.ground.slot(index).core.take() else { return };
        let at = (index, worker);
        for _ in 0..FLUSHES_MAX {
            if matches!(self.flush(at, &mut core), FlushEnd::Over) {
                break;
            }
            if !self.with(at, &mut core, |core, here, kit, desk| core.tell_flushed(here, kit, desk)) {
                break;
            }
        }
        if core.take_shutdown() {
            self.shut(index);
        }
        if let Some(cause) = core.end().filter(|_| core.is_over()) {
            return self.close(at, cause, core);
        }
        core.unload(&mut self.kits[worker]);
        let memory_bytes = core.memory_bytes();
        let slot = self.ground.slot(index);
        slot.info.memory_bytes = u32::try_from(memory_bytes).unwrap_or(u32::MAX);
        slot.core = Some(core);
    }

    fn flush(&mut self, at: (u32, usize), core: &mut Core<A>) -> FlushEnd {
        let number = self.ground.slot(at.0).link;
        let mut link = number.map(|number| self.ground.links.take(number));
        let (now, outside, mut written) = (self.ground.now, self.ground.meter.outside, 0);
        let end = self.with(at, core, |core, here, kit, desk| {
            let sink = &mut |slices: &[IoSlice<'_>]| {
                let mut result = Err(ErrorKind::WouldBlock.into());
                outside(&mut || {
                    if let Some(link) = &mut link {
                        result = link.write(slices, now);
                    }
                });
                result
            };
            core.flush(sink, &mut written, here, kit, desk)
        });
        if let (Some(number), Some(link)) = (number, link) {
            let digest = link.written.value();
            self.ground.links.put(number, link);
            if written > 0 {
                self.ground.slot(at.0).info.bytes_out += written as u64;
                let address = self.ground.address(at.0);
                self.ground.trace.note(now, address, "wrote", [written as u64, digest]);
            }
        }
        end
    }

    fn shut(&mut self, index: u32) {
        let now = self.ground.now;
        if let Some(link) = self.ground.slot(index).link {
            self.ground.links.with(link, |link| link.shut(now));
        }
        self.ground.trace.note(now, self.ground.address(index), "shuts its write side", [0, 0]);
    }

    /// Closes the socket, ends the address, sends back what is in the inbox (O7).
    fn close(&mut self, (index, worker): (u32, usize), cause: CloseCause, core: Core<A>) {
        let (now, address, abort) = (self.ground.now, self.ground.address(index), core.is_abort());
        drop(core);
        if let Some(link) = self.ground.slot(index).link {
            self.ground.links.with(link, |link| {
                link.cause = Some(cause);
                link.close(abort, now);
            });
        }
        let info = self.ground.slot(index).info;
        let was_connected = !matches!(cause, CloseCause::Failed(_));
        let record = Closed {
            address,
            peer: info.peer.filter(|_| was_connected),
            listener: info.listener,
            cause,
            age_ms: now.ms_since(info.opened),
            bytes_in: info.bytes_in,
            bytes_out: info.bytes_out,
            requests: u64::from(info.requests),
        };
        self.ground.trace.note(now, address, "is closed", [u64::from(abort), 0]);
        self.ground.trace.remark(now, &format!("  {cause:?}"));
        self.ground.give_up(index);
        self.app.closed(&mut self.kits[worker].local, &record);
        self.return_all(index, worker);
    }

    /// The moment to which the clock may jump.
    pub(super) fn next_moment(&self, limit: Time) -> Option<Time> {
        self.ground.next_event().filter(|at| *at <= limit).map(|at| at.max(self.ground.now))
    }
}
