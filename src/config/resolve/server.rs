//! `[server]`, `[store]`, `[signing]` and `[keys]`.

use super::Reader;
use crate::config::raw::{self, Field};
use crate::config::{Limits, Refresh, Server, Tls};
use crate::domain::Lifetime;
use std::net::SocketAddr;
use std::path::PathBuf;

impl Reader<'_> {
    pub(super) fn server(&mut self, section: &raw::Section<raw::Server>) -> Option<Server> {
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

    pub(super) fn limits(&mut self, keys: &raw::Limits) -> Option<Limits> {
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

    pub(super) fn store(&mut self, section: &raw::Section<raw::Store>) -> Option<PathBuf> {
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

    pub(super) fn signing(&mut self, section: &raw::Section<raw::Signing>) -> Option<PathBuf> {
        self.signing_algorithm(&section.keys.algorithm, "signing.algorithm");
        self.required_path(
            &section.keys.directory,
            "signing.directory",
            "name a directory, e.g. \"keys\"",
            &section.place,
        )
    }

    pub(super) fn signing_algorithm(&mut self, field: &Field<String>, key: &str) {
        if let Some(other) = field.optional(key, self.problems).filter(|name| *name != "ES256").cloned() {
            let message = format!("`{key}`: signing with `{other}` is not supported by this version; use `ES256`");
            self.problem(field.place().unwrap_or(0..0), message);
        }
    }

    pub(super) fn refresh(&mut self, keys: &raw::Refresh) -> Option<Refresh> {
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
}
