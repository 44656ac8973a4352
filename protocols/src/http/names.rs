//! Owns which field names are not like others: those that become values of a head, those that no `Connection` may
//! remove, and those that may not come as trailers. Called by the decoders, and by heads that refuse such fields.

/// What becomes of a field that is not forwarded as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    Te,
    Upgrade,
    Expect,
    /// For the next hop, and nothing that we act on.
    Dropped,
}

/// What is special about a field of this name.
pub(crate) fn special(name: &[u8]) -> Option<Special> {
    SPECIAL.iter().find(|(text, _)| text.eq_ignore_ascii_case(name)).map(|(_, special)| *special)
}

/// True when `Connection` cannot have the field removed: a peer would take away what others decide by.
pub(crate) fn is_protected(name: &[u8]) -> bool {
    is_one_of(name, &PROTECTED, &PROTECTED_PREFIXES)
}

/// True when the field may not come behind a body (RFC 9110 section 6.5.1): it frames, routes, authenticates, changes
/// what a request means, or controls its answer.
pub(crate) fn is_forbidden_trailer(name: &[u8]) -> bool {
    special(name).is_some()
        || is_protected(name)
        || is_one_of(name, &FORBIDDEN_TRAILERS, &FORBIDDEN_TRAILER_PREFIXES)
}

fn is_one_of(name: &[u8], names: &[&str], prefixes: &[&str]) -> bool {
    let starts_with = |prefix: &&str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    names.iter().any(|text| text.as_bytes().eq_ignore_ascii_case(name)) || prefixes.iter().any(starts_with)
}

const SPECIAL: [(&[u8], Special); 14] = [
    (b"host", Special::Host),
    (b"content-length", Special::ContentLength),
    (b"transfer-encoding", Special::TransferEncoding),
    (b"connection", Special::Connection),
    (b"keep-alive", Special::KeepAlive),
    (b"te", Special::Te),
    (b"upgrade", Special::Upgrade),
    (b"expect", Special::Expect),
    (b"http2-settings", Special::Dropped),
    (b"proxy-connection", Special::Dropped),
    (b"proxy-authenticate", Special::Dropped),
    (b"proxy-authorization", Special::Dropped),
    (b"proxy-authentication-info", Special::Dropped),
    // CGI servers make the environment variable HTTP_PROXY of it, which clients believe.
    (b"proxy", Special::Dropped),
];

const PROTECTED: [&str; 12] = [
    "authorization",
    "authentication-info",
    "www-authenticate",
    "cookie",
    "set-cookie",
    "forwarded",
    "x-real-ip",
    "x-request-id",
    "via",
    "cache-control",
    "traceparent",
    "tracestate",
];

const PROTECTED_PREFIXES: [&str; 2] = ["x-forwarded-", "content-"];

const FORBIDDEN_TRAILERS: [&str; 14] = [
    "trailer",
    "age",
    "allow",
    "date",
    "expires",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "vary",
    "warning",
    "set-cookie2",
    "origin",
];

const FORBIDDEN_TRAILER_PREFIXES: [&str; 4] = ["if-", "sec-", "access-control-", "accept-"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_makes_no_difference() {
        assert_eq!(special(b"tRANSFER-Encoding"), Some(Special::TransferEncoding));
        assert!(is_protected(b"X-ForWarded-Anything") && is_protected(b"CONTENT-TYPE"));
        assert!(is_forbidden_trailer(b"If-Match") && is_forbidden_trailer(b"HOST"));
    }

    #[test]
    fn ordinary_fields_are_ordinary() {
        for name in [&b"grpc-status"[..], b"x-forwarded", b"x-checksum", b"etag", b""] {
            assert!(
                special(name).is_none() && !is_protected(name) && !is_forbidden_trailer(name),
                "{name:?}"
            );
        }
    }
}
