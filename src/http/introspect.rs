//! `POST /introspect` (RFC 7662).

use super::{Edge, presented, respond};
use crate::exchange::{Introspection, token_type};
use actix_web::http::header::ACCEPT;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use countersign_verify::claims::AccessClaims;
use serde::Serialize;

/// RFC 7662 §2.2: what the token says, and that it is alive.
#[derive(Serialize)]
struct Active<'a> {
    active: bool,
    token_type: &'static str,
    #[serde(flatten)]
    claims: &'a AccessClaims,
}

#[derive(Serialize)]
struct Inactive {
    active: bool,
}

/// RFC 9701 §4: how a resource server asks for a signed answer.
const SIGNED: &str = "application/token-introspection+jwt";

pub(super) async fn introspect(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let watch = edge.watch("introspect");
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let signed = accept.split(',').any(|one| one.split(';').next().unwrap_or_default().trim() == SIGNED);
    let (presented, _place) = presented::read(&request, payload, &edge).await;
    let answer = edge.broker.introspect(presented, signed).await;
    watch.answered(match &answer.result {
        Ok(Introspection::Active(token)) => {
            let token_type = token_type(token.claims().cnf.is_some());
            let active = Active { active: true, token_type, claims: token.claims() };
            respond::success(&answer.decision, &active)
        }
        Ok(Introspection::Inactive) => respond::success(&answer.decision, &Inactive { active: false }),
        Ok(Introspection::Signed(jwt)) => respond::signed(&answer.decision, SIGNED, jwt.clone()),
        Err(fault) => edge.refusal("introspect", &answer.decision, fault),
    })
}
