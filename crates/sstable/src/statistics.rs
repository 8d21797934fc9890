//! `Statistics.db`: counts and bounds of what was written, and the schema it was written with.
//!
//! Each of its components has a checksum, and so has its table of contents.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use crate::components::{Component, Components};
use crate::cql::{Column, CqlType, EncodingBase, Schema};
use crate::error::{Result, SstableError};
use crate::fields;
use crate::input::{Cursor, Input, Space};
use crate::marshal;
use crate::version::Version;

/// Times in a serialization header are stored as distances from 22 September 2015, in seconds since 1970.
const EPOCH_SECONDS: i64 = 1_442_880_000;
/// Larger than any: histograms take a few KB, and the sketch of the keys 10 KB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What the writer counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The partitioner's class name, with its parameters.
    pub partitioner: String,
    /// The bloom filter's chance of a false positive.
    pub bloom_filter_fp_chance: f64,
    /// Partitions in the file.
    pub partitions: u64,
    /// The size of the largest partition, rounded up to a bucket of the histogram.
    pub partition_bytes_max: u64,
    /// Rows in the file, with static rows.
    pub rows: u64,
    /// Columns set, over all rows.
    pub columns_set: u64,
    /// Smallest and largest write timestamp, in microseconds.
    pub timestamps: (i64, i64),
    /// Smallest and largest time of deletion or expiry, in seconds; `None` when nothing is deleted or expires.
    pub local_deletion_times: (Option<i64>, Option<i64>),
    /// Smallest and largest TTL; 0 for none.
    pub ttls: (i32, i32),
    /// Compressed by uncompressed length; -1 when not compressed.
    pub compression_ratio: f64,
    /// The compaction level.
    pub level: i32,
    /// Milliseconds since 1970, or 0.
    pub repaired_at: i64,
    /// The repair session that the file waits for.
    pub pending_repair: Option<[u8; 16]>,
    /// Holds transient replicas' data.
    pub is_transient: bool,
    /// The node that wrote it.
    pub originating_host: Option<[u8; 16]>,
    /// Whether whole partitions are deleted, from `oa` on.
    pub has_partition_deletions: Option<bool>,
    /// First and last partition key, from `oa` on.
    pub keys: Option<(Bytes, Bytes)>,
}

impl Statistics {
    /// Whether partitions are ordered by the tokens of `Murmur3Partitioner`.
    pub fn has_murmur3_tokens(&self) -> bool {
        self.partitioner == "org.apache.cassandra.dht.Murmur3Partitioner"
    }
}

/// Reads statistics and schema.
pub(crate) fn read(components: &dyn Components) -> Result<(Statistics, Schema)> {
    let version = components.descriptor().version;
    let parts = Parts::read(components)?;

    let mut validation = parts.find(Part::Validation)?;
    let partitioner = validation.short_text()?;
    let bloom_filter_fp_chance = validation.f64()?;
    validation.finish()?;

    let mut header = parts.find(Part::Header)?;
    let schema = schema(&mut header, &parts.file)?;
    header.finish()?;

    let mut stats = parts.find(Part::Stats)?;
    let mut statistics = counts(&mut stats, &parts.file, version)?;
    // The writer reserves more than it needs for one of the histograms.
    if stats.rest().iter().any(|byte| *byte != 0) {
        return Err(stats.wrong("bytes other than zero follow the last field".into()));
    }
    statistics.partitioner = partitioner;
    statistics.bloom_filter_fp_chance = bloom_filter_fp_chance;
    Ok((statistics, schema))
}

/// The numbers that Cassandra gives the parts of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Validation = 0,
    Stats = 2,
    Header = 3,
}

struct Parts {
    file: Arc<str>,
    parts: Vec<(u32, u64, Bytes)>,
}

impl Parts {
    /// Reads the file and checks every checksum in it, of parts that are not used too.
    fn read(components: &dyn Components) -> Result<Self> {
        let file: Arc<str> = components.name(Component::Statistics).into();
        let io = |source| SstableError::Io {
            file: file.clone(),
            offset: 0,
            source,
        };
        let Some(stream) = components.open(Component::Statistics).map_err(io)? else {
            return Err(SstableError::Missing {
                file,
                why: "it holds the schema and the counts",
            });
        };
        let mut bytes = Vec::new();
        stream
            .bytes
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        let all = Bytes::from(bytes);
        let mut cursor = Cursor::new(&file, Space::File, 0, all.clone());

        let count = cursor.count32()?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&u32::try_from(count).unwrap_or_default().to_be_bytes());
        check(&mut cursor, &crc)?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let entry = cursor.array::<8>()?;
            crc.update(&entry);
            let [number, start] = [entry.first_chunk::<4>(), entry.last_chunk::<4>()]
                .map(|word| word.map_or(0, |word| u32::from_be_bytes(*word)));
            entries.push((number, u64::from(start)));
        }
        check(&mut cursor, &crc)?;

        let mut parts = Vec::with_capacity(entries.len());
        let ends = entries
            .iter()
            .skip(1)
            .map(|(_, start)| *start)
            .chain([all.len() as u64]);
        for ((number, start), end) in entries.iter().zip(ends) {
            if *start != cursor.position() {
                return Err(cursor.wrong(format!("part {number} starts at {start} and not here")));
            }
            let length = end.checked_sub(*start).and_then(|length| length.checked_sub(4));
            let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else {
                return Err(cursor.wrong(format!("part {number} ends at {end}")));
            };
            let part = cursor.take(length)?;
            let mut crc = crc32fast::Hasher::new();
            crc.update(&part);
            check(&mut cursor, &crc)?;
            parts.push((*number, *start, part));
        }
        cursor.finish()?;
        Ok(Self { file, parts })
    }

    fn find(&self, part: Part) -> Result<Cursor> {
        match self.parts.iter().find(|(number, ..)| *number == part as u32) {
            Some((_, start, bytes)) => Ok(Cursor::new(&self.file, Space::File, *start, bytes.clone())),
            None => Err(SstableError::Damaged {
                file: self.file.clone(),
                offset: 0,
                what: format!("there is no part {part:?}"),
            }),
        }
    }
}

fn check(cursor: &mut Cursor, crc: &crc32fast::Hasher) -> Result<()> {
    if cursor.u32()? == crc.clone().finalize() {
        return Ok(());
    }
    Err(cursor.wrong("the checksum that ends here is wrong".into()))
}

fn cql_type(cursor: &mut Cursor, file: &Arc<str>) -> Result<CqlType> {
    let bytes = cursor.vint_bytes()?;
    let text = cursor.text(bytes)?;
    marshal::parse(&text).map_err(|what| SstableError::Unsupported {
        file: file.clone(),
        what,
    })
}

fn types(cursor: &mut Cursor, file: &Arc<str>) -> Result<Vec<CqlType>> {
    let count = cursor.count()?;
    (0..count).map(|_| cql_type(cursor, file)).collect()
}

fn columns(cursor: &mut Cursor, file: &Arc<str>) -> Result<Vec<Column>> {
    let count = cursor.count()?;
    let column = |_| {
        let name = cursor.vint_bytes()?;
        Ok(Column {
            name,
            cql_type: cql_type(cursor, file)?,
        })
    };
    (0..count).map(column).collect()
}

fn schema(cursor: &mut Cursor, file: &Arc<str>) -> Result<Schema> {
    let timestamp = cursor
        .vint()?
        .cast_signed()
        .wrapping_add(EPOCH_SECONDS * 1_000_000);
    let local_deletion_time = i64::from(cursor.vint32()?) + EPOCH_SECONDS;
    let ttl = cursor.vint32()?;
    Ok(Schema {
        partition_key: cql_type(cursor, file)?,
        clustering: types(cursor, file)?,
        statics: columns(cursor, file)?,
        regulars: columns(cursor, file)?,
        base: EncodingBase {
            timestamp,
            local_deletion_time,
            ttl,
        },
    })
}

/// The fields in the order in which Cassandra writes them; those that nobody asks for are stepped over.
fn counts(cursor: &mut Cursor, file: &Arc<str>, version: Version) -> Result<Statistics> {
    let (partitions, partition_bytes_max) = histogram(cursor)?;
    let _cells = histogram(cursor)?;
    commit_log_position(cursor)?;
    let timestamps = (cursor.i64()?, cursor.i64()?);
    let local_deletion_times = (deletion_time(cursor, version)?, deletion_time(cursor, version)?);
    let ttls = (cursor.i32()?, cursor.i32()?);
    let compression_ratio = cursor.f64()?;
    tombstone_histogram(cursor, version)?;
    let level = cursor.i32()?;
    let repaired_at = cursor.i64()?;
    if version.has_key_range() {
        let types = types(cursor, file)?;
        for _ in ["start", "end"] {
            let _kind = cursor.u8()?;
            let size = usize::from(cursor.u16()?);
            fields::clustering(cursor, &types, size)?;
        }
    } else {
        for _ in ["smallest", "largest"] {
            for _ in 0..cursor.count32()? {
                cursor.short_bytes()?;
            }
        }
    }
    let _has_legacy_counter_shards = cursor.bool()?;
    let (columns_set, rows) = (cursor.i64()?, cursor.i64()?);
    commit_log_position(cursor)?;
    for _ in 0..cursor.count32()? {
        commit_log_position(cursor)?;
        commit_log_position(cursor)?;
    }
    let pending_repair = optional_uuid(cursor)?;
    let is_transient = cursor.bool()?;
    let originating_host = optional_uuid(cursor)?;
    let (mut has_partition_deletions, mut keys) = (None, None);
    if version.has_key_range() {
        has_partition_deletions = Some(cursor.bool()?);
        keys = Some((cursor.vint_bytes()?, cursor.vint_bytes()?));
        let _token_space_coverage = cursor.f64()?;
    }
    let count = |what, count: i64| {
        u64::try_from(count).map_err(|_| cursor.wrong(format!("{count} is no count of {what}")))
    };
    Ok(Statistics {
        partitioner: String::new(),
        bloom_filter_fp_chance: 0.0,
        partitions,
        partition_bytes_max,
        rows: count("rows", rows)?,
        columns_set: count("columns", columns_set)?,
        timestamps,
        local_deletion_times,
        ttls,
        compression_ratio,
        level,
        repaired_at,
        pending_repair,
        is_transient,
        originating_host,
        has_partition_deletions,
        keys,
    })
}

/// How many values went into a histogram, and the upper end of the last bucket that has any.
fn histogram(cursor: &mut Cursor) -> Result<(u64, u64)> {
    let (mut total, mut largest) = (0_u64, 0);
    let mut upper_ends: Vec<i64> = Vec::new();
    for bucket in 0..cursor.count32()? {
        // The first two buckets are written with the same offset; from then on it is the one before.
        let (offset, count) = (cursor.i64()?, cursor.i64()?);
        if bucket > 0 {
            upper_ends.push(offset);
        }
        let Ok(count) = u64::try_from(count) else {
            return Err(cursor.wrong(format!("{count} is no count")));
        };
        total = total.saturating_add(count);
        if count > 0 {
            largest = bucket;
        }
    }
    let upper_end = upper_ends
        .get(largest)
        .or(upper_ends.last())
        .copied()
        .unwrap_or_default();
    Ok((total, u64::try_from(upper_end).unwrap_or_default()))
}

fn tombstone_histogram(cursor: &mut Cursor, version: Version) -> Result<()> {
    let _bins_max = cursor.i32()?;
    for _ in 0..cursor.count32()? {
        cursor.i64()?;
        match version.has_unsigned_deletion_times() {
            true => cursor.i32().map(|_| ())?,
            false => cursor.i64().map(|_| ())?,
        }
    }
    Ok(())
}

fn commit_log_position(cursor: &mut Cursor) -> Result<()> {
    let (_segment, _position) = (cursor.i64()?, cursor.i32()?);
    Ok(())
}

fn deletion_time(cursor: &mut Cursor, version: Version) -> Result<Option<i64>> {
    let time = cursor.i32()?;
    Ok(match version.has_unsigned_deletion_times() {
        true => (time != -1).then_some(i64::from(time.cast_unsigned())),
        false => (time != i32::MAX).then_some(i64::from(time)),
    })
}

fn optional_uuid(cursor: &mut Cursor) -> Result<Option<[u8; 16]>> {
    match cursor.u8()? {
        0 => Ok(None),
        _ => cursor.array().map(Some),
    }
}
