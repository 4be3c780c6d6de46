//! Whether what came back is what the clause asks for.

use crate::Fault;
use crate::case::Expect;
use crate::run::World;
use crate::send::Answer;
use crate::values::{Values, now};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use josekit::jwk::Jwk;
use josekit::jws;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// What was expected, in words.
pub(crate) fn describe(expect: &Expect) -> String {
    let mut parts = Vec::new();
    if expect.error.is_empty() {
        parts.push(statuses(expect).iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "));
    } else {
        parts.push(format!("error {}", expect.error.join(" or ")));
    }
    parts.extend(expect.is.iter().map(|(name, value)| format!("{name} = {value}")));
    parts.extend(expect.has.iter().cloned());
    parts.extend(expect.lacks.iter().map(|name| format!("no {name}")));
    parts.extend(expect.headers.iter().map(|(name, value)| format!("{name}: {value}")));
    parts.extend(expect.claims.iter().map(|(name, value)| format!("claim {name} = {value}")));
    parts.extend(expect.claims_have.iter().map(|name| format!("claim {name}")));
    parts.extend(expect.claims_lack.iter().map(|name| format!("no claim {name}")));
    parts.extend(expect.header.iter().map(|(name, value)| format!("header {name} = {value}")));
    parts.extend(expect.check.iter().cloned());
    parts.join("; ")
}

fn statuses(expect: &Expect) -> Vec<u16> {
    match (expect.status.is_empty(), expect.error.first().map(String::as_str)) {
        (false, _) => expect.status.clone(),
        (true, None) => vec![200],
        (true, Some("invalid_client")) => vec![401],
        (true, Some("@assertion")) => vec![400, 401],
        (true, Some(_)) => vec![400],
    }
}

/// What does not fit, in words; none where all does. Names that the case saves are set.
pub(crate) fn judge(
    expect: &Expect,
    answer: &Answer,
    world: &World<'_>,
    values: &mut Values,
) -> Result<Vec<String>, Fault> {
    let mut wrong = Vec::new();
    let wanted = statuses(expect);
    if !wanted.contains(&answer.status) {
        wrong.push(format!("status {}", answer.status));
    }
    if !expect.error.is_empty() {
        let said = answer.json.get("error").and_then(Value::as_str).unwrap_or("none");
        let of_profile = expect.error.iter().any(|error| error == "@assertion")
            && world.profile.refusals.iter().any(|error| error == said);
        if !of_profile && !expect.error.iter().any(|error| error == said) {
            wrong.push(format!("error {said}"));
        }
        if answer.json.get("access_token").is_some() {
            wrong.push("a token beside an error".to_owned());
        }
    }
    let at = |pointer: &str| answer.json.pointer(pointer);
    for (pointer, value) in &expect.is {
        let value = values.fill_json(value);
        if at(pointer) != Some(&value) {
            wrong.push(format!("{pointer} is {}", at(pointer).unwrap_or(&Value::Null)));
        }
    }
    wrong.extend(expect.has.iter().filter(|pointer| at(pointer).is_none()).map(|pointer| format!("no {pointer}")));
    wrong.extend(
        expect.lacks.iter().filter(|pointer| at(pointer).is_some()).map(|pointer| format!("there is {pointer}")),
    );
    for (name, value) in &expect.headers {
        let found = answer.headers.get(name).map(String::as_str).unwrap_or_default();
        if !found.to_lowercase().contains(&value.to_lowercase()) {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    let token = || answer.json.get("access_token").and_then(Value::as_str).unwrap_or_default();
    let looks_inside = !(expect.claims.is_empty()
        && expect.claims_have.is_empty()
        && expect.claims_lack.is_empty()
        && expect.header.is_empty());
    if looks_inside || expect.check.iter().any(|check| check.starts_with("token ")) {
        match opened(token(), world) {
            Err(fault) => wrong.push(format!("the token does not verify: {fault}")),
            Ok((header, claims)) => wrong.extend(inside(expect, (&header, &claims), answer, world, values)),
        }
    }
    for check in expect.check.iter().filter(|check| !check.starts_with("token ")) {
        if let Some(fault) = special(check, answer) {
            wrong.push(fault);
        }
    }
    for (name, pointer) in &expect.save {
        match at(pointer).and_then(Value::as_str) {
            Some(value) => values.set(name, value),
            None => wrong.push(format!("no {pointer} to go on with")),
        }
    }
    Ok(wrong)
}

fn inside(
    expect: &Expect,
    (header, claims): (&Value, &Value),
    answer: &Answer,
    world: &World<'_>,
    values: &Values,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (from, wanted) in [(claims, &expect.claims), (header, &expect.header)] {
        for (pointer, value) in wanted {
            let (value, found) = (values.fill_json(value), from.pointer(pointer));
            if found != Some(&value) {
                wrong.push(format!("in the token {pointer} is {}", found.unwrap_or(&Value::Null)));
            }
        }
    }
    wrong.extend(
        expect
            .claims_have
            .iter()
            .filter(|pointer| claims.pointer(pointer).is_none())
            .map(|pointer| format!("no claim {pointer}")),
    );
    wrong.extend(
        expect
            .claims_lack
            .iter()
            .filter(|pointer| claims.pointer(pointer).is_some())
            .map(|pointer| format!("claim {pointer}")),
    );
    let number = |name: &str| claims.get(name).and_then(Value::as_i64).unwrap_or_default();
    for check in &expect.check {
        let fault = match check.as_str() {
            "token lives as long as expires_in says" => {
                let told = answer.json.get("expires_in").and_then(Value::as_i64).unwrap_or_default();
                (told > 0 && number("exp") - now() >= told - 2 && number("exp") - now() <= told + 2)
                    .then_some(())
                    .is_none()
            }
            "token ends no later than the assertion" => number("exp") > now() + 61,
            "token times are whole seconds in order" => {
                !(number("iat") > 0
                    && number("iat") <= now() + 1
                    && number("nbf") <= now() + 1
                    && number("exp") > number("iat"))
            }
            "token jti is new" => {
                let jti = claims.get("jti").and_then(Value::as_str).unwrap_or_default().to_owned();
                jti.len() < 16 || !world.seen.lock().is_ok_and(|mut seen| seen.insert(jti))
            }
            "token verifies" => false,
            "token client_id is not {client}" => {
                claims.get("client_id").and_then(Value::as_str) == Some(values.fill("{client}").as_str())
            }
            other => {
                wrong.push(format!("no check is named `{other}`"));
                false
            }
        };
        if fault {
            wrong.push(format!("not so: {check}"));
        }
    }
    wrong
}

/// Header and claims of a token that verifies by the server's keys.
fn opened(token: &str, world: &World<'_>) -> Result<(Value, Value), Fault> {
    let head = token.split('.').next().unwrap_or_default();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head)?)?;
    let kid = header.get("kid").and_then(Value::as_str).ok_or("no kid")?;
    let keys = world.keys.get("keys").and_then(Value::as_array).ok_or("no keys")?;
    let key = keys.iter().find(|key| key.get("kid").and_then(Value::as_str) == Some(kid)).ok_or("an unknown kid")?;
    let key = Jwk::from_map(key.as_object().cloned().unwrap_or_default())?;
    let verifier: Box<dyn jws::JwsVerifier> = match header.get("alg").and_then(Value::as_str) {
        Some("RS256") => Box::new(jws::RS256.verifier_from_jwk(&key)?),
        Some("PS256") => Box::new(jws::PS256.verifier_from_jwk(&key)?),
        Some("ES256") => Box::new(jws::ES256.verifier_from_jwk(&key)?),
        Some("EdDSA") => Box::new(jws::EdDSA.verifier_from_jwk(&key)?),
        other => return Err(format!("signed by {other:?}").into()),
    };
    let (payload, _) = jws::deserialize_compact(token, &*verifier)?;
    Ok((header, serde_json::from_slice(&payload)?))
}

/// RFC 7638 §3: the digest of the required members in order.
fn thumbprint(key: &Value) -> Option<String> {
    let members: &[&str] = match key.get("kty")?.as_str()? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let written: Vec<String> =
        members.iter().map(|name| key.get(*name).map(|value| format!("\"{name}\":{value}"))).collect::<Option<_>>()?;
    Some(URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{{{}}}", written.join(",")))))
}

fn special(check: &str, answer: &Answer) -> Option<String> {
    let keys = || answer.json.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |name: &str| answer.json.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let holds = match check {
        "every kid is the key's thumbprint" => {
            !keys().is_empty()
                && keys().iter().all(|key| key.get("kid").and_then(Value::as_str) == thumbprint(key).as_deref())
        }
        "every key has kty, kid, use and alg" => {
            !keys().is_empty()
                && keys().iter().all(|key| ["kty", "kid", "use", "alg"].iter().all(|name| key.get(*name).is_some()))
        }
        "the grant of RFC 8693 is told" => answer
            .json
            .get("grant_types_supported")
            .map(ToString::to_string)
            .unwrap_or_default()
            .contains("grant-type:token-exchange"),
        "kids are unique" => {
            let all = keys();
            all.iter().filter_map(|key| key.get("kid")).map(ToString::to_string).collect::<BTreeSet<_>>().len()
                == all.len()
        }
        "no key is private or symmetric" => keys().iter().all(|key| {
            key.get("kty").and_then(Value::as_str) != Some("oct")
                && ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().all(|name| key.get(*name).is_none())
        }),
        "error_description is plain" => {
            text("error_description").bytes().all(|byte| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
        }
        "error_uri is a URI" => text("error_uri").is_empty() || text("error_uri").contains(':'),
        "expires_in is a whole number" => answer.json.get("expires_in").is_some_and(Value::is_u64),
        "exactly inactive" => answer.json == serde_json::json!({"active": false}),
        "body is empty or JSON" => answer.text.is_empty() || !answer.json.is_null(),
        "challenge" => answer.headers.contains_key("www-authenticate"),
        "no algorithm none" => {
            let names = ["token_endpoint_auth_signing_alg_values_supported", "id_token_signing_alg_values_supported"];
            let told = |name: &&str| answer.json.get(*name).map(ToString::to_string).unwrap_or_default();
            !names.iter().any(|name| told(name).contains("\"none\""))
        }
        "endpoints are below the issuer" => {
            let issuer = text("issuer");
            ["token_endpoint", "jwks_uri"].iter().all(|name| text(name).starts_with(issuer.trim_end_matches('/')))
        }
        "algorithms for client assertions are told" => {
            let methods =
                answer.json.get("token_endpoint_auth_methods_supported").map(ToString::to_string).unwrap_or_default();
            !methods.contains("_jwt") || answer.json.get("token_endpoint_auth_signing_alg_values_supported").is_some()
        }
        other => return Some(format!("no check is named `{other}`")),
    };
    (!holds).then(|| format!("not so: {check}"))
}
