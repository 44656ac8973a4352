//! The plain TCP tunnel: bytes both ways, each direction ends by itself, a slow reader is waited for with bounded memory,
//! and an upstream that cannot be reached ends the client's connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

use bowline_tests::sockets::{End, dial, read_to_end, refused, reset_on_close, try_dial};
use bowline_tests::{Gateway, Mode, each_mode, each_mode_marked, eventually};

/// Both ends of one tunnel.
struct Tunnel {
    client: TcpStream,
    server: TcpStream,
    gateway: Gateway,
}

fn tunnel(mode: Mode) -> Tunnel {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let gateway = Gateway::tunnel(mode, listener.local_addr().expect("it is bound"), &[]);
    let mut client = dial(gateway.address());
    // A gateway may wait for the first byte before it connects.
    client.write_all(b"!").expect("it is open");
    let (mut server, _) = listener.accept().expect("the gateway connects");
    server.set_read_timeout(Some(bowline_tests::PATIENCE)).expect("not zero");
    let mut first = [0];
    server.read_exact(&mut first).expect("the first byte");
    assert_eq!(&first, b"!");
    Tunnel { client, server, gateway }
}

/// Bytes that differ by place, so that a lost or doubled piece is noticed.
fn pattern(length: usize, salt: u32) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 13) as u8).collect()
}

#[test]
fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    each_mode_marked(|mode| {
        let Tunnel { mut client, mut server, gateway: _gateway } = tunnel(mode);
        let (up, down) = (pattern(8 << 20, 1), pattern(8 << 20, 2));
        std::thread::scope(|scope| {
            let mut up_end = client.try_clone().expect("descriptors are left");
            let mut down_end = server.try_clone().expect("descriptors are left");
            let sent = &up;
            scope.spawn(move || {
                up_end.write_all(sent).expect("it is taken");
                up_end.shutdown(Shutdown::Write).expect("it is open");
            });
            let sent = &down;
            scope.spawn(move || {
                down_end.write_all(sent).expect("it is taken");
                down_end.shutdown(Shutdown::Write).expect("it is open");
            });
            let reading = scope.spawn(move || read_to_end(&mut server));
            let (bytes, end) = read_to_end(&mut client);
            assert!(bytes == down && end == End::Closed, "{} bytes down, {end:?}", bytes.len());
            let (bytes, end) = reading.join().expect("it reads");
            assert!(bytes == up && end == End::Closed, "{} bytes up, {end:?}", bytes.len());
        });
    });
}

#[test]
fn a_client_that_has_said_everything_still_hears_the_answer() {
    each_mode(|mode| {
        let Tunnel { mut client, mut server, gateway } = tunnel(mode);
        client.write_all(b"question").expect("it is open");
        client.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(read_to_end(&mut server), (b"question".to_vec(), End::Closed));
        server.write_all(b"answer").expect("this way is still open");
        drop(server);
        assert_eq!(read_to_end(&mut client), (b"answer".to_vec(), End::Closed));
        drop(client);
        eventually("nothing is left", || gateway.connections().is_empty());
    });
}

#[test]
fn a_server_that_has_said_everything_still_hears_the_client() {
    each_mode(|mode| {
        let Tunnel { mut client, mut server, gateway } = tunnel(mode);
        server.write_all(b"greeting").expect("it is open");
        server.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(read_to_end(&mut client), (b"greeting".to_vec(), End::Closed));
        client.write_all(b"farewell").expect("this way is still open");
        drop(client);
        assert_eq!(read_to_end(&mut server), (b"farewell".to_vec(), End::Closed));
        drop(server);
        eventually("nothing is left", || gateway.connections().is_empty());
    });
}

#[test]
fn a_slow_reader_is_waited_for_in_bounded_memory() {
    each_mode(|mode| {
        let Tunnel { mut client, mut server, gateway } = tunnel(mode);
        let before = gateway.anonymous_bytes();
        let sent = pattern(64 << 20, 3);
        std::thread::scope(|scope| {
            let bytes = &sent;
            scope.spawn(move || {
                server.write_all(bytes).expect("it is taken in the end");
                server.shutdown(Shutdown::Write).expect("it is open");
            });
            // Nobody reads until the gateway has stopped taking.
            let taken = || gateway.metric("upstream_read_bytes_total", "");
            let mut last = -1.0;
            eventually("it stops taking", || {
                std::thread::sleep(std::time::Duration::from_millis(100));
                let now = taken();
                now > 0.0 && std::mem::replace(&mut last, now) == now
            });
            assert!(last < (48 << 20) as f64, "it took {last} bytes for a reader that reads nothing");
            let grown = gateway.anonymous_bytes().saturating_sub(before);
            assert!(grown < 8 << 20, "{grown} bytes for one slow reader");
            let (bytes, end) = read_to_end(&mut client);
            assert!(bytes == sent && end == End::Closed, "{} bytes, {end:?}", bytes.len());
        });
    });
}

#[test]
fn a_reset_passes_through_the_tunnel() {
    each_mode(|mode| {
        let Tunnel { client, mut server, gateway } = tunnel(mode);
        reset_on_close(&client);
        drop(client);
        read_to_end(&mut server);
        eventually("nothing is left", || gateway.connections().is_empty());
    });
}

#[test]
fn an_upstream_that_refuses_ends_the_connection() {
    each_mode(|mode| {
        let gateway = Gateway::tunnel(mode, refused(), &[]);
        // The end may come before the connect has returned.
        if let Some(mut client) = try_dial(gateway.address()) {
            let (bytes, _) = read_to_end(&mut client);
            assert!(bytes.is_empty(), "{bytes:?}");
        }
        let failed = || gateway.metric("upstream_connect_failures_total", "");
        eventually("it is counted", || failed() >= 1.0);
    });
}

#[test]
fn many_tunnels_stay_apart() {
    each_mode(|mode| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let gateway = Gateway::tunnel(mode, listener.local_addr().expect("it is bound"), &[]);
        let echo = std::thread::spawn(move || {
            let serving = (0..100).map(|_| {
                let (mut stream, _) = listener.accept().expect("the gateway connects");
                std::thread::spawn(move || {
                    let mut read = stream.try_clone().expect("descriptors are left");
                    std::io::copy(&mut read, &mut stream).expect("it echoes");
                    let _ = stream.shutdown(Shutdown::Write);
                })
            });
            serving.collect::<Vec<_>>().into_iter().for_each(|one| one.join().expect("it echoes"));
        });
        let mut clients: Vec<_> = (0..100).map(|_| dial(gateway.address())).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&pattern(10_000, number as u32)).expect("it is open");
            client.shutdown(Shutdown::Write).expect("it is open");
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(read_to_end(client), (pattern(10_000, number as u32), End::Closed));
        }
        echo.join().expect("all are served");
    });
}
