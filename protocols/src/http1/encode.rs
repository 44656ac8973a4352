//! Heads and chunk framing, to bytes. What it writes cannot be split: [`HttpHead`] refuses CR, LF and NUL.

use crate::http::HttpHead;

/// Appends a request head: request line in origin form, `Host`, the fields, then framing and connection fields.
/// `keep_alive` false adds `Connection: close`.
pub fn request(_head: &HttpHead, _keep_alive: bool, _out: &mut Vec<u8>) {
    todo!()
}

/// Appends a response head for a client that speaks 1.1, or 1.0 where `to_http10` (no chunks, `Connection: keep-alive`
/// said if it is kept).
pub fn response(_head: &HttpHead, _keep_alive: bool, _to_http10: bool, _out: &mut Vec<u8>) {
    todo!()
}

/// The line before a chunk of `len` bytes; says how many bytes of `out` it took.
pub fn chunk_head(_len: usize, _out: &mut [u8; 18]) -> usize {
    todo!()
}

/// What stands behind every chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Appends the last chunk and the trailers.
pub fn last_chunk(_trailers: Option<&HttpHead>, _out: &mut Vec<u8>) {
    todo!()
}
