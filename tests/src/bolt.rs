//! Owns a small blocking Bolt client and the reading of frames from a socket. Refuses to be clever: one connection, ids
//! chosen here or by the test, no reconnect. Used by tests and by the scripted upstream.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bowline_protocols::Limits;
use bowline_protocols::bolt::{
    Decoded, Frame, Kind, RequestParts, Status, Version, decode, encode_heartbeat, encode_request, fields,
};

use crate::sockets;
use crate::sockets::End;

/// A request as a test wants it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The version of the frame.
    pub version: Version,
    /// Whether it ends with a CRC.
    pub crc: bool,
    /// True for a call that nothing answers.
    pub oneway: bool,
    /// The deadline in the frame; -1 for none.
    pub timeout_ms: i32,
    /// The header block.
    pub header: Vec<u8>,
    /// The class name.
    pub class: Vec<u8>,
    /// The content.
    pub content: Vec<u8>,
}

impl Call {
    /// A v1 request for service `demo` without a deadline of its own.
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        Self {
            version: Version::V1,
            crc: false,
            oneway: false,
            timeout_ms: -1,
            header: fields::encode(&[("service", "demo")]),
            class: b"test.Call".to_vec(),
            content: content.into(),
        }
    }

    /// For another service.
    pub fn service(mut self, service: &str) -> Self {
        self.header = fields::encode(&[("service", service)]);
        self
    }

    /// With a deadline.
    pub fn timeout_ms(mut self, timeout_ms: i32) -> Self {
        self.timeout_ms = timeout_ms;
        self
    }

    /// Of another version.
    pub fn version(mut self, version: Version, crc: bool) -> Self {
        (self.version, self.crc) = (version, crc);
        self
    }

    /// Without an answer.
    pub fn oneway(mut self) -> Self {
        self.oneway = true;
        self
    }

    /// The frame.
    pub fn bytes(&self, id: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let parts = RequestParts {
            version: self.version,
            oneway: self.oneway,
            id,
            codec: 1,
            timeout_ms: self.timeout_ms,
            crc: self.crc,
            class: &self.class,
            header: &self.header,
            content: &self.content,
        };
        encode_request(&parts, &mut out).expect("the parts of a test fit");
        out
    }
}

/// A frame that came in.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its fixed part.
    pub frame: Frame,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Message {
    /// The content.
    pub fn content(&self) -> &[u8] {
        self.frame.content.of(&self.bytes)
    }

    /// The status of a response.
    pub fn status(&self) -> Status {
        Status::from_code(self.frame.status).expect("a status that Java knows")
    }

    /// The value of a header field.
    pub fn field(&self, key: &str) -> Option<String> {
        let header = self.frame.header.of(&self.bytes);
        let span = fields::find(header, key.as_bytes(), 256).expect("a well-formed header")?;
        Some(String::from_utf8_lossy(span.of(header)).into_owned())
    }
}

/// Finds frames in a stream of bytes. It holds no descriptor, so that a test can have many thousands.
#[derive(Debug)]
pub struct FrameReader {
    bytes: Vec<u8>,
    chunk: Vec<u8>,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self { bytes: Vec::new(), chunk: vec![0; 64 << 10] }
    }
}

impl FrameReader {
    /// The next frame; nothing at the end of the stream.
    ///
    /// # Panics
    /// On bytes that are no frame, on a wrong CRC, and on a stream that ends inside of a frame.
    pub fn next_frame(&mut self, stream: &mut impl Read) -> io::Result<Option<Message>> {
        let limits = Limits { content_bytes_max: 64 << 20, ..Limits::default() };
        loop {
            let need = match decode(&self.bytes, &limits).expect("a frame") {
                Decoded::Frame(frame) => return Ok(Some(self.take(frame))),
                Decoded::Need(need) => need,
            };
            while self.bytes.len() < need {
                let length = match stream.read(&mut self.chunk) {
                    // A process that was stopped and goes on comes back from a read that has a timeout like this.
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    other => other?,
                };
                if length == 0 {
                    assert!(self.bytes.is_empty(), "the stream ended inside of a frame: {:?}", self.bytes);
                    return Ok(None);
                }
                self.bytes.extend_from_slice(&self.chunk[..length]);
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Message {
        let rest = self.bytes.split_off(frame.total_bytes as usize);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        frame.check_crc(&bytes).expect("the CRC is right");
        Message { frame, bytes }
    }
}

/// One connection to a Bolt server.
#[derive(Debug)]
pub struct BoltClient {
    stream: TcpStream,
    reader: FrameReader,
    /// The id of the next call.
    pub next_id: u32,
}

impl BoltClient {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(sockets::dial(address))
    }

    /// Connects with a small receive buffer, see [`sockets::dial_narrow`].
    pub fn connect_narrow(address: SocketAddr, bytes: usize) -> Self {
        Self::over(sockets::dial_narrow(address, bytes))
    }

    /// Takes a connection that exists.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, reader: FrameReader::default(), next_id: 1 }
    }

    /// The socket, for what only a socket can do.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a request and returns its id.
    pub fn send(&mut self, call: &Call) -> u32 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.send_bytes(&call.bytes(id));
        id
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection takes it");
    }

    /// The next frame.
    ///
    /// # Panics
    /// When none comes, or the connection ends.
    pub fn receive(&mut self) -> Message {
        match self.reader.next_frame(&mut self.stream) {
            Ok(Some(message)) => message,
            Ok(None) => panic!("closed instead of an answer"),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Sends a request and returns its answer; nothing else may come first.
    pub fn call(&mut self, call: &Call) -> Message {
        let id = self.send(call);
        let answer = self.receive();
        assert_eq!((answer.frame.kind, answer.frame.id), (Kind::Response, id), "the answer to this call");
        answer
    }

    /// Sends `content` and expects it back.
    pub fn echo(&mut self, content: &[u8]) {
        let answer = self.call(&Call::new(content));
        assert_eq!(answer.status(), Status::Success);
        assert!(answer.content() == content, "the echo is the same");
    }

    /// Sends a heartbeat and expects its answer.
    pub fn heartbeat(&mut self, version: Version) {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let mut out = [0; 32];
        let length = encode_heartbeat(version, id, &mut out);
        self.send_bytes(&out[..length]);
        let answer = self.receive();
        assert_eq!(
            (answer.frame.kind, answer.frame.id, answer.frame.version),
            (Kind::HeartbeatAck, id, version)
        );
    }

    /// Waits until the server ends the connection; no frame may come before.
    pub fn end(&mut self) -> End {
        match self.reader.next_frame(&mut self.stream) {
            Ok(None) => End::Closed,
            Ok(Some(message)) => panic!("an answer instead of the end: {:?}", message.frame),
            Err(error) if sockets::is_reset(&error) => End::Reset,
            Err(error) => panic!("the connection did not end: {error}"),
        }
    }
}
