//! What must be remembered of a request to answer it here: enough to write an error reply in its version.

use bowline_protocols::CONTROL_BYTES_MAX;
use bowline_protocols::bolt::{Frame, Kind, Status, Version, encode_error};
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// The request behind an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its id on the connection it came on.
    pub id: u32,
    pool_key: (u8, u8),
    codec: u8,
    crc: bool,
}

impl Cause {
    /// The cause that `frame` is.
    pub fn of(frame: &Frame) -> Cause {
        Cause { id: frame.id, pool_key: frame.version.pool_key(), codec: frame.codec, crc: frame.crc }
    }

    /// Writes the reply that says `failure`; returns its length.
    pub fn refuse(&self, failure: Failure, out: &mut [u8; CONTROL_BYTES_MAX]) -> usize {
        let status = Status::from_code(failure.status()).unwrap_or(Status::Unknown);
        encode_error(&self.frame(), status, out)
    }

    /// The frame as far as an answer depends on it.
    fn frame(&self) -> Frame {
        Frame {
            version: Version::from_pool_key(self.pool_key).unwrap_or(Version::V1),
            kind: Kind::Request,
            codec: self.codec,
            switch: u8::from(self.crc),
            crc: self.crc,
            status: 0,
            id: self.id,
            timeout_ms: 0,
            class: Default::default(),
            header: Default::default(),
            content: Default::default(),
            total_bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use bowline_protocols::Limits;
    use bowline_protocols::bolt::{Decoded, decode};
    use bowline_protocols::testing::{VERSIONS, request};

    use super::*;

    #[test]
    fn every_failure_is_answered_in_the_version_of_its_request() {
        let limits = Limits::default();
        for (version, crc) in VERSIONS {
            let bytes = request(version, crc, 0xfedc_ba98, "demo", b"x");
            let Ok(Decoded::Frame(frame)) = decode(&bytes, &limits) else { panic!("a whole frame") };
            let cause = Cause::of(&frame);
            for failure in Failure::ALL {
                let mut out = [0; CONTROL_BYTES_MAX];
                let length = cause.refuse(*failure, &mut out);
                let Ok(Decoded::Frame(answer)) = decode(&out[..length], &limits) else { panic!("whole") };
                assert_eq!((answer.version, answer.crc, answer.id), (version, crc, frame.id));
                assert_eq!((answer.kind, answer.status), (Kind::Response, failure.status()));
                assert_eq!((answer.total_bytes as usize, answer.codec), (length, frame.codec));
                answer.check_crc(&out[..length]).expect("it is right");
            }
        }
    }
}
