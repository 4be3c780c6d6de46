//! The rows of the one table that are of one kind: what the caller is told of each fault.

use super::{REFUSED, Unavailable, Wire, wire};
use crate::assertion::{AssertionError, ProofFault};
use crate::client::ClientError;
use crate::form::{CredentialsError, HttpError, RequestError, Required, TaskParameter};
use crate::rates::Throttled;
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
        ClientError::Assertion(fault) => assertion(&CLIENT_ASSERTION, fault),
    }
}

/// The answers to faults of a token in one role. A role is one value of this type.
pub(super) struct RoleRows {
    /// The answer to every fault that the caller must not learn.
    refused: Wire,
    type_mismatch: Wire,
    audience: Wire,
    expired: Wire,
    not_yet_valid: Wire,
    revoked: Wire,
    bound: Wire,
    /// The keys of its issuer are not available.
    keys: Wire,
    /// The view of revocations is not current.
    behind: Wire,
}

/// RFC 8693 §2.2.2.
pub(super) const SUBJECT_TOKEN: RoleRows = {
    const fn told(reason: &'static str, description: &'static str) -> Wire {
        wire(400, "invalid_request", reason, description)
    }
    RoleRows {
        refused: REFUSED,
        type_mismatch: told("subject_token_typ", "the typ of the subject token is not the one of this kind of token"),
        audience: told(
            "subject_token_audience",
            "the aud of the subject token is not exactly this broker; request it for this audience alone",
        ),
        expired: told("subject_token_expired", "the subject token has expired; get a new one"),
        not_yet_valid: told("subject_token_not_yet_valid", "the subject token is not valid yet; compare the clocks"),
        revoked: told("subject_token_revoked", "the subject token was revoked"),
        bound: told(
            "subject_token_bound",
            "the subject token is bound by another member of cnf than jkt, which cannot be proved here",
        ),
        keys: down("issuer_keys_unavailable", "the keys of the issuer are not available; try again"),
        behind: STORE,
    }
};

/// RFC 6749 §5.2. A client learns no more of its assertion than of a wrong secret, except what it can mend.
const CLIENT_ASSERTION: RoleRows = {
    const fn told(reason: &'static str, description: &'static str) -> Wire {
        wire(401, "invalid_client", reason, description)
    }
    const REFUSED: Wire = told(
        "client_assertion_refused",
        "the client assertion is not accepted; the operator can explain this decision",
    );
    RoleRows {
        refused: REFUSED,
        type_mismatch: told(
            "client_assertion_typ",
            "the typ of the client assertion is not the one of this kind of token",
        ),
        audience: told(
            "client_assertion_audience",
            "the aud of the client assertion is not exactly this broker; make it for this audience alone",
        ),
        expired: told("client_assertion_expired", "the client assertion has expired; make a new one"),
        not_yet_valid: told(
            "client_assertion_not_yet_valid",
            "the client assertion is not valid yet; compare the clocks",
        ),
        revoked: REFUSED,
        bound: REFUSED,
        keys: REFUSED,
        behind: REFUSED,
    }
};

pub(super) fn assertion(role: &RoleRows, fault: &AssertionError) -> Wire {
    match fault {
        AssertionError::Envelope(_)
        | AssertionError::UnknownIssuer
        | AssertionError::DeclaredType
        | AssertionError::Algorithm
        | AssertionError::HeaderMember
        | AssertionError::Key(_)
        | AssertionError::Signature
        | AssertionError::Claim(_)
        | AssertionError::Attribute(_)
        | AssertionError::Lifetime
        | AssertionError::NotAccepted
        | AssertionError::OwnToken(_)
        | AssertionError::Withdrawn => role.refused,
        AssertionError::Type => role.type_mismatch,
        AssertionError::Audience => role.audience,
        AssertionError::Expired => role.expired,
        AssertionError::NotYetValid => role.not_yet_valid,
        AssertionError::Revoked => role.revoked,
        AssertionError::Bound => role.bound,
        AssertionError::Behind => role.behind,
        AssertionError::Keys(_) => role.keys,
    }
}

/// RFC 9449 §5: a proof is the caller's own work, so the caller learns what is wrong with it.
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

const fn down(reason: &'static str, description: &'static str) -> Wire {
    wire(503, "temporarily_unavailable", reason, description)
}

const STORE: Wire = down("store_unavailable", "the store is not available; nothing was issued; try again");

pub(super) fn unavailable(fault: &Unavailable) -> Wire {
    match fault {
        Unavailable::Store(_) => STORE,
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

/// RFC 6749 §5.2: a malformed request is always explained.
pub(super) fn request(fault: RequestError) -> Wire {
    let told = |error, reason, description| wire(400, error, reason, description);
    let invalid = |reason, description| told("invalid_request", reason, description);
    let target = |reason, description| told("invalid_target", reason, description);
    match fault {
        RequestError::Http(fault) => http(fault),
        RequestError::Missing(parameter) => missing(parameter),
        RequestError::TaskParameter(parameter) => task_parameter(parameter),
        RequestError::Repeated(parameter) => invalid("parameter_repeated", parameter.repeated()),
        RequestError::Form => {
            invalid("form_malformed", "the body is not form-encoded UTF-8; percent-encode every value")
        }
        RequestError::TooMany => invalid("too_many_parameters", "there are more parameters than this broker reads"),
        RequestError::GrantType => told(
            "unsupported_grant_type",
            "grant_type_unsupported",
            "grant_type must be urn:ietf:params:oauth:grant-type:token-exchange or client_credentials",
        ),
        RequestError::SubjectTokenType => invalid(
            "subject_token_type_unsupported",
            "subject_token_type must be the URN of jwt, of id_token, or of access_token for a token of this broker",
        ),
        RequestError::RequestedTokenType => invalid(
            "requested_token_type_unsupported",
            "requested_token_type must be the URN of access_token or of jwt",
        ),
        RequestError::ActorPair => {
            invalid("actor_token_incomplete", "actor_token and actor_token_type must be sent together")
        }
        RequestError::Actor => {
            invalid("actor_token_unsupported", "actor tokens are not supported by this version; leave actor_token out")
        }
        RequestError::Resource => target("resource_malformed", "resource must be an absolute URI without a fragment"),
        RequestError::NoTarget => target("target_missing", "name one target with audience or resource"),
        RequestError::TooManyTargets => {
            target("too_many_targets", "there are more audience, resource or task_target values than this broker reads")
        }
        RequestError::UnknownTaskParameter => invalid(
            "task_parameter_unknown",
            "a task_ parameter is not known; there are task_purpose, task_deadline, task_budget and task_target",
        ),
        RequestError::NoTaskOpened => invalid(
            "task_not_opened",
            "task_ parameters open a task: name this broker itself as the audience, or leave them out",
        ),
        RequestError::Lifetime => invalid("lifetime_malformed", "lifetime must be a whole number of seconds from 1"),
        RequestError::Scope => told(
            "invalid_scope",
            "scope_malformed",
            "scope must be at most 32 names of printable ASCII, separated by one space each",
        ),
        RequestError::AuthorizationDetails => told(
            "invalid_authorization_details",
            "authorization_details_unsupported",
            "authorization_details is not supported by this version; use scope",
        ),
        RequestError::Dpop => {
            invalid("dpop_unsupported", "this endpoint takes no DPoP proof; leave the DPoP header out")
        }
        RequestError::Credentials(fault) => credentials(fault),
    }
}

fn credentials(fault: CredentialsError) -> Wire {
    let invalid = |reason, description| wire(400, "invalid_request", reason, description);
    match fault {
        CredentialsError::Scheme => wire(
            401,
            "invalid_client",
            "client_method_unsupported",
            "this way to authenticate is not supported; use Basic in Authorization, or client_secret or client_assertion in the body",
        ),
        CredentialsError::SeveralMethods => {
            invalid("several_client_methods", "the client authenticated in more than one way; use one")
        }
        CredentialsError::Mismatch => {
            invalid("client_id_mismatch", "client_id is not the client that authenticated; leave it out")
        }
        CredentialsError::AssertionPair => {
            invalid("client_assertion_incomplete", "client_assertion and client_assertion_type must be sent together")
        }
        CredentialsError::AssertionType => invalid(
            "client_assertion_type_unsupported",
            "client_assertion_type must be the URN of jwt-bearer, or of jwt-spiffe for a JWT-SVID",
        ),
    }
}

fn http(fault: HttpError) -> Wire {
    let told = |status, reason, description| wire(status, "invalid_request", reason, description);
    match fault {
        HttpError::ContentType => {
            told(415, "content_type_unsupported", "send the parameters as application/x-www-form-urlencoded in UTF-8")
        }
        HttpError::TooLarge => told(413, "body_too_large", "the body is larger than this broker reads"),
        HttpError::UriTooLong => told(414, "uri_too_long", "the URL is longer than this broker reads"),
        HttpError::HeadTooLarge => told(431, "head_too_large", "the header fields are larger than this broker reads"),
        HttpError::TooSlow => told(408, "body_too_slow", "the body did not arrive in time"),
        HttpError::Host => told(400, "host_ambiguous", "the request names more than one host; send one Host header"),
        HttpError::Query => told(400, "query_not_allowed", "send the parameters in the body and not in the URL"),
    }
}

fn missing(parameter: Required) -> Wire {
    let told = |reason, description| wire(400, "invalid_request", reason, description);
    match parameter {
        Required::GrantType => told("grant_type_missing", "grant_type is missing"),
        Required::SubjectToken => told("subject_token_missing", "subject_token is missing or empty"),
        Required::SubjectTokenType => told("subject_token_type_missing", "subject_token_type is missing or empty"),
        Required::ClientId => told("client_id_missing", "client_secret was sent without client_id"),
        Required::Token => told("token_missing", "token is missing or empty"),
    }
}

fn task_parameter(parameter: TaskParameter) -> Wire {
    let told = |description| wire(400, "invalid_request", "task_parameter_malformed", description);
    match parameter {
        TaskParameter::Purpose => told("task_purpose must be at most 256 printable characters"),
        TaskParameter::Deadline => told("task_deadline must be a time in whole seconds since 1970 that lies ahead"),
        TaskParameter::Budget => told("task_budget must be a whole number from 1 to 10000"),
        TaskParameter::Target => told("each task_target must be at most 1024 bytes of printable text"),
    }
}
