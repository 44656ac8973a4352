//! Listeners, routes and clusters with every name resolved to a position. `--listen` and `--upstream` stand over the
//! addresses of the file where it is plain which are meant, and are refused where it is not. Called by the loader.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::config::fault::Faults;
use crate::config::fault::Place;
use crate::config::http::HttpRoutePlan;
use crate::config::keys::default_number;
use crate::config::keys::key;
use crate::config::keys::last;
use crate::config::plan::Balance;
use crate::config::plan::ClusterPlan;
use crate::config::plan::EndpointPlan;
use crate::config::plan::ListenerPlan;
use crate::config::plan::Protocol;
use crate::config::plan::RoutePlan;
use crate::config::plan::RouteTarget;
use crate::config::plan::TlsRoutePlan;
use crate::config::plan::UpstreamMode;
use crate::config::routes::Known;
use crate::config::routes::Routes;
use crate::config::said::Entry;
use crate::config::said::File;
use crate::config::said::Flags;
use crate::config::said::Item;
use crate::config::said::LISTEN_FLAG;
use crate::config::said::Layer;
use crate::config::said::UPSTREAM_FLAG;
use crate::config::streams;
use crate::config::url::Url;
use crate::config::url::protocol_name;

/// Where traffic comes from and goes to.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) listeners: Vec<ListenerPlan>,
    /// Where the address of each listener was said.
    pub(crate) places: Vec<String>,
    pub(crate) routes: Vec<RoutePlan>,
    pub(crate) tls_routes: Vec<TlsRoutePlan>,
    pub(crate) http_routes: Vec<HttpRoutePlan>,
    pub(crate) clusters: Vec<ClusterPlan>,
}

impl Topology {
    /// Resolves what flags and file say; what is wrong is added to `faults`. `admin` is where nobody else can listen.
    pub(crate) fn of(flags: &Flags, file: &File, admin: Option<SocketAddr>, faults: &mut Faults) -> Topology {
        let before = faults.list().len();
        let (clusters, positions, unclear) = (Vec::new(), HashMap::new(), Vec::new());
        let mut builder = Builder { flags, file, admin, before, faults, clusters, positions, unclear };
        builder.clusters();
        let routes = builder.routes();
        let tls_routes = builder.tls_routes();
        let (listeners, places): (Vec<_>, Vec<_>) = builder.listeners(&routes).into_iter().unzip();
        for protocol in [Protocol::Bolt, Protocol::Http] {
            let spoken = listeners.iter().any(|listener| listener.protocol == protocol);
            if let Some(place) = routes.place(protocol).filter(|_| !spoken) {
                let word = protocol_name(protocol);
                let message = format!("routes: have no effect since no listener speaks {word}");
                builder.faults.add(place.clone(), message);
            }
        }
        if !tls_routes.is_empty() && listeners.iter().all(|listener| listener.passthrough.is_none()) {
            let place = file.tls_routes.first().map_or(Place::Machine, |route| route.place.clone());
            builder.faults.add(place, "tls_routes: have no effect since no listener has tls_passthrough");
        }
        builder.leave_out_unused_echo(&listeners);
        let places = places.iter().map(said_at).collect();
        Topology {
            listeners,
            places,
            routes: routes.bolt,
            tls_routes,
            http_routes: routes.http,
            clusters: builder.clusters,
        }
    }
}

/// The place of a listener's address as messages name it.
fn said_at(place: &Place) -> String {
    match place {
        Place::Machine => format!("the default of {LISTEN_FLAG}"),
        place => place.to_string(),
    }
}

struct Builder<'a> {
    flags: &'a Flags,
    file: &'a File,
    admin: Option<SocketAddr>,
    /// Faults that were there before any of the topology.
    before: usize,
    faults: &'a mut Faults,
    clusters: Vec<ClusterPlan>,
    positions: HashMap<String, usize>,
    /// Clusters none of whose URLs says what is spoken there: what follows from that is no second fault.
    unclear: Vec<String>,
}

impl Builder<'_> {
    fn clusters(&mut self) {
        let upstream = &self.flags.upstream;
        if self.file.clusters.is_empty() {
            let name = if upstream.is_empty() { "echo" } else { "upstream" };
            let cluster = self.cluster(name, &Layer::default(), upstream, "");
            self.clusters = vec![ClusterPlan { echo: upstream.is_empty(), ..cluster }];
            if upstream.is_empty() {
                let http = ClusterPlan::named("echo-http", Protocol::Http);
                self.clusters.push(ClusterPlan { echo: true, ..http });
            }
        } else {
            if self.file.clusters.len() > 1 && !upstream.is_empty() {
                let count = self.file.clusters.len();
                let message = format!(
                    "the file has {count} clusters; {UPSTREAM_FLAG} can stand for the endpoints of one"
                );
                self.faults.add(upstream[0].1.clone(), message);
            }
            self.clusters = self.file.clusters.iter().map(|entry| self.file_cluster(entry)).collect();
        }
        for (at, cluster) in self.clusters.iter().enumerate() {
            if self.positions.insert(cluster.name.clone(), at).is_some() {
                let entry = &self.file.clusters[at];
                let message =
                    format!("{}.name: {:?} is the name of another cluster", entry.name, cluster.name);
                self.faults.add(entry.place_of("clusters[].name"), message);
            }
        }
        self.flags_without_effect();
    }

    /// Without a listener of HTTP nobody asks the embedded HTTP upstream, and its connections would bear both names.
    fn leave_out_unused_echo(&mut self, listeners: &[ListenerPlan]) {
        let speaks_http = listeners.iter().any(|listener| listener.protocol == Protocol::Http);
        if self.file.clusters.is_empty() && !speaks_http {
            self.clusters.truncate(1);
        }
    }

    fn file_cluster(&mut self, entry: &Entry) -> ClusterPlan {
        let name = self.required(entry, "clusters[].name");
        let echo = entry.layer.switch("clusters[].echo").is_some_and(|(on, _)| on);
        let prefix = format!("{}.endpoints: ", entry.name);
        let (urls, prefix) = match self.flags.upstream.is_empty() {
            true => (&entry.urls, prefix.as_str()),
            false => (&self.flags.upstream, ""),
        };
        let original = entry.layer.switch("clusters[].original_destination").is_some_and(|(on, _)| on);
        if original && (echo || !urls.is_empty()) {
            let message = "original_destination: stands instead of endpoints, not beside them";
            self.faults
                .add(entry.place_of("clusters[].original_destination"), format!("{}.{message}", entry.name));
        } else if !original && echo != urls.is_empty() {
            self.no_upstream(entry, echo);
        }
        let cluster = self.cluster(&name, &entry.layer, urls, prefix);
        let cluster = streams::connecting(entry, cluster, self.faults);
        if !self.unclear.contains(&name) {
            self.keys_without_effect(entry, &cluster);
        }
        ClusterPlan { echo, ..cluster }
    }

    /// A cluster has endpoints or is the embedded upstream; this one is both or neither.
    fn no_upstream(&mut self, entry: &Entry, echo: bool) {
        let (place, message) = match &entry.urls_place {
            _ if echo => {
                (entry.place_of("clusters[].echo"), "echo: a cluster has endpoints or is an echo, not both")
            }
            Some(place) => (place.clone(), "endpoints: the list is empty"),
            None => (entry.place.clone(), "endpoints: is missing"),
        };
        self.faults.add(place, format!("{}.{message}", entry.name));
    }

    fn cluster(&mut self, name: &str, layer: &Layer, urls: &[Item], prefix: &str) -> ClusterPlan {
        let (protocol, endpoints) = self.endpoints(urls, prefix);
        if protocol.is_none() && !urls.is_empty() {
            self.unclear.push(name.to_owned());
        }
        let of_echo = match layer.text("clusters[].protocol") {
            Some(("http", _)) => Protocol::Http,
            _ => Protocol::Bolt,
        };
        let protocol = protocol.unwrap_or(of_echo);
        let mut layer = layer.clone();
        if protocol == Protocol::Bolt {
            layer.overlay(&self.flags.layer.below("clusters[]."));
        }
        let original = layer.switch("clusters[].original_destination").is_some_and(|(on, _)| on);
        let protocol = if original { Protocol::Tcp } else { protocol };
        let number = |path| layer.number(path).map_or_else(|| default_number(path), |(number, _)| number);
        let choice = |path| layer.text(path).map_or(key(path).default, |(text, _)| text);
        let cluster = ClusterPlan {
            endpoints,
            balance: match choice("clusters[].balance") {
                "least_outstanding" => Balance::LeastOutstanding,
                "random" => Balance::Random,
                "hash" => Balance::Hash,
                _ => Balance::RoundRobin,
            },
            mode: match choice("clusters[].mode") {
                "bound" => UpstreamMode::Bound,
                _ => UpstreamMode::Shared,
            },
            connections: number("clusters[].connections") as usize,
            requests_max: number("clusters[].requests_max") as usize,
            upstream_output_bytes_max: number("clusters[].output_max") as usize,
            connect_timeout_ms: number("clusters[].connect_timeout"),
            idle_timeout_ms: number("clusters[].idle_timeout"),
            requests_per_connection_max: number("clusters[].requests_per_connection_max"),
            connection_age_ms_max: number("clusters[].connection_age_max"),
            heartbeat_interval_ms: number("clusters[].heartbeat_interval"),
            heartbeat_timeout_ms: number("clusters[].heartbeat_timeout"),
            heartbeat_misses_max: number("clusters[].heartbeat_misses_max") as u32,
            reconnect_ms_min: number("clusters[].reconnect_min"),
            reconnect_ms_max: number("clusters[].reconnect_max"),
            resolve_interval_ms: number("clusters[].resolve_interval"),
            ..ClusterPlan::named(name, protocol)
        };
        if cluster.reconnect_ms_min > cluster.reconnect_ms_max {
            let place = layer.place("clusters[].reconnect_min").or(layer.place("clusters[].reconnect_max"));
            let message = format!("cluster {name:?}: reconnect_min is above reconnect_max");
            self.faults.add(place.unwrap_or(&Place::Machine).clone(), message);
        }
        cluster
    }

    fn endpoints(&mut self, urls: &[Item], prefix: &str) -> (Option<Protocol>, Vec<EndpointPlan>) {
        let mut protocol = None;
        let mut endpoints = Vec::new();
        for (text, place) in urls {
            let parsed =
                Url::parse(text).and_then(|url| url.endpoint().map(|endpoint| (url.protocol, endpoint)));
            let (spoken, endpoint) = match parsed {
                Ok(parsed) => parsed,
                Err(message) => {
                    self.faults.add(place.clone(), format!("{prefix}{message}"));
                    protocol = protocol.or(Url::protocol_of(text));
                    continue;
                }
            };
            if *protocol.get_or_insert(spoken) != spoken {
                self.faults.add(
                    place.clone(),
                    format!("{prefix}{text:?} speaks another protocol than those before it"),
                );
            } else if endpoints.contains(&endpoint) {
                self.faults.add(place.clone(), format!("{prefix}{text:?} stands twice"));
            }
            endpoints.push(endpoint);
        }
        (protocol, endpoints)
    }

    fn keys_without_effect(&mut self, entry: &Entry, cluster: &ClusterPlan) {
        let ignored = match (cluster.protocol, cluster.mode) {
            (Protocol::Tcp, _) => [BOLT_CLUSTER_KEYS, COUNTED_CLUSTER_KEYS, HTTP_CLUSTER_KEYS].concat(),
            (Protocol::Http, _) => BOLT_CLUSTER_KEYS.to_vec(),
            (Protocol::Bolt, UpstreamMode::Bound) => {
                [&["clusters[].connections"], HTTP_CLUSTER_KEYS].concat()
            }
            (Protocol::Bolt, UpstreamMode::Shared) => HTTP_CLUSTER_KEYS.to_vec(),
        };
        if cluster.protocol != Protocol::Tcp {
            let why = "but on a tcp cluster";
            streams::without_effect(entry, streams::TUNNEL_CLUSTER_KEYS, why, self.faults);
        }
        if cluster.protocol == Protocol::Bolt {
            let why = "on a bolt cluster";
            streams::without_effect(entry, streams::ATTEMPTS_KEYS, why, self.faults);
        }
        if cluster.original_destination {
            let why = "with original_destination";
            streams::without_effect(entry, streams::ENDPOINT_KEYS, why, self.faults);
        }
        let in_bound = cluster.protocol == Protocol::Bolt && cluster.mode == UpstreamMode::Bound;
        let protocol = protocol_name(cluster.protocol);
        for path in ignored {
            let why = match path {
                "clusters[].connections" if in_bound => "in bound mode".to_owned(),
                _ => format!("on a {protocol} cluster"),
            };
            if let Some(place) = entry.layer.place(path) {
                let word = path.trim_start_matches("clusters[].");
                self.faults.add(place.clone(), format!("{}.{word}: has no effect {why}", entry.name));
            }
        }
    }

    fn flags_without_effect(&mut self) {
        let bolt = self.clusters.iter().filter(|cluster| cluster.protocol == Protocol::Bolt);
        let shared = bolt.clone().any(|cluster| cluster.mode == UpstreamMode::Shared);
        let bolt = bolt.count() > 0;
        let layer = &self.flags.layer;
        if let Some(place) = layer.place("clusters[].mode").filter(|_| !bolt) {
            self.faults.add(place.clone(), "has no effect since no upstream speaks bolt");
        }
        if let Some(place) = layer.place("clusters[].connections").filter(|_| !shared) {
            let why = if bolt { "with upstream mode bound" } else { "since no upstream speaks bolt" };
            self.faults.add(place.clone(), format!("has no effect {why}"));
        }
    }

    fn routes(&mut self) -> Routes {
        let known = Known { clusters: &self.clusters, positions: &self.positions, unclear: &self.unclear };
        Routes::read(&self.file.routes, known, self.faults)
    }

    fn tls_routes(&mut self) -> Vec<TlsRoutePlan> {
        let mut routes = Vec::new();
        let mut said: HashMap<_, &String> = HashMap::new();
        for entry in &self.file.tls_routes {
            let text = self.required(entry, "tls_routes[].server_name");
            let cluster = self.named_cluster(entry, "tls_routes[].cluster", Protocol::Tcp);
            let place = || entry.place_of("tls_routes[].server_name");
            let alpn = entry.layer.text("tls_routes[].alpn").map(|(text, _)| text.to_owned());
            let Some(server_name) = streams::server_name(&text) else {
                let message = format!("{}.server_name: {text:?} is no name and no *.NAME", entry.name);
                self.faults.add(place(), message);
                continue;
            };
            if let Some(first) = said.insert((server_name.clone(), alpn.clone()), &entry.name) {
                let message = format!("{}.server_name: {text:?} is routed by {first} already", entry.name);
                self.faults.add(place(), message);
            }
            routes.push(TlsRoutePlan { server_name, alpn, cluster: cluster.unwrap_or(0) });
        }
        routes
    }

    fn listeners(&mut self, routes: &Routes) -> Vec<(ListenerPlan, Place)> {
        let default = self.default_listen();
        let listen = if self.flags.listen.is_empty() { &default[..] } else { &self.flags.listen };
        let listeners: Vec<_> = if self.file.listeners.is_empty() {
            let said = listen.iter().enumerate();
            said.filter_map(|(at, item)| self.flag_listener(at, item, routes)).collect()
        } else {
            self.file_listeners(routes)
        };
        self.shared_addresses(&listeners);
        listeners
    }

    /// Where it listens if nobody says: on one address for each protocol that it could lead somewhere.
    fn default_listen(&self) -> Vec<Item> {
        let speaks = |protocol| self.clusters.iter().any(|cluster| cluster.protocol == protocol);
        let bolt = key("listeners[].address").default;
        let both = [
            (bolt, speaks(Protocol::Bolt) || !speaks(Protocol::Http)),
            (HTTP_LISTEN, speaks(Protocol::Http)),
        ];
        both.iter().filter(|(_, on)| *on).map(|(text, _)| ((*text).to_owned(), Place::Machine)).collect()
    }

    /// Refuses what the kernel would refuse to bind later.
    fn shared_addresses(&mut self, listeners: &[(ListenerPlan, Place)]) {
        for (at, (listener, place)) in listeners.iter().enumerate() {
            let address = listener.address;
            let other = listeners[..at].iter().find(|(other, _)| overlap(address, other.address));
            let message = match (other, self.admin) {
                (Some((other, _)), _) if other.address == address => {
                    format!("{address} is listened on already by {:?}", other.name)
                }
                (Some((other, _)), _) => {
                    format!("{address} cannot be listened on beside {} of {:?}", other.address, other.name)
                }
                (None, Some(admin)) if overlap(address, admin) => {
                    format!(
                        "{address} is taken by the admin interface on {admin}; say another with admin.address or --admin"
                    )
                }
                _ => continue,
            };
            let said_here = |entry: &&Entry| entry.layer.place("listeners[].address") == Some(place);
            let entry = self.file.listeners.iter().find(said_here);
            let prefix = entry.map_or(String::new(), |entry| format!("{}.address: ", entry.name));
            self.faults.add(place.clone(), format!("{prefix}{message}"));
        }
    }

    fn flag_listener(&mut self, at: usize, item: &Item, routes: &Routes) -> Option<(ListenerPlan, Place)> {
        let (text, place) = item;
        let (protocol, address) = self.bind_address(text, place, "")?;
        let default_route = self.only_cluster(protocol, text, place, routes);
        let default_route = default_route
            .map(|cluster| RouteTarget { cluster, timeout_ms: default_number("listeners[].timeout") });
        let name = format!("listener-{at}");
        let plan = ListenerPlan {
            name,
            protocol,
            address,
            default_route,
            send_goaway: false,
            announced: None,
            passthrough: None,
        };
        Some((plan, place.clone()))
    }

    fn file_listeners(&mut self, routes: &Routes) -> Vec<(ListenerPlan, Place)> {
        let (said, entries) = (&self.flags.listen, &self.file.listeners);
        if !said.is_empty() && said.len() != entries.len() {
            let message = format!(
                "the file has {} listeners; {LISTEN_FLAG} stands for their addresses in order, so say as many",
                entries.len()
            );
            self.faults.add(said[0].1.clone(), message);
            return Vec::new();
        }
        let listeners = entries.iter().enumerate();
        let listeners: Vec<_> =
            listeners.filter_map(|(at, entry)| self.file_listener(at, entry, said.get(at), routes)).collect();
        let mut names = HashMap::new();
        for ((listener, _), entry) in listeners.iter().zip(entries) {
            if names.insert(listener.name.clone(), ()).is_some() {
                let message =
                    format!("{}.name: {:?} is the name of another listener", entry.name, listener.name);
                self.faults.add(entry.place_of("listeners[].name"), message);
            }
        }
        listeners
    }

    fn file_listener(
        &mut self,
        at: usize,
        entry: &Entry,
        flag: Option<&Item>,
        routes: &Routes,
    ) -> Option<(ListenerPlan, Place)> {
        let Some((text, place)) = entry.layer.text("listeners[].address") else {
            self.faults.add(entry.place.clone(), format!("{}.address: is missing", entry.name));
            return None;
        };
        let (mut protocol, mut address) =
            self.bind_address(text, place, &format!("{}.address: ", entry.name))?;
        let mut place = place.clone();
        if let Some((text, flag_place)) = flag {
            let (said, over) = self.bind_address(text, flag_place, "")?;
            if said != protocol {
                let message =
                    format!("{text:?}: {} of the file speaks {}", entry.name, protocol_name(protocol));
                self.faults.add(flag_place.clone(), message);
            }
            (protocol, address, place) = (said, over, flag_place.clone());
        }
        let cluster = self.listener_cluster(entry, protocol, routes);
        self.listener_keys_without_effect(entry, protocol, cluster.is_some());
        let timeout_ms = timeout(entry, "listeners[].timeout");
        let name = entry
            .layer
            .text("listeners[].name")
            .map_or(format!("listener-{at}"), |(name, _)| name.to_owned());
        let default_route = cluster.map(|cluster| RouteTarget { cluster, timeout_ms });
        let send_goaway = entry.layer.switch("listeners[].send_goaway").is_some_and(|(on, _)| on);
        let announced = streams::announced(entry, self.faults);
        let passthrough = streams::passthrough(entry, protocol, default_route.is_some(), self.faults);
        Some((
            ListenerPlan { name, protocol, address, default_route, send_goaway, announced, passthrough },
            place,
        ))
    }

    fn listener_cluster(&mut self, entry: &Entry, protocol: Protocol, routes: &Routes) -> Option<usize> {
        if entry.layer.place("listeners[].cluster").is_some() {
            return self.named_cluster(entry, "listeners[].cluster", protocol);
        }
        if self.file.clusters.is_empty() {
            return self.only_cluster(protocol, &entry.name, &entry.place, routes);
        }
        let routed_by_name = protocol == Protocol::Tcp
            && entry.layer.text("listeners[].tls_passthrough").is_some_and(|(word, _)| word != "off");
        if !routed_by_name && !routes.has(protocol) {
            let message = format!("{}.cluster: is missing; known: {}", entry.name, self.known().names());
            self.faults.add(entry.place.clone(), message);
        }
        None
    }

    fn listener_keys_without_effect(&mut self, entry: &Entry, protocol: Protocol, targeted: bool) {
        let tcp = protocol == Protocol::Tcp;
        if let Some(place) = entry.layer.place("listeners[].timeout").filter(|_| tcp || !targeted) {
            let why = if tcp { "on a tcp listener" } else { "without a cluster" };
            self.faults.add(place.clone(), format!("{}.timeout: has no effect {why}", entry.name));
        }
        if let Some(place) =
            entry.layer.place("listeners[].send_goaway").filter(|_| protocol != Protocol::Bolt)
        {
            let word = protocol_name(protocol);
            let message = format!("{}.send_goaway: has no effect on a listener of {word}", entry.name);
            self.faults.add(place.clone(), message);
        }
    }

    fn bind_address(
        &mut self,
        text: &str,
        place: &Place,
        prefix: &str,
    ) -> Option<(Protocol, std::net::SocketAddr)> {
        match Url::parse(text).and_then(|url| url.bind_address().map(|address| (url.protocol, address))) {
            Ok(parsed) => Some(parsed),
            Err(message) => {
                self.faults.add(place.clone(), format!("{prefix}{message}"));
                None
            }
        }
    }

    /// Where a listener leads that names no cluster: to the only one that speaks its protocol.
    fn only_cluster(
        &mut self,
        protocol: Protocol,
        name: &str,
        place: &Place,
        routes: &Routes,
    ) -> Option<usize> {
        let speaks = |cluster: &ClusterPlan| cluster.protocol == protocol;
        let mut matching = self.clusters.iter().enumerate().filter(|(_, cluster)| speaks(cluster));
        let word = protocol_name(protocol);
        let message = match (matching.next(), matching.next()) {
            (Some((only, _)), None) => return Some(only),
            (Some(_), Some(_)) if routes.has(protocol) => return None,
            (Some(_), _) => {
                format!("{name} could lead to several clusters; describe it in the file's listeners")
            }
            (None, _) if !self.unclear.is_empty() => return None,
            (None, _) if self.clusters[0].echo => format!("{name} needs {UPSTREAM_FLAG} {word}://HOST:PORT"),
            (None, _) => {
                let other = protocol_name(self.clusters[0].protocol);
                format!("{name} speaks {word}, but its upstream speaks {other}")
            }
        };
        // Whoever said no listener is told once the clusters are right: they may be others then.
        if *place != Place::Machine || self.faults.list().len() == self.before {
            self.faults.add(place.clone(), message);
        }
        None
    }

    fn named_cluster(&mut self, entry: &Entry, path: &'static str, protocol: Protocol) -> Option<usize> {
        let name = self.required(entry, path);
        let place = entry.layer.place(path)?.clone();
        match self.known().find(&name, protocol) {
            Ok(at) => Some(at),
            Err(message) => {
                self.faults.add(place, format!("{}.{}: {message}", entry.name, last(path)));
                None
            }
        }
    }

    fn required(&mut self, entry: &Entry, path: &'static str) -> String {
        let Some((text, _)) = entry.layer.text(path) else {
            self.faults.add(entry.place.clone(), format!("{}.{}: is missing", entry.name, last(path)));
            return String::new();
        };
        text.to_owned()
    }

    fn known(&self) -> Known<'_> {
        Known { clusters: &self.clusters, positions: &self.positions, unclear: &self.unclear }
    }
}

/// Whether only one of both can be bound. An address of IPv6 that stands for all takes those of IPv4 with it.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers =
        |all: SocketAddr, one: SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let is_same_port = one.port() == other.port() && one.port() != 0;
    is_same_port && (one == other || covers(one, other) || covers(other, one))
}

/// The default listener of HTTP.
pub(crate) const HTTP_LISTEN: &str = "http://127.0.0.1:12280";

/// What only a cluster of Bolt takes.
const BOLT_CLUSTER_KEYS: &[&str] = &[
    "clusters[].mode",
    "clusters[].connections",
    "clusters[].output_max",
    "clusters[].heartbeat_interval",
    "clusters[].heartbeat_timeout",
    "clusters[].heartbeat_misses_max",
];

/// What only a cluster takes that counts requests.
const COUNTED_CLUSTER_KEYS: &[&str] = &["clusters[].requests_max"];

/// What only a cluster of HTTP takes.
const HTTP_CLUSTER_KEYS: &[&str] =
    &["clusters[].idle_timeout", "clusters[].requests_per_connection_max", "clusters[].connection_age_max"];

fn timeout(entry: &Entry, path: &'static str) -> u64 {
    entry.layer.number(path).map_or_else(|| default_number(path), |(number, _)| number)
}
