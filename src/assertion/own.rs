//! Our own access tokens as subject tokens. They are verified by our own keys alone, even if another issuer claims our
//! name.

use super::claims::provable;
use super::{AssertionError, Issuer, SubjectToken, Verified};
use crate::audit::AuditTrail;
use crate::domain::{Attributes, Timestamp, Workload, sha256};
use crate::revocation::Revocations;
use crate::signing::Keys;
use countersign_verify::key::NoKey;
use countersign_verify::{AccessToken, Refusal, verify_any_audience};
use quick_cache::sync::Cache;
use serde_json::Value;
use std::marker::PhantomData;
use std::sync::Arc;

/// Number of tokens that are remembered as verified, about a kilobyte each.
const REMEMBERED: usize = 8_192;

/// Verifies our own tokens. A signature that was verified is not verified again; whatever can change is checked each
/// time.
pub struct OwnTokens {
    issuer: String,
    keys: Arc<Keys>,
    revocations: Arc<Revocations>,
    /// Verified tokens by the SHA-256 of the whole token, including its signature.
    verified: Cache<[u8; 32], Arc<AccessToken>>,
}

impl OwnTokens {
    /// Tokens that `issuer` minted with `keys` and that `revocations` have not killed.
    #[must_use]
    pub fn new(issuer: String, keys: Arc<Keys>, revocations: Arc<Revocations>) -> Self {
        Self { issuer, keys, revocations, verified: Cache::new(REMEMBERED) }
    }

    /// The token, if it is ours, alive and not revoked, and whether it had been verified before. The signature is
    /// verified before anything is looked up.
    ///
    /// # Errors
    /// [`AssertionError::OwnToken`] if it does not verify, [`AssertionError::Revoked`] if it or a token above it is
    /// revoked, [`AssertionError::Behind`] when that is not known here.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<(Arc<AccessToken>, bool), AssertionError> {
        let digest = sha256(&[token.as_bytes()]);
        let (token, found) = match self.signed(token, &digest, now) {
            // Another replica may have made the key a moment ago, or hold one that this one lacks.
            Err(Refusal::Key(NoKey::UnknownKid)) if self.revocations.is_shared() => {
                self.keys.look_again(now).await;
                let again = self.signed(token, &digest, now);
                if matches!(again, Err(Refusal::Key(_))) && self.keys.ring().is_lacking() {
                    return Err(AssertionError::Behind);
                }
                again
            }
            signed => signed,
        }
        .map_err(AssertionError::OwnToken)?;
        if token.claims().exp <= now.seconds() {
            return Err(AssertionError::OwnToken(Refusal::Expired));
        }
        // Decided by a log that is longer than ours: another replica is a moment ahead, and its records are on their
        // way; or an older store was put back, and what would hit it is not known.
        if !self.revocations.reaches(token.claims().pos).await.map_err(|_| AssertionError::Behind)? {
            return Err(AssertionError::Revoked);
        }
        if self.revocations.hit(&token) { Err(AssertionError::Revoked) } else { Ok((token, found)) }
    }

    /// The token, if it was signed here, and whether that was known.
    fn signed(&self, token: &str, digest: &[u8; 32], now: Timestamp) -> Result<(Arc<AccessToken>, bool), Refusal> {
        let ring = self.keys.ring();
        if let Some(known) = self.verified.get(digest).filter(|token| ring.verifying().has(token.key_id())) {
            return Ok((known, true));
        }
        let token = Arc::new(verify_any_audience(token, &self.issuer, ring.verifying(), now.seconds(), 0)?);
        self.verified.insert(*digest, Arc::clone(&token));
        Ok((token, false))
    }

    /// Verifies a token that is to be exchanged, as [`OwnTokens::verify`] does.
    pub(super) async fn verify_subject(
        &self,
        token: &str,
        now: Timestamp,
        trail: &mut AuditTrail,
    ) -> Result<Arc<AccessToken>, AssertionError> {
        let verified = self.verify(token, now).await.map(|(token, _)| token);
        let token = trail.require_ok("own token", verified, || "minted here, alive", jti_or_fault)?;
        let claims = token.claims();
        trail.vouched();
        trail.subject(&claims.iss, &claims.sub, Some(&claims.jti));
        Ok(token)
    }
}

/// The `jti` of a token that was verified, or why it was not.
pub fn jti_or_fault(verified: &Result<Arc<AccessToken>, AssertionError>) -> String {
    match verified {
        Ok(token) => token.claims().jti.clone(),
        Err(fault) => fault.to_string(),
    }
}

impl Issuer {
    /// The attributes that a task token carries, as far as the issuer's entry still declares them; none if they do not
    /// fit it any more.
    fn attributes_of_task(&self, facts: Value) -> Option<Attributes> {
        let mut facts: Attributes = serde_json::from_value(facts).ok()?;
        let Some(record) = &self.attributes else { return facts.is_empty().then_some(facts) };
        let values = record.still_fits(facts.remove(&record.name)?)?;
        facts.is_empty().then(|| Attributes::from([(Arc::clone(&record.name), values)]))
    }
}

impl Verified<SubjectToken> {
    /// A token of ours, whose workload `issuer` vouched for in the first place.
    pub(super) fn of_own(token: Arc<AccessToken>, issuer: &Issuer) -> Result<Self, AssertionError> {
        let claims = token.claims();
        // A task's own token, which is for us, stands for the assertion that opened the task.
        let facts = claims.task.facts.clone().filter(|_| claims.aud == claims.iss);
        let attributes = match facts {
            Some(facts) => issuer.attributes_of_task(facts).ok_or(AssertionError::OwnToken(Refusal::Claims))?,
            None => Attributes::new(),
        };
        let workload = Workload {
            name: claims.sub.clone(),
            issuer: issuer.name.to_string(),
            owner: issuer.owner.clone(),
            environment: issuer.environment.clone(),
            attributes,
        };
        Ok(Self {
            workload: Arc::new(workload),
            origin: claims.origin.clone(),
            expires: Timestamp::new(claims.exp).ok_or(AssertionError::Claim("exp".into()))?,
            first_use: None,
            jti: None,
            client_required: issuer.client_required,
            bound_to: claims.cnf.clone().map(provable).transpose()?,
            parent: Some(token),
            role: PhantomData,
        })
    }
}
