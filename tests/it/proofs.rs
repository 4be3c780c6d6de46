//! Tokens bound to a key, and the proofs that present them (RFC 9449). Tests are named by their abuse case.

use crate::support::*;
use countersign_verify::confirmation::ConfirmationKey;
use countersign_verify::dpop::{Proof, ProofError, Request, thumbprint};
use countersign_verify::{Refusal, Verifier};
use serde_json::{Value, json};

/// Exchanges `token` with these header fields of proofs.
fn exchange(broker: &TestBroker, token: &str, proofs: &[&str], more: &[(&str, &str)]) -> Reply {
    let headers: Vec<_> = proofs.iter().map(|proof| ("dpop", (*proof).to_owned())).collect();
    let mut form = vec![("grant_type", GRANT), ("subject_token", token), ("subject_token_type", JWT)];
    form.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    if !more.iter().any(|(name, _)| *name == "audience") {
        form.push(("audience", ORDERS));
    }
    form.extend_from_slice(more);
    send_to(broker.address, "/token", &headers, &form)
}

/// With a new assertion, and one proof.
fn prove(broker: &TestBroker, proof: &Token) -> Reply {
    exchange(broker, &Token::github().sign(), &[&proof.sign()], &[])
}

fn jkt(key: &Key) -> String {
    let public = serde_json::to_value(key.pair.to_public_key().unwrap()).unwrap();
    thumbprint(public.as_object().unwrap()).unwrap().to_string()
}

fn refused(reply: &Reply, reason: &str) {
    assert_eq!(reply.refusal(), (400, "invalid_dpop_proof", reason), "{}", reply.text);
    assert!(reply.json.get("access_token").is_none());
}

#[test]
fn what_is_asked_for_with_a_proof_is_bound_to_its_key() {
    let broker = TestBroker::new();
    for key in [&keys().evil, &keys().ed, &keys().rsa_evil] {
        let reply = prove(&broker, &proof(key, "/token"));
        assert_eq!(reply.text("token_type"), "DPoP", "{}", reply.text);
        let known = broker.introspect("orders-api", &reply.token());
        assert_eq!((known.text("token_type"), &known.json["cnf"]), ("DPoP", &json!({"jkt": jkt(key)})));
        let granted = broker.event(&reply).granted.unwrap();
        assert_eq!(granted.cnf, Some(ConfirmationKey::Jkt(jkt(key).parse().unwrap())));
        assert_eq!(broker.event(&reply).question.unwrap().confirmation, granted.cnf);
    }
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).text("token_type"), "Bearer");
    let metadata = send(broker.address, b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nhost: x\r\n\r\n");
    let algorithms = json!(["ES256", "ES384", "EdDSA", "RS256", "PS256"]);
    assert_eq!(metadata.json["dpop_signing_alg_values_supported"], algorithms);
    let useless = [("authorization", basic("orders-api")), ("dpop", proof(&keys().ed, "/introspect").sign())];
    assert_eq!(send_to(broker.address, "/introspect", &useless, &[("token", "x")]).refusal().2, "dpop_unsupported");
}

#[test]
fn f3_a_proof_is_taken_once_and_a_refusal_does_not_use_it_up() {
    let broker = TestBroker::new();
    let once = proof(&keys().ed, "/token");
    // Refused for another reason: the proof is as good as new.
    let refusal = exchange(&broker, &Token::github().sign(), &[&once.sign()], &[("audience", LEDGER)]);
    assert_eq!(refusal.text("reason"), "target_refused");
    assert_eq!(prove(&broker, &once).status, 200);
    let spared = Token::github().sign();
    refused(&exchange(&broker, &spared, &[&once.sign()], &[]), "dpop_proof_replayed");
    // Signed again with what does not count written in another way, it is the same proof.
    let again = once.clone().claim("htu", json!(format!("{STS}/token?again#it"))).claim("iat", json!(NOW - 1));
    refused(&exchange(&broker, &spared, &[&again.sign()], &[]), "dpop_proof_replayed");
    assert_eq!(broker.exchange(&spared, &[]).status, 200, "the assertion was given back");
    // The same id by another key is another proof.
    let other = proof(&keys().evil, "/token").claim("jti", once.claims["jti"].clone());
    assert_eq!(prove(&broker, &other).status, 200);
    let broker = broker.restart();
    refused(&prove(&broker, &once), "dpop_proof_replayed");
    let (many, address) = (proof(&keys().evil, "/token").sign(), broker.address);
    let answers: Vec<Reply> = std::thread::scope(|scope| {
        let ask = |token: String| {
            let headers = [("dpop", many.clone())];
            move || {
                let form = [
                    ("grant_type", GRANT),
                    ("subject_token", token.as_str()),
                    ("subject_token_type", JWT),
                    ("audience", ORDERS),
                ];
                send_to(address, "/token", &headers, &form)
            }
        };
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(ask(Token::github().sign()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.text("reason") == "dpop_proof_replayed").count(), 49);
}

#[test]
fn f4_f5_a_proof_is_for_post_to_this_endpoint_by_our_own_name() {
    let broker = TestBroker::new();
    let for_uri = |uri: &str| proof(&keys().ed, "/token").claim("htu", json!(uri));
    for uri in [
        "https://sts.test/token",
        "HTTPS://STS.TEST/token",
        "https://sts.test:443/token?x#y",
        "https://sts.test/%74oken",
    ] {
        assert_eq!(prove(&broker, &for_uri(uri)).status, 200, "{uri}");
    }
    for uri in [
        "https://sts.test/token/",
        "https://sts.test/revoke",
        "https://sts.test/TOKEN",
        "http://sts.test/token",
        "https://evil.test/token",
        "https://x@sts.test/token",
        "https://sts.test:8443/token",
    ] {
        refused(
            &prove(&broker, &for_uri(uri)),
            if uri.contains('@') { "dpop_proof_invalid" } else { "dpop_proof_mismatch" },
        );
    }
    for method in ["GET", "post", "PUT"] {
        refused(&prove(&broker, &proof(&keys().ed, "/token").claim("htm", json!(method))), "dpop_proof_mismatch");
    }
    let token = Token::github().sign();
    let form = [("grant_type", GRANT), ("subject_token", &token), ("subject_token_type", JWT), ("audience", ORDERS)];
    let named = for_uri("https://evil.test/token").sign();
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = format!(
        "POST /token HTTP/1.1\r\nhost: evil.test\r\nx-forwarded-host: evil.test\r\nx-forwarded-proto: https\r\ndpop: {named}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    refused(&send(broker.address, request.as_bytes()), "dpop_proof_mismatch");
}

#[test]
fn f6_a_proof_is_made_just_now() {
    let broker = TestBroker::new();
    let at = |name: &str, value: Value| prove(&broker, &proof(&keys().ed, "/token").claim(name, value));
    for iat in [NOW - 60, NOW - 10, NOW + 10, NOW + 30] {
        assert_eq!(at("iat", json!(iat)).status, 200, "{iat}");
    }
    for iat in [NOW - 3_600, NOW - 61, NOW + 31, NOW + 3_600, i64::MIN, i64::MAX] {
        refused(&at("iat", json!(iat)), "dpop_proof_stale");
    }
    for iat in [json!("4000000000"), json!(4_000_000_000.5), json!(u64::MAX), Value::Null] {
        refused(&at("iat", iat), "dpop_proof_invalid");
    }
    refused(&at("exp", json!(NOW)), "dpop_proof_stale");
    assert_eq!(at("exp", json!(NOW + 1)).status, 200);
    refused(&at("exp", json!("x")), "dpop_proof_invalid");
    // What remembers it does so for as long as it could be shown again.
    let late = proof(&keys().ed, "/token").claim("iat", json!(NOW + 30));
    assert_eq!(prove(&broker, &late).status, 200);
    broker.clock.advance(90);
    broker.tend();
    let fresh = Token::github().claim("exp", json!(NOW + 500)).sign();
    refused(&exchange(&broker, &fresh, &[&late.sign()], &[]), "dpop_proof_replayed");
    broker.clock.advance(1);
    refused(&exchange(&broker, &fresh, &[&late.sign()], &[]), "dpop_proof_stale");
}

#[test]
fn f8_f9_f11_f13_a_proof_brings_a_public_key_and_its_own_type() {
    let broker = TestBroker::new();
    let good = || proof(&keys().evil, "/token");
    let jwk = |change: fn(&mut Value)| {
        let mut jwk = good().header["jwk"].clone();
        change(&mut jwk);
        good().head("jwk", jwk)
    };
    let private = serde_json::to_value(&keys().evil.pair).unwrap();
    let wrong = [
        ("no type", good().headless("typ")),
        ("another type", good().head("typ", json!("JWT"))),
        ("an access token's", good().head("typ", json!("at+jwt"))),
        ("no key", good().headless("jwk")),
        ("a private key", good().head("jwk", private)),
        ("a symmetric key", good().head("alg", json!("HS256")).head("jwk", json!({"kty": "oct", "k": "c2VjcmV0"}))),
        ("alg none", good().head("alg", json!("none"))),
        ("another key", good().head("jwk", proof(&keys().cluster, "/token").header["jwk"].clone())),
        ("a key of another kind", good().head("jwk", proof(&keys().ed, "/token").header["jwk"].clone())),
        ("padded", jwk(|jwk| jwk["x"] = json!(format!("{}=", jwk["x"].as_str().unwrap())))),
        ("a key for encryption", jwk(|jwk| jwk["use"] = json!("enc"))),
        ("a url for a key", good().head("jku", json!("https://evil.test/k"))),
        ("a certificate", good().head("x5c", json!(["x"]))),
        ("crit", good().head("crit", json!(["x"])).head("x", json!(1))),
        ("no jti", good().without("jti")),
        ("an empty jti", good().claim("jti", json!(""))),
        ("a long jti", good().claim("jti", json!("x".repeat(257)))),
        ("a jti that is no string", good().claim("jti", json!(1))),
        ("no htm", good().without("htm")),
        ("no htu", good().without("htu")),
        ("an htu that is no URI", good().claim("htu", json!("/token"))),
        ("no iat", good().without("iat")),
        ("long", good().claim("x", json!("x".repeat(8_192)))),
    ];
    for (what, proof) in wrong {
        let reply = prove(&broker, &proof);
        assert_eq!(reply.refusal(), (400, "invalid_dpop_proof", "dpop_proof_invalid"), "{what}: {}", reply.text);
    }
    for garbage in ["", "x", "a.b.c", "a, b"] {
        refused(&exchange(&broker, &Token::github().sign(), &[garbage], &[]), "dpop_proof_invalid");
    }
    // Members that name nothing of the key change nothing; the type compares as a media type.
    let decorated = jwk(|jwk| {
        for (name, value) in [("kid", json!("x")), ("alg", json!("ES256")), ("ext", json!(true)), ("use", json!("sig"))]
        {
            jwk[name] = value;
        }
    });
    for (what, proof) in [
        ("decorated", decorated),
        ("upper case", good().head("typ", json!("DPOP+JWT"))),
        ("a whole media type", good().head("typ", json!("application/dpop+jwt"))),
        ("with a kid", good().head("kid", json!("x"))),
        ("with the longest jti", good().claim("jti", json!("x".repeat(256)))),
        ("with a nonce that nobody asked for", good().claim("nonce", json!("x"))),
    ] {
        let reply = prove(&broker, &proof);
        assert_eq!(reply.status, 200, "{what}: {}", reply.text);
        assert_eq!(
            broker.event(&reply).granted.unwrap().cnf,
            Some(ConfirmationKey::Jkt(jkt(&keys().evil).parse().unwrap())),
            "{what}"
        );
    }
}

#[test]
fn f10_one_header_field_with_one_proof() {
    let broker = TestBroker::new();
    let [one, two] = [(); 2].map(|()| proof(&keys().ed, "/token").sign());
    refused(&exchange(&broker, &Token::github().sign(), &[&one, &two], &[]), "dpop_proof_repeated");
    refused(&exchange(&broker, &Token::github().sign(), &[&one, &one], &[]), "dpop_proof_repeated");
    refused(&exchange(&broker, &Token::github().sign(), &[&format!("{one}, {two}")], &[]), "dpop_proof_invalid");
    assert_eq!(exchange(&broker, &Token::github().sign(), &[&one], &[]).status, 200);
}

#[test]
fn e28_f2_f14_a_bound_token_is_presented_with_its_key_and_its_child_is_bound_to_it() {
    let broker = TestBroker::new();
    let minted = prove(&broker, &proof(&keys().ed, "/token")).token();
    let onward = |proofs: &[&str]| {
        let headers: Vec<_> = [("authorization", basic("orders-api"))]
            .into_iter()
            .chain(proofs.iter().map(|proof| ("dpop", (*proof).to_owned())))
            .collect();
        let form = [
            ("grant_type", GRANT),
            ("subject_token", &minted),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", LEDGER),
        ];
        send_to(broker.address, "/token", &headers, &form)
    };
    refused(&onward(&[]), "dpop_proof_required");
    let swapped = onward(&[&proof(&keys().evil, "/token").sign()]);
    refused(&swapped, "dpop_key_mismatch");
    let told = format!("{:?}", broker.event(&swapped).checks);
    assert!(told.contains(&jkt(&keys().ed)) && told.contains(&jkt(&keys().evil)), "{told}");
    let child = onward(&[&proof(&keys().ed, "/token").sign()]);
    assert_eq!((child.status, child.text("token_type")), (200, "DPoP"));
    let said = broker.introspect("ledger-api", &child.token());
    assert_eq!(said.json["cnf"], json!({"jkt": jkt(&keys().ed)}));

    // An issuer may hand out bound assertions: the key it names is the one that counts.
    let of = |cnf: Value| Token::github().claim("cnf", cnf).sign();
    let bound = json!({"jkt": jkt(&keys().ed)});
    refused(&broker.exchange(&of(bound.clone()), &[]), "dpop_proof_required");
    refused(&exchange(&broker, &of(bound.clone()), &[&proof(&keys().evil, "/token").sign()], &[]), "dpop_key_mismatch");
    assert_eq!(exchange(&broker, &of(bound), &[&proof(&keys().ed, "/token").sign()], &[]).status, 200);
    for cnf in [json!({"x5t#S256": jkt(&keys().ed)}), json!({"jkt": "x"}), json!({}), json!("x"), Value::Null] {
        let reply = exchange(&broker, &of(cnf.clone()), &[&proof(&keys().ed, "/token").sign()], &[]);
        assert_eq!(reply.refusal(), (400, "invalid_request", "subject_token_bound"), "{cnf}");
        assert_eq!(broker.reason(&reply), "confirmation_unsupported");
    }
}

#[test]
fn a_bound_token_is_revoked_with_its_key() {
    let broker = TestBroker::new();
    let minted = prove(&broker, &proof(&keys().ed, "/token")).token();
    let revoke = |proofs: &[String]| {
        let headers: Vec<_> = proofs.iter().map(|proof| ("dpop", proof.clone())).collect();
        send_to(broker.address, "/revoke", &headers, &[("token", &minted)])
    };
    let alive = || broker.introspect("orders-api", &minted).json["active"] == true;
    refused(&revoke(&[]), "dpop_proof_required");
    refused(&revoke(&[proof(&keys().evil, "/revoke").sign()]), "dpop_key_mismatch");
    refused(&revoke(&[proof(&keys().ed, "/token").sign()]), "dpop_proof_mismatch");
    assert!(alive());
    let once = proof(&keys().ed, "/revoke").sign();
    assert_eq!(revoke(std::slice::from_ref(&once)).status, 200);
    assert!(!alive());
    let other = prove(&broker, &proof(&keys().ed, "/token")).token();
    let replayed = send_to(broker.address, "/revoke", &[("dpop", once)], &[("token", &other)]);
    refused(&replayed, "dpop_proof_replayed");
    assert!(broker.introspect("orders-api", &other).json["active"] == true);
}

#[test]
fn policy_can_ask_for_a_bound_token() {
    let policies = r#"
@id("bound-alone")
permit (principal, action == Action::"exchange", resource == Target::"https://orders.test")
when { context.scope == "orders:read" && context has confirmation };
"#;
    let broker = Setup::new().policies(policies).start();
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).refusal().2, "target_refused");
    assert_eq!(prove(&broker, &proof(&keys().ed, "/token")).status, 200);
}

#[test]
fn f12_a_resource_server_takes_a_bound_token_with_a_proof_of_it_alone() {
    let broker = TestBroker::new();
    let minted = prove(&broker, &proof(&keys().ed, "/token")).token();
    let bearer = broker.exchange(&Token::github().sign(), &[]).token();
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    let verifier = Verifier::new(STS, ORDERS, jwks.text.as_bytes()).unwrap();
    let ath = |token: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(countersign::domain::sha256(&[token.as_bytes()]))
    };
    let uri = "https://orders.test/v1/orders";
    let shown = |key: &Key, ath: Option<String>| {
        let proof = proof(key, "").claim("htu", json!(uri)).claim("htm", json!("GET"));
        ath.map_or_else(|| proof.clone(), |ath| proof.clone().claim("ath", json!(ath))).sign()
    };
    let good = shown(&keys().ed, Some(ath(&minted)));
    let (token, proof) = verifier.verify_bound(&minted, &good, ("GET", uri), NOW).unwrap();
    assert_eq!((token.claims().sub.as_str(), proof.until()), ("github:repo:acme/app:ref:refs/heads/main", NOW + 60));
    assert_eq!(verifier.verify(&minted, NOW), Err(Refusal::Bound));
    let refuse = |token: &str, proof: &str, method: &str, why: Refusal| {
        assert_eq!(verifier.verify_bound(token, proof, (method, uri), NOW).unwrap_err(), why);
    };
    refuse(&minted, &shown(&keys().ed, None), "GET", Refusal::Proof(ProofError::Claim("ath")));
    refuse(&minted, &shown(&keys().ed, Some(ath(&bearer))), "GET", Refusal::Proof(ProofError::Token));
    refuse(&minted, &good, "POST", Refusal::Proof(ProofError::Method));
    refuse(&minted, &shown(&keys().evil, Some(ath(&minted))), "GET", Refusal::Bound);
    refuse(&bearer, &shown(&keys().ed, Some(ath(&bearer))), "GET", Refusal::Bound);
    let elsewhere = Request { method: "GET", uri: "https://other.test/v1/orders", token: Some(&minted) };
    assert_eq!(Proof::verify(&good, elsewhere, NOW), Err(ProofError::Uri));
    // RFC 9449 §7.1's own example of `ath`.
    assert_eq!(ath("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"), "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
}
