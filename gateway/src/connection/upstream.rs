//! A connection to a server: gives requests ids of its own, waits for their replies, sends each to whoever asked.
//!
//! Shared connections carry the requests of many clients; a bound one belongs to one client, so the server can call it.
//! While connecting it queues, and what was not written comes back to its sender as unsent. It does not choose endpoints,
//! does not retry, and knows no client's id. Opened by `dial`, called by the engine.

use std::collections::VecDeque;
use std::sync::Arc;

use bowline_engine::buf::Piece;
use bowline_engine::machine::{Address, Context, Frozen, Incoming, Input, Machine, ThawError};
use bowline_engine::machine::{Freeze, OpenError};
use bowline_engine::time::Time;
use bowline_protocols::CONTROL_BYTES_MAX;
use bowline_protocols::bolt::frame::rewrite_id;
use bowline_protocols::bolt::{self, Decoded, Frame, Version};
use serde::{Deserialize, Serialize};

use crate::cluster::Endpoint;
use crate::cluster::Link;
use crate::cluster::Place;
use crate::config::plan::ClusterPlan;
use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::Asker;
use crate::exchange::Cause;
use crate::exchange::Meter;
use crate::exchange::Waiting;
use crate::logging;
use crate::mail::Mail;
use crate::mail::Run;
use crate::metrics::Count;
use crate::worker::Proxy;
use crate::worker::Worker;

use super::frames::{each_frame, next_frame, only_frame};
use super::state::{Kind, Partners, State, close_reason, freeze, partner, thaw};

/// One connection to a server.
///
/// ```text
/// Connecting ──opened──▶ Open ──goaway, removed──▶ Leaving ──last reply──▶ closed
///      └──failed: everything queued comes back unsent
/// ```
#[derive(Debug)]
pub struct Upstream {
    phase: Phase,
    cluster: u16,
    version: Version,
    /// The client that this connection is bound to.
    owner: Option<Address>,
    link: Arc<Link>,
    /// Room at the endpoint for everything in flight here.
    place: Place,
    waiting: Waiting,
    /// Calls of the server that its client has not answered yet.
    callbacks: u32,
    /// Requests until the connection is there.
    queue: VecDeque<Queued>,
    /// Oneway requests in the output: where they end in all that was ever queued.
    oneways: VecDeque<Oneways>,
    queued_total: u64,
    /// When the heartbeat was sent that is not answered yet.
    beat_at: Option<Time>,
    misses: u32,
    meter: Meter,
    reading: bool,
    drain_deadline: Option<Time>,
    armed: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Connecting,
    Open,
    Leaving,
    Closed,
}

#[derive(Debug)]
struct Queued {
    from: Address,
    run: Run,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
struct Oneways {
    end: u64,
    from: Address,
    frames: u32,
    bytes: u32,
}

/// A run of replies that is being gathered at the front of the bytes.
struct Gathering {
    to: Address,
    bytes: usize,
    frames: u16,
}

impl Upstream {
    /// A connection to `endpoint` that is about to be opened for `cluster`.
    pub fn new(
        endpoint: Arc<Endpoint>,
        cluster: u16,
        version: Version,
        owner: Option<Address>,
        link: Arc<Link>,
    ) -> Upstream {
        Upstream {
            phase: Phase::Connecting,
            cluster,
            version,
            owner,
            link,
            place: Place::empty(endpoint),
            waiting: Waiting::default(),
            callbacks: 0,
            queue: VecDeque::new(),
            oneways: VecDeque::new(),
            queued_total: 0,
            beat_at: None,
            misses: 0,
            meter: Meter::default(),
            reading: true,
            drain_deadline: None,
            armed: None,
        }
    }

    fn plan<'a>(&self, local: &'a Worker) -> &'a ClusterPlan {
        local.shared.clusters[usize::from(self.cluster)].plan()
    }

    fn on_opened<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.phase = Phase::Open;
        self.place.endpoint().note_connected();
        context.local.count(Count::UpstreamConnectionsOpened);
        logging::connection_opened(context.me.as_u64(), context.peer, &self.plan(context.local).name);
        context.watch_output(true);
        context.set_state(State::Idle as u8);
        while let Some(queued) = self.queue.pop_front() {
            self.forward(queued.from, queued.run, queued.place, context);
        }
        let interval_ms = self.plan(context.local).heartbeat_interval_ms;
        self.arm(context.now.after_ms(interval_ms), context);
        if self.waiting.is_dirty() {
            self.arm(context.now.after_ms(SWEEP_MS), context);
        }
        // What is opened for a request while the gateway drains was not there when everybody was told.
        if let Some(deadline) = context.local.shared.drain_deadline() {
            self.begin_drain(deadline, context);
        }
    }

    /// Nothing was written: everything goes back.
    fn on_failed<A: Proxy>(&mut self, error: OpenError, context: &mut Context<'_, A>) {
        context.local.count(Count::UpstreamConnectFailures);
        // A lack of descriptors or ports here says nothing about the endpoint.
        if error != OpenError::Exhausted {
            let random = context.random();
            self.place.endpoint().note_unreachable(context.now, random);
        }
        self.give_up(context);
        self.tell_left(false, context);
    }

    /// Tells the client that this connection is bound to.
    fn tell_left<A: Proxy>(&self, lost: bool, context: &mut Context<'_, A>) {
        if let Some(owner) = self.owner {
            context.send(owner, Mail::Left { lost });
        }
    }

    /// Takes no more and tells everyone who waits.
    fn give_up<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.phase = Phase::Closed;
        self.link.shut();
        while let Some(queued) = self.queue.pop_front() {
            context.send(queued.from, Mail::Unsent { run: queued.run, why: Failure::ConnectFailed });
        }
        self.waiting.sweep();
        for asker in self.waiting.take_all() {
            context.send(asker.downstream, Mail::Failed { key: asker.key, why: Failure::UpstreamLost });
        }
        for oneways in self.oneways.drain(..) {
            context.send(oneways.from, Mail::Written { frames: oneways.frames, bytes: oneways.bytes });
        }
    }

    /// Closes for `reason`; whoever waits is told, and the client that this connection is bound to.
    fn close<A: Proxy>(&mut self, reason: CloseReason, context: &mut Context<'_, A>) {
        let lost = self.phase == Phase::Open;
        self.give_up(context);
        if reason != CloseReason::PartnerGone {
            self.tell_left(lost, context);
        }
        context.close(reason.index() as u8);
    }

    fn on_lost<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let lost = self.phase == Phase::Open;
        self.give_up(context);
        self.tell_left(lost, context);
    }

    fn on_requests<A: Proxy>(
        &mut self,
        from: Address,
        mut run: Run,
        place: Place,
        context: &mut Context<'_, A>,
    ) {
        match self.phase {
            Phase::Open => self.forward(from, run, place, context),
            Phase::Connecting if context.keep(&mut run.piece) => {
                self.queue.push_back(Queued { from, run, place });
            }
            Phase::Connecting => context.send(from, Mail::Unsent { run, why: Failure::MemoryCeiling }),
            Phase::Leaving | Phase::Closed => {
                context.send(from, Mail::Unsent { run, why: Failure::ConnectFailed });
            }
        }
    }

    /// Writes requests under ids of this connection.
    fn forward<A: Proxy>(&mut self, from: Address, run: Run, place: Place, context: &mut Context<'_, A>) {
        context.count_requests(u32::from(run.frames));
        let mut piece = run.piece;
        let (mut frames, mut bytes) = (0, 0);
        let waiting = &mut self.waiting;
        each_frame(&mut piece, &context.local.shared.limits, |frame, own| {
            let id = if frame.kind == bolt::Kind::Request {
                waiting.enter(Asker { downstream: from, key: frame.id })
            } else {
                frames += 1;
                bytes += frame.total_bytes;
                waiting.fresh_id()
            };
            rewrite_id(own, frame, id);
        });
        self.place.merge(place);
        self.queued_total += piece.len() as u64;
        if frames > 0 {
            self.place.end_requests(frames);
            self.oneways.push_back(Oneways { end: self.queued_total, from, frames, bytes });
        }
        context.local.shard().add(Count::UpstreamWrittenBytes, piece.len() as u64);
        context.write(piece);
    }

    fn on_bytes<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
        self.note_alive();
        let before = incoming.len();
        let limits = context.local.shared.limits;
        let mut gathering: Option<Gathering> = None;
        let mut ended = 0;
        while self.phase != Phase::Closed {
            let at = gathering.as_ref().map_or(0, |gathering| gathering.bytes);
            let bytes = &mut incoming.bytes()[at..];
            let frame = match next_frame(bytes, &limits) {
                Ok(Decoded::Frame(frame)) => frame,
                Ok(Decoded::Need(need)) => {
                    send_replies(&mut gathering, incoming, context);
                    if !incoming.is_empty() {
                        context.need(need);
                    }
                    break;
                }
                Err(fault) => {
                    send_replies(&mut gathering, incoming, context);
                    self.place.end_requests(std::mem::take(&mut ended));
                    self.close(close_reason(fault), context);
                    break;
                }
            };
            if frame.kind == bolt::Kind::Response {
                if let Some(asker) = self.waiting.leave(frame.id) {
                    ended += 1;
                    if frame.head_fault().is_none() {
                        let own = &mut bytes[..frame.total_bytes as usize];
                        rewrite_id(own, &frame, asker.key);
                        gather(asker.downstream, &frame, &mut gathering, incoming, context);
                        continue;
                    }
                    // Java would misread its lengths and lose the whole connection.
                    let why = Failure::HeadTooLarge;
                    send_replies(&mut gathering, incoming, context);
                    context.send(asker.downstream, Mail::Failed { key: asker.key, why });
                } else {
                    context.local.count(Count::LateReplies);
                }
            }
            send_replies(&mut gathering, incoming, context);
            self.on_other(&frame, incoming, context);
        }
        context.local.shard().add(Count::UpstreamReadBytes, (before - incoming.len()) as u64);
        self.place.end_requests(ended);
        self.close_if_left(context);
    }

    /// The frame at the front, which is not passed on as a reply.
    fn on_other<A: Proxy>(
        &mut self,
        frame: &Frame,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_, A>,
    ) {
        let total = frame.total_bytes as usize;
        match frame.kind {
            bolt::Kind::Request | bolt::Kind::Oneway => return self.on_call(frame, incoming, context),
            bolt::Kind::Heartbeat => self.on_heartbeat(frame, context),
            bolt::Kind::Goaway => self.on_goaway(context),
            bolt::Kind::Response | bolt::Kind::HeartbeatAck => {}
        }
        incoming.consume(total);
    }

    /// The server calls: its client, if this connection is bound to one that can read the frame.
    fn on_call<A: Proxy>(
        &mut self,
        frame: &Frame,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_, A>,
    ) {
        let total = frame.total_bytes as usize;
        let why = match self.owner {
            // Java would misread its lengths and lose the whole connection.
            Some(_) if frame.head_fault().is_some() => Failure::HeadTooLarge,
            Some(owner) => {
                self.callbacks += u32::from(frame.kind == bolt::Kind::Request);
                let piece = incoming.take(total);
                return context.send(owner, Mail::Callback { piece });
            }
            None => Failure::CallbackOnShared,
        };
        incoming.consume(total);
        self.refuse_call(frame, why, context);
    }

    /// Answers a call of the server with its failure; a oneway one is only counted.
    fn refuse_call<A: Proxy>(&mut self, frame: &Frame, why: Failure, context: &mut Context<'_, A>) {
        context.local.fail(why);
        if frame.kind == bolt::Kind::Request {
            let mut out = [0; CONTROL_BYTES_MAX];
            let length = Cause::of(frame).refuse(why, &mut out);
            self.write_control(&out[..length], context);
        }
    }

    fn on_heartbeat<A: Proxy>(&mut self, frame: &Frame, context: &mut Context<'_, A>) {
        if !self.meter.count(context.now, context.local.shared.plan.limits.heartbeat_rate_max) {
            return self.close(CloseReason::HeartbeatFlood, context);
        }
        let mut out = [0; CONTROL_BYTES_MAX];
        let length = bolt::encode_heartbeat_ack(frame, &mut out);
        self.write_control(&out[..length], context);
    }

    fn on_goaway<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        context.local.count(Count::GoawaysReceived);
        self.leave(context);
    }

    /// Takes no new requests; ends with the last reply.
    fn leave<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Leaving;
        self.link.shut();
        context.set_state(State::Ending as u8);
        if let Some(owner) = self.owner {
            context.send(owner, Mail::Leaving);
        }
    }

    fn close_if_left<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.phase == Phase::Leaving && self.waiting.is_empty() && self.callbacks == 0 {
            let removed = self.place.endpoint().is_removed();
            let reason = if removed { CloseReason::EndpointRemoved } else { CloseReason::UpstreamGoaway };
            self.close(reason, context);
        }
    }

    /// Writes a few bytes of ours; without memory for them the connection ends.
    fn write_control<A: Proxy>(&mut self, bytes: &[u8], context: &mut Context<'_, A>) {
        self.queued_total += bytes.len() as u64;
        if !context.write_copy(bytes) {
            self.close(CloseReason::MemoryCeiling, context);
        }
    }

    /// Gives up on a server that asks and does not take the answers: requests have their places, answers to its own
    /// calls and heartbeats are bounded here.
    fn judge_output<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let fresh: usize = context.effects.output.iter().map(|piece| piece.len()).sum();
        let answers = (context.output_bytes + fresh).saturating_sub(self.place.bytes() as usize);
        if answers > ANSWER_BYTES_MAX && self.phase != Phase::Closed {
            self.close(CloseReason::SlowReader, context);
            context.reset(CloseReason::SlowReader.index() as u8);
        }
    }

    fn on_mail<A: Proxy>(&mut self, from: Address, mail: Mail, context: &mut Context<'_, A>) {
        match mail {
            Mail::Requests { run, place } => self.on_requests(from, run, place, context),
            Mail::Cancel { key } => self.on_cancel(from, key, context),
            Mail::CallbackReply { piece } => self.on_callback_reply(piece, context),
            Mail::Pace { reading } => {
                self.reading = reading;
                self.note_alive();
                context.set_reading(reading);
            }
            Mail::PartnerGone => self.close(CloseReason::PartnerGone, context),
            Mail::Drain { deadline } => self.begin_drain(deadline, context),
            // Nothing else is sent to an upstream; what it carries is given back by dropping it.
            _ => {}
        }
    }

    /// The client has answered a call, or nobody will.
    fn on_callback_reply<A: Proxy>(&mut self, piece: Option<Piece>, context: &mut Context<'_, A>) {
        self.callbacks = self.callbacks.saturating_sub(1);
        if let Some(piece) = piece {
            self.queued_total += piece.len() as u64;
            context.write(piece);
        }
        self.close_if_left(context);
    }

    fn on_cancel<A: Proxy>(&mut self, from: Address, key: Option<u32>, context: &mut Context<'_, A>) {
        let limits = context.local.shared.limits;
        // One request of many is sent all the same, and its answer dropped: each that times out would search the whole queue.
        if key.is_none() || self.queue.len() <= SEARCHED_MAX {
            self.queue.retain(|queued| {
                let only = |key| {
                    queued.run.frames == 1
                        && only_frame(&queued.run.piece, &limits)
                            .is_some_and(|frame| frame.id == key && frame.kind == bolt::Kind::Request)
                };
                queued.from != from || key.is_some_and(|key| !only(key))
            });
        }
        self.waiting.cancel(from, key);
        if self.phase != Phase::Connecting {
            self.arm(context.now.after_ms(SWEEP_MS), context);
        }
    }

    /// The receiver was gone.
    fn on_bounced<A: Proxy>(&mut self, mail: Mail, context: &mut Context<'_, A>) {
        match mail {
            Mail::Replies { frames, .. } => {
                context.local.shard().add(Count::LateReplies, u64::from(frames));
            }
            Mail::Callback { piece } => {
                if let Some(frame) = only_frame(&piece, &context.local.shared.limits) {
                    self.callbacks =
                        self.callbacks.saturating_sub(u32::from(frame.kind == bolt::Kind::Request));
                    self.refuse_call(&frame, Failure::CallbackLost, context);
                    self.close_if_left(context);
                }
            }
            _ => {}
        }
    }

    fn on_flushed<A: Proxy>(&mut self, queued: usize, context: &mut Context<'_, A>) {
        self.place.keep_bytes(queued);
        let written = self.queued_total.saturating_sub(queued as u64);
        while let Some(oneways) = self.oneways.front().copied().filter(|oneways| oneways.end <= written) {
            self.oneways.pop_front();
            context.send(oneways.from, Mail::Written { frames: oneways.frames, bytes: oneways.bytes });
        }
    }

    fn on_deadline<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.armed = None;
        if self.phase == Phase::Connecting {
            // What is queued is not entered yet, so what was cancelled of it must not be forgotten.
            return self.drain(context);
        }
        let forgotten = self.waiting.sweep();
        self.place.end_requests(forgotten);
        if self.place.endpoint().is_removed() {
            self.leave(context);
        }
        self.drain(context);
        self.close_if_left(context);
        if self.phase != Phase::Closed {
            self.beat(context);
        }
    }

    /// Is to end once no client is left, at the latest at `deadline`.
    fn begin_drain<A: Proxy>(&mut self, deadline: Time, context: &mut Context<'_, A>) {
        self.drain_deadline = Some(deadline);
        self.arm(context.now.after_ms(DRAIN_POLL_MS), context);
    }

    fn drain<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(deadline) = self.drain_deadline else { return };
        let clients = context.local.shared.downstreams();
        if context.now >= deadline {
            self.close(CloseReason::DrainDeadline, context);
        } else if clients == 0 && self.waiting.is_empty() && self.owner.is_none() {
            self.close(CloseReason::Drain, context);
        } else {
            self.arm(context.now.after_ms(DRAIN_POLL_MS).min(deadline), context);
        }
    }

    /// No heartbeat is missing.
    fn note_alive(&mut self) {
        (self.beat_at, self.misses) = (None, 0);
    }

    /// Asks a silent server whether it is alive, and gives up on one that does not say so.
    fn beat<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let plan = self.plan(context.local);
        let (interval_ms, timeout_ms) = (plan.heartbeat_interval_ms, plan.heartbeat_timeout_ms);
        let misses_max = plan.heartbeat_misses_max;
        if self.beat_at.is_some_and(|beat_at| beat_at < context.last_active) {
            // A large frame is arriving, of which nothing is offered before all of it is there.
            self.note_alive();
        }
        let due = match self.beat_at {
            None => context.last_active.after_ms(interval_ms),
            Some(beat_at) => beat_at.after_ms(timeout_ms),
        };
        if !self.reading || context.held_back {
            // An answer that this side did not read is not missing.
            self.beat_at = None;
            return self.arm(context.now.after_ms(interval_ms), context);
        }
        if context.now < due {
            return self.arm(due, context);
        }
        if self.beat_at.is_some() {
            self.misses += 1;
            context.local.count(Count::HeartbeatsMissed);
            if self.misses >= misses_max {
                return self.close(CloseReason::HeartbeatMissed, context);
            }
        }
        self.beat_at = Some(context.now);
        let mut out = [0; CONTROL_BYTES_MAX];
        let id = self.waiting.fresh_id();
        let length = bolt::encode_heartbeat(self.version, id, &mut out);
        context.local.count(Count::HeartbeatsSent);
        self.write_control(&out[..length], context);
        self.arm(context.now.after_ms(timeout_ms), context);
    }

    /// Asks to be called at `at`, unless an earlier call is due.
    fn arm<A: Proxy>(&mut self, at: Time, context: &mut Context<'_, A>) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            context.set_deadline(Some(at));
        }
    }

    fn on_end<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let reason =
            if context.input_bytes > 0 { CloseReason::PeerClosedMidFrame } else { CloseReason::PeerClosed };
        self.close(reason, context);
    }
}

/// Adds the reply to the run for `to`, which is sent first if it is another's.
fn gather<A: Proxy>(
    to: Address,
    frame: &Frame,
    gathering: &mut Option<Gathering>,
    incoming: &mut Incoming<'_>,
    context: &mut Context<'_, A>,
) {
    if let Some(run) = gathering.as_ref().filter(|run| run.to != to || run.frames == u16::MAX) {
        debug_assert!(run.frames > 0, "a run is not empty");
        send_replies(gathering, incoming, context);
    }
    let run = gathering.get_or_insert(Gathering { to, bytes: 0, frames: 0 });
    run.bytes += frame.total_bytes as usize;
    run.frames += 1;
}

/// Sends the run that was gathered, if any.
fn send_replies<A: Proxy>(
    gathering: &mut Option<Gathering>,
    incoming: &mut Incoming<'_>,
    context: &mut Context<'_, A>,
) {
    if let Some(run) = gathering.take() {
        let piece = incoming.take(run.bytes);
        context.send(run.to, Mail::Replies { piece, frames: run.frames });
    }
}

impl<A: Proxy> Machine<A> for Upstream {
    fn on(&mut self, input: Input<'_, A>, context: &mut Context<'_, A>) {
        let before = self.waiting.len();
        match input {
            Input::Opened => self.on_opened(context),
            Input::Failed(error) => self.on_failed(error, context),
            Input::Bytes(incoming) => self.on_bytes(incoming, context),
            Input::Mail { from, mail } => self.on_mail(from, mail, context),
            Input::Bounced { mail, .. } => self.on_bounced(mail, context),
            Input::Deadline => self.on_deadline(context),
            Input::Flushed { queued, .. } => self.on_flushed(queued, context),
            Input::EndOfStream => self.on_end(context),
            Input::Lost(_) => self.on_lost(context),
        }
        self.judge_output(context);
        if self.waiting.len() != before {
            context.set_in_flight(self.waiting.len());
            if self.phase == Phase::Open {
                let state = if self.waiting.is_empty() { State::Idle } else { State::Active };
                context.set_state(state as u8);
            }
        }
    }

    fn freeze(&self) -> Freeze {
        if matches!(self.phase, Phase::Connecting | Phase::Closed) || !self.queue.is_empty() {
            return Freeze::NotYet { why: "the upstream connection is being opened or closed" };
        }
        let mut partners = Partners::default();
        let asked = self.waiting.entries().into_iter();
        let asked = asked.map(|(id, asker)| (id, partners.position(asker.downstream), asker.key)).collect();
        let oneways = self.oneways.iter();
        let oneways =
            oneways.map(|one| (one.end, partners.position(one.from), one.frames, one.bytes)).collect();
        let cancelled = self.waiting.cancelled();
        let cancelled = cancelled.iter().map(|(from, key)| (partners.position(*from), *key)).collect();
        let state = FrozenUpstream {
            phase: self.phase,
            cluster: self.cluster,
            pool_key: self.version.pool_key(),
            endpoint: self.place.endpoint().address(),
            owner: self.owner.map(|owner| partners.position(owner)),
            place: (self.place.requests(), self.place.bytes()),
            last_id: self.waiting.last_id(),
            queued_total: self.queued_total,
            callbacks: self.callbacks,
            beat_at_ms: self.beat_at.map(Time::as_ms),
            misses: self.misses,
            meter: self.meter,
            reading: self.reading,
            drain_deadline_ms: self.drain_deadline.map(Time::as_ms),
            armed_ms: self.armed.map(Time::as_ms),
            asked,
            oneways,
            cancelled,
        };
        freeze(Kind::Upstream, &state, partners.0)
    }
}

/// The state of a frozen upstream connection; partners by position.
#[derive(Serialize, Deserialize)]
struct FrozenUpstream {
    phase: Phase,
    cluster: u16,
    pool_key: (u8, u8),
    endpoint: std::net::SocketAddr,
    owner: Option<u32>,
    place: (u32, u32),
    last_id: u32,
    queued_total: u64,
    callbacks: u32,
    beat_at_ms: Option<u64>,
    misses: u32,
    meter: Meter,
    reading: bool,
    drain_deadline_ms: Option<u64>,
    armed_ms: Option<u64>,
    asked: Vec<(u32, u32, u32)>,
    oneways: Vec<(u64, u32, u32, u32)>,
    cancelled: Vec<(u32, Option<u32>)>,
}

impl Upstream {
    /// The connection that `frozen` describes.
    pub fn thaw(local: &Worker, frozen: &Frozen) -> Result<Upstream, ThawError> {
        let state: FrozenUpstream = thaw(frozen)?;
        let cluster = local.shared.clusters.get(usize::from(state.cluster));
        let cluster = cluster.ok_or_else(|| ThawError("its cluster is not configured".to_owned()))?;
        let version = Version::from_pool_key(state.pool_key);
        let version = version.ok_or_else(|| ThawError("its version is unknown".to_owned()))?;
        let owner = state.owner.map(|position| partner(frozen, position)).transpose()?;
        let link = Arc::new(Link::default());
        let mut machine =
            Upstream::new(cluster.endpoint_at(state.endpoint), state.cluster, version, owner, link);
        let mut asked = Vec::with_capacity(state.asked.len());
        for (id, position, key) in state.asked {
            asked.push((id, Asker { downstream: partner(frozen, position)?, key }));
        }
        machine.waiting = Waiting::restore(asked.into_iter(), state.last_id);
        for (position, key) in state.cancelled {
            machine.waiting.cancel(partner(frozen, position)?, key);
        }
        for (end, position, frames, bytes) in state.oneways {
            machine.oneways.push_back(Oneways { end, from: partner(frozen, position)?, frames, bytes });
        }
        let endpoint = Arc::clone(machine.place.endpoint());
        machine.place = Place::again(endpoint, state.place.0, state.place.1);
        machine.phase = state.phase;
        machine.queued_total = state.queued_total;
        machine.callbacks = state.callbacks;
        machine.beat_at = state.beat_at_ms.map(Time::from_ms);
        machine.misses = state.misses;
        machine.meter = state.meter;
        machine.reading = state.reading;
        machine.drain_deadline = state.drain_deadline_ms.map(Time::from_ms);
        machine.armed = state.armed_ms.map(Time::from_ms);
        Ok(machine)
    }
}

/// Answers that may wait for a server to take them: one of the largest size beside smaller ones.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// A queue up to so long is searched for a request that nobody waits for any more.
const SEARCHED_MAX: usize = 64;
/// What was cancelled is forgotten together, so long after the first of it.
const SWEEP_MS: u64 = 20;
/// How often a draining connection looks whether clients are left.
const DRAIN_POLL_MS: u64 = 50;
