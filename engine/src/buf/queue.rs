//! What a connection still has to write, in order.
//!
//! It holds pieces and gives them to a gathering write; it never touches a socket itself. Drivers own one per
//! connection that has output, and drop it when it is empty.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::chunk::Piece;
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
    /// batch. False if the pool's ceiling refused one of them.
    pub fn keep(&mut self, pool: &Pool) -> bool {
        for piece in self.pieces.iter_mut().skip(self.kept) {
            let before = piece.pinned_bytes();
            if !piece.keep(pool) {
                return false;
            }
            self.pinned_bytes = self.pinned_bytes - before + piece.pinned_bytes();
            self.kept += 1;
        }
        true
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

#[cfg(test)]
mod tests {
    use super::super::chunk::Chunk;
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
        queue.advance(5);
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(queue.slices(&mut slices), 1);
        assert_eq!((&*slices[0], queue.bytes()), (&b"fg"[..], 2));
        queue.advance(2);
        assert!(queue.is_empty());
    }

    #[test]
    fn kept_output_no_longer_pins_the_batch_chunk() {
        let pool = Pool::new(1 << 20);
        let mut queue = queue_of(&pool, &[b"abc", b"defg"]);
        assert_eq!(queue.pinned_bytes(), 2 * 65_536);
        assert!(queue.keep(&pool));
        assert_eq!((queue.pinned_bytes(), pool.stats().charged_bytes), (512, 512));
        assert_eq!(&*queue.pop().expect("two pieces wait"), b"abc");
        assert_eq!(queue.bytes(), 4);
    }
}
