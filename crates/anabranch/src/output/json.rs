//! One JSON document, indented.

use std::io::{self, Write};

use serde::Serialize;

/// Writes a value and a line break.
pub(crate) fn write(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    out.write_all(b"\n")
}
