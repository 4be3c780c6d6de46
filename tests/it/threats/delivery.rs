//! Section O: what is built, configured and deployed.

use crate::support::*;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The names under a heading of a manifest.
fn dependencies(manifest: &str, heading: &str) -> Vec<String> {
    let table: toml::Table = text(manifest).parse().unwrap();
    let found = heading.split('.').try_fold(&toml::Value::Table(table.clone()), |value, key| value.get(key)).cloned();
    found.and_then(|found| found.as_table().cloned()).map(|found| found.keys().cloned().collect()).unwrap_or_default()
}

fn locked() -> Vec<(String, String, Option<String>)> {
    let lock: toml::Table = text("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter().map(|package| {
        let of = |key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        (of("name").unwrap(), of("version").unwrap(), of("source"))
    });
    packages.collect()
}

#[test]
fn o1_libraries_with_a_known_hole_are_not_in_the_build_whatever_an_advisory_list_says() {
    for banned in ["jsonwebtoken", "h2"] {
        assert!(!locked().iter().any(|(name, ..)| name == banned), "{banned}");
    }
    assert!(text("deny.toml").contains("jsonwebtoken"), "and cargo-deny says so too");
    assert!(text("deny.toml").contains("[advisories]"), "where it runs, it asks for advisories");
}

#[test]
fn o2_each_library_was_chosen_and_written_down() {
    let mut decided = String::new();
    for entry in fs::read_dir(root().join("docs/decisions")).unwrap().flatten() {
        decided.push_str(&fs::read_to_string(entry.path()).unwrap());
    }
    let words: Vec<&str> =
        decided.split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_".contains(letter)).collect();
    for manifest in ["Cargo.toml", "verify/Cargo.toml", "loadtest/Cargo.toml", "conformance/Cargo.toml"] {
        for heading in ["dependencies", "dev-dependencies"] {
            for name in dependencies(manifest, heading).iter().filter(|name| !name.starts_with("countersign")) {
                assert!(words.contains(&name.as_str()), "`{name}` of {manifest} has no line in docs/decisions");
            }
        }
    }
    for squatted in ["tracings", "tracing_checks", "time_calibrator"] {
        assert!(!locked().iter().any(|(name, ..)| name == squatted));
    }
}

#[test]
fn o3_there_is_no_switch_that_trusts_more() {
    fn walk(folder: &Path, into: &mut String) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { walk(&path, into) } else { into.push_str(&fs::read_to_string(&path).unwrap()) }
        }
    }
    let mut sources = String::new();
    walk(&root().join("src"), &mut sources);
    walk(&root().join("verify/src"), &mut sources);
    for switch in ["danger_accept", "insecure_", "skip_verify", "dangerous()", "allow_http_issuers", "\"--dev\""] {
        assert!(!sources.contains(switch), "{switch}");
    }
    for (listen, issuer) in [("0.0.0.0:8080", "https://sts.test"), ("127.0.0.1:0", "http://sts.test")] {
        let config = Setup::new().config.replace("127.0.0.1:0", listen).replace("https://sts.test", issuer);
        assert!(
            countersign::config::Config::parse(&config, "c.toml".as_ref(), "".as_ref()).is_err(),
            "{listen} {issuer}"
        );
    }
}

#[test]
fn o4_a_misspelt_key_and_an_empty_list_stop_the_start() {
    for (from, to) in [
        ("audiences = [\"https://sts.test\"]\naccept", "allowed_audience = [\"https://sts.test\"]\naccept"),
        ("scopes = [\"orders:read\", \"orders:write\"]", "scopes = [\"\"]"),
        ("max_lifetime = \"10m\"", "max_lifetime = \"5\""),
        ("max_lifetime = \"10m\"", "ttl = \"10m\"\nmax_lifetime = \"10m\""),
        ("single_use = false", "single_use = \"no\""),
        ("jwks_file = \"github.jwks\"", "jwks_file = \"github.jwks\"\nalgorithms = []"),
        ("audiences = [\"https://sts.test\"]\naccept", "audiences = []\naccept"),
    ] {
        let config = Setup::new().change(from, to).config;
        assert!(countersign::config::Config::parse(&config, "c.toml".as_ref(), "".as_ref()).is_err(), "{to}");
    }
}

#[test]
fn o5_arithmetic_is_checked_in_what_is_released() {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    assert_eq!(manifest["profile"]["release"]["overflow-checks"].as_bool(), Some(true));
    for lifetime in ["18446744073709551615s", "99999999999999d", "-1s", "0s", "1.5h"] {
        let config = Setup::new().change("max_lifetime = \"10m\"", &format!("max_lifetime = \"{lifetime}\"")).config;
        assert!(countersign::config::Config::parse(&config, "c.toml".as_ref(), "".as_ref()).is_err(), "{lifetime}");
    }
}

#[test]
fn o10_no_secret_is_read_from_the_environment() {
    for (name, text) in [("Dockerfile", text("Dockerfile")), ("docker-compose.yml", text("docker-compose.yml"))] {
        for word in ["SECRET", "PASSWORD", "TOKEN=", "PRIVATE_KEY"] {
            assert!(!text.to_uppercase().contains(word), "{word} in {name}");
        }
    }
    assert!(text("clippy.toml").contains("std::env::var"), "the linter forbids it");
}

#[test]
fn o11_what_is_built_is_what_is_locked() {
    for file in ["Makefile", "Dockerfile"] {
        for line in text(file).lines().filter(|line| !line.trim_start().starts_with('#')) {
            let builds = [
                "cargo build",
                "cargo test",
                "cargo clippy",
                "cargo doc",
                "cargo run",
                "$(CARGO) build",
                "$(CARGO) test",
                "$(CARGO) clippy",
                "$(CARGO) doc",
                "$(CARGO) run",
            ];
            assert!(!builds.iter().any(|build| line.contains(build)) || line.contains("--locked"), "{file}: {line}");
        }
    }
    for (name, version, source) in locked() {
        let own = name.starts_with("countersign");
        assert!(
            own || source.as_deref() == Some("registry+https://github.com/rust-lang/crates.io-index"),
            "{name} {version} {source:?}"
        );
    }
}
