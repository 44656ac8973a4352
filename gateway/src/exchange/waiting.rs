//! The replies that one upstream connection waits for, by the ids it gave out.
//!
//! Ids come from a counter of the connection, wrap, and are never one that is still in flight. What nobody waits for any
//! more is forgotten in one sweep for many, so that a storm of timeouts does not cost a search for each.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use bowline_engine::machine::Address;

/// Who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The connection.
    pub downstream: Address,
    /// Its exchange.
    pub key: u32,
}

/// The requests in flight on one upstream connection.
#[derive(Debug, Default)]
pub struct Waiting {
    asked: HashMap<u32, Asker, BuildHasherDefault<IdHasher>>,
    last_id: u32,
    cancelled: Vec<(Address, Option<u32>)>,
}

impl Waiting {
    /// How many.
    pub fn len(&self) -> usize {
        self.asked.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// An id that is not in flight, for a frame that nobody answers to somebody.
    pub fn fresh_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if !self.asked.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Gives `asker` an id of its own.
    pub fn enter(&mut self, asker: Asker) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Entry::Vacant(entry) = self.asked.entry(self.last_id) {
                entry.insert(asker);
                return self.last_id;
            }
        }
    }

    /// Whoever waits for the reply with `id`; asked once.
    pub fn leave(&mut self, id: u32) -> Option<Asker> {
        self.asked.remove(&id)
    }

    /// Notes that `downstream` no longer waits: for one reply, or for any. True if this is the first since the sweep.
    pub fn cancel(&mut self, downstream: Address, key: Option<u32>) -> bool {
        self.cancelled.push((downstream, key));
        self.cancelled.len() == 1
    }

    /// True if something was cancelled since the last sweep.
    pub fn is_dirty(&self) -> bool {
        !self.cancelled.is_empty()
    }

    /// What was cancelled since the last sweep.
    pub fn cancelled(&self) -> &[(Address, Option<u32>)] {
        &self.cancelled
    }

    /// Forgets what was cancelled; says how many requests that were.
    pub fn sweep(&mut self) -> u32 {
        let before = self.asked.len();
        let cancelled: HashSet<_> = self.cancelled.drain(..).collect();
        if !cancelled.is_empty() {
            self.asked.retain(|_, asker| {
                !cancelled.contains(&(asker.downstream, Some(asker.key)))
                    && !cancelled.contains(&(asker.downstream, None))
            });
        }
        u32::try_from(before - self.asked.len()).unwrap_or(u32::MAX)
    }

    /// Takes everyone who waits, in the order in which they asked as far as ids did not wrap.
    pub fn take_all(&mut self) -> Vec<Asker> {
        let mut all: Vec<_> = self.asked.drain().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, asker)| asker).collect()
    }

    /// Every request in flight, by id.
    pub fn entries(&self) -> Vec<(u32, Asker)> {
        let mut all: Vec<_> = self.asked.iter().map(|(id, asker)| (*id, *asker)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// The last id that was given out.
    pub fn last_id(&self) -> u32 {
        self.last_id
    }

    /// The table that holds `entries`.
    pub fn restore(entries: impl Iterator<Item = (u32, Asker)>, last_id: u32) -> Waiting {
        Waiting { asked: entries.collect(), last_id, cancelled: Vec::new() }
    }
}

/// A hash for ids that this process counts up itself: nobody else chooses them, so one multiplication does, and its
/// order is the same in every run.
#[derive(Clone, Copy, Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(index: u32, key: u32) -> Asker {
        Asker { downstream: Address { index, generation: 0 }, key }
    }

    #[test]
    fn ids_wrap_and_are_never_one_in_flight() {
        let mut waiting = Waiting { last_id: u32::MAX - 2, ..Waiting::default() };
        let first: Vec<_> = (0..4).map(|key| waiting.enter(asker(1, key))).collect();
        assert_eq!(first, [u32::MAX - 1, u32::MAX, 0, 1]);
        waiting.last_id = u32::MAX - 2;
        assert_eq!(waiting.enter(asker(1, 9)), 2, "all before it are in flight");
        waiting.last_id = u32::MAX;
        assert_eq!(waiting.fresh_id(), 3);
        assert_eq!(waiting.leave(0), Some(asker(1, 2)));
        assert_eq!(waiting.leave(0), None);
    }

    #[test]
    fn a_sweep_forgets_single_requests_and_whole_connections() {
        let mut waiting = Waiting::default();
        let ids: Vec<_> = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]
            .map(|(index, key)| waiting.enter(asker(index, key)))
            .into();
        assert!(waiting.cancel(asker(1, 0).downstream, Some(2)));
        assert!(!waiting.cancel(asker(2, 0).downstream, None));
        assert_eq!(waiting.sweep(), 3);
        let left: Vec<_> = waiting.entries().iter().map(|(id, _)| *id).collect();
        assert_eq!(left, [ids[0], ids[4]]);
        assert!(!waiting.is_dirty() && waiting.sweep() == 0);
        assert_eq!(waiting.take_all(), [asker(1, 1), asker(3, 1)]);
    }
}
