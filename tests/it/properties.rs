//! What holds for every input: a grant is never wider than what bounds it, a tampered token never verifies, and nothing
//! that arrives is an error of the server.

use crate::support::*;
use countersign::form::{Form, FormBounds};
use countersign_verify::jws::Compact;
use countersign_verify::key::{Algorithm, KeySet, KeyUse};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::OnceLock;

fn broker() -> &'static TestBroker {
    static BROKER: OnceLock<TestBroker> = OnceLock::new();
    BROKER.get_or_init(TestBroker::new)
}

fn cluster_keys() -> &'static KeySet {
    static KEYS: OnceLock<KeySet> = OnceLock::new();
    KEYS.get_or_init(|| {
        KeySet::from_jwks(keys().cluster.jwks().to_string().as_bytes(), KeyUse::Signature, &[Algorithm::Es256])
            .unwrap()
            .0
    })
}

fn set(text: &str) -> BTreeSet<&str> {
    text.split(' ').filter(|scope| !scope.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_grant_is_never_wider_than_what_bounds_it(
        asked in proptest::sample::subsequence(vec!["orders:read", "orders:write", "orders:admin"], 0..=3),
        env in proptest::sample::select(vec!["prod", "dev"]),
        life in 1_i64..3_600,
        left in 1_i64..3_600,
        second in proptest::sample::subsequence(vec!["orders:read", "orders:write"], 0..=2),
        audience in proptest::sample::select(vec![ORDERS, LEDGER]),
    ) {
        let broker = broker();
        let token = Token::cluster().claim("env", json!(env)).claim("exp", json!(NOW + left)).sign();
        let scope = asked.join(" ");
        let reply = broker.exchange(&token, &[("scope", &scope), ("lifetime", &life.to_string())]);
        if reply.status == 200 {
            prop_assert_eq!(env, "prod");
            let granted = broker.event(&reply).granted.unwrap();
            prop_assert_eq!(granted.aud.as_str(), ORDERS);
            prop_assert!(set(&granted.scope).is_subset(&BTreeSet::from(["orders:read", "orders:write"])));
            prop_assert!(asked.is_empty() || set(&granted.scope) == asked.iter().copied().collect());
            let expires_in = reply.json["expires_in"].as_i64().unwrap();
            prop_assert!(expires_in >= 1 && expires_in <= life.min(left).min(60).min(600));
            prop_assert_eq!(granted.exp, NOW + expires_in);

            let again = second.join(" ");
            let form = [("grant_type", GRANT), ("subject_token", reply.text("access_token")), ("subject_token_type", ACCESS_TOKEN), ("audience", audience), ("scope", &again)];
            let child = broker.post_as("orders-api", "/token", &form);
            if child.status == 200 {
                let below = broker.event(&child).granted.unwrap();
                prop_assert!(below.exp <= granted.exp);
                prop_assert!(below.aud != granted.aud || set(&below.scope).is_subset(&set(&granted.scope)));
                prop_assert_eq!(below.lineage, vec![granted.jti]);
            }
        } else {
            prop_assert_eq!(reply.status, 400);
        }
    }

    #[test]
    fn a_tampered_token_never_verifies(at in any::<prop::sample::Index>(), to in proptest::char::range('!', '~')) {
        let token = Token::cluster().sign();
        let at = at.index(token.len());
        let mut tampered: Vec<char> = token.chars().collect();
        prop_assume!(tampered[at] != to);
        tampered[at] = to;
        let tampered: String = tampered.into_iter().collect();
        if let Ok(compact) = Compact::parse(&tampered) {
            let key = cluster_keys().find(Some("c1"), Algorithm::Es256).unwrap();
            prop_assert!(compact.verify(key).is_err());
        }
        prop_assert_ne!(broker().exchange(&tampered, &[]).status, 200);
    }

    #[test]
    fn our_parser_and_josekit_agree_on_what_verifies(claims in proptest::collection::btree_map("[a-z]{1,8}", "[ -~]{0,40}", 0..6)) {
        let mut token = Token::cluster();
        for (name, value) in claims {
            token = token.claim(&name, json!(value));
        }
        let text = token.sign();
        let key = cluster_keys().find(Some("c1"), Algorithm::Es256).unwrap();
        let ours = Compact::parse(&text).unwrap().verify(key).unwrap();
        let public = keys().cluster.pair.to_public_key().unwrap();
        let (theirs, _) = josekit::jws::deserialize_compact(&text, &josekit::jws::ES256.verifier_from_jwk(&public).unwrap()).unwrap();
        let theirs: serde_json::Value = serde_json::from_slice(&theirs).unwrap();
        prop_assert_eq!(serde_json::Value::Object(ours.into_members()), theirs);
    }

    #[test]
    fn whatever_arrives_is_answered_and_never_an_error_of_the_server(body in "[ -~&=%+]{0,300}", token in "[A-Za-z0-9_.-]{0,200}") {
        let _ = Form::decode(body.as_bytes(), FormBounds::default());
        let _ = Compact::parse(&token);
        let head = format!("POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n", body.len());
        let reply = send(broker().address, format!("{head}{body}").as_bytes());
        prop_assert!((400..500).contains(&reply.status) && !reply.text("reason").is_empty(), "{}", reply.text);
        let reply = broker().exchange(&token, &[]);
        prop_assert_eq!(reply.status, 400);
    }
}

#[test]
fn openidconnect_accepts_what_we_accept_of_an_id_token() {
    use openidconnect::core::{CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm};
    use openidconnect::{ClientId, IssuerUrl, Nonce};
    // Its rules for ID Tokens, on the same tokens: an opinion that nobody here wrote.
    let jwks: CoreJsonWebKeySet = serde_json::from_value(keys().cluster.jwks()).unwrap();
    let verifier = CoreIdTokenVerifier::new_public_client(
        ClientId::new(STS.to_owned()),
        IssuerUrl::new(CLUSTER.to_owned()).unwrap(),
        jwks,
    )
    .set_allowed_algs([CoreJwsSigningAlgorithm::EcdsaP256Sha256])
    .set_time_fn(|| openidconnect_time(NOW));
    let any = |_: Option<&Nonce>| Ok(());
    let cases = [
        (Token::cluster(), true),
        (Token::cluster().claim("aud", json!("https://other.test")), false),
        (Token::cluster().key(&keys().evil), false),
        (Token::cluster().claim("iss", json!("https://other.test")), false),
        (Token::cluster().claim("exp", json!(NOW - 60)), false),
        (Token::cluster().head("crit", json!(["x"])), false),
        (Token::cluster().without("aud"), false),
        (Token::cluster().without("exp"), false),
    ];
    for (token, good) in cases {
        let text = token.sign();
        let theirs = text.parse::<CoreIdToken>().ok().is_some_and(|token| token.claims(&verifier, any).is_ok());
        assert_eq!(theirs, good, "{:?}", token.claims);
        assert_eq!(
            broker().exchange(&text, &[("subject_token_type", ID_TOKEN)]).status == 200,
            good,
            "{:?}",
            token.claims
        );
    }
}

fn openidconnect_time(seconds: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap()
}
