//! Where TLS goes that is passed on as it is: by the server that its client names, and the protocols it offers. Made once
//! from the plan; a lookup costs one probe per label of the name and allocates nothing.

use std::collections::HashMap;

use bowline_protocols::client_hello::ClientHello;

use crate::config::plan::ServerName;
use crate::config::plan::TlsRoutePlan;

/// The routes of TLS.
#[derive(Debug, Default)]
pub struct TlsRoutes {
    exact: HashMap<String, Vec<Way>>,
    /// By the end of names, without the dot before it.
    under: HashMap<String, Vec<Way>>,
}

/// One route of a name.
#[derive(Debug)]
struct Way {
    /// The protocol that must be offered.
    alpn: Option<String>,
    cluster: u16,
}

impl TlsRoutes {
    /// The routes of a plan.
    pub fn new(plans: &[TlsRoutePlan]) -> TlsRoutes {
        let mut routes = TlsRoutes::default();
        for TlsRoutePlan { server_name, alpn, cluster } in plans {
            let cluster = u16::try_from(*cluster).expect("the plan holds fewer clusters than 65,536");
            let way = Way { alpn: alpn.clone(), cluster };
            match server_name {
                ServerName::Exact(name) => routes.exact.entry(name.clone()).or_default().push(way),
                ServerName::Under(name) => routes.under.entry(name.clone()).or_default().push(way),
            }
        }
        routes
    }

    /// The cluster for `hello`, if a route leads anywhere: of the equal name first, then of the longest end.
    pub fn find(&self, hello: &ClientHello) -> Option<u16> {
        let name = hello.server_name.as_deref()?;
        let exact = self.exact.get(name).and_then(|ways| choose(ways, hello));
        exact.or_else(|| {
            let ends = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
            ends.filter_map(|end| self.under.get(end)).find_map(|ways| choose(ways, hello))
        })
    }
}

/// The first way whose protocol is offered, in the client's order; else the one for any.
fn choose(ways: &[Way], hello: &ClientHello) -> Option<u16> {
    let for_offer = |offer: &Vec<u8>| {
        ways.iter().find(|way| way.alpn.as_ref().is_some_and(|alpn| alpn.as_bytes() == offer))
    };
    let chosen = hello.protocols.iter().find_map(for_offer);
    chosen.or_else(|| ways.iter().find(|way| way.alpn.is_none())).map(|way| way.cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> TlsRoutes {
        let exact = |name: &str| ServerName::Exact(name.to_owned());
        let under = |name: &str| ServerName::Under(name.to_owned());
        let plans = [
            (exact("a.example"), None, 1),
            (under("example"), None, 2),
            (under("b.example"), None, 3),
            (exact("c.example"), Some("h2"), 4),
            (exact("d.example"), Some("h2"), 5),
            (exact("d.example"), None, 6),
        ];
        let plans = plans.map(|(server_name, alpn, cluster)| TlsRoutePlan {
            server_name,
            alpn: alpn.map(str::to_owned),
            cluster,
        });
        TlsRoutes::new(&plans)
    }

    fn find(name: &str, protocols: &[&str]) -> Option<u16> {
        let protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        routes().find(&ClientHello { server_name: Some(name.to_owned()), protocols })
    }

    #[test]
    fn the_equal_name_goes_before_the_longest_end() {
        let found = ["a.example", "x.example", "x.y.example", "b.example", "x.b.example", "example", "other"];
        let expected = [Some(1), Some(2), Some(2), Some(2), Some(3), None, None];
        assert_eq!(found.map(|name| find(name, &[])), expected);
        assert_eq!(find("xb.example", &[]), Some(2), "an end is whole labels");
        assert_eq!(routes().find(&ClientHello::default()), None, "no name, no route");
    }

    #[test]
    fn a_route_for_a_protocol_needs_its_offer() {
        assert_eq!(find("c.example", &["http/1.1", "h2"]), Some(4));
        assert_eq!(find("c.example", &["http/1.1"]), Some(2), "the next name that fits");
        assert_eq!(find("d.example", &["h2"]), Some(5));
        assert_eq!(find("d.example", &[]), Some(6));
    }
}
