//! The principal: a workload with what its issuer vouched for, typed by the issuer's kind. This is what policy sees,
//! and what the audit log keeps so that a decision can be made again.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// The attributes that the issuer states.
    pub attributes: Attributes,
}

/// The attributes that an issuer states of a workload, typed by its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attributes {
    /// Kind `oidc`: the claims that the issuer's entry maps to tags. Only string claims become tags.
    Oidc(BTreeMap<String, String>),
    /// Kind `github-actions`.
    GitHubActions(Box<GitHub>),
    /// Kind `spiffe`.
    Spiffe {
        /// The trust domain.
        trust_domain: String,
        /// The path, with its leading `/`.
        path: String,
    },
    /// None: a token of ours was presented, which names the workload but not what its issuer stated.
    OwnToken,
}

macro_rules! github {
    ($($(#[$doc:meta])* $claim:ident = $name:literal),* $(,)?) => {
        /// The claims of a GitHub Actions token. All are strings, numeric ids too; one that the token lacks is absent,
        /// and an absent one matches nothing.
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct GitHub {
            $($(#[$doc])* #[serde(rename = $name, skip_serializing_if = "Option::is_none")] pub $claim: Option<String>,)*
        }

        impl GitHub {
            /// Reads the claims; one that is present and no string is named in the error.
            ///
            /// # Errors
            /// The name of the first claim that is not a string.
            pub fn read(members: &serde_json::Map<String, serde_json::Value>) -> Result<Self, &'static str> {
                let text = |name: &'static str| match members.get(name) {
                    None => Ok(None),
                    Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
                    Some(_) => Err(name),
                };
                Ok(Self { $($claim: text($name)?,)* })
            }

            /// The claims that are present, by name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
                [$(($name, self.$claim.as_deref()),)*]
                    .into_iter()
                    .filter_map(|(name, value)| value.map(|value| (name, value)))
            }

            /// The names of all claims that are read.
            pub const CLAIMS: &'static [&'static str] = &[$($name),*];
        }
    };
}

github! {
    /// The user who started the run.
    actor = "actor",
    /// Their id.
    actor_id = "actor_id",
    /// The target branch of a pull request.
    base_ref = "base_ref",
    /// The enterprise's name.
    enterprise = "enterprise",
    /// Its id.
    enterprise_id = "enterprise_id",
    /// The deployment environment of the job.
    environment = "environment",
    /// The event that triggered the run, e.g. `push`.
    event_name = "event_name",
    /// The source branch of a pull request; an outsider can choose it.
    head_ref = "head_ref",
    /// The reusable workflow that the job runs, with its ref.
    job_workflow_ref = "job_workflow_ref",
    /// The commit of that workflow.
    job_workflow_sha = "job_workflow_sha",
    /// The full ref, e.g. `refs/heads/main`.
    git_ref = "ref",
    /// `true` or `false`, as a string.
    ref_protected = "ref_protected",
    /// `branch` or `tag`.
    ref_type = "ref_type",
    /// `OWNER/NAME`; reusable by others after a deletion, so pin the id.
    repository = "repository",
    /// The repository's id.
    repository_id = "repository_id",
    /// The owner's name.
    repository_owner = "repository_owner",
    /// The owner's id.
    repository_owner_id = "repository_owner_id",
    /// `public`, `private` or `internal`.
    repository_visibility = "repository_visibility",
    /// The attempt.
    run_attempt = "run_attempt",
    /// The run's id.
    run_id = "run_id",
    /// The run's number.
    run_number = "run_number",
    /// `github-hosted` or `self-hosted`.
    runner_environment = "runner_environment",
    /// The commit.
    sha = "sha",
    /// The workflow's name.
    workflow = "workflow",
    /// The workflow file with its ref.
    workflow_ref = "workflow_ref",
    /// The commit of the workflow file.
    workflow_sha = "workflow_sha",
}
