//! HTTP/1.1 between programs of others: wrk as a client, which asks as fast as it can, and Node as a server, which answers in
//! every framing and closes connections that rest.

use std::process::Command;

use bowline_tests::gateway::root;
use bowline_tests::node::NodeServer;
use bowline_tests::programs::program;
use bowline_tests::{Gateway, HttpAction, HttpServer, HttpStream, each_mode, eventually};
use serde_json::Value;

use crate::deep_or;

#[test]
fn wrk_gets_nothing_but_right_answers() {
    let Some(wrk) = program("wrk") else { return };
    each_mode(|mode| {
        let server = HttpServer::start(|request| match request.path() {
            "/echo" => HttpAction::Echo,
            path => HttpAction::Reply(path.as_bytes().to_vec()),
        });
        let gateway = Gateway::http(mode, server.address(), &[]);
        for how in ["get", "post", "pipeline"] {
            let mut command = Command::new(&wrk);
            command.args(["--threads", "2", "--connections", deep_or("200", "20")]);
            // A late answer is no wrong one: this machine may be busy.
            command.args(["--duration", deep_or("5s", "1s"), "--timeout", "30s", "--script"]);
            command.arg(root().join("tests/interop/wrk/check.lua"));
            command.arg(format!("http://{}", gateway.address())).args(["--", how]);
            let output = command.output().expect("it can be started");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().find(|line| line.starts_with('{')).expect(&text);
            eprintln!("{how}: {line}");
            let said: Value = serde_json::from_str(line).expect("JSON");
            assert!(said["answers"].as_u64() > Some(100), "{how}: {text}");
            assert_eq!(
                (said["wrong"].as_u64(), said["errors"].as_u64()),
                (Some(0), Some(0)),
                "{how}: {text}"
            );
        }
        assert_eq!(gateway.metric("request_failures_total", ""), 0.0);
        eventually("nothing of its clients is left", || {
            gateway.connections().iter().all(|one| one["direction"] != "downstream")
        });
    });
}

/// Long enough for no connection to be closed by itself.
const PATIENT_MS: u64 = 60_000;

#[test]
fn nodes_connections_are_kept_and_its_answers_come_in_every_framing() {
    each_mode(|mode| {
        let Some(server) = NodeServer::start(PATIENT_MS) else { return };
        let gateway = Gateway::http(mode, server.address(), &[]);
        let mut client = HttpStream::connect(gateway.address());
        for number in 0..100 {
            let answer = client.get(&format!("/{number}"));
            assert_eq!((answer.status(), answer.body), (200, format!("/{number}").into_bytes()));
        }
        let seen = server.seen();
        // Every worker may have opened one of its own.
        assert!(seen.connections <= 4 && seen.requests == 100, "{seen:?}");
        let whole: String = (0..500).map(|at| format!("chunk {at}\n")).collect();
        let answer = client.get("/chunks/500");
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.body, whole.as_bytes());
        assert_eq!(client.get("/trailers").body, b"body");
        assert_eq!((client.get("/empty").status(), client.get("/close/a").status()), (204, 200));
        client.send("HEAD /chunks/5 HTTP/1.1\r\nHost: test\r\n\r\n");
        let answer = client.receive(true).expect("it holds").expect("an answer comes");
        assert_eq!(answer.status(), 200);
        let mut old = HttpStream::connect(gateway.address());
        old.send("GET /chunks/500 HTTP/1.0\r\n\r\n");
        let answer = old.answer();
        assert_eq!((answer.field("transfer-encoding"), &answer.body[..]), (None, whole.as_bytes()));
        assert_eq!(client.get("/last").body, b"/last", "the first connection goes on");
    });
}

#[test]
fn a_body_that_waits_for_100_and_one_in_chunks_come_back_from_node_whole() {
    each_mode(|mode| {
        let Some(server) = NodeServer::start(PATIENT_MS) else { return };
        let gateway = Gateway::http(mode, server.address(), &[]);
        let mut client = HttpStream::connect(gateway.address());
        let body: Vec<u8> =
            (0..2_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let post = |fields: &str| format!("POST /echo HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n");
        client.send(post(&format!("Content-Length: {}\r\nExpect: 100-continue", body.len())));
        assert_eq!(client.answer().status(), 100, "before a byte of the body was sent");
        let exchange = |client: &mut HttpStream, bytes: &[u8]| {
            let mut sending = client.socket().try_clone().expect("descriptors are left");
            std::thread::scope(|scope| {
                scope.spawn(move || std::io::Write::write_all(&mut sending, bytes).expect("it is taken"));
                let answer = client.answer();
                assert!(answer.status() == 200 && answer.body == body, "{} bytes", answer.body.len());
            });
        };
        exchange(&mut client, &body);
        // Node answers while it is still asked, and such an answer says that the connection ends behind it.
        let mut client = HttpStream::connect(gateway.address());
        client.send(post("Transfer-Encoding: chunked"));
        exchange(&mut client, &bowline_tests::http::chunked(&body));
        let seen = server.seen();
        assert_eq!((seen.requests, seen.expects), (2, 0), "100 is between the client and the gateway");
    });
}

#[test]
fn connections_that_node_closes_while_they_rest_cost_no_request() {
    each_mode(|mode| {
        let Some(server) = NodeServer::start(PATIENT_MS) else { return };
        let gateway = Gateway::http(mode, server.address(), &[]);
        let mut client = HttpStream::connect(gateway.address());
        let mut connections = 0;
        for round in 0..100 {
            assert_eq!(client.get(&format!("/{round}")).status(), 200, "round {round}");
            // The next request is on its way while the end of its connection is.
            connections = server.close_idle().connections;
        }
        assert!(connections > 50, "{connections} connections: they were not closed");
        assert_eq!(gateway.metric("request_failures_total", ""), 0.0);
    });
}

#[test]
fn a_connection_rests_for_less_than_node_says_that_it_keeps_it() {
    each_mode(|mode| {
        // It announces this as two seconds, so the gateway is to be done with it after one.
        let Some(server) = NodeServer::start(2_000) else { return };
        let gateway = Gateway::http(mode, server.address(), &[]);
        let mut client = HttpStream::connect(gateway.address());
        assert_eq!(client.get("/a").status(), 200);
        eventually("the gateway closes it, not its server", || gateway.closes("upstream_idle") == 1.0);
        assert_eq!(client.get("/b").status(), 200);
        assert_eq!(server.seen().connections, 2);
    });
}
