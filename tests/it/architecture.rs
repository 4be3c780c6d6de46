//! The tree tells the story: who may import whom, and where each external crate lives.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each part may import of the others. `main` calls `cli`, and nothing is imported upwards.
const MAY: [(&str, &[&str]); 24] = [
    ("main", &["cli"]),
    (
        "cli",
        &[
            "admin",
            "app",
            "assertion",
            "audit",
            "control",
            "domain",
            "error",
            "exchange",
            "files",
            "http",
            "policy",
            "signing",
            "telemetry",
        ],
    ),
    (
        "app",
        &[
            "admin",
            "assertion",
            "audit",
            "client",
            "config",
            "control",
            "domain",
            "exchange",
            "files",
            "form",
            "http",
            "policy",
            "rates",
            "revocation",
            "signing",
            "store",
            "telemetry",
        ],
    ),
    ("config", &["assertion", "audit", "domain", "form", "http", "rates", "store"]),
    ("control", &["admin", "files"]),
    (
        "http",
        &[
            "admin",
            "client",
            "domain",
            "error",
            "exchange",
            "form",
            "introspection",
            "rates",
            "revocation",
            "signing",
            "telemetry",
        ],
    ),
    ("admin", &["audit", "domain", "error", "exchange", "revocation", "signing", "store", "telemetry"]),
    (
        "introspection",
        &["assertion", "audit", "client", "domain", "error", "exchange", "form", "revocation", "signing", "store"],
    ),
    (
        "exchange",
        &[
            "assertion",
            "audit",
            "client",
            "domain",
            "error",
            "form",
            "policy",
            "rates",
            "revocation",
            "signing",
            "store",
            "telemetry",
            "token",
        ],
    ),
    ("error", &["assertion", "client", "form", "rates", "store"]),
    ("files", &[]),
    ("form", &[]),
    ("assertion", &["audit", "domain", "revocation", "signing", "telemetry"]),
    ("append", &[]),
    ("audit", &["append", "domain", "files", "policy", "store", "telemetry"]),
    ("policy", &["domain"]),
    ("client", &["assertion", "domain", "rates"]),
    ("rates", &["domain"]),
    ("signing", &["domain", "files", "store"]),
    ("revocation", &["domain", "store", "telemetry"]),
    ("store", &["append", "domain", "files"]),
    ("telemetry", &[]),
    ("token", &["domain"]),
    ("domain", &[]),
];

/// Where each external crate lives.
const HOMES: [(&str, &[&str]); 42] = [
    ("actix_tls", &["http/connections.rs"]),
    ("actix_web", &["http"]),
    ("anstream", &["cli"]),
    ("anstyle", &["cli"]),
    ("arc_swap", &["app/mod.rs", "assertion/keys.rs", "exchange/mod.rs", "http/tls.rs", "signing/keys.rs"]),
    ("aws_lc_rs", &["domain/entropy.rs", "domain/digest.rs", "signing", "cli/demo/issuer.rs"]),
    ("cedar_policy", &["policy"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("comfy_table", &["cli/output.rs"]),
    ("deadpool", &["store/redis/link.rs"]),
    ("ed25519_dalek", &["signing/ed25519.rs"]),
    ("flate2", &["introspection/status.rs"]),
    ("form_urlencoded", &["cli"]),
    ("futures_util", &["http", "cli/task", "store/redis", "revocation/follow.rs"]),
    ("hex", &["audit/line.rs", "cli", "config", "policy/load.rs"]),
    ("governor", &["rates.rs"]),
    ("ipnet", &["config", "http"]),
    ("jiff", &["domain/time.rs"]),
    ("miette", &["policy"]),
    ("mimalloc", &["main.rs"]),
    ("opentelemetry", &["telemetry/traces.rs"]),
    ("opentelemetry_otlp", &["telemetry/traces.rs"]),
    ("opentelemetry_sdk", &["telemetry/traces.rs"]),
    ("p256", &["signing"]),
    ("prometheus_client", &["telemetry/jobs.rs", "telemetry/metrics.rs"]),
    ("quick_cache", &["assertion/own.rs", "client/attempts.rs"]),
    ("redb", &["store/embedded.rs", "store/rows.rs", "store/tasks.rs"]),
    ("redis", &["store"]),
    ("reqwest", &["assertion/http_fetch.rs", "cli/wire.rs", "telemetry/traces.rs"]),
    (
        "rustix",
        &["audit", "cli/serve.rs", "control.rs", "admin", "http/connections.rs", "signing/files.rs", "cli/task"],
    ),
    ("rustls", &["http/tls.rs", "app"]),
    ("schemars", &["config"]),
    ("sha2", &["domain/digest.rs"]),
    ("strsim", &["config"]),
    ("subtle", &["client"]),
    ("toml", &["assertion/kinds/mod.rs", "config"]),
    ("tracing_opentelemetry", &["telemetry/traces.rs"]),
    ("tracing_subscriber", &["telemetry"]),
    ("url", &["assertion", "cli/wire.rs", "config", "http"]),
    ("zeroize", &["app", "cli", "client", "exchange", "form", "http", "signing", "store/redis", "token"]),
];

fn sources() -> Vec<(PathBuf, String)> {
    sources_of("src")
}

/// The Rust files below `folder`, with their paths in it.
fn sources_of(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, into: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut all = Vec::new();
    walk(&root, &mut all);
    all.into_iter().map(|(path, text)| (path.strip_prefix(&root).unwrap().to_owned(), text)).collect()
}

fn part(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

/// Code without comments.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Names behind `prefix::` at a word's start.
fn named(text: &str, prefix: &str) -> Vec<String> {
    let pattern = format!("{prefix}::");
    let starts_word = |at: usize| {
        !text[..at].ends_with(|character: char| character.is_alphanumeric() || character == '_' || character == ':')
    };
    text.match_indices(&pattern)
        .filter(|(at, _)| starts_word(*at))
        .flat_map(|(at, _)| {
            let rest = &text[at + pattern.len()..];
            let name: String =
                rest.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
            vec![name]
        })
        .collect()
}

#[test]
fn nothing_is_imported_upwards() {
    let may: BTreeMap<&str, &[&str]> = MAY.into_iter().collect();
    for (path, text) in sources() {
        let own = part(&path);
        if own == "lib" {
            continue;
        }
        let allowed = may.get(own.as_str()).unwrap_or_else(|| panic!("{own} has no row in MAY"));
        let prefix = if own == "main" { "countersign" } else { "crate" };
        for import in named(&code(&text), prefix) {
            assert!(import == own || allowed.contains(&import.as_str()), "{} imports {import}", path.display());
        }
    }
}

#[test]
fn only_app_imports_config_and_only_http_knows_actix() {
    for (path, text) in sources() {
        let (own, code) = (part(&path), code(&text));
        assert!(
            !named(&code, "crate").contains(&"config".to_owned()) || matches!(own.as_str(), "app" | "config"),
            "{}",
            path.display()
        );
        assert!(!code.contains("actix") || own == "http", "{}", path.display());
    }
}

#[test]
fn each_external_crate_has_its_home() {
    for (path, text) in sources() {
        let code = code(&text);
        for (name, homes) in HOMES {
            if !named(&code, name).is_empty() {
                assert!(homes.iter().any(|home| path.starts_with(home)), "{name} is used in {}", path.display());
            }
        }
    }
}

#[test]
fn files_stay_short_and_say_what_they_own() {
    for (path, text) in sources() {
        let production = text.split("#[cfg(test)]\nmod tests").next().unwrap().lines().count();
        assert!(production <= 400, "{} has {production} lines", path.display());
        assert!(text.starts_with("//! "), "{} does not say what it owns", path.display());
    }
}

#[test]
fn there_is_no_circle_between_folders() {
    fn reaches<'a>(from: &'a str, to: &str, may: &BTreeMap<&'a str, &'a [&'a str]>) -> bool {
        may.get(from).is_some_and(|imports| imports.iter().any(|next| *next == to || reaches(next, to, may)))
    }
    let may: BTreeMap<&str, &[&str]> = MAY.into_iter().collect();
    let circles: Vec<_> = may.keys().filter(|folder| reaches(folder, folder, &may)).collect();
    assert!(circles.is_empty(), "{circles:?}");
}

/// Names that stand for two types, and why.
const TWICE: [(&str, &str); 4] = [
    ("Credentials", "of a client at the broker, and of a resource server in `countersign-verify`"),
    ("Event", "of the audit log, and of the feed in `countersign-verify`"),
    ("Held", "the keys that a replica holds, and the grant that is held until it is recorded"),
    ("Snapshot", "of the configuration, and of what is revoked in `countersign-verify`"),
];

#[test]
fn no_type_name_stands_for_two_things() {
    let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in sources_of("src").into_iter().chain(sources_of("verify/src")) {
        let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
        for line in text.lines().filter(|line| !line.starts_with("    ")) {
            let line = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(super) ")).unwrap_or(line);
            let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
            let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            if let (Some("struct" | "enum" | "trait" | "type"), Some(name)) = (words.next(), words.next()) {
                homes.entry(name.to_owned()).or_default().push(path.display().to_string());
            }
        }
    }
    let twice: Vec<_> = homes.iter().filter(|(_, homes)| homes.len() > 1).collect();
    let listed = |name: &str| TWICE.iter().any(|(twice, _)| *twice == name);
    let new: Vec<_> = twice.iter().filter(|(name, _)| !listed(name)).collect();
    assert!(new.is_empty(), "{new:#?}");
    assert!(TWICE.iter().all(|(name, _)| twice.iter().any(|(other, _)| other == name)), "a name of the list is gone");
}

/// The compiler refuses, on the marked lines and nowhere else, what `tests/intruder/` tries from inside `exchange/`.
#[test]
fn the_moves_that_skip_a_stage_do_not_compile() {
    for name in ["alters", "constructs"] {
        let file = format!("tests/intruder/{name}.rs");
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).unwrap();
        let lines = text.lines().zip(1_u64..);
        let marked: Vec<_> =
            lines.filter_map(|(line, at)| Some((at, line.split("// refused: ").nth(1)?.to_owned()))).collect();
        assert_eq!(text.matches("\nfn ").count(), marked.len(), "{file}: each move is marked once");
        assert_eq!(refused(name, &file), marked, "{file}");
    }
}

/// Line and code of each error that the compiler finds in the intruder `file`; an error elsewhere fails the test.
fn refused(name: &str, file: &str) -> Vec<(u64, String)> {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let built = std::process::Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["rustc", "--locked", "--lib", "--profile", "check", "--message-format=json", "--", "--cfg"])
        .arg(format!("intruder=\"{name}\""))
        .output()
        .unwrap();
    assert!(!built.status.success(), "{file} compiles");
    let mut refused = Vec::new();
    for line in String::from_utf8(built.stdout).unwrap().lines() {
        let message = &serde_json::from_str::<serde_json::Value>(line).unwrap()["message"];
        let Some(code) = message["code"]["code"].as_str().filter(|_| message["level"] == "error") else { continue };
        let places = message["spans"].as_array().unwrap();
        let place = places.iter().find(|place| place["is_primary"] == true).unwrap();
        assert!(place["file_name"].as_str().unwrap().ends_with(file), "{}", message["rendered"]);
        refused.push((place["line_start"].as_u64().unwrap(), code.to_owned()));
    }
    refused.sort();
    refused.dedup();
    refused
}
