//! The keys over time: made when they are missing, published before they sign, retired when what they signed has expired,
//! and dropped at once where one is compromised. Owns the directory and the records; whoever signs or verifies takes the
//! ring of the moment.

use super::files::{self, KeyFile, KeyFileError};
use super::{KeyRing, Signer};
use crate::domain::{Entropy, KeyRecord, KeyState, Lifetime, PUBLISHED_BEFORE_USE, Purpose, Timestamp};
use crate::store::{KeyRecords, StoreError};
use arc_swap::{ArcSwap, Guard};
use countersign_verify::key::Algorithm;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

/// How long a signed answer of introspection is kept by anyone, in seconds.
const ANSWERS_LIVE: i64 = 300;

/// Which keys there have to be, and for how long each signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// How long a key signs before another one takes over; none where an operator rotates by hand.
    pub every: Option<Lifetime>,
    /// What tokens are signed with: a key for each.
    pub algorithms: Vec<Algorithm>,
    /// The longest life of a token.
    pub longest: Lifetime,
}

/// Why keys cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Their files.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Their records.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No key has this id.
    #[error("no key has the id `{0}`; `countersign keys list` shows those that there are")]
    Unknown(String),
    /// A key's file is gone.
    #[error(
        "the file of the {1} key `{0}` is missing from `{2}`; put it back from a backup, or run `countersign keys revoke {0}`, which ends what it signed"
    )]
    Lost(String, Purpose, PathBuf),
}

/// The broker's keys.
pub struct Keys {
    directory: PathBuf,
    records: Arc<dyn KeyRecords>,
    entropy: Arc<dyn Entropy>,
    ring: ArcSwap<KeyRing>,
    held: Mutex<Held>,
}

struct Held {
    rotation: Rotation,
    /// Retired and revoked ones too, as long as they are remembered.
    records: Vec<KeyRecord>,
    files: BTreeMap<String, (PathBuf, Arc<dyn Signer>)>,
    /// Whether the records have changed since they were last written: a write that fails is made up for.
    unsaved: bool,
}

impl Keys {
    /// Reads the keys in `directory` and makes those that are missing. A key that nobody has a record of was put there by
    /// an operator: it is published now, and signs after that.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what to do.
    pub async fn open(
        directory: &Path,
        records: Arc<dyn KeyRecords>,
        entropy: Arc<dyn Entropy>,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Self, KeyError> {
        let keys = Self::read(directory, records, entropy, rotation, now).await?;
        let mut held = keys.held.lock().await;
        for record in held.records.iter().filter(|record| record.state(now).is_alive()) {
            if !held.files.contains_key(&record.kid) {
                let place = directory.to_owned();
                return Err(KeyError::Lost(record.kid.clone(), record.purpose, place));
            }
        }
        keys.tend_held(&mut held, now).await?;
        drop(held);
        Ok(keys)
    }

    /// As [`Keys::open`], but makes none and misses none: for an operator who looks at them where no broker runs.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub async fn read(
        directory: &Path,
        records: Arc<dyn KeyRecords>,
        entropy: Arc<dyn Entropy>,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Self, KeyError> {
        files::ensure(directory)?;
        let mut known = records.read().await?;
        let mut files = BTreeMap::new();
        let found = files::read(directory)?;
        let first: Vec<Purpose> =
            Purpose::ALL.into_iter().filter(|purpose| known.iter().all(|record| record.purpose != *purpose)).collect();
        for KeyFile { path, purpose, signer } in found {
            match known.iter().find(|record| record.kid == signer.key_id()) {
                Some(record) if !record.state(now).is_alive() => {
                    tracing::warn!(kid = signer.key_id(), "a key that was revoked or has retired is removed");
                    files::remove(&path, None)?;
                    continue;
                }
                Some(_) => {}
                None => {
                    let longest = rotation.longest.seconds();
                    adopt(&mut known, purpose, &*signer, first.contains(&purpose), longest, now);
                }
            }
            files.insert(signer.key_id().to_owned(), (path, signer));
        }
        let held = Held { rotation, records: known, files, unsaved: true };
        let ring = ArcSwap::from_pointee(held.ring(now));
        Ok(Self { directory: directory.to_owned(), records, entropy, ring, held: Mutex::new(held) })
    }

    /// The ring of this moment.
    #[must_use]
    pub fn ring(&self) -> Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// What is known of every key, in the order of purpose, algorithm and time.
    pub async fn list(&self) -> Vec<KeyRecord> {
        let mut records = self.held.lock().await.records.clone();
        records.sort_by_key(|record| (record.purpose, record.algorithm, record.signs_from, record.kid.clone()));
        records
    }

    /// Follows another configuration.
    ///
    /// # Errors
    /// [`KeyError`] when a key that it needs cannot be made.
    pub async fn follow(&self, rotation: Rotation, now: Timestamp) -> Result<(), KeyError> {
        let mut held = self.held.lock().await;
        held.rotation = rotation;
        self.tend_held(&mut held, now).await
    }

    /// Does what is due at `now`: makes a key that is missing, a successor for one whose time comes, and removes what has
    /// retired. Cheap where nothing is due.
    ///
    /// # Errors
    /// [`KeyError`]; what there is goes on as it was.
    pub async fn tend(&self, now: Timestamp) -> Result<(), KeyError> {
        let mut held = self.held.lock().await;
        self.tend_held(&mut held, now).await
    }

    /// Makes a successor for the key that signs `purpose` with `algorithm`: published now, signing when everyone can have
    /// it. Where one is published already, that is the one.
    ///
    /// # Errors
    /// [`KeyError`] when it cannot be made or recorded.
    pub async fn rotate(&self, purpose: Purpose, algorithm: Algorithm, now: Timestamp) -> Result<KeyRecord, KeyError> {
        let mut held = self.held.lock().await;
        let waiting =
            |record: &&KeyRecord| is_of(record, purpose, algorithm) && record.state(now) == KeyState::Published;
        if let Some(waiting) = held.records.iter().find(waiting) {
            return Ok(waiting.clone());
        }
        let from = if held.current(purpose, algorithm).is_some() { now.plus(PUBLISHED_BEFORE_USE) } else { now };
        let made = self.make(&mut held, purpose, algorithm, from, now).await?;
        self.keep(&mut held, now).await?;
        Ok(made)
    }

    /// Drops the key `kid`, which is compromised: it signs and verifies nothing from now on, and another one signs at once.
    /// What it signed is ended by the revocation log, not here.
    ///
    /// # Errors
    /// [`KeyError::Unknown`], or [`KeyError`] when that cannot be recorded for good.
    pub async fn revoke(&self, kid: &str, now: Timestamp) -> Result<KeyRecord, KeyError> {
        let mut held = self.held.lock().await;
        let unknown = || KeyError::Unknown(kid.to_owned());
        let record = held.records.iter_mut().find(|record| record.kid == kid).ok_or_else(unknown)?;
        let (purpose, algorithm, state) = (record.purpose, record.algorithm, record.state(now));
        record.revoked = record.revoked.or(Some(now));
        let revoked = record.clone();
        held.unsaved = true;
        let was_needed = matches!(state, KeyState::Active | KeyState::Published);
        // Dropped before anything that can fail.
        self.ring.store(Arc::new(held.ring(now)));
        if was_needed && held.active(purpose, algorithm, now).is_none() {
            match held
                .records
                .iter_mut()
                .find(|record| is_of(record, purpose, algorithm) && record.state(now) == KeyState::Published)
            {
                // Nobody can have waited for it: what signs has gone.
                Some(successor) => successor.signs_from = now,
                None => drop(self.make(&mut held, purpose, algorithm, now, now).await?),
            }
        }
        self.keep(&mut held, now).await?;
        if let Some((path, _)) = held.files.remove(kid) {
            files::remove(&path, None)?;
        }
        Ok(revoked)
    }

    async fn tend_held(&self, held: &mut Held, now: Timestamp) -> Result<(), KeyError> {
        let before = held.records.clone();
        for (purpose, algorithm) in held.wanted() {
            match held.current(purpose, algorithm).map(|current| current.signs_from) {
                None => drop(self.make(held, purpose, algorithm, now, now).await?),
                Some(since) => {
                    let due = held
                        .rotation
                        .every
                        .is_some_and(|every| since.plus(every.seconds() - PUBLISHED_BEFORE_USE) <= now && since <= now);
                    if due {
                        self.make(held, purpose, algorithm, now.plus(PUBLISHED_BEFORE_USE), now).await?;
                    }
                }
            }
        }
        let longest = held.rotation.longest.seconds();
        for record in &mut held.records {
            // A target that lives longer than before: the key has to stay for what it signs from now on.
            if record.purpose == Purpose::Tokens && record.signs_until.is_none_or(|until| until > now) {
                record.longest = record.longest.max(longest);
            }
        }
        held.records.retain(|record| !record.is_over(now));
        held.unsaved |= held.records != before;
        let retired: Vec<String> = held
            .files
            .keys()
            .filter(|kid| held.records.iter().any(|record| record.kid == **kid && !record.state(now).is_alive()))
            .cloned()
            .collect();
        if held.unsaved || !retired.is_empty() {
            let gone: Vec<_> = retired.iter().filter_map(|kid| Some((kid, held.files.remove(kid)?))).collect();
            self.keep(held, now).await?;
            for (kid, (path, signer)) in gone {
                let sealed = held.records.iter().any(|record| {
                    record.kid == *kid && record.purpose == Purpose::Checkpoints && record.revoked.is_none()
                });
                let public_half = serde_json::to_string(signer.public_jwk()).ok().filter(|_| sealed);
                files::remove(&path, public_half.as_deref())?;
                tracing::info!(%kid, "key retired");
            }
        }
        Ok(())
    }

    async fn make(
        &self,
        held: &mut Held,
        purpose: Purpose,
        algorithm: Algorithm,
        signs_from: Timestamp,
        now: Timestamp,
    ) -> Result<KeyRecord, KeyError> {
        let (directory, entropy) = (self.directory.clone(), Arc::clone(&self.entropy));
        let made = tokio::task::spawn_blocking(move || files::create(&directory, purpose, algorithm, &*entropy)).await;
        let KeyFile { path, signer, .. } = made.map_err(|fault| StoreError::Io(fault.to_string()))??;
        let kid = signer.key_id().to_owned();
        for current in held.records.iter_mut().filter(|record| is_of(record, purpose, algorithm)) {
            current.signs_until = current.signs_until.or(Some(signs_from));
        }
        let longest = if purpose == Purpose::Tokens { held.rotation.longest.seconds() } else { ANSWERS_LIVE };
        let record = KeyRecord {
            kid: kid.clone(),
            purpose,
            algorithm,
            published: now,
            signs_from,
            signs_until: None,
            longest,
            revoked: None,
        };
        tracing::info!(%kid, %purpose, %algorithm, %signs_from, "key made");
        held.records.push(record.clone());
        held.unsaved = true;
        held.files.insert(kid, (path, signer));
        Ok(record)
    }

    /// Records for good what was changed, and lets everyone see it.
    async fn keep(&self, held: &mut Held, now: Timestamp) -> Result<(), KeyError> {
        self.records.write(&held.records).await?;
        held.unsaved = false;
        self.ring.store(Arc::new(held.ring(now)));
        Ok(())
    }

    /// The public keys that the audit log's checkpoints are verified with, those that have retired too: a JWK Set.
    ///
    /// # Errors
    /// [`KeyFileError`] names the file.
    pub fn checkpoint_keys(directory: &Path) -> Result<String, KeyFileError> {
        let active = files::read(directory)?.into_iter().filter(|file| file.purpose == Purpose::Checkpoints);
        let active = active.filter_map(|file| serde_json::to_string(file.signer.public_jwk()).ok());
        let all: Vec<String> = active.chain(files::retired_checkpoint_keys(directory)?).collect();
        Ok(format!("{{\"keys\":[{}]}}", all.join(",")))
    }

    /// The keys for tokens in `directory`, as `/jwks` has them: for an operator who looks at a token.
    ///
    /// # Errors
    /// [`KeyFileError`] names the file.
    pub fn token_keys(directory: &Path) -> Result<KeyRing, KeyFileError> {
        let epoch = Timestamp::default();
        let known = files::read(directory)?.into_iter().filter(|file| file.purpose == Purpose::Tokens);
        let ring = known.map(|file| {
            let record = KeyRecord {
                kid: file.signer.key_id().to_owned(),
                purpose: file.purpose,
                algorithm: file.signer.algorithm(),
                published: epoch,
                signs_from: epoch,
                signs_until: None,
                longest: 0,
                revoked: None,
            };
            (record, file.signer)
        });
        Ok(KeyRing::new(ring.collect()))
    }
}

impl Held {
    /// A key for each algorithm of tokens, and one for each other purpose.
    fn wanted(&self) -> Vec<(Purpose, Algorithm)> {
        let tokens = self.rotation.algorithms.iter().map(|algorithm| (Purpose::Tokens, *algorithm));
        let others = [Purpose::Checkpoints, Purpose::Introspection].map(|purpose| (purpose, Algorithm::Es256));
        tokens.chain(others).collect()
    }

    /// The last of its line, which signs or will.
    fn current(&self, purpose: Purpose, algorithm: Algorithm) -> Option<&KeyRecord> {
        let last = |record: &&KeyRecord| {
            is_of(record, purpose, algorithm) && record.signs_until.is_none() && record.revoked.is_none()
        };
        self.records.iter().find(last)
    }

    fn active(&self, purpose: Purpose, algorithm: Algorithm, now: Timestamp) -> Option<&KeyRecord> {
        self.records.iter().find(|record| is_of(record, purpose, algorithm) && record.state(now) == KeyState::Active)
    }

    fn ring(&self, now: Timestamp) -> KeyRing {
        let alive = self.records.iter().filter(|record| record.state(now).is_alive());
        let with_signer = alive.filter_map(|record| {
            let (_, signer) = self.files.get(&record.kid)?;
            Some((record.clone(), Arc::clone(signer)))
        });
        KeyRing::new(with_signer.collect())
    }
}

fn is_of(record: &KeyRecord, purpose: Purpose, algorithm: Algorithm) -> bool {
    record.purpose == purpose && record.algorithm == algorithm
}

/// Records a key that an operator put there. The `first` of a purpose sign at once, the last by name of each algorithm; one
/// that comes later is published before it signs.
fn adopt(known: &mut Vec<KeyRecord>, purpose: Purpose, signer: &dyn Signer, first: bool, longest: i64, now: Timestamp) {
    let signs_from = if first { now } else { now.plus(PUBLISHED_BEFORE_USE) };
    let line = |record: &&mut KeyRecord| is_of(record, purpose, signer.algorithm()) && record.signs_until.is_none();
    let alone = known.iter_mut().filter(line).map(|record| record.signs_until = Some(signs_from)).count() == 0;
    known.push(KeyRecord {
        kid: signer.key_id().to_owned(),
        purpose,
        algorithm: signer.algorithm(),
        published: now,
        signs_from: if alone { now } else { signs_from },
        signs_until: None,
        longest: if purpose == Purpose::Tokens { longest } else { ANSWERS_LIVE },
        revoked: None,
    });
}
