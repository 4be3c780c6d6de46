//! A resource server in front of the routes of an actix-web application: what comes without a token that is good, alive
//! and for this audience does not reach them (RFC 6750, RFC 9449 §7).

use crate::backoff::retry_after;
use crate::server::{Denied, ResourceServer};
use crate::{AccessToken, Refusal};
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest, HttpResponse, error};
use std::future::{Ready, ready};
use std::ops::Deref;

/// The challenge to a request without a token.
const CHALLENGE: &str = "Bearer, DPoP algs=\"ES256 ES384 EdDSA RS256 PS256\"";

/// The server's own name for itself: scheme and host, as those who make proofs know it, e.g.
/// `https://orders.acme.example`. Put it into the application's data beside the [`ResourceServer`].
#[derive(Debug, Clone)]
pub struct RequestOrigin(pub String);

/// The token that a request came with, for handlers behind [`protect`].
#[derive(Debug, Clone)]
pub struct Authorized(AccessToken);

impl Deref for Authorized {
    type Target = AccessToken;

    fn deref(&self) -> &AccessToken {
        &self.0
    }
}

impl Authorized {
    /// Returns true if the token has the scope `scope`.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.claims().scope.split(' ').any(|own| own == scope)
    }
}

impl FromRequest for Authorized {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let found = request.extensions().get::<Self>().cloned();
        // Only a route that stands outside.
        ready(found.ok_or_else(|| error::ErrorInternalServerError("the route is not behind `protect`")))
    }
}

/// Lets a request through whose token is accepted: `App::new().wrap(from_fn(protect))`, with [`ResourceServer`] and
/// [`RequestOrigin`] in the application's data.
///
/// # Errors
/// Those of the routes behind it. What it refuses itself is an answer: 401 with a challenge, or 503 where what is
/// revoked is not known.
pub async fn protect<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let accepted = accept(&request).await;
    match accepted {
        Ok(token) => {
            request.extensions_mut().insert(Authorized(token));
            Ok(next.call(request).await?.map_into_left_body())
        }
        Err(refused) => Ok(request.into_response(refused).map_into_right_body()),
    }
}

async fn accept(request: &ServiceRequest) -> Result<AccessToken, HttpResponse> {
    let (Some(server), Some(RequestOrigin(origin))) = (
        request.app_data::<Data<ResourceServer>>(),
        request.app_data::<Data<RequestOrigin>>().map(|origin| &***origin),
    ) else {
        return Err(HttpResponse::InternalServerError().body("`ResourceServer` or `RequestOrigin` is not in the data"));
    };
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let (Some(header), None) = (headers.next(), headers.next()) else { return Err(challenge(None)) };
    let (scheme, token) = header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(|| challenge(None))?;
    let mut proofs = request.headers().get_all("dpop").map(|proof| proof.to_str().unwrap_or_default());
    let accepted = match (scheme.to_ascii_lowercase().as_str(), proofs.next(), proofs.next()) {
        ("bearer", None, None) => server.accept(token).await,
        ("dpop", Some(proof), None) => {
            let uri = format!("{origin}{}", request.path());
            server.accept_bound(token, proof, request.method().as_str(), &uri).await
        }
        _ => return Err(challenge(None)),
    };
    accepted.map_err(|denied| refused(&denied))
}

fn refused(denied: &Denied) -> HttpResponse {
    match denied {
        Denied::Stale => HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, retry_after())).finish(),
        Denied::Token(Refusal::Proof(_)) | Denied::Replayed => challenge(Some(("DPoP", "invalid_dpop_proof"))),
        Denied::Token(Refusal::Bound) => challenge(Some(("DPoP", "invalid_token"))),
        Denied::Token(_) | Denied::Revoked | Denied::Unlisted => challenge(Some(("Bearer", "invalid_token"))),
    }
}

/// RFC 6750 §3: a stranger learns only the kind of the fault.
fn challenge(fault: Option<(&str, &str)>) -> HttpResponse {
    let said = fault.map_or_else(|| CHALLENGE.to_owned(), |(scheme, code)| format!("{scheme} error=\"{code}\""));
    HttpResponse::build(StatusCode::UNAUTHORIZED).insert_header((WWW_AUTHENTICATE, said)).finish()
}
