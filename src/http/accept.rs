//! Content negotiation (RFC 9110 §12.5): which form of an answer the caller accepts. A form with `q=0` is refused. The
//! headers are read leniently, because clients in use send `*/*; q=.2`, which strict readers drop.

use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

/// Returns true if the caller names `media_type` in `Accept` and does not refuse it. A wildcard does not count: without
/// the name, the caller gets the ordinary form.
pub(super) fn prefers(request: &HttpRequest, media_type: &str) -> bool {
    accepted(request, &ACCEPT, &[media_type]).unwrap_or(false)
}

/// Returns true if the caller accepts `media_type`, by the most specific range that matches it, or sends no `Accept`.
pub(super) fn takes(request: &HttpRequest, media_type: &str) -> bool {
    let wildcard = media_type.split('/').next().map(|kind| format!("{kind}/*")).unwrap_or_default();
    accepted(request, &ACCEPT, &[media_type, &wildcard, "*/*"]).unwrap_or(true)
}

/// Returns true if the caller accepts gzip, by name or by `*`.
pub(super) fn takes_gzip(request: &HttpRequest) -> bool {
    accepted(request, &ACCEPT_ENCODING, &["gzip", "*"]).unwrap_or(false)
}

/// Returns whether the first of `names` that the header has is accepted; none if there is no such header.
fn accepted(request: &HttpRequest, header: &HeaderName, names: &[&str]) -> Option<bool> {
    let values: Vec<&str> = request.headers().get_all(header).filter_map(|value| value.to_str().ok()).collect();
    let quality = |name: &&str| {
        let mut entries = values.iter().flat_map(|value| value.split(',')).map(|entry| entry.split(';').map(str::trim));
        let mut entry = entries.find(|entry| entry.clone().next().is_some_and(|own| own.eq_ignore_ascii_case(name)))?;
        let quality = entry.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        Some(quality.is_none_or(|quality| quality.parse::<f32>().is_ok_and(|quality| quality > 0.0)))
    };
    (!values.is_empty()).then(|| names.iter().find_map(quality).unwrap_or(false))
}
