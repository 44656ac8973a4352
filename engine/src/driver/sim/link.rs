//! The network of a simulation: links between sockets of the engine and peers that a test plays.
//!
//! A link carries bytes both ways with seed-chosen splits and delays, in order; each end may finish its direction, and
//! either may reset. It models what a kernel promises and no more: short reads, short writes, a full send buffer, data
//! that is lost with a reset. It knows no machine. Called by the simulator's turns (the engine's end) and by its public
//! methods (the peer's end).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

use crate::machine::Address;
use crate::time::Time;

use super::dice::Dice;
use super::trace::StreamDigest;

/// How links behave. What is random in it comes from the seed.
#[derive(Clone, Copy, Debug)]
pub struct LinkOptions {
    /// A segment is on its way for up to this long.
    pub delay_ms_max: u64,
    /// What is written arrives in segments of 1 to so many bytes; nothing for one segment.
    pub segment_bytes_max: Option<usize>,
    /// Bytes on their way to the peer, or not taken by it, before the engine's socket is full.
    pub send_buffer_bytes: usize,
    /// Reads and writes of the engine may be shorter than they could be.
    pub is_short: bool,
}

impl Default for LinkOptions {
    fn default() -> LinkOptions {
        LinkOptions {
            delay_ms_max: 0,
            segment_bytes_max: None,
            send_buffer_bytes: usize::MAX,
            is_short: false,
        }
    }
}

/// What the peer knows of the engine's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is open.
    Open,
    /// The engine sends no more (FIN).
    Finished,
    /// The connection was reset.
    Reset,
}

/// What travels.
enum Segment {
    Bytes(Vec<u8>),
    Finish,
    Reset,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    flight: VecDeque<(Time, Segment)>,
    arrived: VecDeque<u8>,
    /// In flight and arrived.
    bytes: usize,
    finish_sent: bool,
    finish_arrived: bool,
    reset_arrived: bool,
}

/// A connection's two directions.
pub(super) struct Link {
    /// The other end's address.
    pub(super) peer: SocketAddr,
    /// The engine's end, while there is one.
    pub(super) engine: Option<Address>,
    options: LinkOptions,
    dice: Dice,
    to_engine: Pipe,
    to_peer: Pipe,
    /// How many bytes the engine may still write; nothing for any number.
    allowance: Option<usize>,
    /// The engine has closed its socket.
    is_closed: bool,
    /// The arrival that [`Links`] waits for: one entry for a link, or they would pile up.
    filed: Option<Time>,
    /// What the engine read and wrote.
    pub(super) read: StreamDigest,
    pub(super) written: StreamDigest,
}

impl Pipe {
    fn send(&mut self, at: Time, segment: Segment) {
        // A stream keeps its order: nothing overtakes what was sent before.
        let at = self.flight.back().map_or(at, |(before, _)| at.max(*before));
        match &segment {
            Segment::Bytes(bytes) => self.bytes += bytes.len(),
            Segment::Finish => self.finish_sent = true,
            Segment::Reset => {}
        }
        self.flight.push_back((at, segment));
    }

    /// Lets arrive what is due. True if something did.
    fn deliver(&mut self, now: Time) -> bool {
        let mut any = false;
        while self.next_arrival().is_some_and(|at| at <= now) {
            let Some((_, segment)) = self.flight.pop_front() else { break };
            any = true;
            match segment {
                Segment::Bytes(bytes) => self.arrived.extend(bytes),
                Segment::Finish => self.finish_arrived = true,
                Segment::Reset => self.break_off(),
            }
        }
        any
    }

    fn break_off(&mut self) {
        (self.reset_arrived, self.bytes) = (true, self.arrived.len());
        self.flight.clear();
    }

    fn next_arrival(&self) -> Option<Time> {
        self.flight.front().map(|(at, _)| *at)
    }

    fn is_readable(&self) -> bool {
        !self.arrived.is_empty() || self.finish_arrived || self.reset_arrived
    }

    fn take(&mut self, bytes: usize) -> impl Iterator<Item = u8> {
        self.bytes -= bytes;
        self.arrived.drain(..bytes)
    }
}

impl Link {
    pub(super) fn new(peer: SocketAddr, options: LinkOptions, dice: Dice) -> Link {
        Link {
            peer,
            engine: None,
            options,
            dice,
            to_engine: Pipe::default(),
            to_peer: Pipe::default(),
            allowance: None,
            is_closed: false,
            filed: None,
            read: StreamDigest::default(),
            written: StreamDigest::default(),
        }
    }

    /// When something that is sent now arrives.
    pub(super) fn arrival(&mut self, now: Time) -> Time {
        now.after_ms(self.dice.up_to(self.options.delay_ms_max))
    }

    fn some_of(&mut self, bytes: usize) -> usize {
        let is_short = self.options.is_short && bytes > 1 && self.dice.hits(256);
        if is_short { 1 + self.dice.below(bytes - 1) } else { bytes }
    }

    fn segments<'a>(&mut self, mut bytes: &'a [u8], mut each: impl FnMut(&mut Link, &'a [u8])) {
        while !bytes.is_empty() {
            let most = self.options.segment_bytes_max.unwrap_or(bytes.len()).min(bytes.len());
            let length = if most < bytes.len() { 1 + self.dice.below(most) } else { most };
            let (segment, rest) = bytes.split_at(length);
            each(self, segment);
            bytes = rest;
        }
    }

    /// The engine's `recv`.
    pub(super) fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let waiting = self.to_engine.arrived.len().min(into.len());
        if waiting == 0 {
            return match &self.to_engine {
                pipe if pipe.reset_arrived => Err(ErrorKind::ConnectionReset.into()),
                pipe if pipe.finish_arrived => Ok(0),
                _ => Err(ErrorKind::WouldBlock.into()),
            };
        }
        let bytes = self.some_of(waiting);
        let taken = self.to_engine.take(bytes);
        into.iter_mut().zip(taken).for_each(|(to, from)| *to = from);
        self.read.add(&into[..bytes]);
        Ok(bytes)
    }

    /// The engine's `writev`.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], now: Time) -> io::Result<usize> {
        if self.to_engine.reset_arrived || self.to_peer.finish_sent {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = self.room().min(asked);
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let accepted = self.some_of(room);
        let mut bytes = Vec::with_capacity(accepted);
        for slice in slices {
            bytes.extend_from_slice(&slice[..slice.len().min(accepted - bytes.len())]);
        }
        self.written.add(&bytes);
        if let Some(allowance) = &mut self.allowance {
            *allowance -= accepted;
        }
        self.segments(&bytes, |link, segment| {
            let at = link.arrival(now);
            link.to_peer.send(at, Segment::Bytes(segment.to_vec()));
        });
        Ok(accepted)
    }

    fn room(&self) -> usize {
        let room = self.options.send_buffer_bytes.saturating_sub(self.to_peer.bytes);
        room.min(self.allowance.unwrap_or(usize::MAX))
    }

    /// True if a read would return something.
    pub(super) fn is_readable(&self) -> bool {
        self.to_engine.is_readable()
    }

    /// True if a write would take something, or fail.
    pub(super) fn is_writable(&self) -> bool {
        self.room() > 0 || self.to_engine.reset_arrived
    }

    /// True once the peer's reset has arrived.
    pub(super) fn is_reset(&self) -> bool {
        self.to_engine.reset_arrived
    }

    /// True once the peer's FIN has arrived, whatever is unread before it.
    pub(super) fn is_peer_shut(&self) -> bool {
        self.to_engine.finish_arrived
    }

    /// Bytes for the engine that it has not read.
    pub(super) fn unread(&self) -> usize {
        self.to_engine.bytes
    }

    /// The engine shuts its write side.
    pub(super) fn shut(&mut self, now: Time) {
        let at = self.arrival(now);
        self.to_peer.send(at, Segment::Finish);
    }

    /// The engine closes its socket. What it has not read makes a reset of it, as in every kernel.
    pub(super) fn close(&mut self, abort: bool, now: Time) {
        (self.is_closed, self.engine) = (true, None);
        let at = self.arrival(now);
        if abort || !self.to_engine.arrived.is_empty() {
            self.to_peer.send(at, Segment::Reset);
        } else if !self.to_peer.finish_sent {
            self.to_peer.send(at, Segment::Finish);
        }
        self.to_engine = Pipe { reset_arrived: true, ..Pipe::default() };
    }

    /// The peer sends.
    pub(super) fn send(&mut self, bytes: &[u8], now: Time) {
        if self.is_closed {
            // The engine's kernel answers what comes for a closed socket with a reset.
            let at = self.arrival(now);
            return self.to_peer.send(at, Segment::Reset);
        }
        self.segments(bytes, |link, segment| {
            let at = link.arrival(now);
            link.to_engine.send(at, Segment::Bytes(segment.to_vec()));
        });
    }

    /// The peer will send no more.
    pub(super) fn finish(&mut self, now: Time) {
        if !self.is_closed && !self.to_engine.finish_sent {
            let at = self.arrival(now);
            self.to_engine.send(at, Segment::Finish);
        }
    }

    /// The peer resets: it gets nothing more, and what is on its way to the engine may be lost.
    pub(super) fn cut(&mut self, now: Time) {
        self.to_peer.break_off();
        self.to_peer.arrived.clear();
        if self.is_closed {
            return;
        }
        if self.dice.hits(512) {
            self.to_engine.flight.clear();
        }
        let at = self.arrival(now);
        self.to_engine.send(at, Segment::Reset);
    }

    /// What has come to the peer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let bytes = self.to_peer.arrived.len();
        self.to_peer.take(bytes).collect()
    }

    /// How many bytes that are.
    pub(super) fn waiting(&self) -> usize {
        self.to_peer.arrived.len()
    }

    /// What the peer knows of the engine's direction, once it has taken everything before.
    pub(super) fn ending(&self) -> Ending {
        match &self.to_peer {
            pipe if pipe.reset_arrived => Ending::Reset,
            pipe if pipe.finish_arrived && pipe.arrived.is_empty() => Ending::Finished,
            _ => Ending::Open,
        }
    }

    /// Lets the engine write so many bytes more; nothing for any number.
    pub(super) fn allow(&mut self, bytes: Option<usize>) {
        self.allowance = bytes;
    }
}

/// All links, and when something arrives on one.
#[derive(Default)]
pub(super) struct Links {
    all: Vec<Option<Link>>,
    arrivals: BinaryHeap<Reverse<(Time, usize)>>,
}

impl Links {
    /// Adds a link and says where it is.
    pub(super) fn add(&mut self, link: Link) -> usize {
        self.all.push(Some(link));
        self.all.len() - 1
    }

    /// One of them.
    pub(super) fn at(&self, number: usize) -> &Link {
        self.all[number].as_ref().expect("a link is out only during a call of its machine")
    }

    /// Works on one of them, and files what it sent.
    pub(super) fn with<R>(&mut self, number: usize, work: impl FnOnce(&mut Link) -> R) -> R {
        let mut link = self.take(number);
        let result = work(&mut link);
        self.put(number, link);
        result
    }

    /// Takes one out, for as long as a machine is called that reads or writes there.
    pub(super) fn take(&mut self, number: usize) -> Link {
        self.all[number].take().expect("a link is out only during a call of its machine")
    }

    /// Puts it back.
    pub(super) fn put(&mut self, number: usize, mut link: Link) {
        let next = [link.to_engine.next_arrival(), link.to_peer.next_arrival()].into_iter().flatten().min();
        if let Some(at) = next.filter(|at| link.filed.is_none_or(|filed| *at < filed)) {
            link.filed = Some(at);
            self.arrivals.push(Reverse((at, number)));
        }
        self.all[number] = Some(link);
    }

    /// When something arrives next.
    pub(super) fn next_arrival(&self) -> Option<Time> {
        self.arrivals.peek().map(|Reverse((at, _))| *at)
    }

    /// Lets everything arrive that is due; tells which peers got something.
    pub(super) fn deliver(&mut self, now: Time, mut touched: impl FnMut(usize)) {
        while self.next_arrival().is_some_and(|at| at <= now) {
            let Some(Reverse((at, number))) = self.arrivals.pop() else { return };
            let mut link = self.take(number);
            if link.filed == Some(at) {
                link.filed = None;
            }
            link.to_engine.deliver(now);
            if link.to_peer.deliver(now) {
                touched(number);
            }
            self.put(number, link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(options: LinkOptions) -> (Links, usize) {
        let mut links = Links::default();
        let peer = SocketAddr::from(([10, 0, 0, 1], 1));
        let number = links.add(Link::new(peer, options, Dice::new(4)));
        (links, number)
    }

    fn rough() -> LinkOptions {
        LinkOptions { delay_ms_max: 9, segment_bytes_max: Some(5), send_buffer_bytes: 12, is_short: true }
    }

    #[test]
    fn bytes_arrive_late_in_pieces_in_order_and_then_the_end() {
        let (mut links, at) = link(rough());
        links.with(at, |link| {
            link.send(b"hello, world", Time::ZERO);
            link.finish(Time::ZERO);
        });
        let (mut got, mut now, mut reads) = (Vec::<u8>::new(), Time::ZERO, 0);
        loop {
            links.deliver(now, |_| panic!("nothing comes to the peer"));
            let mut into = [0; 8];
            match links.with(at, |link| link.receive(&mut into)) {
                Ok(0) => break,
                Ok(bytes) => got.extend(&into[..bytes]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    now = links.next_arrival().expect("there is more to come");
                }
            }
            reads += 1;
        }
        assert_eq!(got, b"hello, world");
        assert!(reads > 2 && now > Time::ZERO);
    }

    #[test]
    fn a_full_send_buffer_takes_no_more_until_the_peer_takes() {
        let (mut links, at) = link(rough());
        let write = |links: &mut Links| {
            links.with(at, |link| link.write(&[IoSlice::new(&[7; 5]), IoSlice::new(&[8; 20])], Time::ZERO))
        };
        let mut sent = 0;
        while let Ok(bytes) = write(&mut links) {
            sent += bytes;
        }
        assert_eq!((sent, links.at(at).is_writable()), (12, false));
        links.deliver(Time::from_ms(9), |_| {});
        assert_eq!(links.with(at, Link::take).len(), 12);
        assert!(links.at(at).is_writable());
    }

    #[test]
    fn arrivals_that_are_waited_for_do_not_pile_up() {
        let (mut links, at) = link(rough());
        for ms in 0..100 {
            links.with(at, |link| link.send(b"0123456789", Time::from_ms(ms)));
            links.deliver(Time::from_ms(ms), |_| {});
            assert!(links.arrivals.len() <= 2, "at {ms} ms");
        }
    }

    #[test]
    fn a_reset_ends_both_directions() {
        let (mut links, at) = link(LinkOptions::default());
        links.with(at, |link| link.cut(Time::ZERO));
        links.deliver(Time::ZERO, |_| {});
        let error = links.with(at, |link| link.receive(&mut [0; 4])).expect_err("it is reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(links.with(at, |link| link.write(&[IoSlice::new(b"x")], Time::ZERO)).is_err());
        assert_eq!(links.at(at).ending(), Ending::Reset);
    }

    #[test]
    fn closing_over_unread_bytes_resets_and_otherwise_finishes() {
        for (unread, ending) in [(false, Ending::Finished), (true, Ending::Reset)] {
            let (mut links, at) = link(LinkOptions::default());
            if unread {
                links.with(at, |link| link.send(b"x", Time::ZERO));
            }
            links.deliver(Time::ZERO, |_| {});
            links.with(at, |link| link.close(false, Time::ZERO));
            links.deliver(Time::ZERO, |_| {});
            assert_eq!(links.at(at).ending(), ending);
        }
    }
}
