//! The PROXY protocol, versions 1 and 2, both ways: the header by which a proxy says whose connection it passes on. Reads
//! bytes that were gathered by somebody else and owns none of them; whom to trust is not decided here.
//!
//! It refuses what two readers could understand differently, and everything that is longer than a header may be. Called
//! by the machines in front of listeners and by tunnels, from the specification `proxy-protocol.txt` of HAProxy.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which versions are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Text alone.
    V1,
    /// Binary alone.
    V2,
    /// Whichever comes.
    Any,
}

/// A version to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// From whom to whom the connection was made that a proxy passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Who connected to the proxy.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The start of a header: it cannot end before so many bytes are there.
    More {
        /// Counted from the first byte of the header.
        bytes: usize,
    },
    /// A whole header.
    Header {
        /// Its length; what follows belongs to the stream.
        bytes: usize,
        /// Whose connection it is; nothing for one that the proxy made for itself, or of a kind without such addresses.
        route: Option<Route>,
    },
}

/// Why the bytes are no header that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// They begin like none of the expected versions.
    Missing,
    /// It is longer than its version allows, or than we read.
    TooLong,
    /// It begins like one and goes on like none.
    Malformed,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "missing",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
        })
    }
}

impl std::error::Error for HeaderFault {}

/// Section 2.1: the longest line of version 1, with its end.
pub const V1_BYTES_MAX: usize = 107;
/// What follows the fixed part of version 2, addresses and extensions together, at most. The field could say 65,535.
pub const V2_PAYLOAD_BYTES_MAX: usize = 4_096;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;

/// Looks at the start of a stream.
pub fn parse(bytes: &[u8], versions: Versions) -> Result<Parsed, HeaderFault> {
    let v1 = versions != Versions::V2 && starts_like(bytes, V1_START);
    let v2 = versions != Versions::V1 && starts_like(bytes, V2_START);
    match (bytes.is_empty(), v1, v2) {
        (true, ..) => Ok(Parsed::More { bytes: 1 }),
        (_, true, _) => parse_v1(bytes),
        (_, _, true) => parse_v2(bytes),
        _ => Err(HeaderFault::Missing),
    }
}

/// True if `bytes` agree with `start` as far as both go.
fn starts_like(bytes: &[u8], start: &[u8]) -> bool {
    let common = bytes.len().min(start.len());
    bytes[..common] == start[..common]
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, HeaderFault> {
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        if bytes.len() >= V1_BYTES_MAX {
            return Err(HeaderFault::TooLong);
        }
        return Ok(Parsed::More { bytes: bytes.len() + 1 });
    };
    if end < V1_START.len() {
        return Err(HeaderFault::Malformed);
    }
    let line = std::str::from_utf8(&bytes[V1_START.len()..end]).map_err(|_| HeaderFault::Malformed)?;
    Ok(Parsed::Header { bytes: end + 2, route: v1_route(line)? })
}

/// What stands behind `PROXY `.
fn v1_route(line: &str) -> Result<Option<Route>, HeaderFault> {
    let mut words = line.split(' ');
    let family = words.next();
    // Section 2.1: whatever stands behind UNKNOWN is ignored.
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let is_v4 = match family {
        Some("TCP4") => true,
        Some("TCP6") => false,
        _ => return Err(HeaderFault::Malformed),
    };
    let source = v1_address(words.next(), is_v4)?;
    let destination = v1_address(words.next(), is_v4)?;
    let (source_port, destination_port) = (v1_port(words.next())?, v1_port(words.next())?);
    if words.next().is_some() {
        return Err(HeaderFault::Malformed);
    }
    let source = SocketAddr::new(source, source_port);
    Ok(Some(Route { source, destination: SocketAddr::new(destination, destination_port) }))
}

fn v1_address(word: Option<&str>, is_v4: bool) -> Result<IpAddr, HeaderFault> {
    let address: IpAddr = word.and_then(|word| word.parse().ok()).ok_or(HeaderFault::Malformed)?;
    if address.is_ipv4() == is_v4 { Ok(address) } else { Err(HeaderFault::Malformed) }
}

/// Decimal digits without a sign and without zeros in front.
fn v1_port(word: Option<&str>) -> Result<u16, HeaderFault> {
    let digits = word.filter(|word| {
        word.bytes().all(|byte| byte.is_ascii_digit()) && (*word == "0" || !word.starts_with('0'))
    });
    digits.and_then(|digits| digits.parse().ok()).ok_or(HeaderFault::Malformed)
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, HeaderFault> {
    let Some(fixed) = bytes.first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(Parsed::More { bytes: V2_FIXED_BYTES });
    };
    let (version, command) = (fixed[12] >> 4, fixed[12] & 15);
    let payload_bytes = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if version != 2 || command > 1 {
        return Err(HeaderFault::Malformed);
    }
    if payload_bytes > V2_PAYLOAD_BYTES_MAX {
        return Err(HeaderFault::TooLong);
    }
    // The family of a connection that the proxy made for itself is to be ignored (section 2.2).
    let address_bytes = if command == 0 { 0 } else { v2_address_bytes(fixed[13])? };
    if payload_bytes < address_bytes {
        return Err(HeaderFault::Malformed);
    }
    let total = V2_FIXED_BYTES + payload_bytes;
    if bytes.len() < total {
        return Ok(Parsed::More { bytes: total });
    }
    let addresses = &bytes[V2_FIXED_BYTES..V2_FIXED_BYTES + address_bytes];
    Ok(Parsed::Header { bytes: total, route: v2_route(addresses) })
}

/// How long the addresses of a family are. A datagram does not come over a stream, and other values are reserved.
fn v2_address_bytes(family: u8) -> Result<usize, HeaderFault> {
    match family {
        UNSPECIFIED => Ok(0),
        TCP4 => Ok(TCP4_BYTES),
        TCP6 => Ok(TCP6_BYTES),
        UNIX_STREAM => Ok(UNIX_BYTES),
        _ => Err(HeaderFault::Malformed),
    }
}

/// The addresses of TCP; a path in a file system names nobody here.
fn v2_route(addresses: &[u8]) -> Option<Route> {
    let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
    let (source, destination, ports): (IpAddr, IpAddr, usize) = match addresses.len() {
        TCP4_BYTES => (ip_v4(&addresses[..4]).into(), ip_v4(&addresses[4..8]).into(), 8),
        TCP6_BYTES => (ip_v6(&addresses[..16]).into(), ip_v6(&addresses[16..32]).into(), 32),
        _ => return None,
    };
    let source = SocketAddr::new(source, port(ports));
    Some(Route { source, destination: SocketAddr::new(destination, port(ports + 2)) })
}

fn ip_v4(bytes: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap_or_default())
}

fn ip_v6(bytes: &[u8]) -> Ipv6Addr {
    Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap_or_default())
}

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
const TCP4_BYTES: usize = 12;
const TCP6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;

/// Appends a header that names `route`; without one it says that nobody is named.
pub fn encode(version: Version, route: Option<Route>, out: &mut Vec<u8>) {
    let route = route.map(Route::of_one_family);
    match version {
        Version::V1 => encode_v1(route, out),
        Version::V2 => encode_v2(route, out),
    }
}

fn encode_v1(route: Option<Route>, out: &mut Vec<u8>) {
    let Some(Route { source, destination }) = route else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let written = write!(out, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
    debug_assert!(written.is_ok(), "memory takes what is written to it");
}

fn encode_v2(route: Option<Route>, out: &mut Vec<u8>) {
    out.extend_from_slice(V2_START);
    let Some(Route { source, destination }) = route else {
        // LOCAL, and no addresses.
        return out.extend_from_slice(&[0x20, UNSPECIFIED, 0, 0]);
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend_from_slice(&[0x21, TCP4, 0, TCP4_BYTES as u8]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            out.extend_from_slice(&[0x21, TCP6, 0, TCP6_BYTES as u8]);
            out.extend_from_slice(&as_v6(source).octets());
            out.extend_from_slice(&as_v6(destination).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl Route {
    /// Both in IPv4 where that is possible, otherwise both in IPv6: a header has one family.
    fn of_one_family(self) -> Route {
        let (source, destination) = (self.source.ip().to_canonical(), self.destination.ip().to_canonical());
        let both_v4 = source.is_ipv4() && destination.is_ipv4();
        let write = |address: IpAddr| if both_v4 { address } else { as_v6(address).into() };
        Route {
            source: SocketAddr::new(write(source), self.source.port()),
            destination: SocketAddr::new(write(destination), self.destination.port()),
        }
    }
}
