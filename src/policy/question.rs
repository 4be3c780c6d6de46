//! What policy is asked and what it answers, as plain facts. Both are kept in the audit log, so that a decision can be
//! made again from there.

use crate::domain::{Target, Workload};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The actions that are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A workload exchanges its own assertion.
    Exchange,
    /// An authenticated client exchanges a workload's token.
    Impersonate,
    /// A workload opens a task; the resource is the broker itself.
    OpenTask,
}

impl Action {
    /// Its id in policies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Impersonate => "impersonate",
            Self::OpenTask => "open_task",
        }
    }
}

/// One exchange, as policy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The principal, always the subject.
    pub principal: Arc<Workload>,
    /// What it wants to do.
    pub action: Action,
    /// The target.
    pub resource: Facts,
    /// One question is asked for each; `""` alone for a target without scopes.
    pub scopes: Vec<String>,
    /// The client that authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The key that the token will be bound to, by its thumbprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<String>,
    /// The life asked for, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<i64>,
    /// The opened task that it is asked within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// When, in seconds since 1970.
    pub now: i64,
    /// The address that asked.
    pub network: String,
    /// What the caller says of itself.
    #[serde(default)]
    pub hints: Hints,
}

/// What policy sees of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Its audience.
    pub audience: String,
    /// Its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Its sensitivity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<String>,
}

impl From<&Target> for Facts {
    fn from(target: &Target) -> Self {
        Self {
            audience: target.audience.to_string(),
            owner: target.owner.clone(),
            environment: target.environment.clone(),
            sensitivity: target.sensitivity.clone(),
        }
    }
}

/// What a caller merely claims.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hints {
    /// A `client_id` parameter without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What it says that the task is for which it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_purpose: Option<String>,
}

/// An opened task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// What it is for, as policy compared it when it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The digest of the policy set that answered.
    pub policies: String,
    /// One verdict for each scope of the question.
    pub verdicts: Vec<Verdict>,
}

/// The answer for one scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The scope.
    pub scope: String,
    /// Whether it is permitted.
    pub permitted: bool,
    /// The `@id`s of the policies that decided: the permits, or the forbids that overruled them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub determining: Vec<String>,
    /// Policies that could not be evaluated, and why. One is enough to deny.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What the permits allow at most, in seconds: the longest of them; none where one of them sets no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<i64>,
    /// What the permits said something of, of what has to be said: `confirmation`, and the `purpose` of a task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<String>,
}
