//! A case: a clause of a document, what is sent, and what has to come back. Cases are data; unknown keys are faults.

use crate::Fault;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const FILES: [&str; 11] = [
    include_str!("../cases/rfc6749.toml"),
    include_str!("../cases/rfc7009.toml"),
    include_str!("../cases/rfc7515.toml"),
    include_str!("../cases/rfc7517.toml"),
    include_str!("../cases/rfc7519.toml"),
    include_str!("../cases/rfc7523.toml"),
    include_str!("../cases/rfc7662.toml"),
    include_str!("../cases/rfc8414.toml"),
    include_str!("../cases/rfc8693.toml"),
    include_str!("../cases/rfc9068.toml"),
    include_str!("../cases/spiffe.toml"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    document: String,
    section: String,
    says: String,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    send: Send,
    expect: Expect,
    #[serde(default)]
    then: Vec<Step>,
}

/// One request and its answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    #[serde(default)]
    pub(crate) send: Send,
    pub(crate) expect: Expect,
}

/// What is sent: the profile's exchange, changed.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Send {
    /// `token` where it says nothing, or `introspect`, `revoke`, `jwks`, `metadata`, `openid`.
    pub(crate) to: Option<String>,
    pub(crate) method: Option<String>,
    /// Parameters that replace those of the same name; a list is sent repeatedly.
    pub(crate) set: BTreeMap<String, Value>,
    pub(crate) drop: Vec<String>,
    /// A body as it is, instead of the form.
    pub(crate) body: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) query: Option<String>,
    /// How the client authenticates: see `send.rs`.
    pub(crate) auth: Option<String>,
    pub(crate) assertion: Assertion,
    /// The client's own, where `auth` is `assertion`.
    pub(crate) client_assertion: Assertion,
    /// Seconds that pass before it is sent.
    pub(crate) wait: u64,
}

/// How an assertion differs from a good one.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Assertion {
    /// The issuer: `good` where it says nothing.
    #[serde(rename = "as")]
    pub(crate) issuer: Option<String>,
    pub(crate) header: Map<String, Value>,
    pub(crate) headless: Vec<String>,
    pub(crate) claims: Map<String, Value>,
    pub(crate) without: Vec<String>,
    /// What signs it: see `assertion.rs`.
    pub(crate) sign: Option<String>,
    /// What is done to it afterwards: see `assertion.rs`.
    pub(crate) edit: Option<String>,
}

/// What has to come back.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// Statuses; 200 where neither this nor `error` is there.
    pub(crate) status: Vec<u16>,
    /// Values of `error`; `@assertion` stands for the profile's.
    pub(crate) error: Vec<String>,
    /// JSON pointers into the answer, and their values.
    pub(crate) is: BTreeMap<String, Value>,
    pub(crate) has: Vec<String>,
    pub(crate) lacks: Vec<String>,
    /// Response headers, and what they have to hold.
    pub(crate) headers: BTreeMap<String, String>,
    /// The same for claims and header of the token that was minted, which has to verify by `/jwks`.
    pub(crate) claims: BTreeMap<String, Value>,
    pub(crate) claims_have: Vec<String>,
    pub(crate) claims_lack: Vec<String>,
    pub(crate) header: BTreeMap<String, Value>,
    /// Checks that need code: see `expect.rs`.
    pub(crate) check: Vec<String>,
    /// Names for parts of the answer, for the steps that follow.
    pub(crate) save: BTreeMap<String, String>,
}

/// A case.
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) document: String,
    pub(crate) section: String,
    pub(crate) says: String,
    pub(crate) needs: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

/// Every case, with ids that follow from document, section and place.
pub(crate) fn all() -> Result<Vec<Case>, Fault> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut cases = Vec::new();
    for text in FILES {
        let file: File = toml::from_str(text)?;
        for Written { document, section, says, needs, send, expect, then } in file.case {
            let place = format!("{}-{section}", document.to_lowercase().replace(' ', ""));
            let count = counts.entry(place.clone()).or_default();
            *count += 1;
            let id = format!("{place}-{count}");
            let steps = std::iter::once(Step { send, expect }).chain(then).collect();
            cases.push(Case { id, document, section, says, needs, steps });
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_cases_and_each_names_its_clause() {
        let cases = all().unwrap_or_else(|fault| panic!("{fault}"));
        assert!(cases.len() >= 200, "{}", cases.len());
        for case in &cases {
            assert!(case.says.len() > 10 && !case.section.is_empty(), "{}", case.id);
        }
        for document in [
            "RFC 6749",
            "RFC 7009",
            "RFC 7515",
            "RFC 7517",
            "RFC 7519",
            "RFC 7523",
            "RFC 7638",
            "RFC 7662",
            "RFC 8414",
            "RFC 8693",
            "RFC 8707",
            "RFC 8725",
            "RFC 9068",
            "SPIFFE-ID",
            "JWT-SVID",
        ] {
            assert!(cases.iter().any(|case| case.document == document), "{document}");
        }
    }
}
