//! What needs a network of the test's own: ports that run out, and a packet filter that redirects. Only root may make one;
//! elsewhere these cases say so and do nothing.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use bowline_tests::gateway::Configuration;
use bowline_tests::programs::{in_own_network, program, run};
use bowline_tests::sockets::{read_to_end, try_dial, try_dial_from};
use bowline_tests::{Gateway, PATIENCE, each_mode, eventually};
use socket2::{Domain, Socket, Type};

/// Clients choose their own ports, so that only the gateway needs those of the system.
fn client(gateway: &Gateway, port: u16) -> Option<TcpStream> {
    try_dial_from(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), port)), gateway.address())
}

/// Exchanges a byte with the server behind a tunnel.
fn is_open(mut client: &TcpStream) -> bool {
    client.write_all(b"?").is_ok() && matches!(client.read(&mut [0]), Ok(1))
}

/// A server that sends every byte back.
fn echo_server(address: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a free port");
    let bound = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().expect("descriptors are left");
                std::io::copy(&mut reader, &mut &stream)
            });
        }
    });
    bound
}

#[test]
fn ports_that_run_out_are_told_apart_and_more_source_addresses_have_more() {
    each_mode(|mode| {
        in_own_network(|| {
            let range = "/proc/sys/net/ipv4/ip_local_port_range";
            let server = echo_server(Ipv4Addr::LOCALHOST.into());
            std::fs::write(range, "20000 20009").expect("it is our network");
            for (sources, tunnels) in [("", 10), ("    source_addresses: [127.0.0.2, 127.0.0.3]\n", 20)] {
                let file = Configuration::new(&format!(
                    "listeners:\n  - {{address: tcp://127.0.0.1:30000, cluster: one}}\n\
                     clusters:\n  - name: one\n    endpoints: [\"tcp://{server}\"]\n{sources}"
                ));
                let flags = ["--config", file.path(), "--admin", "127.0.0.1:30001"];
                let gateway = Gateway::start(mode, &flags);
                let first = 40_000 + tunnels as u16 * 100;
                let open: Vec<_> = (first..)
                    .take(tunnels)
                    .map(|port| client(&gateway, port).expect("it is served"))
                    .collect();
                assert!(open.iter().all(is_open), "{tunnels} tunnels, each with a port of its own");
                if let Some(mut late) = client(&gateway, first + 50) {
                    assert_eq!(read_to_end(&mut late).0, b"");
                }
                // The client, and each of the three attempts that were made for it.
                eventually("it is counted", || gateway.closes("connect_exhausted") == 4.0);
                assert!(open.iter().all(is_open), "those inside are served on");
            }
        });
    });
}

/// Redirects what comes from [`MARKED_PORT`] to `wanted` to `listener`. The gateway's own connects come from other ports.
fn redirect(filter: &str, wanted: SocketAddr, listener: SocketAddr) -> bool {
    let (ip, from) = (wanted.ip().to_string(), MARKED_PORT.to_string());
    let (port, to) = (wanted.port().to_string(), listener.port().to_string());
    let rule = ["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", &ip, "--dport", &port, "--sport", &from];
    run(filter, &[&rule[..], &["-j", "REDIRECT", "--to-ports", &to]].concat())
}

const MARKED_PORT: u16 = 45_000;

/// A connection from [`MARKED_PORT`].
fn dial_marked(wanted: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(wanted.ip(), MARKED_PORT).into()).expect("a free port");
    socket.connect(&wanted.into()).expect("it is redirected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

#[test]
fn a_redirected_client_reaches_what_it_wanted_and_a_loop_is_refused() {
    each_mode(|mode| {
        for (filter, host) in [("iptables", "127.0.0.1"), ("ip6tables", "[::1]")] {
            if program(filter).is_none() {
                continue;
            }
            in_own_network(|| {
                let file = Configuration::new(&format!(
                    "listeners:\n  - {{address: \"tcp://{host}:0\", cluster: original}}\n\
                     clusters:\n  - {{name: original, original_destination: true}}\n"
                ));
                let gateway = Gateway::start(mode, &["--config", file.path()]);
                let wanted = echo_server(gateway.address().ip());
                assert!(redirect(filter, wanted, gateway.address()), "the filter takes the rule");
                let through = dial_marked(wanted);
                assert!(is_open(&through));
                let all = gateway.connections();
                let upstream: Vec<_> = all.iter().filter(|one| one["direction"] == "upstream").collect();
                assert_eq!(upstream.len(), 1, "it went through the gateway: {all:#?}");
                assert_eq!(upstream[0]["peer"], wanted.to_string());
                assert_eq!(
                    (&upstream[0]["listener"], &upstream[0]["protocol"]),
                    (&"original".into(), &"tcp".into())
                );
                if let Some(mut direct) = try_dial(gateway.address()) {
                    assert_eq!(read_to_end(&mut direct).0, b"", "it wanted nothing but the gateway");
                }
                eventually("it is counted", || gateway.closes("redirect_loop") == 1.0);
            });
        }
    });
}
