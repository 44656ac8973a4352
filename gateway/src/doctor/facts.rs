//! What the operating system allows, as its files below a root folder say: plain numbers, nothing judged. Whatever is
//! absent, unreadable or no number is nothing, never an error: containers hide files and kernels differ. Nothing here is
//! ever written. Tests make up the folder; `bowline doctor` and `bowline run` read the machine's own.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use nix::unistd::SysconfVar;
use nix::unistd::sysconf;

use crate::config::cgroup;
use crate::config::cgroup::Bound;

/// Everything that is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Descriptors of this process: the soft and the hard limit of `RLIMIT_NOFILE`.
    pub(crate) descriptors: Option<(Bound, Bound)>,
    /// `fs.file-max`.
    pub(crate) files_max: Option<u64>,
    /// Files open on the machine, from `fs.file-nr`.
    pub(crate) files_open: Option<u64>,
    /// `fs.nr_open`.
    pub(crate) open_max: Option<u64>,
    /// `fs.epoll.max_user_watches`.
    pub(crate) watches_max: Option<u64>,
    /// `net.core.somaxconn`.
    pub(crate) backlog_max: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub(crate) syn_backlog_max: Option<u64>,
    /// `net.ipv4.tcp_syncookies`.
    pub(crate) syn_cookies: Option<u64>,
    /// Ports of `net.ipv4.ip_local_port_range`.
    pub(crate) ports: Option<Ports>,
    /// `net.ipv4.tcp_tw_reuse`.
    pub(crate) port_reuse: Option<u64>,
    /// `net.ipv4.tcp_fin_timeout`, in seconds.
    pub(crate) fin_timeout_s: Option<u64>,
    /// `net.core.netdev_max_backlog`.
    pub(crate) packets_max: Option<u64>,
    /// Packets lost since that queue was full, over all processors since the machine started.
    pub(crate) packets_lost: Option<u64>,
    /// `net.ipv4.tcp_mem`, in pages: relaxed, pressure, at most.
    pub(crate) tcp_pages: Option<[u64; 3]>,
    /// How large a page is.
    pub(crate) page_bytes: u64,
    /// `net.ipv4.tcp_rmem`, in bytes: least, at first, at most.
    pub(crate) receive_bytes: Option<[u64; 3]>,
    /// `net.ipv4.tcp_wmem`, the same.
    pub(crate) send_bytes: Option<[u64; 3]>,
    /// `net.netfilter.nf_conntrack_max`.
    pub(crate) tracked_max: Option<u64>,
    /// Connections that are tracked now.
    pub(crate) tracked: Option<u64>,
    /// Memory of the machine.
    pub(crate) memory_bytes: Option<u64>,
    /// Memory that the control groups allow.
    pub(crate) group_memory_bytes: Option<Bound>,
    /// Swap of the machine.
    pub(crate) swap_bytes: Option<u64>,
    /// `vm.overcommit_memory`.
    pub(crate) overcommit: Option<u64>,
    /// What may yet be promised where promises are bounded.
    pub(crate) commit_left_bytes: Option<u64>,
    /// The chosen word of transparent hugepages.
    pub(crate) huge_pages: Option<String>,
    /// Processors that this process may run on.
    pub(crate) processors: Option<u64>,
    /// Processors of the machine.
    pub(crate) processors_online: Option<u64>,
    /// Thousandths of a processor that the control groups allow, and in which period (in microseconds).
    pub(crate) group_processors: Option<(Bound, u64)>,
    /// Tasks that the control groups allow, and how many there are.
    pub(crate) group_tasks: Option<(Bound, u64)>,
}

/// Local ports for connections to upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// The first of the range.
    pub(crate) first: u64,
    /// The last of the range.
    pub(crate) last: u64,
    /// How many in it are reserved, and so not given out.
    pub(crate) reserved: u64,
}

impl Ports {
    /// How many connections there can be to one address and port.
    pub(crate) fn usable(self) -> u64 {
        (self.last - self.first + 1).saturating_sub(self.reserved)
    }
}

impl Facts {
    /// Those of this machine, or of what stands in another folder.
    pub(crate) fn read(root: &Path) -> Facts {
        let files = Files { root: root.to_owned() };
        let mut facts = Facts {
            group_memory_bytes: cgroup::memory_bytes(root),
            group_processors: cgroup::processors(root),
            group_tasks: cgroup::tasks(root),
            page_bytes: page_bytes(),
            ..Facts::default()
        };
        facts.read_files(&files);
        facts.read_network(&files);
        facts.read_memory(&files);
        facts.read_processors(&files);
        facts
    }

    /// What this process can have: it raises the soft limit to the hard one, which the kernel refuses above
    /// `fs.nr_open`.
    pub(crate) fn descriptors_usable(&self) -> Option<Bound> {
        let (soft, hard) = self.descriptors?;
        let is_refused = self.open_max.is_some_and(|most| hard > Bound::Most(most));
        Some(if is_refused { soft } else { hard })
    }

    fn read_files(&mut self, files: &Files) {
        self.descriptors = files.text("proc/self/limits").and_then(|text| descriptor_limits(&text));
        self.files_max = files.number("proc/sys/fs/file-max");
        self.files_open = files.word("proc/sys/fs/file-nr", 0);
        self.open_max = files.number("proc/sys/fs/nr_open");
        self.watches_max = files.number("proc/sys/fs/epoll/max_user_watches");
    }

    fn read_network(&mut self, files: &Files) {
        let setting = |name: &str| format!("proc/sys/net/{name}");
        self.backlog_max = files.number(&setting("core/somaxconn"));
        self.syn_backlog_max = files.number(&setting("ipv4/tcp_max_syn_backlog"));
        self.syn_cookies = files.number(&setting("ipv4/tcp_syncookies"));
        let reserved = files.text(&setting("ipv4/ip_local_reserved_ports")).unwrap_or_default();
        self.ports =
            files.text(&setting("ipv4/ip_local_port_range")).and_then(|text| ports(&text, &reserved));
        self.port_reuse = files.number(&setting("ipv4/tcp_tw_reuse"));
        self.fin_timeout_s = files.number(&setting("ipv4/tcp_fin_timeout"));
        self.packets_max = files.number(&setting("core/netdev_max_backlog"));
        self.packets_lost = files.text("proc/net/softnet_stat").and_then(|text| lost_packets(&text));
        self.tcp_pages = files.three(&setting("ipv4/tcp_mem"));
        self.receive_bytes = files.three(&setting("ipv4/tcp_rmem"));
        self.send_bytes = files.three(&setting("ipv4/tcp_wmem"));
        self.tracked_max = files.number(&setting("netfilter/nf_conntrack_max"));
        self.tracked = files.number(&setting("netfilter/nf_conntrack_count"));
    }

    fn read_memory(&mut self, files: &Files) {
        let text = files.text("proc/meminfo").unwrap_or_default();
        self.memory_bytes = memory_line(&text, "MemTotal:");
        self.swap_bytes = memory_line(&text, "SwapTotal:");
        let (most, promised) = (memory_line(&text, "CommitLimit:"), memory_line(&text, "Committed_AS:"));
        self.commit_left_bytes = most.zip(promised).map(|(most, promised)| most.saturating_sub(promised));
        self.overcommit = files.number("proc/sys/vm/overcommit_memory");
        let choices = files.text("sys/kernel/mm/transparent_hugepage/enabled");
        self.huge_pages = choices.and_then(|text| chosen(&text));
    }

    fn read_processors(&mut self, files: &Files) {
        let status = files.text("proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        self.processors = allowed.and_then(|list| counted(list, 0, u64::MAX)).filter(|count| *count > 0);
        let online = files.text("sys/devices/system/cpu/online");
        self.processors_online =
            online.and_then(|list| counted(&list, 0, u64::MAX)).filter(|count| *count > 0);
    }
}

/// The one number that no file says.
fn page_bytes() -> u64 {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4_096)
}

/// Files below a root.
struct Files {
    root: PathBuf,
}

impl Files {
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }

    fn word(&self, path: &str, at: usize) -> Option<u64> {
        self.text(path)?.split_whitespace().nth(at)?.parse().ok()
    }

    fn three(&self, path: &str) -> Option<[u64; 3]> {
        let text = self.text(path)?;
        let numbers: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
        numbers?.try_into().ok()
    }
}

fn descriptor_limits(limits: &str) -> Option<(Bound, Bound)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(Bound::Unlimited),
        number => number.parse().ok().map(Bound::Most),
    });
    Some((words.next()??, words.next()??))
}

fn ports(range: &str, reserved: &str) -> Option<Ports> {
    let mut words = range.split_whitespace();
    let (first, last): (u16, u16) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (first, last) = (u64::from(first), u64::from(last));
    (first <= last).then_some(())?;
    Some(Ports { first, last, reserved: counted(reserved, first, last)? })
}

/// How many numbers of a list like `0-3,7` are in a range; an empty list has none.
fn counted(list: &str, first: u64, last: u64) -> Option<u64> {
    let list = list.trim();
    if list.is_empty() {
        return Some(0);
    }
    list.split(',').try_fold(0_u64, |sum, part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
        (from <= to).then_some(())?;
        let (from, to) = (from.max(first), to.min(last));
        let count = to.checked_sub(from).map_or(Some(0), |more| more.checked_add(1))?;
        sum.checked_add(count)
    })
}

/// The second word of each line, a processor's, in hexadecimal.
fn lost_packets(statistics: &str) -> Option<u64> {
    let mut lost = None;
    for line in statistics.lines() {
        let word = u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok()?;
        lost = Some(lost.unwrap_or(0_u64).saturating_add(word));
    }
    lost
}

fn memory_line(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// The word in brackets.
fn chosen(choices: &str) -> Option<String> {
    let (word, _) = choices.split_once('[')?.1.split_once(']')?;
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Tree;
    use crate::doctor::made_up::GENEROUS;

    #[test]
    fn every_file_is_read_as_the_kernel_writes_it() {
        let root = Tree::with("facts", &GENEROUS);
        let facts = Facts::read(root.path());
        let most = Bound::Most;
        assert_eq!(facts.descriptors, Some((most(1_024), most(1_048_576))));
        assert_eq!((facts.files_max, facts.files_open), (Some(9_223_372_036_854_775_807), Some(485)));
        assert_eq!((facts.open_max, facts.watches_max), (Some(1_073_741_816), Some(5_491_511)));
        assert_eq!((facts.backlog_max, facts.syn_backlog_max), (Some(4_096), Some(2_048)));
        assert_eq!(facts.ports, Some(Ports { first: 32_768, last: 60_999, reserved: 12 }));
        assert_eq!(facts.ports.map(Ports::usable), Some(28_220));
        assert_eq!((facts.port_reuse, facts.fin_timeout_s, facts.syn_cookies), (Some(1), Some(60), Some(1)));
        assert_eq!((facts.packets_max, facts.packets_lost), (Some(1_000), Some(0)));
        assert_eq!(facts.tcp_pages, Some([2_879_010, 3_838_680, 5_758_020]));
        assert_eq!(facts.receive_bytes, Some([4_096, 16_384, 33_554_432]));
        assert_eq!(facts.send_bytes, Some([4_096, 16_384, 4_194_304]));
        assert_eq!((facts.tracked_max, facts.tracked), (Some(262_144), Some(9)));
        assert_eq!((facts.memory_bytes, facts.swap_bytes), (Some(64 << 30), Some(0)));
        assert_eq!((facts.overcommit, facts.commit_left_bytes), (Some(0), Some(31 << 30)));
        assert_eq!(facts.huge_pages.as_deref(), Some("madvise"));
        assert_eq!((facts.processors, facts.processors_online), (Some(4), Some(4)));
        assert_eq!(facts.group_memory_bytes, Some(Bound::Unlimited));
        assert_eq!(facts.group_processors, Some((Bound::Unlimited, 100_000)));
        assert_eq!(facts.group_tasks, Some((Bound::Unlimited, 12)));
    }

    fn nothing() -> Facts {
        Facts { page_bytes: page_bytes(), ..Facts::default() }
    }

    #[test]
    fn garbage_and_absence_are_nothing() {
        assert_eq!(Facts::read(Path::new("/no/such/folder")), nothing());
        for (at, garbage) in
            ["", "\n", "x", "-7", "99999999999999999999999", "1 2", "9-1", "[", "ö,ö", "1 x 3"]
                .into_iter()
                .enumerate()
        {
            let files = GENEROUS.map(|(path, _)| (path, garbage));
            let root = Tree::with(&format!("facts-garbage-{at}"), &files);
            // Two numbers are a range of ports, the first of them a number of open files; all else has another shape.
            let mut facts = Facts::read(root.path());
            if garbage.starts_with("1 ") {
                facts.files_open.take();
            }
            if garbage == "1 2" {
                assert_eq!(facts.packets_lost.take(), Some(2));
            }
            if garbage == "1 x 3" {
                facts.packets_lost.take();
            }
            assert_eq!(facts, nothing(), "{garbage:?}");
        }
        let root = Tree::with("facts-bytes", &[]);
        for (path, _) in GENEROUS {
            root.write(path, "");
            fs::write(root.path().join(path), [0xff, 0xfe, 0]).expect("a temporary file");
        }
        assert_eq!(Facts::read(root.path()), nothing());
    }

    #[test]
    fn the_hard_limit_counts_unless_the_kernel_refuses_to_go_there() {
        let descriptors = Some((Bound::Most(1_024), Bound::Most(4_096)));
        let facts = Facts { descriptors, open_max: Some(4_096), ..Facts::default() };
        assert_eq!(facts.descriptors_usable(), Some(Bound::Most(4_096)));
        let facts = Facts { open_max: Some(4_095), ..facts };
        assert_eq!(facts.descriptors_usable(), Some(Bound::Most(1_024)));
        let facts = Facts { open_max: None, ..facts };
        assert_eq!(facts.descriptors_usable(), Some(Bound::Most(4_096)));
    }

    #[test]
    fn ranges_of_ports_are_counted() {
        let usable = |range, reserved| ports(range, reserved).map(Ports::usable);
        assert_eq!(usable("32768\t60999\n", "\n"), Some(28_232));
        assert_eq!(usable("100 199", "1-99,150,190-300"), Some(89));
        assert_eq!(usable("7 7", "7"), Some(0));
        for (range, reserved) in [("", ""), ("9 1", ""), ("a b", ""), ("1 70000", ""), ("1 9", "x")] {
            assert_eq!(usable(range, reserved), None, "{range} {reserved}");
        }
    }

    #[test]
    fn this_machine_says_something() {
        let facts = Facts::read(Path::new("/"));
        assert!(facts.descriptors_usable().is_some_and(|most| most > Bound::Most(0)), "{facts:?}");
        assert!(facts.processors.is_some_and(|count| count > 0), "{facts:?}");
    }
}
