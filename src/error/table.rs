//! The rows of the one table that are of one kind: what the caller is told of each fault.

use super::{REFUSED, Unavailable, Wire, wire};
use crate::assertion::{AssertionError, ProofFault};
use crate::client::ClientError;
use crate::rates::Throttled;
use crate::store::StoreError;
use countersign_verify::dpop::ProofError;

pub(super) fn client(fault: &ClientError) -> Wire {
    let told = |reason, description| wire(401, "invalid_client", reason, description);
    match fault {
        ClientError::Required => told("client_credentials_required", "this request needs client credentials"),
        ClientError::Refused | ClientError::Suspended => {
            told("client_refused", "the client is unknown or its credentials are wrong")
        }
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
            | AssertionError::Behind
            | AssertionError::Keys(_) => told(
                "client_assertion_refused",
                "the client assertion is not accepted; the operator can explain this decision",
            ),
        },
    }
}

pub(super) fn assertion(fault: &AssertionError) -> Wire {
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
        AssertionError::Behind => unavailable(&Unavailable::Store(StoreError::Stale)),
        AssertionError::Keys(_) => wire(
            503,
            "temporarily_unavailable",
            "issuer_keys_unavailable",
            "the keys of the issuer are not available; try again",
        ),
    }
}

/// RFC 9449 §5: a proof is the caller's own work, so it is told what is wrong with it.
pub(super) fn proof(fault: &ProofFault) -> Wire {
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

pub(super) fn throttled(fault: Throttled) -> Wire {
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

pub(super) fn unavailable(fault: &Unavailable) -> Wire {
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
