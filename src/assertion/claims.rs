//! Checks that every kind of assertion shares, on claims whose signature holds: audience, times and lifetime. A claim
//! that is present and of the wrong type is never taken for absent.

use super::AssertionError;
use crate::audit::AuditTrail;
use crate::domain::{Lifetime, Timestamp};
use countersign_verify::confirmation::ConfirmationKey;
use serde::Deserialize as _;
use serde_json::{Map, Value};

/// Leeway for the clock of an issuer that is ahead of ours, in seconds. `exp` has no leeway: no token outlives its
/// assertion.
pub const LEEWAY: i64 = 30;

/// The longest `jti`, `iss` or audience that is read, in bytes.
const MAX_TEXT: usize = 1024;

/// A string claim that may be absent.
pub(super) fn text<'a>(claims: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, AssertionError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= MAX_TEXT => Ok(Some(text)),
        Some(_) => Err(AssertionError::Claim(name.into())),
    }
}

/// The key that `cnf` binds a token to (RFC 7800 §3.1).
pub(super) fn bound_to(cnf: &Value) -> Result<ConfirmationKey, AssertionError> {
    provable(ConfirmationKey::deserialize(cnf).map_err(|_| AssertionError::Bound)?)
}

/// Returns `key`, if a caller can prove it here.
pub(super) fn provable(key: ConfirmationKey) -> Result<ConfirmationKey, AssertionError> {
    match key {
        ConfirmationKey::Jkt(_) => Ok(key),
        ConfirmationKey::X5t(_) | ConfirmationKey::SpiffeId(_) => Err(AssertionError::Bound),
    }
}

/// A subject: required, at most `most` bytes of printable text without spaces at its ends.
pub(super) fn subject(claims: &Map<String, Value>, most: usize) -> Result<&str, AssertionError> {
    match claims.get("sub") {
        Some(Value::String(sub)) if (1..=most).contains(&sub.len()) && is_plain(sub) => Ok(sub),
        _ => Err(AssertionError::Claim("sub".into())),
    }
}

/// Printable ASCII: what a name is compared by is what a person sees.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && text.trim() == text
}

/// `aud` must be exactly one of `ours`: a string, or an array of that one string.
pub(super) fn audience(
    claims: &Map<String, Value>,
    ours: &[String],
    trail: &mut AuditTrail,
) -> Result<(), AssertionError> {
    let named = match claims.get("aud") {
        Some(Value::String(one)) => Some(one),
        Some(Value::Array(list)) => match list.as_slice() {
            [Value::String(one)] => Some(one),
            _ => None,
        },
        _ => None,
    };
    let presented = || claims.get("aud").map_or_else(|| "absent".to_owned(), Value::to_string);
    let holds = named.is_some_and(|named| ours.contains(named));
    trail.require("audience", holds, || ours.join(" or "), presented, AssertionError::Audience)
}

/// Checks `exp`, `nbf` and `iat` against `now` and the cap on the whole life, and gives `exp`.
pub(super) fn times(
    claims: &Map<String, Value>,
    cap: Lifetime,
    now: Timestamp,
    trail: &mut AuditTrail,
) -> Result<Timestamp, AssertionError> {
    let exp = date(claims, "exp")?.ok_or(AssertionError::Claim("exp".into()))?;
    let (nbf, iat) = (date(claims, "nbf")?, date(claims, "iat")?);
    let left = || format!("in {}s", exp.since(now));
    trail.require("expiry", exp > now, || "later than now", left, AssertionError::Expired)?;
    let latest = now.plus(LEEWAY);
    let starts = [nbf, iat].into_iter().flatten().max().unwrap_or(now);
    let expected = || format!("at most {LEEWAY}s ahead");
    let ago = || format!("{}s ago", now.since(starts));
    trail.require("start", starts <= latest, expected, ago, AssertionError::NotYetValid)?;
    // Where a kind's tokens have no `iat`, what is left is capped.
    let life = exp.since(iat.unwrap_or(now));
    let holds = life > 0 && life <= cap.seconds();
    let (expected, presented) = (|| format!("between 1s and {cap}"), || format!("{life}s of at most {cap}"));
    trail.require("lifetime", holds, expected, presented, AssertionError::Lifetime)?;
    Ok(exp)
}

/// A NumericDate: an integer between 1970 and 9999. A fraction, a string or `1e300` is malformed.
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, AssertionError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_i64().and_then(Timestamp::new).map(Some).ok_or(AssertionError::Claim(name.into())),
    }
}
