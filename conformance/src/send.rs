//! From a case to a request, and to what came back.

use crate::Fault;
use crate::assertion;
use crate::case::Send;
use crate::run::World;
use crate::values::Values;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) text: String,
    pub(crate) json: Value,
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Sends what the case says. What was sent is told in one line.
pub(crate) async fn send(send: &Send, world: &World<'_>, values: &mut Values) -> Result<(Answer, String), Fault> {
    let to = send.to.as_deref().unwrap_or("token");
    let url = world.endpoints.get(to).ok_or_else(|| format!("the server has no endpoint `{to}`"))?;
    let posts = matches!(to, "token" | "introspect" | "revoke");
    let method = send.method.as_deref().unwrap_or(if posts { "POST" } else { "GET" });
    if send.wait > 0 {
        tokio::time::sleep(Duration::from_secs(send.wait)).await;
    }
    let assertion = assertion::make(&send.assertion, "good", &world.base_claims(), world.issuers, values)?;
    values.set("assertion", assertion);
    let mut form: Vec<(String, String)> = match to {
        "token" => world.profile.exchange.form.iter().map(|(name, value)| (name.clone(), values.fill(value))).collect(),
        _ if posts => vec![("token".to_owned(), values.fill("{token}"))],
        _ => Vec::new(),
    };
    form.retain(|(name, _)| !send.drop.contains(name) && !send.set.contains_key(name));
    form.extend(set(send, values));
    let auth = send.auth.as_deref().or(match to {
        "token" => world.profile.exchange.auth.as_deref(),
        "introspect" => Some("basic"),
        _ => None,
    });
    let mut headers: Vec<(String, String)> = Vec::new();
    authenticate((auth, send), world, values, (&mut form, &mut headers))?;
    headers.extend(send.headers.iter().map(|(name, value)| (name.clone(), values.fill(value))));
    let url = match &send.query {
        Some(query) => format!("{url}?{}", values.fill(query)),
        None => url.clone(),
    };
    let mut request = world.http.request(Method::from_bytes(method.as_bytes())?, url);
    for (name, value) in &headers {
        request = request.header(name, value);
    }
    if posts && method == "POST" {
        request = match &send.body {
            Some(body) => request.body(values.fill(body)),
            None => request.form(&form),
        };
        request = request.header("content-type", send.content_type.as_deref().unwrap_or(FORM));
    }
    let described = describe(method, to, send, auth);
    let answer = request.send().await.map_err(|fault| format!("{described}: {fault}"))?;
    let status = answer.status().as_u16();
    let text_of = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let headers = answer.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text_of(value))).collect();
    let text = answer.text().await?;
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok((Answer { status, headers, text, json }, described))
}

/// The parameters that the case sets, those of a list one by one.
fn set<'a>(send: &'a Send, values: &'a Values) -> impl Iterator<Item = (String, String)> + 'a {
    send.set.iter().flat_map(move |(name, value)| {
        let all = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        all.into_iter().map(move |value| (name.clone(), values.fill(value.as_str().unwrap_or_default())))
    })
}

/// Names and values, in order.
type Pairs = Vec<(String, String)>;

fn authenticate(
    (auth, send): (Option<&str>, &Send),
    world: &World<'_>,
    values: &Values,
    (form, headers): (&mut Pairs, &mut Pairs),
) -> Result<(), Fault> {
    let client = |name: &str| {
        let client = world.profile.clients.get(name).ok_or_else(|| format!("the profile has no client `{name}`"))?;
        Ok::<_, Fault>((client.id.clone(), client.secret.clone().unwrap_or_default()))
    };
    let mut basic = |id: &str, secret: &str| {
        let encoded = STANDARD.encode(format!("{}:{}", escaped(id), escaped(secret)));
        headers.push(("authorization".to_owned(), format!("Basic {encoded}")));
    };
    let mut put = |name: &str, value: String| form.push((name.to_owned(), value));
    match auth {
        None | Some("none") => {}
        Some("basic") => {
            let (id, secret) = client("first")?;
            basic(&id, &secret)
        }
        Some("second") => {
            let (id, secret) = client("second")?;
            basic(&id, &secret)
        }
        Some("wrong") => {
            let (id, _) = client("first")?;
            basic(&id, "wrong")
        }
        Some("unknown") => basic("nobody", "secret"),
        Some("broken") => headers.push(("authorization".to_owned(), "Basic !!!".to_owned())),
        Some("bearer") => headers.push(("authorization".to_owned(), "Bearer x".to_owned())),
        Some("post") => {
            let (id, secret) = client("post")?;
            put("client_id", id);
            put("client_secret", secret)
        }
        Some("both") => {
            let (id, secret) = client("first")?;
            basic(&id, &secret);
            put("client_id", id);
            put("client_secret", secret)
        }
        Some("assertion") => {
            let base =
                json!({"aud": world.profile.issuer, "iat": crate::values::now(), "exp": crate::values::now() + 300});
            let assertion = assertion::make(&send.client_assertion, "client", &base, world.issuers, values)?;
            put("client_assertion", assertion);
            put("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned());
        }
        Some(other) => return Err(format!("no way to authenticate is named `{other}`").into()),
    }
    // What the case sets itself counts.
    let own: Vec<_> = set(send, values).filter(|(name, _)| name.starts_with("client_")).collect();
    form.retain(|(name, _)| !own.iter().any(|(other, _)| other == name));
    form.extend(own);
    form.retain(|(name, _)| !send.drop.contains(name));
    Ok(())
}

/// `application/x-www-form-urlencoded`, as RFC 6749 §2.3.1 has it.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What was sent, in words: how it differs from a good request.
fn describe(method: &str, to: &str, send: &Send, auth: Option<&str>) -> String {
    let mut parts = vec![format!("{method} {to}")];
    let mut part = |name: &str, what: String| {
        if !what.is_empty() {
            parts.push(format!("{name} {what}"))
        }
    };
    part("without", send.drop.join(", "));
    part("with", send.set.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", "));
    part("client", auth.unwrap_or_default().to_owned());
    part("body", send.body.clone().unwrap_or_default());
    part("as", send.content_type.clone().unwrap_or_default());
    part("query", send.query.clone().unwrap_or_default());
    for (name, one) in [("assertion", &send.assertion), ("client assertion", &send.client_assertion)] {
        let mut said = Vec::new();
        said.extend(one.issuer.iter().map(|issuer| format!("of {issuer}")));
        said.extend(one.header.iter().map(|(name, value)| format!("header {name}={value}")));
        said.extend(one.headless.iter().map(|name| format!("no header {name}")));
        said.extend(one.claims.iter().map(|(name, value)| format!("{name}={value}")));
        said.extend(one.without.iter().map(|name| format!("no {name}")));
        said.extend(one.sign.iter().map(|by| format!("signed by {by}")));
        said.extend(one.edit.clone());
        part(name, said.join(", "));
    }
    parts.join("; ")
}
