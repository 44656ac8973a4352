//! Owns what tests do with plain sockets: connect with a small window, end with a reset, find an address where nobody
//! listens, ask an HTTP question. Refuses protocols beyond that.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use socket2::{SockFilter, SockRef};

use crate::wait::PATIENCE;

/// A connection whose reads give up after [`PATIENCE`].
pub fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
    prepare(stream)
}

/// The same, or nothing if it is reset before this side has seen that it was accepted.
pub fn try_dial(address: SocketAddr) -> Option<TcpStream> {
    unless_reset(TcpStream::connect_timeout(&address, PATIENCE))
}

fn unless_reset(connected: io::Result<TcpStream>) -> Option<TcpStream> {
    match connected {
        Ok(stream) => Some(prepare(stream)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
        Err(error) => panic!("it listens: {error}"),
    }
}

/// A connection that holds only about `bytes` of input in the kernel, so that a test that does not read is noticed soon.
pub fn dial_narrow(address: SocketAddr, bytes: usize) -> TcpStream {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&fd, sockopt::RcvBuf, &bytes).expect("the buffer is set before the window is agreed on");
    connect(fd.as_raw_fd(), &SockaddrStorage::from(address)).expect("it listens");
    prepare(TcpStream::from(fd))
}

/// A connection from a local address of the test's choice; all of 127/8 is local. Nothing if it is reset
/// as in [`try_dial`].
pub fn try_dial_from(source: SocketAddr, address: SocketAddr) -> Option<TcpStream> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    let raw = fd.as_raw_fd();
    bind(raw, &SockaddrStorage::from(source)).expect("a local address");
    let connected = connect(raw, &SockaddrStorage::from(address));
    unless_reset(connected.map(|()| TcpStream::from(fd)).map_err(io::Error::from))
}

fn prepare(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

/// Makes the next close of this socket send a reset.
pub fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(stream, sockopt::Linger, &linger).expect("a TCP socket");
}

/// From now on nothing that arrives reaches this socket, and nothing is acknowledged: what is left of a connection whose
/// other end lost its power or its network.
pub fn vanish(stream: &TcpStream) {
    // The classic filter program "return 0": take no byte of any packet.
    let take_nothing = SockFilter::new(0x06, 0, 0, 0);
    SockRef::from(stream).attach_filter(&[take_nothing]).expect("a TCP socket");
}

/// An address where nobody listens: a connect is refused at once.
pub fn refused() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// How the other side ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It said so: end of stream.
    Closed,
    /// It was reset.
    Reset,
}

/// Reads until the connection ends; what came until then, and how it ended.
///
/// # Panics
/// When it does not end within [`PATIENCE`].
pub fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 64 << 10];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (bytes, End::Closed),
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) if is_reset(&error) => return (bytes, End::Reset),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("the connection did not end: {error}"),
        }
    }
}

/// Whether an error means that the other side reset the connection.
pub fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Sends GET and returns status and body; nothing if nobody listens any more.
pub fn http_get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some((status, if chunked { unchunked(body) } else { body.to_owned() }))
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    whole
}
