//! What is in flight: the exchanges of a downstream connection, the replies that an upstream connection waits for, and
//! everything else a connection holds only while it is under load.
//!
//! Plain data with bounds; it sends nothing and arms nothing. Machines own it in one box that goes back to the worker
//! when it is empty.

mod cause;
mod table;
mod waiting;
mod meter;
mod reserve;
mod longest;
mod services;
mod line;
mod load;
mod http;

pub use cause::Cause;
pub use http::{Answer, Begun, HttpExchange, HttpLoad, Lingering, Phase, Response, Work};
pub use line::Line;
pub use load::{Bound, Drain, FrameClock, Load, Oneway, OutputWindow};
pub use longest::{LISTED_BYTES_MIN, Listed, Longest};
pub use meter::Meter;
pub use reserve::{LargeFrames, Reservation};
pub use services::{SERVICE_BYTES_MAX, Service, Services};
pub use table::{Callback, Callbacks, Exchange, Exchanges};
pub use waiting::{Asker, Waiting};
