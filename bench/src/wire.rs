//! Owns the bytes of a run: how a request frames its content in each protocol, what its answer must carry, and the cutting
//! of a byte stream into messages. Refuses to count or to judge: see `verify`.

use bowline_protocols::Fault;
use bowline_protocols::Limits;
use bowline_protocols::bolt;
use bowline_protocols::bolt::Decoded;
use bowline_protocols::bolt::Frame;
use bowline_protocols::bolt::Kind;
use bowline_protocols::bolt::RequestParts;
use bowline_protocols::bolt::Version;
use bowline_protocols::bolt::fields;
use clap::ValueEnum;
use serde::Deserialize;

use crate::content::Contents;
use crate::http;
use crate::trouble::Trouble;
use crate::websocket;

/// What requests and answers are framed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Bolt requests, answered in any order.
    #[default]
    Bolt,
    /// HTTP/1.1 requests, answered in order.
    Http,
    /// Messages of a WebSocket, each sent back.
    Websocket,
}

impl Protocol {
    /// How a gateway is told where it is spoken; a WebSocket begins as HTTP.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Bolt => "bolt",
            Self::Http | Self::Websocket => "http",
        }
    }
}

/// What all requests of a run have in common.
#[derive(Debug)]
pub struct Shape {
    protocol: Protocol,
    get: bool,
    /// Fields of HTTP requests, as they are sent.
    fields: Vec<u8>,
    version: Version,
    crc: bool,
    heartbeats: bool,
    header: Vec<u8>,
    content_bytes: usize,
    reply_bytes: usize,
    contents: Contents,
}

/// What a [`Shape`] is made of.
#[derive(Clone, Debug, Default)]
pub struct ShapeOptions {
    /// How they are framed.
    pub protocol: Protocol,
    /// HTTP: asks for the content instead of sending it.
    pub get: bool,
    /// Bolt v2 instead of v1.
    pub v2: bool,
    /// A CRC on every request, and expected on every answer.
    pub crc: bool,
    /// Requests are heartbeats, which have no content.
    pub heartbeats: bool,
    /// The pairs of the header map, or further fields of HTTP requests.
    pub header: Vec<(String, String)>,
    /// Content of a request.
    pub content_bytes: usize,
    /// Content of an answer: the request's, cut or repeated.
    pub reply_bytes: usize,
}

impl Shape {
    /// Checks and prepares.
    pub fn new(options: &ShapeOptions) -> Result<Self, Trouble> {
        if options.protocol != Protocol::Bolt && (options.v2 || options.crc || options.heartbeats) {
            return Err(Trouble::Asked("--v2, --crc and --heartbeats are Bolt's".into()));
        }
        if options.get && options.protocol != Protocol::Http {
            return Err(Trouble::Asked("--get needs --protocol http".into()));
        }
        if options.crc && !options.v2 {
            return Err(Trouble::Asked("--crc needs --v2: version 1 has no CRC".into()));
        }
        let content_bytes_max = Limits::default().content_bytes_max as usize;
        for (flag, bytes) in [("--bytes", options.content_bytes), ("--reply-bytes", options.reply_bytes)] {
            if bytes > content_bytes_max {
                return Err(Trouble::Asked(format!("{flag} {bytes}: at most {content_bytes_max}")));
            }
        }
        let pairs: Vec<_> =
            options.header.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let header = fields::encode(&pairs);
        if header.len() > HEADER_BYTES_MAX {
            return Err(Trouble::Asked(format!(
                "--header: {} bytes, at most {HEADER_BYTES_MAX}",
                header.len()
            )));
        }
        Ok(Self {
            protocol: options.protocol,
            get: options.get,
            fields: http::fields(&options.header),
            // ver1 = 2 is what a client that uses CRC speaks.
            version: if options.v2 { Version::V2 { ver1: 2 } } else { Version::V1 },
            crc: options.crc && !options.heartbeats,
            heartbeats: options.heartbeats,
            header,
            content_bytes: options.content_bytes,
            reply_bytes: options.reply_bytes,
            contents: Contents::new(),
        })
    }

    /// How requests and answers are framed.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What connection number `connection` sends first, if it must be welcomed before its requests.
    pub fn hello(&self, connection: u64) -> Option<Vec<u8>> {
        (self.protocol == Protocol::Websocket).then(|| websocket::hello(connection, &self.fields))
    }

    /// What an answer is.
    pub fn answer_kind(&self) -> Kind {
        if self.heartbeats { Kind::HeartbeatAck } else { Kind::Response }
    }

    /// Appends a heartbeat.
    pub fn append_heartbeat(&self, id: u32, out: &mut Vec<u8>) {
        let mut heartbeat = [0; bolt::encode::CONTROL_BYTES_MAX];
        let count = bolt::encode_heartbeat(self.version, id, &mut heartbeat);
        out.extend_from_slice(&heartbeat[..count]);
    }

    /// Appends the request that connection number `connection` sends with `id`.
    pub fn append_request(&self, connection: u64, id: u32, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        if self.heartbeats {
            return self.append_heartbeat(id, out);
        }
        if self.get {
            return http::append_get(&self.fields, connection, id, self.content_bytes, out);
        }
        scratch.clear();
        self.contents.append(connection, id, self.content_bytes, scratch);
        match self.protocol {
            Protocol::Bolt => self.append_bolt(id, scratch, out),
            Protocol::Http => http::append_post(&self.fields, scratch, out),
            Protocol::Websocket => websocket::append(websocket::BINARY, Some(mask(id)), scratch, out),
        }
    }

    fn append_bolt(&self, id: u32, content: &[u8], out: &mut Vec<u8>) {
        let parts = RequestParts {
            version: self.version,
            oneway: false,
            id,
            codec: CODEC_HESSIAN2,
            timeout_ms: -1,
            crc: self.crc,
            class: REQUEST_CLASS,
            header: &self.header,
            content,
        };
        bolt::encode_request(&parts, out).expect("lengths and CRC were checked when the shape was made");
    }

    /// Whether an answer is what belongs to the request: version, CRC and every byte of the content.
    pub fn is_answer(&self, connection: u64, id: u32, frame: &Frame, bytes: &[u8]) -> bool {
        if self.heartbeats {
            // Which request it belongs to was decided by its id: there is nothing else in it.
            return frame.kind == Kind::HeartbeatAck && frame.version == self.version;
        }
        frame.version == self.version
            && frame.crc == self.crc
            && self.is_content(connection, id, frame.content.of(bytes))
    }

    /// Whether an answer brings back the content of the request, whatever frames it.
    pub fn is_content(&self, connection: u64, id: u32, content: &[u8]) -> bool {
        content.len() == self.reply_bytes
            && self.contents.is_echo(connection, id, self.content_bytes, content)
    }
}

/// Another one for each message, as the standard demands; it hides nothing.
fn mask(id: u32) -> [u8; 4] {
    id.wrapping_mul(MASK_SPREAD).to_be_bytes()
}

/// What one look at the beginning of some bytes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It took a message of so many bytes.
    Took(usize),
    /// It took nothing: a message takes at least so many.
    Need(usize),
}

/// Cuts what arrives on one connection into messages, and keeps the unfinished rest.
#[derive(Debug, Default)]
pub struct Inbox {
    partial: Vec<u8>,
    need: usize,
}

impl Inbox {
    /// Takes `bytes` and calls `on_frame` with every frame of Bolt that they complete and with its bytes.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        mut on_frame: impl FnMut(&Frame, &[u8]),
    ) -> Result<(), Fault> {
        self.feed_steps(bytes, |rest| {
            let frame = match bolt::decode(rest, limits)? {
                Decoded::Need(need) => return Ok(Step::Need(need)),
                Decoded::Frame(frame) => frame,
            };
            let total = frame.total_bytes as usize;
            frame.check_crc(&rest[..total])?;
            on_frame(&frame, &rest[..total]);
            Ok(Step::Took(total))
        })
    }

    /// Takes `bytes` and lets `step` take the messages that they complete, one at a time.
    pub fn feed_steps<E>(
        &mut self,
        bytes: &[u8],
        mut step: impl FnMut(&[u8]) -> Result<Step, E>,
    ) -> Result<(), E> {
        if self.partial.is_empty() {
            let used = self.cut(bytes, &mut step)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() < self.need {
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        let used = self.cut(&partial, &mut step)?;
        partial.drain(..used);
        // An idle connection keeps nothing: many of them are open at once.
        if !partial.is_empty() || partial.capacity() <= PARTIAL_BYTES_KEPT {
            self.partial = partial;
        }
        Ok(())
    }

    fn cut<E>(&mut self, bytes: &[u8], step: &mut impl FnMut(&[u8]) -> Result<Step, E>) -> Result<usize, E> {
        let mut at = 0;
        while at < bytes.len() {
            match step(&bytes[at..])? {
                Step::Took(count) => at += count,
                Step::Need(need) => {
                    self.need = need;
                    break;
                }
            }
        }
        Ok(at)
    }
}

/// The class that SOFARPC calls with, so that frames have a usual size.
pub const REQUEST_CLASS: &[u8] = b"com.alipay.sofa.rpc.core.request.SofaRequest";
/// The class that SOFARPC answers with.
pub const RESPONSE_CLASS: &[u8] = b"com.alipay.sofa.rpc.core.response.SofaResponse";
/// Java's default serialisation.
pub const CODEC_HESSIAN2: u8 = 1;
const HEADER_BYTES_MAX: usize = 32_767;
/// Odd, so that ids have different products.
const MASK_SPREAD: u32 = 0x9e37_79b1;
const PARTIAL_BYTES_KEPT: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(content_bytes: usize, reply_bytes: usize) -> ShapeOptions {
        ShapeOptions { v2: true, crc: true, content_bytes, reply_bytes, ..ShapeOptions::default() }
    }

    fn frame_of(bytes: &[u8]) -> Frame {
        match bolt::decode(bytes, &Limits::default()).expect("it is well formed") {
            Decoded::Frame(frame) => frame,
            Decoded::Need(need) => panic!("{need} bytes are needed"),
        }
    }

    fn request(shape: &Shape, connection: u64, id: u32) -> Vec<u8> {
        let (mut scratch, mut out) = (Vec::new(), Vec::new());
        shape.append_request(connection, id, &mut scratch, &mut out);
        out
    }

    #[test]
    fn an_echo_is_the_answer_and_one_changed_byte_is_not() {
        for bytes in [0, 1, 11, 12, 13, 1_024, 4_096, 4_108, 10_000] {
            let shape = Shape::new(&options(bytes, bytes)).expect("valid");
            let mut sent = request(&shape, 7, 9);
            let frame = frame_of(&sent);
            assert_eq!(frame.content.len as usize, bytes);
            assert!(shape.is_answer(7, 9, &frame, &sent), "{bytes}");
            for at in [0, bytes / 2, bytes.saturating_sub(1)].into_iter().filter(|at| *at < bytes) {
                let at = frame.content.start as usize + at;
                sent[at] ^= 1;
                assert!(!shape.is_answer(7, 9, &frame, &sent), "{bytes} {at}");
                sent[at] ^= 1;
            }
        }
    }

    #[test]
    fn an_answer_belongs_to_one_connection_and_one_id() {
        let shape = Shape::new(&options(1_024, 1_024)).expect("valid");
        let sent = request(&shape, 7, 9);
        let frame = frame_of(&sent);
        for (connection, id) in [(8, 9), (7, 10), (9, 7), (7 | 1 << 40, 9)] {
            assert!(!shape.is_answer(connection, id, &frame, &sent), "{connection} {id}");
        }
    }

    #[test]
    fn even_the_noise_alone_tells_requests_apart() {
        let shape = Shape::new(&options(1_024, 1_024)).expect("valid");
        let tail = |connection, id| request(&shape, connection, id).split_off(200);
        let mut tails: Vec<_> =
            (0..50).flat_map(|c| (1..50).map(move |id| (c, id))).map(|(c, id)| tail(c, id)).collect();
        let count = tails.len();
        tails.sort();
        tails.dedup();
        assert!(tails.len() > count * 9 / 10, "{} of {count}", tails.len());
    }

    #[test]
    fn an_answer_of_another_length_is_the_start_or_a_repetition() {
        for (content, reply) in [(1_024, 100), (100, 1_024), (1_024, 0), (5, 23)] {
            let shape = Shape::new(&options(content, reply)).expect("valid");
            let sent = request(&shape, 1, 2);
            let echo = frame_of(&sent).content.of(&sent).to_vec();
            let body: Vec<u8> = echo.iter().copied().cycle().take(reply).collect();
            let mut frame = frame_of(&sent);
            frame.content = bowline_protocols::Span::new(0, reply as u32);
            assert!(shape.is_answer(1, 2, &frame, &body), "{content} {reply}");
            frame.content = bowline_protocols::Span::new(0, reply.saturating_sub(1) as u32);
            assert_eq!(shape.is_answer(1, 2, &frame, &body), reply == 0, "{content} {reply}");
        }
    }

    #[test]
    fn an_answer_without_its_crc_or_in_another_version_is_wrong() {
        let shape = Shape::new(&options(16, 16)).expect("valid");
        let sent = request(&shape, 1, 2);
        let frame = frame_of(&sent);
        assert!(!shape.is_answer(1, 2, &Frame { crc: false, ..frame }, &sent));
        assert!(!shape.is_answer(1, 2, &Frame { version: Version::V1, ..frame }, &sent));
    }

    #[test]
    fn frames_come_out_whole_however_they_are_cut() {
        let shape = Shape::new(&options(300, 300)).expect("valid");
        let stream: Vec<u8> = (1..=5).flat_map(|id| request(&shape, 3, id)).collect();
        for cut in [1, 7, 23, 24, 25, 300, 377, 1_000, stream.len()] {
            let (mut inbox, mut ids) = (Inbox::default(), Vec::new());
            for piece in stream.chunks(cut) {
                inbox
                    .feed(piece, &Limits::default(), |frame, bytes| {
                        assert!(shape.is_answer(3, frame.id, frame, bytes));
                        ids.push(frame.id);
                    })
                    .expect("it is well formed");
            }
            assert_eq!(ids, [1, 2, 3, 4, 5], "{cut}");
            assert!(inbox.partial.is_empty());
        }
    }

    #[test]
    fn a_damaged_crc_and_garbage_are_faults() {
        let shape = Shape::new(&options(16, 16)).expect("valid");
        let mut sent = request(&shape, 1, 2);
        *sent.last_mut().expect("it has bytes") ^= 1;
        let fault = Inbox::default().feed(&sent, &Limits::default(), |_, _| panic!("no frame"));
        assert_eq!(fault, Err(Fault::CrcMismatch));
        let fault =
            Inbox::default().feed(b"GET / HTTP/1.1\r\n", &Limits::default(), |_, _| panic!("no frame"));
        assert_eq!(fault, Err(Fault::UnknownProtocol));
    }

    #[test]
    fn impossible_flags_are_refused_with_the_way_out() {
        let crc = Shape::new(&ShapeOptions { v2: false, ..options(1, 1) });
        assert!(crc.expect_err("v1 has no CRC").to_string().contains("--v2"));
        assert!(Shape::new(&options(17 << 20, 1)).expect_err("too long").to_string().contains("--bytes"));
        let header = vec![("key".to_owned(), "x".repeat(32_767))];
        let long = Shape::new(&ShapeOptions { header, ..options(1, 1) });
        assert!(long.expect_err("too long").to_string().contains("--header"));
    }
}
