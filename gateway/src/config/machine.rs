//! What the machine gives this process: CPUs, memory and descriptors, as its cgroups and limits say. Read once at
//! start; files that are absent mean no limit. Defaults depend on it. The only thing it changes is the soft limit of
//! descriptors, when asked by the program.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;

use crate::config::cgroup;
use crate::config::cgroup::Bound;

/// What this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that affinity and cgroup quota allow, at least one.
    pub cpus: usize,
    /// Memory that the cgroups allow, or all there is.
    pub memory_bytes: u64,
    /// The hard limit of descriptors.
    pub descriptors_max: u64,
}

impl Machine {
    /// This machine.
    pub fn read() -> Machine {
        Machine::read_below(Path::new("/"))
    }

    /// The same, with the memory that files below another folder say.
    pub(crate) fn read_below(root: &Path) -> Machine {
        Machine {
            // The standard library takes the least of sched_getaffinity and the quotas of cgroup v1 and v2.
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(root),
            descriptors_max: getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(_, hard)| hard),
        }
    }
}

/// Raises the soft limit of descriptors to the hard one, as far as the kernel lets it.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// The least of what the process's own cgroup, those above it and the machine allow.
fn memory_bytes(root: &Path) -> u64 {
    let limit = cgroup::memory_bytes(root).and_then(Bound::most);
    let total = fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| total_bytes(&text));
    limit.into_iter().chain(total).min().unwrap_or(MEMORY_BYTES_UNKNOWN)
}

/// Assumed where not even `/proc/meminfo` can be read.
const MEMORY_BYTES_UNKNOWN: u64 = 1 << 30;

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Tree;

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        8000 kB\nMemFree: 1 kB\n");

    #[test]
    fn without_a_cgroup_all_memory_counts() {
        let root = Tree::with("bare", &[MEMINFO]);
        assert_eq!(memory_bytes(root.path()), 8_000 * 1_024);
    }

    #[test]
    fn the_least_limit_above_the_process_counts() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "1:name=systemd:/x\n0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.max", "4096\n"),
        ];
        let root = Tree::with("nested", &files);
        assert_eq!(memory_bytes(root.path()), 4_096);
    }

    #[test]
    fn a_container_that_sees_only_its_own_mount_has_its_limit() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "0::/not/mounted/here\n"),
            ("sys/fs/cgroup/memory.max", "65536\n"),
        ];
        let root = Tree::with("container", &files);
        assert_eq!(memory_bytes(root.path()), 65_536);
    }

    #[test]
    fn a_limit_of_the_first_version_counts_too() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/box\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "65536\n"),
        ];
        let root = Tree::with("version-1", &files);
        assert_eq!(memory_bytes(root.path()), 65_536);
    }

    #[test]
    fn nothing_to_read_is_no_failure() {
        assert_eq!(memory_bytes(Path::new("/no/such/folder")), MEMORY_BYTES_UNKNOWN);
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::read();
        assert!(
            machine.cpus >= 1 && machine.memory_bytes > 1 << 20 && machine.descriptors_max > 0,
            "{machine:?}"
        );
    }
}
