//! Owns what the backend answers to one message of each protocol: Bolt requests and heartbeats, HTTP/1.1 requests, frames of
//! a WebSocket. Which protocol a connection speaks shows in its first byte. Refuses to touch sockets: see `backend`.

use bowline_protocols::Limits;
use bowline_protocols::bolt;
use bowline_protocols::bolt::Decoded;
use bowline_protocols::bolt::Frame;
use bowline_protocols::bolt::Kind;
use bowline_protocols::bolt::ResponseParts;
use serde::Serialize;

use crate::content::Contents;
use crate::http;
use crate::http::Message;
use crate::http::Unreadable;
use crate::websocket;
use crate::wire::RESPONSE_CLASS;
use crate::wire::Step;

/// What a backend did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackendCounts {
    /// Connections accepted.
    pub connections: u64,
    /// Requests answered, and messages of WebSockets.
    pub requests: u64,
    /// Calls that want no answer.
    pub oneways: u64,
    /// Heartbeats answered, and pings.
    pub heartbeats: u64,
    /// Connections that became WebSockets.
    pub upgrades: u64,
    /// Connections closed for what cannot be read.
    pub faults: u64,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// It has sent nothing yet.
    Unknown,
    /// Bolt.
    Bolt,
    /// HTTP/1.1.
    Http,
    /// WebSocket, after HTTP/1.1.
    Websocket,
}

impl Speaks {
    /// Bolt begins with its version, HTTP with the letters of a method.
    fn told_by(first: u8) -> Result<Self, Unreadable> {
        match first {
            1 | 2 => Ok(Self::Bolt),
            b'A'..=b'Z' => Ok(Self::Http),
            _ => Err(Unreadable),
        }
    }
}

/// Answers messages.
#[derive(Debug)]
pub struct Answerer {
    limits: Limits,
    contents: Contents,
    /// Content of an answer: the request's cut or repeated to so many bytes; as it came when `None`.
    reply_bytes: Option<usize>,
    scratch: Vec<u8>,
    /// The counts so far.
    pub counts: BackendCounts,
}

impl Answerer {
    /// Has answered nothing yet.
    pub fn new(reply_bytes: Option<usize>) -> Self {
        Self {
            limits: Limits::default(),
            contents: Contents::new(),
            reply_bytes,
            scratch: Vec::new(),
            counts: BackendCounts::default(),
        }
    }

    /// Answers the message at the beginning of `bytes`, if it is whole.
    pub fn step(&mut self, speaks: &mut Speaks, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Unreadable> {
        if let (Speaks::Unknown, Some(first)) = (*speaks, bytes.first()) {
            *speaks = Speaks::told_by(*first)?;
        }
        match speaks {
            Speaks::Unknown => Ok(Step::Need(1)),
            Speaks::Bolt => self.step_bolt(bytes, out),
            Speaks::Http => match http::first(bytes)? {
                http::Start::Need(need) => Ok(Step::Need(need)),
                http::Start::Message(message) => {
                    if self.answer_http(&message, out) {
                        *speaks = Speaks::Websocket;
                    }
                    Ok(Step::Took(message.bytes))
                }
            },
            Speaks::Websocket => self.step_websocket(bytes, out),
        }
    }

    fn step_bolt(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Unreadable> {
        let frame = match bolt::decode(bytes, &self.limits).map_err(|_| Unreadable)? {
            Decoded::Need(need) => return Ok(Step::Need(need)),
            Decoded::Frame(frame) => frame,
        };
        let total = frame.total_bytes as usize;
        frame.check_crc(&bytes[..total]).map_err(|_| Unreadable)?;
        self.answer_bolt(&frame, bytes, out);
        Ok(Step::Took(total))
    }

    fn answer_bolt(&mut self, frame: &Frame, bytes: &[u8], out: &mut Vec<u8>) {
        match frame.kind {
            Kind::Request => self.counts.requests += 1,
            Kind::Heartbeat => {
                self.counts.heartbeats += 1;
                let mut ack = [0; bolt::encode::CONTROL_BYTES_MAX];
                let count = bolt::encode_heartbeat_ack(frame, &mut ack);
                return out.extend_from_slice(&ack[..count]);
            }
            Kind::Oneway => return self.counts.oneways += 1,
            Kind::Response | Kind::HeartbeatAck | Kind::Goaway => return,
        }
        let content = sized(frame.content.of(bytes), self.reply_bytes, &mut self.scratch);
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
        bolt::encode_response(&parts, out)
            .expect("no longer than limits allow, with a CRC only where one came");
    }

    /// Sends a body back, or the content that was asked for; true when WebSocket follows.
    fn answer_http(&mut self, message: &Message<'_>, out: &mut Vec<u8>) -> bool {
        if websocket::append_welcome(message, out) {
            self.counts.upgrades += 1;
            return true;
        }
        self.counts.requests += 1;
        if !message.line.starts_with(b"GET ") {
            http::append_answer(sized(message.body, self.reply_bytes, &mut self.scratch), out);
            return false;
        }
        let (connection, id, bytes) = message.asks_for().unwrap_or(UNASKED);
        let mut content = std::mem::take(&mut self.scratch);
        content.clear();
        self.contents.append(connection, id, bytes, &mut content);
        http::append_answer(sized(&content, self.reply_bytes, &mut Vec::new()), out);
        self.scratch = content;
        false
    }

    fn step_websocket(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Unreadable> {
        let frame = match websocket::first(bytes)? {
            websocket::Start::Need(need) => return Ok(Step::Need(need)),
            websocket::Start::Frame(frame) => frame,
        };
        // RFC 6455 section 5.1: a server refuses frames that are not masked.
        let mask = Some(frame.mask.ok_or(Unreadable)?);
        let opcode = match frame.opcode {
            websocket::PING => websocket::PONG,
            opcode @ (websocket::BINARY | websocket::CLOSE) => opcode,
            _ => return Ok(Step::Took(frame.bytes)),
        };
        match opcode {
            websocket::BINARY => self.counts.requests += 1,
            _ => self.counts.heartbeats += u64::from(opcode == websocket::PONG),
        }
        self.scratch.clear();
        websocket::append_unmasked(mask, frame.payload, &mut self.scratch);
        match self.reply_bytes.filter(|_| opcode == websocket::BINARY) {
            None => websocket::append(opcode, None, &self.scratch, out),
            reply_bytes => {
                websocket::append(opcode, None, sized(&self.scratch, reply_bytes, &mut Vec::new()), out);
            }
        }
        Ok(Step::Took(frame.bytes))
    }
}

/// A content, cut or repeated.
fn sized<'a>(content: &'a [u8], bytes: Option<usize>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    let Some(bytes) = bytes.filter(|bytes| *bytes != content.len()) else { return content };
    scratch.clear();
    scratch.extend(content.iter().copied().cycle().take(bytes));
    scratch
}

/// What a request for something else is answered with.
const UNASKED: (u64, u32, usize) = (0, 0, 1_024);

#[cfg(test)]
mod tests {
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
        let (mut out, mut answerer) = (Vec::new(), Answerer::new(reply_bytes));
        let step = answerer.step(&mut Speaks::Unknown, bytes, &mut out);
        assert_eq!(step, Ok(Step::Took(bytes.len())));
        (out, answerer.counts)
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

    /// The answers to messages of one connection.
    fn conversation(messages: &[&[u8]], reply_bytes: Option<usize>) -> (Vec<u8>, BackendCounts) {
        let (mut out, mut answerer, mut speaks) = (Vec::new(), Answerer::new(reply_bytes), Speaks::Unknown);
        for message in messages {
            let step = answerer.step(&mut speaks, message, &mut out);
            assert_eq!(step, Ok(Step::Took(message.len())));
        }
        (out, answerer.counts)
    }

    #[test]
    fn a_post_is_sent_back_and_a_get_gets_what_it_asks_for() {
        let (mut post, mut get) = (Vec::new(), Vec::new());
        http::append_post(&http::fields(&[]), b"abc", &mut post);
        http::append_get(&http::fields(&[]), 5, 6, 100, &mut get);
        let (out, counts) = conversation(&[&post, &get], None);
        assert_eq!(counts.requests, 2);
        let Ok(http::Start::Message(first)) = http::first(&out) else { panic!("{out:?}") };
        assert_eq!((first.status(), first.body), (Ok(200), &b"abc"[..]));
        let Ok(http::Start::Message(second)) = http::first(&out[first.bytes..]) else { panic!("{out:?}") };
        assert_eq!(second.body.len(), 100);
        assert!(Contents::new().is_echo(5, 6, 100, second.body));
        let (out, _) = conversation(&[&post], Some(5));
        let Ok(http::Start::Message(first)) = http::first(&out) else { panic!("{out:?}") };
        assert_eq!(first.body, b"abcab");
    }

    #[test]
    fn after_a_handshake_frames_come_back_without_a_mask() {
        let hello = websocket::hello(1, &http::fields(&[]));
        let (mut frame, mut ping) = (Vec::new(), Vec::new());
        websocket::append(websocket::BINARY, Some([9, 8, 7, 6]), b"hello", &mut frame);
        websocket::append(websocket::PING, Some([1, 1, 1, 1]), b"p", &mut ping);
        let (out, counts) = conversation(&[&hello, &frame, &ping], None);
        assert_eq!((counts.upgrades, counts.requests, counts.heartbeats), (1, 1, 1));
        let Ok(http::Start::Message(welcome)) = http::first(&out) else { panic!("{out:?}") };
        assert!(websocket::is_welcome(1, &welcome));
        assert_eq!(&out[welcome.bytes..], [&[0x82, 5][..], b"hello", &[0x8a, 1], b"p"].concat());
    }

    #[test]
    fn what_is_neither_bolt_nor_http_and_frames_without_a_mask_are_unreadable() {
        let mut answerer = Answerer::new(None);
        let mut step = |mut speaks, bytes: &[u8]| answerer.step(&mut speaks, bytes, &mut Vec::new());
        assert_eq!(step(Speaks::Unknown, b"\x16\x03\x01"), Err(Unreadable));
        assert_eq!(step(Speaks::Unknown, b""), Ok(Step::Need(1)));
        assert_eq!(step(Speaks::Websocket, &[0x82, 0]), Err(Unreadable));
    }
}
