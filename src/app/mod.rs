//! The composition root: from a configuration to a broker that serves. The only place that names concrete backends, and
//! the only one that imports `config`.

mod jobs;
mod offline;
mod parts;
mod running;
mod stores;

pub use jobs::{JOBS, JobRow};
pub use running::Listening;

use crate::assertion::{FetchError, IssuerKind, KeyFault, OwnTokens};
use crate::audit::AuditError;
use crate::config::{self, Config, Problems};
use crate::control::{Control, ControlError};
use crate::domain::{AttributeRecord, Clock, Entropy, MAX_SKEW, NoEntropy, Timestamp};
use crate::exchange::{Broker, ClientAuth, Mint, Parts};
use crate::http::{Certificate, TlsError, UseCases};
use crate::policy::{self, LoadError, Policy};
use crate::rates::RateLimiter;
use crate::revocation::{Revocations, Sharing};
use crate::signing::{KeyBackends, Keys, SigningKeysError};
use crate::store::StoreError;
use crate::telemetry::{Metrics, Traces};
use arc_swap::ArcSwap;
use parts::replica;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stores::Stores;

/// The build time of this program, in seconds since 1970.
const BUILT: &str = env!("COUNTERSIGN_BUILT");

/// An installation: a configuration, and everything that it names.
#[derive(Debug, Clone)]
pub struct Installation {
    config: Config,
    /// The path of the configuration file.
    path: PathBuf,
    /// The backends of the private keys, if they are not files in `signing.directory`.
    backends: Option<KeyBackends>,
}

/// Why a broker does not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policies cannot be loaded.
    #[error("{0}")]
    Policy(#[from] LoadError),
    /// The signing keys cannot be used.
    #[error(transparent)]
    Keys(#[from] SigningKeysError),
    /// The embedded store cannot be used.
    #[error("the store in `{0}`: {1}")]
    Store(PathBuf, StoreError),
    /// The shared store cannot be used.
    #[error("the shared store at {0}: {1}")]
    SharedStore(String, StoreError),
    /// The audit log cannot be used.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// An issuer's pinned keys.
    #[error("issuer `{0}`: {1}")]
    IssuerKeys(String, KeyFault),
    /// The pinned keys of a client.
    #[error("the client keys in `{0}`: {1}")]
    ClientKeys(String, KeyFault),
    /// A client's connection settings.
    #[error("client `{0}`: {1}")]
    Client(String, String),
    /// An issuer's connection settings.
    #[error("issuer `{0}`: {1}")]
    Issuer(String, FetchError),
    /// The certificate cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener cannot be opened.
    #[error("`{0}` cannot be listened on: {1}; choose another address in the configuration, or stop what is there")]
    Listen(SocketAddr, io::Error),
    /// The control socket cannot be opened.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The source of randomness failed.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// A file beside the store cannot be used.
    #[error("`{0}` cannot be used: {1}")]
    Kept(PathBuf, String),
    /// The clock stands before this program was built.
    #[error("the clock says {0}, and this program was built later, at {1}; correct the clock")]
    ClockBehind(Timestamp, Timestamp),
}

impl Installation {
    /// Reads the configuration at `path`.
    ///
    /// # Errors
    /// Every problem of it at once.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Config::read(path).map(|config| Self { config, path: path.to_owned(), backends: None })
    }

    /// Returns the installation with its private keys in `backends` instead of `signing.directory`.
    #[must_use]
    pub fn with_key_backends(self, backends: KeyBackends) -> Self {
        Self { backends: Some(backends), ..self }
    }

    /// The directory of the audit log.
    #[must_use]
    pub fn audit(&self) -> &Path {
        &self.config.audit.path
    }

    /// The directory of the signing keys.
    #[must_use]
    pub fn keys(&self) -> &Path {
        &self.config.signing.directory
    }

    /// The control socket.
    #[must_use]
    pub fn control(&self) -> &Path {
        &self.config.server.control
    }

    /// Our issuer identifier.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.config.server.issuer
    }

    /// Loads policies.
    ///
    /// # Errors
    /// [`LoadError`] with every problem.
    pub fn policy(&self) -> Result<Policy, LoadError> {
        Policy::load(&self.config.policies, &self.attribute_records())
    }

    /// The schema that the policies of this configuration are validated against.
    #[must_use]
    pub fn policy_schema(&self) -> String {
        policy::schema(&self.attribute_records())
    }

    /// The attributes that policy sees: of each kind, and of each entry that declares its own. A policy about a kind
    /// stays good when the last issuer of the kind is removed.
    fn attribute_records(&self) -> Vec<Arc<AttributeRecord>> {
        let kinds = IssuerKind::all().iter().filter_map(|kind| kind.attributes.clone());
        let records = kinds.chain(self.config.issuers.iter().filter_map(|issuer| issuer.attributes.clone()));
        let by_name: BTreeMap<_, _> = records.map(|record| (Arc::clone(&record.name), record)).collect();
        by_name.into_values().collect()
    }

    /// Checks that the certificate, where there is one, can be served.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn certificate(&self) -> Result<Option<Arc<Certificate>>, TlsError> {
        let tls = self.config.server.tls.as_ref();
        tls.map(|tls| Certificate::load(&tls.certificate, &tls.key).map(Arc::new)).transpose()
    }

    /// Everything as it is resolved, without what is secret.
    #[must_use]
    pub fn show(&self) -> Value {
        self.config.show()
    }

    /// The settings of traces, if traces are exported.
    #[must_use]
    pub fn traces(&self) -> Option<Traces> {
        let telemetry = self.config.telemetry.clone()?;
        Some(Traces { endpoint: telemetry.endpoint, sample: telemetry.sample })
    }

    /// Names the settings that differ in `next` and cannot change while a broker runs.
    fn needs_restart(&self, next: &Self) -> Vec<&'static str> {
        let (own, other) = (&self.config, &next.config);
        let same = [
            ("`[server]`", own.server == other.server),
            ("`[server.limits]`", own.limits == other.limits),
            ("`[store]`", own.store == other.store),
            ("`signing.directory`", own.signing.directory == other.signing.directory),
            ("`[audit]`", own.audit == other.audit),
            ("`[telemetry]`", own.telemetry == other.telemetry),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }

    /// Puts the broker together, with pinned keys read and the others still to be fetched; nothing listens.
    ///
    /// # Errors
    /// [`StartError`] for the first part that cannot be used.
    pub async fn assemble(&self, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<UseCases, StartError> {
        let now = clock.now();
        let built = BUILT.parse().ok().and_then(Timestamp::new).unwrap_or_default();
        if built.since(now) > MAX_SKEW {
            return Err(StartError::ClockBehind(now, built));
        }
        let snapshot = self.snapshot(&clock, None).await?;
        let replica = replica(&self.config.store.path, &*entropy)?;
        let Stores { records, heads, log, tasks, reservations, max_staleness } = self.stores(&replica, now)?;
        // Before the keys: whether the store is fit to hold anything is looked at first.
        let sharing = max_staleness.map(|max_staleness| Sharing { max_staleness, clock: Arc::clone(&clock) });
        let revocations = Revocations::load(log, sharing, now).await;
        let revocations = Arc::new(revocations.map_err(|fault| self.store_fault(fault))?);
        let (keys, signer) = Keys::open(self.key_parts(records, &clock, &entropy)?, self.rotation(), now).await?;
        let audit = self.audit_log(&keys, heads, &*entropy, now).await?;
        let issuer = || snapshot.issuer.clone();
        let own_tokens = OwnTokens::new(issuer(), Arc::clone(&keys), Arc::clone(&revocations));
        let client_auth =
            ClientAuth::new(issuer(), Arc::clone(&revocations), Arc::clone(&reservations), Arc::clone(&clock));
        let (mint, rates) = (Mint::new(issuer(), signer), RateLimiter::new(self.config.limits.rates, &clock));
        let broker = Broker::new(Parts {
            replica,
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            own_tokens: Arc::new(own_tokens),
            client_auth,
            mint,
            revocations,
            reservations,
            tasks,
            audit,
            clock,
            entropy,
            metrics: Arc::new(Metrics::new()),
            rates: Arc::new(rates),
        });
        Ok(UseCases::new(&Arc::new(broker), &keys))
    }

    /// Puts the broker together and opens its listeners.
    ///
    /// # Errors
    /// [`StartError`] for the first part that cannot be used.
    pub async fn listen(&self, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Listening, StartError> {
        let certificate = self.certificate()?;
        let bind = |address| TcpListener::bind(address).map_err(|fault| StartError::Listen(address, fault));
        let public = bind(self.config.server.listen)?;
        let management = self.config.server.management.map(bind).transpose()?;
        let use_cases = Arc::new(self.assemble(Arc::clone(&clock), entropy).await?);
        let control = Control::bind(&self.config.server.control)?;
        let limits = self.config.limits.http;
        let installation = self.clone();
        Ok(Listening { use_cases, public, management, control, certificate, limits, installation, clock })
    }
}

/// The JSON Schema of the configuration.
#[must_use]
pub fn configuration_schema() -> Value {
    Config::schema()
}

/// Writes the result of [`Installation::show`] as the configuration is written.
#[must_use]
pub fn as_toml(shown: &Value) -> String {
    config::as_toml(shown)
}

/// TLS of every kind here is AWS-LC's. Done once a process; a second time changes nothing.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
