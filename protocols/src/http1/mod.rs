//! HTTP/1.1 on the wire (RFC 9112), both sides: unusual heads by `httparse`, everything that frames by us, strictly. No I/O, no
//! clock, no buffer of its own: it is given bytes and says how many it took. Called by the machines of the gateway.

mod scan;

mod facts;

mod judge;

mod plain;

pub mod body;

pub mod parse;

pub mod encode;

pub use body::{BodyDecoder, BodyStep};
pub use parse::{HeadDecoder, HeadStep};
