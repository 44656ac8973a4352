//! A connection as plain data and back (rule 9): what its machine says of itself, the tail that was read and not consumed,
//! and the output that was not written. Called by drivers between turns; it opens and closes nothing.

use std::io::IoSlice;

use crate::buf::{Chunk, OutputQueue, Pool};
use crate::machine::{Application, Freeze, Frozen, Machine};

use super::{CONNECTING, Core};

impl<A: Application> Core<A> {
    /// The connection as plain data (rule 9), with the unparsed tail and the unsent output.
    pub(crate) fn freeze(&mut self) -> Freeze {
        let Some(machine) = &self.machine else { return Freeze::NotYet { why: "the connection ends" } };
        if self.has(CONNECTING) {
            return Freeze::NotYet { why: "the connection is being opened" };
        }
        match machine.freeze() {
            Freeze::Frozen(mut frozen) => {
                self.freeze_buffers(&mut frozen);
                Freeze::Frozen(frozen)
            }
            not_yet => not_yet,
        }
    }

    fn freeze_buffers(&mut self, frozen: &mut Frozen) {
        let Some(load) = &mut self.load else { return };
        if let Some(tail) = &mut load.tail {
            frozen.tail = tail.waiting().to_vec();
        }
        let mut slices = vec![IoSlice::new(&[]); load.output.len()];
        load.output.slices(&mut slices);
        frozen.output = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    }

    /// Puts a thawed machine in the place of the frozen one; tail and output are taken from `frozen`.
    pub(crate) fn thaw(&mut self, machine: Box<dyn Machine<A>>, frozen: &Frozen, pool: &Pool) {
        self.machine = Some(machine);
        let Some(load) = &mut self.load else { return };
        load.tail = Chunk::copy_of(pool, &frozen.tail).filter(|tail| !tail.is_empty());
        load.output = OutputQueue::default();
        if let Some(mut output) = Chunk::copy_of(pool, &frozen.output) {
            load.output.push(output.take_piece(frozen.output.len()));
        }
    }
}
