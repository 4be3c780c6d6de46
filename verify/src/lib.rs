//! Verifies access tokens minted by Countersign, offline.
//!
//! A resource server builds one [`Verifier`] from the broker's issuer identifier, its own audience and the document at
//! `/jwks`, and asks it about each token. The broker uses the same envelope, keys, claims and revocation names, so that
//! both say the same.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let jwks = br#"{"keys":[]}"#;
//! let verifier = countersign_verify::Verifier::new("https://sts.acme.example", "https://orders.acme.example", jwks)?;
//! assert!(verifier.verify("not.a.token", 1_795_304_539).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `client` there is `server::ResourceServer`, which fetches the keys and follows the revocation feed,
//! so that a revoked token is refused within milliseconds and nobody is asked about any, or reads status lists; with
//! `actix`, `protect` puts it in front of the routes of an actix-web application.

pub mod backoff;
pub mod claims;
pub mod confirmation;
pub mod dpop;
pub mod feed;
pub mod json;
pub mod jws;
pub mod key;
#[cfg(feature = "actix")]
pub mod protect;
pub mod revocation;
mod rsa;
#[cfg(feature = "client")]
pub mod server;
pub mod status;
pub mod view;
#[cfg(test)]
mod wycheproof;

use claims::{AccessClaims, MAX_LINEAGE};
use confirmation::ConfirmationKey;
use dpop::{Proof, ProofError, Request};
use jws::{Compact, EnvelopeError};
use key::{Algorithm, KeySet, KeySetError, KeyUse, NoKey};
use serde_json::Value;

/// Leeway between two clocks when a resource server compares `exp` and `nbf`, in seconds.
pub const LEEWAY: i64 = 30;

/// Algorithms that the broker signs with.
pub const SIGNING_ALGORITHMS: [Algorithm; 3] = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a compact JWS.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// `typ` is not `at+jwt` (RFC 9068 §4): an ID token, a proof or another kind of JWT.
    #[error("the token's `typ` is not `at+jwt`, so it is not an access token")]
    Type,
    /// No key fits.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// The signature does not hold.
    #[error("the signature does not verify")]
    Signature,
    /// A claim that RFC 9068 §2.2 or Countersign requires is missing or of the wrong type.
    #[error("the claims are not those of an access token of this broker")]
    Claims,
    /// Another issuer.
    #[error("`iss` is not the expected issuer")]
    Issuer,
    /// Another audience.
    #[error("`aud` is not this audience")]
    Audience,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` lies ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The token is bound to a key (`cnf`), and no proof of that key was shown: it is no bearer token.
    #[error("the token is bound to a key, and no proof of that key came with it")]
    Bound,
    /// The proof proves nothing for this request.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// An access token whose signature, type, issuer and times hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    claims: AccessClaims,
    key_id: String,
}

impl AccessToken {
    /// The claims of the token.
    #[must_use]
    pub fn claims(&self) -> &AccessClaims {
        &self.claims
    }

    /// The key that signed it.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }
}

/// Verifies `token` as an access token of `issuer` at `now` (seconds since 1970), for whatever audience it names. The
/// broker asks this of its own tokens; a resource server asks [`Verifier::verify`], which also checks who it is for.
///
/// # Errors
/// [`Refusal`] names the first check that fails.
pub fn verify_any_audience(
    token: &str,
    issuer: &str,
    keys: &KeySet,
    now: i64,
    leeway: i64,
) -> Result<AccessToken, Refusal> {
    let compact = Compact::parse(token)?;
    if compact.header().media_type.as_deref() != Some("at+jwt") {
        return Err(Refusal::Type);
    }
    let key_id = compact.header().key_id.clone().ok_or(NoKey::UnknownKid)?;
    let key = keys.find(Some(&key_id), compact.header().algorithm)?;
    let payload = compact.verify(key).map_err(|_| Refusal::Signature)?;
    let claims: AccessClaims =
        serde_json::from_value(Value::Object(payload.into_members())).map_err(|_| Refusal::Claims)?;
    if claims.lineage.len() > MAX_LINEAGE {
        return Err(Refusal::Claims);
    }
    if claims.iss != issuer {
        return Err(Refusal::Issuer);
    }
    if claims.exp.saturating_add(leeway) <= now {
        return Err(Refusal::Expired);
    }
    if claims.nbf.saturating_sub(leeway) > now {
        return Err(Refusal::NotYetValid);
    }
    Ok(AccessToken { claims, key_id })
}

/// Verifies access tokens for one resource server.
#[derive(Debug)]
pub struct Verifier {
    issuer: String,
    audience: String,
    keys: KeySet,
}

impl Verifier {
    /// The keys that it verifies with.
    #[must_use]
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// A verifier for tokens of the broker `issuer` meant for `audience`, with the keys of `jwks` (the document at the
    /// broker's `/jwks`; fetch it again when [`Verifier::verify`] answers [`NoKey::UnknownKid`]).
    ///
    /// # Errors
    /// [`KeySetError`] when `jwks` is not a JWK Set.
    pub fn new(issuer: &str, audience: &str, jwks: &[u8]) -> Result<Self, KeySetError> {
        let (keys, _) = KeySet::from_jwks(jwks, KeyUse::Signature, &SIGNING_ALGORITHMS)?;
        Ok(Self { issuer: issuer.to_owned(), audience: audience.to_owned(), keys })
    }

    /// Verifies a bearer token at `now`, seconds since 1970 (RFC 9068 §4).
    ///
    /// # Errors
    /// [`Refusal`] names the first check that fails; answer 401 `invalid_token`.
    pub fn verify(&self, token: &str, now: i64) -> Result<AccessToken, Refusal> {
        let token = self.verify_unproved(token, now)?;
        if token.claims.cnf.is_some() { Err(Refusal::Bound) } else { Ok(token) }
    }

    /// Verifies a token that came with a proof, in `Authorization: DPoP` (RFC 9449 §7.1), for the request by a method
    /// to a URI. The proof's id may come once: remember it until [`Proof::until`].
    ///
    /// # Errors
    /// [`Refusal`] names the first check that fails; answer 401 `invalid_token`, or `invalid_dpop_proof` for
    /// [`Refusal::Proof`].
    pub fn verify_bound(
        &self,
        token: &str,
        proof: &str,
        (method, uri): (&str, &str),
        now: i64,
    ) -> Result<(AccessToken, Proof), Refusal> {
        let verified = self.verify_unproved(token, now)?;
        let proof = Proof::verify(proof, Request { method, uri, token: Some(token) }, now)?;
        match verified.claims.cnf {
            Some(ConfirmationKey::Jkt(jkt)) if jkt == proof.thumbprint() => Ok((verified, proof)),
            Some(ConfirmationKey::Jkt(_) | ConfirmationKey::X5t(_) | ConfirmationKey::SpiffeId(_)) | None => {
                Err(Refusal::Bound)
            }
        }
    }

    fn verify_unproved(&self, token: &str, now: i64) -> Result<AccessToken, Refusal> {
        let token = verify_any_audience(token, &self.issuer, &self.keys, now, LEEWAY)?;
        if token.claims.aud == self.audience { Ok(token) } else { Err(Refusal::Audience) }
    }
}
