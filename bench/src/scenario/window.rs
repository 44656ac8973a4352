//! Owns one measurement: backend, target and load with processes of their own, so that none inherits what another left; the
//! load generator on one core, the backend on another, the target free. Says what was found as JSON, whatever the window.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::admin;
use crate::scenario::churn;
use crate::scenario::churn::ChurnOptions;
use crate::scenario::file::Load;
use crate::scenario::file::Order;
use crate::scenario::file::What;
use crate::scenario::file::Window;
use crate::scenario::instructions;
use crate::scenario::memory;
use crate::scenario::memory::MemoryRecipe;
use crate::scenario::memory::ProcessSize;
use crate::scenario::programs;
use crate::scenario::programs::Running;
use crate::scenario::programs::words;
use crate::scenario::resume;
use crate::scenario::stalled::Stalled;
use crate::scenario::target::StartOptions;
use crate::scenario::target::Target;
use crate::spawn::Spawned;
use crate::trouble::Trouble;
use crate::wire::Protocol;
use crate::wire::ShapeOptions;

/// What all measurements of a run have in common.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The path of `bowline-bench` itself.
    pub program: PathBuf,
    /// The gateway's program.
    pub gateway: Option<PathBuf>,
    /// Flags of every gateway.
    pub gateway_flags: Vec<String>,
    /// Where configurations of peers are written.
    pub folder: PathBuf,
    /// The load generator's core.
    pub load_core: usize,
    /// The backend's core.
    pub backend_core: usize,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Every answer was right.
    pub ok: bool,
    /// Others took too much CPU.
    pub disturbed: bool,
    /// Processes of the target.
    pub processes: usize,
    /// What was started.
    pub commands: Vec<String>,
    /// How much the target's counters grew.
    pub counters: BTreeMap<String, f64>,
    /// The report of the recipe.
    pub result: Value,
}

/// Measures one target once.
pub fn measure(bench: &Bench, window: &Window, target: &Target) -> Result<Measured, Trouble> {
    match &window.what {
        What::Load(load) => measure_load(bench, window, target, load, None),
        What::SlowReaders { load, stalled, bytes } => {
            measure_load(bench, window, target, load, Some((*stalled, *bytes)))
        }
        What::Memory { connections, polled } => measure_memory(bench, window, target, *connections, *polled),
        What::Churn { connections, total, rest } => {
            let options = ChurnOptions {
                connections: *connections,
                total: *total,
                shape: shape(window.protocol),
                grace: GRACE,
                rest: *rest,
            };
            measure_churn(bench, window, target, &options)
        }
    }
}

impl Bench {
    /// What tells these programs from those of another build.
    pub fn build(&self) -> String {
        resume::build_of([Some(&*self.program), self.gateway.as_deref()].into_iter().flatten())
    }

    /// Where valgrind writes. It is run for one target at a time.
    fn callgrind_out(&self) -> PathBuf {
        self.folder.join("callgrind.out")
    }

    fn start(
        &self,
        window: &Window,
        target: &Target,
        upstream: std::net::SocketAddr,
        connections_max: Option<usize>,
    ) -> Result<Vec<Running>, Trouble> {
        let flags = [&window.gateway_flags[..], &self.gateway_flags].concat();
        target.start(&StartOptions {
            bench: &self.program,
            gateway: self.gateway.as_deref(),
            protocol: window.protocol,
            upstream,
            processes: window.processes,
            gateway_flags: &flags,
            admin: window.admin && target.is_gateway(),
            connections_max,
            folder: &self.folder,
            callgrind: window.what.counts_instructions().then_some(&*self.callgrind_out()),
        })
    }
}

fn measure_load(
    bench: &Bench,
    window: &Window,
    target: &Target,
    load: &Load,
    stalled: Option<(usize, usize)>,
) -> Result<Measured, Trouble> {
    let patience = load.warmup + load.duration + PATIENCE;
    let backend = programs::backend(&bench.program, Some(bench.backend_core), patience.as_secs() + 1)?;
    let running = bench.start(window, target, backend.address, None)?;
    let admin = running[0].admin;
    let stalled = stalled.map(|(clients, bytes)| Stalled::start(running[0].address, clients, bytes));
    let stalled = stalled.transpose()?;
    let before = admin.map(admin::counters).transpose()?.unwrap_or_default();
    let arguments = load_arguments(bench, window.protocol, load, &running, backend.pid());
    let generator = Spawned::start(&bench.program, "the load generator", &bench.program, &arguments)?;
    let line = generator.next_line(patience)?;
    let after = admin.map(admin::counters).transpose()?.unwrap_or_default();
    let mut result: Value = serde_json::from_str(&line)
        .map_err(|error| Trouble::Broken(format!("the load generator's result ({error}): {line}")))?;
    let mut ok = result["ok"] == true;
    if let Some(stalled) = stalled {
        let report = stalled.read_all()?;
        ok &= report.ok();
        result["stalled"] = json!(report);
    }
    let others = result["others_core_percent"].as_f64().unwrap_or(0.0);
    let mut commands: Vec<_> = running.iter().map(|one| one.command().to_owned()).collect();
    commands.extend([backend.command().to_owned(), generator.command().to_owned()]);
    let counters =
        after.into_iter().map(|(name, value)| (name.clone(), value - before.get(&name).unwrap_or(&0.0)));
    let mut measured = Measured {
        ok,
        // The machine's idle time comes in steps that are too coarse for a short window.
        // And what others take changes no count.
        disturbed: load.duration >= JUDGED_MIN && others > OTHERS_PERCENT_MAX && load.counting.is_none(),
        processes: running.len(),
        commands,
        // That nothing moved is worth a line; that nothing else happened is not.
        counters: counters.filter(|(name, value)| *value != 0.0 || name.contains("move")).collect(),
        result,
    };
    stop(running, backend)?;
    if window.what.counts_instructions() && measured.ok {
        let answered = measured.result["answered_in_window"].as_u64().unwrap_or(0);
        measured.result["counted"] = json!(instructions::read(&bench.callgrind_out(), answered)?);
    }
    Ok(measured)
}

fn load_arguments(
    bench: &Bench,
    protocol: Protocol,
    load: &Load,
    running: &[Running],
    backend: u32,
) -> Vec<OsString> {
    let mut flags = vec!["load".to_owned()];
    let mut flag = |name: &str, value: String| flags.extend([format!("--{name}"), value]);
    flag("to", running[0].address.to_string());
    flag("connections", load.connections.to_string());
    match load.order {
        Order::InFlight(in_flight) => flag("in-flight", in_flight.to_string()),
        Order::Rate(rate, warmup_rate) => {
            flag("rate", rate.to_string());
            warmup_rate.into_iter().for_each(|rate| flag("warmup-rate", rate.to_string()));
        }
    }
    flag("bytes", load.bytes.to_string());
    match protocol {
        Protocol::Bolt => flag("header", SERVICE.into()),
        Protocol::Http => flag("protocol", "http".into()),
        Protocol::Websocket => flag("protocol", "websocket".into()),
    }
    flag("warmup", load.warmup.as_secs_f64().to_string());
    flag("duration", load.duration.as_secs_f64().to_string());
    flag("pin", bench.load_core.to_string());
    if let Some(seconds) = load.heartbeat_every {
        flag("heartbeat-every", seconds.to_string());
    }
    if let Some((connections, requests)) = load.skew {
        flag("skew-connections", connections.to_string());
        flag("skew-requests", requests.to_string());
        running[0].admin.into_iter().for_each(|admin| flag("skew-admin", admin.to_string()));
    }
    if load.processes > 1 {
        flag("processes", load.processes.to_string());
    }
    for source in 1..=load.sources {
        flag("source", format!("127.0.0.{source}"));
    }
    for pid in running.iter().map(Running::pid).chain([backend]) {
        flag("pid", pid.to_string());
    }
    flags.push("--quiet".into());
    flags.extend(load.counting.map(|counting| counting.flag().to_owned()));
    if load.heartbeats {
        flags.push("--heartbeats".into());
    }
    if load.get {
        flags.push("--get".into());
    }
    words(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn measure_memory(
    bench: &Bench,
    window: &Window,
    target: &Target,
    connections: usize,
    polled: Option<Duration>,
) -> Result<Measured, Trouble> {
    // The gateway's limit counts clients alone, but those of other proxies count upstream connections too, and all
    // targets are warmed alike.
    let warm_connections =
        (CONNECTIONS_FEW - UPSTREAMS_KEPT) / target.connections_per_client(window.protocol);
    let recipe = MemoryRecipe {
        name: target.name.clone(),
        connections,
        warm_connections,
        shape: shape(window.protocol),
        grace: GRACE,
        polled,
    };
    let mut commands = Vec::new();
    let report = memory::measure(&bench.program, &recipe, &mut |upstream, size| {
        let connections_max = (size == ProcessSize::Few).then_some(CONNECTIONS_FEW);
        let running = bench.start(window, target, upstream, connections_max)?;
        let [running] = <[Running; 1]>::try_from(running)
            .map_err(|_| Trouble::Asked("memory is measured of one process".into()))?;
        commands.push(running.command().to_owned());
        Ok(running)
    })?;
    let result = json!(report);
    Ok(Measured { ok: report.ok, processes: 1, commands, result, ..Measured::default() })
}

fn measure_churn(
    bench: &Bench,
    window: &Window,
    target: &Target,
    options: &ChurnOptions,
) -> Result<Measured, Trouble> {
    let backend = programs::backend(&bench.program, Some(bench.backend_core), CHURN_SECONDS_MAX)?;
    let running = bench.start(window, target, backend.address, None)?;
    let report = churn::churn(options, &running[0])?;
    let commands = running.iter().map(|one| one.command().to_owned()).collect();
    stop(running, backend)?;
    Ok(Measured { ok: report.ok, processes: 1, commands, result: json!(report), ..Measured::default() })
}

/// The backend last: a relay without it would say that it was lost.
fn stop(running: Vec<Running>, backend: Running) -> Result<(), Trouble> {
    running.into_iter().try_for_each(Running::stop)?;
    backend.stop()
}

fn shape(protocol: Protocol) -> ShapeOptions {
    let header = SERVICE.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let header = header.filter(|_| protocol == Protocol::Bolt);
    ShapeOptions {
        protocol,
        header: header.into_iter().collect(),
        content_bytes: BYTES,
        reply_bytes: BYTES,
        ..ShapeOptions::default()
    }
}

/// The result of a window in a few words.
pub fn headline(processes: usize, result: &Value) -> String {
    let number = |path: &str| result.pointer(path).and_then(Value::as_f64);
    let cpu = result["processes_cpu"].as_array().map(|all| {
        let own = all.iter().take(processes);
        own.filter_map(|one| one["us_per_request"].as_f64()).sum::<f64>()
    });
    if let Some(calls) = number("/syscalls_per_request") {
        return format!("{calls:.2} system calls per request");
    }
    if let (Some(instructions), Some(allocations)) =
        (number("/counted/instructions_per_request"), number("/counted/allocations_per_request"))
    {
        return format!("{instructions:.0} instructions and {allocations:.4} allocations per request");
    }
    if let (Some(cpu), Some(p50), Some(p99)) = (cpu, number("/latency/p50_us"), number("/latency/p99_us")) {
        return format!("{cpu:.2} us per request, p50 {:.3} ms, p99 {:.3} ms", p50 / 1e3, p99 / 1e3);
    }
    if let Some(bytes) = number("/bytes_per_connection") {
        return format!("{bytes:.1} bytes per idle connection");
    }
    number("/last_bytes").map_or_else(String::new, |bytes| format!("{bytes:.0} bytes at 0 connections"))
}

/// A folder that is there.
pub fn make_folder(folder: &Path) -> Result<(), Trouble> {
    std::fs::create_dir_all(folder).map_err(Trouble::doing(format!("making {}", folder.display())))
}

/// Every request of Bolt says which service it is for: a gateway routes by it.
const SERVICE: &str = "service=demo";
const BYTES: usize = 1_024;
/// What the baseline of a memory recipe is configured for.
const CONNECTIONS_FEW: usize = 64;
const UPSTREAMS_KEPT: usize = 8;
const GRACE: Duration = Duration::from_secs(5);
/// Above this a window is taken again.
const OTHERS_PERCENT_MAX: f64 = 12.0;
const JUDGED_MIN: Duration = Duration::from_secs(1);
/// What opening, touching and draining the connections may take beyond the measurement.
const PATIENCE: Duration = Duration::from_secs(240);
const CHURN_SECONDS_MAX: u64 = 1_800;
