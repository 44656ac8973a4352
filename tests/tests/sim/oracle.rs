//! The oracle: what was asked, what came of it, and whether that may be.
//!
//! Every request is answered exactly once: by its own reply, or by a status that something in this world explains. A
//! request reaches at most one server, once. Frames of one client over one server's connection keep their order both
//! ways. It acts on nothing; the world reports to it and asks for its judgement at the end.
//!
//! Seen to notice, each by breaking the code on purpose: mail without receiver is not sent back; a late reply is taken
//! for that of a later exchange (its sequence not checked); a place is not given back; a reply goes to another client;
//! a thawed connection has lost its unread bytes, or its unwritten output; after a move partners keep old addresses;
//! output leaves in another order; a timeout is not answered; a lost server fails nobody; written oneway requests are
//! reported late; an upstream connection opened while the gateway drains stays for ever.

use std::collections::{HashMap, HashSet};

use bowline_engine::sim::{Ending, Peer};
use bowline_engine::time::Time;
use bowline_protocols::bolt::Version;
use bowline_tests::Message;

use crate::workload::Scenario;

/// A request of a client.
pub(crate) struct Request {
    pub(crate) client: usize,
    pub(crate) id: u32,
    pub(crate) oneway: bool,
    pub(crate) sent: Time,
    pub(crate) timeout_ms: u64,
    pub(crate) reached: u32,
    pub(crate) answers: u32,
}

/// A server's call to a client.
struct Callback {
    server: Peer,
    seen: u32,
    answers: u32,
}

/// What is known about one server's connection.
#[derive(Default)]
struct Connection {
    class: Option<(u8, u8)>,
    last_of_client: HashMap<usize, usize>,
    asked: HashSet<u32>,
}

/// What is known about one client's connection.
#[derive(Default)]
struct Session {
    cut: bool,
    stalled: bool,
    finished: Option<Time>,
    ended: Option<(Ending, Time)>,
    by_id: HashMap<u32, usize>,
    last_reply_of: HashMap<Peer, u32>,
    beats: HashMap<u32, u32>,
}

/// What happened in a world.
pub(crate) struct Oracle {
    pub(crate) requests: Vec<Request>,
    callbacks: Vec<Callback>,
    connections: HashMap<Peer, Connection>,
    sessions: Vec<Session>,
    /// Servers' connections that ended before the world became calm.
    gone: HashSet<Peer>,
    /// Requests that overtook an earlier one of the same client on the same connection.
    inversions: u64,
    drained: Option<Time>,
    findings: Vec<String>,
}

/// What the gateway says at the end.
pub(crate) struct Figures {
    pub(crate) retries: u64,
    pub(crate) partner_gone: u64,
    pub(crate) slow_reader: u64,
    pub(crate) drain_deadline: u64,
}

const NO_PROCESSOR: u16 = 6;
const CONNECTION_CLOSED: u16 = 16;
pub(crate) const TIMEOUT: u16 = 7;
const BUSY: u16 = 4;

impl Oracle {
    /// An oracle that knows nothing yet.
    pub(crate) fn new(clients: usize) -> Oracle {
        Oracle {
            requests: Vec::new(),
            callbacks: Vec::new(),
            connections: HashMap::new(),
            sessions: (0..clients).map(|_| Session::default()).collect(),
            gone: HashSet::new(),
            inversions: 0,
            drained: None,
            findings: Vec::new(),
        }
    }

    /// Something that may not be.
    pub(crate) fn find(&mut self, finding: String) {
        self.findings.push(finding);
    }

    /// A client sent a request; its number stands in its content.
    pub(crate) fn on_sent(&mut self, request: Request) -> usize {
        let number = self.requests.len();
        let session = &mut self.sessions[request.client];
        if !request.oneway {
            session.by_id.insert(request.id, number);
        }
        self.requests.push(request);
        number
    }

    /// A client sent a heartbeat.
    pub(crate) fn on_beat(&mut self, client: usize, id: u32) {
        self.sessions[client].beats.insert(id, 0);
    }

    /// A client gave up its connection.
    pub(crate) fn on_client_cut(&mut self, client: usize) {
        self.sessions[client].cut = true;
    }

    /// A client stopped taking what it is sent.
    pub(crate) fn on_client_stalled(&mut self, client: usize) {
        self.sessions[client].stalled = true;
    }

    /// A client says that it sends no more.
    pub(crate) fn on_client_finished(&mut self, client: usize, now: Time) {
        self.sessions[client].finished.get_or_insert(now);
    }

    /// A client's connection was ended by the gateway.
    pub(crate) fn on_client_ended(
        &mut self,
        client: usize,
        ending: Ending,
        (scenario, now): (&Scenario, Time),
    ) {
        let session = &mut self.sessions[client];
        if session.ended.is_some() {
            return;
        }
        session.ended = Some((ending, now));
        let waited_ms = session.finished.map_or(0, |finished| now.ms_since(finished));
        if scenario.is_calm() && !scenario.is_slow() && waited_ms > GOODBYE_MS_MAX {
            self.find(format!("client {client} waited {waited_ms} ms for the end after it had finished"));
        }
    }

    /// The gateway began to drain.
    pub(crate) fn on_drain(&mut self, now: Time) {
        self.drained.get_or_insert(now);
    }

    /// A server's connection is over.
    pub(crate) fn on_server_gone(&mut self, server: Peer) {
        self.gone.insert(server);
    }

    /// A request came to a server.
    pub(crate) fn on_reached(&mut self, server: Peer, number: usize, message: &Message) {
        let Some(request) = self.requests.get_mut(number) else {
            return self.find(format!("request {number} at {server:?} was never sent"));
        };
        request.reached += 1;
        let (client, oneway, reached) = (request.client, request.oneway, request.reached);
        if reached > 1 {
            self.find(format!("request {number} came to a server {reached} times"));
        }
        let class = class_of(message.frame.version);
        let connection = self.connections.entry(server).or_default();
        let known = *connection.class.get_or_insert(class);
        let last = connection.last_of_client.insert(client, number);
        let is_fresh = oneway || connection.asked.insert(message.frame.id);
        if known != class {
            self.find(format!("{server:?} got frames of versions {known:?} and {class:?}"));
        }
        if last.is_some_and(|last| last > number) {
            self.inversions += 1;
        }
        if !is_fresh {
            self.find(format!("{server:?} got id {:#x} twice at a time", message.frame.id));
        }
    }

    /// A server answered a request.
    pub(crate) fn on_replied(&mut self, server: Peer, id: u32) {
        self.connections.entry(server).or_default().asked.remove(&id);
    }

    /// A client got an answer: of a server, with that server's connection and its position there, or of the gateway.
    pub(crate) fn on_answer(
        &mut self,
        client: usize,
        message: &Message,
        reply: Option<(usize, Peer, Option<u32>)>,
        (scenario, now): (&Scenario, Time),
    ) {
        let (id, status) = (message.frame.id, message.frame.status);
        let session = &mut self.sessions[client];
        let Some(number) = session.by_id.get(&id).copied() else {
            return self.find(format!("client {client} got an answer with id {id:#x}, which it did not use"));
        };
        let request = &mut self.requests[number];
        request.answers += 1;
        if request.answers > 1 {
            self.findings.push(format!("request {number} was answered {} times", request.answers));
        }
        if let Some((replied, server, order)) = reply {
            let last = order.and_then(|order| session.last_reply_of.insert(server, order));
            if last > order {
                self.findings.push(format!("replies of {server:?} to client {client} changed places"));
            }
            if replied != number {
                self.findings.push(format!("request {number} was answered by the reply to {replied}"));
            }
            return;
        }
        let early = now < request.sent.after_ms(request.timeout_ms);
        if status == TIMEOUT && early {
            self.findings.push(format!("request {number} timed out at {} ms, too early", now.as_ms()));
        }
        if !self.is_explained(status, scenario) {
            self.findings.push(format!("request {number} got status {status}, which nothing explains"));
        }
    }

    /// Whether something in this world explains a status that the gateway gave.
    fn is_explained(&self, status: u16, scenario: &Scenario) -> bool {
        let faults = scenario.faults;
        match status {
            NO_PROCESSOR => faults.refusals || faults.server_cuts || faults.goaways || faults.stalls,
            CONNECTION_CLOSED => faults.server_cuts || faults.stalls || self.drained.is_some(),
            TIMEOUT => {
                faults.withheld || faults.stalls || faults.refusals || faults.tight || scenario.is_slow()
            }
            BUSY => faults.tight,
            _ => false,
        }
    }

    /// A client got the answer to a heartbeat.
    pub(crate) fn on_beat_answer(&mut self, client: usize, id: u32) {
        match self.sessions[client].beats.get_mut(&id) {
            Some(answers) if *answers == 0 => *answers += 1,
            _ => self.find(format!("client {client} got an answer to heartbeat {id:#x} too many")),
        }
    }

    /// A server calls whoever its connection belongs to.
    pub(crate) fn on_callback(&mut self, server: Peer) -> usize {
        self.callbacks.push(Callback { server, seen: 0, answers: 0 });
        self.callbacks.len() - 1
    }

    /// A client got a server's call.
    pub(crate) fn on_callback_seen(&mut self, number: usize, is_bound: bool) {
        let Some(callback) = self.callbacks.get_mut(number) else {
            return self.find(format!("callback {number} was never sent"));
        };
        callback.seen += 1;
        if callback.seen > 1 || !is_bound {
            self.find(format!("callback {number} came to a client {} times", self.callbacks[number].seen));
        }
    }

    /// A server got an answer to its call: of the client, or a status of the gateway.
    pub(crate) fn on_callback_answer(
        &mut self,
        (server, number): (Peer, usize),
        own: bool,
        status: u16,
        is_bound: bool,
    ) {
        let callback = &mut self.callbacks[number];
        callback.answers += 1;
        let (answers, seen) = (callback.answers, callback.seen);
        if callback.server != server || answers > 1 {
            self.find(format!("callback {number} was answered {answers} times"));
        }
        let fits = match (own, is_bound) {
            (true, _) => seen == 1,
            (false, true) => [CONNECTION_CLOSED, TIMEOUT, BUSY].contains(&status),
            (false, false) => status == NO_PROCESSOR,
        };
        if !fits {
            let findings = format!("callback {number} (bound: {is_bound}) got status {status}, own: {own}");
            self.find(findings);
        }
    }

    /// Everything is over that can end by itself: what is open now was forgotten.
    pub(crate) fn judge(&mut self, scenario: &Scenario, figures: &Figures) {
        for number in 0..self.requests.len() {
            self.judge_request(number, scenario, figures);
        }
        for (number, callback) in self.callbacks.iter().enumerate() {
            if callback.answers == 0 && !self.gone.contains(&callback.server) && self.drained.is_none() {
                self.findings.push(format!("callback {number} was never answered"));
            }
        }
        for (client, session) in self.sessions.iter().enumerate() {
            let is_over = session.cut || session.ended.is_some();
            let unanswered = session.beats.values().filter(|answers| **answers == 0).count();
            if unanswered > 0 && !is_over {
                self.findings.push(format!("client {client} got no answer to {unanswered} heartbeats"));
            }
        }
        if self.inversions > figures.retries {
            let findings =
                format!("{} requests changed places, {} retries", self.inversions, figures.retries);
            self.findings.push(findings);
        }
    }

    /// What was found so far.
    pub(crate) fn take_findings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.findings)
    }

    fn judge_request(&mut self, number: usize, scenario: &Scenario, figures: &Figures) {
        let request = &self.requests[number];
        let session = &self.sessions[request.client];
        if session.cut || request.answers > 0 {
            return;
        }
        if request.oneway {
            if request.reached == 0 && scenario.is_calm() && self.drained.is_none() {
                self.findings.push(format!("oneway request {number} never came to a server"));
            }
            return;
        }
        if !self.may_be_unread(request, session, scenario, figures) {
            let ended = session.ended;
            let client = request.client;
            let findings =
                format!("request {number} of client {client} (ended: {ended:?}) was never answered");
            self.findings.push(findings);
        }
    }

    /// Whether the gateway ended the connection for a reason of its own and may not have read the request before.
    fn may_be_unread(
        &self,
        request: &Request,
        session: &Session,
        scenario: &Scenario,
        figures: &Figures,
    ) -> bool {
        let Some((ending, _)) = session.ended else { return false };
        let was_unread = request.reached == 0;
        let sent_late = |drained| scenario.faults.tight || request.sent.after_ms(UNREAD_MS_MAX) >= drained;
        let drained = self.drained.is_some_and(sent_late) && was_unread
            || self.drained.is_some() && figures.drain_deadline > 0;
        let left_by_server = scenario.is_bound() && figures.partner_gone > 0 && was_unread;
        let too_slow = ending == Ending::Reset && session.stalled && figures.slow_reader > 0;
        drained || left_by_server || too_slow
    }
}

/// Where nothing goes wrong, what is in flight when a client finishes has ended by then: a call of its server lasts longest.
const GOODBYE_MS_MAX: u64 = 4_000;
/// What was sent so long ago has been read, unless the gateway paused reading.
const UNREAD_MS_MAX: u64 = 500;

fn class_of(version: Version) -> (u8, u8) {
    version.pool_key()
}
