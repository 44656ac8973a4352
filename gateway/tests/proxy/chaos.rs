//! Everything at once, by chance: cuts, refusals, silence, goodbyes, timeouts, changed endpoints, freezes, split bytes.
//! Whatever happens, every request is answered exactly once or its client's connection ended, and all room comes back.

use std::collections::HashMap;

use bowline_gateway::config::plan::{Plan, UpstreamMode};
use bowline_protocols::Limits;
use bowline_protocols::bolt::{Decoded, Kind, decode};
use bowline_protocols::testing::VERSIONS;

use crate::bolt::{Call, Message, goaway, heartbeat, messages};
use crate::world::{Peer, Reach, World, plan_of, server_address};

/// What a client has asked and what came back.
struct Client {
    peer: Peer,
    next_id: u32,
    /// By id: what was asked, and how often it was answered.
    asked: HashMap<u32, (Vec<u8>, usize)>,
    /// Of what it has got, a frame that is not whole.
    rest: Vec<u8>,
}

impl Client {
    fn new(peer: Peer) -> Client {
        Client { peer, next_id: 0, asked: HashMap::new(), rest: Vec::new() }
    }

    fn take(&mut self, world: &mut World) -> Vec<Message> {
        self.rest.extend(world.take(self.peer));
        let mut whole = 0;
        while let Ok(Decoded::Frame(frame)) = decode(&self.rest[whole..], &Limits::default()) {
            whole += frame.total_bytes as usize;
        }
        let rest = self.rest.split_off(whole);
        messages(&std::mem::replace(&mut self.rest, rest))
    }
}

struct Chaos {
    world: World,
    clients: Vec<Client>,
}

const ENDPOINTS: u16 = 3;

impl Chaos {
    fn new(mut plan: Plan, seed: u64) -> Chaos {
        plan.clusters[0].connect_timeout_ms = 300;
        plan.clusters[0].heartbeat_interval_ms = 2_000;
        plan.limits.in_flight_max = 8;
        plan.limits.downstream_output_bytes_max = 4_000;
        let mut world = World::new(plan, seed);
        world.freeze_chance = 64;
        world.split = Some(200);
        let clients = (0..3).map(|_| Client::new(world.connect(0))).collect();
        Chaos { world, clients }
    }

    fn pick(&mut self, of: usize) -> usize {
        (self.world.random() % of as u64) as usize
    }

    fn ask(&mut self) {
        let at = self.pick(self.clients.len());
        let burst = 1 + self.pick(12) as u32;
        let mut bytes = Vec::new();
        for _ in 0..burst {
            let (kind, size) = (self.pick(8), self.pick(400));
            let (version, crc) = VERSIONS[self.pick(VERSIONS.len())];
            let timeout_ms = [50, 400, 5_000][self.pick(3)];
            let client = &mut self.clients[at];
            client.next_id += 1;
            let id = client.next_id;
            let content = [&id.to_be_bytes()[..], &vec![at as u8; size]].concat();
            let call = Call::new(id, &content).version(version, crc).timeout_ms(timeout_ms);
            if kind == 0 {
                bytes.extend(call.oneway().bytes());
            } else {
                bytes.extend(call.bytes());
                client.asked.insert(id, (content, 0));
            }
        }
        let peer = self.clients[at].peer;
        self.world.send_later(peer, &bytes);
    }

    /// A server answers some of what it has got, in any order, and sometimes calls or says goodbye.
    fn serve(&mut self) {
        let servers = self.world.open_servers();
        if servers.is_empty() {
            return;
        }
        let server = servers[self.pick(servers.len())];
        let mut asked = self.world.messages(server);
        while !asked.is_empty() {
            let at = self.pick(asked.len());
            let message = asked.swap_remove(at);
            let answers = self.pick(8) > 0;
            match message.frame.kind {
                Kind::Request if answers => {
                    self.world.send_later(server, &message.response(message.content()));
                }
                Kind::Heartbeat if answers => self.world.send_later(server, &message.heartbeat_ack()),
                _ => {}
            }
        }
        match self.pick(12) {
            0 => self.world.send_later(server, &goaway(1)),
            1 => self.world.send_later(server, &Call::new(9, b"callback").timeout_ms(300).bytes()),
            2 => self.world.send_later(server, &Call::new(8, b"callback").oneway().bytes()),
            _ => {}
        }
    }

    /// Takes what the clients got, and lets them answer calls.
    fn collect(&mut self) {
        for at in 0..self.clients.len() {
            let peer = self.clients[at].peer;
            for message in self.clients[at].take(&mut self.world) {
                if message.frame.kind == Kind::Request {
                    self.world.send_later(peer, &message.response(b"called"));
                } else if message.frame.kind == Kind::Response {
                    self.note(at, &message);
                }
            }
            if self.world.is_closed(peer) {
                self.clients[at] = Client::new(self.world.connect(0));
            }
        }
    }

    fn note(&mut self, at: usize, message: &Message) {
        let (content, answers) = self.clients[at].asked.get_mut(&message.id()).expect("it was asked");
        *answers += 1;
        assert_eq!(*answers, 1, "request {} is answered once", message.id());
        assert!(message.frame.status != 0 || message.content() == content, "it is its own reply");
    }

    fn disturb(&mut self) {
        let number = 1 + self.pick(usize::from(ENDPOINTS)) as u16;
        match self.pick(14) {
            0 => self.world.set_reach(server_address(number), Reach::Refuses),
            1 => self.world.set_reach(server_address(number), Reach::Silent),
            2 | 3 => self.world.let_connect(server_address(number)),
            4 => {
                let open = self.world.open_servers();
                if !open.is_empty() {
                    let server = open[self.pick(open.len())];
                    if self.pick(2) == 0 { self.world.cut(server) } else { self.world.end(server) }
                }
            }
            5 => self.world.gateway.set_endpoints(0, &[server_address(number)]),
            6 | 7 => {
                self.world.gateway.set_endpoints(0, &(1..=ENDPOINTS).map(server_address).collect::<Vec<_>>())
            }
            8 => {
                let (at, window) = (self.pick(self.clients.len()), self.pick(3_000));
                self.world.set_window(self.clients[at].peer, Some(window));
            }
            9 => {
                let at = self.pick(self.clients.len());
                self.world.send_later(self.clients[at].peer, &heartbeat(VERSIONS[0].0, u32::MAX));
            }
            _ => {
                let ms = self.pick(200) as u64;
                self.world.advance(ms);
            }
        }
    }

    /// Everything works again: whoever waits is answered or told, and all room comes back.
    fn settle(&mut self) {
        self.world.gateway.set_endpoints(0, &(1..=ENDPOINTS).map(server_address).collect::<Vec<_>>());
        (1..=ENDPOINTS).for_each(|number| self.world.let_connect(server_address(number)));
        for client in 0..self.clients.len() {
            self.world.set_window(self.clients[client].peer, None);
        }
        for _ in 0..20 {
            self.world.echo();
            self.collect();
            self.world.advance(1_000);
        }
        for client in &self.clients {
            let open = client.asked.iter().filter(|(_, (_, answers))| *answers != 1).count();
            assert_eq!((open, self.world.in_flight(client.peer)), (0, 0), "every request is answered");
            assert!(self.world.is_reading(client.peer) && self.world.unread(client.peer) == 0);
        }
        assert_eq!(self.world.held(0), (0, 0), "all room came back");
    }

    /// How often machines were frozen, and how often they could not be.
    fn run(plan: &Plan, seed: u64) -> (usize, usize) {
        let mut chaos = Chaos::new(plan.clone(), seed);
        for _ in 0..120 {
            match chaos.pick(8) {
                0..3 => chaos.ask(),
                3..6 => chaos.serve(),
                6 => chaos.disturb(),
                _ => chaos.world.run(),
            }
            chaos.collect();
        }
        chaos.settle();
        (chaos.world.freezes, chaos.world.not_yet)
    }

    fn run_all(plan: &Plan, seeds: std::ops::Range<u64>) {
        let runs = seeds.map(|seed| Chaos::run(plan, seed));
        let (freezes, not_yet) = runs.fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1));
        assert!(freezes > 1_000 && not_yet * 10 <= freezes, "{not_yet} of {freezes} freezes had to wait");
    }
}

#[test]
fn on_shared_connections_every_request_is_answered_once_and_all_room_comes_back() {
    let mut plan = plan_of(ENDPOINTS);
    for (connections, seeds) in [(1, 0..60), (3, 60..100)] {
        plan.clusters[0].connections = connections;
        Chaos::run_all(&plan, seeds);
    }
}

#[test]
fn on_bound_connections_every_request_is_answered_once_and_all_room_comes_back() {
    let mut plan = plan_of(ENDPOINTS);
    plan.clusters[0].mode = UpstreamMode::Bound;
    Chaos::run_all(&plan, 100..160);
}
