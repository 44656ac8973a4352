//! Owns the count of what a process executes: instructions, simulated cache misses and allocations, by valgrind's callgrind.
//! The process runs below it from its start and is counted only between two marks. It is many times as slow meanwhile and runs
//! one thread at a time, so nothing else is measured. Called by `spread_load` (marks) and `window` (start and result).

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use serde::Serialize;

use crate::scenario::programs::words;
use crate::scenario::syscalls::in_path;
use crate::trouble::Trouble;

/// Why it cannot be counted here, if it cannot.
pub fn unavailable() -> Option<String> {
    let missing = [VALGRIND, CONTROL].into_iter().find(|program| !in_path(program))?;
    Some(format!("valgrind counts instructions, and {missing} is not there; the package valgrind has it"))
}

/// What starts `program` so that it can be counted; the result goes to `out`.
pub fn below_callgrind(program: &Path, arguments: &[OsString], out: &Path) -> Vec<OsString> {
    let file = format!("--callgrind-out-file={}", out.display());
    let mut all = words(&["--tool=callgrind", "--quiet", "--instr-atstart=no", "--fair-sched=yes"]);
    // One last-level cache for all machines, or figures of two of them could not be compared.
    all.extend(words(&["--cache-sim=yes", LAST_LEVEL, &file]));
    all.push(program.into());
    all.extend_from_slice(arguments);
    all
}

/// The program that does it.
pub const VALGRIND: &str = "valgrind";

/// Begins or ends the count of a process.
pub fn switch(pid: u32, on: bool) -> Result<(), Trouble> {
    let arguments = ["-i", if on { "on" } else { "off" }, &pid.to_string()].map(OsString::from);
    let output = Command::new(CONTROL).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(Trouble::doing(format!("starting {CONTROL}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    Err(Trouble::Broken(format!("{CONTROL} did not reach process {pid}: {said}")))
}

/// What was executed between the marks, per answered request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counted {
    /// Requests that were answered between the marks.
    pub answered: u64,
    /// Instructions.
    pub instructions_per_request: f64,
    /// Misses of the first-level caches, of instructions and of data.
    pub first_level_misses_per_request: f64,
    /// Misses of the last-level cache.
    pub last_level_misses_per_request: f64,
    /// Memory that was asked for: calls of malloc and its kind.
    pub allocations_per_request: f64,
    /// Who asked most often, and how often in all.
    pub allocated_by: Vec<(String, u64)>,
}

/// Reads what callgrind has written.
pub fn read(out: &Path, answered: u64) -> Result<Counted, Trouble> {
    let doing = || format!("reading {}", out.display());
    let text = std::fs::read_to_string(out).map_err(Trouble::doing(doing()))?;
    std::fs::remove_file(out).map_err(Trouble::doing(doing()))?;
    counted(&text, answered).ok_or_else(|| {
        Trouble::Broken(format!(
            "{} has no totals, or {answered} requests were answered meanwhile",
            out.display()
        ))
    })
}

/// Nothing where no request was answered: there is nothing that it could be divided by.
fn counted(text: &str, answered: u64) -> Option<Counted> {
    if answered == 0 {
        return None;
    }
    let totals = totals(text)?;
    let mut allocated_by: Vec<_> = allocations(text).into_iter().collect();
    allocated_by.sort_by(|(a_name, a), (b_name, b)| b.cmp(a).then_with(|| a_name.cmp(b_name)));
    let allocations: u64 = allocated_by.iter().map(|(_, count)| count).sum();
    allocated_by.truncate(CALLERS_MAX);
    let per_request = |count: u64| count as f64 / answered as f64;
    let sum = |events: &[&str]| per_request(events.iter().filter_map(|event| totals.get(event)).sum());
    Some(Counted {
        answered,
        instructions_per_request: per_request(*totals.get("Ir")?),
        first_level_misses_per_request: sum(&["I1mr", "D1mr", "D1mw"]),
        last_level_misses_per_request: sum(&["ILmr", "DLmr", "DLmw"]),
        allocations_per_request: per_request(allocations),
        allocated_by,
    })
}

/// By event: the columns of the line `events:` with the numbers of the line `totals:`. Trailing zeros may be missing.
fn totals(text: &str) -> Option<HashMap<&str, u64>> {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let numbers = line("totals:")?.split_ascii_whitespace().map(str::parse);
    let numbers = numbers.collect::<Result<Vec<u64>, _>>().ok()?;
    let numbers = numbers.into_iter().chain(std::iter::repeat(0));
    Some(line("events:")?.split_ascii_whitespace().zip(numbers).collect())
}

/// How often each function called one of the allocator's. A name stands only where it comes first, `fn=(7) main`; later
/// lines have its number alone.
fn allocations(text: &str) -> HashMap<String, u64> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut caller, mut callee) = ("", "");
    let mut counts = HashMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            callee = name_of(name, &mut names);
        } else if let Some(name) = line.strip_prefix("fn=") {
            caller = name_of(name, &mut names);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let count: u64 = calls.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
            // Some of them are made of others: each piece of memory counts once.
            if is_allocator(callee) && !is_allocator(caller) {
                *counts.entry(caller.to_owned()).or_insert(0) += count;
            }
        }
    }
    counts
}

fn is_allocator(function: &str) -> bool {
    ALLOCATORS.contains(&function.strip_prefix(JEMALLOC).unwrap_or(function))
}

fn name_of<'a>(text: &'a str, names: &mut HashMap<&'a str, &'a str>) -> &'a str {
    let (number, name) = text.split_once(' ').unwrap_or((text, ""));
    if name.is_empty() {
        return names.get(number).copied().unwrap_or_default();
    }
    names.insert(number, name);
    name
}

const CONTROL: &str = "callgrind_control";
const LAST_LEVEL: &str = "--LL=8388608,16,64";
const ALLOCATORS: [&str; 8] =
    ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign", "mallocx", "rallocx"];
/// What stands before the names of the gateway's own allocator; the bare relays have the C library's.
const JEMALLOC: &str = "_rjem_";
const CALLERS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: &str = "events: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw\nsummary: 0\n\n\
        ob=(2) bowline\nfn=(1) turn\n12 100 5\ncfn=(3) malloc\ncalls=4 +2 \n13 40\ncfn=(4) free\ncalls=9 0\n13 9\n\n\
        fn=(5) grow\ncfn=(6) realloc\ncalls=2 0\n1 1\n\nfn=(6)\ncfn=(3)\ncalls=2 0\n1 1\n\n\
        fn=(1)\ncfn=(3)\ncalls=1 0\n2 2\n\ntotals: 1000 300 200 1 20 9 0 4\n";

    #[test]
    fn instructions_misses_and_allocations_are_per_answered_request() {
        let counted = counted(OUT, 10).expect("it has totals");
        assert_eq!((counted.answered, counted.instructions_per_request), (10, 100.0));
        assert_eq!(counted.first_level_misses_per_request, 3.0);
        assert_eq!(counted.last_level_misses_per_request, 0.4, "the last column was zero and left out");
        assert_eq!(counted.allocations_per_request, 0.7, "realloc's own malloc is no second one");
        assert_eq!(counted.allocated_by, [("turn".to_owned(), 5), ("grow".into(), 2)]);
    }

    #[test]
    fn the_gateways_own_allocator_counts_as_the_c_librarys() {
        let out = OUT.replace("(3) malloc", "(3) _rjem_malloc").replace("(6) realloc", "(6) _rjem_rallocx");
        let counted = counted(&out, 10).expect("it has totals");
        assert_eq!(counted.allocated_by, [("turn".to_owned(), 5), ("grow".into(), 2)]);
    }

    #[test]
    fn what_callgrind_did_not_write_is_no_count() {
        for wrong in
            ["", "events: Ir\n", "events: Ir\ntotals: many\n", "totals: 5\n", "events: Dr\ntotals: 5\n"]
        {
            assert_eq!(counted(wrong, 1), None, "{wrong:?}");
        }
        assert_eq!(counted(OUT, 0), None, "no request was answered");
    }

    #[test]
    fn the_program_comes_behind_the_flags() {
        let all = below_callgrind(Path::new("bowline"), &words(&["run"]), Path::new("x/out"));
        let shown: Vec<_> = all.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(shown[shown.len() - 3..], ["--callgrind-out-file=x/out", "bowline", "run"]);
    }
}
