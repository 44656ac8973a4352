//! The bare relays as processes, between load generator and backend: a floor counts only if every answer through it is right.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bowline-bench");
const RELAYS: [&[&str]; 3] = [&["epoll"], &["tokio"], &["tokio", "--runtime", "multi-thread"]];

/// A server of the bench; ends by itself, and with the test.
struct Server {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .args(["--duration", "120"])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program was built");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("text");
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let address = ready["listeners"][0]["address"].as_str().expect("an address").to_owned();
        Self { child, lines, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn relay(kind: &[&str], to: &str) -> Server {
    Server::start(&[&["relay"], kind, &["--to", to]].concat())
}

fn load(address: &str, flags: &[&str]) -> (Output, Value) {
    let short = ["load", "--to", address, "--warmup", "0.1", "--duration", "0.3", "--grace", "3"];
    let output = Command::new(PROGRAM).args(short).args(flags).output().expect("the program was built");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output, report)
}

#[test]
fn every_answer_through_a_relay_is_right() {
    let backend = Server::start(&["backend"]);
    for kind in RELAYS {
        let relay = relay(kind, &backend.address);
        for flags in [
            &["--connections", "50", "--in-flight", "1"][..],
            &["--connections", "50", "--in-flight", "32"],
            &["--connections", "300", "--rate", "2000", "--v2"],
            &["--connections", "8", "--in-flight", "4", "--bytes", "200000"],
        ] {
            let (output, report) = load(&relay.address, flags);
            assert!(output.status.success(), "{kind:?} {flags:?}: {report}");
            assert!(report["tally"]["answered"].as_u64() > Some(100), "{kind:?} {flags:?}: {report}");
        }
    }
}

#[test]
fn every_http_answer_through_a_relay_is_right() {
    let backend = Server::start(&["backend"]);
    for kind in RELAYS {
        let relay = relay(&[kind, &["--protocol", "http"]].concat(), &backend.address);
        for flags in [
            &["--connections", "50", "--in-flight", "1"][..],
            &["--connections", "50", "--in-flight", "1", "--get"],
            // Pipelined: answers must keep their order.
            &["--connections", "50", "--in-flight", "32"],
            &["--connections", "300", "--rate", "2000"],
            &["--connections", "8", "--in-flight", "4", "--bytes", "200000"],
        ] {
            let (output, report) = load(&relay.address, &[&["--protocol", "http"], flags].concat());
            assert!(output.status.success(), "{kind:?} {flags:?}: {report}");
            assert!(report["tally"]["answered"].as_u64() > Some(100), "{kind:?} {flags:?}: {report}");
        }
    }
}

#[test]
fn a_surplus_is_shared_between_more_threads_than_cores() {
    let backend = Server::start(&["backend"]);
    for (kind, protocol) in RELAYS.iter().flat_map(|kind| [(kind, "bolt"), (kind, "http")]) {
        let relay =
            relay(&[kind, &["--threads", "4", "--protocol", protocol][..]].concat(), &backend.address);
        let flags = ["--connections", "200", "--in-flight", "8", "--protocol", protocol];
        let (output, report) = load(&relay.address, &flags);
        assert!(output.status.success(), "{kind:?} {protocol}: {report}");
    }
}

#[test]
fn processes_share_a_port() {
    let backend = Server::start(&["backend"]);
    for kind in RELAYS {
        let first = relay(&[kind, &["--reuseport"]].concat(), &backend.address);
        let shared = [kind, &["--reuseport", "--listen", &first.address]].concat();
        let second = relay(&shared, &backend.address);
        assert_eq!(first.address, second.address);
        let (output, report) = load(&first.address, &["--connections", "100", "--in-flight", "2"]);
        assert!(output.status.success(), "{kind:?}: {report}");
    }
}

#[test]
fn a_relay_whose_upstream_is_gone_says_so_and_ends() {
    for kind in RELAYS {
        let backend = Server::start(&["backend"]);
        let mut relay = relay(kind, &backend.address);
        drop(backend);
        assert_eq!(relay.child.wait().expect("it is our child").code(), Some(1), "{kind:?}");
        let mut rest = String::new();
        assert_eq!(relay.lines.read_line(&mut rest).expect("text"), 0, "it says nothing more: {rest}");
    }
}
