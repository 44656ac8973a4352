//! Owns the bare relays that bound what the gateway's modes could reach: Bolt frames by their length alone, request ids
//! rewritten, one shared upstream connection per thread; HTTP messages by their length alone, an upstream connection out of a
//! pool for each request in flight; nothing else. Refuses what would need more: routing, CRCs, other framings, limits,
//! reconnects. Correct all the same: every answer finds its request. Started by `bowline-bench relay`.

pub mod frames;

pub mod lookout;

pub mod epoll;

pub mod tokio;

use std::net::SocketAddr;
use std::time::Duration;

use crate::wire::Protocol;

/// What both relays are told.
#[derive(Clone, Copy, Debug)]
pub struct RelayOptions {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether other processes may listen there too.
    pub reuseport: bool,
    /// Where requests go.
    pub to: SocketAddr,
    /// Threads, each with an upstream connection of its own, or a pool of them.
    pub threads: usize,
    /// What is relayed: Bolt or HTTP.
    pub protocol: Protocol,
    /// When to end; not by itself when `None`.
    pub duration: Option<Duration>,
}
