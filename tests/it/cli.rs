//! The program as people run it.

use crate::support::*;
use countersign::domain::{Clock as _, SystemClock};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    if traces().is_some() {
        command.args(["--log", "trace"]);
    }
    command
}

pub fn run(root: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = program()
        .current_dir(root)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    if let Some(mut traces) = traces() {
        traces.write_all(&output.stderr).unwrap();
    }
    output
}

pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A broker as a process of its own, on the machine's clock.
pub struct Serving {
    pub child: Child,
    pub url: String,
    pub management: Option<String>,
}

impl Serving {
    pub fn start(root: &Path) -> Self {
        Self::start_with(root, &[])
    }

    pub fn start_with(root: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = program();
        command.current_dir(root).args(["serve", "--json"]).envs(environment.iter().copied()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let management = said["management"].as_str().map(str::to_owned);
        Self { child, url: format!("http://{}", said["listen"].as_str().unwrap()), management }
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A token of this very moment.
pub fn fresh() -> Token {
    let now = SystemClock.now().seconds();
    Token::github().claim("iat", json!(now)).claim("nbf", json!(now)).claim("exp", json!(now + 300))
}

#[test]
fn exchange_inspect_revoke_explain_and_verify_tell_one_story() {
    let root = Setup::new().write();
    let broker = Serving::start(root.path());
    let url = broker.url.as_str();
    let exchange = ["exchange", "--broker", url, "--audience", ORDERS];
    let output = run(root.path(), &exchange, &fresh().sign());
    assert!(output.status.success(), "{}", err(&output));
    let token = out(&output).trim().to_owned();
    assert_eq!(token.split('.').count(), 3);
    let json: Value = serde_json::from_str(&out(&run(
        root.path(),
        &[&exchange[..], &["--json", "--lifetime", "20"]].concat(),
        &fresh().sign(),
    )))
    .unwrap();
    assert_eq!((json["expires_in"].as_i64(), json["token_type"].as_str()), (Some(20), Some("Bearer")));

    let inspected = run(root.path(), &["inspect"], &token);
    assert!(
        inspected.status.success() && out(&inspected).contains("believed") && out(&inspected).contains("orders:read"),
        "{}",
        out(&inspected)
    );
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let altered = run(root.path(), &["inspect"], &format!("{signed}.{other}{}", &signature[1..]));
    assert!(!altered.status.success() && out(&altered).contains("not believed"));

    let refused = run(root.path(), &exchange, &fresh().claim("aud", json!("https://elsewhere.test")).sign());
    assert!(!refused.status.success());
    let message = err(&refused);
    assert!(message.contains("subject_token_audience") && message.contains("countersign explain"), "{message}");
    let decision = message.split("countersign explain ").nth(1).unwrap().trim().to_owned();
    let explained = out(&run(root.path(), &["explain", &decision], ""));
    for expected in
        ["✓ signature", "✗ audience", "https://elsewhere.test", "expected: https://sts.test", "audience_mismatch"]
    {
        assert!(explained.contains(expected), "{expected}: {explained}");
    }
    assert!(!explained.contains("\u{1b}["), "no colour where there is no terminal");
    let event: Value = serde_json::from_str(&out(&run(root.path(), &["explain", &decision, "--json"], ""))).unwrap();
    assert_eq!(event["refused"]["reason"], "audience_mismatch");
    assert!(err(&run(root.path(), &["explain", "AAAAAA.AAAAAAAAAAAAAAAA"], "")).contains("has no decision"));
    assert!(err(&run(root.path(), &["explain", "x"], "")).contains("a decision id is"));

    let revoked = run(root.path(), &["revoke"], &token);
    assert!(revoked.status.success() && out(&revoked).contains("revoked"), "{}", err(&revoked));
    assert_eq!(introspect(url, &token)["active"], false);
    let verified = run(root.path(), &["audit", "verify", "--json"], "");
    let report: Value = serde_json::from_str(&out(&verified)).unwrap();
    assert_eq!((report["holds"].as_bool(), report["events"].as_u64()), (Some(true), Some(4)));
    let chain = root.path().join("data/audit/00000001.jsonl");
    let text = std::fs::read_to_string(&chain).unwrap();
    std::fs::write(&chain, text.replacen("orders:read", "orders:writ", 1)).unwrap();
    let broken = run(root.path(), &["audit", "verify"], "");
    assert!(!broken.status.success() && err(&broken).contains("line 1 was edited"), "{}", err(&broken));
}

pub fn introspect(url: &str, token: &str) -> Value {
    use base64::Engine as _;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("orders-api:{}", secret("orders-api")));
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    send_to(address, "/introspect", &[("authorization", format!("Basic {basic}"))], &[("token", token)]).json
}

#[test]
fn a_revocation_survives_kill_9_and_needs_no_running_broker() {
    let root = Setup::new().write();
    let mut broker = Serving::start(root.path());
    let exchange = |url: &str| {
        out(&run(root.path(), &["exchange", "--broker", url, "--audience", ORDERS], &fresh().sign())).trim().to_owned()
    };
    let (first, second, third) = (exchange(&broker.url), exchange(&broker.url), exchange(&broker.url));
    let address = broker.url.strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(send_to(address, "/revoke", &[], &[("token", &first)]).status, 200);
    broker.kill();
    let offline = run(root.path(), &["revoke"], &second);
    assert!(offline.status.success(), "{}", err(&offline));
    let broker = Serving::start(root.path());
    assert_eq!(introspect(&broker.url, &first)["active"], false);
    assert_eq!(introspect(&broker.url, &second)["active"], false);
    assert_eq!(introspect(&broker.url, &third)["active"], true);
    let jti = introspect(&broker.url, &third)["jti"].as_str().unwrap().to_owned();
    let by_id = run(root.path(), &["revoke", &jti, "--json"], "");
    assert_eq!(serde_json::from_str::<Value>(&out(&by_id)).unwrap()["revoked"], jti.as_str());
    assert_eq!(introspect(&broker.url, &third)["active"], false);
    let report = countersign::audit::verify(&root.path().join("data/audit"), None, None).unwrap();
    assert_eq!((report.torn, report.events), (0, 6));
    // One id in sixty-four begins with a dash.
    let dashed = "-AAAAAAAAAAAAAAAAAAAAA";
    for arguments in [["revoke", dashed, "--json"], ["revoke", "--json", dashed]] {
        let revoked = run(root.path(), &arguments, "");
        assert_eq!(serde_json::from_str::<Value>(&out(&revoked)).unwrap()["revoked"], dashed, "{}", err(&revoked));
    }
    for arguments in [["keys", "revoke", "-no-such-key"], ["explain", "-no.such", "--json"]] {
        assert!(!err(&run(root.path(), &arguments, "")).contains("unexpected argument"));
    }
}

#[test]
fn the_control_socket_is_the_owners_alone_and_reads_strictly() {
    let root = Setup::new().write();
    let broker = Serving::start(root.path());
    let socket = root.path().join("data/control.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let ask = |line: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    };
    for wrong in [
        "x\n",
        "{}\n",
        "{\"shutdown\":{}}\n",
        "{\"revoke\":{\"jti\":\"short\"}}\n",
        "{\"revoke\":{\"jti\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"x\":1}}\n",
    ] {
        assert!(ask(wrong).contains("failed"), "{wrong}");
    }
    assert!(
        ask("{\"change\":{\"kind\":\"token\",\"id\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"act\":\"revoke\"}}\n")
            .contains("done")
    );
    let second = run(root.path(), &["serve"], "");
    assert!(!second.status.success() && err(&second).contains("in use"), "{}", err(&second));
    drop(broker);
    drop(Serving::start(root.path()));
}

#[test]
fn sigterm_ends_the_broker_in_order() {
    let root = Setup::new().write();
    let mut broker = Serving::start(root.path());
    Command::new("kill").args(["-TERM", &broker.child.id().to_string()]).status().unwrap();
    assert!(broker.child.wait().unwrap().success());
    assert!(!root.path().join("data/control.sock").exists());
}

#[test]
fn check_prints_what_is_trusted_and_everything_that_is_wrong() {
    let root = Setup::new().write();
    let good = run(root.path(), &["check"], "");
    let text = out(&good);
    assert!(good.status.success(), "{text}{}", err(&good));
    for expected in [
        "github-actions",
        GITHUB,
        "repository_owner_id = \"41\"",
        "spiffe://td.test",
        ORDERS,
        "orders:read orders:write",
        "this configuration can run",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!root.path().join("keys").exists(), "check changes nothing");
    let json: Value = serde_json::from_str(&out(&run(root.path(), &["check", "--json"], ""))).unwrap();
    assert_eq!((json["ok"].as_bool(), json["issuers"].as_array().map(Vec::len)), (Some(true), Some(3)));

    std::fs::write(root.path().join("policies/more.cedar"), "permit (principal, action, resource);").unwrap();
    std::fs::write(root.path().join("cluster.jwks"), "{}").unwrap();
    std::fs::create_dir(root.path().join("keys")).unwrap();
    let bad = run(root.path(), &["check"], "");
    let text = out(&bad);
    assert!(!bad.status.success());
    for expected in ["no `@id", "issuer `cluster`", "chmod 700", "mend 3 problem(s)"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!run(root.path(), &["serve"], "").status.success());

    let remote = Setup::new()
        .change("jwks_file = \"cluster.jwks\"\n", "allow_private_addresses = true\n")
        .change("https://cluster.test", "http://127.0.0.1:1")
        .write();
    assert!(out(&run(remote.path(), &["check"], "")).contains("issuer `cluster`"));
    let offline = run(remote.path(), &["check", "--offline"], "");
    assert!(offline.status.success() && out(&offline).contains("not asked"));
    let schema = run(remote.path(), &["check", "--schema"], "");
    assert!(out(&schema).contains("principal.github\ntype GithubAttributes = {"), "{}", out(&schema));
    assert!(out(&schema).contains("cluster?: ClusterAttributes"), "{}", out(&schema));
    let missing = run(remote.path(), &["check", "--config", "nowhere.toml"], "");
    assert!(err(&missing).contains("nowhere.toml:1:1: the file cannot be read"), "{}", err(&missing));
}

#[test]
fn inspect_judges_an_assertion_as_the_broker_would() {
    let root = Setup::new().write();
    let good = run(root.path(), &["inspect"], &fresh().sign());
    assert!(good.status.success() && out(&good).contains("✓ accept"), "{}", out(&good));
    let foreign = run(root.path(), &["inspect", "--json"], &fresh().claim("repository_owner_id", json!("666")).sign());
    let said: Value = serde_json::from_str(&out(&foreign)).unwrap();
    assert_eq!(
        (said["believed"].as_bool(), said["claims"]["repository_owner_id"].as_str()),
        (Some(false), Some("666"))
    );
    assert_eq!(said["checks"].as_array().unwrap().last().unwrap()[0], "accept");
    let hostile = run(root.path(), &["inspect"], &fresh().claim("actor", json!("\u{1b}[31mred\u{202e}\u{7}")).sign());
    assert!(
        !out(&hostile).contains('\u{1b}') && !out(&hostile).contains('\u{202e}') && !out(&hostile).contains('\u{7}')
    );
    assert!(err(&run(root.path(), &["inspect"], "x.y.z")).contains("no compact JWS"));
    assert!(err(&run(root.path(), &["inspect"], "")).contains("there is no token"));
}

#[test]
fn a_token_comes_from_a_file_a_variable_or_the_ci_system() {
    let root = Setup::new().write();
    let broker = Serving::start(root.path());
    let arguments = ["exchange", "--broker", broker.url.as_str(), "--audience", ORDERS];
    std::fs::write(root.path().join("token"), fresh().sign()).unwrap();
    assert!(run(root.path(), &[&arguments[..], &["--token-file", "token"]].concat(), "").status.success());
    let variable = |name: &str, value: &str, more: &[&str]| {
        program().current_dir(root.path()).args(arguments).args(more).env(name, value).output().unwrap()
    };
    assert!(variable("CI_TOKEN", &fresh().sign(), &["--token-env", "CI_TOKEN"]).status.success());
    assert!(err(&variable("OTHER", "x", &["--token-env", "CI_TOKEN"])).contains("`CI_TOKEN` is not set"));
    let asked = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let seen = std::sync::Arc::clone(&asked);
    let github = Upstream::new(move |path| {
        *seen.lock().unwrap() = path.to_owned();
        Answer::json(&json!({"value": fresh().sign()}))
    });
    let output = program()
        .current_dir(root.path())
        .args(arguments)
        .args(["--from", "github-actions", "--assertion-audience", STS])
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/token?api-version=2", github.url()))
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(*asked.lock().unwrap(), "/token?api-version=2&audience=https%3A%2F%2Fsts.test");
    assert!(
        err(&run(root.path(), &[&arguments[..], &["--from", "github-actions"]].concat(), ""))
            .contains("id-token: write")
    );
    let plain =
        run(root.path(), &["exchange", "--broker", "http://sts.acme.example", "--audience", "x"], &fresh().sign());
    assert!(err(&plain).contains("is not https"), "{}", err(&plain));
    std::fs::write(root.path().join("secret"), secret("orders-api")).unwrap();
    let as_client =
        [&arguments[..3], &["--audience", LEDGER, "--client-id", "orders-api", "--client-secret-file", "secret"]]
            .concat();
    let output = run(root.path(), &as_client, &fresh().sign());
    assert!(output.status.success(), "{}", err(&output));
}

#[test]
fn the_demo_holds_and_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let output =
        program().current_dir(root.path()).args(["demo", "--json"]).env("TMPDIR", root.path()).output().unwrap();
    let story: Value = serde_json::from_str(&out(&output)).unwrap();
    assert!(output.status.success() && story["ok"] == true && story["steps"].as_array().unwrap().len() == 8, "{story}");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    let people = program().arg("demo").env("TMPDIR", root.path()).output().unwrap();
    let people = out(&people);
    assert!(people.lines().count() < 50 && people.lines().all(|line| line.chars().count() <= 120), "{people}");
    // Claims that go in and come out, what differed and nothing else, how long it took, and what to do next.
    for part in [
        "repository_id \"74\"",
        "sub           \"github:repo:acme/app:ref:refs/heads/main\"",
        "accept: repository_owner_id = \"666\", expected repository_owner_id = \"41\"\n",
        " ms\n",
        "decision ",
        "countersign demo --serve",
    ] {
        assert!(people.contains(part), "{part}: {people}");
    }
}

/// The commands that `demo --serve` prints: each from `curl` or `token=` to the end of its last continued line.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        if goes_on {
            let last = commands.last_mut().unwrap();
            last.push('\n');
            last.push_str(line);
        } else if line.starts_with("curl ") || line.starts_with("token=") {
            commands.push(line.to_owned());
        }
        goes_on = line.ends_with('\\') && (goes_on || line.starts_with("curl "));
    }
    commands
}

#[test]
fn demo_serve_prints_commands_that_work_as_often_as_they_are_run() {
    let root = tempfile::tempdir().unwrap();
    let mut demo =
        program().args(["demo", "--serve"]).env("TMPDIR", root.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut text: String =
        lines.by_ref().take_while(|line| !line.contains("Ctrl-C")).map(|line| format!("{line}\n")).collect();
    text.push_str(&lines.next().unwrap());
    let shell = |script: &str| {
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let json = |script: &str| serde_json::from_str::<Value>(&shell(script)).unwrap();
    let commands = commands(&text);
    let [exchange, token, introspect, revoke, fails] = commands.as_slice() else { panic!("{commands:?}") };
    let folder = root.path().to_str().unwrap();
    let fits = |line: &str| line.replace(folder, "/tmp").chars().count() <= 100;
    assert!(commands.iter().flat_map(|command| command.lines()).all(fits), "{commands:?}");
    let (first, used) = (json(exchange), shell(&format!("cat {folder}/*/assertion.jwt")));
    assert_eq!(first["token_type"], "Bearer");
    // A used assertion is replaced by a fresh one.
    until("a fresh assertion comes", || shell(&format!("cat {folder}/*/assertion.jwt")) != used);
    assert_eq!(json(exchange)["token_type"], "Bearer", "again, with a fresh assertion");
    assert_eq!(json(&format!("{token}\n{introspect}"))["active"], true);
    assert_eq!(json(&format!("{token}\n{revoke}\n{introspect}"))["active"], false);
    let refused = json(fails);
    assert_eq!(refused["reason"], "subject_token_audience");
    let explain: Vec<&str> = text.lines().last().unwrap().trim().split(' ').collect();
    let config = explain[explain.iter().position(|word| *word == "--config").unwrap() + 1];
    let explained = program().args(["explain", "--config", config, refused["decision"].as_str().unwrap()]).output();
    assert!(out(&explained.unwrap()).contains("audience_mismatch"));
    Command::new("kill").args(["-TERM", &demo.id().to_string()]).status().unwrap();
    assert!(demo.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn help_teaches() {
    for arguments in [
        &["--help"][..],
        &["exchange", "--help"],
        &["check", "--help"],
        &["inspect", "--help"],
        &["revoke", "--help"],
        &["explain", "--help"],
        &["audit", "--help"],
        &["demo", "--help"],
        &["serve", "--help"],
    ] {
        let output = program().args(arguments).output().unwrap();
        assert!(output.status.success() && out(&output).contains("Usage: countersign"), "{arguments:?}");
    }
    assert_eq!(program().arg("nope").output().unwrap().status.code(), Some(2));
}

#[test]
fn b10_a_proxy_of_the_environment_is_not_used() {
    let upstream = Upstream::issuer(keys().github.jwks());
    let proxy = Upstream::new(|_| Answer::status(502));
    let discovered = format!("issuer = \"{}\"\nallow_private_addresses = true", upstream.url());
    let root = Setup::new()
        .change("jwks_file = \"github.jwks\"\n", "")
        .change(&format!("issuer = \"{GITHUB}\""), &discovered)
        .write();
    let proxy_url = proxy.url();
    let environment = [
        ("http_proxy", proxy_url.as_str()),
        ("HTTP_PROXY", &proxy_url),
        ("https_proxy", &proxy_url),
        ("ALL_PROXY", &proxy_url),
    ];
    let broker = Serving::start_with(root.path(), &environment);
    let token = fresh().claim("iss", json!(upstream.url())).sign();
    let output = run(root.path(), &["exchange", "--broker", &broker.url, "--audience", ORDERS], &token);
    assert!(output.status.success(), "{}", err(&output));
    assert!(proxy.connections() == 0 && upstream.connections() > 0);
}
