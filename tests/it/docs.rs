//! The README and the documents show what is there: every command in them runs, every file that they name exists, and the
//! example that they start from is one that `check` accepts.

use crate::support::AROUND_AN_ENTRY;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(PathBuf, String)> {
    let mut all = vec![
        root().join("README.md"),
        root().join("CONTRIBUTING.md"),
        root().join("SECURITY.md"),
        root().join("keys/README.md"),
    ];
    for folder in ["docs", "docs/decisions", "docs/operations", "docs/reasons", "docs/issuers"] {
        for entry in fs::read_dir(root().join(folder)).unwrap().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "md") {
                all.push(entry.path());
            }
        }
    }
    all.into_iter()
        .map(|path| (path.clone(), fs::read_to_string(&path).unwrap_or_else(|_| panic!("{}", path.display()))))
        .collect()
}

/// The lines of every block that is fenced as `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_command_runs() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let example = example();
    let mut ran = 0;
    for (path, text) in documents() {
        for command in
            blocks(&text, "console").iter().flat_map(|block| block.lines()).filter_map(|line| line.strip_prefix("$ "))
        {
            ran += 1;
            let words: Vec<&str> = command.split_whitespace().collect();
            match words[..] {
                ["make", target] => {
                    assert!(makefile.contains(&format!("\n{target}:")), "{command} in {}", path.display())
                }
                ["countersign", "serve", ..] | ["countersign", "demo", ..] => {
                    // They run by themselves in `cli.rs`; here that they are understood.
                    let help = Command::new(env!("CARGO_BIN_EXE_countersign"))
                        .args(&words[1..])
                        .arg("--help")
                        .output()
                        .unwrap();
                    assert!(help.status.success(), "{command} in {}", path.display());
                }
                _ => {
                    let output = Command::new("sh")
                        .args(["-c", command])
                        .current_dir(example.path())
                        .env("PATH", with_program())
                        .output()
                        .unwrap();
                    let said =
                        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
                    assert!(output.status.success(), "{command} in {}: {said}", path.display());
                }
            }
        }
    }
    assert!(ran >= 10, "{ran}");
}

fn with_program() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap().to_owned();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

/// A folder with the example, after one granted exchange, so that there is something to look at.
fn example() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| fs::copy(root().join(from), folder.path().join(to)).unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    copy("countersign.example.toml", "countersign.toml");
    copy("policies/orders.cedar", "policies/orders.cedar");
    fs::create_dir_all(folder.path().join("data/audit")).unwrap();
    // By the real clock, as the commands will be run.
    let clock = crate::support::TestClock::real();
    let broker = crate::support::TestBroker::start(crate::support::Setup::new().write(), clock);
    let reply = broker.exchange(&crate::cli::fresh().sign(), &[]);
    assert_eq!(reply.status, 200);
    for name in ["audit/00000001.jsonl", "audit-head", "digest.key", "replica", "store.redb"] {
        fs::copy(broker.path("data").join(name), folder.path().join("data").join(name)).unwrap();
    }
    fs::write(folder.path().join("token"), reply.token()).unwrap();
    fs::write(folder.path().join("decision"), reply.decision()).unwrap();
    let kid = countersign_verify::jws::Compact::parse(&reply.token()).unwrap().header().key_id.clone().unwrap();
    fs::write(folder.path().join("kid"), kid).unwrap();
    let keys = folder.path().join("keys");
    fs::create_dir(&keys).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
    for key in fs::read_dir(broker.path("keys")).unwrap().flatten() {
        fs::copy(key.path(), keys.join(key.file_name())).unwrap();
    }
    folder
}

#[test]
fn every_configuration_shown_is_one_that_check_accepts() {
    for (path, text) in documents() {
        let mut records: Vec<_> =
            countersign::assertion::IssuerKind::all().iter().filter_map(|kind| kind.attributes.clone()).collect();
        for block in blocks(&text, "toml") {
            let whole = if block.starts_with("[[issuers]]") { format!("{AROUND_AN_ENTRY}{block}") } else { block };
            let parsed = countersign::config::Config::parse(&whole, &path, Path::new(""));
            let config = parsed.unwrap_or_else(|problems| panic!("{}: {problems}", path.display()));
            let declared = config.issuers.into_iter().filter_map(|issuer| issuer.attributes);
            records.extend(declared.filter(|record| !record.of_kind));
        }
        for block in blocks(&text, "cedar") {
            let loaded =
                countersign::policy::Policy::from_texts(&records, [(path.display().to_string(), block.as_str())]);
            assert!(loaded.is_ok(), "{}", loaded.err().unwrap());
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for (path, text) in documents() {
        for link in text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            if !link.is_empty() && !link.contains("://") {
                assert!(path.parent().unwrap().join(link).exists(), "{link} in {}", path.display());
            }
        }
    }
}

/// A section that a link names is there.
#[test]
fn every_section_that_is_linked_is_there() {
    let anchor = |heading: &str| -> String {
        let kept = heading.to_lowercase().replace(['\'', '’', '.', ',', '`', ':'], "");
        kept.trim().replace(' ', "-")
    };
    let mut checked = 0;
    for (path, text) in documents() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((file, section)) = link.split_once('#').filter(|_| !link.contains("://")) else { continue };
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let target = fs::read_to_string(&file).unwrap();
            let headings: Vec<String> =
                target.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor).collect();
            assert!(headings.contains(&section.to_owned()), "{link} in {}: {headings:?}", path.display());
            checked += 1;
        }
    }
    let alerts = fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).unwrap();
    for page in alerts.lines().filter_map(|line| line.split("/docs/").nth(1)) {
        let Some((file, section)) = page.trim().split_once('#') else { continue };
        let target = fs::read_to_string(root().join("docs").join(file)).unwrap();
        assert!(
            target.lines().filter_map(|line| line.strip_prefix("## ")).any(|heading| anchor(heading) == section),
            "{page}"
        );
        checked += 1;
    }
    assert!(checked > 10, "{checked}");
}

#[test]
fn the_image_runs_as_nobody_and_the_compose_file_and_the_unit_keep_it_in() {
    use dockerfile_parser::{Dockerfile, Instruction};
    let text = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let parsed = Dockerfile::parse(&text).unwrap();
    let stages: Vec<_> = parsed.iter_stages().collect();
    assert_eq!(stages.len(), 2);
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let channel =
        toolchain.split("channel = \"").nth(1).unwrap().split('"').next().unwrap().rsplit_once('.').unwrap().0;
    let base = format!("{:?}", stages[0].instructions[0]);
    assert!(base.contains(&format!("rust:{channel}-")), "the image builds with the toolchain of the project: {base}");
    let last = &stages[1].instructions;
    let user = last.iter().filter_map(|one| match one {
        Instruction::Misc(misc) if misc.instruction.content == "USER" => Some(misc.arguments.to_string()),
        _ => None,
    });
    assert_eq!(user.collect::<Vec<_>>().pop().unwrap().trim(), "65532:65532");
    assert!(last.iter().any(|one| matches!(one, Instruction::Entrypoint(_))));
    assert!(!last.iter().any(|one| matches!(one, Instruction::Run(_))), "there is no shell to run anything");

    let compose: serde_json::Value =
        serde_saphyr::from_str(&fs::read_to_string(root().join("docker-compose.yml")).unwrap()).unwrap();
    for name in ["broker-1", "broker-2"] {
        // What both have in common is merged by whoever reads it; this parser keeps it apart.
        let merged = compose["services"][name].get("<<").cloned().unwrap_or_else(|| compose["services"][name].clone());
        assert_eq!(merged["read_only"], true, "{name}");
        assert_eq!(merged["cap_drop"], serde_json::json!(["ALL"]), "{name}");
    }
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in service["volumes"].as_array().unwrap() {
            let (from, rest) = volume.as_str().unwrap().split_once(':').unwrap();
            let read_only = rest.ends_with(":ro");
            assert!(read_only || compose["volumes"].get(from).is_some(), "{name}: {volume}");
            // What `prepare` makes is nobody's to commit.
            if from.starts_with("./deploy") && !from.ends_with("/users.acl") {
                assert!(root().join(from).exists(), "{from}");
            }
        }
    }
    let scrape: serde_json::Value =
        serde_saphyr::from_str(&fs::read_to_string(root().join("deploy/prometheus/prometheus.yml")).unwrap()).unwrap();
    assert_eq!(scrape["scrape_configs"][0]["job_name"], "countersign", "alerts ask for this job");

    let unit = fs::read_to_string(root().join("deploy/systemd/countersign.service")).unwrap();
    for setting in
        ["NoNewPrivileges=yes", "ProtectSystem=strict", "LimitCORE=0", "UMask=0077", "CapabilityBoundingSet=\n"]
    {
        assert!(unit.contains(setting), "{setting}");
    }
    for line in unit.lines().filter_map(|line| line.split_once("=/usr/bin/countersign ").map(|(_, rest)| rest)) {
        let words: Vec<&str> = line.split(' ').chain(["--help"]).collect();
        let help = Command::new(env!("CARGO_BIN_EXE_countersign")).args(words).output().unwrap();
        assert!(help.status.success(), "{line}");
    }
}

#[test]
fn the_repository_holds_no_private_key() {
    let keys: Vec<_> = fs::read_dir(root().join("keys")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(keys.iter().all(|name| matches!(name.to_str(), Some("README.md" | ".gitignore"))), "{keys:?}");
}

#[test]
fn the_picture_of_an_exchange_is_what_its_script_draws() {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(root().join("docs/draw-exchange"), copy.path().join("draw-exchange")).unwrap();
    assert!(Command::new("python3").arg(copy.path().join("draw-exchange")).status().unwrap().success());
    let drawn = fs::read_to_string(copy.path().join("exchange.svg")).unwrap();
    assert_eq!(drawn, fs::read_to_string(root().join("docs/exchange.svg")).unwrap(), "run docs/draw-exchange");
}
