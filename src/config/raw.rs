//! The file as it is written. A value of the wrong type, a missing key and an unknown key are each remembered with their
//! place and never stop the reading, so that all of them can be told at once.

use super::Problems;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;

/// One key: absent, or what was written there, read as `T` if it could be.
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

    /// As [`Field::optional`], and an absent one is a problem of the section that starts at `section`.
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

macro_rules! section {
    ($name:ident { $($key:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(default)]
        pub(super) struct $name { $(pub(super) $key: $type,)* }

        impl Keys for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];
        }
    };
}

/// The keys that a section knows.
pub(super) trait Keys {
    const KEYS: &'static [&'static str];
}

type Text = Field<String>;
type Texts = Field<Vec<String>>;

section!(File {
    server: Section<Server>,
    store: Section<Store>,
    signing: Section<Signing>,
    audit: Section<Audit>,
    policy: Section<Policy>,
    keys: Section<Refresh>,
    issuers: Vec<Spanned<Issuer>>,
    targets: Vec<Spanned<Target>>,
    clients: Vec<Spanned<Client>>,
});
section!(Server {
    issuer: Text,
    listen: Text,
    management: Text,
    control: Text,
    workers: Field<usize>,
    tls: Section<Tls>,
    limits: Section<Limits>,
});
section!(Tls { certificate: Text, key: Text });
section!(Limits {
    body_bytes: Field<usize>,
    head_bytes: Field<usize>,
    uri_bytes: Field<usize>,
    head_timeout: Text,
    body_timeout: Text,
    in_flight: Field<usize>,
    connections: Field<usize>,
});
section!(Store { kind: Text, path: Text });
section!(Signing { directory: Text, algorithm: Text });
section!(Audit { path: Text });
section!(Policy { directory: Text });
section!(Refresh { refresh_every: Text, max_stale: Text, unknown_kid_cooldown: Text });
section!(Issuer {
    name: Text,
    kind: Text,
    issuer: Text,
    trust_domain: Text,
    audiences: Texts,
    accept: Field<BTreeMap<String, Vec<String>>>,
    jwks_file: Text,
    jwks_uri: Text,
    bundle_file: Text,
    algorithms: Texts,
    max_lifetime: Text,
    single_use: Field<bool>,
    allow_private_addresses: Field<bool>,
    ca_file: Text,
    workload: Text,
    tags: Field<BTreeMap<String, String>>,
    owner: Text,
    environment: Text,
});
section!(Target {
    audience: Text,
    resources: Texts,
    scopes: Texts,
    max_lifetime: Text,
    algorithm: Text,
    owner: Text,
    environment: Text,
    sensitivity: Text,
});
section!(Client { id: Text, method: Text, secret_digest: Text, introspects: Texts });

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
            problems.add(key.span(), format!("unknown key `{name}`; known here: {}", known.join(", ")));
        } else if let Some(keys) = keys_of_section(name) {
            let value = value.get_ref();
            let entries = value.as_array().into_iter().flat_map(|array| array.iter()).map(Spanned::get_ref);
            for section in entries.chain([value]).filter_map(toml::de::DeValue::as_table) {
                refuse_unknown_keys(section, keys, problems);
            }
        }
    }
}

fn keys_of_section(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "server" => Server::KEYS,
        "tls" => Tls::KEYS,
        "limits" => Limits::KEYS,
        "store" => Store::KEYS,
        "signing" => Signing::KEYS,
        "audit" => Audit::KEYS,
        "policy" => Policy::KEYS,
        "keys" => Refresh::KEYS,
        "issuers" => Issuer::KEYS,
        "targets" => Target::KEYS,
        "clients" => Client::KEYS,
        _ => return None,
    })
}
