//! Owns what requests carry and answers must bring back: bytes that depend on the connection and the id, so that a mix-up
//! shows whatever the protocol. Refuses to know how they are framed: see `wire`, `http` and `websocket`.

/// Makes contents and knows them again; the same in every process and run.
#[derive(Debug)]
pub struct Contents {
    noise: Vec<u8>,
}

impl Contents {
    /// Makes the noise that they are cut from.
    pub fn new() -> Self {
        Self { noise: noise() }
    }

    /// Appends the content that connection number `connection` sends with `id`.
    pub fn append(&self, connection: u64, id: u32, bytes: usize, out: &mut Vec<u8>) {
        for piece in self.pieces(connection, id, bytes) {
            out.extend_from_slice(piece.as_ref());
        }
    }

    /// Whether `content` is what the request carried in `sent_bytes`, cut or repeated.
    pub fn is_echo(&self, connection: u64, id: u32, sent_bytes: usize, content: &[u8]) -> bool {
        content.chunks(sent_bytes.max(1)).all(|copy| self.is_start(connection, id, copy))
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

impl Default for Contents {
    fn default() -> Self {
        Self::new()
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

const SENDER_BYTES: usize = 12;
const STRETCH_BYTES: usize = 4_096;
const NOISE_BYTES: usize = 65_536;
/// An odd multiplier whose products spread well (that of PCG).
const SPREAD: u64 = 6_364_136_223_846_793_005;
