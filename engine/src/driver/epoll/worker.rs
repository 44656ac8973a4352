//! A thread of the pool: takes slots in batches, runs them, helps others, sleeps.
//!
//! With `help` it leads the reactor of its number, if there is one, and runs first what it finds there; surplus in its
//! deque is taken by others (O10). A batch is bounded (O5): at most 64 turns of events, 1 MiB read or 400 us, then at most
//! as many turns of mail, so that what a request causes upstream is written in the same batch. All that ran is held until
//! the end of the batch, and flushed, armed and released there (O3). It knows no socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::deque::Worker as Deque;

use crate::driver::epoll::hub::Hub;
use crate::driver::epoll::leader::Lead;
use crate::driver::epoll::outbox::Outbox;
use crate::driver::epoll::queue::EventQueue;
use crate::driver::epoll::turn::Runner;
use crate::driver::kit::Kit;
use crate::machine::Application;
use crate::slot::table::Held;

/// Turns of events in one batch, and turns of mail.
const TURNS_MAX: usize = 64;
/// Bytes read in one batch.
const READ_BYTES_MAX: usize = 1 << 20;
/// How long a batch takes new slots, in microseconds.
const BATCH_US: u64 = 400;
/// While work is queued, epoll is looked at no more often than this, in microseconds.
const POLL_US: u64 = 100;
/// So many queued slots are surplus: a sleeper is woken.
const SURPLUS: usize = 16;
/// A queued slot older than this is surplus too, in microseconds.
const SURPLUS_US: u64 = 200;
/// A victim with fewer queued slots is left alone.
const STEAL_FROM: usize = 4;
/// Slots that one theft takes.
const STEAL_MAX: usize = 16;
/// Slots taken at once from the queue of `handoff`.
const HANDOFF_TAKE: usize = 16;
/// How often held connections that got mail run again in one batch.
const ROUNDS_MAX: usize = 4;
/// Every so many turns the clock is looked at.
const CLOCK_TURNS: usize = 4;

/// A pool thread.
pub(crate) struct PoolWorker<A: Application> {
    hub: Arc<Hub<A>>,
    runner: Runner<A>,
    lead: Option<Lead<A>>,
    /// What ran in this batch.
    held: Vec<Held>,
    number: usize,
    /// Since when slots are queued, in microseconds; 0 if none is.
    queued_since_us: u64,
    /// Of the hub, when this worker last looked.
    ebbs: u32,
}

impl<A: Application> PoolWorker<A> {
    /// Worker `number`; made on its own thread.
    pub(crate) fn new(
        hub: Arc<Hub<A>>,
        number: usize,
        events: Deque<u32>,
        lead: Option<Lead<A>>,
    ) -> PoolWorker<A> {
        hub.balance.join(number);
        let (local, seed) = (hub.app.local(number), number as u64 + hub.seed);
        let kit = Kit::new(local, hub.pool.clone(), hub.loads.clone(), seed);
        let home = number % hub.reactors.len();
        let out = Outbox::new(EventQueue::new(events), home);
        let runner = Runner::new(Arc::clone(&hub), kit, out, number);
        let held = Vec::with_capacity(4 * TURNS_MAX);
        PoolWorker { hub, runner, lead, held, number, queued_since_us: 0, ebbs: 0 }
    }

    /// Runs until the engine ends.
    pub(crate) fn run(mut self) {
        while !self.hub.ended.load(Ordering::Relaxed) {
            if self.runner.out.is_empty() && !self.find_work() {
                continue;
            }
            self.look_at_reactor();
            // What others handed off has its turn beside what this worker has queued itself.
            self.take_handed_off();
            self.call_for_help();
            self.batch();
        }
    }

    /// Finds slots to run, or sleeps. False if it found none.
    fn find_work(&mut self) -> bool {
        if self.hub.handoff.is_some() {
            return self.take_handed_off() || self.steal_surplus() || self.sleep();
        }
        self.steal_surplus() || self.sleep()
    }

    /// Sleeps until there is work; false if it was woken to help and found nothing, or for nothing.
    fn sleep(&mut self) -> bool {
        self.runner.kit.rest();
        let ebbs = self.hub.ebbs.load(Ordering::Relaxed);
        if ebbs != self.ebbs {
            self.ebbs = ebbs;
            // The runner empties the thread's cache, so it comes last.
            if let Some(lead) = &mut self.lead {
                lead.ebb();
            }
            self.runner.ebb();
        }
        let PoolWorker { hub, runner, lead, number, .. } = self;
        let counts = &hub.workers[*number].counts;
        if let Some(lead) = lead {
            let events = &mut runner.out.events;
            let surplus = || has_surplus(hub, *number);
            let result = lead.wait(surplus, counts, &mut |slot| events.push(slot));
            result.expect("epoll_wait fails for a bad descriptor alone, and this one is ours");
        } else {
            let sleep = &hub.workers[*number].sleep;
            sleep.announce();
            let handed_off = hub.handoff.as_ref().is_some_and(|queue| !queue.is_empty());
            if !handed_off && !has_surplus(hub, *number) && !hub.ended.load(Ordering::SeqCst) {
                std::thread::park();
            }
            sleep.end();
            self.take_handed_off();
        }
        !self.runner.out.is_empty() || self.steal(STEAL_FROM)
    }

    fn take_handed_off(&mut self) -> bool {
        let Some(queue) = &self.hub.handoff else { return false };
        for _ in 0..HANDOFF_TAKE {
            let Some(slot) = queue.pop() else { break };
            self.runner.out.events.push(slot);
        }
        if !queue.is_empty() {
            self.hub.wake_a_helper(self.number);
        }
        !self.runner.out.is_empty()
    }

    /// Takes slots from a worker that has more than it can run soon. Whoever lives on them must not forget its reactor.
    fn steal_surplus(&mut self) -> bool {
        let stolen = self.steal(SURPLUS);
        if stolen {
            self.runner.look_at_clock();
        }
        stolen
    }

    /// Takes slots from a worker that has at least `least` queued.
    fn steal(&mut self, least: usize) -> bool {
        let workers = self.hub.workers.len();
        for victim in (1..workers).map(|distance| (self.number + distance) % workers) {
            let stealer = &self.hub.workers[victim].stealer;
            if stealer.len() < least {
                continue;
            }
            let count = self.runner.out.events.steal(stealer, STEAL_MAX);
            if count > 0 {
                self.runner.counts().stolen.add(count as u64);
                return true;
            }
        }
        false
    }

    /// Polls epoll now and then while work is queued.
    fn look_at_reactor(&mut self) {
        let now_us = self.runner.now_us;
        let Some(lead) = &mut self.lead else { return };
        let since_us = now_us.saturating_sub(lead.polled_us);
        if since_us < POLL_US {
            return;
        }
        let counts = &self.hub.workers[self.number].counts;
        counts.lag_us_max.raise(since_us);
        let events = &mut self.runner.out.events;
        let result = lead.poll(counts, &mut |slot| events.push(slot));
        result.expect("epoll_wait fails for a bad descriptor alone, and this one is ours");
    }

    /// Wakes a sleeper if there is more than this worker can run soon (O10).
    fn call_for_help(&mut self) {
        let old = self.queued_since_us > 0 && self.runner.now_us - self.queued_since_us > SURPLUS_US;
        if old {
            self.runner.out.share_mail();
        }
        let queued = self.runner.out.events.show();
        // Fewer than a thief may take are no reason to wake one.
        if queued >= SURPLUS || queued >= STEAL_FROM && old {
            self.hub.wake_a_helper(self.number);
        }
    }

    /// Notes how old what is queued may be: if everything that was there before this batch has run, no older than it.
    fn note_queue(&mut self, began_us: u64, left_over: bool) {
        let queued = self.runner.out.events.len() + self.runner.out.mail.len();
        self.runner.counts().queued.set(queued as u64);
        if queued == 0 {
            self.queued_since_us = 0;
        } else if self.queued_since_us == 0 || !left_over {
            self.queued_since_us = began_us;
        }
    }

    /// Runs a batch to its end (O5).
    fn batch(&mut self) {
        // All that this batch takes out of its queues is there by now, but for what its own mail queues.
        self.runner.look_at_clock();
        let began_us = self.runner.now_us;
        self.hub.balance.look(began_us);
        let (events, mail) = (self.runner.out.events.len(), self.runner.out.mail.len());
        self.runner.read_bytes = 0;
        self.runner.counts().batches.add(1);
        // What is left of the mail opens the batch.
        for _ in 0..self.runner.out.mail.len().min(TURNS_MAX) {
            self.run_mail();
        }
        let mut ran = 0;
        for turn in 1..=TURNS_MAX {
            let Some(slot) = self.runner.out.events.pop() else { break };
            self.run_slot(slot);
            ran = turn;
            if turn % CLOCK_TURNS == 0 {
                self.runner.look_at_clock();
            }
            let late = self.runner.now_us - began_us >= BATCH_US;
            if late || self.runner.read_bytes >= READ_BYTES_MAX {
                break;
            }
        }
        self.run_mail_and_held();
        for held in self.held.drain(..) {
            self.runner.finish(held);
        }
        self.file_hints();
        self.runner.kit.settle();
        self.note_queue(began_us, ran < events || mail > TURNS_MAX);
        if !self.runner.out.is_empty() {
            self.runner.look_at_clock();
        }
    }

    fn run_mail(&mut self) -> bool {
        let Some(slot) = self.runner.out.mail.pop_front() else { return false };
        if self.runner.out.is_ahead {
            self.runner.look_at_clock();
        }
        self.run_slot(slot);
        true
    }

    fn run_slot(&mut self, slot: u32) {
        let Some((mut held, causes)) = self.hub.table.begin(slot) else {
            debug_assert!(false, "a slot is in at most one queue");
            return;
        };
        self.runner.turn(&mut held, causes);
        self.held.push(held);
    }

    /// Mail of this batch, in rounds: slots that rested, then held ones that got some.
    fn run_mail_and_held(&mut self) {
        let mut turns = 0;
        for _ in 0..ROUNDS_MAX {
            while turns < TURNS_MAX && self.run_mail() {
                turns += 1;
            }
            let mut ran = false;
            for held in &mut self.held {
                let causes = self.hub.table.take_causes(held);
                if !causes.is_none() {
                    self.runner.turn(held, causes);
                    ran = true;
                }
            }
            if !ran && self.runner.out.mail.is_empty() {
                break;
            }
        }
    }

    /// Files the timer hints of the batch, here or at their home.
    fn file_hints(&mut self) {
        let PoolWorker { hub, runner, lead, .. } = self;
        for (home, slot, tick) in runner.out.hints.drain(..) {
            match lead {
                Some(lead) if lead.number == home => lead.file(slot, tick),
                _ => hub.reactors[home].file_hint(slot, tick),
            }
        }
    }
}

/// True if another worker has more queued than it can run soon.
fn has_surplus<A: Application>(hub: &Hub<A>, me: usize) -> bool {
    hub.workers.iter().enumerate().any(|(number, seat)| number != me && seat.stealer.len() >= SURPLUS)
}

/// A thread that leads a reactor and runs nothing (`--dispatch handoff`): what it finds goes to the queue of the workers.
pub(crate) fn lead_only<A: Application>(hub: &Arc<Hub<A>>, mut lead: Lead<A>) {
    let queue = hub.handoff.as_ref().expect("the thread exists with this queue only");
    let counts = &hub.reactors[lead.number].counts;
    let mut ebbs = hub.ebbs.load(Ordering::Relaxed);
    while !hub.ended.load(Ordering::Relaxed) {
        let seen = hub.ebbs.load(Ordering::Relaxed);
        if std::mem::replace(&mut ebbs, seen) != seen {
            lead.ebb();
        }
        let mut found = 0;
        let mut hand_off = |slot| {
            found += 1;
            assert!(queue.push(slot).is_ok(), "a slot is in one queue, and this one has room for all");
        };
        lead.wait(|| false, counts, &mut hand_off)
            .expect("epoll_wait fails for a bad descriptor alone, and this one is ours");
        hub.wake_sleepers(found, lead.number);
    }
}
