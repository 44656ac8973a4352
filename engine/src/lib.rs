//! The engine: runs connections as machines over readiness, and knows no protocol.
//!
//! Modules stand from the lowest to the highest; a module uses only those above it in this list.

// Models hold what they need of the engine, and no more.
#![cfg_attr(loom, allow(dead_code))]

pub mod time;
pub mod buf;
pub mod machine;
pub mod options;
pub mod stats;
mod sync;
mod slot;
mod timer;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
mod driver;
#[cfg(not(loom))]
pub mod engine;
#[cfg(all(test, loom))]
mod models;

#[cfg(not(loom))]
pub use driver::sim;
#[cfg(not(loom))]
pub use sys::memory::Allocator;

#[cfg(all(test, not(loom), not(miri)))]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;
