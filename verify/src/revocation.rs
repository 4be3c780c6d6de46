//! Whether a revocation hits a token. Both sides name what is revoked by the same 128-bit digest, which tells nothing
//! to one who does not hold such a token.

use crate::AccessToken;
use sha2::{Digest as _, Sha256};

/// What a revocation can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One token, by its `jti`, and everything below it.
    Token,
    /// A signing key, by its `kid`: everything that it signed, and everything below that.
    Key,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Key => "key",
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

/// Every name whose revocation kills `token`: its own, its key's, and those of each token above it.
pub fn names(token: &AccessToken) -> impl Iterator<Item = Name> {
    let own = (token.claims().jti.as_str(), token.key_id());
    let above = token.claims().lineage.iter().map(|above| (above.jti.as_str(), above.kid.as_str()));
    std::iter::once(own).chain(above).flat_map(|(jti, kid)| [Name::new(Kind::Token, jti), Name::new(Kind::Key, kid)])
}
