//! The answers to operators, as plain facts: a face shows them, and adds nothing.

use super::tasks::TaskEnd;
use crate::domain::{KeyRecord, KeyState, TaskState, Timestamp};
use crate::error::Error;
use crate::signing::SigningKeysError;
use crate::store::{Entry, Revoked, StoreError};
use countersign_verify::revocation::Act;
use serde::{Deserialize, Serialize};

/// The answer to an [`AdminRequest`](super::AdminRequest).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminAnswer {
    /// A change is in force, by this decision.
    Changed(String),
    /// Every revocation and suspension in force, oldest first.
    Revocations(Vec<RevocationView>),
    /// Every task whose deadline lies ahead, oldest first.
    Tasks(Vec<TaskView>),
    /// Every signing key.
    Keys(Vec<KeyView>),
    /// The key that was made or revoked.
    Key(KeyView),
    /// Configuration and policies are in force as they are on disk.
    Reloaded,
}

/// Why a request of an operator was not done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The request is invalid; the text says what to ask for instead.
    #[error("{0}")]
    Invalid(String),
    /// Nothing of this name is suspended.
    #[error("it is not suspended; `countersign revocations` shows what is")]
    NotSuspended,
    /// A change is not durable: ask again.
    #[error(transparent)]
    Change(#[from] Error),
    /// A key cannot be made or dropped.
    #[error(transparent)]
    Keys(#[from] SigningKeysError),
    /// The store cannot answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Configuration or policies cannot be used; what was in force stays.
    #[error("{0}")]
    Reload(String),
}

/// A record of the revocation log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationView {
    /// Its position in the log.
    pub position: u64,
    /// `revoke`, `suspend` or `resume`.
    pub act: String,
    /// The time before which tokens are revoked, if it names one.
    pub before: Option<String>,
    /// The kind of what is named.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// The reason that the operator gave.
    pub reason: Option<String>,
    /// The actor: a client, the presenter of the token, or an operator.
    pub by: String,
    /// Time of the act.
    pub at: Option<String>,
    /// The time until which the record is stored.
    pub until: String,
    /// The decision.
    pub decision: String,
}

impl From<&Revoked> for RevocationView {
    fn from(revoked: &Revoked) -> Self {
        let Entry { until, act, about, .. } = &revoked.entry;
        let (act, before) = match act {
            Act::Revoke => ("revoke", None),
            Act::RevokeBefore(moment) => ("revoke", date(*moment)),
            Act::Suspend => ("suspend", None),
            Act::Resume => ("resume", None),
        };
        Self {
            position: revoked.position,
            act: act.to_owned(),
            before,
            kind: about.kind.clone(),
            id: about.id.clone(),
            reason: about.reason.clone(),
            by: about.by.clone(),
            at: date(about.at),
            until: until.to_string(),
            decision: about.decision.clone(),
        }
    }
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskView {
    /// Its id.
    pub id: String,
    /// `open`, `ended` or `idle`.
    pub state: String,
    /// The workload that it belongs to.
    pub workload: String,
    /// The client that opened it, if one authenticated.
    pub client: Option<String>,
    /// The purpose that the client stated.
    pub purpose: Option<String>,
    /// The targets that it was opened for; empty for any.
    pub targets: Vec<String>,
    /// Number of tokens that it may get, if it is limited.
    pub budget: Option<u32>,
    /// Number of tokens that it got.
    pub used: u32,
    /// Time of opening.
    pub opened: Option<String>,
    /// The deadline.
    pub deadline: Option<String>,
    /// Time of the last use.
    pub last_used: String,
    /// The key that it is bound to, if it is.
    pub key: Option<String>,
    /// The decision that opened it.
    pub decision: String,
}

impl TaskView {
    pub(super) fn of(task: &TaskState, end: TaskEnd) -> Self {
        let record = &task.record;
        Self {
            id: record.id.clone(),
            state: end.name().to_owned(),
            workload: record.workload.clone(),
            client: record.client.clone(),
            purpose: record.purpose.clone(),
            targets: record.targets.clone(),
            budget: record.budget,
            used: task.used,
            opened: date(record.opened),
            deadline: date(record.deadline),
            last_used: task.last_used.to_string(),
            key: record.cnf.as_ref().map(ToString::to_string),
            decision: record.decision.clone(),
        }
    }
}

/// A signing key: no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyView {
    /// Its id.
    pub kid: String,
    /// Its purpose.
    pub purpose: String,
    /// Its algorithm.
    pub algorithm: String,
    /// `published`, `active`, `retiring`, `retired` or `revoked`.
    pub state: String,
    /// Since when it is in `/jwks`.
    pub published: String,
    /// From when on it signs.
    pub signs_from: String,
    /// The time at which its successor takes over, if there is one.
    pub signs_until: Option<String>,
    /// The time at which everything that it signed has expired, if it has a successor.
    pub gone: Option<String>,
    /// The time of its revocation.
    pub revoked: Option<String>,
}

impl KeyView {
    pub(super) fn of(key: &KeyRecord, state: KeyState) -> Self {
        let date = |time: Option<Timestamp>| time.map(|time| time.to_string());
        Self {
            kid: key.kid.clone(),
            purpose: key.purpose.name().to_owned(),
            algorithm: key.algorithm.name().to_owned(),
            state: state.name().to_owned(),
            published: key.published.to_string(),
            signs_from: key.signs_from.to_string(),
            signs_until: date(key.signs_until),
            gone: date(key.gone()),
            revoked: date(key.revoked),
        }
    }
}

fn date(seconds: i64) -> Option<String> {
    Timestamp::new(seconds).map(|time| time.to_string())
}
