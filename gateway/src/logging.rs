//! Structured logs: where lines go, in which form, and the lines that several modules write alike. Writing never waits:
//! lines pass through a bounded queue to one thread, and those that find it full, or that the target does not take, are
//! dropped and counted. Every module above it logs; the program starts it once.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::ErrorCounter;
use tracing_appender::non_blocking::NonBlockingBuilder;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::config::plan::LogFormat;
use crate::config::plan::LogPlan;
use crate::error::CloseReason;
use crate::error::Failure;
use crate::metrics::Sample;
use crate::metrics::SampleKind;
use crate::metrics::SampleSource;

/// The running log. Lines that are still queued are written when it is dropped.
#[derive(Debug)]
pub struct Logging {
    _flush: WorkerGuard,
    /// Counts lines that were dropped; a source of [`crate::metrics::Metrics`].
    pub dropped: DroppedLines,
}

/// Starts the log of this process; only the first call can.
pub fn start(plan: &LogPlan) -> io::Result<Logging> {
    let target: Box<dyn Write + Send> = match &plan.file {
        None => Box::new(io::stderr()),
        Some(path) => {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            Box::new(
                opened
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?,
            )
        }
    };
    let failed = Arc::new(AtomicU64::new(0));
    let target = Counting { target, failed: Arc::clone(&failed) };
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_QUEUED_MAX);
    let (writer, guard) = builder.thread_name("log").finish(target);
    let dropped = DroppedLines { overflowed: writer.error_counter(), failed };
    tracing::subscriber::set_global_default(subscriber(plan, writer)).map_err(io::Error::other)?;
    Ok(Logging { _flush: guard, dropped })
}

/// Lines that wait to be written; more are dropped.
const LINES_QUEUED_MAX: usize = 8_192;

/// The target of access lines.
pub const ACCESS: &str = "access";

fn subscriber<W>(plan: &LogPlan, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let access = if plan.access { LevelFilter::INFO } else { LevelFilter::OFF };
    // The plan lets only valid levels through; `info` is what it says where nothing was said.
    let levels =
        Targets::from_str(&plan.level).unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let levels = levels.with_target(ACCESS, access);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    match plan.format {
        LogFormat::Text => Box::new(tracing_subscriber::registry().with(lines.with_filter(levels))),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            Box::new(tracing_subscriber::registry().with(lines.with_filter(levels)))
        }
    }
}

/// Counts the lines that its target did not take whole: the log's own thread has nobody to tell. It is handed one line
/// at a time.
struct Counting<W> {
    target: W,
    failed: Arc<AtomicU64>,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.target.write(bytes)
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.target.write_all(line).inspect_err(|_| {
            self.failed.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

/// How many lines were lost: those that found the queue full, and those that could not be written.
#[derive(Clone)]
pub struct DroppedLines {
    overflowed: ErrorCounter,
    failed: Arc<AtomicU64>,
}

impl DroppedLines {
    fn total(&self) -> u64 {
        self.overflowed.dropped_lines() as u64 + self.failed.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for DroppedLines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("DroppedLines").field(&self.total()).finish()
    }
}

impl SampleSource for DroppedLines {
    fn for_each(&self, each: &mut dyn FnMut(Sample)) {
        each(Sample {
            name: "log_lines_dropped",
            help: "Log lines dropped because their reader is slow, or because they could not be written",
            kind: SampleKind::Counter,
            label: None,
            value: self.total() as f64,
        });
    }
}

/// Logs that a connection was opened. `listener` is the cluster's name for a connection to an upstream.
pub fn connection_opened(id: u64, peer: SocketAddr, listener: &str) {
    tracing::debug!(target: CONNECTION, id, %peer, listener, "opened");
}

/// What is said about a connection that was closed.
#[derive(Clone, Copy, Debug)]
pub struct ClosedConnection<'a> {
    /// Its id, as `/connections` shows it.
    pub id: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// The listener, or the cluster of a connection to an upstream.
    pub listener: &'a str,
    /// Why it was closed.
    pub reason: CloseReason,
    /// How long it was open.
    pub age_ms: u64,
    /// Bytes read from it.
    pub bytes_in: u64,
    /// Bytes written to it.
    pub bytes_out: u64,
    /// Requests that it carried.
    pub requests: u64,
}

/// Logs that a connection was closed, why and by whom.
pub fn connection_closed(closed: &ClosedConnection<'_>) {
    tracing::debug!(
        target: CONNECTION,
        id = closed.id,
        peer = %closed.peer,
        listener = closed.listener,
        reason = closed.reason.name(),
        closed_by = closed.reason.closed_by().name(),
        age_ms = closed.age_ms,
        bytes_in = closed.bytes_in,
        bytes_out = closed.bytes_out,
        requests = closed.requests,
        "closed"
    );
}

/// The target of lines about connections.
const CONNECTION: &str = "bowline::connection";

/// What is said about a request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// The id of the connection that it came on.
    pub connection: u64,
    /// The client.
    pub peer: SocketAddr,
    /// The listener.
    pub listener: &'a str,
    /// The value of the header that routed it; empty if there was none.
    pub service: &'a str,
    /// The cluster that it was routed to; empty if there was none.
    pub cluster: &'a str,
    /// The Bolt status of the answer; none for a oneway request, or where the client left before.
    pub status: Option<u16>,
    /// What failed, if the gateway answered by itself.
    pub failure: Option<Failure>,
    /// From its first byte to the queueing of the answer.
    pub duration_us: u64,
    /// Its bytes.
    pub bytes_in: u64,
    /// The bytes of its answer.
    pub bytes_out: u64,
}

/// Logs what of HTTP a peer broke, at debug: whoever wants that can make as many as it likes.
pub fn http_refused(connection: u64, fault: &'static str) {
    tracing::debug!(connection, fault, "http refused");
}

/// Whether access lines are written, so that nobody collects what nobody reads.
pub fn is_access_on() -> bool {
    tracing::enabled!(target: ACCESS, tracing::Level::INFO)
}

/// Logs a request that has ended. What came from the network is quoted and escaped.
pub fn access(line: &Access<'_>) {
    tracing::info!(
        target: ACCESS,
        connection = line.connection,
        peer = %line.peer,
        listener = line.listener,
        service = line.service,
        cluster = line.cluster,
        status = line.status,
        failure = line.failure.map(Failure::name),
        duration_us = line.duration_us,
        bytes_in = line.bytes_in,
        bytes_out = line.bytes_out,
        "request"
    );
}

/// Lets one line through per interval and counts the others: a peer must not be able to fill the log. Meant to be a
/// `static`, one per place that warns.
#[derive(Debug)]
pub struct RateLimit {
    interval_ms: u64,
    next_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl RateLimit {
    /// One line per `interval_ms`.
    pub const fn new(interval_ms: u64) -> RateLimit {
        RateLimit { interval_ms, next_ms: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// How many were held back since the last one, if this one may pass. `now_ms` comes from any clock that only grows.
    pub fn pass(&self, now_ms: u64) -> Option<u64> {
        let next = self.next_ms.load(Ordering::Relaxed);
        let after = now_ms.saturating_add(self.interval_ms);
        let free = now_ms >= next
            && self.next_ms.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if free {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Warns, at most once per interval of `limit`.
pub fn warn_limited(limit: &RateLimit, now_ms: u64, message: fmt::Arguments<'_>) {
    if let Some(suppressed) = limit.pass(now_ms) {
        tracing::warn!(target: "bowline", suppressed, "{message}");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Memory {
        type Writer = Memory;

        fn make_writer(&self) -> Memory {
            self.clone()
        }
    }

    /// What `work` logs on this thread.
    pub(crate) fn logged(level: &str, format: LogFormat, access: bool, work: impl FnOnce()) -> String {
        let memory = Memory::default();
        let plan = LogPlan { level: level.to_owned(), format, access, file: None };
        tracing::subscriber::with_default(subscriber(&plan, memory.clone()), work);
        let bytes = memory.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    fn peer() -> SocketAddr {
        "127.0.0.1:9".parse().expect("an address")
    }

    fn close_one() {
        connection_closed(&ClosedConnection {
            id: 7,
            peer: peer(),
            listener: "front",
            reason: CloseReason::SlowReader,
            age_ms: 5,
            bytes_in: 1,
            bytes_out: 2,
            requests: 3,
        });
    }

    fn request_of(service: &str) {
        access(&Access {
            connection: 7,
            peer: peer(),
            listener: "front",
            service,
            cluster: "",
            status: Some(6),
            failure: Some(Failure::NoRoute),
            duration_us: 10,
            bytes_in: 1,
            bytes_out: 2,
        });
    }

    #[test]
    fn a_closed_connection_is_one_line_of_json_at_debug() {
        let text = logged("debug", LogFormat::Json, false, || {
            connection_opened(7, peer(), "front");
            close_one();
        });
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["message"], &lines[0]["id"]), (&"opened".into(), &7.into()));
        assert_eq!((&lines[1]["reason"], &lines[1]["closed_by"]), (&"slow_reader".into(), &"gateway".into()));
        assert_eq!((&lines[1]["peer"], &lines[1]["requests"]), (&"127.0.0.1:9".into(), &3.into()));
        assert_eq!((&lines[1]["age_ms"], &lines[1]["bytes_out"]), (&5.into(), &2.into()));
    }

    #[test]
    fn a_level_above_debug_hides_connections() {
        assert_eq!(logged("info", LogFormat::Text, false, close_one), "");
        let text = logged("error,bowline::connection=debug", LogFormat::Text, false, close_one);
        assert!(text.contains("reason=\"slow_reader\""), "{text}");
    }

    #[test]
    fn access_lines_are_switched_apart_from_the_level() {
        let quiet = logged("trace", LogFormat::Text, false, || {
            assert!(!is_access_on());
            request_of("demo");
        });
        assert_eq!(quiet, "");
        let text = logged("error", LogFormat::Text, true, || {
            assert!(is_access_on());
            request_of("demo");
        });
        assert!(text.contains("service=\"demo\"") && text.contains("failure=\"no_route\""), "{text}");
    }

    #[test]
    fn what_came_from_the_network_cannot_forge_a_line() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged("info", format, true, || request_of("x\n2026 INFO forged\u{1b}[2J"));
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn one_warning_per_interval_says_how_many_were_held_back() {
        let limit = RateLimit::new(1_000);
        let text = logged("warn", LogFormat::Text, false, || {
            for now_ms in [5, 6, 700, 1_005, 1_006] {
                warn_limited(&limit, now_ms, format_args!("no descriptor is left"));
            }
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("suppressed=0") && text.contains("suppressed=2"), "{text}");
    }

    #[test]
    fn a_line_that_the_target_does_not_take_is_counted() {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("the device of that name");
        let failed = Arc::new(AtomicU64::new(0));
        let target = Counting { target: full, failed: Arc::clone(&failed) };
        let (writer, guard) = NonBlockingBuilder::default().finish(target);
        let dropped = DroppedLines { overflowed: writer.error_counter(), failed };
        let plan = LogPlan { level: "info".to_owned(), format: LogFormat::Text, access: false, file: None };
        tracing::subscriber::with_default(subscriber(&plan, writer), || {
            (0..3).for_each(|number| tracing::info!(number, "lost"));
        });
        // The queue is written out when its guard is dropped.
        drop(guard);
        let mut samples = Vec::new();
        dropped.for_each(&mut |sample| samples.push((sample.name, sample.value)));
        assert_eq!(samples, [("log_lines_dropped", 3.0)]);
    }

    #[test]
    fn lines_go_through_the_queue_to_a_file() {
        let path = std::env::temp_dir().join(format!("bowline-log-{}", std::process::id()));
        let file = Some(path.clone());
        let plan = LogPlan { level: "info".to_owned(), format: LogFormat::Text, access: false, file };
        let logging = start(&plan).expect("nobody else starts it");
        tracing::info!("to the file");
        assert_eq!(logging.dropped.total(), 0);
        drop(logging);
        let text = std::fs::read_to_string(&path).expect("it was written");
        std::fs::remove_file(&path).expect("it is there");
        assert!(text.contains("to the file"), "{text}");
    }
}
