//! Cuts bytes into lines, with their numbers and within a bound.

use std::io::{self, BufRead, BufReader, Read};

/// Longest line taken, in bytes: the largest event in base64, escaped, with room.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 20;

/// Lines of an input.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    bytes_max: usize,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Its bytes, without the line break.
    Text(&'a [u8]),
    /// It has more bytes than are taken.
    TooLong,
}

impl<R: Read> Lines<R> {
    /// Lines of a reader.
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(256 << 10, reader),
            line: Vec::new(),
            number: 0,
            bytes_max: LINE_BYTES_MAX,
        }
    }

    /// The number of the line that was read last; the first is 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next line; nothing at the end.
    pub(crate) fn read(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut too_long = false;
        let mut any = false;
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // The fault lies in the line that could not be read.
                    self.number += 1;
                    return Err(error);
                }
            };
            if buffer.is_empty() {
                break;
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            if too_long || self.line.len() + part.len() > self.bytes_max {
                too_long = true;
                self.line.clear();
            } else {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        if too_long {
            return Ok(Some(Line::TooLong));
        }
        let text = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let text = match self.number {
            1 => text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text),
            _ => text,
        };
        Ok(Some(Line::Text(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_numbers_and_no_line_breaks() {
        let mut lines = Lines::new(&b"\xef\xbb\xbfone\r\n\ntwo"[..]);
        assert_eq!(lines.read().unwrap(), Some(Line::Text(b"one")));
        assert_eq!(lines.read().unwrap(), Some(Line::Text(b"")));
        assert_eq!(lines.read().unwrap(), Some(Line::Text(b"two")));
        assert_eq!(lines.number(), 3);
        assert_eq!(lines.read().unwrap(), None);
        assert_eq!(lines.number(), 3);
    }

    #[test]
    fn a_line_too_long_is_passed_over_whole() {
        let text = format!("a\n{}\nb\n", "x".repeat(600_000));
        let mut lines = Lines::new(text.as_bytes());
        lines.bytes_max = 300_000;
        assert_eq!(lines.read().unwrap(), Some(Line::Text(b"a")));
        assert_eq!(lines.read().unwrap(), Some(Line::TooLong));
        assert_eq!(lines.read().unwrap(), Some(Line::Text(b"b")));
        assert_eq!(lines.number(), 3);
    }
}
