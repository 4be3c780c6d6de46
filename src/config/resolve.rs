//! From what is written to what is meant: every rule that a configuration has to keep, each with what to do when it is
//! broken.

use super::raw::{self, Field};
use super::{Client, Config, Issuer, IssuerKind, KeyPlace, Limits, Problems, Refresh, Server, Target, Tls};
use crate::domain::{Audience, GitHub, Lifetime, Scope, Scopes};
use countersign_verify::key::Algorithm;
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
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

pub(super) fn resolve(file: &raw::File, directory: &Path, problems: &mut Problems) -> Option<Config> {
    let mut reader = Reader { directory, problems };
    let server = reader.server(&file.server);
    let limits = reader.limits(&file.server.keys.limits.keys);
    let store = reader.store(&file.store);
    let keys = reader.signing(&file.signing);
    let audit = reader.required_path(
        &file.audit.keys.path,
        "audit.path",
        "name a directory, e.g. \"data/audit\"",
        &file.audit.place,
    );
    let policies = reader.required_path(
        &file.policy.keys.directory,
        "policy.directory",
        "name the directory of your `*.cedar` files, e.g. \"policies\"",
        &file.policy.place,
    );
    let refresh = reader.refresh(&file.keys.keys);
    let issuers: Vec<(_, Issuer)> = file
        .issuers
        .iter()
        .filter_map(|entry| {
            Some((place_of(&entry.get_ref().name, entry), reader.issuer(entry.get_ref(), &entry.span())?))
        })
        .collect();
    let targets: Vec<(_, Target)> = file
        .targets
        .iter()
        .filter_map(|entry| {
            Some((place_of(&entry.get_ref().audience, entry), reader.target(entry.get_ref(), &entry.span())?))
        })
        .collect();
    let clients: Vec<(_, Client)> = file
        .clients
        .iter()
        .filter_map(|entry| {
            Some((place_of(&entry.get_ref().id, entry), reader.client(entry.get_ref(), &entry.span())?))
        })
        .collect();
    let us = server.as_ref().map(|server| server.issuer.as_str());
    reader.across(us, &issuers, &targets, &clients);
    if file.issuers.is_empty() {
        reader.problem(0..0, "there is no `[[issuers]]`, so no assertion can be accepted; add one");
    }
    if file.targets.is_empty() {
        reader.problem(0..0, "there is no `[[targets]]`, so no token can be minted; add one");
    }
    Some(Config {
        server: server?,
        limits: limits?,
        store: store?,
        keys: keys?,
        audit: audit?,
        policies: policies?,
        refresh: refresh?,
        issuers: issuers.into_iter().map(|(_, issuer)| issuer).collect(),
        targets: targets.into_iter().map(|(_, target)| target).collect(),
        clients: clients.into_iter().map(|(_, client)| client).collect(),
    })
}

fn place_of<T>(key: &Field<String>, entry: &toml::Spanned<T>) -> Range<usize> {
    key.place().unwrap_or_else(|| entry.span())
}

struct Reader<'a> {
    directory: &'a Path,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn problem(&mut self, place: Range<usize>, message: impl Into<String>) {
        self.problems.add(place, message);
    }

    fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, field: &Field<String>, key: &str) -> Option<T> {
        let text = field.optional(key, self.problems)?.clone();
        match text.parse() {
            Ok(value) => Some(value),
            Err(fault) => {
                self.problem(field.place().unwrap_or(0..0), format!("`{key}`: {fault}"));
                None
            }
        }
    }

    fn required_parsed<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        field: &Field<String>,
        key: &str,
        hint: &str,
        section: &Range<usize>,
    ) -> Option<T> {
        field.required(key, hint, section, self.problems)?;
        self.parsed(field, key)
    }

    /// A key with a default: absent gives it, and a wrong one is a problem and gives nothing.
    fn parsed_or<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        field: &Field<String>,
        key: &str,
        default: T,
    ) -> Option<T> {
        if field.place().is_none() { Some(default) } else { self.parsed(field, key) }
    }

    fn number(&mut self, field: &Field<usize>, key: &str, default: usize, range: Range<usize>) -> Option<usize> {
        let Some(place) = field.place() else { return Some(default) };
        let number = *field.optional(key, self.problems)?;
        if range.contains(&number) {
            return Some(number);
        }
        self.problem(place, format!("`{key}` is {number}; use {} to {}", range.start, range.end - 1));
        None
    }

    fn text(&mut self, field: &Field<String>, key: &str) -> Option<String> {
        let text = field.optional(key, self.problems)?.clone();
        if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
            self.problem(
                field.place().unwrap_or(0..0),
                format!("`{key}` is empty, longer than 1024 bytes or not printable"),
            );
            return None;
        }
        Some(text)
    }

    fn path(&mut self, field: &Field<String>, key: &str) -> Option<PathBuf> {
        self.text(field, key).map(|path| self.directory.join(path))
    }

    fn required_path(
        &mut self,
        field: &Field<String>,
        key: &str,
        hint: &str,
        section: &Range<usize>,
    ) -> Option<PathBuf> {
        field.required(key, hint, section, self.problems)?;
        self.path(field, key)
    }

    fn server(&mut self, section: &raw::Section<raw::Server>) -> Option<Server> {
        let (keys, place) = (&section.keys, &section.place);
        let issuer =
            self.issuer_url(&keys.issuer, "server.issuer", "write the https URL that clients know you by", place, true);
        let listen: Option<SocketAddr> = self.required_parsed(
            &keys.listen,
            "server.listen",
            "write an address and a port, e.g. \"127.0.0.1:8080\"",
            place,
        );
        let management: Option<SocketAddr> = self.parsed(&keys.management, "server.management");
        let control = if keys.control.place().is_some() {
            self.path(&keys.control, "server.control")
        } else {
            Some(self.directory.join("data/control.sock"))
        };
        let tls = if keys.tls.given {
            let (tls, place) = (&keys.tls.keys, &keys.tls.place);
            let certificate =
                self.required_path(&tls.certificate, "server.tls.certificate", "name the PEM file of the chain", place);
            let key = self.required_path(&tls.key, "server.tls.key", "name the PEM file of the private key", place);
            Some(Tls { certificate: certificate?, key: key? })
        } else {
            None
        };
        if let (Some(listen), None) = (listen, &tls)
            && !listen.ip().is_loopback()
        {
            let message = "`server.listen` is not a loopback address and there is no `[server.tls]`, so tokens would cross the \
                 network readable; add `[server.tls]`, or listen on loopback behind a proxy that ends TLS";
            self.problem(keys.listen.place().unwrap_or(0..0), message);
        }
        if let (Some(listen), Some(management)) = (listen, management)
            && listen == management
        {
            self.problem(
                keys.management.place().unwrap_or(0..0),
                "`server.management` is the public listener; use another port",
            );
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.number(&keys.workers, "server.workers", cores, 1..257);
        Some(Server { issuer: issuer?, listen: listen?, management, control: control?, tls, workers: workers? })
    }

    fn limits(&mut self, keys: &raw::Limits) -> Option<Limits> {
        let seconds = |count| Lifetime::new(count);
        let body = self.number(&keys.body_bytes, "server.limits.body_bytes", 65_536, 1_024..1_048_577);
        let head = self.number(&keys.head_bytes, "server.limits.head_bytes", 16_384, 1_024..98_305);
        let uri = self.number(&keys.uri_bytes, "server.limits.uri_bytes", 2_048, 128..32_769);
        let head_timeout = self.parsed_or(&keys.head_timeout, "server.limits.head_timeout", seconds(5)?);
        let body_timeout = self.parsed_or(&keys.body_timeout, "server.limits.body_timeout", seconds(5)?);
        let in_flight = self.number(&keys.in_flight, "server.limits.in_flight", 512, 1..65_537);
        let connections = self.number(&keys.connections, "server.limits.connections", 10_000, 1..1_000_001);
        Some(Limits {
            body: body?,
            head: head?,
            uri: uri?,
            head_timeout: head_timeout?,
            body_timeout: body_timeout?,
            in_flight: in_flight?,
            connections: connections?,
        })
    }

    fn store(&mut self, section: &raw::Section<raw::Store>) -> Option<PathBuf> {
        let keys = &section.keys;
        let kind =
            keys.kind.required("store.kind", "write `kind = \"embedded\"`", &section.place, self.problems).cloned();
        if let Some(other) = kind.as_deref().filter(|kind| *kind != "embedded") {
            let message = format!("`store.kind`: `{other}` is not supported by this version; use `embedded`");
            self.problem(keys.kind.place().unwrap_or(0..0), message);
        }
        let path = self.required_path(&keys.path, "store.path", "name a directory, e.g. \"data\"", &section.place);
        kind.and(path)
    }

    fn signing(&mut self, section: &raw::Section<raw::Signing>) -> Option<PathBuf> {
        self.signing_algorithm(&section.keys.algorithm, "signing.algorithm");
        self.required_path(
            &section.keys.directory,
            "signing.directory",
            "name a directory, e.g. \"keys\"",
            &section.place,
        )
    }

    fn signing_algorithm(&mut self, field: &Field<String>, key: &str) {
        if let Some(other) = field.optional(key, self.problems).filter(|name| *name != "ES256").cloned() {
            let message = format!("`{key}`: signing with `{other}` is not supported by this version; use `ES256`");
            self.problem(field.place().unwrap_or(0..0), message);
        }
    }

    fn refresh(&mut self, keys: &raw::Refresh) -> Option<Refresh> {
        let every = self.parsed_or(&keys.refresh_every, "keys.refresh_every", Lifetime::new(300)?);
        let max_stale = self.parsed_or(&keys.max_stale, "keys.max_stale", Lifetime::new(3_600)?);
        let cooldown = self.parsed_or(&keys.unknown_kid_cooldown, "keys.unknown_kid_cooldown", Lifetime::new(30)?);
        let (every, max_stale) = (every?, max_stale?);
        if max_stale < every {
            let message = "`keys.max_stale` is shorter than `keys.refresh_every`, so keys would lapse between two refreshes; make it longer";
            self.problem(keys.max_stale.place().or(keys.refresh_every.place()).unwrap_or(0..0), message);
        }
        Some(Refresh { every, max_stale, cooldown: cooldown? })
    }

    /// An issuer identifier: https, no query and no fragment (RFC 8414 §2); plain http to a loopback address only.
    fn issuer_url(
        &mut self,
        field: &Field<String>,
        key: &str,
        hint: &str,
        section: &Range<usize>,
        loopback: bool,
    ) -> Option<String> {
        let text = field.required(key, hint, section, self.problems)?.clone();
        let fault = match Url::parse(&text) {
            Err(_) => Some("is not a URL"),
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                Some("has a query or a fragment; leave it out")
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                Some("carries credentials; leave them out")
            }
            Ok(url) if url.scheme() == "https" || (loopback && is_loopback_http(&url)) => None,
            Ok(_) => Some("is not https"),
        };
        match fault {
            None => Some(text),
            Some(fault) => {
                self.problem(field.place().unwrap_or(0..0), format!("`{key}`: `{text}` {fault}"));
                None
            }
        }
    }

    fn issuer(&mut self, keys: &raw::Issuer, place: &Range<usize>) -> Option<Issuer> {
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
        let accept = keys.accept.optional("accept", self.problems).cloned().unwrap_or_default();
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
            allow_private_addresses: private,
            ca_file,
            owner,
            environment,
        })
    }

    fn oidc(&mut self, keys: &raw::Issuer, place: &Range<usize>, private: bool) -> Option<IssuerKind> {
        self.refuse(&[(&keys.trust_domain, "trust_domain"), (&keys.bundle_file, "bundle_file")], "oidc");
        let issuer = self.issuer_url(&keys.issuer, "issuer", "write the exact `iss` of its tokens", place, private);
        let tags = keys.tags.optional("tags", self.problems).cloned().unwrap_or_default();
        let key_place = self.key_place(keys, private);
        Some(IssuerKind::Oidc { issuer: issuer?, keys: key_place?, tags })
    }

    fn github_actions(&mut self, keys: &raw::Issuer, place: &Range<usize>, private: bool) -> Option<IssuerKind> {
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

    fn spiffe(&mut self, keys: &raw::Issuer, place: &Range<usize>) -> Option<IssuerKind> {
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

    fn refuse(&mut self, fields: &[(&Field<String>, &str)], kind: &str) {
        for (field, key) in fields {
            if let Some(place) = field.place() {
                self.problem(place, format!("`{key}` is not for kind `{kind}`; leave it out"));
            }
        }
    }

    fn key_place(&mut self, keys: &raw::Issuer, private: bool) -> Option<KeyPlace> {
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

    fn algorithms(&mut self, keys: &raw::Issuer, kind: Option<&IssuerKind>) -> Vec<Algorithm> {
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

    fn accept(
        &mut self,
        kind: &IssuerKind,
        accept: &BTreeMap<String, Vec<String>>,
        keys: &raw::Issuer,
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

    fn target(&mut self, keys: &raw::Target, place: &Range<usize>) -> Option<Target> {
        let audience: Option<Audience> =
            self.required_parsed(&keys.audience, "audience", "write the `aud` of tokens for this target", place);
        let max_lifetime = self.required_parsed(
            &keys.max_lifetime,
            "max_lifetime",
            "write how long a token for it may live, e.g. \"5m\"",
            place,
        );
        self.signing_algorithm(&keys.algorithm, "algorithm");
        let names = keys.scopes.optional("scopes", self.problems).cloned().unwrap_or_default();
        let mut scopes: Vec<Scope> = Vec::new();
        for name in &names {
            match name.parse() {
                Ok(scope) => scopes.push(scope),
                Err(fault) => self.problem(keys.scopes.place().unwrap_or(0..0), format!("`scopes`: `{name}`: {fault}")),
            }
        }
        if scopes.len() > crate::domain::MAX_SCOPES {
            self.problem(keys.scopes.place().unwrap_or(0..0), "`scopes` names more than 32; split the target");
        }
        let resources = keys.resources.optional("resources", self.problems).cloned().unwrap_or_default();
        for resource in resources.iter().filter(|resource| !crate::domain::is_absolute_uri(resource)) {
            let message = format!("`resources`: `{resource}` is not an absolute URI without a fragment");
            self.problem(keys.resources.place().unwrap_or(0..0), message);
        }
        let (owner, environment) = (self.text(&keys.owner, "owner"), self.text(&keys.environment, "environment"));
        let sensitivity = self.text(&keys.sensitivity, "sensitivity");
        let scopes: Scopes = scopes.into_iter().collect();
        Some(Target {
            audience: audience?,
            resources,
            scopes,
            max_lifetime: max_lifetime?,
            owner,
            environment,
            sensitivity,
        })
    }

    fn client(&mut self, keys: &raw::Client, place: &Range<usize>) -> Option<Client> {
        let id = self.required_parsed(&keys.id, "id", "name the client", place);
        let method = keys.method.required("method", "write `client_secret_basic`", place, self.problems).cloned();
        if let Some(other) = method.as_deref().filter(|method| *method != "client_secret_basic") {
            let message = format!("`method`: `{other}` is not supported by this version; use `client_secret_basic`");
            self.problem(keys.method.place().unwrap_or(0..0), message);
        }
        let digest = keys.secret_digest.required(
            "secret_digest",
            "write `sha256:` and the SHA-256 of the secret in hexadecimal",
            place,
            self.problems,
        );
        let digest = digest.cloned().map(|text| secret_digest(&text));
        if digest == Some(None) {
            let message = "`secret_digest` is not `sha256:` and 64 hexadecimal digits, or it is the digest of an empty secret; \
                 generate a random secret and write its SHA-256";
            self.problem(keys.secret_digest.place().unwrap_or(0..0), message);
        }
        let mut introspects = Vec::new();
        for name in keys.introspects.optional("introspects", self.problems).cloned().unwrap_or_default() {
            match name.parse() {
                Ok(audience) => introspects.push(audience),
                Err(fault) => {
                    self.problem(keys.introspects.place().unwrap_or(0..0), format!("`introspects`: `{name}`: {fault}"))
                }
            }
        }
        Some(Client { id: id?, secret_digest: digest??, introspects })
    }

    /// Rules between entries, each told at the entry's name.
    fn across(
        &mut self,
        us: Option<&str>,
        issuers: &[(Range<usize>, Issuer)],
        targets: &[(Range<usize>, Target)],
        clients: &[(Range<usize>, Client)],
    ) {
        let mut seen: HashSet<(&str, String)> = HashSet::new();
        let mut twice = |kind: &'static str, name: &str| !seen.insert((kind, name.to_owned()));
        for (place, issuer) in issuers {
            if twice("name", issuer.name.as_str()) {
                self.problem(place.clone(), format!("two issuers are named `{}`; rename one", issuer.name));
            }
            let iss = match &issuer.kind {
                IssuerKind::Oidc { issuer, .. } | IssuerKind::GitHubActions { issuer, .. } => issuer.clone(),
                IssuerKind::Spiffe { trust_domain, .. } => format!("spiffe://{trust_domain}"),
            };
            if us == Some(&iss) {
                self.problem(
                    place.clone(),
                    format!("`{iss}` is the broker itself, whose tokens need no entry; remove it"),
                );
            }
            if twice("iss", &iss) {
                let message = format!("two issuers sign as `{iss}`; keep one, so that it is clear whose keys count");
                self.problem(place.clone(), message);
            }
        }
        for (place, target) in targets {
            for name in std::iter::once(target.audience.as_str()).chain(target.resources.iter().map(String::as_str)) {
                if us == Some(name) {
                    let message =
                        format!("`{name}` is the broker itself and cannot be a target; choose another audience");
                    self.problem(place.clone(), message);
                }
                if twice("target", name) {
                    self.problem(place.clone(), format!("`{name}` names two targets; keep one"));
                }
            }
        }
        for (place, client) in clients {
            if twice("client", client.id.as_str()) {
                self.problem(place.clone(), format!("two clients have the id `{}`; rename one", client.id));
            }
            // A token's `client_id` is its workload where nobody authenticated: the two must never be taken for each other.
            let issuer =
                issuers.iter().find(|(_, issuer)| client.id.as_str().starts_with(&format!("{}:", issuer.name)));
            if issuer.is_some() || client.id.as_str().starts_with("spiffe://") {
                self.problem(
                    place.clone(),
                    format!("the client id `{}` could be a workload's name; choose another", client.id),
                );
            }
            for audience in &client.introspects {
                if !targets.iter().any(|(_, target)| target.audience == *audience) {
                    let message = format!(
                        "`introspects`: `{audience}` is no target's audience; register the target or fix the name"
                    );
                    self.problem(place.clone(), message);
                }
            }
        }
    }
}

fn jwt_svid_algorithms() -> Vec<Algorithm> {
    Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::EdDsa).collect()
}

fn is_loopback_http(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(_)) | None => false,
    };
    url.scheme() == "http" && loopback
}

fn secret_digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64 && digits.is_ascii())?;
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    (digest != crate::domain::sha256(&[])).then_some(digest)
}
