//! The reasons for which a token is refused, in the operator's words. The table in `src/error/table.rs` decides what
//! the caller learns of it.

use super::keys::KeyFault;
use crate::domain::AttributeFault;
use countersign_verify::Refusal;
use countersign_verify::jws::EnvelopeError;
use countersign_verify::key::NoKey;
use std::borrow::Cow;

/// Why a subject token is refused, or cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not a compact JWS.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// No configured issuer signs as its `iss`, or as the trust domain of its `sub`.
    #[error("no configured issuer signs as the token's `iss`")]
    UnknownIssuer,
    /// The declared `subject_token_type` is not the one of this issuer's tokens.
    #[error("the declared token type is not the type of this issuer's tokens")]
    DeclaredType,
    /// `alg` is not one that this issuer may use.
    #[error("the token's `alg` is not one that this issuer may sign with")]
    Algorithm,
    /// A header member that this kind of token may not have.
    #[error("the header has a member that this kind of token may not have")]
    HeaderMember,
    /// No key of the issuer fits the header.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// The signature does not hold.
    #[error("the signature does not verify")]
    Signature,
    /// `typ` is not the one of this kind of token.
    #[error("the token's `typ` is not the one of this kind of token")]
    Type,
    /// A claim is missing or of the wrong type.
    #[error("the claim `{0}` is missing or malformed")]
    Claim(Cow<'static, str>),
    /// A declared attribute cannot be read from its claim.
    #[error(transparent)]
    Attribute(#[from] AttributeFault),
    /// `aud` is not exactly us.
    #[error("the token's `aud` is not exactly this broker")]
    Audience,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It lives longer than its issuer's entry allows.
    #[error("the token lives longer than its issuer's entry allows")]
    Lifetime,
    /// `accept` does not match.
    #[error("the issuer's `accept` does not match this workload")]
    NotAccepted,
    /// A token of ours does not verify.
    #[error("{0}")]
    OwnToken(Refusal),
    /// A token of ours, or a token above it, was revoked.
    #[error("the token, or a token above it, was revoked")]
    Revoked,
    /// A token of ours names a target or a client that is no longer configured.
    #[error("the token, or a token above it, names a target or a client that is no longer configured")]
    Withdrawn,
    /// Its `cnf` binds it in another way than to a key by thumbprint.
    #[error("the token's `cnf` has another member than `jkt`, so no caller can prove here that it holds the token")]
    Bound,
    /// A token of ours was decided by a replica that had read more of the revocation log than this one.
    #[error("this replica has not yet read the revocation log up to the position at which the token was decided")]
    Behind,
    /// The issuer's keys are not to be had.
    #[error(transparent)]
    Keys(KeyFault),
}

impl AssertionError {
    /// The stable code of this refusal, for the audit log.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Envelope(_) => "token_malformed",
            Self::UnknownIssuer => "issuer_unknown",
            Self::DeclaredType => "token_type_mismatch",
            Self::Algorithm => "algorithm_not_allowed",
            Self::HeaderMember => "header_not_allowed",
            Self::Key(_) => "key_unknown",
            Self::Signature => "signature_invalid",
            Self::Type => "typ_mismatch",
            Self::Claim(_) | Self::Attribute(_) => "claim_malformed",
            Self::Audience => "audience_mismatch",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Lifetime => "lifetime_too_long",
            Self::NotAccepted => "workload_not_accepted",
            Self::OwnToken(_) => "own_token_invalid",
            Self::Revoked => "token_revoked",
            Self::Withdrawn => "token_withdrawn",
            Self::Bound => "confirmation_unsupported",
            Self::Behind => "revocations_behind",
            Self::Keys(_) => "keys_unavailable",
        }
    }
}
