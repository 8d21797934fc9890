//! One process, one folder: commit log and LSM trees behind the store traits.

pub mod rows;
