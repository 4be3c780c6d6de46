//! Proof that the caller holds a key (DPoP, RFC 9449): what a token is bound to, and what presents a bound one.

use super::verify::MARK_MARGIN;
use crate::audit::AuditTrail;
use crate::domain::{Digest, FirstUse, Timestamp, UsedOnce};
use countersign_verify::confirmation::ConfirmationKey;
use countersign_verify::dpop::{self, Proof, Request};

/// The header fields by which a caller proves that it holds a key, as they came, and the URI that it asked, by our own
/// name for it.
#[derive(Debug)]
pub struct Proofs {
    /// Each `DPoP` header field.
    pub fields: Vec<String>,
    /// The expected `htu`.
    pub uri: String,
}

/// A key that the caller proved to hold, for this very request. Only this file makes one.
#[derive(Debug)]
pub struct Confirmation {
    key: ConfirmationKey,
    first_use: FirstUse,
}

/// Why the caller's proof, or that there is none, refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// More than one header field (RFC 9449 §4.3, check 1).
    #[error("more than one DPoP proof was sent")]
    Several,
    /// The proof does not verify.
    #[error(transparent)]
    Invalid(#[from] dpop::ProofError),
    /// The presented token is bound to a key, and no proof came with it.
    #[error("the presented token is bound to a key, and no proof of that key was sent")]
    Required,
    /// The presented token is bound to another key.
    #[error("the presented token is bound to another key than the key of the proof")]
    OtherKey,
    /// The proof came before.
    #[error("the DPoP proof was used before")]
    Replayed,
}

impl Confirmation {
    /// Verifies the one proof of `proofs` for a POST to its URI. What comes back has to be claimed before it counts.
    ///
    /// # Errors
    /// [`ProofFault`] names the first check that failed.
    pub fn prove(proofs: &Proofs, now: Timestamp, trail: &mut AuditTrail) -> Result<Self, ProofFault> {
        let [proof] = proofs.fields.as_slice() else { return Err(ProofFault::Several) };
        let request = Request { method: "POST", uri: &proofs.uri, token: None };
        let verified = Proof::verify(proof, request, now.seconds());
        let expected = || format!("a DPoP proof for POST {}", proofs.uri);
        let proof = trail.require_ok("proof of possession", verified, expected, |verified| match verified {
            Ok(proof) => format!("by the key {}", proof.thumbprint()),
            Err(fault) => fault.to_string(),
        })?;
        let until = Timestamp::new(proof.until()).unwrap_or(Timestamp::MAX).plus(MARK_MARGIN);
        let thumbprint = proof.thumbprint();
        let key = Digest::of("dpop", &[&thumbprint.to_string(), proof.id()]);
        let first_use = FirstUse { of: UsedOnce::Proof, key, until };
        Ok(Self { key: ConfirmationKey::Jkt(thumbprint), first_use })
    }

    /// The key that was proved.
    #[must_use]
    pub fn key(&self) -> &ConfirmationKey {
        &self.key
    }

    /// The first use to reserve before the proof counts: a proof is made for one request.
    #[must_use]
    pub fn first_use(&self) -> FirstUse {
        self.first_use
    }

    /// Checks that a token that is bound to `needed` is presented with a proof by that key.
    ///
    /// # Errors
    /// [`ProofFault::Required`] and [`ProofFault::OtherKey`].
    pub fn fits(
        proved: Option<&Self>,
        needed: Option<&ConfirmationKey>,
        trail: &mut AuditTrail,
    ) -> Result<(), ProofFault> {
        let Some(needed) = needed else { return Ok(()) };
        let shown = proved.map(Self::key);
        trail.require(
            "confirmation key",
            shown == Some(needed),
            || format!("a proof by the key {needed}"),
            || shown.map_or_else(|| "no proof".to_owned(), ToString::to_string),
            if shown.is_some() { ProofFault::OtherKey } else { ProofFault::Required },
        )
    }
}
