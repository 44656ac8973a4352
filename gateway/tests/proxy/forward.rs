//! Requests go to the server, replies come back, and nothing but the ids changes.

use bowline_gateway::config::plan::RoutePlan;
use bowline_gateway::config::plan::{ClusterPlan, EndpointPlan, Plan, Protocol, RouteTarget, ServicePlan};
use bowline_gateway::metrics::Count;
use bowline_protocols::bolt::fields;
use bowline_protocols::testing::VERSIONS;

use crate::bolt::Call;
use crate::counting;
use crate::world::{Peer, World, plan_of, server_address};

/// The frame with its id replaced by that of another.
fn with_id(mut bytes: Vec<u8>, version: bowline_protocols::bolt::Version, id: u32) -> Vec<u8> {
    let limits = bowline_protocols::Limits::default();
    let decoded = bowline_protocols::bolt::decode(&bytes, &limits);
    let Ok(bowline_protocols::bolt::Decoded::Frame(frame)) = decoded else { panic!("a whole frame") };
    assert_eq!(frame.version, version);
    bowline_protocols::bolt::frame::rewrite_id(&mut bytes, &frame, id);
    bytes
}

#[test]
fn a_request_is_forwarded_byte_for_byte_but_its_id_and_so_is_its_reply() {
    for (version, crc) in VERSIONS {
        let mut world = World::new(plan_of(1), 1);
        let client = world.connect(0);
        let call = Call::new(0xfedc_0001, b"hello").version(version, crc);
        world.send(client, &call.bytes());
        let server = world.server();
        let seen = world.message(server);
        assert_eq!(seen.bytes, with_id(call.bytes(), version, seen.id()));
        let reply = seen.response(b"world");
        world.send(server, &reply);
        let answer = world.message(client);
        assert_eq!(answer.id(), 0xfedc_0001);
        assert_eq!(answer.bytes, with_id(reply, version, answer.id()));
        assert_eq!(world.held(0), (0, 0));
        assert_eq!((world.total(Count::Requests), world.total(Count::Responses)), (1, 1));
        assert_eq!(world.in_flight(client), 0);
    }
}

#[test]
fn the_same_id_of_many_clients_is_not_mixed_up_whatever_the_order_of_replies() {
    let mut world = World::new(plan_of(1), 2).one_worker();
    let clients: Vec<_> = (0..20).map(|_| world.connect(0)).collect();
    for (number, client) in clients.iter().enumerate() {
        world.send(*client, &Call::new(7, format!("client {number}")).bytes());
    }
    let server = world.server();
    let mut seen = world.messages(server);
    assert_eq!((seen.len(), world.held(0).0), (20, 20));
    seen.reverse();
    for message in seen {
        world.send(server, &message.response(message.content()));
    }
    for (number, client) in clients.iter().enumerate() {
        let answer = world.message(*client);
        assert_eq!((answer.id(), answer.content()), (7, format!("client {number}").as_bytes()));
    }
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn any_split_on_either_side_gives_the_same_frames() {
    for split in [1, 2, 3, 7, 19, 50] {
        for seed in 0..5 {
            let mut world = World::new(plan_of(1), seed);
            world.set_split(split);
            let client = world.connect(0);
            let (version, crc) = VERSIONS[seed as usize % VERSIONS.len()];
            let burst: Vec<_> = (0..20)
                .flat_map(|id| Call::new(id, format!("call {id}")).version(version, crc).bytes())
                .collect();
            let before = world.stats().turns;
            world.send(client, &burst);
            let turns = world.stats().turns - before;
            assert!(turns as usize >= burst.len() / split, "{turns} turns read {} bytes", burst.len());
            world.echo();
            let answers = world.messages(client);
            let mut seen: Vec<_> = answers.iter().map(|answer| (answer.id(), answer.content())).collect();
            seen.sort_unstable();
            let expected: Vec<_> = (0..20).map(|id| (id, format!("call {id}"))).collect();
            assert!(
                seen.iter()
                    .map(|(id, content)| (*id, String::from_utf8_lossy(content).into_owned()))
                    .eq(expected)
            );
        }
    }
}

#[test]
fn a_burst_keeps_its_order_and_every_one_is_answered() {
    let mut world = World::new(plan_of(1), 3);
    let client = world.connect(0);
    let burst: Vec<_> = (0..500_u32).flat_map(|id| Call::new(id, id.to_be_bytes()).bytes()).collect();
    world.send(client, &burst);
    let server = world.server();
    let seen = world.messages(server);
    assert!(seen.iter().enumerate().all(|(at, message)| message.content() == (at as u32).to_be_bytes()));
    let replies: Vec<_> = seen.iter().flat_map(|message| message.response(message.content())).collect();
    world.send(server, &replies);
    let answers = world.messages(client);
    assert_eq!(answers.len(), 500);
    assert!(answers.iter().all(|answer| answer.content() == answer.id().to_be_bytes()));
}

#[test]
fn large_frames_pass_whole_both_ways() {
    for size in [60_000, 70_000, 1 << 20, 4 << 20] {
        let mut world = World::new(plan_of(1), 4);
        world.set_split(100_000);
        let client = world.connect(0);
        world.round_trip(client, 1, &vec![7; size]);
        assert_eq!((world.held(0), world.gateway.large_frame_bytes()), ((0, 0), 0));
    }
}

#[test]
fn the_service_chooses_the_cluster() {
    let mut plan = plan_of(1);
    let mut other = ClusterPlan::named("other", Protocol::Bolt);
    other.endpoints = vec![EndpointPlan::Address(server_address(9))];
    plan.clusters.push(other);
    plan.routes = vec![RoutePlan {
        service: ServicePlan::Exact("com.x.Other".to_owned()),
        target: RouteTarget { cluster: 1, timeout_ms: 1_000 },
    }];
    let mut world = World::new(plan, 5);
    let client = world.connect(0);
    let header = fields::encode(&[("service", "com.x.Other")]);
    world.send(client, &Call::new(1, b"x").header(header).bytes());
    let server = world.server();
    assert_eq!(world.address_of(server), server_address(9));
    world.send(client, &Call::new(2, b"y").bytes());
    assert_eq!(world.address_of(world.servers()[1]), server_address(1));
    world.echo();
    assert_eq!(world.messages(client).len(), 2);
}

#[test]
fn calls_are_spread_over_endpoints_and_connections_are_reused() {
    let mut plan = plan_of(3);
    plan.clusters[0].connections = 2;
    let mut world = World::new(plan, 6).one_worker();
    let client = world.connect(0);
    for id in 0..60 {
        world.round_trip(client, id, b"x");
    }
    assert_eq!(world.servers().len(), 6, "two connections to each of three");
}

#[test]
fn every_version_has_connections_of_its_own() {
    let mut world = World::new(plan_of(1), 7).one_worker();
    let client = world.connect(0);
    for round in 0..3 {
        for (number, (version, crc)) in VERSIONS.into_iter().enumerate() {
            let call = Call::new(round * 10 + number as u32, b"x").version(version, crc);
            world.send(client, &call.bytes());
        }
        world.echo();
    }
    assert_eq!((world.servers().len(), world.messages(client).len()), (3, 12));
}

#[test]
fn the_embedded_server_answers_through_the_gateway() {
    let plan = bowline_gateway::config::plan::Plan::default();
    let mut world = World::new(plan, 8);
    let echo = world.gateway.echo_listener();
    let clusters: Vec<_> = world.gateway.echo_clusters().collect();
    assert_eq!(clusters, [0]);
    world.gateway.set_endpoints(0, &[server_address(1)]);
    let client = world.connect(0);
    // This world has no network of its own: what goes to the server's address is carried to the echo listener.
    let inside = world.connect(echo);
    for (version, crc) in VERSIONS {
        world.send(client, &Call::new(5, b"hello").version(version, crc).bytes());
        let server = *world.servers().last().expect("it was opened");
        let asked = world.take(server);
        world.send(inside, &asked);
        let answered = world.take(inside);
        world.send(server, &answered);
        let answer = world.message(client);
        assert_eq!((answer.id(), answer.content(), answer.frame.status), (5, &b"hello"[..], 0));
        assert_eq!((answer.frame.version, answer.frame.crc), (version, crc));
    }
}

#[test]
fn in_the_steady_state_connections_allocate_nothing() {
    assert_eq!(allocations(plan_of(1)), 0, "for 16,000 requests");
}

#[test]
fn what_access_lines_say_is_kept_without_an_allocation() {
    let mut plan = plan_of(1);
    plan.log.access = true;
    assert_eq!(allocations(plan), 0, "for 16,000 requests");
}

/// Allocations of connections for 16,000 requests in the steady state.
fn allocations(plan: Plan) -> u64 {
    let mut world = World::new(plan, 9);
    let clients: Vec<_> = (0..16).map(|_| world.connect(0)).collect();
    let service = fields::encode(&[("service", "demo")]);
    let round = |world: &mut World, clients: &[Peer], id: u32, frames: u32| {
        for client in clients {
            let call = |n| Call::new(id + n, b"hello").header(service.clone()).bytes();
            let burst: Vec<_> = (0..frames).flat_map(call).collect();
            world.send_later(*client, &burst);
        }
        world.run();
        world.echo();
        for client in clients {
            assert_eq!(world.messages(*client).len(), frames as usize);
        }
    };
    // Boxes and tables first grow to what two workers need that take turns at random: with four times the clients and
    // four times the requests of each, there is more of everything than what is counted below can use.
    for id in 0..300 {
        round(&mut world, &clients, id, 32);
    }
    let before = counting::count();
    for id in 300..800 {
        round(&mut world, &clients[..4], id, 8);
    }
    counting::count() - before
}
