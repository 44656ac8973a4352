//! Access lines: one for each request that has ended, with what it named and how it ended, and none while they are off.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use bowline_gateway::config::plan::Plan;
use bowline_gateway::metrics::Count;
use bowline_protocols::bolt::{Status, Version, fields};
use bowline_protocols::testing::response;
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::bolt::Call;
use crate::http::{http_plan, ok, post};
use crate::world::{World, plan_of};

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Memory {
    type Writer = Memory;

    fn make_writer(&self) -> Memory {
        self.clone()
    }
}

/// The access lines that `work` causes in a world of `plan`.
fn lines(plan: Plan, work: impl FnOnce(&mut World)) -> Vec<Value> {
    let memory = Memory::default();
    let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(memory.clone());
    let mut world = World::new(plan, 1);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || work(&mut world));
    let text = String::from_utf8(memory.0.lock().expect("no panic").clone()).expect("text");
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|line| line["target"] == "access").collect()
}

fn on(mut plan: Plan) -> Plan {
    plan.log.access = true;
    plan
}

fn call(id: u32, service: &str) -> Call {
    Call::new(id, b"hello").header(fields::encode(&[("service", service)]))
}

#[test]
fn a_reply_ends_a_request_with_its_own_service_status_and_sizes() {
    let (first, second) = (call(7, "com.x.A:1.0").bytes(), call(7, "com.x.B:1.0").bytes());
    let reply = |id, status: Status, content: &[u8]| response(Version::V1, false, id, status.code(), content);
    let sizes = (first.len(), reply(0, Status::Success, b"b").len(), reply(0, Status::Error, b"aa").len());
    let said = lines(on(plan_of(1)), |world| {
        let client = world.connect(0);
        world.send(client, &[first, second].concat());
        let server = world.server();
        let ids: Vec<_> = world.messages(server).iter().map(|seen| seen.id()).collect();
        // Answered in the other order, and the later one with an error.
        world.send(server, &reply(ids[1], Status::Success, b"b"));
        world.send(server, &reply(ids[0], Status::Error, b"aa"));
        assert_eq!(world.messages(client).len(), 2);
    });
    assert_eq!(said.len(), 2, "{said:#?}");
    for (line, service, status, bytes_out) in
        [(&said[0], "com.x.B:1.0", 0, sizes.1), (&said[1], "com.x.A:1.0", 1, sizes.2)]
    {
        assert_eq!((&line["service"], &line["status"]), (&service.into(), &status.into()));
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&sizes.0.into(), &bytes_out.into()));
        assert_eq!((&line["listener"], &line["cluster"]), (&"default".into(), &"echo".into()));
        assert!(line["failure"].is_null() && line["connection"].is_u64() && line["peer"].is_string());
    }
}

#[test]
fn a_request_of_http_ends_with_its_own_sizes_however_it_came() {
    let (asked, answered) = (post("/a", b"hello"), ok("x"));
    let said = lines(on(http_plan(1)), |world| {
        let client = world.connect(0);
        for cut in [asked.len(), asked.len() - 2, 9] {
            world.send(client, &asked[..cut]);
            world.send(client, &asked[cut..]);
            let server = world.server();
            world.send(server, &answered);
            assert_eq!(world.http(client).status(), 200);
        }
    });
    let sizes: Vec<_> = said.iter().map(|line| (&line["bytes_in"], &line["bytes_out"])).collect();
    assert_eq!(sizes, [(&asked.len().into(), &answered.len().into()); 3]);
    let cluster = http_plan(1).clusters[0].name.clone();
    assert!(!cluster.is_empty() && said.iter().all(|line| line["cluster"] == cluster), "{said:#?}");
}

#[test]
fn what_is_answered_here_has_the_size_of_its_request() {
    let mut plan = on(http_plan(1));
    plan.listeners[0].default_route = None;
    let asked = post("/a", b"hello");
    let said = lines(plan, |world| {
        let client = world.connect(0);
        world.send(client, &[&asked[..], &asked].concat());
        assert_eq!(world.https(client).len(), 2);
    });
    assert_eq!(said.iter().map(|line| &line["bytes_in"]).collect::<Vec<_>>(), [asked.len(); 2]);
    assert!(said.iter().all(|line| line["cluster"] == ""), "it went to none: {said:#?}");
}

#[test]
fn a_request_that_goes_nowhere_names_its_failure() {
    let mut plan = on(plan_of(1));
    plan.listeners[0].default_route = None;
    let said = lines(plan, |world| {
        let client = world.connect(0);
        world.send(client, &call(1, "unknown").bytes());
        world.send(client, &Call::new(2, b"x").header(b"\0".to_vec()).bytes());
        world.send(client, &call(3, "unknown").oneway().bytes());
        assert_eq!(world.messages(client).len(), 2);
    });
    let shown: Vec<_> =
        said.iter().map(|line| (&line["failure"], &line["service"], &line["status"])).collect();
    assert_eq!(shown[0], (&"no_route".into(), &"unknown".into(), &6.into()));
    assert_eq!(shown[1], (&"head_malformed".into(), &"".into(), &9.into()));
    assert_eq!(shown[2], (&"no_route".into(), &"unknown".into(), &Value::Null), "nobody is answered");
    assert_eq!(shown.len(), 3);
    assert!(said.iter().all(|line| line["cluster"] == ""), "{said:#?}");
}

#[test]
fn a_oneway_request_ends_when_it_is_taken_in() {
    let said = lines(on(plan_of(1)), |world| {
        let client = world.connect(0);
        world.send(client, &call(1, "demo").oneway().bytes());
        assert_eq!(world.total(Count::RequestsOneway), 1);
    });
    assert_eq!(said.len(), 1, "{said:#?}");
    assert_eq!((&said[0]["service"], &said[0]["cluster"]), (&"demo".into(), &"echo".into()));
    assert!(said[0]["status"].is_null() && said[0]["failure"].is_null(), "{said:#?}");
}

#[test]
fn a_long_service_is_cut() {
    let said = lines(on(plan_of(1)), |world| {
        let client = world.connect(0);
        world.round_trip(client, 1, b"no service");
        world.send(client, &call(2, &"s".repeat(30_000)).bytes());
        world.echo();
    });
    assert_eq!(said.len(), 2, "{said:#?}");
    assert_eq!(said[1]["service"].as_str().map(str::len), Some(128));
}

#[test]
fn while_they_are_off_nothing_is_written() {
    let said = lines(plan_of(1), |world| {
        let client = world.connect(0);
        world.round_trip(client, 1, b"hello");
        world.send(client, &call(3, "demo").oneway().bytes());
        assert_eq!(world.total(Count::Requests), 2);
    });
    assert!(said.is_empty(), "{said:#?}");
}
