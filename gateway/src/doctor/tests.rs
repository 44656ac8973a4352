//! Every finding in both directions, on machines that are made up of files.

use std::fs;

use super::*;
use crate::config::tree::Tree;
use made_up::GENEROUS;
use subject::Grade;
use subject::Subject;

/// Clients of shared upstreams, and two workers whatever machine the tests run on.
const SHARED: &str = "engine: {reactors: 2, workers: 2, buffer_memory_max: 1GiB}
listeners: [{address: 'bolt://127.0.0.1:0', cluster: stock}]
clusters: [{name: stock, endpoints: ['bolt://10.0.0.1:1']}]
";

/// The same with tunnels.
const TUNNEL: &str = "engine: {reactors: 2, workers: 2, buffer_memory_max: 1GiB}
listeners: [{name: db, address: 'tcp://127.0.0.1:0', cluster: database}]
clusters: [{name: database, endpoints: ['tcp://10.0.0.1:1', 'tcp://10.0.0.2:1', 'tcp://10.0.0.3:1', 'tcp://10.0.0.4:1']}]
";

/// The generous machine with some files changed; a text of one hyphen takes the file away.
fn machine(name: &str, files: &[(&str, &str)]) -> Tree {
    let tree = Tree::with(&format!("doctor-{name}"), &GENEROUS);
    for (path, text) in files {
        tree.write(path, text);
        if *text == "-" {
            fs::remove_file(tree.path().join(path)).expect("it was there");
        }
    }
    tree
}

fn examined(tree: &Tree, connections: Option<u64>, config: &str) -> Report {
    tree.write("bowline.yaml", config);
    let config = tree.path().join("bowline.yaml");
    look(tree.path(), connections, config.to_str()).expect("the configuration is right")
}

fn of(report: &Report, subject: Subject) -> &Finding {
    report.findings.iter().find(|finding| finding.subject == subject).expect("each has one")
}

/// What one change of the generous machine does to 100,000 clients.
struct Case {
    subject: Subject,
    files: &'static [(&'static str, &'static str)],
    grade: Grade,
    /// A part of the meaning.
    meaning: &'static str,
    /// A line that changes it; nothing where there is none to give.
    change: &'static str,
}

const fn case(
    subject: Subject,
    files: &'static [(&'static str, &'static str)],
    grade: Grade,
    meaning: &'static str,
    change: &'static str,
) -> Case {
    Case { subject, files, grade, meaning, change }
}

fn judge(name: &str, config: &str, cases: &[Case]) {
    for (at, case) in cases.iter().enumerate() {
        let report = examined(&machine(&format!("{name}-{at}"), case.files), Some(100_000), config);
        let finding = of(&report, case.subject);
        assert_eq!(finding.grade, case.grade, "{at}: {finding:?}");
        assert!(finding.meaning.contains(case.meaning), "{at}: {finding:?}");
        let changes = &finding.changes;
        let is_given = changes.iter().any(|change| change.line == case.change);
        assert_eq!(is_given, !case.change.is_empty(), "{at}: {finding:?}");
        assert_eq!(changes.is_empty(), case.change.is_empty(), "{at}: {finding:?}");
        let bites = report.findings.iter().any(|finding| finding.grade == Grade::Warn);
        assert_eq!(report.bites(), bites, "{at}");
        assert!(case.grade != Grade::Warn || bites, "{at}");
    }
}

#[test]
fn a_generous_machine_has_nothing_in_the_way() {
    let report = examined(&machine("generous", &[]), Some(100_000), SHARED);
    let subjects: Vec<Subject> = report.findings.iter().map(|finding| finding.subject).collect();
    assert_eq!(subjects, Subject::ALL, "one finding for each, in the order of the vocabulary");
    for finding in &report.findings {
        assert_eq!((finding.grade, finding.changes.len()), (Grade::Ok, 0), "{finding:?}");
    }
    assert!(!report.bites());
    assert_eq!((report.connections, report.sockets), (100_000, 100_064));
}

#[test]
fn files_that_are_too_few_are_in_the_way() {
    judge("files", SHARED, FILES_CASES);
}

#[test]
fn queues_that_are_too_short_are_in_the_way() {
    judge("queues", SHARED, QUEUES_CASES);
}

#[test]
fn ports_matter_where_clients_have_upstream_connections_of_their_own() {
    judge("ports-shared", SHARED, PORTS_SHARED_CASES);
    judge("ports-own", TUNNEL, PORTS_OWN_CASES);
}

#[test]
fn a_wider_range_of_ports_is_only_offered_where_it_is_enough() {
    let one = TUNNEL.replace(", 'tcp://10.0.0.2:1', 'tcp://10.0.0.3:1', 'tcp://10.0.0.4:1'", "");
    for (name, clients, right) in [
        (
            "ports-enough",
            64_500,
            &["sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"", "endpoints: at least 3"][..],
        ),
        ("ports-not", 64_501, &["endpoints: at least 3"]),
    ] {
        let report = examined(&machine(name, &[]), Some(clients), &one);
        let finding = of(&report, Subject::LocalPorts);
        assert_eq!(finding.grade, Grade::Warn, "{finding:?}");
        assert_eq!(finding.changes.len(), right.len(), "{finding:?}");
        let lines = finding.changes.iter().map(|change| &change.line);
        assert!(lines.zip(right).all(|(line, right)| line.starts_with(right)), "{finding:?}");
    }
}

#[test]
fn a_tunnel_needs_two_sockets_for_each_client() {
    let report = examined(&machine("tunnel", &[]), Some(100_000), TUNNEL);
    assert_eq!(report.sockets, 200_064);
    let limits = [("proc/self/limits", "Max open files 9 200000 files")];
    let report = examined(&machine("tunnel-few", &limits), Some(100_000), TUNNEL);
    let finding = of(&report, Subject::Descriptors);
    let right = "holds 99,968 clients, each with 2 descriptors, since clients of db have upstream connections of their own";
    assert!(finding.grade == Grade::Warn && finding.meaning.starts_with(right), "{finding:?}");
    assert_eq!(finding.changes[0].line, "ulimit -n 200064");
    let report = examined(&machine("tunnel-default", &limits), None, TUNNEL);
    assert_eq!(report.connections, 199_488, "what `bowline run` takes");
    assert_eq!(of(&report, Subject::Descriptors).grade, Grade::Warn, "and cannot hold");
}

/// Pages differ between processors, so the bounds are made of this one's.
fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(Facts::read(Path::new("/no/such/folder")).page_bytes)
}

#[test]
fn buffers_of_all_sockets_must_fit() {
    let needed = pages(100_064 * demand::SOCKET_BYTES);
    let with = |name: &str, pressure: u64, most: u64| {
        let text = format!("1 {pressure} {most}\n");
        let tree = machine(name, &[("proc/sys/net/ipv4/tcp_mem", &text)]);
        of(&examined(&tree, Some(100_000), SHARED), Subject::TcpMemory).clone()
    };
    assert_eq!(with("tcp-ok", needed, needed).grade, Grade::Ok);
    assert_eq!(with("tcp-note", needed - 1, needed).grade, Grade::Note);
    let short = with("tcp-warn", needed / 2, needed / 2);
    assert!(short.grade == Grade::Warn && short.meaning.contains("100,064 are needed"), "{short:?}");
    let right =
        format!("sysctl -w net.ipv4.tcp_mem=\"{} {needed} {}\"", needed - needed / 4, needed + needed / 2);
    assert_eq!(short.changes[0].line, right);
    judge("buffers", SHARED, BUFFERS_CASES);
}

#[test]
fn memory_that_is_too_small_is_in_the_way() {
    judge("memory", SHARED, MEMORY_CASES);
    judge("overcommit", SHARED, OVERCOMMIT_CASES);
}

#[test]
fn processors_and_threads_must_suffice_for_the_workers() {
    judge("threads", SHARED, THREADS_CASES);
}

#[test]
fn what_cannot_be_read_is_unknown_and_in_nobodys_way() {
    for (name, text) in
        [("empty", ""), ("garbage", "\u{0} -1 x 1e9 [ -"), ("huge", "99999999999999999999999")]
    {
        let files = GENEROUS.map(|(path, _)| (path, text));
        let report = examined(&machine(name, &files), Some(100_000), SHARED);
        for finding in &report.findings {
            assert_eq!((finding.grade, finding.changes.len()), (Grade::Unknown, 0), "{name}: {finding:?}");
        }
        assert!(!report.bites(), "{name}");
    }
    let report = look(Path::new("/no/such/folder"), None, None).expect("a bare run is right");
    assert!(report.findings.iter().all(|finding| finding.grade == Grade::Unknown), "{report:?}");
    assert_eq!(report.connections, 512, "half of the 1,024 that every kernel gives");
}

#[test]
fn numbers_at_their_ends_are_no_reason_to_stop() {
    for text in [
        "0",
        "0 0",
        "0 0 0",
        "18446744073709551615",
        "18446744073709551615 18446744073709551615 18446744073709551615",
    ] {
        let files = GENEROUS.map(|(path, _)| (path, text));
        let tree = machine("ends", &files);
        for connections in [1, CONNECTIONS_MAX] {
            for config in [SHARED, TUNNEL] {
                assert!(
                    examined(&tree, Some(connections), config).findings.len() == Subject::COUNT,
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn the_number_of_connections_is_said_by_a_flag_a_file_or_the_limit() {
    let tree = machine("number", &[("proc/self/limits", "Max open files 1024 20000 files")]);
    assert_eq!(examined(&tree, None, SHARED).connections, 19_488);
    let said = SHARED.replace("engine: {", "engine: {max_connections: 50000, ");
    let report = examined(&tree, None, &said);
    assert_eq!(report.connections, 50_000, "more than fit are a finding and no fault of the file");
    assert!(report.bites());
    assert_eq!(examined(&tree, Some(7), &said).connections, 7);
    let few = machine("number-few", &[("proc/self/limits", "Max open files 256 256 files")]);
    let finding = of(&examined(&few, None, SHARED), Subject::Descriptors).clone();
    assert!(finding.grade == Grade::Warn && finding.meaning.contains("does not start"), "{finding:?}");
    let faults = look(tree.path(), None, Some("no/such.yaml")).expect_err("it is not there");
    assert!(faults.to_string().starts_with("no/such.yaml: "), "{faults}");
}

#[test]
fn both_forms_say_the_same() {
    let report =
        examined(&machine("forms", &[("proc/sys/net/core/somaxconn", "128")]), Some(100_000), SHARED);
    let text = report.text();
    assert!(text.starts_with("for 100,000 clients, 100,064 sockets\nok      descriptors "), "{text}");
    assert!(text.ends_with("\n1 in the way, 0 to note, 0 unknown, 20 ok"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
    assert_eq!(
        (&json["connections"], &json["sockets"], &json["bites"]),
        (&100_000.into(), &100_064.into(), &true.into())
    );
    let all = json["findings"].as_array().expect("a list");
    assert_eq!(all.len(), Subject::COUNT);
    for (said, finding) in all.iter().zip(&report.findings) {
        assert_eq!(said["name"], finding.subject.name());
        assert_eq!(said["grade"], finding.grade.name());
        assert_eq!(said["meaning"], finding.meaning);
        assert!(text.contains(&finding.meaning) && text.contains(&finding.value), "{finding:?}");
    }
    let right = serde_json::json!([{"where": "shell", "line": "sysctl -w net.core.somaxconn=4096"}]);
    assert_eq!(all[4]["changes"], right);
    assert!(text.contains("shell: sysctl -w net.core.somaxconn=4096"), "{text}");
}

const LIMITS: &str = "proc/self/limits";
const OPEN: &str = "proc/sys/fs/nr_open";
const MOST: &str = "proc/sys/net/ipv4/tcp_max_syn_backlog";
const COOKIES: &str = "proc/sys/net/ipv4/tcp_syncookies";
const LOST: &str = "proc/net/softnet_stat";
const TRACKED: &str = "proc/sys/net/netfilter/nf_conntrack_max";
const COUNT: &str = "proc/sys/net/netfilter/nf_conntrack_count";
const RANGE: &str = "proc/sys/net/ipv4/ip_local_port_range";
const REUSE: &str = "proc/sys/net/ipv4/tcp_tw_reuse";
const READ: &str = "proc/sys/net/ipv4/tcp_rmem";
const WRITE: &str = "proc/sys/net/ipv4/tcp_wmem";
const GROUP: &str = "sys/fs/cgroup/system.slice/bowline.service/memory.max";
const ALL: &str = "proc/meminfo";
const MODE: &str = "proc/sys/vm/overcommit_memory";
const QUOTA: &str = "sys/fs/cgroup/system.slice/bowline.service/cpu.max";
const TASKS: &str = "sys/fs/cgroup/system.slice/bowline.service/pids.max";
const STATUS: &str = "proc/self/status";

const FILES_CASES: &[Case] = &[
    case(
        Subject::Descriptors,
        &[(LIMITS, "Max open files 9 20000 files")],
        Grade::Warn,
        "holds 19,936 clients, asked for 100,000",
        "LimitNOFILE=100064",
    ),
    case(
        Subject::Descriptors,
        &[(LIMITS, "Max open files 9 100063 files")],
        Grade::Warn,
        "holds 99,999 clients",
        "--max-connections 99999",
    ),
    case(
        Subject::Descriptors,
        &[(LIMITS, "Max open files 9 100064 files")],
        Grade::Ok,
        "holds 100,000 clients",
        "",
    ),
    case(
        Subject::Descriptors,
        &[(LIMITS, "Max open files 9 unlimited files"), (OPEN, "-")],
        Grade::Ok,
        "bounds nothing",
        "",
    ),
    case(
        Subject::Descriptors,
        &[(LIMITS, "Max open files many files")],
        Grade::Unknown,
        "cannot be read",
        "",
    ),
    case(
        Subject::Descriptors,
        &[(LIMITS, "Max open files 9 200000 files"), (OPEN, "150000")],
        Grade::Warn,
        "holds 0 clients",
        "ulimit -n 100064",
    ),
    case(
        Subject::DescriptorCeiling,
        &[(LIMITS, "Max open files 9 200000 files"), (OPEN, "150000")],
        Grade::Warn,
        "the soft limit of 9 cannot be raised",
        "sysctl -w fs.nr_open=200000",
    ),
    case(
        Subject::DescriptorCeiling,
        &[(LIMITS, "Max open files 160000 200000 files"), (OPEN, "150000")],
        Grade::Ok,
        "room for 149,936",
        "",
    ),
    case(
        Subject::DescriptorCeiling,
        &[(OPEN, "65536")],
        Grade::Warn,
        "cannot be raised",
        "sysctl -w fs.nr_open=1048576",
    ),
    case(
        Subject::DescriptorCeiling,
        &[(LIMITS, "-"), (OPEN, "65536")],
        Grade::Warn,
        "room for 65,472 clients",
        "sysctl -w fs.nr_open=100064",
    ),
    case(
        Subject::OpenFiles,
        &[("proc/sys/fs/file-max", "100548")],
        Grade::Warn,
        "room for 99,999 clients",
        "sysctl -w fs.file-max=100549",
    ),
    case(
        Subject::OpenFiles,
        &[("proc/sys/fs/file-max", "100549")],
        Grade::Ok,
        "room for 100,000 clients",
        "",
    ),
    case(
        Subject::OpenFiles,
        &[("proc/sys/fs/file-max", "7"), ("proc/sys/fs/file-nr", "-")],
        Grade::Warn,
        "room for 0 clients",
        "sysctl -w fs.file-max=100064",
    ),
    case(
        Subject::EpollWatches,
        &[("proc/sys/fs/epoll/max_user_watches", "100063")],
        Grade::Warn,
        "room for 99,999",
        "sysctl -w fs.epoll.max_user_watches=100064",
    ),
    case(
        Subject::EpollWatches,
        &[("proc/sys/fs/epoll/max_user_watches", "100064")],
        Grade::Ok,
        "room for 100,000",
        "",
    ),
];

const QUEUES_CASES: &[Case] = &[
    case(
        Subject::Backlog,
        &[("proc/sys/net/core/somaxconn", "128")],
        Grade::Warn,
        "128 connections of a burst",
        "sysctl -w net.core.somaxconn=4096",
    ),
    case(
        Subject::Backlog,
        &[("proc/sys/net/core/somaxconn", "65535")],
        Grade::Ok,
        "4,096 connections of a burst",
        "",
    ),
    case(
        Subject::SynBacklog,
        &[(COOKIES, "0")],
        Grade::Warn,
        "1,536 handshakes",
        "sysctl -w net.ipv4.tcp_max_syn_backlog=5462",
    ),
    case(Subject::SynBacklog, &[(COOKIES, "0"), (MOST, "5462")], Grade::Ok, "4,097 handshakes", ""),
    case(
        Subject::SynBacklog,
        &[(COOKIES, "-")],
        Grade::Note,
        "1,536 handshakes",
        "sysctl -w net.ipv4.tcp_syncookies=1",
    ),
    case(
        Subject::PacketBacklog,
        &[(LOST, "1 a 0\n1 ff 0\n")],
        Grade::Note,
        "265 packets",
        "sysctl -w net.core.netdev_max_backlog=4000",
    ),
    case(Subject::PacketBacklog, &[(LOST, "no")], Grade::Ok, "cannot be read", ""),
    case(
        Subject::TrackedConnections,
        &[(TRACKED, "65536")],
        Grade::Warn,
        "room for 65,527 connections, 100,064 are needed",
        "sysctl -w net.netfilter.nf_conntrack_max=100073",
    ),
    case(
        Subject::TrackedConnections,
        &[(TRACKED, "65536"), (COUNT, "0")],
        Grade::Note,
        "nothing is tracked now",
        "sysctl -w net.netfilter.nf_conntrack_max=100064",
    ),
    case(Subject::TrackedConnections, &[(TRACKED, "-")], Grade::Unknown, "is not there", ""),
    case(
        Subject::FinTimeout,
        &[("proc/sys/net/ipv4/tcp_fin_timeout", "600")],
        Grade::Note,
        "for 600 s",
        "sysctl -w net.ipv4.tcp_fin_timeout=60",
    ),
];

const PORTS_SHARED_CASES: &[Case] = &[
    case(Subject::LocalPorts, &[(RANGE, "32768 32777")], Grade::Ok, "10 connections at a time", ""),
    case(Subject::PortReuse, &[(REUSE, "0")], Grade::Ok, "shared and stay open", ""),
];

const PORTS_OWN_CASES: &[Case] = &[
    case(Subject::LocalPorts, &[], Grade::Ok, "28,220 connections at a time", ""),
    case(
        Subject::LocalPorts,
        &[(RANGE, "40000 50000")],
        Grade::Warn,
        "cluster database holds 39,960 clients at its 4 endpoint(s), asked for 100,000",
        "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"",
    ),
    case(
        Subject::LocalPorts,
        &[(RANGE, "1024 1024")],
        Grade::Warn,
        "holds 4 clients",
        "endpoints: at least 100000 addresses in the cluster",
    ),
    case(Subject::PortReuse, &[], Grade::Ok, "after a second", ""),
    case(
        Subject::PortReuse,
        &[(REUSE, "0")],
        Grade::Note,
        "470 new clients a second",
        "sysctl -w net.ipv4.tcp_tw_reuse=1",
    ),
    case(
        Subject::PortReuse,
        &[(REUSE, "2"), (RANGE, "-")],
        Grade::Note,
        "unless it is loopback: few new",
        "sysctl -w net.ipv4.tcp_tw_reuse=1",
    ),
];

const BUFFERS_CASES: &[Case] = &[
    case(
        Subject::ReceiveBuffer,
        &[(READ, "4096 16384 65536")],
        Grade::Note,
        "at most 64 KiB unread, so over 50 ms it moves at most 1.2 MiB a second",
        "sysctl -w net.ipv4.tcp_rmem=\"4096 16384 4194304\"",
    ),
    case(
        Subject::SendBuffer,
        &[(WRITE, "4096 16384 65536")],
        Grade::Note,
        "at most 64 KiB unsent",
        "sysctl -w net.ipv4.tcp_wmem=\"4096 16384 4194304\"",
    ),
    case(
        Subject::SendBuffer,
        &[(WRITE, "8388608 8388608 8388608")],
        Grade::Note,
        "more than the",
        "sysctl -w net.ipv4.tcp_wmem=\"4096 16384 8388608\"",
    ),
    case(Subject::ReceiveBuffer, &[(READ, "4096 16384")], Grade::Unknown, "cannot be read", ""),
];

const MEMORY_CASES: &[Case] = &[
    case(
        Subject::Memory,
        &[(GROUP, "268435456")],
        Grade::Warn,
        "room for 65,312 idle clients, asked for 100,000: they take 391.8 MiB",
        "MemoryMax=1416M",
    ),
    case(
        Subject::Memory,
        &[(GROUP, "1073741824")],
        Grade::Note,
        "buffers up to 1 GiB more",
        "--memory=1416m",
    ),
    case(Subject::Memory, &[(GROUP, "1484783616")], Grade::Ok, "they take 391.8 MiB", ""),
    case(
        Subject::Memory,
        &[(ALL, "MemTotal: 262144 kB\n")],
        Grade::Warn,
        "room for 65,312 idle clients",
        "--max-connections 65312",
    ),
    case(
        Subject::Memory,
        &[(ALL, "MemTotal: 1048576 kB\n")],
        Grade::Note,
        "buffers up to 1 GiB more",
        "--buffer-memory-max 632MiB",
    ),
    case(Subject::Memory, &[(ALL, "MemTotal: lots\n"), (GROUP, "-")], Grade::Unknown, "cannot be read", ""),
    case(
        Subject::Swap,
        &[(ALL, "SwapTotal: 2097152 kB\n")],
        Grade::Note,
        "waits for a disk",
        "MemorySwapMax=0",
    ),
    case(
        Subject::HugePages,
        &[("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n")],
        Grade::Note,
        "2 MiB",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    ),
    case(
        Subject::HugePages,
        &[("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n")],
        Grade::Ok,
        "small pages",
        "",
    ),
];

const OVERCOMMIT_CASES: &[Case] = &[
    case(Subject::Overcommit, &[(MODE, "1")], Grade::Ok, "not before", ""),
    case(Subject::Overcommit, &[(MODE, "2")], Grade::Ok, "31 GiB can still be promised", ""),
    case(
        Subject::Overcommit,
        &[(MODE, "2"), (ALL, "CommitLimit: 1048576 kB\nCommitted_AS: 1024 kB\n")],
        Grade::Warn,
        "1,023 MiB can still be promised",
        "sysctl -w vm.overcommit_memory=0",
    ),
    case(
        Subject::Overcommit,
        &[(MODE, "2"), (ALL, "CommitLimit: 1048576 kB\n")],
        Grade::Note,
        "is not said",
        "sysctl -w vm.overcommit_memory=0",
    ),
];

const THREADS_CASES: &[Case] = &[
    case(
        Subject::ProcessorQuota,
        &[(QUOTA, "50000 100000\n")],
        Grade::Warn,
        "stands still for up to 75 ms",
        "CPUQuota=200%",
    ),
    case(Subject::ProcessorQuota, &[(QUOTA, "200000 100000\n")], Grade::Ok, "2 workers fit", ""),
    case(Subject::ProcessorQuota, &[(QUOTA, "much\n")], Grade::Unknown, "cannot be read", ""),
    case(
        Subject::Processors,
        &[(STATUS, "Cpus_allowed_list:\t0-127\n"), ("sys/devices/system/cpu/online", "0\n")],
        Grade::Note,
        "2 workers share 1,",
        "--workers 1",
    ),
    case(
        Subject::Processors,
        &[(STATUS, "Cpus_allowed_list:\t3\n")],
        Grade::Note,
        "2 workers share 1",
        "--workers 1",
    ),
    case(Subject::Processors, &[(STATUS, "Cpus_allowed_list:\t3-4\n")], Grade::Ok, "each of 2 workers", ""),
    case(Subject::Processors, &[(STATUS, "Cpus_allowed_list:\t\n")], Grade::Unknown, "cannot be read", ""),
    case(Subject::Tasks, &[(TASKS, "18\n")], Grade::Warn, "room for 6 threads, 7 are needed", "TasksMax=19"),
    case(Subject::Tasks, &[(TASKS, "19\n")], Grade::Ok, "room for 7 threads", ""),
];
