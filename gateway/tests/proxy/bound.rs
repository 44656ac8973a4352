//! Bound upstream connections: one per client and version, calls of the server both ways, and how they end.

use bowline_gateway::config::plan::{Plan, UpstreamMode};
use bowline_gateway::error::{CloseReason, Failure};
use bowline_gateway::metrics::Count;
use bowline_protocols::bolt::Kind;
use bowline_protocols::testing::VERSIONS;

use crate::bolt::{Call, goaway};
use crate::world::{Peer, World, plan_of};

fn bound_plan(endpoints: u16) -> Plan {
    let mut plan = plan_of(endpoints);
    plan.clusters[0].mode = UpstreamMode::Bound;
    plan
}

/// A world with one client that has made one call, and its server.
fn bound_world(seed: u64) -> (World, Peer, Peer) {
    let mut world = World::new(bound_plan(1), seed);
    let client = world.connect(0);
    world.round_trip(client, 1, b"hello");
    let server = world.server();
    (world, client, server)
}

/// A header that is longer than Java can read.
fn long_header() -> Vec<u8> {
    vec![0; 40_000]
}

/// `call` with its header replaced by one that no encoder writes.
fn with_long_header(call: &Call) -> Vec<u8> {
    let mut bytes = call.clone().header(Vec::new()).bytes();
    let header = long_header();
    let class_at = 22;
    let lengths = class_at - 8;
    let class_bytes = usize::from(u16::from_be_bytes([bytes[lengths], bytes[lengths + 1]]));
    bytes[lengths + 2..lengths + 4].copy_from_slice(&(header.len() as u16).to_be_bytes());
    bytes.splice(class_at + class_bytes..class_at + class_bytes, header);
    bytes
}

#[test]
fn a_server_calls_its_client_under_an_id_of_the_gateway_and_gets_the_answer_under_its_own() {
    for (version, crc) in VERSIONS {
        let mut world = World::new(bound_plan(1), 1);
        let client = world.connect(0);
        world.send(client, &Call::new(1, b"hello").version(version, crc).bytes());
        world.echo();
        world.message(client);
        let server = world.server();
        world.send(server, &Call::new(0xfeed_0001, b"call").version(version, crc).bytes());
        let seen = world.message(client);
        assert_eq!((seen.frame.kind, seen.content(), seen.frame.crc), (Kind::Request, &b"call"[..], crc));
        assert_eq!(world.in_flight(client), 1);
        world.send(client, &seen.response(b"answer"));
        let answer = world.message(server);
        assert_eq!((answer.id(), answer.content(), answer.frame.crc), (0xfeed_0001, &b"answer"[..], crc));
        assert_eq!((world.in_flight(client), world.total(Count::Callbacks)), (0, 1));
    }
}

#[test]
fn a_bound_connection_that_said_goodbye_is_forgotten_when_it_is_gone() {
    let (mut world, client, mut server) = bound_world(2);
    for id in 10..20 {
        world.send(server, &goaway(1));
        assert_eq!(world.reason(server), Some(CloseReason::UpstreamGoaway));
        world.round_trip(client, id, b"again");
        server = world.server();
    }
    // Every connection that the client still knows is let go with it: one is, and nobody else is written to.
    let frozen = world.frozen(client);
    assert_eq!(frozen.partners.len(), 1, "the client knows the open connection alone");
    world.end(client);
    assert_eq!((world.is_closed(client), world.reason(server)), (true, Some(CloseReason::PartnerGone)));
}

#[test]
fn a_bound_connection_that_said_goodbye_waits_for_the_answer_to_its_call() {
    let (mut world, client, server) = bound_world(3);
    world.send(server, &Call::new(77, b"call").bytes());
    let seen = world.message(client);
    world.send(server, &goaway(1));
    assert!(!world.is_closed(server), "its call is not answered yet");
    world.send(client, &seen.response(b"answer"));
    assert_eq!((world.message(server).id(), world.reason(server)), (77, Some(CloseReason::UpstreamGoaway)));
}

#[test]
fn a_call_that_the_client_does_not_answer_ends_and_lets_a_leaving_connection_go() {
    let (mut world, client, server) = bound_world(4);
    world.send(server, &Call::new(78, b"call").timeout_ms(500).bytes());
    world.send(server, &goaway(1));
    world.advance(600);
    let answer = world.message(server);
    assert_eq!((answer.id(), answer.frame.status), (78, Failure::Timeout.status()));
    assert_eq!((world.reason(server), world.in_flight(client)), (Some(CloseReason::UpstreamGoaway), 0));
}

#[test]
fn a_client_that_goes_answers_the_calls_of_its_server_with_their_loss() {
    let (mut world, client, server) = bound_world(5);
    world.send(server, &Call::new(79, b"call").bytes());
    world.cut(client);
    let answer = world.message(server);
    assert_eq!((answer.id(), answer.frame.status), (79, Failure::CallbackLost.status()));
    assert_eq!(world.reason(server), Some(CloseReason::PartnerGone));
}

#[test]
fn a_bound_server_that_is_lost_ends_its_client_at_a_quiet_point() {
    let (mut world, client, server) = bound_world(6);
    world.send(client, &Call::new(5, b"asked").bytes());
    world.cut(server);
    world.expect_failure(client, 5, Failure::UpstreamLost, 0);
    assert_eq!(world.reason(client), Some(CloseReason::PartnerGone));
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_call_with_a_header_too_long_for_java_is_refused_and_never_reaches_the_client() {
    let (mut world, client, server) = bound_world(7);
    world.send(server, &with_long_header(&Call::new(80, b"call")));
    let answer = world.message(server);
    assert_eq!((answer.id(), answer.frame.status), (80, Failure::HeadTooLarge.status()));
    assert_eq!((world.take(client).len(), world.failures(Failure::HeadTooLarge)), (0, 1));
    world.send(server, &with_long_header(&Call::new(81, b"call").oneway()));
    assert_eq!((world.take(client).len(), world.failures(Failure::HeadTooLarge)), (0, 2));
    world.round_trip(client, 82, b"both connections live on");
}
