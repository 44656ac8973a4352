//! What is said once everything is bound: one line of JSON for programs, and for people the command that sends a first
//! request. Makes texts from a plan and bound addresses; writes nothing.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use serde::Serialize;

use crate::config::plan::EngineMode;
use crate::config::plan::ListenerPlan;
use crate::config::plan::Plan;
use crate::config::plan::Protocol;
use crate::config::plan::ServicePlan;
use crate::config::url::Url;
use crate::config::url::protocol_name;

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    pid: u32,
    version: &'static str,
    engine: &'static str,
    listeners: Vec<Listener<'a>>,
    admin: Option<SocketAddr>,
}

#[derive(Serialize)]
struct Listener<'a> {
    name: &'a str,
    protocol: &'static str,
    address: SocketAddr,
}

/// The line that says where everything is bound: `addresses` are those of the plan's listeners, in their order.
pub(super) fn line(plan: &Plan, addresses: &[SocketAddr], admin: Option<SocketAddr>) -> String {
    let listeners = plan.listeners.iter().zip(addresses).map(|(listener, address)| Listener {
        name: &listener.name,
        protocol: protocol_name(listener.protocol),
        address: *address,
    });
    let line = Line {
        event: "ready",
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
        engine: engine_name(plan.engine.mode),
        listeners: listeners.collect(),
        admin,
    };
    serde_json::to_string(&line).expect("names and addresses are always JSON")
}

/// `raw` or `tokio`.
pub(super) fn engine_name(mode: EngineMode) -> &'static str {
    match mode {
        EngineMode::Raw => "raw",
        EngineMode::Tokio => "tokio",
    }
}

/// The commands that send a first request: to the first listener that speaks Bolt, and to the first that speaks HTTP.
pub(super) fn first_calls(plan: &Plan, addresses: &[SocketAddr]) -> Vec<String> {
    let find = |protocol| {
        let mut both = plan.listeners.iter().zip(addresses);
        let (listener, address) = both.find(|(one, _)| one.protocol == protocol)?;
        let host = reachable(address.ip()).to_string();
        Some((listener, Url { protocol, host, port: address.port() }))
    };
    let bolt = find(Protocol::Bolt).and_then(|(listener, url)| {
        let service = quoted(service_of(plan, listener)?);
        Some(format!("bowline call {url} --service {service} --data hello"))
    });
    let http = find(Protocol::Http).map(|(_, url)| format!("curl {url}/hello"));
    bolt.into_iter().chain(http).collect()
}

/// A service that the listener routes somewhere.
fn service_of<'a>(plan: &'a Plan, listener: &ListenerPlan) -> Option<&'a str> {
    match listener.default_route {
        Some(_) => Some("demo"),
        None => plan.routes.iter().find_map(|route| match &route.service {
            ServicePlan::Exact(text) | ServicePlan::Prefix(text) => Some(text.as_str()),
            ServicePlan::Regex(_) => None,
        }),
    }
}

/// An address of this machine that reaches what is bound to `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::RoutePlan;
    use crate::config::plan::RouteTarget;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("a test address")
    }

    #[test]
    fn the_line_is_one_line_and_names_what_is_bound() {
        let mut plan = Plan::default();
        plan.listeners[0].name = "front \"a\"\n".to_owned();
        plan.listeners.push(ListenerPlan { protocol: Protocol::Tcp, ..plan.listeners[0].clone() });
        // The embedded upstream is bound behind the listeners of the plan; it is nobody's business.
        let bound = ["127.0.0.1:4", "[::1]:5", "127.0.0.1:6"].map(address);
        let text = line(&plan, &bound, Some(address("127.0.0.1:7")));
        assert_eq!(text.lines().count(), 1);
        let said: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let expected = serde_json::json!({
            "event": "ready", "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION"), "engine": "raw",
            "listeners": [
                {"name": "front \"a\"\n", "protocol": "bolt", "address": "127.0.0.1:4"},
                {"name": "front \"a\"\n", "protocol": "tcp", "address": "[::1]:5"},
            ],
            "admin": "127.0.0.1:7",
        });
        assert_eq!(said, expected);
        assert!(line(&plan, &bound, None).ends_with("\"admin\":null}"));
    }

    #[test]
    fn the_first_call_has_the_real_port_and_an_address_that_can_be_dialled() {
        let plan = Plan::default();
        let call = |bound: &str| first_calls(&plan, &[address(bound)]).join("");
        assert_eq!(
            call("127.0.0.1:12200"),
            "bowline call bolt://127.0.0.1:12200 --service demo --data hello"
        );
        assert_eq!(call("0.0.0.0:9"), "bowline call bolt://127.0.0.1:9 --service demo --data hello");
        assert_eq!(call("[::]:9"), "bowline call bolt://[::1]:9 --service demo --data hello");
    }

    #[test]
    fn a_listener_without_a_default_is_called_by_a_route() {
        let mut plan = Plan::default();
        plan.listeners[0].default_route = None;
        let bound = [address("127.0.0.1:9")];
        assert!(first_calls(&plan, &bound).is_empty(), "every request would be refused");
        let target = RouteTarget { cluster: 0, timeout_ms: 1 };
        plan.routes = vec![RoutePlan { service: ServicePlan::Prefix("it's:1.0".to_owned()), target }];
        let said = first_calls(&plan, &bound);
        assert_eq!(said, [r"bowline call bolt://127.0.0.1:9 --service 'it'\''s:1.0' --data hello"]);
        plan.listeners.push(ListenerPlan { protocol: Protocol::Http, ..plan.listeners[0].clone() });
        let said = first_calls(&plan, &[bound[0], address("[::]:8")]);
        assert_eq!(said[1..], ["curl http://[::1]:8/hello"]);
        plan.listeners.truncate(1);
        plan.listeners[0].protocol = Protocol::Tcp;
        assert!(first_calls(&plan, &bound).is_empty(), "there is no call for a tunnel");
    }
}
