//! The list of open tasks.

use super::Admin;
use crate::domain::{TaskRecord, TaskState};
use crate::store::StoreError;
use countersign_verify::revocation::{Kind, Named};

/// The way in which a task ended before its deadline, if it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// Open: tokens can be exchanged within the task.
    Open,
    /// Ended, because the task was revoked.
    Ended,
    /// It asked for no token for too long.
    Idle,
}

impl TaskEnd {
    /// The state's name in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ended => "ended",
            Self::Idle => "idle",
        }
    }
}

impl Admin {
    /// Every task whose deadline lies ahead, oldest first, and whether it ended before.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn tasks(&self) -> Result<Vec<(TaskState, TaskEnd)>, StoreError> {
        let (now, idle) = (self.clock.now(), (self.task_idle)());
        let mut tasks = self.tasks.list(now).await?;
        tasks.sort_by(|a, b| (a.record.opened, &a.record.id).cmp(&(b.record.opened, &b.record.id)));
        let end = |task: &TaskState| {
            if self.revocations.hits(&names_of(&task.record), task.record.pos) {
                TaskEnd::Ended
            } else if now.since(task.idle_since) > idle.seconds() {
                TaskEnd::Idle
            } else {
                TaskEnd::Open
            }
        };
        Ok(tasks.into_iter().map(|task| (task.clone(), end(&task))).collect())
    }
}

/// Everything by which a task's token can be revoked.
fn names_of(task: &TaskRecord) -> Vec<Named> {
    let own = [
        (Kind::Token, &task.id),
        (Kind::Task, &task.id),
        (Kind::Key, &task.kid),
        (Kind::Workload, &task.workload),
        (Kind::Issuer, &task.iss),
    ];
    let client = task.client.as_ref().map(|client| (Kind::Client, client));
    own.into_iter().chain(client).map(|(kind, id)| Named::new(kind, id, task.opened)).collect()
}
