//! What a resource server relies on: each check of a token, each key of a set, each name of a revocation.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use aws_lc_rs::signature::{self as aws, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::json;
use countersign_verify::jws::{Bounds, Compact, EnvelopeError};
use countersign_verify::key::{Algorithm, KeyError, KeySet, KeySetError, KeyUse, MAX_KEYS, NoKey};
use countersign_verify::revocation::{Kind, Name, Named, Reach, is_hit, names};
use countersign_verify::{LEEWAY, Refusal, Verifier, verify_any_audience};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

const ISSUER: &str = "https://sts.test";
const AUDIENCE: &str = "https://orders.test";
const NOW: i64 = 1_800_000_000;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn jwk(kid: &str) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": b64(key().verifying_key()), "kid": kid, "use": "sig"})
}

fn set(keys: &Value) -> KeySet {
    read(keys, KeyUse::Signature).0
}

fn read(keys: &Value, usage: KeyUse) -> (KeySet, Vec<KeyError>) {
    let (set, skipped) =
        KeySet::from_jwks(json!({"keys": keys}).to_string().as_bytes(), usage, &Algorithm::ALL).unwrap();
    (set, skipped.into_iter().map(|skipped| skipped.reason).collect())
}

fn signed(header: &Value, claims: &Value) -> String {
    let input = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    format!("{input}.{}", b64(key().sign(input.as_bytes()).to_bytes()))
}

fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"})
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "w", "aud": AUDIENCE, "client_id": "w", "scope": "", "iat": NOW, "nbf": NOW, "exp": NOW + 300,
        "jti": "j1", "task": {"id": "j1"}, "origin": {"iss": "i", "sub": "s"}, "pos": 3,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn verify(claims: &Value, now: i64) -> Result<(), Refusal> {
    let jwks = json!({"keys": [jwk("k1")]}).to_string();
    let verifier = Verifier::new(ISSUER, AUDIENCE, jwks.as_bytes()).unwrap();
    verifier.verify(&signed(&header(), claims), now).map(|_| ())
}

#[test]
fn a_good_token_is_accepted_and_says_who_signed_it() {
    let token = verify_any_audience(&signed(&header(), &claims()), ISSUER, &set(&json!([jwk("k1")])), NOW, 0).unwrap();
    assert_eq!((token.claims().jti.as_str(), token.key_id()), ("j1", "k1"));
}

#[test]
fn each_claim_is_compared() {
    assert_eq!(verify(&claims(), NOW), Ok(()));
    assert_eq!(verify(&with("iss", json!("https://other.test")), NOW), Err(Refusal::Issuer));
    assert_eq!(verify(&with("aud", json!("https://other.test")), NOW), Err(Refusal::Audience));
    let key = json!({"jkt": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"});
    assert_eq!(verify(&with("cnf", key), NOW), Err(Refusal::Bound));
    assert_eq!(verify(&with("cnf", json!({"jkt": "x"})), NOW), Err(Refusal::Claims));
    assert_eq!(verify(&with("exp", json!("soon")), NOW), Err(Refusal::Claims));
    let above = |count: usize| vec![json!({"jti": "a", "kid": "b", "aud": "c", "client_id": "d"}); count];
    assert_eq!(verify(&with("lineage", json!(above(8))), NOW), Ok(()));
    assert_eq!(verify(&with("lineage", json!(above(9))), NOW), Err(Refusal::Claims));
}

#[test]
fn times_end_exactly_where_the_leeway_does() {
    assert_eq!(verify(&claims(), NOW + 300 + LEEWAY - 1), Ok(()));
    assert_eq!(verify(&claims(), NOW + 300 + LEEWAY), Err(Refusal::Expired));
    assert_eq!(verify(&claims(), NOW - LEEWAY), Ok(()));
    assert_eq!(verify(&claims(), NOW - LEEWAY - 1), Err(Refusal::NotYetValid));
}

#[test]
fn type_key_and_signature_are_looked_at_before_any_claim() {
    let keys = set(&json!([jwk("k1")]));
    let verify = |token: &str| verify_any_audience(token, ISSUER, &keys, NOW, 0).map(|_| ());
    for typ in [json!("JWT"), json!("application/jwt"), json!("at"), json!("xyzzy")] {
        let mut header = header();
        header["typ"] = typ;
        assert_eq!(verify(&signed(&header, &claims())), Err(Refusal::Type));
    }
    for typ in ["AT+JWT", "application/at+jwt"] {
        let mut header = header();
        header["typ"] = json!(typ);
        assert_eq!(verify(&signed(&header, &claims())), Ok(()), "{typ}");
    }
    let headless = json!({"alg": "EdDSA", "typ": "at+jwt"});
    assert_eq!(verify(&signed(&headless, &claims())), Err(NoKey::UnknownKid.into()));
    let other = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k2"});
    assert_eq!(verify(&signed(&other, &claims())), Err(NoKey::UnknownKid.into()));
    let wrong = json!({"alg": "ES256", "typ": "at+jwt", "kid": "k1"});
    assert_eq!(verify(&signed(&wrong, &claims())), Err(NoKey::WrongAlgorithm.into()));
    let mut forged = signed(&header(), &claims());
    forged.replace_range(
        forged.len() - 20..forged.len() - 19,
        if forged.as_bytes()[forged.len() - 20] == b'A' { "B" } else { "A" },
    );
    assert_eq!(verify(&forged), Err(Refusal::Signature));
}

#[test]
fn an_envelope_is_read_within_its_bounds_to_the_byte() {
    let token = signed(&header(), &claims());
    let within = |token_bytes| Compact::parse_within(&token, Bounds { token_bytes, json_depth: 16 }).map(|_| ());
    assert_eq!(within(token.len()), Ok(()));
    assert_eq!(within(token.len() - 1), Err(EnvelopeError::TooLong));
    assert_eq!(Bounds::default().token_bytes, 16_384);
    let named = |length: usize| {
        let token = signed(&json!({"alg": "EdDSA", "kid": "k".repeat(length)}), &claims());
        Compact::parse(&token).map(|_| ())
    };
    assert_eq!([named(0), named(257)], [Err(EnvelopeError::Member("kid")), Err(EnvelopeError::Member("kid"))]);
    assert_eq!([named(1), named(256)], [Ok(()), Ok(())]);
    let compact = Compact::parse(&token).unwrap();
    assert_eq!(compact.signing_input(), token.rsplit_once('.').unwrap().0);
    assert!(!compact.header().has_others && format!("{compact:?}").starts_with("Compact("));
    let more = signed(&json!({"alg": "EdDSA", "kid": "k1", "x": 1}), &claims());
    assert!(Compact::parse(&more).unwrap().header().has_others);
}

#[test]
fn every_kind_of_value_is_read_as_it_was_written() {
    let text = r#"{"a":true,"b":-1,"c":18446744073709551615,"d":1.5,"e":"x\ny","f":null,"g":[1,{}]}"#;
    assert_eq!(Value::Object(json::object(text.as_bytes()).unwrap()), serde_json::from_str::<Value>(text).unwrap());
    let token = signed(&header(), &claims());
    let keys = set(&json!([jwk("k1")]));
    let verified = || Compact::parse(&token).unwrap().verify(keys.find(Some("k1"), Algorithm::EdDsa).unwrap()).unwrap();
    assert_eq!(Value::Object(verified().members().clone()), claims());
    assert_eq!(Value::Object(verified().into_members()), claims());
}

#[test]
fn each_curve_verifies_its_own_algorithm_and_no_other() {
    let ec = |algorithm: &'static aws::EcdsaSigningAlgorithm, curve: &str, length: usize| {
        let pair = aws::EcdsaKeyPair::generate(algorithm).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let (x, y) = point[1..].split_at(length);
        (pair, json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y), "kid": curve}))
    };
    let pairs = [
        (Algorithm::Es256, ec(&aws::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", 32)),
        (Algorithm::Es384, ec(&aws::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48)),
        (Algorithm::Es512, ec(&aws::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521", 66)),
    ];
    let random = aws_lc_rs::rand::SystemRandom::new();
    for (algorithm, (pair, jwk)) in &pairs {
        let kid = jwk["kid"].as_str().unwrap();
        let input = format!("{}.{}", b64(json!({"alg": algorithm.name(), "kid": kid}).to_string()), b64("{}"));
        let token = format!("{input}.{}", b64(pair.sign(&random, input.as_bytes()).unwrap()));
        let keys = set(&json!([jwk]));
        let key = keys.find(Some(kid), *algorithm).unwrap();
        assert!(Compact::parse(&token).unwrap().verify(key).is_ok(), "{algorithm}");
        for other in Algorithm::ALL {
            assert_eq!(key.verifies(other), other == *algorithm, "{other}");
        }
        for (name, length) in [("x", 31), ("y", 31), ("x", 67), ("y", 67)] {
            let mut short = jwk.clone();
            short[name] = json!(b64(vec![1; length]));
            assert_eq!(read(&json!([short]), KeyUse::Signature).1, [KeyError::Malformed], "{name}");
        }
        let mut pinned = jwk.clone();
        pinned["alg"] = json!(if *algorithm == Algorithm::Es256 { "ES384" } else { "ES256" });
        assert_eq!(read(&json!([pinned]), KeyUse::Signature).1, [KeyError::NotForUs]);
    }
}

#[test]
fn a_set_is_counted_looked_up_and_told_apart() {
    let (keys, skipped) = read(
        &json!([jwk("a"), jwk("b"), 1, {"kty": "XYZ"}, {"kty": "EC"}, {"kty": "oct", "k": "x"}]),
        KeyUse::Signature,
    );
    assert_eq!((keys.len(), keys.is_empty(), keys.has("a"), keys.has("c")), (2, false, true, false));
    assert_eq!(skipped, [KeyError::Malformed, KeyError::NotForUs, KeyError::NotForUs, KeyError::Secret]);
    assert_eq!(keys.find(None, Algorithm::EdDsa).err(), Some(NoKey::Ambiguous));
    assert_eq!(keys.find(None, Algorithm::Es256).err(), Some(NoKey::WrongAlgorithm));
    let none = set(&json!([]));
    assert!(none.is_empty());
    for doubled in [
        json!([jwk("a"), jwk("a"), jwk("b")]),
        json!([jwk("b"), jwk("a"), jwk("a")]),
        json!([jwk("a"), jwk("b"), jwk("a"), jwk("a")]),
    ] {
        let (keys, skipped) = read(&doubled, KeyUse::Signature);
        assert_eq!((keys.len(), keys.has("a"), skipped[0]), (1, false, KeyError::DuplicateKid));
    }
    let many = |count: usize| {
        let keys: Vec<Value> = (0..count).map(|at| jwk(&at.to_string())).collect();
        KeySet::from_jwks(json!({"keys": keys}).to_string().as_bytes(), KeyUse::Signature, &Algorithm::ALL)
            .map(|(keys, _)| keys.len())
    };
    assert_eq!(many(MAX_KEYS), Ok(MAX_KEYS));
    assert_eq!(many(MAX_KEYS + 1), Err(KeySetError::TooMany));
}

#[test]
fn a_bundles_key_is_for_svids_and_has_a_kid() {
    let mut svid = jwk("s");
    svid["use"] = json!("jwt-svid");
    assert_eq!(read(&json!([svid]), KeyUse::JwtSvid).0.len(), 1);
    assert_eq!(read(&json!([svid]), KeyUse::Signature).1, [KeyError::NotForUs]);
    assert_eq!(read(&json!([jwk("s")]), KeyUse::JwtSvid).1, [KeyError::NotForUs]);
    svid.as_object_mut().unwrap().remove("kid");
    assert_eq!(read(&json!([svid]), KeyUse::JwtSvid).1, [KeyError::NotForUs]);
}

#[test]
fn a_revocation_hits_a_token_by_everything_that_names_it_or_one_above_it() {
    let mut claims =
        with("lineage", json!([{"jti": "j0", "kid": "k0", "aud": "c", "client_id": "d", "iat": NOW - 90}]));
    claims["client_id"] = json!("c1");
    claims["act"] = json!({"sub": "a1", "act": {"iss": "x", "act": {"sub": "a0"}}});
    let token = verify_any_audience(&signed(&header(), &claims), ISSUER, &set(&json!([jwk("k1")])), NOW, 0).unwrap();
    let own = token.claims().clone();
    let hit: Vec<Named> = names(&token).collect();
    let expected = [
        (Kind::Task, own.task.id.as_str(), NOW - 90),
        (Kind::Workload, &own.sub, NOW - 90),
        (Kind::Issuer, &own.origin.iss, NOW - 90),
        (Kind::Token, "j1", own.iat),
        (Kind::Key, "k1", own.iat),
        (Kind::Target, &own.aud, own.iat),
        (Kind::Client, &own.client_id, own.iat),
        (Kind::Token, "j0", NOW - 90),
        (Kind::Key, "k0", NOW - 90),
        (Kind::Target, "c", NOW - 90),
        (Kind::Client, "d", NOW - 90),
        (Kind::Actor, "a1", NOW - 90),
        (Kind::Actor, "a0", NOW - 90),
    ];
    assert_eq!(hit, expected.map(|(kind, id, iat)| Named::new(kind, id, iat)));
    let reach =
        |reach: Reach, kind: Kind, id: &str| is_hit(&token, |name| (name == Name::new(kind, id)).then_some(reach));
    let at = |position| Reach { position, ..Reach::default() };
    assert!(reach(at(own.pos + 1), Kind::Client, "d") && !reach(at(own.pos), Kind::Client, "d"));
    assert!(!reach(at(own.pos + 1), Kind::Client, "somebody else"));
    // What never comes again is hit whatever position a token claims.
    for (kind, id) in [(Kind::Token, "j0"), (Kind::Key, "k1"), (Kind::Task, own.task.id.as_str())] {
        assert!(reach(at(1), kind, id) && !reach(at(0), kind, id), "{kind}");
    }
    let before = |moment| Reach { before: Some(moment), ..Reach::default() };
    assert!(reach(before(NOW - 89), Kind::Target, "c") && !reach(before(NOW - 90), Kind::Target, "c"));
    assert!(!reach(before(own.iat), Kind::Target, &own.aud), "its own is younger");
    assert!(reach(Reach { suspended: true, ..Reach::default() }, Kind::Actor, "a0"));
    assert!(!reach(Reach::default(), Kind::Token, "j1"));
    for kind in Kind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert!("Token".parse::<Kind>().is_err());
    assert_ne!(Name::new(Kind::Token, "x"), Name::new(Kind::Key, "x"), "a kind is part of the name");
    // What is stored stays what it is: 128 bits of SHA-256 over `token`, a zero byte and the id.
    let stored = Name::new(Kind::Token, "j1").to_bytes();
    assert_eq!(Name::from_bytes(stored), Name::new(Kind::Token, "j1"));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"token\0j1");
    assert_eq!(stored, digest.as_ref()[..16]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"key\0k1");
    assert_eq!(Name::new(Kind::Key, "k1").to_bytes(), digest.as_ref()[..16]);
}
