//! What a client sends: requests are admitted, routed and gathered into runs; heartbeats are answered at once; the
//! client's answers to callbacks go back to their server.

use bowline_engine::machine::{Address, Context, Incoming};
use bowline_protocols::CONTROL_BYTES_MAX;
use bowline_protocols::bolt::frame::rewrite_id;
use bowline_protocols::bolt::{self, Decoded, Frame};

use bowline_engine::buf::Pressure;

use crate::cluster::Place;
use crate::cluster::version_class;
use crate::config::plan::UpstreamMode;
use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::Cause;
use crate::exchange::Exchange;
use crate::exchange::FrameClock;
use crate::mail::Mail;
use crate::mail::Run;
use crate::metrics::Count;
use crate::route::Target;
use crate::worker::Proxy;

use super::super::dial;
use super::super::frames::next_frame;
use super::super::state::close_reason;
use super::Downstream;
use super::{
    FRAME_GRACE_MS, LARGE_RETRY_MS, ONEWAY_BYTES_MAX, PAUSED_BY_IN_FLIGHT, PAUSED_BY_LARGE_FRAME,
    PAUSED_BY_ONEWAY, PAUSED_BY_OUTPUT, in_flight_max, shed,
};

/// Requests at the front of the bytes that go to one connection as one mail.
struct Forming {
    to: Address,
    place: Place,
    cluster: u16,
    class: usize,
    bytes: usize,
    frames: u16,
}

impl Forming {
    /// Itself with room for `bytes` more, if there is any.
    fn extend(&mut self, bytes: usize) -> Option<&mut Forming> {
        let fits = self.frames < RUN_FRAMES_MAX && self.bytes < RUN_BYTES_MAX;
        (fits && self.place.extend(bytes)).then_some(self)
    }
}

/// What became of a request.
enum Admitted {
    /// It is part of the run that is forming.
    Joined,
    /// It begins another run.
    Began(Forming),
}

impl Downstream {
    pub(super) fn on_bytes<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
        let before = incoming.len();
        let limits = context.local.shared.limits;
        let mut forming: Option<Forming> = None;
        let mut needed = 0;
        while !self.closed && self.paused == 0 {
            let at = forming.as_ref().map_or(0, |run| run.bytes);
            let bytes = &mut incoming.bytes()[at..];
            if bytes.is_empty() {
                break;
            }
            let frame = match next_frame(bytes, &limits) {
                Ok(Decoded::Frame(frame)) => frame,
                Ok(Decoded::Need(need)) => {
                    needed = need;
                    break;
                }
                Err(fault) => {
                    send(&mut forming, incoming, context);
                    self.close(close_reason(fault), context);
                    break;
                }
            };
            self.version = frame.version.pool_key();
            if !matches!(frame.kind, bolt::Kind::Request | bolt::Kind::Oneway) {
                send(&mut forming, incoming, context);
                self.on_other(&frame, incoming, context);
                continue;
            }
            let own = &mut bytes[..frame.total_bytes as usize];
            match self.admit(&frame, own, &mut forming, context) {
                Ok(Admitted::Joined) => {}
                Ok(Admitted::Began(run)) => {
                    send(&mut forming, incoming, context);
                    forming = Some(run);
                }
                Err(failure) => {
                    send(&mut forming, incoming, context);
                    self.log_refused(&frame, incoming.bytes(), failure, context);
                    incoming.consume(frame.total_bytes as usize);
                    self.refuse(&frame, failure, context);
                }
            }
        }
        send(&mut forming, incoming, context);
        let consumed = before - incoming.len();
        context.local.shard().add(Count::DownstreamReadBytes, consumed as u64);
        self.await_rest(needed, consumed > 0, incoming.len(), context);
    }

    /// Finds a way for a request and counts it in flight; its id in `own` is its key afterwards.
    fn admit<A: Proxy>(
        &mut self,
        frame: &Frame,
        own: &mut [u8],
        forming: &mut Option<Forming>,
        context: &mut Context<'_, A>,
    ) -> Result<Admitted, Failure> {
        context.count_request();
        context.local.count(Count::Requests);
        let shared = &context.local.shared;
        let target = shared.targets.find(self.listener, frame, own, &shared.limits)?;
        if context.pool.pressure() == Pressure::Ceiling {
            shed(context);
            return Err(Failure::MemoryCeiling);
        }
        let class = version_class(frame.version);
        let joined = forming.as_mut().filter(|run| run.cluster == target.cluster && run.class == class);
        if let Some(run) = joined.and_then(|run| run.extend(own.len())) {
            if let Err(failure) = self.enter(frame, own, &target, run.to, context) {
                run.place.end_requests(1);
                return Err(failure);
            }
            run.bytes += own.len();
            run.frames += 1;
            return Ok(Admitted::Joined);
        }
        let (to, place) = self.way(target.cluster, frame, context)?;
        self.enter(frame, own, &target, to, context)?;
        let run = Forming { to, place, cluster: target.cluster, class, bytes: own.len(), frames: 1 };
        Ok(Admitted::Began(run))
    }

    /// The connection that a request takes, and its place there.
    pub(super) fn way<A: Proxy>(
        &mut self,
        cluster: u16,
        frame: &Frame,
        context: &mut Context<'_, A>,
    ) -> Result<(Address, Place), Failure> {
        let bytes = frame.total_bytes as usize;
        let plan = context.local.shared.clusters[usize::from(cluster)].plan();
        if plan.mode == UpstreamMode::Shared {
            return dial::shared(cluster, frame.version, bytes, context);
        }
        let class = version_class(frame.version) as u8;
        let fits = |bound: &&crate::exchange::Bound| {
            bound.cluster == cluster && bound.class == class && !bound.leaving
        };
        if let Some(bound) = self.load.as_ref().and_then(|load| load.bound.iter().find(fits)) {
            let place = Place::take(&bound.endpoint, bytes).ok_or(Failure::Overflow)?;
            return Ok((bound.upstream, place));
        }
        let (bound, place) = dial::bound(cluster, frame.version, bytes, context)?;
        let upstream = bound.upstream;
        self.load(context).bound.push(bound);
        if self.paused & PAUSED_BY_OUTPUT != 0 {
            // A request that is tried again while its client takes nothing.
            context.send(upstream, Mail::Pace { reading: false });
        }
        Ok((upstream, place))
    }

    /// Counts a request in flight under a key of its own, which takes the place of its id.
    fn enter<A: Proxy>(
        &mut self,
        frame: &Frame,
        own: &mut [u8],
        target: &Target,
        upstream: Address,
        context: &mut Context<'_, A>,
    ) -> Result<(), Failure> {
        let in_flight_max = in_flight_max(&context.local.shared.plan.limits);
        if frame.kind == bolt::Kind::Oneway {
            context.local.count(Count::RequestsOneway);
            self.log_oneway(frame, own, target.cluster, context);
            let load = self.load(context);
            load.oneway.frames += 1;
            load.oneway.bytes += u64::from(frame.total_bytes);
            if load.oneway.frames as usize >= in_flight_max || load.oneway.bytes >= ONEWAY_BYTES_MAX {
                self.pause(PAUSED_BY_ONEWAY, context);
            }
            return Ok(());
        }
        let timeout_ms = frame.deadline_ms().map_or(target.timeout_ms, u64::from);
        let (began, deadline) = (context.now, context.now.after_ms(timeout_ms));
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let (cluster, request_bytes) = (target.cluster, frame.total_bytes);
        let cause = Cause::of(frame);
        let exchange = Exchange { cause, sequence, cluster, request_bytes, upstream, deadline, began };
        let load = self.load(context);
        let key = load.exchanges.insert(exchange).ok_or(Failure::Overflow)?;
        let full = load.exchanges.len() >= in_flight_max;
        self.note_service(key, frame, own, context);
        rewrite_id(own, frame, key);
        if full {
            self.pause(PAUSED_BY_IN_FLIGHT, context);
        }
        self.arm(deadline, context);
        Ok(())
    }

    /// Answers a request that goes nowhere; a oneway one is only counted.
    pub(super) fn refuse<A: Proxy>(&mut self, frame: &Frame, failure: Failure, context: &mut Context<'_, A>) {
        if frame.kind == bolt::Kind::Request {
            self.answer_failure(&Cause::of(frame), failure, context);
        } else {
            context.local.fail(failure);
        }
    }

    /// Anything but a request, at the front of the bytes.
    fn on_other<A: Proxy>(
        &mut self,
        frame: &Frame,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_, A>,
    ) {
        let total = frame.total_bytes as usize;
        match frame.kind {
            bolt::Kind::Heartbeat => self.on_heartbeat(frame, context),
            bolt::Kind::Response => return self.on_callback_answer(frame, incoming.take(total), context),
            bolt::Kind::HeartbeatAck => {}
            // Only a server says goodbye; a client that does speaks something else.
            _ => self.close(CloseReason::FrameUnexpected, context),
        }
        incoming.consume(total);
    }

    fn on_heartbeat<A: Proxy>(&mut self, frame: &Frame, context: &mut Context<'_, A>) {
        let rate_max = context.local.shared.plan.limits.heartbeat_rate_max;
        if !self.heartbeats.count(context.now, rate_max) {
            return self.close(CloseReason::HeartbeatFlood, context);
        }
        let mut out = [0; CONTROL_BYTES_MAX];
        let length = bolt::encode_heartbeat_ack(frame, &mut out);
        context.local.count(Count::HeartbeatsAnswered);
        self.write_control(&out[..length], context);
    }

    /// Says what has to arrive before the next offer, and lets the clock of the frame run.
    fn await_rest<A: Proxy>(
        &mut self,
        needed: usize,
        consumed: bool,
        rest: usize,
        context: &mut Context<'_, A>,
    ) {
        if self.closed {
            return;
        }
        if let Some(load) = self.load.as_mut().filter(|_| consumed || rest == 0) {
            (load.frame, load.reserved, load.wanted_bytes) = (None, None, 0);
        }
        if rest == 0 || needed == 0 {
            return;
        }
        let began = context.now;
        self.load(context).frame.get_or_insert(FrameClock { began, paused_at: None });
        let frame_timeout_ms = context.local.shared.plan.limits.frame_timeout_ms;
        self.arm(began.after_ms(frame_timeout_ms.min(FRAME_GRACE_MS)), context);
        match needed {
            0..=LARGE_FRAME_BYTES => context.need(needed),
            _ if rest < LARGE_FRAME_BYTES => context.need(LARGE_FRAME_BYTES),
            _ => self.reserve(needed, context),
        }
    }

    /// X2: a large frame goes on only with room for all of it.
    fn reserve<A: Proxy>(&mut self, needed: usize, context: &mut Context<'_, A>) {
        if self.try_reserve(needed, context) {
            return context.need(needed);
        }
        self.load(context).wanted_bytes = needed;
        self.pause(PAUSED_BY_LARGE_FRAME, context);
        self.arm(context.now.after_ms(LARGE_RETRY_MS), context);
    }

    /// True if the frame that is arriving has room for `needed` bytes.
    pub(super) fn try_reserve<A: Proxy>(&mut self, needed: usize, context: &mut Context<'_, A>) -> bool {
        if self.load(context).reserved.is_some() {
            return true;
        }
        let reserved = context.local.shared.large_frames.reserve(context.peer.ip(), needed);
        let has_room = reserved.is_some();
        self.load(context).reserved = reserved;
        has_room
    }
}

/// Sends the run that was forming, if any; it is what stands at the front of the bytes.
fn send<A: Proxy>(forming: &mut Option<Forming>, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
    if let Some(run) = forming.take() {
        let piece = incoming.take(run.bytes);
        let sent = Run { piece, frames: run.frames, cluster: run.cluster, attempts: 0 };
        context.send(run.to, Mail::Requests { run: sent, place: run.place });
    }
}

/// A frame above this is large (X2).
const LARGE_FRAME_BYTES: usize = 64 << 10;
/// Requests of one run: more are spread over endpoints again.
const RUN_FRAMES_MAX: u16 = 32;
/// A run of so many bytes takes no more requests.
const RUN_BYTES_MAX: usize = 32 << 10;
