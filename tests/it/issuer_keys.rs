//! Issuers' keys: where they come from, how fresh they are, and how little a caller can make of them.

use crate::support::*;
use countersign::assertion::{FetchError, KeyFault};
use serde_json::{Value, json};
use std::time::Duration;

/// The cluster's keys come from `upstream`, by discovery.
pub fn discovered(upstream: &Upstream) -> Setup {
    let keys = format!("issuer = \"{}\"\nallow_private_addresses = true", upstream.url());
    Setup::new().change("jwks_file = \"cluster.jwks\"\n", "").change("issuer = \"https://cluster.test\"", &keys)
}

pub fn token(upstream: &Upstream) -> Token {
    Token::cluster().claim("iss", json!(upstream.url()))
}

#[test]
fn keys_are_discovered_without_an_authorization_endpoint() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let broker = discovered(&upstream).start();
    assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
    let before = upstream.connections();
    assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
    assert_eq!(upstream.connections(), before, "no fetch for a key that is held");
}

#[test]
fn an_unknown_issuer_opens_no_connection() {
    let evil = Upstream::issuer(keys().evil.jwks());
    let broker = TestBroker::new();
    for _ in 0..3 {
        let reply = broker.exchange(&token(&evil).key(&keys().evil).sign(), &[]);
        assert_eq!(reply.refusal(), (400, "invalid_request", "subject_token_refused"));
        let named = Token::cluster().head("jku", json!(format!("{}/jwks", evil.url()))).sign();
        assert_eq!(broker.exchange(&named, &[]).status, 400);
    }
    assert_eq!(evil.connections(), 0);
}

#[test]
fn a_flood_of_unknown_kids_causes_one_refresh_a_cooldown() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let broker = discovered(&upstream).start();
    assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
    broker.clock.advance(31);
    let before = upstream.connections();
    let flood = |round: usize| {
        std::thread::scope(|scope| {
            for one in 0..100 {
                let (broker, upstream) = (&broker, &upstream);
                scope.spawn(move || {
                    let token = token(upstream).head("kid", json!(format!("r{round}-{one}"))).sign();
                    assert_eq!(broker.exchange(&token, &[]).refusal().2, "subject_token_refused");
                });
            }
        });
    };
    flood(1);
    flood(2);
    assert_eq!(upstream.connections() - before, 2, "one discovery and one key set");
    assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200, "the good keys are still there");
    broker.clock.advance(31);
    flood(3);
    assert_eq!(upstream.connections() - before, 4);
}

#[test]
fn a_new_key_is_found_by_its_kid_and_a_withdrawn_one_is_gone_with_the_refresh() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let broker = discovered(&upstream).start();
    let old = || broker.exchange(&token(&upstream).sign(), &[]).status;
    let new = || broker.exchange(&token(&upstream).head("kid", json!("c2")).key(&keys().evil).sign(), &[]).status;
    assert_eq!((old(), new()), (200, 400));
    broker.clock.advance(31);
    upstream.publish(json!({"keys": [Key { kid: "c2", ..keys().evil.clone() }.public("sig")]}));
    assert_eq!((new(), old()), (200, 400));
}

#[test]
fn b15_an_outage_is_bridged_within_the_staleness_bound_and_503_past_it() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let broker = discovered(&upstream).start();
    let fresh = |broker: &TestBroker| {
        token(&upstream).claim("iat", json!(broker_now(broker))).claim("exp", json!(broker_now(broker) + 300)).sign()
    };
    assert_eq!(broker.exchange(&fresh(&broker), &[]).status, 200);
    upstream.behave(|_| Answer::status(500));
    assert!(broker.refresh("cluster").is_err());
    broker.clock.advance(3_600);
    assert_eq!(broker.exchange(&fresh(&broker), &[]).status, 200, "within the bound");
    broker.clock.advance(1);
    let reply = broker.exchange(&fresh(&broker), &[]);
    assert_eq!(reply.refusal(), (503, "temporarily_unavailable", "issuer_keys_unavailable"));
    assert!(reply.asks_to_retry());
    upstream.publish(keys().cluster.jwks());
    broker.clock.advance(31);
    assert_eq!(broker.exchange(&fresh(&broker), &[]).status, 200, "and back");
}

fn broker_now(broker: &TestBroker) -> i64 {
    countersign::domain::Clock::now(&broker.clock).seconds()
}

#[test]
fn b16_nothing_fetched_that_is_wrong_replaces_a_good_set() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let broker = discovered(&upstream).start();
    assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
    let url = upstream.url();
    let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/jwks")});
    let body = |body: &[u8]| Answer { body: body.to_vec(), ..Answer::status(200) };
    let many: Vec<Value> = (0..65).map(|_| keys().cluster.public("sig")).collect();
    let bad_sets = [
        body(b"<html>"),
        body(b"{}"),
        body(b"{\"keys\":null}"),
        body(b"{\"keys\":[]}"),
        body(b"{\"keys\":[1]}"),
        body(b"{\"keys\":["),
        body(b"[]"),
        body(&vec![b' '; 300_000]),
        Answer::json(&json!({"keys": many})),
        Answer::status(404),
        Answer::status(500),
        Answer { headers: "location: /jwks2\r\n".to_owned(), ..Answer::status(302) },
        body(b"{\"keys\":[],\"keys\":[]}"),
        Answer::json(&json!({"keys": [keys().ed.public("enc")]})),
    ];
    for bad in bad_sets {
        let (discovery, bad) = (discovery.clone(), bad.clone());
        upstream.behave(move |path| if path == "/jwks" { bad.clone() } else { Answer::json(&discovery) });
        assert!(broker.refresh("cluster").is_err());
        assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
    }
    let elsewhere = Upstream::issuer(keys().evil.jwks());
    let bad_documents = [
        json!({"issuer": format!("{url}/"), "jwks_uri": format!("{url}/jwks")}),
        json!({"issuer": "https://other.test", "jwks_uri": format!("{url}/jwks")}),
        json!({"jwks_uri": format!("{url}/jwks")}),
        json!({"issuer": url}),
        json!({"issuer": url, "jwks_uri": format!("{}/jwks", elsewhere.url())}),
        json!({"issuer": url, "jwks_uri": "file:///etc/passwd"}),
        json!([]),
    ];
    for bad in bad_documents {
        let (jwks, bad) = (keys().evil.jwks(), bad.clone());
        upstream.behave(move |path| if path == "/jwks" { Answer::json(&jwks) } else { Answer::json(&bad) });
        assert!(matches!(broker.refresh("cluster"), Err(KeyFault::Discovery(_))));
        assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Upstream::issuer(keys().evil.jwks());
    let to = format!("location: {}/jwks\r\n", elsewhere.url());
    let upstream = Upstream::new(move |_| Answer { headers: to.clone(), ..Answer::status(307) });
    let broker = discovered(&upstream).start();
    assert_eq!(broker.refresh("cluster"), Err(KeyFault::Fetch(FetchError::Status(307))));
    let reply = broker.exchange(&token(&upstream).sign(), &[]);
    assert_eq!(reply.refusal(), (503, "temporarily_unavailable", "issuer_keys_unavailable"));
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_slow_issuer_is_given_up_on_and_holds_up_nobody_else() {
    let upstream = Upstream::new(|_| Answer { delay: Duration::from_secs(30), ..Answer::status(200) });
    let broker = discovered(&upstream).start();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| broker.exchange(&token(&upstream).sign(), &[]));
        assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200);
        assert!(!slow.is_finished(), "others are served meanwhile");
        assert_eq!(slow.join().unwrap().status, 503);
    });
}

#[test]
fn private_addresses_need_leave() {
    for url in [
        "https://127.0.0.1:1",
        "https://localhost:1",
        "https://[::1]:1",
        "https://2130706433",
        "https://[::ffff:127.0.0.1]",
    ] {
        let keys = format!("issuer = \"{url}\"");
        let broker = Setup::new()
            .change("jwks_file = \"cluster.jwks\"\n", "")
            .change("issuer = \"https://cluster.test\"", &keys)
            .start();
        assert_eq!(broker.refresh("cluster"), Err(KeyFault::Fetch(FetchError::PrivateAddress)), "{url}");
    }
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let keys = format!("jwks_uri = \"{}/jwks\"", upstream.url());
    let open =
        Setup::new().change("jwks_file = \"cluster.jwks\"", &format!("{keys}\nallow_private_addresses = true")).start();
    assert_eq!(open.refresh("cluster"), Ok(1));
    let refused = Setup::new().change("jwks_file = \"cluster.jwks\"", &keys);
    let problems = countersign::config::Config::parse(&refused.config, "c.toml".as_ref(), "".as_ref()).unwrap_err();
    assert!(problems.to_string().contains("is not https"), "{problems}");
}

#[test]
fn an_issuer_with_a_private_ca_is_fetched_over_tls_and_no_other_certificate_is_taken() {
    let trusted = crate::http::TlsUpstream::new(keys().cluster.jwks());
    let other = crate::http::TlsUpstream::new(keys().cluster.jwks());
    let with = |ca: &str| {
        let keys = format!("jwks_uri = \"{}/jwks\"\nallow_private_addresses = true\n{ca}", trusted.url());
        let setup = Setup::new().change("jwks_file = \"cluster.jwks\"", &keys);
        let root = setup.write();
        std::fs::write(root.path().join("right.pem"), trusted.ca()).unwrap();
        std::fs::write(root.path().join("wrong.pem"), other.ca()).unwrap();
        let broker = TestBroker::start(root, TestClock::new());
        broker.refresh("cluster")
    };
    assert_eq!(with("ca_file = \"right.pem\""), Ok(1));
    assert!(matches!(with("ca_file = \"wrong.pem\""), Err(KeyFault::Fetch(FetchError::Connection(_)))));
    assert!(matches!(with(""), Err(KeyFault::Fetch(FetchError::Connection(_)))));
}

#[test]
fn published_keys_that_are_not_for_us_are_left_out() {
    let mut private = serde_json::to_value(&keys().cluster.pair).unwrap();
    private["kid"] = json!("c1");
    let with = |name: &str, value: Value| {
        let mut jwk = keys().cluster.public("sig");
        jwk[name] = value;
        jwk
    };
    let refused = [
        private,
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": "c1"}),
        with("use", json!("enc")),
        with("key_ops", json!(["encrypt"])),
        with("key_ops", json!("verify")),
        with("alg", json!("ES384")),
        with("alg", json!("RSA-OAEP")),
        with("crv", json!("P-384")),
        with("crv", json!("secp256k1")),
        with("x", json!("AAAA")),
        with("y", with("x", json!(0))["y"].clone()),
        with("kty", json!("RSA")),
        with("kid", json!(1)),
    ];
    let broker = TestBroker::new();
    let good = Key { kid: "good", ..keys().evil.clone() }.public("sig");
    for bad in refused.into_iter().filter(|bad| *bad != keys().cluster.public("sig")) {
        broker.write("cluster.jwks", &json!({"keys": [bad, good]}).to_string());
        assert_eq!(broker.refresh("cluster"), Ok(1), "{bad}");
        let reply = broker.exchange(&Token::cluster().sign(), &[]);
        assert_eq!(broker.reason(&reply), "key_unknown", "{bad}");
    }
    // Two keys under one kid: neither.
    broker.write(
        "cluster.jwks",
        &json!({"keys": [keys().cluster.public("sig"), keys().evil.public("sig"), good]}).to_string(),
    );
    assert_eq!(broker.refresh("cluster"), Ok(1));
    assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).status, 400);
}

#[test]
fn rsa_keys_have_sound_numbers() {
    let rsa = |change: &dyn Fn(&mut Value)| {
        let mut jwk = keys().github.public("sig");
        change(&mut jwk);
        jwk
    };
    use base64::Engine as _;
    let number = |bytes: Vec<u8>| json!(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes));
    let small = josekit::jwk::Jwk::generate_rsa_key(1024).unwrap();
    let broker = TestBroker::new();
    let sets = [
        rsa(&|jwk| jwk["n"] = json!(small.parameter("n").unwrap())),
        rsa(&|jwk| jwk["n"] = number(vec![0xff; 250_000 / 8 * 5])),
        rsa(&|jwk| jwk["e"] = number(vec![1])),
        rsa(&|jwk| jwk["e"] = number(vec![2])),
        rsa(&|jwk| jwk["e"] = number(vec![0, 1, 0, 1])),
        rsa(&|jwk| jwk["e"] = number(vec![1; 9])),
        rsa(&|jwk| jwk["e"] = number(vec![])),
    ];
    for bad in sets {
        broker.write("github.jwks", &json!({"keys": [bad]}).to_string());
        assert_eq!(broker.refresh("github"), Err(KeyFault::Empty));
    }
}

#[test]
fn keys_are_refreshed_in_the_background_though_no_token_asks_for_it() {
    let broker = TestBroker::new();
    let (old, new) = (Token::cluster(), Token::cluster().key(&keys().evil));
    assert_eq!(broker.exchange(&old.sign(), &[]).status, 200);
    // The same kid, so that no unknown one causes a refresh.
    broker.write("cluster.jwks", &keys().evil.jwks().to_string());
    broker.clock.pass(300);
    until("the new key is known", || broker.exchange(&new.sign(), &[]).status == 200);
    assert_eq!((broker.exchange(&new.sign(), &[]).status, broker.exchange(&old.sign(), &[]).status), (200, 400));
}
