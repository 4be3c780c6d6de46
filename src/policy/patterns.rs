//! The check of patterns against name boundaries. `like "repo:acme*"` permits `acme-evil` too: a name that a stranger
//! can register must never match a pattern for a trusted name.

use super::reads::{is_of_context, principal_attribute};
use crate::domain::AttributeRecord;
use serde_json::Value;
use std::sync::Arc;

/// The characters between two names.
const DELIMITERS: [char; 3] = ['/', ':', '@'];
/// The effect of a match of a pattern.
#[derive(Clone, Copy, PartialEq)]
enum Match {
    /// It helps to permit, or may.
    Opens,
    /// A match narrows what is permitted.
    Narrows,
}

impl Match {
    fn flipped(self) -> Self {
        if self == Self::Opens { Self::Narrows } else { Self::Opens }
    }
}

/// The first `like` of a policy, in Cedar's JSON, whose match helps to permit, with a `*` that does not stand between
/// delimiters or at an end of the text.
pub(super) fn open(policy: &Value, records: &[Arc<AttributeRecord>]) -> Option<String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let permits = if text(policy, "effect") == "permit" { Match::Opens } else { Match::Narrows };
    policy.get("conditions")?.as_array()?.iter().find_map(|condition| {
        let here = if text(condition, "kind") == "unless" { permits.flipped() } else { permits };
        search(condition.get("body")?, here, records)
    })
}

fn search(expression: &Value, here: Match, records: &[Arc<AttributeRecord>]) -> Option<String> {
    let Value::Object(members) = expression else {
        return expression.as_array()?.iter().find_map(|one| search(one, here, records));
    };
    members.iter().find_map(|(name, value)| match name.as_str() {
        "!" => search(value, here.flipped(), records),
        "&&" | "||" | "left" | "right" | "arg" | "then" | "else" => search(value, here, records),
        "if-then-else" => {
            let parts = value.as_object()?;
            parts
                .iter()
                .find_map(|(part, value)| search(value, if part == "if" { Match::Opens } else { here }, records))
        }
        "like" if here == Match::Opens && !is_ours(value.get("left")?, records) => {
            judge(value.get("pattern")?.as_array()?)
        }
        // Within a comparison, a match may mean either.
        _ => search(value, Match::Opens, records),
    })
}

/// Returns true if no stranger chooses or receives such a value: a scope, or an attribute of a kind of issuer that is
/// neither marked as an outsider's choice nor an id. Attributes that an entry declares are never exempt.
fn is_ours(left: &Value, records: &[Arc<AttributeRecord>]) -> bool {
    let declared = principal_attribute(left).and_then(|(record, attribute)| {
        let record = records.iter().find(|declared| &*declared.name == record && declared.of_kind)?;
        record.attribute(attribute)
    });
    is_of_context(left, "scope") || declared.is_some_and(|declared| !declared.outsider && !declared.stable)
}

fn judge(pattern: &[Value]) -> Option<String> {
    let literal = |item: &Value| item.get("Literal").and_then(Value::as_str).unwrap_or_default().to_owned();
    let ends = |at: usize| pattern.get(at).is_none_or(|item| literal(item).ends_with(DELIMITERS));
    let begins = |at: usize| pattern.get(at).is_none_or(|item| literal(item).starts_with(DELIMITERS));
    let is_wildcard = |item: &Value| item.as_str() == Some("Wildcard");
    let open = pattern
        .iter()
        .enumerate()
        .filter(|(_, item)| is_wildcard(item))
        .any(|(at, _)| !at.checked_sub(1).is_none_or(ends) || !begins(at + 1));
    let written = pattern.iter().map(|item| if is_wildcard(item) { "*".to_owned() } else { literal(item) });
    open.then(|| written.collect())
}
