//! A configured issuer: its name, its algorithms, and the workloads that are accepted.

use super::keys::IssuerKeys;
use super::kinds::IssuerKind;
use crate::domain::{
    AttributeRecord, AttributeType, AttributeValue, ClaimPointer, IssuerName, Lifetime, NameTemplate, TrustDomain,
};
use countersign_verify::key::Algorithm;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// An issuer, ready to verify.
#[derive(Debug)]
pub struct Issuer {
    /// The operator's name for it.
    pub name: IssuerName,
    /// Its kind.
    pub kind: &'static IssuerKind,
    /// The identity under which it signs.
    pub signer: SignsAs,
    /// The attributes that policy sees of its workloads: the kind's, or those that the entry declares.
    pub attributes: Option<Arc<AttributeRecord>>,
    /// The accepted values of `aud`.
    pub audiences: Vec<String>,
    /// Which of its workloads are accepted.
    pub accept: Accept,
    /// Algorithms that it may sign with.
    pub algorithms: Vec<Algorithm>,
    /// The longest life of its assertions.
    pub max_lifetime: Lifetime,
    /// True if an assertion can be exchanged only once.
    pub single_use: bool,
    /// True if only an authenticated client may present an assertion.
    pub client_required: bool,
    /// The template of workload names, if it is not the kind's own.
    pub workload: Option<NameTemplate>,
    /// The owner of the issuer, for policy and people.
    pub owner: Option<String>,
    /// The environment of the issuer, for policy and people.
    pub environment: Option<String>,
    /// Its public keys.
    pub keys: Arc<IssuerKeys>,
}

/// The identity under which an issuer signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignsAs {
    /// Its exact `iss`.
    Issuer(String),
    /// The trust domain that `sub` names.
    TrustDomain(TrustDomain),
}

impl SignsAs {
    /// The identity as text: the `iss`, or the SPIFFE id of the trust domain.
    #[must_use]
    pub fn id(&self) -> Cow<'_, str> {
        match self {
            Self::Issuer(iss) => Cow::Borrowed(iss),
            Self::TrustDomain(name) => Cow::Owned(format!("spiffe://{name}")),
        }
    }
}

impl fmt::Display for SignsAs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.id())
    }
}

/// Claim values that a workload must have. Types are strict: `74` is not `"74"`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Accept(Vec<Accepted>);

/// The accepted values of one claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The name by which the entry's `accept` lists the claim: of an attribute or of a claim, or a JSON pointer.
    pub name: String,
    /// The claim.
    pub claim: ClaimPointer,
    /// Its type, if it is a declared attribute.
    pub value: Option<AttributeType>,
    /// The values, one of which the claim must have, or hold if it is declared as a set.
    pub values: Vec<AttributeValue>,
}

impl Accepted {
    /// Returns true if the claim has, or holds, one of the values.
    fn matches(&self, claims: &Map<String, Value>) -> bool {
        let Ok(Some(claim)) = self.claim.find(claims) else { return false };
        let value = match (self.value, claim) {
            (Some(declared), claim) => declared.read(claim),
            (None, Value::String(_)) => AttributeType::String.read(claim),
            (None, Value::Number(_)) => AttributeType::Integer.read(claim),
            (None, Value::Bool(_)) => AttributeType::Boolean.read(claim),
            (None, Value::Array(_) | Value::Null | Value::Object(_)) => None,
        };
        value.is_some_and(|value| self.values.iter().any(|accepted| value.matches(accepted)))
    }

    /// The claim as it was presented, for people.
    pub(super) fn presented(&self, claims: &Map<String, Value>) -> Cow<'static, str> {
        let found = self.claim.find(claims).ok().flatten();
        format!("{} = {}", self.name, found.map_or_else(|| "absent".to_owned(), Value::to_string)).into()
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        write!(out, "{} = {}", self.name, values.join(" or "))
    }
}

impl Accept {
    /// Requires each of `claims` to have one of its values.
    #[must_use]
    pub fn new(claims: Vec<Accepted>) -> Self {
        Self(claims)
    }

    /// The accepted claims.
    pub fn iter(&self) -> impl Iterator<Item = &Accepted> {
        self.0.iter()
    }

    /// The first claim that does not match; none when all do.
    pub(super) fn mismatch(&self, claims: &Map<String, Value>) -> Option<&Accepted> {
        self.0.iter().find(|accepted| !accepted.matches(claims))
    }

    /// Every accepted claim, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}
