//! Sections E and I: what an exchange may be talked into, and what policy may.

use crate::support::*;
use countersign::policy::Policy;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn again(broker: &TestBroker, client: &str, token: &str, more: &[(&str, &str)]) -> Reply {
    let mut form = vec![("grant_type", GRANT), ("subject_token", token), ("subject_token_type", ACCESS_TOKEN)];
    form.extend_from_slice(more);
    broker.post_as(client, "/token", &form)
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn e1_e2_no_scope_comes_from_anywhere_but_policy() {
    let broker = TestBroker::new();
    let claimed = Token::github().claim("scope", json!("orders:read orders:write admin"));
    let wider = broker.exchange(&claimed.sign(), &[("scope", "orders:read orders:write")]);
    assert_eq!(wider.refusal(), (400, "invalid_scope", "scope_refused"));
    let none = broker.exchange(&claimed.clone().claim("jti", json!("e1")).sign(), &[]);
    assert_eq!(none.text("scope"), "orders:read", "what is permitted, and it is told");
    let child =
        again(&broker, "orders-api", &none.token(), &[("audience", ORDERS), ("scope", "orders:read orders:write")]);
    assert_eq!(child.status, 400, "more than the parent has is to be impersonated, and nobody gave leave");
    let offline = broker.exchange(&claimed.claim("jti", json!("e29")).sign(), &[("scope", "offline_access")]);
    assert_eq!(offline.refusal(), (400, "invalid_scope", "scope_refused"));
}

#[test]
fn e3_a_scope_is_written_by_the_grammar() {
    let broker = TestBroker::new();
    let token = Token::cluster().sign();
    for scope in [
        "orders:read\torders:write",
        "orders:read  orders:write",
        " orders:read",
        "orders:read ",
        "a\"b",
        "a\\b",
        "\u{e9}",
        "a\nb",
    ] {
        let reply = broker.exchange(&token, &[("scope", scope)]);
        assert_eq!(reply.refusal(), (400, "invalid_scope", "scope_malformed"), "{scope:?}");
    }
    let many = (0..33).map(|at| format!("s{at}")).collect::<Vec<_>>().join(" ");
    assert_eq!(broker.exchange(&token, &[("scope", &many)]).text("reason"), "scope_malformed");
    let flood = (0..10_000).map(|at| format!("s{at}")).collect::<Vec<_>>().join(" ");
    assert!(matches!(broker.exchange(&token, &[("scope", &flood)]).status, 400 | 413));
    assert_eq!(broker.exchange(&token, &[("scope", "Orders:Read")]).refusal().2, "scope_refused", "by its exact case");
    let twice = broker.exchange(&token, &[("scope", "orders:read orders:read")]);
    assert_eq!((twice.status, twice.text("scope")), (200, "orders:read"));
    assert_eq!(broker.exchange(&token, &[("scope", "")]).status, 200, "an empty one is none");
}

#[test]
fn e4_e5_e8_a_token_is_for_the_one_target_that_was_asked_for() {
    let broker = TestBroker::new();
    let ask = |more: &[(&str, &str)]| broker.exchange(&Token::cluster().sign(), more);
    for (more, error) in [
        (vec![("audience", ORDERS), ("audience", LEDGER)], "invalid_target"),
        (vec![("audience", ORDERS), ("resource", LEDGER)], "invalid_target"),
        (vec![("audience", "https://unregistered.test")], "invalid_target"),
        (vec![("audience", "https://orders.test/")], "invalid_target"),
        (vec![("audience", "HTTPS://ORDERS.TEST")], "invalid_target"),
        (vec![("audience", "")], "invalid_target"),
        ([("audience", ORDERS)].repeat(17), "invalid_target"),
        ([("audience", ORDERS)].repeat(500), "invalid_request"),
    ] {
        let reply = ask(&more);
        assert_eq!((reply.status, reply.text("error")), (400, error), "{more:?}");
    }
    let granted = ask(&[("audience", ORDERS), ("resource", "https://orders.test/v1"), ("audience", ORDERS)]);
    assert_eq!(claims(&granted.token())["aud"], ORDERS);
}

#[test]
fn e6_k1_a_parameter_is_repeated_only_where_it_may_be() {
    let broker = TestBroker::new();
    let token = Token::cluster().sign();
    for single in [
        "grant_type",
        "subject_token",
        "subject_token_type",
        "scope",
        "requested_token_type",
        "actor_token",
        "actor_token_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "lifetime",
        "authorization_details",
    ] {
        let reply = broker.exchange(&token, &[(single, "a"), (single, "b")]);
        assert_eq!(reply.refusal(), (400, "invalid_request", "parameter_repeated"), "{single}");
    }
    let evil = Token::cluster().key(&keys().evil).sign();
    for both in [
        [("subject_token", token.as_str()), ("subject_token", evil.as_str())],
        [("subject_token", evil.as_str()), ("subject_token", token.as_str())],
    ] {
        assert_eq!(broker.exchange(&token, &both).text("reason"), "parameter_repeated");
    }
    for path in ["/introspect", "/revoke"] {
        for single in ["token", "token_type_hint"] {
            let form = [("token", "x"), (single, "a"), (single, "b")];
            let reply = broker.post_as("orders-api", path, &form);
            assert_eq!(reply.text("reason"), "parameter_repeated", "{path} {single}");
        }
    }
}

#[test]
fn e7_a_resource_is_an_absolute_uri_and_is_not_made_another_one() {
    let broker = TestBroker::new();
    let ask = |resource: &str| broker.exchange(&Token::cluster().sign(), &[("resource", resource)]);
    for resource in
        ["/v1", "v1", "//orders.test/v1", "https://orders.test/v1#x", "https://", "", "https://orders test/v1"]
    {
        let reply = ask(resource);
        assert_eq!((reply.status, reply.text("error")), (400, "invalid_target"), "{resource}");
    }
    for other in [
        "javascript:alert(1)",
        "https://user@orders.test/v1",
        "https://orders.test./v1",
        "https://orders.test/x/../v1",
        "https://orders.test/v1/",
        "https://orders.test/%761",
    ] {
        assert_eq!(ask(other).refusal(), (400, "invalid_target", "target_refused"), "{other}");
    }
    assert_eq!(ask("https://orders.test/v1").status, 200);
}

#[test]
fn e9_e29_what_is_issued_is_an_access_token_and_never_one_that_renews() {
    let broker = TestBroker::new();
    let urn = |name: &str| format!("urn:ietf:params:oauth:token-type:{name}");
    for other in ["refresh_token", "id_token", "saml1", "saml2", "txn_token"] {
        let reply = broker.exchange(&Token::cluster().sign(), &[("requested_token_type", &urn(other))]);
        assert_eq!(reply.refusal(), (400, "invalid_request", "requested_token_type_unsupported"), "{other}");
    }
    for taken in ["access_token", "jwt"] {
        let reply = broker.exchange(&Token::cluster().sign(), &[("requested_token_type", &urn(taken))]);
        assert_eq!((reply.status, reply.text("issued_token_type")), (200, ACCESS_TOKEN));
        assert!(reply.json.get("refresh_token").is_none());
    }
}

#[test]
fn e10_e12_no_exchange_of_a_token_lengthens_it() {
    let broker = TestBroker::new();
    let first = broker.exchange(&Token::github().sign(), &[]).token();
    let end = claims(&first)["exp"].as_i64().unwrap();
    broker.clock.advance(end - NOW - 10);
    let (mut token, mut made) = (first, 0);
    for _ in 0..20 {
        let reply = again(
            &broker,
            "orders-api",
            &token,
            &[("audience", ORDERS), ("scope", "orders:read"), ("lifetime", "3600")],
        );
        if reply.status != 200 {
            assert_eq!(reply.text("reason"), "lineage_too_long");
            break;
        }
        made += 1;
        token = reply.token();
        let said = claims(&token);
        assert!(said["exp"].as_i64().unwrap() <= end && said["scope"] == "orders:read" && said["aud"] == ORDERS);
    }
    assert_eq!(made, 8, "a lineage ends");
    broker.clock.advance(11);
    let expired = again(&broker, "orders-api", &token, &[("audience", ORDERS)]);
    assert_eq!((expired.status, broker.reason(&expired).as_str()), (400, "own_token_invalid"));
}

#[test]
fn e11_what_expires_on_the_way_is_not_given_a_new_life() {
    let broker = TestBroker::new();
    let token = Token::cluster().claim("exp", json!(NOW + 1));
    let reply = broker.exchange(&token.sign(), &[]);
    assert_eq!(reply.json["expires_in"], 1);
    broker.clock.advance(1);
    assert_eq!(broker.exchange(&token.sign(), &[]).text("reason"), "subject_token_expired");
}

#[test]
fn e15_claims_that_only_we_may_set_are_dropped_or_refused() {
    let broker = TestBroker::new();
    let mut forged = Token::cluster();
    for (name, value) in [
        ("act", json!({"sub": "admin"})),
        ("may_act", json!({"sub": "x"})),
        ("client_id", json!("orders-api")),
        ("scope", json!("orders:admin")),
        ("task", json!({"id": "t"})),
        ("task_id", json!("t")),
        ("roles", json!(["admin"])),
        ("lineage", json!([{"jti": "x"}])),
        ("origin", json!({"iss": "x", "sub": "y"})),
        ("pos", json!(0)),
        ("authorization_details", json!([])),
    ] {
        forged = forged.claim(name, value);
    }
    let token = broker.exchange(&forged.sign(), &[("scope", "orders:read")]).token();
    let said = claims(&token);
    for absent in ["act", "may_act", "cnf", "roles", "task_id", "lineage", "authorization_details"] {
        assert!(said.get(absent).is_none(), "{absent}");
    }
    assert_eq!((&said["client_id"], &said["scope"]), (&said["sub"], &json!("orders:read")));
    assert_eq!(said["origin"], json!({"iss": CLUSTER, "sub": "system:serviceaccount:prod:deployer"}));
    assert_eq!(said["task"]["id"], said["jti"]);
    let svid = Token::svid().claim("act", json!({"sub": "admin"})).claim("scope", json!("x")).sign();
    let svid = claims(&broker.exchange(&svid, &[("audience", LEDGER)]).token());
    assert!(svid.get("act").is_none() && svid["scope"] == "");
}

#[test]
fn e24_a_client_or_a_target_that_is_taken_out_takes_its_tokens_with_it() {
    let clients = "[[clients]]\nid = \"second\"\nmethod = \"client_secret_basic\"";
    let digest: String =
        countersign::domain::sha256(&[secret("second").as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
    let second = format!(
        "{clients}\nsecret_digest = \"sha256:{digest}\"\nintrospects = [\"{ORDERS}\", \"{LEDGER}\"]\n[[targets]]"
    );
    let policy = "@id(\"all\") permit (principal, action, resource);";
    let mut setup = Setup::new().policies(policy);
    setup.config = setup.config.replacen("[[targets]]", &second, 1);
    let broker = setup.start();
    let own = broker.exchange(&Token::cluster().sign(), &[]).token();
    let by_client = again(&broker, "orders-api", &own, &[("audience", LEDGER)]).token();
    let below = again(&broker, "second", &by_client, &[("audience", LEDGER)]).token();
    for token in [&by_client, &below] {
        assert_eq!(broker.introspect("second", token).json["active"], true);
    }
    let config = std::fs::read_to_string(broker.config()).unwrap();
    let start = config.find("[[clients]]\nid = \"orders-api\"").unwrap();
    let end = config.find("[[clients]]\nid = \"ledger-api\"").unwrap();
    let without = format!("{}{}", &config[..start], &config[end..]);
    let broker = broker.restart_after(|root| std::fs::write(root.join("countersign.toml"), without).unwrap());
    for token in [&by_client, &below] {
        assert_eq!(broker.introspect("second", token).json, json!({"active": false}));
        let reply = again(&broker, "second", token, &[("audience", LEDGER)]);
        assert_eq!((reply.status, broker.reason(&reply).as_str()), (400, "token_withdrawn"));
    }
    assert_eq!(broker.introspect("second", &own).json["active"], true, "the one that names it nowhere lives");
    let config = std::fs::read_to_string(broker.config()).unwrap();
    let start = config.find("[[targets]]\naudience = \"https://orders.test\"").unwrap();
    let end = config.find("[[targets]]\naudience = \"https://ledger.test\"").unwrap();
    let without = format!("{}{}", &config[..start], &config[end..]).replace(&format!("\"{ORDERS}\", "), "");
    let broker = broker.restart_after(|root| std::fs::write(root.join("countersign.toml"), without).unwrap());
    assert_eq!(broker.introspect("second", &own).json, json!({"active": false}));
}

#[test]
fn e25_e26_a_request_never_becomes_another_grant() {
    let broker = TestBroker::new();
    let form = [("grant_type", GRANT), ("subject_token_type", JWT), ("audience", ORDERS)];
    assert_eq!(broker.post("/token", &form).text("reason"), "subject_token_missing");
    assert_eq!(broker.post_as("orders-api", "/token", &form).text("reason"), "subject_token_missing");
    let token = Token::cluster().sign();
    for grant in [
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "authorization_code",
        "password",
        "refresh_token",
        "TOKEN-EXCHANGE",
        "urn:ietf:params:oauth:grant-type:token-exchange ",
        "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange",
    ] {
        let reply = broker.exchange(&token, &[("grant_type", grant), ("assertion", &token)]);
        assert_eq!(reply.refusal(), (400, "unsupported_grant_type", "grant_type_unsupported"), "{grant}");
    }
    let by_secret = [("grant_type", "client_credentials"), ("audience", ORDERS)];
    assert_eq!(broker.post_as("orders-api", "/token", &by_secret).text("error"), "unauthorized_client");
    assert_eq!(broker.post("/token", &by_secret).text("error"), "invalid_client");
}

#[test]
fn e27_where_a_client_is_asked_for_nobody_else_gets_anything() {
    let broker = Setup::new()
        .change(
            "attributes = { env = { claim = \"/env\" } }",
            "attributes = { env = { claim = \"/env\" } }\nclient = \"required\"",
        )
        .start();
    let token = Token::cluster().sign();
    assert_eq!(broker.exchange(&token, &[]).refusal(), (401, "invalid_client", "client_credentials_required"));
    for id in ["orders-api", "ledger-api"] {
        assert_eq!(
            broker.exchange(&token, &[("client_id", id)]).refusal(),
            (401, "invalid_client", "client_refused"),
            "an id is no proof"
        );
    }
    assert_eq!(broker.exchange(&token, &[("client_id", "nobody")]).refusal().0, 401);
}

#[test]
fn e30_what_a_client_writes_of_tasks_is_refused_and_never_dropped() {
    let broker = TestBroker::new();
    let token = Token::cluster().sign();
    for (name, value, reason) in [
        ("task_purpose", "x", "task_not_opened"),
        ("task_budget", "9", "task_not_opened"),
        ("task_id", "t", "task_parameter_unknown"),
        ("task_", "", "task_parameter_unknown"),
    ] {
        assert_eq!(broker.exchange(&token, &[(name, value)]).text("reason"), reason, "{name}");
    }
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for details in ["[]", "[{\"type\":\"x\",\"task\":\"other\"}]", deep.as_str()] {
        assert_eq!(
            broker.exchange(&token, &[("authorization_details", details)]).text("error"),
            "invalid_authorization_details"
        );
    }
    let reply = broker.exchange(&token, &[("task", "other-task")]);
    assert_eq!(claims(&reply.token())["task"]["id"], claims(&reply.token())["jti"], "an unknown name says nothing");
}

#[test]
fn e31_i15_an_answer_says_what_the_token_says_and_the_log_allowed() {
    let broker = TestBroker::new();
    let mut ids = BTreeSet::new();
    for at in 0..50 {
        let scope = ["orders:read", "orders:write", ""][at % 3];
        let reply = broker.exchange(&Token::cluster().sign(), &[("scope", scope), ("lifetime", &(at + 1).to_string())]);
        let said = claims(&reply.token());
        assert_eq!((reply.text("token_type"), reply.text("issued_token_type")), ("Bearer", ACCESS_TOKEN));
        assert_eq!(said["exp"].as_i64().unwrap() - NOW, reply.json["expires_in"].as_i64().unwrap());
        assert_eq!((said["iat"].as_i64(), said["nbf"].as_i64()), (Some(NOW), Some(NOW)));
        assert_eq!(said["scope"], reply.json["scope"]);
        assert_eq!(
            (reply.headers["cache-control"].as_str(), reply.headers["pragma"].as_str()),
            ("no-store", "no-cache")
        );
        let jti = said["jti"].as_str().unwrap();
        assert!(jti.len() == 22 && ids.insert(jti.to_owned()), "128 bits, never twice");
        let event = broker.event(&reply);
        let (question, answer) = (event.question.unwrap(), event.answer.unwrap());
        let allowed: BTreeSet<&str> = question
            .scopes
            .iter()
            .zip(&answer.verdicts)
            .filter(|(_, verdict)| verdict.permitted)
            .map(|(scope, _)| scope.as_str())
            .collect();
        assert!(said["scope"].as_str().unwrap().split(' ').all(|scope| allowed.contains(scope)));
        assert_eq!(question.resource.audience, said["aud"].as_str().unwrap());
    }
}

#[test]
fn i1_without_policies_nothing_starts_and_a_reload_that_cannot_be_read_changes_nothing() {
    let broker = TestBroker::new();
    broker.write("policies/all.cedar", "permit (principal, action, resource)");
    assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).status, 200, "what is in force stays");
    drop(broker);
    let root = Setup::new().write();
    std::fs::remove_file(root.path().join("policies/all.cedar")).unwrap();
    let installation = countersign::app::Installation::read(&root.path().join("countersign.toml")).unwrap();
    let clock: std::sync::Arc<dyn countersign::domain::Clock> = std::sync::Arc::new(TestClock::new());
    let entropy = std::sync::Arc::new(countersign::domain::SystemEntropy);
    let started = countersign::http::block_on(installation.assemble(clock, entropy));
    assert!(started.is_err_and(|fault| fault.to_string().contains("polic")), "no broker without policies");
    let folder = tempfile::tempdir().unwrap();
    assert!(Policy::load(folder.path(), &records()).is_err(), "an empty folder");
    assert!(Policy::load(&folder.path().join("missing"), &records()).is_err());
    std::fs::write(folder.path().join("a.cedar"), [0xff, 0xfe]).unwrap();
    assert!(Policy::load(folder.path(), &records()).is_err(), "no UTF-8");
    std::fs::write(folder.path().join("a.cedar"), "// nothing").unwrap();
    assert!(Policy::load(folder.path(), &records()).is_err(), "no policy");
    let inside = folder.path().join("b.cedar");
    std::fs::create_dir(&inside).unwrap();
    assert!(Policy::load(folder.path(), &records()).is_err(), "a folder where a file should be");
}

#[test]
fn i2_i3_i4_a_set_that_could_fail_open_is_not_loaded_and_an_error_denies() {
    let load = |text: &str| Policy::from_texts(&records(), [("p.cedar".to_owned(), text)]);
    let permit = "@id(\"p\") permit (principal, action, resource);";
    for wrong in [
        "@id(\"f\") forbid (principal, action, resource) when { context.task.risk > 5 };",
        "@id(\"f\") forbid (principal, action, resource) unless { principal.suspended };",
        "@id(\"f\") forbid (principal, action, resource) when { context.evnironment == \"x\" };",
        "@id(\"f\") permit (principal, action, resource) when { context.scope in [\"a\"] };",
        "@id(\"f\") permit (principal, action == Action::\"mint\", resource);",
        "@id(\"f\") permit (principal == User::\"a\", action, resource);",
    ] {
        assert!(load(&format!("{permit}\n{wrong}")).is_err(), "{wrong}");
    }
    let broker = Setup::new()
        .policies(&format!("{permit} @id(\"f\") forbid (principal, action, resource) when {{ context has lifetime && context.lifetime * 9223372036854775807 > 0 }};"))
        .start();
    let reply = broker.exchange(&Token::cluster().sign(), &[("lifetime", "60")]);
    assert_eq!((reply.status, broker.reason(&reply).as_str()), (400, "target_denied"));
    assert!(
        !broker.event(&reply).answer.unwrap().verdicts[0].errors.is_empty(),
        "and the log says which policy failed"
    );
}

#[test]
fn i7_a_name_is_data_and_never_code() {
    let broker = Setup::new()
        .policies("@id(\"p\") permit (principal == Workload::\"cluster:admin\", action == Action::\"exchange\", resource == Target::\"https://orders.test\");")
        .start();
    for sub in [
        "a\"::Admin::\"b",
        "admin\\",
        "x\" || true || \"",
        "cluster:admin",
        "admin\" }; permit (principal, action, resource);",
        "a_dmin",
        "*",
    ] {
        let reply = broker.exchange(&Token::cluster().claim("sub", json!(sub)).sign(), &[]);
        assert_eq!((reply.status, broker.reason(&reply).as_str()), (400, "target_denied"), "{sub}");
        let asked = broker.event(&reply).question.unwrap();
        assert_eq!(asked.principal.name, format!("cluster:{sub}"));
    }
    for hint in ["\"", "\\", "a\"::b"] {
        assert_eq!(broker.exchange(&Token::cluster().sign(), &[("client_id", hint), ("audience", hint)]).status, 400);
    }
}

#[test]
fn i8_what_a_caller_says_of_itself_is_a_hint_and_no_fact() {
    let broker = Setup::new()
        .policies(
            "@id(\"p\") permit (principal, action == Action::\"exchange\", resource == Target::\"https://orders.test\") when { context has client && context.client == Client::\"orders-api\" };\n@id(\"n\") permit (principal, action == Action::\"exchange\", resource == Target::\"https://ledger.test\") when { context.network.isInRange(ip(\"10.0.0.0/8\")) };",
        )
        .start();
    let claimed = [("client_id", "nobody"), ("task.approved", "true"), ("context.client", "orders-api")];
    assert_eq!(broker.exchange(&Token::cluster().sign(), &claimed).text("reason"), "target_refused");
    let token = Token::cluster().sign();
    let form =
        [("grant_type", GRANT), ("subject_token", &token as &str), ("subject_token_type", JWT), ("audience", LEDGER)];
    let lies = [
        ("x-forwarded-for", "10.1.1.1".to_owned()),
        ("forwarded", "for=10.1.1.1".to_owned()),
        ("x-real-ip", "10.1.1.1".to_owned()),
        ("user-agent", "orders-api".to_owned()),
    ];
    assert_eq!(send_to(broker.address, "/token", &lies, &form).text("reason"), "target_refused");
}

#[test]
fn i9_a_claim_is_never_a_pattern() {
    let broker = Setup::new()
        .policies("@id(\"p\") permit (principal in Issuer::\"cluster\", action == Action::\"exchange\", resource == Target::\"https://orders.test\") when { principal has cluster && principal.cluster has env && principal.cluster.env like \"acme/*\" };")
        .start();
    let status = |env: &str| broker.exchange(&Token::cluster().claim("env", json!(env)).sign(), &[]).status;
    for other in ["*", "\\*", "acme*", "a*/x", "ACME/x", ""] {
        assert_eq!(status(other), 400, "{other}");
    }
    // `*` crosses `/`, and docs/policy.md says so.
    assert_eq!([status("acme/a"), status("acme/a/b"), status("acme/../evil/x")], [200, 200, 200]);
}

#[test]
fn i14_two_policies_never_share_an_id() {
    let one = "@id(\"a\") permit (principal, action == Action::\"exchange\", resource);";
    let load = |files: &[(&str, &str)]| {
        Policy::from_texts(&records(), files.iter().map(|(name, text)| ((*name).to_owned(), *text)))
    };
    assert!(load(&[("a.cedar", one), ("b.cedar", one)]).is_err(), "in two files");
    assert!(
        load(&[("a.cedar", &format!("{one}\n@owner(\"x\") {one}"))]).is_err(),
        "and in one, with other annotations"
    );
    assert!(
        load(&[("a.cedar", "@id(\"t\") permit (principal == ?principal, action, resource);")]).is_err(),
        "a template"
    );
    assert!(load(&[("a.cedar", one), ("b.cedar", &one.replace("\"a\"", "\"b\""))]).is_ok());
}
