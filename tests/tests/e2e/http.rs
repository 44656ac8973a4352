//! HTTP/1.1 over real sockets: connections that are kept, bodies of any size both ways, upgrades, slow and lost peers, and a
//! drain that loses no request. With the harness's own client and server, and with curl where it is installed.

use std::io::Write;
use std::net::Shutdown;
use std::process::Command;

use bowline_tests::http::{chunked, response};
use bowline_tests::sockets::End;
use bowline_tests::{
    Gateway, HttpAction, HttpServer, HttpStream, Mode, each_mode, each_mode_marked, eventually,
};
use nix::sys::signal::Signal;

use crate::deep_or;

/// Bytes that differ by place, so that a lost or doubled piece is noticed.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A server whose answer is the path of the request.
fn paths() -> HttpServer {
    HttpServer::start(|request| HttpAction::Reply(request.path().as_bytes().to_vec()))
}

#[test]
fn connections_are_kept_and_used_again() {
    each_mode_marked(|mode| {
        let server = paths();
        let gateway = Gateway::http(mode, server.address(), &[]);
        let mut client = HttpStream::connect(gateway.address());
        for number in 0..100 {
            let path = format!("/{number}");
            assert_eq!(client.get(&path).body, path.as_bytes());
        }
        // Every worker may have opened one of its own.
        assert!(server.seen().accepted <= 4, "{:?}", server.seen());
        assert_eq!(gateway.metric("requests_total", ""), 100.0);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    each_mode(|mode| {
        let server = paths();
        let gateway = Gateway::http(mode, server.address(), &[]);
        let mut client = HttpStream::connect(gateway.address());
        let request = |number| format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n");
        client.send((0..500).map(request).collect::<String>());
        for number in 0..500 {
            assert_eq!(client.answer().body, format!("/{number}").as_bytes());
        }
    });
}

#[test]
fn large_bodies_pass_whole_both_ways_in_bounded_memory() {
    each_mode_marked(|mode| {
        let server = HttpServer::start(|_| HttpAction::Echo);
        let gateway = Gateway::http(mode, server.address(), &[]);
        let before = gateway.anonymous_bytes();
        let body = pattern(deep_or(256 << 20, 24 << 20));
        let head = "POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
        for request in [post("/a", &body), [head.as_bytes(), &chunked(&body)].concat()] {
            let mut client = HttpStream::connect(gateway.address());
            let mut sending = client.socket().try_clone().expect("descriptors are left");
            std::thread::scope(|scope| {
                scope.spawn(move || sending.write_all(&request).expect("it is taken"));
                assert!(client.answer().body == body, "every byte is in its place");
            });
            assert_eq!(client.get("/next").status(), 200, "the connection goes on");
        }
        let grown = gateway.anonymous_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes for bodies that passed");
    });
}

#[test]
fn a_websocket_is_a_tunnel_in_which_each_way_ends_by_itself() {
    each_mode_marked(|mode| {
        let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello";
        let server = HttpServer::start(|_| HttpAction::RawThenMirror(agreed.as_bytes().to_vec()));
        let gateway = Gateway::http(mode, server.address(), &[]);
        let mut client = HttpStream::connect(gateway.address());
        let asked = "GET /chat HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly";
        client.send(asked);
        let answer = client.answer();
        assert_eq!((answer.status(), answer.field("upgrade")), (101, Some("websocket")));
        assert_eq!(client.exactly(10).expect("it is open"), b"helloearly");
        let said = pattern(4 << 20);
        let mut sending = client.socket().try_clone().expect("descriptors are left");
        std::thread::scope(|scope| {
            let bytes = &said;
            scope.spawn(move || {
                sending.write_all(bytes).expect("it is taken");
                sending.shutdown(Shutdown::Write).expect("it is open");
            });
            let (heard, end) = client.to_end();
            assert!(heard == said && end == End::Closed, "{} bytes, {end:?}", heard.len());
        });
        drop(client);
        eventually("nothing is left", || gateway.connections().is_empty());
    });
}

#[test]
fn a_head_that_dribbles_is_answered_408() {
    each_mode(|mode| {
        let configuration = bowline_tests::gateway::Configuration::new("timeouts:\n  http_head: 1s\n");
        let server = paths();
        let gateway = Gateway::http(mode, server.address(), &["--config", configuration.path()]);
        let mut client = HttpStream::connect(gateway.address());
        client.send("GET / HTTP/1.1\r\nHost: te");
        let answer = client.answer();
        assert_eq!((answer.status(), answer.field("connection")), (408, Some("close")));
        client.to_end();
        drop(client);
        eventually("it is counted", || gateway.closes("http_head_timeout") == 1.0);
        assert_eq!(server.seen().accepted, 0);
    });
}

#[test]
fn a_server_that_is_lost_in_the_middle_of_its_answer_leaves_no_answer_that_looks_whole() {
    each_mode(|mode| {
        let server = HttpServer::start(|request| match request.path() {
            "/length" => {
                HttpAction::RawThenReset(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec())
            }
            "/chunks" => HttpAction::RawThenReset(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec(),
            ),
            "/before" => HttpAction::Close,
            path => HttpAction::Reply(path.as_bytes().to_vec()),
        });
        let gateway = Gateway::http(mode, server.address(), &[]);
        for path in ["/length", "/chunks"] {
            let mut client = HttpStream::connect(gateway.address());
            client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            // The whole answer may be gone with the reset, but it never looks whole.
            match client.receive(false) {
                Ok(None) | Err(_) => {}
                Ok(Some(answer)) => assert_eq!(answer.status(), 502, "{answer:?}"),
            }
        }
        let mut client = HttpStream::connect(gateway.address());
        client.send("POST /before HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.answer().status(), 502);
        assert_eq!(client.get("/after").body, b"/after", "the client's connection goes on");
    });
}

#[test]
fn a_cut_answer_comes_as_far_as_it_came_behind_the_whole_ones_and_ends_in_order() {
    each_mode(|mode| {
        let server = HttpServer::start(|request| match request.path() {
            "/length" => {
                HttpAction::RawThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome of it".to_vec())
            }
            "/chunks" => HttpAction::RawThenClose(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nsome of it\r\n".to_vec(),
            ),
            path => HttpAction::Reply(path.as_bytes().to_vec()),
        });
        let gateway = Gateway::http(mode, server.address(), &[]);
        for path in ["/length", "/chunks"].repeat(10) {
            let mut client = HttpStream::connect(gateway.address());
            // What comes behind it reaches nobody, and turns the end into no reset.
            let asked =
                ["/whole", path, "/behind"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            client.send(asked.concat());
            assert_eq!(client.answer().body, b"/whole");
            let (bytes, end) = client.to_end();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(text.trim_end().ends_with("some of it"), "{path}: {text:?}");
            assert_eq!(end, End::Closed, "{path}");
        }
        assert!(!server.seen().lines.iter().any(|line| line.contains("/behind")));
    });
}

#[test]
fn stale_connections_cost_no_request_that_only_reads() {
    each_mode(|mode| {
        let server = HttpServer::start(|request| match request.path() {
            // The server announces nothing and closes.
            "/close" => HttpAction::RawThenReset(response(b"bye")),
            path => HttpAction::Reply(path.as_bytes().to_vec()),
        });
        let gateway = Gateway::http(mode, server.address(), &[]);
        let mut client = HttpStream::connect(gateway.address());
        for round in 0..50 {
            let answer = client.get("/close");
            assert!([200, 502].contains(&answer.status()), "{answer:?}");
            assert_eq!(client.get("/next").body, b"/next", "round {round}");
        }
    });
}

#[test]
fn a_drain_loses_no_request() {
    each_mode_marked(|mode| {
        let server = HttpServer::start(|request| match request.path() {
            "/hold" => HttpAction::Hold(b"held".to_vec()),
            path => HttpAction::Reply(path.as_bytes().to_vec()),
        });
        let flags = ["--drain-delay", "1s", "--drain-deadline", "20s"];
        let mut gateway = Gateway::http(mode, server.address(), &flags);
        let mut held = HttpStream::connect(gateway.address());
        held.send("GET /hold HTTP/1.1\r\nHost: test\r\n\r\n");
        server.wait("it is in flight", |seen| seen.held == 1);
        let mut idle: Vec<_> = (0..20).map(|_| HttpStream::connect(gateway.address())).collect();
        idle.iter_mut().for_each(|client| assert_eq!(client.get("/a").status(), 200));
        gateway.signal(Signal::SIGTERM);
        // Each asks until it is told that its connection ends, or finds that it has: then what it asked was not processed.
        for (number, client) in idle.iter_mut().enumerate() {
            let mut asked = 0;
            loop {
                asked += 1;
                let request = format!("GET /{number}/{asked} HTTP/1.1\r\nHost: test\r\n\r\n");
                let mut socket = client.socket();
                let sent = socket.write_all(request.as_bytes());
                let Ok(Some(answer)) = sent.and_then(|()| client.receive(false)) else {
                    let line = format!("GET /{number}/{asked} HTTP/1.1");
                    assert!(!server.seen().lines.contains(&line), "{line} was processed and not answered");
                    break;
                };
                assert_eq!(answer.status(), 200);
                if answer.field("connection") == Some("close") {
                    assert!(client.receive(false).expect("it ends in order").is_none());
                    break;
                }
            }
        }
        assert!(gateway.runs(), "a request is in flight");
        server.release();
        let answer = held.answer();
        assert_eq!((answer.body.as_slice(), answer.field("connection")), (&b"held"[..], Some("close")));
        assert_eq!(gateway.wait().code(), Some(0));
        server.wait("its connections end too", |seen| seen.open == 0);
    });
}

#[test]
fn who_has_nothing_of_an_answer_at_the_deadline_of_a_drain_is_told_so() {
    each_mode(|mode| {
        let server = HttpServer::start(|_| HttpAction::Silent);
        let flags = ["--drain-delay", "0s", "--drain-deadline", "1s"];
        let mut gateway = Gateway::http(mode, server.address(), &flags);
        let ask = |bytes: &str| {
            let mut client = HttpStream::connect(gateway.address());
            client.send(bytes);
            client
        };
        let head = "POST /b HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf";
        let clients = [ask("GET /a HTTP/1.1\r\nHost: test\r\n\r\n"), ask(head)];
        server.wait("one is in flight", |seen| seen.lines.len() == 1);
        eventually("the other too", || gateway.connections().len() == 4);
        gateway.signal(Signal::SIGTERM);
        for mut client in clients {
            let answer = client.answer();
            assert_eq!((answer.status(), answer.field("connection")), (503, Some("close")));
            assert_eq!(client.to_end(), (Vec::new(), End::Closed), "not a reset");
        }
        assert_eq!(gateway.wait().code(), Some(0));
    });
}

#[test]
fn an_idle_connection_costs_at_most_384_bytes_in_raw_mode() {
    const IDLE_BYTES_MAX: u64 = 384;
    let connections = deep_or(9_000, 3_000);
    let server = paths();
    // What the same work leaves behind in a process that holds next to no connections.
    let bare = Gateway::http(Mode::Raw, server.address(), &["--max-connections", "64"]);
    let mut few: Vec<_> = (0..32).map(|_| HttpStream::connect(bare.address())).collect();
    for round in 0..connections {
        assert_eq!(few[round % 32].get("/x").status(), 200);
    }
    drop(few);
    eventually("they are closed", || bare.closes("peer_closed") >= 32.0);
    let gateway = Gateway::http(Mode::Raw, server.address(), &[]);
    let mut clients: Vec<_> = (0..connections).map(|_| HttpStream::connect(gateway.address())).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/x").status(), 200));
    let extra = gateway.anonymous_bytes().saturating_sub(bare.anonymous_bytes());
    let each = extra / connections as u64;
    eprintln!("{each} bytes for each of {connections} idle connections");
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes for each of {connections} idle connections");
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/y").body, b"/y"));
}

/// What curl says, or nothing where there is none.
fn curl(arguments: &[&str]) -> Option<(String, String)> {
    let command =
        Command::new("curl").args(["--silent", "--show-error", "--max-time", "30"]).args(arguments).output();
    let skip = |_| {
        eprintln!("SKIP curl: it is not installed");
        assert!(std::env::var_os("BOWLINE_CI").is_none(), "a skip is a failure in CI");
    };
    let output = command.map_err(skip).ok()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", text(output.stderr));
    Some((text(output.stdout), text(output.stderr)))
}

#[test]
fn curl_is_served() {
    each_mode(|mode| {
        let server = HttpServer::start(|request| match request.line.split(' ').next() {
            Some("POST" | "PUT") => HttpAction::Echo,
            _ => HttpAction::Reply(request.path().as_bytes().to_vec()),
        });
        let gateway = Gateway::http(mode, server.address(), &[]);
        let url = |path: &str| format!("http://{}{path}", gateway.address());
        let Some((said, _)) = curl(&[&url("/a"), &url("/b")]) else { return };
        assert_eq!(said, "/a/b");
        // It waits for 100 with a body of this size, and sends this one in chunks.
        let body = "0123456789".repeat(200_000);
        let file = bowline_tests::gateway::Configuration::new(&body);
        let data = format!("@{}", file.path());
        for fields in [&["-H", "Expect: 100-continue"][..], &["-H", "Transfer-Encoding: chunked"], &["-0"]] {
            let to = url("/post");
            let arguments = [fields, &["--data-binary", &data, &to]].concat();
            let (said, _) = curl(&arguments).expect("it is installed");
            assert!(said == body, "{fields:?}: {} bytes", said.len());
        }
        let (said, _) = curl(&["--head", &url("/a")]).expect("it is installed");
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.contains("Content-Length: 2\r\n"), "{said}");
        let (said, _) = curl(&["--http1.0", &url("/c"), &url("/d")]).expect("it is installed");
        assert_eq!(said, "/c/d");
    });
}
