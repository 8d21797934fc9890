//! What the embedded store keeps as the value of a row.
//!
//! ```text
//! format (1 byte, 1) | the item's value
//! ```

use bytes::Bytes;

use crate::error::StoreError;

/// Bytes before the item's value.
pub const VALUE_HEADER_BYTES: u64 = 1;

const FORMAT: u8 = 1;

/// The stored form of an item's value.
pub fn encode(value: &Bytes) -> Bytes {
    let mut row = Vec::with_capacity(value.len() + 1);
    row.push(FORMAT);
    row.extend_from_slice(value);
    Bytes::from(row)
}

/// The item's value of a stored form, without a copy.
pub fn decode(row: &Bytes) -> Result<Bytes, StoreError> {
    match row.first() {
        Some(&FORMAT) => Ok(row.slice(1..)),
        Some(other) => Err(StoreError::Corrupt {
            what: "row value".to_owned(),
            reason: format!("format {other} is not known to this version"),
        }),
        None => Err(StoreError::Corrupt {
            what: "row value".to_owned(),
            reason: "it is empty".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_roundtrip_and_unknown_formats_are_errors() {
        let value = Bytes::from_static(b"\0any");
        assert_eq!(decode(&encode(&value)).unwrap(), value);
        assert_eq!(encode(&Bytes::new()).len() as u64, VALUE_HEADER_BYTES);
        assert!(decode(&Bytes::from_static(b"\x02x")).is_err());
        assert!(decode(&Bytes::new()).is_err());
    }
}
