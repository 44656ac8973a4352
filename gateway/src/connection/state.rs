//! The words that machines share with the outside: the state that `/connections` shows, the kinds of frozen machines, and
//! which fault of a peer closes a connection for which reason.

use bowline_engine::machine::{Address, Freeze, Frozen, ThawError};
use bowline_protocols::Fault;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CloseReason;

/// What a connection is doing, as the byte that its slot keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not established yet.
    Opening = 0,
    /// Nothing is going on.
    Idle = 1,
    /// Requests are in flight, or bytes are.
    Active = 2,
    /// It is not read for the moment.
    Paused = 3,
    /// It takes no new requests and ends when the last one has.
    Ending = 4,
}

impl State {
    /// The name of a state byte.
    pub const fn name(byte: u8) -> &'static str {
        match byte {
            0 => "opening",
            1 => "idle",
            2 => "active",
            3 => "paused",
            _ => "ending",
        }
    }
}

/// Which machine a frozen one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// A client's connection.
    Downstream = 1,
    /// A connection to a server.
    Upstream = 2,
    /// One side of a tunnel.
    Tunnel = 3,
    /// The embedded server.
    Echo = 4,
    /// An HTTP client's connection.
    HttpDownstream = 5,
    /// An HTTP connection to a server.
    HttpUpstream = 6,
}

impl Kind {
    /// The kind of a number.
    pub const fn from_code(code: u16) -> Option<Kind> {
        match code {
            1 => Some(Kind::Downstream),
            2 => Some(Kind::Upstream),
            3 => Some(Kind::Tunnel),
            4 => Some(Kind::Echo),
            5 => Some(Kind::HttpDownstream),
            6 => Some(Kind::HttpUpstream),
            _ => None,
        }
    }
}

/// The close reason that a fault on the wire becomes.
pub const fn close_reason(fault: Fault) -> CloseReason {
    match fault {
        Fault::UnknownProtocol => CloseReason::FrameProtocol,
        Fault::UnknownVersion | Fault::UnknownCommandVersion => CloseReason::FrameVersion,
        Fault::UnknownType => CloseReason::FrameType,
        Fault::UnknownCommand
        | Fault::MismatchedCommand
        | Fault::HeartbeatWithBody
        | Fault::GoawayWithBody => CloseReason::FrameCommand,
        Fault::ReservedSwitchBit => CloseReason::FrameSwitch,
        Fault::HeadTooLarge => CloseReason::FrameHeadTooLarge,
        Fault::ContentTooLarge => CloseReason::FrameContentTooLarge,
        Fault::CrcMismatch => CloseReason::FrameChecksum,
    }
}

/// The form of frozen state.
const FORM: u16 = 1;

/// `state` as frozen data of `kind`. Moments in it are of the engine's clock.
pub(super) fn freeze(kind: Kind, state: &impl Serialize, partners: Vec<Address>) -> Freeze {
    match serde_json::to_vec(state) {
        Ok(state) => {
            let (tail, output) = Default::default();
            Freeze::Frozen(Frozen { version: FORM, kind: kind as u16, state, partners, tail, output })
        }
        Err(_) => Freeze::NotYet { why: "the state cannot be written" },
    }
}

/// The state that [`freeze`] wrote.
pub(super) fn thaw<S: DeserializeOwned>(frozen: &Frozen) -> Result<S, ThawError> {
    if frozen.version != FORM {
        return Err(ThawError(format!("form {} is unknown", frozen.version)));
    }
    serde_json::from_slice(&frozen.state).map_err(|error| ThawError(error.to_string()))
}

/// The partner at a position of the state.
pub(super) fn partner(frozen: &Frozen, position: u32) -> Result<Address, ThawError> {
    let partner = frozen.partners.get(position as usize);
    partner.copied().ok_or_else(|| ThawError(format!("partner {position} is missing")))
}

/// Gathers partners and says at which positions they stand.
#[derive(Default)]
pub(super) struct Partners(pub(super) Vec<Address>);

impl Partners {
    /// The position of `address`.
    pub(super) fn position(&mut self, address: Address) -> u32 {
        let known = self.0.iter().rposition(|known| *known == address);
        let position = known.unwrap_or_else(|| {
            self.0.push(address);
            self.0.len() - 1
        });
        u32::try_from(position).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_from_its_code() {
        for kind in [
            Kind::Downstream,
            Kind::Upstream,
            Kind::Tunnel,
            Kind::Echo,
            Kind::HttpDownstream,
            Kind::HttpUpstream,
        ] {
            assert_eq!(Kind::from_code(kind as u16), Some(kind));
        }
        assert_eq!(Kind::from_code(0), None);
    }

    #[test]
    fn every_fault_has_a_reason_of_the_gateway() {
        for fault in Fault::ALL {
            assert_eq!(close_reason(fault).closed_by(), crate::error::ClosedBy::Gateway, "{fault}");
        }
    }

    #[test]
    fn a_partner_stands_once() {
        let address = |index| Address { index, generation: 3 };
        let mut partners = Partners::default();
        assert_eq!([1, 2, 1].map(|index| partners.position(address(index))), [0, 1, 0]);
        assert_eq!(partners.0, [address(1), address(2)]);
    }
}
