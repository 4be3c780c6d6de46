//! The contract of the kinds of issuer: every kind is held to the same list of bad tokens, made from its own example.

use crate::support::*;
use countersign::assertion::{IssuerKind, SignerKind};
use countersign::domain::{AttributeDeclaration, AttributeType, MAX_ATTRIBUTE, MAX_SET, TokenType};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

const ANYONE: &str = r#"
@id("anyone-at-ledger")
permit (principal, action == Action::"exchange", resource == Target::"https://ledger.test");
"#;

/// A kind with its `example.toml`.
struct Example {
    kind: &'static IssuerKind,
    /// The name of the entry, as the page shows it.
    name: String,
    entry: toml::Table,
    claims: Map<String, Value>,
}

impl Example {
    fn read(kind: &'static IssuerKind) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/assertion/kinds").join(kind.name);
        let text = fs::read_to_string(folder.join("example.toml")).unwrap();
        let example: toml::Table = toml::from_str(&text).unwrap();
        let claims = serde_json::to_value(&example["claims"]).unwrap();
        let mut entry = example["entry"].as_table().unwrap().clone();
        let name = entry.remove("name").unwrap().as_str().unwrap().to_owned();
        Self { kind, name, entry, claims: claims.as_object().unwrap().clone() }
    }

    fn is_trust_domain(&self) -> bool {
        self.kind.signer == SignerKind::TrustDomain
    }

    /// A broker whose only issuer is the example's.
    fn broker(&self) -> TestBroker {
        let mut setup = Setup::new().policies(ANYONE);
        let (before, rest) = setup.config.split_once("[[issuers]]").unwrap();
        let (_, after) = rest.split_once("[[targets]]").unwrap();
        let keys =
            if self.is_trust_domain() { "bundle_file = \"td.bundle.json\"" } else { "jwks_file = \"github.jwks\"" };
        let common = format!("name = \"contract\"\nkind = \"{}\"\naudiences = [\"{STS}\"]\n{keys}", self.kind.name);
        let entry = format!("[[issuers]]\n{common}\n{}", toml::to_string(&self.entry).unwrap());
        setup.config = format!(
            "{before}{}\n[[targets]]{after}",
            entry.replace("[attributes", "[issuers.attributes").replace("[accept", "[issuers.accept")
        );
        let root = setup.write();
        let bundle = json!({"keys": [keys_of_issuer().public("jwt-svid")], "spiffe_sequence": 1});
        fs::write(root.path().join("td.bundle.json"), bundle.to_string()).unwrap();
        TestBroker::start(root, TestClock::new())
    }

    /// A token that the entry accepts. A kind that is single use gives each another `jti`.
    fn token(&self) -> Token {
        let mut token = Token::github().key(keys_of_issuer()).headless("x5t");
        let jti = token.claims["jti"].clone();
        token.claims.clone_from(&self.claims);
        let token = token.claim("aud", json!(STS)).claim("iat", json!(NOW)).claim("exp", json!(NOW + 300));
        if self.claims.contains_key("jti") { token.claim("jti", jti) } else { token.claim("nonce", jti) }
    }

    /// Returns true if the example's entry accepts only some values of the claim.
    fn accepts_some(&self, attribute: &str) -> bool {
        self.kind.accept.default.contains_key(attribute)
            || self
                .entry
                .get("accept")
                .and_then(toml::Value::as_table)
                .is_some_and(|accept| accept.contains_key(attribute))
    }

    /// The bad tokens, each with the reason for which it is refused.
    fn bad(&self) -> Vec<(String, String, &'static str)> {
        let mut bad: Vec<(String, String, &'static str)> = Vec::new();
        let mut add = |name: &str, token: String, reason| bad.push((name.to_owned(), token, reason));
        let good = || self.token();
        let signed = good().sign();
        let parts: Vec<&str> = signed.split('.').collect();
        add("no token at all", "x".to_owned(), "token_malformed");
        add("no signature", format!("{}.{}.", parts[0], parts[1]), "token_malformed");
        add("another's signature", good().key(&keys().rsa_evil).sign(), "signature_invalid");
        let other = good().claim("exp", json!(NOW + 299)).sign();
        let swapped = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
        add("another payload under the signature", swapped, "signature_invalid");
        add("alg none", good().head("alg", json!("none")).sign(), "token_malformed");
        add("an algorithm of shared keys", good().head("alg", json!("HS256")).sign(), "token_malformed");
        let eddsa = good().head("alg", json!("EdDSA")).key(&keys().ed).sign();
        add("another algorithm", eddsa, "algorithm_not_allowed");
        add("an unknown key", good().head("kid", json!("other")).sign(), "key_unknown");
        add("an access token's typ", good().head("typ", json!("at+jwt")).sign(), "typ_mismatch");
        add("a critical member", good().head("crit", json!(["exp"])).sign(), "token_malformed");
        add("another audience", good().claim("aud", json!("https://other.test")).sign(), "audience_mismatch");
        add("two audiences", good().claim("aud", json!([STS, "https://other.test"])).sign(), "audience_mismatch");
        add("no audience", good().without("aud").sign(), "audience_mismatch");
        add("expired", good().claim("exp", json!(NOW)).claim("iat", json!(NOW - 60)).sign(), "token_expired");
        add("no end", good().without("exp").sign(), "claim_malformed");
        add("an end that is text", good().claim("exp", json!((NOW + 300).to_string())).sign(), "claim_malformed");
        add("an end with a fraction", good().claim("exp", json!(4e9 + 0.5)).sign(), "claim_malformed");
        add("not yet valid", good().claim("nbf", json!(NOW + 60)).sign(), "token_not_yet_valid");
        add("issued in the future", good().claim("iat", json!(NOW + 60)).sign(), "token_not_yet_valid");
        let longest = self.kind.max_lifetime.seconds();
        add("too long a life", good().claim("exp", json!(NOW + longest + 1)).sign(), "lifetime_too_long");
        add("a jti that is no text", good().claim("jti", json!(1)).sign(), "claim_malformed");
        let no_subject = if self.is_trust_domain() { "issuer_unknown" } else { "claim_malformed" };
        for (name, sub) in [("a number", json!(1)), ("empty", json!("")), ("too long", json!("x".repeat(4_096)))] {
            add(&format!("a subject that is {name}"), good().claim("sub", sub).sign(), no_subject);
        }
        add("no subject", good().without("sub").sign(), no_subject);
        let (unknown, value) = match self.kind.signer {
            SignerKind::Issuer => ("iss", "https://other.test"),
            SignerKind::TrustDomain => ("sub", "spiffe://other.test/ns/pay/sa/web"),
        };
        add("an unknown issuer", good().claim(unknown, json!(value)).sign(), "issuer_unknown");
        bad
    }

    /// For each declared attribute: claims that refuse the assertion, never claims that vanish.
    fn bad_attributes(&self, attributes: &[AttributeDeclaration]) -> Vec<(String, String, &'static str)> {
        let mut bad = Vec::new();
        for declared in attributes {
            let Some(pointer) = &declared.claim else { continue };
            let accepted = self.accepts_some(&declared.name) || self.accepts_some(&pointer.to_string());
            let reason = if accepted { "workload_not_accepted" } else { "claim_malformed" };
            for wrong in wrong_values(declared.value) {
                if wrong.is_null() && declared.nullable {
                    continue;
                }
                let shown: String = wrong.to_string().chars().take(20).collect();
                let token = with(self.token(), &pointer.to_string(), Some(wrong));
                bad.push((format!("{} = {shown}", declared.name), token.sign(), reason));
            }
            if declared.required {
                let token = with(self.token(), &pointer.to_string(), None);
                bad.push((format!("no {}", declared.name), token.sign(), reason));
            }
        }
        bad
    }

    /// The attributes that policy sees: the kind's, or those that the example declares.
    fn attributes(&self) -> Vec<AttributeDeclaration> {
        let kind = self.kind.attributes.as_ref().map(|record| record.attributes.clone());
        kind.unwrap_or_else(|| {
            let text = format!("{AROUND_AN_ENTRY}{}", shown_entry(self));
            let config = countersign::config::Config::parse(&text, "c.toml".as_ref(), "".as_ref()).unwrap();
            config.issuers[0].attributes.as_ref().unwrap().attributes.clone()
        })
    }

    /// The problems of the entry with `more` in it.
    fn problems(&self, more: &str) -> String {
        let entry = shown_entry(self).replacen("[[issuers]]\n", &format!("[[issuers]]\n{more}\n"), 1);
        let text = format!("{AROUND_AN_ENTRY}{entry}");
        match countersign::config::Config::parse(&text, "c.toml".as_ref(), "".as_ref()) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        }
    }
}

/// `token` with another value of a claim, or without it.
fn with(mut token: Token, pointer: &str, value: Option<Value>) -> Token {
    let mut names: Vec<String> =
        pointer.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~")).collect();
    let last = names.pop().unwrap();
    let mut members = &mut token.claims;
    for name in names {
        members = members.entry(name).or_insert_with(|| json!({})).as_object_mut().unwrap();
    }
    match value {
        Some(value) => members.insert(last, value),
        None => members.remove(&last),
    };
    token
}

/// The issuer signs with RSA, which every kind allows.
fn keys_of_issuer() -> &'static Key {
    &keys().github
}

fn wrong_values(declared: AttributeType) -> Vec<Value> {
    let long = json!("x".repeat(MAX_ATTRIBUTE + 1));
    match declared {
        AttributeType::String => vec![json!(74), json!(true), json!(["x"]), json!({"x": "x"}), Value::Null, long],
        AttributeType::Integer => vec![json!("74"), json!(7.5), json!(true), json!(u64::MAX), Value::Null],
        AttributeType::Boolean => vec![json!("true"), json!(1), Value::Null],
        AttributeType::BooleanString => vec![json!(true), json!("True"), json!(""), json!(1), Value::Null],
        AttributeType::Set => {
            let many: Vec<String> = (0..=MAX_SET).map(|count| count.to_string()).collect();
            vec![json!("x"), json!(["x", 1]), json!([long]), json!(many), Value::Null]
        }
    }
}

#[test]
fn every_kind_refuses_the_same_bad_tokens_and_takes_its_example() {
    for kind in IssuerKind::all() {
        let example = Example::read(kind);
        let broker = example.broker();
        let exchange = |token: &str| broker.exchange(token, &[("audience", LEDGER)]);
        let reply = exchange(&example.token().sign());
        assert_eq!(reply.status, 200, "{}: {} {}", kind.name, reply.text, broker.reason(&reply));
        let bad = example.bad();
        assert!(bad.len() >= 25, "{}", bad.len());
        for (name, token, reason) in bad.into_iter().chain(example.bad_attributes(&example.attributes())) {
            let reply = exchange(&token);
            assert_eq!((reply.status, broker.reason(&reply).as_str()), (400, reason), "{}: {name}", kind.name);
        }
        let reply = exchange(&example.token().sign());
        assert_eq!(reply.status, 200, "{}: refusals cost the issuer nothing: {}", kind.name, reply.text);
    }
}

#[test]
fn every_kind_keeps_its_word_about_single_use_and_key_ids() {
    for kind in IssuerKind::all() {
        let example = Example::read(kind);
        let broker = example.broker();
        let token = example.token().sign();
        let exchange = |token: &str| broker.exchange(token, &[("audience", LEDGER)]);
        assert_eq!(exchange(&token).status, 200, "{}", kind.name);
        let again = exchange(&token);
        let single_use = example.entry.get("single_use").map_or(Some(kind.single_use), toml::Value::as_bool).unwrap();
        let expected = if single_use { (400, "subject_token_replayed") } else { (200, "") };
        assert_eq!((again.status, broker.reason(&again).as_str()), expected, "{}", kind.name);
        let without_kid = exchange(&example.token().headless("kid").sign());
        let expected = if kind.key_id_required { (400, "key_unknown") } else { (200, "") };
        assert_eq!((without_kid.status, broker.reason(&without_kid).as_str()), expected, "{}", kind.name);
        for typ in &kind.typ {
            let reply = exchange(&example.token().head("typ", json!(typ)).sign());
            assert_eq!(reply.status, 200, "{}: typ {typ}", kind.name);
        }
    }
}

#[test]
fn every_kind_shows_policy_the_attributes_that_it_declares() {
    for kind in IssuerKind::all() {
        let example = Example::read(kind);
        let broker = example.broker();
        let reply = broker.exchange(&example.token().sign(), &[("audience", LEDGER)]);
        let principal = broker.event(&reply).question.unwrap().principal;
        let record = kind.attributes.as_ref().map_or("contract", |record| &record.name);
        let seen = &principal.attributes[record];
        let present = |declared: &AttributeDeclaration| {
            declared.claim.as_ref().is_none_or(|pointer| pointer.find(&example.claims).unwrap().is_some())
        };
        let expected = example.attributes().into_iter().filter(present).count();
        assert_eq!(seen.len(), expected, "{}: {seen:?}", kind.name);
        let name = kind.workload.render(&example.claims).unwrap();
        let prefix = if example.is_trust_domain() { "" } else { "contract:" };
        assert_eq!(principal.name, format!("{prefix}{name}"), "{}", kind.name);
    }
}

#[test]
fn every_kind_accepts_only_what_its_entry_and_its_defaults_name() {
    for kind in IssuerKind::all() {
        let example = Example::read(kind);
        let broker = example.broker();
        let accept = example.entry.get("accept").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let top_level = accept.keys().filter(|name| !name.starts_with('/'));
        for name in top_level.chain(kind.accept.default.keys()) {
            for other in [json!("another"), Value::Null] {
                let reply = broker.exchange(&example.token().claim(name, other).sign(), &[("audience", LEDGER)]);
                assert_eq!((reply.status, broker.reason(&reply).as_str()), (400, "workload_not_accepted"), "{name}");
            }
            let reply = broker.exchange(&example.token().without(name).sign(), &[("audience", LEDGER)]);
            assert_eq!(broker.reason(&reply), "workload_not_accepted", "{}: no {name}", kind.name);
        }
        if !kind.accept.one_of.is_empty() {
            let entry =
                "[[issuers]]\nname = \"x\"\naudiences = [\"y\"]\nissuer = \"https://x.test\"\njwks_file = \"k\"";
            let text = format!("{entry}\nkind = \"{}\"\n", kind.name);
            let problems = countersign::config::Config::parse(&text, "c.toml".as_ref(), "".as_ref()).unwrap_err();
            assert!(problems.to_string().contains("names no owner"), "{}: {problems}", kind.name);
        }
    }
}

/// An attribute that an entry declares, and the claim it reads.
fn declared(attribute: &str, policy: &str) -> TestBroker {
    let policies = format!("{ANYONE}\n@id(\"no\") forbid (principal, action, resource) when {{ {policy} }};");
    let from = "attributes = { env = { claim = \"/env\" } }";
    Setup::new().change(from, &format!("attributes = {{ {attribute} }}")).policies(&policies).start()
}

#[test]
fn d28_a_forbid_on_a_declared_attribute_cannot_be_slipped_past() {
    let broker = declared(
        "ssh_rerun = { claim = \"/oidc.circleci.com~1ssh-rerun\", type = \"boolean\" }",
        "principal has cluster && principal.cluster has ssh_rerun && principal.cluster.ssh_rerun",
    );
    let outcome = |value: Value| {
        let token = Token::cluster().claim("oidc.circleci.com/ssh-rerun", value);
        let reply = broker.exchange(&token.sign(), &[("audience", LEDGER)]);
        (reply.status, broker.reason(&reply))
    };
    assert_eq!(outcome(json!(false)), (200, String::new()));
    assert_eq!(outcome(json!(true)), (400, "target_denied".to_owned()));
    for other in [json!("true"), json!("false"), json!(1), json!([true]), Value::Null] {
        assert_eq!(outcome(other.clone()), (400, "claim_malformed".to_owned()), "{other}");
    }
}

#[test]
fn nested_claims_numbers_and_sets_are_attributes_and_what_stands_in_their_way_refuses() {
    let broker = declared(
        "namespace = { claim = \"/kubernetes.io/namespace\" }, level = { claim = \"/level\", type = \"integer\" }, groups = { claim = \"/groups\", type = \"set\" }",
        "!(principal has cluster && principal.cluster has namespace && principal.cluster.namespace == \"prod\" && principal.cluster has level && principal.cluster.level > 3 && principal.cluster has groups && principal.cluster.groups.contains(\"deployers\"))",
    );
    let outcome = |kubernetes: Value, level: Value, groups: Value| {
        let token = Token::cluster().claim("kubernetes.io", kubernetes).claim("level", level).claim("groups", groups);
        let reply = broker.exchange(&token.sign(), &[("audience", LEDGER)]);
        if reply.status == 200 { "granted".to_owned() } else { broker.reason(&reply) }
    };
    let prod = || json!({"namespace": "prod", "pod": {"name": "x"}});
    assert_eq!(outcome(prod(), json!(4), json!(["deployers", "x"])), "granted");
    assert_eq!(outcome(prod(), json!(3), json!(["deployers"])), "target_denied");
    assert_eq!(outcome(prod(), json!(4), json!(["x"])), "target_denied");
    assert_eq!(outcome(json!({"namespace": "test"}), json!(4), json!(["deployers"])), "target_denied");
    assert_eq!(outcome(json!({}), json!(4), json!(["deployers"])), "target_denied");
    for in_the_way in [json!("prod"), json!(["prod"]), json!(1), Value::Null] {
        assert_eq!(outcome(in_the_way.clone(), json!(4), json!(["deployers"])), "claim_malformed", "{in_the_way}");
    }
}

#[test]
fn gitlab_workloads_are_named_by_the_project_and_never_by_a_merge_request() {
    let kind = IssuerKind::all().iter().find(|kind| kind.name == "gitlab").unwrap();
    let example = Example::read(kind);
    let broker = example.broker();
    let outcome = |token: Token| {
        let reply = broker.exchange(&token.sign(), &[("audience", LEDGER)]);
        match broker.event(&reply).granted {
            Some(granted) => granted.sub,
            None => broker.reason(&reply),
        }
    };
    assert_eq!(outcome(example.token()), "contract:20:refs/heads/main");
    let renamed = example.token().claim("sub", json!("project_path:acme/renamed:ref_type:branch:ref:main"));
    assert_eq!(outcome(renamed), "contract:20:refs/heads/main");
    for source in
        ["merge_request_event", "external_pull_request_event", "parent_pipeline", "security_orchestration_policy", ""]
    {
        assert_eq!(
            outcome(example.token().claim("pipeline_source", json!(source))),
            "workload_not_accepted",
            "{source}"
        );
    }
    assert_eq!(outcome(example.token().claim("namespace_id", json!("73"))), "workload_not_accepted");
}

#[test]
fn every_kind_checks_its_entry_by_its_description() {
    for kind in IssuerKind::all() {
        let example = Example::read(kind);
        assert_eq!(example.problems(""), "", "{}", kind.name);
        let refused = |more: &str, expected: &str| {
            let problems = example.problems(more);
            assert!(problems.contains(expected), "{}: {more}: {expected} is not in {problems}", kind.name);
        };
        let over = kind.longest_lifetime.seconds() + 1;
        let too_long =
            if over > countersign::domain::Lifetime::MAX_SECONDS { "is not between" } else { "live for at most" };
        refused(&format!("max_lifetime = \"{over}s\""), too_long);
        refused("algorithms = [\"HS256\"]", "`HS256` is not supported for kind");
        if kind.allowed_algorithms.len() < 10 {
            refused("algorithms = [\"EdDSA\"]", "`EdDSA` is not supported for kind");
        }
        let other = if example.is_trust_domain() { "jwks_file = \"k\"" } else { "trust_domain = \"td.test\"" };
        refused(other, "is not for kind");
        if kind.attributes.is_some() {
            refused("attributes = { a = { claim = \"/a\" } }", "for kind");
        }
        for host in &kind.hosts {
            let oidc = format!(
                "{AROUND_AN_ENTRY}[[issuers]]\nname = \"x\"\nkind = \"oidc\"\naudiences = [\"y\"]\nissuer = \"https://{host}\"\naccept = {{ sub = [\"z\"] }}"
            );
            let problems = countersign::config::Config::parse(&oidc, "c.toml".as_ref(), "".as_ref()).unwrap_err();
            assert!(problems.to_string().contains(&format!("is of kind `{}`", kind.name)), "{problems}");
        }
        for host in &kind.accept.public_hosts {
            let all = format!(
                "{AROUND_AN_ENTRY}[[issuers]]\nname = \"x\"\nkind = \"{}\"\naudiences = [\"y\"]\nissuer = \"https://{host}\"",
                kind.name
            );
            let problems = countersign::config::Config::parse(&all, "c.toml".as_ref(), "".as_ref()).unwrap_err();
            assert!(problems.to_string().contains("anyone can get a token"), "{problems}");
        }
    }
}

#[test]
fn every_kind_takes_the_declared_types_and_the_subjects_that_it_describes() {
    for kind in IssuerKind::all() {
        let example = Example::read(kind);
        let broker = example.broker();
        for (declared, urn) in [(TokenType::Jwt, JWT), (TokenType::IdToken, ID_TOKEN)] {
            let form = [
                ("grant_type", GRANT),
                ("subject_token", &example.token().sign()),
                ("subject_token_type", urn),
                ("audience", LEDGER),
            ];
            let reply = broker.post("/token", &form);
            let takes = kind.token_types.contains(&declared);
            assert_eq!(reply.status == 200, takes, "{}: {declared:?} {}", kind.name, reply.text);
        }
        let subject = |length: usize| {
            let begins = if example.is_trust_domain() { "spiffe://prod.acme.example/" } else { "" };
            json!(format!("{begins}{}", "x".repeat(length - begins.len())))
        };
        let reason = |length: usize| {
            let token = example.token().claim("sub", subject(length)).without("repository").sign();
            broker.reason(&broker.exchange(&token, &[("audience", LEDGER)]))
        };
        assert_eq!(reason(kind.subject_bytes), "", "{}", kind.name);
        assert_ne!(reason(kind.subject_bytes + 1), "", "{}", kind.name);
    }
}

/// The entry of the example, as the docs page shows it.
fn shown_entry(example: &Example) -> String {
    let keys = if example.is_trust_domain() { "bundle_file = \"prod.bundle.json\"\n" } else { "" };
    let name = &example.name;
    let mut entry = format!("[[issuers]]\nname = \"{name}\"\nkind = \"{}\"\n", example.kind.name);
    entry.push_str("audiences = [\"https://sts.acme.example\"]\n");
    entry.push_str(keys);
    for (key, value) in example.entry.iter().filter(|(key, _)| *key != "attributes") {
        entry.push_str(&format!("{key} = {}\n", inline(value)));
    }
    if let Some(attributes) = example.entry.get("attributes").and_then(toml::Value::as_table) {
        entry.push_str("\n[issuers.attributes]\n");
        for (name, declared) in attributes {
            entry.push_str(&format!("{name} = {}\n", inline(declared)));
        }
    }
    entry
}

fn inline(value: &toml::Value) -> String {
    let toml::Value::Table(members) = value else { return value.to_string() };
    let bare = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let member = |(key, value): (&String, &toml::Value)| {
        let key = if bare(key) { key.clone() } else { format!("{key:?}") };
        format!("{key} = {}", inline(value))
    };
    format!("{{ {} }}", members.iter().map(member).collect::<Vec<_>>().join(", "))
}

/// The defaults of the kind, as the docs page shows them.
fn shown_defaults(kind: &IssuerKind) -> String {
    let names = |algorithms: &[countersign_verify::key::Algorithm]| {
        algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(", ")
    };
    let accepted = kind.accept.default.iter().map(|(name, values)| {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        format!("`{name}`: {}", values.join(", "))
    });
    let accepted: Vec<String> = accepted.collect();
    let rows = [
        ("tokens", kind.about.clone()),
        ("`algorithms`", names(&kind.algorithms)),
        ("`max_lifetime`", format!("{}, at most {}", kind.max_lifetime, kind.longest_lifetime)),
        ("`single_use`", format!("`{}`: {}", kind.single_use, kind.single_use_reason)),
        ("`workload`", format!("`{}`", kind.workload)),
        ("accepted unless `accept` names others", accepted.join("; ")),
        ("`accept` must name one of", kind.accept.one_of.join(", ")),
    ];
    let filled = rows.iter().filter(|(_, value)| !value.is_empty());
    let rows: String = filled.map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!("| setting | default |\n|---|---|\n{rows}")
}

/// The table of attributes, as the docs page shows it.
fn shown_attributes(kind: &IssuerKind) -> String {
    let mut table = String::from("| attribute | type | meaning | marks |\n|---|---|---|---|\n");
    for declared in kind.attributes.iter().flat_map(|record| &record.attributes) {
        let marks = [
            (declared.required, "required"),
            (declared.stable, "stable"),
            (declared.outsider, "an outsider can choose it"),
        ];
        let marks: Vec<&str> = marks.into_iter().filter(|(marked, _)| *marked).map(|(_, mark)| mark).collect();
        let (name, value) = (&declared.name, declared.value.name());
        table.push_str(&format!("| `{name}` | {value} | {} | {} |\n", declared.about, marks.join(", ")));
    }
    table
}

fn filled(page: &str, part: &str, content: &str) -> String {
    let (open, close) = (format!("<!-- {part} -->"), format!("<!-- /{part} -->"));
    let Some((before, rest)) = page.split_once(&open) else { return page.to_owned() };
    let (_, after) = rest.split_once(&close).unwrap();
    format!("{before}{open}\n{content}{close}{after}")
}

#[test]
fn every_kind_has_a_page_with_its_entry_and_its_attributes() {
    for kind in IssuerKind::all() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/issuers").join(kind.name).with_extension("md");
        let page = fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        let entry = format!("```toml\n{}```\n", shown_entry(&Example::read(kind)));
        let with_entry = filled(&filled(&page, "entry", &entry), "defaults", &shown_defaults(kind));
        let made = filled(&with_entry, "attributes", &shown_attributes(kind));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &made).unwrap();
            continue;
        }
        assert!(page == made, "{} is not current: UPDATE_DOCS=1 cargo test issuer_contract", path.display());
        assert!(page.contains("[[issuers]]") && page.contains("| `single_use` |"), "{}", path.display());
        assert_eq!(page.contains("<!-- attributes -->"), kind.attributes.is_some(), "{}", path.display());
    }
}
