//! Buffers: chunks of bytes, the pieces that are lent out of them, and the pool that bounds them all.
//!
//! A [`Chunk`] has one owner who fills it; a [`Piece`] is an owned, never cloned range of a chunk that travels through
//! mail and output and is returned once, by being dropped, on any thread. The [`Pool`] charges chunks by capacity
//! against one ceiling. Nothing here knows sockets or machines. Unsafe code is confined to `block`, `chunk`
//! and the pool's way home.

mod block;
mod class;
mod pool;
mod chunk;
mod queue;

pub use chunk::{Chunk, Piece};
pub use pool::{Pool, PoolStats, Pressure};
pub use queue::OutputQueue;

/// The capacity of a worker's batch chunk, in bytes.
pub const CHUNK_BYTES: usize = 64 * 1024;
