//! `[store]` and `[revocation]`: where what outlives a request is kept.

use crate::domain::Lifetime;
use std::path::PathBuf;

/// Where what outlives a request is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The directory of what is this replica's own.
    pub path: PathBuf,
    /// The shared store, where there is one.
    pub redis: Option<Redis>,
    /// `[revocation] max_staleness`
    pub max_staleness: Lifetime,
}

/// A shared store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// How the servers belong together.
    pub mode: RedisMode,
    /// Where they are.
    pub urls: Vec<String>,
    /// The ACL user.
    pub username: Option<String>,
    /// The file with its password.
    pub password_file: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: String,
    /// What is not lost.
    pub durability: Durability,
    /// How many replicas confirm.
    pub replicas: u32,
    /// How long an answer may take.
    pub timeout: Lifetime,
    /// How many connections there are.
    pub connections: usize,
    /// PEM certificates to trust.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the certificate that we show, and of its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// How servers belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisMode {
    /// One server.
    Standalone,
    /// One that Sentinels watch.
    Sentinel {
        /// The name by which they know it.
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

/// What a shared store must not lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was acknowledged.
    Strict,
    /// Nothing but the last second, and what no replica had.
    Persisted,
    /// Nothing while it runs.
    Memory,
}

impl Durability {
    pub(super) const ALL: [Self; 3] = [Self::Strict, Self::Persisted, Self::Memory];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Persisted => "persisted",
            Self::Memory => "memory",
        }
    }
}
