//! Virtual hosts: from the authority that a client named to the tables that may answer it, the most particular first.
//! Exact names stand over wildcards, longer wildcards over shorter, those over the table of every host; at each step a
//! route that names a port stands over one that does not. Called by the table of HTTP routes.

use std::collections::HashMap;

use crate::config::http::HostPlan;

/// Something for each virtual host.
#[derive(Debug)]
pub(super) struct Hosts<T> {
    exact: HashMap<Box<[u8]>, T>,
    /// By what stands behind `*.`.
    wildcards: HashMap<Box<[u8]>, T>,
    any: T,
    /// Whether any route names a port.
    has_ports: bool,
}

impl<T: Default> Default for Hosts<T> {
    fn default() -> Hosts<T> {
        Hosts { exact: HashMap::new(), wildcards: HashMap::new(), any: T::default(), has_ports: false }
    }
}

impl<T: Default> Hosts<T> {
    /// What stands for this host, made if it is new.
    pub(super) fn entry(&mut self, host: &HostPlan) -> &mut T {
        let (map, text) = match host {
            HostPlan::Any => return &mut self.any,
            HostPlan::Exact(text) => (&mut self.exact, text.as_bytes()),
            HostPlan::Wildcard(text) => (&mut self.wildcards, text.as_bytes()),
        };
        self.has_ports |= split(text).1.is_some();
        map.entry(text.into()).or_default()
    }
}

impl<T> Hosts<T> {
    /// The same hosts, with something else for each.
    pub(super) fn map<U>(self, mut to: impl FnMut(T) -> U) -> Hosts<U> {
        let mut all =
            |map: HashMap<Box<[u8]>, T>| map.into_iter().map(|(host, one)| (host, to(one))).collect();
        let (exact, wildcards) = (all(self.exact), all(self.wildcards));
        Hosts { exact, wildcards, any: to(self.any), has_ports: self.has_ports }
    }

    /// The first that `look` finds something in, of what a request to `authority` may be answered by.
    pub(super) fn find<R>(&self, authority: &[u8], mut look: impl FnMut(&T) -> Option<R>) -> Option<R> {
        // Many configurations tell no hosts apart.
        let are_named = !self.exact.is_empty() || !self.wildcards.is_empty();
        let by_name = if are_named { self.by_name(authority).find_map(&mut look) } else { None };
        by_name.or_else(|| look(&self.any))
    }

    /// What stands for the name of a host, in order.
    fn by_name<'a>(&'a self, authority: &'a [u8]) -> impl Iterator<Item = &'a T> {
        let (host, port) = split(authority);
        let port = port.filter(|_| self.has_ports);
        let host = host.strip_suffix(b".").unwrap_or(host);
        // A longer text is no name (RFC 1035), and looking for each of its parts would cost its square.
        let host = if host.len() > NAME_BYTES_MAX { &[][..] } else { host };
        let exact = self.named(&self.exact, host, port);
        let dots = host.iter().enumerate().filter(|(at, byte)| **byte == b'.' && *at > 0);
        let below = dots
            .filter(|_| !self.wildcards.is_empty())
            .flat_map(move |(at, _)| self.named(&self.wildcards, &host[at + 1..], port));
        exact.into_iter().chain(below)
    }

    /// With the port first, then without.
    fn named<'a>(
        &self,
        map: &'a HashMap<Box<[u8]>, T>,
        host: &[u8],
        port: Option<&[u8]>,
    ) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let with = port.and_then(|port| map.get(&[host, b":", port].concat()[..]));
        with.into_iter().chain(map.get(host))
    }
}

/// Host and port of an authority; an empty port is none (RFC 3986 section 3.2.3).
pub(super) fn split(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(at) = authority.iter().rposition(|byte| *byte == b':') else { return (authority, None) };
    let (host, port) = (&authority[..at], &authority[at + 1..]);
    match port {
        [] => (host, None),
        _ if port.iter().all(u8::is_ascii_digit) => (host, Some(port)),
        // The colon belongs to an address of IPv6.
        _ => (authority, None),
    }
}

const NAME_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(texts: &[&str]) -> Hosts<String> {
        let mut hosts: Hosts<String> = Hosts::default();
        for text in texts {
            let plan = match text.strip_prefix("*.") {
                Some(below) => HostPlan::Wildcard(below.to_owned()),
                None => HostPlan::Exact((*text).to_owned()),
            };
            hosts.entry(&plan).push_str(text);
        }
        hosts.entry(&HostPlan::Any).push_str("any");
        hosts
    }

    fn matching(hosts: &Hosts<String>, authority: &str) -> Vec<String> {
        let mut all = Vec::new();
        let end = hosts.find(authority.as_bytes(), |one| {
            all.push(one.clone());
            None::<()>
        });
        assert_eq!(end, None, "nothing was found in any of them");
        all
    }

    #[test]
    fn exact_stands_over_wildcards_and_longer_ones_over_shorter() {
        let hosts = hosts(&["a.b.c", "*.b.c", "*.c", "b.c"]);
        assert_eq!(matching(&hosts, "a.b.c"), ["a.b.c", "*.b.c", "*.c", "any"]);
        assert_eq!(matching(&hosts, "x.a.b.c:80"), ["*.b.c", "*.c", "any"]);
        assert_eq!(matching(&hosts, "b.c."), ["b.c", "*.c", "any"]);
        assert_eq!(matching(&hosts, ".c"), ["any"], "a star stands for a label");
        assert_eq!(matching(&hosts, "c"), ["any"]);
        assert_eq!(matching(&hosts, ""), ["any"], "a client of 1.0 may name none");
    }

    #[test]
    fn the_first_that_holds_something_is_found() {
        let hosts = hosts(&["a.b.c", "*.c"]);
        let find = |wanted: &str| hosts.find(b"a.b.c", |one| one.contains(wanted).then(|| one.clone()));
        assert_eq!(find("c").as_deref(), Some("a.b.c"));
        assert_eq!(find("*").as_deref(), Some("*.c"));
        assert_eq!(find("any").as_deref(), Some("any"));
        assert_eq!(find("d"), None);
    }

    #[test]
    fn a_port_counts_where_a_route_names_one() {
        let hosts = hosts(&["a.c:81", "a.c", "*.c:82", "*.c", "[::1]:81", "[::1]"]);
        assert_eq!(matching(&hosts, "a.c:81"), ["a.c:81", "a.c", "*.c", "any"]);
        assert_eq!(matching(&hosts, "a.c:82"), ["a.c", "*.c:82", "*.c", "any"]);
        assert_eq!(matching(&hosts, "a.c:"), ["a.c", "*.c", "any"]);
        assert_eq!(matching(&hosts, "[::1]"), ["[::1]", "any"]);
        assert_eq!(matching(&hosts, "[::1]:81"), ["[::1]:81", "[::1]", "any"]);
    }

    #[test]
    fn a_text_of_a_thousand_labels_is_no_name() {
        let hosts = hosts(&["*.c"]);
        assert_eq!(matching(&hosts, &format!("{}c", "a.".repeat(127))), ["*.c", "any"]);
        assert_eq!(matching(&hosts, &format!("{}c", "a.".repeat(1_000))), ["any"]);
    }
}
