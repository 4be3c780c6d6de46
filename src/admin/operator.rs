//! A running broker in the hands of its operator: upkeep, and whether it can serve.

use super::Admin;
use crate::audit::{EventKind, Outcome};
use crate::domain::ChainHead;
use crate::exchange::{Broker, Parts, Snapshot};
use crate::signing::{Keys, Rotation, SigningKeysError};
use crate::telemetry::Job;
use std::sync::Arc;

/// The operator's hand on a running broker: its use cases, its upkeep and its health.
pub struct Operator {
    pub(super) broker: Arc<Broker>,
    pub(super) keys: Arc<Keys>,
    admin: Admin,
}

impl Operator {
    /// Returns the operator's hand on `broker` and its `keys`.
    #[must_use]
    pub fn new(broker: Arc<Broker>, keys: Arc<Keys>) -> Self {
        let Parts { replica, snapshot, revocations, tasks, audit, clock, entropy, .. } = broker.parts();
        let snapshot = Arc::clone(snapshot);
        let admin = Admin {
            replica: replica.clone(),
            keys: Arc::clone(&keys),
            revocations: Arc::clone(revocations),
            tasks: Arc::clone(tasks),
            audit: Arc::clone(audit),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            task_idle: Box::new(move || snapshot.load().task_idle),
        };
        Self { broker, keys, admin }
    }

    /// The use cases of operators.
    #[must_use]
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    pub(super) fn parts(&self) -> &Parts {
        self.broker.parts()
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
    pub fn reloaded(&self, fault: Option<&str>, by: &str) {
        let mut trail = self.admin.trail(EventKind::Reload, &self.broker.decision(), self.parts().clock.now());
        let text = fault.unwrap_or("configuration and policies are in force");
        trail.changed(format!("{text} (reloaded by {by})"));
        let _ = trail.done(if fault.is_none() { Outcome::Granted } else { Outcome::Refused });
        self.parts().metrics.reloaded(fault.is_none());
    }

    /// Does what is due of the keys.
    pub async fn tend_keys(&self) {
        let Parts { clock, metrics, .. } = self.parts();
        let tended = self.keys.tend(clock.now()).await;
        metrics.job(Job::SigningKeys).count(tended.is_ok());
        if let Err(fault) = tended {
            tracing::error!(%fault, "signing keys not looked after");
        }
    }

    /// Does what is due of the audit log.
    pub async fn tend_audit(&self) {
        let Parts { audit, clock, metrics, .. } = self.parts();
        let tended = audit.tend(clock.now()).await;
        metrics.job(Job::AuditLog).count(tended.is_ok());
        if let Err(fault) = tended {
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
}
