//! Owns all that a relay knows of Bolt: where a frame ends, where its id stands, whether it is a heartbeat. Refuses frames
//! with a CRC, which would not survive another id. Pure; both relays call it for every frame.

/// What stands at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A whole frame.
    Frame(Frame),
    /// The beginning of one.
    Partial,
    /// Nothing that a relay can pass on.
    Foreign,
}

/// What a relay needs to know of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its length.
    pub bytes: usize,
    /// Where its id begins.
    pub id_at: usize,
    /// Asks whether we are alive.
    pub is_heartbeat: bool,
    /// Wants an answer.
    pub is_request: bool,
}

/// Looks at the first frame of `bytes`.
pub fn first(bytes: &[u8]) -> Start {
    let shift = match bytes.first() {
        None => return Start::Partial,
        Some(1) => 0,
        Some(2) => 1,
        Some(_) => return Start::Foreign,
    };
    let Some(&kind) = bytes.get(1 + shift) else { return Start::Partial };
    // A response has a status of two bytes where a request has a timeout of four.
    let lengths_at = 10 + 2 * shift + if kind == RESPONSE { 2 } else { 4 };
    let Some(head) = bytes.get(..lengths_at + 8) else { return Start::Partial };
    if shift == 1 && head[11] & CRC_SWITCH != 0 {
        return Start::Foreign;
    }
    let short = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
    let content = u32::from_be_bytes([
        head[lengths_at + 4],
        head[lengths_at + 5],
        head[lengths_at + 6],
        head[lengths_at + 7],
    ]);
    let total = head.len() + short(lengths_at) + short(lengths_at + 2) + content as usize;
    if total > FRAME_BYTES_MAX {
        return Start::Foreign;
    }
    if bytes.len() < total {
        return Start::Partial;
    }
    Start::Frame(Frame {
        bytes: total,
        id_at: 5 + shift,
        is_heartbeat: short(2 + shift) == HEARTBEAT,
        is_request: kind == REQUEST,
    })
}

/// The id of a frame.
pub fn id_of(frame: &Frame, bytes: &[u8]) -> u32 {
    let at = frame.id_at;
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Appends a frame with another id.
pub fn append_with_id(frame: &Frame, bytes: &[u8], id: u32, out: &mut Vec<u8>) {
    let at = out.len() + frame.id_at;
    out.extend_from_slice(&bytes[..frame.bytes]);
    out[at..at + 4].copy_from_slice(&id.to_be_bytes());
}

/// Appends the answer to a heartbeat: its own head as a response with status 0 and nothing behind it.
pub fn append_ack(frame: &Frame, bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let shift = frame.id_at - 5;
    out.extend_from_slice(&bytes[..10 + 2 * shift]);
    out[start + 1 + shift] = RESPONSE;
    out.extend_from_slice(&[0; 10]);
}

const REQUEST: u8 = 1;
const RESPONSE: u8 = 0;
const HEARTBEAT: usize = 0;
const CRC_SWITCH: u8 = 1;
/// More than any frame that the bench sends.
const FRAME_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use bowline_protocols::Limits;
    use bowline_protocols::bolt;
    use bowline_protocols::bolt::Decoded;
    use bowline_protocols::bolt::Kind;
    use bowline_protocols::bolt::RequestParts;
    use bowline_protocols::bolt::ResponseParts;
    use bowline_protocols::bolt::Version;

    use super::*;

    fn request(version: Version, crc: bool) -> Vec<u8> {
        let (class, header, content) = (&b"class"[..], &b""[..], &b"content"[..]);
        let parts = RequestParts {
            version,
            oneway: false,
            id: 77,
            codec: 1,
            timeout_ms: 5,
            crc,
            class,
            header,
            content,
        };
        let mut out = Vec::new();
        bolt::encode_request(&parts, &mut out).expect("short");
        out
    }

    fn response(version: Version) -> Vec<u8> {
        let (class, header, content) = (&b""[..], &b""[..], &b"0123456789"[..]);
        let parts =
            ResponseParts { version, id: 78, codec: 1, status: 0, crc: false, class, header, content };
        let mut out = Vec::new();
        bolt::encode_response(&parts, &mut out).expect("short");
        out
    }

    const VERSIONS: [Version; 3] = [Version::V1, Version::V2 { ver1: 1 }, Version::V2 { ver1: 2 }];

    #[test]
    fn the_end_and_the_id_of_a_frame_are_those_that_the_codec_finds() {
        for version in VERSIONS {
            for (bytes, id) in [(request(version, false), 77), (response(version), 78)] {
                for cut in 0..bytes.len() {
                    assert_eq!(first(&bytes[..cut]), Start::Partial, "{version:?} {cut}");
                }
                let longer = [&bytes[..], b"more"].concat();
                let Start::Frame(frame) = first(&longer) else { panic!("it is whole") };
                assert_eq!((frame.bytes, id_of(&frame, &longer)), (bytes.len(), id));
                assert_eq!(frame.is_request, id == 77);
                let mut other = vec![9];
                append_with_id(&frame, &longer, 0x0102_0304, &mut other);
                match bolt::decode(&other[1..], &Limits::default()).expect("it is well formed") {
                    Decoded::Frame(decoded) => assert_eq!(decoded.id, 0x0102_0304),
                    Decoded::Need(need) => panic!("{need} bytes are missing"),
                }
            }
        }
    }

    #[test]
    fn the_ack_of_a_heartbeat_is_what_the_codec_would_send() {
        for version in VERSIONS {
            let mut heartbeat = [0; bolt::encode::CONTROL_BYTES_MAX];
            let bytes = bolt::encode_heartbeat(version, 5, &mut heartbeat);
            let Start::Frame(frame) = first(&heartbeat[..bytes]) else { panic!("it is whole") };
            assert!(frame.is_heartbeat && frame.is_request);
            let mut ack = Vec::new();
            append_ack(&frame, &heartbeat, &mut ack);
            match bolt::decode(&ack, &Limits::default()).expect("it is well formed") {
                Decoded::Frame(decoded) => {
                    assert_eq!((decoded.kind, decoded.id, decoded.status), (Kind::HeartbeatAck, 5, 0));
                }
                Decoded::Need(need) => panic!("{need} bytes are missing"),
            }
        }
    }

    #[test]
    fn crcs_other_protocols_and_absurd_lengths_are_refused() {
        assert_eq!(first(&request(Version::V2 { ver1: 2 }, true)), Start::Foreign);
        assert_eq!(first(b"GET / HTTP/1.1\r\n\r\n"), Start::Foreign);
        let mut long = request(Version::V1, false);
        long[18] = 0xff;
        assert_eq!(first(&long), Start::Foreign);
    }
}
