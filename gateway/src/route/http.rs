//! The table of HTTP routes: which one a head belongs to, and what it says of it. The most particular host goes first;
//! within it an exact path, then the longest prefix, then expressions in the order of the file, then routes of any
//! path; routes that are alike in this go in the order of the file. A route whose conditions do not hold is passed by,
//! also for a less particular host. Made once from the plan; called by the machines of HTTP connections.

use std::collections::BTreeMap;
use std::collections::HashMap;

use bowline_protocols::http::FieldError;
use bowline_protocols::http::HttpHead;

use crate::config::http::ActionPlan;
use crate::config::http::HttpRoutePlan;
use crate::config::http::LocationPlan;
use crate::config::http::PathPlan;
use crate::config::http::WeightedCluster;
use crate::config::pattern::Pattern;
use crate::config::plan::Plan;
use crate::config::plan::Protocol;
use crate::config::plan::RouteTarget;
use crate::filter::Chain;
use crate::route::conditions::Conditions;
use crate::route::host::Hosts;
use crate::route::location;
use crate::route::prefixes::Prefixes;

/// All routes of HTTP, and the default of each listener behind them.
#[derive(Debug)]
pub struct HttpRoutes {
    routes: Vec<HttpRoute>,
    hosts: Hosts<Paths>,
    defaults: Vec<Option<u16>>,
}

/// One route.
#[derive(Debug)]
pub struct HttpRoute {
    /// What happens to the request.
    pub action: HttpAction,
    /// The deadline of the request, in milliseconds.
    pub timeout_ms: u64,
    /// The filters that its requests and responses pass.
    pub filters: Chain,
    conditions: Conditions,
    path: Matched,
    rewrite_prefix: Option<Box<[u8]>>,
    rewrite_host: Option<Box<[u8]>>,
}

/// What happens to a request.
#[derive(Debug)]
pub enum HttpAction {
    /// It goes to one of these clusters: [`HttpRoute::cluster`] says which.
    Forward(Weighted),
    /// The client is sent to where [`HttpRoute::location`] says.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Where.
        location: LocationPlan,
    },
    /// It is answered with this.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The content; a client that asked with HEAD gets its length alone.
        body: Box<[u8]>,
        /// What the content is.
        content_type: Box<str>,
    },
}

/// Clusters that share requests by weight.
#[derive(Debug)]
pub struct Weighted {
    /// Each cluster, and the sum of the weights up to its own.
    sums: Box<[(u64, u16)]>,
}

/// How the path of a request was found, for rewrites.
#[derive(Debug)]
enum Matched {
    /// As a whole.
    Whole,
    /// By this prefix; the one of all paths is empty.
    Prefix(Box<[u8]>),
    /// By nothing that could be replaced.
    Other,
}

impl HttpRoutes {
    /// The routes of `plan`.
    pub fn new(plan: &Plan) -> HttpRoutes {
        let mut routes: Vec<HttpRoute> = plan.http.routes.iter().map(HttpRoute::new).collect();
        let mut hosts: Hosts<PathsDraft> = Hosts::default();
        for (at, route) in plan.http.routes.iter().enumerate() {
            hosts.entry(&route.host).add(&route.path, index(at));
        }
        let mut defaults = Vec::new();
        for listener in &plan.listeners {
            let target = listener.default_route.filter(|_| listener.protocol == Protocol::Http);
            defaults.push(target.map(|target| {
                routes.push(HttpRoute::of_default(target));
                index(routes.len() - 1)
            }));
        }
        HttpRoutes { routes, hosts: hosts.map(PathsDraft::finish), defaults }
    }

    /// The route of the request `head` that came to `listener`, and its position.
    pub fn find(&self, listener: u16, head: &HttpHead) -> Option<(u16, &HttpRoute)> {
        let holds = |at: &u16| self.routes[usize::from(*at)].conditions.hold(head);
        let routed = self.hosts.find(head.authority(), |paths| paths.find(head.path(), &holds));
        let default = || self.defaults.get(usize::from(listener)).copied().flatten();
        let at = routed.or_else(default)?;
        Some((at, self.route(at)))
    }

    /// The route at a position that [`HttpRoutes::find`] gave.
    pub fn route(&self, index: u16) -> &HttpRoute {
        &self.routes[usize::from(index)]
    }
}

impl HttpRoute {
    fn new(plan: &HttpRoutePlan) -> HttpRoute {
        let bytes = |text: &Option<String>| text.as_ref().map(|text| Box::from(text.as_bytes()));
        HttpRoute {
            action: HttpAction::of(&plan.action),
            timeout_ms: plan.timeout_ms,
            filters: Chain::of(&plan.filters),
            conditions: Conditions::of(plan),
            path: match &plan.path {
                PathPlan::Exact(_) => Matched::Whole,
                PathPlan::Prefix(prefix) => Matched::Prefix(trimmed(prefix).into()),
                PathPlan::Any | PathPlan::Regex(_) => Matched::Other,
            },
            rewrite_prefix: bytes(&plan.rewrite_prefix),
            rewrite_host: bytes(&plan.rewrite_host),
        }
    }

    fn of_default(target: RouteTarget) -> HttpRoute {
        let only = WeightedCluster { cluster: target.cluster, weight: 1 };
        let plan = HttpRoutePlan::to(ActionPlan::Forward(vec![only]));
        HttpRoute::new(&HttpRoutePlan { timeout_ms: target.timeout_ms, ..plan })
    }

    /// The cluster of a request, by a random number; none if the request goes to none.
    pub fn cluster(&self, random: u64) -> Option<u16> {
        match &self.action {
            HttpAction::Forward(clusters) => Some(clusters.pick(random)),
            HttpAction::Redirect { .. } | HttpAction::Respond { .. } => None,
        }
    }

    /// Makes the head of a request of this route what the upstream shall see. Where nothing may be changed so, nothing is.
    /// `room` is empty before and after.
    pub fn rewrite(&self, head: &mut HttpHead, room: &mut Vec<u8>) -> Result<(), FieldError> {
        if let Some(to) = &self.rewrite_prefix
            && head.path().starts_with(b"/")
        {
            let done =
                self.write_rewritten(to, head.path(), room).and_then(|()| head.set_path_and_query(room));
            room.clear();
            done?;
        }
        if let Some(host) = &self.rewrite_host {
            head.set_authority(host)?;
        }
        Ok(())
    }

    /// Adds the path with `to` in place of what was matched to `out`.
    fn write_rewritten(&self, to: &[u8], path: &[u8], out: &mut Vec<u8>) -> Result<(), FieldError> {
        let rest = match &self.path {
            Matched::Whole | Matched::Other => &[],
            Matched::Prefix(prefix) => path.strip_prefix(&prefix[..]).ok_or(FieldError)?,
        };
        // The new prefix may be all of the path, whose slash the rest begins with.
        out.extend_from_slice(if rest.is_empty() { to } else { to.strip_suffix(b"/").unwrap_or(to) });
        out.extend_from_slice(rest);
        Ok(())
    }

    /// Adds where the client is sent to `out`. Nothing is added where there is no such place: the route redirects nobody,
    /// or the request lacks what the place is made of.
    pub fn location(&self, head: &HttpHead, out: &mut Vec<u8>) -> Result<(), FieldError> {
        let HttpAction::Redirect { location, .. } = &self.action else { return Err(FieldError) };
        let matched = match &self.path {
            Matched::Prefix(prefix) => &prefix[..],
            Matched::Whole | Matched::Other => &[],
        };
        location::write(location, head, matched, out)
    }
}

impl HttpAction {
    fn of(plan: &ActionPlan) -> HttpAction {
        match plan {
            ActionPlan::Forward(clusters) => HttpAction::Forward(Weighted::of(clusters)),
            ActionPlan::Redirect { status, location } => {
                HttpAction::Redirect { status: *status, location: location.clone() }
            }
            ActionPlan::Respond { status, body, content_type } => HttpAction::Respond {
                status: *status,
                body: body.as_bytes().into(),
                content_type: content_type.as_str().into(),
            },
        }
    }
}

impl Weighted {
    fn of(clusters: &[WeightedCluster]) -> Weighted {
        let mut sum = 0;
        let sums: Box<[_]> = clusters
            .iter()
            .filter(|one| one.weight > 0)
            .map(|one| {
                sum += u64::from(one.weight);
                (sum, index(one.cluster))
            })
            .collect();
        assert!(!sums.is_empty(), "the loader wants a cluster with a weight");
        Weighted { sums }
    }

    /// The cluster that a random number falls to.
    pub fn pick(&self, random: u64) -> u16 {
        let (sum, _) = *self.sums.last().expect("it was not empty when it was made");
        let point = ((u128::from(random) * u128::from(sum)) >> 64) as u64;
        self.sums[self.sums.partition_point(|(below, _)| *below <= point)].1
    }
}

/// The routes of one host by path; those of one place in the order of the file.
#[derive(Debug)]
struct Paths {
    exact: HashMap<Box<[u8]>, Vec<u16>>,
    prefixes: Prefixes<Vec<u16>>,
    patterns: Vec<(Pattern, u16)>,
    any: Vec<u16>,
}

impl Paths {
    fn find(&self, path: &[u8], holds: &impl Fn(&u16) -> bool) -> Option<u16> {
        let first = |routes: &Vec<u16>| routes.iter().copied().find(|at| holds(at));
        let ends_a_segment = |prefix: &[u8]| matches!(path.get(prefix.len()), None | Some(b'/'));
        let by_prefix = || {
            let prefixes = self.prefixes.of(path).filter(|(prefix, _)| ends_a_segment(prefix));
            prefixes.map(|(_, routes)| routes).find_map(first)
        };
        let by_pattern = || {
            let mut matching = self.patterns.iter().filter(|(one, at)| holds(at) && one.is_match(path));
            matching.next().map(|(_, at)| *at)
        };
        let exact = self.exact.get(path).and_then(first);
        exact.or_else(by_prefix).or_else(by_pattern).or_else(|| first(&self.any))
    }
}

/// The same while routes are added.
#[derive(Debug, Default)]
struct PathsDraft {
    exact: HashMap<Box<[u8]>, Vec<u16>>,
    prefixes: BTreeMap<Box<[u8]>, Vec<u16>>,
    patterns: Vec<(Pattern, u16)>,
    any: Vec<u16>,
}

impl PathsDraft {
    fn add(&mut self, path: &PathPlan, at: u16) {
        match path {
            PathPlan::Exact(path) => self.exact.entry(path.as_bytes().into()).or_default().push(at),
            // It takes every path, so it would hide all expressions.
            PathPlan::Prefix(prefix) if prefix == "/" => self.any.push(at),
            PathPlan::Prefix(prefix) => self.prefixes.entry(prefix.as_bytes().into()).or_default().push(at),
            PathPlan::Regex(pattern) => self.patterns.push((pattern.clone(), at)),
            PathPlan::Any => self.any.push(at),
        }
    }

    fn finish(self) -> Paths {
        let PathsDraft { exact, prefixes, patterns, any } = self;
        Paths { exact, prefixes: Prefixes::new(prefixes), patterns, any }
    }
}

/// A prefix as it is taken off: that of all paths takes nothing off.
fn trimmed(prefix: &str) -> &[u8] {
    prefix.strip_suffix('/').unwrap_or(prefix).as_bytes()
}

fn index(at: usize) -> u16 {
    u16::try_from(at).expect("the configuration holds fewer routes, listeners and clusters than 65,536")
}

#[cfg(test)]
mod tests;
