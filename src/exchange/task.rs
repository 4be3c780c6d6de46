//! Tasks, as an exchange sees them: what a request asks to open, and what a token within one may be for.

use super::{Form, RequestError, Snapshot};
use crate::audit::Trail;
use crate::client::Client;
use crate::domain::{MAX_BUDGET, Target, TaskRecord, Timestamp};
use crate::error::Error;
use countersign_verify::claims::AccessClaims;

/// The longest purpose, in characters.
const MAX_PURPOSE: usize = 256;

/// The longest name of a target, in bytes.
const MAX_TARGET: usize = 1_024;

/// What a task is to be opened with, as it was asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    pub(super) purpose: Option<String>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) budget: Option<u32>,
    pub(super) targets: Vec<String>,
    /// Whether any of it was sent.
    is_given: bool,
}

impl Terms {
    /// Reads the parameters of tasks.
    ///
    /// # Errors
    /// [`RequestError::Task`] for one that is not known, [`RequestError::TaskParameter`] for one that is malformed.
    pub(super) fn read(form: &Form) -> Result<Self, RequestError> {
        const KNOWN: [&str; 4] = ["task_purpose", "task_deadline", "task_budget", "task_target"];
        let mut is_given = false;
        for name in form.names().filter(|name| name.starts_with("task_")) {
            if !KNOWN.contains(&name) {
                return Err(RequestError::Task);
            }
            is_given = true;
        }
        let number = |name: &'static str| match form.single(name)? {
            None => Ok(None),
            Some(text) if text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse::<i64>().map(Some).map_err(|_| RequestError::TaskParameter(name))
            }
            Some(_) => Err(RequestError::TaskParameter(name)),
        };
        let purpose = form.single("task_purpose")?.map(str::to_owned);
        if purpose.as_ref().is_some_and(|text| text.chars().count() > MAX_PURPOSE || text.chars().any(char::is_control))
        {
            return Err(RequestError::TaskParameter("task_purpose"));
        }
        let deadline = number("task_deadline")?
            .map(|seconds| Timestamp::new(seconds).ok_or(RequestError::TaskParameter("task_deadline")));
        let budget = number("task_budget")?.map(|count| {
            let count = u32::try_from(count).ok().filter(|count| (1..=MAX_BUDGET).contains(count));
            count.ok_or(RequestError::TaskParameter("task_budget"))
        });
        let targets = form.names_of("task_target")?;
        if targets.iter().any(|name| name.len() > MAX_TARGET || name.chars().any(char::is_control)) {
            return Err(RequestError::TaskParameter("task_target"));
        }
        Ok(Self { purpose, deadline: deadline.transpose()?, budget: budget.transpose()?, targets, is_given })
    }
}

/// How a bound exchange belongs to a task.
#[derive(Debug)]
pub(super) enum Belongs {
    /// To the one that its own token makes, or to that of the token that was presented.
    Implicitly,
    /// It opens one.
    Opens(Terms),
    /// To the one whose token was presented.
    Within {
        /// The task's id.
        id: String,
        /// What it is for, where policy compared that when it was opened.
        purpose: Option<String>,
    },
}

impl Belongs {
    /// Binds what was asked for to `target`: our own opens a task, by who was vouched for just now; any other may be asked
    /// for within one, by the workload whose task it is.
    ///
    /// # Errors
    /// [`RequestError::NoTaskOpened`] for terms of a task where none is opened, [`Error::TaskInTask`] where a token of ours
    /// would open one, [`Error::OutsideTask`] for a target that the task was not opened for.
    pub(super) fn bind(
        terms: Terms,
        target: &Target,
        parent: Option<&AccessClaims>,
        snapshot: &Snapshot,
        issuer: &str,
        trail: &mut Trail,
    ) -> Result<Self, Error> {
        if target.audience.as_str() == issuer {
            return Self::open(terms, parent, snapshot, trail);
        }
        if terms.is_given {
            return Err(RequestError::NoTaskOpened.into());
        }
        // Everything below an opened task is within it, however far.
        let Some(task) = parent.map(|parent| &parent.task).filter(|task| task.deadline.is_some()) else {
            return Ok(Self::Implicitly);
        };
        let covers = task.targets.is_empty() || task.targets.iter().any(|name| name == target.audience.as_str());
        trail.check(
            "task",
            covers,
            || format!("one opened for {}", target.audience),
            || {
                if task.targets.is_empty() {
                    task.id.clone()
                } else {
                    format!("{} for {}", task.id, task.targets.join(", "))
                }
            },
        );
        if !covers {
            return Err(Error::OutsideTask);
        }
        Ok(Self::Within { id: task.id.clone(), purpose: task.purpose.clone() })
    }

    fn open(
        mut terms: Terms,
        parent: Option<&AccessClaims>,
        snapshot: &Snapshot,
        trail: &mut Trail,
    ) -> Result<Self, Error> {
        trail.check(
            "opens a task",
            parent.is_none(),
            || "an assertion, and no token of this broker",
            || if parent.is_none() { "an assertion" } else { "a token of this broker" },
        );
        if parent.is_some() {
            return Err(Error::TaskInTask);
        }
        // A name that no target has is kept, and is never asked for: what is registered is nothing to tell here.
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

/// Whether `client` may present the task's token: the client that opened it, or nobody in particular where nobody did. The
/// key, where it is bound to one, is asked for as of any token.
pub(super) fn may_present(task: &AccessClaims, client: Option<&Client>) -> bool {
    task.client_id == task.sub || client.is_some_and(|client| client.id.as_str() == task.client_id)
}

/// What is kept of a task, once its token has an id.
#[derive(Debug)]
pub(super) enum Counted {
    /// Nothing.
    Nothing,
    /// A new one.
    Opened(Box<TaskRecord>),
    /// One more token of this one.
    Used(String),
}
