//! Owns a Bolt server that does with each request what the test's script says: answer, hold, fail, break. It answers
//! heartbeats by itself. Refuses to hide anything: what arrived is counted and can be awaited. Used where a real peer
//! would not misbehave as asked.

use std::collections::HashMap;
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bowline_protocols::bolt::{Kind, ResponseParts, Version, encode_heartbeat_ack, encode_response, fields};

use crate::bolt::FrameReader;
use crate::bolt::Message;
use crate::sockets::reset_on_close;
use crate::wait::PATIENCE;

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer with the same content.
    Echo,
    /// Answer with other content.
    Reply(Vec<u8>),
    /// Answer with a status and no content.
    Status(u16),
    /// Echo, but only at [`Upstream::release`].
    Hold,
    /// Never answer.
    Silent,
    /// Answer twice.
    Twice,
    /// Close the connection.
    Close,
    /// Reset the connection.
    Reset,
    /// Send these bytes instead of an answer.
    Raw(Vec<u8>),
    /// Half of the answer, then close.
    HalfThenClose,
    /// Stop reading for good, the connection stays open.
    StopReading,
}

type Script = dyn Fn(&Message) -> Action + Send + Sync;

/// A Bolt server under control of the test.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Shared {
    script: Box<Script>,
    state: Mutex<State>,
    changed: Condvar,
    stopping: AtomicBool,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct State {
    /// Connections accepted.
    pub accepted: usize,
    /// Requests that came, in order; oneway ones included.
    pub requests: Vec<Seen>,
    /// Heartbeats that came.
    pub heartbeats: usize,
    /// Responses that came: answers to what [`Upstream::send_on_all`] called.
    pub answers: Vec<(u32, u16)>,
    open: HashMap<usize, TcpStream>,
    held: Vec<(usize, Vec<u8>)>,
}

impl State {
    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.open.len()
    }

    /// Requests that wait for [`Upstream::release`].
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which connection it came on.
    pub connection: usize,
    /// Its id there.
    pub id: u32,
    /// Its version.
    pub version: Version,
    /// The header `service`.
    pub service: Option<String>,
    /// True when no answer is owed.
    pub oneway: bool,
    /// The content, up to 64 bytes of it.
    pub content: Vec<u8>,
}

impl Upstream {
    /// A server that echoes.
    pub fn echo() -> Self {
        Self::start(|_| Action::Echo)
    }

    /// A server on a free port.
    pub fn start(script: impl Fn(&Message) -> Action + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), script)
    }

    /// A server on an address that an earlier one had, to play a restart.
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&Message) -> Action + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            state: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accepting.accept(&listener));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as the gateway wants it.
    pub fn url(&self) -> String {
        format!("bolt://{}", self.address)
    }

    /// What has happened so far.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Waits until what has happened satisfies `condition`.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub fn wait(&self, what: &str, mut condition: impl FnMut(&State) -> bool) {
        let state = self.shared.lock();
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !condition(state))
            .expect("no thread of the upstream panics");
        assert!(
            !timeout.timed_out(),
            "not within {PATIENCE:?}: {what}; {} requests came",
            state.requests.len()
        );
    }

    /// Answers everything that is held; says how much that was.
    pub fn release(&self) -> usize {
        let held = std::mem::take(&mut self.shared.lock().held);
        let count = held.len();
        for (connection, bytes) in held {
            self.shared.write(connection, &bytes);
        }
        count
    }

    /// Sends bytes on every open connection, as a server does that calls its clients.
    pub fn send_on_all(&self, bytes: &[u8]) {
        let connections: Vec<_> = self.shared.lock().open.keys().copied().collect();
        for connection in connections {
            self.shared.write(connection, bytes);
        }
    }

    /// Closes all connections; new ones are accepted.
    pub fn close_connections(&self) {
        for stream in self.shared.lock().open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends like a process that is killed: nobody listens, all connections are closed.
    pub fn kill(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The acceptor waits in accept; one connection more lets it see the flag.
        let _ = TcpStream::connect(self.address);
        acceptor.join().expect("the acceptor does not panic");
        self.close_connections();
        self.wait("all connections end", |state| state.open.is_empty());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.kill();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let _ = stream.set_nodelay(true);
            let mut connection = 0;
            let writer = stream.try_clone().expect("descriptors are left");
            self.update(|state| {
                connection = state.accepted;
                state.accepted += 1;
                state.open.insert(connection, writer);
            });
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                let reset = shared.serve(connection, stream);
                shared.forget(connection, reset);
            });
        }
    }

    /// Serves one connection to its end; gives the stream back if it must be reset.
    fn serve(&self, connection: usize, mut stream: TcpStream) -> Option<TcpStream> {
        let mut reader = FrameReader::default();
        while let Ok(Some(message)) = reader.next_frame(&mut stream) {
            match message.frame.kind {
                Kind::Heartbeat => self.answer_heartbeat(connection, &message),
                Kind::Request | Kind::Oneway => {
                    let action = (self.script)(&message);
                    self.note(connection, &message);
                    match action {
                        Action::Close => return None,
                        Action::Reset => return Some(stream),
                        Action::StopReading => return self.sleep_until_stopped(connection),
                        action => self.act(connection, &message, action),
                    }
                    if !self.lock().open.contains_key(&connection) {
                        return None;
                    }
                }
                Kind::Response => {
                    self.update(|state| state.answers.push((message.frame.id, message.frame.status)));
                }
                _ => {}
            }
        }
        None
    }

    /// Ends a connection: by the end of its stream, or by a reset once no other descriptor holds it.
    fn forget(&self, connection: usize, reset: Option<TcpStream>) {
        self.update(|state| {
            state.held.retain(|(held, _)| *held != connection);
            let stream = state.open.remove(&connection);
            match reset {
                Some(stream) => reset_on_close(&stream),
                None => {
                    stream.map(|stream| stream.shutdown(Shutdown::Both));
                }
            }
        });
    }

    fn sleep_until_stopped(&self, connection: usize) -> Option<TcpStream> {
        let mut state = self.lock();
        while !self.stopping.load(Ordering::SeqCst) && state.open.contains_key(&connection) {
            let waited = self.changed.wait_timeout(state, PATIENCE / 100);
            state = waited.expect("no thread of the upstream panics").0;
        }
        None
    }

    fn note(&self, connection: usize, message: &Message) {
        let header = message.frame.header.of(&message.bytes);
        let service = fields::find(header, b"service", 256).ok().flatten();
        let content = message.content();
        let seen = Seen {
            connection,
            id: message.frame.id,
            version: message.frame.version,
            service: service.map(|span| String::from_utf8_lossy(span.of(header)).into_owned()),
            oneway: message.frame.kind == Kind::Oneway,
            content: content[..content.len().min(64)].to_vec(),
        };
        self.update(|state| state.requests.push(seen));
    }

    fn act(&self, connection: usize, message: &Message, action: Action) {
        if message.frame.kind == Kind::Oneway {
            return;
        }
        match action {
            Action::Echo => self.write(connection, &response(message, 0, message.content())),
            Action::Reply(content) => self.write(connection, &response(message, 0, &content)),
            Action::Status(status) => self.write(connection, &response(message, status, b"")),
            Action::Hold => {
                let bytes = response(message, 0, message.content());
                self.update(|state| state.held.push((connection, bytes)));
            }
            Action::Twice => {
                let bytes = response(message, 0, message.content());
                self.write(connection, &[bytes.clone(), bytes].concat());
            }
            Action::Raw(bytes) => self.write(connection, &bytes),
            Action::HalfThenClose => {
                let bytes = response(message, 0, message.content());
                self.write(connection, &bytes[..bytes.len() / 2]);
                self.update(|state| drop(state.open.remove(&connection).map(|s| s.shutdown(Shutdown::Both))));
            }
            Action::Silent | Action::Close | Action::Reset | Action::StopReading => {}
        }
    }

    fn answer_heartbeat(&self, connection: usize, message: &Message) {
        let mut out = [0; 32];
        let length = encode_heartbeat_ack(&message.frame, &mut out);
        self.update(|state| state.heartbeats += 1);
        self.write(connection, &out[..length]);
    }

    /// Whole frames are written one after the other; a peer that is gone is no failure of the test.
    fn write(&self, connection: usize, bytes: &[u8]) {
        let stream = self.lock().open.get(&connection).and_then(|stream| stream.try_clone().ok());
        if let Some(mut stream) = stream {
            let _ = stream.write_all(bytes);
        }
    }
}

/// The response to a request, in its version.
pub fn response(request: &Message, status: u16, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let parts = ResponseParts {
        version: request.frame.version,
        id: request.frame.id,
        codec: request.frame.codec,
        status,
        crc: request.frame.crc,
        class: b"test.Reply",
        header: b"",
        content,
    };
    encode_response(&parts, &mut out).expect("the parts of a test fit");
    out
}
