//! Sections C and D: whose token it is, for whom, and what the claims of CI systems and of SPIFFE really say.

use super::refused;
use crate::support::*;
use countersign::policy::Policy;
use serde_json::{Value, json};

/// What policy answers for `token` at the ledger under `policies`.
fn under(policies: &str) -> impl Fn(&Token) -> bool + use<> {
    let broker = Setup::new().policies(policies).start();
    move |token| {
        let reply = broker.exchange(&token.sign(), &[("audience", LEDGER)]);
        assert!(matches!(reply.status, 200 | 400), "{}", reply.text);
        reply.status == 200
    }
}

fn when(condition: &str) -> String {
    format!(
        "@id(\"p\") permit (principal in Issuer::\"github\", action == Action::\"exchange\", resource == Target::\"https://ledger.test\") when {{ principal has github && {condition} }};"
    )
}

#[test]
fn c1_c2_c3_c4_c5_an_audience_is_us_alone() {
    let broker = Setup::new().change("workers = 2", "workers = 2\ntenant = \"acme\"").start();
    let wrong = [
        json!("https://sts.test.evil"),
        json!("https://sts.test/"),
        json!("HTTPS://STS.TEST"),
        json!("sts.test"),
        json!("https://sts.test/token"),
        json!("https://sts.test/acme/oauth2/v2.0/token"),
        json!("https://sts.test/acme/v2.0"),
        json!("https://sts.staging.test"),
        json!(["https://sts.test.evil"]),
        json!([STS, "https://other.test"]),
        json!([STS, STS]),
        Value::Null,
        json!(""),
    ];
    for token in [Token::cluster(), Token::github(), Token::svid()] {
        for aud in &wrong {
            let reply = broker.exchange(&token.clone().claim("aud", aud.clone()).sign(), &[]);
            assert_eq!((reply.status, broker.reason(&reply).as_str()), (400, "audience_mismatch"), "{aud}");
        }
        let reply = broker.exchange(&token.without("aud").sign(), &[]);
        assert_eq!((reply.status, broker.reason(&reply).as_str()), (400, "audience_mismatch"));
    }
}

#[test]
fn c7_c8_a_token_is_taken_as_what_it_is_and_never_guessed_at() {
    let broker = TestBroker::new();
    let urn = |name: &str| format!("urn:ietf:params:oauth:token-type:{name}");
    for (kind, reason) in [
        (urn("saml2"), "subject_token_type_unsupported"),
        (urn("saml1"), "subject_token_type_unsupported"),
        (urn("refresh_token"), "subject_token_type_unsupported"),
        (urn("id-jag"), "subject_token_type_unsupported"),
        (urn("jwtt"), "subject_token_type_unsupported"),
        (urn("JWT"), "subject_token_type_unsupported"),
        ("jwt".to_owned(), "subject_token_type_unsupported"),
        (String::new(), "subject_token_type_missing"),
    ] {
        let reply = broker.exchange(&Token::cluster().sign(), &[("subject_token_type", &kind)]);
        assert_eq!(reply.refusal(), (400, "invalid_request", reason), "{kind}");
    }
    for token in [Token::github(), Token::cluster(), Token::svid()] {
        let reply = broker.exchange(&token.sign(), &[("subject_token_type", ACCESS_TOKEN)]);
        assert_eq!(broker.reason(&reply), "own_token_invalid", "an ID token is no access token of ours");
    }
    for kind in [JWT, ID_TOKEN, ACCESS_TOKEN] {
        let reply = broker.exchange("opaque", &[("subject_token_type", kind)]);
        assert_eq!(reply.refusal().2, "subject_token_refused");
    }
    let form = [("grant_type", GRANT), ("subject_token", "x"), ("audience", ORDERS)];
    assert_eq!(broker.post("/token", &form).text("reason"), "subject_token_type_missing");
}

#[test]
fn c9_the_same_subject_of_another_issuer_is_another_workload() {
    let second = "[[issuers]]\nname = \"other\"\nkind = \"oidc\"\nissuer = \"https://other.test\"\naudiences = [\"https://sts.test\"]\njwks_file = \"cluster.jwks\"\nsingle_use = false\n[[targets]]";
    let mut setup = Setup::new().policies(
        "@id(\"one\") permit (principal == Workload::\"cluster:system:serviceaccount:prod:deployer\", action == Action::\"exchange\", resource == Target::\"https://orders.test\");",
    );
    setup.config = setup.config.replacen("[[targets]]", second, 1);
    let broker = setup.start();
    assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).status, 200);
    let other = broker.exchange(&Token::cluster().claim("iss", json!("https://other.test")).sign(), &[]);
    assert_eq!((other.status, broker.reason(&other).as_str()), (400, "target_denied"));
}

#[test]
fn c11_c12_a_subject_is_compared_byte_for_byte_and_nothing_stands_in_for_it() {
    let permitted = under(
        "@id(\"p\") permit (principal == Workload::\"cluster:admin\", action == Action::\"exchange\", resource == Target::\"https://ledger.test\");",
    );
    let of = |sub: &str| Token::cluster().claim("sub", json!(sub));
    assert!(permitted(&of("admin")));
    for other in [
        "Admin",
        "ADMIN",
        "admin ",
        " admin",
        "%61dmin",
        "admin%00",
        "admin\u{0}",
        "ad\u{200b}min",
        "\u{ff41}dmin",
        "a\u{301}dmin",
    ] {
        assert!(!permitted(&of(other)), "{other:?}");
    }
    let broker = TestBroker::new();
    let without = Token::cluster()
        .claim("email", json!("admin@acme.test"))
        .claim("azp", json!("admin"))
        .claim("client_id", json!("admin"));
    refused(&broker, &without.clone().without("sub").sign(), "claim_malformed");
    refused(&broker, &without.clone().claim("sub", json!("")).sign(), "claim_malformed");
    refused(&broker, &without.claim("sub", json!("x".repeat(4_096))).sign(), "claim_malformed");
}

#[test]
fn c13_a_claim_that_can_be_given_to_somebody_else_names_no_workload() {
    for template in ["{email}", "{iss}:{email}", "{preferred_username}", "{upn}", "{name}"] {
        let config = Setup::new()
            .change("attributes = { env = { claim = \"/env\" } }", &format!("workload = \"{template}\""))
            .config;
        let problems = countersign::config::Config::parse(&config, "c.toml".as_ref(), "".as_ref()).unwrap_err();
        assert!(problems.to_string().contains("somebody else"), "{template}: {problems}");
    }
    // An attribute of type string is one, so that the word "true" and the truth are two things.
    let tagged = Setup::new()
        .change("attributes = { env = { claim = \"/env\" } }", "attributes = { verified = { claim = \"/email_verified\" } }")
        .policies("@id(\"p\") permit (principal in Issuer::\"cluster\", action == Action::\"exchange\", resource == Target::\"https://orders.test\") when { principal has cluster && principal.cluster has verified && principal.cluster.verified == \"true\" };")
        .start();
    let status = |token: Token| tagged.exchange(&token.sign(), &[]).status;
    for unverified in [json!(true), json!(false), json!("false"), json!("True"), json!(1)] {
        assert_eq!(status(Token::cluster().claim("email_verified", unverified)), 400);
    }
    assert_eq!((status(Token::cluster()), status(Token::cluster().claim("email_verified", json!("true")))), (400, 200));
}

#[test]
fn c14_c15_e21_a_client_that_presents_anothers_assertion_needs_leave() {
    let broker = TestBroker::new();
    let present = |client: &str, token: Token| {
        let form = [
            ("grant_type", GRANT),
            ("subject_token", &token.sign() as &str),
            ("subject_token_type", JWT),
            ("audience", LEDGER),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        broker.post_as(client, "/token", &form)
    };
    for token in [
        Token::cluster(),
        Token::cluster().claim("azp", json!("orders-api")),
        Token::cluster().claim("client_id", json!("orders-api")),
    ] {
        let stolen = present("ledger-api", token);
        assert_eq!((stolen.status, broker.reason(&stolen).as_str()), (400, "target_denied"));
    }
    assert_eq!(present("orders-api", Token::cluster()).status, 200, "policy gives this one leave");
    let forged = [("client_id", "ledger-api")];
    let token = Token::cluster().sign();
    let mut form = vec![
        ("grant_type", GRANT),
        ("subject_token", token.as_str()),
        ("subject_token_type", JWT),
        ("audience", ORDERS),
    ];
    form.extend(forged);
    let mismatch = broker.post_as("orders-api", "/token", &form);
    assert_eq!(mismatch.refusal(), (400, "invalid_request", "client_id_mismatch"));
}

#[test]
fn c16_an_issuer_that_says_it_is_us_is_not() {
    let broker = TestBroker::new();
    refused(&broker, &Token::cluster().claim("iss", json!(STS)).sign(), "issuer_unknown");
    let own = broker.exchange(
        &Token::cluster().claim("iss", json!(STS)).head("typ", json!("at+jwt")).sign(),
        &[("subject_token_type", ACCESS_TOKEN)],
    );
    assert_eq!(broker.reason(&own), "own_token_invalid");
    let config = Setup::new().change("issuer = \"https://cluster.test\"", "issuer = \"https://sts.test\"").config;
    assert!(countersign::config::Config::parse(&config, "c.toml".as_ref(), "".as_ref()).is_err());
}

#[test]
fn d1_a_repository_of_somebody_else_is_refused_and_whose_ours_are_has_to_be_said() {
    let broker = TestBroker::new();
    let foreign = Token::github()
        .claim("sub", json!("repo:evil/any:ref:refs/heads/main"))
        .claim("repository", json!("evil/any"))
        .claim("repository_owner", json!("evil"))
        .claim("repository_owner_id", json!("666"))
        .claim("repository_id", json!("667"));
    refused(&broker, &foreign.sign(), "workload_not_accepted");
    let config = Setup::new().change("accept = { repository_owner_id = [\"41\"] }\n", "").config;
    let problems = countersign::config::Config::parse(&config, "c.toml".as_ref(), "".as_ref()).unwrap_err();
    assert!(problems.to_string().contains("names no owner"), "{problems}");
}

#[test]
fn d2_d25_a_pattern_of_a_permit_stops_where_a_name_stops() {
    let load = |condition: &str| {
        Policy::from_texts(&records(), [("p.cedar".to_owned(), when(condition).as_str())]).map(|_| ())
    };
    let repository =
        |pattern: &str| format!("principal.github has repository && principal.github.repository like \"{pattern}\"");
    for open in ["acme*", "acme/app*", "*acme", "acme/*x", "acme/a*/b", "*a*", "a**"] {
        let fault = load(&repository(open)).unwrap_err().to_string();
        assert!(fault.contains("permits longer names"), "{open}: {fault}");
    }
    for closed in ["acme/*", "*", "acme/app", "*/app", "acme/*/x"] {
        assert!(load(&repository(closed)).is_ok(), "{closed}");
    }
    let spiffe = |pattern: &str| {
        format!(
            "@id(\"p\") permit (principal in Issuer::\"prod\", action == Action::\"exchange\", resource == Target::\"https://ledger.test\") when {{ principal has spiffe && principal.spiffe.path like \"{pattern}\" }};"
        )
    };
    assert!(Policy::from_texts(&records(), [("p.cedar".to_owned(), spiffe("/ns/pay*").as_str())]).is_err());
    for (test, pattern) in [
        ("principal has spiffe && principal.spiffe.trust_domain", "prod*"),
        ("principal has github && principal.github has repository_id && principal.github.repository_id", "7*"),
        ("principal has cluster && principal.cluster has env && principal.cluster.env", "prod*"),
    ] {
        let text = format!("@id(\"p\") permit (principal, action, resource) when {{ {test} like \"{pattern}\" }};");
        let refused = Policy::from_texts(&records(), [("p.cedar".to_owned(), text.as_str())]);
        assert!(refused.err().unwrap().to_string().contains("permits longer names"), "{text}");
    }
    let permitted = under(&spiffe("/ns/pay/*"));
    let of = |id: &str| Token::svid().claim("sub", json!(id));
    assert!(permitted(&of("spiffe://td.test/ns/pay/sa/web")));
    for other in ["spiffe://td.test/ns/pay-evil/sa/x", "spiffe://td.test/ns/payments", "spiffe://td.test/ns/pay"] {
        assert!(!permitted(&of(other)), "{other}");
    }
    // Whatever way round it is written: what opens is judged; what narrows is not, nor is what nobody outside chooses.
    let whole = |policy: &str| {
        Policy::from_texts(&records(), [("p.cedar".to_owned(), format!("@id(\"q\") {policy}").as_str())])
            .map_err(|fault| fault.to_string())
    };
    let named = "principal has github && principal.github has repository && principal.github.repository";
    for evading in [
        format!("forbid (principal, action, resource) unless {{ {named} like \"acme/app*\" }};"),
        format!("forbid (principal, action, resource) when {{ !({named} like \"acme/app*\") }};"),
        format!("permit (principal, action, resource) when {{ if {named} like \"acme/app*\" then true else false }};"),
        format!("forbid (principal, action, resource) when {{ if {named} like \"acme/app*\" then false else true }};"),
        format!("permit (principal, action, resource) when {{ ({named} like \"acme/app*\") == true }};"),
        format!("permit (principal, action, resource) unless {{ !({named} like \"acme/app*\") }};"),
        "permit (principal, action, resource) when { principal has github && principal.github has head_ref && principal.github.head_ref like \"release*\" };".to_owned(),
    ] {
        assert!(whole(&evading).is_err_and(|fault| fault.contains("permits longer names")), "{evading}");
    }
    for narrowing in [
        format!("permit (principal, action, resource) unless {{ {named} like \"acme/secret*\" }};"),
        format!("forbid (principal, action, resource) when {{ {named} like \"acme/secret*\" }};"),
        format!("permit (principal, action, resource) when {{ !({named} like \"acme/secret*\") }};"),
        format!("forbid (principal, action, resource) when {{ if context has client then {named} like \"acme/secret*\" else false }};"),
        "permit (principal, action, resource) when { principal has github && principal.github has ref && principal.github.ref like \"refs/tags/v*\" };".to_owned(),
        "permit (principal, action, resource) when { context.scope like \"orders:re*\" };".to_owned(),
    ] {
        assert_eq!(whole(&narrowing).err(), None, "{narrowing}");
    }
    // A forbid may be as wide as it likes.
    let forbid = "@id(\"f\") forbid (principal, action, resource) when { principal has github && principal.github has event_name && principal.github.event_name like \"pull_request*\" };";
    assert!(Policy::from_texts(&records(), [("p.cedar".to_owned(), forbid)]).is_ok());
}

#[test]
fn d3_d4_what_strangers_can_start_is_not_accepted_unless_it_is_named() {
    let broker = TestBroker::new();
    let fork = Token::github()
        .claim("sub", json!("repo:acme/app:pull_request"))
        .claim("event_name", json!("pull_request"))
        .claim("ref", json!("refs/pull/7/merge"))
        .claim("head_ref", json!("patch-1"));
    refused(&broker, &fork.sign(), "workload_not_accepted");
    for event in ["pull_request_target", "workflow_run", "issue_comment", "issues", "discussion", "fork", "watch", ""] {
        refused(&broker, &Token::github().claim("event_name", json!(event)).sign(), "workload_not_accepted");
    }
    refused(&broker, &Token::github().without("event_name").sign(), "workload_not_accepted");
    for event in ["push", "workflow_dispatch", "schedule", "release"] {
        assert_eq!(
            broker.exchange(&Token::github().claim("event_name", json!(event)).sign(), &[]).status,
            200,
            "{event}"
        );
    }
    let named = "accept = { repository_owner_id = [\"41\"], event_name = [\"pull_request\"] }";
    let named = Setup::new().change("accept = { repository_owner_id = [\"41\"] }", named).start();
    assert_eq!(named.exchange(&Token::github().claim("event_name", json!("pull_request")).sign(), &[]).status, 200);
    refused(&named, &Token::github().sign(), "workload_not_accepted");
}

#[test]
fn d6_a_workflow_is_compared_whole() {
    let trusted = "acme/app/.github/workflows/rel.yml@refs/heads/main";
    let permitted = under(&when(&format!(
        "principal.github has job_workflow_ref && principal.github.job_workflow_ref == \"{trusted}\""
    )));
    let of = |workflow: &str| Token::github().claim("job_workflow_ref", json!(workflow));
    assert!(permitted(&of(trusted)));
    for other in [
        "acme/app/.github/workflows/rel.yml-evil.yml@refs/heads/main",
        "acme/app/.github/workflows/rel.yml@refs/heads/attacker",
        "acme/app/.github/workflows/rel.yml@refs/heads/x@refs/heads/main",
        "evil/app/.github/workflows/rel.yml@refs/heads/main",
    ] {
        assert!(!permitted(&of(other)), "{other}");
    }
    assert!(!permitted(&Token::github()), "absent is no match");
}

#[test]
fn d7_a_tag_is_no_branch() {
    let permitted = under(&when(
        "principal.github has ref && principal.github.ref == \"refs/heads/main\" && principal.github has ref_type && principal.github.ref_type == \"branch\"",
    ));
    assert!(permitted(&Token::github()));
    for other in ["refs/tags/main", "main", "refs/heads/main/../x", "refs/heads/Main", "refs/heads/main "] {
        assert!(!permitted(&Token::github().claim("ref", json!(other))), "{other}");
    }
    assert!(!permitted(&Token::github().claim("ref_type", json!("tag"))));
    assert!(!permitted(
        &Token::github().claim("sub", json!("repo:acme/app:ref:refs/heads/main")).claim("ref", json!("refs/tags/main"))
    ));
}

#[test]
fn d8_an_environment_is_a_claim_of_its_own_and_never_cut_out_of_sub() {
    let permitted = under(&when("principal.github has environment && principal.github.environment == \"prod\""));
    let of = |environment: &str| {
        Token::github()
            .claim("sub", json!(format!("repo:acme/app:environment:{environment}")))
            .claim("environment", json!(environment))
    };
    assert!(permitted(&of("prod")));
    for other in ["prod:ref:refs/heads/main", "x:environment:prod", "Prod", "prod "] {
        assert!(!permitted(&of(other)), "{other}");
    }
    assert!(!permitted(&Token::github().claim("sub", json!("repo:acme/app:environment:prod"))), "absent is no match");
}

#[test]
fn d9_d10_d11_another_form_or_case_of_sub_is_another_name() {
    let broker = TestBroker::new();
    for sub in [
        "repo:acme/app",
        "ref:refs/heads/main:repo:acme/app",
        "repository_owner:acme",
        "repo:acme-123/app-456:ref:refs/heads/main",
        "repo:acme@41/app@74:ref:refs/heads/main",
        "repo:Acme/App:ref:refs/heads/main",
    ] {
        let reply = broker.exchange(&Token::github().claim("sub", json!(sub)).sign(), &[]);
        let reason = broker.reason(&reply);
        assert!(reply.status == 400 && (reason == "target_denied" || reason == "claim_malformed"), "{sub}: {reason}");
    }
    // A name that somebody took over has other ids.
    for (claim, value) in [("repository_id", "75"), ("repository_owner_id", "42")] {
        assert_eq!(broker.exchange(&Token::github().claim(claim, json!(value)).sign(), &[]).status, 400, "{claim}");
    }
    let by_id = under(&format!(
        "{} @id(\"f\") forbid (principal in Issuer::\"github\", action, resource) when {{ principal has github && principal.github has repository_id && principal.github.repository_id == \"74\" }};",
        when("true")
    ));
    assert!(!by_id(&Token::github().claim("repository", json!("Acme/App"))), "case goes around no id");
}

#[test]
fn d12_what_is_absent_is_no_match() {
    let permitted = under(&when(
        "principal.github has runner_environment && principal.github.runner_environment == \"github-hosted\" && principal.github has repository_visibility && principal.github.repository_visibility == \"private\"",
    ));
    assert!(permitted(&Token::github()));
    for other in [
        Token::github().claim("runner_environment", json!("self-hosted")),
        Token::github().claim("repository_visibility", json!("public")),
        Token::github().without("runner_environment"),
        Token::github().without("repository_visibility"),
    ] {
        assert!(!permitted(&other));
    }
    let unguarded = when("principal.github.runner_environment == \"github-hosted\"");
    assert!(
        Policy::from_texts(&records(), [("p.cedar".to_owned(), unguarded.as_str())]).is_err(),
        "it has to be asked for with `has`"
    );
}

#[test]
fn d13_an_enterprises_issuer_is_another_one() {
    let broker = TestBroker::new();
    for iss in [
        "https://token.actions.githubusercontent.com/evil-enterprise",
        "https://ghe.test/_services/token",
        "https://token.actions.githubusercontent.com/",
    ] {
        refused(&broker, &Token::github().claim("iss", json!(iss)).sign(), "issuer_unknown");
    }
}

#[test]
fn d21_d22_d23_a_spiffe_id_is_read_as_the_grammar_has_it() {
    let broker = TestBroker::new();
    let path = |length: usize| format!("spiffe://td.test/{}", "a".repeat(length - "spiffe://td.test/".len()));
    for sub in [
        "spiffe://td.test/%61dmin".to_owned(),
        "spiffe://td.test/a//b".to_owned(),
        "spiffe://td.test/./a".to_owned(),
        "spiffe://td.test/../a".to_owned(),
        "spiffe://td.test/a/".to_owned(),
        "spiffe://td.test/a?x".to_owned(),
        "spiffe://td.test/a#x".to_owned(),
        "spiffe://td.test:443/a".to_owned(),
        "spiffe://u@td.test/a".to_owned(),
        "spiffe://td.test/\u{e9}".to_owned(),
        "spiffe://td.test/a*".to_owned(),
        path(2_049),
        format!("spiffe://{}/a", "t".repeat(256)),
        "SPIFFE://td.test/a".to_owned(),
        "SPIFFE://TD.TEST/Admin".to_owned(),
        "spiffe://Td.test/a".to_owned(),
        "spiffe://td.test".to_owned(),
        "spiffe://td.test/".to_owned(),
        "spiffe:///a".to_owned(),
    ] {
        let reply = broker.exchange(&Token::svid().claim("sub", json!(sub)).sign(), &[("audience", LEDGER)]);
        assert_eq!((reply.status, reply.text("reason")), (400, "subject_token_refused"), "{sub}");
    }
    let permitted = under(
        "@id(\"p\") permit (principal == Workload::\"spiffe://td.test/admin\", action == Action::\"exchange\", resource == Target::\"https://ledger.test\");",
    );
    let of = |id: &str| Token::svid().claim("sub", json!(id));
    assert!(permitted(&of("spiffe://td.test/admin")) && !permitted(&of("spiffe://td.test/Admin")));
    let longest = broker.exchange(&of(&path(2_048)).sign(), &[("audience", LEDGER)]);
    assert_eq!(broker.reason(&longest), "target_denied", "2048 bytes are well formed");
}

#[test]
fn d26_a_jwt_svid_has_its_own_header_and_nothing_else() {
    let broker = TestBroker::new();
    let refused = |token: &str, reason: &str| {
        let reply = broker.exchange(token, &[("audience", LEDGER)]);
        assert_eq!((reply.status, broker.reason(&reply).as_str()), (400, reason));
    };
    for alg in ["EdDSA", "Ed25519"] {
        refused(&Token::svid().head("alg", json!(alg)).sign(), "algorithm_not_allowed");
    }
    refused(&Token::svid().head("alg", json!("HS256")).sign(), "token_malformed");
    for member in ["cty", "x", "nonce"] {
        refused(&Token::svid().head(member, json!("JWT")).sign(), "header_not_allowed");
    }
    refused(&Token::svid().head("jku", json!("https://evil.test")).sign(), "token_malformed");
    refused(&Token::svid().head("typ", json!("at+jwt")).sign(), "typ_mismatch");
    refused(&Token::svid().claim("aud", json!([STS, "https://other.test"])).sign(), "audience_mismatch");
    let good = Token::svid().sign();
    let parts: Vec<&str> = good.split('.').collect();
    refused(&json!({"payload": parts[1], "protected": parts[0], "signature": parts[2]}).to_string(), "token_malformed");
}

#[test]
fn d28_d29_claims_match_by_type_and_a_missing_one_never_does() {
    let accept = |accept: &str| {
        let entry = format!("accept = {accept}\nattributes = {{ env = {{ claim = \"/env\" }} }}");
        let broker = Setup::new().change("attributes = { env = { claim = \"/env\" } }", &entry).start();
        move |token: Token| broker.exchange(&token.sign(), &[]).status == 200
    };
    let by_id = accept("{ project_id = [\"74\"] }");
    assert!(by_id(Token::cluster().claim("project_id", json!("74"))));
    for other in [
        json!(74),
        json!(74.0),
        json!("074"),
        json!("74.0"),
        json!(["74"]),
        json!([74, "74"]),
        json!(true),
        Value::Null,
    ] {
        assert!(!by_id(Token::cluster().claim("project_id", other.clone())), "{other}");
    }
    assert!(!by_id(Token::cluster()));
    let named = accept("{ \"https://x/roles\" = [\"admin\"], \"a.b\" = [\"c\"] }");
    let flat = Token::cluster().claim("https://x/roles", json!("admin")).claim("a.b", json!("c"));
    assert!(named(flat.clone()), "a name with dots is one name");
    assert!(!named(flat.without("a.b").claim("a", json!({"b": "c"}))), "and no path");
    let any = "@id(\"p\") permit (principal in Issuer::\"cluster\", action == Action::\"exchange\", resource == Target::\"https://orders.test\") when { principal.cluster.env like \"*\" };";
    assert!(
        Policy::from_texts(&records(), [("p.cedar".to_owned(), any)]).is_err(),
        "an attribute has to be asked for with `has`"
    );
}
