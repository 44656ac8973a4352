//! Addresses as people write them: `bolt://HOST:PORT`, `http://HOST:PORT` and `tcp://HOST:PORT`. Names are kept as names, since they are
//! resolved again and again elsewhere; nothing is looked up here. Called by the loader and by `bowline call`.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use crate::config::plan::EndpointPlan;
use crate::config::plan::Protocol;

/// A protocol, a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// What is spoken there.
    pub protocol: Protocol,
    /// An IP address without brackets, or a name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Url {
    /// Reads one; the message says what would be right.
    pub fn parse(text: &str) -> Result<Url, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("{text:?} is no URL; write for example bolt://127.0.0.1:12200"))?;
        let protocol = Url::protocol_of(text)
            .ok_or_else(|| format!("{text:?}: no protocol {scheme:?}; known: bolt, http, tcp"))?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| format!("{text:?}: the port is missing"))?;
        let port = port.parse().map_err(|_| format!("{text:?}: {port:?} is no port"))?;
        if !is_host(host) {
            return Err(format!("{text:?}: {host:?} is no host"));
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        Ok(Url { protocol, host: bare.unwrap_or(host).to_owned(), port })
    }

    /// What one says is spoken there, whatever is wrong behind that.
    pub fn protocol_of(text: &str) -> Option<Protocol> {
        match text.split_once("://")?.0 {
            "bolt" => Some(Protocol::Bolt),
            "http" => Some(Protocol::Http),
            "tcp" => Some(Protocol::Tcp),
            _ => None,
        }
    }

    /// The address to bind; a name other than localhost is refused, since it may mean several.
    pub fn bind_address(&self) -> Result<SocketAddr, String> {
        if self.host == "localhost" {
            return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port));
        }
        let address =
            self.host.parse().map_err(|_| format!("{:?} is no IP address to listen on", self.host))?;
        Ok(SocketAddr::new(address, self.port))
    }

    /// The endpoint to connect to.
    pub fn endpoint(&self) -> Result<EndpointPlan, String> {
        if self.port == 0 {
            return Err(format!("{:?}: port 0 cannot be connected to", self.to_string()));
        }
        Ok(match self.host.parse() {
            Ok(address) => EndpointPlan::Address(SocketAddr::new(address, self.port)),
            Err(_) => EndpointPlan::Name { host: self.host.clone(), port: self.port },
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = protocol_name(self.protocol);
        match self.host.contains(':') {
            true => write!(formatter, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(formatter, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// `bolt`, `http` or `tcp`.
pub fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Bolt => "bolt",
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
    }
}

/// An address of IPv6 in brackets, an address of IPv4 or a name.
pub(crate) fn is_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bare.map_or_else(|| is_name(host), |address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// RFC 1123, and the underscore that service names in clusters have.
fn is_name(host: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=253).contains(&host.len()) && host.chars().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for text in ["bolt://127.0.0.1:12200", "tcp://[::1]:0", "bolt://orders.svc_1.local:80"] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_url_says_why() {
        let refused = |text: &str| Url::parse(text).expect_err("it is refused");
        assert_eq!(refused("bolt//x"), "\"bolt//x\" is no URL; write for example bolt://127.0.0.1:12200");
        assert_eq!(refused("smtp://x:1"), "\"smtp://x:1\": no protocol \"smtp\"; known: bolt, http, tcp");
        assert_eq!(refused("bolt://"), "\"bolt://\": the port is missing");
        assert_eq!(refused("bolt://x:99999"), "\"bolt://x:99999\": \"99999\" is no port");
        assert_eq!(refused("bolt://:1"), "\"bolt://:1\": \"\" is no host");
        assert_eq!(refused("bolt://::1:1"), "\"bolt://::1:1\": \"::1\" is no host");
        assert_eq!(refused("bolt://x:1/path"), "\"bolt://x:1/path\": \"1/path\" is no port");
        assert_eq!(refused("tcp://a b:1"), "\"tcp://a b:1\": \"a b\" is no host");
    }

    #[test]
    fn only_an_address_can_be_bound_and_only_a_port_reached() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert_eq!(url("tcp://localhost:0").bind_address(), Ok("127.0.0.1:0".parse().unwrap()));
        assert_eq!(url("tcp://[::1]:7").bind_address(), Ok("[::1]:7".parse().unwrap()));
        assert_eq!(
            url("tcp://web:7").bind_address(),
            Err("\"web\" is no IP address to listen on".to_owned())
        );
        assert_eq!(url("tcp://[::1]:7").endpoint(), Ok(EndpointPlan::Address("[::1]:7".parse().unwrap())));
        assert_eq!(url("tcp://web:7").endpoint(), Ok(EndpointPlan::Name { host: "web".to_owned(), port: 7 }));
        assert!(url("tcp://web:0").endpoint().unwrap_err().contains("port 0"));
    }
}
