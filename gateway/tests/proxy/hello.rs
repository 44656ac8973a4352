//! TLS that is passed on as it is: where its first message leads, what becomes of those who send none, and that every
//! byte arrives as it was sent.

use bowline_engine::time::TICK_MS;
use bowline_gateway::config::plan::{
    ClusterPlan, EndpointPlan, PassthroughPlan, Plan, Protocol, ServerName, TlsRoutePlan,
};
use bowline_gateway::error::CloseReason;
use bowline_protocols::testing::client_hello;

use crate::world::{REFUSES, World, server_address, tunnel_plan};

const REQUIRED: PassthroughPlan =
    PassthroughPlan { is_required: true, name_required: false, timeout_ms: 5_000 };
const PREFERRED: PassthroughPlan = PassthroughPlan { is_required: false, ..REQUIRED };

/// Server 1 is the listener's own; `a.example` is server 2, what is under `b.example` server 3 or with h2 server 4.
fn plan(passthrough: PassthroughPlan) -> Plan {
    let mut plan = tunnel_plan(1);
    plan.listeners[0].passthrough = Some(passthrough);
    for number in 2..=4 {
        let endpoints = vec![EndpointPlan::Address(server_address(number))];
        let name = format!("server-{number}");
        plan.clusters.push(ClusterPlan { endpoints, ..ClusterPlan::named(&name, Protocol::Tcp) });
    }
    let route = |server_name, alpn: Option<&str>, cluster| TlsRoutePlan {
        server_name,
        alpn: alpn.map(str::to_owned),
        cluster,
    };
    let under = ServerName::Under("b.example".to_owned());
    plan.tls_routes = vec![
        route(ServerName::Exact("a.example".to_owned()), None, 1),
        route(under.clone(), None, 2),
        route(under, Some("h2"), 3),
    ];
    plan
}

/// Which server gets a client that says `bytes`, and that it gets them all.
fn server_for(world: &mut World, bytes: &[u8]) -> u16 {
    let before = world.servers().len();
    let client = world.connect(0);
    assert_eq!(world.servers().len(), before, "nothing is opened for who has said nothing");
    world.send(client, bytes);
    let server = *world.servers().get(before).expect("a server was connected");
    assert_eq!(world.take(server), bytes, "unchanged");
    world.send(server, b"answer");
    assert_eq!(world.take(client), b"answer");
    world.address_of(server).port()
}

/// Why a client that says `bytes` is closed; nothing is opened for it, and it is told nothing.
fn refusal(world: &mut World, bytes: &[u8]) -> Option<CloseReason> {
    let before = world.servers().len();
    let client = world.connect(0);
    world.send(client, bytes);
    assert_eq!((world.servers().len(), world.take(client).len()), (before, 0));
    world.reason(client)
}

#[test]
fn the_name_leads_to_its_cluster_however_it_arrives() {
    for bytes in [1, 5, 64, 64 << 10] {
        let mut world = World::new(plan(REQUIRED), bytes as u64);
        world.set_split(bytes);
        let mut lead =
            |name: &str, protocols: &[&str]| server_for(&mut world, &client_hello(Some(name), protocols));
        assert_eq!(lead("a.example", &[]), 2);
        assert_eq!(lead("A.EXAMPLE", &["h2"]), 2);
        assert_eq!(lead("x.y.b.example", &["http/1.1"]), 3);
        assert_eq!(lead("x.b.example", &["http/1.1", "h2"]), 4);
        assert_eq!(lead("unknown.example", &[]), 1);
        assert_eq!(server_for(&mut world, &client_hello(None, &[])), 1);
    }
}

#[test]
fn what_follows_the_message_goes_with_it() {
    let mut world = World::new(plan(REQUIRED), 2);
    let bytes = [client_hello(Some("a.example"), &[]), vec![23; 100_000]].concat();
    assert_eq!(server_for(&mut world, &bytes), 2);
}

#[test]
fn a_server_that_refuses_is_tried_elsewhere_with_the_whole_message() {
    let mut plan = plan(REQUIRED);
    plan.clusters[1].endpoints = [8, 9].map(|number| EndpointPlan::Address(server_address(number))).into();
    let mut world = World::new(plan, 3).one_worker();
    world.set_reach(server_address(8), REFUSES);
    assert_eq!(server_for(&mut world, &client_hello(Some("a.example"), &[])), 9);
}

#[test]
fn what_is_no_tls_is_closed_where_it_is_required_and_passed_on_where_it_is_not() {
    let garbage = [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n", b"\0", &[0x80; 20_000]];
    let mut world = World::new(plan(REQUIRED), 4);
    for bytes in garbage {
        assert_eq!(refusal(&mut world, bytes), Some(CloseReason::HelloMissing));
    }
    let mut world = World::new(plan(PREFERRED), 4);
    for bytes in garbage {
        assert_eq!(server_for(&mut world, bytes), 1);
    }
}

#[test]
fn tls_that_is_broken_is_closed_whatever_the_listener_prefers() {
    for passthrough in [REQUIRED, PREFERRED] {
        let mut world = World::new(plan(passthrough), 5);
        let mut broken = client_hello(Some("a.example"), &[]);
        broken[5] = 2;
        assert_eq!(refusal(&mut world, &broken), Some(CloseReason::HelloMalformed));
        assert_eq!(
            refusal(&mut world, b"\x16\x03\x01\x00\x04\x01\x00\x7f\xff"),
            Some(CloseReason::HelloMalformed)
        );
        assert_eq!(refusal(&mut world, b"\x16\x03\x01\x00\x00"), Some(CloseReason::HelloMalformed));
    }
}

#[test]
fn who_names_no_server_is_closed_where_a_name_is_required() {
    let mut world = World::new(plan(PassthroughPlan { name_required: true, ..REQUIRED }), 6);
    assert_eq!(refusal(&mut world, &client_hello(None, &["h2"])), Some(CloseReason::HelloUnnamed));
    assert_eq!(server_for(&mut world, &client_hello(Some("unknown"), &[])), 1);
}

#[test]
fn a_name_without_a_route_is_closed_where_the_listener_has_no_cluster() {
    let mut plan = plan(REQUIRED);
    plan.listeners[0].default_route = None;
    let mut world = World::new(plan, 7);
    assert_eq!(refusal(&mut world, &client_hello(Some("unknown"), &[])), Some(CloseReason::NoRoute));
    assert_eq!(server_for(&mut world, &client_hello(Some("a.example"), &[])), 2);
}

#[test]
fn who_stays_silent_is_closed_in_time_or_passed_on_to_a_server_that_speaks_first() {
    let mut world = World::new(plan(REQUIRED), 8);
    let client = world.connect(0);
    world.advance(4_900);
    assert!(!world.is_closed(client));
    world.advance(100 + 4 * TICK_MS);
    assert_eq!(world.reason(client), Some(CloseReason::HelloTimeout));
    let mut world = World::new(plan(PREFERRED), 8);
    let client = world.connect(0);
    world.advance(5_000 + 4 * TICK_MS);
    let server = world.server();
    world.send(server, b"220 ready");
    assert_eq!(world.take(client), b"220 ready");
    world.send(client, b"HELO");
    assert_eq!(world.take(server), b"HELO");
}

#[test]
fn a_message_that_has_begun_must_end_in_time_however_it_drips() {
    for passthrough in [REQUIRED, PREFERRED] {
        let mut world = World::new(plan(passthrough), 9);
        let client = world.connect(0);
        let hello = client_hello(Some("a.example"), &[]);
        for byte in &hello[..48] {
            world.send(client, &[*byte]);
            world.advance(100);
        }
        assert!(!world.is_closed(client));
        world.advance(200 + 4 * TICK_MS);
        assert_eq!(world.reason(client), Some(CloseReason::HelloTimeout));
        assert!(world.servers().is_empty());
    }
}

#[test]
fn a_client_that_ends_early_is_gone_or_goes_on_with_what_is_passed_on() {
    let mut world = World::new(plan(REQUIRED), 10);
    let client = world.connect(0);
    world.end(client);
    assert_eq!(world.reason(client), Some(CloseReason::PeerClosed));
    let client = world.connect(0);
    world.send(client, b"\x16\x03");
    world.end(client);
    assert_eq!(world.reason(client), Some(CloseReason::PeerClosedMidFrame));
    let mut world = World::new(plan(PREFERRED), 10);
    let client = world.connect(0);
    world.end(client);
    let server = world.server();
    assert!(world.is_shut(server), "its end is passed on");
    world.send(server, b"goodbye");
    world.end(server);
    assert_eq!(
        (world.take(client), world.reason(client)),
        (b"goodbye".to_vec(), Some(CloseReason::PeerClosed))
    );
}

#[test]
fn a_drain_ends_who_has_not_said_where_to_go() {
    let mut world = World::new(plan(PREFERRED), 11);
    let client = world.connect(0);
    world.drain(1_000);
    world.advance(1_000 + 4 * TICK_MS);
    assert_eq!(world.reason(client), Some(CloseReason::DrainDeadline));
}
