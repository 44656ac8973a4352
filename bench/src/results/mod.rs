//! Owns what is made of raw results: medians and spreads, verdicts on the targets, pictures, a page, and how many connections
//! a machine holds. Measures nothing, and refuses to make a figure of a measurement that lost an answer.

pub mod figures;

pub mod goals;

pub mod picture;

pub mod published;

pub mod commands;

pub mod explained;

pub mod page;

pub mod capacity;
