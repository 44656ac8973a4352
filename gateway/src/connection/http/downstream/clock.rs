//! Every deadline of an HTTP client's connection, over the one that a machine can arm: the earliest is armed, and when it
//! comes, each duty that is due is done. When a duty is due is said in one place, for both.

use bowline_engine::machine::Context;
use bowline_engine::time::Time;

use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::Answer;
use crate::exchange::Drain;
use crate::exchange::HttpExchange;
use crate::exchange::Lingering;
use crate::exchange::Phase;
use crate::worker::Proxy;

use super::super::reply::Reply;
use super::answers::LINGER_MS;
use super::{HttpDownstream, PAUSED_BY_CREDIT, cancel};

/// What a client's connection has a deadline for.
#[derive(Clone, Copy, Debug)]
enum Duty {
    /// A request that a filter holds back goes on.
    Held,
    /// A head that has begun must be whole.
    Head,
    /// The server must have answered.
    Answer,
    /// The body of the answer must have been taken, at some rate.
    Response,
    /// The body of the request must have come, at some rate.
    Request,
    /// What is left of an answer that is over must have been taken too.
    Backlog,
    /// A drain ends now.
    Drain,
    /// A client that was answered for good is not waited for any more.
    Linger,
    /// Nothing happened for long.
    Idle,
}

/// In the order in which they are done if several are due.
const DUTIES: [Duty; 9] = [
    Duty::Held,
    Duty::Head,
    Duty::Answer,
    Duty::Response,
    Duty::Request,
    Duty::Backlog,
    Duty::Drain,
    Duty::Linger,
    Duty::Idle,
];

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
        for duty in DUTIES {
            if !self.closed && self.due_at(duty, context).is_some_and(|at| at <= context.now) {
                self.fulfil(duty, context);
            }
        }
        // What is due even now has something in its way.
        let next_look = |at| if at <= context.now { context.now.after_ms(AGAIN_MS) } else { at };
        let due = DUTIES.into_iter().filter_map(|duty| self.due_at(duty, context)).map(next_look).min();
        if let Some(at) = due.filter(|_| !self.closed) {
            self.arm(at, context);
        }
    }

    /// When a duty is due, as things stand; nothing if there is no such duty now.
    fn due_at<A: Proxy>(&self, duty: Duty, context: &Context<'_, A>) -> Option<Time> {
        let timeouts = &context.local.shared.plan.timeouts;
        let load = self.load.as_ref();
        let exchange = || load.and_then(|load| load.exchange());
        let body_of = |window: (Time, u64)| window.0.after_ms(timeouts.http_body_ms);
        match duty {
            Duty::Held => match exchange()?.answer {
                Answer::Held(_, until) => Some(until),
                _ => None,
            },
            Duty::Head => Some(load?.head_began?.after_ms(timeouts.http_head_ms)),
            // Counted from the end of the request, and a server that takes no more of the request has no more time than that.
            Duty::Answer => {
                let is_paused = self.paused & PAUSED_BY_CREDIT != 0;
                let is_server_late = |exchange: &&HttpExchange| exchange.request_ended || is_paused;
                Some(exchange().filter(|exchange| exchange.is_asked()).filter(is_server_late)?.deadline)
            }
            Duty::Response => match &exchange()?.answer {
                Answer::Begun(begun) => Some(body_of(begun.window)),
                _ => None,
            },
            Duty::Request => exchange()
                .filter(|exchange| !exchange.request_ended)
                .map(|exchange| body_of(exchange.request_window)),
            Duty::Backlog => load?.backlog().map(body_of),
            Duty::Drain => self.drain_due_at(context.now),
            Duty::Linger => {
                let lingering = load?.lingering()?;
                let looked_at = lingering.since.after_ms(LINGER_MS);
                Some(self.lingering_ends(&lingering, context).min(looked_at))
            }
            // Whoever waits for an answer is not idle, however long its route gives the server. Behind the head of an answer
            // this is what ends one of which nothing comes any more.
            Duty::Idle => {
                let is_idle = !self.awaits_head() && self.lingering().is_none();
                is_idle.then(|| context.last_active.after_ms(timeouts.idle_ms))
            }
        }
    }

    /// The moment from which a drain may end this connection, then the one at which it does. Who was answered by that very
    /// deadline may still take the answer.
    fn drain_due_at(&self, now: Time) -> Option<Time> {
        let drain = self.load.as_ref()?.drain?;
        let outlasts = |lingering: Lingering| self.drained_while_lingering(&lingering).is_some();
        match drain.from > now {
            true => Some(drain.from),
            false => Some(drain.deadline).filter(|_| !self.lingering().is_some_and(outlasts)),
        }
    }

    /// Does what is due.
    fn fulfil<A: Proxy>(&mut self, duty: Duty, context: &mut Context<'_, A>) {
        match duty {
            Duty::Held => self.release_held(context),
            Duty::Head => self.give_up_head(context),
            Duty::Answer => self.give_up_on_server(Failure::Timeout, context),
            Duty::Response => self.judge_response(context),
            Duty::Request => self.judge_request(context),
            Duty::Backlog => self.judge_backlog(context),
            Duty::Drain => self.end_drained(context),
            Duty::Linger => self.judge_lingering(context),
            Duty::Idle => self.cut(CloseReason::IdleTimeout, None, context),
        }
    }

    /// What a filter took was not the server's time.
    fn release_held<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(exchange) = self.exchange() else { return };
        match std::mem::replace(&mut exchange.answer, Answer::Awaited) {
            Answer::Held(message, _) => {
                self.await_answer(context);
                self.filter(message, context);
            }
            other => exchange.answer = other,
        }
    }

    /// A head was not whole in time, whatever came of it in between. A client that was not read meanwhile could not send it.
    fn give_up_head<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(load) = self.load.as_mut().filter(|_| !context.held_back) else { return };
        load.head_began = None;
        context.local.fail(Failure::HeadTimeout);
        let name = context.local.shared.plan.http.error_reason.then(|| Failure::HeadTimeout.name());
        let reply = Reply { reason: name, ..Reply::of(Failure::HeadTimeout.http_status()) };
        self.last_words(&reply, CloseReason::HttpHeadTimeout, context);
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

    /// The client is told `why` nothing of an answer came, and the server that nobody waits for it.
    fn give_up_on_server<A: Proxy>(&mut self, why: Failure, context: &mut Context<'_, A>) {
        if let Some(exchange) = self.exchange() {
            cancel(exchange, context);
            exchange.upstream = None;
        }
        self.answer_failure(why, None, context);
    }

    /// A body must be taken while it is written: it has a clock of its own, for an answer may come before all of its request
    /// has.
    fn judge_response<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let (rate_min, now) = (rate_min(context), context.now);
        let begun = self.exchange().and_then(|exchange| exchange.begun());
        if begun.is_some_and(|begun| was_slow(&mut begun.window, rate_min, now)) && context.output_bytes > 0 {
            self.reset(CloseReason::SlowReader, context);
        }
    }

    /// A body must come while it is read.
    fn judge_request<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let (rate_min, now) = (rate_min(context), context.now);
        let is_read = self.paused & PAUSED_BY_CREDIT == 0 && !context.held_back;
        let Some(exchange) = self.exchange() else { return };
        if was_slow(&mut exchange.request_window, rate_min, now) && is_read {
            self.end_with(Failure::BodyTimeout, 408, CloseReason::HttpBodyTimeout, context);
        }
    }

    fn judge_backlog<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let (rate_min, now) = (rate_min(context), context.now);
        let Some(Phase::Backlog(since, taken)) = self.load.as_mut().map(|load| &mut load.phase) else {
            return;
        };
        let mut window = (*since, *taken);
        let is_slow = was_slow(&mut window, rate_min, now);
        (*since, *taken) = window;
        if is_slow {
            self.reset(CloseReason::SlowReader, context);
        }
    }

    /// Who still takes what is queued may go on with it.
    fn judge_lingering<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let is_over = |lingering: Lingering| self.lingering_ends(&lingering, context) <= context.now;
        if self.lingering().is_some_and(is_over) && !self.renew_lingering(context) {
            self.end_lingering(context);
        }
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
}

/// Bytes of a body in a second, at least.
fn rate_min<A: Proxy>(context: &Context<'_, A>) -> u64 {
    context.local.shared.plan.limits.http_body_rate_min as u64
}

/// Whether fewer bytes moved in a window, which is over, than must. The next one begins.
fn was_slow(window: &mut (Time, u64), rate_min: u64, now: Time) -> bool {
    let (since, bytes) = std::mem::replace(window, (now, 0));
    bytes < (rate_min.saturating_mul(now.ms_since(since)) / 1_000).max(1)
}

/// How long a client that is to be reset may take to take what is queued.
const RESET_FLUSH_MS: u64 = 10_000;
/// How long a client that the deadline of a drain answered may go on sending: well within the second that `run/course` gives
/// last bytes before it ends the process.
const DRAINED_LINGER_MS: u64 = 500;
/// What is due and could not be done is looked at again after this.
const AGAIN_MS: u64 = 100;
