//! A made-up machine that allows everything, for tests; each takes away what it is about.

/// Its files below a root folder.
pub(crate) const GENEROUS: [(&str, &str); 29] = [
    ("proc/self/limits", LIMITS),
    ("proc/self/status", "Name:\tbowline\nCpus_allowed:\tf\nCpus_allowed_list:\t0-2,5\n"),
    ("proc/self/cgroup", "0::/system.slice/bowline.service\n"),
    ("sys/fs/cgroup/system.slice/bowline.service/memory.max", "max\n"),
    ("sys/fs/cgroup/system.slice/bowline.service/cpu.max", "max 100000\n"),
    ("sys/fs/cgroup/system.slice/bowline.service/pids.max", "max\n"),
    ("sys/fs/cgroup/system.slice/bowline.service/pids.current", "12\n"),
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("proc/sys/fs/file-max", "9223372036854775807\n"),
    ("proc/sys/fs/file-nr", "485\t0\t9223372036854775807\n"),
    ("proc/sys/fs/nr_open", "1073741816\n"),
    ("proc/sys/fs/epoll/max_user_watches", "5491511\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("proc/net/softnet_stat", "0427a019 00000000 00000009\n03843570 00000000 00000006\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "2048\n"),
    ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/ipv4/ip_local_reserved_ports", "8080,40000-40009,50000,60999-61000\n"),
    ("proc/sys/net/ipv4/tcp_tw_reuse", "1\n"),
    ("proc/sys/net/ipv4/tcp_fin_timeout", "60\n"),
    ("proc/sys/net/ipv4/tcp_mem", "2879010\t3838680\t5758020\n"),
    ("proc/sys/net/ipv4/tcp_rmem", "4096\t16384\t33554432\n"),
    ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "9\n"),
    ("proc/meminfo", MEMORY),
    ("proc/sys/vm/overcommit_memory", "0\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
];

const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max cpu time              unlimited            unlimited            seconds   \n\
                      Max open files            1024                 1048576              files     \n";

const MEMORY: &str = "MemTotal:       67108864 kB\nMemFree:        1 kB\nSwapTotal:             0 kB\n\
                      CommitLimit:    33554432 kB\nCommitted_AS:    1048576 kB\n";
