//! The record of a task that was opened.

use super::{Timestamp, confirmation_key};
use countersign_verify::confirmation::ConfirmationKey;
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
    /// The key that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "jkt", deserialize_with = "confirmation_key")]
    pub cnf: Option<ConfirmationKey>,
    /// The purpose that the client stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Number of tokens that the task may get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u32>,
    /// The targets that it was opened for; any that policy permits where it names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Time of opening, in seconds since 1970.
    pub opened: i64,
    /// The deadline, in seconds since 1970.
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
    /// Returns true if the deadline has passed.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.deadline <= now.seconds()
    }
}

/// A task and how it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskState {
    /// The record of the opened task.
    pub record: TaskRecord,
    /// Number of tokens that the task got. For a task without a budget it counts from the start of the broker.
    pub used: u32,
    /// Time of the last use.
    pub last_used: Timestamp,
    /// Since when it is idle: when the last token that it got has ended.
    pub idle_since: Timestamp,
}
