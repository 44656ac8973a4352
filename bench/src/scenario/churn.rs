//! Owns the recipe of connections that come and go: memory after many thousands of them, how soon it is given back, and the
//! CPU that one costs from its first byte to its end. Each of them carries one request, whose answer is verified.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde::Serialize;

use crate::fleet::Fleet;
use crate::fleet::FleetOptions;
use crate::host;
use crate::host::Memory;
use crate::report;
use crate::scenario::memory;
use crate::scenario::programs::Running;
use crate::trouble::Trouble;
use crate::verify::Tally;
use crate::wire::Shape;
use crate::wire::ShapeOptions;

/// What comes and goes.
#[derive(Clone, Debug)]
pub struct ChurnOptions {
    /// At a time.
    pub connections: usize,
    /// In all.
    pub total: usize,
    /// The requests.
    pub shape: ShapeOptions,
    /// How long answers are waited for.
    pub grace: Duration,
    /// How long memory may take to be given back.
    pub rest: Duration,
}

/// What became of memory.
#[derive(Clone, Debug, Serialize)]
pub struct ChurnReport {
    /// Nothing was lost.
    pub ok: bool,
    /// Came and went.
    pub connections: usize,
    /// Anonymous memory of the fresh process.
    pub fresh_bytes: u64,
    /// With the first connections open.
    pub peak_bytes: u64,
    /// At 0 connections after the first ones, as soon as the gateway does nothing more.
    pub first_bytes: u64,
    /// At 0 connections after all, as soon as the gateway does nothing more.
    pub last_bytes: u64,
    /// At 0 connections after all, once it had time to give back.
    pub rested_bytes: u64,
    /// How long that took.
    pub rested_seconds: f64,
    /// CPU of the process per connection: accepted, one request, closed.
    pub us_per_connection: f64,
    /// The counts.
    pub tally: Tally,
}

/// Opens, asks and closes again and again. What is measured is one process.
pub fn churn(options: &ChurnOptions, running: &Running) -> Result<ChurnReport, Trouble> {
    let pid = running.pid();
    let fresh = memory::settled(pid)?;
    let descriptors = host::descriptors_of_tree(pid)?;
    let cpu_before = host::cpu_of_tree(pid)?.ns;
    let (mut tally, mut done, mut peak, mut first) = (Tally::default(), 0, 0, None);
    while done < options.total {
        let count = options.connections.min(options.total - done);
        let open = cycle(options, running.address, done..done + count, pid, &mut tally)?;
        peak = peak.max(open.anonymous_bytes);
        memory::wait_for_descriptors(pid, descriptors)?;
        done += count;
        if first.is_none() {
            first = Some(memory::settled(pid)?.anonymous_bytes);
        }
    }
    let cpu_ns = host::cpu_of_tree(pid)?.ns - cpu_before;
    // As the fresh process and the one after the first: at once, it would depend on where it is in its second.
    let last = memory::settled(pid)?.anonymous_bytes;
    // M5: at most the fresh process plus a quarter of what it grew by.
    let goal = fresh.anonymous_bytes + peak.saturating_sub(fresh.anonymous_bytes) / 4;
    let (rested, rested_seconds) = rest(pid, goal, options.rest)?;
    Ok(ChurnReport {
        ok: tally.broken() == 0 && tally.answered == done as u64,
        connections: done,
        fresh_bytes: fresh.anonymous_bytes,
        peak_bytes: peak,
        first_bytes: first.unwrap_or(last),
        last_bytes: last,
        rested_bytes: rested,
        rested_seconds,
        us_per_connection: cpu_ns as f64 / 1e3 / done.max(1) as f64,
        tally,
    })
}

/// One generation of connections; gives the memory while all are open.
fn cycle(
    options: &ChurnOptions,
    to: SocketAddr,
    numbers: std::ops::Range<usize>,
    pid: u32,
    tally: &mut Tally,
) -> Result<Memory, Trouble> {
    // Closed connections keep their port for a while, so each generation comes from another address.
    let generation = numbers.start / options.connections;
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 1, (generation % SOURCES) as u8 + 1));
    let fleet = FleetOptions { to, sources: vec![source], numbers };
    let mut fleet = Fleet::new(fleet, Shape::new(&options.shape)?)?;
    fleet.connect()?;
    let deadline_ns = fleet.now_ns() + (EACH_MAX + options.grace).as_nanos() as u64;
    fleet.once_each(deadline_ns)?;
    let memory = host::memory_of_tree(pid)?;
    fleet.drain(options.grace)?;
    tally.add(&fleet.verifier.tally);
    if fleet.interrupted() {
        return Err(Trouble::Interrupted);
    }
    Ok(memory)
}

/// Waits until memory is at `goal` or below, or for so long; says how much it is and how long that took.
fn rest(pid: u32, goal: u64, rest_max: Duration) -> Result<(u64, f64), Trouble> {
    let start = Instant::now();
    loop {
        let bytes = host::memory_of_tree(pid)?.anonymous_bytes;
        let waited = start.elapsed();
        if bytes <= goal || waited >= rest_max {
            return Ok((bytes, waited.as_secs_f64()));
        }
        thread::sleep(REST_STEP);
    }
}

impl ChurnReport {
    /// For people.
    pub fn summary(&self) -> String {
        format!(
            "{} connections came and went: fresh {}, peak {}, at 0 after the first {}, after all {}, rested {} after {:.0} s; \
             {:.1} us each; {}",
            self.connections,
            self.fresh_bytes,
            self.peak_bytes,
            self.first_bytes,
            self.last_bytes,
            self.rested_bytes,
            self.rested_seconds,
            self.us_per_connection,
            report::tally_line(&self.tally)
        )
    }
}

const REST_STEP: Duration = Duration::from_millis(500);
const EACH_MAX: Duration = Duration::from_secs(60);
const SOURCES: usize = 16;
