//! The table of routes. The header of every request is walked once, since one that cannot be decoded is refused (status
//! 9) wherever it would go; the value of `service` is only compared where routes exist. Made once from the plan.

use std::collections::HashMap;

use bowline_protocols::Limits;
use bowline_protocols::bolt::Frame;
use bowline_protocols::bolt::fields;

use crate::config::plan::Plan;
use crate::config::plan::RouteTarget;
use crate::error::Failure;

/// Where a request goes, in the width that exchanges keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The cluster's position in the plan.
    pub cluster: u16,
    /// The deadline of a request that names none, in milliseconds.
    pub timeout_ms: u64,
}

/// All routes.
#[derive(Debug)]
pub struct Targets {
    services: HashMap<Box<[u8]>, Target>,
    defaults: Vec<Option<Target>>,
}

impl Targets {
    /// The routes of `plan`.
    pub fn new(plan: &Plan) -> Targets {
        let services = plan.routes.iter().map(|route| {
            let service: Box<[u8]> = route.service.as_bytes().into();
            (service, Target::from(&route.target))
        });
        let default = |target: &Option<RouteTarget>| target.as_ref().map(Target::from);
        Targets {
            services: services.collect(),
            defaults: plan.listeners.iter().map(|listener| default(&listener.default_route)).collect(),
        }
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
        let by_service = if self.services.is_empty() {
            None
        } else {
            service.and_then(|service| self.services.get(service.of(header)).copied())
        };
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
            service: service.to_owned(),
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
    fn a_header_that_cannot_be_decoded_is_refused_whatever_the_route() {
        for header in [&b"\0"[..], b"\0\0\0\x63abc", b"\0\0\0\x07service\x7f\xff\xff\xff"] {
            assert_eq!(find(&targets(true), header), Err(Failure::HeadMalformed));
        }
        let twice = fields::encode(&[("service", "com.x.A:1.0"), ("service", "com.x.B:1.0")]);
        assert_eq!(find(&targets(true), &twice), Err(Failure::HeadMalformed));
    }
}
