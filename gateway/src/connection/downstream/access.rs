//! Access lines: one for each request of a client that has ended, with its reply, with a failure, or because the client
//! left. While they are off nothing is looked up, kept or formatted. A oneway request ends for its client when it is
//! taken in, so that is when its line is written.

use std::net::SocketAddr;

use bowline_engine::machine::Context;
use bowline_engine::time::Time;
use bowline_protocols::CONTROL_BYTES_MAX;
use bowline_protocols::Limits;
use bowline_protocols::bolt::{self, Frame, fields};

use crate::error::Failure;
use crate::exchange::Cause;
use crate::exchange::Exchange;
use crate::exchange::SERVICE_BYTES_MAX;
use crate::exchange::Service;
use crate::exchange::Services;
use crate::logging;
use crate::route::SERVICE;
use crate::worker::Proxy;
use crate::worker::Shared;

use super::Downstream;

/// Who writes lines: copied out of a call, since machine and context are in use where requests end.
#[derive(Clone, Copy)]
pub(super) struct Writer {
    connection: u64,
    peer: SocketAddr,
    listener: u16,
    now: Time,
}

/// How a request ended.
pub(super) struct End {
    pub(super) status: Option<u16>,
    pub(super) failure: Option<Failure>,
    pub(super) bytes_out: usize,
}

impl End {
    /// Nobody was answered: a oneway request, or a client that left.
    pub(super) const UNANSWERED: End = End { status: None, failure: None, bytes_out: 0 };

    /// Answered with a failure.
    fn failed(cause: &Cause, failure: Failure) -> End {
        let bytes_out = cause.refuse(failure, &mut [0; CONTROL_BYTES_MAX]);
        End { status: Some(failure.status()), failure: Some(failure), bytes_out }
    }
}

impl Writer {
    /// Writes the line of an exchange and forgets its service.
    pub(super) fn exchange(
        &self,
        (key, exchange): (u32, &Exchange),
        services: &mut Services,
        end: &End,
        shared: &Shared,
    ) {
        let service = services.take(key);
        let service = service.as_ref().map_or(&[][..], Service::as_bytes);
        self.line(service, Some(exchange.cluster), (exchange.began, exchange.request_bytes), end, shared);
    }

    fn line(
        &self,
        service: &[u8],
        cluster: Option<u16>,
        (began, bytes_in): (Time, u32),
        end: &End,
        shared: &Shared,
    ) {
        let cluster = cluster.and_then(|at| shared.clusters.get(usize::from(at)));
        logging::access(&logging::Access {
            connection: self.connection,
            peer: self.peer,
            listener: shared.listener(self.listener).map_or("", |listener| &listener.name),
            service: &String::from_utf8_lossy(service),
            cluster: cluster.map_or("", |cluster| &cluster.plan().name),
            status: end.status,
            failure: end.failure,
            duration_us: self.now.ms_since(began) * 1_000,
            bytes_in: u64::from(bytes_in),
            bytes_out: end.bytes_out as u64,
        });
    }
}

impl Downstream {
    /// The writer of access lines, if they are on.
    pub(super) fn access<A: Proxy>(&self, context: &Context<'_, A>) -> Option<Writer> {
        context.local.shared.plan.log.access.then(|| Writer {
            connection: context.me.as_u64(),
            peer: context.peer,
            listener: self.listener,
            now: context.now,
        })
    }

    /// Keeps what the line of a request will say.
    pub(super) fn note_service<A: Proxy>(
        &mut self,
        key: u32,
        frame: &Frame,
        own: &[u8],
        context: &mut Context<'_, A>,
    ) {
        if context.local.shared.plan.log.access {
            let service = service_of(frame, own, &context.local.shared.limits);
            self.load(context).services.note(key, service);
        }
    }

    /// Writes the line of a oneway request that was taken in.
    pub(super) fn log_oneway<A: Proxy>(
        &self,
        frame: &Frame,
        own: &[u8],
        cluster: u16,
        context: &Context<'_, A>,
    ) {
        let Some(writer) = self.access(context) else { return };
        let shared = &context.local.shared;
        let service = service_of(frame, own, &shared.limits);
        writer.line(service, Some(cluster), (writer.now, frame.total_bytes), &End::UNANSWERED, shared);
    }

    /// Writes the line of the request at the start of `bytes`, which went nowhere.
    pub(super) fn log_refused<A: Proxy>(
        &self,
        frame: &Frame,
        bytes: &[u8],
        failure: Failure,
        context: &Context<'_, A>,
    ) {
        let Some(writer) = self.access(context) else { return };
        let shared = &context.local.shared;
        let routed = shared.targets.find(self.listener, frame, bytes, &shared.limits);
        let end = match frame.kind {
            bolt::Kind::Request => End::failed(&Cause::of(frame), failure),
            _ => End { failure: Some(failure), ..End::UNANSWERED },
        };
        let cluster = routed.ok().map(|target| target.cluster);
        let service = service_of(frame, bytes, &shared.limits);
        writer.line(service, cluster, (writer.now, frame.total_bytes), &end, shared);
    }

    /// Answers an exchange that has ended with its failure.
    pub(super) fn end_failed<A: Proxy>(
        &mut self,
        key: u32,
        exchange: &Exchange,
        why: Failure,
        context: &mut Context<'_, A>,
    ) {
        if let (Some(writer), Some(load)) = (self.access(context), &mut self.load) {
            let end = End::failed(&exchange.cause, why);
            writer.exchange((key, exchange), &mut load.services, &end, &context.local.shared);
        }
        self.answer_failure(&exchange.cause, why, context);
    }
}

/// The service that a request names, as far as it is written.
fn service_of<'a>(frame: &Frame, bytes: &'a [u8], limits: &Limits) -> &'a [u8] {
    let header = frame.header.of(bytes);
    let found = fields::find(header, SERVICE, limits.header_fields_max).ok().flatten();
    let service = found.map_or(&[][..], |service| service.of(header));
    &service[..service.len().min(SERVICE_BYTES_MAX)]
}
