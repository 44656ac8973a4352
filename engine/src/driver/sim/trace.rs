//! What happened in a simulation, as one number and, if wanted, as text: one seed gives one trace (contract rule 8).
//!
//! It only records. The driver notes every turn's events here; tests compare the numbers of two runs, and print the
//! text of a failing one.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::machine::Address;
use crate::time::Time;

/// The record of a run.
#[derive(Default)]
pub(super) struct Trace {
    hasher: DefaultHasher,
    events: u64,
    text: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace; text costs memory and is kept on request only.
    pub(super) fn new(with_text: bool) -> Trace {
        Trace { text: with_text.then(Vec::new), ..Trace::default() }
    }

    /// Notes that `what` happened to `who`, with two figures that say more.
    pub(super) fn note(&mut self, now: Time, who: Address, what: &str, figures: [u64; 2]) {
        self.events += 1;
        (now.as_ms(), who, what, figures).hash(&mut self.hasher);
        if let Some(text) = &mut self.text {
            let Address { index, generation } = who;
            let [first, second] = figures;
            text.push(format!("{:>7} ms  {index}.{generation}  {what} {first} {second:x}", now.as_ms()));
        }
    }

    /// Adds a line that others wrote, for a reader.
    pub(super) fn remark(&mut self, now: Time, remark: &str) {
        remark.hash(&mut self.hasher);
        if let Some(text) = &mut self.text {
            text.push(format!("{:>7} ms  {remark}", now.as_ms()));
        }
    }

    /// One number for everything so far.
    pub(super) fn digest(&self) -> u64 {
        self.hasher.finish()
    }

    /// How many events were noted.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// The text so far; empty unless it was asked for.
    pub(super) fn text(&self) -> &[String] {
        self.text.as_deref().unwrap_or_default()
    }
}

/// A running checksum of a stream's bytes, however it was cut into reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamDigest(u64);

impl StreamDigest {
    /// Goes on over `bytes` (FNV-1a).
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3) ^ 0x5bd1;
        }
    }

    /// Its value.
    pub(super) fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Address = Address { index: 3, generation: 1 };

    #[test]
    fn the_same_events_give_the_same_number_and_any_difference_another() {
        let run = |figure| {
            let mut trace = Trace::new(true);
            trace.note(Time::from_ms(5), WHO, "read", [figure, 0]);
            (trace.digest(), trace.text().to_vec())
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).0, run(2).0);
        assert_eq!(run(1).1, ["      5 ms  3.1  read 1 0"]);
    }

    #[test]
    fn a_stream_has_one_digest_however_it_is_cut() {
        let (mut whole, mut cut) = (StreamDigest::default(), StreamDigest::default());
        whole.add(b"hello world");
        [&b"hel"[..], b"", b"lo world"].iter().for_each(|part| cut.add(part));
        assert_eq!(whole, cut);
        whole.add(b"!");
        assert_ne!(whole, cut);
    }
}
