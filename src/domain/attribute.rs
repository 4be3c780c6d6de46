//! Attributes: typed, verified facts about a workload, and how each is declared. An attribute fails closed: a claim of
//! another type, or one that is too long, refuses the assertion, so that no `forbid` loses what it tests.

use super::Malformed;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest text of an attribute, in bytes.
pub const MAX_ATTRIBUTE: usize = 4_096;
/// The largest number of values in a set.
pub const MAX_SET: usize = 256;

/// The attributes of a workload: the records that policy sees of its principal, by name. `github` in
/// `principal.github.repository_id` is such a name. A token of ours that is not a task's carries none.
pub type Attributes = BTreeMap<Arc<str>, AttributeValues>;

/// The values of one record, by attribute. An absent claim is an absent attribute.
pub type AttributeValues = BTreeMap<Arc<str>, AttributeValue>;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
    /// A set of texts.
    Set(BTreeSet<String>),
}

impl AttributeValue {
    /// Returns true if the value is `accepted`, or a set that holds it.
    #[must_use]
    pub fn matches(&self, accepted: &Self) -> bool {
        match (self, accepted) {
            (Self::Set(values), Self::Text(text)) => values.contains(text),
            _ => self == accepted,
        }
    }
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(out),
            Self::Integer(value) => value.fmt(out),
            Self::Text(value) => write!(out, "\"{value}\""),
            Self::Set(values) => out.debug_list().entries(values).finish(),
        }
    }
}

/// The type of an attribute. Types are strict: `74` is not `"74"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttributeType {
    /// A string.
    #[default]
    String,
    /// A whole number that fits 64 bits.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A list of strings; the order is ignored.
    Set,
    /// The string `"true"` or `"false"`; policy sees a boolean.
    BooleanString,
}

impl AttributeType {
    /// Reads `claim`; none if it has another type, or is too long.
    #[must_use]
    pub fn read(self, claim: &Value) -> Option<AttributeValue> {
        let text = |claim: &Value| claim.as_str().filter(|text| text.len() <= MAX_ATTRIBUTE).map(str::to_owned);
        match self {
            Self::String => text(claim).map(AttributeValue::Text),
            Self::Integer => claim.as_i64().map(AttributeValue::Integer),
            Self::Boolean => claim.as_bool().map(AttributeValue::Boolean),
            Self::BooleanString => claim.as_str()?.parse().ok().map(AttributeValue::Boolean),
            Self::Set => {
                let values = claim.as_array().filter(|values| values.len() <= MAX_SET)?;
                values.iter().map(text).collect::<Option<_>>().map(AttributeValue::Set)
            }
        }
    }

    /// The cause for which `claim` is not of this type, for people.
    fn found(self, claim: &Value) -> String {
        match (self, claim) {
            (Self::String, Value::String(text)) => {
                format!("a string of {} bytes, of at most {MAX_ATTRIBUTE}", text.len())
            }
            (Self::BooleanString, Value::String(_)) => "neither \"true\" nor \"false\"".to_owned(),
            (Self::Integer, Value::Number(_)) => "a number that is not a whole one of 64 bits".to_owned(),
            (Self::Set, Value::Array(values)) if values.len() > MAX_SET => {
                format!("a list of {} values, of at most {MAX_SET}", values.len())
            }
            (Self::Set, Value::Array(_)) => {
                "a list that has other values than strings, or a string too long".to_owned()
            }
            (_, Value::Null) => "null".to_owned(),
            (_, Value::Bool(_)) => "a boolean".to_owned(),
            (_, Value::Number(_)) => "a number".to_owned(),
            (_, Value::String(_)) => "a string".to_owned(),
            (_, Value::Array(_)) => "a list".to_owned(),
            (_, Value::Object(_)) => "an object".to_owned(),
        }
    }

    /// Returns true if `value` has this type.
    fn is_of(self, value: &AttributeValue) -> bool {
        match self {
            Self::String => matches!(value, AttributeValue::Text(_)),
            Self::Integer => matches!(value, AttributeValue::Integer(_)),
            Self::Boolean | Self::BooleanString => matches!(value, AttributeValue::Boolean(_)),
            Self::Set => matches!(value, AttributeValue::Set(_)),
        }
    }

    /// Returns true if `accepted` can be compared with an attribute of this type: a set is compared by its members.
    #[must_use]
    pub fn takes(self, accepted: &AttributeValue) -> bool {
        match self {
            Self::String | Self::Set => matches!(accepted, AttributeValue::Text(_)),
            Self::Integer => matches!(accepted, AttributeValue::Integer(_)),
            Self::Boolean | Self::BooleanString => matches!(accepted, AttributeValue::Boolean(_)),
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::String, Self::Integer, Self::Boolean, Self::Set, Self::BooleanString];
        all.into_iter().find(|value| value.name() == name)
    }

    /// The type's name, as descriptions and the configuration write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Set => "set",
            Self::BooleanString => "boolean-string",
        }
    }
}

/// The place of a claim in an assertion: a JSON pointer (RFC 6901) through objects only, e.g.
/// `/kubernetes.io/namespace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPointer {
    text: String,
    first: String,
    rest: Vec<String>,
}

/// An object was expected on the way to a claim, and something else was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoObject;

impl ClaimPointer {
    /// The pointer to a member of the claims set itself.
    #[must_use]
    pub fn to_claim(name: &str) -> Self {
        let text = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        Self { text, first: name.to_owned(), rest: Vec::new() }
    }

    /// Returns the claim; none if it is absent.
    ///
    /// # Errors
    /// [`NoObject`] if a member on the way is present but not an object: it must not pass for an absent claim.
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Result<Option<&'a Value>, NoObject> {
        let mut found = claims.get(&self.first);
        for name in &self.rest {
            found = match found {
                None => return Ok(None),
                Some(Value::Object(members)) => members.get(name),
                Some(_) => return Err(NoObject),
            };
        }
        Ok(found)
    }
}

impl FromStr for ClaimPointer {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed =
            Malformed("a claim is named by a JSON pointer that begins with `/`, e.g. `/kubernetes.io/namespace`");
        let escapes_hold =
            text.split('~').skip(1).all(|after| after.starts_with(['0', '1'])) && !text.contains(char::is_control);
        let path = text.strip_prefix('/').filter(|path| !path.is_empty() && escapes_hold).ok_or(malformed)?;
        let mut names = path.split('/').map(|name| name.replace("~1", "/").replace("~0", "~"));
        let first = names.next().unwrap_or_default();
        Ok(Self { text: text.to_owned(), first, rest: names.collect() })
    }
}

impl fmt::Display for ClaimPointer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// The declaration of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeDeclaration {
    /// The attribute's name in policy.
    pub name: Arc<str>,
    /// The claim that states it; none if the kind's own rules give the value.
    pub claim: Option<ClaimPointer>,
    /// Its type.
    pub value: AttributeType,
    /// True if an assertion without it is refused.
    pub required: bool,
    /// True if the platform writes `null` for an absent claim.
    pub nullable: bool,
    /// True if it is an id that is never given to somebody else.
    pub stable: bool,
    /// True if somebody without rights can choose its value.
    pub outsider: bool,
    /// The meaning, for people.
    pub about: String,
}

impl AttributeDeclaration {
    /// Reads the attribute; none if it is absent, or if the kind's own rules give it.
    fn read(&self, claims: &Map<String, Value>) -> Result<Option<(Arc<str>, AttributeValue)>, AttributeFault> {
        let Some(pointer) = &self.claim else { return Ok(None) };
        let wrong = |found: &str| AttributeFault {
            claim: pointer.to_string(),
            expected: self.value.name(),
            found: found.to_owned(),
        };
        match pointer.find(claims).map_err(|NoObject| wrong("below something that is not an object"))? {
            Some(Value::Null) if self.nullable && !self.required => Ok(None),
            Some(claim) => {
                let value = self.value.read(claim).ok_or_else(|| wrong(&self.value.found(claim)))?;
                Ok(Some((Arc::clone(&self.name), value)))
            }
            None if self.required => Err(wrong("absent")),
            None => Ok(None),
        }
    }
}

/// A claim from which a declared attribute cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the claim `{claim}` is {found}, and its attribute has type {expected}")]
pub struct AttributeFault {
    /// The claim, by its JSON pointer.
    pub claim: String,
    /// The name of the declared type.
    pub expected: &'static str,
    /// What was found instead.
    pub found: String,
}

/// A record of attributes that policy sees as `principal.<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeRecord {
    /// The record's name.
    pub name: Arc<str>,
    /// Its attributes.
    pub attributes: Vec<AttributeDeclaration>,
    /// True if a kind of issuer describes it, false if an entry of the configuration does.
    pub of_kind: bool,
}

impl AttributeRecord {
    /// Reads the attributes from claims whose signature holds.
    ///
    /// # Errors
    /// [`AttributeFault`] for the first claim that has another type, is too long, or is required and absent.
    pub fn read(&self, claims: &Map<String, Value>) -> Result<AttributeValues, AttributeFault> {
        self.attributes.iter().filter_map(|declared| declared.read(claims).transpose()).collect()
    }

    /// Returns the values that were read when a task was opened, as far as they are still declared; none if they do not
    /// fit the declarations of today, so that no policy tests them as something else.
    #[must_use]
    pub fn still_fits(&self, mut values: AttributeValues) -> Option<AttributeValues> {
        values.retain(|name, _| self.attribute(name).is_some());
        let fits = |declared: &AttributeDeclaration| match values.get(&declared.name) {
            Some(value) => declared.value.is_of(value),
            None => !declared.required,
        };
        self.attributes.iter().all(fits).then_some(values)
    }

    /// The declaration of the attribute `name`.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&AttributeDeclaration> {
        self.attributes.iter().find(|declared| &*declared.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointer(text: &str) -> ClaimPointer {
        text.parse().unwrap()
    }

    #[test]
    fn a_pointer_goes_through_objects_and_what_is_no_object_is_not_taken_for_absent() {
        let claims = json!({"kubernetes.io": {"namespace": "prod", "a/b": {"~": 1}}, "text": "x", "list": [{"a": 1}]});
        let claims = claims.as_object().unwrap();
        assert_eq!(pointer("/kubernetes.io/namespace").find(claims), Ok(Some(&json!("prod"))));
        assert_eq!(pointer("/kubernetes.io/a~1b/~0").find(claims), Ok(Some(&json!(1))));
        assert_eq!(pointer("/kubernetes.io/pod/name").find(claims), Ok(None));
        assert_eq!(pointer("/text/namespace").find(claims), Err(NoObject));
        assert_eq!(pointer("/list/0").find(claims), Err(NoObject));
        assert_eq!(ClaimPointer::to_claim("a/b~c").to_string().parse(), Ok(ClaimPointer::to_claim("a/b~c")));
        for malformed in ["", "/", "namespace", "/a~2b", "/a~"] {
            assert!(malformed.parse::<ClaimPointer>().is_err(), "{malformed}");
        }
    }

    #[test]
    fn a_required_attribute_refuses_null_is_absent_only_if_declared_and_old_values_must_still_fit() {
        let declared = |name: &str, value, required, nullable| AttributeDeclaration {
            name: name.into(),
            claim: Some(ClaimPointer::to_claim(name)),
            value,
            required,
            nullable,
            stable: false,
            outsider: false,
            about: String::new(),
        };
        let attributes = vec![
            declared("id", AttributeType::String, true, false),
            declared("level", AttributeType::Integer, false, true),
        ];
        let record = AttributeRecord { name: "x".into(), attributes, of_kind: false };
        let read = |claims: Value| record.read(claims.as_object().unwrap()).map_err(|fault| fault.to_string());
        assert_eq!(read(json!({"id": "a", "level": null})).unwrap().len(), 1);
        assert_eq!(read(json!({"id": "a", "level": 1})).unwrap().len(), 2);
        assert_eq!(
            read(json!({"level": 1})).unwrap_err(),
            "the claim `/id` is absent, and its attribute has type string"
        );
        assert!(read(json!({"id": null})).unwrap_err().contains("is null"));
        let values = |values: Value| serde_json::from_value::<AttributeValues>(values).unwrap();
        let fits = |old: Value| record.still_fits(values(old));
        assert_eq!(fits(json!({"id": "a", "gone": true})), Some(values(json!({"id": "a"}))));
        assert_eq!(fits(json!({"id": "a", "level": "3"})), None, "another type");
        assert_eq!(fits(json!({"level": 3})), None, "required, and not there");
    }

    #[test]
    fn types_are_strict_and_sizes_are_bounded() {
        use AttributeType::{Boolean, BooleanString, Integer, Set, String};
        let (long, longest) = ("x".repeat(MAX_ATTRIBUTE + 1), "x".repeat(MAX_ATTRIBUTE));
        let many: Vec<_> = (0..=MAX_SET).map(|count| count.to_string()).collect();
        for (kind, wrong) in [
            (String, json!(74)),
            (String, json!(null)),
            (String, json!(["x"])),
            (String, json!(long)),
            (Integer, json!("74")),
            (Integer, json!(1.5)),
            (Integer, json!(u64::MAX)),
            (Boolean, json!("true")),
            (Boolean, json!(1)),
            (BooleanString, json!(true)),
            (BooleanString, json!("True")),
            (BooleanString, json!("")),
            (Set, json!("x")),
            (Set, json!(["x", 1])),
            (Set, json!([long])),
            (Set, json!(many)),
        ] {
            assert_eq!(kind.read(&wrong), None, "{kind:?}");
        }
        assert_eq!(String.read(&json!(longest)), Some(AttributeValue::Text(longest)));
        assert_eq!(Integer.read(&json!(-1)), Some(AttributeValue::Integer(-1)));
        assert_eq!(BooleanString.read(&json!("false")), Some(AttributeValue::Boolean(false)));
        let set = Set.read(&json!(["b", "a", "b"])).unwrap();
        assert_eq!(serde_json::to_value(&set).unwrap(), json!(["a", "b"]));
        assert!(set.matches(&AttributeValue::Text("a".to_owned())));
        assert!(!set.matches(&AttributeValue::Text("c".to_owned())));
    }
}
