//! The keys over time: made when they are missing, published before they sign, retired when what they signed has
//! expired, and dropped at once where one is compromised. Owns the backends and the records; a caller that verifies
//! takes the ring of the moment.

use super::pending::PendingSignatures;
use super::stock::Unrecorded;
use super::{Document, KeyBackendError, KeyBackends, KeyRing, Signer, SigningError, TokenSigner, UnfinishedJws, ring};
use crate::domain::{
    Clock, Entropy, KeyRecord, KeyState, Lifetime, NoEntropy, PUBLISHED_BEFORE_USE, Purpose, Timestamp,
};
use crate::store::{KeyRecords, Lease, StoreError};
use arc_swap::{ArcSwap, Guard};
use countersign_verify::SIGNING_ALGORITHMS;
use countersign_verify::jws::Compact;
use countersign_verify::key::{Algorithm, KeyUse, VerifyingKey};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use tokio::sync::Mutex;

/// Cache lifetime of a signed answer of introspection, in seconds.
pub(super) const ANSWERS_LIVE: i64 = 300;

/// Which keys there have to be, and for how long each signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// How long a key signs before its successor takes over; none if an operator rotates by hand.
    pub every: Option<Lifetime>,
    /// The algorithms of tokens: each has a key.
    pub algorithms: Vec<Algorithm>,
    /// The longest life of a token.
    pub longest: Lifetime,
}

/// Why keys cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeysError {
    /// The backend of the keys cannot be used.
    #[error(transparent)]
    Backend(#[from] KeyBackendError),
    /// The records of the keys cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No key has this id.
    #[error("no key has the id `{0}`; `countersign keys list` shows every key")]
    Unknown(String),
    /// The purpose is signed with another algorithm.
    #[error("{0} cannot be signed with {1}; use ES256")]
    Algorithm(Purpose, Algorithm),
    /// A key in force is gone.
    #[error(
        "the {1} key `{0}` is missing from {2}; restore it from a backup, or run `countersign keys revoke {0}`, which revokes every token that it signed"
    )]
    Lost(String, Purpose, String),
    /// A key does not sign, or signs what its public half does not verify.
    #[error("the key `{0}` in {1} is not used, because its test signature failed: {2}")]
    Untested(String, String, String),
    /// The source of randomness failed.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// The parts that keys are made of.
pub struct KeyParts {
    /// The places of the private keys.
    pub backends: KeyBackends,
    /// The records of the keys, which other replicas share.
    pub records: Arc<dyn KeyRecords>,
    /// The source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The clock of deadlines.
    pub clock: Arc<dyn Clock>,
}

/// The broker's keys.
pub struct Keys {
    pub(super) parts: KeyParts,
    pending: PendingSignatures,
    pub(super) ring: ArcSwap<KeyRing>,
    pub(super) held: Mutex<Held>,
    /// The second in which keys of other replicas were last looked for.
    pub(super) looked: AtomicI64,
}

pub(super) struct Held {
    pub(super) rotation: Rotation,
    /// Retired and revoked ones too, as long as they are remembered.
    pub(super) records: Vec<KeyRecord>,
    /// What signs with each key, by its id. Each has passed its test.
    pub(super) signers: BTreeMap<String, Arc<dyn Signer>>,
    /// True if the records have changed since they were last written, so that a failed write is repeated.
    pub(super) unsaved: bool,
}

impl Keys {
    /// Reads the keys and makes those that are missing. A key that nobody has a record of was put there by an operator:
    /// it is published now, and signs after that. Returns the keys with the one right to sign tokens by them.
    ///
    /// # Errors
    /// [`SigningKeysError`] names the key or its place, and what to do.
    pub async fn open(
        parts: KeyParts,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<(Arc<Self>, TokenSigner), SigningKeysError> {
        let keys = Self::read(parts, rotation, now).await?;
        let mut held = keys.held.lock().await;
        let lease = keys.lease().await?;
        let done = keys.open_held(&mut held, &lease, now).await;
        keys.let_go(lease).await;
        drop(held);
        done?;
        let keys = Arc::new(keys);
        Ok((Arc::clone(&keys), TokenSigner::new(keys)))
    }

    /// Reads the keys as [`Keys::open`] does, but makes none and misses none: for an operator who looks at them where
    /// no broker runs.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub async fn read(parts: KeyParts, rotation: Rotation, now: Timestamp) -> Result<Self, SigningKeysError> {
        let held = Held { rotation, records: Vec::new(), signers: BTreeMap::new(), unsaved: true };
        let ring = ArcSwap::from_pointee(held.ring(now));
        let pending = PendingSignatures::new(Arc::clone(&parts.clock));
        let keys = Self { parts, pending, ring, held: Mutex::new(held), looked: AtomicI64::default() };
        keys.take_stock(&mut *keys.held.lock().await, Unrecorded::Adopted, now).await?;
        Ok(keys)
    }

    async fn open_held(&self, held: &mut Held, lease: &Lease, now: Timestamp) -> Result<(), SigningKeysError> {
        self.take_stock(held, Unrecorded::Adopted, now).await?;
        for record in held.records.iter().filter(|record| record.state(now).is_alive()) {
            if !held.signers.contains_key(&record.kid) {
                let place = self.parts.backends.of(record.purpose).place();
                return Err(SigningKeysError::Lost(record.kid.clone(), record.purpose, place));
            }
        }
        self.tend_held(held, lease, now).await
    }

    /// The ring of this moment.
    #[must_use]
    pub fn ring(&self) -> Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// Signs `payload` as a document of the broker, a compact JWS. No document is a token.
    ///
    /// # Errors
    /// [`SigningError`] if no key is active for the document's purpose, it cannot be used, or it takes too long; no
    /// other key is tried.
    pub async fn sign(
        &self,
        document: Document,
        payload: &impl Serialize,
        now: Timestamp,
    ) -> Result<String, SigningError> {
        let jws = self.begin(document, payload, now)?;
        self.finish(jws).await.map(|(signed, _)| signed)
    }

    /// Begins what [`Keys::sign`] signs, for a caller whose payload takes time to encode.
    ///
    /// # Errors
    /// As [`Keys::sign`].
    pub fn begin(
        &self,
        document: Document,
        payload: &impl Serialize,
        now: Timestamp,
    ) -> Result<UnfinishedJws, SigningError> {
        self.ring().begin_document(document, payload, now)
    }

    /// Waits for the signature of `jws`. Returns the signed JWS and the id of the key.
    ///
    /// # Errors
    /// As [`Keys::sign`].
    pub async fn finish(&self, jws: UnfinishedJws) -> Result<(String, String), SigningError> {
        self.pending.finish(jws).await
    }

    /// Tests a key before it is used: its public half has to verify what it signs. What is signed is no token and no
    /// document.
    pub(super) async fn test(&self, signer: &dyn Signer, purpose: Purpose) -> Result<(), SigningKeysError> {
        let place = self.parts.backends.of(purpose).place();
        let failed = |fault: String| SigningKeysError::Untested(signer.key_id().to_owned(), place, fault);
        let mut random = [0; 16];
        self.parts.entropy.fill(&mut random)?;
        let header = ring::header("key-test+jws", signer);
        let signed = match ring::begin(&header, signer, &json!({ "random": random })) {
            Ok(jws) => self.finish(jws).await,
            Err(fault) => Err(fault),
        };
        let (signed, _) = match signed {
            Ok(signed) => signed,
            Err(fault) => return Err(failed(fault.to_string())),
        };
        let public = VerifyingKey::from_jwk(signer.public_jwk(), KeyUse::Signature, &SIGNING_ALGORITHMS);
        let verified = public.ok().zip(Compact::parse(&signed).ok());
        match verified.and_then(|(public, jws)| jws.verify(&public).ok()) {
            Some(_) => Ok(()),
            None => Err(failed("its public half does not verify it".to_owned())),
        }
    }

    /// The records of every key, in the order of purpose, algorithm and time.
    pub async fn list(&self) -> Vec<KeyRecord> {
        let mut records = self.held.lock().await.records.clone();
        records.sort_by_key(|record| (record.purpose, record.algorithm, record.signs_from, record.kid.clone()));
        records
    }

    /// Follows another configuration.
    ///
    /// # Errors
    /// [`SigningKeysError`] when a key that it needs cannot be made.
    pub async fn follow(&self, rotation: Rotation, now: Timestamp) -> Result<(), SigningKeysError> {
        let mut held = self.held.lock().await;
        let lease = self.lease().await?;
        let before = std::mem::replace(&mut held.rotation, rotation);
        let done = match self.take_stock(&mut held, Unrecorded::Left, now).await {
            Ok(()) => self.tend_held(&mut held, &lease, now).await,
            Err(fault) => Err(fault),
        };
        if done.is_err() {
            held.rotation = before;
        }
        self.let_go(lease).await;
        done
    }

    /// Does what is due at `now`: makes a key that is missing, a successor for one whose time comes, and removes what
    /// has retired. Cheap where nothing is due.
    ///
    /// # Errors
    /// [`SigningKeysError`]; what there is goes on as it was.
    pub async fn tend(&self, now: Timestamp) -> Result<(), SigningKeysError> {
        let mut held = self.held.lock().await;
        let published = self.ring.load().records().map(|record| record.kid.clone()).collect::<Vec<_>>();
        let ready = self.parts.records.publish(&published).await?;
        let lease = self.parts.records.take(self.lease_name()?).await?;
        self.take_stock(&mut held, Unrecorded::Left, now).await?;
        // Where another replica is at it, this one has seen what there is.
        let Some(lease) = lease else { return Ok(()) };
        let before = held.records.clone();
        held.hold_back(&ready, now);
        let done = self.tend_held(&mut held, &lease, now).await;
        if done.is_err() {
            held.records = before;
        }
        self.let_go(lease).await;
        done
    }

    /// Makes a successor for the key that signs `purpose` with `algorithm`: published now, signing when everyone can
    /// have it. Where one is published already, that is the one.
    ///
    /// # Errors
    /// [`SigningKeysError`] when it cannot be made or recorded.
    pub async fn rotate(
        &self,
        purpose: Purpose,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<KeyRecord, SigningKeysError> {
        let mut held = self.held.lock().await;
        let lease = self.lease().await?;
        let made = self.rotate_held(&mut held, (purpose, algorithm), &lease, now).await;
        self.let_go(lease).await;
        made
    }

    async fn rotate_held(
        &self,
        held: &mut Held,
        (purpose, algorithm): (Purpose, Algorithm),
        lease: &Lease,
        now: Timestamp,
    ) -> Result<KeyRecord, SigningKeysError> {
        self.take_stock(held, Unrecorded::Adopted, now).await?;
        if purpose != Purpose::Tokens && !held.wanted().contains(&(purpose, algorithm)) {
            return Err(SigningKeysError::Algorithm(purpose, algorithm));
        }
        let waiting =
            |record: &&KeyRecord| is_of(record, purpose, algorithm) && record.state(now) == KeyState::Published;
        if let Some(waiting) = held.records.iter().find(waiting) {
            return Ok(waiting.clone());
        }
        let from = if held.current(purpose, algorithm).is_some() { now.plus(PUBLISHED_BEFORE_USE) } else { now };
        let before = held.records.clone();
        let made = self.make(held, (purpose, algorithm), from, now).await?;
        self.keep_or_undo(held, before, lease, now).await?;
        Ok(made)
    }

    /// Drops the key `kid`, which is compromised: it signs and verifies nothing from now on, and another one signs at
    /// once. What it signed is ended by the revocation log, not here.
    ///
    /// # Errors
    /// [`SigningKeysError::Unknown`], or [`SigningKeysError`] if that cannot be recorded durably.
    pub async fn revoke(&self, kid: &str, now: Timestamp) -> Result<KeyRecord, SigningKeysError> {
        let mut held = self.held.lock().await;
        // Dropped here before anything that can fail.
        if let Some(record) = held.records.iter_mut().find(|record| record.kid == kid) {
            record.revoked = record.revoked.or(Some(now));
            held.unsaved = true;
            self.ring.store(Arc::new(held.ring(now)));
        }
        let lease = self.lease().await?;
        let revoked = self.revoke_held(&mut held, kid, &lease, now).await;
        self.let_go(lease).await;
        revoked
    }

    async fn revoke_held(
        &self,
        held: &mut Held,
        kid: &str,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<KeyRecord, SigningKeysError> {
        let state_of = |held: &Held| {
            let known = held.records.iter().find(|record| record.kid == kid);
            known.map(|record| KeyRecord { revoked: None, ..record.clone() }.state(now))
        };
        // Recorded before the directory is looked at, which may be gone.
        let before = held.records.clone();
        self.recall(held).await?;
        match held.records.iter_mut().find(|record| record.kid == kid) {
            Some(record) => {
                record.revoked = record.revoked.or(Some(now));
                // What was recalled with it is seen by all, whether this can be kept or not.
                self.ring.store(Arc::new(held.ring(now)));
                self.keep(held, lease, now).await?;
            }
            // What has changed meanwhile is taken in below, with its files.
            None => held.records = before,
        }
        self.take_stock(held, Unrecorded::Adopted, now).await?;
        let state = state_of(held);
        let unknown = || SigningKeysError::Unknown(kid.to_owned());
        let record = held.records.iter_mut().find(|record| record.kid == kid).ok_or_else(unknown)?;
        let (purpose, algorithm) = (record.purpose, record.algorithm);
        record.revoked = record.revoked.or(Some(now));
        let revoked = record.clone();
        held.unsaved = true;
        let was_needed = matches!(state, Some(KeyState::Active | KeyState::Published));
        self.ring.store(Arc::new(held.ring(now)));
        let wanted = held.wanted().contains(&(purpose, algorithm));
        if state == Some(KeyState::Published) {
            // Its predecessor goes on as if it had never been.
            let line = |record: &&mut KeyRecord| is_of(record, purpose, algorithm) && record.revoked.is_none();
            let last = held.records.iter_mut().filter(line).max_by_key(|record| record.signs_from);
            if let Some(last) = last.filter(|last| last.state(now) == KeyState::Active) {
                last.signs_until = None;
            }
        }
        let alone = was_needed && wanted && held.active(purpose, algorithm, now).is_none();
        let successor = held
            .records
            .iter_mut()
            .find(|record| alone && is_of(record, purpose, algorithm) && record.state(now) == KeyState::Published);
        let needs_another = alone && successor.is_none();
        if let Some(successor) = successor {
            // Nobody can have waited for it: what signs has gone.
            successor.signs_from = now;
        }
        // For good before another one is made: whatever fails after this leaves nothing of the key.
        self.keep(held, lease, now).await?;
        if let Some(signer) = held.signers.get(kid) {
            self.parts.backends.of(purpose).remove(kid, revoked.public_half(&**signer)).await?;
            held.signers.remove(kid);
        }
        if needs_another {
            self.make(held, (purpose, algorithm), now, now).await?;
            self.keep(held, lease, now).await?;
        }
        Ok(revoked)
    }
}

pub(super) fn is_of(record: &KeyRecord, purpose: Purpose, algorithm: Algorithm) -> bool {
    record.purpose == purpose && record.algorithm == algorithm
}
