//! What stands before the machine of a connection that comes through a proxy: it waits for the header of the PROXY
//! protocol, which says whose connection it is, and then hands every call on. The machine behind it never knows.
//!
//! A header is required, and taken only from networks that are trusted; nothing is ever answered. The bytes behind it
//! belong to the stream. Frozen, the machine behind it stands alone: the engine keeps the peer that was named.

use std::net::SocketAddr;

use bowline_engine::machine::{Accepted, Context, Freeze, Incoming, Input, Machine};
use bowline_protocols::proxy_header::{HeaderFault, Parsed, Route, parse};

use crate::config::network::is_within;
use crate::config::plan::AnnouncedPlan;
use crate::error::CloseReason;
use crate::mail::Mail;
use crate::worker::Proxy;
use crate::worker::Worker;

use super::state::State;

/// Which addresses a client has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// The one that it reached.
    pub reached: Option<SocketAddr>,
    /// The one that it wanted, if the packet filter sent it here instead.
    pub original: Option<SocketAddr>,
}

impl Arrived {
    /// What the socket says.
    pub fn of(accepted: &dyn Accepted) -> Arrived {
        let reached = accepted.local_address().map(canonical);
        let original = accepted.original_destination().map(canonical);
        Arrived { reached, original: original.filter(|original| Some(*original) != reached) }
    }
}

/// An address of IPv4 as what it is, also where a socket of IPv6 has it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Makes the machine behind the header.
pub type Make<A> = fn(listener: u16, arrived: Arrived) -> Box<dyn Machine<A>>;

/// The machine of a connection that says whose it is.
pub struct Front<A: Proxy> {
    stage: Stage<A>,
}

enum Stage<A: Proxy> {
    /// The header has not come yet.
    Waiting { listener: u16, arrived: Box<Arrived>, make: Make<A> },
    /// It has; `peer` is who it named.
    Behind { peer: SocketAddr, machine: Box<dyn Machine<A>> },
}

impl<A: Proxy> Front<A> {
    /// The connection that `listener` accepted; `make` makes its machine.
    pub fn accepted(listener: u16, arrived: Arrived, make: Make<A>) -> Front<A> {
        Front { stage: Stage::Waiting { listener, arrived: Box::new(arrived), make } }
    }

    fn on_bytes(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
        let Stage::Waiting { listener, .. } = &self.stage else { return };
        let Some(plan) = plan_of(*listener, context.local) else { return };
        match parse(incoming.bytes(), plan.versions) {
            Ok(Parsed::More { bytes }) => context.need(bytes),
            Ok(Parsed::Header { bytes, route }) => {
                incoming.consume(bytes);
                self.step_aside(route, context);
            }
            Err(HeaderFault::Missing) => close(CloseReason::ProxyMissing, context),
            Err(HeaderFault::TooLong | HeaderFault::Malformed) => {
                close(CloseReason::ProxyMalformed, context);
            }
        }
    }

    /// The header has come: the machine begins.
    fn step_aside(&mut self, route: Option<Route>, context: &mut Context<'_, A>) {
        let Stage::Waiting { listener, arrived, make } = &self.stage else { return };
        let mut arrived = **arrived;
        if let Some(Route { source, destination }) = route {
            if !context.set_peer(canonical(source)) {
                return context.reset(CloseReason::LimitPerSource.index() as u8);
            }
            arrived.reached = Some(destination);
        }
        context.set_deadline(None);
        let mut machine = make(*listener, arrived);
        machine.on(Input::Opened, context);
        self.stage = Stage::Behind { peer: context.peer, machine };
    }

    /// An input before the header has come whole.
    fn wait(&mut self, input: Input<'_, A>, context: &mut Context<'_, A>) {
        match input {
            Input::Opened => self.begin(context),
            // What lies unread for want of memory here is no fault of the peer.
            Input::Deadline if context.held_back => {
                context.set_deadline(Some(context.now.after_ms(HELD_BACK_MS)));
            }
            Input::Deadline => close(CloseReason::ProxyTimeout, context),
            Input::EndOfStream if context.input_bytes == 0 => close(CloseReason::PeerClosed, context),
            Input::EndOfStream => close(CloseReason::PeerClosedMidFrame, context),
            Input::Mail { mail: Mail::Drain { .. }, .. } => close(CloseReason::Drain, context),
            // Nobody else writes to it; what mail carries is given back by dropping it.
            _ => {}
        }
    }

    fn begin(&self, context: &mut Context<'_, A>) {
        let Stage::Waiting { listener, .. } = &self.stage else { return };
        let source = context.peer.ip();
        let Some(plan) = plan_of(*listener, context.local) else { return };
        let (is_trusted, timeout_ms) = (is_within(&plan.trusted, source), plan.timeout_ms);
        if !is_trusted {
            return context.reset(CloseReason::ProxyUntrusted.index() as u8);
        }
        context.set_state(State::Opening as u8);
        context.set_deadline(Some(context.now.after_ms(timeout_ms)));
    }
}

/// How long a peer has for its first bytes once more while they could not be read.
pub(super) const HELD_BACK_MS: u64 = 1_000;

fn plan_of(listener: u16, local: &Worker) -> Option<&AnnouncedPlan> {
    local.shared.listener(listener).and_then(|listener| listener.announced.as_ref())
}

fn close<A: Proxy>(reason: CloseReason, context: &mut Context<'_, A>) {
    context.close(reason.index() as u8);
}

impl<A: Proxy> Machine<A> for Front<A> {
    fn on(&mut self, input: Input<'_, A>, context: &mut Context<'_, A>) {
        let incoming = match (&mut self.stage, input) {
            (Stage::Behind { peer, machine }, input) => {
                // The engine names the peer from its next turn on, and this may be the same.
                context.peer = *peer;
                return machine.on(input, context);
            }
            (Stage::Waiting { .. }, Input::Bytes(incoming)) => incoming,
            (Stage::Waiting { .. }, input) => return self.wait(input, context),
        };
        self.on_bytes(incoming, context);
        // Rule 6: a machine that does not read is offered nothing; the engine keeps it.
        let is_paused = context.effects.reading == Some(false) || context.effects.close.is_some();
        if let Stage::Behind { machine, .. } = &mut self.stage
            && !is_paused
            && !incoming.is_empty()
        {
            machine.on(Input::Bytes(incoming), context);
        }
    }

    fn freeze(&self) -> Freeze {
        match &self.stage {
            Stage::Waiting { .. } => Freeze::NotYet { why: "the header has not come yet" },
            Stage::Behind { machine, .. } => machine.freeze(),
        }
    }
}
