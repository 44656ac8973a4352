//! Bodies of HTTP: as much of them is on the way as the receiver takes, whoever is slow, and memory stays bounded.

use bowline_gateway::config::http::{ActionPlan, HttpRoutePlan, LocationPlan, PathPlan};
use bowline_gateway::config::plan::Plan;
use bowline_gateway::error::{CloseReason, Failure};

use crate::counting;
use crate::http::{asked_world, chunk, get, http_plan, http_world, ok, parse, post, request};
use crate::world::World;

/// The default plan with a window of `bytes`.
fn window_plan(bytes: usize) -> Plan {
    let mut plan = http_plan(1);
    plan.limits.tunnel_credit_bytes = bytes;
    plan
}

/// Bytes that differ by place, so that a lost or doubled piece is noticed.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn chunked(body: &[u8], bytes: usize) -> Vec<u8> {
    let mut out: Vec<u8> = body.chunks(bytes).flat_map(chunk).collect();
    out.extend(b"0\r\n\r\n");
    out
}

#[test]
fn bodies_pass_whole_both_ways_however_they_are_framed_and_cut() {
    let body = pattern(300_000);
    for (seed, bytes) in [(1, 17), (2, 4_000), (3, 100_000)] {
        let (mut world, client, server) = asked_world(window_plan(64 << 10), seed);
        if seed == 1 {
            world.set_split(5_000);
        }
        let head = request("POST", "/a", "Transfer-Encoding: chunked\r\n");
        world.send(client, &[head, chunked(&body, bytes)].concat());
        let asked = world.http(server);
        assert!(asked.body == body && asked.field("transfer-encoding") == Some("chunked"));
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        world.send(server, &[&head[..], &chunked(&body, bytes)].concat());
        assert!(world.http(client).body == body);
        world.send(client, &post("/b", &body));
        assert!(world.http(server).body == body);
        world.send(server, &ok(&body));
        assert!(world.http(client).body == body);
        assert_eq!((world.servers().len(), world.held(0)), (1, (0, 0)));
    }
}

#[test]
fn a_server_that_takes_nothing_stops_its_client_within_the_window() {
    for bytes in [1, 30, 1_000, 60_000] {
        let (mut world, client, server) = asked_world(window_plan(64 << 10), 4);
        world.set_window(server, Some(0));
        let body = pattern(600_000);
        let head = request("POST", "/a", "Transfer-Encoding: chunked\r\n");
        world.send(client, &[head, chunked(&body, bytes)].concat());
        assert!(!world.is_reading(client) && world.unread(client) > 400_000, "chunks of {bytes}");
        assert!(
            world.pool().stats().charged_bytes < 1 << 20,
            "{} bytes are held",
            world.pool().stats().charged_bytes
        );
        // It takes a little at a time, and what waits for it does not grow by that.
        for _ in 0..50 {
            world.set_window(server, Some(3_000));
            assert!(world.queued(server) < 256 << 10, "{} bytes are queued", world.queued(server));
        }
        world.set_window(server, None);
        assert!(world.http(server).body == body, "nothing is lost");
        world.send(server, &ok("x"));
        assert_eq!(world.http(client).text(), "x");
    }
}

#[test]
fn a_client_that_takes_nothing_stops_its_server_within_the_window() {
    for bytes in [1, 30, 1_000, 60_000] {
        let (mut world, client, server) = asked_world(window_plan(64 << 10), 5);
        world.send(client, &get("/a"));
        drop(world.take(server));
        world.set_window(client, Some(0));
        let body = pattern(600_000);
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        world.send(server, &[&head[..], &chunked(&body, bytes)].concat());
        assert!(!world.is_reading(server) && world.unread(server) > 400_000, "chunks of {bytes}");
        for _ in 0..50 {
            world.set_window(client, Some(3_000));
            assert!(world.queued(client) < 256 << 10, "{} bytes are queued", world.queued(client));
        }
        world.set_window(client, None);
        assert!(world.http(client).body == body, "nothing is lost");
        assert!(!world.is_closed(server), "it is used again");
    }
}

#[test]
fn a_client_that_pipelines_and_takes_nothing_is_not_read_on() {
    let (mut world, client, _) = asked_world(window_plan(64 << 10), 6);
    world.set_window(client, Some(0));
    world.send(client, &get("/large").repeat(1_000));
    for _ in 0..100 {
        for server in world.open_servers() {
            if !world.take(server).is_empty() {
                world.send(server, &ok(pattern(60_000)));
            }
        }
    }
    assert!(world.queued(client) < 256 << 10, "{} bytes are queued", world.queued(client));
    world.set_window(client, None);
    let server = world.server();
    for _ in 0..999 {
        if !world.take(server).is_empty() {
            world.send(server, &ok(pattern(60_000)));
        }
    }
    assert_eq!(world.https(client).len(), 1_000, "and all are answered once it reads");
}

#[test]
fn a_client_that_does_not_take_its_answer_is_given_up() {
    let mut plan = window_plan(64 << 10);
    plan.timeouts.http_body_ms = 1_000;
    // The answer fits the window, or it does not.
    for bytes in [60_000, 600_000] {
        let (mut world, client, server) = asked_world(plan.clone(), 7);
        world.set_window(client, Some(100));
        world.send(client, &get("/a"));
        drop(world.take(server));
        world.send(server, &ok(pattern(bytes)));
        world.advance(2_500);
        assert_eq!(world.reason(client), Some(CloseReason::SlowReader), "{bytes}");
        assert_eq!(world.held(0), (0, 0));
    }
}

#[test]
fn a_client_that_takes_its_answer_slowly_but_steadily_is_kept() {
    let mut plan = window_plan(64 << 10);
    plan.timeouts.http_body_ms = 1_000;
    let (mut world, client, server) = asked_world(plan, 8);
    world.set_window(client, Some(0));
    world.send(client, &get("/a"));
    drop(world.take(server));
    world.send(server, &ok(pattern(100_000)));
    for _ in 0..30 {
        world.advance(300);
        world.set_window(client, Some(3_000));
    }
    assert!(!world.is_closed(client));
    world.set_window(client, None);
    assert!(world.http(client).body == pattern(100_000));
}

#[test]
fn a_client_that_takes_less_of_its_answer_than_the_least_rate_is_given_up() {
    let mut plan = window_plan(64 << 10);
    plan.timeouts.http_body_ms = 1_000;
    plan.limits.http_body_rate_min = 1_000;
    let (mut world, client, server) = asked_world(plan, 9);
    world.set_window(client, Some(0));
    world.send(client, &get("/a"));
    drop(world.take(server));
    world.send(server, &ok(pattern(600_000)));
    for _ in 0..10 {
        world.set_window(client, Some(100));
        world.advance(300);
    }
    assert_eq!(world.reason(client), Some(CloseReason::SlowReader));
}

#[test]
fn a_body_is_not_given_up_while_its_server_takes_nothing() {
    let mut plan = window_plan(64 << 10);
    plan.timeouts.http_body_ms = 1_000;
    let (mut world, client, server) = asked_world(plan, 10);
    world.set_window(server, Some(0));
    world.send(client, &post("/a", &pattern(200_000)));
    world.advance(5_000);
    assert!(!world.is_closed(client), "it is the server that is slow");
    world.set_window(server, None);
    assert!(world.http(server).body == pattern(200_000));
}

#[test]
fn at_the_memory_ceiling_the_longest_queue_is_closed_first() {
    let mut world = http_world(window_plan(1 << 20), 11).with_memory(4 << 20);
    let clients: Vec<_> = (0..8).map(|_| world.connect(0)).collect();
    for client in &clients {
        world.set_window(*client, Some(0));
        world.send(*client, &get("/a"));
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n";
    for server in world.servers() {
        if !world.is_closed(server) {
            drop(world.take(server));
            world.send(server, head.as_bytes());
            world.send(server, &pattern(900_000));
        }
    }
    world.advance(1_000);
    assert!(world.closes(CloseReason::MemoryCeiling) > 0, "somebody had to go");
    let left: Vec<_> = clients.iter().copied().filter(|client| !world.is_closed(*client)).collect();
    assert!(!left.is_empty(), "and somebody is left");
    for client in left {
        world.set_window(client, None);
        world.advance(1_000);
        if !world.is_closed(client) {
            assert!(
                parse(&world.take(client), false).is_some_and(|(answer, _)| answer.body.len() == 900_000)
            );
        }
    }
    let fresh = world.connect(0);
    world.send(fresh, &get("/b"));
    for server in world.open_servers() {
        if world.take(server).ends_with(b"\r\n\r\n") {
            world.send(server, &ok("x"));
        }
    }
    assert_eq!(world.http(fresh).text(), "x", "it goes on");
}

/// The default plan with a route that sends its requests elsewhere.
fn redirecting_plan() -> Plan {
    let mut plan = http_plan(1);
    let location = LocationPlan::parse("https://{host}/new{rest}{query}").expect("a location");
    let moved = HttpRoutePlan::to(ActionPlan::Redirect { status: 308, location });
    plan.http.routes = vec![HttpRoutePlan { path: PathPlan::Prefix("/old".to_owned()), ..moved }];
    plan
}

#[test]
fn a_warm_gateway_allocates_nothing_for_redirects_and_what_access_lines_say() {
    let mut plan = redirecting_plan();
    plan.log.access = true;
    let (mut world, client, server) = asked_world(plan, 17);
    let round = |world: &mut World| {
        world.send(client, &get("/old/place?with=query"));
        let moved = world.expect_status(client, 308);
        assert_eq!(moved.field("location"), Some("https://a.example/new/place?with=query"));
        world.send(client, &get("/a"));
        drop(world.take(server));
        world.send(server, &ok("x"));
        assert_eq!(world.http(client).text(), "x");
    };
    (0..300).for_each(|_| round(&mut world));
    let before = counting::count();
    (0..500).for_each(|_| round(&mut world));
    assert_eq!(counting::count() - before, 0, "allocations for 1,000 requests");
}

#[test]
fn a_warm_gateway_allocates_nothing_for_requests_and_their_answers() {
    let (mut world, client, server) = asked_world(http_plan(1), 12);
    let body = pattern(2_000);
    let head = request("POST", "/c", "Transfer-Encoding: chunked\r\n");
    let chunks = [head, chunked(&body, 700)].concat();
    let head = &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..];
    let answers = [ok("x"), ok(&body), [head, &chunked(&body, 700)].concat()];
    let asked = [get("/a"), post("/b", &body), chunks];
    let round = |world: &mut World| {
        for (request, answer) in asked.iter().zip(&answers) {
            world.send(client, request);
            drop(world.take(server));
            world.send(server, answer);
            drop(world.take(client));
        }
        // What the gateway answers by itself.
        world
            .send(client, b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(world.http(client).status(), 426);
    };
    (0..300).for_each(|_| round(&mut world));
    let before = counting::count();
    (0..500).for_each(|_| round(&mut world));
    assert_eq!(counting::count() - before, 0, "allocations for 2,000 requests");
}

#[test]
fn a_body_that_comes_too_slowly_is_answered_408() {
    let mut plan = http_plan(1);
    plan.timeouts.http_body_ms = 1_000;
    let (mut world, client, server) = asked_world(plan, 13);
    world.send(client, &request("POST", "/a", "Content-Length: 1000\r\n"));
    drop(world.take(server));
    for _ in 0..5 {
        world.send(client, b"x");
        world.advance(500);
    }
    assert!(world.expect_status(client, 408).closes());
    assert_eq!(
        (world.failures(Failure::BodyTimeout), world.reason(server)),
        (1, Some(CloseReason::RequestCancelled))
    );
    assert_eq!(world.held(0), (0, 0));
}
