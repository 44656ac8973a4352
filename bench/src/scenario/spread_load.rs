//! Owns a load run as a whole: in this process when its descriptors suffice, else in several that begin together. Those are
//! started anew with the same arguments, never forked from a running poll. Samples CPU at the marks and draws the report.

use std::ffi::OsString;
use std::io;
use std::io::BufRead;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::host;
use crate::load;
use crate::load::LoadOptions;
use crate::load::Marks;
use crate::load::Outcome;
use crate::pace::Share;
use crate::report::Asked;
use crate::report::LoadReport;
use crate::report::Mark;
use crate::report::Watch;
use crate::scenario::count::Begun;
use crate::scenario::count::Counting;
use crate::spawn::Spawned;
use crate::trouble::Trouble;

/// A load run.
#[derive(Clone, Debug)]
pub struct SpreadOptions {
    /// What is sent; the numbers of its connections are those of the whole run.
    pub load: LoadOptions,
    /// Processes whose CPU is watched.
    pub pids: Vec<u32>,
    /// How many processes; as few as descriptors allow when `None`.
    pub processes: Option<usize>,
    /// The CPU of all of them.
    pub pin: Option<usize>,
    /// Counts something of the first watched process, instead of its CPU.
    pub counting: Option<Counting>,
}

/// Runs it. `arguments` are those of this process, which more of its kind are started with.
pub fn run(bench: &Path, arguments: &[OsString], options: &SpreadOptions) -> Result<LoadReport, Trouble> {
    let connections = options.load.fleet.numbers.len();
    let per_process = host::raise_descriptor_limit()?.saturating_sub(DESCRIPTORS_SPARE).max(1) as usize;
    let needed = connections.div_ceil(per_process).max(1);
    let processes = options.processes.unwrap_or(needed).min(connections.max(1));
    if processes < needed || processes > PROCESSES_MAX {
        return Err(Trouble::Asked(format!(
            "--processes {processes}: {connections} connections need at least {needed}, and at most {PROCESSES_MAX} are started"
        )));
    }
    if let (Some(counting), true) = (options.counting, processes > 1 || options.pids.is_empty()) {
        let flag = counting.flag();
        return Err(Trouble::Asked(format!("{flag} needs --pid, and one process of the load generator")));
    }
    let (outcome, [begin, end], syscalls) = if processes == 1 {
        run_here(bench, options)?
    } else {
        let (outcome, marks) = run_apart(bench, arguments, options, processes)?;
        (outcome, marks, None)
    };
    let asked = Asked {
        connections,
        processes,
        requests: options.load.requests,
        bytes: options.load.shape.content_bytes,
    };
    let mut report = LoadReport::new(asked, &outcome, &begin, &end);
    report.syscalls_per_request =
        syscalls.map(|count| count as f64 / (outcome.answered_in_window as f64).max(1.0));
    Ok(report)
}

fn run_here(bench: &Path, options: &SpreadOptions) -> Result<(Outcome, [Mark; 2], Option<u64>), Trouble> {
    if let Some(core) = options.pin {
        host::pin(core)?;
    }
    let mut marks = Sampler {
        watch: Watch::new(&options.pids)?,
        marks: Vec::new(),
        counting: options.counting.zip(options.pids.first().copied()),
        bench,
        begun: None,
        syscalls: None,
    };
    let outcome = load::run(&options.load, &mut marks)?;
    let syscalls = marks.syscalls;
    let marks =
        <[Mark; 2]>::try_from(marks.marks).map_err(|_| Trouble::Broken("a load run has two marks".into()))?;
    Ok((outcome, marks, syscalls))
}

/// Samples at both marks.
struct Sampler<'a> {
    watch: Watch,
    marks: Vec<Mark>,
    /// What is counted of which process.
    counting: Option<(Counting, u32)>,
    bench: &'a Path,
    begun: Option<Begun>,
    syscalls: Option<u64>,
}

impl Marks for Sampler<'_> {
    fn on_connected(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn on_begin(&mut self) -> Result<(), Trouble> {
        self.begun = self.counting.map(|(counting, pid)| counting.begin(self.bench, pid)).transpose()?;
        self.marks.push(self.watch.mark()?);
        Ok(())
    }

    fn on_end(&mut self) -> Result<(), Trouble> {
        self.marks.push(self.watch.last_mark()?);
        self.syscalls = self.begun.take().map(Begun::finish).transpose()?.flatten();
        Ok(())
    }
}

fn run_apart(
    bench: &Path,
    arguments: &[OsString],
    options: &SpreadOptions,
    processes: usize,
) -> Result<(Outcome, [Mark; 2]), Trouble> {
    let mut workers = Vec::new();
    for index in 0..processes {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--worker".into(), format!("{index}/{processes}").into()]);
        workers.push(Spawned::start(bench, &format!("load generator {index}"), bench, &arguments)?);
    }
    for worker in &workers {
        worker.next_line(CONNECTED_MAX)?;
    }
    let watch = Watch::new(&options.pids)?;
    for worker in &mut workers {
        worker.tell(GO)?;
    }
    thread::sleep(options.load.warmup);
    let begin = watch.mark()?;
    thread::sleep(options.load.duration);
    let end = watch.last_mark()?;
    let mut whole = Outcome::default();
    for worker in &workers {
        let line = worker.next_line(options.load.grace + RESULT_MAX)?;
        let outcome: Outcome = serde_json::from_str(&line)
            .map_err(|error| Trouble::Broken(format!("a load generator's result ({error}): {line}")))?;
        whole.add(&outcome);
    }
    Ok((whole, [begin, end]))
}

/// The part of one process, when it was started by another one. Prints its outcome.
pub fn run_worker(options: &SpreadOptions, share: Share) -> Result<(), Trouble> {
    host::raise_descriptor_limit()?;
    if let Some(core) = options.pin {
        host::pin(core)?;
    }
    let mut load = options.load.clone();
    let numbers = &options.load.fleet.numbers;
    let part = share.range(numbers.len());
    load.fleet.numbers = numbers.start + part.start..numbers.start + part.end;
    load.share = share;
    let outcome = load::run(&load, &mut Told)?;
    println!("{}", json!(outcome));
    Ok(())
}

/// Begins when told to.
struct Told;

impl Marks for Told {
    fn on_connected(&mut self) -> Result<(), Trouble> {
        println!("connected");
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(Trouble::doing("waiting for the word to begin"))?;
        if line.trim() == GO { Ok(()) } else { Err(Trouble::Broken("the run was given up".into())) }
    }

    fn on_begin(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn on_end(&mut self) -> Result<(), Trouble> {
        Ok(())
    }
}

const GO: &str = "go";
const DESCRIPTORS_SPARE: u64 = 64;
const PROCESSES_MAX: usize = 64;
const CONNECTED_MAX: Duration = Duration::from_secs(120);
const RESULT_MAX: Duration = Duration::from_secs(30);
