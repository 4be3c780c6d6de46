//! Entries of status lists: which one a token has, and what it can be revoked by.

use super::{Malformed, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::revocation::Named;
use countersign_verify::status::{Reference, Status};
use std::fmt;
use std::str::FromStr;

/// The name of a status list: 128 random bits, so that no two replicas, and no two lives of one, ever have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListId([u8; 16]);

impl ListId {
    /// Number of entries of a list.
    pub const ENTRIES: u32 = 1 << 20;

    /// The list of these random bits.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// The URI of the list at the broker with the issuer identifier `issuer`.
    #[must_use]
    pub fn uri(self, issuer: &str) -> String {
        format!("{}/status/{self}", issuer.trim_end_matches('/'))
    }

    /// The `status` claim of a token with the entry `index` of the list.
    #[must_use]
    pub fn reference(self, issuer: &str, index: u32) -> Status {
        Status { status_list: Reference { idx: index.into(), uri: self.uri(issuer) } }
    }

    /// The name as stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for ListId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl FromStr for ListId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(Malformed("a status list is named by 22 characters"))
    }
}

/// The entry of one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRow {
    /// Its list.
    pub list: ListId,
    /// Which entry of it.
    pub index: u32,
    /// Until when anyone may look at it.
    pub until: Timestamp,
    /// The position in the revocation log that had been applied when the token was decided.
    pub pos: u64,
    /// Everything that it can be revoked by.
    pub names: Vec<Named>,
}
