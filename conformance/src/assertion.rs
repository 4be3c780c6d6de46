//! Assertions, good ones and what a case makes of them.

use crate::Fault;
use crate::case::Assertion;
use crate::issuers::{Issuer, Issuers};
use crate::values::{Values, now};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use josekit::jwk::Jwk;
use josekit::jws::{self, JwsSigner};
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An id that no assertion had before.
pub(crate) fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("case-{}-{}-{}", std::process::id(), now(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The assertion of a case. `base` is what a good one claims.
pub(crate) fn make(
    case: &Assertion,
    default: &str,
    base: &Value,
    issuers: &Issuers,
    values: &Values,
) -> Result<String, Fault> {
    let name = case.issuer.as_deref().unwrap_or(default);
    let issuer = issuers.by_name.get(name).ok_or_else(|| format!("no issuer `{name}`"))?;
    let algorithm = case.header.get("alg").and_then(Value::as_str).filter(|alg| issuer.keys.contains_key(alg));
    let algorithm = algorithm.unwrap_or(issuer.algorithm);
    let mut header = Map::from_iter([
        ("alg".to_owned(), json!(algorithm)),
        ("kid".to_owned(), json!(issuer.kid(algorithm))),
        ("typ".to_owned(), json!("JWT")),
    ]);
    let mut claims = base.as_object().cloned().unwrap_or_default();
    claims.extend(own_claims(name, issuers, values));
    for (part, more, without) in
        [(&mut header, &case.header, &case.headless), (&mut claims, &case.claims, &case.without)]
    {
        part.extend(more.iter().map(|(name, value)| (name.clone(), values.fill_json(value))));
        part.retain(|name, _| !without.contains(name));
    }
    let header = written(&header, case.edit.as_deref() == Some("header_twice"), "alg");
    let payload = match case.edit.as_deref() {
        Some("payload_array") => json!(claims.values().collect::<Vec<_>>()).to_string(),
        Some("payload_text") => "\"text\"".to_owned(),
        Some("payload_broken") => "{\"sub\":".to_owned(),
        Some("claim_twice") => written(&claims, true, "sub"),
        Some("huge_number") => Value::Object(claims).to_string().replacen("\"exp\":", "\"exp\":1e400,\"unused\":", 1),
        _ => written(&claims, false, ""),
    };
    let header = if case.edit.as_deref() == Some("header_broken") { "{\"alg\":".to_owned() } else { header };
    let input = format!("{}.{}", b64(header), b64(payload));
    let signature = sign(case.sign.as_deref(), algorithm, issuer, &input)?;
    Ok(edited(case.edit.as_deref(), &input, &signature))
}

/// What a good assertion of `name` claims beside the base.
fn own_claims(name: &str, issuers: &Issuers, values: &Values) -> Map<String, Value> {
    let own = match name {
        "spiffe" => json!({"sub": values.fill("spiffe://{trust_domain}/conformance")}),
        "client" => json!({"iss": values.fill("{client_jwt}"), "sub": values.fill("{client_jwt}"), "jti": fresh()}),
        _ => json!({"iss": issuers.issuer(name), "sub": "conformance", "jti": fresh()}),
    };
    own.as_object().cloned().unwrap_or_default()
}

/// As JSON; with the member `name` written twice, where that is asked for.
fn written(members: &Map<String, Value>, twice: bool, name: &str) -> String {
    let text = Value::Object(members.clone()).to_string();
    match members.get(name) {
        Some(value) if twice => format!("{{\"{name}\":{value},{}", text.strip_prefix('{').unwrap_or_default()),
        _ => text,
    }
}

fn signer(algorithm: &str, key: &Jwk) -> Result<Box<dyn JwsSigner>, Fault> {
    Ok(match algorithm {
        "RS512" => Box::new(jws::RS512.signer_from_jwk(key)?),
        "PS256" => Box::new(jws::PS256.signer_from_jwk(key)?),
        "ES256" => Box::new(jws::ES256.signer_from_jwk(key)?),
        "EdDSA" => Box::new(jws::EdDSA.signer_from_jwk(key)?),
        _ => Box::new(jws::RS256.signer_from_jwk(key)?),
    })
}

fn sign(by: Option<&str>, algorithm: &str, issuer: &Issuer, input: &str) -> Result<Vec<u8>, Fault> {
    let key = issuer.keys.get(algorithm).ok_or("no key of this algorithm")?;
    let public = || -> Result<Vec<u8>, Fault> { Ok(key.to_public_key()?.to_string().into_bytes()) };
    let hmac =
        |secret: &[u8]| -> Result<Vec<u8>, Fault> { Ok(jws::HS256.signer_from_bytes(secret)?.sign(input.as_bytes())?) };
    Ok(match by {
        None if is_small(key) => by_hand(key, input)?,
        None => signer(algorithm, key)?.sign(input.as_bytes())?,
        Some("nobody") => Vec::new(),
        Some("other") => signer("RS256", &issuer.other)?.sign(input.as_bytes())?,
        Some("hmac-jwk") => hmac(&public()?)?,
        Some("hmac-pem") => hmac(&josekit::jwk::alg::rsa::RsaKeyPair::from_jwk(key)?.to_pem_public_key())?,
        Some("hmac-shared") => hmac(b"secret-secret-secret-secret-secret")?,
        Some("zeros") => vec![0; 64],
        Some(algorithm @ ("RS512" | "PS256")) => signer(algorithm, key)?.sign(input.as_bytes())?,
        Some(other) => return Err(format!("no way to sign is named `{other}`").into()),
    })
}

fn is_small(key: &Jwk) -> bool {
    let modulus = key.parameter("n").and_then(Value::as_str).unwrap_or_default();
    (1..300).contains(&modulus.len())
}

/// RS256 with a key that no library of ours signs with.
fn by_hand(key: &Jwk, input: &str) -> Result<Vec<u8>, Fault> {
    let pair = josekit::jwk::alg::rsa::RsaKeyPair::from_jwk(key)?.to_der_private_key();
    let key = openssl::pkey::PKey::private_key_from_der(&pair)?;
    let mut signer = openssl::sign::Signer::new(openssl::hash::MessageDigest::sha256(), &key)?;
    Ok(signer.sign_oneshot_to_vec(input.as_bytes())?)
}

fn edited(edit: Option<&str>, input: &str, signature: &[u8]) -> String {
    let token = format!("{input}.{}", b64(signature));
    let (head, payload) = input.split_once('.').unwrap_or_default();
    let flipped = |text: &str| {
        let (first, rest) = text.split_at(text.len().min(12));
        let last = if first.ends_with('A') { 'B' } else { 'A' };
        format!("{}{last}{rest}", first.get(..first.len().saturating_sub(1)).unwrap_or_default())
    };
    match edit {
        Some("signature_changed") => format!("{input}.{}", flipped(&b64(signature))),
        Some("payload_changed") => format!("{head}.{}.{}", flipped(payload), b64(signature)),
        Some("padded") => format!("{token}=="),
        Some("spaced") => format!("{head}. {payload}.{}", b64(signature)),
        Some("two_parts") => input.to_owned(),
        Some("four_parts") => format!("{token}.e30"),
        Some("five_parts") => format!("{token}.e30.e30"),
        Some("json") => json!({"protected": head, "payload": payload, "signature": b64(signature)}).to_string(),
        Some("json_general") => {
            json!({"payload": payload, "signatures": [{"protected": head, "signature": b64(signature)}]}).to_string()
        }
        Some("no_signature") => format!("{input}."),
        Some("no_payload") => format!("{head}..{}", b64(signature)),
        Some("no_base64") => format!("{head}.{payload}.!!!!"),
        Some("opaque") => "opaque".to_owned(),
        Some("newline") => format!("{token}\n"),
        _ => token,
    }
}
