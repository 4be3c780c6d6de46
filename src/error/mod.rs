//! Why we refused, and the one table from there to what the caller is told. Before a signature is verified a caller learns
//! a generic reason; after it, how its own token compares with public values; never what policy says.

mod reasons;

pub use reasons::{page, reasons};

use crate::assertion::{AssertionError, ProofFault};
use crate::client::ClientError;
use crate::exchange::RequestError;
use crate::rates::Throttled;
use crate::store::StoreError;
use countersign_verify::dpop::ProofError;

/// Why an exchange, a revocation or an introspection was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is malformed, or asks for what this version does not do.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The caller is not who it says.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The subject token is refused, or cannot be judged.
    #[error(transparent)]
    Assertion(#[from] AssertionError),
    /// The caller does not prove the key that it should, or not for this request.
    #[error(transparent)]
    Proof(#[from] ProofFault),
    /// Our own access token is presented by someone whom its `aud` does not name.
    #[error("the token is for another audience than those of the client that presents it")]
    NotItsAudience,
    /// Our own access token has as many tokens above it as one may have.
    #[error("the token has as many tokens above it as one may have")]
    LineageTooLong,
    /// No target has this name.
    #[error("no target has the name that was asked for")]
    UnknownTarget,
    /// The names that were asked for are not all of one target.
    #[error("the `audience` and `resource` values do not all name one target")]
    SeveralTargets,
    /// Policy permits nothing for this target.
    #[error("no policy permits this workload anything at this target")]
    TargetDenied,
    /// Policy permits something, but not every scope that was asked for.
    #[error("policy does not permit every scope that was asked for")]
    ScopeDenied,
    /// The target gives tokens to authenticated clients alone.
    #[error("the target's entry asks for an authenticated client")]
    TargetNeedsClient,
    /// The assertion was exchanged before.
    #[error("the assertion was exchanged before, and its issuer's entry allows that once")]
    Replayed,
    /// More than may be asked in a second, or at once.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// Something that the broker depends on is down.
    #[error("{0}")]
    Unavailable(Unavailable),
}

/// What is down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log: what cannot be written is not given.
    #[error("the audit log cannot be written, so nothing is given")]
    Audit,
    /// The signing key.
    #[error("the signing key cannot be used")]
    Signing,
    /// The source of randomness.
    #[error("the source of randomness failed")]
    Entropy,
    /// As many requests as may be are being worked on.
    #[error("as many requests as may be are being worked on")]
    Busy,
}

/// What the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// HTTP status.
    pub status: u16,
    /// `error` (RFC 6749 §5.2, RFC 8693 §2.2.2).
    pub error: &'static str,
    /// `reason`: a stable code.
    pub reason: &'static str,
    /// `error_description`.
    pub description: &'static str,
}

const fn wire(status: u16, error: &'static str, reason: &'static str, description: &'static str) -> Wire {
    Wire { status, error, reason, description }
}

/// What a caller learns of a token before its signature is verified, and of one that its issuer's entry does not accept.
const REFUSED: Wire = wire(
    400,
    "invalid_request",
    "subject_token_refused",
    "the subject token is not accepted; the operator can explain this decision",
);
/// What a caller learns of a target that is unknown, denied, or denied to it, and of names that are not all of one target:
/// whether two of them are is nothing to tell a stranger.
const NO_TARGET: Wire = wire(
    400,
    "invalid_target",
    "target_refused",
    "the target is not available to this workload, or not all names are of one target; the operator can explain this decision",
);

impl Error {
    /// The one table. Exhaustive on purpose: a new error has to say here what it tells.
    #[must_use]
    pub fn wire(&self) -> Wire {
        match self {
            Self::Request(fault) => fault.wire(),
            Self::Client(fault) => client(fault),
            Self::Assertion(fault) => assertion(fault),
            Self::Proof(fault) => proof(fault),
            Self::NotItsAudience => wire(
                400,
                "invalid_request",
                "presenter_not_audience",
                "an access token of this broker can be exchanged by an authenticated client that its aud names",
            ),
            Self::LineageTooLong => wire(
                400,
                "invalid_request",
                "lineage_too_long",
                "the subject token has as many tokens above it as one may have; exchange an earlier one",
            ),
            Self::UnknownTarget | Self::SeveralTargets | Self::TargetNeedsClient | Self::TargetDenied => NO_TARGET,
            Self::ScopeDenied => wire(
                400,
                "invalid_scope",
                "scope_refused",
                "not every scope that was asked for is available to this workload; ask for fewer, or leave scope out",
            ),
            Self::Replayed => wire(
                400,
                "invalid_request",
                "subject_token_replayed",
                "the subject token was exchanged before and can be exchanged once; get a new one",
            ),
            Self::Throttled(fault) => throttled(*fault),
            Self::Unavailable(fault) => unavailable(fault),
        }
    }

    /// The operator's code, as precise as it is known.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Assertion(fault) => fault.reason(),
            Self::UnknownTarget => "target_unknown",
            Self::SeveralTargets => "several_targets",
            Self::TargetNeedsClient => "client_required_by_target",
            Self::TargetDenied => "target_denied",
            Self::Client(ClientError::Assertion(fault)) => fault.reason(),
            Self::Request(_)
            | Self::Client(_)
            | Self::Proof(_)
            | Self::NotItsAudience
            | Self::LineageTooLong
            | Self::ScopeDenied
            | Self::Replayed
            | Self::Throttled(_)
            | Self::Unavailable(_) => self.wire().reason,
        }
    }

    /// Whether it is not the caller's fault.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Assertion(AssertionError::Keys(_)))
    }
}

fn client(fault: &ClientError) -> Wire {
    let told = |reason, description| wire(401, "invalid_client", reason, description);
    match fault {
        ClientError::Required => told("client_credentials_required", "this request needs client credentials"),
        ClientError::Refused => told("client_refused", "the client is unknown or its credentials are wrong"),
        ClientError::Replayed => {
            told("client_assertion_replayed", "the client assertion was used before and counts once; make a new one")
        }
        ClientError::Grant => wire(
            400,
            "unauthorized_client",
            "client_grant_refused",
            "the client_credentials grant takes a client assertion of a configured issuer; use token exchange",
        ),
        ClientError::Throttled => wire(
            429,
            "invalid_client",
            "client_throttled",
            "too many wrong secrets came for this client or from this address; try again later",
        ),
        ClientError::Assertion(fault) => match fault {
            AssertionError::Type => {
                told("client_assertion_typ", "the typ of the client assertion is not the one of this kind of token")
            }
            AssertionError::Audience => told(
                "client_assertion_audience",
                "the aud of the client assertion is not exactly this broker; make it for this audience alone",
            ),
            AssertionError::Expired => {
                told("client_assertion_expired", "the client assertion has expired; make a new one")
            }
            AssertionError::NotYetValid => {
                told("client_assertion_not_yet_valid", "the client assertion is not valid yet; compare the clocks")
            }
            AssertionError::Envelope(_)
            | AssertionError::UnknownIssuer
            | AssertionError::DeclaredType
            | AssertionError::Algorithm
            | AssertionError::HeaderMember
            | AssertionError::Key(_)
            | AssertionError::Signature
            | AssertionError::Claim(_)
            | AssertionError::Lifetime
            | AssertionError::NotAccepted
            | AssertionError::OwnToken(_)
            | AssertionError::Withdrawn
            | AssertionError::Revoked
            | AssertionError::Bound
            | AssertionError::Keys(_) => told(
                "client_assertion_refused",
                "the client assertion is not accepted; the operator can explain this decision",
            ),
        },
    }
}

fn assertion(fault: &AssertionError) -> Wire {
    let told = |reason, description| wire(400, "invalid_request", reason, description);
    match fault {
        AssertionError::Envelope(_)
        | AssertionError::UnknownIssuer
        | AssertionError::DeclaredType
        | AssertionError::Algorithm
        | AssertionError::HeaderMember
        | AssertionError::Key(_)
        | AssertionError::Signature
        | AssertionError::Claim(_)
        | AssertionError::Lifetime
        | AssertionError::NotAccepted
        | AssertionError::OwnToken(_)
        | AssertionError::Withdrawn => REFUSED,
        AssertionError::Type => {
            told("subject_token_typ", "the typ of the subject token is not the one of this kind of token")
        }
        AssertionError::Audience => told(
            "subject_token_audience",
            "the aud of the subject token is not exactly this broker; request it for this audience alone",
        ),
        AssertionError::Expired => told("subject_token_expired", "the subject token has expired; get a new one"),
        AssertionError::NotYetValid => {
            told("subject_token_not_yet_valid", "the subject token is not valid yet; compare the clocks")
        }
        AssertionError::Revoked => told("subject_token_revoked", "the subject token was revoked"),
        AssertionError::Bound => told(
            "subject_token_bound",
            "the subject token is bound by another member of cnf than jkt, which cannot be proved here",
        ),
        AssertionError::Keys(_) => wire(
            503,
            "temporarily_unavailable",
            "issuer_keys_unavailable",
            "the keys of the issuer are not available; try again",
        ),
    }
}

/// RFC 9449 §5: a proof is the caller's own work, so it is told what is wrong with it.
fn proof(fault: &ProofFault) -> Wire {
    let told = |reason, description| wire(400, "invalid_dpop_proof", reason, description);
    match fault {
        ProofFault::Several => told("dpop_proof_repeated", "send one DPoP header field with one proof"),
        ProofFault::Invalid(ProofError::Method | ProofError::Uri) => told(
            "dpop_proof_mismatch",
            "htm of the DPoP proof must be POST, and htu the URL of this endpoint as the metadata names it",
        ),
        ProofFault::Invalid(ProofError::Time) => told(
            "dpop_proof_stale",
            "the DPoP proof was not made just now; make one for each request, and compare the clocks",
        ),
        ProofFault::Invalid(
            ProofError::Envelope(_)
            | ProofError::Type
            | ProofError::Key(_)
            | ProofError::Signature
            | ProofError::Claim(_)
            | ProofError::Token,
        ) => told(
            "dpop_proof_invalid",
            "the DPoP proof is not a dpop+jwt with jti, htm, htu and iat, signed by the public key in its jwk",
        ),
        ProofFault::Required => {
            told("dpop_proof_required", "the token is bound to a key; send a DPoP proof by that key")
        }
        ProofFault::OtherKey => {
            told("dpop_key_mismatch", "the token is bound to another key than the one of the DPoP proof")
        }
        ProofFault::Replayed => {
            told("dpop_proof_replayed", "the DPoP proof was used before; make one for each request")
        }
    }
}

fn throttled(fault: Throttled) -> Wire {
    let wait = |reason, description| wire(429, "temporarily_unavailable", reason, description);
    match fault {
        Throttled::Network => {
            wait("network_throttled", "too many requests come from this network; wait as long as Retry-After says")
        }
        Throttled::InFlight => {
            wait("network_busy", "too many requests of this network are being worked on at once; try again")
        }
        Throttled::Workload => wait(
            "workload_throttled",
            "this workload asks for tokens too often; keep a token until it expires, and wait as long as Retry-After says",
        ),
        Throttled::Issuer => wait(
            "issuer_throttled",
            "workloads of this issuer ask for too many tokens; wait as long as Retry-After says",
        ),
    }
}

fn unavailable(fault: &Unavailable) -> Wire {
    let down = |reason, description| wire(503, "temporarily_unavailable", reason, description);
    match fault {
        Unavailable::Store(_) => down("store_unavailable", "the store is not available; nothing was issued; try again"),
        Unavailable::Audit => {
            down("audit_unavailable", "the audit log is not available; nothing was issued; try again")
        }
        Unavailable::Signing => {
            down("signing_unavailable", "the signing key is not available; nothing was issued; try again")
        }
        Unavailable::Entropy => {
            down("entropy_unavailable", "randomness is not available; nothing was issued; try again")
        }
        Unavailable::Busy => down("busy", "too many requests are being worked on; try again"),
    }
}
