//! The stored form of a confirmation key.

use countersign_verify::confirmation::{ConfirmationKey, Thumbprint};
use serde::{Deserialize, Deserializer};

/// Reads a confirmation key as `cnf` has it, or as earlier versions stored it: the thumbprint alone.
///
/// # Errors
/// The error of the deserializer for any other value.
pub fn confirmation_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ConfirmationKey>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Key(ConfirmationKey),
        Jkt(Thumbprint),
    }
    Ok(Option::<Stored>::deserialize(deserializer)?.map(|stored| match stored {
        Stored::Key(key) => key,
        Stored::Jkt(thumbprint) => ConfirmationKey::Jkt(thumbprint),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_an_earlier_version_stored_is_read() {
        let print = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
        let read = |text: &str| confirmation_key(&mut serde_json::Deserializer::from_str(text)).ok();
        let key = Some(ConfirmationKey::Jkt(print.parse().unwrap()));
        assert_eq!(read(&format!("\"{print}\"")), Some(key.clone()));
        assert_eq!(read(&format!("{{\"jkt\":\"{print}\"}}")), Some(key));
        assert_eq!(read("null"), Some(None));
        assert_eq!(read("\"x\""), None);
    }
}
