//! Our own access tokens as subject tokens. Verified by our own keys alone, whoever else claims our name.

use super::{AssertionError, Issuer, SubjectToken, Verified};
use crate::audit::Trail;
use crate::domain::{Attributes, Timestamp, Workload};
use crate::revocation::Revocations;
use crate::signing::KeyRing;
use countersign_verify::{AccessToken, verify_any_audience};
use std::marker::PhantomData;
use std::sync::Arc;

/// What knows our own tokens.
pub struct OwnTokens {
    issuer: String,
    keys: Arc<KeyRing>,
    revocations: Arc<Revocations>,
}

impl OwnTokens {
    /// Tokens that `issuer` minted with `keys` and that `revocations` have not killed.
    #[must_use]
    pub fn new(issuer: String, keys: Arc<KeyRing>, revocations: Arc<Revocations>) -> Self {
        Self { issuer, keys, revocations }
    }

    /// Our issuer identifier.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The token, if it is ours, alive and not revoked. The signature is verified before anything is looked up.
    ///
    /// # Errors
    /// [`AssertionError::OwnToken`] when it does not verify, [`AssertionError::Revoked`] when it or one above it is dead.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<AccessToken, AssertionError> {
        let token = verify_any_audience(token, &self.issuer, self.keys.verifying(), now.seconds(), 0)
            .map_err(AssertionError::OwnToken)?;
        if self.revocations.hit(token.claims()) { Err(AssertionError::Revoked) } else { Ok(token) }
    }

    /// As [`OwnTokens::verify`], for a token that is to be exchanged.
    pub(super) fn verify_subject(
        &self,
        token: &str,
        now: Timestamp,
        trail: &mut Trail,
    ) -> Result<AccessToken, AssertionError> {
        let verified = self.verify(token, now);
        trail.check(
            "own token",
            verified.is_ok(),
            || "minted here, alive",
            || match &verified {
                Ok(token) => token.claims().jti.clone(),
                Err(fault) => fault.to_string(),
            },
        );
        let token = verified?;
        let claims = token.claims();
        trail.subject(&claims.iss, &claims.sub, Some(&claims.jti));
        if claims.cnf.is_some() { Err(AssertionError::Bound) } else { Ok(token) }
    }
}

impl Verified<SubjectToken> {
    /// A token of ours, whose workload `issuer` vouched for in the first place.
    pub(super) fn of_own(token: AccessToken, issuer: &Issuer) -> Result<Self, AssertionError> {
        let claims = token.claims();
        let workload = Workload {
            name: claims.sub.clone(),
            issuer: issuer.name.to_string(),
            owner: issuer.owner.clone(),
            environment: issuer.environment.clone(),
            attributes: Attributes::OwnToken,
        };
        Ok(Self {
            workload: Arc::new(workload),
            origin: claims.origin.clone(),
            expires: Timestamp::new(claims.exp).ok_or(AssertionError::Claim("exp"))?,
            first_use: None,
            parent: Some(Box::new(token)),
            role: PhantomData,
        })
    }
}
