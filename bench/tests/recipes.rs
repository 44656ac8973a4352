//! The recipes that start a gateway by themselves, run with a stand-in that answers the requests itself: what is tested here
//! is that the recipes measure, report and clean up, not what a gateway costs.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::thread;

use bowline_bench::host;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bowline-bench");

/// A file of its own for each test, where the stand-in notes the flags that it got.
fn flags_file(test: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()))
}

/// The command of a recipe with the stand-in as its gateway.
fn recipe(arguments: &[&str], flags: &Path, answering: &str) -> Command {
    let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in_gateway.sh");
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg("--gateway").arg(stand_in);
    command.env("STAND_IN_FLAGS", flags).env("STAND_IN_PROGRAM", answering);
    command
}

fn noted(flags: &Path) -> String {
    let text = fs::read_to_string(flags).expect("it was started");
    fs::remove_file(flags).expect("it is ours");
    text
}

fn report(mut command: Command) -> Value {
    let output = command.output().expect("the program was built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

#[test]
fn memory_measures_a_warmed_baseline_and_idle_connections() {
    let flags = flags_file("memory");
    let arguments = ["memory", "--mode", "tokio", "--connections", "400", "--gateway-flag=--reactors=1"];
    let report = report(recipe(&arguments, &flags, PROGRAM));
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(
        (&report["baseline_tally"]["answered"], &report["idle"]["tally"]["answered"]),
        (&400.into(), &800.into())
    );
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64).expect(path);
    let expected = (number("/idle/anonymous_bytes_idle") - number("/baseline_anonymous_bytes")) / 400.0;
    assert!((number("/bytes_per_connection") - expected).abs() < 1e-6, "{report}");
    let flags = noted(&flags);
    let [baseline, measured] = flags.lines().collect::<Vec<_>>()[..] else {
        panic!("two processes: {flags}")
    };
    assert!(baseline.contains("--engine tokio --admin off --max-connections 64 --reactors=1"), "{baseline}");
    assert!(!measured.contains("--max-connections"), "the measured one has its defaults: {measured}");
}

#[test]
fn memory_of_http_and_websocket_is_measured_of_a_gateway_that_speaks_http() {
    for protocol in ["http", "websocket"] {
        let flags = flags_file(protocol);
        let arguments = ["memory", "--protocol", protocol, "--connections", "200"];
        let report = report(recipe(&arguments, &flags, PROGRAM));
        assert_eq!(
            (&report["ok"], &report["idle"]["tally"]["answered"]),
            (&true.into(), &400.into()),
            "{report}"
        );
        let flags = noted(&flags);
        assert!(
            flags.lines().all(|line| line.contains("--listen http://127.0.0.1:0 --upstream http://")),
            "{flags}"
        );
    }
}

#[test]
fn compare_interleaves_the_modes_and_prints_their_figures() {
    let flags = flags_file("compare");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let backend_core = if cores > 1 { "1" } else { "0" };
    let arguments =
        ["compare", "--scenarios", "c1,c3b-5k", "--rounds", "2", "--duration", "0.2", "--warmup", "0.1"];
    let arguments = [&arguments[..], &["--backend-core", backend_core]].concat();
    let report = report(recipe(&arguments, &flags, PROGRAM));
    let rows = report["rows"].as_array().expect("a list");
    let names: Vec<_> = rows.iter().map(|row| (&row["scenario"], &row["engine"])).collect();
    let expected = [("c1", "raw"), ("c1", "tokio"), ("c3b-5k", "raw"), ("c3b-5k", "tokio")];
    assert_eq!(names.len(), 4);
    assert!(
        names.iter().zip(expected).all(|(name, (scenario, engine))| *name.0 == scenario && *name.1 == engine)
    );
    assert!(rows.iter().all(|row| row["gateway_us_per_request"]["median"].as_f64() > Some(0.0)), "{report}");
    // A window that was disturbed is taken again with the same mode, so repetitions are folded.
    let flags = noted(&flags);
    let mut modes: Vec<_> =
        flags.lines().map(|line| if line.contains("--engine raw") { 'A' } else { 'B' }).collect();
    modes.dedup();
    assert_eq!(modes.iter().collect::<String>(), "ABABABAB");
}

#[test]
fn a_gateway_that_does_not_get_ready_is_named() {
    let flags = flags_file("silent");
    let output =
        recipe(&["memory", "--connections", "10"], &flags, "false").output().expect("the program was built");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("the gateway (raw) ended"), "{text}");
    assert!(noted(&flags).contains("--engine raw"));
    let missing = ["compare", "--gateway", "./no/such/gateway"];
    let output = Command::new(PROGRAM).args(missing).output().expect("the program was built");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/gateway"));
}

#[test]
fn what_a_recipe_started_ends_with_it() {
    let flags = flags_file("killed");
    let arguments =
        ["compare", "--scenarios", "c1", "--duration", "600", "--rounds", "1", "--backend-core", "0"];
    let mut recipe = recipe(&arguments, &flags, PROGRAM)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program was built");
    let children = wait_for_children(recipe.id(), 3);
    recipe.kill().expect("it runs");
    recipe.wait().expect("it is our child");
    for child in children {
        while !has_ended(child) {
            thread::yield_now();
        }
    }
    noted(&flags);
}

fn wait_for_children(pid: u32, count: usize) -> Vec<u32> {
    loop {
        let tree = host::tree(pid).expect("it runs");
        if tree.len() > count {
            return tree[1..].to_vec();
        }
        thread::yield_now();
    }
}

/// Gone, or left only for its parent to ask about.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
}
