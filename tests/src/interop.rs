//! Owns the real peers: Java SOFABolt and sofa-bolt-node, as clients and as servers, driven by lines of JSON (see
//! `tests/interop/README.md`). Where they cannot be had, a case says so and passes; with `BOWLINE_CI` set it fails.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::gateway::root;
use crate::lines::Lines;

/// Whose implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// SOFABolt, the reference.
    Java,
    /// sofa-bolt-node.
    Node,
}

/// Whether the peers can be had. Prepares them at the first call; says why if not.
///
/// # Panics
/// When they cannot and `BOWLINE_CI` is set, and when preparing fails.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| prepare("scripts/interop-setup.sh"))
}

/// Runs a script that prepares real peers. False if it says that they cannot be had here.
pub(crate) fn prepare(script: &str) -> bool {
    let output = Command::new(root().join(script)).output().expect("the script is there");
    let said = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => true,
        Some(3) => {
            // Not through the captured output: whoever runs the tests must see it.
            let _ = writeln!(std::io::stderr(), "{}", said.trim());
            assert!(std::env::var_os("BOWLINE_CI").is_none(), "a skip is a failure in CI: {said}");
            false
        }
        _ => panic!("the peers cannot be prepared: {said}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// A process that answers lines.
#[derive(Debug)]
struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines,
    ready: Value,
}

impl Peer {
    fn start(library: Library, role: &str, arguments: &[&str]) -> Self {
        let peers = root().join("tests/interop");
        let mut command = match library {
            Library::Java => {
                let mut command = Command::new("java");
                command.arg(format!("@{}", peers.join("java/target/java.args").display()));
                command.arg(format!("bowline.interop.Bolt{role}"));
                command
            }
            Library::Node => {
                let mut command = Command::new("node");
                command.arg(peers.join(format!("node/{}.js", role.to_lowercase())));
                command
            }
        };
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the peer can be started");
        let lines = Lines::of(child.stdout.take().expect("it is piped"));
        let input = child.stdin.take();
        let ready = lines.next_line().map(|line| parse(&line)).expect("the peer gets ready");
        assert_eq!(ready["ready"], true, "{ready}");
        Self { child, input, lines, ready }
    }

    fn say(&mut self, line: &Value) {
        writeln!(self.input.as_mut().expect("it runs"), "{line}").expect("the peer listens");
    }

    fn hear(&self) -> Value {
        parse(&self.lines.next_line().expect("the peer runs"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("no line of JSON ({error}): {line}"))
}

/// A real server.
#[derive(Debug)]
pub struct Server(Peer);

impl Server {
    /// On a free port.
    pub fn start(library: Library) -> Self {
        Self::start_at(library, 0)
    }

    /// On the port that an earlier one had, to play a restart.
    pub fn start_at(library: Library, port: u16) -> Self {
        Self(Peer::start(library, "Server", &["--port", &port.to_string()]))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let port = self.0.ready["port"].as_u64().expect("a port") as u16;
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// What it has seen.
    pub fn stats(&mut self) -> Value {
        self.0.say(&json!({"cmd": "stats"}));
        self.0.hear()
    }

    /// Kills the process; sockets end as the kernel ends them.
    pub fn kill(mut self) {
        self.0.child.kill().expect("it is our child");
        self.0.child.wait().expect("it is our child");
    }
}

/// A real client, which runs one case after the other or several at once.
#[derive(Debug)]
pub struct Client {
    peer: Peer,
    next_id: u64,
    early: Vec<Value>,
}

impl Client {
    /// Starts it.
    pub fn start(library: Library) -> Self {
        Self { peer: Peer::start(library, "Client", &[]), next_id: 1, early: Vec::new() }
    }

    /// Runs a case to its end.
    pub fn run(&mut self, address: SocketAddr, case: &str, more: Value) -> Answer {
        let id = self.begin(address, case, more);
        self.answer(id)
    }

    /// Runs a case that must go well.
    pub fn passes(&mut self, address: SocketAddr, case: &str, more: Value) -> Answer {
        let answer = self.run(address, case, more.clone());
        assert!(answer.ok(), "{case} {more}: {answer}");
        answer
    }

    /// Begins a case and returns its id.
    pub fn begin(&mut self, address: SocketAddr, case: &str, more: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let mut command = json!({"id": id, "case": case, "address": address.to_string()});
        let fields = command.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        self.peer.say(&command);
        id
    }

    /// Waits for an event of a case.
    pub fn event(&mut self, id: u64, name: &str) {
        self.line(|line| line["id"] == id && line["event"] == name);
    }

    /// Waits for the answer of a case.
    pub fn answer(&mut self, id: u64) -> Answer {
        Answer(self.line(|line| line["id"] == id && line.get("event").is_none()))
    }

    /// Tells a case to end, and waits for its answer.
    pub fn stop(&mut self, id: u64) -> Answer {
        let order = self.next_id;
        self.next_id += 1;
        self.peer.say(&json!({"id": order, "case": "stop", "target": id.to_string()}));
        self.answer(order);
        self.answer(id)
    }

    /// How far a case is.
    pub fn progress(&mut self, id: u64) -> Answer {
        let order = self.next_id;
        self.next_id += 1;
        self.peer.say(&json!({"id": order, "case": "progress", "target": id.to_string()}));
        self.answer(order)
    }

    fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.early.iter().position(&wanted) {
            return self.early.remove(at);
        }
        loop {
            let line = self.peer.hear();
            if wanted(&line) {
                return line;
            }
            self.early.push(line);
        }
    }
}

/// What became of a case.
#[derive(Clone, Debug)]
pub struct Answer(pub Value);

impl Answer {
    /// Whether all went as the case expects.
    pub fn ok(&self) -> bool {
        self.0["ok"] == true
    }

    /// How many calls ended so.
    pub fn outcome(&self, name: &str) -> u64 {
        self.0["outcomes"][name].as_u64().unwrap_or(0)
    }

    /// A number of the answer.
    pub fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or_else(|| panic!("{key} in {self}"))
    }

    /// How many frames of a kind and version were seen beside the library.
    pub fn wire(&self, direction: &str, kind: &str) -> u64 {
        self.0["wire"][direction][kind].as_u64().unwrap_or(0)
    }

    /// Each call has exactly one outcome, and no answer was another's.
    pub fn each_once(&self) -> bool {
        let clean = self.number("missing") == 0 && self.number("doubled") == 0;
        clean && self.outcome("wrong_reply") == 0 && self.number("sent") == self.number("answered")
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}
