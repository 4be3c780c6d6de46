//! `countersign task`: what an operator sees of tasks and ends, and how a job runs in one.

mod run;

use super::output::{GOOD, Output, printable, table};
use super::{Failure, ambient, installation, revoke};
use crate::control::{self, Command, ControlError, Reply};
use crate::domain::TokenId;
use clap::Subcommand;
use serde_json::Value;
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
            output.print(&listed(&tasks), &Value::Array(tasks));
            Ok(ExitCode::SUCCESS)
        }
        TaskArguments::Show { id } => {
            let id: TokenId = id.parse()?;
            let found = tasks(config)?.into_iter().find(|task| text(task, "id") == id.as_str());
            let found = found.ok_or_else(|| {
                Failure(format!("no task `{id}` whose deadline lies ahead; `countersign task list` shows those"))
            })?;
            output.print(&shown(&found), &found);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn tasks(config: &Path) -> Result<Vec<Value>, Failure> {
    let installation = installation(config)?;
    let told = match control::ask(installation.control(), &Command::Tasks {}) {
        Err(ControlError::NotRunning(_)) => {
            let (clock, entropy) = ambient();
            crate::http::block_on(installation.list_tasks(&clock, &entropy))?
        }
        Ok(Reply::Told(told)) => told,
        Ok(Reply::Failed { message }) => return Err(Failure(message)),
        Ok(Reply::Done { .. }) => return Err(Failure("the broker gave another answer than was asked for".to_owned())),
        Err(fault) => return Err(fault.into()),
    };
    match told {
        Value::Array(tasks) => Ok(tasks),
        _ => Err(Failure("the broker gave another answer than was asked for".to_owned())),
    }
}

fn text<'a>(task: &'a Value, name: &str) -> &'a str {
    task.get(name).and_then(Value::as_str).unwrap_or("-")
}

/// Describes how much of its budget a task has used.
fn used(task: &Value) -> String {
    let number = |name: &str| task.get(name).and_then(Value::as_u64);
    let used = number("used").unwrap_or_default();
    number("budget").map_or_else(|| used.to_string(), |budget| format!("{used} of {budget}"))
}

fn listed(tasks: &[Value]) -> String {
    if tasks.is_empty() {
        return "no task is open".to_owned();
    }
    let row = |task: &Value| {
        let mut row = ["id", "state", "workload"].map(|name| printable(text(task, name))).to_vec();
        row.extend([used(task), text(task, "deadline").to_owned(), printable(text(task, "purpose"))]);
        row
    };
    let heading = ["task", "state", "workload", "tokens", "deadline", "purpose"];
    table(&heading, &tasks.iter().map(row).collect::<Vec<_>>())
}

fn shown(task: &Value) -> String {
    let targets: Vec<&str> =
        task.get("targets").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let targets = if targets.is_empty() { "any that policy permits".to_owned() } else { targets.join(", ") };
    let key = match text(task, "key") {
        "-" => "none: any holder of its token can use it".to_owned(),
        key => printable(key),
    };
    let lines = [
        ("task", text(task, "id").to_owned()),
        ("state", text(task, "state").to_owned()),
        ("workload", printable(text(task, "workload"))),
        ("client", printable(text(task, "client"))),
        ("purpose", printable(text(task, "purpose"))),
        ("targets", targets),
        ("tokens", used(task)),
        ("opened", text(task, "opened").to_owned()),
        ("last used", text(task, "last_used").to_owned()),
        ("deadline", text(task, "deadline").to_owned()),
        ("key", key),
        ("decision", text(task, "decision").to_owned()),
    ];
    lines.map(|(name, value)| format!("  {GOOD}{name:<10}{GOOD:#} {value}")).join("\n")
}
