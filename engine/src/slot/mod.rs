//! Slots: where connections live, who runs them, and how mail reaches them.
//!
//! The lowest layer of the raw mode, and the only one beside `sys` and `buf` with unsafe code. It knows neither sockets
//! nor machines: drivers bring the private part of a slot and obey the queueing duties that transitions give them.

pub(crate) mod word;
pub(crate) mod inbox;
pub(crate) mod shared;
mod pages;
pub(crate) mod table;
pub(crate) mod sleep;
