//! Owns the bare relays that bound what the gateway's modes could reach: Bolt frames by their length alone, request ids
//! rewritten, one shared upstream connection per thread, nothing else. Refuses what would need more: routing, CRCs, limits,
//! reconnects. Correct all the same: every answer finds its request. Started by `bowline-bench relay`.

pub mod frames;

pub mod lookout;

pub mod epoll;

pub mod tokio;

use std::net::SocketAddr;
use std::time::Duration;

/// What both relays are told.
#[derive(Clone, Copy, Debug)]
pub struct RelayOptions {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether other processes may listen there too.
    pub reuseport: bool,
    /// Where requests go.
    pub to: SocketAddr,
    /// Threads, each with an upstream connection of its own.
    pub threads: usize,
    /// When to end; not by itself when `None`.
    pub duration: Option<Duration>,
}
