//! How a tunnel comes to be: its route, by the first message of TLS where the listener says so, its endpoint, the connect
//! and those tried after it, and the PROXY header that goes first. No byte of the client is taken before all of that is
//! done, so it can begin again elsewhere. A plain beginning writes nothing down; what another does is dropped as a whole when
//! bytes may flow.

use std::net::SocketAddr;
use std::sync::Arc;

use bowline_engine::machine::{Context, Incoming, OpenError};
use bowline_engine::time::Time;
use bowline_protocols::client_hello::{ClientHello, HelloFault, Peeked, peek};
use bowline_protocols::proxy_header::{Route, encode};

use crate::cluster::Cluster;
use crate::cluster::Place;
use crate::config::plan::PassthroughPlan;
use crate::error::CloseReason;
use crate::logging;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::worker::Proxy;
use crate::worker::Worker;

use super::super::front::Arrived;
use super::super::front::HELD_BACK_MS;
use super::super::state::State;
use super::{Side, Stage, Tunnel};

/// What one side knows until bytes may flow, beyond what every tunnel knows.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// Which addresses the client has used, where somebody asks for them.
    pub(super) arrived: Arrived,
    /// When the first message of TLS must be there, while it is waited for.
    hello_due: Option<Time>,
    /// Where the tunnel goes, if that is not where its listener leads.
    cluster: Option<u16>,
    /// Connects that failed.
    attempts: u32,
    /// What the server's side writes first.
    header: Vec<u8>,
}

impl Tunnel {
    pub(super) fn on_opened<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        context.watch_output(true);
        match self.side {
            Side::Server => self.on_connected(context),
            Side::Client => self.on_accepted(context),
        }
    }

    fn on_accepted<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let shared = Arc::clone(&context.local.shared);
        let listener = shared.listener(self.origin);
        let name = listener.map_or("", |listener| &listener.name);
        logging::connection_opened(context.me.as_u64(), context.peer, name);
        context.set_state(State::Opening as u8);
        self.arm_times(context);
        if let Some(deadline) = shared.drain_deadline() {
            self.begin_drain(deadline, context);
        }
        let Some(passthrough) = listener.and_then(|listener| listener.passthrough) else {
            return self.go(None, context);
        };
        let due = context.now.after_ms(passthrough.timeout_ms);
        self.opening_mut().hello_due = Some(due);
        self.arm(due, context);
    }

    /// Its route is known: to `cluster`, or to the listener's own.
    fn go<A: Proxy>(&mut self, cluster: Option<u16>, context: &mut Context<'_, A>) {
        if cluster.is_some() || self.awaits_hello() {
            let opening = self.opening_mut();
            (opening.cluster, opening.hello_due) = (cluster, None);
        }
        if let Some(at) = self.cluster(context.local) {
            context.local.shared.clusters[usize::from(at)].budget().note_request();
        }
        // What came so far is offered again when the server is there.
        context.set_reading(false);
        self.dial(CloseReason::NoEndpoint, context);
    }

    /// Where it goes: to the cluster that the first message of TLS named, or where its listener leads.
    fn cluster(&self, local: &Worker) -> Option<u16> {
        let named = self.opening().and_then(|opening| opening.cluster);
        named.or_else(|| local.shared.targets.default_of(self.origin).map(|target| target.cluster))
    }

    /// Whether the first message of TLS is waited for.
    fn awaits_hello(&self) -> bool {
        self.opening().is_some_and(|opening| opening.hello_due.is_some())
    }

    fn passthrough(&self, local: &Worker) -> Option<PassthroughPlan> {
        local.shared.listener(self.origin).and_then(|listener| listener.passthrough)
    }

    /// Looks at the first bytes and leaves them where they are.
    pub(super) fn on_hello<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
        let Some(plan) = self.passthrough(context.local) else { return };
        match peek(incoming.bytes()) {
            Ok(Peeked::More { bytes }) => context.need(bytes),
            Ok(Peeked::Hello(hello)) => self.route(&hello, plan, context),
            Err(HelloFault::NotTls) if !plan.is_required => self.go(None, context),
            Err(HelloFault::NotTls) => self.close(CloseReason::HelloMissing, context),
            Err(_) => self.close(CloseReason::HelloMalformed, context),
        }
    }

    fn route<A: Proxy>(&mut self, hello: &ClientHello, plan: PassthroughPlan, context: &mut Context<'_, A>) {
        if hello.server_name.is_none() && plan.name_required {
            return self.close(CloseReason::HelloUnnamed, context);
        }
        let cluster = context.local.shared.tls_routes.find(hello);
        self.go(cluster, context);
    }

    /// The client will send no more, and the server is not there yet.
    pub(super) fn on_early_end<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let is_required = self.passthrough(context.local).is_some_and(|plan| plan.is_required);
        self.ended = true;
        if !self.awaits_hello() {
            // Its server is being connected, and is told then.
            return;
        }
        if context.input_bytes > 0 {
            return self.close(CloseReason::PeerClosedMidFrame, context);
        }
        if is_required {
            return self.close(CloseReason::PeerClosed, context);
        }
        self.go(None, context);
    }

    /// Whoever has sent nothing may be waiting for its server to speak; a message that has begun must end.
    pub(super) fn judge_hello<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(due) = self.opening().and_then(|opening| opening.hello_due) else { return };
        if due > context.now {
            return self.arm(due, context);
        }
        if context.held_back {
            // What lies unread for want of memory here is no fault of the client.
            let due = context.now.after_ms(HELD_BACK_MS);
            self.opening_mut().hello_due = Some(due);
            return self.arm(due, context);
        }
        let is_required = self.passthrough(context.local).is_none_or(|plan| plan.is_required);
        if is_required || context.input_bytes > 0 {
            return self.close(CloseReason::HelloTimeout, context);
        }
        self.go(None, context);
    }

    /// Opens the server's side, or ends for `why` if there is no way.
    fn dial<A: Proxy>(&mut self, why: CloseReason, context: &mut Context<'_, A>) {
        let Some(at) = self.cluster(context.local) else { return self.reset(CloseReason::NoRoute, context) };
        let cluster = Arc::clone(&context.local.shared.clusters[usize::from(at)]);
        let chosen = if cluster.plan().original_destination {
            self.place_at_original(&cluster, context.local)
        } else {
            let chosen =
                context.local.pools.choose_endpoint(usize::from(at), context.peer.ip(), context.now, 0);
            chosen.map_err(|_| why)
        };
        let place = match chosen {
            Ok(place) => place,
            Err(why) => return self.reset(why, context),
        };
        let open = cluster.open(place.endpoint().address());
        let header = self.header(&cluster, context.peer);
        let mut server = Tunnel::new(Side::Server, at, Some(context.me), Some(place));
        if !header.is_empty() {
            server.opening_mut().header = header;
        }
        match context.open(open, Box::new(server)) {
            Ok(partner) => self.partner = Some(partner),
            Err(_) => self.reset(CloseReason::LimitConnections, context),
        }
    }

    /// A place where the client wanted to go before it was sent here, unless that is here too.
    fn place_at_original(&self, cluster: &Cluster, local: &Worker) -> Result<Place, CloseReason> {
        let listeners = &local.shared.plan.listeners;
        let is_own = |to: &SocketAddr| listeners.iter().any(|listener| listener.address == *to);
        let original = self.opening().and_then(|opening| opening.arrived.original);
        let to = original.filter(|to| !is_own(to)).ok_or(CloseReason::RedirectLoop)?;
        Place::take(&cluster.endpoint_at(to), 0).ok_or(CloseReason::NoEndpoint)
    }

    /// What the server's side is to write first.
    fn header(&self, cluster: &Cluster, source: SocketAddr) -> Vec<u8> {
        let mut header = Vec::new();
        if let Some(version) = cluster.plan().proxy_protocol {
            let reached = self.opening().and_then(|opening| opening.arrived.reached);
            encode(version, reached.map(|destination| Route { source, destination }), &mut header);
        }
        header
    }

    /// The server's side is connected.
    fn on_connected<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let shared = Arc::clone(&context.local.shared);
        if let Some(place) = &mut self.place {
            place.endpoint().note_connected();
            place.keep_bytes(0);
        }
        let name = &shared.clusters[usize::from(self.origin)].plan().name;
        logging::connection_opened(context.me.as_u64(), context.peer, name);
        context.local.count(Count::UpstreamConnectionsOpened);
        let header = self.opening().map_or(&[][..], |opening| &opening.header);
        let bytes = header.len() as u32;
        if !header.is_empty() && !context.write_copy(header) {
            self.tell(Mail::PartnerGone, context);
            return self.reset(CloseReason::MemoryCeiling, context);
        }
        self.unwritten_bytes = bytes;
        self.begin(context);
        self.tell(Mail::TunnelOpened, context);
    }

    /// The server's side could not be connected.
    pub(super) fn on_failed<A: Proxy>(&mut self, error: OpenError, context: &mut Context<'_, A>) {
        self.stage = Stage::Closed;
        context.local.count(Count::UpstreamConnectFailures);
        // A lack on this side says nothing about the endpoint.
        if let Some(place) = self.place.take().filter(|_| error != OpenError::Exhausted) {
            let random = context.random();
            place.endpoint().note_unreachable(context.now, random);
        }
        self.tell(Mail::TunnelFailed { why: CloseReason::of_connect(error) }, context);
    }

    pub(super) fn on_partner_failed<A: Proxy>(&mut self, why: CloseReason, context: &mut Context<'_, A>) {
        self.partner = None;
        if !self.is_opening() {
            return;
        }
        self.opening_mut().attempts += 1;
        let attempts = self.opening().map_or(0, |opening| opening.attempts);
        let cluster = self.cluster(context.local).map(|at| &context.local.shared.clusters[usize::from(at)]);
        // There is only one place where the client wanted to go.
        let cluster = cluster.filter(|cluster| !cluster.plan().original_destination);
        let Some(cluster) = cluster.filter(|cluster| attempts < cluster.plan().connect_attempts) else {
            return self.reset(why, context);
        };
        if !cluster.budget().take(context.now) {
            context.local.count(Count::RetriesRefused);
            return self.reset(why, context);
        }
        context.local.count(Count::Retries);
        self.dial(why, context);
    }
}
