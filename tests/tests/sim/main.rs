//! The gateway proved by simulation: seeded worlds of clients, gateway and servers in which everything goes wrong that
//! can, judged by an oracle. `SIM_SEEDS=n` runs that many worlds, `SIM_SEED=n` replays one and prints its trace.

mod dice;
mod oracle;
mod workload;
mod world;

use workload::Scenario;
use world::World;

/// Worlds of an ordinary run.
const SEEDS: u64 = 300;

/// Runs the world of a seed; what may not be, and the number of its trace.
fn run(seed: u64, is_shown: bool) -> (Vec<String>, u64) {
    let scenario = Scenario::of(seed, is_shown);
    if is_shown {
        println!("{scenario}");
    }
    let (sim, findings) = World::new(scenario).run();
    for line in sim.trace_text() {
        println!("{line}");
    }
    (findings, sim.trace_digest())
}

/// Runs the world of a seed and fails over what the oracle found, with the command that shows it again.
fn prove(seed: u64, is_shown: bool) {
    let replay = format!("SIM_SEED={seed} cargo test -p bowline-tests --test sim -- --nocapture any_world");
    let result = std::panic::catch_unwind(|| run(seed, is_shown));
    let findings = match result {
        Ok((findings, _)) => findings,
        Err(_) => vec!["the world itself broke, see above".to_owned()],
    };
    assert!(findings.is_empty(), "seed {seed}:\n  {}\nreplay it with\n  {replay}", findings.join("\n  "));
}

fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is no number")))
}

#[test]
fn every_request_is_answered_exactly_once_in_any_world() {
    if let Some(seed) = number_of("SIM_SEED") {
        return prove(seed, true);
    }
    let seeds = number_of("SIM_SEEDS").unwrap_or(SEEDS);
    (0..seeds).for_each(|seed| prove(seed, false));
}

#[test]
fn one_seed_gives_one_trace() {
    let traces: Vec<u64> = (0..20).map(|seed| run(seed, false).1).collect();
    let again: Vec<u64> = (0..20).map(|seed| run(seed, false).1).collect();
    assert_eq!(traces, again);
    assert!(traces.windows(2).all(|pair| pair[0] != pair[1]), "seeds differ");
}
