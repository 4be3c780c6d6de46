//! Strict JSON objects. Owns the one reader of foreign JSON: a member named twice, at any depth, or nesting past
//! [`MAX_DEPTH`] is an error, so that no two readers of one token can see two different values.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Limit of nesting. The deepest real token known (Google's `compute_engine`) nests three levels.
pub const MAX_DEPTH: u8 = 16;

/// Why bytes are not one strict JSON object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, a member named twice, or nested too deep.
    #[error("is not strict JSON")]
    Malformed,
    /// JSON, but an array, string, number, boolean or null.
    #[error("is not a JSON object")]
    NotAnObject,
}

/// Reads exactly one JSON object that nests no deeper than [`MAX_DEPTH`].
///
/// # Errors
/// As [`object_within`].
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    object_within(bytes, MAX_DEPTH)
}

/// Reads exactly one JSON object that nests no deeper than `depth`.
///
/// # Errors
/// [`JsonError`] when `bytes` is not JSON, is not an object, names a member twice or nests too deep.
pub fn object_within(bytes: &[u8], depth: u8) -> Result<Map<String, Value>, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { left: depth }.deserialize(&mut reader).map_err(|_| JsonError::Malformed)?;
    reader.end().map_err(|_| JsonError::Malformed)?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(JsonError::NotAnObject),
    }
}

#[derive(Clone, Copy)]
struct Strict {
    /// The levels that are left.
    left: u8,
}

impl Strict {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        self.left.checked_sub(1).map(|left| Self { left }).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(below)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is named twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_named_twice_is_refused_at_any_depth() {
        assert_eq!(object(br#"{"a":1,"a":1}"#), Err(JsonError::Malformed));
        assert_eq!(object(br#"{"a":[{"b":{"c":1,"c":2}}]}"#), Err(JsonError::Malformed));
        assert_eq!(object(br#"{"a":1,"\u0061":2}"#), Err(JsonError::Malformed));
        assert!(object(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn only_one_object_and_nothing_after_it_is_read() {
        for array in [&br#"[9999999999,1,"sub"]"#[..], b"\"str\"", b"1", b"null"] {
            assert_eq!(object(array), Err(JsonError::NotAnObject));
        }
        for broken in [&b""[..], b"{} {}", b"{}x", b"{", br#"{"a":1e400}"#, br#"{"a":"\ud800"}"#, b"{\"a\":\"\xff\"}"] {
            assert_eq!(object(broken), Err(JsonError::Malformed), "{}", String::from_utf8_lossy(broken));
        }
    }

    #[test]
    fn nesting_ends_at_the_bound() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(object(nested(usize::from(MAX_DEPTH) - 1).as_bytes()).is_ok());
        assert_eq!(object(nested(usize::from(MAX_DEPTH)).as_bytes()), Err(JsonError::Malformed));
        assert_eq!(object(nested(100_000).as_bytes()), Err(JsonError::Malformed));
    }
}
