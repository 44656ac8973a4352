//! Drivers: what runs machines.

pub(crate) mod load;
pub(crate) mod kit;
pub(crate) mod core;
pub(crate) mod control;
pub(crate) mod admission;
pub(crate) mod epoll;
pub(crate) mod tokio;
pub mod sim;
