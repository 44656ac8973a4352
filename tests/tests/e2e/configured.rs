//! What only a configuration file can say: routes by service, several endpoints and listeners, and every bound small
//! enough to be reached by a test.

use std::io::Write;
use std::net::SocketAddr;

use bowline_protocols::bolt::{Status, Version};
use bowline_tests::gateway::{Configuration, bowline};
use bowline_tests::sockets::{dial, read_to_end, refused};
use bowline_tests::{Action, BoltClient, Call, Gateway, Mode, Upstream, each_mode, eventually};

/// A file with one Bolt listener and one cluster; `cluster` and `rest` are added where they belong.
fn one_cluster(upstream: SocketAddr, cluster: &str, rest: &str) -> Configuration {
    Configuration::new(&format!(
        "listeners:\n  - address: bolt://127.0.0.1:0\n    cluster: one\n\
         clusters:\n  - name: one\n    endpoints: [\"bolt://{upstream}\"]\n{cluster}{rest}"
    ))
}

fn start(mode: Mode, file: &Configuration) -> Gateway {
    Gateway::start(mode, &["--config", file.path()])
}

fn held_or_echo() -> Upstream {
    Upstream::start(|request| match request.content() {
        b"hold" => Action::Hold,
        _ => Action::Echo,
    })
}

#[test]
fn the_service_chooses_the_cluster_and_an_unknown_one_is_no_processor() {
    each_mode(|mode| {
        let upstreams = [b"a", b"b"].map(|name| Upstream::start(|_| Action::Reply(name.to_vec())));
        let file = Configuration::new(&format!(
            "listeners:\n  - address: bolt://127.0.0.1:0\n\
             routes:\n  - service: com.x.A:1.0\n    cluster: a\n  - service: com.x.B:1.0\n    cluster: b\n\
             clusters:\n  - name: a\n    endpoints: [\"{}\"]\n  - name: b\n    endpoints: [\"{}\"]\n",
            upstreams[0].url(),
            upstreams[1].url()
        ));
        let gateway = start(mode, &file);
        let mut client = BoltClient::connect(gateway.address());
        for _ in 0..3 {
            for (service, name) in [("com.x.A:1.0", b"a"), ("com.x.B:1.0", b"b")] {
                let answer = client.call(&Call::new("who").service(service));
                assert_eq!(answer.content(), name);
            }
        }
        for unknown in ["com.x.a:1.0", "com.x.A", ""] {
            let answer = client.call(&Call::new("who").service(unknown));
            assert_eq!(answer.status(), Status::NoProcessor, "{unknown:?}");
        }
        let without = Call { header: Vec::new(), ..Call::new("who") };
        assert_eq!(client.call(&without).status(), Status::NoProcessor, "no header at all");
        assert_eq!(gateway.failures("no_route"), 4.0);
    });
}

#[test]
fn a_call_without_a_deadline_has_the_routes() {
    each_mode(|mode| {
        let upstream = Upstream::start(|_| Action::Silent);
        let file = Configuration::new(&format!(
            "listeners:\n  - address: bolt://127.0.0.1:0\n    cluster: one\n    timeout: 100ms\n\
             clusters:\n  - name: one\n    endpoints: [\"{}\"]\n",
            upstream.url()
        ));
        let gateway = start(mode, &file);
        let mut client = BoltClient::connect(gateway.address());
        for timeout_ms in [-1, 0, i32::MIN] {
            let answer = client.call(&Call::new("x").timeout_ms(timeout_ms));
            assert_eq!(answer.status(), Status::Timeout, "{timeout_ms}");
        }
    });
}

#[test]
fn more_calls_than_an_endpoint_may_hold_are_busy() {
    each_mode(|mode| {
        let upstream = held_or_echo();
        let file = one_cluster(upstream.address(), "    requests_max: 4\n", "");
        let gateway = start(mode, &file);
        let mut client = BoltClient::connect(gateway.address());
        let held: Vec<_> = (0..4).map(|_| client.send(&Call::new("hold"))).collect();
        upstream.wait("four are in flight", |state| state.held() == 4);
        let mut other = BoltClient::connect(gateway.address());
        assert_eq!(other.call(&Call::new("one too many")).status(), Status::ServerThreadpoolBusy);
        assert_eq!(gateway.failures("overflow"), 1.0);
        upstream.release();
        let mut answered: Vec<_> = (0..4).map(|_| client.receive().frame.id).collect();
        answered.sort_unstable();
        assert_eq!(answered, held);
        other.echo(b"there is room again");
    });
}

#[test]
fn a_call_whose_connection_cannot_be_opened_goes_to_another_endpoint() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let file = Configuration::new(&format!(
            "listeners:\n  - address: bolt://127.0.0.1:0\n    cluster: one\n\
             clusters:\n  - name: one\n    endpoints: [\"bolt://{}\", \"{}\"]\n",
            refused(),
            upstream.url()
        ));
        let gateway = start(mode, &file);
        let mut client = BoltClient::connect(gateway.address());
        for round in 0..20 {
            client.echo(format!("round {round}").as_bytes());
        }
        assert!(gateway.metric("upstream_connect_failures_total", "") >= 1.0);
    });
}

#[test]
fn calls_are_spread_over_endpoints() {
    each_mode(|mode| {
        let upstreams = [Upstream::echo(), Upstream::echo(), Upstream::echo()];
        let urls = upstreams.each_ref().map(|upstream| format!("\"{}\"", upstream.url())).join(", ");
        for balance in ["round_robin", "least_outstanding"] {
            let file = Configuration::new(&format!(
                "listeners:\n  - address: bolt://127.0.0.1:0\n    cluster: one\n\
                 clusters:\n  - name: one\n    endpoints: [{urls}]\n    balance: {balance}\n"
            ));
            let before = upstreams.each_ref().map(|upstream| upstream.state().requests.len());
            let gateway = start(mode, &file);
            let mut clients: Vec<_> = (0..4).map(|_| BoltClient::connect(gateway.address())).collect();
            for round in 0..30_u8 {
                clients.iter_mut().for_each(|client| client.echo(&[round]));
            }
            for (upstream, before) in upstreams.iter().zip(before) {
                let share = upstream.state().requests.len() - before;
                assert!(share >= 10, "{balance}: {share} of 120 calls");
            }
        }
    });
}

#[test]
fn beyond_its_calls_in_flight_a_client_is_not_read() {
    each_mode(|mode| {
        let upstream = held_or_echo();
        let file = one_cluster(upstream.address(), "", "limits:\n  in_flight_max: 8\n");
        let gateway = start(mode, &file);
        let mut client = BoltClient::connect(gateway.address());
        for _ in 0..40 {
            client.send(&Call::new("hold"));
        }
        upstream.wait("eight are in flight", |state| state.held() == 8);
        BoltClient::connect(gateway.address()).echo(b"others are read");
        assert_eq!(upstream.state().held(), 8, "and no more of it");
        // It is read on at three quarters of the limit, so how many come next depends on how answers arrive.
        let mut answered = 0;
        while answered < 40 {
            upstream.wait("the next ones are in flight", |state| state.held() > 0);
            let released = upstream.release();
            assert!(released <= 8, "{released} were in flight");
            (0..released).for_each(|_| assert_eq!(client.receive().status(), Status::Success));
            answered += released;
        }
    });
}

#[test]
fn limits_of_a_frame_are_what_the_file_says() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let file = one_cluster(upstream.address(), "", "limits:\n  content_max: 1KiB\n");
        let gateway = start(mode, &file);
        let mut client = BoltClient::connect(gateway.address());
        client.echo(&[1; 1024]);
        client.send(&Call::new([1; 1025]));
        client.end();
        assert_eq!(gateway.closes("frame_content_too_large"), 1.0);
    });
}

#[test]
fn a_frame_that_does_not_arrive_in_time_closes_the_connection() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let file = one_cluster(upstream.address(), "", "limits:\n  frame_timeout: 200ms\n");
        let gateway = start(mode, &file);
        for size in [10, 100_000] {
            let mut client = BoltClient::connect(gateway.address());
            let frame = Call::new(vec![1; 200_000]).bytes(1);
            client.send_bytes(&frame[..size]);
            client.end();
        }
        assert_eq!(gateway.closes("frame_deadline"), 2.0);
        assert!(upstream.state().requests.is_empty());
    });
}

#[test]
fn heartbeats_without_measure_close_the_connection() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let file = one_cluster(upstream.address(), "", "limits:\n  heartbeat_rate_max: 5\n");
        let gateway = start(mode, &file);
        let mut client = BoltClient::connect(gateway.address());
        (0..5).for_each(|_| client.heartbeat(Version::V1));
        let mut beats = Vec::new();
        for id in 0..1_000 {
            let mut out = [0; 32];
            let length = bowline_protocols::bolt::encode_heartbeat(Version::V1, id, &mut out);
            beats.extend_from_slice(&out[..length]);
        }
        // The gateway may close before all of it is written.
        let _ = client.stream().write_all(&beats);
        read_to_end(client.stream());
        assert_eq!(gateway.closes("heartbeat_flood"), 1.0);
    });
}

#[test]
fn an_idle_upstream_connection_is_kept_by_heartbeats() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let file = one_cluster(upstream.address(), "    heartbeat_interval: 100ms\n", "");
        let gateway = start(mode, &file);
        let mut client = BoltClient::connect(gateway.address());
        client.echo(b"it exists");
        upstream.wait("heartbeats come", |state| state.heartbeats >= 3);
        client.echo(b"it is still there");
        assert_eq!(gateway.closes("heartbeat_missed"), 0.0);
    });
}

#[test]
fn an_upstream_that_answers_no_heartbeat_is_closed() {
    each_mode(|mode| {
        // It answers the first call and then reads nothing more, so it answers no heartbeat.
        let upstream = Upstream::start(|request| match request.content() {
            b"stop" => Action::StopReading,
            _ => Action::Echo,
        });
        let heartbeat =
            "    heartbeat_interval: 100ms\n    heartbeat_timeout: 50ms\n    heartbeat_misses_max: 2\n";
        let file = one_cluster(upstream.address(), heartbeat, "");
        let gateway = start(mode, &file);
        let mut client = BoltClient::connect(gateway.address());
        let answer = client.call(&Call::new("stop"));
        assert_eq!(answer.status(), Status::ConnectionClosed);
        assert_eq!(gateway.closes("heartbeat_missed"), 1.0);
        client.echo(b"on a new connection");
    });
}

#[test]
fn listeners_of_both_protocols_stand_beside_each_other() {
    each_mode(|mode| {
        let bolt = Upstream::echo();
        let tcp = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let file = Configuration::new(&format!(
            "{{\"listeners\": [{{\"address\": \"bolt://127.0.0.1:0\", \"cluster\": \"b\"}},\n\
              {{\"address\": \"tcp://127.0.0.1:0\", \"cluster\": \"t\"}}],\n\
              \"clusters\": [{{\"name\": \"b\", \"endpoints\": [\"{}\"]}},\n\
              {{\"name\": \"t\", \"endpoints\": [\"tcp://{}\"]}}]}}",
            bolt.url(),
            tcp.local_addr().expect("it is bound")
        ));
        let gateway = start(mode, &file);
        BoltClient::connect(gateway.listeners()[0]).echo(b"bolt");
        let mut client = dial(gateway.listeners()[1]);
        client.write_all(b"tcp").expect("it is open");
        let (server, _) = tcp.accept().expect("the gateway connects");
        client.shutdown(std::net::Shutdown::Write).expect("it is open");
        let mut server = server;
        assert_eq!(read_to_end(&mut server).0, b"tcp");
    });
}

#[test]
fn a_name_is_resolved() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let port = upstream.address().port();
        let url = format!("bolt://localhost:{port}");
        let gateway = Gateway::start(mode, &["--listen", "bolt://127.0.0.1:0", "--upstream", &url]);
        let mut client = BoltClient::connect(gateway.address());
        eventually("the name is known", || client.call(&Call::new("x")).status() == Status::Success);
    });
}

#[test]
fn a_file_is_checked_without_binding_anything() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let good = Configuration::new(&format!(
        "listeners:\n  - address: bolt://{address}\n    cluster: one\n\
         clusters:\n  - name: one\n    endpoints: [\"bolt://127.0.0.1:1\"]\n"
    ));
    let output = bowline(&["check", "--config", good.path()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let bad = Configuration::new("listenrs:\n  - address: bolt://127.0.0.1:0\n");
    let output = bowline(&["check", "--config", bad.path()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains(":1:1") && said.contains("listeners"), "place and nearest key: {said}");
}

#[test]
fn the_version_is_json_when_asked() {
    let output = bowline(&["version", "--json"]);
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.success() && version["version"].is_string(), "{version}");
}
