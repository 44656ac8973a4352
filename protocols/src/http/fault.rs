//! Owns the words for what a peer did wrong in HTTP, and the status that each is answered with. Every one ends the
//! connection on which it was seen: behind a doubt about framing nothing can be trusted (RFC 9112 section 11).

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpFault {
    // The helper completes this list; names are close reasons and metric labels.
}

impl HttpFault {
    /// The stable name, used as close reason and metric label, for example `http_bad_content_length`.
    pub const fn name(self) -> &'static str {
        match self {}
    }

    /// The status of the answer to a request: 400, 413, 414, 417, 431, 501 or 505. A response with the fault is 502.
    pub const fn status(self) -> u16 {
        match self {}
    }
}
