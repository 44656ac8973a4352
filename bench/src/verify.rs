//! Owns the judgement of every answer and the counts that come of it. Pure: frames and times go in, a tally comes out, so that
//! each way of lying has a test without a socket. Called by `fleet` with all that arrives.

use std::collections::BTreeMap;
use std::ops::Range;

use bowline_protocols::Limits;
use bowline_protocols::bolt::Frame;
use bowline_protocols::bolt::Kind;
use serde::Deserialize;
use serde::Serialize;

use crate::http;
use crate::http::Unreadable;
use crate::ledger::Answer;
use crate::ledger::Ledger;
use crate::stats::Latency;
use crate::websocket;
use crate::wire::Inbox;
use crate::wire::Protocol;
use crate::wire::Shape;
use crate::wire::Step;

/// What became of all requests of a run, warm-up included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests sent.
    pub sent: u64,
    /// Answered rightly.
    pub answered: u64,
    /// Answered with something that does not belong to the request, or framing that cannot be read.
    pub corrupted: u64,
    /// Second answers.
    pub duplicates: u64,
    /// Answers to nothing that was asked, and frames that are no answers.
    pub unknown: u64,
    /// Answered with a status other than 0, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Never answered.
    pub lost: u64,
    /// Due, but not sent: the peer had not taken what was sent before.
    pub unsent: u64,
    /// Connections that could not be opened.
    pub connect_failures: u64,
    /// Connections that ended before their time.
    pub connections_lost: u64,
    /// Heartbeats sent beside the requests.
    #[serde(default)]
    pub heartbeats_sent: u64,
    /// Of those, the answered ones; one that was not is lost.
    #[serde(default)]
    pub heartbeats_answered: u64,
}

impl Tally {
    /// Everything that makes a run worthless.
    pub fn broken(&self) -> u64 {
        let refused: u64 = self.refused.values().sum();
        self.corrupted
            + self.duplicates
            + self.unknown
            + refused
            + self.lost
            + self.unsent
            + self.connect_failures
            + self.connections_lost
    }

    /// Adds the counts of another process.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.corrupted += other.corrupted;
        self.duplicates += other.duplicates;
        self.unknown += other.unknown;
        self.lost += other.lost;
        self.unsent += other.unsent;
        self.connect_failures += other.connect_failures;
        self.connections_lost += other.connections_lost;
        self.heartbeats_sent += other.heartbeats_sent;
        self.heartbeats_answered += other.heartbeats_answered;
        for (status, count) in &other.refused {
            *self.refused.entry(*status).or_default() += count;
        }
    }
}

/// Judges answers.
#[derive(Debug)]
pub struct Verifier {
    shape: Shape,
    /// The counts so far.
    pub tally: Tally,
    /// Latencies of requests that were meant to go out inside the window, whenever they were answered: what is answered
    /// late must not fall out of the statistics.
    pub latency: Latency,
    window: Range<u64>,
}

impl Verifier {
    /// Counts nothing yet, and no latencies.
    pub fn new(shape: Shape) -> Self {
        Self { shape, tally: Tally::default(), latency: Latency::default(), window: 0..0 }
    }

    /// The shape of requests and answers.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// From now on latencies of requests meant to go out in `window_ns` count.
    pub fn open_window(&mut self, window_ns: Range<u64>) {
        self.window = window_ns;
    }

    /// Judges every answer that `bytes`, which arrived on `connection` at `now_ns`, complete.
    pub fn on_bytes(
        &mut self,
        connection: u64,
        ledger: &mut Ledger,
        inbox: &mut Inbox,
        bytes: &[u8],
        now_ns: u64,
    ) -> Result<(), Unreadable> {
        match self.shape.protocol() {
            Protocol::Bolt => {
                let limits = Limits::default();
                let fed = inbox.feed(bytes, &limits, |frame, bytes| {
                    self.on_frame(connection, ledger, frame, bytes, now_ns);
                });
                fed.map_err(|_| Unreadable)
            }
            Protocol::Http => inbox.feed_steps(bytes, |rest| {
                let message = match http::first(rest)? {
                    http::Start::Need(need) => return Ok(Step::Need(need)),
                    http::Start::Message(message) => message,
                };
                self.on_reply(connection, ledger, message.status()?, message.body, now_ns);
                Ok(Step::Took(message.bytes))
            }),
            Protocol::Websocket => inbox.feed_steps(bytes, |rest| {
                let frame = match websocket::first(rest)? {
                    websocket::Start::Need(need) => return Ok(Step::Need(need)),
                    websocket::Start::Frame(frame) => frame,
                };
                // RFC 6455 section 5.1: a client refuses frames that are masked.
                match (frame.mask, frame.opcode) {
                    (Some(_), _) => return Err(Unreadable),
                    (None, websocket::BINARY) => self.on_reply(connection, ledger, OK, frame.payload, now_ns),
                    (None, _) => self.tally.unknown += 1,
                }
                Ok(Step::Took(frame.bytes))
            }),
        }
    }

    /// Judges a frame of Bolt that arrived on `connection` at `now_ns`.
    pub fn on_frame(
        &mut self,
        connection: u64,
        ledger: &mut Ledger,
        frame: &Frame,
        bytes: &[u8],
        now_ns: u64,
    ) {
        if frame.kind == Kind::HeartbeatAck && ledger.answer_heartbeat(frame.id) {
            self.tally.heartbeats_answered += 1;
            return;
        }
        if frame.kind != self.shape.answer_kind() {
            self.tally.unknown += 1;
            return;
        }
        let Some(intended_ns) = self.settle(ledger, frame.id) else { return };
        if frame.status != 0 {
            *self.tally.refused.entry(frame.status).or_default() += 1;
            return;
        }
        let is_right = self.shape.is_answer(connection, frame.id, frame, bytes);
        self.count(is_right, intended_ns, now_ns);
    }

    /// Judges the next answer of a connection on which they come in the order of their requests.
    fn on_reply(&mut self, connection: u64, ledger: &mut Ledger, status: u16, content: &[u8], now_ns: u64) {
        let Some(id) = ledger.oldest() else {
            self.tally.unknown += 1;
            return;
        };
        let Some(intended_ns) = self.settle(ledger, id) else { return };
        if status != OK {
            *self.tally.refused.entry(status).or_default() += 1;
            return;
        }
        let is_right = self.shape.is_content(connection, id, content);
        self.count(is_right, intended_ns, now_ns);
    }

    /// When the request with this id was meant to go out, if it still waits for its answer.
    fn settle(&mut self, ledger: &mut Ledger, id: u32) -> Option<u64> {
        match ledger.answer(id) {
            Answer::First { intended_ns } => return Some(intended_ns),
            Answer::Again => self.tally.duplicates += 1,
            Answer::Unknown => self.tally.unknown += 1,
        }
        None
    }

    fn count(&mut self, is_right: bool, intended_ns: u64, now_ns: u64) {
        if !is_right {
            self.tally.corrupted += 1;
            return;
        }
        self.tally.answered += 1;
        if self.window.contains(&intended_ns) {
            self.latency.record(now_ns.saturating_sub(intended_ns));
        }
    }
}

/// The only status of HTTP that is no refusal.
const OK: u16 = 200;

#[cfg(test)]
mod tests {
    use bowline_protocols::bolt;
    use bowline_protocols::bolt::Decoded;
    use bowline_protocols::bolt::ResponseParts;
    use bowline_protocols::bolt::Version;

    use super::*;
    use crate::wire::ShapeOptions;

    fn verifier() -> Verifier {
        let options = ShapeOptions { content_bytes: 64, reply_bytes: 64, ..ShapeOptions::default() };
        Verifier::new(Shape::new(&options).expect("valid"))
    }

    fn frame_of(bytes: &[u8]) -> Frame {
        match bolt::decode(bytes, &Limits::default()).expect("it is well formed") {
            Decoded::Frame(frame) => frame,
            Decoded::Need(need) => panic!("{need} bytes are needed"),
        }
    }

    /// The right answer to a request, but for the status.
    fn answer(verifier: &Verifier, connection: u64, id: u32, status: u16) -> Vec<u8> {
        let mut request = Vec::new();
        verifier.shape.append_request(connection, id, &mut Vec::new(), &mut request);
        let content = frame_of(&request).content.of(&request).to_vec();
        let parts = ResponseParts {
            version: Version::V1,
            id,
            codec: 1,
            status,
            crc: false,
            class: b"",
            header: b"",
            content: &content,
        };
        let mut response = Vec::new();
        bolt::encode_response(&parts, &mut response).expect("short");
        response
    }

    fn feed(verifier: &mut Verifier, ledger: &mut Ledger, bytes: &[u8], now_ns: u64) {
        verifier.on_frame(5, ledger, &frame_of(bytes), bytes, now_ns);
    }

    #[test]
    fn a_right_answer_counts_once_and_then_as_duplicate() {
        let (mut verifier, mut ledger) = (verifier(), Ledger::starting_at(1));
        let id = ledger.send(0);
        verifier.tally.sent += 1;
        let bytes = answer(&verifier, 5, id, 0);
        feed(&mut verifier, &mut ledger, &bytes, 9);
        assert_eq!((verifier.tally.answered, verifier.tally.broken()), (1, 0));
        feed(&mut verifier, &mut ledger, &bytes, 9);
        assert_eq!((verifier.tally.answered, verifier.tally.duplicates), (1, 1));
    }

    #[test]
    fn another_connections_answer_with_the_same_id_is_corrupted() {
        let (mut verifier, mut ledger) = (verifier(), Ledger::starting_at(1));
        let id = ledger.send(0);
        let bytes = answer(&verifier, 6, id, 0);
        feed(&mut verifier, &mut ledger, &bytes, 9);
        assert_eq!((verifier.tally.answered, verifier.tally.corrupted), (0, 1));
        assert_eq!(ledger.open(), 0, "it is not lost as well");
    }

    #[test]
    fn answers_swapped_between_two_requests_are_both_corrupted() {
        let (mut verifier, mut ledger) = (verifier(), Ledger::starting_at(1));
        for (id, other) in [(ledger.send(0), 2), (ledger.send(0), 1)] {
            let mut bytes = answer(&verifier, 5, other, 0);
            bytes[5..9].copy_from_slice(&id.to_be_bytes());
            feed(&mut verifier, &mut ledger, &bytes, 9);
        }
        assert_eq!((verifier.tally.answered, verifier.tally.corrupted), (0, 2));
    }

    #[test]
    fn a_status_is_a_refusal_and_an_unasked_answer_is_unknown() {
        let (mut verifier, mut ledger) = (verifier(), Ledger::starting_at(1));
        let id = ledger.send(0);
        for bytes in [answer(&verifier, 5, id, 6), answer(&verifier, 5, 77, 0)] {
            feed(&mut verifier, &mut ledger, &bytes, 9);
        }
        assert_eq!((verifier.tally.refused.get(&6), verifier.tally.unknown), (Some(&1), 1));
        let mut echo = Vec::new();
        verifier.shape.append_request(5, ledger.send(0), &mut Vec::new(), &mut echo);
        feed(&mut verifier, &mut ledger, &echo, 9);
        assert_eq!(verifier.tally.unknown, 2, "a request is no answer");
        assert_eq!(verifier.tally.answered, 0);
    }

    #[test]
    fn an_ack_answers_a_heartbeat_and_nothing_else() {
        let (mut verifier, mut ledger) = (verifier(), Ledger::starting_at(1));
        let id = ledger.send(0);
        let ack = |id| {
            let (mut heartbeat, mut ack) =
                ([0; bolt::encode::CONTROL_BYTES_MAX], [0; bolt::encode::CONTROL_BYTES_MAX]);
            let bytes = bolt::encode_heartbeat(Version::V1, id, &mut heartbeat);
            let bytes = bolt::encode_heartbeat_ack(&frame_of(&heartbeat[..bytes]), &mut ack);
            ack[..bytes].to_vec()
        };
        feed(&mut verifier, &mut ledger, &ack(id), 9);
        assert_eq!((verifier.tally.unknown, ledger.open()), (1, 1), "a request is not answered by an ack");
        let heartbeat = ledger.send_heartbeat().expect("none waits");
        feed(&mut verifier, &mut ledger, &ack(heartbeat), 9);
        feed(&mut verifier, &mut ledger, &ack(heartbeat), 9);
        assert_eq!((verifier.tally.heartbeats_answered, verifier.tally.unknown), (1, 2));
    }

    #[test]
    fn where_requests_are_heartbeats_only_acks_are_answers() {
        let options = ShapeOptions { heartbeats: true, ..ShapeOptions::default() };
        let mut verifier = Verifier::new(Shape::new(&options).expect("valid"));
        let mut ledger = Ledger::starting_at(1);
        let id = ledger.send(0);
        let mut request = Vec::new();
        verifier.shape.append_request(5, id, &mut Vec::new(), &mut request);
        assert_eq!(frame_of(&request).kind, Kind::Heartbeat);
        let mut ack = [0; bolt::encode::CONTROL_BYTES_MAX];
        let bytes = bolt::encode_heartbeat_ack(&frame_of(&request), &mut ack);
        feed(&mut verifier, &mut ledger, &ack[..bytes], 9);
        assert_eq!((verifier.tally.answered, verifier.tally.broken()), (1, 0));
    }

    /// What a verifier of such answers counts when these bytes come, after so many requests of connection 5.
    fn counted(protocol: Protocol, requests: usize, bytes: &[u8]) -> (Result<(), Unreadable>, Tally, usize) {
        let options =
            ShapeOptions { protocol, content_bytes: 64, reply_bytes: 64, ..ShapeOptions::default() };
        let mut verifier = Verifier::new(Shape::new(&options).expect("valid"));
        let (mut ledger, mut inbox) = (Ledger::starting_at(1), Inbox::default());
        for _ in 0..requests {
            ledger.send(0);
        }
        let fed = verifier.on_bytes(5, &mut ledger, &mut inbox, bytes, 9);
        (fed, verifier.tally, ledger.open())
    }

    fn content(connection: u64, id: u32) -> Vec<u8> {
        let mut content = Vec::new();
        crate::content::Contents::new().append(connection, id, 64, &mut content);
        content
    }

    fn replies(contents: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        contents.iter().for_each(|content| http::append_answer(content, &mut bytes));
        bytes
    }

    #[test]
    fn http_answers_belong_to_requests_in_their_order() {
        let right = replies(&[content(5, 1), content(5, 2)]);
        let (fed, tally, open) = counted(Protocol::Http, 3, &right);
        assert_eq!((fed, tally.answered, tally.broken(), open), (Ok(()), 2, 0, 1));
        let swapped = replies(&[content(5, 2), content(5, 1)]);
        assert_eq!(counted(Protocol::Http, 2, &swapped).1.corrupted, 2);
        let of_another = replies(&[content(6, 1)]);
        assert_eq!(counted(Protocol::Http, 1, &of_another).1.corrupted, 1);
        let twice = replies(&[content(5, 1), content(5, 1)]);
        assert_eq!(counted(Protocol::Http, 1, &twice).1.unknown, 1);
    }

    #[test]
    fn http_answers_of_another_status_or_framing_are_noticed() {
        let (fed, tally, open) =
            counted(Protocol::Http, 1, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad");
        assert_eq!((fed, tally.refused.get(&502), open), (Ok(()), Some(&1), 0));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(counted(Protocol::Http, 1, chunked).0, Err(Unreadable));
        let mut short = replies(&[content(5, 1)[..63].to_vec()]);
        assert_eq!(counted(Protocol::Http, 1, &short).1.corrupted, 1);
        short.pop();
        assert_eq!(counted(Protocol::Http, 1, &short).2, 1, "it is not whole");
    }

    #[test]
    fn messages_of_a_websocket_are_binary_and_without_a_mask() {
        let framed = |opcode, mask| {
            let mut bytes = Vec::new();
            websocket::append(opcode, mask, &content(5, 1), &mut bytes);
            counted(Protocol::Websocket, 1, &bytes)
        };
        let (fed, tally, open) = framed(websocket::BINARY, None);
        assert_eq!((fed, tally.answered, tally.broken(), open), (Ok(()), 1, 0, 0));
        assert_eq!(framed(websocket::CLOSE, None).1.unknown, 1);
        assert_eq!(framed(websocket::BINARY, Some([0; 4])).0, Err(Unreadable));
    }

    #[test]
    fn latency_counts_by_when_a_request_was_meant_to_go_out() {
        let (mut verifier, mut ledger) = (verifier(), Ledger::starting_at(1));
        verifier.open_window(100..200);
        for (intended, answered) in [(99, 150), (100, 5_000_100), (199, 9_000_199), (200, 201)] {
            let id = ledger.send(intended);
            let bytes = answer(&verifier, 5, id, 0);
            feed(&mut verifier, &mut ledger, &bytes, answered);
        }
        assert_eq!((verifier.tally.answered, verifier.latency.count()), (4, 2));
        assert!(verifier.latency.summary().p50_us >= 4_990.0);
    }

    #[test]
    fn tallies_add_up() {
        let one = Tally {
            sent: 1,
            answered: 2,
            corrupted: 3,
            duplicates: 4,
            unknown: 5,
            refused: BTreeMap::from([(6, 6)]),
            lost: 7,
            unsent: 8,
            connect_failures: 9,
            connections_lost: 10,
            heartbeats_sent: 11,
            heartbeats_answered: 12,
        };
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!(sum.broken(), 2 * one.broken());
        assert_eq!(one.broken(), 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10);
        assert_eq!((sum.sent, sum.answered, sum.refused[&6]), (2, 4, 12));
        assert_eq!((sum.heartbeats_sent, sum.heartbeats_answered), (22, 24));
    }
}
