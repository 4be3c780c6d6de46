//! The question to policy and its answer, as plain facts. Both are stored in the audit log, so that the decision can be
//! repeated from there.

use crate::domain::{Target, Workload, confirmation_key};
use countersign_verify::confirmation::ConfirmationKey;
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

/// An exchange, as policy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The principal, always the subject.
    pub principal: Arc<Workload>,
    /// The action.
    pub action: Action,
    /// The target.
    pub resource: Facts,
    /// The scopes; each is a question of its own. `""` alone for a target without scopes.
    pub scopes: Vec<String>,
    /// The client that authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The key that the token will be bound to.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "confirmation_key")]
    pub confirmation: Option<ConfirmationKey>,
    /// The life asked for, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<i64>,
    /// The opened task that it is asked within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskFacts>,
    /// Time of the question, in seconds since 1970.
    pub now: i64,
    /// The address that asked.
    pub network: String,
    /// The statements of the caller about itself, which prove nothing.
    #[serde(default)]
    pub hints: Hints,
}

/// The attributes of a target that policy sees.
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

/// The statements of a caller about itself, which prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hints {
    /// A `client_id` parameter without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The purpose that the client states for the task that it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_purpose: Option<String>,
}

/// An opened task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFacts {
    /// Its id.
    pub id: String,
    /// The purpose, as policy tested it when the task was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The digest of the policy set that answered.
    pub policies: String,
    /// The verdicts, one for each scope of the question.
    pub verdicts: Vec<Verdict>,
}

/// The answer for one scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The scope.
    pub scope: String,
    /// True if the scope is permitted.
    pub permitted: bool,
    /// The `@id`s of the policies that decided: the permits, or the forbids that overruled them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub determining: Vec<String>,
    /// Policies that could not be evaluated, and why. One is enough to deny.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// The longest lifetime that the permits allow, in seconds; none if one of them sets no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<i64>,
    /// The sensitive facts that at least one permit tested: `confirmation`, and the `purpose` of a task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<String>,
}
