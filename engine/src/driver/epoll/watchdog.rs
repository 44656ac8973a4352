//! The watchdog: counts connections that want to be read and that no event can wake. There must be none.
//!
//! It keeps what it suspects and where it goes on, and touches no connection: whether one is stranded is read from its
//! slot. Asked once a second by the supervisor.

use crate::machine::Address;
use crate::slot::table::Table;

/// What the last looks found.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    /// Those that the last look found stranded, and those that it saw so for the first time.
    suspects: Vec<Address>,
    /// Where the next look goes on.
    next_slot: usize,
}

impl Watchdog {
    /// Says how many connections two looks found stranded, for one look may see a slot between two states. A look at
    /// all slots would cost as much as many requests, so each takes some, and those that it suspects.
    pub(crate) fn look<M, B>(&mut self, table: &Table<M, B>) -> usize {
        self.suspects.retain(|suspect| is_stranded(table, *suspect));
        let stranded = self.suspects.len();
        let slots = self.next_slot..self.next_slot + SLOTS_PER_LOOK;
        self.next_slot = if slots.end < table.slots_used() { slots.end } else { 0 };
        table.for_each_in(slots, |address, shared, resting| {
            if resting && shared.reads_unarmed() && !self.suspects[..stranded].contains(&address) {
                self.suspects.push(address);
            }
        });
        stranded
    }
}

fn is_stranded<M, B>(table: &Table<M, B>, suspect: Address) -> bool {
    let slot = suspect.index as usize;
    let mut is_stranded = false;
    table.for_each_in(slot..slot + 1, |address, shared, resting| {
        is_stranded = address == suspect && resting && shared.reads_unarmed();
    });
    is_stranded
}

/// Slots of one look: four segments.
const SLOTS_PER_LOOK: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::shared::NO_LISTENER;
    use crate::slot::table::Newcomer;
    use crate::slot::word::Causes;
    use crate::time::Time;

    fn table_of(connections: usize) -> (Table<(), ()>, Vec<Address>) {
        let table = Table::new(connections);
        let open = |_| {
            let newcomer = Newcomer { own: (), home: 0, peer: None, listener: NO_LISTENER };
            let (held, address) = table.claim(Time::ZERO, newcomer).ok().expect("there is room");
            table.release(held).expect("no cause came");
            address
        };
        let addresses = (0..connections).map(open).collect();
        (table, addresses)
    }

    fn arm(table: &Table<(), ()>, address: Address, interest: Option<u8>) {
        table.add_for(address, Causes::TIMER);
        let (held, _) = table.begin(address.index).expect("it was just queued");
        table.shared(&held).expect("it is live").set_armed(interest, true);
        table.release(held).expect("no cause came");
    }

    #[test]
    fn whoever_stays_stranded_is_counted_wherever_it_lies_and_until_it_is_armed() {
        let (table, addresses) = table_of(SLOTS_PER_LOOK + 500);
        let mut watchdog = Watchdog::default();
        let stranded = [addresses[3], addresses[SLOTS_PER_LOOK + 400]];
        stranded.iter().for_each(|address| arm(&table, *address, None));
        let counts: Vec<_> = (0..4).map(|_| watchdog.look(&table)).collect();
        assert_eq!(counts, [0, 1, 2, 2], "the look after the one that found it counts it");
        arm(&table, stranded[0], Some(1));
        assert_eq!((watchdog.look(&table), watchdog.look(&table)), (1, 1));
        arm(&table, stranded[1], Some(1));
        assert_eq!(watchdog.look(&table), 0);
    }

    #[test]
    fn one_that_is_queued_or_seen_once_is_not_stranded() {
        let (table, addresses) = table_of(2);
        let mut watchdog = Watchdog::default();
        addresses.iter().for_each(|address| arm(&table, *address, None));
        assert_eq!(watchdog.look(&table), 0);
        table.add_for(addresses[0], Causes::TIMER);
        arm(&table, addresses[1], Some(1));
        assert_eq!((watchdog.look(&table), watchdog.look(&table)), (0, 0));
    }
}
