//! What a connection holds only while it is under load: one box, given back when it is empty.
//!
//! Filled and emptied by `core`, kept for the next connection by `kit`. It decides nothing.

use std::net::SocketAddr;

use crate::buf::{Chunk, OutputQueue};
use crate::time::Tick;

/// What a connection holds only while it is under load.
#[derive(Default)]
pub(crate) struct Load {
    /// Read and not consumed.
    pub(crate) tail: Option<Chunk>,
    /// So many bytes must wait before the next offer makes sense.
    pub(crate) need: usize,
    /// Not written yet.
    pub(crate) output: OutputQueue,
    /// Written since the machine was last told.
    pub(crate) written: usize,
    /// When the driver itself wants to look: connect, closing flush, memory pressure. Zero: never.
    pub(crate) limit: Tick,
    /// Where to connect, until that has begun.
    pub(crate) connect_to: Option<SocketAddr>,
}

impl Load {
    /// True if the connection is no longer under load.
    pub(crate) fn is_empty(&self) -> bool {
        self.tail.is_none() && self.output.is_empty() && self.need == 0 && self.limit == Tick(0)
    }
}
