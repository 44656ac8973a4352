//! How connections end that nobody closes: heartbeats of idle servers, goodbyes, drains.

use bowline_gateway::config::plan::{Plan, Protocol};
use bowline_gateway::error::{CloseReason, Failure};
use bowline_gateway::metrics::Count;

use crate::bolt::{Call, goaway};
use crate::world::{Peer, Reach, World, plan_of, server_address};

/// A world with one client that has made one call, and its server.
fn called_world(plan: Plan, seed: u64) -> (World, Peer, Peer) {
    let mut world = World::new(plan, seed).one_worker();
    let client = world.connect(0);
    world.round_trip(client, 1, b"hello");
    let server = world.server();
    (world, client, server)
}

#[test]
fn a_silent_server_is_given_up_after_three_heartbeats_and_whoever_waits_is_told() {
    let (mut world, client, server) = called_world(plan_of(1), 1);
    world.advance(14_900);
    assert_eq!(world.total(Count::HeartbeatsSent), 0, "it is not idle for long enough");
    world.send(client, &Call::new(2, b"x").timeout_ms(60_000).bytes());
    world.advance(2_900);
    assert_eq!((world.total(Count::HeartbeatsSent), world.is_closed(server)), (3, false));
    world.advance(200);
    assert_eq!(world.reason(server), Some(CloseReason::HeartbeatMissed));
    assert_eq!(world.total(Count::HeartbeatsMissed), 3);
    world.expect_failure(client, 2, Failure::UpstreamLost, 0);
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_server_that_answers_heartbeats_is_kept() {
    let (mut world, client, server) = called_world(plan_of(1), 2);
    for _ in 0..4 {
        world.advance(15_100);
        world.echo();
    }
    assert_eq!((world.total(Count::HeartbeatsSent), world.total(Count::HeartbeatsMissed)), (4, 0));
    world.round_trip(client, 2, b"still there");
    assert!(!world.is_closed(server));
}

#[test]
fn a_server_whose_stalled_large_reply_goes_on_arriving_is_not_taken_for_dead() {
    let (mut world, client, server) = called_world(plan_of(1), 3);
    world.send(client, &Call::new(2, b"x").timeout_ms(120_000).bytes());
    let asked = world.message(server);
    let content = vec![7; 2 << 20];
    let reply = asked.response(&content);
    let (first, rest) = reply.split_at(100_000);
    world.send(server, first);
    world.advance(15_100);
    assert_eq!(world.total(Count::HeartbeatsSent), 1, "it stalls");
    for part in rest.chunks(100_000) {
        world.send(server, part);
        world.advance(500);
    }
    let answer = world.message(client);
    assert!(answer.id() == 2 && answer.content() == content, "the reply is whole");
    assert!(!world.is_closed(server));
}

#[test]
fn a_shared_server_that_says_goodbye_ends_with_its_last_reply_and_another_is_opened() {
    let (mut world, client, server) = called_world(plan_of(1), 4);
    world.send(client, &Call::new(2, b"old").bytes());
    let asked = world.message(server);
    world.send(server, &goaway(1));
    world.send(client, &Call::new(3, b"new").bytes());
    assert_eq!((world.open_servers().len(), world.take(server).len()), (2, 0));
    world.send(server, &asked.response(b"old"));
    assert_eq!((world.message(client).id(), world.reason(server)), (2, Some(CloseReason::UpstreamGoaway)));
    world.echo();
    assert_eq!((world.message(client).id(), world.held(0)), (3, (0, 0)));
}

#[test]
fn a_connection_that_a_drain_makes_necessary_ends_with_the_drain() {
    let mut world = World::new(plan_of(1), 5).one_worker();
    let client = world.connect(0);
    world.drain(30_000);
    world.send(client, &Call::new(1, b"last").bytes());
    world.echo();
    assert_eq!(world.message(client).id(), 1);
    world.advance(15_100);
    assert_eq!(world.reason(client), Some(CloseReason::Drain));
    assert!(world.open_servers().is_empty(), "no client is left");
    assert_eq!(world.closes(CloseReason::Drain), 2);
}

#[test]
fn a_connection_that_cannot_be_opened_before_the_drain_deadline_answers_its_requests_once() {
    let mut plan = plan_of(1);
    plan.clusters[0].connect_timeout_ms = 60_000;
    let mut world = World::new(plan, 6).one_worker();
    world.set_reach(server_address(1), Reach::Silent);
    let client = world.connect(0);
    let calls: Vec<_> = (1..=2).flat_map(|id| Call::new(id, b"x").timeout_ms(500).bytes()).collect();
    world.send(client, &calls);
    world.drain(30_000);
    world.advance(20_000);
    assert_eq!(world.messages(client).len(), 2);
    assert_eq!((world.failures(Failure::Timeout), world.reason(client)), (2, Some(CloseReason::Drain)));
    world.advance(15_000);
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_request_that_ended_while_its_connection_was_opened_is_forgotten_there_too() {
    let mut plan = plan_of(1);
    plan.clusters[0].connect_timeout_ms = 60_000;
    let mut world = World::new(plan, 7).one_worker();
    world.set_reach(server_address(1), Reach::Silent);
    let client = world.connect(0);
    let calls: Vec<_> = (1..=2).flat_map(|id| Call::new(id, b"x").timeout_ms(500).bytes()).collect();
    world.send(client, &calls);
    world.gateway.begin_drain(world.now.after_ms(600_000));
    let deadline = world.now.after_ms(600_000);
    world.tell_all(|| bowline_gateway::mail::Mail::Drain { deadline });
    world.advance(1_000);
    assert_eq!((world.messages(client).len(), world.held(0).0), (2, 2));
    world.let_connect(server_address(1));
    world.advance(100);
    assert_eq!(world.held(0).0, 0, "nobody waits for a reply");
}

#[test]
fn a_tunnel_that_is_accepted_while_the_gateway_drains_ends_with_it() {
    let mut plan = plan_of(1);
    plan.listeners[0].protocol = Protocol::Tcp;
    plan.clusters[0].protocol = Protocol::Tcp;
    let mut world = World::new(plan, 8);
    world.drain(30_000);
    let client = world.connect(0);
    let server = world.server();
    world.send(client, b"hello");
    assert_eq!(world.take(server), b"hello");
    world.advance(30_100);
    assert_eq!(world.reason(client), Some(CloseReason::DrainDeadline));
    assert_eq!(world.reason(server), Some(CloseReason::PartnerGone));
}
