//! What is kept of a task that was opened.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// The most tokens that a task's budget can allow.
pub const MAX_BUDGET: u32 = 10_000;

/// A task: who opened it, what for, and until when. Never changes; whether it was ended is in the revocation log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRecord {
    /// Its id: the `jti` of its token.
    pub id: String,
    /// The workload that it belongs to.
    pub workload: String,
    /// The issuer's entry that vouched for the workload.
    pub issuer: String,
    /// The client that opened it, where one authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The key that it is bound to, by its thumbprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<String>,
    /// What the client said it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// How many tokens it may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u32>,
    /// The targets that it was opened for; any that policy permits where it names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// When it was opened, in seconds since 1970.
    pub opened: i64,
    /// When it is over, in seconds since 1970.
    pub deadline: i64,
    /// The decision that opened it.
    pub decision: String,
    /// The `iss` of the assertion that opened it.
    pub iss: String,
    /// The key that signed its token.
    pub kid: String,
    /// The position in the revocation log that its token carries.
    pub pos: u64,
}

impl TaskRecord {
    /// Whether its deadline has passed.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.deadline <= now.seconds()
    }
}

/// A task and how it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskState {
    /// What was opened.
    pub record: TaskRecord,
    /// How many tokens it was given. Of a task without a budget this counts from when the broker started.
    pub used: u32,
    /// When it was last used.
    pub last_used: Timestamp,
    /// Since when it is idle: when the last token that it got has ended.
    pub idle_since: Timestamp,
}
