//! The schema that policies are validated against: a fixed part, and the attributes of the issuers that are configured.

use crate::domain::{AttributeDeclaration, AttributeRecord, AttributeType};
use std::fmt::Write as _;
use std::sync::Arc;

/// The part that is the same in every installation.
const FIXED: &str = include_str!("fixed.cedarschema");
/// The line of the fixed part in whose place the records of attributes stand.
const RECORDS: &str = "  // RECORDS\n";

/// The schema for workloads that have `records`.
#[must_use]
pub fn schema(records: &[Arc<AttributeRecord>]) -> String {
    let (mut members, mut types) = (String::new(), String::new());
    for record in records {
        // Writing to a string cannot fail.
        let _ = writeln!(members, "  {0}?: {1},", record.name, type_name(&record.name));
        let _ = writeln!(types, "\n// principal.{}\ntype {} = {{", record.name, type_name(&record.name));
        for declared in &record.attributes {
            let _ = writeln!(types, "  // {}\n  {},", about(declared), member(declared));
        }
        types.push_str("};\n");
    }
    let mut schema = FIXED.replacen(RECORDS, &members, 1);
    schema.push_str(&types);
    schema
}

/// A type that no other type of the schema shares: `GithubAttributes`.
fn type_name(record: &str) -> String {
    let mut letters = record.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain("Attributes".chars()).collect()
}

fn member(declared: &AttributeDeclaration) -> String {
    let optional = if declared.required { "" } else { "?" };
    format!("{}{optional}: {}", declared.name, cedar_type(declared.value))
}

fn about(declared: &AttributeDeclaration) -> String {
    let marks = [(declared.stable, "stable"), (declared.outsider, "an outsider can choose it")];
    let marks: Vec<_> = marks.into_iter().filter(|(marked, _)| *marked).map(|(_, mark)| mark).collect();
    if marks.is_empty() { declared.about.clone() } else { format!("{} ({})", declared.about, marks.join(", ")) }
}

fn cedar_type(value: AttributeType) -> &'static str {
    match value {
        AttributeType::String => "String",
        AttributeType::Integer => "Long",
        AttributeType::Boolean | AttributeType::BooleanString => "Bool",
        AttributeType::Set => "Set<String>",
    }
}
