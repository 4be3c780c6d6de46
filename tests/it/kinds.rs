//! The kinds of issuer: who their workloads are, and that two issuers can never name the same one.

use crate::support::*;
use serde_json::json;

const ANYONE: &str = r#"
@id("anyone-at-ledger")
permit (principal, action == Action::"exchange", resource == Target::"https://ledger.test");
"#;

fn name(broker: &TestBroker, token: &Token) -> String {
    let reply = broker.exchange(&token.sign(), &[("audience", LEDGER)]);
    assert_eq!(reply.status, 200, "{} {}", reply.text, broker.reason(&reply));
    broker.event(&reply).granted.unwrap().sub
}

#[test]
fn github_workloads_are_named_by_both_forms_of_sub() {
    let broker = Setup::new().policies(ANYONE).start();
    assert_eq!(name(&broker, &Token::github()), "github:repo:acme/app:ref:refs/heads/main");
    let immutable = "repo:acme@41/app@74:ref:refs/heads/main";
    assert_eq!(name(&broker, &Token::github().claim("sub", json!(immutable))), format!("github:{immutable}"));
    let custom = Token::github().claim("sub", json!("repository_owner:acme:environment:prod"));
    assert_eq!(name(&broker, &custom), "github:repository_owner:acme:environment:prod");
    for contradicting in ["repo:acme@42/app@74:x", "repo:acme@41/app@75:x", "repo:evil/app:ref:refs/heads/main"] {
        let reply =
            broker.exchange(&Token::github().claim("sub", json!(contradicting)).sign(), &[("audience", LEDGER)]);
        assert_eq!(broker.reason(&reply), "claim_malformed", "{contradicting}");
    }
}

#[test]
fn github_policy_decides_on_typed_claims() {
    let policy = r#"
    @id("typed")
    permit (principal in Issuer::"github", action == Action::"exchange", resource == Target::"https://ledger.test") when {
      principal has github && principal.github has repository_id && principal.github.repository_id == "74" &&
      principal.github has ref && principal.github.ref == "refs/heads/main" &&
      principal.github has event_name && principal.github.event_name == "push"
    };"#;
    let broker = Setup::new().policies(policy).start();
    let status = |token: Token| broker.exchange(&token.sign(), &[("audience", LEDGER)]).status;
    assert_eq!(status(Token::github()), 200);
    assert_eq!(status(Token::github().claim("repository_id", json!("75"))), 400);
    assert_eq!(status(Token::github().claim("ref", json!("refs/tags/main"))), 400);
    assert_eq!(status(Token::github().claim("ref", json!("refs/heads/Main"))), 400);
    for event in ["pull_request", "pull_request_target", "workflow_run", "issue_comment"] {
        assert_eq!(status(Token::github().claim("event_name", json!(event))), 400, "{event}");
    }
    assert_eq!(status(Token::github().without("event_name")), 400, "absent is no match");
    assert_eq!(status(Token::github().claim("repository_id", json!(74))), 400, "an id is a string");
}

#[test]
fn spiffe_ids_are_read_byte_for_byte_and_belong_to_the_bundles_trust_domain() {
    let broker = Setup::new().policies(ANYONE).start();
    assert_eq!(name(&broker, &Token::svid()), "spiffe://td.test/ns/pay/sa/web");
    assert_eq!(
        name(&broker, &Token::svid().claim("iss", json!("https://unrelated.test"))),
        "spiffe://td.test/ns/pay/sa/web"
    );
    assert_eq!(name(&broker, &Token::svid().head("typ", json!("JOSE"))), "spiffe://td.test/ns/pay/sa/web");
    let long = format!("spiffe://td.test/{}", "a".repeat(2_048 - 17));
    assert_eq!(name(&broker, &Token::svid().claim("sub", json!(long))), long);
    let refused = [
        "spiffe://td.test/%61dmin",
        "spiffe://td.test/a//b",
        "spiffe://td.test/./a",
        "spiffe://td.test/../a",
        "spiffe://td.test/a/",
        "spiffe://td.test/a?x",
        "spiffe://td.test/a#x",
        "spiffe://td.test:443/a",
        "spiffe://u@td.test/a",
        "spiffe://td.test/\u{e9}",
        "spiffe://td.test/a*",
        "SPIFFE://td.test/a",
        "spiffe://TD.test/a",
        "spiffe://td.test",
        "spiffe://td.test/",
        "spiffe://other.test/a",
        "system:serviceaccount:prod:deployer",
        "",
    ];
    for sub in refused {
        let reply = broker.exchange(&Token::svid().claim("sub", json!(sub)).sign(), &[("audience", LEDGER)]);
        assert_eq!(reply.refusal(), (400, "invalid_request", "subject_token_refused"), "{sub}");
    }
    for (header, value) in [("cty", json!("JWT")), ("x5t", json!("x")), ("jku", json!("https://evil.test"))] {
        let reply = broker.exchange(&Token::svid().head(header, value).sign(), &[("audience", LEDGER)]);
        assert_eq!(reply.status, 400, "{header}");
    }
    let reply = broker
        .exchange(&Token::svid().claim("aud", json!([STS, "https://other.test"])).sign(), &[("audience", LEDGER)]);
    assert_eq!(broker.reason(&reply), "audience_mismatch");
    let reply = broker.exchange(&Token::svid().without("exp").sign(), &[("audience", LEDGER)]);
    assert_eq!(broker.reason(&reply), "claim_malformed");
}

#[test]
fn b27_only_jwt_svid_keys_of_the_bundle_verify_and_an_empty_bundle_revokes_all() {
    let broker = Setup::new().policies(ANYONE).start();
    let bundle =
        |keys: serde_json::Value, sequence: u64| json!({"keys": keys, "spiffe_sequence": sequence}).to_string();
    let status = || broker.exchange(&Token::svid().sign(), &[("audience", LEDGER)]).status;
    for usage in ["x509-svid", "sig", "wit-svid", "JWT-SVID"] {
        broker.write("td.bundle.json", &bundle(json!([keys().spiffe.public(usage)]), 8));
        assert_eq!(broker.refresh("prod"), Ok(0));
        assert_eq!(status(), 400, "{usage}");
    }
    let mut no_use = keys().spiffe.public("jwt-svid");
    no_use.as_object_mut().unwrap().remove("use");
    let mut no_kid = keys().spiffe.public("jwt-svid");
    no_kid.as_object_mut().unwrap().remove("kid");
    broker.write("td.bundle.json", &bundle(json!([no_use, no_kid]), 9));
    assert_eq!(broker.refresh("prod"), Ok(0));
    broker.write("td.bundle.json", &bundle(json!([keys().spiffe.public("jwt-svid")]), 10));
    assert_eq!((broker.refresh("prod"), status()), (Ok(1), 200));
    broker.write("td.bundle.json", &bundle(json!([]), 9));
    assert!(broker.refresh("prod").is_err(), "the sequence went back");
    assert_eq!(status(), 200);
    broker.write("td.bundle.json", &bundle(json!([]), 11));
    assert_eq!((broker.refresh("prod"), status()), (Ok(0), 400));
}

#[test]
fn two_issuers_never_name_the_same_workload() {
    let setup = Setup::new().policies(ANYONE);
    let broker = setup.start();
    let subject = "spiffe://td.test/ns/pay/sa/web";
    let subjects = [
        subject,
        "repo:acme/app:ref:refs/heads/main",
        "github:repo:acme/app:ref:refs/heads/main",
        ":x",
        "prod:x",
        "cluster:x",
    ];
    let mut names = std::collections::HashMap::new();
    for sub in subjects {
        for (issuer, token) in [("cluster", Token::cluster()), ("github", Token::github().without("repository"))] {
            let name = name(&broker, &token.claim("sub", json!(sub)));
            assert_eq!(names.insert(name.clone(), issuer), None, "{name}");
        }
    }
    assert!(!names.contains_key(&name(&broker, &Token::svid())));
    for clash in ["spiffe", "github", "GitHub", "a:b", ""] {
        let changed = setup.config.replace("name = \"cluster\"", &format!("name = \"{clash}\""));
        assert!(countersign::config::Config::parse(&changed, "x".as_ref(), "".as_ref()).is_err(), "{clash}");
    }
}

#[test]
fn an_operator_can_name_workloads_by_other_claims() {
    let template = "jwks_file = \"github.jwks\"\nworkload = \"{repository_id}:{ref}\"";
    let broker = Setup::new().policies(ANYONE).change("jwks_file = \"github.jwks\"", template).start();
    assert_eq!(name(&broker, &Token::github()), "github:74:refs/heads/main");
    let crossing = Token::github().claim("ref", json!("refs/heads/a:74:b%3A"));
    assert_eq!(name(&broker, &crossing), "github:74:refs/heads/a%3A74%3Ab%253A");
    let reply = broker.exchange(&Token::github().without("ref").sign(), &[("audience", LEDGER)]);
    assert_eq!(broker.reason(&reply), "claim_malformed");
}

#[test]
fn an_oidc_tag_is_the_string_claim_and_nothing_else() {
    let broker = TestBroker::new();
    let status = |value: serde_json::Value| broker.exchange(&Token::cluster().claim("env", value).sign(), &[]).status;
    assert_eq!(status(json!("prod")), 200);
    for other in [
        json!("Prod"),
        json!("prod "),
        json!(["prod"]),
        json!({"prod": true}),
        json!(true),
        json!(1),
        serde_json::Value::Null,
    ] {
        assert_eq!(status(other.clone()), 400, "{other}");
    }
    assert_eq!(broker.exchange(&Token::cluster().without("env").sign(), &[]).status, 400);
}
