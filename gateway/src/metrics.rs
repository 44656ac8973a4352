//! Counters of the data path and their text form. [`Counters`] is one cache-padded [`Shard`] of
//! relaxed atomics per worker, so counting takes no lock, allocates nothing and shares no cache line;
//! shards are summed only when `/metrics` is read. It never resets a counter, and knows no
//! connection. Machines and drivers count; the admin interface renders.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::error::CloseReason;
use crate::error::Failure;
use crate::error::vocabulary;

vocabulary! {
    /// An event that is only counted. Its metric is `bowline_<name>_total`.
    Count: &'static str {
        /// Connections accepted from clients, without those refused by a limit: the engine counts these.
        DownstreamConnectionsAccepted = "downstream_connections_accepted", "Connections accepted from clients";
        /// Connections opened to upstream endpoints.
        UpstreamConnectionsOpened = "upstream_connections_opened", "Connections opened to upstream endpoints";
        /// Attempts to open an upstream connection that failed.
        UpstreamConnectFailures = "upstream_connect_failures", "Attempts to open an upstream connection that failed";
        /// Requests read from clients, oneway ones included.
        Requests = "requests", "Requests read from clients, oneway included";
        /// Oneway requests read from clients.
        RequestsOneway = "requests_oneway", "Oneway requests read from clients";
        /// Requests and tunnels tried again: the endpoint could not be reached, or a used connection to it was stale.
        Retries = "retries", "Requests and tunnels tried again, since an endpoint could not be reached or a used connection was stale";
        /// What was not tried again because the retry budget of its cluster was used up.
        RetriesRefused = "retries_refused", "Requests and tunnels not tried again since the retry budget of their cluster was used up";
        /// Responses of upstream servers passed to clients.
        Responses = "responses", "Responses of upstream servers passed to clients";
        /// Requests that servers made of their clients.
        Callbacks = "callbacks", "Requests from servers to clients over bound connections";
        /// Replies that came after their request had ended, and were dropped.
        LateReplies = "late_replies", "Replies dropped because their request had already ended";
        /// Heartbeats of clients answered by the gateway.
        HeartbeatsAnswered = "heartbeats_answered", "Heartbeats answered by the gateway";
        /// Heartbeats sent to idle upstream connections.
        HeartbeatsSent = "heartbeats_sent", "Heartbeats sent on idle upstream connections";
        /// Heartbeats that the upstream did not answer in time.
        HeartbeatsMissed = "heartbeats_missed", "Heartbeats not answered in time by the upstream";
        /// Goaway frames read from upstream servers.
        GoawaysReceived = "goaways_received", "Goaway frames received from upstream servers";
        /// Goaway frames sent to clients.
        GoawaysSent = "goaways_sent", "Goaway frames sent to clients";
        /// Tunnels opened between a client and an upstream endpoint.
        Tunnels = "tunnels", "TCP tunnels opened";
        /// Close frames that the gateway sent into WebSockets.
        WebsocketClosesSent = "websocket_closes_sent", "Close frames sent on WebSockets because of a drain";
        /// Bytes read from clients.
        DownstreamReadBytes = "downstream_read_bytes", "Bytes read from clients";
        /// Bytes written to clients.
        DownstreamWrittenBytes = "downstream_written_bytes", "Bytes written to clients";
        /// Bytes read from upstream endpoints.
        UpstreamReadBytes = "upstream_read_bytes", "Bytes read from upstream endpoints";
        /// Bytes written to upstream endpoints.
        UpstreamWrittenBytes = "upstream_written_bytes", "Bytes written to upstream endpoints";
        /// Lookups of endpoint names that failed.
        ResolveFailures = "resolve_failures", "Lookups of endpoint names that failed";
    }
}

impl Count {
    fn help(self) -> &'static str {
        Self::ROWS[self.index()].1
    }
}

/// The counters of one thread: only that one may add to it, and anyone may read. So adding takes no locked instruction,
/// of which a request would pay nine. What a request touches stands together.
#[derive(Debug)]
#[repr(C)]
pub struct Shard {
    counts: [AtomicU64; Count::COUNT],
    duration_ms_sum: AtomicU64,
    durations: [AtomicU64; DURATION_BOUNDS_MS.len() + 1],
    failures: [AtomicU64; Failure::COUNT],
    closes: [AtomicU64; CloseReason::COUNT],
}

/// Adds to a counter that no other thread adds to.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl Shard {
    fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; Count::COUNT],
            failures: [const { AtomicU64::new(0) }; Failure::COUNT],
            closes: [const { AtomicU64::new(0) }; CloseReason::COUNT],
            durations: [const { AtomicU64::new(0) }; DURATION_BOUNDS_MS.len() + 1],
            duration_ms_sum: AtomicU64::new(0),
        }
    }

    /// Counts one event.
    pub fn count(&self, what: Count) {
        self.add(what, 1);
    }

    /// Counts `amount` events or bytes.
    pub fn add(&self, what: Count, amount: u64) {
        add(&self.counts[what.index()], amount);
    }

    /// Counts a request that failed.
    pub fn fail(&self, failure: Failure) {
        add(&self.failures[failure.index()], 1);
    }

    /// Counts a connection that was closed.
    pub fn close(&self, reason: CloseReason) {
        add(&self.closes[reason.index()], 1);
    }

    /// Files the time from a request's first byte to the queueing of its reply. Machines see whole milliseconds.
    pub fn observe_request_ms(&self, elapsed_ms: u64) {
        let bucket = DURATION_BOUNDS_MS.partition_point(|&bound| bound < elapsed_ms);
        add(&self.durations[bucket], 1);
        add(&self.duration_ms_sum, elapsed_ms);
    }
}

/// Upper bounds of the duration buckets, in milliseconds; one bucket above the last has no bound. None is below a
/// millisecond, for that is the step of the clock.
const DURATION_BOUNDS_MS: [u64; 13] = [1, 2, 3, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 10_000];

/// All counters of the process: one shard per worker and one for the one other thread that counts, the resolver.
#[derive(Debug)]
pub struct Counters {
    shards: Box<[CachePadded<Shard>]>,
}

impl Counters {
    /// Counters for a pool of `workers` threads.
    pub fn new(workers: usize) -> Arc<Self> {
        let shards = (0..=workers).map(|_| CachePadded::new(Shard::new())).collect();
        Arc::new(Self { shards })
    }

    /// The shard of a worker of the pool. Two that shared one would lose counts, so another number is a defect.
    pub fn shard(&self, worker: usize) -> &Shard {
        let workers = self.shards.len() - 1;
        assert!(worker < workers, "worker {worker} of {workers}");
        &self.shards[worker]
    }

    /// The shard of the thread that is no worker and counts: the resolver.
    pub fn control(&self) -> &Shard {
        &self.shards[self.shards.len() - 1]
    }

    /// The sum of one count over all workers.
    pub fn total(&self, what: Count) -> u64 {
        self.sum(|shard| &shard.counts[what.index()])
    }

    /// How often a failure was answered.
    pub fn failures(&self, failure: Failure) -> u64 {
        self.sum(|shard| &shard.failures[failure.index()])
    }

    /// How many connections were closed for a reason.
    pub fn closes(&self, reason: CloseReason) -> u64 {
        self.sum(|shard| &shard.closes[reason.index()])
    }

    fn sum(&self, cell: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| cell(shard).load(Ordering::Relaxed)).sum()
    }
}

/// A value that is read when `/metrics` is: queue lengths, memory, open connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name without the `bowline_` prefix and without `_total`, ending in its base unit.
    pub name: &'static str,
    /// One sentence of help.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: SampleKind,
    /// One label, if samples of this name differ by one.
    pub label: Option<(&'static str, String)>,
    /// The value now.
    pub value: f64,
}

/// Whether a [`Sample`] can fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// Rises and falls.
    Gauge,
    /// Only rises; `_total` is appended to its name.
    Counter,
}

/// Whoever has values that are not events of the data path (engine statistics, open connections).
/// Samples of one name must follow each other.
pub trait SampleSource: Send + Sync + 'static {
    /// Hands every sample to `each`.
    fn for_each(&self, each: &mut dyn FnMut(Sample));
}

/// Everything `/metrics` shows.
pub struct Metrics {
    registry: Registry,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Renders `counters` and what `sources` report, at every call of [`Self::render`].
    pub fn new(counters: Arc<Counters>, sources: Vec<Arc<dyn SampleSource>>) -> Self {
        let mut registry = Registry::with_prefix("bowline");
        registry.register_collector(Box::new(CountersCollector { counters }));
        registry.register_collector(Box::new(SamplesCollector { sources }));
        Self { registry }
    }

    /// The text that Prometheus reads, in the OpenMetrics format.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[derive(Debug)]
struct CountersCollector {
    counters: Arc<Counters>,
}

impl Collector for CountersCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for &what in Count::ALL {
            let value = ConstCounter::new(self.counters.total(what));
            value.encode(encoder.encode_descriptor(
                what.name(),
                what.help(),
                None,
                MetricType::Counter,
            )?)?;
        }
        self.encode_failures(&mut encoder)?;
        self.encode_closes(&mut encoder)?;
        self.encode_durations(&mut encoder)
    }
}

impl CountersCollector {
    fn encode_failures(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "Requests answered with a failure, by failure";
        let mut family = encoder.encode_descriptor("request_failures", help, None, MetricType::Counter)?;
        for &failure in Failure::ALL {
            let labels = [("failure", failure.name())];
            ConstCounter::new(self.counters.failures(failure)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_closes(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "Connections closed, by reason and by who closed";
        let mut family = encoder.encode_descriptor("connections_closed", help, None, MetricType::Counter)?;
        for &reason in CloseReason::ALL {
            let labels = [("reason", reason.name()), ("closed_by", reason.closed_by().name())];
            ConstCounter::new(self.counters.closes(reason)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_durations(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "Time from a request's first byte to the queueing of its reply, in steps of 1 ms";
        let mut metric = encoder.encode_descriptor(
            "request_duration",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        let mut buckets = [(f64::INFINITY, 0); DURATION_BOUNDS_MS.len() + 1];
        for (at, bucket) in buckets.iter_mut().enumerate() {
            let bound = DURATION_BOUNDS_MS.get(at).map_or(f64::INFINITY, |&ms| ms as f64 / 1e3);
            *bucket = (bound, self.counters.sum(|shard| &shard.durations[at]));
        }
        let count = buckets.iter().map(|&(_, count)| count).sum();
        let sum_s = self.counters.sum(|shard| &shard.duration_ms_sum) as f64 / 1e3;
        metric.encode_histogram::<NoLabelSet>(sum_s, count, &buckets, None)
    }
}

/// The label set of a metric without labels.
const NO_LABELS: [(&str, &str); 0] = [];

struct SamplesCollector {
    sources: Vec<Arc<dyn SampleSource>>,
}

impl fmt::Debug for SamplesCollector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SamplesCollector").field("sources", &self.sources.len()).finish()
    }
}

impl Collector for SamplesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut samples = Vec::new();
        for source in &self.sources {
            source.for_each(&mut |sample| samples.push(sample));
        }
        for group in samples.chunk_by(|a, b| a.name == b.name) {
            encode_group(&mut encoder, group)?;
        }
        Ok(())
    }
}

fn encode_group(encoder: &mut DescriptorEncoder, group: &[Sample]) -> Result<(), fmt::Error> {
    let kind = match group[0].kind {
        SampleKind::Gauge => MetricType::Gauge,
        SampleKind::Counter => MetricType::Counter,
    };
    let mut family = encoder.encode_descriptor(group[0].name, group[0].help, None, kind)?;
    for sample in group {
        match (sample.kind, &sample.label) {
            (SampleKind::Gauge, None) => {
                ConstGauge::new(sample.value).encode(family.encode_family(&NO_LABELS)?)?
            }
            (SampleKind::Gauge, Some((key, value))) => {
                ConstGauge::new(sample.value).encode(family.encode_family(&[(*key, value.as_str())])?)?;
            }
            (SampleKind::Counter, None) => {
                ConstCounter::new(sample.value).encode(family.encode_family(&NO_LABELS)?)?;
            }
            (SampleKind::Counter, Some((key, value))) => {
                ConstCounter::new(sample.value).encode(family.encode_family(&[(*key, value.as_str())])?)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Vec<Sample>);

    impl SampleSource for Fixed {
        fn for_each(&self, each: &mut dyn FnMut(Sample)) {
            self.0.iter().cloned().for_each(each);
        }
    }

    #[test]
    fn shards_are_summed() {
        let counters = Counters::new(2);
        counters.shard(0).count(Count::Requests);
        counters.shard(1).add(Count::Requests, 4);
        counters.control().count(Count::Requests);
        assert_eq!(counters.total(Count::Requests), 6);
        assert_eq!(counters.total(Count::Responses), 0);
    }

    #[test]
    fn what_a_worker_counts_is_read_by_others_while_it_counts() {
        let counters = Counters::new(2);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let shard = counters.shard(worker);
                scope.spawn(move || (0..1_000).for_each(|_| shard.count(Count::Requests)));
            }
            let mut before = 0;
            while before < 2_000 {
                let now = counters.total(Count::Requests);
                assert!(now >= before, "{now} after {before}");
                before = now;
                std::thread::yield_now();
            }
        });
        assert_eq!(counters.total(Count::Requests), 2_000);
    }

    #[test]
    fn the_thread_that_is_no_worker_counts_beside_them() {
        let counters = Counters::new(1);
        counters.shard(0).fail(Failure::Timeout);
        counters.control().fail(Failure::Timeout);
        assert_eq!(counters.failures(Failure::Timeout), 2);
        let beyond = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            counters.shard(1).fail(Failure::Timeout)
        }));
        assert!(beyond.is_err(), "it would share the shard of another thread");
    }

    #[test]
    fn the_text_names_every_count_failure_and_reason() {
        let counters = Counters::new(1);
        counters.shard(0).close(CloseReason::SlowReader);
        let text = Metrics::new(Arc::clone(&counters), Vec::new()).render().unwrap();
        for count in Count::ALL {
            assert!(text.contains(&format!("\nbowline_{}_total 0\n", count.name())), "{count}\n{text}");
        }
        for failure in Failure::ALL {
            let line = format!("bowline_request_failures_total{{failure=\"{failure}\"}} 0\n");
            assert!(text.contains(&line), "{line}");
        }
        let line = "bowline_connections_closed_total{reason=\"slow_reader\",closed_by=\"gateway\"} 1\n";
        assert!(text.contains(line), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_duration_lands_in_the_bucket_that_holds_it() {
        let counters = Counters::new(1);
        counters.shard(0).observe_request_ms(10);
        counters.shard(0).observe_request_ms(11);
        counters.shard(0).observe_request_ms(u64::from(u32::MAX));
        let text = Metrics::new(counters, Vec::new()).render().unwrap();
        assert!(text.contains("bowline_request_duration_seconds_bucket{le=\"0.01\"} 1\n"), "{text}");
        assert!(text.contains("bowline_request_duration_seconds_bucket{le=\"0.025\"} 2\n"), "{text}");
        assert!(text.contains("bowline_request_duration_seconds_bucket{le=\"+Inf\"} 3\n"), "{text}");
        assert!(text.contains("bowline_request_duration_seconds_count 3\n"), "{text}");
    }

    #[test]
    fn samples_of_one_name_share_one_header() {
        let sample = |reactor: &str, value| Sample {
            name: "queue_length",
            help: "Slots queued",
            kind: SampleKind::Gauge,
            label: Some(("reactor", reactor.to_owned())),
            value,
        };
        let total = Sample { name: "steals", kind: SampleKind::Counter, label: None, ..sample("", 3.0) };
        let source = Arc::new(Fixed(vec![sample("0", 1.0), sample("1", 2.0), total]));
        let text = Metrics::new(Counters::new(1), vec![source]).render().unwrap();
        assert_eq!(text.matches("# TYPE bowline_queue_length gauge").count(), 1, "{text}");
        assert!(text.contains("bowline_queue_length{reactor=\"1\"} 2.0\n"), "{text}");
        assert!(text.contains("bowline_steals_total 3.0\n"), "{text}");
    }
}
