//! Many connections, each with little to say: nothing is lost, everything is answered, and the pool stays as it was.

use std::time::{Duration, Instant};

use bowline_tests::{BoltClient, Gateway, Upstream, each_mode};

use crate::deep_or;

const THREADS: usize = 8;

#[test]
fn thousands_of_connections_at_a_thousand_calls_a_second_lose_nothing() {
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
        bowline_tests::eventually("all descriptors come back", || gateway.descriptors() < 200);
    });
}
