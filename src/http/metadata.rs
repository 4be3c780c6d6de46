//! What the broker publishes of itself: its metadata (RFC 8414; OpenID Connect Discovery) and its keys. Built once, from
//! the configured issuer and never from what a request says.

use super::{Edge, respond};
use crate::exchange::GRANT_TYPE;
use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;
use url::Url;

/// How long the metadata may be kept, in seconds.
const METADATA_AGE: u32 = 3_600;
/// How long the keys may be kept, in seconds: a key that is taken out is gone everywhere after that.
const JWKS_AGE: u32 = 300;

pub(super) struct Metadata(String);

impl Metadata {
    /// The document of `issuer`, and the path under which its endpoints are.
    pub(super) fn of(issuer: &str) -> (Self, String) {
        let base = Url::parse(issuer).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default();
        let root = issuer.trim_end_matches('/');
        let document = json!({
            "issuer": issuer,
            "token_endpoint": format!("{root}/token"),
            "jwks_uri": format!("{root}/jwks"),
            "introspection_endpoint": format!("{root}/introspect"),
            "revocation_endpoint": format!("{root}/revoke"),
            "grant_types_supported": [GRANT_TYPE],
            // Required by RFC 8414 §2, and there is no authorization endpoint to have one of.
            "response_types_supported": ["none"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
            "revocation_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
            // Clouds that read the OpenID Connect document ask for these two.
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        (Self(document.to_string()), base)
    }
}

pub(super) async fn document(edge: Data<Edge>) -> HttpResponse {
    respond::document(edge.metadata.0.clone(), METADATA_AGE)
}

pub(super) async fn jwks(edge: Data<Edge>) -> HttpResponse {
    respond::document(edge.broker.jwks().to_owned(), JWKS_AGE)
}
