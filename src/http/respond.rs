//! Answers. Every one is JSON and is not stored, and every one of an endpoint names its decision.

use crate::domain::DecisionId;
use crate::error::{Error, Wire};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;

/// The header that names the decision.
const DECISION: &str = "Countersign-Decision";

#[derive(Serialize)]
struct Fault<'a> {
    error: &'a str,
    error_description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a str>,
    reason: &'a str,
}

/// A success.
pub(super) fn success(decision: &DecisionId, body: &impl Serialize) -> HttpResponse {
    sealed(StatusCode::OK, Some(decision)).json(body)
}

/// A success without a body.
pub(super) fn done(decision: &DecisionId) -> HttpResponse {
    sealed(StatusCode::OK, Some(decision)).finish()
}

/// A refusal.
pub(super) fn refusal(decision: &DecisionId, fault: &Error) -> HttpResponse {
    render(&fault.wire(), Some(decision))
}

fn render(wire: &Wire, decision: Option<&DecisionId>) -> HttpResponse {
    let status = StatusCode::from_u16(wire.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = sealed(status, decision);
    match status {
        StatusCode::UNAUTHORIZED => {
            answer.insert_header((WWW_AUTHENTICATE, "Basic realm=\"countersign\", charset=\"UTF-8\""));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            answer.insert_header((RETRY_AFTER, "1"));
        }
        // What is left of the body is not read, so the connection cannot be used again.
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
            answer.force_close();
        }
        _ => {}
    }
    let decision = decision.map(DecisionId::as_str);
    answer.json(Fault { error: wire.error, error_description: wire.description, decision, reason: wire.reason })
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

/// Another path.
pub(super) async fn not_found() -> HttpResponse {
    render(
        &Wire { status: 404, error: "not_found", reason: "not_found", description: "there is nothing at this path" },
        None,
    )
}

/// Another method than POST.
pub(super) async fn post_only(_: HttpRequest) -> HttpResponse {
    method_not_allowed("POST", "send a POST request with the parameters in its body")
}

/// Another method than GET.
pub(super) async fn get_only(_: HttpRequest) -> HttpResponse {
    method_not_allowed("GET", "send a GET request")
}

fn method_not_allowed(allow: &'static str, description: &'static str) -> HttpResponse {
    let mut answer =
        render(&Wire { status: 405, error: "invalid_request", reason: "method_not_allowed", description }, None);
    answer.headers_mut().insert(ALLOW, actix_web::http::header::HeaderValue::from_static(allow));
    answer
}

/// A public document, which may be kept for `seconds`.
pub(super) fn document(body: String, seconds: u32) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, format!("public, max-age={seconds}")))
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .body(body)
}
