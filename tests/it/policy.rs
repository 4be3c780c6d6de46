//! Policy: what is loaded, what is refused, and that nothing but a permit opens anything.

use crate::support::*;
use countersign::domain::{AttributeValue, Attributes, Workload};
use countersign::policy::{Action, Facts, Hints, Policy, Question};
use std::sync::Arc;

fn load(text: &str) -> Result<Policy, String> {
    Policy::from_texts(&records(), [("p.cedar".to_owned(), text)]).map_err(|fault| fault.to_string())
}

fn attributes(record: &str, values: &[(&str, &str)]) -> Attributes {
    let text = |(name, value): &(&str, &str)| ((*name).into(), AttributeValue::Text((*value).to_owned()));
    Attributes::from([(record.into(), values.iter().map(text).collect())])
}

fn question(scopes: &[&str]) -> Question {
    Question {
        principal: Arc::new(Workload {
            name: "cluster:a".to_owned(),
            issuer: "cluster".to_owned(),
            owner: None,
            environment: Some("production".to_owned()),
            attributes: attributes("cluster", &[("env", "prod")]),
        }),
        action: Action::Exchange,
        resource: Facts {
            audience: ORDERS.to_owned(),
            owner: None,
            environment: None,
            sensitivity: Some("internal".to_owned()),
        },
        scopes: scopes.iter().map(ToString::to_string).collect(),
        client: None,
        confirmation: None,
        task: None,
        lifetime: Some(60),
        now: NOW,
        network: "10.1.2.3".to_owned(),
        hints: Hints { client_id: Some("hint".to_owned()), task_purpose: None },
    }
}

fn permitted(text: &str) -> bool {
    load(text).unwrap().decide(&question(&["orders:read"])).verdicts[0].permitted
}

const ALL: &str = "@id(\"all\") permit (principal, action, resource);";

#[test]
fn what_is_not_permitted_is_denied_and_an_error_denies() {
    assert!(permitted(ALL));
    assert!(!permitted("@id(\"p\") permit (principal == Workload::\"cluster:b\", action, resource);"));
    assert!(!permitted(&format!("{ALL} @id(\"no\") forbid (principal, action, resource);")));
    assert!(!permitted(&format!(
        "{ALL} @id(\"no\") forbid (principal == Workload::\"cluster:a\", action, resource == Target::\"https://orders.test\");"
    )));
    assert!(!permitted("@id(\"only-no\") forbid (principal, action, resource) when { context.scope == \"other\" };"));
    // A forbid that cannot be evaluated is not skipped: the multiplication overflows.
    let erring = format!(
        "{ALL} @id(\"errs\") forbid (principal, action, resource) when {{ context has lifetime && context.lifetime * 9223372036854775807 > 0 }};"
    );
    let decision = load(&erring).unwrap().decide(&question(&["orders:read"]));
    assert!(!decision.verdicts[0].permitted && decision.verdicts[0].errors[0].contains("errs"), "{decision:?}");
    // Nor is one in another slice.
    let elsewhere =
        erring.replace("@id(\"errs\") forbid (principal,", "@id(\"errs\") forbid (principal in Issuer::\"cluster\",");
    assert!(!load(&elsewhere).unwrap().decide(&question(&["orders:read"])).verdicts[0].permitted);
}

#[test]
fn each_way_to_name_principal_and_resource_is_found() {
    let principals = [
        "principal",
        "principal == Workload::\"cluster:a\"",
        "principal in Issuer::\"cluster\"",
        "principal in Workload::\"cluster:a\"",
        "principal is Workload",
        "principal is Workload in Issuer::\"cluster\"",
    ];
    let resources = [
        "resource",
        "resource == Target::\"https://orders.test\"",
        "resource in Target::\"https://orders.test\"",
        "resource is Target",
    ];
    for principal in principals {
        for resource in resources {
            let policy = format!("@id(\"p\") permit ({principal}, action == Action::\"exchange\", {resource});");
            assert!(permitted(&policy), "{policy}");
            let forbid = format!("{ALL} @id(\"f\") forbid ({principal}, action, {resource});");
            assert!(!permitted(&forbid), "{forbid}");
        }
    }
    for other in
        ["principal == Workload::\"cluster:b\"", "principal in Issuer::\"prod\"", "principal == Workload::\"cluster\""]
    {
        assert!(!permitted(&format!("@id(\"p\") permit ({other}, action, resource);")), "{other}");
    }
    assert!(!permitted("@id(\"p\") permit (principal, action == Action::\"impersonate\", resource);"));
    assert!(!permitted("@id(\"p\") permit (principal, action, resource == Target::\"https://orders.test/\");"));
}

#[test]
fn each_scope_is_a_question_and_bounds_are_the_longest_permit_and_the_shortest_scope() {
    let text = r#"
    @id("read-short") @max_lifetime("30s") permit (principal, action, resource) when { context.scope == "orders:read" };
    @id("read-long") @max_lifetime("2m") permit (principal, action, resource) when { context.scope == "orders:read" };
    @id("write") @max_lifetime("45s") @reason("r") @owner("o") @ticket("t") permit (principal, action, resource) when { context.scope == "orders:write" };
    "#;
    let decision = load(text).unwrap().decide(&question(&["orders:read", "orders:write", "orders:admin"]));
    let summary: Vec<_> = decision
        .verdicts
        .iter()
        .map(|verdict| (verdict.permitted, verdict.max_lifetime, verdict.determining.join(" ")))
        .collect();
    assert_eq!(
        summary,
        [
            (true, Some(120), "read-long read-short".to_owned()),
            (true, Some(45), "write".to_owned()),
            (false, None, String::new()),
        ]
    );
    let unbounded = load(&format!("{text} @id(\"open\") permit (principal, action, resource);")).unwrap();
    assert_eq!(unbounded.decide(&question(&["orders:read"])).verdicts[0].max_lifetime, None);
}

#[test]
fn context_holds_verified_facts_and_hints_apart() {
    let when = |condition: &str| {
        permitted(&format!("@id(\"p\") permit (principal, action, resource) when {{ {condition} }};"))
    };
    assert!(when("context.now > datetime(\"2096-01-01\") && context.now < datetime(\"2097-01-01\")"));
    assert!(!when("context.now > datetime(\"2097-01-01\")"));
    assert!(when("context.network.isInRange(ip(\"10.0.0.0/8\"))"));
    assert!(!when("context.network.isLoopback()"));
    assert!(when("context has lifetime && context.lifetime <= 60"));
    assert!(!when("context has client"));
    assert!(when("context.hints has client_id && context.hints.client_id == \"hint\""));
    assert!(when("resource has sensitivity && resource.sensitivity == \"internal\""));
    assert!(when("principal has environment && principal.environment == \"production\""));
    assert!(when("principal has cluster && principal.cluster has env && principal.cluster.env == \"prod\""));
    assert!(!when("principal has github"));
}

#[test]
fn a_forbid_reaches_the_principal_by_whatever_way() {
    let mut question = question(&[""]);
    Arc::make_mut(&mut question.principal).attributes = attributes("github", &[("repository_id", "74")]);
    let denies = |condition: &str| {
        let text = format!("{ALL} @id(\"no\") forbid (principal, action, resource) when {{ {condition} }};");
        !load(&text).unwrap().decide(&question).verdicts[0].permitted
    };
    let is_74 = "has repository_id && REF.repository_id == \"74\"";
    for way in [
        "principal",
        "(if context has client then principal else principal)",
        "{p: principal}.p",
        "Workload::\"cluster:a\"",
    ] {
        let record = format!("{way}.github");
        let condition = format!("{way} has github && {record} {}", is_74.replace("REF", &record));
        assert!(denies(&condition), "{condition}");
    }
}

#[test]
fn a_name_that_nothing_has_is_refused_even_where_another_branch_holds() {
    let refused = |condition: &str| {
        let text = format!("@id(\"no\") forbid (principal, action, resource) when {{ {condition} }};");
        load(&text).err().unwrap_or_default()
    };
    for (condition, name) in [
        ("(principal has github) || (principal has gihub && principal.gihub has ref)", "principal.gihub"),
        ("(principal has github) || (principal has github && principal.github has reff)", "principal.github.reff"),
        ("(principal has github) || (principal has staging && principal.staging has env)", "principal.staging"),
    ] {
        assert!(refused(condition).contains(&format!("no issuer states `{name}`")), "{}", refused(condition));
    }
    assert_eq!(refused("principal has owner || principal has environment"), "");
}

#[test]
fn github_claims_are_there_whether_they_are_read_one_by_one_or_whole() {
    let mut question = question(&[""]);
    Arc::make_mut(&mut question.principal).attributes =
        attributes("github", &[("repository", "acme/app"), ("repository_id", "74"), ("ref", "refs/heads/main")]);
    let when = |condition: &str| {
        let text =
            format!("@id(\"p\") permit (principal, action, resource) when {{ principal has github && {condition} }};");
        load(&text).unwrap().decide(&question).verdicts[0].permitted
    };
    assert!(when("principal.github has ref && principal.github.ref == \"refs/heads/main\""));
    assert!(!when("principal.github has environment"));
    assert!(when("[principal.github].contains(principal.github) && principal.github has repository_id"));
}

#[test]
fn a_set_that_is_not_strictly_valid_is_not_loaded() {
    let refused = [
        ("", "no policy"),
        ("permit (principal, action, resource);", "no `@id"),
        ("@id(\"\") permit (principal, action, resource);", "no `@id"),
        ("@id(\"a b\") permit (principal, action, resource);", "no `@id"),
        (
            "@id(\"a\") permit (principal, action, resource); @id(\"a\") permit (principal, action, resource);",
            "`@id` of a policy in p.cedar too",
        ),
        (
            "@id(\"a\") @max_livetime(\"5m\") permit (principal, action, resource);",
            "unknown annotation `@max_livetime`",
        ),
        ("@id(\"a\") @expires(\"2027-01-01\") permit (principal, action, resource);", "unknown annotation `@expires`"),
        ("@id(\"a\") @max_lifetime(\"5\") permit (principal, action, resource);", "not a length of time"),
        ("@id(\"a\") @max_lifetime(\"0s\") permit (principal, action, resource);", "not between"),
        ("@id(\"a\") @max_lifetime(\"5m\") forbid (principal, action, resource);", "means nothing on a forbid"),
        ("@id(\"a\") permit (principal == ?principal, action, resource);", "templates"),
        ("@id(\"a\") permit (principal, action, resource) when { context.evnironment == \"x\" };", "evnironment"),
        (
            "@id(\"a\") permit (principal, action, resource) when { principal.github.repository_id == \"74\" };",
            "github",
        ),
        (
            "@id(\"a\") permit (principal, action, resource) when { principal has github && principal.github has repository_id && principal.github.repository_id == 74 };",
            "",
        ),
        ("@id(\"a\") permit (principal, action == Action::\"exchagne\", resource);", "exchagne"),
        ("@id(\"a\") permit (principal == User::\"x\", action, resource);", "User"),
        ("@id(\"a\") permit (principal == Target::\"x\", action, resource);", ""),
        ("@id(\"a\") permit (principal, action, resource) when { context.client == Client::\"x\" };", "client"),
        ("permit (principal, action, resource", ""),
    ];
    for (text, expected) in refused {
        let fault = load(text).err().unwrap_or_else(|| panic!("loaded: {text}"));
        assert!(fault.contains(expected), "{text}: {fault}");
    }
    let two = load("@id(\"ok\") permit (principal, action, resource);\n\n@id(\"a\") @nope(\"x\") permit (principal, action, resource);\npermit (principal, action, resource);").err().unwrap();
    assert!(two.contains("@nope") && two.contains("no `@id"), "every problem at once: {two}");
    let located = load("@id(\"ok\") permit (principal, action, resource);\n\n@id(\"a\")\npermit (principal, action, resource) when { context.nope };").err().unwrap();
    assert!(located.starts_with("p.cedar:4:") || located.starts_with("p.cedar:3:"), "{located}");
}

#[test]
fn a_directory_is_loaded_whole_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
    let load = || Policy::load(root.path(), &records()).map(|policy| policy.count()).map_err(|fault| fault.to_string());
    assert!(load().unwrap_err().contains("no policy"));
    write("b.cedar", "@id(\"b\") permit (principal, action, resource);");
    write("a.cedar", ALL);
    write("notes.txt", "not read");
    assert_eq!(load(), Ok(2));
    write("schema.cedarschema", &countersign::policy::schema(&records()));
    assert_eq!(load(), Ok(2));
    write("schema.cedarschema", "entity Workload;");
    assert!(load().unwrap_err().contains("not the schema of this version"));
    std::fs::remove_file(root.path().join("schema.cedarschema")).unwrap();
    std::fs::create_dir(root.path().join("cases")).unwrap();
    assert!(load().unwrap_err().contains("not supported"));
    std::fs::remove_dir(root.path().join("cases")).unwrap();
    write("c.cedar", "@id(\"a\"");
    assert!(load().is_err());
    assert!(Policy::load(&root.path().join("missing"), &records()).is_err());
}

#[test]
fn names_are_data_and_never_code() {
    let broker = Setup::new()
        .policies("@id(\"one\") permit (principal == Workload::\"cluster:a\", action == Action::\"exchange\", resource == Target::\"https://ledger.test\");")
        .start();
    let status = |sub: &str| {
        broker.exchange(&Token::cluster().claim("sub", serde_json::json!(sub)).sign(), &[("audience", LEDGER)]).status
    };
    assert_eq!(status("a"), 200);
    for sub in
        ["A", "a\"::Workload::\"cluster:a", "a\", action, resource); permit(principal", "a*", "*", "a\\", "cluster:a"]
    {
        assert_eq!(status(sub), 400, "{sub}");
    }
}
