//! Whether a permit's patterns stop where names do. `like "repo:acme*"` permits `acme-evil` too: a name that somebody else can
//! register must never be the prefix of one that is trusted.

use serde_json::Value;

/// Where one name ends and the next begins.
const DELIMITERS: [char; 3] = ['/', ':', '@'];

/// The first `like` of a permit, in Cedar's JSON, with a `*` that does not stand between delimiters or at an end of the text.
pub(super) fn open(policy: &Value) -> Option<String> {
    if policy.get("effect").and_then(Value::as_str) == Some("permit") { search(policy) } else { None }
}

fn search(value: &Value) -> Option<String> {
    match value {
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let own = if name == "like" { value.get("pattern").and_then(Value::as_array) } else { None };
            own.and_then(|pattern| judge(pattern)).or_else(|| search(value))
        }),
        Value::Array(items) => items.iter().find_map(search),
        _ => None,
    }
}

fn judge(pattern: &[Value]) -> Option<String> {
    let literal = |item: &Value| item.get("Literal").and_then(Value::as_str).unwrap_or_default().to_owned();
    let ends = |at: usize| pattern.get(at).is_none_or(|item| literal(item).ends_with(DELIMITERS));
    let begins = |at: usize| pattern.get(at).is_none_or(|item| literal(item).starts_with(DELIMITERS));
    let is_wildcard = |item: &Value| item.as_str() == Some("Wildcard");
    let open = pattern.iter().enumerate().filter(|(_, item)| is_wildcard(item)).any(|(at, _)| {
        let before = at.checked_sub(1).is_none_or(ends);
        !before || !begins(at + 1)
    });
    let written = pattern.iter().map(|item| if is_wildcard(item) { "*".to_owned() } else { literal(item) });
    open.then(|| written.collect())
}
