//! The parts of a question that policies read: the other parts need not be built for an exchange.

use crate::domain::{AttributeRecord, AttributeValue, AttributeValues, Workload};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// The parts of a question that one policy, or a set of policies, reads.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Attributes of `context`.
    pub(super) context: HashSet<String>,
    /// Attributes of the principal's records, by record.
    records: HashMap<String, ReadAttributes>,
    /// True if `context.hints.task_purpose` is read.
    pub(super) purpose: bool,
    /// What is named after `principal`: an attribute, and an attribute of that.
    named: BTreeSet<(String, Option<String>)>,
}

/// The attributes of a record that are read.
#[derive(Debug, Default)]
struct ReadAttributes {
    /// True if a policy uses the record as a whole, so that it reads all attributes.
    whole: bool,
    attributes: HashSet<String>,
}

impl Reads {
    /// Adds the attributes that a policy reads, from its JSON form: `{".": {"left": …, "attr": …}}`, and likewise
    /// `has`.
    pub(super) fn add(&mut self, json: &Value) {
        match json {
            Value::Object(members) => {
                for (operator, operands) in members {
                    match (operands.get("left"), operands.get("attr").and_then(Value::as_str)) {
                        (Some(left), Some(attribute)) => self.access(operator, left, attribute),
                        _ => self.add(operands),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|value| self.add(value)),
            _ => {}
        }
    }

    /// Adds what `other` reads.
    pub(super) fn merge(&mut self, other: Self) {
        self.context.extend(other.context);
        self.named.extend(other.named);
        for (name, record) in other.records {
            let own = self.records.entry(name).or_default();
            own.whole |= record.whole;
            own.attributes.extend(record.attributes);
        }
    }

    /// Returns the attributes of `values` that are read as `principal.<record>`.
    pub(super) fn among<'a>(&'a self, record: &str, values: &'a AttributeValues) -> Vec<(&'a str, &'a AttributeValue)> {
        let named = |name: &'a String| values.get(&**name).map(|value| (&**name, value));
        match self.records.get(record) {
            Some(read) if read.whole => values.iter().map(|(name, value)| (&**name, value)).collect(),
            Some(read) => read.attributes.iter().filter_map(named).collect(),
            None => Vec::new(),
        }
    }

    /// Reads everything of `record`.
    #[cfg(test)]
    pub(super) fn whole(&mut self, record: &str) {
        self.records.entry(record.to_owned()).or_default().whole = true;
    }

    /// The first name after `principal` that nothing has, if there is one.
    pub(super) fn unknown(&self, records: &[Arc<AttributeRecord>]) -> Option<String> {
        let is_known = |(record, attribute): &&(String, Option<String>)| {
            if Workload::COMMON_ATTRIBUTES.contains(&record.as_str()) {
                return true;
            }
            let declared = records.iter().find(|declared| *declared.name == **record);
            declared.is_some_and(|declared| attribute.as_ref().is_none_or(|name| declared.attribute(name).is_some()))
        };
        let (record, attribute) = self.named.iter().find(|named| !is_known(named))?;
        Some(attribute.as_ref().map_or_else(|| record.clone(), |attribute| format!("{record}.{attribute}")))
    }

    /// Adds one access. An attribute of a record counts whatever the record is taken from: the principal may be behind
    /// `if`, in a record, or named by its id.
    fn access(&mut self, operator: &str, left: &Value, attribute: &str) {
        if is_variable(left, "context") {
            self.context.insert(attribute.to_owned());
        }
        if is_variable(left, "principal") {
            self.named.insert((attribute.to_owned(), None));
        }
        let Some((of, inner)) = left.get(".").and_then(member) else {
            if operator != "has" {
                self.records.entry(attribute.to_owned()).or_default().whole = true;
            }
            return self.add(left);
        };
        self.purpose |= inner == "hints" && attribute == "task_purpose";
        self.records.entry(inner.to_owned()).or_default().attributes.insert(attribute.to_owned());
        if is_variable(of, "context") {
            self.context.insert(inner.to_owned());
        }
        if is_variable(of, "principal") {
            self.named.insert((inner.to_owned(), Some(attribute.to_owned())));
        }
        self.add(of);
    }
}

/// The record and the attribute of an attribute of the principal's records: `principal.github.ref`.
pub(super) fn principal_attribute(expression: &Value) -> Option<(&str, &str)> {
    let (left, attribute) = member(expression.get(".")?)?;
    let (of, record) = member(left.get(".")?)?;
    is_variable(of, "principal").then_some((record, attribute))
}

/// Returns true if `expression` is `context.<attribute>`.
pub(super) fn is_of_context(expression: &Value, attribute: &str) -> bool {
    expression.get(".").and_then(member).is_some_and(|(of, name)| is_variable(of, "context") && name == attribute)
}

fn member(access: &Value) -> Option<(&Value, &str)> {
    Some((access.get("left")?, access.get("attr")?.as_str()?))
}

fn is_variable(expression: &Value, name: &str) -> bool {
    expression.get("Var").is_some_and(|variable| variable == name)
}
