//! What is revoked and suspended, by everything that it can be named by: what is below dies, what is above and beside lives.
//! Abuse cases H by number.

use crate::cli::{Serving, err, fresh, introspect, out, run};
use crate::replicas::{TempKeys, on_redis};
use crate::status::{listed, set};
use crate::support::redis::{STRICT, Server};
use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::admin::{AdminError, Change, OperatorId};
use countersign::store::Act;
use countersign_verify::revocation::Kind;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::LazyLock;

const POLICIES: &str = r#"
@id("exchange")
permit (principal, action in [Action::"exchange", Action::"impersonate"], resource);

@id("open")
permit (principal, action == Action::"open_task", resource == Target::"https://sts.test")
when { !(context has confirmation) };
"#;
/// What the cluster's workload is called.
const DEPLOYER: &str = "cluster:system:serviceaccount:prod:deployer";
const GITHUB_MAIN: &str = "github:repo:acme/app:ref:refs/heads/main";

fn started() -> TestBroker {
    listed(Setup::new().policies(POLICIES)).start()
}

fn change(broker: &TestBroker, kind: Kind, id: &str, act: Act) {
    let change = Change { kind, id: id.to_owned(), act, reason: Some("INC-42".to_owned()) };
    // On a runtime that stays: connections to a shared store live on that which made them.
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());
    let changed = RUNTIME.block_on(async { broker.operator.admin().change(&change, &OperatorId::own()).await });
    assert!(changed.is_ok() || matches!(changed, Err(AdminError::NotSuspended)) && act == Act::Resume, "{changed:?}");
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn alive(broker: &TestBroker, token: &str) -> bool {
    let client = if claims(token)["aud"] == ORDERS { "orders-api" } else { "ledger-api" };
    broker.introspect(client, token).json["active"] == true
}

/// `token`, which is for orders, exchanged onward by the client that serves it.
fn onward(broker: &TestBroker, token: &str) -> Reply {
    let form =
        [("grant_type", GRANT), ("subject_token", token), ("subject_token_type", ACCESS_TOKEN), ("audience", LEDGER)];
    broker.post_as("orders-api", "/token", &form)
}

#[test]
fn h18_h3_each_kind_kills_what_is_below_it_and_nothing_beside_it() {
    let broker = started();
    let mint = || {
        let cluster = broker.exchange(&Token::cluster().sign(), &[]).token();
        let github = broker.exchange(&Token::github().sign(), &[("audience", LEDGER)]).token();
        let child = onward(&broker, &cluster).token();
        [cluster, child, github]
    };
    // Which of the three are hit: the cluster's token for orders, what orders made of it for the ledger, and GitHub's.
    for (kind, id, hit) in [
        (Kind::Workload, DEPLOYER, [true, true, false]),
        (Kind::Workload, GITHUB_MAIN, [false, false, true]),
        (Kind::Workload, "cluster:system:serviceaccount:prod", [false, false, false]),
        (Kind::Issuer, CLUSTER, [true, true, false]),
        (Kind::Client, "orders-api", [false, true, false]),
        (Kind::Client, DEPLOYER, [false, false, false]),
        (Kind::Target, ORDERS, [true, true, false]),
        (Kind::Target, LEDGER, [false, true, true]),
        (Kind::Actor, DEPLOYER, [false, false, false]),
    ] {
        let tokens = mint();
        change(&broker, kind, id, Act::Revoke);
        let dead = [0, 1, 2].map(|at: usize| !alive(&broker, &tokens[at]));
        assert_eq!(dead, hit, "{kind} {id}");
        // In the very same second: what is new is alive, for the position in the log decides and no clock.
        assert!(mint().iter().all(|token| alive(&broker, token)), "{kind} {id}");
    }
    let tokens = mint();
    let task = claims(&tokens[1])["task"]["id"].as_str().unwrap().to_owned();
    change(&broker, Kind::Task, &task, Act::Revoke);
    assert_eq!([0, 1, 2].map(|at: usize| alive(&broker, &tokens[at])), [false, false, true]);
    let tokens = mint();
    change(&broker, Kind::Token, claims(&tokens[1])["jti"].as_str().unwrap(), Act::Revoke);
    assert_eq!([0, 1, 2].map(|at: usize| alive(&broker, &tokens[at])), [true, false, true], "nothing above it");
}

#[test]
fn h11_of_several_revocations_of_one_name_the_widest_counts() {
    let broker = started();
    let mut minted = Vec::new();
    for _ in 0..4 {
        minted.push(broker.exchange(&Token::github().claim("exp", json!(NOW + 3_000)).sign(), &[]).token());
        broker.clock.advance(10);
    }
    let living = || minted.iter().map(|token| alive(&broker, token)).collect::<Vec<_>>();
    assert_eq!(living(), [true, true, true, true]);
    change(&broker, Kind::Workload, GITHUB_MAIN, Act::RevokeBefore(NOW + 20));
    assert_eq!(living(), [false, false, true, true]);
    change(&broker, Kind::Workload, GITHUB_MAIN, Act::RevokeBefore(NOW + 1));
    assert_eq!(living(), [false, false, true, true], "an earlier moment brings nothing back");
    change(&broker, Kind::Workload, GITHUB_MAIN, Act::RevokeBefore(NOW + 21));
    assert_eq!(living(), [false, false, false, true]);
    let broker = { broker }.restart();
    assert!(!alive(&broker, &minted[2]) && alive(&broker, &minted[3]));
    change(&broker, Kind::Workload, GITHUB_MAIN, Act::Revoke);
    assert!(!alive(&broker, &minted[3]));
}

#[test]
fn what_is_below_a_token_of_before_a_moment_dies_with_it_though_it_is_younger() {
    let broker = started();
    let old = broker.exchange(&Token::cluster().sign(), &[]).token();
    broker.clock.advance(20);
    let child = onward(&broker, &old).token();
    let young = broker.exchange(&Token::cluster().sign(), &[]).token();
    let sibling = onward(&broker, &young).token();
    change(&broker, Kind::Target, ORDERS, Act::RevokeBefore(NOW + 10));
    assert_eq!([&old, &child, &young, &sibling].map(|token| alive(&broker, token)), [false, false, true, true]);
}

#[test]
fn a_suspension_refuses_what_is_new_until_it_is_lifted() {
    let broker = started();
    let ask = |broker: &TestBroker| broker.exchange(&Token::cluster().sign(), &[]);
    for (kind, id, told) in [
        (Kind::Workload, DEPLOYER, (400, "invalid_request", "subject_token_refused")),
        (Kind::Issuer, CLUSTER, (400, "invalid_request", "subject_token_refused")),
        (Kind::Target, ORDERS, (400, "invalid_target", "target_refused")),
    ] {
        let before = ask(&broker).token();
        change(&broker, kind, id, Act::Suspend);
        assert!(!alive(&broker, &before), "{kind}");
        let reply = ask(&broker);
        assert_eq!((reply.refusal(), broker.reason(&reply).as_str()), (told, "suspended"), "{kind}");
        assert_eq!(broker.exchange(&Token::github().sign(), &[("audience", LEDGER)]).status, 200, "beside it");
        change(&broker, kind, id, Act::Resume);
        assert!(!alive(&broker, &before), "what it killed stays dead");
        assert_eq!(ask(&broker).status, 200, "{kind}");
    }
    // Who is suspended learns nothing of targets.
    change(&broker, Kind::Workload, DEPLOYER, Act::Suspend);
    let unknown = broker.exchange(&Token::cluster().sign(), &[("audience", "https://unknown.test")]);
    assert_eq!(unknown.refusal(), ask(&broker).refusal());
    change(&broker, Kind::Workload, DEPLOYER, Act::Resume);
    // A client proves itself no more, at any endpoint.
    let token = ask(&broker).token();
    change(&broker, Kind::Client, "orders-api", Act::Suspend);
    for reply in [
        onward(&broker, &token),
        broker.introspect("orders-api", &token),
        broker.post_as("orders-api", "/revoke", &[("token", &token)]),
    ] {
        assert_eq!(reply.refusal(), (401, "invalid_client", "client_refused"));
    }
    assert_eq!(broker.introspect("ledger-api", &token).json, json!({"active": false}));
    // It outlives the broker, and ten years.
    let broker = broker.restart();
    broker.clock.advance(11 * 366 * 86_400);
    let broker = broker.restart();
    assert_eq!(broker.introspect("orders-api", &token).status, 401);
    change(&broker, Kind::Client, "orders-api", Act::Resume);
    let broker = broker.restart();
    assert_eq!(broker.introspect("orders-api", "x").status, 200);
}

#[test]
fn a_suspended_task_is_used_no_more() {
    let broker = started();
    let form = [("grant_type", GRANT), ("subject_token_type", JWT), ("audience", STS)];
    let assertion = Token::cluster().sign();
    let task = broker.post("/token", &[&form[..], &[("subject_token", &assertion)]].concat()).token();
    let within = || broker.exchange(&task, &[("subject_token_type", ACCESS_TOKEN)]);
    let child = within().token();
    let id = claims(&task)["jti"].as_str().unwrap().to_owned();
    change(&broker, Kind::Task, &id, Act::Suspend);
    assert!(!alive(&broker, &child));
    assert_eq!(within().refusal().2, "subject_token_revoked");
    change(&broker, Kind::Task, &id, Act::Resume);
    assert_eq!(within().refusal().2, "subject_token_revoked", "its own token was issued before");
}

#[test]
fn h2_nothing_that_is_exchanged_while_its_parent_is_revoked_outlives_that() {
    let broker = started();
    for _ in 0..40 {
        let parent = broker.exchange(&Token::cluster().sign(), &[]).token();
        let children = std::thread::scope(|scope| {
            let exchanging: Vec<_> = (0..4).map(|_| scope.spawn(|| onward(&broker, &parent))).collect();
            assert_eq!(broker.post("/revoke", &[("token", &parent)]).status, 200);
            assert_ne!(onward(&broker, &parent).status, 200);
            exchanging.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for child in children.iter().filter(|child| child.status == 200) {
            assert!(!alive(&broker, &child.token()));
        }
    }
}

#[test]
fn reason_and_who_and_when_are_kept() {
    let root = Setup::new().policies(POLICIES).write();
    let root = root.path();
    let broker = Serving::start(root);
    let exchange = || {
        let arguments = ["exchange", "--broker", &broker.url, "--audience", ORDERS];
        let output = run(root, &arguments, &fresh().sign());
        assert!(output.status.success(), "{}", err(&output));
        out(&output).trim().to_owned()
    };
    let token = exchange();
    let done = |arguments: &[&str]| {
        let output = run(root, arguments, "");
        assert!(output.status.success(), "{arguments:?}: {}", err(&output));
        out(&output)
    };
    let said = done(&["suspend", "--issuer", "github", "--reason", "INC-42: stolen runner"]);
    assert!(said.contains("suspended") && said.contains(GITHUB) && said.contains("decision"), "{said}");
    assert_eq!(introspect(&broker.url, &token)["active"], false);
    let refused = run(root, &["exchange", "--broker", &broker.url, "--audience", ORDERS], &fresh().sign());
    assert!(!refused.status.success() && err(&refused).contains("subject_token_refused"), "{}", err(&refused));
    done(&["resume", "--issuer", "github"]);
    let token = exchange();
    done(&["revoke", "--workload", GITHUB_MAIN, "--before", "2026-01-01T00:00:00Z"]);
    assert_eq!(introspect(&broker.url, &token)["active"], true);
    let ahead = run(root, &["revoke", "--workload", GITHUB_MAIN, "--before", "2999-01-01T00:00:00Z"], "");
    assert!(!ahead.status.success() && err(&ahead).contains("lies ahead"), "{}", err(&ahead));
    for (arguments, why) in [
        (&["suspend"][..], "name what to suspend"),
        (&["revoke", "--workload", GITHUB_MAIN, "--before", "yesterday"], "is no moment"),
        (&["revoke", "--workload", "a\u{1b}[2Jb"], "not printable"),
        (&["suspend", "--issuer", "githb"], "no issuer is named"),
        (&["resume", "--workload", GITHUB_MAIN], "is not suspended"),
        (&["revoke", "AAAAAAAAAAAAAAAAAAAAAA", "--before", "2026-01-01T00:00:00Z"], "issued once"),
        (&["revoke", "--task", "x"], "22 characters"),
        (&["revoke", "--workload", GITHUB_MAIN, "--token-file", "x"], "name one thing"),
        (&["revoke", "AAAAAAAAAAAAAAAAAAAAAA", "--token-file", "x"], "cannot be used with"),
    ] {
        let output = run(root, arguments, "");
        assert!(!output.status.success() && err(&output).contains(why), "{arguments:?}: {}", err(&output));
    }
    let listed =
        |root: &Path| -> Value { serde_json::from_str(&out(&run(root, &["revocations", "--json"], ""))).unwrap() };
    let all = listed(root);
    let first = &all[0];
    assert_eq!((&first["act"], &first["kind"], &first["id"]), (&json!("suspend"), &json!("issuer"), &json!(GITHUB)));
    assert_eq!(first["reason"], "INC-42: stolen runner");
    assert!(
        first["by"].as_str().unwrap().starts_with("operator (uid ") && first["at"].as_str().unwrap().starts_with("20")
    );
    let acts: Vec<_> = all.as_array().unwrap().iter().map(|record| record["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["suspend", "resume", "revoke"]);
    assert!(out(&run(root, &["revocations"], "")).contains("INC-42: stolen runner"));
    let explained = done(&["explain", first["decision"].as_str().unwrap()]);
    assert!(explained.contains("is suspended by operator (uid ") && explained.contains("INC-42"), "{explained}");
    drop(broker);
    assert_eq!(listed(root), all, "where no broker runs, from its store");
    done(&["revoke", "--target", ORDERS]);
    let broker = Serving::start(root);
    assert_eq!(introspect(&broker.url, &token)["active"], false);
}

#[test]
fn a_client_that_a_suspended_issuer_vouches_for_is_nobody() {
    let mut setup = Setup::new().policies(POLICIES);
    setup.config.push_str("[[clients]]\nid = \"deployer\"\nissuer = \"cluster\"\nsubject = \"system:serviceaccount:prod:deployer\"\nintrospects = [\"https://orders.test\"]\n");
    let broker = setup.start();
    let token = broker.exchange(&Token::github().sign(), &[]).token();
    let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let ask = || {
        let assertion = Token::cluster().sign();
        broker.post(
            "/introspect",
            &[("token", &token), ("client_assertion", &assertion), ("client_assertion_type", bearer)],
        )
    };
    assert_eq!(ask().json["active"], true);
    for (kind, id) in [(Kind::Issuer, CLUSTER), (Kind::Workload, DEPLOYER), (Kind::Client, "deployer")] {
        change(&broker, kind, id, Act::Suspend);
        assert_eq!(ask().refusal(), (401, "invalid_client", "client_refused"), "{kind}");
        change(&broker, kind, id, Act::Resume);
        assert_eq!(ask().json["active"], true);
    }
    // One that is bound to a key is no bearer assertion either.
    let bound = Token::cluster().claim("cnf", json!({"jkt": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"})).sign();
    let reply = broker
        .post("/introspect", &[("token", &token), ("client_assertion", &bound), ("client_assertion_type", bearer)]);
    assert_eq!(reply.refusal(), (400, "invalid_dpop_proof", "dpop_proof_required"));
}

#[test]
fn what_was_minted_after_the_backup_that_was_put_back_is_dead() {
    let broker = started();
    let early = broker.exchange(&Token::cluster().sign(), &[]).token();
    let broker = broker.restart_after(|root| {
        std::fs::copy(root.join("data/store.redb"), root.join("backup")).unwrap();
    });
    for number in 0..3 {
        change(&broker, Kind::Workload, &format!("cluster:{number}"), Act::Revoke);
    }
    let late = broker.exchange(&Token::cluster().sign(), &[]).token();
    assert!(alive(&broker, &early) && alive(&broker, &late));
    let broker = broker.restart_after(|root| {
        std::fs::copy(root.join("backup"), root.join("data/store.redb")).unwrap();
    });
    assert!(alive(&broker, &early) && !alive(&broker, &late));
    // And a revocation hits what it names, however far the log has gone before.
    assert_eq!(broker.post("/revoke", &[("token", &early)]).status, 200);
    assert!(!alive(&broker, &early));
}

#[test]
fn h19_a_clock_that_was_ahead_at_the_start_brings_nothing_back() {
    let broker = started();
    let token = broker.exchange(&Token::cluster().sign(), &[]).token();
    assert_eq!(broker.post("/revoke", &[("token", &token)]).status, 200);
    broker.clock.advance(7_200);
    let broker = broker.restart();
    broker.clock.advance(-7_190);
    assert!(!alive(&broker, &token));
}

#[test]
fn what_is_revoked_already_is_not_written_again() {
    let broker = started();
    let token = broker.exchange(&Token::cluster().sign(), &[]).token();
    std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..20).map(|_| scope.spawn(|| broker.post("/revoke", &[("token", &token)]).status)).collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
    });
    assert_eq!(broker.operator.figures().revocation_position, 1);
}

/// One step of the model.
#[derive(Debug, Clone)]
enum Step {
    /// A token for orders, by the cluster's assertion or GitHub's.
    Mint(bool),
    /// What the token at this place is exchanged for by orders-api.
    Onward(usize),
    /// A task of the cluster's.
    Open,
    /// A token within the task at this place.
    Within(usize),
    /// Revokes something of the token at this place.
    Revoke(usize, Kind),
    /// Suspends it, or lifts that.
    Suspend(usize, Kind),
    Resume(usize, Kind),
    /// Time goes by.
    Advance(i64),
    Restart,
    /// A replica goes for ever, and another one comes.
    Lose,
}

/// A token, as the model knows it.
struct Known {
    token: String,
    /// Everything that it can be named by, and what is above it.
    names: Vec<(Kind, String)>,
    exp: i64,
    is_task: bool,
    dead: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = proptest::sample::select(vec![
        Kind::Token,
        Kind::Task,
        Kind::Workload,
        Kind::Issuer,
        Kind::Client,
        Kind::Target,
    ]);
    let at = 0_usize..12;
    let step = prop_oneof![
        4 => any::<bool>().prop_map(Step::Mint),
        4 => at.clone().prop_map(Step::Onward),
        2 => Just(Step::Open),
        4 => at.clone().prop_map(Step::Within),
        3 => (at.clone(), kind.clone()).prop_map(|(at, kind)| Step::Revoke(at, kind)),
        1 => (at.clone(), kind.clone()).prop_map(|(at, kind)| Step::Suspend(at, kind)),
        2 => (at, kind).prop_map(|(at, kind)| Step::Resume(at, kind)),
        1 => (1_i64..40).prop_map(Step::Advance),
        1 => Just(Step::Restart),
        1 => Just(Step::Lose),
    ];
    proptest::collection::vec(step, 5..40)
}

fn known(token: String, above: Option<&Known>) -> Known {
    let said = claims(&token);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut names = vec![
        (Kind::Token, text(&said["jti"])),
        (Kind::Task, text(&said["task"]["id"])),
        (Kind::Workload, text(&said["sub"])),
        (Kind::Issuer, text(&said["origin"]["iss"])),
        (Kind::Target, text(&said["aud"])),
    ];
    if said["client_id"] != said["sub"] {
        names.push((Kind::Client, text(&said["client_id"])));
    }
    names.extend(above.iter().flat_map(|above| above.names.clone()));
    Known { exp: said["exp"].as_i64().unwrap(), is_task: said["aud"] == STS, token, names, dead: false }
}

/// Waits, as long as a revocation may take, until every replica has heard of what any of them has.
fn settle(brokers: &[TestBroker]) {
    let position = |broker: &TestBroker| broker.broker.revocations().position();
    until("no replica lags behind", || brokers.iter().all(|broker| position(broker) == position(&brokers[0])));
}

/// No token below an acknowledged revocation is ever accepted again, and none above or beside it is refused.
fn exactly_what_is_alive_is_accepted(
    steps: Vec<Step>,
    mut brokers: Vec<TestBroker>,
    another: Option<&dyn Fn() -> TestBroker>,
) -> Result<(), TestCaseError> {
    let mut all: Vec<Known> = Vec::new();
    let mut suspended: Vec<(Kind, String)> = Vec::new();
    let now = |broker: &TestBroker| countersign::domain::Clock::now(&broker.clock).seconds();
    for (turn, step) in steps.into_iter().enumerate() {
        // Each asks another one.
        let place = turn % brokers.len();
        let broker = &brokers[place];
        let usable = |known: &Known| !known.dead && known.exp > now(broker);
        let free =
            |suspended: &[(Kind, String)], names: &[(Kind, String)]| names.iter().all(|name| !suspended.contains(name));
        match step {
            Step::Mint(cluster) => {
                let token = if cluster { Token::cluster() } else { Token::github().claim("exp", json!(NOW + 3_000)) };
                let (sub, iss) = if cluster { (DEPLOYER, CLUSTER) } else { (GITHUB_MAIN, GITHUB) };
                let names = [
                    (Kind::Workload, sub.to_owned()),
                    (Kind::Issuer, iss.to_owned()),
                    (Kind::Target, ORDERS.to_owned()),
                ];
                let reply = broker.exchange(&token.sign(), &[]);
                prop_assert_eq!(reply.status == 200, free(&suspended, &names), "{}", reply.text);
                if reply.status == 200 {
                    all.push(known(reply.token(), None));
                }
            }
            Step::Onward(at) => {
                let Some(above) = all.get(at).filter(|known| claims(&known.token)["aud"] == ORDERS) else { continue };
                let reply = onward(broker, &above.token);
                let names = [(Kind::Client, "orders-api".to_owned()), (Kind::Target, LEDGER.to_owned())];
                prop_assert_eq!(reply.status == 200, usable(above) && free(&suspended, &names), "{}", reply.text);
                if reply.status == 200 {
                    let child = known(reply.token(), Some(above));
                    all.push(child);
                }
            }
            Step::Open => {
                let names = [
                    (Kind::Workload, DEPLOYER.to_owned()),
                    (Kind::Issuer, CLUSTER.to_owned()),
                    (Kind::Target, STS.to_owned()),
                ];
                let reply = broker.exchange(&Token::cluster().sign(), &[("audience", STS)]);
                prop_assert_eq!(reply.status == 200, free(&suspended, &names), "{}", reply.text);
                if reply.status == 200 {
                    all.push(known(reply.token(), None));
                }
            }
            Step::Within(at) => {
                let Some(task) = all.get(at).filter(|known| known.is_task) else { continue };
                let reply = broker.exchange(&task.token, &[("subject_token_type", ACCESS_TOKEN)]);
                let names = [(Kind::Target, ORDERS.to_owned())];
                prop_assert_eq!(reply.status == 200, usable(task) && free(&suspended, &names), "{}", reply.text);
                if reply.status == 200 {
                    let child = known(reply.token(), Some(task));
                    all.push(child);
                }
            }
            Step::Revoke(at, kind) | Step::Suspend(at, kind) | Step::Resume(at, kind) => {
                let name = all.get(at).and_then(|known| known.names.iter().find(|(own, _)| *own == kind).cloned());
                let Some(name) = name else { continue };
                let act = match step {
                    Step::Revoke(..) => Act::Revoke,
                    Step::Suspend(..) => Act::Suspend,
                    _ => Act::Resume,
                };
                change(broker, name.0, &name.1, act);
                match act {
                    Act::Resume => suspended.retain(|other| *other != name),
                    _ => all.iter_mut().filter(|known| known.names.contains(&name)).for_each(|known| known.dead = true),
                }
                if act == Act::Suspend {
                    suspended.push(name);
                }
            }
            Step::Advance(seconds) => broker.clock.advance(seconds),
            Step::Restart => {
                let restarted = brokers.remove(place).restart();
                brokers.insert(place, restarted);
            }
            Step::Lose => match another {
                Some(another) => brokers[place] = another(),
                None => continue,
            },
        }
        settle(&brokers);
        // A suspended resource server is told nothing at all.
        let asks = |audience: &str| if audience == ORDERS { "orders-api" } else { "ledger-api" };
        for (number, known) in all.iter().enumerate().filter(|(_, known)| !known.is_task) {
            let broker = &brokers[(turn + number) % brokers.len()];
            let audience = claims(&known.token)["aud"].as_str().unwrap().to_owned();
            if suspended.contains(&(Kind::Client, asks(&audience).to_owned())) {
                continue;
            }
            // Its entry says so without asking, and to whoever looks.
            // A replica that has not heard of a list says nothing, until something in it is revoked.
            let said = match set(broker, &known.token) {
                Some(set) => set == known.dead,
                None => !known.dead && brokers.len() > 1,
            };
            let said = said || known.exp <= now(broker);
            prop_assert!(said, "{:?}", known.names);
            let lives = !known.dead && known.exp > now(broker);
            prop_assert_eq!(alive(broker, &known.token), lives, "{:?}", known.names);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_broker_accepts_exactly_what_is_alive(steps in steps()) {
        exactly_what_is_alive_is_accepted(steps, vec![started()], None)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn three_replicas_accept_exactly_what_is_alive(steps in steps()) {
        let server = Server::start(STRICT);
        let (keys, clock) = (TempKeys::new(), TestClock::new());
        let another = || {
            let setup = listed(on_redis(&keys, &[server.url()], "").policies(POLICIES));
            TestBroker::start(setup.write(), clock.clone())
        };
        exactly_what_is_alive_is_accepted(steps, (0..3).map(|_| another()).collect(), Some(&another))?;
    }
}
