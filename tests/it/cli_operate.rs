//! What an operator types.

use crate::cli::{Serving, err, fresh, introspect, out, program, run};
use crate::support::*;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn told(root: &Path, arguments: &[&str]) -> Value {
    let output = run(root, &[arguments, &["--json"]].concat(), "");
    assert!(output.status.success(), "{arguments:?}: {}{}", out(&output), err(&output));
    serde_json::from_str(&out(&output)).unwrap()
}

fn exchange(root: &Path, broker: &Serving) -> String {
    let arguments = ["exchange", "--broker", &broker.url, "--audience", ORDERS];
    let output = run(root, &arguments, &fresh().sign());
    assert!(output.status.success(), "{}", err(&output));
    out(&output).trim().to_owned()
}

fn kid(token: &str) -> String {
    countersign_verify::jws::Compact::parse(token).unwrap().header().key_id.clone().unwrap()
}

#[test]
fn keys_are_listed_rotated_and_revoked_whether_a_broker_runs_or_not() {
    let root = Setup::new().write();
    let root = root.path();
    let broker = Serving::start(root);
    let token = exchange(root, &broker);
    let listed = told(root, &["keys", "list"]);
    let states: Vec<_> = listed.as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active"; 3]);
    let text = out(&run(root, &["keys", "list"], ""));
    assert!(text.contains("signs from") && text.contains(&kid(&token)) && text.contains("checkpoints"), "{text}");

    let next = told(root, &["keys", "rotate"]);
    assert_eq!((&next["state"], &next["algorithm"]), (&json!("published"), &json!("ES256")));
    let edge = told(root, &["keys", "rotate", "--algorithm", "Ed25519"]);
    assert_eq!((&edge["state"], &edge["algorithm"]), (&json!("active"), &json!("EdDSA")), "the first of its kind");
    let wrong = run(root, &["keys", "rotate", "--algorithm", "HS256"], "");
    assert!(!wrong.status.success() && err(&wrong).contains("ES256, EdDSA, RS256"), "{}", err(&wrong));
    let nobody = run(root, &["keys", "revoke", "nobody"], "");
    assert!(!nobody.status.success() && err(&nobody).contains("keys list"), "{}", err(&nobody));

    assert_eq!(introspect(&broker.url, &token)["active"], true);
    let revoked = run(root, &["keys", "revoke", &kid(&token)], "");
    assert!(out(&revoked).contains("every token that it signed"), "{}{}", out(&revoked), err(&revoked));
    assert_eq!(introspect(&broker.url, &token)["active"], false);
    let after = exchange(root, &broker);
    assert_eq!(kid(&after), next["kid"].as_str().unwrap(), "what waited signs at once");
    drop(broker);

    assert_eq!(told(root, &["keys", "list"]).as_array().unwrap().len(), 5);
    told(root, &["keys", "revoke", &kid(&after)]);
    let broker = Serving::start(root);
    assert_eq!(introspect(&broker.url, &after)["active"], false);
    assert_ne!(kid(&exchange(root, &broker)), kid(&after));
    drop(broker);
    let events = countersign::audit::verify(&root.join("data/audit"), None, None).unwrap();
    assert!(events.gaps.is_empty());
    let tail = out(&run(root, &["audit", "tail", "-n", "100", "--no-follow"], ""));
    assert!(tail.contains(&format!("revoked {}", kid(&after))) && tail.contains("is revoked"), "{tail}");
}

#[test]
fn a_client_that_is_added_can_authenticate() {
    let root = Setup::new().write();
    for method in ["client_secret_basic", "client_secret_post"] {
        let made = told(root.path(), &["client", "add", method, "--method", method, "--introspects", ORDERS]);
        let secret = made["client_secret"].as_str().unwrap();
        assert!(secret.len() == 43 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        assert_eq!(encoded, secret, "both ways to write it are one");
        let config = std::fs::read_to_string(root.path().join("countersign.toml")).unwrap();
        std::fs::write(root.path().join("countersign.toml"), config + "\n" + made["block"].as_str().unwrap()).unwrap();
        let broker = Serving::start(root.path());
        let address = broker.url.strip_prefix("http://").unwrap().parse().unwrap();
        let reply = if method == "client_secret_post" {
            send_to(address, "/introspect", &[], &[("token", "x"), ("client_id", method), ("client_secret", secret)])
        } else {
            use base64::Engine as _;
            let basic = base64::engine::general_purpose::STANDARD.encode(format!("{method}:{secret}"));
            send_to(address, "/introspect", &[("authorization", format!("Basic {basic}"))], &[("token", "x")])
        };
        assert_eq!(reply.text, "{\"active\":false}");
    }
    let text = out(&run(root.path(), &["client", "add", "orders"], ""));
    assert!(text.contains("[[clients]]") && text.contains("shown this once"), "{text}");
}

#[test]
fn the_configuration_is_shown_whole_and_without_secrets() {
    let root = Setup::new().write();
    let shown = out(&run(root.path(), &["config", "show"], ""));
    for expected in [
        "refresh_every = \"5m\"",
        "rotate_every = \"30d\"",
        "in_flight = 512",
        "algorithm = \"ES256\"",
        "retention = \"400d\"",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let digest: String = countersign::domain::sha256(&[secret("orders-api").as_bytes()])
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(!shown.contains(&digest) && shown.contains("(not shown)"));
    // It is a configuration: with the digests put back, it says the same again.
    let whole = shown.replacen("(not shown)", &format!("sha256:{digest}"), 9);
    std::fs::write(root.path().join("again.toml"), whole).unwrap();
    let again = run(root.path(), &["config", "show", "--config", "again.toml"], "");
    assert_eq!(out(&again), shown, "{}", err(&again));
    let schema = told(root.path(), &["config", "schema"]);
    assert_eq!(schema["title"], "Countersign");
}

#[test]
fn completions_and_the_manual_page_are_made() {
    let root = tempfile::tempdir().unwrap();
    for (shell, expected) in
        [("bash", "_countersign"), ("zsh", "#compdef countersign"), ("fish", "complete -c countersign")]
    {
        let script = run(root.path(), &["completions", shell], "");
        assert!(script.status.success() && out(&script).contains(expected), "{shell}");
    }
    let page = out(&run(root.path(), &["man"], ""));
    for expected in [".TH countersign", "COUNTERSIGN KEYS", "COUNTERSIGN AUDIT", "\\-\\-json"] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn sighup_and_reload_take_over_what_is_on_disk() {
    let root = Setup::new().write();
    let broker = Serving::start(root.path());
    let denied = |token: &str| {
        let arguments = ["exchange", "--broker", &broker.url, "--audience", LEDGER];
        !run(root.path(), &arguments, token).status.success()
    };
    assert!(denied(&fresh().sign()));
    let policies = std::fs::read_to_string(root.path().join("policies/all.cedar")).unwrap();
    let more = "\n@id(\"more\")\npermit (principal in Issuer::\"github\", action == Action::\"exchange\", resource == Target::\"https://ledger.test\");\n";
    std::fs::write(root.path().join("policies/all.cedar"), policies.clone() + more).unwrap();
    Command::new("kill").args(["-HUP", &broker.child.id().to_string()]).status().unwrap();
    until("the signal is followed", || !denied(&fresh().sign()));
    std::fs::write(root.path().join("policies/all.cedar"), "permit (principal, action, resource);").unwrap();
    let refused = run(root.path(), &["reload"], "");
    assert!(!refused.status.success() && err(&refused).contains("what was in force stays"), "{}", err(&refused));
    assert!(!denied(&fresh().sign()));
    std::fs::write(root.path().join("policies/all.cedar"), policies).unwrap();
    assert!(out(&run(root.path(), &["reload"], "")).contains("reloaded"));
    assert!(denied(&fresh().sign()));
    drop(broker);
    let nobody = run(root.path(), &["reload"], "");
    assert!(!nobody.status.success() && err(&nobody).contains("no broker listens"), "{}", err(&nobody));
}

#[test]
fn a_tail_is_followed_as_it_grows() {
    let root = Setup::new().write();
    let broker = Serving::start(root.path());
    exchange(root.path(), &broker);
    let mut tail =
        program().current_dir(root.path()).args(["audit", "tail", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["outcome"], "granted");
    let token = exchange(root.path(), &broker);
    let second: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(second["granted"]["kid"], kid(&token));
    tail.kill().unwrap();
    tail.wait().unwrap();
    let forged = Token::cluster().key(&keys().evil).sign();
    let refused = run(root.path(), &["exchange", "--broker", &broker.url, "--audience", ORDERS], &forged);
    assert!(!refused.status.success());
    let digest = out(&run(root.path(), &["audit", "digest"], &forged));
    let tail = out(&run(root.path(), &["audit", "tail", "--no-follow", "-n", "1"], ""));
    assert!(tail.contains(digest.trim()), "{digest} {tail}");
}

#[test]
fn verify_compares_with_the_store_and_with_a_head_that_was_kept() {
    let root = Setup::new().change("workers = 2", "workers = 2\nmanagement = \"127.0.0.1:0\"").write();
    let broker = Serving::start(root.path());
    for _ in 0..3 {
        exchange(root.path(), &broker);
    }
    let management = broker.management.clone().unwrap().parse().unwrap();
    let head = send(management, b"GET /audit/head HTTP/1.1\r\nhost: x\r\n\r\n").text("head").to_owned();
    let report = told(root.path(), &["audit", "verify"]);
    assert_eq!((&report["holds"], &report["events"], &report["head"]), (&json!(true), &json!(3), &json!(head)));
    drop(broker);
    let path = root.path().join("data/audit/00000001.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.trim_end_matches('\0').lines().collect();
    std::fs::write(&path, lines[..2].join("\n") + "\n").unwrap();
    let cut = run(root.path(), &["audit", "verify"], "");
    assert!(!cut.status.success() && err(&cut).contains("truncated or replaced"), "{}", err(&cut));
    let cut = run(root.path(), &["audit", "verify", "--head", &head], "");
    assert!(!cut.status.success() && err(&cut).contains(&head));
    let wrong = run(root.path(), &["audit", "verify", "--head", "x"], "");
    assert!(err(&wrong).contains("64 hexadecimal digits"), "{}", err(&wrong));
    let alone = run(root.path(), &["audit", "verify", "--directory", "data/audit"], "");
    assert!(alone.status.success() && out(&alone).contains("compared with nothing"));
}

/// What is being worked on may end, for as long as `server.drain` says and no longer.
#[test]
fn o9_sigterm_drains_within_its_bound() {
    use std::io::Write as _;
    let root = Setup::new().change("workers = 2", "workers = 2\ndrain = \"2s\"").write();
    let mut broker = Serving::start(root.path());
    let address: std::net::SocketAddr = broker.url.strip_prefix("http://").unwrap().parse().unwrap();
    let token = fresh().sign();
    let form = [("grant_type", GRANT), ("subject_token", &*token), ("subject_token_type", JWT), ("audience", ORDERS)];
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let head = format!(
        "POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let begun = || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body.as_bytes()[..10]).unwrap();
        stream
    };
    let (mut ends, _never) = (begun(), begun());
    std::thread::sleep(Duration::from_millis(200));
    Command::new("kill").args(["-TERM", &broker.child.id().to_string()]).status().unwrap();
    until("nobody new is let in", || std::net::TcpStream::connect(address).is_err());
    ends.write_all(&body.as_bytes()[10..]).unwrap();
    assert_eq!(read(&mut ends).status, 200, "what had begun is answered");
    assert!(broker.child.wait().unwrap().success());
    assert_eq!(countersign::audit::verify(&root.path().join("data/audit"), None, None).unwrap().events, 1);
}

/// Keys are in the memory of a broker that serves: none of it is dumped, and nobody else of the same user reads it.
#[test]
fn n9_a_broker_that_serves_leaves_no_core() {
    let root = Setup::new().write();
    let broker = Serving::start(root.path());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", broker.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // What is not dumpable is nobody's to look into but root's: a process of the same user, without root's powers, cannot.
    let maps = format!("/proc/{}/maps", broker.child.id());
    let look =
        |uid: &str| Command::new("setpriv").args(["--reuid", uid, "--clear-groups", "cat", &maps]).output().unwrap();
    assert!(!look("65534").status.success());
}

/// Abuse cases M2 and M3: what an issuer answers and what a caller sends is never logged, and a log line is one line.
#[test]
fn m2_m3_logs_hold_nothing_that_others_chose() {
    let upstream = Upstream::new(|_| Answer {
        status: 200,
        headers: "x-secret: eyJhbGciOiJub25lIn0\r\n".to_owned(),
        body: b"{\"keys\": \"eyJhbGciOiJub25lIn0.secret-in-a-body\"}".to_vec(),
        delay: Duration::ZERO,
    });
    let keys = format!("jwks_uri = \"{}/jwks\"\nallow_private_addresses = true", upstream.url());
    let root = Setup::new().change("jwks_file = \"cluster.jwks\"", &keys).write();
    let mut child = program()
        .current_dir(root.path())
        .args(["serve", "--json", "--log", "trace", "--log-format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let listen: Value = serde_json::from_str(&line).unwrap();
    let address = listen["listen"].as_str().unwrap().parse().unwrap();
    let hostile = "a\r\nERROR forged\u{1b}[31m\u{2028}\"}{\"level\":\"ERROR";
    for token in [
        Token::github().head("kid", json!(hostile)).sign(),
        Token::cluster().claim("iss", json!(hostile)).sign(),
        Token::cluster().sign(),
        fresh().claim("sub", json!(hostile)).sign(),
        fresh().sign(),
    ] {
        let form = [
            ("grant_type", GRANT),
            ("subject_token", &*token),
            ("subject_token_type", JWT),
            ("audience", ORDERS),
            ("client_id", hostile),
        ];
        send_to(address, "/token", &[("user-agent", "x\u{7}y".to_owned())], &form);
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let logged = String::from_utf8(output.stderr).unwrap();
    assert!(logged.lines().count() > 20, "it does log at this level");
    for line in logged.lines() {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(parsed["level"].is_string());
    }
    assert!(!holds_a_token(&logged), "a token is in the log");
    for forbidden in ["secret-in-a-body", "forged", "\u{1b}"] {
        assert!(!logged.contains(forbidden), "{forbidden} is in the log");
    }
    let audited = std::fs::read_to_string(root.path().join("data/audit/00000001.jsonl")).unwrap();
    for line in audited.trim_end_matches('\0').lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok() && !line.contains('\u{1b}'), "{line}");
    }
}
