//! Finds the upstream connection of a Bolt request, and opens one where there is none. It takes the request's place first, so
//! nothing is opened for what may not be sent.

use std::sync::Arc;

use bowline_engine::machine::{Address, Context};
use bowline_protocols::bolt::Version;

use crate::cluster::Choice;
use crate::cluster::Endpoint;
use crate::cluster::Link;
use crate::cluster::Place;
use crate::cluster::version_class;
use crate::error::Failure;
use crate::exchange::Bound;
use crate::worker::Proxy;

use super::upstream::Upstream;

/// A shared connection for a request of `bytes`, and its place.
pub(super) fn shared<A: Proxy>(
    cluster: u16,
    version: Version,
    bytes: usize,
    context: &mut Context<'_, A>,
) -> Result<(Address, Place), Failure> {
    let (at, class, now) = (usize::from(cluster), version_class(version), context.now);
    let Choice { place, address, fallback } =
        context.local.pools.choose((at, class), context.peer.ip(), now, bytes)?;
    if let Some(address) = address {
        return Ok((address, place));
    }
    let link = Arc::new(Link::default());
    match open(cluster, version, place.endpoint(), None, Arc::clone(&link), context) {
        Ok(address) => {
            context.local.pools.add(at, class, place.endpoint(), address, link);
            Ok((address, place))
        }
        Err(failure) => fallback.map(|address| (address, place)).ok_or(failure),
    }
}

/// A connection of the calling client alone, and the place of a request of `bytes` on it.
pub(super) fn bound<A: Proxy>(
    cluster: u16,
    version: Version,
    bytes: usize,
    context: &mut Context<'_, A>,
) -> Result<(Bound, Place), Failure> {
    let source = context.peer.ip();
    let place = context.local.pools.choose_endpoint(usize::from(cluster), source, context.now, bytes)?;
    let endpoint = Arc::clone(place.endpoint());
    let upstream = open(cluster, version, &endpoint, Some(context.me), Arc::default(), context)?;
    let class = version_class(version) as u8;
    Ok((Bound { cluster, class, leaving: false, upstream, endpoint }, place))
}

fn open<A: Proxy>(
    cluster: u16,
    version: Version,
    endpoint: &Arc<Endpoint>,
    owner: Option<Address>,
    link: Arc<Link>,
    context: &mut Context<'_, A>,
) -> Result<Address, Failure> {
    let machine = Upstream::new(Arc::clone(endpoint), cluster, version, owner, link);
    let open = context.local.shared.clusters[usize::from(cluster)].open(endpoint.address());
    // A refusal means that connections or descriptors have run out on this side: an overload, not a lost endpoint.
    context.open(open, Box::new(machine)).map_err(|_| Failure::Overflow)
}
