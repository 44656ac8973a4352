//! Where a body ends: by length, in chunks, or with the connection (RFC 9112 sections 6 and 7).

use crate::http::{BodyLength, HttpFault, HttpHead, HttpLimits};

/// Finds the pieces of one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyDecoder {}

/// What stands at the front of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// Nothing yet; offer again with at least so many bytes in all.
    Need(usize),
    /// `skip` bytes of framing, then `len` bytes of body; `len` is above 0.
    Piece {
        /// Bytes that are not body.
        skip: usize,
        /// Bytes of body behind them.
        len: usize,
    },
    /// The body has ended, behind `skip` bytes of framing. Trailers, if there were any, are in `trailers`.
    End {
        /// Bytes that are not body.
        skip: usize,
    },
}

impl BodyDecoder {
    /// The decoder of a body of this length.
    pub fn new(_length: BodyLength) -> BodyDecoder {
        todo!()
    }

    /// Looks at the front of `bytes`. Once it said [`BodyStep::End`] it says so again, with `skip` 0.
    pub fn decode(
        &mut self,
        _bytes: &[u8],
        _limits: &HttpLimits,
        _trailers: &mut HttpHead,
    ) -> Result<BodyStep, HttpFault> {
        todo!()
    }

    /// True once the whole body was seen.
    pub fn has_ended(&self) -> bool {
        todo!()
    }

    /// The stream ended: right for a body that ends with it, a fault for any other that has not ended.
    pub fn end_of_stream(&mut self) -> Result<(), HttpFault> {
        todo!()
    }
}
