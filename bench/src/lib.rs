//! Load generator, backend and measurements of Bowline, so that its figures are taken the same way each time.
//!
//! A figure of a run that lost or mixed up one answer does not count, so every answer is verified. All traffic, time and
//! memory is bounded, and every process ends by itself. Modules are listed from the lowest to the highest; each uses only
//! those above it.

pub mod trouble;

pub mod stats;

pub mod host;

pub mod content;

pub mod http;

pub mod websocket;

pub mod wire;

pub mod ledger;

pub mod verify;

pub mod pace;

pub mod clock;

pub mod listen;

pub mod answer;

pub mod backend;

#[path = "../reference/mod.rs"]
pub mod reference;

pub mod admin;

pub mod fleet;

pub mod load;

pub mod spawn;

pub mod report;

pub mod scenario;

pub mod results;

pub mod cli;
