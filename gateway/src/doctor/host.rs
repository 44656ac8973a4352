//! Judges memory, processors and threads, as the machine and the control groups give them. Each function looks at one
//! subject. Called by the list in this folder's `mod`.

use super::demand::CONNECTION_BYTES;
use super::demand::Demand;
use super::demand::SOCKET_BYTES;
use super::facts::Facts;
use super::subject::Finding;
use super::subject::Grade;
use super::subject::Subject;
use super::subject::grouped;
use super::subject::rounded_bytes;

/// The least of what the machine has and the control groups allow.
pub(super) fn memory(facts: &Facts, demand: &Demand) -> Finding {
    let group = facts.group_memory_bytes.and_then(|bound| bound.most());
    let Some(most) = group.into_iter().chain(facts.memory_bytes).min() else {
        return Finding::unknown(Subject::Memory);
    };
    let is_group = group == Some(most) && facts.memory_bytes != Some(most);
    let place = if is_group { "control group" } else { "machine" };
    let value = format!("{} ({place})", rounded_bytes(most));
    let idle = demand.idle_bytes();
    let full = idle.saturating_add(demand.buffer_bytes);
    let grade = match most {
        _ if idle > most => Grade::Warn,
        _ if full > most => Grade::Note,
        _ => Grade::Ok,
    };
    let meaning = format!(
        "room for {} idle clients, asked for {}: they take {}, and buffers up to {} more (--buffer-memory-max)",
        grouped(clients_in(most, demand)),
        grouped(demand.clients),
        rounded_bytes(idle),
        rounded_bytes(demand.buffer_bytes)
    );
    let finding = Finding::new(Subject::Memory, grade, value, meaning);
    match grade {
        Grade::Ok => finding,
        _ if is_group => more_memory(finding, full.div_ceil(1 << 20)),
        Grade::Warn => {
            finding.change("bowline run", format!("--max-connections {}", clients_in(most, demand).max(1)))
        }
        _ => {
            let left = most.saturating_sub(idle) >> 20;
            finding.change("bowline run", format!("--buffer-memory-max {}MiB", left.max(16)))
        }
    }
}

fn clients_in(bytes: u64, demand: &Demand) -> u64 {
    let sockets = bytes / (SOCKET_BYTES + CONNECTION_BYTES);
    sockets.saturating_sub(demand.beside()) / (1 + demand.own_least)
}

fn more_memory(finding: Finding, mib: u64) -> Finding {
    finding
        .change("systemd unit, [Service]", format!("MemoryMax={mib}M"))
        .change("docker run", format!("--memory={mib}m"))
}

/// What is idle goes to the disk first.
pub(super) fn swap(facts: &Facts, _: &Demand) -> Finding {
    let Some(bytes) = facts.swap_bytes else { return Finding::unknown(Subject::Swap) };
    if bytes == 0 {
        return Finding::new(
            Subject::Swap,
            Grade::Ok,
            "none".to_owned(),
            "nothing waits for a disk".to_owned(),
        );
    }
    let meaning = "state of idle connections may be swapped out, and then the first byte after a long rest waits for a disk";
    Finding::new(Subject::Swap, Grade::Note, rounded_bytes(bytes), meaning.to_owned())
        .change("systemd unit, [Service]", "MemorySwapMax=0".to_owned())
        .change("shell", "sysctl -w vm.swappiness=1".to_owned())
}

/// Mode 2 refuses memory that was not promised; the others promise freely.
pub(super) fn overcommit(facts: &Facts, demand: &Demand) -> Finding {
    let subject = Subject::Overcommit;
    let Some(mode) = facts.overcommit else { return Finding::unknown(subject) };
    if mode != 2 {
        let meaning = "memory is refused when it is used up, not before".to_owned();
        return Finding::new(subject, Grade::Ok, mode.to_string(), meaning);
    }
    let needed = demand.sockets().saturating_mul(CONNECTION_BYTES).saturating_add(demand.buffer_bytes);
    let Some(left) = facts.commit_left_bytes else {
        let meaning = format!("{} must be promised, and how much can be is not said", rounded_bytes(needed));
        return Finding::new(subject, Grade::Note, "2".to_owned(), meaning).sysctl(0);
    };
    let meaning = format!(
        "{} can still be promised, and {} are needed when all buffers are in use; a process that is refused memory ends",
        rounded_bytes(left),
        rounded_bytes(needed)
    );
    let grade = if left < needed { Grade::Warn } else { Grade::Ok };
    let finding = Finding::new(subject, grade, "2".to_owned(), meaning);
    if grade == Grade::Warn { finding.sysctl(0) } else { finding }
}

/// Transparent hugepages.
pub(super) fn huge_pages(facts: &Facts, _: &Demand) -> Finding {
    let Some(choice) = &facts.huge_pages else { return Finding::unknown(Subject::HugePages) };
    if choice != "always" {
        let meaning = "memory is given in small pages, as it is used".to_owned();
        return Finding::new(Subject::HugePages, Grade::Ok, choice.clone(), meaning);
    }
    let meaning = "the kernel may give 2 MiB where a few KiB are used, so memory per idle connection can be larger than documented";
    let line = format!("echo madvise > {}", Subject::HugePages.setting());
    Finding::new(Subject::HugePages, Grade::Note, choice.clone(), meaning.to_owned()).change("shell", line)
}

/// Affinity.
pub(super) fn processors(facts: &Facts, demand: &Demand) -> Finding {
    let Some(allowed) = facts.processors else { return Finding::unknown(Subject::Processors) };
    // Kernels list those that could be plugged in as allowed, too.
    let allowed = allowed.min(facts.processors_online.unwrap_or(allowed));
    let value = match facts.processors_online {
        Some(online) => format!("{allowed} of {online}"),
        None => allowed.to_string(),
    };
    let workers = demand.workers;
    if workers <= allowed {
        let meaning = format!("each of {workers} workers can have one");
        return Finding::new(Subject::Processors, Grade::Ok, value, meaning);
    }
    let meaning =
        format!("{workers} workers share {allowed}, so they wait for each other; one each is fastest");
    Finding::new(Subject::Processors, Grade::Note, value, meaning)
        .change("bowline run", format!("--workers {allowed}"))
}

/// A group that has used up its share stands still until the period is over.
pub(super) fn processor_quota(facts: &Facts, demand: &Demand) -> Finding {
    let subject = Subject::ProcessorQuota;
    let Some((bound, period_us)) = facts.group_processors else { return Finding::unknown(subject) };
    let Some(thousandths) = bound.most() else {
        let meaning = "no thread is held back".to_owned();
        return Finding::new(subject, Grade::Ok, "none".to_owned(), meaning);
    };
    let share = format!("{}.{:02}", thousandths / 1_000, thousandths % 1_000 / 10);
    let value = format!("{share} processors in periods of {} ms", period_us / 1_000);
    let needed = demand.workers.saturating_mul(1_000);
    if thousandths >= needed {
        let meaning = format!("{} workers fit into it", demand.workers);
        return Finding::new(subject, Grade::Ok, value, meaning);
    }
    let idle_us = u128::from(period_us) * u128::from(needed - thousandths) / u128::from(needed.max(1));
    let meaning = format!(
        "{} workers under load use it up, and then every connection stands still for up to {} ms of each period",
        demand.workers,
        idle_us / 1_000
    );
    Finding::new(subject, Grade::Warn, value, meaning)
        .change("systemd unit, [Service]", format!("CPUQuota={}%", demand.workers.saturating_mul(100)))
        .change("docker run", format!("--cpus={}", demand.workers))
}

/// Threads count as tasks.
pub(super) fn tasks(facts: &Facts, demand: &Demand) -> Finding {
    let Some((bound, used)) = facts.group_tasks else { return Finding::unknown(Subject::Tasks) };
    let Some(most) = bound.most() else {
        let meaning = format!("{} threads are needed", demand.threads);
        return Finding::new(Subject::Tasks, Grade::Ok, "none".to_owned(), meaning);
    };
    let left = most.saturating_sub(used);
    let value = format!("{}, {} in use", grouped(most), grouped(used));
    let meaning = format!("room for {} threads, {} are needed", grouped(left), demand.threads);
    if left >= demand.threads {
        return Finding::new(Subject::Tasks, Grade::Ok, value, meaning);
    }
    let needed = used.saturating_add(demand.threads);
    Finding::new(Subject::Tasks, Grade::Warn, value, meaning)
        .change("systemd unit, [Service]", format!("TasksMax={needed}"))
        .change("docker run", format!("--pids-limit={needed}"))
}
