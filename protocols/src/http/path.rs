//! The one normal form of a path, computed once and used for routing, filters and forwarding alike (RFC 3986 section 6.2.2).

use super::fault::HttpFault;
use super::limits::EscapedSlash;

/// Writes the normal form of `raw` (path and query, as in a request line) to `out`: dot segments removed (also `%2e`),
/// escaped unreserved characters unescaped, escapes in upper case, doubled slashes merged; the query is only checked.
pub fn normalise(_raw: &[u8], _slash: EscapedSlash, _out: &mut Vec<u8>) -> Result<(), HttpFault> {
    todo!()
}
