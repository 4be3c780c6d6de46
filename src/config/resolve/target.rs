//! `[[targets]]` and `[[clients]]`.

use super::Reader;
use crate::config::raw;
use crate::config::{Client, Target};
use crate::domain::{Audience, Scope, Scopes};
use std::ops::Range;

impl Reader<'_> {
    pub(super) fn target(&mut self, keys: &raw::Target, place: &Range<usize>) -> Option<Target> {
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

    pub(super) fn client(&mut self, keys: &raw::Client, place: &Range<usize>) -> Option<Client> {
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
}

fn secret_digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64 && digits.is_ascii())?;
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    (digest != crate::domain::sha256(&[])).then_some(digest)
}
