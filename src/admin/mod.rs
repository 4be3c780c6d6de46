//! The acts of an operator on a broker, running or not. Each act leaves an event on the audit log, whether it is done
//! or not.

mod change;
mod figures;
mod keys;
mod tasks;

pub use change::{Change, change};
pub use keys::{revoke_key, rotate_key};
pub use tasks::{TaskEnd, list_tasks};

use crate::audit::{AuditTrail, EventKind, Outcome};
use crate::domain::{ChainHead, KeyRecord, KeyState, Purpose, TaskState};
use crate::exchange::{Answer, Broker, Parts, Snapshot};
use crate::signing::{Keys, Rotation, SigningKeysError};
use crate::store::{About, Revoked, StoreError};
use countersign_verify::key::Algorithm;
use std::sync::Arc;

/// The operator's hand on a running broker.
pub struct Operator {
    broker: Arc<Broker>,
    keys: Arc<Keys>,
}

impl Operator {
    /// Returns the operator's hand on `broker` and its `keys`.
    #[must_use]
    pub fn new(broker: Arc<Broker>, keys: Arc<Keys>) -> Self {
        Self { broker, keys }
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    fn parts(&self) -> &Parts {
        self.broker.parts()
    }

    /// Puts `wanted` in force, on everything below what it names too.
    ///
    /// # Errors
    /// `temporarily_unavailable` when the change is not on disk: then ask again.
    pub async fn change(&self, wanted: &Change) -> Answer<()> {
        let Parts { revocations, audit, clock, .. } = self.parts();
        change(wanted, self.broker.decision(), revocations, audit, clock.now()).await
    }

    /// Returns true if `change` names something that is suspended.
    #[must_use]
    pub fn suspends(&self, change: &Change) -> bool {
        self.parts().revocations.not_suspended(change.kind, &change.id).is_none()
    }

    /// Every revocation and suspension that is alive, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot say.
    pub async fn revocations(&self) -> Result<Vec<Revoked>, StoreError> {
        self.parts().revocations.list(self.parts().clock.now()).await
    }

    /// Makes a successor for a signing key.
    ///
    /// # Errors
    /// [`SigningKeysError`] when it cannot be made or recorded.
    pub async fn rotate(&self, purpose: Purpose, algorithm: Algorithm) -> Result<KeyRecord, SigningKeysError> {
        let (Parts { audit, clock, .. }, decision) = (self.parts(), self.broker.decision());
        rotate_key((purpose, algorithm), &decision, &self.keys, audit, clock.now()).await
    }

    /// Drops a compromised key everywhere, and ends what it signed.
    ///
    /// # Errors
    /// [`SigningKeysError`] if that is not durable: then ask again.
    pub async fn revoke_key(&self, kid: &str, by: &str, reason: Option<String>) -> Result<KeyRecord, SigningKeysError> {
        let (Parts { revocations, audit, clock, .. }, decision) = (self.parts(), self.broker.decision());
        let about = About { by: by.to_owned(), reason, ..About::default() };
        revoke_key((kid, about), &decision, (&self.keys, revocations, audit), clock.now()).await
    }

    /// Every key and its state.
    pub async fn keys(&self) -> Vec<(KeyRecord, KeyState)> {
        let now = self.parts().clock.now();
        self.keys.list().await.into_iter().map(|key| (key.clone(), key.state(now))).collect()
    }

    /// Every task whose deadline lies ahead, and whether it was ended.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot say.
    pub async fn tasks(&self) -> Result<Vec<(TaskState, TaskEnd)>, StoreError> {
        let Parts { tasks, revocations, clock, .. } = self.parts();
        list_tasks(&**tasks, revocations, self.broker.snapshot().task_idle, clock.now()).await
    }

    /// Serves by another snapshot from now on, with the keys that it needs.
    ///
    /// # Errors
    /// [`SigningKeysError`] when one of them cannot be made: then nothing changes.
    pub async fn install(&self, snapshot: Snapshot, rotation: Rotation) -> Result<(), SigningKeysError> {
        let Parts { clock, snapshot: in_force, .. } = self.parts();
        self.keys.follow(rotation, clock.now()).await?;
        in_force.store(Arc::new(snapshot));
        Ok(())
    }

    /// Notes on the audit log that a reload was taken over, or why not.
    pub fn reloaded(&self, fault: Option<&str>) {
        let mut trail = self.trail(EventKind::Reload);
        trail.changed(fault.unwrap_or("configuration and policies are in force").to_owned());
        let _ = trail.done(if fault.is_none() { Outcome::Granted } else { Outcome::Refused });
        self.parts().metrics.reloaded(fault.is_none());
    }

    /// Does what is due: keys, and the audit log.
    pub async fn tend(&self) {
        let now = self.parts().clock.now();
        if let Err(fault) = self.keys.tend(now).await {
            tracing::error!(%fault, "signing keys not looked after");
        }
        if let Err(fault) = self.parts().audit.tend(now).await {
            tracing::error!(%fault, "audit log not looked after");
        }
    }

    /// Seals the audit log, for a broker that stops.
    pub async fn seal(&self) {
        if let Err(fault) = self.parts().audit.seal(self.parts().clock.now()).await {
            tracing::error!(%fault, "audit log not sealed");
        }
    }

    /// Returns true if tokens can be signed for every target, the view of revocations is current, and the last write of
    /// the audit log succeeded.
    #[must_use]
    pub fn can_mint(&self) -> bool {
        let Parts { revocations, audit, clock, .. } = self.parts();
        self.keys.ring().missing(clock.now()) == 0 && revocations.fresh().is_ok() && !audit.is_failing()
    }

    /// The head of the audit chain.
    #[must_use]
    pub fn audit_head(&self) -> ChainHead {
        self.parts().audit.head()
    }

    /// The issuers without a key set that is fresh enough to be trusted.
    #[must_use]
    pub fn issuers_without_keys(&self) -> Vec<String> {
        let (now, snapshot) = (self.parts().clock.now(), self.broker.snapshot());
        let without = snapshot.issuers.iter().filter(|issuer| issuer.keys.ready(now).is_none());
        without.map(|issuer| issuer.name.to_string()).collect()
    }

    /// The smallest difference between this replica's clock and an issuer's, in seconds. The clock of one issuer may be
    /// wrong; if all of them differ, this replica's is.
    #[must_use]
    pub fn clock_skew(&self) -> i64 {
        let snapshot = self.broker.snapshot();
        snapshot.issuers.iter().filter_map(|issuer| issuer.keys.skew()).map(i64::abs).min().unwrap_or(0)
    }

    fn trail(&self, kind: EventKind) -> AuditTrail {
        let Parts { clock, audit, .. } = self.parts();
        AuditTrail::begin(kind, &self.broker.decision(), None, clock.now(), audit)
    }
}
