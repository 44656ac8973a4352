//! What a seed makes of a world: the gateway's configuration, the network, and when peers do what.
//!
//! It decides, it does not act. A third of all worlds are calm: nothing goes wrong there, so every request must be
//! answered by its own reply.

use std::fmt;
use std::net::SocketAddr;

use bowline_engine::machine::OpenError;
use bowline_engine::sim::{LinkOptions, Reach, SimOptions};
use bowline_gateway::config::plan::{Balance, EndpointPlan, Plan, UpstreamMode};

use crate::dice::Dice;

/// What may go wrong in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Clients reset, also in the middle of a frame.
    pub(crate) client_cuts: bool,
    /// Servers reset or end their connections.
    pub(crate) server_cuts: bool,
    /// Peers stop taking what they are sent for a while.
    pub(crate) stalls: bool,
    /// Connects are refused, or nothing answers them.
    pub(crate) refusals: bool,
    /// Some requests are never answered, others late.
    pub(crate) withheld: bool,
    /// Servers say that they go away.
    pub(crate) goaways: bool,
    /// The gateway may hold so little that it refuses work.
    pub(crate) tight: bool,
}

/// Something that a peer, or the operator, does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Connect(usize),
    Request(usize),
    Heartbeat(usize),
    StallClient(usize),
    WakeClient(usize),
    FinishClient(usize),
    CutClient(usize),
    /// The servers' connections are named by a number that is taken modulo those that are open.
    CutServer(u64),
    FinishServer(u64),
    Goaway(u64),
    StallServer(u64),
    WakeServers,
    Callback(u64),
    Reach(u16, Reach),
    Move,
    Drain,
}

/// A world before it begins.
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) options: SimOptions,
    pub(crate) endpoints: u16,
    pub(crate) clients: usize,
    pub(crate) faults: Faults,
    /// The largest content of most requests, and of a few.
    pub(crate) content_bytes: (u64, u64),
    pub(crate) acts: Vec<(u64, Act)>,
}

/// From here on nobody asks for anything new, and everything that was broken works.
pub(crate) const CALM_FROM_MS: u64 = 9_000;

/// The address of a server by number, from 1 on.
pub(crate) fn server_address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

impl Scenario {
    /// The world of a seed.
    pub(crate) fn of(seed: u64, keeps_text: bool) -> Scenario {
        let mut dice = Dice::new(seed);
        let faults = faults(&mut dice);
        let options = sim_options(seed, keeps_text, &mut dice);
        let endpoints = dice.between(1, 4) as u16;
        let plan = plan(endpoints, faults, &mut dice);
        let clients = dice.between(1, 8) as usize;
        let is_coarse = options.link.segment_bytes_max.is_none_or(|bytes| bytes >= 1_000);
        let content_bytes = if is_coarse { (3_000, 160_000) } else { (80, 600) };
        let mut scenario =
            Scenario { seed, plan, options, endpoints, clients, faults, content_bytes, acts: Vec::new() };
        scenario.plan_clients(&mut dice);
        scenario.plan_servers(&mut dice);
        scenario.plan_operator(&mut dice);
        scenario
    }

    /// Whether nothing goes wrong.
    pub(crate) fn is_calm(&self) -> bool {
        self.faults == Faults::default()
    }

    /// Whether the network takes seconds for the largest requests.
    pub(crate) fn is_slow(&self) -> bool {
        let link = &self.options.link;
        link.delay_ms_max > 0 && link.send_buffer_bytes < 64 << 10
    }

    /// Whether every client has upstream connections of its own.
    pub(crate) fn is_bound(&self) -> bool {
        self.plan.clusters[0].mode == UpstreamMode::Bound
    }

    fn at(&mut self, ms: u64, act: Act) {
        self.acts.push((ms, act));
    }

    fn plan_clients(&mut self, dice: &mut Dice) {
        for client in 0..self.clients {
            let from = dice.between(0, 3_000);
            self.at(from, Act::Connect(client));
            for _ in 0..dice.between(1, 30) {
                // Bursts matter: many requests at one moment become one run.
                let at = dice.between(from, CALM_FROM_MS);
                for _ in 0..dice.one_of(&[1, 1, 1, 2, 7]) {
                    self.at(at, Act::Request(client));
                }
            }
            for _ in 0..dice.between(0, 4) {
                let at = dice.between(from, CALM_FROM_MS);
                self.at(at, Act::Heartbeat(client));
            }
            if self.faults.stalls && dice.hits(40) {
                let at = dice.between(from, CALM_FROM_MS);
                self.at(at, Act::StallClient(client));
                self.at(at + dice.between(10, 5_000), Act::WakeClient(client));
            }
            if self.faults.client_cuts && dice.hits(40) {
                let at = dice.between(from, CALM_FROM_MS);
                self.at(at, Act::CutClient(client));
            } else if dice.hits(30) {
                let at = dice.between(from, CALM_FROM_MS);
                self.at(at, Act::FinishClient(client));
            }
        }
    }

    fn plan_servers(&mut self, dice: &mut Dice) {
        let mut some = |scenario: &mut Scenario, wanted: bool, most: u64, act: fn(u64) -> Act| {
            for _ in 0..if wanted { dice.between(1, most) } else { 0 } {
                let (at, which) = (dice.between(100, CALM_FROM_MS), dice.number());
                scenario.at(at, act(which));
            }
        };
        let faults = self.faults;
        some(self, faults.server_cuts, 6, Act::CutServer);
        some(self, faults.server_cuts, 3, Act::FinishServer);
        some(self, faults.goaways, 5, Act::Goaway);
        some(self, faults.stalls, 3, Act::StallServer);
        some(self, true, 12, Act::Callback);
        if faults.stalls {
            let at = dice.between(3_000, CALM_FROM_MS);
            self.at(at, Act::WakeServers);
        }
        for number in 1..=self.endpoints {
            if faults.refusals && dice.hits(60) {
                let from = dice.between(0, CALM_FROM_MS);
                let reach = dice.one_of(&[
                    Reach::Fails(OpenError::Refused),
                    Reach::Fails(OpenError::Unreachable),
                    Reach::Silent,
                ]);
                self.at(from, Act::Reach(number, reach));
                self.at(from + dice.between(50, 3_000), Act::Reach(number, Reach::Accepts));
            }
        }
    }

    fn plan_operator(&mut self, dice: &mut Dice) {
        for _ in 0..dice.one_of(&[0, 0, 3]) {
            let at = dice.between(0, CALM_FROM_MS);
            self.at(at, Act::Move);
        }
        if dice.hits(20) {
            let at = dice.between(2_000, CALM_FROM_MS);
            self.at(at, Act::Drain);
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { seed, endpoints, clients, faults, options, .. } = self;
        let cluster = &self.plan.clusters[0];
        writeln!(formatter, "seed {seed}: {clients} clients, {endpoints} servers, {faults:?}")?;
        writeln!(
            formatter,
            "{:?}, {:?}, {} connections",
            cluster.mode, cluster.balance, cluster.connections
        )?;
        write!(formatter, "{options:?}")
    }
}

fn faults(dice: &mut Dice) -> Faults {
    if dice.hits(33) {
        return Faults::default();
    }
    Faults {
        client_cuts: dice.hits(40),
        server_cuts: dice.hits(40),
        stalls: dice.hits(30),
        refusals: dice.hits(40),
        withheld: dice.hits(40),
        goaways: dice.hits(30),
        tight: dice.hits(25),
    }
}

/// The simulator of a seed: how its network and its workers behave.
pub(crate) fn sim_options(seed: u64, keeps_text: bool, dice: &mut Dice) -> SimOptions {
    let link = LinkOptions {
        delay_ms_max: dice.one_of(&[0, 1, 20]),
        segment_bytes_max: dice.one_of(&[None, Some(7), Some(200), Some(3_000)]),
        send_buffer_bytes: dice.one_of(&[2_000, 64 << 10, usize::MAX]),
        is_short: dice.hits(50),
    };
    SimOptions {
        seed,
        workers: dice.between(1, 4) as usize,
        buffer_bytes_max: 64 << 20,
        read_budget_bytes: dice.one_of(&[1_000, 64 << 10]),
        batch_turns_max: dice.one_of(&[1, 4, 32]),
        link,
        freezes_in_1024: dice.one_of(&[0, 30, 300]),
        keeps_text,
        ..SimOptions::default()
    }
}

fn plan(endpoints: u16, faults: Faults, dice: &mut Dice) -> Plan {
    let mut plan = Plan::default();
    plan.listeners[0].send_goaway = dice.hits(30);
    let cluster = &mut plan.clusters[0];
    cluster.echo = false;
    cluster.endpoints = (1..=endpoints).map(|number| EndpointPlan::Address(server_address(number))).collect();
    cluster.mode = if dice.hits(40) { UpstreamMode::Bound } else { UpstreamMode::Shared };
    cluster.balance = dice.one_of(&[Balance::RoundRobin, Balance::LeastOutstanding]);
    cluster.connections = dice.between(1, 3) as usize;
    cluster.heartbeat_interval_ms = dice.one_of(&[700, 15_000]);
    if faults.tight {
        cluster.requests_max = dice.between(1, 12) as usize;
        cluster.upstream_output_bytes_max = dice.one_of(&[2_000, 4 << 20]);
        plan.limits.in_flight_max = dice.between(1, 9) as usize;
        plan.limits.downstream_output_bytes_max = 16 << 10;
        plan.limits.large_frame_bytes_max = 200_000;
    }
    plan
}
