//! The keys over time: made when they are missing, published before they sign, retired when what they signed has
//! expired, and dropped at once where one is compromised. Owns the backends and the records; a caller that verifies
//! takes the ring of the moment.

use super::pending::PendingSignatures;
use super::stock::Unrecorded;
use super::{
    BackendAnswer, Document, KeyBackendError, KeyBackends, KeyRing, Signer, SigningError, TokenSigner, UnfinishedJws,
    ring,
};
use crate::domain::{Clock, Entropy, KeyRecord, Lifetime, NoEntropy, Purpose, Timestamp, within};
use crate::store::{KeyRecords, Lease, StoreError};
use arc_swap::{ArcSwap, Guard};
use countersign_verify::SIGNING_ALGORITHMS;
use countersign_verify::key::{Algorithm, KeyUse, VerifyingKey};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::sync::Mutex;

/// Cache lifetime of a signed answer of introspection, in seconds.
pub(super) const ANSWERS_LIVE: i64 = 300;

/// The number of attempts to test a key.
const TESTS: u32 = 3;
/// The longest time that a backend may take to list, make or remove keys.
const BACKEND_DEADLINE: Duration = Duration::from_secs(30);

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
    /// The fault of the last key that failed its test.
    pub(super) untested: Option<SigningKeysError>,
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
        let held = Held { rotation, records: Vec::new(), signers: BTreeMap::new(), untested: None, unsaved: true };
        let ring = ArcSwap::from_pointee(held.ring(now));
        let pending = PendingSignatures::new(Arc::clone(&parts.clock));
        let keys = Self { parts, pending, ring, held: Mutex::new(held), looked: AtomicI64::default() };
        keys.take_stock(&mut *keys.held.lock().await, Unrecorded::Adopted, now).await?;
        Ok(keys)
    }

    async fn open_held(&self, held: &mut Held, lease: &Lease, now: Timestamp) -> Result<(), SigningKeysError> {
        self.take_stock(held, Unrecorded::Adopted, now).await?;
        if let Some(fault) = held.untested.take() {
            return Err(fault);
        }
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
    /// document. A backend that fails once is asked again.
    pub(super) async fn test(&self, signer: &dyn Signer, purpose: Purpose) -> Result<(), SigningKeysError> {
        let place = self.parts.backends.of(purpose).place();
        let failed = |fault: &dyn Display| {
            SigningKeysError::Untested(signer.key_id().to_owned(), place.clone(), fault.to_string())
        };
        let public = VerifyingKey::from_jwk(signer.public_jwk(), KeyUse::Signature, &SIGNING_ALGORITHMS);
        let public = Arc::new(public.map_err(|fault| failed(&fault))?);
        let header = ring::header("key-test+jws", signer);
        for attempt in 1.. {
            let mut random = [0; 16];
            self.parts.entropy.fill(&mut random)?;
            let begun = ring::begin(&header, (signer, &public), purpose, &json!({ "random": random }));
            let tested = match begun {
                Ok(jws) => self.finish(UnfinishedJws { public: Some(Arc::clone(&public)), ..jws }).await,
                Err(fault) => Err(fault),
            };
            match tested {
                Ok(_) => return Ok(()),
                Err(fault) if fault == SigningError::Wrong || attempt == TESTS => return Err(failed(&fault)),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Waits for `answer`, for a bounded time: a task that waits for a backend holds the keys.
    pub(super) async fn bounded<T>(&self, answer: BackendAnswer<'_, T>) -> Result<T, KeyBackendError> {
        let late = || Err(KeyBackendError::Remote("their backend".to_owned(), "no answer in time".to_owned()));
        within(&*self.parts.clock, BACKEND_DEADLINE, answer).await.unwrap_or_else(late)
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
        let taken = self.take_stock(&mut held, Unrecorded::Left, now).await;
        // Where another replica is at it, this one has seen what there is.
        let Some(lease) = lease else { return taken };
        let done = match taken {
            Ok(()) => {
                held.hold_back(&ready, now);
                self.tend_held(&mut held, &lease, now).await
            }
            Err(fault) => Err(fault),
        };
        self.let_go(lease).await;
        done
    }
}

pub(super) fn is_of(record: &KeyRecord, purpose: Purpose, algorithm: Algorithm) -> bool {
    record.purpose == purpose && record.algorithm == algorithm
}
