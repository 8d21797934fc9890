//! The read path against a model that is a sorted list.

mod aggregates;
mod deadlines;
mod searches;
mod speed;
mod support;
mod walks;
