//! The revocations, suspensions and resumptions of an operator, by a running broker or in the store alone. Each leaves
//! an event, whether it is done or not.

use crate::audit::{AuditLog, AuditTrail, EventKind, Outcome};
use crate::domain::{DecisionId, Lifetime, Timestamp};
use crate::error::Unavailable;
use crate::exchange::{Answer, close};
use crate::revocation::{RECORD_MARGIN, Revocations};
use crate::store::{About, Act, Entry};
use countersign_verify::revocation::Kind as Named;
use std::sync::Arc;

/// How many seconds a record is stored whose tokens are not known: longer than any lifetime that can be configured.
pub(super) const UNSEEN: i64 = Lifetime::MAX_SECONDS + RECORD_MARGIN;

/// A change that an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The kind of what is named.
    pub kind: Named,
    /// Its id, as tokens have it.
    pub id: String,
    /// Revoke, suspend or resume.
    pub act: Act,
    /// The reason that the operator gives.
    pub reason: Option<String>,
    /// The operator that asked.
    pub by: String,
}

impl Change {
    /// Describes the change for people.
    fn text(&self) -> String {
        let Self { kind, id, .. } = self;
        let done = match self.act {
            Act::Revoke => "is revoked".to_owned(),
            Act::RevokeBefore(moment) => {
                let moment = Timestamp::new(moment).unwrap_or_default();
                format!("is revoked as of {moment}")
            }
            Act::Suspend => "is suspended".to_owned(),
            Act::Resume => "is suspended no more".to_owned(),
        };
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{done} by {}{reason}: {kind} {id}", self.by)
    }

    fn entry(&self, decision: &DecisionId, now: Timestamp) -> Entry {
        let about = About {
            reason: self.reason.clone(),
            by: self.by.clone(),
            at: now.seconds(),
            decision: decision.to_string(),
            ..About::default()
        };
        let until = match self.act {
            // It stands until it is lifted, and that is remembered as long.
            Act::Suspend | Act::Resume => Timestamp::MAX,
            Act::Revoke | Act::RevokeBefore(_) => now.plus(UNSEEN),
        };
        Entry::new(self.kind, &self.id, self.act, until, about)
    }
}

/// Puts `change` in force, on everything below what it names too.
///
/// # Errors
/// [`Unavailable`] when it is not on disk: then ask again.
pub async fn change(
    change: &Change,
    decision: DecisionId,
    revocations: &Arc<Revocations>,
    audit: &Arc<AuditLog>,
    now: Timestamp,
) -> Answer<()> {
    let mut trail = AuditTrail::begin(EventKind::Revocation, &decision, None, now, audit);
    // Told whatever comes of it.
    trail.changed(change.text());
    let result = match revocations.enter(change.entry(&decision, now), now).await {
        Ok(()) => {
            if change.act != Act::Resume {
                trail.revoked(&change.id);
            }
            trail.done(Outcome::Granted).map_err(|_| Unavailable::Audit.into())
        }
        Err(fault) => Err(Unavailable::Store(fault).into()),
    };
    close(Answer { decision, result }, trail)
}
