//! Owns the proxies that Bowline is measured beside: their names, their configurations (files in `bench/peers`, part of the
//! program) and how each is started in the foreground. Refuses to install any: `scripts/peers.sh` does.

use std::net::SocketAddr;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::wire::Protocol;

/// A proxy of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// nginx, with its stream module for TCP.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// h2o.
    H2o,
    /// Envoy.
    Envoy,
    /// Traefik.
    Traefik,
    /// Sozu.
    Sozu,
    /// MOSN, a goroutine for each connection.
    MosnGoroutine,
    /// MOSN, its "RawEpoll" mode.
    MosnNetpoll,
}

impl Peer {
    /// Those that go by a name on the command line: MOSN is two.
    pub fn named(name: &str) -> Option<&'static [Self]> {
        BY_NAME.into_iter().find(|(known, _)| *known == name).map(|(_, peers)| peers)
    }

    /// What can be named.
    pub fn names() -> Vec<&'static str> {
        BY_NAME.into_iter().map(|(name, _)| name).collect()
    }

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::H2o => "h2o",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
            Self::Sozu => "sozu",
            Self::MosnGoroutine => "mosn-goroutine",
            Self::MosnNetpoll => "mosn-netpoll",
        }
    }

    /// It knows nothing of Bolt.
    pub const fn relays_tcp(self) -> bool {
        !matches!(self, Self::MosnGoroutine | Self::MosnNetpoll)
    }

    /// Whether it can stand where clients speak this.
    pub fn has_part(self, protocol: Protocol) -> bool {
        !self.templates(protocol).is_empty()
    }

    /// Its configuration: names and texts of files in `folder`.
    pub fn files(
        self,
        protocol: Protocol,
        listen: SocketAddr,
        upstream: SocketAddr,
        folder: &Path,
        connections: usize,
    ) -> Vec<(&'static str, String)> {
        let netpoll = self == Self::MosnNetpoll;
        let words = [
            ("@LISTEN@", listen.to_string()),
            ("@LISTEN_HOST@", listen.ip().to_string()),
            ("@LISTEN_PORT@", listen.port().to_string()),
            ("@UPSTREAM@", upstream.to_string()),
            ("@UPSTREAM_HOST@", upstream.ip().to_string()),
            ("@UPSTREAM_PORT@", upstream.port().to_string()),
            ("@FOLDER@", folder.display().to_string()),
            ("@CONNECTIONS@", connections.to_string()),
            ("@DESCRIPTORS@", descriptors_per_worker(protocol, connections).to_string()),
            ("@NETPOLL@", netpoll.to_string()),
        ];
        let fill =
            |text: &str| words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value));
        self.templates(protocol).iter().map(|(name, text)| (*name, fill(text))).collect()
    }

    /// The flags that make it run in the foreground with the configuration in `folder`.
    pub fn arguments(self, folder: &Path) -> Vec<String> {
        let file = |name: &str| folder.join(name).display().to_string();
        let prefix = folder.display().to_string();
        match self {
            Self::Nginx => {
                vec!["-p", &prefix, "-c", &file("nginx.conf")].into_iter().map(String::from).collect()
            }
            Self::Haproxy => vec!["-db".into(), "-q".into(), "-f".into(), file("haproxy.cfg")],
            Self::H2o => vec!["-c".into(), file("h2o.yaml")],
            Self::Envoy => {
                let fixed = ["--concurrency", "2", "--disable-hot-restart", "--log-level", "error", "-c"];
                fixed.into_iter().map(String::from).chain([file("envoy.yaml")]).collect()
            }
            Self::Traefik => vec![format!("--configFile={}", file("traefik.yaml"))],
            Self::Sozu => vec!["start".into(), "-c".into(), file("sozu.toml")],
            Self::MosnGoroutine | Self::MosnNetpoll => vec!["start".into(), "-c".into(), file("mosn.json")],
        }
    }

    /// The signal that ends it at once, with all its processes.
    pub const fn ends_by(self) -> Signal {
        match self {
            // HAProxy and h2o have no handler of SIGINT, and a shell that starts the suite in its background lets all that it
            // starts ignore that one.
            Self::Nginx | Self::Haproxy | Self::H2o | Self::Envoy | Self::Traefik | Self::Sozu => {
                Signal::SIGTERM
            }
            // On SIGTERM it waits for its clients.
            Self::MosnGoroutine | Self::MosnNetpoll => Signal::SIGINT,
        }
    }

    fn templates(self, protocol: Protocol) -> &'static [Template] {
        match protocol {
            Protocol::Bolt => self.templates_of_bolt(),
            Protocol::Http | Protocol::Websocket => self.templates_of_http(),
        }
    }

    /// Relays of TCP, and MOSN.
    const fn templates_of_bolt(self) -> &'static [Template] {
        match self {
            Self::Nginx => &[("nginx.conf", include_str!("../../peers/nginx.conf"))],
            Self::Haproxy => &[("haproxy.cfg", include_str!("../../peers/haproxy.cfg"))],
            Self::H2o => &[],
            Self::Envoy => &[("envoy.yaml", include_str!("../../peers/envoy.yaml"))],
            Self::Traefik => &[
                ("traefik.yaml", include_str!("../../peers/traefik.yaml")),
                ("routes.yaml", include_str!("../../peers/traefik-routes.yaml")),
            ],
            Self::Sozu => &[("sozu.toml", include_str!("../../peers/sozu.toml"))],
            Self::MosnGoroutine | Self::MosnNetpoll => {
                &[("mosn.json", include_str!("../../peers/mosn.json"))]
            }
        }
    }

    /// Reverse proxies.
    const fn templates_of_http(self) -> &'static [Template] {
        match self {
            Self::Nginx => &[("nginx.conf", include_str!("../../peers/nginx-http.conf"))],
            Self::Haproxy => &[("haproxy.cfg", include_str!("../../peers/haproxy-http.cfg"))],
            Self::H2o => &[("h2o.yaml", include_str!("../../peers/h2o.yaml"))],
            Self::Envoy => &[("envoy.yaml", include_str!("../../peers/envoy-http.yaml"))],
            Self::Traefik => &[
                ("traefik.yaml", include_str!("../../peers/traefik-http.yaml")),
                ("routes.yaml", include_str!("../../peers/traefik-http-routes.yaml")),
            ],
            Self::Sozu => &[],
            Self::MosnGoroutine | Self::MosnNetpoll => {
                &[("mosn.json", include_str!("../../peers/mosn-http.json"))]
            }
        }
    }
}

/// What one of two workers needs when the kernel spreads connections over them: half, and as much again as it may be off by.
fn descriptors_per_worker(protocol: Protocol, connections: usize) -> usize {
    match protocol {
        // One for each client, and a pool to the backend.
        Protocol::Http => connections * 5 / 8 + HTTP_POOL + DESCRIPTORS_SPARE,
        // Two for each client.
        Protocol::Bolt | Protocol::Websocket => connections * 2 * 5 / 8 + DESCRIPTORS_SPARE,
    }
}

/// Name and text of a file.
type Template = (&'static str, &'static str);

const BY_NAME: [(&str, &[Peer]); 7] = [
    ("nginx", &[Peer::Nginx]),
    ("haproxy", &[Peer::Haproxy]),
    ("h2o", &[Peer::H2o]),
    ("envoy", &[Peer::Envoy]),
    ("traefik", &[Peer::Traefik]),
    ("sozu", &[Peer::Sozu]),
    ("mosn", &[Peer::MosnGoroutine, Peer::MosnNetpoll]),
];
const DESCRIPTORS_SPARE: usize = 64;
/// As nginx-http.conf says.
const HTTP_POOL: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_configuration_is_filled_in() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let protocols = [Protocol::Bolt, Protocol::Http, Protocol::Websocket];
        let all = BY_NAME.into_iter().flat_map(|(_, peers)| peers);
        for (peer, protocol) in all.flat_map(|peer| protocols.map(|protocol| (peer, protocol))) {
            let files = peer.files(protocol, address(1_111), address(2_222), Path::new("f"), 100);
            assert_eq!(files.is_empty(), !peer.has_part(protocol));
            if files.is_empty() {
                continue;
            }
            let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
            let settings = all.lines().filter(|line| !line.trim_start().starts_with('#'));
            let settings: String = settings.map(|line| format!("{line}\n")).collect();
            assert!(settings.contains("1111") && settings.contains("2222"), "{peer:?}");
            for (word, _) in settings.match_indices('@') {
                assert!(settings[word..].starts_with("@type"), "{peer:?}: {}", &settings[word..word + 20]);
            }
        }
    }

    #[test]
    fn mosn_is_two_peers_that_differ_by_one_setting() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        for protocol in [Protocol::Bolt, Protocol::Http] {
            let [a, b] = [Peer::MosnGoroutine, Peer::MosnNetpoll]
                .map(|peer| peer.files(protocol, address, address, Path::new("f"), 100).remove(0).1);
            serde_json::from_str::<serde_json::Value>(&a).expect("it is JSON");
            let differ: Vec<_> = a.lines().zip(b.lines()).filter(|(a, b)| a != b).collect();
            assert!(
                matches!(&differ[..], [(a, b)] if a.contains("false") && b.contains("true")),
                "{differ:?}"
            );
        }
        assert_eq!(Peer::named("mosn").map(<[Peer]>::len), Some(2));
        assert_eq!(Peer::named("caddy"), None);
    }
}
