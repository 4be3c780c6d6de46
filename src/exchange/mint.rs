//! The claims are fixed and signed.

use super::AuthorizedExchange;
use super::task::TaskMembership;
use crate::assertion::Confirmation;
use crate::audit::{GrantWritten, Granted};
use crate::client::Client;
use crate::domain::{DecisionId, Entropy, FirstUses, ListId, StatusRow, TaskRecord, Timestamp, TokenId};
use crate::error::{Error, Unavailable};
use crate::revocation::Revocations;
use crate::signing::TokenSigner;
use crate::store::StoreError;
use crate::token::{CompactToken, Grant, Opens, TokenShape};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::claims::AccessClaims;
use countersign_verify::confirmation::ConfirmationKey;
use countersign_verify::jws::MAX_TOKEN_BYTES;
use countersign_verify::key::Algorithm;

/// A signed token that nobody has yet, with what has to be recorded before anyone gets it. Only this file makes one.
pub struct MintedToken {
    token: CompactToken,
    shape: TokenShape,
    expires: Timestamp,
    scope: String,
    granted: Granted,
    algorithm: Algorithm,
    first_uses: FirstUses,
    task_use: TaskUse,
    status_row: Option<StatusRow>,
}

/// The record of the task that goes with a token.
#[derive(Debug)]
pub(super) enum TaskUse {
    /// No record: the task is implicit.
    Implicit,
    /// A new task.
    Opens(Box<TaskRecord>),
    /// A token of the task with this id.
    Token(String),
}

/// The only place that can sign a token: it owns the [`TokenSigner`], and mints from an [`AuthorizedExchange`] alone.
pub struct Mint {
    /// This broker's issuer identifier.
    issuer: String,
    signer: TokenSigner,
}

/// The parts of the broker that minting needs in addition to the authorized exchange.
#[derive(Clone, Copy)]
pub(super) struct MintContext<'a> {
    pub(super) entropy: &'a dyn Entropy,
    /// The decision that grants the token.
    pub(super) decision: &'a DecisionId,
    /// Allots entries of status lists.
    pub(super) revocations: &'a Revocations,
}

impl Mint {
    /// Returns the mint of `issuer`.
    #[must_use]
    pub fn new(issuer: String, signer: TokenSigner) -> Self {
        Self { issuer, signer }
    }

    /// Mints the token of `authorized`.
    ///
    /// # Errors
    /// [`Unavailable`] if there is no randomness for the id, no free status list entry, or no signature in time;
    /// [`Error::TokenTooLarge`] if resource servers would not read the token.
    pub(super) async fn mint(
        &self,
        authorized: &AuthorizedExchange,
        context: MintContext<'_>,
        now: Timestamp,
    ) -> Result<MintedToken, Error> {
        let MintContext { entropy, decision, revocations } = context;
        let bound = authorized.bound();
        let jti = token_id(entropy)?;
        let status = bound.target().status_list.then(|| status_entry(revocations, entropy, now)).transpose()?;
        let workload = bound.subject().workload();
        let opens = match bound.task() {
            TaskMembership::Opens(terms) => Some(Opens {
                purpose: terms.purpose.as_deref().filter(|_| authorized.purpose_tested()),
                targets: &terms.targets,
                facts: &workload.attributes,
            }),
            _ => None,
        };
        let grant = Grant {
            issuer: &self.issuer,
            workload: &workload.name,
            audience: &bound.target().audience,
            client: bound.client().map(|client| client.id.as_str()),
            scopes: authorized.scopes(),
            origin: bound.subject().origin(),
            parent: bound.subject().parent(),
            opens,
            status: status.map(|(list, index)| list.reference(&self.issuer, index)),
            confirmation: bound.confirmation().map(Confirmation::key),
            now,
            expires: authorized.expires(),
            position: bound.position(),
        };
        let (shape, algorithm) = (bound.shape(), bound.target().algorithm);
        let claims = shape.claims(&grant, &jti);
        let signed = self.signer.sign(shape.typ(), &claims, algorithm, now).await.map_err(|_| Unavailable::Signing)?;
        let (token, kid) = (CompactToken::new(signed.0), signed.1);
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Error::TokenTooLarge);
        }
        let status_row = status.map(|(list, index)| StatusRow {
            list,
            index,
            until: authorized.expires(),
            pos: claims.pos,
            names: shape.revoked_by(&claims, &kid).collect(),
        });
        let task_use = task_use(authorized, &claims, &kid, decision, now);
        // A client that asks for all scopes by one name finds its token by that name alone (MSAL caches it so).
        let scope = bound.requested().every_scope().unwrap_or(&claims.scope).to_owned();
        Ok(MintedToken {
            token,
            shape,
            expires: authorized.expires(),
            scope,
            granted: granted(claims, kid, bound.confirmation(), &task_use),
            algorithm,
            first_uses: bound.first_uses(),
            task_use,
            status_row,
        })
    }
}

/// Allots an entry of a status list.
fn status_entry(
    revocations: &Revocations,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<(ListId, u32), Unavailable> {
    revocations.allot(entropy, now).map_err(|fault| match fault {
        StoreError::TooManyRows => Unavailable::Busy,
        fault => Unavailable::Store(fault),
    })
}

fn token_id(entropy: &dyn Entropy) -> Result<TokenId, Unavailable> {
    let mut random = [0; 16];
    entropy.fill(&mut random).map_err(|_| Unavailable::Entropy)?;
    URL_SAFE_NO_PAD.encode(random).parse().map_err(|_| Unavailable::Entropy)
}

fn task_use(
    authorized: &AuthorizedExchange,
    claims: &AccessClaims,
    kid: &str,
    decision: &DecisionId,
    now: Timestamp,
) -> TaskUse {
    let bound = authorized.bound();
    let terms = match bound.task() {
        TaskMembership::Implicit => return TaskUse::Implicit,
        TaskMembership::Within { id, .. } => return TaskUse::Token(id.clone()),
        TaskMembership::Opens(terms) => terms,
    };
    let workload = bound.subject().workload();
    TaskUse::Opens(Box::new(TaskRecord {
        id: claims.jti.clone(),
        workload: workload.name.clone(),
        issuer: workload.issuer.clone(),
        client: bound.client().map(|Client { id, .. }| id.to_string()),
        cnf: bound.confirmation().map(Confirmation::key).cloned(),
        purpose: terms.purpose.clone(),
        budget: terms.budget,
        targets: terms.targets.clone(),
        opened: now.seconds(),
        deadline: claims.exp,
        decision: decision.to_string(),
        iss: claims.origin.iss.clone(),
        kid: kid.to_owned(),
        pos: claims.pos,
    }))
}

/// The grant, as the audit log has it.
fn granted(claims: AccessClaims, kid: String, confirmation: Option<&Confirmation>, task_use: &TaskUse) -> Granted {
    Granted {
        jti: claims.jti,
        kid,
        sub: claims.sub,
        aud: claims.aud,
        scope: claims.scope,
        exp: claims.exp,
        cnf: confirmation.map(Confirmation::key).cloned(),
        opened: match task_use {
            TaskUse::Opens(record) => Some((**record).clone()),
            TaskUse::Implicit | TaskUse::Token(_) => None,
        },
        task: claims.task.id,
        lineage: claims.lineage.into_iter().map(|ancestor| ancestor.jti).collect(),
    }
}

impl MintedToken {
    /// The shape of the token.
    pub(super) fn shape(&self) -> TokenShape {
        self.shape
    }

    /// The token's expiry.
    pub(super) fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The first uses to reserve.
    pub(super) fn first_uses(&self) -> FirstUses {
        self.first_uses
    }

    /// The record of the task.
    pub(super) fn task_use(&self) -> &TaskUse {
        &self.task_use
    }

    /// The names by which the token's status list entry can be revoked, if its target asks for an entry.
    pub(super) fn status_row(&self) -> Option<&StatusRow> {
        self.status_row.as_ref()
    }

    /// The key that the token is bound to.
    pub(super) fn key(&self) -> Option<&ConfirmationKey> {
        self.granted.cnf.as_ref()
    }

    /// The granted scope, as the caller is told it.
    pub(super) fn scope(&self) -> &str {
        &self.scope
    }

    /// The algorithm that the token is signed with.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Parts the grant, to be written to the audit log, from the token, which stays sealed until it is written.
    pub(super) fn split(self) -> (Granted, SealedToken) {
        (self.granted, SealedToken(self.token))
    }
}

/// A token that waits for its grant to be written.
pub(super) struct SealedToken(CompactToken);

impl SealedToken {
    /// Hands the token out, once its grant is on the audit log.
    pub(super) fn release(self, _: GrantWritten) -> CompactToken {
        self.0
    }
}
