//! The whole system in one process from one seed.
