//! Owns the comparison of modes: the same load on each, interleaved A B A B, several rounds, median and spread. The load
//! generator is pinned to core 0 and the backend to core 1; the gateway is free. A disturbed window is taken again.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::report;
use crate::scenario::programs;
use crate::scenario::programs::Gateway;
use crate::scenario::programs::words;
use crate::spawn::Spawned;
use crate::stats::Spread;
use crate::trouble::Trouble;
use crate::wire::Protocol;

/// A shape of load with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name in TARGETS.
    pub name: &'static str,
    connections: usize,
    order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    InFlight(usize),
    Rate(u64),
}

/// All of them.
pub const SCENARIOS: [Scenario; 5] = [
    Scenario { name: "c1", connections: 50, order: Order::InFlight(1) },
    Scenario { name: "c2", connections: 50, order: Order::InFlight(32) },
    Scenario { name: "c3", connections: 9_000, order: Order::Rate(1_000) },
    Scenario { name: "c3b-5k", connections: 50, order: Order::Rate(5_000) },
    Scenario { name: "c3b-20k", connections: 50, order: Order::Rate(20_000) },
];

impl Scenario {
    /// The scenario of a name.
    pub fn named(name: &str) -> Result<Self, String> {
        SCENARIOS.into_iter().find(|scenario| scenario.name == name).ok_or_else(|| {
            let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            format!("there are {}", names.join(", "))
        })
    }

    /// The flags of `bowline-bench load`.
    fn flags(&self) -> Vec<String> {
        let (flag, value) = match self.order {
            Order::InFlight(count) => ("--in-flight", count.to_string()),
            Order::Rate(rate) => ("--rate", rate.to_string()),
        };
        vec!["--connections".into(), self.connections.to_string(), flag.into(), value]
    }
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// The gateway.
    pub gateway: Gateway,
    /// Its modes.
    pub engines: Vec<String>,
    /// The loads.
    pub scenarios: Vec<Scenario>,
    /// How often each.
    pub rounds: usize,
    /// Before each measurement.
    pub warmup: Duration,
    /// Each measurement.
    pub duration: Duration,
    /// Content of a request.
    pub bytes: usize,
    /// The load generator's core.
    pub load_core: usize,
    /// The backend's core.
    pub backend_core: usize,
}

/// The figures of one mode under one load.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The load.
    pub scenario: &'static str,
    /// The mode.
    pub engine: String,
    /// CPU of the gateway per request, in us.
    pub gateway_us_per_request: Spread,
    /// CPU of the gateway, in percent of a core.
    pub gateway_core_percent: Spread,
    /// CPU of gateway, load generator and backend per request, in us.
    pub total_us_per_request: Spread,
    /// Answers per second.
    pub requests_per_second: Spread,
    /// Latency.
    pub p50_us: Spread,
    /// Latency.
    pub p99_us: Spread,
    /// Latency.
    pub p999_us: Spread,
    /// Windows in which others took too much CPU although they were repeated.
    pub disturbed: usize,
}

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct CompareReport {
    /// Always "compare".
    pub event: &'static str,
    /// Rounds of each.
    pub rounds: usize,
    /// The figures, load by load.
    pub rows: Vec<Row>,
    /// Pairs of modes that differ by less than their spread, as `scenario: engine, engine`.
    pub no_difference: Vec<String>,
}

/// Runs all windows. A window that lost or mixed up an answer ends the comparison: its figures would not count.
pub fn compare(bench: &Path, options: &CompareOptions) -> Result<CompareReport, Trouble> {
    let mut rows = Vec::new();
    for scenario in &options.scenarios {
        let mut windows: Vec<Vec<Window>> = vec![Vec::new(); options.engines.len()];
        for round in 0..options.rounds {
            for (engine, windows) in options.engines.iter().zip(&mut windows) {
                let window = undisturbed(bench, options, *scenario, engine)?;
                eprintln!(
                    "{} {engine} round {}: {:.2} us",
                    scenario.name,
                    round + 1,
                    window.gateway_us_per_request
                );
                windows.push(window);
            }
        }
        for (engine, windows) in options.engines.iter().zip(&windows) {
            rows.extend(row(*scenario, engine, windows));
        }
    }
    Ok(CompareReport { event: "compare", rounds: options.rounds, no_difference: no_difference(&rows), rows })
}

/// The figures of one measurement.
#[derive(Clone, Copy, Debug)]
struct Window {
    gateway_us_per_request: f64,
    gateway_core_percent: f64,
    total_us_per_request: f64,
    requests_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    others_core_percent: f64,
}

impl Window {
    /// From the line that `bowline-bench load --pid GATEWAY --pid BACKEND` prints.
    fn parse(line: &str) -> Option<Self> {
        let report: Value = serde_json::from_str(line).ok()?;
        let number = |path: &str| report.pointer(path)?.as_f64();
        Some(Self {
            gateway_us_per_request: number("/processes_cpu/0/us_per_request")?,
            gateway_core_percent: number("/processes_cpu/0/core_percent")?,
            total_us_per_request: number("/total_us_per_request")?,
            requests_per_second: number("/requests_per_second")?,
            p50_us: number("/latency/p50_us")?,
            p99_us: number("/latency/p99_us")?,
            p999_us: number("/latency/p999_us")?,
            others_core_percent: number("/others_core_percent")?,
        })
        .filter(|_| report.get("ok") == Some(&Value::Bool(true)))
    }

    fn is_disturbed(&self) -> bool {
        self.others_core_percent > OTHERS_PERCENT_MAX
    }
}

/// A window in which others took little CPU, or the last of several attempts.
fn undisturbed(
    bench: &Path,
    options: &CompareOptions,
    scenario: Scenario,
    engine: &str,
) -> Result<Window, Trouble> {
    let mut window = measure(bench, options, scenario, engine)?;
    for _ in 1..ATTEMPTS_MAX {
        if !window.is_disturbed() {
            break;
        }
        eprintln!("others took {:.0} % of a core: once more", window.others_core_percent);
        window = measure(bench, options, scenario, engine)?;
    }
    Ok(window)
}

/// One measurement with processes of its own, so that none inherits what another left.
fn measure(
    bench: &Path,
    options: &CompareOptions,
    scenario: Scenario,
    engine: &str,
) -> Result<Window, Trouble> {
    let patience = options.warmup + options.duration + PATIENCE;
    let backend = programs::backend(bench, Some(options.backend_core), patience.as_secs() + 1)?;
    let gateway = programs::gateway(bench, &options.gateway, engine, Protocol::Bolt, backend.address, &[])?;
    let seconds = |duration: Duration| duration.as_secs_f64().to_string();
    let mut arguments =
        words(&["load", "--to", &gateway.address.to_string(), "--bytes", &options.bytes.to_string()]);
    arguments.extend(scenario.flags().into_iter().map(OsString::from));
    arguments.extend(words(&[
        "--duration",
        &seconds(options.duration),
        "--warmup",
        &seconds(options.warmup),
    ]));
    arguments.extend(words(&["--pin", &options.load_core.to_string()]));
    arguments.extend(words(&[
        "--pid",
        &gateway.pid().to_string(),
        "--pid",
        &backend.pid().to_string(),
        "--quiet",
    ]));
    let load = Spawned::start(bench, "the load generator", bench, &arguments)?;
    let line = load.next_line(patience)?;
    let window = Window::parse(&line)
        .ok_or_else(|| Trouble::Broken(format!("{} {engine} does not count: {line}", scenario.name)))?;
    gateway.stop()?;
    backend.stop()?;
    Ok(window)
}

fn row(scenario: Scenario, engine: &str, windows: &[Window]) -> Option<Row> {
    let spread = |figure: fn(&Window) -> f64| Spread::of(&windows.iter().map(figure).collect::<Vec<_>>());
    Some(Row {
        scenario: scenario.name,
        engine: engine.into(),
        gateway_us_per_request: spread(|w| w.gateway_us_per_request)?,
        gateway_core_percent: spread(|w| w.gateway_core_percent)?,
        total_us_per_request: spread(|w| w.total_us_per_request)?,
        requests_per_second: spread(|w| w.requests_per_second)?,
        p50_us: spread(|w| w.p50_us)?,
        p99_us: spread(|w| w.p99_us)?,
        p999_us: spread(|w| w.p999_us)?,
        disturbed: windows.iter().filter(|window| window.is_disturbed()).count(),
    })
}

fn no_difference(rows: &[Row]) -> Vec<String> {
    let mut pairs = Vec::new();
    for (at, one) in rows.iter().enumerate() {
        for other in rows[at + 1..].iter().filter(|other| other.scenario == one.scenario) {
            if one.gateway_us_per_request.overlaps(&other.gateway_us_per_request) {
                pairs.push(format!("{}: {}, {}", one.scenario, one.engine, other.engine));
            }
        }
    }
    pairs
}

impl CompareReport {
    /// For people.
    pub fn summary(&self) -> String {
        let head = [
            "load",
            "mode",
            "gateway us/request",
            "% of a core",
            "all us/request",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
        ];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(self.rows.iter().map(|row| {
            let mut cells = vec![row.scenario.to_owned(), row.engine.clone()];
            cells.extend([
                cell(row.gateway_us_per_request, 1.0, 2),
                cell(row.gateway_core_percent, 1.0, 1),
                cell(row.total_us_per_request, 1.0, 2),
                cell(row.requests_per_second, 1.0, 0),
                cell(row.p50_us, 1e3, 3),
                cell(row.p99_us, 1e3, 3),
                cell(row.p999_us, 1e3, 3),
            ]);
            if row.disturbed > 0 {
                cells.push(format!("{} of {} windows disturbed", row.disturbed, self.rounds));
            }
            cells
        }));
        let mut text =
            format!("median [lowest to highest] of {} rounds\n{}", self.rounds, report::table(&rows));
        for pair in &self.no_difference {
            text += &format!("no difference in the gateway's CPU beyond the spread: {pair}\n");
        }
        text
    }
}

fn cell(spread: Spread, unit: f64, digits: usize) -> String {
    let [median, low, high] = [spread.median, spread.low, spread.high].map(|value| value / unit);
    format!("{median:.digits$} [{low:.digits$} to {high:.digits$}]")
}

/// Above this a window is taken again.
const OTHERS_PERCENT_MAX: f64 = 12.0;
const ATTEMPTS_MAX: usize = 3;
/// What opening, touching and draining the connections may take beyond the measurement.
const PATIENCE: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use super::*;

    fn window(us: f64, others: f64) -> Window {
        Window {
            gateway_us_per_request: us,
            gateway_core_percent: 1.0,
            total_us_per_request: 2.0,
            requests_per_second: 3.0,
            p50_us: 4.0,
            p99_us: 5.0,
            p999_us: 6.0,
            others_core_percent: others,
        }
    }

    #[test]
    fn scenarios_are_found_by_name_and_others_are_refused_with_the_list() {
        for scenario in SCENARIOS {
            assert_eq!(Scenario::named(scenario.name), Ok(scenario));
        }
        let c3 = Scenario::named("c3").expect("it exists");
        assert_eq!(c3.flags(), ["--connections", "9000", "--rate", "1000"]);
        assert!(Scenario::named("c9").expect_err("there is none").contains("c3b-20k"));
    }

    #[test]
    fn modes_differ_only_beyond_their_spread() {
        let [c1, c2, ..] = SCENARIOS;
        let rows: Vec<Row> = [
            row(c1, "raw", &[window(1.0, 0.0), window(2.0, 13.0), window(1.5, 0.0)]),
            row(c1, "tokio", &[window(1.9, 0.0), window(3.0, 0.0)]),
            row(c2, "raw", &[window(1.0, 0.0)]),
            row(c2, "tokio", &[window(2.0, 0.0)]),
        ]
        .into_iter()
        .flatten()
        .collect();
        assert_eq!(no_difference(&rows), ["c1: raw, tokio"]);
        assert_eq!((rows[0].gateway_us_per_request.median, rows[0].disturbed), (1.5, 1));
        let report = CompareReport { event: "compare", rounds: 3, no_difference: no_difference(&rows), rows };
        assert!(report.summary().contains("1.50 [1.00 to 2.00]"));
        assert!(report.summary().contains("1 of 3 windows disturbed"));
    }

    #[test]
    fn a_window_that_is_not_ok_does_not_count() {
        let line = |ok: bool| {
            format!(
                r#"{{"ok":{ok},"processes_cpu":[{{"us_per_request":7.5,"core_percent":1}}],"total_us_per_request":9,
                "requests_per_second":10,"latency":{{"p50_us":1,"p99_us":2,"p999_us":3}},"others_core_percent":4}}"#
            )
        };
        assert_eq!(Window::parse(&line(true)).map(|w| w.gateway_us_per_request), Some(7.5));
        assert!(Window::parse(&line(false)).is_none());
        assert!(Window::parse("{}").is_none());
    }
}
