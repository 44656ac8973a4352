//! A small blocking Bolt client: one connection, one request at a time, every wait bounded. It answers what a server asks
//! meanwhile, and believes no length before its bytes are there.

use std::fmt;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::time::Duration;
use std::time::Instant;

use bowline_protocols::CONTROL_BYTES_MAX;
use bowline_protocols::Fault;
use bowline_protocols::Limits;
use bowline_protocols::bolt::Decoded;
use bowline_protocols::bolt::Frame;
use bowline_protocols::bolt::Kind;
use bowline_protocols::bolt::Status;
use bowline_protocols::bolt::decode;
use bowline_protocols::bolt::encode_error;
use bowline_protocols::bolt::encode_heartbeat_ack;

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientFailure {
    /// The name has no address.
    Name {
        /// The host.
        host: String,
        /// What the system said; nothing if there was an answer without addresses.
        error: Option<io::Error>,
    },
    /// None of the addresses could be connected to.
    Connect {
        /// The last one that was tried.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// It took too long.
    TimedOut(Duration),
    /// The peer ended the connection.
    Closed {
        /// Bytes of a frame that had arrived.
        received: usize,
    },
    /// The peer reset the connection, or it broke.
    Broken(io::Error),
    /// What came is no Bolt.
    Fault(Fault),
    /// An answer to another request came.
    WrongId {
        /// The id that it named.
        received: u32,
        /// The id that was awaited.
        awaited: u32,
    },
    /// The peer said before that it takes no new requests.
    Goaway,
}

impl fmt::Display for ClientFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { host, error: Some(error) } => write!(formatter, "cannot look up {host}: {error}"),
            Self::Name { host, error: None } => write!(formatter, "{host} has no address"),
            Self::Connect { address, error } if error.kind() == ErrorKind::ConnectionRefused => {
                write!(formatter, "cannot connect to {address}: connection refused; nobody listens there")
            }
            Self::Connect { address, error } => write!(formatter, "cannot connect to {address}: {error}"),
            Self::TimedOut(after) => write!(formatter, "timed out after {after:?}"),
            Self::Closed { received: 0 } => formatter.write_str("the peer closed the connection"),
            Self::Closed { received } => {
                write!(formatter, "the peer closed the connection after {received} bytes of a frame")
            }
            Self::Broken(error) => write!(formatter, "the connection broke: {error}"),
            Self::Fault(Fault::CrcMismatch) => {
                formatter.write_str("the checksum of the answer does not match")
            }
            Self::Fault(fault) => write!(formatter, "the peer does not speak Bolt as it should: {fault}"),
            Self::WrongId { received, awaited } => {
                write!(formatter, "the peer answered request {received}, which was not asked; {awaited} was")
            }
            Self::Goaway => {
                formatter.write_str("the peer takes no more requests on this connection (goaway)")
            }
        }
    }
}

impl std::error::Error for ClientFailure {}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status as a number; servers may send any.
    pub(super) status: u16,
    /// From the first byte sent to the last byte received.
    pub(super) elapsed: Duration,
    /// The content.
    pub(super) content: Vec<u8>,
}

/// One connection to a server.
pub(super) struct Client {
    stream: TcpStream,
    timeout: Duration,
    received: Vec<u8>,
    is_leaving: bool,
}

impl Client {
    /// Connects to the first address of `host` that answers; all tries together may take `timeout`.
    pub(super) fn connect(host: &str, port: u16, timeout: Duration) -> Result<Client, ClientFailure> {
        let end = Instant::now() + timeout;
        let name = |error| ClientFailure::Name { host: host.to_owned(), error };
        let addresses = (host, port).to_socket_addrs().map_err(|error| name(Some(error)))?;
        let mut last = name(None);
        for address in addresses {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientFailure::TimedOut(timeout));
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => return Client::over(stream, timeout),
                Err(error) if error.kind() == ErrorKind::TimedOut => last = ClientFailure::TimedOut(timeout),
                Err(error) => last = ClientFailure::Connect { address, error },
            }
        }
        Err(last)
    }

    fn over(stream: TcpStream, timeout: Duration) -> Result<Client, ClientFailure> {
        stream.set_nodelay(true).map_err(ClientFailure::Broken)?;
        Ok(Client { stream, timeout, received: Vec::new(), is_leaving: false })
    }

    /// Sends `request`, whose id is `id`, and waits for its answer.
    pub(super) fn call(&mut self, id: u32, request: &[u8]) -> Result<Answer, ClientFailure> {
        if self.is_leaving {
            return Err(ClientFailure::Goaway);
        }
        let began = Instant::now();
        let end = began + self.timeout;
        self.send(request, end)?;
        loop {
            let frame = self.receive(end)?;
            let total = frame.total_bytes as usize;
            match frame.kind {
                Kind::Response if frame.id == id => {
                    let content = frame.content.of(&self.received).to_vec();
                    self.received.drain(..total);
                    return Ok(Answer { status: frame.status, elapsed: began.elapsed(), content });
                }
                Kind::Response => return Err(ClientFailure::WrongId { received: frame.id, awaited: id }),
                _ => self.on_other(&frame, end)?,
            }
            self.received.drain(..total);
        }
    }

    /// Answers what a server asks: heartbeats, and calls, which nobody serves here.
    fn on_other(&mut self, frame: &Frame, end: Instant) -> Result<(), ClientFailure> {
        let mut out = [0; CONTROL_BYTES_MAX];
        let length = match frame.kind {
            Kind::Heartbeat => encode_heartbeat_ack(frame, &mut out),
            Kind::Request => encode_error(frame, Status::NoProcessor, &mut out),
            Kind::Goaway => {
                self.is_leaving = true;
                0
            }
            Kind::Oneway | Kind::HeartbeatAck | Kind::Response => 0,
        };
        self.send(&out[..length], end)
    }

    /// The next whole frame, at the start of what was received; its checksum is right.
    fn receive(&mut self, end: Instant) -> Result<Frame, ClientFailure> {
        loop {
            let need = match decode(&self.received, &LIMITS).map_err(ClientFailure::Fault)? {
                Decoded::Frame(frame) => {
                    frame.check_crc(&self.received).map_err(ClientFailure::Fault)?;
                    return Ok(frame);
                }
                Decoded::Need(need) => need,
            };
            while self.received.len() < need {
                self.read_some(end)?;
            }
        }
    }

    fn read_some(&mut self, end: Instant) -> Result<(), ClientFailure> {
        let left = self.left(end)?;
        self.stream.set_read_timeout(Some(left)).map_err(ClientFailure::Broken)?;
        let before = self.received.len();
        self.received.resize(before + READ_BYTES, 0);
        let read = self.stream.read(&mut self.received[before..]);
        self.received.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(ClientFailure::Closed { received: before }),
            Ok(_) => Ok(()),
            Err(error) => self.judge(error),
        }
    }

    fn send(&mut self, mut bytes: &[u8], end: Instant) -> Result<(), ClientFailure> {
        while !bytes.is_empty() {
            let left = self.left(end)?;
            self.stream.set_write_timeout(Some(left)).map_err(ClientFailure::Broken)?;
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => self.judge(error)?,
            }
        }
        Ok(())
    }

    /// How long may still be waited.
    fn left(&self, end: Instant) -> Result<Duration, ClientFailure> {
        let left = end.saturating_duration_since(Instant::now());
        // The system rounds to its own ticks; less than this would be no timeout at all.
        if left < Duration::from_micros(1) { Err(ClientFailure::TimedOut(self.timeout)) } else { Ok(left) }
    }

    /// Whether it makes sense to try again.
    fn judge(&self, error: io::Error) -> Result<(), ClientFailure> {
        match error.kind() {
            ErrorKind::Interrupted => Ok(()),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(ClientFailure::TimedOut(self.timeout)),
            _ => Err(ClientFailure::Broken(error)),
        }
    }
}

/// A server is trusted more than a client is, but not with all memory.
const LIMITS: Limits = Limits {
    content_bytes_max: 1 << 30,
    class_header_bytes_max: 128 << 10,
    header_fields_max: 256,
    crc_verify: true,
};

/// Read at a time.
const READ_BYTES: usize = 64 << 10;
