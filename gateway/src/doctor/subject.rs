//! The one vocabulary of what is looked at, and what is said about it. `bowline doctor`, its JSON, the warnings of `bowline
//! run` and docs/running.md use the same words. It decides nothing.

use serde::Serialize;

use crate::error::vocabulary;

vocabulary! {
    /// What is looked at, and where the operating system says it.
    Subject: &'static str {
        /// Descriptors of this process.
        Descriptors = "descriptors", "RLIMIT_NOFILE";
        /// The most that the limit of descriptors can be raised to.
        DescriptorCeiling = "descriptor_ceiling", "fs.nr_open";
        /// Open files of the whole machine.
        OpenFiles = "open_files", "fs.file-max";
        /// Sockets that one user can watch.
        EpollWatches = "epoll_watches", "fs.epoll.max_user_watches";
        /// Connections that wait to be accepted.
        Backlog = "backlog", "net.core.somaxconn";
        /// Connections whose handshake is under way.
        SynBacklog = "syn_backlog", "net.ipv4.tcp_max_syn_backlog";
        /// Ports towards an upstream address.
        LocalPorts = "local_ports", "net.ipv4.ip_local_port_range";
        /// When a port can be used again.
        PortReuse = "port_reuse", "net.ipv4.tcp_tw_reuse";
        /// How long a half-closed socket that nobody owns stays.
        FinTimeout = "fin_timeout", "net.ipv4.tcp_fin_timeout";
        /// Packets that wait for a processor.
        PacketBacklog = "packet_backlog", "net.core.netdev_max_backlog";
        /// Connections that the packet filter remembers.
        TrackedConnections = "tracked_connections", "net.netfilter.nf_conntrack_max";
        /// Kernel memory for what all sockets queue.
        TcpMemory = "tcp_memory", "net.ipv4.tcp_mem";
        /// What one socket may hold unread.
        ReceiveBuffer = "receive_buffer", "net.ipv4.tcp_rmem";
        /// What one socket may hold unsent.
        SendBuffer = "send_buffer", "net.ipv4.tcp_wmem";
        /// Memory of the process, and of the kernel for its sockets.
        Memory = "memory", "cgroup memory.max, MemTotal";
        /// Pages on a disk.
        Swap = "swap", "SwapTotal";
        /// Whether memory can be promised that is not there.
        Overcommit = "overcommit", "vm.overcommit_memory";
        /// Pages of 2 MiB.
        HugePages = "huge_pages", "/sys/kernel/mm/transparent_hugepage/enabled";
        /// Processors that the process may run on.
        Processors = "processors", "Cpus_allowed_list";
        /// Time on processors that a control group gives.
        ProcessorQuota = "processor_quota", "cgroup cpu.max";
        /// Threads that a control group allows.
        Tasks = "tasks", "cgroup pids.max";
    }
}

impl Subject {
    /// What the operating system calls it.
    pub const fn setting(self) -> &'static str {
        Self::ROWS[self as usize].1
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// It is not in the way.
    Ok,
    /// It could not be read.
    Unknown,
    /// It may matter, depending on what clients do.
    Note,
    /// It is in the way of what was asked for.
    Warn,
}

impl Grade {
    /// The word that is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Unknown => "unknown",
            Grade::Note => "note",
            Grade::Warn => "warn",
        }
    }
}

/// One line that changes something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where to say it.
    #[serde(rename = "where")]
    pub place: &'static str,
    /// What to say there, exactly.
    pub line: String,
}

/// What was found about one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: Subject,
    /// How bad it is.
    pub grade: Grade,
    /// What the operating system says.
    pub value: String,
    /// What it means for this gateway, in numbers.
    pub meaning: String,
    /// How to change it; each line is one of several ways, or a part where all are `sysctl`.
    pub changes: Vec<Change>,
}

impl Finding {
    pub(super) fn new(subject: Subject, grade: Grade, value: String, meaning: String) -> Finding {
        Finding { subject, grade, value, meaning, changes: Vec::new() }
    }

    /// It could not be read.
    pub(super) fn unknown(subject: Subject) -> Finding {
        let meaning =
            format!("{} cannot be read here; the machine outside may still bound it", subject.setting());
        Finding::new(subject, Grade::Unknown, "unknown".to_owned(), meaning)
    }

    pub(super) fn change(mut self, place: &'static str, line: String) -> Finding {
        self.changes.push(Change { place, line });
        self
    }

    /// The subject's own setting with another value, as a user with the right to would say it.
    pub(super) fn sysctl(self, value: impl std::fmt::Display) -> Finding {
        let line = format!("sysctl -w {}={value}", self.subject.setting());
        self.change("shell", line)
    }

    /// The one line of a log: value, meaning, and the first way to change it.
    pub fn line(&self) -> String {
        let change = self.changes.first();
        let change = change.map_or(String::new(), |change| format!("; {}: {}", change.place, change.line));
        format!("{} is {}: {}{change}", self.subject.setting(), self.value, self.meaning)
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit that is not larger, with one decimal.
pub(super) fn rounded_bytes(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(scale, _)| bytes >= *scale) {
        Some((scale, unit)) => {
            let tenths = (u128::from(bytes) * 10 / u128::from(scale)) as u64;
            match tenths % 10 {
                0 => format!("{} {unit}", grouped(tenths / 10)),
                rest => format!("{}.{rest} {unit}", grouped(tenths / 10)),
            }
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (bytes, text) in [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (1 << 30, "1 GiB")] {
            assert_eq!(rounded_bytes(bytes), text);
        }
        assert_eq!(rounded_bytes(u64::MAX), "16,777,215.9 TiB");
    }

    #[test]
    fn every_subject_has_a_row_in_the_documentation() {
        let document = include_str!("../../../docs/running.md");
        for subject in Subject::ALL {
            let row = format!("| `{}` | `{}` |", subject.name(), subject.setting());
            assert!(document.contains(&row), "docs/running.md lacks {row}");
        }
    }

    #[test]
    fn a_line_names_setting_value_meaning_and_the_way_out() {
        let finding = Finding::new(Subject::Backlog, Grade::Warn, "128".to_owned(), "too few".to_owned());
        assert_eq!(finding.line(), "net.core.somaxconn is 128: too few");
        let right = "net.core.somaxconn is 128: too few; shell: sysctl -w net.core.somaxconn=4096";
        assert_eq!(finding.sysctl(4_096).line(), right);
    }
}
