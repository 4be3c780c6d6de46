//! Whether a revocation hits a token. Both sides name what is revoked by the same 128-bit digest, which tells nothing
//! to one who does not hold such a token.

use crate::claims::AccessClaims;
use sha2::{Digest as _, Sha256};

/// What a revocation can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One token, by its `jti`, and everything below it.
    Token,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
        }
    }
}

/// The name under which something is revoked: the first 128 bits of SHA-256 over its kind, a zero byte and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name([u8; 16]);

impl Name {
    /// Names `id` of kind `kind`.
    #[must_use]
    pub fn new(kind: Kind, id: &str) -> Self {
        let digest = Sha256::new().chain_update(kind.name()).chain_update([0]).chain_update(id).finalize();
        let mut name = [0; 16];
        name.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
        Self(name)
    }

    /// The name as stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// A stored name.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Every name whose revocation kills a token with `claims`: its own and that of each token above it.
pub fn names(claims: &AccessClaims) -> impl Iterator<Item = Name> {
    let above = claims.lineage.iter().map(|ancestor| ancestor.jti.as_str());
    std::iter::once(claims.jti.as_str()).chain(above).map(|jti| Name::new(Kind::Token, jti))
}
