//! Requests of HTTP and their answers, one connection at a time: what is kept, what is used again, in which order clients are
//! answered, and what becomes of messages that one side or the other words in its own way.

use bowline_gateway::config::http::{ActionPlan, DelayPlan, HttpRoutePlan, WeightedCluster};
use bowline_gateway::error::CloseReason;
use bowline_gateway::metrics::Count;

use crate::http::{asked_world, chunk, find, get, http_plan, http_world, ok, post, request, response};
use crate::world::{Peer, World};

#[test]
fn both_connections_are_used_again_for_request_after_request() {
    let (mut world, client, _) = asked_world(http_plan(1), 1);
    for number in 0..20 {
        world.exchange(client, &format!("/{number}"));
    }
    assert_eq!((world.servers().len(), world.held(0)), (1, (0, 0)));
    assert_eq!((world.total(Count::Requests), world.total(Count::Responses)), (21, 21));
}

#[test]
fn the_connection_that_was_used_last_is_used_first() {
    let mut world = http_world(http_plan(1), 2);
    let clients: Vec<_> = (0..3).map(|_| world.connect(0)).collect();
    clients.iter().for_each(|client| world.send(*client, &get("/a")));
    let servers = world.open_servers();
    assert_eq!(servers.len(), 3, "each has its own");
    for at in [0, 2, 1] {
        world.send(servers[at], &ok("x"));
    }
    servers.iter().for_each(|server| drop(world.take(*server)));
    for (client, at) in [(0, 1), (1, 2), (2, 0)] {
        world.send(clients[client], &get("/b"));
        assert_eq!(world.https(servers[at]).len(), 1, "client {client} gets connection {at}");
    }
    assert_eq!(world.servers().len(), 3);
}

#[test]
fn a_connection_whose_server_says_close_is_not_used_again() {
    let (mut world, client, server) = asked_world(http_plan(1), 3);
    world.send(client, &get("/a"));
    world.send(server, &response("200 OK", "Connection: close\r\n", "bye"));
    assert!(!world.http(client).closes(), "the client's own goes on");
    assert_eq!(world.reason(server), Some(CloseReason::HttpFinished));
    world.exchange(client, "/b");
}

#[test]
fn bytes_behind_a_response_reach_nobody_and_end_their_connection() {
    let (mut world, client, server) = asked_world(http_plan(1), 4);
    world.send(client, &get("/a"));
    world.send(server, &[ok("right"), ok("smuggled")].concat());
    assert_eq!(world.http(client).text(), "right");
    assert_eq!(world.reason(server), Some(CloseReason::ResponseMalformed));
    world.exchange(client, "/b");
    assert_eq!(world.servers().len(), 2);
}

#[test]
fn bytes_that_nobody_asked_for_end_an_idle_connection() {
    let (mut world, client, server) = asked_world(http_plan(1), 5);
    world.send(server, &response("408 Request Timeout", "Connection: close\r\n", ""));
    assert_eq!(world.reason(server), Some(CloseReason::ResponseMalformed));
    assert_eq!(world.take(client), b"");
    world.exchange(client, "/b");
}

#[test]
fn a_response_without_a_length_ends_with_its_connection_and_goes_on_in_chunks() {
    let (mut world, client, server) = asked_world(http_plan(1), 6);
    world.send(client, &get("/a"));
    world.send(server, b"HTTP/1.1 200 OK\r\n\r\none ");
    world.send(server, b"two");
    world.end(server);
    let answer = world.http(client);
    assert_eq!((answer.field("transfer-encoding"), answer.text()), (Some("chunked"), "one two"));
    assert!(world.is_closed(server) && !world.is_closed(client));
    world.exchange(client, "/b");
}

#[test]
fn pipelined_requests_are_answered_in_order_and_read_one_by_one() {
    let (mut world, client, server) = asked_world(http_plan(1), 7);
    world.send(client, &[get("/a"), post("/b", b"body"), get("/c")].concat());
    assert_eq!(world.http(server).line, "GET /a HTTP/1.1");
    assert!(!world.is_reading(client) && world.unread(client) > 0, "the second waits for the first");
    world.send(server, &ok("A"));
    let second = world.http(server);
    assert_eq!((second.line.as_str(), second.text()), ("POST /b HTTP/1.1", "body"));
    world.send(server, &ok("B"));
    assert_eq!(world.http(server).line, "GET /c HTTP/1.1");
    world.send(server, &ok("C"));
    let bodies: Vec<_> = world.https(client).iter().map(|answer| answer.text().to_owned()).collect();
    assert_eq!(bodies, ["A", "B", "C"]);
    assert_eq!((world.servers().len(), world.is_reading(client)), (1, true));
}

#[test]
fn a_flood_of_pipelined_requests_holds_what_one_holds() {
    let (mut world, client, server) = asked_world(http_plan(1), 8);
    let flood: Vec<_> = (0..20_000).flat_map(|_| get("/flood")).collect();
    world.send(client, &flood);
    assert_eq!((world.in_flight(client), world.https(server).len()), (1, 1));
    assert!(world.unread(client) > flood.len() / 2);
    assert!(
        world.pool().stats().charged_bytes < 512 << 10,
        "{} bytes are held",
        world.pool().stats().charged_bytes
    );
}

#[test]
fn nothing_that_belongs_to_one_connection_is_passed_on_to_the_other() {
    let (mut world, client, server) = asked_world(http_plan(1), 9);
    let fields = "Connection: keep-alive, X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=9\r\nTE: gzip\r\n\
                  Proxy-Connection: keep-alive\r\nX-Other: 2\r\n";
    world.send(client, &request("GET", "/a", fields));
    let asked = world.http(server);
    for name in ["x-own", "keep-alive", "te", "proxy-connection", "connection"] {
        assert_eq!(asked.field(name), None, "{asked:?}");
    }
    assert_eq!((asked.field("x-other"), asked.field("host")), (Some("2"), Some("a.example")));
    world.send(
        server,
        &response("200 OK", "Connection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n", ""),
    );
    let answer = world.http(client);
    assert_eq!((answer.field("x-mine"), answer.field("keep-alive")), (None, None), "{answer:?}");
}

#[test]
fn trailers_are_passed_on_both_ways() {
    let (mut world, client, server) = asked_world(http_plan(1), 10);
    let head = request("POST", "/a", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n");
    world.send(client, &[&head[..], &chunk("hello"), b"0\r\nX-Sum: 5\r\n\r\n"].concat());
    let asked = world.http(server);
    assert_eq!((asked.text(), asked.trailers.len()), ("hello", 1), "{asked:?}");
    assert_eq!(asked.trailers[0], ("X-Sum".to_owned(), "5".to_owned()));
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    world.send(server, &[&head[..], &chunk("bye"), b"0\r\nX-Sum: 3\r\n\r\n"].concat());
    let answer = world.http(client);
    assert_eq!((answer.text(), answer.trailers.as_slice()), ("bye", &[("X-Sum".into(), "3".into())][..]));
    world.exchange(client, "/b");
}

#[test]
fn an_answer_to_head_has_the_length_of_get_and_no_body() {
    let (mut world, client, server) = asked_world(http_plan(1), 11);
    world.send(client, &request("HEAD", "/a", ""));
    world.send(server, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(world.http_to_head(client).field("content-length"), Some("1000"));
    world.send(client, &request("HEAD", "/a", ""));
    world.send(server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(world.http_to_head(client).status(), 200);
    drop(world.take(server));
    world.exchange(client, "/b");
    assert_eq!(world.servers().len(), 1);
}

#[test]
fn no_content_and_not_modified_have_no_body() {
    let (mut world, client, server) = asked_world(http_plan(1), 12);
    for (status, length) in [("204 No Content", None), ("304 Not Modified", Some("77"))] {
        world.send(client, &get("/a"));
        drop(world.take(server));
        let declared = length.map_or(String::new(), |length| format!("Content-Length: {length}\r\n"));
        world.send(server, format!("HTTP/1.1 {status}\r\n{declared}\r\n").as_bytes());
        let answer = world.http(client);
        assert_eq!((answer.field("content-length"), answer.body.len()), (length, 0));
    }
    world.exchange(client, "/b");
    assert_eq!(world.servers().len(), 1);
}

#[test]
fn a_client_of_http_1_0_is_answered_without_chunks_and_closed_unless_it_asks_to_be_kept() {
    let (mut world, kept, server) = asked_world(http_plan(1), 13);
    world.send(kept, b"GET /a HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(world.http(server).line, "GET /a HTTP/1.1", "the server's connection has its own version");
    world.send(server, &ok("x"));
    assert_eq!(world.http(kept).field("connection"), Some("keep-alive"));
    world.exchange(kept, "/b");
    world.send(kept, b"GET /c HTTP/1.0\r\nHost: a.example\r\n\r\n");
    drop(world.take(server));
    world.send(server, &ok("x"));
    assert!(world.http(kept).closes() && world.reason(kept) == Some(CloseReason::HttpFinished));
}

#[test]
fn to_a_client_of_http_1_0_a_body_without_length_ends_with_the_connection() {
    let (mut world, client, server) = asked_world(http_plan(1), 14);
    world.send(client, b"GET /a HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n");
    drop(world.take(server));
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    world.send(server, &[&head[..], &chunk("one "), &chunk("two"), b"0\r\n\r\n"].concat());
    let answer = world.http(client);
    assert_eq!((answer.field("transfer-encoding"), answer.text()), (None, "one two"));
    assert!(answer.closes() && world.is_closed(client) && !world.is_closed(server));
}

#[test]
fn a_client_that_says_close_is_answered_with_it() {
    let (mut world, client, server) = asked_world(http_plan(1), 15);
    world.send(client, &request("GET", "/a", "Connection: close\r\n"));
    assert!(!world.http(server).closes(), "the server's connection goes on");
    world.send(server, &ok("x"));
    assert!(world.http(client).closes());
    assert_eq!((world.reason(client), world.is_closed(server)), (Some(CloseReason::HttpFinished), false));
}

#[test]
fn a_client_that_waits_for_100_gets_one_and_the_server_is_not_asked() {
    let (mut world, client, server) = asked_world(http_plan(1), 16);
    let head = request("POST", "/a", "Content-Length: 4\r\nExpect: 100-continue\r\n");
    world.send(client, &head);
    assert_eq!(world.take(client), b"HTTP/1.1 100 Continue\r\n\r\n");
    world.send(client, b"body");
    let asked = world.http(server);
    assert_eq!((asked.text(), asked.field("expect")), ("body", None));
    // A server that says it all the same is not heard twice.
    world.send(server, &[b"HTTP/1.1 100 Continue\r\n\r\n", &ok("x")[..]].concat());
    assert_eq!(world.http(client).text(), "x");
}

#[test]
fn a_client_that_does_not_wait_for_100_gets_none() {
    let (mut world, client, server) = asked_world(http_plan(1), 17);
    let fields = "Content-Length: 4\r\nExpect: 100-continue\r\n";
    world.send(client, &[&request("POST", "/a", fields)[..], b"body"].concat());
    assert_eq!(world.http(server).text(), "body");
    world.send(client, b"");
    assert_eq!(world.take(client), b"");
    world.send(server, &ok("x"));
    assert_eq!(world.http(client).text(), "x");
    world.send(
        client,
        b"POST /a HTTP/1.0\r\nHost: a.example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(world.take(client), b"", "1.0 knows no interim answers");
}

#[test]
fn interim_answers_are_passed_on_and_too_many_are_not() {
    let (mut world, client, server) = asked_world(http_plan(1), 18);
    let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    world.send(client, &get("/a"));
    world.send(server, &[&hint[..], &ok("x")].concat());
    let answers = world.https(client);
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status()).collect();
    assert_eq!((statuses, answers[0].field("link")), (vec![103, 200], Some("</a.css>")));
    world.send(client, b"GET /a HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n");
    world.send(server, &[&hint[..], &ok("x")].concat());
    assert_eq!(world.http(client).status(), 200, "1.0 knows no interim answers");
    world.send(client, &get("/a"));
    world.send(server, &hint.repeat(17));
    assert_eq!(world.https(client).last().map(|answer| answer.status()), Some(502));
    assert_eq!(world.reason(server), Some(CloseReason::ResponseMalformed));
}

#[test]
fn an_answer_that_comes_before_its_request_has_ended_is_passed_on_and_ends_both_connections() {
    let (mut world, client, server) = asked_world(http_plan(1), 19);
    world.send(client, &request("POST", "/a", "Content-Length: 1000\r\n"));
    world.send(client, b"some");
    drop(world.take(server));
    world.send(server, &response("413 Content Too Large", "", "no"));
    let answer = world.http(client);
    assert!(answer.status() == 413 && answer.closes(), "{answer:?}");
    assert_eq!(world.reason(server), Some(CloseReason::HttpFinished), "what it got is no whole request");
    assert!(world.is_shut(client) && !world.is_closed(client), "its answer is not lost to a reset");
    world.send(client, b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(world.unread(client), 0, "it is thrown away");
    world.end(client);
    assert_eq!(world.reason(client), Some(CloseReason::HttpFinished));
    assert_eq!((world.servers().len(), world.held(0), world.total(Count::Requests)), (1, (0, 0), 2));
}

#[test]
fn whoever_goes_on_sending_behind_an_early_answer_is_cut() {
    for bytes in [0, 2 << 20] {
        let (mut world, client, server) = asked_world(http_plan(1), 20);
        world.send(client, &request("POST", "/a", "Content-Length: 100000000\r\n"));
        drop(world.take(server));
        world.send(server, &response("413 Content Too Large", "", "no"));
        world.send(client, &vec![7; bytes]);
        assert_eq!(world.is_closed(client), bytes > 0);
        world.advance(2_200);
        assert_eq!(world.reason(client), Some(CloseReason::HttpFinished));
    }
}

#[test]
fn a_websocket_becomes_a_tunnel_once_the_server_has_agreed() {
    let (mut world, client, server) = asked_world(http_plan(1), 21);
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    world.send(client, &[&request("GET", "/chat", fields)[..], b"early"].concat());
    let asked = world.http(server);
    assert_eq!((asked.field("upgrade"), asked.field("connection")), (Some("websocket"), Some("upgrade")));
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello";
    world.send(server, agreed.as_bytes());
    assert_eq!(world.take(server), b"early", "what came before is not lost");
    let bytes = world.take(client);
    let end = find(&bytes, b"\r\n\r\n").expect("a head") + 4;
    assert!(bytes.starts_with(b"HTTP/1.1 101 ") && &bytes[end..] == b"hello");
    world.send(client, b"GET /not HTTP/1.1\r\n\r\n");
    assert_eq!(world.take(server), b"GET /not HTTP/1.1\r\n\r\n", "nobody looks into it");
    world.end(client);
    assert!(world.is_shut(server) && !world.is_closed(server), "this way has ended, the other has not");
    world.send(server, b"bye");
    world.end(server);
    assert_eq!((world.take(client), world.is_closed(client)), (b"bye".to_vec(), true));
    world.advance(100);
    assert_eq!((world.held(0), world.total(Count::Tunnels)), ((0, 0), 1));
}

#[test]
fn the_end_of_a_client_that_came_before_its_upgrade_reaches_the_server_behind_it() {
    let (mut world, client, server) = asked_world(http_plan(1), 22);
    world.send(client, &request("GET", "/a", "Connection: Upgrade\r\nUpgrade: other\r\n"));
    world.end(client);
    drop(world.take(server));
    world.send(server, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nx");
    assert!(world.is_shut(server), "it learns that nothing will come");
    world.end(server);
    assert!(world.take(client).ends_with(b"\r\n\r\nx") && world.is_closed(client) && world.is_closed(server));
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn what_became_a_tunnel_ends_in_the_time_of_any_tunnel_whatever_it_carries() {
    let mut plan = http_plan(1);
    plan.timeouts.tunnel_ms_max = Some(5_000);
    let mut world = http_world(plan, 24);
    let client = world.connect(0);
    world.send(client, &request("GET", "/a", "Connection: Upgrade\r\nUpgrade: other\r\n"));
    let server = world.server();
    drop(world.take(server));
    world.send(server, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    for _ in 0..4 {
        world.advance(1_000);
        world.send(client, b"busy");
        assert_eq!(world.take(server), b"busy");
    }
    assert_eq!(world.reason(client), None);
    world.advance(1_200);
    assert_eq!(world.reason(client), Some(CloseReason::TunnelExpired));
    assert!(world.is_closed(server));
}

#[test]
fn a_server_that_refuses_an_upgrade_answers_as_to_any_request() {
    let (mut world, client, server) = asked_world(http_plan(1), 23);
    world.send(client, &request("GET", "/a", "Connection: Upgrade\r\nUpgrade: other\r\n"));
    drop(world.take(server));
    world.send(server, &ok("no"));
    assert_eq!(world.http(client).text(), "no");
    world.exchange(client, "/b");
    assert_eq!(world.servers().len(), 1);
}

#[test]
fn a_client_that_waits_for_100_gets_it_behind_a_filter_that_delays_its_request() {
    let mut plan = http_plan(1);
    let mut route = HttpRoutePlan::to(ActionPlan::Forward(vec![WeightedCluster { cluster: 0, weight: 1 }]));
    route.filters.delay = Some(DelayPlan { ms: 500, percent: 100 });
    plan.http.routes = vec![route];
    let mut world = http_world(plan, 40);
    let client = world.connect(0);
    world.send(client, &request("POST", "/a", "Content-Length: 4\r\nExpect: 100-continue\r\n"));
    assert_eq!(world.take(client), b"", "it is held back");
    world.advance(600);
    assert_eq!(world.take(client), b"HTTP/1.1 100 Continue\r\n\r\n");
    world.send(client, b"body");
    let server = world.server();
    assert_eq!(world.http(server).text(), "body");
    world.send(server, &ok("x"));
    assert_eq!(world.http(client).text(), "x");
}

#[test]
fn what_a_filter_delays_leaves_its_server_all_of_its_time() {
    let mut plan = http_plan(1);
    let mut route = HttpRoutePlan::to(ActionPlan::Forward(vec![WeightedCluster { cluster: 0, weight: 1 }]));
    route.filters.delay = Some(DelayPlan { ms: 5_000, percent: 100 });
    route.timeout_ms = 2_000;
    plan.http.routes = vec![route];
    let mut world = http_world(plan, 42);
    let client = world.connect(0);
    world.send(client, &get("/a"));
    world.advance(5_100);
    let server = world.server();
    drop(world.http(server));
    world.advance(1_500);
    world.send(server, &ok("x"));
    assert_eq!(world.http(client).text(), "x");
    world.send(client, &get("/b"));
    world.advance(7_200);
    world.expect_status(client, 504);
}

/// A client of a route that answers early, and takes so much of that a second.
fn early_answer_taken_by(seed: u64, bytes_per_second: usize) -> (World, Peer, usize) {
    let mut plan = http_plan(1);
    let (body, content_type) = ("x".repeat(10_000), "text/plain".to_owned());
    plan.http.routes = vec![HttpRoutePlan::to(ActionPlan::Respond { status: 200, body, content_type })];
    let mut world = http_world(plan, seed);
    let client = world.connect(0);
    world.set_window(client, Some(0));
    world.send(client, &request("POST", "/a", "Content-Length: 1000000\r\n"));
    let mut taken = 0;
    for _ in 0..30 {
        world.set_window(client, Some(bytes_per_second));
        taken += world.take(client).len();
        world.advance(1_000);
    }
    (world, client, taken)
}

#[test]
fn a_slow_client_gets_all_of_an_answer_that_came_before_its_request_had_ended() {
    let (world, client, taken) = early_answer_taken_by(43, 500);
    assert!(taken > 10_000 && world.is_closed(client) && !world.is_reset(client), "{taken} bytes");
    let (world, client, _) = early_answer_taken_by(44, 0);
    assert!(world.is_reset(client), "whoever takes nothing is not waited for");
}

#[test]
fn requests_that_the_route_answers_are_not_answered_faster_than_their_client_reads() {
    let mut plan = http_plan(1);
    let (body, content_type) = ("x".repeat(10_000), "text/plain".to_owned());
    plan.http.routes = vec![HttpRoutePlan::to(ActionPlan::Respond { status: 200, body, content_type })];
    let mut world = http_world(plan, 41);
    let client = world.connect(0);
    world.set_window(client, Some(0));
    world.send(client, &get("/a").repeat(500));
    assert!(world.queued(client) < 100_000, "{} bytes are queued", world.queued(client));
    world.set_window(client, None);
    assert_eq!(world.https(client).len(), 500, "and every one is answered in the end");
}

#[test]
fn the_embedded_server_answers_head_without_a_body_whatever_came_with_it() {
    let mut world = http_world(http_plan(1), 90);
    let echo = world.connect(world.gateway.echo_listener());
    let declared = [&request("HEAD", "/a", "Content-Length: 5\r\n")[..], b"hello"].concat();
    let head = request("HEAD", "/b", "Transfer-Encoding: chunked\r\n");
    let chunked = [&head[..], &chunk("hello"), b"0\r\n\r\n"].concat();
    for (bytes, field) in [(declared, "content-length"), (chunked, "transfer-encoding")] {
        world.send(echo, &bytes);
        let answer = world.http_to_head(echo);
        assert_eq!(answer.status(), 200);
        assert!(answer.field(field).is_some(), "GET would be answered in this framing: {answer:?}");
        world.send(echo, &post("/c", b"hello"));
        assert_eq!(world.http(echo).text(), "hello", "the connection goes on at the next request");
    }
}
