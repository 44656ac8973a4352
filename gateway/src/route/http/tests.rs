//! The table of HTTP routes against cases written by hand, and against a table that tries every route in turn.

use proptest::prelude::*;

use super::*;
use crate::config::http::Condition;
use crate::config::http::HostPlan;
use crate::config::http::Wanted;

fn plan(routes: Vec<HttpRoutePlan>) -> Plan {
    let mut plan = Plan::default();
    plan.listeners[0].default_route = None;
    plan.http.routes = routes;
    plan
}

/// A route that answers with a status, by which tests know it.
fn route(host: &str, path: PathPlan) -> HttpRoutePlan {
    let respond = ActionPlan::Respond { status: 200, body: String::new(), content_type: String::new() };
    let host = match host.strip_prefix("*.") {
        Some(below) => HostPlan::Wildcard(below.to_owned()),
        None if host.is_empty() => HostPlan::Any,
        None => HostPlan::Exact(host.to_owned()),
    };
    HttpRoutePlan { host, path, ..HttpRoutePlan::to(respond) }
}

fn exact(path: &str) -> PathPlan {
    PathPlan::Exact(path.to_owned())
}

fn prefix(path: &str) -> PathPlan {
    PathPlan::Prefix(path.to_owned())
}

fn regex(text: &str) -> PathPlan {
    PathPlan::Regex(Pattern::new(text).expect("an expression"))
}

fn head(authority: &str, target: &str) -> HttpHead {
    let mut head = HttpHead::default();
    head.set_request(b"GET", authority.as_bytes(), target.as_bytes()).expect("a request");
    head
}

fn found(routes: &HttpRoutes, authority: &str, target: &str) -> Option<u16> {
    routes.find(0, &head(authority, target)).map(|(at, _)| at)
}

#[test]
fn exact_paths_stand_over_prefixes_those_over_expressions_and_those_over_the_rest() {
    let routes = HttpRoutes::new(&plan(vec![
        route("", prefix("/")),
        route("", regex("/a/.*\\.png|/z")),
        route("", prefix("/a")),
        route("", prefix("/a/b")),
        route("", exact("/a/b")),
        route("", regex(".*z.*")),
    ]));
    for (target, at) in [
        ("/a/b", 4),
        ("/a/b?q", 4),
        ("/a/b/", 3),
        ("/a/b/c.png", 3),
        ("/a/bc", 2),
        ("/a/x.png", 2),
        ("/a", 2),
        ("/ab", 0),
        ("/z", 1),
        ("/zz", 5),
        ("/", 0),
        ("*", 0),
    ] {
        assert_eq!(found(&routes, "h", target), Some(at), "{target}");
    }
}

#[test]
fn a_particular_host_goes_first_and_what_it_does_not_take_goes_on() {
    let routes = HttpRoutes::new(&plan(vec![
        route("", exact("/health")),
        route("*.b", prefix("/x")),
        route("a.b", prefix("/y")),
        route("a.b:81", prefix("/y")),
    ]));
    assert_eq!(found(&routes, "a.b", "/y"), Some(2));
    assert_eq!(found(&routes, "a.b:81", "/y"), Some(3));
    assert_eq!(found(&routes, "a.b:81", "/x"), Some(1));
    assert_eq!(found(&routes, "a.b", "/health"), Some(0));
    assert_eq!(found(&routes, "b", "/x"), None);
}

#[test]
fn a_route_whose_conditions_do_not_hold_is_passed_by() {
    let mut post = route("", exact("/a"));
    post.methods = vec!["POST".to_owned()];
    let mut canary = route("", prefix("/a"));
    canary.fields = vec![Condition { name: "x-canary".to_owned(), wanted: Wanted::Present }];
    let routes = HttpRoutes::new(&plan(vec![post, canary, route("", prefix("/a"))]));
    assert_eq!(found(&routes, "", "/a"), Some(2));
    let mut marked = head("", "/a");
    marked.add_field(b"X-Canary", b"").expect("a field");
    assert_eq!(routes.find(0, &marked).map(|(at, _)| at), Some(1));
    marked.set_request(b"POST", b"", b"/a").expect("a request");
    assert_eq!(routes.find(0, &marked).map(|(at, _)| at), Some(0));
}

#[test]
fn what_no_route_takes_goes_to_the_default_of_its_listener() {
    let mut plan = plan(vec![route("a", PathPlan::Any)]);
    plan.listeners[0].protocol = Protocol::Http;
    let mut other = plan.listeners[0].clone();
    other.default_route = Some(RouteTarget { cluster: 3, timeout_ms: 7 });
    plan.listeners.push(other);
    let routes = HttpRoutes::new(&plan);
    assert_eq!(found(&routes, "b", "/"), None);
    let (at, default) = routes.find(1, &head("b", "/")).expect("the second listener has a default");
    assert_eq!((default.cluster(9), default.timeout_ms), (Some(3), 7));
    assert_eq!(routes.route(at).timeout_ms, 7);
    assert_eq!(routes.find(1, &head("a", "/")).map(|(at, _)| at), Some(0));
}

#[test]
fn a_default_of_another_protocol_is_none_of_http() {
    let mut plan = plan(Vec::new());
    plan.listeners[0].default_route = Some(RouteTarget { cluster: 0, timeout_ms: 7 });
    assert_eq!(found(&HttpRoutes::new(&plan), "b", "/"), None);
}

#[test]
fn weights_share_all_random_numbers() {
    let weighted = |weights: &[u32]| {
        let clusters = weights.iter().enumerate();
        let clusters = clusters.map(|(cluster, weight)| WeightedCluster { cluster, weight: *weight });
        Weighted::of(&clusters.collect::<Vec<_>>())
    };
    let three = weighted(&[1, 0, 3]);
    let step = 1 << 54;
    let picks: Vec<_> = (0..1_024).map(|at| three.pick(at * step)).collect();
    let count = |cluster| picks.iter().filter(|pick| **pick == cluster).count();
    assert_eq!((count(0), count(1), count(2)), (256, 0, 768));
    assert_eq!((three.pick(0), three.pick(u64::MAX)), (0, 2));
    assert_eq!(weighted(&[1]).pick(u64::MAX), 0);
}

fn rewritten(path: PathPlan, to: &str, target: &str) -> String {
    let mut plan = HttpRoutePlan::to(ActionPlan::Forward(vec![WeightedCluster { cluster: 0, weight: 1 }]));
    plan.path = path;
    plan.rewrite_prefix = Some(to.to_owned());
    plan.rewrite_host = Some("in.side:8080".to_owned());
    let (mut head, mut room) = (head("out.side", target), Vec::new());
    HttpRoute::new(&plan).rewrite(&mut head, &mut room).expect("it can be rewritten");
    assert_eq!(room, b"");
    assert_eq!(head.authority(), b"in.side:8080");
    String::from_utf8(head.path_and_query().to_vec()).expect("it is ASCII")
}

#[test]
fn a_prefix_is_replaced_and_the_query_stays() {
    assert_eq!(rewritten(prefix("/api"), "/v2", "/api/x?y"), "/v2/x?y");
    assert_eq!(rewritten(prefix("/api"), "/v2", "/api"), "/v2");
    assert_eq!(rewritten(prefix("/api"), "/", "/api/x"), "/x");
    assert_eq!(rewritten(prefix("/api"), "/", "/api?y"), "/?y");
    assert_eq!(rewritten(prefix("/api"), "/", "/api/"), "/");
    assert_eq!(rewritten(prefix("/"), "/v2", "/x"), "/v2/x");
    assert_eq!(rewritten(prefix("/"), "/v2", "/"), "/v2/");
    assert_eq!(rewritten(prefix("/"), "/v2", "*"), "*", "the whole server has no path");
    assert_eq!(rewritten(exact("/a"), "/b/", "/a?y"), "/b/?y");
}

#[test]
fn a_redirect_names_its_place_and_other_routes_have_none() {
    let mut plan = route("", prefix("/old"));
    let location = LocationPlan::parse("https://{host}/new{rest}{query}").expect("a location");
    plan.action = ActionPlan::Redirect { status: 308, location };
    let mut out = Vec::new();
    let moved = HttpRoute::new(&plan);
    moved.location(&head("a:80", "/old/x?y"), &mut out).expect("there is one");
    assert_eq!(out, b"https://a/new/x?y");
    assert_eq!(moved.cluster(0), None);
    assert_eq!(HttpRoute::new(&route("", exact("/"))).location(&head("a", "/"), &mut out), Err(FieldError));
}

#[test]
fn a_large_table_answers_without_allocating() {
    let hosts = (0..100).map(|host| format!("h{host}.example.com"));
    let routes = hosts.flat_map(|host| {
        let paths = (0..100)
            .map(|at| if at % 2 == 0 { exact(&format!("/p{at}")) } else { prefix(&format!("/p{at}/q")) });
        paths.map(|path| route(&host, path)).collect::<Vec<_>>()
    });
    let mut routes: Vec<_> = routes.collect();
    routes.push(route("*.example.com", prefix("/w")));
    let routes = HttpRoutes::new(&plan(routes));
    let heads = [
        (head("h99.example.com:8080", "/p98?x"), Some(9_998)),
        (head("h50.example.com", "/p51/q/r"), Some(5_051)),
        (head("h50.example.com", "/w/x"), Some(10_000)),
        (head("h100.example.com", "/w"), Some(10_000)),
        (head("h50.example.com", "/p51"), None),
    ];
    let mut found = [None; 5];
    let allocated = allocation_counter::measure(|| {
        for (at, (head, _)) in heads.iter().enumerate() {
            found[at] = routes.find(0, head).map(|(at, _)| at);
        }
    });
    assert_eq!(found, heads.map(|(_, right)| right));
    assert_eq!(allocated.count_total, 0);
}

/// Where a path stands in the order of the module's doc; none if it does not match.
fn rank(plan: &PathPlan, path: &str) -> Option<(u8, usize)> {
    match plan {
        PathPlan::Exact(one) => (one == path).then_some((3, 0)),
        PathPlan::Prefix(one) if one == "/" => Some((0, 0)),
        PathPlan::Prefix(one) => {
            let below = path.strip_prefix(one.as_str())?;
            (below.is_empty() || below.starts_with('/')).then_some((2, one.len()))
        }
        PathPlan::Regex(pattern) => pattern.is_match(path.as_bytes()).then_some((1, 0)),
        PathPlan::Any => Some((0, 0)),
    }
}

/// The same of a host.
fn host_rank(plan: &HostPlan, host: &str) -> Option<(u8, usize)> {
    match plan {
        HostPlan::Exact(one) => (one == host).then_some((2, 0)),
        HostPlan::Wildcard(below) => {
            let front = host.strip_suffix(below.as_str())?.strip_suffix('.')?;
            (!front.is_empty()).then_some((1, below.len()))
        }
        HostPlan::Any => Some((0, 0)),
    }
}

/// Tries every route in turn.
fn naive(routes: &[HttpRoutePlan], host: &str, path: &str, method: &str) -> Option<u16> {
    let mut best = None;
    for (at, route) in routes.iter().enumerate() {
        let holds = route.methods.is_empty() || route.methods.iter().any(|one| one == method);
        let Some(rank) = host_rank(&route.host, host).zip(rank(&route.path, path)).filter(|_| holds) else {
            continue;
        };
        if best.is_none_or(|(before, _)| rank > before) {
            best = Some((rank, at as u16));
        }
    }
    best.map(|(_, at)| at)
}

fn paths() -> impl Strategy<Value = String> {
    "(/[ab]{1,2}){0,3}/?".prop_map(|path| if path.is_empty() { "/".to_owned() } else { path })
}

fn path_plans() -> impl Strategy<Value = PathPlan> {
    let prefixes = paths().prop_map(|path| match path.trim_end_matches('/') {
        "" => prefix("/"),
        path => prefix(path),
    });
    let regexes = proptest::sample::select(vec!["/a.*", ".*b", "/[ab]/[ab]", "/"]);
    prop_oneof![paths().prop_map(|path| exact(&path)), prefixes, regexes.prop_map(regex), Just(PathPlan::Any)]
}

fn route_plans() -> impl Strategy<Value = HttpRoutePlan> {
    let hosts = proptest::sample::select(vec!["", "a.b.c", "b.c", "*.b.c", "*.c", "c"]);
    let methods = proptest::sample::select(vec![vec![], vec!["GET"], vec!["GET", "PUT"]]);
    (hosts, path_plans(), methods).prop_map(|(host, path, methods)| {
        let methods = methods.into_iter().map(str::to_owned).collect();
        HttpRoutePlan { methods, ..route(host, path) }
    })
}

proptest! {
    #[test]
    fn the_table_finds_what_trying_every_route_finds(
        routes in proptest::collection::vec(route_plans(), 0..40),
        host in "([ab]\\.){0,3}c",
        path in paths(),
        method in proptest::sample::select(vec!["GET", "PUT", "POST"]),
    ) {
        let mut head = head(&host, &path);
        head.set_request(method.as_bytes(), host.as_bytes(), path.as_bytes()).expect("a request");
        let table = HttpRoutes::new(&plan(routes.clone()));
        let found = table.find(0, &head).map(|(at, _)| at);
        prop_assert_eq!(found, naive(&routes, &host, &path, method));
    }
}
