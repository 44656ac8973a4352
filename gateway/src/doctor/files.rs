//! Judges what bounds open files: of this process, of any process, of the machine, of one user's epoll sets. Each function
//! looks at one subject. Called by the list in this folder's `mod`.

use crate::config::cgroup::Bound;
use crate::config::load::DESCRIPTORS_RESERVED;

use super::demand::Demand;
use super::facts::Facts;
use super::subject::Finding;
use super::subject::Grade;
use super::subject::Subject;
use super::subject::grouped;

/// `RLIMIT_NOFILE`.
pub(super) fn descriptors(facts: &Facts, demand: &Demand) -> Finding {
    let (Some((soft, hard)), Some(usable)) = (facts.descriptors, facts.descriptors_usable()) else {
        return Finding::unknown(Subject::Descriptors);
    };
    let value = if soft == hard { said(hard) } else { format!("soft {}, hard {}", said(soft), said(hard)) };
    let Some(most) = usable.most() else {
        return Finding::new(Subject::Descriptors, Grade::Ok, value, "bounds nothing".to_owned());
    };
    if demand.is_default && most <= DESCRIPTORS_RESERVED {
        let meaning = format!(
            "`bowline run` does not start without --max-connections, since it leaves {DESCRIPTORS_RESERVED} for other uses"
        );
        return raised(Finding::new(Subject::Descriptors, Grade::Warn, value, meaning), 65_536);
    }
    let grade = grade(most, demand);
    let finding = Finding::new(Subject::Descriptors, grade, value, descriptors_meaning(most, demand, grade));
    match grade {
        Grade::Warn => raised(finding, demand.sockets_most()).change("bowline run", fewer(most, demand)),
        Grade::Note => raised(finding, demand.sockets_most()),
        _ => finding,
    }
}

fn said(bound: Bound) -> String {
    bound.most().map_or("unlimited".to_owned(), grouped)
}

fn grade(most: u64, demand: &Demand) -> Grade {
    if demand.sockets() > most {
        Grade::Warn
    } else if demand.sockets_most() > most {
        Grade::Note
    } else {
        Grade::Ok
    }
}

/// Clients that fit when each has so many sockets beside its own.
fn held(most: u64, own: u64, demand: &Demand) -> u64 {
    most.saturating_sub(demand.beside()) / (1 + own)
}

fn descriptors_meaning(most: u64, demand: &Demand, grade: Grade) -> String {
    let Demand { clients, own_least, own_most, .. } = *demand;
    let own = if grade == Grade::Warn { own_least } else { own_most };
    let held = grouped(held(most, own, demand));
    let (asked, beside) = (grouped(clients), demand.beside());
    let each = match (own, grade) {
        (0, _) => String::new(),
        (_, Grade::Note) => format!(
            " if each takes {} descriptors, as clients of {} may, for upstream connections of their own",
            1 + own,
            demand.own_listeners.join(", ")
        ),
        _ => format!(
            ", each with {} descriptors, since clients of {} have upstream connections of their own",
            1 + own,
            demand.own_listeners.join(", ")
        ),
    };
    format!(
        "holds {held} clients{each}, asked for {asked}; {beside} are for shared upstream connections, the admin interface and the process itself"
    )
}

fn fewer(most: u64, demand: &Demand) -> String {
    format!("--max-connections {}", held(most, demand.own_least, demand).max(1))
}

fn raised(finding: Finding, needed: u64) -> Finding {
    finding
        .change("shell, before the start", format!("ulimit -n {needed}"))
        .change("systemd unit, [Service]", format!("LimitNOFILE={needed}"))
        .change("/etc/security/limits.conf", format!("* hard nofile {needed}"))
        .change("docker run", format!("--ulimit nofile={needed}:{needed}"))
}

/// `fs.nr_open`: no process may have a higher limit, and none may raise its own to a higher one.
pub(super) fn descriptor_ceiling(facts: &Facts, demand: &Demand) -> Finding {
    let Some(most) = facts.open_max else { return Finding::unknown(Subject::DescriptorCeiling) };
    let needed = demand.sockets();
    let value = grouped(most);
    if let Some((soft, hard)) = facts.descriptors
        && hard > Bound::Most(most)
        && soft < Bound::Most(needed)
    {
        let meaning = format!(
            "is below the hard limit of descriptors, so the soft limit of {} cannot be raised and {} are needed",
            said(soft),
            grouped(needed)
        );
        let least = hard.most().unwrap_or(needed).max(needed);
        return Finding::new(Subject::DescriptorCeiling, Grade::Warn, value, meaning).sysctl(least);
    }
    bounded(Subject::DescriptorCeiling, most, demand, value, needed)
}

/// `fs.file-max`, less what is open already.
pub(super) fn open_files(facts: &Facts, demand: &Demand) -> Finding {
    let Some(most) = facts.files_max else { return Finding::unknown(Subject::OpenFiles) };
    let open = facts.files_open.unwrap_or(0);
    let value = format!("{}, {} open", grouped(most), grouped(open));
    let needed = demand.sockets().saturating_add(open);
    bounded(Subject::OpenFiles, most.saturating_sub(open), demand, value, needed)
}

/// `fs.epoll.max_user_watches`: each socket is watched once.
pub(super) fn epoll_watches(facts: &Facts, demand: &Demand) -> Finding {
    let Some(most) = facts.watches_max else { return Finding::unknown(Subject::EpollWatches) };
    bounded(Subject::EpollWatches, most, demand, grouped(most), demand.sockets())
}

/// One number against the sockets that are needed.
fn bounded(subject: Subject, most: u64, demand: &Demand, value: String, needed: u64) -> Finding {
    let grade = if demand.sockets() > most { Grade::Warn } else { Grade::Ok };
    let meaning = format!(
        "room for {} clients, asked for {}",
        grouped(held(most, demand.own_least, demand)),
        grouped(demand.clients)
    );
    let finding = Finding::new(subject, grade, value, meaning);
    if grade == Grade::Warn { finding.sysctl(needed) } else { finding }
}
