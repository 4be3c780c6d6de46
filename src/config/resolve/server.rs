//! `[server]`, `[signing]`, `[tasks]` and `[keys]`.

use super::Reader;
use crate::assertion::Refresh;
use crate::audit::Keeping;
use crate::config::file;
use crate::config::raw::{Field, Section};
use crate::config::{AuditSettings, LimitSettings, Server, SigningSettings, TaskSettings, Telemetry, Tls};
use crate::domain::Lifetime;
use crate::form::FormBounds;
use crate::http::Limits;
use crate::rates::RateLimits;
use countersign_verify::SIGNING_ALGORITHMS;
use countersign_verify::jws::Bounds;
use countersign_verify::key::Algorithm;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use url::Url;

/// Paths that a tenant would hide.
const RESERVED: [&str; 6] = ["token", "introspect", "revoke", "jwks", "reasons", ".well-known"];
/// The longest that a task may last, in seconds.
const LONGEST_TASK: i64 = 30 * 86_400;
/// The shortest time that a key signs, in seconds.
const SHORTEST_ROTATION: i64 = 3_600;

impl Reader<'_> {
    pub(super) fn server(&mut self, section: &Section<file::Server>) -> Option<Server> {
        let (keys, place) = (&section.keys, &section.place);
        let hint = "write the https URL that clients know you by";
        let issuer = self.issuer_url(&keys.issuer, ("server.issuer", hint), place, true);
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
        let tls = if keys.tls.given { Some(self.tls(&keys.tls)?) } else { None };
        if let (Some(listen), None) = (listen, &tls)
            && !listen.ip().is_loopback()
        {
            let message = "`server.listen` is not a loopback address and there is no `[server.tls]`, so tokens would cross the \
                 network readable; add `[server.tls]`, or listen on loopback behind a proxy that ends TLS";
            self.problem(keys.listen.place().unwrap_or(0..0), message);
        }
        if let (Some(listen), Some(management)) = (listen, management)
            && listen == management
            && listen.port() != 0
        {
            self.problem(
                keys.management.place().unwrap_or(0..0),
                "`server.management` is the public listener; use another port",
            );
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.number(&keys.workers, "server.workers", cores, 1..=256);
        let drain = self.parsed_or(&keys.drain, "server.drain", Lifetime::new(10)?);
        let tenant = self.text(&keys.tenant, "server.tenant");
        let segment = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if tenant.as_deref().is_some_and(|tenant| !segment(tenant) || RESERVED.contains(&tenant)) {
            let message = "`server.tenant` is not one path segment of letters, digits, `-`, `_` and `.`, or it is one of our own paths";
            self.problem(keys.tenant.place().unwrap_or(0..0), message);
        }
        let trusted_proxies = self.trusted_proxies(&keys.trusted_proxies);
        Some(Server {
            issuer: issuer?,
            listen: listen?,
            management,
            control: control?,
            tls,
            workers: workers?,
            drain: drain?,
            tenant,
            trusted_proxies: trusted_proxies?,
        })
    }

    fn tls(&mut self, section: &Section<file::Tls>) -> Option<Tls> {
        let (keys, place) = (&section.keys, &section.place);
        let hint = "name the PEM file of the chain";
        let certificate = self.required_path(&keys.certificate, "server.tls.certificate", hint, place);
        let key = self.required_path(&keys.key, "server.tls.key", "name the PEM file of the private key", place);
        Some(Tls { certificate: certificate?, key: key? })
    }

    /// Networks, and single addresses as networks of one.
    fn trusted_proxies(&mut self, field: &Field<Vec<String>>) -> Option<Vec<IpNet>> {
        let Some(place) = field.place() else { return Some(Vec::new()) };
        let mut networks = Vec::new();
        for text in field.optional("server.trusted_proxies", self.problems)?.clone() {
            let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            let mapped = |network: &IpNet| matches!(network, IpNet::V6(v6) if v6.network().to_ipv4_mapped().is_some());
            match network {
                Some(network) if mapped(&network) => {
                    let message = format!(
                        "`server.trusted_proxies`: `{text}` is an IPv4 network written as IPv6; write it as IPv4"
                    );
                    self.problem(place.clone(), message);
                }
                Some(network) if network.prefix_len() >= 8 => networks.push(network),
                Some(_) => {
                    let message = format!(
                        "`server.trusted_proxies`: `{text}` is half the world, where every caller could write its own address; name the proxies"
                    );
                    self.problem(place.clone(), message);
                }
                None => {
                    let message = format!(
                        "`server.trusted_proxies`: `{text}` is no network such as \"10.0.0.0/8\" and no address"
                    );
                    self.problem(place.clone(), message);
                }
            }
        }
        Some(networks)
    }

    pub(super) fn limits(&mut self, keys: &file::Limits) -> Option<LimitSettings> {
        let seconds = |count| Lifetime::new(count);
        let body = self.number(&keys.body_bytes, "server.limits.body_bytes", 65_536, 1_024..=1_048_576);
        let head = self.number(&keys.head_bytes, "server.limits.head_bytes", 16_384, 1_024..=98_304);
        let uri = self.number(&keys.uri_bytes, "server.limits.uri_bytes", 2_048, 128..=32_768);
        let token = self.number(&keys.token_bytes, "server.limits.token_bytes", 16_384, 1_024..=65_536);
        let json_depth = self.number(&keys.json_depth, "server.limits.json_depth", 16, 4..=64);
        let parameters = self.number(&keys.parameters, "server.limits.parameters", 64, 8..=1_024);
        let targets = self.number(&keys.targets, "server.limits.targets", 16, 1..=256);
        let head_timeout = self.parsed_or(&keys.head_timeout, "server.limits.head_timeout", seconds(5)?);
        let body_timeout = self.parsed_or(&keys.body_timeout, "server.limits.body_timeout", seconds(5)?);
        // By default long enough that a client that asks every minute keeps its connection.
        let idle_timeout = self.parsed_or(&keys.idle_timeout, "server.limits.idle_timeout", seconds(65)?);
        let in_flight = self.number(&keys.in_flight, "server.limits.in_flight", 512, 1..=65_536);
        let of_one = self.number(
            &keys.in_flight_per_network,
            "server.limits.in_flight_per_network",
            128.min(in_flight.unwrap_or(128)),
            1..=65_536,
        );
        let mut rate = |field, key, default| self.number(field, key, default, 0..=1_000_000).map(NonZeroU32::new);
        let per_network = rate(&keys.requests_per_network, "server.limits.requests_per_network", 2_000);
        let per_workload = rate(&keys.requests_per_workload, "server.limits.requests_per_workload", 500);
        let per_issuer = rate(&keys.requests_per_issuer, "server.limits.requests_per_issuer", 5_000);
        let connections = self.number(&keys.connections, "server.limits.connections", 4_096, 1..=1_000_000);
        let of_one_connected =
            self.number(&keys.connections_per_network, "server.limits.connections_per_network", 512, 1..=1_000_000);
        if let (Some(token), Some(body)) = (token, body)
            && token > body
            && keys.token_bytes.place().is_some()
        {
            let message = "`server.limits.token_bytes` is more than `server.limits.body_bytes`, so no such assertion could arrive";
            self.problem(keys.token_bytes.place().unwrap_or(0..0), message);
        }
        Some(LimitSettings {
            http: Limits {
                body: body?,
                head: head?,
                uri: uri?,
                form: FormBounds { parameters: parameters?, targets: targets? },
                head_timeout: head_timeout?,
                body_timeout: body_timeout?,
                idle: idle_timeout?,
                in_flight: in_flight?,
                in_flight_per_network: of_one?,
                connections: connections?,
                connections_per_network: of_one_connected?,
            },
            assertion: Bounds { token_bytes: token?, json_depth: json_depth? },
            rates: RateLimits { network: per_network?, workload: per_workload?, issuer: per_issuer? },
        })
    }

    pub(super) fn signing(&mut self, section: &Section<file::Signing>) -> Option<SigningSettings> {
        let keys = &section.keys;
        let algorithm = self.signing_algorithm(&keys.algorithm, "signing.algorithm", Algorithm::Es256);
        let rotate_every = self.parsed_or(&keys.rotate_every, "signing.rotate_every", Lifetime::new(30 * 86_400)?);
        if rotate_every.is_some_and(|every| every.seconds() < SHORTEST_ROTATION) {
            let message = "`signing.rotate_every` is shorter than an hour, and a key is published for six minutes before it signs; make it longer";
            self.problem(keys.rotate_every.place().unwrap_or(0..0), message);
        }
        let hint = "name a directory, e.g. \"keys\"";
        let directory = self.required_path(&keys.directory, "signing.directory", hint, &section.place);
        Some(SigningSettings { directory: directory?, algorithm: algorithm?, rotate_every: rotate_every? })
    }

    pub(super) fn signing_algorithm(
        &mut self,
        field: &Field<String>,
        key: &str,
        default: Algorithm,
    ) -> Option<Algorithm> {
        let Some(place) = field.place() else { return Some(default) };
        let name = field.optional(key, self.problems)?.clone();
        match name.parse() {
            Ok(algorithm) if SIGNING_ALGORITHMS.contains(&algorithm) => Some(algorithm),
            _ => {
                let known = SIGNING_ALGORITHMS.map(Algorithm::name).join(", ");
                self.problem(place, format!("`{key}`: tokens are not signed with `{name}`; use one of {known}"));
                None
            }
        }
    }

    pub(super) fn audit(&mut self, section: &Section<file::Audit>) -> Option<AuditSettings> {
        let keys = &section.keys;
        let hint = "name a directory, e.g. \"data/audit\"";
        let path = self.required_path(&keys.path, "audit.path", hint, &section.place);
        let most = 1 << 40;
        let segment = self.number(&keys.segment_bytes, "audit.segment_bytes", 64 << 20, 1 << 16..=most);
        let retention = self.parsed_or(&keys.retention, "audit.retention", Lifetime::new(400 * 86_400)?);
        let refusals = self.number(&keys.refusals_per_second, "audit.refusals_per_second", 100, 0..=1_000_000);
        let reserve = self.number(&keys.reserve_bytes, "audit.reserve_bytes", 64 << 20, 0..=most);
        let (segment, retention) = (segment?, Some(retention?));
        let keeping = Keeping { segment, retention, refusals: refusals?, reserve: reserve? };
        Some(AuditSettings { path: path?, keeping })
    }

    /// None where nothing is exported; the outer one where something is wrong.
    pub(super) fn telemetry(&mut self, section: &Section<file::Telemetry>) -> Option<Option<Telemetry>> {
        let keys = &section.keys;
        let sample = self.number(&keys.sample, "telemetry.sample", 1.0, 0.0..=1.0);
        let Some(place) = keys.otlp_endpoint.place() else { return sample.map(|_| None) };
        let endpoint = keys.otlp_endpoint.optional("telemetry.otlp_endpoint", self.problems)?.clone();
        let url = Url::parse(&endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_none_or(|url| !url.username().is_empty() || url.password().is_some() || url.query().is_some()) {
            let message = format!(
                "`telemetry.otlp_endpoint`: `{endpoint}` is no http or https URL without credentials and query"
            );
            self.problem(place, message);
            return None;
        }
        Some(Some(Telemetry { endpoint, sample: sample? }))
    }

    pub(super) fn refresh(&mut self, keys: &file::Refresh) -> Option<Refresh> {
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

    pub(super) fn tasks(&mut self, keys: &file::Tasks) -> Option<TaskSettings> {
        let max_deadline = self.parsed_or(&keys.max_deadline, "tasks.max_deadline", Lifetime::new(6 * 3_600)?)?;
        let idle = self.parsed_or(&keys.idle, "tasks.idle", Lifetime::new(3_600)?);
        if max_deadline.seconds() > LONGEST_TASK {
            let message =
                "`tasks.max_deadline` is longer than 30 days, and its token would be a static key; make it shorter";
            self.problem(keys.max_deadline.place().unwrap_or(0..0), message);
        }
        Some(TaskSettings { max_deadline, idle: idle? })
    }
}
