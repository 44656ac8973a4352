//! The real peers talk to each other without a gateway between, so that a failure through the gateway is the gateway's.
//! Every pair of libraries and version that understands each other is here; the README of the peers names the others.

use bowline_tests::interop::{Client, Library, Server, available};
use serde_json::json;

const LIBRARIES: [Library; 2] = [Library::Java, Library::Node];

/// Java sets the switch without sending a CRC when ver1 is 1, and sofa-bolt-node then waits for one.
fn understand_each_other(client: Library, server: Library, protocol: &str, case: &str) -> bool {
    let from_java = (client, server) == (Library::Java, Library::Node);
    let calls_back = (client, server) == (Library::Node, Library::Java) && case == "duplex";
    protocol != "v2" || !(from_java || calls_back)
}

#[test]
fn every_pair_understands_each_other_in_every_version() {
    if !available() {
        return;
    }
    for server_library in LIBRARIES {
        let server = Server::start(server_library);
        for client_library in LIBRARIES {
            let mut client = Client::start(client_library);
            for protocol in ["v1", "v2", "v2plain", "v2crc"] {
                for case in ["sync", "oneway", "duplex", "error"] {
                    if understand_each_other(client_library, server_library, protocol, case) {
                        let how = json!({"protocol": protocol, "payload": "sofa", "count": 5});
                        client.passes(server.address(), case, how);
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_counted_on_the_wire_is_what_was_asked_for() {
    if !available() {
        return;
    }
    let mut server = Server::start(Library::Java);
    let mut client = Client::start(Library::Java);
    let how = json!({"protocol": "v2crc", "count": 3});
    let answer = client.passes(server.address(), "sync", how);
    assert_eq!(answer.wire("sent", "request v2crc"), 3, "{answer}");
    assert_eq!(answer.wire("received", "response v2crc"), 3, "{answer}");
    let stats = server.stats();
    assert_eq!((&stats["accepted"], &stats["handled"]), (&json!(1), &json!(3)), "{stats}");
}

#[test]
fn a_client_notices_a_wrong_expectation() {
    if !available() {
        return;
    }
    let server = Server::start(Library::Node);
    let mut client = Client::start(Library::Node);
    let answer = client.run(server.address(), "sync", json!({"op": "error"}));
    assert!(!answer.ok() && answer.each_once(), "{answer}");
}
