//! The simulator: machines under the contract without a socket, a thread or a clock, and one seed decides everything.
//!
//! It runs the same connections (the core of every driver) with the same kits as the drivers of real sockets,
//! on several simulated workers in one thread. Peers are played by the test, which also moves the virtual clock; the
//! clock jumps to the next event. One seed gives one trace. Used by tests alone, public because the gateway's are
//! written with it; what goes wrong in a test panics here.
//!
//! `ground` is what workers share, `turn` what they do, `freeze` how machines become data and back, `link` the network,
//! `trace` the record, `dice` the randomness.

mod dice;
mod trace;
mod link;
mod ground;
mod turn;
mod freeze;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::buf::Pool;
use crate::driver::control::ConnectionInfo;
use crate::driver::core::Core;
use crate::driver::kit::Kit;
use crate::driver::load::Depot;
use crate::machine::{Address, Application, CloseCause, Frozen};
use crate::time::{Tick, Time};

use ground::{Ground, Letter};

pub use ground::{Doorway, Reach};
pub use link::{Ending, LinkOptions};

/// What a simulation is started with.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Decides everything that is left open below.
    pub seed: u64,
    /// When it starts.
    pub start: Time,
    /// Simulated workers; every turn runs on a random one.
    pub workers: usize,
    /// The ceiling of buffer memory.
    pub buffer_bytes_max: usize,
    /// Connections at a time.
    pub connections_max: usize,
    /// Bytes read in one turn, at most.
    pub read_budget_bytes: usize,
    /// Turns of one batch, at most.
    pub batch_turns_max: usize,
    /// How links behave.
    pub link: LinkOptions,
    /// How often, in 1,024 turns, the connection is frozen and thawed after it.
    pub freezes_in_1024: u32,
    /// Whether the trace is kept as text too.
    pub keeps_text: bool,
}

impl Default for SimOptions {
    fn default() -> SimOptions {
        SimOptions {
            seed: 0,
            start: Time::from_ms(1_000),
            workers: 2,
            buffer_bytes_max: 1 << 30,
            connections_max: usize::MAX,
            read_budget_bytes: 64 << 10,
            batch_turns_max: 8,
            link: LinkOptions::default(),
            freezes_in_1024: 0,
            keeps_text: false,
        }
    }
}

/// What a simulation has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimStats {
    /// Turns.
    pub turns: u64,
    /// Batches.
    pub batches: u64,
    /// Mail sent.
    pub mail: u64,
    /// Mail that had no receiver.
    pub bounces: u64,
    /// Mail whose sender was gone as well.
    pub orphans: u64,
    /// Connections refused for want of room, or by a closed listener.
    pub refused: u64,
    /// Connects that were begun, whatever became of them.
    pub connects: u64,
    /// Pieces that machines wrote in calls after the one that shut their write side.
    pub late_pieces: u64,
    /// Machines that were asked to freeze.
    pub freezes: u64,
    /// Those that said not yet.
    pub not_yet: u64,
    /// Those of them that had nothing in flight.
    pub not_yet_idle: u64,
    /// Times that everything moved.
    pub moves: u64,
}

/// What there is at one moment: after the end of a test, everything must be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Connections.
    pub connections: usize,
    /// Mail that waits.
    pub letters: usize,
    /// Armed deadlines.
    pub deadlines: usize,
    /// Buffer memory charged, without that of the workers' own batches.
    pub buffer_bytes: usize,
}

/// One end of a link, played by the test: a client's, or that of a server which the engine connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer(pub usize);

/// Runs what a connection does, and what the simulator does in its midst, inside measures of a test: allocations of
/// machines and of what every driver shares can be told from those of the simulator.
#[derive(Clone, Copy)]
pub struct Meter {
    /// Around a call of a connection.
    pub inside: fn(&mut dyn FnMut()),
    /// Around what the simulator does during such a call.
    pub outside: fn(&mut dyn FnMut()),
}

impl Default for Meter {
    fn default() -> Meter {
        Meter { inside: |work| work(), outside: |work| work() }
    }
}

/// So many batches without the clock moving mean that something runs for ever.
const BATCHES_AT_ONCE_MAX: u64 = 1_000_000;

/// A simulated engine.
pub struct Sim<A: Application> {
    app: Arc<A>,
    pool: Pool,
    kits: Vec<Kit<A>>,
    ground: Ground<A>,
    servers: Vec<Peer>,
    moved_at_batch: u64,
}

impl<A: Application> Sim<A> {
    /// An engine that runs `app`, with nothing connected.
    pub fn new(app: Arc<A>, options: SimOptions) -> Sim<A> {
        let pool = Pool::new(options.buffer_bytes_max);
        let depot = Depot::new();
        let kit = |worker: usize| {
            let seed = options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ worker as u64;
            Kit::new(app.local(worker), pool.clone(), depot.clone(), seed)
        };
        let kits = (0..options.workers.max(1)).map(kit).collect();
        Sim { app, pool, kits, ground: Ground::new(options), servers: Vec::new(), moved_at_batch: 0 }
    }

    /// Measures calls from now on.
    pub fn set_meter(&mut self, meter: Meter) {
        self.ground.meter = meter;
    }

    /// The application.
    pub fn app(&self) -> &Arc<A> {
        &self.app
    }

    /// The buffer pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The virtual moment.
    pub fn now(&self) -> Time {
        self.ground.now
    }

    /// What it has done.
    pub fn stats(&self) -> SimStats {
        let late_pieces = self.kits.iter().map(|kit| kit.late_pieces).sum();
        SimStats { late_pieces, ..self.ground.stats }
    }

    /// Changes how links behave that are made from now on.
    pub fn set_links(&mut self, link: LinkOptions) {
        self.ground.options.link = link;
    }

    /// Changes how many bytes are read in one turn, at most.
    pub fn set_read_budget(&mut self, bytes: usize) {
        self.ground.options.read_budget_bytes = bytes;
    }

    /// Changes how many connections there may be.
    pub fn set_connections_max(&mut self, connections: usize) {
        self.ground.options.connections_max = connections;
    }

    /// Changes how often connections are frozen and thawed.
    pub fn set_freezes(&mut self, in_1024: u32) {
        self.ground.options.freezes_in_1024 = in_1024;
    }

    /// Says what happens to connects to `address` from now on.
    pub fn set_reach(&mut self, address: SocketAddr, reach: Reach) {
        self.ground.reach.insert(address, reach);
    }

    /// Connects to `address` succeed from now on, also those that have waited in silence until now.
    pub fn let_connect(&mut self, address: SocketAddr) {
        self.set_reach(address, Reach::Accepts);
        self.ground.answer_silent(address);
    }

    /// Connections that arrive at `listener` from now on are reset.
    pub fn stop_accepting(&mut self, listener: u16) {
        self.ground.closed_listeners.push(listener);
    }

    /// Says what connections that are accepted from now on know about their sockets.
    pub fn set_doorway(&mut self, doorway: Doorway) {
        self.ground.doorway = doorway;
    }

    /// A peer connects to `listener`.
    pub fn connect(&mut self, listener: u16, peer: SocketAddr) -> Peer {
        Peer(self.ground.dial_in(listener, peer))
    }

    /// The ends of all connections that the engine opened, in order.
    pub fn servers(&self) -> &[Peer] {
        &self.servers
    }

    /// The next peer that got bytes or an ending, or that a connect reached, since it was last named here.
    pub fn take_touched(&mut self) -> Option<Peer> {
        self.ground.take_touched().map(Peer)
    }

    /// The peer's own address.
    pub fn peer_address(&self, peer: Peer) -> SocketAddr {
        self.ground.links.at(peer.0).peer
    }

    /// The engine's end of a link, while there is one.
    pub fn address(&self, peer: Peer) -> Option<Address> {
        self.ground.links.at(peer.0).engine
    }

    /// What is published about the connection at the engine's end.
    pub fn info(&self, peer: Peer) -> Option<ConnectionInfo> {
        self.address(peer).map(|address| self.ground.slots[address.index as usize].info)
    }

    /// Why the connection at the engine's end was closed, once it is.
    pub fn cause(&self, peer: Peer) -> Option<CloseCause> {
        self.ground.links.at(peer.0).cause
    }

    /// The connection at the engine's end as data, with nothing changed; nothing if it cannot be frozen now.
    pub fn frozen(&mut self, peer: Peer) -> Option<Frozen> {
        self.address(peer).and_then(|address| self.freeze(address.index))
    }

    fn core(&self, peer: Peer) -> Option<&Core<A>> {
        self.address(peer).and_then(|at| self.ground.slots[at.index as usize].core.as_ref())
    }

    /// The peer sends.
    pub fn send(&mut self, peer: Peer, bytes: &[u8]) {
        let now = self.ground.now;
        self.ground.links.with(peer.0, |link| link.send(bytes, now));
    }

    /// The peer will send no more.
    pub fn finish(&mut self, peer: Peer) {
        let now = self.ground.now;
        self.ground.links.with(peer.0, |link| link.finish(now));
    }

    /// The peer resets the connection.
    pub fn cut(&mut self, peer: Peer) {
        let now = self.ground.now;
        self.ground.links.with(peer.0, |link| link.cut(now));
    }

    /// The machine at the engine's end comes to its end by a fault of its own, as one that panics does on other drivers: it is
    /// called no more, says nothing to anybody, and the connection is reset.
    pub fn break_machine(&mut self, peer: Peer) {
        let (Some(address), now) = (self.address(peer), self.ground.now) else { return };
        let slot = self.ground.slot(address.index);
        if let Some(core) = &mut slot.core {
            core.give_up();
            slot.again_at = Some(now);
        }
    }

    /// The peer takes everything that has come to it.
    pub fn take(&mut self, peer: Peer) -> Vec<u8> {
        self.ground.links.with(peer.0, link::Link::take)
    }

    /// How many bytes the peer would take.
    pub fn waiting(&self, peer: Peer) -> usize {
        self.ground.links.at(peer.0).waiting()
    }

    /// Bytes of the peer that the engine has not read.
    pub fn unread(&self, peer: Peer) -> usize {
        self.ground.links.at(peer.0).unread()
    }

    /// Bytes that the engine's connection has read and its machine has not consumed.
    pub fn kept(&self, peer: Peer) -> usize {
        self.core(peer).map_or(0, Core::input_bytes)
    }

    /// Bytes that the engine's connection has queued and not written.
    pub fn queued(&self, peer: Peer) -> usize {
        self.core(peer).map_or(0, Core::output_bytes)
    }

    /// True if the machine at the engine's end takes bytes.
    pub fn is_reading(&self, peer: Peer) -> bool {
        self.core(peer).is_some_and(Core::is_reading)
    }

    /// What the peer knows of the engine's direction.
    pub fn ending(&self, peer: Peer) -> Ending {
        self.ground.links.at(peer.0).ending()
    }

    /// Lets the engine write only so many bytes more to the peer; nothing for any number.
    pub fn allow(&mut self, peer: Peer, bytes: Option<usize>) {
        self.ground.links.with(peer.0, |link| link.allow(bytes));
    }

    /// Sends mail from [`Address::OUTSIDE`]. Gives it back if the address never named a connection.
    pub fn post(&mut self, to: Address, mail: A::Mail) -> Result<(), A::Mail> {
        let letter = Letter { to, from: Address::OUTSIDE, bounced: false, mail };
        self.ground.deliver(letter).map_err(|letter| letter.mail)
    }

    /// Sends mail to every connection there is now.
    pub fn post_each(&mut self, mail: impl Fn() -> A::Mail) {
        let used = self.ground.slots.iter().filter(|slot| slot.used);
        let all: Vec<Address> = used.map(|slot| slot.info.address).collect();
        for to in all {
            // An address of a slot always names one.
            drop(self.post(to, mail()));
        }
    }

    /// What the connection at the engine's end of `peer` sends from now on arrives only at [`Sim::let_mail_arrive`], however
    /// long it is gone by then. Nothing is promised of the order of mail from different senders, so no machine may mind.
    ///
    /// # Panics
    /// When there is no such connection, or another's mail is late already.
    pub fn delay_mail_of(&mut self, peer: Peer) {
        let of = self.address(peer).expect("the connection is open");
        assert!(self.ground.late.of.replace(of).is_none(), "one connection at a time");
    }

    /// Mail that is late arrives. True if there was any.
    pub fn let_mail_arrive(&mut self) -> bool {
        let any = !self.ground.late.letters.is_empty();
        self.ground.let_mail_arrive();
        any
    }

    /// Adds a line to the trace.
    pub fn remark(&mut self, remark: &str) {
        self.ground.trace.remark(self.ground.now, remark);
    }

    /// One number for everything that happened.
    pub fn trace_digest(&self) -> u64 {
        self.ground.trace.digest()
    }

    /// How many events the trace holds.
    pub fn trace_events(&self) -> u64 {
        self.ground.trace.events()
    }

    /// The trace as text; empty unless [`SimOptions::keeps_text`].
    pub fn trace_text(&self) -> &[String] {
        self.ground.trace.text()
    }

    /// Does one thing: lets arrive what is due, runs a batch, or moves the clock to the next event, at most to `limit`.
    /// False if there is nothing left to do before `limit`; the clock stands there then. It does not move while a peer
    /// may have an answer to what it just got.
    pub fn step(&mut self, limit: Time) -> bool {
        let arrived = self.ground.deliver_network();
        if self.ground.accept() || arrived {
            return true;
        }
        let ready = self.ground.ready();
        if !ready.is_empty() {
            self.batch(ready);
            let at_once = self.ground.stats.batches - self.moved_at_batch;
            assert!(at_once < BATCHES_AT_ONCE_MAX, "it does not come to rest at {:?}", self.ground.now);
            return true;
        }
        let next = self.next_moment(limit);
        let to = next.unwrap_or(limit);
        if to > self.ground.now {
            (self.ground.now, self.moved_at_batch) = (to, self.ground.stats.batches);
        }
        next.is_some()
    }

    /// Runs until nothing is left to do at this moment.
    pub fn run(&mut self) {
        let now = self.ground.now;
        while self.step(now) {}
    }

    /// Moves the clock, with everything that falls due on the way.
    pub fn advance(&mut self, ms: u64) {
        let limit = self.ground.now.after_ms(ms);
        while self.step(limit) {}
    }

    /// What there is now. Workers let go of what they keep only to use it again.
    pub fn holdings(&mut self) -> Holdings {
        let held =
            |slot: &&ground::Slot<A>| slot.core.as_ref().is_some_and(|core| core.deadline() != Tick::NEVER);
        let (slots, late) = (&self.ground.slots, self.ground.late.letters.len());
        let (letters, deadlines) = (
            late + slots.iter().map(|slot| slot.inbox.len()).sum::<usize>(),
            slots.iter().filter(held).count(),
        );
        for kit in &mut self.kits {
            kit.free_batch();
        }
        let buffer_bytes = self.pool.stats().charged_bytes;
        Holdings { connections: self.ground.live, letters, deadlines, buffer_bytes }
    }
}
