//! Every deadline of an HTTP client's connection, over the one that a machine can arm: the earliest is armed, and when it
//! comes all are looked at.

use bowline_engine::machine::Context;
use bowline_engine::time::Time;

use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::Answer;
use crate::exchange::Drain;
use crate::exchange::Lingering;
use crate::exchange::Phase;
use crate::worker::Proxy;

use super::super::reply::Reply;
use super::answers::LINGER_MS;
use super::{HttpDownstream, PAUSED_BY_CREDIT, cancel};

impl HttpDownstream {
    /// Asks to be called at `at`, unless an earlier call is due.
    pub(super) fn arm<A: Proxy>(&mut self, at: Time, context: &mut Context<'_, A>) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            context.set_deadline(Some(at));
        }
    }

    /// A response streams: somebody has to look whether its client takes it.
    pub(super) fn arm_streaming<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let body_ms = context.local.shared.plan.timeouts.http_body_ms;
        self.arm(context.now.after_ms(body_ms), context);
    }

    pub(super) fn on_deadline<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.armed = None;
        self.release_held(context);
        self.judge_head(context);
        self.judge_answer(context);
        self.judge_body(context);
        self.judge_backlog(context);
        self.judge_rest(context);
        if let Some(at) = self.next_deadline(context).filter(|_| !self.closed) {
            self.arm(at, context);
        }
    }

    /// A request that a filter held back goes on.
    fn release_held<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let now = context.now;
        let Some(exchange) = self.exchange() else { return };
        let is_due = matches!(exchange.answer, Answer::Held(_, until) if until <= now);
        if is_due && let Answer::Held(message, _) = std::mem::replace(&mut exchange.answer, Answer::Awaited) {
            // What a filter took was not the server's time.
            self.await_answer(context);
            self.filter(message, context);
        }
    }

    /// A head must be whole in time, whatever comes of it in between.
    fn judge_head<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let head_ms = context.local.shared.plan.timeouts.http_head_ms;
        let Some(load) = self.load.as_mut().filter(|_| !context.held_back) else { return };
        if load.head_began.is_some_and(|began| began.after_ms(head_ms) <= context.now) {
            load.head_began = None;
            context.local.fail(Failure::HeadTimeout);
            let name = context.local.shared.plan.http.error_reason.then(|| Failure::HeadTimeout.name());
            let reply = Reply { reason: name, ..Reply::of(Failure::HeadTimeout.http_status()) };
            self.last_words(&reply, CloseReason::HttpHeadTimeout, context);
        }
    }

    /// The server has its time for the head of the answer from now on.
    pub(super) fn await_answer<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let now = context.now;
        if let Some(exchange) = self.exchange().filter(|exchange| !exchange.is_answered()) {
            exchange.deadline = now.after_ms(exchange.timeout_ms);
            let at = exchange.deadline;
            self.arm(at, context);
        }
    }

    /// The head of the answer must be there in time, counted from the end of the request, and a server that takes no more
    /// of the request has no more time than that.
    fn judge_answer<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let now = context.now;
        let is_paused = self.paused & PAUSED_BY_CREDIT != 0;
        let Some(exchange) = self.exchange() else { return };
        let is_server_late = exchange.request_ended || is_paused;
        if !exchange.is_asked() || !is_server_late || exchange.deadline > now {
            return;
        }
        self.give_up_on_server(Failure::Timeout, context);
    }

    /// The client is told `why` nothing of an answer came, and the server that nobody waits for it.
    fn give_up_on_server<A: Proxy>(&mut self, why: Failure, context: &mut Context<'_, A>) {
        if let Some(exchange) = self.exchange() {
            cancel(exchange, context);
            exchange.upstream = None;
        }
        self.answer_failure(why, None, context);
    }

    /// A body must come while it is read, and be taken while it is written: each has its own clock, for an answer may come
    /// before all of its request has.
    fn judge_body<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let timeouts = context.local.shared.plan.timeouts;
        let rate_min = context.local.shared.plan.limits.http_body_rate_min as u64;
        let (now, queued, held_back) = (context.now, context.output_bytes, context.held_back);
        let is_read = self.paused & PAUSED_BY_CREDIT == 0 && !held_back;
        let Some(exchange) = self.exchange() else { return };
        let was_slow = |window: &mut (Time, u64)| {
            let (since, bytes) = *window;
            let is_over = since.after_ms(timeouts.http_body_ms) <= now;
            if is_over {
                *window = (now, 0);
            }
            is_over && bytes < (rate_min.saturating_mul(now.ms_since(since)) / 1_000).max(1)
        };
        let sent_slowly = was_slow(&mut exchange.request_window);
        let taken_slowly = exchange.begun().is_some_and(|begun| was_slow(&mut begun.window));
        let request_ended = exchange.request_ended;
        if taken_slowly && queued > 0 {
            return self.reset(CloseReason::SlowReader, context);
        }
        if sent_slowly && !request_ended && is_read {
            self.end_with(Failure::BodyTimeout, 408, CloseReason::HttpBodyTimeout, context);
        }
    }

    /// An answer that is over must be taken too.
    fn judge_backlog<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let body_ms = context.local.shared.plan.timeouts.http_body_ms;
        let rate_min = context.local.shared.plan.limits.http_body_rate_min as u64;
        let now = context.now;
        let Some(load) = self.load.as_mut() else { return };
        let Some((since, taken)) = load.backlog().filter(|(since, _)| since.after_ms(body_ms) <= now) else {
            return;
        };
        load.phase = Phase::Backlog(now, 0);
        if taken < (rate_min.saturating_mul(now.ms_since(since)) / 1_000).max(1) {
            self.reset(CloseReason::SlowReader, context);
        }
    }

    /// What has nothing to do with an exchange: the end of a drain, of lingering, and of an idle connection.
    fn judge_rest<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.closed {
            return;
        }
        let idle_ms = context.local.shared.plan.timeouts.idle_ms;
        if self.drain_is_over(context.now) {
            return self.end_drained(context);
        }
        if let Some(lingering) = self.lingering() {
            if self.lingering_ends(&lingering, context) <= context.now && !self.renew_lingering(context) {
                self.end_lingering(context);
            }
            return;
        }
        // Whoever waits for an answer is not idle, however long its route gives the server. Behind the head of an answer this
        // is what ends one of which nothing comes any more.
        if !self.awaits_head() && context.last_active.after_ms(idle_ms) <= context.now {
            self.cut(CloseReason::IdleTimeout, None, context);
        }
    }

    /// Whether a drain has no time left, and this connection not either: who was answered by that very deadline may still
    /// take the answer.
    fn drain_is_over(&self, now: Time) -> bool {
        let Some(drain) = self.load.as_ref().and_then(|load| load.drain) else { return false };
        let outlasts = |lingering: Lingering| self.drained_while_lingering(&lingering).is_some();
        drain.deadline <= now && !self.lingering().is_some_and(outlasts)
    }

    /// The deadline by which a client that lingers was answered, if it was.
    fn drained_while_lingering(&self, lingering: &Lingering) -> Option<Time> {
        let drain = self.load.as_ref().and_then(|load| load.drain)?;
        (drain.deadline <= lingering.since).then_some(drain.deadline)
    }

    /// Who is to be reset gets what is queued first, as long as a close would wait for it; who was answered by the deadline of
    /// a drain has hardly any time, or the end of the process would take the answer back.
    fn lingering_ends<A: Proxy>(&self, lingering: &Lingering, context: &Context<'_, A>) -> Time {
        if let Some(deadline) = self.drained_while_lingering(lingering) {
            return deadline.after_ms(DRAINED_LINGER_MS);
        }
        let waits = lingering.resets && context.output_bytes > 0;
        lingering.since.after_ms(if waits { RESET_FLUSH_MS } else { LINGER_MS })
    }

    /// Nobody is waited for any more. Who has heard nothing of an answer hears why there will be none.
    fn end_drained<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.awaits_head() {
            self.ending = Some(CloseReason::DrainDeadline);
            return self.give_up_on_server(Failure::DrainDeadline, context);
        }
        if self.lingering().is_none() {
            self.cut(CloseReason::DrainDeadline, None, context);
        }
        self.end_lingering(context);
    }

    /// Whoever still takes what is queued, as fast as a body must be taken, has its time again: it may be the whole of an
    /// answer, and an end would cut it.
    fn renew_lingering<A: Proxy>(&mut self, context: &Context<'_, A>) -> bool {
        let rate_min = context.local.shared.plan.limits.http_body_rate_min as u64;
        let (now, left) = (context.now, context.output_bytes);
        if self.lingering().is_some_and(|lingering| self.drained_while_lingering(&lingering).is_some()) {
            return false;
        }
        let Some(Phase::Lingering(lingering)) = self.load.as_mut().map(|load| &mut load.phase) else {
            return false;
        };
        let due = usize::try_from(rate_min * LINGER_MS / 1_000).unwrap_or(usize::MAX);
        let taken = lingering.queued.saturating_sub(left);
        let goes_on = !lingering.resets && left > 0 && taken >= due.max(1);
        if goes_on {
            (lingering.since, lingering.queued) = (now, left);
        }
        goes_on
    }

    fn awaits_head(&self) -> bool {
        let exchange = self.load.as_ref().and_then(|load| load.exchange());
        exchange.is_some_and(|exchange| !exchange.is_answered())
    }

    /// Is to end by `deadline`: at a quiet point from a random moment of the first half on.
    pub(super) fn begin_drain<A: Proxy>(&mut self, deadline: Time, context: &mut Context<'_, A>) {
        let half_ms = deadline.ms_since(context.now) / 2;
        let from = context.now.after_ms(context.random() % (half_ms + 1));
        self.load(context).drain = Some(Drain { from, deadline });
        self.arm(from, context);
    }

    /// The earliest moment at which something has to be looked at.
    fn next_deadline<A: Proxy>(&self, context: &Context<'_, A>) -> Option<Time> {
        let timeouts = context.local.shared.plan.timeouts;
        let again = context.now.after_ms(AGAIN_MS);
        let idle = context.last_active.after_ms(timeouts.idle_ms).max(again);
        let Some(load) = &self.load else { return Some(idle) };
        let idle = (!self.awaits_head()).then_some(idle);
        let head = load.head_began.map(|began| began.after_ms(timeouts.http_head_ms).max(again));
        let drain = load
            .drain
            .map(|drain| if drain.from > context.now { drain.from } else { drain.deadline })
            .filter(|at| *at > context.now || self.drain_is_over(context.now));
        let linger = load.lingering().map(|lingering| {
            self.lingering_ends(&lingering, context).min(lingering.since.after_ms(LINGER_MS).max(again))
        });
        let exchange = load.exchange();
        let is_paused = self.paused & PAUSED_BY_CREDIT != 0;
        let answer = exchange
            .filter(|exchange| exchange.is_asked() && (exchange.request_ended || is_paused))
            .map(|exchange| exchange.deadline);
        let until_held = exchange.and_then(|exchange| match &exchange.answer {
            Answer::Held(_, until) => Some(*until),
            _ => None,
        });
        let body_of = |window: (Time, u64)| window.0.after_ms(timeouts.http_body_ms).max(again);
        let request = exchange
            .filter(|exchange| !exchange.request_ended)
            .map(|exchange| body_of(exchange.request_window));
        let response = exchange.and_then(|exchange| match &exchange.answer {
            Answer::Begun(begun) => Some(body_of(begun.window)),
            _ => None,
        });
        let backlog = load.backlog().map(|(since, _)| since.after_ms(timeouts.http_body_ms).max(again));
        [idle, head, drain, linger, answer, until_held, request, response, backlog]
            .into_iter()
            .flatten()
            .min()
    }
}

/// How long a client that is to be reset may take to take what is queued.
const RESET_FLUSH_MS: u64 = 10_000;
/// How long a client that the deadline of a drain answered may go on sending: well within the second that `run/course` gives
/// last bytes before it ends the process.
const DRAINED_LINGER_MS: u64 = 500;
/// What stands in the way of a deadline that has come is looked at again after this.
const AGAIN_MS: u64 = 100;
