//! What a stable reason means: a page each, in the program and at `/reasons/<code>`.

macro_rules! pages {
    ($($code:literal,)*) => {
        /// Every reason with its page.
        const PAGES: &[(&str, &str)] = &[$(($code, include_str!(concat!("../../docs/reasons/", $code, ".md")))),*];
    };
}

pages! {
    "actor_token_incomplete",
    "actor_token_unsupported",
    "algorithm_not_allowed",
    "audience_mismatch",
    "audit_unavailable",
    "authorization_details_unsupported",
    "body_too_large",
    "body_too_slow",
    "bound_token_unsupported",
    "busy",
    "claim_malformed",
    "client_assertion_audience",
    "client_assertion_expired",
    "client_assertion_incomplete",
    "client_assertion_not_yet_valid",
    "client_assertion_refused",
    "client_assertion_replayed",
    "client_assertion_typ",
    "client_assertion_type_unsupported",
    "client_credentials_required",
    "client_grant_refused",
    "client_id_mismatch",
    "client_id_missing",
    "client_method_unsupported",
    "client_refused",
    "client_required_by_target",
    "client_throttled",
    "content_type_unsupported",
    "dpop_unsupported",
    "entropy_unavailable",
    "form_malformed",
    "grant_type_missing",
    "grant_type_unsupported",
    "head_too_large",
    "header_not_allowed",
    "issuer_keys_unavailable",
    "issuer_throttled",
    "issuer_unknown",
    "key_unknown",
    "keys_unavailable",
    "lifetime_malformed",
    "lifetime_too_long",
    "lineage_too_long",
    "method_not_allowed",
    "network_busy",
    "network_throttled",
    "not_found",
    "own_token_invalid",
    "parameter_missing",
    "parameter_repeated",
    "presenter_not_audience",
    "query_not_allowed",
    "requested_token_type_unsupported",
    "resource_malformed",
    "scope_malformed",
    "scope_refused",
    "several_client_methods",
    "several_targets",
    "signature_invalid",
    "signing_unavailable",
    "store_unavailable",
    "subject_token_audience",
    "subject_token_bound",
    "subject_token_expired",
    "subject_token_missing",
    "subject_token_not_yet_valid",
    "subject_token_refused",
    "subject_token_replayed",
    "subject_token_revoked",
    "subject_token_typ",
    "subject_token_type_missing",
    "subject_token_type_unsupported",
    "target_denied",
    "target_missing",
    "target_refused",
    "target_unknown",
    "task_parameter_unsupported",
    "task_unsupported",
    "token_expired",
    "token_malformed",
    "token_missing",
    "token_not_yet_valid",
    "token_revoked",
    "token_type_mismatch",
    "too_many_parameters",
    "too_many_targets",
    "typ_mismatch",
    "uri_too_long",
    "workload_not_accepted",
    "workload_throttled",
}

/// The page about `reason`, in Markdown; none where there is no such reason.
#[must_use]
pub fn page(reason: &str) -> Option<&'static str> {
    PAGES.binary_search_by_key(&reason, |(code, _)| code).ok().and_then(|at| PAGES.get(at)).map(|(_, page)| *page)
}

/// Every reason that has a page.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(code, _)| *code)
}
