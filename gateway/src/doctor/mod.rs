//! `bowline doctor`: compares what the operating system allows with what a gateway will ask of it, and says for each limit
//! what it is, what it means and how to raise it. It changes nothing, and what it cannot read is unknown, never a failure.
//! Called by the program's `main`; `bowline run` asks for the same findings and logs those that will bite.

pub mod subject;
#[cfg(test)]
mod made_up;
pub(crate) mod facts;
pub(crate) mod demand;
mod files;
mod network;
mod host;
pub mod report;

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::cgroup::Bound;
use crate::config::fault::Faults;
use crate::config::keys::CONNECTIONS_MAX;
use crate::config::load;
use crate::config::load::DESCRIPTORS_RESERVED;
use crate::config::machine::Machine;

use demand::Demand;
use facts::Facts;
use report::Report;
use subject::Finding;

/// Looks at this machine, for so many connections and the gateway of a configuration file.
pub fn doctor(connections: Option<u64>, config: Option<&str>) -> Result<Report, Faults> {
    look(Path::new("/"), connections, config)
}

/// The same for a machine whose files stand in another folder.
fn look(root: &Path, connections: Option<u64>, config: Option<&str>) -> Result<Report, Faults> {
    // More connections than the limit of descriptors allows are a finding here and no fault.
    let machine = Machine { descriptors_max: u64::MAX, ..Machine::read_below(root) };
    let plan = match config {
        Some(path) => load::plan_of_file(path, &machine)?,
        None => load::plan(&[], &BTreeMap::new(), &machine)?,
    };
    let facts = Facts::read(root);
    let mut demand = Demand::of(&plan);
    // What the loader makes of no limit at all: nobody said a number.
    let said = Some(demand.clients).filter(|clients| *clients < CONNECTIONS_MAX);
    let asked = connections.or(said);
    demand.is_default = asked.is_none();
    demand.clients = asked.unwrap_or_else(|| clients_by_default(&facts));
    Ok(Report::new(&demand, examine(&facts, &demand)))
}

/// What `bowline run` takes where nobody says a number.
fn clients_by_default(facts: &Facts) -> u64 {
    let most = facts.descriptors_usable().unwrap_or(Bound::Most(DESCRIPTORS_UNKNOWN));
    let most = most.most().unwrap_or(CONNECTIONS_MAX);
    most.saturating_sub(DESCRIPTORS_RESERVED).clamp(1, CONNECTIONS_MAX)
}

/// Assumed where the limit cannot be read.
const DESCRIPTORS_UNKNOWN: u64 = 1_024;

/// What is found about each subject, in the order of the vocabulary.
pub(crate) fn examine(facts: &Facts, demand: &Demand) -> Vec<Finding> {
    LOOKS.iter().map(|look| look(facts, demand)).collect()
}

type Look = fn(&Facts, &Demand) -> Finding;

const LOOKS: [Look; subject::Subject::COUNT] = [
    files::descriptors,
    files::descriptor_ceiling,
    files::open_files,
    files::epoll_watches,
    network::backlog,
    network::syn_backlog,
    network::local_ports,
    network::port_reuse,
    network::fin_timeout,
    network::packet_backlog,
    network::tracked_connections,
    network::tcp_memory,
    network::receive_buffer,
    network::send_buffer,
    host::memory,
    host::swap,
    host::overcommit,
    host::huge_pages,
    host::processors,
    host::processor_quota,
    host::tasks,
];

#[cfg(test)]
mod tests;
