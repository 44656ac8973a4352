//! What the simulated workers share: slots and their mail, the network, the clock, the trace.
//!
//! Slots are plain storage, but keep what the real table promises: an address is given out once, mail lies in order
//! until the turn that takes it, and what has no receiver goes back to its sender. It calls no machine; the turns do.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::driver::control::ConnectionInfo;
use crate::driver::core::{Core, Note, Port};
use crate::driver::load::Load;
use crate::machine::{Accepted, Address, Application, Machine, Open, OpenError, OpenRefused};
use crate::time::{Tick, Time};

use super::Meter;
use super::SimOptions;
use super::SimStats;
use super::dice::Dice;
use super::link::{Link, Links};
use super::trace::Trace;

/// What happens to connects of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They succeed.
    Accepts,
    /// They fail at once.
    Fails(OpenError),
    /// Nothing happens, so they time out.
    Silent,
}

/// What accepted connections say about their sockets.
#[derive(Clone, Copy, Debug)]
pub struct Doorway {
    /// The address that peers reach.
    pub local: SocketAddr,
    /// Where they wanted to go, if that was elsewhere.
    pub original: Option<SocketAddr>,
}

impl Default for Doorway {
    fn default() -> Doorway {
        Doorway { local: SocketAddr::from(([192, 0, 2, 1], 80)), original: None }
    }
}

impl Accepted for Doorway {
    fn local_address(&self) -> Option<SocketAddr> {
        Some(self.local)
    }

    fn original_destination(&self) -> Option<SocketAddr> {
        self.original
    }
}

/// Mail on its way, or on its way back.
pub(super) struct Letter<M> {
    pub(super) to: Address,
    pub(super) from: Address,
    pub(super) bounced: bool,
    pub(super) mail: M,
}

/// Mail of one sender that a test keeps from arriving, in order.
pub(super) struct Late<M> {
    pub(super) of: Option<Address>,
    pub(super) letters: VecDeque<Letter<M>>,
}

impl<M> Default for Late<M> {
    fn default() -> Late<M> {
        Late { of: None, letters: VecDeque::new() }
    }
}

/// How far the connect of an opened connection is.
#[derive(Clone, Copy)]
pub(super) enum Dial {
    /// Not asked for yet, or over.
    None,
    /// Its outcome is known at this moment.
    Until(Time, Reach),
}

/// A place for connections, one after the other.
pub(super) struct Slot<A: Application> {
    pub(super) generation: u32,
    pub(super) used: bool,
    /// The connection; nothing during its turn.
    pub(super) core: Option<Core<A>>,
    pub(super) link: Option<usize>,
    pub(super) dial: Dial,
    pub(super) inbox: VecDeque<Letter<A::Mail>>,
    /// When its last turn stopped before it was done, when it goes on.
    pub(super) again_at: Option<Time>,
    pub(super) info: ConnectionInfo,
}

/// A connection on its way to a listener.
struct Arriving {
    at: Time,
    listener: u16,
    link: usize,
}

/// What is shared.
pub(super) struct Ground<A: Application> {
    pub(super) now: Time,
    pub(super) dice: Dice,
    pub(super) options: SimOptions,
    pub(super) meter: Meter,
    pub(super) slots: Vec<Slot<A>>,
    pub(super) live: usize,
    pub(super) links: Links,
    pub(super) trace: Trace,
    pub(super) stats: SimStats,
    pub(super) reach: HashMap<SocketAddr, Reach>,
    pub(super) closed_listeners: Vec<u16>,
    pub(super) doorway: Doorway,
    pub(super) late: Late<A::Mail>,
    arriving: VecDeque<Arriving>,
    touched: VecDeque<usize>,
}

impl<A: Application> Slot<A> {
    fn unused(index: u32) -> Slot<A> {
        let address = Address { index, generation: 0 };
        Slot {
            generation: 0,
            used: false,
            core: None,
            link: None,
            dial: Dial::None,
            inbox: VecDeque::new(),
            again_at: None,
            info: ConnectionInfo {
                address,
                peer: None,
                listener: None,
                opened: Time::ZERO,
                last_active: Time::ZERO,
                bytes_in: 0,
                bytes_out: 0,
                memory_bytes: 0,
                requests: 0,
                in_flight: 0,
                state: 0,
                reactor: 0,
            },
        }
    }

    /// A slot can be taken once nobody has it and nothing in it waits to go back.
    fn is_free(&self) -> bool {
        !self.used && self.inbox.is_empty() && self.generation < u32::MAX
    }
}

impl<A: Application> Ground<A> {
    pub(super) fn new(options: SimOptions) -> Ground<A> {
        Ground {
            now: options.start,
            dice: Dice::new(options.seed),
            slots: Vec::new(),
            live: 0,
            links: Links::default(),
            trace: Trace::new(options.keeps_text),
            stats: SimStats::default(),
            reach: HashMap::new(),
            closed_listeners: Vec::new(),
            doorway: Doorway::default(),
            late: Late::default(),
            arriving: VecDeque::new(),
            touched: VecDeque::new(),
            meter: Meter::default(),
            options,
        }
    }

    /// The address that a slot's connection has.
    pub(super) fn address(&self, index: u32) -> Address {
        Address { index, generation: self.slots[index as usize].generation }
    }

    pub(super) fn slot(&mut self, index: u32) -> &mut Slot<A> {
        &mut self.slots[index as usize]
    }

    /// Takes a slot for a new connection. Which one is up to the seed: an old one as soon as possible, or another.
    pub(super) fn claim(&mut self, core: Core<A>, link: Option<usize>, listener: Option<u16>) -> Address {
        let free: Vec<u32> =
            (0..).zip(&self.slots).filter(|(_, slot)| slot.is_free()).map(|(index, _)| index).collect();
        let reused = self.dice.hits(768).then(|| free.get(self.dice.below(free.len())).copied()).flatten();
        let index = reused.unwrap_or_else(|| {
            let index = u32::try_from(self.slots.len()).expect("simulated connections are few");
            self.slots.push(Slot::unused(index));
            index
        });
        let (now, address) = (self.now, self.address(index));
        let peer = link.map(|link| self.links.at(link).peer);
        let slot = self.slot(index);
        let fresh = Slot::<A>::unused(index);
        (slot.used, slot.core, slot.link) = (true, Some(core), link);
        slot.info = ConnectionInfo { address, peer, listener, opened: now, last_active: now, ..fresh.info };
        self.live += 1;
        address
    }

    /// Ends the connection of a slot: its address is never given out again.
    pub(super) fn give_up(&mut self, index: u32) {
        let slot = self.slot(index);
        assert!(slot.used, "a slot is given back once");
        slot.used = false;
        (slot.core, slot.link, slot.dial, slot.again_at) = (None, None, Dial::None, None);
        slot.generation += 1;
        self.live -= 1;
    }

    /// Puts mail into the inbox of whoever has the slot now; the turn that takes it compares generations.
    pub(super) fn deliver(&mut self, mut letter: Letter<A::Mail>) -> Result<(), Letter<A::Mail>> {
        if self.slots.get(letter.to.index as usize).is_none() {
            if letter.bounced || letter.from == Address::OUTSIDE {
                return Err(letter);
            }
            letter = letter.back();
        }
        if !letter.bounced && self.late.of == Some(letter.from) {
            self.late.letters.push_back(letter);
            return Ok(());
        }
        let index = letter.to.index;
        self.slot(index).inbox.push_back(letter);
        Ok(())
    }

    /// Nothing is late any more, and what was arrives.
    pub(super) fn let_mail_arrive(&mut self) {
        for letter in std::mem::take(&mut self.late).letters {
            let index = letter.to.index;
            self.slot(index).inbox.push_back(letter);
        }
    }

    /// A peer connects; it arrives as everything else does.
    pub(super) fn dial_in(&mut self, listener: u16, peer: SocketAddr) -> usize {
        let dice = Dice::new(self.dice.next());
        let mut link = Link::new(peer, self.options.link, dice);
        let at = link.arrival(self.now);
        let link = self.links.add(link);
        self.arriving.push_back(Arriving { at, listener, link });
        link
    }

    /// Accepts what has arrived. True if anything did.
    pub(super) fn accept(&mut self) -> bool {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.arriving).into_iter().partition(|one| one.at <= now);
        self.arriving = later;
        let due: VecDeque<Arriving> = due;
        for Arriving { listener, link, .. } in &due {
            if self.closed_listeners.contains(listener) || self.live >= self.options.connections_max {
                self.stats.refused += 1;
                self.links.with(*link, |link| link.close(true, now));
                continue;
            }
            let address = self.claim(Core::accepted(), Some(*link), Some(*listener));
            self.links.with(*link, |link| link.engine = Some(address));
            self.trace.note(now, address, "accepted by listener", [u64::from(*listener), 0]);
        }
        !due.is_empty()
    }

    /// Lets arrive what is due. True if a peer got something.
    pub(super) fn deliver_network(&mut self) -> bool {
        let (touched, mut any) = (&mut self.touched, false);
        self.links.deliver(self.now, |link| {
            any = true;
            if !touched.contains(&link) {
                touched.push_back(link);
            }
        });
        any
    }

    /// A peer that got something, or was reached by a connect, since it was last asked.
    pub(super) fn take_touched(&mut self) -> Option<usize> {
        self.touched.pop_front()
    }

    pub(super) fn touch(&mut self, link: usize) {
        self.touched.push_back(link);
    }

    /// When anything happens by itself.
    pub(super) fn next_event(&self) -> Option<Time> {
        let slots = self.slots.iter().filter_map(Slot::next_event).min();
        let arriving = self.arriving.iter().map(|one| one.at).min();
        [slots, arriving, self.links.next_arrival()].into_iter().flatten().min()
    }

    /// The slots that have a reason to run.
    pub(super) fn ready(&self) -> Vec<u32> {
        (0..).zip(&self.slots).filter(|(_, slot)| self.is_ready(slot)).map(|(index, _)| index).collect()
    }

    fn is_ready(&self, slot: &Slot<A>) -> bool {
        if !slot.inbox.is_empty() || slot.again_at.is_some_and(|at| at <= self.now) {
            return true;
        }
        let Some(core) = &slot.core else { return false };
        if core.is_new() || core.wants_offer() || core.is_over() || self.is_due(core) {
            return true;
        }
        if core.is_connecting() {
            return self.is_dialled(slot);
        }
        let Some(link) = slot.link.map(|link| self.links.at(link)) else { return false };
        let breaks = link.is_reset() && core.end().is_none() && !core.is_shut();
        // One that found no buffer waits until others have given some back.
        let reads = core.wants_read() && slot.again_at.is_none();
        reads && link.is_readable() || breaks || core.wants_write() && link.is_writable()
    }

    fn is_due(&self, core: &Core<A>) -> bool {
        core.deadline() != Tick::NEVER && core.deadline().time() <= self.now
    }

    fn is_dialled(&self, slot: &Slot<A>) -> bool {
        match slot.dial {
            Dial::None => true,
            Dial::Until(at, reach) => at <= self.now && reach != Reach::Silent,
        }
    }

    /// Whether, and when, a connect to `to` succeeds.
    pub(super) fn dial(&mut self, to: SocketAddr) -> Dial {
        let reach = self.reach.get(&to).copied().unwrap_or(Reach::Accepts);
        let at = self.now.after_ms(self.dice.up_to(self.options.link.delay_ms_max));
        Dial::Until(at, reach)
    }

    /// Connects to `to` that wait in silence are answered now.
    pub(super) fn answer_silent(&mut self, to: SocketAddr) {
        for slot in self.slots.iter_mut().filter(|slot| slot.info.peer == Some(to)) {
            if matches!(slot.dial, Dial::Until(_, Reach::Silent)) {
                slot.dial = Dial::Until(self.now, Reach::Accepts);
            }
        }
    }
}

impl<A: Application> Slot<A> {
    fn next_event(&self) -> Option<Time> {
        let core = self.core.as_ref()?;
        let deadline = Some(core.deadline()).filter(|deadline| *deadline != Tick::NEVER).map(Tick::time);
        let dial = match self.dial {
            Dial::Until(at, reach) if reach != Reach::Silent => Some(at),
            _ => None,
        };
        [deadline, dial, self.again_at].into_iter().flatten().min()
    }
}

impl<M> Letter<M> {
    /// The same letter on its way back.
    pub(super) fn back(self) -> Letter<M> {
        Letter { to: self.from, from: self.to, bounced: true, mail: self.mail }
    }
}

/// What a machine reaches during its call.
pub(super) struct Desk<'a, A: Application> {
    pub(super) ground: &'a mut Ground<A>,
    pub(super) me: Address,
}

impl<A: Application> Desk<'_, A> {
    fn send(&mut self, to: Address, mail: A::Mail) {
        self.ground.stats.mail += 1;
        let figures = [u64::from(to.index), u64::from(to.generation)];
        self.ground.trace.note(self.ground.now, self.me, "sends mail to", figures);
        let letter = Letter { to, from: self.me, bounced: false, mail };
        if self.ground.deliver(letter).is_err() {
            unreachable!("what a machine sends goes somewhere, or back to it");
        }
    }

    fn begin(
        &mut self,
        open: Open,
        machine: Box<dyn Machine<A>>,
        load: Box<Load>,
    ) -> Result<Address, OpenRefused<A>> {
        if self.ground.live >= self.ground.options.connections_max {
            self.ground.stats.refused += 1;
            return Err(OpenRefused(machine));
        }
        self.ground.stats.connects += 1;
        let core = Core::opening(machine, &open, load, self.ground.now);
        let address = self.ground.claim(core, None, None);
        self.ground.slot(address.index).info.peer = Some(open.to);
        let figures = [u64::from(address.index), u64::from(open.to.port())];
        self.ground.trace.note(self.ground.now, self.me, "opens", figures);
        Ok(address)
    }
}

impl<A: Application> Port<A> for Desk<'_, A> {
    fn post(&mut self, to: Address, mail: A::Mail) {
        let mut mail = Some(mail);
        (self.ground.meter.outside)(&mut || {
            if let Some(mail) = mail.take() {
                self.send(to, mail);
            }
        });
    }

    fn open(
        &mut self,
        open: Open,
        machine: Box<dyn Machine<A>>,
        load: Box<Load>,
    ) -> Result<Address, OpenRefused<A>> {
        let (mut parts, mut result) = (Some((machine, load)), None);
        (self.ground.meter.outside)(&mut || {
            result = parts.take().map(|(machine, load)| self.begin(open, machine, load));
        });
        result.expect("a meter runs what it is given, once")
    }

    fn set_peer(&mut self, peer: SocketAddr) -> bool {
        self.ground.slot(self.me.index).info.peer = Some(peer);
        true
    }

    fn publish(&mut self, note: Note) {
        let now = self.ground.now;
        let info = &mut self.ground.slot(self.me.index).info;
        info.requests += note.requests;
        info.in_flight = note.in_flight.unwrap_or(info.in_flight);
        info.state = note.state.unwrap_or(info.state);
        if note.active {
            info.last_active = now;
        }
    }
}
