//! Where a record lies: its table, and the values of its key; and the way back.

use anabranch_model::{NamespaceName, PartitionKey, SliceName, TimeSeriesId};
use scylla::value::CqlValue;

use super::records_cql::RecordTable;
use crate::error::StoreError;
use crate::keys::split_shard;
use crate::records::RecordKey;

/// The name of the key of page tokens among the records of the store.
const PAGE_TOKEN_KEY: &str = "page_token_key";

/// A row of a table of records, or a partition when nothing follows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) table: RecordTable,
    pub(super) partition: Vec<CqlValue>,
    pub(super) clustering: Vec<CqlValue>,
}

impl Place {
    /// The values of the whole key.
    pub(super) fn key(&self) -> Vec<CqlValue> {
        self.partition.iter().chain(&self.clustering).cloned().collect()
    }

    /// The row of a table of events (`tables`).
    pub(super) fn of_event_table(keyspace: &str, table: &str) -> Self {
        Self {
            table: RecordTable::EventTable,
            partition: vec![text(keyspace)],
            clustering: vec![text(table)],
        }
    }

    /// The row of a record.
    pub(super) fn of(key: &RecordKey) -> Result<Self, StoreError> {
        Ok(match key {
            RecordKey::Namespace { namespace } => Self {
                clustering: vec![text(namespace.as_str())],
                ..Self::namespaces()
            },
            RecordKey::TimeSlice { namespace, slice } => Self {
                clustering: vec![text(slice.as_str())],
                ..Self::of_the_namespace(RecordTable::TimeSlice, namespace)
            },
            RecordKey::BlockedId {
                namespace,
                time_series_id,
            } => Self {
                clustering: vec![text(time_series_id.as_str())],
                ..Self::of_the_namespace(RecordTable::BlockedId, namespace)
            },
            RecordKey::PageTokenKey => Self {
                table: RecordTable::StoreRecord,
                partition: vec![text(PAGE_TOKEN_KEY)],
                clustering: vec![],
            },
            RecordKey::Split { namespace, partition } => {
                let shard = split_shard(&partition.time_series_id);
                Self {
                    clustering: in_slice(partition)?,
                    ..Self::split_shard(namespace, &partition.slice, shard)
                }
            }
            RecordKey::SplitMarker {
                namespace,
                slice,
                shard,
            } => Self {
                clustering: vec![text(slice.as_str()), CqlValue::Int(i32::from(*shard))],
                ..Self::of_the_namespace(RecordTable::WideRowMarker, namespace)
            },
            RecordKey::Detection { namespace, partition } => {
                let mut clustering = vec![text(namespace.as_str()), text(partition.slice.as_str())];
                clustering.extend(in_slice(partition)?);
                Self {
                    clustering,
                    ..Self::detections()
                }
            }
        })
    }

    /// The partition of all namespaces.
    pub(super) fn namespaces() -> Self {
        Self {
            table: RecordTable::Namespace,
            partition: vec![CqlValue::Int(0)],
            clustering: vec![],
        }
    }

    /// The partition of all detections.
    pub(super) fn detections() -> Self {
        Self {
            table: RecordTable::Detection,
            ..Self::namespaces()
        }
    }

    /// The partition of a namespace in a table that has one for each.
    pub(super) fn of_the_namespace(table: RecordTable, namespace: &NamespaceName) -> Self {
        Self {
            table,
            partition: vec![text(namespace.as_str())],
            clustering: vec![],
        }
    }

    /// The partition of the splits of a shard.
    pub(super) fn split_shard(namespace: &NamespaceName, slice: &SliceName, shard: u8) -> Self {
        Self {
            table: RecordTable::WideRow,
            partition: vec![
                text(namespace.as_str()),
                text(slice.as_str()),
                CqlValue::Int(i32::from(shard)),
            ],
            clustering: vec![],
        }
    }

    /// The key of the record whose row in this partition has these clustering columns.
    pub(super) fn record_key(&self, clustering: &[CqlValue]) -> Result<RecordKey, StoreError> {
        let broken = |reason: String| StoreError::Corrupt {
            what: format!("a key in table {}", self.table.name()),
            reason,
        };
        let columns = Columns(self.partition.iter().chain(clustering));
        read_key(self.table, columns).map_err(broken)
    }
}

fn read_key<'a>(
    table: RecordTable,
    mut columns: Columns<'a, impl Iterator<Item = &'a CqlValue>>,
) -> Result<RecordKey, String> {
    Ok(match table {
        RecordTable::Namespace => RecordKey::Namespace {
            namespace: columns.skip().namespace()?,
        },
        RecordTable::TimeSlice => RecordKey::TimeSlice {
            namespace: columns.namespace()?,
            slice: columns.slice()?,
        },
        RecordTable::BlockedId => RecordKey::BlockedId {
            namespace: columns.namespace()?,
            time_series_id: columns.time_series_id()?,
        },
        RecordTable::WideRow => {
            let (namespace, slice) = (columns.namespace()?, columns.slice()?);
            RecordKey::Split {
                namespace,
                partition: columns.skip().in_slice(slice)?,
            }
        }
        RecordTable::WideRowMarker => RecordKey::SplitMarker {
            namespace: columns.namespace()?,
            slice: columns.slice()?,
            shard: u8::try_from(columns.int()?).map_err(|error| error.to_string())?,
        },
        RecordTable::Detection => {
            let namespace = columns.skip().namespace()?;
            let slice = columns.slice()?;
            RecordKey::Detection {
                namespace,
                partition: columns.in_slice(slice)?,
            }
        }
        RecordTable::StoreRecord | RecordTable::EventTable => {
            return Err("this table is not listed".to_owned());
        }
    })
}

fn text(text: &str) -> CqlValue {
    CqlValue::Text(text.to_owned())
}

fn in_slice(partition: &PartitionKey) -> Result<Vec<CqlValue>, StoreError> {
    Ok(vec![
        text(partition.time_series_id.as_str()),
        CqlValue::BigInt(partition.time_bucket),
        CqlValue::Int(event_bucket(partition)?),
    ])
}

/// The event bucket as the column holds it. Buckets stay below 2³¹ (`anabranch_split::target`).
pub(super) fn event_bucket(partition: &PartitionKey) -> Result<i32, StoreError> {
    i32::try_from(partition.event_bucket).map_err(|_| StoreError::Corrupt {
        what: format!("partition {partition}"),
        reason: "its event bucket is not below 2^31".to_owned(),
    })
}

/// The columns of a key, one after the other.
struct Columns<'a, I: Iterator<Item = &'a CqlValue>>(I);

impl<'a, I: Iterator<Item = &'a CqlValue>> Columns<'a, I> {
    fn skip(&mut self) -> &mut Self {
        self.0.next();
        self
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let column = self.0.next().and_then(CqlValue::as_text);
        Ok(column.ok_or("a column that should be text is not")?)
    }

    fn int(&mut self) -> Result<i32, String> {
        let column = self.0.next().and_then(CqlValue::as_int);
        Ok(column.ok_or("a column that should be int is not")?)
    }

    fn namespace(&mut self) -> Result<NamespaceName, String> {
        NamespaceName::new(self.text()?).map_err(|error| error.to_string())
    }

    fn slice(&mut self) -> Result<SliceName, String> {
        SliceName::new(self.text()?).map_err(|error| error.to_string())
    }

    fn time_series_id(&mut self) -> Result<TimeSeriesId, String> {
        TimeSeriesId::new(self.text()?).map_err(|error| error.to_string())
    }

    fn in_slice(&mut self, slice: SliceName) -> Result<PartitionKey, String> {
        let time_series_id = self.time_series_id()?;
        let time_bucket = self.0.next().and_then(CqlValue::as_bigint);
        Ok(PartitionKey {
            slice,
            time_series_id,
            time_bucket: time_bucket.ok_or("a column that should be bigint is not")?,
            event_bucket: u32::try_from(self.int()?).map_err(|error| error.to_string())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_keys_roundtrip() {
        let namespace = NamespaceName::new("n-s").unwrap();
        let slice = SliceName::new("20260101").unwrap();
        let time_series_id = TimeSeriesId::new("id\0'").unwrap();
        let partition = PartitionKey {
            slice: slice.clone(),
            time_series_id: time_series_id.clone(),
            time_bucket: -3,
            event_bucket: 2_147_483_647,
        };
        let keys = [
            RecordKey::Namespace {
                namespace: namespace.clone(),
            },
            RecordKey::TimeSlice {
                namespace: namespace.clone(),
                slice: slice.clone(),
            },
            RecordKey::BlockedId {
                namespace: namespace.clone(),
                time_series_id,
            },
            RecordKey::Split {
                namespace: namespace.clone(),
                partition: partition.clone(),
            },
            RecordKey::SplitMarker {
                namespace: namespace.clone(),
                slice,
                shard: 15,
            },
            RecordKey::Detection {
                namespace,
                partition: partition.clone(),
            },
        ];
        for key in keys {
            let place = Place::of(&key).unwrap();
            assert_eq!(place.partition.len(), place.table.partition().len());
            assert_eq!(place.clustering.len(), place.table.clustering().len());
            assert_eq!(place.record_key(&place.clustering).unwrap(), key);
        }
        let beyond = PartitionKey {
            event_bucket: u32::MAX,
            ..partition
        };
        assert!(event_bucket(&beyond).is_err());
    }
}
