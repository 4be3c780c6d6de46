//! `[[targets]]` and `[[clients]]`.

use super::Reader;
use crate::config::file;
use crate::config::{ClientEntry, ClientMethod, KeyPlace, TargetEntry};
use crate::domain::{Audience, Scope, Scopes, Target};
use countersign_verify::key::Algorithm;
use std::ops::Range;

impl Reader<'_> {
    pub(super) fn target(
        &mut self,
        keys: &file::Target,
        place: &Range<usize>,
        default: Algorithm,
    ) -> Option<TargetEntry> {
        let audience: Option<Audience> =
            self.required_parsed(&keys.audience, "audience", "write the `aud` of tokens for this target", place);
        let max_lifetime = self.required_parsed(
            &keys.max_lifetime,
            "max_lifetime",
            "write how long a token for it may live, e.g. \"5m\"",
            place,
        );
        let algorithm = self.signing_algorithm(&keys.algorithm, "algorithm", default);
        let client_required = self.client_required(&keys.client);
        let status_list = keys.status_list.optional("status_list", self.problems).copied().unwrap_or(false);
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
        let target = Target {
            audience: audience?,
            scopes,
            max_lifetime: max_lifetime?,
            algorithm: algorithm?,
            client_required,
            status_list,
            owner,
            environment,
            sensitivity,
        };
        Some(TargetEntry { target, resources })
    }

    pub(super) fn client(&mut self, keys: &file::Client, place: &Range<usize>) -> Option<ClientEntry> {
        let id = self.required_parsed(&keys.id, "id", "name the client", place);
        let method = self.client_method(keys, place);
        let mut introspects = Vec::new();
        for name in keys.introspects.optional("introspects", self.problems).cloned().unwrap_or_default() {
            match name.parse() {
                Ok(audience) => introspects.push(audience),
                Err(fault) => {
                    self.problem(keys.introspects.place().unwrap_or(0..0), format!("`introspects`: `{name}`: {fault}"))
                }
            }
        }
        Some(ClientEntry { id: id?, method: method?, introspects })
    }

    fn client_method(&mut self, keys: &file::Client, place: &Range<usize>) -> Option<ClientMethod> {
        if keys.issuer.place().is_some() || keys.subject.place().is_some() {
            let others = [&keys.method, &keys.secret_digest, &keys.jwks_file, &keys.jwks_uri];
            for place in others.iter().filter_map(|field| field.place()) {
                self.problem(
                    place,
                    "a client with `issuer` and `subject` authenticates by that issuer's assertion; leave this out",
                );
            }
            let issuer =
                self.required_parsed(&keys.issuer, "issuer", "name the `[[issuers]]` entry that vouches for it", place);
            let hint = "write the exact `sub` of its assertions";
            keys.subject.required("subject", hint, place, self.problems)?;
            let subject = self.text(&keys.subject, "subject");
            return Some(ClientMethod::Federated { issuer: issuer?, subject: subject? });
        }
        let hint =
            "write `client_secret_basic`, `client_secret_post` or `private_key_jwt`, or name `issuer` and `subject`";
        let method = keys.method.required("method", hint, place, self.problems)?.clone();
        match method.as_str() {
            "client_secret_basic" => self.secret(keys, place).map(ClientMethod::SecretBasic),
            "client_secret_post" => self.secret(keys, place).map(ClientMethod::SecretPost),
            "private_key_jwt" => {
                if let Some(place) = keys.secret_digest.place() {
                    self.problem(place, "`secret_digest` is not for `private_key_jwt`; leave it out");
                }
                match (keys.jwks_file.place(), keys.jwks_uri.place()) {
                    (Some(_), None) => self.path(&keys.jwks_file, "jwks_file").map(KeyPlace::File),
                    (None, Some(_)) => {
                        self.issuer_url(&keys.jwks_uri, ("jwks_uri", ""), &(0..0), false).map(KeyPlace::Url)
                    }
                    _ => {
                        self.problem(
                            place.clone(),
                            "`private_key_jwt` needs the client's public keys: name `jwks_file` or `jwks_uri`",
                        );
                        None
                    }
                }
                .map(ClientMethod::PrivateKeyJwt)
            }
            other => {
                let message = format!("`method`: `{other}` is not supported; {hint}");
                self.problem(keys.method.place().unwrap_or(0..0), message);
                None
            }
        }
    }

    fn secret(&mut self, keys: &file::Client, place: &Range<usize>) -> Option<[u8; 32]> {
        for (field, key) in [(&keys.jwks_file, "jwks_file"), (&keys.jwks_uri, "jwks_uri")] {
            if let Some(place) = field.place() {
                self.problem(place, format!("`{key}` is for `private_key_jwt`; leave it out"));
            }
        }
        let hint = "write `sha256:` and the SHA-256 of the secret in hexadecimal; `countersign client add` makes both";
        let digest = keys.secret_digest.required("secret_digest", hint, place, self.problems)?.clone();
        let digest = secret_digest(&digest);
        if digest.is_none() {
            let message = "`secret_digest` is not `sha256:` and 64 hexadecimal digits, or it is the digest of an empty secret; \
                 run `countersign client add` for a new one";
            self.problem(keys.secret_digest.place().unwrap_or(0..0), message);
        }
        digest
    }
}

fn secret_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text.strip_prefix("sha256:")?, &mut digest).ok()?;
    (digest != crate::domain::sha256(&[])).then_some(digest)
}
