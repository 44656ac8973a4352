//! Owns what can be measured: the gateway in any mode with any flags, our bare relays, and peers whose configurations are
//! part of the program. Each is started the same way: told where the backend is, asked where it listens. Refuses names that
//! it does not know, with those that it does.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;

use crate::scenario::instructions;
use crate::scenario::instructions::VALGRIND;
use crate::scenario::peer::Peer;
use crate::scenario::programs::Running;
use crate::scenario::programs::words;
use crate::spawn::Spawned;
use crate::trouble::Trouble;
use crate::wire::Protocol;

/// Something that is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its name in all tables.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// It speaks what the window does, or relays that as TCP.
    Gateway {
        engine: String,
        tunnels: bool,
        flags: Vec<String>,
    },
    Relay {
        flags: &'static [&'static str],
    },
    Peer {
        peer: Peer,
        program: PathBuf,
    },
}

/// How a target is started.
#[derive(Clone, Copy, Debug)]
pub struct StartOptions<'a> {
    /// The path of `bowline-bench` itself.
    pub bench: &'a Path,
    /// The gateway's program.
    pub gateway: Option<&'a Path>,
    /// What clients speak.
    pub protocol: Protocol,
    /// Where the backend listens.
    pub upstream: SocketAddr,
    /// Processes that share a port.
    pub processes: usize,
    /// Further flags of the gateway.
    pub gateway_flags: &'a [String],
    /// Whether the gateway's admin interface is needed.
    pub admin: bool,
    /// What it is configured for, where that is not its default.
    pub connections_max: Option<usize>,
    /// Where configurations are written.
    pub folder: &'a Path,
    /// Where valgrind writes what it counted, if the target runs below it.
    pub callgrind: Option<&'a Path>,
}

impl Target {
    /// `raw`, `tokio`, `raw-tcp`, `tokio-tcp`, a relay, or `NAME=MODE FLAGS...` for the gateway with flags of its own.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').unwrap_or((text, text));
        let mut rest = rest.split_whitespace();
        let mode = rest.next().unwrap_or_default();
        let flags: Vec<String> = rest.map(String::from).collect();
        let gateway = |engine: &str, tunnels| Kind::Gateway { engine: engine.into(), tunnels, flags };
        let kind = match mode {
            "raw" | "tokio" => gateway(mode, false),
            "raw-tcp" => gateway("raw", true),
            "tokio-tcp" => gateway("tokio", true),
            "relay-epoll" => Kind::Relay { flags: &["epoll"] },
            "relay-tokio" => Kind::Relay { flags: &["tokio", "--runtime", "current-thread"] },
            "relay-tokio-multi" => Kind::Relay { flags: &["tokio", "--runtime", "multi-thread"] },
            _ => return Err(format!("{text:?}: one of {}, or NAME=MODE FLAGS", NAMES.join(", "))),
        };
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c == '/') {
            return Err(format!("{text:?}: a name without spaces and slashes"));
        }
        Ok(Self { name: name.into(), kind })
    }

    /// A peer, found as `program`.
    pub fn peer(peer: Peer, program: PathBuf) -> Self {
        Self { name: peer.name().into(), kind: Kind::Peer { peer, program } }
    }

    /// Whether it is ours: what is not may be missing, and is not measured by itself.
    pub fn is_peer(&self) -> bool {
        matches!(self.kind, Kind::Peer { .. })
    }

    /// Whether the gateway's program is needed.
    pub fn is_gateway(&self) -> bool {
        matches!(self.kind, Kind::Gateway { .. })
    }

    /// How many connections it holds for each client: a tunnel has an upstream connection of its own.
    pub fn connections_per_client(&self, protocol: Protocol) -> usize {
        match &self.kind {
            Kind::Gateway { tunnels: true, .. } => 2,
            _ if protocol == Protocol::Websocket => 2,
            _ => 1,
        }
    }

    /// Why it cannot take part in something, if it cannot.
    pub fn unfit(
        &self,
        protocol: Protocol,
        connections: usize,
        processes: usize,
        heartbeats: bool,
    ) -> Option<String> {
        let peer = match &self.kind {
            Kind::Gateway { .. } => return None,
            Kind::Relay { .. } => {
                return (protocol == Protocol::Websocket).then(|| "it knows no WebSocket".into());
            }
            Kind::Peer { peer, .. } => peer,
        };
        if !peer.has_part(protocol) {
            return Some("it has no configuration for what is spoken".into());
        }
        if processes > 1 {
            return Some("it is not started as several processes".into());
        }
        if peer.relays_tcp() && heartbeats {
            return Some("it relays TCP and answers no heartbeat itself".into());
        }
        let connections_max = peer_connections_max(protocol);
        (connections > connections_max).then(|| format!("it is configured for {connections_max} connections"))
    }

    /// Starts it; all processes listen at the address of the first.
    pub fn start(&self, options: &StartOptions<'_>) -> Result<Vec<Running>, Trouble> {
        let mut running: Vec<Running> = Vec::new();
        for _ in 0..options.processes {
            let at = running.first().map(|first| first.address);
            running.push(self.start_one(options, at)?);
        }
        Ok(running)
    }

    fn start_one(&self, options: &StartOptions<'_>, at: Option<SocketAddr>) -> Result<Running, Trouble> {
        match &self.kind {
            Kind::Gateway { engine, tunnels, flags } => {
                let protocol = if *tunnels { "tcp" } else { options.protocol.scheme() };
                let program = options.gateway.ok_or_else(|| {
                    Trouble::Asked(format!("{}: say where the gateway's program is: --gateway", self.name))
                })?;
                let listen =
                    at.map_or_else(|| format!("{protocol}://127.0.0.1:0"), |at| format!("{protocol}://{at}"));
                let upstream = format!("{protocol}://{}", options.upstream);
                let mut arguments = words(&["run", "--listen", &listen, "--upstream", &upstream]);
                let admin = if options.admin { "127.0.0.1:0" } else { "off" };
                arguments.extend(words(&["--engine", engine, "--admin", admin]));
                if options.processes > 1 {
                    arguments.extend(words(&["--accept", "reuseport"]));
                }
                if let Some(connections_max) = options.connections_max {
                    arguments.extend(words(&["--max-connections", &connections_max.to_string()]));
                }
                arguments.extend(options.gateway_flags.iter().chain(flags).map(OsString::from));
                Running::announced(self.spawn(options, program, &arguments)?)
            }
            Kind::Relay { flags } => {
                let mut arguments = words(&["relay"]);
                arguments.extend(words(flags));
                arguments.extend(words(&["--to", &options.upstream.to_string()]));
                arguments.extend(words(&["--duration", RELAY_SECONDS_MAX]));
                if options.protocol == Protocol::Http {
                    arguments.extend(words(&["--protocol", "http"]));
                }
                if let Some(at) = at {
                    arguments.extend(words(&["--listen", &at.to_string()]));
                }
                if options.processes > 1 {
                    arguments.extend(words(&["--reuseport"]));
                }
                Running::announced(self.spawn(options, options.bench, &arguments)?)
            }
            Kind::Peer { peer, program } => self.start_peer(*peer, program, options),
        }
    }

    /// Writes the peer's configuration and starts it on a port that was free a moment ago.
    fn start_peer(&self, peer: Peer, program: &Path, options: &StartOptions<'_>) -> Result<Running, Trouble> {
        let listen = free_address()?;
        let folder = options.folder.join(&self.name);
        fs::create_dir_all(&folder).map_err(Trouble::doing(format!("making {}", folder.display())))?;
        let connections = options.connections_max.unwrap_or(peer_connections_max(options.protocol));
        for (file, text) in peer.files(options.protocol, listen, options.upstream, &folder, connections) {
            let path = folder.join(file);
            fs::write(&path, text).map_err(Trouble::doing(format!("writing {}", path.display())))?;
        }
        let arguments: Vec<_> = peer.arguments(&folder).into_iter().map(OsString::from).collect();
        let process = self.spawn(options, program, &arguments)?;
        Running::silent(process, listen, options.protocol, peer.ends_by())
    }

    /// What it says on standard error stands beside the results.
    fn spawn(
        &self,
        options: &StartOptions<'_>,
        program: &Path,
        arguments: &[OsString],
    ) -> Result<Spawned, Trouble> {
        let log = options.folder.join(format!("{}.log", self.name));
        let Some(out) = options.callgrind else {
            return Spawned::start_logged(options.bench, &self.name, program, arguments, &log);
        };
        let arguments = instructions::below_callgrind(program, arguments, out);
        Spawned::start_logged(options.bench, &self.name, Path::new(VALGRIND), &arguments, &log)
    }
}

/// How many connections a peer is configured for. Each takes two descriptors, of 20,000, unless requests share upstream
/// connections.
const fn peer_connections_max(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Bolt | Protocol::Websocket => 9_600,
        Protocol::Http => 16_000,
    }
}

fn free_address() -> Result<SocketAddr, Trouble> {
    let find = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr();
    find().map_err(Trouble::doing("looking for a free port"))
}

/// What [`Target::parse`] knows.
const NAMES: [&str; 7] =
    ["raw", "tokio", "raw-tcp", "tokio-tcp", "relay-epoll", "relay-tokio", "relay-tokio-multi"];
/// It ends with the window long before.
const RELAY_SECONDS_MAX: &str = "3600";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_parsed_by_name_and_with_flags_of_their_own() {
        let target = Target::parse("handoff=raw --dispatch handoff").expect("valid");
        let flags = vec!["--dispatch".to_owned(), "handoff".into()];
        assert_eq!(target.name, "handoff");
        assert_eq!(target.kind, Kind::Gateway { engine: "raw".into(), tunnels: false, flags });
        for name in NAMES {
            assert_eq!(Target::parse(name).expect("it is known").name, name);
        }
        for wrong in ["", "netty", "a=b", "=raw", "a b=raw", "../x=raw"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_peer_that_relays_tcp_takes_no_part_in_what_it_cannot_do() {
        let nginx = Target::peer(Peer::Nginx, PathBuf::from("nginx"));
        let unfit = |connections, processes, heartbeats| {
            nginx.unfit(Protocol::Bolt, connections, processes, heartbeats)
        };
        assert_eq!(unfit(9_000, 1, false), None);
        assert!(unfit(17_000, 1, false).is_some());
        assert!(unfit(50, 6, false).is_some());
        assert!(unfit(50, 1, true).is_some());
        let raw = Target::parse("raw").expect("known");
        assert_eq!(raw.unfit(Protocol::Bolt, 100_000, 6, true), None);
    }

    #[test]
    fn who_takes_part_follows_what_is_spoken() {
        let unfit = |target: &Target, protocol| target.unfit(protocol, 15_000, 1, false).is_some();
        let peer = |peer| Target::peer(peer, PathBuf::from("p"));
        assert!(!unfit(&peer(Peer::Nginx), Protocol::Http), "upstream connections are shared");
        assert!(unfit(&peer(Peer::Nginx), Protocol::Websocket), "and here they are not");
        assert!(unfit(&peer(Peer::Sozu), Protocol::Http));
        assert_eq!(peer(Peer::H2o).unfit(Protocol::Http, 50, 1, false), None);
        assert!(peer(Peer::H2o).unfit(Protocol::Bolt, 50, 1, false).is_some());
        let relay = Target::parse("relay-epoll").expect("known");
        assert!(unfit(&relay, Protocol::Websocket) && !unfit(&relay, Protocol::Http));
        let counts = [Protocol::Bolt, Protocol::Http, Protocol::Websocket].map(|protocol| {
            ["raw", "raw-tcp"]
                .map(|name| Target::parse(name).expect("known").connections_per_client(protocol))
        });
        assert_eq!(counts, [[1, 2], [1, 2], [2, 2]]);
    }
}
