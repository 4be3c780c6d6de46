//! The key that a token is bound to (`cnf`, RFC 7800 §3.1). The presenter of the token must prove that key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A SHA-256 thumbprint, written in base64url (43 characters).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint([u8; 32]);

/// Text that is not the base64url of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a thumbprint is the base64url of 32 bytes")]
pub struct NoThumbprint;

impl Thumbprint {
    /// The thumbprint of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Thumbprint {
    type Err = NoThumbprint;

    fn from_str(text: &str) -> Result<Self, NoThumbprint> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoThumbprint)?;
        bytes.try_into().map(Self).map_err(|_| NoThumbprint)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Thumbprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Thumbprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A key that the presenter of a token must prove. It is written as the one member of `cnf`; a `cnf` with another
/// member, or with more than one, is not read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConfirmationKey {
    /// A public key, by its RFC 7638 thumbprint. A DPoP proof proves it (RFC 9449 §6.1).
    #[serde(rename = "jkt")]
    Jkt(Thumbprint),
    /// A certificate, by the thumbprint of its DER. Mutual TLS proves it (RFC 8705 §3.1).
    #[serde(rename = "x5t#S256")]
    X5t(Thumbprint),
    /// A SPIFFE ID, whatever key its SVID has today. Only task tokens have it, and only the broker accepts them.
    #[serde(rename = "countersign_spiffe_id")]
    SpiffeId(String),
}

impl fmt::Display for ConfirmationKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jkt(thumbprint) => write!(out, "jkt {thumbprint}"),
            Self::X5t(thumbprint) => write!(out, "x5t#S256 {thumbprint}"),
            Self::SpiffeId(id) => out.write_str(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    #[test]
    fn each_member_is_read_as_it_is_written_and_alone() {
        let thumbprint: Thumbprint = PRINT.parse().unwrap();
        assert_eq!(thumbprint.to_string(), PRINT);
        for (key, text) in [
            (ConfirmationKey::Jkt(thumbprint), format!(r#"{{"jkt":"{PRINT}"}}"#)),
            (ConfirmationKey::X5t(thumbprint), format!(r##"{{"x5t#S256":"{PRINT}"}}"##)),
            (
                ConfirmationKey::SpiffeId("spiffe://td/a".to_owned()),
                r#"{"countersign_spiffe_id":"spiffe://td/a"}"#.to_owned(),
            ),
        ] {
            assert_eq!(serde_json::to_string(&key).unwrap(), text);
            assert_eq!(serde_json::from_str::<ConfirmationKey>(&text).unwrap(), key);
        }
        let both = format!(r##"{{"jkt":"{PRINT}","x5t#S256":"{PRINT}"}}"##);
        let twice = format!(r#"{{"jkt":"{PRINT}","jkt":"{PRINT}"}}"#);
        let padded = format!(r#"{{"jkt":"{PRINT}="}}"#);
        for other in [r#"{"jkt":"x"}"#, r#"{"jwk":{}}"#, "{}", "null", r#""x""#, r#"{"jkt":1}"#, &both, &twice, &padded]
        {
            assert!(serde_json::from_str::<ConfirmationKey>(other).is_err(), "{other}");
        }
    }
}
