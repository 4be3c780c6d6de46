//! The claims of an access token (RFC 9068 §2.2). Every one comes from the broker: nothing that an assertion says is
//! copied but who vouched for whom.

use crate::domain::{Audience, Scopes, Timestamp, TokenId};
use countersign_verify::AccessToken;
use countersign_verify::claims::{AccessClaims, Ancestor, Origin, Task};
use serde_json::json;

/// What an access token is minted from.
#[derive(Debug)]
pub struct Grant<'a> {
    /// Our issuer identifier.
    pub issuer: &'a str,
    /// The workload.
    pub workload: &'a str,
    /// The target.
    pub audience: &'a Audience,
    /// The client, if one authenticated.
    pub client: Option<&'a str>,
    /// Granted scopes.
    pub scopes: &'a Scopes,
    /// Who vouched for the workload.
    pub origin: &'a Origin,
    /// The token that was exchanged, if it was one of ours.
    pub parent: Option<&'a AccessToken>,
    /// The key that its presenter must prove, by its RFC 7638 thumbprint.
    pub confirmation: Option<&'a str>,
    /// When it is minted.
    pub now: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// The position in the revocation log that had been applied before anything was decided.
    pub position: u64,
}

/// The claims of the token `jti`.
#[must_use]
pub fn claims(grant: &Grant<'_>, jti: &TokenId) -> AccessClaims {
    let lineage = grant.parent.map(|parent| {
        let above = parent.claims();
        let last = Ancestor {
            jti: above.jti.clone(),
            kid: parent.key_id().to_owned(),
            aud: above.aud.clone(),
            client_id: above.client_id.clone(),
        };
        above.lineage.iter().cloned().chain([last]).collect()
    });
    let task = grant.parent.map_or_else(|| Task { id: jti.to_string() }, |parent| parent.claims().task.clone());
    AccessClaims {
        iss: grant.issuer.to_owned(),
        sub: grant.workload.to_owned(),
        aud: grant.audience.to_string(),
        client_id: grant.client.unwrap_or(grant.workload).to_owned(),
        scope: grant.scopes.to_string(),
        iat: grant.now.seconds(),
        nbf: grant.now.seconds(),
        exp: grant.expires.seconds(),
        jti: jti.to_string(),
        act: None,
        cnf: grant.confirmation.map(|jkt| json!({"jkt": jkt})),
        task,
        origin: grant.origin.clone(),
        pos: grant.position,
        lineage: lineage.unwrap_or_default(),
    }
}
