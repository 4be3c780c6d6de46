//! `countersign task`: what an operator sees of tasks and ends, and how a job runs in one.

mod run;

use super::output::{GOOD, Output, printable, table};
use super::{Failure, installation, perform, revoke, unexpected};
use crate::admin::{AdminAnswer, AdminRequest, TaskView};
use crate::domain::TokenId;
use clap::Subcommand;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// List and end tasks, or run a command in one.
#[derive(Debug, Subcommand)]
pub(super) enum TaskArguments {
    /// List every task whose deadline has not passed.
    List,
    /// Show one task.
    Show {
        /// The task's id, as `countersign task list` shows it.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// End a task: revoke its token and every token under it, on every replica.
    End {
        /// The task's id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// A reason for people. It is stored with the revocation and in the audit log.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Open a task, run a command with fresh tokens, and end the task when the command ends.
    Run(Box<run::Run>),
}

pub(super) fn run(task: &TaskArguments, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    match task {
        TaskArguments::Run(arguments) => run::run(arguments, output),
        TaskArguments::End { id, reason } => {
            revoke::by_id(&id.parse()?, reason.clone(), &installation(config)?, output)
        }
        TaskArguments::List => {
            let tasks = tasks(config)?;
            output.print(&listed(&tasks), &json!(tasks));
            Ok(ExitCode::SUCCESS)
        }
        TaskArguments::Show { id } => {
            let id: TokenId = id.parse()?;
            let found = tasks(config)?.into_iter().find(|task| task.id == id.as_str());
            let found = found.ok_or_else(|| {
                Failure(format!("no task `{id}` whose deadline lies ahead; `countersign task list` shows those"))
            })?;
            output.print(&shown(&found), &json!(found));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn tasks(config: &Path) -> Result<Vec<TaskView>, Failure> {
    match perform(&installation(config)?, AdminRequest::Tasks {})? {
        AdminAnswer::Tasks(tasks) => Ok(tasks),
        _ => Err(unexpected()),
    }
}

/// A text that may be absent, for people.
fn text(text: Option<&String>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| printable(text))
}

/// Describes how much of its budget a task has used.
fn used(task: &TaskView) -> String {
    task.budget.map_or_else(|| task.used.to_string(), |budget| format!("{} of {budget}", task.used))
}

fn listed(tasks: &[TaskView]) -> String {
    if tasks.is_empty() {
        return "no task is open".to_owned();
    }
    let row = |task: &TaskView| {
        let TaskView { id, state, workload, deadline, purpose, .. } = task;
        let names = [id, state, workload].map(|name| printable(name));
        names.into_iter().chain([used(task), text(deadline.as_ref()), text(purpose.as_ref())]).collect()
    };
    let heading = ["task", "state", "workload", "tokens", "deadline", "purpose"];
    table(&heading, &tasks.iter().map(row).collect::<Vec<_>>())
}

fn shown(task: &TaskView) -> String {
    let TaskView { id, state, workload, client, purpose, targets, opened, deadline, last_used, key, decision, .. } =
        task;
    let targets = if targets.is_empty() { "any that policy permits".to_owned() } else { targets.join(", ") };
    let unbound = || "none: any holder of its token can use it".to_owned();
    let lines = [
        ("task", id.clone()),
        ("state", state.clone()),
        ("workload", printable(workload)),
        ("client", text(client.as_ref())),
        ("purpose", text(purpose.as_ref())),
        ("targets", targets),
        ("tokens", used(task)),
        ("opened", text(opened.as_ref())),
        ("last used", last_used.clone()),
        ("deadline", text(deadline.as_ref())),
        ("key", key.as_deref().map_or_else(unbound, printable)),
        ("decision", decision.clone()),
    ];
    lines.map(|(name, value)| format!("  {GOOD}{name:<10}{GOOD:#} {value}")).join("\n")
}
