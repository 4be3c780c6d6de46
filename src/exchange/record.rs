//! The last stage before a token leaves: first use is claimed and the grant is on the audit log.

use super::MintedToken;
use super::task::Counted;
use crate::assertion::{AssertionError, ProofFault};
use crate::audit::Trail;
use crate::client::ClientError;
use crate::domain::{Clock, FirstUse, Lifetime, Timestamp};
use crate::error::{Error, Unavailable};
use crate::revocation::Revocations;
use crate::store::{Claim, Claimed, Spending, StoreError, TaskRecords, Uses};
use countersign_verify::key::Algorithm;
use std::fmt;

/// A token that may leave. The only thing that the HTTP layer can render.
pub struct Issued {
    access_token: String,
    expires_in: i64,
    scope: String,
    algorithm: Algorithm,
    is_bound: bool,
}

impl fmt::Debug for Issued {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Issued(for {} s)", self.expires_in)
    }
}

impl Issued {
    /// Claims first use and a place in the task, all at once, keeps what its status can be revoked by, then writes the grant. A refusal consumes nothing; where the
    /// grant cannot be written what was claimed is taken back, and where that fails too it counts as used.
    ///
    /// # Errors
    /// [`Error::Replayed`] when someone else was first, [`Unavailable`] when claim or grant cannot be written.
    pub(super) async fn record(
        minted: MintedToken,
        claims: Claims<'_>,
        clock: &dyn Clock,
        trail: &mut Trail,
    ) -> Result<Self, Error> {
        let MintedToken { token, expires, scope, granted, algorithm, first_uses, counted, row, .. } = minted;
        let is_bound = granted.jkt.is_some();
        let now = clock.now();
        let expires_in = expires.since(now);
        if expires_in <= 0 {
            return Err(AssertionError::Expired.into());
        }
        let (spending, opened) = match counted {
            Counted::Nothing => (None, None),
            Counted::Opened(record) => (None, Some(record)),
            Counted::Used(task) => (Some(Spending { task, idle: claims.idle, until: expires }), None),
        };
        let mut held = claims.claim(Claim { marks: once(first_uses), spending }, now, trail).await?;
        if let Some(record) = opened {
            let id = record.id.clone();
            if let Err(fault) = claims.tasks.open(*record, now).await {
                return Err(held.release(opening(fault)).await);
            }
            held.opened = Some(id);
        }
        // Before anyone has the token: what revokes it has to find its entry.
        if let Some(row) = row
            && let Err(fault) = claims.revocations.keep(row, now).await
        {
            return Err(held.release(Unavailable::Store(fault).into()).await);
        }
        if let Err(fault) = trail.grant(granted) {
            tracing::error!(%fault, "grant not written, so not given");
            return Err(held.release(Unavailable::Audit.into()).await);
        }
        Ok(Self { access_token: token, expires_in, scope, algorithm, is_bound })
    }

    /// What it is signed with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How it is presented: `DPoP` where it is bound to a key, and else `Bearer` (RFC 9449 §5).
    #[must_use]
    pub fn token_type(&self) -> &'static str {
        token_type(self.is_bound)
    }

    /// The token.
    #[must_use]
    pub fn access_token(&self) -> &str {
        &self.access_token
    }

    /// How long it lives, in seconds.
    #[must_use]
    pub fn expires_in(&self) -> i64 {
        self.expires_in
    }

    /// What was granted.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }
}

/// `token_type` of a token of ours.
#[must_use]
pub fn token_type(is_bound: bool) -> &'static str {
    if is_bound { "DPoP" } else { "Bearer" }
}

/// One assertion can be the subject's and the client's: then it is used once.
fn once([subject, client, proof]: [Option<FirstUse>; 3]) -> [Option<FirstUse>; 3] {
    let client = client.filter(|client| subject.is_none_or(|subject| subject.key != client.key));
    [subject, client, proof]
}

fn opening(fault: StoreError) -> Error {
    match fault {
        StoreError::TooManyTasks => Error::TooManyTasks,
        other => Unavailable::Store(other).into(),
    }
}

/// What is claimed before a token leaves.
#[derive(Clone, Copy)]
pub(super) struct Claims<'a> {
    pub(super) uses: &'a dyn Uses,
    pub(super) tasks: &'a dyn TaskRecords,
    /// How long a task may ask for no token.
    pub(super) idle: Lifetime,
    pub(super) revocations: &'a Revocations,
}

impl<'a> Claims<'a> {
    async fn claim(self, claim: Claim, now: Timestamp, trail: &mut Trail) -> Result<Held<'a>, Error> {
        if claim == Claim::default() {
            return Ok(Held { claims: self, claim, slot: 0, opened: None });
        }
        let claimed = self.uses.claim(claim.clone(), now).await.map_err(Unavailable::Store)?;
        let names = ["first use", "client first use", "proof's first use"];
        for (place, name) in names.into_iter().enumerate() {
            if claim.marks.get(place).is_some_and(Option::is_some) {
                let first = claimed != Claimed::Used(place);
                let found = if first { "not exchanged before" } else { "exchanged before" };
                trail.check(name, first, || "not exchanged before", || found);
                if !first {
                    break;
                }
            }
        }
        let refused = match claimed {
            Claimed::Used(place) => {
                // So can whoever saw the assertion: what is used up says nothing new.
                trail.counted();
                return Err(match place {
                    0 => Error::Replayed,
                    1 => ClientError::Replayed.into(),
                    _ => ProofFault::Replayed.into(),
                });
            }
            Claimed::Whole(_) => None,
            Claimed::Budget => Some(("its budget is used up", Error::TaskSpent)),
            Claimed::Idle => Some(("idle for too long", Error::TaskIdle)),
            Claimed::Unknown => Some(("not known", Error::TaskUnknown)),
        };
        if claim.spending.is_some() {
            const EXPECTED: &str = "known, in use and within its budget";
            let found = refused.as_ref().map_or(EXPECTED, |(found, _)| found);
            trail.check("task's use", refused.is_none(), || EXPECTED, || found);
        }
        match (refused, claimed) {
            (Some((_, fault)), _) => Err(fault),
            (None, Claimed::Whole(slot)) => Ok(Held { claims: self, claim, slot, opened: None }),
            (None, _) => Err(Error::TaskUnknown),
        }
    }
}

/// What was claimed.
struct Held<'a> {
    claims: Claims<'a>,
    claim: Claim,
    slot: u32,
    /// The task that was opened.
    opened: Option<String>,
}

impl Held<'_> {
    /// Takes back what was claimed, and for which nothing is given because of `fault`. What stays counts as used.
    async fn release(self, fault: Error) -> Error {
        let Claims { uses, tasks, .. } = self.claims;
        if self.claim != Claim::default()
            && let Err(fault) = uses.release(self.claim, self.slot).await
        {
            tracing::error!(%fault, "what was claimed for a token that was not given counts as used");
        }
        if let Some(task) = self.opened
            && let Err(fault) = tasks.forget(&task).await
        {
            tracing::error!(%fault, "a task whose token was not given is open");
        }
        fault
    }
}
