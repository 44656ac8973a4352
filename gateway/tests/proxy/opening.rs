//! How upstream connections are opened, and what becomes of requests when they cannot be.

use bowline_gateway::config::plan::Protocol;
use bowline_gateway::error::{CloseReason, Failure};
use bowline_gateway::metrics::Count;

use crate::bolt::Call;
use crate::world::{REFUSES, Reach, World, plan_of, server_address};

#[test]
fn a_request_whose_endpoint_refuses_goes_to_another() {
    let mut world = World::new(plan_of(3), 1).one_worker();
    for number in 1..=2 {
        world.set_reach(server_address(number), REFUSES);
    }
    let client = world.connect(0);
    for id in 0..20 {
        world.round_trip(client, id, b"x");
    }
    assert_eq!((world.total(Count::Retries), world.total(Count::UpstreamConnectFailures)), (2, 2));
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn where_nobody_accepts_a_request_is_tried_three_times_and_the_next_ones_are_refused_at_once() {
    let mut world = World::new(plan_of(5), 2).one_worker();
    (1..=5).for_each(|number| world.set_reach(server_address(number), REFUSES));
    let client = world.connect(0);
    world.send(client, &Call::new(1, b"x").bytes());
    world.expect_failure(client, 1, Failure::ConnectFailed, 0);
    assert_eq!(world.total(Count::UpstreamConnectFailures), 3);
    world.send(client, &Call::new(2, b"x").bytes());
    world.expect_failure(client, 2, Failure::ConnectFailed, 1);
    world.send(client, &Call::new(3, b"x").bytes());
    world.expect_failure(client, 3, Failure::NoEndpoint, 0);
    assert_eq!(world.total(Count::UpstreamConnectFailures), 5, "each was tried once");
    (1..=5).for_each(|number| world.set_reach(server_address(number), Reach::Accepts));
    world.advance(100);
    world.round_trip(client, 4, b"they are back");
}

#[test]
fn a_tunnel_that_comes_while_every_endpoint_is_left_alone_says_that_no_connect_was_tried() {
    let mut plan = plan_of(1);
    plan.listeners[0].protocol = Protocol::Tcp;
    plan.clusters[0].protocol = Protocol::Tcp;
    let mut world = World::new(plan, 9).one_worker();
    world.set_reach(server_address(1), REFUSES);
    let first = world.connect(0);
    assert_eq!(world.reason(first), Some(CloseReason::ConnectFailed));
    let second = world.connect(0);
    assert_eq!(world.reason(second), Some(CloseReason::NoEndpoint));
    assert_eq!(world.total(Count::UpstreamConnectFailures), 1, "the second was not tried");
    assert_eq!(CloseReason::NoEndpoint.closed_by().name(), "gateway");
}

#[test]
fn a_request_that_times_out_while_connecting_is_answered_once_and_never_sent() {
    let mut plan = plan_of(1);
    plan.clusters[0].connect_timeout_ms = 5_000;
    let mut world = World::new(plan, 3).one_worker();
    world.set_reach(server_address(1), Reach::Silent);
    let client = world.connect(0);
    world.send(client, &Call::new(1, b"short").timeout_ms(200).bytes());
    world.send(client, &Call::new(2, b"long").timeout_ms(4_000).bytes());
    world.advance(300);
    world.expect_failure(client, 1, Failure::Timeout, 0);
    world.let_connect(server_address(1));
    let server = world.server();
    let seen = world.messages(server);
    assert_eq!(seen.iter().map(|message| message.content()).collect::<Vec<_>>(), [b"long"]);
    world.send(server, &seen[0].response(b"done"));
    assert_eq!((world.message(client).id(), world.held(0)), (2, (0, 0)));
}

#[test]
fn oneway_requests_that_nobody_takes_are_counted_and_do_not_hold_the_client() {
    let mut world = World::new(plan_of(1), 4).one_worker();
    world.set_reach(server_address(1), REFUSES);
    let client = world.connect(0);
    let calls: Vec<_> = (0..5).flat_map(|id| Call::new(id, b"x").oneway().bytes()).collect();
    world.send(client, &calls);
    assert_eq!((world.failures(Failure::ConnectFailed), world.take(client).len()), (5, 0));
    world.end(client);
    assert_eq!(world.reason(client), Some(CloseReason::PeerClosed), "nothing is in flight");
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn where_no_more_connections_may_be_opened_the_ones_there_are_serve() {
    let mut plan = plan_of(1);
    plan.clusters[0].connections = 4;
    let mut world = World::new(plan, 5).one_worker();
    world.set_connections_max(2);
    let client = world.connect(0);
    for id in 0..10 {
        world.round_trip(client, id, b"x");
    }
    assert_eq!((world.servers().len(), world.failures(Failure::Overflow)), (1, 0));
}

#[test]
fn a_second_connection_that_is_refused_does_not_take_the_first_out_of_service() {
    let mut plan = plan_of(1);
    plan.clusters[0].connections = 2;
    let mut world = World::new(plan, 6).one_worker();
    let client = world.connect(0);
    world.round_trip(client, 1, b"the first is opened");
    world.set_reach(server_address(1), REFUSES);
    for id in 2..10 {
        world.round_trip(client, id, b"x");
    }
    assert_eq!((world.total(Count::UpstreamConnectFailures), world.stats().connects), (1, 2));
}

#[test]
fn mail_to_a_connection_that_broke_meanwhile_is_sent_over_another() {
    let mut bounces = 0;
    for seed in 0..40 {
        let mut world = World::new(plan_of(1), seed).one_worker();
        let client = world.connect(0);
        world.round_trip(client, 1, b"x");
        let server = world.server();
        world.send_later(client, &Call::new(2, b"y").bytes());
        world.cut(server);
        world.echo();
        let answer = world.message(client);
        assert_eq!((answer.id(), world.held(0)), (2, (0, 0)));
        // Which of the two comes first is up to the seed. What came back had not been seen by anybody.
        if world.stats().bounces > 0 {
            bounces += 1;
            assert_eq!((answer.frame.status, world.servers().len()), (0, 2), "seed {seed}");
        }
    }
    assert!(bounces > 0, "in some seed the connection broke between the sending of mail and its turn");
}
