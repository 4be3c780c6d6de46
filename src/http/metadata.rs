//! The documents that the broker publishes: its metadata (RFC 8414; OpenID Connect Discovery) and its keys. They are
//! built once, from the configured issuer and never from a request.

use super::{Edge, respond};
use crate::client::CLIENT_ALGORITHMS;
use crate::domain::JWKS_MAX_AGE;
use crate::exchange::{CLIENT_CREDENTIALS, GRANT_TYPE};
use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use countersign_verify::key::Algorithm;
use countersign_verify::{SIGNING_ALGORITHMS, dpop};
use serde_json::json;
use url::Url;

/// Cache lifetime of the metadata, in seconds.
const METADATA_AGE: u32 = 3_600;
const JSON: &str = "application/json";
/// The methods of client authentication.
const METHODS: [&str; 3] = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

pub(super) struct Metadata {
    document: String,
    /// The document for SDKs that look for it below a tenant, where one is configured.
    tenant: Option<String>,
}

impl Metadata {
    /// The documents of `issuer`, and the path under which its endpoints are.
    pub(super) fn of(issuer: &str, tenant: Option<&str>) -> (Self, String) {
        let base = Url::parse(issuer).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default();
        let root = issuer.trim_end_matches('/');
        let with_none: Vec<&str> = std::iter::once("none").chain(METHODS).collect();
        let algorithms = CLIENT_ALGORITHMS.map(Algorithm::name);
        let document = json!({
            "issuer": issuer,
            "token_endpoint": format!("{root}/token"),
            "jwks_uri": format!("{root}/jwks"),
            "introspection_endpoint": format!("{root}/introspect"),
            "revocation_endpoint": format!("{root}/revoke"),
            // Ours: what is revoked, told to resource servers.
            "countersign_revocations_endpoint": format!("{root}/revocations"),
            "status_list_aggregation_endpoint": format!("{root}/status"),
            "grant_types_supported": [GRANT_TYPE, CLIENT_CREDENTIALS],
            // Required by RFC 8414 §2, and there is no authorization endpoint to have one of.
            "response_types_supported": ["none"],
            "token_endpoint_auth_methods_supported": with_none,
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "revocation_endpoint_auth_methods_supported": with_none,
            "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
            "introspection_endpoint_auth_methods_supported": METHODS,
            "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
            // RFC 9449 §5.1.
            "dpop_signing_alg_values_supported": dpop::ALGORITHMS.map(Algorithm::name),
            // RFC 9701 §7.
            "introspection_signing_alg_values_supported": ["ES256"],
            // Clouds that read the OpenID Connect document ask for these two.
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": SIGNING_ALGORITHMS.map(Algorithm::name),
        });
        let of_tenant = tenant.map(|tenant| {
            let mut document = document.clone();
            let below = |path: &str| json!(format!("{root}/{tenant}{path}"));
            if let Some(members) = document.as_object_mut() {
                members.insert("issuer".to_owned(), below("/v2.0"));
                members.insert("token_endpoint".to_owned(), below("/oauth2/v2.0/token"));
                // MSAL does not read a document without one, and never asks there for this grant.
                members.insert("authorization_endpoint".to_owned(), below("/oauth2/v2.0/authorize"));
            }
            document.to_string()
        });
        (Self { document: document.to_string(), tenant: of_tenant }, base)
    }
}

/// The scheme, host and port of `issuer`.
pub(super) fn origin(issuer: &str) -> String {
    Url::parse(issuer).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
}

pub(super) async fn document(edge: Data<Edge>) -> HttpResponse {
    edge.watch("metadata").answered(respond::document(edge.metadata.document.clone(), JSON, METADATA_AGE))
}

pub(super) async fn of_tenant(edge: Data<Edge>) -> HttpResponse {
    let document = edge.metadata.tenant.clone();
    edge.watch("metadata").answered(match document {
        Some(document) => respond::document(document, JSON, METADATA_AGE),
        None => respond::not_found(&edge.reasons),
    })
}

pub(super) async fn jwks(edge: Data<Edge>) -> HttpResponse {
    edge.watch("jwks").answered(respond::document(edge.use_cases.keys.jwks(), JSON, JWKS_MAX_AGE))
}

/// Answers with the page about a reason.
pub(super) async fn reason(edge: Data<Edge>, code: Path<String>) -> HttpResponse {
    edge.watch("reasons").answered(match crate::error::page(&code) {
        Some(page) => respond::document(page.to_owned(), "text/plain; charset=utf-8", METADATA_AGE),
        None => respond::not_found(&edge.reasons),
    })
}
