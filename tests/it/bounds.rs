//! Both sides of each bound, and the figures that an operator reads: what taking a check out would change and nothing else
//! shows.

use crate::issuer_keys::{discovered, token};
use crate::support::*;
use countersign::admin::{Change, OperatorId};
use countersign::assertion::{FetchError, Fetcher};
use countersign::domain::{Lifetime, Purpose, Timestamp};
use countersign::policy::Policy;
use countersign::revocation::Revocations;
use countersign::store::{About, Act, Embedded, Entry, RevocationLog};
use countersign_verify::revocation::{Kind, Named};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_document_is_read_up_to_its_bound_and_no_byte_more() {
    const MOST: usize = 256 * 1024;
    countersign::app::install_crypto();
    let fetch = |answer: Answer| {
        let upstream = Upstream::new(move |_| answer.clone());
        wait(Fetcher::new(true, None).unwrap().get(&upstream.url())).map(|(body, _)| body.len())
    };
    let sized = |length: usize| Answer { body: vec![b'x'; length], ..Answer::status(200) };
    assert_eq!(fetch(sized(MOST)), Ok(MOST));
    assert_eq!(fetch(sized(MOST + 1)), Err(FetchError::TooLarge));
    let chunked = |chunks: &[usize]| {
        let mut body = Vec::new();
        for length in chunks {
            body.extend_from_slice(format!("{length:x}\r\n").as_bytes());
            body.extend(std::iter::repeat_n(b'x', *length));
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        Answer { headers: "transfer-encoding: chunked\r\n".to_owned(), body, ..Answer::status(200) }
    };
    assert_eq!(fetch(chunked(&[MOST / 2, MOST / 2])), Ok(MOST));
    assert_eq!(fetch(chunked(&[MOST / 2, MOST / 2, 1])), Err(FetchError::TooLarge));
    let slow = Answer { delay: Duration::from_secs(30), ..Answer::status(200) };
    assert_eq!(fetch(slow), Err(FetchError::Timeout));

    let broker = TestBroker::new();
    let padded = |length: usize| {
        let mut text = keys().cluster.jwks().to_string();
        text.push_str(&" ".repeat(length - text.len()));
        broker.write("cluster.jwks", &text);
        broker.refresh("cluster").is_ok()
    };
    assert_eq!([padded(MOST), padded(MOST + 1)], [true, false]);
}

#[test]
fn plain_http_is_for_a_loopback_address_with_leave_and_nothing_else() {
    countersign::app::install_crypto();
    for (allow_private, url) in [
        (false, "http://127.0.0.1:1/"),
        (false, "http://idp.test/"),
        (true, "http://10.0.0.1/"),
        (true, "http://idp.test/"),
        (true, "http://localhost/"),
        (true, "ftp://127.0.0.1/"),
        (true, "x"),
    ] {
        let fetched = wait(Fetcher::new(allow_private, None).unwrap().get(url));
        assert_eq!(fetched.unwrap_err(), FetchError::NotHttps, "{url}");
    }
}

#[test]
fn an_unknown_kid_waits_a_whole_cooldown_and_no_longer() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let broker = discovered(&upstream).start();
    let unknown = |id: &str| broker.exchange(&token(&upstream).head("kid", json!(id)).sign(), &[]);
    assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
    unknown("first");
    let before = upstream.connections();
    broker.clock.advance(29);
    unknown("a");
    assert_eq!(upstream.connections(), before);
    broker.clock.advance(1);
    unknown("b");
    assert!(upstream.connections() > before);
}

#[test]
fn a_refresh_that_is_under_way_serves_whoever_waits_for_one() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let broker = discovered(&upstream).start();
    assert_eq!(broker.exchange(&token(&upstream).sign(), &[]).status, 200);
    broker.clock.advance(100);
    let (issuer, jwks) = (upstream.url(), keys().cluster.jwks());
    upstream.behave(move |path| {
        let document = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
        let body = if path.contains("well-known") { document } else { jwks.clone() };
        Answer { delay: Duration::from_millis(700), ..Answer::json(&body) }
    });
    let before = upstream.connections();
    std::thread::scope(|scope| {
        let refreshing = scope.spawn(|| broker.refresh("cluster").is_ok());
        while upstream.connections() == before {
            std::thread::sleep(Duration::from_millis(5));
        }
        let unknown = token(&upstream).head("kid", json!("new")).sign();
        assert_eq!(broker.exchange(&unknown, &[]).refusal().2, "subject_token_refused");
        assert!(refreshing.join().unwrap());
    });
    assert_eq!(upstream.connections() - before, 2, "one discovery and one key set for both");
}

#[test]
fn keys_that_could_not_be_read_are_asked_for_again_soon() {
    let upstream = Upstream::new(|_| Answer::status(500));
    let keys_at = format!("jwks_uri = \"{}/jwks\"\nallow_private_addresses = true", upstream.url());
    let broker = Setup::new().change("jwks_file = \"cluster.jwks\"", &keys_at).start();
    let failed = |times: usize| until("it has failed again", || upstream.connections() >= times);
    failed(1);
    // A quarter of the five minutes between two refreshes is enough for the next try, each time.
    for times in 2..5 {
        broker.clock.pass(76);
        failed(times);
    }
}

#[test]
fn the_leeway_of_a_start_ends_where_it_says() {
    let broker = TestBroker::new();
    let start = |ahead: i64| broker.exchange(&Token::github().claim("nbf", json!(NOW + ahead)).sign(), &[]).status;
    let leeway = countersign::assertion::LEEWAY;
    assert_eq!([start(leeway), start(leeway + 1)], [200, 400]);
    // A life of nothing at all is none, though it lies ahead.
    let at_once = Token::github().claim("nbf", json!(NOW)).claim("iat", json!(NOW + 20)).claim("exp", json!(NOW + 20));
    assert_eq!(broker.reason(&broker.exchange(&at_once.sign(), &[])), "lifetime_too_long");
    let ends = |ahead: i64| broker.exchange(&Token::github().claim("exp", json!(NOW + ahead)).sign(), &[]);
    assert_eq!(ends(1).status, 200);
    let over = ends(0);
    assert_eq!(over.text("reason"), "subject_token_expired");
    let expiry = broker.event(&over).checks.into_iter().find(|check| check.name == "expiry").unwrap();
    assert!(!expiry.holds());
}

#[test]
fn a_workload_named_by_claims_has_a_name_that_is_short_and_plain() {
    let setup = Setup::new().change("single_use = false\n", "single_use = false\nworkload = \"{team}\"\n");
    let policies = "@id(\"a\")\npermit (principal in Issuer::\"cluster\", action == Action::\"exchange\", resource == Target::\"https://orders.test\");";
    let broker = setup.policies(policies).start();
    let named = |team: Value| broker.exchange(&Token::cluster().claim("team", team).sign(), &[]);
    assert_eq!(named(json!("x".repeat(1_024))).status, 200);
    for team in [json!("x".repeat(1_025)), json!("a\u{7f}b"), json!("é"), json!("a\nb"), json!(1)] {
        assert_eq!(broker.reason(&named(team.clone())), "claim_malformed", "{team}");
    }
}

#[test]
fn the_id_of_a_policy_is_as_long_as_it_says() {
    let load = |length: usize| {
        let text = format!("@id(\"{}\")\npermit (principal, action, resource);", "x".repeat(length));
        Policy::from_texts(&records(), [("p.cedar".to_owned(), text.as_str())]).is_ok()
    };
    assert_eq!([load(0), load(1), load(128), load(129), load(200)], [false, true, true, false, false]);
}

#[test]
fn the_digest_of_policies_stands_for_their_text() {
    let digest =
        |text: &str| Policy::from_texts(&records(), [("p.cedar".to_owned(), text)]).unwrap().digest().to_owned();
    let (one, other) =
        ("@id(\"a\")\npermit (principal, action, resource);", "@id(\"b\")\npermit (principal, action, resource);");
    assert_eq!((digest(one).len(), digest(one) == digest(one)), (16, true));
    assert_ne!(digest(one), digest(other));
}

#[test]
fn what_is_over_leaves_the_view_when_it_has_doubled_and_not_a_day_early() {
    let root = tempfile::tempdir().unwrap();
    let now = Timestamp::new(NOW).unwrap();
    let log: Arc<dyn RevocationLog> = Arc::new(Embedded::open(root.path(), now).unwrap());
    let day = 86_400;
    wait(async {
        let revocations = Arc::new(Revocations::load(log, None, now).await.unwrap());
        let revoke = async |id: &str, until: i64| {
            let entry = Entry::new(Kind::Token, id, Act::Revoke, now.plus(until), About::default());
            revocations.enter(entry, now).await.unwrap();
        };
        revoke("over", -day - 61).await;
        revoke("over for a day", -day).await;
        for number in 0..1_022 {
            revoke(&format!("live {number}"), 60).await;
        }
        assert_eq!(revocations.count(), 1_024, "not before it has grown");
        revoke("one more", 60).await;
        assert_eq!(revocations.count(), 1_024);
        let is_revoked = |id: &str| revocations.hits(&[Named::new(Kind::Token, id, NOW)], 0);
        assert!(is_revoked("over for a day") && !is_revoked("over"));
        assert!(is_revoked("live 0") && is_revoked("one more"));
    });
}

#[test]
fn what_an_operator_revokes_unseen_is_kept_longer_than_any_token_lives() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let parsed = countersign_verify::jws::Compact::parse(&token).unwrap().header().clone();
    wait(async {
        let operator = &broker.operator;
        let id = "AAAAAAAAAAAAAAAAAAAAAA".to_owned();
        let change = Change { kind: Kind::Token, id, act: Act::Revoke, reason: None };
        operator.admin().change(&change, &OperatorId::own()).await.unwrap();
        operator.admin().revoke_key(&parsed.key_id.unwrap(), None, &OperatorId::own()).await.unwrap();
    });
    let figures = broker.operator.figures();
    assert_eq!((figures.revocations, figures.revocation_position), (2, 2));
    let ends = Lifetime::MAX_SECONDS + 1;
    let broker = broker.restart();
    broker.clock.advance(ends);
    let broker = broker.restart();
    assert_eq!(broker.operator.figures().revocations, 2, "still there when the longest token has ended");
}

#[test]
fn figures_are_of_what_is_there() {
    let broker = TestBroker::new();
    let figures = || broker.operator.figures();
    let before = figures();
    assert!(before.resident > 8 * 1024 * 1024, "{}", before.resident);
    broker.clock.advance(100);
    assert_eq!(figures().oldest_issuer_keys - before.oldest_issuer_keys, 100);
    assert_eq!(figures().oldest_signing_key - before.oldest_signing_key, 100);
    // One that is published and does not sign yet is not the oldest that signs.
    wait(async {
        broker
            .operator
            .admin()
            .rotate_key(Purpose::Tokens, countersign_verify::key::Algorithm::Es256, &OperatorId::own())
            .await
            .unwrap()
    });
    broker.clock.advance(100);
    assert_eq!(figures().oldest_signing_key - before.oldest_signing_key, 200);
}

#[test]
fn without_a_key_that_signs_nothing_can_be_minted_and_that_is_told() {
    let broker = Setup::new().change("workers = 2", "workers = 2\nmanagement = \"127.0.0.1:0\"").start();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let kid = countersign_verify::jws::Compact::parse(&token).unwrap().header().key_id.clone().unwrap();
    assert!(broker.operator.can_mint());
    std::fs::remove_dir_all(broker.path("keys")).unwrap();
    std::fs::write(broker.path("keys"), "no directory").unwrap();
    wait(async { drop(broker.operator.admin().revoke_key(&kid, None, &OperatorId::own()).await) });
    assert!(!broker.operator.can_mint());
    assert_eq!(
        broker.exchange(&Token::cluster().sign(), &[]).refusal(),
        (503, "temporarily_unavailable", "signing_unavailable")
    );
}

#[test]
fn names_of_several_targets_are_told_apart_from_an_unknown_one_for_the_operator() {
    let broker = TestBroker::new();
    let reason = |names: &[(&str, &str)]| broker.reason(&broker.exchange(&Token::github().sign(), names));
    assert_eq!(reason(&[("audience", ORDERS), ("audience", LEDGER)]), "several_targets");
    assert_eq!(reason(&[("audience", "https://a.test"), ("audience", "https://b.test")]), "several_targets");
    assert_eq!(reason(&[("audience", "https://a.test"), ("audience", "https://a.test")]), "target_unknown");
    // The scope that stands for a target is for clients that cannot name one, and for them alone.
    let form = [
        ("grant_type", GRANT),
        ("subject_token", "x"),
        ("subject_token_type", JWT),
        ("scope", "https://orders.test/.default"),
    ];
    assert_eq!(broker.post("/token", &form).refusal().2, "target_missing");
}

#[test]
fn the_bounds_of_assertions_are_those_of_clients_too() {
    let setup = Setup::new().change("workers = 2", "workers = 2\n[server.limits]\ntoken_bytes = 1024");
    let mut setup = setup;
    setup.config.push_str(
        "[[clients]]\nid = \"deployer\"\nissuer = \"cluster\"\nsubject = \"system:serviceaccount:prod:deployer\"\n",
    );
    let broker = setup.start();
    let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let ask = |assertion: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion", assertion),
            ("client_assertion_type", bearer),
            ("audience", ORDERS),
        ];
        broker.post("/token", &form)
    };
    let good = ask(&Token::cluster().claim("jti", json!("client-jti")).sign());
    assert_eq!(good.status, 200, "{}", good.text);
    assert_eq!(broker.event(&good).subject.unwrap().jti.as_deref(), Some("client-jti"));
    let long = ask(&Token::cluster().claim("pad", json!("x".repeat(1_024))).sign());
    assert_eq!(long.refusal(), (401, "invalid_client", "client_assertion_refused"));
    assert_eq!(broker.reason(&long), "token_malformed");
}

#[test]
fn what_a_client_sends_beside_its_credentials_is_read_whole() {
    let broker = TestBroker::new();
    let unreadable = [("authorization", "Basic ???".to_owned())];
    let reply = send_to(broker.address, "/introspect", &unreadable, &[("token", "x"), ("client_id", "orders-api")]);
    assert_eq!(reply.refusal(), (401, "invalid_client", "client_refused"));
    let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let form = [("token", "x"), ("client_id", "orders-api"), ("client_secret", "x"), ("client_assertion_type", bearer)];
    assert_eq!(broker.post("/introspect", &form).refusal(), (400, "invalid_request", "several_client_methods"));
}

#[test]
fn a_client_whose_keys_are_not_to_be_had_is_told_of_an_outage_and_of_no_fault() {
    let upstream = Upstream::new(|_| Answer::status(500));
    let mut setup = Setup::new().change("bundle_file", "# bundle_file");
    setup.config = setup.config.replace("# bundle_file", "bundle_file");
    setup.config.push_str("[[clients]]\nid = \"down\"\nissuer = \"away\"\nsubject = \"s\"\n[[issuers]]\nname = \"away\"\nkind = \"oidc\"\n");
    setup.config.push_str(&format!(
        "issuer = \"{}\"\naudiences = [\"{STS}\"]\nallow_private_addresses = true\n",
        upstream.url()
    ));
    let broker = setup.start();
    let assertion = Token::cluster().claim("iss", json!(upstream.url())).claim("sub", json!("s")).sign();
    let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let reply = broker
        .post("/introspect", &[("token", "x"), ("client_assertion", &assertion), ("client_assertion_type", bearer)]);
    assert_eq!(reply.refusal(), (503, "temporarily_unavailable", "issuer_keys_unavailable"));
}

#[test]
fn a_policy_file_is_read_up_to_its_bound() {
    const MOST: usize = 4 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let load = |length: usize| {
        let mut text = "@id(\"a\") permit (principal, action, resource);\n//".to_owned();
        text.push_str(&"x".repeat(length - text.len()));
        std::fs::write(folder.path().join("p.cedar"), text).unwrap();
        Policy::load(folder.path(), &records()).is_ok()
    };
    assert_eq!([load(MOST), load(MOST + 1)], [true, false]);
}

#[test]
fn claims_that_a_policy_reads_in_a_roundabout_way_are_there() {
    let whole = "{\"all\": principal.github}.all";
    let policy = format!(
        "@id(\"a\") permit (principal, action, resource == Target::\"https://orders.test\")\n\
         when {{ context.scope == \"orders:read\" && principal has github && {whole} has repository_id && {whole}.repository_id == \"74\" }};"
    );
    let broker = Setup::new().policies(&policy).start();
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200);
    assert_eq!(broker.exchange(&Token::github().claim("repository_id", json!("75")).sign(), &[]).status, 400);
}
