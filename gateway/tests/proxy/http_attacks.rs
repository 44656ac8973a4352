//! The gateway's side of what is known to have hit proxies of HTTP/1: one test for each row of `docs/attacks.md`, named after
//! it, that is not the codec's alone. What another test of this folder proves as well is named in that document.

use bowline_gateway::error::{CloseReason, Failure};
use bowline_gateway::metrics::Count;

use crate::http::{asked_world, chunk, find, get, http_plan, http_world, ok, request, response};
use crate::world::World;

/// A client sends `bytes`, gets `status` and the end, and nothing of it reaches a server.
fn expect_refused(world: &mut World, bytes: &[u8], status: u16) {
    let before = world.servers().len();
    let client = world.connect(0);
    world.send(client, bytes);
    let answer = world.expect_status(client, status);
    assert!(answer.closes() && world.is_shut(client), "{answer:?}");
    assert!(!world.is_closed(client), "its answer is not lost to a reset");
    world.send(client, &get("/smuggled"));
    world.end(client);
    assert!(world.is_closed(client) && world.take(client).is_empty());
    assert_eq!(world.servers().len(), before, "{:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn row_1_to_8_broken_framing_behind_a_good_request_ends_the_connection_behind_its_answer() {
    let bad = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    ];
    for (seed, bytes) in bad.iter().enumerate() {
        let (mut world, client, server) = asked_world(http_plan(1), seed as u64);
        world.send(client, &[&get("/a")[..], bytes.as_bytes(), &get("/smuggled")].concat());
        assert_eq!(world.http(server).line, "GET /a HTTP/1.1");
        world.send(server, &ok("x"));
        let answers = world.https(client);
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status()).collect();
        assert_eq!((statuses, world.take(server).len()), (vec![200, 400], 0));
        assert!(!world.is_closed(server), "the server's connection has nothing to do with it");
    }
}

#[test]
fn row_7_a_chunk_that_goes_wrong_after_the_head_was_sent_ends_both_connections() {
    let (mut world, client, server) = asked_world(http_plan(1), 10);
    world.send(client, &request("POST", "/a", "Transfer-Encoding: chunked\r\n"));
    world.send(client, &chunk("right"));
    world.send(client, b"5x\r\nwrong\r\n");
    assert!(world.expect_status(client, 400).closes());
    assert_eq!(world.reason(server), Some(CloseReason::RequestCancelled));
    let bytes = world.take(server);
    assert!(find(&bytes, b"wrong").is_none() && !bytes.ends_with(b"0\r\n\r\n"), "it is no whole request");
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn row_9_chunk_extensions_are_not_forwarded() {
    let (mut world, client, server) = asked_world(http_plan(1), 11);
    let head = request("POST", "/a", "Transfer-Encoding: chunked\r\n");
    world.send(client, &[&head[..], b"5;a=\"b;c\"\r\nhello\r\n0;d\r\n\r\n"].concat());
    assert_eq!(world.http(server).text(), "hello");
}

#[test]
fn row_16_bytes_behind_a_request_that_was_answered_early_are_no_request() {
    let (mut world, client, server) = asked_world(http_plan(1), 12);
    // It is answered by the gateway, with nothing of its body read.
    world.send(client, b"CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 100\r\n\r\n");
    assert!(world.http(client).closes());
    world.send(client, &get("/smuggled"));
    world.end(client);
    assert!(world.take(client).is_empty() && world.take(server).is_empty() && world.is_closed(client));
}

#[test]
fn row_18_an_expectation_is_answered_once_or_refused() {
    let mut world = http_world(http_plan(1), 13);
    let other = request("POST", "/a", "Content-Length: 4\r\nExpect: something\r\n");
    expect_refused(&mut world, &other, 417);
    let client = world.connect(0);
    world.send(client, &request("GET", "/a", "Expect: 100-continue\r\n"));
    assert_eq!(world.take(client), b"", "there is no body to wait for");
    let server = world.server();
    assert_eq!(world.http(server).field("expect"), None);
}

#[test]
fn row_19_a_body_is_forwarded_with_its_length_whatever_the_method() {
    let (mut world, client, server) = asked_world(http_plan(1), 14);
    for method in ["GET", "DELETE", "OPTIONS", "PATCH"] {
        let head = request(method, "/a", "Content-Length: 5\r\n");
        world.send(client, &[&head[..], b"hello"].concat());
        let asked = world.http(server);
        assert_eq!((asked.text(), asked.field("content-length")), ("hello", Some("5")));
        world.send(server, &ok("x"));
        assert_eq!(world.http(client).text(), "x");
    }
}

#[test]
fn row_20_a_flood_of_empty_lines_is_no_request_and_dribble_has_an_end() {
    let mut world = http_world(http_plan(1), 15);
    expect_refused(&mut world, &b"\r\n".repeat(1_000), 400);
    let client = world.connect(0);
    world.send(client, &[b"\r\n", &get("/a")[..]].concat());
    let server = world.server();
    assert_eq!(world.http(server).line, "GET /a HTTP/1.1", "one is tolerated");
    let client = world.connect(0);
    world.send(client, b"GET /a HTTP/1.1\r\nHost: a\r\n");
    for number in 0..9 {
        world.send(client, format!("X-{number}: y\r\n").as_bytes());
        world.advance(1_000);
    }
    world.advance(1_200);
    world.expect_status(client, 408);
}

#[test]
fn row_21_only_a_101_that_agrees_with_the_upgrade_makes_a_tunnel() {
    let asked = "Connection: Upgrade\r\nUpgrade: other\r\n";
    let refusals = [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: another\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ];
    for (seed, answer) in refusals.iter().enumerate() {
        let (mut world, client, server) = asked_world(http_plan(1), 20 + seed as u64);
        world.send(client, &request("GET", "/a", asked));
        world.send(server, answer.as_bytes());
        world.expect_status(client, 502);
        assert_eq!(world.reason(server), Some(CloseReason::ResponseMalformed));
    }
    let (mut world, client, server) = asked_world(http_plan(1), 22);
    world.send(client, &[request("GET", "/a", asked), get("/b")].concat());
    drop(world.take(server));
    world.send(server, &response("200 OK", "Connection: Upgrade\r\nUpgrade: other\r\n", "x"));
    let answer = world.http(client);
    assert!(answer.text() == "x" && answer.closes() && world.is_shut(client), "{answer:?}");
    assert!(!world.is_closed(client), "its answer is not lost to a reset");
    world.send(client, &get("/c"));
    world.end(client);
    assert!(world.is_closed(client) && world.take(client).is_empty());
    assert_eq!((world.take(server).len(), world.total(Count::Tunnels)), (0, 0), "nothing behind it is read");
}

#[test]
fn row_21_a_client_that_waits_for_the_answer_to_its_upgrade_goes_on_after_a_refusal() {
    let (mut world, client, server) = asked_world(http_plan(1), 45);
    world.send(client, &request("GET", "/a", "Connection: Upgrade\r\nUpgrade: other\r\n"));
    drop(world.take(server));
    world.send(server, &ok("x"));
    assert!(!world.http(client).closes());
    world.exchange(client, "/b");
}

#[test]
fn row_21_nothing_is_read_behind_an_upgrade_that_the_gateway_refuses_itself() {
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    for (together, seed) in [(true, 46), (false, 47)] {
        let mut plan = http_plan(1);
        plan.listeners[0].default_route = None;
        let mut world = http_world(plan, seed);
        // Without its key it is no handshake; and another upgrade has no route.
        for (fields, status) in [(websocket, 426), ("Connection: Upgrade\r\nUpgrade: other\r\n", 404)] {
            let client = world.connect(0);
            let head = request("GET", "/a", fields);
            if together {
                world.send(client, &[head, get("/smuggled")].concat());
                let answer = world.expect_status(client, status);
                assert!(answer.closes() && world.is_shut(client), "{answer:?}");
            } else {
                world.send(client, &head);
                assert!(!world.expect_status(client, status).closes());
                world.send(client, &get("/b"));
                world.expect_status(client, 404);
            }
        }
    }
}

#[test]
fn row_22_connect_is_refused_and_what_comes_behind_it_reaches_nobody() {
    for (seed, behind) in
        [(23, &b"\x16\x03\x01"[..]), (24, b"DELETE /inside HTTP/1.1\r\nHost: a.example\r\n\r\n"), (25, b"")]
    {
        let (mut world, client, server) = asked_world(http_plan(1), seed);
        let connect = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
        world.send(client, &[&connect[..], behind].concat());
        let answers = world.https(client);
        assert_eq!(
            (answers.len(), answers[0].status(), answers[0].field("connection")),
            (1, 405, Some("close"))
        );
        world.send(client, b"DELETE /later HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!((world.take(server).len(), world.failures(Failure::MethodRefused)), (0, 1));
    }
}

#[test]
fn row_23_an_upgrade_to_h2c_is_taken_for_a_plain_request() {
    let (mut world, client, server) = asked_world(http_plan(1), 24);
    let fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n";
    world.send(client, &request("GET", "/a", fields));
    let asked = world.http(server);
    for name in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(asked.field(name), None, "{asked:?}");
    }
    world.send(server, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    world.expect_status(client, 502);
}

#[test]
fn row_24_half_a_handshake_of_websocket_is_refused() {
    let whole = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for without in ["Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"] {
        let (mut world, client, server) = asked_world(http_plan(1), 25);
        world.send(client, &request("GET", "/a", &whole.replace(without, "")));
        let answer = world.expect_status(client, 426);
        assert_eq!(answer.field("sec-websocket-version"), Some("13"));
        assert_eq!((world.take(server).len(), world.failures(Failure::UpgradeRefused)), (0, 1));
    }
    let (mut world, client, server) = asked_world(http_plan(1), 26);
    let with_body = format!("{whole}Content-Length: 4\r\n");
    world.send(client, &[&request("GET", "/a", &with_body)[..], b"body"].concat());
    assert_eq!((world.http(client).status(), world.take(server).len()), (426, 0));
}

#[test]
fn row_25_host_and_authorization_cannot_be_taken_for_fields_of_the_connection() {
    let (mut world, client, server) = asked_world(http_plan(1), 27);
    let fields = "Connection: close, Host, Authorization, Content-Length\r\nAuthorization: Basic x\r\nContent-Length: 2\r\n";
    world.send(client, &[&request("POST", "/a", fields)[..], b"ab"].concat());
    let asked = world.http(server);
    assert_eq!((asked.field("host"), asked.text()), (Some("a.example"), "ab"));
    assert_eq!(asked.field("authorization"), Some("Basic x"), "{asked:?}");
}

#[test]
fn row_27_the_server_gets_the_form_of_the_path_that_was_judged() {
    let (mut world, client, server) = asked_world(http_plan(1), 28);
    for (sent, normal) in [
        ("/a/./b/../c", "/a/c"),
        ("/%61", "/a"),
        ("/a/%2e%2e/b", "/b"),
        ("/a?b=../c%2f", "/a?b=../c%2f"),
        ("http://a.example/a", "/a"),
    ] {
        world.send(client, &get(sent));
        assert_eq!(world.http(server).line, format!("GET {normal} HTTP/1.1"), "{sent}");
        world.send(server, &ok("x"));
        assert_eq!(world.http(client).text(), "x");
    }
}

#[test]
fn row_28_names_that_servers_take_for_others_are_not_forwarded() {
    let (mut world, client, server) = asked_world(http_plan(1), 29);
    world.send(client, &request("GET", "/a", "X_Forwarded_For: 1.2.3.4\r\nContent_Length: 5\r\n"));
    let asked = world.http(server);
    assert_eq!((asked.field("x_forwarded_for"), asked.field("content_length")), (None, None), "{asked:?}");
}

#[test]
fn row_29_and_32_trailers_cannot_bring_what_heads_are_judged_by() {
    let (mut world, client, server) = asked_world(http_plan(1), 30);
    let head = request("POST", "/a", "Transfer-Encoding: chunked\r\n");
    let trailers = b"0\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 7\r\nHost: b\r\nAuthorization: x\r\nX-Sum: 1\r\n\r\n";
    world.send(client, &[&head[..], &chunk("hello"), trailers].concat());
    let asked = world.http(server);
    assert_eq!(asked.trailers, [("X-Sum".to_owned(), "1".to_owned())]);
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let (mut world, client, server) = asked_world(http_plan(1), 31);
    world.send(client, &[&head[..], &chunk("hello"), b"0\r\n", many.as_bytes(), b"\r\n"].concat());
    let answer = world.http(client);
    assert!(matches!(answer.status(), 400 | 431) && answer.closes(), "{answer:?}");
    assert!(world.take(server).is_empty(), "they came with the rest, so nothing was sent on");
}

#[test]
fn row_30_a_field_of_a_server_that_splits_responses_is_passed_to_nobody() {
    for (seed, bad) in ["a\rb", "a\0b", "a\nSet-Cookie: b"].iter().enumerate() {
        let (mut world, client, server) = asked_world(http_plan(1), 32 + seed as u64);
        world.send(client, &get("/a"));
        world.send(server, format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: {bad}\r\n\r\n").as_bytes());
        let answer = world.expect_status(client, 502);
        assert_eq!((answer.field("x-a"), answer.field("set-cookie")), (None, None));
        assert!(world.is_closed(server));
    }
}

#[test]
fn row_31_what_follows_a_response_that_has_no_body_reaches_no_other_client() {
    let answers = [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nleftover"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nleftover"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\nleftover"),
    ];
    for (seed, (method, answer)) in answers.iter().enumerate() {
        let (mut world, client, server) = asked_world(http_plan(1), 40 + seed as u64);
        world.send(client, &request(method, "/a", ""));
        world.send(server, answer.as_bytes());
        assert!(find(&world.take(client), b"leftover").is_none());
        assert_eq!(world.reason(server), Some(CloseReason::ResponseMalformed));
        let other = world.connect(0);
        world.exchange(other, "/b");
    }
}

#[test]
fn row_33_heads_beyond_the_limits_are_refused_before_they_are_whole() {
    let mut world = http_world(http_plan(1), 50);
    let line = format!("GET /{}", "a".repeat(9_000));
    expect_refused(&mut world, line.as_bytes(), 414);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}", "a".repeat(40_000));
    expect_refused(&mut world, large.as_bytes(), 431);
    let many: String = (0..300).map(|number| format!("X-{number}: y\r\n")).collect();
    expect_refused(&mut world, &request("GET", "/", &many), 431);
    assert_eq!(world.closes(CloseReason::HttpTooLarge), 3);
}

#[test]
fn row_34_a_body_that_dribbles_is_refused_however_it_dribbles() {
    let mut plan = http_plan(1);
    plan.timeouts.http_body_ms = 1_000;
    let mut world = http_world(plan, 51);
    let client = world.connect(0);
    world.send(client, &request("POST", "/a", "Transfer-Encoding: chunked\r\n"));
    for _ in 0..4 {
        world.send(client, &chunk("x"));
        world.advance(500);
    }
    world.expect_status(client, 408);
    assert_eq!(world.closes(CloseReason::RequestCancelled), 1);
}

#[test]
fn row_37_a_path_cannot_write_lines_of_its_own_into_the_log() {
    let mut plan = http_plan(1);
    plan.log.access = true;
    let mut world = http_world(plan, 52);
    let client = world.connect(0);
    // Whatever a line is made of stands escaped in the normal form of the path already.
    world.send(client, &get("/a%0d%0alevel=error"));
    let server = world.server();
    assert_eq!(world.http(server).line, "GET /a%0D%0Alevel=error HTTP/1.1");
    world.send(server, &ok("x"));
    assert_eq!(world.http(client).status(), 200);
}
