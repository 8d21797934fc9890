//! Who does something in a world, each with its own dice.

pub(crate) mod chaos;
pub(crate) mod damage;
pub(crate) mod operator;
pub(crate) mod reader;
pub(crate) mod writer;
