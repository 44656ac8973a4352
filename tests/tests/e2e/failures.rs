//! What a client is told when a call cannot be carried out: one status for each cause, in the version of its call, once,
//! counted under one name, and the connection goes on.

use bowline_protocols::bolt::Status;
use bowline_protocols::testing::VERSIONS;
use bowline_tests::sockets::refused;
use bowline_tests::{Action, BoltClient, Call, Gateway, Upstream, each_mode, each_mode_marked};

/// A server that does what the content says.
fn obedient() -> Upstream {
    Upstream::start(|request| match request.content() {
        b"hold" => Action::Hold,
        b"silent" => Action::Silent,
        b"twice" => Action::Twice,
        b"close" => Action::Close,
        b"reset" => Action::Reset,
        b"half" => Action::HalfThenClose,
        b"garbage" => Action::Raw(b"\xff\xff no frame of any version".to_vec()),
        b"busy" => Action::Status(Status::ServerThreadpoolBusy.code()),
        _ => Action::Echo,
    })
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_no_processor() {
    each_mode(|mode| {
        let gateway = Gateway::bolt(mode, refused(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        for (version, crc) in VERSIONS {
            let answer = client.call(&Call::new("x").version(version, crc).timeout_ms(20_000));
            assert_eq!(answer.status(), Status::NoProcessor);
            assert_eq!(
                (answer.frame.version, answer.frame.crc),
                (version, crc),
                "in the version of the call"
            );
        }
        assert_eq!(gateway.failures("connect_failed") + gateway.failures("no_endpoint"), 4.0);
    });
}

#[test]
fn a_call_in_flight_on_a_lost_upstream_is_connection_closed() {
    each_mode_marked(|mode| {
        let upstream = obedient();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        for how in ["close", "reset", "half", "garbage"] {
            let answer = client.call(&Call::new(how));
            assert_eq!(answer.status(), Status::ConnectionClosed, "{how}");
            client.echo(b"the next one finds a new connection");
        }
        assert_eq!(gateway.failures("upstream_lost"), 4.0);
    });
}

#[test]
fn all_calls_in_flight_on_a_lost_upstream_are_answered_once() {
    each_mode(|mode| {
        let upstream = obedient();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        let mut ids: Vec<_> = (0..100).map(|_| client.send(&Call::new("hold"))).collect();
        upstream.wait("all are in flight", |state| state.held() == 100);
        upstream.close_connections();
        let mut answered: Vec<_> = (0..100)
            .map(|_| {
                let answer = client.receive();
                assert_eq!(answer.status(), Status::ConnectionClosed);
                answer.frame.id
            })
            .collect();
        ids.sort_unstable();
        answered.sort_unstable();
        assert_eq!(answered, ids);
        client.echo(b"and nothing else came");
    });
}

#[test]
fn a_deadline_that_passes_is_timeout_and_the_late_answer_is_dropped() {
    each_mode_marked(|mode| {
        let upstream = obedient();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        for _ in 0..3 {
            let answer = client.call(&Call::new("hold").timeout_ms(50));
            assert_eq!(answer.status(), Status::Timeout);
        }
        upstream.release();
        bowline_tests::eventually("late answers are counted", || {
            gateway.metric("late_replies_total", "") == 3.0
        });
        client.echo(b"its own answer");
        assert_eq!(gateway.failures("timeout"), 3.0);
        // Workers have connections of their own, so where any of them runs the client there may be a second one.
        assert_eq!(gateway.metric("connections_closed_total", ""), 0.0, "a deadline costs no connection");
    });
}

#[test]
fn a_second_answer_to_a_call_is_dropped() {
    each_mode(|mode| {
        let upstream = obedient();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        client.call(&Call::new("twice"));
        client.echo(b"own");
        bowline_tests::eventually("it is counted", || gateway.metric("late_replies_total", "") == 1.0);
    });
}

#[test]
fn a_status_of_the_upstream_passes_unchanged() {
    each_mode(|mode| {
        let upstream = obedient();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        for (version, crc) in VERSIONS {
            let answer = client.call(&Call::new("busy").version(version, crc));
            assert_eq!((answer.status(), answer.frame.crc), (Status::ServerThreadpoolBusy, crc));
        }
    });
}

#[test]
fn a_oneway_call_is_never_answered_not_even_when_it_fails() {
    each_mode(|mode| {
        let gateway = Gateway::bolt(mode, refused(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        client.send(&Call::new("lost").oneway());
        client.heartbeat(VERSIONS[0].0);
        let failed = || gateway.failures("connect_failed") + gateway.failures("no_endpoint");
        bowline_tests::eventually("it is counted", || failed() == 1.0);
        client.heartbeat(VERSIONS[0].0);
    });
}

#[test]
fn a_header_that_cannot_be_decoded_is_codec_exception() {
    each_mode(|mode| {
        let upstream = obedient();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        let malformed: [&[u8]; 3] = [b"\0", b"\0\0\0\x63abc", b"\0\0\0\x07service\x7f\xff\xff\xff"];
        for header in malformed {
            let answer = client.call(&Call { header: header.to_vec(), ..Call::new("x") });
            assert_eq!(answer.status(), Status::CodecException, "{header:?}");
        }
        client.echo(b"the connection goes on");
        assert_eq!(gateway.failures("head_malformed"), 3.0);
        assert_eq!(upstream.state().requests.len(), 1, "nothing of it went upstream");
    });
}

#[test]
fn a_class_longer_than_java_can_read_is_codec_exception() {
    each_mode(|mode| {
        let upstream = obedient();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        // What the encoder refuses: the length of the class stands at 14 in a v1 request.
        let mut bytes = Call { class: Vec::new(), header: Vec::new(), ..Call::new("") }.bytes(7);
        bytes[14..16].copy_from_slice(&40_000_u16.to_be_bytes());
        bytes.extend(vec![b'c'; 40_000]);
        client.send_bytes(&bytes);
        let answer = client.receive();
        assert_eq!((answer.frame.id, answer.status()), (7, Status::CodecException));
        client.echo(b"the connection goes on");
        assert_eq!(gateway.failures("head_too_large"), 1.0);
    });
}

#[test]
fn an_upstream_that_comes_back_is_used_again() {
    each_mode(|mode| {
        let mut upstream = Upstream::echo();
        let address = upstream.address();
        let gateway = Gateway::bolt(mode, address, &[]);
        let mut client = BoltClient::connect(gateway.address());
        client.echo(b"before");
        upstream.kill();
        let answer = client.call(&Call::new("while it is gone"));
        assert!(
            matches!(answer.status(), Status::NoProcessor | Status::ConnectionClosed),
            "{:?}",
            answer.status()
        );
        let _again = Upstream::start_at(address, |_| Action::Echo);
        bowline_tests::eventually("it is found again", || {
            client.call(&Call::new("after")).status() == Status::Success
        });
    });
}
