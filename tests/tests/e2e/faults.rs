//! The world fails while the gateway is busy: upstreams are killed under load and come back, connections vanish. Every
//! call gets exactly one answer, its own or the mapped status.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bowline_protocols::bolt::Status;
use bowline_tests::sockets::{dial, vanish};
use bowline_tests::wait::in_the_end;
use bowline_tests::{Action, BoltClient, Call, Gateway, Upstream, each_mode, each_mode_marked};

use crate::deep_or;

/// What the clients of a load count together.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    succeeded: AtomicUsize,
    failed: AtomicUsize,
}

/// One client that keeps `depth` calls in flight until it is told to stop, and checks every answer.
fn client_under_load(address: SocketAddr, number: usize, depth: usize, tally: &Tally) {
    let mut client = BoltClient::connect(address);
    let content = |id: u32| format!("client {number} call {id}").into_bytes();
    let mut in_flight = std::collections::BTreeSet::new();
    loop {
        while in_flight.len() < depth && !tally.stop.load(Ordering::SeqCst) {
            let call = Call::new(content(client.next_id)).timeout_ms(20_000);
            in_flight.insert(client.send(&call));
        }
        if in_flight.is_empty() {
            return;
        }
        let answer = client.receive();
        assert!(in_flight.remove(&answer.frame.id), "answered once: {:?}", answer.frame);
        match answer.status() {
            Status::Success => {
                assert_eq!(answer.content(), content(answer.frame.id), "its own answer");
                tally.succeeded.fetch_add(1, Ordering::SeqCst);
            }
            Status::ConnectionClosed | Status::NoProcessor => {
                tally.failed.fetch_add(1, Ordering::SeqCst);
            }
            other => panic!("an unexpected status: {other:?}"),
        }
    }
}

#[test]
fn an_upstream_killed_under_load_leaves_each_call_one_answer() {
    each_mode_marked(|mode| {
        let mut upstream = Upstream::echo();
        let address = upstream.address();
        let gateway = Gateway::bolt(mode, address, &[]);
        let tally = Arc::new(Tally::default());
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (tally, address) = (Arc::clone(&tally), gateway.address());
                std::thread::spawn(move || client_under_load(address, number, 16, &tally))
            })
            .collect();
        let succeeded = || tally.succeeded.load(Ordering::SeqCst);
        for _ in 0..deep_or(20, 3) {
            let before = succeeded();
            bowline_tests::eventually("calls succeed", || succeeded() > before + 500);
            let failed = tally.failed.load(Ordering::SeqCst);
            upstream.kill();
            bowline_tests::eventually("calls fail", || tally.failed.load(Ordering::SeqCst) > failed);
            upstream = Upstream::start_at(address, |_| Action::Echo);
        }
        let before = succeeded();
        bowline_tests::eventually("calls succeed again", || succeeded() > before + 500);
        tally.stop.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().expect("every answer was the right one"));
        let (requests, responses) =
            (gateway.metric("requests_total", ""), gateway.metric("responses_total", ""));
        let failures = gateway.metric("request_failures_total", "");
        assert_eq!(requests, responses + failures, "what came in went out");
    });
}

#[test]
fn connections_that_the_upstream_cuts_at_random_cost_only_the_calls_on_them() {
    each_mode(|mode| {
        let count = AtomicUsize::new(0);
        let upstream = Upstream::start(move |_| match count.fetch_add(1, Ordering::SeqCst) % 97 {
            13 => Action::Close,
            41 => Action::Reset,
            73 => Action::HalfThenClose,
            _ => Action::Echo,
        });
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let tally = Arc::new(Tally::default());
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (tally, address) = (Arc::clone(&tally), gateway.address());
                std::thread::spawn(move || client_under_load(address, number, 4, &tally))
            })
            .collect();
        bowline_tests::eventually("much of it succeeds", || tally.succeeded.load(Ordering::SeqCst) > 3_000);
        tally.stop.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().expect("every answer was the right one"));
        assert!(tally.failed.load(Ordering::SeqCst) > 0, "some were cut");
    });
}

#[test]
fn clients_that_vanish_with_calls_in_flight_harm_nobody() {
    each_mode(|mode| {
        let upstream = Upstream::start(|request| match request.content() {
            b"hold" => Action::Hold,
            _ => Action::Echo,
        });
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        for round in 0..20 {
            let mut vanishing = BoltClient::connect(gateway.address());
            vanishing.send(&Call::new("hold"));
            upstream.wait("it is in flight", |state| state.held() == round + 1);
        }
        let mut client = BoltClient::connect(gateway.address());
        client.echo(b"before the late answers");
        upstream.release();
        client.echo(b"after the late answers");
        let mut left = BoltClient::connect(gateway.address());
        left.echo(b"and on a new connection");
        assert_eq!(upstream.state().requests.len(), 23);
    });
}

#[test]
fn heartbeats_flow_while_the_upstream_does_not_answer() {
    each_mode(|mode| {
        let upstream = Upstream::start(|_| Action::Silent);
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        client.send(&Call::new("never answered"));
        for version in bowline_protocols::testing::VERSIONS.map(|(version, _)| version) {
            client.heartbeat(version);
        }
        assert_eq!(gateway.metric("heartbeats_answered_total", ""), 4.0);
    });
}

#[test]
fn a_client_that_vanished_without_a_word_is_given_up() {
    each_mode(|mode| {
        let upstream = Upstream::start(|request| match request.content() {
            b"hold" => Action::Hold,
            _ => Action::Echo,
        });
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let stream = dial(gateway.address());
        let socket = stream.try_clone().expect("descriptors are left");
        let mut client = BoltClient::over(stream);
        client.send(&Call::new("hold"));
        upstream.wait("it is in flight", |state| state.held() == 1);
        vanish(&socket);
        upstream.release();
        let mut other = BoltClient::connect(gateway.address());
        in_the_end("nobody acknowledges the answer", || {
            other.echo(b"others are served meanwhile");
            gateway.closes("kernel_timeout") == 1.0
        });
    });
}
