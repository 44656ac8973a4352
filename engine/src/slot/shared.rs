//! The part of a slot that everybody may read: figures for `/connections`, the watchdog and the timer wheel.
//!
//! All of it is atomic, so that reading stops nobody. The holder of the slot writes it; the leader of a reactor also
//! writes the timer hints. It owns no connection and decides nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::sync;
use crate::time::Tick;

/// [`Shared::listener`] of a connection that this side opened.
pub(crate) const NO_LISTENER: u16 = u16::MAX;

/// What a slot shows.
#[derive(Default)]
pub(crate) struct Shared {
    /// The truth about when the connection wants to be called (O11).
    pub(crate) deadline: sync::AtomicU32,
    /// The [`Hints`] as one word, so that no update of one loses an update of the other. Survive the reuse of the slot.
    pub(crate) hints: sync::AtomicU64,
    opened: AtomicU32,
    last_active: AtomicU32,
    memory_bytes: AtomicU32,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    requests: AtomicU32,
    in_flight: AtomicU16,
    state: AtomicU8,
    live: AtomicU8,
    peer_high: AtomicU64,
    peer_low: AtomicU64,
    peer_port: AtomicU16,
    listener: AtomicU16,
    /// The reactor whose epoll set reports it and whose wheel files it.
    home: AtomicU16,
    /// The epoll interest it was armed with last.
    armed: AtomicU8,
    watch: AtomicU8,
}

/// [`Shared::watch`]: it is armed.
const ARMED: u8 = 1;
/// [`Shared::watch`]: it wants to be read.
const READING: u8 = 2;
/// [`Shared::watch`]: only the epoll set can arm it again.
const MUST_ASK: u8 = 4;

/// The ticks at which the wheel holds an entry of the slot, [`Tick::NEVER`] for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hints {
    /// The one that was filed last.
    pub(crate) near: Tick,
    /// One that was filed before and is later.
    pub(crate) far: Tick,
}

impl Hints {
    /// No entry is filed.
    pub(crate) const NONE: Hints = Hints { near: Tick::NEVER, far: Tick::NEVER };

    /// Both as one word.
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.near.0) << 32 | u64::from(self.far.0)
    }

    /// The hints of [`Hints::bits`].
    pub(crate) fn from_bits(bits: u64) -> Hints {
        Hints { near: Tick((bits >> 32) as u32), far: Tick(bits as u32) }
    }

    /// True if an entry fires no later than `deadline`.
    pub(crate) fn cover(self, deadline: Tick) -> bool {
        self.near.min(self.far) <= deadline
    }

    /// With an entry at `tick`, before both. The farther of the two is kept as far, so that the longer wait stays
    /// covered when the nearer one is gone.
    pub(crate) fn with(self, tick: Tick) -> Hints {
        Hints { near: tick, far: if self.far == Tick::NEVER { self.near } else { self.far } }
    }

    /// Without the entry at `tick`; nothing if there is none.
    pub(crate) fn without(self, tick: Tick) -> Option<Hints> {
        match tick {
            _ if tick == self.near => Some(Hints { near: Tick::NEVER, ..self }),
            _ if tick == self.far => Some(Hints { far: Tick::NEVER, ..self }),
            _ => None,
        }
    }
}

/// Adds without a locked instruction: only the holder of the slot writes.
fn add(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

impl Shared {
    /// Timer hints of a slot that was never used.
    pub(crate) fn unused() -> Shared {
        let deadline = sync::AtomicU32::new(Tick::NEVER.0);
        Shared { deadline, hints: sync::AtomicU64::new(Hints::NONE.bits()), ..Shared::default() }
    }

    /// Starts over for a new connection; the hints stay, since the wheel still holds their entries.
    pub(crate) fn open(&self, now: Tick, home: usize, peer: Option<SocketAddr>, listener: u16) {
        self.deadline.store(Tick::NEVER.0, Ordering::SeqCst);
        self.opened.store(now.0, Ordering::Relaxed);
        self.last_active.store(now.0, Ordering::Relaxed);
        for cell in [&self.bytes_in, &self.bytes_out] {
            cell.store(0, Ordering::Relaxed);
        }
        for cell in [&self.requests, &self.memory_bytes] {
            cell.store(0, Ordering::Relaxed);
        }
        self.in_flight.store(0, Ordering::Relaxed);
        self.state.store(0, Ordering::Relaxed);
        self.watch.store(0, Ordering::Relaxed);
        self.set_home(home);
        self.listener.store(listener, Ordering::Relaxed);
        self.set_peer(peer.unwrap_or(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)));
        self.live.store(1, Ordering::Release);
    }

    /// The connection is gone.
    pub(crate) fn close(&self) {
        self.deadline.store(Tick::NEVER.0, Ordering::SeqCst);
        self.watch.store(0, Ordering::Relaxed);
        self.live.store(0, Ordering::Release);
    }

    /// True while a connection has the slot.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire) == 1
    }

    /// Publishes the peer.
    pub(crate) fn set_peer(&self, peer: SocketAddr) {
        let ip = match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let bits = ip.to_bits();
        self.peer_high.store((bits >> 64) as u64, Ordering::Relaxed);
        self.peer_low.store(bits as u64, Ordering::Relaxed);
        self.peer_port.store(peer.port(), Ordering::Relaxed);
    }

    /// The peer; the unspecified address while it is not known.
    pub(crate) fn peer(&self) -> SocketAddr {
        let (high, low) = (self.peer_high.load(Ordering::Relaxed), self.peer_low.load(Ordering::Relaxed));
        let port = self.peer_port.load(Ordering::Relaxed);
        // Mapped addresses of IPv4 (RFC 4291 §2.5.5.2) are told by two comparisons: this is asked in every turn.
        if high == 0 && low >> 32 == 0xffff {
            return SocketAddrV4::new(Ipv4Addr::from_bits(low as u32), port).into();
        }
        let ip = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
        SocketAddr::new(ip.into(), port)
    }

    /// The listener that accepted it, [`NO_LISTENER`] if this side opened it.
    pub(crate) fn listener(&self) -> u16 {
        self.listener.load(Ordering::Relaxed)
    }

    /// Its home reactor.
    pub(crate) fn home(&self) -> usize {
        usize::from(self.home.load(Ordering::Relaxed))
    }

    /// Moves it to another reactor; the holder has removed it from the epoll set of the old one.
    pub(crate) fn set_home(&self, home: usize) {
        self.home.store(u16::try_from(home).expect("there are few reactors"), Ordering::Relaxed);
    }

    /// Publishes what it is armed with: nothing while it is not armed.
    pub(crate) fn set_armed(&self, interest: Option<u8>, reading: bool) {
        self.armed.store(interest.unwrap_or(0), Ordering::Relaxed);
        let watch = if interest.is_some() { ARMED } else { 0 } | if reading { READING } else { 0 };
        self.watch.store(watch, Ordering::Relaxed);
    }

    /// What it is armed with.
    pub(crate) fn armed(&self) -> Option<u8> {
        let armed = self.watch.load(Ordering::Relaxed) & ARMED != 0;
        armed.then(|| self.armed.load(Ordering::Relaxed))
    }

    /// It was reported: no event comes for what has arrived. Reading alone arms it again, unless the set must be asked.
    pub(crate) fn set_disarmed(&self, must_ask: bool) {
        let asks = if must_ask { MUST_ASK } else { 0 };
        self.watch.store(self.watch.load(Ordering::Relaxed) & !ARMED | asks, Ordering::Relaxed);
    }

    /// Everything that had arrived was read, so what arrives from here on is an event of its own.
    pub(crate) fn set_drained(&self) {
        let watch = self.watch.load(Ordering::Relaxed);
        if watch & MUST_ASK == 0 {
            self.watch.store(watch | ARMED, Ordering::Relaxed);
        }
    }

    /// True if it wants to be read although no event can wake it: the watchdog's question.
    pub(crate) fn reads_unarmed(&self) -> bool {
        self.watch.load(Ordering::Relaxed) & (READING | ARMED) == READING
    }

    /// When it was opened.
    pub(crate) fn opened(&self) -> Tick {
        Tick(self.opened.load(Ordering::Relaxed))
    }

    /// When it was last active.
    pub(crate) fn last_active(&self) -> Tick {
        Tick(self.last_active.load(Ordering::Relaxed))
    }

    /// It is active now.
    pub(crate) fn set_active(&self, now: Tick) {
        self.last_active.store(now.0, Ordering::Relaxed);
    }

    /// Counts bytes that were received.
    pub(crate) fn count_in(&self, bytes: usize) {
        add(&self.bytes_in, bytes as u64);
    }

    /// Counts bytes that were sent.
    pub(crate) fn count_out(&self, bytes: usize) {
        add(&self.bytes_out, bytes as u64);
    }

    /// Counts requests.
    pub(crate) fn count_requests(&self, count: u32) {
        let sum = self.requests.load(Ordering::Relaxed).wrapping_add(count);
        self.requests.store(sum, Ordering::Relaxed);
    }

    /// Publishes the requests in flight.
    pub(crate) fn set_in_flight(&self, in_flight: u32) {
        self.in_flight.store(u16::try_from(in_flight).unwrap_or(u16::MAX), Ordering::Relaxed);
    }

    /// Publishes the application's state byte.
    pub(crate) fn set_state(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }

    /// Publishes the buffer memory that it is charged with.
    pub(crate) fn set_memory(&self, bytes: usize) {
        self.memory_bytes.store(u32::try_from(bytes).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Bytes received and sent.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.load(Ordering::Relaxed), self.bytes_out.load(Ordering::Relaxed))
    }

    /// Requests counted.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        u32::from(self.in_flight.load(Ordering::Relaxed))
    }

    /// The application's state byte.
    pub(crate) fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    /// Buffer memory that it is charged with.
    pub(crate) fn memory_bytes(&self) -> u32 {
        self.memory_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_peer_survives_its_packing() {
        let shared = Shared::unused();
        for peer in ["127.0.0.1:80", "[2001:db8::1]:443", "255.255.255.255:65535", "[::]:1", "[::fffe:0:1]:2"]
        {
            let peer: SocketAddr = peer.parse().expect("a test address");
            shared.set_peer(peer);
            assert_eq!(shared.peer(), peer);
        }
    }

    #[test]
    fn reopening_clears_figures_and_keeps_hints() {
        let shared = Shared::unused();
        shared.open(Tick(1), 0, None, 3);
        shared.count_in(5);
        shared.set_state(2);
        let hints = Hints::NONE.with(Tick(77)).with(Tick(12));
        shared.hints.store(hints.bits(), Ordering::SeqCst);
        shared.close();
        assert!(!shared.is_live());
        shared.open(Tick(9), 1, None, NO_LISTENER);
        assert_eq!((shared.bytes(), shared.state(), shared.home()), ((0, 0), 0, 1));
        assert_eq!(Hints::from_bits(shared.hints.load(Ordering::SeqCst)), hints);
        assert_eq!(hints, Hints { near: Tick(12), far: Tick(77) });
    }
}
