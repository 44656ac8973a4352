//! The endpoints of clusters that have names: what stands as an address in the plan, and the last answer for each name,
//! in the order of the plan. The resolver's thread publishes answers here and the cluster gets the whole list.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::config::plan::ClusterPlan;
use crate::config::plan::EndpointPlan;
use crate::config::plan::Plan;
use crate::resolve::Job;

/// Which addresses stand for which entry of which cluster.
#[derive(Debug)]
pub(super) struct Names {
    clusters: Mutex<Vec<Vec<Vec<SocketAddr>>>>,
}

impl Names {
    /// What is known before anything was looked up.
    pub(super) fn new(plan: &Plan) -> Names {
        let known = |endpoint: &EndpointPlan| match endpoint {
            EndpointPlan::Address(address) => vec![*address],
            EndpointPlan::Name { .. } => Vec::new(),
        };
        let cluster = |cluster: &ClusterPlan| cluster.endpoints.iter().map(known).collect();
        Names { clusters: Mutex::new(plan.clusters.iter().map(cluster).collect()) }
    }

    /// Takes an answer; `entry` is the position among the cluster's endpoints. Returns all addresses of the cluster.
    pub(super) fn answer(&self, cluster: usize, entry: usize, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = &mut clusters[cluster];
        entries[entry] = addresses;
        entries.iter().flatten().copied().collect()
    }
}

/// A lookup for each name of `plan`.
pub(super) fn jobs(plan: &Plan) -> Vec<Job> {
    let clusters = plan.clusters.iter().enumerate();
    clusters.flat_map(|(at, cluster)| jobs_of(at, cluster)).collect()
}

fn jobs_of(at: usize, cluster: &ClusterPlan) -> impl Iterator<Item = Job> {
    let interval = Duration::from_millis(cluster.resolve_interval_ms);
    cluster.endpoints.iter().enumerate().filter_map(move |(entry, endpoint)| match endpoint {
        EndpointPlan::Address(_) => None,
        EndpointPlan::Name { host, port } => {
            Some(Job { cluster: at, name: entry, host: host.clone(), port: *port, interval })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Protocol;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn plan() -> Plan {
        let name = |host: &str| EndpointPlan::Name { host: host.to_owned(), port: 80 };
        let mut cluster = ClusterPlan::named("a", Protocol::Bolt);
        cluster.endpoints = vec![name("first"), EndpointPlan::Address(address(5)), name("last")];
        cluster.resolve_interval_ms = 700;
        Plan { clusters: vec![ClusterPlan::named("none", Protocol::Bolt), cluster], ..Plan::default() }
    }

    #[test]
    fn every_name_is_a_job_under_its_position() {
        let said: Vec<_> = jobs(&plan()).into_iter().map(|job| (job.cluster, job.name, job.host)).collect();
        assert_eq!(said, [(1, 0, "first".to_owned()), (1, 2, "last".to_owned())]);
        assert!(jobs(&plan()).iter().all(|job| job.interval == Duration::from_millis(700) && job.port == 80));
        assert!(jobs(&Plan::default()).is_empty());
    }

    #[test]
    fn a_cluster_is_its_addresses_and_the_last_answers_of_all_its_names() {
        let names = Names::new(&plan());
        assert_eq!(names.answer(1, 2, vec![address(9)]), [address(5), address(9)]);
        assert_eq!(names.answer(1, 0, vec![address(1), address(2)]), [1, 2, 5, 9].map(address));
        assert_eq!(names.answer(1, 0, vec![address(3)]), [3, 5, 9].map(address));
    }
}
