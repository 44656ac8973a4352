//! The table of Bolt routes: an exact service first, then the longest prefix, then expressions in the order of the file. The header of every request is walked once, since one that cannot be decoded is refused (status
//! 9) wherever it would go; the value of `service` is only compared where routes exist. Made once from the plan.

use std::collections::HashMap;

use bowline_protocols::Limits;
use bowline_protocols::bolt::Frame;
use bowline_protocols::bolt::fields;

use crate::config::pattern::Pattern;
use crate::config::plan::Plan;
use crate::config::plan::RouteTarget;
use crate::config::plan::ServicePlan;
use crate::error::Failure;
use crate::route::prefixes::Prefixes;

/// Where a request goes, in the width that exchanges keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The cluster's position in the plan.
    pub cluster: u16,
    /// The deadline of a request that names none, in milliseconds.
    pub timeout_ms: u64,
}

/// All routes of Bolt.
#[derive(Debug)]
pub struct Targets {
    exact: HashMap<Box<[u8]>, Target>,
    prefixes: Prefixes<Target>,
    patterns: Vec<(Pattern, Target)>,
    defaults: Vec<Option<Target>>,
    has_routes: bool,
}

impl Targets {
    /// The routes of `plan`.
    pub fn new(plan: &Plan) -> Targets {
        let (mut exact, mut prefixes, mut patterns) = (HashMap::new(), Vec::new(), Vec::new());
        for route in &plan.routes {
            let target = Target::from(&route.target);
            match &route.service {
                ServicePlan::Exact(text) => drop(exact.insert(Box::from(text.as_bytes()), target)),
                ServicePlan::Prefix(text) => prefixes.push((Box::from(text.as_bytes()), target)),
                ServicePlan::Regex(pattern) => patterns.push((pattern.clone(), target)),
            }
        }
        let default = |target: &Option<RouteTarget>| target.as_ref().map(Target::from);
        Targets {
            exact,
            prefixes: Prefixes::new(prefixes),
            patterns,
            defaults: plan.listeners.iter().map(|listener| default(&listener.default_route)).collect(),
            has_routes: !plan.routes.is_empty(),
        }
    }

    fn of_service(&self, service: &[u8]) -> Option<Target> {
        let exact = self.exact.get(service).copied();
        let longest = || self.prefixes.of(service).next().map(|(_, target)| *target);
        let first = || self.patterns.iter().find(|(one, _)| one.is_match(service)).map(|(_, target)| *target);
        exact.or_else(longest).or_else(first)
    }

    /// Where everything of `listener` goes that no route matches.
    pub fn default_of(&self, listener: u16) -> Option<Target> {
        self.defaults.get(usize::from(listener)).copied().flatten()
    }

    /// Where the request `frame`, the start of `bytes`, goes.
    pub fn find(
        &self,
        listener: u16,
        frame: &Frame,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Target, Failure> {
        if frame.head_fault().is_some() {
            return Err(Failure::HeadTooLarge);
        }
        let header = frame.header.of(bytes);
        let service = fields::find(header, SERVICE, limits.header_fields_max);
        let service = service.map_err(|_| Failure::HeadMalformed)?;
        let service = service.filter(|_| self.has_routes);
        let by_service = service.and_then(|service| self.of_service(service.of(header)));
        by_service.or_else(|| self.default_of(listener)).ok_or(Failure::NoRoute)
    }
}

impl From<&RouteTarget> for Target {
    fn from(target: &RouteTarget) -> Target {
        let cluster = u16::try_from(target.cluster).expect("the plan holds fewer clusters than 65,536");
        Target { cluster, timeout_ms: target.timeout_ms }
    }
}

/// The header that names the service.
pub const SERVICE: &[u8] = b"service";

#[cfg(test)]
mod tests {
    use bowline_protocols::bolt::{Decoded, RequestParts, Version, decode, encode_request};

    use super::*;
    use crate::config::plan::RoutePlan;

    fn targets(default: bool) -> Targets {
        let mut plan = Plan::default();
        let route = |service: &str, cluster| RoutePlan {
            service: ServicePlan::Exact(service.to_owned()),
            target: RouteTarget { cluster, timeout_ms: 5 },
        };
        plan.routes = vec![route("com.x.A:1.0", 1), route("com.x.B:1.0", 2)];
        if !default {
            plan.listeners[0].default_route = None;
        }
        Targets::new(&plan)
    }

    fn find(targets: &Targets, header: &[u8]) -> Result<u16, Failure> {
        let parts = RequestParts {
            version: Version::V1,
            oneway: false,
            id: 1,
            codec: 1,
            timeout_ms: -1,
            crc: false,
            class: b"c",
            header,
            content: b"",
        };
        let mut bytes = Vec::new();
        encode_request(&parts, &mut bytes).expect("it is short");
        let limits = Limits::default();
        let Ok(Decoded::Frame(frame)) = decode(&bytes, &limits) else { panic!("a whole frame") };
        targets.find(0, &frame, &bytes, &limits).map(|target| target.cluster)
    }

    #[test]
    fn the_service_decides_exactly_and_then_the_default() {
        let header = |service| fields::encode(&[("a", "b"), ("service", service)]);
        let with = targets(true);
        assert_eq!(find(&with, &header("com.x.A:1.0")), Ok(1));
        assert_eq!(find(&with, &header("com.x.B:1.0")), Ok(2));
        for other in ["com.x.a:1.0", "com.x.A:1.0 ", ""] {
            assert_eq!(find(&with, &header(other)), Ok(0));
            assert_eq!(find(&targets(false), &header(other)), Err(Failure::NoRoute));
        }
        assert_eq!(find(&with, b""), Ok(0), "a bare client sends no header");
        assert_eq!(find(&targets(false), b""), Err(Failure::NoRoute));
    }

    #[test]
    fn an_exact_service_stands_over_prefixes_and_those_over_expressions() {
        let mut plan = Plan::default();
        let route = |service, cluster| RoutePlan { service, target: RouteTarget { cluster, timeout_ms: 5 } };
        let pattern = |text: &str| ServicePlan::Regex(Pattern::new(text).expect("an expression"));
        let text = str::to_owned;
        plan.routes = vec![
            route(pattern("com\\.x\\..*"), 1),
            route(ServicePlan::Prefix(text("com.x.O")), 2),
            route(ServicePlan::Prefix(text("com.x.Order")), 3),
            route(ServicePlan::Exact(text("com.x.Order:1.0")), 4),
            route(pattern("com.x.S.*"), 5),
        ];
        let targets = Targets::new(&plan);
        let cases = [
            ("com.x.Order:1.0", 4),
            ("com.x.Order:2.0", 3),
            ("com.x.Offer:1.0", 2),
            ("com.x.Stock:1.0", 1),
            ("com_x.Stock:1.0", 5),
            ("my.com.x.Stock:1.0", 0),
        ];
        for (service, cluster) in cases {
            assert_eq!(find(&targets, &fields::encode(&[("service", service)])), Ok(cluster), "{service}");
        }
    }

    #[test]
    fn a_header_that_cannot_be_decoded_is_refused_whatever_the_route() {
        for header in [&b"\0"[..], b"\0\0\0\x63abc", b"\0\0\0\x07service\x7f\xff\xff\xff"] {
            assert_eq!(find(&targets(true), header), Err(Failure::HeadMalformed));
        }
        let twice = fields::encode(&[("service", "com.x.A:1.0"), ("service", "com.x.B:1.0")]);
        assert_eq!(find(&targets(true), &twice), Err(Failure::HeadMalformed));
    }
}
