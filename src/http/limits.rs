//! The size limits of a request, and the limits of requests in progress.

use crate::domain::{Lifetime, Network};
use crate::error::{Error, Unavailable};
use crate::form::{FormBounds, HttpError, RequestError};
use crate::rates::Throttled;
use actix_web::HttpRequest;
use actix_web::http::header::HOST;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `[server.limits]`: the bounds of one request and of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Limit of a body, in bytes.
    pub body: usize,
    /// Header fields, in bytes.
    pub head: usize,
    /// Request target, in bytes.
    pub uri: usize,
    /// The limits of the form.
    pub form: FormBounds,
    /// Until the head is read.
    pub head_timeout: Lifetime,
    /// Until the body is read.
    pub body_timeout: Lifetime,
    /// Idle time after which a connection is closed.
    pub idle: Lifetime,
    /// Requests worked on at once.
    pub in_flight: usize,
    /// Limit of requests in progress from one network.
    pub in_flight_per_network: usize,
    /// Connections at once for each worker.
    pub connections: usize,
    /// Connections at once of one network.
    pub connections_per_network: usize,
}

/// Counts requests that are being worked on, so that no network takes the places of all.
pub(super) struct InFlight {
    most: usize,
    most_of_one: usize,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    all: usize,
    /// Only of networks that have one, so it is never longer than `all`.
    by_network: HashMap<Network, usize>,
}

impl InFlight {
    pub(super) fn new(limits: Limits) -> Self {
        Self { most: limits.in_flight, most_of_one: limits.in_flight_per_network, now: Mutex::default() }
    }

    /// A place for a request from `network`.
    pub(super) fn enter(&self, network: Network) -> Result<InFlightPlace<'_>, Error> {
        let mut now = self.now();
        if now.all >= self.most {
            return Err(Unavailable::Busy.into());
        }
        if now.by_network.get(&network).is_some_and(|own| *own >= self.most_of_one) {
            return Err(Throttled::InFlight.into());
        }
        now.all += 1;
        *now.by_network.entry(network).or_default() += 1;
        Ok(InFlightPlace { of: self, network })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being worked on, until this is dropped.
pub(super) struct InFlightPlace<'a> {
    of: &'a InFlight,
    network: Network,
}

impl Drop for InFlightPlace<'_> {
    fn drop(&mut self) {
        let mut now = self.of.now();
        now.all -= 1;
        if let Some(own) = now.by_network.get_mut(&self.network) {
            *own -= 1;
            if *own == 0 {
                now.by_network.remove(&self.network);
            }
        }
    }
}

/// Returns true if the request target names no other host than `Host` (RFC 9112 §3.2.2).
fn is_asked(request: &HttpRequest) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    request.uri().authority().is_none_or(|authority| Some(authority.as_str()) == host)
}

/// Refuses a head that is too long, or that says two things.
pub(super) fn head(request: &HttpRequest, limits: Limits) -> Result<(), HttpError> {
    if request.headers().get_all(HOST).nth(1).is_some() || !is_asked(request) {
        return Err(HttpError::Host);
    }
    if request.uri().path_and_query().map_or(0, |target| target.as_str().len()) > limits.uri {
        return Err(HttpError::UriTooLong);
    }
    let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > limits.head { Err(HttpError::HeadTooLarge) } else { Ok(()) }
}

/// Reads the body, as much and as long as may be.
pub(super) async fn body(
    mut payload: Payload,
    announced: Option<usize>,
    limits: Limits,
) -> Result<Bytes, RequestError> {
    if announced.is_some_and(|length| length > limits.body) {
        return Err(HttpError::TooLarge.into());
    }
    let read = async {
        let mut body = BytesMut::with_capacity(announced.unwrap_or(0).min(limits.body));
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| RequestError::Form)?;
            if body.len() + chunk.len() > limits.body {
                return Err(HttpError::TooLarge.into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    actix_web::rt::time::timeout(limits.body_timeout.duration(), read).await.unwrap_or(Err(HttpError::TooSlow.into()))
}
