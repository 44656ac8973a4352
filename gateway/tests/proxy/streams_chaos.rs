//! Tunnels with everything at once, by chance: headers in and out, names of servers, split bytes, narrow windows, refusals,
//! silence, ends, cuts and freezes. Whatever happens, what arrives is the start of what was sent, all of it where nobody
//! cut, nobody gets what is another's, and all room comes back.

use bowline_gateway::config::plan::{
    AnnouncedPlan, Balance, PassthroughPlan, Plan, ProxyVersion, ProxyVersions,
};
use bowline_gateway::error::CloseReason;
use bowline_protocols::proxy_header::{Parsed, Route, Version, Versions, encode, parse};
use bowline_protocols::testing::client_hello;

use crate::world::{Peer, REFUSES, Reach, World, server_address, tunnel_plan};

/// One direction of a tunnel, as its two ends know it.
#[derive(Default)]
struct Way {
    sent: Vec<u8>,
    arrived: Vec<u8>,
    ended: bool,
}

struct Tunnel {
    client: Peer,
    server: Option<Peer>,
    up: Way,
    down: Way,
    /// Somebody cut it, so what was under way may be lost.
    cut: bool,
}

/// A server's end whose header has not come whole.
struct Unknown {
    server: Peer,
    bytes: Vec<u8>,
}

struct Chaos {
    world: World,
    tunnels: Vec<Tunnel>,
    unknown: Vec<Unknown>,
    servers_seen: usize,
    version: Version,
}

const ENDPOINTS: u16 = 3;
const TUNNELS_MAX: usize = 12;

fn plan(seed: u64) -> Plan {
    let mut plan = tunnel_plan(ENDPOINTS);
    let trusted = vec!["127.0.0.0/8".parse().expect("a network")];
    let versions = ProxyVersions::Any;
    plan.listeners[0].announced = Some(AnnouncedPlan { versions, trusted, timeout_ms: 60_000 });
    let passthrough = PassthroughPlan { is_required: true, name_required: false, timeout_ms: 60_000 };
    plan.listeners[0].passthrough = seed.is_multiple_of(2).then_some(passthrough);
    let balances = [Balance::RoundRobin, Balance::LeastOutstanding, Balance::Random, Balance::Hash];
    plan.clusters[0].balance = balances[seed as usize % 4];
    plan.clusters[0].proxy_protocol = Some([ProxyVersion::V1, ProxyVersion::V2][seed as usize / 2 % 2]);
    plan.clusters[0].connect_timeout_ms = 300;
    plan.limits.tunnel_credit_bytes = 3_000;
    plan
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut world = World::new(plan(seed), seed);
        world.set_freezes(200);
        world.set_split(150);
        let version = [Version::V1, Version::V2][seed as usize % 2];
        Chaos { world, tunnels: Vec::new(), unknown: Vec::new(), servers_seen: 0, version }
    }

    fn pick(&mut self, of: usize) -> usize {
        (self.world.random() % of as u64) as usize
    }

    /// A client comes and says who it is: its number is the port that its header names.
    fn begin(&mut self) {
        if self.tunnels.len() == TUNNELS_MAX {
            return;
        }
        let client = self.world.connect(0);
        let source = ([192, 0, 2, 1], self.tunnels.len() as u16 + 1).into();
        let mut bytes = Vec::new();
        encode(self.version, Some(Route { source, destination: source }), &mut bytes);
        let hello = client_hello(Some("a.example"), &[]);
        bytes.extend_from_slice(&hello);
        self.world.send_later(client, &bytes);
        let up = Way { sent: hello, ..Way::default() };
        self.tunnels.push(Tunnel { client, server: None, up, down: Way::default(), cut: false });
    }

    fn step(&mut self) {
        match self.pick(16) {
            0 | 1 => self.begin(),
            2..=7 => self.talk(),
            8 => self.finish_one(),
            9 if self.pick(4) == 0 => self.cut_one(),
            10 => self.narrow(),
            11 => self.change_reach(),
            12 => {
                let ms = self.pick(250) as u64;
                self.world.advance(ms);
            }
            _ => self.world.run(),
        }
        self.gather();
    }

    /// One end of one tunnel sends some bytes that are like no others.
    fn talk(&mut self) {
        let Some((at, is_up, peer)) = self.pick_end() else { return };
        let (bytes, salt) = (self.pick(2_500), self.pick(251));
        let way = self.way(at, is_up);
        if way.ended {
            return;
        }
        let from = way.sent.len();
        let bytes: Vec<u8> = (from..from + bytes).map(|n| (n * 31 + salt + at * 7) as u8).collect();
        way.sent.extend_from_slice(&bytes);
        self.world.send_later(peer, &bytes);
    }

    fn pick_end(&mut self) -> Option<(usize, bool, Peer)> {
        let count = self.tunnels.len();
        let at = (count > 0).then(|| self.pick(count))?;
        let is_up = self.pick(2) == 0;
        let tunnel = &self.tunnels[at];
        let peer = if is_up { Some(tunnel.client) } else { tunnel.server };
        let peer = peer.filter(|peer| !tunnel.cut && !self.world.is_closed(*peer))?;
        Some((at, is_up, peer))
    }

    fn way(&mut self, at: usize, is_up: bool) -> &mut Way {
        let tunnel = &mut self.tunnels[at];
        if is_up { &mut tunnel.up } else { &mut tunnel.down }
    }

    fn finish_one(&mut self) {
        let Some((at, is_up, peer)) = self.pick_end() else { return };
        // Who has no server yet may not be routed: an end in the midst of the first message is no stream.
        if self.tunnels[at].server.is_some() && !std::mem::replace(&mut self.way(at, is_up).ended, true) {
            self.world.end(peer);
        }
    }

    fn cut_one(&mut self) {
        let Some((at, _, peer)) = self.pick_end() else { return };
        self.tunnels[at].cut = true;
        self.world.cut(peer);
    }

    fn narrow(&mut self) {
        let Some((_, _, peer)) = self.pick_end() else { return };
        let window = [None, Some(0), Some(700)][self.pick(3)];
        self.world.set_window(peer, window);
    }

    fn change_reach(&mut self) {
        let address = server_address(1 + self.pick(ENDPOINTS.into()) as u16);
        match self.pick(4) {
            0 => self.world.set_reach(address, REFUSES),
            1 => self.world.set_reach(address, Reach::Silent),
            _ => self.world.let_connect(address),
        }
    }

    /// Takes what has arrived everywhere, and finds out whose the new servers' ends are.
    fn gather(&mut self) {
        let servers = self.world.servers();
        let new = servers[self.servers_seen..].iter();
        self.unknown.extend(new.map(|server| Unknown { server: *server, bytes: Vec::new() }));
        self.servers_seen = servers.len();
        for mut unknown in std::mem::take(&mut self.unknown) {
            unknown.bytes.extend(self.world.take(unknown.server));
            match parse(&unknown.bytes, Versions::Any).expect("the header goes first") {
                Parsed::More { .. } => self.unknown.push(unknown),
                Parsed::Header { bytes, route } => {
                    let number = usize::from(route.expect("it names the client").source.port());
                    let tunnel = &mut self.tunnels[number - 1];
                    assert_eq!(tunnel.server.replace(unknown.server), None, "a client has one server");
                    tunnel.up.arrived.extend_from_slice(&unknown.bytes[bytes..]);
                }
            }
        }
        for tunnel in &mut self.tunnels {
            tunnel.down.arrived.extend(self.world.take(tunnel.client));
            let up = tunnel.server.map(|server| self.world.take(server)).unwrap_or_default();
            tunnel.up.arrived.extend(up);
            for way in [&tunnel.up, &tunnel.down] {
                assert!(way.sent.starts_with(&way.arrived), "the start of what was sent, and nothing else");
            }
        }
    }

    /// Everybody reads, every server answers, and both sides of every tunnel end.
    fn settle(&mut self) {
        (1..=ENDPOINTS).for_each(|number| self.world.let_connect(server_address(number)));
        for peer in self.world.servers().into_iter().chain(self.tunnels.iter().map(|one| one.client)) {
            if !self.world.is_closed(peer) {
                self.world.set_window(peer, None);
            }
        }
        self.world.advance(1_000);
        self.gather();
        for at in 0..self.tunnels.len() {
            for is_up in [true, false] {
                let tunnel = &self.tunnels[at];
                let peer = if is_up { Some(tunnel.client) } else { tunnel.server };
                let ended = std::mem::replace(&mut self.way(at, is_up).ended, true);
                if let Some(peer) = peer.filter(|peer| !ended && !self.world.is_closed(*peer)) {
                    self.world.end(peer);
                }
            }
        }
        self.world.advance(1_000);
        self.gather();
    }

    /// How many tunnels came to their end in order.
    fn judge(&self) -> usize {
        let mut whole = 0;
        for tunnel in &self.tunnels {
            let reason = self.world.reason(tunnel.client).expect("everything has ended");
            assert!(tunnel.server.is_none_or(|server| self.world.is_closed(server)));
            if tunnel.cut || tunnel.server.is_none() {
                continue;
            }
            assert_eq!(reason, CloseReason::PeerClosed);
            assert_eq!(tunnel.up.arrived.len(), tunnel.up.sent.len(), "all of it");
            assert_eq!(tunnel.down.arrived.len(), tunnel.down.sent.len(), "all of it");
            whole += 1;
        }
        assert_eq!(self.world.held(0), (0, 0), "all room comes back");
        whole
    }
}

#[test]
fn whatever_happens_to_a_tunnel_its_bytes_are_its_own_and_in_order() {
    let (mut whole, mut all) = (0, 0);
    for seed in 0..120 {
        let mut chaos = Chaos::new(seed);
        (0..250).for_each(|_| chaos.step());
        chaos.settle();
        whole += chaos.judge();
        all += chaos.tunnels.len();
    }
    assert!(whole > all / 3, "{whole} of {all} tunnels were not cut and found a server");
}
