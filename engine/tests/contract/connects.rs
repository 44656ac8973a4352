//! How long a connect may take, whatever its machine arms meanwhile: asked of the simulator alone, for no socket of the
//! loopback stays silent. The machines are their own, since a deadline that mail armed may come before the connection is open.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bowline_engine::machine::{Context, Freeze, Input, Machine, Open, OpenError};
use bowline_engine::sim::{Reach, Sim, SimOptions};
use bowline_engine::time::{TICK_MS, Time};

use crate::probe::{Log, Note, Probe, act};

/// What happened, and how long after the connect had begun.
type Seen = Arc<Mutex<Vec<(&'static str, u64)>>>;

/// A machine that is being connected: a number that it gets is when it wants to be called, zero never.
struct Dialed {
    seen: Seen,
    began: Time,
}

impl Dialed {
    fn note(&self, what: &'static str, now: Time) {
        self.seen.lock().expect("no test panics with it").push((what, now.ms_since(self.began)));
    }
}

impl Machine<Probe> for Dialed {
    fn on(&mut self, input: Input<'_, Probe>, context: &mut Context<'_, Probe>) {
        match input {
            Input::Opened => self.note("opened", context.now),
            Input::Failed(OpenError::TimedOut) => self.note("timed out", context.now),
            Input::Deadline => self.note("woke", context.now),
            Input::Mail { mail: Note::Number(0), .. } => context.set_deadline(None),
            Input::Mail { mail: Note::Number(ms), .. } => {
                context.set_deadline(Some(self.began.after_ms(ms)));
            }
            _ => self.note("something else", context.now),
        }
    }

    fn freeze(&self) -> Freeze {
        Freeze::NotYet { why: "it is not asked" }
    }
}

const CONNECT_MS_MAX: u64 = 1_000;

/// What a machine sees that is connected to somebody `reach` says all about, and that arms what `numbers` say.
fn dial(seed: u64, reach: Reach, numbers: &'static [u64]) -> Vec<(&'static str, u64)> {
    let seen = Seen::default();
    let target = SocketAddr::from(([10, 0, 0, 1], 1));
    let opener = Arc::clone(&seen);
    let app = Probe::new(&Arc::new(Log::default()), move |_| {
        let seen = Arc::clone(&opener);
        Some(act(move |input, context| {
            if matches!(input, Input::Opened) {
                let dialed = Box::new(Dialed { seen: Arc::clone(&seen), began: context.now });
                let opened = context.open(Open::new(target, CONNECT_MS_MAX), dialed);
                let dialed = opened.unwrap_or_else(|_| panic!("there is room"));
                numbers.iter().for_each(|number| context.send(dialed, Note::Number(*number)));
            }
        }))
    });
    let mut sim = Sim::new(app, SimOptions { seed, workers: 3, ..SimOptions::default() });
    sim.set_reach(target, reach);
    sim.connect(0, SocketAddr::from(([10, 0, 0, 9], 4_000)));
    sim.advance(3 * CONNECT_MS_MAX);
    let seen = seen.lock().expect("no test panics with it");
    seen.clone()
}

/// Whether it came in that order, each at its time and at most two ticks later.
fn is_as(seen: &[(&'static str, u64)], expected: &[(&'static str, u64)]) -> bool {
    let same = |((what, at), (wanted, due)): (&(&str, u64), &(&str, u64))| {
        what == wanted && (*due..=*due + 2 * TICK_MS).contains(at)
    };
    seen.len() == expected.len() && seen.iter().zip(expected).all(same)
}

#[test]
fn a_connect_ends_in_its_time_whatever_its_machine_arms() {
    let cases: [(&[u64], &[(&str, u64)]); 6] = [
        (&[], &[("timed out", 1_000)]),
        (&[5_000], &[("timed out", 1_000)]),
        (&[400], &[("woke", 400), ("timed out", 1_000)]),
        (&[400, 0], &[("timed out", 1_000)]),
        (&[0], &[("timed out", 1_000)]),
        (&[400, 700], &[("woke", 700), ("timed out", 1_000)]),
    ];
    for (seed, (numbers, expected)) in (0..20).flat_map(|seed| cases.map(|case| (seed, case))) {
        let seen = dial(seed, Reach::Silent, numbers);
        assert!(is_as(&seen, expected), "seed {seed}, {numbers:?}: {seen:?} instead of {expected:?}");
    }
}

#[test]
fn the_time_of_a_connect_is_over_once_it_is_established_and_what_the_machine_armed_is_not() {
    let cases: [(&[u64], &[(&str, u64)]); 3] = [
        (&[], &[("opened", 0)]),
        (&[400], &[("opened", 0), ("woke", 400)]),
        (&[2_000], &[("opened", 0), ("woke", 2_000)]),
    ];
    for (seed, (numbers, expected)) in (0..20).flat_map(|seed| cases.map(|case| (seed, case))) {
        let seen = dial(seed, Reach::Accepts, numbers);
        assert!(is_as(&seen, expected), "seed {seed}, {numbers:?}: {seen:?} instead of {expected:?}");
    }
}
