//! A configured issuer: its name, its algorithms, and the workloads that are accepted.

use super::keys::IssuerKeys;
use crate::domain::{IssuerName, Lifetime, NameTemplate, TrustDomain};
use countersign_verify::key::Algorithm;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An issuer, ready to verify.
#[derive(Debug)]
pub struct Issuer {
    /// The operator's name for it.
    pub name: IssuerName,
    /// Its kind.
    pub kind: Kind,
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

/// The differences between kinds of issuer.
#[derive(Debug)]
pub enum Kind {
    /// Any OpenID Connect issuer; see `oidc.rs`.
    Oidc {
        /// Its exact `iss`.
        issuer: String,
        /// Tag name to claim name.
        tags: BTreeMap<String, String>,
    },
    /// GitHub Actions; see `github_actions.rs`.
    GitHubActions {
        /// Its exact `iss`.
        issuer: String,
    },
    /// A SPIFFE trust domain; see `spiffe.rs`.
    Spiffe {
        /// Its name.
        trust_domain: TrustDomain,
    },
}

impl Kind {
    /// The kind's name in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Oidc { .. } => "oidc",
            Self::GitHubActions { .. } => "github-actions",
            Self::Spiffe { .. } => "spiffe",
        }
    }

    /// The signer: the exact `iss`, or the SPIFFE ID of the trust domain.
    #[must_use]
    pub fn signs_as(&self) -> String {
        match self {
            Self::Oidc { issuer, .. } | Self::GitHubActions { issuer } => issuer.clone(),
            Self::Spiffe { trust_domain } => format!("spiffe://{trust_domain}"),
        }
    }
}

/// Claim values that a workload must have: for each name, one of the values. Types are strict: `74` is not `"74"`.
#[derive(Debug, Clone, Default)]
pub struct Accept(BTreeMap<String, Vec<String>>);

impl Accept {
    /// Requires each of `claims` to have one of its values.
    #[must_use]
    pub fn new(claims: BTreeMap<String, Vec<String>>) -> Self {
        Self(claims)
    }

    /// The first claim that does not match, with what is accepted; none when all do.
    pub(super) fn mismatch(&self, claims: &Map<String, Value>) -> Option<(&str, &[String])> {
        let matches = |claim: &str, values: &[String]| {
            claims
                .get(claim)
                .and_then(Value::as_str)
                .is_some_and(|value| values.iter().any(|accepted| accepted == value))
        };
        let (claim, values) = self.0.iter().find(|(claim, values)| !matches(claim, values))?;
        Some((claim, values))
    }

    /// Every accepted claim, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        self.0.iter().map(|(claim, values)| Self::describe_claim(claim, values)).collect::<Vec<_>>().join(", ")
    }

    /// The accepted values of `claim`, for people: `repository_owner_id = "41" or "42"`.
    pub(super) fn describe_claim(claim: &str, values: &[String]) -> String {
        let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
        format!("{claim} = {}", quoted.join(" or "))
    }
}
