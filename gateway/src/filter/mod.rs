//! Filters: what stands between an exchange and its route, and may look at, change, delay or refuse what passes. Here are
//! the contract and the chain that runs them; they do no I/O, read no clock and draw no random numbers. Made from the
//! plan with each route; called by the machines of HTTP connections.

mod contract;

mod edit;

mod fault;

mod chain;

pub use chain::{Chain, Position};
pub use contract::{Call, Filter, Reply, Verdict};
pub use edit::Edit;
pub use fault::{Abort, Delay};
