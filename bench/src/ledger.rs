//! Owns what one connection waits for: ids in the order of sending, each with the time it was meant to go out. Tells a first
//! answer from a second one and from one that was never asked for. Refuses to look at content: see `verify`.

use std::collections::VecDeque;

/// The outstanding requests of one connection.
#[derive(Debug)]
pub struct Ledger {
    /// The id of the oldest entry of `waiting`, or the next id when there is none.
    first: u32,
    /// The intended time of each request since the oldest unanswered one; [`ANSWERED`] for those answered out of order.
    waiting: VecDeque<u64>,
    /// Unanswered entries of `waiting`.
    open: usize,
    /// Requests sent so far.
    sent: u64,
    /// The heartbeat that waits for its answer; at most one does.
    heartbeat: Option<u32>,
    heartbeats: u32,
}

/// What an id turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The first answer to a request that was meant to go out then.
    First {
        /// The intended time, in ns.
        intended_ns: u64,
    },
    /// Answered before.
    Again,
    /// Never sent on this connection.
    Unknown,
}

impl Ledger {
    /// A ledger whose first request has this id.
    pub fn starting_at(first: u32) -> Self {
        Self { first, waiting: VecDeque::new(), open: 0, sent: 0, heartbeat: None, heartbeats: 0 }
    }

    /// Notes a request and gives its id.
    pub fn send(&mut self, intended_ns: u64) -> u32 {
        debug_assert!(self.has_room(), "the caller asks first");
        let id = self.first.wrapping_add(self.waiting.len() as u32);
        self.waiting.push_back(intended_ns.min(ANSWERED - 1));
        self.open += 1;
        self.sent += 1;
        id
    }

    /// Notes an answer.
    pub fn answer(&mut self, id: u32) -> Answer {
        let ahead = id.wrapping_sub(self.first);
        let Some(entry) = self.waiting.get_mut(ahead as usize) else {
            let behind = u64::from(self.first.wrapping_sub(id));
            let finished = self.sent - self.waiting.len() as u64;
            return if (1..=finished).contains(&behind) { Answer::Again } else { Answer::Unknown };
        };
        if *entry == ANSWERED {
            return Answer::Again;
        }
        let intended_ns = std::mem::replace(entry, ANSWERED);
        self.open -= 1;
        while self.waiting.front() == Some(&ANSWERED) {
            self.waiting.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        Answer::First { intended_ns }
    }

    /// Notes a heartbeat and gives its id, unless one waits already.
    pub fn send_heartbeat(&mut self) -> Option<u32> {
        if self.heartbeat.is_some() {
            return None;
        }
        self.heartbeats += 1;
        self.heartbeat = Some(HEARTBEAT_IDS | self.heartbeats);
        self.heartbeat
    }

    /// Notes the answer to a heartbeat; false when none waits with this id.
    pub fn answer_heartbeat(&mut self, id: u32) -> bool {
        let waits = self.heartbeat == Some(id);
        if waits {
            self.heartbeat = None;
        }
        waits
    }

    /// The request that has waited longest, where answers come in the order of their requests.
    pub fn oldest(&self) -> Option<u32> {
        (!self.waiting.is_empty()).then_some(self.first)
    }

    /// Unanswered requests.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Whether one more may be noted: an unanswered one must not let the rest grow without bound.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Gives up all unanswered requests and says how many there were.
    pub fn give_up(&mut self) -> usize {
        self.first = self.first.wrapping_add(self.waiting.len() as u32);
        self.waiting.clear();
        std::mem::take(&mut self.open)
    }

    /// Gives up the heartbeat that waits; false when there is none.
    pub fn give_up_heartbeat(&mut self) -> bool {
        self.heartbeat.take().is_some()
    }
}

/// Stands for an intended time in the entry of an answered request.
const ANSWERED: u64 = u64::MAX;
/// Ids of heartbeats are apart from those of requests, which begin low and stay there in any run of bounded length.
const HEARTBEAT_IDS: u32 = 1 << 31;
/// Most entries of one connection.
const WAITING_MAX: usize = 1 << 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_any_order_are_first_answers_once() {
        let mut ledger = Ledger::starting_at(1);
        let ids: Vec<u32> = (0..5).map(|n| ledger.send(n * 10)).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        for n in [3u32, 0, 4, 1, 2] {
            let first = Answer::First { intended_ns: u64::from(n) * 10 };
            assert_eq!(ledger.answer(ids[n as usize]), first);
            assert_eq!(ledger.answer(ids[n as usize]), Answer::Again);
        }
        assert_eq!(ledger.open(), 0);
        assert!(ids.iter().all(|id| ledger.answer(*id) == Answer::Again));
        assert_eq!(ledger.oldest(), None);
        let (oldest, _) = (ledger.send(1), ledger.send(2));
        assert_eq!(ledger.oldest(), Some(oldest));
    }

    #[test]
    fn what_was_never_sent_is_unknown() {
        let mut ledger = Ledger::starting_at(1);
        assert_eq!(ledger.answer(1), Answer::Unknown);
        let id = ledger.send(0);
        for unknown in [0, 2, 99, u32::MAX] {
            assert_eq!(ledger.answer(unknown), Answer::Unknown, "{unknown}");
        }
        assert_eq!(ledger.answer(id), Answer::First { intended_ns: 0 });
    }

    #[test]
    fn ids_wrap() {
        let mut ledger = Ledger::starting_at(u32::MAX - 1);
        let ids: Vec<u32> = (0..4).map(|n| ledger.send(n)).collect();
        assert_eq!(ids, [u32::MAX - 1, u32::MAX, 0, 1]);
        assert_eq!(ledger.answer(0), Answer::First { intended_ns: 2 });
        assert_eq!(ledger.answer(u32::MAX - 1), Answer::First { intended_ns: 0 });
        assert_eq!(ledger.answer(u32::MAX - 1), Answer::Again);
        assert_eq!(ledger.answer(2), Answer::Unknown);
        assert_eq!(ledger.open(), 2);
    }

    #[test]
    fn what_is_given_up_is_counted_and_a_late_answer_is_no_first_one() {
        let mut ledger = Ledger::starting_at(1);
        let ids = [ledger.send(0), ledger.send(0), ledger.send(0)];
        ledger.answer(ids[1]);
        assert_eq!(ledger.give_up(), 2);
        assert_eq!(ledger.answer(ids[0]), Answer::Again);
        assert_eq!(ledger.send(5), 4);
    }

    #[test]
    fn one_heartbeat_at_a_time_is_answered_once() {
        let mut ledger = Ledger::starting_at(1);
        let first = ledger.send_heartbeat().expect("none waits");
        assert_eq!(ledger.send_heartbeat(), None);
        assert!(!ledger.answer_heartbeat(first + 1));
        assert!(ledger.answer_heartbeat(first));
        assert!(!ledger.answer_heartbeat(first), "a second answer");
        let second = ledger.send_heartbeat().expect("none waits");
        assert_ne!(first, second);
        assert!(ledger.give_up_heartbeat() && !ledger.give_up_heartbeat());
        assert_eq!(ledger.open(), 0, "heartbeats are no requests");
    }

    #[test]
    fn a_stuck_request_bounds_what_is_sent_behind_it() {
        let mut ledger = Ledger::starting_at(1);
        ledger.send(0);
        while ledger.has_room() {
            let id = ledger.send(0);
            ledger.answer(id);
        }
        assert_eq!((ledger.waiting.len(), ledger.open()), (WAITING_MAX, 1));
        ledger.answer(1);
        assert!(ledger.has_room() && ledger.waiting.is_empty());
    }
}
