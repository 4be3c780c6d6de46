//! The file as it is written. A value of the wrong type, a missing key and an unknown key are each remembered with
//! their place and never stop the reading, so that all of them can be told at once.

use super::Problems;
use super::file::{File, KnownKeys as _, keys_of_section};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use std::borrow::Cow;
use std::ops::Range;
use toml::Spanned;

/// A key: absent, or the value that was written, read as `T` if possible.
#[derive(Debug, Clone)]
pub(super) struct Field<T>(Option<(Range<usize>, Result<T, String>)>);

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Spanned::<toml::Value>::deserialize(deserializer)?;
        let place = written.span();
        let value = T::deserialize(written.into_inner()).map_err(|fault| fault.to_string().trim().to_owned());
        Ok(Self(Some((place, value))))
    }
}

impl<T> Field<T> {
    pub(super) fn place(&self) -> Option<Range<usize>> {
        self.0.as_ref().map(|(place, _)| place.clone())
    }

    /// The value, if there is one of the right type; one of the wrong type is a problem.
    pub(super) fn optional(&self, key: &str, problems: &mut Problems) -> Option<&T> {
        match &self.0 {
            None => None,
            Some((_, Ok(value))) => Some(value),
            Some((place, Err(fault))) => {
                problems.add(place.clone(), format!("`{key}`: {fault}"));
                None
            }
        }
    }

    /// Returns the value as [`Field::optional`] does. An absent value is a problem of the section that starts at
    /// `section`.
    pub(super) fn required(
        &self,
        key: &str,
        hint: &str,
        section: &Range<usize>,
        problems: &mut Problems,
    ) -> Option<&T> {
        if self.0.is_none() {
            problems.add(section.clone(), format!("`{key}` is missing; {hint}"));
        }
        self.optional(key, problems)
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A table, with the place where it starts; an absent one is empty and starts with the file.
#[derive(Debug)]
pub(super) struct Section<T> {
    pub(super) place: Range<usize>,
    pub(super) given: bool,
    pub(super) keys: T,
}

impl<T: Default> Default for Section<T> {
    fn default() -> Self {
        Self { place: 0..0, given: false, keys: T::default() }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { place: written.span(), given: true, keys: written.into_inner() })
    }
}

/// Reads the file. What is not TOML at all, or a section that is no table, ends the reading.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<File> {
    let fatal = |problems: &mut Problems, fault: &toml::de::Error| {
        problems.add(fault.span().unwrap_or(0..0), fault.message().to_owned());
    };
    let written = toml::de::DeTable::parse(text).map_err(|fault| fatal(problems, &fault)).ok()?;
    refuse_unknown_keys(written.get_ref(), File::KEYS, problems);
    toml::from_str(text).map_err(|fault| fatal(problems, &fault)).ok()
}

fn refuse_unknown_keys(table: &toml::de::DeTable<'_>, known: &[&str], problems: &mut Problems) {
    for (key, value) in table.iter() {
        let name: &str = key.get_ref().as_ref();
        if !known.contains(&name) {
            let nearest =
                nearest(name, known).map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
            problems.add(key.span(), format!("unknown key `{name}`{nearest}; known here: {}", known.join(", ")));
        } else if let Some(keys) = keys_of_section(name) {
            let value = value.get_ref();
            let entries = value.as_array().into_iter().flat_map(|array| array.iter()).map(Spanned::get_ref);
            for section in entries.chain([value]).filter_map(toml::de::DeValue::as_table) {
                refuse_unknown_keys(section, keys, problems);
            }
        }
    }
}

/// The known key that a misspelt one is most like, where it is like one.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |known: &&'a str| strsim::jaro_winkler(name, known);
    let best = known.iter().copied().max_by(|a, b| near(a).total_cmp(&near(b)))?;
    (near(&best) > 0.8).then_some(best)
}

/// The JSON Schema of the file, for editors (JSON Schema 2020-12).
pub(super) fn schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}
