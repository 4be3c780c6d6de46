//! Who is calling: each method, alone and mixed, and what is refused of each. Abuse cases J13 to J17, by number.

use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
const SERVICE: &str = "system:serviceaccount:prod:deployer";

/// Clients of every method.
fn clients() -> Setup {
    let digest: String =
        countersign::domain::sha256(&[b"posted-secret"]).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut setup = Setup::new();
    setup.config.push_str(&format!(
        "[[clients]]\nid = \"poster\"\nmethod = \"client_secret_post\"\nsecret_digest = \"sha256:{digest}\"\nintrospects = [\"{ORDERS}\"]\n\
         [[clients]]\nid = \"signer\"\nmethod = \"private_key_jwt\"\njwks_file = \"signer.jwks\"\nintrospects = [\"{ORDERS}\"]\n\
         [[clients]]\nid = \"other\"\nmethod = \"private_key_jwt\"\njwks_file = \"other.jwks\"\nintrospects = [\"{ORDERS}\"]\n\
         [[clients]]\nid = \"deployer\"\nissuer = \"cluster\"\nsubject = \"{SERVICE}\"\nintrospects = [\"{ORDERS}\"]\n\
         [[clients]]\nid = \"payments\"\nissuer = \"prod\"\nsubject = \"spiffe://td.test/ns/pay/sa/web\"\nintrospects = [\"{ORDERS}\"]\n"
    ));
    setup
}

fn start(setup: &Setup) -> TestBroker {
    let root = setup.write();
    std::fs::write(root.path().join("signer.jwks"), keys().ed.jwks().to_string()).unwrap();
    std::fs::write(root.path().join("other.jwks"), keys().rsa_evil.jwks().to_string()).unwrap();
    TestBroker::start(root, TestClock::new())
}

/// An assertion that `id` signs itself.
fn own(id: &str) -> Token {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let jti = format!("client-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut token = Token::cluster().key(&keys().ed);
    token.claims.clear();
    token
        .head("alg", json!("EdDSA"))
        .head("kid", json!("e1"))
        .head("typ", json!("client-authentication+jwt"))
        .claim("iss", json!(id))
        .claim("sub", json!(id))
        .claim("aud", json!(STS))
        .claim("iat", json!(NOW))
        .claim("exp", json!(NOW + 60))
        .claim("jti", json!(jti))
}

/// Asks `/introspect` about no token, by an assertion: it answers 200 to whoever is a client.
fn by_assertion(broker: &TestBroker, assertion: &str) -> Reply {
    broker
        .post("/introspect", &[("token", "x"), ("client_assertion", assertion), ("client_assertion_type", JWT_BEARER)])
}

#[test]
fn each_method_proves_its_client_and_no_other() {
    let broker = start(&clients());
    let inactive = "{\"active\":false}";
    assert_eq!(broker.introspect("orders-api", "x").text, inactive);
    let posted = |id: &str, secret: &str| {
        broker.post("/introspect", &[("token", "x"), ("client_id", id), ("client_secret", secret)])
    };
    assert_eq!(posted("poster", "posted-secret").text, inactive);
    assert_eq!(by_assertion(&broker, &own("signer").sign()).text, inactive);
    assert_eq!(by_assertion(&broker, &Token::cluster().sign()).text, inactive);
    let svid = broker.post(
        "/introspect",
        &[("token", "x"), ("client_assertion", &Token::svid().sign()), ("client_assertion_type", JWT_SPIFFE)],
    );
    assert_eq!(svid.text, inactive, "{}", svid.text);
    // The type of the assertion says which kind it is.
    let crossed = broker.post(
        "/introspect",
        &[("token", "x"), ("client_assertion", &Token::svid().sign()), ("client_assertion_type", JWT_BEARER)],
    );
    assert_eq!(crossed.refusal(), (401, "invalid_client", "client_refused"));
    let unknown =
        broker.post("/introspect", &[("token", "x"), ("client_assertion", "x"), ("client_assertion_type", "urn:x")]);
    assert_eq!(unknown.refusal(), (400, "invalid_request", "client_assertion_type_unsupported"));
    let metadata = send(broker.address, b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(
        metadata.json["introspection_endpoint_auth_methods_supported"],
        json!(["client_secret_basic", "client_secret_post", "private_key_jwt"])
    );
}

#[test]
fn an_assertion_of_a_clients_own_is_read_as_far_as_any() {
    let broker = start(&clients().change("workers = 2", "workers = 2\n[server.limits]\ntoken_bytes = 1024"));
    assert_eq!(by_assertion(&broker, &own("signer").sign()).status, 200);
    let long = by_assertion(&broker, &own("signer").claim("pad", json!("x".repeat(1_024))).sign());
    assert_eq!(long.refusal(), (401, "invalid_client", "client_assertion_refused"));
}

#[test]
fn j13_two_methods_are_one_too_many() {
    let broker = start(&clients());
    let assertion = own("signer").sign();
    let header = ("authorization", basic("orders-api"));
    let post = |headers: &[(&str, String)], form: &[(&str, &str)]| {
        let form: Vec<_> = form.iter().copied().chain([("token", "x")]).collect();
        send_to(broker.address, "/introspect", headers, &form)
    };
    let several = (400, "invalid_request", "several_client_methods");
    assert_eq!(post(std::slice::from_ref(&header), &[("client_secret", "x")]).refusal(), several);
    let asserted = [("client_assertion", assertion.as_str()), ("client_assertion_type", JWT_BEARER)];
    assert_eq!(post(std::slice::from_ref(&header), &asserted).refusal(), several);
    assert_eq!(post(std::slice::from_ref(&header), &asserted[1..]).refusal(), several);
    assert_eq!(
        post(&[], &[asserted[0], asserted[1], ("client_secret", "x"), ("client_id", "signer")]).refusal(),
        several
    );
    assert_eq!(post(&[], &[asserted[0], asserted[0], asserted[1]]).refusal().2, "parameter_repeated");
    assert_eq!(
        post(std::slice::from_ref(&header), &[("client_id", "ledger-api")]).refusal(),
        (400, "invalid_request", "client_id_mismatch")
    );
    assert_eq!(
        post(&[], &[asserted[0], asserted[1], ("client_id", "other")]).refusal(),
        (400, "invalid_request", "client_id_mismatch")
    );
    assert_eq!(post(&[header], &[("client_id", "orders-api")]).status, 200);
    assert_eq!(by_assertion(&broker, &assertion).status, 200, "none of this used it up");
}

#[test]
fn j14_the_registered_method_binds() {
    let broker = start(&clients());
    let refused = (401, "invalid_client", "client_refused");
    let posted = |id: &str, secret: &str| {
        broker.post("/introspect", &[("token", "x"), ("client_id", id), ("client_secret", secret)])
    };
    assert_eq!(posted("signer", "x").refusal(), refused, "a secret for one that signs");
    assert_eq!(posted("orders-api", &secret("orders-api")).refusal(), refused, "the right secret, in the wrong place");
    let basic = STANDARD.encode("poster:posted-secret");
    let header = [("authorization", format!("Basic {basic}"))];
    let reply = send_to(broker.address, "/introspect", &header, &[("token", "x")]);
    assert_eq!(reply.refusal(), refused);
    assert_eq!(reply.headers["www-authenticate"], "Basic realm=\"countersign\", charset=\"UTF-8\"");
    for nothing in ["signer", "deployer", "poster"] {
        assert_eq!(broker.post("/introspect", &[("token", "x"), ("client_id", nothing)]).refusal(), refused);
    }
    assert_eq!(by_assertion(&broker, &own("poster").sign()).refusal(), refused, "an assertion for one with a secret");
    assert_eq!(
        by_assertion(&broker, &own("deployer").sign()).refusal(),
        refused,
        "its own for one that is vouched for"
    );
}

#[test]
fn j15_a_client_assertion_is_checked_whole() {
    let broker = start(&clients());
    let good = || own("signer");
    assert_eq!(by_assertion(&broker, &good().sign()).status, 200);
    for accepted in [good().headless("typ"), good().head("typ", json!("JWT")), good().claim("aud", json!([STS]))] {
        assert_eq!(by_assertion(&broker, &accepted.sign()).status, 200);
    }
    let none = {
        let text = good().head("alg", json!("none")).signing_input();
        format!("{text}.")
    };
    let wrong: Vec<(&str, String, &str)> = vec![
        ("another sub", good().claim("sub", json!("other")).sign(), "client_assertion_refused"),
        ("another iss", good().claim("iss", json!("other")).sign(), "client_assertion_refused"),
        ("no iss", good().without("iss").sign(), "client_assertion_refused"),
        ("no sub", good().without("sub").sign(), "client_assertion_refused"),
        ("another aud", good().claim("aud", json!("https://elsewhere.test")).sign(), "client_assertion_audience"),
        ("the endpoint as aud", good().claim("aud", json!(format!("{STS}/token"))).sign(), "client_assertion_audience"),
        ("a slash more", good().claim("aud", json!(format!("{STS}/"))).sign(), "client_assertion_audience"),
        ("two aud", good().claim("aud", json!([STS, "x"])).sign(), "client_assertion_audience"),
        ("no aud", good().without("aud").sign(), "client_assertion_audience"),
        ("no jti", good().without("jti").sign(), "client_assertion_refused"),
        ("an empty jti", good().claim("jti", json!("")).sign(), "client_assertion_refused"),
        ("no exp", good().without("exp").sign(), "client_assertion_refused"),
        ("an exp of a day", good().claim("exp", json!(NOW + 86_400)).sign(), "client_assertion_refused"),
        ("expired", good().claim("exp", json!(NOW)).claim("iat", json!(NOW - 60)).sign(), "client_assertion_expired"),
        ("ahead", good().claim("nbf", json!(NOW + 31)).sign(), "client_assertion_not_yet_valid"),
        ("an access token's typ", good().head("typ", json!("at+jwt")).sign(), "client_assertion_typ"),
        ("a proof's typ", good().head("typ", json!("dpop+jwt")).sign(), "client_assertion_typ"),
        (
            "the key of another client",
            good().claim("iss", json!("other")).claim("sub", json!("other")).sign(),
            "client_assertion_refused",
        ),
        ("an unknown kid", good().head("kid", json!("e2")).sign(), "client_assertion_refused"),
        ("alg none", none, "client_assertion_refused"),
        ("alg HS256", good().head("alg", json!("HS256")).sign(), "client_assertion_refused"),
        ("crit", good().head("crit", json!(["x"])).head("x", json!(1)).sign(), "client_assertion_refused"),
        ("garbage", "a.b.c".to_owned(), "client_assertion_refused"),
    ];
    for (what, assertion, reason) in wrong {
        let reply = by_assertion(&broker, &assertion);
        assert_eq!(reply.refusal(), (401, "invalid_client", reason), "{what}");
        assert!(!holds_a_token(&reply.text), "{what}");
    }
    let used = good().sign();
    assert_eq!(by_assertion(&broker, &used).status, 200);
    let replayed = (401, "invalid_client", "client_assertion_replayed");
    assert_eq!(by_assertion(&broker, &used).refusal(), replayed);
    let with = |assertion: &str, subject: &str| {
        broker.exchange(subject, &[("client_assertion", assertion), ("client_assertion_type", JWT_BEARER)])
    };
    // Used at /introspect, and then at /token; the subject token is not used up by that.
    let subject = Token::github().sign();
    assert_eq!(with(&used, &subject).refusal().2, "target_refused", "the decision comes first, and uses up nothing");
    assert_eq!(broker.exchange(&subject, &[]).status, 200);
}

/// An exchange claims the client's assertion with the subject's, after the decision: a refusal uses up neither.
#[test]
fn an_exchange_claims_both_assertions_or_none() {
    let mut setup = clients();
    setup.policies.push_str(
        "@id(\"signer-for-main\")\npermit (principal, action == Action::\"impersonate\", resource == Target::\"https://orders.test\")\n\
         when { context has client && context.client == Client::\"signer\" && context.scope == \"orders:read\" };\n",
    );
    let broker = start(&setup);
    let with = |assertion: &str, subject: &str, more: &[(&str, &str)]| {
        let form: Vec<_> = [("client_assertion", assertion), ("client_assertion_type", JWT_BEARER)]
            .iter()
            .chain(more)
            .copied()
            .collect();
        broker.exchange(subject, &form)
    };
    let (client, subject) = (own("signer").sign(), Token::github().sign());
    assert_eq!(with(&client, &subject, &[("audience", LEDGER)]).refusal().2, "target_refused");
    let granted = with(&client, &subject, &[]);
    assert_eq!(granted.status, 200, "the refusal used nothing up: {}", granted.text);
    assert_eq!(broker.event(&granted).client.as_deref(), Some("signer"));
    let other = Token::github().sign();
    let replayed = with(&client, &other, &[]);
    assert_eq!(replayed.refusal(), (401, "invalid_client", "client_assertion_replayed"));
    assert_eq!(with(&own("signer").sign(), &other, &[]).status, 200, "and the subject's mark was taken back");
    assert_eq!(with(&own("signer").sign(), &subject, &[]).refusal().2, "subject_token_replayed");
}

#[test]
fn j16_basic_is_decoded_as_either_way_of_writing_it() {
    let secrets = ["with:colon", "per%cent", "plus+plus", "café", "a%3Ab", "100%"];
    let mut setup = Setup::new();
    for (index, secret) in secrets.iter().enumerate() {
        let digest: String =
            countersign::domain::sha256(&[secret.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
        setup.config.push_str(&format!(
            "[[clients]]\nid = \"s{index}\"\nmethod = \"client_secret_basic\"\nsecret_digest = \"sha256:{digest}\"\n"
        ));
    }
    let broker = setup.start();
    let ask = |credentials: &[u8]| {
        let header = [("authorization", format!("Basic {}", STANDARD.encode(credentials)))];
        send_to(broker.address, "/introspect", &header, &[("token", "x")])
    };
    for (index, secret) in secrets.iter().enumerate() {
        assert_eq!(ask(format!("s{index}:{secret}").as_bytes()).status, 200, "raw {secret}");
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        assert_eq!(ask(format!("s{index}:{encoded}").as_bytes()).status, 200, "encoded {secret}");
        let twice: String = form_urlencoded::byte_serialize(encoded.as_bytes()).collect();
        if twice != encoded {
            assert_eq!(ask(format!("s{index}:{twice}").as_bytes()).status, 401, "decoded once, not twice: {secret}");
        }
    }
    for malformed in [&b"s0"[..], b"", b":", b"s0:", b"\xff\xfe:x", b"s0\x00:with:colon"] {
        let reply = ask(malformed);
        assert_eq!(reply.refusal(), (401, "invalid_client", "client_refused"), "{malformed:?}");
    }
    for header in ["Basic", "Basic ", "Basic ???", "Basic czA6d2l0aDpjb2xvbg==, Basic x", "basic\tx"] {
        let reply = send_to(broker.address, "/introspect", &[("authorization", header.to_owned())], &[("token", "x")]);
        assert_eq!((reply.status, reply.text("error")), (401, "invalid_client"), "{header}");
    }
}

#[test]
fn j17_whoever_guesses_is_slowed_down_and_nobody_else_is_locked_out() {
    let broker = start(&clients());
    let guess = |client: &str| {
        let header = [("authorization", format!("Basic {}", STANDARD.encode(format!("{client}:wrong"))))];
        send_to(broker.address, "/introspect", &header, &[("token", "x")])
    };
    let replies: Vec<Reply> = (0..60).map(|_| guess("orders-api")).collect();
    let throttled = replies.iter().filter(|reply| reply.status == 429).count();
    assert!(replies[..20].iter().all(|reply| reply.status == 401), "a person may mistype");
    assert!(throttled >= 30, "{throttled}");
    let last = replies.iter().rfind(|reply| reply.status == 429).unwrap();
    assert_eq!(last.refusal(), (429, "invalid_client", "client_throttled"));
    assert!(last.asks_to_retry());
    // While its address is slowed down, even the right secret is not looked at: a guess learns nothing.
    let right = (0..20).map(|_| (guess("orders-api"), broker.introspect("orders-api", "x")).1.status);
    assert!(right.into_iter().any(|status| status == 429));
    // However a client's id is written, it is one client; and whoever guesses is on the log.
    let attempts = broker.events();
    assert!((0..5).any(|_| guess("o%72ders-api").status == 429));
    let last = broker.event(&replies[0]);
    assert_eq!(
        (last.kind, last.refused.unwrap().reason.as_str()),
        (countersign::audit::EventKind::Introspection, "client_refused")
    );
    assert!(attempts >= 20);
    // A client that signs has no secret to guess, and goes on, from the very same address.
    assert_eq!(by_assertion(&broker, &own("signer").sign()).status, 200);
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200, "nor are workloads that need no client");
}

#[test]
fn a_client_that_proved_itself_is_not_slowed_down_for_the_guesses_of_others() {
    use std::net::IpAddr;
    let attempts = countersign::client::Attempts::new(std::sync::Arc::new(TestClock::new()));
    let (own, attacker): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [198, 51, 100, 1].into());
    attempts.failed("c1", attacker);
    attempts.proved("c1", own);
    // From many addresses, so that none of them is over its own bound.
    for number in 0..2_000_u32 {
        attempts.failed("c1", IpAddr::from((0x0a00_0000 + number).to_be_bytes()));
    }
    assert!(!attempts.may_try("c1", [10, 9, 9, 9].into()), "the client, from anywhere else");
    assert!(attempts.may_try("c1", own));
    assert!(attempts.may_try("c2", [10, 9, 9, 9].into()), "another client");
    // One address has all of its /64.
    for number in 0..64_u16 {
        attempts.failed(&format!("x{number}"), IpAddr::from([0x2001, 0xdb8, 0, 1, number, 0, 0, 1]));
    }
    assert!(!attempts.may_try("y", IpAddr::from([0x2001, 0xdb8, 0, 1, 9_999, 0, 0, 1])));
    assert!(attempts.may_try("y", IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])));
}

#[test]
fn where_a_client_is_required_nobody_else_gets_anything() {
    let mut setup = clients().change("name = \"github\"", "name = \"github\"\nclient = \"required\"");
    setup = setup
        .change("audience = \"https://ledger.test\"\n", "audience = \"https://ledger.test\"\nclient = \"required\"\n");
    setup.policies.push_str(
        "@id(\"orders-api-for-github\")\npermit (principal in Issuer::\"github\", action == Action::\"impersonate\", resource == Target::\"https://orders.test\")\n\
         when { context.scope == \"orders:read\" };\n\
         @id(\"payments-for-itself\")\npermit (principal in Issuer::\"prod\", action == Action::\"impersonate\", resource == Target::\"https://ledger.test\");\n",
    );
    let broker = start(&setup);
    let assertion = Token::github().sign();
    let refused = broker.exchange(&assertion, &[]);
    assert_eq!(refused.refusal(), (401, "invalid_client", "client_credentials_required"));
    let form =
        [("grant_type", GRANT), ("subject_token", &assertion), ("subject_token_type", JWT), ("audience", ORDERS)];
    assert_eq!(broker.post_as("orders-api", "/token", &form).status, 200, "and it was not used up");
    // A target that needs one is no other answer than a target that is not there.
    let svid = Token::svid().sign();
    let hidden = broker.exchange(&svid, &[("audience", LEDGER)]);
    let unknown = broker.exchange(&svid, &[("audience", "https://unknown.test")]);
    assert_eq!(hidden.refusal(), (400, "invalid_target", "target_refused"));
    assert_eq!(
        (hidden.refusal(), hidden.text("error_description")),
        (unknown.refusal(), unknown.text("error_description"))
    );
    assert_eq!(broker.reason(&hidden), "client_required_by_target");
    let form = [("grant_type", GRANT), ("subject_token", &svid), ("subject_token_type", JWT), ("audience", LEDGER)];
    assert_eq!(broker.post_as("ledger-api", "/token", &form).status, 200);
}

/// For SDKs that speak no RFC 8693: the client is the subject, and the scope names the target.
#[test]
fn client_credentials_go_through_the_same_pipeline() {
    let broker = start(&clients());
    let ask = |assertion: &str, more: &[(&str, &str)]| {
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", "deployer"),
            ("client_assertion", assertion),
            ("client_assertion_type", JWT_BEARER),
            ("scope", "https://orders.test/.default"),
            ("client_info", "1"),
        ];
        form.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        form.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        broker.post("/token", &form)
    };
    let granted = ask(&Token::cluster().sign(), &[]);
    assert_eq!((granted.status, granted.text("scope")), (200, "https://orders.test/.default"), "{}", granted.text);
    let claims = claims(granted.text("access_token"));
    assert_eq!(claims["scope"], "orders:read orders:write", "it asked by one name for all");
    assert_eq!(claims["sub"], format!("cluster:{SERVICE}"));
    assert_eq!((&claims["client_id"], &claims["aud"]), (&json!("deployer"), &json!(ORDERS)));
    assert!(granted.json["expires_in"].as_i64().unwrap() <= 60, "the permit's bound holds");
    let event = broker.event(&granted);
    assert_eq!((event.client.as_deref(), event.subject.unwrap().sub.as_str()), (Some("deployer"), SERVICE));
    assert_eq!(event.question.unwrap().action.name(), "exchange", "it asks for itself");
    // As RFC 8707 has it, and with the client's id left out.
    assert_eq!(
        ask(&Token::cluster().sign(), &[("scope", "orders:read"), ("resource", ORDERS)]).text("scope"),
        "orders:read"
    );
    assert_eq!(ask(&Token::cluster().sign(), &[("client_id", "")]).status, 200);
    let refusals: [(&str, Reply, (u16, &str, &str)); 9] = [
        (
            "no client",
            ask("", &[("client_assertion", ""), ("client_assertion_type", ""), ("client_id", "")]),
            (401, "invalid_client", "client_credentials_required"),
        ),
        (
            "another subject",
            ask(&Token::cluster().claim("sub", json!("system:serviceaccount:prod:x")).sign(), &[]),
            (401, "invalid_client", "client_refused"),
        ),
        (
            "another client's id",
            ask(&Token::cluster().sign(), &[("client_id", "signer")]),
            (401, "invalid_client", "client_refused"),
        ),
        (
            "expired",
            ask(&Token::cluster().claim("exp", json!(NOW)).sign(), &[]),
            (401, "invalid_client", "client_assertion_expired"),
        ),
        (
            "for somebody else",
            ask(&Token::cluster().claim("aud", json!("x")).sign(), &[]),
            (401, "invalid_client", "client_assertion_audience"),
        ),
        (
            "a key of its own",
            ask(&own("signer").sign(), &[("client_id", "signer")]),
            (400, "unauthorized_client", "client_grant_refused"),
        ),
        (
            "an unknown target",
            ask(&Token::cluster().sign(), &[("scope", "https://x.test/.default")]),
            (400, "invalid_target", "target_refused"),
        ),
        (
            "no target",
            ask(&Token::cluster().sign(), &[("scope", "orders:read")]),
            (400, "invalid_target", "target_missing"),
        ),
        (
            "two targets",
            ask(&Token::cluster().sign(), &[("scope", "https://orders.test/.default https://ledger.test/.default")]),
            (400, "invalid_scope", "scope_malformed"),
        ),
    ];
    for (what, reply, expected) in &refusals {
        assert_eq!(reply.refusal(), *expected, "{what}: {}", reply.text);
    }
    let secret = broker.post_as(
        "orders-api",
        "/token",
        &[("grant_type", "client_credentials"), ("scope", "https://orders.test/.default")],
    );
    assert_eq!(secret.refusal(), (400, "unauthorized_client", "client_grant_refused"));
    // Policy decides about the workload, as in every exchange.
    let denied = ask(&Token::cluster().claim("env", json!("test")).sign(), &[]);
    assert_eq!(denied.refusal(), (400, "invalid_target", "target_refused"));
    assert_eq!(broker.reason(&denied), "target_denied");
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn one_assertion_can_be_client_and_subject_in_one_request() {
    let setup = clients().change("name = \"cluster\"\nkind = \"oidc\"", "name = \"cluster\"\nkind = \"oidc\"");
    let setup = setup.change("single_use = false\n", "");
    let broker = start(&setup);
    let assertion = Token::cluster().claim("jti", json!("both")).sign();
    let both = [("client_assertion", assertion.as_str()), ("client_assertion_type", JWT_BEARER)];
    assert_eq!(broker.exchange(&assertion, &both).status, 200);
    assert_eq!(broker.exchange(&assertion, &both).refusal().2, "subject_token_replayed");
}

/// Discovery under the configured tenant, and nowhere else.
#[test]
fn a_tenant_has_its_own_discovery_and_token_endpoint() {
    let broker = start(&clients().change("workers = 2", "workers = 2\ntenant = \"acme\""));
    let get = |path: &str| send(broker.address, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    let document = get("/acme/v2.0/.well-known/openid-configuration");
    assert_eq!(document.json["token_endpoint"], format!("{STS}/acme/oauth2/v2.0/token"));
    assert_eq!(document.json["issuer"], format!("{STS}/acme/v2.0"));
    assert_eq!(get("/other/v2.0/.well-known/openid-configuration").status, 404);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion", &Token::cluster().sign()),
        ("client_assertion_type", JWT_BEARER),
        ("scope", "https://orders.test/.default"),
    ];
    assert_eq!(broker.post("/acme/oauth2/v2.0/token", &form).status, 200);
    assert_eq!(broker.post("/other/oauth2/v2.0/token", &form).status, 404);
}
