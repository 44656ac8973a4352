//! What a client sends: heads are judged and routed, bodies go as far as the server takes them.

use bowline_engine::machine::{Context, Incoming};
use bowline_engine::time::Time;
use bowline_protocols::http::{BodyLength, HttpFault, HttpHead, Method};
use bowline_protocols::http1::{BodyDecoder, HeadStep};
use bowline_protocols::websocket;

use crate::cluster::Message;
use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::Answer;
use crate::exchange::HttpExchange;
use crate::exchange::HttpLoad;
use crate::exchange::Phase;
use crate::filter;
use crate::filter::Call;
use crate::filter::Chain;
use crate::filter::Position;
use crate::filter::Verdict;
use crate::logging;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::route::HttpAction;
use crate::worker::Proxy;

use super::super::super::state::State;
use super::super::open;
use super::super::part::{Part, cost_of, take_part};
use super::super::reply::Reply;
use super::{HttpDownstream, PAUSED_BY_CREDIT, PAUSED_BY_PIPELINE, cancel};

impl HttpDownstream {
    pub(super) fn on_bytes<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
        let before = incoming.len();
        while !incoming.is_empty() && !self.closed && self.paused == 0 {
            let goes_on = match self.exchange().map(|exchange| exchange.request_ended) {
                _ if self.is_lingering() => self.throw_away(incoming, context),
                None => self.on_head(incoming, context),
                Some(false) => self.on_body(incoming, context),
                Some(true) => {
                    self.pause(PAUSED_BY_PIPELINE, context);
                    false
                }
            };
            if !goes_on {
                break;
            }
        }
        context.local.shard().add(Count::DownstreamReadBytes, (before - incoming.len()) as u64);
    }

    /// False if nothing more can be done with these bytes.
    fn on_head<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) -> bool {
        if self.ending.is_some() {
            incoming.consume(incoming.len());
            return false;
        }
        let limits = context.local.shared.http_limits;
        let mut message = context.local.take_message();
        let load = self.load(context);
        let step = load.head.request(incoming.bytes(), &limits, &mut message.head);
        match step {
            Ok(HeadStep::Head { consumed }) => {
                load.head = Default::default();
                let began = load.head_began.take().unwrap_or(context.now);
                incoming.consume(consumed);
                self.on_request(message, (began, consumed), incoming, context)
            }
            Ok(HeadStep::Need(needed)) => {
                context.local.keep_message(message);
                self.await_head(needed, context);
                false
            }
            Err(fault) => {
                context.local.keep_message(message);
                incoming.consume(incoming.len());
                self.refuse_head(fault, context);
                false
            }
        }
    }

    /// The clock of a head runs from its first byte on, whatever comes of it in between.
    fn await_head<A: Proxy>(&mut self, needed: usize, context: &mut Context<'_, A>) {
        let (now, head_ms) = (context.now, context.local.shared.plan.timeouts.http_head_ms);
        let load = self.load(context);
        if load.head_began.is_none() {
            load.head_began = Some(now);
            self.arm(now.after_ms(head_ms), context);
        }
        context.need(needed);
    }

    /// Something in the head is wrong, so nothing behind it can be trusted.
    fn refuse_head<A: Proxy>(&mut self, fault: HttpFault, context: &mut Context<'_, A>) {
        logging::http_refused(context.me.as_u64(), fault.name());
        let failure = match fault.status() {
            431 | 414 => Failure::HeadTooLarge,
            413 => Failure::BodyTooLarge,
            _ => Failure::HeadMalformed,
        };
        let reason = match failure {
            Failure::HeadMalformed => CloseReason::HttpMalformed,
            _ => CloseReason::HttpTooLarge,
        };
        context.local.count(Count::Requests);
        context.local.fail(failure);
        let name = context.local.shared.plan.http.error_reason.then(|| fault.name());
        let reply = Reply { reason: name, ..Reply::of(fault.status()) };
        if let Some(load) = &mut self.load {
            load.head_began = None;
        }
        self.last_words(&reply, reason, context);
    }

    fn on_request<A: Proxy>(
        &mut self,
        mut message: Box<Message>,
        (began, head_bytes): (Time, usize),
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_, A>,
    ) -> bool {
        context.local.count(Count::Requests);
        context.count_request();
        context.set_in_flight(1);
        context.set_state(State::Active as u8);
        let mut exchange = HttpExchange::of(&message.head, began, context.now);
        exchange.line = Self::line_of(&message.head, context);
        let (load, behind) = (self.load(context), incoming.len());
        let refused = exchange.body_of(incoming, &mut message, (&mut load.trailers, context)).err();
        exchange.note_read(head_bytes + behind - incoming.len());
        let asks = message.head.expects_continue;
        message.head.expects_continue = false;
        exchange.needs_continue =
            asks && !exchange.request_ended && !exchange.is_http10 && incoming.is_empty();
        let is_followed = exchange.asks_upgrade && exchange.request_ended && !incoming.is_empty();
        self.load(context).phase = Phase::Exchange(exchange);
        if is_followed {
            self.pause(PAUSED_BY_PIPELINE, context);
        }
        if let Some(fault) = refused {
            context.local.keep_message(message);
            self.refuse_body(fault, context);
            return false;
        }
        self.route(message, context);
        !self.closed
    }

    /// Sends a request on its way, or answers it.
    fn route<A: Proxy>(&mut self, mut message: Box<Message>, context: &mut Context<'_, A>) {
        if let Some(failure) = judge(&mut message.head) {
            let version =
                (failure == Failure::UpgradeRefused).then_some((&b"Sec-WebSocket-Version"[..], &b"13"[..]));
            context.local.keep_message(message);
            return self.answer_failure(failure, version, context);
        }
        let random = context.random();
        let (shared, peer) = (&context.local.shared, context.peer.ip());
        let Some((index, route)) = shared.http_routes.find(self.listener, &message.head) else {
            context.local.keep_message(message);
            return self.answer_failure(Failure::NoRoute, None, context);
        };
        let timeout_ms = route.timeout_ms;
        let mut scratch = std::mem::take(&mut context.local.scratch);
        let told = shared.forwarded.apply(&mut message.head, peer, false, random, &mut scratch);
        context.local.scratch = scratch;
        let Some(exchange) = self.exchange().filter(|_| told.is_ok()) else {
            context.local.keep_message(message);
            return self.answer_failure(Failure::HeadTooLarge, None, context);
        };
        (exchange.route, exchange.random, exchange.timeout_ms) = (Some(index), random, timeout_ms);
        self.await_answer(context);
        self.filter(message, context);
    }

    /// Takes a request through the filters of its route, from where it stands.
    pub(super) fn filter<A: Proxy>(&mut self, mut message: Box<Message>, context: &mut Context<'_, A>) {
        let Some(exchange) = self.exchange() else { return };
        let Some(index) = exchange.route else { return };
        let route = context.local.shared.http_routes.route(index);
        let call = Call { now: context.now, random: exchange.random };
        match route.filters.on_request_head(&mut message.head, &call, &mut exchange.position) {
            Verdict::Continue => self.take(message, context),
            Verdict::Pause { until } => self.hold(message, until, context),
            verdict => {
                context.local.keep_message(message);
                self.end_filtered(verdict, context);
            }
        }
    }

    /// A filter wants the request to wait.
    fn hold<A: Proxy>(&mut self, mut message: Box<Message>, until: Time, context: &mut Context<'_, A>) {
        let is_kept = message.body.as_mut().is_none_or(|piece| context.keep(piece));
        let Some(exchange) = self.exchange().filter(|_| is_kept) else {
            context.local.keep_message(message);
            return self.answer_failure(Failure::MemoryCeiling, None, context);
        };
        exchange.answer = Answer::Held(message, until);
        self.arm(until, context);
    }

    /// A filter decided otherwise.
    pub(super) fn end_filtered<A: Proxy>(&mut self, verdict: Verdict, context: &mut Context<'_, A>) {
        let answered = self.exchange().is_some_and(|exchange| exchange.is_answered());
        match verdict {
            Verdict::Reply(filter::Reply { status, reason }) if !answered => {
                if let Some(exchange) = self.exchange() {
                    cancel(exchange, context);
                    exchange.upstream = None;
                }
                context.local.fail(Failure::FaultInjected);
                let reason = context.local.shared.plan.http.error_reason.then_some(reason);
                self.answer(&Reply { reason, ..Reply::of(status) }, Some(Failure::FaultInjected), context);
            }
            _ => self.reset(CloseReason::FaultInjected, context),
        }
    }

    /// Does what the route says with a request that its filters let pass.
    fn take<A: Proxy>(&mut self, mut message: Box<Message>, context: &mut Context<'_, A>) {
        let Some((random, Some(index))) = self.exchange().map(|exchange| (exchange.random, exchange.route))
        else {
            return;
        };
        let local = &mut context.local;
        let route = local.shared.http_routes.route(index);
        match route.cluster(random) {
            None => self.answer_route(message, index, context),
            Some(cluster) if route.rewrite(&mut message.head, &mut local.field).is_ok() => {
                if let Some(exchange) = self.exchange() {
                    exchange.cluster = Some(cluster);
                }
                context.local.shared.clusters[usize::from(cluster)].budget().note_request();
                self.send(message, context);
            }
            Some(_) => {
                context.local.keep_message(message);
                self.answer_failure(Failure::HeadMalformed, None, context);
            }
        }
    }

    /// Answers a request whose route goes nowhere.
    fn answer_route<A: Proxy>(&mut self, message: Box<Message>, index: u16, context: &mut Context<'_, A>) {
        let shared = std::sync::Arc::clone(&context.local.shared);
        let route = shared.http_routes.route(index);
        let mut place = std::mem::take(&mut context.local.field);
        let located = route.location(&message.head, &mut place);
        context.local.keep_message(message);
        match &route.action {
            HttpAction::Respond { status, body, content_type } => {
                let body = Some((content_type.as_bytes(), &body[..]));
                self.answer(&Reply { body, ..Reply::of(*status) }, None, context);
            }
            HttpAction::Redirect { status, .. } if located.is_ok() => {
                let field = Some((&b"Location"[..], &place[..]));
                self.answer(&Reply { field, ..Reply::of(*status) }, None, context);
            }
            _ => self.answer_failure(Failure::HeadMalformed, None, context),
        }
        place.clear();
        context.local.field = place;
    }

    /// Finds a connection for a request and sends it there.
    pub(super) fn send<A: Proxy>(&mut self, mut message: Box<Message>, context: &mut Context<'_, A>) {
        let Some(cluster) = self.exchange().and_then(|exchange| exchange.cluster) else { return };
        match open::exclusive(cluster, message.fresh, context) {
            Ok((upstream, place)) => {
                self.sent = self.sent.wrapping_add(1);
                (message.place, message.key) = (Some(place), self.sent);
                let key = self.sent;
                if let Some(exchange) = self.exchange() {
                    (exchange.upstream, exchange.key) = (Some(upstream), key);
                    exchange.credit = 0;
                }
                if self.exchange().is_some_and(|exchange| !exchange.request_ended) {
                    self.pause(PAUSED_BY_CREDIT, context);
                }
                context.send(upstream, Mail::HttpRequest { message });
                if self.exchange().is_some_and(|exchange| std::mem::take(&mut exchange.needs_continue)) {
                    // RFC 9110 section 10.1.1: the server is asked with the body that follows.
                    self.write_control(CONTINUE, context);
                }
            }
            Err(failure) => {
                context.local.keep_message(message);
                self.answer_failure(failure, None, context);
            }
        }
    }

    fn on_body<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) -> bool {
        let limits = context.local.shared.http_limits;
        let Some(HttpLoad { phase: Phase::Exchange(exchange), trailers, .. }) = self.load.as_deref_mut()
        else {
            return false;
        };
        let Some(upstream) = exchange.upstream.filter(|_| exchange.credit > 0) else {
            self.pause(PAUSED_BY_CREDIT, context);
            return false;
        };
        let before = incoming.len();
        let part = take_part(&mut exchange.body, incoming, &limits, trailers);
        exchange.note_read(before - incoming.len());
        match part {
            Ok(Part::Need(needed)) => {
                context.need(needed);
                return false;
            }
            Ok(Part::Piece { piece, ends }) => {
                let verdict =
                    filtered(exchange, context, |chain, call, at| chain.on_request_body(&piece, call, at));
                if !verdict {
                    self.reset(CloseReason::FaultInjected, context);
                    return false;
                }
                exchange.credit -= i64::from(cost_of(&piece));
                exchange.request_ended = ends;
                context.send(upstream, Mail::HttpBody { key: exchange.key, piece, ends });
            }
            Ok(Part::End) => {
                exchange.request_ended = true;
                context.local.shared.forwarded.apply_to_trailers(trailers);
                let verdict = filtered(exchange, context, |chain, call, at| {
                    chain.on_request_trailers(trailers, call, at)
                });
                if !verdict {
                    self.reset(CloseReason::FaultInjected, context);
                    return false;
                }
                let trailers = (trailers.fields_len() > 0).then(|| Box::new(std::mem::take(trailers)));
                context.send(upstream, Mail::HttpEnd { key: exchange.key, trailers });
            }
            Err(fault) => {
                incoming.consume(incoming.len());
                self.refuse_body(fault, context);
                return false;
            }
        }
        if self.exchange().is_some_and(|exchange| exchange.request_ended) {
            self.await_answer(context);
        }
        true
    }

    /// The framing of a body is broken, so the connection ends; the client is told if it was not answered yet.
    fn refuse_body<A: Proxy>(&mut self, fault: HttpFault, context: &mut Context<'_, A>) {
        logging::http_refused(context.me.as_u64(), fault.name());
        let failure = if fault.status() == 413 { Failure::BodyTooLarge } else { Failure::HeadMalformed };
        let reason =
            if fault.status() == 413 { CloseReason::HttpTooLarge } else { CloseReason::HttpMalformed };
        self.end_with(failure, fault.status(), reason, context);
    }

    pub(super) fn on_credit<A: Proxy>(&mut self, bytes: u32, context: &mut Context<'_, A>) {
        // Nothing is a question whether anybody is here, which is answered by its not coming back.
        let Some(exchange) = self.exchange().filter(|_| bytes > 0) else { return };
        exchange.credit += i64::from(bytes);
        let goes_on = exchange.credit > 0;
        self.await_answer(context);
        if goes_on && self.paused & PAUSED_BY_CREDIT != 0 {
            if let Some(exchange) = self.exchange() {
                // Only now has the client a chance to send anything.
                exchange.request_window = (context.now, 0);
            }
            let body_ms = context.local.shared.plan.timeouts.http_body_ms;
            self.arm(context.now.after_ms(body_ms), context);
            self.resume(PAUSED_BY_CREDIT, context);
        }
    }

    /// A request of which nothing was processed: it is sent elsewhere, or refused.
    pub(super) fn on_unsent<A: Proxy>(
        &mut self,
        mut message: Box<Message>,
        why: Failure,
        context: &mut Context<'_, A>,
    ) {
        message.place = None;
        message.attempts += 1;
        if let Some(exchange) = self.exchange() {
            exchange.upstream = None;
        }
        match self.may_try_again(message.attempts, why, context) {
            Ok(()) => {
                context.local.count(Count::Retries);
                self.send(message, context);
            }
            Err(why) => {
                context.local.keep_message(message);
                self.answer_failure(why, None, context);
            }
        }
    }

    /// Whether what failed for `why` is sent to another connection: as often as its cluster says, and as its budget allows.
    fn may_try_again<A: Proxy>(
        &mut self,
        attempts: u8,
        why: Failure,
        context: &Context<'_, A>,
    ) -> Result<(), Failure> {
        let Some(at) = self.exchange().and_then(|exchange| exchange.cluster) else { return Err(why) };
        let cluster = &context.local.shared.clusters[usize::from(at)];
        let is_unprocessed = matches!(why, Failure::ConnectFailed | Failure::UpstreamLost);
        if !is_unprocessed || u32::from(attempts) >= cluster.plan().connect_attempts {
            return Err(why);
        }
        if !cluster.budget().take(context.now) {
            context.local.count(Count::RetriesRefused);
            return Err(Failure::RetryBudget);
        }
        Ok(())
    }
}

impl HttpExchange {
    /// The exchange that a request begins.
    fn of(head: &HttpHead, began: Time, now: Time) -> HttpExchange {
        HttpExchange {
            upstream: None,
            key: 0,
            method: head.method(),
            is_http10: head.version == bowline_protocols::http::HttpVersion::Http10,
            // What follows a CONNECT is meant for somebody else, so it is never read as a request.
            keep_alive: head.keep_alive && head.method() != Method::Connect,
            body: BodyDecoder::new(head.body),
            request_ended: false,
            asks_upgrade: head.upgrade().is_some(),
            needs_continue: false,
            credit: 0,
            answer: Answer::Awaited,
            cluster: None,
            route: None,
            position: Default::default(),
            random: 0,
            began,
            deadline: now,
            timeout_ms: 0,
            request_window: (now, 0),
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            line: None,
        }
    }

    /// So many bytes of the request were taken.
    fn note_read(&mut self, bytes: usize) {
        self.bytes_in += bytes as u64;
        self.request_window.1 += bytes as u64;
    }

    /// Takes what of the body came with the head.
    fn body_of<A: Proxy>(
        &mut self,
        incoming: &mut Incoming<'_>,
        message: &mut Message,
        (trailers, context): (&mut HttpHead, &mut Context<'_, A>),
    ) -> Result<(), HttpFault> {
        let limits = context.local.shared.http_limits;
        if matches!(message.head.body, BodyLength::None | BodyLength::Exact(0)) {
            (self.request_ended, message.ends) = (true, true);
            return Ok(());
        }
        let mut ahead = self.body;
        match take_part(&mut ahead, incoming, &limits, trailers)? {
            Part::Need(needed) => {
                if !incoming.is_empty() {
                    context.need(needed);
                }
                self.body = ahead;
            }
            Part::Piece { piece, ends } => {
                self.body = ahead;
                message.body = Some(piece);
                (self.request_ended, message.ends) = (ends, ends);
            }
            // The trailers of a body without a byte may be left out (RFC 9110 section 6.5.1).
            Part::End => (self.request_ended, message.ends) = (true, true),
        }
        Ok(())
    }
}

/// Asks the filters of the exchange's route about what flows. False if one wants the exchange to end.
pub(super) fn filtered<A: Proxy>(
    exchange: &HttpExchange,
    context: &Context<'_, A>,
    ask: impl FnOnce(&Chain, &Call, &mut Position) -> Verdict,
) -> bool {
    let Some(index) = exchange.route else { return true };
    let chain = &context.local.shared.http_routes.route(index).filters;
    if chain.is_empty() {
        return true;
    }
    let call = Call { now: context.now, random: exchange.random };
    let verdict = ask(chain, &call, &mut Position::default());
    matches!(verdict, Verdict::Continue | Verdict::Pause { .. })
}

/// What is not served, whatever the route. An upgrade that this side does not understand goes on as a plain request.
fn judge(head: &mut HttpHead) -> Option<Failure> {
    if head.method() == Method::Connect {
        return Some(Failure::MethodRefused);
    }
    let asked = head.upgrade()?;
    let is_websocket = websocket::is_named(Some(asked));
    let has_body = !matches!(head.body, BodyLength::None | BodyLength::Exact(0));
    if is_websocket && (has_body || !is_handshake(head)) {
        return Some(Failure::UpgradeRefused);
    }
    if has_body || head.version == bowline_protocols::http::HttpVersion::Http10 {
        // It cannot fail: nothing is written.
        let _ = head.set_upgrade(None);
    }
    None
}

/// RFC 6455 section 4.2.1.
fn is_handshake(head: &HttpHead) -> bool {
    let key = head.field(b"Sec-WebSocket-Key").unwrap_or_default();
    let is_key = key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    head.method() == Method::Get && is_key && head.field(b"Sec-WebSocket-Version") == Some(b"13")
}

/// RFC 9110 section 15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
