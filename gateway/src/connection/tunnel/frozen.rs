//! A side of a tunnel as plain data, and back.

use std::net::SocketAddr;

use bowline_engine::machine::{Freeze, Frozen, ThawError};
use bowline_engine::time::Time;
use serde::{Deserialize, Serialize};

use crate::cluster::Place;
use crate::worker::Worker;

use super::super::state::{Kind, Partners, freeze, partner, thaw};
use super::{Side, Tunnel};

/// The state of a frozen side; the partner by position.
#[derive(Serialize, Deserialize)]
struct FrozenTunnel {
    side: Side,
    ended: bool,
    partner_ended: bool,
    origin: u16,
    partner: Option<u32>,
    bytes: [u32; 3],
    endpoint: Option<(SocketAddr, u32, u32)>,
    armed_ms: Option<u64>,
    must_end_ms: Option<u64>,
    draining: bool,
}

impl Tunnel {
    /// This side as data, once bytes may flow.
    pub(super) fn frozen(&self) -> Freeze {
        if self.opening.is_some() || self.closed {
            return Freeze::NotYet { why: "the tunnel is being opened or closed" };
        }
        let mut partners = Partners::default();
        let place = self.place.as_ref();
        let state = FrozenTunnel {
            side: self.side,
            ended: self.ended,
            partner_ended: self.partner_ended,
            origin: self.origin,
            partner: self.partner.map(|partner| partners.position(partner)),
            bytes: [self.credit_bytes, self.owed_bytes, self.unwritten_bytes],
            endpoint: place.map(|place| (place.endpoint().address(), place.requests(), place.bytes())),
            armed_ms: self.armed.map(Time::as_ms),
            must_end_ms: self.must_end.map(Time::as_ms),
            draining: self.draining,
        };
        freeze(Kind::Tunnel, &state, partners.0)
    }

    /// The side that `frozen` describes.
    pub fn thaw(local: &Worker, frozen: &Frozen) -> Result<Tunnel, ThawError> {
        let state: FrozenTunnel = thaw(frozen)?;
        let other = state.partner.map(|position| partner(frozen, position)).transpose()?;
        let place = match state.endpoint {
            None => None,
            Some((address, requests, bytes)) => {
                let cluster = local.shared.clusters.get(usize::from(state.origin));
                let cluster = cluster.ok_or_else(|| ThawError("its cluster is not configured".to_owned()))?;
                Some(Place::again(cluster.endpoint_at(address), requests, bytes))
            }
        };
        let [credit_bytes, owed_bytes, unwritten_bytes] = state.bytes;
        Ok(Tunnel {
            ended: state.ended,
            partner_ended: state.partner_ended,
            credit_bytes,
            owed_bytes,
            unwritten_bytes,
            armed: state.armed_ms.map(Time::from_ms),
            must_end: state.must_end_ms.map(Time::from_ms),
            draining: state.draining,
            ..Tunnel::new(state.side, state.origin, other, place)
        })
    }
}
