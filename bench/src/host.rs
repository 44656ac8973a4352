//! Owns what is asked of this machine: CPU and memory of process trees from `/proc`, descriptor limits, pinning, signals and
//! the bond to the parent process. Refuses to interpret: what a figure means is said where it is reported.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use mio::Interest;
use mio::Registry;
use mio::Token;
use mio::unix::SourceFd;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SfdFlags;
use nix::sys::signalfd::SignalFd;
use nix::unistd::getppid;
use serde::Deserialize;
use serde::Serialize;

use crate::trouble::Trouble;

/// CPU time of a process tree so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// User and system time of all living threads, in ns. A thread that ended takes its time along.
    pub ns: u64,
    /// Living threads; when it changes between two marks, their difference is not to be trusted.
    pub threads: u64,
}

/// The CPU time of a process and all its descendants.
pub fn cpu_of_tree(pid: u32) -> Result<Cpu, Trouble> {
    cpu_of_members(&tree(pid)?)
}

/// The CPU time of processes that [`tree`] gave. It reads only them, so it takes little from a load that is running.
pub fn cpu_of_members(members: &[u32]) -> Result<Cpu, Trouble> {
    let mut sum = Cpu::default();
    for (at, member) in members.iter().enumerate() {
        let tasks = match fs::read_dir(format!("/proc/{member}/task")) {
            Ok(tasks) => tasks,
            // A descendant may end at any time; the process that is watched may not.
            Err(_) if at > 0 => continue,
            Err(error) => {
                return Err(Trouble::doing(format!("reading the threads of process {member}"))(error));
            }
        };
        for task in tasks.flatten() {
            // A thread that ended since it was listed has nothing to read any more.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            sum.ns += parse_schedstat(&text).ok_or_else(|| unreadable("schedstat", &text))?;
            sum.threads += 1;
        }
    }
    Ok(sum)
}

/// The first of the three numbers of a `schedstat`: time on a CPU in ns.
fn parse_schedstat(text: &str) -> Option<u64> {
    let mut numbers = text.split_ascii_whitespace();
    let ns = numbers.next()?.parse().ok()?;
    (numbers.count() == 2).then_some(ns)
}

/// The ids of all living threads of processes that [`tree`] gave.
pub fn threads_of_members(members: &[u32]) -> BTreeSet<u32> {
    let tasks = members.iter().filter_map(|member| fs::read_dir(format!("/proc/{member}/task")).ok());
    tasks
        .flat_map(|tasks| tasks.flatten())
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

/// How a process tree spent its time, in detail. The kernel counts user and system time by its own estimate of their parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In ns, in steps of 10 ms.
    pub user_ns: u64,
    /// In ns, in steps of 10 ms.
    pub system_ns: u64,
    /// How often a thread gave up its CPU to wait.
    pub waits: u64,
    /// How often a thread had to give up its CPU.
    pub preemptions: u64,
}

/// The usage of processes that [`tree`] gave; those that ended meanwhile count nothing.
pub fn usage_of_members(members: &[u32]) -> Usage {
    let mut sum = Usage::default();
    for member in members {
        let stat = fs::read_to_string(format!("/proc/{member}/stat")).unwrap_or_default();
        let (user_ns, system_ns) = parse_times(&stat).unwrap_or_default();
        sum.user_ns += user_ns;
        sum.system_ns += system_ns;
        let Ok(tasks) = fs::read_dir(format!("/proc/{member}/task")) else { continue };
        for task in tasks.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            sum.waits += number_line(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            sum.preemptions += number_line(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
    }
    sum
}

/// User and system time, the 14th and 15th field of a `stat`.
fn parse_times(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok()?.checked_mul(TICK_NS);
    Some((ticks()?, ticks()?))
}

fn number_line(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// User memory of a process tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Anonymous pages that are resident, in bytes.
    pub anonymous_bytes: u64,
    /// Its share of all pages, in bytes.
    pub pss_bytes: u64,
}

/// The memory of a process and all its descendants.
pub fn memory_of_tree(pid: u32) -> Result<Memory, Trouble> {
    let mut sum = Memory::default();
    for member in tree(pid)? {
        let read = fs::read_to_string(format!("/proc/{member}/smaps_rollup"));
        // A descendant may have ended since the tree was read, and then holds nothing; the process itself may not.
        if member != pid && read.as_ref().map_or(true, String::is_empty) {
            continue;
        }
        let text = read.map_err(Trouble::doing(format!("reading the memory of process {member}")))?;
        let memory = parse_smaps(&text).ok_or_else(|| unreadable("smaps_rollup", &text))?;
        sum.anonymous_bytes += memory.anonymous_bytes;
        sum.pss_bytes += memory.pss_bytes;
    }
    Ok(sum)
}

fn parse_smaps(text: &str) -> Option<Memory> {
    Some(Memory { anonymous_bytes: kib_line(text, "Anonymous:")?, pss_bytes: kib_line(text, "Pss:")? })
}

/// The bytes that a line `name  N kB` says.
fn kib_line(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the kernel holds for all sockets of the machine; not ours, so reported apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// All slabs, in bytes: sockets, files, epoll items.
    pub slab_bytes: u64,
    /// TCP buffers, in bytes.
    pub tcp_bytes: u64,
}

/// The kernel's memory now.
pub fn kernel_memory() -> Result<KernelMemory, Trouble> {
    let read = |path: &str| fs::read_to_string(path).map_err(Trouble::doing(format!("reading {path}")));
    let slab = read("/proc/meminfo")?;
    let sockets = read("/proc/net/sockstat")?;
    Ok(KernelMemory {
        slab_bytes: kib_line(&slab, "Slab:").ok_or_else(|| unreadable("meminfo", &slab))?,
        tcp_bytes: parse_sockstat(&sockets).ok_or_else(|| unreadable("sockstat", &sockets))?,
    })
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3`, the last in pages.
fn parse_sockstat(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("TCP:"))?;
    let pages: u64 = line.split_once(" mem ")?.1.trim().parse().ok()?;
    pages.checked_mul(PAGE_BYTES)
}

/// How idle the CPUs of this machine were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// So far, all CPUs together. Idle time is measured where it begins and ends; busy time in the same file is sampled by
    /// a tick, which misses most of what short wake-ups cost.
    pub ns: u64,
    /// How many there are.
    pub cores: u64,
    /// How often they changed from one thread, or none, to another.
    pub switches: u64,
}

/// The machine's idle time now, in steps of 10 ms.
pub fn machine_idle() -> Result<Idle, Trouble> {
    let text = fs::read_to_string("/proc/stat").map_err(Trouble::doing("reading /proc/stat"))?;
    parse_stat_idle(&text).ok_or_else(|| unreadable("stat", &text))
}

/// user, nice, system, then idle and iowait, on the line of all CPUs; then a line for each; later `ctxt`.
fn parse_stat_idle(text: &str) -> Option<Idle> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut ticks = line.split_ascii_whitespace().skip(3).map_while(|n| n.parse::<u64>().ok());
    let idle = ticks.next()?.checked_add(ticks.next()?)?;
    let cores = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    let switches = text.lines().find_map(|line| line.strip_prefix("ctxt "))?.trim().parse().ok()?;
    Some(Idle { ns: idle.checked_mul(TICK_NS)?, cores: cores as u64, switches })
}

/// What a figure depends on, as far as a machine can say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The processor's name.
    pub processor: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// In bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Open files that a process may have.
    pub descriptors: u64,
    /// Whether others are there: the load of the last minute when the run began.
    pub load: String,
}

/// This machine.
pub fn facts() -> Result<Facts, Trouble> {
    let read = |path: &str| fs::read_to_string(path).map_err(Trouble::doing(format!("reading {path}")));
    let processors = read("/proc/cpuinfo")?;
    let name = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = read("/proc/meminfo")?;
    Ok(Facts {
        processor: name.map_or("unknown", |(_, name)| name).trim().to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: kib_line(&memory, "MemTotal:").ok_or_else(|| unreadable("meminfo", &memory))?,
        kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        descriptors: raise_descriptor_limit()?,
        load: read("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
    })
}

/// How many descriptors a process has open.
pub fn descriptors_of(pid: u32) -> Result<usize, Trouble> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .map_err(Trouble::doing(format!("reading the descriptors of process {pid}")))?;
    Ok(entries.count())
}

/// How many descriptors a process and its descendants have open: the workers of some proxies are processes.
pub fn descriptors_of_tree(pid: u32) -> Result<usize, Trouble> {
    // A descendant may end at any time; the process itself may not.
    let own = descriptors_of(pid)?;
    let workers = tree(pid)?.into_iter().skip(1);
    Ok(own + workers.map(|worker| descriptors_of(worker).unwrap_or(0)).sum::<usize>())
}

/// A process, first, and all its descendants.
pub fn tree(pid: u32) -> Result<Vec<u32>, Trouble> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let processes = fs::read_dir("/proc").map_err(Trouble::doing("reading /proc"))?;
    for entry in processes.flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = parse_parent(&text) {
            children.entry(parent).or_default().push(child);
        }
    }
    let mut members = vec![pid];
    let mut at = 0;
    while at < members.len() {
        members.extend(children.remove(&members[at]).unwrap_or_default());
        at += 1;
    }
    Ok(members)
}

/// `12 (a name) with) S 7 ...`: the name may hold anything, so what counts comes after the last parenthesis.
fn parse_parent(text: &str) -> Option<u32> {
    text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn unreadable(what: &str, text: &str) -> Trouble {
    let start: String = text.chars().take(80).collect();
    Trouble::World {
        doing: format!("reading {what}"),
        source: io::Error::new(io::ErrorKind::InvalidData, format!("unknown format: {start}")),
    }
}

/// Raises the soft limit of open files to the hard one and says what it is.
pub fn raise_descriptor_limit() -> Result<u64, Trouble> {
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(Trouble::doing("reading the limit of open files"))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .map_err(Trouble::doing("raising the limit of open files"))?;
    Ok(hard)
}

/// Keeps this thread, and those that it starts, on one CPU.
pub fn pin(core: usize) -> Result<(), Trouble> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        return Ok(());
    }
    Err(Trouble::Asked(format!("--pin {core}: this process may not run on CPU {core}")))
}

/// Sees to it that this process ends when `parent` does. The kernel tells the end of the parent's *thread*, so only a
/// main thread may start such processes.
pub fn end_with_parent(parent: u32, signal: Signal) -> Result<(), Trouble> {
    set_pdeathsig(signal).map_err(Trouble::doing("asking to end with the parent process"))?;
    // It may have ended before it was asked for.
    if getppid().as_raw() as u32 != parent {
        return Err(Trouble::Broken("the parent process is gone".into()));
    }
    Ok(())
}

/// SIGTERM and SIGINT as something that a poll can wait for. When it is dropped they end the process again.
#[derive(Debug)]
pub struct Signals(SignalFd);

fn taken_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT])
}

impl Drop for Signals {
    fn drop(&mut self) {
        // It fails only for a mask that is none.
        let _ = taken_signals().thread_unblock();
    }
}

impl Signals {
    /// Takes both signals from now on, for this thread and those that it starts.
    pub fn new() -> Result<Self, Trouble> {
        let mask = taken_signals();
        mask.thread_block().map_err(Trouble::doing("blocking signals"))?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(Trouble::doing("opening a descriptor for signals"))?;
        Ok(Self(fd))
    }

    /// Whether a signal came; it is taken, so that it will not end the process later.
    pub fn take(&self) -> bool {
        self.0.read_signal().is_ok_and(|signal| signal.is_some())
    }

    /// Wakes the poll with `token` when a signal came.
    pub fn register(&self, registry: &Registry, token: Token) -> Result<(), Trouble> {
        let fd = self.0.as_fd().as_raw_fd();
        registry
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
            .map_err(Trouble::doing("waiting for signals"))
    }
}

/// Takes no signal any more: a program that is started next must not inherit what this one blocked.
pub fn unblock_signals() -> Result<(), Trouble> {
    SigSet::empty().thread_set_mask().map_err(Trouble::doing("unblocking signals"))
}

/// The unit of `/proc/stat`; Linux fixed it at 100 per second for user space.
const TICK_NS: u64 = 10_000_000;
/// The unit of `sockstat` on the machines that we measure on.
const PAGE_BYTES: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_says_the_time_on_a_cpu() {
        assert_eq!(parse_schedstat("2147483648123 43094 17\n"), Some(2_147_483_648_123));
        for wrong in ["", "x 1 2", "1 2", "1 2 3 4"] {
            assert_eq!(parse_schedstat(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn smaps_rollup_says_anonymous_and_shared_memory() {
        let text = "55-7f ---p 00000000 00:00 0  [rollup]\nRss:  1644 kB\nPss:   237 kB\nPss_Dirty: 116 kB\n\
                    Pss_Anon:  110 kB\nAnonymous:        116 kB\nAnonHugePages:  9 kB\n";
        let memory = Memory { anonymous_bytes: 116 << 10, pss_bytes: 237 << 10 };
        assert_eq!(parse_smaps(text), Some(memory));
        assert_eq!(parse_smaps("Rss: 12 kB\n"), None);
        assert_eq!(parse_smaps("Pss: 12 MB\nAnonymous: 3 kB\n"), None);
    }

    #[test]
    fn stat_says_how_idle_the_machine_was() {
        let text =
            "cpu  100 10 20 9999 88 3 4 55 0 0\ncpu0 1 1 1 1 1 1\ncpu1 1 1 1 1 1 1\nintr 1 2\nctxt 77\n";
        assert_eq!(parse_stat_idle(text), Some(Idle { ns: 10_087 * TICK_NS, cores: 2, switches: 77 }));
        assert_eq!(parse_stat_idle("cpu  1 2 3\n"), None);
    }

    #[test]
    fn a_name_cannot_forge_a_parent() {
        assert_eq!(parse_parent("12 (a) S 1) S 77 12 12 0"), Some(77));
        assert_eq!(parse_parent("12"), None);
    }

    #[test]
    fn stat_and_status_say_how_time_was_spent() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 25 17 0 0 20 0\n";
        assert_eq!(parse_times(stat), Some((25 * TICK_NS, 17 * TICK_NS)));
        assert_eq!(parse_times("12 (a) S 1 2"), None);
        let status = "Name:\ta\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";
        assert_eq!(number_line(status, "voluntary_ctxt_switches:"), Some(150));
        assert_eq!(number_line(status, "nonvoluntary_ctxt_switches:"), Some(545));
        assert_eq!(number_line(status, "other:"), None);
    }

    #[test]
    fn sockstat_counts_pages() {
        let text = "sockets: used 100\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3\nUDP: inuse 1 mem 2\n";
        assert_eq!(parse_sockstat(text), Some(3 * PAGE_BYTES));
    }

    #[test]
    fn this_process_has_cpu_memory_and_descriptors() {
        let pid = std::process::id();
        let before = cpu_of_tree(pid).expect("it lives");
        let mut sum = 0u64;
        while cpu_of_tree(pid).expect("it lives").ns <= before.ns {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(before.threads >= 1);
        assert!(threads_of_members(&[pid]).contains(&pid), "the first thread has the id of the process");
        let memory = memory_of_tree(pid).expect("it lives");
        assert!(memory.anonymous_bytes > 0 && memory.pss_bytes > 0);
        assert!(descriptors_of(pid).expect("it lives") >= 3);
    }

    #[test]
    fn a_descendant_that_has_ended_holds_no_memory() {
        // A child that was not waited for stays in the tree without any memory of its own.
        let mut ended = std::process::Command::new("true").spawn().expect("there is such a program");
        let stat = format!("/proc/{}/stat", ended.id());
        while !fs::read_to_string(&stat).expect("it was not waited for").contains(") Z ") {
            std::thread::yield_now();
        }
        let pid = std::process::id();
        assert!(tree(pid).expect("it lives").contains(&ended.id()));
        assert!(memory_of_tree(pid).is_ok_and(|memory| memory.pss_bytes > 0));
        assert!(memory_of_tree(ended.id()).is_err(), "asked for by itself it is none");
        ended.wait().expect("it has ended");
    }

    #[test]
    fn descriptors_of_workers_count() {
        let mut parent = std::process::Command::new("sh")
            .args(["-c", "cat; :"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("there is a shell");
        while tree(parent.id()).expect("it lives").len() < 2 {
            std::thread::yield_now();
        }
        let own = descriptors_of(parent.id()).expect("it lives");
        assert!(descriptors_of_tree(parent.id()).expect("it lives") > own);
        drop(parent.stdin.take());
        parent.wait().expect("it ends when its input does");
    }

    #[test]
    fn the_machine_has_processors_memory_and_a_kernel() {
        let facts = facts().expect("this is Linux");
        assert!(facts.cores >= 1 && facts.memory_bytes > 1 << 20 && facts.descriptors > 3);
        assert!(!facts.kernel.is_empty() && !facts.processor.is_empty() && !facts.load.is_empty());
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(memory_of_tree(u32::MAX - 1).is_err());
        assert!(cpu_of_tree(u32::MAX - 1).is_err());
    }
}
