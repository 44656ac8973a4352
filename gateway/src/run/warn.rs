//! Limits of the machine that are certain to be in the way of what was configured. They are read once at start and only
//! named; the one thing that could be changed, the soft limit of descriptors, was raised before.

use std::fs;

use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;

use crate::config::plan::ClusterPlan;
use crate::config::plan::EndpointPlan;
use crate::config::plan::Plan;
use crate::config::plan::Protocol;
use crate::config::plan::UpstreamMode;

/// What the machine allows; nothing where it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Descriptors of this process, the soft limit.
    pub(super) descriptors_max: Option<u64>,
    /// `net.core.somaxconn`.
    pub(super) backlog_max: Option<u64>,
    /// Ports of `net.ipv4.ip_local_port_range`.
    pub(super) local_ports: Option<u64>,
}

impl Limits {
    /// Those of this machine.
    pub(super) fn read() -> Limits {
        let file = |path: &str| fs::read_to_string(path).ok();
        Limits {
            descriptors_max: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            backlog_max: file(SOMAXCONN).and_then(|text| text.trim().parse().ok()),
            local_ports: file(PORT_RANGE).and_then(|text| ports_of(&text)),
        }
    }
}

const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

fn ports_of(range: &str) -> Option<u64> {
    let mut words = range.split_whitespace();
    let (first, last): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(last.checked_sub(first)? + 1)
}

/// What will be in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// It costs connections or bursts of them, whatever the load is.
    pub(super) warnings: Vec<String>,
    /// It bounds what one cluster can reach.
    pub(super) notes: Vec<String>,
}

/// Compares `plan` with `limits`. `backlog` is how many connections a listener asks to queue.
pub(super) fn findings(plan: &Plan, backlog: u32, limits: &Limits) -> Findings {
    let mut findings = Findings::default();
    let connections = plan.engine.connections_max as u64;
    findings.warnings.extend(limits.descriptors_max.and_then(|most| descriptors_warning(most, connections)));
    if let Some(most) = limits.backlog_max.filter(|most| *most < u64::from(backlog)) {
        findings.warnings.push(format!(
            "net.core.somaxconn is {most}, so at most that many connections of a burst wait to be accepted instead of {backlog}"
        ));
    }
    if let Some(ports) = limits.local_ports {
        findings
            .notes
            .extend(plan.clusters.iter().filter_map(|cluster| port_note(cluster, ports, connections)));
    }
    findings
}

/// Clients take a descriptor each; connections to upstreams and the process itself need theirs on top.
fn descriptors_warning(most: u64, connections: u64) -> Option<String> {
    let left = most.checked_sub(connections);
    match left {
        None => Some(format!(
            "the limit of descriptors is {most}, below the {connections} connections of --max-connections; raise it with ulimit -n"
        )),
        Some(left) if left < DESCRIPTORS_BESIDE => Some(format!(
            "--max-connections {connections} leaves {left} of {most} descriptors for upstream connections, the admin interface and the process itself; raise the limit with ulimit -n, or say fewer and leave {DESCRIPTORS_BESIDE}"
        )),
        Some(_) => None,
    }
}

/// With fewer even a small gateway runs out: listeners, epoll and wake-ups of each reactor, the log, upstreams.
const DESCRIPTORS_BESIDE: u64 = 64;

/// One client has one upstream connection there, and each takes a local port per endpoint address.
fn port_note(cluster: &ClusterPlan, ports: u64, connections: u64) -> Option<String> {
    let is_own = cluster.protocol == Protocol::Tcp || cluster.mode == UpstreamMode::Bound;
    let all_known = cluster.endpoints.iter().all(|one| matches!(one, EndpointPlan::Address(_)));
    let most = ports.saturating_mul(cluster.endpoints.len() as u64);
    // Half of all connections are those to upstreams.
    let bites = is_own && all_known && !cluster.echo && most < connections / 2;
    bites.then(|| {
        format!(
            "cluster {} can hold {most} clients at a time: each needs one of the {ports} ports of net.ipv4.ip_local_port_range per endpoint",
            cluster.name
        )
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn wide() -> Limits {
        Limits { descriptors_max: Some(1 << 20), backlog_max: Some(4_096), local_ports: Some(28_232) }
    }

    fn tunnel() -> Plan {
        let mut plan = Plan::default();
        let mut cluster = ClusterPlan::named("database", Protocol::Tcp);
        cluster.endpoints = vec![EndpointPlan::Address(SocketAddr::from(([10, 0, 0, 1], 5432)))];
        plan.clusters = vec![cluster];
        plan.engine.connections_max = 60_000;
        plan
    }

    #[test]
    fn a_machine_that_allows_it_all_is_not_warned_of() {
        assert_eq!(findings(&Plan::default(), 4_096, &wide()), Findings::default());
        assert_eq!(
            findings(&Plan::default(), 4_096, &Limits::default()),
            Findings::default(),
            "nothing known"
        );
    }

    #[test]
    fn each_limit_that_is_too_low_is_named_with_its_number() {
        let low = Limits { descriptors_max: Some(1_024), backlog_max: Some(128), local_ports: Some(1) };
        let Findings { warnings, notes } = findings(&Plan::default(), 4_096, &low);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("is 1024, below the 16384 connections"), "{warnings:?}");
        assert!(warnings[1].contains("somaxconn is 128") && warnings[1].contains("4096"), "{warnings:?}");
        assert!(notes.is_empty(), "clients of a shared cluster need no port of their own: {notes:?}");
    }

    #[test]
    fn too_few_descriptors_beside_the_connections_are_warned_of() {
        let warnings = |connections_max: usize| {
            let mut plan = Plan::default();
            plan.engine.connections_max = connections_max;
            let limits = Limits { descriptors_max: Some(1_024), ..wide() };
            findings(&plan, 4_096, &limits).warnings
        };
        assert_eq!(warnings(960), Vec::<String>::new(), "64 are left");
        let said = warnings(961);
        assert!(said.len() == 1 && said[0].contains("--max-connections 961 leaves 63 of 1024"), "{said:?}");
        let said = warnings(1_024);
        assert!(said.len() == 1 && said[0].contains("leaves 0 of 1024"), "{said:?}");
        let said = warnings(1_025);
        assert!(said.len() == 1 && said[0].contains("is 1024, below the 1025"), "{said:?}");
    }

    #[test]
    fn ports_bound_clusters_where_each_client_has_its_own_connection() {
        let mut plan = tunnel();
        let notes = findings(&plan, 1, &wide()).notes;
        assert!(notes[0].contains("cluster database can hold 28232 clients"), "{notes:?}");
        plan.engine.connections_max = 50_000;
        assert!(findings(&plan, 1, &wide()).notes.is_empty(), "half of it fits");
        let name = EndpointPlan::Name { host: "db".to_owned(), port: 1 };
        plan = tunnel();
        plan.clusters[0].endpoints.push(name);
        assert!(findings(&plan, 1, &wide()).notes.is_empty(), "nobody knows how many addresses it has");
    }

    #[test]
    fn the_range_of_ports_is_read_as_the_kernel_writes_it() {
        assert_eq!(ports_of("32768\t60999\n"), Some(28_232));
        assert_eq!((ports_of(""), ports_of("9 1"), ports_of("a b")), (None, None, None));
        assert!(Limits::read().descriptors_max.is_some_and(|most| most > 0));
    }
}
