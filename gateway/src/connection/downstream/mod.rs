//! A client's connection: reads whole frames, sends requests where they are routed, writes replies and refusals.
//!
//! Every request is answered exactly once: by its reply, or by the failure that [`Failure`] names. What exists only under
//! load is one box, so an idle client costs the machine alone. It opens upstream connections through `dial`, holds none.
//! `access` writes lines, `requests` is what the client sends, `answers` what it is sent, `clock` every deadline, `frozen` the machine as data.

mod access;
mod answers;
mod clock;
mod requests;
mod frozen;

use bowline_engine::buf::Pressure;
use bowline_engine::machine::{Address, Context, Freeze, Input, Machine};
use bowline_engine::time::Time;
use bowline_protocols::bolt::Version;

use crate::config::plan::LimitsPlan;
use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::LISTED_BYTES_MIN;
use crate::exchange::Listed;
use crate::exchange::Load;
use crate::exchange::Meter;
use crate::logging;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::worker::Proxy;

use super::state::State;

/// One client.
#[derive(Debug)]
pub struct Downstream {
    load: Option<Box<Load>>,
    /// The next call that was asked for.
    armed: Option<Time>,
    heartbeats: Meter,
    listener: u16,
    /// Numbers exchanges, so that a late reply is not taken for another's.
    sequence: u16,
    /// The last version the client spoke.
    version: (u8, u8),
    /// Why it is not read for the moment: `PAUSED_BY_*`.
    paused: u8,
    /// Why it ends at the next quiet point.
    ending: Option<CloseReason>,
    /// Its output queue is one of those of which the longest is closed first.
    listed: Listed,
    closed: bool,
}

const _: () = assert!(size_of::<Downstream>() <= 64, "an idle client's machine is small");

/// As many requests are in flight as may be.
const PAUSED_BY_IN_FLIGHT: u8 = 1;
/// It does not take what is queued for it.
const PAUSED_BY_OUTPUT: u8 = 1 << 1;
/// Its large frame finds no room.
const PAUSED_BY_LARGE_FRAME: u8 = 1 << 2;
/// Too many oneway requests are not written yet.
const PAUSED_BY_ONEWAY: u8 = 1 << 3;
/// It is ending.
const PAUSED_BY_ENDING: u8 = 1 << 4;

impl Downstream {
    /// The connection that `listener` accepted.
    pub fn new(listener: u16) -> Downstream {
        Downstream {
            load: None,
            armed: None,
            heartbeats: Meter::default(),
            listener,
            sequence: 0,
            version: Version::V1.pool_key(),
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
    fn load<A: Proxy>(&mut self, context: &mut Context<'_, A>) -> &mut Load {
        self.load.get_or_insert_with(|| context.local.take_load())
    }

    fn in_flight(&self) -> usize {
        self.load.as_ref().map_or(0, |load| load.exchanges.len() + load.callbacks.len())
    }

    fn is_quiet(&self) -> bool {
        self.load.as_ref().is_none_or(|load| load.is_quiet())
    }

    /// Stops reading for one more reason.
    fn pause<A: Proxy>(&mut self, why: u8, context: &mut Context<'_, A>) {
        if self.paused == 0 {
            context.set_reading(false);
            let now = context.now;
            if let Some(frame) = self.load.as_mut().and_then(|load| load.frame.as_mut()) {
                frame.pause(now);
            }
        }
        if why == PAUSED_BY_OUTPUT && self.paused & PAUSED_BY_OUTPUT == 0 {
            self.pace(false, context);
        }
        self.paused |= why;
    }

    /// One reason less not to read.
    fn resume<A: Proxy>(&mut self, why: u8, context: &mut Context<'_, A>) {
        if self.paused & why == 0 {
            return;
        }
        self.paused &= !why;
        if why == PAUSED_BY_OUTPUT {
            self.pace(true, context);
        }
        if self.paused == 0 {
            context.set_reading(true);
            let now = context.now;
            if let Some(frame) = self.load.as_mut().and_then(|load| load.frame.as_mut()) {
                frame.resume(now);
                // The deadline that was armed for the frame may have passed while its clock stood.
                self.arm(context.now.after_ms(FRAME_GRACE_MS), context);
            }
        }
    }

    /// Tells bound upstream connections to read on, or not to.
    fn pace<A: Proxy>(&mut self, reading: bool, context: &mut Context<'_, A>) {
        for bound in self.load.iter().flat_map(|load| &load.bound) {
            context.send(bound.upstream, Mail::Pace { reading });
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

    /// Tells everyone who still works for this client that it is gone.
    fn let_go<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.closed = true;
        self.list_output(0, context);
        let access = self.access(context);
        let Some(mut load) = self.load.take() else { return };
        if let Some(writer) = access {
            for (key, exchange) in load.exchanges.iter() {
                let shared = &context.local.shared;
                writer.exchange((key, exchange), &mut load.services, &access::End::UNANSWERED, shared);
            }
        }
        let mut upstreams: Vec<Address> = Vec::new();
        for (_, exchange) in load.exchanges.iter() {
            if upstreams.last() != Some(&exchange.upstream) && !upstreams.contains(&exchange.upstream) {
                upstreams.push(exchange.upstream);
            }
        }
        for upstream in upstreams {
            context.send(upstream, Mail::Cancel { key: None });
        }
        for callback in load.callbacks.iter() {
            context.local.fail(Failure::CallbackLost);
            answers::refuse_callback(callback, Failure::CallbackLost, context);
        }
        for bound in &load.bound {
            context.send(bound.upstream, Mail::PartnerGone);
        }
    }

    /// Ends at the next quiet point for `reason`.
    fn end_when_quiet(&mut self, reason: CloseReason) {
        self.ending.get_or_insert(reason);
    }

    /// What every call ends with: pauses, the end at a quiet point, the box given back, figures.
    fn settle<A: Proxy>(&mut self, in_flight_before: usize, context: &mut Context<'_, A>) {
        if self.closed {
            return;
        }
        self.judge_output(context);
        self.judge_in_flight(context);
        if self.closed {
            return;
        }
        if self.is_quiet() {
            let drained = self.load.as_ref().and_then(|load| load.drain.as_ref());
            let drained = drained.is_some_and(|drain| drain.from <= context.now);
            let mid_frame = self.load.as_ref().is_some_and(|load| load.frame.is_some());
            if let Some(reason) = self.ending {
                return self.close(reason, context);
            }
            if drained && !mid_frame {
                return self.close(CloseReason::Drain, context);
            }
        }
        if let Some(load) = self.load.take_if(|load| load.is_empty()) {
            context.local.keep_load(load);
        }
        self.publish(in_flight_before, context);
    }

    fn publish<A: Proxy>(&mut self, in_flight_before: usize, context: &mut Context<'_, A>) {
        let in_flight = self.in_flight();
        if in_flight == in_flight_before {
            return;
        }
        context.set_in_flight(in_flight);
        let state = match in_flight {
            _ if self.ending.is_some() => State::Ending,
            _ if self.paused != 0 => State::Paused,
            0 => State::Idle,
            _ => State::Active,
        };
        context.set_state(state as u8);
    }

    /// Stops reading where too much is in flight, goes on where it is not any more.
    fn judge_in_flight<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let in_flight_max = in_flight_max(&context.local.shared.plan.limits);
        let Some(load) = &self.load else {
            self.resume(PAUSED_BY_IN_FLIGHT, context);
            return self.resume(PAUSED_BY_ONEWAY, context);
        };
        let (exchanges, oneway) = (load.exchanges.len(), load.oneway);
        // Resuming a little below the limit keeps one reply from offering the same bytes again for one request.
        if exchanges <= in_flight_max / 4 * 3 || exchanges + 16 <= in_flight_max {
            self.resume(PAUSED_BY_IN_FLIGHT, context);
        }
        if (oneway.frames as usize) <= in_flight_max / 2 && oneway.bytes <= ONEWAY_BYTES_MAX / 2 {
            self.resume(PAUSED_BY_ONEWAY, context);
        }
    }

    /// Stops reading a client that does not take what is queued for it, and gives up on one that takes hardly anything.
    fn judge_output<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if context.effects.output.is_empty() && self.paused & PAUSED_BY_OUTPUT == 0 {
            return;
        }
        let fresh: usize = context.effects.output.iter().map(|piece| piece.len()).sum();
        let queued = context.output_bytes + fresh;
        let bytes_max = context.local.shared.plan.limits.downstream_output_bytes_max;
        if queued <= bytes_max / 2 {
            if self.paused & PAUSED_BY_OUTPUT != 0 {
                context.watch_output(false);
                self.resume(PAUSED_BY_OUTPUT, context);
            }
        } else if self.paused & PAUSED_BY_OUTPUT == 0 {
            context.watch_output(true);
            self.pause(PAUSED_BY_OUTPUT, context);
        }
        self.list_output(queued, context);
        if context.pool.pressure() == Pressure::Ceiling {
            shed(context);
        }
        if queued > bytes_max.saturating_mul(OUTPUT_TIMES_MAX) {
            return self.reset(CloseReason::SlowReader, context);
        }
        self.watch_rate(queued > bytes_max, context);
    }

    /// Says how long the output queue is, if that matters at the memory ceiling.
    fn list_output<A: Proxy>(&mut self, queued: usize, context: &mut Context<'_, A>) {
        self.listed.tell(&context.local.shared.longest, context.me, queued);
    }

    /// Ends so that others may live, unless its queue was written meanwhile.
    fn on_shed<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        match context.output_bytes {
            0..=LISTED_BYTES_MIN => self.list_output(0, context),
            _ => self.reset(CloseReason::MemoryCeiling, context),
        }
    }

    fn on_mail<A: Proxy>(&mut self, from: Address, mail: Mail, context: &mut Context<'_, A>) {
        match mail {
            Mail::Replies { piece, .. } => self.on_replies(from, piece, context),
            Mail::Failed { key, why } => self.on_failure(from, key, why, context),
            Mail::Unsent { run, why } => self.on_unsent(from, run, why, context),
            Mail::Written { frames, bytes } => self.forget_oneways(frames, u64::from(bytes)),
            Mail::Callback { piece } => self.on_callback(from, piece, context),
            Mail::Leaving => self.mark_leaving(from),
            Mail::Left { lost } => self.on_left(from, lost, context),
            Mail::Drain { deadline } => self.begin_drain(deadline, context),
            Mail::Shed => self.on_shed(context),
            // Nothing else is sent to a client's connection; what it carries is given back by dropping it.
            _ => {}
        }
    }

    /// The receiver was gone and has not seen it.
    fn on_bounced<A: Proxy>(&mut self, to: Address, mail: Mail, context: &mut Context<'_, A>) {
        match mail {
            Mail::Requests { run, place } => {
                drop(place);
                self.forget_bound(to);
                self.on_unsent(to, run, Failure::ConnectFailed, context);
            }
            Mail::CallbackReply { .. } => context.local.count(Count::LateReplies),
            Mail::Shed => context.local.shared.longest.forget(to),
            _ => {}
        }
    }

    fn on_end<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let reason =
            if context.input_bytes > 0 { CloseReason::PeerClosedMidFrame } else { CloseReason::PeerClosed };
        self.end_when_quiet(reason);
        let Some(load) = &mut self.load else { return };
        // The rest of a frame will never come, and no answer to a server's call.
        (load.frame, load.reserved, load.wanted_bytes) = (None, None, 0);
        for callback in load.callbacks.take_all() {
            context.local.fail(Failure::CallbackLost);
            answers::refuse_callback(&callback, Failure::CallbackLost, context);
        }
    }

    /// True once the client has said its last word.
    fn has_ended(&self) -> bool {
        matches!(self.ending, Some(CloseReason::PeerClosed | CloseReason::PeerClosedMidFrame))
    }
}

/// Memory is at its ceiling: tells the client with the longest output queue to end.
fn shed<A: Proxy>(context: &mut Context<'_, A>) {
    if let Some(client) = context.local.shared.longest.take() {
        context.send(client, Mail::Shed);
    }
}

/// Requests of one client in flight; keys hold 65,536.
fn in_flight_max(limits: &LimitsPlan) -> usize {
    limits.in_flight_max.clamp(1, usize::from(u16::MAX))
}

/// From here on a frame is measured by its rate.
const FRAME_GRACE_MS: u64 = 5_000;
/// How often a large frame asks for room.
const LARGE_RETRY_MS: u64 = 25;
/// Bytes of oneway requests of one client that may wait to be written.
const ONEWAY_BYTES_MAX: u64 = 1 << 20;
/// A client with so many times its output limit queued is closed at once.
const OUTPUT_TIMES_MAX: usize = 64;

impl<A: Proxy> Machine<A> for Downstream {
    fn on(&mut self, input: Input<'_, A>, context: &mut Context<'_, A>) {
        let before = self.in_flight();
        match input {
            Input::Opened => self.on_opened(context),
            Input::Bytes(incoming) => self.on_bytes(incoming, context),
            Input::Mail { from, mail } => self.on_mail(from, mail, context),
            Input::Bounced { to, mail } => self.on_bounced(to, mail, context),
            Input::Deadline => self.on_deadline(context),
            Input::Flushed { written, .. } => self.on_flushed(written),
            Input::EndOfStream => self.on_end(context),
            Input::Failed(_) | Input::Lost(_) => self.let_go(context),
        }
        self.settle(before, context);
    }

    fn freeze(&self) -> Freeze {
        self.frozen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_machine_is_within_its_budget() {
        let bytes = size_of::<Downstream>();
        println!("an idle client's machine takes {bytes} of 96 bytes");
        assert!(bytes <= 96, "{bytes}");
    }
}
