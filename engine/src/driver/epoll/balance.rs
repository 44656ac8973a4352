//! Which connections leave their home: what each reactor's connections cost, and who must go where (O8).
//!
//! Workers count the turns that they end per home. Once a window one of them asks how much processor time each worker
//! used, divides it among homes by these turns, so that it does not matter who ran them, and compares. If one home was
//! clearly busier than another for several windows, the turns of its clients' connections are counted for one window, and
//! in the next so many of them move that half of the difference goes with them. While homes are even, the end of a turn
//! looks at one word here and nothing else happens. It moves nothing itself: `turn` asks at the end of each turn,
//! `worker` lets it look before each batch.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use crossbeam::utils::CachePadded;
use smallvec::{SmallVec, smallvec};

use crate::options::{Dispatch, Mode, Options, Rebalance};
use crate::stats::Counter;
use crate::sys::cpu::ThreadClock;

/// One value for each home, or each worker: looking ten times a second allocates nothing on up to 16 cores.
type PerHome<T> = SmallVec<[T; 16]>;

/// How long homes are watched before they are compared, in microseconds.
const WINDOW_US: u64 = 100_000;
/// A window that ended so long ago says nothing about now, in microseconds.
const STALE_US: u64 = 3 * WINDOW_US;
/// A home is busier than another if it is by so many thousandths of a core, ...
const MARGIN: u64 = 100;
/// ... and so many tenths of the other, if its turns are as much more. What a turn costs also depends on who shares the core
/// (wake-ups, the kernel's part of loopback), so with even turns twice as much is asked for.
const TENTHS: u64 = 13;
/// Fewer turns than this in a window are no reason to move anybody.
const TURNS_MIN: u64 = 64;
/// A home that got connections and is too busy so few windows later got too many: it is left alone for a while.
const REGRET_WINDOWS: u64 = 32;
/// The longest such while.
const PENALTY_WINDOWS_MAX: u64 = 512;

/// How many turns a connection ended in the window in which its home was last watched: 5 bits say which window, so that
/// nothing has to be cleared, 11 how many.
#[derive(Clone, Copy, Default)]
pub(crate) struct Weight(u16);

const TURNS_BITS: u32 = 11;
const TURNS_MAX: u16 = (1 << TURNS_BITS) - 1;
/// Epochs run from 1, so that a connection which was never watched belongs to none.
const EPOCH_MAX: u8 = 31;

impl Weight {
    fn turns(self, epoch: u8) -> u16 {
        if self.0 >> TURNS_BITS == u16::from(epoch) { self.0 & TURNS_MAX } else { 0 }
    }

    fn add(&mut self, epoch: u8) {
        let turns = (self.turns(epoch) + 1).min(TURNS_MAX);
        self.0 = u16::from(epoch) << TURNS_BITS | turns;
    }
}

/// What happens to connections of a home when their turn ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// They stay.
    Stay,
    /// Their turns are counted.
    Watch(u8),
    /// Those that were counted move, as long as there is room for their turns.
    Move(u8, usize),
    /// They move on after every turn.
    MoveOn,
}

impl Order {
    fn bits(self) -> u32 {
        match self {
            Order::Stay => 0,
            Order::Watch(epoch) => u32::from(epoch),
            Order::Move(epoch, to) => u32::from(epoch) | (to as u32 + 1) << 8,
            Order::MoveOn => u32::MAX,
        }
    }

    fn from_bits(bits: u32) -> Order {
        match (bits as u8, bits >> 8) {
            (0, _) => Order::Stay,
            (u8::MAX, _) => Order::MoveOn,
            (epoch, 0) => Order::Watch(epoch),
            (epoch, to) => Order::Move(epoch, to as usize - 1),
        }
    }
}

/// A reactor as far as moving is concerned.
#[derive(Default)]
struct Home {
    order: AtomicU32,
    /// Turns that may still go with connections that move.
    budget: AtomicI64,
    /// Turns of clients' connections in the window in which it was last watched.
    watched: AtomicU64,
}

/// A worker as far as moving is concerned.
struct Seat {
    clock: OnceLock<ThreadClock>,
    /// Turns that it ended, per home.
    turns: Box<[CachePadded<[Counter; LINE]>]>,
}

/// So many counters share cache lines that no other worker writes.
const LINE: usize = 16;

impl Seat {
    fn new(homes: usize) -> Seat {
        let turns = (0..homes.div_ceil(LINE)).map(|_| CachePadded::default()).collect();
        Seat { clock: OnceLock::new(), turns }
    }

    fn turns(&self, home: usize) -> &Counter {
        &self.turns[home / LINE][home % LINE]
    }

    fn used(&self, homes: usize) -> Used {
        let us = self.clock.get().and_then(ThreadClock::micros).unwrap_or(0);
        Used { us, turns: (0..homes).map(|home| self.turns(home).value()).collect() }
    }
}

/// What all workers share about moving.
pub(crate) struct Balance {
    homes: Box<[CachePadded<Home>]>,
    workers: Box<[Seat]>,
    /// When homes are compared next; never while nothing is to be compared.
    look_us: CachePadded<AtomicU64>,
    judge: Mutex<(Meter, Judge)>,
}

/// A connection whose turn ends.
pub(crate) struct Candidate<'a> {
    /// Its home.
    pub(crate) home: usize,
    /// Whether a client opened it. What this side opened belongs to the worker that uses it, and stays there.
    pub(crate) is_client: bool,
    /// Where its turns are counted.
    pub(crate) weight: &'a mut Weight,
}

impl Balance {
    /// What an engine with `options` moves.
    pub(crate) fn new(options: &Options) -> Balance {
        let reactors = options.reactors.max(1);
        // With handoff any worker runs whatever any reactor finds, so a home costs its thread the fetching alone.
        let helps = options.mode == Mode::Raw(Dispatch::Help);
        let compares = reactors > 1 && helps && options.rebalance == Rebalance::On;
        let moves_on = reactors > 1 && options.rebalance == Rebalance::EveryTurn;
        let balance = Balance {
            homes: (0..reactors).map(|_| CachePadded::default()).collect(),
            look_us: CachePadded::new(AtomicU64::new(if compares { 0 } else { u64::MAX })),
            workers: (0..options.workers.max(1)).map(|_| Seat::new(reactors)).collect(),
            judge: Mutex::new((Meter::default(), Judge::new(reactors))),
        };
        let order = if moves_on { Order::MoveOn } else { Order::Stay };
        balance.homes.iter().for_each(|home| home.order.store(order.bits(), Relaxed));
        balance
    }

    /// Where a connection whose turn ends goes, if it leaves its home.
    pub(crate) fn destination(&self, candidate: Candidate<'_>) -> Option<usize> {
        match self.homes[candidate.home].order.load(Relaxed) {
            0 => None,
            bits => self.obey(Order::from_bits(bits), candidate),
        }
    }

    #[cold]
    fn obey(&self, order: Order, candidate: Candidate<'_>) -> Option<usize> {
        let home = &self.homes[candidate.home];
        match order {
            Order::MoveOn => Some((candidate.home + 1) % self.homes.len()),
            Order::Watch(epoch) if candidate.is_client => {
                candidate.weight.add(epoch);
                home.watched.fetch_add(1, Relaxed);
                None
            }
            Order::Move(epoch, to) if candidate.is_client => {
                let turns = i64::from(candidate.weight.turns(epoch));
                // Whoever is heavier than what is left stays: half of the difference is never exceeded, and one
                // connection that makes all the difference goes nowhere.
                let take = |budget: i64| (turns > 0 && turns <= budget).then(|| budget - turns);
                home.budget.fetch_update(Relaxed, Relaxed, take).is_ok().then_some(to)
            }
            _ => None,
        }
    }

    /// Says that worker `number` is the thread that calls.
    pub(crate) fn join(&self, number: usize) {
        let first = self.workers[number].clock.set(ThreadClock::of_this_thread());
        debug_assert!(first.is_ok(), "a worker has one thread");
    }

    /// Counts a turn of a connection of `home` that worker `number` ended.
    pub(crate) fn note_turn(&self, number: usize, home: usize) {
        self.workers[number].turns(home).add(1);
    }

    /// Compares homes if it is time to; called before a batch.
    pub(crate) fn look(&self, now_us: u64) {
        if now_us < self.look_us.load(Relaxed) {
            return;
        }
        // Whoever comes second has nothing to do.
        let Ok(mut judge) = self.judge.try_lock() else { return };
        if now_us < self.look_us.load(Relaxed) {
            return;
        }
        self.look_us.store(now_us + WINDOW_US, Relaxed);
        let (meter, judge) = &mut *judge;
        let homes = self.homes.len();
        let used = self.workers.iter().map(|worker| worker.used(homes)).collect();
        let (elapsed_us, loads) = meter.read(now_us, used, homes);
        let watched: PerHome<_> = self.homes.iter().map(|home| home.watched.load(Relaxed)).collect();
        let orders = judge.look(elapsed_us, loads, &watched);
        for (home, (order, budget)) in self.homes.iter().zip(orders) {
            home.watched.store(0, Relaxed);
            home.budget.store(budget, Relaxed);
            home.order.store(order.bits(), Relaxed);
        }
    }
}

/// How busy a home was in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    /// In thousandths of a core.
    busy: u64,
    /// Turns that were ended for it.
    turns: u64,
}

/// Divides what workers used among homes.
#[derive(Default)]
struct Meter {
    now_us: u64,
    before: PerHome<Used>,
}

/// What a worker has used since the start.
#[derive(Clone, Default)]
struct Used {
    us: u64,
    turns: PerHome<u64>,
}

impl Meter {
    /// How long it was since the last look, and how busy each home was meanwhile.
    fn read(&mut self, now_us: u64, used: PerHome<Used>, homes: usize) -> (u64, PerHome<Load>) {
        let elapsed_us = now_us.saturating_sub(std::mem::replace(&mut self.now_us, now_us)).max(1);
        let mut loads: PerHome<_> = smallvec![Load::default(); homes];
        self.before.resize(used.len(), Used { us: 0, turns: smallvec![0; homes] });
        for (now, before) in used.iter().zip(&self.before) {
            let turns = now.turns.iter().zip(&before.turns).map(|(now, before)| now.wrapping_sub(*before));
            let turns: PerHome<_> = turns.collect();
            let all = turns.iter().sum::<u64>().max(1);
            // The clock of a thread that has ended stands at nothing.
            let us = now.us.saturating_sub(before.us);
            for (load, turns) in loads.iter_mut().zip(turns) {
                load.busy += us * turns * 1_000 / all / elapsed_us;
                load.turns += turns;
            }
        }
        self.before = used;
        (elapsed_us, loads)
    }
}

/// Decides who moves, from figures alone.
///
/// ```text
/// Calm ──two windows uneven──▶ Watching ──still uneven──▶ Moving ──▶ Settling ──▶ Calm
///   ▲                             │
///   └────────────even─────────────┘
/// ```
struct Judge {
    phase: Phase,
    epoch: u8,
    /// How busy each home was in the window before; nothing if that is not known.
    before: Option<PerHome<Load>>,
    window: u64,
    /// The window in which a home last got connections.
    received: PerHome<Option<u64>>,
    rest_until: u64,
    penalty_windows: u64,
}

enum Phase {
    Calm,
    Watching(Vec<Pair>),
    Moving,
    Settling,
}

/// A home and another that is less busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    from: usize,
    to: usize,
}

impl Pair {
    fn is_uneven(self, loads: &[Load]) -> bool {
        let (from, to) = (loads[self.from], loads[self.to]);
        let differ = |margin, tenths| from.busy >= to.busy + margin && from.busy * 10 > to.busy * tenths;
        if from.turns * 10 > to.turns * TENTHS { differ(MARGIN, TENTHS) } else { differ(2 * MARGIN, 20) }
    }

    /// How many of the `watched` turns are half of the difference.
    fn budget(self, loads: &[Load], watched: &[u64]) -> i64 {
        let (from, to) = (loads[self.from].busy, loads[self.to].busy);
        i64::try_from(watched[self.from] * (from - to) / 2 / from).unwrap_or(i64::MAX)
    }
}

impl Judge {
    fn new(homes: usize) -> Judge {
        Judge {
            phase: Phase::Calm,
            epoch: 0,
            before: None,
            window: 0,
            received: smallvec![None; homes],
            rest_until: 0,
            penalty_windows: 1,
        }
    }

    /// Ends a window of `elapsed_us`: `loads` is how busy homes were, `watched` the turns of those that were
    /// watched. Says what holds for each home in the next one, with the turns that may leave it.
    fn look(&mut self, elapsed_us: u64, loads: PerHome<Load>, watched: &[u64]) -> PerHome<(Order, i64)> {
        self.window += 1;
        let mut orders: PerHome<_> = smallvec![(Order::Stay, 0); loads.len()];
        if elapsed_us > STALE_US {
            (self.phase, self.before) = (Phase::Calm, None);
            return orders;
        }
        self.phase = match std::mem::replace(&mut self.phase, Phase::Calm) {
            Phase::Calm => self.compare(&loads, &mut orders),
            Phase::Watching(pairs) => self.decide(&pairs, &loads, watched, &mut orders),
            Phase::Moving => Phase::Settling,
            Phase::Settling => Phase::Calm,
        };
        self.before = matches!(self.phase, Phase::Calm).then_some(loads);
        orders
    }

    /// The busiest home with the least busy, the next with the next, as long as they are uneven in both windows.
    fn compare(&mut self, loads: &[Load], orders: &mut [(Order, i64)]) -> Phase {
        let Some(before) = self.before.as_ref().filter(|_| self.window >= self.rest_until) else {
            return Phase::Calm;
        };
        let mut homes: PerHome<_> = (0..loads.len()).collect();
        homes.sort_by_key(|home| loads[*home].busy);
        let pairs = homes.iter().rev().zip(&homes).take(homes.len() / 2);
        let pairs = pairs.map(|(from, to)| Pair { from: *from, to: *to });
        let pairs: Vec<_> = pairs.filter(|pair| pair.is_uneven(loads) && pair.is_uneven(before)).collect();
        if pairs.is_empty() || self.regrets(&pairs) {
            return Phase::Calm;
        }
        self.epoch = self.epoch % EPOCH_MAX + 1;
        pairs.iter().for_each(|pair| orders[pair.from].0 = Order::Watch(self.epoch));
        Phase::Watching(pairs)
    }

    /// True if a home that is too busy now got connections a while ago: measured turns say little about cost then, so
    /// each time the next try comes later.
    fn regrets(&mut self, pairs: &[Pair]) -> bool {
        let recent = |window: u64| self.window - window <= REGRET_WINDOWS + self.penalty_windows;
        let regretted = pairs.iter().any(|pair| self.received[pair.from].take().is_some_and(recent));
        if !regretted {
            if self.window > self.rest_until + PENALTY_WINDOWS_MAX {
                self.penalty_windows = 1;
            }
            return false;
        }
        self.penalty_windows = (self.penalty_windows * 4).min(PENALTY_WINDOWS_MAX);
        self.rest_until = self.window + self.penalty_windows;
        true
    }

    fn decide(
        &mut self,
        pairs: &[Pair],
        loads: &[Load],
        watched: &[u64],
        orders: &mut [(Order, i64)],
    ) -> Phase {
        let moves = |pair: &&Pair| pair.is_uneven(loads) && watched[pair.from] >= TURNS_MIN;
        let mut phase = Phase::Calm;
        for pair in pairs.iter().filter(moves) {
            orders[pair.from] = (Order::Move(self.epoch, pair.to), pair.budget(loads, watched));
            self.received[pair.to] = Some(self.window);
            phase = Phase::Moving;
        }
        phase
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A home that is busy for so many hundredths of a core with so many hundreds of turns.
    fn busy(hundredths: u64, turns: u64) -> Load {
        Load { busy: hundredths * 10, turns: turns * 100 }
    }

    /// Homes that are busy as a test says, window by window.
    struct World {
        judge: Judge,
    }

    impl World {
        fn new(homes: usize) -> World {
            World { judge: Judge::new(homes) }
        }

        /// One window of `loads` hundredths of a core each, with so many turns of clients at every home.
        fn window(&mut self, loads: &[u64], watched: u64) -> PerHome<(Order, i64)> {
            let loads: PerHome<_> = loads.iter().map(|load| busy(*load, *load)).collect();
            let watched = vec![watched; loads.len()];
            self.judge.look(WINDOW_US, loads, &watched)
        }

        /// Windows of `loads` until somebody may move; says who, where and with how many turns.
        fn moves(&mut self, loads: &[u64], windows: usize) -> Vec<(usize, usize, i64)> {
            for _ in 0..windows {
                let orders = self.window(loads, 1_000);
                let moves = (0..).zip(orders).filter_map(|(from, (order, budget))| match order {
                    Order::Move(_, to) => Some((from, to, budget)),
                    _ => None,
                });
                let moves: Vec<_> = moves.collect();
                if !moves.is_empty() {
                    return moves;
                }
            }
            Vec::new()
        }
    }

    #[test]
    fn half_of_the_difference_goes_to_the_least_busy() {
        assert_eq!(World::new(2).moves(&[80, 10], 4), [(0, 1, 437)]);
        assert_eq!(World::new(3).moves(&[30, 20, 90], 4), [(2, 1, 388)]);
    }

    #[test]
    fn uneven_homes_go_in_pairs_and_the_rest_stays() {
        let moves = World::new(6).moves(&[90, 10, 50, 60, 20, 45], 4);
        assert_eq!(moves, [(0, 1, 444), (3, 4, 333)]);
    }

    #[test]
    fn even_and_idle_homes_move_nobody() {
        for loads in [[0, 0], [100, 100], [40, 40], [9, 0], [39, 30], [80, 65], [100, 80]] {
            assert!(World::new(2).moves(&loads, 1_000).is_empty(), "{loads:?}");
        }
    }

    #[test]
    fn one_busy_window_moves_nobody() {
        let mut world = World::new(2);
        for round in 0..1_000 {
            let loads = if round % 3 == 0 { [100, 0] } else { [40, 40] };
            assert!(world.moves(&loads, 1).is_empty(), "round {round}");
        }
    }

    #[test]
    fn a_few_turns_move_nobody() {
        let mut world = World::new(2);
        for _ in 0..100 {
            let orders = world.window(&[90, 0], TURNS_MIN - 1);
            assert!(!orders.iter().any(|(order, _)| matches!(order, Order::Move(..))));
        }
    }

    #[test]
    fn what_happened_before_a_pause_moves_nobody() {
        let mut world = World::new(2);
        for _ in 0..100 {
            assert!(world.moves(&[90, 0], 2).is_empty());
            let orders = world.judge.look(STALE_US + 1, smallvec![busy(90, 90), busy(0, 0)], &[1_000, 0]);
            assert!(orders.iter().all(|(order, _)| *order == Order::Stay));
        }
    }

    #[test]
    fn time_counts_for_the_home_whoever_used_it() {
        let mut meter = Meter::default();
        let used = |us, turns: [u64; 2]| Used { us, turns: PerHome::from_slice(&turns) };
        let mut read = |now_us, used| {
            let (elapsed_us, loads) = meter.read(now_us, used, 2);
            (elapsed_us, [loads[0].busy, loads[1].busy], [loads[0].turns, loads[1].turns])
        };
        let began = smallvec![used(50, [5, 0]), used(10, [0, 2])];
        assert_eq!(read(100, began), (100, [500, 100], [5, 2]));
        // The second worker stole a half of what it ran.
        let stolen: PerHome<_> = smallvec![used(130, [9, 0]), used(50, [3, 5])];
        assert_eq!(read(200, stolen.clone()), (100, [1_000, 200], [7, 3]));
        assert_eq!(read(200, stolen), (1, [0, 0], [0, 0]));
        // Time without a turn is nobody's.
        assert_eq!(read(300, smallvec![used(190, [9, 0]), used(0, [3, 5])]), (100, [0, 0], [0, 0]));
    }

    #[test]
    fn a_core_on_which_turns_cost_more_loses_nobody() {
        let pair = Pair { from: 0, to: 1 };
        assert!(pair.is_uneven(&[busy(30, 30), busy(19, 20)]));
        assert!(!pair.is_uneven(&[busy(30, 20), busy(18, 20)]), "the turns are even");
        assert!(!pair.is_uneven(&[busy(90, 20), busy(50, 20)]));
        assert!(pair.is_uneven(&[busy(90, 20), busy(40, 20)]), "it is more than the core can cost");
    }

    /// Ends turns of all `weights` while their home is watched, then once more while it may be left; says how many left.
    fn leave(weights: &mut [Weight], is_client: bool, turns: u64) -> usize {
        let balance = Balance::new(&Options { reactors: 2, ..Options::default() });
        let home = &balance.homes[0];
        let mut end = |weight: &mut Weight| {
            let to = balance.destination(Candidate { home: 0, is_client, weight });
            assert!(to.is_none_or(|to| to == 1));
            usize::from(to.is_some())
        };
        home.order.store(Order::Watch(1).bits(), Relaxed);
        for _ in 0..turns {
            assert_eq!(weights.iter_mut().map(&mut end).sum::<usize>(), 0, "they are only counted");
        }
        let (uneven, watched) = (Pair { from: 0, to: 1 }, home.watched.load(Relaxed));
        home.budget.store(uneven.budget(&[busy(90, 90), busy(0, 0)], &[watched, 0]), Relaxed);
        home.order.store(Order::Move(1, 1).bits(), Relaxed);
        weights.iter_mut().map(&mut end).sum()
    }

    #[test]
    fn half_of_equal_connections_leaves() {
        assert_eq!(leave(&mut [Weight::default(); 100], true, 3), 50);
        assert_eq!(leave(&mut [Weight::default(); 3], true, 30), 1);
    }

    #[test]
    fn a_connection_that_is_all_of_the_load_stays() {
        assert_eq!(leave(&mut [Weight::default()], true, 500), 0);
    }

    #[test]
    fn what_did_nothing_while_it_was_watched_stays() {
        assert_eq!(leave(&mut [Weight::default(); 100], true, 0), 0);
    }

    #[test]
    fn what_this_side_opened_stays() {
        assert_eq!(leave(&mut [Weight::default(); 100], false, 3), 0);
    }

    #[test]
    fn nothing_is_compared_where_nothing_may_move() {
        let one = Options { reactors: 1, ..Options::default() };
        let off = Options { rebalance: Rebalance::Off, ..Options::default() };
        let handoff = Options { mode: Mode::Raw(Dispatch::Handoff), ..Options::default() };
        for options in [one, off, handoff] {
            let look_us = Balance::new(&options).look_us.load(Relaxed);
            assert_eq!(look_us, u64::MAX, "{options:?}");
        }
    }

    #[test]
    fn a_weight_is_that_of_one_window() {
        let mut weight = Weight::default();
        (0..5).for_each(|_| weight.add(3));
        assert_eq!((weight.turns(3), weight.turns(4)), (5, 0));
        weight.add(4);
        assert_eq!((weight.turns(3), weight.turns(4)), (0, 1));
        (0..5_000).for_each(|_| weight.add(31));
        assert_eq!(weight.turns(31), TURNS_MAX);
    }

    #[test]
    fn an_order_survives_its_packing() {
        for order in [Order::Stay, Order::Watch(1), Order::Move(31, 0), Order::Move(1, 1_023), Order::MoveOn]
        {
            assert_eq!(Order::from_bits(order.bits()), order);
        }
    }
}
