//! Where frames of a WebSocket stream end (RFC 6455 section 5.2), and the frame that says goodbye. It looks at headers
//! alone and keeps a few bytes whatever flows, so that a tunnel can put a close frame between two frames of others.
//!
//! It judges only what it needs to stay in step, and gives up instead of refusing: what a stream's ends make of it is
//! their matter. Called by the tunnels of the gateway, for each direction apart.

/// Where one direction of a stream stands.
///
/// ```text
/// Between ──first byte──▶ Begun ──short length──▶ Inside ──its last byte──▶ Between
///    ▲                      └──long one──▶ Length ──▲         └──of a close frame──▶ Closed
///    └── an empty frame goes back from Begun or Length          what is no frame ──▶ Lost
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frames {
    /// No frame is under way.
    #[default]
    Between,
    /// The first byte of a frame is there.
    Begun {
        /// It may be neither long nor in parts (section 5.5).
        is_control: bool,
        /// It is the last one of this direction.
        is_close: bool,
    },
    /// A length of two or of eight bytes is arriving.
    Length {
        /// How many bytes of it are still to come.
        missing: u8,
        /// Four bytes of mask follow.
        is_masked: bool,
        /// What those that came say.
        so_far: u64,
    },
    /// The mask, if there is one, and the payload are arriving.
    Inside {
        /// How many bytes are still to come; never none.
        left: u64,
        /// Behind it nothing follows.
        is_close: bool,
    },
    /// A close frame has passed, so no other may come (section 5.5.1).
    Closed,
    /// Something was no frame, so nobody knows where the next one begins.
    Lost,
}

impl Frames {
    /// True between two frames, where one of somebody else may stand.
    pub fn is_between(self) -> bool {
        self == Frames::Between
    }

    /// Follows all of `bytes`.
    pub fn follow(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at += self.step(&bytes[at..]);
        }
    }

    /// Follows `bytes` to the end of the frame that is under way and says how many bytes that were; all of them where it
    /// does not end here.
    pub fn follow_to_border(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !matches!(self, Frames::Between | Frames::Closed) {
            at += self.step(&bytes[at..]);
        }
        if *self == Frames::Closed { bytes.len() } else { at }
    }

    /// Goes over at least one byte of some, and says over how many.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let (next, passed) = match *self {
            Frames::Between => (begun(bytes[0]), 1),
            Frames::Begun { is_control, is_close } => (measured(bytes[0], is_control, is_close), 1),
            Frames::Length { missing, is_masked, so_far } => {
                (lengthened(missing, is_masked, so_far << 8 | u64::from(bytes[0])), 1)
            }
            Frames::Inside { left, is_close } => {
                let here = left.min(bytes.len() as u64);
                (inside(left - here, is_close), here as usize)
            }
            Frames::Closed | Frames::Lost => (*self, bytes.len()),
        };
        *self = next;
        passed
    }
}

const _: () = assert!(size_of::<Frames>() <= 16, "every side of a WebSocket keeps one while it is idle");

/// After the first byte of a frame. Its reserved bits are an extension's, and say nothing about where it ends.
fn begun(first: u8) -> Frames {
    match first & OPCODE {
        CONTINUATION | TEXT | BINARY => Frames::Begun { is_control: false, is_close: false },
        // RFC 6455 section 5.5: control frames are never in parts.
        opcode @ (CLOSE | PING | PONG) if first & FIN != 0 => {
            Frames::Begun { is_control: true, is_close: opcode == CLOSE }
        }
        _ => Frames::Lost,
    }
}

/// After the second.
fn measured(second: u8, is_control: bool, is_close: bool) -> Frames {
    let is_masked = second & MASKED != 0;
    match second & !MASKED {
        // RFC 6455 section 5.5: control frames are short.
        126 | 127 if is_control => Frames::Lost,
        126 => Frames::Length { missing: 2, is_masked, so_far: 0 },
        127 => Frames::Length { missing: 8, is_masked, so_far: 0 },
        short => inside(u64::from(short) + mask_bytes(is_masked), is_close),
    }
}

/// After one more byte of a length, which makes it `so_far`.
fn lengthened(missing: u8, is_masked: bool, so_far: u64) -> Frames {
    match missing {
        // RFC 6455 section 5.2: the most significant bit must be 0.
        ..=1 if so_far > LENGTH_MAX => Frames::Lost,
        ..=1 => inside(so_far + mask_bytes(is_masked), false),
        _ => Frames::Length { missing: missing - 1, is_masked, so_far },
    }
}

fn inside(left: u64, is_close: bool) -> Frames {
    match (left, is_close) {
        (0, false) => Frames::Between,
        (0, true) => Frames::Closed,
        _ => Frames::Inside { left, is_close },
    }
}

fn mask_bytes(is_masked: bool) -> u64 {
    if is_masked { MASK_BYTES } else { 0 }
}

/// Whether the protocol that an `Upgrade` names is this one (RFC 6455 section 4.2.1).
pub fn is_named(upgrade: Option<&[u8]>) -> bool {
    upgrade.is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"))
}

/// The close frame of a server, which masks nothing, with a status (RFC 6455 section 7.4) and no words.
pub const fn close_of_server(status: u16) -> [u8; 4] {
    let [high, low] = status.to_be_bytes();
    [FIN | CLOSE, 2, high, low]
}

/// The close frame of a client, which masks everything it sends (RFC 6455 section 5.3).
pub const fn close_of_client(status: u16, mask: [u8; 4]) -> [u8; 8] {
    let [high, low] = status.to_be_bytes();
    [FIN | CLOSE, MASKED | 2, mask[0], mask[1], mask[2], mask[3], high ^ mask[0], low ^ mask[1]]
}

/// The endpoint goes away (RFC 6455 section 7.4.1).
pub const GOING_AWAY: u16 = 1001;

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const MASKED: u8 = 0x80;
const MASK_BYTES: u64 = 4;
const LENGTH_MAX: u64 = u64::MAX >> 1;
