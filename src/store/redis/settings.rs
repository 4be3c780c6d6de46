//! Where the servers are, how they belong together, and what is asked of them.

use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// How the servers belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// One server.
    Standalone,
    /// One server and its replicas, watched by Sentinels, which know it by this name.
    Sentinel {
        /// The name.
        master: String,
    },
    /// A cluster.
    Cluster,
}

/// What is not lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was acknowledged: written to disk, and confirmed by every replica that could be promoted.
    Strict,
    /// Written to disk within a second. A failover loses what no replica has yet.
    Persisted,
    /// Kept in memory. A restart loses all of it.
    Memory,
}

impl Durability {
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

/// Where the servers are, and what is asked of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// How they belong together.
    pub mode: Mode,
    /// `redis://` or `rediss://` URLs: the server, the Sentinels, or some of the cluster.
    pub urls: Vec<String>,
    /// The ACL user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Zeroizing<String>>,
    /// What every key begins with.
    pub prefix: String,
    /// What is not lost.
    pub durability: Durability,
    /// How many replicas confirm what is written, where nothing is to be lost.
    pub replicas: u32,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How many connections there are.
    pub connections: usize,
    /// PEM certificates to trust, instead of the machine's.
    pub ca: Option<Vec<u8>>,
    /// PEM certificate and key that we show.
    pub client_certificate: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Settings({:?}, {} urls)", self.mode, self.urls.len())
    }
}
