//! `POST /token`.

use super::{Edge, presented, respond};
use crate::domain::TokenType;
use crate::telemetry::{Laps, Stage};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use std::sync::Arc;

/// RFC 8693 §2.2.1.
#[derive(Serialize)]
struct Success<'a> {
    access_token: &'a str,
    issued_token_type: &'static str,
    token_type: &'static str,
    expires_in: i64,
    scope: &'a str,
}

pub(super) async fn exchange(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let watch = edge.watch("token");
    let (presented, _place) = presented::read(&request, payload, &edge).await;
    let answer = edge.broker.exchange(presented).await;
    let mut laps = Laps::start(Arc::clone(edge.broker.metrics()));
    let response = match &answer.result {
        Ok(issued) => {
            let body = Success {
                access_token: issued.access_token(),
                issued_token_type: TokenType::AccessToken.urn(),
                token_type: issued.token_type(),
                expires_in: issued.expires_in(),
                scope: issued.scope(),
            };
            respond::success(&answer.decision, &body)
        }
        Err(fault) => edge.refusal("token", &answer.decision, fault),
    };
    laps.lap(Stage::Respond);
    watch.answered(response)
}
