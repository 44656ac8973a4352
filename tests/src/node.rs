//! Owns a real HTTP/1.1 server on Node's own `http` (`tests/interop/http`), and what it says it has seen. Where Node is missing, a
//! case says so and passes; with `BOWLINE_CI` set it fails. It ends when it is dropped.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::gateway::root;
use crate::lines::Lines;
use crate::sockets::http_get;

/// A running server.
#[derive(Debug)]
pub struct NodeServer {
    child: Child,
    /// Its end ends the server.
    _input: Option<ChildStdin>,
    address: SocketAddr,
    control: SocketAddr,
}

/// What a server has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// Connections accepted.
    pub connections: u64,
    /// Requests that came.
    pub requests: u64,
    /// Those of them that asked for a 100 first.
    pub expects: u64,
}

impl NodeServer {
    /// A server that closes connections which rest for `keep_alive_ms`; nothing where there is no Node.
    pub fn start(keep_alive_ms: u64) -> Option<Self> {
        let script = root().join("tests/interop/http/server.js");
        let mut command = Command::new("node");
        command.arg(script).arg(keep_alive_ms.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let Ok(mut child) = command.spawn() else {
            eprintln!("SKIP node: it is not installed");
            assert!(std::env::var_os("BOWLINE_CI").is_none(), "a skip is a failure in CI");
            return None;
        };
        let lines = Lines::of(child.stdout.take().expect("it is piped"));
        let line = lines.next_line().expect("the server runs");
        let said: Value = serde_json::from_str(&line).expect("its line is JSON");
        let input = child.stdin.take();
        Some(Self { child, _input: input, address: at(&said["port"]), control: at(&said["control"]) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen.
    pub fn seen(&self) -> NodeSeen {
        self.ask("/")
    }

    /// Closes all connections that rest, as a server does that wants its descriptors back.
    pub fn close_idle(&self) -> NodeSeen {
        self.ask("/close-idle")
    }

    fn ask(&self, path: &str) -> NodeSeen {
        let (_, text) = http_get(self.control, path).expect("it answers");
        let said: Value = serde_json::from_str(&text).expect("JSON");
        let figure = |name: &str| said[name].as_u64().expect("a number");
        NodeSeen {
            connections: figure("connections"),
            requests: figure("requests"),
            expects: figure("expects"),
        }
    }
}

fn at(port: &Value) -> SocketAddr {
    let port = port.as_u64().and_then(|port| u16::try_from(port).ok()).expect("it says where");
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Drop for NodeServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
