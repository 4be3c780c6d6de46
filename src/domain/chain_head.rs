//! The head of the audit chain.

use std::fmt;
use std::str::FromStr;

/// The number of the next line, and the hash of the last. Written `<number in 20 digits>:<hash>`, always as long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// The number of the next line, from 0.
    pub next: u64,
    /// The last line's SHA-256, in hexadecimal.
    pub hash: String,
}

impl ChainHead {
    /// Length of the head as text, in bytes.
    pub const LENGTH: usize = 20 + 1 + 64;

    /// The head of a chain without a line.
    #[must_use]
    pub fn genesis() -> Self {
        Self { next: 0, hash: "0".repeat(64) }
    }
}

impl fmt::Display for ChainHead {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:020}:{}", self.next, self.hash)
    }
}

impl FromStr for ChainHead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a head is a number, `:` and 64 hexadecimal digits, as `/audit/head` shows it".to_owned();
        let (next, hash) = text.trim().split_once(':').ok_or_else(wrong)?;
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hash.len() != 64 || !hash.bytes().all(digits) || !next.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        Ok(Self { next: next.parse().map_err(|_| wrong())?, hash: hash.to_owned() })
    }
}
