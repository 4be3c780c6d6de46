//! From entries of the configuration to the parts of a broker.

use super::{Installation, StartError, install_crypto};
use crate::assertion::{FetchError, Fetcher, Issuer, IssuerKeys, Issuers, KeySource};
use crate::client::{CLIENT_ALGORITHMS, Client, Clients, Method};
use crate::config::{self, ClientMethod, KeyPlace};
use crate::domain::{Clock, DigestKey, Entropy, Lifetime, NoEntropy, Scopes, Target, Targets};
use crate::exchange::Snapshot;
use crate::files;
use crate::signing::{
    KeyBackendError, KeyBackends, KeyFiles, KeyParts, KeyRing, Rotation, SealingKeys, SigningKeysError,
};
use crate::store::KeyRecords;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

impl Installation {
    /// The configured targets.
    #[must_use]
    pub fn targets(&self) -> Targets {
        let mut targets = Targets::default();
        for config::TargetEntry { target, resources } in &self.config.targets {
            // The configuration has refused a name that is taken.
            let _ = targets.register(target.clone(), resources);
        }
        let Some(tasks) = self.config.tasks else { return targets };
        match self.config.server.issuer.parse() {
            Ok(audience) => targets.with_own(Target {
                audience,
                scopes: Scopes::default(),
                max_lifetime: tasks.max_deadline,
                algorithm: self.config.signing.algorithm,
                client_required: false,
                status_list: false,
                owner: None,
                environment: None,
                sensitivity: None,
            }),
            // The configuration has refused an issuer that is no name.
            Err(_) => targets,
        }
    }

    /// Returns the configured clients. Keys of clients that sign are not read yet, except those that `before` had.
    ///
    /// # Errors
    /// [`StartError::Client`] when they cannot be fetched at all.
    pub fn clients(&self, clock: &Arc<dyn Clock>, before: Option<(&Self, &Clients)>) -> Result<Clients, StartError> {
        install_crypto();
        let (mut fetchers, mut clients) = (Fetchers::default(), Clients::default());
        for entry in &self.config.clients {
            let held = before.filter(|(old, _)| {
                old.config.refresh == self.config.refresh && old.config.clients.iter().any(|other| other.is_same(entry))
            });
            let held = held.and_then(|(_, clients)| clients.find(entry.id.as_str())).map(|client| &client.method);
            let config::ClientEntry { id, method, introspects } = entry.clone();
            let method = match method {
                ClientMethod::SecretBasic(digest) => Method::SecretBasic(digest),
                ClientMethod::SecretPost(digest) => Method::SecretPost(digest),
                ClientMethod::Federated { issuer, subject } => Method::Federated { issuer, subject },
                ClientMethod::PrivateKeyJwt(_) if let Some(Method::PrivateKeyJwt(keys)) = held => {
                    Method::PrivateKeyJwt(Arc::clone(keys))
                }
                ClientMethod::PrivateKeyJwt(place) => {
                    let source = fetchers.source(&place, "", false, None);
                    let source = source.map_err(|fault| StartError::Client(id.to_string(), fault.to_string()))?;
                    let algorithms = CLIENT_ALGORITHMS.to_vec();
                    let keys = IssuerKeys::new(source, algorithms, self.config.refresh, Arc::clone(clock));
                    Method::PrivateKeyJwt(Arc::new(keys))
                }
            };
            clients.add(Client { id, method, introspects });
        }
        Ok(clients)
    }

    /// Returns the configured issuers. Their keys are not read yet, except those that `before` had under the same
    /// entry.
    ///
    /// # Errors
    /// [`StartError::Issuer`] when the certificates to trust cannot be read.
    pub fn issuers(&self, clock: &Arc<dyn Clock>, before: Option<(&Self, &Issuers)>) -> Result<Issuers, StartError> {
        install_crypto();
        let (mut fetchers, mut issuers) = (Fetchers::default(), Issuers::within(self.config.limits.assertion));
        for entry in &self.config.issuers {
            let wrong = |fault| StartError::Issuer(entry.name.to_string(), fault);
            let held = before
                .filter(|(old, _)| old.config.issuers.contains(entry) && old.config.refresh == self.config.refresh);
            let held = held.and_then(|(_, issuers)| issuers.iter().find(|issuer| issuer.name == entry.name));
            let keys = match held {
                Some(issuer) => Arc::clone(&issuer.keys),
                None => {
                    let source = fetchers.source_of(entry).map_err(wrong)?;
                    Arc::new(IssuerKeys::new(source, entry.algorithms.clone(), self.config.refresh, Arc::clone(clock)))
                }
            };
            issuers.add(Arc::new(issuer(entry.clone(), keys)));
        }
        Ok(issuers)
    }

    /// The rules of key rotation: the algorithms that need a key, how long a key signs, and the longest life of a
    /// token.
    pub(super) fn rotation(&self) -> Rotation {
        let mut algorithms = vec![self.config.signing.algorithm];
        for config::TargetEntry { target, .. } in &self.config.targets {
            if !algorithms.contains(&target.algorithm) {
                algorithms.push(target.algorithm);
            }
        }
        let longest = self.config.targets.iter().map(|entry| entry.target.max_lifetime).max();
        let longest = longest.max(self.config.tasks.map(|tasks| tasks.max_deadline));
        let every = Some(self.config.signing.rotate_every);
        Rotation { every, algorithms, longest: longest.unwrap_or(Lifetime::SECOND) }
    }

    /// The backends of the private keys.
    fn backends(&self, entropy: &Arc<dyn Entropy>) -> KeyBackends {
        let files = || KeyFiles::new(&self.config.signing.directory, Arc::clone(entropy));
        self.backends.clone().unwrap_or_else(|| KeyBackends::one(Arc::new(files())))
    }

    /// The parts of the keys. The directory of key files is made where it is missing.
    pub(super) fn key_parts(
        &self,
        records: Arc<dyn KeyRecords>,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<KeyParts, SigningKeysError> {
        if self.backends.is_none() {
            let files = KeyFiles::new(&self.config.signing.directory, Arc::clone(entropy));
            files.ensure().map_err(KeyBackendError::from)?;
        }
        let (backends, clock, entropy) = (self.backends(entropy), Arc::clone(clock), Arc::clone(entropy));
        Ok(KeyParts { backends, records, entropy, clock })
    }

    /// The keys for tokens, as `/jwks` has them; none before the first start.
    ///
    /// # Errors
    /// [`KeyBackendError`] names the file or the backend.
    pub async fn token_keys(&self, entropy: &Arc<dyn Entropy>) -> Result<KeyRing, KeyBackendError> {
        if self.backends.is_none() && !self.config.signing.directory.exists() {
            return Ok(KeyRing::new(Vec::new(), Vec::new()));
        }
        self.backends(entropy).token_keys().await
    }

    /// The keys that verify the checkpoints of the audit log.
    ///
    /// # Errors
    /// [`KeyBackendError`] names the file or the backend.
    pub async fn checkpoint_keys(&self, entropy: &Arc<dyn Entropy>) -> Result<SealingKeys, KeyBackendError> {
        self.backends(entropy).checkpoint_keys().await
    }

    /// The longest time for which a task may be idle.
    pub(super) fn task_idle(&self) -> Lifetime {
        self.config.tasks.map_or(Lifetime::SECOND, |tasks| tasks.idle)
    }

    /// Everything that a reload replaces, with pinned keys read.
    ///
    /// # Errors
    /// [`StartError`] for the first part that cannot be used.
    pub(super) async fn snapshot(
        &self,
        clock: &Arc<dyn Clock>,
        before: Option<(&Self, &Snapshot)>,
    ) -> Result<Snapshot, StartError> {
        let policy = self.policy()?;
        let issuers = self.issuers(clock, before.map(|(old, snapshot)| (old, &snapshot.issuers)))?;
        let clients = self.clients(clock, before.map(|(old, snapshot)| (old, &snapshot.clients)))?;
        for issuer in issuers.iter().filter(|issuer| !issuer.keys.source().is_remote()) {
            let wrong = |fault| StartError::IssuerKeys(issuer.name.to_string(), fault);
            issuer.keys.refresh().await.map_err(wrong)?;
        }
        for keys in clients.keys().filter(|keys| !keys.source().is_remote()) {
            let wrong = |fault| StartError::ClientKeys(keys.source().describe(), fault);
            keys.refresh().await.map_err(wrong)?;
        }
        let issuer = self.config.server.issuer.clone();
        let (targets, task_idle, loaded) = (self.targets(), self.task_idle(), clock.now());
        Ok(Snapshot { issuer, issuers, targets, clients, policy, task_idle, loaded })
    }
}

fn issuer(entry: config::IssuerEntry, keys: Arc<IssuerKeys>) -> Issuer {
    Issuer {
        name: entry.name,
        kind: entry.kind,
        signer: entry.signer,
        attributes: entry.attributes,
        audiences: entry.audiences,
        accept: entry.accept,
        algorithms: entry.algorithms,
        max_lifetime: entry.max_lifetime,
        single_use: entry.single_use,
        client_required: entry.client_required,
        workload: entry.workload,
        owner: entry.owner,
        environment: entry.environment,
        keys,
    }
}

/// HTTP clients that issuers share: one for public addresses alone, and one for private ones too. An entry with a
/// `ca_file` gets a client of its own.
#[derive(Default)]
struct Fetchers {
    public: Option<Fetcher>,
    private: Option<Fetcher>,
}

impl Fetchers {
    fn source_of(&mut self, entry: &config::IssuerEntry) -> Result<KeySource, FetchError> {
        self.source(&entry.keys, &entry.signer.to_string(), entry.allow_private_addresses, entry.ca_file.as_deref())
    }

    fn source(
        &mut self,
        place: &KeyPlace,
        iss: &str,
        private: bool,
        ca: Option<&Path>,
    ) -> Result<KeySource, FetchError> {
        Ok(match place {
            KeyPlace::File(path) => KeySource::File(path.clone()),
            KeyPlace::Bundle(path) => KeySource::Bundle(path.clone()),
            KeyPlace::Url(url) => KeySource::Url(self.fetcher(private, ca)?, url.clone()),
            KeyPlace::Discovery => KeySource::Discovery(self.fetcher(private, ca)?, iss.to_owned()),
        })
    }

    fn fetcher(&mut self, private: bool, ca: Option<&Path>) -> Result<Fetcher, FetchError> {
        if let Some(ca) = ca {
            return Fetcher::new(private, Some(ca));
        }
        let shared = if private { &mut self.private } else { &mut self.public };
        match shared {
            Some(fetcher) => Ok(fetcher.clone()),
            None => Ok(shared.insert(Fetcher::new(private, None)?).clone()),
        }
    }
}

/// The name of this replica, made once and kept beside its store: decision ids begin with it.
pub(super) fn replica(store: &Path, entropy: &dyn Entropy) -> Result<String, StartError> {
    let path = store.join("replica");
    files::private_directory(store).map_err(|fault| StartError::Kept(store.to_owned(), fault.to_string()))?;
    let name = read_or_make(&path, || {
        let mut random = [0; 6];
        entropy.fill(&mut random)?;
        Ok(URL_SAFE_NO_PAD.encode(random).chars().take(6).collect::<String>().into_bytes())
    })?;
    let letters = |name: &String| {
        name.len() == 6 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    String::from_utf8(name).ok().filter(letters).ok_or_else(|| {
        StartError::Kept(path, "it holds no name of six letters, digits, `-` or `_`; remove it".to_owned())
    })
}

/// The key of the digests that stand for tokens in the audit log, made once and kept beside the store.
pub(super) fn digest_key(store: &Path, entropy: &dyn Entropy) -> Result<DigestKey, StartError> {
    let path = store.join("digest.key");
    let key = read_or_make(&path, || {
        let mut random = [0; 32];
        entropy.fill(&mut random)?;
        Ok(random.to_vec())
    })?;
    let key = Zeroizing::new(key);
    let key: Result<&[u8; 32], _> = key.as_slice().try_into();
    key.map(DigestKey::new).map_err(|_| {
        StartError::Kept(path, "it does not hold 32 bytes; put it back from a backup, or remove it".to_owned())
    })
}

fn read_or_make(path: &PathBuf, make: impl FnOnce() -> Result<Vec<u8>, NoEntropy>) -> Result<Vec<u8>, StartError> {
    let fault = |fault: io::Error| StartError::Kept(path.clone(), fault.to_string());
    match fs::read(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let made = make()?;
            files::replace(path, &made).map_err(fault)?;
            Ok(made)
        }
        read => read.map_err(fault),
    }
}
