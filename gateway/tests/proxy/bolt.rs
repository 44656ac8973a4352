//! What the tests send and expect: frames, and reading them back.

use bowline_gateway::error::Failure;
use bowline_protocols::Limits;
use bowline_protocols::bolt::{
    Decoded, Frame, Kind, RequestParts, ResponseParts, Version, decode, encode_goaway, encode_heartbeat,
    encode_heartbeat_ack, encode_request, encode_response, fields,
};

use crate::world::{Peer, World};

/// A whole frame.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) frame: Frame,
    pub(crate) bytes: Vec<u8>,
}

impl Message {
    pub(crate) fn content(&self) -> &[u8] {
        self.frame.content.of(&self.bytes)
    }

    pub(crate) fn id(&self) -> u32 {
        self.frame.id
    }

    /// The response to it, as a server makes it.
    pub(crate) fn response(&self, content: &[u8]) -> Vec<u8> {
        let parts = ResponseParts {
            version: self.frame.version,
            id: self.frame.id,
            codec: self.frame.codec,
            status: 0,
            crc: self.frame.crc,
            class: b"com.x.Response",
            header: b"",
            content,
        };
        let mut out = Vec::new();
        encode_response(&parts, &mut out).expect("it is short");
        out
    }

    pub(crate) fn heartbeat_ack(&self) -> Vec<u8> {
        let mut out = [0; 32];
        let length = encode_heartbeat_ack(&self.frame, &mut out);
        out[..length].to_vec()
    }
}

/// A request to be written.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) version: Version,
    pub(crate) crc: bool,
    pub(crate) id: u32,
    pub(crate) oneway: bool,
    pub(crate) timeout_ms: i32,
    pub(crate) header: Vec<u8>,
    pub(crate) content: Vec<u8>,
}

impl Call {
    pub(crate) fn new(id: u32, content: impl AsRef<[u8]>) -> Call {
        Call {
            version: Version::V1,
            crc: false,
            id,
            oneway: false,
            timeout_ms: 3_000,
            header: fields::encode(&[("service", "demo")]),
            content: content.as_ref().to_vec(),
        }
    }

    pub(crate) fn version(mut self, version: Version, crc: bool) -> Call {
        (self.version, self.crc) = (version, crc);
        self
    }

    pub(crate) fn oneway(mut self) -> Call {
        self.oneway = true;
        self
    }

    pub(crate) fn timeout_ms(mut self, timeout_ms: i32) -> Call {
        self.timeout_ms = timeout_ms;
        self
    }

    pub(crate) fn header(mut self, header: Vec<u8>) -> Call {
        self.header = header;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let parts = RequestParts {
            version: self.version,
            oneway: self.oneway,
            id: self.id,
            codec: 1,
            timeout_ms: self.timeout_ms,
            crc: self.crc,
            class: b"com.x.Request",
            header: &self.header,
            content: &self.content,
        };
        let mut out = Vec::new();
        encode_request(&parts, &mut out).expect("it is short");
        out
    }
}

pub(crate) fn heartbeat(version: Version, id: u32) -> Vec<u8> {
    let mut out = [0; 32];
    let length = encode_heartbeat(version, id, &mut out);
    out[..length].to_vec()
}

pub(crate) fn goaway(id: u32) -> Vec<u8> {
    let mut out = [0; 32];
    let length = encode_goaway(Version::V1, id, &mut out);
    out[..length].to_vec()
}

/// The whole frames that `bytes` are.
pub(crate) fn messages(bytes: &[u8]) -> Vec<Message> {
    let limits = Limits::default();
    let mut rest = bytes;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let Ok(Decoded::Frame(frame)) = decode(rest, &limits) else { panic!("whole frames: {rest:?}") };
        frame.check_crc(rest).expect("the checksum is right");
        let (own, behind) = rest.split_at(frame.total_bytes as usize);
        messages.push(Message { frame, bytes: own.to_vec() });
        rest = behind;
    }
    messages
}

impl World {
    /// The whole frames that the peer has got since it was last asked.
    pub(crate) fn messages(&mut self, peer: Peer) -> Vec<Message> {
        messages(&self.take(peer))
    }

    /// The only frame that the peer has got.
    pub(crate) fn message(&mut self, peer: Peer) -> Message {
        let mut all = self.messages(peer);
        assert_eq!(all.len(), 1, "one frame came: {all:?}");
        all.remove(0)
    }

    /// All servers answer what they have got with its own content, until nothing more comes.
    pub(crate) fn echo(&mut self) {
        loop {
            let mut answered = false;
            for server in self.open_servers() {
                for message in self.messages(server) {
                    match message.frame.kind {
                        Kind::Request => self.send_later(server, &message.response(message.content())),
                        Kind::Heartbeat => self.send_later(server, &message.heartbeat_ack()),
                        _ => continue,
                    }
                    answered = true;
                }
            }
            if !answered {
                return;
            }
            self.run();
        }
    }

    /// A call that is echoed.
    pub(crate) fn round_trip(&mut self, client: Peer, id: u32, content: &[u8]) {
        self.send(client, &Call::new(id, content).bytes());
        self.echo();
        let answer = self.message(client);
        assert_eq!((answer.id(), answer.frame.status, answer.content()), (id, 0, content));
    }

    /// The only answer that the client has got is the failure, which is counted once more than before.
    pub(crate) fn expect_failure(&mut self, client: Peer, id: u32, failure: Failure, before: u64) {
        let answer = self.message(client);
        assert_eq!((answer.frame.kind, answer.id()), (Kind::Response, id));
        assert_eq!(answer.frame.status, failure.status(), "{failure}");
        assert_eq!(answer.frame.total_bytes as usize, answer.bytes.len());
        assert_eq!(self.failures(failure), before + 1, "{failure} is counted");
    }
}
