//! How a WebSocket ends when the gateway drains: with a close frame to either peer, each between two frames of the stream
//! that goes there, and some time for the answers. Both sides of every WebSocket follow what they write for that; what is
//! no frame ends the following, and that tunnel is cut at the deadline like any other.
//!
//! The client hears it first, so that what it sent before still reaches its server, behind which its own close frame
//! passes like any. Only where that does not come does the server hear the gateway's.

use bowline_engine::machine::Context;
use bowline_engine::time::Time;
use bowline_protocols::websocket::{Frames, GOING_AWAY, close_of_client, close_of_server};
use serde::{Deserialize, Serialize};

use crate::error::CloseReason;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::worker::Proxy;

use super::super::state::State;
use super::{Phase, Side, Tunnel, answer_ms};

/// How far one side is.
///
/// ```text
/// client: Resting ──its moment of the drain──▶ Asked ──its server's frame has ended──▶ Said
/// server: Resting ──the client said nothing──▶ Asked ──its client's frame has ended──▶ Said
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Parting {
    /// It goes on until this moment, in milliseconds: the client's side as before, the server's with what its client still says.
    Resting {
        /// The moment.
        until_ms: u64,
    },
    /// The frame that is under way ends first.
    Asked,
    /// The close frame is queued; whatever the partner sends comes too late.
    Said,
}

impl Tunnel {
    pub(super) fn parting(&self) -> Option<Parting> {
        match self.phase.as_deref() {
            Some(Phase::Parting(parting)) => Some(*parting),
            _ => None,
        }
    }

    pub(super) fn has_said_goodbye(&self) -> bool {
        self.parting() == Some(Parting::Said)
    }

    /// Whether this end is the drain's doing: the client was told, so its server is to end too.
    pub(super) fn parts_by_drain(&self) -> bool {
        match self.side {
            Side::Client => self.has_said_goodbye(),
            Side::Server => self.parting().is_some(),
        }
    }

    /// A WebSocket says goodbye at `moment`, or as soon after as it can.
    pub(super) fn begin_parting<A: Proxy>(&mut self, moment: Time, context: &mut Context<'_, A>) {
        if self.frames.is_some() && self.phase.is_none() {
            self.set_parting(Parting::Resting { until_ms: moment.as_ms() });
            self.arm(moment, context);
        }
    }

    fn set_parting(&mut self, parting: Parting) {
        match self.phase.as_deref_mut() {
            Some(phase) => *phase = Phase::Parting(parting),
            None => self.phase = Some(Box::new(Phase::Parting(parting))),
        }
    }

    pub(super) fn judge_parting<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let Some(Parting::Resting { until_ms }) = self.parting() else { return };
        if Time::from_ms(until_ms) > context.now {
            return self.arm(Time::from_ms(until_ms), context);
        }
        self.set_parting(Parting::Asked);
        self.say_goodbye_if_asked(context);
    }

    /// Follows what is about to be written; says how much of it goes before the goodbye, if there is to be one.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> usize {
        let is_asked = self.parting() == Some(Parting::Asked);
        match &mut self.frames {
            Some(frames) if is_asked => frames.follow_to_border(bytes),
            Some(frames) => {
                frames.follow(bytes);
                bytes.len()
            }
            None => bytes.len(),
        }
    }

    pub(super) fn say_goodbye_if_asked<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.parting() == Some(Parting::Asked) {
            self.say_goodbye(context);
        }
    }

    /// The last chance of a side whose partner says nothing any more.
    pub(super) fn say_last_word<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.parts_by_drain() {
            self.say_goodbye(context);
        }
    }

    /// Puts the close frame where it may stand. Behind the end or another close frame none may, nor is one needed: the
    /// other side hears of the end all the same.
    pub(super) fn say_goodbye<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.is_closed() || self.has_said_goodbye() {
            return;
        }
        match self.frames {
            Some(Frames::Closed) => {}
            Some(_) if self.partner_ended => {}
            Some(Frames::Between) => self.write_goodbye(context),
            _ => return,
        }
        if self.is_closed() {
            return;
        }
        self.set_parting(Parting::Said);
        context.set_state(State::Ending as u8);
        if self.side == Side::Client {
            self.tell(Mail::Farewell, context);
            self.draining = true;
            let due = context.now.after_ms(2 * answer_ms(context.local));
            self.must_end.bring_to(due);
            self.arm(due, context);
        }
    }

    fn write_goodbye<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        let mask = (context.random() as u32).to_be_bytes();
        let (of_server, of_client) = (close_of_server(GOING_AWAY), close_of_client(GOING_AWAY, mask));
        let frame = match self.side {
            Side::Client => &of_server[..],
            Side::Server => &of_client[..],
        };
        if !context.write_copy(frame) {
            self.tell(Mail::PartnerGone, context);
            return self.reset(CloseReason::MemoryCeiling, context);
        }
        context.local.count(Count::WebsocketClosesSent);
        self.unwritten_bytes += frame.len() as u32;
        self.frames = Some(Frames::Closed);
    }

    /// What comes behind the goodbye is nobody's, but its sender must be able to go on to its own.
    pub(super) fn discard<A: Proxy>(&mut self, bytes: usize, context: &mut Context<'_, A>) {
        if bytes > 0 && !self.partner_ended {
            self.tell(Mail::Credit { bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }, context);
        }
    }

    /// Nothing will come from the other side. A reset could take a word back that the peer has not read yet.
    pub(super) fn on_partner_gone<A: Proxy>(&mut self, context: &mut Context<'_, A>) {
        if self.frames.is_some() && self.draining && self.must_end.is_past(context.now) {
            // Both sides have this deadline, and this one was only called second.
            return self.end_in_time(context);
        }
        if !self.parts_by_drain() {
            return self.reset(CloseReason::PartnerGone, context);
        }
        self.say_last_word(context);
        if !self.is_closed() {
            self.close(CloseReason::Drain, context);
        }
    }
}
