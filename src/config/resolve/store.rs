//! `[store]` and `[revocation]`.

use super::{Reader, is_loopback_name};
use crate::config::file;
use crate::config::raw::{Field, Section};
use crate::config::{RedisSettings, Store};
use crate::domain::Lifetime;
use crate::store::{Durability, Mode};
use std::ops::Range;
use std::path::PathBuf;
use url::Url;

/// The most replicas that may have to confirm.
const MOST_REPLICAS: u32 = 8;

impl Reader<'_> {
    pub(super) fn store(&mut self, section: &Section<file::Store>, revocation: &file::Revocation) -> Option<Store> {
        let (keys, place) = (&section.keys, &section.place);
        let kind = keys.kind.required("store.kind", "write `embedded` or `redis`", place, self.problems).cloned();
        let path = self.required_path(&keys.path, "store.path", "name a directory, e.g. \"data\"", place);
        let max_staleness = self.parsed_or(&revocation.max_staleness, "revocation.max_staleness", Lifetime::new(5)?);
        if max_staleness.is_some_and(|most| !(1..=60).contains(&most.seconds())) {
            let message = "`revocation.max_staleness` is not between `1s` and `60s`; for as long as this a revoked token may be accepted";
            self.problem(revocation.max_staleness.place().unwrap_or(0..0), message);
        }
        let kind_place = keys.kind.place().unwrap_or(0..0);
        let redis = match (kind.as_deref()?, keys.redis.given) {
            ("embedded", false) => None,
            ("embedded", true) => {
                self.problem(keys.redis.place.clone(), "`[store.redis]` is for `kind = \"redis\"`; leave it out");
                return None;
            }
            ("redis", true) => Some(self.redis(&keys.redis)?),
            ("redis", false) => {
                self.problem(
                    kind_place,
                    "`store.kind` is `redis`, and there is no `[store.redis]`; add it, with its `urls`",
                );
                return None;
            }
            (other, _) => {
                self.problem(kind_place, format!("`store.kind`: `{other}` is not known; use `embedded` or `redis`"));
                return None;
            }
        };
        Some(Store { path: path?, redis, max_staleness: max_staleness? })
    }

    fn redis(&mut self, section: &Section<file::Redis>) -> Option<RedisSettings> {
        let (keys, place) = (&section.keys, &section.place);
        let mode = self.redis_mode(keys);
        let hint = "write where the servers are, e.g. [\"rediss://redis.example:6379\"]";
        let urls = keys.urls.required("store.redis.urls", hint, place, self.problems).cloned();
        let plaintext = keys.allow_plaintext.optional("store.redis.allow_plaintext", self.problems) == Some(&true);
        let urls = urls.filter(|urls| {
            let place = keys.urls.place().unwrap_or(0..0);
            self.are_urls(urls, mode.as_ref(), plaintext, &place)
        });
        let username = keys.username.place().map(|_| self.text(&keys.username, "store.redis.username"));
        let password = self.optional_path(&keys.password_file, "store.redis.password_file");
        let prefix = match keys.key_prefix.place() {
            None => Some("countersign:".to_owned()),
            Some(_) => self.text(&keys.key_prefix, "store.redis.key_prefix"),
        };
        if prefix.as_ref().is_some_and(|prefix| prefix.len() > 64 || prefix.contains(['{', '}'])) {
            let message = "`store.redis.key_prefix` is longer than 64 bytes, or has braces, by which a cluster spreads keys; choose another one";
            self.problem(keys.key_prefix.place().unwrap_or(0..0), message);
        }
        let durability = self.durability(&keys.durability);
        let replicas = self.number(&keys.replicas, "store.redis.replicas", 0, 0..=MOST_REPLICAS);
        if durability == Some(Durability::Strict)
            && mode.as_ref().is_some_and(|mode| *mode != Mode::Standalone)
            && keys.replicas.place().is_none()
        {
            let message = "`store.redis.replicas` is missing: under `durability = \"strict\"` it says how many replicas confirm what is written; write how many each server has";
            self.problem(place.clone(), message);
        }
        let timeout = self.parsed_or(&keys.timeout, "store.redis.timeout", Lifetime::new(1)?);
        if timeout.is_some_and(|timeout| timeout.seconds() > 10) {
            let message =
                "`store.redis.timeout` is longer than ten seconds, and callers would wait as long; make it shorter";
            self.problem(keys.timeout.place().unwrap_or(0..0), message);
        }
        let connections = self.number(&keys.connections, "store.redis.connections", 2, 1..=64);
        let ca = self.optional_path(&keys.ca_file, "store.redis.ca_file");
        let certificate = self.optional_path(&keys.certificate, "store.redis.certificate");
        let key = self.optional_path(&keys.key, "store.redis.key");
        if keys.certificate.place().is_some() != keys.key.place().is_some() {
            let message = "`store.redis.certificate` and `store.redis.key` belong together; name both, or neither";
            self.problem(place.clone(), message);
            return None;
        }
        Some(RedisSettings {
            mode: mode?,
            urls: urls?,
            username: username.map_or(Some(None), |username| username.map(Some))?,
            password_file: password?,
            prefix: prefix?,
            durability: durability?,
            replicas: replicas?,
            timeout: timeout?,
            connections: connections?,
            ca_file: ca?,
            certificate: certificate?.zip(key?),
        })
    }

    fn durability(&mut self, field: &Field<String>) -> Option<Durability> {
        let Some(place) = field.place() else { return Some(Durability::Strict) };
        let name = field.optional("store.redis.durability", self.problems)?.clone();
        let known = Durability::ALL.into_iter().find(|durability| durability.name() == name);
        if known.is_none() {
            let message =
                format!("`store.redis.durability`: `{name}` is not known; use `strict`, `persisted` or `memory`");
            self.problem(place, message);
        }
        known
    }

    fn redis_mode(&mut self, keys: &file::Redis) -> Option<Mode> {
        let mode = keys.mode.optional("store.redis.mode", self.problems).cloned();
        let place = || keys.mode.place().or(keys.master.place()).unwrap_or(0..0);
        match (mode.as_deref(), keys.master.place()) {
            (None | Some("standalone"), None) => Some(Mode::Standalone),
            (Some("cluster"), None) => Some(Mode::Cluster),
            (Some("sentinel"), Some(_)) => {
                Some(Mode::Sentinel { master: self.text(&keys.master, "store.redis.master")? })
            }
            (Some("sentinel"), None) => {
                self.problem(
                    place(),
                    "`store.redis.master` is missing: write the name by which the Sentinels know the server",
                );
                None
            }
            (None | Some("standalone" | "cluster"), Some(_)) => {
                self.problem(place(), "`store.redis.master` is for `mode = \"sentinel\"`; leave it out");
                None
            }
            (Some(other), _) => {
                let message =
                    format!("`store.redis.mode`: `{other}` is not known; use `standalone`, `sentinel` or `cluster`");
                self.problem(place(), message);
                None
            }
        }
    }

    fn are_urls(&mut self, urls: &[String], mode: Option<&Mode>, plaintext: bool, place: &Range<usize>) -> bool {
        let fault = |text: &String| {
            let Ok(url) = Url::parse(text) else { return Some("is not a URL") };
            let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
            match url.scheme() {
                _ if !url.username().is_empty() || url.password().is_some() => {
                    Some("carries credentials; use `username` and `password_file`")
                }
                _ if url.host().is_none() || !is_bare => Some("is more or less than a host and a port"),
                "rediss" => None,
                "redis" if plaintext || is_loopback_name(&url) => None,
                "redis" => Some(
                    "has no TLS and is not this machine: who is between could hide revocations; use `rediss://`, or write `allow_plaintext = true` where the network is yours",
                ),
                _ => Some("is neither redis:// nor rediss://"),
            }
        };
        let mut good = true;
        for (url, fault) in urls.iter().filter_map(|url| Some((url, fault(url)?))) {
            self.problem(place.clone(), format!("`store.redis.urls`: `{url}` {fault}"));
            good = false;
        }
        let secure = urls.iter().filter(|url| url.starts_with("rediss:")).count();
        let fault = match (urls.len(), mode) {
            (0, _) => Some("names none; write where the servers are"),
            (2.., Some(Mode::Standalone)) => {
                Some("names several, and `mode` is `standalone`; use `sentinel` or `cluster`, or name one")
            }
            (65.., _) => Some("names more than 64; some of them are enough"),
            (all, _) if secure != 0 && secure != all => {
                Some("has some with TLS and some without; use one of them for all")
            }
            _ => None,
        };
        if let Some(fault) = fault {
            self.problem(place.clone(), format!("`store.redis.urls` {fault}"));
        }
        good && fault.is_none()
    }

    /// A path that may be left out.
    #[expect(clippy::option_option, reason = "the outer one says whether it could be read")]
    fn optional_path(&mut self, field: &crate::config::raw::Field<String>, key: &str) -> Option<Option<PathBuf>> {
        match field.place() {
            None => Some(None),
            Some(_) => self.path(field, key).map(Some),
        }
    }
}
