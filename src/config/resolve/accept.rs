//! The attributes that an entry of kind `oidc` declares, and the values that an entry accepts.

use super::Reader;
use crate::assertion::{Accept, Accepted, IssuerKind};
use crate::config::file;
use crate::config::issuer::{AcceptedValue, Attribute};
use crate::domain::{
    AttributeDeclaration, AttributeRecord, AttributeType, AttributeValue, ClaimPointer, IssuerName, Workload,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use url::Url;

/// Words of Cedar, which name nothing else.
const WORDS: [&str; 9] = ["true", "false", "if", "then", "else", "in", "is", "like", "has"];

impl Reader<'_> {
    /// The attributes that policy sees; `None` inside if the entry has none.
    pub(super) fn attributes(
        &mut self,
        kind: &IssuerKind,
        name: Option<&IssuerName>,
        keys: &file::Issuer,
    ) -> Option<Option<Arc<AttributeRecord>>> {
        let Some(place) = keys.attributes.place() else { return Some(kind.attributes.clone()) };
        if kind.is_trust_domain() {
            return Some(kind.attributes.clone());
        }
        if let Some(record) = &kind.attributes {
            let message = format!(
                "`attributes` is for kind `oidc`; the attributes of this kind are declared: use `principal.{}`",
                record.name
            );
            self.problem(place, message);
            return Some(kind.attributes.clone());
        }
        let declared = keys.attributes.optional("attributes", self.problems)?.clone();
        let record: Arc<str> = name?.as_str().replace('-', "_").into();
        if !is_identifier(&record) || Workload::COMMON_ATTRIBUTES.contains(&&*record) {
            let message = format!(
                "`attributes`: policy would name them `principal.{record}`, which is not a name that Cedar takes here; rename the entry, and begin with a letter"
            );
            self.problem(place, message);
            return None;
        }
        let attributes: Vec<_> = declared.iter().map(|(name, entry)| self.attribute(name, entry, &place)).collect();
        let attributes = attributes.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Some(Arc::new(AttributeRecord { name: record, attributes, of_kind: false })))
    }

    fn attribute(&mut self, name: &str, entry: &Attribute, place: &Range<usize>) -> Option<AttributeDeclaration> {
        let claim: Option<ClaimPointer> = match entry.claim.parse() {
            Ok(claim) => Some(claim),
            Err(fault) => {
                self.problem(place.clone(), format!("`attributes`: `{name}`: `{}`: {fault}", entry.claim));
                None
            }
        };
        let value = match entry.value.as_deref().map(AttributeType::named) {
            None => Some(AttributeType::String),
            Some(Some(value)) => Some(value),
            Some(None) => {
                let message = format!(
                    "`attributes`: `{name}`: `type` is `{}`; use `string`, `integer`, `boolean`, `set` or `boolean-string`",
                    entry.value.as_deref().unwrap_or_default()
                );
                self.problem(place.clone(), message);
                None
            }
        };
        if !is_identifier(name) {
            let message = format!(
                "`attributes`: `{name}` is not a name that Cedar takes; use letters, digits and `_`, begin with a letter, and use no word of Cedar"
            );
            self.problem(place.clone(), message);
            return None;
        }
        let &Attribute { required, stable, outsider, .. } = entry;
        let about = format!("claim `{}`", entry.claim);
        Some(AttributeDeclaration {
            name: name.into(),
            claim: Some(claim?),
            value: value?,
            required,
            nullable: false,
            stable,
            outsider,
            about,
        })
    }

    /// The values that are accepted, with those that the kind accepts by default.
    pub(super) fn accept(
        &mut self,
        kind: &IssuerKind,
        record: Option<&AttributeRecord>,
        keys: &file::Issuer,
        entry: &Range<usize>,
    ) -> Accept {
        let place = keys.accept.place().unwrap_or_else(|| entry.clone());
        if kind.is_trust_domain() {
            return Accept::default();
        }
        let readable = keys.accept.optional("accept", self.problems).cloned();
        let is_unreadable = keys.accept.place().is_some() && readable.is_none();
        let written = readable.unwrap_or_default();
        let mut accepted = Vec::new();
        for (name, values) in &written {
            let values: Vec<AttributeValue> = values.iter().map(value).collect();
            accepted.extend(self.accepted((kind, record), name, values, &place));
        }
        for (name, values) in &kind.accept.default {
            if !written.contains_key(name) {
                accepted.extend(self.accepted((kind, record), name, values.clone(), &place));
            }
        }
        if !is_unreadable
            && !kind.accept.one_of.is_empty()
            && !kind.accept.one_of.iter().any(|name| written.contains_key(name))
        {
            let example = kind.accept.one_of.first().map_or("", String::as_str);
            let message = format!(
                "`accept` is missing or names no owner: anyone can get a token from this issuer; name your ids, e.g. \
                 `accept = {{ {example} = [\"41\"] }}` (use one of {}; names can be taken over by others)",
                kind.accept.one_of.join(", ")
            );
            self.problem(place.clone(), message);
        }
        accepted.sort_by(|one, other| one.name.cmp(&other.name));
        Accept::new(accepted)
    }

    fn accepted(
        &mut self,
        (kind, record): (&IssuerKind, Option<&AttributeRecord>),
        name: &str,
        values: Vec<AttributeValue>,
        place: &Range<usize>,
    ) -> Option<Accepted> {
        if values.is_empty() || values.iter().any(|value| *value == AttributeValue::Text(String::new())) {
            let message = format!("`accept`: `{name}` accepts nothing or an empty value; name the values");
            self.problem(place.clone(), message);
        }
        let by_claim = |record: &'_ AttributeRecord| {
            let is_it = |declared: &&AttributeDeclaration| {
                declared.claim.as_ref().is_some_and(|claim| claim.to_string() == name)
            };
            record.attributes.iter().find(is_it).cloned()
        };
        let declared = record.and_then(|record| record.attribute(name).cloned().or_else(|| by_claim(record)));
        if kind.attributes.is_none() && declared.is_none() {
            let claim = if name.starts_with('/') { name.parse() } else { Ok(ClaimPointer::to_claim(name)) };
            return match claim {
                Ok(claim) => Some(Accepted { name: name.to_owned(), claim, value: None, values }),
                Err(fault) => {
                    self.problem(place.clone(), format!("`accept`: `{name}`: {fault}"));
                    None
                }
            };
        }
        let with_claim = declared.and_then(|declared| Some((declared.clone(), declared.claim?)));
        let Some((declared, claim)) = with_claim else {
            let known = record.iter().flat_map(|record| &record.attributes).map(|declared| &*declared.name);
            let known = known.collect::<Vec<_>>().join(", ");
            let message =
                format!("`accept`: assertions of kind `{}` have no attribute `{name}`; use some of {known}", kind.name);
            self.problem(place.clone(), message);
            return None;
        };
        if !values.iter().all(|value| declared.value.takes(value)) {
            let message = format!(
                "`accept`: `{name}` has type {}, and a value of another type would never match; write {}",
                declared.value.name(),
                match declared.value {
                    AttributeType::String | AttributeType::Set => "it in quotes",
                    AttributeType::Integer => "a number without quotes",
                    AttributeType::Boolean | AttributeType::BooleanString => "true or false without quotes",
                }
            );
            self.problem(place.clone(), message);
        }
        Some(Accepted { name: name.to_owned(), claim, value: Some(declared.value), values })
    }

    /// Refuses an entry for an issuer that another kind knows, and one that would trust everybody at a public issuer.
    pub(super) fn known_host(&mut self, kind: &IssuerKind, issuer: &str, keys: &file::Issuer, entry: &Range<usize>) {
        let place = keys.accept.place().unwrap_or_else(|| entry.clone());
        let accepts_all = keys.accept.optional("accept", self.problems).is_none_or(BTreeMap::is_empty);
        let host = Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        let knows = |kind: &&IssuerKind| kind.hosts.contains(&host);
        if let Some(other) = IssuerKind::all().iter().find(knows).filter(|other| *other != kind) {
            let message = format!("`kind`: {host} is of kind `{}`, which knows its claims; use that", other.name);
            self.problem(keys.kind.place().unwrap_or(place), message);
        } else if accepts_all && kind.accept.public_hosts.contains(&host) {
            let message = format!(
                "`accept` is missing: anyone can get a token from {host}; name claims and values that only yours have"
            );
            self.problem(place, message);
        }
    }
}

fn value(written: &AcceptedValue) -> AttributeValue {
    match written {
        AcceptedValue::Text(text) => AttributeValue::Text(text.clone()),
        AcceptedValue::Integer(number) => AttributeValue::Integer(*number),
        AcceptedValue::Boolean(boolean) => AttributeValue::Boolean(*boolean),
    }
}

/// Returns true if Cedar takes `name` after a dot.
fn is_identifier(name: &str) -> bool {
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    begins
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !WORDS.contains(&name)
        && !name.starts_with("__cedar")
}
