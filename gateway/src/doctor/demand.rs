//! What a gateway will ask of the machine: how many clients, and for each of them how many sockets, ports and threads its
//! plan implies. Plain numbers made of a plan; it reads nothing and judges nothing. Made by `bowline doctor` and `bowline
//! run`.

use bowline_engine::options::SocketOptions;

use crate::config::plan::ClusterPlan;
use crate::config::plan::Dispatch;
use crate::config::plan::EndpointPlan;
use crate::config::plan::EngineMode;
use crate::config::plan::ListenerPlan;
use crate::config::plan::Plan;
use crate::config::plan::Protocol;
use crate::config::plan::UpstreamMode;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Connections of clients.
    pub(crate) clients: u64,
    /// Whether that number was only what the limit of descriptors leaves.
    pub(crate) is_default: bool,
    /// Sockets of one client beside its own: at least, over all listeners.
    pub(crate) own_least: u64,
    /// The same at most.
    pub(crate) own_most: u64,
    /// Listeners whose clients have upstream connections of their own.
    pub(crate) own_listeners: Vec<String>,
    /// Connections to shared upstreams.
    pub(crate) shared: u64,
    /// Connections that each listener asks to queue.
    pub(crate) backlog: u64,
    /// Listeners of clients.
    pub(crate) listeners: u64,
    /// Clusters where each client has an upstream connection of its own.
    pub(crate) clusters: Vec<OwnCluster>,
    /// The ceiling of buffers.
    pub(crate) buffer_bytes: u64,
    /// Threads that carry traffic.
    pub(crate) workers: u64,
    /// All threads of the process.
    pub(crate) threads: u64,
}

/// A cluster of tunnels, or one in the mode `bound`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnCluster {
    /// Its name.
    pub(crate) name: String,
    /// Its addresses; nothing where a name stands for any number of them.
    pub(crate) addresses: Option<u64>,
    /// Whether every client needs it, whatever listener it came from.
    pub(crate) is_certain: bool,
}

impl Demand {
    /// That of a plan.
    pub(crate) fn of(plan: &Plan) -> Demand {
        let listeners: Vec<Own> = plan.listeners.iter().map(|listener| Own::of(listener, plan)).collect();
        Demand {
            clients: plan.engine.connections_max as u64,
            is_default: false,
            own_least: listeners.iter().map(|own| own.least).min().unwrap_or(0),
            own_most: listeners.iter().map(|own| own.most).max().unwrap_or(0),
            own_listeners: plan
                .listeners
                .iter()
                .zip(&listeners)
                .filter(|(_, own)| own.most > 0)
                .map(|(listener, _)| listener.name.clone())
                .collect(),
            shared: shared_sockets(plan),
            backlog: u64::from(SocketOptions::default().backlog),
            listeners: plan.listeners.len() as u64,
            clusters: own_clusters(plan),
            buffer_bytes: plan.engine.buffer_memory_bytes_max as u64,
            workers: plan.engine.workers as u64,
            threads: threads(plan),
        }
    }

    /// Descriptors beside those of clients. With fewer than [`DESCRIPTORS_BESIDE`] even a small gateway runs out.
    pub(crate) fn beside(&self) -> u64 {
        DESCRIPTORS_BESIDE
            .max(DESCRIPTORS_OF_PROCESS.saturating_add(self.shared).saturating_add(self.listeners))
    }

    /// Sockets when every client is there and has as few others as it can.
    pub(crate) fn sockets(&self) -> u64 {
        self.clients.saturating_mul(1 + self.own_least).saturating_add(self.beside())
    }

    /// Bytes of memory while all of them are idle: the kernel's for each socket, and this process's for each connection.
    pub(crate) fn idle_bytes(&self) -> u64 {
        let sockets = self.sockets();
        sockets.saturating_mul(SOCKET_BYTES).saturating_add(sockets.saturating_mul(CONNECTION_BYTES))
    }

    /// The same when each has as many as it can.
    pub(crate) fn sockets_most(&self) -> u64 {
        self.clients.saturating_mul(1 + self.own_most).saturating_add(self.beside())
    }
}

/// Kernel memory of an idle socket, as measured.
pub(crate) const SOCKET_BYTES: u64 = 3_850;
/// What an idle connection may cost in this process.
pub(crate) const CONNECTION_BYTES: u64 = 256;
/// Listeners, epoll and wake-ups of each reactor, the log, the admin interface and a few upstream connections.
const DESCRIPTORS_BESIDE: u64 = 64;
/// Those without the connections to upstreams.
const DESCRIPTORS_OF_PROCESS: u64 = 32;

/// Sockets of a listener's client beside its own.
struct Own {
    least: u64,
    most: u64,
}

impl Own {
    /// A request takes one of the targets; a client that sends to several `bound` clusters has a connection in each.
    fn of(listener: &ListenerPlan, plan: &Plan) -> Own {
        let targets = targets(listener, plan);
        let sockets = || targets.iter().filter_map(|at| plan.clusters.get(*at)).map(own_sockets);
        Own { least: sockets().min().unwrap_or(0), most: sockets().sum() }
    }
}

/// The clusters that clients of a listener can come to, each once.
fn targets(listener: &ListenerPlan, plan: &Plan) -> Vec<usize> {
    let mut targets: Vec<usize> = listener.default_route.iter().map(|target| target.cluster).collect();
    if listener.protocol == Protocol::Bolt {
        targets.extend(plan.routes.iter().map(|route| route.target.cluster));
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// The embedded upstream is in this process, so both ends of a connection to it are.
fn own_sockets(cluster: &ClusterPlan) -> u64 {
    match (is_own(cluster), cluster.echo) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    }
}

fn is_own(cluster: &ClusterPlan) -> bool {
    cluster.protocol == Protocol::Tcp || cluster.mode == UpstreamMode::Bound
}

fn shared_sockets(plan: &Plan) -> u64 {
    let shared = plan.clusters.iter().filter(|cluster| !is_own(cluster)).map(|cluster| {
        let connections = cluster.endpoints.len().max(1).saturating_mul(cluster.connections);
        let ends = if cluster.echo { 2 } else { 1 };
        (connections as u64).saturating_mul(plan.engine.workers as u64).saturating_mul(ends)
    });
    shared.fold(0, u64::saturating_add)
}

fn own_clusters(plan: &Plan) -> Vec<OwnCluster> {
    let own = plan.clusters.iter().enumerate().filter(|(_, cluster)| is_own(cluster) && !cluster.echo);
    let own = own.map(|(at, cluster)| {
        let are_known = cluster.endpoints.iter().all(|one| matches!(one, EndpointPlan::Address(_)));
        OwnCluster {
            name: cluster.name.clone(),
            addresses: are_known.then_some(cluster.endpoints.len() as u64),
            is_certain: plan.listeners.iter().all(|listener| targets(listener, plan) == [at]),
        }
    });
    own.collect()
}

/// Workers, reactors of their own where those only queue, and the fixed few: steering, control loop, admin interface,
/// resolver, log.
fn threads(plan: &Plan) -> u64 {
    let only_queue = plan.engine.mode == EngineMode::Raw && plan.engine.dispatch == Dispatch::Handoff;
    let reactors = if only_queue { plan.engine.reactors as u64 } else { 0 };
    (plan.engine.workers as u64).saturating_add(reactors).saturating_add(THREADS_BESIDE)
}

const THREADS_BESIDE: u64 = 5;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::plan::RoutePlan;
    use crate::config::plan::RouteTarget;
    use crate::config::plan::ServicePlan;

    fn cluster(name: &str, protocol: Protocol, mode: UpstreamMode) -> ClusterPlan {
        let endpoints = vec![EndpointPlan::Address(SocketAddr::from(([10, 0, 0, 1], 1)))];
        ClusterPlan { endpoints, mode, ..ClusterPlan::named(name, protocol) }
    }

    #[test]
    fn clients_of_shared_upstreams_have_one_socket_each() {
        let demand = Demand::of(&Plan::default());
        assert_eq!((demand.own_least, demand.own_most, demand.clusters.len()), (0, 0, 0));
        assert_eq!(demand.shared, 4, "two workers have a connection each, and both its ends are here");
        assert_eq!((demand.beside(), demand.sockets(), demand.sockets_most()), (64, 16_448, 16_448));
        let mut plan = Plan::default();
        plan.clusters[0].connections = 100;
        assert_eq!(Demand::of(&plan).beside(), 433);
    }

    #[test]
    fn a_tunnel_takes_a_second_socket_and_a_port() {
        let mut plan = Plan::default();
        plan.listeners[0].protocol = Protocol::Tcp;
        plan.clusters = vec![cluster("db", Protocol::Tcp, UpstreamMode::Shared)];
        let demand = Demand::of(&plan);
        assert_eq!((demand.own_least, demand.own_most), (1, 1));
        assert_eq!(demand.own_listeners, ["default"]);
        assert_eq!(demand.sockets(), 2 * 16_384 + 64);
        let right = OwnCluster { name: "db".to_owned(), addresses: Some(1), is_certain: true };
        assert_eq!(demand.clusters, [right]);
        plan.clusters[0].endpoints.push(EndpointPlan::Name { host: "db".to_owned(), port: 1 });
        assert_eq!(Demand::of(&plan).clusters[0].addresses, None);
    }

    #[test]
    fn what_only_some_clients_need_is_not_certain() {
        let mut plan = Plan::default();
        plan.clusters.push(cluster("bound", Protocol::Bolt, UpstreamMode::Bound));
        plan.clusters.push(cluster("other", Protocol::Bolt, UpstreamMode::Bound));
        for (service, cluster) in [("a", 1), ("b", 2), ("c", 1)] {
            let target = RouteTarget { cluster, timeout_ms: 1 };
            plan.routes.push(RoutePlan { service: ServicePlan::Exact(service.to_owned()), target });
        }
        let demand = Demand::of(&plan);
        assert_eq!((demand.own_least, demand.own_most), (0, 2), "one that sends to both has both");
        assert!(demand.clusters.iter().all(|cluster| !cluster.is_certain), "{:?}", demand.clusters);
        plan.listeners[0].default_route = Some(RouteTarget { cluster: 1, timeout_ms: 1 });
        assert_eq!(Demand::of(&plan).own_least, 1);
    }

    #[test]
    fn a_bound_embedded_upstream_has_both_ends_here_and_needs_no_port() {
        let mut plan = Plan::default();
        plan.clusters[0].mode = UpstreamMode::Bound;
        let demand = Demand::of(&plan);
        assert_eq!((demand.own_least, demand.own_most, demand.clusters.len()), (2, 2, 0));
    }

    #[test]
    fn reactors_that_only_queue_are_threads_of_their_own() {
        let mut plan = Plan::default();
        assert_eq!(Demand::of(&plan).threads, 7);
        plan.engine.dispatch = Dispatch::Handoff;
        assert_eq!(Demand::of(&plan).threads, 9);
    }
}
