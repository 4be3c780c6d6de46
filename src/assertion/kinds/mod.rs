//! The kinds of issuer. A kind is a folder with a description, `kind.toml`, and code only for what a description cannot
//! say. Everything else follows from the description: the defaults and checks of an issuer's entry, the order of checks
//! on an assertion, what policy sees, the table of attributes in the docs, and the contract that tests hold it to.

#[path = "github-actions/rules.rs"]
mod github_actions;
#[path = "spiffe/rules.rs"]
mod spiffe;

use super::AssertionError;
use crate::domain::{
    AttributeDeclaration, AttributeRecord, AttributeType, AttributeValue, AttributeValues, ClaimPointer, Lifetime,
    NameTemplate, TokenType,
};
use countersign_verify::jws::Header;
use countersign_verify::key::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

/// The descriptions that are compiled in, with their folders' names.
const DESCRIPTIONS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/kinds.rs"));

#[expect(clippy::expect_used, reason = "the descriptions are compiled in, and a test reads every one")]
static KINDS: LazyLock<Vec<IssuerKind>> = LazyLock::new(|| {
    let kind = |(name, text): &(&'static str, &str)| {
        IssuerKind::read_description(name, text).expect("a kind's description can be read")
    };
    DESCRIPTIONS.iter().map(kind).collect()
});

/// A kind of issuer.
pub struct IssuerKind {
    /// Its name in the configuration, e.g. `github-actions`.
    pub name: &'static str,
    /// The platform and its tokens, for people.
    pub about: String,
    /// The identity under which its issuers sign.
    pub signer: SignerKind,
    /// The hint for a missing `issuer`.
    pub issuer_hint: String,
    /// The hosts of well-known issuers of this kind. Kind `oidc` refuses an issuer at these hosts.
    pub hosts: Vec<String>,
    /// The token types that a request may declare for its assertions.
    pub token_types: Vec<TokenType>,
    /// The accepted values of the header's `typ`, in lower case. It may also be absent.
    pub typ: Vec<String>,
    /// True if an assertion without `kid` is refused.
    pub key_id_required: bool,
    /// The algorithms that an issuer may sign with if its entry names none.
    pub algorithms: Vec<Algorithm>,
    /// The algorithms that an entry may name.
    pub allowed_algorithms: Vec<Algorithm>,
    /// The longest life of an assertion if the entry names none.
    pub max_lifetime: Lifetime,
    /// The longest life that an entry may name.
    pub longest_lifetime: Lifetime,
    /// True if an assertion can be exchanged only once, unless the entry says otherwise.
    pub single_use: bool,
    /// The reason of that default, for people.
    pub single_use_reason: String,
    /// The longest `sub`, in bytes.
    pub subject_bytes: usize,
    /// The template of workload names. The name of the issuer's entry and a colon are put before it.
    pub workload: NameTemplate,
    /// The rules for an entry's `accept`.
    pub accept: AcceptRules,
    /// The attributes that policy sees. Kind `oidc` has none: an entry declares its own.
    pub attributes: Option<Arc<AttributeRecord>>,
    rules: Rules,
}

/// The identity under which an issuer signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignerKind {
    /// Its `iss`, a URL. Its keys are a JWK Set.
    Issuer,
    /// A SPIFFE trust domain, which `sub` names. Its keys are a bundle.
    TrustDomain,
}

/// The rules for the `accept` of an entry.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcceptRules {
    /// Anyone can get such a token: one of these attributes must be named.
    pub one_of: Vec<String>,
    /// Hosts from which anyone can get a token: an issuer there needs some `accept`.
    pub public_hosts: Vec<String>,
    /// The values that are accepted of attributes that the entry does not name.
    pub default: BTreeMap<String, Vec<AttributeValue>>,
}

/// The rules of a kind that a description cannot say.
#[derive(Clone, Copy)]
struct Rules {
    header: fn(&Header) -> Result<(), AssertionError>,
    claims: fn(&str, &mut AttributeValues) -> Result<(), AssertionError>,
}

impl Rules {
    const NONE: Self = Self { header: |_| Ok(()), claims: |_, _| Ok(()) };

    /// The rules in code of the kind of this name. Its description says `rules = true`, so that neither can be lost.
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "github-actions" => Some(Self { claims: github_actions::claims, ..Self::NONE }),
            "spiffe" => Some(Self { header: spiffe::header, claims: spiffe::claims }),
            _ => None,
        }
    }
}

impl IssuerKind {
    /// Every kind, by name.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &KINDS
    }

    /// The names of all kinds, for people: `a`, `b` or `c`.
    #[must_use]
    pub fn names() -> String {
        let names: Vec<_> = Self::all().iter().map(|kind| format!("`{}`", kind.name)).collect();
        match names.split_last() {
            Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
            _ => names.concat(),
        }
    }

    /// Returns true if its issuers sign as a SPIFFE trust domain.
    #[must_use]
    pub fn is_trust_domain(&self) -> bool {
        self.signer == SignerKind::TrustDomain
    }

    /// Checks the members of the header.
    pub(super) fn check_header(&self, header: &Header) -> Result<(), AssertionError> {
        (self.rules.header)(header)
    }

    /// Reads the attributes that `record` declares, and applies the kind's own rules.
    pub(super) fn read(
        &self,
        record: Option<&AttributeRecord>,
        claims: &Map<String, Value>,
        subject: &str,
    ) -> Result<AttributeValues, AssertionError> {
        let mut values = record.map_or(Ok(AttributeValues::new()), |record| record.read(claims))?;
        (self.rules.claims)(subject, &mut values)?;
        Ok(values)
    }

    fn read_description(name: &'static str, text: &str) -> Result<Self, String> {
        let described: Description = toml::from_str(text).map_err(|fault| format!("{name}: {fault}"))?;
        let parsed = |texts: &[String]| -> Result<Vec<Algorithm>, String> {
            texts
                .iter()
                .map(|text| text.parse().map_err(|_| format!("{name}: no algorithm is named `{text}`")))
                .collect()
        };
        let token_type = |text: &String| {
            let urn = format!("urn:ietf:params:oauth:token-type:{text}");
            TokenType::from_str(&urn).map_err(|_| format!("{name}: no token type is named `{text}`"))
        };
        let lifetime = |text: &str| text.parse::<Lifetime>().map_err(|fault| format!("{name}: {fault}"));
        let declared: Result<Vec<_>, String> =
            described.attributes.into_iter().map(|(name, declared)| declared.named(&name)).collect();
        let rules = Rules::of(name);
        if rules.is_some() != described.rules {
            return Err(format!("{name}: `rules` says {}, and the code does not agree", described.rules));
        }
        let attributes = match described.principal {
            None => None,
            Some(principal) => {
                Some(Arc::new(AttributeRecord { name: principal.into(), attributes: declared?, of_kind: true }))
            }
        };
        let workload = described.workload.parse::<NameTemplate>();
        Ok(Self {
            name,
            about: described.about,
            signer: described.signer,
            issuer_hint: described.issuer_hint,
            hosts: described.hosts,
            token_types: described.token_types.iter().map(token_type).collect::<Result<_, _>>()?,
            typ: described.typ.iter().map(|typ| typ.to_ascii_lowercase()).collect(),
            key_id_required: described.key_id_required,
            algorithms: parsed(&described.algorithms)?,
            allowed_algorithms: described
                .allowed_algorithms
                .map_or(Ok(Algorithm::ALL.to_vec()), |names| parsed(&names))?,
            max_lifetime: lifetime(&described.max_lifetime.default)?,
            longest_lifetime: lifetime(&described.max_lifetime.longest)?,
            single_use: described.single_use.default,
            single_use_reason: described.single_use.reason,
            subject_bytes: described.subject_bytes.unwrap_or(1_024),
            workload: workload.map_err(|fault| format!("{name}: {fault}"))?,
            accept: described.accept,
            attributes,
            rules: rules.unwrap_or(Rules::NONE),
        })
    }
}

/// An unknown kind of issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no kind of issuer; use {known}", known = IssuerKind::names())]
pub struct UnknownIssuerKind {
    name: String,
}

impl FromStr for &'static IssuerKind {
    type Err = UnknownIssuerKind;

    fn from_str(name: &str) -> Result<Self, UnknownIssuerKind> {
        IssuerKind::all()
            .iter()
            .find(|kind| kind.name == name)
            .ok_or_else(|| UnknownIssuerKind { name: name.to_owned() })
    }
}

impl fmt::Debug for IssuerKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}

impl PartialEq for IssuerKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A `kind.toml`, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    about: String,
    principal: Option<String>,
    signer: SignerKind,
    #[serde(default)]
    issuer_hint: String,
    #[serde(default)]
    hosts: Vec<String>,
    token_types: Vec<String>,
    typ: Vec<String>,
    #[serde(default)]
    key_id_required: bool,
    /// True if rules in code belong to the kind.
    #[serde(default)]
    rules: bool,
    algorithms: Vec<String>,
    allowed_algorithms: Option<Vec<String>>,
    max_lifetime: Lifetimes,
    single_use: SingleUse,
    subject_bytes: Option<usize>,
    workload: String,
    #[serde(default)]
    accept: AcceptRules,
    #[serde(default)]
    attributes: BTreeMap<String, DescribedAttribute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lifetimes {
    default: String,
    longest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SingleUse {
    default: bool,
    reason: String,
}

/// An attribute of a description. Its claim has its own name, unless `claim` says otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribedAttribute {
    about: String,
    claim: Option<String>,
    #[serde(rename = "type", default)]
    value: AttributeType,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    nullable: bool,
    #[serde(default)]
    stable: bool,
    #[serde(default)]
    outsider: bool,
    /// True if the kind's own rules give the value.
    #[serde(default)]
    rule: bool,
}

impl DescribedAttribute {
    fn named(self, name: &str) -> Result<AttributeDeclaration, String> {
        let Self { about, claim, value, required, nullable, stable, outsider, rule } = self;
        let claim = match claim {
            Some(pointer) => pointer.parse().map_err(|fault| format!("`{name}`: {fault}"))?,
            None => ClaimPointer::to_claim(name),
        };
        let claim = Some(claim).filter(|_| !rule);
        Ok(AttributeDeclaration { name: name.into(), claim, value, required, nullable, stable, outsider, about })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_description_can_be_read_and_names_only_what_it_declares() {
        for (name, text) in DESCRIPTIONS {
            let kind = IssuerKind::read_description(name, text).unwrap();
            let declared =
                |attribute: &str| kind.attributes.as_ref().is_some_and(|record| record.attribute(attribute).is_some());
            let named = kind.accept.one_of.iter().chain(kind.accept.default.keys());
            let of_name = kind.workload.claims().filter(|claim| *claim != "sub");
            for attribute in named.map(String::as_str).chain(of_name) {
                assert!(declared(attribute), "{name}: `{attribute}`");
            }
            assert!(kind.algorithms.iter().all(|algorithm| kind.allowed_algorithms.contains(algorithm)), "{name}");
            assert!(kind.max_lifetime <= kind.longest_lifetime, "{name}");
        }
        assert_eq!(IssuerKind::all().len(), DESCRIPTIONS.len());
    }
}
