//! The gateway proved by simulation: seeded worlds of clients, gateway and servers in which everything goes wrong that
//! can, judged by an oracle. `SIM_SEEDS=n` runs that many worlds, `SIM_SEED=n` replays one and prints its trace.

mod dice;
mod http;
mod oracle;
mod workload;
mod world;

use std::collections::BTreeMap;

use bowline_gateway::error::Failure;
use bowline_gateway::metrics::Count;

use workload::Scenario;
use world::{Outcome, World};

/// Worlds of an ordinary run.
const SEEDS: u64 = 300;

/// Runs the world of a seed.
fn run(seed: u64, is_shown: bool) -> Outcome {
    let scenario = Scenario::of(seed, is_shown);
    if is_shown {
        println!("{scenario}");
    }
    let outcome = World::new(scenario).run();
    for line in outcome.sim.trace_text() {
        println!("{line}");
    }
    outcome
}

/// Runs the world of a seed and fails over what the oracle found, with the command that shows it again.
fn prove(seed: u64, is_shown: bool) -> Outcome {
    let replay = format!("SIM_SEED={seed} cargo test -p bowline-tests --test sim -- --nocapture any_world");
    let result = std::panic::catch_unwind(|| run(seed, is_shown));
    let Ok(outcome) = result else { panic!("the world of seed {seed} broke; replay it with\n  {replay}") };
    let findings = outcome.findings.join("\n  ");
    assert!(findings.is_empty(), "seed {seed}:\n  {findings}\nreplay it with\n  {replay}");
    outcome
}

fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is no number")))
}

/// What happened in many worlds together.
#[derive(Default)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        let (stats, counters) = (outcome.sim.stats(), &outcome.counters);
        let failures = FAILURES.iter().map(|failure| (failure.to_string(), counters.failures(*failure)));
        let counts = COUNTS.iter().map(|count| (count.to_string(), counters.total(*count)));
        let engine = [
            ("bounces", stats.bounces),
            ("orphans", stats.orphans),
            ("freezes", stats.freezes),
            ("moves", stats.moves),
        ];
        let engine = engine.map(|(name, count)| (name.to_owned(), count));
        for (name, count) in failures.chain(counts).chain(engine) {
            *self.0.entry(name).or_default() += count;
        }
    }
}

/// Every failure that worlds without policies and broken frames can have.
const FAILURES: [Failure; 7] = [
    Failure::NoEndpoint,
    Failure::ConnectFailed,
    Failure::UpstreamLost,
    Failure::Timeout,
    Failure::Overflow,
    Failure::CallbackOnShared,
    Failure::CallbackLost,
];

/// What else worlds must reach.
const COUNTS: [Count; 9] = [
    Count::Retries,
    Count::RequestsOneway,
    Count::Responses,
    Count::Callbacks,
    Count::LateReplies,
    Count::HeartbeatsAnswered,
    Count::HeartbeatsSent,
    Count::GoawaysReceived,
    Count::GoawaysSent,
];

#[test]
fn every_request_is_answered_exactly_once_in_any_world() {
    if let Some(seed) = number_of("SIM_SEED") {
        return drop(prove(seed, true));
    }
    let seeds = number_of("SIM_SEEDS").unwrap_or(SEEDS);
    let mut tally = Tally::default();
    (0..seeds).for_each(|seed| tally.add(&prove(seed, false)));
    if seeds >= SEEDS {
        let missed: Vec<_> = tally.0.iter().filter(|(_, count)| **count == 0).collect();
        assert!(missed.is_empty(), "no world reached {missed:?}");
    }
}

/// Runs the world of HTTP of a seed and fails over what was found, with the command that shows it again.
fn prove_http(seed: u64, is_shown: bool) -> http::Outcome {
    let replay = format!("SIM_SEED={seed} cargo test -p bowline-tests --test sim -- --nocapture http_world");
    let result = std::panic::catch_unwind(|| http::run(seed, is_shown));
    let Ok(outcome) = result else { panic!("the world of seed {seed} broke; replay it with\n  {replay}") };
    outcome.trace.iter().for_each(|line| println!("{line}"));
    let findings = outcome.findings.join("\n  ");
    assert!(findings.is_empty(), "seed {seed}:\n  {findings}\nreplay it with\n  {replay}");
    outcome
}

#[test]
fn every_request_of_http_is_answered_once_by_its_own_answer_in_any_http_world() {
    if let Some(seed) = number_of("SIM_SEED") {
        return drop(prove_http(seed, true));
    }
    let seeds = number_of("SIM_SEEDS").unwrap_or(SEEDS);
    let mut totals = [0; 5];
    for seed in 0..seeds {
        let counters = prove_http(seed, false).counters;
        let counts = [Count::Responses, Count::Retries, Count::Tunnels, Count::WebsocketClosesSent];
        let counts = counts.map(|count| counters.total(count));
        let timeouts = counters.failures(Failure::Timeout);
        for (total, count) in totals.iter_mut().zip(counts.into_iter().chain([timeouts])) {
            *total += count;
        }
    }
    assert!(seeds < SEEDS || totals.iter().all(|total| *total > 0), "no world reached all: {totals:?}");
}

#[test]
fn one_seed_of_http_gives_one_trace() {
    let traces = || (0..10).map(|seed| http::run(seed, false).digest).collect::<Vec<_>>();
    assert_eq!(traces(), traces());
}

#[test]
fn one_seed_gives_one_trace() {
    let trace = |seed| run(seed, false).sim.trace_digest();
    let traces: Vec<u64> = (0..20).map(trace).collect();
    assert_eq!(traces, (0..20).map(trace).collect::<Vec<_>>());
    assert!(traces.windows(2).all(|pair| pair[0] != pair[1]), "seeds differ");
}

/// An upstream connection that a request opened while the gateway drained was told of no drain and stayed for ever.
#[test]
fn an_upstream_opened_during_the_drain_ends_with_it() {
    prove(8, false);
}

/// A client that had said its last word was kept until the deadline of a server's call that it could no longer answer.
#[test]
fn a_call_that_its_client_can_no_longer_answer_keeps_nobody() {
    prove(3_065, false);
}

/// The answer came at the moment at which its request had timed out. Its connection was idle again, the next request of the
/// same client took it, and the late answer was taken for that of the next request.
#[test]
fn a_late_answer_is_not_taken_for_that_of_the_next_request() {
    prove_http(643, false);
}
