//! Which findings of `bowline doctor` are worth a line in the log at start: what will bite, and what bounds the clients of
//! this configuration. They are read once and only named; the one thing that could be changed, the soft limit of
//! descriptors, was raised before. Called where the process starts.

use crate::config::plan::Plan;
use crate::doctor::demand::Demand;
use crate::doctor::examine;
use crate::doctor::facts::Facts;
use crate::doctor::subject::Finding;
use crate::doctor::subject::Grade;
use crate::doctor::subject::Subject;

/// Compares `plan` with what the machine allows, in the order of the vocabulary.
pub(super) fn findings(plan: &Plan, facts: Facts) -> Vec<Finding> {
    // Raising was tried, and has complained for itself if it failed: the soft limit is what there is.
    let descriptors = facts.descriptors.map(|(soft, _)| (soft, soft));
    let facts = Facts { descriptors, ..facts };
    let mut findings = examine(&facts, &Demand::of(plan));
    findings.retain(is_said);
    findings
}

/// Other notes are about the machine and would be said at every start of every gateway on it.
fn is_said(finding: &Finding) -> bool {
    let is_of_plan = matches!(finding.subject, Subject::Descriptors | Subject::LocalPorts);
    finding.grade == Grade::Warn || (finding.grade == Grade::Note && is_of_plan)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::cgroup::Bound;
    use crate::config::plan::ClusterPlan;
    use crate::config::plan::EndpointPlan;
    use crate::config::plan::Protocol;
    use crate::config::plan::RouteTarget;
    use crate::doctor::facts::Ports;

    fn wide() -> Facts {
        let most = Bound::Most(1 << 20);
        let ports = Ports { first: 32_768, last: 60_999, reserved: 0 };
        Facts {
            descriptors: Some((most, most)),
            backlog_max: Some(4_096),
            ports: Some(ports),
            ..Facts::default()
        }
    }

    fn with_descriptors(most: u64) -> Facts {
        Facts { descriptors: Some((Bound::Most(most), Bound::Most(1 << 20))), ..wide() }
    }

    /// One listener that leads to one tunnel.
    fn tunnel() -> Plan {
        let mut plan = Plan::default();
        let mut cluster = ClusterPlan::named("database", Protocol::Tcp);
        cluster.endpoints = vec![EndpointPlan::Address(SocketAddr::from(([10, 0, 0, 1], 5432)))];
        plan.clusters = vec![cluster];
        plan.listeners[0].protocol = Protocol::Tcp;
        plan.engine.connections_max = 60_000;
        plan
    }

    fn said(plan: &Plan, facts: &Facts) -> Vec<(Subject, Grade, String)> {
        let findings = findings(plan, facts.clone()).into_iter();
        findings.map(|finding| (finding.subject, finding.grade, finding.line())).collect()
    }

    #[test]
    fn a_machine_that_allows_it_all_is_not_warned_of() {
        assert_eq!(said(&Plan::default(), &wide()), []);
        assert_eq!(said(&Plan::default(), &Facts::default()), [], "nothing known");
    }

    #[test]
    fn each_limit_that_is_too_low_is_named_once_with_its_number() {
        let low = Facts {
            backlog_max: Some(128),
            ports: Some(Ports { first: 1, last: 1, reserved: 0 }),
            ..with_descriptors(1_024)
        };
        let said = said(&Plan::default(), &low);
        let subjects: Vec<_> = said.iter().map(|(subject, grade, _)| (*subject, *grade)).collect();
        assert_eq!(
            subjects,
            [(Subject::Descriptors, Grade::Warn), (Subject::Backlog, Grade::Warn)],
            "clients of a shared cluster need no port of their own"
        );
        let (descriptors, backlog) = (&said[0].2, &said[1].2);
        assert!(descriptors.starts_with("RLIMIT_NOFILE is 1,024: holds 960 clients, asked for 16,384"));
        assert!(descriptors.ends_with("ulimit -n 16448"), "{descriptors}");
        assert!(backlog.starts_with("net.core.somaxconn is 128: ") && backlog.contains("4,096"), "{backlog}");
    }

    #[test]
    fn too_few_descriptors_beside_the_connections_are_warned_of() {
        let warnings = |connections_max: usize| {
            let mut plan = Plan::default();
            plan.engine.connections_max = connections_max;
            said(&plan, &with_descriptors(1_024))
        };
        assert_eq!(warnings(960), [], "64 are left");
        for connections in [961, 1_024, 1_025] {
            let said = warnings(connections);
            assert!(said.len() == 1 && said[0].2.contains("holds 960 clients, asked for"), "{said:?}");
        }
    }

    #[test]
    fn a_tunnel_needs_two_descriptors_for_each_client() {
        let mut plan = tunnel();
        plan.engine.connections_max = 1_000;
        assert_eq!(said(&plan, &with_descriptors(2_064)), []);
        let said = said(&plan, &with_descriptors(2_063));
        assert_eq!(said.len(), 1);
        let line = &said[0].2;
        assert!(
            line.contains("holds 999 clients, each with 2 descriptors, since clients of default"),
            "{line}"
        );
    }

    #[test]
    fn a_tunnel_beside_another_listener_is_a_note() {
        let mut plan = tunnel();
        plan.engine.connections_max = 60_000;
        plan.clusters.push(ClusterPlan { echo: true, ..ClusterPlan::named("echo", Protocol::Bolt) });
        let target = RouteTarget { cluster: 1, timeout_ms: 1 };
        let mut second = plan.listeners[0].clone();
        (second.name, second.protocol, second.default_route) =
            ("bolt".to_owned(), Protocol::Bolt, Some(target));
        plan.listeners.push(second);
        let said = said(&plan, &with_descriptors(70_000));
        let subjects: Vec<_> = said.iter().map(|(subject, grade, _)| (*subject, *grade)).collect();
        assert_eq!(subjects, [(Subject::Descriptors, Grade::Note), (Subject::LocalPorts, Grade::Note)]);
        assert!(said[0].2.contains("holds 34,968 clients if each takes 2 descriptors"), "{said:?}");
    }

    #[test]
    fn ports_bound_clusters_where_each_client_has_its_own_connection() {
        let mut plan = tunnel();
        let ports = said(&plan, &wide());
        assert!(ports.len() == 1 && ports[0].1 == Grade::Warn, "{ports:?}");
        assert!(ports[0].2.contains("cluster database holds 28,232 clients"), "{ports:?}");
        plan.engine.connections_max = 28_232;
        assert_eq!(said(&plan, &wide()), [], "all of them fit");
        plan = tunnel();
        plan.clusters[0].endpoints.push(EndpointPlan::Name { host: "db".to_owned(), port: 1 });
        assert_eq!(said(&plan, &wide()), [], "nobody knows how many addresses it has");
    }
}
