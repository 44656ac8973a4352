//! How the process ends: a drain lets balancers notice and calls finish, a second signal or SIGINT does not wait, and
//! SIGHUP ends nothing.

use bowline_protocols::bolt::Status;
use bowline_tests::{
    Action, BoltClient, Call, Gateway, Message, Upstream, each_mode, each_mode_marked, eventually,
};
use nix::sys::signal::Signal;

fn held_or_echo(request: &Message) -> Action {
    if request.content() == b"hold" { Action::Hold } else { Action::Echo }
}

fn not_ready(gateway: &Gateway) -> bool {
    gateway.get("/readyz").is_some_and(|(status, _)| status == 503)
}

#[test]
fn a_drain_serves_on_and_ends_when_the_last_call_has_its_answer() {
    each_mode_marked(|mode| {
        let upstream = Upstream::start(held_or_echo);
        let flags = ["--drain-delay", "1s", "--drain-deadline", "20s"];
        let mut gateway = Gateway::bolt(mode, upstream.address(), &flags);
        let mut client = BoltClient::connect(gateway.address());
        client.send(&Call::new("hold"));
        upstream.wait("it is in flight", |state| state.held() == 1);
        gateway.signal(Signal::SIGTERM);
        eventually("readiness goes off", || not_ready(&gateway));
        assert_eq!(gateway.get("/healthz").map(|(status, _)| status), Some(200), "it is still alive");
        BoltClient::connect(gateway.address()).echo(b"accepted during the delay");
        eventually("then accepting stops", || std::net::TcpStream::connect(gateway.address()).is_err());
        assert!(gateway.runs(), "a call is still in flight");
        upstream.release();
        assert_eq!(client.receive().status(), Status::Success);
        client.end();
        assert_eq!(gateway.wait().code(), Some(0));
    });
}

#[test]
fn a_drain_closes_idle_connections() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let flags = ["--drain-delay", "0s", "--drain-deadline", "2s"];
        let mut gateway = Gateway::bolt(mode, upstream.address(), &flags);
        let mut clients: Vec<_> = (0..20).map(|_| BoltClient::connect(gateway.address())).collect();
        clients.iter_mut().for_each(|client| client.echo(b"x"));
        gateway.signal(Signal::SIGTERM);
        for client in &mut clients {
            client.end();
        }
        assert_eq!(gateway.wait().code(), Some(0));
        upstream.wait("upstream connections end too", |state| state.connections() == 0);
    });
}

#[test]
fn a_drain_ends_at_its_deadline_whatever_is_in_flight() {
    each_mode(|mode| {
        let upstream = Upstream::start(|_| Action::Silent);
        let flags = ["--drain-delay", "0s", "--drain-deadline", "1s"];
        let mut gateway = Gateway::bolt(mode, upstream.address(), &flags);
        let mut client = BoltClient::connect(gateway.address());
        client.send(&Call::new("never answered"));
        upstream.wait("it is in flight", |state| state.requests.len() == 1);
        gateway.signal(Signal::SIGTERM);
        gateway.wait();
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    each_mode(|mode| {
        let upstream = Upstream::start(|_| Action::Silent);
        // Without the second signal this drain would outlast the patience of the test.
        let flags = ["--drain-delay", "600s", "--drain-deadline", "600s"];
        let mut gateway = Gateway::bolt(mode, upstream.address(), &flags);
        let mut client = BoltClient::connect(gateway.address());
        client.send(&Call::new("never answered"));
        upstream.wait("it is in flight", |state| state.requests.len() == 1);
        gateway.signal(Signal::SIGTERM);
        eventually("it drains", || not_ready(&gateway));
        gateway.signal(Signal::SIGTERM);
        gateway.wait();
    });
}

#[test]
fn an_interrupt_does_not_wait() {
    each_mode(|mode| {
        let upstream = Upstream::start(|_| Action::Silent);
        let flags = ["--drain-delay", "600s", "--drain-deadline", "600s"];
        let mut gateway = Gateway::bolt(mode, upstream.address(), &flags);
        let mut client = BoltClient::connect(gateway.address());
        client.send(&Call::new("never answered"));
        upstream.wait("it is in flight", |state| state.requests.len() == 1);
        gateway.signal(Signal::SIGINT);
        gateway.wait();
    });
}

#[test]
fn a_hangup_is_logged_and_ends_nothing() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        gateway.signal(Signal::SIGHUP);
        eventually("it says so", || gateway.log().contains("SIGHUP"));
        BoltClient::connect(gateway.address()).echo(b"it goes on");
    });
}
