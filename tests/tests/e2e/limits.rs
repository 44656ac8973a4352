//! What the gateway refuses and how: connections over a limit are accepted, reset and counted, a lack of descriptors
//! pauses accepting, and a wrong command line ends with 78 before anything is bound.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use bowline_tests::gateway::bowline;
use bowline_tests::sockets::{dial, read_to_end, try_dial, try_dial_from};
use bowline_tests::{BoltClient, Gateway, Upstream, each_mode, eventually};

/// Whether a heartbeat is answered; a connection that was refused is reset instead.
fn is_served(mut stream: TcpStream) -> Option<BoltClient> {
    let beat = [1, 1, 0, 0, 1, 0, 0, 0, 9, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    if std::io::Write::write_all(&mut stream, &beat).is_err() {
        return None;
    }
    let mut first = [0; 20];
    match std::io::Read::read_exact(&mut stream, &mut first) {
        Ok(()) => Some(BoltClient::over(stream)),
        Err(_) => None,
    }
}

#[test]
fn connections_over_the_limit_are_reset_and_counted() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &["--max-connections", "20"]);
        let mut served: Vec<_> =
            (0..40).filter_map(|_| try_dial(gateway.address()).and_then(is_served)).collect();
        assert!((1..=20).contains(&served.len()), "{} are served", served.len());
        let refused = gateway.metric("connections_refused_limit_total", "");
        assert_eq!(refused as usize, 40 - served.len());
        for client in &mut served {
            client.heartbeat(bowline_protocols::bolt::Version::V1);
        }
        drop(served);
        eventually("there is room again", || try_dial(gateway.address()).and_then(is_served).is_some());
    });
}

#[test]
fn one_source_cannot_take_more_than_its_share() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &["--max-connections-per-source", "5"]);
        let from = |last: u8| {
            try_dial_from(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)), gateway.address())
        };
        let greedy: Vec<_> = (0..12).filter_map(|_| from(2).and_then(is_served)).collect();
        assert_eq!(greedy.len(), 5);
        assert_eq!(gateway.metric("connections_refused_source_total", ""), 7.0);
        let mut other = from(3).and_then(is_served).expect("another source has its own share");
        other.echo(b"served");
        drop(greedy);
        eventually("there is room again", || from(2).and_then(is_served).is_some());
    });
}

#[test]
fn without_descriptors_accepting_pauses_and_comes_back() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let upstream_url = upstream.url();
        let mut flags = vec!["--upstream", &upstream_url, "--max-connections", "44"];
        // Listeners that nobody uses, so that in every mode fewer descriptors are left than connections are allowed.
        (0..5).for_each(|_| flags.extend(["--listen", "bolt://127.0.0.1:0"]));
        let gateway = Gateway::start_with_descriptors(mode, 60, &flags);
        let address = gateway.address();
        let mut first = BoltClient::connect(address);
        first.echo(b"the upstream connection exists now");
        let crowd: Vec<_> = (0..100).filter_map(|_| try_dial(address)).collect();
        for round in 0..50 {
            first.echo(format!("who was there first is served: {round}").as_bytes());
        }
        drop(crowd);
        eventually("new ones are served again", || try_dial(address).and_then(is_served).is_some());
        first.echo(b"and so is the first");
        assert!(gateway.metric("accept_pauses_total", "") >= 1.0, "descriptors did run out");
    });
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &["--idle-timeout", "1s"]);
        let mut idle = BoltClient::connect(gateway.address());
        idle.echo(b"hello");
        let mut busy = BoltClient::connect(gateway.address());
        eventually("the idle one is closed", || {
            busy.echo(b"still here");
            gateway.closes("idle_timeout") == 1.0
        });
        idle.end();
        busy.echo(b"and still here");
    });
}

#[test]
fn a_wrong_command_line_ends_with_78_and_says_why() {
    let wrong: [(&[&str], &str); 9] = [
        (&["--no-such-flag"], "no-such-flag"),
        (&["--engine", "steam"], "steam"),
        (&["--reactors", "4", "--workers", "2"], "workers"),
        (&["--engine", "tokio", "--dispatch", "handoff"], "dispatch"),
        (&["--listen", "bolt//nonsense"], "nonsense"),
        (&["--listen", "smtp://127.0.0.1:0"], "smtp"),
        (&["--listen", "tcp://127.0.0.1:0", "--upstream", "bolt://127.0.0.1:1"], "bolt"),
        (&["--idle-timeout", "soon"], "soon"),
        (&["--config", "no/such/file.yaml"], "no/such/file.yaml"),
    ];
    for (flags, word) in wrong {
        let output = bowline(&[&["run", "--admin", "off"], flags].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{flags:?}: {said}");
        assert!(said.contains(word), "{flags:?}: {said}");
        assert!(output.stdout.is_empty(), "{flags:?}: it never got ready");
    }
}

#[test]
fn an_address_in_use_is_a_failure_and_not_a_wrong_configuration() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let listen = format!("bolt://{}", taken.local_addr().expect("it is bound"));
    let output = bowline(&["run", "--admin", "off", "--listen", &listen, "--upstream", "bolt://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn without_anything_said_it_answers_from_its_own_upstream() {
    each_mode(|mode| {
        let gateway = Gateway::start(mode, &["--listen", "bolt://127.0.0.1:0"]);
        BoltClient::connect(gateway.address()).echo(b"hello");
        let url = format!("bolt://{}", gateway.address());
        let output = bowline(&["call", &url, "--service", "demo", "--data", "hello", "--count", "3"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("hello"), "{said}{output:?}");
    });
}

#[test]
fn a_reset_of_a_refused_connection_carries_no_bytes() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &["--max-connections-per-source", "1"]);
        let _first = is_served(dial(gateway.address())).expect("one is allowed");
        // A reset that comes before the connect has returned carries no bytes either.
        if let Some(mut stream) = try_dial(gateway.address()) {
            let (bytes, _) = read_to_end(&mut stream);
            assert!(bytes.is_empty(), "{bytes:?}");
        }
        assert_eq!(gateway.metric("connections_refused_source_total", ""), 1.0);
    });
}
