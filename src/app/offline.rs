//! The acts of an operator where no broker runs, in the store itself. They need neither policies nor issuers, so that a
//! fault in those never blocks them.

use super::parts::{digest_key, replica};
use super::running::{NOT_SUSPENDED, describe_key, describe_revocation, describe_task, done, is_reason, wanted};
use super::stores::Stores;
use super::{Installation, StartError};
use crate::admin;
use crate::audit::{AuditLog, Keeping, Opening, Seal};
use crate::control::{Command, Reply, own_operator};
use crate::domain::{ChainHead, Clock, DecisionId, Entropy, Purpose, Timestamp};
use crate::revocation::Revocations;
use crate::signing::{Document, Keys};
use crate::store::{About, Act, AuditHeads, TaskRecords, audit_head};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::key::Algorithm;
use serde_json::Value;
use std::sync::Arc;

/// The parts that remember, opened by themselves.
struct OfflineParts {
    keys: Arc<Keys>,
    revocations: Arc<Revocations>,
    tasks: Arc<dyn TaskRecords>,
    audit: Arc<AuditLog>,
    decision: DecisionId,
    now: Timestamp,
}

impl Installation {
    async fn open(&self, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> Result<OfflineParts, StartError> {
        let now = clock.now();
        let name = replica(&self.config.store.path, &**entropy)?;
        let Stores { records, heads, log, tasks, .. } = self.stores(&name, now)?;
        let keys = Arc::new(Keys::read(self.key_parts(records, clock, entropy)?, self.rotation(), now).await?);
        let audit = self.audit_log(&keys, heads, &**entropy, now).await?;
        // Nobody follows it here: what is asked is asked of the store.
        let revocations = Revocations::load(log, None, now).await;
        let revocations = Arc::new(revocations.map_err(|fault| self.store_fault(fault))?);
        let mut random = [0; 12];
        entropy.fill(&mut random)?;
        let decision = DecisionId::new(&name, &URL_SAFE_NO_PAD.encode(random));
        Ok(OfflineParts { keys, revocations, tasks, audit, decision, now })
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
        let keeping = Keeping {
            segment: audit.segment,
            retention: Some(audit.retention),
            refusals: audit.refusals,
            reserve: audit.reserve,
        };
        let opening = Opening {
            replica: replica(&self.config.store.path, entropy)?,
            keeping,
            heads,
            seal,
            digests: digest_key(&self.config.store.path, entropy)?,
        };
        let log = Arc::new(AuditLog::open(&audit.path, opening, now)?);
        log.seal(now).await?;
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

    /// Puts in force what `command` wants.
    ///
    /// # Errors
    /// [`StartError`] where store, keys or audit log cannot be used.
    pub async fn change(
        &self,
        command: Command,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Reply, StartError> {
        let OfflineParts { revocations, audit, decision, now, .. } = self.open(clock, entropy).await?;
        Ok(match wanted(command, own_operator(), now) {
            Ok(change) if change.act == Act::Resume && revocations.not_suspended(change.kind, &change.id).is_some() => {
                Reply::Failed { message: NOT_SUSPENDED.to_owned() }
            }
            Ok(change) => done(admin::change(&change, decision, &revocations, &audit, now).await),
            Err(message) => Reply::Failed { message },
        })
    }

    /// Every revocation and suspension that is alive.
    ///
    /// # Errors
    /// As [`Installation::change`].
    pub async fn list_revocations(
        &self,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Value, StartError> {
        let OfflineParts { revocations, now, .. } = self.open(clock, entropy).await?;
        let records = revocations.list(now).await;
        let records = records.map_err(|fault| self.store_fault(fault))?;
        Ok(records.iter().map(describe_revocation).collect())
    }

    /// Every signing key, its state and its dates.
    ///
    /// # Errors
    /// As [`Installation::change`].
    pub async fn list_keys(&self, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> Result<Value, StartError> {
        let OfflineParts { keys, now, .. } = self.open(clock, entropy).await?;
        Ok(keys.list().await.iter().map(|key| describe_key(key, key.state(now))).collect())
    }

    /// Every task whose deadline lies ahead.
    ///
    /// # Errors
    /// As [`Installation::change`].
    pub async fn list_tasks(&self, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> Result<Value, StartError> {
        let OfflineParts { tasks, revocations, now, .. } = self.open(clock, entropy).await?;
        let tasks = admin::list_tasks(&*tasks, &revocations, self.task_idle(), now).await;
        let tasks = tasks.map_err(|fault| self.store_fault(fault))?;
        Ok(tasks.iter().map(|(task, end)| describe_task(task, *end)).collect())
    }

    /// Makes a successor for the key that signs `purpose` with `algorithm`.
    ///
    /// # Errors
    /// As [`Installation::change`].
    pub async fn rotate_key(
        &self,
        purpose: Purpose,
        algorithm: Algorithm,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Value, StartError> {
        let OfflineParts { keys, audit, decision, now, .. } = self.open(clock, entropy).await?;
        let made = admin::rotate_key((purpose, algorithm), &decision, &keys, &audit, now).await?;
        Ok(describe_key(&made, made.state(now)))
    }

    /// Drops the key `kid`, and ends what it signed.
    ///
    /// # Errors
    /// As [`Installation::change`].
    pub async fn revoke_key(
        &self,
        kid: &str,
        reason: Option<String>,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Value, StartError> {
        let OfflineParts { keys, revocations, audit, decision, now, .. } = self.open(clock, entropy).await?;
        if !is_reason(reason.as_deref()) {
            return Err(StartError::Reason);
        }
        let about = About { by: own_operator(), reason, ..About::default() };
        let revoked = admin::revoke_key((kid, about), &decision, (&keys, &revocations, &audit), now).await?;
        Ok(describe_key(&revoked, revoked.state(now)))
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
