//! The values of an issuer's entry that are tables: what it accepts, and the attributes that it declares.

use crate::assertion::IssuerKind;
use schemars::JsonSchema;

/// A value that `accept` names.
#[derive(Debug, Clone, serde::Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a value of `accept` is a string, a whole number or a boolean")]
#[schemars(inline)]
pub(super) enum AcceptedValue {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
}

/// An attribute of kind `oidc`.
#[derive(Debug, Clone, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Attribute {
    /// The claim, by a JSON pointer: `/kubernetes.io/namespace`.
    pub(super) claim: String,
    /// Its type: `string` (the default), `integer`, `boolean`, `set` (of strings) or `boolean-string`.
    #[serde(rename = "type", default)]
    #[schemars(extend("enum" = ["string", "integer", "boolean", "set", "boolean-string"]))]
    pub(super) value: Option<String>,
    /// True if an assertion without it is refused.
    #[serde(default)]
    pub(super) required: bool,
    /// True if it is an id that is never given to somebody else.
    #[serde(default)]
    pub(super) stable: bool,
    /// True if somebody without rights can choose its value.
    #[serde(default)]
    pub(super) outsider: bool,
}

/// The names of the kinds of issuer, for the schema.
pub(super) fn kinds() -> Vec<&'static str> {
    IssuerKind::all().iter().map(|kind| kind.name).collect()
}
