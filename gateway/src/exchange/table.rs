//! The exchanges of one downstream connection, and the callbacks that servers made over it.
//!
//! A key names an exchange in mail: its place in the table and a sequence number, so that a reply which comes after its
//! exchange has ended is not taken for that of the next one. Bounded by `in_flight_max`, which whoever inserts checks.

use bowline_engine::machine::Address;
use bowline_engine::time::Time;
use slab::Slab;

use super::cause::Cause;

/// A request that waits for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What was asked.
    pub cause: Cause,
    /// Tells it from earlier exchanges at the same place.
    pub sequence: u16,
    /// The cluster that it was routed to.
    pub cluster: u16,
    /// The size of its frame.
    pub request_bytes: u32,
    /// The connection that it was sent to.
    pub upstream: Address,
    /// When it ends at the latest.
    pub deadline: Time,
    /// When its frame was read.
    pub began: Time,
}

const _: () = assert!(size_of::<Exchange>() <= 40, "there may be a thousand of them per connection");

/// The exchanges of one connection.
#[derive(Debug, Default)]
pub struct Exchanges {
    slab: Slab<Exchange>,
}

impl Exchanges {
    /// How many.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Adds one; nothing if no key is left.
    pub fn insert(&mut self, exchange: Exchange) -> Option<u32> {
        let entry = self.slab.vacant_entry();
        let key = key_of(entry.key(), exchange.sequence)?;
        entry.insert(exchange);
        Some(key)
    }

    /// The exchange that `key` names, if it has not ended.
    pub fn find(&mut self, key: u32) -> Option<&mut Exchange> {
        let (index, sequence) = parts_of(key);
        self.slab.get_mut(index).filter(|exchange| exchange.sequence == sequence)
    }

    /// Ends the exchange that `key` names, if it is one of `upstream`.
    pub fn end(&mut self, key: u32, upstream: Address) -> Option<Exchange> {
        self.find(key).filter(|exchange| exchange.upstream == upstream)?;
        self.slab.try_remove(parts_of(key).0)
    }

    /// Ends one whose deadline has come, looking from `place` on; `place` is where to look further, so that ending them
    /// all is one walk over the table.
    pub fn expire(&mut self, now: Time, place: &mut usize) -> Option<(u32, Exchange)> {
        while *place < self.slab.capacity() {
            let index = *place;
            *place += 1;
            if self.slab.get(index).is_some_and(|exchange| exchange.deadline <= now) {
                let exchange = self.slab.try_remove(index)?;
                return Some((key_of(index, exchange.sequence)?, exchange));
            }
        }
        None
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Time> {
        self.slab.iter().map(|(_, exchange)| exchange.deadline).min()
    }

    /// Every exchange with its key.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Exchange)> {
        self.slab.iter().filter_map(|(index, exchange)| Some((key_of(index, exchange.sequence)?, exchange)))
    }

    /// The table that holds `exchanges` under their keys.
    pub fn restore(exchanges: impl Iterator<Item = (u32, Exchange)>) -> Exchanges {
        Exchanges { slab: exchanges.map(|(key, exchange)| (parts_of(key).0, exchange)).collect() }
    }

    /// Room that the table keeps.
    pub fn capacity(&self) -> usize {
        self.slab.capacity()
    }
}

fn key_of(index: usize, sequence: u16) -> Option<u32> {
    Some(u32::from(sequence) << 16 | u32::from(u16::try_from(index).ok()?))
}

fn parts_of(key: u32) -> (usize, u16) {
    ((key & 0xffff) as usize, (key >> 16) as u16)
}

/// A request of a server that waits for the client's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callback {
    /// Its id on the client's connection.
    pub id: u32,
    /// What was asked, with the server's id.
    pub cause: Cause,
    /// The bound connection that it came from.
    pub upstream: Address,
    /// When it ends at the latest.
    pub deadline: Time,
}

/// The callbacks of one connection, few at a time.
#[derive(Debug, Default)]
pub struct Callbacks {
    list: Vec<Callback>,
    next_id: u32,
}

impl Callbacks {
    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// An id that no callback in flight has.
    pub fn fresh_id(&mut self) -> u32 {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if self.list.iter().all(|callback| callback.id != self.next_id) {
                return self.next_id;
            }
        }
    }

    /// Adds one, under an id from [`Callbacks::fresh_id`].
    pub fn insert(&mut self, callback: Callback) {
        self.list.push(callback);
    }

    /// Ends the one that the client answers by `id`.
    pub fn end(&mut self, id: u32) -> Option<Callback> {
        let at = self.list.iter().position(|callback| callback.id == id)?;
        Some(self.list.swap_remove(at))
    }

    /// Ends one whose deadline has come, looking from `place` on, as [`Exchanges::expire`] does.
    pub fn expire(&mut self, now: Time, place: &mut usize) -> Option<Callback> {
        let ahead = self.list.get(*place..)?.iter().position(|callback| callback.deadline <= now)?;
        // The last one comes here, and is the next to be looked at.
        *place += ahead;
        Some(self.list.swap_remove(*place))
    }

    /// Takes all of them.
    pub fn take_all(&mut self) -> Vec<Callback> {
        std::mem::take(&mut self.list)
    }

    /// Forgets those of a connection that is gone.
    pub fn forget(&mut self, upstream: Address) {
        self.list.retain(|callback| callback.upstream != upstream);
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Time> {
        self.list.iter().map(|callback| callback.deadline).min()
    }

    /// Every callback.
    pub fn iter(&self) -> impl Iterator<Item = &Callback> {
        self.list.iter()
    }

    /// The last id that was given out.
    pub fn last_id(&self) -> u32 {
        self.next_id
    }

    /// Room that the table keeps.
    pub fn capacity(&self) -> usize {
        self.list.capacity()
    }

    /// The table that holds `list`.
    pub fn restore(list: Vec<Callback>, last_id: u32) -> Callbacks {
        Callbacks { list, next_id: last_id }
    }
}

#[cfg(test)]
mod tests {
    use bowline_protocols::Limits;
    use bowline_protocols::bolt::{Decoded, Version, decode};
    use bowline_protocols::testing::request;

    use super::*;

    const UPSTREAM: Address = Address { index: 1, generation: 0 };
    const OTHER: Address = Address { index: 2, generation: 0 };

    fn cause() -> Cause {
        let bytes = request(Version::V1, false, 7, "demo", b"x");
        let Ok(Decoded::Frame(frame)) = decode(&bytes, &Limits::default()) else { panic!("a whole frame") };
        Cause::of(&frame)
    }

    fn exchange(sequence: u16, deadline_ms: u64) -> Exchange {
        let deadline = Time::from_ms(deadline_ms);
        let (cause, upstream, began) = (cause(), UPSTREAM, Time::ZERO);
        Exchange { cause, sequence, cluster: 0, request_bytes: 0, upstream, deadline, began }
    }

    #[test]
    fn a_key_of_an_ended_exchange_names_no_later_one() {
        let mut table = Exchanges::default();
        let first = table.insert(exchange(1, 10)).expect("a key");
        assert!(table.end(first, OTHER).is_none(), "only its own upstream ends it");
        assert!(table.end(first, UPSTREAM).is_some() && table.end(first, UPSTREAM).is_none());
        let second = table.insert(exchange(2, 10)).expect("a key");
        assert_eq!(first & 0xffff, second & 0xffff, "the place is used again");
        assert!(table.end(first, UPSTREAM).is_none() && table.end(second, UPSTREAM).is_some());
        assert!(table.is_empty());
    }

    #[test]
    fn those_whose_deadline_has_come_expire_one_by_one() {
        let mut table = Exchanges::default();
        let keys = [30, 10, 20].map(|ms| table.insert(exchange(ms as u16, ms)).expect("a key"));
        assert_eq!(table.next_deadline(), Some(Time::from_ms(10)));
        let mut place = 0;
        let mut expired: Vec<_> =
            std::iter::from_fn(|| table.expire(Time::from_ms(20), &mut place)).map(|(key, _)| key).collect();
        expired.sort_unstable();
        let mut expected = [keys[1], keys[2]];
        expected.sort_unstable();
        assert_eq!((expired, table.len()), (expected.to_vec(), 1));
    }

    #[test]
    fn a_restored_table_knows_the_same_keys() {
        let mut table = Exchanges::default();
        let keys = [1, 2, 3].map(|sequence| table.insert(exchange(sequence, 10)).expect("a key"));
        table.end(keys[1], UPSTREAM).expect("it is there");
        let mut copy = Exchanges::restore(table.iter().map(|(key, exchange)| (key, *exchange)));
        assert!(copy.find(keys[1]).is_none());
        assert!(copy.end(keys[0], UPSTREAM).is_some() && copy.end(keys[2], UPSTREAM).is_some());
    }

    #[test]
    fn ids_of_callbacks_in_flight_are_not_given_out_again_even_when_they_wrap() {
        let callback = |id| Callback { id, cause: cause(), upstream: UPSTREAM, deadline: Time::from_ms(9) };
        let mut table = Callbacks::restore(vec![callback(u32::MAX), callback(0)], u32::MAX - 1);
        assert_eq!(table.fresh_id(), 1);
        assert!(table.end(5).is_none() && table.end(0).is_some());
        assert_eq!((table.expire(Time::from_ms(8), &mut 0), table.len()), (None, 1));
        table.forget(OTHER);
        assert!(table.expire(Time::from_ms(9), &mut 0).is_some() && table.is_empty());
    }

    #[test]
    fn ending_all_whose_deadline_has_come_looks_at_every_place_once() {
        let mut table = Exchanges::default();
        let mut callbacks = Callbacks::default();
        for n in 0..100 {
            table.insert(exchange(n, u64::from(n % 3))).expect("a key");
            let (id, deadline) = (callbacks.fresh_id(), Time::from_ms(u64::from(n % 3)));
            callbacks.insert(Callback { id, cause: cause(), upstream: UPSTREAM, deadline });
        }
        let (now, mut place, mut ended) = (Time::from_ms(1), 0, 0);
        while table.expire(now, &mut place).is_some() {
            assert!(place > ended, "it never looks back");
            ended += 1;
        }
        assert_eq!((ended, table.len(), table.next_deadline()), (67, 33, Some(Time::from_ms(2))));
        let mut place = 0;
        let ended = std::iter::from_fn(|| callbacks.expire(now, &mut place)).count();
        assert_eq!((ended, callbacks.len(), place <= 33), (67, 33, true));
    }
}
