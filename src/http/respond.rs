//! Answers. Every one is JSON and is not stored, and every one of an endpoint names its decision.

use crate::domain::DecisionId;
use crate::error::Wire;
use crate::exchange::{Issued, token_type};
use actix_web::http::ConnectionType;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder};
use countersign_verify::backoff::retry_after;
use countersign_verify::claims::AccessClaims;
use serde::Serialize;
use std::convert::Infallible;

/// The header that names the decision.
const DECISION: &str = "Countersign-Decision";

#[derive(Serialize)]
struct Fault<'a> {
    error: &'a str,
    error_description: &'a str,
    /// RFC 6749 §5.2: a page about it.
    error_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a str>,
    reason: &'a str,
}

/// RFC 8693 §2.2.1.
#[derive(Serialize)]
struct TokenAnswer<'a> {
    access_token: &'a str,
    issued_token_type: &'static str,
    token_type: &'static str,
    expires_in: i64,
    scope: &'a str,
}

/// An issued token: the only way in which a token is rendered.
pub(super) fn token(decision: &DecisionId, issued: &Issued) -> HttpResponse {
    sealed(StatusCode::OK, Some(decision)).json(TokenAnswer {
        access_token: issued.token().expose(),
        issued_token_type: issued.shape().issued_token_type().urn(),
        token_type: issued.token_type(),
        expires_in: issued.expires_in(),
        scope: issued.scope(),
    })
}

/// RFC 7662 §2.2.
#[derive(Serialize)]
struct IntrospectionAnswer<'a> {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    #[serde(flatten)]
    claims: Option<&'a AccessClaims>,
}

/// The answer of introspection about a token in force; about any other token if there is none.
pub(super) fn introspection(decision: &DecisionId, claims: Option<&AccessClaims>) -> HttpResponse {
    let token_type = claims.map(|claims| token_type(claims.cnf.as_ref()));
    sealed(StatusCode::OK, Some(decision)).json(IntrospectionAnswer { active: claims.is_some(), token_type, claims })
}

/// A success without a body.
pub(super) fn done(decision: &DecisionId) -> HttpResponse {
    sealed(StatusCode::OK, Some(decision)).finish()
}

/// A success that is a JWT.
pub(super) fn signed(decision: &DecisionId, content_type: &str, jwt: String) -> HttpResponse {
    sealed(StatusCode::OK, Some(decision)).content_type(content_type).body(jwt)
}

/// A success that goes on.
pub(super) fn stream<S>(decision: &DecisionId, content_type: &str, stream: S) -> HttpResponse
where
    S: futures_util::Stream<Item = Result<Bytes, Infallible>> + 'static,
{
    // Proxies that collect answers would keep it back.
    let mut answer = sealed(StatusCode::OK, Some(decision));
    answer.insert_header(("X-Accel-Buffering", "no")).content_type(content_type).streaming(stream)
}

/// A refusal. `reasons` is where the pages about them are.
pub(super) fn refusal(decision: &DecisionId, wire: &Wire, reasons: &str) -> HttpResponse {
    render(wire, Some(decision), reasons)
}

fn render(wire: &Wire, decision: Option<&DecisionId>, reasons: &str) -> HttpResponse {
    let status = StatusCode::from_u16(wire.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = sealed(status, decision);
    match status {
        StatusCode::UNAUTHORIZED => {
            answer.insert_header((WWW_AUTHENTICATE, "Basic realm=\"countersign\", charset=\"UTF-8\""));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            answer.insert_header((RETRY_AFTER, retry_after()));
        }
        StatusCode::TOO_MANY_REQUESTS => {
            answer.insert_header((RETRY_AFTER, retry_after())).force_close();
        }
        StatusCode::BAD_REQUEST if wire.reason == "host_ambiguous" => {
            answer.force_close();
        }
        // The body was not read, or not whole, so the connection cannot be used again.
        StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::URI_TOO_LONG
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            answer.force_close();
        }
        _ => {}
    }
    let decision = decision.map(DecisionId::as_str);
    let error_uri = format!("{reasons}/{}", wire.reason);
    answer.json(Fault {
        error: wire.error,
        error_description: wire.description,
        error_uri,
        decision,
        reason: wire.reason,
    })
}

fn sealed(status: StatusCode, decision: Option<&DecisionId>) -> HttpResponseBuilder {
    let mut answer = HttpResponse::build(status);
    answer.insert_header((CACHE_CONTROL, "no-store")).insert_header((PRAGMA, "no-cache"));
    answer.insert_header(("X-Content-Type-Options", "nosniff"));
    if let Some(decision) = decision {
        answer.insert_header((DECISION, decision.as_str()));
    }
    answer
}

/// The answer at a path without an endpoint.
pub(super) const NOT_FOUND: Wire =
    Wire { status: 404, error: "not_found", reason: "not_found", description: "there is nothing at this path" };

/// A refusal of what was not looked at: it has no decision.
pub(super) fn unread(wire: &Wire, reasons: &str) -> HttpResponse {
    render(wire, None, reasons)
}

/// The answer after a fault in our own code.
pub(super) fn fault() -> HttpResponse {
    let description = "the broker failed; nothing was issued; tell its operator";
    let wire = Wire { status: 500, error: "server_error", reason: "broker_failed", description };
    let mut answer = render(&wire, None, "/reasons");
    answer.head_mut().set_connection_type(ConnectionType::Close);
    answer
}

/// Another path.
pub(super) fn not_found(reasons: &str) -> HttpResponse {
    render(&NOT_FOUND, None, reasons)
}

/// Another method than the one that is allowed here.
pub(super) fn method_not_allowed(allow: &'static str, reasons: &str) -> HttpResponse {
    let description = match allow {
        "POST" => "send a POST request with the parameters in its body",
        _ => "send a GET request",
    };
    let wire = Wire { status: 405, error: "invalid_request", reason: "method_not_allowed", description };
    let mut answer = render(&wire, None, reasons);
    answer.headers_mut().insert(ALLOW, actix_web::http::header::HeaderValue::from_static(allow));
    answer
}

/// A public document, which may be kept for `seconds`.
pub(super) fn document(body: impl Into<Bytes>, content_type: &str, seconds: u32) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CACHE_CONTROL, format!("public, max-age={seconds}")))
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .body(body.into())
}
