//! Configuration: what an operator may say, and the checked form that everything else reads. Flags, environment and file
//! are read into layers ([`said`]) by one table of keys ([`keys`]), and [`load`] makes the [`plan`] of them or says
//! everything that is wrong. Modules stand from the lowest to the highest.

pub mod pattern;
pub mod http;
pub mod plan;
pub mod units;
pub mod fault;
mod document;
pub mod keys;
pub mod url;
pub mod said;
pub mod network;
#[cfg(test)]
pub(crate) mod tree;
pub(crate) mod cgroup;
pub mod machine;
mod files;
mod streams;
mod values;
mod routes;
mod topology;
pub mod load;
