//! The configuration: `countersign.toml` as it is written becomes [`Config`], which is complete and checked.
//! Every problem is told at once, each with its place and what to do. Nothing here opens what it names.

mod file;
mod issuer;
mod problem;
mod raw;
mod resolve;
mod show;
mod store;

pub use problem::{Problem, Problems};
pub use store::{RedisSettings, Store};

use crate::assertion::{Accept, IssuerKind, Refresh, SignsAs};
use crate::audit::Keeping;
use crate::domain::{AttributeRecord, Audience, ClientId, IssuerName, Lifetime, NameTemplate, Target};
use crate::http::Limits;
use crate::rates::RateLimits;
use countersign_verify::jws::Bounds;
use countersign_verify::key::Algorithm;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A complete and checked configuration. Relative paths are joined to the directory of the configuration file.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[server.limits]`
    pub limits: LimitSettings,
    /// `[store]`
    pub store: Store,
    /// `[signing]`
    pub signing: SigningSettings,
    /// `[audit]`
    pub audit: AuditSettings,
    /// `[policy] directory`
    pub policies: PathBuf,
    /// `[tasks]`; without it no task can be opened.
    pub tasks: Option<TaskSettings>,
    /// `[keys]`
    pub refresh: Refresh,
    /// `[telemetry]`, where traces go somewhere
    pub telemetry: Option<Telemetry>,
    /// `[[issuers]]`
    pub issuers: Vec<IssuerEntry>,
    /// `[[targets]]`
    pub targets: Vec<TargetEntry>,
    /// `[[clients]]`
    pub clients: Vec<ClientEntry>,
}

/// The listeners and the identity of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Our `iss`, exact.
    pub issuer: String,
    /// The public listener.
    pub listen: SocketAddr,
    /// The listener of `/livez` and `/readyz`.
    pub management: Option<SocketAddr>,
    /// The control socket.
    pub control: PathBuf,
    /// `[server.tls]`
    pub tls: Option<Tls>,
    /// Threads that serve requests.
    pub workers: usize,
    /// The longest time for which requests may go on when the broker stops.
    pub drain: Lifetime,
    /// The path below which SDKs that know tenants find us.
    pub tenant: Option<String>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// The settings of the broker's own keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningSettings {
    /// The directory of the keys.
    pub directory: PathBuf,
    /// The algorithm of tokens whose target names none.
    pub algorithm: Algorithm,
    /// How long a key signs.
    pub rotate_every: Lifetime,
}

/// The place and the limits of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// The directory of the log.
    pub path: PathBuf,
    /// The limits of the log.
    pub keeping: Keeping,
}

/// The receiver of traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// The receiver.
    pub endpoint: String,
    /// The share that is traced, from 0 to 1.
    pub sample: f64,
}

/// The certificate of the public listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// The limits of requests, each with the part that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// Of the HTTP layer.
    pub http: Limits,
    /// Of an assertion.
    pub assertion: Bounds,
    /// Of requests in a second.
    pub rates: RateLimits,
}

/// The limits of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskSettings {
    /// The longest duration of a task.
    pub max_deadline: Lifetime,
    /// The longest time for which a task may be idle.
    pub idle: Lifetime,
}

/// An issuer of assertions.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerEntry {
    /// The operator's name for it.
    pub name: IssuerName,
    /// Its kind.
    pub kind: &'static IssuerKind,
    /// The identity under which it signs.
    pub signer: SignsAs,
    /// The place of its keys.
    pub keys: KeyPlace,
    /// The attributes that policy sees of its workloads: the kind's, or those that the entry declares.
    pub attributes: Option<Arc<AttributeRecord>>,
    /// The accepted values of the assertion's `aud`.
    pub audiences: Vec<String>,
    /// Values that it must have.
    pub accept: Accept,
    /// Algorithms that it may sign with.
    pub algorithms: Vec<Algorithm>,
    /// The longest life of an assertion.
    pub max_lifetime: Lifetime,
    /// True if an assertion can be exchanged only once.
    pub single_use: bool,
    /// True if only an authenticated client may present an assertion.
    pub client_required: bool,
    /// The name of its workloads, if it is not the kind's own.
    pub workload: Option<NameTemplate>,
    /// True if the keys may be fetched from private addresses, and over plain HTTP from a loopback address.
    pub allow_private_addresses: bool,
    /// Certificates to trust instead of the machine's own when its keys are fetched.
    pub ca_file: Option<PathBuf>,
    /// The owner, for policy and people.
    pub owner: Option<String>,
    /// The environment, for policy and people.
    pub environment: Option<String>,
}

/// The place of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// `<issuer>/.well-known/openid-configuration`
    Discovery,
    /// A stated URL.
    Url(String),
    /// A pinned file.
    File(PathBuf),
    /// The bundle of a trust domain.
    Bundle(PathBuf),
}

/// A target.
#[derive(Debug, Clone)]
pub struct TargetEntry {
    /// The target.
    pub target: Target,
    /// Further names for it.
    pub resources: Vec<String>,
}

/// A client that authenticates.
#[derive(Debug, Clone)]
pub struct ClientEntry {
    /// Its id.
    pub id: ClientId,
    /// The method by which the client authenticates.
    pub method: ClientMethod,
    /// Audiences whose tokens it may introspect, and exchange onward.
    pub introspects: Vec<Audience>,
}

impl ClientEntry {
    /// Returns true if `other` is the same client with the same method.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.method == other.method
    }
}

/// The method by which a client authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMethod {
    /// A secret in the header, by its SHA-256.
    SecretBasic([u8; 32]),
    /// A secret in the body, by its SHA-256.
    SecretPost([u8; 32]),
    /// An assertion that the client signs with one of these keys.
    PrivateKeyJwt(KeyPlace),
    /// An assertion of an issuer about this subject.
    Federated {
        /// The issuer's entry.
        issuer: IssuerName,
        /// The exact `sub`.
        subject: String,
    },
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Every [`Problem`] of the file at once.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|fault| Problems::unreadable(path, &fault))?;
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::parse(&text, path, &directory)
    }

    /// The JSON Schema of the file, for editors.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        raw::schema()
    }

    /// Everything as it is resolved, with what is secret, or could be guessed from, left out.
    #[must_use]
    pub fn show(&self) -> serde_json::Value {
        show::show(self)
    }

    /// Reads `text`, which stands in the file `path`; relative paths in it start from `directory`.
    ///
    /// # Errors
    /// Every [`Problem`] of the text at once.
    pub fn parse(text: &str, path: &Path, directory: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::of(path, text);
        let config = raw::read(text, &mut problems).and_then(|raw| resolve::resolve(&raw, directory, &mut problems));
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }
}

/// JSON as the configuration is written.
#[must_use]
pub fn as_toml(value: &serde_json::Value) -> String {
    toml::to_string_pretty(value).unwrap_or_default()
}
