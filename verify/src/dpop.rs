//! Proof that the presenter of a request holds a key (DPoP, RFC 9449). The broker asks it of who wants a bound token
//! and of who presents one; a resource server asks it beside each bound token.

use crate::confirmation::Thumbprint;
use crate::jws::{Bounds, Compact, EnvelopeError};
use crate::key::{Algorithm, KeyError, KeyUse, VerifyingKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use url::Url;

/// The algorithms that a proof may be signed with.
pub const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Ps256];
/// Time for which a proof is accepted after it was made, in seconds (RFC 9449 §11.1). A memory of its `jti` must last
/// as long, and [`AHEAD`] longer.
pub const WINDOW: i64 = 60;
/// Leeway for the clock of the proof's maker that is ahead of ours, in seconds.
pub const AHEAD: i64 = 30;
/// The longest proof that is looked at, in bytes: the largest RSA key that is taken, and room.
const MAX_BYTES: usize = 8 * 1024;
/// The longest `jti`, in bytes.
const MAX_ID: usize = 256;

/// Why a proof proves nothing (RFC 9449 §4.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not a compact JWS.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// `typ` is not `dpop+jwt`.
    #[error("the proof's `typ` is not `dpop+jwt`")]
    Type,
    /// The header's `jwk` is missing, private, symmetric or malformed.
    #[error("the proof's `jwk` {0}")]
    Key(KeyError),
    /// The signature does not hold.
    #[error("the proof's signature does not verify with the key in its `jwk`")]
    Signature,
    /// A claim is missing or of the wrong type.
    #[error("the proof's `{0}` is missing or malformed")]
    Claim(&'static str),
    /// `htm` is another method.
    #[error("the proof's `htm` is not the method of this request")]
    Method,
    /// `htu` is another URI.
    #[error("the proof's `htu` is not the URI of this request")]
    Uri,
    /// `iat` is not of about now, or `exp` has passed.
    #[error("the proof's `iat` is not within the last minute or so of this clock")]
    Time,
    /// `ath` is not the digest of the token beside it.
    #[error("the proof's `ath` is not the digest of the token that came with it")]
    Token,
}

/// A request as its receiver knows it, never as the sender describes it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its method, e.g. `POST`.
    pub method: &'a str,
    /// Its URI, by the receiver's own name for itself. Query and fragment do not count.
    pub uri: &'a str,
    /// The access token beside the proof; none at the token endpoint.
    pub token: Option<&'a str>,
}

/// A proof that holds for one request. Its [`Proof::id`] may come once: who does not remember it can be shown it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    thumbprint: Thumbprint,
    id: String,
    issued_at: i64,
}

impl Proof {
    /// Verifies `proof` for `request` at `now`, in seconds since 1970 (RFC 9449 §4.3, except the first check, that
    /// there was one header field, and the nonce).
    ///
    /// # Errors
    /// [`ProofError`] names the first check that fails.
    pub fn verify(proof: &str, request: Request<'_>, now: i64) -> Result<Self, ProofError> {
        let bounds = Bounds { token_bytes: MAX_BYTES, ..Bounds::default() };
        let (compact, jwk) = Compact::parse_keyed(proof, bounds)?;
        if compact.header().media_type.as_deref() != Some("dpop+jwt") {
            return Err(ProofError::Type);
        }
        let Some(Value::Object(jwk)) = jwk else { return Err(ProofError::Key(KeyError::Malformed)) };
        let key = VerifyingKey::from_jwk(&jwk, KeyUse::Signature, &ALGORITHMS).map_err(ProofError::Key)?;
        let payload = compact.verify(&key).map_err(|_| ProofError::Signature)?;
        let members = payload.members();
        let text = |name: &'static str| {
            members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or(ProofError::Claim(name))
        };
        let id = text("jti")?;
        if id.len() > MAX_ID {
            return Err(ProofError::Claim("jti"));
        }
        let issued_at = members.get("iat").and_then(Value::as_i64).ok_or(ProofError::Claim("iat"))?;
        if text("htm")? != request.method {
            return Err(ProofError::Method);
        }
        if normal(text("htu")?).ok_or(ProofError::Claim("htu"))? != normal(request.uri).ok_or(ProofError::Uri)? {
            return Err(ProofError::Uri);
        }
        let ends = match members.get("exp") {
            None => i64::MAX,
            Some(exp) => exp.as_i64().ok_or(ProofError::Claim("exp"))?,
        };
        if !(now.saturating_sub(WINDOW)..=now.saturating_add(AHEAD)).contains(&issued_at) || ends <= now {
            return Err(ProofError::Time);
        }
        if let Some(token) = request.token
            && text("ath")? != URL_SAFE_NO_PAD.encode(Sha256::digest(token))
        {
            return Err(ProofError::Token);
        }
        let thumbprint = thumbprint(&jwk).ok_or(ProofError::Key(KeyError::Malformed))?;
        Ok(Self { thumbprint, id: id.to_owned(), issued_at })
    }

    /// The RFC 7638 thumbprint of the key that was proved: what `cnf.jkt` of a token bound to it says (RFC 9449 §6.1).
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// Its `jti`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Until when it could be shown again, in seconds since 1970.
    #[must_use]
    pub fn until(&self) -> i64 {
        self.issued_at.saturating_add(WINDOW)
    }
}

/// The RFC 7638 thumbprint of a public JWK: over the members that its kind requires, in the order of their names. None
/// for a kind that has no asymmetric signatures. The values have to be those of a key that was read, so that each has
/// one form.
#[must_use]
pub fn thumbprint(jwk: &Map<String, Value>) -> Option<Thumbprint> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let names: &[&str] = match text("kty")? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let members: Option<Vec<_>> =
        names.iter().map(|name| Some(format!("\"{name}\":{}", Value::from(text(name)?)))).collect();
    Some(Thumbprint::new(Sha256::digest(format!("{{{}}}", members?.join(","))).into()))
}

/// A URI in its normal form, without query and fragment (RFC 3986 §6.2.2, §6.2.3): scheme and host in lower case, no
/// default port, and nothing percent-encoded that needs not be. A path stays as it is: `/token/` is not `/token`.
fn normal(uri: &str) -> Option<String> {
    let mut url = Url::parse(uri).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && matches!(url.scheme(), "https" | "http");
    url.set_query(None);
    url.set_fragment(None);
    plain.then(|| decoded(url.as_str()))
}

/// Percent-encoded unreserved characters as themselves, and the others' digits in upper case.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, part.get(2..)) {
            (Some(byte), Some(rest)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(char::from(byte));
                out.push_str(rest);
            }
            (Some(byte), Some(rest)) => out.push_str(&format!("%{byte:02X}{rest}")),
            _ => {
                out.push('%');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_compared_in_its_normal_form_and_a_path_as_it_is() {
        let same = |one, other| normal(one) == normal(other) && normal(one).is_some();
        for other in [
            "HTTPS://STS.test/token",
            "https://sts.test:443/token",
            "https://sts.test/token?x=1#y",
            "https://sts.test/%74oken",
        ] {
            assert!(same(other, "https://sts.test/token"), "{other}");
        }
        for other in [
            "http://sts.test/token",
            "https://sts.test/token/",
            "https://sts.test/TOKEN",
            "https://sts.test/introspect",
            "https://sts.test:8443/token",
            "https://evil.test/token",
            "https://a@sts.test/token",
            "https://sts.test/%2Ftoken",
            "/token",
            "",
        ] {
            assert!(!same(other, "https://sts.test/token"), "{other}");
        }
        assert!(same("https://sts.test/a%2fb", "https://sts.test/a%2Fb"));
        assert!(!same("https://sts.test/a%2Fb", "https://sts.test/a/b"));
    }

    #[test]
    fn thumbprints_are_those_of_the_documents() {
        let read = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        // RFC 8037 appendix A.3.
        let ed25519 = read(
            r#"{"alg":"EdDSA","kid":"x","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        );
        assert_eq!(thumbprint(&ed25519).unwrap().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(thumbprint(&read(r#"{"kty":"oct","k":"x"}"#)), None);
    }
}
