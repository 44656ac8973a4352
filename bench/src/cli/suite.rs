//! Owns the flags of the suite: which scenarios, which targets and peers, how often, how long. Peers that are not there are
//! left out with a line that says so; scenarios and targets that do not exist are refused.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::values::count_up_to;
use super::values::seconds;
use super::verdict;
use crate::scenario::file::Changes;
use crate::scenario::file::ROUNDS_MAX;
use crate::scenario::file::Scenario;
use crate::scenario::peer::Peer;
use crate::scenario::suite;
use crate::scenario::suite::SuiteOptions;
use crate::scenario::target::Target;
use crate::scenario::window;
use crate::scenario::window::Bench;
use crate::trouble::Trouble;

#[derive(Debug, Args)]
pub(super) struct RunFlags {
    /// Scenarios: small_rpc, h1, long_connections, idle, tcp, websocket, churn, instructions, syscalls, heartbeats, skew,
    /// partial_load, scale, slow_readers, all of them by "all", or files that end in .toml.
    #[arg(required = true)]
    scenarios: Vec<String>,
    /// The gateway's program; `bowline` beside this one by default.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// A further flag for the gateway, e.g. --gateway-flag=--reactors=1; may be repeated.
    #[arg(long)]
    gateway_flag: Vec<String>,
    /// Instead of the scenarios' targets: raw, tokio, raw-tcp, tokio-tcp, relay-epoll, relay-tokio, relay-tokio-multi, or
    /// 'NAME=MODE FLAGS' for the gateway with flags of its own; may be repeated.
    #[arg(long, value_parser = Target::parse)]
    target: Vec<Target>,
    /// A peer beside them: nginx, haproxy, h2o, envoy, traefik, sozu, mosn; NAME=PATH where it is not below .peers/bin; may be
    /// repeated.
    #[arg(long, value_parser = named_peer)]
    peer: Vec<NamedPeer>,
    /// How often each window, however often its scenario asks for; without it 3 times, or as often as that asks.
    #[arg(long, value_parser = count_up_to::<ROUNDS_MAX>)]
    rounds: Option<usize>,
    /// How often a disturbed window is taken, at most.
    #[arg(long, default_value_t = 2, value_parser = count_up_to::<10>)]
    attempts: usize,
    /// Seconds to measure, instead of what the scenarios say.
    #[arg(long, value_parser = seconds)]
    duration: Option<Duration>,
    /// Seconds of load before that, instead of what the scenarios say.
    #[arg(long, value_parser = seconds)]
    warmup: Option<Duration>,
    /// Seconds that memory may take to be given back, instead of what the scenarios say.
    #[arg(long, value_parser = seconds)]
    rest: Option<Duration>,
    /// No more connections than that, whatever the scenarios say: for a first look.
    #[arg(long, value_parser = count_up_to::<1_000_000>)]
    connections_max: Option<usize>,
    /// Seconds after which no further window begins.
    #[arg(long, default_value = "14400", overrides_with = "time_max", value_parser = seconds)]
    time_max: Duration,
    /// Goes on with a run that was cut off: measures no round that the results hold already, of the same programs and under
    /// the same window.
    #[arg(long)]
    resume: bool,
    /// Says what would be measured, and for how long, and ends.
    #[arg(long)]
    plan: bool,
    /// Folder for the results; they are appended to results.jsonl there.
    #[arg(long, default_value = "bench-results")]
    out: PathBuf,
    /// CPU of the load generator.
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// CPU of the backend.
    #[arg(long, default_value_t = 1)]
    backend_core: usize,
}

/// A peer by its name, with its program if that was said.
#[derive(Clone, Debug)]
struct NamedPeer {
    name: String,
    peers: &'static [Peer],
    program: Option<PathBuf>,
}

fn named_peer(text: &str) -> Result<NamedPeer, String> {
    let (name, program) = text.split_once('=').map_or((text, None), |(name, path)| (name, Some(path.into())));
    let peers = Peer::named(name).ok_or_else(|| format!("one of {}", Peer::names().join(", ")))?;
    Ok(NamedPeer { name: name.into(), peers, program })
}

pub(super) fn run(flags: &RunFlags, bench: &Path, arguments: &[OsString]) -> Result<(), Trouble> {
    window::make_folder(&flags.out)?;
    let mut peers = Vec::new();
    let mut missing = Vec::new();
    for NamedPeer { name, peers: kinds, program } in &flags.peer {
        let program = program.clone().unwrap_or_else(|| Path::new(PEERS).join(name));
        if program.is_file() {
            peers.extend(kinds.iter().map(|peer| Target::peer(*peer, program.clone())));
        } else {
            missing.push((name.clone(), format!("no {}; {}", program.display(), hint(name))));
        }
    }
    let gateway = gateway(flags, bench)?;
    let folder = std::path::absolute(&flags.out).map_err(Trouble::doing("finding the folder of results"))?;
    let report = suite::run(&SuiteOptions {
        scenarios: scenarios(flags)?,
        targets: flags.target.clone(),
        peers,
        missing,
        rounds: flags.rounds,
        attempts_max: flags.attempts,
        time_max: flags.time_max,
        bench: Bench {
            program: bench.into(),
            gateway,
            gateway_flags: flags.gateway_flag.clone(),
            folder,
            load_core: flags.load_core,
            backend_core: flags.backend_core,
        },
        journal: flags.out.join(RESULTS),
        command: command(arguments),
        resume: flags.resume,
        plan_only: flags.plan,
    })?;
    println!("{}", json!(report));
    if flags.plan {
        return Ok(());
    }
    verdict(report.broken == 0 && report.measured + report.resumed > 0)
}

fn scenarios(flags: &RunFlags) -> Result<Vec<Scenario>, Trouble> {
    let all = flags.scenarios.iter().flat_map(|name| match name.as_str() {
        "all" => Scenario::names().map(String::from).collect(),
        _ => vec![name.clone()],
    });
    let changes = Changes {
        duration: flags.duration,
        warmup: flags.warmup,
        rest: flags.rest,
        connections_max: flags.connections_max,
    };
    all.map(|name| {
        let mut scenario = Scenario::find(&name)?;
        scenario.change(&changes);
        Ok(scenario)
    })
    .collect()
}

fn gateway(flags: &RunFlags, bench: &Path) -> Result<Option<PathBuf>, Trouble> {
    let Some(program) = &flags.gateway else {
        return Ok(Some(bench.with_file_name("bowline")).filter(|beside| beside.is_file()));
    };
    if program.is_file() {
        return Ok(Some(program.clone()));
    }
    Err(Trouble::Asked(format!("--gateway {}: no such program", program.display())))
}

/// How a peer that is missing can be had, or why it could not.
fn hint(name: &str) -> String {
    if name == "mosn" {
        return "it cannot be had from package registries; say where it is: --peer mosn=PATH".into();
    }
    let why = std::fs::read_to_string(Path::new(PEERS).with_file_name(format!("{name}.why")));
    why.map_or_else(
        |_| "scripts/peers.sh installs it".into(),
        |why| format!("scripts/peers.sh {name}: {}", why.trim()),
    )
}

/// As one would type it.
fn command(arguments: &[OsString]) -> String {
    let quoted = arguments.iter().map(|word| {
        let word = word.to_string_lossy();
        if word.contains(' ') { format!("'{word}'") } else { word.into_owned() }
    });
    std::iter::once("bowline-bench".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// Where scripts/peers.sh puts them.
const PEERS: &str = ".peers/bin";
/// The raw results in their folder.
pub(super) const RESULTS: &str = "results.jsonl";
