//! `docs/threats.md`: made of `cases.toml`, which says of each case what the attack is and why it comes to nothing, and of the
//! names of the tests. A case without a test, and a numbered test without a case, fail here. To write the page anew:
//! `UPDATE_DOCS=1 cargo test --test it threats::page`.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Cases {
    sections: BTreeMap<String, String>,
    mutants: String,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    attack: String,
    why: String,
    /// Whether there is nothing here that it could be tried on.
    #[serde(default)]
    absent: bool,
}

/// A place in the page: `A2` before `A10`.
fn place(id: &str) -> (String, u32) {
    let (section, number) = id.split_at(1);
    (section.to_owned(), number.parse().unwrap())
}

/// Every numbered test, by its numbers.
fn tests() -> BTreeMap<(String, u32), Vec<String>> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests/it", "src", "verify/src"] {
        walk(&root.join(folder), &mut files);
    }
    files.sort();
    let mut found: BTreeMap<(String, u32), Vec<String>> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let shown = file.strip_prefix(root).unwrap().display().to_string();
        for after in text.split("#[test]").skip(1) {
            let name = after.split_once("fn ").unwrap().1.split_once('(').unwrap().0;
            for number in name.split('_').take_while(|part| is_number(part)) {
                let link = format!("[`{name}`](../{shown})");
                found.entry(place(&number.to_uppercase())).or_default().push(link);
            }
        }
    }
    found
}

fn is_number(part: &str) -> bool {
    let mut letters = part.chars();
    letters.next().is_some_and(|letter| letter.is_ascii_lowercase())
        && part.len() > 1
        && letters.all(|letter| letter.is_ascii_digit())
}

#[test]
fn the_page_of_threats_is_what_the_tests_show() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases: Cases = toml::from_str(include_str!("cases.toml")).unwrap();
    let tests = tests();
    assert!(cases.mutants.contains(|letter: char| letter.is_ascii_digit()), "the figure is missing");
    let mut by_place: Vec<_> = cases.cases.iter().map(|(id, case)| (place(id), id, case)).collect();
    by_place.sort_by(|a, b| a.0.cmp(&b.0));
    let tested = by_place.iter().filter(|(_, _, case)| !case.absent).count();
    let mut page = format!(
        "# What we were tried with\n\nEvery attack and fault that we know of: what it is, why it comes to nothing here, and the test that shows it. {tested} cases have a\n\
         test; what has nothing here that it could be tried on says so. This page is made from the names of the tests.\n\n{}\n",
        cases.mutants.trim()
    );
    let mut section = String::new();
    for (at, id, case) in &by_place {
        if at.0 != section {
            section.clone_from(&at.0);
            let title = &cases.sections[&section];
            let _ = write!(
                page,
                "\n## {section}. {title}\n\n| | attack | why it comes to nothing | shown by |\n|---|---|---|---|\n"
            );
        }
        let shown = match (case.absent, tests.get(at)) {
            (true, None) => "—".to_owned(),
            (true, Some(tests)) | (false, Some(tests)) => tests.join("<br>"),
            (false, None) => panic!("{id} has no test that is named by it"),
        };
        let _ = writeln!(page, "| {id} | {} | {} | {shown} |", case.attack, case.why);
    }
    let known: Vec<_> = by_place.iter().map(|(at, ..)| at.clone()).collect();
    for (number, names) in &tests {
        assert!(known.contains(number), "{number:?} of {names:?} is no case of cases.toml");
    }
    assert!(tested >= 150, "{tested}");
    let path = root.join("docs/threats.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/threats.md is not what the tests show; UPDATE_DOCS=1 writes it"
    );
}
