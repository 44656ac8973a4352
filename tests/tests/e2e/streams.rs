//! Streams as they come from the network: headers of the PROXY protocol on both sides, TLS that is routed by the name of
//! its server, clients that say nothing or reset, and what all of that leaves behind.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use bowline_protocols::proxy_header::{Parsed, Route, Version, Versions, encode, parse};
use bowline_protocols::testing::client_hello;
use bowline_tests::gateway::Configuration;
use bowline_tests::programs::{Running, free_address, program};
use bowline_tests::sockets::{dial, read_to_end, reset_on_close, try_dial, try_dial_from};
use bowline_tests::{BoltClient, Call, Gateway, Mode, PATIENCE, Upstream, each_mode, eventually};

/// A server of a test.
struct Server(TcpListener);

impl Server {
    fn start() -> Server {
        Server(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"))
    }

    fn url(&self) -> String {
        format!("tcp://{}", self.0.local_addr().expect("it is bound"))
    }

    fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().expect("the gateway connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream
    }
}

fn start(mode: Mode, text: &str, flags: &[&str]) -> Gateway {
    let file = Configuration::new(text);
    Gateway::start(mode, &[&["--config", file.path()], flags].concat())
}

fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).expect("it arrives");
    read
}

fn header(version: Version, source: &str) -> Vec<u8> {
    let address = |text: &str| text.parse().expect("an address");
    let mut bytes = Vec::new();
    let route = Route { source: address(source), destination: address("203.0.113.5:443") };
    encode(version, Some(route), &mut bytes);
    bytes
}

/// One listener that takes headers from 127.0.0.1 alone, in front of `upstream`.
fn announced(upstream: &str, more: &str) -> String {
    let (protocol, _) = upstream.split_once("://").expect("a URL");
    format!(
        "listeners:\n  - address: {protocol}://127.0.0.1:0\n    cluster: one\n    proxy_protocol: any\n    \
         proxy_trusted: [127.0.0.1]\n{more}clusters:\n  - {{name: one, endpoints: [\"{upstream}\"]}}\n"
    )
}

#[test]
fn a_client_behind_a_proxy_is_seen_under_its_own_address() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let flags = ["--access-log", "--log-format", "json", "--max-connections-per-source", "1"];
        let gateway = start(mode, &announced(&upstream.url(), ""), &flags);
        let behind = |source: &str| {
            let mut stream = try_dial(gateway.address())?;
            stream.write_all(&header(Version::V2, source)).ok()?;
            Some(stream)
        };
        let mut first = BoltClient::over(behind("192.0.2.33:5555").expect("it is accepted"));
        assert_eq!(first.call(&Call::new("hello")).content(), b"hello");
        let shown = gateway.connections();
        assert!(shown.iter().any(|one| one["peer"] == "192.0.2.33:5555"), "{shown:#?}");
        eventually("the access line names it", || gateway.log().contains("\"peer\":\"192.0.2.33:5555\""));
        if let Some(mut second) = behind("192.0.2.33:6666") {
            assert_eq!(read_to_end(&mut second).0, b"");
        }
        eventually("its share is one", || gateway.closes("limit_per_source") == 1.0);
        let mut other = BoltClient::over(behind("192.0.2.34:5555").expect("it is accepted"));
        assert_eq!(other.call(&Call::new("others are served")).content(), b"others are served");
        drop(first);
        eventually("its place is free again", || {
            let served = behind("192.0.2.33:7777").map(|mut stream| {
                let call = Call::new("again").bytes(1);
                stream.write_all(&call).is_ok() && matches!(stream.read(&mut [0]), Ok(1))
            });
            served == Some(true)
        });
    });
}

#[test]
fn an_http_server_hears_of_the_client_that_the_header_named_and_from_the_address_that_was_said() {
    each_mode(|mode| {
        let server = Server::start();
        let upstream = server.url().replace("tcp:", "http:");
        let text =
            announced(&upstream, "").replace("name: one,", "name: one, source_addresses: [127.0.0.3],");
        let gateway = start(mode, &text, &[]);
        let mut client = dial(gateway.address());
        let request = b"GET /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n";
        client
            .write_all(&[&header(Version::V2, "192.0.2.33:5555"), &request[..]].concat())
            .expect("it is open");
        let mut upstream = server.accept();
        let from = upstream.peer_addr().expect("it is connected").ip();
        assert_eq!(from, Ipv4Addr::new(127, 0, 0, 3));
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(read(&mut upstream, 1)[0]);
        }
        let asked = String::from_utf8(asked).expect("a head is text").to_ascii_lowercase();
        assert!(asked.contains("\r\nx-forwarded-for: 192.0.2.33\r\n"), "{asked}");
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        upstream.write_all(answer).expect("it is open");
        assert_eq!(read(&mut client, 12), b"HTTP/1.1 204");
    });
}

#[test]
fn what_is_no_header_or_comes_from_elsewhere_is_closed_without_a_word() {
    each_mode(|mode| {
        let server = Server::start();
        let gateway = start(mode, &announced(&server.url(), "    proxy_timeout: 300ms\n"), &[]);
        let long = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
        let begun = b"PROXY TCP4 192.0.2.1";
        let cases: [(&str, &[u8]); 6] = [
            ("proxy_missing", b"GET / HTTP/1.1\r\n\r\n"),
            ("proxy_missing", &client_hello(Some("a"), &[])),
            ("proxy_malformed", &long),
            ("proxy_malformed", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"),
            ("proxy_timeout", begun),
            ("proxy_timeout", b""),
        ];
        for (reason, bytes) in cases {
            let before = gateway.closes(reason);
            let mut client = dial(gateway.address());
            client.write_all(bytes).expect("it is open");
            assert_eq!(read_to_end(&mut client).0, b"", "{reason}");
            eventually("it is counted", || gateway.closes(reason) == before + 1.0);
        }
        let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0));
        if let Some(mut client) = try_dial_from(elsewhere, gateway.address()) {
            let _ = client.write_all(&header(Version::V1, "192.0.2.1:1"));
            assert_eq!(read_to_end(&mut client).0, b"");
        }
        eventually("it is counted", || gateway.closes("proxy_untrusted") == 1.0);
        server.0.set_nonblocking(true).expect("a plain option");
        assert!(server.0.accept().is_err(), "nothing was opened for any of them");
    });
}

#[test]
fn a_server_hears_of_the_client_before_anything_else() {
    each_mode(|mode| {
        for version in ["v1", "v2"] {
            let server = Server::start();
            let text = format!(
                "listeners:\n  - {{address: tcp://127.0.0.1:0, cluster: one}}\n\
                 clusters:\n  - {{name: one, endpoints: [\"{}\"], proxy_protocol: {version}}}\n",
                server.url()
            );
            let gateway = start(mode, &text, &[]);
            let mut client = dial(gateway.address());
            let mut upstream = server.accept();
            let mut bytes = Vec::new();
            let (length, route) = loop {
                bytes.extend(read(&mut upstream, 1));
                match parse(&bytes, Versions::Any).expect("a header") {
                    Parsed::Header { bytes, route } => break (bytes, route),
                    Parsed::More { .. } => {}
                }
            };
            assert_eq!((length, bytes[0] == b'P'), (bytes.len(), version == "v1"));
            let source = client.local_addr().expect("it is connected");
            assert_eq!(route, Some(Route { source, destination: gateway.address() }));
            upstream.write_all(b"220 the server speaks first").expect("it is open");
            assert_eq!(read(&mut client, 27), b"220 the server speaks first");
            client.write_all(b"question").expect("it is open");
            client.shutdown(Shutdown::Write).expect("it is open");
            assert_eq!(read_to_end(&mut upstream).0, b"question");
        }
    });
}

#[test]
fn a_real_proxy_in_front_is_understood() {
    let Some(haproxy) = program("haproxy") else { return };
    each_mode(|mode| {
        for (word, client_says) in [
            ("send-proxy", "one"),
            ("send-proxy-v2", "two"),
            ("send-proxy-v2 proxy-v2-options crc32c", "three"),
        ] {
            let server = Server::start();
            let gateway = start(mode, &announced(&server.url(), ""), &[]);
            let front = free_address();
            let configuration = Configuration::new(&format!(
                "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
                 listen front\n bind {front}\n server gateway {} {word}\n",
                gateway.address()
            ));
            let mut command = Command::new(&haproxy);
            command.args(["-db", "-f", configuration.path()]);
            let _haproxy = Running::start(command, front);
            let mut client = dial(front);
            client.write_all(client_says.as_bytes()).expect("it is open");
            let seen = client.local_addr().expect("it is connected").to_string();
            eventually("the client's own address is shown", || {
                gateway.connections().iter().any(|one| one["peer"] == seen.as_str())
            });
            // Whoever looked whether the proxy listens has a tunnel too.
            let found = (0..50).any(|_| {
                let mut upstream = server.accept();
                let mut start = [0; 1];
                upstream.read(&mut start).is_ok_and(|bytes| bytes == 1)
                    && read(&mut upstream, client_says.len() - 1) == client_says.as_bytes()[1..]
            });
            assert!(found, "{word}");
        }
    });
}

#[test]
fn tls_goes_where_its_name_leads_and_every_byte_with_it() {
    each_mode(|mode| {
        let servers = [Server::start(), Server::start(), Server::start()];
        let [default, shop, h2] = &servers;
        let cluster = |name: &str, server: &Server| {
            format!("  - {{name: {name}, endpoints: [\"{}\"]}}\n", server.url())
        };
        let text = format!(
            "listeners:\n  - {{address: tcp://127.0.0.1:0, tls_passthrough: required, cluster: default, hello_timeout: 300ms}}\n  \
             - {{address: tcp://127.0.0.1:0, tls_passthrough: preferred, cluster: default, hello_timeout: 300ms}}\n\
             tls_routes:\n  - {{server_name: shop.example, cluster: shop}}\n  \
             - {{server_name: \"*.example\", alpn: h2, cluster: h2}}\nclusters:\n{}{}{}",
            cluster("default", default),
            cluster("shop", shop),
            cluster("h2", h2)
        );
        let gateway = start(mode, &text, &[]);
        let [required, preferred] = gateway.listeners() else { panic!("two listeners") };
        let lead = |at: &SocketAddr, bytes: &[u8], server: &Server| {
            let mut client = dial(*at);
            for part in bytes.chunks(50) {
                client.write_all(part).expect("it is open");
            }
            let mut upstream = server.accept();
            assert_eq!(read(&mut upstream, bytes.len()), bytes);
            upstream.write_all(b"answer").expect("it is open");
            assert_eq!(read(&mut client, 6), b"answer");
        };
        for at in [required, preferred] {
            lead(at, &client_hello(Some("SHOP.example"), &["h2"]), shop);
            lead(at, &client_hello(Some("a.b.example"), &["http/1.1", "h2"]), h2);
            lead(at, &client_hello(Some("a.b.example"), &["http/1.1"]), default);
            lead(at, &client_hello(None, &[]), default);
            lead(at, &[client_hello(Some("shop.example"), &[]), vec![23; 300_000]].concat(), shop);
        }
        lead(preferred, b"SSH-2.0-client\r\n", default);
        for (reason, bytes) in [
            ("hello_missing", &b"SSH-2.0-client\r\n"[..]),
            ("hello_malformed", b"\x16\x03\x01\0\x04\x02\0\0\0"),
            ("hello_timeout", b"\x16\x03\x01"),
            ("hello_timeout", b""),
        ] {
            let before = gateway.closes(reason);
            let mut client = dial(*required);
            client.write_all(bytes).expect("it is open");
            assert_eq!(read_to_end(&mut client).0, b"", "{reason}");
            eventually("it is counted", || gateway.closes(reason) == before + 1.0);
        }
        // Where TLS is only preferred, a silent client may be waiting for its server.
        let mut silent = dial(*preferred);
        default.accept().write_all(b"220 ready").expect("it is open");
        assert_eq!(read(&mut silent, 9), b"220 ready");
    });
}

#[test]
fn a_storm_of_resets_leaves_nothing_and_fills_no_log() {
    each_mode(|mode| {
        let upstream = Server::start();
        let address = upstream.0.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            for stream in upstream.0.incoming().map_while(Result::ok) {
                std::thread::spawn(move || {
                    let mut reader = stream.try_clone().expect("descriptors are left");
                    std::io::copy(&mut reader, &mut &stream)
                });
            }
        });
        let gateway = Gateway::tunnel(mode, address, &[]);
        let before = gateway.descriptors();
        for round in 0..600 {
            let Some(mut client) = try_dial(gateway.address()) else { continue };
            let _ = client.write_all(&[7; 100][..round % 100]);
            match round % 4 {
                // Before the gateway has accepted, perhaps; in the midst of a stream; with one side ended; in order.
                0 | 1 => reset_on_close(&client),
                2 => {
                    let _ = client.shutdown(Shutdown::Write);
                    reset_on_close(&client);
                }
                _ => drop(client.shutdown(Shutdown::Both)),
            }
        }
        eventually("nothing is left", || gateway.connections().is_empty());
        eventually("no descriptor is left", || gateway.descriptors() <= before);
        assert_eq!(states(&gateway, CLOSE_WAIT), 0, "nobody waits for a close");
        assert!(gateway.log().lines().count() < 20, "a peer cannot fill the log:\n{}", gateway.log());
    });
}

/// The state of a socket whose peer has ended and whose owner has not.
const CLOSE_WAIT: &str = "08";

/// Sockets of this network in a state whose own end is the gateway's listener.
fn states(gateway: &Gateway, state: &str) -> usize {
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", gateway.pid())).expect("it runs");
    let port = format!(":{:04X}", gateway.address().port());
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 3 && row[1].ends_with(&port) && row[3] == state).count()
}
