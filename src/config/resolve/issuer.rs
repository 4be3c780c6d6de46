//! `[[issuers]]`: whom to trust, and for whom. Nothing here has a default that grants trust. The differences between
//! kinds come from their descriptions.

use super::Reader;
use crate::assertion::{IssuerKind, SignerKind, SignsAs};
use crate::config::file;
use crate::config::{IssuerEntry, KeyPlace};
use crate::domain::Lifetime;
use countersign_verify::key::Algorithm;
use std::ops::Range;

impl Reader<'_> {
    pub(super) fn issuer(&mut self, keys: &file::Issuer, place: &Range<usize>) -> Option<IssuerEntry> {
        let name = self.required_parsed(
            &keys.name,
            "name",
            "give the issuer a short name; its workloads' names begin with it",
            place,
        );
        let private =
            keys.allow_private_addresses.optional("allow_private_addresses", self.problems).copied().unwrap_or(false);
        let kind: Option<&'static IssuerKind> =
            self.required_parsed(&keys.kind, "kind", &format!("write {}", IssuerKind::names()), place);
        self.keys_together(keys);
        let audiences = self.audiences(keys, place);
        let workload = self.parsed(&keys.workload, "workload");
        let client_required = self.client_required(&keys.client);
        let ca_file = self.path(&keys.ca_file, "ca_file");
        let single_use = keys.single_use.optional("single_use", self.problems).copied();
        let (owner, environment) = (self.text(&keys.owner, "owner"), self.text(&keys.environment, "environment"));
        let kind = kind?;
        self.keys_of_kind(kind, keys);
        let signer = self.signer(kind, keys, place, private);
        let key_place = self.key_place_of(kind, keys, place, private);
        let attributes = self.attributes(kind, name.as_ref(), keys);
        let accept = self.accept(kind, attributes.as_ref().and_then(Option::as_deref), keys, place);
        if let Some(SignsAs::Issuer(issuer)) = &signer {
            self.known_host(kind, issuer, keys, place);
        }
        let algorithms = self.algorithms(kind, keys);
        let max_lifetime = self.assertion_lifetime(kind, keys);
        Some(IssuerEntry {
            name: name?,
            kind,
            signer: signer?,
            keys: key_place?,
            attributes: attributes?,
            audiences,
            accept,
            algorithms,
            max_lifetime: max_lifetime?,
            single_use: single_use.unwrap_or(kind.single_use),
            client_required,
            workload,
            allow_private_addresses: private,
            ca_file,
            owner,
            environment,
        })
    }

    /// Refuses settings of an entry that contradict each other, for every kind of issuer.
    fn keys_together(&mut self, keys: &file::Issuer) {
        if let (Some(place), Some(_)) = (keys.ca_file.place(), keys.jwks_file.place()) {
            self.problem(place, "`ca_file` is for keys that are fetched, and `jwks_file` pins them; leave one out");
        }
    }

    /// Refuses settings that an entry of this kind does not have.
    fn keys_of_kind(&mut self, kind: &IssuerKind, keys: &file::Issuer) {
        let of_issuers = [
            ("issuer", keys.issuer.place()),
            ("jwks_file", keys.jwks_file.place()),
            ("jwks_uri", keys.jwks_uri.place()),
            ("ca_file", keys.ca_file.place()),
            ("workload", keys.workload.place()),
            ("accept", keys.accept.place()),
            ("attributes", keys.attributes.place()),
            ("allow_private_addresses", keys.allow_private_addresses.place()),
        ];
        let of_trust_domains = [("trust_domain", keys.trust_domain.place()), ("bundle_file", keys.bundle_file.place())];
        let others = match kind.signer {
            SignerKind::Issuer => of_trust_domains.to_vec(),
            SignerKind::TrustDomain => of_issuers.to_vec(),
        };
        for (key, place) in others {
            if let Some(place) = place {
                self.problem(place, format!("`{key}` is not for kind `{}`; leave it out", kind.name));
            }
        }
    }

    fn audiences(&mut self, keys: &file::Issuer, place: &Range<usize>) -> Vec<String> {
        let hint = "name what the assertion's `aud` must be: usually the broker's `issuer`";
        let audiences = keys.audiences.required("audiences", hint, place, self.problems).cloned().unwrap_or_default();
        if let Some(place) = keys.audiences.place()
            && (audiences.is_empty() || audiences.iter().any(String::is_empty))
        {
            self.problem(place, "`audiences` is empty or has an empty name; name what `aud` must be");
        }
        audiences
    }

    fn signer(
        &mut self,
        kind: &IssuerKind,
        keys: &file::Issuer,
        place: &Range<usize>,
        private: bool,
    ) -> Option<SignsAs> {
        match kind.signer {
            SignerKind::Issuer => {
                let hint = &kind.issuer_hint;
                self.issuer_url(&keys.issuer, ("issuer", hint), place, private).map(SignsAs::Issuer)
            }
            SignerKind::TrustDomain => {
                let hint = "write its name, e.g. \"prod.acme.example\"";
                self.required_parsed(&keys.trust_domain, "trust_domain", hint, place).map(SignsAs::TrustDomain)
            }
        }
    }

    fn key_place_of(
        &mut self,
        kind: &IssuerKind,
        keys: &file::Issuer,
        place: &Range<usize>,
        private: bool,
    ) -> Option<KeyPlace> {
        match kind.signer {
            SignerKind::Issuer => self.key_place(keys, private),
            SignerKind::TrustDomain => {
                let hint = "name the trust domain's bundle";
                self.required_path(&keys.bundle_file, "bundle_file", hint, place).map(KeyPlace::Bundle)
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
            return self.issuer_url(&keys.jwks_uri, ("jwks_uri", ""), &(0..0), private).map(KeyPlace::Url);
        }
        Some(KeyPlace::Discovery)
    }

    fn algorithms(&mut self, kind: &IssuerKind, keys: &file::Issuer) -> Vec<Algorithm> {
        let Some(names) = keys.algorithms.optional("algorithms", self.problems).cloned() else {
            return kind.algorithms.clone();
        };
        let place = keys.algorithms.place().unwrap_or(0..0);
        if names.is_empty() {
            let message = "`algorithms` is empty, so no assertion could be verified; leave it out or name some";
            self.problem(place.clone(), message);
        }
        let mut algorithms = Vec::new();
        for name in names {
            match name.parse() {
                Ok(algorithm) if kind.allowed_algorithms.contains(&algorithm) => algorithms.push(algorithm),
                _ => {
                    let known = kind.allowed_algorithms.iter().map(|algorithm| algorithm.name());
                    let known = known.collect::<Vec<_>>().join(", ");
                    let message = format!(
                        "`algorithms`: `{name}` is not supported for kind `{}`; use some of {known}",
                        kind.name
                    );
                    self.problem(place.clone(), message);
                }
            }
        }
        algorithms
    }

    fn assertion_lifetime(&mut self, kind: &IssuerKind, keys: &file::Issuer) -> Option<Lifetime> {
        let lifetime = self.parsed_or(&keys.max_lifetime, "max_lifetime", kind.max_lifetime)?;
        if lifetime <= kind.longest_lifetime {
            return Some(lifetime);
        }
        let message = format!(
            "`max_lifetime` is {lifetime}, and assertions of kind `{}` live for at most {}; shorten it",
            kind.name, kind.longest_lifetime
        );
        self.problem(keys.max_lifetime.place().unwrap_or(0..0), message);
        None
    }
}
