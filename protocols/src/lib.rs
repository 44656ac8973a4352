//! Protocol codecs of Bowline: bytes to events and back, without I/O, clock or thread.
//!
//! A codec owns no buffer. It is handed bytes, answers with offsets into them ([`Span`]) and
//! keeps explicit, serialisable state, so that a live connection can move to another process.
//! Modules are listed from the lowest to the highest; each uses only those above it.

pub mod span;

pub mod fault;

pub mod limits;

pub mod bolt;

pub mod proxy_header;

pub mod client_hello;

pub mod head;

pub mod event;

pub mod item;

pub mod codec;

pub mod bolt_codec;

pub mod http;

pub mod http1;

pub mod websocket;

pub mod testing;

pub mod properties;

pub mod http_properties;

pub mod websocket_properties;

pub use bolt_codec::BoltCodec;
pub use codec::{CONTROL_BYTES_MAX, Codec};
pub use event::{Event, Step};
pub use fault::{Fault, HeadFault};
pub use head::{Extras, Head, HeadKind};
pub use item::{Item, Refusal};
pub use limits::Limits;
pub use span::Span;
