//! How much of a request is read, and how many are worked on at once.

use crate::exchange::RequestError;
use actix_web::HttpRequest;
use actix_web::web::{Bytes, BytesMut, Payload};
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
    pub(super) fn enter(&self) -> Option<Place<'_>> {
        let place = Place(self);
        (self.now.fetch_add(1, Ordering::Relaxed) < self.most).then_some(place)
    }
}

/// A request that is being worked on, until this is dropped.
pub(super) struct Place<'a>(&'a InFlight);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Refuses a head that is too long.
pub(super) fn head(request: &HttpRequest, limits: Limits) -> Result<(), RequestError> {
    if request.uri().path_and_query().map_or(0, |target| target.as_str().len()) > limits.uri {
        return Err(RequestError::UriTooLong);
    }
    let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > limits.head { Err(RequestError::HeadTooLarge) } else { Ok(()) }
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
