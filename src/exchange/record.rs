//! The last stage before a token leaves: first use is claimed and the grant is on the audit log.

use super::MintedToken;
use crate::assertion::{AssertionError, FirstUse, ProofFault};
use crate::audit::Trail;
use crate::client::ClientError;
use crate::domain::Clock;
use crate::error::{Error, Unavailable};
use crate::store::FirstUses;
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
    /// Claims first use, then writes the grant. A refusal consumes nothing; where the grant cannot be written the mark is
    /// taken back, and where that fails too the assertion counts as used.
    ///
    /// # Errors
    /// [`Error::Replayed`] when someone else was first, [`Unavailable`] when mark or grant cannot be written.
    pub(super) async fn record(
        minted: MintedToken,
        first_uses: &dyn FirstUses,
        clock: &dyn Clock,
        trail: &mut Trail,
    ) -> Result<Self, Error> {
        let MintedToken { token, expires, scope, granted, algorithm, first_uses: marks, .. } = minted;
        let is_bound = granted.jkt.is_some();
        let now = clock.now();
        let expires_in = expires.since(now);
        if expires_in <= 0 {
            return Err(AssertionError::Expired.into());
        }
        let [subject, client, proof] = marks;
        // One assertion can be both: then it is used once.
        let client = client.filter(|client| subject.is_none_or(|subject| subject.key != client.key));
        let mut claimed = Vec::new();
        for (mark, name) in [(subject, "first use"), (client, "client first use"), (proof, "proof's first use")] {
            let Some(mark) = mark else { continue };
            let first = match first_uses.claim(mark.key, mark.until, now).await {
                Ok(first) => first,
                Err(fault) => {
                    release(&claimed, first_uses).await;
                    return Err(Unavailable::Store(fault).into());
                }
            };
            trail.check(
                name,
                first,
                || "not exchanged before".to_owned(),
                || if first { "not exchanged before" } else { "exchanged before" }.to_owned(),
            );
            if !first {
                release(&claimed, first_uses).await;
                // So can whoever saw the assertion: what is used up says nothing new.
                trail.counted();
                return Err(match name {
                    "first use" => Error::Replayed,
                    "client first use" => ClientError::Replayed.into(),
                    _ => ProofFault::Replayed.into(),
                });
            }
            claimed.push(mark);
        }
        if let Err(fault) = trail.grant(granted) {
            tracing::error!(%fault, "grant not written, so not given");
            release(&claimed, first_uses).await;
            return Err(Unavailable::Audit.into());
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

/// Takes marks back for which nothing was given. One that stays counts as used.
async fn release(claimed: &[FirstUse], first_uses: &dyn FirstUses) {
    for mark in claimed {
        if let Err(fault) = first_uses.release(mark.key, mark.until).await {
            tracing::error!(%fault, "first-use mark not taken back");
        }
    }
}
