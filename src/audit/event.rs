//! The event of one decision: the request, every check with the compared values, the decision, and the grant. The
//! policy question is stored whole, so that the decision can be repeated.

use crate::domain::{TaskRecord, confirmation_key};
use crate::policy::{Decision, Question};
use countersign_verify::confirmation::ConfirmationKey;
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;

/// The version of this shape that is written. A reader refuses a version that it does not know.
pub const SCHEMA_VERSION: u32 = 3;
/// The oldest version that is read: the one without notes, token digests and changes.
pub(super) const OLDEST_VERSION: u32 = 1;

/// A line of the log, without the members of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Time of the decision, in seconds since 1970.
    pub time: i64,
    /// The decision's id.
    pub decision: String,
    /// The kind of request.
    pub kind: EventKind,
    /// The outcome.
    pub outcome: Outcome,
    /// The address that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The client that authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The assertion, once its signature was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// A keyed digest of the token, where nobody vouched for it: the same token has the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Every check in order; the first that does not hold is the refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// The requested target and scope, if policy was not reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// The question to policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
    /// The answer of policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Decision>,
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// The grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Granted>,
    /// The token, or the signing key, that was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// The change that an operator made, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// The requested target and scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// `audience` and `resource` values, cut to a bound.
    pub targets: Vec<String>,
    /// `scope`.
    pub scope: String,
    /// `lifetime`, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<i64>,
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A token exchange.
    Exchange,
    /// A revocation.
    Revocation,
    /// An introspection whose caller is refused; others decide nothing, and leave no event.
    Introspection,
    /// A change of the signing keys.
    Keys,
    /// A reload of the configuration.
    Reload,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A token was given, or a revocation recorded.
    Granted,
    /// A revocation of what is no live token here, or not the caller's: answered, and nothing happened.
    NoEffect,
    /// The request was refused.
    Refused,
    /// Something that the broker depends on was down.
    Unavailable,
    /// The caller went away, or the broker failed, before an answer.
    Abandoned,
}

/// A check: its name, the presented value (cut to a limit), and the expected value if the check failed. In the log it
/// is an array of two or three strings: a grant has about fifteen checks, and every byte of a line costs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<Cow<'static, str>>")]
pub struct Check {
    /// The name of the check.
    pub name: Cow<'static, str>,
    /// The presented value.
    pub presented: Cow<'static, str>,
    /// The expected value, if the check failed.
    pub expected: Option<Cow<'static, str>>,
}

impl Check {
    /// Returns true if the check holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.expected.is_none()
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_seq(Some(2 + usize::from(self.expected.is_some())))?;
        for part in [Some(&self.name), Some(&self.presented), self.expected.as_ref()].into_iter().flatten() {
            parts.serialize_element(part)?;
        }
        parts.end()
    }
}

impl TryFrom<Vec<Cow<'static, str>>> for Check {
    type Error = &'static str;

    fn try_from(parts: Vec<Cow<'static, str>>) -> Result<Self, &'static str> {
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(presented), expected, None) => Ok(Self { name, presented, expected }),
            _ => Err("a check is two or three strings"),
        }
    }
}

/// The issuer and the subject of an assertion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The issuer's `iss`.
    pub iss: String,
    /// Whom it is about.
    pub sub: String,
    /// Its id, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

/// Why nothing was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The operator's code, as precise as it is known.
    pub reason: String,
    /// The reason in words, for the operator.
    pub message: String,
    /// The OAuth error code that the caller got.
    pub error: String,
    /// The reason that the caller got.
    pub told: String,
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The minted token's id.
    pub jti: String,
    /// The key that signed it.
    pub kid: String,
    /// Its workload.
    pub sub: String,
    /// Its target.
    pub aud: String,
    /// Its scopes.
    pub scope: String,
    /// The token's expiry, in seconds since 1970.
    pub exp: i64,
    /// The key that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "jkt", deserialize_with = "confirmation_key")]
    pub cnf: Option<ConfirmationKey>,
    /// The task that it belongs to.
    pub task: String,
    /// The task that it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<TaskRecord>,
    /// The tokens above it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<String>,
}
