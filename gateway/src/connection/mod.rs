//! The machines: one connection each, called by the engine with inputs and answering with effects.
//!
//! [`Downstream`] is a client of Bolt, [`Upstream`] a server that many or one client share, [`HttpDownstream`] and
//! [`HttpUpstream`] the same of HTTP, [`Tunnel`] one side of a plain TCP tunnel, [`Echo`] the embedded server. They talk by mail alone, block never, read no clock and own no descriptor.

mod state;
mod front;
mod frames;
mod upstream;
mod tunnel;
mod http;
mod dial;
mod downstream;
mod echo_http;
mod echo;

pub use downstream::Downstream;
pub use echo::Echo;
pub use front::{Arrived, Front, Make};
pub use http::{HttpDownstream, HttpUpstream};
pub use state::{Kind, State, close_reason};
pub use tunnel::Tunnel;
pub use upstream::Upstream;
