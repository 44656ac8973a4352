//! The output queues of clients, the longest of which is closed first when buffer memory is at its ceiling (X3). Only
//! queues of some length are listed, and one is closed at a time: until it is gone, its memory is not back.
//!
//! It knows addresses and lengths, sends nothing and closes nothing. Clients list themselves and are told by mail.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline_engine::machine::Address;
use serde::{Deserialize, Serialize};

/// How a client stands on the list: the magnitude of the queue that it last told, 0 while it is not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed(u8);

impl Listed {
    /// True while its client is listed.
    pub fn is_listed(self) -> bool {
        self.0 > 0
    }

    /// The queue of `client` has `bytes`. The list hears of it when they doubled, halved or became few: its lock is not
    /// taken for every piece, and the longest queue is the longest up to a factor of two.
    pub fn tell(&mut self, longest: &Longest, client: Address, bytes: usize) {
        let magnitude =
            if bytes > LISTED_BYTES_MIN { (usize::BITS - bytes.leading_zeros()) as u8 } else { 0 };
        let before = std::mem::replace(&mut self.0, magnitude);
        match (before, magnitude) {
            (before, now) if before == now => {}
            (_, 0) => longest.forget(client),
            _ => longest.list(client, bytes),
        }
    }
}

/// The queues of the whole process. Its lock is not taken for a queue below [`LISTED_BYTES_MIN`].
#[derive(Debug, Default)]
pub struct Longest {
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    /// Lengths as they were last told; a queue may have been written since.
    bytes: BTreeMap<Address, usize>,
    closing: Option<Address>,
}

impl Longest {
    /// The queue of `client` has `bytes`.
    pub fn list(&self, client: Address, bytes: usize) {
        self.lock().bytes.insert(client, bytes);
    }

    /// The queue of `client` is short, or the client is gone.
    pub fn forget(&self, client: Address) {
        let mut queues = self.lock();
        queues.bytes.remove(&client);
        queues.closing.take_if(|closing| *closing == client);
    }

    /// Whom to close; nobody while the one before is not gone or has not said that its queue is short.
    pub fn take(&self) -> Option<Address> {
        let mut queues = self.lock();
        if queues.closing.is_some() {
            return None;
        }
        let (client, _) = queues.bytes.iter().max_by_key(|(_, bytes)| **bytes)?;
        let client = *client;
        queues.closing = Some(client);
        Some(client)
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue above this is listed.
pub const LISTED_BYTES_MIN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_told_when_it_doubled_halved_or_became_short() {
        let (longest, client, mut listed) = (Longest::default(), Address::OUTSIDE, Listed::default());
        let mut told = |bytes| {
            listed.tell(&longest, client, bytes);
            longest.lock().bytes.get(&client).copied()
        };
        assert_eq!([told(LISTED_BYTES_MIN), told(70_000), told(100_000)], [None, Some(70_000), Some(70_000)]);
        assert_eq!(
            [told(200_000), told(262_143), told(90_000)],
            [Some(200_000), Some(200_000), Some(90_000)]
        );
        assert_eq!((told(9), listed.is_listed()), (None, false));
    }

    #[test]
    fn the_longest_is_taken_and_the_next_when_it_is_gone() {
        let longest = Longest::default();
        let client = |index| Address { index, generation: 0 };
        assert_eq!(longest.take(), None);
        for (index, bytes) in [(1, 10), (2, 30), (3, 20), (2, 40)] {
            longest.list(client(index), bytes);
        }
        assert_eq!((longest.take(), longest.take()), (Some(client(2)), None));
        longest.forget(client(1));
        assert_eq!(longest.take(), None, "it is another that is being closed");
        longest.forget(client(2));
        assert_eq!(longest.take(), Some(client(3)));
    }
}
