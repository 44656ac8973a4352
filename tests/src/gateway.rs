//! Owns one `bowline` process of a test: finds or builds the program, starts it in a mode on free ports, waits until it
//! is ready, reads its admin interface, sends signals, and sees to it that it ends. When it is dropped, its thread ids
//! must be those it had when it was ready: the pool is fixed. Refuses to configure anything that a test did not ask for.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lines::Lines;
use crate::lines::Text;
use crate::mode::Mode;
use crate::sockets::http_get;
use crate::wait::PATIENCE;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    listeners: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    threads: BTreeSet<u32>,
    log: Text,
    ended: Option<ExitStatus>,
}

impl Gateway {
    /// `bowline run` with the flags of `mode` and these; admin on a free port unless they say otherwise.
    pub fn start(mode: Mode, flags: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.arg("run");
        Self::spawn(command, mode, flags)
    }

    /// The same with at most so many descriptors.
    pub fn start_with_descriptors(mode: Mode, descriptors: usize, flags: &[&str]) -> Self {
        // A shell that becomes the gateway, so that the limit holds from its first instruction.
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {descriptors} && exec \"$0\" run \"$@\"")).arg(program());
        Self::spawn(command, mode, flags)
    }

    /// From one Bolt listener to one upstream.
    pub fn bolt(mode: Mode, upstream: SocketAddr, flags: &[&str]) -> Self {
        Self::between("bolt", mode, upstream, flags)
    }

    /// From one HTTP listener to one upstream.
    pub fn http(mode: Mode, upstream: SocketAddr, flags: &[&str]) -> Self {
        Self::between("http", mode, upstream, flags)
    }

    /// From one TCP listener to one upstream.
    pub fn tunnel(mode: Mode, upstream: SocketAddr, flags: &[&str]) -> Self {
        Self::between("tcp", mode, upstream, flags)
    }

    fn between(protocol: &str, mode: Mode, upstream: SocketAddr, flags: &[&str]) -> Self {
        let listen = format!("{protocol}://127.0.0.1:0");
        let upstream = format!("{protocol}://{upstream}");
        Self::start(mode, &[&["--listen", &listen, "--upstream", &upstream], flags].concat())
    }

    fn spawn(mut command: Command, mode: Mode, flags: &[&str]) -> Self {
        raise_descriptor_limit();
        command.args(mode.flags()).args(flags);
        if !flags.contains(&"--admin") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        // A test must not depend on what the caller's environment says about the gateway.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BOWLINE_")) {
            command.env_remove(name);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let log = Text::of(child.stderr.take().expect("it is piped"));
        let lines = Lines::of(child.stdout.take().expect("it is piped"));
        let mut gateway =
            Self { child, listeners: Vec::new(), admin: None, threads: BTreeSet::new(), log, ended: None };
        let Some(line) = lines.next_line() else {
            panic!("it ended instead of being ready:\n{}", gateway.log())
        };
        gateway.read_ready(&line);
        gateway.threads = gateway.threads();
        gateway
    }

    fn read_ready(&mut self, line: &str) {
        let ready: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("no line of JSON ({e}): {line}"));
        assert_eq!(ready["event"], "ready", "{line}");
        assert_eq!(ready["pid"], self.pid(), "{line}");
        let address = |value: &Value| value.as_str().expect("text").parse().expect("an address");
        let listeners = ready["listeners"].as_array().expect("a list");
        self.listeners = listeners.iter().map(|listener| address(&listener["address"])).collect();
        self.admin = (!ready["admin"].is_null()).then(|| address(&ready["admin"]));
    }

    /// Where its first listener is.
    pub fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    /// Where all listeners are, in the order of the configuration.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Where the admin interface is.
    ///
    /// # Panics
    /// When it is off.
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("the admin interface is on")
    }

    /// Whether it has an admin interface.
    pub fn has_admin(&self) -> bool {
        self.admin.is_some()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said on standard error.
    pub fn log(&self) -> String {
        self.log.so_far()
    }

    /// GET on the admin interface; nothing once nobody listens there.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        http_get(self.admin(), path)
    }

    /// The sum of all series of a metric whose labels contain `labels`, e.g. `("requests_total", "")`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let (status, text) = self.get("/metrics").expect("the admin interface answers");
        assert_eq!(status, 200, "{text}");
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix("bowline_")?.strip_prefix(name)?;
            let here = rest.is_empty() || rest.starts_with('{');
            (here && rest.contains(labels)).then(|| value.parse::<f64>().expect("a number"))
        });
        values.sum()
    }

    /// How many requests failed in one way.
    pub fn failures(&self, failure: &str) -> f64 {
        self.metric("request_failures_total", &format!("failure=\"{failure}\""))
    }

    /// How many connections were closed for one reason.
    pub fn closes(&self, reason: &str) -> f64 {
        self.metric("connections_closed_total", &format!("reason=\"{reason}\""))
    }

    /// The connections that it reports.
    pub fn connections(&self) -> Vec<Value> {
        let (status, text) = self.get("/connections?limit=100000").expect("the admin interface answers");
        assert_eq!(status, 200, "{text}");
        let body: Value = serde_json::from_str(&text).expect("JSON");
        body["connections"].as_array().or(body.as_array()).expect("a list of connections").clone()
    }

    /// The ids of its threads now.
    pub fn threads(&self) -> BTreeSet<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
    }

    /// Anonymous memory that is resident now, in bytes.
    pub fn anonymous_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel says so");
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
        kib << 10
    }

    /// Everything that is resident now, and its share of what it shares, in bytes.
    pub fn proportional_bytes(&self) -> u64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).expect("it runs");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("the kernel says so");
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
        kib << 10
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("it runs");
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.ended = self.ended.or(self.child.try_wait().expect("it is our child"));
        self.ended.is_none()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not within twice [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE * 2;
        while self.runs() {
            assert!(Instant::now() < end, "it does not end:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.ended.expect("it has ended")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let threads = self.runs().then(|| self.threads());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway said:\n{}", self.log());
            return;
        }
        if let Some(threads) = threads {
            assert_eq!(threads, self.threads, "the thread ids are those of readiness");
        }
    }
}

/// A test of many connections needs as many descriptors as it may have.
fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has this limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit all is allowed");
}

/// A configuration file that is gone when it is dropped.
#[derive(Debug)]
pub struct Configuration(String);

impl Configuration {
    /// A file with this text.
    pub fn new(text: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bowline-test-{}-{number}.yaml", std::process::id()));
        std::fs::write(&path, text).expect("the folder for temporary files can be written");
        Self(path.to_str().expect("the folder has a plain name").to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs `bowline` with these arguments to its end.
///
/// # Panics
/// When it does not end within [`PATIENCE`].
pub fn bowline(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    // What it says here is short, so the pipes hold it and it can end before they are read.
    let end = Instant::now() + PATIENCE;
    while child.try_wait().expect("it is our child").is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            panic!("it does not end: {arguments:?}");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.wait_with_output().expect("it has ended")
}

/// The program under test: `BOWLINE_BIN`, or the one beside the test's own program, built first if it is missing or
/// older than a source.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("BOWLINE_BIN") {
        Some(path) => PathBuf::from(path),
        None => built(),
    })
}

fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    let profile = test.parent().and_then(Path::parent).expect("tests are in target/PROFILE/deps");
    let program = profile.join("bowline");
    if modified(&program) < newest_source() {
        build(profile);
    }
    assert!(program.exists(), "{} is built", program.display());
    program
}

fn build(profile: &Path) {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", "bowline-gateway", "--bin", "bowline", "--target-dir"]);
    command.arg(profile.parent().expect("a profile is in the target folder")).current_dir(root());
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo can be started");
    assert!(status.success(), "the program cannot be built");
}

/// The newest source of the program; `None` sorts before every time.
fn newest_source() -> Option<SystemTime> {
    let crates = ["engine", "protocols", "gateway"];
    crates.iter().filter_map(|name| newest_below(&root().join(name).join("src"))).max()
}

fn newest_below(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let times = entries.map(|entry| entry.path());
    times.filter_map(|path| if path.is_dir() { newest_below(&path) } else { modified(&path) }).max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository")
}
