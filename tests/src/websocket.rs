//! Owns what tests need of WebSockets: frames as they are written, a handshake over plain sockets, and real peers (the
//! libraries `websockets` of Python and `ws` of Node, see `tests/interop/websocket`). Where those cannot be had, a case
//! says so and passes; with `BOWLINE_CI` set it fails.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::gateway::{Gateway, root};
use crate::http::HttpStream;
use crate::interop::prepare;
use crate::lines::Lines;
use crate::wait::PATIENCE;

/// A frame of at most 65,535 bytes; masked, with zeros, as a client's must be, or not.
pub fn frame(first: u8, payload: &[u8], is_masked: bool) -> Vec<u8> {
    let (bit, mask) = if is_masked { (0x80, &[0; 4][..]) } else { (0, &[][..]) };
    let header = match payload.len() {
        length @ 0..126 => vec![first, bit | length as u8],
        length => [&[first, bit | 126][..], &(length as u16).to_be_bytes()].concat(),
    };
    [&header, mask, payload].concat()
}

/// An open WebSocket through `gateway`, whose upstream is `listener`: the client's end and the server's.
///
/// # Panics
/// When it is not agreed on.
pub fn open(gateway: &Gateway, listener: &TcpListener) -> (HttpStream, HttpStream) {
    let mut client = HttpStream::connect(gateway.address());
    client.send(
        "GET /chat HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let (stream, _) = listener.accept().expect("the gateway connects");
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut server = HttpStream::over(stream);
    assert!(server.receive(false).expect("it holds").is_some(), "the request comes");
    server.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    assert_eq!(client.answer().status(), 101);
    (client, server)
}

/// A listener for servers that a test plays.
pub fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

/// Whose implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// `websockets`.
    Python,
    /// `ws`.
    Node,
}

/// Whether the real peers can be had. Prepares them at the first call; says why if not.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| prepare("scripts/websocket-setup.sh"))
}

/// A real peer. It ends when it is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// Its end ends a server.
    _input: Option<ChildStdin>,
    lines: Lines,
}

impl Peer {
    /// An echo server and where it listens.
    pub fn server(library: Library) -> (Self, SocketAddr) {
        let peer = Self::start(library, &["server"]);
        let port = peer.next()["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        (peer, (Ipv4Addr::LOCALHOST, port.expect("it says where")).into())
    }

    /// A client of `address`, which says one message.
    pub fn client(library: Library, address: SocketAddr) -> Self {
        Self::start(library, &["client", &address.to_string()])
    }

    /// What it says next.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn next(&self) -> Value {
        let line = self.lines.next_line().expect("the peer runs");
        serde_json::from_str(&line).expect("its lines are JSON")
    }

    fn start(library: Library, arguments: &[&str]) -> Self {
        let (prepared, scripts) =
            (root().join("target/websocket-peers"), root().join("tests/interop/websocket"));
        let mut command = match library {
            Library::Python => Command::new(prepared.join("python/bin/python")),
            Library::Node => Command::new("node"),
        };
        let script = match library {
            Library::Python => "peer.py",
            Library::Node => "peer.js",
        };
        command.env("NODE_PATH", prepared.join("node_modules")).arg(scripts.join(script)).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the peer can be started");
        let lines = Lines::of(child.stdout.take().expect("it is piped"));
        let input = child.stdin.take();
        Self { child, _input: input, lines }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
