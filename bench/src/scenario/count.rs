//! Owns which of the two things a measurement may count instead of CPU and latency, both of which it distorts: system calls or
//! instructions. Knows when each begins, ends and cannot be had. Called by the load generator's marks and by the suite.

use std::path::Path;

use crate::scenario::instructions;
use crate::scenario::syscalls;
use crate::scenario::syscalls::Count;
use crate::trouble::Trouble;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// System calls, by strace.
    Syscalls,
    /// Instructions, cache misses and allocations, by valgrind, below which the process was started.
    Instructions,
}

impl Counting {
    /// Why it cannot be counted here, if it cannot.
    pub fn unavailable(self) -> Option<String> {
        match self {
            Self::Syscalls => syscalls::unavailable(),
            Self::Instructions => instructions::unavailable(),
        }
    }

    /// The flag of `bowline-bench load`.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Syscalls => "--syscalls",
            Self::Instructions => "--instructions",
        }
    }

    /// Begins to count. `bench` is the path of `bowline-bench` itself.
    pub fn begin(self, bench: &Path, pid: u32) -> Result<Begun, Trouble> {
        match self {
            Self::Syscalls => Ok(Begun::Syscalls(Count::attach(bench, pid)?)),
            Self::Instructions => {
                instructions::switch(pid, true)?;
                Ok(Begun::Instructions(pid))
            }
        }
    }
}

/// A count that goes on.
#[derive(Debug)]
pub enum Begun {
    /// Attached.
    Syscalls(Count),
    /// Of this process.
    Instructions(u32),
}

impl Begun {
    /// Ends it. Says the number of system calls; that of instructions is known when the process has ended.
    pub fn finish(self) -> Result<Option<u64>, Trouble> {
        match self {
            Self::Syscalls(count) => count.finish().map(Some),
            Self::Instructions(pid) => instructions::switch(pid, false).map(|()| None),
        }
    }
}
