//! `POST /revoke` (RFC 7009).

use super::{Edge, presented, respond};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

pub(super) async fn revoke(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let watch = edge.watch("revoke");
    let (presented, _place) = presented::read(&request, payload, &edge).await;
    let answer = edge.use_cases.introspector.revoke(presented).await;
    watch.answered(match &answer.result {
        Ok(()) => respond::done(&answer.decision),
        Err(fault) => edge.refusal("revoke", &answer.decision, fault),
    })
}
