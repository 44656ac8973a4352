//! The checked configuration: what the gateway runs by, after flags, environment and file were merged and verified.
//!
//! It is plain data without options that mean "not said": every default is filled in, every name is resolved to an
//! index, every value is in range, so nothing behind it checks again. Made by the loader in this folder (and by tests,
//! from [`Plan::default`]); read by the application, the machines and the admin interface.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use bowline_protocols::http::HttpLimits;
pub use bowline_protocols::proxy_header::Version as ProxyVersion;
pub use bowline_protocols::proxy_header::Versions as ProxyVersions;
use ipnet::IpNet;

use crate::config::http::HttpPlan;
use crate::config::pattern::Pattern;

/// Everything that `bowline run` needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How the engine runs.
    pub engine: EnginePlan,
    /// Where clients connect, at least one.
    pub listeners: Vec<ListenerPlan>,
    /// The routes of requests by their Bolt header `service`, in the order of the file.
    pub routes: Vec<RoutePlan>,
    /// The routes of TLS that is passed on as it is.
    pub tls_routes: Vec<TlsRoutePlan>,
    /// The upstream clusters; listeners and routes name them by position.
    pub clusters: Vec<ClusterPlan>,
    /// Bounds on what connections may hold.
    pub limits: LimitsPlan,
    /// Deadlines that are not of one route.
    pub timeouts: TimeoutsPlan,
    /// What is particular to HTTP, its routes above all.
    pub http: HttpPlan,
    /// Where the admin interface listens; nothing when it is off.
    pub admin: Option<SocketAddr>,
    /// How the process ends.
    pub drain: DrainPlan,
    /// What is logged.
    pub log: LogPlan,
    /// Where the addresses to bind were said, for messages.
    pub places: PlacesPlan,
}

/// Where addresses were said: a flag, a variable, a position in a file, or a default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacesPlan {
    /// Of the listeners, in their order.
    pub listeners: Vec<String>,
    /// Of the admin interface.
    pub admin: String,
}

/// Which driver runs the machines, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct EnginePlan {
    /// `--engine`. Default raw.
    pub mode: EngineMode,
    /// `--dispatch`. Default help.
    pub dispatch: Dispatch,
    /// `--reactors`: epoll instances, one per CPU that the cgroup allows by default.
    pub reactors: usize,
    /// `--workers`: threads of the pool, as many as reactors by default, never fewer.
    pub workers: usize,
    /// `--pin-cores`. Default false.
    pub pin_cores: bool,
    /// `--read-budget`: bytes read from one connection in one turn. Default 64 KiB.
    pub read_budget_bytes: usize,
    /// `--buffer-memory-max`: the ceiling of all buffers. Default a quarter of the cgroup's memory.
    pub buffer_memory_bytes_max: usize,
    /// `--max-connections`: accepted from clients; those to upstreams come on top. Default RLIMIT_NOFILE - 512.
    pub connections_max: usize,
    /// `--max-connections-per-source`: from one address. Default none.
    pub connections_per_source_max: Option<usize>,
    /// `--accept`. Default shared.
    pub accept: AcceptMode,
    /// `--rebalance`: busy connections leave a reactor that is clearly busier than another. Default on.
    pub rebalance: bool,
}

/// `--engine raw|tokio`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineMode {
    /// Epoll reactors and a fixed pool.
    Raw,
    /// Tokio runtimes, one current-thread runtime per worker.
    Tokio,
}

/// `--dispatch help|handoff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// The thread that waits on a reactor runs what it finds.
    Help,
    /// Reactor threads only queue; workers run.
    Handoff,
}

/// `--accept reuseport|shared`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptMode {
    /// One listening socket on the control loop, which places connections by load.
    Shared,
    /// One listening socket per reactor (`SO_REUSEPORT`).
    Reuseport,
}

/// The protocol of a listener or a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SOFA Bolt, v1 and v2.
    Bolt,
    /// HTTP/1.1 and 1.0, with WebSocket and other upgrades.
    Http,
    /// A tunnel of plain TCP.
    Tcp,
}

/// One address that clients connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerPlan {
    /// The name in logs and metrics.
    pub name: String,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The address to bind; port 0 takes a free one.
    pub address: SocketAddr,
    /// The cluster of requests that no route matches, and of every tunnel; nothing answers such a request with
    /// `no_route`.
    pub default_route: Option<RouteTarget>,
    /// Whether a draining gateway sends Bolt goaway (command 100). Stock Java clients break on it. Default false.
    pub send_goaway: bool,
    /// How its connections say whose they are; nothing where they come from clients themselves.
    pub announced: Option<AnnouncedPlan>,
    /// How it looks into TLS to route it; nothing where it looks into no byte.
    pub passthrough: Option<PassthroughPlan>,
}

/// Connections come through a proxy that names the client in a header of the PROXY protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct AnnouncedPlan {
    /// Which versions are taken. One is required: a connection without a header is closed.
    pub versions: ProxyVersions,
    /// Whose word is taken; connections from elsewhere are reset.
    pub trusted: Vec<IpNet>,
    /// How long the header may take. Default 5,000 ms.
    pub timeout_ms: u64,
}

/// Tunnels of this listener are routed by the first message of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassthroughPlan {
    /// Whether what is no TLS is closed. Otherwise it goes to the listener's cluster, and so does who stays silent.
    pub is_required: bool,
    /// Whether TLS that names no server is closed. Otherwise it goes to the listener's cluster.
    pub name_required: bool,
    /// How long the message may take. Default 5,000 ms.
    pub timeout_ms: u64,
}

/// Where TLS goes that names a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRoutePlan {
    /// The server, in lower case.
    pub server_name: ServerName,
    /// The protocol that the client must offer (ALPN), if any.
    pub alpn: Option<String>,
    /// The position in [`Plan::clusters`].
    pub cluster: usize,
}

/// Which names a route is for. One that is equal goes before the longest under which a name is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerName {
    /// This name.
    Exact(String),
    /// All names under this one, with any number of labels in front.
    Under(String),
}

/// Where matching requests go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RouteTarget {
    /// The position in [`Plan::clusters`].
    pub cluster: usize,
    /// The deadline of a request that names none, in milliseconds. Default 60,000.
    pub timeout_ms: u64,
}

/// One route of Bolt requests.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePlan {
    /// Which services it takes. No two routes say the same.
    pub service: ServicePlan,
    /// Where it leads.
    pub target: RouteTarget,
}

/// Which values of the Bolt header `service` a route takes.
#[derive(Clone, Debug, PartialEq)]
pub enum ServicePlan {
    /// This one.
    Exact(String),
    /// Those that begin so.
    Prefix(String),
    /// Those that match as a whole.
    Regex(Pattern),
}

/// A group of upstream endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterPlan {
    /// The name in logs and metrics.
    pub name: String,
    /// What its endpoints speak.
    pub protocol: Protocol,
    /// Its endpoints; empty only for the embedded echo upstream.
    pub endpoints: Vec<EndpointPlan>,
    /// The embedded echo upstream: answered by this process on a listener of its own. Default false.
    pub echo: bool,
    /// How an endpoint is chosen. Default round robin.
    pub balance: Balance,
    /// `--upstream-mode`. Default shared.
    pub mode: UpstreamMode,
    /// `--upstream-connections`: per endpoint and worker. Default 1.
    pub connections: usize,
    /// Requests in flight per endpoint, at most. Default 65,536.
    pub requests_max: usize,
    /// Bytes queued for one endpoint, at most. Default 4 MiB.
    pub upstream_output_bytes_max: usize,
    /// The deadline of a connect. Default 1,000 ms.
    pub connect_timeout_ms: u64,
    /// An idle HTTP connection is closed after this. Default 60,000 ms.
    pub idle_timeout_ms: u64,
    /// Requests of one HTTP connection, at most; 0 is no limit. Default 0.
    pub requests_per_connection_max: u64,
    /// An HTTP connection this old takes no more requests; 0 is no limit. Default 0.
    pub connection_age_ms_max: u64,
    /// An upstream connection this long without traffic is asked for a heartbeat. Default 15,000 ms.
    pub heartbeat_interval_ms: u64,
    /// How long the answer to a heartbeat may take. Default 1,000 ms.
    pub heartbeat_timeout_ms: u64,
    /// Unanswered heartbeats that close the connection. Default 3.
    pub heartbeat_misses_max: u32,
    /// The first pause before an endpoint that could not be reached is tried again; doubled and jittered up to the
    /// maximum. Default 100 ms.
    pub reconnect_ms_min: u64,
    /// The longest pause. Default 10,000 ms.
    pub reconnect_ms_max: u64,
    /// How long a resolved name is good. Default 30,000 ms.
    pub resolve_interval_ms: u64,
    /// The header that names the client, first on every tunnel's connection. Default none.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How many endpoints are tried for one tunnel. Default 3.
    pub connect_attempts: u32,
    /// Tries beyond the first, for a hundred requests of all clients together. Default 20.
    pub retry_percent: u32,
    /// Tries beyond the first in a second, whatever is requested. Default 10.
    pub retry_per_second: u32,
    /// So many of both are saved, at most. Default 1,000.
    pub retry_burst_max: u32,
    /// The addresses of this host that connections are made from, in turn; the system chooses if there are none.
    pub source_addresses: Vec<IpAddr>,
    /// The endpoint of each tunnel is where its client connected to before the packet filter sent it here.
    pub original_destination: bool,
}

/// One endpoint as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointPlan {
    /// An address.
    Address(SocketAddr),
    /// A name, looked up again and again; each of its addresses is an endpoint.
    Name {
        /// The host name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// How an endpoint is chosen among those that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests in flight, or tunnels open.
    LeastOutstanding,
    /// Of two at random, the one with fewer of those.
    Random,
    /// Always the same one for the same source address, as far as it may be used (Maglev).
    Hash,
}

/// `--upstream-mode shared|bound`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamMode {
    /// Requests of many clients share few connections.
    Shared,
    /// Every client connection has its own, so servers can call clients.
    Bound,
}

/// Bounds on what connections may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitsPlan {
    /// Requests of one downstream connection in flight. Default 1,024.
    pub in_flight_max: usize,
    /// Output queued for one downstream connection: half of it stops reading. Default 1 MiB.
    pub downstream_output_bytes_max: usize,
    /// The least a downstream over its output limit must take, in bytes a second. Default 64 KiB.
    pub output_rate_min: usize,
    /// Largest Bolt content. Default 16 MiB.
    pub content_bytes_max: u32,
    /// Largest Bolt class name and header together. Default 64 KiB.
    pub class_header_bytes_max: u32,
    /// Whether CRC trailers are verified. Default true.
    pub crc_verify: bool,
    /// Memory for frames above 64 KiB that are still arriving. Default half of the buffer ceiling.
    pub large_frame_bytes_max: usize,
    /// How long one frame may take to arrive. Default 60,000 ms.
    pub frame_timeout_ms: u64,
    /// The least rate of a frame after five seconds, in bytes a second. Default 4 KiB.
    pub frame_rate_min: usize,
    /// Heartbeats of one downstream connection a second. Default 10.
    pub heartbeat_rate_max: u32,
    /// Bytes in flight in each direction of a tunnel, and of a body of HTTP. Default 256 KiB.
    pub tunnel_credit_bytes: usize,
    /// What one HTTP message may hold.
    pub http: HttpLimits,
    /// The least rate of the body of an HTTP request, over `timeouts.http_body`, in bytes a second. Default 16.
    pub http_body_rate_min: usize,
}

/// Deadlines that are not of one route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeoutsPlan {
    /// `--idle-timeout`: a downstream connection without a byte for this long is closed. Default 15 min.
    pub idle_ms: u64,
    /// A tunnel whose client has ended its side ends after so long without a byte of the server. Default 15 min.
    pub client_fin_ms: u64,
    /// A tunnel whose server has ended its side ends after so long without a byte of the client. Default 15 min.
    pub server_fin_ms: u64,
    /// How long a tunnel may be open, whatever it carries; nothing for any time.
    pub tunnel_ms_max: Option<u64>,
    /// The head of an HTTP request must be there so long after its first byte. Default 10 s.
    pub http_head_ms: u64,
    /// A body of HTTP without a byte for this long, while we read, ends its connection. Default 60 s.
    pub http_body_ms: u64,
    /// How long the client of a WebSocket that a drain ends has for its close frame, and then its server. Default 2 s.
    pub websocket_answer_ms: u64,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrainPlan {
    /// `--drain-delay`: accepting goes on for so long after readiness went off. Default 3,000 ms.
    pub delay_ms: u64,
    /// `--drain-deadline`: what is not finished then is cut. Default 30,000 ms.
    pub deadline_ms: u64,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq)]
pub struct LogPlan {
    /// `--log-level`, in the filter syntax of `tracing`. Default info.
    pub level: String,
    /// `--log-format`. Default text.
    pub format: LogFormat,
    /// One line per request. Default false.
    pub access: bool,
    /// Where logs go; standard error if nothing is said.
    pub file: Option<PathBuf>,
}

/// `--log-format text|json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// `RouteTarget::timeout_ms` where nothing is said.
pub const ROUTE_TIMEOUT_MS: u64 = 60_000;

impl Default for Plan {
    /// One Bolt listener on a free loopback port, answered by the embedded echo upstream.
    fn default() -> Plan {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Plan {
            engine: EnginePlan::default(),
            listeners: vec![ListenerPlan {
                name: "default".to_owned(),
                protocol: Protocol::Bolt,
                address: loopback(0),
                default_route: Some(RouteTarget { cluster: 0, timeout_ms: ROUTE_TIMEOUT_MS }),
                send_goaway: false,
                announced: None,
                passthrough: None,
            }],
            routes: Vec::new(),
            tls_routes: Vec::new(),
            http: HttpPlan::default(),
            clusters: vec![ClusterPlan { echo: true, ..ClusterPlan::named("echo", Protocol::Bolt) }],
            limits: LimitsPlan::default(),
            timeouts: TimeoutsPlan::default(),
            admin: None,
            drain: DrainPlan { delay_ms: 3_000, deadline_ms: 30_000 },
            log: LogPlan { level: "info".to_owned(), format: LogFormat::Text, access: false, file: None },
            places: PlacesPlan::default(),
        }
    }
}

impl ClusterPlan {
    /// A cluster with defaults and no endpoint yet.
    pub fn named(name: &str, protocol: Protocol) -> ClusterPlan {
        ClusterPlan {
            name: name.to_owned(),
            protocol,
            endpoints: Vec::new(),
            echo: false,
            balance: Balance::RoundRobin,
            mode: UpstreamMode::Shared,
            connections: 1,
            requests_max: 65_536,
            upstream_output_bytes_max: 4 << 20,
            connect_timeout_ms: 1_000,
            idle_timeout_ms: 60_000,
            requests_per_connection_max: 0,
            connection_age_ms_max: 0,
            heartbeat_interval_ms: 15_000,
            heartbeat_timeout_ms: 1_000,
            heartbeat_misses_max: 3,
            reconnect_ms_min: 100,
            reconnect_ms_max: 10_000,
            resolve_interval_ms: 30_000,
            proxy_protocol: None,
            connect_attempts: 3,
            retry_percent: 20,
            retry_per_second: 10,
            retry_burst_max: 1_000,
            source_addresses: Vec::new(),
            original_destination: false,
        }
    }
}

impl Default for EnginePlan {
    /// Two threads and moderate bounds: what tests use. The loader replaces what depends on the machine.
    fn default() -> EnginePlan {
        EnginePlan {
            mode: EngineMode::Raw,
            dispatch: Dispatch::Help,
            reactors: 2,
            workers: 2,
            pin_cores: false,
            read_budget_bytes: 64 << 10,
            buffer_memory_bytes_max: 1 << 30,
            connections_max: 16_384,
            connections_per_source_max: None,
            accept: AcceptMode::Shared,
            rebalance: true,
        }
    }
}

impl Default for LimitsPlan {
    fn default() -> LimitsPlan {
        LimitsPlan {
            in_flight_max: 1_024,
            downstream_output_bytes_max: 1 << 20,
            output_rate_min: 64 << 10,
            content_bytes_max: 16 << 20,
            class_header_bytes_max: 64 << 10,
            crc_verify: true,
            large_frame_bytes_max: 512 << 20,
            frame_timeout_ms: 60_000,
            frame_rate_min: 4 << 10,
            heartbeat_rate_max: 10,
            tunnel_credit_bytes: 256 << 10,
            http_body_rate_min: 16,
            http: HttpLimits::default(),
        }
    }
}

impl Default for TimeoutsPlan {
    fn default() -> TimeoutsPlan {
        TimeoutsPlan {
            idle_ms: 900_000,
            client_fin_ms: 900_000,
            server_fin_ms: 900_000,
            tunnel_ms_max: None,
            http_head_ms: 10_000,
            http_body_ms: 60_000,
            websocket_answer_ms: 2_000,
        }
    }
}
