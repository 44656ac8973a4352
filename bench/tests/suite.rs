//! The suite in its short form: seconds, few connections, the bare relays as targets. What is tested is that every answer is
//! verified, that the figures are there and that the report shows them; never how fast anything is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::thread;

use bowline_bench::scenario::instructions;
use bowline_bench::scenario::syscalls;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bowline-bench");

/// A folder of its own for each test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("suite-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("it can be made");
        Self(path)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn records(&self) -> Vec<Value> {
        let text = self.read("results.jsonl");
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    fn measured(&self) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["event"] == "measured").collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().expect("the program was built")
}

/// A short run; disturbed windows are not taken again, since others may build beside the tests.
fn run(folder: &Folder, arguments: &[&str]) -> Output {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let backend_core = if cores > 1 { "1" } else { "0" };
    let out = folder.0.to_string_lossy().into_owned();
    let short = [
        "--duration",
        "0.2",
        "--warmup",
        "0.1",
        "--rest",
        "0.5",
        "--connections-max",
        "40",
        "--attempts",
        "1",
    ];
    let machine = ["--backend-core", backend_core, "--out", &out];
    bench(&[&["run"], arguments, &short, &machine].concat())
}

fn assert_ran(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

#[test]
fn a_short_run_verifies_every_answer_and_its_figures_exist() {
    let folder = Folder::new("run");
    let targets = ["--target", "relay-epoll", "--target", "relay-tokio", "--target", "relay-tokio-multi"];
    let report =
        assert_ran(&run(&folder, &[&["small_rpc", "heartbeats", "--rounds", "2"][..], &targets].concat()));
    assert_eq!(
        (&report["broken"], &report["measured"]),
        (&0.into(), &36.into()),
        "6 windows, 3 targets, 2 rounds"
    );
    let measured = folder.measured();
    for record in &measured {
        let number = |path: &str| {
            record.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {record}"))
        };
        assert!(number("/result/processes_cpu/0/us_per_request") > 0.0, "{record}");
        assert!(number("/result/processes_cpu/0/pss_bytes") > 0.0, "{record}");
        assert!(number("/result/processes_cpu/0/descriptors") >= 40.0, "{record}");
        assert!(number("/result/processes_cpu/0/threads") >= 3.0, "{record}");
        assert_eq!(record["result"]["tally"]["sent"], record["result"]["tally"]["answered"], "{record}");
    }
    let of_c1 = measured.iter().filter(|record| record["window"] == "c1");
    let order: Vec<_> = of_c1.map(|record| record["target"].as_str().expect("a name")).collect();
    let once = ["relay-epoll", "relay-tokio", "relay-tokio-multi"];
    assert_eq!(order, [once, once].concat(), "targets take turns");

    let out = folder.0.to_string_lossy().into_owned();
    assert_ran(&bench(&["report", &out]));
    let page = folder.read("report.md");
    for part in [
        "### c1",
        "| relay-tokio-multi |",
        "requests/s",
        "pictures/small_rpc-c3-latency.svg",
        "relay epoll --to",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(folder.read("pictures/small_rpc-c1-cost.svg").contains("relay-epoll: "));
}

/// The gateway's program beside ours: a test run of the workspace has built it.
fn gateway() -> Option<PathBuf> {
    let beside = Path::new(PROGRAM).with_file_name("bowline");
    let found = std::env::var_os("BOWLINE_BIN").map_or(beside, PathBuf::from);
    if found.is_file() {
        return Some(found);
    }
    assert!(std::env::var_os("BOWLINE_CI").is_none(), "no {}", found.display());
    println!(
        "SKIP the suite on the gateway: no {}; cargo build -p bowline-gateway makes it",
        found.display()
    );
    None
}

#[test]
fn both_modes_of_the_gateway_take_part_in_every_kind_of_window() {
    let Some(gateway) = gateway() else { return };
    let gateway = gateway.to_string_lossy().into_owned();
    let folder = Folder::new("gateway");
    let scenarios = ["small_rpc", "heartbeats", "idle", "churn", "slow_readers", "skew"];
    let flags = ["--rounds", "1", "--gateway", &gateway, "--target", "raw", "--target", "tokio"];
    let report = assert_ran(&run(&folder, &[&scenarios[..], &flags].concat()));
    assert_eq!((&report["broken"], &report["measured"]), (&0.into(), &(2 * 16).into()), "{report}");
    let measured = folder.measured();
    let of = |window: &'static str| measured.iter().filter(move |record| record["window"] == window);
    assert!(of("bolt").all(|record| record["result"]["bytes_per_connection"].is_number()));
    assert!(of("bolt").all(|record| record["result"]["idle"]["polls"] == 0));
    assert!(of("bolt-polled").all(|record| record["result"]["idle"]["polls"].as_u64() > Some(0)));
    assert!(of("skew").all(|record| record["counters"]["bowline_requests_total"].as_f64() > Some(0.0)));
    assert!(of("beside").all(|record| record["result"]["tally"]["heartbeats_answered"].as_u64() > Some(0)));
}

#[test]
fn http_websocket_and_tunnels_are_measured_through_the_gateway() {
    let Some(gateway) = gateway() else { return };
    let gateway = gateway.to_string_lossy().into_owned();
    let folder = Folder::new("http");
    // Counting below valgrind takes longer than all others together, and has a test of its own.
    let text = include_str!("../scenarios/h1.toml");
    let windows = text.split("\n[[window]]").filter(|window| !window.contains("-instructions"));
    let h1 = folder.0.join("h1.toml");
    fs::write(&h1, windows.collect::<Vec<_>>().join("\n[[window]]")).expect("it can be written");
    let h1 = h1.to_string_lossy().into_owned();
    let scenarios = [h1.as_str(), "tcp", "websocket", "--rounds", "1", "--gateway", &gateway];
    let report = assert_ran(&run(&folder, &scenarios));
    let counted = if syscalls::unavailable().is_some() { 0 } else { 4 };
    // Three windows of four targets, two of two, one of one; three of two tunnels; two of two WebSockets.
    let expected = 3 * 4 + 2 * 2 + 1 + counted + 3 * 2 + 2 * 2;
    assert_eq!((&report["broken"], &report["measured"]), (&0.into(), &expected.into()), "{report}");
    let measured = folder.measured();
    let of = |scenario: &'static str, window: &'static str| {
        let all = measured.iter().filter(move |it| it["scenario"] == scenario && it["window"] == window);
        all.collect::<Vec<_>>()
    };
    let commands = |record: &Value| record["commands"].to_string();
    for record in [of("h1", "c4-100"), of("h1", "c4-500"), of("h1", "c4b")].concat() {
        assert!(record["result"]["processes_cpu"][0]["us_per_request"].as_f64() > Some(0.0), "{record}");
        assert!(commands(record).contains("http"), "{record}");
    }
    assert!(of("h1", "c4-100").iter().all(|record| commands(record).contains("--get")));
    assert!(of("tcp", "x32").iter().all(|record| commands(record).contains("tcp://")));
    for record in [of("h1", "idle"), of("tcp", "idle"), of("websocket", "idle")].concat() {
        assert!(record["result"]["bytes_per_connection"].is_number(), "{record}");
        assert_eq!(record["result"]["idle"]["tally"]["answered"], 80, "{record}");
    }
    assert_eq!(of("websocket", "echo").len(), 2);
    let out = folder.0.to_string_lossy().into_owned();
    assert_ran(&bench(&["report", &out]));
    let page = folder.read("report.md");
    for part in ["### c4-100", "### echo", "raw to 1.2 x epoll relay", "bytes per idle WebSocket"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn peers_take_part_where_they_can_speak_the_protocol() {
    let folder = Folder::new("unfit");
    let program = folder.0.join("h2o");
    fs::write(&program, "").expect("it can be written");
    let peer = format!("h2o={}", program.display());
    let report = assert_ran(&run(
        &folder,
        &["small_rpc", "--rounds", "1", "--target", "relay-epoll", "--peer", &peer],
    ));
    assert_eq!((&report["measured"], &report["skipped"]), (&3.into(), &3.into()), "h2o speaks no Bolt");
    let skipped = folder.records().into_iter().filter(|record| record["event"] == "skipped");
    assert!(
        skipped.into_iter().all(|it| it["why"].as_str().is_some_and(|why| why.contains("no configuration")))
    );
}

/// A peer that carries bytes between the addresses of HAProxy's configuration, by our relay; like HAProxy, it ends by SIGTERM
/// and never by SIGINT.
fn stand_in_haproxy(folder: &Folder) -> PathBuf {
    let script = format!(
        "#!/bin/sh\n\
         word() {{ sed -n \"s/^ *$1 \\\\([^ ]*\\\\).*/\\\\1/p\" \"$file\"; }}\n\
         for file; do :; done\n\
         trap '' INT\n\
         trap 'kill -KILL $relay; exit 0' TERM\n\
         {PROGRAM} relay epoll --to \"$(word 'server backend')\" --listen \"$(word bind)\" --duration 60 &\n\
         relay=$!\n\
         wait $relay\n"
    );
    let path = folder.0.join("haproxy-stand-in");
    fs::write(&path, script).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

#[test]
fn a_peer_is_ended_by_the_signal_that_it_knows() {
    let folder = Folder::new("ended");
    let peer = format!("haproxy={}", stand_in_haproxy(&folder).display());
    let arguments = ["small_rpc", "--rounds", "2", "--target", "relay-epoll", "--peer", &peer];
    let report = assert_ran(&run(&folder, &arguments));
    assert_eq!(
        (&report["broken"], &report["measured"]),
        (&0.into(), &9.into()),
        "3 windows, 2 rounds of the relay and 1 of the peer, with which no goal compares there"
    );
    let of_peer = folder.measured().into_iter().filter(|record| record["target"] == "haproxy");
    for record in of_peer {
        assert_eq!(record["result"]["tally"]["sent"], record["result"]["tally"]["answered"], "{record}");
    }
}

#[test]
fn a_plan_says_how_long_each_scenario_takes_and_measures_nothing() {
    let folder = Folder::new("plan");
    let output = run(&folder, &["small_rpc", "scale", "--target", "relay-epoll", "--rounds", "2", "--plan"]);
    let report = assert_ran(&output);
    assert_eq!(report["measured"], 0);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("14 measurements in 7 windows") && said.contains(", scale "), "{said}");
    assert!(!folder.0.join("results.jsonl").exists(), "there is nothing to report");
}

#[test]
fn what_trains_the_optimised_programs_is_a_scenario() {
    let folder = Folder::new("training");
    let training = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/pgo.toml");
    let output = run(&folder, &[training, "--gateway", PROGRAM, "--rounds", "1", "--plan"]);
    assert_ran(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("in 10 windows"), "{said}");
}

#[test]
fn connections_that_come_and_go_and_clients_that_stall_are_measured() {
    let folder = Folder::new("churn");
    let report =
        assert_ran(&run(&folder, &["churn", "slow_readers", "--rounds", "1", "--target", "relay-epoll"]));
    assert_eq!((&report["broken"], &report["measured"]), (&0.into(), &3.into()));
    let measured = folder.measured();
    let of =
        |window: &str| measured.iter().find(|record| record["window"] == window).expect("it was measured");
    assert_eq!(of("m5")["result"]["connections"], 14 * 40);
    assert!(of("m5")["result"]["us_per_connection"].as_f64() > Some(0.0));
    let stalled = &of("stalled")["result"]["stalled"];
    assert_eq!(
        (&stalled["clients"], &stalled["answered"]),
        (&40.into(), &40.into()),
        "a relay refuses nobody"
    );
}

#[test]
fn what_is_not_there_is_left_out_with_a_line_and_what_does_not_exist_is_refused() {
    let folder = Folder::new("missing");
    let arguments = [
        "small_rpc",
        "--rounds",
        "1",
        "--target",
        "relay-epoll",
        "--peer",
        "mosn",
        "--peer",
        "nginx=./no/nginx",
    ];
    let output = run(&folder, &arguments);
    let report = assert_ran(&output);
    assert_eq!(report["skipped"], 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("skipped mosn") && said.contains("skipped nginx: no ./no/nginx"), "{said}");
    for (wrong, says) in [
        (&["c9"][..], "small_rpc"),
        (&["small_rpc", "--target", "netty"], "relay-epoll"),
        (&["small_rpc", "--peer", "caddy"], "haproxy"),
        (&["small_rpc", "--gateway", "./no/gateway"], "no such program"),
    ] {
        let output = run(&folder, wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(says), "{wrong:?}: {said}");
    }
}

#[test]
fn a_run_that_cannot_count_says_so_and_goes_on() {
    let folder = Folder::new("broken");
    // It takes the flags of a gateway, says nothing and ends.
    let output = run(
        &folder,
        &[
            "small_rpc",
            "--rounds",
            "1",
            "--gateway",
            "/bin/true",
            "--target",
            "raw",
            "--target",
            "relay-epoll",
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!((&report["broken"], &report["measured"]), (&3.into(), &3.into()));
    let out = folder.0.to_string_lossy().into_owned();
    assert_ran(&bench(&["report", &out]));
    assert!(folder.read("report.md").contains("raw broke: raw ended"), "{}", folder.read("report.md"));
}

#[test]
fn a_run_that_was_cut_off_goes_on_where_it_ended() {
    let folder = Folder::new("resume");
    let scenario = ["small_rpc", "--target", "relay-epoll", "--resume"];
    let again = |rounds| assert_ran(&run(&folder, &[&scenario[..], &["--rounds", rounds]].concat()));
    let first = again("1");
    assert_eq!((&first["measured"], &first["resumed"]), (&3.into(), &0.into()));
    let second = again("2");
    assert_eq!((&second["measured"], &second["resumed"]), (&3.into(), &3.into()), "one round is there");
    assert_eq!(again("2")["measured"], 0);
    let mut records = folder.records();
    records.retain(|record| record["event"] == "measured");
    assert_eq!(records.len(), 6);
}

#[test]
fn instructions_are_counted_where_that_can_be_done() {
    if let Some(why) = instructions::unavailable() {
        println!("SKIP instructions: {why}");
        return;
    }
    let folder = Folder::new("instructions");
    // A short window would end before valgrind has translated what runs in it.
    let scenario = folder.0.join("few.toml");
    let window = "connections = 4\nin_flight = 1\ninstructions = true\nrounds_max = 1\nwarmup_seconds = 0.1";
    let text = format!(
        "about = \"\"\ntargets = [\"relay-epoll\"]\n[[window]]\nname = \"c\"\nabout = \"\"\n{window}\n"
    );
    fs::write(&scenario, text).expect("it can be written");
    let (scenario, out) = (scenario.to_string_lossy(), folder.0.to_string_lossy().into_owned());
    let report =
        assert_ran(&bench(&["run", &scenario, "--rounds", "3", "--backend-core", "0", "--out", &out]));
    assert_eq!((&report["measured"], &report["broken"]), (&1.into(), &0.into()), "one round is enough");
    for record in folder.measured() {
        let counted = &record["result"]["counted"];
        // A relay looks at a frame's length at least, on the way there and back.
        assert!(counted["instructions_per_request"].as_f64() > Some(20.0), "{record}");
        assert!(counted["answered"].as_u64() > Some(0), "{record}");
        assert!(counted["allocations_per_request"].is_number(), "{record}");
        assert!(record["commands"][0].as_str().is_some_and(|it| it.starts_with("valgrind ")), "{record}");
    }
    assert_ran(&bench(&["report", &out]));
    let page = folder.read("report.md");
    assert!(page.contains("| target | instructions/request | first-level misses/request |"), "{page}");
}

#[test]
fn system_calls_are_counted_where_that_can_be_done() {
    if let Some(why) = syscalls::unavailable() {
        println!("SKIP system calls: {why}");
        return;
    }
    let folder = Folder::new("syscalls");
    let targets = ["--target", "relay-epoll", "--target", "relay-tokio"];
    let report = assert_ran(&run(&folder, &[&["syscalls", "--rounds", "1"][..], &targets].concat()));
    assert_eq!(report["measured"], 4);
    for record in folder.measured() {
        // Each request is received and sent twice, but several may share a call.
        let calls = record["result"]["syscalls_per_request"].as_f64().expect("they were counted");
        assert!(calls > 0.1 && calls < 100.0, "{record}");
    }
    let out = folder.0.to_string_lossy().into_owned();
    assert_ran(&bench(&["report", &out]));
    let page = folder.read("report.md");
    assert!(
        page.contains("| target | system calls/request | rounds |"),
        "other figures are left out: {page}"
    );
}

#[test]
fn several_processes_of_a_target_share_a_port() {
    let folder = Folder::new("shared");
    let arguments = ["long_connections", "--rounds", "1", "--target", "relay-epoll"];
    let report = assert_ran(&run(&folder, &arguments));
    assert_eq!(report["measured"], 2);
    for record in folder.measured() {
        assert_eq!(
            (&record["processes"], &record["result"]["processes"]),
            (&6.into(), &6.into()),
            "{record}"
        );
        assert_eq!(
            record["commands"].as_array().map(Vec::len),
            Some(8),
            "six relays, a backend, a load: {record}"
        );
    }
}
