//! Networks and addresses as people list them: `10.0.0.0/8` or one address. It refuses what was probably not meant, and
//! answers whether an address is inside. Called by the loader and the topology, and by whoever trusts.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::fault::Faults;
use crate::config::said::Item;

/// Whether `address` is in one of `networks`. An address of IPv4 in the form of IPv6 is what it is.
pub fn is_within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// The networks of a list; `name` is its name in messages.
pub(crate) fn networks(items: &[Item], name: &str, faults: &mut Faults) -> Vec<IpNet> {
    read(items, name, faults, network)
}

/// The addresses of a list.
pub(crate) fn addresses(items: &[Item], name: &str, faults: &mut Faults) -> Vec<IpAddr> {
    let address = |text: &str| text.trim().parse().map_err(|_| format!("{text:?} is no IP address"));
    read(items, name, faults, address)
}

fn read<T>(
    items: &[Item],
    name: &str,
    faults: &mut Faults,
    one: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let mut values = Vec::with_capacity(items.len());
    for (text, place) in items {
        match one(text) {
            Ok(value) => values.push(value),
            Err(message) => faults.add(place.clone(), format!("{name}: {message}")),
        }
    }
    values
}

/// An address, or all that share its first bits; bits behind those would be a slip of some kind.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    let network = address.or_else(|_| text.parse::<IpNet>());
    let network = network.map_err(|_| format!("{text:?} is no IP and no IP/BITS"))?;
    if network.trunc() != network {
        return Err(format!(
            "{text:?} has bits behind its {}; write {}",
            network.prefix_len(),
            network.trunc()
        ));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let networks = [network(text).expect("a network")];
            assert!(is_within(&networks, address(inside)), "{inside} in {text}");
            assert!(!is_within(&networks, address(outside)), "{outside} not in {text}");
        }
        let all = |text: &str, address: &str| {
            is_within(&[network(text).expect("a network")], address.parse().expect("an address"))
        };
        assert!(all("0.0.0.0/0", "8.8.8.8") && !all("0.0.0.0/0", "::1") && all("::/0", "::1"));
        assert!(!is_within(&[], "::1".parse().expect("an address")));
    }

    #[test]
    fn what_was_probably_not_meant_is_refused() {
        let refused = |text: &str| network(text).expect_err("it is refused");
        for text in ["", "ten", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/-1", "10.0.0/8", "10.0.0.0/33"] {
            assert!(refused(text).contains("is no IP and no IP/BITS"), "{text:?}");
        }
        assert_eq!(refused("10.0.0.1/8"), "\"10.0.0.1/8\" has bits behind its 8; write 10.0.0.0/8");
    }
}
