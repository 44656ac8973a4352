//! Owns the command line: flags with units and defaults, and what each subcommand runs. Refuses combinations that make no
//! sense, with what to change. Results go to standard output as one line of JSON, summaries to standard error.

mod values;

mod relay;

mod suite;

mod results;

use std::ffi::OsString;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::backend::Backend;
use crate::backend::BackendOptions;
use crate::fleet::FleetOptions;
use crate::host;
use crate::load::LoadOptions;
use crate::load::Loop;
use crate::load::Skew;
use crate::pace::Share;
use crate::report;
use crate::scenario::compare;
use crate::scenario::compare::CompareOptions;
use crate::scenario::compare::Scenario;
use crate::scenario::count::Counting;
use crate::scenario::memory;
use crate::scenario::memory::IdleOptions;
use crate::scenario::memory::MemoryOptions;
use crate::scenario::programs::Gateway;
use crate::scenario::spread_load;
use crate::scenario::spread_load::SpreadOptions;
use crate::spawn;
use crate::trouble::Trouble;
use crate::wire::Protocol;
use crate::wire::ShapeOptions;

use relay::RelayFlags;
use results::CapacityFlags;
use results::ReportFlags;
use suite::RunFlags;
use values::ReplyBytes;
use values::count_up_to;
use values::pair;
use values::rate;
use values::reply_bytes;
use values::seconds;
use values::share;

/// Load, backend and measurements for Bowline. Each subcommand prints one line of JSON; exit codes: 0 all answers right,
/// 1 something was lost, mixed up or refused, 2 wrong flags, 3 the machine failed.
#[derive(Debug, Parser)]
#[command(name = "bowline-bench", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A server of Bolt, HTTP/1.1 and WebSocket that answers with what it was sent; says on one line where it listens.
    Backend(BackendFlags),
    /// A bare relay between clients and a backend: the floor that a gateway is compared with.
    Relay(RelayFlags),
    /// Sends requests and verifies every answer.
    Load(LoadFlags),
    /// Memory of a running process while connections to it are idle.
    Idle(IdleFlags),
    /// Bytes per idle connection of a gateway, by the whole recipe: warmed baseline, then idle connections.
    Memory(MemoryFlags),
    /// Scenarios of the suite on the gateway's modes, the bare relays and peers, interleaved.
    Run(RunFlags),
    /// A page of Markdown with tables, verdicts and pictures, from the raw results of runs.
    Report(ReportFlags),
    /// How many connections this machine holds, and what it costs when all come back, from raw results.
    Capacity(CapacityFlags),
    /// The same loads on several modes of a gateway, interleaved.
    Compare(CompareFlags),
    /// Starts a program that ends when this one's parent does.
    #[command(hide = true)]
    Guard(GuardFlags),
}

#[derive(Debug, Args)]
struct BackendFlags {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Content of an answer in bytes; "same" sends back what came.
    #[arg(long, default_value = "same", value_parser = reply_bytes)]
    reply_bytes: ReplyBytes,
    /// Milliseconds that each answer waits.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=60_000))]
    delay_ms: u64,
    /// CPU to stay on.
    #[arg(long)]
    pin: Option<usize>,
    /// Seconds after which it ends; without it SIGTERM does.
    #[arg(long, value_parser = seconds)]
    duration: Option<Duration>,
}

#[derive(Debug, Args)]
struct ShapeFlags {
    /// How requests and answers are framed; a WebSocket begins with a handshake, whose answer is verified too.
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
    /// HTTP: asks for the content instead of sending it, so that only the answer has a body.
    #[arg(long)]
    get: bool,
    /// Content of a request in bytes.
    #[arg(long, default_value_t = 1_024)]
    bytes: usize,
    /// Content of an answer in bytes, as the backend was told; "same" expects what was sent.
    #[arg(long, default_value = "same", value_parser = reply_bytes)]
    reply_bytes: ReplyBytes,
    /// Bolt v2 instead of v1.
    #[arg(long)]
    v2: bool,
    /// A CRC on every request and answer; needs --v2.
    #[arg(long)]
    crc: bool,
    /// Heartbeats instead of requests.
    #[arg(long, conflicts_with = "crc")]
    heartbeats: bool,
    /// A pair of the header map, or a field of HTTP requests, KEY=VALUE; may be repeated.
    #[arg(long, value_parser = pair)]
    header: Vec<(String, String)>,
    /// Seconds to wait for outstanding answers at the end; what is missing then is lost.
    #[arg(long, default_value = "5", value_parser = seconds)]
    grace: Duration,
}

impl ShapeFlags {
    fn options(&self) -> ShapeOptions {
        ShapeOptions {
            protocol: self.protocol,
            get: self.get,
            v2: self.v2,
            crc: self.crc,
            heartbeats: self.heartbeats,
            header: self.header.clone(),
            content_bytes: self.bytes,
            reply_bytes: self.reply_bytes.0.unwrap_or(self.bytes),
        }
    }
}

#[derive(Debug, Args)]
struct LoadFlags {
    /// Address to connect to.
    #[arg(long)]
    to: SocketAddr,
    /// Connections; above the limit of open files more processes are started.
    #[arg(long, default_value_t = 50, value_parser = count_up_to::<1_000_000>)]
    connections: usize,
    /// Closed loop: requests in flight per connection.
    #[arg(long, conflicts_with = "rate", value_parser = count_up_to::<65_536>)]
    in_flight: Option<usize>,
    /// Open loop: requests per second in all, latency counted from the intended send time.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Open loop: requests per second before the measurement, which then begins with a step.
    #[arg(long, requires = "rate", value_parser = rate)]
    warmup_rate: Option<f64>,
    /// Seconds after which each connection sends a heartbeat, again and again, beside its requests.
    #[arg(long, value_parser = seconds)]
    heartbeat_every: Option<Duration>,
    /// Open loop: of 100 connections, those that take more than their part; needs --skew-requests.
    #[arg(long, requires = "rate", requires = "skew_requests", value_parser = clap::value_parser!(u32).range(1..=99))]
    skew_connections: Option<u32>,
    /// Of 100 requests, those that these connections take.
    #[arg(long, requires = "skew_connections", value_parser = clap::value_parser!(u32).range(1..=100))]
    skew_requests: Option<u32>,
    /// Admin address of a gateway: the connections that take more are chosen on its reactor 0.
    #[arg(long, requires = "skew_connections")]
    skew_admin: Option<SocketAddr>,
    /// Seconds to measure.
    #[arg(long, default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// Seconds of load before that.
    #[arg(long, default_value = "2", value_parser = seconds)]
    warmup: Duration,
    #[command(flatten)]
    shape: ShapeFlags,
    /// Process tree whose CPU is measured; may be repeated.
    #[arg(long)]
    pid: Vec<u32>,
    /// Counts the system calls of the first --pid by strace, which distorts all other figures.
    #[arg(long, requires = "pid")]
    syscalls: bool,
    /// Lets valgrind, below which the first --pid was started, count its instructions in the measurement alone.
    #[arg(long, requires = "pid", conflicts_with = "syscalls")]
    instructions: bool,
    /// CPU to stay on.
    #[arg(long)]
    pin: Option<usize>,
    /// Address to connect from, in turn when repeated.
    #[arg(long)]
    source: Vec<IpAddr>,
    /// Processes to send from; as few as possible by default.
    #[arg(long)]
    processes: Option<usize>,
    /// No summary on standard error.
    #[arg(long)]
    quiet: bool,
    /// Set when this is one of several processes.
    #[arg(long, hide = true, value_parser = share)]
    worker: Option<Share>,
}

#[derive(Debug, Args)]
struct IdleFlags {
    /// Address to connect to.
    #[arg(long)]
    to: SocketAddr,
    /// Idle connections.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Process tree whose memory is read.
    #[arg(long)]
    pid: u32,
    /// Anonymous memory in bytes to subtract; by default that before the first connection.
    #[arg(long)]
    baseline_bytes: Option<u64>,
    #[command(flatten)]
    shape: ShapeFlags,
}

#[derive(Debug, Args)]
struct GatewayFlags {
    /// The gateway's program.
    #[arg(long)]
    gateway: PathBuf,
    /// A further flag for the gateway, e.g. --gateway-flag=--reactors=1; may be repeated.
    #[arg(long)]
    gateway_flag: Vec<String>,
}

impl GatewayFlags {
    fn gateway(&self) -> Gateway {
        Gateway { program: self.gateway.clone(), flags: self.gateway_flag.clone() }
    }
}

#[derive(Debug, Args)]
struct MemoryFlags {
    #[command(flatten)]
    gateway: GatewayFlags,
    /// Mode of the gateway, passed as --engine.
    #[arg(long, default_value = "raw")]
    mode: String,
    /// Idle connections.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Connections that the baseline's requests go over.
    #[arg(long, default_value_t = 64, value_parser = count_up_to::<10_000>)]
    warm_connections: usize,
    /// What the baseline gets as --max-connections, which counts the connections of clients alone.
    #[arg(long, default_value_t = 64)]
    warm_connections_max: usize,
    #[command(flatten)]
    shape: ShapeFlags,
}

#[derive(Debug, Args)]
struct CompareFlags {
    #[command(flatten)]
    gateway: GatewayFlags,
    /// Modes of the gateway, passed as --engine.
    #[arg(long, value_delimiter = ',', default_value = "raw,tokio")]
    engines: Vec<String>,
    /// Loads: c1, c2, c3, c3b-5k, c3b-20k.
    #[arg(long, value_delimiter = ',', default_value = "c1,c2,c3", value_parser = Scenario::named)]
    scenarios: Vec<Scenario>,
    /// How often each.
    #[arg(long, default_value_t = 3, value_parser = count_up_to::<100>)]
    rounds: usize,
    /// Seconds to measure, each time.
    #[arg(long, default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// Seconds of load before that.
    #[arg(long, default_value = "2", value_parser = seconds)]
    warmup: Duration,
    /// Content of a request in bytes.
    #[arg(long, default_value_t = 1_024)]
    bytes: usize,
    /// CPU of the load generator.
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// CPU of the backend.
    #[arg(long, default_value_t = 1)]
    backend_core: usize,
}

#[derive(Debug, Args)]
struct GuardFlags {
    /// The process to end with.
    #[arg(long)]
    parent: u32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// Runs what the command line says. `bench` is this program, `arguments` are its own, for starting more of its kind.
pub fn run(cli: &Cli, bench: &Path, arguments: &[OsString]) -> Result<(), Trouble> {
    match &cli.command {
        Command::Backend(flags) => run_backend(flags),
        Command::Relay(flags) => relay::run(flags),
        Command::Load(flags) => run_load(flags, bench, arguments),
        Command::Idle(flags) => run_idle(flags),
        Command::Memory(flags) => run_memory(flags, bench),
        Command::Run(flags) => suite::run(flags, bench, arguments),
        Command::Report(flags) => results::report(flags),
        Command::Capacity(flags) => results::capacity(flags),
        Command::Compare(flags) => run_compare(flags, bench),
        Command::Guard(flags) => Err(spawn::guard(flags.parent, &flags.program)),
    }
}

fn run_backend(flags: &BackendFlags) -> Result<(), Trouble> {
    host::raise_descriptor_limit()?;
    if let Some(core) = flags.pin {
        host::pin(core)?;
    }
    let backend = Backend::bind(BackendOptions {
        listen: flags.listen,
        reply_bytes: flags.reply_bytes.0,
        delay: Duration::from_millis(flags.delay_ms),
        duration: flags.duration,
    })?;
    let address = backend.address()?.to_string();
    say_ready("backend", &address);
    let counts = backend.run()?;
    println!("{}", json!({ "event": "ended", "counts": counts }));
    Ok(())
}

/// The line that tells a caller where a server of ours listens.
fn say_ready(name: &str, address: &str) {
    let listeners = json!([{ "name": name, "protocol": "bolt", "address": address }]);
    println!("{}", json!({ "event": "ready", "listeners": listeners, "pid": std::process::id() }));
}

fn run_load(flags: &LoadFlags, bench: &Path, arguments: &[OsString]) -> Result<(), Trouble> {
    let requests = match flags.rate {
        Some(rate) => Loop::Open { rate, warmup_rate: flags.warmup_rate },
        None => Loop::Closed { in_flight: flags.in_flight.unwrap_or(1) },
    };
    if flags.source.iter().any(|source| source.is_ipv4() != flags.to.is_ipv4()) {
        return Err(Trouble::Asked("--source and --to must be of one address family".into()));
    }
    if flags.heartbeat_every.is_some() && flags.shape.protocol != Protocol::Bolt {
        return Err(Trouble::Asked("--heartbeat-every is Bolt's".into()));
    }
    let options = SpreadOptions {
        load: LoadOptions {
            fleet: FleetOptions {
                to: flags.to,
                sources: flags.source.clone(),
                numbers: 0..flags.connections,
            },
            shape: flags.shape.options(),
            requests,
            skew: skew(flags)?,
            heartbeat_every: flags.heartbeat_every.filter(|every| !every.is_zero()),
            share: Share::WHOLE,
            warmup: flags.warmup,
            duration: flags.duration,
            grace: flags.shape.grace,
        },
        pids: flags.pid.clone(),
        processes: flags.processes,
        pin: flags.pin,
        counting: match (flags.syscalls, flags.instructions) {
            (true, _) => Some(Counting::Syscalls),
            (_, true) => Some(Counting::Instructions),
            _ => None,
        },
    };
    if let Some(share) = flags.worker {
        host::end_with_parent(nix::unistd::getppid().as_raw() as u32, Signal::SIGTERM)?;
        return spread_load::run_worker(&options, share);
    }
    let report = spread_load::run(bench, arguments, &options)?;
    println!("{}", json!(report));
    if !flags.quiet {
        eprintln!("{}", report.summary());
    }
    verdict(report.ok)
}

fn skew(flags: &LoadFlags) -> Result<Option<Skew>, Trouble> {
    let (Some(connections_of_100), Some(requests_of_100)) = (flags.skew_connections, flags.skew_requests)
    else {
        return Ok(None);
    };
    if flags.processes.is_some_and(|processes| processes > 1) {
        return Err(Trouble::Asked("--skew-connections needs --processes 1".into()));
    }
    Ok(Some(Skew { connections_of_100, requests_of_100, admin: flags.skew_admin }))
}

fn run_idle(flags: &IdleFlags) -> Result<(), Trouble> {
    let report = memory::idle(&IdleOptions {
        to: flags.to,
        connections: flags.connections,
        pid: flags.pid,
        shape: flags.shape.options(),
        grace: flags.shape.grace,
        polled: None,
    })?;
    let baseline_bytes = flags.baseline_bytes.unwrap_or(report.anonymous_bytes_before);
    let bytes_per_connection = report.bytes_per_connection(baseline_bytes);
    println!("{}", json!({ "event": "idle", "bytes_per_connection": bytes_per_connection, "idle": report }));
    eprintln!(
        "{bytes_per_connection:.1} bytes per idle connection over {}\n{}",
        report.connections,
        report::tally_line(&report.tally)
    );
    verdict(report.ok)
}

fn run_memory(flags: &MemoryFlags, bench: &Path) -> Result<(), Trouble> {
    let report = memory::memory(
        bench,
        &MemoryOptions {
            gateway: flags.gateway.gateway(),
            engine: flags.mode.clone(),
            connections: flags.connections,
            warm_connections: flags.warm_connections,
            warm_connections_max: flags.warm_connections_max,
            shape: flags.shape.options(),
            grace: flags.shape.grace,
        },
    )?;
    println!("{}", json!(report));
    eprintln!("{}", report.summary());
    verdict(report.ok)
}

fn run_compare(flags: &CompareFlags, bench: &Path) -> Result<(), Trouble> {
    let report = compare::compare(
        bench,
        &CompareOptions {
            gateway: flags.gateway.gateway(),
            engines: flags.engines.clone(),
            scenarios: flags.scenarios.clone(),
            rounds: flags.rounds,
            warmup: flags.warmup,
            duration: flags.duration,
            bytes: flags.bytes,
            load_core: flags.load_core,
            backend_core: flags.backend_core,
        },
    )?;
    println!("{}", json!(report));
    eprintln!("{}", report.summary());
    Ok(())
}

fn verdict(ok: bool) -> Result<(), Trouble> {
    if ok { Ok(()) } else { Err(Trouble::Broken("this run does not count: see its counts".into())) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn refused(arguments: &[&str]) -> String {
        let parsed = Cli::try_parse_from([&["bowline-bench"], arguments].concat());
        parsed.expect_err("it makes no sense").to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_flags_are_refused_by_name() {
        let load = ["load", "--to", "127.0.0.1:1"];
        for (flags, says) in [
            (&["--rate", "0"][..], "--rate"),
            (&["--rate", "nan"], "--rate"),
            (&["--rate", "5", "--in-flight", "2"], "--in-flight"),
            (&["--in-flight", "0"], "--in-flight"),
            (&["--connections", "0"], "--connections"),
            (&["--duration=-1"], "--duration"),
            (&["--header", "service"], "KEY=VALUE"),
            (&["--reply-bytes", "many"], "--reply-bytes"),
            (&["--source", "loopback"], "--source"),
            (&["--worker", "2/2"], "--worker"),
        ] {
            let text = refused(&[&load[..], flags].concat());
            assert!(text.contains(says), "{flags:?}: {text}");
        }
        assert!(refused(&["compare", "--gateway", "x", "--scenarios", "c9"]).contains("c3b-20k"));
        assert!(refused(&["load"]).contains("--to"));
    }
}
