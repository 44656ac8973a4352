//! What goes wrong becomes its status, once, and is counted under its name.

use bowline_engine::machine::OpenError;
use bowline_engine::sim::Reach;
use bowline_gateway::error::Failure;
use bowline_gateway::metrics::Count;
use bowline_protocols::bolt::{Kind, Version};

use crate::bolt::{Call, goaway, heartbeat};
use crate::world::{World, plan_of, server_address};

#[test]
fn without_a_route_a_request_is_refused() {
    let mut plan = plan_of(1);
    plan.listeners[0].default_route = None;
    let mut world = World::new(plan, 1);
    let client = world.connect(0);
    world.send(client, &Call::new(5, b"x").bytes());
    world.expect_failure(client, 5, Failure::NoRoute, 0);
}

#[test]
fn where_no_server_can_be_reached_the_connect_is_what_failed() {
    let mut world = World::new(plan_of(2), 2).one_worker();
    for number in [1, 2] {
        world.sim.set_reach(server_address(number), Reach::Fails(OpenError::Refused));
    }
    let client = world.connect(0);
    world.send(client, &Call::new(6, b"x").bytes());
    world.expect_failure(client, 6, Failure::ConnectFailed, 0);
    assert_eq!((world.total(Count::UpstreamConnectFailures), world.held(0)), (2, (0, 0)));
    // Both are left alone for a while, and then tried again.
    world.send(client, &Call::new(7, b"x").bytes());
    world.expect_failure(client, 7, Failure::NoEndpoint, 0);
    world.sim.set_reach(server_address(1), Reach::Accepts);
    world.sim.advance(1_000);
    world.round_trip(client, 8, b"again");
}

#[test]
fn a_request_that_nobody_answers_times_out_and_its_late_reply_is_dropped() {
    let mut world = World::new(plan_of(1), 3);
    let client = world.connect(0);
    world.send(client, &Call::new(7, b"x").timeout_ms(500).bytes());
    let server = world.server();
    let asked = world.message(server);
    world.sim.advance(499);
    assert!(world.messages(client).is_empty(), "it is too early");
    world.sim.advance(20);
    world.expect_failure(client, 7, Failure::Timeout, 0);
    world.send(server, &asked.response(b"late"));
    assert!(world.messages(client).is_empty());
    assert_eq!(world.total(Count::LateReplies), 1);
    world.sim.advance(100);
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_server_that_is_lost_fails_what_it_was_asked() {
    let mut world = World::new(plan_of(1), 4);
    let client = world.connect(0);
    world.send(client, &Call::new(8, b"x").bytes());
    let server = world.server();
    world.sim.cut(server);
    world.sim.run();
    world.expect_failure(client, 8, Failure::UpstreamLost, 0);
    assert_eq!(world.held(0), (0, 0));
    world.round_trip(client, 9, b"again");
}

#[test]
fn a_server_that_says_goodbye_answers_what_it_has_and_gets_nothing_new() {
    let mut world = World::new(plan_of(1), 5).one_worker();
    let client = world.connect(0);
    world.send(client, &Call::new(1, b"x").bytes());
    let server = world.server();
    let asked = world.message(server);
    world.send(server, &goaway(1));
    world.send(client, &Call::new(2, b"y").bytes());
    assert_eq!(world.open_servers().len(), 2, "the next request has a connection of its own");
    world.send(server, &asked.response(b"done"));
    assert_eq!(world.message(client).id(), 1);
    assert_eq!(world.open_servers().len(), 1, "the last reply ends it");
}

#[test]
fn a_heartbeat_is_answered_at_once_and_a_oneway_request_never() {
    let mut world = World::new(plan_of(1), 6);
    let client = world.connect(0);
    world.send(client, &heartbeat(Version::V1, 77));
    let answer = world.message(client);
    assert_eq!((answer.frame.kind, answer.id()), (Kind::HeartbeatAck, 77));
    world.send(client, &Call::new(3, b"x").oneway().bytes());
    let server = world.server();
    assert_eq!(world.message(server).frame.kind, Kind::Oneway);
    assert!(world.messages(client).is_empty());
    assert_eq!((world.total(Count::RequestsOneway), world.held(0)), (1, (0, 0)));
}
