//! `bowline call` as a process against servers that are scripted byte by byte, good ones and bad ones: what it prints,
//! what it says, how it ends, and that nothing a server does makes it wait beyond its timeout.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread::JoinHandle;

use bowline_protocols::Limits;
use bowline_protocols::bolt::{
    Decoded, Frame, Kind, Version, decode, encode_goaway, encode_heartbeat, fields,
};
use bowline_protocols::testing::{request, response};

/// A server that takes one connection.
struct Server {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Server {
    fn start(script: impl FnOnce(&mut Peer) + Send + 'static) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the call connects");
            script(&mut Peer { stream, received: Vec::new() });
        });
        Server { address, thread }
    }

    /// Calls it with these flags; the script must have gone as it was written.
    fn call(self, flags: &[&str]) -> Said {
        let said = call(&format!("bolt://{}", self.address), flags);
        self.thread.join().expect("the script went well");
        said
    }
}

/// The caller, as its server sees it.
struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Peer {
    /// The next frame and its bytes; nothing once the caller is gone.
    fn next(&mut self) -> Option<(Frame, Vec<u8>)> {
        loop {
            if let Ok(Decoded::Frame(frame)) = decode(&self.received, &Limits::default()) {
                let bytes = self.received.drain(..frame.total_bytes as usize).collect();
                return Some((frame, bytes));
            }
            let mut chunk = [0; 64 << 10];
            let read = self.stream.read(&mut chunk).unwrap_or(0);
            if read == 0 {
                return None;
            }
            self.received.extend_from_slice(&chunk[..read]);
        }
    }

    fn expect(&mut self, kind: Kind) -> (Frame, Vec<u8>) {
        let (frame, bytes) = self.next().expect("the caller is there");
        assert_eq!(frame.kind, kind);
        (frame, bytes)
    }

    /// Sends; the caller may have given up by then.
    fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// Answers a frame with its own content.
    fn echo(&mut self, frame: &Frame, bytes: &[u8]) {
        self.send(&response(frame.version, frame.crc, frame.id, 0, frame.content.of(bytes)));
    }

    /// Waits until the caller is gone.
    fn until_gone(&mut self) {
        while self.next().is_some() {}
    }
}

#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn of(output: &Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// It failed, and said this.
    fn fails_with(&self, words: &str) {
        assert!(self.code == Some(1) && self.err.contains(words), "{words:?} is not in {self:?}");
    }
}

fn call(url: &str, flags: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    Said::of(&command.args(["call", url]).args(flags).env_clear().output().expect("it starts"))
}

/// Enough for a slow machine where an answer is expected.
const LONG: [&str; 2] = ["--timeout", "60s"];
/// For those that are never answered.
const SHORT: [&str; 2] = ["--timeout", "300ms"];

#[test]
fn every_answer_is_a_line_with_status_time_size_and_content() {
    let server = Server::start(|peer| {
        for id in 1..=3 {
            let (frame, bytes) = peer.expect(Kind::Request);
            assert_eq!((frame.id, frame.version, frame.timeout_ms), (id, Version::V1, 60_000));
            let header = frame.header.of(&bytes);
            let service = fields::find(header, b"service", 9).expect("a map").expect("it is there");
            assert_eq!(service.of(header), b"orders");
            peer.echo(&frame, &bytes);
        }
        assert!(peer.next().is_none(), "it closes when it is done");
    });
    let said =
        server.call(&[&LONG[..], &["--service", "orders", "--data", "hello", "--count", "3"]].concat());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines.len(), 3);
    for (line, number) in lines.iter().zip(1..) {
        assert!(line.starts_with(&format!("{number}: success (0) in ")), "{line}");
        assert!(line.ends_with(" ms, 5 bytes: hello"), "{line}");
    }
}

#[test]
fn the_flags_choose_the_version_and_the_checksum() {
    let cases: [(&[&str], Version, bool); 3] = [
        (&[], Version::V1, false),
        (&["--v2"], Version::V2 { ver1: 1 }, false),
        (&["--v2", "--crc"], Version::V2 { ver1: 2 }, true),
    ];
    for (flags, version, crc) in cases {
        let server = Server::start(move |peer| {
            let (frame, bytes) = peer.expect(Kind::Request);
            assert_eq!((frame.version, frame.crc), (version, crc));
            frame.check_crc(&bytes).expect("its checksum is right");
            peer.echo(&frame, &bytes);
        });
        let said = server.call(&[&LONG[..], flags, &["--data", "x"]].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

#[test]
fn the_content_of_a_file_is_sent_and_printed_whole() {
    let content: String = (0..40_000).map(|number| format!("{number} ")).collect();
    let path = std::env::temp_dir().join(format!("bowline-call-{}", std::process::id()));
    std::fs::write(&path, &content).expect("a temporary file");
    let server = Server::start(|peer| {
        let (frame, bytes) = peer.expect(Kind::Request);
        peer.echo(&frame, &bytes);
    });
    let data = format!("@{}", path.to_str().expect("text"));
    let said = server.call(&[&LONG[..], &["--data", &data]].concat());
    std::fs::remove_file(&path).expect("it is there");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.ends_with(&format!("{} bytes: {content}\n", content.len())));
}

#[test]
fn what_cannot_be_sent_is_said_before_anything_is_dialled() {
    let nobody = "bolt://127.0.0.1:1";
    call(nobody, &["--data", "@no/such/file"]).fails_with("cannot read no/such/file");
    let long = "s".repeat(40_000);
    call(nobody, &["--service", &long]).fails_with("the request cannot be sent: a part is longer");
}

#[test]
fn another_status_is_printed_and_is_no_success() {
    let server = Server::start(|peer| {
        for status in [0, 6, 7] {
            let (frame, _) = peer.expect(Kind::Request);
            peer.send(&response(frame.version, false, frame.id, status, b""));
        }
    });
    let said = server.call(&[&LONG[..], &["--count", "3"]].concat());
    said.fails_with("2 of 3 requests were no success; the first: status no_processor (6)");
    assert!(said.out.contains("2: no_processor (6)") && said.out.contains("3: timeout (7)"), "{said:?}");
    let server = Server::start(|peer| {
        let (frame, _) = peer.expect(Kind::Request);
        peer.send(&response(frame.version, false, frame.id, 99, b""));
    });
    server.call(&LONG).fails_with("answered with status not a known status (99)");
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    let said = call(&format!("bolt://{address}"), &LONG);
    said.fails_with(&format!("bowline: cannot connect to {address}: connection refused"));
    assert!(said.out.is_empty());
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for() {
    for part in [0, 10] {
        let server = Server::start(move |peer| {
            let (frame, _) = peer.expect(Kind::Request);
            peer.send(&response(frame.version, false, frame.id, 0, b"hello")[..part]);
            peer.until_gone();
        });
        server.call(&SHORT).fails_with("request 1: timed out after 300ms");
    }
}

#[test]
fn a_server_that_does_not_read_is_not_waited_for() {
    let path = std::env::temp_dir().join(format!("bowline-call-large-{}", std::process::id()));
    std::fs::write(&path, vec![1; 32 << 20]).expect("a temporary file");
    let (done, told) = std::sync::mpsc::channel::<()>();
    let server = Server::start(move |_| told.recv().unwrap_or_default());
    let data = format!("@{}", path.to_str().expect("text"));
    let said = call(&format!("bolt://{}", server.address), &[&SHORT[..], &["--data", &data]].concat());
    drop(done);
    server.thread.join().expect("the script went well");
    std::fs::remove_file(&path).expect("it is there");
    said.fails_with("request 1: timed out after 300ms");
}

#[test]
fn a_peer_that_closes_is_said_with_what_had_arrived() {
    let server = Server::start(|peer| drop(peer.expect(Kind::Request)));
    server.call(&LONG).fails_with("request 1: the peer closed the connection\n");
    let server = Server::start(|peer| {
        let (frame, _) = peer.expect(Kind::Request);
        peer.send(&response(frame.version, false, frame.id, 0, b"hello")[..23]);
    });
    server.call(&LONG).fails_with("request 1: the peer closed the connection after 23 bytes of a frame");
}

#[test]
fn answers_before_the_end_are_printed_all_the_same() {
    let server = Server::start(|peer| {
        let (frame, bytes) = peer.expect(Kind::Request);
        peer.echo(&frame, &bytes);
        peer.expect(Kind::Request);
    });
    let said = server.call(&[&LONG[..], &["--count", "9", "--data", "hello"]].concat());
    said.fails_with("request 2: the peer closed the connection");
    assert!(said.out.starts_with("1: success (0)"), "{said:?}");
}

#[test]
fn garbage_is_no_bolt() {
    let server = Server::start(|peer| {
        peer.expect(Kind::Request);
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        peer.until_gone();
    });
    server.call(&LONG).fails_with("the peer does not speak Bolt as it should: unknown_protocol");
}

#[test]
fn a_length_that_nobody_should_believe_is_refused() {
    let server = Server::start(|peer| {
        let (frame, _) = peer.expect(Kind::Request);
        let mut bytes = response(frame.version, false, frame.id, 0, b"");
        bytes[16..20].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
        peer.send(&bytes);
        peer.until_gone();
    });
    server.call(&LONG).fails_with("content_too_large");
}

#[test]
fn an_answer_to_another_request_is_no_answer() {
    let server = Server::start(|peer| {
        let (frame, _) = peer.expect(Kind::Request);
        peer.send(&response(frame.version, false, frame.id + 7, 0, b""));
        peer.until_gone();
    });
    server.call(&LONG).fails_with("the peer answered request 8, which was not asked; 1 was");
}

#[test]
fn a_damaged_answer_is_noticed_by_its_checksum() {
    let server = Server::start(|peer| {
        let (frame, bytes) = peer.expect(Kind::Request);
        let mut answer = response(frame.version, frame.crc, frame.id, 0, frame.content.of(&bytes));
        let last = answer.len() - 5;
        answer[last] ^= 1;
        peer.send(&answer);
        peer.until_gone();
    });
    let said = server.call(&[&LONG[..], &["--v2", "--crc", "--data", "hello"]].concat());
    said.fails_with("the checksum of the answer does not match");
    assert!(said.out.is_empty(), "{said:?}");
}

#[test]
fn what_a_server_asks_meanwhile_is_answered() {
    let server = Server::start(|peer| {
        let (frame, bytes) = peer.expect(Kind::Request);
        let mut beat = [0; 32];
        let length = encode_heartbeat(Version::V1, 50, &mut beat);
        peer.send(&beat[..length]);
        assert_eq!(peer.expect(Kind::HeartbeatAck).0.id, 50);
        peer.send(&request(Version::V1, false, 60, "client", b"?"));
        let (refusal, _) = peer.expect(Kind::Response);
        assert_eq!((refusal.id, refusal.status), (60, 6), "nobody serves that here");
        peer.echo(&frame, &bytes);
    });
    assert_eq!(server.call(&LONG).code, Some(0));
}

#[test]
fn after_goodbye_nothing_new_is_asked() {
    let server = Server::start(|peer| {
        let (frame, bytes) = peer.expect(Kind::Request);
        let mut goodbye = [0; 32];
        let length = encode_goaway(Version::V1, 0, &mut goodbye);
        peer.send(&goodbye[..length]);
        peer.echo(&frame, &bytes);
        assert!(peer.next().is_none(), "it asks nothing more");
    });
    let said = server.call(&[&LONG[..], &["--count", "2"]].concat());
    said.fails_with("request 2: the peer takes no more requests on this connection (goaway)");
    assert_eq!(said.out.lines().count(), 1, "{said:?}");
}

#[test]
fn a_name_is_looked_up() {
    let server = Server::start(|peer| {
        let (frame, bytes) = peer.expect(Kind::Request);
        peer.echo(&frame, &bytes);
    });
    let said = call(&format!("bolt://localhost:{}", server.address.port()), &LONG);
    assert_eq!(said.code, Some(0), "{said:?}");
    server.thread.join().expect("the script went well");
    call("bolt://no-such-name.invalid:1", &LONG).fails_with("cannot look up no-such-name.invalid");
}

/// An HTTP server that answers each request on one connection with the next of `answers`, and hands back what it was sent.
fn http_server(answers: &'static [&'static str]) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the call connects");
        let ask = |stream: &mut TcpStream| {
            let mut request = Vec::new();
            let mut byte = [0];
            let is_whole = |request: &[u8]| {
                let end: &[u8] = if request.starts_with(b"GET") { b"\r\n\r\n" } else { b"\r\n\r\nhi" };
                request.ends_with(end)
            };
            while !is_whole(&request) {
                assert_eq!(stream.read(&mut byte).expect("the caller writes"), 1, "the request is whole");
                request.push(byte[0]);
            }
            String::from_utf8(request).expect("text")
        };
        let asked = |answer: &&str| {
            let request = ask(&mut stream);
            stream.write_all(answer.as_bytes()).expect("the caller reads");
            request
        };
        answers.iter().map(asked).collect()
    });
    (address, thread)
}

#[test]
fn http_is_called_with_its_own_flags_on_one_connection() {
    const ANSWERS: &[&str] = &[
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ];
    let (address, server) = http_server(ANSWERS);
    let flags = ["--header", "X-Kind: test", "--data", "hi", "--method", "PUT", "--count", "2"];
    let said = call(&format!("http://{address}/a?b=c"), &[&LONG[..], &flags].concat());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert!(
        said.out.lines().all(|line| line.contains(": 200 OK in ") && line.ends_with(" ms, 5 bytes: hello"))
    );
    for request in server.join().expect("the script went well") {
        let lower = request.to_ascii_lowercase();
        assert!(
            request.starts_with("PUT /a?b=c HTTP/1.1\r\n") && lower.contains("x-kind: test\r\n"),
            "{request}"
        );
    }
}

#[test]
fn an_http_answer_that_is_no_success_and_flags_of_the_other_protocol_are_said() {
    let (address, server) = http_server(&["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]);
    call(&format!("http://{address}/"), &LONG).fails_with("answered with status 404");
    server.join().expect("the script went well");
    for (url, flags) in
        [("http://127.0.0.1:1/", ["--service", "a"]), ("bolt://127.0.0.1:1", ["--method", "GET"])]
    {
        let said = call(url, &flags);
        let words = format!("{} has no effect on a call of this protocol", flags[0]);
        assert!(said.code == Some(78) && said.err.contains(&words), "{said:?}");
    }
}
