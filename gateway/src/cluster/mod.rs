//! Upstream clusters: which endpoints there are, how loaded and healthy they are, and which one a request takes.
//!
//! [`Cluster`] is shared by all workers and changed by the control plane alone; [`Pools`] belong to one worker each and
//! hold the addresses of its upstream connections (X6). Neither opens a connection: machines do, with what is chosen here.

mod endpoint;
mod budget;
mod place;
mod maglev;
mod message;
mod set;
mod pool;

pub use budget::RetryBudget;
pub use endpoint::{Bounds, Endpoint, Link};
pub use message::Message;
pub use place::Place;
pub use pool::{Choice, Pools, VERSION_CLASSES, version_class};
pub use set::{Cluster, EndpointView};
