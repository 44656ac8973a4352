//! The admin interface: health, readiness, metrics and the list of connections, on loopback only, and off when told.

use bowline_tests::{Action, BoltClient, Call, Gateway, Upstream, each_mode, eventually};
use serde_json::Value;

#[test]
fn health_readiness_and_metrics_are_there() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(gateway.get(path).map(|(status, _)| status), Some(200), "{path}");
        }
        let mut client = BoltClient::connect(gateway.address());
        for _ in 0..5 {
            client.echo(b"x");
        }
        let (status, text) = gateway.get("/metrics").expect("it answers");
        assert_eq!(status, 200);
        assert!(text.contains("# TYPE bowline_requests counter"), "{text}");
        assert_eq!(gateway.metric("requests_total", ""), 5.0);
        assert_eq!(gateway.metric("responses_total", ""), 5.0);
        assert_eq!(gateway.metric("downstream_connections_accepted_total", ""), 1.0);
    });
}

#[test]
fn what_is_not_there_is_404() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        assert_eq!(gateway.get("/nothing").map(|(status, _)| status), Some(404));
        assert_eq!(gateway.get("/healthz").map(|(status, _)| status), Some(200));
    });
}

#[test]
fn connections_are_listed_with_what_they_hold() {
    each_mode(|mode| {
        let upstream = Upstream::start(|_| Action::Hold);
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut clients: Vec<_> = (0..3).map(|_| BoltClient::connect(gateway.address())).collect();
        for client in &mut clients {
            client.send(&Call::new("hold"));
            client.send(&Call::new("hold"));
        }
        upstream.wait("all are in flight", |state| state.held() == 6);
        let peers: Vec<_> = clients
            .iter_mut()
            .map(|client| client.stream().local_addr().expect("open").to_string())
            .collect();
        let listed = gateway.connections();
        let mine: Vec<_> =
            listed.iter().filter(|one| peers.iter().any(|peer| one["peer"] == peer.as_str())).collect();
        assert_eq!(mine.len(), 3, "{listed:#?}");
        for one in mine {
            for key in ["id", "protocol", "reactor", "state"] {
                assert!(!one[key].is_null(), "{key}: {one}");
            }
            assert_eq!((&one["in_flight"], &one["state"]), (&2.into(), &"active".into()), "{one}");
        }
        let held_upstream = |listed: &[Value]| -> u64 {
            let upstreams = listed.iter().filter(|one| one["direction"] == "upstream");
            upstreams.map(|one| one["in_flight"].as_u64().expect("a number")).sum()
        };
        assert_eq!(held_upstream(&listed), 6, "{listed:#?}");
        upstream.release();
        clients.iter_mut().for_each(|client| (0..2).for_each(|_| drop(client.receive())));
        eventually("they are idle again", || {
            let listed = gateway.connections();
            let mut upstreams = listed.iter().filter(|one| one["direction"] == "upstream");
            held_upstream(&listed) == 0 && upstreams.all(|one| one["state"] == "idle")
        });
        let carried: u64 = {
            let listed = gateway.connections();
            let upstreams = listed.iter().filter(|one| one["direction"] == "upstream");
            upstreams.map(|one| one["requests"].as_u64().expect("a number")).sum()
        };
        assert_eq!(carried, 6);
    });
}

#[test]
fn the_embedded_upstream_is_listed_as_what_it_is() {
    each_mode(|mode| {
        let gateway = Gateway::start(mode, &["--listen", "bolt://127.0.0.1:0"]);
        BoltClient::connect(gateway.address()).echo(b"x");
        let listed = gateway.connections();
        let of = |direction: &str| {
            let mut all = listed.iter().filter(|one| one["listener"] == "echo");
            all.find(|one| one["direction"] == direction)
                .unwrap_or_else(|| panic!("{direction}: {listed:#?}"))
        };
        assert_eq!(of("echo")["state"], "idle");
        assert_eq!(
            (&of("upstream")["protocol"], of("upstream")["state"] == "opening"),
            (&"bolt".into(), false)
        );
    });
}

#[test]
fn the_list_of_connections_can_be_limited() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut clients: Vec<_> = (0..10).map(|_| BoltClient::connect(gateway.address())).collect();
        clients.iter_mut().for_each(|client| client.echo(b"x"));
        assert!(gateway.connections().len() >= 10);
        let (status, text) = gateway.get("/connections?limit=4").expect("it answers");
        let body: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let list = body["connections"].as_array().or(body.as_array()).expect("a list");
        assert_eq!((status, list.len()), (200, 4), "{text}");
    });
}

#[test]
fn it_can_be_off() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &["--admin", "off"]);
        assert!(!gateway.has_admin());
        BoltClient::connect(gateway.address()).echo(b"x");
    });
}
