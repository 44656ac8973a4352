//! Owns what the project has set itself, as arithmetic on figures: each goal compares one figure with a number, or with a
//! figure of the same results. Says reached, missed, or not measured; never rounds in its own favour.

use crate::results::figures::Figures;
use crate::results::figures::Metric;
use crate::stats::Spread;

/// A figure in the results.
#[derive(Clone, Copy, Debug)]
struct Of {
    scenario: &'static str,
    window: &'static str,
    /// The best of these.
    targets: &'static [&'static str],
    metric: Metric,
}

/// What a figure must not exceed.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Number(f64),
    /// So many times another figure.
    Times(f64, Of),
    /// Another figure, unless the spreads overlap.
    BeyondSpread(Of),
}

#[derive(Clone, Copy, Debug)]
struct Goal {
    id: &'static str,
    what: &'static str,
    figure: Of,
    limit: Limit,
}

/// What became of a goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Its name.
    pub id: &'static str,
    /// What it says.
    pub what: &'static str,
    /// The figure and what it must not exceed, if both were measured.
    pub measured: Option<(f64, f64)>,
    /// The figure must be at least that, instead.
    pub at_least: bool,
    /// Whether it holds.
    pub reached: bool,
}

/// All goals that these figures can say something about, and those that they cannot.
pub fn verdicts(figures: &Figures) -> Vec<Verdict> {
    let all = GOALS.iter().map(|goal| verdict(goal, figures));
    let growths = WIDER.iter().map(|wider| growth(figures, wider));
    let counted = WIDER_COUNTED.iter().map(|wider| instruction_growth(figures, wider));
    let least = AT_LEAST.iter().map(|goal| at_least(goal, figures));
    all.chain(growths).chain(counted).chain(least).collect()
}

fn verdict(goal: &Goal, figures: &Figures) -> Verdict {
    let compared = figure(&goal.figure, figures).and_then(|own| {
        let (limit, reached) = match goal.limit {
            Limit::Number(limit) => (limit, own.median <= limit),
            Limit::Times(factor, of) => {
                let limit = factor * figure(&of, figures)?.median;
                (limit, own.median <= limit)
            }
            Limit::BeyondSpread(of) => {
                let other = figure(&of, figures)?;
                (other.median, own.median <= other.median || own.overlaps(&other))
            }
        };
        Some((own.median, limit, reached))
    });
    Verdict {
        id: goal.id,
        what: goal.what,
        measured: compared.map(|(own, limit, _)| (own, limit)),
        at_least: false,
        reached: compared.is_some_and(|(_, _, reached)| reached),
    }
}

/// L2: the cost of a request grows with the number of connections by no more than the floor's does, and 5 points.
fn growth(figures: &Figures, wider: &Wider) -> Verdict {
    let cost = |window, target| {
        figures.find(wider.scenario, window, target, Metric::CpuPerRequest).map(|spread| spread.median)
    };
    let growth = |target| Some(cost(wider.many, target)? / cost(wider.few, target)?);
    let measured = growth("raw").zip(growth("relay-epoll")).map(|(own, floor)| (own, floor + 0.05));
    Verdict {
        id: "L2",
        what: wider.what,
        measured,
        at_least: false,
        reached: measured.is_some_and(|(own, limit)| own <= limit),
    }
}

/// L2: instructions per request hardly grow with the number of connections.
fn instruction_growth(figures: &Figures, wider: &Wider) -> Verdict {
    let instructions = |window| {
        figures.find(wider.scenario, window, "raw", Metric::InstructionsPerRequest).map(|s| s.median)
    };
    let growth = instructions(wider.many).zip(instructions(wider.few)).map(|(many, few)| many / few.max(1.0));
    Verdict {
        id: "L2",
        what: wider.what,
        measured: growth.map(|growth| (growth, 1.05)),
        at_least: false,
        reached: growth.is_some_and(|growth| growth < 1.05),
    }
}

/// Two windows that differ by their number of connections.
#[derive(Clone, Copy, Debug)]
struct Wider {
    what: &'static str,
    scenario: &'static str,
    few: &'static str,
    many: &'static str,
}

const WIDER: [Wider; 2] = [
    Wider {
        what: "raw: growth of CPU per request from 1,000 to 17,000 connections, to the floor's + 0.05",
        scenario: "scale",
        few: "1000",
        many: "17000",
    },
    Wider {
        what: "HTTP/1.1, raw: growth of CPU per request from 1,000 to 9,000 connections, to the floor's + 0.05",
        scenario: "h1",
        few: "1000",
        many: "c4b",
    },
];

const WIDER_COUNTED: [Wider; 2] = [
    Wider {
        what: "raw: growth of user instructions per request from 1,000 to 9,000 connections",
        scenario: "instructions",
        few: "1000",
        many: "9000",
    },
    Wider {
        what: "HTTP/1.1, raw: growth of user instructions per request from 1,000 to 9,000 connections",
        scenario: "h1",
        few: "1000-instructions",
        many: "9000-instructions",
    },
];

/// What must be at least so much, so that another goal says something.
fn at_least((id, what, of, least): &(&'static str, &'static str, Of, f64), figures: &Figures) -> Verdict {
    let own = figure(of, figures).map(|spread| spread.median);
    Verdict {
        id,
        what,
        measured: own.map(|own| (own, *least)),
        at_least: true,
        reached: own.is_some_and(|own| own >= *least),
    }
}

fn figure(of: &Of, figures: &Figures) -> Option<Spread> {
    let all = of.targets.iter().filter_map(|target| figures.find(of.scenario, of.window, target, of.metric));
    all.min_by(|a, b| a.median.total_cmp(&b.median))
}

const fn of(
    scenario: &'static str,
    window: &'static str,
    targets: &'static [&'static str],
    metric: Metric,
) -> Of {
    Of { scenario, window, targets, metric }
}

const fn cpu(window: &'static str, targets: &'static [&'static str]) -> Of {
    of("small_rpc", window, targets, Metric::CpuPerRequest)
}

const fn http(window: &'static str, targets: &'static [&'static str]) -> Of {
    of("h1", window, targets, Metric::CpuPerRequest)
}

const fn goal(id: &'static str, what: &'static str, figure: Of, limit: Limit) -> Goal {
    Goal { id, what, figure, limit }
}

const RAW: &[&str] = &["raw"];
const TOKIO: &[&str] = &["tokio"];
const FLOOR: &[&str] = &["relay-epoll"];
const TOKIO_FLOOR: &[&str] = &["relay-tokio", "relay-tokio-multi"];
/// Those that are measured; MOSN, which is not had from registries, is too where it is there.
const HTTP_PEERS: &[&str] =
    &["nginx", "haproxy", "h2o", "envoy", "traefik", "mosn-goroutine", "mosn-netpoll"];
/// Nothing that each request needs: what S1 allows where connections are stolen, and connections are stolen in these windows.
const ALLOCATIONS_NONE: f64 = 0.01;
/// 100,000 connections of 256 bytes and 6 processes of 4 MB.
const M6_PSS_MIB: f64 = (100_000.0 * 256.0 + 6.0 * 4e6) / 1_048_576.0;

const AT_LEAST: &[(&str, &str, Of, f64)] = &[
    // Without a move nothing was placed anew.
    ("L1", "raw: connections that moved while skewed", of("skew", "skew", RAW, Metric::Moves), 1.0),
    (
        "S1",
        "C1 with stolen connections, raw: share of turns that were stolen",
        of("instructions", "c1-stolen", RAW, Metric::StolenTurns),
        0.1,
    ),
];

const GOALS: &[Goal] = &[
    goal(
        "M1",
        "raw: bytes per idle Bolt connection",
        of("idle", "bolt", RAW, Metric::BytesPerConnection),
        Limit::Number(256.0),
    ),
    goal(
        "M1",
        "raw: the same while /connections is asked for each second",
        of("idle", "bolt-polled", RAW, Metric::BytesPerConnection),
        Limit::Number(256.0),
    ),
    goal(
        "M1",
        "raw: bytes per idle HTTP/1.1 connection",
        of("h1", "idle", RAW, Metric::BytesPerConnection),
        Limit::Number(256.0),
    ),
    goal(
        "M1",
        "raw: the same while /connections is asked for each second",
        of("h1", "idle-polled", RAW, Metric::BytesPerConnection),
        Limit::Number(256.0),
    ),
    goal(
        "M4",
        "raw: bytes per idle TCP pair",
        of("tcp", "idle", &["raw-tcp"], Metric::BytesPerConnection),
        Limit::Number(600.0),
    ),
    goal(
        "M4",
        "raw: bytes per idle WebSocket",
        of("websocket", "idle", RAW, Metric::BytesPerConnection),
        Limit::Number(600.0),
    ),
    goal(
        "M5",
        "raw: memory at 0 after 200,000 connections to that after 15,000",
        of("churn", "m5", RAW, Metric::AfterAllToFirst),
        Limit::Number(1.10),
    ),
    goal(
        "M5",
        "raw: share of the growth that is left after at most 60 s",
        of("churn", "m5", RAW, Metric::RestedOfGrowth),
        Limit::Number(0.25),
    ),
    goal(
        "M6",
        "raw: PSS MiB of 100,000 connections",
        of("long_connections", "m6", RAW, Metric::Pss),
        Limit::Number(M6_PSS_MIB),
    ),
    goal(
        "M6",
        "raw: % of a core against 1.3 x six epoll relays",
        of("long_connections", "m6", RAW, Metric::CorePercent),
        Limit::Times(1.3, of("long_connections", "m6", FLOOR, Metric::CorePercent)),
    ),
    goal("M6", "raw: p99.9 ms", of("long_connections", "m6", RAW, Metric::P999), Limit::Number(10.0)),
    goal(
        "M6",
        "raw with heartbeats: % of a core against 1.3 x six epoll relays",
        of("long_connections", "m6-heartbeats", RAW, Metric::CorePercent),
        Limit::Times(1.3, of("long_connections", "m6-heartbeats", FLOOR, Metric::CorePercent)),
    ),
    goal(
        "M6",
        "raw with heartbeats: p99.9 ms",
        of("long_connections", "m6-heartbeats", RAW, Metric::P999),
        Limit::Number(10.0),
    ),
    goal(
        "C0",
        "C1, tokio mode to 1.15 x tokio relay",
        cpu("c1", TOKIO),
        Limit::Times(1.15, cpu("c1", TOKIO_FLOOR)),
    ),
    goal(
        "C0",
        "C2, tokio mode to 1.15 x tokio relay",
        cpu("c2", TOKIO),
        Limit::Times(1.15, cpu("c2", TOKIO_FLOOR)),
    ),
    goal(
        "C0",
        "C3, tokio mode to 1.15 x tokio relay",
        cpu("c3", TOKIO),
        Limit::Times(1.15, cpu("c3", TOKIO_FLOOR)),
    ),
    goal("C0", "C1, raw to 1.30 x epoll relay", cpu("c1", RAW), Limit::Times(1.30, cpu("c1", FLOOR))),
    goal("C0", "C2, raw to 1.30 x epoll relay", cpu("c2", RAW), Limit::Times(1.30, cpu("c2", FLOOR))),
    goal("C0", "C3, raw to 1.30 x epoll relay", cpu("c3", RAW), Limit::Times(1.30, cpu("c3", FLOOR))),
    goal("C1", "raw to 0.85 x tokio mode", cpu("c1", RAW), Limit::Times(0.85, cpu("c1", TOKIO))),
    goal(
        "C1",
        "raw to a third of MOSN's 30.8 us, measured in another run",
        cpu("c1", RAW),
        Limit::Number(30.8 / 3.0),
    ),
    goal("C2", "raw: us per request", cpu("c2", RAW), Limit::Number(1.5)),
    goal(
        "C2",
        "raw not above tokio mode beyond the spread",
        cpu("c2", RAW),
        Limit::BeyondSpread(cpu("c2", TOKIO)),
    ),
    goal(
        "C2",
        "raw not above tokio mode in all CPU beyond the spread",
        of("small_rpc", "c2", RAW, Metric::TotalPerRequest),
        Limit::BeyondSpread(of("small_rpc", "c2", TOKIO, Metric::TotalPerRequest)),
    ),
    goal("C3", "raw to 1.15 x epoll relay", cpu("c3", RAW), Limit::Times(1.15, cpu("c3", FLOOR))),
    goal(
        "C3",
        "raw not above tokio mode beyond the spread",
        cpu("c3", RAW),
        Limit::BeyondSpread(cpu("c3", TOKIO)),
    ),
    goal(
        "C3",
        "raw: system calls per request",
        of("syscalls", "c3", RAW, Metric::SyscallsPerRequest),
        Limit::Number(8.5),
    ),
    goal(
        "C3b",
        "5,000/s, raw not above tokio mode in all CPU",
        of("partial_load", "5k", RAW, Metric::TotalPerRequest),
        Limit::BeyondSpread(of("partial_load", "5k", TOKIO, Metric::TotalPerRequest)),
    ),
    goal(
        "C3b",
        "5,000/s, raw not above tokio mode in p99",
        of("partial_load", "5k", RAW, Metric::P99),
        Limit::BeyondSpread(of("partial_load", "5k", TOKIO, Metric::P99)),
    ),
    goal(
        "C3b",
        "20,000/s, raw not above tokio mode in all CPU",
        of("partial_load", "20k", RAW, Metric::TotalPerRequest),
        Limit::BeyondSpread(of("partial_load", "20k", TOKIO, Metric::TotalPerRequest)),
    ),
    goal(
        "C3b",
        "20,000/s, raw not above tokio mode in p99",
        of("partial_load", "20k", RAW, Metric::P99),
        Limit::BeyondSpread(of("partial_load", "20k", TOKIO, Metric::P99)),
    ),
    goal(
        "C4",
        "100 connections, raw to 0.75 x nginx",
        http("c4-100", RAW),
        Limit::Times(0.75, http("c4-100", &["nginx"])),
    ),
    goal(
        "C4",
        "100 connections, raw to half of Envoy",
        http("c4-100", RAW),
        Limit::Times(0.5, http("c4-100", &["envoy"])),
    ),
    goal(
        "C4",
        "100 connections, raw to 1.2 x epoll relay",
        http("c4-100", RAW),
        Limit::Times(1.2, http("c4-100", FLOOR)),
    ),
    goal(
        "C4",
        "500 connections, raw to 0.75 x nginx",
        http("c4-500", RAW),
        Limit::Times(0.75, http("c4-500", &["nginx"])),
    ),
    goal(
        "C4",
        "500 connections, raw to half of Envoy",
        http("c4-500", RAW),
        Limit::Times(0.5, http("c4-500", &["envoy"])),
    ),
    goal(
        "C4",
        "500 connections, raw to 1.2 x epoll relay",
        http("c4-500", RAW),
        Limit::Times(1.2, http("c4-500", FLOOR)),
    ),
    goal(
        "C4b",
        "9,000 connections, raw to 0.75 x the best peer",
        http("c4b", RAW),
        Limit::Times(0.75, http("c4b", HTTP_PEERS)),
    ),
    goal(
        "H1",
        "a heartbeat, raw to 1.1 x epoll relay",
        of("heartbeats", "h1", RAW, Metric::CpuPerRequest),
        Limit::Times(1.1, of("heartbeats", "h1", FLOOR, Metric::CpuPerRequest)),
    ),
    goal(
        "H1",
        "a heartbeat, raw: allocations",
        of("instructions", "h1", RAW, Metric::AllocationsPerRequest),
        Limit::Number(ALLOCATIONS_NONE),
    ),
    goal(
        "L1",
        "at twice the load, raw: p99 with skew to 1.3 x that of the even load",
        of("skew", "skew-busy", RAW, Metric::P99),
        Limit::Times(1.3, of("skew", "even-busy", RAW, Metric::P99)),
    ),
    goal(
        "L1",
        "raw: p99 with skew to 1.3 x that of the even load",
        of("skew", "skew", RAW, Metric::P99),
        Limit::Times(1.3, of("skew", "even", RAW, Metric::P99)),
    ),
    goal(
        "L3",
        "raw: p99.9 ms in the 100 ms after a step",
        of("partial_load", "step", RAW, Metric::P999),
        Limit::Number(5.0),
    ),
    goal(
        "S1",
        "C1, raw: allocations per request",
        of("instructions", "c1", RAW, Metric::AllocationsPerRequest),
        Limit::Number(ALLOCATIONS_NONE),
    ),
    goal(
        "S1",
        "C1 with stolen connections, raw: allocations per request",
        of("instructions", "c1-stolen", RAW, Metric::AllocationsPerRequest),
        Limit::Number(ALLOCATIONS_NONE),
    ),
    goal(
        "S1",
        "3,000 connections, raw: allocations per request",
        of("instructions", "c3", RAW, Metric::AllocationsPerRequest),
        Limit::Number(ALLOCATIONS_NONE),
    ),
    goal(
        "S1",
        "C1, raw: threads that came or went",
        of("small_rpc", "c1", RAW, Metric::ThreadsChanged),
        Limit::Number(0.0),
    ),
    goal(
        "S1",
        "C2, raw: threads that came or went",
        of("small_rpc", "c2", RAW, Metric::ThreadsChanged),
        Limit::Number(0.0),
    ),
    goal(
        "S1",
        "C3, raw: threads that came or went",
        of("small_rpc", "c3", RAW, Metric::ThreadsChanged),
        Limit::Number(0.0),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::figures::tests::measured;
    use crate::results::figures::tests::run;
    use crate::results::figures::tests::window;
    use crate::scenario::file::Scenario;
    use crate::scenario::record::MeasuredRecord;
    use crate::scenario::record::Record;

    fn of_c1(figures: &Figures) -> Vec<(bool, Option<(f64, f64)>)> {
        let all = verdicts(figures).into_iter().filter(|verdict| verdict.id == "C1");
        all.map(|verdict| (verdict.reached, verdict.measured)).collect()
    }

    #[test]
    fn a_goal_is_reached_missed_or_not_measured() {
        let mut records = vec![run(), window("c1"), Record::Measured(measured("c1", "raw", 0, 8.0))];
        assert_eq!(of_c1(&Figures::of(&records)), [(false, None), (true, Some((8.0, 30.8 / 3.0)))]);
        records.push(Record::Measured(measured("c1", "tokio", 0, 10.0)));
        assert_eq!(of_c1(&Figures::of(&records))[0], (true, Some((8.0, 8.5))));
        records.push(Record::Measured(measured("c1", "tokio", 1, 8.0)));
        assert!(!of_c1(&Figures::of(&records))[0].0, "0.85 of 9 is less than 8");
    }

    #[test]
    fn what_the_spread_swallows_is_not_above() {
        let mut records = vec![run(), window("c3")];
        for (round, us) in [9.0, 11.0, 13.0].into_iter().enumerate() {
            records.push(Record::Measured(measured("c3", "raw", round, us)));
            records.push(Record::Measured(measured("c3", "tokio", round, us - 1.0)));
        }
        let figures = Figures::of(&records);
        let verdicts = verdicts(&figures);
        let beyond = verdicts.iter().find(|verdict| verdict.id == "C3" && verdict.what.contains("spread"));
        assert!(beyond.is_some_and(|verdict| verdict.reached && verdict.measured == Some((11.0, 10.0))));
    }

    fn counted(window: &str, instructions: f64) -> Record {
        let result = serde_json::json!({ "counted": {
            "instructions_per_request": instructions, "allocations_per_request": 0.02,
        } });
        let base = measured(window, "raw", 0, 1.0);
        Record::Measured(MeasuredRecord { scenario: "instructions".into(), result, ..base })
    }

    #[test]
    fn instructions_may_grow_by_less_than_five_percent() {
        let growth = |many: f64| {
            let figures = Figures::of(&[run(), counted("1000", 1_000.0), counted("9000", many)]);
            instruction_growth(&figures, &WIDER_COUNTED[0])
        };
        assert!(growth(1_049.0).reached && !growth(1_050.0).reached);
        assert_eq!(instruction_growth(&Figures::default(), &WIDER_COUNTED[0]).measured, None);
        let figures = Figures::of(&[run(), counted("c1", 1.0)]);
        let allocations = verdicts(&figures).into_iter().find(|it| it.what.starts_with("C1, raw: alloc"));
        let allocations = allocations.expect("it is a goal");
        assert!(!allocations.reached && allocations.measured == Some((0.02, 0.01)));
    }

    #[test]
    fn moves_are_shown_and_none_is_a_miss() {
        let skewed = |counter: &str| {
            let result =
                serde_json::json!({ "skew": { "before": { "0": 100 }, "after": { "0": 50, "1": 50 } } });
            let counters = std::collections::BTreeMap::from([(counter.to_owned(), 12.0)]);
            let base = measured("skew", "raw", 0, 1.0);
            let record = MeasuredRecord { scenario: "skew".into(), result, counters, ..base };
            Figures::of(&[run(), Record::Measured(record)])
        };
        let figures = skewed("bowline_moves_total");
        let moves = |figures: &Figures| at_least(&AT_LEAST[0], figures);
        assert!(matches!(moves(&figures), Verdict { measured: Some((12.0, 1.0)), reached: true, .. }));
        let remarks = &figures.windows[0].rows[0].remarks;
        assert_eq!(
            remarks[0],
            "busy connections at home on reactor 0: 100 before, reactor 0: 50, reactor 1: 50 after"
        );
        assert_eq!(moves(&skewed("bowline_requests_total")).measured, None, "nothing counts them");
    }

    #[test]
    fn what_is_stolen_is_a_share_of_all_turns() {
        let stolen = |stolen: f64| {
            let counters = [("bowline_worker_stolen_total", stolen), ("bowline_worker_turns_total", 200.0)];
            let counters = counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            let Record::Measured(base) = counted("c1-stolen", 1.0) else { unreachable!("it is one") };
            let record = MeasuredRecord { counters, ..base };
            at_least(&AT_LEAST[1], &Figures::of(&[run(), Record::Measured(record)]))
        };
        assert!(matches!(stolen(20.0), Verdict { measured: Some((0.1, 0.1)), reached: true, .. }));
        assert!(!stolen(19.0).reached, "the allocations say nothing then");
        let without = at_least(&AT_LEAST[1], &Figures::of(&[run(), counted("c1-stolen", 1.0)]));
        assert_eq!(without.measured, None, "nothing counts them");
    }

    #[test]
    fn http_is_compared_with_the_best_peer_and_with_its_own_floor() {
        let of_h1 = |window: &str, target: &str, us: f64| {
            let base = measured(window, target, 0, us);
            Record::Measured(MeasuredRecord { scenario: "h1".into(), ..base })
        };
        let records = [
            run(),
            of_h1("c4b", "raw", 30.0),
            of_h1("c4b", "nginx", 50.0),
            of_h1("c4b", "h2o", 42.0),
            of_h1("c4b", "relay-epoll", 25.0),
            of_h1("1000", "raw", 20.0),
            of_h1("1000", "relay-epoll", 20.0),
        ];
        let all = verdicts(&Figures::of(&records));
        let found = |what: &str| {
            let verdict = all.iter().find(|verdict| verdict.what.starts_with(what)).expect("it is a goal");
            (verdict.measured, verdict.reached)
        };
        assert_eq!(found("9,000 connections, raw to 0.75"), (Some((30.0, 31.5)), true), "h2o is the best");
        assert_eq!(found("HTTP/1.1, raw: growth of CPU"), (Some((1.5, 1.3)), false));
        assert_eq!(found("raw: growth of CPU").0, None, "that is Bolt's");
    }

    #[test]
    fn every_goal_names_a_window_of_the_suite() {
        let exists = |of: &Of| {
            let scenario = Scenario::find(of.scenario).expect(of.scenario);
            assert!(scenario.windows.iter().any(|window| window.name == of.window), "{of:?}");
        };
        for Wider { scenario, few, many, .. } in WIDER.into_iter().chain(WIDER_COUNTED) {
            for window in [few, many] {
                exists(&of(scenario, window, RAW, Metric::CpuPerRequest));
            }
        }
        for goal in GOALS {
            exists(&goal.figure);
            if let Limit::Times(_, of) | Limit::BeyondSpread(of) = &goal.limit {
                exists(of);
            }
        }
        AT_LEAST.iter().for_each(|(_, _, of, _)| exists(of));
    }
}
