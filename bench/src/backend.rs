//! Owns the Bolt server behind a gateway under test: answers every request with its own content, heartbeats with their
//! acknowledgement, in the version and with the CRC of what came. One thread, since a second would take a core from what is
//! measured. Bounded: a peer that does not read is not read either.

use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bowline_protocols::Limits;
use bowline_protocols::bolt;
use bowline_protocols::bolt::Frame;
use bowline_protocols::bolt::Kind;
use bowline_protocols::bolt::ResponseParts;
use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpListener;
use mio::net::TcpStream;
use serde::Serialize;

use crate::clock::Alarm;
use crate::clock::Clock;
use crate::host::Signals;
use crate::listen::listen;
use crate::trouble::Trouble;
use crate::wire::Inbox;
use crate::wire::RESPONSE_CLASS;

/// How the backend answers.
#[derive(Clone, Copy, Debug)]
pub struct BackendOptions {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Content of an answer: the request's cut or repeated to so many bytes; as it came when `None`.
    pub reply_bytes: Option<usize>,
    /// How long an answer waits.
    pub delay: Duration,
    /// When to end; not by itself when `None`.
    pub duration: Option<Duration>,
}

/// What a backend did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackendCounts {
    /// Connections accepted.
    pub connections: u64,
    /// Requests answered.
    pub requests: u64,
    /// Calls that want no answer.
    pub oneways: u64,
    /// Heartbeats answered.
    pub heartbeats: u64,
    /// Connections closed for what cannot be read as Bolt.
    pub faults: u64,
}

/// A listening backend.
#[derive(Debug)]
pub struct Backend {
    options: BackendOptions,
    poll: Poll,
    listener: TcpListener,
    alarm: Alarm,
    clock: Clock,
    signals: Signals,
    limits: Limits,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    /// Tells a peer from one that had its place before.
    accepted: u64,
    delayed: VecDeque<Delayed>,
    delayed_bytes: usize,
    /// Peers whose reading stopped because too much was delayed.
    held: VecDeque<usize>,
    counts: BackendCounts,
    read: Vec<u8>,
    content: Vec<u8>,
}

#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    serial: u64,
    inbox: Inbox,
    out: Vec<u8>,
    written: usize,
}

/// How far reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    /// As far as it should for now.
    All,
    /// The peer must take its answers first.
    UntilFlushed,
}

/// An answer that waits for its time.
#[derive(Debug)]
struct Delayed {
    due_ns: u64,
    index: usize,
    serial: u64,
    bytes: Vec<u8>,
}

impl Backend {
    /// Listens. It takes SIGTERM and SIGINT of this thread.
    pub fn bind(options: BackendOptions) -> Result<Self, Trouble> {
        let poll = Poll::new().map_err(Trouble::doing("opening a poll"))?;
        let mut listener = TcpListener::from_std(listen(options.listen, false)?);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(Trouble::doing("waiting for connections"))?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let signals = Signals::new()?;
        signals.register(poll.registry(), SIGNAL)?;
        Ok(Self {
            options,
            poll,
            listener,
            alarm,
            clock: Clock::start(),
            signals,
            limits: Limits::default(),
            peers: Vec::new(),
            free: Vec::new(),
            accepted: 0,
            delayed: VecDeque::new(),
            delayed_bytes: 0,
            held: VecDeque::new(),
            counts: BackendCounts::default(),
            read: vec![0; READ_BYTES],
            content: Vec::new(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, Trouble> {
        self.listener.local_addr().map_err(Trouble::doing("asking for the bound address"))
    }

    /// Serves until a signal or the end of its duration.
    pub fn run(mut self) -> Result<BackendCounts, Trouble> {
        let end_ns = self.options.duration.map_or(u64::MAX, |duration| duration.as_nanos() as u64);
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= end_ns {
                return Ok(self.counts);
            }
            self.answer_delayed(now_ns);
            let next_ns = self.delayed.front().map_or(end_ns, |delayed| delayed.due_ns.min(end_ns));
            if next_ns < u64::MAX {
                self.alarm.set(now_ns, next_ns)?;
            }
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(Trouble::doing("waiting for events"))?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    ALARM => {}
                    SIGNAL => {
                        if self.signals.take() {
                            return Ok(self.counts);
                        }
                    }
                    Token(index) => {
                        self.flush(index);
                        // Input may be left from when the peer did not take its answers, so room is a reason to read.
                        self.serve(index, event.is_writable() || event.is_read_closed() || event.is_error());
                    }
                }
            }
        }
    }

    fn accept(&mut self) -> Result<(), Trouble> {
        loop {
            let (mut stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(Trouble::doing("accepting a connection")(error)),
            };
            let index = self.free.pop().unwrap_or(self.peers.len());
            if index == self.peers.len() {
                self.peers.push(None);
            }
            // Only latency suffers without it, so a peer that is gone already is no error here.
            let _ = stream.set_nodelay(true);
            self.poll
                .registry()
                .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                .map_err(Trouble::doing("waiting for a connection"))?;
            self.accepted += 1;
            self.counts.connections += 1;
            self.peers[index] = Some(Peer {
                stream,
                serial: self.accepted,
                inbox: Inbox::default(),
                out: Vec::new(),
                written: 0,
            });
        }
    }

    /// Answers what a peer sent, as long as it takes the answers. `exhaust` reads until nothing is left; otherwise a short
    /// read ends it, since what arrives later makes an event of its own.
    fn serve(&mut self, index: usize, exhaust: bool) {
        while self.receive(index, exhaust) == Received::UntilFlushed && self.flush(index) {}
        self.flush(index);
    }

    fn receive(&mut self, index: usize, exhaust: bool) -> Received {
        loop {
            let Some(Some(peer)) = self.peers.get_mut(index) else { return Received::All };
            if peer.out.len() - peer.written > OUT_BYTES_MAX {
                return Received::UntilFlushed;
            }
            if self.delayed_bytes > DELAYED_BYTES_MAX {
                self.held.push_back(index);
                return Received::All;
            }
            match peer.stream.read(&mut self.read) {
                Ok(count) => {
                    if count == 0 || !self.take(index, count) {
                        self.close(index);
                    }
                    if count < self.read.len() && !exhaust {
                        return Received::All;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.close(index);
                    }
                    return Received::All;
                }
            }
        }
    }

    /// Answers what was read; false when it is no Bolt.
    fn take(&mut self, index: usize, count: usize) -> bool {
        let Some(Some(peer)) = self.peers.get_mut(index) else { return false };
        let Peer { inbox, out, serial, .. } = peer;
        let due_ns = self.clock.now_ns() + self.options.delay.as_nanos() as u64;
        let delays = !self.options.delay.is_zero();
        let (counts, content, reply_bytes) = (&mut self.counts, &mut self.content, self.options.reply_bytes);
        let (delayed, delayed_bytes) = (&mut self.delayed, &mut self.delayed_bytes);
        let fed = inbox.feed(&self.read[..count], &self.limits, |frame, bytes| {
            if !delays {
                return answer(frame, bytes, reply_bytes, content, out, counts);
            }
            let mut bytes_out = Vec::new();
            answer(frame, bytes, reply_bytes, content, &mut bytes_out, counts);
            *delayed_bytes += bytes_out.len();
            delayed.push_back(Delayed { due_ns, index, serial: *serial, bytes: bytes_out });
        });
        self.counts.faults += u64::from(fed.is_err());
        fed.is_ok()
    }

    fn answer_delayed(&mut self, now_ns: u64) {
        while self.delayed.front().is_some_and(|delayed| delayed.due_ns <= now_ns) {
            let Some(Delayed { index, serial, bytes, .. }) = self.delayed.pop_front() else { return };
            self.delayed_bytes -= bytes.len();
            let Some(Some(peer)) = self.peers.get_mut(index) else { continue };
            if peer.serial == serial {
                peer.out.extend_from_slice(&bytes);
                self.flush(index);
            }
        }
        if self.delayed_bytes <= DELAYED_BYTES_MAX {
            for index in std::mem::take(&mut self.held) {
                self.serve(index, true);
            }
        }
    }

    /// Writes what the peer takes; true when that was all.
    fn flush(&mut self, index: usize) -> bool {
        let Some(Some(peer)) = self.peers.get_mut(index) else { return true };
        while peer.written < peer.out.len() {
            match peer.stream.write(&peer.out[peer.written..]) {
                Ok(count) => peer.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.close(index);
                    }
                    return false;
                }
            }
        }
        peer.out.clear();
        peer.written = 0;
        if peer.out.capacity() > OUT_BYTES_KEPT {
            peer.out = Vec::new();
        }
        true
    }

    fn close(&mut self, index: usize) {
        if self.peers[index].take().is_some() {
            self.free.push(index);
        }
    }
}

/// Appends the answer to one frame, if it has one.
fn answer(
    frame: &Frame,
    bytes: &[u8],
    reply_bytes: Option<usize>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
    counts: &mut BackendCounts,
) {
    match frame.kind {
        Kind::Request => counts.requests += 1,
        Kind::Heartbeat => {
            counts.heartbeats += 1;
            let mut ack = [0; bolt::encode::CONTROL_BYTES_MAX];
            let count = bolt::encode_heartbeat_ack(frame, &mut ack);
            return out.extend_from_slice(&ack[..count]);
        }
        Kind::Oneway => return counts.oneways += 1,
        Kind::Response | Kind::HeartbeatAck | Kind::Goaway => return,
    }
    let mut content = frame.content.of(bytes);
    if let Some(reply_bytes) = reply_bytes.filter(|reply_bytes| *reply_bytes != content.len()) {
        scratch.clear();
        scratch.extend(content.iter().copied().cycle().take(reply_bytes));
        content = scratch;
    }
    let parts = ResponseParts {
        version: frame.version,
        id: frame.id,
        codec: frame.codec,
        status: 0,
        crc: frame.crc,
        class: RESPONSE_CLASS,
        header: b"",
        content,
    };
    bolt::encode_response(&parts, out).expect("no longer than limits allow, with a CRC only where one came");
}

const LISTENER: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);
const SIGNAL: Token = Token(usize::MAX - 2);
const EVENTS_MAX: usize = 1_024;
const READ_BYTES: usize = 256 << 10;
const OUT_BYTES_MAX: usize = 4 << 20;
const OUT_BYTES_KEPT: usize = 512 << 10;
const DELAYED_BYTES_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use bowline_protocols::bolt::Decoded;
    use bowline_protocols::bolt::RequestParts;
    use bowline_protocols::bolt::Version;

    use super::*;

    fn request(version: Version, crc: bool, oneway: bool, content: &[u8]) -> Vec<u8> {
        let parts = RequestParts {
            version,
            oneway,
            id: 7,
            codec: 11,
            timeout_ms: 3,
            crc,
            class: b"c",
            header: b"",
            content,
        };
        let mut out = Vec::new();
        bolt::encode_request(&parts, &mut out).expect("short");
        out
    }

    fn frame_of(bytes: &[u8]) -> Frame {
        match bolt::decode(bytes, &Limits::default()).expect("it is well formed") {
            Decoded::Frame(frame) => frame,
            Decoded::Need(need) => panic!("{need} bytes are needed"),
        }
    }

    fn answered(bytes: &[u8], reply_bytes: Option<usize>) -> (Vec<u8>, BackendCounts) {
        let (mut out, mut counts) = (Vec::new(), BackendCounts::default());
        answer(&frame_of(bytes), bytes, reply_bytes, &mut Vec::new(), &mut out, &mut counts);
        (out, counts)
    }

    #[test]
    fn an_answer_has_the_version_and_crc_of_its_request() {
        for (version, crc) in
            [(Version::V1, false), (Version::V2 { ver1: 1 }, false), (Version::V2 { ver1: 2 }, true)]
        {
            let (out, counts) = answered(&request(version, crc, false, b"hello"), None);
            let frame = frame_of(&out);
            assert_eq!((frame.version, frame.crc, frame.id, frame.codec), (version, crc, 7, 11));
            assert_eq!(
                (frame.kind, frame.status, frame.content.of(&out)),
                (Kind::Response, 0, &b"hello"[..])
            );
            assert_eq!(frame.check_crc(&out), Ok(()));
            assert_eq!(counts.requests, 1);
        }
    }

    #[test]
    fn content_is_cut_or_repeated() {
        for (reply_bytes, expected) in [(2, &b"ab"[..]), (3, b"abc"), (7, b"abcabca"), (0, b"")] {
            let (out, _) = answered(&request(Version::V1, false, false, b"abc"), Some(reply_bytes));
            assert_eq!(frame_of(&out).content.of(&out), expected);
        }
    }

    #[test]
    fn oneways_are_counted_and_heartbeats_acknowledged() {
        let (out, counts) = answered(&request(Version::V1, false, true, b"abc"), None);
        assert_eq!((out.len(), counts.oneways), (0, 1));
        let mut beat = [0; bolt::encode::CONTROL_BYTES_MAX];
        let count = bolt::encode_heartbeat(Version::V1, 9, &mut beat);
        let (out, counts) = answered(&beat[..count], None);
        let ack = frame_of(&out);
        assert_eq!((ack.kind, ack.id, counts.heartbeats), (Kind::HeartbeatAck, 9, 1));
    }
}
