//! `POST /introspect` (RFC 7662).

use super::{Edge, presented, respond};
use crate::exchange::Introspection;
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

pub(super) async fn introspect(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let (presented, _place) = presented::read(&request, payload, &edge).await;
    let answer = edge.broker.introspect(presented);
    match &answer.result {
        Ok(Introspection::Active(claims)) => {
            respond::success(&answer.decision, &Active { active: true, token_type: "Bearer", claims })
        }
        Ok(Introspection::Inactive) => respond::success(&answer.decision, &Inactive { active: false }),
        Err(fault) => respond::refusal(&answer.decision, fault),
    }
}
