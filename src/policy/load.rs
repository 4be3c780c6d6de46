//! Loads a directory of policies: all or nothing, strictly validated, every problem at once.

use super::Policy;
use super::annotations::Annotations;
use super::cedar::Asker;
use super::patterns;
use super::reads::Reads;
use super::schema::schema;
use super::slices::Slices;
use crate::domain::{AttributeRecord, sha256};
use cedar_policy::{PolicyId, PolicySet, Schema, ValidationMode, Validator};
use miette::Diagnostic;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

/// The largest policy file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Why a directory of policies was not loaded: every problem, each naming its file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct LoadError(pub Vec<String>);

impl fmt::Display for LoadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(out, "{problem}")?;
        }
        Ok(())
    }
}

impl Policy {
    /// Loads every `*.cedar` file in `directory`, about workloads that have `records` of attributes.
    ///
    /// # Errors
    /// [`LoadError`] with every problem; a set is loaded whole or not at all.
    pub fn load(directory: &Path, records: &[Arc<AttributeRecord>]) -> Result<Self, LoadError> {
        let schema = schema(records);
        let mut problems = Vec::new();
        let mut texts = Vec::new();
        for path in files(directory, &schema, &mut problems) {
            match read(&path) {
                Ok(text) => texts.push((path, text)),
                Err(fault) => problems.push(format!("{}: {fault}", path.display())),
            }
        }
        if !problems.is_empty() {
            return Err(LoadError(problems));
        }
        Self::from_texts(records, texts.iter().map(|(path, text)| (path.display().to_string(), text.as_str())))
    }

    /// Loads policies from `files`, each a name for messages and a text.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn from_texts<'a>(
        records: &[Arc<AttributeRecord>],
        files: impl IntoIterator<Item = (String, &'a str)>,
    ) -> Result<Self, LoadError> {
        let mut loader = Loader { schema: schema(records), records: records.to_vec(), ..Loader::default() };
        for (name, text) in files {
            loader.file(&name, text);
        }
        loader.finish()
    }
}

#[derive(Default)]
struct Loader {
    schema: String,
    records: Vec<Arc<AttributeRecord>>,
    set: PolicySet,
    slices: Slices,
    max_lifetimes: HashMap<String, i64>,
    compares: HashMap<String, Vec<&'static str>>,
    homes: HashMap<String, String>,
    texts: HashMap<String, String>,
    reads: Reads,
    digested: Vec<u8>,
    problems: Vec<String>,
}

impl Loader {
    fn file(&mut self, name: &str, text: &str) {
        self.digested.extend_from_slice(&sha256(&[text.as_bytes()]));
        self.texts.insert(name.to_owned(), text.to_owned());
        let parsed = match PolicySet::from_str(text) {
            Ok(parsed) => parsed,
            Err(fault) => {
                for fault in fault.iter() {
                    self.problems.push(format!("{name}:{}", located(text, fault)));
                }
                return;
            }
        };
        if parsed.templates().next().is_some() {
            self.problems
                .push(format!("{name}: templates (`?principal`, `?resource`) are not supported; write the policy out"));
        }
        for policy in parsed.policies() {
            if let Err(fault) = self.policy(name, policy) {
                self.problems.push(format!("{name}: {fault}"));
            }
        }
    }

    fn policy(&mut self, file: &str, policy: &cedar_policy::Policy) -> Result<(), String> {
        let Annotations { id, max_lifetime } = Annotations::read(policy)?;
        if let Some(other) = self.homes.insert(id.clone(), file.to_owned()) {
            return Err(format!("`{id}` is the `@id` of a policy in {other} too; give each its own"));
        }
        let policy = policy.new_id(PolicyId::new(&id));
        let json = policy.to_json().map_err(|fault| format!("`{id}`: {fault}"))?;
        if let Some(pattern) = patterns::open(&json, &self.records) {
            return Err(format!(
                "`{id}`: `like \"{pattern}\"` permits longer names as well; let `*` begin and end at `/`, `:` or `@`, or name each one"
            ));
        }
        let mut reads = Reads::default();
        reads.add(&json);
        if let Some(name) = reads.unknown(&self.records) {
            let known: Vec<String> = self.records.iter().map(|record| format!("principal.{}", record.name)).collect();
            return Err(format!(
                "`{id}`: no issuer states `principal.{name}`; fix the name, or configure the issuer that states it (there are {}; \
                 a `-` in an issuer's name is written `_`)",
                known.join(", ")
            ));
        }
        let compares = [("confirmation", reads.context.contains("confirmation")), ("purpose", reads.purpose)];
        let compares: Vec<_> = compares.into_iter().filter(|(_, compares)| *compares).map(|(what, _)| what).collect();
        if !compares.is_empty() {
            self.compares.insert(id.clone(), compares);
        }
        self.reads.merge(reads);
        if let Some(lifetime) = max_lifetime {
            self.max_lifetimes.insert(id.clone(), lifetime.seconds());
        }
        self.set.add(policy.clone()).map_err(|fault| format!("`{id}`: {fault}"))?;
        self.slices.add(policy).map_err(|fault| format!("`{id}`: {fault}"))
    }

    fn located(&self, policy: &PolicyId, fault: &impl Diagnostic) -> String {
        let home = self.homes.get(&policy.to_string()).map_or("", String::as_str);
        format!("{home}:{}", located(self.texts.get(home).map_or("", String::as_str), fault))
    }

    fn finish(mut self) -> Result<Policy, LoadError> {
        let schema = match Schema::from_cedarschema_str(&self.schema) {
            Ok((schema, _)) => schema,
            Err(fault) => return Err(LoadError(vec![format!("schema.cedarschema: {fault}")])),
        };
        let result = Validator::new(schema).validate(&self.set, ValidationMode::Strict);
        // A policy that can never apply is a warning to Cedar; a forbid of that kind would only look like safety.
        let errors = result.validation_errors().map(|fault| self.located(fault.policy_id(), fault));
        let warnings = result.validation_warnings().map(|fault| self.located(fault.policy_id(), fault));
        let faults: Vec<String> = errors.chain(warnings).collect();
        self.problems.extend(faults);
        if self.set.is_empty() && self.problems.is_empty() {
            self.problems
                .push("there is no policy, so everything would be refused; write one in a `*.cedar` file".to_owned());
        }
        if !self.problems.is_empty() {
            return Err(LoadError(self.problems));
        }
        let [a, b, c, d, e, f, g, h, ..] = sha256(&[self.schema.as_bytes(), &self.digested]);
        let digest = hex::encode([a, b, c, d, e, f, g, h]);
        let asker = Asker::new(&self.schema, self.reads).map_err(|fault| LoadError(vec![fault]))?;
        let Self { slices, max_lifetimes, compares, .. } = self;
        Ok(Policy { digest, slices, max_lifetimes, compares, asker })
    }
}

/// The policy files of `directory` in order. What else lies there that a policy directory may hold one day is refused:
/// cases and invariants that nobody runs would only look like safety.
fn files(directory: &Path, schema: &str, problems: &mut Vec<String>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(fault) => {
            problems.push(format!("{}: cannot be read ({fault}); create it and write a policy", directory.display()));
            return files;
        }
    };
    for entry in entries {
        match entry.map(|entry| entry.path()) {
            Ok(path) if path.extension().is_some_and(|extension| extension == "cedar") => files.push(path),
            Ok(path) if path.ends_with("schema.cedarschema") => match read(&path) {
                Ok(text) if text == schema => {}
                Ok(_) => problems.push(format!(
                    "{}: is not the schema of this version and configuration; replace it with what `countersign check --schema` prints",
                    path.display()
                )),
                Err(fault) => problems.push(format!("{}: {fault}", path.display())),
            },
            Ok(path) if path.ends_with("cases") || path.ends_with("invariants.toml") => {
                problems.push(format!("{}: is not supported by this version; move it away", path.display()));
            }
            Ok(_) => {}
            Err(fault) => problems.push(format!("{}: {fault}", directory.display())),
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|fault| fault.to_string())?.len();
    if size > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes; split it"));
    }
    fs::read_to_string(path).map_err(|fault| fault.to_string())
}

/// A fault with its line in the file, from 1.
fn located(text: &str, fault: &impl Diagnostic) -> String {
    let offset = fault.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    match offset.and_then(|offset| text.get(..offset)) {
        Some(before) => format!("{}: {fault}", before.matches('\n').count() + 1),
        None => format!(" {fault}"),
    }
}
