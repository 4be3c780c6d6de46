//! Revocations, suspensions and resumptions. Each leaves an event, whether it is done or not.

use super::{Admin, AdminError, Change, OperatorId};
use crate::audit::{EventKind, Outcome};
use crate::domain::{DecisionId, Lifetime, Timestamp};
use crate::error::{Error, Unavailable};
use crate::exchange::{Answer, close};
use crate::revocation::RECORD_MARGIN;
use crate::store::{About, Act, Entry};

/// How many seconds a record is stored whose tokens are not known: longer than any lifetime that can be configured.
pub(super) const UNSEEN: i64 = Lifetime::MAX_SECONDS + RECORD_MARGIN;

impl Change {
    /// Describes the change for people.
    fn text(&self, by: &OperatorId) -> String {
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
        format!("{done} by {by}{reason}: {kind} {id}")
    }

    fn entry(&self, by: &OperatorId, decision: &DecisionId, now: Timestamp) -> Entry {
        let about = About {
            reason: self.reason.clone(),
            by: by.to_string(),
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

impl Admin {
    /// Puts `change` in force, on everything below what it names too. Returns the id of the decision.
    ///
    /// # Errors
    /// - [`AdminError::Invalid`] and [`AdminError::NotSuspended`] for an invalid change.
    /// - [`AdminError::Change`] if it is not durable: then ask again.
    pub async fn change(&self, change: &Change, by: &OperatorId) -> Result<DecisionId, AdminError> {
        let now = self.clock.now();
        change.check(now)?;
        if change.act == Act::Resume && self.revocations.not_suspended(change.kind, &change.id).is_some() {
            return Err(AdminError::NotSuspended);
        }
        let decision = self.decision();
        let mut trail = self.trail(EventKind::Revocation, &decision, now);
        // Written to the event whether the change succeeds or not.
        trail.changed(change.text(by));
        let result: Result<(), Error> = match self.revocations.enter(change.entry(by, &decision, now), now).await {
            Ok(()) => {
                if change.act != Act::Resume {
                    trail.revoked(&change.id);
                }
                trail.done(Outcome::Granted).map_err(|_| Unavailable::Audit.into())
            }
            Err(fault) => Err(Unavailable::Store(fault).into()),
        };
        let Answer { decision, result } = close(Answer { decision, result }, trail);
        Ok(result.map(|()| decision)?)
    }
}
