//! The gateway in the engine's simulator, with peers that a test plays and a clock that it moves.
//!
//! It adds to the simulator what these tests ask for in their words: clients, servers, what the gateway holds and has
//! counted. Nothing is delayed, split, cut or frozen here unless a test says so; after every act of a test the world
//! runs until it is at rest, but for `send_later`.

use std::net::SocketAddr;
use std::sync::Arc;

use bowline_engine::buf::Pool;
use bowline_engine::machine::{Frozen, OpenError};
use bowline_engine::sim::{Doorway, Ending, LinkOptions, Meter, Sim, SimOptions, SimStats};
use bowline_engine::time::Time;
use bowline_gateway::application::{Gateway, reason_of};
use bowline_gateway::config::plan::{EndpointPlan, Plan, Protocol};
use bowline_gateway::error::{CloseReason, Failure};
use bowline_gateway::mail::Mail;
use bowline_gateway::metrics::{Count, Counters};

use crate::counting;

pub(crate) use bowline_engine::sim::{Peer, Reach};

/// Connects that are refused.
pub(crate) const REFUSES: Reach = Reach::Fails(OpenError::Refused);

/// The world.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    sim: Sim<Gateway>,
    counters: Arc<Counters>,
    plan: Arc<Plan>,
    options: SimOptions,
    random: u64,
}

/// The address of a server by number.
pub(crate) fn server_address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

/// The same as a plan of tunnels.
pub(crate) fn tunnel_plan(endpoints: u16) -> Plan {
    let mut plan = plan_of(endpoints);
    plan.listeners[0].protocol = Protocol::Tcp;
    plan.clusters[0].protocol = Protocol::Tcp;
    plan
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
    /// A world of `plan` with two workers.
    pub(crate) fn new(plan: Plan, seed: u64) -> World {
        World::with_options(Arc::new(plan), SimOptions { seed, workers: 2, ..SimOptions::default() })
    }

    fn with_options(plan: Arc<Plan>, options: SimOptions) -> World {
        let counters = Counters::new(options.workers);
        let gateway = Gateway::new(Arc::clone(&plan), Arc::clone(&counters));
        let mut sim = Sim::new(Arc::new(gateway.clone()), options.clone());
        sim.set_meter(Meter { inside: counting::watch, outside: counting::pause });
        let random = options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        World { gateway, sim, counters, plan, options, random }
    }

    /// The same world, with nothing in it yet, where one worker runs everything, so that its pools are the only ones.
    pub(crate) fn one_worker(self) -> World {
        World::with_options(self.plan, SimOptions { workers: 1, ..self.options })
    }

    /// The same world, with nothing in it yet, whose buffers may take `bytes` in all.
    pub(crate) fn with_memory(self, bytes: usize) -> World {
        World::with_options(self.plan, SimOptions { buffer_bytes_max: bytes, ..self.options })
    }

    /// Every turn reads at most so many bytes, often fewer, and writes may be short too.
    pub(crate) fn set_split(&mut self, bytes: usize) {
        self.sim.set_read_budget(bytes);
        self.sim.set_links(LinkOptions { is_short: true, ..LinkOptions::default() });
    }

    /// Machines are frozen and thawed between turns, each time with this chance in 1,024.
    pub(crate) fn set_freezes(&mut self, in_1024: u32) {
        self.sim.set_freezes(in_1024);
    }

    /// There may be so many connections at a time.
    pub(crate) fn set_connections_max(&mut self, connections: usize) {
        self.sim.set_connections_max(connections);
    }

    /// A number from the seed.
    pub(crate) fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    /// Says what happens to connects to `address`.
    pub(crate) fn set_reach(&mut self, address: SocketAddr, reach: Reach) {
        self.sim.set_reach(address, reach);
    }

    /// Connects to `address` that wait for an answer get one, and later ones do.
    pub(crate) fn let_connect(&mut self, address: SocketAddr) {
        self.sim.let_connect(address);
        self.run();
    }

    /// A client connects to `listener`.
    pub(crate) fn connect(&mut self, listener: u16) -> Peer {
        self.connect_from(listener, [127, 0, 0, 1])
    }

    /// A client connects to `listener` from `source`.
    pub(crate) fn connect_from(&mut self, listener: u16, source: [u8; 4]) -> Peer {
        let peer = self.sim.connect(listener, SocketAddr::from((source, 40_000)));
        self.run();
        peer
    }

    /// Connections that are accepted from now on reached `local`, and wanted `original`.
    pub(crate) fn set_doorway(&mut self, local: SocketAddr, original: Option<SocketAddr>) {
        self.sim.set_doorway(Doorway { local, original });
    }

    /// The peer that `/connections` shows.
    pub(crate) fn shown_peer(&self, peer: Peer) -> SocketAddr {
        self.sim.info(peer).and_then(|info| info.peer).expect("the connection is open and has a peer")
    }

    /// The servers' ends of all connections that were established, in order.
    pub(crate) fn servers(&self) -> Vec<Peer> {
        self.sim.servers().to_vec()
    }

    /// The servers' ends that are still open.
    pub(crate) fn open_servers(&self) -> Vec<Peer> {
        self.servers().into_iter().filter(|peer| !self.is_closed(*peer)).collect()
    }

    /// The only open server's end.
    pub(crate) fn server(&self) -> Peer {
        let open = self.open_servers();
        assert_eq!(open.len(), 1, "one server's connection is open");
        open[0]
    }

    /// The address that a server's end was opened to.
    pub(crate) fn address_of(&self, peer: Peer) -> SocketAddr {
        self.sim.peer_address(peer)
    }

    /// The peer sends.
    pub(crate) fn send(&mut self, peer: Peer, bytes: &[u8]) {
        self.sim.send(peer, bytes);
        self.run();
    }

    /// The peer sends, and nothing runs yet.
    pub(crate) fn send_later(&mut self, peer: Peer, bytes: &[u8]) {
        self.sim.send(peer, bytes);
    }

    /// The peer says that it will send no more.
    pub(crate) fn end(&mut self, peer: Peer) {
        self.sim.finish(peer);
        self.run();
    }

    /// The connection breaks.
    pub(crate) fn cut(&mut self, peer: Peer) {
        self.sim.cut(peer);
        self.run();
    }

    /// What the peer has got since it was last asked.
    pub(crate) fn take(&mut self, peer: Peer) -> Vec<u8> {
        self.sim.take(peer)
    }

    /// The peer takes only so many bytes more; nothing for all.
    pub(crate) fn set_window(&mut self, peer: Peer, window: Option<usize>) {
        self.sim.allow(peer, window);
        self.run();
    }

    /// Bytes that wait for the peer to take them.
    pub(crate) fn queued(&self, peer: Peer) -> usize {
        self.sim.queued(peer)
    }

    /// Bytes that the peer sent and the machine has not taken.
    pub(crate) fn unread(&self, peer: Peer) -> usize {
        self.sim.unread(peer) + self.sim.kept(peer)
    }

    /// Whether the machine reads.
    pub(crate) fn is_reading(&self, peer: Peer) -> bool {
        self.sim.is_reading(peer)
    }

    /// Whether the gateway said that it will send no more.
    pub(crate) fn is_shut(&self, peer: Peer) -> bool {
        self.sim.ending(peer) != Ending::Open
    }

    /// Whether the gateway has reset the connection.
    pub(crate) fn is_reset(&self, peer: Peer) -> bool {
        self.sim.ending(peer) == Ending::Reset
    }

    /// The machine of a peer's connection comes to its end by a fault of its own, and tells nobody.
    pub(crate) fn break_machine(&mut self, peer: Peer) {
        self.sim.break_machine(peer);
        self.run();
    }

    /// What the machine of a peer's connection sends from now on arrives only later, even if it is gone by then.
    pub(crate) fn delay_mail_of(&mut self, peer: Peer) {
        self.sim.delay_mail_of(peer);
    }

    /// Mail that is late arrives; there must be some.
    pub(crate) fn let_mail_arrive(&mut self) {
        assert!(self.sim.let_mail_arrive(), "nothing was late");
        self.run();
    }

    /// The slot of a peer's connection; others have had it before.
    pub(crate) fn slot(&self, peer: Peer) -> u32 {
        self.sim.address(peer).expect("the connection is open").index
    }

    /// Requests in flight as published.
    pub(crate) fn in_flight(&self, peer: Peer) -> u32 {
        self.sim.info(peer).expect("the connection is open").in_flight
    }

    /// Why the connection is closed, if it is: the gateway's own reason.
    pub(crate) fn reason(&self, peer: Peer) -> Option<CloseReason> {
        self.sim.cause(peer).map(reason_of)
    }

    /// Whether the connection is closed.
    pub(crate) fn is_closed(&self, peer: Peer) -> bool {
        self.sim.cause(peer).is_some()
    }

    /// The machine of a peer's connection as plain data.
    pub(crate) fn frozen(&mut self, peer: Peer) -> Frozen {
        self.sim.frozen(peer).expect("the connection is open and can be frozen")
    }

    /// Mail from the control plane to every open connection.
    pub(crate) fn tell_all(&mut self, mail: impl Fn() -> Mail) {
        self.sim.post_each(mail);
        self.run();
    }

    /// Drains the whole gateway within `ms`.
    pub(crate) fn drain(&mut self, ms: u64) {
        let deadline = self.now().after_ms(ms);
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

    /// What the simulator has done.
    pub(crate) fn stats(&self) -> SimStats {
        self.sim.stats()
    }

    /// The pool of all buffers.
    pub(crate) fn pool(&self) -> &Pool {
        self.sim.pool()
    }

    /// Requests in flight and bytes queued at all endpoints of a cluster.
    pub(crate) fn held(&self, cluster: usize) -> (usize, usize) {
        let views = self.gateway.endpoints(cluster, self.now());
        (views.iter().map(|view| view.requests).sum(), views.iter().map(|view| view.output_bytes).sum())
    }

    /// The virtual moment.
    pub(crate) fn now(&self) -> Time {
        self.sim.now()
    }

    /// Moves the clock, with everything that falls due on the way.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.run();
        self.sim.advance(ms);
        self.check();
    }

    /// Runs turns until nothing is left to do.
    pub(crate) fn run(&mut self) {
        self.sim.run();
        self.check();
    }

    /// What no machine may do, whatever happens.
    fn check(&self) {
        assert_eq!(self.stats().late_pieces, 0, "nothing is written behind the end of the stream");
        assert_eq!(self.closes(CloseReason::MachineFault), 0, "rule 3: it consumes nothing");
    }
}
