//! A client's connection as plain data, and back (rule 9 of the machine contract). It can be frozen between any two
//! inputs: bytes that are arriving stay with the driver.

use bowline_engine::machine::{Freeze, Frozen, ThawError};
use bowline_engine::time::Time;
use serde::{Deserialize, Serialize};

use crate::error::CloseReason;
use crate::exchange::Bound;
use crate::exchange::Callback;
use crate::exchange::Callbacks;
use crate::exchange::Cause;
use crate::exchange::Drain;
use crate::exchange::Exchange;
use crate::exchange::Exchanges;
use crate::exchange::FrameClock;
use crate::exchange::Listed;
use crate::exchange::Load;
use crate::exchange::Meter;
use crate::exchange::Oneway;
use crate::exchange::OutputWindow;
use crate::exchange::Services;
use crate::worker::Worker;

use super::super::state::{Kind, Partners, freeze, partner, thaw};
use super::Downstream;

/// The machine; moments in milliseconds of the engine's clock, partners by position.
#[derive(Serialize, Deserialize)]
struct FrozenDownstream {
    listener: u16,
    sequence: u16,
    version: (u8, u8),
    heartbeats: Meter,
    paused: u8,
    ending: Option<u8>,
    listed: Listed,
    armed_ms: Option<u64>,
    load: Option<FrozenLoad>,
}

#[derive(Serialize, Deserialize)]
struct FrozenLoad {
    exchanges: Vec<FrozenExchange>,
    callbacks: Vec<FrozenCallback>,
    callback_id: u32,
    bound: Vec<(u16, u8, bool, u32, std::net::SocketAddr)>,
    oneway: Oneway,
    /// Began, paused.
    frame_ms: Option<(u64, Option<u64>)>,
    reserved: Option<(std::net::IpAddr, usize)>,
    wanted_bytes: usize,
    /// Began, bytes.
    output: Option<(u64, u64)>,
    /// From, deadline.
    drain_ms: Option<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct FrozenExchange {
    key: u32,
    cause: Cause,
    sequence: u16,
    cluster: u16,
    request_bytes: u32,
    /// Only while access lines are written.
    service: Vec<u8>,
    upstream: u32,
    deadline_ms: u64,
    began_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct FrozenCallback {
    id: u32,
    cause: Cause,
    upstream: u32,
    deadline_ms: u64,
}

impl Downstream {
    pub(super) fn frozen(&self) -> Freeze {
        if self.closed {
            return Freeze::NotYet { why: "the connection ends" };
        }
        let mut partners = Partners::default();
        let state = FrozenDownstream {
            listener: self.listener,
            sequence: self.sequence,
            version: self.version,
            heartbeats: self.heartbeats,
            paused: self.paused,
            ending: self.ending.map(|reason| reason.index() as u8),
            listed: self.listed,
            armed_ms: self.armed.map(Time::as_ms),
            load: self.load.as_ref().map(|load| frozen_load(load, &mut partners)),
        };
        freeze(Kind::Downstream, &state, partners.0)
    }

    /// The connection that `frozen` describes.
    pub fn thaw(local: &Worker, frozen: &Frozen) -> Result<Downstream, ThawError> {
        let state: FrozenDownstream = thaw(frozen)?;
        let load = state.load.map(|load| thawed_load(local, frozen, load)).transpose()?;
        Ok(Downstream {
            load: load.map(Box::new),
            armed: state.armed_ms.map(Time::from_ms),
            heartbeats: state.heartbeats,
            listener: state.listener,
            sequence: state.sequence,
            version: state.version,
            paused: state.paused,
            ending: state.ending.and_then(|index| CloseReason::from_index(usize::from(index))),
            listed: state.listed,
            closed: false,
        })
    }
}

fn frozen_load(load: &Load, partners: &mut Partners) -> FrozenLoad {
    let exchanges = load.exchanges.iter().map(|(key, exchange)| FrozenExchange {
        key,
        cause: exchange.cause,
        sequence: exchange.sequence,
        cluster: exchange.cluster,
        request_bytes: exchange.request_bytes,
        service: load.services.of(key).to_vec(),
        upstream: partners.position(exchange.upstream),
        deadline_ms: exchange.deadline.as_ms(),
        began_ms: exchange.began.as_ms(),
    });
    let exchanges = exchanges.collect();
    let callbacks = load.callbacks.iter().map(|callback| FrozenCallback {
        id: callback.id,
        cause: callback.cause,
        upstream: partners.position(callback.upstream),
        deadline_ms: callback.deadline.as_ms(),
    });
    let callbacks = callbacks.collect();
    let bound = load.bound.iter().map(|bound| {
        let upstream = partners.position(bound.upstream);
        (bound.cluster, bound.class, bound.leaving, upstream, bound.endpoint.address())
    });
    FrozenLoad {
        exchanges,
        callbacks,
        callback_id: load.callbacks.last_id(),
        bound: bound.collect(),
        oneway: load.oneway,
        frame_ms: load.frame.map(|frame| (frame.began.as_ms(), frame.paused_at.map(Time::as_ms))),
        reserved: load.reserved.as_ref().map(|reserved| (reserved.source(), reserved.bytes())),
        wanted_bytes: load.wanted_bytes,
        output: load.output.map(|window| (window.began.as_ms(), window.written)),
        drain_ms: load.drain.map(|drain| (drain.from.as_ms(), drain.deadline.as_ms())),
    }
}

fn thawed_load(local: &Worker, frozen: &Frozen, load: FrozenLoad) -> Result<Load, ThawError> {
    let mut exchanges = Vec::with_capacity(load.exchanges.len());
    let mut services = Services::default();
    for one in load.exchanges {
        let (deadline, began) = (Time::from_ms(one.deadline_ms), Time::from_ms(one.began_ms));
        let upstream = partner(frozen, one.upstream)?;
        let exchange = Exchange {
            cause: one.cause,
            sequence: one.sequence,
            cluster: one.cluster,
            request_bytes: one.request_bytes,
            upstream,
            deadline,
            began,
        };
        services.note(one.key, &one.service);
        exchanges.push((one.key, exchange));
    }
    let mut callbacks = Vec::with_capacity(load.callbacks.len());
    for one in load.callbacks {
        let (upstream, deadline) = (partner(frozen, one.upstream)?, Time::from_ms(one.deadline_ms));
        callbacks.push(Callback { id: one.id, cause: one.cause, upstream, deadline });
    }
    let mut bound = Vec::with_capacity(load.bound.len());
    for (cluster, class, leaving, position, address) in load.bound {
        let shared = local.shared.clusters.get(usize::from(cluster));
        let shared = shared.ok_or_else(|| ThawError("its cluster is not configured".to_owned()))?;
        let (upstream, endpoint) = (partner(frozen, position)?, shared.endpoint_at(address));
        bound.push(Bound { cluster, class, leaving, upstream, endpoint });
    }
    let reserved = load.reserved;
    let frame = load.frame_ms.map(|(began_ms, paused_ms)| FrameClock {
        began: Time::from_ms(began_ms),
        paused_at: paused_ms.map(Time::from_ms),
    });
    let drain = load.drain_ms.map(|(from_ms, deadline_ms)| Drain {
        from: Time::from_ms(from_ms),
        deadline: Time::from_ms(deadline_ms),
    });
    let output =
        load.output.map(|(began_ms, written)| OutputWindow { began: Time::from_ms(began_ms), written });
    Ok(Load {
        exchanges: Exchanges::restore(exchanges.into_iter()),
        services,
        callbacks: Callbacks::restore(callbacks, load.callback_id),
        bound,
        oneway: load.oneway,
        frame,
        reserved: reserved.map(|(source, bytes)| local.shared.large_frames.reserve_again(source, bytes)),
        wanted_bytes: load.wanted_bytes,
        output,
        drain,
    })
}
