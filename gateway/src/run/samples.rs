//! What `/metrics` shows beside the counters of the data path: the engine's figures, open connections, clusters, memory.
//! Everything is read when it is asked for and kept nowhere else, so no event is counted twice. Labels are directions,
//! workers and clusters, whose numbers are fixed at start.

use std::sync::Arc;
use std::time::Instant;

use bowline_engine::engine::Handle;
use bowline_engine::stats::Stats;
use bowline_engine::stats::WorkerStats;

use crate::application::Gateway;
use crate::cluster::EndpointView;
use crate::config::plan::Plan;
use crate::metrics::Sample;
use crate::metrics::SampleKind;
use crate::metrics::SampleSource;

use super::ready::engine_name;

/// The figures of a running gateway.
pub(super) struct Samples {
    handle: Handle<Gateway>,
    gateway: Gateway,
    plan: Arc<Plan>,
    started: Instant,
}

impl Samples {
    /// Those of `handle`, counted from now on.
    pub(super) fn new(plan: Arc<Plan>, gateway: Gateway, handle: Handle<Gateway>) -> Samples {
        Samples { handle, gateway, plan, started: Instant::now() }
    }

    fn figures(&self) -> Figures {
        let now = self.handle.now();
        let cluster = |(at, cluster): (usize, &crate::config::plan::ClusterPlan)| {
            ClusterFigures::of(&cluster.name, &self.gateway.endpoints(at, now))
        };
        Figures {
            stats: self.handle.stats(),
            open: open_connections(&self.gateway, &self.handle),
            large_frame_bytes: self.gateway.large_frame_bytes(),
            clusters: self.plan.clusters.iter().enumerate().map(cluster).collect(),
            uptime_s: self.started.elapsed().as_secs_f64(),
        }
    }
}

impl SampleSource for Samples {
    fn for_each(&self, each: &mut dyn FnMut(Sample)) {
        self.figures().for_each(&self.plan, each);
    }
}

/// Open connections by where they come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenByDirection {
    /// Of clients.
    pub(super) downstream: usize,
    /// To endpoints.
    pub(super) upstream: usize,
    /// That the embedded upstream accepted.
    pub(super) echo: usize,
}

/// Counts the open connections of an engine.
pub(super) fn open_connections(gateway: &Gateway, handle: &Handle<Gateway>) -> OpenByDirection {
    let mut open = OpenByDirection::default();
    let echo = gateway.echo_listener();
    handle.for_each(|info| match info.listener {
        None => open.upstream += 1,
        Some(listener) if listener == echo => open.echo += 1,
        Some(_) => open.downstream += 1,
    });
    open
}

/// Everything that is shown, at one moment.
#[derive(Debug)]
struct Figures {
    stats: Stats,
    open: OpenByDirection,
    large_frame_bytes: usize,
    clusters: Vec<ClusterFigures>,
    uptime_s: f64,
}

/// The endpoints of a cluster in sum: as many series as clusters, however many addresses their names have.
#[derive(Debug)]
struct ClusterFigures {
    name: String,
    endpoints: usize,
    usable: usize,
    requests: usize,
    output_bytes: usize,
}

impl ClusterFigures {
    fn of(name: &str, endpoints: &[EndpointView]) -> ClusterFigures {
        ClusterFigures {
            name: name.to_owned(),
            endpoints: endpoints.len(),
            usable: endpoints.iter().filter(|endpoint| endpoint.is_usable).count(),
            requests: endpoints.iter().map(|endpoint| endpoint.requests).sum(),
            output_bytes: endpoints.iter().map(|endpoint| endpoint.output_bytes).sum(),
        }
    }
}

impl Figures {
    fn for_each(&self, plan: &Plan, each: &mut dyn FnMut(Sample)) {
        let one = |name, help, value| gauge(name, help, None, value);
        each(gauge("build_info", BUILD_HELP, Some(("version", env!("CARGO_PKG_VERSION").to_owned())), 1.0));
        let engine = Some(("engine", engine_name(plan.engine.mode).to_owned()));
        each(gauge("engine_info", "The engine that runs", engine, 1.0));
        each(one("uptime_seconds", "Since this process was started", self.uptime_s));
        self.connections(plan, each);
        self.memory(plan, each);
        self.workers(each);
        self.clusters(each);
    }

    fn connections(&self, plan: &Plan, each: &mut dyn FnMut(Sample)) {
        let OpenByDirection { downstream, upstream, echo } = self.open;
        for (direction, count) in [("downstream", downstream), ("upstream", upstream), ("echo", echo)] {
            let label = Some(("direction", direction.to_owned()));
            each(gauge("connections_open", OPEN_HELP, label, count as f64));
        }
        let most = plan.engine.connections_max as f64;
        each(gauge(
            "connections_open_limit",
            "Connections of clients that may be open at a time",
            None,
            most,
        ));
        let stranded = self.stats.stranded as f64;
        each(gauge("connections_stranded", STRANDED_HELP, None, stranded));
        let stats = &self.stats;
        each(counter("connections_refused_limit", REFUSED_LIMIT_HELP, None, stats.refused_limit));
        each(counter("connections_refused_source", REFUSED_SOURCE_HELP, None, stats.refused_source));
        each(counter("accept_pauses", PAUSES_HELP, None, stats.accept_pauses));
        each(counter("accept_attempts_starved", STARVED_HELP, None, stats.accept_attempts_starved));
    }

    fn memory(&self, plan: &Plan, each: &mut dyn FnMut(Sample)) {
        let stats = &self.stats;
        let rows = [
            ("buffer_bytes", "Buffer memory in use", stats.buffer_bytes as f64),
            ("buffer_idle_bytes", "Buffer memory kept for use", stats.buffer_idle_bytes as f64),
            (
                "buffer_limit_bytes",
                "The ceiling of buffer memory",
                plan.engine.buffer_memory_bytes_max as f64,
            ),
            (
                "large_frame_bytes",
                "Reserved for large frames that are arriving",
                self.large_frame_bytes as f64,
            ),
            ("large_frame_limit_bytes", "What may be reserved", plan.limits.large_frame_bytes_max as f64),
        ];
        for (name, help, value) in rows {
            each(gauge(name, help, None, value));
        }
        each(counter("buffers_refused", "Buffers refused at the ceiling", None, stats.buffers_refused));
    }

    fn workers(&self, each: &mut dyn FnMut(Sample)) {
        for (name, help, value) in WORKER_COUNTERS {
            for (at, worker) in self.stats.workers.iter().enumerate() {
                each(counter(name, help, Some(("worker", at.to_string())), value(worker)));
            }
        }
        for (name, help, value) in WORKER_GAUGES {
            for (at, worker) in self.stats.workers.iter().enumerate() {
                each(gauge(name, help, Some(("worker", at.to_string())), value(worker)));
            }
        }
    }

    fn clusters(&self, each: &mut dyn FnMut(Sample)) {
        for (name, help, value) in CLUSTER_GAUGES {
            for cluster in &self.clusters {
                each(gauge(name, help, Some(("cluster", cluster.name.clone())), value(cluster) as f64));
            }
        }
    }
}

type WorkerCounter = (&'static str, &'static str, fn(&WorkerStats) -> u64);
type WorkerGauge = (&'static str, &'static str, fn(&WorkerStats) -> f64);
type ClusterGauge = (&'static str, &'static str, fn(&ClusterFigures) -> usize);

const WORKER_COUNTERS: [WorkerCounter; 10] = [
    ("worker_turns", "Turns of connections", |worker| worker.turns),
    ("worker_batches", "Batches of turns", |worker| worker.batches),
    ("worker_waits", "Returns of epoll_wait", |worker| worker.waits),
    ("worker_events", "Events of the reactor", |worker| worker.events),
    ("worker_stolen", "Connections taken from other workers", |worker| worker.stolen),
    ("worker_moves", "Connections given another reactor", |worker| worker.moves),
    ("worker_wakes", "Sleeping workers woken", |worker| worker.wakes),
    ("worker_mail", "Mail handed to connections", |worker| worker.mail),
    ("worker_bounces", "Mail sent back since its receiver was gone", |worker| worker.bounces),
    ("worker_orphans", "Mail whose sender was gone as well", |worker| worker.orphans),
];

const WORKER_GAUGES: [WorkerGauge; 2] = [
    ("worker_queue_length", "Connections queued after the last batch", |worker| worker.queued as f64),
    (
        "worker_lag_max_seconds",
        "Longest time between two looks at the reactor while work was queued",
        |worker| worker.lag_us_max as f64 / 1e6,
    ),
];

const CLUSTER_GAUGES: [ClusterGauge; 4] = [
    ("cluster_endpoints", "Endpoints of the cluster", |cluster| cluster.endpoints),
    (
        "cluster_endpoints_usable",
        "Endpoints that are not left alone for having been unreachable",
        |cluster| cluster.usable,
    ),
    ("cluster_requests_in_flight", "Requests in flight at the endpoints of the cluster", |cluster| {
        cluster.requests
    }),
    ("cluster_output_bytes", "Bytes queued for the endpoints of the cluster", |cluster| cluster.output_bytes),
];

const BUILD_HELP: &str = "The version of this program";
const OPEN_HELP: &str = "Open connections: of clients, to endpoints, and accepted by the embedded upstream";
const STRANDED_HELP: &str = "Connections that want to be read and could not be woken: must be 0";
const REFUSED_LIMIT_HELP: &str = "Connections refused by the limit of the process";
const REFUSED_SOURCE_HELP: &str = "Connections refused by the limit per source address";
const PAUSES_HELP: &str = "Times accepting paused because no descriptor was left";
const STARVED_HELP: &str = "Attempts to accept while no descriptor was left";

fn gauge(
    name: &'static str,
    help: &'static str,
    label: Option<(&'static str, String)>,
    value: f64,
) -> Sample {
    Sample { name, help, kind: SampleKind::Gauge, label, value }
}

fn counter(
    name: &'static str,
    help: &'static str,
    label: Option<(&'static str, String)>,
    value: u64,
) -> Sample {
    Sample { name, help, kind: SampleKind::Counter, label, value: value as f64 }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::metrics::Count;
    use crate::metrics::Counters;
    use crate::metrics::Metrics;

    /// Figures that stand in for a running engine's.
    struct Fixed(Figures);

    impl SampleSource for Fixed {
        fn for_each(&self, each: &mut dyn FnMut(Sample)) {
            self.0.for_each(&Plan::default(), each);
        }
    }

    fn endpoint(requests: usize, is_usable: bool) -> EndpointView {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        EndpointView { address, requests, output_bytes: requests * 10, is_usable }
    }

    fn figures() -> Figures {
        let worker = |turns| WorkerStats { turns, lag_us_max: 1_500, queued: 3, ..WorkerStats::default() };
        let stats = Stats {
            refused_limit: 4,
            accept_pauses: 2,
            buffer_bytes: 65_536,
            workers: vec![worker(10), worker(20)],
            ..Stats::default()
        };
        Figures {
            stats,
            open: OpenByDirection { downstream: 7, upstream: 2, echo: 1 },
            large_frame_bytes: 99,
            clusters: vec![
                ClusterFigures::of("a", &[endpoint(3, true), endpoint(4, false)]),
                ClusterFigures::of("b\"\n", &[]),
            ],
            uptime_s: 1.5,
        }
    }

    fn text() -> String {
        Metrics::new(Counters::new(1), vec![Arc::new(Fixed(figures()))]).render().expect("it can be written")
    }

    #[test]
    fn the_engine_its_workers_and_clusters_are_shown() {
        let text = text();
        for line in [
            "bowline_connections_open{direction=\"downstream\"} 7.0",
            "bowline_connections_open{direction=\"upstream\"} 2.0",
            "bowline_connections_open{direction=\"echo\"} 1.0",
            "bowline_connections_refused_limit_total 4.0",
            "bowline_connections_refused_source_total 0.0",
            "bowline_accept_pauses_total 2.0",
            "bowline_connections_stranded 0.0",
            "bowline_buffer_bytes 65536.0",
            "bowline_large_frame_bytes 99.0",
            "bowline_worker_turns_total{worker=\"0\"} 10.0",
            "bowline_worker_turns_total{worker=\"1\"} 20.0",
            "bowline_worker_lag_max_seconds{worker=\"1\"} 0.0015",
            "bowline_cluster_endpoints_usable{cluster=\"a\"} 1.0",
            "bowline_cluster_requests_in_flight{cluster=\"a\"} 7.0",
            "bowline_cluster_output_bytes{cluster=\"a\"} 70.0",
            "bowline_cluster_endpoints{cluster=\"b\\\"\\n\"} 0.0",
            "bowline_uptime_seconds 1.5",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(text.contains("bowline_build_info{version=\"") && text.contains("engine=\"raw\""), "{text}");
    }

    #[test]
    fn every_name_is_declared_once_and_its_series_follow_each_other() {
        let text = text();
        let mut names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let before = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), before, "a metric stands twice: {text}");
    }

    #[test]
    fn no_figure_of_the_engine_is_also_counted_by_the_data_path() {
        let mut names = Vec::new();
        figures().for_each(&Plan::default(), &mut |sample| names.push(sample.name));
        for count in Count::ALL {
            assert!(!names.contains(&count.name()), "{count}");
        }
    }
}
