//! Access lines of a running gateway: every way in which a request of a client can end has one line that says so.

use bowline_protocols::bolt::Status;
use bowline_tests::sockets::reset_on_close;
use bowline_tests::{Action, BoltClient, Call, Gateway, Upstream, each_mode, eventually};
use serde_json::Value;

const FLAGS: [&str; 3] = ["--access-log", "--log-format", "json"];

/// The access lines so far.
fn lines(gateway: &Gateway) -> Vec<Value> {
    let log = gateway.log();
    let all = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|line| line["target"] == "access").collect()
}

#[test]
fn every_end_of_a_request_is_one_line() {
    each_mode(|mode| {
        let upstream = Upstream::start(|request| match request.content() {
            b"silent" => Action::Silent,
            _ => Action::Echo,
        });
        let gateway = Gateway::bolt(mode, upstream.address(), &FLAGS);
        let mut client = BoltClient::connect(gateway.address());
        client.echo(b"hello");
        let late = client.call(&Call::new("silent").service("slow").timeout_ms(50));
        assert_eq!(late.status(), Status::Timeout);
        client.send(&Call::new("silent").service("left"));
        upstream.wait("it is in flight", |state| state.requests.len() == 3);
        reset_on_close(client.stream());
        drop(client);
        eventually("all three are written", || lines(&gateway).len() == 3);
        let said = lines(&gateway);
        let shown: Vec<_> =
            said.iter().map(|line| (&line["service"], &line["status"], &line["failure"])).collect();
        assert_eq!(shown[0], (&"demo".into(), &0.into(), &Value::Null));
        assert_eq!(shown[1], (&"slow".into(), &7.into(), &"timeout".into()));
        assert_eq!(shown[2], (&"left".into(), &Value::Null, &Value::Null));
        assert!(said.iter().all(|line| line["cluster"] == "upstream"), "{said:#?}");
        assert!(said.iter().all(|line| line["duration_us"].is_u64()), "{said:#?}");
    });
}

#[test]
fn without_the_flag_there_is_none() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let mut gateway =
            Gateway::bolt(mode, upstream.address(), &["--log-format", "json", "--drain-delay", "0s"]);
        BoltClient::connect(gateway.address()).echo(b"hello");
        gateway.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(gateway.wait().code(), Some(0));
        eventually("the log is whole", || gateway.log().contains("\"ended\""));
        assert!(lines(&gateway).is_empty());
    });
}
