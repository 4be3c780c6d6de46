//! Templates of workload names: `workload = "{repository_id}:{ref}"`.

use super::{ClaimPointer, Malformed};
use serde_json::{Map, Value};
use std::fmt;
use std::str::FromStr;

/// Text with claims in braces: claims by their names, or claims within other claims by a JSON pointer. Every claim's
/// value has its `:` and `%` percent-encoded and every two claims are kept apart by a `:`, so that two different sets
/// of values never give the same name. A template that is one claim alone gives its value as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Claim(String, ClaimPointer),
}

impl NameTemplate {
    /// The name that `claims` give; none if one of them is absent or not a string.
    #[must_use]
    pub fn render(&self, claims: &Map<String, Value>) -> Option<String> {
        let value = |pointer: &ClaimPointer| pointer.find(claims).ok().flatten().and_then(Value::as_str);
        if let [Part::Claim(_, pointer)] = self.0.as_slice() {
            return value(pointer).map(str::to_owned);
        }
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Claim(_, pointer) => name.push_str(&value(pointer)?.replace('%', "%25").replace(':', "%3A")),
            }
        }
        Some(name)
    }

    /// The claims that it uses.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Claim(claim, _) => Some(claim.as_str()),
            Part::Text(_) => None,
        })
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => out.write_str(text),
            Part::Claim(claim, _) => write!(out, "{{{claim}}}"),
        })
    }
}

impl FromStr for NameTemplate {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('{') {
                let (claim, after) = inner.split_once('}').ok_or(Malformed("has a `{` without a `}`"))?;
                if claim.is_empty() || claim.contains('{') {
                    return Err(Malformed("has an empty or malformed claim between braces"));
                }
                if matches!(parts.last(), Some(Part::Claim(..))) {
                    return Err(Malformed(
                        "joins two claims without a `:` between them, so that two workloads could share a name",
                    ));
                }
                let pointer = if claim.starts_with('/') { claim.parse()? } else { ClaimPointer::to_claim(claim) };
                parts.push(Part::Claim(claim.to_owned(), pointer));
                rest = after;
            } else {
                let end = rest.find('{').unwrap_or(rest.len());
                let (literal, after) = rest.split_at(end);
                if literal.contains('}') {
                    return Err(Malformed("has a `}` without a `{`"));
                }
                let between = !parts.is_empty() && !after.is_empty();
                if between && !literal.contains(':') {
                    return Err(Malformed(
                        "joins two claims without a `:` between them, so that two workloads could share a name",
                    ));
                }
                parts.push(Part::Text(literal.to_owned()));
                rest = after;
            }
        }
        let template = Self(parts);
        let per_run = [
            "jti",
            "run_id",
            "run_number",
            "run_attempt",
            "sha",
            "workflow_sha",
            "job_workflow_sha",
            "exp",
            "iat",
            "nbf",
        ];
        if template.claims().next().is_none() {
            return Err(Malformed("names no claim in braces, so that every workload would share one name"));
        }
        if template.claims().any(|claim| per_run.contains(&claim)) {
            return Err(Malformed("uses a claim that changes with every run; a workload's name has to be stable"));
        }
        let reassigned = ["email", "preferred_username", "upn", "unique_name", "name", "nickname"];
        if template.claims().any(|claim| reassigned.contains(&claim)) {
            return Err(Malformed(
                "uses a claim that can be reassigned to somebody else; name the workload by claims that are never reassigned",
            ));
        }
        Ok(template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_cannot_move_a_boundary() {
        let render = |template: &str, claims: Value| {
            template.parse::<NameTemplate>().unwrap().render(claims.as_object().unwrap())
        };
        let name = |a: &str, b: &str| render("{a}:{b}", json!({"a": a, "b": b})).unwrap();
        assert_eq!(name("x", "refs/heads/main"), "x:refs/heads/main");
        assert_ne!(name("x:y", "z"), name("x", "y:z"));
        assert_ne!(name("x%3Ay", "z"), name("x:y", "z"));
        assert_eq!(render("{a}:{b}", json!({"a": "x"})), None);
        assert_eq!(render("{a}:{b}", json!({"a": "x", "b": 74})), None, "an id is a string");
        assert_eq!(render("{a}", json!({"a": "x:y"})).as_deref(), Some("x:y"), "one claim cannot be confused");
        assert_eq!(render("{/a/b}:x", json!({"a": {"b": "1"}})).as_deref(), Some("1:x"));
    }

    #[test]
    fn a_template_that_could_not_tell_workloads_apart_is_refused() {
        for text in [
            "",
            "fixed",
            "{a}{b}",
            "{a}/{b}",
            "{a",
            "a}",
            "{}",
            "{{a}}",
            "{run_id}",
            "{repository_id}:{sha}",
            "{email}",
            "{iss}|{upn}",
            "{preferred_username}",
        ] {
            assert!(text.parse::<NameTemplate>().is_err(), "{text}");
        }
    }
}
