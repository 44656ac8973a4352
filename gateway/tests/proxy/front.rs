//! The header of the PROXY protocol in front of listeners: whose word is taken, what is no header, and that what follows
//! it is the stream. Nothing is ever answered to it.

use std::net::SocketAddr;

use bowline_engine::buf::Chunk;
use bowline_engine::time::TICK_MS;
use bowline_gateway::config::plan::{
    AnnouncedPlan, Balance, ClusterPlan, EndpointPlan, ListenerPlan, PassthroughPlan, Plan, Protocol,
    ProxyVersion, ProxyVersions, ServerName, TlsRoutePlan,
};
use bowline_gateway::error::CloseReason;
use bowline_protocols::proxy_header::{Route, encode};
use bowline_protocols::testing::client_hello;

use crate::bolt::Call;
use crate::http::{get, http_plan, http_world, ok, request};
use crate::world::{Peer, World, plan_of, server_address, tunnel_plan};

const PROXY: [u8; 4] = [10, 9, 9, 9];

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn announced(mut plan: Plan, versions: ProxyVersions) -> Plan {
    let trusted = vec!["10.9.0.0/16".parse().expect("a network")];
    plan.listeners[0].announced = Some(AnnouncedPlan { versions, trusted, timeout_ms: 5_000 });
    plan
}

fn header(version: ProxyVersion, source: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let route = Route { source: address(source), destination: address("203.0.113.5:443") };
    encode(version, Some(route), &mut bytes);
    bytes
}

/// Why a connection that says `bytes` is closed; nothing is opened for it, and it is told nothing.
fn refusal(versions: ProxyVersions, bytes: &[u8]) -> Option<CloseReason> {
    let mut world = World::new(announced(tunnel_plan(1), versions), 1);
    let client = world.connect_from(0, PROXY);
    world.send(client, bytes);
    assert_eq!((world.servers().len(), world.take(client).len()), (0, 0));
    world.reason(client)
}

#[test]
fn the_stream_begins_behind_the_header_however_it_arrives() {
    for (version, versions) in [
        (ProxyVersion::V1, ProxyVersions::V1),
        (ProxyVersion::V2, ProxyVersions::V2),
        (ProxyVersion::V1, ProxyVersions::Any),
        (ProxyVersion::V2, ProxyVersions::Any),
    ] {
        for split in [1, 3, 64 << 10] {
            let mut world = World::new(announced(tunnel_plan(1), versions), split as u64);
            world.set_split(split);
            world.set_freezes(200);
            let client = world.connect_from(0, PROXY);
            assert!(world.servers().is_empty(), "nothing is opened before the header");
            let all = [header(version, "192.0.2.33:5555"), b"the stream".to_vec()].concat();
            world.send(client, &all);
            let server = world.server();
            assert_eq!(world.take(server), b"the stream");
            assert_eq!(world.shown_peer(client), address("192.0.2.33:5555"));
            world.send(server, b"answer");
            assert_eq!(world.take(client), b"answer");
            world.end(client);
            world.end(server);
            assert_eq!(world.reason(client), Some(CloseReason::PeerClosed));
        }
    }
}

#[test]
fn an_http_server_is_told_of_the_client_that_the_header_named() {
    for split in [13, 64 << 10] {
        let mut plan = http_plan(1);
        plan.http.forwarded.trusted = vec!["10.9.0.0/16".parse().expect("a network")];
        let mut world = http_world(announced(plan, ProxyVersions::Any), 3);
        world.set_split(split);
        let client = world.connect_from(0, PROXY);
        let forged = request("GET", "/a", "X-Forwarded-For: 198.51.100.9\r\n");
        world.send(client, &[header(ProxyVersion::V1, "192.0.2.33:5555"), forged].concat());
        let server = world.server();
        let asked = world.http(server);
        // The proxy is trusted to name its client, who is not trusted to name another.
        assert_eq!(
            (asked.line.as_str(), asked.field("x-forwarded-for")),
            ("GET /a HTTP/1.1", Some("192.0.2.33"))
        );
        world.send(server, &ok("x"));
        assert_eq!(world.http(client).text(), "x");
        world.set_freezes(300);
        world.send(client, &get("/b"));
        assert_eq!(world.http(server).field("x-forwarded-for"), Some("192.0.2.33"), "on every later one too");
        world.send(server, &ok("y"));
        assert_eq!(world.http(client).text(), "y");
        assert_eq!(world.shown_peer(client), address("192.0.2.33:5555"));
    }
}

#[test]
fn a_websocket_behind_a_header_becomes_a_tunnel() {
    let mut world = http_world(announced(http_plan(1), ProxyVersions::Any), 4);
    let client = world.connect_from(0, PROXY);
    let asked = request("GET", "/chat", "Connection: Upgrade\r\nUpgrade: other\r\n");
    world.send(client, &[header(ProxyVersion::V2, "192.0.2.33:5555"), asked, b"early".to_vec()].concat());
    let server = world.server();
    assert_eq!(world.http(server).field("x-forwarded-for"), Some("192.0.2.33"));
    world.send(server, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    assert!(world.take(client).starts_with(b"HTTP/1.1 101 "));
    assert_eq!(world.take(server), b"early");
    world.send(client, b"to the server");
    world.send(server, b"to the client");
    assert_eq!(
        (world.take(server), world.take(client)),
        (b"to the server".to_vec(), b"to the client".to_vec())
    );
    world.end(client);
    world.end(server);
    assert_eq!(world.reason(client), Some(CloseReason::PeerClosed));
}

#[test]
fn requests_behind_a_header_are_served_like_any() {
    for split in [11, 64 << 10] {
        let mut world = World::new(announced(plan_of(1), ProxyVersions::Any), 2);
        world.set_split(split);
        let client = world.connect_from(0, PROXY);
        let call = Call::new(1, b"hello").bytes();
        world.send(client, &[header(ProxyVersion::V2, "[2001:db8::5]:77"), call].concat());
        world.echo();
        assert_eq!(world.message(client).id(), 1, "without another byte of the client");
        world.set_freezes(300);
        for id in 2..20 {
            world.round_trip(client, id, b"again");
        }
        assert_eq!(world.shown_peer(client), address("[2001:db8::5]:77"));
        world.end(client);
        assert_eq!(world.reason(client), Some(CloseReason::PeerClosed));
    }
}

#[test]
fn a_source_that_is_not_trusted_is_reset_at_once_whatever_it_says() {
    let mut world = World::new(announced(tunnel_plan(1), ProxyVersions::Any), 3);
    for source in [[10, 8, 255, 255], [127, 0, 0, 1]] {
        let client = world.connect_from(0, source);
        assert_eq!(world.reason(client), Some(CloseReason::ProxyUntrusted));
    }
    assert!(world.servers().is_empty());
}

#[test]
fn what_is_no_header_is_closed_without_an_answer() {
    let any = |bytes: &[u8]| refusal(ProxyVersions::Any, bytes);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"\0", &Call::new(1, b"x").bytes()] {
        assert_eq!(any(bytes), Some(CloseReason::ProxyMissing));
    }
    for bytes in [
        &b"PROXY TCP4 1.2.3.4 nobody 1 2\r\n"[..],
        &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x99\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ] {
        assert_eq!(any(bytes), Some(CloseReason::ProxyMalformed));
    }
    let (v1, v2) = (header(ProxyVersion::V1, "192.0.2.1:1"), header(ProxyVersion::V2, "192.0.2.1:1"));
    assert_eq!(refusal(ProxyVersions::V2, &v1), Some(CloseReason::ProxyMissing));
    assert_eq!(refusal(ProxyVersions::V1, &v2), Some(CloseReason::ProxyMissing));
}

#[test]
fn a_connection_of_the_proxy_itself_keeps_its_own_address() {
    let mut world = World::new(announced(tunnel_plan(1), ProxyVersions::Any), 4);
    for bytes in [&b"PROXY UNKNOWN\r\nx"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0x"] {
        let client = world.connect_from(0, PROXY);
        world.send(client, bytes);
        let server = world.server();
        assert_eq!((world.take(server), world.shown_peer(client).ip()), (b"x".to_vec(), PROXY.into()));
        world.cut(client);
    }
}

#[test]
fn the_header_has_an_absolute_time_that_no_byte_prolongs() {
    let mut world = World::new(announced(tunnel_plan(1), ProxyVersions::Any), 5);
    let client = world.connect_from(0, PROXY);
    let silent = world.connect_from(0, PROXY);
    for byte in b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r".iter().cycle().take(34) {
        world.send(client, &[*byte]);
        world.advance(140);
    }
    assert!(!world.is_closed(client) && !world.is_closed(silent));
    world.advance(240 + 4 * TICK_MS);
    for peer in [client, silent] {
        assert_eq!(world.reason(peer), Some(CloseReason::ProxyTimeout));
    }
}

#[test]
fn the_time_of_the_header_is_over_when_it_has_come() {
    for plan in [tunnel_plan(1), plan_of(1)] {
        let mut world = World::new(announced(plan, ProxyVersions::Any), 6);
        let client = world.connect_from(0, PROXY);
        world.send(client, &header(ProxyVersion::V1, "192.0.2.1:1"));
        world.advance(20_000);
        assert!(!world.is_closed(client));
    }
}

#[test]
fn who_could_not_be_read_for_want_of_memory_is_not_late() {
    let mut plan = announced(tunnel_plan(1), ProxyVersions::Any);
    let direct = ListenerPlan {
        announced: None,
        passthrough: Some(PassthroughPlan { is_required: true, name_required: false, timeout_ms: 5_000 }),
        ..plan.listeners[0].clone()
    };
    plan.listeners.push(direct);
    for (listener, bytes, reason) in [
        (0, header(ProxyVersion::V1, "192.0.2.1:1"), CloseReason::ProxyTimeout),
        (1, client_hello(None, &[]), CloseReason::HelloTimeout),
    ] {
        let mut world = World::new(plan.clone(), 10).with_memory(256 << 10).one_worker();
        let taken: Vec<_> = std::iter::from_fn(|| Chunk::take(world.pool(), 64 << 10)).collect();
        assert!(!taken.is_empty(), "all memory is in use");
        let client = world.connect_from(listener, PROXY);
        world.send(client, &bytes);
        world.advance(8_000);
        assert!(!world.is_closed(client) && world.unread(client) == bytes.len());
        drop(taken);
        world.advance(8_000);
        assert!(!world.is_closed(client), "it was read in time");
        assert_eq!(world.servers().len(), 1);
        let silent = world.connect_from(listener, PROXY);
        world.advance(8_000);
        assert_eq!(world.reason(silent), Some(reason));
    }
}

#[test]
fn who_ends_before_the_header_is_gone_and_so_is_who_a_drain_finds_there() {
    let mut world = World::new(announced(tunnel_plan(1), ProxyVersions::Any), 7);
    let probe = world.connect_from(0, PROXY);
    world.end(probe);
    assert_eq!(world.reason(probe), Some(CloseReason::PeerClosed), "a proxy looks whether we are there");
    let cut = world.connect_from(0, PROXY);
    world.send(cut, b"PROXY");
    world.end(cut);
    assert_eq!(world.reason(cut), Some(CloseReason::PeerClosedMidFrame));
    let late = world.connect_from(0, PROXY);
    world.drain(30_000);
    assert_eq!(world.reason(late), Some(CloseReason::Drain));
}

#[test]
fn what_a_proxy_said_is_said_on_to_the_server() {
    let mut plan = announced(tunnel_plan(1), ProxyVersions::V2);
    plan.clusters[0].proxy_protocol = Some(ProxyVersion::V1);
    let mut world = World::new(plan, 8);
    let client = world.connect_from(0, PROXY);
    world.send(client, &header(ProxyVersion::V2, "192.0.2.33:5555"));
    let server = world.server();
    assert_eq!(world.take(server), b"PROXY TCP4 192.0.2.33 203.0.113.5 5555 443\r\n");
}

#[test]
fn tls_behind_a_header_is_led_by_its_name() {
    let mut plan = announced(tunnel_plan(0), ProxyVersions::Any);
    plan.listeners[0].passthrough =
        Some(PassthroughPlan { is_required: true, name_required: true, timeout_ms: 1_000 });
    let endpoints = vec![EndpointPlan::Address(server_address(7))];
    plan.clusters.push(ClusterPlan { endpoints, ..ClusterPlan::named("named", Protocol::Tcp) });
    let server_name = ServerName::Exact("a.example".to_owned());
    plan.tls_routes = vec![TlsRoutePlan { server_name, alpn: None, cluster: 1 }];
    for split in [1, 13, 64 << 10] {
        let mut world = World::new(plan.clone(), split as u64);
        world.set_split(split);
        let client = world.connect_from(0, PROXY);
        let hello = client_hello(Some("a.example"), &[]);
        world.send(client, &[header(ProxyVersion::V2, "192.0.2.1:1"), hello.clone()].concat());
        let server = world.server();
        assert_eq!((world.address_of(server), world.take(server)), (server_address(7), hello));
        let silent = world.connect_from(0, PROXY);
        world.send(silent, &header(ProxyVersion::V2, "192.0.2.1:1"));
        world.advance(1_000 + 4 * TICK_MS);
        assert_eq!(world.reason(silent), Some(CloseReason::HelloTimeout));
    }
}

#[test]
fn clients_are_led_by_their_own_address_and_not_by_that_of_the_proxy() {
    let mut plan = announced(tunnel_plan(7), ProxyVersions::Any);
    plan.clusters[0].balance = Balance::Hash;
    let mut world = World::new(plan, 9);
    let lead = |world: &mut World, last: u8| -> (Peer, SocketAddr) {
        let client = world.connect_from(0, PROXY);
        world.send(client, &header(ProxyVersion::V1, &format!("192.0.2.{last}:1")));
        let server = *world.servers().last().expect("it was led somewhere");
        (client, world.address_of(server))
    };
    let servers: Vec<_> = (0..60).map(|last| lead(&mut world, last).1).collect();
    assert!((1..=7).all(|number| servers.contains(&server_address(number))));
    assert!((0..60).all(|last| lead(&mut world, last).1 == servers[usize::from(last)]));
}
