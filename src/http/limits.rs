//! How much of a request is read, and how many are worked on at once.

use super::Edge;
use super::respond;
use crate::error::{Error, Unavailable};
use crate::exchange::RequestError;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::web::{Bytes, BytesMut, Data, Payload};
use futures_util::StreamExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The bounds of one request and of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Body, in bytes.
    pub body: usize,
    /// Header fields, in bytes.
    pub head: usize,
    /// Request target, in bytes.
    pub uri: usize,
    /// Until the head is read.
    pub head_timeout: Duration,
    /// Until the body is read.
    pub body_timeout: Duration,
    /// Requests worked on at once.
    pub in_flight: usize,
    /// Connections at once for each worker.
    pub connections: usize,
}

/// Counts requests that are being worked on.
pub(super) struct InFlight {
    now: AtomicUsize,
    most: usize,
}

impl InFlight {
    pub(super) fn new(most: usize) -> Self {
        Self { now: AtomicUsize::new(0), most }
    }

    /// A place, or none where all are taken.
    fn enter(&self) -> Option<Place<'_>> {
        let place = Place(self);
        (self.now.fetch_add(1, Ordering::Relaxed) < self.most).then_some(place)
    }
}

struct Place<'a>(&'a InFlight);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Refuses what is too long or too much before it is looked at.
pub(super) async fn within(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let Some(edge) = request.app_data::<Data<Edge>>().cloned() else {
        return Ok(respond::early(
            request,
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "misconfigured",
            "the server is misconfigured",
        ));
    };
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > edge.limits.uri {
        return Ok(respond::early(
            request,
            StatusCode::URI_TOO_LONG,
            "invalid_request",
            "uri_too_long",
            "the URL is longer than this broker reads",
        ));
    }
    let head: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if head > edge.limits.head {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Ok(respond::early(
            request,
            status,
            "invalid_request",
            "head_too_large",
            "the header fields are larger than this broker reads",
        ));
    }
    let Some(_place) = edge.in_flight.enter() else {
        let wire = Error::from(Unavailable::Busy).wire();
        return Ok(respond::early(request, StatusCode::SERVICE_UNAVAILABLE, wire.error, wire.reason, wire.description));
    };
    next.call(request).await.map(ServiceResponse::map_into_left_body)
}

/// Reads the body, as much and as long as may be.
pub(super) async fn body(
    mut payload: Payload,
    announced: Option<usize>,
    limits: Limits,
) -> Result<Bytes, RequestError> {
    if announced.is_some_and(|length| length > limits.body) {
        return Err(RequestError::TooLarge);
    }
    let read = async {
        let mut body = BytesMut::with_capacity(announced.unwrap_or(0).min(limits.body));
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| RequestError::Form)?;
            if body.len() + chunk.len() > limits.body {
                return Err(RequestError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    actix_web::rt::time::timeout(limits.body_timeout, read).await.unwrap_or(Err(RequestError::TooSlow))
}
