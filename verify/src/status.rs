//! Token Status Lists (draft-ietf-oauth-status-list-20): a bit for each token, in a list that the broker signs and
//! anyone may fetch. Who reads them asks nobody about a token, and tells nobody which one he looks at.

use crate::Refusal;
use crate::jws::{Bounds, Compact};
use crate::key::{KeySet, NoKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::Read as _;

/// The `typ` of a list (§5.1).
pub const LIST_TYPE: &str = "statuslist+jwt";
/// The media type of a list (§8.1).
pub const MEDIA_TYPE: &str = "application/statuslist+jwt";
/// The token is good (§7.1).
pub const VALID: u8 = 0;
/// Size limit of a list, in bytes, compressed and decompressed (§11.5): a million entries of eight bits.
pub const MAX_LIST: usize = 1 << 20;
/// Length limit of a signed list, in characters.
const MAX_SIGNED: usize = 2 * MAX_LIST;
/// Leeway between two clocks, in seconds.
const LEEWAY: i64 = crate::LEEWAY;

/// A token's `status` (§6.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The reference to the entry.
    pub status_list: Reference,
}

/// The reference to an entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Which entry, from 0.
    pub idx: u64,
    /// The URI of the list, which is also its `sub`.
    pub uri: String,
}

/// The content of a list (§5.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Its own URI.
    pub sub: String,
    /// Time of the signature, in seconds since 1970.
    pub iat: i64,
    /// Expiry, in seconds since 1970.
    pub exp: i64,
    /// After how many seconds it is to be fetched again.
    pub ttl: i64,
    /// The entries.
    pub status_list: Entries,
}

/// Entries, compressed (§4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// Number of bits of an entry: 1, 2, 4 or 8.
    bits: u8,
    /// Them, the first in the lowest bits of the first byte, as zlib (RFC 1950) in base64url.
    lst: String,
}

impl Entries {
    /// `bytes` of entries of one bit each.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut packed = Vec::new();
        // Reading from memory into memory cannot fail.
        let _ = ZlibEncoder::new(bytes, Compression::best()).read_to_end(&mut packed);
        Self { bits: 1, lst: URL_SAFE_NO_PAD.encode(packed) }
    }

    fn read(&self) -> Option<Vec<u8>> {
        if !matches!(self.bits, 1 | 2 | 4 | 8) || self.lst.len() > MAX_SIGNED {
            return None;
        }
        let packed = URL_SAFE_NO_PAD.decode(&self.lst).ok()?;
        let mut bytes = Vec::new();
        // One more than there may be shows that there is more.
        let most = u64::try_from(MAX_LIST).ok()? + 1;
        ZlibDecoder::new(packed.as_slice()).take(most).read_to_end(&mut bytes).ok()?;
        (bytes.len() <= MAX_LIST).then_some(bytes)
    }
}

/// Why a list is not believed. What it would say of a token is then not known (§8.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// It is not signed as a list of this broker, or not for now.
    #[error("the answer is not a status list of this broker: {0}")]
    List(#[from] Refusal),
    /// It is another one than the token names.
    #[error("the `sub` of the status list is not the list that the token names")]
    Other,
    /// Its entries cannot be read, or are too many.
    #[error("the entries of the status list cannot be read, or are larger than {MAX_LIST} bytes")]
    Malformed,
}

/// A list that is believed.
#[derive(Debug, Clone)]
pub struct StatusList {
    bits: u8,
    bytes: Vec<u8>,
    issued: i64,
    expires: i64,
    ttl: i64,
}

impl StatusList {
    /// Reads the list `jwt` that was fetched from `uri`, signed by one of `keys`, at `now` (seconds since 1970; §8.3).
    ///
    /// # Errors
    /// [`StatusError`]: then no token that names it is accepted.
    pub fn verify(jwt: &str, uri: &str, keys: &KeySet, now: i64) -> Result<Self, StatusError> {
        let bounds = Bounds { token_bytes: MAX_SIGNED, ..Bounds::default() };
        let compact = Compact::parse_within(jwt, bounds).map_err(Refusal::from)?;
        if compact.header().media_type.as_deref() != Some(LIST_TYPE) {
            return Err(Refusal::Type.into());
        }
        let kid = compact.header().key_id.clone().ok_or(Refusal::Key(NoKey::UnknownKid))?;
        let key = keys.find(Some(&kid), compact.header().algorithm).map_err(Refusal::from)?;
        let payload = compact.verify(key).map_err(|_| Refusal::Signature)?;
        let content: Content =
            serde_json::from_value(Value::Object(payload.into_members())).map_err(|_| Refusal::Claims)?;
        if content.sub != uri {
            return Err(StatusError::Other);
        }
        if content.exp.saturating_add(LEEWAY) <= now {
            return Err(Refusal::Expired.into());
        }
        if content.iat.saturating_sub(LEEWAY) > now {
            return Err(Refusal::NotYetValid.into());
        }
        let bytes = content.status_list.read().ok_or(StatusError::Malformed)?;
        let Content { iat: issued, exp: expires, ttl, status_list: Entries { bits, .. }, .. } = content;
        Ok(Self { bits, bytes, issued, expires, ttl })
    }

    /// With every entry set that is set in `other` too: the broker never takes one back, and one of its replicas, or a
    /// cache, may be behind.
    #[must_use]
    pub fn with_all_of(mut self, other: &Self) -> Self {
        if self.bits == 1 && other.bits == 1 {
            self.bytes.iter_mut().zip(&other.bytes).for_each(|(own, other)| *own |= other);
        }
        self
    }

    /// Returns the remaining validity, in seconds.
    #[must_use]
    pub fn lives(&self) -> i64 {
        self.expires.saturating_sub(self.issued)
    }

    /// Returns the status of the entry `index`: [`VALID`], or the reason (§7.1). None if the list has no such entry;
    /// then the token is refused.
    #[must_use]
    pub fn status(&self, index: u64) -> Option<u8> {
        let first = index.checked_mul(self.bits.into())?;
        let byte = *self.bytes.get(usize::try_from(first / 8).ok()?)?;
        let mask = u8::MAX >> (8 - self.bits);
        Some(byte >> (first % 8) & mask)
    }

    /// Returns the expiry, in seconds since 1970.
    #[must_use]
    pub fn expires(&self) -> i64 {
        self.expires
    }

    /// After how many seconds it is to be fetched again.
    #[must_use]
    pub fn ttl(&self) -> i64 {
        self.ttl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(bits: u8, lst: &str) -> StatusList {
        let entries = Entries { bits, lst: lst.to_owned() };
        StatusList { bits, bytes: entries.read().unwrap_or_default(), issued: 0, expires: 0, ttl: 0 }
    }

    /// The vectors of §4.1 and §4.2.
    #[test]
    fn the_lists_of_the_draft_are_read() {
        let one = list(1, "eNrbuRgAAhcBXQ");
        let said: Vec<u8> = (0..16).filter_map(|index| one.status(index)).collect();
        assert_eq!(said, [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]);
        assert_eq!(one.status(16), None, "there is no such entry");
        let two = list(2, "eNo76fITAAPfAgc");
        let said: Vec<u8> = (0..12).filter_map(|index| two.status(index)).collect();
        assert_eq!(said, [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]);
        assert_eq!(two.status(u64::MAX), None);
        let whole = list(8, &Entries::of(&[7, 255, 0]).lst);
        assert_eq!(
            [whole.status(0), whole.status(1), whole.status(2), whole.status(3)],
            [Some(7), Some(255), Some(0), None]
        );
    }

    #[test]
    fn what_was_set_stays_set() {
        let [old, new] = [[0b101, 0], [0b110, 1]].map(|bytes| list(1, &Entries::of(&bytes).lst));
        let both = new.with_all_of(&old);
        assert_eq!([0, 1, 2, 3, 8].map(|index| both.status(index)), [Some(1), Some(1), Some(1), Some(0), Some(1)]);
        let wide = list(2, "eNo76fITAAPfAgc").with_all_of(&old);
        assert_eq!(wide.status(1), Some(2), "of more bits none is taken over");
    }

    /// Appendix C: a million entries, of which a few are set.
    #[test]
    fn a_million_entries_come_out_as_they_went_in() {
        let set = [0, 1_993, 25_460, 159_495, 495_669, 554_353, 645_645, 723_232, 854_545, 934_534, 1_000_345];
        let mut bytes = vec![0_u8; 1 << 17];
        for index in set {
            if let Some(byte) = bytes.get_mut(index / 8) {
                *byte |= 1 << (index % 8);
            }
        }
        let entries = Entries::of(&bytes);
        assert!(entries.lst.len() < 400, "{} characters", entries.lst.len());
        assert_eq!(entries.read(), Some(bytes));
    }

    #[test]
    fn what_inflates_beyond_bounds_or_is_none_is_not_read() {
        let huge = Entries::of(&vec![0; MAX_LIST + 1]);
        assert!(huge.lst.len() < 4_000, "small as it comes");
        assert_eq!(huge.read(), None);
        assert!(Entries::of(&vec![0; MAX_LIST]).read().is_some());
        for bits in [0, 3, 5, 16] {
            assert_eq!(Entries { bits, ..Entries::of(&[1]) }.read(), None);
        }
        for lst in ["", "eNrb", "!", "eNrbuRgAAhcBXQ=="] {
            assert_eq!(Entries { bits: 1, lst: lst.to_owned() }.read(), None, "{lst}");
        }
    }
}
