//! Digests that stand for what must not be kept whole.

use sha2::{Digest as _, Sha256};

/// The first 128 bits of a SHA-256: enough that nobody finds two inputs with the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Digests `parts`, each ended by its length, under a `domain` that keeps different uses apart.
    #[must_use]
    pub fn of(domain: &str, parts: &[&str]) -> Self {
        let mut hasher = Sha256::new().chain_update(domain).chain_update([0]);
        for part in parts {
            hasher.update(part.as_bytes());
            hasher.update(part.len().to_be_bytes());
        }
        Self(hasher.finalize().first_chunk::<16>().copied().unwrap_or_default())
    }

    /// The digest as stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// A stored digest.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// SHA-256 over `parts` one after the other.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}
