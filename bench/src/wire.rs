//! Owns the bytes of a run: what a request carries, which depends on its connection and its id so that a mix-up shows, what
//! its answer must carry, and the cutting of a byte stream into frames. Refuses to count or to judge: see `verify`.

use bowline_protocols::Fault;
use bowline_protocols::Limits;
use bowline_protocols::bolt;
use bowline_protocols::bolt::Decoded;
use bowline_protocols::bolt::Frame;
use bowline_protocols::bolt::Kind;
use bowline_protocols::bolt::RequestParts;
use bowline_protocols::bolt::Version;
use bowline_protocols::bolt::fields;

use crate::trouble::Trouble;

/// What all requests of a run have in common.
#[derive(Debug)]
pub struct Shape {
    version: Version,
    crc: bool,
    heartbeats: bool,
    header: Vec<u8>,
    content_bytes: usize,
    reply_bytes: usize,
    noise: Vec<u8>,
}

/// What a [`Shape`] is made of.
#[derive(Clone, Debug, Default)]
pub struct ShapeOptions {
    /// Bolt v2 instead of v1.
    pub v2: bool,
    /// A CRC on every request, and expected on every answer.
    pub crc: bool,
    /// Requests are heartbeats, which have no content.
    pub heartbeats: bool,
    /// The pairs of the header map.
    pub header: Vec<(String, String)>,
    /// Content of a request.
    pub content_bytes: usize,
    /// Content of an answer: the request's, cut or repeated.
    pub reply_bytes: usize,
}

impl Shape {
    /// Checks and prepares.
    pub fn new(options: &ShapeOptions) -> Result<Self, Trouble> {
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
            // ver1 = 2 is what a client that uses CRC speaks.
            version: if options.v2 { Version::V2 { ver1: 2 } } else { Version::V1 },
            crc: options.crc && !options.heartbeats,
            heartbeats: options.heartbeats,
            header,
            content_bytes: options.content_bytes,
            reply_bytes: options.reply_bytes,
            noise: noise(),
        })
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
        scratch.clear();
        for piece in self.pieces(connection, id, self.content_bytes) {
            scratch.extend_from_slice(piece.as_ref());
        }
        let parts = RequestParts {
            version: self.version,
            oneway: false,
            id,
            codec: CODEC_HESSIAN2,
            timeout_ms: -1,
            crc: self.crc,
            class: REQUEST_CLASS,
            header: &self.header,
            content: scratch,
        };
        bolt::encode_request(&parts, out).expect("lengths and CRC were checked when the shape was made");
    }

    /// Whether an answer is what belongs to the request: version, CRC and every byte of the content.
    pub fn is_answer(&self, connection: u64, id: u32, frame: &Frame, bytes: &[u8]) -> bool {
        if self.heartbeats {
            // Which request it belongs to was decided by its id: there is nothing else in it.
            return frame.kind == Kind::HeartbeatAck && frame.version == self.version;
        }
        let content = frame.content.of(bytes);
        frame.version == self.version
            && frame.crc == self.crc
            && content.len() == self.reply_bytes
            && content.chunks(self.content_bytes.max(1)).all(|copy| self.is_start(connection, id, copy))
    }

    /// Whether `content` is the start of what the request carried.
    fn is_start(&self, connection: u64, id: u32, mut content: &[u8]) -> bool {
        for piece in self.pieces(connection, id, content.len()) {
            let Some(rest) = content.strip_prefix(piece.as_ref()) else { return false };
            content = rest;
        }
        content.is_empty()
    }

    /// The content in pieces: first who sent it, then stretches of noise whose place depends on that.
    fn pieces(&self, connection: u64, id: u32, bytes: usize) -> impl Iterator<Item = Piece<'_>> {
        let mut sender = [0; SENDER_BYTES];
        sender[..8].copy_from_slice(&connection.to_be_bytes());
        sender[8..].copy_from_slice(&id.to_be_bytes());
        let sender_bytes = bytes.min(SENDER_BYTES);
        let mut left = bytes - sender_bytes;
        let mut state = connection.wrapping_mul(SPREAD) ^ u64::from(id).wrapping_mul(SPREAD).rotate_left(32);
        let stretches = std::iter::from_fn(move || {
            let stretch_bytes = left.min(STRETCH_BYTES);
            left -= stretch_bytes;
            state = state.wrapping_mul(SPREAD).wrapping_add(1);
            let at = (state >> 33) as usize % (NOISE_BYTES - STRETCH_BYTES);
            (stretch_bytes > 0).then(|| Piece::Noise(&self.noise[at..at + stretch_bytes]))
        });
        std::iter::once(Piece::Sender(sender, sender_bytes)).chain(stretches)
    }
}

/// A part of a content.
enum Piece<'a> {
    Sender([u8; SENDER_BYTES], usize),
    Noise(&'a [u8]),
}

impl AsRef<[u8]> for Piece<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Sender(bytes, len) => &bytes[..*len],
            Self::Noise(bytes) => bytes,
        }
    }
}

/// The same bytes in every process and run, none like its neighbours.
fn noise() -> Vec<u8> {
    let mut state = 1u64;
    let step = || {
        state = state.wrapping_mul(SPREAD).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(step).take(NOISE_BYTES).collect()
}

/// Cuts what arrives on one connection into frames, and keeps the unfinished rest.
#[derive(Debug, Default)]
pub struct Inbox {
    partial: Vec<u8>,
    need: usize,
}

impl Inbox {
    /// Takes `bytes` and calls `on_frame` with every frame that they complete and with its bytes.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        mut on_frame: impl FnMut(&Frame, &[u8]),
    ) -> Result<(), Fault> {
        if self.partial.is_empty() {
            let used = self.cut(bytes, limits, &mut on_frame)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() < self.need {
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        let used = self.cut(&partial, limits, &mut on_frame)?;
        partial.drain(..used);
        // An idle connection keeps nothing: many of them are open at once.
        if !partial.is_empty() || partial.capacity() <= PARTIAL_BYTES_KEPT {
            self.partial = partial;
        }
        Ok(())
    }

    fn cut(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        on_frame: &mut impl FnMut(&Frame, &[u8]),
    ) -> Result<usize, Fault> {
        let mut at = 0;
        while at < bytes.len() {
            let frame = match bolt::decode(&bytes[at..], limits)? {
                Decoded::Need(need) => {
                    self.need = need;
                    break;
                }
                Decoded::Frame(frame) => frame,
            };
            let end = at + frame.total_bytes as usize;
            frame.check_crc(&bytes[at..end])?;
            on_frame(&frame, &bytes[at..end]);
            at = end;
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
const SENDER_BYTES: usize = 12;
const STRETCH_BYTES: usize = 4_096;
const NOISE_BYTES: usize = 65_536;
const PARTIAL_BYTES_KEPT: usize = 4_096;
/// An odd multiplier whose products spread well (that of PCG).
const SPREAD: u64 = 6_364_136_223_846_793_005;

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
