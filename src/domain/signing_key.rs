//! What is known of a signing key beside its bytes: what it is for, and when it may do what. Every state follows from
//! times that are written once, so that replicas with one record say the same, and nothing has to happen at a moment.

use super::{Lifetime, Timestamp};
use countersign_verify::key::Algorithm;
use std::fmt;

/// How long the document at `/jwks` may be kept, in seconds: a key that is taken out is gone everywhere after that.
pub const JWKS_MAX_AGE: u32 = 300;
/// How long a key is published before it signs, in seconds: longer than anyone keeps a set that lacks it.
pub const PUBLISHED_BEFORE_USE: i64 = JWKS_MAX_AGE as i64 + 60;
/// How much longer than its last token a key is kept, in seconds: longer than any verifier's leeway.
const RETIRED_AFTER: i64 = 300;
/// How long the record of a key outlives the key, in seconds: a year to look back on, and for a revoked one as long as any
/// token can live.
const REMEMBERED: i64 = 366 * 86_400;

/// What a key signs. No key signs two kinds of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Access tokens.
    Tokens,
    /// Checkpoints of the audit log.
    Checkpoints,
    /// Signed answers to resource servers: introspection (RFC 9701), snapshots of the revocation feed, status lists. Their
    /// `typ` keeps them apart.
    Introspection,
}

impl Purpose {
    /// All of them.
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

impl fmt::Display for Purpose {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// In `/jwks`, and not signing yet.
    Published,
    /// Signing.
    Active,
    /// Not signing any more; what it signed still lives.
    Retiring,
    /// Everything that it signed has expired. It is nowhere any more.
    Retired,
    /// Compromised: dropped at once, and everything that it signed is dead.
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

    /// Whether the key may be used at all.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Published | Self::Active | Self::Retiring)
    }
}

/// What is known of one key. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its RFC 7638 thumbprint.
    pub kid: String,
    /// What it signs.
    pub purpose: Purpose,
    /// With what.
    pub algorithm: Algorithm,
    /// Since when it is in `/jwks`.
    pub published: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
    /// When its successor takes over, where there is one.
    pub signs_until: Option<Timestamp>,
    /// The longest life of anything that it signs, in seconds.
    pub longest: i64,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

impl KeyRecord {
    /// Where it is in its life at `now`.
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

    /// When everything that it signed has expired, where it has a successor.
    #[must_use]
    pub fn gone(&self) -> Option<Timestamp> {
        self.signs_until.map(|until| until.plus(self.longest + RETIRED_AFTER))
    }

    /// Whether the record itself may be forgotten.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        match self.revoked {
            Some(at) => at.plus(Lifetime::MAX_SECONDS) <= now,
            None => self.gone().is_some_and(|gone| gone.plus(REMEMBERED) <= now),
        }
    }
}
