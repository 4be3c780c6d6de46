//! Fixes the claims and signs them.

use super::status::status;
use super::task::{Belongs, Counted};
use super::{AuthorizedExchange, RequestError};
use crate::assertion::Confirmation;
use crate::audit::Granted;
use crate::domain::{DecisionId, Entropy, FirstUse, StatusRow, TaskRecord, Timestamp, TokenId};
use crate::error::{Error, Unavailable};
use crate::revocation::Revocations;
use crate::signing::KeyRing;
use crate::store::StoreError;
use crate::token::{self, Grant, Opens};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::jws::MAX_TOKEN_BYTES;
use countersign_verify::key::Algorithm;
use countersign_verify::revocation::names_of;

/// A signed token that nobody has yet.
pub struct MintedToken {
    pub(super) token: String,
    pub(super) expires: Timestamp,
    /// The scope as the caller is told it.
    pub(super) scope: String,
    pub(super) granted: Granted,
    pub(super) algorithm: Algorithm,
    /// What has to be claimed: the subject token, the client's assertion, and the proof of possession.
    pub(super) first_uses: [Option<FirstUse>; 3],
    /// What is counted of its task.
    pub(super) counted: Counted,
    /// What its entry of a status list can be revoked by.
    pub(super) row: Option<StatusRow>,
    /// Private to this file, so that nothing else makes one.
    _seal: (),
}

/// What mints.
#[derive(Clone, Copy)]
pub(super) struct Minting<'a> {
    pub(super) issuer: &'a str,
    pub(super) keys: &'a KeyRing,
    pub(super) entropy: &'a dyn Entropy,
    /// Whose decision it is.
    pub(super) decision: &'a DecisionId,
    /// Who gives entries of status lists.
    pub(super) revocations: &'a Revocations,
}

impl MintedToken {
    /// Mints the token of `authorized`, as of `position` in the revocation log.
    ///
    /// # Errors
    /// [`Unavailable`] when there is no randomness for its id, no entry for its status, or the key cannot sign.
    pub(super) fn mint(
        authorized: AuthorizedExchange,
        by: Minting<'_>,
        position: u64,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let AuthorizedExchange { bound, scopes, expires, purpose_compared, .. } = authorized;
        let Minting { issuer, keys, entropy, decision, revocations } = by;
        let mut random = [0; 16];
        entropy.fill(&mut random).map_err(|_| Unavailable::Entropy)?;
        let jti: TokenId = URL_SAFE_NO_PAD.encode(random).parse().map_err(|_| Unavailable::Entropy)?;
        let workload = bound.subject.workload();
        let opens = match &bound.task {
            Belongs::Opens(terms) => Some(Opens {
                purpose: terms.purpose.as_deref().filter(|_| purpose_compared),
                targets: &terms.targets,
                facts: &workload.attributes,
            }),
            _ => None,
        };
        let entry = bound.target.status_list.then(|| revocations.allot(entropy, now)).transpose();
        let entry = entry.map_err(|fault| match fault {
            StoreError::TooManyRows => Unavailable::Busy,
            fault => Unavailable::Store(fault),
        })?;
        let grant = Grant {
            issuer,
            workload: &workload.name,
            audience: &bound.target.audience,
            client: bound.client.as_ref().map(|client| client.id.as_str()),
            scopes: &scopes,
            origin: bound.subject.origin(),
            parent: bound.subject.parent(),
            opens,
            status: entry.map(|(list, index)| status(issuer, &list, index)),
            confirmation: bound.confirmation.as_ref().map(Confirmation::jkt),
            now,
            expires,
            position,
        };
        let claims = token::claims(&grant, &jti);
        let algorithm = bound.target.algorithm;
        let (token, kid) = keys.sign(&claims, algorithm, now).map_err(|_| Unavailable::Signing)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(RequestError::TaskParameter("task_target").into());
        }
        let row = entry.map(|(list, index)| StatusRow {
            list,
            index,
            until: expires,
            pos: claims.pos,
            names: names_of(&claims, kid).collect(),
        });
        let jkt = bound.confirmation.as_ref().map(|confirmation| confirmation.jkt().to_owned());
        let counted = match bound.task {
            Belongs::Implicitly => Counted::Nothing,
            Belongs::Within { id, .. } => Counted::Used(id),
            Belongs::Opens(terms) => Counted::Opened(Box::new(TaskRecord {
                id: claims.jti.clone(),
                workload: workload.name.clone(),
                issuer: workload.issuer.clone(),
                client: bound.client.as_ref().map(|client| client.id.to_string()),
                jkt: jkt.clone(),
                purpose: terms.purpose,
                budget: terms.budget,
                targets: terms.targets,
                opened: now.seconds(),
                deadline: expires.seconds(),
                decision: decision.to_string(),
                iss: claims.origin.iss.clone(),
                kid: kid.to_owned(),
                pos: claims.pos,
            })),
        };
        let granted = Granted {
            jti: claims.jti,
            kid: kid.to_owned(),
            sub: claims.sub,
            aud: claims.aud,
            scope: claims.scope,
            exp: claims.exp,
            jkt,
            opened: match &counted {
                Counted::Opened(record) => Some((**record).clone()),
                _ => None,
            },
            task: claims.task.id,
            lineage: claims.lineage.into_iter().map(|ancestor| ancestor.jti).collect(),
        };
        let proof = bound.confirmation.as_ref().map(Confirmation::first_use);
        let first_uses = [bound.subject.first_use(), bound.client_first_use, proof];
        // A client that asks by one name for all finds its token again by that name alone (MSAL keeps them so).
        let scope = bound.every_scope.unwrap_or_else(|| scopes.to_string());
        Ok(Self { token, expires, scope, granted, algorithm, first_uses, counted, row, _seal: () })
    }
}
