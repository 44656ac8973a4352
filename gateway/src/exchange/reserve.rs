//! Memory for frames above 64 KiB that are still arriving (X2): one budget for the process, of which one source address
//! gets at most a quarter. A reservation is of the declared size and gives itself back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The budget. Its lock is taken twice for a large frame and never for a small one.
#[derive(Debug)]
pub struct LargeFrames {
    bytes_max: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    bytes: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// Bytes reserved for one frame.
#[derive(Debug)]
pub struct Reservation {
    frames: Arc<LargeFrames>,
    source: IpAddr,
    bytes: usize,
}

impl LargeFrames {
    /// A budget of `bytes_max`.
    pub fn new(bytes_max: usize) -> Arc<LargeFrames> {
        Arc::new(LargeFrames { bytes_max, used: Mutex::default() })
    }

    /// Room for a frame of `bytes` from `source`. A frame larger than a source's share, or than everything, has room
    /// where nothing else holds any, since it could never arrive otherwise.
    pub fn reserve(self: &Arc<Self>, source: IpAddr, bytes: usize) -> Option<Reservation> {
        let mut used = self.lock();
        let own = used.by_source.get(&source).copied().unwrap_or(0);
        let fits_source = own == 0 || own + bytes <= self.bytes_max / SOURCE_SHARE;
        let fits = used.bytes == 0 || used.bytes + bytes <= self.bytes_max;
        (fits && fits_source).then(|| self.enter(&mut used, source, bytes))
    }

    /// Room for what was admitted before, taken again after a thaw.
    pub fn reserve_again(self: &Arc<Self>, source: IpAddr, bytes: usize) -> Reservation {
        self.enter(&mut self.lock(), source, bytes)
    }

    /// Bytes that are reserved.
    pub fn used_bytes(&self) -> usize {
        self.lock().bytes
    }

    fn enter(self: &Arc<Self>, used: &mut Used, source: IpAddr, bytes: usize) -> Reservation {
        used.bytes += bytes;
        *used.by_source.entry(source).or_default() += bytes;
        Reservation { frames: Arc::clone(self), source, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// For whom.
    pub fn source(&self) -> IpAddr {
        self.source
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut used = self.frames.lock();
        used.bytes -= self.bytes;
        if let Some(own) = used.by_source.get_mut(&self.source) {
            *own -= self.bytes;
            if *own == 0 {
                used.by_source.remove(&self.source);
            }
        }
    }
}

/// One source gets one part in so many.
const SOURCE_SHARE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_gets_a_quarter_and_all_together_the_whole() {
        let frames = LargeFrames::new(1_000);
        let source = |last| IpAddr::from([127, 0, 0, last]);
        let first = frames.reserve(source(1), 200).expect("room");
        assert!(frames.reserve(source(1), 100).is_none(), "a quarter is 250");
        let others: Vec<_> = (2..5).map(|last| frames.reserve(source(last), 250).expect("room")).collect();
        assert!(frames.reserve(source(9), 100).is_none(), "950 of 1,000 are taken");
        drop(first);
        assert!(frames.reserve(source(1), 250).is_some());
        drop(others);
        assert_eq!(frames.used_bytes(), 0);
    }

    #[test]
    fn a_frame_above_everything_passes_alone() {
        let frames = LargeFrames::new(1_000);
        let large = frames.reserve(IpAddr::from([127, 0, 0, 1]), 9_000).expect("nothing else is there");
        assert!(frames.reserve(IpAddr::from([127, 0, 0, 2]), 1).is_none());
        drop(large);
        assert!(frames.lock().by_source.is_empty());
    }
}
