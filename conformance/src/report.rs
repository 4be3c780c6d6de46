//! The table: on the terminal by clause, as JSON and as HTML.

use crate::Fault;
use crate::case::Case;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// How a case ended.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// As the clause has it.
    Holds,
    /// Not so, and how.
    Failed(String),
    /// Not tried, and why.
    Skipped(String),
}

/// A case that was tried.
#[derive(Serialize)]
pub(crate) struct Row {
    id: String,
    document: String,
    section: String,
    says: String,
    pub(crate) sent: Vec<String>,
    pub(crate) expected: Vec<String>,
    pub(crate) answered: Vec<String>,
    pub(crate) outcome: Outcome,
}

impl Row {
    pub(crate) fn of(case: &Case) -> Self {
        let Case { id, document, section, says, .. } = case;
        Self {
            id: id.clone(),
            document: document.clone(),
            section: section.clone(),
            says: says.clone(),
            sent: Vec::new(),
            expected: Vec::new(),
            answered: Vec::new(),
            outcome: Outcome::Holds,
        }
    }
}

/// Everything that was tried.
#[derive(Serialize)]
pub(crate) struct Report {
    server: String,
    cases: Vec<Row>,
}

#[derive(Default)]
struct Count {
    holds: usize,
    failed: usize,
    skipped: usize,
}

impl Report {
    pub(crate) fn of(server: &str) -> Self {
        Self { server: server.to_owned(), cases: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.cases.push(row);
    }

    /// Whether nothing failed, and something was tried.
    pub(crate) fn holds(&self) -> bool {
        let total = self.count(|_| true);
        total.failed == 0 && total.holds > 0
    }

    fn count(&self, of: impl Fn(&Row) -> bool) -> Count {
        let mut count = Count::default();
        for row in self.cases.iter().filter(|row| of(row)) {
            match row.outcome {
                Outcome::Holds => count.holds += 1,
                Outcome::Failed(_) => count.failed += 1,
                Outcome::Skipped(_) => count.skipped += 1,
            }
        }
        count
    }

    /// Prints a line for each clause, and each case that does not hold.
    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.set_content_arrangement(ContentArrangement::Dynamic).load_style(comfy_table::presets::NOTHING);
        table.set_header(["document", "section", "holds", "fails", "not tried"]);
        let mut clauses: BTreeMap<(&str, &str), ()> = BTreeMap::new();
        clauses.extend(self.cases.iter().map(|row| ((row.document.as_str(), row.section.as_str()), ())));
        for (document, section) in clauses.into_keys() {
            let Count { holds, failed, skipped } = self.count(|row| row.document == document && row.section == section);
            table.add_row([
                document.to_owned(),
                section.to_owned(),
                holds.to_string(),
                failed.to_string(),
                skipped.to_string(),
            ]);
        }
        println!("{table}");
        for row in &self.cases {
            if let Outcome::Failed(how) = &row.outcome {
                println!("FAILS  {}  {}", row.id, row.says);
                println!(
                    "       sent {}\n       expected {}\n       but {how}",
                    row.sent.join(", then "),
                    row.expected.join(", then ")
                );
            }
        }
        let Count { holds, failed, skipped } = self.count(|_| true);
        println!(
            "{}: {holds} of {} cases hold, {failed} fail, {skipped} were not tried",
            self.server,
            self.cases.len()
        );
    }

    /// Writes `<server>.json` and `<server>.html` into `folder`.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Fault> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{}.json", self.server)), serde_json::to_string_pretty(self)? + "\n")?;
        std::fs::write(folder.join(format!("{}.html", self.server)), self.html())?;
        Ok(())
    }

    fn html(&self) -> String {
        let Count { holds, failed, skipped } = self.count(|_| true);
        let mut rows = String::new();
        for row in &self.cases {
            let (class, how) = match &row.outcome {
                Outcome::Holds => ("holds", String::new()),
                Outcome::Failed(how) => ("fails", how.clone()),
                Outcome::Skipped(why) => ("skipped", why.clone()),
            };
            let _ = writeln!(
                rows,
                "<tr class={class}><td>{}<td>{} §{}<td>{}<td>{}<td>{}<td>{}",
                safe(&row.id),
                safe(&row.document),
                safe(&row.section),
                safe(&row.says),
                safe(&row.sent.join(", then ")),
                safe(&row.expected.join(", then ")),
                safe(&format!("{} {how}", row.answered.join(", then "))),
            );
        }
        format!(
            "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<title>{0}, clause by clause</title>\n<style>\nbody {{ font: 14px sans-serif; margin: 2em }}\n\
             table {{ border-collapse: collapse }}\ntd, th {{ border-bottom: 1px solid #ccc; padding: .3em .6em; text-align: left; vertical-align: top }}\n\
             .fails {{ background: #fdd }}\n.skipped {{ color: #777 }}\n</style>\n<h1>{0}, clause by clause</h1>\n<p>{holds} hold, {failed} fail, {skipped} were not tried.\n\
             <table>\n<tr><th>case<th>clause<th>says<th>sent<th>expected<th>answered\n{rows}</table>\n",
            safe(&self.server)
        )
    }
}

fn safe(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_and_what_was_never_tried_does_not_hold() {
        let report = |outcomes: Vec<Outcome>| {
            let mut report = Report::of("x");
            let case = crate::case::all().unwrap_or_else(|fault| panic!("{fault}")).remove(0);
            for outcome in outcomes {
                report.add(Row { outcome, ..Row::of(&case) });
            }
            report
        };
        assert!(report(vec![Outcome::Holds, Outcome::Skipped(String::new())]).holds());
        assert!(!report(vec![Outcome::Holds, Outcome::Failed("<b>".to_owned())]).holds());
        assert!(!report(vec![Outcome::Skipped(String::new())]).holds() && !report(Vec::new()).holds());
        assert!(!report(vec![Outcome::Failed("<b>".to_owned())]).html().contains("<b>"));
    }
}
