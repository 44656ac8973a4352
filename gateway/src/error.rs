//! The one vocabulary of failures and of reasons to close, used alike by answers on the wire, by
//! logs, by metrics and by `/connections`. It holds names and the status each failure becomes for
//! the client; it decides nothing and does no I/O. Every other module of the gateway calls it.

use bowline_engine::machine::OpenError;

/// Declares a closed set of named variants, each with one word and one attribute, as one table:
/// an enum alone would let a new variant be forgotten in a list beside it.
macro_rules! vocabulary {
    (
        $(#[$meta:meta])*
        $set:ident: $attribute:ty {
            $( $(#[$doc:meta])* $variant:ident = $word:literal, $value:expr; )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $set {
            $( $(#[$doc])* $variant, )+
        }

        impl $set {
            /// Every variant, in the order of its index.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),+];
            /// The number of variants; arrays indexed by [`Self::index`] have this length.
            pub const COUNT: usize = Self::ALL.len();
            const ROWS: &'static [(&'static str, $attribute)] = &[$( ($word, $value) ),+];

            /// The one name in logs, metrics and replies of the admin interface.
            pub const fn name(self) -> &'static str {
                Self::ROWS[self as usize].0
            }

            /// The position in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The variant at an index, `None` beyond the last.
            pub fn from_index(index: usize) -> Option<Self> {
                Self::ALL.get(index).copied()
            }
        }

        impl std::fmt::Display for $set {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}
pub(crate) use vocabulary;

vocabulary! {
    /// What went wrong with one request, and the statuses of Bolt and HTTP that the caller is answered with.
    ///
    /// A oneway request gets no answer; its failure is counted all the same.
    Failure: (u16, u16) {
        /// No route matches and there is no default route.
        NoRoute = "no_route", (status::NO_PROCESSOR, 404);
        /// The cluster has no endpoint that may be used now.
        NoEndpoint = "no_endpoint", (status::NO_PROCESSOR, 503);
        /// No connection could be opened, on the first endpoint and on those tried after it.
        ConnectFailed = "connect_failed", (status::NO_PROCESSOR, 502);
        /// The upstream connection ended after the request was written to it.
        UpstreamLost = "upstream_lost", (status::CONNECTION_CLOSED, 502);
        /// No answer came before the deadline of the request or of its route.
        Timeout = "timeout", (status::TIMEOUT, 504);
        /// Every endpoint of the cluster has as many requests or bytes as it may hold.
        Overflow = "overflow", (status::SERVER_THREADPOOL_BUSY, 503);
        /// It may be tried again, but the retry budget of its cluster is used up.
        RetryBudget = "retry_budget", (status::SERVER_THREADPOOL_BUSY, 503);
        /// Buffer memory is at its ceiling, so new work is refused.
        MemoryCeiling = "memory_ceiling", (status::SERVER_THREADPOOL_BUSY, 503);
        /// The frame is complete but its header block cannot be decoded.
        HeadMalformed = "head_malformed", (status::CODEC_EXCEPTION, 400);
        /// The class name or the header block is longer than a Java peer can read (32,767 bytes).
        HeadTooLarge = "head_too_large", (status::CODEC_EXCEPTION, 431);
        /// A server called its client over a shared upstream connection, which belongs to nobody.
        CallbackOnShared = "callback_on_shared", (status::NO_PROCESSOR, 502);
        /// A server called its client, and the client's connection is gone.
        CallbackLost = "callback_lost", (status::CONNECTION_CLOSED, 502);
        /// The upstream's answer breaks HTTP, so nothing of it can be passed on.
        BadResponse = "bad_response", (status::CONNECTION_CLOSED, 502);
        /// The head of a request did not arrive whole in time.
        HeadTimeout = "head_timeout", (status::TIMEOUT, 408);
        /// Nothing of a request's body came for too long.
        BodyTimeout = "body_timeout", (status::TIMEOUT, 408);
        /// The body is longer than the limit.
        BodyTooLarge = "body_too_large", (status::SERVER_EXCEPTION, 413);
        /// The method is not served here: CONNECT.
        MethodRefused = "method_refused", (status::SERVER_EXCEPTION, 405);
        /// An upgrade that is none: a WebSocket handshake without its key.
        UpgradeRefused = "upgrade_refused", (status::SERVER_EXCEPTION, 426);
        /// A fault that an operator asked for with a filter.
        FaultInjected = "fault_injected", (status::SERVER_THREADPOOL_BUSY, 503);
        /// The deadline of a drain came before anything of the answer; of HTTP only.
        DrainDeadline = "drain_deadline", (status::CONNECTION_CLOSED, 503);
    }
}

impl Failure {
    /// The Bolt response status this failure becomes.
    pub const fn status(self) -> u16 {
        Self::ROWS[self as usize].1.0
    }

    /// The HTTP status this failure becomes.
    pub const fn http_status(self) -> u16 {
        Self::ROWS[self as usize].1.1
    }
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClosedBy {
    /// The other end of the socket.
    Peer,
    /// This process, by its own decision.
    Gateway,
    /// The operating system (keepalive, retransmission limit, unreachable host).
    Kernel,
}

impl ClosedBy {
    /// `peer`, `gateway` or `kernel`, as logs and metrics print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Gateway => "gateway",
            Self::Kernel => "kernel",
        }
    }
}

vocabulary! {
    /// Why a connection, downstream or upstream, was closed.
    CloseReason: ClosedBy {
        /// The peer ended its side and nothing was left to do.
        PeerClosed = "peer_closed", ClosedBy::Peer;
        /// The peer reset the connection.
        PeerReset = "peer_reset", ClosedBy::Peer;
        /// The peer ended its side in the middle of a frame.
        PeerClosedMidFrame = "peer_closed_mid_frame", ClosedBy::Peer;
        /// The kernel gave up on a peer that no longer acknowledges.
        KernelTimeout = "kernel_timeout", ClosedBy::Kernel;
        /// The kernel reported another error on the socket.
        SocketError = "socket_error", ClosedBy::Kernel;
        /// Nothing arrived for the idle timeout of the listener.
        IdleTimeout = "idle_timeout", ClosedBy::Gateway;
        /// The peer takes what is queued for it too slowly.
        SlowReader = "slow_reader", ClosedBy::Gateway;
        /// A frame did not arrive whole before its deadline.
        FrameDeadline = "frame_deadline", ClosedBy::Gateway;
        /// A frame arrived more slowly than the lowest rate allowed.
        FrameRate = "frame_rate", ClosedBy::Gateway;
        /// The first byte of a frame is no protocol code of this listener.
        FrameProtocol = "frame_protocol", ClosedBy::Gateway;
        /// A version byte inside the frame has no known value.
        FrameVersion = "frame_version", ClosedBy::Gateway;
        /// The frame type has no known value.
        FrameType = "frame_type", ClosedBy::Gateway;
        /// The command code is unknown, or impossible with this frame type.
        FrameCommand = "frame_command", ClosedBy::Gateway;
        /// A switch bit is set that may not be.
        FrameSwitch = "frame_switch", ClosedBy::Gateway;
        /// The class name and header block are declared longer than the limit.
        FrameHeadTooLarge = "frame_head_too_large", ClosedBy::Gateway;
        /// The content is declared longer than the limit.
        FrameContentTooLarge = "frame_content_too_large", ClosedBy::Gateway;
        /// The checksum does not match the frame.
        FrameChecksum = "frame_checksum", ClosedBy::Gateway;
        /// The frame is well formed but may not come from this side.
        FrameUnexpected = "frame_unexpected", ClosedBy::Gateway;
        /// The peer sends heartbeats faster than they are answered.
        HeartbeatFlood = "heartbeat_flood", ClosedBy::Gateway;
        /// The peer missed as many heartbeats in a row as are allowed.
        HeartbeatMissed = "heartbeat_missed", ClosedBy::Gateway;
        /// The gateway drains, and the connection was at a quiet point.
        Drain = "drain", ClosedBy::Gateway;
        /// The drain deadline came before the connection was quiet.
        DrainDeadline = "drain_deadline", ClosedBy::Gateway;
        /// The gateway ends at once.
        Shutdown = "shutdown", ClosedBy::Gateway;
        /// The process holds as many connections as `--max-connections` allows.
        LimitConnections = "limit_connections", ClosedBy::Gateway;
        /// The source address holds as many as `--max-connections-per-source` allows.
        LimitPerSource = "limit_per_source", ClosedBy::Gateway;
        /// No descriptor was left for the connection.
        LimitDescriptors = "limit_descriptors", ClosedBy::Gateway;
        /// Buffer memory is at its ceiling.
        MemoryCeiling = "memory_ceiling", ClosedBy::Gateway;
        /// An operator asked for it.
        Admin = "admin", ClosedBy::Gateway;
        /// No route leads anywhere from this listener.
        NoRoute = "no_route", ClosedBy::Gateway;
        /// The cluster has no endpoint that may be used now, so no connect was tried.
        NoEndpoint = "no_endpoint", ClosedBy::Gateway;
        /// The upstream did not accept the connection in time.
        ConnectTimeout = "connect_timeout", ClosedBy::Gateway;
        /// The upstream refused the connection or cannot be reached.
        ConnectFailed = "connect_failed", ClosedBy::Kernel;
        /// No port, descriptor or memory was left on this side to connect from.
        ConnectExhausted = "connect_exhausted", ClosedBy::Gateway;
        /// The connection comes from a network whose PROXY header is not trusted.
        ProxyUntrusted = "proxy_untrusted", ClosedBy::Gateway;
        /// The connection begins without the PROXY header that the listener requires.
        ProxyMissing = "proxy_missing", ClosedBy::Gateway;
        /// The PROXY header is malformed, or longer than one may be.
        ProxyMalformed = "proxy_malformed", ClosedBy::Gateway;
        /// The PROXY header did not arrive in time.
        ProxyTimeout = "proxy_timeout", ClosedBy::Gateway;
        /// The listener requires TLS, and this is none.
        HelloMissing = "hello_missing", ClosedBy::Gateway;
        /// The first message of TLS is malformed, or longer than is read.
        HelloMalformed = "hello_malformed", ClosedBy::Gateway;
        /// The first message of TLS did not arrive in time.
        HelloTimeout = "hello_timeout", ClosedBy::Gateway;
        /// The listener requires that TLS names a server, and this client named none.
        HelloUnnamed = "hello_unnamed", ClosedBy::Gateway;
        /// The packet filter sent the connection nowhere else than to this gateway.
        RedirectLoop = "redirect_loop", ClosedBy::Gateway;
        /// The tunnel was open for as long as one may be.
        TunnelExpired = "tunnel_expired", ClosedBy::Gateway;
        /// The connection this one is bound to is gone.
        PartnerGone = "partner_gone", ClosedBy::Gateway;
        /// The upstream said that it goes away, and its last request has ended.
        UpstreamGoaway = "upstream_goaway", ClosedBy::Gateway;
        /// The endpoint left the configuration or the answer of the resolver.
        EndpointRemoved = "endpoint_removed", ClosedBy::Gateway;
        /// The upstream connection was not used for its idle timeout.
        UpstreamIdle = "upstream_idle", ClosedBy::Gateway;
        /// An upstream connection of HTTP was used as often or as long as it may be.
        UpstreamWorn = "upstream_worn", ClosedBy::Gateway;
        /// Something in an HTTP request is not HTTP, so nothing behind it can be trusted.
        HttpMalformed = "http_malformed", ClosedBy::Gateway;
        /// A request line, head or body is longer than its limit.
        HttpTooLarge = "http_too_large", ClosedBy::Gateway;
        /// The head of a request did not arrive whole in time.
        HttpHeadTimeout = "http_head_timeout", ClosedBy::Gateway;
        /// Nothing of a body came for too long.
        HttpBodyTimeout = "http_body_timeout", ClosedBy::Gateway;
        /// The last message said that the connection ends behind it.
        HttpFinished = "http_finished", ClosedBy::Gateway;
        /// What an upstream sent is not HTTP, or was not asked for.
        ResponseMalformed = "response_malformed", ClosedBy::Gateway;
        /// The client of a request that an upstream worked on is gone, and HTTP/1.1 has no other word for that.
        RequestCancelled = "request_cancelled", ClosedBy::Gateway;
        /// A fault that an operator asked for with a filter.
        FaultInjected = "fault_injected", ClosedBy::Gateway;
        /// The connection's own code broke a rule of the engine: a defect of this program.
        MachineFault = "machine_fault", ClosedBy::Gateway;
    }
}

impl CloseReason {
    /// Why a connection to an upstream was never there.
    pub const fn of_connect(error: OpenError) -> CloseReason {
        match error {
            OpenError::TimedOut => CloseReason::ConnectTimeout,
            OpenError::Exhausted => CloseReason::ConnectExhausted,
            OpenError::Refused | OpenError::Unreachable | OpenError::Other => CloseReason::ConnectFailed,
        }
    }

    /// Who closed, given the reason.
    pub const fn closed_by(self) -> ClosedBy {
        Self::ROWS[self as usize].1
    }
}

/// The process ended as asked.
pub const EXIT_OK: u8 = 0;
/// The process could not do its work (an address is taken, a call was not answered).
pub const EXIT_FAILURE: u8 = 1;
/// The command line, the environment or the configuration is wrong (`EX_CONFIG` of sysexits).
pub const EXIT_CONFIG: u8 = 78;

/// Bolt response status numbers that the gateway answers with.
mod status {
    pub(super) const SERVER_EXCEPTION: u16 = 2;
    pub(super) const SERVER_THREADPOOL_BUSY: u16 = 4;
    pub(super) const NO_PROCESSOR: u16 = 6;
    pub(super) const TIMEOUT: u16 = 7;
    pub(super) const CODEC_EXCEPTION: u16 = 9;
    pub(super) const CONNECTION_CLOSED: u16 = 16;
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn assert_names_are_unique_snake_case(names: Vec<&str>) {
        let unique: HashSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "a name stands twice in {names:?}");
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name} is not snake_case");
            assert!(!name.starts_with('_') && !name.ends_with('_') && !name.contains("__"), "{name}");
        }
    }

    #[test]
    fn failure_names_are_unique_and_snake_case() {
        assert_names_are_unique_snake_case(Failure::ALL.iter().map(|f| f.name()).collect());
    }

    #[test]
    fn close_reason_names_are_unique_and_snake_case() {
        assert_names_are_unique_snake_case(CloseReason::ALL.iter().map(|r| r.name()).collect());
    }

    #[test]
    fn an_index_leads_back_to_its_variant() {
        for &reason in CloseReason::ALL {
            assert_eq!(CloseReason::from_index(reason.index()), Some(reason));
        }
        assert_eq!(CloseReason::from_index(CloseReason::COUNT), None);
    }

    #[test]
    fn failures_become_the_documented_status() {
        let expected = [
            (Failure::NoRoute, 6, 404),
            (Failure::NoEndpoint, 6, 503),
            (Failure::ConnectFailed, 6, 502),
            (Failure::UpstreamLost, 16, 502),
            (Failure::Timeout, 7, 504),
            (Failure::Overflow, 4, 503),
            (Failure::RetryBudget, 4, 503),
            (Failure::MemoryCeiling, 4, 503),
            (Failure::HeadMalformed, 9, 400),
            (Failure::HeadTooLarge, 9, 431),
            (Failure::CallbackOnShared, 6, 502),
            (Failure::CallbackLost, 16, 502),
            (Failure::BadResponse, 16, 502),
            (Failure::HeadTimeout, 7, 408),
            (Failure::BodyTimeout, 7, 408),
            (Failure::BodyTooLarge, 2, 413),
            (Failure::MethodRefused, 2, 405),
            (Failure::UpgradeRefused, 2, 426),
            (Failure::FaultInjected, 4, 503),
            (Failure::DrainDeadline, 16, 503),
        ];
        assert_eq!(expected.len(), Failure::COUNT);
        for (failure, status, http_status) in expected {
            assert_eq!((failure.status(), failure.http_status()), (status, http_status), "{failure}");
        }
    }

    #[test]
    fn the_document_for_operators_has_a_line_for_each() {
        let document = include_str!("../../docs/running.md");
        for failure in Failure::ALL {
            let row = format!("\n| `{failure}` | {} | {} | ", failure.status(), failure.http_status());
            assert_eq!(document.matches(&row).count(), 1, "{row}");
        }
        for reason in CloseReason::ALL {
            let row = format!("\n| `{reason}` | {} | ", reason.closed_by().name());
            assert_eq!(document.matches(&row).count(), 1, "{row}");
        }
    }

    #[test]
    fn a_close_reason_fits_the_byte_that_a_slot_keeps_for_it() {
        assert_eq!(size_of::<CloseReason>(), 1);
        assert!(CloseReason::COUNT <= usize::from(u8::MAX));
    }
}
