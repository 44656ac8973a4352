//! What becomes of requests of HTTP when a server is lost, slow or wrong, when the client is, and when the gateway drains.

use bowline_gateway::config::plan::Balance;
use bowline_gateway::error::{CloseReason, Failure};
use bowline_gateway::metrics::Count;

use crate::http::{asked_world, chunk, get, http_plan, http_world, ok, post, request, response};
use crate::world::{Peer, REFUSES, Reach, World, server_address};

/// The only server's connection is used and then lost with a request on it, of which it has said nothing.
fn lose_stale(world: &mut World, client: Peer, request: &[u8]) {
    world.send(client, request);
    let server = world.server();
    assert!(!world.take(server).is_empty());
    world.end(server);
}

#[test]
fn a_request_that_only_reads_is_sent_once_more_when_its_used_connection_was_stale() {
    for (seed, method) in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"].iter().enumerate() {
        let (mut world, client, old) = asked_world(http_plan(1), seed as u64);
        lose_stale(&mut world, client, &request(method, "/a", ""));
        assert_eq!(world.take(client), b"", "{method} has no answer yet");
        let fresh = world.server();
        assert!(fresh != old && world.http(fresh).line.starts_with(method));
        world.send(fresh, &response("200 OK", "", ""));
        assert_eq!(world.http_to_head(client).status(), 200);
        assert_eq!((world.total(Count::Retries), world.held(0)), (1, (0, 0)));
    }
}

#[test]
fn a_stale_connection_is_never_replaced_by_another_used_one_and_never_twice() {
    let (mut world, client, first) = asked_world(http_plan(1), 10);
    let other = world.connect(0);
    world.send(client, &get("/a"));
    world.send(other, &get("/b"));
    let second = *world.open_servers().last().expect("it has its own");
    for server in [first, second] {
        drop(world.take(server));
        world.send(server, &ok("x"));
    }
    drop((world.take(client), world.take(other)));
    world.send(client, &get("/c"));
    drop(world.take(second));
    world.end(second);
    assert_eq!(world.take(first), b"", "the other idle connection may be as old");
    let fresh = *world.open_servers().last().expect("a third is opened");
    assert_eq!(world.http(fresh).line, "GET /c HTTP/1.1");
    world.end(fresh);
    world.expect_status(client, 502);
    assert_eq!((world.failures(Failure::UpstreamLost), world.total(Count::Retries)), (1, 1));
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_request_that_may_do_something_is_never_sent_twice() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: other\r\nContent-Length: 0\r\n";
    let chunked = [request("PUT", "/a", "Transfer-Encoding: chunked\r\n"), chunk("x"), b"0\r\n\r\n".to_vec()];
    let requests = [
        request("POST", "/a", "Content-Length: 0\r\n"),
        request("PATCH", "/a", ""),
        request("POST", "/a", upgrade),
        request("OTHER", "/a", ""),
        post("/a", b"body"),
        chunked.concat(),
    ];
    for (seed, bytes) in requests.iter().enumerate() {
        let (mut world, client, _) = asked_world(http_plan(1), 20 + seed as u64);
        lose_stale(&mut world, client, bytes);
        world.expect_status(client, 502);
        assert_eq!(world.servers().len(), 1, "{:?}", String::from_utf8_lossy(bytes));
        assert_eq!((world.failures(Failure::UpstreamLost), world.total(Count::Retries)), (1, 0));
        world.exchange(client, "/b");
    }
}

#[test]
fn a_fresh_connection_that_is_lost_is_no_stale_one() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: other\r\n";
    for (seed, bytes) in [get("/a"), request("GET", "/a", upgrade)].iter().enumerate() {
        let mut world = http_world(http_plan(1), 30 + seed as u64);
        let client = world.connect(0);
        lose_stale(&mut world, client, bytes);
        world.expect_status(client, 502);
        assert_eq!((world.servers().len(), world.total(Count::Retries)), (1, 0));
    }
}

#[test]
fn a_server_that_has_begun_to_answer_is_not_asked_again() {
    let (mut world, client, server) = asked_world(http_plan(1), 40);
    world.send(client, &get("/a"));
    world.send(server, b"HTTP/1.1 200");
    world.end(server);
    world.expect_status(client, 502);
    assert_eq!(world.reason(server), Some(CloseReason::PeerClosedMidFrame));
    world.exchange(client, "/b");
}

#[test]
fn a_server_that_is_lost_in_the_middle_of_its_answer_cuts_its_client() {
    let heads = ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"];
    for (seed, head) in heads.iter().enumerate() {
        for cut in [false, true] {
            let (mut world, client, server) = asked_world(http_plan(1), 50 + seed as u64);
            world.send(client, &get("/a"));
            world.send(server, format!("HTTP/1.1 200 OK\r\n{head}\r\n4\r\nsome\r\n").as_bytes());
            if cut {
                world.cut(server)
            } else {
                world.end(server)
            }
            assert!(!world.take(client).ends_with(b"0\r\n\r\n"), "nothing says that it was all");
            assert_eq!((world.is_shut(client), world.held(0)), (true, (0, 0)));
            world.end(client);
            assert_eq!(world.reason(client), Some(CloseReason::PartnerGone));
        }
    }
}

#[test]
fn an_answer_without_length_that_is_cut_is_not_taken_for_whole() {
    let (mut world, client, server) = asked_world(http_plan(1), 60);
    world.send(client, &get("/a"));
    world.send(server, b"HTTP/1.1 200 OK\r\n\r\nsome");
    world.cut(server);
    let bytes = world.take(client);
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&bytes));
    assert!(world.is_shut(client), "its connection ends");
    world.end(client);
    assert_eq!(world.reason(client), Some(CloseReason::PartnerGone));
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let mut world = http_world(http_plan(2), 70);
    world.set_reach(server_address(1), REFUSES);
    let client = world.connect(0);
    for _ in 0..4 {
        world.send(client, &post("/a", b"body"));
        let server = world.server();
        assert_eq!(world.http(server).text(), "body", "it is whole at the second one");
        world.send(server, &ok("x"));
        assert_eq!(world.http(client).text(), "x");
    }
    world.set_reach(server_address(2), REFUSES);
    let server = world.server();
    world.cut(server);
    world.send(client, &get("/b"));
    assert!(!world.expect_status(client, 503).closes(), "none is left to try");
    world.send(client, &get("/c"));
    world.expect_status(client, 503);
    assert_eq!(world.failures(Failure::NoEndpoint), 2);
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_request_is_tried_as_often_as_its_cluster_says_and_the_next_ones_not_at_all() {
    for attempts in 1..=4_u32 {
        let mut plan = http_plan(6);
        plan.clusters[0].connect_attempts = attempts;
        let mut world = http_world(plan, 71);
        (1..=6).for_each(|server| world.set_reach(server_address(server), REFUSES));
        let client = world.connect(0);
        let tried = |world: &World| world.total(Count::UpstreamConnectFailures);
        world.send(client, &get("/a"));
        world.expect_status(client, 502);
        assert_eq!(tried(&world), u64::from(attempts));
        for _ in 0..9 {
            world.send(client, &get("/b"));
            drop(world.http(client));
        }
        assert_eq!(tried(&world), 6, "each endpoint is left alone after its connect failed");
        world.send(client, &get("/c"));
        world.expect_status(client, 503);
        assert_eq!(world.held(0), (0, 0));
    }
}

#[test]
fn by_hash_the_requests_of_a_source_go_to_the_same_server() {
    let mut plan = http_plan(5);
    plan.clusters[0].balance = Balance::Hash;
    let mut world = http_world(plan, 72);
    let mut serve = |source: [u8; 4]| {
        let client = world.connect_from(0, source);
        world.send(client, &get("/a"));
        let mut servers = world.open_servers().into_iter();
        let server = servers.find(|server| !world.take(*server).is_empty()).expect("one is asked");
        let at = world.address_of(server);
        world.send(server, &ok("x"));
        drop(world.take(client));
        at
    };
    let first: Vec<_> = (0..20).map(|n| serve([10, 0, 0, n])).collect();
    let again: Vec<_> = (0..20).map(|n| serve([10, 0, 0, n])).collect();
    assert_eq!(first, again);
    assert!(first.iter().any(|at| *at != first[0]), "and different sources to different ones");
}

#[test]
fn without_room_at_the_endpoint_a_request_is_refused_as_overflow() {
    let mut plan = http_plan(1);
    plan.clusters[0].requests_max = 1;
    let (mut world, client, server) = asked_world(plan, 71);
    let other = world.connect(0);
    world.send(client, &get("/a"));
    world.send(other, &get("/b"));
    world.expect_status(other, 503);
    drop(world.take(server));
    world.send(server, &ok("x"));
    assert_eq!(world.http(client).text(), "x");
    world.exchange(other, "/c");
}

#[test]
fn what_is_no_response_is_answered_502_and_its_connection_closed() {
    let bad: [&[u8]; 8] = [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ];
    for (seed, bytes) in bad.iter().enumerate() {
        let (mut world, client, server) = asked_world(http_plan(1), 80 + seed as u64);
        world.send(client, &get("/a"));
        drop(world.take(server));
        world.send(server, bytes);
        world.expect_status(client, 502);
        assert_eq!(world.reason(server), Some(CloseReason::ResponseMalformed), "{seed}");
        assert_eq!((world.failures(Failure::BadResponse), world.held(0)), (1, (0, 0)));
        world.exchange(client, "/b");
    }
}

#[test]
fn a_head_that_is_not_whole_in_time_is_answered_408() {
    let mut world = http_world(http_plan(1), 90);
    let client = world.connect(0);
    world.advance(60_000);
    for byte in "GET / HT".bytes() {
        world.send(client, &[byte]);
        world.advance(1_200);
    }
    assert!(!world.is_closed(client), "ten seconds are not over");
    world.advance(1_000);
    assert!(world.expect_status(client, 408).closes());
    assert_eq!((world.failures(Failure::HeadTimeout), world.servers().len()), (1, 0));
    world.advance(3_000);
    assert_eq!(world.reason(client), Some(CloseReason::HttpHeadTimeout));
}

#[test]
fn an_answer_that_does_not_come_in_time_is_504_and_its_server_is_told() {
    let mut plan = http_plan(1);
    plan.listeners[0].default_route.as_mut().expect("it has one").timeout_ms = 2_000;
    let (mut world, client, server) = asked_world(plan, 91);
    world.send(client, &get("/a"));
    world.advance(1_900);
    assert!(!world.is_closed(server));
    world.advance(300);
    assert!(!world.expect_status(client, 504).closes(), "the client's connection goes on");
    assert_eq!((world.reason(server), world.held(0)), (Some(CloseReason::RequestCancelled), (0, 0)));
    world.exchange(client, "/b");
}

#[test]
fn the_time_for_an_answer_runs_from_the_end_of_the_request() {
    let mut plan = http_plan(1);
    plan.listeners[0].default_route.as_mut().expect("it has one").timeout_ms = 2_000;
    // So that deadlines are looked at in between.
    (plan.timeouts.http_body_ms, plan.limits.http_body_rate_min) = (1_000, 1);
    let (mut world, client, server) = asked_world(plan, 92);
    world.send(client, &request("POST", "/a", "Content-Length: 50\r\n"));
    for _ in 0..10 {
        world.send(client, b"hello");
        world.advance(500);
    }
    assert_eq!(world.http(server).body.len(), 50);
    world.advance(1_000);
    world.send(server, &ok("x"));
    assert_eq!(world.http(client).text(), "x");
}

#[test]
fn a_server_that_takes_no_more_of_a_body_is_given_up_in_the_time_for_an_answer() {
    let mut plan = http_plan(1);
    plan.listeners[0].default_route.as_mut().expect("it has one").timeout_ms = 2_000;
    let (mut world, client, server) = asked_world(plan, 93);
    world.set_window(server, Some(100));
    world.send(client, &post("/a", &[7; 1_000_000]));
    world.advance(2_300);
    assert!(world.expect_status(client, 504).closes());
    assert_eq!((world.reason(server), world.held(0)), (Some(CloseReason::RequestCancelled), (0, 0)));
}

#[test]
fn idle_connections_end_after_their_time_or_what_the_server_said() {
    let (mut world, client, server) = asked_world(http_plan(1), 94);
    world.advance(59_000);
    assert!(!world.is_closed(server));
    world.advance(2_000);
    assert_eq!(world.reason(server), Some(CloseReason::UpstreamIdle));
    world.send(client, &get("/a"));
    let server = world.server();
    drop(world.take(server));
    world.send(server, &response("200 OK", "Keep-Alive: timeout=5\r\n", ""));
    world.advance(3_500);
    assert!(!world.is_closed(server));
    world.advance(1_500);
    assert_eq!(world.reason(server), Some(CloseReason::UpstreamIdle), "before the server closes it");
    world.advance(900_000);
    assert_eq!(world.reason(client), Some(CloseReason::IdleTimeout));
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    for (seed, bytes) in [get("/a"), request("POST", "/a", "Content-Length: 9\r\n")].iter().enumerate() {
        let (mut world, client, server) = asked_world(http_plan(1), 95 + seed as u64);
        world.send(client, bytes);
        world.cut(client);
        assert_eq!(world.reason(server), Some(CloseReason::RequestCancelled));
        assert_eq!(world.held(0), (0, 0));
    }
    let (mut world, client, server) = asked_world(http_plan(1), 97);
    world.send(client, &get("/a"));
    world.send(server, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
    world.cut(client);
    assert_eq!((world.reason(server), world.held(0)), (Some(CloseReason::RequestCancelled), (0, 0)));
}

#[test]
fn a_client_that_leaves_while_its_server_is_connected_leaves_nothing() {
    let mut world = http_world(http_plan(1), 98);
    world.set_reach(server_address(1), Reach::Silent);
    let client = world.connect(0);
    world.send(client, &get("/a"));
    assert_eq!(world.held(0).0, 1);
    world.cut(client);
    assert_eq!(world.held(0), (0, 0));
    world.let_connect(server_address(1));
    world.advance(1_000);
    assert!(world.open_servers().is_empty());
}

#[test]
fn a_client_that_leaves_before_its_upgrade_is_agreed_on_leaves_no_tunnel() {
    let (mut world, client, server) = asked_world(http_plan(1), 99);
    world.send(client, &request("GET", "/a", "Connection: Upgrade\r\nUpgrade: other\r\n"));
    // Both are on their way at once: in some worlds the server's connection is a tunnel when it hears of it.
    world.send_later(
        server,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
    );
    world.cut(client);
    world.advance(100);
    assert!(world.is_closed(server), "nobody is behind it");
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_client_that_has_said_everything_still_gets_its_answers() {
    let (mut world, client, server) = asked_world(http_plan(1), 100);
    world.send(client, &[get("/a"), get("/b")].concat());
    world.end(client);
    drop(world.take(server));
    world.send(server, &ok("A"));
    assert_eq!(world.http(server).line, "GET /b HTTP/1.1", "what was sent before the end is asked");
    world.send(server, &ok("B"));
    let answers = world.https(client);
    assert_eq!((answers[0].text(), answers[1].text()), ("A", "B"));
    assert_eq!((world.reason(client), world.is_closed(server)), (Some(CloseReason::PeerClosed), false));
}

#[test]
fn half_a_request_and_the_end_are_no_request() {
    let halves = [b"GET / HT".to_vec(), post("/a", b"body")[..58].to_vec()];
    for (seed, half) in halves.iter().enumerate() {
        let (mut world, client, server) = asked_world(http_plan(1), 101 + seed as u64);
        world.send(client, half);
        world.end(client);
        assert_eq!(world.reason(client), Some(CloseReason::PeerClosedMidFrame));
        assert_eq!((world.take(client).len(), world.held(0)), (0, (0, 0)));
        assert_eq!(world.is_closed(server), seed == 1, "it has got half a request");
    }
}

#[test]
fn a_drain_ends_idle_clients_over_its_first_half_and_busy_ones_with_their_answers() {
    let mut world = http_world(http_plan(1), 110);
    let idle: Vec<_> = (0..40).map(|_| world.connect(0)).collect();
    idle.iter().for_each(|client| world.exchange(*client, "/x"));
    let server = world.server();
    let busy = world.connect(0);
    world.send(busy, &get("/a"));
    drop(world.take(server));
    world.drain(30_000);
    let gone = |world: &World| idle.iter().filter(|client| world.is_closed(**client)).count();
    world.advance(7_500);
    assert!((5..=35).contains(&gone(&world)), "{} of 40 after a quarter", gone(&world));
    let late = idle.iter().copied().find(|client| !world.is_closed(*client)).expect("some are left");
    world.send(late, &get("/late"));
    let second = *world.open_servers().last().expect("it has one");
    drop(world.take(second));
    world.send(second, &ok("late"));
    let answer = world.http(late);
    assert!(answer.text() == "late" && answer.closes(), "{answer:?}");
    world.advance(7_600);
    assert_eq!(gone(&world), 40);
    assert!(!world.is_closed(busy));
    world.send(server, &ok("A"));
    assert!(world.http(busy).closes() && world.is_closed(busy));
    assert!(world.open_servers().is_empty(), "servers' connections end with it");
}

/// Who has heard nothing of an answer by the deadline of a drain hears why there will be none, and then the end.
fn drained_at_its_deadline(seed: u64, asked: &[u8]) -> (World, Peer, Peer) {
    let mut plan = http_plan(1);
    plan.http.error_reason = true;
    let (mut world, client, server) = asked_world(plan, seed);
    world.send(client, asked);
    drop(world.take(server));
    world.drain(5_000);
    world.advance(4_900);
    assert_eq!(world.take(client), b"", "there is time left");
    world.advance(300);
    assert_eq!(world.failures(Failure::DrainDeadline), 1);
    assert_eq!((world.reason(server), world.held(0)), (Some(CloseReason::RequestCancelled), (0, 0)));
    (world, client, server)
}

fn expect_drained(answer: &crate::http::Http) {
    assert_eq!((answer.status(), answer.closes()), (503, true), "{answer:?}");
    assert_eq!(answer.field("x-bowline-reason"), Some("drain_deadline"));
}

#[test]
fn a_drain_ends_at_its_deadline_whatever_is_on_the_way() {
    let (mut world, client, _) = drained_at_its_deadline(111, &get("/a"));
    expect_drained(&world.http(client));
    assert_eq!(world.reason(client), Some(CloseReason::DrainDeadline));
    assert!(world.is_shut(client) && !world.is_reset(client));
    let (mut world, client, _) = drained_at_its_deadline(113, &request("HEAD", "/a", ""));
    expect_drained(&world.http_to_head(client));
    assert_eq!(world.reason(client), Some(CloseReason::DrainDeadline));
}

#[test]
fn a_client_that_still_sends_at_the_deadline_of_a_drain_can_read_its_answer() {
    let half = &post("/a", &[7; 1_000])[..500];
    for (seed, asked) in [half, &[get("/a"), get("/behind")].concat()].into_iter().enumerate() {
        let (mut world, client, _) = drained_at_its_deadline(114 + seed as u64, asked);
        world.send(client, b"what comes after it was answered");
        assert_eq!((world.unread(client), world.is_closed(client)), (0, false), "a close would make a reset");
        expect_drained(&world.http(client));
        assert!(world.is_shut(client) && !world.is_reset(client));
        world.advance(400);
        assert_eq!(world.reason(client), Some(CloseReason::DrainDeadline));
        assert_eq!((world.is_reset(client), world.held(0)), (false, (0, 0)));
    }
}

#[test]
fn an_answer_that_has_begun_at_the_deadline_of_a_drain_is_cut_and_no_other_is_put_behind_it() {
    let (mut world, client, server) = asked_world(http_plan(1), 116);
    world.send(client, &get("/a"));
    drop(world.take(server));
    let half = response("200 OK", "", "some of it");
    world.send(server, &half[..half.len() - 3]);
    world.drain(5_000);
    world.advance(5_200);
    let said = world.take(client);
    assert!(said.ends_with(b"some of"), "{}", String::from_utf8_lossy(&said));
    assert_eq!((world.failures(Failure::DrainDeadline), world.is_reset(client)), (0, false));
    assert_eq!(world.reason(client), Some(CloseReason::DrainDeadline));
}

#[test]
fn both_sides_are_frozen_and_thawed_between_requests() {
    let (mut world, client, _) = asked_world(http_plan(1), 112);
    world.set_freezes(1_024);
    for number in 0..20 {
        world.exchange(client, &format!("/{number}"));
    }
    assert!(world.stats().freezes > world.stats().not_yet, "{:?}", world.stats());
    assert_eq!((world.is_closed(client), world.held(0)), (false, (0, 0)));
    world.set_freezes(0);
    world.advance(61_000);
    assert!(world.open_servers().is_empty(), "their deadlines went with them");
    world.advance(900_000);
    assert_eq!(world.reason(client), Some(CloseReason::IdleTimeout));
}

#[test]
fn nothing_is_left_of_requests_that_were_refused() {
    let mut world = http_world(http_plan(1), 113);
    for request in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n", b"\0"] {
        let client = world.connect(0);
        world.send(client, request);
        assert!(world.expect_status(client, 400).closes());
        world.send(client, &get("/behind"));
        world.end(client);
        assert_eq!(world.reason(client), Some(CloseReason::HttpMalformed));
    }
    assert_eq!((world.servers().len(), world.held(0)), (0, (0, 0)));
}

#[test]
fn bytes_that_were_there_before_a_request_left_answer_nobody() {
    for seed in 0..40 {
        let (mut world, client, old) = asked_world(http_plan(1), 600 + seed / 2);
        // Both are there when the server's connection runs next: which comes first in that turn must not matter.
        world.send_later(client, &post("/a", b""));
        let stale = [response("408 Request Timeout", "Connection: close\r\n", ""), ok("of another")];
        world.send(old, &stale[seed as usize % 2]);
        let fresh = world.server();
        assert!(fresh != old, "the old one ended");
        assert_eq!(world.http(fresh).line, "POST /a HTTP/1.1", "nothing of it had left");
        world.send(fresh, &ok("its own"));
        assert_eq!(world.http(client).text(), "its own");
        assert_eq!(world.reason(old), Some(CloseReason::ResponseMalformed));
        assert_eq!(world.held(0), (0, 0));
    }
}

#[test]
fn a_client_that_waits_longer_for_its_answer_than_it_may_be_idle_gets_it() {
    let mut plan = http_plan(1);
    plan.timeouts.idle_ms = 1_000;
    let (mut world, client, server) = asked_world(plan, 61);
    world.send(client, &get("/slow"));
    drop(world.http(server));
    world.advance(20_000);
    world.send(server, &ok("late"));
    assert_eq!(world.http(client).text(), "late");
    world.advance(2_000);
    assert_eq!(world.reason(client), Some(CloseReason::IdleTimeout));
}
