//! WebSockets over real sockets when the process drains: both peers hear a close frame, no frame is cut in two, and the
//! process does not wait for its deadline. With plain sockets, and with the libraries of Python and Node on both sides.

use std::net::TcpListener;

use bowline_protocols::websocket::{Frames, close_of_client, close_of_server};
use bowline_protocols::websocket_properties::{End as Ending, map_of};
use bowline_tests::sockets::End;
use bowline_tests::websocket::{Library, Peer, available, frame, listener, open};
use bowline_tests::{Gateway, HttpStream, Mode, each_mode, each_mode_marked, eventually};
use nix::sys::signal::Signal;

/// `FIN`, close, two bytes: 1001.
const GOODBYE: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];
/// The moment comes in the first half.
const FLAGS: [&str; 4] = ["--drain-delay", "0s", "--drain-deadline", "4s"];
/// Where somebody does not answer: there are two seconds for either answer.
const PATIENT_FLAGS: [&str; 4] = ["--drain-delay", "0s", "--drain-deadline", "10s"];

fn started(mode: Mode, flags: &[&str]) -> (TcpListener, Gateway) {
    let listener = listener();
    let gateway = Gateway::http(mode, listener.local_addr().expect("it is bound"), flags);
    (listener, gateway)
}

/// It ended before its deadline, with nobody cut.
fn assert_drained(mut gateway: Gateway) {
    assert_eq!(gateway.wait().code(), Some(0));
    let log = gateway.log();
    assert!(log.contains("drained") && !log.contains("drain_deadline"), "{log}");
}

/// The status of a client's close frame.
fn status_of_client(frame: &[u8]) -> u16 {
    assert_eq!(frame[..2], [0x88, 0x82], "a masked close frame: {frame:x?}");
    u16::from_be_bytes([frame[6] ^ frame[2], frame[7] ^ frame[3]])
}

#[test]
fn a_drain_says_goodbye_to_both_peers_and_ends_when_they_have_answered() {
    each_mode_marked(|mode| {
        let (listener, gateway) = started(mode, &FLAGS);
        let (mut client, mut server) = open(&gateway, &listener);
        client.send(frame(0x81, b"hello", true));
        assert_eq!(server.exactly(11).expect("it is open"), frame(0x81, b"hello", true));
        gateway.signal(Signal::SIGTERM);
        assert_eq!(client.exactly(4).expect("a close frame comes"), GOODBYE);
        let answer = close_of_client(1001, [1, 2, 3, 4]);
        client.send([&frame(0x81, b"last", true)[..], &answer].concat());
        let last = server.exactly(10 + 8).expect("what was said before, and the goodbye");
        assert_eq!(status_of_client(&last[10..]), 1001);
        server.send(close_of_server(1001));
        drop(server);
        assert_eq!(client.to_end(), (Vec::new(), End::Closed), "nothing comes behind a close frame");
        drop(client);
        assert_drained(gateway);
    });
}

#[test]
fn a_server_whose_client_does_not_answer_hears_the_gateway() {
    each_mode(|mode| {
        let (listener, gateway) = started(mode, &PATIENT_FLAGS);
        let (mut client, mut server) = open(&gateway, &listener);
        gateway.signal(Signal::SIGTERM);
        assert_eq!(client.exactly(4).expect("a close frame comes"), GOODBYE);
        assert_eq!(status_of_client(&server.exactly(8).expect("another")), 1001);
        // Neither answers, and the process does not wait for its deadline.
        assert_eq!(client.to_end(), (Vec::new(), End::Closed));
        assert_eq!(server.to_end(), (Vec::new(), End::Closed));
        assert_drained(gateway);
    });
}

/// Sends frames in pieces that fit to nothing, until the connection takes no more.
fn send_without_end(server: &HttpStream) {
    use std::io::Write;
    let frames: Vec<u8> =
        (0..200).flat_map(|length| frame(0x82, &vec![length as u8; length * 7], false)).collect();
    let mut socket = server.socket();
    for piece in frames.chunks(1_001).cycle() {
        if socket.write_all(piece).is_err() {
            return;
        }
    }
}

#[test]
fn a_server_that_never_stops_sending_does_not_keep_its_client_from_a_whole_last_frame() {
    each_mode_marked(|mode| {
        let (listener, gateway) = started(mode, &PATIENT_FLAGS);
        let (mut client, server) = open(&gateway, &listener);
        std::thread::scope(|scope| {
            scope.spawn(|| send_without_end(&server));
            let early = client.exactly(1 << 20).expect("it flows");
            gateway.signal(Signal::SIGTERM);
            let mut frames = Frames::default();
            frames.follow(&early);
            let mut bytes = early;
            while frames != Frames::Closed {
                let more = client.exactly(1).expect("a close frame comes before the end");
                frames.follow(&more);
                bytes.extend(more);
            }
            let map = map_of(&bytes);
            assert_eq!((map.end, map.borders.last()), (Ending::Closed, Some(&bytes.len())));
            assert!(bytes.ends_with(&GOODBYE));
            client.send(close_of_client(1001, [1, 2, 3, 4]));
            assert_eq!(client.to_end(), (Vec::new(), End::Closed));
        });
        drop(client);
        assert_drained(gateway);
    });
}

#[test]
fn a_frame_that_never_ends_gets_no_goodbye_put_into_it() {
    each_mode(|mode| {
        let listener = listener();
        let address = listener.local_addr().expect("it is bound");
        let flags = ["--drain-delay", "0s", "--drain-deadline", "1s"];
        let mut gateway = Gateway::http(mode, address, &flags);
        let (mut client, mut server) = open(&gateway, &listener);
        let half = &frame(0x82, &[7; 1_000], false)[..500];
        server.send(half);
        assert_eq!(client.exactly(500).expect("it is open"), half);
        gateway.signal(Signal::SIGTERM);
        assert_eq!(client.to_end().0, b"");
        assert_eq!(gateway.wait().code(), Some(0));
    });
}

#[test]
fn real_clients_and_servers_hear_1001_and_end_in_order() {
    if !available() {
        return;
    }
    each_mode(|mode| {
        for (of_client, of_server) in [
            (Library::Python, Library::Python),
            (Library::Node, Library::Node),
            (Library::Python, Library::Node),
            (Library::Node, Library::Python),
        ] {
            let (server, address) = Peer::server(of_server);
            let gateway = Gateway::http(mode, address, &FLAGS);
            let client = Peer::client(of_client, gateway.address());
            assert_eq!(client.next()["heard"], true, "{of_client:?} {of_server:?}");
            eventually("both sides are listed", || gateway.connections().len() == 2);
            gateway.signal(Signal::SIGTERM);
            assert_eq!(client.next()["closed"], 1001, "{of_client:?} {of_server:?}");
            assert_eq!(server.next()["closed"], 1001, "{of_client:?} {of_server:?}");
            assert_drained(gateway);
        }
    });
}
