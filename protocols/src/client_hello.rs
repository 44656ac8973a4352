//! What the first message of a TLS client says in clear: the name of the server it wants and the protocols it offers. For
//! routing without decrypting: nothing is answered, kept or changed, and every byte is forwarded as it came.
//!
//! It reads bytes that somebody else gathers, over as many records as the message was cut into, and refuses more than
//! 16 KiB of them, lengths that do not fit into each other, and names that are no names. Called by tunnels.

use std::borrow::Cow;
use std::fmt;

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// The start of a ClientHello: it cannot end before so many bytes are there.
    More {
        /// Counted from the first byte of the stream.
        bytes: usize,
    },
    /// The whole message.
    Hello(ClientHello),
}

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name of the server, in lower case and without a dot at its end; nothing if the client names none.
    pub server_name: Option<String>,
    /// The protocols it offers (ALPN), in its order.
    pub protocols: Vec<Vec<u8>>,
}

/// Why the bytes are no ClientHello that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloFault {
    /// They are no TLS at all.
    NotTls,
    /// The message is longer than we read.
    TooLong,
    /// It begins like TLS and goes on like no ClientHello.
    Malformed,
}

impl fmt::Display for HelloFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotTls => "not_tls",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
        })
    }
}

impl std::error::Error for HelloFault {}

/// The message and the headers of its records, at most.
pub const HELLO_BYTES_MAX: usize = 16 << 10;

const RECORD_HEADER_BYTES: usize = 5;
const MESSAGE_HEADER_BYTES: usize = 4;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const PROTOCOL_NAMES: u16 = 16;
/// RFC 8446 section 5.1: a record of the plain handshake holds at most so much.
const RECORD_BYTES_MAX: usize = 1 << 14;

/// Looks at the start of a stream.
pub fn peek(bytes: &[u8]) -> Result<Peeked, HelloFault> {
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut at = 0;
    loop {
        let more = |bytes: usize| {
            if bytes > HELLO_BYTES_MAX { Err(HelloFault::TooLong) } else { Ok(Peeked::More { bytes }) }
        };
        let Some(payload_bytes) = record(&bytes[at..], at == 0)? else {
            return more(at + RECORD_HEADER_BYTES);
        };
        let start = at + RECORD_HEADER_BYTES;
        let end = start + payload_bytes;
        let there = &bytes[start..end.min(bytes.len())];
        let before = message.len();
        append(&mut message, there);
        if let Some(body) = whole(&message)? {
            return read_hello(body).map(Peeked::Hello).ok_or(HelloFault::Malformed);
        }
        if there.len() < payload_bytes {
            // The record may be longer than the message: what matters is where the message can end.
            return more(end.min(start + message_bytes(&message) - before));
        }
        if end >= HELLO_BYTES_MAX {
            return Err(HelloFault::TooLong);
        }
        at = end;
    }
}

/// The length of the record that begins here; nothing while its header is not whole.
fn record(bytes: &[u8], is_first: bool) -> Result<Option<usize>, HelloFault> {
    let fault = if is_first { HelloFault::NotTls } else { HelloFault::Malformed };
    // The lower version byte says nothing: clients write what old servers like (RFC 8446 section 5.1).
    let wrong =
        bytes.first().is_some_and(|kind| *kind != HANDSHAKE) || bytes.get(1).is_some_and(|high| *high != 3);
    if wrong {
        return Err(fault);
    }
    let Some(header) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else { return Ok(None) };
    match usize::from(u16::from_be_bytes([header[3], header[4]])) {
        // Empty records of the handshake are forbidden, and would let a client go on for ever.
        0 => Err(HelloFault::Malformed),
        bytes if bytes > RECORD_BYTES_MAX => Err(HelloFault::Malformed),
        bytes => Ok(Some(bytes)),
    }
}

/// Joins the parts of the message; the first is only borrowed.
fn append<'a>(message: &mut Cow<'a, [u8]>, part: &'a [u8]) {
    if message.is_empty() {
        *message = Cow::Borrowed(part);
    } else {
        message.to_mut().extend_from_slice(part);
    }
}

/// The body of the message, once it is whole.
fn whole(message: &[u8]) -> Result<Option<&[u8]>, HelloFault> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloFault::Malformed);
    }
    let bytes = message_bytes(message);
    if bytes > HELLO_BYTES_MAX {
        return Err(HelloFault::TooLong);
    }
    Ok(message.get(MESSAGE_HEADER_BYTES..bytes))
}

/// How long the message is; while its header is not whole, how long that is.
fn message_bytes(message: &[u8]) -> usize {
    let Some(header) = message.first_chunk::<MESSAGE_HEADER_BYTES>() else { return MESSAGE_HEADER_BYTES };
    let body = [header[1], header[2], header[3]].map(usize::from);
    MESSAGE_HEADER_BYTES + (body[0] << 16 | body[1] << 8 | body[2])
}

/// Reads a body; nothing if it is malformed.
fn read_hello(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    let _version_and_random = body.take(2 + 32)?;
    let session = body.block_u8()?;
    let suites = body.block_u16()?;
    let compressions = body.block_u8()?;
    if session.0.len() > 32 || suites.0.is_empty() || suites.0.len() % 2 == 1 || compressions.0.is_empty() {
        return None;
    }
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        // Clients before TLS 1.2 may have no extensions at all.
        return Some(hello);
    }
    let mut extensions = body.block_u16()?;
    let (mut names_seen, mut protocols_seen) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.block_u16()?;
        // RFC 8446 section 4.2: there is at most one of each; two names would be two routes.
        let seen_before = match kind {
            SERVER_NAME => std::mem::replace(&mut names_seen, true),
            PROTOCOL_NAMES => std::mem::replace(&mut protocols_seen, true),
            _ => continue,
        };
        match kind {
            _ if seen_before => return None,
            SERVER_NAME => hello.server_name = Some(read_name(content)?),
            _ => hello.protocols = read_protocols(content)?,
        }
    }
    body.0.is_empty().then_some(hello)
}

/// RFC 6066 section 3: a list with one name of one kind.
fn read_name(mut content: Reader<'_>) -> Option<String> {
    let mut list = content.block_u16()?;
    let kind = list.take(1)?;
    let name = list.block_u16()?;
    if kind != [0] || !list.0.is_empty() || !content.0.is_empty() {
        return None;
    }
    let name = std::str::from_utf8(name.0).ok()?;
    let name = name.strip_suffix('.').unwrap_or(name);
    is_host_name(name).then(|| name.to_ascii_lowercase())
}

/// Labels of letters, digits, hyphens and underscores; an address is no name (RFC 6066 section 3).
fn is_host_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(letter);
    name.len() <= 253 && name.split('.').all(label) && name.parse::<std::net::Ipv4Addr>().is_err()
}

/// RFC 7301 section 3.1: names of one to 255 bytes, at least one.
fn read_protocols(mut content: Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = content.block_u16()?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let name = list.block_u8()?;
        if name.0.is_empty() {
            return None;
        }
        protocols.push(name.0.to_vec());
    }
    (!protocols.is_empty() && content.0.is_empty()).then_some(protocols)
}

/// Bytes that are read from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn block_u8(&mut self) -> Option<Reader<'a>> {
        let bytes = usize::from(self.take(1)?[0]);
        self.take(bytes).map(Reader)
    }

    fn block_u16(&mut self) -> Option<Reader<'a>> {
        let bytes = usize::from(self.u16()?);
        self.take(bytes).map(Reader)
    }
}
