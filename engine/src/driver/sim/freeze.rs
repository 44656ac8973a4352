//! Freezing and thawing between turns (contract rule 9): one machine in its place, which nobody may notice, or all of
//! them at once under new addresses, as when live connections move to another process.
//!
//! It asks only when the contract says so: no mail waits, effects are carried out, the connection is established.

use std::collections::HashMap;

use crate::machine::{Address, Application, Freeze, Frozen};

use super::Sim;
use super::ground::Slot;

impl<A: Application> Sim<A> {
    fn may_freeze(slot: &Slot<A>) -> bool {
        let established = |core: &crate::driver::core::Core<A>| {
            core.takes_mail() && !core.is_connecting() && core.end().is_none()
        };
        slot.inbox.is_empty() && slot.core.as_ref().is_some_and(established)
    }

    /// The connection of a slot as data; nothing if it cannot be asked now, or says not yet.
    fn frozen(&mut self, index: u32) -> Option<Frozen> {
        let address = self.ground.address(index);
        let slot = self.ground.slot(index);
        if !Self::may_freeze(slot) {
            return None;
        }
        let in_flight = slot.info.in_flight;
        let answer = slot.core.as_mut().map(crate::driver::core::Core::freeze)?;
        self.ground.stats.freezes += 1;
        match answer {
            Freeze::Frozen(frozen) => Some(frozen),
            Freeze::NotYet { why } => {
                self.ground.stats.not_yet += 1;
                self.ground.stats.not_yet_idle += u64::from(in_flight == 0);
                self.ground.trace.note(self.ground.now, address, why, [u64::from(in_flight), 0]);
                None
            }
        }
    }

    /// Freezes and thaws the machine of one slot.
    pub(super) fn freeze_one(&mut self, index: u32) {
        let Some(frozen) = self.frozen(index) else { return };
        let address = self.ground.address(index);
        self.ground.trace.note(self.ground.now, address, "is frozen", [frozen.state.len() as u64, 0]);
        self.thaw(index, &frozen);
    }

    fn thaw(&mut self, index: u32, frozen: &Frozen) {
        let worker = self.ground.dice.below(self.kits.len());
        let machine = self.app.thaw(&mut self.kits[worker].local, frozen);
        let machine = machine.unwrap_or_else(|error| panic!("what was frozen can be thawed: {error:?}"));
        let pool = self.pool.clone();
        let core = self.ground.slot(index).core.as_mut().expect("it was just frozen");
        core.thaw(machine, frozen, &pool);
    }

    /// Moves every connection to a new address, with workers that begin anew. False, and nothing changed, if one of
    /// them cannot be frozen now.
    pub fn move_all(&mut self) -> bool {
        let used: Vec<u32> =
            (0..).zip(&self.ground.slots).filter(|(_, slot)| slot.used).map(|(index, _)| index).collect();
        let quiet = self.ground.slots.iter().all(|slot| slot.inbox.is_empty());
        if !quiet || used.iter().any(|index| !Self::may_freeze(&self.ground.slots[*index as usize])) {
            return false;
        }
        let mut all = Vec::with_capacity(used.len());
        for index in used {
            let Some(frozen) = self.frozen(index) else { return false };
            all.push((index, frozen));
        }
        self.ground.stats.moves += 1;
        let moved: HashMap<Address, Address> =
            all.iter().map(|(index, _)| (self.ground.address(*index), self.relocate(*index))).collect();
        for worker in 0..self.kits.len() {
            self.kits[worker].local = self.app.local(worker);
        }
        for (index, mut frozen) in all {
            let old = Address { index, generation: self.ground.slots[index as usize].generation - 1 };
            for partner in &mut frozen.partners {
                // The address of a partner that is gone stays that of nobody.
                *partner = moved.get(partner).copied().unwrap_or(*partner);
            }
            self.thaw(moved[&old].index, &frozen);
        }
        true
    }

    /// Moves what a slot holds to another one.
    fn relocate(&mut self, index: u32) -> Address {
        let slot = self.ground.slot(index);
        let (core, link, info) = (slot.core.take(), slot.link, slot.info);
        let core = core.expect("it was just frozen");
        let again_at = slot.again_at;
        self.ground.give_up(index);
        let address = self.ground.claim(core, link, info.listener);
        let slot = self.ground.slot(address.index);
        slot.again_at = again_at;
        slot.info = crate::driver::control::ConnectionInfo { address, ..info };
        if let Some(link) = link {
            self.ground.links.with(link, |link| link.engine = Some(address));
        }
        self.ground.trace.note(self.ground.now, address, "moved here from", [u64::from(index), 0]);
        address
    }
}
