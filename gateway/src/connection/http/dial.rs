//! Finds the upstream connection of an HTTP request, and opens one where none is idle. It takes the request's place first, so
//! nothing is opened for what may not be sent. Called by clients' connections.

use std::sync::Arc;

use bowline_engine::machine::{Address, Context, Open};

use crate::cluster::Choice;
use crate::cluster::Place;
use crate::error::Failure;
use crate::worker::Proxy;

use super::upstream::HttpUpstream;

/// A connection for one HTTP request at a time: an idle one, unless a `fresh` one is wanted, or one that is opened now.
pub(super) fn exclusive<A: Proxy>(
    cluster: u16,
    fresh: bool,
    context: &mut Context<'_, A>,
) -> Result<(Address, Place), Failure> {
    let Choice { place, address, .. } =
        context.local.pools.choose_exclusive(usize::from(cluster), context.now, fresh)?;
    if let Some(address) = address {
        return Ok((address, place));
    }
    let plan = context.local.shared.clusters[usize::from(cluster)].plan();
    let open = Open { to: place.endpoint().address(), timeout_ms: plan.connect_timeout_ms };
    let machine = HttpUpstream::new(Arc::clone(place.endpoint()), cluster, Arc::default(), plan);
    let opened = context.open(open, Box::new(machine)).map_err(|_| Failure::Overflow)?;
    Ok((opened, place))
}
