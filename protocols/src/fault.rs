//! Owns the words for what a peer did wrong on the wire. A [`Fault`] ends the connection, a
//! [`HeadFault`] ends one message. Refuses our own bugs and failures of the world: those are
//! other types. Names are stable: they are close reasons and metric labels.

use std::fmt;

/// The peer broke the framing: nothing behind this point can be understood, so the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The first byte of a frame names no protocol that we speak.
    UnknownProtocol,
    /// A Bolt v2 frame with a protocol version other than 1 or 2.
    UnknownVersion,
    /// A Bolt frame that is neither response, request nor oneway.
    UnknownType,
    /// A Bolt command code that does not exist.
    UnknownCommand,
    /// A known command code in a frame of the wrong type.
    MismatchedCommand,
    /// A Bolt command version other than 1.
    UnknownCommandVersion,
    /// Bit 7 of the switch byte is set.
    ReservedSwitchBit,
    /// A heartbeat, or its acknowledgement, that declares a class, header or content.
    HeartbeatWithBody,
    /// A goaway that declares a class, header or content.
    GoawayWithBody,
    /// Class and header together are declared larger than the limit.
    HeadTooLarge,
    /// The content is declared larger than the limit.
    ContentTooLarge,
    /// The CRC trailer does not match the frame.
    CrcMismatch,
}

impl Fault {
    /// Every fault, for metric registration and tests.
    pub const ALL: [Self; 12] = [
        Self::UnknownProtocol,
        Self::UnknownVersion,
        Self::UnknownType,
        Self::UnknownCommand,
        Self::MismatchedCommand,
        Self::UnknownCommandVersion,
        Self::ReservedSwitchBit,
        Self::HeartbeatWithBody,
        Self::GoawayWithBody,
        Self::HeadTooLarge,
        Self::ContentTooLarge,
        Self::CrcMismatch,
    ];

    /// The stable name, used as close reason and metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownProtocol => "unknown_protocol",
            Self::UnknownVersion => "unknown_version",
            Self::UnknownType => "unknown_type",
            Self::UnknownCommand => "unknown_command",
            Self::MismatchedCommand => "mismatched_command",
            Self::UnknownCommandVersion => "unknown_command_version",
            Self::ReservedSwitchBit => "reserved_switch_bit",
            Self::HeartbeatWithBody => "heartbeat_with_body",
            Self::GoawayWithBody => "goaway_with_body",
            Self::HeadTooLarge => "head_too_large",
            Self::ContentTooLarge => "content_too_large",
            Self::CrcMismatch => "crc_mismatch",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl std::error::Error for Fault {}

/// The frame is complete and delimited, but its head cannot be used: the message alone is
/// refused (Bolt status 9, HTTP 400) and the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadFault {
    /// The class name is longer than a signed 16-bit length can say.
    ClassTooLong,
    /// The header is longer than a signed 16-bit length can say.
    HeaderTooLong,
    /// Bytes are left that cannot hold what a length, or the start of one, promises.
    Truncated,
    /// A length below -1.
    NegativeLength,
    /// More fields than the limit.
    TooManyFields,
    /// A field that we decide by occurs more than once, so two readers could disagree about it.
    DuplicateField,
}

impl HeadFault {
    /// Every head fault, for metric registration and tests.
    pub const ALL: [Self; 6] = [
        Self::ClassTooLong,
        Self::HeaderTooLong,
        Self::Truncated,
        Self::NegativeLength,
        Self::TooManyFields,
        Self::DuplicateField,
    ];

    /// The stable name, used as metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClassTooLong => "class_too_long",
            Self::HeaderTooLong => "header_too_long",
            Self::Truncated => "header_truncated",
            Self::NegativeLength => "header_negative_length",
            Self::TooManyFields => "header_too_many_fields",
            Self::DuplicateField => "header_duplicate_field",
        }
    }
}

impl fmt::Display for HeadFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl std::error::Error for HeadFault {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_snake_case() {
        let names: Vec<_> =
            Fault::ALL.iter().map(|f| f.name()).chain(HeadFault::ALL.iter().map(|f| f.name())).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in names {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
    }

    #[test]
    fn names_are_what_is_displayed() {
        assert!(Fault::ALL.iter().all(|fault| fault.to_string() == fault.name()));
        assert!(HeadFault::ALL.iter().all(|fault| fault.to_string() == fault.name()));
    }
}
