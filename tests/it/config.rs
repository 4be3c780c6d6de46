//! The configuration: every problem at once, each with its place and what to do.

use crate::support::*;
use countersign::config::{Config, Problems};
use std::path::Path;

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, Path::new("countersign.toml"), Path::new("/etc/countersign"))
}

fn problems(text: &str) -> String {
    parse(text).expect_err("there are problems").to_string()
}

#[test]
fn the_tests_own_configuration_is_whole() {
    let config = parse(&Setup::new().config).unwrap();
    assert_eq!(config.issuers.len(), 3);
    assert_eq!(config.store.path, Path::new("/etc/countersign/data"));
    assert!(config.issuers[0].single_use && !config.issuers[1].single_use && !config.issuers[2].single_use);
}

#[test]
fn every_problem_is_told_at_once_with_its_line_and_what_to_do() {
    let text = r#"[server]
isuer = "https://sts.test"
listen = "127.0.0.1"
[store]
kind = "redis"
path = 5
[signing]
directory = "keys"
algorithm = "HS256"
rotate_evry = "30d"
[audit]
[policy]
directory = "policies"
[[issuers]]
name = "GitHub"
kind = "gitea"
audiences = []
[[issuers]]
name = "a"
kind = "oidc"
issuer = "http://a.test"
audiences = ["x"]
max_lifetime = "5"
algorithms = ["HS256"]
single_use = "yes"
[[targets]]
audience = "https://orders.test"
max_lifetime = "forever"
[[clients]]
id = "c"
method = "client_secret_jwt"
secret_digest = "hunter2"
secret = "hunter2"
introspects = ["https://unknown.test"]
"#;
    let told = problems(text);
    for expected in [
        "countersign.toml:1:1: `server.issuer` is missing",
        "countersign.toml:2:1: unknown key `isuer`; did you mean `issuer`?; known here: issuer, listen",
        "countersign.toml:3:10: `server.listen`",
        "countersign.toml:5:8: `store.kind` is `redis`, and there is no `[store.redis]`",
        "countersign.toml:6:8: `store.path`",
        "countersign.toml:9:13: `signing.algorithm`: tokens are not signed with `HS256`; use one of ES256, EdDSA, RS256",
        "countersign.toml:10:1: unknown key `rotate_evry`; did you mean `rotate_every`?",
        "countersign.toml:11:1: `audit.path` is missing",
        "countersign.toml:15:8: `name`",
        "countersign.toml:16:8: `kind`: `gitea`",
        "countersign.toml:17:13: `audiences` is empty",
        "countersign.toml:21:10: `issuer`: `http://a.test` is not https",
        "countersign.toml:23:16: `max_lifetime`",
        "countersign.toml:24:14: `algorithms`: `HS256`",
        "countersign.toml:25:14: `single_use`",
        "countersign.toml:28:16: `max_lifetime`: `forever`",
        "countersign.toml:31:10: `method`",
        "countersign.toml:33:1: unknown key `secret`",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
    let lines: Vec<usize> = told.lines().map(|line| line.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted());
    assert!(!told.contains("hunter2"), "what may be a secret is not repeated");
}

#[test]
fn what_grants_trust_has_no_default() {
    let base = Setup::new().config;
    for (from, to, expected) in [
        ("accept = { repository_owner_id = [\"41\"] }", "", "`accept` is missing"),
        ("accept = { repository_owner_id = [\"41\"] }", "accept = { repository_owner = [\"acme\"] }", "names no owner"),
        ("accept = { repository_owner_id = [\"41\"] }", "accept = {}", "names no owner"),
        ("accept = { repository_owner_id = [\"41\"] }", "accept = { repository_owner_id = [] }", "accepts nothing"),
        ("accept = { repository_owner_id = [\"41\"] }", "accept = { repository_owner_id = [41] }", "`accept`"),
        (
            "accept = { repository_owner_id = [\"41\"] }",
            "accept = { repository_owner_id = [\"41\"], repo = [\"x\"] }",
            "no attribute `repo`",
        ),
        ("audiences = [\"https://sts.test\"]\naccept", "accept", "`audiences` is missing"),
        (
            "issuer = \"https://cluster.test\"",
            "issuer = \"https://accounts.google.com\"",
            "anyone can get a token from accounts.google.com",
        ),
        (
            "issuer = \"https://cluster.test\"",
            "issuer = \"https://token.actions.githubusercontent.com\"",
            "is of kind `github-actions`",
        ),
        ("issuer = \"https://cluster.test\"", "issuer = \"https://sts.test\"", "is the broker itself"),
        ("issuer = \"https://cluster.test\"", "issuer = \"https://cluster.test?x\"", "has a query"),
        ("issuer = \"https://cluster.test\"", "issuer = \"https://u:p@cluster.test\"", "carries credentials"),
        ("issuer = \"https://cluster.test\"", "issuer = \"http://127.0.0.1:1\"", "is not https"),
        ("max_lifetime = \"10m\"", "", "`max_lifetime` is missing"),
        ("listen = \"127.0.0.1:0\"", "listen = \"0.0.0.0:8080\"", "not a loopback address"),
        ("workers = 2", "workers = 0", "use 1 to 256"),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"127.0.0.1:8080\"\nmanagement = \"127.0.0.1:8080\"",
            "is the public listener",
        ),
        ("workers = 2", "workers = 2\ntenant = \"a/b\"", "not one path segment"),
        ("workers = 2", "workers = 2\ntenant = \"token\"", "one of our own paths"),
        ("workers = 2", "workers = 2\ndrain = \"soon\"", "`server.drain`"),
        ("max_lifetime = \"10m\"", "max_lifetime = \"600d\"", "more than 16 times as long"),
        ("\"6h\"", "\"31d\"", "longer than 30 days"),
        ("directory = \"keys\"", "directory = \"keys\"\nrotate_every = \"10m\"", "shorter than an hour"),
        ("directory = \"keys\"", "directory = \"keys\"\nalgorithm = \"RS512\"", "use one of ES256, EdDSA, RS256"),
        ("path = \"data/audit\"", "path = \"data/audit\"\nsegment_bytes = 1", "use 65536 to"),
        ("path = \"data/audit\"", "path = \"data/audit\"\nretention = \"never\"", "`audit.retention`"),
        ("[policy]", "[telemetry]\notlp_endpoint = \"grpc://x\"\n[policy]", "no http or https URL"),
        ("[policy]", "[telemetry]\nsample = 1.5\n[policy]", "use 0 to 1"),
        ("name = \"github\"", "name = \"github\"\nclient = \"optional\"", "write `required`"),
        ("max_lifetime = \"2m\"", "max_lifetime = \"2m\"\nclient = true", "`client`"),
        ("max_lifetime = \"2m\"", "max_lifetime = \"2m\"\nalgorithm = \"none\"", "not signed with `none`"),
        ("method = \"client_secret_basic\"", "issuer = \"github\"", "leave this out"),
        ("method = \"client_secret_basic\"", "method = \"private_key_jwt\"", "needs the client's public keys"),
        (
            "method = \"client_secret_basic\"",
            "method = \"client_secret_basic\"\njwks_file = \"a\"",
            "is for `private_key_jwt`",
        ),
        (
            "[[targets]]",
            "[[clients]]\nid = \"f\"\nissuer = \"nobody\"\nsubject = \"s\"\n[[targets]]",
            "no `[[issuers]]` is named `nobody`",
        ),
        (
            "[[targets]]",
            "[[clients]]\nid = \"f\"\nissuer = \"prod\"\nsubject = \"s\"\n[[clients]]\nid = \"g\"\nissuer = \"prod\"\nsubject = \"s\"\n[[targets]]",
            "two clients are `s` of issuer `prod`",
        ),
        ("[[targets]]", "[[clients]]\nid = \"f\"\nissuer = \"prod\"\n[[targets]]", "`subject` is missing"),
        ("audience = \"https://ledger.test\"", "audience = \"https://orders.test\"", "names two targets"),
        ("audience = \"https://ledger.test\"", "audience = \"https://sts.test\"", "is the broker itself"),
        ("id = \"ledger-api\"", "id = \"orders-api\"", "two clients"),
        ("id = \"ledger-api\"", "id = \"cluster:x\"", "could be a workload's name"),
        ("id = \"ledger-api\"", "id = \"spiffe://td.test/a\"", "could be a workload's name"),
        ("jwks_file = \"cluster.jwks\"", "jwks_file = \"a\"\nca_file = \"b\"", "leave one out"),
        ("introspects = [\"https://ledger.test\"]", "introspects = [\"https://ledger\"]", "is no target's audience"),
        ("trust_domain = \"td.test\"", "trust_domain = \"TD.test\"", "a trust domain is"),
        (
            "trust_domain = \"td.test\"",
            "trust_domain = \"td.test\"\nissuer = \"https://x.test\"",
            "not for kind `spiffe`",
        ),
        (
            "trust_domain = \"td.test\"",
            "trust_domain = \"td.test\"\nalgorithms = [\"EdDSA\"]",
            "`EdDSA` is not supported for kind `spiffe`",
        ),
        ("bundle_file = \"td.bundle.json\"", "", "`bundle_file` is missing"),
        ("jwks_file = \"cluster.jwks\"", "jwks_file = \"a\"\njwks_uri = \"https://a.test/k\"", "keep one"),
        ("jwks_file = \"cluster.jwks\"", "jwks_file = \"a\"\nworkload = \"{sub}{env}\"", "could share a name"),
        ("{ claim = \"/env\" }", "1", "`attributes`"),
        ("{ claim = \"/env\" }", "{ claim = \"env\" }", "a JSON pointer that begins with `/`"),
        ("{ claim = \"/env\" }", "{ claim = \"/env\", kind = \"set\" }", "unknown field `kind`"),
        ("{ claim = \"/env\" }", "{ claim = \"/env\", type = \"list\" }", "`type` is `list`; use `string`"),
        ("env = { claim", "\"e-nv\" = { claim", "`e-nv` is not a name that Cedar takes"),
        ("{ env = { claim = \"/env\" } }", "{ in = { claim = \"/env\" } }", "`in` is not a name that Cedar takes"),
        ("name = \"cluster\"", "name = \"gitlab\"", "has the attributes of kind `gitlab`"),
        (
            "{ repository_owner_id = [\"41\"] }",
            "{ repository_owner_id = [1.5] }",
            "a string, a whole number or a boolean",
        ),
        ("repository_owner_id = [\"41\"]", "repository_owner_id = [true]", "has type string"),
        ("name = \"cluster\"", "name = \"9cluster\"", "`principal.9cluster`, which is not a name"),
        ("name = \"cluster\"", "name = \"owner\"", "`principal.owner`, which is not a name"),
        ("repository_owner_id = [\"41\"]", "repository_owner_id = [41]", "has type string"),
        ("repository_owner_id = [\"41\"]", "repository_owner_id = [\"41\"], color = [\"red\"]", "no attribute `color`"),
        ("kind = \"github-actions\"", "kind = \"github-actions\"\nmax_lifetime = \"2d\"", "live for at most 1d"),
    ] {
        assert!(base.contains(from), "{from}");
        let told = problems(&base.replace(from, to));
        assert!(told.contains(expected), "{to}: {expected} is not in\n{told}");
    }
    assert!(problems("").contains("there is no `[[issuers]]`"));
    assert!(problems("[server").starts_with("countersign.toml:1:"));
    assert!(problems("server = 1").contains("countersign.toml:1:"));
    assert!(problems(&format!("{base}\n[keys]\nmax_stale = \"1m\"")).contains("would lapse"));
}

#[test]
fn the_digest_of_an_empty_secret_is_refused() {
    let empty: String = countersign::domain::sha256(&[]).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!(
        "{}[[clients]]\nid = \"e\"\nmethod = \"client_secret_basic\"\nsecret_digest = \"sha256:{empty}\"\n",
        Setup::new().config
    );
    assert!(problems(&text).contains("empty secret"));
}

/// What is asked of a shared store and cannot be, each with what to do.
#[test]
fn a_shared_store_that_could_not_be_trusted_is_no_configuration() {
    let told = |section: &str| {
        let config = Setup::new().change("kind = \"embedded\"\npath = \"data\"", section).config;
        let parsed = countersign::config::Config::parse(&config, "c.toml".as_ref(), "".as_ref());
        parsed.err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    let redis = |more: &str| told(&format!("kind = \"redis\"\npath = \"data\"\n[store.redis]\n{more}"));
    let here = "urls = [\"redis://127.0.0.1:6379\"]\n";
    for good in [
        here.to_owned(),
        "urls = [\"redis://localhost\"]".to_owned(),
        "urls = [\"redis://[::1]:6379\"]".to_owned(),
        "urls = [\"rediss://redis.test:6379\"]\nca_file = \"ca.pem\"\ncertificate = \"c.pem\"\nkey = \"k.pem\""
            .to_owned(),
        "urls = [\"redis://redis.test\"]\nallow_plaintext = true".to_owned(),
        "mode = \"sentinel\"\nmaster = \"m\"\nreplicas = 2\nurls = [\"rediss://a\", \"rediss://b\"]".to_owned(),
        "mode = \"cluster\"\ndurability = \"persisted\"\nurls = [\"rediss://a\", \"rediss://b\"]".to_owned(),
        format!("{here}[revocation]\nmax_staleness = \"1s\""),
    ] {
        assert_eq!(redis(&good), "", "{good}");
    }
    for (more, expected) in [
        ("".to_owned(), "`store.redis.urls` is missing"),
        ("urls = []".to_owned(), "names none"),
        ("urls = [\"redis://redis.test\"]".to_owned(), "`allow_plaintext = true`"),
        ("urls = [\"redis://127.0.0.1.evil.test\"]".to_owned(), "`allow_plaintext = true`"),
        ("urls = [\"rediss://user:word@redis.test\"]".to_owned(), "carries credentials"),
        ("urls = [\"rediss://redis.test/3\"]".to_owned(), "more or less than a host and a port"),
        ("urls = [\"rediss://redis.test/#insecure\"]".to_owned(), "more or less than a host and a port"),
        ("urls = [\"https://redis.test\"]".to_owned(), "neither redis:// nor rediss://"),
        ("urls = [\"x\"]".to_owned(), "is not a URL"),
        ("urls = [\"rediss://a\", \"rediss://b\"]".to_owned(), "names several"),
        (
            "mode = \"cluster\"\nreplicas = 1\nallow_plaintext = true\nurls = [\"rediss://a\", \"redis://b\"]"
                .to_owned(),
            "some with TLS and some without",
        ),
        (format!("{here}mode = \"sentinel\"\nreplicas = 1"), "`store.redis.master` is missing"),
        (format!("{here}master = \"m\""), "is for `mode = \"sentinel\"`"),
        (format!("{here}mode = \"ring\""), "`ring` is not known"),
        (format!("{here}mode = \"cluster\""), "`store.redis.replicas` is missing"),
        (format!("{here}replicas = 9"), "use 0 to 8"),
        (format!("{here}durability = \"some\""), "`some` is not known"),
        (format!("{here}key_prefix = \"{{a}}\""), "has braces"),
        (format!("{here}timeout = \"11s\""), "longer than ten seconds"),
        (format!("{here}connections = 0"), "use 1 to 64"),
        (format!("{here}certificate = \"c.pem\""), "belong together"),
        (format!("{here}password = \"x\""), "unknown key `password`"),
        (format!("{here}[revocation]\nmax_staleness = \"61s\""), "not between `1s` and `60s`"),
    ] {
        let problems = redis(&more);
        assert!(problems.contains(expected), "{more}: {problems}");
    }
    assert!(told("kind = \"embedded\"\npath = \"data\"\n[store.redis]\nurls = []").contains("leave it out"));
    assert!(told("kind = \"etcd\"\npath = \"data\"").contains("`etcd` is not known"));
}
