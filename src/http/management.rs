//! The management listener: whether the process lives, and whether it can serve. It names nobody.

use super::respond;
use crate::exchange::Broker;
use actix_web::HttpResponse;
use actix_web::web::{self, Data, ServiceConfig};
use serde_json::json;

pub(super) fn routes(app: &mut ServiceConfig) {
    app.route("/livez", web::get().to(live))
        .route("/readyz", web::get().to(ready))
        .default_service(web::to(respond::not_found));
}

async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"live": true}))
}

/// Ready while the keys of one issuer at least are fresh: one that is down must not take the others with it.
async fn ready(broker: Data<Broker>) -> HttpResponse {
    let all = broker.snapshot().issuers.iter().count();
    let without = broker.issuers_without_keys().len();
    let body = json!({"ready": without < all, "issuers": all, "issuers_without_keys": without});
    if without < all { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}
