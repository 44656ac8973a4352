//! Owns a run of scenarios: windows in order, targets interleaved A B A B, and windows that are compared too, disturbed windows
//! taken again, everything written down as it comes. Bounded in rounds, attempts and time. What lost an answer is written down as such and counts for nothing.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use serde::Serialize;

use crate::host;
use crate::scenario::count::Counting;
use crate::scenario::estimate;
use crate::scenario::file::Scenario;
use crate::scenario::file::What;
use crate::scenario::file::Window;
use crate::scenario::programs::words;
use crate::scenario::record::Journal;
use crate::scenario::record::MeasuredRecord;
use crate::scenario::record::Record;
use crate::scenario::record::RunRecord;
use crate::scenario::record::SkippedRecord;
use crate::scenario::record::WindowRecord;
use crate::scenario::resume::Done;
use crate::scenario::target::Target;
use crate::scenario::window;
use crate::scenario::window::Bench;
use crate::scenario::window::Measured;
use crate::spawn::Spawned;
use crate::trouble::Trouble;

/// What is run.
#[derive(Clone, Debug)]
pub struct SuiteOptions {
    /// In this order.
    pub scenarios: Vec<Scenario>,
    /// Instead of the scenarios' own and of their windows' own.
    pub targets: Vec<Target>,
    /// Beside them, where a window takes peers.
    pub peers: Vec<Target>,
    /// Peers that are not there, and why.
    pub missing: Vec<(String, String)>,
    /// How often each, instead of what the scenarios ask for.
    pub rounds: Option<usize>,
    /// How often a disturbed window is taken, at most.
    pub attempts_max: usize,
    /// No measurement begins later.
    pub time_max: Duration,
    /// Programs and cores.
    pub bench: Bench,
    /// Where results are written.
    pub journal: PathBuf,
    /// As it was typed.
    pub command: String,
    /// Rounds that the journal holds already are not measured again.
    pub resume: bool,
    /// Says what would be measured and how long that takes, and measures nothing.
    pub plan_only: bool,
}

/// How a run went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SuiteReport {
    /// Always "run".
    pub event: &'static str,
    /// Measurements that count.
    pub measured: usize,
    /// Measurements that lost or mixed up an answer, or that failed.
    pub broken: usize,
    /// Of those that count, the ones that others disturbed although they were repeated.
    pub disturbed: usize,
    /// What was left out.
    pub skipped: usize,
    /// Rounds that an earlier run had measured.
    pub resumed: usize,
    /// Where the results are.
    pub results: PathBuf,
}

/// Runs all of it.
pub fn run(options: &SuiteOptions) -> Result<SuiteReport, Trouble> {
    let machine = host::facts()?;
    let build = options.bench.build();
    let done = match options.resume {
        true => Done::read(&options.journal, &build, options.attempts_max)?,
        false => Done::default(),
    };
    let journal = if options.plan_only { Path::new(NOWHERE) } else { &options.journal };
    let mut suite = Suite {
        options,
        done,
        journal: Journal::open(journal)?,
        report: SuiteReport { event: "run", results: options.journal.clone(), ..SuiteReport::default() },
        begun: Instant::now(),
        said: HashSet::new(),
    };
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    suite.journal.append(&Record::Run(RunRecord {
        machine,
        command: options.command.clone(),
        started_unix_s: started.as_secs(),
        gateway: version(&options.bench),
        build: Some(build),
    }))?;
    for (what, why) in &options.missing {
        suite.skip(what.clone(), why.clone())?;
    }
    let plan = suite.plan()?;
    let whole = plan.iter().map(Planned::duration).sum();
    let rounds: usize = plan.iter().map(|planned| planned.rounds.len()).sum();
    eprintln!(
        "{rounds} measurements in {} windows, about {}: {}; rounds that others disturb are taken again on top",
        plan.len(),
        estimate::shown(whole),
        by_scenario(&plan)
    );
    if options.plan_only {
        return Ok(suite.report);
    }
    for windows in plan.chunk_by(|_, next| next.window.beside) {
        suite.run_windows(windows, whole)?;
    }
    Ok(suite.report)
}

/// A window with what is left to be measured in it.
struct Planned<'a> {
    scenario: &'a Scenario,
    window: &'a Window,
    targets: Vec<Target>,
    /// Round and index of the target, in the order in which they are measured.
    rounds: Vec<(usize, usize)>,
}

impl Planned<'_> {
    fn duration(&self) -> Duration {
        estimate::duration(self.window) * self.rounds.len() as u32
    }
}

/// Window, round and index of the target: all of the first round before the second begins, whichever window they are of.
fn in_turn<'a, 'b>(windows: &'a [Planned<'b>]) -> Vec<(&'a Planned<'b>, usize, usize)> {
    let of_one = |planned: &'a Planned<'b>| {
        planned.rounds.iter().map(move |(round, target)| (planned, *round, *target))
    };
    let mut all: Vec<_> = windows.iter().flat_map(of_one).collect();
    all.sort_by_key(|(_, round, _)| *round);
    all
}

/// `small_rpc 8 min, syscalls 50 s`.
fn by_scenario(plan: &[Planned<'_>]) -> String {
    let of_one = |windows: &[Planned<'_>]| {
        let duration = windows.iter().map(Planned::duration).sum();
        format!("{} {}", windows[0].scenario.name, estimate::shown(duration))
    };
    let scenarios = plan.chunk_by(|a, b| a.scenario.name == b.scenario.name);
    scenarios.map(of_one).collect::<Vec<_>>().join(", ")
}

/// What the gateway says about itself, if it does.
fn version(bench: &Bench) -> Option<String> {
    let arguments = words(&["version", "--json"]);
    let asked = Spawned::start(&bench.program, "the gateway", bench.gateway.as_deref()?, &arguments).ok()?;
    asked.next_line(VERSION_MAX).ok()
}

struct Suite<'a> {
    options: &'a SuiteOptions,
    done: Done,
    journal: Journal,
    report: SuiteReport,
    begun: Instant,
    /// What was skipped and said so.
    said: HashSet<String>,
}

impl<'a> Suite<'a> {
    /// All windows in which something is left to be measured. What cannot take part is said to be skipped.
    fn plan(&mut self) -> Result<Vec<Planned<'a>>, Trouble> {
        let mut plan = Vec::new();
        let options = self.options;
        for scenario in &options.scenarios {
            for window in &scenario.windows {
                let targets = self.targets(scenario, window)?;
                let what = what(window);
                let rounds = |target: &Target| window.rounds(options.rounds, target.is_peer());
                let most = targets.iter().map(&rounds).max().unwrap_or(0);
                let all = (0..most).flat_map(|round| (0..targets.len()).map(move |target| (round, target)));
                let all = all.filter(|(round, target)| *round < rounds(&targets[*target]));
                let is_done = |(round, target): &(usize, usize)| {
                    let name = &targets[*target].name;
                    self.done.contains(&scenario.name, &window.name, &what, name, *round)
                };
                let (done, rounds): (Vec<_>, Vec<_>) = all.partition(is_done);
                self.report.resumed += done.len();
                if !rounds.is_empty() {
                    plan.push(Planned { scenario, window, targets, rounds });
                }
            }
        }
        Ok(plan)
    }

    /// Windows whose rounds are taken in turn: one, or those that are to be compared with each other.
    fn run_windows(&mut self, windows: &[Planned<'_>], whole: Duration) -> Result<(), Trouble> {
        for planned in windows {
            self.announce(planned, whole)?;
        }
        for (planned, round, target) in in_turn(windows) {
            let Planned { scenario, window, targets, .. } = planned;
            let target = &targets[target];
            if self.begun.elapsed() >= self.options.time_max {
                let what = format!("{} {} {}", scenario.name, window.name, target.name);
                self.skip(what, format!("{} s are over", self.options.time_max.as_secs()))?;
                continue;
            }
            self.take(scenario, window, target, round)?;
        }
        Ok(())
    }

    fn announce(&mut self, planned: &Planned<'_>, whole: Duration) -> Result<(), Trouble> {
        let Planned { scenario, window, targets, rounds } = planned;
        eprintln!(
            "[{} of about {}] {} {}: {}; {} measurements of {} targets, about {}",
            estimate::shown(self.begun.elapsed()),
            estimate::shown(whole),
            scenario.name,
            window.name,
            window.about,
            rounds.len(),
            targets.len(),
            estimate::shown(planned.duration())
        );
        self.journal.append(&Record::Window(WindowRecord {
            scenario: scenario.name.clone(),
            window: window.name.clone(),
            about: window.about.clone(),
            connections: window.what.connections(),
            what: what(window),
        }))
    }

    /// Those that can take part; the others are said to be skipped.
    fn targets(&mut self, scenario: &Scenario, window: &Window) -> Result<Vec<Target>, Trouble> {
        let parse = |names: &[String]| {
            let targets = names.iter().map(|name| Target::parse(name).map_err(Trouble::Asked));
            targets.collect::<Result<Vec<_>, _>>()
        };
        let mut all = match &window.targets {
            _ if !self.options.targets.is_empty() => self.options.targets.clone(),
            Some(names) => parse(names)?,
            None => parse(&scenario.targets)?,
        };
        if window.peers {
            all.extend(self.options.peers.iter().cloned());
        }
        let heartbeats = match &window.what {
            What::Load(load) => load.heartbeats || load.heartbeat_every.is_some(),
            _ => false,
        };
        let uncounted = match &window.what {
            What::Load(load) => load.counting.and_then(Counting::unavailable),
            _ => None,
        };
        let mut fit = Vec::new();
        for target in all {
            let no_gateway = target.is_gateway() && self.options.bench.gateway.is_none();
            let unfit = if no_gateway {
                Some("no program of the gateway: --gateway".to_owned())
            } else {
                uncounted.clone()
            };
            let connections = window.what.connections();
            match unfit.or_else(|| target.unfit(window.protocol, connections, window.processes, heartbeats)) {
                Some(why) => self.skip(format!("{} {} {}", scenario.name, window.name, target.name), why)?,
                None => fit.push(target),
            }
        }
        Ok(fit)
    }

    /// One round of one target: a disturbed or broken window is taken again, and the last attempt counts.
    fn take(
        &mut self,
        scenario: &Scenario,
        window: &Window,
        target: &Target,
        round: usize,
    ) -> Result<(), Trouble> {
        for attempt in 0..self.options.attempts_max {
            let (measured, trouble) = match window::measure(&self.options.bench, window, target) {
                Ok(measured) => (measured, None),
                Err(trouble @ (Trouble::Asked(_) | Trouble::Interrupted)) => return Err(trouble),
                Err(trouble) => (Measured::default(), Some(trouble.to_string())),
            };
            let again = measured.disturbed && attempt + 1 < self.options.attempts_max;
            if !again {
                self.report.measured += usize::from(measured.ok);
                self.report.broken += usize::from(!measured.ok);
                self.report.disturbed += usize::from(measured.disturbed && measured.ok);
            }
            let record = MeasuredRecord {
                scenario: scenario.name.clone(),
                window: window.name.clone(),
                target: target.name.clone(),
                round,
                attempt,
                disturbed: measured.disturbed,
                ok: measured.ok,
                trouble,
                processes: measured.processes,
                commands: measured.commands,
                counters: measured.counters,
                result: measured.result,
            };
            tell(&record, again);
            self.journal.append(&Record::Measured(record))?;
            if !again {
                break;
            }
        }
        Ok(())
    }

    fn skip(&mut self, what: String, why: String) -> Result<(), Trouble> {
        if !self.said.insert(what.clone()) {
            return Ok(());
        }
        eprintln!("skipped {what}: {why}");
        self.report.skipped += 1;
        self.journal.append(&Record::Skipped(SkippedRecord { what, why }))
    }
}

/// All that a window does.
fn what(window: &Window) -> String {
    let flags = &window.gateway_flags;
    format!("{:?} {:?} x {}, gateway {flags:?}", window.protocol, window.what, window.processes)
}

/// A line for people who watch.
fn tell(record: &MeasuredRecord, again: bool) {
    let what = if record.ok {
        window::headline(record.processes, &record.result)
    } else {
        format!("BROKEN: {}", record.why_broken())
    };
    let disturbed = match (record.disturbed, again) {
        (true, true) => " (disturbed: once more)",
        (true, false) => " (disturbed)",
        (false, _) => "",
    };
    let MeasuredRecord { scenario, window, target, round, .. } = record;
    eprintln!("{scenario} {window} {target} round {}: {what}{disturbed}", round + 1);
}

/// What is only planned leaves no trace in the results.
const NOWHERE: &str = "/dev/null";
const VERSION_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_windows_that_are_compared_are_taken_in_turn() {
        let skew = Scenario::find("skew").expect("it is there");
        let beside: Vec<_> = skew.windows.iter().map(|window| window.beside).collect();
        assert_eq!(beside, [false, true, false, true], "the goal compares the first two and the last two");
        let planned = |at: usize, rounds: &[(usize, usize)]| Planned {
            scenario: &skew,
            window: &skew.windows[at],
            targets: Vec::new(),
            rounds: rounds.to_vec(),
        };
        let windows = [planned(0, &[(0, 0), (0, 1), (1, 0)]), planned(1, &[(0, 0), (1, 0), (2, 0)])];
        let order = in_turn(&windows).into_iter();
        let order: Vec<_> =
            order.map(|(planned, round, target)| (&*planned.window.name, round, target)).collect();
        let even_then_skew =
            [("even", 0, 0), ("even", 0, 1), ("skew", 0, 0), ("even", 1, 0), ("skew", 1, 0), ("skew", 2, 0)];
        assert_eq!(order, even_then_skew);
    }
}
