//! The configuration as it is resolved, for people: every default filled in, every path whole, no secret.

use super::{
    ClientEntry, ClientMethod, Config, IssuerEntry, KeyPlace, LimitSettings, RedisSettings, Server, TargetEntry,
};
use crate::assertion::{Accept, SignsAs};
use crate::domain::{AttributeDeclaration, Audience};
use crate::store::Mode;
use serde_json::{Map, Value, json};
use std::num::NonZeroU32;

pub(super) fn show(config: &Config) -> Value {
    let Config {
        server: _,
        limits,
        store,
        signing,
        audit,
        policies,
        tasks,
        refresh,
        telemetry,
        issuers,
        targets,
        clients,
    } = config;
    without_nulls(json!({
        "server": server(&config.server, limits),
        "store": {
            "kind": if store.redis.is_some() { "redis" } else { "embedded" },
            "path": store.path,
            "redis": store.redis.as_ref().map(redis),
        },
        "revocation": store.redis.as_ref().map(|_| json!({"max_staleness": store.max_staleness.to_string()})),
        "signing": {
            "directory": signing.directory,
            "algorithm": signing.algorithm.name(),
            "rotate_every": signing.rotate_every.to_string(),
        },
        "audit": {
            "path": audit.path,
            "segment_bytes": audit.keeping.segment,
            "retention": audit.keeping.retention.map(|retention| retention.to_string()),
            "refusals_per_second": audit.keeping.refusals,
            "reserve_bytes": audit.keeping.reserve,
        },
        "policy": {"directory": policies},
        "tasks": tasks.map(|tasks| json!({
            "max_deadline": tasks.max_deadline.to_string(), "idle": tasks.idle.to_string(),
        })),
        "keys": {
            "refresh_every": refresh.every.to_string(),
            "max_stale": refresh.max_stale.to_string(),
            "unknown_kid_cooldown": refresh.cooldown.to_string(),
        },
        "telemetry": telemetry.as_ref().map(|traces| json!({
            "otlp_endpoint": traces.endpoint, "sample": traces.sample,
        })),
        "issuers": issuers.iter().map(issuer).collect::<Vec<_>>(),
        "targets": targets.iter().map(target).collect::<Vec<_>>(),
        "clients": clients.iter().map(client).collect::<Vec<_>>(),
    }))
}

fn server(server: &Server, limits: &LimitSettings) -> Value {
    let tls = server.tls.as_ref().map(|tls| json!({"certificate": tls.certificate, "key": tls.key}));
    json!({
        "issuer": server.issuer,
        "listen": server.listen.to_string(),
        "management": server.management.map(|address| address.to_string()),
        "control": server.control,
        "workers": server.workers,
        "drain": server.drain.to_string(),
        "tenant": server.tenant,
        "trusted_proxies": server.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "tls": tls,
        "limits": {
            "body_bytes": limits.http.body,
            "head_bytes": limits.http.head,
            "uri_bytes": limits.http.uri,
            "token_bytes": limits.assertion.token_bytes,
            "json_depth": limits.assertion.json_depth,
            "parameters": limits.http.form.parameters,
            "targets": limits.http.form.targets,
            "head_timeout": limits.http.head_timeout.to_string(),
            "body_timeout": limits.http.body_timeout.to_string(),
            "idle_timeout": limits.http.idle.to_string(),
            "in_flight": limits.http.in_flight,
            "in_flight_per_network": limits.http.in_flight_per_network,
            "requests_per_network": limits.rates.network.map_or(0, NonZeroU32::get),
            "requests_per_workload": limits.rates.workload.map_or(0, NonZeroU32::get),
            "requests_per_issuer": limits.rates.issuer.map_or(0, NonZeroU32::get),
            "connections": limits.http.connections,
            "connections_per_network": limits.http.connections_per_network,
        },
    })
}

fn redis(redis: &RedisSettings) -> Value {
    let master = if let Mode::Sentinel { master } = &redis.mode { Some(master) } else { None };
    json!({
        "mode": redis.mode.name(),
        "urls": redis.urls,
        "master": master,
        "username": redis.username,
        "password_file": redis.password_file,
        "key_prefix": redis.prefix,
        "durability": redis.durability.name(),
        "replicas": redis.replicas,
        "timeout": redis.timeout.to_string(),
        "connections": redis.connections,
        "ca_file": redis.ca_file,
        "certificate": redis.certificate.as_ref().map(|(certificate, _)| certificate),
        "key": redis.certificate.as_ref().map(|(_, key)| key),
    })
}

fn issuer(issuer: &IssuerEntry) -> Value {
    let signer = match &issuer.signer {
        SignsAs::Issuer(iss) => json!({"issuer": iss}),
        SignsAs::TrustDomain(name) => json!({"trust_domain": name.to_string()}),
    };
    let shown = json!({
        "name": issuer.name.to_string(),
        "kind": issuer.kind.name,
        "audiences": issuer.audiences,
        "accept": accept(&issuer.accept),
        "algorithms": issuer.algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>(),
        "max_lifetime": issuer.max_lifetime.to_string(),
        "single_use": issuer.single_use,
        "client": required(issuer.client_required),
        "workload": issuer.workload.as_ref().map(ToString::to_string),
        "attributes": attributes(issuer),
        "allow_private_addresses": Some(true).filter(|_| issuer.allow_private_addresses),
        "ca_file": issuer.ca_file,
        "owner": issuer.owner,
        "environment": issuer.environment,
    });
    with(with(shown, signer), place(&issuer.keys))
}

fn accept(accept: &Accept) -> Option<Value> {
    let claims: Map<_, _> = accept.iter().map(|accepted| (accepted.name.clone(), json!(accepted.values))).collect();
    Some(Value::Object(claims)).filter(|_| accept.iter().next().is_some())
}

/// The attributes that the entry declares itself.
fn attributes(issuer: &IssuerEntry) -> Option<Value> {
    let record = issuer.attributes.as_ref().filter(|record| !record.of_kind)?;
    let marks = |declared: &AttributeDeclaration| {
        json!({
            "claim": declared.claim.as_ref().map(ToString::to_string),
            "type": declared.value.name(),
            "required": Some(true).filter(|_| declared.required),
            "stable": Some(true).filter(|_| declared.stable),
            "outsider": Some(true).filter(|_| declared.outsider),
        })
    };
    Some(record.attributes.iter().map(|declared| (declared.name.to_string(), marks(declared))).collect())
}

fn target(TargetEntry { target, resources }: &TargetEntry) -> Value {
    json!({
        "audience": target.audience.as_str(),
        "resources": resources,
        "scopes": target.scopes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "max_lifetime": target.max_lifetime.to_string(),
        "algorithm": target.algorithm.name(),
        "client": required(target.client_required),
        "status_list": Some(true).filter(|_| target.status_list),
        "owner": target.owner,
        "environment": target.environment,
        "sensitivity": target.sensitivity,
    })
}

fn client(client: &ClientEntry) -> Value {
    let method = match &client.method {
        ClientMethod::SecretBasic(_) => json!({"method": "client_secret_basic", "secret_digest": "(not shown)"}),
        ClientMethod::SecretPost(_) => json!({"method": "client_secret_post", "secret_digest": "(not shown)"}),
        ClientMethod::PrivateKeyJwt(keys) => with(json!({"method": "private_key_jwt"}), place(keys)),
        ClientMethod::Federated { issuer, subject } => json!({"issuer": issuer.to_string(), "subject": subject}),
    };
    let introspects: Vec<&str> = client.introspects.iter().map(Audience::as_str).collect();
    with(with(json!({"id": client.id.as_str()}), method), json!({"introspects": introspects}))
}

fn place(keys: &KeyPlace) -> Value {
    match keys {
        KeyPlace::Discovery => json!({}),
        KeyPlace::Url(url) => json!({"jwks_uri": url}),
        KeyPlace::File(path) => json!({"jwks_file": path}),
        KeyPlace::Bundle(path) => json!({"bundle_file": path}),
    }
}

fn required(required: bool) -> Option<&'static str> {
    required.then_some("required")
}

fn with(first: Value, second: Value) -> Value {
    let members = |value| if let Value::Object(members) = value { members } else { Map::new() };
    Value::Object(members(first).into_iter().chain(members(second)).collect())
}

/// TOML has no null: what is not there is left out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
