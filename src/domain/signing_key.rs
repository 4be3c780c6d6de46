//! The record of a signing key: its purpose and its times. Every state follows from times that are written once, so
//! that replicas with the same record agree, and nothing has to happen at a given moment.

use super::{Lifetime, Timestamp};
use countersign_verify::key::Algorithm;
use std::fmt;
use std::str::FromStr;

/// Cache lifetime of the document at `/jwks`, in seconds: a key that is removed is gone everywhere after that.
pub const JWKS_MAX_AGE: u32 = 300;
/// How many seconds a key is published before it signs: longer than anyone caches a set without it.
pub const PUBLISHED_BEFORE_USE: i64 = JWKS_MAX_AGE as i64 + 60;
/// How many seconds a key is published after its last token has expired: longer than any verifier's leeway.
const RETIRED_AFTER: i64 = 300;
/// How many seconds the record of a key outlives the key: a year to look back on, and, for a revoked key, as long as
/// any token can live.
const REMEMBERED: i64 = 366 * 86_400;

/// The purpose of a key. No key signs for two purposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Access tokens.
    Tokens,
    /// Checkpoints of the audit log.
    Checkpoints,
    /// Signed answers to resource servers: introspection (RFC 9701), snapshots of the revocation feed, status lists.
    /// Their `typ` keeps them apart.
    Introspection,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 3] = [Self::Tokens, Self::Checkpoints, Self::Introspection];

    /// Its name in files and on screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Checkpoints => "checkpoints",
            Self::Introspection => "introspection",
        }
    }

    /// The purpose with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

/// No key has a purpose of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is for `tokens`, `checkpoints` or `introspection`")]
pub struct UnknownPurpose;

impl FromStr for Purpose {
    type Err = UnknownPurpose;

    fn from_str(name: &str) -> Result<Self, UnknownPurpose> {
        Self::named(name).ok_or(UnknownPurpose)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// In `/jwks`, and not signing yet.
    Published,
    /// Signs, and is published.
    Active,
    /// Not signing any more; what it signed still lives.
    Retiring,
    /// Everything that it signed has expired. It is nowhere any more.
    Retired,
    /// Compromised: dropped at once, and everything that it signed is revoked.
    Revoked,
}

impl KeyState {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }

    /// Returns true if the key may be used at all.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Published | Self::Active | Self::Retiring)
    }
}

/// The record of a key. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its RFC 7638 thumbprint.
    pub kid: String,
    /// The purpose of the key.
    pub purpose: Purpose,
    /// The algorithm that the key signs with.
    pub algorithm: Algorithm,
    /// Since when it is in `/jwks`.
    pub published: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
    /// The time at which its successor takes over, if there is one.
    pub signs_until: Option<Timestamp>,
    /// The longest life of anything that it signs, in seconds.
    pub longest: i64,
    /// The time of its revocation.
    pub revoked: Option<Timestamp>,
}

impl KeyRecord {
    /// Returns the key's state at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> KeyState {
        match self.signs_until {
            _ if self.revoked.is_some() => KeyState::Revoked,
            Some(_) if self.gone().is_some_and(|gone| gone <= now) => KeyState::Retired,
            Some(until) if until <= now => KeyState::Retiring,
            _ if self.signs_from <= now => KeyState::Active,
            _ => KeyState::Published,
        }
    }

    /// Returns the time at which everything that the key signed has expired, if it has a successor.
    #[must_use]
    pub fn gone(&self) -> Option<Timestamp> {
        self.signs_until.map(|until| until.plus(self.longest + RETIRED_AFTER))
    }

    /// Returns true if the record itself may be deleted.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        match self.revoked {
            Some(at) => at.plus(Lifetime::MAX_SECONDS) <= now,
            None => self.gone().is_some_and(|gone| gone.plus(REMEMBERED) <= now),
        }
    }
}
