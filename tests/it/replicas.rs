//! Several brokers on one shared store: what one of them gives, uses up or takes back holds for all. Abuse cases G1, H1 to H3
//! and N1 to N6 on three replicas, by number.

use crate::cli::{err, out, run};
use crate::support::redis::{PLAIN, STRICT, Server};
use crate::support::*;
use countersign::domain::PUBLISHED_BEFORE_USE;
use countersign_verify::jws::Compact;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::PathBuf;

/// `[store.redis]` for `urls`, and what more is asked of it.
pub fn redis_section(urls: &[String], more: &str) -> String {
    let urls: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    format!("kind = \"redis\"\npath = \"data\"\n[store.redis]\nurls = [{}]\n{more}", urls.join(", "))
}

/// A configuration on a shared store, with the keys in a folder that all share.
pub fn on_redis(keys: &TempKeys, urls: &[String], more: &str) -> Setup {
    Setup::new()
        .policies(POLICIES)
        .change("kind = \"embedded\"\npath = \"data\"", &redis_section(urls, more))
        .change("directory = \"keys\"", &format!("directory = \"{}\"", keys.path().display()))
}

/// The folder of the keys, which outlives each replica.
pub struct TempKeys(tempfile::TempDir);

impl TempKeys {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("keys")
    }
}

/// Replicas behind one clock.
pub struct Replicas {
    pub all: Vec<TestBroker>,
    pub clock: TestClock,
    _keys: TempKeys,
}

impl Replicas {
    pub fn start(count: usize, urls: &[String], more: &str) -> Self {
        Self::with(count, urls, more, |setup| setup)
    }

    pub fn with(count: usize, urls: &[String], more: &str, change: impl Fn(Setup) -> Setup) -> Self {
        Self::at(TestClock::new(), count, urls, more, change)
    }

    /// On the machine's clock.
    pub fn real(count: usize, urls: &[String]) -> Self {
        Self::at(TestClock::real(), count, urls, "", |setup| setup)
    }

    fn at(clock: TestClock, count: usize, urls: &[String], more: &str, change: impl Fn(Setup) -> Setup) -> Self {
        let keys = TempKeys::new();
        let one = || TestBroker::start(change(on_redis(&keys, urls, more)).write(), clock.clone());
        Self { all: (0..count).map(|_| one()).collect(), clock, _keys: keys }
    }

    /// Whether every replica says that `token` is dead.
    pub fn refuse(&self, token: &str) -> bool {
        self.all.iter().all(|broker| broker.introspect("orders-api", token).text == "{\"active\":false}")
    }

    pub fn accept(&self, token: &str) -> bool {
        self.all.iter().all(|broker| broker.introspect("orders-api", token).json["active"] == true)
    }
}

const POLICIES: &str = r#"
@id("orders-from-cluster")
permit (principal in Issuer::"cluster", action == Action::"exchange", resource == Target::"https://orders.test");

@id("orders-from-main")
permit (principal in Issuer::"github", action == Action::"exchange", resource == Target::"https://orders.test");

@id("open")
permit (principal, action == Action::"open_task", resource == Target::"https://sts.test");
"#;

/// Whose tokens [`mint`] gives.
const WORKLOAD: &str = "cluster:system:serviceaccount:prod:deployer";

fn kid(token: &str) -> String {
    Compact::parse(token).unwrap().header().key_id.clone().unwrap()
}

fn mint(broker: &TestBroker, clock: &TestClock) -> String {
    let now = countersign::domain::Clock::now(clock).seconds();
    broker.exchange(&Token::cluster().claim("iat", json!(now)).claim("exp", json!(now + 3_000)).sign(), &[]).token()
}

fn published(broker: &TestBroker) -> HashSet<String> {
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    jwks.json["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn told(broker: &TestBroker, arguments: &[&str]) -> Value {
    let output = run(broker.root.path(), &[arguments, &["--json"]].concat(), "");
    assert!(output.status.success(), "{arguments:?}: {}{}", out(&output), err(&output));
    serde_json::from_str(&out(&output)).unwrap()
}

fn revoke(broker: &TestBroker, token: &str) -> Reply {
    broker.post("/revoke", &[("token", token)])
}

#[test]
fn h1_a_token_that_any_replica_revokes_is_dead_on_all_within_milliseconds() {
    let server = Server::start(STRICT);
    let replicas = Replicas::start(3, &[server.url()], "");
    for round in 0..20 {
        let [giver, taker] = [round % 3, (round + 1) % 3].map(|place: usize| &replicas.all[place]);
        let token = giver.exchange(&Token::github().claim("jti", json!(format!("h1-{round}"))).sign(), &[]).token();
        assert!(replicas.accept(&token), "minted by one, known to all");
        assert_eq!(revoke(taker, &token).status, 200);
        assert_eq!(taker.introspect("orders-api", &token).json["active"], false, "at once where it was revoked");
        until("it is dead on all", || replicas.refuse(&token));
    }
}

#[test]
fn g1_of_a_hundred_at_once_on_three_replicas_one_is_exchanged() {
    let server = Server::start(PLAIN);
    let replicas = Replicas::start(3, &[server.url()], "durability = \"memory\"");
    let assertion = Token::github().sign();
    let answers: Vec<Reply> = std::thread::scope(|scope| {
        let each: Vec<_> = (0..100)
            .map(|number| {
                let (broker, assertion) = (&replicas.all[number % 3], &assertion);
                scope.spawn(move || broker.exchange(assertion, &[]))
            })
            .collect();
        each.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|reply| reply.status == 200).count(), 1);
    let others = answers.iter().filter(|reply| reply.status != 200);
    assert!(others.clone().all(|reply| reply.refusal().2 == "subject_token_replayed"), "{:?}", answers[0]);
    // And a replica that is started anew knows it too.
    let Replicas { mut all, .. } = replicas;
    let again = all.remove(0).restart();
    assert_eq!(again.exchange(&assertion, &[]).refusal().2, "subject_token_replayed");
}

#[test]
fn g1_a_task_is_one_on_every_replica_whatever_its_budget() {
    let server = Server::start(STRICT);
    let replicas = Replicas::start(3, &[server.url()], "");
    let post = |broker: &TestBroker, form: &[(&str, &str)]| {
        let headers = [("dpop", proof(&keys().ed, "/token").sign())];
        send_to(broker.address, "/token", &headers, form)
    };
    let assertion = Token::github().sign();
    let opened = [
        ("grant_type", GRANT),
        ("subject_token", &assertion),
        ("subject_token_type", JWT),
        ("audience", STS),
        ("task_budget", "10"),
    ];
    let task = post(&replicas.all[0], &opened).token();
    let form =
        [("grant_type", GRANT), ("subject_token", &task), ("subject_token_type", ACCESS_TOKEN), ("audience", ORDERS)];
    let answers: Vec<Reply> = std::thread::scope(|scope| {
        let each: Vec<_> = (0..30)
            .map(|number| {
                let broker = &replicas.all[number % 3];
                scope.spawn(move || post(broker, &form))
            })
            .collect();
        each.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (given, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|reply| reply.status == 200);
    assert_eq!(given.len(), 10);
    assert!(refused.iter().all(|reply| reply.refusal().2 == "task_budget_spent"), "{:?}", refused[0]);
    let listed = told(&replicas.all[2], &["task", "list"]);
    assert_eq!((&listed[0]["used"], &listed[0]["state"]), (&json!(10), &json!("open")));
    assert!(replicas.accept(&given[0].token()));
    // Ended by another one than those that opened and used it.
    told(&replicas.all[1], &["task", "end", listed[0]["id"].as_str().unwrap(), "--reason", "INC-8"]);
    assert_eq!(told(&replicas.all[2], &["revocations"])[0]["reason"], "INC-8");
    until("all of its tokens are dead, everywhere", || given.iter().all(|reply| replicas.refuse(&reply.token())));
}

#[test]
fn h18_a_suspension_and_a_revocation_by_an_operator_hold_on_every_replica() {
    let server = Server::start(STRICT);
    let replicas = Replicas::start(3, &[server.url()], "");
    let token = mint(&replicas.all[0], &replicas.clock);
    told(&replicas.all[1], &["suspend", "--workload", WORKLOAD, "--reason", "INC-1"]);
    until("the suspension is known", || replicas.refuse(&token));
    for broker in &replicas.all {
        assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).status, 400, "nothing new either");
    }
    told(&replicas.all[2], &["resume", "--workload", WORKLOAD]);
    until("all go on", || {
        replicas.all.iter().all(|broker| broker.exchange(&Token::cluster().sign(), &[]).status == 200)
    });
    assert!(replicas.refuse(&token), "what was issued before stays dead");
    let records = told(&replicas.all[0], &["revocations"]);
    assert_eq!(records[0]["reason"], "INC-1");
}

#[test]
fn n1_n2_n5_keys_are_one_line_on_three_replicas() {
    let server = Server::start(STRICT);
    let replicas = Replicas::with(3, &[server.url()], "", |setup| setup.change("\"6h\"", "\"10m\""));
    let clock = &replicas.clock;
    let first = kid(&mint(&replicas.all[0], clock));
    let everywhere = |kid: &str| replicas.all.iter().all(|broker| published(broker).contains(kid));
    let nowhere = |kid: &str| replicas.all.iter().all(|broker| !published(broker).contains(kid));
    assert!(replicas.all.iter().all(|broker| kid(&mint(broker, clock)) == first), "made once, by one of them");
    // N1: published everywhere before it signs anywhere.
    let next = told(&replicas.all[1], &["keys", "rotate"])["kid"].as_str().unwrap().to_owned();
    until("all publish it", || everywhere(&next));
    assert!(replicas.all.iter().all(|broker| kid(&mint(broker, clock)) == first));
    clock.advance(PUBLISHED_BEFORE_USE);
    until("all sign with it", || replicas.all.iter().all(|broker| kid(&mint(broker, clock)) == next));
    // N2: the old one stays as long as its last token, and then goes, once.
    assert!(everywhere(&first));
    clock.advance(600 + 300);
    until("the old one is gone", || nowhere(&first));
    assert_eq!(
        std::fs::read_dir(replicas._keys.path())
            .unwrap()
            .flatten()
            .filter(|file| {
                let name = file.file_name().into_string().unwrap();
                name.ends_with(".pem") && name.starts_with("tokens-")
            })
            .count(),
        1
    );
    // N5: dropped by one, gone from all within the bound of a revocation, with everything that it signed.
    let token = mint(&replicas.all[0], clock);
    assert!(replicas.accept(&token));
    told(&replicas.all[2], &["keys", "revoke", &next, "--reason", "INC-7"]);
    until("the key is gone from all", || replicas.refuse(&token) && nowhere(&next));
    let records = told(&replicas.all[0], &["revocations"]);
    let of_key = records.as_array().unwrap().iter().find(|record| record["kind"] == "key").unwrap();
    assert_eq!((&of_key["id"], &of_key["reason"]), (&json!(next), &json!("INC-7")), "kept, and known to all");
    let fresh: HashSet<String> = replicas.all.iter().map(|broker| kid(&mint(broker, clock))).collect();
    assert_eq!(fresh.len(), 1, "one other signs on all of them");
    assert!(!fresh.contains(&next));
}

/// N1: a replica that is ready and has not seen a key yet holds it back; N6: one that cannot have its file is not ready.
#[test]
fn n1_n6_a_key_that_not_every_replica_has_does_not_sign() {
    let server = Server::start(STRICT);
    let (keys, clock) = (TempKeys::new(), TestClock::new());
    let one = on_redis(&keys, &[server.url()], "");
    let here = TestBroker::start(one.write(), clock.clone());
    let first = kid(&mint(&here, &clock));
    // Another one, whose folder of keys is a copy that does not follow.
    let copy = TempKeys::new();
    let copied = std::process::Command::new("cp").arg("-a").arg(keys.path()).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let listening = "listen = \"127.0.0.1:0\"";
    let managed =
        on_redis(&copy, &[server.url()], "").change(listening, &format!("{listening}\nmanagement = \"127.0.0.1:0\""));
    let there = TestBroker::start(managed.write(), clock.clone());
    let next = told(&here, &["keys", "rotate"])["kid"].as_str().unwrap().to_owned();
    // The replicas tell the store once a second which keys they have, by the clock of its server.
    for _ in 0..4 {
        std::thread::sleep(std::time::Duration::from_millis(1_200));
        clock.advance(PUBLISHED_BEFORE_USE - 60);
    }
    assert_eq!(kid(&mint(&here, &clock)), first, "it waits for the other one");
    assert!(!published(&there).contains(&next));
    assert!(!there.operator.can_mint(), "and the other one is not ready");
    drop(there);
    // It counts for ten seconds more, by the clock of the server, which nobody can advance.
    clock.advance(PUBLISHED_BEFORE_USE);
    until("it signs now", || kid(&mint(&here, &clock)) == next);
}

/// N6: what a key has signed that a replica lacks is not known to it, and it says so rather than that it is dead.
#[test]
fn n6_a_replica_that_lacks_the_key_of_a_token_says_that_it_does_not_know() {
    let server = Server::start(STRICT);
    let (keys, copy, clock) = (TempKeys::new(), TempKeys::new(), TestClock::new());
    let here = TestBroker::start(on_redis(&keys, &[server.url()], "").write(), clock.clone());
    let old = mint(&here, &clock);
    let copied = std::process::Command::new("cp").arg("-a").arg(keys.path()).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let there = TestBroker::start(on_redis(&copy, &[server.url()], "").write(), clock.clone());
    assert_eq!(there.introspect("orders-api", &old).json["active"], true);
    // Compromised: another one signs at once, and nobody waits until all have it.
    told(&here, &["keys", "revoke", &kid(&old)]);
    let token = mint(&here, &clock);
    assert_eq!(here.introspect("orders-api", &token).json["active"], true);
    until("there it is known that one is lacking", || there.introspect("orders-api", &token).status == 503);
    let told = there.introspect("orders-api", &token);
    assert_eq!((told.refusal().2, told.asks_to_retry()), ("store_unavailable", true), "{}", told.text);
    assert_eq!(there.introspect("orders-api", &old).status, 503, "nor of any other whose key it does not have");
}

#[test]
fn a_replica_that_starts_knows_what_was_revoked_before_and_a_token_of_one_that_is_ahead_is_waited_for() {
    let server = Server::start(STRICT);
    let replicas = Replicas::start(2, &[server.url()], "");
    let tokens: Vec<String> = (0..50).map(|_| mint(&replicas.all[0], &replicas.clock)).collect();
    for token in &tokens[..25] {
        assert_eq!(revoke(&replicas.all[1], token).status, 200);
    }
    let Replicas { mut all, .. } = replicas;
    let started = all.remove(1).restart();
    for (place, token) in tokens.iter().enumerate() {
        assert_eq!(started.introspect("orders-api", token).json["active"], place >= 25);
    }
    // Each new token of the one carries the position of the latest revocation, of which the other hears a moment later.
    for token in &tokens[25..] {
        assert_eq!(revoke(&all[0], token).status, 200);
        let fresh = all[0].exchange(&Token::cluster().sign(), &[]).token();
        assert_eq!(started.introspect("orders-api", &fresh).json["active"], true);
    }
}
