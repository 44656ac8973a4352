//! The course of a running process from its first signal to its end, as a state machine: signals and counts go in,
//! actions come out. It reads no clock and touches nothing, so every way to end is tested without a socket. The main
//! loop of the run calls it and carries out what it says.

use bowline_engine::time::Time;

use crate::config::plan::DrainPlan;

use super::signals::Signal;

/// What the main loop does for the course, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// SIGHUP came, which nothing follows yet.
    SayUnsupported,
    /// Says that no new connections should be sent here; accepting goes on for the delay, if there is one.
    Unready { delay_ms: Option<u64> },
    /// Tells every connection that it has to end by this moment.
    TellAll(Time),
    /// Closes the listeners of clients.
    StopAccepting,
    /// No client is left: tells those upstream connections that have not heard of the drain.
    TellRest(Time),
    /// Ends the process, whatever is left.
    End(Why),
}

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Everything has ended by itself.
    Drained,
    /// The drain deadline came.
    Deadline,
    /// Somebody did not want to wait.
    AtOnce,
}

impl Why {
    /// As the log says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Why::Drained => "drained",
            Why::Deadline => "drain_deadline",
            Why::AtOnce => "at_once",
        }
    }
}

/// Open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Of clients.
    pub(super) clients: usize,
    /// To upstream endpoints, and of the embedded upstream.
    pub(super) others: usize,
}

/// Where the process is on its way.
///
/// ```text
/// Serving ──SIGTERM──▶ Delaying ──delay over──▶ Draining ──no client left──▶ Parting ──all gone, or grace over──▶ ended
///    │                    │                        ├──deadline and grace over─────────────────────────────────────▲
///    └──SIGINT────────────┴──any second signal─────┴──any second signal───────────────────────────────────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Course {
    plan: DrainPlan,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Serving,
    Delaying { until: Time },
    Draining { deadline: Time },
    Parting { until: Time },
    Ended,
}

impl Course {
    /// The course of a process that has just begun to serve.
    pub(super) fn new(plan: DrainPlan) -> Course {
        Course { plan, phase: Phase::Serving }
    }

    /// A signal came.
    pub(super) fn on_signal(&mut self, signal: Signal, now: Time) -> Vec<Action> {
        match (signal, self.phase) {
            (_, Phase::Ended) => Vec::new(),
            (Signal::HangUp, _) => vec![Action::SayUnsupported],
            (Signal::Terminate, Phase::Serving) => {
                let delay_ms = self.plan.delay_ms;
                self.phase = Phase::Delaying { until: now.after_ms(delay_ms) };
                vec![Action::Unready { delay_ms: Some(delay_ms) }]
            }
            (Signal::Interrupt, Phase::Serving) => {
                vec![Action::Unready { delay_ms: None }, Action::StopAccepting, self.end(Why::AtOnce)]
            }
            (Signal::Interrupt | Signal::Terminate, Phase::Delaying { .. }) => {
                vec![Action::StopAccepting, self.end(Why::AtOnce)]
            }
            (Signal::Interrupt | Signal::Terminate, _) => vec![self.end(Why::AtOnce)],
        }
    }

    /// Time has passed, or connections have ended.
    pub(super) fn on_tick(&mut self, now: Time, open: Open) -> Vec<Action> {
        match self.phase {
            Phase::Delaying { until } if until <= now => {
                let deadline = now.after_ms(self.plan.deadline_ms);
                self.phase = Phase::Draining { deadline };
                // Told first: whoever is accepted in between learns the deadline when it opens.
                vec![Action::TellAll(deadline), Action::StopAccepting]
            }
            Phase::Draining { deadline } if open.clients == 0 => {
                self.phase = Phase::Parting { until: now.after_ms(GRACE_MS) };
                vec![Action::TellRest(deadline)]
            }
            Phase::Draining { deadline } if deadline.after_ms(GRACE_MS) <= now => {
                vec![self.end(Why::Deadline)]
            }
            Phase::Parting { until } if open.others == 0 || until <= now => vec![self.end(Why::Drained)],
            _ => Vec::new(),
        }
    }

    /// How long the main loop may wait for a signal before the next tick; without a bound if nothing says so.
    pub(super) fn pause_ms(&self, now: Time) -> Option<u64> {
        match self.phase {
            Phase::Serving => None,
            Phase::Delaying { until } => Some(until.ms_since(now)),
            Phase::Draining { .. } | Phase::Parting { .. } => Some(TICK_MS),
            Phase::Ended => Some(0),
        }
    }

    fn end(&mut self, why: Why) -> Action {
        self.phase = Phase::Ended;
        Action::End(why)
    }
}

/// Connections close themselves at the deadline; this is what their last bytes may take.
const GRACE_MS: u64 = 1_000;
/// How often a drain looks at what is left.
const TICK_MS: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Open = Open { clients: 5, others: 2 };
    const CLIENTS_GONE: Open = Open { clients: 0, others: 2 };
    const EMPTY: Open = Open { clients: 0, others: 0 };

    fn at(ms: u64) -> Time {
        Time::from_ms(ms)
    }

    fn course() -> Course {
        Course::new(DrainPlan { delay_ms: 3_000, deadline_ms: 30_000 })
    }

    /// A course that got SIGTERM at 1,000 and whose delay is over at 4,000.
    fn draining() -> Course {
        let mut course = course();
        assert_eq!(
            course.on_signal(Signal::Terminate, at(1_000)),
            [Action::Unready { delay_ms: Some(3_000) }]
        );
        assert_eq!(course.on_tick(at(4_000), FULL), [Action::TellAll(at(34_000)), Action::StopAccepting]);
        course
    }

    #[test]
    fn while_it_serves_nothing_happens_by_itself() {
        let mut course = course();
        assert_eq!(course.pause_ms(at(0)), None);
        assert_eq!(course.on_tick(at(1_000_000), EMPTY), []);
    }

    #[test]
    fn accepting_goes_on_for_the_delay() {
        let mut course = course();
        course.on_signal(Signal::Terminate, at(1_000));
        assert_eq!(course.pause_ms(at(1_500)), Some(2_500));
        assert_eq!(course.on_tick(at(3_999), EMPTY), [], "even with nobody there: balancers must notice");
        assert_eq!(course.on_tick(at(4_000), EMPTY), [Action::TellAll(at(34_000)), Action::StopAccepting]);
    }

    #[test]
    fn it_ends_when_the_last_client_and_then_the_last_upstream_is_gone() {
        let mut course = draining();
        assert_eq!(course.on_tick(at(5_000), FULL), []);
        assert_eq!(course.on_tick(at(6_000), CLIENTS_GONE), [Action::TellRest(at(34_000))]);
        assert_eq!(course.on_tick(at(6_020), CLIENTS_GONE), []);
        assert_eq!(course.on_tick(at(6_040), EMPTY), [Action::End(Why::Drained)]);
        assert_eq!(course.on_tick(at(6_060), EMPTY), [], "it ends once");
    }

    #[test]
    fn upstreams_that_stay_are_not_waited_for_beyond_the_grace() {
        let mut course = draining();
        course.on_tick(at(6_000), CLIENTS_GONE);
        assert_eq!(course.on_tick(at(6_999), CLIENTS_GONE), []);
        assert_eq!(course.on_tick(at(7_000), CLIENTS_GONE), [Action::End(Why::Drained)]);
    }

    #[test]
    fn the_deadline_ends_it_with_clients_left_after_a_grace() {
        let mut course = draining();
        assert_eq!(course.on_tick(at(34_500), FULL), [], "connections are closing");
        assert_eq!(course.on_tick(at(35_000), FULL), [Action::End(Why::Deadline)]);
    }

    #[test]
    fn an_interrupt_does_not_wait() {
        assert_eq!(
            course().on_signal(Signal::Interrupt, at(5)),
            [Action::Unready { delay_ms: None }, Action::StopAccepting, Action::End(Why::AtOnce)]
        );
    }

    #[test]
    fn a_second_signal_ends_every_phase_at_once() {
        for second in [Signal::Terminate, Signal::Interrupt] {
            let mut delaying = course();
            delaying.on_signal(Signal::Terminate, at(1_000));
            let actions = delaying.on_signal(second, at(1_001));
            assert_eq!(actions, [Action::StopAccepting, Action::End(Why::AtOnce)]);
            assert_eq!(draining().on_signal(second, at(5_000)), [Action::End(Why::AtOnce)]);
            let mut parting = draining();
            parting.on_tick(at(5_000), CLIENTS_GONE);
            assert_eq!(parting.on_signal(second, at(5_001)), [Action::End(Why::AtOnce)]);
            assert_eq!(parting.on_signal(second, at(5_002)), [], "it has ended");
        }
    }

    #[test]
    fn a_hangup_changes_nothing() {
        let mut course = draining();
        assert_eq!(course.on_signal(Signal::HangUp, at(5_000)), [Action::SayUnsupported]);
        assert_eq!(course.on_tick(at(35_000), FULL), [Action::End(Why::Deadline)]);
    }

    #[test]
    fn without_delay_and_deadline_a_drain_is_short() {
        let mut course = Course::new(DrainPlan { delay_ms: 0, deadline_ms: 0 });
        course.on_signal(Signal::Terminate, at(7));
        assert_eq!(course.pause_ms(at(7)), Some(0));
        assert_eq!(course.on_tick(at(7), FULL), [Action::TellAll(at(7)), Action::StopAccepting]);
        assert_eq!(course.on_tick(at(1_007), FULL), [Action::End(Why::Deadline)]);
    }
}
