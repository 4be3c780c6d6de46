//! The composition root: from a configuration to a broker that serves. The only place that names concrete backends, and
//! the only one that imports `config`.

use crate::assertion::{Accept, FetchError, Fetcher, Issuer, IssuerKeys, Issuers, KeyFault, KeySource, Kind, Refresh};
use crate::audit::{AuditError, AuditLog};
use crate::client::{Client, Clients};
use crate::config::{self, Config, IssuerKind, KeyPlace, Problems};
use crate::control::{self, Control, ControlError};
use crate::domain::{Clock, DecisionId, Entropy, NoEntropy, Target, Targets, TokenId};
use crate::exchange::{self, Answer, Broker, Parts, Snapshot};
use crate::http::{self, Certificate, Limits, TlsError};
use crate::policy::{LoadError, Policy};
use crate::revocation::Revocations;
use crate::signing::{self, KeyFileError, KeyRing};
use crate::store::{Embedded, FirstUses, RevocationLog, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an operator installed: a configuration, and with it everything that it names.
#[derive(Debug, Clone)]
pub struct Installation {
    config: Config,
}

/// Why a broker does not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Policies.
    #[error("{0}")]
    Policy(#[from] LoadError),
    /// Signing keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The store.
    #[error("the store in `{0}`: {1}")]
    Store(PathBuf, StoreError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// An issuer's pinned keys.
    #[error("issuer `{0}`: {1}")]
    IssuerKeys(String, KeyFault),
    /// An issuer's connection settings.
    #[error("issuer `{0}`: {1}")]
    Issuer(String, FetchError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener.
    #[error("`{0}` cannot be listened on: {1}; choose another address in the configuration, or stop what is there")]
    Listen(SocketAddr, io::Error),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// This replica's name.
    #[error("`{0}` cannot be used: {1}")]
    Replica(PathBuf, String),
}

/// A broker that listens, and does not serve yet.
pub struct Listening {
    /// The broker.
    pub broker: Arc<Broker>,
    public: TcpListener,
    management: Option<TcpListener>,
    control: Control,
    certificate: Option<Arc<Certificate>>,
    limits: Limits,
    workers: usize,
}

impl Installation {
    /// Reads the configuration at `path`.
    ///
    /// # Errors
    /// Every problem of it at once.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Config::read(path).map(|config| Self { config })
    }

    /// The directory of the audit log.
    #[must_use]
    pub fn audit(&self) -> &Path {
        &self.config.audit
    }

    /// The directory of the signing keys.
    #[must_use]
    pub fn keys(&self) -> &Path {
        &self.config.keys
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
        Policy::load(&self.config.policies)
    }

    /// Checks that the certificate, where there is one, can be served.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn certificate(&self) -> Result<Option<Arc<Certificate>>, TlsError> {
        let tls = self.config.server.tls.as_ref();
        tls.map(|tls| Certificate::load(&tls.certificate, &tls.key).map(Arc::new)).transpose()
    }

    /// The configured targets.
    #[must_use]
    pub fn targets(&self) -> Targets {
        let mut targets = Targets::default();
        for target in &self.config.targets {
            let config::Target { audience, resources, scopes, max_lifetime, owner, environment, sensitivity } =
                target.clone();
            let target = Target { audience, scopes, max_lifetime, owner, environment, sensitivity };
            // The configuration has refused a name that is taken.
            let _ = targets.register(target, &resources);
        }
        targets
    }

    /// The configured clients.
    #[must_use]
    pub fn clients(&self) -> Clients {
        let mut clients = Clients::default();
        for config::Client { id, secret_digest, introspects } in self.config.clients.clone() {
            clients.add(Client { id, secret_digest, introspects });
        }
        clients
    }

    /// The configured issuers. Their keys are not read yet.
    ///
    /// # Errors
    /// [`StartError::Issuer`] when the certificates to trust cannot be read.
    pub fn issuers(&self, clock: &Arc<dyn Clock>) -> Result<Issuers, StartError> {
        install_crypto();
        let mut fetchers = Fetchers::default();
        let mut issuers = Issuers::default();
        for issuer in &self.config.issuers {
            let wrong = |fault| StartError::Issuer(issuer.name.to_string(), fault);
            let source = fetchers.source(issuer).map_err(wrong)?;
            issuers.add(Arc::new(self.issuer_of(issuer.clone(), source, clock)));
        }
        Ok(issuers)
    }

    fn issuer_of(&self, issuer: config::Issuer, source: KeySource, clock: &Arc<dyn Clock>) -> Issuer {
        let config::Refresh { every, max_stale, cooldown } = self.config.refresh;
        let refresh = Refresh { every, max_stale, cooldown };
        let keys = IssuerKeys::new(source, issuer.algorithms.clone(), refresh, Arc::clone(clock));
        let kind = match issuer.kind {
            IssuerKind::Oidc { issuer, tags, .. } => Kind::Oidc { issuer, tags },
            IssuerKind::GitHubActions { issuer, .. } => Kind::GitHubActions { issuer },
            IssuerKind::Spiffe { trust_domain, .. } => Kind::Spiffe { trust_domain },
        };
        Issuer {
            name: issuer.name,
            kind,
            audiences: issuer.audiences,
            accept: Accept::new(issuer.accept),
            algorithms: issuer.algorithms,
            max_lifetime: issuer.max_lifetime,
            single_use: issuer.single_use,
            workload: issuer.workload,
            owner: issuer.owner,
            environment: issuer.environment,
            keys: Arc::new(keys),
        }
    }

    /// Puts the broker together, with pinned keys read and the others still to be fetched; nothing listens.
    ///
    /// # Errors
    /// [`StartError`] for the first part that cannot be used.
    pub async fn assemble(&self, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Broker, StartError> {
        let policy = self.policy()?;
        let keys: Arc<KeyRing> = Arc::new(signing::load_or_create(&self.config.keys, &*entropy)?);
        let store_fault = |fault| StartError::Store(self.config.store.clone(), fault);
        let store = Arc::new(Embedded::open(&self.config.store, clock.now()).map_err(store_fault)?);
        let audit = Arc::new(AuditLog::open(&self.config.audit)?);
        let issuers = self.issuers(&clock)?;
        for issuer in issuers.iter().filter(|issuer| !issuer.keys.source().is_remote()) {
            let wrong = |fault| StartError::IssuerKeys(issuer.name.to_string(), fault);
            issuer.keys.refresh().await.map_err(wrong)?;
        }
        let log: Arc<dyn RevocationLog> = Arc::clone(&store) as _;
        let revocations = Arc::new(Revocations::load(log, clock.now()).await.map_err(store_fault)?);
        let first_uses: Arc<dyn FirstUses> = store;
        let snapshot = Snapshot { issuers, targets: self.targets(), clients: self.clients(), policy };
        let replica = replica(&self.config.store, &*entropy)?;
        let issuer = self.config.server.issuer.clone();
        Ok(Broker::new(Parts { issuer, replica, snapshot, keys, revocations, first_uses, audit, clock, entropy }))
    }

    /// Ends the token `jti` in the store, where no broker runs. Needs neither policies nor issuers nor keys, so that what
    /// is wrong with them never stands in the way.
    ///
    /// # Errors
    /// [`StartError`] where store or audit log cannot be used.
    pub async fn revoke(
        &self,
        jti: &TokenId,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Answer<()>, StartError> {
        let store_fault = |fault| StartError::Store(self.config.store.clone(), fault);
        let now = clock.now();
        let store: Arc<dyn RevocationLog> = Arc::new(Embedded::open(&self.config.store, now).map_err(store_fault)?);
        let audit = Arc::new(AuditLog::open(&self.config.audit)?);
        let revocations = Arc::new(Revocations::load(store, now).await.map_err(store_fault)?);
        let mut random = [0; 12];
        entropy.fill(&mut random)?;
        let decision = DecisionId::new(&replica(&self.config.store, entropy)?, &URL_SAFE_NO_PAD.encode(random));
        Ok(exchange::revoke_by_id(jti, decision, &revocations, &audit, now).await)
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
        let broker = Arc::new(self.assemble(clock, entropy).await?);
        let control = Control::bind(&self.config.server.control)?;
        let config::Limits { body, head, uri, head_timeout, body_timeout, in_flight, connections } = self.config.limits;
        let (head_timeout, body_timeout) = (head_timeout.duration(), body_timeout.duration());
        let limits = Limits { body, head, uri, head_timeout, body_timeout, in_flight, connections };
        Ok(Listening { broker, public, management, control, certificate, limits, workers: self.config.server.workers })
    }
}

impl Listening {
    /// The address of the public listener.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.public.local_addr().ok()
    }

    /// Serves until `stop` ends; then what is being worked on may end too.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let Self { broker, public, management, control, certificate, limits, workers } = self;
        for issuer in broker.snapshot().issuers.iter() {
            tokio::spawn(Arc::clone(&issuer.keys).keep_fresh());
        }
        if let Some(certificate) = &certificate {
            tokio::spawn(Arc::clone(certificate).keep_current());
        }
        let management = management.map(|listener| http::management(&broker, listener)).transpose()?.map(tokio::spawn);
        let control = tokio::spawn(control::serve(control, Arc::clone(&broker)));
        let public = http::public(&broker, limits, workers, public, certificate.as_ref())?;
        let handle = public.handle();
        let serving = tokio::spawn(public);
        stop.await;
        http::stop(handle).await;
        control.abort();
        if let Some(management) = management {
            management.abort();
        }
        serving.await.map_err(io::Error::other)?
    }
}

/// TLS of every kind here is AWS-LC's. Done once a process; a second time changes nothing.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// HTTP clients, shared by the issuers that have the same settings.
#[derive(Default)]
struct Fetchers {
    public: Option<Fetcher>,
    private: Option<Fetcher>,
}

impl Fetchers {
    fn source(&mut self, issuer: &config::Issuer) -> Result<KeySource, FetchError> {
        let (iss, keys) = match &issuer.kind {
            IssuerKind::Spiffe { bundle_file, .. } => return Ok(KeySource::Bundle(bundle_file.clone())),
            IssuerKind::Oidc { issuer, keys, .. } | IssuerKind::GitHubActions { issuer, keys } => (issuer, keys),
        };
        Ok(match keys {
            KeyPlace::File(path) => KeySource::File(path.clone()),
            KeyPlace::Url(url) => KeySource::Url(self.fetcher(issuer)?, url.clone()),
            KeyPlace::Discovery => KeySource::Discovery(self.fetcher(issuer)?, iss.clone()),
        })
    }

    fn fetcher(&mut self, issuer: &config::Issuer) -> Result<Fetcher, FetchError> {
        let private = issuer.allow_private_addresses;
        if let Some(ca) = &issuer.ca_file {
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
fn replica(store: &Path, entropy: &dyn Entropy) -> Result<String, StartError> {
    let path = store.join("replica");
    let fault = |fault: io::Error| StartError::Replica(path.clone(), fault.to_string());
    match fs::read_to_string(&path) {
        Ok(name)
            if name.len() == 6 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) =>
        {
            Ok(name)
        }
        Ok(_) => {
            Err(StartError::Replica(path, "it holds no name of six letters, digits, `-` or `_`; remove it".to_owned()))
        }
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let mut random = [0; 6];
            entropy.fill(&mut random)?;
            let name: String = URL_SAFE_NO_PAD.encode(random).chars().take(6).collect();
            fs::write(&path, &name).map_err(fault)?;
            Ok(name)
        }
        Err(other) => Err(fault(other)),
    }
}
