//! Which upstream connection a request takes: one worker's table of them, and the choice of an endpoint.
//!
//! The table is touched by its worker alone, so it needs no lock; that a connection is gone or going it learns from the
//! shared [`Link`]. It opens nothing: a [`Choice`] without an address asks the caller to.

use std::net::IpAddr;
use std::sync::Arc;

use bowline_engine::machine::Address;
use bowline_engine::time::Time;
use bowline_protocols::bolt::Version;

use crate::config::plan::Balance;
use crate::error::Failure;

use super::endpoint::{Endpoint, Link};
use super::maglev::{Maglev, mix, source_key};
use super::place::Place;
use super::set::Cluster;

/// Connections are kept apart by these: a Java server fixes the version of its replies by the first frame.
pub const VERSION_CLASSES: usize = 3;

/// The class of a version.
pub const fn version_class(version: Version) -> usize {
    match version {
        Version::V1 => 0,
        Version::V2 { ver1: 1 } => 1,
        Version::V2 { .. } => 2,
    }
}

/// The upstream connections of one worker.
#[derive(Debug, Default)]
pub struct Pools {
    clusters: Vec<ClusterPool>,
}

#[derive(Debug)]
struct ClusterPool {
    shared: Arc<Cluster>,
    generation: u64,
    endpoints: Vec<EndpointPool>,
    maglev: Option<Arc<Maglev>>,
    next: usize,
    random: u64,
}

#[derive(Debug)]
struct EndpointPool {
    endpoint: Arc<Endpoint>,
    classes: [Vec<Pooled>; VERSION_CLASSES],
    /// HTTP connections that carry no request, the last used one last.
    idle: Vec<Pooled>,
    next: usize,
}

#[derive(Debug)]
struct Pooled {
    address: Address,
    link: Arc<Link>,
}

/// Where a request goes.
#[derive(Debug)]
pub struct Choice {
    /// Its place at the endpoint.
    pub place: Place,
    /// The connection; nothing if one is to be opened and then told to [`Pools::add`].
    pub address: Option<Address>,
    /// The connection to take if none can be opened.
    pub fallback: Option<Address>,
}

impl Pools {
    /// Empty pools for `clusters`; `start` spreads the first choices of different workers.
    pub fn new(clusters: &[Arc<Cluster>], start: usize) -> Pools {
        let pool = |shared: &Arc<Cluster>| ClusterPool {
            shared: Arc::clone(shared),
            generation: 0,
            endpoints: Vec::new(),
            maglev: None,
            next: start,
            random: start as u64,
        };
        Pools { clusters: clusters.iter().map(pool).collect() }
    }

    /// An endpoint of `cluster` with room for a request of `bytes` from `source`.
    pub fn choose_endpoint(
        &mut self,
        cluster: usize,
        source: IpAddr,
        now: Time,
        bytes: usize,
    ) -> Result<Place, Failure> {
        self.clusters[cluster].choose(source, now, bytes).map(|(_, place)| place)
    }

    /// An endpoint of `cluster` with room for a request of `bytes` from `source`, and one of its shared connections of
    /// `class`. Where every endpoint is left alone, those that still are connected serve on.
    pub fn choose(
        &mut self,
        (cluster, class): (usize, usize),
        source: IpAddr,
        now: Time,
        bytes: usize,
    ) -> Result<Choice, Failure> {
        let pool = &mut self.clusters[cluster];
        let connections = pool.shared.plan().connections.max(1);
        let (at, place) = match pool.choose(source, now, bytes) {
            Err(Failure::NoEndpoint) => pool.take_connected(class, bytes)?,
            chosen => chosen?,
        };
        let endpoint = &mut pool.endpoints[at];
        let fallback = endpoint.connection(class);
        let opens = endpoint.classes[class].len() < connections && endpoint.endpoint.is_usable(now);
        Ok(Choice { place, address: fallback.filter(|_| !opens), fallback })
    }

    /// A connection was opened for a [`Choice`] without an address.
    pub fn add(
        &mut self,
        cluster: usize,
        class: usize,
        endpoint: &Arc<Endpoint>,
        address: Address,
        link: Arc<Link>,
    ) {
        let endpoints = &mut self.clusters[cluster].endpoints;
        if let Some(pool) = endpoints.iter_mut().find(|pool| Arc::ptr_eq(&pool.endpoint, endpoint)) {
            pool.classes[class].push(Pooled { address, link });
        }
    }

    /// An endpoint of `cluster` with room for a request from `source` that has its connection to itself, and an idle connection to it
    /// unless a `fresh` one is wanted.
    pub fn choose_exclusive(
        &mut self,
        cluster: usize,
        source: IpAddr,
        now: Time,
        fresh: bool,
    ) -> Result<Choice, Failure> {
        let pool = &mut self.clusters[cluster];
        let (at, place) = pool.choose(source, now, 0)?;
        let address = if fresh { None } else { pool.endpoints[at].take_idle() };
        Ok(Choice { place, address, fallback: None })
    }

    /// Keeps a connection that carries no request for the next one. False if there are enough, or its endpoint is gone.
    pub fn keep_idle(
        &mut self,
        cluster: usize,
        endpoint: &Arc<Endpoint>,
        address: Address,
        link: &Arc<Link>,
    ) -> bool {
        // A connection may come to rest on a worker that has chosen nothing yet.
        self.clusters[cluster].refresh();
        let endpoints = &mut self.clusters[cluster].endpoints;
        let Some(pool) = endpoints.iter_mut().find(|pool| Arc::ptr_eq(&pool.endpoint, endpoint)) else {
            return false;
        };
        // Those that ended are known here only by their links.
        if pool.idle.len() == pool.idle.capacity() {
            pool.idle.retain(|pooled| pooled.link.is_open());
        }
        let has_room = pool.idle.len() < IDLE_MAX;
        if has_room {
            pool.idle.push(Pooled { address, link: Arc::clone(link) });
        }
        has_room
    }

    /// Mail to `address` came back: it is gone.
    pub fn forget(&mut self, cluster: usize, address: Address) {
        for pool in &mut self.clusters[cluster].endpoints {
            for connections in &mut pool.classes {
                connections.retain(|pooled| pooled.address != address);
            }
        }
    }

    /// The cluster at a position.
    pub fn cluster(&self, cluster: usize) -> &Arc<Cluster> {
        &self.clusters[cluster].shared
    }
}

impl ClusterPool {
    /// Follows the shared set if it changed.
    fn refresh(&mut self) {
        let generation = self.shared.generation();
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        let mut old = std::mem::take(&mut self.endpoints);
        let members = self.shared.members();
        self.maglev = members.maglev;
        for endpoint in members.endpoints.iter() {
            let known = old.iter().position(|pool| Arc::ptr_eq(&pool.endpoint, endpoint));
            self.endpoints.push(match known {
                Some(at) => old.swap_remove(at),
                None => EndpointPool::new(Arc::clone(endpoint)),
            });
        }
    }

    fn choose(&mut self, source: IpAddr, now: Time, bytes: usize) -> Result<(usize, Place), Failure> {
        self.refresh();
        let count = self.endpoints.len();
        if count == 0 {
            return Err(Failure::NoEndpoint);
        }
        let start = self.next % count;
        self.next = start + 1;
        let preferred = match self.shared.plan().balance {
            Balance::RoundRobin => None,
            Balance::LeastOutstanding => self.take_least(start, now, bytes),
            Balance::Random => self.take_lighter(now, bytes),
            Balance::Hash => self.take_hashed(source, now, bytes),
        };
        preferred.map_or_else(|| self.take_next(start, now, bytes), Ok)
    }

    /// Of two at random the one with fewer requests, if both may be used.
    fn take_lighter(&mut self, now: Time, bytes: usize) -> Option<(usize, Place)> {
        self.random = mix(self.random);
        let count = self.endpoints.len();
        let one = (self.random >> 32) as usize % count;
        // Another one, where there is another.
        let other = (one + 1 + self.random as u32 as usize % (count - 1).max(1)) % count;
        let usable = [one, other].into_iter().filter(|at| self.endpoints[*at].endpoint.is_usable(now));
        let lighter = usable.min_by_key(|at| self.endpoints[*at].endpoint.requests())?;
        Some((lighter, Place::take(&self.endpoints[lighter].endpoint, bytes)?))
    }

    /// The endpoint of the source's hash; while that may not be used, the one of its next hash, and so on.
    fn take_hashed(&self, source: IpAddr, now: Time, bytes: usize) -> Option<(usize, Place)> {
        let maglev = self.maglev.as_ref()?;
        let keys = (0..HASHES_MAX).map(|attempt| source_key(source, attempt));
        let mut usable =
            keys.filter_map(|key| maglev.find(key)).filter(|at| self.endpoints[*at].endpoint.is_usable(now));
        usable.find_map(|at| Some((at, Place::take(&self.endpoints[at].endpoint, bytes)?)))
    }

    fn take_least(&self, start: usize, now: Time, bytes: usize) -> Option<(usize, Place)> {
        let count = self.endpoints.len();
        let usable =
            (0..count).map(|n| (start + n) % count).filter(|at| self.endpoints[*at].endpoint.is_usable(now));
        let least = usable.min_by_key(|at| self.endpoints[*at].endpoint.requests())?;
        Some((least, Place::take(&self.endpoints[least].endpoint, bytes)?))
    }

    /// The first one that may be used and has room, from `start` on.
    fn take_next(&mut self, start: usize, now: Time, bytes: usize) -> Result<(usize, Place), Failure> {
        let count = self.endpoints.len();
        let mut failure = Failure::NoEndpoint;
        for at in (0..count).map(|n| (start + n) % count) {
            let endpoint = &self.endpoints[at].endpoint;
            if !endpoint.is_usable(now) {
                continue;
            }
            if let Some(place) = Place::take(endpoint, bytes) {
                self.next = at + 1;
                return Ok((at, place));
            }
            failure = Failure::Overflow;
        }
        Err(failure)
    }

    /// One that has an open connection of `class`, and room.
    fn take_connected(&mut self, class: usize, bytes: usize) -> Result<(usize, Place), Failure> {
        let mut failure = Failure::NoEndpoint;
        for (at, pool) in self.endpoints.iter().enumerate() {
            if pool.classes[class].iter().any(|pooled| pooled.link.is_open()) {
                match Place::take(&pool.endpoint, bytes) {
                    Some(place) => return Ok((at, place)),
                    None => failure = Failure::Overflow,
                }
            }
        }
        Err(failure)
    }
}

impl EndpointPool {
    fn new(endpoint: Arc<Endpoint>) -> EndpointPool {
        EndpointPool { endpoint, classes: Default::default(), idle: Vec::new(), next: 0 }
    }

    /// The idle connection that was used last: its window is the widest, and the others may grow old.
    fn take_idle(&mut self) -> Option<Address> {
        while let Some(pooled) = self.idle.pop() {
            if pooled.link.is_open() {
                return Some(pooled.address);
            }
        }
        None
    }

    /// The next open connection in turn.
    fn connection(&mut self, class: usize) -> Option<Address> {
        let connections = &mut self.classes[class];
        connections.retain(|pooled| pooled.link.is_open());
        if connections.is_empty() {
            return None;
        }
        self.next = self.next.wrapping_add(1);
        Some(connections[self.next % connections.len()].address)
    }
}

/// So many hashes of a source are tried; then whatever may be used.
const HASHES_MAX: u64 = 16;
/// Idle HTTP connections that one worker keeps for one endpoint.
const IDLE_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::plan::{ClusterPlan, EndpointPlan, Protocol};

    const NOW: Time = Time::ZERO;
    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn pools(ports: &[u16], change: impl FnOnce(&mut ClusterPlan)) -> (Pools, Arc<Cluster>) {
        let mut plan = ClusterPlan::named("a", Protocol::Bolt);
        plan.endpoints = ports.iter().map(|port| EndpointPlan::Address(address(*port))).collect();
        change(&mut plan);
        let cluster = Arc::new(Cluster::new(&plan));
        (Pools::new(&[Arc::clone(&cluster)], 0), cluster)
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn port_of(choice: &Choice) -> u16 {
        choice.place.endpoint().address().port()
    }

    #[test]
    fn round_robin_takes_one_after_the_other_and_leaves_out_the_unreachable() {
        let (mut pools, cluster) = pools(&[1, 2, 3], |_| ());
        let mut next = || port_of(&pools.choose((0, 0), SOURCE, NOW, 1).expect("room"));
        assert_eq!([next(), next(), next(), next()], [1, 2, 3, 1]);
        cluster.endpoints()[1].note_unreachable(NOW, 0);
        assert_eq!([next(), next(), next()], [3, 1, 3]);
    }

    #[test]
    fn least_outstanding_takes_the_one_with_the_fewest_requests() {
        let (mut pools, _) = pools(&[1, 2, 3], |plan| plan.balance = Balance::LeastOutstanding);
        let held: Vec<_> = (0..6).map(|_| pools.choose((0, 0), SOURCE, NOW, 1).expect("room")).collect();
        let mut ports: Vec<_> = held.iter().map(port_of).collect();
        ports.sort_unstable();
        assert_eq!(ports, [1, 1, 2, 2, 3, 3]);
        let mut held = held;
        held.retain(|choice| port_of(choice) != 2);
        assert_eq!(port_of(&pools.choose((0, 0), SOURCE, NOW, 1).expect("room")), 2);
    }

    #[test]
    fn of_two_at_random_the_lighter_is_taken_so_loads_stay_close() {
        let (mut pools, cluster) = pools(&[1, 2, 3, 4, 5], |plan| plan.balance = Balance::Random);
        let held: Vec<_> = (0..1_000).map(|_| pools.choose((0, 0), SOURCE, NOW, 1).expect("room")).collect();
        let loads: Vec<_> = cluster.endpoints().iter().map(|endpoint| endpoint.requests()).collect();
        assert!(loads.iter().all(|load| (190..=210).contains(load)), "{loads:?}");
        drop(held);
        cluster.endpoints()[..4].iter().for_each(|endpoint| endpoint.note_unreachable(NOW, 0));
        let mut next = || port_of(&pools.choose((0, 0), SOURCE, NOW, 1).expect("one is left"));
        assert!((0..50).all(|_| next() == 5));
    }

    #[test]
    fn a_source_keeps_its_endpoint_and_comes_back_to_it() {
        let (mut pools, cluster) = pools(&[1, 2, 3, 4, 5], |plan| plan.balance = Balance::Hash);
        let mut port_for = |last| {
            let source = IpAddr::from([10, 0, 0, last]);
            port_of(&pools.choose((0, 0), source, NOW, 1).expect("room"))
        };
        let before: Vec<_> = (0..100).map(&mut port_for).collect();
        assert_eq!((0..100).map(&mut port_for).collect::<Vec<_>>(), before);
        assert!((1..=5).all(|port| before.contains(&port)));
        cluster.endpoints()[2].note_unreachable(NOW, 0);
        let without: Vec<_> = (0..100).map(&mut port_for).collect();
        assert!(before.iter().zip(&without).all(|(was, is)| was == is || *was == 3), "others stay");
        assert!(!without.contains(&3));
        cluster.endpoints()[2].note_connected();
        assert_eq!((0..100).map(&mut port_for).collect::<Vec<_>>(), before);
        cluster.set_endpoints(&[1, 2, 4, 5].map(address));
        let removed: Vec<_> = (0..100).map(&mut port_for).collect();
        let moved = before.iter().zip(&removed).filter(|(was, is)| **was != 3 && was != is).count();
        assert!(moved <= 8, "{moved} of 100 moved that had no need to");
        cluster.endpoints().iter().for_each(|endpoint| endpoint.note_unreachable(NOW, 0));
        assert!(pools.choose((0, 0), SOURCE, NOW, 1).is_err());
    }

    #[test]
    fn without_room_it_is_overflow_and_without_endpoints_no_endpoint() {
        let (mut pools, cluster) = pools(&[1, 2], |plan| plan.requests_max = 1);
        let held = [pools.choose((0, 0), SOURCE, NOW, 1), pools.choose((0, 0), SOURCE, NOW, 1)];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(pools.choose((0, 0), SOURCE, NOW, 1).expect_err("no room"), Failure::Overflow);
        drop(held);
        cluster.endpoints().iter().for_each(|endpoint| endpoint.note_unreachable(NOW, 0));
        assert_eq!(
            pools.choose((0, 0), SOURCE, NOW, 1).expect_err("all are left alone"),
            Failure::NoEndpoint
        );
        cluster.set_endpoints(&[]);
        assert_eq!(pools.choose((0, 0), SOURCE, NOW, 1).expect_err("there is none"), Failure::NoEndpoint);
    }

    #[test]
    fn connections_are_opened_up_to_their_number_and_used_in_turn_until_shut() {
        let (mut pools, _) = pools(&[1], |plan| plan.connections = 2);
        let links = [Arc::new(Link::default()), Arc::new(Link::default())];
        for (index, link) in links.iter().enumerate() {
            let choice = pools.choose((0, 1), SOURCE, NOW, 1).expect("room");
            assert_eq!(choice.address, None);
            let address = Address { index: index as u32, generation: 0 };
            pools.add(0, 1, choice.place.endpoint(), address, Arc::clone(link));
        }
        let mut next =
            || pools.choose((0, 1), SOURCE, NOW, 1).expect("room").address.map(|address| address.index);
        let first = [next(), next()];
        assert!(first == [Some(0), Some(1)] || first == [Some(1), Some(0)]);
        links[0].shut();
        assert_eq!(next(), None, "another is opened in its place");
        assert_eq!(pools.choose((0, 0), SOURCE, NOW, 1).expect("room").address, None, "of another version");
    }

    #[test]
    fn an_endpoint_that_is_left_alone_serves_over_the_connections_it_has() {
        let (mut pools, cluster) = pools(&[1, 2], |plan| plan.connections = 2);
        let here = Address { index: 7, generation: 0 };
        let link = Arc::new(Link::default());
        let choice = pools.choose((0, 0), SOURCE, NOW, 1).expect("room");
        pools.add(0, 0, choice.place.endpoint(), here, Arc::clone(&link));
        cluster.endpoints()[0].note_unreachable(NOW, 0);
        assert_eq!(port_of(&pools.choose((0, 0), SOURCE, NOW, 1).expect("room")), 2, "others come first");
        cluster.endpoints()[1].note_unreachable(NOW, 0);
        let choice = pools.choose((0, 0), SOURCE, NOW, 1).expect("it is connected");
        assert_eq!((port_of(&choice), choice.address), (1, Some(here)));
        assert!(
            pools.choose((0, 1), SOURCE, NOW, 1).is_err()
                && pools.choose_endpoint(0, SOURCE, NOW, 1).is_err()
        );
        link.shut();
        assert_eq!(pools.choose((0, 0), SOURCE, NOW, 1).expect_err("nothing is left"), Failure::NoEndpoint);
    }

    #[test]
    fn an_idle_connection_is_taken_last_first_and_not_once_it_has_ended() {
        let (mut pools, cluster) = pools(&[1], |_| ());
        let endpoint = Arc::clone(&cluster.endpoints()[0]);
        let address = |index| Address { index, generation: 0 };
        let take = |pools: &mut Pools, fresh| {
            pools.choose_exclusive(0, SOURCE, NOW, fresh).expect("room").address.map(|address| address.index)
        };
        assert_eq!(take(&mut pools, false), None, "there is none");
        let links: Vec<_> = (0..3).map(|_| Arc::new(Link::default())).collect();
        for (index, link) in links.iter().enumerate() {
            assert!(pools.keep_idle(0, &endpoint, address(index as u32), link));
        }
        links[1].shut();
        assert_eq!(take(&mut pools, true), None, "a fresh one is wanted");
        assert_eq!([0; 3].map(|_| take(&mut pools, false)), [Some(2), Some(0), None]);
        let kept = (0..IDLE_MAX as u32 + 9).filter(|n| pools.keep_idle(0, &endpoint, address(*n), &links[0]));
        assert_eq!(kept.count(), IDLE_MAX);
        links[0].shut();
        cluster.set_endpoints(&[]);
        assert!(pools.choose_exclusive(0, SOURCE, NOW, false).is_err());
        assert!(!pools.keep_idle(0, &endpoint, address(7), &links[2]), "its endpoint is gone");
    }

    #[test]
    fn a_changed_set_is_followed_and_known_connections_are_kept() {
        let (mut pools, cluster) = pools(&[1], |_| ());
        let choice = pools.choose((0, 0), SOURCE, NOW, 1).expect("room");
        let here = Address { index: 7, generation: 0 };
        pools.add(0, 0, choice.place.endpoint(), here, Arc::default());
        cluster.set_endpoints(&[address(9), address(1)]);
        let choices: Vec<_> = (0..2).map(|_| pools.choose((0, 0), SOURCE, NOW, 1).expect("room")).collect();
        let known = choices.iter().find(|choice| port_of(choice) == 1).expect("both are chosen");
        assert_eq!(known.address, Some(here));
        pools.forget(0, here);
        let again: Vec<_> =
            (0..2).map(|_| pools.choose((0, 0), SOURCE, NOW, 1).expect("room").address).collect();
        assert_eq!(again, [None, None]);
    }
}
