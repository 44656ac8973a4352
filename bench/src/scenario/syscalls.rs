//! Owns the count of a process's system calls, by `strace -c -f` attached for the time of a measurement. It makes every call
//! slower, so nothing else is measured meanwhile. Refuses to go on when it cannot attach.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::scenario::programs::words;
use crate::spawn::Spawned;
use crate::trouble::Trouble;

/// A count that goes on.
#[derive(Debug)]
pub struct Count {
    tracer: Spawned,
    summary: PathBuf,
}

/// Why it cannot be counted here, if it cannot.
pub fn unavailable() -> Option<String> {
    if !in_path(PROGRAM) {
        return Some("strace counts system calls, and is not there".into());
    }
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let free = matches!(scope.trim(), "" | "0") || nix::unistd::geteuid().is_root();
    (!free).then(|| "strace counts system calls, and may not attach: kernel.yama.ptrace_scope".into())
}

/// Whether a program can be started by its name alone.
pub(super) fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

impl Count {
    /// Attaches to a process and all its threads. `bench` is the path of `bowline-bench` itself.
    pub fn attach(bench: &Path, pid: u32) -> Result<Self, Trouble> {
        let summary = std::env::temp_dir().join(format!("bowline-bench-strace-{}", std::process::id()));
        let shown = summary.display().to_string();
        let flags = words(&["-c", "-f", "-q", "-p", &pid.to_string(), "-o", &shown]);
        let tracer = Spawned::start(bench, PROGRAM, Path::new(PROGRAM), &flags)?;
        let deadline = Instant::now() + ATTACH_MAX;
        while !is_traced(pid)? {
            if Instant::now() >= deadline {
                return Err(Trouble::Broken(format!("strace could not attach to process {pid}")));
            }
            thread::sleep(STEP);
        }
        Ok(Self { tracer, summary })
    }

    /// Detaches and says how many there were.
    pub fn finish(mut self) -> Result<u64, Trouble> {
        self.tracer.stop(Signal::SIGINT)?;
        let doing = || format!("reading {}", self.summary.display());
        let text = fs::read_to_string(&self.summary).map_err(Trouble::doing(doing()))?;
        fs::remove_file(&self.summary).map_err(Trouble::doing(doing()))?;
        calls(&text).ok_or_else(|| Trouble::Broken(format!("strace's summary is not understood: {text}")))
    }
}

/// Whether all threads of a process are traced.
fn is_traced(pid: u32) -> Result<bool, Trouble> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(Trouble::doing(format!("reading the threads of process {pid}")))?;
    Ok(tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    }))
}

/// The sum of the fourth column: share, seconds, time per call, calls, sometimes errors, name.
fn calls(summary: &str) -> Option<u64> {
    let rows = summary.lines().filter(|line| !line.ends_with(" total"));
    let calls = rows.filter_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        columns.next()?.parse::<f64>().ok()?;
        columns.nth(2)?.parse::<u64>().ok()
    });
    let (count, rows) = calls.fold((0, 0), |(count, rows), calls| (count + calls, rows + 1));
    (rows > 0).then_some(count)
}

const PROGRAM: &str = "strace";
const ATTACH_MAX: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_a_summary_are_added_up() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
                       ------ ----------- ----------- --------- --------- ----------------\n \
                       60.00    0.001200           1      1200        20 recvfrom\n \
                       40.00    0.000800           2       400           epoll_wait\n\
                       ------ ----------- ----------- --------- --------- ----------------\n\
                       100.00    0.002000           1      1600        20 total\n";
        assert_eq!(calls(summary), Some(1_600));
        assert_eq!(calls("strace: attach: ptrace: Operation not permitted\n"), None);
    }
}
