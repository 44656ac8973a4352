//! The PROXY protocol: the examples of its specification, every cut, every fault, and what is written is read again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bowline_protocols::proxy_header::HeaderFault::{Malformed, Missing, TooLong};
use bowline_protocols::proxy_header::{
    HeaderFault, Parsed, Route, V1_BYTES_MAX, V2_PAYLOAD_BYTES_MAX, Version, Versions, encode, parse,
};
use proptest::prelude::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn route(source: &str, destination: &str) -> Option<Route> {
    let address = |text: &str| text.parse().expect("an address");
    Some(Route { source: address(source), destination: address(destination) })
}

/// A header of version 2 with these fields.
fn v2(version_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
    [SIGNATURE, &[version_command, family], &length, payload].concat()
}

/// The header at the start of `bytes`, which are one.
fn header(bytes: &[u8]) -> (usize, Option<Route>) {
    match parse(bytes, Versions::Any) {
        Ok(Parsed::Header { bytes, route }) => (bytes, route),
        other => panic!("{other:?} of {:?}", String::from_utf8_lossy(bytes)),
    }
}

fn fault(bytes: &[u8]) -> HeaderFault {
    parse(bytes, Versions::Any).expect_err("it is refused")
}

#[test]
fn lines_of_version_1_name_both_ends() {
    let line = b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\nGET /";
    assert_eq!(header(line), (56, route("255.255.255.255:65535", "255.255.255.255:65535")));
    let line = b"PROXY TCP6 2001:db8::1 ::1 1 0\r\n";
    assert_eq!(header(line), (line.len(), route("[2001:db8::1]:1", "[::1]:0")));
    assert_eq!(header(b"PROXY UNKNOWN\r\nx"), (15, None));
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_BYTES_MAX - 16));
    assert_eq!(header(longest.as_bytes()), (V1_BYTES_MAX, None), "what stands behind UNKNOWN is ignored");
}

#[test]
fn headers_of_version_2_name_both_ends_and_extensions_are_skipped() {
    let v4 = [127, 0, 0, 1, 10, 0, 0, 2, 0, 80, 1, 187];
    let expected = route("127.0.0.1:80", "10.0.0.2:443");
    assert_eq!(header(&v2(0x21, 0x11, &v4)), (28, expected));
    let extended = [&v4[..], b"\x04\x00\x03abc\xff\xff\xff"].concat();
    assert_eq!(header(&[v2(0x21, 0x11, &extended), b"stream".to_vec()].concat()), (37, expected));
    let v6 = [Ipv6Addr::LOCALHOST.octets(), Ipv6Addr::UNSPECIFIED.octets()].concat();
    let v6 = [&v6[..], &[0, 1, 0, 2]].concat();
    assert_eq!(header(&v2(0x21, 0x21, &v6)), (52, route("[::1]:1", "[::]:2")));
    let largest = v2(0x21, 0x11, &[&v4[..], &[0; V2_PAYLOAD_BYTES_MAX - 12]].concat());
    assert_eq!(header(&largest), (largest.len(), expected));
}

#[test]
fn a_connection_that_the_proxy_made_for_itself_or_over_another_family_names_nobody() {
    assert_eq!(header(&v2(0x20, 0x00, b"")), (16, None));
    assert_eq!(header(&v2(0x20, 0x77, b"whatever")), (24, None), "the family of LOCAL is ignored");
    assert_eq!(header(&v2(0x21, 0x00, b"any")), (19, None));
    assert_eq!(header(&v2(0x21, 0x31, &[b'/'; 216])), (232, None));
}

#[test]
fn what_begins_like_no_header_is_missing_at_the_first_byte_that_says_so() {
    for bytes in [&b"G"[..], b"\x16\x03\x01", b"PROXX", b"proxy TCP4", b"\r\n\r\n\0\r\nQUIT\r", b"\n", b"\0"]
    {
        assert_eq!(fault(bytes), Missing, "{bytes:?}");
    }
    assert_eq!(parse(b"P", Versions::V2), Err(Missing));
    assert_eq!(parse(b"\r", Versions::V1), Err(Missing));
    assert!(parse(b"\r", Versions::V2).is_ok() && parse(b"P", Versions::V1).is_ok());
}

#[test]
fn lines_that_two_readers_could_understand_differently_are_malformed() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n",
        "PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2\t1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n\r\n",
        "PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY \u{fffd} 1.1.1.1 2.2.2.2 1 2\r\n",
    ] {
        assert_eq!(fault(line.as_bytes()), Malformed, "{line:?}");
    }
    assert_eq!(fault(b"PROXY TCP4 \xff\r\n"), Malformed);
}

#[test]
fn headers_that_are_too_long_are_refused_before_they_are_waited_for() {
    assert_eq!(fault(&[b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat()), TooLong, "107 bytes and no end");
    assert!(parse(&[b"PROXY UNKNOWN ", &[b'x'; 92][..]].concat(), Versions::Any).is_ok());
    let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_BYTES_MAX - 15));
    assert_eq!(fault(long.as_bytes()), TooLong);
    let declared = u16::try_from(V2_PAYLOAD_BYTES_MAX + 1).expect("short").to_be_bytes();
    assert_eq!(fault(&[SIGNATURE, &[0x21, 0x11], &declared].concat()), TooLong);
    assert_eq!(fault(&[SIGNATURE, &[0x20, 0x00, 0xff, 0xff]].concat()), TooLong);
}

#[test]
fn unknown_versions_commands_and_families_and_short_addresses_are_malformed() {
    let v4 = [0; 12];
    for (version_command, family) in [
        (0x11, 0x11),
        (0x31, 0x11),
        (0x01, 0x11),
        (0x22, 0x11),
        (0x2f, 0x11),
        (0x21, 0x12),
        (0x21, 0x22),
        (0x21, 0x32),
        (0x21, 0x41),
        (0x21, 0x10),
        (0x21, 0x13),
        (0x21, 0x01),
    ] {
        assert_eq!(fault(&v2(version_command, family, &v4)), Malformed, "{version_command:x} {family:x}");
    }
    for (family, bytes) in [(0x11, 11), (0x21, 35), (0x31, 215)] {
        assert_eq!(fault(&v2(0x21, family, &vec![0; bytes])), Malformed, "{family:x}");
    }
}

#[test]
fn wherever_a_header_is_cut_it_asks_for_more_and_for_no_more_than_there_is() {
    let v4 = v2(0x21, 0x11, &[7; 30]);
    for whole in [&b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"[..], b"PROXY UNKNOWN\r\n", &v4] {
        for at in 0..whole.len() {
            let Ok(Parsed::More { bytes }) = parse(&whole[..at], Versions::Any) else {
                panic!("cut at {at}")
            };
            assert!(bytes > at && bytes <= whole.len(), "{bytes} at {at} of {}", whole.len());
        }
    }
}

#[test]
fn addresses_of_two_families_are_both_written_in_ipv6() {
    let mixed = route("1.2.3.4:5", "[2001:db8::1]:6");
    for version in [Version::V1, Version::V2] {
        let mut out = Vec::new();
        encode(version, mixed, &mut out);
        assert_eq!(header(&out), (out.len(), route("[::ffff:1.2.3.4]:5", "[2001:db8::1]:6")));
        out.clear();
        encode(version, route("[::ffff:1.2.3.4]:5", "5.6.7.8:6"), &mut out);
        assert_eq!(header(&out).1, route("1.2.3.4:5", "5.6.7.8:6"), "IPv4 where that is possible");
        out.clear();
        encode(version, None, &mut out);
        assert_eq!(header(&out), (out.len(), None));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(is_v4: bool, ips: [u128; 2], ports: [u16; 2], stream: Vec<u8>) {
        let ip = |bits: u128| match is_v4 {
            true => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            // An address of IPv4 in the form of IPv6 would be written as what it is.
            false => IpAddr::V6(Ipv6Addr::from_bits(bits | 1 << 127)),
        };
        let end = |at: usize| SocketAddr::new(ip(ips[at]), ports[at]);
        let route = Some(Route { source: end(0), destination: end(1) });
        for version in [Version::V1, Version::V2] {
            let mut out = Vec::new();
            encode(version, route, &mut out);
            prop_assert!(version == Version::V2 || out.len() <= V1_BYTES_MAX);
            let length = out.len();
            out.extend_from_slice(&stream);
            prop_assert_eq!(parse(&out, Versions::Any), Ok(Parsed::Header { bytes: length, route }));
        }
    }

    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>, tail: Vec<u8>) {
        for start in [&b""[..], b"PROXY ", SIGNATURE] {
            let all = [start, &bytes, &tail].concat();
            if let Ok(Parsed::More { bytes }) = parse(&all, Versions::Any) {
                prop_assert!(bytes > all.len());
            }
        }
    }
}
