//! Owns what a host with a port looks like (RFC 3986 section 3.2), more narrowly than the grammar: a name of letters,
//! digits, `-`, `.`, `_` and `~`, an IPv4 address among them, or an IPv6 literal. Refuses userinfo, escapes and zones: of
//! those no two readers think alike. Used by decoders and by heads.

use std::net::Ipv6Addr;

/// True for `host` or `host:port`.
pub(crate) fn is_valid(authority: &[u8]) -> bool {
    match split_port(authority) {
        Some((host, None)) => is_host(host),
        Some((host, Some(port))) => is_host(host) && is_port(port),
        None => false,
    }
}

/// True for `host:port`, which CONNECT needs.
pub(crate) fn has_port(authority: &[u8]) -> bool {
    matches!(split_port(authority), Some((_, Some(_))))
}

/// Host and port; `None` when a bracket is not closed or is followed by anything but a port.
fn split_port(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let host_end = if authority.first() == Some(&b'[') {
        position(b']', authority)? + 1
    } else {
        position(b':', authority).unwrap_or(authority.len())
    };
    match authority.split_at(host_end) {
        (host, []) => Some((host, None)),
        (host, [b':', port @ ..]) => Some((host, Some(port))),
        _ => None,
    }
}

/// A search for short texts.
fn position(wanted: u8, text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == wanted)
}

fn is_host(host: &[u8]) -> bool {
    if let [b'[', literal @ .., b']'] = host {
        return std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    }
    let is_name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    (1..=HOST_BYTES_MAX).contains(&host.len()) && host.iter().all(is_name_byte)
}

fn is_port(port: &[u8]) -> bool {
    let digits = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    digits && port.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')) <= u32::from(u16::MAX)
}

/// The longest name that DNS knows.
const HOST_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_port() {
        for authority in ["a", "a.b-c.d:80", "127.0.0.1:65535", "[::1]", "[2001:db8::1]:443", "x_y~", "A:0"] {
            assert!(is_valid(authority.as_bytes()), "{authority}");
        }
        assert!(has_port(b"a:1") && has_port(b"[::1]:1") && !has_port(b"a") && !has_port(b"[::1]"));
    }

    #[test]
    fn everything_else_is_refused() {
        let long = "a".repeat(HOST_BYTES_MAX + 1);
        let odd = [
            "",
            ":",
            ":80",
            "a:",
            "a:b",
            "a:65536",
            "a:000080",
            "a:1:2",
            "u@a",
            "u:p@a",
            "a/b",
            "a?b",
            "a#b",
            "a b",
            "a,b",
            "a%41",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:",
            "[]",
            "[g::1]",
            "[fe80::1%eth0]",
            "[v1.a]",
            "[127.0.0.1]",
            "ä",
            "a\\b",
            "a;b",
            "a\tb",
            "a:+80",
            &long,
        ];
        for authority in odd {
            assert!(!is_valid(authority.as_bytes()), "{authority}");
        }
    }
}
