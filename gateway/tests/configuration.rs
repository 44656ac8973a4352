//! What the loader makes of flags, variables and files, and the exact words with which it refuses what is wrong. Sees
//! only the public interface; binds nothing and reads no environment of its own.

use std::collections::BTreeMap;

use bowline_gateway::config::keys::KEYS;
use bowline_gateway::config::load;
use bowline_gateway::config::machine::Machine;
use bowline_gateway::config::plan::{
    AcceptMode, Balance, ClusterPlan, Dispatch, EndpointPlan, EngineMode, LimitsPlan, LogFormat,
    PassthroughPlan, Plan, Protocol, ProxyVersion, ProxyVersions, RouteTarget, ServerName, TlsRoutePlan,
    UpstreamMode,
};

const MACHINE: Machine = Machine { cpus: 4, memory_bytes: 8 << 30, descriptors_max: 20_000 };

fn flags(said: &[(&'static str, &str)]) -> Result<Plan, String> {
    with(said, &[], &MACHINE)
}

fn with(
    said: &[(&'static str, &str)],
    variables: &[(&str, &str)],
    machine: &Machine,
) -> Result<Plan, String> {
    let said: Vec<_> = said.iter().map(|(flag, text)| (*flag, (*text).to_owned())).collect();
    let environment: BTreeMap<_, _> =
        variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    load::plan(&said, &environment, machine).map_err(|faults| faults.to_string())
}

fn refused(said: &[(&'static str, &str)]) -> String {
    flags(said).expect_err("it is refused")
}

fn text(text: &str) -> Result<Plan, String> {
    load::plan_of_text("gw.yaml", text, &MACHINE).map_err(|faults| faults.to_string())
}

fn text_refused(yaml: &str) -> String {
    text(yaml).expect_err("it is refused")
}

#[test]
fn nothing_said_is_a_working_gateway() {
    let plan = flags(&[]).unwrap();
    let listeners: Vec<_> =
        plan.listeners.iter().map(|one| (one.protocol, one.address.to_string(), one.default_route)).collect();
    let target = |cluster| Some(RouteTarget { cluster, timeout_ms: 60_000 });
    let expected = [
        (Protocol::Bolt, "127.0.0.1:12200".to_owned(), target(0)),
        (Protocol::Http, "127.0.0.1:12280".to_owned(), target(1)),
    ];
    assert_eq!(listeners, expected);
    let echo = |name, protocol| ClusterPlan { echo: true, ..ClusterPlan::named(name, protocol) };
    assert_eq!(plan.clusters, [echo("echo", Protocol::Bolt), echo("echo-http", Protocol::Http)]);
    assert_eq!(plan.admin, Some("127.0.0.1:2046".parse().unwrap()));
    assert_eq!((plan.engine.reactors, plan.engine.workers), (4, 4));
    assert_eq!(plan.engine.buffer_memory_bytes_max, 2 << 30);
    assert_eq!(plan.engine.connections_max, 20_000 - 512);
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_plan() {
    let (said, plan) = (flags(&[]).unwrap(), Plan::default());
    assert_eq!(said.limits, LimitsPlan { large_frame_bytes_max: 1 << 30, ..plan.limits });
    assert_eq!((said.timeouts, said.drain, &said.log), (plan.timeouts, plan.drain, &plan.log));
    assert_eq!((said.engine.mode, said.engine.dispatch), (plan.engine.mode, plan.engine.dispatch));
    assert_eq!((said.engine.accept, said.engine.pin_cores), (plan.engine.accept, plan.engine.pin_cores));
    assert_eq!(said.engine.read_budget_bytes, plan.engine.read_budget_bytes);
    assert_eq!(said.engine.rebalance, plan.engine.rebalance);
}

#[test]
fn flags_alone_make_a_tunnel() {
    let plan = flags(&[("--listen", "tcp://127.0.0.1:0"), ("--upstream", "tcp://db:5432")]).unwrap();
    assert_eq!(plan.listeners[0].protocol, Protocol::Tcp);
    assert_eq!(plan.clusters[0].protocol, Protocol::Tcp);
    assert_eq!(plan.clusters[0].endpoints, [EndpointPlan::Name { host: "db".to_owned(), port: 5432 }]);
}

#[test]
fn repeated_flags_are_listeners_and_endpoints() {
    let plan = flags(&[
        ("--listen", "bolt://127.0.0.1:0"),
        ("--listen", "bolt://[::1]:0"),
        ("--upstream", "bolt://127.0.0.1:1"),
        ("--upstream", "bolt://127.0.0.1:2"),
        ("--upstream-connections", "3"),
    ])
    .unwrap();
    assert_eq!(
        plan.listeners.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(),
        ["listener-0", "listener-1"]
    );
    assert_eq!(
        (plan.clusters.len(), plan.clusters[0].endpoints.len(), plan.clusters[0].connections),
        (1, 2, 3)
    );
}

#[test]
fn every_flag_reaches_the_plan() {
    let plan = flags(&[
        ("--engine", "raw"),
        ("--dispatch", "handoff"),
        ("--reactors", "2"),
        ("--workers", "3"),
        ("--pin-cores", "true"),
        ("--read-budget", "32KiB"),
        ("--buffer-memory-max", "1GiB"),
        ("--max-connections", "1000"),
        ("--max-connections-per-source", "10"),
        ("--idle-timeout", "5m"),
        ("--upstream-mode", "bound"),
        ("--accept", "reuseport"),
        ("--admin", "off"),
        ("--drain-delay", "0s"),
        ("--drain-deadline", "1m"),
        ("--log-level", "warn,bowline=info"),
        ("--log-format", "json"),
        ("--access-log", "true"),
    ])
    .unwrap();
    let engine = &plan.engine;
    assert_eq!(
        (engine.mode, engine.dispatch, engine.accept),
        (EngineMode::Raw, Dispatch::Handoff, AcceptMode::Reuseport)
    );
    assert_eq!((engine.reactors, engine.workers, engine.pin_cores), (2, 3, true));
    assert_eq!((engine.read_budget_bytes, engine.buffer_memory_bytes_max), (32 << 10, 1 << 30));
    assert_eq!((engine.connections_max, engine.connections_per_source_max), (1_000, Some(10)));
    assert_eq!((plan.timeouts.idle_ms, plan.drain.delay_ms, plan.drain.deadline_ms), (300_000, 0, 60_000));
    assert_eq!((plan.clusters[0].mode, plan.admin), (UpstreamMode::Bound, None));
    assert_eq!(
        (plan.log.level.as_str(), plan.log.format, plan.log.access),
        ("warn,bowline=info", LogFormat::Json, true)
    );
    assert_eq!(plan.limits.large_frame_bytes_max, 512 << 20);
}

#[test]
fn a_flag_stands_over_a_variable_and_a_variable_over_the_file() {
    let folder = std::env::temp_dir().join(format!("bowline-precedence-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("gw.yaml");
    std::fs::write(&path, "engine: {workers: 8, reactors: 1}\ndrain: {delay: 9s}\ntimeouts: {idle: 9m}\n")
        .unwrap();
    let variables = [
        ("BOWLINE_CONFIG", path.to_str().unwrap()),
        ("BOWLINE_WORKERS", "7"),
        ("BOWLINE_DRAIN_DELAY", "8s"),
        ("BOWLINE_UNKNOWN", "left alone"),
    ];
    let plan = with(&[("--workers", "6")], &variables, &MACHINE).unwrap();
    assert_eq!((plan.engine.workers, plan.drain.delay_ms, plan.timeouts.idle_ms), (6, 8_000, 540_000));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_would_be_ignored_is_refused() {
    let tokio = ("--engine", "tokio");
    let tcp = [("--listen", "tcp://127.0.0.1:0"), ("--upstream", "tcp://127.0.0.1:1")];
    assert_eq!(
        refused(&[tokio, ("--dispatch", "help")]),
        "--dispatch: engine.dispatch has no effect with the tokio engine, which has workers only"
    );
    assert_eq!(
        refused(&[tokio, ("--reactors", "1")]),
        "--reactors: engine.reactors has no effect with the tokio engine, which has workers only"
    );
    assert_eq!(
        refused(&[tokio, ("--rebalance", "off")]),
        "--rebalance: engine.rebalance has no effect with the tokio engine, which has workers only"
    );
    assert_eq!(
        refused(&[("--dispatch", "handoff"), ("--rebalance", "on")]),
        "--rebalance: engine.rebalance has no effect with handoff, where any worker runs what any reactor finds"
    );
    assert_eq!(
        refused(&[("--upstream-mode", "bound"), ("--upstream-connections", "2")]),
        "--upstream-connections: has no effect with upstream mode bound"
    );
    assert_eq!(
        refused(&[tcp[0], tcp[1], ("--upstream-mode", "shared")]),
        "--upstream-mode: has no effect since no upstream speaks bolt"
    );
    assert_eq!(
        refused(&[tcp[0], tcp[1], ("--upstream-connections", "1")]),
        "--upstream-connections: has no effect since no upstream speaks bolt"
    );
    let variables = [("BOWLINE_ENGINE", "tokio"), ("BOWLINE_DISPATCH", "handoff")];
    assert_eq!(
        with(&[], &variables, &MACHINE).unwrap_err(),
        "BOWLINE_DISPATCH: engine.dispatch has no effect with the tokio engine, which has workers only"
    );
}

#[test]
fn a_url_that_is_wrong_is_one_fault_whatever_would_follow_from_it() {
    let listen = ("--listen", "http://127.0.0.1:0");
    for (url, message) in [
        ("smtp://x:1", "--upstream: \"smtp://x:1\": no protocol \"smtp\"; known: bolt, http, tcp"),
        ("x", "--upstream: \"x\" is no URL; write for example bolt://127.0.0.1:12200"),
        ("http://x", "--upstream: \"http://x\": the port is missing"),
        ("http://x:0", "--upstream: \"http://x:0\": port 0 cannot be connected to"),
    ] {
        assert_eq!(refused(&[listen, ("--upstream", url)]), message);
        assert_eq!(refused(&[("--upstream", url)]), message);
    }
    let both = refused(&[listen, ("--upstream", "tcp://x")]);
    let (first, second) = both.split_once('\n').expect("what the URL does say is wrong as well");
    assert_eq!(first, "--upstream: \"tcp://x\": the port is missing");
    assert!(second.starts_with("--listen: ") && second.ends_with("its upstream speaks tcp"), "{second}");
    let file = "listeners: [{address: http://127.0.0.1:0, cluster: c}]\n\
                clusters: [{name: c, endpoints: [x], idle_timeout: 1s}]";
    assert_eq!(
        text_refused(file),
        "gw.yaml:2:34: clusters[0].endpoints: \"x\" is no URL; write for example bolt://127.0.0.1:12200"
    );
}

#[test]
fn rebalancing_is_on_until_somebody_says_off() {
    assert!(flags(&[]).unwrap().engine.rebalance);
    assert!(flags(&[("--rebalance", "on")]).unwrap().engine.rebalance);
    assert!(!flags(&[("--rebalance", "off")]).unwrap().engine.rebalance);
    assert!(!text("engine: {rebalance: off}").unwrap().engine.rebalance);
    assert!(refused(&[("--rebalance", "yes")]).starts_with("--rebalance: "));
}

#[test]
fn flags_that_do_not_fit_together_are_refused() {
    assert_eq!(
        refused(&[("--reactors", "4"), ("--workers", "2")]),
        "--workers: 2 workers are fewer than 4 reactors, and each reactor needs one"
    );
    assert_eq!(
        refused(&[("--listen", "tcp://127.0.0.1:0")]),
        "--listen: tcp://127.0.0.1:0 needs --upstream tcp://HOST:PORT"
    );
    assert_eq!(
        refused(&[("--listen", "tcp://127.0.0.1:0"), ("--upstream", "bolt://127.0.0.1:1")]),
        "--listen: tcp://127.0.0.1:0 speaks tcp, but its upstream speaks bolt"
    );
    assert_eq!(
        refused(&[("--upstream", "bolt://127.0.0.1:1"), ("--upstream", "tcp://127.0.0.1:2")]),
        "--upstream: \"tcp://127.0.0.1:2\" speaks another protocol than those before it"
    );
    assert_eq!(
        refused(&[("--upstream", "bolt://127.0.0.1:0")]),
        "--upstream: \"bolt://127.0.0.1:0\": port 0 cannot be connected to"
    );
    assert_eq!(
        refused(&[("--listen", "bolt://127.0.0.1:7"), ("--listen", "bolt://127.0.0.1:7")]),
        "--listen: 127.0.0.1:7 is listened on already by \"listener-0\""
    );
    assert_eq!(
        refused(&[("--config", "no/such.yaml")]),
        "--config: cannot read no/such.yaml: No such file or directory (os error 2)"
    );
}

#[test]
fn workers_alone_bound_the_reactors() {
    let plan = flags(&[("--workers", "2")]).unwrap();
    assert_eq!((plan.engine.reactors, plan.engine.workers), (2, 2));
    let plan = flags(&[("--workers", "9")]).unwrap();
    assert_eq!((plan.engine.reactors, plan.engine.workers), (4, 9));
    let plan = flags(&[("--engine", "tokio"), ("--workers", "3")]).unwrap();
    assert_eq!((plan.engine.mode, plan.engine.workers), (EngineMode::Tokio, 3));
}

#[test]
fn descriptors_bound_connections() {
    let small = Machine { descriptors_max: 80, ..MACHINE };
    assert_eq!(with(&[("--max-connections", "60")], &[], &small).unwrap().engine.connections_max, 60);
    assert_eq!(
        with(&[("--max-connections", "70")], &[], &small).unwrap_err(),
        "--max-connections: 70 connections do not fit the hard limit of 80 descriptors, of which 16 are for other uses"
    );
    assert_eq!(
        with(&[], &[], &small).unwrap_err(),
        "bowline: the hard limit of descriptors is 80, which leaves no connection beside 512 for other uses; raise it or say --max-connections"
    );
}

#[test]
fn little_memory_lowers_the_largest_frame_unless_it_was_said() {
    let small = Machine { memory_bytes: 128 << 20, ..MACHINE };
    let plan = with(&[], &[], &small).unwrap();
    assert_eq!(plan.engine.buffer_memory_bytes_max, 32 << 20);
    assert_eq!((plan.limits.large_frame_bytes_max, plan.limits.content_bytes_max), (16 << 20, 4 << 20));
    let faults = load::plan_of_text("gw.yaml", "limits:\n  content_max: 32MiB\n", &small).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "gw.yaml:2:16: limits.content_max: 33554432 bytes are more than limits.large_frame_memory_max (16777216 bytes)"
    );
}

const COMPLETE: &str = r#"
listeners:
  - name: front
    address: bolt://0.0.0.0:12200
    cluster: orders
    timeout: 5s
    send_goaway: true
  - {address: "tcp://127.0.0.1:0", cluster: database}
routes:
  - {service: "com.example.Stock:1.0", cluster: stock, timeout: 250ms}
  - {service: "com.example.Price:1.0", cluster: stock}
clusters:
  - name: orders
    endpoints: [bolt://10.0.0.1:12200, bolt://orders.local:12200]
    balance: least_outstanding
    connections: 2
    heartbeat_interval: 30s
  - {name: stock, endpoints: [bolt://10.0.0.2:12200], mode: bound, connect_timeout: 3s}
  - {name: database, endpoints: [tcp://10.0.0.3:5432]}
limits: {content_max: 8MiB, crc_verify: false}
timeouts: {idle: 1h}
log: {level: debug, access: true, file: /var/log/bowline.log}
"#;

#[test]
fn a_file_says_everything() {
    let plan = text(COMPLETE).unwrap();
    assert_eq!(plan.listeners[0].default_route, Some(RouteTarget { cluster: 0, timeout_ms: 5_000 }));
    assert!(plan.listeners[0].send_goaway && !plan.listeners[1].send_goaway);
    assert_eq!((plan.listeners[0].name.as_str(), plan.listeners[1].name.as_str()), ("front", "listener-1"));
    assert_eq!(plan.listeners[1].default_route.map(|target| target.cluster), Some(2));
    assert_eq!(plan.routes[0].target, RouteTarget { cluster: 1, timeout_ms: 250 });
    assert_eq!(plan.routes[1].target, RouteTarget { cluster: 1, timeout_ms: 60_000 });
    let orders = &plan.clusters[0];
    assert_eq!(
        (orders.balance, orders.connections, orders.heartbeat_interval_ms),
        (Balance::LeastOutstanding, 2, 30_000)
    );
    assert_eq!((plan.clusters[1].mode, plan.clusters[1].connect_timeout_ms), (UpstreamMode::Bound, 3_000));
    assert_eq!(plan.clusters[2].protocol, Protocol::Tcp);
    assert_eq!((plan.limits.content_bytes_max, plan.limits.crc_verify), (8 << 20, false));
    assert_eq!(plan.log.file.as_deref(), Some(std::path::Path::new("/var/log/bowline.log")));
}

#[test]
fn flags_stand_over_the_addresses_of_a_file_where_it_is_plain_which() {
    let folder = std::env::temp_dir().join(format!("bowline-over-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let one = folder.join("one.yaml");
    let listener = "listeners: [{name: a, address: bolt://127.0.0.1:1, cluster: c, timeout: 2s}]\n";
    std::fs::write(&one, format!("{listener}clusters: [{{name: c, endpoints: [bolt://h:1]}}]\n")).unwrap();
    let one = ("--config", one.to_str().unwrap());
    let plan =
        flags(&[one, ("--listen", "bolt://127.0.0.1:0"), ("--upstream", "bolt://127.0.0.1:9")]).unwrap();
    assert_eq!((plan.listeners[0].name.as_str(), plan.listeners[0].address.port()), ("a", 0));
    assert_eq!(plan.listeners[0].default_route.map(|target| target.timeout_ms), Some(2_000));
    assert_eq!(plan.clusters[0].endpoints, [EndpointPlan::Address("127.0.0.1:9".parse().unwrap())]);
    assert_eq!(
        refused(&[one, ("--listen", "bolt://127.0.0.1:0"), ("--listen", "bolt://127.0.0.1:0")]),
        "--listen: the file has 1 listeners; --listen stands for their addresses in order, so say as many"
    );
    assert_eq!(
        refused(&[one, ("--listen", "tcp://127.0.0.1:0")]).lines().next().unwrap(),
        "--listen: \"tcp://127.0.0.1:0\": listeners[0] of the file speaks bolt"
    );
    let many = folder.join("many.yaml");
    std::fs::write(&many, COMPLETE).unwrap();
    assert_eq!(
        refused(&[("--config", many.to_str().unwrap()), ("--upstream", "bolt://127.0.0.1:9")])
            .lines()
            .next()
            .unwrap(),
        "--upstream: the file has 3 clusters; --upstream can stand for the endpoints of one"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A file that has `more` beside one listener and the clusters a, b (Bolt) and t (TCP).
fn beside(more: &str) -> String {
    let clusters = "clusters: [{name: a, endpoints: [bolt://h:1]}, {name: b, endpoints: [bolt://h:2]}, {name: t, endpoints: [tcp://h:3]}]";
    format!("{clusters}\n{more}\n")
}

#[test]
fn names_without_a_cluster_say_where_and_what_is_known() {
    let listener = "listeners: [{address: bolt://127.0.0.1:0, cluster: a}]";
    let routes =
        format!("{listener}\nroutes:\n  - {{service: x, cluster: a}}\n  - {{service: y, cluster: foo}}\n");
    assert_eq!(
        text_refused(&beside(&routes)),
        "gw.yaml:5:27: routes[1].cluster: no cluster \"foo\"; known: a, b, t"
    );
    let routes =
        format!("{listener}\nroutes:\n  - {{service: x, cluster: t}}\n  - {{service: x, cluster: b}}\n");
    assert_eq!(
        text_refused(&beside(&routes)),
        "gw.yaml:4:27: routes[0].cluster: cluster \"t\" speaks tcp, not bolt\n\
         gw.yaml:5:15: routes[1].service: \"x\" is routed by routes[0] already"
    );
    let routes = format!("{listener}\nroutes: [{{}}]");
    assert_eq!(
        text_refused(&beside(&routes)),
        "gw.yaml:3:10: routes[0].service: is missing\ngw.yaml:3:10: routes[0].cluster: is missing"
    );
}

#[test]
fn listeners_that_lead_nowhere_are_refused() {
    assert_eq!(
        text_refused(&beside("listeners: [{address: bolt://127.0.0.1:0}]")),
        "gw.yaml:2:13: listeners[0].cluster: is missing; known: a, b, t"
    );
    assert_eq!(
        text_refused(&beside("listeners: [{cluster: a}]")),
        "gw.yaml:2:13: listeners[0].address: is missing"
    );
    assert_eq!(
        text_refused(&beside("listeners: [{address: bolt://web:1, cluster: a}]")),
        "gw.yaml:2:23: listeners[0].address: \"web\" is no IP address to listen on"
    );
    assert_eq!(
        text_refused(&beside("timeouts: {idle: 1m}")),
        "bowline: bolt://127.0.0.1:12200 could lead to several clusters; describe it in the file's listeners"
    );
    let routed = beside("routes: [{service: x, cluster: a}]");
    assert_eq!(text(&routed).unwrap().listeners[0].default_route, None);
}

#[test]
fn keys_of_a_file_that_would_be_ignored_are_refused() {
    let tcp = "listeners: [{address: tcp://127.0.0.1:0, cluster: t, timeout: 1s, send_goaway: true}]\n";
    assert_eq!(
        text_refused(&beside(tcp)),
        "gw.yaml:2:63: listeners[0].timeout: has no effect on a tcp listener\n\
         gw.yaml:2:80: listeners[0].send_goaway: has no effect on a listener of tcp"
    );
    let listener = "listeners: [{address: tcp://127.0.0.1:0, cluster: t}]\n";
    assert_eq!(
        text_refused(&format!("{listener}clusters: [{{name: t, endpoints: [tcp://h:1], mode: bound}}]")),
        "gw.yaml:2:52: clusters[0].mode: has no effect on a tcp cluster"
    );
    let listener = "listeners: [{address: bolt://127.0.0.1:0, cluster: t}]\n";
    assert_eq!(
        text_refused(&format!(
            "{listener}clusters: [{{name: t, endpoints: [bolt://h:1], mode: bound, connections: 2}}]"
        )),
        "gw.yaml:2:73: clusters[0].connections: has no effect in bound mode"
    );
    let routes = "routes: [{service: x, cluster: a}]\nlisteners: [{address: tcp://127.0.0.1:0, cluster: t}]";
    assert_eq!(
        text_refused(&beside(routes)),
        "gw.yaml:2:10: routes: have no effect since no listener speaks bolt"
    );
}

#[test]
fn clusters_that_cannot_work_are_refused() {
    let listener = "listeners: [{address: bolt://127.0.0.1:0, cluster: c}]\n";
    let cluster = |text: &str| text_refused(&format!("{listener}clusters: [{text}]"));
    assert_eq!(
        cluster("{name: c, endpoints: [smtp://h:1]}"),
        "gw.yaml:2:34: clusters[0].endpoints: \"smtp://h:1\": no protocol \"smtp\"; known: bolt, http, tcp"
    );
    assert_eq!(cluster("{name: c}"), "gw.yaml:2:12: clusters[0].endpoints: is missing");
    assert_eq!(cluster("{name: c, endpoints: []}"), "gw.yaml:2:33: clusters[0].endpoints: the list is empty");
    assert_eq!(
        cluster("{name: c, echo: true, endpoints: [bolt://h:1]}"),
        "gw.yaml:2:28: clusters[0].echo: a cluster has endpoints or is an echo, not both"
    );
    assert_eq!(
        cluster("{name: c, endpoints: [bolt://h:1, bolt://h:1]}"),
        "gw.yaml:2:46: clusters[0].endpoints: \"bolt://h:1\" stands twice"
    );
    assert_eq!(
        cluster("{name: c, endpoints: [bolt://h:1], reconnect_min: 1m}"),
        "gw.yaml:2:62: cluster \"c\": reconnect_min is above reconnect_max"
    );
    assert_eq!(
        cluster("{name: c, echo: true}, {name: c, echo: true}"),
        "gw.yaml:2:42: clusters[1].name: \"c\" is the name of another cluster"
    );
}

#[test]
fn listeners_that_cannot_be_bound_beside_another_are_refused() {
    let both = |first: &str, second: &str| {
        let listeners = format!(
            "listeners:\n  - {{address: \"bolt://{first}\", cluster: a}}\n  - {{address: \"bolt://{second}\", cluster: b}}\n"
        );
        text(&beside(&listeners)).err().unwrap_or_default()
    };
    let said = "gw.yaml:4:15: listeners[1].address: ";
    assert_eq!(
        both("127.0.0.1:7", "127.0.0.1:7"),
        format!("{said}127.0.0.1:7 is listened on already by \"listener-0\"")
    );
    for (first, second) in [
        ("127.0.0.1:7", "0.0.0.0:7"),
        ("[::]:7", "127.0.0.1:7"),
        ("0.0.0.0:7", "[::]:7"),
        ("[::1]:7", "[::]:7"),
    ] {
        let message = format!("{said}{second} cannot be listened on beside {first} of \"listener-0\"");
        assert_eq!(both(first, second), message);
    }
    for (first, second) in [
        ("0.0.0.0:7", "127.0.0.1:8"),
        ("0.0.0.0:7", "[::1]:7"),
        ("127.0.0.1:7", "127.0.0.2:7"),
        ("0.0.0.0:0", "127.0.0.1:0"),
    ] {
        assert_eq!(both(first, second), "", "{first} and {second}");
    }
    let taken =
        "is taken by the admin interface on 127.0.0.1:2046; say another with admin.address or --admin";
    assert_eq!(both("127.0.0.1:7", "0.0.0.0:2046"), format!("{said}0.0.0.0:2046 {taken}"));
    assert_eq!(
        refused(&[("--listen", "bolt://127.0.0.1:2046")]),
        format!("--listen: 127.0.0.1:2046 {taken}")
    );
    assert!(flags(&[("--listen", "bolt://127.0.0.1:2046"), ("--admin", "off")]).is_ok());
}

#[test]
fn values_of_a_file_that_do_not_fit_together_name_their_key() {
    assert_eq!(
        text_refused("engine: {reactors: 4, workers: 2}"),
        "gw.yaml:1:32: engine.workers: 2 workers are fewer than 4 reactors, and each reactor needs one"
    );
    assert_eq!(
        text_refused("engine: {max_connections: 20000}"),
        "gw.yaml:1:27: engine.max_connections: 20000 connections do not fit the hard limit of 20000 descriptors, of which 16 are for other uses"
    );
    assert_eq!(
        text_refused("engine: {buffer_memory_max: 16MiB}\nlimits: {large_frame_memory_max: 32MiB}"),
        "gw.yaml:2:34: limits.large_frame_memory_max: 33554432 bytes are more than engine.buffer_memory_max (16777216 bytes)"
    );
}

#[test]
fn a_log_that_could_not_be_written_is_refused_with_its_place() {
    let folder = std::env::temp_dir();
    let folder = folder.to_str().unwrap();
    let log = |file: &str| {
        text(&format!("log: {{file: {file}}}")).map(|_| String::new()).unwrap_or_else(|said| said)
    };
    assert_eq!(log("no/such/folder/log"), "gw.yaml:1:13: log.file: there is no folder no/such/folder");
    assert_eq!(
        log(folder),
        format!("gw.yaml:1:13: log.file: {folder} is no regular file and no character device")
    );
    for right in ["/dev/null", "log-in-this-folder", &format!("{folder}/bowline-no-such-log")] {
        assert_eq!(log(right), "", "{right}");
    }
}

#[test]
fn a_fault_of_a_cluster_draws_no_complaint_about_the_default_listener() {
    let clusters = "clusters:\n  - {name: a, endpoints: []}\n  - {name: b, endpoints: [bolt://h:1]}\n";
    assert_eq!(text_refused(clusters), "gw.yaml:2:26: clusters[0].endpoints: the list is empty");
    let clusters = "clusters: [{name: t, endpoints: [tcp://h:1], mode: bound}]\n";
    assert_eq!(text_refused(clusters), "gw.yaml:1:52: clusters[0].mode: has no effect on a tcp cluster");
    // What is wrong elsewhere does not hide it.
    let said = text_refused(&beside("engine: {reactors: 4, workers: 2}"));
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let said = text_refused(&beside(
        "listeners: [{address: bolt://127.0.0.1:0, cluster: x}]\nroutes: [{service: s, cluster: y}]",
    ));
    assert_eq!(said.lines().count(), 2, "{said}");
}

/// With UPDATE_DOCS=1 the table is written instead.
#[test]
fn the_documentation_has_every_key_as_the_code_has_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let (begin, end) = ("<!-- keys -->\n", "<!-- end of keys -->");
    let document = std::fs::read_to_string(path).expect("the documentation is there");
    let head =
        "| key | value | default | reload | flag | what it does and costs |\n|---|---|---|---|---|---|\n";
    let rows: String = KEYS.iter().map(|key| key.markdown() + "\n").collect();
    let (before, rest) = document.split_once(begin).expect("the table has a beginning");
    let (table, after) = rest.split_once(end).expect("the table has an end");
    let right = format!("{head}{rows}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{begin}{right}{end}{after}")).expect("it can be written");
        return;
    }
    assert_eq!(table, right, "docs/configuration.md is behind; run this test with UPDATE_DOCS=1");
}

#[test]
fn the_example_of_the_documentation_is_valid() {
    let document = include_str!("../../docs/configuration.md");
    let examples: Vec<_> =
        document.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        text(example).unwrap_or_else(|faults| panic!("{faults}\n{example}"));
    }
}

#[test]
fn the_plan_knows_where_addresses_were_said() {
    let plan = flags(&[]).unwrap();
    assert_eq!(plan.places.listeners, ["the default of --listen"; 2]);
    assert_eq!(plan.places.admin, "the default of --admin");
    let said = [("--listen", "bolt://127.0.0.1:1"), ("--admin", "127.0.0.1:2")];
    let plan = with(&said, &[], &MACHINE).unwrap();
    assert_eq!(
        (&plan.places.listeners[..], plan.places.admin.as_str()),
        (&["--listen".to_owned()][..], "--admin")
    );
    let plan = with(&[], &[("BOWLINE_LISTEN", "bolt://127.0.0.1:1,bolt://127.0.0.1:2")], &MACHINE).unwrap();
    assert_eq!(plan.places.listeners, ["BOWLINE_LISTEN", "BOWLINE_LISTEN"]);
    let plan =
        text("listeners:\n  - {address: 'bolt://127.0.0.1:1'}\nadmin: {address: '127.0.0.1:2'}\n").unwrap();
    assert_eq!(
        (plan.places.listeners[0].as_str(), plan.places.admin.as_str()),
        ("gw.yaml:2:15", "gw.yaml:3:18")
    );
}

const STREAMS: &str = r#"
listeners:
  - address: tcp://127.0.0.1:0
    cluster: plain
    proxy_protocol: any
    proxy_trusted: [10.0.0.0/8, "::1"]
    proxy_timeout: 2s
  - address: tcp://127.0.0.1:0
    tls_passthrough: required
    hello_timeout: 1s
    server_name_required: true
  - {address: tcp://127.0.0.1:0, cluster: transparent}
tls_routes:
  - {server_name: "*.Shop.example", alpn: h2, cluster: plain}
  - {server_name: shop.example, cluster: plain}
clusters:
  - name: plain
    endpoints: [tcp://10.0.0.1:80, tcp://10.0.0.2:80]
    balance: hash
    proxy_protocol: v2
    connect_attempts: 5
    source_addresses: [127.0.0.2, "::1"]
  - {name: transparent, original_destination: true}
timeouts: {client_fin: 1m, server_fin: 2m, tunnel_max: 24h, websocket_answer: 7s}
"#;

#[test]
fn what_is_said_about_streams_reaches_the_plan() {
    let plan = text(STREAMS).unwrap();
    let announced = plan.listeners[0].announced.as_ref().expect("it was said");
    assert_eq!((announced.versions, announced.timeout_ms), (ProxyVersions::Any, 2_000));
    let trusted: Vec<_> = announced.trusted.iter().map(ToString::to_string).collect();
    assert_eq!(trusted, ["10.0.0.0/8", "::1/128"]);
    let passthrough = PassthroughPlan { is_required: true, name_required: true, timeout_ms: 1_000 };
    assert_eq!((plan.listeners[1].passthrough, plan.listeners[1].default_route), (Some(passthrough), None));
    assert_eq!(
        plan.tls_routes[0],
        TlsRoutePlan {
            server_name: ServerName::Under("shop.example".to_owned()),
            alpn: Some("h2".to_owned()),
            cluster: 0
        }
    );
    assert_eq!(plan.tls_routes[1].server_name, ServerName::Exact("shop.example".to_owned()));
    let cluster = &plan.clusters[0];
    assert_eq!((cluster.balance, cluster.proxy_protocol), (Balance::Hash, Some(ProxyVersion::V2)));
    assert_eq!((cluster.connect_attempts, cluster.source_addresses.len()), (5, 2));
    let transparent = &plan.clusters[1];
    assert!(transparent.original_destination && transparent.protocol == Protocol::Tcp);
    assert_eq!((plan.timeouts.client_fin_ms, plan.timeouts.server_fin_ms), (60_000, 120_000));
    assert_eq!(plan.timeouts.websocket_answer_ms, 7_000);
    assert_eq!(plan.timeouts.tunnel_ms_max, Some(86_400_000));
}

#[test]
fn what_cannot_be_meant_about_streams_is_refused() {
    let changed = |from: &str, to: &str| {
        assert!(STREAMS.contains(from));
        text_refused(&STREAMS.replace(from, to))
    };
    let trusted = "    proxy_trusted: [10.0.0.0/8, \"::1\"]\n";
    assert_eq!(
        changed(trusted, ""),
        "gw.yaml:5:21: listeners[0].proxy_trusted: is missing; name the networks whose word is taken for the client's address"
    );
    assert_eq!(
        changed("10.0.0.0/8, ", "10.0.0.1/8, "),
        "gw.yaml:6:21: listeners[0].proxy_trusted: \"10.0.0.1/8\" has bits behind its 8; write 10.0.0.0/8"
    );
    assert_eq!(
        changed("    proxy_protocol: any\n", ""),
        "gw.yaml:5:20: listeners[0].proxy_trusted: has no effect without proxy_protocol\n\
         gw.yaml:6:20: listeners[0].proxy_timeout: has no effect without proxy_protocol"
    );
    assert_eq!(
        changed("tls_passthrough: required", "tls_passthrough: preferred"),
        "gw.yaml:9:22: listeners[1].tls_passthrough: what is no TLS needs a cluster; name one, or say required"
    );
    let off = changed("tls_passthrough: required", "cluster: plain");
    assert!(off.contains("listeners[1].hello_timeout: has no effect without tls_passthrough"), "{off}");
    assert!(off.contains("tls_routes: have no effect since no listener has tls_passthrough"), "{off}");
    assert_eq!(
        changed("\"*.Shop.example\"", "\"*shop\""),
        "gw.yaml:14:19: tls_routes[0].server_name: \"*shop\" is no name and no *.NAME"
    );
    assert_eq!(
        changed("\"*.Shop.example\", alpn: h2", "SHOP.example"),
        "gw.yaml:15:19: tls_routes[1].server_name: \"shop.example\" is routed by tls_routes[0] already"
    );
    assert_eq!(
        changed("[127.0.0.2, \"::1\"]", "[127.0.0.2, localhost]"),
        "gw.yaml:22:35: clusters[0].source_addresses: \"localhost\" is no IP address"
    );
    let transparent = "original_destination: true";
    assert_eq!(
        changed(transparent, "original_destination: true, endpoints: [tcp://h:1]"),
        "gw.yaml:23:47: clusters[1].original_destination: stands instead of endpoints, not beside them"
    );
    assert_eq!(
        changed(transparent, "original_destination: true, balance: hash"),
        "gw.yaml:23:62: clusters[1].balance: has no effect with original_destination"
    );
    let bolt = "listeners: [{address: bolt://127.0.0.1:0, cluster: c, tls_passthrough: required}]\nclusters: [{name: c, echo: true, proxy_protocol: v1}]";
    assert_eq!(
        text_refused(bolt),
        "gw.yaml:2:50: clusters[0].proxy_protocol: has no effect but on a tcp cluster\n\
         gw.yaml:1:72: listeners[0].tls_passthrough: has no effect but on a tcp listener"
    );
}

const HTTP_STREAMS: &str = r#"
listeners:
  - {address: http://127.0.0.1:0, cluster: web, proxy_protocol: v2, proxy_trusted: [10.0.0.0/8]}
clusters:
  - {name: web, endpoints: ["http://10.0.0.1:80"], balance: hash, connect_attempts: 2, source_addresses: [127.0.0.2]}
"#;

#[test]
fn what_is_said_about_streams_holds_for_http_where_it_can() {
    let plan = text(HTTP_STREAMS).unwrap();
    assert_eq!(plan.listeners[0].announced.as_ref().map(|plan| plan.versions), Some(ProxyVersions::V2));
    let cluster = &plan.clusters[0];
    assert_eq!((cluster.balance, cluster.connect_attempts), (Balance::Hash, 2));
    assert_eq!(cluster.source_addresses, [std::net::IpAddr::from([127, 0, 0, 2])]);
    let changed = |from: &str, to: &str| {
        assert!(HTTP_STREAMS.contains(from));
        text_refused(&HTTP_STREAMS.replace(from, to))
    };
    assert_eq!(
        changed("balance: hash", "proxy_protocol: v2"),
        "gw.yaml:5:68: clusters[0].proxy_protocol: has no effect but on a tcp cluster"
    );
    assert_eq!(
        changed("endpoints: [\"http://10.0.0.1:80\"], balance: hash", "original_destination: true"),
        "gw.yaml:3:44: listeners[0].cluster: cluster \"web\" speaks tcp, not http"
    );
    assert_eq!(
        changed("[10.0.0.0/8]", "[]"),
        "gw.yaml:3:65: listeners[0].proxy_trusted: is missing; name the networks whose word is taken for the client's address"
    );
    assert_eq!(
        changed("cluster: web,", "cluster: web, tls_passthrough: required,"),
        "gw.yaml:3:66: listeners[0].tls_passthrough: has no effect but on a tcp listener"
    );
    let bolt = "clusters: [{name: c, echo: true, connect_attempts: 2}]";
    assert_eq!(
        text_refused(bolt),
        "gw.yaml:1:52: clusters[0].connect_attempts: has no effect on a bolt cluster"
    );
}
