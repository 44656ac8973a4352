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

/// What is special about a field of this name, which is a token. Length and first letter leave one name to compare with:
/// every field of every head is asked about.
pub(crate) fn special(name: &[u8]) -> Option<Special> {
    match (name.len(), name.first()? | LOWER) {
        (2, b't') => is(name, b"te", Special::Te),
        (4, b'h') => is(name, b"host", Special::Host),
        // CGI servers make the environment variable HTTP_PROXY of it, which clients believe.
        (5, b'p') => is(name, b"proxy", Special::Dropped),
        (6, b'e') => is(name, b"expect", Special::Expect),
        (7, b'u') => is(name, b"upgrade", Special::Upgrade),
        (10, b'c') => is(name, b"connection", Special::Connection),
        (10, b'k') => is(name, b"keep-alive", Special::KeepAlive),
        (14, b'c') => is(name, b"content-length", Special::ContentLength),
        (14, b'h') => is(name, b"http2-settings", Special::Dropped),
        (16, b'p') => is(name, b"proxy-connection", Special::Dropped),
        (17, b't') => is(name, b"transfer-encoding", Special::TransferEncoding),
        (18, b'p') => is(name, b"proxy-authenticate", Special::Dropped),
        (19, b'p') => is(name, b"proxy-authorization", Special::Dropped),
        (25, b'p') => is(name, b"proxy-authentication-info", Special::Dropped),
        _ => None,
    }
}

/// Compares with a text in lower case of letters, digits and dashes. Its length is known while this is compiled, so that
/// no byte is compared by itself. What is no letter stays the same with the bit of small letters, or was no token.
fn is<const LEN: usize>(name: &[u8], text: &[u8; LEN], special: Special) -> Option<Special> {
    let name: &[u8; LEN] = name.try_into().ok()?;
    let other = name.iter().zip(text).fold(0, |other, (byte, wanted)| other | ((byte | LOWER) ^ wanted));
    (other == 0).then_some(special)
}

/// The bit that small letters have and capital ones have not.
const LOWER: u8 = 0x20;

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
    fn every_special_name_is_found() {
        let names = [
            ("te", Special::Te),
            ("host", Special::Host),
            ("proxy", Special::Dropped),
            ("expect", Special::Expect),
            ("upgrade", Special::Upgrade),
            ("connection", Special::Connection),
            ("keep-alive", Special::KeepAlive),
            ("content-length", Special::ContentLength),
            ("http2-settings", Special::Dropped),
            ("proxy-connection", Special::Dropped),
            ("transfer-encoding", Special::TransferEncoding),
            ("proxy-authenticate", Special::Dropped),
            ("proxy-authorization", Special::Dropped),
            ("proxy-authentication-info", Special::Dropped),
        ];
        for (name, expected) in names {
            assert_eq!(special(name.as_bytes()), Some(expected), "{name}");
            assert_eq!(special(name.to_uppercase().as_bytes()), Some(expected), "{name} in capitals");
            let other = format!("{}~", &name[..name.len() - 1]);
            assert_eq!(special(other.as_bytes()), None, "{other} has its length and first letter");
        }
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
