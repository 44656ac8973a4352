//! What the control groups of this process bound, in both versions of the kernel's interface, which may be mounted beside
//! each other. It reads files below a root folder, so that tests can make one up, and looks at the process's own group
//! and all those above it. It judges nothing. Called for the defaults that depend on the machine and by `bowline doctor`.

use std::fs;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// How much a group may use of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bound {
    /// At most so much.
    Most(u64),
    /// A file says that nothing bounds it.
    Unlimited,
}

impl Bound {
    /// The number, where there is one.
    pub(crate) fn most(self) -> Option<u64> {
        match self {
            Bound::Most(number) => Some(number),
            Bound::Unlimited => None,
        }
    }

    /// `max` in version 2 and -1 in version 1 stand for no bound; what is no number is nothing.
    fn of(text: &str) -> Option<Bound> {
        match text.trim() {
            "max" | "-1" => Some(Bound::Unlimited),
            number => number.parse().ok().map(Bound::Most),
        }
    }
}

/// The least bound of memory in bytes; nothing where no file says one.
pub(crate) fn memory_bytes(root: &Path) -> Option<Bound> {
    let second = files(root, Version::Second, "memory", "memory.max");
    let first = files(root, Version::First, "memory", "memory.limit_in_bytes");
    second.chain(first).filter_map(|path| bound(&path)).map(no_bound_of_version_1).min()
}

/// Version 1 says the largest multiple of a page where nothing was set.
fn no_bound_of_version_1(bound: Bound) -> Bound {
    if bound >= Bound::Most(i64::MAX as u64 & !0xffff) { Bound::Unlimited } else { bound }
}

/// The least number of tasks that may yet be started, and the bound it comes from.
pub(crate) fn tasks(root: &Path) -> Option<(Bound, u64)> {
    let second = folders(root, Version::Second, "pids").into_iter();
    let first = folders(root, Version::First, "pids");
    let found = second.chain(first).filter_map(|folder| {
        let used = fs::read_to_string(folder.join("pids.current")).ok();
        let used = used.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Some((bound(&folder.join("pids.max"))?, used))
    });
    found.min_by_key(|(bound, used)| bound.most().map_or(u64::MAX, |most| most.saturating_sub(*used)))
}

/// The least share of processors, in thousandths of one, and the length of its period in microseconds.
pub(crate) fn processors(root: &Path) -> Option<(Bound, u64)> {
    let second = files(root, Version::Second, "cpu", "cpu.max").filter_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        let (quota, period) = text.trim().split_once(' ')?;
        share(Bound::of(quota)?, Bound::of(period)?)
    });
    let first = folders(root, Version::First, "cpu").into_iter().filter_map(|folder| {
        share(bound(&folder.join("cpu.cfs_quota_us"))?, bound(&folder.join("cpu.cfs_period_us"))?)
    });
    second.chain(first).min()
}

fn share(quota: Bound, period: Bound) -> Option<(Bound, u64)> {
    let period = period.most().filter(|period| *period > 0)?;
    let share = quota.most().map(|quota| quota.saturating_mul(1_000) / period);
    Some((share.map_or(Bound::Unlimited, Bound::Most), period))
}

fn bound(path: &Path) -> Option<Bound> {
    Bound::of(&fs::read_to_string(path).ok()?)
}

/// The kernel's two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// A tree for each controller.
    First,
    /// One tree for all.
    Second,
}

fn files(
    root: &Path,
    version: Version,
    controller: &str,
    name: &'static str,
) -> impl Iterator<Item = PathBuf> + use<> {
    folders(root, version, controller).into_iter().map(move |folder| folder.join(name))
}

/// The folder of the process's group and those above it. In a container the path may lie outside of what is mounted;
/// the mount's own folder then still holds the container's limit.
fn folders(root: &Path, version: Version, controller: &str) -> Vec<PathBuf> {
    let groups = root.join("sys/fs/cgroup");
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    match version {
        Version::First => upwards(groups.join(controller), own_of_first(&text, controller)),
        Version::Second => {
            let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("");
            let mut folders = upwards(groups.clone(), own);
            // Where both versions are mounted, the second stands in a folder of its own.
            folders.extend(upwards(groups.join("unified"), own));
            folders
        }
    }
}

/// A line is `4:memory:/path`, or `5:cpu,cpuacct:/path` where one tree serves two controllers.
fn own_of_first<'a>(text: &'a str, controller: &str) -> &'a str {
    let own = text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|one| one == controller).then_some(path)
    });
    own.unwrap_or("")
}

fn upwards(mount: PathBuf, own: &str) -> Vec<PathBuf> {
    let names = Path::new(own).components().filter(|part| *part != Component::RootDir);
    let names: Option<PathBuf> =
        names.map(|part| if let Component::Normal(name) = part { Some(name) } else { None }).collect();
    // A path with `..` in it leads out of what this namespace may see.
    let mut folder = mount.join(names.unwrap_or_default());
    let mut folders = vec![folder.clone()];
    while folder != mount && folder.pop() {
        folders.push(folder.clone());
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Tree;

    #[test]
    fn the_first_version_is_read_where_each_controller_has_its_tree() {
        let root = Tree::with(
            "cgroup-first",
            &[
                ("proc/self/cgroup", "4:memory:/a/b\n3:cpu,cpuacct:/c\n2:pids:/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n"),
                ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "8192\n"),
                ("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "150000\n"),
                ("sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/pids/pids.max", "100\n"),
                ("sys/fs/cgroup/pids/pids.current", "40\n"),
            ],
        );
        assert_eq!(memory_bytes(root.path()), Some(Bound::Most(4_096)));
        assert_eq!(processors(root.path()), Some((Bound::Most(1_500), 100_000)));
        assert_eq!(tasks(root.path()), Some((Bound::Most(100), 40)));
    }

    #[test]
    fn the_second_version_is_read_alone_and_beside_the_first() {
        for (name, mount) in [("cgroup-second", "sys/fs/cgroup"), ("cgroup-both", "sys/fs/cgroup/unified")] {
            let file = |name: &str| format!("{mount}/g/{name}");
            let (memory, cpu, most, now) =
                (file("memory.max"), file("cpu.max"), file("pids.max"), file("pids.current"));
            let files = [
                ("proc/self/cgroup", "0::/g\n"),
                (&memory, "65536\n"),
                (&cpu, "50000 100000\n"),
                (&most, "7\n"),
                (&now, "2\n"),
            ];
            let root = Tree::with(name, &files);
            assert_eq!(memory_bytes(root.path()), Some(Bound::Most(65_536)), "{mount}");
            assert_eq!(processors(root.path()), Some((Bound::Most(500), 100_000)), "{mount}");
            assert_eq!(tasks(root.path()), Some((Bound::Most(7), 2)), "{mount}");
        }
    }

    #[test]
    fn no_bound_is_said_in_the_words_of_both_versions() {
        let root = Tree::with(
            "cgroup-none",
            &[
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/pids.max", "max\n"),
            ],
        );
        assert_eq!(memory_bytes(root.path()), Some(Bound::Unlimited));
        assert_eq!(processors(root.path()), Some((Bound::Unlimited, 100_000)));
        assert_eq!(tasks(root.path()), Some((Bound::Unlimited, 0)));
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        let garbage = "\u{0}no number\n";
        let root = Tree::with(
            "cgroup-garbage",
            &[
                ("proc/self/cgroup", "0::/../..\n:::\nmemory\n4:memory:../x\n"),
                ("memory.max", "1\n"),
                ("sys/fs/cgroup/memory.max", garbage),
                ("sys/fs/cgroup/cpu.max", "5 0\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", garbage),
                ("sys/fs/cgroup/pids.max", ""),
            ],
        );
        for root in [root.path(), Path::new("/no/such/folder")] {
            assert_eq!((memory_bytes(root), processors(root), tasks(root)), (None, None, None));
        }
    }
}
