//! The use cases of operators, each once, on a broker that runs or on its store alone. The control socket and the
//! command line are faces of them. Each act leaves an event on the audit log, whether it is done or not.

mod answer;
mod change;
mod figures;
mod keys;
mod operator;
mod request;
mod tasks;

pub use answer::{AdminAnswer, AdminError, KeyView, RevocationView, TaskView};
pub use operator::Operator;
pub use request::{AdminRequest, Change, OperatorId};
pub use tasks::TaskEnd;

use crate::audit::{AuditLog, AuditTrail, EventKind};
use crate::domain::{Clock, DecisionId, Entropy, Lifetime, Timestamp};
use crate::revocation::Revocations;
use crate::signing::Keys;
use crate::store::TaskRecords;
use std::sync::Arc;

/// The parts that operators act on.
pub struct Admin {
    /// This replica's name.
    pub(crate) replica: String,
    pub(crate) keys: Arc<Keys>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) tasks: Arc<dyn TaskRecords>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// The longest time for which a task may be idle, as it is now.
    pub(crate) task_idle: Box<dyn Fn() -> Lifetime + Send + Sync>,
}

impl Admin {
    /// Does what `by` asks for.
    ///
    /// # Errors
    /// [`AdminError`] says why it is not done.
    pub async fn perform(&self, request: AdminRequest, by: &OperatorId) -> Result<AdminAnswer, AdminError> {
        let now = self.clock.now();
        Ok(match request {
            AdminRequest::Change(change) => AdminAnswer::Changed(self.change(&change, by).await?.to_string()),
            AdminRequest::Revocations {} => {
                let records = self.revocations.list(now).await?;
                AdminAnswer::Revocations(records.iter().map(RevocationView::from).collect())
            }
            AdminRequest::Tasks {} => {
                let tasks = self.tasks().await?;
                AdminAnswer::Tasks(tasks.iter().map(|(task, end)| TaskView::of(task, *end)).collect())
            }
            AdminRequest::Keys {} => {
                let keys = self.keys().await;
                AdminAnswer::Keys(keys.iter().map(|(key, state)| KeyView::of(key, *state)).collect())
            }
            AdminRequest::RotateKey { purpose, algorithm } => {
                let made = self.rotate_key(purpose, algorithm, by).await?;
                AdminAnswer::Key(KeyView::of(&made, made.state(now)))
            }
            AdminRequest::RevokeKey { kid, reason } => {
                let revoked = self.revoke_key(&kid, reason, by).await?;
                AdminAnswer::Key(KeyView::of(&revoked, revoked.state(now)))
            }
            AdminRequest::Reload {} => {
                let message = "only the process of the broker reloads; ask it by its control socket, or send it SIGHUP";
                return Err(AdminError::Reload(message.to_owned()));
            }
        })
    }

    fn decision(&self) -> DecisionId {
        DecisionId::random(&self.replica, &*self.entropy)
    }

    fn trail(&self, kind: EventKind, decision: &DecisionId, now: Timestamp) -> AuditTrail {
        AuditTrail::begin(kind, decision, None, now, &self.audit)
    }
}
