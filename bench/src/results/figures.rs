//! Owns the figures that are drawn from raw results: for each window and target the median and spread of every metric over
//! its rounds. The last attempt of a round counts; what lost an answer does not.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::scenario::record::MeasuredRecord;
use crate::scenario::record::Record;
use crate::scenario::record::RunRecord;
use crate::scenario::record::SkippedRecord;
use crate::scenario::record::WindowRecord;
use crate::stats::Spread;

/// Everything that some raw results say.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The runs that they come from.
    pub runs: Vec<RunRecord>,
    /// In the order in which they were first measured.
    pub windows: Vec<WindowFigures>,
    /// What was left out.
    pub skipped: Vec<SkippedRecord>,
}

/// The figures of one window.
#[derive(Clone, Debug)]
pub struct WindowFigures {
    /// What it is about.
    pub window: WindowRecord,
    /// In the order in which targets were first measured.
    pub rows: Vec<Row>,
}

/// The figures of one target in one window.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub target: String,
    /// Rounds that count.
    pub rounds: usize,
    /// Of those, the ones that others disturbed.
    pub disturbed: usize,
    /// Rounds that lost an answer or failed, with the reason if one was given.
    pub broken: Vec<String>,
    /// By metric.
    pub metrics: BTreeMap<Metric, Spread>,
    /// Median latency in milliseconds by percentile.
    pub curve: Vec<(f64, f64)>,
    /// Median growth of the target's counters.
    pub counters: BTreeMap<String, f64>,
    /// What was started in its last round.
    pub commands: Vec<String>,
    /// What its last good round says beside figures, each a sentence.
    pub remarks: Vec<String>,
}

/// A figure of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Metric {
    SyscallsPerRequest,
    InstructionsPerRequest,
    FirstLevelMisses,
    LastLevelMisses,
    AllocationsPerRequest,
    CpuPerRequest,
    UserPerRequest,
    SystemPerRequest,
    CorePercent,
    TotalPerRequest,
    RequestsPerSecond,
    P50,
    P99,
    P999,
    Max,
    WaitsPerRequest,
    Threads,
    ThreadsChanged,
    Moves,
    StolenTurns,
    Descriptors,
    Pss,
    Anonymous,
    StalledAnswered,
    StalledClosed,
    StalledRefused,
    BytesPerConnection,
    PssPerConnection,
    Unwarmed,
    KernelPerConnection,
    Fresh,
    Peak,
    AfterFirst,
    AfterAll,
    Rested,
    AfterAllToFirst,
    RestedOfGrowth,
    CpuPerConnection,
}

impl Metric {
    /// All of them, in the order of a table.
    pub const ALL: [Self; 38] = [
        Self::SyscallsPerRequest,
        Self::InstructionsPerRequest,
        Self::FirstLevelMisses,
        Self::LastLevelMisses,
        Self::AllocationsPerRequest,
        Self::CpuPerRequest,
        Self::UserPerRequest,
        Self::SystemPerRequest,
        Self::CorePercent,
        Self::TotalPerRequest,
        Self::RequestsPerSecond,
        Self::P50,
        Self::P99,
        Self::P999,
        Self::Max,
        Self::WaitsPerRequest,
        Self::Threads,
        Self::ThreadsChanged,
        Self::Moves,
        Self::StolenTurns,
        Self::Descriptors,
        Self::Pss,
        Self::Anonymous,
        Self::StalledAnswered,
        Self::StalledClosed,
        Self::StalledRefused,
        Self::BytesPerConnection,
        Self::PssPerConnection,
        Self::Unwarmed,
        Self::KernelPerConnection,
        Self::Fresh,
        Self::Peak,
        Self::AfterFirst,
        Self::AfterAll,
        Self::Rested,
        Self::AfterAllToFirst,
        Self::RestedOfGrowth,
        Self::CpuPerConnection,
    ];

    /// The head of its column.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SyscallsPerRequest => "system calls/request",
            Self::InstructionsPerRequest => "instructions/request",
            Self::FirstLevelMisses => "first-level misses/request",
            Self::LastLevelMisses => "last-level misses/request",
            Self::AllocationsPerRequest => "allocations/request",
            Self::CpuPerRequest => "CPU us/request",
            Self::UserPerRequest => "user us",
            Self::SystemPerRequest => "system us",
            Self::CorePercent => "% of a core",
            Self::TotalPerRequest => "all CPU us/request",
            Self::RequestsPerSecond => "requests/s",
            Self::P50 => "p50 ms",
            Self::P99 => "p99 ms",
            Self::P999 => "p99.9 ms",
            Self::Max => "max ms",
            Self::WaitsPerRequest => "waits/request",
            Self::Threads => "threads",
            Self::ThreadsChanged => "threads that came or went",
            Self::Moves => "moves",
            Self::StolenTurns => "share of turns that were stolen",
            Self::Descriptors => "descriptors",
            Self::Pss => "PSS MiB",
            Self::Anonymous => "anonymous MiB",
            Self::StalledAnswered => "stalled: answered",
            Self::StalledClosed => "stalled: closed",
            Self::StalledRefused => "stalled: refused",
            Self::BytesPerConnection => "bytes/connection",
            Self::PssPerConnection => "PSS bytes/connection",
            Self::Unwarmed => "without warm-up",
            Self::KernelPerConnection => "kernel slab bytes, both ends",
            Self::Fresh => "fresh MiB",
            Self::Peak => "peak MiB",
            Self::AfterFirst => "at 0 after the first MiB",
            Self::AfterAll => "at 0 after all MiB",
            Self::Rested => "rested MiB",
            Self::AfterAllToFirst => "after all / after the first",
            Self::RestedOfGrowth => "rested share of the growth",
            Self::CpuPerConnection => "CPU us/connection",
        }
    }

    /// Digits after the point.
    pub const fn digits(self) -> usize {
        match self {
            Self::RequestsPerSecond
            | Self::InstructionsPerRequest
            | Self::Threads
            | Self::ThreadsChanged
            | Self::Moves
            | Self::Descriptors
            | Self::StalledAnswered
            | Self::StalledClosed
            | Self::StalledRefused
            | Self::KernelPerConnection => 0,
            Self::CorePercent
            | Self::BytesPerConnection
            | Self::PssPerConnection
            | Self::Unwarmed
            | Self::CpuPerConnection
            | Self::Pss
            | Self::Anonymous => 1,
            Self::AllocationsPerRequest => 4,
            Self::P50 | Self::P99 | Self::P999 | Self::Max => 3,
            _ => 2,
        }
    }

    /// Whether it was counted by a program that slows everything down.
    const fn is_counted(self) -> bool {
        matches!(
            self,
            Self::SyscallsPerRequest
                | Self::InstructionsPerRequest
                | Self::FirstLevelMisses
                | Self::LastLevelMisses
                | Self::AllocationsPerRequest
                | Self::StolenTurns
        )
    }

    /// Its value in one measurement, if it has one.
    fn of(self, record: &MeasuredRecord) -> Option<f64> {
        let result = &record.result;
        let number = |path: &str| result.pointer(path).and_then(Value::as_f64);
        let own = |field: &str| {
            let own = result["processes_cpu"].as_array()?.iter().take(record.processes);
            own.map(|process| process[field].as_f64()).sum::<Option<f64>>()
        };
        let ms = |path: &str| number(path).map(|us| us / 1e3);
        let mib = |bytes: Option<f64>| bytes.map(|bytes| bytes / f64::from(1 << 20));
        if self.is_counted() != is_count(result) {
            // Counting distorts everything else.
            return None;
        }
        match self {
            Self::SyscallsPerRequest => number("/syscalls_per_request"),
            Self::InstructionsPerRequest => number("/counted/instructions_per_request"),
            Self::FirstLevelMisses => number("/counted/first_level_misses_per_request"),
            Self::LastLevelMisses => number("/counted/last_level_misses_per_request"),
            Self::AllocationsPerRequest => number("/counted/allocations_per_request"),
            Self::CpuPerRequest => own("us_per_request"),
            Self::UserPerRequest => own("user_us_per_request"),
            Self::SystemPerRequest => own("system_us_per_request"),
            Self::CorePercent => own("core_percent"),
            Self::TotalPerRequest => number("/total_us_per_request"),
            Self::RequestsPerSecond => number("/requests_per_second"),
            Self::P50 => ms("/latency/p50_us"),
            Self::P99 => ms("/latency/p99_us"),
            Self::P999 => ms("/latency/p999_us"),
            Self::Max => ms("/latency/max_us"),
            Self::WaitsPerRequest => own("waits_per_request"),
            Self::Threads => own("threads"),
            Self::ThreadsChanged => own("threads_changed"),
            Self::Moves => moves(record),
            Self::StolenTurns => {
                let counter = |name: &str| record.counters.get(name).copied();
                Some(counter(STOLEN)? / counter(TURNS)?.max(1.0))
            }
            Self::Descriptors => own("descriptors"),
            Self::Pss => mib(own("pss_bytes")),
            Self::Anonymous => mib(own("anonymous_bytes")),
            Self::StalledAnswered => number("/stalled/answered"),
            Self::StalledClosed => number("/stalled/closed"),
            Self::StalledRefused => number("/stalled/refused"),
            Self::BytesPerConnection => number("/bytes_per_connection"),
            Self::PssPerConnection => number("/pss_bytes_per_connection"),
            Self::Unwarmed => number("/bytes_per_connection_unwarmed"),
            Self::KernelPerConnection => number("/idle/kernel_slab_bytes_per_connection"),
            Self::Fresh => mib(number("/fresh_bytes")),
            Self::Peak => mib(number("/peak_bytes")),
            Self::AfterFirst => mib(number("/first_bytes")),
            Self::AfterAll => mib(number("/last_bytes")),
            Self::Rested => mib(number("/rested_bytes")),
            Self::AfterAllToFirst => Some(number("/last_bytes")? / number("/first_bytes")?.max(1.0)),
            Self::RestedOfGrowth => {
                let growth = number("/peak_bytes")? - number("/fresh_bytes")?;
                Some((number("/rested_bytes")? - number("/fresh_bytes")?) / growth.max(1.0))
            }
            Self::CpuPerConnection => number("/us_per_connection"),
        }
    }
}

/// How many connections moved while others carried more than their part: whatever counter of the target says so. Nothing if
/// it counts no moves.
fn moves(record: &MeasuredRecord) -> Option<f64> {
    record.result["skew"].as_object()?;
    let says = |name: &str| name.split('_').any(|word| word.starts_with("move"));
    let moves = record.counters.iter().filter(|(name, _)| says(name));
    moves.map(|(_, count)| *count).reduce(|a, b| a + b)
}

/// Counters of the gateway: connections that a worker took from another one, each for a turn, and all turns.
const STOLEN: &str = "bowline_worker_stolen_total";
const TURNS: &str = "bowline_worker_turns_total";

/// Whether system calls or instructions were counted, instead of CPU and latency.
fn is_count(result: &Value) -> bool {
    result["syscalls_per_request"].is_number() || result["counted"].is_object()
}

impl Figures {
    /// Draws them from records.
    pub fn of(records: &[Record]) -> Self {
        let mut figures = Self::default();
        // By window and target; of each round of each run the last attempt.
        let mut rounds: BTreeMap<(usize, String), BTreeMap<(usize, usize), &MeasuredRecord>> =
            BTreeMap::new();
        let mut order: Vec<(usize, String)> = Vec::new();
        for record in records {
            match record {
                Record::Run(run) => figures.runs.push(run.clone()),
                Record::Skipped(skipped) => figures.skipped.push(skipped.clone()),
                Record::Window(window) => {
                    figures.window_at(window);
                }
                Record::Measured(measured) => {
                    let key = (figures.position(measured), measured.target.clone());
                    if !order.contains(&key) {
                        order.push(key.clone());
                    }
                    let round = (figures.runs.len(), measured.round);
                    rounds.entry(key).or_default().insert(round, measured);
                }
            }
        }
        for (window, target) in order {
            let taken: Vec<_> = rounds[&(window, target.clone())].values().copied().collect();
            figures.windows[window].rows.push(Row::of(target, &taken));
        }
        figures
    }

    fn window_at(&mut self, window: &WindowRecord) -> usize {
        let same = |known: &WindowFigures| {
            known.window.scenario == window.scenario && known.window.window == window.window
        };
        self.windows.iter().position(same).unwrap_or_else(|| {
            self.windows.push(WindowFigures { window: window.clone(), rows: Vec::new() });
            self.windows.len() - 1
        })
    }

    fn position(&mut self, measured: &MeasuredRecord) -> usize {
        self.window_at(&WindowRecord {
            scenario: measured.scenario.clone(),
            window: measured.window.clone(),
            about: String::new(),
            connections: 0,
            what: String::new(),
        })
    }

    /// A metric of a target in a window.
    pub fn find(&self, scenario: &str, window: &str, target: &str, metric: Metric) -> Option<Spread> {
        let windows = self.windows.iter();
        let mut windows =
            windows.filter(|one| one.window.scenario == scenario && one.window.window == window);
        windows.next()?.rows.iter().find(|row| row.target == target)?.metrics.get(&metric).copied()
    }
}

impl WindowFigures {
    /// The metrics that any of its targets has.
    pub fn metrics(&self) -> Vec<Metric> {
        let has = |metric: &Metric| self.rows.iter().any(|row| row.metrics.contains_key(metric));
        Metric::ALL.into_iter().filter(has).collect()
    }

    /// The one that decides: CPU, memory, or what is left of it.
    pub fn headline(&self) -> Option<Metric> {
        let order = [
            Metric::SyscallsPerRequest,
            Metric::InstructionsPerRequest,
            Metric::CpuPerRequest,
            Metric::BytesPerConnection,
            Metric::AfterAllToFirst,
        ];
        let metrics = self.metrics();
        order.into_iter().find(|metric| metrics.contains(metric))
    }
}

impl Row {
    fn of(target: String, rounds: &[&MeasuredRecord]) -> Self {
        let good: Vec<_> = rounds.iter().copied().filter(|record| record.ok).collect();
        let bad = rounds.iter().filter(|record| !record.ok);
        let spread = |metric: Metric| {
            let values: Option<Vec<f64>> = good.iter().map(|record| metric.of(record)).collect();
            Some((metric, Spread::of(&values?)?))
        };
        Self {
            target,
            rounds: good.len(),
            disturbed: good.iter().filter(|record| record.disturbed).count(),
            broken: bad.map(|record| record.why_broken()).collect(),
            metrics: Metric::ALL.into_iter().filter_map(spread).collect(),
            curve: curve(&good),
            counters: counters(&good),
            remarks: good.last().map(|record| remarks(record)).unwrap_or_default(),
            commands: rounds.last().map(|record| record.commands.clone()).unwrap_or_default(),
        }
    }
}

/// The median of the rounds at each percentile.
fn curve(rounds: &[&MeasuredRecord]) -> Vec<(f64, f64)> {
    let mut by_percentile: Vec<(f64, Vec<f64>)> = Vec::new();
    for record in rounds {
        if is_count(&record.result) {
            return Vec::new();
        }
        let points = record.result["latency_curve"].as_array().map_or(&[][..], Vec::as_slice);
        for (at, point) in points.iter().enumerate() {
            let (Some(percentile), Some(us)) = (point[0].as_f64(), point[1].as_f64()) else { continue };
            if by_percentile.len() == at {
                by_percentile.push((percentile, Vec::new()));
            }
            by_percentile[at].1.push(us / 1e3);
        }
    }
    let median = |(percentile, values): (f64, Vec<f64>)| Some((percentile, Spread::of(&values)?.median));
    by_percentile.into_iter().filter_map(median).collect()
}

/// Where busy connections were at home, how busy each program was then, and who allocated.
fn remarks(record: &MeasuredRecord) -> Vec<String> {
    let result = &record.result;
    let mut remarks = Vec::new();
    if let (Some(before), Some(after)) = (homes(&result["skew"]["before"]), homes(&result["skew"]["after"])) {
        remarks.push(format!("busy connections at home on {before} before, {after} after"));
    }
    if record.scenario == "skew" {
        let percent = |value: &Value| value.as_f64().map_or_else(|| "?".into(), |it| format!("{it:.0} %"));
        let process = |at: usize| percent(&result["processes_cpu"][at]["core_percent"]);
        let load = percent(&result["load_core_percent"]);
        let (own, backend) = (process(0), process(record.processes));
        remarks.push(format!("of a core: target {own}, backend {backend}, load generator {load}"));
    }
    if let Some(callers) = result["counted"]["allocated_by"].as_array().filter(|callers| !callers.is_empty())
    {
        let caller = |one: &Value| Some(format!("{} x `{}`", one[1].as_u64()?, one[0].as_str()?));
        let answered = &result["counted"]["answered"];
        let callers = callers.iter().filter_map(caller).collect::<Vec<_>>().join(", ");
        remarks.push(format!("allocations over {answered} answers, most of them by: {callers}"));
    }
    remarks
}

/// `reactor 0: 100, reactor 1: 3`.
fn homes(counts: &Value) -> Option<String> {
    let counts = counts.as_object()?.iter();
    Some(counts.map(|(reactor, count)| format!("reactor {reactor}: {count}")).collect::<Vec<_>>().join(", "))
}

fn counters(rounds: &[&MeasuredRecord]) -> BTreeMap<String, f64> {
    let names: std::collections::BTreeSet<_> =
        rounds.iter().flat_map(|record| record.counters.keys()).collect();
    let median = |name: &String| {
        let values: Vec<_> = rounds.iter().map(|r| r.counters.get(name).copied().unwrap_or(0.0)).collect();
        Spread::of(&values).map(|spread| (name.clone(), spread.median))
    };
    names.into_iter().filter_map(median).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::Facts;

    /// A measurement with this CPU per request.
    pub(crate) fn measured(window: &str, target: &str, round: usize, us: f64) -> MeasuredRecord {
        MeasuredRecord {
            scenario: "small_rpc".into(),
            window: window.into(),
            target: target.into(),
            round,
            attempt: 0,
            disturbed: false,
            ok: true,
            trouble: None,
            processes: 1,
            commands: vec![format!("start {target}")],
            counters: BTreeMap::from([("moves_total".to_owned(), us)]),
            result: json!({
                "processes_cpu": [{ "us_per_request": us, "pss_bytes": 1 << 20 }, { "us_per_request": 99.0 }],
                "total_us_per_request": us + 10.0,
                "latency": { "p50_us": 1_000.0, "p99_us": 2_000.0 },
                "latency_curve": [[0.0, 500.0], [50.0, 1_000.0], [99.0, 2_000.0], [100.0, 3_000.0 * us]],
            }),
        }
    }

    pub(crate) fn run() -> Record {
        let machine = Facts { processor: "a processor".into(), cores: 2, ..Facts::default() };
        Record::Run(RunRecord {
            machine,
            command: "bowline-bench run".into(),
            started_unix_s: 0,
            gateway: None,
            build: None,
        })
    }

    pub(crate) fn window(name: &str) -> Record {
        Record::Window(WindowRecord {
            scenario: "small_rpc".into(),
            window: name.into(),
            about: "something".into(),
            connections: 50,
            what: String::new(),
        })
    }

    #[test]
    fn the_last_attempt_of_a_round_counts_and_what_is_broken_does_not() {
        let mut records = vec![run(), window("c1")];
        let disturbed = MeasuredRecord { disturbed: true, ..measured("c1", "raw", 0, 50.0) };
        records.push(Record::Measured(disturbed));
        records.push(Record::Measured(MeasuredRecord { attempt: 1, ..measured("c1", "raw", 0, 8.0) }));
        records.push(Record::Measured(measured("c1", "raw", 1, 6.0)));
        let broken =
            MeasuredRecord { ok: false, trouble: Some("gone".into()), ..measured("c1", "raw", 2, 1.0) };
        records.push(Record::Measured(broken));
        let figures = Figures::of(&records);
        let row = &figures.windows[0].rows[0];
        assert_eq!((row.rounds, row.disturbed, &row.broken[..]), (2, 0, &["gone".to_owned()][..]));
        let cpu = row.metrics[&Metric::CpuPerRequest];
        assert_eq!((cpu.median, cpu.low, cpu.high), (7.0, 6.0, 8.0), "the backend's CPU is not the target's");
        assert_eq!(row.metrics[&Metric::P99].median, 2.0);
        assert_eq!(row.metrics[&Metric::Pss].median, 1.0);
        assert_eq!(row.curve.last(), Some(&(100.0, 21.0)));
        assert_eq!(row.counters["moves_total"], 7.0);
        assert!(!row.metrics.contains_key(&Metric::BytesPerConnection));
        assert_eq!(figures.windows[0].headline(), Some(Metric::CpuPerRequest));
    }

    #[test]
    fn rounds_of_a_second_run_add_to_those_of_the_first() {
        let record = |us| Record::Measured(measured("c1", "raw", 0, us));
        let figures = Figures::of(&[run(), window("c1"), record(1.0), run(), window("c1"), record(3.0)]);
        assert_eq!((figures.windows.len(), figures.windows[0].rows[0].rounds), (1, 2));
        let cpu = figures.find("small_rpc", "c1", "raw", Metric::CpuPerRequest).expect("measured");
        assert_eq!(cpu.median, 2.0);
        assert_eq!(figures.find("small_rpc", "c1", "tokio", Metric::CpuPerRequest), None);
    }

    #[test]
    fn memory_that_is_left_is_a_share_of_the_growth() {
        let result = json!({ "fresh_bytes": 100, "peak_bytes": 500, "first_bytes": 200, "last_bytes": 220, "rested_bytes": 180 });
        let record = MeasuredRecord { result, ..measured("m5", "raw", 0, 1.0) };
        assert_eq!(Metric::AfterAllToFirst.of(&record), Some(1.1));
        assert_eq!(Metric::RestedOfGrowth.of(&record), Some(0.2));
    }
}
