//! From what is written to what is meant: every rule that a configuration has to keep, each with what to do when it is
//! broken. Here are the ways to read one key, and the rules between entries; a file a section has the others.

mod accept;
mod issuer;
mod server;
mod store;
mod target;

use super::file;
use super::raw::Field;
use super::{ClientEntry, ClientMethod, Config, IssuerEntry, Problems, SigningSettings, TargetEntry, TaskSettings};
use crate::assertion::IssuerKind;
use countersign_verify::key::Algorithm;
use std::collections::HashSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use toml::Spanned;
use url::Url;

/// Limit of rotations that the longest-lived token may outlive: each leaves a key of each algorithm at `/jwks`.
const MOST_ROTATIONS: i64 = 16;

pub(super) fn resolve(file: &file::File, directory: &Path, problems: &mut Problems) -> Option<Config> {
    let mut reader = Reader { directory, problems };
    let server = reader.server(&file.server);
    let limits = reader.limits(&file.server.keys.limits.keys);
    let store = reader.store(&file.store, &file.revocation.keys);
    let signing = reader.signing(&file.signing);
    let audit = reader.audit(&file.audit);
    let policies = reader.required_path(
        &file.policy.keys.directory,
        "policy.directory",
        "name the directory of your `*.cedar` files, e.g. \"policies\"",
        &file.policy.place,
    );
    let tasks = file.tasks.given.then(|| reader.tasks(&file.tasks.keys));
    let refresh = reader.refresh(&file.keys.keys);
    let telemetry = reader.telemetry(&file.telemetry);
    let algorithm = signing.as_ref().map_or(Algorithm::Es256, |signing| signing.algorithm);
    let issuers = entries(&file.issuers, |entry| &entry.name, |entry, place| reader.issuer(entry, place));
    let targets =
        entries(&file.targets, |entry| &entry.audience, |entry, place| reader.target(entry, place, algorithm));
    let clients = entries(&file.clients, |entry| &entry.id, |entry, place| reader.client(entry, place));
    let us = server.as_ref().map(|server| server.issuer.as_str());
    reader.across(us, &issuers, &targets, &clients);
    if let Some(signing) = &signing {
        let tasks = tasks.as_ref().and_then(Option::as_ref);
        reader.keys_at_once(signing, tasks, &targets, file.signing.keys.rotate_every.place().unwrap_or(0..0));
    }
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
        signing: signing?,
        audit: audit?,
        policies: policies?,
        tasks: tasks.map_or(Some(None), |tasks| tasks.map(Some))?,
        refresh: refresh?,
        telemetry: telemetry?,
        issuers: issuers.into_iter().map(|(_, issuer)| issuer).collect(),
        targets: targets.into_iter().map(|(_, target)| target).collect(),
        clients: clients.into_iter().map(|(_, client)| client).collect(),
    })
}

/// The entries that could be read, each with the place of the key that names it.
fn entries<W, E>(
    written: &[Spanned<W>],
    name: impl Fn(&W) -> &Field<String>,
    mut read: impl FnMut(&W, &Range<usize>) -> Option<E>,
) -> Vec<(Range<usize>, E)> {
    let entry = |written: &Spanned<W>| {
        let place = name(written.get_ref()).place().unwrap_or_else(|| written.span());
        Some((place, read(written.get_ref(), &written.span())?))
    };
    written.iter().filter_map(entry).collect()
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

    fn number<T: Copy + PartialOrd + Display>(
        &mut self,
        field: &Field<T>,
        key: &str,
        default: T,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let Some(place) = field.place() else { return Some(default) };
        let number = *field.optional(key, self.problems)?;
        if range.contains(&number) {
            return Some(number);
        }
        self.problem(place, format!("`{key}` is {number}; use {} to {}", range.start(), range.end()));
        None
    }

    /// `client`: `required`, or left out.
    fn client_required(&mut self, field: &Field<String>) -> bool {
        match field.optional("client", self.problems).map(String::as_str) {
            None => false,
            Some("required") => true,
            Some(other) => {
                let message = format!("`client`: `{other}` is not known; write `required`, or leave it out");
                self.problem(field.place().unwrap_or(0..0), message);
                true
            }
        }
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

    /// An issuer identifier: https, no query and no fragment (RFC 8414 §2); plain http to a loopback address only.
    fn issuer_url(
        &mut self,
        field: &Field<String>,
        (key, hint): (&str, &str),
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
            Ok(_) => Some(
                "is not https; plain http is for a literal loopback address whose entry says `allow_private_addresses = true`",
            ),
        };
        match fault {
            None => Some(text),
            Some(fault) => {
                self.problem(field.place().unwrap_or(0..0), format!("`{key}`: `{text}` {fault}"));
                None
            }
        }
    }

    /// A key stays until its last token has expired: with tokens that outlive many rotations `/jwks` would outgrow what
    /// verifiers read.
    fn keys_at_once(
        &mut self,
        signing: &SigningSettings,
        tasks: Option<&TaskSettings>,
        targets: &[(Range<usize>, TargetEntry)],
        place: Range<usize>,
    ) {
        let longest = targets
            .iter()
            .map(|(_, entry)| entry.target.max_lifetime)
            .chain(tasks.map(|tasks| tasks.max_deadline))
            .max();
        if longest.is_some_and(|longest| longest.seconds() / signing.rotate_every.seconds() > MOST_ROTATIONS) {
            let message = format!(
                "`signing.rotate_every` is {}, and a token can live for more than {MOST_ROTATIONS} times as long, so that too many keys would be published; rotate less often, or shorten `max_lifetime` or `tasks.max_deadline`",
                signing.rotate_every
            );
            self.problem(place, message);
        }
    }

    /// Rules between entries, each told at the entry's name.
    fn across(
        &mut self,
        us: Option<&str>,
        issuers: &[(Range<usize>, IssuerEntry)],
        targets: &[(Range<usize>, TargetEntry)],
        clients: &[(Range<usize>, ClientEntry)],
    ) {
        let mut seen: HashSet<(&str, String)> = HashSet::new();
        let mut twice = |kind: &'static str, name: &str| !seen.insert((kind, name.to_owned()));
        for (place, issuer) in issuers {
            if twice("name", issuer.name.as_str()) {
                self.problem(place.clone(), format!("two issuers are named `{}`; rename one", issuer.name));
            }
            let iss = issuer.signer.to_string();
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
        self.records_differ(issuers);
        for (place, target) in targets {
            for name in
                std::iter::once(target.target.audience.as_str()).chain(target.resources.iter().map(String::as_str))
            {
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
        self.clients_differ(issuers, targets, clients);
    }
}

impl Reader<'_> {
    /// Refuses clients that could be taken for another one, or for a workload, and names that nothing has.
    fn clients_differ(
        &mut self,
        issuers: &[(Range<usize>, IssuerEntry)],
        targets: &[(Range<usize>, TargetEntry)],
        clients: &[(Range<usize>, ClientEntry)],
    ) {
        let mut seen: HashSet<(&str, String)> = HashSet::new();
        let mut twice = |kind: &'static str, name: &str| !seen.insert((kind, name.to_owned()));
        for (place, client) in clients {
            if twice("client", client.id.as_str()) {
                self.problem(place.clone(), format!("two clients have the id `{}`; rename one", client.id));
            }
            // A token's `client_id` is its workload where nobody authenticated: the two must never be taken for each
            // other.
            let issuer =
                issuers.iter().find(|(_, issuer)| client.id.as_str().starts_with(&format!("{}:", issuer.name)));
            if issuer.is_some() || client.id.as_str().starts_with("spiffe://") {
                self.problem(
                    place.clone(),
                    format!("the client id `{}` could be a workload's name; choose another", client.id),
                );
            }
            if let ClientMethod::Federated { issuer: name, subject } = &client.method {
                if !issuers.iter().any(|(_, issuer)| issuer.name == *name) {
                    let message = format!("`issuer`: no `[[issuers]]` is named `{name}`; add it, or fix the name");
                    self.problem(place.clone(), message);
                }
                if twice("federated", &format!("{name} {subject}")) {
                    let message = format!("two clients are `{subject}` of issuer `{name}`; keep one");
                    self.problem(place.clone(), message);
                }
            }
            for audience in &client.introspects {
                if !targets.iter().any(|(_, entry)| entry.target.audience == *audience) {
                    let message = format!(
                        "`introspects`: `{audience}` is no target's audience; register the target or fix the name"
                    );
                    self.problem(place.clone(), message);
                }
            }
        }
    }

    /// Refuses two entries whose attributes policy would see under one name: `principal.a_b` of `a-b`, or a kind's.
    fn records_differ(&mut self, issuers: &[(Range<usize>, IssuerEntry)]) {
        for (at, (place, issuer)) in issuers.iter().enumerate() {
            let Some(record) = issuer.attributes.as_ref().filter(|record| !record.of_kind) else { continue };
            let same = |(index, (_, other)): &(usize, &(Range<usize>, IssuerEntry))| {
                *index != at && other.attributes.as_ref().is_some_and(|other| other.name == record.name)
            };
            let of_kind =
                |kind: &&IssuerKind| kind.attributes.as_ref().is_some_and(|of_kind| of_kind.name == record.name);
            if let Some(kind) = IssuerKind::all().iter().find(of_kind) {
                let message = format!(
                    "`principal.{}` has the attributes of kind `{}`; use that kind, or rename this entry",
                    record.name, kind.name
                );
                self.problem(place.clone(), message);
                continue;
            }
            if let Some((_, (_, other))) = issuers.iter().enumerate().find(same) {
                let message = format!(
                    "the attributes of `{}` and of `{}` would both be `principal.{}` in policy; rename this entry",
                    issuer.name, other.name, record.name
                );
                self.problem(place.clone(), message);
            }
        }
    }
}

fn is_loopback_http(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(_)) | None => false,
    };
    url.scheme() == "http" && loopback
}

/// Returns true if the host is this machine, whatever the scheme.
fn is_loopback_name(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
