//! The gateway in the engine's simulator, with peers that a test plays and a clock that it moves.
//!
//! It adds to the simulator what these tests ask for in their words: clients, servers, what the gateway holds and
//! counted. Nothing is delayed and nothing is cut here unless a test says so.

use std::net::SocketAddr;
use std::sync::Arc;

use bowline_engine::sim::{LinkOptions, Meter, Sim, SimOptions};
use bowline_gateway::application::Gateway;
use bowline_gateway::config::plan::{EndpointPlan, Plan};
use bowline_gateway::error::Failure;
use bowline_gateway::metrics::{Count, Counters};

use crate::counting;

pub(crate) use bowline_engine::sim::Peer;

/// The world.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) sim: Sim<Gateway>,
    counters: Arc<Counters>,
    plan: Arc<Plan>,
    seed: u64,
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
    /// A world of `plan` with two workers.
    pub(crate) fn new(plan: Plan, seed: u64) -> World {
        World::with_workers(Arc::new(plan), seed, 2)
    }

    fn with_workers(plan: Arc<Plan>, seed: u64, workers: usize) -> World {
        let counters = Counters::new(workers);
        let gateway = Gateway::new(Arc::clone(&plan), Arc::clone(&counters));
        let options = SimOptions { seed, workers, ..SimOptions::default() };
        let mut sim = Sim::new(Arc::new(gateway.clone()), options);
        sim.set_meter(Meter { inside: counting::watch, outside: counting::pause });
        World { gateway, sim, counters, plan, seed }
    }

    /// Only one worker runs everything, so that its pools are the only ones.
    pub(crate) fn one_worker(self) -> World {
        World::with_workers(self.plan, self.seed, 1)
    }

    /// What is sent arrives in pieces of at most so many bytes.
    pub(crate) fn set_split(&mut self, bytes: usize) {
        self.sim.set_links(LinkOptions { segment_bytes_max: Some(bytes), ..LinkOptions::default() });
    }

    /// A client connects to `listener`.
    pub(crate) fn connect(&mut self, listener: u16) -> Peer {
        let peer = self.sim.connect(listener, SocketAddr::from(([127, 0, 0, 1], 40_000)));
        self.sim.run();
        peer
    }

    /// The servers' ends of all connections that were opened, in order.
    pub(crate) fn servers(&self) -> Vec<Peer> {
        self.sim.servers().to_vec()
    }

    /// The servers' ends that are still open.
    pub(crate) fn open_servers(&self) -> Vec<Peer> {
        self.servers().into_iter().filter(|peer| self.sim.address(*peer).is_some()).collect()
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
        self.sim.run();
    }

    /// What the peer has got since it was last asked.
    pub(crate) fn take(&mut self, peer: Peer) -> Vec<u8> {
        self.sim.take(peer)
    }

    /// Requests in flight as published.
    pub(crate) fn in_flight(&self, peer: Peer) -> u32 {
        self.sim.info(peer).expect("the connection is open").in_flight
    }

    pub(crate) fn total(&self, what: Count) -> u64 {
        self.counters.total(what)
    }

    pub(crate) fn failures(&self, failure: Failure) -> u64 {
        self.counters.failures(failure)
    }

    /// Requests in flight and bytes queued at all endpoints of a cluster.
    pub(crate) fn held(&self, cluster: usize) -> (usize, usize) {
        let views = self.gateway.endpoints(cluster, self.sim.now());
        (views.iter().map(|view| view.requests).sum(), views.iter().map(|view| view.output_bytes).sum())
    }
}
