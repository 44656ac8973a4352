//! An HTTP/1.1 connection to a server: carries one request at a time for one client, then rests in its worker's pool.
//!
//! It goes back there only if the whole request was written, the whole response read and nothing behind it was: after any
//! doubt about framing it is closed (RFC 9112 section 9.3). It chooses no endpoint and sends nothing twice: a request of
//! which nothing can have been processed goes back to its client's connection. Opened by `open`, called by the engine.

use std::sync::Arc;

use bowline_engine::buf::Piece;
use bowline_engine::machine::{
    Address, Context, Freeze, Frozen, Incoming, Input, Machine, OpenError, ThawError,
};
use bowline_engine::time::Time;
use bowline_protocols::http::{HttpHead, Method};
use bowline_protocols::http1::{BodyDecoder, HeadStep, encode};
use bowline_protocols::websocket;
use serde::{Deserialize, Serialize};

use crate::cluster::Endpoint;
use crate::cluster::Link;
use crate::cluster::Message;
use crate::config::plan::ClusterPlan;
use crate::error::CloseReason;
use crate::error::Failure;
use crate::exchange::Response;
use crate::exchange::Work;
use crate::logging;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::worker::Proxy;
use crate::worker::Worker;

use super::super::state::{Kind, State, freeze, thaw};
use super::super::tunnel::Tunnel;
use super::part::{
    Part, cost_of, take_part, take_settled, window_bytes, with_scratch, write_end, write_piece,
};

/// One connection to a server.
///
/// ```text
/// Connecting ──opened──▶ Busy ──response and request ended──▶ Idle ──request──▶ Busy
///      └──failed: the request comes back unsent     └──101──▶ a tunnel
/// ```
#[derive(Debug)]
pub struct HttpUpstream {
    /// The request that it works on.
    work: Option<Box<Work>>,
    link: Arc<Link>,
    endpoint: Arc<Endpoint>,
    armed: Option<Time>,
    /// How long it may rest, as configured or as the server said.
    idle_ms: u32,
    /// Requests that it has carried.
    served: u32,
    /// So many are enough; 0 for any number.
    served_max: u32,
    /// From then on it carries no other.
    old_at: Option<Time>,
    cluster: u16,
    is_open: bool,
    /// It ends with the request that it works on.
    leaving: Option<CloseReason>,
    closed: bool,
}

impl HttpUpstream {
    /// A connection to `endpoint` that is about to be opened for `cluster`.
    pub fn new(endpoint: Arc<Endpoint>, cluster: u16, link: Arc<Link>, plan: &ClusterPlan) -> HttpUpstream {
        HttpUpstream {
            work: None,
            link,
            endpoint,
            armed: None,
            idle_ms: u32::try_from(plan.idle_timeout_ms).unwrap_or(u32::MAX),
            served: 0,
            served_max: 0,
            old_at: None,
            cluster,
            is_open: false,
            leaving: None,
            closed: false,
        }
    }

    fn plan<'a>(&self, local: &'a Worker) -> &'a ClusterPlan {
        local.shared.clusters[usize::from(self.cluster)].plan()
    }

    fn on_opened<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.is_open = true;
        self.endpoint.note_connected();
        context.local.count(Count::UpstreamConnectionsOpened);
        logging::connection_opened(context.me.as_u64(), context.peer, &self.plan(context.local).name);
        context.set_state(State::Idle as u8);
        self.bound_use(context);
        if context.local.shared.drain_deadline().is_some() {
            self.leaving = Some(CloseReason::Drain);
        }
        self.arm(context.now.after_ms(u64::from(self.idle_ms)), context);
        // Where its request has not come yet it is on its way, so nobody else may be given this connection.
        self.write_request(context);
    }

    /// How often and how long it is used, as configured, up to a tenth less: those that were opened together shall not
    /// end together.
    fn bound_use<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let plan = self.plan(context.local);
        let (served_max, age_ms) = (plan.requests_per_connection_max, plan.connection_age_ms_max);
        let random = context.random();
        let jittered = |most: u64| most - random % (most / 10 + 1);
        self.served_max = u32::try_from(jittered(served_max)).unwrap_or(u32::MAX);
        self.old_at = (age_ms > 0).then(|| context.now.after_ms(jittered(age_ms)));
    }

    /// Nothing was written: the request goes back.
    fn on_failed<A: Proxy>(&mut self, error: OpenError, context: &mut Context<'_, A>) {
        context.local.count(Count::UpstreamConnectFailures);
        // A lack of descriptors or ports here says nothing about the endpoint.
        if error != OpenError::Exhausted {
            let random = context.random();
            self.endpoint.note_unreachable(context.now, random);
        }
        self.give_up(Failure::ConnectFailed, context);
    }

    fn on_request<A: Proxy>(
        &mut self,
        from: Address,
        mut message: Box<Message>,
        context: &mut Context<'_, A>,
    ) {
        // One that was opened while the gateway drains carries the request that it was opened for.
        let leaves = self.leaving.is_some() && self.served > 0;
        if self.closed || leaves || self.work.is_some() {
            return context.send(from, Mail::HttpUnsent { message, why: Failure::ConnectFailed });
        }
        let kept = self.is_open || message.body.as_mut().is_none_or(|piece| context.keep(piece));
        if !kept {
            return context.send(from, Mail::HttpUnsent { message, why: Failure::MemoryCeiling });
        }
        let mut work = context.local.take_work();
        (work.owner, work.key) = (from, message.key);
        work.place = message.place.take();
        work.method = message.head.method();
        work.length = message.head.body;
        work.request_ended = message.ends;
        work.credit = i64::from(window_bytes(context.local));
        work.request = Some(message);
        self.work = Some(work);
        if self.is_open {
            self.write_request(context);
        }
    }

    fn write_request<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(work) = &mut self.work else { return };
        let Some(mut message) = work.request.take() else { return };
        context.count_request();
        context.set_in_flight(1);
        context.set_state(State::Active as u8);
        let mut head_bytes = 0;
        let mut written = with_scratch(context, |out| {
            encode::request(&message.head, true, out);
            head_bytes = out.len();
        });
        let body = message.body.take();
        let has_body = body.is_some();
        let bytes = head_bytes + body.as_ref().map_or(0, |piece| piece.len());
        context.local.shard().add(Count::UpstreamWrittenBytes, bytes as u64);
        written = written
            && match body {
                Some(piece) => write_piece(work.length, piece, work.request_ended, context),
                None => !work.request_ended || write_end(work.length, None, context),
            };
        let is_awaited = !work.request_ended;
        if is_awaited {
            context.watch_output(true);
            let bytes = window_bytes(context.local);
            context.send(work.owner, Mail::HttpCredit { key: work.key, bytes });
        }
        work.queued_bytes = queued_now(context);
        // RFC 9110 section 9.2.2: what was sent may only be sent again by itself if it is idempotent; a body is not kept.
        let is_kept = self.served > 0 && !has_body && work.request_ended;
        work.may_repeat = is_kept && is_idempotent(work.method);
        if is_kept || message.head.upgrade().is_some() {
            work.request = Some(message);
        } else {
            context.local.keep_message(message);
        }
        self.served = self.served.saturating_add(1);
        if is_awaited {
            self.arm(context.now.after_ms(context.local.shared.plan.timeouts.http_body_ms), context);
        }
        if !written {
            self.fail(Failure::MemoryCeiling, CloseReason::MemoryCeiling, context);
        }
    }

    fn on_body<A: Proxy>(
        &mut self,
        of: (Address, u32),
        part: (Option<Piece>, Option<Box<HttpHead>>, bool),
        context: &mut Context<'_, A>,
    ) {
        let Some(work) =
            self.work.as_mut().filter(|work| (work.owner, work.key) == of && !work.request_ended)
        else {
            return;
        };
        let (piece, trailers, ends) = part;
        context.mark_active();
        work.request_ended = ends;
        let written = match piece {
            Some(piece) => {
                context.local.shard().add(Count::UpstreamWrittenBytes, piece.len() as u64);
                work.owed_bytes = work.owed_bytes.saturating_add(cost_of(&piece));
                write_piece(work.length, piece, ends, context)
            }
            None => write_end(work.length, trailers.as_deref(), context),
        };
        work.queued_bytes += queued_now(context);
        if !written {
            return self.fail(Failure::MemoryCeiling, CloseReason::MemoryCeiling, context);
        }
        self.finish_if_done(context);
    }

    fn on_flushed<A: Proxy>(&mut self, written: usize, queued: usize, context: &mut Context<'_, A>) {
        let Some(work) = self.work.as_mut().filter(|work| !work.request_ended) else {
            return context.watch_output(false);
        };
        let bytes = take_settled(&mut work.owed_bytes, written, queued);
        if bytes > 0 {
            context.send(work.owner, Mail::HttpCredit { key: work.key, bytes });
        }
    }

    fn on_credit<A: Proxy>(&mut self, of: (Address, u32), bytes: u32, context: &mut Context<'_, A>) {
        let window = i64::from(window_bytes(context.local));
        let Some(work) = self.work.as_mut().filter(|work| (work.owner, work.key) == of) else { return };
        if work.credit <= 0 {
            context.set_reading(true);
        }
        work.credit = (work.credit + i64::from(bytes)).min(window);
    }

    fn on_bytes<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
        let before = incoming.len();
        while !incoming.is_empty() && !self.closed {
            // Nothing was asked, or nothing of what was asked has left: a 408, or an echo of something that is over. It must
            // not reach the client that just took this connection.
            let is_unasked = self.has_sent_nothing(context);
            let Some(work) = self.work.as_mut().filter(|_| !is_unasked) else {
                self.close(CloseReason::ResponseMalformed, context);
                break;
            };
            work.answered = true;
            let goes_on = match work.response {
                Response::Head => self.on_head(incoming, context),
                Response::Body(_) => self.on_response_body(incoming, context),
                Response::Ended => {
                    // Bytes behind a response whose request is still being written.
                    self.close(CloseReason::ResponseMalformed, context);
                    false
                }
            };
            if !goes_on {
                break;
            }
        }
        context.local.shard().add(Count::UpstreamReadBytes, (before - incoming.len()) as u64);
    }

    /// False if nothing more can be done with these bytes.
    fn on_head<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) -> bool {
        let limits = context.local.shared.http_limits;
        let mut message = context.local.take_message();
        let work = self.work.as_mut().expect("the caller has looked");
        let step = work.head.response(incoming.bytes(), work.method, &limits, &mut message.head);
        let consumed = match step {
            Ok(HeadStep::Head { consumed }) => consumed,
            Ok(HeadStep::Need(needed)) => {
                context.need(needed);
                context.local.keep_message(message);
                return false;
            }
            Err(fault) => {
                logging::http_refused(context.me.as_u64(), fault.name());
                context.local.keep_message(message);
                self.fail(Failure::BadResponse, CloseReason::ResponseMalformed, context);
                return false;
            }
        };
        incoming.consume(consumed);
        match message.head.status() {
            101 => self.switch(message, context),
            100..=199 => self.on_interim(message, context),
            _ => self.on_final(message, incoming, context),
        }
    }

    /// A 1xx: passed on, but for the 100 that this side answered itself.
    fn on_interim<A: Proxy>(&mut self, mut message: Box<Message>, context: &mut Context<'_, A>) -> bool {
        let work = self.work.as_mut().expect("a head came");
        work.interims += 1;
        if work.interims > INTERIMS_MAX {
            self.fail(Failure::BadResponse, CloseReason::ResponseMalformed, context);
            return false;
        }
        match message.head.status() {
            100 => context.local.keep_message(message),
            _ => {
                message.key = work.key;
                context.send(work.owner, Mail::HttpResponse { message });
            }
        }
        true
    }

    /// The server speaks another protocol from here on, if it was asked to (RFC 9110 section 7.8).
    fn switch<A: Proxy>(&mut self, mut message: Box<Message>, context: &mut Context<'_, A>) -> bool {
        let work = self.work.as_mut().expect("a head came");
        let asked = work.request.as_ref().and_then(|request| request.head.upgrade());
        let agreed = message.head.upgrade();
        let matches = asked.zip(agreed).is_some_and(|(asked, agreed)| asked.eq_ignore_ascii_case(agreed));
        if !matches || !work.request_ended {
            self.fail(Failure::BadResponse, CloseReason::ResponseMalformed, context);
            return false;
        }
        (message.ends, message.key) = (true, work.key);
        let (owner, place) = (work.owner, work.place.take());
        let is_websocket = websocket::is_named(message.head.upgrade());
        context.send(owner, Mail::HttpResponse { message });
        self.link.shut();
        let tunnel = Tunnel::switched_server(self.cluster, owner, place, is_websocket, context);
        context.hand_over(Box::new(tunnel));
        false
    }

    fn on_final<A: Proxy>(
        &mut self,
        mut message: Box<Message>,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_, A>,
    ) -> bool {
        let limits = context.local.shared.http_limits;
        let work = self.work.as_mut().expect("a head came");
        work.keep_alive = message.head.keep_alive;
        message.key = work.key;
        if let Some(seconds) = message.head.keep_alive_timeout_s {
            // A second less than the server said, so that it is not closed under a request.
            self.idle_ms = self.idle_ms.min(seconds.saturating_sub(1).saturating_mul(1_000).max(500));
        }
        let mut body = BodyDecoder::new(message.head.body);
        let part = take_part(&mut body, incoming, &limits, &mut work.trailers);
        let mut trailers = None;
        let waits = matches!(part, Ok(Part::Need(_)));
        match part {
            Ok(Part::Need(needed)) => {
                if !incoming.is_empty() {
                    context.need(needed);
                }
            }
            Ok(Part::Piece { piece, ends }) => {
                work.credit -= i64::from(cost_of(&piece));
                (message.body, message.ends) = (Some(piece), ends);
            }
            Ok(Part::End) if work.trailers.fields_len() == 0 => message.ends = true,
            Ok(Part::End) => trailers = Some(Box::new(std::mem::take(&mut work.trailers))),
            Err(fault) => {
                logging::http_refused(context.me.as_u64(), fault.name());
                context.local.keep_message(message);
                self.fail(Failure::BadResponse, CloseReason::ResponseMalformed, context);
                return false;
            }
        }
        let ended = message.ends || trailers.is_some();
        work.response = if ended { Response::Ended } else { Response::Body(body) };
        context.send(work.owner, Mail::HttpResponse { message });
        if trailers.is_some() {
            context.send(work.owner, Mail::HttpEnd { key: work.key, trailers });
        }
        if ended {
            self.finish(context);
        }
        !waits
    }

    fn on_response_body<A: Proxy>(
        &mut self,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_, A>,
    ) -> bool {
        let limits = context.local.shared.http_limits;
        let work = self.work.as_mut().expect("the caller has looked");
        let Response::Body(body) = &mut work.response else { return false };
        if work.credit <= 0 {
            context.set_reading(false);
            return false;
        }
        match take_part(body, incoming, &limits, &mut work.trailers) {
            Ok(Part::Need(needed)) => {
                context.need(needed);
                return false;
            }
            Ok(Part::Piece { piece, ends }) => {
                work.credit -= i64::from(cost_of(&piece));
                context.send(work.owner, Mail::HttpBody { key: work.key, piece, ends });
                if ends {
                    self.finish(context);
                }
            }
            Ok(Part::End) => self.end_response(context),
            Err(fault) => {
                logging::http_refused(context.me.as_u64(), fault.name());
                self.fail(Failure::BadResponse, CloseReason::ResponseMalformed, context);
            }
        }
        true
    }

    fn end_response<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(work) = &mut self.work else { return };
        let has_trailers = work.trailers.fields_len() > 0;
        let trailers = has_trailers.then(|| Box::new(std::mem::take(&mut work.trailers)));
        context.send(work.owner, Mail::HttpEnd { key: work.key, trailers });
        self.finish(context);
    }

    /// The response has ended. The owner has been told and expects nothing more.
    fn finish<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(work) = &mut self.work else { return };
        work.response = Response::Ended;
        if !work.request_ended {
            // Whatever else of the request came would be taken for another one (row 17 of the list of attacks).
            return self.close(CloseReason::HttpFinished, context);
        }
        self.finish_if_done(context);
    }

    fn finish_if_done<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let done = self
            .work
            .as_ref()
            .is_some_and(|work| work.request_ended && matches!(work.response, Response::Ended));
        if !done || self.closed {
            return;
        }
        let Some(mut work) = self.work.take() else { return };
        let keep_alive = work.keep_alive;
        if let Some(request) = work.request.take() {
            context.local.keep_message(request);
        }
        work.place = None;
        context.local.keep_work(work);
        context.set_in_flight(0);
        context.set_state(State::Idle as u8);
        if self.leaving.is_none() && self.endpoint.is_removed() {
            self.leaving = Some(CloseReason::EndpointRemoved);
        }
        match self.leaving {
            Some(reason) => self.close(reason, context),
            None if !keep_alive => self.close(CloseReason::HttpFinished, context),
            None if self.is_worn(context.now) => self.close(CloseReason::UpstreamWorn, context),
            None => self.rest(context),
        }
    }

    fn is_worn(&self, now: Time) -> bool {
        let often = self.served_max > 0 && self.served >= self.served_max;
        often || self.old_at.is_some_and(|old_at| old_at <= now)
    }

    /// Waits in the pool of the worker that runs it for the next request.
    fn rest<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let cluster = usize::from(self.cluster);
        if !context.local.pools.keep_idle(cluster, &self.endpoint, context.me, &self.link) {
            return self.close(CloseReason::UpstreamIdle, context);
        }
        self.arm(context.now.after_ms(u64::from(self.idle_ms)), context);
    }

    fn on_deadline<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        self.armed = None;
        let due = context.last_active.after_ms(u64::from(self.idle_ms));
        if self.work.is_none() && self.is_worn(context.now) {
            return self.close(CloseReason::UpstreamWorn, context);
        }
        if self.work.is_none() && due <= context.now {
            return self.close(CloseReason::UpstreamIdle, context);
        }
        let next = self.ask_owner(context).unwrap_or(due);
        self.arm(next.max(context.now.after_ms(IDLE_AGAIN_MS)), context);
    }

    /// Whoever sends the request keeps its time. One that came to its end by a fault of its own keeps none and has said
    /// nothing: what is sent to it then comes back, so after a silence it is sent a word. Says when to look again.
    fn ask_owner<A: Proxy>(&mut self, context: &mut Context<'_, A>) -> Option<Time> {
        let work = self.work.as_ref()?;
        let body_ms = context.local.shared.plan.timeouts.http_body_ms;
        let due = context.last_active.after_ms(body_ms);
        if due > context.now {
            return Some(due);
        }
        context.send(work.owner, Mail::HttpCredit { key: work.key, bytes: 0 });
        Some(context.now.after_ms(body_ms))
    }

    fn on_end<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(work) = &mut self.work else { return self.close(CloseReason::PeerClosed, context) };
        work.keep_alive = false;
        if let Response::Body(body) = &mut work.response
            && body.end_of_stream().is_ok()
        {
            return self.end_response(context);
        }
        let reason = match work.answered {
            true => CloseReason::PeerClosedMidFrame,
            false => CloseReason::PeerClosed,
        };
        self.fail(Failure::UpstreamLost, reason, context);
    }

    fn on_mail<A: Proxy>(&mut self, from: Address, mail: Mail, context: &mut Context<'_, A>) {
        match mail {
            Mail::HttpRequest { message } => self.on_request(from, message, context),
            Mail::HttpBody { key, piece, ends } => {
                self.on_body((from, key), (Some(piece), None, ends), context);
            }
            Mail::HttpEnd { key, trailers } => self.on_body((from, key), (None, trailers, true), context),
            Mail::HttpCredit { key, bytes } => self.on_credit((from, key), bytes, context),
            Mail::Cancel { .. } => self.on_owner_gone(from, context),
            Mail::Drain { .. } => {
                self.leaving.get_or_insert(CloseReason::Drain);
                if self.work.is_none() && self.is_open && self.served > 0 {
                    self.close(CloseReason::Drain, context);
                }
            }
            // Nothing else is sent to it; what it carries is given back by dropping it.
            _ => {}
        }
    }

    /// Nobody waits for the response any more.
    fn on_owner_gone<A: Proxy>(&mut self, owner: Address, context: &mut Context<'_, A>) {
        if self.work.as_ref().is_some_and(|work| work.owner == owner) {
            self.work = None;
            self.link.shut();
            self.closed = true;
            context.reset(CloseReason::RequestCancelled.index() as u8);
        }
    }

    /// The exchange cannot go on.
    fn fail<A: Proxy>(&mut self, why: Failure, reason: CloseReason, context: &mut Context<'_, A>) {
        let aborts = self.is_answering();
        self.give_up(why, context);
        match aborts {
            // What is still queued of the request must not be sent when it is sent elsewhere, or answered as failed.
            true => context.reset(reason.index() as u8),
            false => context.close(reason.index() as u8),
        }
    }

    /// True while a response is owed.
    fn is_answering(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !matches!(work.response, Response::Ended))
    }

    /// True if no byte of the request that it works on has left.
    fn has_sent_nothing<A: Proxy>(&self, context: &Context<'_, A>) -> bool {
        self.work
            .as_ref()
            .is_some_and(|work| work.queued_bytes > 0 && context.output_bytes as u64 >= work.queued_bytes)
    }

    /// Takes no more, and tells the owner of the request: whether it may be sent again, or that it failed.
    fn give_up<A: Proxy>(&mut self, why: Failure, context: &mut Context<'_, A>) {
        self.closed = true;
        self.link.shut();
        let sent_nothing = self.has_sent_nothing(context);
        let Some(mut work) = self.work.take() else { return };
        if matches!(work.response, Response::Ended) {
            return;
        }
        match work.request.take().filter(|_| sent_nothing || work.may_repeat && !work.answered) {
            Some(mut message) => {
                message.place = work.place.take();
                message.fresh = self.is_open;
                context.send(work.owner, Mail::HttpUnsent { message, why });
            }
            None => context.send(work.owner, Mail::HttpFailed { key: work.key, why }),
        }
    }

    fn close<A: Proxy>(&mut self, reason: CloseReason, context: &mut Context<'_, A>) {
        self.fail(Failure::UpstreamLost, reason, context);
    }

    fn arm<A: Proxy>(&mut self, at: Time, context: &mut Context<'_, A>) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            context.set_deadline(Some(at));
        }
    }
}

/// Bytes that this call has queued.
fn queued_now<A: Proxy>(context: &Context<'_, A>) -> u64 {
    context.effects.output.iter().map(|piece| piece.len() as u64).sum()
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: Method) -> bool {
    matches!(
        method,
        Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace
    )
}

/// More interim responses to one request than this are an attack or a loop.
const INTERIMS_MAX: u8 = 16;
/// A connection that is busy when its idle deadline comes is looked at again after this.
const IDLE_AGAIN_MS: u64 = 1_000;

impl<A: Proxy> Machine<A> for HttpUpstream {
    fn on(&mut self, input: Input<'_, A>, context: &mut Context<'_, A>) {
        match input {
            Input::Opened => self.on_opened(context),
            Input::Failed(error) => self.on_failed(error, context),
            Input::Bytes(incoming) => self.on_bytes(incoming, context),
            Input::Mail { from, mail } => self.on_mail(from, mail, context),
            Input::Bounced {
                to,
                mail:
                    Mail::HttpResponse { .. }
                    | Mail::HttpBody { .. }
                    | Mail::HttpEnd { .. }
                    | Mail::HttpCredit { .. },
            } => self.on_owner_gone(to, context),
            Input::Bounced { .. } => {}
            Input::Deadline => self.on_deadline(context),
            Input::Flushed { written, queued } => self.on_flushed(written, queued, context),
            Input::EndOfStream => self.on_end(context),
            Input::Lost(_) => self.give_up(Failure::UpstreamLost, context),
        }
    }

    fn freeze(&self) -> Freeze {
        if self.work.is_some() || !self.is_open || self.closed {
            return Freeze::NotYet { why: "a request is on the way" };
        }
        let state = FrozenHttpUpstream {
            endpoint: self.endpoint.address(),
            idle_ms: self.idle_ms,
            served: self.served,
            served_max: self.served_max,
            old_at_ms: self.old_at.map(Time::as_ms),
            cluster: self.cluster,
            armed_ms: self.armed.map(Time::as_ms),
        };
        freeze(Kind::HttpUpstream, &state, Vec::new())
    }
}

/// The state of a frozen connection, which carries no request.
#[derive(Serialize, Deserialize)]
struct FrozenHttpUpstream {
    endpoint: std::net::SocketAddr,
    idle_ms: u32,
    served: u32,
    served_max: u32,
    old_at_ms: Option<u64>,
    cluster: u16,
    armed_ms: Option<u64>,
}

impl HttpUpstream {
    /// The connection that `frozen` describes.
    pub fn thaw(local: &Worker, frozen: &Frozen) -> Result<HttpUpstream, ThawError> {
        let state: FrozenHttpUpstream = thaw(frozen)?;
        let cluster = local.shared.clusters.get(usize::from(state.cluster));
        let cluster = cluster.ok_or_else(|| ThawError("its cluster is not configured".to_owned()))?;
        let link = Arc::new(Link::default());
        let fresh =
            HttpUpstream::new(cluster.endpoint_at(state.endpoint), state.cluster, link, cluster.plan());
        Ok(HttpUpstream {
            idle_ms: state.idle_ms,
            served: state.served,
            served_max: state.served_max,
            old_at: state.old_at_ms.map(Time::from_ms),
            armed: state.armed_ms.map(Time::from_ms),
            is_open: true,
            ..fresh
        })
    }
}
