//! Tasks: opened by an assertion, and used when it has long expired.

use crate::cli::{Serving, err, fresh, introspect, out, program, run};
use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;

/// Leave to open tasks, and what the workload may have within them: by what its issuer said of it.
const POLICIES: &str = r#"
@id("main-opens")
@max_lifetime("2h")
permit (principal in Issuer::"github", action == Action::"open_task", resource == Target::"https://sts.test")
when { principal has github && principal.github has repository_id && principal.github.repository_id == "74" };

@id("imports")
permit (principal in Issuer::"cluster", action == Action::"open_task", resource == Target::"https://sts.test")
when { context.hints has task_purpose && context.hints.task_purpose == "import" && !(context has confirmation) };

@id("orders")
permit (principal, action == Action::"exchange", resource == Target::"https://orders.test")
when { context.scope == "orders:read" && (principal has cluster || (principal has github && principal.github has repository_id
  && principal.github.repository_id == "74")) };

@id("ledger-in-an-import")
permit (principal, action == Action::"exchange", resource == Target::"https://ledger.test")
when { context has task && context.task has purpose && context.task.purpose == "import" };

@id("impersonated")
permit (principal, action == Action::"impersonate", resource == Target::"https://orders.test")
when { context.scope == "orders:read" };
"#;

fn started() -> TestBroker {
    Setup::new().policies(POLICIES).start()
}

fn post(broker: &TestBroker, path: &str, key: Option<&Key>, form: &[(&str, &str)]) -> Reply {
    let now = countersign::domain::Clock::now(&broker.clock).seconds();
    let proof = key.map(|key| ("dpop", proof(key, path).claim("iat", json!(now)).sign()));
    send_to(broker.address, path, proof.as_slice(), form)
}

/// Opens a task with these terms, for the key `ed`.
fn open(broker: &TestBroker, terms: &[(&str, &str)]) -> Reply {
    opened_by(broker, &Token::github().sign(), Some(&keys().ed), terms)
}

fn opened_by(broker: &TestBroker, assertion: &str, key: Option<&Key>, terms: &[(&str, &str)]) -> Reply {
    let form = [("grant_type", GRANT), ("subject_token", assertion), ("subject_token_type", JWT), ("audience", STS)];
    post(broker, "/token", key, &[&form[..], terms].concat())
}

/// Asks for a token for `audience` within the task.
fn within(broker: &TestBroker, task: &str, key: Option<&Key>, audience: &str) -> Reply {
    let form =
        [("grant_type", GRANT), ("subject_token", task), ("subject_token_type", ACCESS_TOKEN), ("audience", audience)];
    post(broker, "/token", key, &form)
}

fn renew(broker: &TestBroker, task: &str) -> Reply {
    within(broker, task, Some(&keys().ed), ORDERS)
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[test]
fn a_job_outlives_its_assertion_until_its_deadline_and_no_longer() {
    let broker = started();
    let deadline = (NOW + 3_700).to_string();
    let opened = open(&broker, &[("task_deadline", &deadline), ("task_purpose", "nightly"), ("task_budget", "9")]);
    assert_eq!((opened.status, opened.text("token_type"), &opened.json["expires_in"]), (200, "DPoP", &json!(3_700)));
    let task = opened.token();
    let said = claims(&task);
    assert_eq!(
        (&said["aud"], &said["task"]["id"], &said["task"]["deadline"]),
        (&json!(STS), &said["jti"], &json!(NOW + 3_700))
    );
    assert!(said["task"].get("purpose").is_none(), "nobody compared it");
    broker.clock.advance(3_590);
    let reply = renew(&broker, &task);
    let child = claims(&reply.token());
    assert_eq!((&child["aud"], &child["scope"], &child["sub"]), (&json!(ORDERS), &json!("orders:read"), &said["sub"]));
    assert_eq!(
        child["task"],
        json!({"id": said["jti"], "deadline": NOW + 3_700}),
        "what only the task's own token has is left out"
    );
    assert_eq!((&child["cnf"], &child["lineage"][0]["jti"]), (&said["cnf"], &said["jti"]));
    assert_eq!(child["exp"], NOW + 3_700, "within the task's");
    let question = broker.event(&reply).question.unwrap();
    assert_eq!(
        (question.task.unwrap().id.as_str(), question.action.name()),
        (said["jti"].as_str().unwrap(), "exchange")
    );
    let record = broker.event(&opened).granted.unwrap().opened.unwrap();
    assert_eq!((record.purpose.as_deref(), record.budget), (Some("nightly"), Some(9)));
    // The store, the key and the clock are all that it needs: it goes on after a restart.
    let broker = broker.restart();
    broker.clock.advance(109);
    assert_eq!(renew(&broker, &task).json["expires_in"], 1);
    broker.clock.advance(1);
    assert_eq!(renew(&broker, &task).refusal(), (400, "invalid_request", "subject_token_refused"));
}

#[test]
fn a_task_lasts_as_long_as_the_least_that_bounds_it() {
    let lasts = |broker: &TestBroker, terms: &[(&str, &str)]| open(broker, terms).json["expires_in"].clone();
    let broker = started();
    let far = (NOW + 80_000).to_string();
    assert_eq!(lasts(&broker, &[]), 7_200, "the permit");
    assert_eq!(lasts(&broker, &[("task_deadline", &far)]), 7_200);
    assert_eq!(lasts(&broker, &[("lifetime", "30")]), 30);
    for late in [NOW, NOW - 1, 0] {
        let reply = open(&broker, &[("task_deadline", &late.to_string())]);
        assert_eq!(reply.refusal(), (400, "invalid_request", "task_parameter_malformed"), "{late}");
    }
    let short = Setup::new().policies(POLICIES).change("\"6h\"", "\"20m\"").start();
    assert_eq!(lasts(&short, &[]), 1_200, "the configuration");
}

#[test]
fn a_task_is_opened_by_who_proves_a_key_or_has_leave() {
    let broker = started();
    let reply = opened_by(&broker, &Token::github().sign(), None, &[]);
    assert_eq!(reply.refusal(), (400, "invalid_request", "confirmation_required"));
    // A permit that says that it is right without one, and holds: the purpose that it compared is in the token.
    let opened = opened_by(&broker, &Token::cluster().sign(), None, &[("task_purpose", "import")]);
    let task = opened.token();
    assert_eq!((opened.text("token_type"), &claims(&task)["task"]["purpose"]), ("Bearer", &json!("import")));
    assert_eq!(broker.event(&opened).answer.unwrap().verdicts[0].compared, ["confirmation", "purpose"]);
    let ledger = within(&broker, &task, None, LEDGER);
    assert_eq!(claims(&ledger.token())["task"]["purpose"], "import");
    assert_eq!(broker.exchange(&Token::cluster().sign(), &[("audience", LEDGER)]).refusal().2, "target_refused");
    let other = opened_by(&broker, &Token::cluster().sign(), None, &[("task_purpose", "mine bitcoin")]);
    assert_eq!(other.refusal(), (400, "invalid_target", "target_refused"));
    assert_eq!(opened_by(&broker, &Token::svid().sign(), Some(&keys().ed), &[]).refusal().2, "target_refused");
}

#[test]
fn a_task_is_for_the_targets_that_it_was_opened_for() {
    let broker = started();
    let task = open(&broker, &[("task_target", ORDERS), ("task_target", "https://orders.test/v1")]).token();
    assert_eq!(claims(&task)["task"]["targets"], json!([ORDERS]), "by its one audience");
    assert_eq!(renew(&broker, &task).status, 200);
    let other = open(&broker, &[("task_target", LEDGER)]).token();
    let reply = renew(&broker, &other);
    assert_eq!(reply.refusal(), (400, "invalid_target", "target_refused"));
    assert_eq!(broker.reason(&reply), "target_outside_task");
    // A name that no target has is as good as any, and no use: what is registered is not told.
    for unknown in ["https://unknown.test", "x"] {
        let task = open(&broker, &[("task_target", unknown)]).token();
        assert_eq!(renew(&broker, &task).refusal().2, "target_refused", "{unknown}");
        let without_key = |name: &str| opened_by(&broker, &Token::github().sign(), None, &[("task_target", name)]);
        assert_eq!(without_key(ORDERS).refusal(), without_key(unknown).refusal());
    }
    assert_eq!(open(&broker, &[("task_target", &"x".repeat(1_024))]).status, 200);
    assert_eq!(open(&broker, &[("task_target", &"x".repeat(1_025))]).refusal().2, "task_parameter_malformed");
    assert_eq!(open(&broker, &[("task_target", ORDERS); 16]).status, 200);
    let many = [("task_target", ORDERS); 17];
    assert_eq!(open(&broker, &many).refusal().2, "too_many_targets");
}

#[test]
fn a_budget_counts_tokens_and_nothing_else() {
    let broker = started();
    let task = open(&broker, &[("task_budget", "3")]).token();
    assert_eq!(renew(&broker, &task).status, 200);
    for refused in [within(&broker, &task, Some(&keys().ed), LEDGER), within(&broker, &task, None, ORDERS)] {
        assert_eq!(refused.status, 400);
    }
    let broker = broker.restart();
    let address = broker.address;
    let answers: Vec<Reply> = std::thread::scope(|scope| {
        let ask = || {
            let form = [
                ("grant_type", GRANT),
                ("subject_token", task.as_str()),
                ("subject_token_type", ACCESS_TOKEN),
                ("audience", ORDERS),
            ];
            send_to(address, "/token", &[("dpop", proof(&keys().ed, "/token").sign())], &form)
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 2, "three in all, before and after");
    let spent = answers.iter().find(|answer| answer.status != 200).unwrap();
    assert_eq!(spent.refusal(), (400, "invalid_request", "task_budget_spent"));
    let broker = broker.restart();
    assert_eq!(renew(&broker, &task).refusal().2, "task_budget_spent");
}

#[test]
fn a_task_that_is_idle_for_too_long_is_over() {
    let broker = Setup::new().policies(POLICIES).change("\"1h\"", "\"10m\"").start();
    let unused = open(&broker, &[]).token();
    let task = open(&broker, &[]).token();
    for _ in 0..3 {
        // A token of ten minutes, and ten minutes without one.
        assert_eq!(renew(&broker, &task).json["expires_in"], 600);
        broker.clock.advance(1_200);
    }
    assert_eq!(renew(&broker, &task).status, 200);
    assert_eq!(renew(&broker, &unused).refusal(), (400, "invalid_request", "task_idle"));
    let states = || {
        let tasks = countersign::http::block_on(broker.operator.admin().tasks()).unwrap();
        tasks.into_iter().map(|(_, end)| end.name()).collect::<Vec<_>>()
    };
    broker.clock.advance(1_200);
    let mut before = states();
    before.sort_unstable();
    assert_eq!(before, ["idle", "open"]);
    broker.clock.advance(1);
    assert_eq!(states(), ["idle", "idle"]);
    assert_eq!(renew(&broker, &task).refusal(), (400, "invalid_request", "task_idle"));
}

#[test]
fn what_is_exchanged_onward_within_a_task_stays_within_it() {
    let onward = "@id(\"onward\") permit (principal, action == Action::\"impersonate\", resource == Target::\"https://ledger.test\");";
    let broker = Setup::new().policies(&format!("{POLICIES}{onward}")).start();
    let unbound = |terms: &[(&str, &str)]| {
        let terms = [&[("task_purpose", "import")][..], terms].concat();
        opened_by(&broker, &Token::cluster().sign(), None, &terms).token()
    };
    let onward = |token: &str| {
        let form = [
            ("grant_type", GRANT),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", LEDGER),
        ];
        broker.post_as("orders-api", "/token", &form)
    };
    let narrow = unbound(&[("task_target", ORDERS)]);
    let child = within(&broker, &narrow, None, ORDERS).token();
    let reply = onward(&child);
    assert_eq!((reply.refusal().2, broker.reason(&reply).as_str()), ("target_refused", "target_outside_task"));
    let two = unbound(&[("task_budget", "2")]);
    let child = within(&broker, &two, None, ORDERS).token();
    let reply = onward(&child);
    let task = broker.event(&reply).question.unwrap().task.unwrap();
    assert_eq!((reply.status, task.purpose.as_deref()), (200, Some("import")));
    assert_eq!(onward(&child).refusal().2, "task_budget_spent");
}

#[test]
fn a_client_that_is_the_workload_itself_uses_its_task_at_first_hand() {
    let mut setup = Setup::new().policies(POLICIES);
    setup.config.push_str("[[clients]]\nid = \"deployer\"\nissuer = \"cluster\"\nsubject = \"system:serviceaccount:prod:deployer\"\nintrospects = [\"https://orders.test\"]\n");
    let broker = setup.start();
    let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let ask = |subject: &str, declared: &str, more: &[(&str, &str)]| {
        let assertion = Token::cluster().sign();
        let form = [("grant_type", GRANT), ("subject_token", subject), ("subject_token_type", declared)];
        let client = [("client_assertion", assertion.as_str()), ("client_assertion_type", bearer)];
        broker.post("/token", &[&form[..], &client, more].concat())
    };
    let opens = [("audience", STS), ("task_purpose", "import")];
    let task = ask(&Token::cluster().sign(), JWT, &opens).token();
    let action = |reply: &Reply| broker.event(reply).question.unwrap().action.name();
    let first = ask(&task, ACCESS_TOKEN, &[("audience", ORDERS)]);
    assert_eq!((first.status, action(&first)), (200, "exchange"));
    // A token that it got is another thing: what it asks for with that it asks as the target's server.
    let onward = ask(&first.token(), ACCESS_TOKEN, &[("audience", LEDGER)]);
    assert_eq!(action(&onward), "impersonate");
}

#[test]
fn to_be_mentioned_by_a_permit_is_not_to_be_compared() {
    let open = |condition: &str, bound: bool| {
        let policies =
            format!("@id(\"p\") permit (principal, action == Action::\"open_task\", resource) when {{ {condition} }};");
        let broker = Setup::new().policies(&policies).start();
        let key = bound.then_some(&keys().ed);
        let reply = opened_by(&broker, &Token::github().sign(), key, &[("task_purpose", "import")]);
        let purpose = if reply.status == 200 { claims(&reply.token())["task"].get("purpose").cloned() } else { None };
        (reply.status, purpose, reply.text("reason").to_owned())
    };
    let told = Some(json!("import"));
    assert_eq!(open("context.hints has task_purpose && context.hints.task_purpose == \"import\"", true).1, told);
    for loose in [
        "!(context.hints has task_purpose && context.hints.task_purpose == \"drill\")",
        "(context has client) == false || (context.hints has task_purpose && context.hints.task_purpose == \"import\")",
        "context.hints has task_purpose",
    ] {
        let (status, purpose, _) = open(loose, true);
        assert_eq!((status, purpose), (200, None), "{loose}");
    }
    assert_eq!(open("!(context has confirmation)", false).0, 200);
    for loose in [
        "!(context has confirmation && context.confirmation has jkt && context.confirmation.jkt == \"stolen\")",
        "context has confirmation || (context has client) == false",
        "true",
    ] {
        let (status, _, reason) = open(loose, false);
        assert_eq!((status, reason.as_str()), (400, "confirmation_required"), "{loose}");
    }
}

#[test]
fn without_a_section_of_tasks_none_is_opened() {
    let none = Setup::new().change("[tasks]\nmax_deadline = \"6h\"\nidle = \"1h\"\n", "");
    let broker = none.policies(POLICIES).start();
    let reply = open(&broker, &[]);
    assert_eq!((reply.refusal().2, broker.reason(&reply).as_str()), ("target_refused", "target_unknown"));
}

#[test]
fn one_workload_does_not_take_all_places() {
    use countersign::store::{Embedded, StoreError, TaskRecords as _};
    let record = |number: usize, workload: &str| countersign::domain::TaskRecord {
        id: format!("t{number}"),
        workload: workload.to_owned(),
        issuer: "github".to_owned(),
        client: None,
        cnf: None,
        purpose: None,
        budget: None,
        targets: Vec::new(),
        opened: NOW,
        deadline: NOW + 60,
        decision: String::new(),
        iss: GITHUB.to_owned(),
        kid: String::new(),
        pos: 0,
    };
    let now = countersign::domain::Timestamp::new(NOW).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path(), now).unwrap();
    countersign::http::block_on(async {
        for number in 0..1_000 {
            store.open(record(number, "a"), now).await.unwrap();
        }
        assert_eq!(store.open(record(1_000, "a"), now).await, Err(StoreError::TooManyTasks));
        assert!(store.open(record(1_001, "b"), now).await.is_ok());
        assert!(
            store.open(record(1_002, "a"), now.plus(61)).await.is_ok(),
            "those whose deadline has passed make room"
        );
    });
}

#[test]
fn a_task_is_used_with_its_key_by_who_opened_it_and_opens_no_other() {
    let broker = started();
    let task = open(&broker, &[]).token();
    assert_eq!(within(&broker, &task, None, ORDERS).refusal().2, "dpop_proof_required");
    assert_eq!(within(&broker, &task, Some(&keys().evil), ORDERS).refusal().2, "dpop_key_mismatch");
    assert_eq!(
        within(&broker, &task, Some(&keys().ed), STS).refusal(),
        (400, "invalid_request", "task_subject_refused")
    );
    let form =
        [("grant_type", GRANT), ("subject_token", &task), ("subject_token_type", ACCESS_TOKEN), ("audience", ORDERS)];
    let as_client = |client: &str, form: &[(&str, &str)]| {
        let headers = [("authorization", basic(client)), ("dpop", proof(&keys().ed, "/token").sign())];
        send_to(broker.address, "/token", &headers, form)
    };
    // A client that presents a workload's token speaks for it, and needs leave for that.
    let reply = as_client("orders-api", &form);
    assert_eq!((reply.status, broker.event(&reply).question.unwrap().action.name()), (200, "impersonate"));
    let assertion = Token::github().sign();
    let by_client =
        [("grant_type", GRANT), ("subject_token", &assertion), ("subject_token_type", JWT), ("audience", STS)];
    let of_client = as_client("orders-api", &by_client).token();
    let form = [
        ("grant_type", GRANT),
        ("subject_token", &of_client),
        ("subject_token_type", ACCESS_TOKEN),
        ("audience", ORDERS),
    ];
    assert_eq!(as_client("orders-api", &form).status, 200);
    assert_eq!(as_client("ledger-api", &form).refusal().2, "presenter_not_audience");
    assert_eq!(renew(&broker, &of_client).refusal().2, "presenter_not_audience");
    // It is nobody's audience: no resource server is told of it.
    assert_eq!(broker.introspect("orders-api", &task).json, json!({"active": false}));
}

#[test]
fn e30_terms_of_a_task_are_understood_or_refused() {
    let broker = started();
    for (name, value) in [
        ("task_deadline", "soon"),
        ("task_deadline", "-1"),
        ("task_deadline", "4000001000.5"),
        ("task_deadline", "99999999999999999999"),
        ("task_budget", "0"),
        ("task_budget", "10001"),
        ("task_budget", "+1"),
        ("task_purpose", "line\nbreak"),
        ("task_purpose", &"x".repeat(257)),
    ] {
        assert_eq!(
            open(&broker, &[(name, value)]).refusal(),
            (400, "invalid_request", "task_parameter_malformed"),
            "{name}"
        );
    }
    assert_eq!(open(&broker, &[("task_purpose", &"é".repeat(256)), ("task_budget", "10000")]).status, 200);
    assert_eq!(open(&broker, &[("task_owner", "me")]).refusal().2, "task_parameter_unknown");
    assert_eq!(open(&broker, &[("task_budget", "1"), ("task_budget", "2")]).refusal().2, "parameter_repeated");
    let task = open(&broker, &[]).token();
    for terms in [("task_deadline", "4000001000"), ("task_purpose", "")] {
        let form = [
            ("grant_type", GRANT),
            ("subject_token", &task),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", ORDERS),
            terms,
        ];
        assert_eq!(post(&broker, "/token", Some(&keys().ed), &form).refusal().2, "task_not_opened");
    }
    let both = [("audience", STS), ("audience", ORDERS)];
    assert_eq!(broker.exchange(&Token::github().sign(), &both).refusal(), (400, "invalid_target", "target_refused"));
}

#[test]
fn ending_a_task_ends_everything_under_it() {
    let broker = started();
    let (task, other) = (open(&broker, &[]).token(), open(&broker, &[]).token());
    let [child, sibling, beside] = [&task, &task, &other].map(|task| renew(&broker, task).token());
    let alive = |token: &str| broker.introspect("orders-api", token).json["active"] == true;
    // A child ends alone.
    assert_eq!(post(&broker, "/revoke", Some(&keys().ed), &[("token", &child)]).status, 200);
    assert!(!alive(&child) && alive(&sibling));
    assert_eq!(post(&broker, "/revoke", None, &[("token", &task)]).refusal().2, "dpop_proof_required");
    assert!(alive(&sibling));
    assert_eq!(post(&broker, "/revoke", Some(&keys().ed), &[("token", &task)]).status, 200);
    assert!(!alive(&sibling) && alive(&beside));
    assert_eq!(renew(&broker, &task).refusal().2, "subject_token_revoked");
    let broker = broker.restart();
    assert_eq!(renew(&broker, &task).refusal().2, "subject_token_revoked");
    assert_eq!(renew(&broker, &other).status, 200);
}

#[test]
fn policy_of_this_moment_bounds_a_task_and_an_issuer_that_is_gone_ends_it() {
    let broker = started();
    let task = open(&broker, &[]).token();
    let reload = |broker: TestBroker, change: &dyn Fn(&Path)| broker.restart_after(|root| change(root));
    let broker = reload(broker, &|root| {
        std::fs::write(
            root.join("policies/all.cedar"),
            POLICIES.replace("\"orders:read\" && (", "\"orders:write\" && ("),
        )
        .unwrap();
    });
    let reply = renew(&broker, &task);
    assert_eq!(claims(&reply.token())["scope"], "orders:write");
    let broker = reload(broker, &|root| {
        let config = std::fs::read_to_string(root.join("countersign.toml")).unwrap();
        let changed = config.replace(GITHUB, "https://github.acme.test");
        std::fs::write(root.join("countersign.toml"), changed).unwrap();
    });
    assert_eq!(renew(&broker, &task).status, 400);
}

#[test]
fn a_task_that_the_store_does_not_know_is_refused() {
    let broker = started();
    let task = open(&broker, &[]).token();
    let broker = broker.restart_after(|root| {
        let database = database(&root.join("data/store.redb"));
        let write = database.begin_write().unwrap();
        let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("tasks");
        write.open_table(table).unwrap().retain(|_, _| false).unwrap();
        write.commit().unwrap();
    });
    let reply = renew(&broker, &task);
    assert_eq!((reply.refusal().2, broker.reason(&reply).as_str()), ("subject_token_refused", "task_unknown"));
}

fn told(root: &Path, arguments: &[&str]) -> Value {
    let output = run(root, &[arguments, &["--json"]].concat(), "");
    assert!(output.status.success(), "{arguments:?}: {}{}", out(&output), err(&output));
    serde_json::from_str(&out(&output)).unwrap()
}

fn installed() -> tempfile::TempDir {
    let config = Setup::new().policies(POLICIES);
    config.change("max_lifetime = \"10m\"", "max_lifetime = \"3s\"").write()
}

/// `countersign task run` around a shell script.
fn task_run(root: &Path, broker: &Serving, more: &[&str], script: &str) -> std::process::Command {
    let mut command = program();
    std::fs::write(root.join("assertion"), fresh().sign()).unwrap();
    let fixed = ["task", "run", "--broker", STS, "--at", &broker.url, "--target", ORDERS, "--token-file", "assertion"];
    command.current_dir(root).args(fixed).args(more).args(["--", "sh", "-c", script]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_command_runs_in_a_task_with_tokens_that_are_kept_fresh_and_nothing_is_alive_behind_it() {
    let root = installed();
    let root = root.path();
    let broker = Serving::start(root);
    let script = r#"
set -e
cp "$COUNTERSIGN_TOKEN_FILE" first; stat -c '%a' "$COUNTERSIGN_TOKEN_FILE" "$COUNTERSIGN_KEY_FILE" "$(dirname "$COUNTERSIGN_KEY_FILE")" > modes
dirname "$COUNTERSIGN_KEY_FILE" > place; head -1 "$COUNTERSIGN_KEY_FILE" > key; cmp "$COUNTERSIGN_TOKEN_FILE" "$COUNTERSIGN_TOKEN_FILE_1"
for beat in $(seq 100); do sleep 0.1; cmp -s "$COUNTERSIGN_TOKEN_FILE" first || break; done
cp "$COUNTERSIGN_TOKEN_FILE" last; exec sleep 0.1 && exit 0
"#;
    let script = format!("{}\nexit 7\n", script.trim_end().trim_end_matches("exec sleep 0.1 && exit 0"));
    let more = ["--purpose", "nightly import", "--deadline", "30m", "--budget", "50"];
    let ran = task_run(root, &broker, &more, &script).output().unwrap();
    assert_eq!(ran.status.code(), Some(7), "{}{}", out(&ran), err(&ran));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    assert_eq!((read("modes").as_str(), read("key").trim()), ("600\n600\n700\n", "-----BEGIN PRIVATE KEY-----"));
    let (first, last) = (read("first"), read("last"));
    assert_ne!(claims(&first)["jti"], claims(&last)["jti"]);
    assert!(claims(&last)["cnf"]["jkt"].is_string() && claims(&last)["cnf"] == claims(&first)["cnf"]);
    assert_eq!(introspect(&broker.url, &last)["active"], false, "it was alive for a second more");
    assert!(!Path::new(read("place").trim()).exists());
    let listed = told(root, &["task", "list"]);
    let [task] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!(
        (&task["state"], &task["purpose"], &task["budget"]),
        (&json!("ended"), &json!("nightly import"), &json!(50))
    );
    assert!(task["used"].as_u64().unwrap() >= 2);
    let shown = out(&run(root, &["task", "show", task["id"].as_str().unwrap()], ""));
    for part in ["ended", "nightly import", ORDERS, "of 50", "github:repo:acme/app:ref:refs/heads/main"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    drop(broker);
    let mut again = told(root, &["task", "list"]);
    // Counted anew by who opens the store.
    again[0]["last_used"] = listed[0]["last_used"].clone();
    assert_eq!(again, listed, "where no broker runs, from its store");
    let nobody = run(root, &["task", "show", "AAAAAAAAAAAAAAAAAAAAAA"], "");
    assert!(!nobody.status.success() && err(&nobody).contains("countersign task list"), "{}", err(&nobody));
}

#[test]
fn the_command_of_the_page_works() {
    let root = installed();
    let root = root.path();
    let broker = Serving::start(root);
    let page = include_str!("../../docs/tasks.md");
    let shown = page.split("```sh\n").nth(1).unwrap().split("\n```").next().unwrap();
    std::fs::write(root.join("import.sh"), "#!/bin/sh\ncp \"$COUNTERSIGN_TOKEN_FILE\" imported\n").unwrap();
    std::fs::write(root.join("assertion"), fresh().sign()).unwrap();
    let mut command = shown.to_owned();
    for (from, to) in [
        ("countersign task", format!("{} task", program().get_program().display()).as_str()),
        ("https://sts.acme.example", &format!("{STS} --at {}", broker.url)),
        ("https://orders.acme.example", ORDERS),
        ("--from github-actions", "--token-file assertion"),
        ("./import.sh", "sh ./import.sh"),
    ] {
        assert!(command.contains(from), "{from}");
        command = command.replace(from, to);
    }
    let ran = std::process::Command::new("sh").args(["-c", &command]).current_dir(root).output().unwrap();
    assert!(ran.status.success(), "{}", err(&ran));
    let imported = std::fs::read_to_string(root.join("imported")).unwrap();
    assert_eq!(claims(&imported)["aud"], ORDERS);
    assert_eq!(told(root, &["task", "list"])[0]["purpose"], "nightly import");
}

#[test]
fn a_signal_goes_to_the_command_and_the_task_ends_with_it() {
    let root = installed();
    let root = root.path();
    let broker = Serving::start(root);
    let script = "trap 'cp \"$COUNTERSIGN_TOKEN_FILE\" last; exit 3' TERM; touch ready; while :; do sleep 0.05; done";
    let mut job = task_run(root, &broker, &[], script).spawn().unwrap();
    until("the command runs", || root.join("ready").exists());
    let pid = rustix::process::Pid::from_raw(i32::try_from(job.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(job.wait().unwrap().code(), Some(3));
    let last = std::fs::read_to_string(root.join("last")).unwrap();
    assert_eq!(introspect(&broker.url, &last)["active"], false);
    assert_eq!(told(root, &["task", "list"])[0]["state"], "ended");
}

#[test]
fn a_command_in_a_task_that_an_operator_ends_is_told_that_its_token_is_not_renewed() {
    let root = installed();
    let root = root.path();
    let broker = Serving::start(root);
    let script = "touch ready; while [ ! -e go ]; do sleep 0.05; done";
    let mut job = task_run(root, &broker, &[], script).spawn().unwrap();
    until("the command runs", || root.join("ready").exists());
    let id = told(root, &["task", "list"])[0]["id"].as_str().unwrap().to_owned();
    let ended = run(root, &["task", "end", &id], "");
    assert!(ended.status.success() && out(&ended).contains("everything below it"), "{}", err(&ended));
    let mut warnings = std::io::BufRead::lines(std::io::BufReader::new(job.stderr.take().unwrap()));
    let mut said = warnings.find_map(|line| line.ok().filter(|line| line.contains("is not renewed"))).unwrap();
    std::fs::write(root.join("go"), "").unwrap();
    said.extend(warnings.map_while(Result::ok));
    assert_eq!(job.wait().unwrap().code(), Some(0));
    assert!(said.contains("is not renewed") && said.contains("subject_token_revoked"), "{said}");
    drop(broker);
    let broker = Serving::start(root);
    // Every way to end it shows.
    for named in [["--workload", "github:repo:acme/app:ref:refs/heads/main"], ["--issuer", "github"]] {
        let mut job = task_run(root, &broker, &[], "touch running; exec sleep 60").spawn().unwrap();
        let used = || {
            let tasks = told(root, &["task", "list"]);
            let open = tasks.as_array().unwrap().iter().filter(|task| task["state"] == "open");
            open.map(|task| task["used"].as_u64().unwrap()).sum::<u64>()
        };
        until("the task is used", || used() > 0);
        until("the command runs", || std::fs::remove_file(root.join("running")).is_ok());
        assert!(run(root, &["revoke", named[0], named[1]], "").status.success());
        assert_eq!(used(), 0, "{named:?}");
        let pid = rustix::process::Pid::from_raw(i32::try_from(job.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
        assert_eq!(job.wait().unwrap().code(), Some(128 + 10), "passed on");
    }
    let refused = task_run(root, &broker, &["--unbound"], "touch ran").output().unwrap();
    assert!(!refused.status.success() && err(&refused).contains("confirmation_required"), "{}", err(&refused));
    assert!(!root.join("ran").exists());
}

#[test]
fn the_attributes_of_a_task_must_still_fit_the_entry_of_its_issuer() {
    let broker = started();
    let opened = opened_by(&broker, &Token::cluster().sign(), None, &[("task_purpose", "import")]);
    let task = opened.token();
    assert_eq!(within(&broker, &task, None, ORDERS).status, 200);
    let config = std::fs::read_to_string(broker.config()).unwrap();
    let typed = config.replace("{ claim = \"/env\" }", "{ claim = \"/env\", type = \"integer\" }");
    assert_ne!(typed, config);
    let broker = broker.restart_after(|root| std::fs::write(root.join("countersign.toml"), typed).unwrap());
    let reply = within(&broker, &task, None, ORDERS);
    assert_eq!((reply.status, broker.reason(&reply).as_str()), (400, "own_token_invalid"));
}
