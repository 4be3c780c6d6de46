//! Content negotiation (RFC 9110 §12.5): which form of an answer the caller accepts. A form with `q=0` is refused.

use actix_web::HttpMessage as _;
use actix_web::HttpRequest;
use actix_web::http::header::{Accept, AcceptEncoding, Encoding, Header as _, Preference, Quality, QualityItem};

/// Returns true if the caller names `media_type` in `Accept` and does not refuse it. A wildcard does not count: without
/// the name, the caller gets the ordinary form.
pub(super) fn prefers(request: &HttpRequest, media_type: &str) -> bool {
    let named = accept(request).into_iter().flatten().find(|range| range.item.essence_str() == media_type);
    named.is_some_and(|range| range.quality > Quality::ZERO)
}

/// Returns true if the caller accepts `media_type`, by the most specific range that matches it, or names no range at
/// all.
pub(super) fn takes(request: &HttpRequest, media_type: &str) -> bool {
    let Some(ranges) = accept(request) else { return true };
    let wildcard = media_type.split('/').next().map(|kind| format!("{kind}/*")).unwrap_or_default();
    let matching = |name: &str| ranges.iter().find(|range| range.item.essence_str() == name);
    let matched = [media_type, &wildcard, "*/*"].into_iter().find_map(matching);
    matched.is_some_and(|range| range.quality > Quality::ZERO)
}

/// Returns true if the caller accepts gzip, by name or by `*`.
pub(super) fn takes_gzip(request: &HttpRequest) -> bool {
    let Some(codings) = request.get_header::<AcceptEncoding>() else { return false };
    let gzip = |coding: &&QualityItem<Preference<Encoding>>| coding.item == Preference::Specific(Encoding::gzip());
    let any = |coding: &&QualityItem<Preference<Encoding>>| coding.item == Preference::Any;
    let matched = codings.iter().find(gzip).or_else(|| codings.iter().find(any));
    matched.is_some_and(|coding| coding.quality > Quality::ZERO)
}

/// The ranges of `Accept`; none if there is no such header or it cannot be read.
fn accept(request: &HttpRequest) -> Option<Vec<QualityItem<actix_web::mime::Mime>>> {
    if !request.headers().contains_key(Accept::name()) {
        return None;
    }
    Some(request.get_header::<Accept>()?.0)
}
