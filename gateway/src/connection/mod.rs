//! The machines: one connection each, called by the engine with inputs and answering with effects.
//!
//! [`Downstream`] is a client, [`Upstream`] a server that many or one client share, [`Tunnel`] one side of a plain TCP
//! tunnel, [`Echo`] the embedded server. They talk by mail alone, block never, read no clock and own no descriptor.

mod state;
mod front;
mod frames;
mod upstream;
mod dial;
mod downstream;
mod tunnel;
mod echo;

pub use downstream::Downstream;
pub use echo::Echo;
pub use front::{Arrived, Front, Make};
pub use state::{Kind, State, close_reason};
pub use tunnel::Tunnel;
pub use upstream::Upstream;
