//! One side of a plain TCP tunnel. Two of them carry bytes as mail, each as far as the other's credit reaches, so a slow
//! reader costs at most one window; each direction ends by itself.
//!
//! The client's side finds an endpoint, opens the server's side and reads nothing before that is connected, so a connect
//! that failed can be tried elsewhere. It looks into no byte.

use std::sync::Arc;

use bowline_engine::machine::{Address, Context, Freeze, Frozen, Incoming, Input, Machine, Open};
use bowline_engine::machine::{OpenError, ThawError};
use bowline_engine::time::Time;
use serde::{Deserialize, Serialize};

use crate::cluster::Place;
use crate::error::CloseReason;
use crate::logging;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::worker::Proxy;
use crate::worker::Worker;

use super::state::{Kind, Partners, State, freeze, partner, thaw};

/// One side of a tunnel.
///
/// ```text
/// Opening ──the server's side is connected──▶ Open ──both ends seen, all written──▶ closed
///    └──it could not be: tried elsewhere, at last reset
/// ```
#[derive(Debug)]
pub struct Tunnel {
    side: Side,
    is_open: bool,
    /// The own peer will send no more.
    ended: bool,
    /// The partner's peer will send no more.
    partner_ended: bool,
    closed: bool,
    attempts: u8,
    /// The listener of a client, the cluster of a server.
    origin: u16,
    partner: Option<Address>,
    /// Bytes that may be sent to the partner.
    credit_bytes: u32,
    /// Bytes that were written and not given back as credit yet.
    owed_bytes: u32,
    /// Bytes of the partner that wait to be written.
    unwritten_bytes: u32,
    /// The server's side holds room at its endpoint.
    place: Option<Place>,
    armed: Option<Time>,
    drain_deadline: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Side {
    Client,
    Server,
}

impl Tunnel {
    /// The connection that `listener` accepted.
    pub fn accepted(listener: u16) -> Tunnel {
        Tunnel::new(Side::Client, listener, None, None)
    }

    fn new(side: Side, origin: u16, partner: Option<Address>, place: Option<Place>) -> Tunnel {
        Tunnel {
            side,
            is_open: false,
            ended: false,
            partner_ended: false,
            closed: false,
            attempts: 0,
            origin,
            partner,
            credit_bytes: 0,
            owed_bytes: 0,
            unwritten_bytes: 0,
            place,
            armed: None,
            drain_deadline: None,
        }
    }

    fn on_opened<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        context.watch_output(true);
        let shared = Arc::clone(&context.local.shared);
        if self.side == Side::Server {
            if let Some(place) = &mut self.place {
                place.endpoint().note_connected();
                place.keep_bytes(0);
            }
            let name = &shared.clusters[usize::from(self.origin)].plan().name;
            logging::connection_opened(context.me.as_u64(), context.peer, name);
            context.local.count(Count::UpstreamConnectionsOpened);
            self.begin(context);
            return self.tell(Mail::TunnelOpened, context);
        }
        let name = shared.listener(self.origin).map_or("", |listener| &listener.name);
        logging::connection_opened(context.me.as_u64(), context.peer, name);
        context.set_state(State::Opening as u8);
        context.set_reading(false);
        self.arm(context.now.after_ms(shared.plan.timeouts.idle_ms), context);
        if let Some(deadline) = shared.drain_deadline() {
            self.begin_drain(deadline, context);
        }
        self.dial(CloseReason::NoEndpoint, context);
    }

    /// Opens the server's side, or ends for `why` if there is no way.
    fn dial<A: Proxy>(&mut self, why: CloseReason, context: &mut Context<'_, A>) {
        let shared = Arc::clone(&context.local.shared);
        let Some(target) = shared.targets.default_of(self.origin) else {
            return self.reset(CloseReason::NoRoute, context);
        };
        let chosen = context.local.pools.choose_endpoint(usize::from(target.cluster), context.now, 0);
        let Ok(place) = chosen else { return self.reset(why, context) };
        let timeout_ms = shared.clusters[usize::from(target.cluster)].plan().connect_timeout_ms;
        let open = Open::new(place.endpoint().address(), timeout_ms);
        let server = Tunnel::new(Side::Server, target.cluster, Some(context.me), Some(place));
        match context.open(open, Box::new(server)) {
            Ok(partner) => self.partner = Some(partner),
            Err(_) => self.reset(CloseReason::LimitConnections, context),
        }
    }

    /// Bytes may flow from now on.
    fn begin<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.is_open = true;
        self.credit_bytes = window_bytes(context.local);
        context.set_state(State::Active as u8);
    }

    fn on_failed<A: Proxy>(&mut self, error: OpenError, context: &mut Context<'_, A>) {
        self.closed = true;
        context.local.count(Count::UpstreamConnectFailures);
        if let Some(place) = self.place.take().filter(|_| error != OpenError::Exhausted) {
            let random = context.random();
            place.endpoint().note_unreachable(context.now, random);
        }
        self.tell(Mail::TunnelFailed { timed_out: error == OpenError::TimedOut }, context);
    }

    fn on_bytes<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
        let taken = incoming.len().min(self.credit_bytes as usize);
        if taken > 0 {
            let piece = incoming.take(taken);
            self.credit_bytes -= taken as u32;
            let read = match self.side {
                Side::Client => Count::DownstreamReadBytes,
                Side::Server => Count::UpstreamReadBytes,
            };
            context.local.shard().add(read, taken as u64);
            self.tell(Mail::Data { piece }, context);
        }
        if self.credit_bytes == 0 {
            context.set_reading(false);
        }
    }

    fn on_mail<A: Proxy>(&mut self, mail: Mail, context: &mut Context<'_, A>) {
        match mail {
            Mail::TunnelOpened => {
                context.local.count(Count::Tunnels);
                self.begin(context);
                context.set_reading(true);
            }
            Mail::TunnelFailed { timed_out } => self.on_partner_failed(timed_out, context),
            Mail::Data { piece } => {
                let written = match self.side {
                    Side::Client => Count::DownstreamWrittenBytes,
                    Side::Server => Count::UpstreamWrittenBytes,
                };
                context.local.shard().add(written, piece.len() as u64);
                self.unwritten_bytes += piece.len() as u32;
                context.mark_active();
                context.write(piece);
            }
            Mail::Credit { bytes } => {
                if self.credit_bytes == 0 {
                    context.set_reading(true);
                }
                self.credit_bytes = self.credit_bytes.saturating_add(bytes).min(window_bytes(context.local));
            }
            Mail::End => {
                self.partner_ended = true;
                context.shutdown_write();
                self.arm_half_closed(context);
            }
            Mail::PartnerGone => self.reset(CloseReason::PartnerGone, context),
            Mail::Drain { deadline } => self.begin_drain(deadline, context),
            // Nothing else is sent to a tunnel; what it carries is given back by dropping it.
            _ => {}
        }
    }

    fn on_partner_failed<A: Proxy>(&mut self, timed_out: bool, context: &mut Context<'_, A>) {
        self.partner = None;
        self.attempts += 1;
        let why = if timed_out { CloseReason::ConnectTimeout } else { CloseReason::ConnectFailed };
        if self.attempts < ATTEMPTS_MAX {
            context.local.count(Count::Retries);
            return self.dial(why, context);
        }
        self.reset(why, context);
    }

    fn on_flushed<A: Proxy>(&mut self, written: usize, queued: usize, context: &mut Context<'_, A>) {
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        self.unwritten_bytes = self.unwritten_bytes.saturating_sub(written);
        self.owed_bytes = self.owed_bytes.saturating_add(written);
        context.mark_active();
        if (queued == 0 || self.owed_bytes >= window_bytes(context.local) / 4) && !self.partner_ended {
            let bytes = std::mem::take(&mut self.owed_bytes);
            self.tell(Mail::Credit { bytes }, context);
        }
    }

    fn on_end<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.ended = true;
        self.tell(Mail::End, context);
        self.arm_half_closed(context);
    }

    /// A direction that is left alone has a time of its own.
    fn arm_half_closed<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.side == Side::Client {
            let half_closed_ms = context.local.shared.plan.timeouts.half_closed_ms;
            self.arm(context.now.after_ms(half_closed_ms), context);
        }
    }

    fn on_deadline<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.armed = None;
        if self.drain_deadline.is_some_and(|deadline| deadline <= context.now) {
            self.tell(Mail::PartnerGone, context);
            return self.close(CloseReason::DrainDeadline, context);
        }
        if self.side == Side::Client {
            self.judge_idle(context);
        }
        if let Some(deadline) = self.drain_deadline.filter(|_| !self.closed) {
            self.arm(deadline, context);
        }
    }

    /// The client's side keeps the time of both: what comes from the server is activity here too.
    fn judge_idle<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let timeouts = &context.local.shared.plan.timeouts;
        let half_closed = self.ended || self.partner_ended;
        let limit_ms = if half_closed { timeouts.half_closed_ms } else { timeouts.idle_ms };
        let due = context.last_active.after_ms(limit_ms);
        if due <= context.now {
            self.tell(Mail::PartnerGone, context);
            return self.close(CloseReason::IdleTimeout, context);
        }
        self.arm(due, context);
    }

    /// Is to end by `deadline`: a tunnel has no quiet point that this side could know.
    fn begin_drain<A: Proxy>(&mut self, deadline: Time, context: &mut Context<'_, A>) {
        self.drain_deadline = Some(deadline);
        self.arm(deadline, context);
    }

    fn arm<A: Proxy>(&mut self, at: Time, context: &mut Context<'_, A>) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            context.set_deadline(Some(at));
        }
    }

    fn tell<A: Proxy>(&self, mail: Mail, context: &mut Context<'_, A>) {
        if let Some(partner) = self.partner {
            context.send(partner, mail);
        }
    }

    /// Once both directions have ended and everything is written, nothing is left.
    fn close_if_done<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.ended && self.partner_ended && self.unwritten_bytes == 0 && !self.closed {
            self.close(CloseReason::PeerClosed, context);
        }
    }

    fn close<A: Proxy>(&mut self, reason: CloseReason, context: &mut Context<'_, A>) {
        self.closed = true;
        context.close(reason.index() as u8);
    }

    fn reset<A: Proxy>(&mut self, reason: CloseReason, context: &mut Context<'_, A>) {
        self.closed = true;
        context.reset(reason.index() as u8);
    }
}

/// How often a connect is tried in all.
const ATTEMPTS_MAX: u8 = 3;

/// Bytes in flight in one direction.
fn window_bytes(local: &Worker) -> u32 {
    u32::try_from(local.shared.plan.limits.tunnel_credit_bytes).unwrap_or(u32::MAX).max(1)
}

impl<A: Proxy> Machine<A> for Tunnel {
    fn on(&mut self, input: Input<'_, A>, context: &mut Context<'_, A>) {
        match input {
            Input::Opened => self.on_opened(context),
            Input::Failed(error) => self.on_failed(error, context),
            Input::Bytes(incoming) => self.on_bytes(incoming, context),
            Input::Mail { mail, .. } => self.on_mail(mail, context),
            Input::Bounced { mail: Mail::Data { .. } | Mail::End | Mail::TunnelOpened, .. } => {
                self.reset(CloseReason::PartnerGone, context);
            }
            Input::Bounced { .. } => {}
            Input::Deadline => self.on_deadline(context),
            Input::Flushed { written, queued } => self.on_flushed(written, queued, context),
            Input::EndOfStream => self.on_end(context),
            Input::Lost(_) => {
                self.closed = true;
                self.tell(Mail::PartnerGone, context);
            }
        }
        self.close_if_done(context);
    }

    fn freeze(&self) -> Freeze {
        if !self.is_open || self.closed {
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
            drain_deadline_ms: self.drain_deadline.map(Time::as_ms),
        };
        freeze(Kind::Tunnel, &state, partners.0)
    }
}

/// The state of a frozen side; the partner by position.
#[derive(Serialize, Deserialize)]
struct FrozenTunnel {
    side: Side,
    ended: bool,
    partner_ended: bool,
    origin: u16,
    partner: Option<u32>,
    bytes: [u32; 3],
    endpoint: Option<(std::net::SocketAddr, u32, u32)>,
    armed_ms: Option<u64>,
    drain_deadline_ms: Option<u64>,
}

impl Tunnel {
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
            is_open: true,
            ended: state.ended,
            partner_ended: state.partner_ended,
            credit_bytes,
            owed_bytes,
            unwritten_bytes,
            armed: state.armed_ms.map(Time::from_ms),
            drain_deadline: state.drain_deadline_ms.map(Time::from_ms),
            ..Tunnel::new(state.side, state.origin, other, place)
        })
    }
}
