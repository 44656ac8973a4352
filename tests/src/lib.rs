//! What the end-to-end tests share: a `bowline` process with everything a test asks of it, clients and scripted upstreams of
//! Bolt and HTTP, and the real Java, Node and Python peers. It refuses to know how the gateway works inside; tests see only sockets,
//! signals, standard streams and `/proc`. It panics freely: a failed expectation here is a failed test.

pub mod wait;

pub mod mode;

pub mod lines;

pub mod sockets;

pub mod bolt;

pub mod upstream;

pub mod http;

pub mod gateway;

pub mod programs;

pub mod interop;

pub mod websocket;

pub mod node;

pub use bolt::{BoltClient, Call, Message};
pub use gateway::Gateway;
pub use http::{HttpAction, HttpServer, HttpStream};
pub use mode::{Mode, each_mode, each_mode_marked};
pub use upstream::{Action, Upstream};
pub use wait::{PATIENCE, eventually};
