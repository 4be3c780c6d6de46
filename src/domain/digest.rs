//! Digests that stand for what must not be kept whole.

use super::Timestamp;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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

/// A kind of credential that can be used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedOnce {
    /// The subject token.
    SubjectToken,
    /// The assertion by which the client authenticates.
    ClientAssertion,
    /// The proof of a confirmation key.
    Proof,
}

impl UsedOnce {
    /// Everything that counts once.
    pub const ALL: [Self; 3] = [Self::SubjectToken, Self::ClientAssertion, Self::Proof];
}

/// The first use of an assertion or a proof: the key of its replay guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstUse {
    /// The kind of the credential.
    pub of: UsedOnce,
    /// Stands for `(iss, jti)`, or for the signed part where there is no `jti`.
    pub key: Digest,
    /// The time until which the replay guard is stored.
    pub until: Timestamp,
}

/// The first uses of one exchange, at most one of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FirstUses([Option<FirstUse>; UsedOnce::ALL.len()]);

impl FirstUses {
    /// Returns the first uses, in the order of [`UsedOnce::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &FirstUse> {
        self.0.iter().flatten()
    }

    /// Returns true if `of` is used.
    #[must_use]
    pub fn has(&self, of: UsedOnce) -> bool {
        self.iter().any(|first_use| first_use.of == of)
    }
}

impl FromIterator<FirstUse> for FirstUses {
    fn from_iter<I: IntoIterator<Item = FirstUse>>(first_uses: I) -> Self {
        let mut all = Self::default();
        for first_use in first_uses {
            if let Some(place) = all.0.get_mut(first_use.of as usize) {
                *place = Some(first_use);
            }
        }
        all
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

/// Digests what may be guessed: without the key, nobody can tell of what a digest is.
pub struct DigestKey(hmac::Key);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("DigestKey")
    }
}

impl DigestKey {
    /// The key of 32 random bytes.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The first 128 bits of HMAC-SHA-256 over `text`.
    #[must_use]
    pub fn digest(&self, text: &str) -> String {
        let tag = hmac::sign(&self.0, text.as_bytes());
        format!("hmac-sha256:{}", URL_SAFE_NO_PAD.encode(tag.as_ref().get(..16).unwrap_or_default()))
    }
}
