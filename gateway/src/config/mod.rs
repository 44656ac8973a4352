//! Configuration: what an operator may say, and the checked form that everything else reads.

pub mod plan;
