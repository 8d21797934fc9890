//! The read path against a model that is a sorted list.

mod deadlines;
mod searches;
mod support;
mod walks;
