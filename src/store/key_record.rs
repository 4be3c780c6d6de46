//! A key's record as it is stored: JSON with its version. One that this version does not know is an error, and never
//! skipped: it could be the one that says that a key is revoked.

use super::StoreError;
use crate::domain::{KeyRecord, Purpose, Timestamp};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u8,
    kid: String,
    purpose: String,
    algorithm: String,
    published: i64,
    signs_from: i64,
    signs_until: Option<i64>,
    longest: i64,
    revoked: Option<i64>,
}

pub(super) fn encode(record: &KeyRecord) -> Result<Vec<u8>, StoreError> {
    let stored = Stored {
        v: VERSION,
        kid: record.kid.clone(),
        purpose: record.purpose.name().to_owned(),
        algorithm: record.algorithm.name().to_owned(),
        published: record.published.seconds(),
        signs_from: record.signs_from.seconds(),
        signs_until: record.signs_until.map(Timestamp::seconds),
        longest: record.longest,
        revoked: record.revoked.map(Timestamp::seconds),
    };
    serde_json::to_vec(&stored).map_err(super::embedded::io)
}

pub(super) fn decode(bytes: &[u8]) -> Result<KeyRecord, StoreError> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|_| StoreError::UnknownRecord)?;
    let time = |seconds| Timestamp::new(seconds).ok_or(StoreError::UnknownRecord);
    if stored.v != VERSION {
        return Err(StoreError::UnknownRecord);
    }
    Ok(KeyRecord {
        kid: stored.kid,
        purpose: Purpose::named(&stored.purpose).ok_or(StoreError::UnknownRecord)?,
        algorithm: stored.algorithm.parse().map_err(|_| StoreError::UnknownRecord)?,
        published: time(stored.published)?,
        signs_from: time(stored.signs_from)?,
        signs_until: stored.signs_until.map(time).transpose()?,
        longest: stored.longest,
        revoked: stored.revoked.map(time).transpose()?,
    })
}
