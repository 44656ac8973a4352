//! Owns all of WebSocket (RFC 6455) that the bench speaks: the handshake of both sides, and frames that are whole messages.
//! Refuses fragments, and frames masked as the other side must. Shares no code with the gateway. Called by `wire`, `verify`,
//! `fleet` and `answer`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1_smol::Sha1;

use crate::http::Message;
use crate::http::Unreadable;

/// What stands at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// The beginning of one, which takes at least so many bytes.
    Need(usize),
}

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is: [`BINARY`], [`PING`] and so on.
    pub opcode: u8,
    /// Present in what a client sends.
    pub mask: Option<[u8; 4]>,
    /// As it came.
    pub payload: &'a [u8],
    /// How long all of it is.
    pub bytes: usize,
}

/// Looks at the first frame of `bytes`.
pub fn first(bytes: &[u8]) -> Result<Start<'_>, Unreadable> {
    let &[first, second, ..] = bytes else { return Ok(Start::Need(2)) };
    if first & !OPCODE != FIN {
        return Err(Unreadable);
    }
    let short = second & !MASKED;
    let length_bytes = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(length) = bytes.get(2..2 + length_bytes) else { return Ok(Start::Need(2 + length_bytes)) };
    let length = match length_bytes {
        0 => usize::from(short),
        _ => length.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)) as usize,
    };
    if length > PAYLOAD_BYTES_MAX {
        return Err(Unreadable);
    }
    let mask_at = 2 + length_bytes;
    let start = mask_at + if second & MASKED == 0 { 0 } else { 4 };
    let end = start + length;
    if bytes.len() < end {
        return Ok(Start::Need(end));
    }
    let mask = <[u8; 4]>::try_from(&bytes[mask_at..start]).ok();
    Ok(Start::Frame(Frame { opcode: first & OPCODE, mask, payload: &bytes[start..end], bytes: end }))
}

/// Appends a frame, masked if there is a mask.
pub fn append(opcode: u8, mask: Option<[u8; 4]>, payload: &[u8], out: &mut Vec<u8>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.push(FIN | opcode);
    match payload.len() {
        length @ ..126 => out.push(masked | length as u8),
        length @ ..65_536 => {
            out.push(masked | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[][..], |mask| mask));
    append_unmasked(mask, payload, out);
}

/// Appends a payload with its mask undone, which is the same as applying it.
pub fn append_unmasked(mask: Option<[u8; 4]>, payload: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(payload);
    let Some(mask) = mask else { return };
    for four in out[at..].chunks_mut(4) {
        four.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// The key that connection number `connection` says hello with: 16 bytes, as the standard demands.
fn key(connection: u64) -> String {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&connection.to_be_bytes());
    bytes[8..].copy_from_slice(&connection.wrapping_mul(SPREAD).to_be_bytes());
    STANDARD.encode(bytes)
}

/// What a key is answered with.
pub fn accept(key: &[u8]) -> String {
    let mut sha = Sha1::new();
    sha.update(key);
    sha.update(GUID);
    STANDARD.encode(sha.digest().bytes())
}

/// The request with which connection number `connection` begins.
pub fn hello(connection: u64, fields: &[u8]) -> Vec<u8> {
    let mut hello = b"GET /websocket HTTP/1.1\r\n".to_vec();
    hello.extend_from_slice(fields);
    let upgrade = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
        key(connection)
    );
    hello.extend_from_slice(upgrade.as_bytes());
    hello
}

/// Whether it agrees to speak WebSocket with connection number `connection`.
pub fn is_welcome(connection: u64, message: &Message<'_>) -> bool {
    let says = |name, word: &str| {
        message.field(name).is_some_and(|value| value.eq_ignore_ascii_case(word.as_bytes()))
    };
    message.status() == Ok(101)
        && says("upgrade", "websocket")
        && says("connection", "upgrade")
        && message.field("sec-websocket-accept") == Some(accept(key(connection).as_bytes()).as_bytes())
}

/// Appends the answer to a request that asks for WebSocket; false when it does not ask.
pub fn append_welcome(message: &Message<'_>, out: &mut Vec<u8>) -> bool {
    let asks = message.field("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    let Some(key) = message.field("sec-websocket-key").filter(|_| asks) else { return false };
    let welcome = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept(key)
    );
    out.extend_from_slice(welcome.as_bytes());
    true
}

/// A message of bytes.
pub const BINARY: u8 = 2;
/// The last frame of a side.
pub const CLOSE: u8 = 8;
/// Asks whether the other side is there.
pub const PING: u8 = 9;
/// Says so.
pub const PONG: u8 = 10;
const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const PAYLOAD_BYTES_MAX: usize = 16 << 20;
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const SPREAD: u64 = 6_364_136_223_846_793_005;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn frames_of_every_length_come_back_masked_and_not() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_001] {
            let payload: Vec<u8> = (0..length).map(|at: usize| at as u8).collect();
            for mask in [None, Some([1, 2, 3, 250])] {
                let mut sent = Vec::new();
                append(BINARY, mask, &payload, &mut sent);
                let end = sent.len();
                for cut in (0..end.min(20)).chain(end.saturating_sub(5)..end) {
                    match first(&sent[..cut]) {
                        Ok(Start::Need(need)) => assert!(need > cut && need <= end, "{length} {cut}"),
                        other => panic!("{length} {cut}: {other:?}"),
                    }
                }
                sent.extend_from_slice(b"more");
                let Ok(Start::Frame(frame)) = first(&sent) else { panic!("{length}") };
                assert_eq!((frame.opcode, frame.mask, frame.bytes), (BINARY, mask, end));
                let mut got = Vec::new();
                append_unmasked(frame.mask, frame.payload, &mut got);
                assert_eq!(got, payload);
            }
        }
    }

    #[test]
    fn fragments_and_absurd_lengths_are_unreadable() {
        assert_eq!(first(&[BINARY, 0]), Err(Unreadable), "not the last part");
        assert_eq!(first(&[FIN | 0x40 | BINARY, 0]), Err(Unreadable), "an extension that nobody agreed to");
        assert_eq!(first(&[FIN | BINARY, 127, 0, 0, 0, 1, 0, 0, 0, 0]), Err(Unreadable));
    }

    #[test]
    fn a_key_is_accepted_as_in_the_standards_example() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_welcome_is_for_one_connection() {
        let sent = hello(7, &http::fields(&[]));
        let Ok(http::Start::Message(asked)) = http::first(&sent) else { panic!("it is whole") };
        let mut answer = Vec::new();
        assert!(append_welcome(&asked, &mut answer));
        let Ok(http::Start::Message(welcome)) = http::first(&answer) else { panic!("it is whole") };
        assert!(is_welcome(7, &welcome) && !is_welcome(8, &welcome));
        let refused =
            String::from_utf8(answer.clone()).expect("text").replace("101 Switching", "200 Switching");
        let Ok(http::Start::Message(refused)) = http::first(refused.as_bytes()) else {
            panic!("it is whole")
        };
        assert!(!is_welcome(7, &refused));
        assert!(!append_welcome(&welcome, &mut Vec::new()), "it has no key");
    }
}
