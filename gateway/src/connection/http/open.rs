//! Finds the connection of an HTTP request, and opens one where there is none that rests. It takes the request's place
//! first, so nothing is opened for what may not be sent.

use std::sync::Arc;

use bowline_engine::machine::{Address, Context};

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
    let (at, source) = (usize::from(cluster), context.peer.ip());
    let Choice { place, address, .. } =
        context.local.pools.choose_exclusive(at, source, context.now, fresh)?;
    if let Some(address) = address {
        return Ok((address, place));
    }
    let shared = &context.local.shared.clusters[at];
    let open = shared.open(place.endpoint().address());
    let machine = HttpUpstream::new(Arc::clone(place.endpoint()), cluster, Arc::default(), shared.plan());
    let opened = context.open(open, Box::new(machine)).map_err(|_| Failure::Overflow)?;
    Ok((opened, place))
}
