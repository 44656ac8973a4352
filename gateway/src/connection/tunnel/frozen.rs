//! A side of a tunnel as plain data, and back.

use std::net::SocketAddr;

use bowline_engine::machine::{Freeze, Frozen, ThawError};
use bowline_engine::time::Time;
use bowline_protocols::websocket::Frames;
use serde::{Deserialize, Serialize};

use crate::cluster::Place;
use crate::worker::Worker;

use super::super::state::{Kind, Partners, freeze, partner, thaw};
use super::due::Due;
use super::parting::Parting;
use super::{Phase, Side, Stage, Tunnel};

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
    #[serde(default)]
    frames: Option<FrozenFrames>,
    #[serde(default)]
    parting: Option<Parting>,
}

#[derive(Serialize, Deserialize)]
struct FrozenFrames(#[serde(with = "FramesForm")] Frames);

/// The form of [`Frames`], whose crate knows of no form.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Frames")]
enum FramesForm {
    Between,
    Begun { is_control: bool, is_close: bool },
    Length { missing: u8, is_masked: bool, so_far: u64 },
    Inside { left: u64, is_close: bool },
    Closed,
    Lost,
}

impl Tunnel {
    /// This side as data, once bytes may flow.
    pub(super) fn frozen(&self) -> Freeze {
        if self.stage != Stage::Open {
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
            armed_ms: self.armed.time().map(Time::as_ms),
            must_end_ms: self.must_end.time().map(Time::as_ms),
            draining: self.draining,
            frames: self.frames.map(FrozenFrames),
            parting: self.parting(),
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
            stage: Stage::Open,
            ended: state.ended,
            partner_ended: state.partner_ended,
            credit_bytes,
            owed_bytes,
            unwritten_bytes,
            armed: Due::from(state.armed_ms.map(Time::from_ms)),
            must_end: Due::from(state.must_end_ms.map(Time::from_ms)),
            draining: state.draining,
            frames: state.frames.map(|FrozenFrames(frames)| frames),
            phase: state.parting.map(|parting| Box::new(Phase::Parting(parting))),
            ..Tunnel::new(state.side, state.origin, other, place)
        })
    }
}
