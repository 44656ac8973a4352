//! Owns the recipe for bytes per idle connection. What tables take in advance counts: the baseline is a process configured
//! for few connections, warm from as many requests as the measured one answers. The kernel's own memory is told apart.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde::Serialize;

use crate::admin;
use crate::fleet::Fleet;
use crate::fleet::FleetOptions;
use crate::host;
use crate::host::KernelMemory;
use crate::host::Memory;
use crate::pace::Pace;
use crate::report;
use crate::scenario::programs;
use crate::scenario::programs::Gateway;
use crate::scenario::programs::Running;
use crate::trouble::Trouble;
use crate::verify::Tally;
use crate::wire::Protocol;
use crate::wire::Shape;
use crate::wire::ShapeOptions;

/// Idle connections to something that runs already.
#[derive(Clone, Debug)]
pub struct IdleOptions {
    /// Where to.
    pub to: SocketAddr,
    /// How many.
    pub connections: usize,
    /// The process whose memory is read.
    pub pid: u32,
    /// The requests.
    pub shape: ShapeOptions,
    /// How long answers are waited for.
    pub grace: Duration,
    /// Where the list of connections is asked for each second, and for how long, while memory is read.
    pub polled: Option<(SocketAddr, Duration)>,
}

/// What idle connections took.
#[derive(Clone, Debug, Serialize)]
pub struct IdleReport {
    /// True when nothing was lost, mixed up or refused.
    pub ok: bool,
    /// Open while memory was read.
    pub connections: usize,
    /// Anonymous memory before the first connection.
    pub anonymous_bytes_before: u64,
    /// Anonymous memory with all connections idle, each answered once.
    pub anonymous_bytes_idle: u64,
    /// The same after one more request on each.
    pub anonymous_bytes_after: u64,
    /// PSS before the first connection.
    pub pss_bytes_before: u64,
    /// PSS with all connections idle.
    pub pss_bytes_idle: u64,
    /// What the kernel's slabs grew by, per connection; both ends are on this machine.
    pub kernel_slab_bytes_per_connection: f64,
    /// What the kernel's TCP buffers hold with all connections idle.
    pub kernel_tcp_bytes_idle: u64,
    /// How often the list of connections was asked for while memory was read.
    pub polls: usize,
    /// The counts.
    pub tally: Tally,
}

/// Opens the connections, reads memory while they are idle, and shows that each still works.
pub fn idle(options: &IdleOptions) -> Result<IdleReport, Trouble> {
    let descriptors = host::raise_descriptor_limit()? as usize;
    if options.connections + DESCRIPTORS_SPARE > descriptors || options.connections == 0 {
        return Err(Trouble::Asked(format!(
            "--connections {}: 1 to {} with {descriptors} open files",
            options.connections,
            descriptors.saturating_sub(DESCRIPTORS_SPARE)
        )));
    }
    let before = host::memory_of_tree(options.pid)?;
    let kernel_before = host::kernel_memory()?;
    let mut fleet = fleet(options.to, options.connections, &options.shape)?;
    fleet.connect()?;
    once_each(&mut fleet, options.grace)?;
    let settled = settled(options.pid)?;
    let (idle, polls) = match options.polled {
        None => (settled, 0),
        Some((admin, duration)) => while_polled(options.pid, admin, duration)?,
    };
    let kernel_idle = host::kernel_memory()?;
    once_each(&mut fleet, options.grace)?;
    let after = host::memory_of_tree(options.pid)?;
    fleet.drain(options.grace)?;
    let report = idle_report(
        options.connections,
        [before, idle, after],
        [kernel_before, kernel_idle],
        fleet.verifier.tally.clone(),
    );
    Ok(IdleReport { polls, ..report })
}

fn idle_report(
    connections: usize,
    [before, idle, after]: [Memory; 3],
    [kernel_before, kernel_idle]: [KernelMemory; 2],
    tally: Tally,
) -> IdleReport {
    IdleReport {
        ok: tally.broken() == 0 && tally.answered == 2 * connections as u64,
        connections,
        anonymous_bytes_before: before.anonymous_bytes,
        anonymous_bytes_idle: idle.anonymous_bytes,
        anonymous_bytes_after: after.anonymous_bytes,
        pss_bytes_before: before.pss_bytes,
        pss_bytes_idle: idle.pss_bytes,
        kernel_slab_bytes_per_connection: per(kernel_before.slab_bytes, kernel_idle.slab_bytes, connections),
        kernel_tcp_bytes_idle: kernel_idle.tcp_bytes,
        polls: 0,
        tally,
    }
}

impl IdleReport {
    /// Anonymous bytes per connection against a baseline.
    pub fn bytes_per_connection(&self, baseline_bytes: u64) -> f64 {
        per(baseline_bytes, self.anonymous_bytes_idle, self.connections)
    }

    /// The same against this process before its first connection.
    pub fn bytes_per_connection_unwarmed(&self) -> f64 {
        self.bytes_per_connection(self.anonymous_bytes_before)
    }
}

fn per(before: u64, after: u64, connections: usize) -> f64 {
    (after as f64 - before as f64) / connections as f64
}

/// The whole recipe.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// What is measured.
    pub gateway: Gateway,
    /// Its mode.
    pub engine: String,
    /// Idle connections.
    pub connections: usize,
    /// Connections that warm the baseline.
    pub warm_connections: usize,
    /// What the baseline is configured for.
    pub warm_connections_max: usize,
    /// The requests.
    pub shape: ShapeOptions,
    /// How long answers are waited for.
    pub grace: Duration,
}

/// What the recipe found.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryReport {
    /// Always "memory".
    pub event: &'static str,
    /// True when nothing was lost, mixed up or refused in either process.
    pub ok: bool,
    /// The mode.
    pub engine: String,
    /// Anonymous bytes per idle connection: the figure.
    pub bytes_per_connection: f64,
    /// The same by PSS.
    pub pss_bytes_per_connection: f64,
    /// Without the warm-up: against the same process before its first connection.
    pub bytes_per_connection_unwarmed: f64,
    /// The baseline's anonymous memory when it was fresh.
    pub baseline_anonymous_bytes_fresh: u64,
    /// The baseline's anonymous memory after its connections were closed.
    pub baseline_anonymous_bytes: u64,
    /// The baseline's PSS after its connections were closed.
    pub baseline_pss_bytes: u64,
    /// The baseline's counts.
    pub baseline_tally: Tally,
    /// The measured process.
    pub idle: IdleReport,
}

/// The whole recipe with the gateway's program.
pub fn memory(bench: &Path, options: &MemoryOptions) -> Result<MemoryReport, Trouble> {
    let recipe = MemoryRecipe {
        name: options.engine.clone(),
        connections: options.connections,
        warm_connections: options.warm_connections,
        shape: options.shape.clone(),
        grace: options.grace,
        polled: None,
    };
    let limit = options.warm_connections_max.to_string();
    measure(bench, &recipe, &mut |upstream, size| {
        let flags = ["--max-connections", &limit];
        let flags = if size == ProcessSize::Few { &flags[..] } else { &[] };
        programs::gateway(bench, &options.gateway, &options.engine, options.shape.protocol, upstream, flags)
    })
}

/// What is measured, whatever program it is.
#[derive(Clone, Debug)]
pub struct MemoryRecipe {
    /// Its name in the report.
    pub name: String,
    /// Idle connections.
    pub connections: usize,
    /// Connections that warm the baseline.
    pub warm_connections: usize,
    /// The requests.
    pub shape: ShapeOptions,
    /// How long answers are waited for.
    pub grace: Duration,
    /// How long the list of connections is asked for each second while memory is read; what is measured then needs an admin
    /// interface.
    pub polled: Option<Duration>,
}

/// What a process is configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSize {
    /// The connections of the baseline.
    Few,
    /// All that its defaults allow.
    Default,
}

/// Starts what is measured, in front of a backend.
pub type Starter<'a> = dyn FnMut(SocketAddr, ProcessSize) -> Result<Running, Trouble> + 'a;

/// Runs both processes, one after the other.
pub fn measure(
    bench: &Path,
    options: &MemoryRecipe,
    start: &mut Starter<'_>,
) -> Result<MemoryReport, Trouble> {
    host::raise_descriptor_limit()?;
    let backend = programs::backend(bench, None, BACKEND_SECONDS_MAX)?;
    let baseline = baseline(options, start(backend.address, ProcessSize::Few)?)?;
    let running = start(backend.address, ProcessSize::Default)?;
    settled(running.pid())?;
    let polled = match (options.polled, running.admin) {
        (None, _) => None,
        (Some(duration), Some(admin)) => Some((admin, duration)),
        (Some(_), None) => {
            return Err(Trouble::Broken(format!("{} has no admin interface to ask", options.name)));
        }
    };
    let idle = idle(&IdleOptions {
        to: running.address,
        connections: options.connections,
        pid: running.pid(),
        shape: options.shape.clone(),
        grace: options.grace,
        polled,
    })?;
    running.stop()?;
    backend.stop()?;
    Ok(MemoryReport {
        event: "memory",
        ok: idle.ok && baseline.ok,
        engine: options.name.clone(),
        bytes_per_connection: idle.bytes_per_connection(baseline.memory.anonymous_bytes),
        pss_bytes_per_connection: per(baseline.memory.pss_bytes, idle.pss_bytes_idle, idle.connections),
        bytes_per_connection_unwarmed: idle.bytes_per_connection_unwarmed(),
        baseline_anonymous_bytes_fresh: baseline.fresh.anonymous_bytes,
        baseline_anonymous_bytes: baseline.memory.anonymous_bytes,
        baseline_pss_bytes: baseline.memory.pss_bytes,
        baseline_tally: baseline.tally,
        idle,
    })
}

struct Baseline {
    ok: bool,
    fresh: Memory,
    memory: Memory,
    tally: Tally,
}

/// A process configured for few connections that answers as many requests as the measured one has connections, over few of
/// them, and has closed them.
fn baseline(options: &MemoryRecipe, running: Running) -> Result<Baseline, Trouble> {
    let fresh = settled(running.pid())?;
    let descriptors_fresh = host::descriptors_of_tree(running.pid())?;
    let mut fleet = fleet(running.address, options.warm_connections, &options.shape)?;
    fleet.connect()?;
    let mut pace = Pace::Closed { in_flight: 1, left: Some(options.connections as u64) };
    let deadline_ns = fleet.now_ns() + (WARM_MAX + options.grace).as_nanos() as u64;
    fleet.keep(&mut pace, deadline_ns)?;
    not_interrupted(&fleet)?;
    fleet.drain(options.grace)?;
    let tally = fleet.verifier.tally.clone();
    let expected = match options.shape.protocol {
        Protocol::Bolt | Protocol::Websocket => descriptors_fresh,
        // Requests leave upstream connections in pools, as in the measured process: only those of clients must go.
        Protocol::Http => {
            let open = host::descriptors_of_tree(running.pid())?;
            open.saturating_sub(options.warm_connections + UPSTREAMS_SPARE)
        }
    };
    drop(fleet);
    wait_for_descriptors(running.pid(), expected)?;
    let memory = settled(running.pid())?;
    running.stop()?;
    let ok = tally.broken() == 0 && tally.answered == options.connections as u64;
    Ok(Baseline { ok, fresh, memory, tally })
}

fn fleet(to: SocketAddr, connections: usize, shape: &ShapeOptions) -> Result<Fleet, Trouble> {
    let options = FleetOptions { to, sources: Vec::new(), numbers: 0..connections };
    Fleet::new(options, Shape::new(shape)?)
}

fn once_each(fleet: &mut Fleet, grace: Duration) -> Result<(), Trouble> {
    let deadline_ns = fleet.now_ns() + (EACH_MAX + grace).as_nanos() as u64;
    fleet.once_each(deadline_ns)?;
    not_interrupted(fleet)
}

fn not_interrupted(fleet: &Fleet) -> Result<(), Trouble> {
    if fleet.interrupted() { Err(Trouble::Interrupted) } else { Ok(()) }
}

/// Waits until a process has closed its connections. Upstream connections opened meanwhile may stay, so a few more are fine.
pub(super) fn wait_for_descriptors(pid: u32, expected: usize) -> Result<(), Trouble> {
    for _ in 0..SETTLE_STEPS_MAX {
        if host::descriptors_of_tree(pid)? <= expected + UPSTREAMS_SPARE {
            return Ok(());
        }
        thread::sleep(SETTLE_STEP);
    }
    Err(Trouble::Broken(format!(
        "the gateway still has {} descriptors, not {expected}",
        host::descriptors_of_tree(pid)?
    )))
}

/// The most memory that a process had while its list of connections was asked for each second; and how often it was.
fn while_polled(pid: u32, admin: SocketAddr, duration: Duration) -> Result<(Memory, usize), Trouble> {
    let deadline = Instant::now() + duration;
    let (mut most, mut polls) = (Memory::default(), 0);
    loop {
        if admin::connections_shown(admin)? == 0 {
            return Err(Trouble::Broken("the list of connections is empty while there are some".into()));
        }
        polls += 1;
        let memory = host::memory_of_tree(pid)?;
        most.anonymous_bytes = most.anonymous_bytes.max(memory.anonymous_bytes);
        most.pss_bytes = most.pss_bytes.max(memory.pss_bytes);
        if Instant::now() + POLL_EVERY > deadline {
            return Ok((most, polls));
        }
        thread::sleep(POLL_EVERY);
    }
}

/// The memory of a process once it has stopped working: the same for longer than the second in which a gateway looks what it can
/// give back, with hardly any CPU in between.
pub(super) fn settled(pid: u32) -> Result<Memory, Trouble> {
    let sample = || Ok((host::memory_of_tree(pid)?, host::cpu_of_tree(pid)?.ns));
    let (mut memory, mut cpu_ns) = sample()?;
    let mut still_for = 0;
    for _ in 0..SETTLE_STEPS_MAX {
        thread::sleep(SETTLE_STEP);
        let (memory_now, cpu_now_ns) = sample()?;
        let still = memory_now == memory && cpu_now_ns - cpu_ns < SETTLED_CPU_NS_MAX;
        (memory, cpu_ns) = (memory_now, cpu_now_ns);
        still_for = if still { still_for + 1 } else { 0 };
        if still_for == STILL_STEPS {
            return Ok(memory);
        }
    }
    // It never rests; the last sample is what there is, and the report shows all of them.
    Ok(memory)
}

impl MemoryReport {
    /// For people.
    pub fn summary(&self) -> String {
        format!(
            "{}: {:.1} bytes per idle connection (PSS {:.1}; without warm-up {:.1}) over {} connections\n\
             anonymous: baseline {} fresh, {} warm; measured {} fresh, {} idle, {} after one more request each\n\
             kernel: slab {:.0} bytes per connection (both ends), TCP buffers {} bytes in all\n\
             baseline {}\nmeasured {}",
            self.engine,
            self.bytes_per_connection,
            self.pss_bytes_per_connection,
            self.bytes_per_connection_unwarmed,
            self.idle.connections,
            self.baseline_anonymous_bytes_fresh,
            self.baseline_anonymous_bytes,
            self.idle.anonymous_bytes_before,
            self.idle.anonymous_bytes_idle,
            self.idle.anonymous_bytes_after,
            self.idle.kernel_slab_bytes_per_connection,
            self.idle.kernel_tcp_bytes_idle,
            report::tally_line(&self.baseline_tally),
            report::tally_line(&self.idle.tally),
        )
    }
}

const DESCRIPTORS_SPARE: usize = 64;
const UPSTREAMS_SPARE: usize = 8;
const BACKEND_SECONDS_MAX: u64 = 600;
const WARM_MAX: Duration = Duration::from_secs(60);
const EACH_MAX: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_secs(1);
const SETTLE_STEP: Duration = Duration::from_millis(250);
const SETTLE_STEPS_MAX: usize = 40;
const STILL_STEPS: usize = 6;
const SETTLED_CPU_NS_MAX: u64 = 5_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_per_connection_is_the_difference_to_the_baseline() {
        let memory = |anonymous_bytes| Memory { anonymous_bytes, pss_bytes: 2 * anonymous_bytes };
        let tally = Tally { sent: 20, answered: 20, ..Tally::default() };
        let kernel = |slab_bytes| KernelMemory { slab_bytes, tcp_bytes: 3 };
        let memories = [memory(1_000), memory(4_000), memory(5_000)];
        let report = idle_report(10, memories, [kernel(100), kernel(39_100)], tally.clone());
        assert!((report.bytes_per_connection(1_500) - 250.0).abs() < 1e-9);
        assert!((report.bytes_per_connection_unwarmed() - 300.0).abs() < 1e-9);
        assert!(
            (report.bytes_per_connection(5_000) + 100.0).abs() < 1e-9,
            "it may be less than the baseline"
        );
        assert!((report.kernel_slab_bytes_per_connection - 3_900.0).abs() < 1e-9);
        assert!(report.ok);
        let missed = idle_report(11, memories, [kernel(0), kernel(0)], tally);
        assert!(!missed.ok, "every connection answers twice, or the figure does not count");
    }
}
