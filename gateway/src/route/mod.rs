//! Where a request goes: by its header `service`, or by its listener. Knows no connection and no endpoint.

mod table;
mod tls;

pub use table::{SERVICE, Target, Targets};
pub use tls::TlsRoutes;
