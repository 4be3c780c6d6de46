//! What survives what: a broker that is killed again and again in the middle of its work, and one whose disk is full.

use crate::cli::{Serving, introspect, program};
use crate::replicas::redis_section;
use crate::support::redis::{STRICT, Server};
use crate::support::*;
use countersign::audit::{AuditFollower, LineContent, verify};
use countersign::domain::{Clock as _, SystemClock};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the broker is killed.
const KILLS: usize = 200;

fn now() -> i64 {
    SystemClock.now().seconds()
}

/// A token of the cluster that can be presented again.
fn reusable() -> String {
    Token::cluster().claim("iat", json!(now())).claim("exp", json!(now() + 3_000)).sign()
}

fn once() -> String {
    Token::github().claim("iat", json!(now())).claim("nbf", json!(now())).claim("exp", json!(now() + 300)).sign()
}

fn exchange(address: SocketAddr, token: &str) -> Reply {
    let form = [("grant_type", GRANT), ("subject_token", token), ("subject_token_type", JWT), ("audience", ORDERS)];
    send_to(address, "/token", &[], &form)
}

fn jti(token: &str) -> String {
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()["jti"].as_str().unwrap().to_owned()
}

/// Killed two hundred times under load: no token without its line, no broken chain, no mark and no revocation lost that was
/// acknowledged (abuse cases M6 and O9).
#[test]
fn m6_nothing_that_was_answered_is_lost_when_the_broker_is_killed() {
    killed_again_and_again(Setup::new().write().path());
}

/// The same where another process remembers.
#[test]
fn m6_nothing_that_was_answered_is_lost_when_a_broker_on_redis_is_killed() {
    let server = Server::start(STRICT);
    let section = redis_section(&[server.url()], "");
    killed_again_and_again(Setup::new().change("kind = \"embedded\"\npath = \"data\"", &section).write().path());
}

fn killed_again_and_again(root: &Path) {
    let tokens: Mutex<HashSet<String>> = Mutex::default();
    let revoked: Mutex<Vec<String>> = Mutex::default();
    let used: Mutex<Vec<String>> = Mutex::default();
    let subject = reusable();
    for kill in 0..KILLS {
        let mut broker = Serving::start(root);
        let address: SocketAddr = broker.url.strip_prefix("http://").unwrap().parse().unwrap();
        let dead = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let (tokens, revoked, used, subject, dead) = (&tokens, &revoked, &used, &subject, &dead);
                scope.spawn(move || {
                    while !dead.load(Ordering::SeqCst) {
                        let single = (worker == 2).then(once);
                        let Some(reply) = attempt(address, single.as_deref().unwrap_or(subject)) else { break };
                        let token = reply.token();
                        tokens.lock().unwrap().insert(jti(&token));
                        used.lock().unwrap().extend(single);
                        if worker == 1 {
                            let Some(ended) = attempt_revoke(address, &token) else { break };
                            assert_eq!(ended.status, 200);
                            revoked.lock().unwrap().push(token);
                        }
                    }
                });
            }
            // In the middle of its work, and never before it has answered something.
            let (before, since) = (tokens.lock().unwrap().len(), Instant::now());
            while tokens.lock().unwrap().len() < before + 1 + kill % 7 && since.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_micros((kill as u64 * 700) % 9_000));
            broker.kill();
            dead.store(true, Ordering::SeqCst);
        });
    }
    let (tokens, revoked, used) =
        (tokens.into_inner().unwrap(), revoked.into_inner().unwrap(), used.into_inner().unwrap());
    let counts = (tokens.len(), revoked.len(), used.len());
    assert!(counts.0 > KILLS && counts.1 > KILLS / 10 && counts.2 > KILLS / 10, "{counts:?}");
    let audit = root.join("data/audit");
    let kept = countersign::store::audit_head(&root.join("data")).unwrap();
    let report = verify(&audit, None, kept.as_ref()).unwrap();
    assert!(report.gaps.is_empty(), "{report:?}");
    let mut audited = HashSet::new();
    let (_, lines) = AuditFollower::last(&audit, usize::MAX).unwrap();
    for line in lines {
        if let LineContent::Event(event) = line {
            audited.extend(event.granted.map(|granted| granted.jti));
        }
    }
    let missing: Vec<_> = tokens.difference(&audited).collect();
    assert!(missing.is_empty(), "{} tokens have no line", missing.len());
    let broker = Serving::start(root);
    let address: SocketAddr = broker.url.strip_prefix("http://").unwrap().parse().unwrap();
    for token in &revoked {
        assert_eq!(introspect(&broker.url, token)["active"], false);
    }
    for assertion in &used {
        assert_eq!(exchange(address, assertion).text("reason"), "subject_token_replayed");
    }
}

/// A whole answer; none where the broker went away.
fn attempt(address: SocketAddr, token: &str) -> Option<Reply> {
    whole(
        address,
        "/token",
        &[("grant_type", GRANT), ("subject_token", token), ("subject_token_type", JWT), ("audience", ORDERS)],
    )
}

fn attempt_revoke(address: SocketAddr, token: &str) -> Option<Reply> {
    whole(address, "/revoke", &[("token", token)])
}

fn whole(address: SocketAddr, path: &str, form: &[(&str, &str)]) -> Option<Reply> {
    use std::io::Write as _;
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    Some(read(&mut stream)).filter(|reply| reply.status != 0)
}

/// A broker on a small file system of its own, in a mount namespace of its own.
struct Small {
    child: Child,
    address: SocketAddr,
    management: SocketAddr,
    seen: std::path::PathBuf,
}

impl Small {
    fn start(root: &Path) -> Self {
        std::fs::create_dir_all(root.join("data")).unwrap();
        let script = "mount -t tmpfs -o size=6m tmpfs data && exec \"$0\" serve --json";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(program().get_program());
        let mut child = command.current_dir(root).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).expect("a broker in a namespace of its own");
        let seen = Path::new("/proc").join(child.id().to_string()).join("root").join(root.strip_prefix("/").unwrap());
        let address = |name: &str| said[name].as_str().unwrap().parse().unwrap();
        Self { address: address("listen"), management: address("management"), seen: seen.join("data"), child }
    }

    /// Takes every free byte.
    fn fill(&self) {
        use std::io::Write as _;
        let mut filler = std::fs::File::create(self.seen.join("filler")).unwrap();
        let mut size = 1 << 16;
        while size > 0 {
            if filler.write_all(&vec![1; size]).is_err() {
                size /= 2;
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Abuse case L11: minting and revocation stop with 503, nothing is corrupted, and it goes on by itself when there is room.
#[test]
fn l11_a_full_disk_stops_minting_and_nothing_else_and_mends_itself() {
    let setup = Setup::new()
        .change("workers = 2", "workers = 2\nmanagement = \"127.0.0.1:0\"")
        .change("path = \"data/audit\"", "path = \"data/audit\"\nreserve_bytes = 1048576")
        .change("directory = \"keys\"", "directory = \"data/keys\"");
    let root = setup.write();
    let broker = Small::start(root.path());
    let subject = reusable();
    let before = exchange(broker.address, &subject).token();
    broker.fill();
    // What was reserved ahead is used up first.
    let refused = loop {
        let reply = exchange(broker.address, &once());
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((refused.status, refused.text("error")), (503, "temporarily_unavailable"));
    assert!(["audit_unavailable", "store_unavailable"].contains(&refused.text("reason")), "{}", refused.text);
    let single = once();
    assert_eq!(exchange(broker.address, &single).status, 503);
    let revocation = send_to(broker.address, "/revoke", &[], &[("token", &before)]);
    assert_eq!((revocation.status, revocation.text("error")), (503, "temporarily_unavailable"), "{}", revocation.text);
    for _ in 0..50 {
        assert_eq!(exchange(broker.address, "garbage").status, 400, "who is refused is still told why");
    }
    let jwks = send(broker.address, b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(jwks.status, 200);
    let ready = || send(broker.management, b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").status;
    let until = |status: u16| until("readiness changes", || ready() == status);
    std::fs::remove_file(broker.seen.join("filler")).unwrap();
    // Ready again by itself, before any caller has written.
    until(200);
    assert_eq!(exchange(broker.address, &single).status, 200, "the same process, and nothing was used up");
    assert_eq!(exchange(broker.address, &single).text("reason"), "subject_token_replayed");
    let revocation = send_to(broker.address, "/revoke", &[], &[("token", &before)]);
    assert_eq!(revocation.status, 200, "{}", revocation.text);
    let url = format!("http://{}", broker.address);
    assert_eq!(introspect(&url, &before)["active"], false);
    let kept = countersign::store::audit_head(&broker.seen).unwrap();
    let report = verify(&broker.seen.join("audit"), None, kept.as_ref()).unwrap();
    assert!(report.gaps.is_empty() && report.events > 3, "{report:?}");
}
