//! Tasks, as an exchange sees them: what a request asks to open, and what a token of a task may be exchanged for.

use super::Snapshot;
use crate::audit::AuditTrail;
use crate::client::Client;
use crate::domain::{MAX_BUDGET, Target, Timestamp};
use crate::error::Error;
use crate::form::{Form, Parameter, RequestError, TaskParameter};
use countersign_verify::claims::AccessClaims;

/// Length limit of a task's purpose, in characters.
const MAX_PURPOSE: usize = 256;
/// Length limit of a target's name, in bytes.
const MAX_TARGET: usize = 1_024;
/// The parameters that open a task.
const TASK_PARAMETERS: [&str; 4] = ["task_purpose", "task_deadline", "task_budget", "task_target"];

/// The terms of a task, as the request asks for them.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskTerms {
    pub(super) purpose: Option<String>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) budget: Option<u32>,
    pub(super) targets: Vec<String>,
    /// True if the request has any parameter that opens a task.
    is_given: bool,
}

impl TaskTerms {
    /// Reads the parameters that open a task.
    ///
    /// # Errors
    /// [`RequestError::UnknownTaskParameter`] for an unknown parameter that begins with `task_`, and
    /// [`RequestError::TaskParameter`] for a malformed one.
    pub(super) fn read(form: &Form) -> Result<Self, RequestError> {
        let mut is_given = false;
        for name in form.names().filter(|name| name.starts_with("task_")) {
            if !TASK_PARAMETERS.contains(&name) {
                return Err(RequestError::UnknownTaskParameter);
            }
            is_given = true;
        }
        let malformed = RequestError::TaskParameter;
        let purpose = form.single(Parameter::TaskPurpose)?;
        if purpose.is_some_and(|text| text.chars().count() > MAX_PURPOSE || text.chars().any(char::is_control)) {
            return Err(malformed(TaskParameter::Purpose));
        }
        let deadline = form.single(Parameter::TaskDeadline)?.map(|text| number(text).and_then(Timestamp::new));
        let budget = form.single(Parameter::TaskBudget)?.map(|text| {
            let budget = number(text).and_then(|budget| u32::try_from(budget).ok());
            budget.filter(|budget| (1..=MAX_BUDGET).contains(budget))
        });
        let targets = form.targets(&["task_target"])?;
        if targets.iter().any(|name| name.len() > MAX_TARGET || name.chars().any(char::is_control)) {
            return Err(malformed(TaskParameter::Target));
        }
        Ok(Self {
            purpose: purpose.map(str::to_owned),
            deadline: deadline.map(|read| read.ok_or(malformed(TaskParameter::Deadline))).transpose()?,
            budget: budget.map(|read| read.ok_or(malformed(TaskParameter::Budget))).transpose()?,
            targets,
            is_given,
        })
    }
}

/// A whole number of at most twelve digits.
fn number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|_| text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The relation of an exchange to a task.
#[derive(Debug)]
pub(super) enum TaskMembership {
    /// The new token makes an implicit task, or belongs to the implicit task of the token that was presented.
    Implicit,
    /// The exchange opens a task.
    Opens(TaskTerms),
    /// The exchange belongs to the task whose token was presented.
    Within {
        /// The task's id.
        id: String,
        /// The task's purpose, if policy tested it when the task was opened.
        purpose: Option<String>,
    },
}

impl TaskMembership {
    /// Decides how an exchange for `target` belongs to a task. An exchange for the broker itself (`issuer`) opens one;
    /// an exchange of a task's token belongs to that task.
    ///
    /// # Errors
    /// [`RequestError::NoTaskOpened`] for task parameters of an exchange that opens no task, [`Error::TaskInTask`] if a
    /// token of this broker would open a task, and [`Error::OutsideTask`] if the task was not opened for `target`.
    pub(super) fn bind(
        terms: &TaskTerms,
        target: &Target,
        parent: Option<&AccessClaims>,
        snapshot: &Snapshot,
        trail: &mut AuditTrail,
    ) -> Result<Self, Error> {
        if target.audience.as_str() == snapshot.issuer {
            return Self::open(terms.clone(), parent, snapshot, trail);
        }
        if terms.is_given {
            return Err(RequestError::NoTaskOpened.into());
        }
        // Every token below an opened task belongs to it, however long the chain.
        let Some(task) = parent.map(|parent| &parent.task).filter(|task| task.deadline.is_some()) else {
            return Ok(Self::Implicit);
        };
        let covers = task.targets.is_empty() || task.targets.iter().any(|name| name == target.audience.as_str());
        let presented = || match task.targets.as_slice() {
            [] => task.id.clone(),
            targets => format!("{} for {}", task.id, targets.join(", ")),
        };
        let expected = || format!("one opened for {}", target.audience);
        trail.require("task", covers, expected, presented, Error::OutsideTask)?;
        Ok(Self::Within { id: task.id.clone(), purpose: task.purpose.clone() })
    }

    /// The deadline of the task to open, if the request names one.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Opens(terms) => terms.deadline,
            Self::Implicit | Self::Within { .. } => None,
        }
    }

    fn open(
        mut terms: TaskTerms,
        parent: Option<&AccessClaims>,
        snapshot: &Snapshot,
        trail: &mut AuditTrail,
    ) -> Result<Self, Error> {
        let presented = || if parent.is_none() { "an assertion" } else { "a token of this broker" };
        let expected = || "an assertion, and no token of this broker";
        trail.require("opens a task", parent.is_none(), expected, presented, Error::TaskInTask)?;
        // An unknown name is stored and can never be asked for: an error would tell the caller which targets exist.
        for name in &mut terms.targets {
            if let Some(target) = snapshot.targets.find(name) {
                *name = target.audience.to_string();
            }
        }
        terms.targets.sort();
        terms.targets.dedup();
        Ok(Self::Opens(terms))
    }
}

/// Returns true if `client` may present the token of `task`: the client that opened it, or any caller if no client did.
/// A token that is bound to a key also needs a proof by that key.
pub(super) fn may_present(task: &AccessClaims, client: Option<&Client>) -> bool {
    task.client_id == task.sub || client.is_some_and(|client| client.id.as_str() == task.client_id)
}
