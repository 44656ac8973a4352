//! Streams that are far longer than the memory of the gateway: every byte arrives in its place, in both directions, while the
//! process stays below a bound, whatever it has buffered, of its own program and of what it shares.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use bowline_tests::sockets::dial;
use bowline_tests::websocket::listener;
use bowline_tests::{Gateway, Mode, PATIENCE, each_mode};

use crate::deep_or;

/// What the process may take.
const MEMORY_BYTES_MAX: u64 = 64 << 20;
/// The length after which the pattern begins anew; no power of two, so that no buffer of one hides a shift.
const PERIOD: usize = (1 << 20) - 3;
/// What is read at a time.
const READ_BYTES: usize = 256 << 10;

/// How long a stream is.
fn stream_bytes() -> u64 {
    deep_or(10 << 30, 256 << 20)
}

/// Bytes that differ by place, so that a lost or doubled piece is noticed.
fn pattern() -> Vec<u8> {
    (0..PERIOD as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Sends a whole stream.
fn feed(mut to: &TcpStream) {
    let pattern = pattern();
    let mut left = stream_bytes();
    while left > 0 {
        let bytes = pattern.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        to.write_all(&pattern[..bytes]).expect("it is taken");
        left -= bytes as u64;
    }
}

/// Reads a whole stream and compares every byte of it; calls `look` now and then.
fn check(mut from: &TcpStream, mut look: impl FnMut()) {
    let pattern = pattern();
    let (mut buffer, mut read, mut since) = (vec![0; READ_BYTES], 0_u64, 0);
    while read < stream_bytes() {
        let at = usize::try_from(read % PERIOD as u64).expect("less than a period");
        let most =
            READ_BYTES.min(PERIOD - at).min(usize::try_from(stream_bytes() - read).unwrap_or(READ_BYTES));
        let bytes = from.read(&mut buffer[..most]).expect("it goes on");
        assert!(bytes > 0, "it ended after {read} bytes");
        assert!(buffer[..bytes] == pattern[at..at + bytes], "a byte behind {read} is another");
        read += bytes as u64;
        since += bytes;
        if since > 16 << 20 {
            since = 0;
            look();
        }
    }
}

/// The most that a process was seen to take.
struct Most<'a> {
    gateway: &'a Gateway,
    bytes: u64,
}

impl<'a> Most<'a> {
    fn of(gateway: &'a Gateway) -> Most<'a> {
        Most { gateway, bytes: 0 }
    }

    fn look(&mut self) {
        self.bytes = self.bytes.max(self.gateway.proportional_bytes());
    }

    fn judge(&self, what: &str) {
        eprintln!("{what}: {} KiB at most", self.bytes >> 10);
        assert!(self.bytes > 0 && self.bytes < MEMORY_BYTES_MAX, "{what}: {} bytes", self.bytes);
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("the gateway connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

/// Reads a head, and not a byte more.
fn head(mut from: &TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        from.read_exact(&mut byte).expect("a head comes");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head is text")
}

fn say(mut to: &TcpStream, text: &str) {
    to.write_all(text.as_bytes()).expect("it is open");
}

/// A gateway in front of a server that the test plays, and its client.
fn opened(
    protocol: fn(Mode, std::net::SocketAddr, &[&str]) -> Gateway,
    mode: Mode,
) -> (Gateway, TcpListener, TcpStream) {
    let listener = listener();
    let gateway = protocol(mode, listener.local_addr().expect("it is bound"), &[]);
    let client = dial(gateway.address());
    (gateway, listener, client)
}

#[test]
fn a_request_of_ten_gigabytes_comes_whole_through_little_memory() {
    each_mode(|mode| {
        let (gateway, listener, client) = opened(Gateway::http, mode);
        let mut most = Most::of(&gateway);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let server = accept(&listener);
                assert!(head(&server).starts_with("POST /sink "));
                check(&server, || most.look());
                say(&server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            });
            let length = stream_bytes();
            say(&client, &format!("POST /sink HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"));
            feed(&client);
            assert!(head(&client).starts_with("HTTP/1.1 200 "));
        });
        most.judge("upload");
    });
}

#[test]
fn an_answer_of_ten_gigabytes_comes_whole_through_little_memory() {
    each_mode(|mode| {
        let (gateway, listener, client) = opened(Gateway::http, mode);
        let mut most = Most::of(&gateway);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let server = accept(&listener);
                assert!(head(&server).starts_with("GET /source "));
                say(&server, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", stream_bytes()));
                feed(&server);
            });
            say(&client, "GET /source HTTP/1.1\r\nHost: test\r\n\r\n");
            assert!(head(&client).starts_with("HTTP/1.1 200 "));
            check(&client, || most.look());
        });
        most.judge("download");
    });
}

#[test]
fn ten_gigabytes_each_way_come_whole_through_a_tunnel_of_little_memory() {
    each_mode(|mode| {
        let (gateway, listener, client) = opened(Gateway::tunnel, mode);
        say(&client, "!");
        let mut server = accept(&listener);
        server.read_exact(&mut [0]).expect("the first byte");
        let mut most = Most::of(&gateway);
        std::thread::scope(|scope| {
            let (client, server) = (&client, &server);
            scope.spawn(|| {
                feed(client);
                client.shutdown(Shutdown::Write).expect("it is open");
            });
            scope.spawn(|| feed(server));
            scope.spawn(|| check(server, || {}));
            check(client, || most.look());
        });
        most.judge("both ways");
    });
}
