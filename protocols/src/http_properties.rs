//! Owns what must hold for any bytes offered to the HTTP/1.1 codec: the properties that property tests, captured traffic
//! and fuzz targets share. [`read`] plays the part of a connection. Refuses to be called from anything but tests and
//! tools: it allocates freely, and panics where a property does not hold.

use crate::http::BodyLength;
use crate::http::EscapedSlash;
use crate::http::HttpFault;
use crate::http::HttpHead;
use crate::http::HttpLimits;
use crate::http::HttpVersion;
use crate::http::Method;
use crate::http::Underscores;
use crate::http::path;
use crate::http1::BodyDecoder;
use crate::http1::BodyStep;
use crate::http1::HeadDecoder;
use crate::http1::HeadStep;
use crate::http1::encode;

/// Whose messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Requests.
    Requests,
    /// Responses to requests of this method.
    Responses(Method),
}

/// A head, as far as it can be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The version.
    pub version: HttpVersion,
    /// Method and target, or status and reason.
    pub first_line: String,
    /// Host and port.
    pub authority: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
    /// The body's length.
    pub body: BodyLength,
    /// The length without a body.
    pub declared_length: Option<u64>,
    /// What `Connection`, `Upgrade`, `Expect`, `TE` and `Keep-Alive` said.
    pub values: (bool, Option<String>, bool, bool, Option<u32>),
    /// What we would send of it: a head keeps the text that it came in, with lines between its fields that must not leave.
    pub sent: Vec<u8>,
}

/// One message, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The head.
    pub head: Seen,
    /// The body so far.
    pub body: Vec<u8>,
    /// The trailers, once the message is complete.
    pub trailers: Option<Vec<(String, String)>>,
}

/// All that a stream of bytes turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// The messages, in order; the last may be incomplete.
    pub messages: Vec<Message>,
    /// Why no more was read.
    pub fault: Option<HttpFault>,
    /// Bytes behind the last message that were not read: of a switched protocol, behind a close, or the start of a head.
    pub left: usize,
}

impl Transcript {
    /// How many messages are complete.
    pub fn complete(&self) -> usize {
        self.messages.iter().filter(|message| message.trailers.is_some()).count()
    }
}

/// Reads `bytes` as a connection does, as they come in pieces that end at `cuts`, then sees the stream end.
pub fn read(
    side: Side,
    bytes: &[u8],
    cuts: impl IntoIterator<Item = usize>,
    limits: &HttpLimits,
) -> Transcript {
    let mut reader = Reader::new(side, *limits);
    let mut offered = 0;
    for cut in cuts.into_iter().chain([bytes.len()]) {
        offered = cut.clamp(offered, bytes.len());
        reader.offer(&bytes[..offered]);
    }
    reader.finish(bytes)
}

struct Reader {
    side: Side,
    limits: HttpLimits,
    heads: HeadDecoder,
    body: Option<BodyDecoder>,
    head: HttpHead,
    trailers: HttpHead,
    taken: usize,
    is_over: bool,
    seen: Transcript,
}

impl Reader {
    fn new(side: Side, limits: HttpLimits) -> Reader {
        Reader {
            side,
            limits,
            heads: HeadDecoder::default(),
            body: None,
            head: HttpHead::default(),
            trailers: HttpHead::default(),
            taken: 0,
            is_over: false,
            seen: Transcript::default(),
        }
    }

    fn offer(&mut self, bytes: &[u8]) {
        while !self.is_over {
            let step = if self.body.is_some() { self.body(bytes) } else { self.head(bytes) };
            match step {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => {
                    self.seen.fault = Some(fault);
                    self.is_over = true;
                }
            }
        }
    }

    fn finish(mut self, bytes: &[u8]) -> Transcript {
        if let (Some(mut body), false) = (self.body.take(), self.is_over) {
            match body.end_of_stream() {
                Ok(()) => {
                    assert!(body.has_ended());
                    self.end_message();
                }
                Err(fault) => self.seen.fault = Some(fault),
            }
        }
        self.seen.left = bytes.len() - self.taken;
        self.seen
    }

    /// True when there may be more to read.
    fn head(&mut self, bytes: &[u8]) -> Result<bool, HttpFault> {
        let front = &bytes[self.taken..];
        let step = match self.side {
            Side::Requests => self.heads.request(front, &self.limits, &mut self.head)?,
            Side::Responses(method) => self.heads.response(front, method, &self.limits, &mut self.head)?,
        };
        match step {
            HeadStep::Need(need) => {
                assert_eq!(need, front.len() + 1, "one more byte is asked for");
                Ok(false)
            }
            HeadStep::Head { consumed } => {
                assert!(consumed > 0 && consumed <= front.len());
                self.taken += consumed;
                self.body = Some(BodyDecoder::new(self.head.body));
                let head = seen(&self.head);
                self.seen.messages.push(Message { head, body: Vec::new(), trailers: None });
                Ok(true)
            }
        }
    }

    fn body(&mut self, bytes: &[u8]) -> Result<bool, HttpFault> {
        let front = &bytes[self.taken..];
        let decoder = self.body.as_mut().expect("a body is being read");
        match decoder.decode(front, &self.limits, &mut self.trailers)? {
            BodyStep::Need(need) => {
                assert_eq!(need, front.len() + 1, "one more byte is asked for");
                Ok(false)
            }
            BodyStep::Piece { skip, len } => {
                assert!(len > 0 && skip + len <= front.len());
                let message = self.seen.messages.last_mut().expect("a head came first");
                message.body.extend_from_slice(&front[skip..skip + len]);
                self.taken += skip + len;
                Ok(true)
            }
            BodyStep::End { skip } => {
                assert!(skip <= front.len() && decoder.has_ended());
                let again = decoder.decode(front, &self.limits, &mut self.trailers);
                assert_eq!(again, Ok(BodyStep::End { skip: 0 }), "an end is final");
                assert_eq!(decoder.end_of_stream(), Ok(()));
                self.taken += skip;
                self.end_message();
                Ok(true)
            }
        }
    }

    fn end_message(&mut self) {
        self.body = None;
        let message = self.seen.messages.last_mut().expect("a head came first");
        message.trailers = Some(fields(&self.trailers));
        let is_interim = matches!(self.head.status(), 100 | 102..200);
        let switches = self.head.upgrade().is_some() || self.head.method() == Method::Connect;
        self.is_over = !is_interim && (switches || !self.head.keep_alive);
    }
}

/// What can be seen of a head.
pub fn seen(head: &HttpHead) -> Seen {
    let first_line = match head.status() {
        0 => format!("{} {}", text(head.method_text()), text(head.path_and_query())),
        status => format!("{status} {}", text(head.reason())),
    };
    let upgrade = head.upgrade().map(text);
    Seen {
        version: head.version,
        first_line,
        authority: text(head.authority()),
        fields: fields(head),
        body: head.body,
        declared_length: head.declared_length,
        values: (
            head.keep_alive,
            upgrade,
            head.expects_continue,
            head.accepts_trailers,
            head.keep_alive_timeout_s,
        ),
        sent: sent(head),
    }
}

/// The bytes of a head, as they leave.
fn sent(head: &HttpHead) -> Vec<u8> {
    let mut out = Vec::new();
    if head.status() == 0 {
        encode::request(head, head.keep_alive, &mut out);
    } else {
        encode::response(head, head.keep_alive, false, &mut out);
    }
    out
}

fn fields(head: &HttpHead) -> Vec<(String, String)> {
    head.fields().map(|(name, value)| (text(name), text(value))).collect()
}

/// Every byte as one character, so that nothing is lost.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// However the bytes are cut, the same is read; what was read can be written and read again.
pub fn reading_holds(side: Side, bytes: &[u8], cuts: &[usize], limits: &HttpLimits) {
    let whole = read(side, bytes, [], limits);
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    assert_eq!(read(side, bytes, cuts.iter().copied(), limits), whole, "cut at {cuts:?}");
    if bytes.len() <= DRIBBLED_BYTES_MAX {
        assert_eq!(read(side, bytes, 0..bytes.len(), limits), whole, "byte by byte");
    }
    for message in &whole.messages {
        message_holds(side, message, limits);
    }
}

/// What was read is clean, and what we write of it is read as the same.
fn message_holds(side: Side, message: &Message, limits: &HttpLimits) {
    let Message { head, body, trailers } = message;
    for (name, value) in head.fields.iter().chain(trailers.iter().flatten()) {
        assert!(!name.is_empty() && !name.contains([' ', ':', '\r', '\n', '\0']), "{name:?}");
        assert!(!value.contains(['\r', '\n', '\0']) && value.trim_matches([' ', '\t']) == value, "{value:?}");
    }
    assert!(!head.first_line.contains(['\r', '\n', '\0']), "{head:?}");
    if let BodyLength::Exact(length) = head.body {
        assert!(body.len() as u64 <= length && (trailers.is_none() || body.len() as u64 == length));
    }
    if limits.body_bytes_max > 0 {
        assert!(body.len() as u64 <= limits.body_bytes_max, "the body is inside its limit");
    }
    if trailers.is_some() {
        rewritten_holds(side, message);
    }
}

fn rewritten_holds(side: Side, message: &Message) {
    let mut head = head_of(&message.head);
    if head.authority().is_empty() && head.status() == 0 {
        // Only 1.0 may come without a host; we always write 1.1.
        head.set_authority(b"made.up").expect("a host is an authority");
    }
    // One field at a time makes the same bytes as the text that it came in.
    let is_made_up = message.head.authority.is_empty() && head.status() == 0;
    assert!(is_made_up || sent(&head) == message.head.sent, "{}", text(&message.head.sent));
    let bytes = write(&head, &message.body, message.trailers.as_deref().unwrap_or_default());
    let again = read(side, &bytes, [], &loose());
    let expected = Message {
        head: Seen { version: HttpVersion::Http11, ..seen(&head) },
        trailers: message.trailers.clone().filter(|_| head.body == BodyLength::Chunked).or(Some(Vec::new())),
        ..message.clone()
    };
    assert_eq!((again.fault, again.left), (None, 0), "{}", text(&bytes));
    let [written] = again.messages.as_slice() else { panic!("one message was written: {again:?}") };
    let (keep_alive, upgrade, expects_continue, ..) = expected.head.values.clone();
    // An interim response says nothing about the connection.
    let keeps = keep_alive || (100..200).contains(&head.status());
    let values = (keeps, upgrade, expects_continue, false, None);
    let sent = written.head.sent.clone();
    assert_eq!(*written, Message { head: Seen { values, sent, ..expected.head }, ..expected });
}

/// A head that was seen, made by the calls that the gateway has.
fn head_of(seen: &Seen) -> HttpHead {
    let mut head = HttpHead::default();
    let bytes = |text: &str| text.chars().map(|char| char as u8).collect::<Vec<_>>();
    let (start, rest) = seen.first_line.split_once(' ').expect("two words");
    match start.parse() {
        Ok(status) => head.set_response(status, &bytes(rest)).expect("it was a response"),
        Err(_) => {
            let (method, authority, path) = (bytes(start), bytes(&seen.authority), bytes(rest));
            head.set_request(&method, &authority, &path).expect("it was a request");
        }
    }
    for (name, value) in &seen.fields {
        head.add_field(&bytes(name), &bytes(value)).expect("it was a field");
    }
    head.body = seen.body;
    head.declared_length = seen.declared_length;
    head.keep_alive = seen.values.0;
    head.set_upgrade(seen.values.1.as_deref().map(str::as_bytes)).expect("it was a protocol");
    head.expects_continue = seen.values.2;
    head
}

fn write(head: &HttpHead, body: &[u8], trailers: &[(String, String)]) -> Vec<u8> {
    let mut out = sent(head);
    if head.body != BodyLength::Chunked {
        out.extend_from_slice(body);
        return out;
    }
    for chunk in body.chunks(CHUNK_BYTES) {
        let mut line = [0; 18];
        let line_len = encode::chunk_head(chunk.len(), &mut line);
        out.extend_from_slice(&line[..line_len]);
        out.extend_from_slice(chunk);
        out.extend_from_slice(encode::CHUNK_END);
    }
    let mut last = HttpHead::default();
    for (name, value) in trailers {
        let bytes = |text: &str| text.chars().map(|char| char as u8).collect::<Vec<_>>();
        last.add_field(&bytes(name), &bytes(value)).expect("it was a trailer");
    }
    encode::last_chunk(Some(&last), &mut out);
    out
}

/// Limits above all that is written again: an escaped byte takes three.
fn loose() -> HttpLimits {
    HttpLimits {
        line_bytes_max: 1 << 20,
        head_bytes_max: 1 << 21,
        fields_max: u32::MAX,
        escaped_slash: EscapedSlash::Keep,
        underscores: Underscores::Keep,
        ..HttpLimits::default()
    }
}

/// However its bytes are cut, a body is the same, and ends at the same place or with the same fault.
pub fn body_holds(length: BodyLength, bytes: &[u8], cuts: &[usize], limits: &HttpLimits) {
    let whole = body(length, bytes, [], limits);
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    assert_eq!(body(length, bytes, cuts.iter().copied(), limits), whole, "cut at {cuts:?}");
    if bytes.len() <= DRIBBLED_BYTES_MAX {
        assert_eq!(body(length, bytes, 0..bytes.len(), limits), whole, "byte by byte");
    }
}

/// A body, its trailers, how many bytes it took, and how it ended.
type Body = (Vec<u8>, Vec<(String, String)>, usize, Result<bool, HttpFault>);

fn body(
    length: BodyLength,
    bytes: &[u8],
    cuts: impl IntoIterator<Item = usize>,
    limits: &HttpLimits,
) -> Body {
    let (mut decoder, mut trailers) = (BodyDecoder::new(length), HttpHead::default());
    let (mut taken, mut seen, mut offered) = (0, Vec::new(), 0);
    for cut in cuts.into_iter().chain([bytes.len()]) {
        offered = cut.clamp(offered, bytes.len());
        loop {
            let front = &bytes[taken..offered];
            match decoder.decode(front, limits, &mut trailers) {
                Ok(BodyStep::Need(_)) => break,
                Ok(BodyStep::Piece { skip, len }) => {
                    seen.extend_from_slice(&front[skip..skip + len]);
                    taken += skip + len;
                }
                Ok(BodyStep::End { skip }) => {
                    return (seen, fields(&trailers), taken + skip, Ok(true));
                }
                Err(fault) => return (seen, Vec::new(), 0, Err(fault)),
            }
        }
    }
    (seen, Vec::new(), 0, Ok(decoder.end_of_stream().is_ok()))
}

/// What comes out of a path is its own normal form, and holds nothing that it was to remove.
pub fn path_holds(raw: &[u8], slash: EscapedSlash) {
    let mut once = b"before".to_vec();
    if path::normalise(raw, slash, &mut once).is_err() {
        return assert_eq!(once, b"before", "a fault writes nothing");
    }
    let once = once.split_off(b"before".len());
    let mut twice = Vec::new();
    assert_eq!(path::normalise(&once, slash, &mut twice), Ok(()));
    assert_eq!(once, twice, "a normal form is its own");
    assert!(once.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#'));
    let path = once.split(|byte| *byte == b'?').next().unwrap_or_default();
    assert!(path.starts_with(b"/") && !path.contains(&b'\\') && !path.windows(2).any(|pair| pair == b"//"));
    let mut segments = path.split(|byte| *byte == b'/');
    assert!(!segments.any(|segment| segment == b"." || segment == b".."), "{path:?}");
    HttpHead::default().set_path_and_query(&once).expect("a normal form can be written");
}

/// Places to cut, as the first bytes of a fuzzer's input say, and what is left of it.
pub fn cut_places(input: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let (cuts, rest) = input.split_first_chunk::<4>()?;
    Some((cuts.iter().scan(0, |sum, cut| Some(step(sum, *cut))).collect(), rest))
}

fn step(sum: &mut usize, cut: u8) -> usize {
    *sum += usize::from(cut);
    *sum
}

/// Limits that short input meets.
pub fn small_limits() -> HttpLimits {
    HttpLimits {
        line_bytes_max: 40,
        head_bytes_max: 160,
        fields_max: 4,
        extension_bytes_max: 12,
        body_bytes_max: 40,
        escaped_slash: EscapedSlash::Keep,
        underscores: Underscores::Refuse,
    }
}

/// Longer input is not offered byte by byte: each offer goes over what is not taken.
const DRIBBLED_BYTES_MAX: usize = 4_096;
/// An odd length, so that chunks do not fall together with anything.
const CHUNK_BYTES: usize = 37;
