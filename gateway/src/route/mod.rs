//! Where a request goes: one of Bolt by its header `service`, one of HTTP by host, path and what else its head says,
//! and either by its listener where no route matches. Also what becomes of an HTTP head on the way: rewrites, redirects and
//! what the upstream is told about the client. Knows no connection and no endpoint; made once from the plan.

mod prefixes;

mod table;
mod tls;

mod conditions;

mod host;

mod location;

mod http;

mod forwarded;

pub use self::http::{HttpAction, HttpRoute, HttpRoutes, Weighted};
pub use forwarded::Forwarded;
pub use table::{SERVICE, Target, Targets};
pub use tls::TlsRoutes;
