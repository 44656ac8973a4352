//! Owns clients that do not read: each asks for something and leaves the answer where it is, until the measurement beside them
//! has ended. Then each reads and verifies all of it: slowness is no reason to lose a byte. One thread, blocking sockets,
//! every wait bounded.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use bowline_protocols::Limits;
use serde::Serialize;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;

use crate::trouble::Trouble;
use crate::wire::Inbox;
use crate::wire::Shape;
use crate::wire::ShapeOptions;

/// The clients.
#[derive(Debug)]
pub struct Stalled {
    shape: Shape,
    bytes: usize,
    streams: Vec<TcpStream>,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct StalledReport {
    /// Clients.
    pub clients: usize,
    /// What waited for each.
    pub bytes: usize,
    /// Read all of their answer in the end, and it was right.
    pub answered: usize,
    /// Were closed instead, as a gateway may do to slow readers.
    pub closed: usize,
    /// Were answered with a status: there was no room for what they asked.
    pub refused: usize,
    /// Read something else.
    pub corrupted: usize,
}

impl Stalled {
    /// Connects, asks, and reads nothing.
    pub fn start(to: SocketAddr, clients: usize, bytes: usize) -> Result<Self, Trouble> {
        let options = ShapeOptions { content_bytes: bytes, reply_bytes: bytes, ..ShapeOptions::default() };
        let shape = Shape::new(&options)?;
        let mut streams = Vec::new();
        let (mut content, mut request) = (Vec::new(), Vec::new());
        for client in 0..clients {
            let mut stream = connect(to).map_err(Trouble::doing(format!("connecting to {to}")))?;
            request.clear();
            shape.append_request(number(client), ID, &mut content, &mut request);
            stream
                .write_all(&request)
                .map_err(Trouble::doing("sending a request of a client that stalls"))?;
            streams.push(stream);
            // All at once would be a flood of requests, which is another matter than answers that are not read.
            thread::sleep(STEP);
        }
        Ok(Self { shape, bytes, streams })
    }

    /// Reads what waits for each.
    pub fn read_all(self) -> Result<StalledReport, Trouble> {
        let deadline = Instant::now() + READ_MAX;
        let mut report =
            StalledReport { clients: self.streams.len(), bytes: self.bytes, ..StalledReport::default() };
        let mut buffer = vec![0; READ_BYTES];
        for (client, mut stream) in self.streams.into_iter().enumerate() {
            match read_answer(&self.shape, number(client), &mut stream, &mut buffer, deadline) {
                Ok(Answer::Right) => report.answered += 1,
                Ok(Answer::Refused) => report.refused += 1,
                Ok(Answer::Wrong) => report.corrupted += 1,
                Err(_) => report.closed += 1,
            }
        }
        Ok(report)
    }
}

impl StalledReport {
    /// Whether each got its answer, was refused or was closed for being slow.
    pub const fn ok(&self) -> bool {
        self.corrupted == 0 && self.answered + self.closed + self.refused == self.clients
    }
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Right,
    Refused,
    Wrong,
}

/// Reads the answer; an error when the connection ends without one.
fn read_answer(
    shape: &Shape,
    connection: u64,
    stream: &mut TcpStream,
    buffer: &mut [u8],
    deadline: Instant,
) -> io::Result<Answer> {
    let mut inbox = Inbox::default();
    let mut came = None;
    loop {
        if let Some(answer) = came {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let count = match stream.read(buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => count,
        };
        let fed = inbox.feed(&buffer[..count], &Limits::default(), |frame, bytes| {
            let right = frame.id == ID && shape.is_answer(connection, ID, frame, bytes);
            came = Some(match frame.status {
                0 if right => Answer::Right,
                0 => Answer::Wrong,
                _ => Answer::Refused,
            });
        });
        if fed.is_err() {
            return Ok(Answer::Wrong);
        }
    }
}

/// With as little room for what arrives as the kernel allows.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    socket.connect_timeout(&to.into(), WAIT_MAX)?;
    socket.set_read_timeout(Some(WAIT_MAX))?;
    socket.set_write_timeout(Some(WAIT_MAX))?;
    Ok(socket.into())
}

/// Apart from the connections of the load beside them.
fn number(client: usize) -> u64 {
    1 << 40 | client as u64
}

const ID: u32 = 1;
const STEP: Duration = Duration::from_millis(10);
const RECEIVE_BYTES: usize = 4 << 10;
const READ_BYTES: usize = 64 << 10;
const WAIT_MAX: Duration = Duration::from_secs(10);
const READ_MAX: Duration = Duration::from_secs(120);
