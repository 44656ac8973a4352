//! All findings with what was asked for, and their two forms: lines for people, JSON for programs. It judges nothing;
//! whether something bites is the worst grade. Made in this folder's `mod`, printed by the program's `main`.

use serde::Serialize;

use super::demand::Demand;
use super::subject::Change;
use super::subject::Finding;
use super::subject::Grade;
use super::subject::grouped;

/// What `bowline doctor` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Clients that the machine should hold.
    pub connections: u64,
    /// Sockets that they and their upstreams need, at least.
    pub sockets: u64,
    /// One for each subject.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(demand: &Demand, findings: Vec<Finding>) -> Report {
        debug_assert!(findings.iter().all(|finding| !finding.meaning.is_empty()));
        Report { connections: demand.clients, sockets: demand.sockets(), findings }
    }

    /// Whether something is in the way of what was asked for.
    pub fn bites(&self) -> bool {
        self.count(Grade::Warn) > 0
    }

    fn count(&self, grade: Grade) -> usize {
        self.findings.iter().filter(|finding| finding.grade == grade).count()
    }

    /// For people: a line per finding, one below it for each way to change it, the sum last.
    pub fn text(&self) -> String {
        let mut lines =
            vec![format!("for {} clients, {} sockets", grouped(self.connections), grouped(self.sockets))];
        for finding in &self.findings {
            let (grade, name) = (finding.grade.name(), finding.subject.name());
            let (setting, value, meaning) = (finding.subject.setting(), &finding.value, &finding.meaning);
            lines.push(format!("{grade:7} {name:19} {setting} = {value}"));
            lines.push(format!("{:27} {meaning}", ""));
            let changes = finding.changes.iter();
            lines.extend(changes.map(|change| format!("{:27} {}: {}", "", change.place, change.line)));
        }
        lines.push(format!(
            "{} in the way, {} to note, {} unknown, {} ok",
            self.count(Grade::Warn),
            self.count(Grade::Note),
            self.count(Grade::Unknown),
            self.count(Grade::Ok)
        ));
        lines.join("\n")
    }

    /// For programs: one line.
    pub fn json(&self) -> String {
        let findings = self.findings.iter().map(|finding| FindingJson {
            name: finding.subject.name(),
            setting: finding.subject.setting(),
            grade: finding.grade,
            value: &finding.value,
            meaning: &finding.meaning,
            changes: &finding.changes,
        });
        let report = ReportJson {
            connections: self.connections,
            sockets: self.sockets,
            bites: self.bites(),
            findings: findings.collect(),
        };
        serde_json::to_string(&report).expect("its keys are text and its numbers finite")
    }
}

#[derive(Serialize)]
struct ReportJson<'a> {
    connections: u64,
    sockets: u64,
    bites: bool,
    findings: Vec<FindingJson<'a>>,
}

#[derive(Serialize)]
struct FindingJson<'a> {
    name: &'a str,
    setting: &'a str,
    grade: Grade,
    value: &'a str,
    meaning: &'a str,
    changes: &'a [Change],
}
