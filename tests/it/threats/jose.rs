//! Section A: JWS and JWT, as an attacker writes them.

use super::{named_issuer, refused};
use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use josekit::jws::JwsSigner as _;
use serde_json::{Value, json};

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn parts(token: &str) -> [String; 3] {
    let mut parts = token.split('.').map(str::to_owned);
    std::array::from_fn(|_| parts.next().unwrap())
}

#[test]
fn a1_an_unsigned_token_is_refused_with_the_signature_of_a_good_one_and_as_our_own() {
    let broker = TestBroker::new();
    let good = Token::github().sign();
    let [_, payload, signature] = parts(&good);
    for alg in ["\"none\"", "\"None\"", "\"nOnE\"", "\"\"", "null", "[\"RS256\"]"] {
        let header = b64(format!("{{\"alg\":{alg},\"kid\":\"g1\"}}"));
        for tail in [signature.as_str(), ""] {
            let token = format!("{header}.{payload}.{tail}");
            refused(&broker, &token, "token_malformed");
            let own = broker.exchange(&token, &[("subject_token_type", ACCESS_TOKEN)]);
            assert_eq!((own.status, broker.reason(&own).as_str()), (400, "own_token_invalid"));
        }
    }
    assert_eq!(broker.exchange(&good, &[]).status, 200, "the good token is still good");
}

#[test]
fn a2_no_form_of_a_public_key_is_a_secret() {
    let broker = TestBroker::new();
    for (token, key) in [(Token::github(), &keys().github), (Token::cluster(), &keys().cluster)] {
        let public = key.pair.to_public_key().unwrap();
        let (pem, der) = if key.alg == "RS256" {
            let pair = josekit::jwk::alg::rsa::RsaKeyPair::from_jwk(&key.pair).unwrap();
            (pair.to_pem_public_key(), pair.to_der_public_key())
        } else {
            let pair = josekit::jwk::alg::ec::EcKeyPair::from_jwk(&key.pair).unwrap();
            (pair.to_pem_public_key(), pair.to_der_public_key())
        };
        let number = |name: &str| {
            URL_SAFE_NO_PAD.decode(public.parameter(name).and_then(Value::as_str).unwrap_or("AA")).unwrap()
        };
        let mut bare = pem.clone();
        while bare.last() == Some(&b'\n') {
            bare.pop();
        }
        let secrets: [Vec<u8>; 7] = [
            pem,
            bare,
            der.clone(),
            // PKCS#1 is what SPKI wraps: the same bytes without the outer 24.
            der.get(24..).unwrap().to_vec(),
            public.to_string().into_bytes(),
            number("n"),
            [vec![4], number("x"), number("y")].concat(),
        ];
        let input = token.head("alg", json!("HS256")).signing_input();
        for secret in secrets {
            let padded = if secret.len() < 32 { [secret.as_slice(), &[0; 32]].concat() } else { secret };
            let mac = josekit::jws::HS256.signer_from_bytes(&padded).unwrap().sign(input.as_bytes()).unwrap();
            refused(&broker, &format!("{input}.{}", b64(mac)), "token_malformed");
        }
    }
}

#[test]
fn a3_a_key_that_the_header_brings_is_not_used_with_a_kid_or_without() {
    let broker = TestBroker::new();
    let evil = &keys().evil;
    let jwk = json!(evil.pair.to_public_key().unwrap());
    for token in [Token::cluster().key(evil), Token::cluster().key(evil).headless("kid")] {
        refused(&broker, &token.head("jwk", jwk.clone()).sign(), "token_malformed");
    }
    let rsa = json!(keys().rsa_evil.pair.to_public_key().unwrap());
    refused(&broker, &Token::github().key(&keys().rsa_evil).head("jwk", rsa).sign(), "token_malformed");
}

#[test]
fn a4_no_url_of_a_header_is_fetched() {
    let canary = Upstream::issuer(keys().evil.jwks());
    let broker = TestBroker::new();
    let host = canary.url();
    let bare = host.trim_start_matches("http://").to_owned();
    for member in ["jku", "x5u"] {
        for url in [
            format!("{host}/jwks"),
            format!("https://cluster.test@{bare}/"),
            format!("https://cluster.test/redirect?u={host}/jwks"),
            host.clone(),
        ] {
            let token = Token::cluster().key(&keys().evil).head(member, json!(url));
            refused(&broker, &token.sign(), "token_malformed");
        }
    }
    assert_eq!(canary.connections(), 0);
}

#[test]
fn a5_a_certificate_that_the_header_brings_is_not_trusted() {
    let broker = TestBroker::new();
    let mut parameters = rcgen::CertificateParams::new(vec!["cluster.test".to_owned()]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "cluster.test");
    let pair = josekit::jwk::alg::ec::EcKeyPair::from_jwk(&keys().evil.pair).unwrap();
    let key = rcgen::KeyPair::from_pem(&String::from_utf8(pair.to_pem_private_key()).unwrap()).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let token = Token::cluster().key(&keys().evil);
    let chain = json!([STANDARD.encode(certificate.der())]);
    refused(&broker, &token.clone().head("x5c", chain).sign(), "token_malformed");
    let thumb = b64(countersign::domain::sha256(&[certificate.der()]));
    for member in ["x5t", "x5t#S256"] {
        refused(&broker, &token.clone().head(member, json!(thumb)).sign(), "signature_invalid");
    }
}

#[test]
fn a6_a_kid_is_a_name_in_one_set_and_nothing_else() {
    let broker = TestBroker::new();
    for kid in
        ["../../../dev/null", "/proc/self/environ", "' OR 1=1--", "c1\u{0}", "c1\n", "http://127.0.0.1:1/k", "g1"]
    {
        refused(&broker, &Token::cluster().head("kid", json!(kid)).sign(), "key_unknown");
    }
    for kid in [json!(1), Value::Null, json!({"a": 1}), json!(["c1"]), json!(""), json!("k".repeat(257))] {
        refused(&broker, &Token::cluster().head("kid", kid).sign(), "token_malformed");
    }
    let huge = broker.exchange(&Token::cluster().head("kid", json!("k".repeat(1 << 20))).sign(), &[]);
    assert_eq!((huge.status, huge.text("reason")), (413, "body_too_large"));
}

#[test]
fn a7_without_a_kid_only_the_one_key_that_fits_is_tried() {
    let broker = TestBroker::new();
    assert_eq!(broker.exchange(&Token::github().headless("kid").sign(), &[]).status, 200);
    let other = Key { kid: "g2", ..keys().rsa_evil.clone() };
    broker.write("github.jwks", &json!({"keys": [keys().github.public("sig"), other.public("sig")]}).to_string());
    broker.refresh("github").unwrap();
    refused(&broker, &Token::github().headless("kid").sign(), "key_unknown");
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200, "one that names its key is found");
    let svid = broker.exchange(&Token::svid().headless("kid").sign(), &[("audience", LEDGER)]);
    assert_eq!(broker.reason(&svid), "key_unknown");
}

#[test]
fn a8_every_form_of_crit_is_refused() {
    let broker = TestBroker::new();
    for crit in [json!(["x"]), json!([]), json!(["alg"]), json!(["x", "x"]), json!("x"), json!(["exp"]), Value::Null] {
        for token in [Token::github().head("x", json!(1)), Token::github()] {
            refused(&broker, &token.head("crit", crit.clone()).sign(), "token_malformed");
        }
    }
}

#[test]
fn a9_an_unencoded_payload_is_refused() {
    let broker = TestBroker::new();
    for token in [
        Token::github().head("b64", json!(false)),
        Token::github().head("b64", json!(true)),
        Token::github().head("b64", json!(false)).head("crit", json!(["b64"])),
    ] {
        refused(&broker, &token.sign(), "token_malformed");
        let claims = Value::Object(token.claims.clone()).to_string();
        let header = b64(Value::Object(token.header.clone()).to_string());
        let signature = b64(token.key.sign(format!("{header}.{claims}").as_bytes()));
        refused(&broker, &format!("{header}.{claims}.{signature}"), "token_malformed");
    }
}

#[test]
fn a10_one_kind_of_jwt_is_not_another() {
    let broker = TestBroker::new();
    for typ in [
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "at+jwt",
        "token-introspection+jwt",
        "oauth-authz-req+jwt",
        "application/at+jwt",
        "JWT ",
    ] {
        refused(&broker, &Token::github().head("typ", json!(typ)).sign(), "typ_mismatch");
    }
    for typ in ["JWT", "jwt", "application/jwt"] {
        assert_eq!(broker.exchange(&Token::github().head("typ", json!(typ)).sign(), &[]).status, 200, "{typ}");
    }
    let minted = broker.exchange(&Token::github().sign(), &[]).token();
    let signed = send_to(
        broker.address,
        "/introspect",
        &[("authorization", basic("orders-api")), ("accept", "application/token-introspection+jwt".to_owned())],
        &[("token", &minted)],
    );
    assert_eq!(signed.status, 200);
    for (token, reason) in [(minted.as_str(), "issuer_unknown"), (signed.text.as_str(), "issuer_unknown")] {
        refused(&broker, token, reason);
    }
    let own = broker.exchange(&signed.text, &[("subject_token_type", ACCESS_TOKEN)]);
    assert_eq!(broker.reason(&own), "own_token_invalid");
}

#[test]
fn a12_a_payload_is_an_object() {
    let broker = TestBroker::new();
    let positional = format!("[9999999999,1,\"sub\",\"{CLUSTER}\",\"{STS}\"]");
    for payload in [positional.as_str(), "\"str\"", "1", "null", "true", "[]", " "] {
        refused(&broker, &Token::cluster().sign_payload(payload), "token_malformed");
    }
}

#[test]
fn a13_a_claim_of_another_type_is_not_an_absent_one() {
    let broker = TestBroker::new();
    let claim = |name: &str, value: Value| Token::cluster().claim(name, value).sign();
    for (name, values) in [
        ("exp", vec![json!("9999999999"), json!(true), Value::Null, json!([1]), json!({})]),
        ("nbf", vec![json!("0"), json!(false), json!({})]),
        ("iat", vec![json!({}), json!("0")]),
        ("jti", vec![json!(1), Value::Null, json!(["x"]), json!("")]),
        ("sub", vec![json!(1), Value::Null, json!(["x"]), json!("")]),
    ] {
        for value in values {
            refused(&broker, &claim(name, value), "claim_malformed");
        }
    }
    for aud in
        [json!({"x": 1}), json!([1]), json!(["other", 1]), json!([STS, 1]), Value::Null, json!([]), json!([[STS]])]
    {
        refused(&broker, &claim("aud", aud), "audience_mismatch");
    }
    for iss in [json!(1), Value::Null, json!([CLUSTER])] {
        refused(&broker, &claim("iss", iss), "issuer_unknown");
    }
}

#[test]
fn a14_an_end_is_a_date_within_the_issuers_bound() {
    let broker = TestBroker::new();
    refused(&broker, &Token::cluster().without("exp").sign(), "claim_malformed");
    let written = |exp: &str| {
        let claims = Value::Object(Token::cluster().claim("exp", json!(0)).claims).to_string();
        Token::cluster().sign_payload(&claims.replace("\"exp\":0", &format!("\"exp\":{exp}")))
    };
    for (exp, reason) in [
        ("0", "token_expired"),
        ("-1", "claim_malformed"),
        ("1e15", "claim_malformed"),
        ("1000000000000000.0", "claim_malformed"),
        ("10000000000000000000", "claim_malformed"),
        ("18446744073709551615", "claim_malformed"),
        ("1e400", "token_malformed"),
        ("9999999999999999999999", "claim_malformed"),
    ] {
        let reply = broker.exchange(&written(exp), &[]);
        assert_eq!(reply.status, 400, "{exp}");
        let found = broker.reason(&reply);
        assert!(found == reason || found == "token_expired" || found == "lifetime_too_long", "{exp}: {found}");
    }
    let backwards = Token::cluster().claim("iat", json!(NOW + 20)).claim("exp", json!(NOW + 10)).sign();
    refused(&broker, &backwards, "lifetime_too_long");
    refused(&broker, &Token::cluster().claim("exp", json!(NOW + 315_360_000)).sign(), "lifetime_too_long");
}

#[test]
fn a15_a16_a_token_of_the_future_or_of_long_ago_is_refused() {
    let broker = TestBroker::new();
    let with = |name: &str, value: i64| Token::cluster().claim(name, json!(value)).sign();
    for name in ["nbf", "iat"] {
        refused(&broker, &with(name, NOW + 3_600), "token_not_yet_valid");
        refused(&broker, &with(name, NOW + 31), "token_not_yet_valid");
        assert_eq!(broker.exchange(&with(name, NOW + 29), &[]).status, 200, "within the leeway");
    }
    refused(
        &broker,
        &Token::cluster().claim("iat", json!(NOW - 86_400)).claim("exp", json!(NOW + 60)).sign(),
        "lifetime_too_long",
    );
    refused(&broker, &Token::cluster().without("iat").claim("exp", json!(NOW + 3_700)).sign(), "lifetime_too_long");
}

#[test]
fn a18_only_three_parts_are_a_token() {
    let broker = TestBroker::new();
    let good = Token::github().sign();
    let [head, payload, signature] = parts(&good);
    let general = json!({"payload": payload, "signatures": [{"protected": head, "signature": signature}]}).to_string();
    let flattened = json!({"payload": payload, "protected": head, "signature": signature}).to_string();
    for token in [
        head.clone(),
        format!("{head}.{payload}"),
        format!("{good}.{signature}"),
        format!("{good}.a.b"),
        format!(".{good}"),
        format!("{good}."),
        format!("{head}..{signature}"),
        general,
        flattened,
        format!("Bearer {good}"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        format!("\u{feff}{good}"),
        good.replace('.', "%2E"),
    ] {
        refused(&broker, &token, "token_malformed");
    }
    assert_eq!(broker.exchange(&good, &[]).status, 200);
}

#[test]
fn a19_a_token_is_written_in_one_way() {
    let broker = TestBroker::new();
    let good = Token::cluster().claim("pad", json!("\u{3ff}\u{3fe}>>>???")).sign();
    let [head, payload, signature] = parts(&good);
    let trailing = |part: &str| {
        // The last letter of a part whose length is no multiple of four holds bits that nobody reads.
        let last = part.chars().last().unwrap();
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = letters.find(last).unwrap();
        let other = letters.chars().nth(at ^ 1).unwrap();
        format!("{}{other}", &part[..part.len() - 1])
    };
    let spaced = |part: &str, space: &str| format!("{}{space}{}", &part[..4], &part[4..]);
    let mut written = vec![
        format!("{head}.{payload}.{signature}=="),
        format!("{head}=.{payload}.{signature}"),
        format!("{head}.{payload}.{}", STANDARD.encode(URL_SAFE_NO_PAD.decode(&signature).unwrap())),
        format!(
            "{head}.{}.{signature}",
            STANDARD_NO_PAD.encode([URL_SAFE_NO_PAD.decode(&payload).unwrap(), vec![0xfb, 0xff]].concat())
        ),
    ];
    for space in [" ", "\t", "\n", "\r\n"] {
        written.push(format!("{}.{payload}.{signature}", spaced(&head, space)));
        written.push(format!("{head}.{payload}.{}", spaced(&signature, space)));
    }
    for (part, token) in [
        (&head, format!("{}.{payload}.{signature}", trailing(&head))),
        (&payload, format!("{head}.{}.{signature}", trailing(&payload))),
        (&signature, format!("{head}.{payload}.{}", trailing(&signature))),
    ] {
        if part.len() % 4 != 0 {
            written.push(token);
        }
    }
    assert!(written.len() >= 13);
    for token in written {
        refused(&broker, &token, "token_malformed");
    }
}

#[test]
fn a20_numbers_of_an_ecdsa_signature_are_in_range_and_of_fixed_length() {
    let broker = Setup::new().change("single_use = false", "single_use = true").start();
    let token = Token::cluster();
    let input = token.signing_input();
    let n = p256_order();
    let below: Vec<u8> = {
        let mut n = n.clone();
        *n.last_mut().unwrap() -= 1;
        n
    };
    let numbers = [vec![0; 32], [vec![0; 31], vec![1]].concat(), n.clone(), below];
    for r in &numbers {
        for s in &numbers {
            refused(&broker, &format!("{input}.{}", b64([r.as_slice(), s].concat())), "signature_invalid");
        }
    }
    let good = keys().cluster.sign(input.as_bytes());
    let der = |number: &[u8]| {
        let mut number: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        if number[0] & 0x80 != 0 {
            number.insert(0, 0);
        }
        [vec![2, u8::try_from(number.len()).unwrap()], number].concat()
    };
    let body = [der(&good[..32]), der(&good[32..])].concat();
    let encoded = [vec![0x30, u8::try_from(body.len()).unwrap()], body].concat();
    for wrong in [
        encoded,
        good[..63].to_vec(),
        [good.as_slice(), &[0]].concat(),
        [good.as_slice(), &good[..32]].concat(),
        vec![0; 96],
    ] {
        refused(&broker, &format!("{input}.{}", b64(wrong)), "signature_invalid");
    }
    // The other root verifies as well, and is the same assertion: one of both is exchanged.
    let twin = [good[..32].to_vec(), subtract(&n, &good[32..])].concat();
    let first = broker.exchange(&format!("{input}.{}", b64(&good)), &[]);
    assert_eq!(first.status, 200, "{}", first.text);
    let second = broker.exchange(&format!("{input}.{}", b64(twin)), &[]);
    assert_eq!(broker.reason(&second), "subject_token_replayed");
}

fn p256_order() -> Vec<u8> {
    let hex = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    (0..32).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

fn subtract(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut result = vec![0; a.len()];
    for at in (0..a.len()).rev() {
        let difference = i16::from(a[at]) - i16::from(b[at]) - borrow;
        borrow = i16::from(difference < 0);
        result[at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    result
}

#[test]
fn a21_an_rsa_signature_is_of_the_pinned_algorithm_and_in_range() {
    let broker = TestBroker::new();
    let input = Token::github().signing_input();
    let modulus = URL_SAFE_NO_PAD.decode(keys().github.pair.parameter("n").unwrap().as_str().unwrap()).unwrap();
    let one = [vec![0; 255], vec![1]].concat();
    for signature in [vec![0; 256], one, modulus, vec![], vec![1; 255], vec![1; 257]] {
        let reply = broker.exchange(&format!("{input}.{}", b64(signature)), &[]);
        assert_eq!(reply.refusal(), (400, "invalid_request", "subject_token_refused"));
    }
    // A key that is published for PS256 verifies nothing else, and the reverse.
    let mut jwk = keys().github.public("sig");
    jwk["alg"] = json!("PS256");
    let both = Setup::new()
        .change("jwks_file = \"github.jwks\"", "jwks_file = \"github.jwks\"\nalgorithms = [\"RS256\", \"PS256\"]")
        .start();
    let ps256 = Token::github().head("alg", json!("PS256"));
    let ps256 = {
        let input = ps256.signing_input();
        format!("{input}.{}", b64(keys().github.sign_as("PS256", input.as_bytes())))
    };
    refused(&both, &ps256, "key_unknown");
    both.write("github.jwks", &json!({"keys": [jwk]}).to_string());
    both.refresh("github").unwrap();
    refused(&both, &Token::github().sign(), "key_unknown");
    assert_eq!(both.exchange(&ps256, &[]).status, 200);
}

#[test]
fn a22_curve_and_key_belong_together() {
    let broker = TestBroker::new();
    let p384 = josekit::jwk::Jwk::generate_ec_key(josekit::jwk::alg::ec::EcCurve::P384).unwrap();
    let mut published = serde_json::to_value(p384.to_public_key().unwrap()).unwrap();
    published["kid"] = json!("c1");
    let good = Key { kid: "good", ..keys().evil.clone() }.public("sig");
    let mut wrong_curve = keys().cluster.public("sig");
    wrong_curve["crv"] = json!("P-384");
    let mut off_curve = keys().cluster.public("sig");
    off_curve["y"] = off_curve["x"].clone();
    let small_order = json!({"kty": "OKP", "crv": "Ed25519", "kid": "c1", "x": b64([0; 32])});
    let rsa_with_points = json!({"kty": "RSA", "kid": "c1", "x": off_curve["x"], "y": off_curve["y"]});
    let mut no_curve = keys().cluster.public("sig");
    no_curve.as_object_mut().unwrap().remove("crv");
    for bad in [published, wrong_curve, off_curve, small_order, rsa_with_points, no_curve] {
        broker.write("cluster.jwks", &json!({"keys": [bad, good]}).to_string());
        let _ = broker.refresh("cluster");
        let reply = broker.exchange(&Token::cluster().sign(), &[]);
        assert_eq!(broker.reason(&reply), "key_unknown", "{bad}");
    }
    refused(&broker, &Token::cluster().head("alg", json!("ES256K")).sign(), "token_malformed");
}

#[test]
fn a23_nothing_is_decrypted_and_nothing_is_inflated() {
    let broker = TestBroker::new();
    let parts = |header: Value, count: usize| {
        std::iter::once(b64(header.to_string())).chain((1..count).map(|_| b64([7; 64]))).collect::<Vec<_>>().join(".")
    };
    for token in [
        parts(json!({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "g1"}), 5),
        parts(json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2_147_483_647, "p2s": "AAAA"}), 5),
        parts(json!({"alg": "PBES2-HS256+A128KW", "p2c": 2_147_483_647}), 3),
        parts(json!({"alg": "RS256", "zip": "DEF", "kid": "g1"}), 3),
        parts(json!({"alg": "dir", "enc": "A256GCM", "zip": "DEF"}), 5),
    ] {
        refused(&broker, &token, "token_malformed");
    }
}

#[test]
fn a24_dots_are_not_split_one_by_one() {
    let broker = TestBroker::new();
    let dots = ".".repeat(15_000);
    refused(&broker, &dots, "token_malformed");
    let more = [
        ("client_assertion", dots.as_str()),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    ];
    assert_eq!(
        broker.exchange(&Token::github().sign(), &more).refusal(),
        (401, "invalid_client", "client_assertion_refused")
    );
    let actor = [("actor_token", dots.as_str()), ("actor_token_type", JWT)];
    assert_eq!(broker.exchange(&Token::github().sign(), &actor).text("reason"), "actor_token_unsupported");
    let flood = broker.exchange(&".".repeat(900_000), &[]);
    assert_eq!((flood.status, flood.text("reason")), (413, "body_too_large"));
}

#[test]
fn a25_the_deepest_and_the_widest_payload_are_bounded() {
    let broker = Setup::new()
        .change(
            "workers = 2",
            "workers = 2\n[server.limits]\ntoken_bytes = 65536\njson_depth = 64\nbody_bytes = 131072",
        )
        .start();
    let claims = |json: String| Token::cluster().sign_payload(&json);
    refused(&broker, &claims(format!("{{\"a\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000))), "token_malformed");
    refused(
        &broker,
        &claims(format!("{{{}\"z\":{}}}", "\"act\":{".repeat(5_000), "1}".repeat(5_000))),
        "token_malformed",
    );
    let wide: Vec<String> = (0..4_000).map(|at| format!("\"c{at}\":1")).collect();
    refused(&broker, &claims(format!("{{{}}}", wide.join(","))), "issuer_unknown");
    let audiences: Vec<Value> = (0..8_000).map(|_| json!("x")).collect();
    refused(&broker, &Token::cluster().claim("aud", json!(audiences)).sign(), "audience_mismatch");
    refused(&broker, &Token::cluster().claim("pad", json!("x".repeat(60_000))).sign(), "token_malformed");
    assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).status, 200);
}

#[test]
fn a26_a_subject_is_printable_ascii_and_is_never_folded() {
    let broker = TestBroker::new();
    let hostile = [
        "a\u{0}b",
        "a\r\nb",
        "a\rb",
        "a\u{1b}[31mb",
        "a\u{202e}b",
        "a\u{200d}b",
        "e\u{301}",
        "\u{e9}",
        "\u{430}dmin",
        "\u{ff41}dmin",
    ];
    for sub in hostile.map(str::to_owned).into_iter().chain(["s".repeat(5_000), "s".repeat(1_025)]) {
        refused(&broker, &Token::cluster().claim("sub", json!(sub)).sign(), "claim_malformed");
    }
    let claims = Value::Object(Token::cluster().claims).to_string();
    let lone = claims.replace("system:serviceaccount", "\\ud800system:serviceaccount");
    refused(&broker, &Token::cluster().sign_payload(&lone), "token_malformed");
}

#[test]
fn a27_nothing_is_done_before_the_signature_holds() {
    let broker = TestBroker::new();
    for token in [Token::github(), Token::cluster()] {
        let good = token.sign();
        let [head, payload, signature] = parts(&good);
        let mut bytes = URL_SAFE_NO_PAD.decode(&signature).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let reply = broker.exchange(&format!("{head}.{payload}.{}", b64(&bytes)), &[]);
        assert_eq!(broker.reason(&reply), "signature_invalid");
        let event = broker.event(&reply);
        assert!(event.question.is_none() && event.subject.is_none(), "no policy was asked and nobody named: {event:?}");
        assert_eq!(broker.exchange(&good, &[]).status, 200, "its `jti` is not used up");
    }
}

#[test]
fn a28_what_is_wrong_before_the_signature_holds_is_told_alike() {
    let broker = TestBroker::new();
    let answer = |token: &str| {
        let mut reply = broker.exchange(token, &[]);
        reply.json["decision"] = Value::Null;
        reply.headers.remove("countersign-decision");
        reply.headers.remove("date");
        let mut headers: Vec<_> = reply.headers.into_iter().collect();
        headers.sort();
        (reply.status, reply.json, headers)
    };
    let unknown = answer(&Token::cluster().claim("iss", json!("https://evil.test")).sign());
    let broken = {
        let [head, payload, _] = parts(&Token::cluster().sign());
        format!("{head}.{payload}.{}", b64([1; 64]))
    };
    for token in [
        broken,
        "a.b".to_owned(),
        Token::cluster().head("kid", json!("other")).sign(),
        Token::cluster().head("alg", json!("ES384")).sign(),
        Token::cluster().claim("sub", json!("\u{7}")).sign(),
        named_issuer(json!("42")),
    ] {
        assert_eq!(answer(&token), unknown);
    }
    let denied = |more: &[(&str, &str)]| {
        let mut reply = broker.exchange(&Token::cluster().claim("env", json!("dev")).sign(), more);
        reply.json["decision"] = Value::Null;
        reply.json
    };
    assert_eq!(
        denied(&[]),
        denied(&[("audience", "https://nowhere.test")]),
        "a target denied and one that is not there"
    );
    assert_eq!(denied(&[("scope", "orders:read")]), denied(&[("audience", LEDGER)]));
}
