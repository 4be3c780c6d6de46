//! Revocation, introspection, and our own tokens exchanged onward.

use crate::support::*;
use serde_json::json;

fn off(reply: &Reply) {
    assert_eq!((reply.status, &reply.json), (200, &json!({"active": false})));
}

#[test]
fn h14_a_resource_server_sees_tokens_of_its_own_audience_and_no_others() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let active = broker.introspect("orders-api", &token);
    assert_eq!(
        (active.json["active"].as_bool(), active.text("sub")),
        (Some(true), "github:repo:acme/app:ref:refs/heads/main")
    );
    assert_eq!(
        (active.text("aud"), active.text("scope"), active.text("token_type")),
        (ORDERS, "orders:read", "Bearer")
    );
    assert_eq!(active.headers["cache-control"], "no-store");
    off(&broker.introspect("ledger-api", &token));
    off(&broker.introspect("orders-api", "opaque"));
    off(&broker.introspect("orders-api", &Token::github().sign()));
    off(&broker.introspect("orders-api", &Token::github().head("typ", json!("at+jwt")).claim("iss", json!(STS)).sign()));
    broker.clock.advance(300);
    off(&broker.introspect("orders-api", &token));
}

#[test]
fn h15_a_forged_token_is_off_whatever_its_jti() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    claims["scope"] = json!("orders:read orders:write");
    let forged = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2]);
    off(&broker.introspect("orders-api", &forged));
    let revoked = broker.post("/revoke", &[("token", &forged)]);
    assert_eq!(revoked.status, 200);
    assert_eq!(broker.introspect("orders-api", &token).json["active"], true, "a forgery revokes nothing");
}

#[test]
fn h13_introspection_needs_a_client() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let refused = broker.post("/introspect", &[("token", &token)]);
    assert_eq!(refused.refusal(), (401, "invalid_client", "client_credentials_required"));
    assert!(refused.headers["www-authenticate"].starts_with("Basic"));
    let bearer = [("authorization", format!("Bearer {token}"))];
    assert_eq!(send_to(broker.address, "/introspect", &bearer, &[("token", &token)]).status, 401);
    assert_eq!(broker.post_as("orders-api", "/introspect", &[]).refusal(), (400, "invalid_request", "token_missing"));
    assert_eq!(
        broker.post_as("orders-api", "/introspect", &[("token", "a"), ("token", "b")]).refusal().2,
        "parameter_repeated"
    );
}

#[test]
fn client_credentials_are_read_raw_and_form_encoded_and_nothing_else_proves_anyone() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let broker = TestBroker::new();
    let with =
        |value: String| send_to(broker.address, "/introspect", &[("authorization", value)], &[("token", "x")]).status;
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let right = secret("orders-api");
    let encoded: String = form_urlencoded::byte_serialize(right.as_bytes()).collect();
    assert_eq!(with(basic(&format!("orders-api:{right}"))), 200);
    assert_eq!(with(basic(&format!("orders-api:{encoded}"))), 200);
    assert_eq!(with(format!("basic {}", STANDARD.encode(format!("orders-api:{right}")))), 200);
    for wrong in [
        basic("orders-api:"),
        basic("orders-api"),
        basic(""),
        basic(":"),
        basic(&format!("unknown:{right}")),
        basic(&format!("orders-api:{right} ")),
        basic(&format!("ledger-api:{right}")),
        basic(&format!("ORDERS-API:{right}")),
        "Basic !!!".to_owned(),
        "Basic".to_owned(),
        format!("Digest {right}"),
        basic("orders-api:\u{0}"),
    ] {
        assert_eq!(with(wrong.clone()), 401, "{wrong}");
    }
    // Bad credentials are refused before the token is looked at.
    let form = [("grant_type", GRANT), ("subject_token", "x"), ("subject_token_type", JWT), ("audience", ORDERS)];
    let reply = send_to(broker.address, "/token", &[("authorization", basic("orders-api:wrong"))], &form);
    assert_eq!(reply.refusal(), (401, "invalid_client", "client_refused"));
    let mismatch = [&form[..], &[("client_id", "ledger-api")]].concat();
    let refused = broker.post_as("orders-api", "/token", &mismatch);
    assert_eq!(refused.refusal(), (400, "invalid_request", "client_id_mismatch"));
}

#[test]
fn whoever_presents_a_token_of_nobody_in_particular_may_end_it() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let other = broker.exchange(&Token::github().sign(), &[]).token();
    for _ in 0..2 {
        let reply = broker.post("/revoke", &[("token", &token), ("token_type_hint", "refresh_token")]);
        assert_eq!((reply.status, reply.text.as_str()), (200, ""));
    }
    off(&broker.introspect("orders-api", &token));
    assert_eq!(broker.introspect("orders-api", &other).json["active"], true);
    for unknown in ["opaque", &Token::github().sign()] {
        assert_eq!(broker.post("/revoke", &[("token", unknown)]).status, 200);
    }
    assert_eq!(broker.post("/revoke", &[]).refusal(), (400, "invalid_request", "token_missing"));
    let broker = broker.restart();
    off(&broker.introspect("orders-api", &token));
    assert_eq!(broker.introspect("orders-api", &other).json["active"], true);
}

/// A token for orders, minted from orders-api's own exchange of a workload's token for orders.
fn chain(broker: &TestBroker) -> (String, String, String) {
    let first = broker.exchange(&Token::github().sign(), &[]).token();
    let again = |token: &str| {
        broker.post_as(
            "orders-api",
            "/token",
            &[
                ("grant_type", GRANT),
                ("subject_token", token),
                ("subject_token_type", ACCESS_TOKEN),
                ("audience", ORDERS),
            ],
        )
    };
    let second = again(&first).token();
    let third = again(&second).token();
    (first, second, third)
}

#[test]
fn h3_a_child_dies_with_any_token_above_it() {
    let broker = TestBroker::new();
    let active = |token: &str| broker.introspect("orders-api", token).json["active"].as_bool().unwrap();
    let (first, second, third) = chain(&broker);
    assert!(active(&first) && active(&second) && active(&third));
    assert_eq!(broker.post_as("orders-api", "/revoke", &[("token", &second)]).status, 200);
    assert_eq!((active(&first), active(&second), active(&third)), (true, false, false));
    let (first, second, third) = chain(&broker);
    assert_eq!(broker.post("/revoke", &[("token", &first)]).status, 200);
    assert_eq!((active(&first), active(&second), active(&third)), (false, false, false));
    let reply = broker.post_as(
        "orders-api",
        "/token",
        &[("grant_type", GRANT), ("subject_token", &third), ("subject_token_type", ACCESS_TOKEN), ("audience", ORDERS)],
    );
    assert_eq!(reply.refusal(), (400, "invalid_request", "subject_token_revoked"));
    let broker = broker.restart();
    assert_eq!(broker.introspect("orders-api", &third).json, json!({"active": false}));
}

#[test]
fn h12_a_clients_token_is_ended_by_that_client_alone() {
    let broker = TestBroker::new();
    let (_, second, _) = chain(&broker);
    assert_eq!(
        broker.post("/revoke", &[("token", &second)]).refusal(),
        (401, "invalid_client", "client_credentials_required")
    );
    let reply = broker.post_as("ledger-api", "/revoke", &[("token", &second)]);
    assert_eq!((reply.status, reply.text.as_str()), (200, ""), "no oracle");
    assert_eq!(broker.event(&reply).outcome, countersign::audit::Outcome::NoEffect);
    assert_eq!(broker.introspect("orders-api", &second).json["active"], true);
    assert_eq!(broker.post_as("orders-api", "/revoke", &[("token", &second)]).status, 200);
    off(&broker.introspect("orders-api", &second));
}

#[test]
fn our_own_token_is_exchanged_by_a_client_that_its_aud_names_and_never_for_more() {
    let broker = TestBroker::new();
    let first = broker.exchange(&Token::cluster().sign(), &[("scope", "orders:read")]);
    let token = first.token();
    let onward = |client: Option<&str>, audience: &str, scope: &str| {
        let form = [
            ("grant_type", GRANT),
            ("subject_token", &token),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", audience),
            ("scope", scope),
        ];
        match client {
            Some(client) => broker.post_as(client, "/token", &form),
            None => broker.post("/token", &form),
        }
    };
    assert_eq!(onward(None, ORDERS, "").refusal(), (400, "invalid_request", "presenter_not_audience"));
    assert_eq!(onward(Some("ledger-api"), ORDERS, "").refusal(), (400, "invalid_request", "presenter_not_audience"));
    let same = onward(Some("orders-api"), ORDERS, "");
    assert_eq!((same.status, same.text("scope")), (200, "orders:read"), "{}", same.text);
    // More scope, or another target, is asked as `impersonate`, which no policy permits at orders.
    assert_eq!(onward(Some("orders-api"), ORDERS, "orders:write").status, 400);
    let ledger = onward(Some("orders-api"), LEDGER, "");
    assert_eq!(ledger.status, 200, "{}", ledger.text);
    assert!(ledger.json["expires_in"].as_i64() <= first.json["expires_in"].as_i64(), "60 s, though ledger allows 120");
    let granted = broker.event(&ledger).granted.unwrap();
    assert_eq!((granted.sub.as_str(), granted.lineage.len()), ("cluster:system:serviceaccount:prod:deployer", 1));
    assert_eq!(granted.task, broker.event(&first).granted.unwrap().task);
    assert_eq!(broker.event(&ledger).client.as_deref(), Some("orders-api"));
    broker.clock.advance(60);
    assert_eq!(onward(Some("orders-api"), ORDERS, "").refusal().2, "subject_token_refused");
}

#[test]
fn a_lineage_ends_at_its_bound() {
    let broker = TestBroker::new();
    let mut token = broker.exchange(&Token::github().sign(), &[]).token();
    let again = |token: &str| {
        broker.post_as(
            "orders-api",
            "/token",
            &[
                ("grant_type", GRANT),
                ("subject_token", token),
                ("subject_token_type", ACCESS_TOKEN),
                ("audience", ORDERS),
            ],
        )
    };
    for _ in 0..8 {
        token = again(&token).token();
    }
    assert_eq!(again(&token).refusal(), (400, "invalid_request", "lineage_too_long"));
}

#[test]
fn a_client_that_presents_a_workloads_assertion_impersonates_it_and_needs_leave() {
    let broker = TestBroker::new();
    let form = |token: &'static str, audience| {
        [("grant_type", GRANT), ("subject_token", token), ("subject_token_type", JWT), ("audience", audience)]
    };
    let token: &'static str = Box::leak(Token::github().sign().into_boxed_str());
    assert_eq!(broker.post_as("orders-api", "/token", &form(token, ORDERS)).refusal().2, "target_refused");
    assert_eq!(broker.post_as("ledger-api", "/token", &form(token, LEDGER)).refusal().2, "target_refused");
    let reply = broker.post_as("orders-api", "/token", &form(token, LEDGER));
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[test]
fn tokens_of_an_issuer_that_was_taken_out_are_exchanged_no_more() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::cluster().sign(), &[]).token();
    let config = std::fs::read_to_string(broker.config()).unwrap();
    broker.write(
        "countersign.toml",
        &config.replace("issuer = \"https://cluster.test\"", "issuer = \"https://another.test\""),
    );
    let broker = broker.restart();
    let reply = broker.post_as(
        "orders-api",
        "/token",
        &[("grant_type", GRANT), ("subject_token", &token), ("subject_token_type", ACCESS_TOKEN), ("audience", ORDERS)],
    );
    assert_eq!(reply.refusal(), (400, "invalid_request", "subject_token_refused"));
    assert_eq!(broker.reason(&reply), "issuer_unknown");
}

/// A token that our own key signed, as no broker of ours would write it.
fn forge(broker: &TestBroker, typ: &str, change: impl Fn(&mut serde_json::Value)) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use countersign::signing::{Es256, Signer as _};
    let file = std::fs::read_dir(broker.path("keys")).unwrap().flatten().map(|entry| entry.path());
    let file = file.into_iter().find(|path| path.to_str().unwrap().contains("tokens-es256")).unwrap();
    let pem = std::fs::read_to_string(file).unwrap();
    let (_, der) = p256::pkcs8::SecretDocument::from_pem(&pem).unwrap();
    let signer = Es256::from_pkcs8(der.as_bytes()).unwrap();
    let good = broker.exchange(&Token::cluster().sign(), &[("scope", "orders:read")]).token();
    let mut claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(good.split('.').nth(1).unwrap()).unwrap()).unwrap();
    change(&mut claims);
    let header = json!({"typ": typ, "alg": "ES256", "kid": signer.key_id()});
    let input =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signer.signature(input.as_bytes()).unwrap()))
}

#[test]
fn what_our_own_key_signed_is_believed_only_as_a_whole_access_token_of_ours() {
    let broker = TestBroker::new();
    let exchange = |token: &str| {
        broker.post_as(
            "orders-api",
            "/token",
            &[
                ("grant_type", GRANT),
                ("subject_token", token),
                ("subject_token_type", ACCESS_TOKEN),
                ("audience", ORDERS),
            ],
        )
    };
    let good = forge(&broker, "at+jwt", |_| {});
    assert_eq!(
        (exchange(&good).status, broker.introspect("orders-api", &good).json["active"].as_bool()),
        (200, Some(true))
    );
    let ancestor = json!({"jti": "AAAAAAAAAAAAAAAAAAAAAA", "kid": "k", "aud": "a", "client_id": "c"});
    let wrong: Vec<(&str, String)> = vec![
        ("another type", forge(&broker, "token-introspection+jwt", |_| {})),
        ("no type of ours", forge(&broker, "JWT", |_| {})),
        ("another issuer", forge(&broker, "at+jwt", |claims| claims["iss"] = json!("https://staging.test"))),
        ("not yet", forge(&broker, "at+jwt", |claims| claims["nbf"] = json!(NOW + 60))),
        ("too long a lineage", forge(&broker, "at+jwt", |claims| claims["lineage"] = json!(vec![ancestor.clone(); 9]))),
        ("no client", forge(&broker, "at+jwt", |claims| drop(claims.as_object_mut().unwrap().remove("client_id")))),
        ("a fraction", forge(&broker, "at+jwt", |claims| claims["exp"] = json!(NOW as f64 + 30.5))),
        ("audiences", forge(&broker, "at+jwt", |claims| claims["aud"] = json!([ORDERS]))),
        ("no key of ours", forge(&broker, "at+jwt", |claims| claims["cnf"] = json!({"jkt": "x"}))),
    ];
    for (name, token) in wrong {
        off(&broker.introspect("orders-api", &token));
        let reply = exchange(&token);
        assert_eq!(reply.refusal(), (400, "invalid_request", "subject_token_refused"), "{name}");
        assert_eq!(broker.reason(&reply), "own_token_invalid", "{name}");
    }
    let certificate = json!({"x5t#S256": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"});
    let bound = forge(&broker, "at+jwt", |claims| claims["cnf"] = certificate.clone());
    assert_eq!(exchange(&bound).refusal(), (400, "invalid_request", "subject_token_bound"));
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    let verifier = countersign_verify::Verifier::new(STS, ORDERS, jwks.text.as_bytes()).unwrap();
    assert_eq!(verifier.verify(&bound, NOW), Err(countersign_verify::Refusal::Bound));
    assert!(verifier.verify(&good, NOW).is_ok());
}

#[test]
fn credentials_and_parameters_where_they_do_not_belong_are_refused_everywhere() {
    let broker = TestBroker::new();
    for path in ["/introspect", "/revoke"] {
        assert_eq!(
            broker.post_as("orders-api", &format!("{path}?token=x"), &[("token", "x")]).refusal().2,
            "query_not_allowed"
        );
        let in_body = broker.post(path, &[("token", "x"), ("client_id", "orders-api"), ("client_secret", "x")]);
        assert_eq!(
            in_body.refusal(),
            (401, "invalid_client", "client_refused"),
            "it is registered with another method"
        );
    }
}

#[test]
fn a_form_that_is_refused_with_a_quality_of_zero_is_not_sent() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let signed = |accept: &str| {
        let headers = [("authorization", basic("orders-api")), ("accept", accept.to_owned())];
        let reply = send_to(broker.address, "/introspect", &headers, &[("token", &token)]);
        assert_eq!(reply.status, 200, "{accept}: {}", reply.text);
        reply.headers["content-type"].starts_with("application/token-introspection+jwt")
    };
    assert!(signed("application/token-introspection+jwt") && signed("a/b, application/token-introspection+jwt;q=0.1"));
    assert!(signed("*; q=.2, application/token-introspection+jwt;"), "as lenient as clients are");
    assert!(!signed("application/token-introspection+jwt;q=0") && !signed("application/json") && !signed("*/*"));
    // The feed answers a refused stream with a snapshot.
    let headers = [("authorization", basic("orders-api")), ("accept", "text/event-stream;q=0".to_owned())];
    let reply = send_to(broker.address, "/revocations", &headers, &[]);
    assert_eq!((reply.status, reply.headers.contains_key("content-length")), (200, true));
    assert!(!reply.headers["content-type"].starts_with("text/event-stream"));
}
