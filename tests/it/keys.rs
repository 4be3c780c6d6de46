//! Our own keys over time: abuse cases N1 to N6, N12 and N13, by number.

use crate::support::*;
use countersign::admin::{AdminError, OperatorId};
use countersign::domain::{Entropy, KeyState, PUBLISHED_BEFORE_USE, Purpose, SystemEntropy, Timestamp};
use countersign::http::block_on;
use countersign::signing::{Es256, KeyBackends, KeyFiles, KeyParts, Keys, Rotation, SigningKeysError};
use countersign::store::{Embedded, KeyRecords};
use countersign_verify::jws::Compact;
use countersign_verify::key::Algorithm;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

fn kid(token: &str) -> String {
    Compact::parse(token).unwrap().header().key_id.clone().unwrap()
}

fn published(broker: &TestBroker) -> Vec<String> {
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    jwks.json["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// A fresh token of the cluster, whose clock goes with the broker's.
fn mint(broker: &TestBroker) -> String {
    let now = countersign::domain::Clock::now(&broker.clock).seconds();
    broker.exchange(&Token::cluster().claim("iat", json!(now)).claim("exp", json!(now + 3_000)).sign(), &[]).token()
}

fn rotate(broker: &TestBroker) -> String {
    block_on(broker.operator.admin().rotate_key(Purpose::Tokens, Algorithm::Es256, &OperatorId::own())).unwrap().kid
}

fn active(broker: &TestBroker, token: &str) -> bool {
    broker.introspect("orders-api", token).json["active"] == true
}

#[test]
fn n1_a_key_is_published_as_long_as_anyone_keeps_a_set_before_it_signs() {
    let broker = TestBroker::new();
    let before = kid(&mint(&broker));
    let next = rotate(&broker);
    assert_eq!(rotate(&broker), next, "one that waits is the one");
    assert!(published(&broker).contains(&next), "published at once");
    broker.clock.advance(300);
    assert_eq!(kid(&mint(&broker)), before, "somebody may still hold the set from before");
    broker.clock.advance(PUBLISHED_BEFORE_USE - 300);
    assert_eq!(kid(&mint(&broker)), next);
    assert!(published(&broker).contains(&before));
}

/// The successor is stolen before it signs: what signs goes on, and the next one is published before it does.
#[test]
fn n1_a_published_key_that_is_revoked_leaves_its_predecessor_signing() {
    let broker = TestBroker::new();
    let signing = kid(&mint(&broker));
    let stolen = rotate(&broker);
    block_on(broker.operator.admin().revoke_key(&stolen, None, &OperatorId::own())).unwrap();
    for _ in 0..3 {
        broker.tend();
        assert_eq!(kid(&mint(&broker)), signing);
        broker.clock.advance(PUBLISHED_BEFORE_USE);
    }
    assert!(!published(&broker).contains(&stolen));
    let next = rotate(&broker);
    assert_eq!(kid(&mint(&broker)), signing);
    broker.clock.advance(PUBLISHED_BEFORE_USE);
    assert_eq!(kid(&mint(&broker)), next);
}

/// An algorithm that no target asks for any more: its key does not stay for ever.
#[test]
fn a_key_that_nobody_asks_for_retires_when_its_time_comes() {
    let broker = Setup::new().change("\"6h\"", "\"10m\"").start();
    let extra = block_on(broker.operator.admin().rotate_key(Purpose::Tokens, Algorithm::EdDsa, &OperatorId::own()))
        .unwrap()
        .kid;
    broker.tend();
    assert!(published(&broker).contains(&extra), "it may be for a target that is still to come");
    broker.clock.advance(30 * 86_400);
    broker.tend();
    broker.clock.advance(600 + 300);
    broker.tend();
    assert!(!published(&broker).contains(&extra));
    let wrong =
        block_on(broker.operator.admin().rotate_key(Purpose::Checkpoints, Algorithm::Rs256, &OperatorId::own()));
    assert!(matches!(wrong, Err(AdminError::Keys(SigningKeysError::Algorithm(..)))));
}

/// A key that is dropped while nothing can be made stays dropped, after a restart too.
#[test]
fn n5_a_key_that_was_revoked_while_the_directory_was_gone_does_not_come_back() {
    let broker = TestBroker::new();
    let stolen = kid(&mint(&broker));
    fs::rename(broker.path("keys"), broker.path("aside")).unwrap();
    assert!(
        block_on(broker.operator.admin().revoke_key(&stolen, None, &OperatorId::own())).is_err(),
        "another one cannot be made"
    );
    let broker = broker.restart_after(|root| fs::rename(root.join("aside"), root.join("keys")).unwrap());
    assert!(!published(&broker).contains(&stolen));
    assert_ne!(kid(&mint(&broker)), stolen);
    assert!(!names(&broker.path("keys")).iter().any(|name| name.contains(&stolen[..12])));
}

/// Keys in the files of `directory`.
fn parts(directory: &std::path::Path, records: Arc<dyn KeyRecords>) -> KeyParts {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let files = KeyFiles::new(directory, Arc::clone(&entropy));
    files.ensure().unwrap();
    KeyParts { backends: KeyBackends::one(Arc::new(files)), records, entropy, clock: Arc::new(TestClock::new()) }
}

/// Recorded before anything else is tried: whoever opens the keys next, whenever this broker dies, finds it dropped.
#[test]
fn n5_a_revoked_key_is_recorded_before_its_directory_is_looked_at() {
    let root = tempfile::tempdir().unwrap();
    let now = Timestamp::new(NOW).unwrap();
    let records: Arc<dyn KeyRecords> = Arc::new(Embedded::open(&root.path().join("data"), now).unwrap());
    block_on(async {
        let (directory, aside) = (root.path().join("keys"), root.path().join("aside"));
        let rotation = Rotation { every: None, algorithms: vec![Algorithm::Es256], longest: "5m".parse().unwrap() };
        let (keys, _) = Keys::open(parts(&directory, Arc::clone(&records)), rotation, now).await.unwrap();
        let stolen = keys.list().await.into_iter().find(|key| key.purpose == Purpose::Tokens).unwrap();
        fs::rename(&directory, &aside).unwrap();
        assert!(keys.revoke(&stolen.kid, now).await.is_err(), "another one cannot be made");
        let recorded = records.read().await.unwrap();
        let stolen = recorded.iter().find(|key| key.kid == stolen.kid).unwrap();
        assert_eq!(stolen.revoked, Some(now));
    });
}

#[test]
fn n2_a_key_stays_until_its_last_token_has_expired_and_then_goes() {
    let broker = Setup::new().change("\"6h\"", "\"10m\"").start();
    let old = kid(&mint(&broker));
    let next = rotate(&broker);
    broker.clock.advance(PUBLISHED_BEFORE_USE - 1);
    let last = mint(&broker);
    assert_eq!(kid(&last), old);
    broker.clock.advance(59);
    broker.tend();
    assert!(active(&broker, &last), "60 s by its permit: one of them is left");
    assert!(published(&broker).contains(&old));
    // The longest that any token for any target lives is ten minutes, and a margin.
    broker.clock.advance(600 + 300);
    broker.tend();
    assert!(!published(&broker).contains(&old));
    assert_eq!(kid(&mint(&broker)), next);
    let files: Vec<String> = names(&broker.path("keys"));
    assert!(!files.iter().any(|name| name.contains(&old[..12])), "its file is gone: {files:?}");
    let broker = broker.restart();
    assert_eq!(kid(&mint(&broker)), next, "and the restart has nothing to miss");
}

fn names(directory: &std::path::Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_key_rotates_by_itself_when_its_time_comes() {
    let broker = Setup::new()
        .change("\"6h\"", "\"10m\"")
        .change("directory = \"keys\"", "directory = \"keys\"\nrotate_every = \"1h\"")
        .start();
    let first = kid(&mint(&broker));
    broker.clock.advance(3_600 - PUBLISHED_BEFORE_USE - 1);
    broker.tend();
    assert_eq!(published(&broker).len(), 2, "one for tokens, one for introspection");
    broker.clock.advance(1);
    broker.tend();
    broker.tend();
    assert_eq!(published(&broker).len(), 4, "a successor for each, once");
    assert_eq!(kid(&mint(&broker)), first);
    broker.clock.advance(PUBLISHED_BEFORE_USE);
    let second = kid(&mint(&broker));
    assert_ne!(first, second);
    // A day on, in big steps: there is always one that signs, and the old ones are gone.
    for _ in 0..48 {
        broker.clock.advance(1_800);
        broker.tend();
        mint(&broker);
    }
    assert!(published(&broker).len() <= 6, "{:?}", published(&broker));
    let states = block_on(broker.operator.admin().keys());
    let signing = states.iter().filter(|(key, state)| key.purpose == Purpose::Tokens && *state == KeyState::Active);
    assert_eq!(signing.count(), 1);
}

#[test]
fn n3_a_kid_is_a_thumbprint_and_a_key_that_was_dropped_never_comes_back() {
    let broker = TestBroker::new();
    let old = kid(&mint(&broker));
    let file = names(&broker.path("keys")).into_iter().find(|name| name.contains(&old[..12])).unwrap();
    let pem = fs::read(broker.path("keys").join(&file)).unwrap();
    block_on(broker.operator.admin().revoke_key(&old, None, &OperatorId::own())).unwrap();
    let broker = broker.restart_after(|root| {
        let back = root.join("keys/put-back.pem");
        fs::write(&back, &pem).unwrap();
        fs::set_permissions(&back, fs::Permissions::from_mode(0o600)).unwrap();
    });
    assert!(!published(&broker).contains(&old));
    assert_ne!(kid(&mint(&broker)), old);
    assert!(!names(&broker.path("keys")).contains(&"put-back.pem".to_owned()));
}

#[test]
fn n4_nothing_that_is_published_is_private() {
    let broker = Setup::new().change("max_lifetime = \"2m\"", "max_lifetime = \"2m\"\nalgorithm = \"RS256\"").start();
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    for key in jwks.json["keys"].as_array().unwrap() {
        for private in ["d", "p", "q", "dp", "dq", "qi", "k", "oth"] {
            assert!(key.get(private).is_none(), "{private}");
        }
    }
}

#[test]
fn n5_a_compromised_key_is_gone_at_once_and_everything_below_its_tokens_is_dead() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let onward = |token: &str| {
        let form = [
            ("grant_type", GRANT),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", LEDGER),
        ];
        broker.post_as("orders-api", "/token", &form)
    };
    let below = onward(&token).token();
    let compromised = kid(&token);
    assert!(active(&broker, &token));
    assert_eq!(broker.introspect("ledger-api", &below).json["active"], true);
    let revoked = block_on(broker.operator.admin().revoke_key(&compromised, None, &OperatorId::own())).unwrap();
    assert_eq!(revoked.kid, compromised);
    assert!(!published(&broker).contains(&compromised));
    assert_eq!(broker.introspect("orders-api", &token).text, "{\"active\":false}");
    assert_eq!(broker.introspect("ledger-api", &below).text, "{\"active\":false}");
    assert_eq!(onward(&token).refusal(), (400, "invalid_request", "subject_token_refused"));
    assert_eq!(onward(&below).status, 400);
    let fresh = broker.exchange(&Token::github().sign(), &[]).token();
    assert_ne!(kid(&fresh), compromised);
    assert!(active(&broker, &fresh), "another one signs at once");
    // Below a token of the new key, from one of the old one, too: the lineage names keys.
    let broker = broker.restart();
    assert_eq!(broker.introspect("ledger-api", &below).json["active"], false);
    assert!(!active(&broker, &token));
    let twice = block_on(broker.operator.admin().revoke_key(&compromised, None, &OperatorId::own())).unwrap();
    assert_eq!(twice.revoked, revoked.revoked, "asking again is safe");
    assert!(matches!(
        block_on(broker.operator.admin().revoke_key("nobody", None, &OperatorId::own())),
        Err(AdminError::Keys(SigningKeysError::Unknown(_)))
    ));
}

#[test]
fn n5_a_child_of_another_key_dies_with_the_key_above_it() {
    let broker = TestBroker::new();
    let now = NOW + PUBLISHED_BEFORE_USE - 1;
    rotate(&broker);
    broker.clock.advance(PUBLISHED_BEFORE_USE - 1);
    let assertion = Token::github().claim("iat", json!(now)).claim("exp", json!(now + 300)).sign();
    let token = broker.exchange(&assertion, &[]).token();
    broker.clock.advance(1);
    let onward = [
        ("grant_type", GRANT),
        ("subject_token", token.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
        ("audience", LEDGER),
    ];
    let below = broker.post_as("orders-api", "/token", &onward).token();
    assert_ne!(kid(&token), kid(&below), "the successor signed it");
    assert_eq!(broker.introspect("ledger-api", &below).json["active"], true);
    block_on(broker.operator.admin().revoke_key(&kid(&token), None, &OperatorId::own())).unwrap();
    assert_eq!(broker.introspect("ledger-api", &below).json["active"], false);
}

/// N6 on one replica: a key that the records do not know never signs, and one that they know and that is missing stops the
/// start.
#[test]
fn n6_what_the_records_know_has_to_be_there_and_what_they_do_not_waits() {
    let broker = TestBroker::new();
    let first = kid(&mint(&broker));
    let pem = Es256::generate(&[7; 32].into()).unwrap();
    let pem = pem.to_pem("PRIVATE KEY", p256::pkcs8::der::pem::LineEnding::LF).unwrap();
    let imported = |root: &std::path::Path| {
        let path = root.join("keys/imported.pem");
        fs::write(&path, pem.as_bytes()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let broker = broker.restart_after(imported);
    assert_eq!(published(&broker).len(), 3);
    assert_eq!(kid(&mint(&broker)), first, "published, and not signing yet");
    broker.clock.advance(PUBLISHED_BEFORE_USE);
    assert_ne!(kid(&mint(&broker)), first);
    let directory = broker.path("keys");
    let root = broker.root.path().to_owned();
    let file = names(&directory).into_iter().find(|name| name.contains(&first[..12])).unwrap();
    let aside = tempfile::tempdir().unwrap();
    let clock = broker.clock.clone();
    fs::rename(directory.join(&file), aside.path().join("key.pem")).unwrap();
    let kept = tempfile::tempdir().unwrap();
    assert!(std::process::Command::new("cp").arg("-a").arg(&root).arg(kept.path()).status().unwrap().success());
    drop(broker);
    let copy = kept.path().join(root.file_name().unwrap());
    let installation = countersign::app::Installation::read(&copy.join("countersign.toml")).unwrap();
    let started = block_on(installation.assemble(Arc::new(clock), Arc::new(SystemEntropy)));
    let message = started.err().unwrap().to_string();
    assert!(message.contains(&first) && message.contains("backup"), "{message}");
}

#[test]
fn n12_each_purpose_has_a_key_of_its_own() {
    let broker = TestBroker::new();
    let keys = block_on(broker.operator.admin().keys());
    let of =
        |purpose| keys.iter().filter(|(key, _)| key.purpose == purpose).map(|(key, _)| &key.kid).collect::<Vec<_>>();
    let all: Vec<_> = Purpose::ALL.into_iter().map(of).collect();
    assert!(all.iter().all(|kids| kids.len() == 1), "{all:?}");
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    assert!(!published(&broker).contains(all[1][0]), "what seals the audit log is nobody else's business");
    // A token that the key of introspection signed is no access token.
    let signed = send_to(
        broker.address,
        "/introspect",
        &[("authorization", basic("orders-api")), ("accept", "application/token-introspection+jwt".to_owned())],
        &[("token", "x")],
    );
    assert_eq!(signed.headers["content-type"], "application/token-introspection+jwt");
    assert_eq!(broker.introspect("orders-api", &signed.text).json["active"], false);
    assert_eq!(&kid(&signed.text), all[2][0]);
}

/// RFC 9701: the answer is signed for the one who asks, and says what the plain one says.
#[test]
fn a_signed_answer_says_what_the_plain_one_says() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let ask = |token: &str| {
        let accept = ("accept", "application/token-introspection+jwt".to_owned());
        send_to(broker.address, "/introspect", &[("authorization", basic("orders-api")), accept], &[("token", token)])
    };
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    let read = |jwt: &str| {
        let key = jwks.json["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid(jwt)).unwrap();
        let key = josekit::jwk::Jwk::from_bytes(key.to_string()).unwrap();
        let verifier = josekit::jws::ES256.verifier_from_jwk(&key).unwrap();
        let (payload, header) = josekit::jwt::decode_with_verifier(jwt, &verifier).unwrap();
        assert_eq!(header.token_type(), Some("token-introspection+jwt"));
        serde_json::to_value(payload.claims_set()).unwrap()
    };
    let answer = read(&ask(&token).text);
    assert_eq!((&answer["iss"], &answer["aud"]), (&json!(STS), &json!("orders-api")));
    assert_eq!(answer["token_introspection"], broker.introspect("orders-api", &token).json);
    assert_eq!(read(&ask("x").text)["token_introspection"], json!({"active": false}));
}

/// N13: a key that cannot sign is 503, and no other one is tried.
#[test]
fn n13_where_no_key_can_sign_the_answer_is_503() {
    let broker = TestBroker::new();
    let keys = block_on(broker.operator.admin().keys());
    let token = keys.iter().find(|(key, _)| key.purpose == Purpose::Tokens).unwrap().0.kid.clone();
    fs::remove_dir_all(broker.path("keys")).unwrap();
    // Its successor cannot be made: the directory is gone. It is dropped all the same.
    assert!(block_on(broker.operator.admin().revoke_key(&token, None, &OperatorId::own())).is_err());
    assert!(!published(&broker).contains(&token));
    let assertion = Token::github().sign();
    let refused = broker.exchange(&assertion, &[]);
    assert_eq!(refused.refusal(), (503, "temporarily_unavailable", "signing_unavailable"));
    assert!(refused.asks_to_retry());
    fs::create_dir(broker.path("keys")).unwrap();
    fs::set_permissions(broker.path("keys"), fs::Permissions::from_mode(0o700)).unwrap();
    broker.tend();
    assert_eq!(broker.exchange(&assertion, &[]).status, 200, "nothing was used up, and it goes on by itself");
}

#[test]
fn a_longer_lifetime_keeps_the_key_for_longer() {
    let root = tempfile::tempdir().unwrap();
    let now = Timestamp::new(NOW).unwrap();
    let records: Arc<dyn KeyRecords> = Arc::new(Embedded::open(&root.path().join("data"), now).unwrap());
    let rotation =
        |longest: &str| Rotation { every: None, algorithms: vec![Algorithm::Es256], longest: longest.parse().unwrap() };
    block_on(async {
        let directory = root.path().join("keys");
        let (keys, _) = Keys::open(parts(&directory, records), rotation("5m"), now).await.unwrap();
        let first = keys.list().await.into_iter().find(|key| key.purpose == Purpose::Tokens).unwrap();
        keys.follow(rotation("2h"), now).await.unwrap();
        keys.follow(rotation("5m"), now).await.unwrap();
        keys.rotate(Purpose::Tokens, Algorithm::Es256, now).await.unwrap();
        let hours = now.plus(PUBLISHED_BEFORE_USE + 7_200);
        keys.tend(hours).await.unwrap();
        assert!(keys.list().await.iter().any(|key| key.kid == first.kid && key.state(hours) == KeyState::Retiring));
        assert!(keys.ring().verifying().has(&first.kid));
        let later = hours.plus(300);
        keys.tend(later).await.unwrap();
        assert!(!keys.ring().verifying().has(&first.kid));
    });
}
