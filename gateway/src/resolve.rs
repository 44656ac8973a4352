//! Looks up the names of endpoints, again and again, on one thread of its own that is fixed at start, so that no data
//! path ever waits for it. The last good answer stands until a better one comes; failures are counted and tried again
//! sooner. It does not know what the addresses are for: whoever starts it says where answers go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use crate::metrics::Count;
use crate::metrics::Counters;

/// One name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The position of the cluster, handed back with answers.
    pub cluster: usize,
    /// The position of the name among the cluster's endpoints, handed back with answers.
    pub name: usize,
    /// The host name.
    pub host: String,
    /// The port of every address.
    pub port: u16,
    /// How long an answer is good.
    pub interval: Duration,
}

/// How a name is looked up.
pub type Lookup = Box<dyn FnMut(&str, u16) -> io::Result<Vec<SocketAddr>> + Send>;

/// Where answers go: cluster, name, addresses. Called on the resolver's thread, only with an answer that is not empty
/// and differs from the last one; it must not call the resolver back. Addresses are sorted, each stands once, and there are at most [`ADDRESSES_MAX`].
pub type Publish = Arc<dyn Fn(usize, usize, Vec<SocketAddr>) + Send + Sync>;

/// Addresses of one name that are used; more are left out.
pub const ADDRESSES_MAX: usize = 256;

/// A failed lookup is tried again after this, or after its interval where that is shorter.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The resolver's thread.
pub struct Resolver {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// Looks up `jobs` at once and then at their intervals. Without jobs there is no thread.
    pub fn start(
        jobs: Vec<Job>,
        lookup: Lookup,
        publish: Publish,
        counters: Arc<Counters>,
    ) -> io::Result<Resolver> {
        let stop = Arc::new(Stop::default());
        if jobs.is_empty() {
            return Ok(Resolver { stop, thread: None });
        }
        let worker = Worker { lookup, publish, counters, stop: Arc::clone(&stop) };
        let thread = thread::Builder::new().name("resolver".to_owned()).spawn(move || worker.run(jobs))?;
        Ok(Resolver { stop, thread: Some(thread) })
    }

    /// Lookups that have ended so far, their answers published. Every name is tried once before any is tried again.
    pub fn tries(&self) -> usize {
        self.stop.tries.load(Ordering::Acquire)
    }

    /// Publishes nothing more. Does not wait: a lookup under way may take its time, and ends with the process.
    pub fn stop(&self) {
        *self.stop.lock() = true;
        self.stop.changed.notify_all();
    }

    /// Stops, and waits for a lookup under way.
    pub fn join(mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of a lookup has been printed by its thread.
            drop(thread.join());
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The lookup of the operating system: `/etc/hosts`, then DNS as `/etc/resolv.conf` says.
pub fn system_lookup() -> Lookup {
    Box::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
}

#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
    tries: AtomicUsize,
}

impl Stop {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `due`; true if it is time to end.
    fn wait_until(&self, due: Instant) -> bool {
        let mut stopped = self.lock();
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if *stopped || left.is_zero() {
                return *stopped;
            }
            (stopped, _) = self.changed.wait_timeout(stopped, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Worker {
    lookup: Lookup,
    publish: Publish,
    counters: Arc<Counters>,
    stop: Arc<Stop>,
}

impl Worker {
    fn run(mut self, jobs: Vec<Job>) {
        let mut last: Vec<Vec<SocketAddr>> = vec![Vec::new(); jobs.len()];
        let now = Instant::now();
        let mut due: BinaryHeap<_> = (0..jobs.len()).map(|at| Reverse((now, at))).collect();
        while let Some(Reverse((when, at))) = due.pop() {
            if self.stop.wait_until(when) {
                return;
            }
            let job = &jobs[at];
            let answered = self.look_up(job, &mut last[at]);
            self.stop.tries.fetch_add(1, Ordering::Release);
            let pause = if answered { job.interval } else { job.interval.min(RETRY_AFTER) };
            due.push(Reverse((Instant::now() + pause, at)));
        }
    }

    /// True if there was an answer.
    fn look_up(&mut self, job: &Job, last: &mut Vec<SocketAddr>) -> bool {
        let answer = (self.lookup)(&job.host, job.port);
        let mut addresses = match answer {
            Ok(addresses) if !addresses.is_empty() => addresses,
            Ok(_) => return self.fail(job, "no address", last),
            Err(error) => return self.fail(job, &error.to_string(), last),
        };
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        // Held while publishing, so that nothing is published once `stop` has returned.
        let stopped = self.stop.lock();
        if addresses != *last && !*stopped {
            tracing::info!(host = job.host, count = addresses.len(), "the addresses of a name changed");
            last.clone_from(&addresses);
            (self.publish)(job.cluster, job.name, addresses);
        }
        true
    }

    fn fail(&self, job: &Job, why: &str, last: &[SocketAddr]) -> bool {
        self.counters.control().count(Count::ResolveFailures);
        let stands = if last.is_empty() { "it never had an answer" } else { "the last answer stands" };
        tracing::warn!(host = job.host, why, "a name could not be looked up; {stands}");
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::config::plan::LogFormat;
    use crate::logging::tests::logged;

    const PATIENCE: Duration = Duration::from_secs(20);

    type Answer = (usize, usize, Vec<SocketAddr>);

    fn job(cluster: usize, name: usize, host: &str) -> Job {
        Job { cluster, name, host: host.to_owned(), port: 80, interval: Duration::from_millis(1) }
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    /// A resolver whose n-th lookup gives the n-th of `answers`, and the last one ever after.
    fn resolver(
        jobs: Vec<Job>,
        answers: Vec<Result<Vec<SocketAddr>, io::ErrorKind>>,
    ) -> (Resolver, Receiver<Answer>, Arc<Counters>) {
        let (sender, receiver) = channel();
        let mut at = 0;
        let lookup: Lookup = Box::new(move |_, _| {
            let answer = answers[at.min(answers.len() - 1)].clone();
            at += 1;
            answer.map_err(io::Error::from)
        });
        let publish: Publish = Arc::new(move |cluster, name, addresses| {
            drop(sender.send((cluster, name, addresses)));
        });
        let counters = Counters::new(1);
        let resolver = Resolver::start(jobs, lookup, publish, Arc::clone(&counters)).expect("a thread");
        (resolver, receiver, counters)
    }

    #[test]
    fn an_answer_is_published_in_order_and_only_when_it_changes() {
        let first = Ok(vec![address(2), address(1), address(2)]);
        let same = Ok(vec![address(1), address(2)]);
        let (resolver, answers, _) =
            resolver(vec![job(3, 1, "a")], vec![first, same.clone(), same, Ok(vec![address(9)])]);
        let next = || answers.recv_timeout(PATIENCE).expect("an answer");
        assert_eq!(next(), (3, 1, vec![address(1), address(2)]));
        assert_eq!(next(), (3, 1, vec![address(9)]));
        resolver.join();
        assert!(answers.try_recv().is_err(), "the same answer is not published again");
    }

    #[test]
    fn failures_and_empty_answers_are_counted_and_the_last_answer_stands() {
        let script = vec![
            Err(io::ErrorKind::NotFound),
            Ok(vec![address(1)]),
            Err(io::ErrorKind::TimedOut),
            Ok(Vec::new()),
            Ok(vec![address(1)]),
            Ok(vec![address(2)]),
        ];
        let (resolver, answers, counters) = resolver(vec![job(0, 0, "a")], script);
        let next = || answers.recv_timeout(PATIENCE).expect("an answer").2;
        assert_eq!(next(), [address(1)]);
        assert_eq!(next(), [address(2)], "the failures between published nothing");
        resolver.join();
        assert_eq!(counters.total(Count::ResolveFailures), 3);
    }

    #[test]
    fn what_stands_after_a_failure_is_said_as_it_is() {
        let mut answers = [Err(io::ErrorKind::NotFound), Ok(vec![address(1)]), Ok(Vec::new())].into_iter();
        let lookup: Lookup = Box::new(move |_, _| answers.next().expect("one more").map_err(io::Error::from));
        let publish: Publish = Arc::new(|_, _, _| {});
        let mut worker = Worker { lookup, publish, counters: Counters::new(1), stop: Arc::default() };
        let (job, mut last) = (job(0, 0, "a"), Vec::new());
        let mut said = || {
            logged("warn", LogFormat::Text, false, || {
                worker.look_up(&job, &mut last);
            })
        };
        let first = said();
        assert!(first.contains("it never had an answer") && !first.contains("stands"), "{first}");
        assert_eq!(said(), "", "there is an answer");
        let third = said();
        assert!(third.contains("the last answer stands"), "{third}");
    }

    #[test]
    fn every_name_is_looked_up() {
        let (sender, answers) = channel();
        let lookup: Lookup =
            Box::new(|host, port| Ok(vec![SocketAddr::from(([10, 0, 0, host.len() as u8], port))]));
        let publish: Publish = Arc::new(move |cluster, name, _| {
            sender.send((cluster, name)).unwrap_or_default();
        });
        let jobs = vec![job(0, 0, "a"), job(0, 1, "bb"), job(1, 0, "ccc")];
        let resolver = Resolver::start(jobs, lookup, publish, Counters::new(1)).expect("a thread");
        let mut seen: Vec<_> = (0..3).map(|_| answers.recv_timeout(PATIENCE).expect("an answer")).collect();
        seen.sort_unstable();
        assert_eq!(seen, [(0, 0), (0, 1), (1, 0)]);
        // Each has been published, so the tries before the last one are counted.
        assert!(resolver.tries() >= 2);
        resolver.join();
    }

    #[test]
    fn a_name_with_too_many_addresses_is_cut() {
        let many: Vec<_> =
            (0..=u16::MAX).take(ADDRESSES_MAX + 9).map(|p| SocketAddr::from(([10, 0, 0, 1], p))).collect();
        let (resolver, answers, _) = resolver(vec![job(0, 0, "a")], vec![Ok(many)]);
        assert_eq!(answers.recv_timeout(PATIENCE).expect("an answer").2.len(), ADDRESSES_MAX);
        resolver.join();
    }

    #[test]
    fn it_stops_while_it_waits() {
        let slow = Job { interval: Duration::from_secs(3_600), ..job(0, 0, "a") };
        let (resolver, answers, _) = resolver(vec![slow], vec![Ok(vec![address(1)])]);
        answers.recv_timeout(PATIENCE).expect("an answer");
        resolver.join();
    }

    #[test]
    fn the_system_knows_localhost() {
        let addresses = system_lookup()("localhost", 7).expect("it is in /etc/hosts");
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
    }
}
