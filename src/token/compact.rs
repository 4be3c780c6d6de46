//! A minted token, as the caller gets it.

use std::fmt;
use zeroize::Zeroizing;

/// A signed token in compact serialisation (RFC 7515 §7.1). It is wiped when it is dropped, and printed nowhere.
pub struct CompactToken(Zeroizing<String>);

impl CompactToken {
    /// Takes a signed token.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }

    /// The token itself: for the answer to the caller, and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Length of the token, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no token is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for CompactToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CompactToken({} bytes)", self.len())
    }
}
