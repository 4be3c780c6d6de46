//! The management listener: whether the process lives, whether it can serve, its figures, and where its audit log
//! stands. It names nobody.

use crate::admin::Operator;
use crate::domain::MAX_SKEW;
use actix_web::HttpResponse;
use actix_web::web::{self, Data, ServiceConfig};
use serde_json::json;

/// The text format of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes(app: &mut ServiceConfig) {
    app.route("/livez", web::get().to(live))
        .route("/readyz", web::get().to(ready))
        .route("/metrics", web::get().to(metrics))
        .route("/audit/head", web::get().to(audit_head))
        .default_service(web::to(not_found));
}

async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"live": true}))
}

/// Ready while the keys of one issuer at least are fresh, for one that is down must not take the others with it; while
/// our clock is not further off than may be from every issuer's; and while tokens can be signed and recorded.
async fn ready(operator: Data<Operator>) -> HttpResponse {
    let all = operator.broker().snapshot().issuers.iter().count();
    let (without, skew) = (operator.issuers_without_keys().len(), operator.clock_skew());
    let can_mint = operator.can_mint();
    let ready = without < all && skew <= MAX_SKEW && can_mint;
    let body = json!({
        "ready": ready, "issuers": all, "issuers_without_keys": without, "clock_skew_seconds": skew, "can_mint": can_mint,
    });
    if ready { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

async fn metrics(operator: Data<Operator>) -> HttpResponse {
    let figures = operator.figures();
    HttpResponse::Ok().content_type(OPEN_METRICS).body(operator.broker().metrics().render(&figures))
}

/// Answers with the head of the audit log, for `countersign audit verify --head`.
async fn audit_head(operator: Data<Operator>) -> HttpResponse {
    let head = operator.audit_head();
    HttpResponse::Ok().json(json!({"head": head.to_string(), "next": head.next, "hash": head.hash}))
}

async fn not_found() -> HttpResponse {
    HttpResponse::NotFound().json(json!({"error": "not_found"}))
}
