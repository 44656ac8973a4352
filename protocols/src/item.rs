//! Owns what the gateway hands to a codec to be written. Refuses policy: which failure becomes
//! which [`Refusal`] is the gateway's table.

use crate::bolt::Status;
use crate::head::Head;

/// Something to write.
#[derive(Debug)]
pub enum Item<'a> {
    /// A complete message of the same family, forwarded: its bytes change in place, and only where
    /// they must.
    Message {
        /// The head that `decode` gave for these bytes.
        head: &'a Head,
        /// Exactly the bytes of the message.
        bytes: &'a mut [u8],
        /// The id it has on the connection it goes to.
        id: u32,
    },
}

/// Why a request is answered by us instead of by an upstream, in the words of each protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status for a Bolt caller.
    pub bolt: Status,
}
