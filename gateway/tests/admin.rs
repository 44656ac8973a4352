//! The admin interface over real loopback sockets: what it answers, what it refuses, and that nobody can hold it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use bowline_gateway::admin::{
    Admin, AdminState, AdminThread, ConnectionSource, ConnectionView, Direction, Readiness, ReadinessCell,
};
use bowline_gateway::metrics::{Count, Counters, Metrics};

/// Connections whose age is ten times their id.
struct Fixed(u64);

impl ConnectionSource for Fixed {
    fn for_each(&self, each: &mut dyn FnMut(ConnectionView)) {
        for id in 0..self.0 {
            each(ConnectionView {
                id,
                peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
                direction: Direction::Downstream,
                protocol: "bolt",
                listener: "front".into(),
                state: "idle",
                age_ms: id * 10,
                idle_ms: 0,
                bytes_in: 0,
                bytes_out: 0,
                memory_bytes: 0,
                requests: 0,
                in_flight: 0,
                reactor: 0,
            });
        }
    }
}

struct Running {
    admin: AdminThread,
    readiness: Arc<ReadinessCell>,
    counters: Arc<Counters>,
}

fn start() -> Running {
    let readiness = Arc::new(ReadinessCell::default());
    let counters = Counters::new(1);
    let state = AdminState {
        readiness: Arc::clone(&readiness),
        metrics: Metrics::new(Arc::clone(&counters), Vec::new()),
        connections: Arc::new(Fixed(300)),
    };
    let admin = Admin::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    Running { admin: admin.start(state).expect("a thread"), readiness, counters }
}

impl Running {
    fn dial(&self) -> TcpStream {
        TcpStream::connect(self.admin.address()).expect("it is bound")
    }

    /// Sends a request as it is and reads until the end.
    fn send(&self, request: &str) -> (u16, String) {
        let mut stream = self.dial();
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it ends");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status: {answer:?}")), answer)
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (status, answer) =
            self.send(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin.address()));
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        (status, body.to_owned())
    }
}

#[test]
fn health_is_always_and_readiness_is_as_told() {
    let running = start();
    assert_eq!(running.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(running.get("/readyz"), (503, "starting\n".to_owned()));
    running.readiness.set(Readiness::Ready);
    assert_eq!(running.get("/readyz"), (200, "ready\n".to_owned()));
    running.readiness.set(Readiness::Draining);
    assert_eq!(running.get("/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(running.get("/healthz").0, 200);
}

#[test]
fn metrics_are_read_when_asked_for() {
    let running = start();
    running.counters.shard(0).add(Count::Requests, 3);
    let (status, text) = running.get("/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("\nbowline_requests_total 3\n"), "{text}");
}

#[test]
fn connections_are_listed_sorted_and_limited() {
    let running = start();
    let (status, text) = running.get("/connections?limit=2&sort=-age_ms");
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &answer["total"]), (200, &300.into()));
    let list = answer["connections"].as_array().expect("a list");
    assert_eq!(list.iter().map(|one| &one["age_ms"]).collect::<Vec<_>>(), [2_990, 2_980]);
    let (_, text) = running.get("/connections");
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["connections"].as_array().map(Vec::len), Some(100));
}

#[test]
fn a_wrong_query_is_400_and_says_what_is_known() {
    let running = start();
    let (status, text) = running.get("/connections?sort=colour");
    assert_eq!(status, 400);
    assert!(text.starts_with("cannot sort by \"colour\"; known: id, age_ms,"), "{text}");
    assert_eq!(running.get("/connections?limit=many").0, 400);
    assert_eq!(running.get("/connections?x=1").0, 400);
}

#[test]
fn what_is_not_there_is_404_and_what_changes_things_is_405() {
    let running = start();
    assert_eq!(running.get("/").0, 404);
    let (status, answer) =
        running.send("POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(status, 405);
    assert!(answer.to_lowercase().contains("allow: get, head"), "{answer}");
    let (status, answer) = running.send("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(status == 200 && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn a_name_that_was_rebound_to_us_is_refused() {
    let running = start();
    for host in ["evil.example", "evil.example:2046", "127.0.0.1.evil.example", ""] {
        let (status, _) = running.send(&format!("GET /connections HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(status, 421, "{host}");
    }
    let two = "GET /connections HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    assert_eq!(running.send(two).0, 421);
    assert_eq!(running.send("GET /healthz HTTP/1.1\r\n\r\n").0, 421);
    assert_eq!(running.send("GET /healthz HTTP/1.0\r\n\r\n").0, 200);
    assert_eq!(running.send("GET /healthz HTTP/1.1\r\nHost: LocalHost:1\r\n\r\n").0, 200);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let running = start();
    let mut stream = running.dial();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    // It may end the connection before all of it is written, and then with a reset.
    drop(stream.write_all(head.as_bytes()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
    assert_eq!(running.get("/healthz").0, 200);
}

#[test]
fn one_request_per_connection() {
    let running = start();
    let (status, answer) =
        running.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n");
    assert_eq!((status, answer.matches("HTTP/1.1 ").count()), (200, 1), "{answer}");
}

#[test]
fn silent_connections_do_not_keep_others_out_for_ever() {
    let running = start();
    let silent: Vec<_> = (0..80).map(|_| running.dial()).collect();
    assert_eq!(running.get("/healthz").0, 200, "those that say nothing lose their places");
    drop(silent);
}

#[test]
fn it_ends_with_connections_open() {
    let running = start();
    let mut open = running.dial();
    assert_eq!(running.get("/healthz").0, 200, "so the one before it was accepted");
    drop(running.admin);
    let mut rest = Vec::new();
    // The end of the stream or a reset: in both cases nobody is there.
    assert!(matches!(open.read_to_end(&mut rest), Ok(0) | Err(_)));
}
