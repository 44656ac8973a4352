//! Requests that smuggle, desynchronise or exhaust, over real sockets: each is refused with its status and the end of the
//! connection, and nothing of it reaches a server, not even a connection. The rows are those of `docs/attacks.md`; what the
//! codec decides is tested there in full, this table shows that the gateway does as it says. Beside it the same requests
//! to nginx and HAProxy, where `scripts/peers.sh` has installed them.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bowline_tests::gateway::root;
use bowline_tests::sockets::{dial, read_to_end};
use bowline_tests::{Gateway, HttpAction, HttpServer, each_mode, eventually};

/// One request: its row, what it is about, its bytes, the status it must get.
struct Case {
    row: u8,
    about: &'static str,
    bytes: Vec<u8>,
    status: u16,
}

/// Everything behind the request line and a right `Host`.
fn with_fields(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}").into_bytes()
}

/// A request whose head is right and whose chunks are these.
fn with_chunks(chunks: &str) -> Vec<u8> {
    with_fields(&format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"))
}

fn case(row: u8, about: &'static str, status: u16, bytes: impl AsRef<[u8]>) -> Case {
    Case { row, about, bytes: bytes.as_ref().to_vec(), status }
}

/// What would be the next request if the one before it were understood otherwise.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn framing_cases() -> Vec<Case> {
    let both = |length: usize| {
        let fields =
            format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
        with_fields(&fields)
    };
    let coding = |value: &str| with_fields(&format!("Transfer-Encoding: {value}\r\n\r\n0\r\n\r\n{SMUGGLED}"));
    let length = |value: &str| with_fields(&format!("Content-Length: {value}\r\n\r\n{SMUGGLED}"));
    vec![
        case(1, "CL.TE", 400, both(5)),
        case(1, "TE.CL", 400, both(500)),
        case(2, "an unknown coding", 501, coding("xchunked")),
        case(2, "chunked is not last", 400, coding("chunked, identity")),
        case(2, "an empty coding before chunked", 400, coding(",chunked")),
        case(2, "a vertical tab before chunked", 400, coding("\x0bchunked")),
        case(2, "a comma behind chunked", 400, coding("chunked,")),
        case(3, "Transfer-Encoding twice", 400, coding("chunked\r\nTransfer-Encoding: chunked")),
        case(
            4,
            "Transfer-Encoding in 1.0",
            400,
            format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        ),
        case(5, "two lengths", 400, length("0\r\nContent-Length: 5")),
        case(5, "the same length twice", 400, length("0\r\nContent-Length: 0")),
        case(6, "a length with a sign", 400, length("+0")),
        case(6, "a negative length", 400, length("-1")),
        case(6, "a hexadecimal length", 400, length("0x0")),
        case(6, "a length with an underscore", 400, length("1_0")),
        case(6, "an empty length", 400, length("")),
        case(6, "a length with a blank inside", 400, length("1 0")),
        case(6, "a list of lengths", 400, length("0,0")),
        case(6, "a length beyond 64 bits", 400, length("18446744073709551616")),
        case(7, "a chunk size with 0x", 400, with_chunks("0x5\r\nhello\r\n0\r\n\r\n")),
        case(7, "a chunk size with a sign", 400, with_chunks("+5\r\nhello\r\n0\r\n\r\n")),
        case(7, "a chunk size with a blank before it", 400, with_chunks(" 5\r\nhello\r\n0\r\n\r\n")),
        case(7, "an empty chunk size", 400, with_chunks("\r\nhello\r\n0\r\n\r\n")),
        case(8, "a chunk size of 17 digits", 400, with_chunks("00000000000000005\r\nhello\r\n0\r\n\r\n")),
        case(9, "a chunk extension without end", 400, with_chunks(&format!("5;a={}", "x".repeat(5_000)))),
        case(9, "a bare LF in a chunk extension", 400, with_chunks("5;a\nhello\r\n0\r\n\r\n")),
    ]
}

fn syntax_cases() -> Vec<Case> {
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    vec![
        case(10, "bare LF in the head", 400, "GET / HTTP/1.1\nHost: a\n\n"),
        case(10, "bare LF behind a chunk size", 400, with_chunks("5\nhello\r\n0\r\n\r\n")),
        case(11, "NUL in a value", 400, with_fields("A: b\0c\r\n\r\n")),
        case(11, "bare CR in a value", 400, with_fields("A: b\rc\r\n\r\n")),
        case(11, "a control in a name", 400, with_fields("A\x01: b\r\n\r\n")),
        case(12, "a folded field", 400, with_fields("A: b\r\n c\r\n\r\n")),
        case(13, "a blank before the colon", 400, with_fields("A : b\r\n\r\n")),
        case(13, "a blank before the first field", 400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        case(13, "a line without a colon", 400, with_fields("A b\r\n\r\n")),
        case(14, "an empty name", 400, with_fields(": b\r\n\r\n")),
        case(15, "a name that is no token", 400, with_fields("A(b): c\r\n\r\n")),
        case(15, "a method that is no token", 400, line("G(T / HTTP/1.1")),
        case(15, "HTTP/0.9", 400, "GET /\r\n\r\n"),
        case(15, "HTTP/1.32", 400, line("GET / HTTP/1.32")),
        case(15, "HTTP/11.1", 400, line("GET / HTTP/11.1")),
        case(15, "HTTP/2.0", 505, line("GET / HTTP/2.0")),
        case(20, "empty lines", 400, format!("\r\n\r\n\r\n\r\n\r\n\r\n{}", line("GET / HTTP/1.1"))),
        case(26, "no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
        case(26, "two Hosts", 400, with_fields("Host: a\r\n\r\n")),
        case(26, "a Host that is another than the target's", 400, line("GET http://b/ HTTP/1.1")),
        case(26, "userinfo", 400, "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
        case(26, "a port that is none", 400, "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n"),
        case(27, "a fragment", 400, line("GET /a#b HTTP/1.1")),
        case(27, "NUL in the path", 400, line("GET /a%00b HTTP/1.1")),
        case(27, "a path above its root", 400, line("GET /../a HTTP/1.1")),
        case(27, "an escaped slash", 400, line("GET /a%2fb HTTP/1.1")),
    ]
}

fn cases() -> Vec<Case> {
    framing_cases().into_iter().chain(syntax_cases()).collect()
}

/// The statuses of everything that comes back until the connection ends.
fn statuses(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut stream = dial(address);
    // A peer may have refused it before all of it is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let (answer, _) = read_to_end(&mut stream);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let lines = answer.split("HTTP/1.").skip(1);
    lines.filter_map(|line| line.get(2..5)?.parse().ok()).collect()
}

#[test]
fn what_is_refused_is_answered_once_and_reaches_no_server() {
    each_mode(|mode| {
        let server = HttpServer::start(|_| HttpAction::Reply(b"it came through".to_vec()));
        let gateway = Gateway::http(mode, server.address(), &[]);
        for Case { row, about, bytes, status } in cases() {
            let got = statuses(gateway.address(), &bytes);
            assert_eq!(got, [status], "row {row}: {about}");
        }
        assert_eq!(server.seen().accepted, 0, "no connection was even opened");
        eventually("all are gone", || gateway.connections().is_empty());
    });
}

/// Another proxy in front of a server.
struct Peer {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

impl Peer {
    /// The peer of this name, or nothing and a line where it is not installed.
    fn start(name: &str, server: SocketAddr) -> Option<Peer> {
        let program = root().join(".peers/bin").join(name);
        if !program.exists() {
            eprintln!("SKIP {name}: scripts/peers.sh has not installed it");
            return None;
        }
        let address = free_address();
        let folder = std::env::temp_dir().join(format!("bowline-peer-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        let file = folder.join("configuration");
        let place = folder.display();
        let mut command = Command::new(program);
        if name == "nginx" {
            let text = format!(
                "daemon off; master_process off; pid {place}/pid; error_log {place}/errors;\n\
                 events {{}}\nhttp {{ access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;\n\
                 fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
                 server {{ listen {address}; location / {{ proxy_pass http://{server}; proxy_http_version 1.1; proxy_ignore_client_abort on; \
                 proxy_set_header Connection \"\"; }} }} }}\n"
            );
            std::fs::write(&file, text).expect("it can be written");
            command.args(["-e", &format!("{place}/errors"), "-c"]).arg(&file);
        } else {
            let text = format!(
                "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  \
                 timeout server 5s\nlisten all\n  bind {address}\n  server one {server}\n"
            );
            std::fs::write(&file, text).expect("it can be written");
            command.arg("-db").arg("-f").arg(&file);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be started");
        let peer = Peer { child, address, folder };
        eventually("it listens", || TcpStream::connect(address).is_ok());
        Some(peer)
    }
}

/// What the same requests get from others is printed as the table of `docs/attacks.md`; Bowline is nowhere more lenient
/// than the stricter of them.
#[test]
fn nothing_that_another_proxy_refuses_passes_here() {
    let server = HttpServer::start(|_| HttpAction::Reply(b"it came through".to_vec()));
    let gateway = Gateway::http(bowline_tests::Mode::Raw, server.address(), &[]);
    let peers: Vec<_> = ["nginx", "haproxy"]
        .into_iter()
        .filter_map(|name| Peer::start(name, server.address()).map(|peer| (name, peer)))
        .collect();
    for Case { row, about, bytes, .. } in cases() {
        let own = statuses(gateway.address(), &bytes);
        let others: Vec<_> =
            peers.iter().map(|(name, peer)| (*name, statuses(peer.address, &bytes))).collect();
        let columns: Vec<_> = others.iter().map(|(name, statuses)| format!("{name} {statuses:?}")).collect();
        eprintln!("| {row} | {about} | {own:?} | {} |", columns.join(" | "));
        let is_refused = |statuses: &[u16]| statuses.iter().all(|status| *status >= 400);
        let refused_elsewhere = others.iter().any(|(_, statuses)| is_refused(statuses));
        assert!(is_refused(&own) || !refused_elsewhere, "row {row}: {about}: {own:?}, {others:?}");
    }
}
