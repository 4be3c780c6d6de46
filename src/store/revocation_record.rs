//! A record of the revocation log in the bytes that are stored: a version, what has to be known of it at each check,
//! and then, as JSON, what is for people.

use super::{About, Act, Entry};
use crate::domain::Timestamp;
use countersign_verify::revocation::Name;

/// The version of a record, its first byte.
const VERSION: u8 = 2;
/// The one before: a revocation, of nothing but what has to be known.
const FIRST: u8 = 1;

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let (act, before) = match entry.act {
        Act::Revoke => (b'r', 0),
        Act::RevokeBefore(before) => (b'b', before),
        Act::Suspend => (b's', 0),
        Act::Resume => (b'l', 0),
    };
    let mut record = vec![VERSION];
    record.extend_from_slice(&entry.name.to_bytes());
    record.extend_from_slice(&entry.until.seconds().to_be_bytes());
    record.push(act);
    record.extend_from_slice(&before.to_be_bytes());
    if let Ok(about) = serde_json::to_vec(&entry.about) {
        record.extend_from_slice(&about);
    }
    record
}

/// Returns the expiry of a record.
pub(super) fn until(record: &[u8]) -> Option<Timestamp> {
    let (version, rest) = record.split_first()?;
    let (until, _) = rest.get(16..)?.split_first_chunk::<8>()?;
    Timestamp::new(i64::from_be_bytes(*until)).filter(|_| [FIRST, VERSION].contains(version))
}

pub(super) fn decode(record: &[u8]) -> Option<Entry> {
    let (version, rest) = record.split_first()?;
    let (name, rest) = rest.split_first_chunk::<16>()?;
    let (until, rest) = rest.split_first_chunk::<8>()?;
    let (name, until) = (Name::from_bytes(*name), Timestamp::new(i64::from_be_bytes(*until))?);
    if *version == FIRST && rest.is_empty() {
        return Some(Entry { name, until, act: Act::Revoke, about: About::default() });
    }
    let (act, rest) = rest.split_first()?;
    let (before, about) = rest.split_first_chunk::<8>()?;
    let act = match (*version, act) {
        (VERSION, b'r') => Act::Revoke,
        (VERSION, b'b') => Act::RevokeBefore(i64::from_be_bytes(*before)),
        (VERSION, b's') => Act::Suspend,
        (VERSION, b'l') => Act::Resume,
        _ => return None,
    };
    Some(Entry { name, until, act, about: serde_json::from_slice(about).ok()? })
}
