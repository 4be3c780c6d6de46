//! The audit log: one event on every exit, a chain that shows what was done to it, and decisions that can be made again.

use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::admin::OperatorId;
use countersign::app::Installation;
use countersign::audit::{
    self, AuditError, AuditFollower, AuditLog, Broken, Event, Keeping, LineContent, Note, Opening, Outcome, Sealing,
};
use countersign::domain::{ChainHead, DigestKey, SystemEntropy, Timestamp};
use countersign::http::block_on;
use countersign::signing::{KeyBackends, KeyFiles, SealingKeys};
use countersign::store::{AuditHeads as _, Embedded};
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
            "accept",
            "typ",
            "audience",
            "expiry",
            "start",
            "lifetime",
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
    let policy = Installation::read(&broker.path("countersign.toml")).unwrap().policy().unwrap();
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
        after(&directory, |lines| lines[2] = lines[2].replace("\"v\":3", "\"v\":4")),
        Err(Broken::Version(_, 3, 4))
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
    assert!(fs::read(&path).unwrap() == whole, "the torn line is gone, and nothing else");
    // A writer that was killed leaves what it had reserved.
    fs::write(&path, [&whole[..], &[0; 100_000]].concat()).unwrap();
    assert_eq!(audit::verify(&directory, None, None).unwrap().torn, 0);
    drop(opening(&directory).unwrap());
    assert!(fs::read(&path).unwrap() == whole, "the torn line is gone, and nothing else");
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
    if let Ok(report) = audit::verify(directory, None, None) {
        heads.keep(&report.head).unwrap();
    }
    open_with(directory, heads, Keeping { segment: 1 << 16, retention: None, refusals: 3, reserve: 0 }, now)
}

fn open_with(directory: &Path, heads: Arc<Embedded>, keeping: Keeping, now: Timestamp) -> Result<AuditLog, AuditError> {
    let opening = Opening {
        replica: "abcdef".to_owned(),
        keeping,
        heads,
        seal: Arc::new(|_, _| Box::pin(std::future::ready(None))),
        digests: DigestKey::new(&[7; 32]),
    };
    AuditLog::open(directory, opening, now)
}

/// A checkpoint that was written late covers neither the lines before it nor itself: they are sealed at the next start.
#[test]
fn m8_what_a_late_checkpoint_does_not_cover_is_sealed_after_a_restart() {
    let broker = TestBroker::new();
    let reply = broker.exchange(&Token::github().sign(), &[]);
    let event = broker.event(&reply);
    drop(broker);
    let root = tempfile::tempdir().unwrap();
    let now = Timestamp::new(NOW).unwrap();
    let heads = Arc::new(Embedded::open(&root.path().join("data"), now).unwrap());
    let seals = Arc::new(std::sync::atomic::AtomicU32::new(0));
    // Appends a line while each checkpoint is being signed, if it is told to.
    let late: Arc<std::sync::Mutex<Option<std::sync::Weak<AuditLog>>>> = Arc::default();
    let open = || {
        let (seals, late, event) = (Arc::clone(&seals), Arc::clone(&late), event.clone());
        let opening = Opening {
            replica: "abcdef".to_owned(),
            keeping: Keeping { segment: 1 << 16, retention: None, refusals: 3, reserve: 0 },
            heads: Arc::clone(&heads) as _,
            seal: Arc::new(move |checkpoint, _| {
                seals.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if let Some(log) = late.lock().unwrap().take().and_then(|log| log.upgrade()) {
                    log.append(&event).unwrap();
                }
                let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&checkpoint).unwrap());
                Box::pin(std::future::ready(Some(format!("x.{payload}.x"))))
            }),
            digests: DigestKey::new(&[7; 32]),
        };
        Arc::new(AuditLog::open(&root.path().join("log"), opening, now).unwrap())
    };
    let sealed = |expected: u32| assert_eq!(seals.load(std::sync::atomic::Ordering::SeqCst), expected);
    let log = open();
    log.append(&event).unwrap();
    block_on(log.seal(now)).unwrap();
    sealed(1);
    drop(log);
    let log = open();
    block_on(log.seal(now)).unwrap();
    sealed(1); // It ended with a checkpoint that covers all of it.
    log.append(&event).unwrap();
    *late.lock().unwrap() = Some(Arc::downgrade(&log));
    block_on(log.seal(now)).unwrap();
    sealed(2);
    drop(log);
    block_on(open().seal(now)).unwrap();
    sealed(3);
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
        assert!(reply.asks_to_retry());
        assert!(reply.json.get("access_token").is_none());
    }
    let broker = broker.restart_after(|root| fs::remove_file(root.join("data/audit/00000001.jsonl")).unwrap());
    let reply = broker.exchange(&token, &[]);
    assert_eq!(reply.status, 200, "the assertion was not used up: {}", reply.text);
    assert_eq!(broker.events(), 1);
}

fn kept(broker: &TestBroker) -> ChainHead {
    broker.operator.audit_head()
}

/// What verifies this broker's checkpoints.
fn sealing(root: &Path) -> SealingKeys {
    let files = KeyFiles::new(&root.join("keys"), Arc::new(SystemEntropy));
    block_on(KeyBackends::one(Arc::new(files)).checkpoint_keys()).unwrap()
}

fn by(keys: &SealingKeys) -> Option<Sealing<'_>> {
    Some(Sealing { good: &keys.good, revoked: &keys.revoked })
}

fn cut_lines(path: &Path, count: usize) {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.trim_end_matches('\0').lines().collect();
    fs::write(path, lines[..lines.len() - count].join("\n") + "\n").unwrap();
}

/// Abuse case M8, the end: lines that are cut off are missed by the store, by an operator, and by the next start, for good.
#[test]
fn m8_a_tail_that_is_cut_off_is_found_out() {
    let broker = TestBroker::new();
    for _ in 0..6 {
        broker.exchange(&Token::github().sign(), &[]);
    }
    let head = kept(&broker);
    assert_eq!(audit::verify(&broker.audit(), None, Some(&head)).unwrap().events, 6);
    let broker = broker.restart_after(|root| {
        let of_store = countersign::store::audit_head(&root.join("data")).unwrap().unwrap();
        assert_eq!(of_store.next, 7, "six events and a checkpoint");
        let path = root.join("data/audit/00000001.jsonl");
        cut_lines(&path, 3);
        let found = audit::verify(path.parent().unwrap(), by(&sealing(root)), Some(&of_store));
        assert!(matches!(found, Err(Broken::Head(_))), "{found:?}");
        assert!(audit::verify(path.parent().unwrap(), None, Some(&head)).is_err(), "the head that an operator kept");
        assert!(audit::verify(path.parent().unwrap(), None, None).is_ok(), "the file alone does not show it");
    });
    let report = audit::verify(&broker.audit(), by(&sealing(broker.root.path())), Some(&kept(&broker))).unwrap();
    assert_eq!(report.gaps, [7], "noted for good, under a number that was never given");
    assert_eq!(broker.operator.figures().audit[3], 1);
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200, "and it goes on");
    let broker = broker.restart();
    let report = audit::verify(&broker.audit(), by(&sealing(broker.root.path())), Some(&kept(&broker))).unwrap();
    assert_eq!(report.gaps, [7], "one cut, one note");
}

/// Abuse case M8, a forger who writes the whole chain anew, hashes and all, but has no key.
#[test]
fn m8_a_chain_that_is_written_anew_has_no_checkpoints() {
    let broker = TestBroker::new();
    for _ in 0..3 {
        broker.exchange(&Token::github().sign(), &[]);
    }
    let broker = broker.restart();
    let keys = sealing(broker.root.path());
    let honest = audit::verify(&broker.audit(), by(&keys), None).unwrap();
    assert_eq!((honest.checkpoints, honest.signed), (1, 4));
    // Edited, with every hash made anew; `keep` says which lines, `change` what becomes of each.
    let forge = |keep: &dyn Fn(&str) -> bool, change: &dyn Fn(usize, &str) -> String| {
        let forged = tempfile::tempdir().unwrap();
        let (mut previous, mut text) = ("0".repeat(64), String::new());
        let lines = chain(&broker.audit());
        for (index, line) in lines.lines().filter(|line| keep(line)).enumerate() {
            let event = change(index, line.split(",\"v\":3").next().unwrap());
            let covered = format!("{event},\"v\":3,\"seq\":{index},\"prev\":\"{previous}\"");
            let digest = countersign::domain::sha256(&[covered.as_bytes()]);
            previous = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("{covered},\"hash\":\"{previous}\"}}\n");
        }
        fs::write(forged.path().join("00000001.jsonl"), text).unwrap();
        assert!(audit::verify(forged.path(), None, None).is_ok(), "the hashes are right");
        audit::verify(forged.path(), by(&keys), None)
    };
    let edited = |_: usize, line: &str| line.replace("orders:read", "orders:writ");
    let found = forge(&|_| true, &edited);
    assert!(matches!(found, Err(Broken::Checkpoint(_, 4, _))), "{found:?}");
    // Who leaves checkpoints out, is missed by them as soon as one was due.
    let found = forge(&|line| !line.contains("\"note\""), &|index, line| {
        edited(index, line).replace(&format!("\"time\":{NOW}"), &format!("\"time\":{}", NOW + 151 * index as i64))
    });
    assert!(matches!(found, Err(Broken::Unsigned(_, 1))), "{found:?}");
    // Who signs with a key of his own, has the wrong key.
    let own = TestBroker::new();
    own.exchange(&Token::github().sign(), &[]);
    let own = own.restart();
    let foreign = chain(&own.audit()).lines().find(|line| line.contains("\"note\"")).unwrap().to_owned();
    let found = forge(&|_| true, &|index, line| {
        if index == 3 { foreign.split(",\"v\":3").next().unwrap().to_owned() } else { edited(index, line) }
    });
    assert!(
        matches!(found, Err(Broken::Checkpoint(_, 4, what)) if what.contains("no key of this broker")),
        "{found:?}"
    );
}

/// Whoever removes what the store knows of the log, with the tail, is found out too.
#[test]
fn m8_a_head_that_is_removed_or_ruined_is_a_gap() {
    for ruined in [None, Some(vec![0; ChainHead::LENGTH]), Some(b"x".to_vec())] {
        let broker = TestBroker::new();
        broker.exchange(&Token::github().sign(), &[]);
        let broker = broker.restart_after(|root| {
            let head = root.join("data/audit-head");
            match &ruined {
                None => fs::remove_file(&head).unwrap(),
                Some(bytes) => fs::write(&head, bytes).unwrap(),
            }
        });
        assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200, "it starts all the same");
        let report = audit::verify(&broker.audit(), by(&sealing(broker.root.path())), Some(&kept(&broker))).unwrap();
        assert_eq!(report.gaps.len(), 1, "{ruined:?}");
    }
}

/// A broker that was killed leaves lines without a checkpoint; when it starts again, hours later, they are sealed before
/// anything follows, so that they are not missed for ever.
#[test]
fn m8_what_a_killed_broker_wrote_is_sealed_when_it_starts_again() {
    let broker = TestBroker::new();
    for _ in 0..3 {
        broker.exchange(&Token::cluster().sign(), &[]);
    }
    let clock = broker.clock.clone();
    let broker = broker.restart_after(|root| {
        // As a kill leaves it: without the seal of an orderly stop.
        cut_lines(&root.join("data/audit/00000001.jsonl"), 1);
        let report = audit::verify(&root.join("data/audit"), None, None).unwrap();
        fs::write(root.join("data/audit-head"), report.head.to_string()).unwrap();
        clock.advance(20_000);
    });
    let now = NOW + 20_000;
    let later = Token::cluster().claim("iat", serde_json::json!(now)).claim("exp", serde_json::json!(now + 300));
    assert_eq!(broker.exchange(&later.sign(), &[]).status, 200);
    let report = audit::verify(&broker.audit(), by(&sealing(broker.root.path())), Some(&kept(&broker))).unwrap();
    assert_eq!((report.events, report.checkpoints, report.gaps.len()), (4, 1, 0));
}

/// What a checkpoint key sealed is verified for years: its public half stays when it retires, whoever was stopped meanwhile,
/// and when it is revoked, only to say so.
#[test]
fn m8_what_was_sealed_is_verified_after_the_key_has_gone() {
    use countersign::domain::{PUBLISHED_BEFORE_USE, Purpose};
    let rotate = |broker: &TestBroker| {
        let algorithm = countersign_verify::key::Algorithm::Es256;
        countersign::http::block_on(broker.operator.admin().rotate_key(
            Purpose::Checkpoints,
            algorithm,
            &OperatorId::own(),
        ))
        .unwrap()
        .kid
    };
    let broker = TestBroker::new();
    broker.exchange(&Token::github().sign(), &[]);
    let next = rotate(&broker);
    // Sealed by the first key, stopped, and started when that has retired.
    let clock = broker.clock.clone();
    let broker = broker.restart_after(|_| clock.advance(PUBLISHED_BEFORE_USE + 900));
    let keys = sealing(broker.root.path());
    let report = audit::verify(&broker.audit(), by(&keys), None).unwrap();
    assert_eq!((report.checkpoints, report.signed), (1, report.lines));
    // Sealed by the second key alone, for much longer than lines may go without a checkpoint.
    for _ in 0..10 {
        broker.exchange("x", &[]);
        broker.clock.advance(61);
        broker.tend();
    }
    let before = audit::verify(&broker.audit(), by(&sealing(broker.root.path())), None).unwrap();
    assert_eq!(before.checkpoints, 11);
    let sealed_by_stolen = chain(&broker.audit());
    countersign::http::block_on(broker.operator.admin().revoke_key(&next, None, &OperatorId::own())).unwrap();
    let keys = sealing(broker.root.path());
    assert!(keys.revoked.has(&next) && !keys.good.has(&next));
    let report = audit::verify(&broker.audit(), by(&keys), Some(&kept(&broker))).unwrap();
    assert_eq!(report.checkpoints, 2, "the compromised key's prove nothing, and the next one names it all");
    assert_eq!(report.signed, report.head.next);
    // Whoever stole the key and writes on with it, without that next one, is not believed.
    let copy = tempfile::tempdir().unwrap();
    fs::write(copy.path().join("00000001.jsonl"), sealed_by_stolen).unwrap();
    let found = audit::verify(copy.path(), by(&keys), None);
    assert!(matches!(found, Err(Broken::Unsigned(..))), "{found:?}");
}

#[test]
fn segments_end_by_size_and_day_and_are_sealed_and_one_chain() {
    let broker = Setup::new().change("path = \"data/audit\"", "path = \"data/audit\"\nsegment_bytes = 65536").start();
    let mut decisions = Vec::new();
    while fs::metadata(broker.segment()).unwrap().len() < 65_536 || decisions.len() < 50 {
        decisions.push(broker.exchange(&Token::cluster().sign(), &[]).decision());
    }
    broker.tend();
    assert!(broker.audit().join("00000002.jsonl").exists());
    decisions.push(broker.exchange(&Token::cluster().sign(), &[]).decision());
    broker.clock.advance(86_400);
    broker.tend();
    let now = countersign::domain::Clock::now(&broker.clock).seconds();
    let later = Token::cluster().claim("iat", serde_json::json!(now)).claim("exp", serde_json::json!(now + 300));
    decisions.push(broker.exchange(&later.sign(), &[]).decision());
    assert!(broker.audit().join("00000003.jsonl").exists(), "another day");
    let keys = sealing(broker.root.path());
    let report = audit::verify(&broker.audit(), by(&keys), Some(&kept(&broker))).unwrap();
    assert_eq!((report.segments, report.checkpoints), (3, 2));
    assert_eq!(report.events, decisions.len() as u64);
    for decision in &decisions {
        assert!(audit::find(&broker.audit(), decision).unwrap().is_some());
    }
    // The next one names the seal of the one before: a segment that is exchanged does not fit.
    let first = fs::read_to_string(broker.segment()).unwrap();
    let second = fs::read_to_string(broker.audit().join("00000002.jsonl")).unwrap();
    let hash = |line: &str, name: &str| line.split(&format!("\"{name}\":\"")).nth(1).unwrap()[..64].to_owned();
    assert_eq!(hash(first.lines().last().unwrap(), "hash"), hash(second.lines().next().unwrap(), "prev"));
    let (_, last) = AuditFollower::last(&broker.audit(), 4).unwrap();
    assert_eq!(last.len(), 4, "the end of the log, whichever segment it is in");
}

#[test]
fn what_is_too_old_goes_and_what_somebody_else_removes_is_missed() {
    let broker = Setup::new().change("path = \"data/audit\"", "path = \"data/audit\"\nretention = \"2d\"").start();
    for _ in 0..5 {
        broker.exchange(&Token::cluster().claim("exp", serde_json::json!(NOW + 1)).sign(), &[]);
        broker.post("/token", &[("grant_type", "x")]);
        broker.clock.advance(86_400);
        broker.tend();
    }
    let names = || {
        let mut names: Vec<String> =
            fs::read_dir(broker.audit()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".jsonl"));
        names.sort();
        names
    };
    assert_eq!(names().first().map(String::as_str), Some("00000003.jsonl"));
    let report = audit::verify(&broker.audit(), by(&sealing(broker.root.path())), Some(&kept(&broker)));
    assert!(report.is_ok(), "the log says itself that they were too old: {report:?}");
    fs::remove_file(broker.audit().join("00000003.jsonl")).unwrap();
    let found = audit::verify(&broker.audit(), None, None);
    assert!(matches!(found, Err(Broken::Beginning(_))), "{found:?}");
}

#[test]
fn refusals_of_strangers_are_bounded_and_counted_and_nobody_elses_are() {
    let broker =
        Setup::new().change("path = \"data/audit\"", "path = \"data/audit\"\nrefusals_per_second = 20").start();
    for _ in 0..70 {
        broker.exchange("garbage", &[]);
    }
    assert_eq!(broker.events(), 20);
    // A revocation of nothing by nobody, and a workload that is not accepted, are strangers too.
    for _ in 0..5 {
        assert_eq!(broker.post("/revoke", &[("token", "x")]).status, 200);
        let foreign = Token::github().claim("repository_owner_id", serde_json::json!("666"));
        assert_eq!(broker.exchange(&foreign.sign(), &[]).status, 400);
    }
    assert_eq!(broker.events(), 20);
    // What is verified is written whole, whatever the flood.
    for _ in 0..30 {
        assert_eq!(broker.exchange(&Token::cluster().sign(), &[("audience", LEDGER)]).status, 400);
    }
    assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).status, 200);
    assert_eq!(broker.events(), 51);
    broker.clock.advance(1);
    broker.exchange("garbage", &[]);
    let report = audit::verify(&broker.audit(), None, None).unwrap();
    assert_eq!((report.events, report.counted), (52, 60), "one line for the second, and a new second");
    let (_, last) = AuditFollower::last(&broker.audit(), 2).unwrap();
    let counted = [("token_malformed", 50), ("no_effect", 5), ("workload_not_accepted", 5)];
    let counted = counted.map(|(reason, count)| (reason.to_owned(), count)).into();
    assert_eq!(last[0], LineContent::Note(Note::Counted(counted), NOW));
    for _ in 0..40 {
        broker.exchange("garbage", &[]);
    }
    let report = |broker: &TestBroker| audit::verify(&broker.audit(), None, None).unwrap();
    let broker = broker.restart();
    assert_eq!(report(&broker).counted, 81, "a broker that stops leaves none uncounted");
}

#[test]
fn on_a_disk_that_is_nearly_full_garbage_is_only_counted_and_grants_go_on() {
    let broker =
        Setup::new().change("path = \"data/audit\"", "path = \"data/audit\"\nreserve_bytes = 1099511627776").start();
    for _ in 0..5 {
        assert_eq!(broker.exchange("garbage", &[]).status, 400);
    }
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200);
    assert_eq!(broker.events(), 1);
    assert_eq!(broker.operator.figures().audit[1], 5);
}

/// Abuse case M7: a log that somebody removes or replaces is put back whole, and nothing is written into nowhere.
#[test]
fn m7_a_log_that_is_removed_is_put_back() {
    let broker = TestBroker::new();
    for _ in 0..3 {
        broker.exchange(&Token::github().sign(), &[]);
    }
    fs::remove_file(broker.segment()).unwrap();
    broker.exchange(&Token::github().sign(), &[]);
    broker.tend();
    assert_eq!(audit::verify(&broker.audit(), None, Some(&kept(&broker))).unwrap().events, 4);
    fs::rename(broker.segment(), broker.path("aside")).unwrap();
    fs::write(broker.segment(), "").unwrap();
    broker.tend();
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200);
    assert_eq!(audit::verify(&broker.audit(), None, Some(&kept(&broker))).unwrap().events, 5);
}

/// Abuse case M9.
#[test]
fn m9_what_stands_for_a_token_tells_nothing_without_the_key() {
    let (one, other) = (TestBroker::new(), TestBroker::new());
    let forged = Token::cluster().key(&keys().evil).sign();
    let digest = |broker: &TestBroker, token: &str| broker.event(&broker.exchange(token, &[])).token.unwrap();
    let first = digest(&one, &forged);
    assert_eq!(first, digest(&one, &forged), "the same token, again");
    assert_ne!(first, digest(&one, &Token::cluster().key(&keys().evil).sign()));
    assert_ne!(first, digest(&other, &forged), "another key");
    assert!(first.starts_with("hmac-sha256:"));
    let key = fs::metadata(one.path("data/digest.key")).unwrap();
    assert_eq!((key.len(), std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777), (32, 0o600));
    let granted = one.event(&one.exchange(&Token::github().sign(), &[]));
    assert_eq!(granted.token, None, "what is verified has its `jti`");
}

/// Abuse case M5, mixed with faults: one record for each request, and one of issue for each token.
#[test]
fn m5_each_request_has_one_record_and_each_token_one_of_its_issue() {
    let broker = TestBroker::new();
    let mut expected = std::collections::BTreeMap::new();
    for number in 0..60 {
        let reply = match number % 6 {
            0 => broker.exchange(&Token::github().sign(), &[]),
            1 => broker.exchange("garbage", &[]),
            2 => broker.exchange(&Token::github().sign(), &[("audience", LEDGER)]),
            3 => broker.post("/revoke", &[("token", "x")]),
            4 => broker.post_as("orders-api", "/token", &[("grant_type", "x")]),
            _ => broker.exchange(&Token::cluster().sign(), &[("scope", "orders:read")]),
        };
        assert!(expected.insert(reply.decision(), reply).is_none());
    }
    let events = events(&broker.audit());
    assert_eq!(events.len(), expected.len());
    let mut issued = Vec::new();
    for event in events {
        let reply = expected.remove(&event.decision).expect("once");
        assert_eq!(reply.json.get("access_token").is_some(), event.granted.is_some());
        if let (Some(granted), Some(question)) = (event.granted, event.question) {
            use base64::Engine as _;
            let payload = reply.text("access_token").split('.').nth(1).unwrap();
            let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!((claims["jti"].as_str(), claims["aud"].as_str()), (Some(&*granted.jti), Some(&*granted.aud)));
            assert_eq!(question.principal.name, granted.sub);
            assert!(event.answer.is_some_and(|answer| !answer.policies.is_empty()), "which policies decided");
            issued.push(granted.jti);
        }
    }
    issued.sort();
    issued.dedup();
    assert_eq!(issued.len(), 20);
}

/// A log of version 0.1: one file that never ended, lines of version 1. It becomes the first segment.
#[test]
fn a_log_of_the_version_before_is_read_and_gone_on_with() {
    let broker = TestBroker::new();
    let granted = broker.exchange(&Token::github().sign(), &[]);
    let broker = broker.restart_after(|root| {
        let path = root.join("data/audit/00000001.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        let event = text.lines().next().unwrap().split(",\"v\":3").next().unwrap().to_owned();
        let covered = format!("{event},\"v\":1,\"seq\":0,\"prev\":\"{}\"", "0".repeat(64));
        let hash: String =
            countersign::domain::sha256(&[covered.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(root.join("data/audit/chain.jsonl"), format!("{covered},\"hash\":\"{hash}\"}}\n")).unwrap();
        fs::remove_file(path).unwrap();
        fs::remove_file(root.join("data/audit-head")).unwrap();
    });
    assert_eq!(broker.event(&granted).outcome, Outcome::Granted);
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200);
    broker.clock.advance(86_400);
    broker.tend();
    let report = audit::verify(&broker.audit(), None, Some(&kept(&broker))).unwrap();
    assert_eq!((report.events, report.segments), (2, 2));
    assert!(report.gaps.is_empty());
}
