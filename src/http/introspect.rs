//! `POST /introspect` (RFC 7662).

use super::{Edge, accept, presented, respond};
use crate::introspection::Introspection;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

/// RFC 9701 §4: how a resource server asks for a signed answer.
const SIGNED: &str = "application/token-introspection+jwt";

pub(super) async fn introspect(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let watch = edge.watch("introspect");
    let signed = accept::prefers(&request, SIGNED);
    let (presented, _place) = presented::read(&request, payload, &edge).await;
    let answer = edge.use_cases.introspector.introspect(presented, signed).await;
    watch.answered(match &answer.result {
        Ok(Introspection::Active(token)) => respond::introspection(&answer.decision, Some(token.claims())),
        Ok(Introspection::Inactive) => respond::introspection(&answer.decision, None),
        Ok(Introspection::Signed(jwt)) => respond::signed(&answer.decision, SIGNED, jwt.clone()),
        Err(fault) => edge.refusal("introspect", &answer.decision, fault),
    })
}
