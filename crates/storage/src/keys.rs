//! Every stored key of the embedded store, in bytes that sort as the things sort.
//!
//! ```text
//! row     text(time_series_id) bucket(time_bucket) u32(event_bucket) !time !text(event_id) text(item_key)
//! record  tag(1) text(namespace)                                             a namespace
//!         tag(2) text(namespace) text(slice)                                 a time slice
//!         tag(3) text(namespace) text(time_series_id)                        a blocked id
//!         tag(4)                                                             the key of page tokens
//!         tag(5) text(namespace) text(slice) shard text(time_series_id) bucket(time_bucket) u32(event_bucket)
//!                                                                            the split of a partition
//!         tag(6) text(namespace) text(slice) shard                           what changed in a shard of splits
//!         tag(7) text(namespace) text(slice) text(time_series_id) bucket(time_bucket) u32(event_bucket)
//!                                                                            a partition that looked wide
//! ```
//!
//! `text` is the bytes with `00` written as `00 FF`, and `00 00` at the end: no key is a prefix of
//! another, and order is that of the bytes. `bucket` is big-endian with the sign bit turned. `!` turns
//! every bit, so that newest comes first, as in the Cassandra table; items ascend within an event.
//! `tag` and `shard` are one byte; the shard of a split is [`split_shard`] of its id. Integers are
//! big-endian. This is the stored format: see `docs/formats.md`.

use anabranch_model::{
    EventId, EventKey, EventTime, ItemKey, NamespaceName, PartitionKey, SliceName, TimeSeriesId,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::embedded::rows::VALUE_HEADER_BYTES;
use crate::error::StoreError;
use crate::records::{RecordKey, RecordPrefix};

/// In how many shards the splits of a slice lie: who watches them reads only the shards that changed.
pub const SPLIT_SHARDS: u8 = 16;

/// The shard of an id's splits. Part of the stored format: `XXH3_64bits` of the id's bytes, seed 0.
pub fn split_shard(time_series_id: &TimeSeriesId) -> u8 {
    u8::try_from(xxh3_64(time_series_id.as_bytes()) % u64::from(SPLIT_SHARDS)).unwrap_or(0)
}

/// A row's key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    /// The entity.
    pub time_series_id: TimeSeriesId,
    /// The time bucket.
    pub time_bucket: i64,
    /// The event bucket.
    pub event_bucket: u32,
    /// The event.
    pub event: EventKey,
    /// The item.
    pub item_key: ItemKey,
}

/// Start of every row key of an id.
pub fn id_prefix(time_series_id: &TimeSeriesId) -> Vec<u8> {
    let mut key = Vec::with_capacity(time_series_id.as_bytes().len() + 64);
    put_text(&mut key, time_series_id.as_bytes());
    key
}

/// Start of every row key of an id's time bucket.
pub fn bucket_prefix(time_series_id: &TimeSeriesId, time_bucket: i64) -> Vec<u8> {
    let mut key = id_prefix(time_series_id);
    put_i64(&mut key, time_bucket);
    key
}

/// Start of every row key of a partition.
pub fn partition_prefix(partition: &PartitionKey) -> Vec<u8> {
    let mut key = bucket_prefix(&partition.time_series_id, partition.time_bucket);
    key.extend_from_slice(&partition.event_bucket.to_be_bytes());
    key
}

/// Adds the time of an event: newest first.
pub fn put_event_time(key: &mut Vec<u8>, time: EventTime) {
    let mut bytes = Vec::with_capacity(8);
    put_i64(&mut bytes, time.micros());
    key.extend(bytes.iter().map(|byte| !byte));
}

/// Adds an event: newest first.
pub fn put_event(key: &mut Vec<u8>, event: &EventKey) {
    put_event_time(key, event.time);
    let from = key.len();
    put_text(key, event.id.as_bytes());
    key.iter_mut().skip(from).for_each(|byte| *byte = !*byte);
}

/// Bytes of a row as it is kept here, key and value. Every backend counts bytes read by it, so that a partition is as
/// wide on one as on the other.
pub(crate) fn row_bytes(
    time_series_id: &TimeSeriesId,
    event_id: &EventId,
    item_key: &ItemKey,
    value: &[u8],
) -> u64 {
    let texts = [
        time_series_id.as_bytes(),
        event_id.as_bytes(),
        item_key.as_bytes(),
    ]
    .map(|text| {
        let escaped = text.iter().filter(|byte| **byte == 0).count();
        (text.len() + escaped + 2) as u64
    });
    texts.iter().sum::<u64>() + 8 + 4 + 8 + VALUE_HEADER_BYTES + value.len() as u64
}

/// Adds an item key.
pub fn put_item_key(key: &mut Vec<u8>, item_key: &ItemKey) {
    put_text(key, item_key.as_bytes());
}

/// The key just past every key that starts with `prefix`; `None` when there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}

/// Takes a row key apart.
pub fn read_row_key(key: &[u8]) -> Result<RowKey, StoreError> {
    let mut reader = Reader {
        whole: key,
        rest: key,
    };
    let time_series_id = reader.time_series_id()?;
    let time_bucket = reader.i64(false)?;
    let event_bucket = u32::from_be_bytes(reader.array()?);
    let time = EventTime::from_micros(reader.i64(true)?);
    let id = reader.text(true)?;
    let item_key = reader.text(false)?;
    reader.end()?;
    Ok(RowKey {
        time_series_id,
        time_bucket,
        event_bucket,
        event: EventKey {
            time,
            id: reader.name(EventId::new(id))?,
        },
        item_key: reader.name(ItemKey::new(item_key))?,
    })
}

/// Takes apart what follows a partition's prefix: the event, and where in the key the item key starts.
pub fn read_event(key: &[u8], prefix_bytes: usize) -> Result<(EventKey, usize), StoreError> {
    let mut reader = Reader {
        whole: key,
        rest: key.get(prefix_bytes..).unwrap_or_default(),
    };
    let time = EventTime::from_micros(reader.i64(true)?);
    let id = reader.text(true)?;
    let event = EventKey {
        time,
        id: reader.name(EventId::new(id))?,
    };
    Ok((event, key.len() - reader.rest.len()))
}

/// Takes apart the end of a row key, from where the item key starts.
pub fn read_item_key(rest: &[u8]) -> Result<ItemKey, StoreError> {
    let mut reader = Reader { whole: rest, rest };
    let item_key = reader.text(false)?;
    reader.end()?;
    reader.name(ItemKey::new(item_key))
}

impl RecordKey {
    /// The key's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut key = Vec::new();
        match self {
            Self::Namespace { namespace } => {
                key.push(1);
                put_text(&mut key, namespace.as_bytes());
            }
            Self::TimeSlice { namespace, slice } => {
                key.push(2);
                put_text(&mut key, namespace.as_bytes());
                put_text(&mut key, slice.as_bytes());
            }
            Self::BlockedId {
                namespace,
                time_series_id,
            } => {
                key.push(3);
                put_text(&mut key, namespace.as_bytes());
                put_text(&mut key, time_series_id.as_bytes());
            }
            Self::PageTokenKey => key.push(4),
            Self::Split { namespace, partition } => {
                key.push(5);
                put_text(&mut key, namespace.as_bytes());
                put_text(&mut key, partition.slice.as_bytes());
                key.push(split_shard(&partition.time_series_id));
                key.extend_from_slice(&partition_prefix(partition));
            }
            Self::SplitMarker {
                namespace,
                slice,
                shard,
            } => {
                key.push(6);
                put_text(&mut key, namespace.as_bytes());
                put_text(&mut key, slice.as_bytes());
                key.push(*shard);
            }
            Self::Detection { namespace, partition } => {
                key.push(7);
                put_text(&mut key, namespace.as_bytes());
                put_text(&mut key, partition.slice.as_bytes());
                key.extend_from_slice(&partition_prefix(partition));
            }
        }
        key
    }

    /// Takes a record's key apart.
    pub fn decode(key: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader {
            whole: key,
            rest: key,
        };
        let [tag] = reader.array()?;
        let record = match tag {
            1 => Self::Namespace {
                namespace: reader.namespace()?,
            },
            2 => Self::TimeSlice {
                namespace: reader.namespace()?,
                slice: reader.slice()?,
            },
            3 => Self::BlockedId {
                namespace: reader.namespace()?,
                time_series_id: reader.time_series_id()?,
            },
            4 => Self::PageTokenKey,
            5 => {
                let (namespace, slice) = (reader.namespace()?, reader.slice()?);
                let [shard] = reader.array()?;
                let partition = reader.partition(slice)?;
                if shard != split_shard(&partition.time_series_id) {
                    return Err(reader.broken("its shard is not that of its id"));
                }
                Self::Split { namespace, partition }
            }
            6 => Self::SplitMarker {
                namespace: reader.namespace()?,
                slice: reader.slice()?,
                shard: u8::from_be_bytes(reader.array()?),
            },
            7 => {
                let (namespace, slice) = (reader.namespace()?, reader.slice()?);
                let partition = reader.partition(slice)?;
                Self::Detection { namespace, partition }
            }
            _ => return Err(reader.broken("unknown tag")),
        };
        reader.end()?;
        Ok(record)
    }
}

impl RecordPrefix {
    /// Start of the keys of these records.
    pub fn encode(&self) -> Vec<u8> {
        let mut key = Vec::new();
        match self {
            Self::Namespaces => key.push(1),
            Self::TimeSlices(namespace) => {
                key.push(2);
                put_text(&mut key, namespace.as_bytes());
            }
            Self::BlockedIds(namespace) => {
                key.push(3);
                put_text(&mut key, namespace.as_bytes());
            }
            Self::Splits(namespace) => {
                key.push(5);
                put_text(&mut key, namespace.as_bytes());
            }
            Self::SplitsOfSlice(namespace, slice) => {
                key.push(5);
                put_text(&mut key, namespace.as_bytes());
                put_text(&mut key, slice.as_bytes());
            }
            Self::SplitShard(namespace, slice, shard) => {
                key.push(5);
                put_text(&mut key, namespace.as_bytes());
                put_text(&mut key, slice.as_bytes());
                key.push(*shard);
            }
            Self::SplitMarkers(namespace) => {
                key.push(6);
                put_text(&mut key, namespace.as_bytes());
            }
            Self::SplitMarkersOfSlice(namespace, slice) => {
                key.push(6);
                put_text(&mut key, namespace.as_bytes());
                put_text(&mut key, slice.as_bytes());
            }
            Self::Detections => key.push(7),
        }
        key
    }
}

fn put_text(key: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        key.push(*byte);
        if *byte == 0 {
            key.push(0xFF);
        }
    }
    key.extend_from_slice(&[0, 0]);
}

fn put_i64(key: &mut Vec<u8>, number: i64) {
    key.extend_from_slice(&(number ^ i64::MIN).to_be_bytes());
}

struct Reader<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
}

impl Reader<'_> {
    fn broken(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Corrupt {
            what: format!("key {:02x?}", self.whole),
            reason: reason.into(),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.broken("it ends early"))?;
        self.rest = rest;
        Ok(*head)
    }

    fn i64(&mut self, turned: bool) -> Result<i64, StoreError> {
        let mut bytes: [u8; 8] = self.array()?;
        if turned {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(i64::from_be_bytes(bytes) ^ i64::MIN)
    }

    fn text(&mut self, turned: bool) -> Result<String, StoreError> {
        let turn = if turned { 0xFF } else { 0 };
        // Zero bytes are rare, so most texts are copied in one piece.
        let mut text = Vec::new();
        loop {
            let zero = self.rest.iter().position(|byte| *byte == turn);
            let (plain, from) = zero
                .and_then(|zero| self.rest.split_at_checked(zero))
                .ok_or_else(|| self.broken("it ends early"))?;
            text.extend_from_slice(plain);
            self.rest = from.get(1..).unwrap_or_default();
            let [mark] = self.array()?;
            match mark ^ turn {
                0 => break,
                0xFF => text.push(turn),
                _ => return Err(self.broken("a zero byte is not escaped")),
            }
        }
        if turned {
            text.iter_mut().for_each(|byte| *byte = !*byte);
        }
        String::from_utf8(text).map_err(|_| self.broken("text is not UTF-8"))
    }

    fn name<T>(&self, name: Result<T, anabranch_model::InvalidName>) -> Result<T, StoreError> {
        name.map_err(|error| self.broken(error.to_string()))
    }

    fn namespace(&mut self) -> Result<NamespaceName, StoreError> {
        let text = self.text(false)?;
        self.name(NamespaceName::new(text))
    }

    fn slice(&mut self) -> Result<SliceName, StoreError> {
        let text = self.text(false)?;
        self.name(SliceName::new(text))
    }

    fn time_series_id(&mut self) -> Result<TimeSeriesId, StoreError> {
        let text = self.text(false)?;
        self.name(TimeSeriesId::new(text))
    }

    fn partition(&mut self, slice: SliceName) -> Result<PartitionKey, StoreError> {
        Ok(PartitionKey {
            slice,
            time_series_id: self.time_series_id()?,
            time_bucket: self.i64(false)?,
            event_bucket: u32::from_be_bytes(self.array()?),
        })
    }

    fn end(&self) -> Result<(), StoreError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.broken("bytes follow its end"))
        }
    }
}

#[cfg(test)]
mod tests;
