//! Owns what a run that was cut off need not measure again: rounds that stand in the raw results, of the same programs and
//! under the same window. Refuses those of another build: their figures must not be mixed. Called by `suite`.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::scenario::record;
use crate::scenario::record::MeasuredRecord;
use crate::scenario::record::Record;
use crate::trouble::Trouble;

/// Rounds that are done.
#[derive(Clone, Debug, Default)]
pub struct Done(HashSet<Key>);

/// Scenario, window, what it does, target, round.
type Key = (String, String, String, String, usize);

impl Done {
    /// What a file of raw results says about this build; nothing if there is no file. A round whose last attempt was right
    /// is done, unless it was about to be taken again because others disturbed it.
    pub fn read(path: &Path, build: &str, attempts_max: usize) -> Result<Self, Trouble> {
        if !path.exists() {
            return Ok(Self::default());
        }
        Ok(Self::of(&record::read(path)?, build, attempts_max))
    }

    fn of(records: &[Record], build: &str, attempts_max: usize) -> Self {
        let mut done = HashSet::new();
        let (mut same_build, mut what) = (false, String::new());
        for record in records {
            match record {
                Record::Run(run) => same_build = run.build.as_deref() == Some(build),
                Record::Window(window) => what.clone_from(&window.what),
                Record::Measured(measured) if same_build && is_done(measured, attempts_max) => {
                    done.insert(key(measured, what.clone()));
                }
                Record::Measured(_) | Record::Skipped(_) => {}
            }
        }
        Self(done)
    }

    /// Whether a round need not be measured.
    pub fn contains(&self, scenario: &str, window: &str, what: &str, target: &str, round: usize) -> bool {
        self.0.contains(&(scenario.into(), window.into(), what.into(), target.into(), round))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_done(measured: &MeasuredRecord, attempts_max: usize) -> bool {
    measured.ok && (!measured.disturbed || measured.attempt + 1 >= attempts_max)
}

fn key(measured: &MeasuredRecord, what: String) -> Key {
    let MeasuredRecord { scenario, window, target, round, .. } = measured;
    (scenario.clone(), window.clone(), what, target.clone(), *round)
}

/// What tells one build of some programs from another: their bytes, in short. One that cannot be read counts as empty.
pub fn build_of<'a>(programs: impl IntoIterator<Item = &'a Path>) -> String {
    let ids = programs.into_iter().map(|program| {
        let bytes = fs::read(program).unwrap_or_default();
        format!("{:016x}", fnv1a(&bytes))
    });
    ids.collect::<Vec<_>>().join("-")
}

/// FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::host::Facts;
    use crate::scenario::record::RunRecord;
    use crate::scenario::record::WindowRecord;

    fn run(build: &str) -> Record {
        Record::Run(RunRecord {
            machine: Facts::default(),
            command: String::new(),
            started_unix_s: 0,
            gateway: None,
            build: Some(build.into()),
        })
    }

    fn window(what: &str) -> Record {
        let (scenario, window, about) = ("s".to_owned(), "w".to_owned(), String::new());
        Record::Window(WindowRecord { scenario, window, about, connections: 1, what: what.into() })
    }

    fn measured(round: usize) -> MeasuredRecord {
        MeasuredRecord {
            scenario: "s".into(),
            window: "w".into(),
            target: "raw".into(),
            round,
            attempt: 0,
            disturbed: false,
            ok: true,
            trouble: None,
            processes: 1,
            commands: Vec::new(),
            counters: std::collections::BTreeMap::new(),
            result: Value::Null,
        }
    }

    fn done(records: &[Record]) -> Vec<usize> {
        let done = Done::of(records, "b", 2);
        (0..4).filter(|round| done.contains("s", "w", "3 s", "raw", *round)).collect()
    }

    #[test]
    fn rounds_that_are_right_are_done() {
        let broken = MeasuredRecord { ok: false, ..measured(1) };
        let disturbed = MeasuredRecord { disturbed: true, ..measured(2) };
        let again = MeasuredRecord { attempt: 1, disturbed: true, ..measured(3) };
        let all = [measured(0), broken, disturbed, again].map(Record::Measured);
        assert_eq!(done(&[&[run("b"), window("3 s")], &all[..]].concat()), [0, 3]);
    }

    #[test]
    fn another_build_or_another_window_of_that_name_does_not_count() {
        let round = || Record::Measured(measured(0));
        assert!(done(&[run("a"), window("3 s"), round()]).is_empty());
        assert!(done(&[run("b"), window("10 s"), round()]).is_empty());
        assert_eq!(done(&[run("a"), window("3 s"), round(), run("b"), window("3 s"), round()]), [0]);
    }

    #[test]
    fn a_build_is_told_by_the_bytes_of_its_programs() {
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c, "the published value");
        let (this, missing) = (std::env::current_exe().expect("it runs"), Path::new("no/such/program"));
        assert_eq!(build_of([missing]), format!("{FNV_OFFSET:016x}"));
        assert_ne!(build_of([&*this, missing]), build_of([missing, missing]));
    }
}
