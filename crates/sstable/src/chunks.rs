//! The data file in chunks, each checked before it is used.
//!
//! Compressed: every chunk is followed by its checksum, and `CompressionInfo.db` says where each starts.
//! Uncompressed: the checksums of the chunks are in `CRC.db`. In both cases `Digest.crc32`, when it is there,
//! is the checksum of the whole file.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use crate::components::{Component, Components, Stream};
use crate::compression::CompressionInfo;
use crate::error::{Result, SstableError};

/// Longer chunks of uncompressed data than any that Cassandra writes.
const PLAIN_CHUNK_BYTES_MAX: u32 = 1 << 28;

/// The chunks of a data file, in order.
#[derive(Debug)]
pub(crate) struct Chunks {
    data: DataFile,
    layout: Layout,
    next: u64,
}

#[derive(Debug)]
enum Layout {
    Compressed { info: CompressionInfo, next_offset: u64 },
    Plain { crc: CrcFile, chunk_length: u32 },
}

impl Chunks {
    /// Opens the data file and what its chunks are checked with.
    pub(crate) fn open(components: &dyn Components) -> Result<Self> {
        let data = DataFile::open(components)?;
        let crc = CrcFile::open(components)?;
        let layout = match (CompressionInfo::open(components)?, crc) {
            (Some(mut info), None) => {
                let next_offset = info.next_offset()?;
                Layout::Compressed { info, next_offset }
            }
            (None, Some(mut crc)) => {
                let chunk_length = crc.chunk_length(data.length)?;
                Layout::Plain { crc, chunk_length }
            }
            (None, None) => {
                return Err(SstableError::Missing {
                    file: components.name(Component::CompressionInfo).into(),
                    why: "there is no CRC.db either, so that the data could not be checked",
                });
            }
            (Some(info), Some(_)) => {
                return Err(info.wrong("there is a CRC.db too, which only uncompressed data has".into()));
            }
        };
        Ok(Self {
            data,
            layout,
            next: 0,
        })
    }

    /// How many bytes all chunks hold.
    pub(crate) fn uncompressed_length(&self) -> u64 {
        match &self.layout {
            Layout::Compressed { info, .. } => info.data_length,
            Layout::Plain { .. } => self.data.length,
        }
    }

    /// How the chunks are stored, for people.
    pub(crate) fn compression(&self) -> String {
        match &self.layout {
            Layout::Compressed { info, .. } => {
                format!(
                    "{:?}, {} chunks of {} bytes",
                    info.compressor, info.chunk_count, info.chunk_length
                )
            }
            Layout::Plain { chunk_length, .. } => format!("none, checked every {chunk_length} bytes"),
        }
    }

    /// The next chunk's content, or `None` after the last one, when the whole file has been checked.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>> {
        let chunk = match &mut self.layout {
            Layout::Compressed { info, next_offset } => {
                next_compressed(&mut self.data, info, next_offset, self.next)?
            }
            Layout::Plain { crc, chunk_length } => next_plain(&mut self.data, crc, *chunk_length)?,
        };
        match chunk {
            Some(_) => self.next += 1,
            None => self.data.finish()?,
        }
        Ok(chunk)
    }
}

fn next_compressed(
    data: &mut DataFile,
    info: &mut CompressionInfo,
    next_offset: &mut u64,
    index: u64,
) -> Result<Option<Bytes>> {
    if index == info.chunk_count {
        return Ok(None);
    }
    let start = *next_offset;
    if start != data.offset {
        return Err(info.wrong(format!("chunk {index} starts at {start}, not at {}", data.offset)));
    }
    let end = match index + 1 == info.chunk_count {
        true => data.length,
        false => info.next_offset()?,
    };
    // The checksum's four bytes follow the chunk's.
    let stored = end.checked_sub(start).and_then(|whole| whole.checked_sub(4));
    let longest = 2 * u64::from(info.chunk_length) + 1024;
    let Some(stored) = stored.filter(|stored| end <= data.length && *stored <= longest) else {
        return Err(data.damaged(
            start,
            format!("chunk {index} cannot be the bytes from {start} to {end}"),
        ));
    };
    *next_offset = end;
    let content = data.read(stored)?;
    let checksum = data.read(4)?;
    let computed = crc32fast::hash(&content);
    if checksum.as_ref() != computed.to_be_bytes() {
        return Err(data.damaged(start, format!("the checksum of chunk {index} is wrong")));
    }
    let chunk_length = u64::from(info.chunk_length);
    let length = info
        .data_length
        .saturating_sub(index * chunk_length)
        .min(chunk_length);
    let length = usize::try_from(length).unwrap_or_default();
    if stored < u64::from(info.max_compressed_length) {
        let chunk = info.compressor.decompress(&content, length);
        let chunk = chunk.map_err(|what| data.damaged(start, format!("chunk {index}: {what}")))?;
        return Ok(Some(chunk));
    }
    // Stored raw, because compressing gained too little. The last one may be padded with zeroes.
    let (kept, padding) = content.split_at_checked(length).unwrap_or((&[], &[1]));
    let padded = stored == u64::from(info.max_compressed_length) && padding.iter().all(|byte| *byte == 0);
    if !padding.is_empty() && !padded {
        return Err(data.damaged(
            start,
            format!("chunk {index} is stored raw and is not {length} bytes"),
        ));
    }
    Ok(Some(content.slice(..kept.len())))
}

fn next_plain(data: &mut DataFile, crc: &mut CrcFile, chunk_length: u32) -> Result<Option<Bytes>> {
    let start = data.offset;
    let length = (data.length - start).min(u64::from(chunk_length));
    if length == 0 {
        return crc.finish().map(|()| None);
    }
    let content = data.read(length)?;
    if crc.next()? != crc32fast::hash(&content) {
        let chunk = start / u64::from(chunk_length);
        return Err(data.damaged(
            start,
            format!("the checksum of chunk {chunk} in CRC.db is another"),
        ));
    }
    Ok(Some(content))
}

/// `Data.db` as it lies there, with its running checksum.
struct DataFile {
    file: Arc<str>,
    length: u64,
    offset: u64,
    bytes: Box<dyn Read + Send>,
    hasher: crc32fast::Hasher,
    digest: Option<(Arc<str>, u32)>,
}

impl std::fmt::Debug for DataFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataFile")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl DataFile {
    fn open(components: &dyn Components) -> Result<Self> {
        let file: Arc<str> = components.name(Component::Data).into();
        let io = |source| SstableError::Io {
            file: file.clone(),
            offset: 0,
            source,
        };
        let Some(Stream { length, bytes }) = components.open(Component::Data).map_err(io)? else {
            return Err(SstableError::Missing {
                file,
                why: "it holds the partitions",
            });
        };
        let digest = digest(components)?;
        Ok(Self {
            file,
            length,
            offset: 0,
            bytes,
            hasher: crc32fast::Hasher::new(),
            digest,
        })
    }

    fn read(&mut self, length: u64) -> Result<Bytes> {
        let (file, offset) = (self.file.clone(), self.offset);
        let too_long = || std::io::Error::other("the chunk does not fit memory");
        let io = |source| SstableError::Io { file, offset, source };
        let mut content = match usize::try_from(length) {
            Ok(length) => vec![0; length],
            Err(_) => return Err(io(too_long())),
        };
        self.bytes.read_exact(&mut content).map_err(io)?;
        if self.digest.is_some() {
            self.hasher.update(&content);
        }
        self.offset += length;
        Ok(content.into())
    }

    fn damaged(&self, offset: u64, what: String) -> SstableError {
        SstableError::Damaged {
            file: self.file.clone(),
            offset,
            what,
        }
    }

    /// Nothing may follow the last chunk, and the whole must have its checksum.
    fn finish(&mut self) -> Result<()> {
        if self.offset != self.length {
            return Err(self.damaged(self.offset, format!("the file has {} bytes", self.length)));
        }
        let Some((file, digest)) = self.digest.take() else {
            return Ok(());
        };
        let computed = std::mem::take(&mut self.hasher).finalize();
        if computed == digest {
            return Ok(());
        }
        let what = format!("the checksum of {} is {computed}, not {digest}", self.file);
        Err(SstableError::Damaged {
            file,
            offset: 0,
            what,
        })
    }
}

/// The checksum of the whole data file, as decimal text.
fn digest(components: &dyn Components) -> Result<Option<(Arc<str>, u32)>> {
    let file: Arc<str> = components.name(Component::Digest).into();
    let io = |source| SstableError::Io {
        file: file.clone(),
        offset: 0,
        source,
    };
    let Some(stream) = components.open(Component::Digest).map_err(io)? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    stream.bytes.take(64).read_to_end(&mut text).map_err(io)?;
    let digest = str::from_utf8(&text)
        .ok()
        .and_then(|text| text.trim_end().parse().ok());
    let what = "it does not hold a checksum as a number".to_owned();
    match digest {
        Some(digest) => Ok(Some((file, digest))),
        None => Err(SstableError::Damaged {
            file,
            offset: 0,
            what,
        }),
    }
}

/// `CRC.db`: a chunk length, then a checksum for each chunk of uncompressed data.
struct CrcFile {
    file: Arc<str>,
    length: u64,
    offset: u64,
    bytes: Box<dyn Read + Send>,
}

impl std::fmt::Debug for CrcFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrcFile")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl CrcFile {
    fn open(components: &dyn Components) -> Result<Option<Self>> {
        let file: Arc<str> = components.name(Component::Crc).into();
        match components.open(Component::Crc) {
            Ok(Some(Stream { length, bytes })) => Ok(Some(Self {
                file,
                length,
                offset: 0,
                bytes,
            })),
            Ok(None) => Ok(None),
            Err(source) => Err(SstableError::Io {
                file,
                offset: 0,
                source,
            }),
        }
    }

    /// The chunk length, when there is a checksum at least for each chunk of that many bytes.
    fn chunk_length(&mut self, data_length: u64) -> Result<u32> {
        let chunk_length = self.next()?;
        let holds = |chunks: u64| self.length.is_multiple_of(4) && self.length >= 4 + 4 * chunks;
        let plausible = (1..=PLAIN_CHUNK_BYTES_MAX).contains(&chunk_length);
        if plausible && holds(data_length.div_ceil(u64::from(chunk_length))) {
            return Ok(chunk_length);
        }
        let what = format!(
            "{} bytes are not the checksums of {data_length} bytes in chunks of {chunk_length}",
            self.length
        );
        Err(SstableError::Damaged {
            file: self.file.clone(),
            offset: 0,
            what,
        })
    }

    /// A writer that syncs before it closes flushes an empty buffer: checksums of nothing follow.
    fn finish(&mut self) -> Result<()> {
        while self.offset < self.length {
            if self.next()? != 0 {
                let what = "checksums follow those of the data".to_owned();
                return Err(SstableError::Damaged {
                    file: self.file.clone(),
                    offset: self.offset - 4,
                    what,
                });
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<u32> {
        let mut word = [0; 4];
        let (file, offset) = (&self.file, self.offset);
        self.bytes
            .read_exact(&mut word)
            .map_err(|source| SstableError::Io {
                file: file.clone(),
                offset,
                source,
            })?;
        self.offset += 4;
        Ok(u32::from_be_bytes(word))
    }
}
