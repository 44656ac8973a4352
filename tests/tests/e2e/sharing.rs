//! Many clients over few upstream connections: ids are never mixed up, nobody waits for somebody else, and a client that
//! does not read costs only itself.

use std::net::Shutdown;

use bowline_protocols::bolt::{Kind, Status, Version, encode_goaway};
use bowline_protocols::testing::VERSIONS;
use bowline_tests::{Action, BoltClient, Call, Gateway, Message, Upstream, each_mode, each_mode_marked};

use crate::deep_or;

#[test]
fn the_same_id_of_many_clients_is_not_mixed_up() {
    each_mode(|mode| {
        let upstream = Upstream::start(|_| Action::Hold);
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut clients: Vec<_> = (0..50).map(|_| BoltClient::connect(gateway.address())).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.next_id = 7;
            client.send(&Call::new(format!("client {number}")));
        }
        upstream.wait("all are in flight", |state| state.held() == 50);
        upstream.release();
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.receive();
            assert_eq!((answer.frame.id, answer.content()), (7, format!("client {number}").as_bytes()));
        }
    });
}

#[test]
fn ids_of_a_client_may_wrap_and_repeat() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        client.next_id = u32::MAX - 10;
        for round in 0..21 {
            client.echo(format!("round {round}").as_bytes());
        }
        assert_eq!(client.next_id, 10);
        client.next_id = i32::MAX as u32;
        client.echo(b"an id that is negative in Java comes next");
        client.echo(b"and this is it");
        for _ in 0..2 {
            client.next_id = 3;
            client.echo(b"an id used again");
        }
    });
}

#[test]
fn answers_in_any_order_find_their_calls() {
    each_mode(|mode| {
        let late = |request: &Message| {
            if request.content().starts_with(b"late") { Action::Hold } else { Action::Echo }
        };
        let upstream = Upstream::start(late);
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        let first = client.send(&Call::new("late"));
        upstream.wait("it is held", |state| state.held() == 1);
        for round in 0..50 {
            client.echo(format!("round {round}").as_bytes());
        }
        upstream.release();
        assert_eq!(client.receive().frame.id, first);
    });
}

#[test]
fn the_order_of_one_client_is_kept_on_the_way_to_one_upstream_connection() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &["--upstream-mode", "bound"]);
        let mut client = BoltClient::connect(gateway.address());
        for id in 0..500_u32 {
            client.send(&Call::new(id.to_be_bytes()));
        }
        for id in 0..500_u32 {
            assert_eq!(client.receive().content(), id.to_be_bytes());
        }
        let state = upstream.state();
        assert!(
            state.requests.iter().enumerate().all(|(at, seen)| seen.content == (at as u32).to_be_bytes())
        );
    });
}

#[test]
fn a_large_frame_that_stalls_holds_nobody_up() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &["--upstream-connections", "1"]);
        let mut stalled = BoltClient::connect(gateway.address());
        let frame = Call::new(vec![0; (16 << 20) - 1]).bytes(1);
        stalled.send_bytes(&frame[..1 << 20]);
        let mut others: Vec<_> = (0..200).map(|_| BoltClient::connect(gateway.address())).collect();
        for round in 0..3 {
            for (number, other) in others.iter_mut().enumerate() {
                other.echo(format!("{round} {number}").as_bytes());
            }
        }
        stalled.send_bytes(&frame[1 << 20..]);
        assert_eq!(stalled.receive().content().len(), (16 << 20) - 1, "and it is served in the end");
    });
}

#[test]
fn a_client_that_never_reads_is_closed_and_nobody_else_waits() {
    each_mode(|mode| {
        let upstream = Upstream::start(|request| match request.content() {
            b"much" => Action::Reply(vec![1; 4 << 20]),
            _ => Action::Echo,
        });
        let gateway = Gateway::bolt(mode, upstream.address(), &["--upstream-connections", "1"]);
        let mut slow = BoltClient::connect_narrow(gateway.address(), 4096);
        for _ in 0..4 {
            slow.send(&Call::new("much"));
        }
        let mut other = BoltClient::connect(gateway.address());
        bowline_tests::eventually("the slow one is closed", || {
            other.echo(b"served meanwhile");
            gateway.closes("slow_reader") == 1.0
        });
    });
}

#[test]
fn what_slow_readers_leave_unread_is_all_the_memory_they_cost() {
    const PENDING_BYTES: usize = 256 << 10;
    let count = deep_or(2_000, 100);
    each_mode(|mode| {
        let upstream = Upstream::start(|request| match request.content() {
            b"much" => Action::Reply(vec![1; PENDING_BYTES]),
            _ => Action::Echo,
        });
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut slow: Vec<_> =
            (0..count).map(|_| BoltClient::connect_narrow(gateway.address(), 4096)).collect();
        for client in &mut slow {
            client.echo(b"warm");
        }
        let before = gateway.anonymous_bytes();
        for client in &mut slow {
            client.send(&Call::new("much"));
        }
        upstream.wait("all are answered", |state| state.requests.len() == 2 * count);
        let written = || gateway.metric("upstream_read_bytes_total", "") as usize;
        bowline_tests::eventually("all answers are in the gateway", || written() > count * PENDING_BYTES);
        let grown = gateway.anonymous_bytes().saturating_sub(before) as usize;
        // A few batch chunks of 64 KiB are the workers' and not the readers'.
        let room = 2 * count * PENDING_BYTES + (8 << 20);
        assert!(grown <= room, "{grown} bytes for {count} readers, at most {room}");
        for client in &mut slow {
            assert_eq!(client.receive().content().len(), PENDING_BYTES, "nothing was lost");
        }
    });
}

#[test]
fn a_client_that_says_its_last_word_still_gets_its_answers() {
    each_mode(|mode| {
        let upstream = Upstream::start(|_| Action::Hold);
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        let id = client.send(&Call::new("last"));
        upstream.wait("it is in flight", |state| state.held() == 1);
        client.stream().shutdown(Shutdown::Write).expect("it is open");
        // The gateway sees the end of the stream before the answer exists.
        let mut bystander = BoltClient::connect(gateway.address());
        bystander.heartbeat(Version::V1);
        upstream.release();
        let answer = client.receive();
        assert_eq!((answer.frame.id, answer.status()), (id, Status::Success));
        client.end();
    });
}

#[test]
fn an_upstream_that_stops_reading_leaves_each_call_one_answer() {
    each_mode(|mode| {
        let upstream = Upstream::start(|_| Action::StopReading);
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        let before = gateway.anonymous_bytes();
        let ids: std::collections::BTreeSet<_> =
            (0..20).map(|_| client.send(&Call::new(vec![1; 1 << 20]).timeout_ms(2_000))).collect();
        let mut answered = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let answer = client.receive();
            assert!(
                matches!(answer.status(), Status::Timeout | Status::ServerThreadpoolBusy),
                "{:?}",
                answer.frame
            );
            answered.insert(answer.frame.id);
        }
        assert_eq!(answered, ids);
        let grown = gateway.anonymous_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes for 20 calls of 1 MiB");
        client.heartbeat(Version::V1);
    });
}

#[test]
fn every_version_has_upstream_connections_of_its_own() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        for _ in 0..3 {
            for (version, crc) in VERSIONS {
                client.call(&Call::new("x").version(version, crc));
            }
        }
        // A Java server answers in the version of the first frame of a connection.
        let mut versions = std::collections::HashMap::new();
        for seen in &upstream.state().requests {
            let first = versions.entry(seen.connection).or_insert(seen.version);
            assert_eq!(*first, seen.version, "one connection, one version");
        }
        assert!(versions.len() >= 3, "{versions:?}");
    });
}

#[test]
fn a_bound_upstream_connection_is_its_clients_and_ends_with_it() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &["--upstream-mode", "bound"]);
        let mut clients: Vec<_> = (0..5).map(|_| BoltClient::connect(gateway.address())).collect();
        for round in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.echo(&[number as u8, round]);
            }
        }
        let mut owners = std::collections::HashMap::new();
        for seen in &upstream.state().requests {
            let owner = owners.entry(seen.connection).or_insert(seen.content[0]);
            assert_eq!(*owner, seen.content[0], "one connection, one client");
        }
        assert_eq!(owners.len(), 5);
        drop(clients);
        upstream.wait("they end with their clients", |state| state.connections() == 0);
    });
}

#[test]
fn a_call_from_the_server_comes_to_the_client_and_its_answer_goes_back() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &["--upstream-mode", "bound"]);
        let mut client = BoltClient::connect(gateway.address());
        client.echo(b"the connection exists");
        // The same id as that of the client's next call: the two directions have ids of their own.
        let call = Call::new("from the server");
        upstream.send_on_all(&call.bytes(client.next_id));
        let asked = client.receive();
        assert_eq!((asked.frame.kind, asked.content()), (Kind::Request, &b"from the server"[..]));
        client.echo(b"a call of ours meanwhile");
        client.send_bytes(&bowline_tests::upstream::response(&asked, 0, b"from the client"));
        upstream.wait("it is answered", |state| state.answers == [(client.next_id - 1, 0)]);
    });
}

#[test]
fn after_a_goaway_new_calls_take_a_new_connection() {
    each_mode(|mode| {
        let upstream = Upstream::start(|request| match request.content() {
            b"hold" => Action::Hold,
            _ => Action::Echo,
        });
        let gateway = Gateway::bolt(mode, upstream.address(), &["--upstream-mode", "bound"]);
        let mut client = BoltClient::connect(gateway.address());
        let held = client.send(&Call::new("hold"));
        upstream.wait("it is in flight", |state| state.held() == 1);
        let mut goaway = [0; 32];
        let length = encode_goaway(Version::V1, 1, &mut goaway);
        upstream.send_on_all(&goaway[..length]);
        bowline_tests::eventually("it is seen", || gateway.metric("goaways_received_total", "") == 1.0);
        client.echo(b"on a new connection");
        upstream.release();
        assert_eq!(client.receive().frame.id, held, "the old one still answers");
        let connections: Vec<_> = upstream.state().requests.iter().map(|seen| seen.connection).collect();
        assert_ne!(connections[0], connections[1]);
        upstream.wait("the old one ends", |state| state.connections() == 1);
    });
}

#[test]
fn descriptors_that_are_used_again_never_mix_connections_up() {
    each_mode_marked(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let address = gateway.address();
        let storms: Vec<_> =
            (0..4_u32).map(|storm| std::thread::spawn(move || storm_of(storm, address))).collect();
        let mut steady: Vec<_> = (0..8).map(|_| BoltClient::connect(address)).collect();
        let mut round = 0_u64;
        while storms.iter().any(|storm| !storm.is_finished()) {
            for (number, client) in steady.iter_mut().enumerate() {
                client.echo(format!("steady {number} {round}").as_bytes());
            }
            round += 1;
        }
        storms.into_iter().for_each(|storm| storm.join().expect("every answer was the right one"));
        bowline_tests::eventually("all descriptors come back", || gateway.descriptors() < 100);
    });
}

/// Connections that come and go in every way: quietly, by a reset, with a call unanswered, in the middle of a frame.
fn storm_of(storm: u32, address: std::net::SocketAddr) {
    for round in 0..deep_or(5_000_u32, 300) {
        let mut client = BoltClient::connect(address);
        let content = format!("storm {storm} {round}");
        match round % 5 {
            0 => client.echo(content.as_bytes()),
            1 => {
                client.echo(content.as_bytes());
                bowline_tests::sockets::reset_on_close(client.stream());
            }
            2 => {
                client.send(&Call::new(content));
                bowline_tests::sockets::reset_on_close(client.stream());
            }
            3 => client.send_bytes(&Call::new(content).bytes(1)[..20]),
            _ => {}
        }
    }
}
