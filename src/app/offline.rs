//! The acts of an operator where no broker runs, in the store itself. They need neither policies nor issuers, so that a
//! fault in those never blocks them.

use super::parts::{digest_key, replica};
use super::stores::Stores;
use super::{Installation, StartError};
use crate::admin::Admin;
use crate::audit::{AuditLog, Opening, Seal};
use crate::domain::{ChainHead, Clock, Entropy, Timestamp};
use crate::revocation::Revocations;
use crate::signing::{Document, Keys};
use crate::store::{AuditHeads, audit_head};
use std::sync::Arc;

impl Installation {
    /// The use cases of operators, on the store of a broker that does not run.
    ///
    /// # Errors
    /// [`StartError`] where store, keys or audit log cannot be used.
    pub async fn admin(&self, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> Result<Admin, StartError> {
        let now = clock.now();
        let replica = replica(&self.config.store.path, &**entropy)?;
        let Stores { records, heads, log, tasks, .. } = self.stores(&replica, now)?;
        let keys = Arc::new(Keys::read(self.key_parts(records, clock, entropy)?, self.rotation(), now).await?);
        let audit = self.audit_log(&keys, heads, &**entropy, now).await?;
        // Nobody follows it here: what is asked is asked of the store.
        let revocations = Revocations::load(log, None, now).await;
        let revocations = Arc::new(revocations.map_err(|fault| self.store_fault(fault))?);
        let (clock, entropy, idle) = (Arc::clone(clock), Arc::clone(entropy), self.task_idle());
        Ok(Admin { replica, keys, revocations, tasks, audit, clock, entropy, task_idle: Box::new(move || idle) })
    }

    /// Opens the audit log, and seals what was written and not sealed.
    pub(super) async fn audit_log(
        &self,
        keys: &Arc<Keys>,
        heads: Arc<dyn AuditHeads>,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<Arc<AuditLog>, StartError> {
        let sealing = Arc::clone(keys);
        let seal: Seal = Arc::new(move |checkpoint, now| {
            let keys = Arc::clone(&sealing);
            Box::pin(async move { keys.sign(Document::Checkpoint, &checkpoint, now).await.ok() })
        });
        let audit = &self.config.audit;
        let opening = Opening {
            replica: replica(&self.config.store.path, entropy)?,
            keeping: audit.keeping,
            heads,
            seal,
            digests: digest_key(&self.config.store.path, entropy)?,
        };
        let log = Arc::new(AuditLog::open(&audit.path, opening, now)?);
        if let Err(fault) = log.seal(now).await {
            tracing::error!(%fault, "lines of the audit log wait for a checkpoint");
        }
        Ok(log)
    }

    /// The `iss` that the issuer of this name signs as.
    #[must_use]
    pub fn signs_as(&self, name: &str) -> Option<String> {
        let issuer = self.config.issuers.iter().find(|issuer| issuer.name.as_str() == name)?;
        Some(issuer.signer.to_string())
    }

    /// The audience of the target of this name.
    #[must_use]
    pub fn audience_of(&self, name: &str) -> Option<String> {
        Some(self.targets().find(name)?.audience.to_string())
    }

    /// The head of the audit chain in the store, whether a broker runs or not.
    ///
    /// # Errors
    /// [`StartError::Store`].
    pub fn audit_head(&self) -> Result<Option<ChainHead>, StartError> {
        audit_head(&self.config.store.path).map_err(|fault| self.store_fault(fault))
    }

    /// The digest by which the audit log names `token`.
    ///
    /// # Errors
    /// [`StartError::Kept`] when its key cannot be read.
    pub fn digest(&self, token: &str, entropy: &dyn Entropy) -> Result<String, StartError> {
        Ok(digest_key(&self.config.store.path, entropy)?.digest(token))
    }
}
