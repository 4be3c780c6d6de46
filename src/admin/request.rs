//! What an operator asks for. A face reads it, and [`Admin`](super::Admin) checks and does it.

use super::AdminError;
use crate::domain::{Purpose, Timestamp, TokenId};
use countersign_verify::key::Algorithm;
use countersign_verify::revocation::{Act, Kind as Named};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{self, Display};
use std::str::FromStr;

/// The longest reason, in bytes.
const MAX_REASON: usize = 1_024;
/// The longest id, in bytes.
const MAX_ID: usize = 2_048;

/// An operator, as the audit log names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorId(String);

impl OperatorId {
    /// The Unix user `uid`.
    #[must_use]
    pub fn unix(uid: u32) -> Self {
        Self(format!("operator (uid {uid})"))
    }

    /// The user of this process.
    #[must_use]
    pub fn own() -> Self {
        Self::unix(rustix::process::geteuid().as_raw())
    }
}

impl Display for OperatorId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A use case of operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminRequest {
    /// Revoke, suspend or resume what is named, and everything below it.
    Change(Change),
    /// Every revocation and suspension in force.
    Revocations {},
    /// Every task whose deadline lies ahead.
    Tasks {},
    /// Every signing key.
    Keys {},
    /// Make a successor for the key of a purpose and an algorithm.
    RotateKey {
        /// The purpose of the key.
        #[serde(with = "as_text")]
        purpose: Purpose,
        /// The algorithm that the key signs with.
        #[serde(with = "as_text")]
        algorithm: Algorithm,
    },
    /// Drop a compromised key and revoke what it signed.
    RevokeKey {
        /// Its id.
        kid: String,
        /// The reason that the operator gives.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Read configuration and policies again. The process that serves does this itself, before [`Admin`](super::Admin).
    Reload {},
}

/// A change of what is revoked or suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The kind of what is named.
    #[serde(with = "as_text")]
    pub kind: Named,
    /// Its id, as tokens have it.
    pub id: String,
    /// Revoke, suspend or resume.
    #[serde(with = "act")]
    pub act: Act,
    /// The reason that the operator gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Change {
    /// Checks what every face would have to check.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] says what to ask for instead.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), AdminError> {
        let invalid = |fault: &str| Err(AdminError::Invalid(fault.to_owned()));
        match (self.kind, self.act) {
            // What lies ahead is compared with clocks that may be wrong.
            (_, Act::RevokeBefore(moment)) if moment > now.seconds() => {
                return invalid("the moment lies ahead; revoke everything so far, or suspend");
            }
            (Named::Key, _) => return invalid("a key is revoked by `countersign keys revoke`, which drops it too"),
            (Named::Token | Named::Task, Act::RevokeBefore(_)) => {
                return invalid("a token or a task is issued once; revoke it without a moment");
            }
            (Named::Token | Named::Task, _) => {
                self.id.parse::<TokenId>().map_err(|fault| AdminError::Invalid(fault.to_string()))?;
            }
            _ if !is_plain(&self.id, MAX_ID) => return invalid("the id is empty, too long or not printable"),
            _ => {}
        }
        check_reason(self.reason.as_deref())
    }
}

/// Checks that `reason` can be stored.
pub(super) fn check_reason(reason: Option<&str>) -> Result<(), AdminError> {
    if reason.is_none_or(|reason| is_plain(reason, MAX_REASON)) {
        return Ok(());
    }
    Err(AdminError::Invalid(format!("the reason is empty, longer than {MAX_REASON} bytes or not printable")))
}

fn is_plain(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control)
}

/// A value that is written as its text.
mod as_text {
    use super::{Deserialize, Deserializer, Display, FromStr, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `revoke`, `suspend`, `resume`, or `{"revoke_before": <seconds since 1970>}`.
mod act {
    use super::{Act, Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Written {
        Revoke,
        RevokeBefore(i64),
        Suspend,
        Resume,
    }

    pub(super) fn serialize<S: Serializer>(act: &Act, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match act {
            Act::Revoke => Written::Revoke,
            Act::RevokeBefore(moment) => Written::RevokeBefore(*moment),
            Act::Suspend => Written::Suspend,
            Act::Resume => Written::Resume,
        };
        written.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Act, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Revoke => Act::Revoke,
            Written::RevokeBefore(moment) => Act::RevokeBefore(moment),
            Written::Suspend => Act::Suspend,
            Written::Resume => Act::Resume,
        })
    }
}
