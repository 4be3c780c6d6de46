//! `[store]` and `[revocation]`: where what outlives a request is kept.

use crate::domain::Lifetime;
use crate::store::{Durability, Mode};
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
    pub mode: Mode,
    /// The URLs of the servers.
    pub urls: Vec<String>,
    /// The ACL user.
    pub username: Option<String>,
    /// The file with its password.
    pub password_file: Option<PathBuf>,
    /// The prefix of every key.
    pub prefix: String,
    /// What a crash may lose.
    pub durability: Durability,
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
