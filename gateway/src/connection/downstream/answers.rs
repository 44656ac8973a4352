//! What a client is sent: replies under its own ids, failures, and the calls of its servers.

use bowline_engine::buf::Piece;
use bowline_engine::machine::{Address, Context};
use bowline_protocols::CONTROL_BYTES_MAX;
use bowline_protocols::bolt::frame::rewrite_id;
use bowline_protocols::bolt::{self, Frame};

use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::Callback;
use crate::exchange::Cause;
use crate::mail::Mail;
use crate::mail::Run;
use crate::metrics::Count;
use crate::worker::Proxy;

use super::super::frames::{each_frame, only_frame};
use super::access::End;
use super::{Downstream, PAUSED_BY_ENDING, in_flight_max};

impl Downstream {
    /// Replies of `from`, each with the key of its exchange as id.
    pub(super) fn on_replies<A: Proxy>(
        &mut self,
        from: Address,
        mut piece: Piece,
        context: &mut Context<'_, A>,
    ) {
        let access = self.access(context);
        let Some(load) = &mut self.load else {
            return self.drop_late(&mut piece, context);
        };
        let shared = &context.local.shared;
        let now = context.now;
        let shard = context.local.shard();
        let (mut at, mut replies, mut late) = (0, 0, 0);
        // Where live replies stand, once one is not: then they are copied out one by one.
        let mut live: Option<Vec<(usize, usize)>> = None;
        each_frame(&mut piece, &shared.limits, |frame, own| {
            let whole = (at, at + own.len());
            if let Some(exchange) = load.exchanges.end(frame.id, from) {
                rewrite_id(own, frame, exchange.cause.id);
                shard.observe_request_ms(now.ms_since(exchange.began));
                replies += 1;
                if let Some(writer) = access {
                    let end = End { status: Some(frame.status), failure: None, bytes_out: own.len() };
                    writer.exchange((frame.id, &exchange), &mut load.services, &end, shared);
                }
                if let Some(live) = &mut live {
                    live.push(whole);
                }
            } else {
                late += 1;
                live.get_or_insert_with(|| if at == 0 { Vec::new() } else { vec![(0, at)] });
            }
            at = whole.1;
        });
        shard.add(Count::Responses, replies);
        shard.add(Count::LateReplies, late);
        context.mark_active();
        match live {
            None => self.write(piece, context),
            Some(live) => {
                for (start, end) in live {
                    self.write_control(&piece[start..end], context);
                }
            }
        }
    }

    /// Nothing is in flight, so nobody waits for these.
    fn drop_late<A: Proxy>(&mut self, piece: &mut Piece, context: &mut Context<'_, A>) {
        let mut late = 0;
        each_frame(piece, &context.local.shared.limits, |_, _| late += 1);
        context.local.shard().add(Count::LateReplies, late);
    }

    /// An exchange failed after its request was written.
    pub(super) fn on_failure<A: Proxy>(
        &mut self,
        from: Address,
        key: u32,
        why: Failure,
        context: &mut Context<'_, A>,
    ) {
        let ended = self.load.as_mut().and_then(|load| load.exchanges.end(key, from));
        if let Some(exchange) = ended {
            self.end_failed(key, &exchange, why, context);
        }
    }

    /// Answers a request with its failure.
    pub(super) fn answer_failure<A: Proxy>(
        &mut self,
        cause: &Cause,
        why: Failure,
        context: &mut Context<'_, A>,
    ) {
        context.local.fail(why);
        let mut out = [0; CONTROL_BYTES_MAX];
        let length = cause.refuse(why, &mut out);
        self.write_control(&out[..length], context);
    }

    fn write<A: Proxy>(&mut self, piece: Piece, context: &mut Context<'_, A>) {
        context.local.shard().add(Count::DownstreamWrittenBytes, piece.len() as u64);
        context.write(piece);
    }

    /// Writes a copy of `bytes`; without memory for it the connection ends, for its client would wait in vain.
    pub(super) fn write_control<A: Proxy>(&mut self, bytes: &[u8], context: &mut Context<'_, A>) {
        context.local.shard().add(Count::DownstreamWrittenBytes, bytes.len() as u64);
        if !context.write_copy(bytes) {
            self.reset(CloseReason::MemoryCeiling, context);
        }
    }

    /// Requests of which no byte was written: they are sent elsewhere, or refused.
    pub(super) fn on_unsent<A: Proxy>(
        &mut self,
        from: Address,
        run: Run,
        why: Failure,
        context: &mut Context<'_, A>,
    ) {
        let Run { mut piece, frames, cluster, attempts } = run;
        if why == Failure::ConnectFailed {
            context.local.pools.forget(usize::from(cluster), from);
            self.mark_leaving(from);
        }
        let attempts = if why == Failure::ConnectFailed { attempts + 1 } else { ATTEMPTS_MAX };
        let limits = context.local.shared.limits;
        if frames == 1 {
            if let Some(frame) = only_frame(&piece, &limits) {
                self.send_again(from, &frame, Some(piece), (cluster, attempts, why), context);
            }
            return;
        }
        each_frame(&mut piece, &limits, |frame, own| {
            let copy = context.host.copy(own);
            self.send_again(from, frame, copy, (cluster, attempts, why), context);
        });
    }

    /// Sends one request elsewhere; without memory for it, or another way, it is refused.
    fn send_again<A: Proxy>(
        &mut self,
        from: Address,
        frame: &Frame,
        piece: Option<Piece>,
        (cluster, attempts, why): (u16, u8, Failure),
        context: &mut Context<'_, A>,
    ) {
        let is_request = frame.kind == bolt::Kind::Request;
        let exchange = self.load.as_mut().and_then(|load| load.exchanges.find(frame.id));
        let is_live = exchange.is_some_and(|exchange| exchange.upstream == from);
        if self.closed || is_request && !is_live {
            return;
        }
        let way = match piece {
            None => Err(Failure::MemoryCeiling),
            Some(_) if attempts >= ATTEMPTS_MAX => Err(why),
            Some(piece) => self.way(cluster, frame, context).map(|way| (way, piece)),
        };
        match way {
            Ok(((to, place), piece)) => {
                if let Some(load) = self.load.as_mut().filter(|_| is_request) {
                    load.exchanges.find(frame.id).expect("it was found above").upstream = to;
                }
                context.local.count(Count::Retries);
                let run = Run { piece, frames: 1, cluster, attempts };
                context.send(to, Mail::Requests { run, place });
            }
            Err(failure) => {
                // That the endpoint is left alone now is the consequence, not the cause.
                let failure = if failure == Failure::NoEndpoint { why } else { failure };
                if is_request {
                    self.on_failure(from, frame.id, failure, context);
                } else {
                    context.local.fail(failure);
                    self.forget_oneways(1, u64::from(frame.total_bytes));
                }
            }
        }
    }

    /// Oneway requests left the gateway, or never will.
    pub(super) fn forget_oneways(&mut self, frames: u32, bytes: u64) {
        if let Some(load) = &mut self.load {
            load.oneway.frames = load.oneway.frames.saturating_sub(frames);
            load.oneway.bytes = load.oneway.bytes.saturating_sub(bytes);
        }
    }

    pub(super) fn forget_bound(&mut self, upstream: Address) {
        if let Some(load) = &mut self.load {
            load.bound.retain(|bound| bound.upstream != upstream);
        }
    }

    /// A bound connection takes no new requests. It stays known until it is gone, for it is paced and let go with the
    /// others.
    pub(super) fn mark_leaving(&mut self, upstream: Address) {
        let bound = self.load.iter_mut().flat_map(|load| &mut load.bound);
        bound.filter(|bound| bound.upstream == upstream).for_each(|bound| bound.leaving = true);
    }

    /// A bound connection is gone.
    pub(super) fn on_left<A: Proxy>(&mut self, from: Address, lost: bool, context: &mut Context<'_, A>) {
        let Some(load) = &mut self.load else { return };
        let known = load.bound.iter().any(|bound| bound.upstream == from);
        load.callbacks.forget(from);
        self.forget_bound(from);
        if known && lost {
            // What the server knew of this client is gone with the connection, so the client begins anew.
            self.end_when_quiet(CloseReason::PartnerGone);
            self.pause(PAUSED_BY_ENDING, context);
        }
    }

    /// A server calls its client.
    pub(super) fn on_callback<A: Proxy>(
        &mut self,
        from: Address,
        mut piece: Piece,
        context: &mut Context<'_, A>,
    ) {
        let shared = &context.local.shared;
        let Some(frame) = only_frame(&piece, &shared.limits) else { return };
        let in_flight_max = in_flight_max(&shared.plan.limits);
        let timeout_ms = frame.deadline_ms().map_or(CALLBACK_TIMEOUT_MS, u64::from);
        let deadline = context.now.after_ms(timeout_ms);
        context.local.count(Count::Callbacks);
        let has_ended = self.has_ended();
        let load = self.load(context);
        let id = load.callbacks.fresh_id();
        if frame.kind == bolt::Kind::Request {
            let callback = Callback { id, cause: Cause::of(&frame), upstream: from, deadline };
            let refused = match () {
                () if has_ended => Some(Failure::CallbackLost),
                () if load.callbacks.len() >= in_flight_max => Some(Failure::Overflow),
                () => None,
            };
            if let Some(why) = refused {
                context.local.fail(why);
                return refuse_callback(&callback, why, context);
            }
            load.callbacks.insert(callback);
            self.arm(deadline, context);
        }
        rewrite_id(&mut piece, &frame, id);
        context.mark_active();
        self.write(piece, context);
    }

    /// The client answers a call of its server.
    pub(super) fn on_callback_answer<A: Proxy>(
        &mut self,
        frame: &Frame,
        mut piece: Piece,
        context: &mut Context<'_, A>,
    ) {
        let ended = self.load.as_mut().and_then(|load| load.callbacks.end(frame.id));
        let Some(callback) = ended else { return context.local.count(Count::LateReplies) };
        if frame.head_fault().is_some() {
            context.local.fail(Failure::HeadTooLarge);
            return refuse_callback(&callback, Failure::HeadTooLarge, context);
        }
        rewrite_id(&mut piece, frame, callback.cause.id);
        context.send(callback.upstream, Mail::CallbackReply { piece: Some(piece) });
    }
}

/// Answers a server's call with its failure. Without memory for the answer the server's own timeout ends it, but its
/// connection hears of that: it waits for every call before it leaves.
pub(super) fn refuse_callback<A: Proxy>(callback: &Callback, why: Failure, context: &mut Context<'_, A>) {
    let mut out = [0; CONTROL_BYTES_MAX];
    let length = callback.cause.refuse(why, &mut out);
    let piece = context.host.copy(&out[..length]);
    context.send(callback.upstream, Mail::CallbackReply { piece });
}

/// How often a request is tried in all.
const ATTEMPTS_MAX: u8 = 3;
/// How long a client may take to answer a call that names no deadline, in milliseconds.
const CALLBACK_TIMEOUT_MS: u64 = 60_000;
