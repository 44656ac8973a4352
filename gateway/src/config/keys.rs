//! The table of everything that can be configured: one row per key with its kind, range, default, flag, and whether a
//! reload may change it. Flags, environment, file, `--help` and docs/configuration.md all take from it, so they agree.
//! It reads single values and knows nothing about how values fit together: that is the loader's work.

use std::net::SocketAddr;

use crate::config::fault::Place;
use crate::config::fault::nearest;
use crate::config::units::format_bytes;
use crate::config::units::format_duration_ms;
use crate::config::units::parse_bytes;
use crate::config::units::parse_duration_ms;

/// One thing that can be configured.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands in the file; `[]` after the name of a list.
    pub path: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// The value where nothing is said, as it would be written, or words in parentheses.
    pub default: &'static str,
    /// Whether a reload may change it.
    pub change: Change,
    /// The flag that says the same.
    pub flag: Option<&'static str>,
    /// What it does, and what it costs.
    pub help: &'static str,
}

/// Whether a value may change while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Fixed at start.
    Static,
    /// May change with a reload.
    Dynamic,
}

/// What a value is, and its range; ranges include both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `500ms`, `3s`, `15m`, `1h`; milliseconds.
    Duration(u64, u64),
    /// `512B`, `64KiB`, `16MiB`, `1GiB`; bytes.
    Size(u64, u64),
    /// A whole number.
    Count(u64, u64),
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text that is not empty.
    Text,
    /// `info`, or `info,target=debug`.
    Filter,
    /// `IP:PORT`, or `off`.
    Address,
    /// `bolt://HOST:PORT`, `http://HOST:PORT` or `tcp://HOST:PORT`.
    Url,
    /// A list of those.
    Urls,
    /// A list of texts; in the words of the bracket.
    Texts(&'static str),
}

/// A value that is in the range of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a duration, a size or a count.
    Number(u64),
    /// Of a switch.
    Switch(bool),
    /// Of everything else.
    Text(String),
    /// Of a list of texts, each with its place.
    Texts(Vec<(String, Place)>),
}

impl Key {
    /// The environment variable that says the same as the flag.
    pub fn variable(&self) -> Option<String> {
        self.flag.map(variable_of)
    }

    /// Reads a value; the message says what would be right.
    pub fn read(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Duration(min, max) => {
                in_range(parse_duration_ms(text)?, min, max, text, format_duration_ms).map(Value::Number)
            }
            Kind::Size(min, max) => {
                in_range(parse_bytes(text)?, min, max, text, format_bytes).map(Value::Number)
            }
            Kind::Count(min, max) => {
                let number = text.parse().map_err(|_| format!("{text:?} is no whole number"))?;
                in_range(number, min, max, text, |n| n.to_string()).map(Value::Number)
            }
            Kind::Switch => {
                text.parse().map(Value::Switch).map_err(|_| format!("{text:?} is not true or false"))
            }
            Kind::Choice(words) => choice(text, words).map(Value::Text),
            Kind::Filter => filter(text).map(Value::Text),
            Kind::Address if text == "off" || text.parse::<SocketAddr>().is_ok() => {
                Ok(Value::Text(text.to_owned()))
            }
            Kind::Address => Err(format!("{text:?} is no IP:PORT and not off")),
            Kind::Text | Kind::Url | Kind::Urls | Kind::Texts(_) if text.trim().is_empty() => {
                Err("is empty".to_owned())
            }
            Kind::Text | Kind::Url | Kind::Urls | Kind::Texts(_) => Ok(Value::Text(text.to_owned())),
        }
    }

    /// The help of its flag: what it does, its unit, its default and its variable.
    pub fn flag_help(&self) -> String {
        let variable = self.variable().unwrap_or_default();
        format!("{} [{}] [default: {}] [env: {variable}]", self.help, self.kind.describe(), self.default)
    }

    /// Its row of the table in docs/configuration.md.
    pub fn markdown(&self) -> String {
        let change = match self.change {
            Change::Static => "static",
            Change::Dynamic => "dynamic",
        };
        let flag = self.flag.map_or(String::new(), |flag| format!("`{flag}`"));
        let kind = self.kind.describe().replace('|', "\\|");
        format!("| `{}` | {kind} | {} | {change} | {flag} | {} |", self.path, self.default, self.help)
    }
}

impl Kind {
    /// Whether its value is a list.
    pub fn is_list(self) -> bool {
        matches!(self, Kind::Urls | Kind::Texts(_))
    }

    /// In words: the unit, and the range.
    pub fn describe(self) -> String {
        match self {
            Kind::Duration(min, max) => {
                format!("duration, {} to {}", format_duration_ms(min), format_duration_ms(max))
            }
            Kind::Size(min, max) => format!("size, {} to {}", format_bytes(min), format_bytes(max)),
            Kind::Count(min, max) => format!("count, {min} to {max}"),
            Kind::Switch => "true|false".to_owned(),
            Kind::Choice(words) => words.join("|"),
            Kind::Text => "text".to_owned(),
            Kind::Filter => "off|error|warn|info|debug|trace, or target=level, by commas".to_owned(),
            Kind::Address => "IP:PORT|off".to_owned(),
            Kind::Url => "bolt|http|tcp://HOST:PORT".to_owned(),
            Kind::Urls => "list of bolt|http|tcp://HOST:PORT".to_owned(),
            Kind::Texts(of) => format!("list of {of}"),
        }
    }
}

/// The row of a path.
///
/// # Panics
/// When the path is not in the table, which is a defect of this program.
pub fn key(path: &str) -> &'static Key {
    KEYS.iter().find(|key| key.path == path).unwrap_or_else(|| panic!("no key {path}"))
}

/// The row of a flag, dashes included.
///
/// # Panics
/// When no key has this flag, which is a defect of this program.
pub fn key_of_flag(flag: &str) -> &'static Key {
    KEYS.iter().find(|key| key.flag == Some(flag)).unwrap_or_else(|| panic!("no key has the flag {flag}"))
}

/// The default of a key whose default is a number.
pub(crate) fn default_number(path: &'static str) -> u64 {
    match key(path).read(key(path).default) {
        Ok(Value::Number(number)) => number,
        other => unreachable!("the default of {path} is {other:?}"),
    }
}

/// The last word of a path.
pub(crate) fn last(path: &'static str) -> &'static str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

/// `--idle-timeout` is `BOWLINE_IDLE_TIMEOUT`.
pub fn variable_of(flag: &str) -> String {
    format!("BOWLINE_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase())
}

fn in_range(number: u64, min: u64, max: u64, text: &str, write: fn(u64) -> String) -> Result<u64, String> {
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    Err(format!("{text} is not in the range {} to {}", write(min), write(max)))
}

fn choice(text: &str, words: &[&'static str]) -> Result<String, String> {
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    let meant = nearest(text, words.iter().copied())
        .map_or(String::new(), |word| format!("; did you mean {word:?}?"));
    Err(format!("{text:?} is none of {}{meant}", words.join(", ")))
}

fn filter(text: &str) -> Result<String, String> {
    for part in text.split(',') {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        let named = part.rsplit_once('=').is_none_or(|(target, _)| !target.is_empty());
        if part.starts_with("access=") {
            return Err("lines of the target access are switched by --access-log (log.access)".to_owned());
        }
        if !named || !LEVELS.contains(&level) {
            return Err(format!(
                "{part:?} is no level and no target=level; levels are {}",
                LEVELS.join(", ")
            ));
        }
    }
    Ok(text.to_owned())
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// A slot is named by 32 bits, of which some are kept.
/// What a slot's name can count.
pub(crate) const CONNECTIONS_MAX: u64 = 1 << 24;

const fn stays(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { path, kind, default, change: Change::Static, flag: None, help }
}

const fn changes(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { path, kind, default, change: Change::Dynamic, flag: None, help }
}

impl Key {
    const fn flag(self, flag: &'static str) -> Key {
        Key { flag: Some(flag), ..self }
    }
}

/// Every key, in the order of the documentation.
pub const KEYS: &[Key] = &[
    stays("engine.mode", Kind::Choice(&["raw", "tokio"]), "raw",
        "The driver: raw is epoll reactors with a fixed pool; tokio costs more memory per idle connection")
        .flag("--engine"),
    stays("engine.dispatch", Kind::Choice(&["help", "handoff"]), "help",
        "Who runs what a reactor finds: its own thread first, or workers only; handoff costs one thread switch per batch; raw engine only")
        .flag("--dispatch"),
    stays("engine.reactors", Kind::Count(1, 1_024), "(CPUs that the cgroup allows, at most the workers)",
        "Epoll instances; each costs a thread and a timer wheel; raw engine only")
        .flag("--reactors"),
    stays("engine.workers", Kind::Count(1, 1_024), "(as many as reactors)",
        "Threads that run connections, never fewer than reactors; each costs a stack and read buffers of up to 1 MiB")
        .flag("--workers"),
    stays("engine.pin_cores", Kind::Switch, "false",
        "Pins worker n to the n-th CPU it may use; costs fairness towards other processes on those CPUs")
        .flag("--pin-cores"),
    stays("engine.read_budget", Kind::Size(4 * KIB, 16 * MIB), "64KiB",
        "Bytes read from one connection in one turn; more favours bulk senders and costs others latency")
        .flag("--read-budget"),
    stays("engine.buffer_memory_max", Kind::Size(16 * MIB, 1_024 * GIB), "(a quarter of the memory that the cgroup allows)",
        "The ceiling of all buffers: at three quarters the heaviest senders are not read, at the ceiling new work is refused")
        .flag("--buffer-memory-max"),
    stays("engine.max_connections", Kind::Count(1, CONNECTIONS_MAX), "(hard limit of descriptors - 512)",
        "Connections of clients at a time; those above are reset; each costs a descriptor and a few hundred bytes while idle, and with a tunnel or a bound upstream one more of both")
        .flag("--max-connections"),
    changes("engine.max_connections_per_source", Kind::Count(1, CONNECTIONS_MAX), "(no limit)",
        "Connections at a time from one address; those above are reset; costs a table entry per source address")
        .flag("--max-connections-per-source"),
    stays("engine.accept", Kind::Choice(&["shared", "reuseport"]), "shared",
        "One listening socket placed by load, or one per reactor: that accepts faster and costs an uneven spread, and a second instance can share the port without complaint")
        .flag("--accept"),
    stays("engine.rebalance", Kind::Choice(&["on", "off"]), "on",
        "Busy connections leave a reactor that is clearly busier than another; costs nothing while reactors are even, a few microseconds per move; raw engine with help only")
        .flag("--rebalance"),
    stays("listeners[].name", Kind::Text, "(`listener-` and its position)", "The name in logs and metrics"),
    stays("listeners[].address", Kind::Url, "bolt://127.0.0.1:12200",
        "Where clients connect; the host is an IP address or localhost; port 0 takes a free one; repeat the flag for more listeners")
        .flag("--listen"),
    changes("listeners[].cluster", Kind::Text, "(none; the embedded echo upstream if there are no clusters)",
        "The cluster of requests that no route matches, and of every tunnel"),
    changes("listeners[].timeout", Kind::Duration(1, DAY), "1m",
        "The deadline of a request to that cluster that names none itself; not of tunnels"),
    changes("listeners[].send_goaway", Kind::Switch, "false",
        "Whether a draining gateway sends Bolt goaway; clients that do not know command 100 break on it; Bolt only"),
    changes("listeners[].proxy_protocol", Kind::Choice(&["off", "v1", "v2", "any"]), "off",
        "Clients come through a proxy that names them in a header of the PROXY protocol; one without the header is closed; costs some 80 bytes per idle connection; any protocol"),
    changes("listeners[].proxy_trusted", Kind::Texts("IP|IP/BITS"), "(required with proxy_protocol)",
        "The networks whose header is taken for the client's address; connections from elsewhere are reset"),
    changes("listeners[].proxy_timeout", Kind::Duration(10, HOUR), "5s", "How long that header may take"),
    changes("listeners[].tls_passthrough", Kind::Choice(&["off", "required", "preferred"]), "off",
        "Tunnels are routed by the server name in the first message of TLS (`tls_routes`), which is forwarded as it came; what is no TLS is closed, or with preferred goes to the listener's cluster; tcp only"),
    changes("listeners[].hello_timeout", Kind::Duration(10, HOUR), "5s",
        "How long that message may take; with preferred, a client that stays silent so long goes to the listener's cluster, which delays protocols whose server speaks first by as much"),
    changes("listeners[].server_name_required", Kind::Switch, "false",
        "Whether TLS that names no server is closed; otherwise it goes to the listener's cluster"),
    changes("routes[].service", Kind::Text, "(none)", "The exact value of the Bolt header `service`"),
    changes("routes[].service_prefix", Kind::Text, "(none)", "What that header begins with; an exact route goes before, then the longest prefix"),
    changes("routes[].service_regex", Kind::Text, "(none)", "A regular expression that the whole of that header matches; tried last, in the order of the file"),
    changes("routes[].host", Kind::Text, "(any)",
        "The virtual host: `example.com`, `*.example.com` for every name below it, either with `:PORT` to take only clients that name that port; HTTP only, like all below"),
    changes("routes[].path", Kind::Text, "(any)", "The exact path, without a query"),
    changes("routes[].prefix", Kind::Text, "(any)", "A path and all that stands below it: `/api` takes /api and /api/x, not /apis; the longest goes first"),
    changes("routes[].regex", Kind::Text, "(any)", "A regular expression that the whole path matches; tried after all prefixes, in the order of the file, each at the cost of one pass over the path"),
    changes("routes[].methods", Kind::Texts("METHOD"), "(any)", "The methods, as clients write them; GET does not stand for HEAD"),
    changes("routes[].headers", Kind::Texts("NAME|NAME=VALUE|NAME~REGEX"), "(none)",
        "Header fields that must be there, have this value, or match as a whole; all of them, in any line of the name"),
    changes("routes[].query", Kind::Texts("NAME|NAME=VALUE|NAME~REGEX"), "(none)", "The same for query parameters, compared unescaped"),
    changes("routes[].cluster", Kind::Text, "(none)", "The cluster that answers it; its protocol says whether the route is of Bolt or of HTTP"),
    changes("routes[].clusters", Kind::Texts("NAME=WEIGHT"), "(none)", "Several clusters that share the requests by weight, instead of one"),
    changes("routes[].timeout", Kind::Duration(1, DAY), "1m", "The deadline of a request that names none itself"),
    changes("routes[].rewrite_prefix", Kind::Text, "(none)", "What the upstream sees instead of `prefix` or `path`"),
    changes("routes[].rewrite_host", Kind::Text, "(none)", "The host, with a port if need be, that the upstream sees"),
    changes("routes[].redirect", Kind::Text, "(none)",
        "Where the client is sent, instead of a cluster: text with {host}, {authority}, {path}, {rest} behind `prefix`, and {query}"),
    changes("routes[].redirect_status", Kind::Choice(&["301", "302", "303", "307", "308"]), "302", "The status of that"),
    changes("routes[].respond_status", Kind::Count(200, 599), "(none)", "The status that the gateway answers with itself, instead of a cluster"),
    changes("routes[].respond_body", Kind::Text, "(empty)", "The content of that answer, at most 64 KiB"),
    changes("routes[].respond_content_type", Kind::Text, "text/plain; charset=utf-8", "What that content is"),
    changes("routes[].request_headers_add", Kind::Texts("NAME=VALUE"), "(none)", "Header fields that the upstream gets beside those of the client"),
    changes("routes[].request_headers_set", Kind::Texts("NAME=VALUE"), "(none)", "Header fields that the upstream gets instead of the client's"),
    changes("routes[].request_headers_remove", Kind::Texts("NAME"), "(none)", "Header fields that the upstream does not get"),
    changes("routes[].response_headers_add", Kind::Texts("NAME=VALUE"), "(none)", "Header fields that the client gets beside those of the upstream"),
    changes("routes[].response_headers_set", Kind::Texts("NAME=VALUE"), "(none)", "Header fields that the client gets instead of the upstream's"),
    changes("routes[].response_headers_remove", Kind::Texts("NAME"), "(none)", "Header fields that the client does not get"),
    changes("routes[].fault_delay", Kind::Duration(1, HOUR), "(none)", "How long requests wait before they go on: to try how clients bear it"),
    changes("routes[].fault_delay_percent", Kind::Count(1, 100), "100", "How many of a hundred wait"),
    changes("routes[].fault_abort", Kind::Count(400, 599), "(none)", "The status that requests are answered with instead of going on; a delay comes before"),
    changes("routes[].fault_abort_percent", Kind::Count(1, 100), "100", "How many of a hundred are"),
    changes("tls_routes[].server_name", Kind::Text, "(required)",
        "A server name, or `*.` and the end of names; equal goes before the longest end"),
    changes("tls_routes[].alpn", Kind::Text, "(any)", "A protocol that the client must offer, such as h2; goes before a route to the same name without one"),
    changes("tls_routes[].cluster", Kind::Text, "(required)", "The tcp cluster that gets the tunnel"),
    changes("clusters[].name", Kind::Text, "(required)", "The name that listeners and routes use, in logs and metrics too"),
    changes("clusters[].endpoints", Kind::Urls, "(the embedded echo upstream; in a file required unless `echo`)",
        "The servers, all of one protocol; names are resolved again and again; repeat the flag for more endpoints")
        .flag("--upstream"),
    changes("clusters[].echo", Kind::Switch, "false", "The embedded upstream that answers with what it was sent, instead of endpoints"),
    changes("clusters[].protocol", Kind::Choice(&["bolt", "http"]), "bolt", "What the embedded upstream speaks; URLs of endpoints say it themselves"),
    changes("clusters[].balance", Kind::Choice(&["round_robin", "least_outstanding", "random", "hash"]), "round_robin",
        "How an endpoint is chosen: in turn; the one with the fewest requests in flight (tunnels open); of two at random the one with fewer; or by the client's address, the same as long as it may be used (Maglev: 128 KiB per cluster)"),
    changes("clusters[].mode", Kind::Choice(&["shared", "bound"]), "shared",
        "Whether clients share upstream connections; bound lets servers call clients and costs one upstream connection per client; Bolt only")
        .flag("--upstream-mode"),
    changes("clusters[].connections", Kind::Count(1, 1_024), "1",
        "Upstream connections per endpoint and worker; more costs smaller batches; Bolt in shared mode only")
        .flag("--upstream-connections"),
    changes("clusters[].requests_max", Kind::Count(1, 16 * MIB), "65536", "Requests in flight per endpoint; not of tunnels"),
    changes("clusters[].output_max", Kind::Size(64 * KIB, GIB), "4MiB", "Bytes queued for one endpoint; Bolt only"),
    changes("clusters[].connect_timeout", Kind::Duration(1, HOUR), "1s", "The deadline of a connect"),
    changes("clusters[].idle_timeout", Kind::Duration(100, DAY), "1m", "An HTTP connection to an endpoint is closed after so long without a request, earlier if the endpoint announces less; HTTP only"),
    changes("clusters[].requests_per_connection_max", Kind::Count(0, 1_000_000_000), "0",
        "An HTTP connection to an endpoint ends after so many requests, a little earlier at random so that not all end at once; 0 is no limit; HTTP only"),
    changes("clusters[].connection_age_max", Kind::Duration(0, 30 * DAY), "0s",
        "An HTTP connection to an endpoint takes no more requests once it is so old, a little earlier at random; 0s is no limit; HTTP only"),
    changes("clusters[].heartbeat_interval", Kind::Duration(100, DAY), "15s",
        "An upstream connection this long without traffic is asked for a heartbeat; Bolt only"),
    changes("clusters[].heartbeat_timeout", Kind::Duration(10, HOUR), "1s", "How long the answer may take; Bolt only"),
    changes("clusters[].heartbeat_misses_max", Kind::Count(1, 1_000), "3",
        "Unanswered heartbeats that close the connection; Bolt only"),
    changes("clusters[].reconnect_min", Kind::Duration(1, HOUR), "100ms",
        "The first pause after an endpoint could not be reached; it doubles, with jitter"),
    changes("clusters[].reconnect_max", Kind::Duration(1, DAY), "10s", "The longest such pause"),
    changes("clusters[].resolve_interval", Kind::Duration(100, DAY), "30s", "How long a resolved name is good"),
    changes("clusters[].connect_attempts", Kind::Count(1, 16), "3", "How many connects are tried for one tunnel, or one request of HTTP of which nothing was sent; tcp and http only"),
    changes("clusters[].retry_percent", Kind::Count(0, 100), "20",
        "Attempts beyond the first, for a hundred requests or tunnels of all clients together: the retry budget; without any left one is refused (retry_budget); tcp and http only"),
    changes("clusters[].retry_per_second", Kind::Count(0, 1_000_000), "10", "What every second adds to the retry budget, whatever is requested; tcp and http only"),
    changes("clusters[].retry_burst_max", Kind::Count(0, 1_000_000), "1000", "What the retry budget saves at most, and begins with; 0 tries nothing again; tcp and http only"),
    changes("clusters[].source_addresses", Kind::Texts("IP"), "(the system chooses)",
        "Addresses of this host that connections are made from, in turn: each has ports of its own, about 28,000 per endpoint"),
    changes("clusters[].proxy_protocol", Kind::Choice(&["off", "v1", "v2"]), "off",
        "The header of the PROXY protocol that names the client, first on every connection; tcp only, since connections of the others carry requests of many clients"),
    changes("clusters[].original_destination", Kind::Switch, "false",
        "Instead of endpoints: each tunnel goes where its client connected to before the packet filter sent it here (SO_ORIGINAL_DST); tcp only"),
    changes("limits.in_flight_max", Kind::Count(1, 65_535), "1024",
        "Requests of one client connection in flight; the next one is not read"),
    changes("limits.downstream_output_max", Kind::Size(64 * KIB, GIB), "1MiB",
        "Bytes queued for one client connection; half of it stops reading from it"),
    changes("limits.output_rate_min", Kind::Size(1, GIB), "64KiB",
        "A client over that limit that takes less than this in a second is closed as slow_reader"),
    changes("limits.content_max", Kind::Size(KIB, GIB), "16MiB",
        "Largest Bolt content; at most `limits.large_frame_memory_max`, and where it is not said at most a quarter of that, so little buffer memory lowers it"),
    changes("limits.class_header_max", Kind::Size(256, 96 * KIB), "64KiB", "Largest Bolt class name and header together"),
    changes("limits.crc_verify", Kind::Switch, "true", "Whether CRC trailers are verified; costs CPU for each of their bytes"),
    changes("limits.large_frame_memory_max", Kind::Size(MIB, 1_024 * GIB), "(half of `engine.buffer_memory_max`)",
        "Memory for frames above 64 KiB that are still arriving; without a place such a frame waits"),
    changes("limits.frame_timeout", Kind::Duration(100, HOUR), "1m", "How long one frame may take to arrive"),
    changes("limits.frame_rate_min", Kind::Size(1, GIB), "4KiB", "The least that arrives of a frame in a second, after five"),
    changes("limits.heartbeat_rate_max", Kind::Count(1, 100_000), "10", "Heartbeats of one client connection in a second"),
    changes("limits.tunnel_credit", Kind::Size(16 * KIB, GIB), "256KiB",
        "Bytes under way in each direction of a tunnel or of a body of HTTP; less costs throughput on long paths"),
    changes("limits.http_line_max", Kind::Size(256, 64 * KIB), "8KiB", "Longest request line, or status line of an upstream; above it 414, or 502"),
    changes("limits.http_head_max", Kind::Size(KIB, MIB), "32KiB", "Largest head of a message, and largest trailer section; above it 431, or 502"),
    changes("limits.http_fields_max", Kind::Count(1, 256), "100", "Most header fields of a message; above it 431, or 502"),
    changes("limits.http_extension_max", Kind::Size(0, MIB), "4KiB", "Most bytes of chunk extensions in one body; above it 400"),
    changes("limits.http_body_max", Kind::Size(0, 1_024 * GIB), "0B", "Largest body; 0B is no limit, since bodies are streamed; above it 413"),
    changes("limits.http_body_rate_min", Kind::Size(1, GIB), "16B",
        "The least that comes of the body of an HTTP request in a second, over `timeouts.http_body` and while it is read"),
    changes("timeouts.idle", Kind::Duration(100, 30 * DAY), "15m",
        "A client connection without a byte for this long is closed; heartbeats count as bytes; longer costs memory for dead peers")
        .flag("--idle-timeout"),
    changes("timeouts.client_fin", Kind::Duration(100, 30 * DAY), "15m",
        "A tunnel whose client has ended its side ends after so long without a byte of the server"),
    changes("timeouts.server_fin", Kind::Duration(100, 30 * DAY), "15m",
        "A tunnel whose server has ended its side ends after so long without a byte of the client"),
    changes("timeouts.tunnel_max", Kind::Duration(100, 365 * DAY), "(no limit)",
        "A tunnel is closed after so long, whatever it carries"),
    changes("timeouts.http_head", Kind::Duration(100, HOUR), "10s",
        "The head of an HTTP request must be there so long after its first byte, whatever comes of it in between"),
    changes("timeouts.http_body", Kind::Duration(100, DAY), "1m",
        "How long less than `limits.http_body_rate_min` may come of a request's body while it is read, or be taken of an answer; a server that falls silent in the middle of an answer has `timeouts.idle`"),
    changes("timeouts.websocket_answer", Kind::Duration(100, HOUR), "2s",
        "When a drain ends a WebSocket, how long its client has for its close frame, and as long again its server; longer suits clients far away, and `drain.deadline` bounds both"),
    changes("http.forwarded", Kind::Choice(&["x-forwarded", "forwarded", "both", "off"]), "x-forwarded",
        "How upstreams learn of the client: X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239); what clients say of themselves in either is removed unless they are trusted"),
    changes("http.trusted", Kind::Texts("IP|IP/BITS"), "(nobody)",
        "Proxies whose word about their client is believed: their fields are kept and added to, their X-Request-Id is kept"),
    changes("http.request_id", Kind::Switch, "true", "Whether every request has an X-Request-Id, made here if no trusted proxy sent one"),
    changes("http.via", Kind::Text, "(none)", "The name of this gateway in Via, which is not written without one"),
    changes("http.escaped_slash", Kind::Choice(&["refuse", "keep"]), "refuse",
        "What happens to %2F and %5C in a path: 400, or left as they are; servers differ in what they take them for"),
    changes("http.underscores", Kind::Choice(&["drop", "refuse", "keep"]), "drop",
        "What happens to request fields with an underscore in the name, which some servers take for a dash: not forwarded, 400, or forwarded"),
    changes("http.error_reason", Kind::Switch, "false",
        "Whether error answers name the failure in a field X-Bowline-Reason"),
    stays("admin.address", Kind::Address, "127.0.0.1:2046",
        "Where health, metrics and the list of connections are; whoever reaches it sees them, if their Host is localhost or an IP address of it (421 otherwise, against rebound names); off costs all three")
        .flag("--admin"),
    changes("drain.delay", Kind::Duration(0, HOUR), "3s",
        "How long accepting goes on after readiness went off, so that balancers notice; costs that much of every stop")
        .flag("--drain-delay"),
    changes("drain.deadline", Kind::Duration(0, DAY), "30s",
        "What is not finished so long after accepting stopped is cut; longer costs slower stops")
        .flag("--drain-deadline"),
    changes("log.level", Kind::Filter, "info",
        "What is logged; debug costs one line per opened and closed connection")
        .flag("--log-level"),
    stays("log.format", Kind::Choice(&["text", "json"]), "text", "For people or for machines; json costs more bytes").flag("--log-format"),
    changes("log.access", Kind::Switch, "false", "One line per request, which costs CPU; lines are dropped and counted when the reader is slow or they cannot be written")
        .flag("--access-log"),
    stays("log.file", Kind::Text, "(standard error)", "The file that lines are appended to"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_default_that_is_a_value_is_in_range() {
        for key in KEYS.iter().filter(|key| !key.default.starts_with('(')) {
            assert!(key.read(key.default).is_ok(), "{}: {:?}", key.path, key.read(key.default));
        }
    }

    #[test]
    fn paths_and_flags_are_unique() {
        let paths: HashSet<_> = KEYS.iter().map(|key| key.path).collect();
        assert_eq!(paths.len(), KEYS.len());
        let flags: Vec<_> = KEYS.iter().filter_map(|key| key.flag).collect();
        assert_eq!(flags.iter().collect::<HashSet<_>>().len(), flags.len());
    }

    #[test]
    fn values_out_of_range_say_the_range() {
        let refused = |path: &str, text: &str| key(path).read(text).expect_err("it is refused");
        assert_eq!(refused("engine.workers", "0"), "0 is not in the range 1 to 1024");
        assert_eq!(refused("engine.workers", "two"), "\"two\" is no whole number");
        assert_eq!(refused("timeouts.idle", "1ms"), "1ms is not in the range 100ms to 720h");
        assert_eq!(
            refused("engine.mode", "tokoi"),
            "\"tokoi\" is none of raw, tokio; did you mean \"tokio\"?"
        );
        assert_eq!(refused("engine.pin_cores", "yes"), "\"yes\" is not true or false");
        assert_eq!(refused("admin.address", "localhost"), "\"localhost\" is no IP:PORT and not off");
        assert_eq!(refused("log.file", " "), "is empty");
        assert!(refused("log.level", "loud").starts_with("\"loud\" is no level and no target=level"));
        assert!(refused("log.level", "info,=debug").starts_with("\"=debug\" is no level"));
        assert!(refused("log.level", "info,access=info").contains("--access-log"));
        assert!(key("log.level").read("warn,bowline_gateway=debug").is_ok());
    }

    #[test]
    fn a_flag_has_a_variable() {
        assert_eq!(key_of_flag("--idle-timeout").variable().as_deref(), Some("BOWLINE_IDLE_TIMEOUT"));
    }
}
