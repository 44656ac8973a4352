//! Worlds of HTTP/1.1 and tunnels: clients that pipeline, upgrade or speak plain TCP, and servers that answer in every framing,
//! late, never, or are lost; judged as they go. Every second one that upgrades speaks frames of WebSocket, and answers the
//! goodbye of a drain.
//!
//! What may not be: a request that is answered twice, by what was meant for another, or by a status that nothing in its world
//! explains; an answer that looks whole and is not; a request that may do something and comes to two servers; an order
//! that changes; a byte of a tunnel that is lost; a goodbye elsewhere than between two frames; anything that is left at the end.
//!
//! Seen to notice, each by breaking the code on purpose: a POST is sent again when its connection was stale; a late answer is
//! taken for that of the next request.

use std::collections::VecDeque;
use std::sync::Arc;

use bowline_engine::sim::{Ending, Holdings, Peer, Reach, Sim, SimStats};
use bowline_engine::time::Time;
use bowline_gateway::application::Gateway;
use bowline_gateway::config::plan::{ClusterPlan, EndpointPlan, Plan, Protocol, RouteTarget};
use bowline_gateway::error::CloseReason;
use bowline_gateway::mail::Mail;
use bowline_gateway::metrics::Counters;
use bowline_protocols::websocket::{GOING_AWAY, close_of_client, close_of_server};
use bowline_protocols::websocket_properties::map_of;

use crate::dice::Dice;
use crate::workload::{Faults, server_address, sim_options};

/// What a client says on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Requests,
    Upgrade,
    Plain,
}

#[derive(Debug)]
struct Asked {
    number: usize,
    is_head: bool,
}

#[derive(Debug)]
struct Client {
    peer: Peer,
    way: Way,
    /// What it has got and not understood yet.
    bytes: Vec<u8>,
    /// Requests without an answer, in order.
    waiting: VecDeque<Asked>,
    /// Of a tunnel: what it sent, and how much of that came back.
    sent: Vec<u8>,
    echoed: usize,
    is_tunnel: bool,
    /// It was told that the connection ends, so what is unread then is unread.
    is_told: bool,
    is_over: bool,
    is_finished: bool,
}

#[derive(Debug)]
struct Request {
    /// It may do something, so it comes to one server at most.
    is_post: bool,
    body: usize,
    reached: u32,
    answered: bool,
}

#[derive(Debug, Default)]
struct Server {
    bytes: Vec<u8>,
    is_tunnel: bool,
    is_over: bool,
}

/// A server writes this, and ends or resets its connection then.
struct Reply {
    server: Peer,
    bytes: Vec<u8>,
    ends: bool,
}

struct World {
    sim: Sim<Gateway>,
    gateway: Gateway,
    counters: Arc<Counters>,
    dice: Dice,
    faults: Faults,
    clients: Vec<Client>,
    servers: Vec<(Peer, Server)>,
    requests: Vec<Request>,
    replies: Vec<(Time, Reply)>,
    is_draining: bool,
    findings: Vec<String>,
}

/// What became of a world.
pub(crate) struct Outcome {
    pub(crate) findings: Vec<String>,
    pub(crate) digest: u64,
    pub(crate) counters: Arc<Counters>,
    pub(crate) trace: Vec<String>,
}

const DRAIN_MS: u64 = 8_000;
const TIMEOUT_MS: u64 = 3_000;
/// Where the server of tunnels listens.
const TUNNEL_SERVER: u16 = 99;
const MIRROR: &str = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: mirror\r\n\r\n";
const CHAT: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Runs the world of a seed.
pub(crate) fn run(seed: u64, keeps_text: bool) -> Outcome {
    let mut world = World::new(seed, keeps_text);
    world.live();
    world.end();
    world.judge();
    Outcome {
        findings: world.findings,
        digest: world.sim.trace_digest(),
        counters: world.counters,
        trace: world.sim.trace_text().to_vec(),
    }
}

fn plan(endpoints: u16, dice: &mut Dice) -> Plan {
    let mut plan = Plan::default();
    let mut listener = plan.listeners[0].clone();
    plan.listeners[0].protocol = Protocol::Http;
    if let Some(target) = &mut plan.listeners[0].default_route {
        target.timeout_ms = TIMEOUT_MS;
    }
    (listener.protocol, listener.name) = (Protocol::Tcp, "tunnel".to_owned());
    listener.default_route = Some(RouteTarget { cluster: 1, timeout_ms: TIMEOUT_MS });
    plan.listeners.push(listener);
    let mut tunnels = ClusterPlan::named("tunnel", Protocol::Tcp);
    tunnels.endpoints = vec![EndpointPlan::Address(server_address(TUNNEL_SERVER))];
    let cluster = &mut plan.clusters[0];
    (cluster.echo, cluster.protocol) = (false, Protocol::Http);
    cluster.endpoints = (1..=endpoints).map(|number| EndpointPlan::Address(server_address(number))).collect();
    cluster.idle_timeout_ms = dice.one_of(&[500, 60_000]);
    plan.clusters.push(tunnels);
    plan.limits.tunnel_credit_bytes = dice.one_of(&[1_000, 30_000, 256 << 10]);
    plan
}

fn faults(dice: &mut Dice) -> Faults {
    if dice.hits(33) {
        return Faults::default();
    }
    Faults {
        client_cuts: dice.hits(40),
        server_cuts: dice.hits(40),
        stalls: dice.hits(30),
        refusals: dice.hits(30),
        withheld: dice.hits(40),
        ..Faults::default()
    }
}

impl World {
    fn new(seed: u64, keeps_text: bool) -> World {
        let mut dice = Dice::new(seed.wrapping_add(7 << 40));
        let faults = faults(&mut dice);
        let endpoints = dice.between(1, 4) as u16;
        let plan = plan(endpoints, &mut dice);
        let mut options = sim_options(seed, keeps_text, &mut dice);
        // A link that carries seven bytes at a time with a delay each is too slow for a bound on every answer.
        if options.link.delay_ms_max > 0 {
            options.link.segment_bytes_max = options.link.segment_bytes_max.map(|bytes| bytes.max(3_000));
            options.link.send_buffer_bytes = options.link.send_buffer_bytes.max(64 << 10);
        }
        let counters = Counters::new(options.workers);
        let gateway = Gateway::new(Arc::new(plan), Arc::clone(&counters));
        let sim = Sim::new(Arc::new(gateway.clone()), options);
        World {
            sim,
            gateway,
            counters,
            dice,
            faults,
            clients: Vec::new(),
            servers: Vec::new(),
            requests: Vec::new(),
            replies: Vec::new(),
            is_draining: false,
            findings: Vec::new(),
        }
    }

    fn is_calm(&self) -> bool {
        self.faults == Faults::default()
    }

    fn find(&mut self, finding: String) {
        self.sim.remark(&format!("FOUND {finding}"));
        self.findings.push(finding);
    }

    /// Everybody does something now and then.
    fn live(&mut self) {
        let steps = self.dice.between(40, 160);
        let drains_at = if self.dice.hits(20) { self.dice.between(10, steps) } else { u64::MAX };
        for step in 0..steps {
            if step == drains_at {
                self.drain();
            }
            match self.dice.number() % 100 {
                0..12 if self.clients.len() < 8 => self.connect(),
                0..60 => self.ask(),
                60..66 => self.finish_some(),
                66..72 if self.faults.client_cuts => self.cut_client(),
                72..78 if self.faults.server_cuts => self.cut_server(),
                78..84 if self.faults.stalls => self.stall(),
                84..90 if self.faults.refusals => self.refuse(),
                90..93 => drop(self.sim.move_all()),
                _ => {}
            }
            let ms = self.dice.between(0, 120);
            self.advance(ms);
        }
    }

    fn connect(&mut self) {
        let way = [Way::Requests, Way::Requests, Way::Requests, Way::Upgrade, Way::Plain];
        let way = self.dice.one_of(&way);
        let from = ([127, 0, 0, 1], 40_000 + self.clients.len() as u16).into();
        let peer = self.sim.connect(u16::from(way == Way::Plain), from);
        self.sim.remark(&format!("client {} is {peer:?}, {way:?}", self.clients.len()));
        self.clients.push(Client {
            peer,
            way,
            bytes: Vec::new(),
            waiting: VecDeque::new(),
            sent: Vec::new(),
            echoed: 0,
            is_tunnel: way == Way::Plain,
            is_told: false,
            is_over: false,
            is_finished: false,
        });
    }

    /// A client that may still send, by chance.
    fn some_client(&mut self) -> Option<usize> {
        let may = |client: &Client| !client.is_over && !client.is_finished;
        let open: Vec<_> = (0..self.clients.len()).filter(|at| may(&self.clients[*at])).collect();
        (!open.is_empty()).then(|| self.dice.one_of(&open))
    }

    fn ask(&mut self) {
        let Some(at) = self.some_client() else { return };
        match self.clients[at].way {
            Way::Requests => {
                for _ in 0..self.dice.one_of(&[1, 1, 2, 6]) {
                    self.send_request(at);
                }
            }
            Way::Upgrade if !self.clients[at].is_tunnel => {
                if self.clients[at].waiting.is_empty() {
                    let head = if is_chat(at) { CHAT } else { MIRROR };
                    let number = self.note_request(at, false, 0, false);
                    self.sim.remark(&format!("upgrade {number}"));
                    self.sim.send(self.clients[at].peer, head.as_bytes());
                }
            }
            _ => {
                let length = self.dice.between(1, 20_000) as usize;
                let from = self.clients[at].sent.len();
                let mut bytes: Vec<_> = (from..from + length).map(|place| filler(at, place)).collect();
                if self.clients[at].way == Way::Upgrade && is_chat(at) {
                    let [high, low] = (length as u16).to_be_bytes();
                    bytes.splice(..0, [0x82, 0x7e, high, low]);
                }
                self.clients[at].sent.extend(&bytes);
                self.sim.send(self.clients[at].peer, &bytes);
            }
        }
    }

    fn note_request(&mut self, at: usize, is_post: bool, body: usize, is_head: bool) -> usize {
        let number = self.requests.len();
        self.requests.push(Request { is_post, body, reached: 0, answered: false });
        self.clients[at].waiting.push_back(Asked { number, is_head });
        number
    }

    fn send_request(&mut self, at: usize) {
        let method = self.dice.one_of(&["GET", "GET", "HEAD", "POST", "POST"]);
        let is_post = method == "POST";
        let most = if self.dice.hits(10) { 60_000 } else { 600 };
        // One without a body is the one that a proxy might send again.
        let length = if is_post && self.dice.hits(60) { self.dice.between(0, most) as usize } else { 0 };
        let number = self.note_request(at, is_post, length, method == "HEAD");
        let is_chunked = is_post && self.dice.hits(50);
        self.sim
            .remark(&format!("client {at} sends {method} {number}, {length} bytes, chunked: {is_chunked}"));
        let mut bytes = format!("{method} /{number} HTTP/1.1\r\nHost: a\r\n").into_bytes();
        let body = body_of(number, length);
        if is_chunked {
            bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            bytes.extend(chunked(&body, self.dice.between(1, 4_000) as usize, b"X-Sum: 1\r\n"));
        } else {
            let declared = if is_post { format!("Content-Length: {length}\r\n") } else { String::new() };
            bytes.extend(declared.as_bytes());
            bytes.extend(b"\r\n");
            bytes.extend(body);
        }
        self.sim.send(self.clients[at].peer, &bytes);
    }

    fn finish_some(&mut self) {
        if let Some(at) = self.some_client() {
            self.finish_client(at);
        }
    }

    fn finish_client(&mut self, at: usize) {
        if !self.clients[at].is_finished && !self.clients[at].is_over {
            self.clients[at].is_finished = true;
            self.sim.finish(self.clients[at].peer);
        }
    }

    fn cut_client(&mut self) {
        if let Some(at) = self.some_client() {
            self.clients[at].is_over = true;
            self.sim.cut(self.clients[at].peer);
        }
    }

    fn cut_server(&mut self) {
        let open: Vec<_> = (0..self.servers.len()).filter(|at| !self.servers[*at].1.is_over).collect();
        if open.is_empty() {
            return;
        }
        let at = self.dice.one_of(&open);
        self.servers[at].1.is_over = true;
        let peer = self.servers[at].0;
        if self.dice.hits(50) { self.sim.cut(peer) } else { self.sim.finish(peer) }
    }

    /// Somebody takes nothing for a while.
    fn stall(&mut self) {
        let Some(at) = self.some_client() else { return };
        let peer = if self.dice.hits(50) || self.servers.is_empty() {
            self.clients[at].peer
        } else {
            let which = self.dice.between(0, self.servers.len() as u64) as usize;
            self.servers[which].0
        };
        self.sim.allow(peer, Some(0));
        let ms = self.dice.between(10, 1_500);
        self.advance(ms);
        self.sim.allow(peer, None);
    }

    fn refuse(&mut self) {
        let number = self.dice.between(1, 4) as u16;
        let refused = Reach::Fails(bowline_engine::machine::OpenError::Refused);
        let reach = self.dice.one_of(&[refused, Reach::Silent]);
        self.sim.set_reach(server_address(number), reach);
        let ms = self.dice.between(10, 1_500);
        self.advance(ms);
        self.sim.set_reach(server_address(number), Reach::Accepts);
    }

    fn drain(&mut self) {
        if !std::mem::replace(&mut self.is_draining, true) {
            self.sim.remark("drain");
            let deadline = self.sim.now().after_ms(DRAIN_MS);
            self.gateway.begin_drain(deadline);
            self.sim.post_each(|| Mail::Drain { deadline });
        }
    }

    /// Moves the clock, and everybody answers what comes.
    fn advance(&mut self, ms: u64) {
        let end = self.sim.now().after_ms(ms);
        loop {
            while let Some(peer) = self.sim.take_touched() {
                self.on_touched(peer);
            }
            self.send_replies();
            let next = self.replies.iter().map(|(at, _)| *at).min();
            let limit = next.map_or(end, |next| next.min(end));
            if !self.sim.step(limit) && self.sim.now() >= end {
                return;
            }
        }
    }

    fn send_replies(&mut self) {
        let now = self.sim.now();
        while let Some(at) = self.replies.iter().position(|(at, _)| *at <= now) {
            let (_, Reply { server, bytes, ends }) = self.replies.remove(at);
            let Some((_, state)) = self.servers.iter_mut().find(|(peer, _)| *peer == server) else {
                continue;
            };
            if !state.is_over {
                state.is_over = ends;
                self.sim.send(server, &bytes);
                if ends {
                    self.sim.finish(server);
                }
            }
        }
    }

    fn on_touched(&mut self, peer: Peer) {
        match self.clients.iter().position(|client| client.peer == peer) {
            Some(at) => self.on_client(at),
            None => self.on_server(peer),
        }
    }

    fn on_client(&mut self, at: usize) {
        if self.clients[at].is_over {
            return;
        }
        let bytes = self.sim.take(self.clients[at].peer);
        self.clients[at].bytes.extend(bytes);
        let ending = self.sim.ending(self.clients[at].peer);
        while !self.clients[at].is_tunnel && self.on_answer(at) {}
        if self.clients[at].is_tunnel {
            self.on_echo(at);
        }
        if ending != Ending::Open {
            self.on_client_ended(at, ending);
        }
    }

    /// Judges the next answer, if it is whole.
    fn on_answer(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        let is_head = client.waiting.front().is_some_and(|asked| asked.is_head);
        let Some((answer, length)) = parse(&client.bytes, is_head) else { return false };
        client.bytes.drain(..length);
        client.is_told |= answer.closes;
        let Some(asked) = client.waiting.pop_front() else {
            self.find(format!("client {at} got an answer to nothing: {}", answer.line));
            return false;
        };
        let status: u16 = answer.line[9..12].parse().expect("a status");
        self.sim.remark(&format!("client {at} got {status} for {}", asked.number));
        self.requests[asked.number].answered = true;
        if status == 101 {
            self.clients[at].is_tunnel = self.clients[at].way == Way::Upgrade;
            return false;
        }
        let expected = answer_body(asked.number, &self.requests[asked.number]);
        if status == 200 && !asked.is_head && answer.body != expected {
            self.find(format!("request {} got another answer than its own", asked.number));
        }
        if status != 200 && !self.is_explained(status) {
            self.find(format!("request {} got {status}, which nothing explains", asked.number));
        }
        true
    }

    fn is_explained(&self, status: u16) -> bool {
        let faults = self.faults;
        match status {
            502 => faults.server_cuts || faults.refusals || faults.stalls,
            503 => faults.refusals || faults.server_cuts || faults.stalls,
            504 => faults.withheld || faults.stalls || faults.refusals,
            _ => false,
        }
    }

    /// Whether something happens in this world that ends an answer in its middle.
    fn may_cut(&self) -> bool {
        self.faults.server_cuts || self.faults.stalls || self.faults.withheld || self.is_draining
    }

    /// What a tunnel brings back is what was sent, from the beginning.
    fn on_echo(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let got = std::mem::take(&mut client.bytes);
        let same =
            got.iter().zip(&client.sent[client.echoed..]).take_while(|(got, sent)| got == sent).count();
        client.echoed += same;
        if same < got.len() {
            self.on_goodbye(at, &got[same..]);
        }
    }

    /// Something else came in a tunnel: only a drain may say it, in a WebSocket, and behind a whole frame.
    fn on_goodbye(&mut self, at: usize, word: &[u8]) {
        let goodbye = close_of_server(GOING_AWAY);
        let client = &self.clients[at];
        let before = &client.sent[..client.echoed];
        let may_come = self.is_draining && client.way == Way::Upgrade && is_chat(at);
        let is_at_border = before.is_empty() || map_of(before).borders.last() == Some(&before.len());
        if !may_come || !is_at_border || !goodbye.starts_with(word) {
            return self.find(format!("the tunnel of client {at} brought back other bytes: {word:x?}"));
        }
        if word.len() < goodbye.len() {
            self.clients[at].bytes = word.to_vec();
        } else {
            self.sim.remark(&format!("client {at} hears the goodbye"));
            self.sim.send(self.clients[at].peer, &close_of_client(GOING_AWAY, [1, 2, 3, 4]));
        }
    }

    fn on_client_ended(&mut self, at: usize, ending: Ending) {
        let client = &mut self.clients[at];
        client.is_over = true;
        let (unanswered, rest) = (client.waiting.len(), client.bytes.len());
        let lost = client.is_tunnel && client.echoed < client.sent.len();
        let was_finished = client.is_finished;
        self.sim.remark(&format!("client {at} ended: {ending:?}, {unanswered} without answer"));
        let peer = self.clients[at].peer;
        self.sim.finish(peer);
        // Half an answer shows in its framing, since every client here speaks HTTP/1.1. It takes a reason to be cut.
        let is_cut = rest > 0 && ending == Ending::Finished;
        if is_cut && !self.may_cut() {
            self.find(format!("client {at} got half an answer and the end in order"));
        }
        if self.is_calm() && !self.is_draining {
            if unanswered > 0 || lost {
                self.find(format!("client {at} was left with {unanswered} requests, lost: {lost}"));
            }
            if !was_finished || ending == Ending::Reset {
                self.find(format!("client {at} was ended for no reason: {ending:?}"));
            }
        }
        let is_told = self.clients[at].is_told;
        let unread = |asked: &Asked| self.requests[asked.number].reached == 0;
        // The one that was cut has been read; those behind it must not have been.
        let all_unread = self.clients[at].waiting.iter().skip(usize::from(is_cut)).all(unread);
        let is_excused = is_told || self.is_draining || is_cut;
        if unanswered > 0 && ending == Ending::Finished && !(is_excused && all_unread) {
            self.find(format!("client {at} ended in order with {unanswered} requests unanswered"));
        }
    }

    fn server(&mut self, peer: Peer) -> usize {
        if let Some(at) = self.servers.iter().position(|(own, _)| *own == peer) {
            return at;
        }
        let is_tunnel = self.sim.peer_address(peer) == server_address(TUNNEL_SERVER);
        self.servers.push((peer, Server { is_tunnel, ..Server::default() }));
        self.servers.len() - 1
    }

    fn on_server(&mut self, peer: Peer) {
        let at = self.server(peer);
        if self.servers[at].1.is_over {
            return;
        }
        let bytes = self.sim.take(peer);
        self.servers[at].1.bytes.extend(bytes);
        while !self.servers[at].1.is_tunnel && !self.servers[at].1.is_over {
            let Some((request, length)) = parse(&self.servers[at].1.bytes, false) else { break };
            self.servers[at].1.bytes.drain(..length);
            self.on_request(at, &request);
        }
        if self.servers[at].1.is_tunnel {
            let bytes = std::mem::take(&mut self.servers[at].1.bytes);
            self.sim.send(peer, &bytes);
        }
        if self.sim.ending(peer) != Ending::Open {
            self.servers[at].1.is_over = true;
            self.sim.finish(peer);
        }
    }

    fn on_request(&mut self, at: usize, request: &Parsed) {
        let peer = self.servers[at].0;
        let path = request.line.split(' ').nth(1).unwrap_or_default();
        if matches!(path, "/upgrade" | "/chat") {
            self.servers[at].1.is_tunnel = true;
            let protocol = if path == "/chat" { "websocket" } else { "mirror" };
            let agreed = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            );
            return self.sim.send(peer, agreed.as_bytes());
        }
        let number = path.trim_start_matches('/').parse::<usize>().ok();
        let Some(number) = number.filter(|number| *number < self.requests.len()) else {
            return self.find(format!("{peer:?} was asked what nobody asked: {}", request.line));
        };
        self.requests[number].reached += 1;
        let Request { is_post, body, reached, answered } = self.requests[number];
        if request.body != body_of(number, body) {
            self.find(format!("request {number} came with another body"));
        }
        if reached > if is_post { 1 } else { 2 } {
            self.find(format!("request {number} came to servers {reached} times"));
        }
        if answered && self.is_calm() {
            self.find(format!("request {number} came after it was answered"));
        }
        self.reply(peer, number, request.line.starts_with("HEAD "));
    }

    fn reply(&mut self, server: Peer, number: usize, is_head: bool) {
        if self.faults.withheld && self.dice.hits(10) {
            return;
        }
        let body = answer_body(number, &self.requests[number]);
        let mut ends = false;
        // Clients of these worlds read no interim answers; this one goes no further than to the gateway.
        let interim: &[u8] = if self.dice.hits(10) { b"HTTP/1.1 100 Continue\r\n\r\n" } else { b"" };
        let mut bytes = [interim, b"HTTP/1.1 200 OK\r\n"].concat();
        let body = if is_head { Vec::new() } else { body };
        match self.dice.number() % 10 {
            0..2 if !is_head => {
                ends = true;
                bytes.extend(b"\r\n");
                bytes.extend(&body);
            }
            2..6 if !is_head => {
                bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                bytes.extend(chunked(&body, self.dice.between(1, 4_000) as usize, b""));
            }
            kind => {
                ends = kind == 9;
                let close = if ends { "Connection: close\r\n" } else { "" };
                bytes.extend(format!("{close}Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                bytes.extend(&body);
            }
        }
        if self.faults.server_cuts && self.dice.hits(5) {
            // Half of it, and the end; but where the end says that it was all, nobody could know.
            let half = self.dice.between(0, bytes.len() as u64) as usize;
            let half = if self.dice.hits(50) { 0 } else { half };
            if find_end(&bytes).is_none_or(|end| !bytes[..end].ends_with(b"OK\r\n\r\n")) {
                (bytes, ends) = (bytes[..half].to_vec(), true);
            }
        }
        let late_ms = if self.faults.withheld && self.dice.hits(5) { TIMEOUT_MS } else { 0 };
        let delay_ms = late_ms + self.dice.one_of(&[0, 0, 0, 20, 200]);
        self.replies.push((self.sim.now().after_ms(delay_ms), Reply { server, bytes, ends }));
    }

    /// Clients say goodbye, and the gateway ends.
    fn end(&mut self) {
        self.sim.remark("end");
        // With one request answered at a time, those that are never answered time out one after the other.
        self.advance(TIMEOUT_MS * 40);
        (0..self.clients.len()).for_each(|at| self.finish_client(at));
        self.advance(5_000);
        for cluster in [0, 1] {
            let held: usize =
                self.gateway.endpoints(cluster, self.sim.now()).iter().map(|view| view.requests).sum();
            if held > 0 {
                self.find(format!("{held} places of cluster {cluster} are held with nothing on the way"));
            }
        }
        if self.gateway.downstreams() > 0 {
            let clients = self.gateway.downstreams();
            self.find(format!("{clients} clients said goodbye long ago and are still there"));
        }
        self.drain();
        self.advance(DRAIN_MS + 70_000);
    }

    fn judge(&mut self) {
        for at in 0..self.clients.len() {
            let client = &self.clients[at];
            if !client.is_over {
                self.find(format!("client {at} is still there at the end"));
            }
        }
        let holdings = self.sim.holdings();
        if holdings != Holdings::default() {
            self.find(format!("left over at the end: {holdings:?}"));
        }
        let SimStats { not_yet_idle, .. } = self.sim.stats();
        let has_plain = self.clients.iter().any(|client| client.way == Way::Plain);
        // A tunnel that is being opened is the one machine without a request that cannot be frozen.
        if not_yet_idle > 0 && !has_plain {
            self.find(format!("rule 9: {:?}", self.sim.stats()));
        }
        for reason in [
            CloseReason::MachineFault,
            CloseReason::MemoryCeiling,
            CloseReason::HttpMalformed,
            CloseReason::HttpTooLarge,
            CloseReason::ResponseMalformed,
        ] {
            let count = self.counters.closes(reason);
            let is_explained = reason == CloseReason::ResponseMalformed && self.faults != Faults::default();
            if count > 0 && !is_explained {
                self.find(format!("{count} connections were closed for {reason}"));
            }
        }
    }
}

/// Where the head of a final answer ends.
fn find_end(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).rposition(|window| window == b"\r\n\r\n")?;
    Some(at + 4)
}

/// Whether a client that upgrades speaks WebSocket.
fn is_chat(at: usize) -> bool {
    at.is_multiple_of(2)
}

fn filler(salt: usize, at: usize) -> u8 {
    (salt.wrapping_mul(31).wrapping_add(at) % 251) as u8
}

fn body_of(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| filler(number, at)).collect()
}

/// What the answer to a request holds: its number, and bytes that follow from it.
fn answer_body(number: usize, request: &Request) -> Vec<u8> {
    let length = if number.is_multiple_of(9) { 50_000 } else { request.body / 2 };
    [number.to_string().as_bytes(), b":", &body_of(number + 1, length)].concat()
}

fn chunked(body: &[u8], bytes: usize, trailers: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in body.chunks(bytes) {
        out.extend(format!("{:x}\r\n", part.len()).as_bytes());
        out.extend(part);
        out.extend(b"\r\n");
    }
    [&out, &b"0\r\n"[..], trailers, b"\r\n"].concat()
}

/// A whole message.
struct Parsed {
    line: String,
    closes: bool,
    body: Vec<u8>,
}

/// The message at the front and how long it is. No message of the gateway ends with its connection here.
fn parse(bytes: &[u8], is_head: bool) -> Option<(Parsed, usize)> {
    let find = |from: usize, what: &[u8]| {
        let at = bytes.get(from..)?.windows(what.len()).position(|window| window == what)?;
        Some(from + at)
    };
    let end = find(0, b"\r\n\r\n")? + 4;
    let head =
        std::str::from_utf8(&bytes[..end]).expect("heads of these worlds are text").to_ascii_lowercase();
    let line = String::from_utf8_lossy(&bytes[..find(0, b"\r\n")?]).into_owned();
    let closes = head.contains("\r\nconnection: close\r\n");
    let is_switch = line.starts_with("HTTP/1.1 101 ");
    if is_head || is_switch {
        return Some((Parsed { line, closes, body: Vec::new() }, end));
    }
    if head.contains("transfer-encoding: chunked") {
        let (mut at, mut body) = (end, Vec::new());
        loop {
            let line_end = find(at, b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..line_end]).ok()?, 16).ok()?;
            at = line_end + 2;
            if size == 0 {
                break;
            }
            body.extend(bytes.get(at..at + size)?);
            at += size + 2;
        }
        while bytes.get(at..at + 2)? != b"\r\n" {
            at = find(at, b"\r\n")? + 2;
        }
        return Some((Parsed { line, closes, body }, at + 2));
    }
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length = length.map_or(0, |length| length.parse().expect("a length"));
    let body = bytes.get(end..end + length)?.to_vec();
    Some((Parsed { line, closes, body }, end + length))
}
