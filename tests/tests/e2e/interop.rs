//! Real clients talk through the gateway to real servers: every version, style and size, calls from the server, heart-
//! beats, errors, deadlines, and a server that is killed and comes back.

use bowline_tests::interop::{Client, Library, Server, available};
use bowline_tests::{Gateway, Mode, each_mode, each_mode_marked};
use serde_json::json;

use crate::deep_or;

const PROTOCOLS: [&str; 4] = ["v1", "v2", "v2plain", "v2crc"];

/// A gateway between a real client and a real server; server first, so that it outlives the gateway.
struct Between {
    client: Client,
    gateway: Gateway,
    server: Server,
}

fn between(mode: Mode, client: Library, server: Library, flags: &[&str]) -> Between {
    let server = Server::start(server);
    let gateway = Gateway::bolt(mode, server.address(), flags);
    Between { client: Client::start(client), gateway, server }
}

impl Between {
    fn passes(&mut self, case: &str, how: serde_json::Value) -> bowline_tests::interop::Answer {
        self.client.passes(self.gateway.address(), case, how)
    }
}

#[test]
fn java_calls_java_in_every_version_style_and_payload() {
    if !available() {
        return;
    }
    each_mode_marked(|mode| {
        let mut peers = between(mode, Library::Java, Library::Java, &[]);
        for protocol in PROTOCOLS {
            for style in ["sync", "future", "callback"] {
                peers.passes(style, json!({"protocol": protocol, "count": 5}));
            }
            for payload in ["string", "raw", "sofa"] {
                peers.passes("sync", json!({"protocol": protocol, "payload": payload, "count": 3}));
            }
        }
        let stats = peers.server.stats();
        let versions = stats["wire"]["received"].as_object().expect("counts");
        for protocol in PROTOCOLS {
            let kind = format!("request {protocol}");
            assert!(versions.contains_key(&kind), "{kind} arrives unchanged: {stats}");
        }
    });
}

#[test]
fn node_calls_node_in_every_version() {
    if !available() {
        return;
    }
    each_mode_marked(|mode| {
        let mut peers = between(mode, Library::Node, Library::Node, &[]);
        for protocol in PROTOCOLS {
            peers.passes("sync", json!({"protocol": protocol}));
            peers.passes("oneway", json!({"protocol": protocol}));
        }
        peers.passes("sizes", json!({"protocol": "v2crc"}));
    });
}

#[test]
fn java_and_node_call_each_other() {
    if !available() {
        return;
    }
    each_mode(|mode| {
        // Over v2 with ver1 = 1 the two libraries do not understand each other, see the README of the peers.
        for (client, server) in [(Library::Java, Library::Node), (Library::Node, Library::Java)] {
            let mut peers = between(mode, client, server, &[]);
            for protocol in ["v1", "v2plain", "v2crc"] {
                for case in ["sync", "oneway", "error", "concurrent"] {
                    peers.passes(case, json!({"protocol": protocol, "payload": "sofa"}));
                }
            }
        }
    });
}

#[test]
fn nothing_to_four_mebibytes_go_both_ways() {
    if !available() {
        return;
    }
    each_mode_marked(|mode| {
        let mut peers = between(mode, Library::Java, Library::Java, &[]);
        for protocol in ["v1", "v2crc"] {
            peers.passes("sizes", json!({"protocol": protocol}));
        }
    });
}

#[test]
fn eight_large_replies_arrive_at_a_client_that_reads_20_megabytes_a_second() {
    if !available() {
        return;
    }
    each_mode_marked(|mode| {
        let mut peers = between(mode, Library::Java, Library::Java, &[]);
        let answer = peers.passes("bulk", json!({"protocol": "v2crc", "read_rate": 20_000_000}));
        assert_eq!((answer.outcome("ok"), answer.number("connects")), (8, 1), "{answer}");
    });
}

#[test]
fn two_hundred_calls_at_once_share_few_upstream_connections() {
    if !available() {
        return;
    }
    each_mode_marked(|mode| {
        let mut peers = between(mode, Library::Java, Library::Java, &["--upstream-connections", "1"]);
        let answer = peers.passes("concurrent", json!({"protocol": "v1"}));
        assert_eq!(answer.outcome("ok"), 200, "{answer}");
        let accepted = peers.server.stats()["accepted"].as_u64().expect("a count");
        let workers = std::thread::available_parallelism().map_or(4, |n| n.get().max(4)) as u64;
        assert!((1..=workers).contains(&accepted), "{accepted} connections for one endpoint");
    });
}

#[test]
fn oneway_calls_arrive_once_each() {
    if !available() {
        return;
    }
    each_mode(|mode| {
        let mut peers = between(mode, Library::Java, Library::Java, &[]);
        for protocol in PROTOCOLS {
            peers.passes("oneway", json!({"protocol": protocol, "count": 200}));
        }
        assert_eq!(peers.gateway.metric("requests_oneway_total", ""), 800.0);
    });
}

#[test]
fn an_error_of_the_server_reaches_the_client_as_it_is() {
    if !available() {
        return;
    }
    each_mode(|mode| {
        let mut peers = between(mode, Library::Java, Library::Java, &[]);
        let answer = peers.passes("error", json!({"protocol": "v2crc", "count": 5}));
        assert_eq!(answer.outcome("InvokeServerException"), 5, "{answer}");
        peers.passes("sync", json!({"protocol": "v2crc"}));
    });
}

#[test]
fn a_call_that_outlives_its_deadline_harms_no_other() {
    if !available() {
        return;
    }
    each_mode(|mode| {
        for library in [Library::Java, Library::Node] {
            let mut peers = between(mode, library, Library::Java, &[]);
            peers.passes("timeout", json!({"payload": "sofa"}));
        }
    });
}

#[test]
fn a_server_calls_its_client_over_a_bound_connection() {
    if !available() {
        return;
    }
    each_mode(|mode| {
        for library in [Library::Java, Library::Node] {
            let mut peers = between(mode, library, library, &["--upstream-mode", "bound"]);
            for protocol in ["v1", "v2crc"] {
                let answer = peers.passes("duplex", json!({"protocol": protocol, "payload": "sofa"}));
                assert_eq!(answer.number("called"), 10, "{answer}");
            }
            assert_eq!(peers.gateway.metric("callbacks_total", ""), 20.0);
        }
    });
}

#[test]
fn a_call_of_the_server_over_a_shared_connection_is_refused_and_counted() {
    if !available() {
        return;
    }
    each_mode(|mode| {
        let mut peers = between(mode, Library::Java, Library::Java, &[]);
        let how = json!({"count": 3, "expect": "callback_failed:InvokeException:NO_PROCESSOR"});
        let answer = peers.client.run(peers.gateway.address(), "duplex", how);
        assert!(answer.each_once() && answer.number("called") == 0, "{answer}");
        assert_eq!(answer.outcome("callback_failed:InvokeException:NO_PROCESSOR"), 3, "{answer}");
        assert_eq!(peers.gateway.failures("callback_on_shared"), 3.0);
    });
}

#[test]
fn heartbeats_keep_an_idle_connection() {
    if !available() {
        return;
    }
    each_mode(|mode| {
        let mut peers = between(mode, Library::Java, Library::Java, &[]);
        let (idle_ms, heartbeat_ms) = deep_or((60_000, 15_000), (1_500, 300));
        for protocol in ["v1", "v2crc"] {
            let how = json!({"protocol": protocol, "idle_ms": idle_ms, "heartbeat_ms": heartbeat_ms, "acks_min": 2});
            peers.passes("heartbeat", how);
        }
        assert!(peers.gateway.metric("heartbeats_answered_total", "") >= 4.0);
    });
}

#[test]
fn a_server_that_is_killed_and_comes_back_leaves_each_call_one_answer() {
    if !available() {
        return;
    }
    each_mode_marked(|mode| {
        let Between { mut client, gateway, server } = between(mode, Library::Java, Library::Java, &[]);
        let port = server.address().port();
        let load = client.begin(gateway.address(), "load", json!({"concurrency": 32, "timeout_ms": 5_000}));
        client.event(load, "running");
        server.kill();
        bowline_tests::eventually("calls fail", || {
            client.progress(load).0["outcomes"].as_object().is_some_and(|o| o.len() > 1)
        });
        let _again = Server::start_at(Library::Java, port);
        let before = client.progress(load).outcome("ok");
        bowline_tests::eventually("calls succeed again", || {
            client.progress(load).outcome("ok") > before + 100
        });
        let answer = client.stop(load);
        assert!(answer.each_once(), "{answer}");
        assert_eq!(
            (answer.number("connects"), answer.number("closes")),
            (1, 0),
            "the client keeps its connection"
        );
    });
}
