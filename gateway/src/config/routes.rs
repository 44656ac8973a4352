//! Routes as a file says them, read into those of Bolt and those of HTTP. Refuses what contradicts itself, what would
//! have no effect and what an earlier route hides, each at its place. Called for the topology, once clusters are known.

use std::collections::HashMap;

use crate::config::fault::Faults;
use crate::config::fault::Place;
use crate::config::http::AbortPlan;
use crate::config::http::ActionPlan;
use crate::config::http::Condition;
use crate::config::http::DelayPlan;
use crate::config::http::EditPlan;
use crate::config::http::FieldPlan;
use crate::config::http::FiltersPlan;
use crate::config::http::HostPlan;
use crate::config::http::HttpRoutePlan;
use crate::config::http::LocationPlan;
use crate::config::http::PathPlan;
use crate::config::http::Wanted;
use crate::config::http::WeightedCluster;
use crate::config::keys::default_number;
use crate::config::keys::key;
use crate::config::keys::last;
use crate::config::pattern::Pattern;
use crate::config::plan::ClusterPlan;
use crate::config::plan::Protocol;
use crate::config::plan::RoutePlan;
use crate::config::plan::RouteTarget;
use crate::config::plan::ServicePlan;
use crate::config::said::Entry;
use crate::config::url::protocol_name;
use crate::config::values;

/// The clusters that routes and listeners may name.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) clusters: &'a [ClusterPlan],
    pub(crate) positions: &'a HashMap<String, usize>,
    /// Those of which nobody can know what they speak, since what is wrong with their endpoints was said already.
    pub(crate) unclear: &'a [String],
}

impl Known<'_> {
    /// The position of the cluster `name`, which speaks `protocol`, or what is wrong with it.
    pub(crate) fn find(&self, name: &str, protocol: Protocol) -> Result<usize, String> {
        let Some(&at) = self.positions.get(name) else {
            return Err(format!("no cluster {name:?}; known: {}", self.names()));
        };
        let spoken = self.clusters[at].protocol;
        if spoken != protocol && !self.unclear.iter().any(|unclear| unclear == name) {
            let (wanted, spoken) = (protocol_name(protocol), protocol_name(spoken));
            return Err(format!("cluster {name:?} speaks {spoken}, not {wanted}"));
        }
        Ok(at)
    }

    /// The first names, for messages.
    pub(crate) fn names(&self) -> String {
        let names = self.clusters.iter().take(NAMES_MAX).map(|cluster| cluster.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    }

    fn speaks(&self, name: &str, protocol: Protocol) -> bool {
        self.positions.get(name).is_some_and(|&at| self.clusters[at].protocol == protocol)
    }
}

/// Names that one message lists.
const NAMES_MAX: usize = 20;

/// All routes, and where the first of each protocol stands.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) bolt: Vec<RoutePlan>,
    pub(crate) bolt_place: Option<Place>,
    pub(crate) http: Vec<HttpRoutePlan>,
    pub(crate) http_place: Option<Place>,
}

impl Routes {
    /// Reads them; what is wrong is added to `faults`.
    pub(crate) fn read(entries: &[Entry], known: Known<'_>, faults: &mut Faults) -> Routes {
        let mut reader = Reader { known, faults, regexes: 0, seen: HashMap::new() };
        let mut routes = Routes::default();
        for entry in entries {
            if reader.is_http(entry) {
                routes.http_place.get_or_insert_with(|| entry.place.clone());
                routes.http.push(reader.http(entry));
            } else {
                routes.bolt_place.get_or_insert_with(|| entry.place.clone());
                routes.bolt.push(reader.bolt(entry));
            }
        }
        routes
    }

    /// Whether there is one for listeners of this protocol.
    pub(crate) fn has(&self, protocol: Protocol) -> bool {
        self.place(protocol).is_some()
    }

    /// Where the first one of this protocol stands.
    pub(crate) fn place(&self, protocol: Protocol) -> Option<&Place> {
        match protocol {
            Protocol::Bolt => self.bolt_place.as_ref(),
            Protocol::Http => self.http_place.as_ref(),
            Protocol::Tcp => None,
        }
    }
}

struct Reader<'a> {
    known: Known<'a>,
    faults: &'a mut Faults,
    regexes: usize,
    /// What routes match on, and the name of the first that does.
    seen: HashMap<String, String>,
}

impl Reader<'_> {
    /// A route that names a service is of Bolt; else one key that only HTTP has, or a cluster of HTTP, decides.
    fn is_http(&self, entry: &Entry) -> bool {
        let said = |path: &'static str| entry.layer.place(path).is_some();
        let only_http = |path: &'static str| !SERVICE_KEYS.contains(&path) && !SHARED_KEYS.contains(&path);
        let cluster = entry.layer.text("routes[].cluster").map(|(name, _)| name);
        !SERVICE_KEYS.iter().any(|path| said(path))
            && (entry.layer.paths().any(only_http)
                || cluster.is_some_and(|name| self.known.speaks(name, Protocol::Http)))
    }

    fn bolt(&mut self, entry: &Entry) -> RoutePlan {
        let path = self.one_of(entry, SERVICE_KEYS);
        let service = match path {
            Some(path) => self.service(entry, path),
            None => ServicePlan::Exact(self.required(entry, SERVICE_KEYS[0])),
        };
        for path in entry.layer.paths() {
            if !SERVICE_KEYS.contains(&path) && !SHARED_KEYS.contains(&path) {
                self.fault(entry, path, "has no effect on a route of Bolt, which its service makes it");
            }
        }
        let name = self.required(entry, "routes[].cluster");
        let cluster = match entry.layer.place("routes[].cluster") {
            Some(_) => self.cluster(entry, "routes[].cluster", &name, Protocol::Bolt),
            None => 0,
        };
        let timeout_ms = number(entry, "routes[].timeout");
        RoutePlan { service, target: RouteTarget { cluster, timeout_ms } }
    }

    fn service(&mut self, entry: &Entry, path: &'static str) -> ServicePlan {
        let text = text(entry, path);
        let word = last(path);
        if let Some(first) = self.seen.insert(format!("{word} {text}"), entry.name.clone()) {
            self.fault(entry, path, &format!("{text:?} is routed by {first} already"));
        }
        match word {
            "service_prefix" => ServicePlan::Prefix(text),
            "service_regex" => match self.pattern(entry, path) {
                Some(pattern) => ServicePlan::Regex(pattern),
                None => ServicePlan::Exact(String::new()),
            },
            _ => ServicePlan::Exact(text),
        }
    }

    fn http(&mut self, entry: &Entry) -> HttpRoutePlan {
        let before = self.faults.list().len();
        let action = self.action(entry);
        let host = match entry.layer.place("routes[].host") {
            Some(_) => self.parsed(entry, "routes[].host", values::host).unwrap_or(HostPlan::Any),
            None => HostPlan::Any,
        };
        let path = self.path(entry);
        let route = HttpRoutePlan {
            host,
            methods: self.list(entry, "routes[].methods", values::method),
            fields: self.conditions(entry, "routes[].headers", values::field_condition),
            query: self.conditions(entry, "routes[].query", values::query_condition),
            timeout_ms: number(entry, "routes[].timeout"),
            rewrite_prefix: self.rewrite_prefix(entry, &path),
            rewrite_host: match entry.layer.place("routes[].rewrite_host") {
                Some(_) => self.parsed(entry, "routes[].rewrite_host", values::plain_host),
                None => None,
            },
            filters: self.filters(entry),
            path,
            action,
        };
        self.without_effect(entry, &route);
        // A value that could not be read would hide what it does not mean to.
        if self.faults.list().len() == before {
            self.hidden(entry, &route);
        }
        route
    }

    fn path(&mut self, entry: &Entry) -> PathPlan {
        let said = self.one_of(entry, &["routes[].path", "routes[].prefix", "routes[].regex"]);
        let read = said.and_then(|path| match last(path) {
            "path" => self.parsed(entry, path, values::path).map(PathPlan::Exact),
            "prefix" => self.parsed(entry, path, values::prefix).map(PathPlan::Prefix),
            _ => self.pattern(entry, path).map(PathPlan::Regex),
        });
        read.unwrap_or(PathPlan::Any)
    }

    fn action(&mut self, entry: &Entry) -> ActionPlan {
        match self.one_of(entry, ACTION_KEYS).map(last) {
            Some("clusters") => self.clusters(entry),
            Some("redirect") => self.redirect(entry),
            Some("respond_status") => self.respond(entry),
            Some(_) => {
                let path = "routes[].cluster";
                let cluster = self.cluster(entry, path, &text(entry, path), Protocol::Http);
                ActionPlan::Forward(vec![WeightedCluster { cluster, weight: 1 }])
            }
            None => {
                let message = format!(
                    "{}: leads nowhere; say cluster, clusters, redirect or respond_status",
                    entry.name
                );
                self.faults.add(entry.place.clone(), message);
                ActionPlan::Forward(Vec::new())
            }
        }
    }

    fn clusters(&mut self, entry: &Entry) -> ActionPlan {
        let path = "routes[].clusters";
        let mut clusters: Vec<WeightedCluster> = Vec::new();
        for (text, place) in entry.layer.texts(path) {
            let read = values::weight(text)
                .and_then(|(name, weight)| Ok((self.known.find(name, Protocol::Http)?, weight)));
            match read {
                Ok((cluster, _)) if clusters.iter().any(|one| one.cluster == cluster) => {
                    self.fault_at(entry, path, place, &format!("{text:?}: the cluster stands here already"));
                }
                Ok((cluster, weight)) => clusters.push(WeightedCluster { cluster, weight }),
                Err(message) => self.fault_at(entry, path, place, &message),
            }
        }
        let said = entry.layer.texts(path).len() == clusters.len();
        if said && clusters.iter().all(|one| one.weight == 0) {
            self.fault(entry, path, "no cluster has a weight above 0");
        }
        ActionPlan::Forward(clusters)
    }

    fn redirect(&mut self, entry: &Entry) -> ActionPlan {
        let path = "routes[].redirect";
        let location = self.parsed(entry, path, LocationPlan::parse);
        if location.as_ref().is_some_and(LocationPlan::has_rest) && !said(entry, "routes[].prefix") {
            self.fault(entry, path, "{rest} is what stands behind prefix, and there is none");
        }
        let status =
            text(entry, "routes[].redirect_status").parse().expect("its key lets only numbers through");
        let location = location.unwrap_or_else(|| LocationPlan::parse("/").expect("a path is a location"));
        ActionPlan::Redirect { status, location }
    }

    fn respond(&mut self, entry: &Entry) -> ActionPlan {
        let status = number(entry, "routes[].respond_status") as u16;
        let body =
            entry.layer.text("routes[].respond_body").map_or(String::new(), |(body, _)| body.to_owned());
        if body.len() > BODY_BYTES_MAX {
            self.fault(entry, "routes[].respond_body", &format!("is longer than {BODY_BYTES_MAX} bytes"));
        }
        // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
        if [204, 205, 304].contains(&status) && !body.is_empty() {
            self.fault(
                entry,
                "routes[].respond_body",
                &format!("an answer with status {status} has no content"),
            );
        }
        let content_type = text(entry, "routes[].respond_content_type");
        if let Err(message) = values::field_value(&content_type) {
            self.fault(entry, "routes[].respond_content_type", message);
        }
        ActionPlan::Respond { status, body, content_type }
    }

    fn rewrite_prefix(&mut self, entry: &Entry, path: &PathPlan) -> Option<String> {
        let key = "routes[].rewrite_prefix";
        entry.layer.place(key)?;
        match path {
            PathPlan::Exact(_) => self.parsed(entry, key, values::path),
            PathPlan::Prefix(_) => self.parsed(entry, key, values::prefix),
            PathPlan::Any | PathPlan::Regex(_) => {
                self.fault(entry, key, "has no effect without prefix or path");
                None
            }
        }
    }

    fn filters(&mut self, entry: &Entry) -> FiltersPlan {
        let percent = |path| number(entry, path) as u8;
        let delay = entry.layer.number("routes[].fault_delay");
        let delay = delay.map(|(ms, _)| DelayPlan { ms, percent: percent("routes[].fault_delay_percent") });
        let abort = entry.layer.number("routes[].fault_abort");
        let abort = abort.map(|(status, _)| AbortPlan {
            status: status as u16,
            percent: percent("routes[].fault_abort_percent"),
        });
        let [request, response] = [REQUEST_KEYS, RESPONSE_KEYS].map(|[add, set, remove]| EditPlan {
            add: self.fields(entry, add),
            set: self.fields(entry, set),
            remove: self.list(entry, remove, |text| values::field_name(text).map(str::to_owned)),
        });
        FiltersPlan { delay, abort, request, response }
    }

    fn fields(&mut self, entry: &Entry, path: &'static str) -> Vec<FieldPlan> {
        self.list(entry, path, values::field)
    }

    /// Refuses keys whose partner was not said.
    fn without_effect(&mut self, entry: &Entry, route: &HttpRoutePlan) {
        for (path, needed) in PARTNERS {
            if said(entry, path) && !said(entry, needed) {
                self.fault(entry, path, &format!("has no effect without {}", last(needed)));
            }
        }
        if matches!(route.action, ActionPlan::Forward(_)) {
            return;
        }
        for path in FORWARD_KEYS.iter().chain(&REQUEST_KEYS) {
            if said(entry, path) {
                self.fault(entry, path, "has no effect on a route that leads to no cluster");
            }
        }
    }

    /// Refuses a route that is never reached, since an earlier one takes all that it would.
    fn hidden(&mut self, entry: &Entry, route: &HttpRoutePlan) {
        let place = format!("{:?} {:?}", route.host, route.path);
        let conditions = format!("{place} {:?} {:?} {:?}", route.methods, route.fields, route.query);
        let is_open = route.methods.is_empty() && route.fields.is_empty() && route.query.is_empty();
        let first = self.seen.get(&place).or_else(|| self.seen.get(&conditions));
        if let Some(first) = first {
            let message =
                format!("{}: {first} takes the same host and path, and all that this one would", entry.name);
            self.faults.add(entry.place.clone(), message);
        } else {
            self.seen.insert(if is_open { place } else { conditions }, entry.name.clone());
        }
    }

    /// The one of these keys that was said; more than one is refused.
    fn one_of(&mut self, entry: &Entry, paths: &[&'static str]) -> Option<&'static str> {
        let mut all = paths.iter().copied().filter(|path| said(entry, path));
        let first = all.next()?;
        for other in all {
            self.fault(entry, other, &format!("cannot stand beside {}", last(first)));
        }
        Some(first)
    }

    fn parsed<T>(
        &mut self,
        entry: &Entry,
        path: &'static str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(&text(entry, path)).map_err(|message| self.fault(entry, path, &message)).ok()
    }

    fn list<T>(
        &mut self,
        entry: &Entry,
        path: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut read = Vec::new();
        for (text, place) in entry.layer.texts(path) {
            match parse(text) {
                Ok(value) => read.push(value),
                Err(message) => self.fault_at(entry, path, place, &message),
            }
        }
        read
    }

    fn conditions(
        &mut self,
        entry: &Entry,
        path: &'static str,
        parse: fn(&str) -> Result<Condition, String>,
    ) -> Vec<Condition> {
        let conditions = self.list(entry, path, parse);
        let regexes = conditions.iter().filter(|one| matches!(one.wanted, Wanted::Regex(_))).count();
        self.count_regexes(entry, path, regexes);
        conditions
    }

    fn pattern(&mut self, entry: &Entry, path: &'static str) -> Option<Pattern> {
        self.count_regexes(entry, path, 1);
        self.parsed(entry, path, Pattern::new)
    }

    /// Each costs memory in every thread, so their sum is bounded.
    fn count_regexes(&mut self, entry: &Entry, path: &'static str, more: usize) {
        let before = self.regexes;
        self.regexes += more;
        if before <= REGEXES_MAX && self.regexes > REGEXES_MAX {
            self.fault(entry, path, &format!("the file has more than {REGEXES_MAX} regular expressions"));
        }
    }

    fn cluster(&mut self, entry: &Entry, path: &'static str, name: &str, protocol: Protocol) -> usize {
        self.known.find(name, protocol).unwrap_or_else(|message| {
            self.fault(entry, path, &message);
            0
        })
    }

    fn required(&mut self, entry: &Entry, path: &'static str) -> String {
        if let Some((text, _)) = entry.layer.text(path) {
            return text.to_owned();
        }
        self.faults.add(entry.place.clone(), format!("{}.{}: is missing", entry.name, last(path)));
        String::new()
    }

    fn fault(&mut self, entry: &Entry, path: &'static str, message: &str) {
        self.fault_at(entry, path, &entry.place_of(path), message);
    }

    fn fault_at(&mut self, entry: &Entry, path: &'static str, place: &Place, message: &str) {
        self.faults.add(place.clone(), format!("{}.{}: {message}", entry.name, last(path)));
    }
}

fn said(entry: &Entry, path: &'static str) -> bool {
    entry.layer.place(path).is_some()
}

fn text(entry: &Entry, path: &'static str) -> String {
    entry.layer.text(path).map_or(key(path).default, |(text, _)| text).to_owned()
}

fn number(entry: &Entry, path: &'static str) -> u64 {
    entry.layer.number(path).map_or_else(|| default_number(path), |(number, _)| number)
}

/// What makes a route one of Bolt.
const SERVICE_KEYS: &[&str] = &["routes[].service", "routes[].service_prefix", "routes[].service_regex"];
/// What both protocols have.
const SHARED_KEYS: &[&str] = &["routes[].cluster", "routes[].timeout"];
/// What an HTTP route does: one of these.
const ACTION_KEYS: &[&str] =
    &["routes[].cluster", "routes[].clusters", "routes[].redirect", "routes[].respond_status"];
/// What only a request to a cluster has, beside edits of its head.
const FORWARD_KEYS: &[&str] = &["routes[].timeout", "routes[].rewrite_prefix", "routes[].rewrite_host"];
const REQUEST_KEYS: [&str; 3] =
    ["routes[].request_headers_add", "routes[].request_headers_set", "routes[].request_headers_remove"];
const RESPONSE_KEYS: [&str; 3] =
    ["routes[].response_headers_add", "routes[].response_headers_set", "routes[].response_headers_remove"];
/// Keys that mean nothing without another.
const PARTNERS: &[(&str, &str)] = &[
    ("routes[].redirect_status", "routes[].redirect"),
    ("routes[].respond_body", "routes[].respond_status"),
    ("routes[].respond_content_type", "routes[].respond_body"),
    ("routes[].fault_delay_percent", "routes[].fault_delay"),
    ("routes[].fault_abort_percent", "routes[].fault_abort"),
];
/// Of all routes together.
const REGEXES_MAX: usize = 1_000;
/// Of a direct response, which is kept in memory.
const BODY_BYTES_MAX: usize = 64 << 10;
