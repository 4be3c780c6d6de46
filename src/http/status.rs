//! `GET /status/{list}`: a status list; `GET /status`: where all of them are (draft-ietf-oauth-status-list-20 §8, §9).

use super::{Edge, accept, respond};
use crate::domain::ListId;
use crate::error::Wire;
use crate::introspection::{STATUS_TTL, StatusDocument};
use actix_web::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_ENCODING, HeaderValue, VARY};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use countersign_verify::status::MEDIA_TYPE;
use serde_json::json;
use std::sync::Arc;

/// A list of another moment than now.
const HISTORICAL: Wire = Wire {
    status: 501,
    error: "invalid_request",
    reason: "status_time_unsupported",
    description: "only the list of now is served; leave `time` out",
};
/// Another form than a JWT.
const NOT_ACCEPTABLE: Wire = Wire {
    status: 406,
    error: "invalid_request",
    reason: "status_type_unsupported",
    description: "a status list is served as `application/statuslist+jwt`; accept that",
};

pub(super) async fn list(request: HttpRequest, edge: Data<Edge>, name: Path<String>) -> HttpResponse {
    let watch = edge.watch("status");
    let Ok(list) = name.parse::<ListId>() else { return watch.answered(respond::not_found(&edge.reasons)) };
    let asks_for_time = |pair: &str| pair.split('=').next() == Some("time");
    if request.query_string().split('&').any(asks_for_time) {
        return watch.answered(respond::unread(&HISTORICAL, &edge.reasons));
    }
    if !accept::takes(&request, MEDIA_TYPE) {
        return watch.answered(respond::unread(&NOT_ACCEPTABLE, &edge.reasons));
    }
    watch.answered(match edge.use_cases.status_lists.find(&list).await {
        Ok(Some(document)) => {
            let is_packed = accept::takes_gzip(&request);
            // One list in memory, however many read it and however slowly.
            let body = Bytes::from_owner(Served { document, is_packed });
            let mut answer = respond::document(body, MEDIA_TYPE, STATUS_TTL);
            let headers = answer.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
            if is_packed {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            answer
        }
        Ok(None) => respond::not_found(&edge.reasons),
        Err(fault) => respond::unread(&fault.wire(), &edge.reasons),
    })
}

pub(super) async fn lists(edge: Data<Edge>) -> HttpResponse {
    let lists = json!({"status_lists": edge.use_cases.status_lists.uris()}).to_string();
    let mut answer = respond::document(lists, "application/json", STATUS_TTL);
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    edge.watch("status").answered(answer)
}

struct Served {
    document: Arc<StatusDocument>,
    is_packed: bool,
}

impl AsRef<[u8]> for Served {
    fn as_ref(&self) -> &[u8] {
        if self.is_packed { &self.document.gzip } else { &self.document.jwt }
    }
}
