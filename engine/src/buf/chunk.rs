//! Chunks and pieces: who may touch which bytes of a block.
//!
//! A [`Chunk`] is the one owner of a block: it fills it from the front and lends [`Piece`]s of what is filled. Ranges
//! that were lent are never touched by the owner again until all pieces have come back. Called by drivers (reading) and
//! machines (taking, keeping). It does no I/O.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::slice;

use super::block::Block;
use super::pool::Pool;

/// The owner's handle of a block: `filled` bytes in front, spare room behind, `start` marks what was consumed.
///
/// ```text
/// | lent or consumed | waiting     | spare        |
/// 0                  start         filled         capacity
/// ```
pub struct Chunk {
    block: Block,
    start: u32,
    filled: u32,
    lent: u32,
}

/// An owned range of a chunk. Dropping it returns it; it is never cloned.
pub struct Piece {
    block: Block,
    start: u32,
    len: u32,
}

impl Chunk {
    /// A chunk of at least `bytes` from `pool`, or nothing at the pool's ceiling.
    pub fn take(pool: &Pool, bytes: usize) -> Option<Chunk> {
        let block = pool.take(bytes)?;
        Some(Chunk { block, start: 0, filled: 0, lent: 0 })
    }

    /// A chunk that holds a copy of `bytes`.
    pub fn copy_of(pool: &Pool, bytes: &[u8]) -> Option<Chunk> {
        let mut chunk = Chunk::take(pool, bytes.len())?;
        chunk.append(bytes);
        Some(chunk)
    }

    /// Bytes in all.
    pub fn capacity(&self) -> usize {
        self.block.capacity()
    }

    /// Bytes of room behind what is filled.
    pub fn spare_bytes(&self) -> usize {
        self.capacity() - self.filled as usize
    }

    /// Bytes that wait to be consumed.
    pub fn len(&self) -> usize {
        (self.filled - self.start) as usize
    }

    /// True if no byte waits.
    pub fn is_empty(&self) -> bool {
        self.filled == self.start
    }

    /// The bytes that wait.
    pub fn waiting(&mut self) -> &mut [u8] {
        // SAFETY: [start, filled) was never lent: `lend` only gives away what it moves in front of `start`.
        unsafe { range(self.block, self.start, self.filled - self.start) }
    }

    /// The room behind what is filled, for the next read. Its content is unspecified but initialised.
    pub fn spare(&mut self) -> &mut [u8] {
        let len = u32::try_from(self.spare_bytes()).expect("a block holds at most u32::MAX bytes");
        // SAFETY: [filled, capacity) was never lent, and blocks are zeroed when they are allocated.
        unsafe { range(self.block, self.filled, len) }
    }

    /// Says that a read put `bytes` into the front of [`Chunk::spare`].
    pub fn fill(&mut self, bytes: usize) {
        assert!(bytes <= self.spare_bytes(), "a read fills at most the spare room");
        self.filled += u32::try_from(bytes).expect("checked against the capacity");
    }

    /// Copies `bytes` behind what is filled; the caller has checked the room.
    pub fn append(&mut self, bytes: &[u8]) {
        self.spare()[..bytes.len()].copy_from_slice(bytes);
        self.fill(bytes.len());
    }

    /// Takes the first `bytes` of what waits as an owned piece.
    pub fn take_piece(&mut self, bytes: usize) -> Piece {
        assert!(bytes <= self.len(), "a piece holds at most what waits");
        let len = u32::try_from(bytes).expect("checked against the length");
        let piece = Piece { block: self.block, start: self.start, len };
        self.start += len;
        self.lent += 1;
        piece
    }

    /// Drops the first `bytes` of what waits.
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "no more can be consumed than waits");
        self.start += u32::try_from(bytes).expect("checked against the length");
    }

    /// Carves a piece with a copy of `bytes` out of the spare room; the caller has checked it, and no byte waits.
    pub fn carve(&mut self, bytes: &[u8]) -> Piece {
        assert!(self.is_empty(), "carving moves the front over bytes that wait");
        self.append(bytes);
        self.take_piece(bytes.len())
    }

    /// Copies `bytes` behind those of `piece`, which holds them from then on. False if `piece` was not carved last or there
    /// is no room: then nothing changed.
    pub fn extend(&mut self, piece: &mut Piece, bytes: &[u8]) -> bool {
        let is_last = piece.block == self.block && piece.start + piece.len == self.filled;
        if !is_last || !self.is_empty() || self.spare_bytes() < bytes.len() {
            return false;
        }
        self.append(bytes);
        piece.len += self.filled - self.start;
        self.start = self.filled;
        true
    }

    /// True if every piece came back; then the whole chunk is spare again, and waiting bytes are dropped.
    pub fn reset(&mut self) -> bool {
        if !self.block.all_returned(self.lent) {
            return false;
        }
        self.block.clear();
        (self.start, self.filled, self.lent) = (0, 0, 0);
        true
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.block.orphan(self.lent) {
            Pool::give_back(self.block);
        }
    }
}

impl Piece {
    /// Bytes of the block that this piece pins.
    pub fn pinned_bytes(&self) -> usize {
        self.block.capacity()
    }

    /// Moves the bytes into a chunk of their own size if they pin much more than they fill. False if the pool is at
    /// its ceiling; then the piece stays as it is.
    pub fn keep(&mut self, pool: &Pool) -> bool {
        if self.pinned_bytes() <= (self.len as usize).next_power_of_two().max(256) {
            return true;
        }
        let Some(mut chunk) = Chunk::copy_of(pool, self) else { return false };
        *self = chunk.take_piece(self.len());
        true
    }

    /// Drops the first `bytes` of the piece.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "a piece advances at most to its end");
        let bytes = u32::try_from(bytes).expect("checked against the length");
        self.start += bytes;
        self.len -= bytes;
    }

    /// Drops everything behind the first `bytes` of the piece.
    pub fn truncate(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "a piece is cut at most at its end");
        self.len = u32::try_from(bytes).expect("checked against the length");
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: a piece lies inside its block.
        let first = unsafe { self.block.bytes().add(self.start as usize) };
        // SAFETY: the range was lent to this piece alone and was filled before. Not `range`: several may read at once.
        unsafe { slice::from_raw_parts(first.as_ptr(), self.len as usize) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range was lent to this piece alone and was filled before; `&mut self` makes the access exclusive.
        unsafe { range(self.block, self.start, self.len) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.block.give_back() {
            Pool::give_back(self.block);
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Piece({} bytes)", self.len)
    }
}

/// # Safety
/// [start, start + len) lies in the block, is initialised, and no other live reference overlaps it.
unsafe fn range<'a>(block: Block, start: u32, len: u32) -> &'a mut [u8] {
    // SAFETY: the caller keeps start inside the block.
    let first = unsafe { block.bytes().add(start as usize) };
    // SAFETY: the caller vouches for the range and for exclusiveness.
    unsafe { slice::from_raw_parts_mut(first.as_ptr(), len as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_outlives_its_chunk_and_returns_the_block_last() {
        let pool = Pool::new(1 << 20);
        let mut chunk = Chunk::copy_of(&pool, b"hello world").expect("fits");
        let first = chunk.take_piece(6);
        let second = chunk.take_piece(5);
        drop(chunk);
        assert_eq!((&first[..], &second[..]), (&b"hello "[..], &b"world"[..]));
        drop(second);
        assert_eq!(pool.stats().charged_bytes, 256);
        drop(first);
        assert_eq!(pool.stats().charged_bytes, 0);
    }

    #[test]
    fn a_piece_is_cut_at_both_ends_and_pins_what_it_pinned() {
        let pool = Pool::new(1 << 20);
        let mut piece = Chunk::copy_of(&pool, b"hello world").expect("fits").take_piece(11);
        piece.truncate(7);
        piece.advance(2);
        assert_eq!((&*piece, piece.pinned_bytes()), (&b"llo w"[..], pool.stats().charged_bytes));
        piece.truncate(0);
        assert!(piece.is_empty());
        drop(piece);
        assert_eq!(pool.stats().charged_bytes, 0);
    }

    #[test]
    fn only_the_piece_that_was_carved_last_is_extended_and_only_into_room() {
        let pool = Pool::new(1 << 20);
        let mut chunk = Chunk::take(&pool, 256).expect("fits");
        let (mut first, mut last) = (chunk.carve(b"abc"), chunk.carve(b"de"));
        assert!(!chunk.extend(&mut first, b"x"), "its bytes would run into those of the next");
        assert!(chunk.extend(&mut last, b"fg") && chunk.extend(&mut last, b"h"));
        assert_eq!((&*first, &*last), (&b"abc"[..], &b"defgh"[..]));
        assert!(!chunk.extend(&mut last, &[0; 249]) && chunk.extend(&mut last, &[7; 248]));
        assert_eq!((last.len(), chunk.spare_bytes()), (253, 0));
        let mut other = Chunk::copy_of(&pool, b"abcde").expect("fits").take_piece(5);
        assert!(!chunk.extend(&mut other, b""), "it lies in another block");
        drop((first, last, other));
        assert!(chunk.reset(), "what was extended comes back once");
        drop(chunk);
        assert_eq!(pool.stats().charged_bytes, 0);
    }

    #[test]
    fn no_piece_is_extended_over_bytes_that_wait() {
        let pool = Pool::new(1 << 20);
        let mut chunk = Chunk::copy_of(&pool, b"abcd").expect("fits");
        let mut piece = chunk.take_piece(2);
        assert!(!chunk.extend(&mut piece, b"x"));
        let mut rest = chunk.take_piece(2);
        assert!(!chunk.extend(&mut piece, b"x") && chunk.extend(&mut rest, b"x"));
        assert_eq!((&*piece, &*rest), (&b"ab"[..], &b"cdx"[..]));
        rest.truncate(2);
        assert!(!chunk.extend(&mut rest, b"x"), "what was cut off is not filled again");
    }

    #[test]
    fn a_piece_is_read_by_many_at_once() {
        let pool = Pool::new(1 << 20);
        let piece = Chunk::copy_of(&pool, b"abc").expect("fits").take_piece(3);
        let (first, second): (&[u8], &[u8]) = (&piece, &piece);
        assert_eq!((second, first), (&b"abc"[..], &b"abc"[..]));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(&piece[..], b"abc"));
            }
        });
    }

    #[test]
    fn a_chunk_is_reused_only_when_every_piece_came_back() {
        let pool = Pool::new(1 << 20);
        let mut chunk = Chunk::copy_of(&pool, b"abc").expect("fits");
        let piece = chunk.take_piece(3);
        assert!(!chunk.reset());
        drop(piece);
        assert!(chunk.reset());
        assert_eq!((chunk.len(), chunk.spare_bytes()), (0, 256));
    }

    #[test]
    fn pieces_may_be_returned_on_any_thread() {
        let pool = Pool::new(1 << 20);
        let mut chunk = Chunk::take(&pool, 65_536).expect("fits");
        std::thread::scope(|scope| {
            for n in 0..100u8 {
                chunk.append(&[n; 100]);
                let mut piece = chunk.take_piece(100);
                scope.spawn(move || {
                    assert!(piece.iter().all(|byte| *byte == n));
                    piece.fill(0);
                });
            }
        });
        assert!(chunk.reset());
        drop(chunk);
        assert_eq!(pool.stats().charged_bytes, 0);
    }

    #[test]
    fn keeping_a_small_piece_unpins_the_large_chunk() {
        let pool = Pool::new(1 << 20);
        let mut chunk = Chunk::take(&pool, 65_536).expect("fits");
        chunk.append(b"tiny");
        let mut piece = chunk.take_piece(4);
        assert!(piece.keep(&pool) && chunk.reset());
        assert_eq!((&piece[..], piece.pinned_bytes()), (&b"tiny"[..], 256));
    }

    #[test]
    fn at_the_ceiling_keeping_says_so_and_loses_nothing() {
        let pool = Pool::new(65_536);
        let mut chunk = Chunk::take(&pool, 65_536).expect("fits");
        chunk.append(b"tiny");
        let mut piece = chunk.take_piece(4);
        assert!(!piece.keep(&pool));
        assert_eq!(&piece[..], b"tiny");
    }
}
