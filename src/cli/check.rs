//! `countersign check`: would this configuration run, and whom would it trust?

use super::output::{BAD, BOLD, GOOD, Output, table};
use super::{Failure, ambient, installation};
use crate::app::Installation;
use crate::assertion::Issuer;
use crate::domain::{Clock, SystemClock};
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Check configuration, keys, policies and issuers.
#[derive(Debug, Args)]
#[command(after_help = "Exit status 1 means that the broker would not start or serve as configured.")]
pub(super) struct CheckArguments {
    /// Do not fetch the keys of issuers. Pinned keys are read all the same.
    #[arg(long)]
    offline: bool,
    /// Print only the schema that policies are validated against.
    #[arg(long)]
    schema: bool,
}

pub(super) fn run(arguments: &CheckArguments, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    if arguments.schema {
        let schema = installation.policy_schema();
        output.print(schema.trim_end(), &json!({ "schema": schema }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Findings::default();
    report.policies(&installation);
    report.keys(&installation);
    if let Err(fault) = installation.certificate() {
        report.problems.push(fault.to_string());
    }
    report.issuers(&installation, arguments.offline)?;
    report.targets(&installation);
    report.print(output);
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Findings {
    facts: Vec<(&'static str, String)>,
    issuers: Vec<Vec<String>>,
    targets: Vec<Vec<String>>,
    problems: Vec<String>,
}

const ISSUERS: [&str; 6] = ["issuer", "kind", "signs as", "accepts", "single use", "keys"];
const TARGETS: [&str; 4] = ["target", "scopes", "longest life", "owner"];

impl Findings {
    fn policies(&mut self, installation: &Installation) {
        match installation.policy() {
            Ok(policy) => self.facts.push(("policies", format!("{} ({})", policy.count(), policy.digest()))),
            Err(fault) => self.problems.extend(fault.0),
        }
    }

    fn keys(&mut self, installation: &Installation) {
        let none = || "none yet; the first start makes them".to_owned();
        let fact = match crate::http::block_on(installation.token_keys(&ambient().1)) {
            Ok(ring) => match ring.records().map(|key| format!("{} {}", key.algorithm, key.kid)).collect::<Vec<_>>() {
                keys if keys.is_empty() => none(),
                keys => keys.join(", "),
            },
            Err(fault) => return self.problems.push(fault.to_string()),
        };
        self.facts.push(("token keys", fact));
    }

    fn issuers(&mut self, installation: &Installation, offline: bool) -> Result<(), Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let issuers = installation.issuers(&clock, None)?;
        let mut issuers: Vec<&Arc<Issuer>> = issuers.iter().collect();
        issuers.sort_by_key(|issuer| issuer.name.to_string());
        for issuer in issuers {
            let source = issuer.keys.source();
            let keys = if offline && source.is_remote() {
                format!("{} (not asked)", source.describe())
            } else {
                match crate::http::block_on(issuer.keys.refresh()) {
                    Ok(count) => format!("{count} from {}", source.describe()),
                    Err(fault) => {
                        self.problems.push(format!("issuer `{}`: {fault}", issuer.name));
                        format!("none from {}", source.describe())
                    }
                }
            };
            let accepts = issuer.accept.describe();
            self.issuers.push(vec![
                issuer.name.to_string(),
                issuer.kind.name.to_owned(),
                issuer.signer.to_string(),
                if accepts.is_empty() { "every workload of it".to_owned() } else { accepts },
                if issuer.single_use { "yes" } else { "no" }.to_owned(),
                keys,
            ]);
        }
        Ok(())
    }

    fn targets(&mut self, installation: &Installation) {
        let targets = installation.targets();
        for target in targets.iter() {
            let scopes = target.scopes.to_string();
            self.targets.push(vec![
                target.audience.to_string(),
                if scopes.is_empty() { "none".to_owned() } else { scopes },
                target.max_lifetime.to_string(),
                target.owner.clone().unwrap_or_default(),
            ]);
        }
        self.targets.sort();
    }

    fn print(&self, output: Output) {
        let objects = |heading: &[&str], rows: &[Vec<String>]| -> Vec<Value> {
            let object = |row: &Vec<String>| {
                heading.iter().zip(row).map(|(name, value)| (name.replace(' ', "_"), json!(value))).collect()
            };
            rows.iter().map(|row| Value::Object(object(row))).collect()
        };
        let facts: serde_json::Map<_, _> =
            self.facts.iter().map(|(name, value)| (name.replace(' ', "_"), json!(value))).collect();
        let value = json!({
            "ok": self.problems.is_empty(), "problems": self.problems, "facts": facts,
            "issuers": objects(&ISSUERS, &self.issuers), "targets": objects(&TARGETS, &self.targets),
        });
        let mut lines: Vec<String> =
            self.facts.iter().map(|(name, value)| format!("{BOLD}{name:<12}{BOLD:#} {value}")).collect();
        lines.push(format!("\n{BOLD}trusted issuers{BOLD:#}\n{}", table(&ISSUERS, &self.issuers)));
        lines.push(format!("\n{BOLD}targets{BOLD:#}\n{}\n", table(&TARGETS, &self.targets)));
        lines.extend(self.problems.iter().map(|problem| format!("{BAD}✗{BAD:#} {}", problem.trim_end())));
        lines.push(if self.problems.is_empty() {
            format!("{GOOD}✓ this configuration can run{GOOD:#}")
        } else {
            format!("{BAD}mend {} problem(s) first{BAD:#}", self.problems.len())
        });
        output.print(&lines.join("\n"), &value);
    }
}
