//! The last stage before a token leaves: first use is claimed and the grant is on the audit log.

use super::MintedToken;
use crate::assertion::AssertionError;
use crate::audit::Trail;
use crate::domain::{Clock, Scopes};
use crate::error::{Error, Unavailable};
use crate::store::FirstUses;
use std::fmt;

/// A token that may leave. The only thing that the HTTP layer can render.
pub struct Issued {
    access_token: String,
    expires_in: i64,
    scopes: Scopes,
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
        let MintedToken { token, expires, scopes, granted, first_use, .. } = minted;
        let now = clock.now();
        let expires_in = expires.since(now);
        if expires_in <= 0 {
            return Err(AssertionError::Expired.into());
        }
        if let Some(mark) = first_use {
            let first = first_uses.claim(mark.key, mark.until, now).await.map_err(Unavailable::Store)?;
            trail.check(
                "first use",
                first,
                || "not exchanged before".to_owned(),
                || if first { "not exchanged before" } else { "exchanged before" }.to_owned(),
            );
            if !first {
                return Err(Error::Replayed);
            }
        }
        if let Err(fault) = trail.grant(granted) {
            tracing::error!(%fault, "grant not written, so not given");
            if let Some(mark) = first_use
                && let Err(fault) = first_uses.release(mark.key, mark.until).await
            {
                tracing::error!(%fault, "first-use mark not taken back");
            }
            return Err(Unavailable::Audit.into());
        }
        Ok(Self { access_token: token, expires_in, scopes })
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
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }
}
