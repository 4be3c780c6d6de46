//! The audit log: one event on every exit, a chain that shows what was done to it, and decisions that can be made again.

use crate::support::*;
use countersign::audit::{self, AuditError, AuditLog, Broken, Event, Keeping, Opening, Outcome};
use countersign::domain::{DigestKey, Timestamp};
use countersign::policy::Policy;
use countersign::store::Embedded;
use std::fs;
use std::path::Path;
use std::sync::Arc;

#[test]
fn every_exchange_leaves_one_event_whatever_its_end() {
    let broker = TestBroker::new();
    let good = Token::github().sign();
    let replies = [
        (broker.exchange(&good, &[]), Outcome::Granted),
        (broker.exchange(&good, &[]), Outcome::Refused),
        (broker.exchange("x", &[]), Outcome::Refused),
        (broker.exchange(&good, &[("grant_type", "x")]), Outcome::Refused),
        (broker.exchange(&Token::github().sign(), &[("audience", LEDGER)]), Outcome::Refused),
        (broker.post("/token", &[]), Outcome::Refused),
        (send_to(broker.address, "/token", &[("content-type", "application/json".to_owned())], &[]), Outcome::Refused),
        (broker.post_as("orders-api", "/token", &[("grant_type", "x")]), Outcome::Refused),
    ];
    for (index, (reply, outcome)) in replies.iter().enumerate() {
        assert_eq!(broker.event(reply).outcome, *outcome, "{index}: {}", reply.text);
        assert_eq!(
            reply.text("decision"),
            if reply.status == 200 { "" } else { &reply.headers["countersign-decision"] }
        );
    }
    assert_eq!(broker.events(), 8);
    let granted = broker.event(&replies[0].0);
    assert_eq!(granted.subject.unwrap().sub, MAIN);
    assert!(granted.checks.iter().all(audit::Check::holds) && granted.checks.len() >= 14);
    let names: Vec<_> = granted.checks.iter().map(|check| check.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "envelope",
            "issuer",
            "declared type",
            "algorithm",
            "key",
            "signature",
            "typ",
            "audience",
            "expiry",
            "start",
            "lifetime",
            "accept",
            "target",
            "policy",
            "first use",
        ]
    );
    assert_eq!(broker.event(&replies[1].0).checks.last().unwrap().name, "first use");
    assert_eq!(broker.reason(&replies[4].0), "target_denied");
    assert_eq!(
        broker.reason(&broker.exchange(&Token::github().sign(), &[("audience", "https://x.test")])),
        "target_unknown"
    );
}

#[test]
fn a_caller_that_goes_away_leaves_its_event() {
    let upstream = Upstream::new(|_| Answer { delay: std::time::Duration::from_secs(2), ..Answer::status(200) });
    let keys = format!("issuer = \"{}\"\nallow_private_addresses = true", upstream.url());
    let broker = Setup::new()
        .change("jwks_file = \"cluster.jwks\"\n", "")
        .change("issuer = \"https://cluster.test\"", &keys)
        .start();
    let token = Token::cluster().claim("iss", serde_json::json!(upstream.url())).sign();
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("grant_type", GRANT),
            ("subject_token", &token),
            ("subject_token_type", JWT),
            ("audience", ORDERS),
        ])
        .finish();
    let request = format!(
        "POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(broker.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
    while broker.events() == 0 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(broker.events(), 1);
}

#[test]
fn a_decided_log_is_decided_again_to_the_same_answers() {
    let broker = TestBroker::new();
    let tokens = [
        Token::github(),
        Token::github().claim("repository_id", serde_json::json!("75")),
        Token::cluster(),
        Token::svid(),
        Token::cluster().claim("env", serde_json::json!("dev")),
    ];
    for token in tokens {
        for more in [
            &[][..],
            &[("scope", "orders:read")],
            &[("scope", "orders:write")],
            &[("audience", LEDGER)],
            &[("lifetime", "30")],
        ] {
            broker.exchange(
                &token.clone().claim("jti", serde_json::json!(format!("{more:?}{:?}", token.claims))).sign(),
                more,
            );
        }
    }
    let first = broker.exchange(&Token::github().sign(), &[]).token();
    broker.post_as(
        "orders-api",
        "/token",
        &[("grant_type", GRANT), ("subject_token", &first), ("subject_token_type", ACCESS_TOKEN), ("audience", LEDGER)],
    );
    let policy = Policy::load(&broker.path("policies")).unwrap();
    let (mut asked, mut granted) = (0, 0);
    for event in events(&broker.audit()) {
        let (Some(question), Some(answer)) = (event.question, event.answer) else { continue };
        assert_eq!(policy.decide(&question), answer);
        asked += 1;
        granted += usize::from(event.outcome == Outcome::Granted);
    }
    assert!(asked >= 25 && granted >= 8, "{asked} {granted}");
}

/// The lines, without what the writer reserved behind them.
fn chain(directory: &Path) -> String {
    fs::read_to_string(directory.join("00000001.jsonl")).unwrap().trim_end_matches('\0').to_owned()
}

fn events(directory: &Path) -> Vec<Event> {
    let text = chain(directory);
    let decision = |line: &str| line.split("\"decision\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    text.lines().map(|line| audit::find(directory, &decision(line)).unwrap().unwrap()).collect()
}

/// What the chain says after `change` of its lines.
fn after(directory: &Path, change: impl FnOnce(&mut Vec<String>)) -> Result<u64, Broken> {
    let copy = tempfile::tempdir().unwrap();
    let text = chain(directory);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    fs::write(copy.path().join("00000001.jsonl"), lines.join("\n") + "\n").unwrap();
    audit::verify(copy.path(), None, None).map(|report| report.head.next)
}

#[test]
fn an_edit_a_deletion_and_a_reordering_are_found_and_named() {
    let broker = TestBroker::new();
    for _ in 0..6 {
        broker.exchange(&Token::github().sign(), &[]);
    }
    let directory = broker.audit();
    assert_eq!(after(&directory, |_| {}).unwrap(), 6);
    for at in 0..6 {
        let edited = after(&directory, |lines| lines[at] = lines[at].replace("orders:read", "orders:writ"));
        assert!(matches!(edited, Err(Broken::Edited(_, line)) if line == at as u64 + 1), "{edited:?}");
        let renumbered =
            after(&directory, |lines| lines[at] = lines[at].replace(&format!("\"seq\":{at}"), "\"seq\":9"));
        assert!(matches!(renumbered, Err(Broken::Edited(_, line)) if line == at as u64 + 1), "{renumbered:?}");
    }
    for at in 0..5 {
        let deleted = after(&directory, |lines| drop(lines.remove(at)));
        match deleted {
            Err(Broken::Beginning(_)) if at == 0 => {}
            Err(Broken::Unchained(_, line)) if line == at as u64 + 1 => {}
            other => panic!("{other:?}"),
        }
        let moved = after(&directory, |lines| lines.swap(at, at + 1));
        let first = if at == 0 { 2 } else { at as u64 + 1 };
        assert!(matches!(moved, Err(Broken::Unchained(_, line)) if line == first), "{moved:?}");
        let doubled = after(&directory, |lines| lines.insert(at, lines[at].clone()));
        assert!(matches!(doubled, Err(Broken::Unchained(_, line)) if line == at as u64 + 2), "{doubled:?}");
    }
    assert!(matches!(after(&directory, |lines| lines[2] = "{}".to_owned()), Err(Broken::NotAnEvent(_, 3))));
    assert!(matches!(
        after(&directory, |lines| lines[2] = lines[2].replace("\"v\":2", "\"v\":3")),
        Err(Broken::Version(_, 3, 3))
    ));
}

#[test]
fn a_broken_end_is_not_added_to_and_a_torn_one_is_mended() {
    let broker = TestBroker::new();
    broker.exchange(&Token::github().sign(), &[]);
    broker.exchange(&Token::github().sign(), &[]);
    let opening = |place: &Path| open(place, NOW);
    assert!(opening(&broker.audit()).is_err(), "a chain has one writer");
    let copy = tempfile::tempdir().unwrap();
    let (directory, path) = (copy.path().to_owned(), copy.path().join("00000001.jsonl"));
    fs::write(&path, chain(&broker.audit())).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], b"{\"time\":1,\"decisi"].concat()).unwrap();
    assert_eq!(audit::verify(&directory, None, None).unwrap().torn, 17);
    drop(opening(&directory).unwrap());
    assert_eq!(fs::read(&path).unwrap(), whole, "the torn line is gone, and nothing else");
    // A writer that was killed leaves what it had reserved.
    fs::write(&path, [&whole[..], &[0; 100_000]].concat()).unwrap();
    assert_eq!(audit::verify(&directory, None, None).unwrap().torn, 0);
    drop(opening(&directory).unwrap());
    assert_eq!(fs::read(&path).unwrap(), whole, "the torn line is gone, and nothing else");
    let text = String::from_utf8(whole).unwrap();
    let at = text.rfind("orders:read").unwrap();
    let mut edited = text.into_bytes();
    edited[at] = b'O';
    fs::write(&path, edited).unwrap();
    assert!(opening(&directory).is_err());
}

/// Opens a log by itself, with a store of its own beside it.
fn open(directory: &Path, now: i64) -> Result<AuditLog, AuditError> {
    let now = Timestamp::new(now).unwrap();
    let store = tempfile::tempdir().unwrap().keep();
    let heads = Arc::new(Embedded::open(&store, now).unwrap());
    open_with(directory, heads, Keeping { segment: 1 << 16, retention: None, refusals: 3, reserve: 0 }, now)
}

fn open_with(directory: &Path, heads: Arc<Embedded>, keeping: Keeping, now: Timestamp) -> Result<AuditLog, AuditError> {
    let opening = Opening {
        replica: "abcdef".to_owned(),
        keeping,
        heads,
        seal: Arc::new(|_, _| Some("signed".to_owned())),
        digests: DigestKey::new(&[7; 32]),
    };
    AuditLog::open(directory, opening, now)
}

#[test]
fn what_cannot_be_written_is_not_given_and_consumes_nothing() {
    // A full disk, as the kernel has it in /dev/full.
    let root = Setup::new().write();
    fs::create_dir_all(root.path().join("data/audit")).unwrap();
    std::os::unix::fs::symlink("/dev/full", root.path().join("data/audit/00000001.jsonl")).unwrap();
    let broker = TestBroker::start(root, TestClock::new());
    let token = Token::github().sign();
    let granted = broker.exchange(&Token::cluster().sign(), &[]);
    for reply in [broker.exchange(&token, &[]), granted] {
        assert_eq!(reply.refusal(), (503, "temporarily_unavailable", "audit_unavailable"));
        assert_eq!(reply.headers["retry-after"], "1");
        assert!(reply.json.get("access_token").is_none());
    }
    let broker = broker.restart_after(|root| fs::remove_file(root.join("data/audit/00000001.jsonl")).unwrap());
    let reply = broker.exchange(&token, &[]);
    assert_eq!(reply.status, 200, "the assertion was not used up: {}", reply.text);
    assert_eq!(broker.events(), 1);
}
