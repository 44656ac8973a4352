//! What a connection still has to write, in order.
//!
//! It holds pieces and gives them to a gathering write; it never touches a socket itself. Drivers own one per
//! connection that has output, and drop it when it is empty.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::chunk::{Chunk, Piece};
use super::pool::Pool;

/// Pieces waiting to be written, first in, first out.
#[derive(Default)]
pub struct OutputQueue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Bytes of memory that the pieces pin.
    pinned_bytes: usize,
    /// Pieces at the front that were already copied out of batch chunks.
    kept: usize,
}

impl OutputQueue {
    /// Adds a piece at the end; empty ones are dropped.
    pub fn push(&mut self, piece: Piece) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pinned_bytes += piece.pinned_bytes();
            if self.pieces.len() == self.room() && self.room() < GROWS_FAST_MAX {
                self.pieces.reserve_exact((self.pieces.len() * 3).max(4));
            }
            self.pieces.push_back(piece);
        }
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Pieces that wait.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The piece that waits, if there is no other.
    pub fn only(&self) -> Option<&Piece> {
        if self.pieces.len() == 1 { self.pieces.front() } else { None }
    }

    /// Fills `slices` with the next ranges to write and says how many it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Drops the first `bytes`, which were written.
    pub fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.bytes, "no more can be written than waits");
        self.bytes -= bytes;
        while bytes > 0 {
            let front = self.pieces.front_mut().expect("bytes counts what the pieces hold");
            if bytes < front.len() {
                return front.advance(bytes);
            }
            bytes -= front.len();
            self.pinned_bytes -= front.pinned_bytes();
            self.pieces.pop_front();
            self.kept = self.kept.saturating_sub(1);
        }
    }

    /// Copies every piece that pins more than it holds into a chunk of its own size, because the queue outlives the
    /// batch; small neighbours share one, so that memory follows what waits. False if the pool's ceiling refused.
    pub fn keep(&mut self, pool: &Pool) -> bool {
        let pieces = self.pieces.make_contiguous();
        // A small piece at the end of what is kept is joined by what follows it.
        let open = self.kept.checked_sub(1).filter(|last| pieces[*last].len() < JOINED_BYTES_MAX / 4);
        let mut from = open.unwrap_or(self.kept);
        let mut done = from;
        while from < pieces.len() {
            let run = run_of_small(&pieces[from..]);
            let joined = if run > 1 { join(&pieces[from..from + run], pool) } else { None };
            let fits = match joined {
                Some(piece) => {
                    pieces[from] = piece;
                    true
                }
                None => run == 1 && pieces[from].keep(pool),
            };
            if !fits {
                break;
            }
            pieces.swap(done, from);
            (done, from) = (done + 1, from + run);
        }
        // What was joined into others lies between what is kept and what is not looked at yet.
        let all = from >= pieces.len();
        self.pieces.drain(done..from);
        self.kept = done;
        self.pinned_bytes = self.pieces.iter().map(Piece::pinned_bytes).sum();
        all
    }

    /// Pieces that it has room for without taking memory.
    pub fn room(&self) -> usize {
        self.pieces.capacity()
    }

    /// Bytes of memory that the waiting pieces pin.
    pub fn pinned_bytes(&self) -> usize {
        self.pinned_bytes
    }

    /// Removes and returns the first piece.
    pub fn pop(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        self.pinned_bytes -= piece.pinned_bytes();
        self.kept = self.kept.saturating_sub(1);
        Some(piece)
    }
}

/// Below so many pieces the room grows fourfold: the memory of a queue is used again by any other connection, so each has to
/// grow as far as the longest queue of a batch.
const GROWS_FAST_MAX: usize = 256;
/// Small pieces are joined up to this size.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// How many pieces at the front fit into one joined piece; one if the first is not small.
fn run_of_small(pieces: &[Piece]) -> usize {
    let mut bytes = 0;
    let small = pieces.iter().take_while(|piece| {
        bytes += piece.len();
        bytes <= JOINED_BYTES_MAX
    });
    small.count().max(1)
}

/// The bytes of all `pieces` in one; nothing at the pool's ceiling.
fn join(pieces: &[Piece], pool: &Pool) -> Option<Piece> {
    let bytes = pieces.iter().map(|piece| piece.len()).sum();
    let mut chunk = Chunk::take(pool, bytes)?;
    pieces.iter().for_each(|piece| chunk.append(piece));
    Some(chunk.take_piece(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_of(pool: &Pool, parts: &[&[u8]]) -> OutputQueue {
        let mut queue = OutputQueue::default();
        let mut chunk = Chunk::take(pool, 65_536).expect("fits");
        parts.iter().for_each(|part| queue.push(chunk.carve(part)));
        queue
    }

    #[test]
    fn a_partial_write_leaves_the_rest_in_order() {
        let pool = Pool::new(1 << 20);
        let mut queue = queue_of(&pool, &[b"abc", b"", b"defg"]);
        assert!(queue.only().is_none());
        queue.advance(5);
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(queue.slices(&mut slices), 1);
        assert_eq!((&*slices[0], queue.bytes()), (&b"fg"[..], 2));
        assert_eq!(queue.only().map(|piece| &**piece), Some(&b"fg"[..]));
        queue.advance(2);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_queue_as_long_as_a_batch_makes_it_takes_memory_four_times() {
        let pool = Pool::new(1 << 20);
        let mut chunk = Chunk::take(&pool, 65_536).expect("fits");
        let mut queue = OutputQueue::default();
        let mut rooms = Vec::new();
        for _ in 0..1_000 {
            queue.push(chunk.carve(b"x"));
            rooms.push(queue.room());
        }
        rooms.dedup();
        assert_eq!(rooms, [4, 16, 64, 256, 512, 1024], "beyond, it doubles");
    }

    #[test]
    fn kept_output_no_longer_pins_the_batch_chunk() {
        let pool = Pool::new(1 << 20);
        let mut queue = queue_of(&pool, &[b"abc", b"defg"]);
        assert_eq!(queue.pinned_bytes(), 2 * 65_536);
        assert!(queue.keep(&pool));
        assert_eq!((queue.pinned_bytes(), pool.stats().charged_bytes), (256, 256));
        assert_eq!(&*queue.pop().expect("one joined piece waits"), b"abcdefg");
        assert_eq!((queue.bytes(), queue.pinned_bytes()), (0, 0));
    }

    #[test]
    fn many_small_answers_cost_what_they_hold_however_they_come() {
        let pool = Pool::new(64 << 20);
        let mut queue = OutputQueue::default();
        let mut expected = Vec::new();
        // Each takes a chunk of its own, and Miri is slow at those.
        let answers: u32 = if cfg!(miri) { 50 } else { 10_000 };
        for number in 0..answers {
            let mut chunk = Chunk::take(&pool, 65_536).expect("fits");
            for part in [number, number + 1] {
                expected.extend(part.to_be_bytes());
                queue.push(chunk.carve(&part.to_be_bytes()));
            }
            drop(chunk);
            // One batch after the other leaves two answers of four bytes.
            assert!(queue.keep(&pool));
        }
        assert_eq!((queue.bytes(), queue.pinned_bytes()), (expected.len(), pool.stats().charged_bytes));
        assert!(queue.pinned_bytes() <= 2 * queue.bytes(), "{} bytes", queue.pinned_bytes());
        let mut written = Vec::new();
        while let Some(piece) = queue.pop() {
            written.extend_from_slice(&piece);
        }
        assert!(written == expected, "every byte in its place");
    }

    #[test]
    fn what_the_ceiling_refuses_leaves_the_queue_as_it_was() {
        let pool = Pool::new(65_536);
        let mut queue = queue_of(&pool, &[b"abc", &[7; 20_000], b"defg"]);
        assert!(!queue.keep(&pool));
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = queue.slices(&mut slices);
        let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        assert_eq!(bytes.len(), 20_007);
        assert_eq!((&bytes[..3], &bytes[20_003..]), (&b"abc"[..], &b"defg"[..]));
    }
}
