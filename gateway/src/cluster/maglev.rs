//! Consistent hashing after Maglev (Eisenbud et al., NSDI 2016, section 3.4): which endpoint a key leads to, so that
//! endpoints get equal shares, and few keys move when one comes or goes.
//!
//! A table of positions, made once for a set of endpoints and never changed. The same addresses give the same table in
//! every process and in any order. It knows nothing of health or load: who asks tries other keys.

use std::net::{IpAddr, SocketAddr};

/// The table of one set of endpoints.
#[derive(Debug)]
pub(super) struct Maglev {
    table: Box<[u16]>,
}

/// A prime, as the permutations need, and a hundred times more than most clusters have endpoints.
pub(super) const TABLE_SIZE: usize = 65_537;
/// What a position can count.
const ENDPOINTS_MAX: usize = u16::MAX as usize;

impl Maglev {
    /// The table for `addresses`; positions are those of this list.
    pub(super) fn new(addresses: &[SocketAddr]) -> Maglev {
        let mut order: Vec<usize> = (0..addresses.len().min(ENDPOINTS_MAX)).collect();
        order.sort_unstable_by_key(|at| addresses[*at]);
        let mut walks: Vec<Walk> = order.iter().map(|at| Walk::of(*at as u16, addresses[*at])).collect();
        let mut table = vec![EMPTY; TABLE_SIZE].into_boxed_slice();
        let mut filled = 0;
        while !walks.is_empty() && filled < TABLE_SIZE {
            // Each takes the next free place of its own permutation, in turn.
            for walk in walks.iter_mut().take(TABLE_SIZE - filled) {
                walk.take(&mut table);
                filled += 1;
            }
        }
        Maglev { table }
    }

    /// The position of the endpoint for `key`; nothing without endpoints.
    pub(super) fn find(&self, key: u64) -> Option<usize> {
        let at = self.table[(key % TABLE_SIZE as u64) as usize];
        (at != EMPTY).then_some(usize::from(at))
    }
}

const EMPTY: u16 = u16::MAX;

/// One endpoint's walk over the places it likes, best first: a step that is prime to the size reaches all of them.
struct Walk {
    endpoint: u16,
    at: usize,
    step: usize,
}

impl Walk {
    fn of(endpoint: u16, address: SocketAddr) -> Walk {
        let hash = hash(address.ip(), u64::from(address.port()));
        let size = TABLE_SIZE as u64;
        Walk { endpoint, at: (hash % size) as usize, step: (mix(hash) % (size - 1) + 1) as usize }
    }

    fn take(&mut self, table: &mut [u16]) {
        while table[self.at] != EMPTY {
            self.at = (self.at + self.step) % TABLE_SIZE;
        }
        table[self.at] = self.endpoint;
    }
}

/// The key of a source address; `attempt` gives others for the same address.
pub(super) fn source_key(source: IpAddr, attempt: u64) -> u64 {
    hash(source.to_canonical(), attempt << 32)
}

/// The same in every process: gateways side by side must agree.
fn hash(address: IpAddr, salt: u64) -> u64 {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    mix(mix(mix(bits as u64) ^ (bits >> 64) as u64) ^ salt)
}

/// The finaliser of SplitMix64: every bit of the input moves half of the output's.
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (0..count).map(|last| SocketAddr::from(([10, 0, (last >> 8) as u8, last as u8], 8_080))).collect()
    }

    fn shares(maglev: &Maglev, count: usize) -> Vec<usize> {
        let mut shares = vec![0; count];
        (0..TABLE_SIZE as u64).for_each(|key| shares[maglev.find(key).expect("there are some")] += 1);
        shares
    }

    #[test]
    fn endpoints_have_equal_shares() {
        for count in [1, 2, 3, 10, 100, 1_000] {
            let shares = shares(&Maglev::new(&addresses(count)), count.into());
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count} endpoints: {least} to {most}");
        }
    }

    #[test]
    fn sources_are_spread_evenly_too() {
        let maglev = Maglev::new(&addresses(10));
        let mut shares = [0_usize; 10];
        for source in 0..20_000_u32 {
            let source = IpAddr::V4((0x0a14_0000 + source).into());
            shares[maglev.find(source_key(source, 0)).unwrap()] += 1;
        }
        assert!(shares.iter().all(|share| (1_800..=2_200).contains(share)), "{shares:?}");
    }

    #[test]
    fn one_endpoint_of_ten_that_goes_moves_its_own_keys_and_few_others() {
        let all = addresses(10);
        let before = Maglev::new(&all);
        for gone in 0..10 {
            let mut left = all.clone();
            left.remove(gone);
            let after = Maglev::new(&left);
            let goes_to = |maglev: &Maglev, list: &[SocketAddr], key| list[maglev.find(key).unwrap()];
            let keys = 0..TABLE_SIZE as u64;
            let moved = keys.filter(|key| {
                let was = goes_to(&before, &all, *key);
                was != all[gone] && was != goes_to(&after, &left, *key)
            });
            let percent = 100.0 * moved.count() as f64 / (TABLE_SIZE as f64 * 0.9);
            assert!(percent < 4.0, "{percent} % of the keys of others move");
        }
    }

    #[test]
    fn the_order_of_endpoints_does_not_matter() {
        let all = addresses(7);
        let mut turned = all.clone();
        turned.reverse();
        let (one, other) = (Maglev::new(&all), Maglev::new(&turned));
        assert!(
            (0..TABLE_SIZE as u64).all(|key| all[one.find(key).unwrap()] == turned[other.find(key).unwrap()])
        );
    }

    #[test]
    fn without_endpoints_there_is_none() {
        assert_eq!(Maglev::new(&[]).find(7), None);
    }

    #[test]
    fn an_address_of_ipv4_has_one_key_in_both_forms() {
        let key = |text: &str| source_key(text.parse().expect("an address"), 3);
        assert_eq!(key("10.1.2.3"), key("::ffff:10.1.2.3"));
    }
}
