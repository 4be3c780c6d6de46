//! The settings of the shared store.

use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// The topology of the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A single server.
    Standalone,
    /// A server and its replicas, watched by Sentinels, which know it by this name.
    Sentinel {
        /// The name.
        master: String,
    },
    /// A cluster.
    Cluster,
}

/// What a crash may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Loses nothing that was acknowledged: a write is on disk, and confirmed by every replica that could be promoted.
    Strict,
    /// Written to disk within a second. A failover loses what no replica has yet.
    Persisted,
    /// Kept in memory. A restart loses all of it.
    Memory,
}

impl Mode {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Sentinel { .. } => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

impl Durability {
    /// Every one, the strictest first.
    pub const ALL: [Self; 3] = [Self::Strict, Self::Persisted, Self::Memory];

    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Persisted => "persisted",
            Self::Memory => "memory",
        }
    }
}

/// The servers of the shared store, and their limits.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkSettings {
    /// The topology of the servers.
    pub mode: Mode,
    /// `redis://` or `rediss://` URLs: the server, the Sentinels, or some of the cluster.
    pub urls: Vec<String>,
    /// The ACL user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Zeroizing<String>>,
    /// The prefix of every key.
    pub prefix: String,
    /// What a crash may lose.
    pub durability: Durability,
    /// Number of replicas that confirm a write, under `strict`.
    pub replicas: u32,
    /// Time limit of an answer.
    pub timeout: Duration,
    /// Number of connections.
    pub connections: usize,
    /// PEM certificates to trust, instead of the machine's.
    pub ca: Option<Vec<u8>>,
    /// PEM certificate and key that we show.
    pub client_certificate: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl fmt::Debug for LinkSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Settings({:?}, {} urls)", self.mode, self.urls.len())
    }
}
