//! `bowline run`: from what was said to a process that serves, and from its first signal to its end. The main thread
//! steers: it waits for signals and carries out the course; everything else has its own threads, fixed at start.
//!
//! Every end that was asked for is a success, also one that cut connections off: the operator wanted it. Only the
//! program's `main` calls it.

mod signals;
mod course;
mod ready;
mod output;
mod warn;
mod names;
mod listing;
mod samples;
mod start;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use crate::admin::Readiness;
use crate::config::fault::Faults;
use crate::config::load;
use crate::config::machine::Machine;
use crate::config::machine::raise_descriptor_limit;
use crate::config::plan::Plan;
use crate::doctor::facts::Facts;
use crate::doctor::subject::Grade;
use crate::error::EXIT_CONFIG;
use crate::error::EXIT_FAILURE;
use crate::logging;
use crate::mail::Mail;

use course::Action;
use course::Course;
use course::Open;
use course::Why;
use signals::Signal;
use signals::Signals;
use start::Running;

/// Why the process could not serve.
#[derive(Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The status it ends with.
    pub code: u8,
    /// What is said on standard error.
    pub message: String,
}

impl Trouble {
    /// The world did not let it.
    fn failure(message: String) -> Trouble {
        Trouble { code: EXIT_FAILURE, message }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Trouble {}

impl From<Faults> for Trouble {
    fn from(faults: Faults) -> Trouble {
        Trouble { code: EXIT_CONFIG, message: faults.to_string() }
    }
}

/// Serves until a signal ends it. `said` are the flags with their values.
pub fn run(said: &[(&'static str, String)], environment: &BTreeMap<String, String>) -> Result<(), Trouble> {
    // Before any thread starts, so that all inherit the mask.
    let signals =
        Signals::block().map_err(|error| Trouble::failure(format!("cannot read signals: {error}")))?;
    let plan = load::plan(said, environment, &Machine::read())?;
    let raised = raise_descriptor_limit();
    let logging = logging::start(&plan.log)
        .map_err(|error| Trouble::failure(format!("cannot write the log: {error}")))?;
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of descriptors could not be raised");
    }
    say_limits(&plan);
    let running = Running::start(plan, logging.dropped.clone())?;
    let why = serve(&running, &signals)?;
    tracing::info!(why = why.name(), clients = running.gateway.downstreams(), "ending");
    signals.release();
    drop(running);
    tracing::info!("ended");
    Ok(())
}

/// Names the limits that will be in the way.
fn say_limits(plan: &Plan) {
    for finding in warn::findings(plan, Facts::read(Path::new("/"))) {
        let limit = finding.subject.name();
        match finding.grade {
            Grade::Warn => tracing::warn!(limit, "{}", finding.line()),
            _ => tracing::info!(limit, "{}", finding.line()),
        }
    }
}

/// From the last preparation to the reason to end.
fn serve(running: &Running, signals: &Signals) -> Result<Why, Trouble> {
    let lost = |error: io::Error| Trouble::failure(format!("signals can no longer be read: {error}"));
    if await_names(running, signals).map_err(lost)? {
        return Ok(Why::AtOnce);
    }
    running.set_readiness(Readiness::Ready);
    announce(running);
    steer(running, signals).map_err(lost)
}

/// Gives names a first try, so that the first request finds their endpoints. True if the process is to end meanwhile.
fn await_names(running: &Running, signals: &Signals) -> io::Result<bool> {
    let end = Instant::now() + NAMES_PATIENCE;
    while !running.has_tried_names() && Instant::now() < end {
        match signals.wait(Some(NAMES_PAUSE))? {
            Some(Signal::Terminate | Signal::Interrupt) => return Ok(true),
            Some(Signal::HangUp) => say_unsupported(),
            None => {}
        }
    }
    Ok(false)
}

/// How long names may take before the process is ready without them.
const NAMES_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at whether they were tried.
const NAMES_PAUSE: Duration = Duration::from_millis(5);

/// Says where everything is: to programs on standard output, to people in the log.
fn announce(running: &Running) {
    let (plan, addresses) = (&*running.plan, running.addresses());
    for (listener, address) in plan.listeners.iter().zip(addresses) {
        tracing::info!(listener = listener.name, %address, "listening");
    }
    let line = ready::line(plan, addresses, running.admin());
    // Whoever wanted to know may be gone or asleep; those who are served are not.
    if let Err(error) = output::say(io::stdout().as_fd(), &line) {
        tracing::warn!(%error, "the ready line could not be written");
    }
    match &ready::first_calls(plan, addresses)[..] {
        [] => tracing::info!("ready"),
        calls => tracing::info!("ready; send a first request with: {}", calls.join(", or: ")),
    }
}

/// Waits for signals, and lets the course decide.
fn steer(running: &Running, signals: &Signals) -> io::Result<Why> {
    let handle = running.handle();
    let mut course = Course::new(running.plan.drain);
    loop {
        let pause = course.pause_ms(handle.now()).map(Duration::from_millis);
        let signal = signals.wait(pause)?;
        let now = handle.now();
        if let Some(signal) = signal {
            tracing::info!(?signal, "told by a signal");
        }
        let mut actions = signal.map_or(Vec::new(), |signal| course.on_signal(signal, now));
        actions.extend(course.on_tick(now, open(running)));
        for action in actions {
            if let Some(why) = carry_out(action, running) {
                return Ok(why);
            }
        }
    }
}

fn open(running: &Running) -> Open {
    let clients = running.gateway.downstreams();
    let all = usize::try_from(running.handle().stats().connections).unwrap_or(usize::MAX);
    Open { clients, others: all.saturating_sub(clients) }
}

/// Does what the course says; a reason if that is the end.
fn carry_out(action: Action, running: &Running) -> Option<Why> {
    let clients = running.gateway.downstreams();
    let drain = &running.plan.drain;
    match action {
        Action::SayUnsupported => say_unsupported(),
        Action::Unready { delay_ms } => {
            running.set_readiness(Readiness::Draining);
            tracing::info!(clients, delay_ms, "not ready any more");
        }
        Action::TellAll(deadline) => {
            running.gateway.begin_drain(deadline);
            running.handle().post_each(|_| Some(Mail::Drain { deadline }));
            tracing::info!(
                clients,
                deadline_ms = drain.deadline_ms,
                "draining; connections end at quiet points"
            );
        }
        Action::StopAccepting => {
            let listeners = u16::try_from(running.plan.listeners.len()).unwrap_or(u16::MAX);
            (0..listeners).for_each(|listener| running.handle().stop_accepting(listener));
            tracing::info!(clients, listeners, "accepting has stopped");
        }
        Action::TellRest(deadline) => {
            let is_upstream = |info: &bowline_engine::engine::ConnectionInfo| info.listener.is_none();
            running.handle().post_each(|info| is_upstream(info).then_some(Mail::Drain { deadline }));
            tracing::info!(upstreams = open(running).others, "no client is left");
        }
        Action::End(why) => return Some(why),
    }
    None
}

fn say_unsupported() {
    tracing::warn!("SIGHUP is not supported yet; nothing was reloaded");
}
