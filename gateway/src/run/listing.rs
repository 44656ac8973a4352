//! `/connections`: what the engine knows of each connection, with the names that people gave. Reading stops nobody; what
//! belongs together may be of two moments.
//!
//! `memory_bytes` is what an idle connection costs by its kind (slot and machine) plus the buffers that it is charged
//! with now. Not in it: the table of its requests in flight, and what the kernel keeps for the socket.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use bowline_engine::engine::ConnectionInfo;
use bowline_engine::engine::Handle;
use bowline_engine::time::Time;

use crate::admin::ConnectionSource;
use crate::admin::ConnectionView;
use crate::admin::Direction;
use crate::application::Gateway;
use crate::config::plan::Plan;
use crate::config::plan::Protocol;
use crate::config::url::protocol_name;
use crate::connection::Downstream;
use crate::connection::Echo;
use crate::connection::Front;
use crate::connection::HttpDownstream;
use crate::connection::HttpUpstream;
use crate::connection::State;
use crate::connection::Tunnel;
use crate::connection::Upstream;

/// The connections of a running engine.
pub(super) struct Listing {
    handle: Handle<Gateway>,
    gateway: Gateway,
    names: Names,
}

impl Listing {
    /// Those of `handle`, as `plan` names them.
    pub(super) fn new(plan: &Plan, gateway: Gateway, handle: Handle<Gateway>) -> Listing {
        Listing { handle, gateway, names: Names::new(plan) }
    }

    /// Which endpoint belongs to which cluster now.
    fn owners(&self, now: Time) -> Owners {
        let mut owners = Owners::default();
        for at in 0..self.names.clusters.len() {
            for endpoint in self.gateway.endpoints(at, now) {
                owners.add(endpoint.address, at, &self.names);
            }
        }
        owners
    }
}

impl ConnectionSource for Listing {
    fn for_each(&self, each: &mut dyn FnMut(ConnectionView)) {
        let now = self.handle.now();
        let owners = self.owners(now);
        self.handle.for_each(|info| each(self.names.view(&info, now, &owners)));
    }
}

/// A listener or a cluster as it is shown.
#[derive(Clone, Debug)]
struct Named {
    name: Arc<str>,
    protocol: Protocol,
}

/// What the plan calls things.
#[derive(Debug)]
struct Names {
    listeners: Vec<Named>,
    clusters: Vec<Named>,
    echo: Arc<str>,
    /// What no cluster has an endpoint for: where clients wanted to go before they were sent here.
    unknown: Named,
    /// Which listeners have a machine in front of each connection.
    fronted: Vec<bool>,
}

/// The clusters of endpoints.
#[derive(Debug, Default)]
struct Owners(HashMap<SocketAddr, Named>);

impl Owners {
    fn add(&mut self, address: SocketAddr, cluster: usize, names: &Names) {
        let added = &names.clusters[cluster];
        self.0
            .entry(address)
            // Both connect there, and a connection does not say for which it was opened.
            .and_modify(|named| named.name = format!("{},{}", named.name, added.name).into())
            .or_insert_with(|| added.clone());
    }
}

impl Names {
    fn new(plan: &Plan) -> Names {
        let listeners = plan.listeners.iter();
        let clusters = plan.clusters.iter();
        Names {
            listeners: listeners
                .map(|one| Named { name: one.name.as_str().into(), protocol: one.protocol })
                .collect(),
            clusters: clusters
                .map(|one| Named { name: one.name.as_str().into(), protocol: one.protocol })
                .collect(),
            echo: "echo".into(),
            unknown: plan.clusters.iter().find(|one| one.original_destination).map_or_else(
                || Named { name: "upstream".into(), protocol: Protocol::Bolt },
                |one| Named { name: one.name.as_str().into(), protocol: one.protocol },
            ),
            fronted: plan.listeners.iter().map(|one| one.announced.is_some()).collect(),
        }
    }

    fn view(&self, info: &ConnectionInfo, now: Time, owners: &Owners) -> ConnectionView {
        let peer = info.peer.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
        let (named, machine_bytes) = self.kind(info.listener, &peer, owners);
        ConnectionView {
            id: info.address.as_u64(),
            peer,
            direction: self.direction(info.listener),
            protocol: protocol_name(named.protocol),
            listener: named.name,
            state: State::name(info.state),
            age_ms: now.ms_since(info.opened),
            idle_ms: now.ms_since(info.last_active),
            bytes_in: info.bytes_in,
            bytes_out: info.bytes_out,
            memory_bytes: (SLOT_BYTES + machine_bytes) as u64 + u64::from(info.memory_bytes),
            requests: u64::from(info.requests),
            in_flight: u64::from(info.in_flight),
            reactor: info.reactor,
        }
    }

    fn direction(&self, listener: Option<u16>) -> Direction {
        match listener {
            None => Direction::Upstream,
            Some(listener) if usize::from(listener) < self.listeners.len() => Direction::Downstream,
            Some(_) => Direction::Echo,
        }
    }

    /// What a connection belongs to, and the size of its machine.
    fn kind(&self, listener: Option<u16>, peer: &SocketAddr, owners: &Owners) -> (Named, usize) {
        if let Some(listener) = listener {
            let Some(named) = self.listeners.get(usize::from(listener)) else {
                return (Named { name: self.echo.clone(), protocol: Protocol::Bolt }, size_of::<Echo>());
            };
            let bytes = match named.protocol {
                Protocol::Bolt => size_of::<Downstream>(),
                Protocol::Http => size_of::<HttpDownstream>(),
                Protocol::Tcp => size_of::<Tunnel>(),
            };
            let front = if self.fronted[usize::from(listener)] { size_of::<Front<Gateway>>() } else { 0 };
            return (named.clone(), bytes + front);
        }
        let known = owners.0.get(peer).cloned();
        let named = known.unwrap_or_else(|| self.unknown.clone());
        let bytes = match named.protocol {
            Protocol::Bolt => size_of::<Upstream>(),
            Protocol::Http => size_of::<HttpUpstream>(),
            Protocol::Tcp => size_of::<Tunnel>(),
        };
        (named, bytes)
    }
}

/// What the engine may spend on the slot of one connection, by the memory rule of the raw mode.
const SLOT_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use bowline_engine::machine::Address;

    use super::*;
    use crate::config::plan::ClusterPlan;
    use crate::config::plan::ListenerPlan;

    fn names() -> Names {
        let mut plan = Plan::default();
        plan.listeners.push(ListenerPlan {
            name: "tunnel".to_owned(),
            protocol: Protocol::Tcp,
            ..plan.listeners[0].clone()
        });
        plan.clusters.push(ClusterPlan::named("database", Protocol::Tcp));
        Names::new(&plan)
    }

    fn info(listener: Option<u16>, peer: Option<&str>) -> ConnectionInfo {
        ConnectionInfo {
            address: Address { index: 7, generation: 1 },
            peer: peer.map(|peer| peer.parse().expect("a test address")),
            listener,
            opened: Time::from_ms(100),
            last_active: Time::from_ms(300),
            bytes_in: 1,
            bytes_out: 2,
            memory_bytes: 4_096,
            requests: 3,
            in_flight: 4,
            state: State::Active as u8,
            reactor: 5,
        }
    }

    fn view(info: &ConnectionInfo) -> ConnectionView {
        let names = names();
        let mut owners = Owners::default();
        owners.add("10.0.0.1:1".parse().expect("an address"), 0, &names);
        owners.add("10.0.0.2:2".parse().expect("an address"), 1, &names);
        names.view(info, Time::from_ms(1_000), &owners)
    }

    #[test]
    fn a_client_is_shown_with_its_listener_and_all_figures() {
        let shown = view(&info(Some(0), Some("127.0.0.1:9")));
        let expected = ConnectionView {
            id: 1 << 32 | 7,
            peer: "127.0.0.1:9".parse().expect("an address"),
            direction: Direction::Downstream,
            protocol: "bolt",
            listener: "default".into(),
            state: "active",
            age_ms: 900,
            idle_ms: 700,
            bytes_in: 1,
            bytes_out: 2,
            memory_bytes: (SLOT_BYTES + size_of::<Downstream>()) as u64 + 4_096,
            requests: 3,
            in_flight: 4,
            reactor: 5,
        };
        assert_eq!(shown, expected);
        let tunnel = view(&info(Some(1), Some("127.0.0.1:9")));
        assert_eq!((tunnel.protocol, &*tunnel.listener), ("tcp", "tunnel"));
    }

    #[test]
    fn an_upstream_connection_is_shown_with_its_cluster() {
        let database = view(&info(None, Some("10.0.0.2:2")));
        assert_eq!((database.direction, database.protocol), (Direction::Upstream, "tcp"));
        assert_eq!(&*database.listener, "database");
        assert_eq!(&*view(&info(None, Some("10.0.0.1:1"))).listener, "echo", "the cluster of that name");
        let gone = view(&info(None, Some("10.9.9.9:9")));
        assert_eq!(&*gone.listener, "upstream", "its endpoint is no longer one of a cluster");
        assert_eq!(view(&info(None, None)).peer.port(), 0, "it is being opened");
    }

    #[test]
    fn the_embedded_upstream_has_a_listener_of_its_own() {
        let echo = view(&info(Some(2), Some("127.0.0.1:9")));
        assert_eq!((&*echo.listener, echo.protocol), ("echo", "bolt"));
    }

    #[test]
    fn an_endpoint_of_two_clusters_names_both() {
        let names = names();
        let mut owners = Owners::default();
        let address = "10.0.0.1:1".parse().expect("an address");
        (0..2).for_each(|cluster| owners.add(address, cluster, &names));
        let shown = names.view(&info(None, Some("10.0.0.1:1")), Time::ZERO, &owners);
        assert_eq!(&*shown.listener, "echo,database");
    }

    #[test]
    fn an_idle_connection_of_a_client_stays_within_the_memory_rule() {
        let idle = ConnectionInfo { memory_bytes: 0, ..info(Some(0), Some("127.0.0.1:9")) };
        assert!(view(&idle).memory_bytes <= 256);
    }
}
