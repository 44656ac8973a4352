//! Judges what bounds the network: queues of new connections, ports towards upstreams, packets, buffers of all sockets and
//! of one. Each function looks at one subject. Called by the list in this folder's `mod`.

use super::demand::Demand;
use super::demand::OwnCluster;
use super::demand::SOCKET_BYTES;
use super::facts::Facts;
use super::subject::Finding;
use super::subject::Grade;
use super::subject::Subject;
use super::subject::grouped;
use super::subject::rounded_bytes;

/// `net.core.somaxconn`.
pub(super) fn backlog(facts: &Facts, demand: &Demand) -> Finding {
    let Some(most) = facts.backlog_max else { return Finding::unknown(Subject::Backlog) };
    let wanted = demand.backlog;
    let queue = most.min(wanted);
    let meaning = format!(
        "{} connections of a burst wait to be accepted at each listener, which asks for {}; those above are tried again after a second",
        grouped(queue),
        grouped(wanted)
    );
    if most >= wanted {
        return Finding::new(Subject::Backlog, Grade::Ok, grouped(most), meaning);
    }
    Finding::new(Subject::Backlog, Grade::Warn, grouped(most), meaning).sysctl(wanted)
}

/// `net.ipv4.tcp_max_syn_backlog`, of which the last quarter is kept back where cookies are off.
pub(super) fn syn_backlog(facts: &Facts, demand: &Demand) -> Finding {
    let Some(most) = facts.syn_backlog_max else { return Finding::unknown(Subject::SynBacklog) };
    let room = most - most / 4;
    if facts.syn_cookies.is_some_and(|mode| mode > 0) {
        let meaning =
            "handshakes above it are answered with cookies (net.ipv4.tcp_syncookies), so none is lost";
        return Finding::new(Subject::SynBacklog, Grade::Ok, grouped(most), meaning.to_owned());
    }
    let grade = match facts.syn_cookies {
        _ if room >= demand.backlog => Grade::Ok,
        Some(_) => Grade::Warn,
        None => Grade::Note,
    };
    let meaning = format!(
        "{} handshakes can be under way where net.ipv4.tcp_syncookies is off, for a queue of {}; those above are dropped",
        grouped(room),
        grouped(demand.backlog)
    );
    let finding = Finding::new(Subject::SynBacklog, grade, grouped(most), meaning);
    if grade == Grade::Ok {
        return finding;
    }
    finding
        .change("shell", "sysctl -w net.ipv4.tcp_syncookies=1".to_owned())
        .sysctl(demand.backlog.saturating_mul(4).div_ceil(3))
}

/// `net.ipv4.ip_local_port_range`: a client with an upstream connection of its own takes a port per endpoint address.
pub(super) fn local_ports(facts: &Facts, demand: &Demand) -> Finding {
    let Some(ports) = facts.ports else { return Finding::unknown(Subject::LocalPorts) };
    let (usable, asked) = (ports.usable(), demand.clients);
    let value = match ports.reserved {
        0 => format!("{} to {}", ports.first, ports.last),
        reserved => format!("{} to {}, {} reserved", ports.first, ports.last, grouped(reserved)),
    };
    let most = |cluster: &OwnCluster| cluster.addresses.map(|addresses| usable.saturating_mul(addresses));
    let short: Vec<(&OwnCluster, u64)> = demand
        .clusters
        .iter()
        .filter_map(|cluster| Some((cluster, most(cluster)?)))
        .filter(|(_, most)| *most < asked)
        .collect();
    if short.is_empty() {
        let meaning = format!("{} connections at a time to one upstream address", grouped(usable));
        return Finding::new(Subject::LocalPorts, Grade::Ok, value, meaning);
    }
    let grade = if short.iter().any(|(cluster, _)| cluster.is_certain) { Grade::Warn } else { Grade::Note };
    let each = short.iter().map(|(cluster, most)| {
        let addresses = cluster.addresses.unwrap_or_default();
        format!("cluster {} holds {} clients at its {addresses} endpoint(s)", cluster.name, grouped(*most))
    });
    let meaning = format!(
        "{}, asked for {}: each client takes one of {} ports there",
        each.collect::<Vec<_>>().join(", "),
        grouped(asked),
        grouped(usable)
    );
    let finding = Finding::new(Subject::LocalPorts, grade, value, meaning);
    let fewest = short.iter().filter_map(|(cluster, _)| cluster.addresses).min().unwrap_or_default();
    // A wider range is only offered where it is enough by itself.
    let widest = (PORT_LAST - PORT_FIRST + 1).saturating_sub(ports.reserved);
    let finding = match widest.saturating_mul(fewest) >= asked {
        true => finding.sysctl(format!("\"{PORT_FIRST} {PORT_LAST}\"")),
        false => finding,
    };
    let addresses = asked.div_ceil(usable.max(1));
    finding.change("configuration", format!("endpoints: at least {addresses} addresses in the cluster"))
}

/// Below it a port needs a privilege.
const PORT_FIRST: u64 = 1_024;
const PORT_LAST: u64 = 65_535;

/// `net.ipv4.tcp_tw_reuse`: whoever closes first keeps the port for a fixed minute.
pub(super) fn port_reuse(facts: &Facts, demand: &Demand) -> Finding {
    let Some(mode) = facts.port_reuse else { return Finding::unknown(Subject::PortReuse) };
    let value = mode.to_string();
    if demand.own_most == 0 || demand.clusters.is_empty() {
        let meaning = "upstream connections are shared and stay open, so their ports are not used up";
        return Finding::new(Subject::PortReuse, Grade::Ok, value, meaning.to_owned());
    }
    if mode == 1 {
        let meaning = "a port whose connection has ended can be used again after a second";
        return Finding::new(Subject::PortReuse, Grade::Ok, value, meaning.to_owned());
    }
    let rate = facts.ports.map_or("few".to_owned(), |ports| grouped(ports.usable() / TIME_WAIT_S));
    let meaning = format!(
        "a port whose connection this side ended waits {TIME_WAIT_S} s{}: {rate} new clients a second for each upstream address",
        if mode == 2 { " unless it is loopback" } else { "" }
    );
    Finding::new(Subject::PortReuse, Grade::Note, value, meaning).sysctl(1)
}

/// Fixed in the kernel; `tcp_fin_timeout` is something else.
const TIME_WAIT_S: u64 = 60;

/// `net.ipv4.tcp_fin_timeout`.
pub(super) fn fin_timeout(facts: &Facts, _: &Demand) -> Finding {
    let Some(seconds) = facts.fin_timeout_s else { return Finding::unknown(Subject::FinTimeout) };
    let meaning =
        format!("a closed socket whose peer never ends its side keeps kernel memory for {seconds} s");
    let grade = if seconds > TIME_WAIT_S { Grade::Note } else { Grade::Ok };
    let finding = Finding::new(Subject::FinTimeout, grade, format!("{seconds} s"), meaning);
    if grade == Grade::Note { finding.sysctl(TIME_WAIT_S) } else { finding }
}

/// `net.core.netdev_max_backlog`: only packets that were lost say that it is too low.
pub(super) fn packet_backlog(facts: &Facts, _: &Demand) -> Finding {
    let Some(most) = facts.packets_max else { return Finding::unknown(Subject::PacketBacklog) };
    let value = grouped(most);
    match facts.packets_lost {
        Some(0) => {
            let meaning = "no packet has been lost for want of room since the machine started".to_owned();
            Finding::new(Subject::PacketBacklog, Grade::Ok, value, meaning)
        }
        Some(lost) => {
            let meaning = format!(
                "{} packets have been lost for want of room since the machine started; each costs its connection a retransmission",
                grouped(lost)
            );
            let wanted = most.saturating_mul(4).clamp(4_000, 250_000);
            let finding = Finding::new(Subject::PacketBacklog, Grade::Note, value, meaning);
            if wanted > most { finding.sysctl(wanted) } else { finding }
        }
        None => {
            let meaning =
                "packets wait for each processor; how many were lost cannot be read here".to_owned();
            Finding::new(Subject::PacketBacklog, Grade::Ok, value, meaning)
        }
    }
}

/// `net.netfilter.nf_conntrack_max`: packets of a connection that finds no room are dropped.
pub(super) fn tracked_connections(facts: &Facts, demand: &Demand) -> Finding {
    let subject = Subject::TrackedConnections;
    let Some(most) = facts.tracked_max else {
        let meaning = "is not there: connections are not tracked, or it is hidden from here".to_owned();
        return Finding::new(subject, Grade::Unknown, "unknown".to_owned(), meaning);
    };
    let used = facts.tracked.unwrap_or(0);
    let value = format!("{}, {} tracked", grouped(most), grouped(used));
    let room = most.saturating_sub(used);
    let needed = demand.sockets();
    let meaning = format!(
        "room for {} connections, {} are needed; packets of those above are dropped",
        grouped(room),
        grouped(needed)
    );
    if room >= needed {
        return Finding::new(subject, Grade::Ok, value, meaning);
    }
    // A machine without rules has the table and leaves it empty.
    let is_idle = facts.tracked == Some(0);
    let grade = if is_idle { Grade::Note } else { Grade::Warn };
    let meaning = if is_idle { format!("{meaning}; nothing is tracked now") } else { meaning };
    Finding::new(subject, grade, value, meaning).sysctl(needed.saturating_add(used))
}

/// `net.ipv4.tcp_mem`: an idle socket queues nothing, so this is about how many may have something queued at once.
pub(super) fn tcp_memory(facts: &Facts, demand: &Demand) -> Finding {
    let Some([relaxed, pressure, most]) = facts.tcp_pages else {
        return Finding::unknown(Subject::TcpMemory);
    };
    let sockets = |pages: u64| pages.saturating_mul(facts.page_bytes) / SOCKET_BYTES;
    let needed = demand.sockets();
    let value = format!(
        "{relaxed} {pressure} {most} pages, at most {}",
        rounded_bytes(most.saturating_mul(facts.page_bytes))
    );
    let grade = match needed {
        _ if sockets(most) < needed => Grade::Warn,
        _ if sockets(pressure) < needed => Grade::Note,
        _ => Grade::Ok,
    };
    let meaning = format!(
        "room for {} sockets with {} bytes each, {} are needed; buffers shrink from {} on, and packets are dropped above",
        grouped(sockets(most)),
        grouped(SOCKET_BYTES),
        grouped(needed),
        grouped(sockets(pressure))
    );
    let finding = Finding::new(Subject::TcpMemory, grade, value, meaning);
    if grade == Grade::Ok {
        return finding;
    }
    // The pressure level is what should hold them all.
    let pages = needed.saturating_mul(SOCKET_BYTES).div_ceil(facts.page_bytes.max(1));
    finding.sysctl(format!("\"{} {pages} {}\"", pages - pages / 4, pages.saturating_add(pages / 2)))
}

/// `net.ipv4.tcp_rmem`.
pub(super) fn receive_buffer(facts: &Facts, demand: &Demand) -> Finding {
    buffer(Subject::ReceiveBuffer, facts.receive_bytes, "unread", facts, demand)
}

/// `net.ipv4.tcp_wmem`.
pub(super) fn send_buffer(facts: &Facts, demand: &Demand) -> Finding {
    buffer(Subject::SendBuffer, facts.send_bytes, "unsent", facts, demand)
}

/// The least is what each socket keeps under pressure; the most bounds how fast one connection can be over a long way.
fn buffer(subject: Subject, bytes: Option<[u64; 3]>, what: &str, facts: &Facts, demand: &Demand) -> Finding {
    let Some([least, first, most]) = bytes else { return Finding::unknown(subject) };
    let value = format!("{least} {first} {most}");
    if most < BUFFER_BYTES_SMALL {
        let meaning = format!(
            "a connection has at most {} {what}, so over 50 ms it moves at most {} a second",
            rounded_bytes(most),
            rounded_bytes(most.saturating_mul(20))
        );
        let changed = format!("\"{least} {} {}\"", first.min(most), 4 << 20);
        return Finding::new(subject, Grade::Note, value, meaning).sysctl(changed);
    }
    let all = demand.sockets().saturating_mul(least);
    let ceiling = facts.tcp_pages.map(|[_, _, pages]| pages.saturating_mul(facts.page_bytes));
    let meaning = format!(
        "a socket may hold {} to {} {what}; {} sockets with the least of it are {}",
        rounded_bytes(least),
        rounded_bytes(most),
        grouped(demand.sockets()),
        rounded_bytes(all)
    );
    match ceiling {
        Some(ceiling) if all > ceiling => {
            let meaning = format!("{meaning}, more than the {} of net.ipv4.tcp_mem", rounded_bytes(ceiling));
            Finding::new(subject, Grade::Note, value, meaning).sysctl(format!(
                "\"{} {} {most}\"",
                4_096.min(least),
                16_384.min(first)
            ))
        }
        _ => Finding::new(subject, Grade::Ok, value, meaning),
    }
}

/// With less a long way is slow.
const BUFFER_BYTES_SMALL: u64 = 256 << 10;
