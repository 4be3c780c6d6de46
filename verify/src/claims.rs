//! The claims of an access token that Countersign mints (RFC 9068 §2.2). The broker writes and every resource server
//! reads this one shape.

use crate::confirmation::ConfirmationKey;
use crate::status::Status;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Limit of the tokens that a token names above itself. An exchange that would exceed it is refused.
pub const MAX_LINEAGE: usize = 8;

/// The claims of an access token. Times are whole seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// The broker's issuer identifier.
    pub iss: String,
    /// The workload that the token speaks for.
    pub sub: String,
    /// The one target that may accept the token.
    pub aud: String,
    /// The client that asked for it; the workload itself where no client authenticated (RFC 8693 §4.3).
    pub client_id: String,
    /// Granted scopes, separated by one space; empty for a target without scopes.
    pub scope: String,
    /// Time of minting, in seconds since 1970.
    pub iat: i64,
    /// Not before.
    pub nbf: i64,
    /// Expiry, in seconds since 1970.
    pub exp: i64,
    /// Its id: 128 random bits.
    pub jti: String,
    /// The acting party (RFC 8693 §4.1), where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Value>,
    /// The key that its presenter must prove (RFC 7800), where it is bound to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<ConfirmationKey>,
    /// The place of the token's status (draft-ietf-oauth-status-list-20 §6.1), for a target that asks for a status
    /// list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The task that it belongs to.
    pub task: Task,
    /// The issuer and subject of the assertion at the root of the lineage.
    pub origin: Origin,
    /// The position in the revocation log that had been applied when the grant was decided.
    pub pos: u64,
    /// The tokens above this one, oldest first; revoking any of them kills this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Ancestor>,
}

/// A unit of work that tokens belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The task's id; for a task that was never opened, the `jti` of its first token.
    pub id: String,
    /// The purpose of the task, if policy tested it; otherwise nobody has judged it, and it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The deadline of an opened task, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<i64>,
    /// The targets that an opened task is for; any that policy permits where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// In a task's own token: what the broker knew of the workload when the task was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Value>,
}

/// The issuer and subject of a federated assertion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The assertion's `iss`; for a SPIFFE JWT-SVID the trust domain's SPIFFE ID.
    pub iss: String,
    /// The assertion's `sub`.
    pub sub: String,
}

/// A token above another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its id.
    pub jti: String,
    /// The key that signed it.
    pub kid: String,
    /// Its target.
    pub aud: String,
    /// Its client.
    pub client_id: String,
    /// Time of minting, in seconds since 1970.
    #[serde(default)]
    pub iat: i64,
}
