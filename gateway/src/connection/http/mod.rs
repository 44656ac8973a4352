//! HTTP/1.1 on both sides: [`HttpDownstream`] is a client, [`HttpUpstream`] a connection to a server that carries one
//! request at a time and rests in its worker's pool between them.
//!
//! Head, body and trailers travel as mail; a body flows as far as the receiver's credit reaches, so neither side holds more
//! of it than one window. What an upgrade makes of a connection is a [`super::Tunnel`].

pub(super) mod part;
mod reply;
mod upstream;
mod open;
mod downstream;

pub use downstream::HttpDownstream;
pub use upstream::HttpUpstream;
