//! Reads: plan, fetch, merge, page.

pub mod request;
