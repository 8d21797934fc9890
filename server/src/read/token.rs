//! Page tokens: a cursor, signed and made text.
//!
//! ```text
//! token = base64url( version | postcard(cursor) | first 16 bytes of HMAC-SHA256(key, version | postcard) )
//! ```
//!
//! - R1: a token that this store did not make, or that was changed, is refused; never misread.
//! - The key is a record, so every server of a store, and every restart, reads every token.
//!
//! This is a format that clients keep: a change of the cursor's encoding needs another version.

use std::fmt;

use anabranch_runtime::Randomness;
use anabranch_storage::{CasOutcome, RecordKey, RecordStore, StoreError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::cursor::Cursor;
use crate::errors::{Reason, ServiceError};

/// Bytes in the signing key.
pub const TOKEN_KEY_BYTES: usize = 32;
const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
/// No token that we make comes near this.
const TOKEN_CHARS_MAX: usize = 256 << 10;

/// Signs and reads page tokens.
#[derive(Clone)]
pub struct PageTokens {
    mac: Hmac<Sha256>,
}

impl fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageTokens")
    }
}

impl PageTokens {
    /// Signs under a key.
    pub fn new(key: &[u8; TOKEN_KEY_BYTES]) -> Self {
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        // A key shorter than HMAC's block is padded with zeros (RFC 2104).
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
        Self {
            mac: Hmac::new(&block),
        }
    }

    /// Signs under the store's key. The first server makes it; all others, and every restart, find it.
    ///
    /// # Errors
    /// When the store fails, or what it holds is not a key.
    pub async fn load_or_create(
        records: &dyn RecordStore,
        randomness: &Randomness,
    ) -> Result<Self, StoreError> {
        let mut current = records.get(&RecordKey::PageTokenKey).await?;
        loop {
            let expected = match current {
                Some(record) => match record.value {
                    Some(value) => return Self::of_record(&value),
                    None => record.version,
                },
                None => 0,
            };
            let mut key = [0; TOKEN_KEY_BYTES];
            randomness.fill(&mut key);
            let value = Some(Bytes::copy_from_slice(&key));
            let outcome = records
                .compare_and_set(&RecordKey::PageTokenKey, expected, value)
                .await?;
            match outcome {
                CasOutcome::Applied { .. } => return Ok(Self::new(&key)),
                // Another server was first. Its key is everybody's.
                CasOutcome::Conflict { current: stands } => current = stands,
            }
        }
    }

    fn of_record(value: &[u8]) -> Result<Self, StoreError> {
        let key: &[u8; TOKEN_KEY_BYTES] = value.try_into().map_err(|_| StoreError::Corrupt {
            what: "page token key".to_owned(),
            reason: format!("it has {} bytes instead of {TOKEN_KEY_BYTES}", value.len()),
        })?;
        Ok(Self::new(key))
    }

    pub(super) fn encode(&self, cursor: &Cursor) -> Result<String, ServiceError> {
        let signed = postcard::to_extend(cursor, vec![VERSION])
            .map_err(|error| ServiceError::new(Reason::PageTokenInvalid, error.to_string()))?;
        Ok(self.sign(signed))
    }

    fn sign(&self, mut signed: Vec<u8>) -> String {
        let mut mac = self.mac.clone();
        mac.update(&signed);
        let tag = mac.finalize().into_bytes();
        signed.extend(tag.iter().take(TAG_BYTES));
        URL_SAFE_NO_PAD.encode(signed)
    }

    /// Reads a token and checks that it belongs to the request of this fingerprint.
    pub(super) fn decode(&self, token: &str, fingerprint: u128) -> Result<Cursor, ServiceError> {
        let cursor = self.open(token).ok_or_else(invalid)?;
        if cursor.fingerprint != fingerprint {
            return Err(ServiceError::new(
                Reason::PageTokenMismatch,
                "page_token belongs to a request with other arguments",
            )
            .field(
                "page_token",
                "send it with the arguments of the request that it came from (page_size, latency_slo and \
                 read_mask may change), or leave it out to start again",
            ));
        }
        Ok(cursor)
    }

    fn open(&self, token: &str) -> Option<Cursor> {
        if token.len() > TOKEN_CHARS_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
        let mut mac = self.mac.clone();
        mac.update(signed);
        mac.verify_truncated_left(tag).ok()?;
        let (version, payload) = signed.split_first()?;
        if *version != VERSION {
            return None;
        }
        match postcard::take_from_bytes(payload).ok()? {
            (cursor, []) => Some(cursor),
            _ => None,
        }
    }
}

fn invalid() -> ServiceError {
    ServiceError::new(
        Reason::PageTokenInvalid,
        "page_token was not made by this store, or it was changed",
    )
    .field(
        "page_token",
        "send next_page_token exactly as it came, or leave it out to start again",
    )
}

#[cfg(test)]
mod tests;
