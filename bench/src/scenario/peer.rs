//! Owns the proxies that Bowline is measured beside: their names, their configurations (files in `bench/peers`, part of the
//! program) and how each is started in the foreground. Refuses to install any: `scripts/peers.sh` does.

use std::net::SocketAddr;
use std::path::Path;

/// A proxy of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// nginx, stream module.
    Nginx,
    /// HAProxy.
    Haproxy,
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

    /// Its configuration: names and texts of files in `folder`.
    pub fn files(
        self,
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
            ("@DESCRIPTORS@", (2 * connections + DESCRIPTORS_SPARE).to_string()),
            ("@NETPOLL@", netpoll.to_string()),
        ];
        let fill =
            |text: &str| words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value));
        self.templates().iter().map(|(name, text)| (*name, fill(text))).collect()
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
            Self::Envoy => {
                let fixed = ["--concurrency", "2", "--disable-hot-restart", "--log-level", "error", "-c"];
                fixed.into_iter().map(String::from).chain([file("envoy.yaml")]).collect()
            }
            Self::Traefik => vec![format!("--configFile={}", file("traefik.yaml"))],
            Self::Sozu => vec!["start".into(), "-c".into(), file("sozu.toml")],
            Self::MosnGoroutine | Self::MosnNetpoll => vec!["start".into(), "-c".into(), file("mosn.json")],
        }
    }

    const fn templates(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Nginx => &[("nginx.conf", include_str!("../../peers/nginx.conf"))],
            Self::Haproxy => &[("haproxy.cfg", include_str!("../../peers/haproxy.cfg"))],
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
}

/// Proxies that are asked for and take no part in any window, with the reason.
pub const ABSENT: [(&str, &str); 1] =
    [("h2o", "it relays no TCP, and speaks no Bolt; it is for scenarios of HTTP/1.1 and HTTP/2")];
const BY_NAME: [(&str, &[Peer]); 6] = [
    ("nginx", &[Peer::Nginx]),
    ("haproxy", &[Peer::Haproxy]),
    ("envoy", &[Peer::Envoy]),
    ("traefik", &[Peer::Traefik]),
    ("sozu", &[Peer::Sozu]),
    ("mosn", &[Peer::MosnGoroutine, Peer::MosnNetpoll]),
];
const DESCRIPTORS_SPARE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_configuration_is_filled_in() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for peer in BY_NAME.into_iter().flat_map(|(_, peers)| peers) {
            let files = peer.files(address(1_111), address(2_222), Path::new("f"), 100);
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
        let [a, b] = [Peer::MosnGoroutine, Peer::MosnNetpoll]
            .map(|peer| peer.files(address, address, Path::new("f"), 100).remove(0).1);
        serde_json::from_str::<serde_json::Value>(&a).expect("it is JSON");
        let differ: Vec<_> = a.lines().zip(b.lines()).filter(|(a, b)| a != b).collect();
        assert!(matches!(&differ[..], [(a, b)] if a.contains("false") && b.contains("true")), "{differ:?}");
        assert_eq!(Peer::named("mosn").map(<[Peer]>::len), Some(2));
        assert_eq!(Peer::named("caddy"), None);
    }
}
