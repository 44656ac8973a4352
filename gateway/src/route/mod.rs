//! Where a request goes: one of Bolt by its header `service`, one of HTTP by host, path and what else its head says,
//! either by its listener where no route matches. Also the rewrites and redirects of HTTP heads. Knows no connection and
//! no endpoint; made once from the plan.

mod prefixes;

mod table;

mod conditions;

mod host;

mod location;

mod http;


pub use self::http::{HttpAction, HttpRoute, HttpRoutes, Weighted};
pub use table::{SERVICE, Target, Targets};
