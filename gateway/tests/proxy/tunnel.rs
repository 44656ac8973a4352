//! Tunnels: what is tried when a server cannot be reached, how each direction ends in its own time, who hears what first,
//! and the header that names the client to the server.

use std::net::SocketAddr;

use bowline_engine::machine::OpenError;
use bowline_engine::time::TICK_MS;
use bowline_gateway::config::plan::{Balance, ProxyVersion};
use bowline_gateway::error::CloseReason;
use bowline_gateway::metrics::Count;
use bowline_protocols::proxy_header::{Parsed, Route, Versions, parse};

use crate::counting;
use crate::world::{Peer, REFUSES, Reach, World, server_address, tunnel_plan};

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A world with one open tunnel.
fn opened(world: &mut World) -> (Peer, Peer) {
    let client = world.connect(0);
    let server = world.server();
    (client, server)
}

#[test]
fn a_server_that_speaks_first_is_heard_before_its_client_has_said_a_word() {
    let mut world = World::new(tunnel_plan(1), 1);
    let (client, server) = opened(&mut world);
    world.send(server, b"220 ready\r\n");
    assert_eq!(world.take(client), b"220 ready\r\n");
    world.send(client, b"EHLO");
    assert_eq!(world.take(server), b"EHLO");
}

#[test]
fn a_tunnel_whose_endpoints_refuse_is_tried_elsewhere_and_its_first_bytes_come_whole() {
    let mut plan = tunnel_plan(5);
    plan.clusters[0].connect_attempts = 4;
    let mut world = World::new(plan, 2).one_worker();
    (1..=3).for_each(|number| world.set_reach(server_address(number), REFUSES));
    let client = world.connect(0);
    world.send(client, b"kept until somebody is there");
    let server = world.server();
    assert_eq!(world.address_of(server), server_address(4));
    assert_eq!(world.take(server), b"kept until somebody is there");
    assert_eq!((world.total(Count::Retries), world.total(Count::UpstreamConnectFailures)), (3, 3));
}

#[test]
fn a_tunnel_is_tried_as_often_as_its_cluster_says_and_then_reset() {
    for attempts in 1..=4_u32 {
        let mut plan = tunnel_plan(9);
        plan.clusters[0].connect_attempts = attempts;
        let mut world = World::new(plan, 3).one_worker();
        (1..=9).for_each(|number| world.set_reach(server_address(number), REFUSES));
        let client = world.connect(0);
        assert_eq!(world.reason(client), Some(CloseReason::ConnectFailed));
        assert_eq!(world.total(Count::UpstreamConnectFailures), u64::from(attempts));
        assert_eq!(world.held(0), (0, 0));
    }
}

#[test]
fn a_connect_that_nobody_answers_is_given_up_after_the_time_of_its_cluster() {
    let mut plan = tunnel_plan(2);
    (plan.clusters[0].connect_timeout_ms, plan.clusters[0].connect_attempts) = (700, 2);
    let mut world = World::new(plan, 4).one_worker();
    (1..=2).for_each(|number| world.set_reach(server_address(number), Reach::Silent));
    let client = world.connect(0);
    world.advance(1_300);
    assert!(!world.is_closed(client));
    world.advance(100 + 4 * TICK_MS);
    assert_eq!(world.reason(client), Some(CloseReason::ConnectTimeout));
}

/// What connections allocate while `tunnels` open at once, whose server takes its time, after as many came and went. What
/// accepts them is not counted.
fn allocations_of_opening(world: &mut World, tunnels: usize) -> u64 {
    let mut counted = 0;
    for _ in 0..2 {
        world.set_reach(server_address(1), Reach::Silent);
        // Whoever ended has taken its box of load along, and all that begin one after the other share one.
        let mut clients = vec![world.connect(0)];
        let before = counting::count();
        clients.extend((0..tunnels).map(|_| world.connect(0)));
        world.let_connect(server_address(1));
        counted = counting::count() - before;
        assert_eq!(world.open_servers().len(), clients.len());
        clients.into_iter().for_each(|client| world.cut(client));
    }
    counted
}

#[test]
fn a_plain_tunnel_allocates_the_machine_of_its_server_and_nothing_while_it_waits() {
    // More than there are spare boxes of load.
    const TUNNELS: usize = 600;
    let mut world = World::new(tunnel_plan(1), 11).one_worker();
    assert_eq!(allocations_of_opening(&mut world, TUNNELS), TUNNELS as u64);
}

#[test]
fn a_lack_of_ports_on_this_side_is_told_apart_and_not_blamed_on_the_server() {
    let mut world = World::new(tunnel_plan(1), 5).one_worker();
    world.set_reach(server_address(1), Reach::Fails(OpenError::Exhausted));
    let client = world.connect(0);
    assert_eq!(world.reason(client), Some(CloseReason::ConnectExhausted));
    assert_eq!(world.closes(CloseReason::ConnectExhausted), 1 + 3, "the client and three attempts");
    world.set_reach(server_address(1), Reach::Accepts);
    let (client, server) = opened(&mut world);
    world.send(client, b"at once, no pause was made");
    assert_eq!(world.take(server), b"at once, no pause was made");
}

#[test]
fn each_direction_that_is_left_alone_ends_in_its_own_time() {
    let mut plan = tunnel_plan(1);
    (plan.timeouts.client_fin_ms, plan.timeouts.server_fin_ms) = (2_000, 5_000);
    for (client_ends, limit_ms) in [(true, 2_000), (false, 5_000)] {
        let mut world = World::new(plan.clone(), 6);
        let (client, server) = opened(&mut world);
        let (ending, other) = if client_ends { (client, server) } else { (server, client) };
        world.end(ending);
        assert!(world.is_shut(other), "the end is passed on");
        world.advance(limit_ms - 100);
        world.send(other, b"still talking");
        assert_eq!(world.take(ending), b"still talking");
        world.advance(limit_ms - 100);
        assert!(!world.is_closed(client) && !world.is_closed(server), "a byte begins the time anew");
        world.advance(100 + 4 * TICK_MS);
        assert_eq!(world.reason(client), Some(CloseReason::IdleTimeout));
        assert_eq!(world.reason(server), Some(CloseReason::PartnerGone));
    }
}

#[test]
fn what_is_left_for_a_server_that_takes_nothing_has_a_time_when_its_client_is_gone() {
    let mut plan = tunnel_plan(1);
    (plan.timeouts.client_fin_ms, plan.timeouts.server_fin_ms) = (4_000, 2_000);
    let mut world = World::new(plan, 9);
    let (client, server) = opened(&mut world);
    world.set_window(server, Some(0));
    world.send(client, b"the last words");
    world.end(client);
    world.end(server);
    assert_eq!((world.reason(client), world.is_closed(server)), (Some(CloseReason::PeerClosed), false));
    world.advance(1_900);
    assert_eq!(world.held(0), (1, 0), "it has its room until then");
    world.advance(100 + 4 * TICK_MS);
    assert_eq!(world.held(0), (0, 0));
    // A close lets what is queued have some seconds more.
    world.advance(11_000);
    assert_eq!(world.reason(server), Some(CloseReason::IdleTimeout));
}

#[test]
fn a_tunnel_without_a_byte_ends_after_its_idle_time_and_one_with_bytes_either_way_does_not() {
    let mut plan = tunnel_plan(1);
    plan.timeouts.idle_ms = 3_000;
    let mut world = World::new(plan, 7);
    let (client, server) = opened(&mut world);
    for _ in 0..5 {
        world.advance(2_000);
        world.send(server, b"tick");
        assert_eq!(world.take(client), b"tick");
    }
    world.advance(2_900);
    assert!(!world.is_closed(client));
    world.advance(100 + 4 * TICK_MS);
    assert_eq!(world.reason(client), Some(CloseReason::IdleTimeout));
    assert_eq!((world.reason(server), world.held(0)), (Some(CloseReason::PartnerGone), (0, 0)));
}

#[test]
fn a_tunnel_ends_after_the_longest_time_whatever_it_carries() {
    let mut plan = tunnel_plan(1);
    plan.timeouts.tunnel_ms_max = Some(10_000);
    let mut world = World::new(plan, 8);
    let (client, server) = opened(&mut world);
    for _ in 0..9 {
        world.advance(1_000);
        world.send(client, b"busy");
        assert_eq!(world.take(server), b"busy");
    }
    assert!(!world.is_closed(client));
    world.advance(1_000 + 4 * TICK_MS);
    assert_eq!(world.reason(client), Some(CloseReason::TunnelExpired));
    assert_eq!(world.reason(server), Some(CloseReason::PartnerGone));
}

#[test]
fn the_header_goes_first_and_names_the_client_and_what_it_reached() {
    for (version, line) in [
        (ProxyVersion::V1, &b"PROXY TCP4 10.1.2.3 192.0.2.7 40000 443\r\n"[..]),
        (
            ProxyVersion::V2,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\xc0\0\x02\x07\x9c\x40\x01\xbb",
        ),
    ] {
        let mut plan = tunnel_plan(1);
        plan.clusters[0].proxy_protocol = Some(version);
        let mut world = World::new(plan, 9);
        world.set_split(7);
        world.set_freezes(300);
        world.set_doorway(address("192.0.2.7:443"), None);
        let client = world.connect_from(0, [10, 1, 2, 3]);
        let server = world.server();
        assert_eq!(world.take(server), line, "before the client has said a word");
        world.send(client, b"hello");
        assert_eq!(world.take(server), b"hello");
        world.send(server, b"answer");
        assert_eq!(world.take(client), b"answer");
        world.end(client);
        world.end(server);
        assert_eq!(world.reason(client), Some(CloseReason::PeerClosed));
        assert_eq!(world.reason(server), Some(CloseReason::PeerClosed));
    }
}

#[test]
fn the_header_takes_no_part_in_the_window() {
    let mut plan = tunnel_plan(1);
    plan.clusters[0].proxy_protocol = Some(ProxyVersion::V1);
    plan.limits.tunnel_credit_bytes = 20_000;
    let mut world = World::new(plan, 10);
    let (client, server) = opened(&mut world);
    let header = world.take(server).len();
    world.set_window(server, Some(0));
    world.send(client, &[7; 100_000]);
    assert!(header > 0);
    assert_eq!((world.queued(server), world.unread(client)), (20_000, 80_000), "one window is under way");
    world.set_window(server, None);
    assert_eq!(world.take(server).len(), 100_000);
}

#[test]
fn a_source_is_led_to_the_same_server_as_long_as_that_is_there() {
    let mut plan = tunnel_plan(7);
    plan.clusters[0].balance = Balance::Hash;
    let mut world = World::new(plan, 11);
    let server_of = |world: &mut World, last: u8| {
        let before = world.servers().len();
        let client = world.connect_from(0, [10, 0, 0, last]);
        let server = world.servers()[before];
        world.cut(client);
        world.address_of(server)
    };
    let first: Vec<_> = (0..40).map(|last| server_of(&mut world, last)).collect();
    let second: Vec<_> = (0..40).map(|last| server_of(&mut world, last)).collect();
    assert_eq!(first, second);
    assert!((1..=7).all(|number| first.contains(&server_address(number))));
}

#[test]
fn tunnels_spread_over_the_servers_with_the_fewest() {
    let mut plan = tunnel_plan(4);
    plan.clusters[0].balance = Balance::LeastOutstanding;
    let mut world = World::new(plan, 12);
    for _ in 0..40 {
        world.connect(0);
    }
    let tunnels_of = |world: &World, number| {
        let address = server_address(number);
        world.open_servers().into_iter().filter(|server| world.address_of(*server) == address).count()
    };
    assert_eq!([1, 2, 3, 4].map(|number| tunnels_of(&world, number)), [10; 4]);
    let gone: Vec<_> =
        world.open_servers().into_iter().filter(|s| world.address_of(*s) == server_address(2)).collect();
    gone.into_iter().for_each(|server| world.cut(server));
    for _ in 0..10 {
        world.connect(0);
    }
    assert_eq!([1, 2, 3, 4].map(|number| tunnels_of(&world, number)), [10; 4], "the empty one is filled");
}

#[test]
fn a_redirected_client_is_led_to_where_it_wanted_to_go() {
    let mut plan = tunnel_plan(0);
    plan.clusters[0].original_destination = true;
    plan.clusters[0].proxy_protocol = Some(ProxyVersion::V2);
    let mut world = World::new(plan, 13);
    let wanted = address("198.51.100.9:5432");
    world.set_doorway(address("192.0.2.7:15001"), Some(wanted));
    let client = world.connect(0);
    let server = world.server();
    assert_eq!(world.address_of(server), wanted);
    let header = world.take(server);
    let route = Route { source: address("127.0.0.1:40000"), destination: address("192.0.2.7:15001") };
    let parsed = parse(&header, Versions::V2);
    assert_eq!(parsed, Ok(Parsed::Header { bytes: header.len(), route: Some(route) }));
    world.send(client, b"x");
    assert_eq!(world.take(server), b"x");
    world.set_reach(wanted, REFUSES);
    let other = world.connect(0);
    assert_eq!(world.reason(other), Some(CloseReason::ConnectFailed));
    assert_eq!(world.total(Count::UpstreamConnectFailures), 1, "there is no other place to try");
}

#[test]
fn a_client_that_wanted_nothing_but_this_gateway_is_not_led_round_and_round() {
    let mut plan = tunnel_plan(0);
    plan.clusters[0].original_destination = true;
    plan.listeners[0].address = address("192.0.2.7:15001");
    let mut world = World::new(plan, 14);
    let here = address("192.0.2.7:15001");
    // It came to us directly; it came to another of our addresses; a filter sent it to where it was going anyway.
    let mapped = address("[::ffff:192.0.2.8]:15001");
    for (reached, original) in [
        (here, None),
        (address("127.0.0.1:15001"), Some(here)),
        (here, Some(here)),
        (mapped, Some(address("192.0.2.8:15001"))),
    ] {
        world.set_doorway(reached, original);
        let client = world.connect(0);
        assert_eq!(world.reason(client), Some(CloseReason::RedirectLoop));
    }
    assert!(world.servers().is_empty());
}
