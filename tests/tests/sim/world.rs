//! A world: clients, the gateway in the simulator, and servers, all moved by one agenda and one virtual clock.
//!
//! Peers do here what the workload planned, and answer what comes to them; everything that they see is told to the
//! oracle. It judges nothing itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use bowline_engine::sim::{Ending, Peer, Sim};
use bowline_engine::time::Time;
use bowline_gateway::application::Gateway;
use bowline_gateway::error::CloseReason;
use bowline_gateway::mail::Mail;
use bowline_gateway::metrics::{Count, Counters};
use bowline_protocols::Limits;
use bowline_protocols::bolt::{
    Decoded, Kind, ResponseParts, Version, decode, encode_goaway, encode_heartbeat, encode_heartbeat_ack,
    encode_response,
};
use bowline_protocols::testing::VERSIONS;
use bowline_tests::{Call, Message};

use crate::dice::Dice;
use crate::oracle::{Figures, Oracle, Request, TIMEOUT};
use crate::workload::{Act, CALM_FROM_MS, Scenario, server_address};

/// What is due at a moment.
enum Due {
    Act(Act),
    /// A server writes this, unless its connection is over.
    Reply {
        server: Peer,
        id: u32,
        bytes: Vec<u8>,
    },
    /// A client writes this.
    Answer {
        client: usize,
        bytes: Vec<u8>,
    },
}

#[derive(Default)]
struct Client {
    peer: Option<Peer>,
    bytes: Vec<u8>,
    next_id: u32,
    is_stalled: bool,
    is_finished: bool,
    is_cut: bool,
}

#[derive(Default)]
struct Server {
    bytes: Vec<u8>,
    replies: u32,
    next_id: u32,
    callbacks: BTreeMap<u32, usize>,
    is_stalled: bool,
    is_gone: bool,
}

/// What became of a world.
pub(crate) struct Outcome {
    /// What may not be.
    pub(crate) findings: Vec<String>,
    pub(crate) sim: Sim<Gateway>,
    pub(crate) counters: Arc<Counters>,
}

/// A running world.
pub(crate) struct World {
    pub(crate) sim: Sim<Gateway>,
    pub(crate) oracle: Oracle,
    scenario: Scenario,
    gateway: Gateway,
    counters: Arc<Counters>,
    dice: Dice,
    clients: Vec<Client>,
    servers: BTreeMap<Peer, Server>,
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    /// What stands on the agenda, by number; taken when it is done.
    due: Vec<Option<Due>>,
    is_draining: bool,
    /// Nobody asks for anything new.
    is_calm: bool,
}

/// The longest that a request may wait.
const TIMEOUT_MS_MAX: u64 = 4_000;
/// How long a drain may take: longer than any request.
const DRAIN_MS: u64 = 8_000;

impl World {
    /// The world of a scenario, before its first event.
    pub(crate) fn new(scenario: Scenario) -> World {
        let counters = Counters::new(scenario.options.workers);
        let gateway = Gateway::new(Arc::new(scenario.plan.clone()), Arc::clone(&counters));
        let sim = Sim::new(Arc::new(gateway.clone()), scenario.options.clone());
        let mut dice = Dice::new(scenario.seed.wrapping_add(1 << 40));
        let client = |_| Client { next_id: dice.number() as u32, ..Client::default() };
        let clients = (0..scenario.clients).map(client).collect();
        let mut world = World {
            sim,
            oracle: Oracle::new(scenario.clients),
            gateway,
            counters,
            dice,
            clients,
            servers: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            due: Vec::new(),
            is_draining: false,
            is_calm: false,
            scenario,
        };
        for (ms, act) in std::mem::take(&mut world.scenario.acts) {
            world.later(world.scenario.options.start.after_ms(ms), Due::Act(act));
        }
        world
    }

    /// Runs it from beginning to end.
    pub(crate) fn run(mut self) -> Outcome {
        let start = self.scenario.options.start;
        self.run_until(start.after_ms(CALM_FROM_MS));
        self.calm_down();
        // With one request in flight at a time, those that are never answered time out one after the other.
        let settling_ms = if self.scenario.faults.tight { 120_000 } else { 20_000 };
        self.run_until(self.sim.now().after_ms(settling_ms));
        self.judge_places();
        let figures = Figures {
            retries: self.counters.total(Count::Retries),
            partner_gone: self.counters.closes(CloseReason::PartnerGone),
            slow_reader: self.counters.closes(CloseReason::SlowReader),
            drain_deadline: self.counters.closes(CloseReason::DrainDeadline),
        };
        self.oracle.judge(&self.scenario, &figures);
        self.end();
        let mut findings = self.oracle.take_findings();
        self.judge_rest(&mut findings);
        Outcome { findings, sim: self.sim, counters: self.counters }
    }

    fn later(&mut self, at: Time, due: Due) {
        self.agenda.push(Reverse((at.as_ms(), self.due.len())));
        self.due.push(Some(due));
    }

    fn run_until(&mut self, end: Time) {
        loop {
            while let Some(peer) = self.sim.take_touched() {
                self.on_touched(peer);
            }
            let next = self.agenda.peek().map(|Reverse((ms, _))| Time::from_ms(*ms));
            if let Some(Reverse((_, number))) =
                next.filter(|next| *next <= self.sim.now()).and_then(|_| self.agenda.pop())
            {
                if let Some(due) = self.due[number].take() {
                    self.act(due);
                }
                continue;
            }
            let limit = next.map_or(end, |next| next.min(end));
            if !self.sim.step(limit) && self.sim.now() >= end {
                return;
            }
        }
    }

    fn act(&mut self, due: Due) {
        match due {
            Due::Act(act) => self.perform(act),
            Due::Reply { server, id, bytes } => {
                if self.servers.get(&server).is_some_and(|server| !server.is_gone) {
                    self.oracle.on_replied(server, id);
                    self.sim.send(server, &bytes);
                }
            }
            Due::Answer { client, bytes } => {
                let is_open = !self.clients[client].is_finished && !self.clients[client].is_cut;
                if let Some(peer) = self.clients[client].peer.filter(|_| is_open) {
                    self.sim.send(peer, &bytes);
                }
            }
        }
    }

    fn perform(&mut self, act: Act) {
        self.sim.remark(&format!("{act:?}"));
        match act {
            Act::Connect(client) => {
                let from = ([127, 0, 0, 1], 40_000 + client as u16).into();
                self.clients[client].peer = Some(self.sim.connect(0, from));
            }
            Act::Request(client) => self.send_request(client),
            Act::Heartbeat(client) => self.send_heartbeat(client),
            Act::StallClient(client) => {
                self.clients[client].is_stalled = true;
                self.oracle.on_client_stalled(client);
            }
            Act::WakeClient(client) => self.wake_client(client),
            Act::FinishClient(client) => self.finish_client(client),
            Act::CutClient(client) => self.cut_client(client),
            Act::CutServer(which) => self.end_server(which, true),
            Act::FinishServer(which) => self.end_server(which, false),
            Act::Goaway(which) => {
                if let Some(server) = self.open_server(which) {
                    let mut out = [0; 32];
                    let length = encode_goaway(Version::V1, 7, &mut out);
                    self.sim.send(server, &out[..length]);
                }
            }
            Act::StallServer(which) => {
                if let Some(server) = self.open_server(which) {
                    self.servers.entry(server).or_default().is_stalled = true;
                }
            }
            Act::WakeServers => self.wake_servers(),
            Act::Callback(which) => self.send_callback(which),
            Act::Reach(number, reach) => self.sim.set_reach(server_address(number), reach),
            Act::Move => drop(self.sim.move_all()),
            Act::Drain => self.drain(),
        }
    }

    fn may_send(&self, client: usize) -> Option<Peer> {
        let client = &self.clients[client];
        client.peer.filter(|_| !client.is_cut && !client.is_finished)
    }

    fn fresh_id(&mut self, client: usize) -> u32 {
        self.clients[client].next_id = self.clients[client].next_id.wrapping_add(1);
        self.clients[client].next_id
    }

    fn send_request(&mut self, client: usize) {
        let Some(peer) = self.may_send(client) else { return };
        let (version, crc) = self.dice.one_of(&VERSIONS);
        let oneway = self.dice.hits(15);
        let timeout_ms = match self.scenario.is_calm() {
            true => TIMEOUT_MS_MAX,
            false => self.dice.between(200, TIMEOUT_MS_MAX),
        };
        let (most, rarely) = self.scenario.content_bytes;
        let length = if self.dice.hits(2) { rarely } else { most };
        let length = self.dice.between(0, length);
        let id = self.fresh_id(client);
        let now = self.sim.now();
        let request = Request { client, id, oneway, sent: now, timeout_ms, reached: 0, answers: 0 };
        let number = self.oracle.on_sent(request);
        let about = format!("request {number} of client {client}, {length} bytes, oneway: {oneway}");
        self.sim.remark(&format!("{about}, at most {timeout_ms} ms"));
        let mut call = Call::new(content(number as u32, length as usize)).version(version, crc);
        call.oneway = oneway;
        call.timeout_ms = timeout_ms as i32;
        self.sim.send(peer, &call.bytes(id));
    }

    fn send_heartbeat(&mut self, client: usize) {
        let Some(peer) = self.may_send(client) else { return };
        let id = self.fresh_id(client);
        let mut out = [0; 32];
        let length = encode_heartbeat(self.dice.one_of(&VERSIONS).0, id, &mut out);
        self.oracle.on_beat(client, id);
        self.sim.send(peer, &out[..length]);
    }

    fn wake_client(&mut self, client: usize) {
        self.clients[client].is_stalled = false;
        if let Some(peer) = self.clients[client].peer {
            self.on_client_touched(client, peer);
        }
    }

    fn finish_client(&mut self, client: usize) {
        if let Some(peer) = self.may_send(client) {
            self.clients[client].is_finished = true;
            self.oracle.on_client_finished(client, self.sim.now());
            self.sim.finish(peer);
        }
    }

    fn cut_client(&mut self, client: usize) {
        let Some(peer) = self.clients[client].peer.filter(|_| !self.clients[client].is_cut) else { return };
        if self.dice.hits(50) && !self.clients[client].is_finished {
            let half = Call::new(vec![1; 60]).bytes(9);
            self.sim.send(peer, &half[..40]);
        }
        self.clients[client].is_cut = true;
        self.oracle.on_client_cut(client);
        self.sim.cut(peer);
    }

    fn open_server(&self, which: u64) -> Option<Peer> {
        let open: Vec<Peer> =
            self.servers.iter().filter(|(_, server)| !server.is_gone).map(|(peer, _)| *peer).collect();
        open.get((which % open.len().max(1) as u64) as usize).copied()
    }

    fn end_server(&mut self, which: u64, cut: bool) {
        let Some(peer) = self.open_server(which) else { return };
        self.oracle.on_server_gone(peer);
        self.servers.entry(peer).or_default().is_gone = true;
        if cut { self.sim.cut(peer) } else { self.sim.finish(peer) }
    }

    fn wake_servers(&mut self) {
        let peers: Vec<Peer> = self.servers.keys().copied().collect();
        for peer in peers {
            self.servers.entry(peer).or_default().is_stalled = false;
            self.on_server_touched(peer);
        }
    }

    fn send_callback(&mut self, which: u64) {
        let Some(peer) = self.open_server(which) else { return };
        let number = self.oracle.on_callback(peer);
        let server = self.servers.entry(peer).or_default();
        server.next_id += 1;
        let id = server.next_id;
        server.callbacks.insert(id, number);
        let call = Call::new(content(number as u32, 30)).timeout_ms(3_000);
        self.sim.send(peer, &call.bytes(id));
    }

    fn drain(&mut self) {
        if !self.is_draining {
            self.is_draining = true;
            self.oracle.on_drain(self.sim.now());
            let deadline = self.sim.now().after_ms(DRAIN_MS);
            self.gateway.begin_drain(deadline);
            self.sim.post_each(|| Mail::Drain { deadline });
        }
    }

    /// Everything that was broken works again.
    fn calm_down(&mut self) {
        self.sim.remark("calm");
        self.is_calm = true;
        for number in 1..=self.scenario.endpoints {
            self.sim.set_reach(server_address(number), bowline_engine::sim::Reach::Accepts);
        }
        self.wake_servers();
        (0..self.clients.len()).for_each(|client| self.wake_client(client));
    }

    /// All clients go, and the gateway ends.
    fn end(&mut self) {
        self.sim.remark("end");
        (0..self.clients.len()).for_each(|client| self.finish_client(client));
        self.run_until(self.sim.now().after_ms(1_000));
        if self.gateway.downstreams() > 0 {
            let clients = self.gateway.downstreams();
            self.oracle.find(format!("{clients} clients said goodbye long ago and are still there"));
        }
        self.drain();
        self.run_until(self.sim.now().after_ms(DRAIN_MS + 20_000));
    }

    fn on_touched(&mut self, peer: Peer) {
        match self.clients.iter().position(|client| client.peer == Some(peer)) {
            Some(client) => self.on_client_touched(client, peer),
            None => self.on_server_touched(peer),
        }
    }

    fn on_client_touched(&mut self, client: usize, peer: Peer) {
        if self.clients[client].is_cut || self.clients[client].is_stalled {
            return;
        }
        let bytes = self.sim.take(peer);
        self.clients[client].bytes.extend(bytes);
        while let Some(message) = next_message(&mut self.clients[client].bytes) {
            self.on_client_message(client, &message);
        }
        let ending = self.sim.ending(peer);
        if ending != Ending::Open {
            self.oracle.on_client_ended(client, ending, (&self.scenario, self.sim.now()));
            if !self.clients[client].bytes.is_empty() && ending == Ending::Finished {
                self.oracle.find(format!("client {client} got half a frame and the end"));
            }
            self.finish_client(client);
        }
    }

    fn on_client_message(&mut self, client: usize, message: &Message) {
        match message.frame.kind {
            Kind::Response => {
                let reply = reply_of(message);
                if reply.is_none() && !message.content().is_empty() {
                    self.oracle.find(format!("client {client} got a reply with a wrong content"));
                }
                let (id, status) = (message.frame.id, message.frame.status);
                self.sim.remark(&format!("client {client} got {reply:?} with id {id:#x}, status {status}"));
                let about = (&self.scenario, self.sim.now());
                self.oracle.on_answer(client, message, reply, about);
                if status == TIMEOUT && !self.is_calm {
                    // As callers do: again, at once. The answer to the first may be on its way.
                    self.send_request(client);
                }
            }
            Kind::HeartbeatAck => self.oracle.on_beat_answer(client, message.frame.id),
            Kind::Request => self.on_client_called(client, message),
            Kind::Goaway => {}
            kind => self.oracle.find(format!("client {client} got a frame of kind {kind:?}")),
        }
    }

    fn on_client_called(&mut self, client: usize, message: &Message) {
        match number_in(message.content()) {
            Some(number) => self.oracle.on_callback_seen(number, self.scenario.is_bound()),
            None => self.oracle.find(format!("client {client} got a call with a wrong content")),
        }
        if self.scenario.faults.withheld && self.dice.hits(30) {
            return;
        }
        let delay_ms = self.dice.between(0, 100);
        let bytes = response(message, message.content());
        self.later(self.sim.now().after_ms(delay_ms), Due::Answer { client, bytes });
    }

    fn on_server_touched(&mut self, peer: Peer) {
        let server = self.servers.entry(peer).or_default();
        if server.is_stalled || server.is_gone {
            return;
        }
        let bytes = self.sim.take(peer);
        server.bytes.extend(bytes);
        while let Some(message) =
            self.servers.get_mut(&peer).and_then(|server| next_message(&mut server.bytes))
        {
            self.on_server_message(peer, &message);
        }
        if self.sim.ending(peer) != Ending::Open {
            self.oracle.on_server_gone(peer);
            self.servers.entry(peer).or_default().is_gone = true;
            self.sim.finish(peer);
        }
    }

    fn on_server_message(&mut self, peer: Peer, message: &Message) {
        match message.frame.kind {
            Kind::Request | Kind::Oneway => self.on_server_asked(peer, message),
            Kind::Heartbeat => {
                let mut out = [0; 32];
                let length = encode_heartbeat_ack(&message.frame, &mut out);
                self.sim.send(peer, &out[..length]);
            }
            Kind::Response => self.on_server_answered(peer, message),
            kind => self.oracle.find(format!("{peer:?} got a frame of kind {kind:?}")),
        }
    }

    fn on_server_asked(&mut self, peer: Peer, message: &Message) {
        let Some(number) = number_in(message.content()) else {
            return self.oracle.find(format!("{peer:?} got a request with a wrong content"));
        };
        self.sim.remark(&format!("request {number} reached {peer:?}"));
        self.oracle.on_reached(peer, number, message);
        if message.frame.kind == Kind::Oneway {
            return;
        }
        let withheld = self.scenario.faults.withheld;
        if withheld && self.dice.hits(10) {
            return;
        }
        let delay_ms = match self.dice.number() % 10 {
            0..6 => 0,
            8 if withheld => u64::try_from(message.frame.timeout_ms).unwrap_or(0) + self.dice.between(0, 30),
            9 if withheld => self.dice.between(0, 5_000),
            _ => self.dice.between(0, 100),
        };
        let at = self.sim.now().after_ms(delay_ms);
        // A reply gets its position when it is planned for the same moment as it is written, or not at all.
        let order = (delay_ms == 0).then(|| {
            let server = self.servers.entry(peer).or_default();
            server.replies += 1;
            server.replies
        });
        let bytes = response(message, &reply_content(number as u32, peer, order, message.content()));
        self.later(at, Due::Reply { server: peer, id: message.frame.id, bytes });
    }

    fn on_server_answered(&mut self, peer: Peer, message: &Message) {
        let known = self.servers.entry(peer).or_default().callbacks.get(&message.frame.id).copied();
        let Some(number) = known else {
            let id = message.frame.id;
            return self.oracle.find(format!("{peer:?} got an answer with id {id:#x}, which it did not use"));
        };
        let own = number_in(message.content()) == Some(number);
        let (status, is_bound) = (message.frame.status, self.scenario.is_bound());
        self.oracle.on_callback_answer((peer, number), own, status, is_bound);
    }

    /// Nobody asks for anything: no place may be held.
    fn judge_places(&mut self) {
        for view in self.gateway.endpoints(0, self.sim.now()) {
            if (view.requests, view.output_bytes) != (0, 0) {
                self.oracle.find(format!("places are held with nothing in flight: {view:?}"));
            }
        }
    }

    /// Everything is over: nothing may be left.
    fn judge_rest(&mut self, findings: &mut Vec<String>) {
        let holdings = self.sim.holdings();
        if holdings != bowline_engine::sim::Holdings::default() {
            findings.push(format!("left over at the end: {holdings:?}"));
        }
        let large = self.gateway.large_frame_bytes();
        let held: usize = self.gateway.endpoints(0, self.sim.now()).iter().map(|view| view.requests).sum();
        if (large, held, self.gateway.downstreams()) != (0, 0, 0) {
            let clients = self.gateway.downstreams();
            findings
                .push(format!("{large} bytes of large frames, {held} places, {clients} clients are left"));
        }
        let stats = self.sim.stats();
        if stats.not_yet_idle > 0 || stats.not_yet * 10 > stats.freezes {
            findings.push(format!("rule 9: {stats:?}"));
        }
        for reason in FAULTS {
            let count = self.counters.closes(reason);
            if count > 0 {
                findings.push(format!("{count} connections were closed for {reason}"));
            }
        }
    }
}

/// Nothing in any world explains these.
const FAULTS: [CloseReason; 12] = [
    CloseReason::MachineFault,
    CloseReason::MemoryCeiling,
    CloseReason::FrameProtocol,
    CloseReason::FrameVersion,
    CloseReason::FrameType,
    CloseReason::FrameCommand,
    CloseReason::FrameSwitch,
    CloseReason::FrameHeadTooLarge,
    CloseReason::FrameContentTooLarge,
    CloseReason::FrameChecksum,
    CloseReason::FrameUnexpected,
    CloseReason::HeartbeatFlood,
];

/// What a request holds: its number, and bytes that follow from it.
fn content(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((0..length).map(|at| filler(number, at)));
    bytes
}

fn filler(number: u32, at: usize) -> u8 {
    (number.wrapping_mul(31).wrapping_add(at as u32) % 251) as u8
}

/// The number in a content, if all of it is as it was sent.
fn number_in(bytes: &[u8]) -> Option<usize> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    let number = u32::from_be_bytes(*number);
    let is_whole = rest.iter().enumerate().all(|(at, byte)| *byte == filler(number, at));
    is_whole.then_some(number as usize)
}

/// What a reply holds: which request, whose reply, its position there if it has one, and the request's own content.
fn reply_content(number: u32, server: Peer, order: Option<u32>, asked: &[u8]) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((server.0 as u32).to_be_bytes());
    bytes.extend(order.unwrap_or(0).to_be_bytes());
    bytes.extend(asked);
    bytes
}

/// What [`reply_content`] made.
fn reply_of(message: &Message) -> Option<(usize, Peer, Option<u32>)> {
    let word = |at: usize| {
        let bytes = message.content().get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let (number, server, order) = (word(0)?, word(4)?, word(8)?);
    let asked = number_in(&message.content()[12..])?;
    (asked == number as usize).then_some((
        asked,
        Peer(server as usize),
        Some(order).filter(|order| *order > 0),
    ))
}

/// The response to a request.
fn response(message: &Message, content: &[u8]) -> Vec<u8> {
    let parts = ResponseParts {
        version: message.frame.version,
        id: message.frame.id,
        codec: message.frame.codec,
        status: 0,
        crc: message.frame.crc,
        class: b"test.Reply",
        header: b"",
        content,
    };
    let mut out = Vec::new();
    encode_response(&parts, &mut out).expect("the parts of a test fit");
    out
}

/// The next whole frame of a stream.
fn next_message(bytes: &mut Vec<u8>) -> Option<Message> {
    let decoded = decode(bytes, &Limits::default()).unwrap_or_else(|fault| panic!("{fault}: {bytes:?}"));
    let Decoded::Frame(frame) = decoded else { return None };
    let rest = bytes.split_off(frame.total_bytes as usize);
    let bytes = std::mem::replace(bytes, rest);
    frame.check_crc(&bytes).expect("the checksum is right");
    Some(Message { frame, bytes })
}
