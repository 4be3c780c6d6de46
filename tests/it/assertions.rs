//! Every check of an assertion, by a token that fails it alone. None may be accepted, be an error of the server, use up a
//! good token, or be told apart by who is not to know.

use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Refused as `told`, and for the operator as `reason`.
fn refused(broker: &TestBroker, name: &str, token: &str, told: &str, reason: &str) {
    let reply = broker.exchange(token, &[]);
    assert_eq!(reply.refusal(), (400, "invalid_request", told), "{name}: {}", reply.text);
    assert_eq!(broker.reason(&reply), reason, "{name}");
    let event = broker.event(&reply);
    let failed = event.checks.iter().position(|check| !check.holds());
    assert_eq!(failed, Some(event.checks.len() - 1), "{name}: the first check that fails ends it: {:?}", event.checks);
    assert!(event.asked.is_some(), "{name}");
}

const GENERIC: &str = "subject_token_refused";

#[test]
fn unsigned_and_symmetric_tokens() {
    let broker = TestBroker::new();
    for alg in [json!("none"), json!("None"), json!("NONE"), json!("nOnE"), json!("HS256"), json!("rs256"), json!("")] {
        refused(&broker, "alg", &Token::github().head("alg", alg).sign(), GENERIC, "token_malformed");
    }
    for alg in [Value::Null, json!(["RS256"]), json!(1)] {
        refused(&broker, "alg", &Token::github().head("alg", alg).sign(), GENERIC, "token_malformed");
    }
    refused(&broker, "no alg", &Token::github().headless("alg").sign(), GENERIC, "token_malformed");
    let input = Token::github().head("alg", json!("none")).signing_input();
    refused(&broker, "empty signature", &format!("{input}."), GENERIC, "token_malformed");
    // RSA public key as an HMAC secret.
    let input = Token::github().head("alg", json!("HS256")).signing_input();
    let pem = keys().github.pair.to_public_key().unwrap().to_string();
    let hmac = josekit::jws::HS256.signer_from_bytes(pem).unwrap();
    let mac = josekit::jws::JwsSigner::sign(&hmac, input.as_bytes()).unwrap();
    refused(&broker, "confusion", &format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac)), GENERIC, "token_malformed");
}

#[test]
fn an_algorithm_that_the_issuer_or_the_key_does_not_have() {
    let broker = TestBroker::new();
    let signed_as = |alg: &str| {
        let input = Token::github().head("alg", json!(alg)).signing_input();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(keys().github.sign_as(alg, input.as_bytes())))
    };
    for alg in ["RS512", "PS256"] {
        refused(&broker, alg, &signed_as(alg), GENERIC, "algorithm_not_allowed");
    }
    let both = Setup::new()
        .change(
            "jwks_file = \"github.jwks\"",
            "jwks_file = \"github.jwks\"\nalgorithms = [\"RS256\", \"PS256\", \"RS512\"]",
        )
        .start();
    for alg in ["RS512", "PS256"] {
        refused(&both, alg, &signed_as(alg), GENERIC, "key_unknown");
    }
    refused(
        &broker,
        "EdDSA SVID",
        &Token::svid().head("alg", json!("EdDSA")).key(&keys().ed).sign(),
        GENERIC,
        "algorithm_not_allowed",
    );
}

#[test]
fn keys_that_the_header_brings_are_not_used() {
    let broker = TestBroker::new();
    let evil = &keys().evil;
    for (name, value) in [
        ("jwk", evil.public("sig")),
        ("jku", json!("https://evil.test/jwks.json")),
        ("x5u", json!("https://evil.test/cert")),
        ("x5c", json!(["MIIB"])),
    ] {
        refused(
            &broker,
            name,
            &Token::cluster().head(name, value.clone()).key(evil).sign(),
            GENERIC,
            "token_malformed",
        );
        refused(&broker, name, &Token::cluster().head(name, value).sign(), GENERIC, "token_malformed");
    }
    refused(&broker, "another key, same kid", &Token::cluster().key(evil).sign(), GENERIC, "signature_invalid");
    refused(
        &broker,
        "another key, same kid",
        &Token::github().key(&keys().rsa_evil).sign(),
        GENERIC,
        "signature_invalid",
    );
    refused(
        &broker,
        "key of another issuer",
        &Token::cluster().key(&keys().spiffe).sign(),
        GENERIC,
        "signature_invalid",
    );
    let other_kid = Token::cluster().head("kid", json!("s1")).key(&keys().spiffe).sign();
    refused(&broker, "kid of another issuer", &other_kid, GENERIC, "key_unknown");
}

#[test]
fn hostile_kids() {
    let broker = TestBroker::new();
    for kid in
        ["../../../dev/null", "/proc/self/environ", "' OR 1=1--", "c1\u{0}", "c1\n", "http://evil.test/k", "C1", " c1"]
    {
        refused(&broker, kid, &Token::cluster().head("kid", json!(kid)).sign(), GENERIC, "key_unknown");
    }
    for kid in [json!(1), Value::Null, json!({"a": 1}), json!(["c1"]), json!(""), json!("k".repeat(257))] {
        refused(&broker, "kid", &Token::cluster().head("kid", kid).sign(), GENERIC, "token_malformed");
    }
    // One key only: a token without kid can mean no other. Not for an SVID.
    assert_eq!(broker.exchange(&Token::cluster().headless("kid").sign(), &[]).status, 200);
    refused(&broker, "SVID without kid", &Token::svid().headless("kid").sign(), GENERIC, "key_unknown");
    broker.write(
        "cluster.jwks",
        &json!({"keys": [keys().cluster.public("sig"), Key { kid: "c2", ..keys().evil.clone() }.public("sig")]})
            .to_string(),
    );
    broker.refresh("cluster").unwrap();
    refused(&broker, "several keys", &Token::cluster().headless("kid").sign(), GENERIC, "key_unknown");
}

#[test]
fn extensions_that_must_be_understood() {
    let broker = TestBroker::new();
    for crit in [json!(["x"]), json!([]), json!(["alg"]), json!(["x", "x"]), json!("x"), json!(["exp"])] {
        refused(
            &broker,
            "crit",
            &Token::github().head("crit", crit).head("x", json!(1)).sign(),
            GENERIC,
            "token_malformed",
        );
    }
    refused(&broker, "b64", &Token::github().head("b64", json!(false)).sign(), GENERIC, "token_malformed");
    refused(&broker, "zip", &Token::github().head("zip", json!("DEF")).sign(), GENERIC, "token_malformed");
}

#[test]
fn another_kind_of_token() {
    let broker = TestBroker::new();
    for typ in [
        "at+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "logout+jwt",
        "application/at+jwt",
        "JOSE",
        "wit+jwt",
        "client-authentication+jwt",
    ] {
        refused(&broker, typ, &Token::github().head("typ", json!(typ)).sign(), "subject_token_typ", "typ_mismatch");
    }
    refused(
        &broker,
        "SVID typ",
        &Token::svid().head("typ", json!("at+jwt")).sign(),
        "subject_token_typ",
        "typ_mismatch",
    );
    refused(&broker, "typ", &Token::github().head("typ", json!(1)).sign(), GENERIC, "token_malformed");
    for typ in ["jwt", "JWT", "application/jwt"] {
        assert_eq!(broker.exchange(&Token::github().head("typ", json!(typ)).sign(), &[]).status, 200, "{typ}");
    }
}

#[test]
fn payloads_that_are_no_claims() {
    let broker = TestBroker::new();
    for payload in ["[9999999999,1,\"sub\"]", "\"str\"", "1", "null", "", "{", "{}{}", "{\"iss\":\"a\",\"iss\":\"b\"}"]
    {
        refused(&broker, payload, &Token::github().sign_payload(payload), GENERIC, "token_malformed");
    }
    let claims = Value::Object(Token::cluster().claims).to_string();
    let twice = format!("{},\"env\":\"prod\"}}", claims.strip_suffix('}').unwrap());
    refused(&broker, "a claim twice", &Token::cluster().sign_payload(&twice), GENERIC, "token_malformed");
    let deep = format!("{},\"x\":{}{}}}", claims.strip_suffix('}').unwrap(), "[".repeat(200), "]".repeat(200));
    refused(&broker, "deep", &Token::cluster().sign_payload(&deep), GENERIC, "token_malformed");
    let inner = format!("{},\"x\":{{\"y\":1,\"y\":2}}}}", claims.strip_suffix('}').unwrap());
    refused(&broker, "an inner member twice", &Token::cluster().sign_payload(&inner), GENERIC, "token_malformed");
    let header = Token::cluster().sign_header(r#"{"alg":"ES256","kid":"c1","alg":"ES256"}"#);
    refused(&broker, "a header member twice", &header, GENERIC, "token_malformed");
}

#[test]
fn structures_that_are_no_compact_jws() {
    let broker = TestBroker::new();
    let token = Token::cluster().sign();
    let parts: Vec<&str> = token.split('.').collect();
    let [head, body, tail] = parts[..] else { panic!("three parts") };
    let pad = |part: &str| STANDARD.encode(URL_SAFE_NO_PAD.decode(part).unwrap());
    let malformed = [
        "x".to_owned(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{head}.{body}"),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{tail}"),
        format!("{token}.{tail}.{tail}"),
        format!("{head}..{tail}"),
        format!("{head}.{body}."),
        format!("Bearer {token}"),
        format!(" {token}"),
        format!("{token}\n"),
        format!("\u{feff}{token}"),
        token.replace('.', "%2E"),
        format!("{}.{body}.{tail}", pad(head)),
        format!("{head}.{body}.{}", pad(tail)),
        format!("{head}.{body}.{tail}=="),
        format!(r#"{{"payload":"{body}","protected":"{head}","signature":"{tail}"}}"#),
        ".".repeat(50_000),
        "a".repeat(20_000),
    ];
    for token in malformed {
        refused(&broker, "structure", &token, GENERIC, "token_malformed");
    }
    // The last character of 64 bytes in base64url holds four bits that must be zero.
    let (stem, last) = tail.split_at(tail.len() - 1);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.iter().position(|letter| *letter == last.as_bytes()[0]).unwrap();
    let stray = char::from(alphabet[index | 1]);
    refused(&broker, "stray bits", &format!("{head}.{body}.{stem}{stray}"), GENERIC, "token_malformed");
}

#[test]
fn signatures_that_do_not_hold() {
    let broker = TestBroker::new();
    let input = Token::cluster().signing_input();
    let with = |signature: &[u8]| format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature));
    let good = keys().cluster.sign(input.as_bytes());
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut one = [0; 32];
    one[31] = 1;
    let forged: Vec<Vec<u8>> = vec![
        vec![0; 64],
        [one, one].concat(),
        [order, order].concat(),
        [one, [0; 32]].concat(),
        good[..63].to_vec(),
        [&good[..], &[0]].concat(),
        [&[0x30, 0x44, 0x02, 0x20], &good[..32], &[0x02, 0x20], &good[32..]].concat(),
        vec![1],
    ];
    for signature in forged {
        refused(&broker, "forged", &with(&signature), GENERIC, "signature_invalid");
    }
    let input = Token::github().signing_input();
    for signature in [vec![0; 256], vec![1; 256], vec![0xff; 256], vec![0; 255]] {
        let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature));
        refused(&broker, "forged RSA", &token, GENERIC, "signature_invalid");
    }
    // A claim acted on before the signature would burn the jti.
    let token = Token::github();
    let good = token.sign();
    let (input, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[10] ^= 1;
    refused(&broker, "flipped", &format!("{input}.{}", URL_SAFE_NO_PAD.encode(bytes)), GENERIC, "signature_invalid");
    assert_eq!(broker.exchange(&good, &[]).status, 200);
}

#[test]
fn an_issuer_that_is_not_known_byte_for_byte() {
    let broker = TestBroker::new();
    let issuers = [
        "https://evil.test",
        "https://CLUSTER.test",
        "https://cluster.test/",
        "https://cluster.test:443",
        "https://cluster.test.",
        "https://cluster.test#",
        "https://cluster.test?x",
        "https://cluster.test/../b",
        "https://u@cluster.test",
        "http://cluster.test",
        "https://clust\u{0435}r.test",
        "",
        "http://169.254.169.254",
        STS,
        "https://token.actions.githubusercontent.com/evil-enterprise",
    ];
    for issuer in issuers {
        refused(&broker, issuer, &Token::cluster().claim("iss", json!(issuer)).sign(), GENERIC, "issuer_unknown");
    }
    for issuer in [json!(1), Value::Null, json!([CLUSTER]), json!({"a": 1})] {
        refused(&broker, "iss", &Token::cluster().claim("iss", issuer).sign(), GENERIC, "issuer_unknown");
    }
    refused(&broker, "no iss", &Token::cluster().without("iss").sign(), GENERIC, "issuer_unknown");
    // A key of one trusted issuer signs in the name of another.
    refused(
        &broker,
        "B as A",
        &Token::github().head("alg", json!("ES256")).key(&keys().cluster).sign(),
        GENERIC,
        "algorithm_not_allowed",
    );
}

#[test]
fn an_audience_that_is_not_exactly_us() {
    let broker = TestBroker::new();
    for aud in [
        json!("https://sts.test.evil"),
        json!("https://sts.test/"),
        json!("HTTPS://STS.TEST"),
        json!("sts.test"),
        json!("https://sts.test/token"),
        json!(["https://sts.test.evil"]),
        json!([STS, "https://other.test"]),
        json!([STS, STS]),
        json!([]),
        json!([1]),
        json!([STS, 1]),
        json!({"x": 1}),
        json!(1),
        Value::Null,
        json!(""),
    ] {
        refused(
            &broker,
            &aud.to_string(),
            &Token::cluster().claim("aud", aud.clone()).sign(),
            "subject_token_audience",
            "audience_mismatch",
        );
    }
    refused(&broker, "no aud", &Token::cluster().without("aud").sign(), "subject_token_audience", "audience_mismatch");
    assert_eq!(broker.exchange(&Token::cluster().claim("aud", json!(STS)).sign(), &[]).status, 200);
}

#[test]
fn times_that_are_no_dates_or_do_not_hold() {
    let broker = TestBroker::new();
    let malformed = [
        json!("9999999999"),
        json!(true),
        Value::Null,
        json!({}),
        json!(9_999_999_999.5),
        json!(-1),
        json!(1e19),
        json!(u64::MAX),
        json!(1_000_000_000_000_000_i64),
    ];
    for name in ["exp", "nbf", "iat"] {
        for value in &malformed {
            refused(&broker, name, &Token::cluster().claim(name, value.clone()).sign(), GENERIC, "claim_malformed");
        }
    }
    refused(&broker, "no exp", &Token::cluster().without("exp").sign(), GENERIC, "claim_malformed");
    for exp in [0, 1, NOW - 1, NOW] {
        refused(
            &broker,
            "exp",
            &Token::cluster().claim("exp", json!(exp)).sign(),
            "subject_token_expired",
            "token_expired",
        );
    }
    for name in ["nbf", "iat"] {
        let at = |seconds: i64| Token::cluster().claim(name, json!(NOW + seconds)).sign();
        refused(&broker, name, &at(31), "subject_token_not_yet_valid", "token_not_yet_valid");
        refused(&broker, name, &at(3_600), "subject_token_not_yet_valid", "token_not_yet_valid");
        assert_eq!(broker.exchange(&at(30), &[]).status, 200, "{name}");
    }
    let life =
        |iat: i64, exp: i64| Token::cluster().claim("iat", json!(NOW + iat)).claim("exp", json!(NOW + exp)).sign();
    assert_eq!(broker.exchange(&life(-600, 3_000), &[]).status, 200);
    refused(&broker, "an hour and a second", &life(-601, 3_000), GENERIC, "lifetime_too_long");
    refused(&broker, "a day old", &life(-86_400, 60), GENERIC, "lifetime_too_long");
    refused(&broker, "ten years", &life(0, 315_360_000), GENERIC, "lifetime_too_long");
    let no_iat = |exp: i64| Token::cluster().without("iat").claim("exp", json!(NOW + exp)).sign();
    assert_eq!(broker.exchange(&no_iat(3_600), &[]).status, 200);
    refused(&broker, "without iat", &no_iat(3_601), GENERIC, "lifetime_too_long");
}

#[test]
fn a_subject_that_is_no_name() {
    let broker = TestBroker::new();
    let subjects = [
        json!(1),
        Value::Null,
        json!(""),
        json!("a".repeat(1_025)),
        json!("a\u{0}"),
        json!("a\nb"),
        json!("\u{1b}[31m"),
        json!("a\u{202e}b"),
        json!("\u{0430}dmin"),
        json!(" a"),
        json!("a "),
        json!(["a"]),
    ];
    for sub in subjects {
        refused(
            &broker,
            &sub.to_string(),
            &Token::cluster().claim("sub", sub.clone()).sign(),
            GENERIC,
            "claim_malformed",
        );
    }
    refused(&broker, "no sub", &Token::cluster().without("sub").sign(), GENERIC, "claim_malformed");
    for jti in [json!(1), Value::Null, json!(""), json!("j".repeat(1_025))] {
        refused(&broker, "jti", &Token::github().claim("jti", jti).sign(), GENERIC, "claim_malformed");
    }
}

#[test]
fn a_workload_that_accept_does_not_match_is_refused_like_an_unknown_issuer() {
    let broker = TestBroker::new();
    for owner in [json!("42"), json!("041"), json!("41 "), json!("")] {
        let token = Token::github().claim("repository_owner_id", owner.clone()).sign();
        refused(&broker, &owner.to_string(), &token, GENERIC, "workload_not_accepted");
    }
    refused(
        &broker,
        "no owner",
        &Token::github().without("repository_owner_id").sign(),
        GENERIC,
        "workload_not_accepted",
    );
    refused(
        &broker,
        "a number",
        &Token::github().claim("repository_owner_id", json!(41)).sign(),
        GENERIC,
        "workload_not_accepted",
    );
    let body = |token: &str| {
        let mut json = broker.exchange(token, &[]).json;
        json["decision"] = json!("");
        json
    };
    let foreign = body(&Token::github().claim("repository_owner_id", json!("42")).sign());
    assert_eq!(foreign, body(&Token::cluster().claim("iss", json!("https://evil.test")).sign()));
    assert_eq!(foreign, body(&Token::cluster().key(&keys().evil).sign()));
    // Whatever else is wrong with it: a stranger learns nothing of what this broker is configured for.
    let stranger = Token::github().claim("repository_owner_id", json!("42"));
    for wrong in [
        stranger.clone().claim("aud", json!("https://other.test")),
        stranger.clone().claim("exp", json!(NOW - 10)),
        stranger.clone().claim("nbf", json!(NOW + 3_600)),
        stranger.head("typ", json!("at+jwt")),
    ] {
        assert_eq!(foreign, body(&wrong.sign()));
    }
}

#[test]
fn a_declared_type_that_is_not_the_tokens() {
    let broker = TestBroker::new();
    let as_type = |token: String, declared: &str| {
        let reply = broker.exchange(&token, &[("subject_token_type", declared)]);
        (reply.text("reason").to_owned(), broker.reason(&reply))
    };
    let generic = |reason: &str| (GENERIC.to_owned(), reason.to_owned());
    assert_eq!(as_type(Token::svid().sign(), ID_TOKEN), generic("token_type_mismatch"));
    assert_eq!(as_type(Token::github().sign(), ACCESS_TOKEN), generic("own_token_invalid"));
    assert_eq!(as_type("opaque".to_owned(), JWT), generic("token_malformed"));
    let own = broker.exchange(&Token::cluster().sign(), &[]).token();
    assert_eq!(as_type(own, JWT), generic("issuer_unknown"), "our own token is no assertion");
}
