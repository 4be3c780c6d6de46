//! The claims of an access token (RFC 9068 §2.2). Every one comes from the broker: nothing that an assertion says is
//! copied but who vouched for whom, and in the token of a task, for policy to ask again, what it said of the workload.

use crate::domain::{Attributes, Audience, Scopes, Timestamp, TokenId};
use countersign_verify::AccessToken;
use countersign_verify::claims::{AccessClaims, Ancestor, Origin, Task};
use countersign_verify::confirmation::ConfirmationKey;
use countersign_verify::status::Status;

/// The contents of an access token.
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
    /// The issuer that vouched for the workload.
    pub origin: &'a Origin,
    /// The token that was exchanged, if it was one of ours.
    pub parent: Option<&'a AccessToken>,
    /// The task that it opens.
    pub opens: Option<Opens<'a>>,
    /// The `status` claim, if the target asks for a status list entry.
    pub status: Option<Status>,
    /// The key that its presenter must prove.
    pub confirmation: Option<&'a ConfirmationKey>,
    /// Time of minting.
    pub now: Timestamp,
    /// The token's expiry.
    pub expires: Timestamp,
    /// The position in the revocation log that had been applied before anything was decided.
    pub position: u64,
}

/// The `task` claim of a task token.
#[derive(Debug)]
pub struct Opens<'a> {
    /// The purpose, if policy tested it.
    pub purpose: Option<&'a str>,
    /// The targets that it is for.
    pub targets: &'a [String],
    /// The attributes that the issuer stated.
    pub facts: &'a Attributes,
}

/// The `task` claim of a token that opens no task: the task of the token above it, or an implicit one.
pub(super) fn task_of(parent: Option<&AccessToken>, jti: &TokenId) -> Task {
    match parent {
        Some(parent) => Task { facts: None, ..parent.claims().task.clone() },
        None => Task { id: jti.to_string(), ..Task::default() },
    }
}

/// The `task` claim of a task token. The deadline is the token's expiry.
pub(super) fn own_task(grant: &Grant<'_>, jti: &TokenId) -> Task {
    let opens = grant.opens.as_ref();
    Task {
        id: jti.to_string(),
        purpose: opens.and_then(|opens| opens.purpose).map(str::to_owned),
        deadline: Some(grant.expires.seconds()),
        targets: opens.map(|opens| opens.targets.to_vec()).unwrap_or_default(),
        facts: opens.and_then(|opens| serde_json::to_value(opens.facts).ok()),
    }
}

/// The claims of the token `jti`.
pub(super) fn claims(grant: &Grant<'_>, jti: &TokenId, task: Task) -> AccessClaims {
    let lineage = grant.parent.map(|parent| {
        let above = parent.claims();
        let last = Ancestor {
            jti: above.jti.clone(),
            kid: parent.key_id().to_owned(),
            aud: above.aud.clone(),
            client_id: above.client_id.clone(),
            iat: above.iat,
        };
        above.lineage.iter().cloned().chain([last]).collect()
    });
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
        cnf: grant.confirmation.cloned(),
        status: grant.status.clone(),
        task,
        origin: grant.origin.clone(),
        pos: grant.position,
        lineage: lineage.unwrap_or_default(),
    }
}
