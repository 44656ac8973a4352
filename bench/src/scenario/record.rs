//! Owns the raw results: one line of JSON for the machine and one for each measurement, appended as they come, so that a run
//! that was cut off is still worth something. Written by `suite`, read by the report.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::host::Facts;
use crate::trouble::Trouble;

/// A line of the raw results.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// What the following was measured on, and by which command.
    Run(RunRecord),
    /// A window that is about to be measured.
    Window(WindowRecord),
    /// One measurement.
    Measured(MeasuredRecord),
    /// Something that was left out.
    Skipped(SkippedRecord),
}

/// The beginning of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// The machine.
    pub machine: Facts,
    /// As it was typed.
    pub command: String,
    /// Seconds since 1970.
    pub started_unix_s: u64,
    /// `bowline version`, if there is a gateway.
    pub gateway: Option<String>,
    /// What tells its programs from those of another build.
    #[serde(default)]
    pub build: Option<String>,
}

/// What a window is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WindowRecord {
    /// Its scenario.
    pub scenario: String,
    /// Its name.
    pub window: String,
    /// For people.
    pub about: String,
    /// Connections at a time.
    pub connections: usize,
    /// All that it does, for programs: rounds of windows that differ here are not of the same window.
    #[serde(default)]
    pub what: String,
}

/// One measurement of one target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeasuredRecord {
    /// Its scenario.
    pub scenario: String,
    /// Its window.
    pub window: String,
    /// Whose figures these are.
    pub target: String,
    /// From 0.
    pub round: usize,
    /// From 0; the last one of a round counts.
    pub attempt: usize,
    /// Others took too much CPU meanwhile.
    pub disturbed: bool,
    /// Every answer was right; nothing else counts.
    pub ok: bool,
    /// Why there is no figure.
    pub trouble: Option<String>,
    /// Processes of the target: the first of those whose CPU is told.
    pub processes: usize,
    /// What was started.
    pub commands: Vec<String>,
    /// How much the target's counters grew.
    #[serde(default)]
    pub counters: std::collections::BTreeMap<String, f64>,
    /// What was found; its form depends on the window.
    pub result: Value,
}

impl MeasuredRecord {
    /// Why this round does not count: what went wrong, or how many answers did in which way.
    pub fn why_broken(&self) -> String {
        if let Some(trouble) = &self.trouble {
            return trouble.clone();
        }
        let mut counts = Vec::new();
        for tally in ["/tally", "/idle/tally", "/baseline_tally"].map(|path| self.result.pointer(path)) {
            let tally = tally.and_then(Value::as_object);
            counts.extend(tally.into_iter().flatten().filter_map(|(name, count)| wrong(name, count)));
        }
        if counts.is_empty() { "an answer was lost or wrong".into() } else { counts.join(", ") }
    }
}

/// A count that must be zero and is not; refusals are told by their status, of which 4 says that a server is too busy.
fn wrong(name: &str, count: &Value) -> Option<String> {
    let is_wrong = match count {
        Value::Number(number) => number.as_u64() != Some(0) && !HARMLESS.contains(&name),
        Value::Object(by_status) => !by_status.is_empty(),
        _ => false,
    };
    is_wrong.then(|| format!("{name} {count}"))
}

/// Counts that a run in which all is right has too.
const HARMLESS: [&str; 4] = ["sent", "answered", "heartbeats_sent", "heartbeats_answered"];

/// Something that was left out, with the reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SkippedRecord {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// The file that they are appended to.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: String,
}

impl Journal {
    /// Opens or begins it.
    pub fn open(path: &Path) -> Result<Self, Trouble> {
        let shown = path.display().to_string();
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: file.map_err(Trouble::doing(format!("opening {shown}")))?, path: shown })
    }

    /// Appends one.
    pub fn append(&mut self, record: &Record) -> Result<(), Trouble> {
        let line = serde_json::to_string(record).map_err(Trouble::doing("writing JSON"))?;
        writeln!(self.file, "{line}").map_err(Trouble::doing(format!("writing {}", self.path)))
    }
}

/// All records of a file. The last line may have been cut off, no other may.
pub fn read(path: &Path) -> Result<Vec<Record>, Trouble> {
    let file = File::open(path).map_err(|error| Trouble::Asked(format!("{}: {error}", path.display())))?;
    let lines = BufReader::new(file).lines().collect::<Result<Vec<_>, _>>();
    let lines = lines.map_err(Trouble::doing(format!("reading {}", path.display())))?;
    let mut records = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) if at + 1 == lines.len() => {}
            Err(error) => {
                return Err(Trouble::Asked(format!("{}: line {}: {error}", path.display(), at + 1)));
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn record(result: Value, trouble: Option<&str>) -> MeasuredRecord {
        MeasuredRecord {
            scenario: "s".into(),
            window: "w".into(),
            target: "raw".into(),
            round: 0,
            attempt: 0,
            disturbed: false,
            ok: false,
            trouble: trouble.map(String::from),
            processes: 1,
            commands: Vec::new(),
            counters: BTreeMap::new(),
            result,
        }
    }

    #[test]
    fn a_round_that_does_not_count_says_why() {
        let tally = json!({ "sent": 9, "answered": 5, "lost": 1, "corrupted": 0, "refused": { "4": 3 } });
        let why = record(json!({ "tally": tally }), None).why_broken();
        assert_eq!(why, "lost 1, refused {\"4\":3}");
        assert_eq!(record(json!({ "idle": { "tally": { "lost": 2 } } }), None).why_broken(), "lost 2");
        assert_eq!(record(json!({}), Some("raw ended")).why_broken(), "raw ended");
        assert_eq!(
            record(json!({ "tally": { "refused": {} } }), None).why_broken(),
            "an answer was lost or wrong"
        );
    }
}
