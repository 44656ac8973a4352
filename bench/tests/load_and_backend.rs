//! The program as its users run it: backend and load against each other, in one process and in several, and against servers
//! that lie. A measurement is only worth something if every kind of wrong answer is noticed.

use std::collections::HashMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;

use bowline_bench::http;
use bowline_protocols::Limits;
use bowline_protocols::bolt;
use bowline_protocols::bolt::Decoded;
use bowline_protocols::bolt::ResponseParts;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bowline-bench");

/// A backend process; ends by itself, and with the test.
struct Backend {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Backend {
    fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["backend", "--duration", "120"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let ready = json_line(&mut lines);
        assert_eq!(ready["event"], "ready");
        assert_eq!(ready["pid"], child.id());
        let address = ready["listeners"][0]["address"].as_str().expect("an address").to_owned();
        Self { child, lines, address }
    }

    /// Ends it by SIGTERM; gives what it counted.
    fn end(mut self) -> Value {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).expect("it runs");
        let ended = json_line(&mut self.lines);
        assert!(self.child.wait().expect("it is our child").success());
        assert_eq!(ended["event"], "ended");
        ended["counts"].clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json_line(lines: &mut impl BufRead) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).expect("text");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

fn load(address: &str, flags: &[&str]) -> (Output, Value) {
    let short = ["load", "--to", address, "--warmup", "0.1", "--duration", "0.4", "--grace", "1"];
    let output = Command::new(PROGRAM).args(short).args(flags).output().expect("the program was built");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    });
    (output, report)
}

fn assert_right(output: &Output, report: &Value) {
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["tally"]["sent"], report["tally"]["answered"], "{report}");
}

#[test]
fn a_closed_loop_loses_nothing_and_measures_cpu() {
    let backend = Backend::start(&[]);
    let pid = backend.child.id().to_string();
    let flags = [
        "--connections",
        "20",
        "--in-flight",
        "8",
        "--v2",
        "--crc",
        "--header",
        "service=demo",
        "--pid",
        &pid,
    ];
    let (output, report) = load(&backend.address, &flags);
    assert_right(&output, &report);
    assert!(report["tally"]["answered"].as_u64() > Some(1_000), "{report}");
    assert!(report["latency"]["count"].as_u64() > Some(500), "{report}");
    assert!(report["latency"]["p50_us"].as_f64() > Some(0.0), "{report}");
    assert!(report["processes_cpu"][0]["us_per_request"].as_f64() > Some(0.0), "{report}");
    let counts = backend.end();
    assert_eq!(counts["requests"], report["tally"]["answered"], "the backend saw what the load counted");
    assert_eq!((&counts["connections"], &counts["faults"]), (&20.into(), &0.into()));
}

#[test]
fn an_open_loop_sends_what_its_rate_says() {
    let backend = Backend::start(&[]);
    let (output, report) =
        load(&backend.address, &["--connections", "20", "--rate", "5000", "--bytes", "100"]);
    assert_right(&output, &report);
    // 0.4 s of 5,000 requests per second, by their intended times: exact but for the first and the last.
    let count = report["latency"]["count"].as_i64().expect("a number");
    assert!((count - 2_000).abs() <= 1, "{report}");
}

#[test]
fn http_and_websocket_lose_nothing_in_both_loops() {
    for protocol in
        [&["--protocol", "http"][..], &["--protocol", "http", "--get"], &["--protocol", "websocket"]]
    {
        for order in [
            &["--in-flight", "1"][..],
            &["--in-flight", "7", "--bytes", "20000"],
            &["--rate", "2000", "--bytes", "60"],
        ] {
            let backend = Backend::start(&[]);
            let flags = [&["--connections", "20"], protocol, order].concat();
            let (output, report) = load(&backend.address, &flags);
            assert_right(&output, &report);
            assert!(report["latency"]["count"].as_u64() > Some(100), "{flags:?}: {report}");
            let counts = backend.end();
            assert_eq!(counts["requests"], report["tally"]["answered"], "{flags:?}");
            let upgrades = if protocol.contains(&"websocket") { 20 } else { 0 };
            assert_eq!((&counts["upgrades"], &counts["faults"]), (&upgrades.into(), &0.into()), "{flags:?}");
        }
    }
}

#[test]
fn a_handshake_for_another_key_opens_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // That of the standard's example.
            let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
            let _ = stream.read(&mut [0; 4_096]);
            let welcome = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            let _ = stream.write_all(welcome.as_bytes());
            let _ = stream.read(&mut [0; 4_096]);
        }
    });
    let output = Command::new(PROGRAM)
        .args(["load", "--to", &address, "--connections", "2", "--protocol", "websocket"])
        .output()
        .expect("the program was built");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no connection to"), "{output:?}");
}

#[test]
fn flags_of_one_protocol_are_refused_for_another() {
    for (flags, says) in [
        (&["--protocol", "http", "--v2"][..], "--v2"),
        (&["--protocol", "websocket", "--heartbeats"], "--heartbeats"),
        (&["--get"], "--protocol http"),
        (&["--protocol", "http", "--heartbeat-every", "1"], "--heartbeat-every"),
    ] {
        let output = Command::new(PROGRAM)
            .args(["load", "--to", "127.0.0.1:1", "--connections", "1"])
            .args(flags)
            .output()
            .expect("the program was built");
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(says), "{flags:?}: {output:?}");
    }
}

#[test]
fn a_delay_of_the_backend_shows_in_the_latency() {
    let backend = Backend::start(&["--delay-ms", "20"]);
    let (output, report) = load(&backend.address, &["--connections", "20", "--rate", "1000"]);
    assert_right(&output, &report);
    assert!(report["latency"]["p50_us"].as_f64() >= Some(19_900.0), "{report}");
}

#[test]
fn answers_of_another_length_are_verified_too() {
    for (reply, fits) in [("10", true), ("3000", true), ("11", false)] {
        let backend = Backend::start(&["--reply-bytes", if fits { reply } else { "10" }]);
        let (output, report) = load(&backend.address, &["--connections", "3", "--reply-bytes", reply]);
        assert_eq!(output.status.success(), fits, "{report}");
        assert_eq!(report["tally"]["corrupted"].as_u64() == Some(0), fits, "{report}");
    }
}

#[test]
fn large_contents_arrive_whole() {
    let backend = Backend::start(&[]);
    let (output, report) =
        load(&backend.address, &["--connections", "3", "--bytes", "4194304", "--v2", "--crc"]);
    assert_right(&output, &report);
}

#[test]
fn several_processes_share_a_run() {
    let backend = Backend::start(&[]);
    let flags = [
        "--connections",
        "21",
        "--processes",
        "3",
        "--rate",
        "3000",
        "--source",
        "127.0.0.2",
        "--source",
        "127.0.0.3",
    ];
    let (output, report) = load(&backend.address, &flags);
    assert_right(&output, &report);
    assert_eq!(report["processes"], 3);
    let count = report["latency"]["count"].as_i64().expect("a number");
    assert!((count - 1_200).abs() <= 3, "{report}");
    assert_eq!(backend.end()["connections"], 21);
}

#[test]
fn idle_connections_are_measured_and_still_answer() {
    let backend = Backend::start(&[]);
    let pid = backend.child.id().to_string();
    let output = Command::new(PROGRAM)
        .args([
            "idle",
            "--to",
            &backend.address,
            "--connections",
            "200",
            "--pid",
            &pid,
            "--baseline-bytes",
            "0",
        ])
        .output()
        .expect("the program was built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["idle"]["tally"]["answered"], 400);
    let idle = report["idle"]["anonymous_bytes_idle"].as_f64().expect("a number");
    assert_eq!(report["bytes_per_connection"].as_f64(), Some(idle / 200.0));
}

#[test]
fn nobody_listening_is_said_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").to_string();
    let output = Command::new(PROGRAM)
        .args(["load", "--to", &free, "--duration", "3600"])
        .output()
        .expect("the program was built");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&free));
}

#[test]
fn sigterm_ends_a_load_with_its_result() {
    let backend = Backend::start(&[]);
    let mut child = Command::new(PROGRAM)
        .args(["load", "--to", &backend.address, "--connections", "2", "--warmup", "0", "--duration", "3600"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program was built");
    // It takes signals before it connects, and the backend's answers prove that it has.
    let mut line = String::new();
    wait_for_traffic(backend.child.id());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it runs");
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("text");
    let report: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&report["interrupted"], &report["ok"]), (&true.into(), &true.into()), "{line}");
    assert!(child.wait().expect("it is our child").success());
}

/// Until a process has used CPU beyond starting up.
fn wait_for_traffic(pid: u32) {
    let used = || bowline_bench::host::cpu_of_tree(pid).expect("it runs").ns;
    let before = used();
    while used() < before + 50_000_000 {
        thread::yield_now();
    }
}

/// What a lying server does with the requests of one connection: the answers that it sends, given the id and the content.
type Lie = fn(serial: u64, id: u32, content: &[u8]) -> Vec<(u32, u16, Vec<u8>)>;

/// A server on a thread that answers each request as `lie` says.
fn liar(lie: Lie) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || lie_on(stream, lie));
        }
    });
    address
}

fn lie_on(mut stream: TcpStream, lie: Lie) {
    let (mut received, mut serial) = (Vec::new(), 0);
    let mut piece = [0; 65_536];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        received.extend_from_slice(&piece[..count]);
        let mut out = Vec::new();
        while let Ok(Decoded::Frame(frame)) = bolt::decode(&received, &Limits::default()) {
            serial += 1;
            for (id, status, content) in lie(serial, frame.id, frame.content.of(&received)) {
                out.extend(response(&frame, id, status, &content));
            }
            received.drain(..frame.total_bytes as usize);
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

fn response(cause: &bolt::Frame, id: u32, status: u16, content: &[u8]) -> Vec<u8> {
    let parts = ResponseParts {
        version: cause.version,
        id,
        codec: 1,
        status,
        crc: false,
        class: b"",
        header: b"",
        content,
    };
    let mut out = Vec::new();
    bolt::encode_response(&parts, &mut out).expect("short");
    out
}

/// Lies once, on the fifth request of each connection; the tally must say so under `name`, `count` times per connection.
fn noticed(lie: Lie, name: &str, count: u64) {
    let address = liar(lie);
    let (output, report) = load(&address, &["--connections", "4", "--in-flight", "4", "--bytes", "200"]);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(report["ok"], false);
    let mut tally: HashMap<String, Value> = serde_json::from_value(report["tally"].clone()).expect("a map");
    assert_eq!(tally.remove(name), Some((4 * count).into()), "{report}");
    for (other, value) in tally {
        let counts = ["sent", "answered", "refused"].contains(&other.as_str()) || value == 0;
        assert!(counts, "{other} as well: {report}");
    }
}

#[test]
fn the_truth_passes() {
    let address = liar(|_, id, content| vec![(id, 0, content.to_vec())]);
    let (output, report) = load(&address, &["--connections", "4", "--in-flight", "4", "--bytes", "200"]);
    assert_right(&output, &report);
}

#[test]
fn one_changed_byte_is_noticed() {
    noticed(
        |serial, id, content| {
            let mut content = content.to_vec();
            content[150] ^= u8::from(serial == 5);
            vec![(id, 0, content)]
        },
        "corrupted",
        1,
    );
}

#[test]
fn a_short_answer_is_noticed() {
    noticed(
        |serial, id, content| vec![(id, 0, content[usize::from(serial == 5)..].to_vec())],
        "corrupted",
        1,
    );
}

#[test]
fn a_second_answer_is_noticed() {
    noticed(
        |serial, id, content| vec![(id, 0, content.to_vec()); 1 + usize::from(serial == 5)],
        "duplicates",
        1,
    );
}

#[test]
fn a_missing_answer_is_noticed() {
    noticed(|serial, id, content| vec![(id, 0, content.to_vec()); usize::from(serial != 5)], "lost", 1);
}

#[test]
fn an_answer_to_nothing_is_noticed() {
    noticed(
        |serial, id, content| {
            let mut answers = vec![(id, 0, content.to_vec())];
            answers.extend((serial == 5).then(|| (id + 1_000_000, 0, content.to_vec())));
            answers
        },
        "unknown",
        1,
    );
}

#[test]
fn a_refusal_is_no_answer() {
    let address = liar(|serial, id, content| vec![(id, 6 * u16::from(serial == 5), content.to_vec())]);
    let (output, report) = load(&address, &["--connections", "4", "--in-flight", "4"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["tally"]["refused"]["6"], 4, "{report}");
}

#[test]
fn an_answer_of_another_connection_is_noticed() {
    // All connections use the same ids, so only the content can tell them apart.
    static FIRST: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let address = liar(|_, id, content| {
        if id == 1 {
            return vec![(id, 0, FIRST.get_or_init(|| content.to_vec()).clone())];
        }
        vec![(id, 0, content.to_vec())]
    });
    let (output, report) = load(&address, &["--connections", "4"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["tally"]["corrupted"], 3, "all but the one that it belonged to: {report}");
}

/// A server of HTTP on a thread that answers each request as `lie` says, given its number on the connection and its body.
fn http_liar(lie: fn(serial: u64, body: &[u8]) -> Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || lie_in_http(stream, lie));
        }
    });
    address
}

fn lie_in_http(mut stream: TcpStream, lie: fn(u64, &[u8]) -> Vec<u8>) {
    let (mut received, mut serial) = (Vec::new(), 0);
    let mut piece = [0; 65_536];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        received.extend_from_slice(&piece[..count]);
        let mut out = Vec::new();
        while let Ok(http::Start::Message(message)) = http::first(&received) {
            serial += 1;
            out.extend(lie(serial, message.body));
            let used = message.bytes;
            received.drain(..used);
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

fn http_answer(body: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    http::append_answer(body, &mut answer);
    answer
}

#[test]
fn every_kind_of_wrong_http_answer_is_noticed() {
    type Case = (fn(u64, &[u8]) -> Vec<u8>, fn(&Value) -> bool);
    let cases: [Case; 5] = [
        (
            |serial, body| {
                let mut body = body.to_vec();
                body[150] ^= u8::from(serial == 5);
                http_answer(&body)
            },
            |tally| tally["corrupted"] == 4 && tally["lost"] == 0,
        ),
        (
            |serial, body| match serial {
                5 => b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec(),
                _ => http_answer(body),
            },
            |tally| tally["refused"]["503"] == 4 && tally["lost"] == 0,
        ),
        // All that come later belong to another request than the one that waits.
        (
            |serial, body| if serial == 5 { Vec::new() } else { http_answer(body) },
            |tally| tally["corrupted"].as_u64() > Some(4) && tally["lost"].as_u64() >= Some(4),
        ),
        (
            |serial, body| http_answer(body).repeat(1 + usize::from(serial == 5)),
            |tally| tally["corrupted"].as_u64() > Some(0) || tally["unknown"].as_u64() > Some(0),
        ),
        (
            |serial, body| match serial {
                5 => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
                _ => http_answer(body),
            },
            |tally| tally["corrupted"] == 4 && tally["connections_lost"] == 4,
        ),
    ];
    for (at, (lie, is_noticed)) in cases.into_iter().enumerate() {
        let flags = ["--protocol", "http", "--connections", "4", "--in-flight", "4", "--bytes", "200"];
        let (output, report) = load(&http_liar(lie), &flags);
        assert_eq!(output.status.code(), Some(1), "{at}: {report}");
        assert!(is_noticed(&report["tally"]), "{at}: {report}");
    }
    let flags = ["--protocol", "http", "--connections", "4", "--in-flight", "4", "--bytes", "200"];
    let (output, report) = load(&http_liar(|_, body| http_answer(body)), &flags);
    assert_right(&output, &report);
}

#[test]
fn a_closed_connection_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            thread::spawn(move || {
                let mut piece = [0; 65_536];
                if number == 0 {
                    let _ = stream.read(&mut piece);
                    return;
                }
                lie_on(stream, |_, id, content| vec![(id, 0, content.to_vec())]);
            });
        }
    });
    let (output, report) = load(&address, &["--connections", "3"]);
    assert_eq!(output.status.code(), Some(1));
    let tally = &report["tally"];
    assert_eq!((&tally["lost"], &tally["connections_lost"]), (&1.into(), &1.into()), "{report}");
}
