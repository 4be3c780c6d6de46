//! The prose of code and documents: plain English, as far as a rule can see it.

use countersign::config::Config;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Words with which a doc comment does not begin: it begins with a noun phrase or a verb in the third person.
const RIDDLES: [&str; 13] =
    ["What", "Who", "How", "Whether", "Where", "When", "Of", "As", "By", "One", "Nothing", "For", "That"];
/// Phrases that have a plain equivalent, and references to papers that are not published.
const PHRASES: [&str; 18] = [
    "whoever",
    "but for ",
    "lets go of",
    "let go of",
    "heard of",
    "says something of",
    "and no less",
    "nobody is the wiser",
    "who he is",
    " his ",
    "as many as may",
    "as may be are",
    "none of his",
    "is of no use to",
    "standards R",
    "(DESIGN",
    " DESIGN ",
    "found out",
];
/// Names of other products, and of what decisions say does not exist.
const OF_OTHERS: [&str; 4] = ["compute_engine", "id_tokens", "sender_constraint", "--service-account-issuer"];
/// Characters of a line of prose, except in tables, links and code.
const WIDTH: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folders` with one of these endings.
fn files(folders: &[&str], endings: &[&str]) -> Vec<(PathBuf, String)> {
    fn walk(path: &Path, endings: &[&str], into: &mut Vec<(PathBuf, String)>) {
        if path.is_dir() {
            let mut entries: Vec<PathBuf> = fs::read_dir(path).unwrap().flatten().map(|entry| entry.path()).collect();
            entries.sort();
            entries.iter().for_each(|entry| walk(entry, endings, into));
        } else if path.extension().is_some_and(|own| endings.iter().any(|ending| own == *ending)) {
            into.push((path.to_owned(), fs::read_to_string(path).unwrap()));
        }
    }
    let mut all = Vec::new();
    folders.iter().for_each(|folder| walk(&root().join(folder), endings, &mut all));
    all
}

fn code() -> Vec<(PathBuf, String)> {
    files(&["src", "verify/src"], &["rs"])
}

/// The documents, without those that a test writes from the code.
fn documents() -> Vec<(PathBuf, String)> {
    let all = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs"];
    let mut documents = files(&all, &["md"]);
    documents.retain(|(path, _)| !path.ends_with("threats.md"));
    documents
}

/// The first line of each doc comment.
fn heads(text: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let doc = |line: &str| line.starts_with("///") || line.starts_with("//!");
    let first: Vec<&str> = lines
        .iter()
        .enumerate()
        .filter(|(at, line)| doc(line) && !at.checked_sub(1).is_some_and(|before| doc(lines[before])))
        .map(|(_, line)| line[3..].trim())
        .collect();
    first.into_iter()
}

#[test]
fn a_doc_comment_begins_with_a_noun_phrase_or_a_verb() {
    for folder in ["src", "verify/src"] {
        let texts = files(&[folder], &["rs"]);
        let heads: Vec<&str> = texts.iter().flat_map(|(_, text)| heads(text)).collect();
        let first = |head: &str| head.split(|letter: char| !letter.is_alphanumeric()).next().unwrap().to_owned();
        let riddles: Vec<&&str> = heads.iter().filter(|head| RIDDLES.contains(&first(head).as_str())).collect();
        assert!(heads.len() > 300 && riddles.len() * 20 < heads.len(), "{folder}: {riddles:#?}");
    }
}

#[test]
fn phrases_that_have_a_plain_equivalent_do_not_occur() {
    let mut found = BTreeSet::new();
    for (path, text) in code().into_iter().chain(documents()) {
        for (line, at) in text.lines().zip(1..) {
            let lower = line.to_lowercase();
            for phrase in PHRASES {
                let is_lower = phrase.chars().all(|letter| !letter.is_uppercase());
                if (is_lower && lower.contains(phrase)) || (!is_lower && line.contains(phrase)) {
                    found.insert(format!("{}:{at}: `{phrase}`", path.strip_prefix(root()).unwrap().display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_line_of_prose_is_longer_than_a_page_is_wide() {
    let mut found = Vec::new();
    let mut look = |path: &Path, at: usize, line: &str| {
        let longest_word = line.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0);
        if line.chars().count() > WIDTH && longest_word < 60 {
            found.push(format!("{}:{at}", path.strip_prefix(root()).unwrap().display()));
        }
    };
    for (path, text) in code() {
        for (line, at) in text.lines().zip(1..) {
            if line.trim_start().starts_with("//") {
                look(&path, at, line);
            }
        }
    }
    for (path, text) in documents() {
        let mut is_code = false;
        for (line, at) in text.lines().zip(1..) {
            is_code ^= line.trim_start().starts_with("```");
            if !is_code && !line.starts_with('|') {
                look(&path, at, line);
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Paths of this repository that a document or a comment names in backticks.
#[test]
fn every_path_that_is_named_exists() {
    let folders =
        ["src/", "docs/", "tests/", "verify/", "loadtest/", "conformance/", "deploy/", "policies/", "fuzz/", ".ci/"];
    let mut checked = 0;
    let mut missing = BTreeSet::new();
    for (path, text) in code().into_iter().chain(documents()) {
        for named in text.split('`').skip(1).step_by(2) {
            let is_path = folders.iter().any(|folder| named.starts_with(folder))
                && named.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter));
            if is_path {
                checked += 1;
                if !root().join(named).exists() {
                    missing.insert(format!("{}: `{named}`", path.strip_prefix(root()).unwrap().display()));
                }
            }
        }
    }
    assert!(checked > 20 && missing.is_empty(), "{checked}: {missing:#?}");
}

/// What a text names in backticks outside blocks of code, with the file that it stands in.
fn named(texts: &[(PathBuf, String)]) -> impl Iterator<Item = (String, &str)> {
    texts.iter().flat_map(|(path, text)| {
        let prose = text.split("```").step_by(2);
        let path = path.strip_prefix(root()).unwrap().display().to_string();
        prose.flat_map(|part| part.split('`').skip(1).step_by(2)).map(move |name| (path.clone(), name))
    })
}

/// Returns true if `text` has at least `least` words of lower-case letters and digits, with `between` between them.
fn is_joined(text: &str, between: char, least: usize) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_lowercase() || (between == '_' && first.is_ascii_digit()))
            && word.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
    };
    text.split(between).count() >= least && text.split(between).all(is_word)
}

/// Tests, functions, parameters, claims and metrics.
#[test]
fn every_name_with_underscores_stands_in_the_code() {
    let folders = ["src", "verify", "tests", "policies", "conformance", "loadtest", "fuzz", "deploy", "build.rs"];
    let mut words = BTreeSet::new();
    for (_, text) in files(&folders, &["rs", "toml", "cedar", "cedarschema", "json", "yaml"]) {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            words.extend(line.split(|letter| !is_part(letter)).map(str::to_owned));
        }
    }
    let (documents, code) = (documents(), code());
    let mut checked = 0;
    let mut missing = BTreeSet::new();
    for (path, name) in named(&documents).chain(named(&code)) {
        if !is_joined(name, '_', 2) || OF_OTHERS.contains(&name) {
            continue;
        }
        checked += 1;
        // The registry adds the product to a metric's name before it, and the unit behind it.
        let metric = name.strip_prefix("countersign_").unwrap_or(name);
        let units = ["_seconds", "_milliseconds", "_total", "_bytes"];
        let bare = units.iter().find_map(|unit| metric.strip_suffix(unit)).unwrap_or(metric);
        if ![name, metric, bare].iter().any(|name| words.contains(*name)) {
            missing.insert(format!("{path}: `{name}`"));
        }
    }
    assert!(checked > 200 && missing.is_empty(), "{checked}: {missing:#?}");
}

#[test]
fn every_configuration_key_that_is_named_is_in_the_schema() {
    /// The schemas below `schema` that describe its member `key`.
    fn members<'a>(whole: &'a Value, schema: &'a Value, key: &str, into: &mut Vec<&'a Value>) {
        if let Some(place) = schema["$ref"].as_str() {
            members(whole, whole.pointer(place.trim_start_matches('#')).unwrap(), key, into);
        }
        for several in ["anyOf", "oneOf", "allOf"] {
            let all = schema[several].as_array().into_iter().flatten();
            all.for_each(|one| members(whole, one, key, into));
        }
        into.extend(schema["properties"].get(key));
        if let Some(items) = schema.get("items") {
            members(whole, items, key, into);
        }
    }
    let schema = Config::schema();
    let (documents, code) = (documents(), code());
    let mut checked = 0;
    let mut missing = BTreeSet::new();
    for (path, name) in named(&documents).chain(named(&code)) {
        let mut keys = name.split('.');
        let first = keys.next().unwrap();
        if !is_joined(name, '.', 2) || schema["properties"].get(first).is_none() || name.ends_with(".redb") {
            continue;
        }
        checked += 1;
        let mut found = vec![&schema["properties"][first]];
        for key in keys {
            let mut below = Vec::new();
            found.iter().for_each(|one| members(&schema, one, key, &mut below));
            found = below;
        }
        if found.is_empty() {
            missing.insert(format!("{path}: `{name}`"));
        }
    }
    assert!(checked > 50 && missing.is_empty(), "{checked}: {missing:#?}");
}

#[test]
fn every_command_and_flag_that_is_named_exists() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    let completions = String::from_utf8(command.args(["completions", "bash"]).output().unwrap().stdout).unwrap();
    let known: BTreeSet<&str> =
        completions.split(|letter: char| letter.is_whitespace() || "\"(),)".contains(letter)).collect();
    let (documents, code) = (documents(), code());
    let mut checked = 0;
    let mut missing = BTreeSet::new();
    for (path, name) in named(&documents).chain(named(&code)) {
        let command = name.strip_prefix("countersign ");
        if command.is_none() && !name.starts_with("--") {
            continue;
        }
        let words = name.split(|letter: char| letter.is_whitespace() || letter == '=');
        let words = words.take_while(|word| *word != "--" && *word != "|");
        let flags = words.filter(|word| word.starts_with("--"));
        for word in flags.chain(command.and_then(|command| command.split_whitespace().next())) {
            checked += 1;
            if !known.contains(word) && !OF_OTHERS.contains(&word) {
                missing.insert(format!("{path}: `{name}`: {word}"));
            }
        }
    }
    assert!(checked > 50 && missing.is_empty(), "{checked}: {missing:#?}");
}
