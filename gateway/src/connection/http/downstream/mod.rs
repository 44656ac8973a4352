//! An HTTP/1.1 client's connection: reads requests one after the other, sends each where it is routed, writes its answer.
//!
//! What a client sends behind a request that is being answered stays unread, so pipelined requests are answered in order
//! and cost no more than one. Every request is answered once: by its server, by the route, or by what [`Failure`] names.
//! `requests` is what the client sends, `answers` what it is sent, `clock` every deadline. It frames no bytes itself.

mod requests;
mod answers;
mod clock;

use bowline_engine::buf::Pressure;
use bowline_engine::machine::{Address, Context, Freeze, Frozen, Input, Machine, ThawError};
use bowline_engine::time::Time;
use serde::{Deserialize, Serialize};

use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::Drain;
use crate::exchange::HttpExchange;
use crate::exchange::HttpLoad;
use crate::exchange::LISTED_BYTES_MIN;
use crate::exchange::Lingering;
use crate::exchange::Listed;
use crate::exchange::Phase;
use crate::logging;
use crate::mail::Mail;
use crate::worker::Proxy;

use super::super::state::{Kind, State, freeze, thaw};

/// One client.
///
/// What it is in the middle of is a [`Phase`], and in an exchange an [`crate::exchange::Answer`]:
///
/// ```text
///  ┌──────────────────────── all of the answer queued, and not much of it ◀─┐
///  ▼                                                                        │
/// Rest ──head──▶ Exchange: (Held ──▶) Awaited ──head of the answer──▶ Begun ─┴─ much of it ──▶ Backlog ──taken──▶ Rest
///  │                                     │ 101: a tunnel                │ cut, or before all of the request came
///  └──no head of HTTP, or none in time──▶ Lingering ◀───────────────────┘ ──▶ closed
/// ```
#[derive(Debug)]
pub struct HttpDownstream {
    load: Option<Box<HttpLoad>>,
    /// The next call that was asked for.
    armed: Option<Time>,
    /// How many requests were sent on.
    sent: u32,
    listener: u16,
    /// Why it is not read for the moment: `PAUSED_BY_*`.
    paused: u8,
    /// Why it ends with the exchange that is going on.
    ending: Option<CloseReason>,
    /// Its output queue is one of those of which the longest is closed first.
    listed: Listed,
    closed: bool,
}

const _: () = assert!(size_of::<HttpDownstream>() <= 64, "an idle client's machine is small");

/// A request behind the one that is being answered has come.
const PAUSED_BY_PIPELINE: u8 = 1;
/// The server takes no more of the body for now.
const PAUSED_BY_CREDIT: u8 = 1 << 1;
/// The client has not taken the answers that it got.
const PAUSED_BY_OUTPUT: u8 = 1 << 2;

impl HttpDownstream {
    /// The connection that `listener` accepted.
    pub fn new(listener: u16) -> HttpDownstream {
        HttpDownstream {
            load: None,
            armed: None,
            sent: 0,
            listener,
            paused: 0,
            ending: None,
            listed: Listed::default(),
            closed: false,
        }
    }

    fn on_opened<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let shared = std::sync::Arc::clone(&context.local.shared);
        let name = shared.listener(self.listener).map_or("", |listener| &listener.name);
        logging::connection_opened(context.me.as_u64(), context.peer, name);
        context.set_state(State::Idle as u8);
        self.arm(context.now.after_ms(shared.plan.timeouts.idle_ms), context);
        if let Some(deadline) = shared.drain_deadline() {
            self.begin_drain(deadline, context);
        }
    }

    /// The box of what is going on, made if there is none.
    fn load<A: Proxy>(&mut self, context: &mut Context<'_, A>) -> &mut HttpLoad {
        self.load.get_or_insert_with(|| context.local.take_http_load())
    }

    fn exchange(&mut self) -> Option<&mut HttpExchange> {
        self.load.as_mut()?.exchange_mut()
    }

    /// Ends the exchange that is going on.
    fn take_exchange(&mut self) -> Option<HttpExchange> {
        self.load.as_mut()?.take_exchange()
    }

    fn lingering(&self) -> Option<Lingering> {
        self.load.as_ref()?.lingering()
    }

    fn has_exchange(&self) -> bool {
        self.load.as_ref().is_some_and(|load| load.exchange().is_some())
    }

    fn pause<A: Proxy>(&mut self, why: u8, context: &mut Context<'_, A>) {
        if self.paused == 0 {
            context.set_reading(false);
        }
        self.paused |= why;
    }

    fn resume<A: Proxy>(&mut self, why: u8, context: &mut Context<'_, A>) {
        if self.paused & why != 0 {
            self.paused &= !why;
            if self.paused == 0 {
                context.set_reading(true);
            }
        }
    }

    /// Closes for `reason`, after what is queued.
    fn close<A: Proxy>(&mut self, reason: CloseReason, context: &mut Context<'_, A>) {
        if !self.closed {
            self.let_go(context);
            context.close(reason.index() as u8);
        }
    }

    /// Closes for `reason` and throws away what is queued.
    fn reset<A: Proxy>(&mut self, reason: CloseReason, context: &mut Context<'_, A>) {
        if !self.closed {
            self.let_go(context);
            context.reset(reason.index() as u8);
        }
    }

    /// Tells the server's connection that nobody waits any more.
    fn let_go<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.closed = true;
        self.list_output(0, context);
        let Some(mut load) = self.load.take() else { return };
        if let Some(mut exchange) = load.take_exchange() {
            self.log_exchange(&mut exchange, None, context);
            cancel(&exchange, context);
        }
    }

    /// What every call ends with.
    fn settle<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.closed {
            return;
        }
        self.judge_output(context);
        if self.closed || self.has_exchange() {
            return;
        }
        let load = self.load.as_ref();
        let is_quiet = load.is_none_or(|load| load.is_quiet());
        let drain = load.and_then(|load| load.drain);
        if let Some(reason) = self.ending.filter(|_| is_quiet) {
            return self.close(reason, context);
        }
        if is_quiet && drain.is_some_and(|drain| drain.from <= context.now) {
            return self.close(CloseReason::Drain, context);
        }
        if let Some(load) = self.load.take_if(|load| load.is_empty()) {
            context.local.keep_http_load(load);
        }
    }

    /// Says how long the output queue is, if that matters at the memory ceiling.
    fn judge_output<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if context.effects.output.is_empty() && !self.listed.is_listed() {
            return;
        }
        let fresh: usize = context.effects.output.iter().map(|piece| piece.len()).sum();
        self.list_output(context.output_bytes + fresh, context);
        if context.pool.pressure() == Pressure::Ceiling
            && let Some(client) = context.local.shared.longest.take()
        {
            context.send(client, Mail::Shed);
        }
    }

    fn list_output<A: Proxy>(&mut self, queued: usize, context: &mut Context<'_, A>) {
        self.listed.tell(&context.local.shared.longest, context.me, queued);
    }

    fn on_shed<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        match context.output_bytes {
            0..=LISTED_BYTES_MIN => self.list_output(0, context),
            _ => self.reset(CloseReason::MemoryCeiling, context),
        }
    }

    fn on_mail<A: Proxy>(&mut self, from: Address, mail: Mail, context: &mut Context<'_, A>) {
        match mail {
            Mail::Drain { deadline } => return self.begin_drain(deadline, context),
            Mail::Shed => return self.on_shed(context),
            _ => {}
        }
        // What a server's connection says of an exchange that is over is of no use any more. It may be said by the very
        // connection that works on the next one: then the number tells them apart.
        let about = (Some(from), key_of(&mail));
        if self.exchange().is_none_or(|exchange| (exchange.upstream, Some(exchange.key)) != about) {
            if let Mail::HttpResponse { message } | Mail::HttpUnsent { message, .. } = mail {
                context.local.keep_message(message);
            }
            return;
        }
        match mail {
            Mail::HttpResponse { message } => self.on_response(from, message, context),
            Mail::HttpBody { piece, ends, .. } => self.on_response_body(piece, ends, context),
            Mail::HttpEnd { trailers, .. } => self.on_response_end(trailers, context),
            Mail::HttpUnsent { message, why } => self.on_unsent(message, why, context),
            Mail::HttpFailed { why, .. } => self.on_failed(why, context),
            Mail::HttpCredit { bytes, .. } => self.on_credit(bytes, context),
            // Nothing else is sent to it; what it carries is given back by dropping it.
            _ => {}
        }
    }

    /// The server's connection is gone, and did not say so: it came to its end by a fault of its own.
    fn on_partner_gone<A: Proxy>(&mut self, upstream: Address, key: u32, context: &mut Context<'_, A>) {
        let is_current = self
            .exchange()
            .is_some_and(|exchange| (exchange.upstream, exchange.key) == (Some(upstream), key));
        if is_current {
            self.on_failed(Failure::UpstreamLost, context);
        }
    }

    /// The client will send no more. It may still wait for its answer.
    fn on_end<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let mid_head = self.load.as_ref().is_some_and(|load| load.head_began.is_some());
        let mid_body = self.exchange().is_some_and(|exchange| !exchange.request_ended);
        if let Some(lingering) = self.lingering() {
            // One that is to be reset may still take what it was sent.
            if !lingering.resets {
                self.end_lingering(context);
            }
            return;
        }
        if mid_head || mid_body {
            // RFC 9112 section 8: an incomplete request is not processed.
            return self.close(CloseReason::PeerClosedMidFrame, context);
        }
        self.ending.get_or_insert(CloseReason::PeerClosed);
    }
}

/// The number of the request that a server's connection speaks of.
fn key_of(mail: &Mail) -> Option<u32> {
    match mail {
        Mail::HttpResponse { message } | Mail::HttpUnsent { message, .. } => Some(message.key),
        Mail::HttpBody { key, .. }
        | Mail::HttpEnd { key, .. }
        | Mail::HttpFailed { key, .. }
        | Mail::HttpCredit { key, .. } => Some(*key),
        _ => None,
    }
}

/// Tells the server's connection of an exchange that nobody waits for it.
fn cancel<A: Proxy>(exchange: &HttpExchange, context: &mut Context<'_, A>) {
    if let Some(upstream) = exchange.upstream {
        context.send(upstream, Mail::Cancel { key: None });
    }
}

impl<A: Proxy> Machine<A> for HttpDownstream {
    fn on(&mut self, input: Input<'_, A>, context: &mut Context<'_, A>) {
        match input {
            Input::Opened => self.on_opened(context),
            Input::Bytes(incoming) => self.on_bytes(incoming, context),
            Input::Mail { from, mail } => self.on_mail(from, mail, context),
            Input::Bounced { to, mail: Mail::HttpRequest { mut message } } => {
                // Others that rest may be gone as well.
                message.fresh = true;
                let about = (Some(to), message.key);
                if self.exchange().is_some_and(|exchange| (exchange.upstream, exchange.key) == about) {
                    self.on_unsent(message, Failure::ConnectFailed, context);
                }
            }
            Input::Bounced { to, mail: Mail::Shed } => context.local.shared.longest.forget(to),
            Input::Bounced {
                to,
                mail: Mail::HttpBody { key, .. } | Mail::HttpEnd { key, .. } | Mail::HttpCredit { key, .. },
            } => self.on_partner_gone(to, key, context),
            Input::Bounced { .. } | Input::Failed(_) => {}
            Input::Deadline => self.on_deadline(context),
            Input::Flushed { written, queued } => self.on_flushed(written, queued, context),
            Input::EndOfStream => self.on_end(context),
            Input::Lost(_) => self.let_go(context),
        }
        self.settle(context);
    }

    fn freeze(&self) -> Freeze {
        if self.has_exchange() || self.closed {
            return Freeze::NotYet { why: "a request is being answered" };
        }
        let window = |window: Option<(Time, u64)>| window.map(|(since, bytes)| (since.as_ms(), bytes));
        let load = self.load.as_ref();
        let drain = load.and_then(|load| load.drain);
        let state = FrozenHttpDownstream {
            listener: self.listener,
            armed_ms: self.armed.map(Time::as_ms),
            sent: self.sent,
            paused: self.paused,
            ending: self.ending.map(|reason| reason.index() as u8),
            head_began_ms: load.and_then(|load| load.head_began).map(Time::as_ms),
            drain_ms: drain.map(|drain| (drain.from.as_ms(), drain.deadline.as_ms())),
            lingering: load.and_then(|load| load.lingering()).map(|lingering| {
                (lingering.since.as_ms(), lingering.queued, lingering.thrown, lingering.resets)
            }),
            backlog: window(load.and_then(|load| load.backlog())),
        };
        freeze(Kind::HttpDownstream, &state, Vec::new())
    }
}

/// The state of a frozen client between two requests. Half a head is among the driver's bytes, and looked at again.
#[derive(Serialize, Deserialize)]
struct FrozenHttpDownstream {
    listener: u16,
    armed_ms: Option<u64>,
    sent: u32,
    paused: u8,
    ending: Option<u8>,
    head_began_ms: Option<u64>,
    drain_ms: Option<(u64, u64)>,
    lingering: Option<(u64, usize, u64, bool)>,
    backlog: Option<(u64, u64)>,
}

impl HttpDownstream {
    /// The client that `frozen` describes.
    pub fn thaw(frozen: &Frozen) -> Result<HttpDownstream, ThawError> {
        let state: FrozenHttpDownstream = thaw(frozen)?;
        let phase = match (state.lingering, state.backlog) {
            (Some((since_ms, queued, thrown, resets)), _) => {
                Phase::Lingering(Lingering { since: Time::from_ms(since_ms), queued, thrown, resets })
            }
            (None, Some((since_ms, taken))) => Phase::Backlog(Time::from_ms(since_ms), taken),
            (None, None) => Phase::Rest,
        };
        let ending = state.ending.map(|index| {
            let reason = CloseReason::from_index(usize::from(index));
            reason.ok_or_else(|| ThawError("it ends for no known reason".to_owned()))
        });
        let load = HttpLoad {
            head_began: state.head_began_ms.map(Time::from_ms),
            drain: state.drain_ms.map(|(from, deadline)| Drain {
                from: Time::from_ms(from),
                deadline: Time::from_ms(deadline),
            }),
            phase,
            ..HttpLoad::default()
        };
        Ok(HttpDownstream {
            armed: state.armed_ms.map(Time::from_ms),
            load: (!load.is_empty()).then(|| Box::new(load)),
            sent: state.sent,
            paused: state.paused,
            ending: ending.transpose()?,
            ..HttpDownstream::new(state.listener)
        })
    }
}
