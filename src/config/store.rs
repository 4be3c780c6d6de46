//! `[store]` and `[revocation]`: where what outlives a request is kept.

use crate::domain::Lifetime;
use std::path::PathBuf;

/// The store of what outlives a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The directory of what is this replica's own.
    pub path: PathBuf,
    /// The shared store, where there is one.
    pub redis: Option<RedisSettings>,
    /// `[revocation] max_staleness`
    pub max_staleness: Lifetime,
}

/// A shared store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// The topology of the servers.
    pub mode: RedisMode,
    /// The URLs of the servers.
    pub urls: Vec<String>,
    /// The ACL user.
    pub username: Option<String>,
    /// The file with its password.
    pub password_file: Option<PathBuf>,
    /// The prefix of every key.
    pub prefix: String,
    /// What a crash may lose.
    pub durability: DurabilitySetting,
    /// Number of replicas that confirm a write.
    pub replicas: u32,
    /// Time limit of an answer.
    pub timeout: Lifetime,
    /// Number of connections.
    pub connections: usize,
    /// PEM certificates to trust.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the certificate that we show, and of its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// The topology of the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisMode {
    /// A single server.
    Standalone,
    /// A server that Sentinels watch.
    Sentinel {
        /// The name of the primary at the Sentinels.
        master: String,
    },
    /// A cluster.
    Cluster,
}

impl RedisMode {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Sentinel { .. } => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

/// What a crash of a shared store may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurabilitySetting {
    /// Loses nothing that was acknowledged.
    Strict,
    /// Loses at most the last second, and what no replica had.
    Persisted,
    /// Loses everything when the server stops.
    Memory,
}

impl DurabilitySetting {
    pub(super) const ALL: [Self; 3] = [Self::Strict, Self::Persisted, Self::Memory];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Persisted => "persisted",
            Self::Memory => "memory",
        }
    }
}
