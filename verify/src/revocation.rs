//! The test of whether a revocation hits a token. Both sides name what is revoked by the same 128-bit digest, which
//! tells nothing to a party that does not hold such a token.

use crate::AccessToken;
use crate::claims::AccessClaims;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// The kinds of thing that a revocation can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A token, by its `jti`.
    Token,
    /// A signing key, by its `kid`: everything that it signed.
    Key,
    /// A task, by its id: everything that belongs to it.
    Task,
    /// A workload, by its name.
    Workload,
    /// An acting party, by its name, wherever it stands in a chain of delegation.
    Actor,
    /// An issuer, by the `iss` of its assertions.
    Issuer,
    /// An authenticated client, by its id.
    Client,
    /// A target, by its audience.
    Target,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] =
        [Self::Token, Self::Key, Self::Task, Self::Workload, Self::Actor, Self::Issuer, Self::Client, Self::Target];

    /// The kind's name in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Key => "key",
            Self::Task => "task",
            Self::Workload => "workload",
            Self::Actor => "actor",
            Self::Issuer => "issuer",
            Self::Client => "client",
            Self::Target => "target",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// This kind of thing cannot be revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this kind of thing cannot be revoked")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownKind)
    }
}

/// The name under which something is revoked: the first 128 bits of SHA-256 over its kind, a zero byte and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name([u8; 16]);

impl Name {
    /// Names `id` of kind `kind`.
    #[must_use]
    pub fn new(kind: Kind, id: &str) -> Self {
        let digest = Sha256::new().chain_update(kind.name()).chain_update([0]).chain_update(id).finalize();
        let mut name = [0; 16];
        name.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
        Self(name)
    }

    /// The name as stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// A stored name.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// The act of a record of the revocation log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Kills what was decided before it.
    Revoke,
    /// Kills what was issued before a moment, in seconds since 1970.
    RevokeBefore(i64),
    /// Kills what was decided before it, and refuses what is new until it is lifted.
    Suspend,
    /// Lifts a suspension.
    Resume,
}

/// The part of a record of the revocation log that each check needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The name of what is revoked.
    pub name: Name,
    /// Time until which tokens that the record hits can be alive, in seconds since 1970.
    pub until: i64,
    /// Revoke, suspend or resume.
    pub act: Act,
}

/// The revocations in force against one name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// The position of the last revocation of everything before it: it hits what was decided with less of the log.
    pub position: u64,
    /// Tokens issued before this time are revoked, in seconds since 1970.
    pub before: Option<i64>,
    /// True if the name is suspended: then every token is hit, whenever it was issued.
    pub suspended: bool,
}

impl Reach {
    /// Returns true if a token that was decided at `pos` is hit by what is in force against `named`.
    #[must_use]
    pub fn hits(&self, named: &Named, pos: u64) -> bool {
        let revoked = if named.once { self.position > 0 } else { pos < self.position };
        self.suspended || revoked || self.before.is_some_and(|before| named.iat < before)
    }
}

/// A name of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: Name,
    /// The time at which the named thing was issued, in seconds since 1970.
    pub iat: i64,
    /// True if the name is of a single thing that is never issued again: a token, a key, a task. A revocation then hits
    /// it whatever position it claims, because the thief of a key can write any position.
    pub once: bool,
}

impl Named {
    /// Returns the name of `id` of `kind`, issued at `iat`.
    #[must_use]
    pub fn new(kind: Kind, id: &str, iat: i64) -> Self {
        let once = matches!(kind, Kind::Token | Kind::Key | Kind::Task);
        Self { name: Name::new(kind, id), iat, once }
    }
}

/// Returns true if `token` is hit by what `of` says is in force against each of its names.
pub fn is_hit(token: &AccessToken, of: impl Fn(Name) -> Option<Reach>) -> bool {
    let pos = token.claims().pos;
    names(token).any(|named| of(named.name).is_some_and(|reach| reach.hits(&named, pos)))
}

/// Every name by which `token` can be revoked: its own, and those of each token above it. Who the chain speaks for, who
/// vouched and its task are as old as its first token.
pub fn names(token: &AccessToken) -> impl Iterator<Item = Named> {
    names_of(token.claims(), token.key_id())
}

/// Returns the names of a token with these claims that the key `key_id` signs, as [`names`] does.
pub fn names_of<'a>(claims: &'a AccessClaims, key_id: &'a str) -> impl Iterator<Item = Named> + 'a {
    let root = claims.lineage.iter().map(|above| above.iat).fold(claims.iat, i64::min);
    let whole = [
        Named::new(Kind::Task, &claims.task.id, root),
        Named::new(Kind::Workload, &claims.sub, root),
        Named::new(Kind::Issuer, &claims.origin.iss, root),
    ];
    let own = [(&claims.jti, key_id, &claims.aud, &claims.client_id, claims.iat)].into_iter();
    let above =
        claims.lineage.iter().map(|above| (&above.jti, above.kid.as_str(), &above.aud, &above.client_id, above.iat));
    let each = own.chain(above).flat_map(move |(jti, kid, aud, client, iat)| {
        let names = [(Kind::Token, jti.as_str()), (Kind::Key, kid), (Kind::Target, aud)];
        // Where nobody authenticated the client is the workload itself.
        let client = (*client != claims.sub).then_some((Kind::Client, client.as_str()));
        names.into_iter().chain(client).map(move |(kind, id)| Named::new(kind, id, iat))
    });
    let actors = actors(claims).map(move |actor| Named::new(Kind::Actor, actor, root));
    whole.into_iter().chain(each).chain(actors)
}

/// The names of the acting parties, the present one first (RFC 8693 §4.1).
fn actors(claims: &AccessClaims) -> impl Iterator<Item = &str> {
    std::iter::successors(claims.act.as_ref(), |act| act.get("act"))
        .filter_map(|act| act.get("sub").and_then(Value::as_str))
}
