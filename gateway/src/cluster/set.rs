//! The endpoints of a cluster, replaceable while workers use them.
//!
//! Workers compare a generation (one load) and fetch the set only when it changed. An endpoint that stays keeps its
//! counters; one that goes is marked, so that its connections end when their requests have.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_engine::machine::Open;
use bowline_engine::time::Time;

use crate::config::plan::Balance;
use crate::config::plan::ClusterPlan;
use crate::config::plan::EndpointPlan;

use super::budget::RetryBudget;
use super::endpoint::{Bounds, Endpoint};
use super::maglev::Maglev;

/// One cluster, shared by all workers.
#[derive(Debug)]
pub struct Cluster {
    plan: ClusterPlan,
    generation: AtomicU64,
    members: Mutex<Members>,
    /// Held while new members are made, which takes milliseconds for a table of keys; workers never wait for it.
    changes: Mutex<()>,
    next_source: AtomicUsize,
    budget: RetryBudget,
}

/// The endpoints at one moment, and where keys lead to among them.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    pub(super) endpoints: Arc<[Arc<Endpoint>]>,
    /// Only where endpoints are chosen by hash.
    pub(super) maglev: Option<Arc<Maglev>>,
}

/// An endpoint as the admin interface and tests see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// Where it is.
    pub address: SocketAddr,
    /// Requests in flight.
    pub requests: usize,
    /// Bytes queued and not written.
    pub output_bytes: usize,
    /// False while it is left alone because it could not be reached.
    pub is_usable: bool,
}

impl Cluster {
    /// The cluster of `plan`, with those of its endpoints that are addresses; names come by [`Cluster::set_endpoints`].
    pub fn new(plan: &ClusterPlan) -> Cluster {
        let cluster = Cluster {
            plan: plan.clone(),
            generation: AtomicU64::new(0),
            members: Mutex::default(),
            changes: Mutex::default(),
            next_source: AtomicUsize::new(0),
            budget: RetryBudget::new(plan),
        };
        let addresses = plan.endpoints.iter().filter_map(|endpoint| match endpoint {
            EndpointPlan::Address(address) => Some(*address),
            EndpointPlan::Name { .. } => None,
        });
        cluster.set_endpoints(&addresses.collect::<Vec<_>>());
        cluster
    }

    /// How it was configured.
    pub fn plan(&self) -> &ClusterPlan {
        &self.plan
    }

    /// How often what failed may be tried again.
    pub fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// Changes whenever the endpoints do.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The endpoints now.
    pub fn endpoints(&self) -> Arc<[Arc<Endpoint>]> {
        self.members().endpoints
    }

    /// The endpoints now, and where keys lead to.
    pub(super) fn members(&self) -> Members {
        self.lock_members().clone()
    }

    fn lock_members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How its endpoint at `to` is connected to: from the next of the configured addresses that can reach it.
    pub fn open(&self, to: SocketAddr) -> Open {
        let sources = &self.plan.source_addresses;
        let mut fitting = sources.iter().filter(|source| source.is_ipv4() == to.is_ipv4());
        let turn = || self.next_source.fetch_add(1, Ordering::Relaxed);
        let count = if sources.is_empty() { 0 } else { fitting.clone().count() };
        let from: Option<IpAddr> = if count == 0 { None } else { fitting.nth(turn() % count).copied() };
        Open { from, ..Open::new(to, self.plan.connect_timeout_ms) }
    }

    /// Replaces the endpoints; duplicates count once.
    pub fn set_endpoints(&self, addresses: &[SocketAddr]) {
        let _one_at_a_time = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoints = self.endpoints();
        let mut next: Vec<Arc<Endpoint>> = Vec::with_capacity(addresses.len());
        for address in addresses {
            if next.iter().any(|endpoint| endpoint.address() == *address) {
                continue;
            }
            let known = endpoints.iter().find(|endpoint| endpoint.address() == *address);
            next.push(known.cloned().unwrap_or_else(|| Arc::new(Endpoint::new(*address, self.bounds()))));
        }
        for old in endpoints.iter() {
            old.set_removed(!next.iter().any(|endpoint| Arc::ptr_eq(endpoint, old)));
        }
        let addresses: Vec<_> = next.iter().map(|endpoint| endpoint.address()).collect();
        let maglev = (self.plan.balance == Balance::Hash).then(|| Arc::new(Maglev::new(&addresses)));
        let next = Members { endpoints: next.into(), maglev };
        let before = std::mem::replace(&mut *self.lock_members(), next);
        drop(before);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The endpoint at `address`; one that is no longer in the set gets counters of its own.
    pub fn endpoint_at(&self, address: SocketAddr) -> Arc<Endpoint> {
        let known = self.endpoints().iter().find(|endpoint| endpoint.address() == address).cloned();
        known.unwrap_or_else(|| {
            let endpoint = Endpoint::new(address, self.bounds());
            endpoint.set_removed(true);
            Arc::new(endpoint)
        })
    }

    /// What is known about the endpoints.
    pub fn views(&self, now: Time) -> Vec<EndpointView> {
        let view = |endpoint: &Arc<Endpoint>| EndpointView {
            address: endpoint.address(),
            requests: endpoint.requests(),
            output_bytes: endpoint.output_bytes(),
            is_usable: endpoint.is_usable(now),
        };
        self.endpoints().iter().map(view).collect()
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            requests_max: self.plan.requests_max,
            output_bytes_max: self.plan.upstream_output_bytes_max,
            reconnect_ms_min: self.plan.reconnect_ms_min,
            reconnect_ms_max: self.plan.reconnect_ms_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Protocol;

    #[test]
    fn an_endpoint_that_stays_keeps_its_counters_and_one_that_goes_is_marked() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut plan = ClusterPlan::named("a", Protocol::Bolt);
        plan.endpoints = vec![EndpointPlan::Address(address(1)), EndpointPlan::Address(address(2))];
        let cluster = Cluster::new(&plan);
        let (before, generation) = (cluster.endpoints(), cluster.generation());
        cluster.set_endpoints(&[address(2), address(3), address(2)]);
        let after = cluster.endpoints();
        assert_ne!(cluster.generation(), generation);
        assert_eq!(after.len(), 2);
        assert!(Arc::ptr_eq(&before[1], &after[0]));
        assert!(before[0].is_removed() && !after[0].is_removed());
        assert!(cluster.endpoint_at(address(1)).is_removed());
        assert!(Arc::ptr_eq(&cluster.endpoint_at(address(3)), &after[1]));
    }

    #[test]
    fn connections_are_made_from_the_addresses_that_fit_in_turn() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut plan = ClusterPlan::named("a", Protocol::Tcp);
        let from = |cluster: &Cluster, to: &str| cluster.open(SocketAddr::new(ip(to), 80)).from;
        assert_eq!(from(&Cluster::new(&plan), "10.0.0.1"), None);
        plan.source_addresses = vec![ip("10.0.0.8"), ip("10.0.0.9")];
        let cluster = Cluster::new(&plan);
        let seen = [(); 3].map(|()| from(&cluster, "10.0.0.1"));
        assert_eq!(seen, ["10.0.0.8", "10.0.0.9", "10.0.0.8"].map(|text| Some(ip(text))));
        assert_eq!(from(&cluster, "2001:db8::1"), None, "the system chooses where none fits");
    }
}
