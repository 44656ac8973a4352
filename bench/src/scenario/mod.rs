//! Owns the recipes that need more than one process: load in several processes, memory of idle connections, connections that
//! come and go, comparison of modes, and the suite that takes all of them of any target. What they have in common is the
//! set of programs that they start.

pub mod programs;

pub mod syscalls;

pub mod instructions;

pub mod count;

pub mod spread_load;

pub mod memory;

pub mod compare;

pub mod churn;

pub mod stalled;

pub mod file;

pub mod estimate;

pub mod peer;

pub mod target;

pub mod record;

pub mod resume;

pub mod window;

pub mod suite;
