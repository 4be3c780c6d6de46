//! The principal: a workload with the attributes that its issuer vouched for. Policy sees it, and the audit log stores
//! it, so that a decision can be repeated.

use super::Attributes;
use serde::{Deserialize, Deserializer, Serialize};

/// A workload whose assertion was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its name, e.g. `github:repo:acme/app:ref:refs/heads/main` or `spiffe://prod.acme.example/ns/a/sa/b`.
    pub name: String,
    /// The operator's name of the issuer that vouched for it.
    pub issuer: String,
    /// The owner that the issuer's entry names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The environment that the issuer's entry names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The attributes that the issuer states, as policy sees them.
    #[serde(default, deserialize_with = "attributes")]
    pub attributes: Attributes,
}

impl Workload {
    /// The attributes that a workload of any issuer can have, which no record of attributes is named after.
    pub const COMMON_ATTRIBUTES: [&str; 2] = ["owner", "environment"];
}

/// Reads attributes. Lines of the audit log that earlier versions wrote have the text `own-token` for none, and name
/// GitHub's by the kind.
fn attributes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Attributes, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Records(Attributes),
        None(#[expect(dead_code, reason = "it says nothing more")] String),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Records(mut records) => {
            if let Some(values) = records.remove("github-actions") {
                records.insert("github".into(), values);
            }
            records
        }
        Written::None(_) => Attributes::new(),
    })
}
