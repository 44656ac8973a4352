//! What a client is sent: responses in the framing that it understands, and failures.

use bowline_engine::buf::Piece;
use bowline_engine::machine::{Address, Context, Incoming};
use bowline_protocols::http::{BodyLength, HttpHead};
use bowline_protocols::http1::encode;
use bowline_protocols::websocket;

use crate::cluster::Message;
use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::Answer;
use crate::exchange::Begun;
use crate::exchange::HttpExchange;
use crate::exchange::Line;
use crate::exchange::Lingering;
use crate::exchange::Phase;
use crate::filter::Call;
use crate::filter::Position;
use crate::filter::Verdict;
use crate::logging;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::worker::Proxy;

use super::super::super::state::State;
use super::super::super::tunnel::Tunnel;
use super::super::part::{cost_of, take_settled, with_scratch, write_end, write_piece};
use super::super::reply::{self, Reply, To};
use super::requests::filtered;
use super::{HttpDownstream, PAUSED_BY_CREDIT, PAUSED_BY_OUTPUT, PAUSED_BY_PIPELINE, cancel};

impl HttpDownstream {
    pub(super) fn on_response<A: Proxy>(
        &mut self,
        from: Address,
        message: Box<Message>,
        context: &mut Context<'_, A>,
    ) {
        match message.head.status() {
            101 => self.switch(from, message, context),
            100..=199 => self.on_interim(message, context),
            _ => self.on_final(message, context),
        }
    }

    /// A 1xx is passed on to whoever can understand it.
    fn on_interim<A: Proxy>(&mut self, message: Box<Message>, context: &mut Context<'_, A>) {
        if self.exchange().is_some_and(|exchange| !exchange.is_http10) {
            self.write_head(&message.head, true, context);
        }
        context.local.keep_message(message);
    }

    /// The server agreed to speak another protocol; its connection is a tunnel already.
    fn switch<A: Proxy>(&mut self, from: Address, message: Box<Message>, context: &mut Context<'_, A>) {
        self.write_head(&message.head, true, context);
        let is_websocket = websocket::is_named(message.head.upgrade());
        context.local.keep_message(message);
        if self.closed {
            return;
        }
        self.list_output(0, context);
        let Some(mut load) = self.load.take() else { return };
        if let Some(mut exchange) = load.take_exchange() {
            exchange.status = 101;
            self.log_exchange(&mut exchange, None, context);
        }
        context.local.count(Count::Responses);
        // Nothing of the old machine is to be settled.
        self.closed = true;
        let tunnel = Tunnel::switched_client(self.listener, from, is_websocket, context);
        context.hand_over(Box::new(tunnel));
    }

    fn on_final<A: Proxy>(&mut self, mut message: Box<Message>, context: &mut Context<'_, A>) {
        let keep_alive = self.goes_on();
        let Some(exchange) = self.exchange() else { return };
        let chain = exchange.route.map(|index| &context.local.shared.http_routes.route(index).filters);
        if let Some(chain) = chain.filter(|chain| !chain.is_empty()) {
            let call = Call { now: context.now, random: exchange.random };
            let verdict = chain.on_response_head(&mut message.head, &call, &mut Position::default());
            if matches!(verdict, Verdict::Reply(_) | Verdict::Reset) {
                context.local.keep_message(message);
                return self.end_filtered(verdict, context);
            }
        }
        exchange.status = message.head.status();
        exchange.keep_alive = keep_alive;
        if message.head.body == BodyLength::UntilClose && !exchange.is_http10 {
            message.head.body = BodyLength::Chunked;
        }
        if exchange.is_http10 && message.head.body == BodyLength::Chunked {
            message.head.body = BodyLength::UntilClose;
        }
        exchange.keep_alive &= message.head.body != BodyLength::UntilClose;
        let (keep_alive, length) = (exchange.keep_alive, message.head.body);
        exchange.answer = Answer::Begun(Begun { length, owed_bytes: 0, window: (context.now, 0) });
        context.local.count(Count::Responses);
        self.write_head(&message.head, keep_alive, context);
        if let Some(piece) = message.body.take() {
            self.write_body(length, piece, message.ends, context);
        } else if message.ends && !write_end(length, None, context) {
            self.reset(CloseReason::MemoryCeiling, context);
        }
        let ends = message.ends;
        context.local.keep_message(message);
        if self.closed {
            return;
        }
        if ends {
            return self.end_response(context);
        }
        context.watch_output(true);
        self.arm_streaming(context);
    }

    pub(super) fn on_response_body<A: Proxy>(
        &mut self,
        piece: Piece,
        ends: bool,
        context: &mut Context<'_, A>,
    ) {
        let Some(exchange) = self.exchange() else { return };
        let Some(length) = exchange.begun().map(|begun| begun.length) else { return };
        if !filtered(exchange, context, |chain, call, at| chain.on_response_body(&piece, call, at)) {
            return self.reset(CloseReason::FaultInjected, context);
        }
        context.mark_active();
        self.write_body(length, piece, ends, context);
        if ends && !self.closed {
            self.end_response(context);
        }
    }

    pub(super) fn on_response_end<A: Proxy>(
        &mut self,
        mut trailers: Option<Box<HttpHead>>,
        context: &mut Context<'_, A>,
    ) {
        let Some(exchange) = self.exchange() else { return };
        let Some(length) = exchange.begun().map(|begun| begun.length) else { return };
        let passes = trailers.as_mut().is_none_or(|trailers| {
            filtered(exchange, context, |chain, call, at| chain.on_response_trailers(trailers, call, at))
        });
        if !passes {
            return self.reset(CloseReason::FaultInjected, context);
        }
        match write_end(length, trailers.as_deref(), context) {
            true => self.end_response(context),
            false => self.reset(CloseReason::MemoryCeiling, context),
        }
    }

    /// Whether the connection is kept behind the answer whose head is written now.
    fn goes_on(&mut self) -> bool {
        let ends = self.ending.is_some() || self.load.as_ref().is_some_and(|load| load.drain.is_some());
        let is_followed = self.paused & PAUSED_BY_PIPELINE != 0;
        let Some(exchange) = self.exchange() else { return false };
        // Whoever asks for another protocol may say nothing in it before that was agreed to (RFC 9110 section 7.8). What came
        // all the same may be frames of somebody else's making, and is not read as a request.
        let is_early = exchange.asks_upgrade && is_followed;
        // RFC 9112 section 9.3: what of the request has not come yet would have to be read first.
        exchange.keep_alive && exchange.request_ended && !ends && !is_early
    }

    fn write_head<A: Proxy>(&mut self, head: &HttpHead, keep_alive: bool, context: &mut Context<'_, A>) {
        let Some(exchange) = self.exchange() else { return };
        let is_http10 = exchange.is_http10;
        let mut bytes = 0;
        let written = with_scratch(context, |out| {
            encode::response(head, keep_alive, is_http10, out);
            bytes = out.len();
        });
        self.note_written(bytes, context);
        if !written {
            self.reset(CloseReason::MemoryCeiling, context);
        }
    }

    fn write_body<A: Proxy>(
        &mut self,
        length: BodyLength,
        piece: Piece,
        ends: bool,
        context: &mut Context<'_, A>,
    ) {
        self.note_written(piece.len(), context);
        let (now, is_first) = (context.now, context.output_bytes == 0);
        if let Some(begun) = self.exchange().and_then(HttpExchange::begun) {
            begun.owed_bytes = begun.owed_bytes.saturating_add(cost_of(&piece));
            if is_first {
                // Until now there was nothing to take.
                begun.window = (now, 0);
            }
        }
        if !write_piece(length, piece, ends, context) {
            self.reset(CloseReason::MemoryCeiling, context);
        }
    }

    /// Writes a few bytes of ours.
    pub(super) fn write_control<A: Proxy>(&mut self, bytes: &[u8], context: &mut Context<'_, A>) {
        self.note_written(bytes.len(), context);
        if !context.write_copy(bytes) {
            self.reset(CloseReason::MemoryCeiling, context);
        }
    }

    fn note_written<A: Proxy>(&mut self, bytes: usize, context: &Context<'_, A>) {
        context.local.shard().add(Count::DownstreamWrittenBytes, bytes as u64);
        if let Some(exchange) = self.exchange() {
            exchange.bytes_out += bytes as u64;
        }
    }

    pub(super) fn on_flushed<A: Proxy>(
        &mut self,
        written: usize,
        queued: usize,
        context: &mut Context<'_, A>,
    ) {
        let now = context.now;
        let Some(exchange) = self.exchange().filter(|exchange| exchange.is_answered()) else {
            return self.on_backlog_taken(written, queued, context);
        };
        let (key, upstream) = (exchange.key, exchange.upstream);
        let Some(begun) = exchange.begun() else { return };
        let (since, taken) = begun.window;
        begun.window = if queued == 0 { (now, 0) } else { (since, taken + written as u64) };
        let bytes = take_settled(&mut begun.owed_bytes, written, queued);
        if let Some(upstream) = upstream.filter(|_| bytes > 0) {
            context.send(upstream, Mail::HttpCredit { key, bytes });
        }
    }

    /// A client that does not take the answers that it has is not asked for more requests.
    fn await_backlog<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if queued_bytes(context) <= BACKLOG_BYTES_MAX {
            return;
        }
        let now = context.now;
        self.load(context).phase = Phase::Backlog(now, 0);
        self.pause(PAUSED_BY_OUTPUT, context);
        context.watch_output(true);
        self.arm_streaming(context);
    }

    fn on_backlog_taken<A: Proxy>(&mut self, written: usize, queued: usize, context: &mut Context<'_, A>) {
        match self.load.as_mut().map(|load| &mut load.phase) {
            Some(Phase::Backlog(_, taken)) if queued > BACKLOG_BYTES_MAX => {
                *taken += written as u64;
                return;
            }
            Some(phase @ Phase::Backlog(..)) => *phase = Phase::Rest,
            _ => return context.watch_output(false),
        }
        context.watch_output(false);
        self.resume(PAUSED_BY_OUTPUT, context);
    }

    /// All of the answer is queued, so the exchange is over; what has not come of its request is not waited for.
    fn end_response<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(mut exchange) = self.take_exchange() else { return };
        context.local.shard().observe_request_ms(context.now.ms_since(exchange.began));
        self.log_exchange(&mut exchange, None, context);
        self.go_on(exchange.request_ended, exchange.keep_alive, context);
    }

    /// What becomes of the connection behind an answer.
    fn go_on<A: Proxy>(&mut self, request_ended: bool, keep_alive: bool, context: &mut Context<'_, A>) {
        let is_all_read = request_ended && self.paused & PAUSED_BY_PIPELINE == 0;
        self.rest(context);
        if keep_alive || is_all_read {
            self.await_backlog(context);
        }
        match (is_all_read, keep_alive) {
            (_, true) => {}
            // It is closed once the client has taken its answer.
            (true, false) => drop(self.ending.get_or_insert(CloseReason::HttpFinished)),
            (false, false) => self.linger(CloseReason::HttpFinished, context),
        }
    }

    /// Between two requests.
    fn rest<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        context.set_in_flight(0);
        context.set_state(State::Idle as u8);
        context.mark_active();
        let idle_ms = context.local.shared.plan.timeouts.idle_ms;
        self.arm(context.now.after_ms(idle_ms), context);
        self.resume(PAUSED_BY_PIPELINE, context);
        self.resume(PAUSED_BY_CREDIT, context);
    }

    /// Reads on for a while and throws it away: a socket that is closed with input unread resets, and the client would
    /// lose its answer (RFC 9112 section 9.6).
    fn linger<A: Proxy>(&mut self, reason: CloseReason, context: &mut Context<'_, A>) {
        context.shutdown_write();
        self.linger_until(reason, false, context);
    }

    fn linger_until<A: Proxy>(&mut self, reason: CloseReason, resets: bool, context: &mut Context<'_, A>) {
        let (since, queued) = (context.now, queued_bytes(context));
        self.ending.get_or_insert(reason);
        self.load(context).phase = Phase::Lingering(Lingering { since, queued, thrown: 0, resets });
        self.arm(since.after_ms(LINGER_MS), context);
    }

    pub(super) fn is_lingering(&self) -> bool {
        self.lingering().is_some()
    }

    pub(super) fn end_lingering<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let lingering = self.lingering();
        let reason = self.ending.unwrap_or(CloseReason::HttpFinished);
        match lingering.is_some_and(|lingering| lingering.resets) {
            true => self.reset(reason, context),
            false => self.close(reason, context),
        }
    }

    pub(super) fn throw_away<A: Proxy>(
        &mut self,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_, A>,
    ) -> bool {
        let bytes = incoming.len();
        incoming.consume(bytes);
        let phase = self.load.as_mut().map(|load| &mut load.phase);
        if let Some(Phase::Lingering(lingering)) = phase {
            lingering.thrown += bytes as u64;
            if lingering.thrown > LINGER_BYTES_MAX {
                self.end_lingering(context);
            }
        }
        false
    }

    /// The server failed after some of the request was written.
    pub(super) fn on_failed<A: Proxy>(&mut self, why: Failure, context: &mut Context<'_, A>) {
        if let Some(exchange) = self.exchange() {
            exchange.upstream = None;
        }
        self.answer_failure(why, None, context);
    }

    /// Answers the exchange with its failure; one whose answer has begun can only be cut.
    pub(super) fn answer_failure<A: Proxy>(
        &mut self,
        why: Failure,
        field: Option<(&[u8], &[u8])>,
        context: &mut Context<'_, A>,
    ) {
        let name = context.local.shared.plan.http.error_reason.then(|| why.name());
        context.local.fail(why);
        let Some(exchange) = self.exchange() else { return };
        if exchange.is_answered() {
            return self.cut(CloseReason::PartnerGone, Some(why), context);
        }
        let reply = Reply { reason: name, field, ..Reply::of(why.http_status()) };
        self.answer(&reply, Some(why), context);
    }

    /// Ends the connection, perhaps in the middle of an answer. What is queued goes out first, the answers before that one
    /// too, and what was begun stays without its end: bytes of its length are missing, or its last chunk is (RFC 9112
    /// section 8). An answer that only the end of the connection ends must be reset, or its client takes it for whole.
    pub(super) fn cut<A: Proxy>(
        &mut self,
        reason: CloseReason,
        why: Option<Failure>,
        context: &mut Context<'_, A>,
    ) {
        let Some(length) = self.exchange().and_then(HttpExchange::begun).map(|begun| begun.length) else {
            return self.close(reason, context);
        };
        let Some(mut exchange) = self.take_exchange() else { return };
        cancel(&exchange, context);
        self.log_exchange(&mut exchange, why, context);
        self.rest(context);
        let says_all = self.ending.replace(reason).is_some();
        match length == BodyLength::UntilClose {
            true => self.linger_until(reason, true, context),
            // Nothing comes that would turn the end into a reset.
            false if says_all => self.close(reason, context),
            false => self.linger(reason, context),
        }
    }

    /// Answers the exchange with `reply`, and goes on with the next request if the connection may.
    pub(super) fn answer<A: Proxy>(
        &mut self,
        reply: &Reply<'_>,
        why: Option<Failure>,
        context: &mut Context<'_, A>,
    ) {
        let keep_alive = self.goes_on();
        let Some(mut exchange) = self.take_exchange() else { return };
        exchange.keep_alive = keep_alive;
        let to =
            To { method: exchange.method, is_http10: exchange.is_http10, keep_alive: exchange.keep_alive };
        exchange.status = reply.status;
        let written = reply::write(reply, to, context);
        exchange.bytes_out += written.unwrap_or(0) as u64;
        context.local.shard().add(Count::DownstreamWrittenBytes, written.unwrap_or(0) as u64);
        context.local.shard().observe_request_ms(context.now.ms_since(exchange.began));
        self.log_exchange(&mut exchange, why, context);
        if written.is_none() {
            return self.reset(CloseReason::MemoryCeiling, context);
        }
        self.go_on(exchange.request_ended, exchange.keep_alive, context);
    }

    /// The exchange ends with a failure, and the connection with it.
    pub(super) fn end_with<A: Proxy>(
        &mut self,
        why: Failure,
        status: u16,
        reason: CloseReason,
        context: &mut Context<'_, A>,
    ) {
        context.local.fail(why);
        let name = context.local.shared.plan.http.error_reason.then(|| why.name());
        if self.exchange().is_some_and(|exchange| exchange.is_answered()) {
            return self.cut(reason, Some(why), context);
        }
        let Some(mut exchange) = self.take_exchange() else { return };
        cancel(&exchange, context);
        self.log_exchange(&mut exchange, Some(why), context);
        self.last_words(&Reply { reason: name, ..Reply::of(status) }, reason, context);
    }

    /// Answers whatever came last, and closes once the client can have read it.
    pub(super) fn last_words<A: Proxy>(
        &mut self,
        reply: &Reply<'_>,
        reason: CloseReason,
        context: &mut Context<'_, A>,
    ) {
        let to = To { method: Default::default(), is_http10: false, keep_alive: false };
        let written = reply::write(reply, to, context);
        context.local.shard().add(Count::DownstreamWrittenBytes, written.unwrap_or(0) as u64);
        self.rest(context);
        self.linger(reason, context);
    }

    /// What the access line of a request will say; nothing while access lines are off.
    pub(super) fn line_of<A: Proxy>(head: &HttpHead, context: &mut Context<'_, A>) -> Option<Box<Line>> {
        if !context.local.shared.plan.log.access {
            return None;
        }
        let mut line = context.local.take_line();
        line.write(head.method_text(), head.authority(), head.path_and_query());
        Some(line)
    }

    /// Writes the access line of an exchange that is over.
    pub(super) fn log_exchange<A: Proxy>(
        &self,
        exchange: &mut HttpExchange,
        why: Option<Failure>,
        context: &mut Context<'_, A>,
    ) {
        let Some(line) = exchange.line.take() else { return };
        let shared = &context.local.shared;
        let cluster = exchange.cluster.and_then(|at| shared.clusters.get(usize::from(at)));
        logging::access(&logging::Access {
            connection: context.me.as_u64(),
            peer: context.peer,
            listener: shared.listener(self.listener).map_or("", |listener| &listener.name),
            service: line.as_str(),
            cluster: cluster.map_or("", |cluster| &cluster.plan().name),
            status: (exchange.status > 0).then_some(exchange.status),
            failure: why,
            duration_us: context.now.ms_since(exchange.began) * 1_000,
            bytes_in: exchange.bytes_in,
            bytes_out: exchange.bytes_out,
        });
        context.local.keep_line(line);
    }
}

/// Bytes that wait to be written, those of this call too.
fn queued_bytes<A: Proxy>(context: &Context<'_, A>) -> usize {
    context.output_bytes + context.effects.output.iter().map(|piece| piece.len()).sum::<usize>()
}

/// How long input is thrown away after an answer that came before the request had ended, once the client has taken it.
pub(super) const LINGER_MS: u64 = 2_000;
/// How much of it.
const LINGER_BYTES_MAX: u64 = 1 << 20;
/// An answer that is over and of which more than this waits has a client that must be waited for.
const BACKLOG_BYTES_MAX: usize = 16 << 10;
