//! `POST /token`.

use super::{Edge, presented, respond};
use crate::telemetry::{Stage, StageTimer};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use std::sync::Arc;

pub(super) async fn exchange(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let watch = edge.watch("token");
    let (presented, _place) = presented::read(&request, payload, &edge).await;
    let answer = edge.broker().exchange(presented).await;
    let mut timer = StageTimer::start(Arc::clone(edge.broker().metrics()));
    let response = match &answer.result {
        Ok(issued) => respond::token(&answer.decision, issued),
        Err(fault) => edge.refusal("token", &answer.decision, fault),
    };
    timer.lap(Stage::Respond);
    watch.answered(response)
}
