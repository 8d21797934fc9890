//! Comma-separated values as RFC 4180 has them, with bare line feeds.

use std::io::{self, Write};

/// Writes a row. A field is quoted only when it has to be.
pub(crate) fn write_row(out: &mut impl Write, fields: &[impl AsRef<str>]) -> io::Result<()> {
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        let field = field.as_ref();
        if field.contains([',', '"', '\n', '\r']) {
            write!(out, "\"{}\"", field.replace('"', "\"\""))?;
        } else {
            out.write_all(field.as_bytes())?;
        }
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_only_when_they_have_to_be() {
        let mut out = Vec::new();
        write_row(&mut out, &["plain", "a,b", "say \"x\"", "two\nlines", ""]).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "plain,\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",\n"
        );
    }
}
