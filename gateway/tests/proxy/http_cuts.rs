//! Answers that are cut: what was queued before the cut comes whole, and no client can take what was cut for an answer.
//! And what ends whoever waits for a body that nobody sends any more.

use bowline_gateway::error::{CloseReason, Failure};

use crate::http::{asked_world, chunk, find, get, http_plan, http_world, ok, parse, post, request};
use crate::world::{Peer, World};

/// A client that takes nothing has asked twice; the first answer is queued for it whole, of the second what is in `begun`.
fn half_answered(world: &mut World, client: Peer, server: Peer, begun: &[u8]) {
    world.set_window(client, Some(0));
    world.send(client, &[get("/a"), get("/b")].concat());
    drop(world.take(server));
    world.send(server, &ok("the first answer"));
    assert_eq!(world.http(server).line, "GET /b HTTP/1.1");
    world.send(server, begun);
}

/// Takes what has come, of which the first answer is whole; what is behind it.
fn take_behind_first(world: &mut World, client: Peer) -> Vec<u8> {
    let bytes = world.take(client);
    let (first, length) = parse(&bytes, false).expect("the first answer is whole");
    assert_eq!(first.text(), "the first answer");
    bytes[length..].to_vec()
}

const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome of it";
const CHUNKS: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nsome of it\r\n";
const TO_THE_END: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nsome of it";

#[test]
fn what_was_queued_before_a_cut_comes_whole_and_the_cut_shows_in_the_framing() {
    for (seed, begun) in [LENGTH, CHUNKS, TO_THE_END].iter().enumerate() {
        let (mut world, client, server) = asked_world(http_plan(1), seed as u64);
        half_answered(&mut world, client, server, begun);
        world.cut(server);
        world.set_window(client, None);
        let cut = take_behind_first(&mut world, client);
        assert!(find(&cut, b"some of it").is_some() && parse(&cut, false).is_none(), "it is no whole answer");
        assert!(world.is_shut(client) && !world.is_reset(client), "and no reset takes anything away");
        assert_eq!(world.held(0), (0, 0));
        world.advance(2_500);
        assert_eq!(world.reason(client), Some(CloseReason::PartnerGone));
    }
}

#[test]
fn what_a_client_sends_behind_a_cut_answer_is_thrown_away_and_turns_no_end_into_a_reset() {
    let (mut world, client, server) = asked_world(http_plan(1), 10);
    half_answered(&mut world, client, server, CHUNKS);
    world.cut(server);
    world.send(client, &get("/c"));
    assert!(!world.is_closed(client));
    world.set_window(client, None);
    drop(take_behind_first(&mut world, client));
    world.end(client);
    assert_eq!((world.reason(client), world.is_reset(client)), (Some(CloseReason::PartnerGone), false));
    assert!(world.open_servers().is_empty(), "nobody was asked for it");
}

#[test]
fn a_client_that_has_said_everything_is_closed_behind_a_cut_answer_at_once() {
    let (mut world, client, server) = asked_world(http_plan(1), 11);
    world.send(client, &get("/a"));
    world.end(client);
    drop(world.take(server));
    world.send(server, LENGTH);
    world.cut(server);
    assert!(world.take(client).ends_with(b"some of it"));
    assert_eq!((world.reason(client), world.is_reset(client)), (Some(CloseReason::PartnerGone), false));
}

#[test]
fn an_answer_that_only_the_end_of_the_connection_ends_is_cut_by_a_reset_behind_what_was_queued() {
    let old = |path: &str| format!("GET {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    for slow in [false, true] {
        let mut world = http_world(http_plan(1), 12);
        let client = world.connect(0);
        world.set_window(client, Some(0));
        world.send(client, [old("/a"), old("/b")].concat().as_bytes());
        let server = world.server();
        drop(world.take(server));
        world.send(server, &ok("the first answer"));
        drop(world.take(server));
        world.send(server, TO_THE_END);
        world.cut(server);
        world.advance(if slow { 6_000 } else { 500 });
        assert!(!world.is_shut(client), "an end in order would make it whole");
        world.set_window(client, None);
        assert!(take_behind_first(&mut world, client).ends_with(b"some of it"));
        world.advance(2_500);
        assert_eq!((world.reason(client), world.is_reset(client)), (Some(CloseReason::PartnerGone), true));
    }
}

#[test]
fn a_client_that_is_to_be_reset_and_takes_nothing_is_not_waited_for_for_ever() {
    let mut world = http_world(http_plan(1), 13);
    let client = world.connect(0);
    world.set_window(client, Some(0));
    world.send(client, b"GET /a HTTP/1.0\r\nHost: a\r\n\r\n");
    let server = world.server();
    drop(world.take(server));
    world.send(server, TO_THE_END);
    world.cut(server);
    world.end(client);
    world.advance(9_000);
    assert!(!world.is_closed(client));
    world.advance(1_500);
    assert_eq!((world.reason(client), world.is_reset(client)), (Some(CloseReason::PartnerGone), true));
}

#[test]
fn what_was_queued_before_the_deadline_of_a_drain_or_a_long_silence_comes_whole_too() {
    for (seed, drains) in [false, true].into_iter().enumerate() {
        let mut plan = http_plan(1);
        plan.timeouts.idle_ms = 5_000;
        let (mut world, client, server) = asked_world(plan, 14 + seed as u64);
        world.send(client, &[get("/a"), get("/b")].concat());
        drop(world.take(server));
        world.send(server, &ok("the first answer"));
        drop(world.take(server));
        world.send(server, CHUNKS);
        if drains {
            world.drain(3_000);
        }
        world.advance(5_300);
        let cut = take_behind_first(&mut world, client);
        assert!(cut.ends_with(b"some of it\r\n") && world.is_shut(client) && !world.is_reset(client));
        assert_eq!((world.reason(server), world.held(0)), (Some(CloseReason::RequestCancelled), (0, 0)));
        world.advance(2_500);
        let reason = if drains { CloseReason::DrainDeadline } else { CloseReason::IdleTimeout };
        assert_eq!(world.reason(client), Some(reason));
    }
}

#[test]
fn a_body_that_stops_behind_the_head_of_its_answer_is_judged_as_any_other() {
    for (seed, dribbles) in [false, true].into_iter().enumerate() {
        let mut plan = http_plan(1);
        plan.timeouts.http_body_ms = 1_000;
        let (mut world, client, server) = asked_world(plan, 20 + seed as u64);
        world.send(client, &request("POST", "/a", "Content-Length: 1000\r\n"));
        drop(world.take(server));
        world.send(server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // Its answer comes all the time, and is taken.
        for _ in 0..6 {
            world.send(server, &chunk("more"));
            if dribbles {
                world.send(client, b"x");
            }
            world.advance(400);
        }
        let bytes = world.take(client);
        assert!(find(&bytes, b"more").is_some() && !bytes.ends_with(b"0\r\n\r\n"));
        assert_eq!((world.is_shut(client), world.failures(Failure::BodyTimeout)), (true, 1));
        assert_eq!((world.reason(server), world.held(0)), (Some(CloseReason::RequestCancelled), (0, 0)));
        world.advance(2_500);
        assert_eq!(world.reason(client), Some(CloseReason::HttpBodyTimeout));
    }
}

#[test]
fn a_body_that_flows_behind_the_head_of_its_answer_is_left_alone() {
    let mut plan = http_plan(1);
    plan.timeouts.http_body_ms = 1_000;
    let (mut world, client, server) = asked_world(plan, 22);
    world.send(client, &request("POST", "/a", "Content-Length: 1000\r\n"));
    drop(world.take(server));
    world.send(server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..20 {
        world.send(client, &[7; 50]);
        world.advance(300);
    }
    assert_eq!(world.take(server).len(), 1_000);
    world.send(server, b"0\r\n\r\n");
    assert_eq!(world.http(client).status(), 200);
}

#[test]
fn a_server_that_waits_for_the_body_of_a_client_that_vanished_without_a_word_has_an_end() {
    let mut plan = http_plan(1);
    plan.timeouts.http_body_ms = 2_000;
    let (mut world, client, server) = asked_world(plan, 23);
    world.send(client, &post("/a", &[7; 1_000])[..500]);
    assert!(!world.take(server).is_empty());
    world.break_machine(client);
    assert!(world.is_closed(client) && !world.is_closed(server), "nobody has told it");
    world.advance(1_900);
    assert_eq!(world.held(0), (1, 0));
    world.advance(2_300);
    assert_eq!((world.reason(server), world.held(0)), (Some(CloseReason::RequestCancelled), (0, 0)));
}

#[test]
fn a_server_that_is_asked_for_an_answer_that_nobody_waits_for_any_more_has_an_end_too() {
    let mut plan = http_plan(1);
    plan.timeouts.http_body_ms = 2_000;
    let (mut world, client, server) = asked_world(plan, 24);
    world.send(client, &get("/a"));
    world.break_machine(client);
    // An idle connection is looked at after a minute, and one with a request on it in its place.
    world.advance(63_000);
    assert_eq!((world.reason(server), world.held(0)), (Some(CloseReason::RequestCancelled), (0, 0)));
}

#[test]
fn a_client_that_is_asked_whether_it_is_there_gets_no_more_time_for_its_body_or_its_answer() {
    let mut plan = http_plan(1);
    (plan.timeouts.http_body_ms, plan.limits.http_body_rate_min) = (1_000, 1);
    plan.listeners[0].default_route.as_mut().expect("it has one").timeout_ms = 5_000;
    let (mut world, client, server) = asked_world(plan, 25);
    world.send(client, &post("/a", b"whole"));
    drop(world.take(server));
    world.advance(4_800);
    assert_eq!(world.take(client), b"");
    world.advance(400);
    world.expect_status(client, 504);
}
