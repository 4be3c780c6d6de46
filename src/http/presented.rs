//! From a request to what was presented.

use super::Edge;
use super::limits::{self, InFlightPlace, Limits};
use crate::client::Credentials;
use crate::domain::Network;
use crate::error::Error;
use crate::exchange::{Presented, Proofs};
use crate::form::{CredentialsError, Form, FormBounds, HttpError, Parameter, RequestError};
use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::Payload;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Basic credentials come in base64 with padding (RFC 7617), and from some clients in base64url without it.
const BASE64: [GeneralPurpose; 2] = {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [GeneralPurpose::new(&alphabet::STANDARD, lenient), GeneralPurpose::new(&alphabet::URL_SAFE, lenient)]
};

/// Reads what was presented, within the limits. The place is to be kept while the request is being worked on.
pub(super) async fn read<'a>(
    request: &HttpRequest,
    payload: Payload,
    edge: &'a Edge,
) -> (Presented, Option<InFlightPlace<'a>>) {
    let peer = edge.proxies.caller(request);
    let network = Network::from(peer);
    let (form, place) = match edge.broker().rates().check_network(network) {
        Ok(()) => {
            let form = form(request, payload, edge.limits).await.map_err(Error::from);
            // Only now: a caller that sends slowly takes nobody's place.
            match edge.in_flight.enter(network) {
                Ok(place) => (form, Some(place)),
                Err(fault) => (Err(fault), None),
            }
        }
        Err(fault) => (Err(fault.into()), None),
    };
    let (credentials, known_scheme) = credentials(request);
    let unsupported = if !is_harmless(request.query_string()) {
        Some(HttpError::Query.into())
    } else if !known_scheme {
        Some(CredentialsError::Scheme.into())
    } else {
        None
    };
    let fields: Vec<String> =
        request.headers().get_all("dpop").map(|field| field.to_str().unwrap_or_default().to_owned()).collect();
    let proofs = (!fields.is_empty()).then(|| Proofs { fields, uri: format!("{}{}", edge.origin, request.path()) });
    // More than one, or one that cannot be read, is as good as none.
    let mut parents = request.headers().get_all("traceparent");
    let trace = match (parents.next(), parents.next()) {
        (Some(parent), None) => parent.to_str().ok().and_then(|parent| parent.parse().ok()),
        _ => None,
    };
    (Presented { form, credentials, unsupported, proofs, peer, trace }, place)
}

async fn form(request: &HttpRequest, payload: Payload, limits: Limits) -> Result<Form, RequestError> {
    limits::head(request, limits)?;
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !is_form(header(CONTENT_TYPE)) || request.headers().contains_key(CONTENT_ENCODING) {
        return Err(HttpError::ContentType.into());
    }
    let announced = header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    Form::decode(&limits::body(payload, announced, limits).await?, limits.form)
}

/// `application/x-www-form-urlencoded`, with no charset but UTF-8.
fn is_form(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else { return false };
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    let plain = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    media_type && parts.all(plain)
}

/// Reads the credentials in `Authorization`. The boolean is false if its scheme is not supported. Credentials that
/// cannot be decoded are returned as credentials without any reading, so that they match no client.
fn credentials(request: &HttpRequest) -> (Option<Credentials>, bool) {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let Some(value) = headers.next() else { return (None, true) };
    let unreadable = Some(Credentials { readings: Vec::new() });
    if headers.next().is_some() {
        return (unreadable, true);
    }
    let Some((scheme, encoded)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return (unreadable, true);
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        return (unreadable, false);
    }
    let decoded = BASE64
        .iter()
        .find_map(|engine| String::from_utf8(engine.decode(encoded.trim()).ok()?).ok())
        .map(Zeroizing::new);
    let Some((id, secret)) = decoded.as_ref().and_then(|text| text.split_once(':')) else { return (unreadable, true) };
    let mut readings = vec![(id.to_owned(), Zeroizing::new(secret.to_owned()))];
    if let (Some(form_id), Some(form_secret)) = (form_decoded(id), form_decoded(secret))
        && (form_id.as_str() != id || form_secret.as_str() != secret)
    {
        readings.push(((*form_id).clone(), form_secret));
    }
    (Some(Credentials { readings }), true)
}

/// Parameters belong into the body. MSAL marks each request's URL with an id of its own, which is nobody's secret.
fn is_harmless(query: &str) -> bool {
    query.split('&').all(|pair| pair.is_empty() || pair.starts_with("client-request-id="))
}

/// A value as RFC 6749 §2.3.1 encodes it.
fn form_decoded(text: &str) -> Option<Zeroizing<String>> {
    let form = format!("client_secret={}", text.replace('&', "%26"));
    let decoded = Form::decode(form.as_bytes(), FormBounds::default()).ok()?;
    decoded.single(Parameter::ClientSecret).ok().map(|value| Zeroizing::new(value.unwrap_or_default().to_owned()))
}
