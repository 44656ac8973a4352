//! The Bowline gateway: configuration, routing and the machines that carry traffic between
//! clients and upstream services. Modules stand from the lowest to the highest; a module uses only
//! those declared above it. The binary `bowline`, the tests and the bench use this crate.

pub mod config;
pub mod error;
pub mod metrics;
pub mod logging;
pub mod cluster;
pub mod mail;
pub mod filter;
pub mod route;
pub mod exchange;
mod spare;
pub mod worker;
pub mod connection;
pub mod application;
pub mod resolve;
pub mod admin;
pub mod doctor;
pub mod cli;
pub mod run;
pub mod call;
