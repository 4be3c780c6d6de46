//! The exchange of RFC 8693: every parameter of §2.1, honoured or refused with its code.

use crate::support::*;
use countersign::domain::{Clock, Entropy, NoEntropy, SystemEntropy, Timestamp};
use countersign::error::Error;
use countersign::exchange::Presented;
use countersign::form::{Form, FormBounds};
use countersign_verify::Verifier;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

#[test]
fn a_really_signed_assertion_becomes_a_token_that_a_resource_server_verifies() {
    let broker = TestBroker::new();
    let reply = broker.exchange(&Token::github().sign(), &[("scope", "orders:read")]);
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(
        (reply.text("issued_token_type"), reply.text("token_type"), reply.text("scope")),
        (ACCESS_TOKEN, "Bearer", "orders:read")
    );
    assert_eq!(reply.json["expires_in"], 300);
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert_eq!(reply.headers["content-type"], "application/json");
    assert!(reply.json.get("refresh_token").is_none());

    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    let verifier = Verifier::new(STS, ORDERS, jwks.text.as_bytes()).unwrap();
    let token = verifier.verify(&reply.token(), NOW).unwrap();
    assert_eq!(token.claims().sub, "github:repo:acme/app:ref:refs/heads/main");
    assert_eq!(token.claims().client_id, token.claims().sub);
    assert_eq!(token.claims().task.id, token.claims().jti);
    assert_eq!((token.claims().origin.iss.as_str(), token.claims().origin.sub.as_str()), (GITHUB, MAIN));
    assert!(Verifier::new(STS, LEDGER, jwks.text.as_bytes()).unwrap().verify(&reply.token(), NOW).is_err());
    assert!(verifier.verify(&reply.token(), NOW + 331).is_err());
}

#[test]
fn each_malformed_request_is_explained_and_consumes_nothing() {
    let broker = TestBroker::new();
    let token = Token::github().sign();
    let form = |more: &[(&str, &str)]| broker.exchange(&token, more).refusal().into_owned();
    type Sent = &'static [(&'static str, &'static str)];
    let refused: &[(Sent, (u16, &str, &str))] = &[
        (&[("grant_type", "")], (400, "invalid_request", "grant_type_missing")),
        (&[("grant_type", "authorization_code")], (400, "unsupported_grant_type", "grant_type_unsupported")),
        (
            &[("grant_type", "URN:ietf:params:oauth:grant-type:token-exchange")],
            (400, "unsupported_grant_type", "grant_type_unsupported"),
        ),
        (&[("subject_token", "")], (400, "invalid_request", "subject_token_missing")),
        (&[("subject_token_type", "")], (400, "invalid_request", "subject_token_type_missing")),
        (
            &[("subject_token_type", "urn:ietf:params:oauth:token-type:saml2")],
            (400, "invalid_request", "subject_token_type_unsupported"),
        ),
        (
            &[("subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token")],
            (400, "invalid_request", "subject_token_type_unsupported"),
        ),
        (&[("subject_token_type", "jwt")], (400, "invalid_request", "subject_token_type_unsupported")),
        (
            &[("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")],
            (400, "invalid_request", "requested_token_type_unsupported"),
        ),
        (
            &[("requested_token_type", "urn:ietf:params:oauth:token-type:id_token")],
            (400, "invalid_request", "requested_token_type_unsupported"),
        ),
        (&[("requested_token_type", "x")], (400, "invalid_request", "requested_token_type_unsupported")),
        (&[("actor_token", "x")], (400, "invalid_request", "actor_token_incomplete")),
        (&[("actor_token_type", JWT)], (400, "invalid_request", "actor_token_incomplete")),
        (&[("actor_token", "x"), ("actor_token_type", JWT)], (400, "invalid_request", "actor_token_unsupported")),
        (&[("audience", "")], (400, "invalid_target", "target_missing")),
        (&[("resource", "/api")], (400, "invalid_target", "resource_malformed")),
        (&[("resource", "https://orders.test/v1#frag")], (400, "invalid_target", "resource_malformed")),
        (&[("audience", STS)], (400, "invalid_target", "target_refused")),
        (&[("audience", ORDERS), ("audience", LEDGER)], (400, "invalid_target", "target_refused")),
        (&[("audience", ORDERS), ("resource", "https://unknown.test/")], (400, "invalid_target", "target_refused")),
        (&[("scope", "orders:read  orders:write")], (400, "invalid_scope", "scope_malformed")),
        (&[("scope", "a\"b")], (400, "invalid_scope", "scope_malformed")),
        (&[("scope", "a\\b")], (400, "invalid_scope", "scope_malformed")),
        (&[("lifetime", "0")], (400, "invalid_request", "lifetime_malformed")),
        (&[("lifetime", "+5")], (400, "invalid_request", "lifetime_malformed")),
        (&[("lifetime", "99999999999")], (400, "invalid_request", "lifetime_malformed")),
        (&[("task_purpose", "x")], (400, "invalid_request", "task_not_opened")),
        (&[("task_anything", "")], (400, "invalid_request", "task_parameter_unknown")),
        (
            &[("authorization_details", "[]")],
            (400, "invalid_authorization_details", "authorization_details_unsupported"),
        ),
        (&[("client_secret", "x")], (400, "invalid_request", "client_id_missing")),
        (&[("client_secret", "x"), ("client_id", "nobody")], (401, "invalid_client", "client_refused")),
        (&[("client_assertion", "x")], (400, "invalid_request", "client_assertion_incomplete")),
        (&[("client_assertion_type", "x")], (400, "invalid_request", "client_assertion_incomplete")),
        (&[("client_id", "orders-api")], (401, "invalid_client", "client_refused")),
    ];
    for (more, expected) in refused {
        assert_eq!(form(more), (expected.0, expected.1.to_owned(), expected.2.to_owned()), "{more:?}");
    }
    // None of them used the assertion up.
    assert_eq!(broker.exchange(&token, &[]).status, 200);
}

trait IntoOwned {
    fn into_owned(self) -> (u16, String, String);
}

impl IntoOwned for (u16, &str, &str) {
    fn into_owned(self) -> (u16, String, String) {
        (self.0, self.1.to_owned(), self.2.to_owned())
    }
}

#[test]
fn unmodified_clients_are_understood() {
    let broker = TestBroker::new();
    let accepted: &[&[(&str, &str)]] = &[
        &[("scope", "")],
        &[("actor_token", ""), ("audience", ORDERS)],
        &[("unknown", "x"), ("Subject_Token", "y"), ("subject_token[]", "z")],
        &[("requested_token_type", ACCESS_TOKEN)],
        &[("requested_token_type", JWT)],
        &[("subject_token_type", ID_TOKEN)],
        &[("resource", "https://orders.test/v1")],
        &[("audience", ORDERS), ("audience", ORDERS), ("resource", "https://orders.test/v1")],
        &[("client_id", "some-public-client")],
    ];
    for more in accepted {
        let reply = broker.exchange(&Token::github().sign(), more);
        assert_eq!(
            (reply.status, reply.text("issued_token_type"), reply.text("scope")),
            (200, ACCESS_TOKEN, "orders:read"),
            "{more:?} {}",
            reply.text
        );
    }
    let charset = ("content-type", "Application/x-www-form-urlencoded; charset=UTF-8".to_owned());
    let token = Token::github().sign();
    let form =
        [("grant_type", GRANT), ("subject_token", token.as_str()), ("subject_token_type", JWT), ("audience", ORDERS)];
    assert_eq!(send_to(broker.address, "/token", &[charset], &form).status, 200);
}

#[test]
fn a_target_unknown_a_target_denied_and_a_workload_denied_are_one_answer() {
    let broker = TestBroker::new();
    let body = |reply: Reply| {
        let mut json = reply.json.clone();
        json["decision"] = json!("");
        (reply.status, json)
    };
    let unknown = body(broker.exchange(&Token::github().sign(), &[("audience", "https://unknown.test")]));
    let denied = body(broker.exchange(&Token::github().sign(), &[("audience", LEDGER)]));
    let stranger = Token::github()
        .claim("sub", json!("repo:acme/other:ref:refs/heads/main"))
        .claim("repository", json!("acme/other"));
    let workload = body(broker.exchange(&stranger.sign(), &[]));
    let scoped = body(broker.exchange(&stranger.claim("jti", json!("j")).sign(), &[("scope", "orders:read")]));
    let near_miss = body(broker.exchange(&Token::github().sign(), &[("audience", "https://orders.test/")]));
    let two = body(broker.exchange(&Token::github().sign(), &[("audience", ORDERS), ("audience", LEDGER)]));
    let aliases = body(
        broker.exchange(&Token::github().sign(), &[("audience", "https://a.test"), ("resource", "https://a.test/b")]),
    );
    assert_eq!(unknown, two);
    assert_eq!(unknown, aliases);
    assert_eq!(unknown, denied);
    assert_eq!(unknown, workload);
    assert_eq!(unknown, scoped);
    assert_eq!(unknown, near_miss);
    assert_eq!((unknown.0, unknown.1["error"].as_str()), (400, Some("invalid_target")));
}

#[test]
fn every_scope_asked_for_must_be_permitted() {
    let broker = TestBroker::new();
    for scope in
        ["orders:write", "orders:read orders:write", "orders:read orders:unknown", "orders:unknown", "Orders:read"]
    {
        let reply = broker.exchange(&Token::github().sign(), &[("scope", scope)]);
        assert_eq!(reply.refusal(), (400, "invalid_scope", "scope_refused"), "{scope}");
    }
    let both = broker.exchange(&Token::cluster().sign(), &[("scope", "orders:write orders:read orders:write")]);
    assert_eq!((both.status, both.text("scope")), (200, "orders:write orders:read"));
    let on_scopeless = broker.exchange(&Token::svid().sign(), &[("audience", LEDGER), ("scope", "x")]);
    assert_eq!(on_scopeless.refusal(), (400, "invalid_scope", "scope_refused"));
    let scopeless = broker.exchange(&Token::svid().sign(), &[("audience", LEDGER)]);
    assert_eq!((scopeless.status, scopeless.text("scope")), (200, ""));
    assert!(scopeless.json.get("scope").is_some());
}

#[test]
fn a_token_lives_no_longer_than_target_permit_request_and_assertion_allow() {
    let broker = TestBroker::new();
    let life = |token: &Token, more: &[(&str, &str)]| broker.exchange(&token.sign(), more).json["expires_in"].as_i64();
    assert_eq!(life(&Token::cluster(), &[]), Some(60), "the permit");
    assert_eq!(life(&Token::svid(), &[("audience", LEDGER)]), Some(120), "the target");
    assert_eq!(life(&Token::github(), &[]), Some(300), "the assertion");
    assert_eq!(life(&Token::github(), &[("lifetime", "7")]), Some(7), "the request");
    assert_eq!(life(&Token::github(), &[("lifetime", "9999")]), Some(300), "never more than the assertion");
    broker.clock.advance(299);
    assert_eq!(life(&Token::github(), &[]), Some(1));
    broker.clock.advance(1);
    let reply = broker.exchange(&Token::github().sign(), &[]);
    assert_eq!(reply.refusal(), (400, "invalid_request", "subject_token_expired"));
}

#[test]
fn g2_an_assertion_is_exchanged_once_where_its_issuer_says_so() {
    let broker = TestBroker::new();
    let token = Token::github();
    let (first, second) = (token.sign(), token.clone().claim("extra", json!(1)).sign());
    assert_eq!(broker.exchange(&first, &[]).status, 200);
    let replayed = broker.exchange(&first, &[]);
    assert_eq!(replayed.refusal(), (400, "invalid_request", "subject_token_replayed"));
    assert_eq!(broker.exchange(&second, &[]).refusal().2, "subject_token_replayed", "the jti counts, not the bytes");
    let same_jti_elsewhere = Token::cluster().claim("jti", token.claims["jti"].clone()).sign();
    assert_eq!(broker.exchange(&same_jti_elsewhere, &[]).status, 200, "per issuer");
    let later = token.clone().claim("exp", json!(NOW + 1_500)).sign();
    assert_eq!(broker.exchange(&later, &[]).refusal().2, "subject_token_replayed", "whatever its end");
    let reusable = Token::cluster().sign();
    assert_eq!((broker.exchange(&reusable, &[]).status, broker.exchange(&reusable, &[]).status), (200, 200));

    let strict = Setup::new().change("single_use = false", "single_use = true").start();
    let token = Token::cluster();
    assert_eq!(strict.exchange(&token.sign(), &[]).status, 200);
    // ES256 signatures differ each time; what is signed does not.
    assert_ne!(token.sign(), token.sign());
    assert_eq!(strict.exchange(&token.sign(), &[]).refusal().2, "subject_token_replayed");
    assert_eq!(strict.exchange(&token.claim("env", json!("prod ")).sign(), &[]).refusal().2, "target_refused");
}

#[test]
fn g1_of_a_hundred_at_once_one_is_first() {
    let broker = TestBroker::new();
    let token = Token::github().sign();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..100).map(|_| scope.spawn(|| broker.exchange(&token, &[]).status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 99);
}

#[test]
fn g6_first_use_outlives_a_restart_and_a_refusal_consumes_nothing() {
    let broker = TestBroker::new();
    let (used, refused) = (Token::github().sign(), Token::github().sign());
    assert_eq!(broker.exchange(&used, &[]).status, 200);
    for more in [("scope", "orders:write"), ("audience", LEDGER), ("audience", "https://unknown.test")] {
        assert_eq!(broker.exchange(&refused, &[more]).status, 400);
    }
    let broker = broker.restart();
    assert_eq!(broker.exchange(&used, &[]).refusal().2, "subject_token_replayed");
    assert_eq!(broker.exchange(&refused, &[]).status, 200);
}

#[test]
fn reserved_claims_come_from_the_broker_alone() {
    let broker = TestBroker::new();
    let mut token = Token::github();
    for (name, value) in [
        ("act", json!({"sub": "root"})),
        ("client_id", json!("admin")),
        ("scope", json!("admin")),
        ("task", json!({"id": "t"})),
        ("lineage", json!([])),
        ("pos", json!(9_999)),
        ("may_act", json!({"sub": "x"})),
        ("origin", json!({})),
    ] {
        token = token.claim(name, value);
    }
    let reply = broker.exchange(&token.sign(), &[]);
    let claims = claims(&reply.token());
    assert_eq!(
        (claims.get("act"), claims.get("cnf"), claims.get("may_act"), claims.get("lineage")),
        (None, None, None, None)
    );
    assert_eq!((claims["scope"].as_str(), claims["pos"].as_u64()), (Some("orders:read"), Some(0)));
    assert_ne!(claims["task"]["id"], "t");
}

fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn m1_no_answer_and_no_file_holds_a_token() {
    let broker = TestBroker::new();
    let good = Token::github().sign();
    let mut bad = good.clone();
    bad.pop();
    bad.push(if good.ends_with('A') { 'B' } else { 'A' });
    let issued = broker.exchange(&good, &[]);
    for reply in
        [broker.exchange(&bad, &[]), broker.exchange("eyJ.eyJ.x", &[]), broker.exchange(&good, &[("scope", "x")])]
    {
        assert_eq!(reply.status, 400);
        assert!(!holds_a_token(&reply.text), "{}", reply.text);
    }
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let kept = everything(&broker.path("data"));
    assert!(!kept.contains(&signature(&good)) && !kept.contains(&signature(&issued.token())) && !holds_a_token(&kept));
}

/// A broker without listeners, on a clock and an entropy of its own.
fn assembled(
    root: &std::path::Path,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> impl Fn(&str) -> Result<i64, Error> {
    let installation = countersign::app::Installation::read(&root.join("countersign.toml")).unwrap();
    let broker = countersign::http::block_on(installation.assemble(clock, entropy)).unwrap();
    move |token| {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("grant_type", GRANT),
                ("subject_token", token),
                ("subject_token_type", JWT),
                ("audience", ORDERS),
            ])
            .finish();
        let form = Form::decode(body.as_bytes(), FormBounds::default()).map_err(Error::from);
        let presented = Presented {
            form,
            credentials: None,
            unsupported: None,
            proofs: None,
            peer: [127, 0, 0, 1].into(),
            trace: None,
        };
        countersign::http::block_on(broker.broker.exchange(presented)).result.map(|issued| issued.expires_in())
    }
}

struct Failing(AtomicBool);

impl Entropy for Failing {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        if self.0.load(Ordering::SeqCst) { Err(NoEntropy) } else { SystemEntropy.fill(bytes) }
    }
}

#[test]
fn without_randomness_nothing_is_minted_and_nothing_is_used_up() {
    let root = Setup::new().write();
    let entropy = Arc::new(Failing(AtomicBool::new(false)));
    let exchange = assembled(root.path(), Arc::new(TestClock::new()), Arc::clone(&entropy) as _);
    let token = Token::github().sign();
    entropy.0.store(true, Ordering::SeqCst);
    let fault = exchange(&token).unwrap_err();
    assert_eq!((fault.wire().status, fault.wire().reason), (503, "entropy_unavailable"));
    entropy.0.store(false, Ordering::SeqCst);
    assert_eq!(exchange(&token), Ok(300));
}

/// Once armed, five minutes pass between the first look at it and the next.
struct Leaping(AtomicI64);

impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        let looks = self.0.load(Ordering::SeqCst);
        if looks > 0 {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
        Timestamp::new(if looks == 1 { NOW + 301 } else { NOW }).unwrap()
    }
}

#[test]
fn e11_nothing_that_expired_on_the_way_leaves() {
    let root = Setup::new().write();
    let clock = Arc::new(Leaping(AtomicI64::new(0)));
    let exchange = assembled(root.path(), Arc::clone(&clock) as _, Arc::new(SystemEntropy));
    let token = Token::github().sign();
    clock.0.store(2, Ordering::SeqCst);
    assert_eq!(exchange(&token).unwrap_err().wire().reason, "subject_token_expired");
    assert_eq!(clock.0.load(Ordering::SeqCst), 0, "looked at twice: at the start, and before it leaves");
    assert_eq!(exchange(&token), Ok(300));
}
