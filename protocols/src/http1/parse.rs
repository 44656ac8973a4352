//! Heads of requests and responses, from bytes (RFC 9112 sections 2 to 6).

use crate::http::{HttpFault, HttpHead, HttpLimits, Method};

/// Finds heads. It remembers how far it has looked for the end of one, so that a head that dribbles in is parsed once.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadDecoder {}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadStep {
    /// No whole head yet; offer again with at least so many bytes in all.
    Need(usize),
    /// The head is in the caller's [`HttpHead`] and took so many bytes.
    Head {
        /// Bytes, with at most one empty line before the head.
        consumed: usize,
    },
}

impl HeadDecoder {
    /// The head of a request at the front of `bytes`.
    pub fn request(
        &mut self,
        _bytes: &[u8],
        _limits: &HttpLimits,
        _head: &mut HttpHead,
    ) -> Result<HeadStep, HttpFault> {
        todo!()
    }

    /// The head of a response to a request of `method` at the front of `bytes`; 1xx have no body and are said like others.
    pub fn response(
        &mut self,
        _bytes: &[u8],
        _method: Method,
        _limits: &HttpLimits,
        _head: &mut HttpHead,
    ) -> Result<HeadStep, HttpFault> {
        todo!()
    }
}
