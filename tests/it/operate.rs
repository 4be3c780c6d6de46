//! What an operator does to a broker that runs, and what it tells of itself.

use crate::support::*;
use countersign::admin::{AdminAnswer, AdminRequest, Change, OperatorId};
use countersign::app::{Installation, JOBS, JobRow, StartError};
use countersign::config::Config;
use countersign::control::{self, Reply};
use countersign::domain::{Clock, Entropy, Purpose, SystemEntropy};
use countersign::http::block_on;
use countersign::telemetry::Job;
use countersign_verify::key::Algorithm;
use countersign_verify::revocation::{Act, Kind};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

fn reload(broker: &TestBroker) -> Result<(), String> {
    ask(broker, &AdminRequest::Reload {}).map(drop)
}

/// Asks by the control socket.
fn ask(broker: &TestBroker, request: &AdminRequest) -> Result<AdminAnswer, String> {
    match control::ask(&broker.path("data/control.sock"), request).unwrap() {
        Reply::Done(answer) => Ok(answer),
        Reply::Failed { message } => Err(message),
    }
}

/// The control socket of a broker that runs and the command line on its store are two faces of one layer.
#[test]
fn every_use_case_of_operators_answers_the_same_through_each_face() {
    let broker = TestBroker::new();
    broker.exchange(&Token::github().sign(), &[]);
    let change = |kind, id: &str, act| AdminRequest::Change(Change { kind, id: id.to_owned(), act, reason: None });
    let key = AdminRequest::RotateKey { purpose: Purpose::Introspection, algorithm: Algorithm::Es256 };
    assert!(matches!(ask(&broker, &key), Ok(AdminAnswer::Key(key)) if key.purpose == "introspection"));
    let suspended = ask(&broker, &change(Kind::Workload, "github:x", Act::Suspend));
    assert!(matches!(suspended, Ok(AdminAnswer::Changed(_))), "{suspended:?}");
    let wrong = [
        (change(Kind::Workload, "github:y", Act::Resume), "not suspended"),
        (change(Kind::Key, "x", Act::Revoke), "countersign keys revoke"),
        (change(Kind::Token, "x", Act::Revoke), "22 characters"),
        (change(Kind::Workload, "", Act::Revoke), "empty"),
        (change(Kind::Workload, "x", Act::RevokeBefore(i64::MAX)), "lies ahead"),
        (AdminRequest::RevokeKey { kid: "nobody".to_owned(), reason: None }, "no key has the id `nobody`"),
        (AdminRequest::RevokeKey { kid: "x".to_owned(), reason: Some("\n".to_owned()) }, "the reason is"),
        (AdminRequest::RotateKey { purpose: Purpose::Checkpoints, algorithm: Algorithm::Rs256 }, "cannot be signed"),
    ];
    let lists = [AdminRequest::Keys {}, AdminRequest::Revocations {}, AdminRequest::Tasks {}];
    let told: Vec<_> = lists.iter().map(|list| ask(&broker, list).unwrap()).collect();
    let refused: Vec<_> = wrong.iter().map(|(request, _)| ask(&broker, request).unwrap_err()).collect();
    for (message, (_, part)) in refused.iter().zip(&wrong) {
        assert!(message.contains(part), "{message}");
    }
    let clock: Arc<dyn Clock> = Arc::new(broker.clock.clone());
    let _broker = broker.restart_after(|root| {
        let installation = Installation::read(&root.join("countersign.toml")).unwrap();
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        block_on(async {
            let (admin, by) = (installation.admin(&clock, &entropy).await.unwrap(), OperatorId::own());
            for (list, told) in lists.into_iter().zip(told) {
                assert_eq!(admin.perform(list, &by).await.unwrap(), told);
            }
            for ((request, _), refused) in wrong.into_iter().zip(refused) {
                assert_eq!(admin.perform(request, &by).await.unwrap_err().to_string(), refused);
            }
            let resumed = admin.perform(change(Kind::Workload, "github:x", Act::Resume), &by).await;
            assert!(matches!(resumed, Ok(AdminAnswer::Changed(_))));
        });
    });
}

#[test]
fn every_background_job_is_in_the_metrics_and_on_the_page() {
    let broker = TestBroker::new();
    broker.tend();
    let figures = broker.broker.metrics().render(&broker.operator.figures());
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations/monitoring.md")).unwrap();
    assert_eq!(JOBS.map(|row| row.job), Job::ALL);
    for JobRow { job, period, if_it_fails } in JOBS {
        let name = job.name();
        assert!(page.contains(&format!("| `{name}` | {period} | {if_it_fails} |")), "{name}");
        for result in ["ok", "failed"] {
            let label = format!("countersign_job_runs_total{{job=\"{name}\",result=\"{result}\"}}");
            assert!(figures.contains(&label), "{label}");
        }
    }
    let runs = |job| {
        let label = format!("countersign_job_runs_total{{job=\"{job}\",result=\"ok\"}} ");
        figures.lines().find_map(|line| line.strip_prefix(&label)?.parse::<u64>().ok()).unwrap()
    };
    assert!(runs("signing_keys") > 0 && runs("audit_log") > 0, "{figures}");
}

#[test]
fn i6_a_reload_swaps_configuration_and_policies_whole_or_not_at_all() {
    let broker = TestBroker::new();
    let config = fs::read_to_string(broker.config()).unwrap();
    let policies = fs::read_to_string(broker.path("policies/all.cedar")).unwrap();
    let denied = || broker.exchange(&Token::github().sign(), &[("audience", LEDGER)]).status == 400;
    let works = || broker.exchange(&Token::github().sign(), &[]).status == 200;
    assert!(denied() && works());
    let more = format!(
        "{policies}\n@id(\"ledger-too\")\npermit (principal in Issuer::\"github\", action == Action::\"exchange\", resource == Target::\"{LEDGER}\");\n"
    );
    broker.write("policies/all.cedar", &more);
    assert!(denied(), "nothing changes by itself");
    reload(&broker).unwrap();
    assert!(!denied() && works());
    // Each of these is wrong in one place, and right in another that must not come into force.
    let without_github = "permit (principal, action, resource == Target::\"x\");";
    let wrong: [(&str, String, String, &str); 5] = [
        (
            "a typo",
            config.replace("max_lifetime = \"10m\"", "max_lifetme = \"10m\""),
            policies.clone(),
            "did you mean `max_lifetime`",
        ),
        ("a policy", config.clone(), without_github.to_owned(), "@id"),
        ("a key file", config.replace("cluster.jwks", "nowhere.jwks"), policies.clone(), "cluster"),
        (
            "another store",
            config.replace("path = \"data\"", "path = \"data2\""),
            policies.clone(),
            "`[store]` cannot change",
        ),
        (
            "another issuer",
            config.replace("issuer = \"https://sts.test\"", "issuer = \"https://sts2.test\""),
            policies.clone(),
            "`[server]` cannot change",
        ),
    ];
    for (what, config, policies, why) in wrong {
        broker.write("countersign.toml", &config);
        broker.write("policies/all.cedar", &policies);
        let message = reload(&broker).unwrap_err();
        assert!(message.contains(why), "{what}: {message}");
        assert!(!denied() && works(), "{what}: what was in force stays");
    }
    // A target and its algorithm, an issuer that is gone: all of it at once.
    let without_cluster = {
        let (start, rest) = config.split_once("[[issuers]]\nname = \"cluster\"").unwrap();
        let (_, end) = rest.split_once("[[issuers]]").unwrap();
        format!("{start}[[issuers]]{end}")
            .replace("max_lifetime = \"2m\"", "max_lifetime = \"2m\"\nalgorithm = \"EdDSA\"")
    };
    broker.write("countersign.toml", &without_cluster);
    broker.write(
        "policies/all.cedar",
        &more
            .replace("principal in Issuer::\"cluster\"", "principal in Issuer::\"prod\"")
            .replace("principal has cluster && principal.cluster has env && principal.cluster.env == \"prod\"", "true"),
    );
    assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).status, 200);
    reload(&broker).unwrap();
    assert_eq!(broker.exchange(&Token::cluster().sign(), &[]).refusal().2, "subject_token_refused");
    let ledger = broker.exchange(&Token::github().sign(), &[("audience", LEDGER)]).token();
    let compact = countersign_verify::jws::Compact::parse(&ledger).unwrap();
    assert_eq!(compact.header().algorithm.name(), "EdDSA");
    let kinds: Vec<_> = lines(&broker).into_iter().filter(|line| line["kind"] == "reload").collect();
    assert_eq!(kinds.len(), 7, "each is on the audit log, done or not");
    assert_eq!(kinds.iter().filter(|line| line["outcome"] == "granted").count(), 2);
    let metrics = metrics(&broker);
    assert!(metrics.contains("countersign_reloads_total{outcome=\"refused\"} 5"), "{metrics}");
}

fn lines(broker: &TestBroker) -> Vec<Value> {
    let text = fs::read_to_string(broker.segment()).unwrap();
    text.trim_end_matches('\0').lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn metrics(broker: &TestBroker) -> String {
    broker.broker.metrics().render(&broker.operator.figures())
}

#[test]
fn keys_of_an_issuer_whose_entry_did_not_change_are_not_fetched_again() {
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let entry = format!("issuer = \"{}\"\nallow_private_addresses = true", upstream.url());
    let setup =
        Setup::new().change("jwks_file = \"cluster.jwks\"\n", "").change("issuer = \"https://cluster.test\"", &entry);
    let broker = setup.start();
    let token = Token::cluster().claim("iss", json!(upstream.url())).sign();
    assert_eq!(broker.exchange(&token, &[]).status, 200);
    upstream.behave(|_| Answer::status(500));
    reload(&broker).unwrap();
    assert_eq!(broker.exchange(&token, &[]).status, 200);
}

#[test]
fn figures_are_told_by_closed_sets_of_labels_and_name_nobody() {
    let broker = TestBroker::new();
    let names = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    broker.exchange(&Token::github().sign(), &[]);
    broker.exchange("x", &[]);
    let series = names(&metrics(&broker));
    // Abuse case L5: whatever is sent, no series is added that was not there for the same endpoint and reason.
    for number in 0..50 {
        let hostile = format!("h{number}\"}} 1\n# evil");
        broker.exchange(&Token::cluster().claim("iss", json!(hostile)).sign(), &[("client_id", &hostile)]);
        send(broker.address, format!("GET /{number}-evil HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        send(broker.address, format!("X{number} /token HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    }
    let text = metrics(&broker);
    assert!(names(&text) <= series + 3, "{} {series}", names(&text));
    for secret in ["acme", "orders.test", "github", "evil", "cluster"] {
        assert!(!text.contains(secret), "abuse case J11: {secret}");
    }
    for expected in [
        "countersign_requests_total{endpoint=\"token\",status=\"200\"} 1",
        "countersign_tokens_minted_total{algorithm=\"ES256\"} 1",
        "countersign_refusals_total{endpoint=\"token\",reason=\"subject_token_refused\"} 51",
        "countersign_stage_seconds_count{stage=\"record\"} 1",
        "countersign_signing_keys{state=\"active\"} 3",
        "countersign_audit_gaps_total 0",
        "countersign_issuers 3",
        "# EOF",
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
}

#[test]
fn figures_and_the_head_of_the_log_are_on_the_management_listener_alone() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broker = Setup::new().change("workers = 2", &format!("workers = 2\nmanagement = \"{free}\"")).start();
    broker.exchange(&Token::github().sign(), &[]);
    let get =
        |address: SocketAddr, path: &str| send(address, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    let told = get(free, "/metrics");
    assert_eq!(told.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(told.text.contains("countersign_requests_total{endpoint=\"token\",status=\"200\"} 1"));
    let head = get(free, "/audit/head");
    assert_eq!(head.text("head"), broker.operator.audit_head().to_string());
    for path in ["/metrics", "/audit/head", "/readyz", "/livez", "//metrics", "/metrics/", "/%6detrics"] {
        assert_eq!(get(broker.address, path).status, 404, "{path}");
    }
}

/// Every alert and every panel asks for a figure that there is.
#[test]
fn alerts_and_dashboard_ask_for_figures_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let broker = TestBroker::new();
    broker.exchange(&Token::github().sign(), &[]);
    broker.exchange("x", &[]);
    broker.introspect("orders-api", "x");
    let _ = reload(&broker);
    let text = metrics(&broker);
    let told: BTreeSet<&str> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(['{', ' ']).next().unwrap()).collect();
    let asked = |text: &str| -> BTreeSet<String> {
        text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
            .filter(|word| word.starts_with("countersign_"))
            .map(str::to_owned)
            .collect()
    };
    let alerts = fs::read_to_string(root.join("prometheus/alerts.yml")).unwrap();
    let rules: Value = serde_saphyr::from_str(&alerts).unwrap();
    let rules: Vec<&Value> =
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() >= 10);
    for rule in rules {
        for member in ["alert", "expr", "annotations"] {
            assert!(!rule[member].is_null(), "{rule}");
        }
        let page = rule["annotations"]["runbook_url"].as_str().unwrap();
        let place = page.split('#').next().unwrap().rsplit("/docs/").next().unwrap();
        assert!(root.join("../docs").join(place).exists(), "{page}");
    }
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(root.join("grafana/countersign.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 8);
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["title"].is_string() && panel["targets"][0]["expr"].is_string(), "{panel}");
    }
    for name in asked(&alerts).into_iter().chain(asked(&dashboard.to_string())) {
        assert!(told.contains(name.as_str()), "{name} is no figure of the broker");
    }
}

fn start_at(root: &Path, now: i64) -> Result<(), StartError> {
    let installation = Installation::read(&root.join("countersign.toml")).unwrap();
    let clock = TestClock::new();
    clock.advance(now - NOW);
    block_on(installation.assemble(Arc::new(clock), Arc::new(SystemEntropy))).map(drop)
}

/// Abuse case O7.
#[test]
fn o7_a_clock_that_is_visibly_wrong_stops_the_start() {
    let root = Setup::new().write();
    let message = start_at(root.path(), 0).unwrap_err().to_string();
    assert!(message.contains("1970") && message.contains("was built later"), "{message}");
    let broker = TestBroker::start(root, TestClock::new());
    broker.exchange(&Token::github().sign(), &[]);
    let broker = broker.restart_after(|root| {
        let message = start_at(root, NOW - 61).unwrap_err().to_string();
        assert!(message.contains("last event of the audit log"), "{message}");
        start_at(root, NOW - 60).unwrap();
    });
    assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200);
}

#[test]
fn a_clock_that_every_issuer_contradicts_makes_the_broker_not_ready() {
    let date = |seconds: i64| {
        let time = countersign::domain::Timestamp::new(seconds).unwrap();
        let text = time.to_string();
        assert!(text.starts_with("2096-10-02T0"), "{text}");
        format!("date: Tue, 02 Oct 2096 {} GMT\r\n", &text[11..19])
    };
    let upstream = Upstream::issuer(keys().cluster.jwks());
    let (url, jwks) = (upstream.url(), keys().cluster.jwks());
    let ahead = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let told = Arc::clone(&ahead);
    upstream.behave(move |path| {
        let mut answer = match path {
            "/jwks" => Answer::json(&jwks),
            _ => Answer::json(&json!({"issuer": url, "jwks_uri": format!("{url}/jwks")})),
        };
        answer.headers = date(NOW + told.load(std::sync::atomic::Ordering::SeqCst));
        answer
    });
    let entry = format!("issuer = \"{}\"\nallow_private_addresses = true", upstream.url());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broker = Setup::new()
        .change("jwks_file = \"cluster.jwks\"\n", "")
        .change("issuer = \"https://cluster.test\"", &entry)
        .change("workers = 2", &format!("workers = 2\nmanagement = \"{free}\""))
        .start();
    let ready = || send(free, b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
    broker.refresh("cluster").unwrap();
    assert_eq!((ready().status, ready().json["clock_skew_seconds"].as_i64()), (200, Some(0)));
    for (seconds, status) in [(60, 200), (61, 503), (-61, 503), (0, 200)] {
        ahead.store(seconds, std::sync::atomic::Ordering::SeqCst);
        broker.refresh("cluster").unwrap();
        assert_eq!(ready().status, status, "{seconds}");
    }
}

/// Abuse case O8: what a newer version wrote is not guessed at.
#[test]
fn o8_what_a_newer_version_wrote_stops_the_start() {
    let edit = |change: &dyn Fn(&redb::WriteTransaction)| {
        let broker = TestBroker::new();
        broker.exchange(&Token::github().sign(), &[]);
        let mut message = String::new();
        let broker = broker.restart_after(|root| {
            let copy = tempfile::tempdir().unwrap();
            assert!(std::process::Command::new("cp").arg("-a").arg(root).arg(copy.path()).status().unwrap().success());
            let copy = copy.path().join(root.file_name().unwrap());
            let database = database(&copy.join("data/store.redb"));
            let write = database.begin_write().unwrap();
            change(&write);
            write.commit().unwrap();
            drop(database);
            message = start_at(&copy, NOW).unwrap_err().to_string();
        });
        assert_eq!(broker.exchange(&Token::github().sign(), &[]).status, 200, "untouched, it starts");
        message
    };
    let format: redb::TableDefinition<'_, u8, u64> = redb::TableDefinition::new("format");
    let message = edit(&|write| drop(write.open_table(format).unwrap().insert(0, 2).unwrap()));
    assert!(message.contains("format 2") && message.contains("reads formats up to 1"), "{message}");
    let keys: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("keys");
    let message = edit(&|write| {
        let record = json!({"v": 2, "kid": "k", "purpose": "tokens"}).to_string();
        drop(write.open_table(keys).unwrap().insert("k", record.as_bytes()).unwrap());
    });
    assert!(message.contains("cannot read"), "{message}");
}

/// A store of the version before has no mark of its format and no records of keys: its keys are taken over as they are.
#[test]
fn a_store_of_the_version_before_is_taken_over() {
    let broker = TestBroker::new();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let broker = broker.restart_after(|root| {
        let database = database(&root.join("data/store.redb"));
        let write = database.begin_write().unwrap();
        let format: redb::TableDefinition<'_, u8, u64> = redb::TableDefinition::new("format");
        let keys: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("keys");
        assert!(write.delete_table(format).unwrap() && write.delete_table(keys).unwrap());
        write.commit().unwrap();
        for entry in fs::read_dir(root.join("keys")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("tokens-") {
                fs::rename(entry.path(), root.join("keys/es256-1.pem")).unwrap();
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    });
    assert_eq!(broker.introspect("orders-api", &token).json["active"], true);
    let next = broker.exchange(&Token::github().sign(), &[]).token();
    let kid = |token: &str| countersign_verify::jws::Compact::parse(token).unwrap().header().key_id.clone();
    assert_eq!(kid(&next), kid(&token), "and signs on");
}

#[test]
fn the_schema_describes_every_key_and_every_kind_of_issuer() {
    let schema = Config::schema();
    let kinds = &schema["$defs"]["Issuer"]["properties"]["kind"]["enum"];
    assert_eq!(kinds.as_array().unwrap().len(), countersign::assertion::IssuerKind::all().len());
    // Every key of every section is described, so that an editor has something to say.
    let mut described = 0;
    let mut sections = vec![&schema];
    sections.extend(schema["$defs"].as_object().unwrap().values());
    for section in sections {
        assert_eq!(section["additionalProperties"], json!(false), "{section}");
        for (name, key) in section["properties"].as_object().unwrap() {
            assert!(key["description"].is_string() || key["$ref"].is_string(), "{name}");
            described += 1;
        }
    }
    assert!(described >= 60, "{described}");
}

#[test]
fn each_reason_has_a_page_and_each_page_a_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reasons");
    let pages: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let reasons: BTreeSet<String> = countersign::error::reasons().map(str::to_owned).collect();
    assert_eq!(pages, reasons);
    for reason in &reasons {
        let page = countersign::error::page(reason).unwrap();
        assert!(page.starts_with(&format!("# {reason}: ")) && page.contains("**What to do.**"), "{reason}");
    }
    assert_eq!(countersign::error::page("../SECURITY"), None);
    let broker = TestBroker::new();
    let refused = broker.exchange("x", &[]);
    let uri = refused.text("error_uri").strip_prefix(STS).unwrap().to_owned();
    let page = send(broker.address, format!("GET {uri} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/plain; charset=utf-8"));
    assert!(page.text.starts_with("# subject_token_refused"));
    for wrong in ["/reasons/", "/reasons/x", "/reasons/..%2fx", "/reasons/subject_token_refused/x"] {
        assert_eq!(send(broker.address, format!("GET {wrong} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).status, 404);
    }
}

/// Abuse case M4: a hostile trace context changes nothing, and a good one is taken.
#[test]
fn m4_a_hostile_trace_context_is_no_trace_context() {
    use countersign::telemetry::TraceParent;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert!(good.parse::<TraceParent>().is_ok());
    let long = format!("{good}{}", "-".repeat(8_000));
    for hostile in [
        "",
        "x",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        &long,
    ] {
        assert!(hostile.parse::<TraceParent>().is_err(), "{hostile}");
        let broker = TestBroker::new();
        let token = Token::github().sign();
        let form =
            [("grant_type", GRANT), ("subject_token", &*token), ("subject_token_type", JWT), ("audience", ORDERS)];
        let headers =
            [("traceparent", hostile.to_owned()), ("baggage", "x=".repeat(100)), ("x-request-id", "y".into())];
        assert_eq!(send_to(broker.address, "/token", &headers, &form).status, 200, "{hostile}");
    }
}
