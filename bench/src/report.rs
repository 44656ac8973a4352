//! Owns how results are said: one line of JSON for programs, a summary for people. Refuses to measure.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::Serialize;

use crate::host;
use crate::host::Cpu;
use crate::host::Idle;
use crate::host::Memory;
use crate::host::Usage;
use crate::load::Loop;
use crate::load::Outcome;
use crate::load::SkewHomes;
use crate::stats::Latency;
use crate::stats::LatencySummary;
use crate::trouble::Trouble;
use crate::verify::Tally;

/// The process trees that are watched. They are looked up once, since that takes milliseconds.
#[derive(Clone, Debug)]
pub struct Watch(Vec<(u32, Vec<u32>)>);

impl Watch {
    /// Of these processes and the descendants that they have now.
    pub fn new(pids: &[u32]) -> Result<Self, Trouble> {
        pids.iter().map(|pid| Ok((*pid, host::tree(*pid)?))).collect::<Result<_, Trouble>>().map(Self)
    }

    /// Their CPU time so far, and the whole machine's.
    pub fn mark(&self) -> Result<Mark, Trouble> {
        let spent = |members: &[u32]| {
            let (cpu, usage) = (host::cpu_of_members(members)?, host::usage_of_members(members));
            Ok(Spent { cpu, usage, threads: host::threads_of_members(members) })
        };
        let pids = self.0.iter().map(|(pid, members)| Ok((*pid, spent(members)?)));
        Ok(Mark {
            pids: pids.collect::<Result<_, Trouble>>()?,
            sizes: Vec::new(),
            machine_idle: host::machine_idle()?,
            at: Instant::now(),
        })
    }
}

impl Watch {
    /// The same with their sizes, which take longer to read; for the end, when nothing more is measured.
    pub fn last_mark(&self) -> Result<Mark, Trouble> {
        let mut mark = self.mark()?;
        mark.sizes = self.0.iter().map(|(pid, members)| Size::of(*pid, members)).collect::<Result<_, _>>()?;
        Ok(mark)
    }
}

/// What a process tree has spent so far.
#[derive(Clone, Debug, Default)]
struct Spent {
    cpu: Cpu,
    usage: Usage,
    threads: BTreeSet<u32>,
}

/// How large a process tree is.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    memory: Memory,
    descriptors: usize,
}

impl Size {
    fn of(pid: u32, members: &[u32]) -> Result<Self, Trouble> {
        // A descendant may end at any time.
        let descriptors = members.iter().map(|member| host::descriptors_of(*member).unwrap_or(0)).sum();
        Ok(Self { memory: host::memory_of_tree(pid)?, descriptors })
    }
}

/// CPU of the processes that are watched, and of the whole machine.
#[derive(Clone, Debug)]
pub struct Mark {
    pids: Vec<(u32, Spent)>,
    /// In the order of `pids`, or none.
    sizes: Vec<Size>,
    machine_idle: Idle,
    at: Instant,
}

impl Mark {
    /// How long all CPUs of the machine together worked for some thread until `end`, in ns: what was not idle, but for
    /// what it takes to enter and leave idleness, which no thread is charged for.
    fn machine_busy_ns(&self, end: &Self) -> f64 {
        let all_ns = end.at.duration_since(self.at).as_nanos() as f64 * end.machine_idle.cores as f64;
        let idle_ns = end.machine_idle.ns.saturating_sub(self.machine_idle.ns) as f64;
        let switches = end.machine_idle.switches.saturating_sub(self.machine_idle.switches) as f64;
        all_ns - idle_ns - switches * SWITCH_NS
    }
}

/// CPU of one watched process tree inside the measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProcessCpu {
    /// Its process id.
    pub pid: u32,
    /// Microseconds per answered request.
    pub us_per_request: f64,
    /// Percent of one core.
    pub core_percent: f64,
    /// Its user part, by the kernel's estimate.
    pub user_us_per_request: f64,
    /// Its system part, by the kernel's estimate.
    pub system_us_per_request: f64,
    /// How often a thread waited, per answered request.
    pub waits_per_request: f64,
    /// How often a thread was preempted, per answered request.
    pub preemptions_per_request: f64,
    /// Threads at the end.
    pub threads: u64,
    /// Descriptors at the end, with all connections open.
    pub descriptors: usize,
    /// PSS at the end.
    pub pss_bytes: u64,
    /// Anonymous memory at the end.
    pub anonymous_bytes: u64,
    /// Threads that came or went meanwhile, by their ids; the figures miss some if there are any.
    pub threads_changed: usize,
}

/// What a load run found.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// Always "load".
    pub event: &'static str,
    /// True when nothing was lost, mixed up or refused.
    pub ok: bool,
    /// Ended early by a signal.
    pub interrupted: bool,
    /// Connections in all processes.
    pub connections: usize,
    /// Processes of the load generator.
    pub processes: usize,
    /// In flight per connection in a closed loop.
    pub in_flight: Option<usize>,
    /// Requests per second in an open loop.
    pub rate: Option<f64>,
    /// Requests per second before it, when it began with a step.
    pub warmup_rate: Option<f64>,
    /// Content of a request.
    pub bytes: usize,
    /// How long was measured.
    pub seconds: f64,
    /// Answers inside the measurement.
    pub answered_in_window: u64,
    /// Answers per second inside the measurement.
    pub requests_per_second: f64,
    /// The counts of the whole run.
    pub tally: Tally,
    /// Latency, in an open loop from the intended send time.
    pub latency: LatencySummary,
    /// Many percentiles with their latency in microseconds.
    pub latency_curve: Vec<(f64, f64)>,
    /// The watched processes, in the order of `--pid`.
    pub processes_cpu: Vec<ProcessCpu>,
    /// System calls of the first watched process, where they were counted; that distorts all other figures.
    pub syscalls_per_request: Option<f64>,
    /// The load generator's own CPU per answered request.
    pub load_us_per_request: f64,
    /// Load generator and all watched processes together, per answered request.
    pub total_us_per_request: f64,
    /// Where the connections that took more than their part were at home, if the gateway could be asked.
    pub skew: Option<SkewHomes>,
    /// The load generator's own CPU, in percent of a core.
    pub load_core_percent: f64,
    /// About what other processes took meanwhile, in percent of one core; only when all processes of the run are watched.
    pub others_core_percent: f64,
}

/// What a run was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Connections in all processes.
    pub connections: usize,
    /// Processes.
    pub processes: usize,
    /// The order of requests.
    pub requests: Loop,
    /// Content of a request.
    pub bytes: usize,
}

impl LoadReport {
    /// Draws the figures.
    pub fn new(asked: Asked, outcome: &Outcome, begin: &Mark, end: &Mark) -> Self {
        let mut latency = Latency::default();
        latency.add_pairs(&outcome.latency);
        let answered = (outcome.answered_in_window as f64).max(1.0);
        let window_ns = (outcome.window_ns as f64).max(1.0);
        let sizes = end.sizes.iter().copied().chain(std::iter::repeat(Size::default()));
        let processes_cpu: Vec<_> = begin
            .pids
            .iter()
            .zip(&end.pids)
            .zip(sizes)
            .map(|(((pid, before), (_, after)), size)| {
                process_cpu(*pid, [before, after], size, answered, window_ns)
            })
            .collect();
        let load_us_per_request = outcome.own_cpu_ns as f64 / 1e3 / answered;
        let total_us_per_request =
            load_us_per_request + processes_cpu.iter().map(|p| p.us_per_request).sum::<f64>();
        let others_ns = (begin.machine_busy_ns(end) - total_us_per_request * 1e3 * answered).max(0.0);
        let (in_flight, rate, warmup_rate) = match asked.requests {
            Loop::Closed { in_flight } => (Some(in_flight), None, None),
            Loop::Open { rate, warmup_rate } => (None, Some(rate), warmup_rate),
        };
        Self {
            event: "load",
            ok: outcome.tally.broken() == 0 && outcome.tally.answered > 0,
            interrupted: outcome.interrupted,
            connections: asked.connections,
            processes: asked.processes,
            in_flight,
            rate,
            warmup_rate,
            bytes: asked.bytes,
            seconds: outcome.window_ns as f64 / 1e9,
            answered_in_window: outcome.answered_in_window,
            requests_per_second: outcome.answered_in_window as f64 * 1e9 / window_ns,
            tally: outcome.tally.clone(),
            latency: latency.summary(),
            latency_curve: latency.curve(),
            processes_cpu,
            syscalls_per_request: None,
            load_us_per_request,
            total_us_per_request,
            skew: outcome.skew.clone(),
            load_core_percent: 100.0 * outcome.own_cpu_ns as f64 / window_ns,
            others_core_percent: 100.0 * others_ns / window_ns,
        }
    }

    /// For people.
    pub fn summary(&self) -> String {
        let order = match (self.in_flight, self.rate) {
            (Some(in_flight), _) => format!("{in_flight} in flight"),
            (None, Some(rate)) => format!("{rate} requests/s"),
            (None, None) => String::new(),
        };
        let mut text = format!(
            "{} connections, {order}, {} bytes, {:.1} s: {:.0} requests/s\n",
            self.connections, self.bytes, self.seconds, self.requests_per_second
        );
        let LatencySummary { p50_us, p99_us, p999_us, max_us, .. } = self.latency;
        text += &format!(
            "latency ms: p50 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3}\n",
            p50_us / 1e3,
            p99_us / 1e3,
            p999_us / 1e3,
            max_us / 1e3
        );
        for process in &self.processes_cpu {
            let doubt = if process.threads_changed > 0 { " (threads changed: too low)" } else { "" };
            text += &format!(
                "CPU of {}: {:.2} us per request, {:.1} % of a core{doubt}\n",
                process.pid, process.us_per_request, process.core_percent
            );
        }
        text += &format!(
            "CPU of the load generator: {:.2} us per request; all together {:.2}; others {:.0} % of a core\n",
            self.load_us_per_request, self.total_us_per_request, self.others_core_percent
        );
        text + &tally_line(&self.tally)
    }
}

fn process_cpu(
    pid: u32,
    [before, after]: [&Spent; 2],
    size: Size,
    answered: f64,
    window_ns: f64,
) -> ProcessCpu {
    let ns = after.cpu.ns.saturating_sub(before.cpu.ns) as f64;
    let per_request = |figure: fn(&Usage) -> u64, unit: f64| {
        figure(&after.usage).saturating_sub(figure(&before.usage)) as f64 / unit / answered
    };
    ProcessCpu {
        pid,
        us_per_request: ns / 1e3 / answered,
        core_percent: 100.0 * ns / window_ns,
        user_us_per_request: per_request(|usage| usage.user_ns, 1e3),
        system_us_per_request: per_request(|usage| usage.system_ns, 1e3),
        waits_per_request: per_request(|usage| usage.waits, 1.0),
        preemptions_per_request: per_request(|usage| usage.preemptions, 1.0),
        threads: after.cpu.threads,
        descriptors: size.descriptors,
        pss_bytes: size.memory.pss_bytes,
        anonymous_bytes: size.memory.anonymous_bytes,
        threads_changed: before.threads.symmetric_difference(&after.threads).count(),
    }
}

/// The counts of a run for people.
pub fn tally_line(tally: &Tally) -> String {
    let verdict = if tally.broken() == 0 { "every answer right" } else { "BROKEN" };
    format!(
        "{verdict}: sent {}, answered {}, lost {}, corrupted {}, duplicates {}, unknown {}, refused {:?}, unsent {}, \
         connect failures {}, connections lost {}",
        tally.sent,
        tally.answered,
        tally.lost,
        tally.corrupted,
        tally.duplicates,
        tally.unknown,
        tally.refused,
        tally.unsent,
        tally.connect_failures,
        tally.connections_lost
    )
}

/// A table whose columns are as wide as they need to be; the first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// What a change between a thread and idleness takes beside what threads are charged for. Measured on a 2-core virtual
/// machine with nothing else running, from 1,000 to 40,000 requests per second: 1.9 to 3.5 us.
const SWITCH_NS: f64 = 2_500.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome() -> Outcome {
        let mut latency = Latency::default();
        latency.record(1_000_000);
        Outcome {
            tally: Tally { sent: 1_000, answered: 1_000, ..Tally::default() },
            answered_in_window: 500,
            window_ns: 1_000_000_000,
            own_cpu_ns: 1_000_000,
            latency: latency.to_pairs(),
            interrupted: false,
            skew: None,
        }
    }

    fn marks() -> (Mark, Mark) {
        let begin = Instant::now();
        let mark = |ns, idle_ns, seconds, switches, threads: [u32; 3]| Mark {
            pids: vec![(
                7,
                Spent { cpu: Cpu { ns, threads: 3 }, threads: threads.into(), ..Spent::default() },
            )],
            sizes: Vec::new(),
            machine_idle: Idle { ns: idle_ns, cores: 2, switches },
            at: begin + Duration::from_secs(seconds),
        };
        // One second of two cores, of which 1.889 s were idle less what 4,000 switches take.
        (mark(100, 5_000_000_000, 0, 7, [1, 2, 3]), mark(10_000_100, 6_879_000_000, 1, 4_007, [1, 2, 4]))
    }

    const ASKED: Asked =
        Asked { connections: 5, processes: 1, requests: Loop::Closed { in_flight: 1 }, bytes: 1_024 };

    #[test]
    fn cpu_is_divided_by_the_answers_inside_the_measurement() {
        let (begin, end) = marks();
        let report = LoadReport::new(ASKED, &outcome(), &begin, &end);
        assert!((report.processes_cpu[0].us_per_request - 20.0).abs() < 1e-9);
        assert!((report.processes_cpu[0].core_percent - 1.0).abs() < 1e-9);
        assert!((report.load_us_per_request - 2.0).abs() < 1e-9);
        assert!((report.total_us_per_request - 22.0).abs() < 1e-9);
        assert!((report.others_core_percent - 10.0).abs() < 1e-9);
        assert!((report.requests_per_second - 500.0).abs() < 1e-9);
        assert!(report.ok);
        assert_eq!(
            report.processes_cpu[0].threads_changed, 2,
            "as many as before, but one went and one came"
        );
    }

    #[test]
    fn one_lost_answer_spoils_the_run() {
        let (begin, end) = marks();
        let mut lossy = outcome();
        lossy.tally.lost = 1;
        let report = LoadReport::new(ASKED, &lossy, &begin, &end);
        assert!(!report.ok);
        assert!(report.summary().contains("BROKEN"));
    }

    #[test]
    fn a_run_without_answers_is_not_ok() {
        let (begin, end) = marks();
        assert!(!LoadReport::new(ASKED, &Outcome::default(), &begin, &end).ok);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(table(&rows), "a    bb\nccc  d\n");
    }
}
