//! Which addresses a connection has: the peer that somebody in front names, the address that was reached, the one that
//! connects are made from. In every mode, over real sockets.

mod support;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use bowline_engine::machine::{Input, Machine, Open, OpenError};
use bowline_engine::options::Options;

use support::{App, each_mode, eventually, exchange, lock, machine, start};

/// A machine that is told its peer's real address by the first bytes, and answers whether it may be.
fn named(real: SocketAddr) -> Box<dyn Machine<App>> {
    machine(move |input, context| match input {
        Input::Bytes(bytes) => {
            bytes.consume(bytes.len());
            let granted = context.set_peer(real);
            assert_eq!(context.peer == real, granted);
            assert!(context.write_copy(if granted { b"y" } else { b"n" }));
        }
        Input::EndOfStream => context.close(0),
        _ => {}
    })
}

#[test]
fn a_peer_that_is_named_is_shown_and_counts_for_its_own_source() {
    each_mode(|options| {
        let options =
            Options { connections_per_source_max: Some(1), announced_listeners: vec![0], ..options };
        let real: SocketAddr = "[2001:db8::7]:4711".parse().expect("an address");
        let running = start(options, 1, move |_, _| Some(named(real)));
        let ask = || {
            let mut client = running.dial();
            std::io::Write::write_all(&mut client, b"?").expect("it is open");
            let mut answer = [0];
            client.read_exact(&mut answer).expect("it answers");
            (client, answer[0])
        };
        let (first, answer) = ask();
        assert_eq!(answer, b'y');
        assert_eq!(running.connections()[0].peer, Some(real));
        assert_eq!(ask().1, b'n', "the source has as many as it may");
        drop(first);
        eventually("all are gone", || running.handle.stats().connections == 0);
        assert!(running.app.closed().iter().any(|record| record.peer == Some(real)));
        assert_eq!(ask().1, b'y', "its place is free again");
    });
}

#[test]
fn an_accepted_connection_knows_the_address_that_was_reached() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| Some(support::echo()));
        exchange(&mut running.dial(), b"x");
        let [reached, wanted] = lock(&running.app.doors)[0];
        assert_eq!(reached, Some(running.engine.addresses()[0]));
        // Nothing translates addresses here; where the packet filter is loaded it says the same address.
        assert!(wanted.is_none() || wanted == reached);
    });
}

/// A machine that opens `to` from `from` and notes what became of it.
fn opener(to: SocketAddr, from: IpAddr, failed: &Arc<Mutex<Vec<OpenError>>>) -> Box<dyn Machine<App>> {
    let failed = Arc::clone(failed);
    machine(move |input, context| {
        if let Input::Opened = input {
            let failed = Arc::clone(&failed);
            let other = machine(move |input, _| {
                if let Input::Failed(error) = input {
                    lock(&failed).push(error);
                }
            });
            let open = Open { from: Some(from), ..Open::new(to, 10_000) };
            assert!(context.open(open, other).is_ok());
        }
    })
}

#[test]
fn a_connect_is_made_from_the_address_that_was_asked_for() {
    each_mode(|options| {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let to = server.local_addr().expect("bound");
        let from = Ipv4Addr::new(127, 0, 0, 77);
        let failed = Arc::default();
        let running = start(options, 1, move |_, _| Some(opener(to, from.into(), &failed)));
        let _client = running.dial();
        let (_, seen) = server.accept().expect("it connects");
        assert_eq!(seen.ip(), IpAddr::from(from));
    });
}

#[test]
fn an_address_that_this_host_does_not_have_is_exhaustion_and_not_the_fault_of_the_server() {
    each_mode(|options| {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let failed = Arc::default();
        let seen = Arc::clone(&failed);
        let from = Ipv4Addr::new(192, 0, 2, 1);
        let running = start(options, 1, move |_, _| Some(opener(to, from.into(), &seen)));
        let _client = running.dial();
        eventually("it failed", || !lock(&failed).is_empty());
        assert_eq!(*lock(&failed), [OpenError::Exhausted]);
    });
}
