//! One side of a plain TCP tunnel. Two of them carry bytes as mail, each as far as the other's credit reaches, so a slow
//! reader costs at most one window; each direction ends by itself.
//!
//! The client's side finds an endpoint, opens the server's side and takes no byte before that is connected, so a connect
//! that failed can be tried elsewhere. It looks into no byte, but for the first message of TLS where tunnels are routed by
//! that ([`opening`]). A WebSocket's sides follow where its frames end too, so that a drain can end it with a word
//! ([`parting`]).

mod due;
mod opening;
mod parting;
mod frozen;

use bowline_engine::buf::Piece;
use bowline_engine::machine::{Address, Context, Freeze, Incoming, Input, Machine};
use bowline_engine::time::Time;
use bowline_protocols::websocket::Frames;
use serde::{Deserialize, Serialize};

use crate::cluster::Place;
use crate::error::CloseReason;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::worker::Proxy;
use crate::worker::Worker;

use super::front::Arrived;
use super::state::State;

use due::Due;
use opening::Opening;
use parting::Parting;

/// One side of a tunnel.
///
/// ```text
/// Opening: Hello ──routed──▶ Dial ──the server's side is connected──▶ Open ──both ends seen, all written──▶ closed
///                             └──it could not be: tried elsewhere, at last reset
/// ```
#[derive(Debug)]
pub struct Tunnel {
    side: Side,
    stage: Stage,
    /// What few tunnels have to know at the beginning, or at the end.
    phase: Option<Box<Phase>>,
    /// Where the stream that this side writes stands, if it is a WebSocket's.
    frames: Option<Frames>,
    /// The own peer will send no more.
    ended: bool,
    /// The partner's peer will send no more.
    partner_ended: bool,
    /// The gateway drains, and that is why it must end.
    draining: bool,
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
    armed: Due,
    /// When it must have ended.
    must_end: Due,
}

/// How far a side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Bytes may not flow yet.
    Opening,
    /// They may.
    Open,
    /// It has said that it ends, or was told so.
    Closed,
}

/// What most of a tunnel's life needs no memory for. Nor does a plain beginning: thousands that open at once would each
/// leave a hole between machines that stay.
#[derive(Debug)]
enum Phase {
    /// Until bytes may flow.
    Opening(Opening),
    /// Once a WebSocket is to end with a word.
    Parting(Parting),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Side {
    Client,
    Server,
}

impl Tunnel {
    /// The connection that `listener` accepted.
    pub fn accepted(listener: u16, arrived: Arrived) -> Tunnel {
        let mut tunnel = Tunnel::new(Side::Client, listener, None, None);
        if arrived != Arrived::default() {
            tunnel.opening_mut().arrived = arrived;
        }
        tunnel
    }

    fn new(side: Side, origin: u16, partner: Option<Address>, place: Option<Place>) -> Tunnel {
        Tunnel {
            side,
            stage: Stage::Opening,
            phase: None,
            frames: None,
            ended: false,
            partner_ended: false,
            draining: false,
            origin,
            partner,
            credit_bytes: 0,
            owed_bytes: 0,
            unwritten_bytes: 0,
            place,
            armed: Due::default(),
            must_end: Due::default(),
        }
    }

    /// What an HTTP client's connection becomes once its server agreed to speak another protocol.
    pub(super) fn switched_client<A: Proxy>(
        listener: u16,
        server: Address,
        is_websocket: bool,
        context: &mut Context<'_, A>,
    ) -> Tunnel {
        let mut tunnel = Tunnel::new(Side::Client, listener, Some(server), None);
        tunnel.frames = is_websocket.then(Frames::default);
        context.local.count(Count::Tunnels);
        tunnel.begin_switched(context);
        tunnel.arm_times(context);
        tunnel
    }

    /// What the server's connection becomes.
    pub(super) fn switched_server<A: Proxy>(
        cluster: u16,
        client: Address,
        place: Option<Place>,
        is_websocket: bool,
        context: &mut Context<'_, A>,
    ) -> Tunnel {
        let mut tunnel = Tunnel::new(Side::Server, cluster, Some(client), place);
        tunnel.frames = is_websocket.then(Frames::default);
        context.set_deadline(None);
        tunnel.begin_switched(context);
        tunnel
    }

    fn begin_switched<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        context.watch_output(true);
        context.set_reading(true);
        context.set_in_flight(0);
        self.begin(context);
        if let Some(deadline) = context.local.shared.drain_deadline() {
            self.begin_drain(deadline, context);
        }
    }

    /// The client's side keeps both times: without a byte, and in all.
    fn arm_times<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let timeouts = context.local.shared.plan.timeouts;
        self.arm(context.now.after_ms(timeouts.idle_ms), context);
        if let Some(ms) = timeouts.tunnel_ms_max {
            let due = context.now.after_ms(ms);
            // A drain that began before may end it sooner.
            self.must_end.bring_to(due);
            self.arm(due, context);
        }
    }

    /// What is known beyond the plain beginning.
    fn opening(&self) -> Option<&Opening> {
        match self.phase.as_deref() {
            Some(Phase::Opening(opening)) => Some(opening),
            _ => None,
        }
    }

    /// The same, to write something down.
    fn opening_mut(&mut self) -> &mut Opening {
        debug_assert!(self.is_opening(), "a tunnel begins once");
        let phase = self.phase.get_or_insert_with(|| Box::new(Phase::Opening(Opening::default())));
        match &mut **phase {
            Phase::Opening(opening) => opening,
            Phase::Parting(_) => {
                unreachable!("only what is a WebSocket parts, and that is one once bytes flow")
            }
        }
    }

    fn is_opening(&self) -> bool {
        self.stage == Stage::Opening
    }

    fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Bytes may flow from now on.
    fn begin<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        (self.stage, self.phase) = (Stage::Open, None);
        self.credit_bytes = window_bytes(context.local);
        context.set_state(State::Active as u8);
    }

    fn on_bytes<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
        if self.is_opening() {
            return self.on_hello(incoming, context);
        }
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
                if self.ended {
                    self.tell(Mail::End, context);
                    self.arm_half_closed(context);
                }
            }
            Mail::TunnelFailed { why } => self.on_partner_failed(why, context),
            Mail::Data { piece } => self.on_data(piece, context),
            Mail::Credit { bytes } => {
                if self.credit_bytes == 0 {
                    context.set_reading(true);
                }
                self.credit_bytes = self.credit_bytes.saturating_add(bytes).min(window_bytes(context.local));
            }
            Mail::End => {
                self.say_last_word(context);
                self.partner_ended = true;
                // Where the last frame will never be whole, no goodbye is waited for.
                self.say_goodbye_if_asked(context);
                context.shutdown_write();
                self.arm_half_closed(context);
            }
            // A client may give its request up while its server agrees to an upgrade.
            Mail::PartnerGone | Mail::Cancel { .. } => self.on_partner_gone(context),
            Mail::Farewell => self.begin_parting(context.now.after_ms(answer_ms(context.local)), context),
            Mail::Drain { deadline } => self.begin_drain(deadline, context),
            // Nothing else is sent to a tunnel; what it carries is given back by dropping it.
            _ => {}
        }
    }

    /// Whether mail of `from` is for this tunnel: a connection of HTTP has others before it becomes one.
    fn is_heard(&self, from: Address) -> bool {
        from == Address::OUTSIDE || self.partner == Some(from)
    }

    /// The partner is not there any more, and did not say so.
    fn on_bounced<A: Proxy>(&mut self, mail: &Mail, context: &mut Context<'_, A>) {
        let is_gone = match mail {
            Mail::Data { .. } | Mail::End | Mail::TunnelOpened | Mail::HttpResponse { .. } => true,
            // Once both directions have ended it may be closed while this side still writes.
            Mail::Credit { .. } | Mail::Farewell => !(self.ended && self.partner_ended),
            _ => false,
        };
        if is_gone {
            self.on_partner_gone(context);
        }
    }

    fn on_data<A: Proxy>(&mut self, mut piece: Piece, context: &mut Context<'_, A>) {
        context.mark_active();
        if self.has_said_goodbye() {
            return self.discard(piece.len(), context);
        }
        let whole = piece.len();
        let kept = self.follow(&piece);
        piece.truncate(kept);
        let written = match self.side {
            Side::Client => Count::DownstreamWrittenBytes,
            Side::Server => Count::UpstreamWrittenBytes,
        };
        context.local.shard().add(written, kept as u64);
        self.unwritten_bytes += kept as u32;
        context.write(piece);
        self.say_goodbye_if_asked(context);
        debug_assert!(
            kept == whole || self.is_closed() || self.has_said_goodbye(),
            "only a goodbye cuts the stream"
        );
        self.discard(whole - kept, context);
    }

    fn on_flushed<A: Proxy>(&mut self, written: usize, queued: usize, context: &mut Context<'_, A>) {
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        self.unwritten_bytes = self.unwritten_bytes.saturating_sub(written);
        // The header that went first is given back too: credit never exceeds the window, so that is once, and not much.
        self.owed_bytes = self.owed_bytes.saturating_add(written);
        context.mark_active();
        if (queued == 0 || self.owed_bytes >= window_bytes(context.local) / 4) && !self.partner_ended {
            let bytes = std::mem::take(&mut self.owed_bytes);
            self.tell(Mail::Credit { bytes }, context);
        }
    }

    fn on_end<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.is_opening() {
            return self.on_early_end(context);
        }
        self.ended = true;
        self.tell(Mail::End, context);
        self.arm_half_closed(context);
    }

    /// A direction that is left alone has a time of its own.
    fn arm_half_closed<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.keeps_time() {
            let limit_ms = self.silence_ms(context.local);
            self.arm(context.now.after_ms(limit_ms), context);
        }
    }

    /// The client's side keeps the time of both. It closes once it has written everything, and what the other side still
    /// has to write would have nobody's time then.
    fn keeps_time(&self) -> bool {
        self.side == Side::Client || self.ended && self.partner_ended
    }

    /// How long nothing may pass.
    fn silence_ms(&self, local: &Worker) -> u64 {
        let timeouts = &local.shared.plan.timeouts;
        match (self.ended, self.partner_ended) {
            (false, false) => timeouts.idle_ms,
            (true, false) => timeouts.client_fin_ms,
            (false, true) => timeouts.server_fin_ms,
            (true, true) => timeouts.client_fin_ms.min(timeouts.server_fin_ms),
        }
    }

    fn on_deadline<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.armed = Due::default();
        if self.must_end.is_past(context.now) {
            return self.end_in_time(context);
        }
        self.judge_hello(context);
        self.judge_parting(context);
        if self.keeps_time() && !self.is_closed() {
            self.judge_idle(context);
        }
        if let Some(deadline) = self.must_end.time().filter(|_| !self.is_closed()) {
            self.arm(deadline, context);
        }
    }

    /// The time is over that a drain gives, or a tunnel has in all.
    pub(super) fn end_in_time<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let why = match self.draining {
            true if self.parts_by_drain() => CloseReason::Drain,
            true => CloseReason::DrainDeadline,
            false => CloseReason::TunnelExpired,
        };
        if self.draining {
            self.say_goodbye(context);
        }
        self.tell(Mail::PartnerGone, context);
        self.close(why, context);
    }

    /// What comes from the other side is activity here too.
    fn judge_idle<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let due = context.last_active.after_ms(self.silence_ms(context.local));
        if due <= context.now {
            self.tell(Mail::PartnerGone, context);
            return self.close(CloseReason::IdleTimeout, context);
        }
        self.arm(due, context);
    }

    /// Is to end by `deadline`. What a tunnel carries has no quiet point that this side could know, but for a WebSocket:
    /// it is told so at a random moment of the first half.
    fn begin_drain<A: Proxy>(&mut self, deadline: Time, context: &mut Context<'_, A>) {
        self.draining |= self.must_end.bring_to(deadline);
        self.arm(deadline, context);
        if self.side == Side::Client && self.frames.is_some() {
            let half_ms = deadline.ms_since(context.now) / 2;
            let moment = context.now.after_ms(context.random() % (half_ms + 1));
            self.begin_parting(moment, context);
        }
    }

    fn arm<A: Proxy>(&mut self, at: Time, context: &mut Context<'_, A>) {
        if self.armed.bring_to(at) {
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
        if self.ended && self.partner_ended && self.unwritten_bytes == 0 && !self.is_closed() {
            let why = if self.parts_by_drain() { CloseReason::Drain } else { CloseReason::PeerClosed };
            self.close(why, context);
        }
    }

    fn close<A: Proxy>(&mut self, reason: CloseReason, context: &mut Context<'_, A>) {
        self.stage = Stage::Closed;
        context.close(reason.index() as u8);
    }

    fn reset<A: Proxy>(&mut self, reason: CloseReason, context: &mut Context<'_, A>) {
        self.stage = Stage::Closed;
        context.reset(reason.index() as u8);
    }
}

/// How long the client of a WebSocket has for its close frame, and then the server for its own.
fn answer_ms(local: &Worker) -> u64 {
    local.shared.plan.timeouts.websocket_answer_ms
}

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
            Input::Mail { from, mail } if self.is_heard(from) => self.on_mail(mail, context),
            Input::Bounced { to, mail } if self.is_heard(to) => self.on_bounced(&mail, context),
            // Of somebody who had this connection before it was a tunnel, or of a server that was given up.
            Input::Mail { .. } | Input::Bounced { .. } => {}
            Input::Deadline => self.on_deadline(context),
            Input::Flushed { written, queued } => self.on_flushed(written, queued, context),
            Input::EndOfStream => self.on_end(context),
            Input::Lost(_) => {
                self.stage = Stage::Closed;
                self.tell(Mail::PartnerGone, context);
            }
        }
        self.close_if_done(context);
    }

    fn freeze(&self) -> Freeze {
        self.frozen()
    }
}

const _: () = assert!(size_of::<Tunnel>() <= 88, "an idle side of a tunnel fits the memory rule");
