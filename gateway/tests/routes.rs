//! Routes, filters and forwarded headers as a file says them: what the loader makes of them, the exact words with which
//! it refuses what is wrong, and the examples of docs/routing.md. Sees only the public interface.

use bowline_gateway::config::http::{
    AbortPlan, ActionPlan, DelayPlan, FieldPlan, ForwardedMode, HostPlan, LocationPlan, PathPlan, Wanted,
    WeightedCluster,
};
use bowline_gateway::config::load;
use bowline_gateway::config::machine::Machine;
use bowline_gateway::config::plan::{Plan, RouteTarget, ServicePlan};
use bowline_gateway::route::HttpRoutes;
use bowline_protocols::http::{EscapedSlash, HttpHead, HttpLimits, Underscores};

const MACHINE: Machine = Machine { cpus: 4, memory_bytes: 8 << 30, descriptors_max: 20_000 };

fn text(text: &str) -> Result<Plan, String> {
    load::plan_of_text("gw.yaml", text, &MACHINE).map_err(|faults| faults.to_string())
}

/// A file with listeners and clusters of both protocols, and these routes from its fifth line on.
fn with_routes(routes: &str) -> String {
    let listeners = "listeners:\n  - {address: 'http://127.0.0.1:0', cluster: web}\n  - {address: 'bolt://127.0.0.1:0', cluster: rpc}\n";
    let clusters = "clusters: [{name: web, endpoints: ['http://h:1']}, {name: api, endpoints: ['http://h:2']}, {name: rpc, endpoints: ['bolt://h:3']}]\n";
    format!("{listeners}routes:\n{routes}\n{clusters}")
}

fn plan(routes: &str) -> Plan {
    text(&with_routes(routes)).unwrap_or_else(|faults| panic!("{faults}"))
}

/// What is wrong with one route, which begins at column 5 of line 5.
fn refused(route: &str) -> String {
    text(&with_routes(&format!("  - {{{route}}}"))).expect_err("it is refused")
}

#[test]
fn services_are_routed_exactly_by_prefix_and_by_expression() {
    let plan = plan(
        "  - {service: a, cluster: rpc}\n  - {service_prefix: a, cluster: rpc, timeout: 3s}\n  - {service_regex: 'a.*', cluster: rpc}",
    );
    assert_eq!(plan.routes[0].service, ServicePlan::Exact("a".to_owned()));
    assert_eq!(plan.routes[1].service, ServicePlan::Prefix("a".to_owned()));
    assert_eq!(plan.routes[1].target, RouteTarget { cluster: 2, timeout_ms: 3_000 });
    assert!(matches!(&plan.routes[2].service, ServicePlan::Regex(pattern) if pattern.text() == "a.*"));
    assert_eq!(plan.http.routes, []);
}

#[test]
fn a_route_of_http_says_everything() {
    let plan = plan(
        "  - host: '*.Example.com:8080'\n    prefix: /v1\n    methods: [GET, POST]\n    headers: [X-Beta, 'x-a=1', 'x-b~[0-9]+']\n    query: [q=x]\n    clusters: [web=9, api=1]\n    timeout: 5s\n    rewrite_prefix: /v2\n    rewrite_host: inside:81\n    request_headers_add: ['X-C=a=b, c']\n    request_headers_set: [x-d=]\n    request_headers_remove: [x-e]\n    response_headers_remove: [server]\n    fault_delay: 2s\n    fault_delay_percent: 10\n    fault_abort: 503",
    );
    let [route] = &plan.http.routes[..] else { panic!("one route") };
    assert_eq!(route.host, HostPlan::Wildcard("example.com:8080".to_owned()));
    assert_eq!(route.path, PathPlan::Prefix("/v1".to_owned()));
    assert_eq!(route.methods, ["GET", "POST"]);
    let names: Vec<_> = route.fields.iter().map(|condition| condition.name.as_str()).collect();
    assert_eq!(names, ["x-beta", "x-a", "x-b"]);
    assert_eq!(route.fields[0].wanted, Wanted::Present);
    assert_eq!(route.fields[1].wanted, Wanted::Exact("1".to_owned()));
    assert!(route.fields[2].wanted.accepts(b"42") && !route.fields[2].wanted.accepts(b"42x"));
    assert_eq!(route.query[0].wanted, Wanted::Exact("x".to_owned()));
    let weighted = |cluster, weight| WeightedCluster { cluster, weight };
    assert_eq!(route.action, ActionPlan::Forward(vec![weighted(0, 9), weighted(1, 1)]));
    assert_eq!(route.timeout_ms, 5_000);
    assert_eq!(route.rewrite_prefix.as_deref(), Some("/v2"));
    assert_eq!(route.rewrite_host.as_deref(), Some("inside:81"));
    let field = |name: &str, value: &str| FieldPlan { name: name.to_owned(), value: value.to_owned() };
    assert_eq!(route.filters.request.add, [field("X-C", "a=b, c")]);
    assert_eq!(route.filters.request.set, [field("x-d", "")]);
    assert_eq!(route.filters.request.remove, ["x-e"]);
    assert_eq!(route.filters.response.remove, ["server"]);
    assert_eq!(route.filters.delay, Some(DelayPlan { ms: 2_000, percent: 10 }));
    assert_eq!(route.filters.abort, Some(AbortPlan { status: 503, percent: 100 }));
}

#[test]
fn redirects_and_answers_need_no_cluster() {
    let plan = plan(
        "  - {path: /old, redirect: 'https://{host}/new{query}', redirect_status: 308}\n  - {path: /health, respond_status: 200, respond_body: ok}\n  - {path: /gone, respond_status: 410}",
    );
    let location = LocationPlan::parse("https://{host}/new{query}").unwrap();
    assert_eq!(plan.http.routes[0].action, ActionPlan::Redirect { status: 308, location });
    let respond = |status, body: &str| ActionPlan::Respond {
        status,
        body: body.to_owned(),
        content_type: "text/plain; charset=utf-8".to_owned(),
    };
    assert_eq!(plan.http.routes[1].action, respond(200, "ok"));
    assert_eq!(plan.http.routes[2].action, respond(410, ""));
}

#[test]
fn a_cluster_of_http_makes_a_route_of_http() {
    let plan = plan("  - {cluster: api}\n  - {service: s, cluster: rpc}");
    assert_eq!((plan.http.routes.len(), plan.routes.len()), (1, 1));
    assert_eq!(plan.http.routes[0].path, PathPlan::Any);
}

#[test]
fn what_contradicts_itself_is_refused_where_it_stands() {
    assert_eq!(
        refused("path: /a, prefix: /a, cluster: web"),
        "gw.yaml:5:24: routes[0].prefix: cannot stand beside path"
    );
    assert_eq!(
        refused("path: /a, cluster: web, redirect: /b, respond_status: 200"),
        "gw.yaml:5:40: routes[0].redirect: cannot stand beside cluster\n\
         gw.yaml:5:60: routes[0].respond_status: cannot stand beside cluster"
    );
    assert_eq!(
        refused("service: a, host: b, cluster: rpc"),
        "gw.yaml:5:24: routes[0].host: has no effect on a route of Bolt, which its service makes it"
    );
    assert_eq!(
        refused("service: a, service_prefix: b, cluster: rpc"),
        "gw.yaml:5:34: routes[0].service_prefix: cannot stand beside service"
    );
    assert_eq!(
        refused("path: /a"),
        "gw.yaml:5:5: routes[0]: leads nowhere; say cluster, clusters, redirect or respond_status"
    );
    assert_eq!(
        refused("path: /a, cluster: rpc"),
        "gw.yaml:5:25: routes[0].cluster: cluster \"rpc\" speaks bolt, not http"
    );
    assert_eq!(
        refused("service: a, cluster: web"),
        "gw.yaml:5:27: routes[0].cluster: cluster \"web\" speaks http, not bolt"
    );
}

#[test]
fn keys_of_a_route_that_would_be_ignored_are_refused() {
    assert_eq!(
        refused("path: /a, cluster: web, redirect_status: '301', respond_body: x, fault_abort_percent: 5"),
        "gw.yaml:5:47: routes[0].redirect_status: has no effect without redirect\n\
         gw.yaml:5:68: routes[0].respond_body: has no effect without respond_status\n\
         gw.yaml:5:92: routes[0].fault_abort_percent: has no effect without fault_abort"
    );
    assert_eq!(
        refused("path: /a, redirect: /b, timeout: 1s, rewrite_host: x, request_headers_remove: [a]"),
        "gw.yaml:5:39: routes[0].timeout: has no effect on a route that leads to no cluster\n\
         gw.yaml:5:57: routes[0].rewrite_host: has no effect on a route that leads to no cluster\n\
         gw.yaml:5:84: routes[0].request_headers_remove: has no effect on a route that leads to no cluster"
    );
    assert_eq!(
        refused("regex: /a, rewrite_prefix: /b, cluster: web"),
        "gw.yaml:5:33: routes[0].rewrite_prefix: has no effect without prefix or path"
    );
    assert_eq!(
        refused("path: /a, redirect: '/b{rest}'"),
        "gw.yaml:5:26: routes[0].redirect: {rest} is what stands behind prefix, and there is none"
    );
    assert_eq!(
        refused("path: /a, respond_status: 204, respond_body: x"),
        "gw.yaml:5:51: routes[0].respond_body: an answer with status 204 has no content"
    );
}

#[test]
fn values_of_a_route_that_mean_nothing_are_refused() {
    let web = |said: &str| refused(&format!("{said}, cluster: web"));
    assert_eq!(
        web("host: '*'"),
        "gw.yaml:5:12: routes[0].host: \"*\": a star stands for whole labels in front: *.example.com"
    );
    assert_eq!(web("path: a"), "gw.yaml:5:12: routes[0].path: \"a\" does not begin with a slash");
    assert_eq!(
        web("prefix: /a/"),
        "gw.yaml:5:14: routes[0].prefix: \"/a/\": a prefix ends where a segment ends by itself; write \"/a\""
    );
    assert_eq!(
        web("regex: '('"),
        "gw.yaml:5:13: routes[0].regex: \"(\" is no regular expression: unclosed group"
    );
    assert_eq!(
        web("methods: [GET, post]"),
        "gw.yaml:5:21: routes[0].methods: \"post\": methods are told apart by case; write POST"
    );
    assert_eq!(
        web("headers: [host=a]"),
        "gw.yaml:5:16: routes[0].headers: the host is not among the fields; say host or rewrite_host"
    );
    assert_eq!(
        web("query: ['=a']"),
        "gw.yaml:5:14: routes[0].query: \"=a\" has no name; write NAME, NAME=VALUE or NAME~REGEX"
    );
    assert_eq!(web("methods: GET"), "gw.yaml:5:15: routes[0].methods: should be a list",);
    let edit = |said: &str| web(&format!("request_headers_set: ['{said}']"));
    assert_eq!(
        edit("Transfer-Encoding=chunked"),
        "gw.yaml:5:28: routes[0].request_headers_set: \"Transfer-Encoding\" belongs to the connection or the framing, which the gateway writes"
    );
    assert_eq!(edit("x"), "gw.yaml:5:28: routes[0].request_headers_set: \"x\" is not NAME=VALUE");
    assert_eq!(
        refused("redirect: 'https://example.com{host}'"),
        "gw.yaml:5:16: routes[0].redirect: \"https://example.com{host}\": what a client sends could become the host there"
    );
}

#[test]
fn weights_are_of_clusters_that_exist_and_some_of_them_count() {
    assert_eq!(
        refused("clusters: [web=1, web=2, rpc=1, none=1, api]"),
        "gw.yaml:5:24: routes[0].clusters: \"web=2\": the cluster stands here already\n\
         gw.yaml:5:31: routes[0].clusters: cluster \"rpc\" speaks bolt, not http\n\
         gw.yaml:5:38: routes[0].clusters: no cluster \"none\"; known: web, api, rpc\n\
         gw.yaml:5:46: routes[0].clusters: \"api\" is not NAME=WEIGHT with a weight of 0 to 1000000"
    );
    assert_eq!(
        refused("clusters: [web=0, api=0]"),
        "gw.yaml:5:16: routes[0].clusters: no cluster has a weight above 0"
    );
    assert_eq!(refused("clusters: []"), "gw.yaml:5:16: routes[0].clusters: no cluster has a weight above 0");
}

#[test]
fn a_route_that_an_earlier_one_hides_is_refused() {
    let hidden = |first: &str, second: &str| {
        let routes = format!("  - {{{first}, cluster: web}}\n  - {{{second}, cluster: web}}");
        text(&with_routes(&routes)).err().unwrap_or_default()
    };
    let said = "gw.yaml:6:5: routes[1]: routes[0] takes the same host and path, and all that this one would";
    assert_eq!(hidden("path: /a", "path: /a"), said);
    assert_eq!(hidden("path: /a", "path: /a, methods: [GET]"), said);
    assert_eq!(hidden("prefix: /a, query: [x]", "prefix: /a, query: [x]"), said);
    for (first, second) in [
        ("path: /a, methods: [GET]", "path: /a"),
        ("path: /a", "prefix: /a"),
        ("path: /a", "path: /a, host: b"),
        ("path: /a, query: [x]", "path: /a, query: [y]"),
    ] {
        assert_eq!(hidden(first, second), "", "{first} and {second}");
    }
}

#[test]
fn routes_without_a_listener_of_their_protocol_are_refused() {
    let clusters =
        "clusters: [{name: web, endpoints: ['http://h:1']}, {name: rpc, endpoints: ['bolt://h:3']}]\n";
    let bolt = "listeners: [{address: 'bolt://127.0.0.1:0', cluster: rpc}]\n";
    assert_eq!(
        text(&format!("{clusters}{bolt}routes: [{{path: /a, cluster: web}}]")).unwrap_err(),
        "gw.yaml:3:10: routes: have no effect since no listener speaks http"
    );
    let http = "listeners: [{address: 'http://127.0.0.1:0'}]\n";
    assert_eq!(
        text(&format!("{clusters}{http}routes: [{{service: a, cluster: rpc}}]")).unwrap_err(),
        "gw.yaml:2:13: listeners[0].cluster: is missing; known: web, rpc\n\
         gw.yaml:3:10: routes: have no effect since no listener speaks bolt"
    );
    let routed = text(&format!("{clusters}{http}routes: [{{path: /a, cluster: web}}]")).unwrap();
    assert_eq!(routed.listeners[0].default_route, None);
}

#[test]
fn expressions_are_counted_over_all_routes() {
    let routes: Vec<_> = (0..1_001).map(|at| format!("  - {{regex: '/{at}', cluster: web}}")).collect();
    assert_eq!(plan(&routes[1..].join("\n")).http.routes.len(), 1_000);
    assert_eq!(
        text(&with_routes(&routes.join("\n"))).unwrap_err(),
        "gw.yaml:1005:13: routes[1000].regex: the file has more than 1000 regular expressions"
    );
}

#[test]
fn keys_of_http_reach_the_plan() {
    let plan = text(
        "http:\n  forwarded: both\n  trusted: [10.0.0.0/8, '::1', 192.168.0.1]\n  request_id: false\n  via: bowline\n  error_reason: true\n  escaped_slash: keep\n  underscores: refuse\nlimits: {http_line_max: 1KiB, http_head_max: 2KiB, http_fields_max: 7, http_extension_max: 3B, http_body_max: 1MiB}\n",
    )
    .unwrap();
    let forwarded = &plan.http.forwarded;
    assert_eq!((forwarded.mode, forwarded.request_id), (ForwardedMode::Both, false));
    assert_eq!(forwarded.via.as_deref(), Some("bowline"));
    let trusted: Vec<_> = forwarded.trusted.iter().map(ToString::to_string).collect();
    assert_eq!(trusted, ["10.0.0.0/8", "::1/128", "192.168.0.1/32"]);
    assert!(plan.http.error_reason);
    let limits = HttpLimits {
        line_bytes_max: 1 << 10,
        head_bytes_max: 2 << 10,
        fields_max: 7,
        extension_bytes_max: 3,
        body_bytes_max: 1 << 20,
        escaped_slash: EscapedSlash::Keep,
        underscores: Underscores::Refuse,
    };
    assert_eq!(plan.limits.http, limits);
}

#[test]
fn keys_of_http_that_mean_nothing_are_refused() {
    assert_eq!(
        text("http: {trusted: [10.0.0.1/8, here]}").unwrap_err(),
        "gw.yaml:1:18: http.trusted: \"10.0.0.1/8\" has bits behind its 8; write 10.0.0.0/8\n\
         gw.yaml:1:30: http.trusted: \"here\" is no IP and no IP/BITS"
    );
    assert_eq!(
        text("http: {via: 'a b'}").unwrap_err(),
        "gw.yaml:1:13: http.via: \"a b\" is no word; write for example bowline"
    );
    assert_eq!(
        text("limits: {http_line_max: 2KiB, http_head_max: 1KiB}").unwrap_err(),
        "gw.yaml:1:25: limits.http_line_max: 2048 bytes are more than limits.http_head_max (1024 bytes)"
    );
}

#[test]
fn keys_of_http_clusters_reach_the_plan_and_no_others_take_them() {
    let keys = "idle_timeout: 5s, requests_per_connection_max: 9, connection_age_max: 1h";
    let of = |url: &str| {
        let (protocol, _) = url.split_once(':').expect("a URL");
        let listener = format!("listeners: [{{address: '{protocol}://127.0.0.1:0', cluster: c}}]\n");
        text(&format!("{listener}clusters: [{{name: c, endpoints: ['{url}'], {keys}}}]"))
    };
    let cluster = of("http://h:1").unwrap().clusters.remove(0);
    assert_eq!((cluster.idle_timeout_ms, cluster.requests_per_connection_max), (5_000, 9));
    assert_eq!(cluster.connection_age_ms_max, 3_600_000);
    for (url, word) in [("bolt://h:1", "bolt"), ("tcp://h:1", "tcp")] {
        let said = of(url).unwrap_err();
        assert_eq!(said.lines().count(), 3, "{said}");
        assert!(said.contains(&format!(
            "clusters[0].requests_per_connection_max: has no effect on a {word} cluster"
        )));
    }
}

/// The blocks of one language in a document.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    document.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_examples_of_the_documentation_are_valid() {
    let examples = blocks(include_str!("../../docs/routing.md"), "yaml");
    assert!(examples.len() > 2);
    for example in examples {
        text(example).unwrap_or_else(|faults| panic!("{faults}\n{example}"));
    }
}

/// Lines of the document like `GET example.com /path -> routes[1]` are about the example before them.
#[test]
fn requests_go_where_the_documentation_says() {
    let document = include_str!("../../docs/routing.md");
    let example = text(blocks(document, "yaml")[0]).unwrap();
    let routes = HttpRoutes::new(&example);
    let lines: Vec<_> = blocks(document, "text")[0].lines().filter(|line| line.contains("->")).collect();
    assert!(lines.len() > 5);
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        let [method, host, target, "->", expected] = words[..] else { panic!("{line}") };
        let mut head = HttpHead::default();
        head.set_request(method.as_bytes(), host.as_bytes(), target.as_bytes()).unwrap();
        let found = routes.find(0, &head).map(|(at, _)| usize::from(at));
        let found = match found {
            Some(at) if at < example.http.routes.len() => format!("routes[{at}]"),
            Some(_) => "listener".to_owned(),
            None => "404".to_owned(),
        };
        assert_eq!(found, expected, "{line}");
    }
}
