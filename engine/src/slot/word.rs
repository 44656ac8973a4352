//! The schedule word of a slot: who may run it, and why it should run (ownership rules O1 to O3).
//!
//! One atomic word holds the generation and the flags. Every transition here is one atomic update; the word decides
//! nothing else and touches no queue: a caller that is told to queue the slot must do so. Called by the table and the
//! drivers.
//!
//! ```text
//!                 cause added                       begin                    cause added: kept, seen at release
//!   resting ───────────────────────▶ QUEUED ─────────────────▶ RUNNING ──┐
//!      ▲                               ▲                          │  ▲    │
//!      │ release, no cause             └──────────────────────────┘  └────┘
//!      └──────────────────────────────────────── release ┘ requeue
//! ```

use crate::sync::{AtomicU64, Ordering};

/// The slot lies in exactly one queue.
const QUEUED: u32 = 1;
/// A worker holds the slot.
const RUNNING: u32 = 1 << 1;

/// Why a slot should run: a set of flags of the schedule word.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Causes(u32);

impl Causes {
    /// None.
    pub(crate) const NONE: Causes = Causes(0);
    /// Its socket was reported, and is not again for what has arrived. The readiness flags say what it was.
    pub(crate) const EVENT: Causes = Causes(1 << 2);
    /// Its inbox was empty and is not any more.
    pub(crate) const MAIL: Causes = Causes(1 << 3);
    /// Its deadline may have come.
    pub(crate) const TIMER: Causes = Causes(1 << 4);
    /// Its last turn stopped on a budget, or it is new: the socket is looked at without an event.
    pub(crate) const AGAIN: Causes = Causes(1 << 5);
    /// With `EVENT`: readable.
    pub(crate) const IN: Causes = Causes(1 << 6);
    /// With `EVENT`: writable.
    pub(crate) const OUT: Causes = Causes(1 << 7);
    /// With `EVENT`: the peer shut its write side.
    pub(crate) const PEER_SHUT: Causes = Causes(1 << 8);
    /// With `EVENT`: error, or both directions shut.
    pub(crate) const BROKEN: Causes = Causes(1 << 9);

    /// With `EVENT`: urgent data lies among what is to be read.
    pub(crate) const URGENT: Causes = Causes(1 << 10);

    const ALL: u32 = 0x1ff << 2;

    /// Both sets together.
    pub(crate) const fn and(self, other: Causes) -> Causes {
        Causes(self.0 | other.0)
    }

    /// True if any flag of `other` is set here.
    pub(crate) const fn any(self, other: Causes) -> bool {
        self.0 & other.0 != 0
    }

    /// True if no flag is set.
    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// What the caller of a transition must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// Put the slot into a queue: this caller won the right, and the duty.
    Queue,
    /// Nothing: it is queued, or its holder will see the cause before it lets go.
    Seen,
    /// Nothing: the generation is over.
    Stale,
}

/// The schedule word.
pub(crate) struct Word(AtomicU64);

const fn generation_of(word: u64) -> u32 {
    (word >> 32) as u32
}

const fn flags_of(word: u64) -> u32 {
    word as u32
}

impl Word {
    /// The word of a slot that was never used.
    pub(crate) fn new() -> Word {
        Word(AtomicU64::new(0))
    }

    /// The generation as it is now; another thread may end it at any moment, except for the holder.
    pub(crate) fn generation(&self) -> u32 {
        generation_of(self.0.load(Ordering::Acquire))
    }

    /// True if nobody holds it, it is in no queue and has no cause: for the watchdog, outdated at once.
    pub(crate) fn is_resting(&self) -> bool {
        flags_of(self.0.load(Ordering::Relaxed)) == 0
    }

    /// Adds causes for one generation only (O1): events carry one.
    pub(crate) fn add_for(&self, generation: u32, causes: Causes) -> Added {
        self.add_if(causes, |word| generation_of(word) == generation)
    }

    /// Adds causes whatever the generation (O1): mail and timers, which are judged by the turn.
    pub(crate) fn add(&self, causes: Causes) -> Added {
        self.add_if(causes, |_| true)
    }

    fn add_if(&self, causes: Causes, wanted: impl Fn(u64) -> bool) -> Added {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if !wanted(word) {
                return Added::Stale;
            }
            let free = flags_of(word) & (QUEUED | RUNNING) == 0;
            let next = word | u64::from(causes.0) | if free { u64::from(QUEUED) } else { 0 };
            match self.0.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if free => return Added::Queue,
                Ok(_) => return Added::Seen,
                Err(found) => word = found,
            }
        }
    }

    /// Wins a slot that rests, for a new connection: it is held from here on. Nothing if it does not rest.
    pub(crate) fn claim(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        flags_of(word) == 0
            && self
                .0
                .compare_exchange(word, word | u64::from(RUNNING), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Begins the turn of a slot that was taken out of a queue (O2), with what caused it. Nothing if it was not
    /// queued: then somebody broke the rule that a slot is in at most one queue.
    pub(crate) fn begin(&self) -> Option<Causes> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if flags_of(word) & (QUEUED | RUNNING) != QUEUED {
                return None;
            }
            let next = word & !u64::from(QUEUED | Causes::ALL) | u64::from(RUNNING);
            match self.0.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(Causes(flags_of(word) & Causes::ALL)),
                Err(found) => word = found,
            }
        }
    }

    /// Takes the causes that were added while the caller holds the slot.
    pub(crate) fn take_causes(&self) -> Causes {
        if flags_of(self.0.load(Ordering::Relaxed)) & Causes::ALL == 0 {
            return Causes::NONE;
        }
        let before = self.0.fetch_and(!u64::from(Causes::ALL), Ordering::AcqRel);
        Causes(flags_of(before) & Causes::ALL)
    }

    /// Lets go (O3), unless a cause came meanwhile: then the caller still holds the slot, and false is returned.
    pub(crate) fn release(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        flags_of(word) & Causes::ALL == 0
            && self
                .0
                .compare_exchange(word, word & !u64::from(RUNNING), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Lets go and queues in one step, with `causes` added. The caller must put the slot into a queue.
    pub(crate) fn requeue(&self, causes: Causes) {
        let set = u64::from(QUEUED | causes.0);
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let next = word & !u64::from(RUNNING) | set;
            match self.0.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
    }

    /// Ends the generation (O7); the holder keeps the slot. Events of the old one are stale from here on.
    pub(crate) fn end_generation(&self) {
        self.0.fetch_add(1 << 32, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_causes_queues_the_slot() {
        let word = Word::new();
        assert_eq!(word.add(Causes::MAIL), Added::Queue);
        assert_eq!(word.add_for(0, Causes::EVENT), Added::Seen);
        let causes = word.begin().expect("it is queued");
        assert!(causes.any(Causes::MAIL) && causes.any(Causes::EVENT) && !causes.any(Causes::TIMER));
        assert!(word.begin().is_none());
    }

    #[test]
    fn a_cause_that_comes_while_running_prevents_the_release() {
        let word = Word::new();
        word.add(Causes::MAIL);
        word.begin().expect("it is queued");
        assert_eq!(word.add(Causes::TIMER), Added::Seen);
        assert!(!word.release());
        assert!(word.take_causes().any(Causes::TIMER));
        assert!(word.release());
        assert_eq!(word.add(Causes::MAIL), Added::Queue);
    }

    #[test]
    fn an_event_of_an_ended_generation_is_stale() {
        let word = Word::new();
        assert!(word.claim());
        word.end_generation();
        assert_eq!(word.add_for(0, Causes::EVENT), Added::Stale);
        assert!(word.release());
        assert_eq!((word.add_for(1, Causes::EVENT), word.generation()), (Added::Queue, 1));
    }

    #[test]
    fn a_slot_that_is_busy_with_bounces_cannot_be_claimed() {
        let word = Word::new();
        word.add(Causes::MAIL);
        assert!(!word.claim());
        word.begin().expect("it is queued");
        assert!(!word.claim());
        assert!(word.release() && word.claim());
    }

    #[test]
    fn requeueing_keeps_what_came_meanwhile() {
        let word = Word::new();
        assert!(word.claim());
        word.add(Causes::MAIL);
        word.requeue(Causes::AGAIN);
        let causes = word.begin().expect("requeue queued it");
        assert!(causes.any(Causes::MAIL) && causes.any(Causes::AGAIN));
    }
}
