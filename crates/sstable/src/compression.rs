//! `CompressionInfo.db`: compressor, chunk length, and where each chunk starts.
//!
//! The offsets are read as the chunks are, so that a terabyte of chunks needs no more memory than one. The
//! file has no checksum of its own: every field is either implied by another or by the data.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use crate::components::{Component, Components, Stream};
use crate::error::{Result, SstableError};
use crate::input::{Cursor, Input, Space};

/// Where Cassandra says "chunks are never stored raw".
const NEVER_RAW: u32 = i32::MAX.cast_unsigned();
/// Longer chunks than any that Cassandra writes: it holds three of them in memory itself.
const CHUNK_BYTES_MAX: u32 = 1 << 28;

/// A compressor that Cassandra 5 ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compressor {
    /// `LZ4Compressor`: a block after its length, little-endian.
    Lz4,
    /// `SnappyCompressor`: the raw format.
    Snappy,
    /// `DeflateCompressor`: zlib.
    Deflate,
    /// `ZstdCompressor`: one frame.
    Zstd,
    /// `NoopCompressor`: chunks and checksums, nothing compressed.
    Noop,
}

impl Compressor {
    fn parse(name: &str) -> Option<Self> {
        match name
            .strip_prefix("org.apache.cassandra.io.compress.")
            .unwrap_or(name)
        {
            "LZ4Compressor" => Some(Self::Lz4),
            "SnappyCompressor" => Some(Self::Snappy),
            "DeflateCompressor" => Some(Self::Deflate),
            "ZstdCompressor" => Some(Self::Zstd),
            "NoopCompressor" => Some(Self::Noop),
            _ => None,
        }
    }

    /// The chunk's content, which is `length` bytes; why not, otherwise.
    pub(crate) fn decompress(self, chunk: &Bytes, length: usize) -> std::result::Result<Bytes, String> {
        if length == 0 && chunk.is_empty() {
            // What Java's deflater makes of nothing.
            return Ok(Bytes::new());
        }
        let mut out = vec![0; length];
        let written = match self {
            Self::Noop => return exactly(chunk.clone(), chunk.len(), length),
            Self::Lz4 => {
                let (said, block) = chunk
                    .split_first_chunk::<4>()
                    .ok_or("no length before the block")?;
                let said = u32::from_le_bytes(*said);
                if u64::from(said) != length as u64 {
                    return Err(format!("the block is said to hold {said} bytes, not {length}"));
                }
                lz4_flex::block::decompress_into(block, &mut out).map_err(|error| error.to_string())?
            }
            Self::Snappy => {
                let said = snap::raw::decompress_len(chunk).map_err(|error| error.to_string())?;
                if said != length {
                    return Err(format!("the block is said to hold {said} bytes, not {length}"));
                }
                let mut decoder = snap::raw::Decoder::new();
                decoder
                    .decompress(chunk, &mut out)
                    .map_err(|error| error.to_string())?
            }
            Self::Deflate => inflate(chunk, &mut out)?,
            Self::Zstd => {
                let mut buffer = zstd::bulk::Decompressor::new().map_err(|error| error.to_string())?;
                let written = buffer.decompress_to_buffer(chunk, &mut out[..]);
                written.map_err(|error| error.to_string())?
            }
        };
        exactly(out.into(), written, length)
    }
}

fn exactly(bytes: Bytes, written: usize, length: usize) -> std::result::Result<Bytes, String> {
    if written == length && bytes.len() == length {
        return Ok(bytes);
    }
    Err(format!("the chunk holds {written} bytes, not {length}"))
}

fn inflate(chunk: &[u8], out: &mut [u8]) -> std::result::Result<usize, String> {
    let mut inflater = flate2::Decompress::new(true);
    let status = inflater
        .decompress(chunk, out, flate2::FlushDecompress::Finish)
        .map_err(|error| error.to_string())?;
    if status != flate2::Status::StreamEnd || inflater.total_in() != chunk.len() as u64 {
        return Err("the stream does not end with the chunk".into());
    }
    usize::try_from(inflater.total_out()).map_err(|error| error.to_string())
}

/// The head of `CompressionInfo.db`, and its offsets one by one.
pub(crate) struct CompressionInfo {
    pub(crate) compressor: Compressor,
    /// Uncompressed bytes in every chunk but the last.
    pub(crate) chunk_length: u32,
    /// Chunks of this length and longer are stored raw.
    pub(crate) max_compressed_length: u32,
    /// Uncompressed bytes in all.
    pub(crate) data_length: u64,
    pub(crate) chunk_count: u64,
    file: Arc<str>,
    offset: u64,
    offsets: Box<dyn Read + Send>,
}

impl std::fmt::Debug for CompressionInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompressionInfo")
            .field("compressor", &self.compressor)
            .field("chunk_length", &self.chunk_length)
            .field("data_length", &self.data_length)
            .finish_non_exhaustive()
    }
}

impl CompressionInfo {
    /// Reads the head, or finds that there is no such file.
    pub(crate) fn open(components: &dyn Components) -> Result<Option<Self>> {
        let file: Arc<str> = components.name(Component::CompressionInfo).into();
        let io = |source| SstableError::Io {
            file: file.clone(),
            offset: 0,
            source,
        };
        let Some(Stream {
            length,
            bytes: mut stream,
        }) = components.open(Component::CompressionInfo).map_err(io)?
        else {
            return Ok(None);
        };
        // Names and options are short; offsets follow them directly.
        let mut head = Vec::new();
        (&mut stream)
            .take(HEAD_BYTES_MAX)
            .read_to_end(&mut head)
            .map_err(io)?;
        let head = Bytes::from(head);
        let mut cursor = Cursor::new(&file, Space::File, 0, head);

        let name = cursor.short_text()?;
        let options = cursor.count32()?;
        for _ in 0..options {
            let (_key, _value) = (cursor.short_text()?, cursor.short_text()?);
        }
        let chunk_length = cursor.u32()?;
        if !chunk_length.is_power_of_two() || chunk_length > CHUNK_BYTES_MAX {
            return Err(cursor.wrong(format!("{chunk_length} is no chunk length")));
        }
        let max_compressed_length = cursor.u32()?;
        if max_compressed_length > chunk_length && max_compressed_length != NEVER_RAW {
            return Err(cursor.wrong(format!("{max_compressed_length} is longer than a chunk")));
        }
        let data_length = cursor.i64()?;
        let data_length =
            u64::try_from(data_length).map_err(|_| cursor.wrong(format!("{data_length} is no length")))?;
        let chunk_count = u64::from(cursor.u32()?);
        let needed = data_length.div_ceil(u64::from(chunk_length));
        // A writer that syncs before it closes flushes an empty buffer: chunks with nothing in them follow.
        if chunk_count == 0 || chunk_count < needed {
            return Err(cursor.wrong(format!(
                "{chunk_count} chunks of {chunk_length} bytes do not hold {data_length} bytes"
            )));
        }
        let offset = cursor.position();
        if length != offset + 8 * chunk_count {
            return Err(cursor.wrong(format!(
                "{chunk_count} offsets follow, and the file has {length} bytes"
            )));
        }
        let Some(compressor) = Compressor::parse(&name) else {
            return Err(SstableError::Unsupported {
                file,
                what: format!("compressor `{name}`"),
            });
        };
        let read_ahead = std::io::Cursor::new(Bytes::copy_from_slice(cursor.rest()));
        Ok(Some(Self {
            compressor,
            chunk_length,
            max_compressed_length,
            data_length,
            chunk_count,
            file,
            offset,
            offsets: Box::new(read_ahead.chain(stream)),
        }))
    }

    /// Where the next chunk starts in the data file.
    pub(crate) fn next_offset(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        let (file, offset) = (&self.file, self.offset);
        self.offsets
            .read_exact(&mut bytes)
            .map_err(|source| SstableError::Io {
                file: file.clone(),
                offset,
                source,
            })?;
        self.offset += 8;
        Ok(u64::from_be_bytes(bytes))
    }

    /// An error about the offset that was read last.
    pub(crate) fn wrong(&self, what: String) -> SstableError {
        SstableError::Damaged {
            file: self.file.clone(),
            offset: self.offset.saturating_sub(8),
            what,
        }
    }
}

/// More than names and options take.
const HEAD_BYTES_MAX: u64 = 64 << 10;
