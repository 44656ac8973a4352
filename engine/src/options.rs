//! How an engine is set up: plain values, checked by whoever fills them in.

use std::time::Duration;

/// Which driver runs the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Epoll reactors and a fixed pool of workers.
    Raw(Dispatch),
    /// One tokio current-thread runtime per worker.
    Tokio,
}

/// Who runs what a reactor finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// The worker that waits on the reactor, and idle workers when there is surplus.
    Help,
    /// Workers only; a thread per reactor just queues.
    Handoff,
}

/// Who accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// One listening socket, on the control thread, which gives each connection to the reactor with the fewest.
    Shared,
    /// One listening socket per reactor (or tokio worker), `SO_REUSEPORT`; the kernel spreads connections.
    Reuseport,
}

/// Whether live connections move between reactors; raw mode only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// They stay where they were accepted.
    Off,
    /// Busy ones leave a reactor that is clearly busier than another, with [`Dispatch::Help`].
    On,
    /// Each goes to the next reactor whenever its turn ends: this wears out what moving relies on, and is for tests.
    EveryTurn,
}

/// What an engine is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The driver.
    pub mode: Mode,
    /// Epoll instances; raw mode only. At least 1.
    pub reactors: usize,
    /// Threads that run machines. In raw mode at least as many as reactors.
    pub workers: usize,
    /// Whether worker n is pinned to the n-th CPU it may use.
    pub pin_cores: bool,
    /// Who accepts.
    pub accept: Accept,
    /// Who moves.
    pub rebalance: Rebalance,
    /// Bytes read from one connection in one turn, at most.
    pub read_budget_bytes: usize,
    /// The ceiling of buffer memory.
    pub buffer_bytes_max: usize,
    /// Accepted connections at a time. Those that machines open come on top: see [`Options::slots_max`].
    pub connections_max: usize,
    /// Accepted connections at a time from one address.
    pub connections_per_source_max: Option<usize>,
    /// Listeners whose connections come through another host, which says whose they are: the limit per source counts
    /// from then on ([`crate::machine::Context::set_peer`]), and not the other host.
    pub announced_listeners: Vec<u16>,
    /// The listener that only this process connects to, if there is one: its connections count against no limit.
    pub own_listener: Option<u16>,
    /// Options of every socket.
    pub socket: SocketOptions,
}

/// Options of accepted and opened sockets.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// TCP keepalive: the first probe after this long without traffic. Default 60 s.
    pub keepalive_idle: Duration,
    /// TCP keepalive: between probes. Default 15 s.
    pub keepalive_interval: Duration,
    /// TCP keepalive: unanswered probes that end the connection. Default 4.
    pub keepalive_probes: u32,
    /// `TCP_USER_TIMEOUT`: unacknowledged data ends the connection after this long. Default 30 s.
    pub user_timeout: Duration,
    /// `TCP_NOTSENT_LOWAT`: unsent bytes the kernel holds before the socket stops being writable. Default 16 KiB.
    pub notsent_lowat_bytes: u32,
    /// Connections that wait to be accepted. Default 4,096.
    pub backlog: u32,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            keepalive_idle: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(15),
            keepalive_probes: 4,
            user_timeout: Duration::from_secs(30),
            notsent_lowat_bytes: 16 << 10,
            backlog: 4_096,
        }
    }
}

impl Options {
    /// Connections there can be at a time: one opened for each accepted one, as tunnels need, and some for pools.
    pub fn slots_max(&self) -> usize {
        self.connections_max.saturating_mul(2).saturating_add(POOL_SLOTS)
    }
}

/// Slots for connections that belong to no single client.
const POOL_SLOTS: usize = 1_024;

impl Default for Options {
    fn default() -> Options {
        Options {
            mode: Mode::Raw(Dispatch::Help),
            reactors: 2,
            workers: 2,
            pin_cores: false,
            accept: Accept::Shared,
            rebalance: Rebalance::On,
            read_budget_bytes: 64 << 10,
            buffer_bytes_max: 1 << 30,
            connections_max: 16_384,
            connections_per_source_max: None,
            announced_listeners: Vec::new(),
            own_listener: None,
            socket: SocketOptions::default(),
        }
    }
}
