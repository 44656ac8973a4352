//! Owns the response statuses of Bolt. Refuses to say which failure becomes which status: that
//! table is the gateway's.

/// A response status that Java knows; it throws on any other value, so we never make another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Status {
    /// The call was carried out.
    Success = 0x00,
    /// Not further described.
    Error = 0x01,
    /// The service threw, or policy refused.
    ServerException = 0x02,
    /// Unknown.
    Unknown = 0x03,
    /// Overload: not accepted, may be tried elsewhere.
    ServerThreadpoolBusy = 0x04,
    /// A failure of communication.
    ErrorComm = 0x05,
    /// Nobody serves this class or route.
    NoProcessor = 0x06,
    /// The deadline passed.
    Timeout = 0x07,
    /// The client could not send.
    ClientSendError = 0x08,
    /// The message could not be decoded.
    CodecException = 0x09,
    /// The connection was lost with the request in flight.
    ConnectionClosed = 0x10,
    /// The server could not serialise its answer.
    ServerSerialException = 0x11,
    /// The server could not deserialise the request.
    ServerDeserialException = 0x12,
}

impl Status {
    /// Every status, in the order of codes.
    pub const ALL: [Self; 13] = [
        Self::Success,
        Self::Error,
        Self::ServerException,
        Self::Unknown,
        Self::ServerThreadpoolBusy,
        Self::ErrorComm,
        Self::NoProcessor,
        Self::Timeout,
        Self::ClientSendError,
        Self::CodecException,
        Self::ConnectionClosed,
        Self::ServerSerialException,
        Self::ServerDeserialException,
    ];

    /// The code on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The status of a code, if Java knows it.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The stable name, used as metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::ServerException => "server_exception",
            Self::Unknown => "unknown",
            Self::ServerThreadpoolBusy => "server_threadpool_busy",
            Self::ErrorComm => "error_comm",
            Self::NoProcessor => "no_processor",
            Self::Timeout => "timeout",
            Self::ClientSendError => "client_send_error",
            Self::CodecException => "codec_exception",
            Self::ConnectionClosed => "connection_closed",
            Self::ServerSerialException => "server_serial_exception",
            Self::ServerDeserialException => "server_deserial_exception",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_snake_case() {
        let names: BTreeSet<_> = Status::ALL.iter().map(|status| status.name()).collect();
        assert_eq!(names.len(), Status::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        assert_eq!(Status::NoProcessor.name(), "no_processor");
    }

    #[test]
    fn codes_come_back_and_gaps_are_unknown() {
        for status in Status::ALL {
            assert_eq!(Status::from_code(status.code()), Some(status));
        }
        for code in (0x0a..0x10).chain([0x13, 0xff, u16::MAX]) {
            assert_eq!(Status::from_code(code), None, "{code:#x}");
        }
    }
}
