//! The admin interface: `/healthz`, `/readyz`, `/metrics` and `/connections` over HTTP/1.1, on one thread of its own that
//! shares nothing with the data path but counters. It changes nothing, so it asks for no credentials; it answers only
//! requests that name it by address, so that no web page can read it through a browser. The application starts it.

mod connections;
mod server;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use crate::metrics::Metrics;

pub use connections::ConnectionSource;
pub use connections::ConnectionView;
pub use connections::Direction;
pub use connections::LIMIT_DEFAULT;
pub use connections::LIMIT_MAX;
pub use server::Admin;
pub use server::AdminThread;

/// Whether new connections should be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Readiness {
    /// Not all listeners are bound yet.
    Starting,
    /// They are.
    Ready,
    /// The process is about to end.
    Draining,
}

impl Readiness {
    fn name(self) -> &'static str {
        match self {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
        }
    }
}

/// The readiness that the application sets and `/readyz` reads.
#[derive(Debug, Default)]
pub struct ReadinessCell(AtomicU8);

impl ReadinessCell {
    /// Sets it.
    pub fn set(&self, readiness: Readiness) {
        self.0.store(readiness as u8, Ordering::Release);
    }

    /// Reads it.
    pub fn now(&self) -> Readiness {
        match self.0.load(Ordering::Acquire) {
            0 => Readiness::Starting,
            1 => Readiness::Ready,
            _ => Readiness::Draining,
        }
    }
}

/// What the admin interface shows.
pub struct AdminState {
    /// For `/readyz`.
    pub readiness: Arc<ReadinessCell>,
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/connections`.
    pub connections: Arc<dyn ConnectionSource>,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AdminState").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}
