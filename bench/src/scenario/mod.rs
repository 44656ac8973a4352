//! Owns the recipes that need more than one process: load in several processes, memory of idle connections, comparison of
//! modes. What they have in common is the set of programs that they start.

pub mod programs;

pub mod spread_load;

pub mod memory;

pub mod compare;
