//! Owns a small blocking HTTP/1.1 client and a scripted server on plain sockets, and the reading of messages, by a parser of
//! its own, so that the gateway's codec is not judged by itself. Refuses to be strict: what must be refused is the
//! gateway's matter. One connection each, no reconnect.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use crate::sockets;
use crate::sockets::reset_on_close;
use crate::wait::PATIENCE;

/// A message, without the framing of its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpMessage {
    /// The first line.
    pub line: String,
    /// The fields, in order.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpMessage {
    /// The status of a response.
    ///
    /// # Panics
    /// When it is none.
    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
    }

    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The path of a request.
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// One connection and what was read of it and belongs to no message yet.
#[derive(Debug)]
pub struct HttpStream {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl HttpStream {
    /// A client's connection.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(sockets::dial(address))
    }

    /// A connection that is there.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the connection is open");
    }

    /// The next whole message; nothing if the connection ends before one. `bodiless` for the answer to HEAD.
    pub fn receive(&mut self, bodiless: bool) -> io::Result<Option<HttpMessage>> {
        let Some(mut message) = self.head()? else { return Ok(None) };
        let status = message.line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse::<u16>().ok());
        let length = message.field("content-length").map(str::parse).transpose();
        let length: Option<usize> = length.map_err(|_| io::ErrorKind::InvalidData)?;
        message.body = if bodiless || matches!(status, Some(100..=199 | 204 | 304)) {
            Vec::new()
        } else if message.field("transfer-encoding").is_some() {
            self.chunks()?
        } else if let Some(length) = length {
            self.exactly(length)?
        } else if status.is_some() {
            self.stream.read_to_end(&mut self.rest)?;
            std::mem::take(&mut self.rest)
        } else {
            Vec::new()
        };
        Ok(Some(message))
    }

    /// The next message, which must come.
    ///
    /// # Panics
    /// When the connection ends before it.
    pub fn answer(&mut self) -> HttpMessage {
        self.receive(false).expect("the connection holds").expect("an answer comes")
    }

    /// Sends GET and returns the answer.
    pub fn get(&mut self, path: &str) -> HttpMessage {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.answer()
    }

    /// The next so many bytes.
    pub fn exactly(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut whole = self.rest.drain(..bytes.min(self.rest.len())).collect::<Vec<_>>();
        let have = whole.len();
        whole.resize(bytes, 0);
        self.stream.read_exact(&mut whole[have..])?;
        Ok(whole)
    }

    /// Everything until the end, and how the connection ended.
    pub fn to_end(&mut self) -> (Vec<u8>, sockets::End) {
        let (bytes, end) = sockets::read_to_end(&mut self.stream);
        ([std::mem::take(&mut self.rest), bytes].concat(), end)
    }

    fn head(&mut self) -> io::Result<Option<HttpMessage>> {
        let Some(head) = self.until(b"\r\n\r\n")? else { return Ok(None) };
        let head = String::from_utf8(head).expect("the heads of these tests are text");
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a field");
            (name.to_owned(), value.to_owned())
        };
        let fields = lines.filter(|line| !line.is_empty()).map(field).collect();
        Ok(Some(HttpMessage { line, fields, body: Vec::new() }))
    }

    /// Up to and with `mark`; nothing if the connection ends before a byte came.
    fn until(&mut self, mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let found = self.rest[searched..].windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                return Ok(Some(self.rest.drain(..searched + at + mark.len()).collect()));
            }
            searched = self.rest.len().saturating_sub(mark.len() - 1);
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk)? {
                0 if self.rest.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.rest.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = std::str::from_utf8(&line).expect("a chunk size is text").trim_end();
            let size = usize::from_str_radix(size, 16).expect("a chunk size");
            body.extend(self.exactly(size)?);
            if size > 0 {
                assert_eq!(self.exactly(2)?, b"\r\n", "a chunk ends with its line");
                continue;
            }
            // Trailers, up to the empty line.
            while self.until(b"\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)? != b"\r\n" {}
            return Ok(body);
        }
    }
}

/// What a server does with a request.
#[derive(Clone, Debug)]
pub enum HttpAction {
    /// Answers 200 with this body.
    Reply(Vec<u8>),
    /// Answers 200 with the request's own body, in chunks if it came so.
    Echo,
    /// Sends these bytes instead.
    Raw(Vec<u8>),
    /// Sends these bytes and closes.
    RawThenClose(Vec<u8>),
    /// Sends these bytes and resets.
    RawThenReset(Vec<u8>),
    /// Sends these bytes and sends back what comes then, until the client has said everything.
    RawThenMirror(Vec<u8>),
    /// Answers with the body at [`HttpServer::release`].
    Hold(Vec<u8>),
    /// Closes.
    Close,
    /// Never answers.
    Silent,
}

/// What a server has seen.
#[derive(Debug, Default)]
pub struct HttpSeen {
    /// Connections accepted.
    pub accepted: usize,
    /// Connections that are open.
    pub open: usize,
    /// First lines of whole requests, in order.
    pub lines: Vec<String>,
    /// Requests that wait for [`HttpServer::release`].
    pub held: usize,
    released: bool,
}

type Script = dyn Fn(&HttpMessage) -> HttpAction + Send + Sync;

struct Shared {
    script: Box<Script>,
    seen: Mutex<HttpSeen>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HttpSeen> {
        self.seen.lock().expect("no thread of the server panicked")
    }

    fn note(&self, change: impl FnOnce(&mut HttpSeen)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait(&self, what: &str, done: impl Fn(&HttpSeen) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut seen = self.lock();
        while !done(&seen) {
            assert!(Instant::now() < end, "not in time: {what}: {seen:?}");
            seen = self.changed.wait_timeout(seen, PATIENCE).expect("no thread panicked").0;
        }
    }
}

/// A server of HTTP under control of the test. Its threads end with their connections.
pub struct HttpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for HttpServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HttpServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl HttpServer {
    /// A server on a free port.
    pub fn start(script: impl Fn(&HttpMessage) -> HttpAction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared =
            Arc::new(Shared { script: Box::new(script), seen: Mutex::default(), changed: Condvar::new() });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                own.note(|seen| (seen.accepted, seen.open) = (seen.accepted + 1, seen.open + 1));
                let own = Arc::clone(&own);
                std::thread::spawn(move || {
                    serve(stream, &own);
                    own.note(|seen| seen.open -= 1);
                });
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen.
    pub fn seen(&self) -> MutexGuard<'_, HttpSeen> {
        self.shared.lock()
    }

    /// Waits until it has seen something.
    ///
    /// # Panics
    /// When that does not come within [`PATIENCE`].
    pub fn wait(&self, what: &str, done: impl Fn(&HttpSeen) -> bool) {
        self.shared.wait(what, done);
    }

    /// Lets all answers go that are held, and those that would be.
    pub fn release(&self) {
        self.shared.note(|seen| seen.released = true);
    }
}

/// Serves one connection until it ends; errors of the socket end it.
fn serve(stream: TcpStream, shared: &Shared) {
    stream.set_nodelay(true).expect("a TCP socket");
    let mut http = HttpStream::over(stream);
    while let Ok(Some(request)) = http.receive(false) {
        shared.note(|seen| seen.lines.push(request.line.clone()));
        let action = (shared.script)(&request);
        if perform(action, &request, &mut http, shared).is_err() {
            return;
        }
    }
}

fn perform(
    action: HttpAction,
    request: &HttpMessage,
    http: &mut HttpStream,
    shared: &Shared,
) -> io::Result<()> {
    let is_chunked = request.field("transfer-encoding").is_some();
    match action {
        HttpAction::Reply(body) => http.stream.write_all(&response(&body)),
        HttpAction::Echo if is_chunked => http.stream.write_all(&chunked_response(&request.body)),
        HttpAction::Echo => http.stream.write_all(&response(&request.body)),
        HttpAction::Raw(bytes) => http.stream.write_all(&bytes),
        HttpAction::RawThenClose(bytes) => {
            http.stream.write_all(&bytes)?;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        HttpAction::RawThenReset(bytes) => {
            http.stream.write_all(&bytes)?;
            reset_on_close(&http.stream);
            Err(io::ErrorKind::ConnectionReset.into())
        }
        HttpAction::RawThenMirror(bytes) => {
            http.stream.write_all(&bytes)?;
            http.stream.write_all(&std::mem::take(&mut http.rest))?;
            let mut reading = http.stream.try_clone()?;
            io::copy(&mut reading, &mut http.stream)?;
            http.stream.shutdown(Shutdown::Write)?;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        HttpAction::Hold(body) => {
            shared.note(|seen| seen.held += 1);
            shared.wait("the test lets it go", |seen| seen.released);
            http.stream.write_all(&response(&body))
        }
        HttpAction::Close => Err(io::ErrorKind::UnexpectedEof.into()),
        HttpAction::Silent => Ok(()),
    }
}

/// A 200 with a body of a declared length.
pub fn response(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// A 200 with a body in chunks.
pub fn chunked_response(body: &[u8]) -> Vec<u8> {
    [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &chunked(body)].concat()
}

/// A body in chunks, with the last one.
pub fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / 100 + 100);
    for part in body.chunks(10_000) {
        out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
