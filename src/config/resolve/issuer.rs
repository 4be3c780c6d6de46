//! `[[issuers]]`: whom to trust, and for whom. Nothing here has a default that grants trust.

use super::Reader;
use crate::config::file;
use crate::config::raw::Field;
use crate::config::{Issuer, IssuerKind, KeyPlace};
use crate::domain::{GitHub, Lifetime};
use countersign_verify::key::Algorithm;
use std::collections::BTreeMap;
use std::ops::Range;
use url::Url;

/// Issuers from which anyone can get a token. A kind `oidc` entry for one of them has to say whose it accepts.
const PUBLIC_HOSTS: [&str; 10] = [
    "token.actions.githubusercontent.com",
    "gitlab.com",
    "accounts.google.com",
    "oidc.circleci.com",
    "agent.buildkite.com",
    "app.terraform.io",
    "oidc.vercel.com",
    "oidc.fly.io",
    "login.microsoftonline.com",
    "sts.windows.net",
];

/// Claims of GitHub that name who owns the repository and that nobody can take over; names can be reused by others.
const GITHUB_OWNERS: [&str; 3] = ["repository_id", "repository_owner_id", "enterprise_id"];

/// Events that only those start who may write to the repository. `pull_request_target`, `workflow_run` and
/// `issue_comment` run for strangers with a `sub` of the main branch; they are accepted where the entry names them.
const GITHUB_EVENTS: [&str; 8] =
    ["push", "workflow_dispatch", "repository_dispatch", "schedule", "release", "deployment", "merge_group", "create"];

impl Reader<'_> {
    pub(super) fn issuer(&mut self, keys: &file::Issuer, place: &Range<usize>) -> Option<Issuer> {
        let name = self.required_parsed(
            &keys.name,
            "name",
            "give the issuer a short name; its workloads' names begin with it",
            place,
        );
        let private =
            keys.allow_private_addresses.optional("allow_private_addresses", self.problems).copied().unwrap_or(false);
        let kind_name =
            keys.kind.required("kind", "write `oidc`, `github-actions` or `spiffe`", place, self.problems).cloned();
        let mut accept = keys.accept.optional("accept", self.problems).cloned().unwrap_or_default();
        let kind = match kind_name.as_deref() {
            Some("oidc") => self.oidc(keys, place, private),
            Some("github-actions") => self.github_actions(keys, place, private),
            Some("spiffe") => self.spiffe(keys, place),
            Some(other) => {
                let message =
                    format!("`kind`: `{other}` is no kind of issuer; use `oidc`, `github-actions` or `spiffe`");
                self.problem(keys.kind.place().unwrap_or(0..0), message);
                None
            }
            None => None,
        };
        if let Some(kind) = &kind {
            self.accept(kind, &accept, keys, place);
            if matches!(kind, IssuerKind::GitHubActions { .. }) {
                accept.entry("event_name".to_owned()).or_insert_with(|| GITHUB_EVENTS.map(str::to_owned).to_vec());
            }
        }
        let audiences =
            keys.audiences.required("audiences", "name what the assertion's `aud` must be: us", place, self.problems);
        let audiences = audiences.cloned().unwrap_or_default();
        if keys.audiences.place().is_some() && (audiences.is_empty() || audiences.iter().any(String::is_empty)) {
            self.problem(
                keys.audiences.place().unwrap_or(0..0),
                "`audiences` is empty or has an empty name; name what `aud` must be",
            );
        }
        let algorithms = self.algorithms(keys, kind.as_ref());
        let max_lifetime = self.parsed_or(&keys.max_lifetime, "max_lifetime", Lifetime::new(3_600)?);
        let single_use = keys.single_use.optional("single_use", self.problems).copied();
        let ca_file = self.path(&keys.ca_file, "ca_file");
        let workload = self.parsed(&keys.workload, "workload");
        let client_required = self.client_required(&keys.client);
        if let (Some(place), Some(_)) = (keys.ca_file.place(), keys.jwks_file.place()) {
            self.problem(place, "`ca_file` is for keys that are fetched, and `jwks_file` pins them; leave one out");
        }
        let (owner, environment) = (self.text(&keys.owner, "owner"), self.text(&keys.environment, "environment"));
        let kind = kind?;
        Some(Issuer {
            name: name?,
            single_use: single_use.unwrap_or(!matches!(kind, IssuerKind::Spiffe { .. })),
            kind,
            audiences,
            accept,
            algorithms,
            max_lifetime: max_lifetime?,
            workload,
            client_required,
            allow_private_addresses: private,
            ca_file,
            owner,
            environment,
        })
    }

    pub(super) fn oidc(&mut self, keys: &file::Issuer, place: &Range<usize>, private: bool) -> Option<IssuerKind> {
        self.refuse(&[(&keys.trust_domain, "trust_domain"), (&keys.bundle_file, "bundle_file")], "oidc");
        let issuer = self.issuer_url(&keys.issuer, "issuer", "write the exact `iss` of its tokens", place, private);
        let tags = keys.tags.optional("tags", self.problems).cloned().unwrap_or_default();
        let key_place = self.key_place(keys, private);
        Some(IssuerKind::Oidc { issuer: issuer?, keys: key_place?, tags })
    }

    pub(super) fn github_actions(
        &mut self,
        keys: &file::Issuer,
        place: &Range<usize>,
        private: bool,
    ) -> Option<IssuerKind> {
        self.refuse(&[(&keys.trust_domain, "trust_domain"), (&keys.bundle_file, "bundle_file")], "github-actions");
        if let Some(place) = keys.tags.place() {
            self.problem(place, "`tags` is for kind `oidc`; this kind's claims are typed: use `principal.github`");
        }
        let issuer = self.issuer_url(
            &keys.issuer,
            "issuer",
            "for github.com write `https://token.actions.githubusercontent.com`",
            place,
            private,
        );
        let key_place = self.key_place(keys, private);
        Some(IssuerKind::GitHubActions { issuer: issuer?, keys: key_place? })
    }

    pub(super) fn spiffe(&mut self, keys: &file::Issuer, place: &Range<usize>) -> Option<IssuerKind> {
        self.refuse(
            &[
                (&keys.issuer, "issuer"),
                (&keys.jwks_file, "jwks_file"),
                (&keys.jwks_uri, "jwks_uri"),
                (&keys.ca_file, "ca_file"),
                (&keys.workload, "workload"),
            ],
            "spiffe",
        );
        for place in
            [keys.tags.place(), keys.accept.place(), keys.allow_private_addresses.place()].into_iter().flatten()
        {
            self.problem(place, "`tags`, `accept` and `allow_private_addresses` are not for kind `spiffe`; the bundle says whom to trust");
        }
        let trust_domain = self.required_parsed(
            &keys.trust_domain,
            "trust_domain",
            "write its name, e.g. \"prod.acme.example\"",
            place,
        );
        let bundle_file = self.required_path(&keys.bundle_file, "bundle_file", "name the trust domain's bundle", place);
        Some(IssuerKind::Spiffe { trust_domain: trust_domain?, bundle_file: bundle_file? })
    }

    pub(super) fn refuse(&mut self, fields: &[(&Field<String>, &str)], kind: &str) {
        for (field, key) in fields {
            if let Some(place) = field.place() {
                self.problem(place, format!("`{key}` is not for kind `{kind}`; leave it out"));
            }
        }
    }

    pub(super) fn key_place(&mut self, keys: &file::Issuer, private: bool) -> Option<KeyPlace> {
        if let (Some(place), Some(_)) = (keys.jwks_uri.place(), keys.jwks_file.place()) {
            self.problem(place, "`jwks_uri` and `jwks_file` both say where the keys are; keep one");
            return None;
        }
        if keys.jwks_file.place().is_some() {
            return self.path(&keys.jwks_file, "jwks_file").map(KeyPlace::File);
        }
        if keys.jwks_uri.place().is_some() {
            return self.issuer_url(&keys.jwks_uri, "jwks_uri", "", &(0..0), private).map(KeyPlace::Url);
        }
        Some(KeyPlace::Discovery)
    }

    pub(super) fn algorithms(&mut self, keys: &file::Issuer, kind: Option<&IssuerKind>) -> Vec<Algorithm> {
        let Some(names) = keys.algorithms.optional("algorithms", self.problems).cloned() else {
            return match kind {
                Some(IssuerKind::Oidc { .. }) => vec![Algorithm::Rs256, Algorithm::Es256],
                Some(IssuerKind::GitHubActions { .. }) | None => vec![Algorithm::Rs256],
                Some(IssuerKind::Spiffe { .. }) => jwt_svid_algorithms(),
            };
        };
        let place = keys.algorithms.place().unwrap_or(0..0);
        if names.is_empty() {
            self.problem(
                place.clone(),
                "`algorithms` is empty, so no assertion could be verified; leave it out or name some",
            );
        }
        let mut algorithms = Vec::new();
        for name in names {
            match name.parse() {
                Ok(algorithm)
                    if matches!(kind, Some(IssuerKind::Spiffe { .. }))
                        && !jwt_svid_algorithms().contains(&algorithm) =>
                {
                    self.problem(
                        place.clone(),
                        format!("`algorithms`: a JWT-SVID is never signed with `{name}` (JWT-SVID §2.1)"),
                    );
                }
                Ok(algorithm) => algorithms.push(algorithm),
                Err(_) => {
                    let known = Algorithm::ALL.map(Algorithm::name).join(", ");
                    self.problem(
                        place.clone(),
                        format!("`algorithms`: `{name}` is not supported; use some of {known}"),
                    );
                }
            }
        }
        algorithms
    }

    pub(super) fn accept(
        &mut self,
        kind: &IssuerKind,
        accept: &BTreeMap<String, Vec<String>>,
        keys: &file::Issuer,
        entry: &Range<usize>,
    ) {
        let place = keys.accept.place().unwrap_or_else(|| entry.clone());
        for (claim, values) in accept {
            if values.is_empty() || values.iter().any(String::is_empty) {
                self.problem(
                    place.clone(),
                    format!("`accept`: `{claim}` accepts nothing or an empty value; name the values"),
                );
            }
        }
        match kind {
            IssuerKind::GitHubActions { .. } => {
                for claim in accept.keys().filter(|claim| !GitHub::CLAIMS.contains(&claim.as_str())) {
                    let message = format!(
                        "`accept`: GitHub's tokens have no claim `{claim}`; use some of {}",
                        GitHub::CLAIMS.join(", ")
                    );
                    self.problem(place.clone(), message);
                }
                if !GITHUB_OWNERS.iter().any(|claim| accept.contains_key(*claim)) {
                    let message = "`accept` is missing or names no owner: anyone can get a token from this issuer; name your ids, \
                         e.g. `accept = { repository_owner_id = [\"41\"] }` (`repository_id` and `enterprise_id` do as well; \
                         names do not, others can take them over)";
                    self.problem(place, message);
                }
            }
            IssuerKind::Oidc { issuer, .. } => {
                let host =
                    Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
                if host == "token.actions.githubusercontent.com" {
                    let message = "`kind`: this is GitHub's issuer; use `github-actions`, which knows its claims";
                    self.problem(keys.kind.place().unwrap_or(entry.clone()), message);
                } else if PUBLIC_HOSTS.contains(&host.as_str()) && accept.is_empty() {
                    let message = format!(
                        "`accept` is missing: anyone can get a token from {host}; name claims and values that only yours have"
                    );
                    self.problem(place, message);
                }
            }
            IssuerKind::Spiffe { .. } => {}
        }
    }
}

fn jwt_svid_algorithms() -> Vec<Algorithm> {
    Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::EdDsa).collect()
}
