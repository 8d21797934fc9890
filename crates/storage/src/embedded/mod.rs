//! One process, one folder: commit log and LSM trees behind the store traits.

pub mod engine;
pub mod rows;
