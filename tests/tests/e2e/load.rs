//! Many connections, each with little to say: nothing is lost, everything is answered, and the pool stays as it was.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bowline_tests::{BoltClient, Gateway, Mode, Upstream, each_mode, eventually};

use crate::deep_or;

const THREADS: usize = 8;

/// Both cases hold more descriptors than one process has for the two of them, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn take_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn thousands_of_connections_at_a_thousand_calls_a_second_lose_nothing() {
    let _turn = take_turn();
    let connections = deep_or(9_000, 1_000);
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let address = gateway.address();
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                std::thread::spawn(move || {
                    let count = connections / THREADS;
                    let mut clients: Vec<_> = (0..count).map(|_| BoltClient::connect(address)).collect();
                    let pause = Duration::from_secs(1) * THREADS as u32 / 1_000;
                    for round in 0..2 {
                        let start = Instant::now();
                        for (number, client) in clients.iter_mut().enumerate() {
                            // A constant rate is the load itself and no waiting for an event.
                            let due = start + pause * number as u32;
                            std::thread::sleep(due.saturating_duration_since(Instant::now()));
                            client.echo(format!("{thread} {number} {round}").as_bytes());
                        }
                    }
                    clients
                })
            })
            .collect();
        let all: Vec<_> =
            workers.into_iter().map(|w| w.join().expect("every answer was the right one")).collect();
        let expected = (connections / THREADS * THREADS * 2) as f64;
        assert_eq!(gateway.metric("requests_total", ""), expected);
        assert_eq!(gateway.metric("responses_total", ""), expected);
        assert_eq!(gateway.metric("request_failures_total", ""), 0.0);
        drop(all);
        eventually("all descriptors come back", || gateway.descriptors() < 200);
    });
}

#[test]
fn an_idle_connection_costs_at_most_384_bytes_in_raw_mode() {
    let _turn = take_turn();
    const IDLE_BYTES_MAX: u64 = 384;
    let connections = deep_or(15_000, 4_000);
    let upstream = Upstream::echo();
    // What the same work leaves behind in a process that holds next to no connections.
    let bare = Gateway::bolt(Mode::Raw, upstream.address(), &["--max-connections", "64"]);
    let mut few: Vec<_> = (0..32).map(|_| BoltClient::connect(bare.address())).collect();
    for round in 0..connections {
        few[round % 32].echo(b"x");
    }
    drop(few);
    eventually("they are closed", || bare.closes("peer_closed") >= 32.0);
    let gateway = Gateway::bolt(Mode::Raw, upstream.address(), &[]);
    let mut clients: Vec<_> = (0..connections).map(|_| BoltClient::connect(gateway.address())).collect();
    clients.iter_mut().for_each(|client| client.echo(b"x"));
    let extra = gateway.anonymous_bytes().saturating_sub(bare.anonymous_bytes());
    let each = extra / connections as u64;
    eprintln!("{each} bytes for each of {connections} idle connections");
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes for each of {connections} idle connections");
    clients.iter_mut().for_each(|client| client.echo(b"one more on each"));
}
