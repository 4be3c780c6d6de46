//! What an operator does to a running broker, by the control socket: each leaves an event, done or not. And what has to be
//! done from time to time, whoever is there.

use super::revoke::{Change, UNSEEN, change};
use super::{Answer, Broker, Snapshot};
use crate::audit::{AuditLog, Kind, Outcome, Refused, Trail};
use crate::domain::{ChainHead, DecisionId, KeyRecord, KeyState, Lifetime, Purpose, TaskRecord, TaskState, Timestamp};
use crate::error::{Error, Unavailable};
use crate::revocation::Revocations;
use crate::signing::{KeyError, Keys, Rotation};
use crate::store::{About, Act, Entry, Revoked, StoreError, TaskRecords};
use crate::telemetry::Figures;
use countersign_verify::key::Algorithm;
use countersign_verify::revocation::{Kind as NamedKind, Named};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Whether a task is over before its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// It is not.
    Open,
    /// It was revoked.
    Ended,
    /// It asked for no token for too long.
    Idle,
}

impl TaskEnd {
    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ended => "ended",
            Self::Idle => "idle",
        }
    }
}

/// The broker, in the hands of its operator.
pub struct Operator<'a>(pub &'a Broker);

impl Operator<'_> {
    /// Puts `wanted` in force, on everything below what it names too.
    ///
    /// # Errors
    /// [`Unavailable`] when it is not on disk: then ask again.
    pub async fn change(&self, wanted: &Change) -> Answer<()> {
        let Self(broker) = self;
        change(wanted, broker.decision(), &broker.revocations, &broker.audit, broker.clock.now()).await
    }

    /// Whether what `change` names is suspended now.
    #[must_use]
    pub fn suspends(&self, change: &Change) -> bool {
        self.0.revocations.suspends(change.kind, &change.id)
    }

    /// Every revocation and suspension that is alive, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot say.
    pub async fn revocations(&self) -> Result<Vec<Revoked>, StoreError> {
        self.0.revocations.list(self.0.clock.now()).await
    }

    /// Makes a successor for a signing key.
    ///
    /// # Errors
    /// [`KeyError`] when it cannot be made or recorded.
    pub async fn rotate(&self, purpose: Purpose, algorithm: Algorithm) -> Result<KeyRecord, KeyError> {
        let Self(broker) = self;
        rotate_key((purpose, algorithm), &broker.decision(), &broker.keys, &broker.audit, broker.clock.now()).await
    }

    /// Drops a compromised key everywhere, and ends what it signed.
    ///
    /// # Errors
    /// [`KeyError`] when that is not on disk for good: then ask again.
    pub async fn revoke_key(&self, kid: &str, by: &str, reason: Option<String>) -> Result<KeyRecord, KeyError> {
        let Self(broker) = self;
        let decision = broker.decision();
        let about = About { by: by.to_owned(), reason, ..About::default() };
        revoke_key((kid, about), &decision, &broker.keys, &broker.revocations, &broker.audit, broker.clock.now()).await
    }

    /// Every key and its state.
    pub async fn keys(&self) -> Vec<(KeyRecord, KeyState)> {
        let now = self.0.clock.now();
        self.0.keys.list().await.into_iter().map(|key| (key.clone(), key.state(now))).collect()
    }

    /// Every task whose deadline lies ahead, and whether it was ended.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot say.
    pub async fn tasks(&self) -> Result<Vec<(TaskState, TaskEnd)>, StoreError> {
        let Self(broker) = self;
        let (now, idle) = (broker.clock.now(), broker.snapshot().task_idle);
        list_tasks(&*broker.tasks, &broker.revocations, idle, now).await
    }

    /// Serves by another snapshot from now on, with the keys that it needs.
    ///
    /// # Errors
    /// [`KeyError`] when one of them cannot be made: then nothing changes.
    pub async fn install(&self, snapshot: Snapshot, rotation: Rotation) -> Result<(), KeyError> {
        let Self(broker) = self;
        let now = broker.clock.now();
        broker.keys.follow(rotation, now).await?;
        broker.snapshot.store(Arc::new(snapshot));
        broker.configured_at.store(now.seconds(), Ordering::Relaxed);
        Ok(())
    }

    /// Notes on the audit log that a reload was taken over, or why not.
    pub fn reloaded(&self, fault: Option<&str>) {
        let mut trail = self.trail(Kind::Reload, self.0.clock.now());
        trail.changed(fault.unwrap_or("configuration and policies are in force").to_owned());
        let _ = trail.done(if fault.is_none() { Outcome::Granted } else { Outcome::Refused });
        self.0.metrics.reloaded(fault.is_none());
    }

    /// Does what is due: keys, and the audit log.
    pub async fn tend(&self) {
        let Self(broker) = self;
        let now = broker.clock.now();
        if let Err(fault) = broker.keys.tend(now).await {
            tracing::error!(%fault, "signing keys not looked after");
        }
        let audit = Arc::clone(&broker.audit);
        match tokio::task::spawn_blocking(move || audit.tend(now)).await {
            Ok(Err(fault)) => tracing::error!(%fault, "audit log not looked after"),
            Err(fault) => tracing::error!(%fault, "audit log not looked after"),
            Ok(Ok(())) => {}
        }
    }

    /// Seals the audit log, for a broker that stops.
    pub fn seal(&self) {
        if let Err(fault) = self.0.audit.seal(self.0.clock.now()) {
            tracing::error!(%fault, "audit log not sealed");
        }
    }

    /// Whether tokens can be signed for every target, what others revoked is known, and the last write of the audit log
    /// succeeded.
    #[must_use]
    pub fn can_mint(&self) -> bool {
        let Self(broker) = self;
        broker.keys.ring().missing(broker.clock.now()) == 0
            && broker.revocations.fresh().is_ok()
            && !broker.audit.is_failing()
    }

    /// Where the audit chain stands.
    #[must_use]
    pub fn audit_head(&self) -> ChainHead {
        self.0.audit.head()
    }

    /// What the parts of the broker say of themselves.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let Self(broker) = self;
        let (now, snapshot, ring, log) =
            (broker.clock.now(), broker.snapshot(), broker.keys.ring(), broker.audit.figures());
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut states: BTreeMap<&'static str, i64> =
            [KeyState::Published, KeyState::Active, KeyState::Retiring].map(|state| (state.name(), 0)).into();
        for key in ring.records() {
            *states.entry(key.state(now).name()).or_default() += 1;
        }
        let signing = ring.records().filter(|key| key.state(now) == KeyState::Active);
        let without = broker.issuers_without_keys().len();
        Figures {
            issuers: snapshot.issuers.iter().count().try_into().unwrap_or(i64::MAX),
            issuers_without_keys: without.try_into().unwrap_or(i64::MAX),
            oldest_issuer_keys: snapshot.issuers.iter().filter_map(|issuer| issuer.keys.age(now)).max().unwrap_or(0),
            clock_skew: broker.clock_skew(),
            revocations: broker.revocations.count().try_into().unwrap_or(i64::MAX),
            status_rows: broker.revocations.status_rows().try_into().unwrap_or(i64::MAX),
            revocation_position: whole(broker.revocations.position()),
            revocation_staleness: whole(broker.revocations.staleness()),
            first_uses: broker.uses.count().try_into().unwrap_or(i64::MAX),
            keys: states.into_iter().collect(),
            keys_missing: ring.missing(now).try_into().unwrap_or(i64::MAX),
            oldest_signing_key: signing.map(|key| now.since(key.signs_from)).max().unwrap_or(0),
            audit: [log.lines, log.counted, log.failed, log.gaps, log.next, log.free].map(whole),
            configured_at: broker.configured_at.load(Ordering::Relaxed),
            resident: resident(),
        }
    }

    fn trail(&self, kind: Kind, now: Timestamp) -> Trail {
        Trail::begin(kind, &self.0.decision(), None, now, &self.0.audit)
    }
}

/// Resident memory of this process, in bytes; 0 where the system does not say.
fn resident() -> i64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.as_deref().and_then(|text| text.split(' ').nth(1)).and_then(|pages| pages.parse::<i64>().ok());
    let page = i64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    pages.unwrap_or(0).saturating_mul(page)
}

/// Every task whose deadline lies ahead, oldest first, and whether it is over all the same.
///
/// # Errors
/// [`StoreError`] when the store cannot say.
pub async fn list_tasks(
    tasks: &dyn TaskRecords,
    revocations: &Revocations,
    idle: Lifetime,
    now: Timestamp,
) -> Result<Vec<(TaskState, TaskEnd)>, StoreError> {
    let mut tasks = tasks.list(now).await?;
    tasks.sort_by(|a, b| (a.record.opened, &a.record.id).cmp(&(b.record.opened, &b.record.id)));
    let end = |task: &TaskState| {
        if revocations.hits(&names_of(&task.record), task.record.pos) {
            TaskEnd::Ended
        } else if now.since(task.idle_since) > idle.seconds() {
            TaskEnd::Idle
        } else {
            TaskEnd::Open
        }
    };
    Ok(tasks.into_iter().map(|task| (task.clone(), end(&task))).collect())
}

/// Everything by which a task's token can be revoked.
fn names_of(task: &TaskRecord) -> Vec<Named> {
    let own = [
        (NamedKind::Token, &task.id),
        (NamedKind::Task, &task.id),
        (NamedKind::Key, &task.kid),
        (NamedKind::Workload, &task.workload),
        (NamedKind::Issuer, &task.iss),
    ];
    let client = task.client.as_ref().map(|client| (NamedKind::Client, client));
    own.into_iter().chain(client).map(|(kind, id)| Named::new(kind, id, task.opened)).collect()
}

/// Makes a successor for the key of a purpose and an algorithm, where a broker runs or not.
///
/// # Errors
/// [`KeyError`] when it cannot be made or recorded.
pub async fn rotate_key(
    (purpose, algorithm): (Purpose, Algorithm),
    decision: &DecisionId,
    keys: &Keys,
    audit: &Arc<AuditLog>,
    now: Timestamp,
) -> Result<KeyRecord, KeyError> {
    let mut trail = Trail::begin(Kind::Keys, decision, None, now, audit);
    let made = keys.rotate(purpose, algorithm, now).await;
    match &made {
        Ok(key) => trail.changed(format!("{purpose} {algorithm}: {} signs from {}", key.kid, key.signs_from)),
        Err(fault) => trail.changed(format!("{purpose} {algorithm}: no successor: {fault}")),
    }
    let _ = trail.done(if made.is_ok() { Outcome::Granted } else { Outcome::Unavailable });
    made
}

/// Drops the key `kid`, where a broker runs or not, and ends what it signed for good. `about` says who wants it, and why.
///
/// # Errors
/// [`KeyError::Unknown`], or [`KeyError`] when that is not on disk for good: then ask again.
pub async fn revoke_key(
    (kid, about): (&str, About),
    decision: &DecisionId,
    keys: &Keys,
    revocations: &Arc<Revocations>,
    audit: &Arc<AuditLog>,
    now: Timestamp,
) -> Result<KeyRecord, KeyError> {
    let mut trail = Trail::begin(Kind::Keys, decision, None, now, audit);
    let why = about.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let result = async {
        // Dropped first, whatever then fails: it signs and verifies nothing from here on.
        let dropped = keys.revoke(kid, now).await;
        if matches!(dropped, Err(KeyError::Unknown(_))) {
            return dropped;
        }
        let (at, decision) = (now.seconds(), decision.to_string());
        let about = About { at, decision, ..about };
        revocations.enter(Entry::new(NamedKind::Key, kid, Act::Revoke, now.plus(UNSEEN), about), now).await?;
        dropped
    }
    .await;
    match &result {
        Ok(key) => {
            trail.revoked(&key.kid);
            trail.changed(format!("{} {}: {} is revoked{why}", key.purpose, key.algorithm, key.kid));
            let written = trail.done(Outcome::Granted);
            written.map_err(|fault| StoreError::Io(fault.to_string()))?;
            // By the key that has taken over: what the compromised one sealed is vouched for again.
            if key.purpose == Purpose::Checkpoints {
                audit.seal(now).map_err(|fault| StoreError::Io(fault.to_string()))?;
            }
        }
        Err(fault) => {
            let error: Error = Unavailable::Signing.into();
            let refused = Refused {
                reason: error.reason().to_owned(),
                message: fault.to_string(),
                error: error.wire().error.to_owned(),
                told: error.wire().reason.to_owned(),
            };
            trail.refuse(Outcome::Unavailable, refused, "a key that can be revoked");
        }
    }
    result
}
