//! The contract between machines and drivers, rule by rule, against every driver.
//!
//! `rules` and `handover` have the tests, which see only a [`stage::Stage`]; `frozen` has rules 8 and 9, `connects` the time
//! of a connect: what only the simulator can be asked, since no driver of real sockets freezes a machine, has a seed or a
//! peer that never answers. What no driver may ever do (a call within a call, time that goes back, a call after the last
//! input) is noticed by `probe` in every test.

mod connects;
mod frozen;
mod handover;
mod probe;
mod rules;
mod stage;

use std::sync::Arc;

use bowline_engine::options::{Dispatch, Mode, Options, Rebalance};

use probe::{Act, Log, Probe};
use stage::{Real, Simulated, Stage};

/// The drivers on real sockets that exist. Every rule runs on each.
const REAL_MODES: [Mode; 3] = [Mode::Raw(Dispatch::Help), Mode::Raw(Dispatch::Handoff), Mode::Tokio];

/// Seeds that every rule is run with in the simulator.
const SEEDS: u64 = 50;

/// Plays `play` with fresh machines on every driver.
fn each_driver(
    accept: impl Fn(&Arc<Log>, u16) -> Option<Act> + Clone + Send + Sync + 'static,
    play: impl Fn(&mut dyn Stage, &Arc<Probe>),
) {
    let fresh = || {
        let log = Arc::new(Log::default());
        let (accept, own) = (accept.clone(), Arc::clone(&log));
        Probe::new(&log, move |listener| accept(&own, listener))
    };
    for seed in 0..SEEDS {
        let app = fresh();
        play(&mut Simulated::new(Arc::clone(&app), seed), &app);
        expect_nothing_forbidden(&app, &format!("simulator, seed {seed}"));
    }
    for mode in REAL_MODES {
        for rebalance in [Rebalance::On, Rebalance::EveryTurn] {
            let app = fresh();
            let options = Options { mode, rebalance, connections_max: 256, ..Options::default() };
            play(&mut Real::new(Arc::clone(&app), options), &app);
            expect_nothing_forbidden(&app, &format!("{mode:?}, {rebalance:?}"));
        }
    }
}

fn expect_nothing_forbidden(app: &Probe, driver: &str) {
    let lines = app.log.lines();
    assert!(!lines.iter().any(|line| line.starts_with("FORBIDDEN")), "{driver}: {lines:#?}");
}
