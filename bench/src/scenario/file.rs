//! Owns what a scenario is: a TOML file with windows, each checked once, here. The suite's own scenarios are part of the
//! program, so that it measures the same wherever it runs. Refuses unknown keys and absurd numbers, with the window's name.

use std::fs;
use std::time::Duration;

use serde::Deserialize;

use crate::scenario::count::Counting;
use crate::trouble::Trouble;
use crate::wire::Protocol;

/// Windows that belong together.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name: the file's, without the ending.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// What is measured where a window does not say otherwise.
    pub targets: Vec<String>,
    /// In the order of the file.
    pub windows: Vec<Window>,
}

/// One measurement, taken of several targets in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Its name within the scenario.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// What is done.
    pub what: What,
    /// What clients speak, and the target with them.
    pub protocol: Protocol,
    /// Processes of the target that share a port.
    pub processes: usize,
    /// Further flags of the gateway.
    pub gateway_flags: Vec<String>,
    /// The gateway's admin interface is needed.
    pub admin: bool,
    /// Peers that relay TCP take part.
    pub peers: bool,
    /// Other targets than the scenario's.
    pub targets: Option<Vec<String>>,
    /// Its rounds are taken in turn with those of the window before it, since a goal compares the two.
    pub beside: bool,
    /// At least so many rounds, unless somebody says how many.
    pub rounds_min: usize,
    /// At most so many: of what hardly differs from round to round.
    pub rounds_max: usize,
    /// At most so many of peers, where no goal compares with them.
    pub peer_rounds_max: usize,
}

/// What is done in a window.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Requests, and the CPU that they cost.
    Load(Load),
    /// Memory of idle connections.
    Memory {
        /// Idle ones.
        connections: usize,
        /// How long the list of connections is asked for each second while memory is read.
        polled: Option<Duration>,
    },
    /// Memory after many connections came and went.
    Churn {
        /// At a time.
        connections: usize,
        /// In all.
        total: usize,
        /// How long it may take to give memory back.
        rest: Duration,
    },
    /// Requests beside clients that do not read.
    SlowReaders {
        /// The requests.
        load: Load,
        /// Clients that do not read.
        stalled: usize,
        /// What waits for each.
        bytes: usize,
    },
}

/// Requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Connections.
    pub connections: usize,
    /// How they follow each other.
    pub order: Order,
    /// Content of a request.
    pub bytes: usize,
    /// HTTP: content of the answer alone.
    pub get: bool,
    /// They are heartbeats.
    pub heartbeats: bool,
    /// A heartbeat beside them, every so many seconds on each connection.
    pub heartbeat_every: Option<u32>,
    /// Of 100 connections and of 100 requests.
    pub skew: Option<(u32, u32)>,
    /// Counts something instead of CPU.
    pub counting: Option<Counting>,
    /// So many addresses to connect from.
    pub sources: usize,
    /// Processes of the load generator.
    pub processes: usize,
    /// Before the measurement.
    pub warmup: Duration,
    /// The measurement.
    pub duration: Duration,
}

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// Each connection keeps so many in flight.
    InFlight(usize),
    /// Requests per second, and before the measurement if that differs.
    Rate(f64, Option<f64>),
}

/// How a run is made shorter or longer than its files say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// Seconds of each measurement that is not a step and runs at full speed.
    pub duration: Option<Duration>,
    /// Before it.
    pub warmup: Option<Duration>,
    /// How long memory may take to be given back.
    pub rest: Option<Duration>,
    /// No more connections than that.
    pub connections_max: Option<usize>,
}

impl Scenario {
    /// One of the suite's own, or a file.
    pub fn find(name: &str) -> Result<Self, Trouble> {
        if let Some((_, text)) = OWN.into_iter().find(|(own, _)| *own == name) {
            return Self::parse(name, text);
        }
        let Some(stem) = name.strip_suffix(".toml") else {
            let names: Vec<_> = OWN.iter().map(|(name, _)| *name).collect();
            return Err(Trouble::Asked(format!(
                "there is no scenario {name}: one of {}, all, or a file that ends in .toml",
                names.join(", ")
            )));
        };
        let text = fs::read_to_string(name).map_err(|error| Trouble::Asked(format!("{name}: {error}")))?;
        let stem = stem.rsplit('/').next().unwrap_or(stem);
        Self::parse(stem, &text)
    }

    /// The names of the suite's own scenarios.
    pub fn names() -> impl Iterator<Item = &'static str> {
        OWN.into_iter().map(|(name, _)| name)
    }

    fn parse(name: &str, text: &str) -> Result<Self, Trouble> {
        let file: FileText =
            toml::from_str(text).map_err(|error| Trouble::Asked(format!("scenario {name}: {error}")))?;
        let windows = file.window.into_iter().map(|window| {
            let of = window.name.clone();
            window.check().map_err(|why| Trouble::Asked(format!("scenario {name}, window {of}: {why}")))
        });
        let windows = windows.collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = windows.first().filter(|first| first.beside) {
            let why = "beside: there is no window before it";
            return Err(Trouble::Asked(format!("scenario {name}, window {}: {why}", first.name)));
        }
        Ok(Self { name: name.into(), about: file.about, targets: file.targets, windows })
    }

    /// Applies what the command line says.
    pub fn change(&mut self, changes: &Changes) {
        for window in &mut self.windows {
            window.what.change(changes);
        }
    }
}

impl Window {
    /// How many rounds of a target are measured when so many are asked for, or nobody says how many.
    pub fn rounds(&self, asked: Option<usize>, is_peer: bool) -> usize {
        let rounds = asked.unwrap_or(ROUNDS.max(self.rounds_min)).min(self.rounds_max);
        if is_peer { rounds.min(self.peer_rounds_max) } else { rounds }
    }
}

impl What {
    /// How many connections it opens at a time.
    pub fn connections(&self) -> usize {
        match self {
            Self::Load(load) => load.connections,
            Self::Memory { connections, .. } | Self::Churn { connections, .. } => *connections,
            Self::SlowReaders { load, stalled, .. } => load.connections + stalled,
        }
    }

    /// Whether the target must run below valgrind.
    pub fn counts_instructions(&self) -> bool {
        matches!(self, Self::Load(load) if load.counting == Some(Counting::Instructions))
    }

    fn change(&mut self, changes: &Changes) {
        let connections_max = changes.connections_max.unwrap_or(usize::MAX);
        match self {
            Self::Load(load) => load.change(changes),
            Self::Memory { connections, polled } => {
                *connections = (*connections).min(connections_max);
                *polled = polled.map(|duration| changes.duration.unwrap_or(duration));
            }
            Self::Churn { connections, total, rest } => {
                *rest = changes.rest.unwrap_or(*rest);
                let cycles = total.div_ceil(*connections);
                *connections = (*connections).min(connections_max);
                *total = (*total).min(cycles * *connections);
            }
            Self::SlowReaders { load, stalled, .. } => {
                load.change(changes);
                *stalled = (*stalled).min(connections_max);
            }
        }
    }
}

impl Load {
    fn change(&mut self, changes: &Changes) {
        let is_step = matches!(self.order, Order::Rate(_, Some(_)));
        // Valgrind translates all anew when the count begins, which takes a second in which hardly anything is answered.
        let is_slow = self.counting == Some(Counting::Instructions);
        if let (Some(duration), false) = (changes.duration, is_step || is_slow) {
            self.duration = duration;
        }
        self.warmup = changes.warmup.unwrap_or(self.warmup);
        let connections = self.connections.min(changes.connections_max.unwrap_or(usize::MAX));
        if let (Order::Rate(rate, _), true) = (&mut self.order, self.heartbeats) {
            // How often one connection may send them is limited.
            *rate *= connections as f64 / self.connections as f64;
        }
        self.connections = connections;
        self.processes = self.processes.min(self.connections);
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    about: String,
    targets: Vec<String>,
    window: Vec<WindowText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowText {
    name: String,
    about: String,
    #[serde(default)]
    what: WhatText,
    #[serde(default)]
    protocol: Protocol,
    connections: usize,
    in_flight: Option<usize>,
    rate: Option<f64>,
    warmup_rate: Option<f64>,
    #[serde(default = "default_bytes")]
    bytes: usize,
    #[serde(default)]
    get: bool,
    #[serde(default)]
    heartbeats: bool,
    heartbeat_every: Option<u32>,
    skew_connections: Option<u32>,
    skew_requests: Option<u32>,
    #[serde(default)]
    syscalls: bool,
    #[serde(default)]
    instructions: bool,
    #[serde(default)]
    sources: usize,
    #[serde(default = "one")]
    load_processes: usize,
    #[serde(default = "default_warmup_seconds")]
    warmup_seconds: f64,
    #[serde(default = "default_seconds")]
    seconds: f64,
    polled_seconds: Option<f64>,
    total: Option<usize>,
    #[serde(default = "default_rest_seconds")]
    rest_seconds: f64,
    stalled: Option<usize>,
    stalled_bytes: Option<usize>,
    #[serde(default = "one")]
    processes: usize,
    #[serde(default)]
    gateway_flags: Vec<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    peers: bool,
    targets: Option<Vec<String>>,
    #[serde(default)]
    beside: bool,
    #[serde(default = "one")]
    rounds: usize,
    #[serde(default = "default_rounds_max")]
    rounds_max: usize,
    #[serde(default = "default_rounds_max")]
    peer_rounds_max: usize,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WhatText {
    #[default]
    Load,
    Memory,
    Churn,
    SlowReaders,
}

const fn default_bytes() -> usize {
    1_024
}

const fn one() -> usize {
    1
}

const fn default_rounds_max() -> usize {
    ROUNDS_MAX
}

/// With the scenarios' own, what makes all of them fit into 50 minutes.
const fn default_warmup_seconds() -> f64 {
    1.0
}

const fn default_seconds() -> f64 {
    3.0
}

/// As long as M5 gives it.
const fn default_rest_seconds() -> f64 {
    60.0
}

impl WindowText {
    fn check(self) -> Result<Window, String> {
        within("connections", self.connections, 1_000_000)?;
        within("processes", self.processes, 64)?;
        within("rounds", self.rounds, ROUNDS_MAX)?;
        within("rounds_max", self.rounds_max, ROUNDS_MAX)?;
        within("peer_rounds_max", self.peer_rounds_max, ROUNDS_MAX)?;
        self.check_protocol()?;
        let what = match self.what {
            WhatText::Load => What::Load(self.load()?),
            WhatText::Memory => {
                let polled =
                    self.polled_seconds.map(|length| seconds("polled_seconds", length)).transpose()?;
                if polled.is_some() && !self.admin {
                    return Err("polled_seconds needs admin = true".into());
                }
                What::Memory { connections: self.connections, polled }
            }
            WhatText::Churn => {
                let total = self.total.ok_or("total is missing")?;
                let total = within("total", total, 10_000_000)?;
                What::Churn {
                    connections: self.connections,
                    total,
                    rest: seconds("rest_seconds", self.rest_seconds)?,
                }
            }
            WhatText::SlowReaders => What::SlowReaders {
                load: self.load()?,
                stalled: within("stalled", self.stalled.ok_or("stalled is missing")?, 10_000)?,
                bytes: within(
                    "stalled_bytes",
                    self.stalled_bytes.ok_or("stalled_bytes is missing")?,
                    8 << 20,
                )?,
            },
        };
        Ok(Window {
            name: self.name,
            about: self.about,
            what,
            protocol: self.protocol,
            processes: self.processes,
            gateway_flags: self.gateway_flags,
            admin: self.admin,
            peers: self.peers,
            targets: self.targets,
            beside: self.beside,
            rounds_min: self.rounds,
            rounds_max: self.rounds_max,
            peer_rounds_max: self.peer_rounds_max,
        })
    }

    fn check_protocol(&self) -> Result<(), String> {
        let heartbeats = self.heartbeats || self.heartbeat_every.is_some();
        let stalls = matches!(self.what, WhatText::SlowReaders | WhatText::Churn);
        if self.protocol != Protocol::Bolt && (heartbeats || stalls) {
            return Err("heartbeats, churn and slow_readers are Bolt's".into());
        }
        if self.get && self.protocol != Protocol::Http {
            return Err("get needs protocol = \"http\"".into());
        }
        Ok(())
    }

    fn load(&self) -> Result<Load, String> {
        let order = match (self.in_flight, self.rate) {
            (Some(in_flight), None) => Order::InFlight(within("in_flight", in_flight, 65_536)?),
            (None, Some(rate)) if rate > 0.0 && rate <= RATE_MAX => Order::Rate(rate, self.warmup_rate),
            _ => return Err(format!("either in_flight or a rate above 0, at most {RATE_MAX}")),
        };
        let skew = match (self.skew_connections, self.skew_requests) {
            (None, None) => None,
            (Some(connections @ 1..=99), Some(requests @ 1..=100)) => Some((connections, requests)),
            _ => return Err("skew_connections (1 to 99) and skew_requests (1 to 100) go together".into()),
        };
        let counting = match (self.syscalls, self.instructions) {
            (false, false) => None,
            (true, false) => Some(Counting::Syscalls),
            (false, true) => Some(Counting::Instructions),
            (true, true) => return Err("either syscalls or instructions".into()),
        };
        Ok(Load {
            connections: self.connections,
            order,
            bytes: self.bytes,
            get: self.get,
            heartbeats: self.heartbeats,
            heartbeat_every: self.heartbeat_every,
            skew,
            counting,
            sources: self.sources.min(SOURCES_MAX),
            processes: within("load_processes", self.load_processes, 64)?,
            warmup: seconds("warmup_seconds", self.warmup_seconds)?,
            duration: seconds("seconds", self.seconds)?,
        })
    }
}

fn within(name: &str, count: usize, max: usize) -> Result<usize, String> {
    if (1..=max).contains(&count) { Ok(count) } else { Err(format!("{name}: 1 to {max}")) }
}

fn seconds(name: &str, seconds: f64) -> Result<Duration, String> {
    if (0.0..=SECONDS_MAX).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(format!("{name}: 0 to {SECONDS_MAX}"))
}

/// Rounds of a window that does not ask for more.
const ROUNDS: usize = 3;
/// Most rounds of a window.
pub const ROUNDS_MAX: usize = 100;
const SECONDS_MAX: f64 = 3_600.0;
const RATE_MAX: f64 = 10_000_000.0;
const SOURCES_MAX: usize = 200;

/// The suite's own, in the order in which `all` runs them: what no goal needs comes last, where time may run out.
const OWN: [(&str, &str); 14] = [
    ("small_rpc", include_str!("../../scenarios/small_rpc.toml")),
    ("h1", include_str!("../../scenarios/h1.toml")),
    ("long_connections", include_str!("../../scenarios/long_connections.toml")),
    ("idle", include_str!("../../scenarios/idle.toml")),
    ("tcp", include_str!("../../scenarios/tcp.toml")),
    ("websocket", include_str!("../../scenarios/websocket.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    ("instructions", include_str!("../../scenarios/instructions.toml")),
    ("syscalls", include_str!("../../scenarios/syscalls.toml")),
    ("heartbeats", include_str!("../../scenarios/heartbeats.toml")),
    ("skew", include_str!("../../scenarios/skew.toml")),
    ("partial_load", include_str!("../../scenarios/partial_load.toml")),
    ("scale", include_str!("../../scenarios/scale.toml")),
    ("slow_readers", include_str!("../../scenarios/slow_readers.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_own_scenarios_are_valid_and_have_names_of_their_own() {
        let mut names = Vec::new();
        for name in Scenario::names() {
            let scenario = Scenario::find(name).expect(name);
            assert!(!scenario.targets.is_empty() && !scenario.windows.is_empty(), "{name}");
            names.extend(scenario.windows.iter().map(|window| (name, window.name.clone())));
        }
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn c3_is_what_targets_say() {
        let scenario = Scenario::find("small_rpc").expect("it is there");
        let c3 = scenario.windows.iter().find(|window| window.name == "c3").expect("it is there");
        let What::Load(load) = &c3.what else { panic!("{c3:?}") };
        assert_eq!((load.connections, load.order, load.bytes), (9_000, Order::Rate(1_000.0, None), 1_024));
    }

    fn refused(window: &str) -> String {
        let text =
            format!("about = \"\"\ntargets = [\"raw\"]\n[[window]]\nname = \"w\"\nabout = \"\"\n{window}");
        Scenario::parse("s", &text).expect_err("it makes no sense").to_string()
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_name_of_its_window() {
        for (window, says) in [
            ("connections = 0\nrate = 1", "connections: 1 to"),
            ("connections = 1", "either in_flight or a rate"),
            ("connections = 1\nrate = 1\nin_flight = 1", "either in_flight or a rate"),
            ("connections = 1\nrate = -1", "a rate above 0"),
            ("connections = 1\nrate = 1\nskew_requests = 90", "go together"),
            ("connections = 1\nrate = 1\nseconds = 1e9", "seconds: 0 to"),
            (
                "connections = 1\nrate = 1\nsyscalls = true\ninstructions = true",
                "either syscalls or instructions",
            ),
            ("connections = 1\nwhat = \"memory\"\npolled_seconds = 1", "needs admin"),
            ("connections = 1\nrate = 1\nget = true", "protocol = \"http\""),
            ("connections = 1\nrate = 1\nheartbeats = true\nprotocol = \"http\"", "Bolt's"),
            ("connections = 1\nwhat = \"churn\"\nprotocol = \"websocket\"", "Bolt's"),
            ("connections = 1\nwhat = \"churn\"", "total is missing"),
            ("connections = 1\nwhat = \"slow_readers\"\nrate = 1", "stalled is missing"),
            ("connections = 1\nrate = 1\nbeside = true", "no window before it"),
        ] {
            let why = refused(window);
            assert!(why.contains("window w") && why.contains(says), "{window}: {why}");
        }
        assert!(refused("connections = 1\nrates = 1").contains("rates"));
        assert!(Scenario::find("c9").expect_err("there is none").to_string().contains("small_rpc"));
    }

    #[test]
    fn a_short_run_keeps_what_a_scenario_is_about() {
        let mut scenario = Scenario::find("churn").expect("it is there");
        let short = Duration::from_millis(100);
        let changes = Changes {
            duration: Some(short),
            warmup: Some(short),
            rest: Some(short),
            connections_max: Some(100),
        };
        scenario.change(&changes);
        assert_eq!(scenario.windows[0].what, What::Churn { connections: 100, total: 1_400, rest: short });
        let mut scenario = Scenario::find("partial_load").expect("it is there");
        scenario.change(&Changes { duration: Some(Duration::from_secs(1)), ..changes });
        let durations = scenario.windows.iter().map(|window| match &window.what {
            What::Load(load) => load.duration.as_millis(),
            other => panic!("{other:?}"),
        });
        assert_eq!(durations.collect::<Vec<_>>(), [1_000, 1_000, 1_000, 1_000, 100], "a step stays a step");
        let mut scenario = Scenario::find("instructions").expect("it is there");
        let as_it_was = scenario.windows.clone();
        scenario.change(&Changes { duration: Some(short), ..Changes::default() });
        assert_eq!(scenario.windows, as_it_was, "valgrind needs its time");
        let mut scenario = Scenario::find("heartbeats").expect("it is there");
        scenario.change(&Changes { connections_max: Some(200), ..Changes::default() });
        let What::Load(load) = &scenario.windows[0].what else { panic!("{scenario:?}") };
        assert_eq!(load.order, Order::Rate(1_000.0, None), "as many of each connection as before");
    }
}
