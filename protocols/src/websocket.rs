//! Where frames of a WebSocket stream end (RFC 6455 section 5.2), and the frame that says goodbye. It looks at headers
//! alone and keeps nothing of what flows, so that a tunnel can put a close frame between two others.

/// Follows one direction of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// The header that is arriving, and how many bytes of it are here.
    header: [u8; HEADER_BYTES_MAX],
    filled: u8,
    /// Bytes of payload that are still to come.
    left: u64,
}

impl Frames {
    /// True between two frames.
    pub fn is_between(&self) -> bool {
        self.filled == 0 && self.left == 0
    }

    /// Follows `bytes` to their end, or only to the first place between two frames; says how many bytes that were.
    pub fn follow(&mut self, bytes: &[u8], only_to_border: bool) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let here = self.left.min((bytes.len() - at) as u64);
                self.left -= here;
                at += here as usize;
            } else {
                self.take_header(bytes[at]);
                at += 1;
            }
            if only_to_border && self.is_between() {
                break;
            }
        }
        at
    }

    /// One more byte of a header; the last one says how much follows.
    fn take_header(&mut self, byte: u8) {
        self.header[usize::from(self.filled)] = byte;
        self.filled += 1;
        let filled = usize::from(self.filled);
        if filled < 2 {
            return;
        }
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 != 0 { 4 } else { 0 };
        if filled < 2 + length + mask {
            return;
        }
        self.left = match length {
            0 => u64::from(self.header[1] & 0x7f),
            _ => self.header[2..2 + length].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        self.filled = 0;
    }
}

/// A header is never longer: two bytes, a length of eight, a mask of four.
const HEADER_BYTES_MAX: usize = 14;

/// A close frame of a server, which masks nothing, with a status (RFC 6455 section 7.4) and no words.
pub const fn close_frame(status: u16) -> [u8; 4] {
    let [high, low] = status.to_be_bytes();
    [0x88, 2, high, low]
}

/// The server goes away (RFC 6455 section 7.4.1).
pub const GOING_AWAY: u16 = 1001;
/// The service restarts, so that a client may come back after a while (IANA's registry of close codes).
pub const SERVICE_RESTART: u16 = 1012;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match payload {
            0..=125 => bytes.push(mask | payload as u8),
            126..=0xffff => {
                bytes.push(mask | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([9; 4].iter().filter(|_| masked));
        bytes.resize(bytes.len() + payload, 0x7e);
        bytes
    }

    #[test]
    fn borders_are_found_whatever_the_length_and_however_it_is_cut() {
        for payload in [0, 1, 125, 126, 127, 65_535, 65_536] {
            for masked in [false, true] {
                let one = frame(payload, masked);
                let stream = [&one[..], &frame(3, false)].concat();
                let mut whole = Frames::default();
                assert_eq!(whole.follow(&stream, true), one.len(), "{payload} {masked}");
                assert!(whole.is_between());
                let mut cut = Frames::default();
                let mut borders = Vec::new();
                for (at, byte) in stream.iter().enumerate() {
                    assert_eq!(cut.follow(&[*byte], false), 1);
                    if cut.is_between() {
                        borders.push(at + 1);
                    }
                }
                assert_eq!(borders, [one.len(), stream.len()], "{payload} {masked}");
            }
        }
    }

    #[test]
    fn a_length_that_no_stream_reaches_is_no_trouble() {
        let mut frames = Frames::default();
        let mut bytes = vec![0x82, 0xff];
        bytes.extend([0xff; 8]);
        bytes.extend([1; 4]);
        bytes.extend([0; 1_000]);
        assert_eq!(frames.follow(&bytes, true), bytes.len());
        assert!(!frames.is_between());
    }

    #[test]
    fn a_close_frame_is_as_the_rfc_writes_it() {
        assert_eq!(close_frame(GOING_AWAY), [0x88, 0x02, 0x03, 0xe9]);
        let mut frames = Frames::default();
        assert_eq!(frames.follow(&close_frame(SERVICE_RESTART), true), 4);
        assert!(frames.is_between());
    }
}
