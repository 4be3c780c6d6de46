//! What stands in braces in cases and profiles.

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Names and what they stand for.
#[derive(Default, Clone)]
pub(crate) struct Values(BTreeMap<String, String>);

impl Values {
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// `text` with each `{name}` filled in. What is unknown stays as it is.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.0 {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        match date(&filled) {
            Some(date) => date.to_string(),
            None => filled,
        }
    }

    /// As [`Values::fill`], in every string below `value`; a date becomes a number.
    pub(crate) fn fill_json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match date(text) {
                Some(date) => date.into(),
                // A key is an object, and not its text.
                None if text == "{other_jwk}" => serde_json::from_str(&self.fill(text)).unwrap_or_default(),
                None => self.fill(text).into(),
            },
            Value::Array(items) => items.iter().map(|item| self.fill_json(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.fill_json(value))).collect()
            }
            other => other.clone(),
        }
    }
}

/// `{now}`, `{now+300}`, `{now-10}`.
fn date(text: &str) -> Option<i64> {
    let shift = text.strip_prefix("{now")?.strip_suffix('}')?;
    let shift: i64 = if shift.is_empty() { 0 } else { shift.strip_prefix('+').unwrap_or(shift).parse().ok()? };
    Some(now() + shift)
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "what is asked is asked now")]
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
