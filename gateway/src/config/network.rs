//! Networks as people write them, `10.0.0.0/8` or one address, and lists of them by commas. It answers whether an
//! address is inside, and refuses what was probably not meant. Called by the table of keys and by whoever trusts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether `address` is one of it. An address of IPv4 in the form of IPv6 is what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same_start(own.to_bits().into(), other.to_bits().into(), 32 - self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                same_start(own.to_bits(), other.to_bits(), 128 - self.bits)
            }
            _ => false,
        }
    }
}

/// Whether both are the same but for the last bits.
fn same_start(one: u128, other: u128, last_bits: u8) -> bool {
    let cut = |bits: u128| bits.checked_shr(last_bits.into()).unwrap_or(0);
    cut(one) == cut(other)
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let wrong = || format!("{text:?} is no network; write for example 10.0.0.0/8 or 2001:db8::1");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| wrong()))?;
        if bits > most {
            return Err(format!("{text:?}: an address has {most} bits"));
        }
        let value = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        // Whoever writes 10.1.2.3/8 means either the host or the network, and trust is not to be guessed at.
        if value & !u128::MAX.checked_shl(u32::from(most - bits)).unwrap_or(0) != 0 {
            return Err(format!("{text:?} names one host and {bits} bits; leave out one of both"));
        }
        Ok(Network { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.bits)
    }
}

/// The entries of a list by commas.
pub fn list<T: FromStr<Err = E>, E>(text: &str) -> Result<Vec<T>, E> {
    text.split(',').map(|entry| entry.trim().parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    #[test]
    fn a_network_holds_what_begins_like_it() {
        for (inside, outside, text) in [
            ("10.255.0.1", "11.0.0.1", "10.0.0.0/8"),
            ("192.168.4.1", "192.168.8.1", "192.168.4.0/22"),
            ("127.0.0.1", "127.0.0.2", "127.0.0.1"),
            ("::ffff:10.1.2.3", "::10.1.2.3", "10.0.0.0/8"),
            ("2001:db8:1::1", "2001:db9::1", "2001:db8::/32"),
            ("::1", "::2", "::1/128"),
        ] {
            let address = |text: &str| text.parse().expect("an address");
            assert!(network(text).contains(address(inside)), "{inside} in {text}");
            assert!(!network(text).contains(address(outside)), "{outside} not in {text}");
        }
        let all = |text: &str, address: &str| network(text).contains(address.parse().expect("an address"));
        assert!(all("0.0.0.0/0", "8.8.8.8") && !all("0.0.0.0/0", "::1") && all("::/0", "::1"));
    }

    #[test]
    fn what_was_probably_not_meant_is_refused() {
        let refused = |text: &str| text.parse::<Network>().expect_err("it is refused");
        for text in ["", "ten", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/-1", "10.0.0/8"] {
            assert!(refused(text).contains("is no network"), "{text:?}");
        }
        assert_eq!(refused("10.0.0.0/33"), "\"10.0.0.0/33\": an address has 32 bits");
        assert_eq!(refused("10.0.0.1/8"), "\"10.0.0.1/8\" names one host and 8 bits; leave out one of both");
        assert!(list::<Network, _>("10.0.0.0/8, ::1").is_ok_and(|list| list.len() == 2));
        assert!(list::<Network, _>("10.0.0.0/8,").is_err());
    }
}
