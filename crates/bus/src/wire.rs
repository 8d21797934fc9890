//! A detection in bytes: `anabranch.pipeline.v1.WidePartitionDetected`, the same on every bus.

use anabranch_model::{NamespaceName, PartitionKey, SliceName, TimeSeriesId};
use anabranch_proto::pipeline::v1::WidePartitionDetected;
use bytes::Bytes;
use prost::Message;

use crate::{BusError, Detection};

/// Version of the message.
const VERSION: &str = "1";

impl Detection {
    /// The bytes of its message.
    pub fn encode(&self) -> Bytes {
        let message = WidePartitionDetected {
            time_slice: self.partition.slice.to_string(),
            time_series_id: self.partition.time_series_id.to_string(),
            time_bucket: self.partition.time_bucket,
            event_bucket: self.partition.event_bucket,
            immutable: self.immutable,
            version: VERSION.to_owned(),
            namespace: self.namespace.to_string(),
            bytes_read: self.bytes,
        };
        Bytes::from(message.encode_to_vec())
    }

    /// The detection of a message's bytes.
    ///
    /// # Errors
    /// [`BusError::Unreadable`] when they are not a message of a known version, or name something that can not be.
    pub fn decode(bytes: &[u8]) -> Result<Self, BusError> {
        let message = WidePartitionDetected::decode(bytes).map_err(unreadable)?;
        if message.version != VERSION {
            return Err(unreadable(format!("version `{}` is not known", message.version)));
        }
        Ok(Self {
            namespace: NamespaceName::new(message.namespace).map_err(unreadable)?,
            partition: PartitionKey {
                slice: SliceName::new(message.time_slice).map_err(unreadable)?,
                time_series_id: TimeSeriesId::new(message.time_series_id).map_err(unreadable)?,
                time_bucket: message.time_bucket,
                event_bucket: message.event_bucket,
            },
            bytes: message.bytes_read,
            immutable: message.immutable,
        })
    }
}

fn unreadable(problem: impl ToString) -> BusError {
    BusError::Unreadable {
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message as it was first written. Every later version reads it.
    const V1: &[u8] = b"\x0a\x0820260328\x12\x08device-1\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\
        \x20\x03\x28\x01\x32\x011\x3a\x04demo\x40\x80\x80\x80\x08";

    fn detection() -> Detection {
        Detection {
            namespace: NamespaceName::new("demo").unwrap(),
            partition: PartitionKey {
                slice: SliceName::new("20260328").unwrap(),
                time_series_id: TimeSeriesId::new("device-1").unwrap(),
                time_bucket: -1,
                event_bucket: 3,
            },
            bytes: 16 << 20,
            immutable: true,
        }
    }

    #[test]
    fn the_message_is_a_stored_format() {
        assert_eq!(&detection().encode()[..], V1);
        assert_eq!(Detection::decode(V1).unwrap(), detection());
    }

    #[test]
    fn a_field_of_a_later_version_is_passed_over() {
        let later = [V1, b"\x7a\x01x"].concat();
        assert_eq!(Detection::decode(&later).unwrap(), detection());
    }

    #[test]
    fn what_can_not_be_a_detection_is_refused() {
        let whole = WidePartitionDetected::decode(V1).unwrap();
        let broken = [
            Vec::new(),
            vec![0xFF; 4],
            V1[..V1.len() - 1].to_vec(),
            WidePartitionDetected {
                version: "2".to_owned(),
                ..whole.clone()
            }
            .encode_to_vec(),
            WidePartitionDetected {
                namespace: "a/b".to_owned(),
                ..whole.clone()
            }
            .encode_to_vec(),
            WidePartitionDetected {
                time_series_id: String::new(),
                ..whole
            }
            .encode_to_vec(),
        ];
        for bytes in broken {
            assert!(
                matches!(Detection::decode(&bytes), Err(BusError::Unreadable { .. })),
                "{bytes:?}"
            );
        }
    }
}
