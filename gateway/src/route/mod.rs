//! Where a request goes: by its header `service`, or by its listener. Knows no connection and no endpoint.

mod prefixes;

mod table;

pub use table::{SERVICE, Target, Targets};
