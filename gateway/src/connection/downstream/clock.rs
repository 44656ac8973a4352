//! Every deadline of a client's connection, over the one that a machine can arm: the earliest is armed, and when it
//! comes all are looked at. The idle deadline is never armed again per read.

use bowline_engine::machine::Context;
use bowline_engine::time::Time;
use bowline_protocols::CONTROL_BYTES_MAX;
use bowline_protocols::bolt::{Version, encode_goaway};

use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::Drain;
use crate::exchange::FrameClock;
use crate::exchange::OutputWindow;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::worker::Proxy;

use super::answers::refuse_callback;
use super::{Downstream, FRAME_GRACE_MS, LARGE_RETRY_MS, PAUSED_BY_LARGE_FRAME};

impl Downstream {
    /// Asks to be called at `at`, unless an earlier call is due.
    pub(super) fn arm<A: Proxy>(&mut self, at: Time, context: &mut Context<'_, A>) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            context.set_deadline(Some(at));
        }
    }

    pub(super) fn on_deadline<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.armed = None;
        self.expire(context);
        self.judge_frame(context);
        self.retry_large_frame(context);
        self.judge_rate(context);
        self.judge_drain(context);
        if !self.closed {
            self.judge_idle(context);
        }
        if let Some(at) = self.next_deadline(context).filter(|_| !self.closed) {
            self.arm(at, context);
        }
    }

    /// Ends what has waited too long.
    fn expire<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let now = context.now;
        let mut place = 0;
        while let Some((key, exchange)) =
            self.load.as_mut().and_then(|load| load.exchanges.expire(now, &mut place))
        {
            context.send(exchange.upstream, Mail::Cancel { key: Some(key) });
            self.end_failed(key, &exchange, Failure::Timeout, context);
        }
        let mut place = 0;
        while let Some(callback) = self.load.as_mut().and_then(|load| load.callbacks.expire(now, &mut place))
        {
            context.local.fail(Failure::Timeout);
            refuse_callback(&callback, Failure::Timeout, context);
        }
    }

    /// A frame has to arrive in time and not too slowly, while it is read.
    fn judge_frame<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let frame = self.load.as_ref().and_then(|load| load.frame);
        let Some(frame) = frame.filter(|frame| frame.paused_at.is_none()) else { return };
        if context.held_back {
            // Its time begins anew when this side reads again.
            let began = context.now;
            self.load(context).frame = Some(FrameClock { began, paused_at: None });
            return;
        }
        let limits = &context.local.shared.plan.limits;
        let age_ms = context.now.ms_since(frame.began);
        if age_ms >= limits.frame_timeout_ms {
            return self.close(CloseReason::FrameDeadline, context);
        }
        let least = limits.frame_rate_min as u64 * age_ms / 1_000;
        if age_ms >= FRAME_GRACE_MS && (context.input_bytes as u64) < least {
            self.close(CloseReason::FrameRate, context);
        }
    }

    fn retry_large_frame<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let wanted = self.load.as_ref().map_or(0, |load| load.wanted_bytes);
        if wanted > 0 && !self.closed && self.try_reserve(wanted, context) {
            self.load(context).wanted_bytes = 0;
            self.resume(PAUSED_BY_LARGE_FRAME, context);
        }
    }

    /// Begins or ends the watch over a client whose output is over its limit.
    pub(super) fn watch_rate<A: Proxy>(&mut self, is_over: bool, context: &mut Context<'_, A>) {
        if !is_over {
            if let Some(load) = &mut self.load {
                load.output = None;
            }
            return;
        }
        let began = context.now;
        let load = self.load(context);
        if load.output.is_none() {
            load.output = Some(OutputWindow { began, written: 0 });
            self.arm(began.after_ms(OUTPUT_WINDOW_MS), context);
        }
    }

    pub(super) fn on_flushed(&mut self, written: usize) {
        if let Some(window) = self.load.as_mut().and_then(|load| load.output.as_mut()) {
            window.written += written as u64;
        }
    }

    fn judge_rate<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(window) = self.load.as_mut().and_then(|load| load.output.as_mut()) else { return };
        let age_ms = context.now.ms_since(window.began);
        if age_ms < OUTPUT_WINDOW_MS {
            return;
        }
        let least = context.local.shared.plan.limits.output_rate_min as u64 * age_ms / 1_000;
        if window.written < least {
            return self.reset(CloseReason::SlowReader, context);
        }
        *window = OutputWindow { began: context.now, written: 0 };
    }

    /// Is to end by `deadline`: at a quiet point from a random moment of the first half on.
    pub(super) fn begin_drain<A: Proxy>(&mut self, deadline: Time, context: &mut Context<'_, A>) {
        let half_ms = deadline.ms_since(context.now) / 2;
        let from = context.now.after_ms(context.random() % (half_ms + 1));
        self.load(context).drain = Some(Drain { from, deadline });
        self.arm(from, context);
        let listener = context.local.shared.listener(self.listener);
        if listener.is_some_and(|listener| listener.send_goaway) {
            let version = Version::from_pool_key(self.version).unwrap_or(Version::V1);
            let mut out = [0; CONTROL_BYTES_MAX];
            let length = encode_goaway(version, 0, &mut out);
            context.local.count(Count::GoawaysSent);
            self.write_control(&out[..length], context);
        }
    }

    fn judge_drain<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let drain = self.load.as_ref().and_then(|load| load.drain);
        if drain.is_some_and(|drain| drain.deadline <= context.now) {
            self.close(CloseReason::DrainDeadline, context);
        }
    }

    fn judge_idle<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let idle_ms = context.local.shared.plan.timeouts.idle_ms;
        if self.is_quiet() && context.last_active.after_ms(idle_ms) <= context.now {
            self.close(CloseReason::IdleTimeout, context);
        }
    }

    /// The earliest moment at which something has to be looked at.
    fn next_deadline<A: Proxy>(&self, context: &Context<'_, A>) -> Option<Time> {
        let plan = &context.local.shared.plan;
        let idle =
            context.last_active.after_ms(plan.timeouts.idle_ms).max(context.now.after_ms(IDLE_AGAIN_MS));
        let Some(load) = &self.load else { return Some(idle) };
        let frame = load.frame.filter(|frame| frame.paused_at.is_none()).map(|frame| {
            let age_ms = context.now.ms_since(frame.began);
            let check = if age_ms < FRAME_GRACE_MS { FRAME_GRACE_MS } else { age_ms + FRAME_CHECK_MS };
            frame.began.after_ms(check.min(plan.limits.frame_timeout_ms))
        });
        let drain =
            load.drain.map(|drain| if drain.from > context.now { drain.from } else { drain.deadline });
        let output = load.output.map(|window| window.began.after_ms(OUTPUT_WINDOW_MS));
        let large = (load.wanted_bytes > 0).then(|| context.now.after_ms(LARGE_RETRY_MS));
        let exchanges = load.exchanges.next_deadline();
        let callbacks = load.callbacks.next_deadline();
        [Some(idle), frame, drain, output, large, exchanges, callbacks].into_iter().flatten().min()
    }
}

/// How often the rate of a frame is looked at after that.
const FRAME_CHECK_MS: u64 = 1_000;
/// Over how long a client's reading is measured.
const OUTPUT_WINDOW_MS: u64 = 2_000;
/// A connection that is idle but not quiet is looked at again after this.
const IDLE_AGAIN_MS: u64 = 1_000;
