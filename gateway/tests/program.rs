//! The program as a process: exit codes, and what goes to which stream. What serves is tested end to end elsewhere.

use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn bowline(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bowline")).args(arguments).env_clear().output().expect("it starts")
}

fn parts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A file in a temporary folder, removed at the end.
struct File(PathBuf);

impl File {
    fn with(name: &str, text: impl AsRef<[u8]>) -> File {
        let path = std::env::temp_dir().join(format!("bowline-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("a temporary file");
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[test]
fn a_right_file_is_ok() {
    let file = File::with("right.yaml", "engine: {max_connections: 8}\ndrain: {delay: 1s}\n");
    for words in [&["check", file.path()][..], &["check", "--config", file.path()]] {
        assert_eq!(parts(&bowline(words)), (Some(0), format!("{}: ok\n", file.path()), String::new()));
    }
}

#[test]
fn a_wrong_file_ends_with_78_and_all_faults_on_standard_error() {
    let file = File::with("wrong.yaml", "drian: 1\nengine: {workers: none}\n");
    let path = file.path();
    let complaint = format!(
        "{path}:1:1: unknown key \"drian\"; did you mean \"drain\"?\n\
         {path}:2:19: engine.workers: \"none\" is no whole number\n"
    );
    assert_eq!(parts(&bowline(&["check", "--config", path])), (Some(78), String::new(), complaint));
}

#[test]
fn a_file_that_is_not_there_ends_with_78() {
    let (code, _, said) = parts(&bowline(&["check", "--config", "no/such.yaml"]));
    let right = "no/such.yaml: cannot read it: No such file or directory (os error 2)\n";
    assert_eq!((code, said.as_str()), (Some(78), right));
}

#[test]
fn a_file_that_is_no_text_names_the_place_and_itself_once() {
    let file = File::with("latin.yaml", b"engine:\n  mode: r\xc3\xa4w\xe4\n");
    let path = file.path();
    let right = format!("{path}:2:12: this byte is not UTF-8\n");
    assert_eq!(parts(&bowline(&["check", "--config", path])), (Some(78), String::new(), right.clone()));
    let output = bowline(&["run", "--config", path]);
    assert_eq!(parts(&output), (Some(78), String::new(), right));
}

/// A pipe with a name and nobody at its other end: opening it waits for ever.
fn pipe(name: &str) -> File {
    let path = std::env::temp_dir().join(format!("bowline-{}-{name}", std::process::id()));
    assert!(Command::new("mkfifo").arg(&path).status().expect("it is a part of every system").success());
    File(path)
}

#[test]
fn a_pipe_is_neither_a_configuration_nor_a_log() {
    let pipe = pipe("pipe");
    let path = pipe.path();
    let right = format!("{path}: cannot read it: it is no regular file\n");
    assert_eq!(parts(&bowline(&["check", "--config", path])), (Some(78), String::new(), right));
    let right = format!("--config: cannot read {path}: it is no regular file\n");
    assert_eq!(parts(&bowline(&["run", "--config", path])), (Some(78), String::new(), right));
    let file = File::with("piped-log.yaml", format!("log: {{file: {path}}}\n"));
    let right =
        format!("{}:1:13: log.file: {path} is no regular file and no character device\n", file.path());
    assert_eq!(parts(&bowline(&["run", "--config", file.path()])), (Some(78), String::new(), right));
}

#[test]
fn a_wrong_command_line_ends_with_78_and_help_with_0() {
    let (code, out, _) = parts(&bowline(&["run", "--nonsense"]));
    assert_eq!((code, out.as_str()), (Some(78), ""));
    let (code, out, err) = parts(&bowline(&["run", "--help"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("--drain-deadline"), "{out}");
}

#[test]
fn a_run_with_a_fault_ends_with_78_and_names_its_place() {
    let file = File::with("run.yaml", "drain: {delay: never}\n");
    let path = file.path();
    let (code, out, said) = parts(&bowline(&["run", "--config", path]));
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(said.starts_with(&format!("{path}:1:16: drain.delay: ")), "{said}");
    let (code, _, said) = parts(&bowline(&["run", "--engine", "tokio", "--dispatch", "handoff"]));
    assert_eq!(code, Some(78));
    assert!(said.starts_with("--dispatch: "), "{said}");
}

#[test]
fn a_taken_admin_address_ends_with_1_and_says_where_it_was_said() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let listen = ["run", "--listen", "bolt://127.0.0.1:0"];
    let (code, out, said) = parts(&bowline(&[&listen[..], &["--admin", &address]].concat()));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let start = format!("bowline: --admin: cannot listen on {address} for the admin interface: ");
    assert!(said.starts_with(&start) && said.contains("in use"), "{said}");
}

#[test]
fn a_taken_listener_ends_with_1_and_says_where_it_was_said() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let text = format!("listeners:\n  - address: bolt://127.0.0.1:0\n  - address: bolt://{address}\n");
    let file = File::with("taken.yaml", &text);
    let (code, out, said) = parts(&bowline(&["run", "--admin", "off", "--config", file.path()]));
    assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains(&format!("{}:3:14: cannot listen on {address}: ", file.path())), "{said}");
}

/// Fills a pipe until it takes no more.
fn fill(pipe: &mut PipeWriter) {
    loop {
        let mut room = [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut room, PollTimeout::ZERO).expect("it can be asked") == 0 {
            return;
        }
        pipe.write_all(&[b'x'; 4_096]).expect("there is room");
    }
}

#[test]
fn nobody_has_to_read_the_ready_line() {
    let (reader, writer) = std::io::pipe().expect("descriptors are left");
    // Writing to it fails from now on.
    drop(reader);
    starts_and_ends_with_output_to(writer);
}

#[test]
fn a_reader_of_the_ready_line_that_sleeps_makes_nobody_wait() {
    let (reader, mut writer) = std::io::pipe().expect("descriptors are left");
    fill(&mut writer);
    starts_and_ends_with_output_to(writer);
    drop(reader);
}

/// It says that the ready line could not be written, is ready all the same, and hears signals.
fn starts_and_ends_with_output_to(output: PipeWriter) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(["run", "--admin", "off", "--listen", "bolt://127.0.0.1:0"]).env_clear();
    let mut child = command.stdout(output).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let mut before: Vec<String> = log.by_ref().take_while(|line| !line.contains("ready;")).collect();
    before.retain(|line| line.contains("the ready line could not be written"));
    assert_eq!(before.len(), 1, "it says so and goes on");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("it runs");
    assert_eq!(child.wait().expect("it is our child").code(), Some(0), "an end that was asked for");
    assert!(log.any(|line| line.contains("why=\"at_once\"")));
}

#[test]
fn a_log_that_cannot_be_opened_ends_with_1() {
    // Longer than any name may be, which nobody knows before it is opened.
    let name = "x".repeat(300);
    let file = File::with("log.yaml", format!("log: {{file: {name}}}\n"));
    let (code, out, said) = parts(&bowline(&["run", "--config", file.path()]));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(said.starts_with(&format!("bowline: cannot write the log: {name}: ")), "{said}");
}

/// The program with at most so many descriptors.
fn bowline_with_descriptors(descriptors: usize, arguments: &[&str]) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""));
    shell.arg(env!("CARGO_BIN_EXE_bowline")).args(arguments).env_clear();
    shell
}

#[test]
fn the_doctor_ends_with_0_or_1_and_says_the_same_in_json() {
    let mut doctor = bowline_with_descriptors(1_000, &["doctor", "--connections", "937"]);
    let (code, out, err) = parts(&doctor.output().expect("it starts"));
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    assert!(out.contains("holds 936 clients, asked for 937"), "{out}");
    // Whether something else is in the way of a single client is the machine's affair.
    let (code, out, _) = parts(&bowline(&["doctor", "--connections", "1", "--json"]));
    let said: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(out.lines().count(), 1);
    assert_eq!(code, Some(i32::from(said["bites"] == true)), "{out}");
    let findings = said["findings"].as_array().expect("a list");
    assert_eq!(said["bites"] == true, findings.iter().any(|finding| finding["grade"] == "warn"), "{out}");
}

#[test]
fn the_doctor_of_a_wrong_file_ends_with_78() {
    let file = File::with("doctor.yaml", "engine: {workers: none}\n");
    let right = format!("{}:1:19: engine.workers: \"none\" is no whole number\n", file.path());
    let output = bowline(&["doctor", "--config", file.path()]);
    assert_eq!(parts(&output), (Some(78), String::new(), right));
}

#[test]
fn more_connections_than_descriptors_are_a_finding_of_the_doctor_and_a_fault_of_the_check() {
    let file = File::with("doctor-many.yaml", "engine: {max_connections: 2000}\n");
    let mut check = bowline_with_descriptors(1_000, &["check", file.path()]);
    assert_eq!(check.output().expect("it starts").status.code(), Some(78));
    let mut doctor = bowline_with_descriptors(1_000, &["doctor", "--config", file.path()]);
    let (code, out, err) = parts(&doctor.output().expect("it starts"));
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert!(out.contains("holds 936 clients, asked for 2,000"), "{out}");
}

#[test]
fn limits_that_will_bite_are_warned_of_once_at_start() {
    let listen = ["--listen", "tcp://127.0.0.1:0", "--upstream", "tcp://127.0.0.1:9"];
    let arguments = [&["run", "--admin", "off", "--max-connections", "60"][..], &listen].concat();
    let mut shell = bowline_with_descriptors(120, &arguments);
    let mut child = shell.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let before: Vec<String> = log.by_ref().take_while(|line| !line.contains("ready")).collect();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("it runs");
    assert_eq!(child.wait().expect("it is our child").code(), Some(0), "{before:?}");
    let said: Vec<_> = before.iter().filter(|line| line.contains("RLIMIT_NOFILE")).collect();
    assert_eq!(said.len(), 1, "{before:?}");
    assert!(said[0].contains("WARN") && said[0].contains("limit=\"descriptors\""), "{said:?}");
    assert!(said[0].contains("RLIMIT_NOFILE is 120: holds 28 clients, each with 2 descriptors"), "{said:?}");
}

#[test]
fn the_version_is_one_line_of_json() {
    let (code, out, _) = parts(&bowline(&["version", "--json"]));
    assert_eq!((code, out.lines().count()), (Some(0), 1));
    let said: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
}
