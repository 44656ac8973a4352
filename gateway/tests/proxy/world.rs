//! A world in memory: machines under the contract of the engine, peers that a test plays, and a clock that a test moves.
//!
//! It carries mail in order, bounces what has no receiver, offers bytes in pieces of any size, keeps what is not consumed,
//! writes as much as a peer takes, and replays exactly for a seed. On request it freezes and thaws machines between
//! inputs, and runs every turn on a random one of two workers.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bowline_engine::buf::{Chunk, Piece, Pool};
use bowline_engine::machine::{
    Address, Application, CloseCause, Closed, Context, Effects, Freeze, Frozen, Host, Incoming, Input, Lost,
    Machine, Open, OpenError, OpenRefused,
};
use bowline_engine::time::Time;
use bowline_gateway::application::Gateway;
use bowline_gateway::config::plan::{EndpointPlan, Plan};
use bowline_gateway::error::{CloseReason, Failure};
use bowline_gateway::mail::Mail;
use bowline_gateway::metrics::{Count, Counters};
use bowline_gateway::worker::Worker;

use crate::counting;

/// What happens to a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It succeeds.
    Accepts,
    /// It is refused.
    Refuses,
    /// Nothing happens, so it times out.
    Silent,
}

/// One end of a connection, played by the test: a client's, or a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Peer(pub usize);

/// A connection as the driver of this world keeps it.
struct Slot {
    machine: Option<Box<dyn Machine<Gateway>>>,
    peer: SocketAddr,
    listener: Option<u16>,
    opening: Option<Opening>,
    /// Nobody answers its connect.
    silent: bool,
    /// Sent by the peer and not read.
    network: VecDeque<u8>,
    peer_ended: bool,
    end_told: bool,
    tail: Vec<u8>,
    /// The tail was left because reading paused: it is offered again as soon as it goes on.
    paused_tail: bool,
    need: usize,
    reading: bool,
    inbox: VecDeque<(Address, bool, Mail)>,
    queued: VecDeque<u8>,
    written: usize,
    /// What the peer has got and the test has not taken.
    received: Vec<u8>,
    /// How many bytes the peer still takes; nothing for all.
    window: Option<usize>,
    watching: bool,
    shut: bool,
    deadline: Option<Time>,
    last_active: Time,
    closing: Option<CloseCause>,
    closed: Option<CloseCause>,
    requests: u64,
    in_flight: u32,
}

#[derive(Clone, Copy)]
enum Opening {
    Accepted,
    Connecting { timeout_at: Time },
}

/// The world.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pool: Pool,
    pub(crate) now: Time,
    /// Machines are frozen and thawed between inputs, each time with this chance in 256.
    pub(crate) freeze_chance: u64,
    /// Bytes offered at once; nothing for as much as there is.
    pub(crate) split: Option<usize>,
    pub(crate) connections_max: usize,
    pub(crate) not_yet: usize,
    pub(crate) freezes: usize,
    pub(crate) turns: usize,
    random: u64,
    workers: Vec<Worker>,
    slots: Vec<Slot>,
    reach: HashMap<SocketAddr, Reach>,
    effects: Effects<Gateway>,
}

/// The address of a server by number.
pub(crate) fn server_address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

/// The default plan with `endpoints` servers and without the embedded upstream.
pub(crate) fn plan_of(endpoints: u16) -> Plan {
    let mut plan = Plan::default();
    plan.clusters[0].echo = false;
    plan.clusters[0].endpoints =
        (1..=endpoints).map(|number| EndpointPlan::Address(server_address(number))).collect();
    plan
}

impl World {
    /// A world of `plan`.
    pub(crate) fn new(plan: Plan, seed: u64) -> World {
        World::with_pool(plan, seed, Pool::new(1 << 30))
    }

    /// A world of `plan` whose buffers come from `pool`.
    pub(crate) fn with_pool(plan: Plan, seed: u64, pool: Pool) -> World {
        let counters = Counters::new(2);
        let gateway = Gateway::new(Arc::new(plan), Arc::clone(&counters));
        let workers = vec![gateway.local(0), gateway.local(1)];
        World {
            gateway,
            counters,
            pool,
            now: Time::from_ms(1_000),
            freeze_chance: 0,
            split: None,
            connections_max: usize::MAX,
            not_yet: 0,
            freezes: 0,
            turns: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            workers,
            slots: Vec::new(),
            reach: HashMap::new(),
            effects: Effects::default(),
        }
    }

    /// A number from the seed.
    pub(crate) fn random(&mut self) -> u64 {
        next_random(&mut self.random)
    }

    /// Only one worker runs everything, so that its pools are the only ones.
    pub(crate) fn one_worker(mut self) -> World {
        self.workers.truncate(1);
        self
    }

    /// Says what happens to connects to `address`.
    pub(crate) fn set_reach(&mut self, address: SocketAddr, reach: Reach) {
        self.reach.insert(address, reach);
    }

    /// Connects to `address` that wait for an answer get one, and later ones do.
    pub(crate) fn let_connect(&mut self, address: SocketAddr) {
        self.reach.insert(address, Reach::Accepts);
        let waiting = self.slots.iter_mut().filter(|slot| slot.peer == address);
        waiting.for_each(|slot| slot.silent = false);
        self.run();
    }

    /// A client connects to `listener`.
    pub(crate) fn connect(&mut self, listener: u16) -> Peer {
        self.connect_from(listener, [127, 0, 0, 1])
    }

    /// A client connects to `listener` from `source`.
    pub(crate) fn connect_from(&mut self, listener: u16, source: [u8; 4]) -> Peer {
        let peer = SocketAddr::from((source, 40_000));
        let worker = self.pick_worker();
        let machine = self.gateway.accept(&mut self.workers[worker], listener, peer);
        let mut slot = Slot::new(peer, Opening::Accepted, self.now);
        slot.machine = Some(machine.expect("the listener exists"));
        slot.listener = Some(listener);
        self.slots.push(slot);
        let peer = Peer(self.slots.len() - 1);
        self.run();
        peer
    }

    /// The servers' ends of all connections that were opened, in order.
    pub(crate) fn servers(&self) -> Vec<Peer> {
        let opened = |at: &usize| self.slots[*at].listener.is_none() && self.slots[*at].opening.is_none();
        (0..self.slots.len()).filter(opened).map(Peer).collect()
    }

    /// The servers' ends that are still open.
    pub(crate) fn open_servers(&self) -> Vec<Peer> {
        self.servers().into_iter().filter(|peer| self.slots[peer.0].closed.is_none()).collect()
    }

    /// The only open server's end.
    pub(crate) fn server(&self) -> Peer {
        let open = self.open_servers();
        assert_eq!(open.len(), 1, "one server's connection is open");
        open[0]
    }

    /// The address that a server's end was opened to.
    pub(crate) fn address_of(&self, peer: Peer) -> SocketAddr {
        self.slots[peer.0].peer
    }

    /// The peer sends.
    pub(crate) fn send(&mut self, peer: Peer, bytes: &[u8]) {
        self.slots[peer.0].network.extend(bytes);
        self.run();
    }

    /// The peer sends, and nothing runs yet.
    pub(crate) fn send_later(&mut self, peer: Peer, bytes: &[u8]) {
        self.slots[peer.0].network.extend(bytes);
    }

    /// The peer says that it will send no more.
    pub(crate) fn end(&mut self, peer: Peer) {
        self.slots[peer.0].peer_ended = true;
        self.run();
    }

    /// The connection breaks.
    pub(crate) fn cut(&mut self, peer: Peer) {
        self.lose(peer.0, Lost::Reset);
        self.run();
    }

    /// What the peer has got since it was last asked.
    pub(crate) fn take(&mut self, peer: Peer) -> Vec<u8> {
        std::mem::take(&mut self.slots[peer.0].received)
    }

    /// The peer takes only so many bytes more; nothing for all.
    pub(crate) fn set_window(&mut self, peer: Peer, window: Option<usize>) {
        self.slots[peer.0].window = window;
        self.run();
    }

    /// Bytes that wait for the peer to take them.
    pub(crate) fn queued(&self, peer: Peer) -> usize {
        self.slots[peer.0].queued.len()
    }

    /// Bytes that the peer sent and nobody read.
    pub(crate) fn unread(&self, peer: Peer) -> usize {
        self.slots[peer.0].network.len() + self.slots[peer.0].tail.len()
    }

    /// Whether the machine reads.
    pub(crate) fn is_reading(&self, peer: Peer) -> bool {
        self.slots[peer.0].reading
    }

    /// Whether the gateway said that it will send no more.
    pub(crate) fn is_shut(&self, peer: Peer) -> bool {
        self.slots[peer.0].shut || self.slots[peer.0].closed.is_some()
    }

    /// Requests in flight as published.
    pub(crate) fn in_flight(&self, peer: Peer) -> u32 {
        self.slots[peer.0].in_flight
    }

    /// Why the connection is closed, if it is: the gateway's own reason.
    pub(crate) fn reason(&self, peer: Peer) -> Option<CloseReason> {
        match self.slots[peer.0].closed? {
            CloseCause::Machine(index) => CloseReason::from_index(usize::from(index)),
            CloseCause::Lost(_) => Some(CloseReason::PeerReset),
            CloseCause::Failed(_) => Some(CloseReason::ConnectFailed),
        }
    }

    /// Whether the connection is closed.
    pub(crate) fn is_closed(&self, peer: Peer) -> bool {
        self.slots[peer.0].closed.is_some()
    }

    /// The machine of a peer's connection as plain data.
    pub(crate) fn frozen(&self, peer: Peer) -> Frozen {
        match self.slots[peer.0].machine.as_ref().expect("the connection is open").freeze() {
            Freeze::Frozen(frozen) => frozen,
            Freeze::NotYet { why } => panic!("{why}"),
        }
    }

    /// Mail from the control plane to every open connection.
    pub(crate) fn tell_all(&mut self, mail: impl Fn() -> Mail) {
        for at in 0..self.slots.len() {
            if self.slots[at].machine.is_some() {
                self.slots[at].inbox.push_back((Address::OUTSIDE, false, mail()));
            }
        }
        self.run();
    }

    /// Drains the whole gateway within `ms`.
    pub(crate) fn drain(&mut self, ms: u64) {
        let deadline = self.now.after_ms(ms);
        self.gateway.begin_drain(deadline);
        self.tell_all(|| Mail::Drain { deadline });
    }

    pub(crate) fn total(&self, what: Count) -> u64 {
        self.counters.total(what)
    }

    pub(crate) fn failures(&self, failure: Failure) -> u64 {
        self.counters.failures(failure)
    }

    pub(crate) fn closes(&self, reason: CloseReason) -> u64 {
        self.counters.closes(reason)
    }

    /// Requests in flight and bytes queued at all endpoints of a cluster.
    pub(crate) fn held(&self, cluster: usize) -> (usize, usize) {
        let views = self.gateway.endpoints(cluster, self.now);
        (views.iter().map(|view| view.requests).sum(), views.iter().map(|view| view.output_bytes).sum())
    }

    /// Moves the clock, with everything that falls due on the way.
    pub(crate) fn advance(&mut self, ms: u64) {
        let target = self.now.after_ms(ms);
        self.run();
        while let Some(due) = self.slots.iter().filter_map(Slot::next_due).min().filter(|due| *due <= target)
        {
            self.now = self.now.max(due);
            self.run();
        }
        self.now = target;
        self.run();
    }

    /// Runs turns until nothing is left to do.
    pub(crate) fn run(&mut self) {
        for _ in 0..TURNS_MAX {
            let now = self.now;
            let ready: Vec<_> = (0..self.slots.len()).filter(|at| self.slots[*at].is_ready(now)).collect();
            if ready.is_empty() {
                return;
            }
            let at = ready[(self.random() % ready.len() as u64) as usize];
            self.turn(at);
        }
        panic!("the world does not come to rest");
    }

    fn pick_worker(&mut self) -> usize {
        (self.random() % self.workers.len() as u64) as usize
    }

    fn turn(&mut self, at: usize) {
        self.turns += 1;
        if let Some(opening) = self.slots[at].opening {
            self.establish(at, opening);
        }
        while let Some((from, bounced, mail)) = self.slots[at].inbox.pop_front() {
            if self.slots[at].machine.is_none() {
                self.bounce(at, from, bounced, mail);
            } else if bounced {
                self.call(at, Input::Bounced { to: from, mail });
            } else {
                self.call(at, Input::Mail { from, mail });
            }
        }
        if self.slots[at].opening.is_none() {
            self.read(at);
        }
        if self.slots[at].deadline.is_some_and(|deadline| deadline <= self.now) {
            self.slots[at].deadline = None;
            self.call(at, Input::Deadline);
        }
        self.flush(at);
        self.finish(at);
        self.maybe_freeze(at);
    }

    fn bounce(&mut self, at: usize, from: Address, bounced: bool, mail: Mail) {
        let me = address_of(at);
        let sender = self.slots.get_mut(from.index as usize).filter(|slot| slot.machine.is_some());
        match sender {
            Some(sender) if !bounced => sender.inbox.push_back((me, true, mail)),
            _ => self.gateway.orphaned(&mut self.workers[0], mail),
        }
    }

    fn establish(&mut self, at: usize, opening: Opening) {
        let reach = self.reach.get(&self.slots[at].peer).copied().unwrap_or(Reach::Accepts);
        let failed = match opening {
            Opening::Accepted => None,
            Opening::Connecting { timeout_at } => match reach {
                Reach::Accepts => None,
                Reach::Refuses => Some(OpenError::Refused),
                Reach::Silent if timeout_at <= self.now => Some(OpenError::TimedOut),
                Reach::Silent => return,
            },
        };
        self.slots[at].opening = None;
        match failed {
            None => self.call(at, Input::Opened),
            Some(error) => {
                self.call(at, Input::Failed(error));
                let slot = &mut self.slots[at];
                slot.queued.clear();
                slot.closing.get_or_insert(CloseCause::Failed(error));
                slot.machine = None;
            }
        }
    }

    fn read(&mut self, at: usize) {
        loop {
            let slot = &mut self.slots[at];
            if slot.machine.is_none() || !slot.reading {
                return;
            }
            let split =
                self.split.map_or(usize::MAX, |most| 1 + next_random(&mut self.random) as usize % most);
            let fresh = slot.network.len().min(split);
            if fresh == 0 && (slot.tail.is_empty() || slot.tail.len() < slot.need) {
                break;
            }
            if fresh == 0 && !slot.offer_again() {
                break;
            }
            if fresh > 0 {
                slot.last_active = self.now;
            }
            slot.tail.extend(slot.network.drain(..fresh));
            slot.paused_tail = false;
            if slot.tail.len() < slot.need {
                continue;
            }
            slot.need = 0;
            let offered = std::mem::take(&mut slot.tail);
            let pool = self.pool.clone();
            let mut chunk = Chunk::copy_of(&pool, &offered).expect("the pool has room for what is read");
            self.call(at, Input::Bytes(&mut Incoming::new(&mut chunk)));
            let slot = &mut self.slots[at];
            slot.tail = chunk.waiting().to_vec();
            let stuck = slot.reading && slot.need <= slot.tail.len() && slot.tail.len() == offered.len();
            assert!(
                slot.machine.is_none() || !stuck || offered.len() < 16 << 10,
                "rule 3: it consumes nothing"
            );
            slot.paused_tail = !slot.reading && !slot.tail.is_empty();
        }
        let slot = &mut self.slots[at];
        if slot.peer_ended && slot.network.is_empty() && !slot.end_told && slot.machine.is_some() {
            slot.end_told = true;
            self.call(at, Input::EndOfStream);
        }
    }

    fn flush(&mut self, at: usize) {
        loop {
            let slot = &mut self.slots[at];
            if slot.opening.is_some() || slot.closed.is_some() {
                return;
            }
            let taken = slot.queued.len().min(slot.window.unwrap_or(usize::MAX));
            if let Some(window) = &mut slot.window {
                *window -= taken;
            }
            slot.received.extend(slot.queued.drain(..taken));
            slot.written += taken;
            let (written, queued) = (std::mem::take(&mut slot.written), slot.queued.len());
            if written == 0 || !slot.watching || slot.machine.is_none() {
                return;
            }
            self.call(at, Input::Flushed { written, queued });
        }
    }

    fn finish(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let Some(cause) = slot.closing.filter(|_| slot.queued.is_empty() && slot.closed.is_none()) else {
            return;
        };
        slot.closed = Some(cause);
        slot.machine = None;
        let record = Closed {
            address: address_of(at),
            peer: Some(slot.peer),
            listener: slot.listener,
            cause,
            age_ms: 0,
            bytes_in: 0,
            bytes_out: 0,
            requests: slot.requests,
        };
        let letters: Vec<_> = slot.inbox.drain(..).collect();
        self.gateway.closed(&mut self.workers[0], &record);
        for (from, bounced, mail) in letters {
            self.bounce(at, from, bounced, mail);
        }
    }

    fn lose(&mut self, at: usize, lost: Lost) {
        if self.slots[at].closed.is_some() {
            return;
        }
        self.slots[at].opening = None;
        self.call(at, Input::Lost(lost));
        let slot = &mut self.slots[at];
        slot.queued.clear();
        slot.closing.get_or_insert(CloseCause::Lost(lost));
        slot.machine = None;
        self.finish(at);
    }

    fn call(&mut self, at: usize, input: Input<'_, Gateway>) {
        let worker = self.pick_worker();
        let Some(mut machine) = self.slots[at].machine.take() else { return };
        let slot = &self.slots[at];
        let (peer, last_active) = (slot.peer, slot.last_active);
        let (output_bytes, input_bytes) = (slot.queued.len(), slot.tail.len());
        let mut host = TestHost {
            now: self.now,
            pool: self.pool.clone(),
            random: &mut self.random,
            connections_max: self.connections_max,
            reach: &self.reach,
            slots: &mut self.slots,
        };
        let mut context = Context {
            now: self.now,
            me: address_of(at),
            peer,
            last_active,
            output_bytes,
            input_bytes,
            local: &mut self.workers[worker],
            pool: &self.pool,
            effects: &mut self.effects,
            host: &mut host,
        };
        counting::watch(|| machine.on(input, &mut context));
        self.slots[at].machine = Some(machine);
        self.apply(at);
    }

    fn apply(&mut self, at: usize) {
        let effects = &mut self.effects;
        for (to, mail) in effects.mail.drain(..) {
            match self.slots.get_mut(to.index as usize) {
                Some(slot)
                    if to == address_of(to.index as usize) && slot.machine.is_some()
                        || to.index as usize == at =>
                {
                    self.slots[to.index as usize].inbox.push_back((address_of(at), false, mail));
                }
                _ => self.slots[at].inbox.push_back((to, true, mail)),
            }
        }
        let slot = &mut self.slots[at];
        for piece in effects.output.drain(..) {
            assert!(!slot.shut, "nothing is written behind the end of the stream");
            slot.queued.extend(piece.iter());
        }
        if let Some(deadline) = effects.deadline.take() {
            slot.deadline = deadline;
        }
        if let Some(watch) = effects.watch_output.take() {
            slot.watching = watch;
        }
        if let Some(reading) = effects.reading.take() {
            slot.reading = reading;
        }
        slot.shut |= std::mem::take(&mut effects.shutdown);
        slot.need = slot.need.max(std::mem::take(&mut effects.need));
        slot.requests += u64::from(std::mem::take(&mut effects.requests));
        slot.in_flight = effects.in_flight.take().unwrap_or(slot.in_flight);
        effects.state = None;
        if std::mem::take(&mut effects.active) {
            slot.last_active = self.now;
        }
        if let Some((reason, abort)) = effects.close.take() {
            if abort {
                slot.queued.clear();
            }
            slot.closing.get_or_insert(CloseCause::Machine(reason));
            slot.machine = None;
            slot.deadline = None;
            slot.opening = None;
        }
    }

    /// Freezes and thaws the machine in place: nobody may notice.
    fn maybe_freeze(&mut self, at: usize) {
        if self.freeze_chance == 0 || self.random() % 256 >= self.freeze_chance {
            return;
        }
        let slot = &mut self.slots[at];
        if !slot.inbox.is_empty() || slot.opening.is_some() {
            return;
        }
        let Some(machine) = slot.machine.take() else { return };
        self.freezes += 1;
        match machine.freeze() {
            Freeze::NotYet { .. } => {
                self.not_yet += 1;
                self.slots[at].machine = Some(machine);
            }
            Freeze::Frozen(frozen) => {
                drop(machine);
                let worker = self.pick_worker();
                let thawed = self.gateway.thaw(&mut self.workers[worker], &frozen);
                self.slots[at].machine = Some(thawed.expect("what was frozen can be thawed"));
            }
        }
    }
}

impl Slot {
    fn new(peer: SocketAddr, opening: Opening, now: Time) -> Slot {
        Slot {
            machine: None,
            peer,
            listener: None,
            opening: Some(opening),
            silent: false,
            network: VecDeque::new(),
            peer_ended: false,
            end_told: false,
            tail: Vec::new(),
            paused_tail: false,
            need: 0,
            reading: true,
            inbox: VecDeque::new(),
            queued: VecDeque::new(),
            written: 0,
            received: Vec::new(),
            window: None,
            watching: false,
            shut: false,
            deadline: None,
            last_active: now,
            closing: None,
            closed: None,
            requests: 0,
            in_flight: 0,
        }
    }

    fn offer_again(&self) -> bool {
        self.paused_tail
    }

    fn is_ready(&self, now: Time) -> bool {
        if self.closed.is_some() {
            return !self.inbox.is_empty();
        }
        let connects = match self.opening {
            Some(Opening::Accepted) => true,
            Some(Opening::Connecting { .. }) => self.connect_ready(now),
            None => false,
        };
        let reads = self.opening.is_none() && self.machine.is_some() && self.reading;
        let more = !self.network.is_empty() || self.paused_tail || self.peer_ended && !self.end_told;
        let writes = self.opening.is_none() && !self.queued.is_empty() && self.window != Some(0);
        let ends = self.closing.is_some() && self.queued.is_empty();
        connects
            || !self.inbox.is_empty()
            || reads && more
            || writes
            || ends
            || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn connect_ready(&self, now: Time) -> bool {
        match self.opening {
            Some(Opening::Connecting { timeout_at }) => !self.silent || timeout_at <= now,
            _ => true,
        }
    }

    fn next_due(&self) -> Option<Time> {
        if self.closed.is_some() {
            return None;
        }
        let connect = match self.opening {
            Some(Opening::Connecting { timeout_at }) => Some(timeout_at),
            _ => None,
        };
        [self.deadline, connect].into_iter().flatten().min()
    }
}

fn address_of(at: usize) -> Address {
    Address { index: at as u32, generation: 1 }
}

fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
}

/// Far more than any test needs.
const TURNS_MAX: usize = 2_000_000;

struct TestHost<'a> {
    now: Time,
    pool: Pool,
    random: &'a mut u64,
    connections_max: usize,
    reach: &'a HashMap<SocketAddr, Reach>,
    slots: &'a mut Vec<Slot>,
}

impl Host<Gateway> for TestHost<'_> {
    fn open(
        &mut self,
        open: Open,
        machine: Box<dyn Machine<Gateway>>,
    ) -> Result<Address, OpenRefused<Gateway>> {
        counting::pause(|| {
            let alive = self.slots.iter().filter(|slot| slot.closed.is_none()).count();
            if alive >= self.connections_max {
                return Err(OpenRefused(machine));
            }
            let timeout_at = self.now.after_ms(open.timeout_ms);
            let mut slot = Slot::new(open.to, Opening::Connecting { timeout_at }, self.now);
            slot.machine = Some(machine);
            slot.silent = self.reach.get(&open.to) == Some(&Reach::Silent);
            self.slots.push(slot);
            Ok(address_of(self.slots.len() - 1))
        })
    }

    fn copy(&mut self, bytes: &[u8]) -> Option<Piece> {
        counting::pause(|| {
            let mut chunk = Chunk::copy_of(&self.pool, bytes)?;
            Some(chunk.take_piece(bytes.len()))
        })
    }

    fn random(&mut self) -> u64 {
        next_random(self.random)
    }
}
