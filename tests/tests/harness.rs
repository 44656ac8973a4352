//! The harness itself, without a gateway between: what other tests rely on must hold before they blame the gateway.

use std::io::{self, Read, Write};

use bowline_protocols::bolt::{Kind, Status, Version};
use bowline_protocols::testing::VERSIONS;
use bowline_tests::bolt::FrameReader;
use bowline_tests::sockets::{End, dial, read_to_end, refused, reset_on_close};
use bowline_tests::{Action, BoltClient, Call, Upstream};

fn by_content() -> Upstream {
    Upstream::start(|request| match request.content() {
        b"reply" => Action::Reply(b"other".to_vec()),
        b"busy" => Action::Status(Status::ServerThreadpoolBusy.code()),
        b"hold" => Action::Hold,
        b"twice" => Action::Twice,
        b"close" => Action::Close,
        b"reset" => Action::Reset,
        b"half" => Action::HalfThenClose,
        b"raw" => Action::Raw(b"\x09garbage".to_vec()),
        _ => Action::Echo,
    })
}

/// Hands out one byte at a time, and is interrupted before each.
struct Interrupted<'a> {
    bytes: &'a [u8],
    is_next: bool,
}

impl Read for Interrupted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.is_next = !self.is_next;
        if self.is_next {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.bytes.read(&mut into[..1])
    }
}

#[test]
fn a_read_that_a_signal_interrupts_goes_on() {
    let bytes = Call::new("hello").bytes(7);
    let mut stream = Interrupted { bytes: &bytes, is_next: false };
    let mut reader = FrameReader::default();
    let message = reader.next_frame(&mut stream).expect("nothing failed").expect("there is a frame");
    assert_eq!((message.frame.id, message.content()), (7, &b"hello"[..]));
    assert!(reader.next_frame(&mut stream).expect("nothing failed").is_none(), "that was all");
}

#[test]
fn a_client_calls_a_server_in_every_version() {
    let upstream = Upstream::echo();
    let mut client = BoltClient::connect(upstream.address());
    for (version, crc) in VERSIONS {
        for size in [0, 1, 4096, 4 << 20] {
            let answer = client.call(&Call::new(vec![7; size]).version(version, crc));
            assert_eq!((answer.frame.version, answer.frame.crc), (version, crc));
            assert_eq!(answer.content().len(), size);
        }
    }
    client.heartbeat(Version::V1);
    client.heartbeat(Version::V2 { ver1: 1 });
    assert_eq!(upstream.state().heartbeats, 2);
    assert_eq!(upstream.state().requests[0].service.as_deref(), Some("demo"));
}

#[test]
fn the_script_decides() {
    let upstream = by_content();
    let mut client = BoltClient::connect(upstream.address());
    assert_eq!(client.call(&Call::new("reply")).content(), b"other");
    assert_eq!(client.call(&Call::new("busy")).status(), Status::ServerThreadpoolBusy);
    let id = client.send(&Call::new("twice"));
    assert_eq!([client.receive().frame.id, client.receive().frame.id], [id, id]);
    client.send(&Call::new("raw"));
    let mut bytes = [0; 8];
    client.stream().read_exact(&mut bytes).expect("it is sent as it is");
    assert_eq!(&bytes, b"\x09garbage");
}

#[test]
fn what_is_held_is_answered_at_release() {
    let upstream = by_content();
    let mut client = BoltClient::connect(upstream.address());
    let held = client.send(&Call::new("hold"));
    client.echo(b"meanwhile");
    upstream.wait("it is held", |state| state.held() == 1);
    upstream.release();
    let answer = client.receive();
    assert_eq!((answer.frame.kind, answer.frame.id), (Kind::Response, held));
}

#[test]
fn connections_end_as_the_script_says() {
    let upstream = by_content();
    for (content, end) in [("close", End::Closed), ("reset", End::Reset)] {
        let mut client = BoltClient::connect(upstream.address());
        client.send(&Call::new(content));
        assert_eq!(client.end(), end, "{content}");
    }
    let mut client = BoltClient::connect(upstream.address());
    client.send(&Call::new("half"));
    let (bytes, _) = read_to_end(client.stream());
    assert!(!bytes.is_empty() && bytes.len() < 40, "{bytes:?}");
    upstream.wait("all are forgotten", |state| state.connections() == 0);
}

#[test]
fn a_server_can_be_killed_and_come_back() {
    let mut upstream = Upstream::echo();
    let address = upstream.address();
    let mut client = BoltClient::connect(address);
    client.echo(b"before");
    upstream.kill();
    assert_eq!(client.end(), End::Closed);
    let _again = Upstream::start_at(address, |_| Action::Echo);
    BoltClient::connect(address).echo(b"after");
}

#[test]
fn a_reset_reaches_the_server() {
    let upstream = Upstream::echo();
    let mut stream = dial(upstream.address());
    stream.write_all(&Call::new("x").bytes(1)).expect("it is open");
    upstream.wait("it came", |state| state.requests.len() == 1);
    reset_on_close(&stream);
    drop(stream);
    upstream.wait("it is gone", |state| state.connections() == 0);
}

#[test]
fn nobody_listens_where_it_is_refused() {
    std::net::TcpStream::connect(refused()).expect_err("nobody listens");
}
