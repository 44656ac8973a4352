//! What is bounded when somebody takes too little or sends too much, and that everybody goes on afterwards.

use bowline_engine::buf::{Chunk, Pool};
use bowline_gateway::config::plan::{Plan, Protocol, UpstreamMode};
use bowline_gateway::error::{CloseReason, Failure};
use bowline_gateway::metrics::Count;
use bowline_protocols::bolt::Version;

use crate::bolt::{Call, heartbeat};
use crate::world::{Peer, World, plan_of};

/// A world with one client that has made one call, and its server.
fn called_world(plan: Plan, seed: u64) -> (World, Peer, Peer) {
    let mut world = World::new(plan, seed).one_worker();
    let client = world.connect(0);
    world.round_trip(client, 1, b"hello");
    let server = world.server();
    (world, client, server)
}

fn calls(ids: std::ops::Range<u32>) -> Vec<u8> {
    ids.flat_map(|id| Call::new(id, b"x").timeout_ms(60_000).bytes()).collect()
}

#[test]
fn above_half_of_its_output_limit_a_client_is_not_read_and_below_it_is_again() {
    let (mut world, client, server) = called_world(plan_of(1), 1);
    world.send(client, &calls(10..20));
    let asked = world.messages(server);
    world.set_window(client, Some(0));
    for message in &asked {
        world.send(server, &message.response(&[7; 100_000]));
    }
    assert!(!world.is_reading(client) && world.is_reading(server), "others are read on");
    world.send(client, &calls(30..31));
    assert_eq!(world.take(server).len(), 0);
    world.set_window(client, None);
    assert_eq!((world.messages(client).len(), world.is_reading(client)), (10, true));
    world.echo();
    assert_eq!(world.message(client).id(), 30);
}

#[test]
fn a_client_that_takes_less_than_it_must_is_given_up_and_one_that_takes_enough_is_not() {
    for (taken, reason) in [(100_000, Some(CloseReason::SlowReader)), (300_000, None)] {
        let (mut world, client, server) = called_world(plan_of(1), 2);
        world.send(client, &calls(10..18));
        let asked = world.messages(server);
        world.set_window(client, Some(0));
        for message in &asked {
            world.send(server, &message.response(&vec![7; 4 << 20]));
        }
        assert!(!world.is_closed(client), "32 MiB are less than 64 times the limit");
        for _ in 0..4 {
            world.set_window(client, Some(taken / 2));
            world.advance(1_001);
        }
        assert_eq!(world.reason(client), reason);
    }
}

#[test]
fn a_client_with_64_times_its_limit_queued_is_given_up_at_once() {
    let mut plan = plan_of(1);
    plan.limits.downstream_output_bytes_max = 10_000;
    let (mut world, client, server) = called_world(plan, 3);
    world.send(client, &calls(10..18));
    let asked = world.messages(server);
    world.set_window(client, Some(0));
    for message in &asked[..6] {
        world.send(server, &message.response(&[7; 100_000]));
    }
    assert!(!world.is_closed(client));
    world.send(server, &asked[6].response(&[7; 100_000]));
    assert_eq!(world.reason(client), Some(CloseReason::SlowReader));
    world.advance(100);
    assert_eq!((world.held(0), world.closes(CloseReason::SlowReader)), ((0, 0), 1));
}

#[test]
fn as_many_requests_are_in_flight_as_may_be_and_the_rest_follow() {
    for limit in [1, 2, 3, 16, 100] {
        let mut plan = plan_of(1);
        plan.limits.in_flight_max = limit;
        let (mut world, client, server) = called_world(plan, 4);
        world.send(client, &calls(0..300));
        let asked = world.messages(server);
        assert_eq!((asked.len(), world.in_flight(client) as usize), (limit, limit));
        asked.iter().for_each(|message| world.send(server, &message.response(b"y")));
        world.echo();
        assert_eq!(world.messages(client).len(), 300);
    }
}

#[test]
fn oneway_requests_that_a_server_does_not_take_stop_their_client_and_nothing_is_lost() {
    let (mut world, client, server) = called_world(plan_of(1), 5);
    world.set_window(server, Some(0));
    let all: Vec<_> = (0..60).flat_map(|id| Call::new(id, [7; 40_000]).oneway().bytes()).collect();
    world.send(client, &all);
    let unread = world.unread(client);
    assert!(!world.is_reading(client) && unread > 1_000_000, "{unread} of 2.4 MB are not read");
    world.set_window(server, None);
    assert_eq!((world.messages(server).len(), world.unread(client)), (60, 0));
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn without_room_at_the_endpoint_a_request_is_refused_as_overflow() {
    let mut plan = plan_of(1);
    plan.clusters[0].requests_max = 2;
    let (mut world, client, server) = called_world(plan, 6);
    world.send(client, &calls(10..13));
    world.expect_failure(client, 12, Failure::Overflow, 0);
    world.echo();
    assert_eq!(world.messages(client).len(), 2);
    let mut plan = plan_of(1);
    plan.clusters[0].upstream_output_bytes_max = 150_000;
    let (mut world, client, server_2) = called_world(plan, 6);
    world.set_window(server_2, Some(0));
    let large = |id| Call::new(id, [7; 60_000]).bytes();
    let all: Vec<_> = (10..13).flat_map(large).collect();
    world.send(client, &all);
    world.expect_failure(client, 12, Failure::Overflow, 0);
    world.set_window(server_2, None);
    world.echo();
    assert_eq!((world.messages(client).len(), world.held(0), server), (2, (0, 0), server_2));
}

#[test]
fn a_server_that_calls_and_does_not_take_the_answers_is_given_up() {
    let mut plan = plan_of(1);
    plan.clusters[0].mode = UpstreamMode::Bound;
    let (mut world, client, server) = called_world(plan, 7);
    world.set_window(server, Some(0));
    world.send(server, &calls(0..9));
    let asked = world.messages(client);
    let content = vec![7; 4 << 20];
    for message in &asked[..7] {
        world.send(client, &message.response(&content));
    }
    assert_eq!((world.is_closed(server), world.queued(server) > 28 << 20), (false, true));
    world.send(client, &asked[7].response(&content));
    assert_eq!(world.reason(server), Some(CloseReason::SlowReader));
    assert_eq!(world.reason(client), Some(CloseReason::PartnerGone));
}

#[test]
fn a_bound_server_is_not_read_while_its_client_takes_nothing() {
    let mut plan = plan_of(1);
    plan.clusters[0].mode = UpstreamMode::Bound;
    let (mut world, client, server) = called_world(plan, 8);
    world.send(client, &calls(10..20));
    let asked = world.messages(server);
    world.set_window(client, Some(0));
    for message in &asked {
        world.send_later(server, &message.response(&[7; 400_000]));
        world.run();
    }
    assert!(!world.is_reading(server) && world.queued(client) < 2_000_000);
    world.advance(40_000);
    assert!(!world.is_closed(server), "a server that is not read cannot answer heartbeats");
    world.set_window(client, None);
    assert_eq!((world.messages(client).len(), world.is_reading(server)), (10, true));
}

#[test]
fn a_tunnel_whose_client_reads_slowly_holds_one_window_and_delivers_everything() {
    let mut plan = plan_of(1);
    plan.listeners[0].protocol = Protocol::Tcp;
    plan.clusters[0].protocol = Protocol::Tcp;
    let window = plan.limits.tunnel_credit_bytes;
    let mut world = World::new(plan, 9);
    world.split = Some(50_000);
    let client = world.connect(0);
    let server = world.server();
    world.set_window(client, Some(0));
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    world.send(server, &sent);
    assert_eq!(world.queued(client), window);
    world.end(server);
    let mut received = Vec::new();
    for step in [1, 2, 1_000, 70_000, 500_000, 1 << 20, 1 << 22] {
        world.set_window(client, Some(step));
        received.extend(world.take(client));
    }
    assert!(received == sent, "{} of {} bytes came", received.len(), sent.len());
    assert!(world.is_shut(client) && !world.is_closed(client), "the other direction is open");
    world.send(client, b"late");
    world.end(client);
    assert_eq!(world.take(server), b"late");
    assert_eq!(
        (world.reason(client), world.reason(server)),
        (Some(CloseReason::PeerClosed), Some(CloseReason::PeerClosed))
    );
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn heartbeats_are_answered_up_to_their_rate() {
    let mut world = World::new(plan_of(1), 10);
    let client = world.connect(0);
    for id in 0..10 {
        world.send(client, &heartbeat(Version::V1, id));
        assert_eq!(world.message(client).id(), id);
    }
    world.advance(1_000);
    (0..10).for_each(|id| world.send(client, &heartbeat(Version::V1, id)));
    assert!(!world.is_closed(client));
    world.send(client, &heartbeat(Version::V1, 11));
    assert_eq!(world.reason(client), Some(CloseReason::HeartbeatFlood));
    assert_eq!(world.total(Count::HeartbeatsAnswered), 20);
}

#[test]
fn at_the_memory_ceiling_the_longest_output_queue_is_closed_first() {
    let pool = Pool::new(64 << 20);
    let mut world = World::with_pool(plan_of(1), 11, pool.clone()).one_worker();
    let clients: Vec<_> = (0..4).map(|_| world.connect(0)).collect();
    for (client, size) in clients[..3].iter().zip([300_000, 500_000, 400_000]) {
        world.send(*client, &calls(1..2));
        let server = world.server();
        let asked = world.message(server);
        world.set_window(*client, Some(0));
        world.send(server, &asked.response(&vec![7; size]));
    }
    // The third one's queue is written, which nobody was told of.
    world.set_window(clients[2], None);
    let free = (64 << 20) - pool.stats().charged_bytes;
    let all_but_little = Chunk::take(&pool, (free - 40_000) / 4_096 * 4_096).expect("it is free");
    let closed = |world: &World| clients.iter().map(|client| world.is_closed(*client)).collect::<Vec<_>>();
    world.send(clients[3], &calls(5..6));
    world.expect_failure(clients[3], 5, Failure::MemoryCeiling, 0);
    assert_eq!(closed(&world), [false, true, false, false]);
    assert_eq!(world.reason(clients[1]), Some(CloseReason::MemoryCeiling));
    world.send(clients[3], &calls(6..8));
    assert_eq!(closed(&world), [false, true, false, false], "the next one says that its queue is written");
    world.send(clients[3], &calls(8..9));
    assert_eq!(closed(&world), [true, true, false, false]);
    world.send(clients[3], &calls(9..10));
    assert_eq!(closed(&world), [true, true, false, false], "nobody else has much queued");
    assert_eq!(world.messages(clients[3]).len(), 4);
    drop(all_but_little);
    world.take(clients[2]);
    world.take(clients[3]);
    world.round_trip(clients[2], 9, b"it lives on");
    world.round_trip(clients[3], 9, b"and so does this one");
}
