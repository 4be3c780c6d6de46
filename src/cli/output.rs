//! Printing: colour and tables on a terminal, plain text elsewhere, JSON where it was asked for.

use crate::audit::Check;
use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Value, json};
use std::io::Write as _;

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();

/// The form in which a command prints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) json: bool,
}

impl Output {
    /// Prints `text`, or `value` where JSON was asked for.
    pub(super) fn print(self, text: &str, value: &Value) {
        if self.json { self.line(&value.to_string()) } else { self.line(text) }
    }

    /// Prints a line on standard output. Somebody who stopped reading is no fault.
    #[expect(clippy::unused_self, reason = "printing goes through the one value that knows how")]
    pub(super) fn line(self, text: &str) {
        let _ = writeln!(anstream::stdout(), "{text}");
    }

    /// Prints what somebody should know, on standard error.
    #[expect(clippy::unused_self, reason = "printing goes through the one value that knows how")]
    pub(super) fn warning(self, message: &str) {
        let _ = writeln!(anstream::stderr(), "{BOLD}warning:{BOLD:#} {message}");
    }

    /// Prints why a command failed, on standard error; as JSON on standard output where that was asked for.
    pub(super) fn failure(self, message: &str) {
        if self.json {
            self.line(&json!({ "error": message }).to_string());
        } else {
            let _ = writeln!(anstream::stderr(), "{BAD}error:{BAD:#} {message}");
        }
    }
}

/// Rows under a heading, aligned.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(heading);
    table.add_rows(rows);
    table.lines().map(|line| format!("  {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}

/// Each check on a line, and under the first that failed what was expected.
pub(super) fn checks(checks: &[Check]) -> String {
    let mut lines = Vec::new();
    for check in checks {
        match &check.expected {
            None => lines.push(format!("  {GOOD}✓{GOOD:#} {:<14} {}", check.name, printable(&check.presented))),
            Some(expected) => {
                lines.push(format!("  {BAD}✗ {:<14} {}{BAD:#}", check.name, printable(&check.presented)));
                lines.push(format!("    {:<14} expected: {}", "", printable(expected)));
            }
        }
    }
    lines.join("\n")
}

/// Text that somebody else chose, safe for a terminal: a control character is shown as its escape.
pub(super) fn printable(text: &str) -> String {
    let invisible = |character: char| {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .flat_map(
            |character| {
                if invisible(character) { character.escape_unicode().collect::<Vec<_>>() } else { vec![character] }
            },
        )
        .collect()
}
