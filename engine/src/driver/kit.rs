//! What a thread that runs machines owns: the application's local state, effects, read buffers, spare boxes, randomness.
//!
//! One kit per worker, used by one call at a time and never shared. It knows no socket and no queue. Every driver makes
//! its own and calls [`Kit::settle`] at the end of each batch.

use crate::buf::{Chunk, Piece, Pool};
use crate::driver::load::{Depot, Load, Spare};
use crate::machine::{Application, Effects};

/// Bytes of one chunk that reads go into.
pub(crate) const READ_CHUNK_BYTES: usize = 64 << 10;
/// A read is not begun with less room than this.
const READ_ROOM_MIN: usize = 8 << 10;
/// Chunks with pieces still out that a worker waits for; more are left to whoever returns their last piece.
const PARKED_CHUNKS_MAX: usize = 4;

/// What a worker owns.
pub(crate) struct Kit<A: Application> {
    /// The application's state of this worker.
    pub(crate) local: A::Local,
    /// The process-wide pool.
    pub(crate) pool: Pool,
    /// Filled by a machine during a call, emptied after it.
    pub(crate) effects: Effects<A>,
    /// The memory of the running batch.
    pub(crate) batch: Batch,
    /// Randomness for machines.
    pub(crate) random: Random,
    /// Pieces that machines wrote in calls after the one that shut their write side: tests want none.
    pub(crate) late_pieces: u64,
    /// Empty boxes for connections that come under load.
    pub(crate) spare: Spare,
}

impl<A: Application> Kit<A> {
    /// The kit of a worker; a seed makes its randomness repeat.
    pub(crate) fn new(local: A::Local, pool: Pool, depot: Depot, seed: u64) -> Kit<A> {
        Kit {
            local,
            batch: Batch::new(pool.clone()),
            pool,
            effects: Effects::default(),
            random: Random::new(seed),
            late_pieces: 0,
            spare: Spare::new(depot),
        }
    }

    /// A box for a connection that comes under load.
    pub(crate) fn take_load(&mut self) -> Box<Load> {
        self.spare.take()
    }

    /// Takes an empty box back.
    pub(crate) fn keep_load(&mut self, load: Box<Load>) {
        self.spare.keep(load);
    }

    /// Ends a batch: chunks whose pieces all came back are used again, boxes that are too many go to other workers.
    pub(crate) fn settle(&mut self) {
        self.batch.settle();
        self.spare.settle();
    }

    /// Frees the batch's memory but for what pieces still pin: only what connections hold stays charged.
    pub(crate) fn free_batch(&mut self) {
        self.batch = Batch::new(self.pool.clone());
    }

    /// Frees the spare boxes and the batch's chunks: many connections have gone.
    pub(crate) fn free_spare(&mut self) {
        self.spare.clear();
        self.free_batch();
    }

    /// Frees what is only worth keeping while there is work; called before the worker sleeps.
    pub(crate) fn rest(&mut self) {
        self.settle();
        self.batch.spare.clear();
    }
}

/// A xorshift generator: fast, seeded, not for secrets.
pub(crate) struct Random(u64);

impl Random {
    /// A generator whose numbers have nothing to do with those of a neighbouring seed.
    pub(crate) fn new(seed: u64) -> Random {
        // One step of splitmix64.
        let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((mixed ^ mixed >> 31) | 1)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// The chunks of a batch.
pub(crate) struct Batch {
    pool: Pool,
    /// Where the next read goes.
    reading: Option<Chunk>,
    /// Where small output is carved from.
    carving: Option<Chunk>,
    /// Full ones of this batch, and ones of earlier batches whose pieces are still out.
    used: Vec<Chunk>,
    /// Empty ones.
    spare: Vec<Chunk>,
}

impl Batch {
    fn new(pool: Pool) -> Batch {
        Batch { pool, reading: None, carving: None, used: Vec::new(), spare: Vec::new() }
    }

    /// The chunk for the next read, with no byte waiting in it and room for `bytes` beside a read. Nothing at the
    /// pool's ceiling.
    pub(crate) fn reading(&mut self, bytes: usize) -> Option<&mut Chunk> {
        let room = bytes + READ_ROOM_MIN;
        if self.reading.as_ref().is_none_or(|chunk| chunk.spare_bytes() < room) {
            let fresh = self.fresh(READ_CHUNK_BYTES.max(room))?;
            self.used.extend(self.reading.replace(fresh));
        }
        self.reading.as_mut()
    }

    /// Takes the chunk that was just read into, for as long as a machine consumes from it.
    pub(crate) fn take_reading(&mut self) -> Option<Chunk> {
        self.reading.take()
    }

    /// Puts it back; no byte waits in it.
    pub(crate) fn put_reading(&mut self, chunk: Chunk) {
        debug_assert!(chunk.is_empty(), "what waits belongs to a connection and was moved there");
        self.reading = Some(chunk);
    }

    /// A copy of `bytes` out of the batch's memory. Nothing at the pool's ceiling.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Option<Piece> {
        if self.carving.as_ref().is_none_or(|chunk| chunk.spare_bytes() < bytes.len()) {
            let fresh = self.fresh(READ_CHUNK_BYTES.max(bytes.len()))?;
            self.used.extend(self.carving.replace(fresh));
        }
        self.carving.as_mut().map(|chunk| chunk.carve(bytes))
    }

    /// Copies `bytes` behind those of `piece`, if it was the last that [`Batch::copy`] made and there is room.
    pub(crate) fn extend(&mut self, piece: &mut Piece, bytes: &[u8]) -> bool {
        self.carving.as_mut().is_some_and(|chunk| chunk.extend(piece, bytes))
    }

    fn fresh(&mut self, bytes: usize) -> Option<Chunk> {
        match self.spare.pop_if(|chunk| chunk.capacity() >= bytes) {
            Some(chunk) => Some(chunk),
            None => Chunk::take(&self.pool, bytes),
        }
    }

    fn settle(&mut self) {
        for chunk in [&mut self.reading, &mut self.carving] {
            if let Some(mut full) = chunk.take_if(|chunk| chunk.spare_bytes() < chunk.capacity()) {
                if full.reset() {
                    // One that was made for more than a read is not kept.
                    *chunk = Some(full).filter(|chunk| chunk.capacity() == READ_CHUNK_BYTES);
                } else {
                    self.used.push(full);
                }
            }
        }
        let mut at = 0;
        while at < self.used.len() {
            if !self.used[at].reset() {
                at += 1;
                continue;
            }
            let chunk = self.used.swap_remove(at);
            if chunk.capacity() == READ_CHUNK_BYTES && self.spare.len() < PARKED_CHUNKS_MAX {
                self.spare.push(chunk);
            }
        }
        // Whoever returns the last piece of the others frees them.
        self.used.truncate(PARKED_CHUNKS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_uses_its_chunk_again_when_every_piece_came_back() {
        let pool = Pool::new(1 << 20);
        let mut batch = Batch::new(pool.clone());
        let piece = batch.copy(b"hello").expect("below the ceiling");
        batch.settle();
        assert_eq!(pool.stats().charged_bytes, READ_CHUNK_BYTES);
        drop(piece);
        batch.settle();
        batch.copy(b"again").expect("below the ceiling");
        assert_eq!(pool.stats().charged_bytes, READ_CHUNK_BYTES);
    }

    #[test]
    fn parked_chunks_are_bounded() {
        let pool = Pool::new(64 << 20);
        let mut batch = Batch::new(pool.clone());
        let mut pieces = Vec::new();
        for _ in 0..20 {
            pieces.push(batch.copy(&[1; READ_CHUNK_BYTES]).expect("below the ceiling"));
            batch.settle();
        }
        assert!(batch.used.len() <= PARKED_CHUNKS_MAX);
        drop(pieces);
        batch.settle();
        assert!(pool.stats().charged_bytes <= (2 * PARKED_CHUNKS_MAX) * READ_CHUNK_BYTES);
    }

    #[test]
    fn at_the_ceiling_there_is_no_chunk_and_later_there_is() {
        let pool = Pool::new(READ_CHUNK_BYTES);
        let mut batch = Batch::new(pool);
        let piece = batch.copy(b"x").expect("the first fits");
        assert!(batch.reading(0).is_none());
        drop(piece);
        batch.settle();
        assert!(batch.copy(b"y").is_some());
    }
}
