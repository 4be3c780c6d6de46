//! Every case against one server.

use crate::case::Case;
use crate::issuers::Issuers;
use crate::profile::Profile;
use crate::report::{Outcome, Report, Row};
use crate::send::send;
use crate::values::{Values, now};
use crate::{Fault, expect};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

/// What every case looks at.
pub(crate) struct World<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) issuers: &'a Issuers,
    pub(crate) http: reqwest::Client,
    pub(crate) endpoints: BTreeMap<String, String>,
    /// The server's key set.
    pub(crate) keys: Value,
    /// Every `jti` so far.
    pub(crate) seen: Mutex<BTreeSet<String>>,
}

impl World<'_> {
    /// The claims of a good assertion, whichever issuer signs it.
    pub(crate) fn base_claims(&self) -> Value {
        let audience = self.profile.exchange.assertion_audience.as_ref().unwrap_or(&self.profile.issuer);
        json!({"aud": audience, "iat": now(), "exp": now() + 300})
    }
}

/// Asks the server of `profile`, with issuers that are made for it.
pub(crate) async fn all(profile: &Profile, cases: &[Case], only: Option<&str>) -> Result<Report, Fault> {
    let listener = TcpListener::bind(&profile.listen).map_err(|fault| format!("{}: {fault}", profile.listen))?;
    let issuers = Issuers::new(&profile.listen)?;
    issuers.serve(listener)?;
    if let Some(folder) = &profile.directory {
        for (name, issuer) in &issuers.by_name {
            std::fs::write(folder.join(format!("{name}.jwks")), issuer.set.to_string())?;
        }
        eprintln!("keys written; start the server now, or reload it");
    }
    with(profile, &issuers, cases, only).await
}

/// Asks the server of `profile`, which trusts `issuers`.
pub(crate) async fn with(
    profile: &Profile,
    issuers: &Issuers,
    cases: &[Case],
    only: Option<&str>,
) -> Result<Report, Fault> {
    let mut http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(15));
    if let Some(path) = &profile.ca_file {
        http = http.tls_certs_only(reqwest::Certificate::from_pem_bundle(&std::fs::read(path)?)?);
    }
    let http = http.build()?;
    let endpoints = waited(profile, &http).await?;
    let jwks = endpoints.get("jwks").ok_or("the metadata has no jwks_uri, and the profile names none")?;
    let keys = http.get(jwks).send().await?.json_value().await?;
    let world = World { profile, issuers, http, endpoints, keys, seen: Mutex::default() };
    let mut values = Values::default();
    let Profile { targets, clients, .. } = profile;
    for (name, value) in [
        ("broker", Some(&profile.issuer)),
        ("audience", Some(&targets.audience)),
        ("scope", Some(&targets.scope)),
        ("resource", targets.resource.as_ref()),
        ("other", targets.other.as_ref()),
        ("trust_domain", profile.trust_domain.as_ref()),
        ("client", clients.get("first").map(|client| &client.id)),
        ("client_second", clients.get("second").map(|client| &client.id)),
        ("client_jwt", clients.get("jwt").map(|client| &client.id)),
        ("token_endpoint", world.endpoints.get("token")),
        ("denied_scope", targets.denied_scope.as_ref()),
        ("first_secret", clients.get("first").and_then(|client| client.secret.as_ref())),
    ] {
        if let Some(value) = value {
            values.set(name, value);
        }
    }
    for name in issuers.by_name.keys() {
        values.set(&format!("issuer:{name}"), issuers.issuer(name));
    }
    let audience = profile.exchange.assertion_audience.as_ref().unwrap_or(&profile.issuer);
    values.set("assertion_audience", audience);
    values.set("ASSERTION_AUDIENCE", audience.to_uppercase());
    values.set("SCOPE", targets.scope.to_uppercase());
    values.set("TRUST_DOMAIN", profile.trust_domain.clone().unwrap_or_default().to_uppercase());
    values.set("ISSUER", issuers.issuer("good").to_uppercase());
    values.set("run", crate::assertion::fresh());
    values.set("other_url", format!("{}/jwks", issuers.issuer("other")));
    if let Some(key) = issuers.by_name.get("other").and_then(|issuer| issuer.set.pointer("/keys/0")) {
        values.set("other_jwk", key.to_string());
    }
    let mut report = Report::of(&profile.name);
    for case in cases.iter().filter(|case| only.is_none_or(|only| case.id.contains(only))) {
        report.add(one(case, &world, values.clone()).await);
    }
    Ok(report)
}

async fn one(case: &Case, world: &World<'_>, mut values: Values) -> Row {
    let missing: Vec<&String> = case
        .needs
        .iter()
        .filter(|need| match need.strip_prefix("issuer:") {
            Some(name) => !world.profile.issuers.iter().any(|own| own == name),
            None => !world.profile.supports.contains(need),
        })
        .collect();
    let mut row = Row::of(case);
    if let Some(missing) = missing.first() {
        row.outcome = Outcome::Skipped(format!("the profile does not support {missing}"));
        return row;
    }
    for step in &case.steps {
        row.expected.push(expect::describe(&step.expect));
        let sent = send(&step.send, world, &mut values).await;
        let judged = sent.and_then(|(answer, described)| {
            row.sent.push(described);
            row.answered.push(
                format!("{} {}", answer.status, answer.json.get("error").and_then(Value::as_str).unwrap_or_default())
                    .trim()
                    .to_owned(),
            );
            expect::judge(&step.expect, &answer, world, &mut values)
        });
        let wrong = judged.unwrap_or_else(|fault| vec![fault.to_string()]);
        if !wrong.is_empty() {
            row.outcome = Outcome::Failed(wrong.join("; "));
            return row;
        }
    }
    row
}

/// The endpoints of a server that may still have to start.
async fn waited(profile: &Profile, http: &reqwest::Client) -> Result<BTreeMap<String, String>, Fault> {
    for second in 0..60 {
        match endpoints(profile, http).await {
            Err(fault) if second == 0 => eprintln!("{fault}; waiting a minute for {}", profile.issuer),
            Err(_) => {}
            found => return found,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    endpoints(profile, http).await
}

async fn endpoints(profile: &Profile, http: &reqwest::Client) -> Result<BTreeMap<String, String>, Fault> {
    let issuer = profile.issuer.trim_end_matches('/');
    let origin = issuer.split('/').take(3).collect::<Vec<_>>().join("/");
    let path = issuer.strip_prefix(&origin).unwrap_or_default();
    let metadata = format!("{origin}/.well-known/oauth-authorization-server{path}");
    let openid = format!("{issuer}/.well-known/openid-configuration");
    let mut found = BTreeMap::from([("metadata".to_owned(), metadata.clone()), ("openid".to_owned(), openid.clone())]);
    for url in [metadata, openid] {
        let document = http.get(url).send().await?.json_value().await.unwrap_or_default();
        for (name, member) in [
            ("token", "token_endpoint"),
            ("introspect", "introspection_endpoint"),
            ("revoke", "revocation_endpoint"),
            ("jwks", "jwks_uri"),
        ] {
            if let Some(url) = document.get(member).and_then(Value::as_str) {
                found.entry(name.to_owned()).or_insert_with(|| url.to_owned());
            }
        }
    }
    found.extend(profile.endpoints.clone());
    Ok(found)
}

/// An answer's body as JSON.
trait Json {
    async fn json_value(self) -> Result<Value, Fault>;
}

impl Json for reqwest::Response {
    async fn json_value(self) -> Result<Value, Fault> {
        Ok(serde_json::from_str(&self.text().await?)?)
    }
}
