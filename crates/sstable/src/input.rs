//! Bytes and the numbers in them, from a slice or from a stream: the same decoding reads both.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::chunks::Chunks;
use crate::error::{Result, SstableError};

/// Big-endian fields one after the other. Every error says where it is.
pub(crate) trait Input {
    /// The next byte.
    fn u8(&mut self) -> Result<u8>;
    /// The next `length` bytes.
    fn take(&mut self, length: usize) -> Result<Bytes>;
    /// The offset of the next byte.
    fn position(&self) -> u64;
    /// An error about what was just read.
    fn wrong(&self, what: String) -> SstableError;

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes.as_ref()).map_err(|_| self.wrong(format!("{N} bytes are wanted")))
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn f64(&mut self) -> Result<f64> {
        self.array().map(f64::from_be_bytes)
    }

    fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.wrong(format!("{other} is neither true nor false"))),
        }
    }

    /// An unsigned number of one to nine bytes: the first byte's leading ones count the bytes that follow.
    fn vint(&mut self) -> Result<u64> {
        let first = self.u8()?;
        let more = first.leading_ones();
        let mut value = match more {
            0..8 => u64::from(first & (0xff_u8 >> more)),
            _ => 0,
        };
        for _ in 0..more {
            value = (value << 8) | u64::from(self.u8()?);
        }
        Ok(value)
    }

    /// A vint that was written from a 32-bit number: a negative one arrives sign-extended.
    fn vint32(&mut self) -> Result<i32> {
        let wide = self.vint()?.cast_signed();
        i32::try_from(wide).map_err(|_| self.wrong(format!("{wide} does not fit 32 bits")))
    }

    /// A vint that counts something.
    fn count(&mut self) -> Result<usize> {
        let count = self.vint32()?;
        usize::try_from(count).map_err(|_| self.wrong(format!("{count} is no count")))
    }

    /// An `int` that counts something.
    fn count32(&mut self) -> Result<usize> {
        let count = self.i32()?;
        usize::try_from(count).map_err(|_| self.wrong(format!("{count} is no count")))
    }

    /// Bytes after their length as a vint.
    fn vint_bytes(&mut self) -> Result<Bytes> {
        let length = self.count()?;
        self.take(length)
    }

    /// Bytes after their length as a `short`.
    fn short_bytes(&mut self) -> Result<Bytes> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }

    /// Text after its length as a `short`.
    fn short_text(&mut self) -> Result<String> {
        let bytes = self.short_bytes()?;
        self.text(bytes)
    }

    fn text(&self, bytes: Bytes) -> Result<String> {
        String::from_utf8(bytes.into()).map_err(|_| self.wrong("text is not UTF-8".into()))
    }
}

/// Which offsets a [`Cursor`] reports.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Space {
    /// Bytes of the file.
    File,
    /// Uncompressed bytes of the data file.
    Uncompressed,
}

/// Reads a slice that must come out exactly.
#[derive(Debug)]
pub(crate) struct Cursor {
    file: Arc<str>,
    space: Space,
    end: u64,
    rest: Bytes,
}

impl Cursor {
    /// Reads `bytes`, the first of which is at `start`.
    pub(crate) fn new(file: &Arc<str>, space: Space, start: u64, bytes: Bytes) -> Self {
        let end = start.saturating_add(bytes.len() as u64);
        Self {
            file: file.clone(),
            space,
            end,
            rest: bytes,
        }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// An error unless everything has been read.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.wrong(format!("{left} bytes are left over"))),
        }
    }
}

impl Input for Cursor {
    fn u8(&mut self) -> Result<u8> {
        match self.rest.first() {
            Some(byte) => {
                let byte = *byte;
                self.rest.advance(1);
                Ok(byte)
            }
            None => Err(self.wrong("1 byte is wanted and none is left".into())),
        }
    }

    fn take(&mut self, length: usize) -> Result<Bytes> {
        if length > self.rest.len() {
            let left = self.rest.len();
            return Err(self.wrong(format!("{length} bytes are wanted and {left} are left")));
        }
        Ok(self.rest.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.first_chunk::<N>() {
            Some(array) => {
                let array = *array;
                self.rest.advance(N);
                Ok(array)
            }
            None => Err(self.wrong(format!("{N} bytes are wanted and {} are left", self.rest.len()))),
        }
    }

    fn position(&self) -> u64 {
        self.end - self.rest.len() as u64
    }

    fn wrong(&self, what: String) -> SstableError {
        let (file, at) = (self.file.clone(), self.position());
        match self.space {
            Space::File => SstableError::Damaged {
                file,
                offset: at,
                what,
            },
            Space::Uncompressed => SstableError::Malformed {
                file,
                position: at,
                what,
            },
        }
    }
}

/// The uncompressed data file, front to back, one chunk in memory.
#[derive(Debug)]
pub(crate) struct DataInput {
    file: Arc<str>,
    chunks: Chunks,
    chunk: Bytes,
    position: u64,
}

impl DataInput {
    pub(crate) fn new(file: Arc<str>, chunks: Chunks) -> Self {
        Self {
            file,
            chunks,
            chunk: Bytes::new(),
            position: 0,
        }
    }

    pub(crate) fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Whether every byte has been read. What ends the file is then checked too.
    pub(crate) fn at_end(&mut self) -> Result<bool> {
        Ok(self.chunk.is_empty() && !self.next_chunk()?)
    }

    /// Reads the next `length` bytes as a slice that must come out exactly.
    pub(crate) fn cursor(&mut self, length: usize) -> Result<Cursor> {
        let start = self.position;
        let bytes = self.take(length)?;
        Ok(Cursor::new(&self.file, Space::Uncompressed, start, bytes))
    }

    fn left(&self) -> u64 {
        self.chunks.uncompressed_length().saturating_sub(self.position)
    }

    fn next_chunk(&mut self) -> Result<bool> {
        while self.chunk.is_empty() {
            match self.chunks.next()? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn too_short(&self, length: usize) -> SstableError {
        self.wrong(format!(
            "{length} bytes are wanted and the data ends {} bytes later",
            self.left()
        ))
    }
}

impl Input for DataInput {
    fn u8(&mut self) -> Result<u8> {
        loop {
            if let Some(byte) = self.chunk.first() {
                let byte = *byte;
                self.chunk.advance(1);
                self.position += 1;
                return Ok(byte);
            }
            if !self.next_chunk()? {
                return Err(self.too_short(1));
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<Bytes> {
        if length > self.chunk.len() {
            return self.gather(length);
        }
        self.position += length as u64;
        Ok(self.chunk.split_to(length))
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn wrong(&self, what: String) -> SstableError {
        SstableError::Malformed {
            file: self.file.clone(),
            position: self.position,
            what,
        }
    }
}

impl DataInput {
    /// Bytes that lie in more than one chunk. A length that cannot be is refused before memory is asked for.
    fn gather(&mut self, length: usize) -> Result<Bytes> {
        if length as u64 > self.left() {
            return Err(self.too_short(length));
        }
        let mut gathered = BytesMut::with_capacity(length.min(1 << 20));
        while gathered.len() < length {
            if !self.next_chunk()? {
                return Err(self.too_short(length - gathered.len()));
            }
            let part = self.chunk.len().min(length - gathered.len());
            gathered.extend_from_slice(&self.chunk.split_to(part));
            self.position += part as u64;
        }
        Ok(gathered.freeze())
    }
}
