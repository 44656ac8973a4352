//! Owns a load run in one process: open, touch every connection once, warm up, measure between two marks, drain. The marks
//! are given to the caller, who samples CPU there. What a process found is an [`Outcome`], which can travel and be merged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::admin;
use crate::fleet::Fleet;
use crate::fleet::FleetOptions;
use crate::host;
use crate::pace::Pace;
use crate::pace::Picks;
use crate::pace::Schedule;
use crate::pace::Share;
use crate::stats::Latency;
use crate::trouble::Trouble;
use crate::verify::Tally;
use crate::wire::Shape;
use crate::wire::ShapeOptions;

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loop {
    /// Each connection keeps so many in flight.
    Closed {
        /// Per connection.
        in_flight: usize,
    },
    /// A constant rate over all connections, of all processes together.
    Open {
        /// Per second.
        rate: f64,
        /// Per second before the measurement, when it should begin with a step.
        warmup_rate: Option<f64>,
    },
}

/// Some connections that take more than their part of an open loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Skew {
    /// Of 100 connections.
    pub connections_of_100: u32,
    /// Of 100 requests.
    pub requests_of_100: u32,
    /// Where to ask which connections are on reactor 0, so that all of them are; every so-manyth otherwise.
    pub admin: Option<SocketAddr>,
}

/// What one process does.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The connections of this process.
    pub fleet: FleetOptions,
    /// The requests.
    pub shape: ShapeOptions,
    /// Their order.
    pub requests: Loop,
    /// Who takes more than its part.
    pub skew: Option<Skew>,
    /// How often each connection sends a heartbeat beside its requests.
    pub heartbeat_every: Option<Duration>,
    /// The part of an open loop that this process carries.
    pub share: Share,
    /// Before the measurement.
    pub warmup: Duration,
    /// The measurement.
    pub duration: Duration,
    /// How long answers are waited for at the end.
    pub grace: Duration,
}

/// What happens around a measurement.
pub trait Marks {
    /// All connections are open and were answered once; traffic begins when this returns.
    fn on_connected(&mut self) -> Result<(), Trouble>;
    /// The measurement begins.
    fn on_begin(&mut self) -> Result<(), Trouble>;
    /// The measurement ends; nothing more is sent.
    fn on_end(&mut self) -> Result<(), Trouble>;
}

/// What one process, or all together, found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Of the whole run.
    pub tally: Tally,
    /// Answers inside the measurement.
    pub answered_in_window: u64,
    /// How long the measurement was.
    pub window_ns: u64,
    /// CPU time of the load generator inside the measurement.
    pub own_cpu_ns: u64,
    /// Latencies, as [`Latency::to_pairs`] gives them.
    pub latency: Vec<(u64, u64)>,
    /// Ended early by a signal.
    pub interrupted: bool,
    /// Where the connections that took more than their part were at home, if anyone could be asked.
    #[serde(default)]
    pub skew: Option<SkewHomes>,
}

/// Where the connections that take more than their part are at home: how many of them by reactor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SkewHomes {
    /// Before they took more than others.
    pub before: BTreeMap<u64, usize>,
    /// At the end of the measurement.
    pub after: BTreeMap<u64, usize>,
}

impl Outcome {
    /// Adds what another process found at the same time.
    pub fn add(&mut self, other: &Self) {
        let mut latency = Latency::default();
        latency.add_pairs(&self.latency);
        latency.add_pairs(&other.latency);
        self.latency = latency.to_pairs();
        self.tally.add(&other.tally);
        self.answered_in_window += other.answered_in_window;
        self.window_ns = self.window_ns.max(other.window_ns);
        self.own_cpu_ns += other.own_cpu_ns;
        self.interrupted |= other.interrupted;
    }
}

/// Runs the load.
pub fn run(options: &LoadOptions, marks: &mut dyn Marks) -> Result<Outcome, Trouble> {
    let mut fleet = Fleet::new(options.fleet.clone(), Shape::new(&options.shape)?)?;
    fleet.connect()?;
    touch(&mut fleet, options.grace)?;
    marks.on_connected()?;
    let (picks, hot) = picks(&fleet, options)?;
    let before = homes(options, &hot)?;
    if let Some(every) = options.heartbeat_every {
        fleet.send_heartbeats(every);
    }
    let mut pace = warming(options, fleet.now_ns(), picks.clone());
    let warm_ns = fleet.now_ns() + nanoseconds(options.warmup);
    fleet.keep(&mut pace, warm_ns)?;
    marks.on_begin()?;
    if let Loop::Open { rate, warmup_rate: Some(_) } = options.requests {
        pace = Pace::Open { schedule: Schedule::new(fleet.now_ns(), rate, options.share), picks };
    }
    let own_before = host::cpu_of_members(&[std::process::id()])?;
    let begin_ns = fleet.now_ns();
    let end_ns = begin_ns + nanoseconds(options.duration);
    fleet.verifier.open_window(begin_ns..end_ns);
    let answered_before = fleet.verifier.tally.answered;
    fleet.keep(&mut pace, end_ns)?;
    let answered_in_window = fleet.verifier.tally.answered - answered_before;
    let window_ns = fleet.now_ns() - begin_ns;
    let own_after = host::cpu_of_members(&[std::process::id()])?;
    marks.on_end()?;
    let skew = before.zip(homes(options, &hot)?).map(|(before, after)| SkewHomes { before, after });
    fleet.drain(options.grace)?;
    Ok(Outcome {
        tally: fleet.verifier.tally.clone(),
        answered_in_window,
        window_ns,
        own_cpu_ns: own_after.ns.saturating_sub(own_before.ns),
        latency: fleet.verifier.latency.to_pairs(),
        interrupted: fleet.interrupted(),
        skew,
    })
}

/// The pace before the measurement, and in it unless it begins with a step.
fn warming(options: &LoadOptions, now_ns: u64, picks: Picks) -> Pace {
    match options.requests {
        Loop::Closed { in_flight } => Pace::Closed { in_flight, left: None },
        Loop::Open { rate, warmup_rate } => {
            Pace::Open { schedule: Schedule::new(now_ns, warmup_rate.unwrap_or(rate), options.share), picks }
        }
    }
}

/// Which connections requests go out on, and the addresses of those that take more than their part.
fn picks(fleet: &Fleet, options: &LoadOptions) -> Result<(Picks, Vec<SocketAddr>), Trouble> {
    let connections = options.fleet.numbers.len();
    let Some(skew) = options.skew else { return Ok((Picks::even(connections), Vec::new())) };
    let wanted = (connections * skew.connections_of_100 as usize / 100).max(1);
    let Some(admin) = skew.admin else {
        // A server that deals connections out in turn has all of these on one core, if this is a multiple of its cores.
        let step = (connections / wanted).max(1);
        let hot = (0..connections).step_by(step).take(wanted).collect();
        return Ok((Picks::skewed(hot, connections, skew.requests_of_100), Vec::new()));
    };
    let reactors = admin::reactors_of_peers(admin)?;
    let on_first = |address: &Option<SocketAddr>| address.and_then(|one| reactors.get(&one)) == Some(&0);
    let addresses = fleet.local_addresses();
    let hot: Vec<_> = (0..connections).filter(|index| on_first(&addresses[*index])).take(wanted).collect();
    if hot.len() < wanted {
        return Err(Trouble::Broken(format!(
            "only {} of {connections} connections are on reactor 0, {wanted} are needed there",
            hot.len()
        )));
    }
    let hot_addresses = hot.iter().filter_map(|index| addresses[*index]).collect();
    Ok((Picks::skewed(hot, connections, skew.requests_of_100), hot_addresses))
}

/// How many of these connections are at home on which reactor.
fn homes(options: &LoadOptions, hot: &[SocketAddr]) -> Result<Option<BTreeMap<u64, usize>>, Trouble> {
    let Some(admin) = options.skew.and_then(|skew| skew.admin) else { return Ok(None) };
    let reactors = admin::reactors_of_peers(admin)?;
    let mut homes = BTreeMap::new();
    for reactor in hot.iter().filter_map(|address| reactors.get(address)) {
        *homes.entry(*reactor).or_insert(0) += 1;
    }
    Ok(Some(homes))
}

/// One request on every connection, so that none is measured cold. What is not answered is counted, not waited for again.
fn touch(fleet: &mut Fleet, grace: Duration) -> Result<(), Trouble> {
    let deadline_ns = fleet.now_ns() + nanoseconds(TOUCH_MAX + grace);
    fleet.once_each(deadline_ns)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// How long all connections may take for one request each.
const TOUCH_MAX: Duration = Duration::from_secs(30);
