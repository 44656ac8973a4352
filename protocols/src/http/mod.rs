//! What all versions of HTTP share: methods, heads, the one normal form of a path, limits and refusals (RFC 9110).
//!
//! Nothing here frames bytes: that is [`crate::http1`]'s. A head owns its text, so that it can be changed by filters, travel
//! between connections and be written in another version. Used by the codecs and by the gateway.

pub mod fault;

pub mod limits;

pub(crate) mod token;

pub(crate) mod names;

pub(crate) mod authority;

pub mod path;

pub mod head;

pub use fault::HttpFault;
pub use head::{BodyLength, FieldError, HttpHead, HttpVersion, Method};
pub use limits::{EscapedSlash, HttpLimits, Underscores};
